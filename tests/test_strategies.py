"""The study of AlignRec's strategies: one small run of each kind, and what the stored result says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_models_alignrec import pictured

from benchmarks import strategies
from mmrec_teach.data import Dataset
from mmrec_teach.files import rounded
from mmrec_teach.models import AlignRec, model_options


@pytest.fixture
def small(tiny, monkeypatch) -> Dataset:
    """A tiny shop with the settings of one that is not."""
    monkeypatch.setattr(strategies, "EPOCHS", 2)
    monkeypatch.setattr(strategies, "STRATEGY_EPOCHS", 2)
    monkeypatch.setattr(strategies, "LOOKS", (0, 2))
    monkeypatch.setattr(strategies, "BASE", {**strategies.BASE, "k": 3})
    data = pictured(tiny)
    table = np.random.default_rng(0).normal(size=(data.n_items, 6)).astype(np.float32)
    return data.with_features({**data.features, "mmenc": table})


def test_every_variant_names_options_and_terms_that_exist():
    known = {*model_options("alignrec"), *AlignRec.default_weights}
    for given in (strategies.BASE, *strategies.ABLATIONS.values(), *strategies.STRATEGIES.values(), strategies.TRIED):
        assert set(given) <= known


def test_a_joint_run_looks_at_the_encoder_alone(small, monkeypatch):
    class Known:
        def __init__(self, *parts):
            pass

        def quality(self, data, seed):
            return dict.fromkeys(strategies.SURVIVES, 0.5)

        def vectors(self, data):
            return data.features["mmenc"]

    monkeypatch.setattr(strategies, "pretrained", lambda name: Known())
    monkeypatch.setattr(strategies, "Encoder", Known)
    given = {"strategy": "joint", "n_fresh": 4, "encoder_dim": 8, "encoder_depth": 1}
    told = strategies.strategy(small, small.features["mmenc"], given, 0)
    assert [look["epoch"] for look in told["looks"]] == [0, 2]
    for look in told["looks"]:
        assert look["norms"]["mim"] > 0
        assert look["norms"]["bpr"] > 0
        assert look["norms"]["l2"] == 0, "a penalty on IDs does not reach the encoder"
        assert "bpr, mlm" in look["cosines"]
    assert told["survives"]["overlap"] == 1.0
    alone = strategies.strategy(small, small.features["mmenc"], {**given, **strategies._ALONE}, 0)
    assert set(alone["looks"][1]["losses"]) == {"mim", "mlm"}
    staged = strategies.strategy(small, small.features["mmenc"], {}, 0)
    assert "norms" not in staged["looks"][1]
    json.dumps(rounded([told, staged]), allow_nan=False)


def test_gradients_flow_again_after_a_look(small):
    trainer = strategies.trainer_of(small, {"gate": "plain"}, 0)
    model = trainer.model
    with strategies.only(model, model.mlp):
        assert not model.item_id.weight.requires_grad
        assert all(p.requires_grad for p in model.mlp.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_a_broken_off_study_goes_on(small, tmp_path, monkeypatch):
    monkeypatch.setattr(strategies, "shop", lambda: (replace(small), small.features["mmenc"]))
    monkeypatch.setattr(strategies, "TRIED", {"cca": (0.0, 0.01)})
    monkeypatch.setattr(strategies, "ABLATIONS", {"without CCA": {"cca": 0.0}})
    monkeypatch.setattr(strategies, "SEEDS", (0,))
    first = strategies.run(tmp_path / "r.json", ["settings", "ablations"])
    monkeypatch.setattr(strategies, "staged", lambda *a: pytest.fail("done before"))
    monkeypatch.setattr(strategies, "plain", lambda *a: pytest.fail("done before"))
    again = strategies.run(tmp_path / "r.json", ["settings", "ablations"])
    assert again["tried"] == first["tried"]
    assert list(again["ablations"]) == ["LightGCN", "without CCA"]
    assert "without CCA" in strategies.tables(again)
