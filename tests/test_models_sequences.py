"""The models that read histories: the contract, what may look at what, and plain loops in float64 beside each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny
from model_contract import ModelContract

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.data.sequences import histories
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import MISSRec, SASRec, SequenceBatch, create
from mmrec_teach.models.missrec import alikeness
from mmrec_teach.models.transformer import Attention
from mmrec_teach.models.unisrec import Adaptor
from mmrec_teach.ops.clustering import dpc_knn
from mmrec_teach.training import NegativeSampler, Trainer, fit
from mmrec_teach.training.sampling import sequence_batches

PARITY = Path(__file__).parent / "parity"
QUICK = {"epochs": 15, "patience": 15, "lr": 0.03, "metric": "ndcg@20", "metrics_every": 5}


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


class TestMISSRec(ModelContract):
    name = "missrec"
    options = {"dim": 8, "heads": 2, "length": 8, "inner": 16, "dropout": 0.1, "modality_dropout": 0.1}
    training = QUICK


class TestMISSRecReleased(ModelContract):
    name = "missrec"
    options = {
        "dim": 8,
        "heads": 2,
        "length": 8,
        "inner": 8,
        "dropout": 0.1,
        "feature_dropout": 0.0,
        "interests": "kmeans",
        "missing": "bias",
        "regularizer": "released",
        "augment": "released",
        "false_negatives": "keep",
    }
    training = QUICK


class TestMISSRecWithoutIds(ModelContract):
    name = "missrec"
    options = {
        "dim": 8,
        "heads": 2,
        "length": 8,
        "inner": 8,
        "dropout": 0.0,
        "ids": False,
        "interests": "none",
        "deduplicate": False,
        "fusion": "max",
    }
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
        {"tune": "frozen"},
        {"drop": 1.0},
    ):
        with pytest.raises(OptionError):
            create("unisrec", told, **wrong)
    with pytest.raises(DataError, match="needs item features"):
        create("unisrec", told.with_features({}))
    alone = told.with_features({"image": told.features["image"]})
    assert create("unisrec", alone).x.shape[1] == 8  # no text: what there is


# -- MISSRec ------------------------------------------------------------------------------------------------------------------
def reference_missrec():
    """The reference's problem: its item 0 is the padding, here an item that nobody takes and that lacks everything."""
    with np.load(PARITY / "missrec.npz", allow_pickle=False) as file:
        z = dict(file)
    n = int(z["n_items_with_pad"])
    row = np.arange(1, 4)
    empty = Interactions(*np.zeros((2, 0), dtype=np.int64))
    data = Dataset(
        "missrec",
        np.array(["0"]),
        np.arange(n).astype(str),
        Interactions(np.zeros(3, dtype=np.int64), row, row),
        empty,
        empty,
        features={"text": z["param/plm_embedding.weight"], "image": z["param/img_embedding.weight"]},
        missing={"text": z["param/plm_embedding_empty_mask"], "image": z["param/img_embedding_empty_mask"]},
    )
    options = {"dim": 16, "heads": int(z["hyper_n_heads"]), "inner": 16, "length": 7, "dropout": 0.0, "feature_dropout": 0.0}
    released = {"missing": "bias", "regularizer": "released", "temperature": float(z["hyper_temperature"])}
    model = create("missrec", data, **options, **released, interest_ratio=6 / (2 * n))
    same = {
        "sharpness": "fusion_factor",
        "item_id.weight": "item_embedding.weight",
        "place.weight": "position_embedding.weight",
        "norm": "LayerNorm",
        "modality.layers.0": "text_adaptor",
        "modality.layers.1": "img_adaptor",
        "encoder_norm": "trm_model.encoder.norm",
        "decoder_norm": "trm_model.decoder.norm",
    }
    for ours, theirs, norms in (("encoder", "encoder", 2), ("decoder", "decoder", 3)):
        ours, theirs = f"{ours}.0", f"trm_model.{theirs}.layers.0"
        same |= {f"{ours}.norm_{k}": f"{theirs}.norm{k}" for k in range(1, norms + 1)}
        same |= {f"{ours}.feed_forward.first": f"{theirs}.linear1", f"{ours}.feed_forward.second": f"{theirs}.linear2"}
        for part, name in (("attention", "self_attn"), ("cross", "multihead_attn"))[: norms - 1]:
            same[f"{ours}.{part}.out"] = f"{theirs}.{name}.out_proj"
            for k, which in enumerate(("query", "key", "value")):
                same[f"{ours}.{part}.{which}"] = (f"{theirs}.{name}.in_proj_", k)

    def theirs_of(name: str, kind: str) -> torch.Tensor:
        if name in same:
            return torch.tensor(z[f"{kind}/{same[name]}"])
        stem, _, leaf = name.rpartition(".")
        if isinstance(same[stem], tuple):
            packed, k = same[stem]
            return torch.from_numpy(z[f"{kind}/{packed}{leaf}"]).chunk(3)[k]
        return torch.from_numpy(z[f"{kind}/{same[stem]}.{leaf}"])

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(theirs_of(name, "param"))
        model.interest.copy_(torch.from_numpy(z["param/interest_embeddings"][1:]))
        tables = [torch.from_numpy(z[f"param/{m}_interest_lookup_table"]) for m in ("plm", "img")]
        model.interest_of.copy_((torch.stack(tables, 1) - 1).masked_fill(torch.arange(n)[:, None] == 0, 6))
    items, lengths = torch.from_numpy(z["item_seq"]), torch.from_numpy(z["item_seq_len"])
    targets = torch.full_like(items, -1)
    targets[torch.arange(len(items)), lengths - 1] = torch.from_numpy(z["pos_items"])
    return z, model, SequenceBatch(torch.zeros(len(items), dtype=torch.int64), items, lengths, targets), theirs_of


