"""One pass over the stream: every interaction once and in order, nothing from the future, judged before it is learned from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import BPR, MODELS, VBPR, LightGCN, create
from mmrec_teach.training import Trainer, TrainingError
from mmrec_teach.training.sampling import NegativeSampler
from mmrec_teach.training.streaming import grow, in_order_of_time, stream

LEARNING = {"batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def timed() -> Dataset:
    """The tiny data with clock times, in another order than that of the rows."""
    data = in_order(make_tiny())
    times = 1000 + np.random.default_rng(3).permutation(len(data.train))
    return replace(data, train=replace(data.train, timestamps=times), time_is_order=False)


# -- order ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("repeats", [1, 3])
def test_every_interaction_is_learned_from_once_a_repeat_and_oldest_first(timed, monkeypatch, repeats):
    seen, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, batch, *a: seen.append(batch) or step(self, batch, *a))
    records = list(stream(BPR(timed, dim=4), timed, windows=4, repeats=repeats, judge=False, **LEARNING))
    order = np.argsort(timed.train.timestamps)
    windows = np.array_split(order, 4) if len(order) % 4 == 0 else None
    expected = []
    for start, stop in zip([0, *(r.seen for r in records)], [r.seen for r in records]):
        expected += [*order[start:stop]] * repeats
    assert torch.cat([b.users for b in seen]).tolist() == timed.train.users[expected].tolist()
    assert torch.cat([b.items for b in seen]).tolist() == timed.train.items[expected].tolist()
    assert max(len(b.users) for b in seen) == 16
    assert [r.window for r in records] == [1, 2, 3, 4]
    assert records[-1].seen == len(order)
    assert records[-1].share == 1.0
    assert windows is None or [len(w) for w in windows] == np.diff([0, *(r.seen for r in records)]).tolist()
    times = np.sort(timed.train.timestamps)
    assert [r.until for r in records] == [times[r.seen - 1] for r in records]
    assert all(r.before is None for r in records)
    json.dumps([r.to_json() for r in records])


def test_equal_times_stay_as_they_stand(timed):
    data = replace(timed, train=replace(timed.train, timestamps=np.zeros(len(timed.train), dtype=np.int64)))
    assert in_order_of_time(data).items.tolist() == data.train.items.tolist()


def test_a_negative_comes_from_what_had_been_taken_by_then(timed, monkeypatch):
    seen, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, batch, *a: seen.append(batch) or step(self, batch, *a))
    start = 0
    for record in stream(BPR(timed, dim=4), timed, windows=3, judge=False, **LEARNING):
        known = in_order_of_time(timed).select(slice(0, record.seen))
        sampler = NegativeSampler(timed.with_splits(known, timed.valid.select([]), timed.test.select([])))
        for batch in seen[start:]:
            assert set(batch.negatives.tolist()) <= set(known.items.tolist())
            assert not sampler.is_positive(batch.users, batch.negatives).any()
        start = len(seen)
    assert start > 3


# -- nothing from the future ------------------------------------------------------------------------------------------------
PAIRS = [name for name, cls in MODELS.items() if cls.trainable and cls.batches == "pairs"]


@pytest.mark.parametrize("name", PAIRS)
def test_a_grown_model_is_one_that_never_knew_the_rest(name, timed):
    past = timed.with_splits(in_order_of_time(timed).select(slice(0, 100)), timed.valid.select([]), timed.test.select([]))
    model, users = create(name, timed), torch.arange(timed.n_users)
    Trainer(model, timed, device="cpu", metrics_every=0).epoch()
    twin = create(name, past)
    twin.load_state_dict(model.state_dict())
    with model.evaluating():
        whole = model.score(users)
    generator, parameters = model.generator, list(model.parameters())
    grow(model, past)
    assert model.generator is generator
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    with model.evaluating(), twin.evaluating():
        assert torch.allclose(model.score(users), twin.score(users), atol=1e-6)
    grow(model, timed)
    with model.evaluating():
        assert torch.allclose(model.score(users), whole, atol=1e-6)


def test_between_two_windows_the_model_s_graph_ends_where_the_stream_stands(timed):
    model = LightGCN(timed, dim=4)
    edges = [model.adjacency.values().numel() for _ in stream(model, timed, windows=5, judge=False, **LEARNING)]
    assert np.diff(edges).min() > 0
    assert edges[-1] == model.adjacency.values().numel() == 2 * len(timed.train)
    assert edges[0] < len(timed.train)


def test_what_comes_later_changes_nothing(timed):
    """Another future, the same first half: the same records and parameters at the half."""
    half, ordered = len(timed.train) // 2, in_order_of_time(timed)
    rest = ordered.select(slice(half, None))
    other = replace(rest, timestamps=rest.timestamps[::-1].copy())
    joined = np.concatenate([ordered.timestamps[:half], other.timestamps])
    changed = replace(timed, train=replace(ordered, timestamps=joined))
    assert in_order_of_time(changed).items.tolist() != ordered.items.tolist()
    told = []
    for data in (timed, changed):
        model = LightGCN(data, dim=4)
        records = stream(model, data, windows=2, seed=1, **LEARNING)
        told.append((next(records).total, model.user_id.weight.detach().clone()))
    assert told[0][0] == told[1][0]
    assert torch.equal(told[0][1], told[1][1])


# -- judging ----------------------------------------------------------------------------------------------------------------
def test_a_window_judges_the_model_before_it_is_learned_from(timed):
    ordered, model, k = in_order_of_time(timed), VBPR(timed, dim=4, content_dim=4), 5
    records, kept = [], []
    for record in stream(model, timed, windows=4, k=k, lr=0.05, **LEARNING):
        records.append(record)
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
    assert records[0].before is None
    for n in (1, 2, 3):
        past, window = (
            ordered.select(slice(0, records[n - 1].seen)),
            ordered.select(slice(records[n - 1].seen, records[n].seen)),
        )
        met = np.isin(window.users, past.users)
        at = timed.with_splits(past, window.select(met), timed.test.select([]))
        judged = VBPR(at, dim=4, content_dim=4)
        judged.load_state_dict(kept[n - 1])
        result = evaluate(judged, at, "valid", ks=(k,))
        before = records[n].before
        assert before["recall@5"] == pytest.approx(result.mean("recall@5"), abs=1e-12)
        assert before["new users"] == pytest.approx(1 - met.mean())
        places, pairs = result.relevant_ranks, result.relevant[1]
        new = ~np.isin(pairs, past.items)
        assert before["new items"] == pytest.approx(new.mean())
        assert before["known"] == pytest.approx((places[~new] > 0).mean())
        assert ("new" in before) == bool(new.any())
        if new.any():
            assert before["new"] == pytest.approx((places[new] > 0).mean())


def test_judging_does_not_disturb_training(timed):
    """Nor do validation metrics, which come at the shares asked for."""
    models = [LightGCN(timed, dim=4) for _ in range(2)]
    quiet = list(stream(models[0], timed, windows=4, judge=False, shares=(), **LEARNING))
    told = list(stream(models[1], timed, windows=4, shares=(0.3, 1.0), **LEARNING))
    assert [r.total for r in quiet] == [r.total for r in told]
    assert torch.equal(models[0].item_id.weight, models[1].item_id.weight)
    assert [r.metrics is not None for r in told] == [False, True, False, True]
    assert not any(r.metrics for r in quiet)
    assert told[-1].metrics["recall@20"] == evaluate(models[1], timed, "valid", ks=(20,)).mean("recall@20")


def test_one_pass_learns(timed):
    model = VBPR(timed, dim=4, content_dim=4)
    before = evaluate(model, timed, "valid", ks=(20,)).mean("ndcg@20")
    *_, last = stream(model, timed, windows=5, repeats=20, lr=0.05, judge=False, **LEARNING)
    assert last.metrics["ndcg@20"] > before + 0.1


def test_weights_are_read_at_every_step_and_a_loss_that_is_no_number_stops(timed):
    model, weights = BPR(timed, dim=4), {"bpr": 1.0, "l2": 0.0}
    records = stream(model, timed, weights=weights, windows=3, judge=False, **LEARNING)
    assert "l2" not in next(records).losses
    weights["l2"] = 0.5
    record = next(records)
    assert record.total == pytest.approx(record.losses["bpr"] + 0.5 * record.losses["l2"], rel=1e-5)
    with torch.no_grad():
        model.item_id.weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match="no longer a finite number"):
        next(records)


# -- clear errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: make_tiny(), "no order in time.*no timestamps.*Train in epochs"),
        (lambda: in_order(make_tiny()), "no common clock.*times such as seconds"),
    ],
)
def test_data_without_a_clock_are_refused(data, says):
    data = data()
    with pytest.raises(DataError, match=says):
        stream(BPR(data, dim=2), data)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"windows": 0}, "windows"),
        ({"repeats": 0}, "repeats"),
        ({"k": 0}, "k"),
        ({"shares": (0.0,)}, "not a share"),
        ({"shares": (1.1,)}, "not a share"),
        ({"batch_size": 0}, "batch size"),
        ({"weights": {"nope": 1.0}}, "no loss term"),
    ],
)
def test_bad_settings_get_a_sentence_before_anything_is_learned(timed, settings, says):
    with pytest.raises(OptionError, match=says):
        stream(BPR(timed, dim=2), timed, **settings)


def test_more_windows_than_interactions_are_refused(timed):
    with pytest.raises(DataError, match="fewer interactions than windows"):
        stream(BPR(timed, dim=2), timed, windows=10_000)


def test_a_model_that_reads_histories_is_refused(timed):
    with pytest.raises(OptionError, match="a history is no single event"):
        stream(create("sasrec", timed), timed)
