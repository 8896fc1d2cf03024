"""Histories, the batches made of them, and the one loop and the one evaluation that sequence models share with all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.data.sequences import has_order, histories
from mmrec_teach.errors import DataError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import SequenceBatch
from mmrec_teach.models.sequential import SequenceRecommender, inside
from mmrec_teach.training import NegativeSampler, Trainer, TrainingError, gradient_report, train
from mmrec_teach.training.sampling import sequence_batches
from mmrec_teach.views.studio import Studio


def shop(*rows: tuple[int, int, int], valid: tuple = (), test: tuple = (), n_items: int = 12) -> Dataset:
    """Interactions (user, item, time); users are as many as the rows name."""

    def part(rows) -> Interactions:
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return Interactions(*table.T)

    n_users = 1 + max(user for user, _, _ in rows)
    return Dataset("shop", np.arange(n_users).astype(str), np.arange(n_items).astype(str), part(rows), part(valid), part(test))


def random_shop(seed: int = 0, n_users: int = 15, n_items: int = 30) -> Dataset:
    """Histories of 1 to 12 items; the last item of the longer ones is for test, the one before for valid."""
    random, parts = np.random.default_rng(seed), {"train": [], "valid": [], "test": []}
    for user in range(n_users):
        items = random.permutation(n_items)[: random.integers(1, 13)]
        for n, item in enumerate(items):
            left = len(items) - n
            split = "train" if len(items) < 3 or left > 2 else "valid" if left == 2 else "test"
            parts[split].append((user, int(item), n))
    return shop(*parts["train"], valid=parts["valid"], test=parts["test"], n_items=n_items)


class Mean(SequenceRecommender):
    """A user is the mean of her items' vectors, dropped out now and then."""

    default_weights = {"ce": 1.0, "pull": 0.1}

    def __init__(self, data, *, rows: str = "users", length: int = 4, seed: int = 0):
        super().__init__(data, length=length, seed=seed)
        self.batches = rows
        self.item = nn.Parameter(torch.randn(data.n_items, 5, generator=self.generator))

    def encode(self, items, lengths):
        there = inside(items, lengths)[..., None]
        return (self.item[items] * there).sum(1) / lengths.clamp_min(1)[:, None]

    def match(self, h):
        return h @ self.item.T

    def losses(self, batch, active=None):
        h = self.dropout(self.encode(batch.items, batch.lengths), 0.3)
        asked = batch.targets >= 0
        logits = self.match(h)[asked.nonzero()[:, 0]]
        terms = {
            "ce": F.cross_entropy(logits, batch.targets[asked]),
            "pull": (h[asked.nonzero()[:, 0]] * self.item[batch.negatives[asked]]).sum(1).square().mean(),
        }
        return {name: term for name, term in terms.items() if active is None or name in active}

    def views(self):
        return {"user/final": self.user_vectors(), "item/final": self.item}


# -- histories ------------------------------------------------------------------------------------------------------------
def test_histories_go_by_time_and_equal_times_by_their_place_in_the_data():
    data = shop((1, 4, 9), (0, 3, 5), (1, 5, 2), (0, 1, 5), (0, 2, 1), valid=[(0, 7, 5)], test=[(1, 8, 10)])
    told = histories(data)
    assert [told.of(u).tolist() for u in (0, 1)] == [[2, 3, 1], [5, 4]]
    assert told.users.tolist() == [0, 0, 0, 1, 1]
    assert told.prefixes().tolist() == [1, 2, 4]
    assert histories(data, "train", "valid").of(0).tolist() == [2, 3, 1, 7]
    assert histories(data, "train", "valid", "test").of(1).tolist() == [5, 4, 8]
    assert not told.items.flags.writeable


def test_windows_hold_the_latest_items():
    data = random_shop()
    told = histories(data)
    users = np.arange(data.n_users)
    places, lengths = told.windows(users, told.starts[1:], 4)
    assert places.shape == (data.n_users, 4)
    for user in users:
        mine = told.of(user)[-4:]
        assert told.items[places[user, : lengths[user]]].tolist() == mine.tolist()
        assert (places[user, lengths[user] :] == 0).all()
    nobody = told.windows(users[:1], told.starts[:1], 4)
    assert nobody[0].shape == (1, 1)
    assert nobody[1].tolist() == [0]


