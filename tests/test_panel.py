"""The what-if panel without a kernel or a browser: its controls steer the engine, its parts show what the engine tells."""

from __future__ import annotations

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest

from mmrec_teach.errors import OptionError
from mmrec_teach.training.gradients import GradientReport
from mmrec_teach.views import alt_text, session, whatif
from mmrec_teach.views.panel_card import Catalogue
from mmrec_teach.views.panel_curves import EARLIER, PINNED
from mmrec_teach.views.panel_gauges import _change, trail
from mmrec_teach.views.panel_maps import legend
from mmrec_teach.views.panel_parts import LivePlot, pack
from mmrec_teach.views.panel_shelf import arrangements
from mmrec_teach.views.panel_top import movement, top_html
from mmrec_teach.views.panel_tug import tug_html
from mmrec_teach.views.panel_twin import still
from mmrec_teach.views.updates import Run, TopItem, TopList
from tests.test_whatif import WAIT, Stepper, Toy

VIEWS = ["item/final", "user/final"]


@pytest.fixture
def panel(tiny):
    stepper = Stepper()
    made = whatif(Toy, tiny, epochs=2, trainer=stepper, umap=False, debounce=0.0, interval=0.0, views=VIEWS)
    yield made, stepper
    made.close()


@pytest.fixture
def live(tiny):
    """A panel over the package's own loop, which alone can step, undo and pin with all that belongs to it."""
    made = whatif(
        "vbpr", tiny, epochs=2, umap=False, debounce=0.0, interval=0.0, batch_size=64, autostart=False, options={"dim": 8}
    )
    yield made
    made.close()


def run(made) -> None:
    made.controls["run"].click()
    assert made.studio.join(WAIT)
    assert made.studio.last.kind != "failed", made.studio.last.details


def everything(widget):
    """A widget and all below it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def words(made) -> str:
    """All HTML of a panel."""
    return " ".join(getattr(part, "html", "") for part in everything(made.widget))


class Page:
    """The page's side of a plot: draws when told to, and remembers what it was sent."""

    def __init__(self, plot: LivePlot):
        self.plot, self.sent = plot, []
        plot.send = lambda content, buffers=None: self.sent.append((content, buffers))

    def say(self, **content) -> None:
        self.plot._heard(None, content, [])

    def drawn(self) -> None:
        self.say(drawn=self.sent[-1][0]["number"])


# -- the whole ---------------------------------------------------------------------------------------------------------------
def test_the_panel_can_be_found_read_and_steered(panel):
    made, stepper = panel
    found = {name for part in everything(made.widget) for name in part._dom_classes}
    assert {"mmrec-whatif", "mmrec-status", "mmrec-form", "mmrec-map", "mmrec-pane-curves", "mmrec-pane-share"} <= found
    for name in ("fit", "fit-on", "dim", "seed", "run", "stop", "step", "undo", "pin", "mode", "colour", "data-cold"):
        assert f"mmrec-control-{name}" in words(made), name
        assert name in made.controls
    assert stepper.calls == []  # nobody looks yet
    assert "update 0" in made._status.html
    made.controls["tilt"].value = 0.75
    stepper.allow(2)
    assert made.studio.join(WAIT)
    assert stepper.calls[0]["model"].options["tilt"] == 0.75
    assert "update 2 · recall@20 0.200 · epoch 2/2" in made._status.html
    assert "cold" in made._status.html
    assert "0.200" in made._sentence.text
    assert "effective rank" in made._gauges.widget.html
    assert made.controls["stop"].disabled
    assert made.controls["pull"].disabled
    made.controls["pull-on"].value = True
    stepper.allow(2)
    assert made.studio.join(WAIT)
    assert stepper.seen[-1]["pull"] == 0.1
    assert not made.controls["pull"].disabled


