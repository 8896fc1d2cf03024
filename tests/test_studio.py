"""The what-if engine with the package's own loop: between steps, warm and cold, undo, lists, pins, replay."""

from __future__ import annotations

import numpy as np
import pytest
from test_whatif import WAIT, Log, Toy
from test_whatif import studio as stepped

from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import MODELS
from mmrec_teach.training import TrainingError
from mmrec_teach.views import studio as engine
from mmrec_teach.views import worker
from mmrec_teach.views.controls import controls_of, switch_controls
from mmrec_teach.views.setting import Setting, replay
from mmrec_teach.views.studio import Studio, colourings, hover_texts
from mmrec_teach.views.toplists import ranking, scores_of


class Steered(Log):
    """A listener that also does something once, at the first update that is wanted, in the worker's own thread."""

    def __init__(self):
        super().__init__()
        self.acts = []

    def at(self, wanted, act) -> None:
        self.acts.append((wanted, act))

    def __call__(self, update) -> None:
        super().__call__(update)
        for pair in list(self.acts):
            if pair[0](update):
                self.acts.remove(pair)
                pair[1]()


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    """The first picture after a movement comes at the next step, and no two movements are taken for one."""
    monkeypatch.setattr(worker, "FIRST_PICTURE", 0.0)
    monkeypatch.setattr(engine, "GATHER", 0.0)


def live(model, data, **settings) -> tuple[Studio, Steered]:
    log = Steered()
    settings = {"umap": False, "debounce": 0.0, "interval": 60.0, "batch_size": 50, "epochs": 2, "mode": "continue"} | settings
    return Studio(model, data, listener=log, **settings), log


def finish(made: Studio) -> Studio:
    made.run()
    assert made.join(WAIT)
    assert made.last.kind != "failed", made.last.details
    return made


def table(made: Studio, view: str = "item/final") -> np.ndarray:
    with made._session.model.evaluating():
        return made._session.model.views()[view].numpy().copy()


STEPS = 4  # of an epoch: the tiny data set in batches of 50


# -- between steps -----------------------------------------------------------------------------------------------------------
def test_a_new_run_is_drawn_before_it_trains_and_within_its_first_epoch(tiny):
    made, log = live("lightgcn", tiny)
    finish(made)
    first = [(u.kind, u.steps, u.fresh) for u in log.updates[:3]]
    assert first[0] == ("started", 0, True)
    assert first[1] == ("picture", 1, True)
    assert log.kinds() == ["started", "picture", "epoch", "epoch", "finished"]
    assert [u.epoch for u in log.updates] == [0, 0, 1, 2, 2]
    assert not any(u.warm for u in log.updates)


def test_a_moved_weight_is_drawn_at_the_next_step_and_written_down(tiny):
    made, log = live("lightgcn", tiny)
    log.at(lambda u: u.kind == "picture", lambda: made.set("l2", 0.5))  # after step 1
    finish(made)
    pictures = [u for u in log.updates if u.kind == "picture"]
    assert [u.steps for u in pictures] == [1, 2]  # one after step 1; moved there; one after the first step that knows it
    assert made.runs[0].setting.changes == ((1, {"l2": 0.5}),)
    assert pictures[1].warm
    assert "from epoch 0 on l2 0.001 → 0.5" in made.runs[0].label
    assert "moved on the way" in made.sentence()


def test_long_epochs_are_drawn_on_the_way(tiny, monkeypatch):
    made, log = live("lightgcn", tiny, interval=0.0, epochs=1)
    monkeypatch.setattr(worker, "LONG", 0.0)
    monkeypatch.setattr(worker, "REST", 0.0)
    finish(made)
    assert log.kinds() == ["started", *["picture"] * STEPS, "epoch", "finished"]


def test_a_cold_change_breaks_the_epoch_off(tiny):
    made, log = live("lightgcn", tiny, mode="restart")
    log.at(lambda u: u.kind == "picture", lambda: made.set("l2", 0.5))
    finish(made)
    assert [(u.kind, u.steps) for u in log.updates][:4] == [("started", 0), ("picture", 1), ("stopped", 1), ("started", 0)]
    assert len(made.runs) == 1  # the first never had an epoch: nothing to compare with
    assert made.runs[0].setting.weights["l2"] == 0.5
    assert made.runs[0].setting.changes == ()


