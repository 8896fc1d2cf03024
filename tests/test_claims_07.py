"""What lesson 07 claims of AlignRec's alignments, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import load
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.diagnostics import alignment, knn_overlap, linear_cka, modality_gap
from mmrec_teach.models import Recommender, create
from mmrec_teach.models.alignrec import item_vectors
from mmrec_teach.training import train
from mmrec_teach.training.pretrain import pretrained
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
ALL = {
    "gate": "sigmoid", "reg_form": "released", "mask_duplicates": False, "regularizer": "propagated", "trainable_features": True,
}  # fmt: skip
ALONE = {"k": 1}


@functools.cache
def trained(name: str, seed: int, weights: tuple, options: tuple) -> Recommender:
    data = load("bazaar")
    model = create(name, data, dim=32, seed=seed, **dict(options))
    how = {"epochs": 20, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights=dict(weights), seed=seed, **how):
        pass
    return model


def fitted(seed: int, name: str = "alignrec", weights: dict | None = None, **options) -> Recommender:
    """The lesson's training: 20 epochs of Adam 1e-2, batches of 1,024, vectors of 32 numbers."""
    return trained(name, seed, tuple(sorted((weights or {}).items())), tuple(sorted(options.items())))


@functools.cache
def outcome(model: Recommender) -> Evaluation:
    return evaluate(model, load("bazaar"), "test")


def recall(model: Recommender) -> float:
    return outcome(model).mean("recall@20")


def cold(model: Recommender) -> float:
    return outcome(model).cold()["recall@20"]


@functools.cache
def seen() -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder's vectors of the warm items with content, and which items these are."""
    h_enc, has = item_vectors(load("bazaar"))
    warm = torch.from_numpy(~load("bazaar").cold_items) & has
    return h_enc[warm], warm


@functools.cache
def spaces(model: Recommender) -> dict[str, float]:
    """The lesson's measures of the warm items."""
    encoder, warm = seen()
    with model.evaluating():
        own, mm = (model.views()[name][warm].detach() for name in ("item/id", "item/content"))
    return {
        "ratio": float(mm.norm(dim=1).mean() / own.norm(dim=1).mean()),
        "distance": alignment(own, mm),
        "gap": modality_gap(own, mm),
        "cka id": linear_cka(own, mm),
        "cka encoder": linear_cka(mm, encoder),
        "near id": knn_overlap(own, mm),
        "near encoder": knn_overlap(mm, encoder),
        "id near encoder": knn_overlap(own, encoder),
    }


def mean(values) -> float:
    return float(np.mean(list(values)))


@functools.cache
def popularity() -> float:
    return recall(create("popularity", load("bazaar")))


def test_id_and_content_move_together_with_cca_and_it_is_the_id_that_comes():
    for seed in SEEDS:
        none, some, much = (spaces(fitted(seed, weights={"cca": a})) for a in (0.0, 0.01, 0.1))
        assert none["distance"] > some["distance"] + 0.05 > much["distance"] + 0.1
        assert none["gap"] > some["gap"] > much["gap"]
        assert none["cka id"] + 0.1 < some["cka id"] < much["cka id"] - 0.1
        assert none["near id"] + 0.05 < some["near id"] < much["near id"] - 0.05
        assert some["id near encoder"] > none["id near encoder"] + 0.05, "the ID comes"
        assert abs(some["near encoder"] - none["near encoder"]) < 0.06, "content keeps its neighbours"
        assert some["cka encoder"] < none["cka encoder"] - 0.02, "and by overall shape it gives way"
        assert much["cka encoder"] < none["cka encoder"] - 0.15, "but a large weight bends its shape"


