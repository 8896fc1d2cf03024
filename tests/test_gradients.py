"""The tug of war, looking at a model in the middle of training, and going back to a state of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import in_order
from torch import nn

from mmrec_teach.models import MODELS, Batch, Recommender, create
from mmrec_teach.training import Trainer, gradient_report, train
from mmrec_teach.training.state import undisturbed

TRAINABLE = [name for name, model in MODELS.items() if model.trainable]


class Tug(Recommender):
    """Two terms that pull at one vector at right angles, one at another vector only, one that is constant."""

    default_weights = {"left": 2.0, "right": 1.0, "apart": 1.0, "still": 1.0, "off": 0.0}

    def __init__(self, data, *, seed: int = 0):
        super().__init__(data, seed=seed)
        self.a, self.b = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.ones(2))

    def losses(self, batch, active=None):
        assert "off" not in active
        terms = {
            "left": self.a.sum(),
            "right": self.a[0] - self.a[1],
            "apart": self.b.square().sum(),
            "still": torch.ones(()),
        }
        return {name: term for name, term in terms.items() if name in active}


def some_batch(data, n: int = 16) -> Batch:
    users, items = (torch.from_numpy(side[:n].copy()) for side in (data.train.users, data.train.items))
    return Batch(users, items, torch.randint(data.n_items - 2, (n,), generator=torch.Generator().manual_seed(0)))


def parameters(model) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()] + [b.numpy().copy() for b in model.state_dict().values()]


def assert_same(a, b) -> None:
    for x, y in zip(parameters(a), parameters(b), strict=True):
        np.testing.assert_array_equal(x, y)


# -- the report --------------------------------------------------------------------------------------------------------------
def test_norms_and_angles_are_those_of_the_weighted_terms(tiny):
    report = gradient_report(Tug(tiny), some_batch(tiny), {})
    assert report.norms == pytest.approx({"left": 2 * 2**0.5, "right": 2**0.5, "apart": 2 * 2**0.5, "still": 0.0})
    assert report.cosines == {("left", "right"): 0.0}  # the others share no parameter
    against = gradient_report(Tug(tiny), some_batch(tiny), {"left": 0.0})
    assert "left" not in against.norms
    assert against.cosines == {}


def test_the_report_agrees_with_backward_on_a_real_model(tiny):
    model, batch = create("bpr", tiny, dim=4), some_batch(tiny)
    weights = {"bpr": 1.0, "l2": 0.5}
    report = gradient_report(model, batch, weights)
    found = {}
    for term, weight in weights.items():
        model.zero_grad()
        (weight * model.losses(batch, {term})[term]).backward()
        found[term] = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert report.norms == pytest.approx({t: float(g.norm()) for t, g in found.items()}, rel=1e-5)
    expected = torch.nn.functional.cosine_similarity(found["bpr"], found["l2"], dim=0)
    assert report.cosines["bpr", "l2"] == pytest.approx(float(expected), abs=1e-5)


# -- looking, and going back -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TRAINABLE)
def test_looking_changes_nothing_and_a_snapshot_brings_everything_back(name, tiny):
    """Three epochs; the second model is looked at after every step, and in the middle of the second epoch sent on and back."""
    settings = {"batch_size": 50, "lr": 0.01, "seed": 1, "metrics_every": 0, "device": "cpu"}
    tiny = tiny if MODELS[name].batches == "pairs" else in_order(tiny)
    plain = create(name, tiny, seed=1)
    records = list(train(plain, tiny, epochs=3, **settings))

    model = create(name, tiny, seed=1)
    trainer = Trainer(model, tiny, **settings)
    batch, users = trainer.examples(16), torch.arange(3)
    kept = []

    class Enough(Exception):  # noqa: N818 - no error
        pass

    def look(step: int) -> None:
        with undisturbed(model), model.evaluating():
            model.views()
            model.score(users)
        gradient_report(model, batch, trainer.weights)
        if trainer.epochs_done == 1 and trainer.steps_this_epoch == 2:
            if not kept:
                kept.append(trainer.snapshot())
            elif len(kept) == 1:
                kept.append(None)
                raise Enough

    seen = [trainer.epoch(look), trainer.epoch(look)]
    trainer.epoch()
    trainer.restore(kept[0])
    assert (trainer.epochs_done, trainer.steps_this_epoch) == (1, 2)
    assert trainer.steps_done == 2 + len(list(trainer.batches(50, torch.Generator())))
    seen[1:] = [trainer.epoch(look)]
    trainer.restore(kept[0])  # a second time, and now broken off where it stands
    del kept[1:]
    trainer.restore(kept[0])
    seen[1:] = [trainer.epoch(look), trainer.epoch(look)]
    assert_same(model, plain)
    assert [r.losses for r in seen] == [r.losses for r in records]
    assert torch.equal(model.generator.get_state(), plain.generator.get_state())


def test_an_epoch_broken_off_goes_on_with_its_next_step(tiny):
    settings = {"batch_size": 40, "lr": 0.01, "metrics_every": 1, "device": "cpu"}
    plain = create("bm3", tiny)
    expected = list(train(plain, tiny, epochs=2, **settings))

    model = create("bm3", tiny)
    trainer = Trainer(model, tiny, **settings)

    def stop_at(wanted: int):
        def after_step(step: int) -> None:
            if step == wanted:
                raise InterruptedError

        return after_step

    records = []
    for wanted in (1, 2, 5, 6, 99):  # the last step of an epoch too
        try:
            while len(records) < 2:
                records.append(trainer.epoch(stop_at(wanted)))
        except InterruptedError:
            assert trainer.steps_done == wanted
    assert [(r.losses, r.metrics) for r in records] == [(r.losses, r.metrics) for r in expected]
    assert_same(model, plain)
    assert trainer.evaluation.means() == expected[-1].metrics


def test_after_step_is_told_the_steps_and_weights_moved_there_act_from_the_next_step_on(tiny):
    weights, told, seen = {"bpr": 1.0, "l2": 0.0}, [], []

    class Watched(MODELS["bpr"]):
        def losses(self, batch, active=None):
            seen.append(sorted(active))
            return super().losses(batch, active)

    def after_step(step: int) -> None:
        told.append(step)
        if step == 2:
            weights["l2"] = 0.1

    n = sum(
        1 for _ in train(Watched(tiny), tiny, weights=weights, epochs=1, batch_size=50, after_step=after_step, device="cpu")
    )
    assert n == 1
    assert told == list(range(1, len(seen) + 1))
    assert seen[:2] == [["bpr"], ["bpr"]]
    assert all(active == ["bpr", "l2"] for active in seen[2:])


def test_a_checkpoint_remembers_the_steps(tiny, tmp_path):
    trainer = Trainer(create("bpr", tiny), tiny, batch_size=50, metrics_every=0, device="cpu")
    trainer.epoch()
    trainer.save(tmp_path / "state.pt")
    other = Trainer(create("bpr", tiny), tiny, batch_size=50, metrics_every=0, device="cpu")
    other.load(tmp_path / "state.pt")
    assert (other.epochs_done, other.steps_done) == (1, trainer.steps_done)
