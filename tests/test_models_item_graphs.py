"""LATTICE and FREEDOM: graphs of items. The contract, parity with the reference, explicit oracles, missing modalities, bad settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_tiny
from model_contract import ModelContract, batch_of
from test_models_bootstrap import close, fill, reference, without

from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import FREEDOM, LATTICE
from mmrec_teach.ops import graph
from mmrec_teach.training import Trainer


class TestFREEDOM(ModelContract):
    name = "freedom"
    options = {"dim": 8, "k": 5, "edge_dropout": 0.5}


class TestFREEDOMReleased(ModelContract):
    name = "freedom"
    options = {"dim": 8, "k": 5, "edge_dropout": 0.0, "projection_bias": True, "trainable_features": True}
    silent = {"modality.layers.0.bias", "modality.layers.1.bias"}  # an offset cancels in a difference of scores


class TestLATTICE(ModelContract):
    name = "lattice"
    options = {"dim": 8, "content_dim": 6, "k": 5}


class TestLATTICEReleased(ModelContract):
    name = "lattice"
    options = {
        "dim": 8,
        "content_dim": 8,
        "k": 5,
        "user_item_graph": "row",
        "trainable_features": True,
        "regularizer": "propagated",
    }


class TestLATTICELearningInEveryBatch(ModelContract):
    name = "lattice"
    options = {"dim": 8, "content_dim": 6, "k": 5, "graph_gradient": "every", "raw_share": 0.5}


NAMES = {
    "user_id.weight": "user_embedding.weight",
    "item_id.weight": "item_id_embedding.weight",
    "modality.table_0": "image_embedding.weight",
    "modality.table_1": "text_embedding.weight",
    "modality.layers.0.weight": "image_trs.weight",
    "modality.layers.0.bias": "image_trs.bias",
    "modality.layers.1.weight": "text_trs.weight",
    "modality.layers.1.bias": "text_trs.bias",
}


# -- parity ---------------------------------------------------------------------------------------------------------------
def test_freedom_equals_the_reference():
    z, data, batch = reference("freedom")
    model = FREEDOM(
        data,
        dim=8,
        k=int(z["hyper_knn_k"]),
        image_weight=float(z["hyper_image_weight"]),
        edge_dropout=0.0,
        projection_bias=True,
        trainable_features=True,
    )
    fill(model, z, NAMES)
    model.begin_epoch(0)
    close(model.similar.to_dense(), z["mm_adj"])
    users, items = model.final()
    close(users, z["user_out"])
    close(items, z["item_out"])
    total = model.total(model.losses(batch), {"bpr": 1.0, "bpr_content": float(z["hyper_reg_weight"])})
    close(total, z["loss_total"])
    total.backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, z[f"grad/{NAMES[name]}"])
    close(model.score(torch.arange(5)), z["scores_first_users"])


def test_lattice_equals_the_reference():
    z, data, batch = reference("lattice")
    model = LATTICE(
        data,
        dim=8,
        content_dim=8,
        n_layers=int(z["hyper_n_ui_layers"]),
        n_item_layers=int(z["hyper_n_item_layers"]),
        k=int(z["hyper_knn_k"]),
        raw_share=float(z["hyper_lambda"]),
        user_item_graph="row",
        trainable_features=True,
        regularizer="propagated",
    )
    names = {**NAMES, "modality_weight": "modal_weight"}
    fill(model, z, names)
    for m, name in enumerate(("image", "text")):
        close(getattr(model, f"similar_{m}").to_dense(), z[f"{name}_original_adj"])
    close(model.item_graph()[0].to_dense(), z["item_adj"])
    users, items = model.final()
    close(users, z["user_out"])
    close(items, z["item_out"])
    model.begin_epoch(0)
    total = model.total(model.losses(batch), {"bpr": 1.0, "l2": float(z["hyper_reg_weight"])})
    close(total, z["loss_total"])
    total.backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, z[f"grad/{names[name]}"])
    close(model.score(torch.arange(5)), z["scores_first_users"])
    # the batches after the epoch's first: the same graph, now a constant
    again = model.total(model.losses(batch), {"bpr": 1.0, "l2": float(z["hyper_reg_weight"])})
    close(again, z["loss_total"])
    model.zero_grad()
    again.backward()
    assert model.modality_weight.grad is None
    close(model.item_id.weight.grad, z["grad/item_id_embedding.weight"])


# -- explicit oracles -----------------------------------------------------------------------------------------------------
def knn(x: np.ndarray, here: np.ndarray, k: int, binary: bool) -> np.ndarray:
    """The k nearest by cosine, as loops; rows and columns of absent items stay empty."""
    n = len(x)
    result = np.zeros((n, n))
    for i in np.flatnonzero(here):
        order = []
        for j in np.flatnonzero(here):
            cos = x[i] @ x[j] / np.sqrt((x[i] @ x[i]) * (x[j] @ x[j]))
            order.append((-np.inf if i == j else -cos, j, 1.0 if i == j else max(cos, 0.0)))
        for _, j, cos in sorted(order)[:k]:
            result[i, j] = 1.0 if binary else cos
    return result


def normalized(s: np.ndarray) -> np.ndarray:
    result = np.zeros_like(s)
    for i, j in zip(*s.nonzero(), strict=True):
        result[i, j] = s[i, j] / np.sqrt(s[i].sum() * s[j].sum())
    return result


def lightgcn(taken: np.ndarray, users: np.ndarray, items: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    layers = [(users, items)]
    for _ in range(depth):
        next_users, next_items = np.zeros_like(users), np.zeros_like(items)
        for u, i in zip(*taken.nonzero(), strict=True):
            weight = 1 / np.sqrt(taken[u].sum() * taken[:, i].sum())
            next_users[u] += weight * layers[-1][1][i]
            next_items[i] += weight * layers[-1][0][u]
        layers.append((next_users, next_items))
    return sum(u for u, _ in layers) / (depth + 1), sum(i for _, i in layers) / (depth + 1)


MISSING = {"image": [0, 4, 7, 39], "text": [4, 9]}  # 4 has nothing; 39 is cold as well


def shares_of(data, alpha: dict[str, float]) -> list[dict[str, float]]:
    """Every item's weights over the modalities it has."""
    result = []
    for i in range(data.n_items):
        kept = {m: a for m, a in alpha.items() if not data.missing[m][i]}
        result.append({m: a / sum(kept.values()) for m, a in kept.items()})
    return result


