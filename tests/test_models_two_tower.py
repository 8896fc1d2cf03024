"""The two towers: the contract, the formulas row by row, queries that do not know the answer, statistics that do not either."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny
from model_contract import ModelContract, batch_of
from torch.nn import functional as F

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.data.counts import SMOOTHING, check_counts, leak, log_counts, with_future
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import Batch, TwoTower
from mmrec_teach.ops import losses

SILENT = {"weigh.layers.0.weight", "weigh.layers.0.bias"}  # the gate's last layer begins at zero
SHORT = {"epochs": 30, "patience": 60, "lr": 0.02, "metric": "ndcg@20"}


class TestTwoTower(ModelContract):
    name = "two-tower"
    training = SHORT
    silent = SILENT
    options = {"dim": 8}


class TestTwoTowerConcat(ModelContract):
    name = "two-tower"
    training = SHORT
    silent = SILENT
    options = {"dim": 8, "gate": "concat", "query": "trigger", "new_share": 0.3}


class TestTwoTowerWithoutGate(ModelContract):
    name = "two-tower"
    training = SHORT
    options = {"dim": 8, "gate": "none", "loss": "bpr"}


class TestTwoTowerClusters(ModelContract):
    name = "two-tower"
    training = SHORT
    options = {"dim": 8, "statistics": "constant", "logq": False, "clusters": 6}


@pytest.fixture
def data() -> Dataset:
    """The tiny data with a shop window and clock times, and an item without content."""
    tiny = in_order(make_tiny())
    random = np.random.default_rng(1)
    exposures = random.integers(0, 500, tiny.n_items) * (tiny.item_counts > 0)
    features = {name: table.copy() for name, table in tiny.features.items()}
    for table in features.values():
        table[5] = 0
    tiny = tiny.with_features(features, {name: np.arange(tiny.n_items) == 5 for name in features})
    return replace(tiny, exposures=exposures, clicks=exposures // 9, time_is_order=False)


def mlp(layers: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    one, _, two = layers
    return torch.relu(x @ one.weight.T + one.bias) @ two.weight.T + two.bias


# -- losses -------------------------------------------------------------------------------------------------------------
def test_softmax_of_rows_is_its_formula():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 7, generator=random, dtype=torch.float64)
    items = torch.tensor([3, 1, 3, 0, 2, 1, 3])
    log_q = torch.log(torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64))[items]
    told = 0.0
    for b in range(7):
        against = [c for c in range(7) if c == b or items[c] != items[b]]
        corrected = {c: float(logits[b, c] - log_q[c]) for c in against}
        told -= corrected[b] - np.log(sum(np.exp(v) for v in corrected.values()))
    assert float(losses.softmax_of_rows(logits, items, log_q)) == pytest.approx(told / 7, abs=1e-12)
    same = torch.zeros(3, dtype=torch.int64)
    assert float(losses.softmax_of_rows(logits[:3, :3], same)) == 0  # nothing but copies: nothing to tell apart


def test_with_equal_shares_the_correction_changes_nothing():
    logits, items = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(6)
    assert torch.allclose(
        losses.softmax_of_rows(logits, items), losses.softmax_of_rows(logits, items, torch.full((6,), -3.0)), atol=1e-6
    )


def test_triplet_is_its_formula():
    random = torch.Generator().manual_seed(2)
    a, b = (F.normalize(torch.randn(5, 3, generator=random, dtype=torch.float64), dim=1) for _ in range(2))
    told = 0.0
    for i in range(5):
        for j in set(range(5)) - {i}:
            told += max(0.0, 0.3 - float(a[i] @ b[i]) + float(a[i] @ b[j]))
            told += max(0.0, 0.3 - float(b[i] @ a[i]) + float(b[i] @ a[j]))
    assert float(losses.triplet(a, b, 0.3)) == pytest.approx(told / 20, abs=1e-12)
    assert float(losses.triplet(a[:1], b[:1], 0.3)) == 0
    assert float(losses.triplet(torch.eye(3), torch.eye(3), 1.0)) == 0  # views that agree and stand apart


# -- towers -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gate", ["none", "concat", "sum"])
def test_the_score_is_the_papers_sum(data, gate):
    model = TwoTower(data, dim=6, gate=gate, seed=3).double()
    with torch.no_grad():
        if gate != "none":
            model.weigh.layers[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
        z_id = F.normalize(mlp(model.behaviour, model.item_id.weight), dim=1)
        z_id[torch.from_numpy(data.cold_items)] = 0
        x = torch.cat([F.normalize(torch.from_numpy(t).double(), dim=1) for t in data.features.values()], 1)
        z_c = F.normalize(mlp(model.content, x), dim=1)
        z_c[5] = 0
        liked = torch.from_numpy(data.matrix("train").toarray()).double()
        liked = liked / liked.sum(1, keepdim=True)
        q = mlp(model.asker, torch.cat([model.user_id.weight, liked @ model.trigger_id.weight, liked @ x], 1))
        q_id, q_c = (F.normalize(part, dim=1) for part in ([q, q] if gate != "concat" else q.chunk(2, 1)))
        if gate == "none":
            expected = q_id @ z_id.T + q_c @ z_c.T
        else:
            s = log_counts(data.exposures, data.clicks).astype(np.float64)
            warm = ~data.cold_items
            s = torch.from_numpy((s - s[warm].mean(0)) / s[warm].std(0))
            g = torch.sigmoid(mlp(model.weigh.layers, s))[:, 0]
            assert torch.allclose(model.gates(), g, atol=1e-5)
            assert g.std() > 0.05
            own = q_id @ z_id.T
            expected = (own if gate == "concat" else (1 - g) * own) + g * (q_c @ z_c.T)
        assert torch.allclose(model.score(torch.arange(data.n_users)), expected, atol=1e-5)


def test_a_tower_alone_serves(data):
    everyone = torch.arange(data.n_users)
    both = TwoTower(data, dim=6, gate="none").parts(everyone)
    for serve in ("id", "content"):
        alone = TwoTower(data, dim=6, gate="none", serve=serve)
        assert torch.allclose(alone.score(everyone), both[serve], atol=1e-6)
    with pytest.raises(OptionError, match="no gate"):
        alone.gates()


def test_queries_of_triggers_are_averaged(data):
    model = TwoTower(data, dim=6, query="trigger")
    q = model.asked(model.trigger_id.weight, model.x, None)[0]
    for user in (0, 7):
        hers = torch.from_numpy(data.train.items[data.train.users == user])
        assert torch.allclose(model.user_vectors()[user], q[hers].mean(0), atol=1e-6)


@pytest.mark.parametrize("query", ["user", "trigger"])
def test_a_query_does_not_know_the_answer(data, query):
    """Whatever stands in the rows of the item asked for, the query is the same: its gradient there is zero."""
    model = TwoTower(data, dim=6, query=query)
    for user, item in zip(data.train.users[:40], data.train.items[:40], strict=True):
        batch = Batch(torch.tensor([user]), torch.tensor([item]))
        for _ in range(3):
            (grad,) = torch.autograd.grad(model.queries(batch)[0].square()[0, 0], model.trigger_id.weight)
            assert grad[item].abs().max() < 1e-9
            others = set(data.train.items[data.train.users == user].tolist()) - {int(item)}
            used = set(grad.abs().sum(1).gt(1e-9).nonzero()[:, 0].tolist())
            assert used <= others
            assert len(used) == (1 if query == "trigger" else len(others))


def test_every_other_item_is_a_trigger(data):
    model = TwoTower(data, dim=6, query="trigger")
    user, item = data.train.users[0], data.train.items[0]
    batch, seen = Batch(torch.tensor([user]), torch.tensor([item])), set()
    for _ in range(60):
        (grad,) = torch.autograd.grad(model.queries(batch)[0][0, 0], model.trigger_id.weight)
        seen |= set(grad.abs().sum(1).nonzero()[:, 0].tolist())
    assert seen == set(data.train.items[data.train.users == user].tolist()) - {int(item)}


def test_who_took_one_item_asks_with_nothing(data):
    only = data.with_splits(Interactions(*np.array([[0, 1], [0, 2], [1, 3]]).T), *[Interactions(*np.zeros((2, 0), int))] * 2)
    for query in ("user", "trigger"):
        model = TwoTower(only, dim=6, query=query)
        (grad,) = torch.autograd.grad(
            model.queries(Batch(torch.tensor([1]), torch.tensor([3])))[0].sum(), model.trigger_id.weight
        )
        assert not grad.any()


# -- statistics ---------------------------------------------------------------------------------------------------------
def test_log_counts():
    table = log_counts(np.array([0, 900]), np.array([0, 90]))
    rate = 91 / 901
    assert table[0].tolist() == pytest.approx([0, 0, np.log(rate)], abs=1e-6)
    smoothed = (90 + SMOOTHING * rate) / (900 + SMOOTHING)
    assert table[1].tolist() == pytest.approx([np.log(901), np.log(91), np.log(smoothed)], abs=1e-6)


@pytest.mark.parametrize("kind", ["others", "before"])
def test_what_was_known_of_an_item(data, kind):
    if kind == "before":  # five moments, so that some interactions fall into one
        data = replace(data, train=replace(data.train, timestamps=np.random.default_rng(0).integers(0, 5, len(data.train))))
    model = TwoTower(data, dim=6, statistics=kind)
    raw = np.log1p(data.item_counts[~data.cold_items])
    for user, item, time in zip(data.train.users, data.train.items, data.train.timestamps, strict=True):
        same = data.train.items == item
        n = same.sum() - 1 if kind == "others" else (same & (data.train.timestamps < time)).sum()
        row = model.row(torch.tensor([user]), torch.tensor([item]))
        assert float(model.then[row]) == pytest.approx((np.log1p(n) - raw.mean()) / raw.std(), abs=1e-5)
    assert model.at_rest[:, 0].numpy() == pytest.approx((np.log1p(data.item_counts) - raw.mean()) / raw.std(), abs=1e-5)
    assert float(model.unseen) == pytest.approx(-raw.mean() / raw.std(), abs=1e-5)


def test_a_new_share_sees_items_as_new(data):
    model = TwoTower(data, dim=6, new_share=0.5)
    with torch.no_grad():
        model.weigh.layers[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
    batch = batch_of(data, 200)
    g, known = model.gates_of(batch, batch.items)
    assert 0.35 < known.float().mean() < 0.65
    assert torch.allclose(g[~known[:, 0]], model.weigh(model.unseen))
    model.eval()
    assert model.gates_of(batch, batch.items)[1].all()


def test_the_gate_starts_undecided(data):
    assert torch.equal(TwoTower(data, dim=6).gates(), torch.full((data.n_items,), 0.5))


def test_a_gate_can_be_turned_after_training(data):
    model = TwoTower(data, dim=6)
    with torch.no_grad():
        model.weigh.layers[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
        logits = torch.logit(model.gates())
        model.weigh.strength, model.weigh.lean = 2.0, -0.5
        assert torch.allclose(torch.logit(model.gates()), 2 * logits - 0.5, atol=1e-5)
        model.weigh.strength, model.weigh.lean = 0.0, 0.0
        assert (model.gates() == 0.5).all()


def test_new_items_are_what_a_cold_item_is(data):
    """A cold item nobody was shown, and its content given as a new item's, have one vector."""
    cold = torch.from_numpy(np.flatnonzero(data.cold_items))
    features = {name: torch.from_numpy(table.copy())[cold] for name, table in data.features.items()}
    for options in ({}, {"gate": "concat"}, {"statistics": "others"}, {"gate": "none"}):
        model = TwoTower(data, dim=6, **options)
        vectors, offsets = model.new_items(features)
        assert offsets is None
        assert torch.allclose(vectors, model.item_vectors()[cold], atol=1e-6)
    with pytest.raises(OptionError, match="no cluster"):
        TwoTower(data, dim=6, clusters=4).new_items(features)


