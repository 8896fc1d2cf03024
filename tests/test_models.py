"""Every model keeps the contract; LightGCN and VBPR equal the reference implementations; the rest equals its formula."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny
from model_contract import ModelContract, batch_of

from mmrec_teach.data import Dataset, Interactions, Truth
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import BPR, MODELS, VBPR, Batch, ItemKNN, LightGCN, Oracle, Popularity, Random, create, load_model

PARITY = Path(__file__).parent / "parity"


class TestRandom(ModelContract):
    name = "random"


class TestPopularity(ModelContract):
    name = "popularity"


class TestItemKNN(ModelContract):
    name = "item-knn"


def with_truth(data: Dataset) -> Dataset:
    """Return ``data`` with a random planted truth."""
    users, items = data.n_users, data.n_items
    utility = np.random.default_rng(0).normal(size=(users, items)).astype(np.float32)
    interests = np.tile([0, -1, -1], (users, 1))
    shares = np.tile(np.float32([1, 0, 0]), (users, 1))
    care, style = np.full((users, 2), 0.5, np.float32), np.zeros((items, 1), np.float32)
    return replace(data, truth=Truth(utility, interests, shares, care, np.zeros(items, np.int64), style, style))


class TestOracle(ModelContract):
    name = "oracle"

    def build(self, data, seed=0, **more):
        return super().build(data if data.truth is not None else with_truth(data), seed, **more)

    @pytest.fixture
    def data(self):
        return with_truth(make_tiny())


class TestBPR(ModelContract):
    name = "bpr"
    options = {"dim": 8}


class TestBPRWithBias(ModelContract):
    name = "bpr"
    options = {"dim": 8, "item_bias": True}


class TestVBPR(ModelContract):
    name = "vbpr"
    options = {"dim": 8, "content_dim": 4}


class TestVBPRReleased(ModelContract):
    name = "vbpr"
    options = {
        "dim": 8,
        "content_dim": 8,
        "item_bias": False,
        "content_bias": False,
        "projection_bias": True,
        "regularizer": "emb_norm",
    }


class TestLightGCN(ModelContract):
    name = "lightgcn"
    options = {"dim": 8, "n_layers": 2}


class TestLightGCNReleased(ModelContract):
    name = "lightgcn"
    options = {"dim": 8, "n_layers": 3, "regularizer": "emb_norm"}


def test_every_registered_model_is_under_contract():
    # read, not imported: the contract's classes are spread over files that may run in other processes
    tested = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "ModelContract" in [getattr(base, "id", None) for base in node.bases]:
                tested |= {a.value.value for a in node.body if isinstance(a, ast.Assign) and a.targets[0].id == "name"}
    assert tested == set(MODELS)


# -- parity with reference implementations --------------------------------------------------------------------------------
def reference(name: str) -> tuple[dict[str, np.ndarray], Dataset, Batch]:
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
        z = dict(file)
    pairs, empty = z["interactions"], Interactions(*np.zeros((2, 0), dtype=np.int64))
    data = Dataset(
        name,
        np.arange(int(z["n_users"])).astype(str),
        np.arange(int(z["n_items"])).astype(str),
        Interactions(pairs[:, 0], pairs[:, 1]),
        empty,
        empty,
        features={"image": z["image_feat"], "text": z["text_feat"]},
    )
    batch = Batch(*(torch.from_numpy(z[f"batch_{k}"]) for k in ("users", "pos", "neg")))
    return z, data, batch


def close(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=1e-5, rtol=1e-5)


def test_lightgcn_equals_the_reference():
    z, data, batch = reference("lightgcn")
    model = LightGCN(data, dim=8, n_layers=int(z["hyper_n_layers"]), regularizer="emb_norm")
    with torch.no_grad():
        model.user_id.weight.copy_(torch.from_numpy(z["param/embedding_dict.user_emb"]))
        model.item_id.weight.copy_(torch.from_numpy(z["param/embedding_dict.item_emb"]))
    close(model.adjacency.to_dense(), z["norm_adj"])
    users, items = model.propagate()
    close(users, z["user_out"])
    close(items, z["item_out"])
    total = model.total(model.losses(batch), {"bpr": 1.0, "l2": float(z["hyper_reg_weight"])})
    close(total, z["loss_total"].squeeze())
    total.backward()
    close(model.user_id.weight.grad, z["grad/embedding_dict.user_emb"])
    close(model.item_id.weight.grad, z["grad/embedding_dict.item_emb"])
    close(model.score(torch.arange(5)), z["scores_first_users"])


def test_vbpr_equals_the_reference():
    z, data, batch = reference("vbpr")
    model = VBPR(
        data,
        dim=8,
        content_dim=8,
        modalities=("text", "image"),
        item_bias=False,
        content_bias=False,
        projection_bias=True,
        regularizer="emb_norm",
    )
    with torch.no_grad():
        users = torch.from_numpy(z["param/u_embedding"])
        model.user_id.weight.copy_(users[:, :8])
        model.user_content.weight.copy_(users[:, 8:])
        model.item_id.weight.copy_(torch.from_numpy(z["param/i_embedding"]))
        model.projection.weight.copy_(torch.from_numpy(z["param/item_linear.weight"]))
        model.projection.bias.copy_(torch.from_numpy(z["param/item_linear.bias"]))
    views = model.views()
    close(views["user/final"], z["user_out"])
    close(views["item/final"], z["item_out"])
    total = model.total(model.losses(batch), {"bpr": 1.0, "l2": float(z["hyper_reg_weight"])})
    close(total, z["loss_total"].squeeze())
    total.backward()
    close(torch.cat([model.user_id.weight.grad, model.user_content.weight.grad], 1), z["grad/u_embedding"])
    close(model.item_id.weight.grad, z["grad/i_embedding"])
    close(model.projection.weight.grad, z["grad/item_linear.weight"])
    close(model.projection.bias.grad, z["grad/item_linear.bias"])
    close(model.score(torch.arange(5)), z["scores_first_users"])


# -- formulas -------------------------------------------------------------------------------------------------------------
def test_vbpr_score_is_equation_4(tiny):
    model = VBPR(tiny, dim=4, content_dim=3, content_weight=0.7).double()
    with torch.no_grad():
        model.item_bias.normal_(generator=torch.Generator().manual_seed(1))
        model.content_bias.normal_(generator=torch.Generator().manual_seed(2))
    f = np.concatenate([tiny.features["image"], tiny.features["text"]], 1).astype(np.float64)
    p = {k: v.detach().numpy() for k, v in model.named_parameters()}
    u, i = 5, 7
    expected = (
        p["item_bias"][i]
        + p["user_id.weight"][u] @ p["item_id.weight"][i]
        + 0.7 * (p["user_content.weight"][u] @ (p["projection.weight"] @ f[i]) + p["content_bias"] @ f[i])
    )
    assert model.score(torch.tensor([u]))[0, i].item() == pytest.approx(expected, abs=1e-9)


def test_vbpr_without_content_is_bpr(tiny):
    vbpr, bpr = VBPR(tiny, dim=6, content_weight=0.0, item_bias=False), BPR(tiny, dim=6)
    with torch.no_grad():
        bpr.user_id.weight.copy_(vbpr.user_id.weight)
        bpr.item_id.weight.copy_(vbpr.item_id.weight)
    batch = batch_of(tiny)
    assert torch.allclose(vbpr.losses(batch, {"bpr"})["bpr"], bpr.losses(batch, {"bpr"})["bpr"])
    assert torch.allclose(vbpr.score(torch.arange(4)), bpr.score(torch.arange(4)))


def test_vbpr_pair_scores_equal_full_scores(tiny):
    model, batch = VBPR(tiny, dim=4, content_dim=3), batch_of(tiny)
    taken, sampled = model._pair_scores(batch)
    full = model.score(batch.users)
    assert torch.allclose(taken, full.gather(1, batch.items[:, None])[:, 0], atol=1e-6)
    assert torch.allclose(sampled, full.gather(1, batch.negatives[:, None])[:, 0], atol=1e-6)


def test_a_missing_item_has_no_content_opinion(tiny):
    features = {k: v.copy() for k, v in tiny.features.items()}
    for table in features.values():
        table[3] = 0.0
    data = tiny.with_features(features, {k: np.arange(tiny.n_items) == 3 for k in features})
    model = VBPR(data, dim=4, content_dim=3)
    assert model.views()["item/content"][3].abs().sum() == 0


def test_vbpr_unit_scaling(tiny):
    model = VBPR(tiny, modalities=("image",), scaling="unit")
    assert torch.allclose(model.features.norm(dim=1), torch.ones(tiny.n_items), atol=1e-6)


def test_lightgcn_with_no_layers_is_matrix_factorisation(tiny):
    model = LightGCN(tiny, dim=5, n_layers=0)
    assert torch.allclose(model.score(torch.arange(3)), model.user_id.weight[:3] @ model.item_id.weight.T)


def test_lightgcn_gradient_equals_dense_autograd(tiny):
    model = LightGCN(tiny, dim=5, n_layers=3).double()
    batch = batch_of(tiny)
    model.losses(batch, {"bpr"})["bpr"].backward()
    ours = model.item_id.weight.grad.clone()
    dense = model.adjacency.to_dense()
    users, items = (p.detach().clone().requires_grad_() for p in (model.user_id.weight, model.item_id.weight))
    h = layer = torch.cat([users, items])
    for _ in range(3):
        layer = dense @ layer
        h = h + layer
    hu, hi = (h / 4).split([tiny.n_users, tiny.n_items])
    x = (hu[batch.users] * (hi[batch.items] - hi[batch.negatives])).sum(1)
    (-torch.nn.functional.logsigmoid(x).mean()).backward()
    assert torch.allclose(ours, items.grad, atol=1e-12)


def test_popularity_ranks_by_training_counts(tiny):
    assert torch.equal(Popularity(tiny).score(torch.tensor([0]))[0], torch.tensor(tiny.item_counts).float())


def test_item_knn_equals_the_plain_formula(tiny):
    r = tiny.matrix().toarray().astype(np.float64)
    together = r.T @ r
    norm = np.sqrt(np.diag(together))
    cosine = together / (np.outer(norm, norm) + 10.0)
    np.fill_diagonal(cosine, 0.0)
    expected = r @ cosine
    ours = ItemKNN(tiny, k=tiny.n_items).score(torch.arange(tiny.n_users)).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_item_knn_keeps_k_neighbours_lower_index_first(tiny):
    similar = ItemKNN(tiny, k=2)._similar.toarray()
    assert ((similar > 0).sum(1) <= 2).all()
    full = ItemKNN(tiny, k=tiny.n_items)._similar.toarray()
    for row, kept in zip(full, similar, strict=True):
        wanted = [i for i in np.lexsort((np.arange(len(row)), -row))[:2] if row[i] > 0]
        assert set(np.flatnonzero(kept)) == set(wanted)


def test_random_scores_are_uniform_and_belong_to_the_pair(tiny):
    model = Random(tiny, seed=4)
    together, alone = model.score(torch.tensor([1, 2])), model.score(torch.tensor([2]))
    assert torch.equal(together[1], alone[0])
    scores = model.score(torch.arange(tiny.n_users))
    assert len(scores.unique()) > 0.99 * scores.numel()
    assert 0.45 < scores.mean() < 0.55
    assert not torch.equal(scores, Random(tiny, seed=5).score(torch.arange(tiny.n_users)))


def test_oracle_ranks_by_planted_utility(tiny):
    data = with_truth(tiny)
    assert torch.equal(Oracle(data).score(torch.tensor([2]))[0], torch.tensor(data.truth.utility[2]))
    with pytest.raises(DataError, match="no planted truth"):
        Oracle(tiny)


# -- clear errors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda d: create("bprr", d), "unknown model.*lightgcn"),
        (lambda d: create("bpr", d, layers=2), "no such option.*dim"),
        (lambda d: BPR(d, dim=0), "embedding size"),
        (lambda d: LightGCN(d, n_layers=-1), "depth out of range"),
        (lambda d: LightGCN(d, regularizer="l1"), "unknown choice.*squared or emb_norm"),
        (lambda d: VBPR(d, modalities=("sound",)), "unknown modality.*image, text"),
        (lambda d: VBPR(d.with_features({})), "needs item features"),
        (lambda d: VBPR(d, scaling="log"), "unknown choice"),
        (lambda d: ItemKNN(d, k=0), "out of range"),
        (lambda d: BPR(d).check_weights({"cl": 1.0}), "no loss term.*bpr, l2"),
        (lambda d: BPR(d).check_weights({"l2": float("nan")}), "no number from 0 up"),
        (lambda d: BPR(d).check_weights({"l2": -1.0}), "no number from 0 up"),
        (lambda d: BPR(d).check_weights({"l2": "much"}), "no number from 0 up"),
        (lambda d: create("bpr", d, item_bias="maybe"), "item_bias.*true or false"),
        (lambda d: create("vbpr", d, content_weight="much"), "content_weight.*a number such as 1.0"),
        (lambda d: create("vbpr", d, modalities="smell"), "unknown modality.*'smell'"),
    ],
)
def test_bad_settings_get_a_sentence(tiny, build, says):
    with pytest.raises((OptionError, DataError), match=says):
        build(tiny)


def test_loading_what_is_no_model(tiny, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_model(tmp_path / "none.pt", tiny)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(DataError, match="not a saved model"):
        load_model(tmp_path / "text.pt", tiny)
    BPR(tiny, dim=2).save(tmp_path / "bpr.pt")
    with pytest.raises(DataError, match="trained on other data"):
        load_model(tmp_path / "bpr.pt", make_tiny(n_users=20))
    shutil.copy(tmp_path / "bpr.pt", tmp_path / "copy.pt")
    assert load_model(tmp_path / "copy.pt", tiny).options["dim"] == 2