def test_what_the_page_sends_moves_the_engine_in_the_types_it_knows(panel):
    made, stepper = panel
    stepper.allow(20)
    form = made._form
    form._heard({"set": "dim", "value": "8"})  # a list sends text
    form._heard({"set": "tilt", "value": 1})  # a slider sends 1 for 1.0
    form._heard({"set": "loud", "value": True})
    form._heard({"set": "seed", "value": 3.0})
    form._heard({"set": "fit", "value": 0.02})
    assert made.studio.options == {"dim": 8, "tilt": 1.0, "loud": True}
    assert isinstance(made.studio.values["tilt"], float)
    assert made.studio.values["seed"] == 3
    assert made.studio.weights["fit"] == 0.02
    form._heard({"set": "mode", "value": "continue"})
    assert made.studio.mode == "continue"
    assert "warm" in made._status.html
    assert form.values["dim"] == {"value": 8, "disabled": False}  # what a page that comes later is told


def test_a_value_that_cannot_be_is_refused_in_words_and_put_back(panel):
    made, _ = panel
    before = made.controls["fit"].value
    made._form._heard({"set": "fit", "value": -1.0})
    assert "not a positive number" in made._error.html
    assert 'role="alert"' in made._error.html
    assert made.controls["fit"].value == made.studio.values["fit"] == before


def test_the_panel_starts_when_a_page_shows_it_and_only_once(panel):
    made, stepper = panel
    stepper.allow(4)
    made._on_message(None, {"ready": True}, [])
    assert made.studio.join(WAIT)
    made._on_message(None, {"ready": True}, [])  # shown a second time
    assert made.studio.join(WAIT)
    assert len(stepper.calls) == 1


def test_errors_show_in_the_panel_and_go_with_the_next_run(tiny):
    stepper = Stepper(fail_at=1)
    made = whatif(Toy, tiny, trainer=stepper, umap=False, debounce=0.0)
    stepper.allow(1)
    made.start()
    assert made.studio.join(WAIT)
    assert "the loss exploded" in made._error.html
    assert 'role="alert"' in made._error.html
    assert "failed" in made._status.html
    with pytest.raises(RuntimeError, match="exploded"):
        made.figure()
    stepper.fail_at = None
    stepper.allow(40)
    made.start()
    assert made.studio.join(WAIT)
    assert made._error.html == ""
    made.close()


def test_more_than_three_maps_are_too_many(tiny):
    with pytest.raises(OptionError, match="too many maps"):
        whatif("vbpr", tiny, views=["item/id", "item/content", "item/final", "user/final"])


def test_data_switches_are_offered_and_taken_back(live):
    live.controls["data-text"].value = False
    live.controls["data-missing"].value = 0.5
    assert live.studio.switches.without == ("text",)
    assert live.studio.switches.missing == 0.5
    assert live.studio.join(WAIT)
    live._undo()
    assert live.controls["data-missing"].value == 0.0
    assert live.studio.join(WAIT)
    assert live.studio.last.run.settings == live.studio.settings()


def test_a_share_that_leaves_nothing_is_refused(live):
    live._form._heard({"set": "data-missing", "value": 1})
    assert "missing: share out of range (found 1, expected a number from 0 to 0.9)" in live._error.html
    assert live.studio.switches.missing == live.controls["data-missing"].value == 0.0


def test_the_form_shows_the_terms_that_the_model_has_under_its_options(tiny):
    class Staged(Toy):
        choices = {"mood": ("calm", "wild")}

        @property
        def terms(self):
            return ("fit", "pull") if self.options["mood"] == "wild" else ("fit",)

    stepper = Stepper()
    made = whatif(Staged, tiny, epochs=1, trainer=stepper, umap=False, debounce=0.0, interval=0.0, autostart=False)
    assert "mmrec-control-fit" in made._form.html
    assert "mmrec-control-pull" not in made._form.html
    stepper.allow(4)
    made.controls["mood"].value = "wild"
    assert made.studio.join(WAIT)
    assert "mmrec-control-pull" in made._form.html
    made.controls["pull-on"].value = True
    assert made.studio.join(WAIT)
    assert stepper.seen[-1] == {"fit": 1.0, "pull": 0.1}
    made._undo()
    made._undo()
    assert made.studio.join(WAIT)
    assert made.controls["mood"].value == "calm"
    assert "mmrec-control-pull" not in made._form.html
    made.close()