def test_drawing_changes_no_number(tiny):
    quiet, _ = live("bm3", tiny, tug=False)
    busy, log = live("bm3", tiny, interval=0.0, views=["item/id", "item/content", "user/final"])
    busy.choose_user(3)
    log.at(lambda u: u.epoch == 1, lambda: busy.top(5))
    finish(quiet)
    finish(busy)
    assert [r.losses for r in quiet.runs[0].history] == [r.losses for r in busy.runs[0].history]
    np.testing.assert_array_equal(table(quiet), table(busy))


# -- settings ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "term"), [("lightgcn", "l2"), ("bm3", "align")])
def test_a_run_with_weights_moved_in_the_middle_is_repeated_bit_for_bit(name, term, tiny):
    made, log = live(name, tiny, epochs=3, switches=Switches(cold=0.1), seed=4)
    log.at(lambda u: u.steps == 1, lambda: made.set(term, 0.7))
    log.at(lambda u: u.epoch == 1, lambda: made.switch(term, False))
    finish(made)
    made.set(term, 0.3)
    made.switch(term, True)  # while it rests: goes on
    assert made.join(WAIT)
    text = made.setting().to_text()
    assert [step for step, _ in made.setting().changes] == [1, 4, made.setting().changes[-1][0]]
    assert f"{term}@1=0.7" in text

    model, history = replay(Setting.from_text(text), tiny)
    assert [r.losses for r in history] == [r.losses for r in made.runs[0].history]
    with model.evaluating():
        np.testing.assert_array_equal(model.views()["item/final"].numpy(), table(made))

    other = Studio(None, tiny, setting=text, umap=False, batch_size=7, epochs=9)  # the setting knows better
    assert other.setting().to_text() == text
    finish(other)
    np.testing.assert_array_equal(table(other), table(made))
    assert other.setting().to_text() == text
    assert (other.values[term], other.values["seed"], other.switches) == (0.3, 4, Switches(cold=0.1))
    assert other.epochs == Setting.from_text(text).epochs

    third, _ = live(name, tiny, controls=["l2"] if name == "lightgcn" else None)
    finish(third)
    third.apply_setting(text)
    assert third.join(WAIT)
    changed = {part.split(" ")[0] for part in third.runs[-1].label.split("; ")[0].split(", ")}
    assert changed <= {*third.default_weights, "seed", "data"}  # no option: the setting names their defaults
    np.testing.assert_array_equal(table(third), table(made))
    assert third.epochs == other.epochs
    while third.can_undo:
        third.undo()
    assert third.epochs == 2


def test_settings_of_other_models_and_data_are_refused(tiny, bazaar):
    made, _ = live("lightgcn", tiny)
    with pytest.raises(OptionError, match="another model"):
        made.apply_setting(Setting("bpr", "tiny"))
    with pytest.raises(DataError, match="other data"):
        made.apply_setting("lightgcn?l2=0.5")
    with pytest.raises(OptionError, match="no such option"):
        made.apply_setting(Setting("lightgcn", "tiny", options={"speed": 1}))
    with pytest.raises(OptionError, match="no such loss term"):
        made.apply_setting(Setting("lightgcn", "tiny", changes=((1, {"speed": 1.0}),)))
    with pytest.raises(OptionError, match="no model"):
        Studio(None, tiny)
    assert Studio(setting="bpr?dim=8").data.name == bazaar.name


def test_the_setting_follows_the_controls_until_a_run_is_there(tiny):
    made, log = live("lightgcn", tiny, mode="restart", epochs=3)
    assert made.setting().to_text().startswith("lightgcn?data=tiny")
    assert made.setting().epochs == 3
    finish(made)
    made.debounce = WAIT  # the next run waits
    made.set("l2", 0.5)
    assert made.setting().weights["l2"] == 0.5
    assert made.setting(made.runs[0]).weights["l2"] == 1e-3
    made.close()


