"""The four ways to split, against their stated rules, on any input hypothesis can think of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.data import Interactions, splits
from mmrec_teach.errors import DataError, OptionError

PER_USER = ("random", "leave-one-out", "user-time")


@st.composite
def events(draw: st.DrawFn, most: int = 45) -> Interactions:
    """A few users with 0 to ``most`` distinct items each, in any order, with many equal timestamps."""
    sizes = draw(st.lists(st.integers(0, most), min_size=1, max_size=6).filter(any))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    users = np.repeat(np.arange(len(sizes)), sizes)
    items = np.concatenate([rng.permutation(60)[:n] for n in sizes])
    times = rng.integers(0, draw(st.sampled_from([1, 5, 1000])), len(users))
    order = rng.permutation(len(users))
    return Interactions(users[order], items[order], times[order])


def pairs(part: Interactions) -> list[tuple[int, int]]:
    return list(zip(part.users.tolist(), part.items.tolist()))


def rule(n: int) -> tuple[int, int]:
    """The published rule, spelled out with whole numbers only."""
    if n < 3:
        return 0, 0
    if n < 10:
        return 1, 1
    held = n // 5
    return held // 2, held - held // 2


@given(events=events(), how=st.sampled_from(splits.KINDS), seed=st.integers(0, 3))
@settings(derandomize=True, deadline=None, max_examples=120)
def test_parts_are_disjoint_complete_and_without_cold_users(events: Interactions, how: str, seed: int) -> None:
    try:
        parts = splits.make(events, how, seed=seed)
    except DataError as error:
        if how != "global-time" or "nothing to learn from" not in str(error):
            raise
        return
    together = [p for part in parts for p in pairs(part)]
    assert len(set(together)) == len(together)
    trained = set(parts[0].users.tolist())
    assert set(parts[1].users.tolist()) | set(parts[2].users.tolist()) <= trained
    lost = set(pairs(events)) - set(together)
    assert set(together) <= set(pairs(events))
    assert all(user not in trained for user, _ in lost)
    if how in PER_USER:
        assert not lost


@given(events=events(), how=st.sampled_from(["random", "user-time"]))
@settings(derandomize=True, deadline=None, max_examples=80)
def test_sizes_follow_the_published_rule(events: Interactions, how: str) -> None:
    parts = splits.make(events, how, seed=1)
    for user, n in enumerate(np.bincount(events.users)):
        valid, test = rule(int(n))
        assert [int((p.users == user).sum()) for p in parts] == [n - valid - test, valid, test]


@given(n=st.integers(0, 5000))
@settings(derandomize=True, max_examples=300)
def test_held_out_sizes_are_exact_in_floating_point(n: int) -> None:
    valid, test = splits.held_out_sizes(np.array([n]))
    assert (int(valid[0]), int(test[0])) == rule(n)


@given(events=events())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_time_within_users_and_ties_by_input_order(events: Interactions) -> None:
    position = {pair: row for row, pair in enumerate(pairs(events))}
    time = dict(zip(pairs(events), events.timestamps.tolist()))
    for how in ("user-time", "leave-one-out"):
        parts = splits.make(events, how)
        for user in set(events.users.tolist()):
            keys = [[(time[p], position[p]) for p in pairs(part) if p[0] == user] for part in parts]
            for earlier, later in ((0, 1), (0, 2), (1, 2)):
                assert not keys[earlier] or not keys[later] or max(keys[earlier]) < min(keys[later])
            if how == "leave-one-out":
                n = sum(map(len, keys))
                assert [len(keys[1]), len(keys[2])] == ([1, 1] if n >= 3 else [0, 0])


@given(events=events())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_global_time_never_separates_a_moment(events: Interactions) -> None:
    try:
        train, valid, test = splits.make(events, "global-time")
    except DataError:
        first = np.sort(events.timestamps)[len(events) - len(events) // 5]
        assert first == events.timestamps.min()
        return
    for earlier, later in ((train, valid), (train, test), (valid, test)):
        assert not len(earlier) or not len(later) or earlier.timestamps.max() < later.timestamps.min()


def test_global_time_on_a_worked_example() -> None:
    # twenty moments: four held out, two of them for test; the last user starts only then and cannot be judged
    users = np.array([0] * 10 + [1] * 8 + [2, 1])
    events = Interactions(users, np.arange(20), np.arange(20))
    train, valid, test = splits.make(events, "global-time")
    assert train.items.tolist() == list(range(16))
    assert valid.items.tolist() == [16, 17]
    assert test.items.tolist() == [19]


def test_random_depends_on_the_seed_alone_and_covers_every_position() -> None:
    events = Interactions(np.repeat(np.arange(400), 5), np.tile(np.arange(5), 400))
    a, b, c = (splits.make(events, "random", seed=s) for s in (0, 0, 1))
    assert pairs(a[2]) == pairs(b[2])
    assert pairs(a[2]) != pairs(c[2])
    # each of the five positions is drawn for test about 80 times in 400 (binomial, sd 8)
    assert np.abs(np.bincount(a[2].items, minlength=5) - 80).max() < 40


def test_other_shares_and_cold_items_stay() -> None:
    events = Interactions(np.zeros(20, dtype=int), np.arange(20), np.arange(20))
    train, valid, test = splits.make(events, "user-time", held_out=0.5)
    assert (len(train), len(valid), len(test)) == (10, 5, 5)
    assert not set(test.items) & set(train.items)  # all of them cold, all still there


@pytest.mark.parametrize("how", [k for k in splits.KINDS if k != "random"])
def test_time_splits_need_time(how: str) -> None:
    with pytest.raises(DataError, match=r"needs timestamps.*Use split="):
        splits.make(Interactions(np.zeros(5, dtype=int), np.arange(5)), how)


def test_unknown_split_bad_share_and_nothing_to_split() -> None:
    events = Interactions(np.zeros(5, dtype=int), np.arange(5))
    with pytest.raises(OptionError, match=r"unknown way to split.*'loo'.*leave-one-out"):
        splits.make(events, "loo")
    with pytest.raises(OptionError, match=r"held_out: not a share \(found 1"):
        splits.make(events, "random", held_out=1)
    with pytest.raises(DataError, match=r"nothing to split"):
        splits.make(events.select(np.zeros(5, dtype=bool)), "random")


@given(
    pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60, unique=True),
    k=st.integers(1, 4),
    k_items=st.none() | st.integers(1, 4),
)
@settings(derandomize=True, max_examples=150)
def test_k_core_equals_removing_one_at_a_time(pairs: list[tuple[int, int]], k: int, k_items: int | None) -> None:
    users, items = np.array(pairs).T
    kept = [pairs[row] for row in np.flatnonzero(splits.k_core(users, items, k, k_items))]
    left = list(pairs)
    while True:  # the plain way: throw out one poor user or item, look again
        poor = next(
            (
                pair
                for pair in left
                if sum(u == pair[0] for u, _ in left) < k or sum(i == pair[1] for _, i in left) < (k_items or k)
            ),
            None,
        )
        if poor is None:
            break
        left.remove(poor)
    assert kept == left
