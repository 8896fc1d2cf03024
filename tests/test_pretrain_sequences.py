"""Pre-training a sequence model over several shops: the run, the command, the stored copy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny

from mmrec_teach.cli import main
from mmrec_teach.data import Dataset, load, store
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import MISSRec, create
from mmrec_teach.models.pretrained import load_pretrained
from mmrec_teach.training import Trainer, transfer
from mmrec_teach.training.transfer import pretrain_sequences

SMALL = {"dim": 8, "heads": 2, "inner": 8, "length": 8, "dropout": 0.1}
QUICK = {"options": SMALL, "epochs": 3, "batch_size": 64, "lr": 0.01, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def shops() -> list[Dataset]:
    return [in_order(make_tiny()), replace(in_order(make_tiny(1, n_users=20, n_items=30)), name="other")]


def test_a_run_leaves_what_can_move(shops, tmp_path):
    done, result = pretrain_sequences(shops, out=tmp_path, **QUICK)
    assert done.options["ids"] is False
    assert done.info["data"] == ["tiny", "other"]
    assert done.info["weights"] == {"ce": 0.0, "seq_item": 1.0, "seq_seq": 1e-3, "diversity": 1e-4}
    assert (result.stopped, len(result.history)) == ("epochs", 3)
    assert done.info["best_epoch"] == result.best_epoch > 0
    kept = load_pretrained(tmp_path / "pretrained.npz")
    for name, value in done.parameters.items():
        assert torch.equal(kept.parameters[name], value), name
    assert json.loads((tmp_path / "history.json").read_text())[2]["epoch"] == 3
    alone, _ = pretrain_sequences(shops[:1], model="unisrec", **{**QUICK, "options": {"dim": 8}, "epochs": 1})
    assert alone.model == "UniSRec"


def test_a_run_that_was_broken_off_goes_on_as_if_never_stopped(shops, tmp_path, monkeypatch):
    whole, _ = pretrain_sequences(shops, out=tmp_path / "whole", **QUICK)
    epoch = Trainer.epoch

    def broken(self, *args):
        if self.epochs_done == 1:
            self.step(next(self.batches(self.batch_size, self.generator)))
            raise KeyboardInterrupt
        return epoch(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch", broken)
        _, result = pretrain_sequences(shops, out=tmp_path / "parts", **QUICK)
    assert (result.stopped, len(result.history)) == ("interrupted", 1)
    parts, result = pretrain_sequences(shops, out=tmp_path / "parts", **QUICK)
    assert len(result.history) == 3
    for name, value in whole.parameters.items():
        assert torch.equal(parts.parameters[name], value), name
    with pytest.raises(DataError, match="a checkpoint of other data or settings"):
        pretrain_sequences(shops, out=tmp_path / "parts", **{**QUICK, "lr": 0.02})
    with pytest.raises(DataError, match="a checkpoint of other data or settings"):
        pretrain_sequences(shops[:1], out=tmp_path / "parts", **QUICK)


def test_only_models_made_for_it(shops):
    with pytest.raises(OptionError, match="not made for pre-training.*found 'sasrec', expected unisrec or missrec"):
        pretrain_sequences(shops, model="sasrec", **QUICK)
    with pytest.raises(OptionError, match="no loss term of that name"):
        pretrain_sequences(shops, weights={"bpr": 1.0}, **QUICK)


# -- the command --------------------------------------------------------------------------------------------------------------
def test_the_command(tmp_path, capsys, monkeypatch):
    words = [
        "pretrain-sequences",
        "--data",
        "bazaar/attic",
        "--data",
        "bazaar/garden",
        "--out",
        str(tmp_path / "run"),
        "--quiet",
    ]
    words += ["--options", "dim=8,heads=2,inner=8,length=4,interest_ratio=0.1", "--weights", "seq_seq=0", "--epochs", "1"]
    monkeypatch.setattr(transfer, "fit", interrupted)
    assert main(words) == 130
    assert "Interrupted after epoch 0; the same command goes on from there." in capsys.readouterr().err
    monkeypatch.undo()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "MISSRec on bazaar/attic, bazaar/garden: 800 users, 420 items" in out
    assert "best epoch 1 of 1" in out
    file = tmp_path / "run" / "pretrained.npz"
    assert f"pretrained={file},tune=adapters" in out
    given = f"dim=8,heads=2,inner=8,length=4,interest_ratio=0.1,pretrained={file},tune=adapters"
    words = ["train", "--data", "bazaar/kitchen", "--split", "leave-one-out", "--model", "missrec", "--options", given]
    assert main([*words, "--epochs", "1", "--quiet", "--device", "cpu", "--out", str(tmp_path / "runs")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    trained, everything = create("missrec", load("bazaar/kitchen"), dim=8, tune="adapters", length=4).trained_share()
    assert f"; {trained:,} of " in said
    assert "parameters trained (" in said
    assert main(["pretrain-sequences", "--data", "bazaar/attic"]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["pretrain-sequences", "--stored", "--epochs", "1"]) == 2
    assert "settings of its own" in capsys.readouterr().err


def interrupted(model, data, **settings):
    from mmrec_teach.training.fit import FitResult

    return FitResult([], "ndcg@10", stopped="interrupted")


# -- the stored copy ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the stored files, in use for the test."""
    shutil.copytree(store.data_dir(), tmp_path / "data")
    monkeypatch.setenv("MMREC_TEACH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_the_stored_model_ranks_a_shop_it_never_saw():
    assert (store.data_dir() / store.SEQUENCES).stat().st_size < 1_000_000
    data = load("bazaar", split="leave-one-out")
    kept = load_pretrained("bazaar")
    assert tuple(kept.info["data"]) == transfer.SOURCES
    assert kept.info["settings"] == {**transfer.SETTINGS, **transfer.STORED}
    found = {}
    for name, options in (("pretrained", {"pretrained": "bazaar"}), ("fresh", {})):
        model = MISSRec(data, ids=False, **options)
        found[name] = evaluate(model, data, "test", ks=(20,)).mean("recall@20")
    found["random"] = evaluate(create("random", data), data, "test", ks=(20,)).mean("recall@20")
    assert found["pretrained"] > 4 * found["random"]
    assert found["pretrained"] > 1.2 * found["fresh"]


@pytest.mark.parametrize("damage", ["flip", "absent", "sums"])
def test_a_damaged_copy_is_named_with_its_cure(folder, damage):
    path = folder / store.SEQUENCES
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "absent":
        path.unlink()
    else:
        sums = json.loads((folder / store.CHECKSUMS).read_text())
        del sums["sequences"]
        (folder / store.CHECKSUMS).write_text(json.dumps(sums))
    for read in (lambda: store.verify(folder), lambda: MISSRec(in_order(make_tiny()), pretrained="bazaar")):
        with pytest.raises(DataError, match="mmrec-teach pretrain-sequences --stored"):
            read()


def test_made_anew_it_is_of_the_same_kind(folder, shops, monkeypatch):
    monkeypatch.setattr(transfer, "load", lambda name, **_: replace(shops[0], name=name))
    done, _ = transfer.make_stored(folder, progress=False, epochs=1, options=SMALL)
    kept = load_pretrained("bazaar")
    assert kept.info["settings"]["epochs"] == 1
    for name, value in done.parameters.items():
        assert np.array_equal(kept.parameters[name], value), name
    assert f"OK  {store.SEQUENCES}" in "\n".join(store.verify(folder))
