"""What lesson 09 claims of order, of the mask and of items without ids, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmrec_teach.data import Dataset, Interactions, load
from mmrec_teach.data.sequences import follows_time, histories
from mmrec_teach.evaluation import evaluate, protocols
from mmrec_teach.models import Recommender, create
from mmrec_teach.training import Trainer, train
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
OTHERS = "bazaar/garden+bazaar/kitchen+bazaar/attic"
USUAL = {"sasrec": {"loss": "ce"}, "unisrec": {"experts": 4, "inner": 64, "scaling": "unit", "modalities": "text"}}
NOTHING = Interactions(*np.zeros((3, 0), dtype=np.int64))


@functools.cache
def shop() -> Dataset:
    return load("bazaar", split="leave-one-out")


@functools.cache
def whole() -> Dataset:
    """Training and validation purchases told together, for models that know no order."""
    return shop().with_splits(Interactions.concatenate(shop().train, shop().valid), NOTHING, shop().test)


@functools.cache
def others() -> Dataset:
    return load(OTHERS, split="leave-one-out")


@functools.cache
def shuffled(seed: int, keep_last: bool = False) -> Dataset:
    """The lesson's knife."""
    data, rng = shop(), np.random.default_rng(seed)
    both = Interactions.concatenate(data.train, data.valid)
    order = np.lexsort((both.timestamps, both.users))
    draw = rng.random(len(order))
    if keep_last:
        draw[np.append(np.diff(both.users[order]) != 0, True)] = 2
    times = both.timestamps.copy()
    times[order[np.lexsort((draw, both.users[order]))]] = both.timestamps[order]
    n = len(data.train)
    train, valid = (Interactions(p.users, p.items, t) for p, t in ((data.train, times[:n]), (data.valid, times[n:])))
    return data.with_splits(train, valid, data.test)


@functools.cache
def few(seed: int) -> Dataset:
    """A shop in which only 100 users may be learned from."""
    chosen = np.isin(np.arange(shop().n_users), np.random.default_rng(seed).permutation(shop().n_users)[:100])
    return shop().with_splits(shop().train.select(chosen[shop().train.users]), NOTHING, NOTHING)


def made(name: str, data: Dataset, seed: int, **options) -> Recommender:
    return create(name, data, dim=32, seed=seed, **{"n_layers": 1, **USUAL[name], **options})


@functools.cache
def fitted(name: str, data: Dataset, seed: int, epochs: int = 20, batch_size: int = 1024, **options) -> Recommender:
    """The lesson's training: one block, vectors of 32 numbers, 20 epochs of Adam 1e-2 (UniSRec 5e-3), 1,024 targets a batch."""
    model, lr = made(name, data, seed, **options), 1e-2 if name == "sasrec" else 5e-3
    for _ in train(model, data, seed=seed, epochs=epochs, lr=lr, batch_size=batch_size, metrics_every=0, device="cpu"):
        pass
    return model


def recall(model: Recommender, data: Dataset, metric: str = "recall@20") -> float:
    return evaluate(model, data, "test").mean(metric)


def reading(model: Recommender, data: Dataset) -> Recommender:
    copy = create("sasrec", data, **model.options)
    copy.load_state_dict(model.state_dict())
    return copy


def sasrec(seed: int, **options) -> float:
    return recall(fitted("sasrec", shop(), seed, **options), shop())


def mean(values) -> float:
    return float(np.mean(list(values)))


# -- the data -------------------------------------------------------------------------------------------------------------------
def agreeing(values: np.ndarray, data: Dataset, lag: int) -> float:
    """Share of purchases whose value is that of the purchase ``lag`` before."""
    told = histories(data, "train", "valid")
    pairs = np.flatnonzero(np.arange(len(told)) - lag >= told.starts[told.users])
    return float((values[told.items[pairs]] == values[told.items[pairs - lag]]).mean())


