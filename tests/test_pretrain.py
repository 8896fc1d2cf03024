"""Pre-training: the loop, its checkpoints, what an encoder can do and how that is measured, files, the stored copy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_mmenc import make_shop

from mmrec_teach.cli import main
from mmrec_teach.data import Dataset, load, store
from mmrec_teach.data.tokens import make_tokenizer
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models.mmenc import MMEnc
from mmrec_teach.training import TrainingError
from mmrec_teach.training import pretrain as module
from mmrec_teach.training.pretrain import (
    Encoder,
    Pretrainer,
    fit_encoder,
    load_encoder,
    pretrain,
    pretrained,
    recall_of_own,
    shared_values,
)

SMALL = {"dim": 16, "depth": 2, "heads": 2, "tokens": {"patch": 4, "n_codes": 4}, "progress": False}


@pytest.fixture(scope="module")
def shop() -> Dataset:
    shop = make_shop(60)
    return replace(shop, items=shop.items.assign(caption=[c.split(",")[0][2:] for c in shop.captions]))  # "red hat"


@pytest.fixture(scope="module")
def trained(shop: Dataset) -> Encoder:
    return fit_encoder(shop, epochs=60, batch_size=16, lr=1e-2, held_out=0.2, patch_share=(0.5, 1.0), **SMALL)


def trainer(shop: Dataset, **settings) -> Pretrainer:
    tokenizer = make_tokenizer(shop, patch=4, n_codes=12)
    model = MMEnc(
        tokenizer.n_words, tokenizer.n_codes, grid=(4, 4), patch_dim=48, length=tokenizer.length, dim=16, depth=2, heads=2
    )
    return Pretrainer(model, tokenizer(shop), **{"epochs": 4, "batch_size": 16, **settings})


# -- the loop -------------------------------------------------------------------------------------------------------------
def test_one_record_an_epoch(shop: Dataset) -> None:
    t = trainer(shop)
    records = list(pretrain(t.model, t.tokens, epochs=3, batch_size=16))
    assert [r.epoch for r in records] == [1, 2, 3]
    assert set(records[0].losses) == {"mim", "mlm"}
    assert records[0].total == pytest.approx(sum(records[0].losses.values()))
    assert records[-1].total < records[0].total
    assert records[0].to_json()["losses"] == records[0].losses


def test_weights_are_read_at_every_step(shop: Dataset) -> None:
    weights = {"mim": 1.0, "mlm": 1.0}
    t = trainer(shop, weights=weights)
    t.epoch()
    weights.update(mim=0.0, itc=0.5)
    record = t.epoch()
    assert set(record.losses) == {"mlm", "itc"}
    assert record.total == pytest.approx(record.losses["mlm"] + 0.5 * record.losses["itc"], rel=1e-5)


def test_the_step_size_warms_up_and_falls(shop: Dataset) -> None:
    t = trainer(shop, epochs=25, lr=0.01)
    sizes = [t.step_size(k) for k in range(t.n_steps)]
    assert t.n_steps == 25 * 4
    assert sizes[0] == pytest.approx(0.001)
    assert int(np.argmax(sizes)) == 9
    assert sizes[-1] < 1e-5
    t.epoch()
    assert t.optimizer.param_groups[0]["lr"] == t.step_size(3)


def test_items_left_out_teach_nothing(shop: Dataset) -> None:
    """Training on some rows gives the same model whatever the other rows hold."""
    models = []
    for other in (shop.images, shop.images[::-1].copy()):
        images = shop.images.copy()
        images[30:] = other[30:]
        t = trainer(shop, items=np.arange(30))
        t.tokens = replace(t.tokens, patches=make_tokenizer(shop, patch=4, n_codes=12)(replace(shop, images=images)).patches)
        t.epoch()
        models.append(t.model.state_dict())
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])


def test_a_loss_that_is_not_finite_stops_training(shop: Dataset) -> None:
    t = trainer(shop)
    with torch.no_grad():
        t.model.word_out.bias[5] = torch.inf
    before = t.model.patch_out.weight.clone()
    with pytest.raises(TrainingError, match="epoch 1"):
        t.epoch()
    assert torch.equal(before, t.model.patch_out.weight)


def test_refusals(shop: Dataset) -> None:
    for settings, sentence in (
        ({"epochs": 0}, "out of range"),
        ({"batch_size": 0.5}, "out of range"),
        ({"lr": 0}, "step size"),
        ({"weights": {"bpr": 1.0}}, "no term of that name"),
        ({"weights": {"mim": -1.0}}, "no weight"),
        ({"weights": {"mim": 0.0, "mlm": 0.0}}, "no term has a weight"),
        ({"items": np.array([], dtype=int)}, "no item to train on"),
    ):
        with pytest.raises(OptionError, match=sentence):
            trainer(shop, **settings)
    with pytest.raises(OptionError, match="at least one data set"):
        fit_encoder()
    for held_out, sentence in (
        (1.5, "out of range"),
        ([np.zeros(3, dtype=bool)], "one .I,. bool array"),
        ([np.zeros(60)], "not one flag"),
    ):
        with pytest.raises(OptionError, match=sentence):
            fit_encoder(shop, epochs=1, held_out=held_out, **SMALL)


# -- broken off and taken up again ----------------------------------------------------------------------------------------
def same(a: Encoder, b: Encoder) -> bool:
    x, y = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(x[k], y[k]) for k in x) and np.array_equal(a.centre, b.centre)


def test_interrupted_and_resumed(shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**SMALL, "epochs": 6, "batch_size": 16}
    whole = fit_encoder(shop, **settings, run_dir=tmp_path / "whole")
    step, count = Pretrainer.step, 0

    def interrupted(self, batch):
        nonlocal count
        count += 1
        if count == 4 * 2 + 3:  # in the third epoch
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Pretrainer, "step", interrupted)
    part = fit_encoder(shop, **settings, run_dir=tmp_path / "broken")
    assert part.info["stopped"] == "interrupted"
    assert len(part.history) == 2
    assert not same(part, whole)
    monkeypatch.setattr(Pretrainer, "step", step)
    resumed = fit_encoder(shop, **settings, run_dir=tmp_path / "broken")
    assert resumed.info["stopped"] == "epochs"
    assert same(resumed, whole)
    assert [r.losses for r in resumed.history] == [r.losses for r in whole.history]
    assert len(json.loads((tmp_path / "broken" / "history.json").read_text())) == 6
    assert same(load_encoder(tmp_path / "broken" / "encoder.npz"), whole)

    with pytest.raises(DataError, match="other data or settings"):
        fit_encoder(shop, **{**settings, "lr": 1e-4}, run_dir=tmp_path / "broken")
    (tmp_path / "broken" / "checkpoint.pt").write_bytes(b"?")
    with pytest.raises(DataError, match="not a checkpoint"):
        fit_encoder(shop, **settings, run_dir=tmp_path / "broken")


def test_checkpoints_in_between(shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", -1.0)
    seen = []
    monkeypatch.setattr(module, "write_json", lambda path, records: seen.append(len(records)))
    fit_encoder(shop, **SMALL, epochs=3, run_dir=tmp_path)
    assert seen == [1, 2, 3, 3]


# -- what it can do -------------------------------------------------------------------------------------------------------
def test_it_learns_to_look(shop: Dataset, trained: Encoder) -> None:
    """The colour word is in the picture alone, the picture's colour in the word alone: on items it never saw."""
    held = np.random.Generator(np.random.PCG64(0)).permutation(60)[:12]
    assert trained.info["held_out"] == 12
    quality = trained.quality(shop, items=held)
    assert quality["mlm_accuracy"] > quality["mlm_alone"] + 0.1
    assert quality["mlm_accuracy"] > quality["mlm_other"] + 0.1
    assert quality["mim_accuracy"] > 1.5 * quality["mim_alone"]
    assert quality["mim_accuracy"] > 1.5 * quality["mim_other"]
    assert quality["neighbours_category@10"] > 2 * quality["neighbours_category_chance"]
    assert all(0 <= value <= 1 for value in quality.values())
    assert quality == trained.quality(shop, items=held)


