"""Models as vectors: whose score is an inner product, what it is made of, and where a new item would stand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny

from mmrec_teach.data import Dataset, Truth
from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation.ranking import DEFAULT_MASK, evaluate
from mmrec_teach.evaluation.retrieval import add_new, index_of, query_table
from mmrec_teach.models import MODELS, Recommender, create
from mmrec_teach.ops.topk import top_k
from mmrec_teach.training import fit

GRAPHS = ("freedom", "lattice", "alignrec")
"""Models whose content speaks through a graph of all items."""
NO_VECTORS = {"random": "every pair", "popularity": "count an item", "item-knn": "likenesses", "oracle": "planted liking"}
SETTINGS: list[tuple[str, dict]] = [
    ("bpr", {}),
    ("bpr", {"item_bias": True}),
    ("vbpr", {}),
    ("vbpr", {"item_bias": False}),
    ("vbpr", {"content_bias": False, "content_weight": 0.5, "scaling": "unit"}),
    ("vbpr", {"item_bias": False, "content_bias": False, "projection_bias": True}),
    ("lightgcn", {}),
    ("buir", {}),
    ("lattice", {}),
    ("lattice", {"n_item_layers": 0}),
    ("freedom", {}),
    ("freedom", {"n_item_layers": 0}),
    ("bm3", {}),
    ("mmgcn", {}),
    ("mmgcn", {"combination": "sum", "fusion": "sum", "normalize": False, "n_layers": 3, "latent_dim": 0}),
    ("grcn", {}),
    ("grcn", {"attend_content": True, "scaling": "unit"}),
    ("dualgnn", {}),
    ("dualgnn", {"fusion": "sum", "normalize": False}),
    ("alignrec", {}),
    ("alignrec", {"fusion": "attention"}),
    ("alignrec", {"fusion": "concat", "gate": "content"}),
    ("sasrec", {}),
    ("unisrec", {"heads": 1}),
    ("unisrec", {"heads": 1, "modalities": "image", "scaling": "unit"}),
    ("missrec", {"fusion": "mean"}),
    ("missrec", {"fusion": "mean", "ids": False, "missing": "bias"}),
    ("missrec", {"modalities": "text"}),
    ("missrec", {"modalities": "text", "ids": False, "scaling": "unit"}),
    ("two-tower", {}),
    ("two-tower", {"gate": "concat", "query": "trigger"}),
    ("two-tower", {"gate": "none", "serve": "content"}),
]


def _named(name: str, options: dict) -> str:
    return " ".join([name, *(f"{k}={v}" for k, v in options.items())])


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The tiny data with an order, some contents lost, and a planted liking."""
    data = in_order(make_tiny())
    features = {name: table.copy() for name, table in data.features.items()}
    missing = {"image": np.isin(np.arange(40), [3, 5, 39]), "text": np.isin(np.arange(40), [5, 8])}
    for name, gone in missing.items():
        features[name][gone] = 0
    liking = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    truth = Truth(
        utility=liking,
        user_interests=np.zeros((30, 3), np.int64),
        interest_shares=np.tile(np.float32([1, 0, 0]), (30, 1)),
        care=np.full((30, 2), 0.5, np.float32),
        item_interest=np.zeros(40, np.int64),
        picture_style=np.zeros((40, 1), np.float32),
        word_style=np.zeros((40, 1), np.float32),
    )
    return replace(data.with_features(features, missing), truth=truth)


def built(name: str, data: Dataset, **options) -> Recommender:
    """A model far from its initial values: offsets and λ are not zero."""
    if "dim" in MODELS[name].__init__.__wrapped__.__code__.co_varnames:
        options = {**({"dim": 8} if name != "missrec" else {"dim": 8, "heads": 2}), **options}
    model = create(name, data, **options)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    if hasattr(model, "find_interests"):
        model.find_interests()
    return model


@pytest.fixture(params=SETTINGS, ids=lambda s: _named(*s))
def model(request, data) -> Recommender:
    name, options = request.param
    return built(name, data, **options)