def test_order_carries_the_kind_for_some_purchases_and_the_colour_for_one():
    kind, colour = shop().items["category"].to_numpy(), shop().truth.extra["hue"]
    assert follows_time(shop())
    assert not follows_time(load("bazaar"))
    kinds, colours = ([agreeing(values, shop(), lag) for lag in (1, 2, 3, 4)] for values in (kind, colour))
    assert kinds[0] > kinds[1] + 0.05 > kinds[2] + 0.1 > kinds[3] + 0.1
    assert colours[0] > 0.2 > 0.14 > max(colours[1:])
    for seed in SEEDS:
        for values, tolerance in ((kind, 0.03), (colour, 0.03)):
            flat = [agreeing(values, shuffled(seed), lag) for lag in (1, 2, 3, 4, 8)]
            assert max(flat) - min(flat) < tolerance + 0.03
        assert kinds[3] < agreeing(kind, shuffled(seed), 4) - 0.02, "further back below the shuffled line"
        assert colours[2] < agreeing(colour, shuffled(seed), 3)


# -- order ------------------------------------------------------------------------------------------------------------------------
def test_sasrec_finds_six_times_what_popularity_finds_and_as_many_as_plain_neighbours():
    popularity, neighbours = (recall(create(name, whole()), whole()) for name in ("popularity", "item-knn"))
    for seed in SEEDS:
        assert sasrec(seed) > 6 * popularity
        assert abs(sasrec(seed) - neighbours) < 0.03
        ours = recall(fitted("sasrec", shop(), seed), shop(), "ndcg@20")
        assert recall(create("item-knn", whole()), whole(), "ndcg@20") > ours, "as many, and higher in the list"
        assert sasrec(seed, loss="bce") < sasrec(seed) - 0.03


def test_order_matters_by_its_last_item_alone_and_both_ways_of_losing_it_cost_about_the_same():
    at_test, in_training = [], []
    for seed in SEEDS:
        mixed, older = shuffled(seed), shuffled(seed, keep_last=True)
        learned = fitted("sasrec", shop(), seed)
        full = recall(learned, shop())
        at_test.append(recall(reading(learned, mixed), mixed) / full)
        assert 0.75 < at_test[-1] < 0.95
        assert abs(recall(reading(learned, older), older) - full) < 0.015
        blind = fitted("sasrec", mixed, seed)
        in_training.append(recall(reading(blind, shop()), shop()) / full)
        assert 0.75 < in_training[-1] < 0.95
        assert abs(recall(reading(blind, shop()), shop()) - recall(blind, mixed)) < 0.03, "who learned none sees none"
        assert 0.85 * full < sasrec(seed, length=1, rows="prefixes") < full - 0.02, "the last item alone: nearly as much"
        assert in_training[-1] > 0.85, "all items without their order: nearly as much"
        assert sasrec(seed, n_layers=0) < full - 0.02
        assert abs(sasrec(seed, positions="start") - full) < 0.03
    assert abs(mean(at_test) - mean(in_training)) < 0.06


def test_it_learns_to_stay_with_the_kind_and_hardly_the_colour():
    told, target = histories(shop(), "train", "valid"), np.empty(shop().n_users, dtype=np.int64)
    target[shop().test.users] = shop().test.items
    last = told.items[told.starts[1:] - 1]
    kind, colour = shop().items["category"].to_numpy(), shop().truth.extra["hue"]

    def share(items: np.ndarray, values: np.ndarray) -> float:
        return float((values[items] == values[last][:, None]).mean())

    bought = target[:, None]
    for seed in SEEDS:
        lists = evaluate(fitted("sasrec", shop(), seed), shop(), "test").topk[:, :5]
        chance = evaluate(create("random", whole(), seed=seed), whole(), "test").topk[:, :5]
        assert share(lists, kind) > share(bought, kind) + 0.05
        assert share(chance, colour) - 0.01 < share(lists, colour) < share(chance, colour) + 0.06
        assert share(bought, colour) > 1.5 * share(lists, colour)


