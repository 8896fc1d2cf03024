"""AlignRec: the contract, parity with the reference, its formulas row by row, missing content, bad settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny
from model_contract import ModelContract, batch_of

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import AlignRec, Batch
from mmrec_teach.ops import losses
from mmrec_teach.training import Trainer
from mmrec_teach.training.gradients import gradient_report

PARITY = Path(__file__).parent / "parity"
RELEASED = {
    "gate": "sigmoid",
    "reg_form": "released",
    "mask_duplicates": False,
    "regularizer": "propagated",
    "trainable_features": True,
}


SHORT = {"epochs": 12, "patience": 60, "lr": 0.05, "metric": "ndcg@20"}


class TestAlignRec(ModelContract):
    name = "alignrec"
    training = SHORT
    options = {"dim": 8, "k": 4}


class TestAlignRecReleased(ModelContract):
    name = "alignrec"
    training = SHORT
    options = {"dim": 8, "k": 4, **RELEASED}


class TestAlignRecAttention(ModelContract):
    name = "alignrec"
    training = SHORT
    options = {"dim": 8, "k": 4, "fusion": "attention", "gate": "content"}


class TestAlignRecConcat(ModelContract):
    name = "alignrec"
    training = SHORT
    options = {"dim": 8, "k": 4, "n_layers": 0, "fusion": "concat", "gate": "none"}


class TestAlignRecJoint(ModelContract):
    name = "alignrec"
    training = SHORT
    options = {"dim": 8, "k": 4, "strategy": "joint", "n_fresh": 8, "encoder_dim": 8, "encoder_depth": 1}
    silent = {"encoder.mmenc.log_scale"}  # of a contrast that is no term here

    def build(self, data, seed=0, **more):
        return super().build(pictured(data), seed, **more)

    def test_save_and_load(self, data, tmp_path):
        super().test_save_and_load(self.build(data), pictured(data), tmp_path)


# -- helpers --------------------------------------------------------------------------------------------------------------
def reference() -> tuple[dict[str, np.ndarray], Dataset, Batch]:
    with np.load(PARITY / "alignrec.npz", allow_pickle=False) as file:
        z = dict(file)
    pairs, empty = z["interactions"], Interactions(*np.zeros((2, 0), dtype=np.int64))
    data = Dataset(
        "alignrec",
        np.arange(int(z["n_users"])).astype(str),
        np.arange(int(z["n_items"])).astype(str),
        Interactions(pairs[:, 0], pairs[:, 1]),
        empty,
        empty,
        features={"mmenc": z["fused_feat"]},
    )
    return z, data, Batch(*(torch.from_numpy(z[f"batch_{k}"]) for k in ("users", "pos", "neg")))


def pictured(data: Dataset) -> Dataset:
    """Return ``data`` with small pictures and captions by the parity of the item; item 3 has neither, 5 and 6 one of them."""
    if data.images is not None:
        return data
    rng = np.random.default_rng(0)
    odd = np.arange(data.n_items) % 2
    images = rng.integers(0, 90, (data.n_items, 16, 16, 3)).astype(np.uint8) + 120 * odd[:, None, None, None].astype(np.uint8)
    words = np.array([["red", "blue"], ["round", "square"], ["old", "new"], ["cheap", "dear"]])
    captions = [" ".join([words[0][o], *(w[rng.integers(2)] for w in words[1:])]) for o in odd]
    images[[3, 5]] = 0
    captions[3] = captions[6] = ""
    return replace(data, images=images, items=pd.DataFrame({"caption": captions}))


def joint(data: Dataset, **options) -> AlignRec:
    sizes = {"dim": 8, "k": 4, "encoder_dim": 8, "encoder_depth": 1}
    return AlignRec(pictured(data), strategy="joint", **{**sizes, **options})


def close(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), np.squeeze(theirs), atol=1e-5, rtol=1e-5)


def without(data: Dataset, missing: dict[str, list[int]]) -> Dataset:
    """Return ``data`` with some items' modalities removed."""
    features = {name: table.copy() for name, table in data.features.items()}
    masks = {name: np.isin(np.arange(data.n_items), missing.get(name, [])) for name in features}
    for name, mask in masks.items():
        features[name][mask] = 0.0
    return data.with_features(features, masks)


