"""The panel of the gate: what trains anew, what turns at once, and that its numbers are those of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_tiny

from mmrec_teach.data import Interactions
from mmrec_teach.errors import DataError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.views.gates import LEANS, K, whatif_gate


@pytest.fixture(scope="module")
def panel():
    return whatif_gate(make_tiny(), epochs=2, dim=8).settle()


def test_it_shows_the_trained_model(panel):
    data = make_tiny()
    gates, told = panel.model.gates().detach().numpy(), panel.values()
    np.testing.assert_allclose(panel.figure.data[0].y, gates[~data.cold_items], atol=1e-6)
    np.testing.assert_allclose(panel.figure.data[1].y, gates[data.cold_items], atol=1e-6)
    judged = evaluate(panel.model, data, "test", ks=(K,))
    assert told["recall"] == judged.mean(f"recall@{K}")
    found = (judged.relevant_ranks > 0)[data.cold_items[judged.relevant[1]]].mean()
    assert told["found new"] == pytest.approx(found)
    assert f"{found:.0%} found" in panel.figure.layout.title.text
    assert len(panel.figure.data[2].x) == len(LEANS)


def test_the_gate_turns_without_training(panel):
    before, model = panel.model.gates().detach().numpy(), panel.model
    panel.controls["lean"].value = 3.0
    assert panel.model is model
    turned = model.gates().detach().numpy()
    np.testing.assert_allclose(np.log(turned / (1 - turned)), np.log(before / (1 - before)) + 3, atol=1e-3)
    panel.controls["strength"].value = 0.0
    assert torch.allclose(model.gates(), torch.full_like(model.gates(), torch.tensor(3.0).sigmoid()))
    panel.controls["lean"].value, panel.controls["strength"].value = 0.0, 1.0
    np.testing.assert_allclose(model.gates().detach().numpy(), before, atol=1e-7)


def test_what_is_trained_trains_anew_and_is_kept(panel):
    first = panel.model
    panel.controls["triplet"].value = 10.0
    second = panel.settle().model
    assert second is not first
    assert second.clusters == 0
    panel.controls["clusters"].value = 4
    assert panel.settle().model.clusters == 4
    panel.controls["clusters"].value, panel.controls["triplet"].value = 0, 0.1
    assert panel.settle().model is first


def test_it_wants_new_items():
    data = make_tiny()
    warm = ~data.cold_items[data.test.items]
    with pytest.raises(DataError, match="no new items"):
        whatif_gate(data.with_splits(data.train, data.valid, Interactions(data.test.users[warm], data.test.items[warm])))
