"""The what-if studio, stepped by the test, and the panel's shell, without a kernel or a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import Recommender
from mmrec_teach.views.studio import Control, Studio, Update, colourings, controls_of, hover_texts

WAIT = 120.0  # seconds before a test that hangs gives up; never waited for when all is well


class Toy(Recommender):
    """A model with three views and two terms, and nothing to compute."""

    default_weights = {"fit": 1.0, "pull": 0.0}

    def __init__(self, data, *, dim: int = 4, tilt: float = 0.5, loud: bool = False, mood: str = "calm", seed: int = 0):
        super().__init__(data, seed=seed)
        self.table = nn.Parameter(torch.randn(data.n_items, dim, generator=self.generator))
        self.users = nn.Parameter(torch.randn(data.n_users, dim, generator=self.generator))

    def losses(self, batch, active=None):
        return {"fit": self.table.square().mean()}

    def views(self):
        return {"user/final": self.users, "item/id": self.table * 2, "item/final": self.table}

    def score(self, users):
        return self.users[users] @ self.table.T


class Stepper:
    """A trainer that takes one epoch each time the test allows it, and remembers what it was given."""

    def __init__(self, fail_at: int | None = None):
        self.permits = threading.Semaphore(0)
        self.calls: list[dict[str, Any]] = []
        self.seen: list[dict[str, float]] = []
        self.active = self.most_active = self.closed = 0
        self.fail_at = fail_at
        self.begun = 0  # epochs entered, over all runs
        self.condition = threading.Condition()

    def wait_inside(self, n: int) -> None:
        """Return once the worker has entered its n-th epoch and waits there."""
        with self.condition:
            assert self.condition.wait_for(lambda: self.begun >= n, WAIT)

    def __call__(self, model, data, *, weights, epochs, **settings) -> Iterator[Any]:
        self.calls.append({"model": model, "weights": weights, **settings})
        return self._run(model, weights)

    def _run(self, model, weights):
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        epoch = 0
        try:
            while True:
                with self.condition:
                    self.begun += 1
                    self.condition.notify_all()
                assert self.permits.acquire(timeout=WAIT)
                epoch += 1
                if self.fail_at == epoch:
                    raise RuntimeError("the loss exploded")
                self.seen.append(dict(weights))
                with torch.no_grad():
                    model.table += 0.1
                yield SimpleNamespace(epoch=epoch, losses={"fit": 1 / epoch}, metrics={"recall@20": 0.1 * epoch})
        finally:
            self.active -= 1
            self.closed += 1

    def allow(self, n: int = 1) -> None:
        for _ in range(n):
            self.permits.release()


class Log:
    """A listener that lets the test wait for what it wants to see."""

    def __init__(self):
        self.updates: list[Update] = []
        self.condition = threading.Condition()

    def __call__(self, update: Update) -> None:
        with self.condition:
            self.updates.append(update)
            self.condition.notify_all()

    def wait(self, wanted) -> Update:
        with self.condition:
            assert self.condition.wait_for(lambda: any(wanted(u) for u in self.updates), WAIT), self.kinds()
            return next(u for u in self.updates if wanted(u))

    def kinds(self) -> list[str]:
        return [u.kind for u in self.updates]


def studio(tiny, **settings) -> tuple[Studio, Stepper, Log]:
    stepper, log = settings.pop("trainer", None) or Stepper(), Log()
    made = Studio(Toy, tiny, trainer=stepper, listener=log, umap=False, debounce=0.0, interval=0.0, **{"epochs": 3, **settings})
    return made, stepper, log


# -- what can be changed -------------------------------------------------------------------------------------------------------
def test_controls_are_read_off_the_model(tiny):
    made, _, _ = studio(tiny)
    kinds = {c.name: (c.kind, c.style) for c in made.controls}
    assert kinds == {
        "fit": ("weight", "log"),
        "pull": ("weight", "log"),
        "dim": ("option", "choice"),
        "tilt": ("option", "float"),
        "loud": ("option", "switch"),
    }
    assert all(c.label and c.help for c in made.controls)
    assert made.weights == {"fit": 1.0, "pull": 0.0}
    assert made.options == {"dim": 4, "tilt": 0.5, "loud": False}
    assert [c.name for c in studio(tiny, controls=["tilt", "pull", "seed", "lr"])[0].controls] == ["tilt", "pull", "lr"]
    own = Control("mood", "option", "choice", "calm", choices=("calm", "wild"))
    assert studio(tiny, controls=[own])[0].options == {"mood": "calm"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"controls": ["speed"]}, "no such control"),
        ({"controls": ["mood"]}, "no range is known"),
        ({"controls": [Control("speed", "option", "int", 1)]}, "does not have"),
        ({"views": ["item/soul"]}, "no such view"),
        ({"options": {"speed": 3}}, "no such option"),
        ({"weights": {"speed": 3.0}}, "no loss term"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_wrong_settings_are_refused_in_the_callers_cell(tiny, settings, sentence):
    with pytest.raises(OptionError, match=sentence):
        studio(tiny, **settings)


def test_models_are_found_by_name_and_baselines_have_nothing_to_slide(tiny):
    made = Studio("lightgcn", tiny, umap=False, controls=["n_layers", "l2"])
    assert [(c.name, c.style) for c in made.controls] == [("n_layers", "int"), ("l2", "log")]
    assert made.views == ("item/final",)
    assert Studio("vbpr", tiny, controls=["content_weight"]).options["content_weight"] == 1.0
    with pytest.raises(OptionError, match="unknown model"):
        Studio("gpt", tiny)
    with pytest.raises(OptionError, match="nothing to train"):
        Studio("popularity", tiny)
    with pytest.raises(DataError, match="features"):
        Studio("vbpr", tiny.with_features({}))


# -- a run -------------------------------------------------------------------------------------------------------------------
def test_a_run_tells_every_epoch_and_ends(tiny):
    made, stepper, log = studio(tiny, views=["item/final", "user/final"])
    stepper.allow(3)
    made.run()
    assert made.join(WAIT)
    assert log.kinds() == ["started", "epoch", "epoch", "epoch", "finished"]
    assert [u.epoch for u in log.updates] == [0, 1, 2, 3, 3]
    assert [u.number for u in log.updates] == [0, 1, 2, 3, 3]
    last = log.updates[-1]
    assert last.value == pytest.approx(0.3)
    assert set(last.pictures) == {"item/final", "user/final"}
    assert last.pictures["item/final"].xy.shape == (tiny.n_items, 2)
    assert last.pictures["item/final"].method == "PCA"
    assert set(last.gauges) == {"alignment", "uniformity", "effective rank", "neighbours kept"}
    assert made.runs[0].curve("recall@20") == ([1, 2, 3], pytest.approx([0.1, 0.2, 0.3]))
    assert "0.300" in made.sentence()
    assert not made.busy
    assert stepper.calls[0]["lr"] == made.values["lr"]


def test_changing_a_control_cancels_between_epochs_and_starts_the_next(tiny):
    made, stepper, log = studio(tiny)
    made.run()
    stepper.allow(1)
    stepper.wait_inside(2)
    made.set("tilt", 0.9)
    stepper.allow(1)
    log.wait(lambda u: u.kind == "started" and u.run.number == 2)
    stepper.allow(3)
    assert made.join(WAIT)
    assert log.kinds() == ["started", "epoch", "epoch", "stopped", "started", "epoch", "epoch", "epoch", "finished"]
    assert [len(r.history) for r in made.runs] == [2, 3]
    assert stepper.calls[1]["model"].options["tilt"] == 0.9
    assert made.runs[1].label == "tilt 0.5 → 0.9"
    assert stepper.most_active == 1
    assert "as good as the run before (tilt 0.5 → 0.9), at epoch 2" in made.sentence()  # the run before has no third


def test_many_changes_make_one_run(tiny):
    made, stepper, log = studio(tiny)
    made.debounce = 0.2
    for value in np.linspace(0, 0.4, 9):
        made.set("tilt", float(value))
    stepper.allow(3)
    assert made.join(WAIT)
    assert len(stepper.calls) == 1
    assert made.runs[0].settings["tilt"] == 0.4
    assert log.kinds().count("started") == 1


def test_settings_that_stay_the_same_or_are_switched_off_change_nothing(tiny):
    made, stepper, _ = studio(tiny)
    made.set("tilt", 0.5)
    made.set("pull", 0.7)
    made.switch("pull", False)
    assert made.join(WAIT)
    assert stepper.calls == []
    with pytest.raises(OptionError):
        made.set("speed", 1)
    with pytest.raises(OptionError):
        made.switch("speed", True)


def test_weights_act_on_the_running_model_in_continue_mode(tiny):
    made, stepper, log = studio(tiny, mode="continue")
    made.run()
    stepper.allow(1)
    stepper.wait_inside(2)
    made.set("fit", 0.25)
    made.switch("pull", True)  # both arrive in the middle of epoch 2
    stepper.allow(4)
    assert made.join(WAIT)
    assert len(stepper.calls) == 1
    # the second epoch was under way: it reads the weights when the loop asks for them
    assert stepper.seen[0] == {"fit": 1.0, "pull": 0.0}
    assert stepper.seen[-1] == {"fit": 0.25, "pull": 0.1}
    assert log.updates[-1].epoch == 4  # three more epochs from the change on

    made.set("fit", 2.0)  # after the end: goes on with the same model and optimiser
    stepper.allow(3)
    assert made.join(WAIT)
    assert len(stepper.calls) == 1
    assert stepper.seen[-1]["fit"] == 2.0
    assert log.updates[-1].epoch == 7

    made.set("dim", 8)  # another shape: there is nothing to go on with
    stepper.allow(3)
    assert made.join(WAIT)
    assert len(stepper.calls) == 2
    assert stepper.calls[1]["model"].table.shape[1] == 8


def test_stop_pauses_and_run_goes_on_or_starts_anew(tiny):
    made, stepper, log = studio(tiny, mode="continue")
    made.run()
    stepper.allow(1)
    stepper.wait_inside(2)
    made.stop()
    stepper.allow(1)
    assert made.join(WAIT)
    assert log.kinds()[-1] == "stopped"
    made.run()
    stepper.allow(3)
    assert made.join(WAIT)
    assert log.updates[-1].epoch == 5
    made.mode = "restart"
    made.run()
    stepper.allow(3)
    assert made.join(WAIT)
    assert log.updates[-1].epoch == 3
    assert made.runs[-1].label == "same settings"


def test_an_exception_is_told_and_the_next_change_starts_afresh(tiny):
    made, stepper, log = studio(tiny, trainer=Stepper(fail_at=2))
    stepper.allow(2)
    made.run()
    assert made.join(WAIT)
    assert log.kinds() == ["started", "epoch", "failed"]
    assert "the loss exploded" in log.updates[-1].error
    assert "Traceback" in log.updates[-1].details
    assert "the loss exploded" in made.sentence()
    stepper.fail_at = None
    made.set("tilt", 0.1)
    stepper.allow(3)
    assert made.join(WAIT)
    assert log.kinds()[-1] == "finished"


def test_a_model_that_cannot_be_built_is_told_too(tiny):
    def picky(data, *, dim: int = 4, seed: int = 0):
        if dim == 8:
            raise OptionError("eight is out of stock", where="dim")
        return Toy(data, dim=dim, seed=seed)

    log = Log()
    made = Studio(picky, tiny, listener=log, trainer=Stepper(), umap=False, debounce=0.0)
    made.set("dim", 8)
    assert made.join(WAIT)
    assert log.kinds() == ["failed"]
    assert log.updates[0].error == "dim: eight is out of stock."


def test_a_broken_listener_does_not_kill_the_worker(tiny):
    made, stepper, _ = studio(tiny)

    def listener(update: Update) -> None:
        raise ValueError("the page is gone")

    made.listener = listener
    stepper.allow(3)
    made.run()
    assert made.join(WAIT)
    assert made.last.kind == "failed"
    assert "the page is gone" in made.last.error


def test_closing_ends_the_worker_and_nothing_starts_again(tiny):
    made, stepper, log = studio(tiny)
    made.run()
    stepper.allow(1)
    stepper.wait_inside(2)
    made.close()
    stepper.allow(1)
    assert made.join(WAIT)
    made.run()
    made.set("tilt", 0.0)
    assert not made.busy
    assert len(stepper.calls) == 1


def test_two_studios_run_at_once(tiny):
    a, step_a, log_a = studio(tiny)
    b, step_b, log_b = studio(tiny)
    a.run()
    b.run()
    step_a.allow(3)
    step_b.allow(3)
    assert a.join(WAIT)
    assert b.join(WAIT)
    assert log_a.kinds() == log_b.kinds() == ["started", "epoch", "epoch", "epoch", "finished"]
    np.testing.assert_array_equal(log_a.updates[-1].pictures["item/final"].xy, log_b.updates[-1].pictures["item/final"].xy)


def test_the_real_loop_drives_a_real_model_and_repeats_itself(tiny):
    def final() -> Studio:
        made = Studio("lightgcn", tiny, epochs=3, umap=False, batch_size=64, interval=0.0)
        made.run()
        assert made.join(WAIT)
        assert made.last.kind == "finished", made.last.details
        return made

    first, second = final(), final()
    assert [r.losses for r in first.runs[0].history] == [r.losses for r in second.runs[0].history]
    np.testing.assert_array_equal(first.pin().tables["item/final"], second.pin().tables["item/final"])


def test_large_tables_are_sampled_once(tiny):
    made, _, _ = studio(tiny, points=10)
    assert len(made.rows["item"]) == len(made.rows["user"]) == 10
    assert (np.diff(made.rows["item"]) > 0).all()
    np.testing.assert_array_equal(made.rows["item"], studio(tiny, points=10)[0].rows["item"])


def test_colourings_and_hover_name_what_is_known(tiny, bazaar):
    assert list(colourings(tiny, "item")) == ["popularity", "cold", "plain"]
    assert list(colourings(tiny, "user")) == ["popularity", "plain"]
    kind, categories = colourings(bazaar, "item", most=5)["category"]
    assert kind == "category"
    assert len(set(categories)) == 5
    assert "other" in set(categories)
    users = colourings(bazaar, "user")["category"][1]
    assert set(users) <= set(colourings(bazaar, "item", most=99)["category"][1])
    assert str(bazaar.items["title"][0])[:5] in hover_texts(bazaar, "item")[0]
    assert "interactions" in hover_texts(tiny, "user")[0]


def test_controls_follow_types_they_know_nothing_about():
    def factory(data, *, hops: int = 3, temperature: float = 0.07, margin: float = 2.0, heads=None, seed: int = 0): ...

    made = {c.name: c for c in controls_of(factory, {}, 1e-3)}
    assert set(made) == {"hops", "temperature", "margin"}
    assert (made["hops"].low, made["hops"].high) == (0, 6)
    assert made["margin"].high == 4.0


def test_guards_against_collapse_can_be_set_to_every_value_a_model_takes(bazaar):
    for name, guards in (
        ("bm3", ["stop_gradient", "predictor", "dropout"]),
        ("buir", ["momentum", "predictor", "edge_dropout"]),
    ):
        made = Studio(name, bazaar, controls=guards, umap=False)
        for control in made.controls:
            ends = {"switch": (True, False), "choice": control.choices, "float": (control.low, control.high)}[control.style]
            assert control.default in ends or control.style == "float"
            assert 0 in ends, "each can be taken away"  # False is 0
            for value in ends:
                made.factory(bazaar, dim=4, **{control.name: value})
