"""How sure are we? Bootstrap intervals over users and paired comparisons of two models."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from mmrec_teach.errors import OptionError

_CHUNK = 4_000_000  # random numbers drawn at a time: bounds memory to about 64 MB whatever the number of users


def bootstrap_means(values: np.ndarray, n_boot: int = 1000, seed: int = 0) -> np.ndarray:
    """Return (n_boot,) means of ``values`` (n,) resampled with replacement.

    Raises:
        OptionError: no values, or fewer than one resample.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise OptionError("nothing to resample", where="values", found=f"shape {values.shape}", expected="at least one number")
    if n_boot < 1:
        raise OptionError("no resamples", where="n_boot", found=n_boot, expected="at least 1")
    rng = np.random.default_rng(seed)
    n = len(values)
    means = np.empty(n_boot)
    step = max(1, _CHUNK // n)
    for start in range(0, n_boot, step):
        stop = min(start + step, n_boot)
        means[start:stop] = values[rng.integers(0, n, size=(stop - start, n))].mean(1)
    return means


def bootstrap_interval(values: np.ndarray, level: float = 0.95, n_boot: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values`` (n,).

    It answers: had other users like these been asked, where would the mean lie? It says nothing about other seeds of the model.

    Raises:
        OptionError: a level outside (0, 1), no values, no resamples.
    """
    if not 0 < level < 1:
        raise OptionError(
            "confidence level outside its range", where="level", found=level, expected="between 0 and 1, such as 0.95"
        )
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(values, n_boot, seed), [tail, 1 - tail])
    return float(low), float(high)


def sign_flip_p_value(differences: np.ndarray, n_permutations: int = 5000, seed: int = 0) -> float:
    """Return the two-sided p-value of a paired permutation test on ``differences`` (n,).

    If the two models were the same, each user's difference could as well have had the other sign. The p-value is the share of
    random sign patterns, the observed one counted in, whose |sum| is at least the observed one; never below
    1 / (n_permutations + 1). Users without a difference change nothing and are left out.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if len(d) == 0:
        return 1.0
    observed = abs(d.sum())
    tolerance = 1e-9 * np.abs(d).sum()  # sums in another order differ in their last bits: equal patterns must count
    rng = np.random.default_rng(seed)
    extreme = 0
    step = max(1, _CHUNK // len(d))
    for start in range(0, n_permutations, step):
        rows = min(step, n_permutations - start)
        minus = rng.integers(0, 2, size=(rows, len(d)), dtype=np.int8)
        extreme += int((np.abs(d.sum() - 2.0 * (minus @ d)) >= observed - tolerance).sum())
    return (extreme + 1) / (n_permutations + 1)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same users.

    Attributes:
        metric: which number was compared.
        a, b: its mean for each.
        difference: a - b.
        low, high: bootstrap interval of the difference.
        level: the interval's confidence level.
        p_value: two-sided sign-flip permutation test of "no difference".
        users: how many users were compared.
        wins, losses: users for whom a is better, worse; the others are equal.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    level: float
    p_value: float
    users: int
    wins: int
    losses: int

    def to_json(self) -> dict[str, float | int | str]:
        """Return all fields as a plain dict."""
        return asdict(self)

    def __str__(self) -> str:
        relative = f" ({self.difference / self.b:+.1%})" if self.b and math.isfinite(self.b) else ""
        return (
            f"{self.metric}: {self.a:.4f} against {self.b:.4f}, difference {self.difference:+.4f}{relative}, "
            f"{self.level:.0%} interval [{self.low:+.4f}, {self.high:+.4f}], p = {self.p_value:.2g}, {self.users:,} users"
        )


def paired_comparison(
    metric: str,
    a: np.ndarray,
    b: np.ndarray,
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    n_permutations: int = 5000,
    seed: int = 0,
) -> Comparison:
    """Compare two (n,) arrays of per-user values, row r of both being the same user.

    Raises:
        OptionError: different lengths, no users, a level outside (0, 1).
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise OptionError("not the same users", where="compare", found=f"{len(a)} and {len(b)} users", expected="equal numbers")
    difference = a - b
    low, high = bootstrap_interval(difference, level, n_boot, seed)
    return Comparison(
        metric=metric,
        a=float(a.mean()),
        b=float(b.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        level=level,
        p_value=sign_flip_p_value(difference, n_permutations, seed),
        users=len(a),
        wins=int((difference > 0).sum()),
        losses=int((difference < 0).sum()),
    )