def test_freedom_equals_its_formula_row_by_row():
    data = without(make_tiny(), MISSING)
    model = FREEDOM(data, dim=4, n_layers=2, n_item_layers=2, k=3, image_weight=0.2, edge_dropout=0.6).double()
    p = {k: v.detach().numpy() for k, v in model.named_parameters()}
    names, share = ("image", "text"), shares_of(data, {"image": 0.2, "text": 0.8})
    s = np.zeros((data.n_items, data.n_items))
    for m in names:
        part = normalized(knn(data.features[m].astype(np.float64), ~data.missing[m], 3, True))
        for i in range(data.n_items):
            s[i] += share[i].get(m, 0.0) * part[i]
    np.testing.assert_allclose(model.similar.to_dense().numpy(), s, atol=1e-7)
    similar = s @ (s @ p["item_id.weight"])

    def tables(taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        users, items = lightgcn(taken, p["user_id.weight"], p["item_id.weight"], 2)
        return users, items + similar

    users, items = tables(data.matrix().toarray().astype(np.float64))
    np.testing.assert_allclose(model.score(torch.tensor([2, 3])).detach().numpy(), users[[2, 3]] @ items.T, atol=1e-7)
    model.begin_epoch(0)
    thinned = model.thinned.to_dense()[: data.n_users, data.n_users :].numpy() > 0
    users, items = tables(thinned.astype(np.float64))
    batch = batch_of(data, 60)
    triples = list(zip(batch.users.tolist(), batch.items.tolist(), batch.negatives.tolist(), strict=True))
    pair = lambda x: np.log1p(np.exp(-x))  # noqa: E731
    terms = model.losses(batch)
    assert terms["bpr"].item() == pytest.approx(
        np.mean([pair(users[u] @ (items[i] - items[j])) for u, i, j in triples]), abs=1e-7
    )
    content = 0.0
    for m, name in enumerate(names):
        w, f = p[f"modality.layers.{m}.weight"], data.features[name].astype(np.float64)
        gone = data.missing[name]
        kept = [(u, i, j) for u, i, j in triples if not gone[i] and not gone[j]]
        assert len(kept) < len(triples)
        content += np.mean([pair(users[u] @ (w @ f[i] - w @ f[j])) for u, i, j in kept])
    assert terms["bpr_content"].item() == pytest.approx(content, abs=1e-7)


@pytest.mark.parametrize("every", [False, True])
def test_lattice_equals_its_formula_row_by_row_and_its_dense_gradient(every):
    data = without(make_tiny(), MISSING)
    k, raw_share, n_items = 4, 0.6, data.n_items
    model = LATTICE(
        data,
        dim=4,
        content_dim=5,
        n_layers=1,
        n_item_layers=2,
        k=k,
        raw_share=raw_share,
        graph_gradient="every" if every else "first",
    ).double()
    with torch.no_grad():
        model.modality_weight.copy_(torch.tensor([0.3, -0.5]))
        for layer in model.modality.layers:
            layer.bias.normal_(generator=torch.Generator().manual_seed(3))
    p = {name: v.detach().clone().requires_grad_() for name, v in model.named_parameters()}
    names = ("image", "text")
    alpha = p["modality_weight"].softmax(0)
    raw = torch.zeros(n_items, n_items, dtype=torch.float64)
    mined = torch.zeros_like(raw)
    here = {m: ~data.missing[m] for m in names}
    for i in range(n_items):
        total = sum(alpha[m] for m, name in enumerate(names) if here[name][i])
        for m, name in enumerate(names):
            if not here[name][i]:
                continue
            f = torch.from_numpy(data.features[name].astype(np.float64))
            h = f @ p[f"modality.layers.{m}.weight"].T + p[f"modality.layers.{m}.bias"]
            raw_m = normalized(knn(f.numpy(), here[name], k, False))
            raw[i] = raw[i] + alpha[m] / total * torch.from_numpy(raw_m[i])
            for j in np.flatnonzero(knn(h.detach().numpy(), here[name], k, True)[i]):
                cos = torch.dot(h[i], h[j]) / (h[i].norm() * h[j].norm())
                mined[i, j] = mined[i, j] + alpha[m] / total * cos.clamp_min(0)
    degree = mined.sum(1)
    scale = torch.where(degree > 0, degree.clamp_min(1e-12) ** -0.5, torch.zeros_like(degree))
    a = raw_share * raw + (1 - raw_share) * scale[:, None] * mined * scale[None]
    assert a[4].abs().sum() == 0  # nothing known of it, nothing said
    np.testing.assert_allclose(model.item_graph()[0].to_dense().numpy(), a.detach().numpy(), atol=1e-7)
    smooth = a @ (a @ p["item_id.weight"])
    adjacency = model.adjacency.to_dense()
    e = torch.cat([p["user_id.weight"], p["item_id.weight"]])
    users, items = ((e + adjacency @ e) / 2).split([data.n_users, n_items])
    items = items + smooth / smooth.norm(dim=1, keepdim=True).clamp_min(1e-12)
    np.testing.assert_allclose(
        model.score(torch.tensor([2, 3])).detach().numpy(), (users[[2, 3]] @ items.T).detach().numpy(), atol=1e-7
    )
    batch = batch_of(data, 60)
    x = (users[batch.users] * (items[batch.items] - items[batch.negatives])).sum(1)
    expected = -torch.nn.functional.logsigmoid(x).mean()
    expected.backward()
    for step in range(2):
        model.zero_grad()
        ours = model.losses(batch, {"bpr"})["bpr"]
        assert ours.item() == pytest.approx(expected.item(), abs=1e-7)
        ours.backward()
        for name, parameter in model.named_parameters():
            if step and not every and name not in ("user_id.weight", "item_id.weight"):
                assert parameter.grad is None  # a constant after the epoch's first batch
            else:
                np.testing.assert_allclose(parameter.grad.numpy(), p[name].grad.numpy(), atol=1e-7, err_msg=name)


# -- FREEDOM's thinned graph ------------------------------------------------------------------------------------------------
def test_freedom_draws_few_edges_anew_each_epoch_and_scores_with_all(tiny):
    model = FREEDOM(tiny, dim=4, k=3, edge_dropout=0.75)
    before = model.score(torch.arange(3))
    drawn = []
    for epoch in range(2):
        model.begin_epoch(epoch)
        drawn.append(model.thinned.to_dense())
        assert (drawn[-1] > 0).sum() == 2 * int(len(tiny.train) * 0.25)
    assert not torch.equal(*drawn)
    assert torch.equal(model.score(torch.arange(3)), before)
    same = FREEDOM(tiny, dim=4, k=3, edge_dropout=0.75)
    same.begin_epoch(0)
    assert torch.equal(same.thinned.to_dense(), drawn[0])


def test_freedom_drops_edges_between_busy_nodes_first(tiny):
    model = FREEDOM(tiny, dim=4, k=3, edge_dropout=0.95)
    users, items = tiny.train.users, tiny.train.items
    kept, draws = np.zeros(len(users)), 5000
    for _ in range(draws):
        kept[model.draw()] += 1
    chance = 1 / np.sqrt(tiny.user_counts[users] * tiny.item_counts[items])
    assert np.corrcoef(kept, chance)[0, 1] > 0.95
    # a twentieth of the edges is drawn, nearly independently: the share kept is nearly the chance
    expected = chance / chance.sum() * int(len(users) * 0.05) * draws
    assert np.abs(kept / expected - 1).mean() < 0.06


def test_freedom_alpha(tiny):
    share = lambda data, **options: FREEDOM(data, dim=2, k=3, **options).modality.names  # noqa: E731
    assert share(tiny, modalities="text") == ("text",)
    three = tiny.with_features({**tiny.features, "audio": tiny.features["text"][:, ::-1].copy()})
    by_name = FREEDOM(three, dim=2, k=3, modality_weights={"image": 1, "text": 5, "audio": 4})
    by_default = FREEDOM(three, dim=2, k=3, image_weight=0.1)
    parts = {m: graph.knn_graph(three.features[m], 3, weights="binary").to_dense() for m in three.features}
    expected = 0.1 * parts["image"] + 0.45 * parts["text"] + 0.45 * parts["audio"]
    assert torch.allclose(by_default.similar.to_dense(), expected, atol=1e-6)
    expected = 0.1 * parts["image"] + 0.5 * parts["text"] + 0.4 * parts["audio"]
    assert torch.allclose(by_name.similar.to_dense(), expected, atol=1e-6)


# -- content, and its absence -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("build", [FREEDOM, LATTICE])
def test_a_cold_item_speaks_through_its_neighbours(tiny, build):
    cold = np.flatnonzero(tiny.cold_items)[0]
    data = without(tiny, {"image": [int(cold)], "text": [int(cold)]})
    knows, mute = build(tiny, dim=4, k=4).views()["item/content"], build(data, dim=4, k=4).views()["item/content"]
    assert knows[cold].abs().sum() > 0
    assert mute[cold].abs().sum() == 0
    assert torch.isfinite(mute).all()


@pytest.mark.parametrize("build", [FREEDOM, LATTICE])
def test_missing_modalities_say_nothing_and_train(build):
    data = without(make_tiny(), MISSING)
    options = {"projection_bias": True} if build is FREEDOM else {}
    model = build(data, dim=4, k=4, **options)
    with torch.no_grad():
        for layer in model.modality.layers:
            layer.bias.fill_(1.0)
    assert model.views()["item/image"][[0, 4, 7]].abs().sum() == 0
    record = Trainer(model, data, device="cpu", batch_size=64, metrics_every=0).epoch()
    assert np.isfinite(record.total)


def test_lattice_searches_neighbours_once_an_epoch(tiny, monkeypatch):
    calls = []
    original = graph.nearest
    monkeypatch.setattr(graph, "nearest", lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    model = LATTICE(tiny, dim=4, k=4)
    calls.clear()
    trainer = Trainer(model, tiny, device="cpu", batch_size=16, lr=0.05)
    for _ in range(3):
        trainer.epoch()  # training and evaluation share a search: content moves in an epoch's first batch only
    assert len(calls) == 2 * (3 + 1)


def test_lattice_graph_follows_its_parameters(tiny):
    model = LATTICE(tiny, dim=4, k=4, raw_share=0.0)
    before = model.item_graph()[0].to_dense()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for layer in model.modality.layers:
            layer.weight.normal_(generator=torch.Generator().manual_seed(1))
    assert not torch.equal(model.item_graph()[0].to_dense(), before)
    model.load_state_dict(state)
    assert torch.equal(model.item_graph()[0].to_dense(), before)


def test_lattice_on_raw_features_alone(tiny):
    model = LATTICE(tiny, dim=4, k=4, raw_share=1.0)
    expected = sum(graph.knn_graph(tiny.features[m], 4).to_dense() for m in ("image", "text")) / 2
    assert torch.allclose(model.item_graph()[0].to_dense(), expected, atol=1e-6)


@pytest.mark.parametrize("build", [FREEDOM, LATTICE])
def test_without_item_layers_the_graph_is_silent(tiny, build):
    model = build(tiny, dim=4, k=4, n_item_layers=0)
    users, items = model.final()
    reference = torch.cat([model.user_id.weight, model.item_id.weight])
    layer, total = reference, reference
    for _ in range(2):
        layer = graph.propagate(model.adjacency, layer)
        total = total + layer
    assert torch.allclose(torch.cat([users, items]), total / 3, atol=1e-6)


# -- graph pieces ---------------------------------------------------------------------------------------------------------
def test_products_with_a_directed_matrix_have_the_dense_gradient():
    x = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = graph.knn_graph(x, 3, normalization="row")
    assert torch.equal(graph.transposed(s).to_dense(), s.to_dense().T)
    h = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: graph.propagate(s, t, graph.transposed(s)), (h,))


def test_row_normalised_graph_is_the_mean_of_neighbours_and_self(tiny):
    taken = tiny.matrix().toarray().astype(np.float64)
    n = tiny.n_users
    a = np.eye(n + tiny.n_items)
    a[:n, n:], a[n:, :n] = taken, taken.T
    ours = graph.row_normalized_adjacency(tiny.train.users, tiny.train.items, n, tiny.n_items, torch.float64)
    np.testing.assert_allclose(ours.to_dense().numpy(), a / a.sum(1, keepdims=True), atol=1e-12)


def test_mixed_adds_scaled_rows():
    graphs = [graph.knn_graph(torch.randn(8, 3, generator=torch.Generator().manual_seed(s)), 3) for s in range(2)]
    weights = torch.rand(8, 2, generator=torch.Generator().manual_seed(5))
    expected = sum(weights[:, m, None] * g.to_dense() for m, g in enumerate(graphs))
    assert torch.allclose(graph.mixed(graphs, weights).to_dense(), expected)


# -- clear errors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda d: FREEDOM(d, n_layers=-1), r"depth out of range.*n_layers|n_layers.*depth out of range"),
        (lambda d: FREEDOM(d, n_item_layers=1.5), "depth out of range"),
        (lambda d: FREEDOM(d, edge_dropout=1.0), "edge dropout out of range"),
        (lambda d: FREEDOM(d, k=0), "number of neighbours out of range"),
        (lambda d: FREEDOM(d, k=41), "1 to 40 for 40 items"),
        (lambda d: FREEDOM(d, image_weight=1.2), "weight out of range"),
        (lambda d: FREEDOM(d, modality_weights={"image": 1.0}), "not one weight per modality.*image, text"),
        (lambda d: FREEDOM(d, modality_weights={"image": 0, "text": 0}), "not all 0"),
        (lambda d: FREEDOM(d.with_features({})), "FREEDOM needs item features"),
        (lambda d: LATTICE(d, n_layers="two"), "depth out of range"),
        (lambda d: LATTICE(d, raw_share=-0.1), "share out of range"),
        (lambda d: LATTICE(d, graph_gradient="never"), "unknown choice.*first or every"),
        (lambda d: LATTICE(d, user_item_graph="cosine"), "unknown choice.*symmetric or row"),
        (lambda d: LATTICE(d, regularizer="l1"), "unknown choice.*squared or propagated"),
        (lambda d: LATTICE(d, modalities=()), "LATTICE needs item features"),
        (lambda d: LATTICE(d, modalities="smell"), "unknown modality.*'smell'"),
    ],
)
def test_bad_settings_get_a_sentence(tiny, build, says):
    with pytest.raises((OptionError, DataError), match=says):
        build(tiny)
