"""MMGCN, GRCN and DualGNN equal their formulas, written out as loops in float64; so do the sparse products under them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_tiny
from model_contract import ModelContract, batch_of

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import GRCN, MMGCN, DualGNN, Recommender, create
from mmrec_teach.ops import sparse
from mmrec_teach.ops.sparse import EdgePattern, co_occurrence_graph, segment_softmax
from mmrec_teach.training import fit

TRAINING = {"epochs": 25, "patience": 25, "lr": 0.03, "metric": "ndcg@20"}


class TestMMGCN(ModelContract):
    training = TRAINING
    name = "mmgcn"
    options = {"dim": 8, "latent_dim": 6}


class TestMMGCNSum(ModelContract):
    training = TRAINING
    name = "mmgcn"
    options = {"dim": 8, "latent_dim": 0, "combination": "sum", "fusion": "sum", "n_layers": 1}


class TestGRCN(ModelContract):
    training = TRAINING
    name = "grcn"
    options = {"dim": 8, "content_dim": 6}


class TestGRCNAttended(ModelContract):
    training = TRAINING
    name = "grcn"
    options = {"dim": 8, "content_dim": 6, "attend_content": True}


class TestDualGNN(ModelContract):
    training = TRAINING
    name = "dualgnn"
    options = {"dim": 8, "n_neighbours": 3}


class TestDualGNNSum(ModelContract):
    training = TRAINING
    name = "dualgnn"
    options = {"dim": 8, "n_neighbours": 5, "fusion": "sum"}


# -- data with holes ------------------------------------------------------------------------------------------------------
def holed(names: tuple[str, ...] = ("image", "text"), seed: int = 0) -> Dataset:
    """The tiny data under these modality names; with several, some items lack one and three (0 and 1 warm, 39 cold) lack all."""
    data, rng = make_tiny(seed), np.random.default_rng(seed + 1)
    features, missing = {}, {}
    for n, name in enumerate(names):
        lacks = np.zeros(data.n_items, dtype=bool)
        lacks[[0, 1, 39]] = True
        lacks[3 + n :: 5] = True
        table = rng.normal(size=(data.n_items, 4 + n)).astype(np.float32)
        table[lacks] = 0.0
        features[name], missing[name] = table, lacks
    return data.with_features(features, missing)


def parameters(model: Recommender) -> dict[str, np.ndarray]:
    return {k: v.detach().numpy() for k, v in model.named_parameters()}


def stirred(model: Recommender, seed: int = 5) -> Recommender:
    """The model in double precision with every parameter moved away from its (perhaps symmetric) start."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    if isinstance(model, DualGNN):  # its 1 / (√|N_u| √|N_i|) were rounded to single precision: compute them anew
        for channel in model.channels:
            starts, columns, size = channel.adjacency.crow_indices(), channel.adjacency.col_indices(), channel.adjacency.shape
            degree = starts.diff().double()
            values = (degree.repeat_interleave(starts.diff()) * degree[columns.long()]).rsqrt()
            channel.adjacency = torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return model


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def unit(x: np.ndarray) -> np.ndarray:
    length = math.sqrt(float(x @ x))
    return x / length if length > 0 else x


def neighbourhoods(data: Dataset) -> tuple[list[list[int]], list[list[int]]]:
    """Return the items of every user and the users of every item."""
    of_user: list[list[int]] = [[] for _ in range(data.n_users)]
    of_item: list[list[int]] = [[] for _ in range(data.n_items)]
    for u, i in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        of_user[u].append(i)
        of_item[i].append(u)
    return of_user, of_item


def has(data: Dataset, i: int) -> list[str]:
    """Return the modalities item i has."""
    return [name for name in data.modalities if not data.missing[name][i]]


def softmax(values: dict) -> dict:
    total = sum(math.exp(v) for v in values.values())
    return {k: math.exp(v) / total for k, v in values.items()}