NAMES = {
    "user_id.weight": "user_embedding.weight",
    "item_id.weight": "item_id_embedding.weight",
    "encoded": "mm_embedding.weight",
    "mlp.first.weight": "mm_trs.weight",
    "mlp.first.bias": "mm_trs.bias",
    "mlp.second.weight": "gate_v.0.weight",
    "mlp.second.bias": "gate_v.0.bias",
}


def filled(z: dict[str, np.ndarray], data: Dataset, **options) -> AlignRec:
    """Return a model with the reference's settings and parameters."""
    settings = RELEASED | {"dim": 8, "k": int(z["hyper_knn_k"]), "n_layers": int(z["hyper_n_ui_layers"])} | options
    model = AlignRec(data, temperature=float(z["hyper_tau"]), **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if NAMES[name] == "mm_embedding.weight":
                # the gate reads lengths, which h_enc does not have here: the file's table is not of unit length
                parameter.copy_(torch.from_numpy(z["param/mm_embedding.weight"]))
            else:
                parameter.copy_(torch.from_numpy(z[f"param/{NAMES[name]}"]))
    return model


# -- parity ---------------------------------------------------------------------------------------------------------------
def test_alignrec_equals_the_reference():
    z, data, batch = reference()
    model = filled(z, data)
    assert {name for name, _ in model.named_parameters()} == set(NAMES)
    close(model.similar.to_dense(), z["item_item_adj"])
    for ours, name in zip(model.aggregated(), ("id_user", "id_item", "mm_user", "mm_item"), strict=True):
        close(ours, z[name])
    for ours, name in zip(model.final(), ("user_out", "item_out"), strict=True):
        close(ours, z[name])
    terms = model.losses(batch)
    close(terms["bpr"], z["term_bpr"])
    close(terms["cca"], z["term_cca_user"] + z["term_cca_item"])
    id_u, id_i, mm_u, mm_i = model.aggregated()
    for kind, mm, own, ids in (("user", mm_u, id_u, batch.users), ("item", mm_i, id_i, batch.items)):
        close(model.info_nce(mm, own, *torch.unique(ids, return_counts=True)), z[f"term_cca_{kind}"])
    close(terms["uia"], z["term_uia"])
    close(terms["reg"], z["term_reg_released"])
    close(float(z["hyper_emb_reg"]) * terms["l2"], z["term_emb"])
    published = filled(z, data, reg_form="published")
    close(published.losses(batch, {"reg"})["reg"] * len(batch.items), z["term_reg_published_frobenius"])
    weights = {"cca": "alpha_cca", "uia": "beta_uia", "reg": "lambda_reg", "l2": "emb_reg"}
    total = model.total(terms, {"bpr": 1.0} | {ours: float(z[f"hyper_{theirs}"]) for ours, theirs in weights.items()})
    close(total, z["loss_total"])
    total.backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, z[f"grad/{NAMES[name]}"])
    close(model.score(torch.arange(5)), z["scores_first_users"])