def test_a_little_cca_finds_more_of_the_cold_and_much_of_it_costs_recall():
    for seed in SEEDS:
        none, some, much, full = (fitted(seed, weights={"cca": a}) for a in (0.0, 0.01, 0.1, 1.0))
        assert cold(some) > 1.6 * cold(none)
        assert spaces(some)["ratio"] > spaces(none)["ratio"] + 0.5, "content is louder against the ID"
        assert -0.035 < recall(some) - recall(none) < (0.02 if seed == 0 else -0.015)
        assert recall(some) > recall(none) or seed, "a little up at the lesson's seed"
        assert recall(much) < recall(some) - 0.1
        assert recall(full) < popularity()
        assert spaces(full)["distance"] < 0.05


def test_content_does_not_collapse_onto_the_id_without_reg_as_long_as_the_graph_stands():
    for seed in SEEDS:
        none, some, much = (spaces(fitted(seed, weights={"reg": w})) for w in (0.0, 0.1, 1.0))
        assert 0.5 < none["near encoder"] < some["near encoder"] < 0.65 < much["near encoder"]
        assert none["near encoder"] > 0.8 * some["near encoder"]
        assert none["cka encoder"] < some["cka encoder"] - 0.05 < much["cka encoder"] - 0.2
        assert cold(fitted(seed, weights={"reg": 1.0})) < 0.6 * cold(fitted(seed)), "a strong REG is not free"


def test_without_the_graph_content_collapses_onto_the_id_and_a_strong_reg_holds_it():
    for seed in SEEDS:
        none, some, much = (spaces(fitted(seed, weights={"reg": w}, **ALONE)) for w in (0.0, 0.1, 1.0))
        for fallen in (none, some):
            assert fallen["distance"] < 0.07
            assert fallen["near id"] > 0.6
            assert fallen["near encoder"] < 0.25
        assert much["near encoder"] > 0.35
        assert much["cka encoder"] > none["cka encoder"] + 0.3
        for weight in (0.0, 0.1, 1.0):
            assert cold(fitted(seed, weights={"reg": weight}, **ALONE)) < 0.02


def test_what_each_alignment_is_worth():
    for seed in SEEDS:
        full, without = fitted(seed), {term: fitted(seed, weights={term: 0.0}) for term in ("cca", "uia", "reg")}
        drop = {term: recall(full) - recall(model) for term, model in without.items()}
        assert max(drop, key=drop.get) == "uia"
        assert drop["uia"] > 0.03
        assert abs(drop["reg"]) < 0.03
        assert recall(full) < recall(fitted(seed, "lightgcn", {"l2": 1e-3})), "LightGCN is ahead over all items"
        bare, cca = alone(seed), alone(seed, "cca")
        assert max(recall(without["uia"]), recall(cca)) < recall(bare) - 0.03, "CCA by itself costs recall"
        assert recall(full) > recall(bare) - 0.02, "UIA makes up for it"
        assert cold(fitted(seed, "lightgcn", {"l2": 1e-3})) < 0.01 < 0.2 < cold(full)


def alone(seed: int, *terms: str) -> Recommender:
    """BPR and these alignments, the others left out."""
    return fitted(seed, weights={term: 0.0 for term in ("cca", "uia", "reg") if term not in terms})


def test_bpr_alone_finds_the_cold_reg_and_uia_lose_some_and_cca_brings_it_back():
    for seed in SEEDS:
        bare, full, without_cca = alone(seed), fitted(seed), fitted(seed, weights={"cca": 0.0})
        assert abs(cold(bare) - cold(full)) < 0.04
        assert cold(alone(seed, "reg")) < cold(alone(seed, "uia")) < cold(bare) - 0.02
        assert cold(without_cca) < 0.6 * min(cold(bare), cold(full))
        assert cold(alone(seed, "cca")) > cold(bare) - 0.03
        assert spaces(without_cca)["ratio"] < spaces(bare)["ratio"] - 0.5
        with full.evaluating():
            length = full.views()["item/id"].detach().norm(dim=1)
        unsold = torch.from_numpy(load("bazaar").cold_items)
        assert 0.4 < length[unsold].mean() / length[~unsold].mean() < 0.6, "a cold item's ID is about half as long"