def test_every_model_is_here():
    assert {name for name, _ in SETTINGS} | set(NO_VECTORS) == set(MODELS)


# -- vectors ------------------------------------------------------------------------------------------------------------
def test_the_score_is_an_inner_product(model, data):
    """The models of vectors, and with them their index: the same lists as from the scores."""
    users = torch.arange(data.n_users)
    for told in (("train",), ("train", "valid")):
        with model.knowing(*told) if hasattr(model, "knowing") else model.evaluating(), model.evaluating():
            score = model.score(users).detach()
            h = model.user_vectors(users)
            product = h @ model.item_vectors().T
            offsets = model.item_offsets()
            product = product if offsets is None else product + offsets
            constant = (score - product).mean(1, keepdim=True)
            assert torch.allclose(product + constant, score, atol=1e-4)
            assert torch.equal(model.user_vectors(), h)
            found = index_of(model).search(query_table(model, h), 5)
    assert torch.allclose(found[0] + constant, score.gather(1, found[1]), atol=1e-4)
    assert torch.allclose(found[0] + constant, score.gather(1, top_k(score, 5)), atol=1e-4)
    assert not h.requires_grad


@pytest.mark.parametrize("name", NO_VECTORS)
def test_models_without_vectors_say_why(name, data):
    model = create(name, data)
    for ask in (model.user_vectors, model.item_vectors, lambda: index_of(model)):
        with pytest.raises(OptionError, match=f"not a model of vectors .*{NO_VECTORS[name]}.*such as lightgcn"):
            ask()


@pytest.mark.parametrize("fusion", ["adaptive", "max"])
def test_missrec_has_vectors_only_while_it_takes_the_mean(fusion, data):
    model = built("missrec", data, fusion=fusion)
    with pytest.raises(OptionError, match=r"for every user anew, .*fusion='mean'"):
        index_of(model)
    users = torch.arange(data.n_users)
    product = model.user_vectors() @ model.with_ids(model.content()).detach().T
    assert (model.score(users).detach() - product).std(1).max() > 1e-3  # it is right to refuse
    if fusion == "adaptive":
        model.sharpness.data.zero_()
        assert torch.allclose(model.user_vectors() @ model.item_vectors().T, model.score(users).detach(), atol=1e-5)


# -- parts ----------------------------------------------------------------------------------------------------------------
def test_parts_add_up_to_the_score_or_there_is_a_reason(model, data):
    users = torch.tensor([4, 0, 4])
    with model.evaluating():
        parts, score = model.parts(users), model.score(users)
    if model.parts_note:
        assert parts is None
        return
    assert list(parts) == ["id", "content"]
    assert torch.allclose(parts["id"] + parts["content"], score, atol=1e-4)


def test_a_part_is_what_its_vectors_add(data):
    """Without its ID vector, or without content, an item keeps the other part."""
    users = torch.arange(data.n_users)
    for name in ("vbpr", "grcn"):
        model = built(name, data, **({"item_bias": False} if name == "vbpr" else {"n_layers": 0}))
        content = model.parts(users)["content"].detach()
        model.item_id.weight.data.zero_()
        parts = model.parts(users)
        assert parts["id"].abs().max() < 1e-5
        assert torch.allclose(parts["content"], content, atol=1e-5)
    model = built("freedom", data)
    assert torch.allclose(model.parts(users)["content"][:, 5], torch.zeros(30), atol=1e-6)  # item 5 has no content
    for name in ("vbpr", "alignrec"):
        model = built(name, data)
        assert model.parts(users)["content"].abs().max() > 0.1
        assert model.parts(users)["id"].abs().max() > 0.1


def test_missrec_scores_by_both_parts_when_it_is_no_model_of_vectors(data):
    model, users = built("missrec", data), torch.arange(4)
    parts = model.parts(users)
    assert torch.allclose(parts["id"] + parts["content"], model.score(users), atol=1e-5)
    assert parts["content"][:, 5].abs().max() < 1e-6


