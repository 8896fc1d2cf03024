"""Is content used at all? Put other features under a trained model, and look whether its lists change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from mmrec_teach.data import Dataset
from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import DataError, check_choice
from mmrec_teach.evaluation.ranking import Evaluation, evaluate
from mmrec_teach.evaluation.statistics import paired_comparison
from mmrec_teach.models.base import Recommender

CHANGES = ("shuffled", "zero", "random")


def with_features(model: Recommender, data: Dataset, *, item_graphs: str = "new") -> Recommender:
    """Return the trained model as it would answer if the items' content were that of ``data``.

    The model is built again on ``data``, with its own options, and gets the trained parameters. What it derives from features
    when it is built is derived from the new ones; a feature table that was itself trained is a parameter and stays as trained.

    Args:
        model: left as it is.
        data: the same users, items and modalities, with other features, such as ``Switches(features="zero").apply(data)``.
        item_graphs: what becomes of frozen graphs of similar items (LATTICE's S^m, FREEDOM's S), which were made of features
            before training. ``"new"``: they are made of the new features. ``"kept"``: they are part of what was trained, and
            only features that are read when scoring are new.

    Raises:
        OptionError: another value of ``item_graphs``, or what the model says of the data.
        DataError: the parameters do not fit ``data``.
    """
    keep = check_choice("item_graphs", item_graphs, {"new": False, "kept": True})
    if (model.n_users, model.n_items) != (data.n_users, data.n_items):
        raise DataError(
            "the model was trained on other data",
            where=f"data set {data.name!r}",
            found=f"{data.n_users} users and {data.n_items} items",
            expected=f"{model.n_users} and {model.n_items}",
        )
    rebuilt = type(model)(data, **model.options)
    trained, wanted = model.state_dict(), rebuilt.state_dict()
    for name in (*trained, *wanted):
        found, expected = (tuple(s[name].shape) if name in s else "nothing" for s in (wanted, trained))
        if found != expected:
            raise DataError(
                "the trained parameters do not fit these features",
                where=f"{type(model).__name__}.{name}",
                found=f"{found} on data set {data.name!r}",
                expected=f"{expected} as trained: the same modalities of the same widths",
            )
    first = next(model.parameters(), None)
    if first is not None:
        rebuilt.to(first.device, first.dtype)
    rebuilt.load_state_dict(trained)
    rebuilt.generator.set_state(model.generator.get_state())
    rebuilt.train(model.training)
    if keep:
        for name, buffer in model.named_buffers():
            if buffer.layout == torch.sparse_csr and buffer.shape == (data.n_items, data.n_items):
                owner, _, own = name.rpartition(".")
                setattr(rebuilt.get_submodule(owner), own, buffer)
    return rebuilt


def recall_by_user(result: Evaluation, k: int = 20) -> dict[str, np.ndarray]:
    """Return what the tables on content use judge, user by user.

    Returns:
        ``"all"``: recall@k of all items; ``"cold"``: the share of a user's cold items found among all items, for users who took
        one; ``"cold among cold"``: the same where only cold items are ranked.

    Raises:
        OptionError: ``k`` was not evaluated.
    """
    cold = result.cold_per_user(k)
    return {
        "all": result.per_user[f"recall@{k}"],
        "cold": cold[f"recall@{k}"],
        "cold among cold": cold[f"recall_among_cold@{k}"],
    }


def content_use(
    model: Recommender,
    data: Dataset,
    changes: Sequence[str] = CHANGES,
    *,
    split: str = "test",
    k: int = 20,
    item_graphs: str = "new",
    seed: int = 0,
) -> pd.DataFrame:
    """Return how a trained model's recall changes when only the features it is given change.

    No change says that scores do not read content. It does not say that content had no part in training.

    Args:
        model: trained on ``data``.
        data: with its own features.
        changes: what takes their place, see :class:`~mmrec_teach.data.switches.Switches`.
        split, k: what is judged.
        item_graphs: see :func:`with_features`.
        seed: of shuffles and noise.

    Returns:
        One row for each change and each of "all", "cold", "cold among cold" (see :func:`recall_by_user`): ``features``, ``items``,
        ``own`` and ``changed`` (recall@k), ``difference``, ``low``, ``high`` (95 % bootstrap interval over users), ``p_value``
        (paired sign-flip test), ``users``. Splits without cold items have no rows for them.

    Raises:
        OptionError, DataError: as in :func:`with_features` and :func:`evaluate`.
    """
    own, rows = recall_by_user(evaluate(model, data, split, ks=(k,)), k), []
    for change in changes:
        other = Switches(features=change, seed=seed).apply(data)
        changed = recall_by_user(evaluate(with_features(model, other, item_graphs=item_graphs), other, split, ks=(k,)), k)
        for items, before in own.items():
            if not len(before):
                continue
            told = paired_comparison(f"recall@{k}", changed[items], before)
            rows.append(
                {
                    "features": change,
                    "items": items,
                    "own": told.b,
                    "changed": told.a,
                    "difference": told.difference,
                    "low": told.low,
                    "high": told.high,
                    "p_value": told.p_value,
                    "users": told.users,
                }
            )
    return pd.DataFrame(rows)