# -- step, go on, undo ----------------------------------------------------------------------------------------------------------
def test_step_trains_one_epoch_and_go_on_goes_on_in_either_mode(tiny):
    made, log = live("lightgcn", tiny, mode="restart")
    for expected in (1, 2):
        made.step()
        assert made.join(WAIT)
        assert (made.last.kind, made.last.epoch) == ("stopped", expected)  # paused: nobody said how far it was to go
    made.go_on()
    assert made.join(WAIT)
    assert made.last.epoch == 4
    assert len(made.runs) == 1
    whole, _ = live("lightgcn", tiny, epochs=4)
    np.testing.assert_array_equal(table(made), table(finish(whole)))
    made.debounce = 0.5
    made.set("l2", 0.5)
    made.step()  # the changed control asks for another run
    assert made.join(WAIT)
    assert (len(made.runs), made.last.epoch) == (2, 1)


def test_undo_brings_back_the_model_when_training_goes_on(tiny):
    plain, _ = live("bm3", tiny)
    finish(plain)
    before = table(plain)

    made, log = live("bm3", tiny)
    assert not made.can_undo
    finish(made)
    made.set("align", 9.0)
    assert made.join(WAIT)
    made.set("mask", 5.0)
    made.switch("align", False)
    assert made.join(WAIT)
    assert made.last.epoch > 2
    for values in ({"align": 9.0, "mask": 5.0}, {"align": 9.0, "mask": 2.0}, {"align": 2.0, "mask": 2.0}):
        assert made.can_undo
        made.undo()
        assert made.join(WAIT)
        assert {name: made.values[name] for name in values} == values
        assert made.last.kind == "stopped"
        assert made.last.fresh
    assert not made.can_undo
    made.undo()
    assert len(made.runs[0].history) == 2
    assert made.setting() == plain.setting()
    np.testing.assert_array_equal(table(made), before)
    made.go_on()
    plain.go_on()
    assert made.join(WAIT)
    assert plain.join(WAIT)
    np.testing.assert_array_equal(table(made), table(plain))
    assert made.setting() == plain.setting()


def test_undo_while_it_trains_goes_back_into_the_middle_of_the_epoch(tiny):
    plain, _ = live("lightgcn", tiny, epochs=3)
    finish(plain)
    made, log = live("lightgcn", tiny, epochs=3)
    log.at(lambda u: u.kind == "picture" and u.steps == 1, lambda: made.set("l2", 0.9))
    log.at(lambda u: u.epoch == 1, made.undo)
    finish(made)
    assert [(u.kind, u.steps) for u in log.updates if u.kind == "started"] == [("started", 0), ("started", 1)]
    assert made.values["l2"] == 1e-3
    assert made.setting() == plain.setting()
    np.testing.assert_array_equal(table(made), table(plain))


def test_undo_of_a_restart_brings_back_the_run_before_or_trains_it_again(tiny):
    for mode, runs in (("continue", [2, 1]), ("restart", [1, 2, 3])):
        made, _ = live("lightgcn", tiny, mode=mode)
        finish(made)
        before = table(made)
        made.set("n_layers", 0)
        assert made.join(WAIT)
        assert not np.array_equal(table(made), before)
        made.undo()
        assert made.join(WAIT)
        assert made.values["n_layers"] == 2
        np.testing.assert_array_equal(table(made), before)
        assert [run.number for run in made.runs] == runs


@pytest.mark.parametrize("mode", ["restart", "continue"])
def test_undo_before_a_change_has_acted_lets_the_run_go_on(mode, tiny):
    plain, _ = live("lightgcn", tiny)
    finish(plain)
    made, log = live("lightgcn", tiny, mode=mode, debounce=WAIT)
    log.at(lambda u: u.kind == "picture", lambda: made.set("n_layers", 0))
    log.at(lambda u: u.kind == "stopped", made.undo)
    finish(made)
    assert len(made.runs) == 1
    assert made.runs[0].label == "first run"
    np.testing.assert_array_equal(table(made), table(plain))


def test_a_factory_of_ones_own_opens_its_settings(tiny):
    class Mine(MODELS["bpr"]):
        pass

    made, _ = live(Mine, tiny, weights={"l2": 0.5}, options={"dim": 4})
    finish(made)
    text = made.setting().to_text(Mine)
    other, _ = live(Mine, tiny)
    other.apply_setting(text)
    assert other.join(WAIT)
    np.testing.assert_array_equal(table(made), table(other))
    assert Studio(Mine, tiny, setting=text, umap=False).options["dim"] == 4


