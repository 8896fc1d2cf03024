"""BM3 and BUIR: no negatives. The contract, parity with the reference, explicit oracles, missing modalities, bad settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny
from model_contract import ModelContract, batch_of

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import BM3, BUIR, Batch
from mmrec_teach.models.content import modality_features, modality_presence, shares
from mmrec_teach.ops import losses
from mmrec_teach.training import Trainer

PARITY = Path(__file__).parent / "parity"


class TestBM3(ModelContract):
    name = "bm3"
    options = {"dim": 8, "dropout": 0.3}


class TestBM3Released(ModelContract):
    name = "bm3"
    options = {"dim": 8, "n_layers": 2, "dropout": 0.3, "trainable_features": True, "regularizer": "emb_norm"}


class TestBM3WithoutPredictor(ModelContract):
    name = "bm3"
    options = {"dim": 8, "predictor": False, "dropout": 0.3}


class TestBM3ServingNewItemsByContent(ModelContract):
    name = "bm3"
    options = {"dim": 8, "dropout": 0.3, "serve": "content_for_new"}


class TestBUIR(ModelContract):
    name = "buir"
    options = {"dim": 8, "momentum": 0.9}


class TestBUIRLookup(ModelContract):
    name = "buir"
    options = {"dim": 8, "n_layers": 0, "momentum": 0.9}


# -- helpers --------------------------------------------------------------------------------------------------------------
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
    return z, data, Batch(*(torch.from_numpy(z[f"batch_{k}"]) for k in ("users", "pos", "neg")))


def fill(model: torch.nn.Module, z: dict[str, np.ndarray], names: dict[str, str]) -> None:
    """Copy the reference's parameters: our name -> its name. Every parameter of ours must be named."""
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(names)
    with torch.no_grad():
        for ours, theirs in names.items():
            parameters[ours].copy_(torch.from_numpy(z[f"param/{theirs}"]))


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
    "predict.weight": "predictor.weight",
    "predict.bias": "predictor.bias",
    "modality.table_0": "image_embedding.weight",
    "modality.table_1": "text_embedding.weight",
    "modality.layers.0.weight": "image_trs.weight",
    "modality.layers.0.bias": "image_trs.bias",
    "modality.layers.1.weight": "text_trs.weight",
    "modality.layers.1.bias": "text_trs.bias",
}


# -- parity ---------------------------------------------------------------------------------------------------------------
def test_bm3_equals_the_reference():
    z, data, batch = reference("bm3")
    model = BM3(
        data,
        dim=8,
        n_layers=int(z["hyper_n_layers"]),
        dropout=float(z["hyper_dropout"]),
        trainable_features=True,
        regularizer="emb_norm",
    )
    fill(model, z, NAMES)
    users, items = model.propagate()
    close(users, z["user_out"])
    close(items, z["item_out"])
    terms = model.losses(batch)
    close(terms["rec"], z["term_rec_user_to_item"] + z["term_rec_item_to_user"])
    for kind in ("align", "mask"):
        close(terms[kind], z[f"term_{kind}_text"] + z[f"term_{kind}_image"])
    for modality in ("image", "text"):
        alone = BM3(data, dim=8, n_layers=2, dropout=0.0, modalities=modality, trainable_features=True)
        place = {"image": 0, "text": 1}[modality]
        names = {k.replace(f"_{place}", "_0").replace(f"s.{place}", "s.0"): v for k, v in NAMES.items() if modality in v}
        fill(alone, z, {**{k: v for k, v in NAMES.items() if not k.startswith("modality")}, **names})
        for kind in ("align", "mask"):
            close(alone.losses(batch, {kind})[kind], z[f"term_{kind}_{modality}"])
    for predicted, target, name in ((users, items, "user_to_item"), (items, users, "item_to_user")):
        a, b = (batch.users, batch.items) if predicted is users else (batch.items, batch.users)
        close(model.distance(model.predict(predicted[a]), target[b]), z[f"term_rec_{name}"])
    close(terms["reg"], z["term_reg"])
    weight = float(z["hyper_cl_weight"])
    total = model.total(terms, {"rec": 1.0, "align": weight, "mask": weight, "reg": float(z["hyper_reg_weight"])})
    close(total, z["loss_total"])
    total.backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, z[f"grad/{NAMES[name]}"])
    close(model.score(torch.arange(5)), z["scores_first_users"])