# -- the three models, slowly ---------------------------------------------------------------------------------------------
def mmgcn_oracle(model: MMGCN, data: Dataset, combination: str = "concat", normalize: bool = True, total: bool = False):
    """Return u* and i*."""
    p, n_users, n_items = parameters(model), data.n_users, data.n_items
    of_user, of_item = neighbourhoods(data)
    ids = np.concatenate([p["user_id.weight"], p["item_id.weight"]])
    per_modality = {}
    for m, name in enumerate(data.modalities):
        f = data.features[name].astype(np.float64)
        key = f"channels.{m}."
        x = []
        for u in range(n_users):
            x.append(p[key + "preference.weight"][u])
        for i in range(n_items):
            x.append(p[key + "projection.weight"] @ f[i] if key + "projection.weight" in p else f[i])
        if normalize:
            x = [unit(v) for v in x]
        for layer in range(model.n_layers):
            w1, w2, w3 = (p[f"{key}w{n}.{layer}.weight"] for n in (1, 2, 3))
            after = []
            for node in range(n_users + n_items):
                if node < n_users:
                    around = [n_users + i for i in of_user[node] if name in has(data, i)]
                else:
                    around = of_item[node - n_users] if name in has(data, node - n_users) else []
                mean = np.zeros(len(w1))
                for other in around:
                    mean = mean + (w1 @ x[other]) / len(around)
                h = leaky(mean)
                own = leaky(w2 @ x[node]) + ids[node]
                after.append(leaky(w3 @ np.concatenate([h, own])) if combination == "concat" else leaky(w3 @ h + own))
            x = after
        per_modality[name] = x
    final = []
    for node in range(n_users + n_items):
        if node < n_users:
            counts = [name for name in data.modalities if any(name in has(data, i) for i in of_user[node])]
            counts = counts or list(data.modalities)
        else:
            counts = has(data, node - n_users)
        if not counts:
            final.append(ids[node])
            continue
        mean = sum(per_modality[name][node] for name in counts) / len(counts)
        final.append(mean * len(data.modalities) if total else mean)
    return np.array(final[:n_users]), np.array(final[n_users:])


def grcn_oracle(model: GRCN, data: Dataset, attend: bool = False, pruning: bool = True):
    """Return u*, i* and the two confidences as {(u, i): s}."""
    p, n_users, n_items = parameters(model), data.n_users, data.n_items
    of_user, of_item = neighbourhoods(data)
    pairs = [(u, i) for u in range(n_users) for i in of_user[u]]
    content_users, content_items, toward_user, toward_item = [], [], [], []
    for m, name in enumerate(data.modalities):
        w, b = p[f"projection.{m}.weight"], p[f"projection.{m}.bias"]
        items = {
            i: unit(leaky(w @ data.features[name][i].astype(np.float64) + b)) for i in range(n_items) if name in has(data, i)
        }
        users = [unit(p[f"preference.{m}.weight"][u]) for u in range(n_users)]
        for u in range(n_users):
            near = [i for i in of_user[u] if i in items]
            for _ in range(model.n_routing):
                share = softmax({i: users[u] @ items[i] for i in near})
                users[u] = unit(users[u] + sum((share[i] * items[i] for i in near), np.zeros(len(b))))
        to_user, to_item = {}, {}
        for u in range(n_users):
            for i, s in softmax({i: users[u] @ items[i] for i in of_user[u] if i in items}).items():
                to_user[u, i] = s
        for i in items:
            for u, s in softmax({u: users[u] @ items[i] for u in of_item[i]}).items():
                to_item[u, i] = s
        zero = np.zeros(len(b))
        shown_users, shown_items = list(users), [items.get(i, zero) for i in range(n_items)]
        if attend:
            for (u, i), s in to_user.items():
                shown_users[u] = shown_users[u] + s * items[i]
            for (u, i), s in to_item.items():
                shown_items[i] = shown_items[i] + s * users[u]
        content_users.append(shown_users)
        content_items.append(shown_items)
        toward_user.append(to_user)
        toward_item.append(to_item)
    from_item, from_user = {}, {}
    for u, i in pairs:
        of_pair = [m for m, name in enumerate(data.modalities) if name in has(data, i)]
        if of_pair:
            from_item[u, i] = max(p["base"][n_users + i, m] * toward_user[m][u, i] for m in of_pair)
            from_user[u, i] = max(p["base"][u, m] * toward_item[m][u, i] for m in of_pair)
        else:
            from_item[u, i], from_user[u, i] = 1 / len(of_user[u]), 1 / len(of_item[i])
        if pruning:
            from_item[u, i], from_user[u, i] = max(from_item[u, i], 0.0), max(from_user[u, i], 0.0)
    users, items = p["user_id.weight"], p["item_id.weight"]
    sum_users, sum_items = users.copy(), items.copy()
    for _ in range(model.n_layers):
        next_users, next_items = np.zeros_like(users), np.zeros_like(items)
        for u, i in pairs:
            next_users[u] += from_item[u, i] * items[i]
            next_items[i] += from_user[u, i] * users[u]
        users, items = next_users, next_items
        sum_users, sum_items = sum_users + users, sum_items + items
    final_users = [np.concatenate([sum_users[u], *(c[u] for c in content_users)]) for u in range(n_users)]
    final_items = []
    for i in range(n_items):
        scale = len(data.modalities) / max(len(has(data, i)), 1)
        final_items.append(np.concatenate([sum_items[i], *(scale * c[i] for c in content_items)]))
    return np.array(final_users), np.array(final_items), from_item, from_user


