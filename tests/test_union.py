"""Data sets side by side, and models that move from one to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.dataset import SPLITS
from mmrec_teach.data.sequences import histories
from mmrec_teach.data.union import item_source, union
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import create

SMALL = {"dim": 8, "heads": 2, "inner": 8, "length": 8, "n_layers": 1}


def shop(name: str, seed: int = 0, **sizes: int) -> Dataset:
    return replace(in_order(make_tiny(seed, **sizes)), name=name)


@pytest.fixture(scope="module")
def pair() -> list[Dataset]:
    first, second = shop("a"), shop("b", 1, n_users=20, n_items=30)
    lost = np.zeros(30, dtype=bool)
    lost[4] = True
    image = np.where(lost[:, None], 0, second.features["image"])
    return [first, second.with_features({"image": image, "text": second.features["text"]}, {"image": lost})]


# -- union --------------------------------------------------------------------------------------------------------------------
def test_everything_stands_side_by_side(pair):
    both = union(pair)
    assert both.name == "a+b"
    assert (both.n_users, both.n_items) == (50, 70)
    assert both.item_ids[[0, 40]].tolist() == ["a:i0", "b:i0"]
    assert both.user_ids[30] == "b:u0"
    for split in SPLITS:
        parts, whole = [data.split(split) for data in pair], both.split(split)
        n = len(parts[0])
        assert np.array_equal(whole.users, np.concatenate([parts[0].users, parts[1].users + 30]))
        assert np.array_equal(whole.items, np.concatenate([parts[0].items, parts[1].items + 40]))
        assert np.array_equal(whole.timestamps[n:], parts[1].timestamps)
    for name in ("image", "text"):
        assert np.array_equal(both.features[name][40:], pair[1].features[name])
    assert np.flatnonzero(both.missing["image"]).tolist() == [44]
    assert np.array_equal(item_source(both), np.repeat([0, 1], [40, 30]))
    assert both.time_is_order
    assert histories(both).of(33).tolist() == (histories(pair[1]).of(3) + 40).tolist()
    assert item_source(pair[0]).tolist() == [0] * 40


def test_what_only_some_have_is_left_out(pair):
    more = pair[0].with_features(sound=np.ones((40, 3), dtype=np.float32))
    timeless = make_tiny(2)
    whole = union([more, pair[1], timeless], name="all")
    assert whole.name == "all"
    assert whole.modalities == ("image", "text")
    assert whole.train.timestamps is None
    assert whole.images is None
    assert whole.exposures is None


def test_sets_that_do_not_fit_are_named(pair):
    narrow = pair[1].with_features({"image": pair[1].features["image"][:, :5], "text": pair[1].features["text"]})
    with pytest.raises(
        DataError, match=r"data set 'b', features\['image'\].*found 5 columns, expected 8 as in 'a'.*one encoder"
    ):
        union([pair[0], narrow])
    with pytest.raises(DataError, match="data set 'b': no feature table that all the sets have.*found sound"):
        union([pair[0], pair[1].with_features({"sound": pair[1].features["text"]})])
    with pytest.raises(DataError, match="two data sets of one name"):
        union([pair[0], shop("a", 5)])
    with pytest.raises(DataError, match="at least one"):
        union([])
    assert union([d.with_features({}) for d in pair]).modalities == ()


def test_a_plus_opens_several_and_a_path_with_a_plus_opens_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    both = load("bazaar/garden+bazaar/attic", split="leave-one-out")
    garden = load("bazaar/garden", split="leave-one-out")
    assert (both.n_users, both.n_items) == (800, 420)
    assert np.array_equal(both.test.items[: len(garden.test)], garden.test.items)
    assert both.captions[:210] == garden.captions
    assert both.images.shape[0] == 420
    assert set(both.items["source"]) == {"bazaar/garden", "bazaar/attic"}
    with pytest.raises(DataError, match="beside a \\+"):
        load("bazaar/garden+")
    with pytest.raises(OptionError, match="unknown domain.*bazaar/cellar"):
        load("bazaar/garden+bazaar/cellar")
    folder = tmp_path / "a+b"
    folder.mkdir()
    lines = ["user,item,date", *(f"u{u},i{(u + k) % 6},2024-01-{k + 1:02}" for u in range(5) for k in range(4))]
    (folder / "likes.csv").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load("a+b").n_users == 5


# -- adopting -----------------------------------------------------------------------------------------------------------------
def changed(model: torch.nn.Module) -> torch.nn.Module:
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
    return model


def test_unisrec_moves_whole_and_ranks_as_it_did(pair):
    source = changed(create("unisrec", union(pair), experts=2, **SMALL))
    target = create("unisrec", pair[1], experts=2, seed=3, **SMALL)
    assert target.adopt(source) is target
    assert set(source.transferable()) == set(target.transferable())
    assert len(source.transferable()) == len(list(source.parameters()))
    users = torch.arange(20)
    torch.testing.assert_close(target.score(users), source.score(users + 30)[:, 40:])


def test_missrec_moves_all_but_its_ids_and_finds_interests_anew(pair):
    source = changed(create("missrec", pair[0], **SMALL))
    target = create("missrec", pair[1], seed=3, **SMALL)
    own, interests = target.item_id.weight.clone(), target.interest.clone()
    target.adopt(source.transferable())
    assert torch.equal(target.item_id.weight, own)
    assert "modality.image.weight" in source.transferable()
    for name, parameter in source.named_parameters():
        if name != "item_id.weight":
            assert torch.equal(parameter, target.get_parameter(name)), name
    assert not torch.allclose(target.interest, interests)
    before = target.interest.clone()
    target.find_interests()
    assert torch.equal(target.interest, before)
    assert source.item_id.weight.shape != own.shape


def test_parameters_that_do_not_fit_are_refused_and_nothing_is_copied(pair):
    model = create("missrec", pair[0], **SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    narrow = pair[1].with_features({"image": pair[1].features["image"][:, :5], "text": pair[1].features["text"]})
    refused = [
        (create("unisrec", pair[0], **SMALL), "a model of another class.*found UniSRec, expected MISSRec"),
        (create("missrec", pair[1], **{**SMALL, "heads": 4}), "adopt, heads.*found 4 there, expected 2"),
        (create("missrec", pair[1], **{**SMALL, "dim": 4}), "adopt, dim.*found 4 there, expected 8"),
        (create("missrec", narrow, **SMALL), "modality.image.weight: a parameter of another size.*found 8 x 5, expected 8 x 8"),
        (create("missrec", pair[1], modalities=("image",), **SMALL), "found no sharpness and 2 more"),
        (create("missrec", pair[1], **SMALL).transferable() | {"more": torch.zeros(1)}, "a parameter too many.*found more"),
    ]
    for other, sentence in refused:
        with pytest.raises(OptionError, match=sentence):
            model.adopt(other)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(OptionError, match="the parameters of SASRec are its items' own"):
        create("sasrec", pair[0], dim=8).adopt(create("sasrec", pair[1], dim=8))
    words = create("unisrec", pair[0], experts=2, modalities=("text", "image"), **SMALL)
    with pytest.raises(OptionError, match=r"no adaptor\(text\+image\)"):
        words.adopt(create("unisrec", pair[1], experts=2, modalities=("image", "text"), **SMALL))