def test_bpr_brings_content_and_id_part_of_the_way():
    for seed in SEEDS:
        start = create("alignrec", load("bazaar"), dim=32, seed=seed)
        assert spaces(fitted(seed))["distance"] + 0.08 < spaces(alone(seed))["distance"] < 0.4 < 1.5 < spaces(start)["distance"]


def test_a_larger_uia_brings_users_to_what_they_took_and_recall_does_not_rise():
    taken = load("bazaar").train
    for seed in SEEDS:
        far, model = [], None
        for weight in (0.1, 1.0):
            model = fitted(seed, weights={} if weight == 0.1 else {"uia": weight})
            with model.evaluating():
                views = model.views()
            far.append(alignment(views["user/final"].detach()[taken.users], views["item/final"].detach()[taken.items]))
        assert far[1] < far[0] / 2
        assert recall(model) < recall(fitted(seed))


def test_an_encoder_table_that_learns_forgets_its_neighbours():
    encoder, warm = seen()
    for seed in SEEDS:
        free = fitted(seed, trainable_features=True)
        assert knn_overlap(free.encoded.detach()[warm], encoder) < 0.35
        assert spaces(free)["cka encoder"] < spaces(fitted(seed))["cka encoder"]
        assert cold(free) > cold(fitted(seed)) - 0.02
    assert mean(recall(fitted(s, trainable_features=True)) for s in SEEDS) < mean(recall(fitted(s)) for s in SEEDS)


def after(seed: int, strategy: str, weights: dict | None = None) -> tuple[float, float, float]:
    """Recall after 5 epochs, the share of the encoder's neighbours that are left, and the CKA with its start."""
    data, joint = load("bazaar"), {"strategy": "joint", "start": "pretrained", "n_fresh": 32}
    if strategy == "staged":
        data = data.with_features(mmenc=pretrained("bazaar").vectors(data))
    model = create("alignrec", data, dim=32, seed=seed, **(joint if strategy == "joint" else {}))
    with model.evaluating():
        start = model.views()["item/encoder"][seen()[1]].detach().clone()
    how = {"epochs": 5, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights=weights, seed=seed, **how):
        pass
    with model.evaluating():
        end = model.views()["item/encoder"][seen()[1]].detach()
    return evaluate(model, data, "test").mean("recall@20"), knn_overlap(start, end), linear_cka(start, end)


def test_staged_training_keeps_what_joint_training_loses():
    for seed in SEEDS:
        staged, joint = after(seed, "staged"), after(seed, "joint")
        bare = after(seed, "joint", {"mim": 0.0, "mlm": 0.0})
        assert staged[1:] == pytest.approx((1.0, 1.0))
        assert 0.5 < joint[1] < 0.75
        assert bare[1] < 0.3
        assert bare[2] < 0.6 < 0.8 < joint[2]
        assert staged[0] > joint[0] > bare[0], "and more is found"


def test_forms_of_paper_and_code():
    for seed in SEEDS:
        plain, copies = fitted(seed), fitted(seed, mask_duplicates=False)
        assert abs(recall(copies) - recall(plain)) < 0.02
        assert abs(cold(copies) - cold(plain)) < 0.04
        sigmoid, inner, both = fitted(seed, gate="sigmoid"), fitted(seed, reg_form="released"), fitted(seed, **ALL)
        for form in (sigmoid, inner, both):
            assert spaces(form)["ratio"] < 1.5 < 3 < spaces(plain)["ratio"]
            assert cold(form) < 0.5 * cold(plain)
        assert cold(inner) < 0.05
        assert cold(both) < 0.05
        assert min(recall(form) for form in (sigmoid, inner, both)) > recall(plain)
        own = recall(fitted(seed, "lightgcn", {"l2": 1e-3}))
        assert min(recall(form) for form in (sigmoid, inner, both)) > own, "the quiet forms pass LightGCN"