def test_frozen_and_trained_tables_agree_until_they_are_trained(tiny):
    batch = batch_of(tiny)
    frozen, trained = (BM3(tiny, dim=6, trainable_features=t, dropout=0.0) for t in (False, True))
    for name, term in frozen.losses(batch).items():
        assert torch.allclose(term, trained.losses(batch)[name], atol=1e-6), name
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    assert count(trained) - count(frozen) == sum(table.size for table in tiny.features.values())


# -- formulas -------------------------------------------------------------------------------------------------------------
def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_bm3_terms_equal_their_formula_row_by_row():
    data = without(make_tiny(), {"image": [0, 4, 7], "text": [4, 9]})
    model = BM3(data, dim=4, n_layers=2, dropout=0.0).double()
    with torch.no_grad():
        for layer in model.modality.layers:
            layer.bias.normal_(generator=torch.Generator().manual_seed(3))
        model.predict.bias.normal_(generator=torch.Generator().manual_seed(4))
    batch = batch_of(data, 60)
    p = {k: v.detach().numpy() for k, v in model.named_parameters()}
    n_users, n_items = data.n_users, data.n_items
    taken = data.matrix().toarray().astype(np.float64)
    layers = [(p["user_id.weight"], p["item_id.weight"])]
    for _ in range(2):
        users, items = np.zeros((n_users, 4)), np.zeros((n_items, 4))
        for u, i in zip(*taken.nonzero(), strict=True):
            weight = 1 / np.sqrt(taken[u].sum() * taken[:, i].sum())
            users[u] += weight * layers[-1][1][i]
            items[i] += weight * layers[-1][0][u]
        layers.append((users, items))
    h_u = sum(users for users, _ in layers) / 3
    h_i = sum(items for _, items in layers) / 3 + p["item_id.weight"]
    q = lambda h: p["predict.weight"] @ h + p["predict.bias"]  # noqa: E731
    pairs = list(zip(batch.users.tolist(), batch.items.tolist(), strict=True))
    rec = np.mean([2 - cosine(q(h_u[u]), h_i[i]) - cosine(q(h_i[i]), h_u[u]) for u, i in pairs])
    align = mask = 0.0
    for m, name in enumerate(("image", "text")):
        here = [i for _, i in pairs if not data.missing[name][i]]
        assert len(here) < len(pairs)
        h_m = [p[f"modality.layers.{m}.weight"] @ data.features[name][i] + p[f"modality.layers.{m}.bias"] for i in here]
        align += np.mean([1 - cosine(q(h), h_i[i]) for h, i in zip(h_m, here, strict=True)])
        mask += np.mean([1 - cosine(q(h), h) for h in h_m])
    reg = np.mean([(h_u[u] @ h_u[u] + h_i[i] @ h_i[i]) / 2 for u, i in pairs])
    for name, value in (("rec", rec), ("align", align), ("mask", mask), ("reg", reg)):
        assert model.losses(batch, {name})[name].item() == pytest.approx(value, abs=1e-7), name
    expected = [[q(h_u[u]) @ q(h_i[i]) for i in range(n_items)] for u in (3, 5)]
    np.testing.assert_allclose(model.score(torch.tensor([3, 5])).detach().numpy(), expected, atol=1e-7)


# -- who has which vector when scoring --------------------------------------------------------------------------------------
def moved(data: Dataset, **options) -> BM3:
    """A model away from its initial values, offsets too."""
    model, generator = BM3(data, dim=4, **options), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def test_a_stand_in_is_the_predicted_mean_of_the_guesses_from_content():
    data = without(make_tiny(), {"image": [3, 38, 5], "text": [4, 5]})  # 38 and 39 are cold
    model = moved(data, serve="content", new_scale=1.5).double()
    with model.evaluating():
        own, served, users = model.predicted()[1].numpy(), model.served()[1].numpy(), model.score(torch.arange(30)).numpy()
        h_u = model.predicted()[0].numpy()
    p = {k: v.detach().numpy() for k, v in model.named_parameters()}
    q = lambda h: p["predict.weight"] @ h + p["predict.bias"]  # noqa: E731
    length = np.mean([np.sqrt(own[i] @ own[i]) for i in range(38)])
    for i in (0, 3, 4, 38, 39):
        guesses = [
            q(p[f"modality.layers.{m}.weight"] @ data.features[name][i] + p[f"modality.layers.{m}.bias"])
            for m, name in enumerate(("image", "text"))
            if not data.missing[name][i]
        ]
        direction = q(np.mean(guesses, axis=0))
        np.testing.assert_allclose(served[i], 1.5 * length * direction / np.sqrt(direction @ direction), atol=1e-7)
    assert not served[5].any(), "no content, no opinion"
    np.testing.assert_allclose(users, h_u @ served.T, atol=1e-9)