def test_the_last_item_is_looked_at_most_but_mildly():
    for seed in SEEDS:
        model = fitted("sasrec", shop(), seed)
        told = histories(shop(), "train", "valid")
        with model.evaluating(), model.knowing("train", "valid"):
            items, lengths = model.history(torch.from_numpy(np.flatnonzero(told.lengths >= 10)))
            column = (torch.arange(items.shape[1]) + model.length - lengths[:, None]).clamp_max(model.length - 1)
            inside = torch.arange(items.shape[1]) < lengths[:, None]
            x = model.blocks[0].norm_1(model.item_id.weight[items] * inside[..., None] + model.place.weight[column])
            q, k = model.blocks[0].attention.query(x), model.blocks[0].attention.key(x)
            allowed = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
            shares = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).masked_fill(~allowed, -torch.inf).softmax(2)
        row = torch.arange(len(items))
        looks = [shares[row, lengths - 1, lengths - 1 - back].mean().item() for back in range(6)]
        assert looks[0] > max(looks[1:])
        assert 1.3 * (1 / lengths).mean() < looks[0] < 0.4, "mildly"


def test_without_the_mask_the_loss_falls_and_so_does_recall():
    for seed in SEEDS:
        peeking = made("sasrec", shop(), seed)
        attention = peeking.blocks[0].attention
        look = attention.forward
        attention.forward = lambda x, memory, allowed, drop, look=look: look(x, memory, torch.ones_like(allowed), drop)
        for _ in train(peeking, shop(), seed=seed, epochs=20, lr=1e-2, batch_size=1024, metrics_every=0, device="cpu"):
            pass
        losses = []
        for model in (peeking, fitted("sasrec", shop(), seed)):
            with model.evaluating():
                losses.append(model.losses(Trainer(model, shop(), device="cpu").examples(10**6))["ce"].item())
        assert losses[0] < 0.3 * losses[1]
        assert recall(peeking, shop()) < sasrec(seed) - 0.15


def test_among_a_hundred_all_look_good_and_alike():
    target, n = np.empty(shop().n_users, dtype=np.int64), shop().n_users
    target[shop().test.users] = shop().test.items
    seen = shop().matrix("train", "valid").toarray() > 0

    def shares(scores: np.ndarray, seed: int) -> tuple[float, float]:
        scores, rng = np.where(seen, -np.inf, scores), np.random.default_rng(seed)
        own, found = scores[np.arange(n), target], []
        for row, score in enumerate(scores):
            rivals = np.flatnonzero((score > -np.inf) & (np.arange(len(score)) != target[row]))
            better = score[rivals] > own[row]
            found.append((better.sum() < 10, better[rng.permutation(len(rivals))[:100]].sum() < 10))
        return tuple(np.mean(found, axis=0))

    users = torch.arange(n)
    popularity = create("popularity", whole()).score(users).numpy()
    for seed in SEEDS:
        model = fitted("sasrec", shop(), seed)
        with model.knowing("train", "valid"):
            ours = shares(model.score(users).numpy(), seed)
        plain = shares(popularity, seed)
        assert ours[1] > ours[0] + 0.3
        assert plain[1] > 3 * plain[0]
        assert ours[0] / plain[0] > 2 * ours[1] / plain[1]


# -- without ids --------------------------------------------------------------------------------------------------------------------
def test_captions_stay_behind_ids_with_pictures_they_draw_level_and_rare_items_gain():
    rare: dict[str, list[float]] = {"ids": [], "text": [], "both": []}
    often: dict[str, list[float]] = {"ids": [], "text": [], "both": []}
    for seed in SEEDS:
        models = {"ids": fitted("sasrec", shop(), seed), "text": fitted("unisrec", shop(), seed)}
        models["both"] = fitted("unisrec", shop(), seed, modalities=("text", "image"))
        found = {name: evaluate(model, shop(), "test") for name, model in models.items()}
        assert found["text"].mean("recall@20") < found["ids"].mean("recall@20") - 0.02
        assert abs(found["both"].mean("recall@20") - found["ids"].mean("recall@20")) < 0.03
        for name, result in found.items():
            rows = result.by_frequency(edges=(1, 10, 20, 40))
            rows = rows[rows["low"] > 0]["recall@20"]
            rare[name].append(rows.iloc[0])
            often[name].append(rows.iloc[1:].mean())
        assert min(rare["text"][-1], rare["both"][-1]) > rare["ids"][-1]
    assert mean(often["ids"]) > mean(often["text"]) + 0.03