# -- the guard ----------------------------------------------------------------------------------------------------------
def with_new_items(data: Dataset) -> Dataset:
    """Ten more items nobody took in training, some of which test has."""
    n, rng = data.n_items, np.random.default_rng(3)
    test = [(u, n + k) for k in range(10) for u in rng.permutation(data.n_users)[: k // 2]]
    old = np.stack([data.test.users, data.test.items], 1).tolist()
    more = {name: np.concatenate([t, np.ones((10, t.shape[1]), np.float32)]) for name, t in data.features.items()}
    flags = {name: np.append(gone, np.zeros(10, bool)) for name, gone in data.missing.items()}
    return replace(
        data,
        item_ids=np.arange(n + 10).astype(str),
        items=None,
        features=more,
        missing=flags,
        test=Interactions(*np.array(old + test).T),
        exposures=np.append(data.exposures, np.zeros(10, int)),
        clicks=np.append(data.clicks, np.zeros(10, int)),
    )


def test_counts_that_know_the_future_are_refused(data):
    honest = with_new_items(data)
    assert leak(honest) == ""
    check_counts(honest)
    late = with_future(honest)
    assert int(late.clicks.sum()) == int(honest.clicks.sum()) + len(honest.valid) + len(honest.test)
    with pytest.raises(DataError, match="know the future"):
        TwoTower(late, dim=6)
    TwoTower(late, dim=6, allow_leak=True)
    TwoTower(late, dim=6, statistics="others")  # counts training alone


def test_clicks_of_passers_by_on_new_items_are_fine(data):
    honest = with_new_items(data)
    cold = np.flatnonzero(honest.cold_items)
    for seed in range(5):
        clicks = honest.clicks.copy()
        clicks[cold] = np.random.default_rng(seed).integers(0, 30, len(cold))
        assert leak(replace(honest, exposures=clicks * 10, clicks=clicks)) == ""


def test_bad_settings(data):
    for options, words in [
        ({"gate": "max"}, "unknown choice"),
        ({"query": "item"}, "unknown choice"),
        ({"temperature": 0}, "temperature"),
        ({"margin": -1}, "margin"),
        ({"new_share": 1.0}, "share"),
        ({"hidden": 0}, "hidden"),
        ({"clusters": 10**6}, "more clusters than points"),
    ]:
        with pytest.raises(OptionError, match=words):
            TwoTower(data, **options)
    with pytest.raises(DataError, match="no exposures"):
        TwoTower(replace(data, exposures=None, clicks=None), statistics="window")
    for without in (
        replace(data, time_is_order=True),
        data.with_splits(*(Interactions(p.users, p.items) for p in (data.train, data.valid, data.test))),
    ):
        with pytest.raises(DataError, match="no common clock"):
            TwoTower(without, statistics="before")