def test_only_new_items_get_a_stand_in(tiny):
    by_id, new, content = (moved(tiny, serve=serve) for serve in ("id", "content_for_new", "content"))
    cold, users = tiny.cold_items, torch.arange(tiny.n_users)
    with by_id.evaluating(), new.evaluating(), content.evaluating():
        scores = [model.score(users) for model in (by_id, new, content)]
        assert torch.equal(scores[1][:, ~cold], scores[0][:, ~cold])
        assert torch.equal(scores[1][:, cold], scores[2][:, cold])
        assert not torch.allclose(scores[1][:, cold], scores[0][:, cold])
        assert by_id.parts(users) is None
        for model, score in ((new, scores[1]), (content, scores[2])):
            parts = model.parts(users)
            assert torch.equal(parts["id"] + parts["content"], score)
            assert not parts["content"][:, ~cold].any() or model is content
            assert not parts["id"][:, cold].any()


def test_serving_says_nothing_in_training(tiny):
    """The same seed, the same parameters, whoever is served by content."""
    trained = []
    for serve in ("id", "content_for_new"):
        model = BM3(tiny, dim=4, serve=serve)
        Trainer(model, tiny, device="cpu", batch_size=64, metrics_every=0).epoch()
        trained.append(model.state_dict())
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_new_items_stand_where_cold_ones_with_their_content_do():
    data = without(make_tiny(), {"text": [39]})
    features = {name: torch.from_numpy(table[38:].copy()) for name, table in data.features.items()}
    model = moved(data, serve="content_for_new")
    with model.evaluating():
        vectors, offsets = model.new_items(features)
        assert torch.allclose(vectors, model.item_vectors()[38:], atol=1e-6)
    assert offsets is None
    with pytest.raises(OptionError, match="cannot place a new item"):
        moved(data).new_items(features)
    with pytest.raises(OptionError, match="trained feature tables"):
        moved(data, serve="content_for_new", trainable_features=True).new_items(features)