def dualgnn_oracle(model: DualGNN, data: Dataset, k: int, fusion: str = "concat", normalize: bool = True):
    """Return u* and i*."""
    p, n_users, n_items = parameters(model), data.n_users, data.n_items
    of_user, of_item = neighbourhoods(data)
    names = data.modalities
    user_m, item_m = {}, {}
    for m, name in enumerate(names):
        w = p[f"channels.{m}.projection.weight"]
        users = [p[f"channels.{m}.preference.weight"][u] for u in range(n_users)]
        items = [w @ data.features[name][i].astype(np.float64) for i in range(n_items)]
        if normalize:
            users, items = [unit(v) for v in users], [unit(v) for v in items]
        items_of = [[i for i in of_user[u] if name in has(data, i)] for u in range(n_users)]
        users_of = [of_item[i] if name in has(data, i) else [] for i in range(n_items)]
        sums = [u.copy() for u in users], [i.copy() for i in items]
        for _ in range(model.n_layers):
            next_users, next_items = [0.0 * v for v in users], [0.0 * v for v in items]
            for u in range(n_users):
                for i in items_of[u]:
                    norm = math.sqrt(len(items_of[u])) * math.sqrt(len(users_of[i]))
                    next_users[u] = next_users[u] + items[i] / norm
                    next_items[i] = next_items[i] + users[u] / norm
            users, items = next_users, next_items
            sums = [a + b for a, b in zip(sums[0], users, strict=True)], [a + b for a, b in zip(sums[1], items, strict=True)]
        user_m[name], item_m[name] = sums
    multi = []
    for u in range(n_users):
        met = [name for name in names if any(name in has(data, i) for i in of_user[u])] or list(names)
        if len(names) > 1:
            alpha = softmax({name: p["attention"][u, names.index(name)] for name in met})
        else:
            alpha = {names[0]: 1.0}
        parts = [alpha.get(name, 0.0) * user_m[name][u] for name in names]
        multi.append(np.concatenate(parts) if fusion == "concat" else sum(parts))
    final_users = []
    for u in range(n_users):
        shared = {v: len(set(of_user[u]) & set(of_user[v])) for v in range(n_users) if v != u}
        nearest = sorted((v for v in shared if shared[v]), key=lambda v, shared=shared: (-shared[v], v))[:k]
        weight = softmax({v: shared[v] for v in nearest})
        final_users.append(multi[u] + sum((weight[v] * multi[v] for v in nearest), 0.0 * multi[u]))
    final_items = []
    for i in range(n_items):
        mine = has(data, i)
        parts = [len(names) / max(len(mine), 1) * item_m[name][i] * (name in mine) for name in names]
        final_items.append(np.concatenate(parts) if fusion == "concat" else sum(parts))
    return np.array(final_users), np.array(final_items)