def close(ours: torch.Tensor, theirs) -> None:
    np.testing.assert_allclose(array(ours), np.asarray(theirs), atol=1e-5, rtol=1e-5)


def test_missrec_equals_the_reference():
    z, model, batch, theirs = reference_missrec()
    h, *_ = model.read(batch.items, batch.lengths)
    close(h, z["seq_output"])
    close(model.match(h), z["logits_with_id"])  # before the temperature
    terms = model.losses(batch)
    close(terms["diversity"], z["interest_regulariser"])
    total = model.total(terms, {"ce": 1.0, "diversity": float(z["hyper_gamma"])})
    close(total, z["loss_total"])
    total.backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(array(parameter.grad), theirs(name, "grad"), atol=1e-5, rtol=1e-5, err_msg=name)
    ids, model.item_id = model.item_id, None
    close(model.match(h), z["logits_content_only"])
    model.item_id = ids


def gapped(told):
    """Item 3 has no picture, item 5 no words, item 7 neither."""
    missing = {name: np.zeros(told.n_items, dtype=bool) for name in told.features}
    missing["image"][[3, 7]] = missing["text"][[5, 7]] = True
    features = {name: np.where(missing[name][:, None], 0, table) for name, table in told.features.items()}
    return told.with_features(features, missing)


def small(told, **more):
    options = {"dim": 8, "heads": 2, "inner": 8, "length": 8, "dropout": 0.0, "feature_dropout": 0.0, **more}
    return create("missrec", told, **options).double().eval()


def test_interests_are_those_of_all_tokens_and_follow_the_adapters(told):
    data = gapped(told)
    model = create("missrec", data, dim=8, interest_ratio=0.25)
    n_tokens = 2 * data.n_items - 4
    assert len(model.interest) == math.ceil(n_tokens / 4)

    def expected():
        x = [
            model.modality.layer(m)(model.modality.table(m)[i])
            for i in range(data.n_items)
            for m in data.modalities
            if not data.missing[m][i]
        ]
        return dpc_knn(torch.stack(x).detach(), len(model.interest))

    found = expected()
    torch.testing.assert_close(model.interest, found.vectors, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.interest_of[model.has], found.assignment)
    assert (model.interest_of[~model.has] == len(model.interest)).all()
    trainer = Trainer(model, data, batch_size=64, lr=0.05, device="cpu", metrics_every=0)
    before = model.interest.clone()
    trainer.epoch()
    assert torch.equal(model.interest, before)  # as they were when the epoch began
    after = expected()
    trainer.epoch(lambda step: torch.testing.assert_close(model.interest, after.vectors, atol=1e-5, rtol=1e-5))
    assert not torch.equal(model.interest, before)
    assert "interest" in model.state_dict()


def test_an_interest_counts_once_however_often_it_occurs(told):
    data = gapped(told)
    items, lengths = torch.tensor([[1, 3, 7, 2, 1], [5, 7, 0, 0, 0], [7, 0, 0, 0, 0]]), torch.tensor([5, 2, 1])
    for deduplicate in (True, False):
        model = small(data, deduplicate=deduplicate, interest_ratio=0.2)
        found = model.interests_in(items, lengths)
        none = len(model.interest)
        for row, history, n in zip(found.tolist(), items.tolist(), lengths.tolist(), strict=True):
            mine = [int(k) for i in history[:n] for k in model.interest_of[i] if k < none]
            mine = sorted(set(mine)) if deduplicate else sorted(mine)
            assert row == mine + [none] * (len(row) - len(mine))
        assert (found < none).any(0).all()  # not wider than its longest row