def test_movements_of_one_slider_are_one_change_and_old_copies_are_forgotten(tiny, monkeypatch):
    monkeypatch.setattr(engine, "GATHER", 1e9)
    made, _ = live("lightgcn", tiny)
    for value in (0.1, 0.2, 0.3):
        made.set("l2", value)
    made.undo()
    assert made.join(WAIT)
    assert made.values["l2"] == 1e-3
    assert not made.can_undo
    monkeypatch.setattr(engine, "GATHER", 0.0)
    monkeypatch.setattr(worker, "UNDO_BYTES", 1)
    finish(made)
    made.set("l2", 0.4)
    assert made.join(WAIT)
    assert not made.can_undo
    monkeypatch.setattr(engine, "LEVELS", 2)
    for value in (0.1, 0.2, 0.3, 0.4):
        made.mode = "restart"
        made.set("lr", value / 100)
    assert len(made._changes) == 2
    made.close(WAIT)


def test_a_run_that_blew_up_can_be_undone(tiny, monkeypatch):
    made, log = live("lightgcn", tiny)
    finish(made)
    before = table(made)
    made.set("l2", 1e30)
    made.set("bpr", 1e30)
    monkeypatch.setattr(
        made._session.trainer, "step", lambda *args: (_ for _ in ()).throw(TrainingError("The loss is no longer finite."))
    )
    assert made.join(WAIT)
    assert made.last.kind == "failed"
    assert "no longer finite" in made.last.error
    monkeypatch.undo()
    while made.can_undo:
        made.undo()
        assert made.join(WAIT)
    assert made.last.kind == "stopped"
    np.testing.assert_array_equal(table(made), before)


def test_with_a_loop_of_ones_own_undo_brings_back_settings(tiny):
    made, stepper, log = stepped(tiny, mode="continue")
    stepper.allow(3)
    made.run()
    assert made.join(WAIT)
    made.set("fit", 0.25)
    stepper.allow(3)
    assert made.join(WAIT)
    made.undo()
    stepper.allow(3)
    assert made.join(WAIT)
    assert stepper.seen[-1]["fit"] == 1.0
    assert made.last.epoch == 9


# -- data --------------------------------------------------------------------------------------------------------------------
def test_switches_change_the_data_of_the_next_run(tiny):
    made, _ = live("vbpr", tiny)
    assert [c.name for c in made.switch_controls] == ["without", "features", "missing", "cold", "keep"]
    assert [c.name for c in switch_controls(tiny.with_features({}))] == ["cold", "keep"]
    finish(made)
    made.set_switch("without", ["image"])
    assert made.join(WAIT)
    assert made.runs[-1].label == "data as they are → without image"
    assert made._session.data.modalities == ("text",)
    made.set_switch("without", ("image",))
    assert not made.busy  # the same again
    made.switches = Switches(cold=0.5)
    assert made.join(WAIT)
    assert made.colourings("item")["cold"][1].sum() > tiny.cold_items.sum()
    made.undo()
    assert made.join(WAIT)
    assert made.switches == Switches(without=("image",))
    with pytest.raises(OptionError, match="no such switch"):
        made.set_switch("speed", 1)
    with pytest.raises(OptionError, match="unknown modality"):
        made.set_switch("without", ["smell"])
    assert made.switches == Switches(without=("image",))
    made.set_switch("without", ["image", "text"])  # VBPR cannot do without
    assert made.join(WAIT)
    assert made.last.kind == "failed"


# -- views and gauges --------------------------------------------------------------------------------------------------------
def test_id_and_content_of_an_item_share_one_picture(tiny):
    made, log = live("bm3", tiny, views=["item/id", "user/final"])
    assert made.pair == ("item/id", "item/content")
    finish(made)
    assert made.last.pictures["item/id"].partner == ""
    made.choose_views(["item/content", "item/id"])
    assert made.join(WAIT)
    assert made.last.kind == "picture"
    pictures = made.last.pictures
    assert list(pictures) == ["item/content", "item/id"]
    assert (pictures["item/id"].partner, pictures["item/content"].partner) == ("item/content", "item/id")
    assert len(pictures["item/id"].xy) == len(pictures["item/content"].xy) == tiny.n_items
    both = np.concatenate([pictures[v].xy for v in ("item/id", "item/content")])
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-3)  # centred together, not one by one
    assert {"ID-content distance", "modality gap", "CKA", "neighbour overlap"} <= set(made.last.gauges)
    with pytest.raises(OptionError, match="no such view"):
        made.choose_views(["item/soul"])