# -- formulas -------------------------------------------------------------------------------------------------------------
def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("masked", [True, False])
def test_terms_equal_their_formula_row_by_row(masked):
    data = without(make_tiny(), {"image": [0, 4, 7], "text": [4, 9]})
    model = AlignRec(data, dim=4, k=3, n_layers=1, mask_duplicates=masked, temperature=0.3).double()
    with torch.no_grad():
        for name, parameter in model.mlp.named_parameters():
            if "bias" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    batch = batch_of(data, 60)
    p = {k: v.detach().numpy() for k, v in model.named_parameters()}
    n_items = data.n_items
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)  # noqa: E731
    enc = np.concatenate([unit(data.features[m].astype(np.float64)) for m in ("image", "text")], axis=1)
    gates = [
        p["mlp.second.weight"] @ np.maximum(p["mlp.first.weight"] @ h + p["mlp.first.bias"], 0) + p["mlp.second.bias"]
        for h in enc
    ]
    con = p["item_id.weight"] * np.array(gates)
    s = np.zeros((n_items, n_items))
    has = [i for i in range(n_items) if i != 4]
    for i in has:
        near = sorted(has, key=lambda j: (-(2.0 if i == j else cosine(enc[i], enc[j])), j))[:3]
        for j in near:
            s[i, j] = max(cosine(enc[i], enc[j]), 0)
    degree = s.sum(1)
    for i in has:
        for j in has:
            s[i, j] /= np.sqrt(degree[i] * degree[j])
    mm_i = s @ con
    assert not mm_i[4].any()
    taken = data.matrix().toarray().astype(np.float64)
    r = np.zeros_like(taken)
    for u, i in zip(*taken.nonzero(), strict=True):
        r[u, i] = 1 / np.sqrt(taken[u].sum() * taken[:, i].sum())
    mm_u = r @ mm_i
    id_u = (p["user_id.weight"] + r @ p["item_id.weight"]) / 2
    id_i = (p["item_id.weight"] + r.T @ p["user_id.weight"]) / 2
    h_u, h_i = mm_u + id_u, mm_i + id_i
    users, items, negatives = (x.tolist() for x in (batch.users, batch.items, batch.negatives))
    assert 4 in items, "an item without content is in the batch"
    assert len(set(items)) < len(items)

    def info_nce(mm: np.ndarray, own: np.ndarray, ids: list[int]) -> float:
        parts = []
        for i in ids:
            others = [np.exp(cosine(mm[i], own[j]) / 0.3) for j in ids if j != i or not masked]
            positive = np.exp(cosine(mm[i], own[i]) / 0.3)
            parts.append(-np.log(positive / (sum(others) + (positive if masked else 0))))
        return float(np.mean(parts))

    with_content = [i for i in items if i != 4]
    gaps = [
        (cosine(mm_i[i], mm_i[j]) - cosine(enc[i], enc[j])) ** 2 if i != j else 0 for i in with_content for j in with_content
    ]
    expected = {
        "bpr": np.mean([np.log1p(np.exp(h_u[u] @ (h_i[j] - h_i[i]))) for u, i, j in zip(users, items, negatives, strict=True)]),
        "cca": info_nce(mm_u, id_u, users) + info_nce(mm_i, id_i, with_content),
        "uia": np.mean([1 - cosine(h_u[u], h_i[i]) for u, i in zip(users, items, strict=True)]),
        "reg": np.sqrt(np.mean(gaps)),
        "l2": np.mean(
            [
                sum(x @ x for x in (p["user_id.weight"][u], p["item_id.weight"][i], p["item_id.weight"][j])) / 2
                for u, i, j in zip(users, items, negatives, strict=True)
            ]
        ),
    }
    terms = model.losses(batch)
    for name, value in expected.items():
        # S is made of single precision
        assert terms[name].item() == pytest.approx(value, abs=1e-6), name
        assert model.losses(batch, {name})[name].item() == pytest.approx(value, abs=1e-6), name
    np.testing.assert_allclose(model.score(torch.tensor([3, 5])).detach().numpy(), h_u[[3, 5]] @ h_i.T, atol=1e-6)


def test_gates_and_fusions_are_what_they_say(tiny):
    e = AlignRec(tiny, dim=4, k=3, gate="none")
    mm_i = e.contents(e.encoding())[1]
    assert torch.allclose(mm_i, e.similar.to_dense() @ e.item_id.weight, atol=1e-6)
    content = AlignRec(tiny, dim=4, k=3, gate="content")
    assert torch.allclose(
        content.contents(content.encoding())[1], content.similar.to_dense() @ content.mlp(content.encoded), atol=1e-6
    )
    before = content.contents(content.encoding())[1]
    with torch.no_grad():
        content.item_id.weight.add_(1.0)
    assert torch.equal(content.contents(content.encoding())[1], before), "IDs play no part in it"
    sigmoid = AlignRec(tiny, dim=4, k=3, gate="sigmoid").mlp(e.encoded)
    assert 0 < sigmoid.min() < sigmoid.max() < 1
    mm, own = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(e.fuse(mm, own), mm + own)
    both = AlignRec(tiny, dim=4, k=3, fusion="concat").fuse(mm, own)
    assert torch.allclose(both @ both.T, mm @ mm.T + own @ own.T)
    attention = AlignRec(tiny, dim=4, k=3, fusion="attention")
    query, (first, _, last) = attention.fuse(mm, own), attention.attention
    for n in range(5):
        a = torch.stack([last(torch.tanh(first(h)))[0] for h in (mm[n], own[n])]).softmax(0)
        assert torch.allclose(query[n], a[0] * mm[n] + a[1] * own[n], atol=1e-6)


