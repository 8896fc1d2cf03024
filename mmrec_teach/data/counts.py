"""How often items were shown and clicked, as numbers a model can read, and a guard against counts that know the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from mmrec_teach.data.dataset import Dataset
from mmrec_teach.errors import DataError

SMOOTHING = 100.0
"""Exposures at the shop's mean click rate that every item is given beside its own."""
FEW = 8
"""New items below which nothing can be said about a leak."""
TELLING = 0.8
"""Rank correlation from which counts of new items are taken for counts of the answers."""


def log_counts(exposures: np.ndarray, clicks: np.ndarray, rate: float | None = None) -> np.ndarray:
    r"""Return (n, 3) float32: :math:`\ln(1+n)`, :math:`\ln(1+c)` and the log of the smoothed click rate.

    .. math:: \ln\frac{c + a r}{n + a}, \quad a = 100

    A new item has the shop's mean rate r, not a rate of zero; one with many exposures has its own.

    Args:
        exposures, clicks: (n,) counts n and c.
        rate: r; None: of these counts.
    """
    exposures, clicks = np.asarray(exposures, dtype=np.float64), np.asarray(clicks, dtype=np.float64)
    rate = mean_rate(exposures, clicks) if rate is None else rate
    smoothed = (clicks + SMOOTHING * rate) / (exposures + SMOOTHING)
    return np.stack([np.log1p(exposures), np.log1p(clicks), np.log(smoothed)], axis=1).astype(np.float32)


def mean_rate(exposures: np.ndarray, clicks: np.ndarray) -> float:
    """Return clicks per exposure over all items, with one of each added."""
    return float((clicks.sum() + 1) / (exposures.sum() + 1))


def with_future(data: Dataset) -> Dataset:
    """Return the data as a log that is read too late would show them: held-out interactions stand in the shop-window counts.

    To see what such a leak does; :func:`check_counts` finds it.
    """
    held_out = _held_out(data)
    exposures, clicks = (held_out if kind is None else kind + held_out for kind in (data.exposures, data.clicks))
    return replace(data, exposures=exposures, clicks=clicks)


def leak(data: Dataset) -> str:
    """Return why the shop-window counts seem to know the held-out interactions, in words; "" where nothing says so.

    New items, those without training interactions, tell: what passers-by did before the test period cannot follow who takes them
    in it. Counts that order them as the answers do have been read too late. Of fewer than eight new items nothing is said.
    """
    if data.clicks is None:
        return ""
    clicks, answers = data.clicks[data.cold_items], _held_out(data)[data.cold_items]
    if len(clicks) < FEW or (clicks == clicks[0]).all() or (answers == answers[0]).all():
        return ""
    correlation = float(np.corrcoef(rankdata(clicks), rankdata(answers))[0, 1])
    if correlation < TELLING:
        return ""
    return (
        f"{int((clicks > 0).sum())} of {len(clicks)} items without training interactions have clicks, and these follow their "
        f"held-out interactions (rank correlation {correlation:.2f})"
    )


def check_counts(data: Dataset) -> None:
    """Check that the data have shop-window counts, and that these do not know the future.

    Raises:
        DataError: there are none, or :func:`leak` has something to say.
    """
    if data.exposures is None or data.clicks is None:
        raise DataError(
            "no exposures and clicks",
            where=f"data set {data.name!r}",
            expected="how often each item was shown and clicked before the test period",
            fix='Count training interactions instead: statistics="others"',
        )
    if why := leak(data):
        raise DataError(
            "exposures and clicks seem to know the future",
            where=f"data set {data.name!r}",
            found=why,
            expected="counts from before the test period",
            fix="Count again, up to the end of training; allow_leak=True if new items really were shown and clicked before",
        )


def _held_out(data: Dataset) -> np.ndarray:
    """Return how often each item stands in valid and test, (I,)."""
    return sum(np.bincount(data.split(name).items, minlength=data.n_items) for name in ("valid", "test"))