def test_vbpr_compares_id_and_content_without_distances(tiny):
    made, _ = live("vbpr", tiny, views=["item/id", "item/content"])
    finish(made)
    assert made.pair is None
    assert made.last.pictures["item/id"].partner == ""
    assert {"CKA", "neighbour overlap"} <= set(made.last.gauges)
    assert not {"ID-content distance", "modality gap"} & set(made.last.gauges)


def test_the_tug_is_measured_when_asked_for(tiny):
    made, log = live("bm3", tiny)
    finish(made)
    assert set(made.last.tug.norms) == {"rec", "align", "mask", "reg"}
    assert ("rec", "align") in made.last.tug.cosines
    made.tug = False
    made.choose_user(1)
    assert made.join(WAIT)
    assert made.last.tug is None


def test_rows_of_an_unknown_side_are_drawn_plain(tiny):
    class Interests(Toy):
        choices = {"mood": ("calm", "wild"), "tilt": (0.0, 0.5)}

        def views(self):
            return {**super().views(), "interest/centres": self.table[:5]}

    made, stepper, _ = stepped(tiny)
    made = Studio(Interests, tiny, views=["interest/centres"], trainer=stepper, umap=False, epochs=1)
    stepper.allow(1)
    made.run()
    assert made.join(WAIT)
    assert len(made.last.pictures["interest/centres"].xy) == 5
    assert made.colourings("interest") == {"plain": ("none", None)}
    assert hover_texts(tiny, "interest") == []
    controls = {c.name: c for c in controls_of(Interests, {}, 1e-3)}
    assert (controls["mood"].style, controls["mood"].choices, controls["tilt"].choices) == (
        "choice",
        ("calm", "wild"),
        (0.0, 0.5),
    )


# -- lists -------------------------------------------------------------------------------------------------------------------
def test_the_list_of_a_user_says_what_entered_and_left(tiny):
    made, _ = live("lightgcn", tiny)
    assert len(made.top(3)) == 0  # nothing to ask yet
    finish(made)
    made.choose_user(3)
    assert made.join(WAIT)
    top = made.last.top
    assert (top.user, len(top), top.since, top.left, top.entered) == (3, 10, "", (), ())
    assert [i.rank for i in top] == list(range(1, 11))
    assert not {i.item for i in top} & set(tiny.train.items[tiny.train.users == 3])
    assert top[0].score >= top[9].score
    assert top[0].title == f"i{top[0].item}"
    ever = made.top(k=tiny.n_items)
    assert {i.item for i in ever if i.relevant == "valid"} == set(tiny.valid.items[tiny.valid.users == 3])
    made.set("l2", 5.0)
    assert made.join(WAIT)
    now = made.last.top
    assert now.since == "before l2 0.001 → 5"
    before = {i.item: i.rank for i in top}
    assert {i.item for i in now.left} == set(before) - {i.item for i in now}
    assert {i.item for i in now.entered} == {i.item for i in now} - set(before)
    assert all(i.rank_before == before[i.item] for i in now if i.item in before)
    assert all(i.rank > 10 for i in now.left)
    made.set("n_layers", 0)
    assert made.join(WAIT)
    assert made.last.top.since.startswith("the run before (")
    made.choose_user(None)
    assert made.join(WAIT)
    assert made.last.top is None
    with pytest.raises(OptionError, match="no such user"):
        made.choose_user(tiny.n_users)
    with pytest.raises(OptionError, match="no such user"):
        made.top()


def test_others_may_look_while_it_trains(tiny):
    made, log = live("lightgcn", tiny, epochs=10_000)
    made.run()
    log.wait(lambda u: u.epoch >= 1)
    lists = [made.top(user) for user in range(5)]
    made.stop()
    assert made.join(WAIT)
    assert [len(top) for top in lists] == [10] * 5


