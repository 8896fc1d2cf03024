"""The models that read histories: the contract, what may look at what, and plain loops in float64 beside each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny
from model_contract import ModelContract

from mmrec_teach.data.sequences import histories
from mmrec_teach.errors import OptionError
from mmrec_teach.models import SASRec, SequenceBatch, create
from mmrec_teach.models.transformer import Attention
from mmrec_teach.training import NegativeSampler, Trainer
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


@pytest.mark.parametrize("positions", ["end", "start"])
def test_a_later_item_changes_nothing_before_it(told, positions):
    model = create("sasrec", told, dim=8, heads=2, length=9, positions=positions).double().eval()
    items = torch.tensor([[1, 2, 3, 4, 5, 6]])
    lengths = torch.tensor([6])
    before = model(items, lengths)
    for t in range(6):
        changed = items.clone()
        changed[0, t] = 17
        after = model(changed, lengths)
        assert torch.equal(after[0, :t], before[0, :t])
        assert not torch.allclose(after[0, t:], before[0, t:])


def test_neighbours_in_a_batch_and_padding_change_nothing(told):
    model = create("sasrec", told, dim=8, length=9).double().eval()
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