def carried(seed: int, modalities: str | tuple = "text") -> Recommender:
    model = made("unisrec", shop(), seed, modalities=modalities)
    return model.adopt(fitted("unisrec", others(), seed, modalities=modalities))


def test_content_moves_to_another_shop_but_little_of_it():
    target = np.empty(shop().n_users, dtype=np.int64)
    target[shop().test.users] = shop().test.items
    text, past = normalize(torch.from_numpy(shop().features["text"].copy()), dim=1).numpy(), shop().matrix("train", "valid")
    ranks = protocols.target_ranks(past @ text, text, target, past)
    plain = float(((ranks > 0) & (ranks <= 20)).mean())
    popularity = recall(create("popularity", whole()), whole())
    for seed in SEEDS:
        moved, both = recall(carried(seed), shop()), recall(carried(seed, ("text", "image")), shop())
        assert moved > 2 * recall(create("random", whole(), seed=seed), whole())
        assert moved > recall(made("unisrec", shop(), seed), shop()) + 0.03, "untrained"
        assert 0.8 < moved / popularity < 1.5
        assert both > moved + 0.02
        assert max(moved, both) < 0.6 * plain
        assert moved < 0.3 * recall(fitted("unisrec", shop(), seed), shop())


def test_carried_vectors_tell_new_kinds_as_captions_do_and_lists_do_not_stay_with_them():
    kind, told = shop().items["category"].to_numpy(), histories(shop(), "train", "valid")
    last = told.items[told.starts[1:] - 1]

    def same_kind(table: torch.Tensor) -> float:
        unit = normalize(table.float(), dim=1)
        near = (unit @ unit.T).fill_diagonal_(-2).topk(10).indices.numpy()
        return float((kind[near] == kind[:, None]).mean())

    def stays(model: Recommender) -> float:
        return float((kind[evaluate(model, shop(), "test").topk[:, :20]] == kind[last][:, None]).mean())

    text, past = normalize(torch.from_numpy(shop().features["text"].copy()), dim=1).numpy(), shop().matrix("train", "valid")
    by_mean = np.where(past.toarray() > 0, -np.inf, (past @ text) @ text.T)
    plain = float((kind[(-by_mean).argsort(axis=1)[:, :20]] == kind[last][:, None]).mean())
    for seed in SEEDS:
        arrived, own, both = carried(seed), fitted("unisrec", shop(), seed), carried(seed, ("text", "image"))
        with arrived.evaluating(), own.evaluating(), both.evaluating():
            there, here = same_kind(arrived.items()), same_kind(own.items())
            assert same_kind(both.items()) > there + 0.03, "with pictures more comes along"
        assert stays(arrived) + 0.05 < stays(both) < plain
        assert abs(there - same_kind(torch.from_numpy(shop().features["text"].copy()))) < 0.06
        assert here > 0.9
        assert 0.1 < stays(arrived) < 0.3 < 0.8 < stays(own)


def test_with_few_users_a_start_from_another_shop_helps():
    text, past = normalize(torch.from_numpy(shop().features["text"].copy()), dim=1).numpy(), shop().matrix("train", "valid")
    target = np.empty(shop().n_users, dtype=np.int64)
    target[shop().test.users] = shop().test.items
    ranks = protocols.target_ranks(past @ text, text, target, past)
    plain = float(((ranks > 0) & (ranks <= 20)).mean())
    found: dict[str, list[float]] = {"scratch": [], "moved": []}
    for seed in SEEDS:
        for name in found:
            model = made("unisrec", few(seed), seed)
            if name == "moved":
                model.adopt(fitted("unisrec", others(), seed))
            for _ in train(model, few(seed), seed=seed, epochs=40, lr=5e-3, batch_size=256, metrics_every=0, device="cpu"):
                pass
            found[name].append(recall(made("unisrec", shop(), seed).adopt(model), shop()))
        ids = recall(reading(fitted("sasrec", few(seed), seed, epochs=40, batch_size=256), shop()), shop())
        assert ids < min(0.6 * found["scratch"][-1], plain)
        assert found["moved"][-1] > found["scratch"][-1]
    assert 0.01 < mean(found["moved"]) - mean(found["scratch"]) < 0.05