def test_vectors(shop: Dataset, trained: Encoder) -> None:
    table = trained.vectors(shop)
    assert table.shape == (60, 16)
    assert table.dtype == np.float32
    used = np.setdiff1d(np.arange(60), np.random.Generator(np.random.PCG64(0)).permutation(60)[:12])
    assert np.abs(table[used].mean(0)).max() < 1e-4
    flags = np.arange(60) == 10
    hidden = trained.vectors(shop, hide={"image": flags})
    assert np.allclose(np.delete(hidden - table, 10, 0), 0, atol=1e-5)
    assert np.abs(hidden[10] - table[10]).max() > 1e-3
    assert not trained.vectors(shop, hide={"image": flags, "text": flags})[10].any()
    assert not trained.vectors(shop, hide={"text": np.arange(60) == 0})[0].any()  # item 0 has no picture


def test_pixels_and_plain_beit_have_their_quality_too(shop: Dataset) -> None:
    encoder = fit_encoder(
        shop, epochs=2, target="pixels", aggregate=False, weights={"mim": 1.0, "mlm": 1.0, "itc": 0.1}, **SMALL
    )
    quality = encoder.quality(shop)
    assert "image_to_text_guess@10" not in quality
    assert 0 <= quality["mim_accuracy"] <= 1
    assert 0 <= quality["image_to_text@10"] <= 1
    with pytest.raises(OptionError, match="unknown way"):
        encoder.similarity(shop, np.arange(4, 10), how="guess")