def test_step_and_undo(live):
    live.controls["step"].click()
    assert live.studio.join(WAIT)
    assert live.studio.last.epoch == 1
    assert "paused" in live._status.html
    assert "epoch 1/2<" in live._status.html
    assert live.controls["undo"].disabled
    live.controls["l2"].value = 0.5
    assert live.studio.join(WAIT)
    assert not live.controls["undo"].disabled
    live.controls["undo"].click()
    assert live.studio.join(WAIT)
    assert live.controls["l2"].value == live.studio.values["l2"] == 0.01


def test_what_is_changed_in_a_pause_waits_for_run(panel):
    made, stepper = panel
    face = lambda: made._head.values["run"]["label"]  # noqa: E731
    assert face() == "Run"
    made.controls["run"].click()
    stepper.wait_inside(1)
    made.controls["mode"].value = "restart"
    assert face() == "Restart"  # a click would give the run up
    made.controls["stop"].click()
    stepper.allow(1)
    assert made.studio.join(WAIT)
    assert face() == "Run"
    assert "paused" in made._status.html
    made.controls["fit-on"].value = False
    made.controls["fit-on"].value = True
    made.controls["tilt"].value = 0.25
    assert made.studio.join(WAIT)
    assert len(stepper.calls) == 1
    assert "changed: Run trains with it" in made._status.html
    made._undo()
    assert len(stepper.calls) == 1
    made.controls["tilt"].value = 0.75
    stepper.allow(2)
    run(made)
    assert stepper.calls[1]["model"].options["tilt"] == 0.75
    assert "changed" not in made._status.html
    stepper.allow(2)
    made.controls["tilt"].value = 0.5  # a run that came to its end is not paused
    assert made.studio.join(WAIT)
    assert len(stepper.calls) == 3


def test_while_it_trains_the_curves_are_drawn_now_and_then_and_at_its_end(panel, monkeypatch):
    made, stepper = panel
    monkeypatch.setattr("mmrec_teach.views.panel.CURVES_EVERY", 1e9)
    drawn = []
    monkeypatch.setattr(made._curves, "show", lambda run, *_: drawn.append(len(run.history)))
    stepper.allow(2)
    run(made)
    assert drawn == [0, 2]  # where it starts and where it ends
    made._on_tab({"tab": "curves"})
    assert drawn == [0, 2, 2]


