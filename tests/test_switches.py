"""Switches on a data set: what each changes, and above all what it leaves alone."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.data import Dataset
from mmrec_teach.data.switches import FEATURES, Switches
from mmrec_teach.errors import OptionError
from tests.conftest import make_tiny


def with_gaps() -> Dataset:
    """The tiny data set; a third of the pictures and three captions are missing."""
    data = make_tiny()
    missing = {"image": np.arange(data.n_items) % 3 == 0, "text": np.arange(data.n_items) < 3}
    return data.with_features({m: np.where(missing[m][:, None], 0, data.features[m]) for m in data.features}, missing)


DATA = with_gaps()
SHARES = st.sampled_from([0.0, 0.1, 0.37, 0.5, 0.9, 1.0])
ANY = st.builds(
    Switches,
    without=st.sets(st.sampled_from(DATA.modalities)),
    features=st.sampled_from(FEATURES),
    missing=SHARES,
    cold=SHARES,
    keep=SHARES,
    seed=st.integers(0, 2**40),
)
quick = settings(max_examples=40, deadline=None)


def pairs(data: Dataset, split: str = "train") -> set[tuple[int, int]]:
    part = data.split(split)
    return set(zip(part.users.tolist(), part.items.tolist(), strict=True))


def same(a: Dataset, b: Dataset) -> bool:
    return (
        pairs(a) == pairs(b)
        and a.modalities == b.modalities
        and all(np.array_equal(a.features[m], b.features[m]) for m in a.features)
        and all(np.array_equal(a.missing[m], b.missing[m]) for m in a.features)
    )


# -- for every setting ----------------------------------------------------------------------------------------------------
@quick
@given(ANY)
def test_whatever_is_switched_the_rest_stays(switches: Switches) -> None:
    changed = switches.apply(DATA)
    assert same(changed, switches.apply(DATA)), "the seed decides everything"
    for name in ("user_ids", "item_ids", "items", "images", "truth", "exposures", "clicks", "time_is_order", "name"):
        assert getattr(changed, name) is getattr(DATA, name) or np.array_equal(getattr(changed, name), getattr(DATA, name))
    assert pairs(changed, "valid") == pairs(DATA, "valid")
    assert pairs(changed, "test") == pairs(DATA, "test")
    assert pairs(changed) <= pairs(DATA)
    assert set(changed.train.users.tolist()) == set(DATA.train.users.tolist()), "every user keeps something"
    assert changed.modalities == tuple(m for m in DATA.modalities if m not in switches.without)
    for m in changed.modalities:
        assert changed.features[m].shape == DATA.features[m].shape
        assert changed.missing[m].sum() >= DATA.missing[m].sum()


@quick
@given(ANY)
def test_there_and_back_through_json(switches: Switches) -> None:
    assert Switches.from_json(json.loads(json.dumps(switches.to_json()))) == switches
    assert pickle.loads(pickle.dumps(switches)) == switches


@quick
@given(ANY, st.sampled_from(["without", "features", "missing", "cold", "keep"]))
def test_one_switch_leaves_what_the_others_chose(switches: Switches, name: str) -> None:
    """Turned off one after the other, what is changed in content does not depend on training, and the other way round."""
    off = dataclasses.replace(switches, **{name: getattr(Switches(), name)})
    one, other = switches.apply(DATA), off.apply(DATA)
    if name in ("cold", "keep"):
        assert all(np.array_equal(one.features[m], other.features[m]) for m in one.features)
    else:
        assert pairs(one) == pairs(other)
    if name == "without":
        assert all(np.array_equal(one.features[m], other.features[m]) for m in one.features)


@quick
@given(SHARES, SHARES, st.integers(0, 3))
def test_shares_are_nested(a: float, b: float, seed: int) -> None:
    low, high = sorted((a, b))
    for m in DATA.modalities:
        less, more = (Switches(missing=x, seed=seed).apply(DATA).missing[m] for x in (low, high))
        assert (less <= more).all()
    less, more = (Switches(cold=x, seed=seed).apply(DATA).cold_items for x in (low, high))
    assert (less <= more).all()
    assert pairs(Switches(keep=low, seed=seed).apply(DATA)) <= pairs(Switches(keep=high, seed=seed).apply(DATA))


# -- each switch ----------------------------------------------------------------------------------------------------------
def test_nothing_switched_returns_the_data_itself() -> None:
    assert Switches().apply(DATA) is DATA
    assert Switches(seed=7).apply(DATA) is DATA
    assert not Switches(seed=7)
    assert Switches(keep=0.5)


def test_without_drops_a_modality_and_all_of_them() -> None:
    assert Switches(without="image") == Switches(without=["image", "image"])
    assert Switches(without=("text", "image")) == Switches(without=("image", "text"))
    assert Switches(without="image").apply(DATA).modalities == ("text",)
    assert Switches(without=("image", "text"), features="random", missing=0.5).apply(DATA).modalities == ()
    with pytest.raises(OptionError, match=r"found 'audio', expected some of: image, text"):
        Switches(without="audio").apply(DATA)


def test_shuffled_gives_every_item_another_item_s_content_in_all_modalities() -> None:
    changed = Switches(features="shuffled").apply(DATA)
    own = np.hstack([*DATA.features.values(), *(DATA.missing[m][:, None] for m in DATA.features)])
    now = np.hstack([*changed.features.values(), *(changed.missing[m][:, None] for m in DATA.features)])
    assert sorted(map(tuple, own)) == sorted(map(tuple, now)), "whole rows move, over all modalities together"
    whole = ~(DATA.missing["image"] | DATA.missing["text"])  # rows of their own kind
    assert not (own == now).all(1)[whole].any()
    again = Switches(features="shuffled", seed=1).apply(DATA)
    assert not same(changed, again)


def test_zero_and_random_leave_the_gaps_where_they_are() -> None:
    zero, noise = (Switches(features=f).apply(DATA) for f in ("zero", "random"))
    for m in DATA.modalities:
        assert not zero.features[m].any()
        there = ~DATA.missing[m]
        for changed in (zero, noise):
            assert np.array_equal(changed.missing[m], DATA.missing[m])
        assert (noise.features[m][there] != DATA.features[m][there]).all()
    apart = np.corrcoef(noise.features["image"][:, 0], DATA.features["image"][:, 0])[0, 1]
    assert abs(apart) < 0.5


def test_random_has_the_mean_and_spread_of_what_it_replaces(bazaar: Dataset) -> None:
    noise = Switches(features="random").apply(bazaar)
    for m in bazaar.modalities:
        own, other = (d.features[m][~bazaar.missing[m]] for d in (bazaar, noise))
        assert np.abs(other.mean(0) - own.mean(0)).max() < 0.15 * own.std(0).max()
        assert np.abs(other.std(0) / own.std(0) - 1).max() < 0.15


def test_missing_hides_a_share_of_those_who_have_it_for_each_modality_on_its_own() -> None:
    changed = Switches(missing=0.5).apply(DATA)
    for m in DATA.modalities:
        had, has = (~d.missing[m] for d in (DATA, changed))
        assert has.sum() == had.sum() - round(0.5 * had.sum())
        assert (has <= had).all()
        assert np.array_equal(changed.features[m][has], DATA.features[m][has])
        assert not changed.features[m][~has].any()
    hidden = [changed.missing[m] & ~DATA.missing[m] for m in DATA.modalities]
    assert not np.array_equal(*hidden)
    everything = Switches(missing=1).apply(DATA)
    assert all(everything.missing[m].all() for m in DATA.modalities)


def test_cold_takes_whole_items_and_no_user_s_last(bazaar: Dataset) -> None:
    changed = Switches(cold=0.3).apply(bazaar)
    warm = int((~bazaar.cold_items).sum())
    new = changed.cold_items & ~bazaar.cold_items
    assert new.sum() == round(0.3 * warm)
    assert (changed.item_counts[~new] == bazaar.item_counts[~new]).all(), "other items lose nothing"
    assert changed.user_counts.min() >= 1
    all_but = Switches(cold=1).apply(bazaar)
    only = all_but.user_counts[all_but.train.users] == 1
    assert set(all_but.train.items[only].tolist()) == set(all_but.train.items.tolist()), "each item left is somebody's last"


def test_keep_keeps_that_share_and_one_of_every_user(bazaar: Dataset) -> None:
    assert len(Switches(keep=0.3).apply(bazaar).train) == round(0.3 * len(bazaar.train))
    least = Switches(keep=0).apply(bazaar)
    assert (least.user_counts == 1).all()
    both = Switches(keep=0.5, cold=0.2).apply(bazaar)
    cold = Switches(cold=0.2).apply(bazaar)
    assert len(both.train) == round(0.5 * len(cold.train))
    assert (both.cold_items >= cold.cold_items).all()


def test_timestamps_stay_with_their_events(bazaar: Dataset) -> None:
    def events(data: Dataset) -> set[tuple[int, int, int]]:
        part = data.train
        return set(zip(part.users.tolist(), part.items.tolist(), part.timestamps.tolist(), strict=True))

    changed = Switches(keep=0.4, cold=0.1).apply(bazaar)
    assert events(changed) < events(bazaar)


# -- words and errors -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("switches", "words"),
    [
        (Switches(seed=3), "data as they are"),
        (Switches(without=("text", "image")), "without image and text"),
        (Switches(features="shuffled", seed=3), "features shuffled (seed 3)"),
        (
            Switches(missing=0.25, cold=0.125, keep=0.5),
            "features missing of 25 % of the items, 12.5 % of the warm items made cold, 50 % of the training interactions kept",
        ),
    ],
)
def test_words(switches: Switches, words: str) -> None:
    assert switches.words() == words


def test_the_source_says_what_was_changed() -> None:
    assert Switches(keep=0.5).apply(DATA).source.endswith("50 % of the training interactions kept")


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": "none"},
        {"missing": -0.1},
        {"cold": 1.5},
        {"keep": float("nan")},
        {"keep": True},
        {"missing": "0.5"},
        {"seed": -1},
        {"seed": 0.5},
        {"without": 3},
        {"without": (3,)},
        {"learn": 1},
        [1],
    ],
)
def test_wrong_values_are_named(wrong: object) -> None:
    with pytest.raises(OptionError):
        Switches.from_json(wrong)  # type: ignore[arg-type]