def test_equal_items_in_a_batch_do_not_push_each_other_away():
    a, b = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone = losses.info_nce(a[:1], b[:1], torch.tensor([5]))
    assert alone.item() == pytest.approx(0.0, abs=1e-12)
    assert losses.info_nce(a[:1], b[:1], torch.tensor([5]), mask_duplicates=False).item() == pytest.approx(np.log(5))
    for masked in (True, False):
        once = losses.info_nce(a, b, torch.ones(3), mask_duplicates=masked)
        assert once.item() == pytest.approx(losses.info_nce(a, b).item())
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / 0.2
    same = torch.eye(2)
    plain = torch.nn.functional.cross_entropy(logits, torch.arange(2)).item()
    assert losses.info_nce(same * 2 - 1, same * 3 - 1.5).item() == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("tau", [0.2, 0.01])
@pytest.mark.parametrize("masked", [True, False])
def test_info_nce_has_the_gradient_of_its_formula(masked, tau):
    g = torch.Generator().manual_seed(2)
    a, b = (torch.randn(6, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    count = torch.tensor([1, 3, 1, 2, 1, 4])

    def formula(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        row = torch.arange(6).repeat_interleave(count)  # the batch, with its duplicates
        unit = [torch.nn.functional.normalize(x, dim=1)[row] for x in (a, b)]
        logits = unit[0] @ unit[1].T / tau
        if masked:
            logits = logits.masked_fill((row[:, None] == row) & ~torch.eye(len(row), dtype=torch.bool), -torch.inf)
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(row)))

    ours = losses.info_nce(a, b, count, temperature=tau, mask_duplicates=masked)
    assert ours.item() == pytest.approx(formula(a, b).item(), abs=1e-9)
    for mine, theirs in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(formula(a, b), (a, b)), strict=True):
        torch.testing.assert_close(mine, theirs)
    half = [x.detach().float() for x in (a, b)]
    assert torch.isfinite(losses.info_nce(half[0], -half[0], count, temperature=tau, mask_duplicates=masked))


@pytest.mark.parametrize("n", [3, 40])
def test_similarity_gap_is_the_norm_whatever_way_it_is_computed(n):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(n, 4, generator=g, dtype=torch.float64, requires_grad=True)
    y = torch.randn(n, 6, generator=g, dtype=torch.float64)
    count = torch.randint(1, 4, (n,), generator=g)
    row = torch.arange(n).repeat_interleave(count)
    expected = (x[row] @ x[row].T - y[row] @ y[row].T).norm() / len(row)
    ours = losses.similarity_gap(x, y, count)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (ours, expected)))
    assert losses.similarity_gap(x, y).item() == pytest.approx(((x @ x.T - y @ y.T).norm() / n).item(), rel=1e-9)
    same = losses.similarity_gap(x, x.detach(), count)
    assert same.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(torch.autograd.grad(same, x)[0]).all()