def test_a_panel_that_is_shown_gets_ready_and_compiles_only_where_nothing_starts_by_itself(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr("mmrec_teach.views.panel.get_ready", lambda umap: asked.append(umap))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    for settings in ({"autostart": True}, {"autostart": False}, {"autostart": False, "umap": False}):
        made = whatif("bpr", tiny, **settings)
        made._ipython_display_()
        made.close()
    assert asked == [False, True, False]


def test_getting_ready_is_done_once(monkeypatch):
    compiled = []
    monkeypatch.setattr(session, "_ready", {})
    monkeypatch.setattr(session, "warm_up", lambda: compiled.append(True))
    first = session.get_ready(umap=False)
    assert session.get_ready(umap=False) is first
    both = session.get_ready()
    assert both is session.get_ready() is session.get_ready(umap=False)
    both.join(WAIT)
    assert compiled == [True]


def test_a_gauge_s_change_has_the_digits_of_the_gauge():
    changes = {
        ("CKA", 0.004): "=",
        ("CKA", -0.05): "▼0.05",
        ("neighbour overlap", 0.021): "▲2 pt",
        ("recall@20", 0.0712): "▲0.071",
    }
    assert {case: _change(*case) for case in changes} == changes


# -- parts -------------------------------------------------------------------------------------------------------------------
def test_a_plot_sends_the_whole_once_then_what_changed_and_never_more_than_the_page_draws():
    x = np.arange(3, dtype=np.float64)
    page = Page(LivePlot(go.Figure(go.Scatter(x=x, y=x, name="a")), "p"))
    page.plot.change({0: {"y": x + 1}})
    assert page.sent == []  # nobody looks: nothing is sent
    page.say(ready=True)
    [(first, buffers)] = page.sent
    assert np.frombuffer(buffers[first["figure"]["data"][0]["y"]["_array"]], np.float32).tolist() == [1, 2, 3]
    page.plot.change({0: {"y": x + 2}})
    page.plot.change({0: {"y": x + 3}}, {"title.text": "late"})
    assert len(page.sent) == 1  # still drawing
    page.drawn()
    message, buffers = page.sent[-1]
    assert message["change"]["layout"] == {"title.text": "late"}
    assert list(message["change"]["data"]) == ["0"]
    assert len(buffers) == 1  # x stayed, and of two changes of y the last one counts
    assert np.frombuffer(buffers[0], np.float32).tolist() == [3, 4, 5]
    page.drawn()
    page.plot.change({0: {"y": x + 3}}, {"title.text": "late"})
    assert len(page.sent) == 2  # nothing new
    assert page.plot.figure.data[0].y.tolist() == [3, 4, 5]
    page.say(ready=True)  # a second view, or the page came back: everything again
    assert "figure" in page.sent[-1][0]


def test_packing_moves_numbers_out_of_the_text():
    buffers: list[bytes] = []
    packed = pack({"x": np.array([1, 2]), "s": ["a"], "n": np.float64(2.5), "t": np.array(["u"]), "none": None}, buffers)
    assert packed == {"x": {"_array": 0, "dtype": "int32"}, "s": ["a"], "n": 2.5, "t": ["u"], "none": None}
    assert np.frombuffer(buffers[0], np.int32).tolist() == [1, 2]


def test_maps_follow_the_pictures_and_share_choices(panel):
    made, stepper = panel
    stepper.allow(2)
    made.start()
    assert made.studio.join(WAIT)
    shelf = made._shelf
    for view in VIEWS:
        xy = made.studio.last.pictures[view].xy
        assert sum(len(t["x"]) for t in shelf.maps[view].plot.traces) == len(xy)
        assert "nearest neighbours" in shelf.maps[view].head.html
        assert f"{len(xy)} rows of {view}" in alt_text(shelf.maps[view].plot.figure)
    np.testing.assert_allclose(shelf.maps["item/final"].plot.traces[0]["x"], made.studio.last.pictures["item/final"].xy[:, 0])
    made.controls["colour"].value = "cold"
    assert len(shelf.maps["item/final"].plot.traces) == 2
    shelf.on_map("item/final", {"choose": [3, 1, 3]})
    assert shelf.chosen == ("item", [1, 3])
    traces = shelf.maps["item/final"].plot.traces
    assert sorted(row for t in traces for row in t["customdata"][t["selectedpoints"]]) == [1, 3]
    assert shelf.maps["user/final"].plot.traces[0]["selectedpoints"] is None  # users are something else
    assert "2 items chosen" in words(made)
    made.controls["colour"].value = "plain"  # the choice stays when colours change
    assert shelf.maps["item/final"].plot.traces[0]["selectedpoints"] == [1, 3]
    shelf.choose(None)
    assert shelf.maps["item/final"].plot.traces[0]["selectedpoints"] is None


def test_a_legend_entry_chooses_its_rows_and_frees_them_again(panel, tiny):
    made, _ = panel
    made.controls["colour"].value = "cold"
    shelf = made._shelf
    label = f"cold ({tiny.cold_items.sum()})"
    assert f'data-value="{label}"' in shelf._legend.html
    shelf._on_legend({"do": "legend", "value": label})
    assert shelf.chosen == ("item", np.flatnonzero(tiny.cold_items).tolist())
    assert 'aria-pressed="true"' in shelf._legend.html
    shelf._on_legend({"do": "legend", "value": label})
    assert shelf.chosen is None


def test_pointing_shows_the_product(panel, bazaar):
    made, _ = panel
    page = Page(made._shelf.maps["item/final"].plot)
    page.say(ready=True)
    made._shelf.on_map("item/final", {"hover": 2})
    assert made._shelf.card.shown == ("item", 2)
    assert {"ring": 2} in [content for content, _ in page.sent]
    known = Catalogue(bazaar)
    there = int(np.flatnonzero(bazaar.images.any(axis=(1, 2, 3)))[0])
    gone = int(np.flatnonzero(~bazaar.images.any(axis=(1, 2, 3)))[0])
    assert 'src="data:image/png;base64,' in known.photo(there)
    assert "no picture" in known.photo(gone)
    assert known.titles[there] in known.photo(there)
    assert known.find(known.titles[there])[0] == there
    assert known.find("  ") == []
    card = made._shelf.card
    card._heard({"do": "find", "value": "i", "typing": True})
    many = card.catalogue.find("i")
    assert f"6 of {len(many)}" in card._found.html
    assert made._shelf.chosen is None
    card._heard({"do": "find", "value": "i"})
    assert made._shelf.chosen == ("item", sorted(many))
    assert "planted interests" in known.user_facts(0)


def test_two_views_of_the_same_items_are_joined_by_lines(tiny):
    made = whatif("bm3", tiny, epochs=1, umap=False, debounce=0.0, batch_size=64, autostart=False)
    [(name, shown)] = made._shelf.maps.items()
    assert shown.pair == ("item/id", "item/content")
    run(made)
    n = tiny.n_items
    lines, *points = shown.plot.traces
    pictures = made.studio.last.pictures
    assert len(lines["x"]) == 3 * n
    np.testing.assert_allclose(lines["x"][0::3], pictures["item/id"].xy[:, 0])
    np.testing.assert_allclose(lines["y"][1::3], pictures["item/content"].xy[:, 1])
    assert np.isnan(lines["x"][2::3]).all()
    assert sum(len(t["x"]) for t in points) == 2 * n
    shapes = [t["marker"].get("symbol", "circle") for t in points]
    half = len(shapes) // 2
    assert shapes[half:] == [f"{shape}-open" for shape in shapes[:half]]
    made.controls["maps"].value = "item/id, item/content"
    assert list(made._shelf.maps) == ["item/id", "item/content"]
    assert made.studio.join(WAIT)
    made.close()


def test_what_can_be_drawn_begins_with_what_was_asked_for():
    every = ("user/final", "item/id", "item/content", "item/final")
    assert next(iter(arrangements(None, every, ("item/id", "item/content")).values())) == (("item/id", "item/content"), True)
    assert next(iter(arrangements(None, every, None).values())) == (("item/id", "item/content"), False)
    assert next(iter(arrangements(None, ("user/final", "item/final"), None).values())) == (("item/final",), False)
    assert next(iter(arrangements(["user/final"], every, None).values())) == (("user/final",), False)
    assert {views for views, _ in arrangements(None, every, None).values()} >= {(v,) for v in every}


def test_legends_say_in_shapes_what_they_say_in_colours():
    rows = np.arange(4)
    text = legend("category", np.array(["a", "b", "a", "<b>"]), rows, "item", None)
    assert text.count("<button") == 3
    assert "&lt;b&gt;" in text
    shapes = {part.split("</svg>")[0].split("<path")[-1] for part in text.split("<svg")[1:]}
    assert len(shapes) == 3
    assert "3 without anything" in legend("share", np.array([0.5, np.nan, np.nan, np.nan]), rows, "item", None)


def test_curves_show_this_run_earlier_ones_and_pins(live):
    run(live)
    run(live)
    live.controls["pin"].click()
    traces = live._curves.metric_plot.traces
    this = traces[EARLIER + PINNED + 1]
    assert this["x"].tolist() == [1, 2]
    assert traces[0]["x"].tolist() == [1, 2]  # the run before, in grey
    assert traces[EARLIER]["y"].tolist() == this["y"].tolist()  # the pin, in colour
    assert "pin 1" in traces[EARLIER]["name"]
    band = traces[EARLIER + PINNED]
    assert len(band["x"]) == 4
    low, high = band["y"][:2], band["y"][:1:-1]
    assert (low <= this["y"]).all()
    assert (this["y"] <= high).all()
    assert [len(t["x"]) for t in live._curves.loss_plot.traces[:2]] == [2, 2]
    assert "bpr from" in alt_text(live._curves.loss_plot.figure)
    assert live._curves.metric_plot.figure.layout.xaxis.dtick == 1
    epoch = live.studio.last.run.history[-1]
    long = Run(9, "a long one", {}, [dataclasses.replace(epoch, epoch=n) for n in range(1, 41)])
    live._curves.show(live.studio.last.run, [long, live.studio.last.run])
    assert live._curves.metric_plot.figure.layout.xaxis.dtick == 5  # the longest curve decides
    assert live._curves.loss_plot.figure.layout.xaxis.dtick == 1


def test_tug_of_war_in_words():
    report = GradientReport({"bpr": 2.0, "l2": 1.0, "cl": 1.0}, {("bpr", "l2"): -1.0, ("bpr", "cl"): 1.0})
    text = tug_html(report, ("bpr", "l2", "cl", "reg"))
    assert "180°<small>against" in text
    assert "0°<small>together" in text
    assert "nothing shared" in text
    assert "switched off" in text
    assert "50%" in text
    assert "Train an epoch" in tug_html(None, ("bpr",))
    assert "nobody" in tug_html(GradientReport({"bpr": 1.0}, {}), ("bpr",))


def test_who_enters_and_who_leaves_is_said_in_words(bazaar):
    def item(n, rank, before, relevant=None):
        return TopItem(n, str(bazaar.items["title"][n]), 1.0, rank, before, relevant)

    top = TopList(0, (item(0, 1, 1), item(1, 2, 9, "valid"), item(2, 3, 2)), (item(5, 4, 3),), "the last change")
    assert movement(top[0], 3) == ("same", "= same place")
    assert movement(top[1], 3) == ("new", "▲ new")
    assert movement(top[2], 3) == ("down", "↓ down 1")
    assert movement(item(3, 1, 3), 3) == ("up", "↑ up 2")
    assert movement(item(3, 1, None), 3) == ("", "")
    text = top_html(top, Catalogue(bazaar))
    assert text.count("▲ new") == 1
    assert "▼ left (was 3)" in text
    assert 'class="left"' in text
    assert text.count("✓ taken") == 1
    assert "Since the last change: 1 new, 1 left." in text


def test_a_users_list_is_drawn_when_somebody_is_chosen(live, tiny):
    run(live)
    live._on_tab({"tab": "top"})
    live._top._heard({"do": "user", "value": "nobody"})
    assert "There is no user" in live._top._list.html
    live._top._heard({"do": "user", "value": str(tiny.user_ids[3])})
    assert live.studio.join(WAIT)
    assert live.studio.user == 3
    assert live._top._list.html.count("<li") >= 10
    live.controls["pin"].click()
    live._top._heard({"do": "later"})
    live._top._heard({"set": "against", "value": "1"})
    assert live.studio.join(WAIT)
    assert live.studio.user == 4
    assert "Since pin 1" in live._top._list.html  # which was made before this user was chosen
    large = dataclasses.replace(live.studio.pins[0], number=2, memory=None)
    live._top.offer([live.studio.pins[0], large])
    assert '<option value="2" disabled>pin 2 (too large' in live._top._bar.html


def test_pins_are_compared_side_by_side_and_their_settings_open_again(live):
    run(live)
    live.controls["pin"].click()
    assert live._compare.pair() is None
    assert "Pin" in words(live)
    assert "against pin 1 at the same epoch" in live._gauges.widget.html
    assert "▲" not in live._gauges.widget.html  # it is the same run
    assert "▼" not in live._gauges.widget.html
    live.controls["l2"].value = 0.5
    assert live.studio.join(WAIT)
    live.controls["pin"].click()
    a, b = live._compare.pair()
    assert (a.number, b.number) == (1, 2)
    assert set(live._compare.maps) == {"a", "b", "difference"}
    assert "nearest neighbours in item/id are others" in live._compare._note.html
    assert "l2 0.5" in live._compare._table.html
    live._compare._heard({"set": "a", "value": "2"})
    assert live._compare.pair() is None  # nothing to compare a run with itself
    live._compare._heard({"set": "a", "value": "1"})
    live._compare._heard({"do": "open", "value": "1"})
    assert live.studio.join(WAIT)
    assert live.controls["l2"].value == live.studio.values["l2"] == 0.01
    live._compare._heard({"do": "unpin", "value": "1"})
    assert [p.number for p in live.studio.pins] == [2]


def test_a_setting_is_shared_as_text_and_opened(live):
    run(live)
    live._on_tab({"tab": "share"})
    text = live._share.text
    assert text.startswith("vbpr?")
    value = live.studio.last.value
    live.controls["l2"].value = 0.7
    assert live.studio.join(WAIT)
    live._share._heard({"do": "open", "value": text})
    assert live.studio.join(WAIT)
    assert live.controls["l2"].value == 0.01
    assert live.studio.last.value == value
    live._share._heard({"do": "open", "value": "vbpr?l2=much"})
    assert 'role="alert"' in live._share.widget.html
    assert 'value="vbpr?l2=much"' in live._share.widget.html  # to be mended
    live._share._heard({"do": "open", "value": "vbpr?data=tiny&contnt_weight=2"})
    assert "Did you mean content_weight?" in live._share.widget.html
    live._share._heard({"do": "open", "value": "vbpr?l2=0.3"})
    assert (
        "setting: the setting is of other data (found the data set &#x27;tiny&#x27;, expected &#x27;bazaar&#x27;). Open"
        in words(live)
    )
    live._share._heard({"do": "open", "value": "<i>"})
    assert "<i>" not in live._share.widget.html


def test_small_curves_need_two_numbers():
    assert trail([1.0]) == trail([float("nan"), 1.0]) == ""
    assert "polyline" in trail([1.0, 1.0, 2.0])


# -- what stays ----------------------------------------------------------------------------------------------------------------
def test_the_static_twin_shows_the_last_state(panel):
    made, stepper = panel
    stepper.allow(2)
    figure = made.figure()  # nothing has run: one run is made first
    assert type(figure).__name__ == "Figure"
    assert alt_text(figure) == made.studio.sentence()
    assert "recall@20 0.200 after 2 epochs" in figure.layout.title.text
    assert sum(len(t.x) for t in figure.data[1:]) == len(made.studio.rows["item"]) + len(made.studio.rows["user"])


def test_the_panel_displays_with_words_for_pages_without_widgets(panel):
    made, _ = panel
    bundle = made._repr_mimebundle_()
    contents = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in contents
    assert contents["text/plain"].startswith("WhatIf('Toy' on 'tiny'")


def test_a_saved_notebook_keeps_a_still_picture(panel):
    made, stepper = panel
    assert "<img" not in still(made.studio)
    stepper.allow(2)
    made.start()
    assert made.studio.join(WAIT)
    text = still(made.studio, "toy?l2=<1>")
    assert text.count("<img") == 1
    assert "<script" not in text
    assert "toy?l2=&lt;1&gt;" in text
    assert "0.200" in text