def test_buir_equals_its_formula_row_by_row(tiny):
    model = BUIR(tiny, dim=4, n_layers=1, edge_dropout=0.0, momentum=0.9).double()
    batch = batch_of(tiny, 50)
    online = {k: v.detach().clone().numpy() for k, v in model.named_parameters()}
    old = np.random.default_rng(0).normal(size=(tiny.n_users, 4)), np.random.default_rng(1).normal(size=(tiny.n_items, 4))
    model.user_target.copy_(torch.from_numpy(old[0]))
    model.item_target.copy_(torch.from_numpy(old[1]))
    theta = online["user_id.weight"], online["item_id.weight"]
    xi = tuple(0.9 * before + 0.1 * now for before, now in zip(old, theta, strict=True))
    taken = tiny.matrix().toarray().astype(np.float64)

    def f(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        next_users, next_items = np.zeros_like(users), np.zeros_like(items)
        for u, i in zip(*taken.nonzero(), strict=True):
            weight = 1 / np.sqrt(taken[u].sum() * taken[:, i].sum())
            next_users[u] += weight * items[i]
            next_items[i] += weight * users[u]
        return (users + next_users) / 2, (items + next_items) / 2

    (u_on, i_on), (u_target, i_target) = f(*theta), f(*xi)
    q = lambda h: online["predict.weight"] @ h + online["predict.bias"]  # noqa: E731
    pairs = list(zip(batch.users.tolist(), batch.items.tolist(), strict=True))
    expected = np.mean([4 - 2 * cosine(q(u_on[u]), i_target[i]) - 2 * cosine(q(i_on[i]), u_target[u]) for u, i in pairs])
    assert model.losses(batch, {"rec"})["rec"].item() == pytest.approx(expected, abs=1e-7)
    scores = [[q(u_on[u]) @ i_on[i] + u_on[u] @ q(i_on[i]) for i in range(tiny.n_items)] for u in (1, 2)]
    np.testing.assert_allclose(model.score(torch.tensor([1, 2])).detach().numpy(), scores, atol=1e-7)


# -- what keeps them from collapse, one switch each -------------------------------------------------------------------------
def test_targets_get_no_gradient_unless_asked(tiny):
    a, b = (torch.randn(5, 3, generator=torch.Generator().manual_seed(s), requires_grad=True) for s in (0, 1))
    losses.alignment(a, b).backward()
    assert a.grad is not None
    assert b.grad is None
    losses.alignment(a, b, stop_gradient=False).backward()
    assert b.grad.abs().sum() > 0
    batch, gradients = batch_of(tiny), []
    for stop in (True, False):
        model = BM3(tiny, dim=6, dropout=0.0, stop_gradient=stop)
        model.losses(batch, {"align"})["align"].backward()
        gradients.append(model.item_id.weight.grad)
    assert gradients[0] is None  # the alignment moves content to the ID side, not the other way
    assert gradients[1].abs().sum() > 0


def test_alignment_over_no_row_is_zero():
    a = torch.randn(4, 3, requires_grad=True)
    value = losses.alignment(a, a + 1, torch.zeros(4, dtype=torch.bool))
    assert value.item() == 0.0
    value.backward()
    assert torch.isfinite(a.grad).all()


def test_dropout_makes_the_views_differ_in_training_only(tiny):
    model, batch = BM3(tiny, dim=6, dropout=0.5), batch_of(tiny)
    first, second = (model.losses(batch)["mask"].item() for _ in range(2))
    assert first != second
    model.eval()
    first, second = (model.losses(batch)["mask"].item() for _ in range(2))
    assert first == second


def test_momentum_moves_the_target(tiny):
    still, copy, slow = (BUIR(tiny, dim=4, momentum=m, edge_dropout=0.0) for m in (1.0, 0.0, 0.9))
    for model in (still, copy, slow):
        start = model.user_id.weight.detach().clone()
        trainer = Trainer(model, tiny, device="cpu", batch_size=64, lr=0.05, metrics_every=0)
        trainer.epoch()
        before_last = {"still": start, "now": model.user_id.weight.detach().clone()}
        model.losses(batch_of(tiny))  # catches up with the last step
        if model is still:
            assert torch.equal(model.user_target, start)
        elif model is copy:
            assert torch.equal(model.user_target, before_last["now"])
        else:
            assert 0 < (model.user_target - start).norm() < (before_last["now"] - start).norm()
        assert not model.user_target.requires_grad
    model = slow.eval()
    before = model.user_target.clone()
    model.losses(batch_of(tiny))
    assert torch.equal(model.user_target, before)


def test_buir_target_survives_a_checkpoint(tiny, tmp_path):
    model = BUIR(tiny, dim=4, momentum=0.9)
    trainer = Trainer(model, tiny, device="cpu", batch_size=64, metrics_every=0)
    trainer.epoch()
    trainer.save(tmp_path / "state.pt")
    other = BUIR(tiny, dim=4, momentum=0.9, seed=5)
    again = Trainer(other, tiny, device="cpu", batch_size=64, metrics_every=0)
    again.load(tmp_path / "state.pt")
    assert trainer.epoch().losses == again.epoch().losses
    assert torch.equal(model.user_target, other.user_target)


def test_buir_drops_both_directions_of_an_edge(tiny):
    model = BUIR(tiny, dim=4, edge_dropout=0.9)
    dense = model.augmented().to_dense()
    assert torch.equal(dense, dense.T)
    assert 0 < (dense > 0).sum() < (model.adjacency.to_dense() > 0).sum()
    rates = [(model.augmented().values() == 0).float().mean().item() for _ in range(300)]
    assert np.mean(rates) == pytest.approx(0.45, abs=0.06)
    average = sum(model.augmented().to_dense() for _ in range(2000)) / 2000
    assert torch.allclose(average, model.adjacency.to_dense(), atol=0.05)
    model.eval()
    assert torch.equal(model.augmented().to_dense(), model.adjacency.to_dense())


# -- content, and its absence -----------------------------------------------------------------------------------------------
def test_bm3_scores_do_not_read_the_features(tiny):
    model = BM3(tiny, dim=6)
    before = model.score(torch.arange(4))
    for name in model.modality.names:
        model.modality.table(name).data = torch.randn_like(model.modality.table(name))
    assert torch.equal(model.score(torch.arange(4)), before)


def test_an_item_without_a_modality_takes_no_part_in_its_terms(tiny):
    data, lacking = without(tiny, {"image": [0, 2, 4]}), torch.tensor([0, 2, 4])
    model = BM3(data, dim=6, dropout=0.0)
    with torch.no_grad():
        model.modality.layer("image").bias.fill_(1.0)
    views = model.views()
    assert views["item/image"][lacking].abs().sum() == 0
    assert torch.equal(views["item/content"][lacking], views["item/text"][lacking])
    assert torch.allclose(views["item/content"][1], (views["item/text"][1] + views["item/image"][1]) / 2)
    batch = Batch(torch.tensor([0, 2, 4]), lacking)
    model.losses(batch, {"align", "mask"})["align"].backward()
    assert model.modality.layer("image").weight.grad.abs().sum() == 0
    assert model.modality.layer("text").weight.grad.abs().sum() > 0
    mixed = Batch(torch.tensor([0, 2, 1]), torch.tensor([0, 2, 1]))
    alone = Batch(torch.tensor([1]), torch.tensor([1]))
    only_image = BM3(data, dim=6, dropout=0.0, modalities="image")
    assert torch.allclose(only_image.losses(mixed)["mask"], only_image.losses(alone)["mask"])


def test_any_number_and_names_of_modalities(tiny):
    tables = dict.fromkeys(("audio", "keys", "text.v2", "final"), tiny.features["text"])
    data = tiny.with_features(tables)
    model = BM3(data, dim=4)
    assert {"item/audio", "item/keys", "item/text.v2", "item/modality-final"} < set(model.views())
    assert BM3(data, dim=4, modalities="audio").modality.names == ("audio",)
    model.losses(batch_of(data))


def test_features_are_shared_not_copied_and_survive_training(tiny):
    tables = modality_features(tiny, model="test")
    assert tables["image"].data_ptr() == tiny.features["image"].ctypes.data
    before = tiny.features["image"].copy()
    model = BM3(tiny, dim=4, trainable_features=True)
    Trainer(model, tiny, device="cpu", batch_size=64, metrics_every=0).epoch()
    assert not np.array_equal(model.modality.table("image").detach().numpy(), before)
    np.testing.assert_array_equal(tiny.features["image"], before)


def test_shares_are_renormalised_over_what_an_item_has(tiny):
    data = without(tiny, {"image": [0, 1], "text": [1, 2]})
    weights = torch.tensor([0.1, 0.9], requires_grad=True)
    table = shares(weights, modality_presence(data, ("image", "text")))
    assert torch.allclose(table[:4], torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.1, 0.9]]))
    table.square().sum().backward()
    assert torch.isfinite(weights.grad).all()


# -- clear errors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda d: BM3(d, n_layers=-1), "depth out of range"),
        (lambda d: BM3(d, serve="both"), "serve: unknown choice.*content_for_new"),
        (lambda d: BM3(d, new_scale=-0.1), "length out of range"),
        (lambda d: BM3(d, dropout=1.0), "dropout out of range.*from 0 to below 1"),
        (lambda d: BM3(d, regularizer="l1"), "unknown choice.*squared or emb_norm"),
        (lambda d: BM3(d, modalities=("sound",)), "unknown modality.*image, text"),
        (lambda d: BM3(d, modalities=("text", "text")), "named twice"),
        (lambda d: BM3(d.with_features({})), "BM3 needs item features"),
        (lambda d: BM3(d, scaling="log"), "unknown choice"),
        (lambda d: BUIR(d, n_layers=1.5), "depth out of range"),
        (lambda d: BUIR(d, momentum=1.1), "momentum out of range"),
        (lambda d: BUIR(d, edge_dropout=-0.1), "edge dropout out of range"),
    ],
)
def test_bad_settings_get_a_sentence(tiny, build, says):
    with pytest.raises((OptionError, DataError), match=says):
        build(tiny)