def test_data_without_an_order_are_refused(tiny):
    assert not has_order(tiny)
    assert has_order(random_shop())
    with pytest.raises(DataError, match="no order.*Add a timestamp"):
        histories(tiny)
    with pytest.raises(DataError, match="no order"):
        Mean(tiny)
    partly = random_shop()
    partly = replace(partly, valid=Interactions(partly.valid.users, partly.valid.items))
    assert not has_order(partly)
    with pytest.raises(DataError, match="no history is longer than one item"):
        Trainer(Mean(shop((0, 1, 0), (1, 2, 0))), shop((0, 1, 0), (1, 2, 0)), device="cpu")


# -- batches --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rows", ["prefixes", "users"])
@pytest.mark.parametrize("length", [3, 50])
def test_an_epoch_asks_for_every_item_once(rows, length):
    data = random_shop()
    told, sampler = histories(data), NegativeSampler(data)
    batches = sequence_batches(told, rows, length, 8, sampler, torch.Generator().manual_seed(0))
    seen, sizes = [], []
    for users, items, lengths, targets, negatives in batches:
        sizes.append(int((targets >= 0).sum()))
        assert items.shape == targets.shape == negatives.shape
        assert items.shape[1] == lengths.max() <= length
        for user, row, n, asked, wrong in zip(users, items, lengths, targets, negatives, strict=True):
            mine = told.of(int(user)).tolist()
            assert (row[n:] == 0).all()
            assert torch.equal(asked >= 0, wrong >= 0)
            for t in torch.nonzero(asked >= 0)[:, 0].tolist():
                place = mine.index(int(asked[t]))
                assert row[: t + 1].tolist() == mine[max(0, place - t - 1) : place]
                assert int(wrong[t]) not in mine
                seen.append((int(user), place))
            if rows == "prefixes":
                assert (asked[: n - 1] == -1).all()
                place = mine.index(int(asked[n - 1]))
                assert int(n) == min(place, length)
    everything = [
        (user, place)
        for user, n in enumerate(told.lengths)
        for place in range(1, n)
        if rows == "prefixes" or place >= n - length
    ]
    assert sorted(seen) == everything
    if rows == "prefixes":
        assert sizes == [8] * (len(everything) // 8) + [len(everything) % 8] * (len(everything) % 8 > 0)
    else:
        assert max(sizes) < 8 + told.lengths.max()
        assert min(sizes[:-1]) > 0


def test_batches_are_drawn_from_the_generator_alone():
    data = random_shop()
    told, sampler = histories(data), NegativeSampler(data)

    def drawn(seed: int) -> list[torch.Tensor]:
        made = sequence_batches(told, "users", 5, 10, sampler, torch.Generator().manual_seed(seed))
        return [part for batch in made for part in batch]

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert [a.tolist() for a in drawn(1)] != [a.tolist() for a in drawn(2)]
    without = next(sequence_batches(told, "users", 5, 10, None, torch.Generator().manual_seed(1)))
    assert without[-1] is None
    assert torch.equal(without[0], drawn(1)[0])
    batch = SequenceBatch(*without).to("cpu")
    assert batch.negatives is None


# -- the one loop -----------------------------------------------------------------------------------------------------------
def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("rows", ["prefixes", "users"])
def test_stop_resume_look_and_go_back(rows, tmp_path):
    """A run in one go; the same run stopped after an epoch, resumed, looked at, broken off and sent back within the next."""
    data = random_shop()
    settings = {"batch_size": 16, "lr": 0.05, "seed": 1, "device": "cpu"}
    plain = Mean(data, rows=rows)
    expected = list(train(plain, data, epochs=3, **settings))
    assert expected[-1].losses["ce"] < expected[0].losses["ce"]

    first = Trainer(Mean(data, rows=rows), data, **settings)
    records = [first.epoch()]
    first.save(tmp_path / "checkpoint.pt")
    model = Mean(data, rows=rows, seed=9)
    trainer = Trainer(model, data, **settings)
    trainer.load(tmp_path / "checkpoint.pt")
    kept = []

    def look(step: int) -> None:
        model.score(torch.arange(3))
        gradient_report(model, trainer.examples(8), trainer.weights)
        if trainer.steps_this_epoch == 2 and not kept:
            kept.append(trainer.snapshot())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trainer.epoch(look)
    trainer.epoch()
    trainer.restore(kept[0])
    records += [trainer.epoch(look), trainer.epoch(look)]
    assert same(model, plain)
    assert [(r.losses, r.metrics) for r in records] == [(r.losses, r.metrics) for r in expected]
    assert torch.equal(model.generator.get_state(), plain.generator.get_state())


def test_examples_are_always_the_same_and_disturb_nothing():
    data = random_shop()
    trainer = Trainer(Mean(data), data, batch_size=16, device="cpu")
    before = trainer.generator.get_state()
    one, two = trainer.examples(10), trainer.examples(10)
    assert torch.equal(one.items, two.items)
    assert torch.equal(one.negatives, two.negatives)
    assert (one.targets >= 0).sum() >= 10
    assert torch.equal(trainer.generator.get_state(), before)


def test_a_loss_that_is_not_finite_is_told():
    data = random_shop()
    model = Mean(data)
    with torch.no_grad():
        model.item.fill_(torch.nan)
    with pytest.raises(TrainingError, match="no longer a finite number"):
        Trainer(model, data, device="cpu").epoch()


def test_the_what_if_engine_runs_looks_and_goes_back():
    data = random_shop(n_users=30)
    made = Studio(Mean, data, umap=False, debounce=0.0, batch_size=20, epochs=2, mode="continue")
    try:
        made.choose_user(0)
        made.run()
        assert made.join(60)
        assert made.last.kind == "finished", made.last.details
        assert set(made.last.tug.norms) == {"ce", "pull"}
        assert made.last.top is not None
        before = made._session.model.item.detach().clone()
        made.set("pull", 5.0)
        assert made.join(60)
        assert not torch.equal(made._session.model.item, before)
        made.undo()
        assert made.join(60)
        assert torch.equal(made._session.model.item, before)
    finally:
        made.close(60)


# -- the one evaluation -----------------------------------------------------------------------------------------------------
def test_valid_is_judged_from_train_and_test_from_both():
    data = random_shop()
    model = Mean(data)
    for split, splits in (("valid", ("train",)), ("test", ("train", "valid"))):
        told = histories(data, *splits)
        judged = data.split(split)
        found = evaluate(model, data, split, ks=(data.n_items,), mask=())
        for row, user in enumerate(found.users):
            mine = torch.from_numpy(told.of(user)[-4:].copy())
            scores = model.item.detach() @ model.item.detach()[mine].mean(0)
            rank = 1 + int((scores > scores[judged.items[judged.users == user][0]]).sum())
            assert found.per_user[f"mrr@{data.n_items}"][row] == pytest.approx(1 / rank)
    assert torch.equal(model.history(torch.tensor([0]))[0][0], torch.from_numpy(histories(data).of(0)[-4:].copy()))


def test_nothing_masked_is_the_published_protocol():
    data = random_shop()
    model = Mean(data)
    open_lists = evaluate(model, data, "test", ks=(10,), mask=())
    taken = {(int(u), int(i)) for u, i in zip(data.train.users, data.train.items, strict=True)}
    assert any((int(u), int(i)) in taken for u, row in zip(open_lists.users, open_lists.topk, strict=True) for i in row)
    masked = evaluate(model, data, "test", ks=(10,))
    assert not any((int(u), int(i)) in taken for u, row in zip(masked.users, masked.topk, strict=True) for i in row)
    assert (masked.per_user["recall@10"] >= open_lists.per_user["recall@10"]).all()


def test_knowing_ends_with_its_block_and_a_user_without_a_history_has_scores():
    data = shop((0, 1, 0), (0, 2, 1), (2, 3, 0), valid=[(0, 5, 2)])
    model = Mean(data)
    plain = model.score(torch.tensor([0, 1]))
    with model.knowing("train", "valid"):
        assert model.history(torch.tensor([0]))[0].tolist() == [[1, 2, 5]]
        assert not torch.equal(model.score(torch.tensor([0])), plain[:1])
    assert torch.equal(model.score(torch.tensor([0, 1])), plain)
    assert torch.isfinite(plain).all()
    assert model.history(torch.tensor([1]))[1].tolist() == [0]