def test_errors_colour_items_and_users(tiny):
    made, _ = live("lightgcn", tiny)
    assert "missed@20" not in made.colourings("item")
    finish(made)
    kind, missed = made.colourings("item")["missed@20"]
    assert kind == "share"
    judged = np.bincount(tiny.valid.items, minlength=tiny.n_items)
    np.testing.assert_array_equal(np.isnan(missed), judged == 0)
    recall = made.colourings("user")["recall@20"][1]
    assert np.nanmean(recall) == pytest.approx(made.last.value, abs=1e-6)
    assert np.nansum(missed * judged) == pytest.approx(judged.sum() - np.nansum(recall))  # one item each: hit or missed
    assert list(made.colourings("item"))[-1] == "plain"


def test_planted_interests_have_one_name_on_both_sides(bazaar):
    items = colourings(bazaar, "item", most=99)["planted interest"][1]
    users = colourings(bazaar, "user", most=99)["planted interest"][1]
    assert set(users) <= set(items)
    assert len(set(items)) == len(np.unique(bazaar.truth.item_interest))


# -- pins --------------------------------------------------------------------------------------------------------------------
def test_a_pin_keeps_what_was_drawn_and_repeats_it(tiny):
    made, log = live("bm3", tiny, views=["item/id", "item/content"])
    with pytest.raises(OptionError, match="nothing to pin"):
        made.pin()
    pins = []
    log.at(lambda u: u.kind == "picture", lambda: pins.append(made.pin("early")))  # after step 1
    log.at(lambda u: u.kind == "picture", lambda: made.set("align", 0.0))
    finish(made)
    pins.append(made.pin())
    early, late = pins
    assert made.pins == (early, late)
    assert (early.number, early.label, early.epoch, early.steps, early.warm) == (1, "early", 0, 1, False)
    assert (late.number, late.label, late.epoch, late.warm) == (2, "batch_size 50, align@1 0", 2, True)
    assert early.metrics == {}
    assert late.curve("recall@20") == made.runs[0].curve("recall@20")
    assert late.metrics["recall@20"] == made.runs[0].best("recall@20")
    for pin in pins:
        model, _ = replay(Setting.from_text(pin.setting.to_text()), tiny)
        with model.evaluating():
            for view in ("item/id", "item/content"):
                np.testing.assert_array_equal(model.views()[view].numpy(), pin.tables[view])
    made.unpin(1)
    assert made.pins == (late,)
    assert made.pin().number == 3
    with pytest.raises(OptionError, match="no such pin.*2, 3"):
        made.unpin(1)


def test_lists_can_be_compared_with_a_pinned_run(tiny):
    made, _ = live("lightgcn", tiny)
    made.choose_user(2)
    finish(made)
    pin = made.pin()
    made.set("l2", 5.0)
    assert made.join(WAIT)
    made.set("l2", 9.0)
    assert made.join(WAIT)
    assert made.last.top.since == "before l2 5 → 9"
    made.compare_with(1)
    assert made.join(WAIT)
    assert made.last.top.since == f"pin 1 ({pin.label})"
    before = {i.item: i.rank for i in pin.top}
    assert {i.item for i in made.last.top.left} == set(before) - {i.item for i in made.last.top}
    made.choose_user(4)  # nobody asked the pin for this user's list before
    assert made.join(WAIT)
    then, _ = replay(Setting.from_text(pin.setting.to_text()), tiny)
    scores = scores_of(then, 4)
    expected = ranking(tiny, 4, scores)
    now = table(made)
    np.testing.assert_array_equal(pin.memory.ranking(4), expected)
    assert made.last.top.since == f"pin 1 ({pin.label})"
    assert [i.rank_before for i in made.last.top] == [int(np.flatnonzero(expected == i.item)[0]) + 1 for i in made.last.top]
    made.compare_with(None)  # the model before the last change knows it too
    assert made.join(WAIT)
    assert made.last.top.since == "before l2 5 → 9"
    np.testing.assert_array_equal(table(made), now)
    made.compare_with(1)
    made.unpin(1)
    with pytest.raises(OptionError, match="no such pin"):
        made.compare_with(1)


def test_closing_ends_it_between_two_steps(tiny):
    made, log = live("lightgcn", tiny, epochs=10_000)
    made.run()
    log.wait(lambda u: u.epoch >= 1)
    made.close(WAIT)
    assert not made.busy
    made.undo()
    made.choose_user(1)
    assert not made.busy