def test_similarity_by_guessing_against_the_definition(shop: Dataset, trained: Encoder) -> None:
    items = np.arange(5, 12)
    tokens, model, n = trained.tokens(shop), trained.model, 7
    everyone = np.ones(60, dtype=bool)
    with torch.no_grad():
        pictures = torch.from_numpy(trained.encode(tokens, hide={"text": everyone}) + trained.centre)[items]
        texts = torch.from_numpy(trained.encode(tokens, hide={"image": everyone}) + trained.centre)[items]
        words = [model.guesses_from_cls(pictures[k : k + 1], "word", torch.ones(1, 1, dtype=torch.bool))[0] for k in range(n)]
        patches = [model.guesses_from_cls(texts[k : k + 1], "patch", torch.ones(1, 16, dtype=torch.bool)) for k in range(n)]
    words = torch.stack(words).log_softmax(-1)
    patches = torch.stack(patches).log_softmax(-1)
    want = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            told = set(tokens.words[items[j]].tolist()) - {0, 1, 2}
            want[i, j] += np.mean([float(words[i, w] - words[:, w].mean()) for w in told])
            seen = tokens.codes[items[i]]
            want[i, j] += np.mean([float(patches[j, p, seen[p]] - patches[:, p, seen[p]].mean()) for p in range(16)])
    assert np.allclose(trained.similarity(shop, items, how="guess"), want, atol=1e-4)
    cosine = trained.similarity(shop, items)
    assert np.abs(cosine).max() <= 1 + 1e-5


def test_recall_and_neighbours_by_hand() -> None:
    similarity = np.array([[3.0, 1, 2], [5, 4, 3], [1, 1, 1]])
    assert recall_of_own(similarity, 1) == pytest.approx(1 / 3)
    assert recall_of_own(similarity, 2) == pytest.approx(2 / 3)
    assert recall_of_own(similarity, 3) == 1.0  # a tie counts against
    vectors = np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1], [0, 0]])
    values = np.array(["a", "a", "b", "a", "b"])
    assert shared_values(vectors, values, np.arange(5), k=1) == pytest.approx(2 / 4)
    assert shared_values(vectors, values, np.array([0]), k=2) == 1.0


# -- files ----------------------------------------------------------------------------------------------------------------
def test_saved_and_loaded(shop: Dataset, trained: Encoder, tmp_path: Path) -> None:
    trained.save(tmp_path / "e.npz")
    again = load_encoder(tmp_path / "e.npz")
    assert same(again, trained)
    assert np.array_equal(again.vectors(shop), trained.vectors(shop))
    assert again.info == trained.info
    assert [r.losses for r in again.history] == [r.losses for r in trained.history]
    for content in (b"", b"PK nonsense", (tmp_path / "e.npz").read_bytes()[:-200]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="not an encoder"):
            load_encoder(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="not an encoder"):
        load_encoder(tmp_path / "other.npz")
    with pytest.raises(DataError, match="cannot read"):
        load_encoder(tmp_path / "absent.npz")


def test_kept_vectors_are_for_the_very_same_data(shop: Dataset, trained: Encoder) -> None:
    marked = np.full((60, 16), 7.0, dtype=np.float32)
    encoder = replace(trained, kept={module.fingerprint(shop): marked})
    assert np.array_equal(encoder.vectors(shop), marked)
    none = np.zeros(60, dtype=bool)
    assert np.array_equal(encoder.vectors(shop, hide={"image": none}), marked)
    assert not np.array_equal(encoder.vectors(shop, hide={"image": ~none}), marked)
    images = shop.images.copy()
    images[7, 0, 0, 0] ^= 1
    assert not np.array_equal(encoder.vectors(replace(shop, images=images)), marked)