# -- new items --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", [s for s in SETTINGS if s[0] not in GRAPHS], indirect=True, ids=lambda s: _named(*s))
def test_a_new_item_is_a_cold_one_without_its_id(model, data):
    """The model's own vector of an item that nobody took, its ID set to zero, is what ``new_items`` says of its content."""
    cold = np.flatnonzero(data.cold_items)
    assert len(cold) == 2  # the second has lost its picture
    features = {name: torch.from_numpy(table[cold].copy()) for name, table in data.features.items()}
    if model.new_note:
        with pytest.raises(OptionError, match="cannot place a new item"):
            model.new_items(features)
        return
    wanted = {name: table for name, table in features.items() if name in reads(model)}
    with torch.no_grad():
        for table in (getattr(model, "item_id", None), getattr(model, "item_bias", None)):
            if table is not None:
                (table.weight if hasattr(table, "weight") else table)[cold] = 0
    with model.evaluating():
        vectors, offsets = model.new_items(wanted)
        assert torch.allclose(vectors, model.item_vectors()[cold], atol=1e-5)
        if model.item_offsets() is None:
            assert offsets is None
        else:
            assert torch.allclose(offsets, model.item_offsets()[cold], atol=1e-5)
    assert not vectors.requires_grad


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("freedom", {}),
        ("freedom", {"n_item_layers": 2, "modalities": "text"}),
        ("freedom", {"n_item_layers": 0}),
        ("lattice", {}),
        ("lattice", {"n_item_layers": 2, "raw_share": 0.3, "scaling": "unit"}),
        ("lattice", {"user_item_graph": "row", "raw_share": 0.0}),
        ("alignrec", {}),
        ("alignrec", {"gate": "content", "fusion": "attention"}),
        ("alignrec", {"gate": "none", "fusion": "concat", "features": "image"}),
        ("alignrec", {"gate": "sigmoid"}),
    ],
)
def test_a_new_item_joins_the_graph_of_items(name, options, data):
    """A model that has never met three items places them as does one whose graph holds them, nobody's neighbours."""
    rng = np.random.default_rng(5)
    more = {}
    for m, table in data.features.items():
        away = rng.normal(size=(3, table.shape[1])).astype(np.float32)
        away = (
            np.linalg.qr(np.c_[table.mean(0), table[::2].mean(0), away.T])[0].T[2:].astype(np.float32)
        )  # far from all the others
        away[{"image": 1, "text": 2}[m]] = 0
        more[m] = away + 0.1 * table[:3] * away.any(1, keepdims=True)
    extended = replace(
        data,
        item_ids=np.array([f"i{i}" for i in range(43)]),
        features={m: np.concatenate([t, more[m]]) for m, t in data.features.items()},
        missing={m: np.concatenate([t, ~more[m].any(1)]) for m, t in data.missing.items()},
        items=None,
        truth=None,
    )
    whole, small = built(name, extended, k=3, **options), built(name, data, k=3, **options)
    whole.item_id.weight.data[40:] = 0
    state = {n: p[:40] if p.shape[:1] == (43,) else p for n, p in whole.state_dict().items()}
    small.load_state_dict(state)
    with whole.evaluating():
        graphs = [value for key, value in whole.named_buffers() if re.fullmatch(r"similar(_\d)?", key)]
        graphs += [whole.item_graph()[0]] if name == "lattice" else []
        for graph in graphs:
            dense = graph.to_dense()
            assert (dense[:40, 40:] == 0).all()  # what the comparison rests on
            assert (dense[40:, :40] != 0).any()
        wanted = whole.item_vectors()
    read = options.get("modalities", options.get("features"))
    given = {m: torch.from_numpy(t) for m, t in more.items() if read in (None, m)}
    vectors, offsets = small.new_items(given)
    assert offsets is None
    assert torch.allclose(small.item_vectors(), wanted[:40], atol=1e-5)
    assert torch.allclose(vectors, wanted[40:], atol=1e-5)
    if options.get("n_item_layers") != 0:
        assert (vectors.norm(dim=1) > 1e-3).sum() >= 2