def test_a_missing_modality_is_no_opinion(told):
    data = gapped(told)
    model = small(data)
    with torch.no_grad():
        for layer in model.modality.layers:
            layer.bias.normal_(generator=torch.Generator().manual_seed(1))
        model.sharpness.fill_(2.0)
    h = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(2)).double(), dim=1)
    unit = {
        m: array(torch.nn.functional.normalize(model.modality.layer(m)(model.modality.table(m)), dim=1))
        for m in data.modalities
    }
    e = array(torch.nn.functional.normalize(model.item_id.weight, dim=1))
    scores, views = array(model.match(h)), model.views()
    for u in range(3):
        for i in range(data.n_items):
            s = [unit[m][i] @ array(h[u]) for m in data.modalities if not data.missing[m][i]]
            own = e[i] @ array(h[u])
            if s:
                own = (own + 2 * softmax(2.0 * np.array(s)) @ s) / 3
            assert scores[u, i] == pytest.approx(own, abs=1e-12)
    for fusion, of in (("mean", np.mean), ("max", np.max)):
        other = small(data, fusion=fusion, ids=False)
        other.modality.load_state_dict(model.modality.state_dict())
        scores = array(other.match(h))
        for i in (0, 3, 5):
            s = [unit[m][i] @ array(h[0]) for m in data.modalities if not data.missing[m][i]]
            assert scores[0, i] == pytest.approx(of(s), abs=1e-12)
        assert (scores[:, 7] == 0).all()
    assert (views["item/content"][7] == 0).all()
    with torch.no_grad():
        model.sharpness.zero_()
    torch.testing.assert_close(model.match(h), h @ views["item/final"].T)  # at λ = 0 it is one inner product


def test_missrec_reads_what_is_there_and_nothing_else(told):
    model = small(gapped(told))
    alone = model.encode(torch.tensor([[4, 3]]), torch.tensor([2]))
    among = model.encode(torch.tensor([[1, 2, 8, 9], [4, 3, 0, 0], [4, 3, 17, 7]]), torch.tensor([4, 2, 2]))
    torch.testing.assert_close(among[1:], alone.expand(2, -1), atol=1e-12, rtol=0)
    assert not torch.allclose(model.encode(torch.tensor([[3, 4]]), torch.tensor([2])), alone)  # order matters
    empty = model.encode(torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 1]))
    assert (empty[0] == 0).all()
    assert torch.isfinite(model.encode(torch.tensor([[7]]), torch.tensor([1]))).all()  # not a single interest
    picture = {"modalities": ("image",), "ids": False}
    assert not hasattr(small(told, **picture), "sharpness")


def test_rows_of_a_large_batch_are_read_by_length_and_come_back_in_order(told, monkeypatch):
    model, random = small(gapped(told)), torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 8, (300,), generator=random)
    items = torch.randint(told.n_items, (300, 7), generator=random) * (torch.arange(7) < lengths[:, None])
    by_length = model.read(items, lengths)
    monkeypatch.setattr("mmrec_teach.models.missrec.GROUPS", 10**6)
    at_once = model.read(items, lengths)
    torch.testing.assert_close(by_length[0], at_once[0], atol=1e-12, rtol=0)
    assert torch.equal(by_length[2], at_once[2])
    torch.testing.assert_close(by_length[1][by_length[2]], at_once[1][at_once[2]], atol=1e-12, rtol=0)


def test_modality_dropout_leaves_every_item_something(told):
    data = gapped(told)
    model = create("missrec", data, dim=8, modality_dropout=0.6)
    items = torch.arange(data.n_items)
    kept = torch.stack([model._kept(items) for _ in range(50)])
    assert not (kept & ~model.has).any()
    assert (kept.any(2) == model.has.any(1)).all()
    share = kept[:, model.has.all(1)].float().mean()  # both kept .16, one .48, and .36 would lose both and keep both
    assert share == pytest.approx(0.16 + 0.24 + 0.36, abs=0.03)
    model.eval()
    assert torch.equal(model._kept(items), model.has)


def test_diversity_falls_as_interests_part():
    known = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    z = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    unit = array(torch.nn.functional.normalize(z, dim=2))
    first = np.mean([(unit[0, a] @ unit[0, b]) ** 2 for a in range(3) for b in range(3) if a != b])
    assert alikeness(z, known).item() == pytest.approx((first + (unit[1, 0] @ unit[1, 1]) ** 2) / 2)
    assert alikeness(torch.eye(3)[None], known[:1]).item() == pytest.approx(0, abs=1e-6)
    assert alikeness(torch.ones(1, 3, 4), known[:1]).item() == pytest.approx(1)
    assert alikeness(z[2:], known[2:]).item() == 0


def test_missrec_refuses_what_makes_no_sense(told):
    wrong = [{name: "other"} for name in MISSRec.choices]
    wrong += [
        {"interest_ratio": 0.0},
        {"temperature": 0.0},
        {"modality_dropout": 1.0},
        {"heads": 7},
        {"neighbours": 0},
        {"drop": 1.0},
    ]
    for options in wrong:
        with pytest.raises(OptionError):
            create("missrec", told, **options)
    nothing = {name: np.zeros_like(table) for name, table in told.features.items()}
    with pytest.raises(DataError, match="not one item has content"):
        create("missrec", told.with_features(nothing, {name: np.ones(told.n_items, dtype=bool) for name in nothing}))
