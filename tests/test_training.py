"""Sampling, the loop, early stopping, checkpoints, interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import make_tiny

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import BPR, VBPR, LightGCN, Popularity
from mmrec_teach.training import NegativeSampler, Trainer, TrainingError, fit, train
from mmrec_teach.training.sampling import epoch_batches


def small(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Dataset:
    nothing = Interactions(*np.zeros((2, 0), dtype=np.int64))
    ids = np.arange(n_users).astype(str), np.arange(n_items).astype(str)
    return Dataset("small", *ids, Interactions(*np.array(pairs).T), nothing, nothing)


# -- negatives ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pool", ["warm", "all"])
def test_a_negative_is_never_a_positive(tiny, pool):
    sampler = NegativeSampler(tiny, pool)
    users = torch.arange(tiny.n_users).repeat(200)
    items = sampler.sample(users, torch.Generator().manual_seed(0)).numpy()
    taken = tiny.matrix().toarray()[users.numpy(), items]
    assert not taken.any()
    cold = set(np.flatnonzero(tiny.cold_items))
    assert bool(cold & set(items)) == (pool == "all")


def test_negatives_are_uniform_over_the_untaken(tiny):
    sampler = NegativeSampler(tiny, "all")
    n = 60_000
    items = sampler.sample(torch.full((n,), 4), torch.Generator().manual_seed(1)).numpy()
    untaken = np.flatnonzero(tiny.matrix().toarray()[4] == 0)
    counts = np.bincount(items, minlength=tiny.n_items)[untaken]
    expected = n / len(untaken)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 2 * len(untaken)  # mean is len - 1, standard deviation about sqrt(2 len)


def test_a_user_with_one_untaken_item_gets_it():
    data = small([(0, i) for i in range(499)] + [(1, 499)], 2, 500)
    sampler = NegativeSampler(data)
    assert (sampler.sample(torch.zeros(50, dtype=torch.int64), torch.Generator().manual_seed(0)) == 499).all()


def test_a_user_who_took_everything_is_refused():
    with pytest.raises(DataError, match="user 0 .*took every item|took every item.*user 0"):
        NegativeSampler(small([(0, 0), (0, 1), (1, 0)], 2, 2))
    with pytest.raises(OptionError, match="warm or all"):
        NegativeSampler(make_tiny(), "hot")


def test_an_epoch_sees_every_interaction_once(tiny):
    generator = torch.Generator().manual_seed(0)
    batches = list(epoch_batches(tiny, 50, NegativeSampler(tiny), generator))
    assert [len(b[0]) for b in batches] == [50] * (len(tiny.train) // 50) + [len(tiny.train) % 50] * (len(tiny.train) % 50 > 0)
    seen = sorted((int(u), int(i)) for users, items, _ in batches for u, i in zip(users, items, strict=True))
    assert seen == sorted(zip(tiny.train.users.tolist(), tiny.train.items.tolist(), strict=True))


# -- the loop -------------------------------------------------------------------------------------------------------------
def test_records_and_gradient_norms(tiny):
    model = BPR(tiny, dim=4)
    record = next(train(model, tiny, epochs=1, gradient_norms=True, batch_size=1000, device="cpu"))
    assert record.epoch == 1
    assert set(record.losses) == set(record.gradient_norms) == {"bpr", "l2"}
    assert record.total == pytest.approx(record.losses["bpr"] + model.default_weights["l2"] * record.losses["l2"], rel=1e-5)
    assert 0 <= record.metrics["recall@20"] <= 1
    json.dumps(record.to_json())


def test_gradient_norm_is_that_of_the_weighted_term(tiny):
    def first_norm(weight: float) -> float:
        loop = train(BPR(tiny, dim=4), tiny, weights={"bpr": weight}, epochs=1, gradient_norms=True, device="cpu")
        return next(loop).gradient_norms["bpr"]

    assert first_norm(3.0) == pytest.approx(3 * first_norm(1.0), rel=1e-4)


def test_weights_may_change_between_two_yields(tiny):
    weights = {"bpr": 1.0, "l2": 0.0}
    loop = train(BPR(tiny, dim=4), tiny, weights=weights, epochs=3, device="cpu")
    assert "l2" not in next(loop).losses
    weights["l2"] = 0.5
    record = next(loop)
    assert record.total == pytest.approx(record.losses["bpr"] + 0.5 * record.losses["l2"], rel=1e-5)
    weights["l3"] = 1.0
    with pytest.raises(OptionError, match="no loss term"):
        next(loop)


def test_resume_from_disk_equals_an_unbroken_run(tiny, tmp_path):
    def build() -> LightGCN:
        return LightGCN(tiny, dim=4, seed=3)

    whole, broken = build(), build()
    records = list(train(whole, tiny, epochs=6, seed=5, batch_size=32, device="cpu"))
    trainer = Trainer(broken, tiny, seed=5, batch_size=32, device="cpu")
    for _ in range(2):
        trainer.epoch()
    trainer.save(tmp_path / "state.pt")
    again = LightGCN(tiny, dim=4, seed=99)
    rest = list(train(again, tiny, epochs=6, seed=77, batch_size=32, device="cpu", resume=tmp_path / "state.pt"))
    assert [r.epoch for r in rest] == [3, 4, 5, 6]
    assert [r.total for r in rest] == [r.total for r in records[2:]]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_nan_stops_with_a_sentence_and_leaves_the_parameters(tiny):
    model = BPR(tiny, dim=4)
    trainer = Trainer(model, tiny, device="cpu", metrics_every=0)
    trainer.epoch()
    with torch.no_grad():
        model.item_id.weight[0] = torch.inf
    before = model.user_id.weight.clone()
    with pytest.raises(TrainingError, match=r"no longer a finite number in epoch 2 \(.*smaller lr"):
        trainer.epoch()
    assert torch.isfinite(model.user_id.weight).all() or torch.equal(before, model.user_id.weight)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 0}, "batch size"),
        ({"lr": -1.0}, "step size"),
        ({"lr": float("nan")}, "step size"),
        ({"weights": {"nope": 1.0}}, "no loss term"),
        ({"negatives": "hard"}, "warm or all"),
        ({"metrics_every": -1}, "metrics_every"),
        ({"device": "tpu9"}, "unknown device"),
    ],
)
def test_bad_settings_get_a_sentence(tiny, settings, says):
    with pytest.raises(OptionError, match=says):
        Trainer(BPR(tiny, dim=2), tiny, **settings)


def test_baselines_cannot_be_trained(tiny):
    with pytest.raises(OptionError, match="nothing to train"):
        Trainer(Popularity(tiny), tiny)


# -- fit ------------------------------------------------------------------------------------------------------------------
def test_fit_keeps_the_best_weights(tiny):
    from mmrec_teach.evaluation import evaluate

    model = VBPR(tiny, dim=4, content_dim=4)
    result = fit(model, tiny, epochs=40, patience=5, lr=0.05, metric="ndcg@10", progress=False, device="cpu")
    values = [r.metrics["ndcg@10"] for r in result.history]
    assert result.best_epoch == int(np.argmax(values)) + 1
    assert evaluate(model, tiny, "valid", ks=(10,)).mean("ndcg@10") == pytest.approx(max(values), abs=1e-12)
    assert result.stopped == "early"
    assert len(result.history) == result.best_epoch + 5
    assert "ndcg@10" in result.message


def test_fit_resumes_from_its_folder(tiny, tmp_path):
    settings = {"lr": 0.02, "batch_size": 64, "progress": False, "device": "cpu", "patience": 50, "checkpoint_every": 2}
    whole, first, second = (BPR(tiny, dim=4) for _ in range(3))
    expected = fit(whole, tiny, epochs=9, **settings)
    fit(first, tiny, epochs=5, run_dir=tmp_path, **settings)
    result = fit(second, tiny, epochs=9, run_dir=tmp_path, **settings)
    assert [r.total for r in result.history] == [r.total for r in expected.history]
    assert (result.best_epoch, result.best) == (expected.best_epoch, expected.best)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "history.json", "best.pt"}


def test_ctrl_c_keeps_the_best_so_far(tiny, monkeypatch):
    model = BPR(tiny, dim=4)
    steps = iter(range(1000))
    original = BPR.losses

    def losses(self, batch, active=None):
        if next(steps) == 7:
            raise KeyboardInterrupt
        return original(self, batch, active)

    monkeypatch.setattr(BPR, "losses", losses)
    result = fit(model, tiny, epochs=50, batch_size=128, progress=False, device="cpu")
    assert result.stopped == "interrupted"
    assert 1 <= result.best_epoch <= len(result.history) < 50
    assert "best weights so far are kept" in result.message


def test_an_interrupted_run_goes_on_from_its_last_whole_epoch(tiny, tmp_path, monkeypatch):
    settings = {"batch_size": 32, "progress": False, "device": "cpu", "patience": 50}
    expected = fit(BPR(tiny, dim=4), tiny, epochs=8, **settings)
    steps, original = iter(range(10_000)), BPR.losses
    stop = 3 * -(-len(tiny.train) // 32) + 2  # in the middle of epoch 4, long before a regular checkpoint

    def losses(self, batch, active=None):
        if next(steps) == stop:
            raise KeyboardInterrupt
        return original(self, batch, active)

    monkeypatch.setattr(BPR, "losses", losses)
    assert fit(BPR(tiny, dim=4), tiny, epochs=8, run_dir=tmp_path, **settings).stopped == "interrupted"
    monkeypatch.setattr(BPR, "losses", original)
    assert len(json.loads((tmp_path / "history.json").read_text())) == 3
    result = fit(BPR(tiny, dim=4), tiny, epochs=8, run_dir=tmp_path, **settings)
    assert [r.total for r in result.history] == [r.total for r in expected.history]
    assert result.best == expected.best


@pytest.mark.parametrize("setting", ["epochs", "patience", "metrics_every"])
def test_fit_refuses_settings_below_one(tiny, setting):
    with pytest.raises(OptionError, match=f"{setting} out of range"):
        fit(BPR(tiny, dim=2), tiny, **{setting: 0}, progress=False)


def test_divergence_keeps_the_best_so_far(tiny, monkeypatch):
    original = BPR.losses
    steps = iter(range(1000))

    def losses(self, batch, active=None):
        terms = original(self, batch, active)
        if next(steps) > 5:
            terms["bpr"] = terms["bpr"] * float("nan")
        return terms

    monkeypatch.setattr(BPR, "losses", losses)
    result = fit(BPR(tiny, dim=4), tiny, epochs=50, batch_size=1000, progress=False, device="cpu")
    assert result.stopped == "diverged"
    assert "bpr = nan" in result.message


def test_a_damaged_checkpoint_is_refused(tiny, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="not a checkpoint of this model.*Remove it"):
        fit(BPR(tiny, dim=2), tiny, epochs=1, run_dir=tmp_path, progress=False, device="cpu")


def test_unknown_metric_is_refused(tiny):
    with pytest.raises(OptionError, match="no metric to steer by"):
        fit(BPR(tiny, dim=2), tiny, epochs=1, metric="fame@20", progress=False, device="cpu")
    with pytest.raises(OptionError, match="cut-off"):
        fit(BPR(tiny, dim=2), tiny, epochs=1, metric="recall", progress=False, device="cpu")