# -- the stored copy ------------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the stored files, in use for the test."""
    shutil.copytree(store.data_dir(), tmp_path / "data")
    monkeypatch.setenv("MMREC_TEACH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def stored() -> Encoder:
    return pretrained("bazaar")


def late(data: Dataset) -> np.ndarray:
    """The items the stored encoder never saw."""
    return np.flatnonzero(data.truth.extra["cold"])


@pytest.mark.parametrize("domain", ["bazaar", "bazaar/attic"])
def test_stored_vectors_are_those_of_the_stored_weights(stored: Encoder, domain: str) -> None:
    data = load(domain)
    table = stored.vectors(data)
    assert np.array_equal(table, stored.kept[module.fingerprint(data)])
    assert np.allclose(table, stored.encode(stored.tokens(data)), atol=2e-3)
    assert np.array_equal(np.flatnonzero(~table.any(axis=1)), np.flatnonzero(data.missing["image"] & data.missing["text"]))


def test_the_stored_encoder_is_small_and_says_how_it_was_made(stored: Encoder) -> None:
    assert (store.data_dir() / store.ENCODER).stat().st_size < 3_000_000
    assert stored.info["held_out"] == sum(
        len(late(load(d))) for d in ("bazaar", "bazaar/garden", "bazaar/kitchen", "bazaar/attic")
    )
    assert {k: stored.info[k] for k in module.STORED} == module.STORED
    assert len(stored.history) == module.STORED["epochs"]
    assert stored.history[-1].total < 0.8 * stored.history[0].total


@pytest.mark.parametrize("damage", ["flip", "absent", "sums"])
def test_a_damaged_copy_is_named_with_its_cure(folder: Path, damage: str) -> None:
    path = folder / store.ENCODER
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "absent":
        path.unlink()
    else:
        sums = json.loads((folder / store.CHECKSUMS).read_text())
        del sums["encoder"]
        (folder / store.CHECKSUMS).write_text(json.dumps(sums))
    with pytest.raises(DataError, match="mmrec-teach pretrain --stored"):
        store.verify(folder)
    with pytest.raises(DataError, match="mmrec-teach pretrain --stored"):
        store.read_model("encoder", folder)


def test_regenerated_data_keep_their_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {domain: store.read(domain, folder) for domain in store.bazaar.DOMAINS}
    monkeypatch.setattr(store.bazaar, "generate", lambda seed=store.bazaar.SEED: made)
    store.regenerate(folder)
    assert len(store.verify(folder)) == len(made) + len(store.MODELS)
    store.regenerate(folder, seed=1)  # another world: the encoder is not of it
    with pytest.raises(DataError, match="no checksum"):
        store.read_model("encoder", folder)


def test_made_anew_by_quality(stored: Encoder, folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Training is not the same to the last bit elsewhere: a short training must do a good part of what the stored copy does."""
    (folder / store.ENCODER).unlink()
    fresh = module.make_stored(folder, progress=False, epochs=8)
    assert module.encoder_from_bytes(store.read_model("encoder", folder), "").info["epochs"] == 8
    data = load("bazaar")
    short, long = fresh.quality(data, items=late(data)), stored.quality(data, items=late(data))
    for found in (short, long):
        assert found["image_to_text@10"] > 2 * found["retrieval_chance@10"]
        assert found["neighbours_hue@10"] > 3 * found["neighbours_hue_chance"]
    assert long["neighbours_category@10"] > short["neighbours_category@10"] > 1.3 * short["neighbours_category_chance"]
    assert long["mlm_accuracy"] > short["mlm_accuracy"] + 0.1
    assert long["mlm_accuracy"] > max(long["mlm_alone"], long["mlm_other"]) + 0.04
    with pytest.raises(OptionError, match="bazaar"):
        pretrained("amazon")


# -- the command ----------------------------------------------------------------------------------------------------------
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--epochs", "1", "--dim", "16", "--depth", "1", "--codes", "16", "--held-out", "0.2", "--quiet"]
    assert main(["pretrain", "--data", "bazaar/attic", "--out", str(tmp_path / "e"), *words]) == 0
    out = capsys.readouterr().out
    assert "items it never saw" in out
    assert "with the picture" in out
    assert "tone" in out
    table = np.load(tmp_path / "e" / "bazaar-attic_feat.npy", allow_pickle=False)
    assert table.shape == (210, 16)
    assert np.array_equal(table, load_encoder(tmp_path / "e" / "encoder.npz").vectors(load("bazaar/attic")))
    assert main(["pretrain", "--data", "bazaar/attic"]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["pretrain", "--stored", "--epochs", "1"]) == 2
    assert "settings of its own" in capsys.readouterr().err
