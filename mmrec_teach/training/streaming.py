"""Learning from a stream: training interactions once, oldest first, and every window judged before it is learned from.

A model in production sees each click once, when it happens. Two habits follow: one pass in time order takes the place of many
shuffled ones, and *progressive* evaluation takes the place of held-out interactions: what comes next is the test, then it is learned from.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn
from tqdm.auto import tqdm

from mmrec_teach.data import Dataset
from mmrec_teach.data.dataset import Interactions
from mmrec_teach.errors import DataError, OptionError, check_whole
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import Batch, Recommender
from mmrec_teach.training.loop import Trainer
from mmrec_teach.training.sampling import NegativeSampler, ordered_batches

_OWN = {*vars(nn.Module()), "generator", "options", "_evaluation"}
"""Attributes of a model that do not come from its training interactions."""


@dataclass(frozen=True)
class WindowRecord:
    """What one window of the stream left behind.

    Attributes:
        window: counts from 1.
        seen: interactions learned from so far, those of this window included.
        share: ``seen`` as a share of the stream.
        until: time of the window's last interaction.
        losses: term -> mean over the window's steps, unweighted.
        total: mean weighted sum.
        before: the model's lists before it learned from the window, judged by the window; None in the first window and where
            it was not asked for. ``recall@K``: mean over users; ``known`` and ``new``: share of the window's interactions found,
            those with items that had been taken before, and first sales; ``new items``: share of first sales among the judged
            interactions; ``new users``: share of the window's interactions that is not judged, since the user was unknown.
            What there is nothing to judge of is absent.
        metrics: validation metrics after the window where they were due, else None.
        seconds: wall time of the window's steps.
    """

    window: int
    seen: int
    share: float
    until: int
    losses: Mapping[str, float]
    total: float
    before: Mapping[str, float] | None
    metrics: Mapping[str, float] | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in asdict(self).items()}


def stream(
    model: Recommender,
    data: Dataset,
    *,
    weights: Mapping[str, float] | None = None,
    windows: int = 20,
    repeats: int = 1,
    judge: bool = True,
    shares: Sequence[float] = (1.0,),
    k: int = 20,
    progress: bool = False,
    **settings: Any,
) -> Iterator[WindowRecord]:
    """Train ``model`` in place on one pass over the training interactions, oldest first, yielding one record a window.

    Nothing knows the future: at each window the model's graphs hold the interactions up to that window's end, and negatives are
    drawn among items taken by then. Between two yields ``model`` is as it would be at that moment; after the last one its graphs
    are those of ``data``. The whole catalogue is ranked, also what nobody could buy yet.

    Args:
        model, data: what to train on what. A model that has been trained goes on.
        weights: see :class:`~mmrec_teach.training.Trainer`.
        windows: the stream is cut into so many parts of equal size.
        repeats: how often each window is gone through before the next one; 1 is one pass.
        judge: judge the model by each window before it learns from it, see ``WindowRecord.before``.
        shares: validation metrics after these shares of the stream, rounded up to whole windows.
        k: the cut-off.
        progress: show a bar.
        settings: see :class:`~mmrec_teach.training.Trainer`; ``batch_size`` interactions a step, within a window.

    Raises:
        DataError: the interactions have no clock time, or fewer of them than windows.
        OptionError: a model that reads histories, a number out of range, or as :class:`~mmrec_teach.training.Trainer`.
    """
    for name, value in (("windows", windows), ("repeats", repeats), ("k", k)):
        check_whole(name, value, 1)
    if any(not 0 < share <= 1 for share in shares):
        raise OptionError("not a share of the stream", where="shares", found=list(shares), expected="above 0, up to 1")
    if model.batches != "pairs":
        raise OptionError(
            "a history is no single event of a stream",
            where=f"stream({type(model).__name__})",
            expected="a model that learns from pairs, such as bpr, vbpr or alignrec",
        )
    events = in_order_of_time(data)
    if len(events) < windows:
        raise DataError(
            "fewer interactions than windows", where=f"data set {data.name!r}, train", found=len(events), expected=windows
        )
    trainer = Trainer(model, data, weights=weights, **{**settings, "metrics_every": 0})
    due = {int(np.ceil(share * windows - 1e-9)) for share in shares}
    return _windows(trainer, events, np.linspace(0, len(events), windows + 1).astype(int), repeats, judge, due, k, progress)


def in_order_of_time(data: Dataset) -> Interactions:
    """Return the training interactions, oldest first; equal times stay as they stand.

    Raises:
        DataError: there are no times, or they are positions in each user's history, which no clock is common to.
    """
    where = f"data set {data.name!r}, train"
    fix = "Train in epochs, with train or fit, or add a column of times"
    if data.train.timestamps is None:
        raise DataError(
            "the interactions have no order in time, so there is no stream", where=where, found="no timestamps", fix=fix
        )
    if data.time_is_order:
        raise DataError(
            "the interactions of different users have no common clock, so there is no stream",
            where=where,
            found="positions in each user's history",
            expected="times such as seconds since 1970",
            fix=fix,
        )
    return data.train.select(np.argsort(data.train.timestamps, kind="stable"))


def grow(model: Recommender, data: Dataset) -> None:
    """Make what ``model`` derives from training interactions (graphs, counts) anew, from those of ``data``, in place.

    Parameters, state that is saved with the model, and its random generator stay.

    Args:
        model: of the same users, items and features.
        data: such as the stream up to a moment.
    """
    twin = type(model)(data, **model.options)
    parameter = next(model.parameters())
    twin.to(parameter.device, parameter.dtype)
    for mine, its in zip(model.modules(), twin.modules(), strict=True):
        for name in its._non_persistent_buffers_set:
            mine._buffers[name] = its._buffers[name]
        vars(mine).update({name: value for name, value in vars(its).items() if name not in _OWN})


def _windows(
    trainer: Trainer, events: Interactions, cuts: np.ndarray, repeats: int, judge: bool, due: set[int], k: int, progress: bool
) -> Iterator[WindowRecord]:
    model, data = trainer.model, trainer.data
    nothing = events.select(np.empty(0, dtype=np.int64))
    pool = trainer.sampler and trainer.sampler.pool
    bar = tqdm(total=len(events), unit="click", disable=not progress, desc=type(model).__name__)
    with bar:
        for n, (start, stop) in enumerate(pairwise(cuts), start=1):
            window = events.select(slice(start, stop))
            before = _judged(model, data, events.select(slice(0, start)), window, k) if judge and start else None
            began = time.perf_counter()
            known = data.with_splits(events.select(slice(0, stop)), nothing, nothing)
            grow(model, known)
            model.train()
            model.begin_epoch(n - 1)
            trainer.ranks.agree(model)
            sampler = None if trainer.sampler is None else NegativeSampler(known, pool)
            sums: dict[str, float] = {}
            total, steps = 0.0, 0
            for _ in range(repeats):
                for parts in ordered_batches(window, trainer.batch_size, sampler, trainer.generator):
                    terms, weighted = trainer.step(trainer.ranks.rows(Batch(*parts)).to(trainer.device))
                    for name, value in terms.items():
                        sums[name] = sums.get(name, 0.0) + float(value)
                    total, steps = total + float(weighted), steps + 1
                    trainer.steps_done += 1
            seconds = time.perf_counter() - began
            metrics = None
            if n in due and len(data.valid) and trainer.ranks.first:
                metrics = evaluate(model, data, "valid", ks=(k,)).means()
            bar.update(stop - start)
            if before:
                bar.set_postfix_str(f"recall@{k} of the next window {before[f'recall@{k}']:.4f}")
            yield WindowRecord(
                n,
                int(stop),
                float(stop / len(events)),
                int(window.timestamps[-1]),
                {name: value / steps for name, value in sums.items()},
                total / steps,
                before,
                metrics,
                seconds,
            )
    trainer.epochs_done += 1
    grow(model, data)


def _judged(model: Recommender, data: Dataset, past: Interactions, window: Interactions, k: int) -> dict[str, float]:
    """Return what ``WindowRecord.before`` says: the model knows ``past``, and ``window`` comes next."""
    met = np.isin(window.users, past.users)
    if not met.any():
        return {}
    known = data.with_splits(past, window.select(met), window.select(np.empty(0, dtype=np.int64)))
    result = evaluate(model, known, "valid", ks=(k,))
    found, new = result.relevant_ranks > 0, known.cold_items[result.relevant[1]]
    told = {f"recall@{k}": result.mean(f"recall@{k}"), "new items": float(new.mean()), "new users": float(1 - met.mean())}
    return told | {name: float(found[part].mean()) for name, part in (("known", ~new), ("new", new)) if part.any()}
