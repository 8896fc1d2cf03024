"""The frozen Dataset: what it derives, what it refuses, and that nobody can change it afterwards."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmrec_teach.data import Dataset, Interactions, Truth
from mmrec_teach.errors import DataError


def made(**changes: Any) -> Dataset:
    """Three users, four items; item 3 is cold. Any field can be changed."""
    fields = {
        "name": "small",
        "user_ids": np.array(["a", "b", "c"]),
        "item_ids": np.array(["w", "x", "y", "z"]),
        "train": Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])),
        "valid": Interactions(np.array([0]), np.array([2])),
        "test": Interactions(np.array([1, 2]), np.array([3, 0])),
        "features": {"image": np.arange(8, dtype=np.float16).reshape(4, 2)},
    }
    return Dataset(**(fields | changes))


def truth(**changes: Any) -> Truth:
    fields = {
        "utility": np.zeros((3, 4), dtype=np.float32),
        "user_interests": np.zeros((3, 3), dtype=np.int64),
        "interest_shares": np.full((3, 3), 1 / 3, dtype=np.float32),
        "care": np.full((3, 2), 0.5, dtype=np.float32),
        "item_interest": np.zeros(4, dtype=np.int64),
        "picture_style": np.zeros((4, 2), dtype=np.float32),
        "word_style": np.zeros((4, 2), dtype=np.float32),
    }
    return Truth(**(fields | changes))


def test_sizes_and_derived_values() -> None:
    data = made()
    assert (data.n_users, data.n_items, data.n_interactions) == (3, 4, 7)
    assert data.modalities == ("image",)
    assert data.item_counts.tolist() == [1, 2, 1, 0]
    assert data.user_counts.tolist() == [2, 1, 1]
    assert data.cold_items.tolist() == [False, False, False, True]
    assert data.matrix().toarray().tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert data.matrix("valid", "test").sum() == 3
    assert data.captions is None
    assert repr(data) == "Dataset('small': 3 users, 4 items, 4/1/2 interactions, features: image 2-d)"


def test_features_become_float32_and_missing_defaults_to_none_missing() -> None:
    data = made()
    assert data.features["image"].dtype == np.float32
    assert data.missing["image"].tolist() == [False] * 4


def test_captions_fill_gaps() -> None:
    assert made(items=pd.DataFrame({"caption": ["a lamp", None, "", "b"]})).captions == ("a lamp", "", "", "b")


def test_nothing_can_be_changed_afterwards() -> None:
    data = made(images=np.zeros((4, 2, 2, 3), dtype=np.uint8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"
    with pytest.raises(TypeError):
        data.features["image"] = np.zeros((4, 2))
    arrays = (data.features["image"], data.missing["image"], data.train.users, data.images, data.item_counts, data.user_ids)
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[:] = array[:]


def test_an_array_changed_by_its_owner_does_not_reach_in() -> None:
    table = np.ones((4, 2), dtype=np.float32)
    users = np.array([0, 0, 1, 2])
    data = made(features={"image": table}, train=Interactions(users, np.array([0, 1, 1, 2])))
    table[:] = np.nan
    users[:] = 99
    assert data.features["image"].tolist() == [[1, 1]] * 4
    assert data.train.users.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_frozen(again: Any) -> None:
    data = made(truth=truth())
    twin = again(data)
    assert repr(twin) == repr(data)
    assert np.array_equal(twin.features["image"], data.features["image"])
    with pytest.raises(TypeError):
        twin.features["image"] = None


def test_with_features_and_with_splits() -> None:
    data = made()
    other = data.with_features({"text": np.zeros((4, 3))}, {"text": np.ones(4, dtype=bool)})
    assert other.modalities == ("text",)
    assert other.missing["text"].all()
    moved = data.with_splits(data.train, data.test, data.valid, source="turned round")
    assert (len(moved.valid), len(moved.test), moved.source) == (2, 1, "turned round")


def test_select_and_concatenate_keep_rows_and_times() -> None:
    timed = Interactions(np.array([0, 1]), np.array([2, 3]), np.array([10, 20]))
    plain = Interactions(np.array([5]), np.array([6]))
    both = Interactions.concatenate(timed, timed.select(np.array([1])))
    assert both.timestamps.tolist() == [10, 20, 20]
    assert Interactions.concatenate(timed, plain).timestamps is None
    assert Interactions.concatenate(timed, plain.select(np.array([], dtype=int))).timestamps.tolist() == [10, 20]


NONE = Interactions(np.array([], dtype=int), np.array([], dtype=int))
REFUSED = {
    "no users": ({"user_ids": []}, "user_ids: no ids"),
    "an id twice": ({"item_ids": ["w", "x", "x", "z"]}, "item_ids: an id stands twice .found 'x'"),
    "empty training split": ({"train": NONE}, "training split is empty"),
    "user out of range": ({"valid": Interactions([3], [0])}, "valid row 0: user index out of range .found 3, expected 0 to 2"),
    "item out of range": ({"test": Interactions([0], [4])}, "test row 0: item index out of range .found 4, expected 0 to 3"),
    "negative item": ({"test": Interactions([0, 1], [3, -1])}, "test row 1: item index out of range .found -1"),
    "pair twice in a split": (
        {"test": Interactions([1, 1], [3, 3])},
        "test: duplicate interaction .found user 1 .b., item 3 .z. twice",
    ),
    "pair in two splits": (
        {"test": Interactions([0], [1])},
        "train and test: duplicate interaction .found user 0 .a., item 1 .x.",
    ),
    "cold user in test": (
        {"train": Interactions([0, 0], [0, 1])},
        "test: a user to be judged has no training interaction .found user 1 .b., 2 such",
    ),
    "features not a table": ({"features": {"image": np.zeros(4)}}, r"features\['image'\]: not a table .found shape .4,."),
    "too few feature rows": (
        {"features": {"image": np.zeros((3, 2))}},
        "feature rows differ from items .found 3 rows, expected 4",
    ),
    "integer features": ({"features": {"image": np.zeros((4, 2), dtype=int)}}, "not floating-point numbers .found dtype int64"),
    "NaN": (
        {"features": {"image": np.array([[0.0], [1], [np.nan], [0]])}},
        "row 2, column 0: features hold a number that is not finite .found nan",
    ),
    "beyond float32": ({"features": {"image": np.array([[0.0, 1e39]] * 4)}}, "row 0, column 1: .* not finite .found inf"),
    "missing flags of wrong form": ({"missing": {"image": np.zeros(3, dtype=bool)}}, "not one flag per item .found shape .3,."),
    "missing but present": (
        {"missing": {"image": np.array([False, True, False, False])}},
        "row 1: an item marked as missing has a feature vector",
    ),
    "flags without features": ({"missing": {"sound": np.zeros(4, dtype=bool)}}, "modality that has no features .found sound"),
    "item table too short": (
        {"items": pd.DataFrame({"title": ["a"]})},
        "item table has the wrong number of rows .found 1 rows, expected 4",
    ),
    "item table of another kind": ({"items": [1, 2, 3, 4]}, "not a pandas table .found list"),
    "images of wrong form": ({"images": np.zeros((4, 2, 2), dtype=np.uint8)}, "images have the wrong form"),
    "negative clicks": ({"clicks": np.array([1, 2, 3, -1])}, "clicks: not one count per item"),
    "truth of another size": (
        {"truth": truth(utility=np.zeros((4, 3)))},
        r"truth.utility: .*found shape .4, 3., expected shape .3, 4.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_clear_sentence(case: str) -> None:
    changes, pattern = REFUSED[case]
    with pytest.raises(DataError, match=pattern) as caught:
        made(**changes)
    assert "data set 'small'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (([0.5], [1]), "Interactions.users: not a list of whole numbers .found shape .1,., dtype float64"),
        (([[0]], [1]), "found shape .1, 1."),
        (([0], [True]), "Interactions.items: not a list of whole numbers .found .*bool"),
        (([0, 1], [1]), "users and items differ in length .found 2 users, 1 items"),
        (([0], [1], [1, 2]), "timestamps and users differ in length"),
    ],
)
def test_interactions_refuse_what_they_cannot_hold(arguments: tuple, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern):
        Interactions(*map(np.array, arguments))


def test_unknown_split_name() -> None:
    with pytest.raises(DataError, match=r"unknown split .found 'dev', expected train, valid or test"):
        made().split("dev")