def test_losses_over_no_row_are_zero(tiny):
    data = without(tiny, {"image": [0, 1, 2], "text": [0, 1, 2]})
    model = AlignRec(data, dim=4, k=3)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([0, 2]), torch.tensor([5, 6]))
    users, count = torch.unique(batch.users, return_counts=True)
    id_u, _, mm_u, _ = model.aggregated()
    terms = model.losses(batch)
    assert terms["reg"].item() == 0.0
    assert terms["cca"].item() == pytest.approx(model.info_nce(mm_u, id_u, users, count).item())
    model.total(terms, model.default_weights).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_reg_holds_content_to_the_encoder_and_stops_there(tiny):
    model = AlignRec(tiny, dim=4, k=3, trainable_features=True, gate="none")
    model.losses(batch_of(tiny), {"reg"})["reg"].backward()
    assert model.encoded.grad is None
    assert model.item_id.weight.grad.abs().sum() > 0
    one = batch_of(tiny, 1)
    model.item_id.weight.grad = None
    model.losses(one, {"reg"})["reg"].backward()  # one item is as similar to itself as it was: a root of zero
    assert torch.isfinite(model.item_id.weight.grad).all()


# -- which vectors ----------------------------------------------------------------------------------------------------------
def test_the_encoders_table_goes_before_the_others(tiny):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(tiny.n_items, 5)).astype(np.float32)
    table[3] = 0
    data = tiny.with_features({**tiny.features, "mmenc": table}, {**tiny.missing, "mmenc": np.arange(tiny.n_items) == 3})
    model = AlignRec(data, dim=4, k=3)
    assert model.encoded.shape == (tiny.n_items, 5)
    assert torch.equal(model.has, torch.arange(tiny.n_items) != 3)
    width = sum(tiny.features[m].shape[1] for m in ("image", "text"))
    every = AlignRec(data, dim=4, k=3, features=("image", "text"))
    assert every.encoded.shape == (tiny.n_items, width)
    assert AlignRec(data, dim=4, k=3, features="text").encoded.shape[1] == tiny.features["text"].shape[1]


def test_views_hold_the_pair_that_cca_aligns(tiny):
    model = AlignRec(tiny, dim=4, k=3)
    views = model.views()
    assert list(views) == [
        "user/id",
        "item/id",
        "user/content",
        "item/content",
        "item/encoder",
        "user/final",
        "item/final",
    ]
    assert torch.allclose(views["item/id"] + views["item/content"], views["item/final"])
    assert model.same_space


# -- joint training ---------------------------------------------------------------------------------------------------------
def test_only_a_joint_model_has_the_encoders_terms(tiny):
    staged, both = AlignRec(tiny, dim=4, k=3), joint(tiny)
    assert staged.terms == ("bpr", "cca", "uia", "reg", "l2")
    assert both.terms == tuple(AlignRec.default_weights)
    assert "mim" not in staged.losses(batch_of(tiny), {"mim", "bpr"})
    assert list(both.losses(batch_of(tiny))) == list(both.terms)


def test_recommendation_terms_reach_the_encoder_through_the_batchs_items_only(tiny):
    model = joint(tiny, n_fresh=0)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([8, 9]), torch.tensor([3, 5]))
    read = []
    inner = model.encoder.batch
    model.encoder.batch = lambda items: read.append(items.tolist()) or inner(items)
    term = model.losses(batch, {"bpr"})["bpr"]
    assert read == [[8, 9]]
    term.backward()
    assert model.encoder.mmenc.patch_place.grad.abs().sum() > 0
    for name in ("reg", "l2"):  # sg; and l2 is of E_id
        model.zero_grad()
        model.losses(batch, {name})[name].backward()
        if name == "l2":
            assert model.encoder.mmenc.patch_place.grad is None
    report = gradient_report(model, batch_of(tiny), dict(model.default_weights))
    assert {("bpr", "mim"), ("bpr", "mlm"), ("mim", "mlm")} <= set(report.cosines)


