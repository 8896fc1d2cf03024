"""The models that read histories: the contract, what may look at what, and plain loops in float64 beside each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny
from model_contract import ModelContract

from mmrec_teach.data.sequences import histories
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import SASRec, SequenceBatch, create
from mmrec_teach.models.transformer import Attention
from mmrec_teach.models.unisrec import Adaptor
from mmrec_teach.training import NegativeSampler, Trainer, fit
from mmrec_teach.training.sampling import sequence_batches

QUICK = {"epochs": 40, "patience": 40, "lr": 0.02, "metric": "ndcg@20", "metrics_every": 5}


@pytest.fixture(scope="module")
def told():
    return in_order(make_tiny())


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def normed(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean()) / math.sqrt(x.var() + eps)


# -- the contract -----------------------------------------------------------------------------------------------------------
class TestSASRec(ModelContract):
    name = "sasrec"
    options = {"dim": 8, "length": 8}
    training = QUICK


class TestSASRecSoftmax(ModelContract):
    name = "sasrec"
    options = {"dim": 8, "length": 8, "heads": 2, "loss": "ce", "rows": "prefixes", "positions": "start", "dropout": 0.1}
    training = QUICK


class TestUniSRec(ModelContract):
    name = "unisrec"
    options = {"dim": 8, "length": 8, "experts": 2, "inner": 16, "n_layers": 1}
    training = QUICK


class TestUniSRecPrefixes(ModelContract):
    name = "unisrec"
    options = {"dim": 8, "length": 8, "experts": 1, "inner": 8, "rows": "prefixes", "modalities": ("text", "image")}
    training = QUICK
    silent = {"adaptor.gate.weight", "adaptor.noise.weight"}  # a gate with one door


# -- attention ----------------------------------------------------------------------------------------------------------------
def test_attention_is_its_formula_head_by_head():
    random = torch.Generator().manual_seed(0)
    attention = Attention(6, 3, random).double()
    x, memory = torch.randn(2, 4, 6, generator=random).double(), torch.randn(2, 5, 6, generator=random).double()
    allowed = torch.rand(2, 4, 5, generator=random) < 0.5
    allowed[..., 0] = True
    maps = [(array(m.weight), array(m.bias)) for m in (attention.query, attention.key, attention.value, attention.out)]
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = maps
    expected = np.zeros((2, 4, 6))
    for b in range(2):
        for t in range(4):
            heads = []
            for head in range(3):
                part = slice(2 * head, 2 * head + 2)
                q = (wq @ array(x[b, t]) + bq)[part]
                seen = [j for j in range(5) if allowed[b, t, j]]
                k = [(wk @ array(memory[b, j]) + bk)[part] for j in seen]
                v = [(wv @ array(memory[b, j]) + bv)[part] for j in seen]
                weights = softmax(np.array([q @ key / math.sqrt(2) for key in k]))
                heads.append(sum(w * value for w, value in zip(weights, v, strict=True)))
            expected[b, t] = wo @ np.concatenate(heads) + bo
    np.testing.assert_allclose(array(attention(x, memory, allowed, lambda w: w)), expected, atol=1e-12)
    with pytest.raises(OptionError, match="a divisor of 6"):
        Attention(6, 4, random)


# -- SASRec -------------------------------------------------------------------------------------------------------------------
def test_sasrec_is_the_paper_place_by_place(told):
    """Equations 1 to 5 as loops, for one history."""
    model = create("sasrec", told, dim=4, n_layers=2, length=7).double().eval()
    items = [3, 8, 3, 5, 0]
    m, p = array(model.item_id.weight), array(model.place.weight)
    x = [m[item] + p[7 - len(items) + t] for t, item in enumerate(items)]  # the latest item has the last position
    for block in model.blocks:
        wq, wk, wv = (array(w.weight) for w in (block.attention.query, block.attention.key, block.attention.value))
        (w1, b1), (w2, b2) = ((array(w.weight), array(w.bias)) for w in (block.feed_forward.first, block.feed_forward.second))
        y = [normed(row) for row in x]
        x = [
            x[t] + softmax(np.array([(wq @ y[t]) @ (wk @ y[j]) / 2 for j in range(t + 1)])) @ [wv @ y[j] for j in range(t + 1)]
            for t in range(len(items))
        ]
        x = [row + w2 @ np.maximum(w1 @ normed(row) + b1, 0) + b2 for row in x]
    f = np.array([normed(row) for row in x])
    ours = model(torch.tensor([items]), torch.tensor([len(items)]))
    np.testing.assert_allclose(array(ours[0]), f, atol=1e-12)
    np.testing.assert_allclose(array(model.match(ours[:, -1]))[0], m @ f[-1], atol=1e-12)


def test_sasrec_losses_are_sums_over_targets(told):
    drawn = sequence_batches(histories(told), "users", 8, 40, NegativeSampler(told), torch.Generator().manual_seed(0))
    batch = SequenceBatch(*next(drawn))
    for loss in ("bce", "ce"):
        model = create("sasrec", told, dim=4, loss=loss, length=8).double().eval()
        r = array(model.match(model(batch.items, batch.lengths)))  # (B, L, I)
        terms = []
        for b, n in enumerate(batch.lengths.tolist()):
            for t in range(n):
                o, j = int(batch.targets[b, t]), int(batch.negatives[b, t])
                if loss == "ce":
                    terms.append(-math.log(softmax(r[b, t])[o]))
                else:
                    sigmoid = [1 / (1 + math.exp(-r[b, t, i])) for i in (o, j)]
                    terms.append(-math.log(sigmoid[0]) - math.log(1 - sigmoid[1]))
        assert model.terms == (loss,)
        assert model.losses(batch)[loss].item() == pytest.approx(np.mean(terms), abs=1e-10)


@pytest.mark.parametrize("positions", ["end", "start", "unisrec"])
def test_a_later_item_changes_nothing_before_it(told, positions):
    name, options = ("unisrec", {}) if positions == "unisrec" else ("sasrec", {"positions": positions})
    model = create(name, told, dim=8, heads=2, length=9, **options).double().eval()
    items = torch.tensor([[1, 2, 3, 4, 5, 6]])

    def read(items):
        return model(model.items(), items) if name == "unisrec" else model(items, torch.tensor([6]))

    before = read(items)
    for t in range(6):
        changed = items.clone()
        changed[0, t] = 17
        after = read(changed)
        assert torch.equal(after[0, :t], before[0, :t])
        assert not torch.allclose(after[0, t:], before[0, t:])


@pytest.mark.parametrize("name", ["sasrec", "unisrec"])
def test_neighbours_in_a_batch_and_padding_change_nothing(told, name):
    model = create(name, told, dim=8, length=9).double().eval()
    alone = model.encode(torch.tensor([[4, 9]]), torch.tensor([2]))
    among = model.encode(torch.tensor([[1, 2, 3, 4, 5], [4, 9, 0, 0, 0], [4, 9, 30, 7, 7]]), torch.tensor([5, 2, 2]))
    torch.testing.assert_close(among[1:], alone.expand(2, -1), atol=1e-12, rtol=0)
    nothing = model.encode(torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0]))
    assert torch.isfinite(nothing).all()
    assert not torch.allclose(nothing, model.encode(torch.tensor([[0]]), torch.tensor([1])))


def test_all_prefixes_are_one_pass_over_the_users(told):
    """With places counted from the start, a user's row asks exactly what her prefixes ask."""
    options = {"dim": 8, "loss": "ce", "length": 20, "positions": "start", "dropout": 0.0}
    found = []
    for rows in ("users", "prefixes"):
        model = create("sasrec", told, rows=rows, **options).double()
        trainer = Trainer(model, told, batch_size=10**6, device="cpu")
        (batch,) = trainer.batches(10**6, torch.Generator().manual_seed(0))
        loss = model.losses(batch)["ce"]
        loss.backward()
        found.append((loss.detach(), model.item_id.weight.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=1e-10)


def test_sasrec_refuses_what_makes_no_sense(told):
    for wrong in (
        {"loss": "bpr"},
        {"rows": "pairs"},
        {"positions": "middle"},
        {"dropout": 1.0},
        {"length": 0},
        {"n_layers": -1},
    ):
        with pytest.raises(OptionError):
            SASRec(told, **wrong)


# -- UniSRec ------------------------------------------------------------------------------------------------------------------
def test_the_adaptor_is_equations_1_to_4():
    random = torch.Generator().manual_seed(0)
    adaptor = Adaptor(5, 3, 2, random).double()
    with torch.no_grad():
        adaptor.centre.normal_(generator=random)
        adaptor.noise.weight.normal_(generator=random)
    x, epsilon = torch.randn(4, 5, generator=random).double(), torch.randn(4, 2, generator=random).double()
    w2, w3, b = array(adaptor.gate.weight), array(adaptor.noise.weight), array(adaptor.centre)
    for noise in (None, epsilon):
        expected = []
        for n, row in enumerate(array(x)):
            logits = w2 @ row
            if noise is not None:
                logits = logits + array(noise[n]) * np.log1p(np.exp(w3 @ row))
            g = softmax(logits)
            expected.append(sum(g[k] * array(adaptor.whiten[k].weight) @ (row - b[k]) for k in range(2)))
        np.testing.assert_allclose(array(adaptor(x, noise)), expected, atol=1e-12)


def test_unisrec_is_a_transformer_over_content(told):
    """One post-norm layer and the loss as loops."""
    model = create("unisrec", told, dim=4, n_layers=1, inner=6, experts=2, length=7).double().eval()
    batch = SequenceBatch(*next(sequence_batches(histories(told), "users", 7, 12, None, torch.Generator().manual_seed(0))))
    v, p, layer = array(model.items()), array(model.place.weight), model.layers[0]
    a, ff = layer.attention, layer.feed_forward
    terms = []
    for row, n, targets in zip(batch.items.tolist(), batch.lengths.tolist(), batch.targets.tolist(), strict=True):
        x = [normed(v[row[t]] + p[t], 1e-12) for t in range(n)]
        q, k, w = ([array(m.weight) @ y + array(m.bias) for y in x] for m in (a.query, a.key, a.value))
        for t in range(n):
            found = []
            for part in (slice(0, 2), slice(2, 4)):  # two heads
                share = softmax(np.array([q[t][part] @ k[j][part] / math.sqrt(2) for j in range(t + 1)]))
                found.append(sum(share[j] * w[j][part] for j in range(t + 1)))
            y = normed(x[t] + array(a.out.weight) @ np.concatenate(found) + array(a.out.bias), 1e-12)
            inner = array(ff.first.weight) @ y + array(ff.first.bias)
            inner = inner * np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in inner])
            f = normed(y + array(ff.second.weight) @ inner + array(ff.second.bias), 1e-12)
            cosines = v @ f / np.linalg.norm(v, axis=1) / np.linalg.norm(f)
            terms.append(-math.log(softmax(cosines / 0.07)[targets[t]]))
    assert model.losses(batch)["ce"].item() == pytest.approx(np.mean(terms), abs=1e-10)


