"""The long tail: who is found, who is shown, and who is reached at all, by how often items were bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation import metrics as m
from mmrec_teach.evaluation.ranking import Evaluation


def tail_items(item_counts: np.ndarray, head: float = 0.2) -> np.ndarray:
    """Return (I,) bool: every item outside the head, the ``head`` share of the catalogue that was bought most.

    Args:
        item_counts: (I,) training interactions per item. Of equally often bought items the lower index is nearer to the head.
        head: share of the items, at least one item.

    Raises:
        OptionError: ``head`` outside (0, 1), or no items.
    """
    counts = np.asarray(item_counts)
    if not 0 < head < 1:
        raise OptionError("share out of range", where="tail_items(head=)", found=head, expected="between 0 and 1")
    if counts.ndim != 1 or not len(counts):
        raise OptionError("no list of counts", where="tail_items", found=f"shape {counts.shape}", expected="(I,), one or more")
    tail = np.ones(len(counts), dtype=bool)
    tail[np.argsort(-counts, kind="stable")[: max(1, round(head * len(counts)))]] = False
    return tail


def long_tail(
    evaluations: Mapping[str, Evaluation | Sequence[Evaluation]],
    *,
    edges: Sequence[int] | None = None,
    head: float = 0.2,
    k: int = 20,
) -> pd.DataFrame:
    """Return the long-tail table: one row a model and run.

    Args:
        evaluations: model -> its evaluation, or one a seed; all of the same data and split.
        edges: lowest counts of the buckets after the cold one, see :meth:`Evaluation.by_frequency`.
        head: see :func:`tail_items`.
        k: the cut-off.

    Returns:
        ``model``, ``run``; ``recall@K`` (mean over users); ``found BUCKET`` for each bucket, rarest first (share of the judged
        interactions with its items that are found; NaN where there are none); ``reach@K`` (share of the catalogue in at least one
        list); ``tail reach@K`` (the same of the tail); ``tail share@K`` (share of all places in lists that go to the tail). The
        frame's ``attrs`` hold ``tail items`` (share of the catalogue), ``tail purchases`` (share of the judged interactions) and
        ``buckets`` (label -> items, judged interactions).

    Raises:
        OptionError: nothing to compare, a cut-off that was not evaluated, ``head`` or ``edges`` outside what is allowed.
    """
    rows, attrs = [], {}
    for model, given in evaluations.items():
        for run, result in enumerate([given] if isinstance(given, Evaluation) else given):
            tail = tail_items(result.item_counts, head)
            buckets = result.by_frequency(edges, k)
            shown = m.exposure(result.topk, result.n_items, k)
            row = {"model": model, "run": run, f"recall@{k}": result.mean(f"recall@{k}")}
            row |= {f"found {b}": v for b, v in zip(buckets["bucket"], buckets[f"recall@{k}"], strict=True)}
            row |= {
                f"reach@{k}": float((shown > 0).mean()),
                f"tail reach@{k}": float((shown[tail] > 0).mean()),
                f"tail share@{k}": float(shown[tail].sum() / max(shown.sum(), 1)),
            }
            rows.append(row)
            attrs = {
                "tail items": float(tail.mean()),
                "tail purchases": float(tail[result.relevant[1]].mean()),
                "buckets": {
                    label: (int(items), int(relevant))
                    for label, items, relevant in zip(buckets["bucket"], buckets["items"], buckets["relevant"], strict=True)
                },
            }
    if not rows:
        raise OptionError("nothing to compare", where="long_tail", found="no evaluations", expected="one or more")
    frame = pd.DataFrame(rows)
    frame.attrs = attrs
    return frame