def test_fresh_rows_stand_in_the_cached_table(tiny):
    model = joint(tiny, n_fresh=0)
    model.begin_epoch(0)
    items = torch.tensor([1, 8, 20])
    first = model.fresh(items).h
    assert torch.allclose(first, model.encoding().h, atol=1e-5), "nothing has moved yet"
    with torch.no_grad():
        for parameter in model.encoder.mmenc.layers.parameters():
            parameter.mul_(1.5)
    second = model.fresh(items).h
    others = np.setdiff1d(np.arange(tiny.n_items), items)
    assert torch.equal(second[others], first[others]), "the rest is that of the epoch's beginning"
    assert (second[items] - first[items]).abs().max() > 1e-3
    model.begin_epoch(1)
    third = model.fresh(items).h
    assert (third[others] - first[others]).abs().max() > 1e-3
    assert model.encoding().h[3].abs().sum() == 0, "an item with nothing to see"
    assert not model.has[3]
    assert model.has[[5, 6]].all()


def test_no_more_items_are_encoded_than_asked_for(tiny):
    model = joint(tiny, n_fresh=5)
    items = torch.arange(6, 30)
    chosen = model.some(items)
    assert len(chosen) == len(set(chosen.tolist())) == 5
    assert set(chosen.tolist()) <= set(items.tolist())
    assert not torch.equal(chosen, model.some(items))
    assert torch.equal(model.some(items[:4]), items[:4])
    assert torch.equal(joint(tiny, n_fresh=0).some(items), items)


def test_scores_read_the_encoder_as_it_is(tiny):
    model = joint(tiny, gate="content")
    users = torch.arange(4)
    before = model.score(users)
    with torch.no_grad():
        model.encoder.mmenc.patch_in[0].weight.mul_(3.0)
    assert not torch.allclose(before, model.score(users))
    made = model.encoding()
    assert model.encoding() is made, "made anew only after the encoder has moved"


def test_the_encoder_has_a_step_size_of_its_own(tiny):
    model = joint(tiny, encoder_lr=0.0)
    trainer = Trainer(model, pictured(tiny), device="cpu", batch_size=64, lr=0.1, metrics_every=0)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.1, 0.0]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.epoch()
    for name, p in model.named_parameters():
        assert torch.equal(before[name], p) == name.startswith("encoder."), name


def test_joint_training_goes_on_from_a_checkpoint(tiny, tmp_path):
    data = pictured(tiny)
    records = []
    for broken in (False, True):
        model = joint(data, n_fresh=6)
        trainer = Trainer(model, data, device="cpu", batch_size=64, metrics_every=0)
        trainer.epoch()
        if broken:
            trainer.save(tmp_path / "state.pt")
            model = joint(data, n_fresh=6, seed=7)
            trainer = Trainer(model, data, device="cpu", batch_size=64, metrics_every=0)
            trainer.load(tmp_path / "state.pt")
        records.append(trainer.epoch().losses)
    assert records[0] == records[1]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda d: AlignRec(d, n_layers=-1), "out of range.*0 or more"),
        (lambda d: AlignRec(d, gate="tanh"), "unknown choice.*plain or sigmoid or none or content"),
        (lambda d: AlignRec(d, fusion="max"), "unknown choice.*sum or attention or concat"),
        (lambda d: AlignRec(d, reg_form="l1"), "unknown choice.*published or released"),
        (lambda d: AlignRec(d, regularizer="l1"), "unknown choice.*squared or propagated"),
        (lambda d: AlignRec(d, temperature=0.0), "temperature out of range"),
        (lambda d: AlignRec(d, k=0), r"number of neighbours out of range"),
        (lambda d: AlignRec(d, features=("sound",)), "unknown modality.*image, text"),
        (lambda d: AlignRec(d.with_features({})), "AlignRec needs item features"),
        (lambda d: AlignRec(d, strategy="joint"), "joint training needs pictures and captions.*no pictures"),
        (lambda d: AlignRec(d, strategy="both"), "unknown choice.*staged or joint"),
        (lambda d: joint(d, start="warm"), "unknown choice.*scratch or pretrained"),
        (lambda d: joint(d, features="text"), "reads pictures and captions, no feature tables"),
        (lambda d: joint(d, n_fresh=-1), "out of range"),
        (lambda d: joint(d, encoder_lr=-0.1), "step size out of range"),
    ],
)
def test_bad_settings_get_a_sentence(tiny, build, says):
    with pytest.raises((OptionError, DataError), match=says):
        build(tiny)