def test_trained_feature_tables_cannot_place_new_items(data):
    features = {m: torch.from_numpy(t[:2].copy()) for m, t in data.features.items()}
    for name in ("freedom", "lattice", "alignrec"):
        with pytest.raises(OptionError, match="trained feature tables"):
            built(name, data, trainable_features=True).new_items(features)


def reads(model: Recommender) -> tuple[str, ...]:
    """The modalities a model was made with."""
    chosen = model.options["features" if type(model).__name__ == "AlignRec" else "modalities"]
    if chosen is None and type(model).__name__ == "UniSRec":
        return ("text",)
    return ("image", "text") if chosen is None else (chosen,)


def test_new_items_need_the_features_the_model_reads(data):
    model = built("vbpr", data)
    good = torch.ones(2, 8)
    for features, words in (
        ({}, "no features"),
        ({"sound": good}, "unknown modality .*image, text"),
        ({"image": torch.ones(2, 3)}, r"found shape \(2, 3\), expected \(2, 8\)"),
        ({"image": good, "text": torch.ones(3, 5)}, r"expected \(2, 5\)"),
        ({"image": good * float("nan")}, "not finite"),
    ):
        with pytest.raises(OptionError, match=words):
            model.new_items(features)
    vectors, _ = model.new_items({"image": good})
    both, _ = model.new_items({"image": good, "text": torch.zeros(2, 5)})
    assert torch.equal(vectors, both)


@pytest.mark.parametrize(
    ("name", "options"), [("vbpr", {"scaling": "unit"}), ("unisrec", {"heads": 1}), ("grcn", {}), ("alignrec", {"k": 5})]
)
def test_a_new_item_reaches_the_users_who_like_its_kind_without_training(name, options):
    """Trained without the last two items; their content alone brings each to users of its own parity."""
    whole = in_order(make_tiny())
    kept = 38

    def of(part):
        return part.select(part.items < kept)

    old = replace(
        whole,
        item_ids=whole.item_ids[:kept],
        items=None,
        train=of(whole.train),
        valid=of(whole.valid),
        test=of(whole.test),
        features={m: t[:kept] for m, t in whole.features.items()},
        missing={m: t[:kept] for m, t in whole.missing.items()},
    )
    model = create(name, old, dim=8, **options)
    fit(model, old, epochs=30, patience=30, lr=0.02, batch_size=64, progress=False, device="cpu")
    index = index_of(model)
    before = index.search(query_table(model, model.user_vectors()), kept)[1]
    add_new(index, model, {m: t[kept:] for m, t in whole.features.items() if m in reads(model)}, [38, 39])
    assert len(index) == 40
    _, found = index.search(query_table(model, model.user_vectors()), 40)
    place = found.argsort(1)[:, kept:]  # (U, 2) where the new items stand
    own = place[torch.arange(30), torch.arange(30) % 2].float()  # item 38 is even
    other = place[torch.arange(30), 1 - torch.arange(30) % 2].float()
    assert (own < other).float().mean() > 0.9
    assert torch.equal(found[found < kept].view(30, kept), before)  # the others keep their order
    with pytest.raises(OptionError, match="an id is taken"):
        add_new(index, model, {m: t[kept:] for m, t in whole.features.items() if m in reads(model)}, [38, 40])


# -- recall is evaluation's list -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["vbpr", "sasrec"])
def test_the_index_finds_the_lists_that_are_judged(name, data):
    model = built(name, data)
    judged = evaluate(model, data, "test", ks=(10,))
    mask = data.matrix(*DEFAULT_MASK["test"])
    seen = [mask[[user]].indices for user in judged.users]
    with model.knowing("train", "valid") if hasattr(model, "knowing") else model.evaluating():
        h = model.user_vectors(torch.from_numpy(judged.users.copy()))
    assert (index_of(model).search(query_table(model, h), 10, exclude=seen)[1].numpy() == judged.topk).all()
