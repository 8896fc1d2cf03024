"""The panel of lesson 00: its numbers are the package's, and its controls move its figure."""

from __future__ import annotations

import numpy as np
import pytest

from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import create
from mmrec_teach.views.protocol import whatif_protocol


@pytest.fixture(scope="module")
def panel(bazaar):
    return whatif_protocol(bazaar, ("popularity", "item-knn"), k_max=20)


@pytest.mark.parametrize("metric", ["recall", "ndcg", "precision", "hitrate"])
def test_the_curves_are_the_packages_metrics(panel, bazaar, metric):
    panel.controls["metric"].value = metric
    for name, curve in panel.values().items():
        found = evaluate(create(name, bazaar), bazaar, "test", ks=(1, 7, 20))
        np.testing.assert_allclose(
            [curve[0], curve[6], curve[19]], [found.mean(f"{metric}@{k}") for k in (1, 7, 20)], rtol=1e-12
        )
    panel.controls["metric"].value = "recall"


def test_every_control_moves_the_figure(panel):
    def shown():
        return list(panel.figure.data[-1].y), panel.figure.layout.title.text

    seen = [shown()]
    for name, value in (("k", 5), ("mask", "nothing"), ("split", "one date for all"), ("metric", "ndcg")):
        panel.controls[name].value = value
        seen.append(shown())
        assert seen[-1][0] != seen[-2][0], name
        assert seen[-1][1] != seen[-2][1], name
    assert panel.figure.layout.shapes[0].x0 == 5
    assert "item-knn" in panel.figure.layout.meta["alt"]


def test_without_times_and_truth_only_what_is_possible_is_offered(tiny):
    panel = whatif_protocol(tiny, k_max=10)
    assert panel.controls["split"].options == ("as it came", "random per user")
    assert list(panel.values()) == ["random", "popularity", "item-knn"]


def test_a_cut_off_beyond_the_catalogue_is_refused(tiny):
    with pytest.raises(OptionError, match="cut-off"):
        whatif_protocol(tiny, k_max=41)