def test_unisrec_ranks_cold_items_by_their_text_and_knows_no_ids(told):
    model = create("unisrec", told, dim=8)
    assert not [name for name, p in model.named_parameters() if len(p) == told.n_items]
    twin = dict(told.features)
    twin["text"] = twin["text"].copy()
    twin["text"][39] = twin["text"][4]  # a cold item with the text of a warm one
    model = create("unisrec", told.with_features(twin), dim=8)
    fit(model, told, epochs=2, progress=False, device="cpu")
    scores = model.score(torch.arange(told.n_users))
    torch.testing.assert_close(scores[:, 39], scores[:, 4])
    lost = np.zeros(told.n_items, dtype=bool)
    lost[7] = True
    twin["text"][7] = 0
    without = create("unisrec", told.with_features(twin, {"text": lost}), dim=8)
    with torch.no_grad():
        without.adaptor.centre.fill_(1.0)
    assert (without.score(torch.arange(5))[:, 7] == 0).all()
    assert (without.views()["item/content"][7] == 0).all()


def test_unisrec_refuses_what_makes_no_sense(told):
    for wrong in (
        {"experts": 0},
        {"temperature": 0},
        {"dropout": -0.1},
        {"rows": "pairs"},
        {"modalities": "sound"},
        {"heads": 3},
    ):
        with pytest.raises(OptionError):
            create("unisrec", told, **wrong)
    with pytest.raises(DataError, match="needs item features"):
        create("unisrec", told.with_features({}))
    alone = told.with_features({"image": told.features["image"]})
    assert create("unisrec", alone).x.shape[1] == 8  # no text: what there is