CASES = {
    "mmgcn": (lambda d: MMGCN(d, dim=4, latent_dim=3), mmgcn_oracle),
    "mmgcn-one-layer-sum": (
        lambda d: MMGCN(d, dim=4, latent_dim=0, n_layers=1, combination="sum", fusion="sum", normalize=False),
        lambda model, d: mmgcn_oracle(model, d, combination="sum", normalize=False, total=True),
    ),
    "mmgcn-deep": (lambda d: MMGCN(d, dim=3, latent_dim=5, n_layers=3), mmgcn_oracle),
    "grcn": (lambda d: GRCN(d, dim=4, content_dim=3), lambda model, d: grcn_oracle(model, d)[:2]),
    "grcn-attended": (
        lambda d: GRCN(d, dim=4, content_dim=3, n_layers=1, n_routing=1, attend_content=True, base="xavier"),
        lambda model, d: grcn_oracle(model, d, attend=True)[:2],
    ),
    "grcn-unpruned": (
        lambda d: GRCN(d, dim=4, content_dim=3, n_layers=3, n_routing=0, base="xavier", pruning=False),
        lambda model, d: grcn_oracle(model, d, pruning=False)[:2],
    ),
    "dualgnn": (lambda d: DualGNN(d, dim=4, n_neighbours=3), lambda model, d: dualgnn_oracle(model, d, 3)),
    "dualgnn-sum": (
        lambda d: DualGNN(d, dim=4, n_neighbours=40, n_layers=3, fusion="sum", normalize=False),
        lambda model, d: dualgnn_oracle(model, d, 40, fusion="sum", normalize=False),
    ),
}
DATA = {
    "tiny": make_tiny,
    "holed": holed,
    "audio alone": lambda: holed(("audio",)),
    "three, oddly named": lambda: holed(("id", "a.b/c", "keys")),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("case", CASES)
def test_forward_scores_and_terms_are_the_formulas(case, data):
    build, oracle = CASES[case]
    data = DATA[data]()
    model = stirred(build(data))
    users, items = oracle(model, data)
    views = model.views()
    np.testing.assert_allclose(views["user/final"].detach().numpy(), users, atol=1e-10)
    np.testing.assert_allclose(views["item/final"].detach().numpy(), items, atol=1e-10)
    np.testing.assert_allclose(model.score(torch.arange(5)).detach().numpy(), users[:5] @ items.T, atol=1e-10)
    batch = batch_of(data)
    u, i, j = (t.tolist() for t in (batch.users, batch.items, batch.negatives))
    bpr = np.mean([math.log1p(math.exp(users[a] @ items[c] - users[a] @ items[b])) for a, b, c in zip(u, i, j, strict=True)])
    terms = model.losses(batch)
    assert terms["bpr"].item() == pytest.approx(bpr, abs=1e-10)
    squares = 0.0
    for name, table in parameters(model).items():
        rows = {"user_id": [u], "item_id": [i, j]}.get(name.split(".")[0], [u] if "preference" in name else [])
        squares += sum((table[k] ** 2).sum() for k in rows)
    assert terms["l2"].item() == pytest.approx(squares / (2 * len(u)), abs=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_finite_differences(case):
    data = holed()
    model, batch = stirred(CASES[case][0](data)), batch_of(holed(), 64)
    model.total(model.losses(batch), {"bpr": 1.0, "l2": 0.1}).backward()
    rng = np.random.default_rng(0)

    def loss() -> float:
        with torch.no_grad():
            return model.total(model.losses(batch), {"bpr": 1.0, "l2": 0.1}).item()

    for name, p in model.named_parameters():
        flat, gradient = p.data.view(-1), p.grad.reshape(-1)
        for at in {int(gradient.abs().argmax()), *rng.integers(len(flat), size=3).tolist()}:
            before, step = flat[at].item(), 1e-6
            flat[at] = before + step
            above = loss()
            flat[at] = before - step
            below = loss()
            flat[at] = before
            assert gradient[at].item() == pytest.approx((above - below) / (2 * step), abs=1e-7, rel=1e-5), (name, at)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", ["mmgcn", "grcn", "dualgnn"])
def test_every_parameter_learns(name, data):
    """Two epochs move every parameter, a user's preferences above all; features are not parameters at all."""
    data = DATA[data]()
    model = create(name, data, dim=4)
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    assert sum("preference" in k for k in before) == len(data.modalities)
    fit(model, data, epochs=2, progress=False, device="cpu", batch_size=32)
    for k, v in model.named_parameters():
        assert not torch.equal(v, before[k]), k
        if "preference" in k:
            assert (v != before[k]).any(1).all(), k


# -- missing modalities ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["mmgcn", "grcn", "dualgnn"])
def test_a_missing_modality_has_no_opinion(name):
    """Not the picture model's parameters, whatever they are, can move an item without a picture, or a user who met none."""
    data = holed()
    data = data.with_features(dict(data.features), {**data.missing, "text": np.zeros(data.n_items, dtype=bool)})
    model = stirred(create(name, data, dim=4))
    without, image = data.missing["image"], list(data.features).index("image")
    assert not model.views()["item/image"][without].any()
    before = model.views()["item/final"].detach().clone()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.startswith((f"channels.{image}.", f"projection.{image}.", f"preference.{image}.")):
                p.mul_(-1.7).add_(0.1)
    after = model.views()["item/final"]
    # GRCN's pictures speak to the IDs of every neighbour: only the content parts stay
    parts = slice(4, None) if name == "grcn" else slice(None)
    first_hop = after[without][:, parts] - before[without][:, parts]
    if name == "mmgcn":  # nothing of the picture graph enters, the words' graph has its own layers
        assert not first_hop.any()
    else:
        assert first_hop.abs().max() < 1e-12
    assert (after[~without] - before[~without]).abs().amax(1).min() > 1e-4


def test_an_item_without_any_modality():
    data = holed()
    mmgcn, grcn, dualgnn = (stirred(create(n, data, dim=4)) for n in ("mmgcn", "grcn", "dualgnn"))
    for i in (0, 1, 39):
        assert torch.equal(mmgcn.views()["item/final"][i], mmgcn.item_id.weight[i])
        assert not grcn.views()["item/final"][i, 4:].any()
        assert grcn.views()["item/final"][i, :4].any()
        assert not dualgnn.score(torch.arange(data.n_users))[:, i].any()
    _, _, from_item, from_user = grcn.refine()
    degree = torch.bincount(grcn.edges.rows, minlength=data.n_users), torch.bincount(grcn.edges.columns, minlength=data.n_items)
    at = (grcn.edges.columns == 0).nonzero()[:, 0]
    assert len(at)
    torch.testing.assert_close(from_item[at], 1.0 / degree[0][grcn.edges.rows[at]], check_dtype=False)
    torch.testing.assert_close(from_user[at], 1.0 / degree[1][grcn.edges.columns[at]], check_dtype=False)


@pytest.mark.parametrize("name", ["mmgcn", "grcn", "dualgnn"])
def test_users_and_items_without_interactions(name):
    """A user nobody trained on and a shop of items of which most are cold give finite tables and gradients."""
    data = holed()
    kept = data.train.users != 4
    gone = replace(
        data,
        train=data.train.select(kept),
        valid=data.valid.select(data.valid.users != 4),
        test=data.test.select(data.test.users != 4),
    )
    model = create(name, gone, dim=4)
    for view in model.views().values():
        assert torch.isfinite(view).all()
    model.total(model.losses(batch_of(gone, 64)), {"bpr": 1.0, "l2": 0.1}).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", ["mmgcn", "grcn", "dualgnn"])
def test_modalities_are_chosen_by_name(name):
    data = holed(("image", "text", "audio"))
    model = create(name, data, dim=4, modalities=("audio", "image"))
    assert model.modalities == ("audio", "image")
    assert {"item/audio", "item/image"} <= set(model.views())
    assert "item/text" not in model.views()
    assert {"user/modality-id", "user/id" if name != "dualgnn" else "user/final"} <= set(
        create(name, holed(("id",)), dim=4).views()
    )


# -- what is particular to each -------------------------------------------------------------------------------------------
def test_grcn_prunes_edges_whose_base_is_negative_and_no_others():
    data = holed()
    model = GRCN(data, dim=4)
    with torch.no_grad():
        model.base[data.n_users + 5] = -1.0  # item 5 is not to be believed
    _, _, from_item, from_user = model.refine()
    pruned = model.edges.columns == 5
    assert pruned.any()
    assert not from_item[pruned].any()
    assert (from_item[~pruned] > 0).all()
    assert (from_user > 0).all()  # users still speak to it


def test_grcn_doubts_the_item_that_does_not_fit():
    """A user of seven alike items and a stranger: routing gathers the seven, and the stranger's edge weighs least."""
    data = make_tiny()
    users, items = np.repeat(np.arange(30), 8), np.tile(np.r_[np.arange(7), 39], 30)
    look = np.tile(np.float32([1.0, 0.0, 0.0]), (40, 1))
    look[39] = [0.0, 1.0, 0.0]
    empty = data.valid.select(np.zeros(0, dtype=np.int64))
    one = replace(data, train=type(data.train)(users, items), valid=empty, test=empty, features={"image": look}, missing={})
    model = GRCN(one, content_dim=3)
    with torch.no_grad():
        model.projection[0].weight.copy_(torch.eye(3))
        model.projection[0].bias.zero_()
        model.preference[0].weight.copy_(torch.tensor([0.0, 0.0, 1.0]))  # like neither
    _, _, from_item, _ = model.refine()
    weights = from_item.view(30, 8)  # a row a user, the stranger last
    assert (weights[:, 7] < weights[:, :7].amin(1)).all()
    assert weights[:, 7].mean() < 0.6 * weights[:, :7].mean()


def test_grcn_confidence_equals_the_loops():
    data = holed()
    model = stirred(GRCN(data, dim=4, content_dim=3))
    _, _, from_item, from_user = model.refine()
    wanted_item, wanted_user = grcn_oracle(model, data)[2:]
    for e, (u, i) in enumerate(zip(model.edges.rows.tolist(), model.edges.columns.tolist(), strict=True)):
        assert from_item[e].item() == pytest.approx(wanted_item[u, i], abs=1e-12)
        assert from_user[e].item() == pytest.approx(wanted_user[u, i], abs=1e-12)


def test_dualgnn_attention_is_a_distribution_over_what_was_met():
    data = holed()
    model = stirred(DualGNN(data, dim=4))
    torch.testing.assert_close(model.alpha().sum(1), torch.ones(data.n_users, dtype=torch.double))
    assert DualGNN(holed(("audio",)), dim=4).attention is None


# -- sparse products ------------------------------------------------------------------------------------------------------
@pytest.fixture
def pattern() -> tuple[EdgePattern, torch.Tensor]:
    """A pattern given in no order, with an empty row and an empty column, and its dense mask."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(7, 6, generator=generator) < 0.4
    mask[2], mask[:, 3] = False, False
    rows, columns = mask.nonzero().T
    order = torch.randperm(len(rows), generator=generator)
    return EdgePattern(rows[order], columns[order], (7, 6)), mask


@pytest.mark.parametrize("mkl", [True, False])
def test_products_and_their_gradients_are_the_dense_ones(pattern, mkl, monkeypatch):
    edges, mask = pattern
    if not mkl:
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)

    values, x, y = random(len(edges)), random(7, 3), random(6, 3)
    dense = torch.zeros(7, 6, dtype=torch.double).index_put((edges.rows, edges.columns), values)
    pairs = {
        "matmul": (edges.matmul(values, y), dense @ y),
        "rmatmul": (edges.rmatmul(values, x), dense.T @ x),
        "dot": (edges.dot(x, y), (x @ y.T)[mask]),
    }
    for name, (ours, wanted) in pairs.items():
        torch.testing.assert_close(ours, wanted, msg=name)
        weight = torch.randn(wanted.shape, generator=generator, dtype=torch.double)
        inputs = [t for t in (values, x, y) if t is not {"matmul": x, "rmatmul": y, "dot": values}[name]]
        for ours_g, wanted_g in zip(
            torch.autograd.grad((ours * weight).sum(), inputs, retain_graph=True),
            torch.autograd.grad((wanted * weight).sum(), inputs, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(ours_g, wanted_g, msg=name)
    assert torch.autograd.gradgradcheck(edges.matmul, (values, y))
    assert torch.autograd.gradgradcheck(edges.dot, (x, y))


def test_gathered_dot_crosses_its_blocks(pattern):
    edges, mask = pattern
    x, y = torch.randn(7, 3), torch.randn(6, 3)
    torch.testing.assert_close(sparse._gathered_dot(edges, x, y, block=4), (x @ y.T)[mask])


def test_segment_softmax():
    segments = torch.tensor([2, 0, 2, 0, 1, 2])
    values = torch.tensor([1.0, 1000.0, 3.0, 1001.0, 5.0, 9.0], dtype=torch.double, requires_grad=True)
    allowed = torch.tensor([True, True, True, True, False, False])
    shares = segment_softmax(values, segments, 4, allowed)
    a, b = math.exp(1) / (math.exp(1) + math.exp(3)), 1 / (1 + math.e)
    np.testing.assert_allclose(shares.detach(), [a, b, 1 - a, 1 - b, 0, 0], atol=1e-12)
    assert torch.autograd.gradcheck(lambda v: segment_softmax(v, segments, 4, allowed), (values,))
    assert torch.autograd.gradcheck(lambda v: segment_softmax(v, segments, 4), (values,))


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_co_occurrence_graph_is_counting(tiny, block):
    rows, columns, counts = co_occurrence_graph(tiny.train.users, tiny.train.items, tiny.n_users, tiny.n_items, 4, block=block)
    of_user, _ = neighbourhoods(tiny)
    wanted = []
    for u in range(tiny.n_users):
        shared = [(-len(set(of_user[u]) & set(of_user[v])), v) for v in range(tiny.n_users) if v != u]
        wanted += [(u, v, -c) for c, v in sorted(shared)[:4] if c]
    assert list(zip(rows.tolist(), columns.tolist(), counts.tolist(), strict=True)) == wanted


# -- clear errors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda d: MMGCN(d, n_layers=0), r"MMGCN\(n_layers=\).*1 or more"),
        (lambda d: MMGCN(d, latent_dim=-1), "latent_dim"),
        (lambda d: MMGCN(d, combination="product"), "combination.*concat or sum"),
        (lambda d: MMGCN(d, fusion="max"), "fusion.*mean or sum"),
        (lambda d: MMGCN(d, dim=0), "embedding size"),
        (lambda d: GRCN(d, n_layers=-1), r"GRCN\(n_layers=\)"),
        (lambda d: GRCN(d, n_routing=1.5), r"GRCN\(n_routing=\).*whole number"),
        (lambda d: GRCN(d, content_dim=0), "content_dim"),
        (lambda d: GRCN(d, base="zeros"), "base.*ones or xavier"),
        (lambda d: DualGNN(d, n_layers=-1), r"DualGNN\(n_layers=\)"),
        (lambda d: DualGNN(d, n_neighbours=0), "n_neighbours"),
        (lambda d: DualGNN(d, fusion="max"), "fusion.*concat or sum"),
        *((lambda d, m=m: create(m, d.with_features({})), "needs item features") for m in ("mmgcn", "grcn", "dualgnn")),
        *((lambda d, m=m: create(m, d, modalities=("sound",)), "unknown modality.*image, text") for m in ("mmgcn", "grcn")),
        (lambda d: create("dualgnn", d, scaling="log"), "unknown choice"),
        (lambda d: co_occurrence_graph(d.train.users, d.train.items, d.n_users, d.n_items, 0), "number of neighbours"),
    ],
)
def test_bad_settings_get_a_sentence(tiny, build, says):
    with pytest.raises((OptionError, DataError), match=says):
        build(tiny)
