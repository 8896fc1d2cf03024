"""The what-if panel: move a loss weight or an option and watch metric, losses and embedding map answer.

The panel is a thin shell around a :class:`~mmrec_teach.views.studio.Studio`, which does the work in a thread of its own. Each
piece of it has a file of its own, ``panel_*.py``; this one puts them together and carries messages between them. Importing this
module needs the ``lab`` extra (ipywidgets, anywidget).
"""

from __future__ import annotations

import contextlib
import html
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import plotly.graph_objects as go

from mmrec_teach.data import Dataset
from mmrec_teach.errors import InputError, MMRecTeachError, OptionError
from mmrec_teach.models import Recommender
from mmrec_teach.views.panel_card import Catalogue
from mmrec_teach.views.panel_compare import Compare
from mmrec_teach.views.panel_curves import Curves
from mmrec_teach.views.panel_form import Form, Handle, button, choices_of, control_html, section, tick
from mmrec_teach.views.panel_gauges import Gauges
from mmrec_teach.views.panel_parts import Part, Sentence, box, css, w
from mmrec_teach.views.panel_share import Share
from mmrec_teach.views.panel_shelf import Shelf
from mmrec_teach.views.panel_top import TopTen
from mmrec_teach.views.panel_tug import Tug
from mmrec_teach.views.panel_twin import static_figure, still
from mmrec_teach.views.session import get_ready
from mmrec_teach.views.setting import Setting
from mmrec_teach.views.studio import Control, Studio, Update, say

QUIET = 4.0  # seconds between two sentences read out while a run goes on
CURVES_EVERY = 0.45  # seconds between two drawings of the curves while a run goes on: they cost the page as much as a map
TABS = {"curves": "Curves", "tug": "Tug of war", "top": "Top 10", "compare": "Compare", "share": "Share"}


class WhatIf:
    """A what-if panel. Shows itself as the last expression of a cell; see :func:`whatif` for the arguments.

    Attributes:
        studio: the engine; its ``runs`` hold every run's settings and history.
        widget: the ipywidgets box, to be placed elsewhere.
        controls: name -> handle of everything a reader can move or press; setting a ``value`` moves it in the page too.
    """

    def __init__(
        self, model: Any = None, data: Dataset | None = None, *, autostart: bool = True, height: int = 400, **settings: Any
    ):
        self._given = settings.get("views") is not None
        self.studio = Studio(model, data, listener=self._on_update, **settings)
        if self._given and len(self.studio.views) > 3:
            raise OptionError("too many maps for one panel", where="views", found=len(self.studio.views), expected="at most 3")
        self._autostart, self._height = autostart, height
        self._lock = threading.RLock()  # updates come from the worker, messages from the kernel's own threads
        self._prefix = f"mmrec-{uuid.uuid4().hex[:8]}"
        self._spoken = self._curves_at = 0.0
        self._tab = next(iter(TABS))
        self._twin: Any = None
        self._state = ""
        self._build()
        _close_predecessors(self)

    # -- commands --------------------------------------------------------------------------------------------------------
    def start(self) -> WhatIf:
        """Start a run, as the Run button does."""
        self.studio.run()
        return self

    def stop(self) -> None:
        """Pause after the epoch in progress."""
        self.studio.stop()

    def close(self) -> None:
        """End the work and take the panel off the page."""
        self.studio.close()
        self.widget.close()

    def figure(self) -> go.Figure:
        """Return a plain figure of the last state, for pages without a kernel.

        Where nothing has run yet, one run is made first, and this waits for it.

        Raises:
            RuntimeError: the last run failed.
        """
        if self.studio.last is None and not self.studio.busy:
            self.studio.run()
        self.studio.join(picture=False)
        last = self.studio.last
        if last is not None and last.kind == "failed":
            raise RuntimeError(last.error)
        return static_figure(self.studio)

    def __repr__(self) -> str:
        return f"WhatIf({self.studio.name!r} on {self.studio.data.name!r}: {self.studio.sentence()})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = self.widget._repr_mimebundle_(**kwargs)
        contents = bundle[0] if isinstance(bundle, tuple) else bundle
        if contents:
            contents["text/plain"] = repr(self)
        return bundle

    def _ipython_display_(self) -> None:
        """Show the panel, and below it a still picture that is seen only where the panel is not alive."""
        from IPython.display import HTML, display

        # a first run waits for the compiler itself, once it has shown something; where none begins by itself, there is time now
        get_ready(umap=self.studio.umap and not self._autostart)
        bundle = self._repr_mimebundle_()
        contents, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(contents, metadata=metadata, raw=True)
        self._twin = display(HTML(still(self.studio)), display_id=True)

    # -- building --------------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        studio = self.studio
        self.controls: dict[str, Handle] = {}
        self._catalogue = Catalogue(studio.data)
        self._sentence = Sentence(text="Starts when the page is ready." if self._autostart else "Press Run to train.")
        self._sentence.on_msg(self._on_message)
        self._status = Part("", "mmrec-status")
        self._error = Part("", "mmrec-error-box")
        gone = Part('<div class="mmrec-gone">The kernel has ended: this is a still picture. Run the cell again.</div>')
        self._head, self._form = self._make_head(), self._make_form()
        self._shelf = Shelf(
            studio,
            self._catalogue,
            self._prefix,
            self._height,
            self._lock,
            self._given,
            on_user=self._choose_user,
            on_error=self._refuse,
        )
        self.controls |= self._shelf.handles
        self._gauges = Gauges(studio.metric)
        self._curves = Curves(studio.metric, tuple(studio.default_weights))
        self._tug = Tug(tuple(studio.default_weights))
        self._top = TopTen(self._catalogue, self._prefix, self._choose_user, studio.compare_with)
        self._compare = Compare(
            studio.rows,
            self._shelf.texts_of,
            studio.metric,
            min(self._height, 320),
            on_unpin=self._unpin,
            on_open=lambda pin: self._open(pin.setting),
            on_event=self._shelf.on_map,
            colouring=self._shelf.colouring,
            prefix=self._prefix,
        )
        self._shelf.follow(self._compare)
        self._share = Share(self._prefix, self._open)
        tabs = "".join(
            f'<button type="button" role="tab" class="mmrec-tab-{name}" data-tab="{name}" data-key="tab-{name}">{title}</button>'
            for name, title in TABS.items()
        )
        self._tabs = Part(f'<div class="mmrec-tabs" role="tablist" aria-label="more views">{tabs}</div>', on_event=self._on_tab)
        contents = (self._curves, self._tug, self._top, self._compare, self._share)
        panes = [box("column", [part.widget], "mmrec-pane", f"mmrec-pane-{name}") for name, part in zip(TABS, contents)]
        panes[0].add_class("mmrec-shown")
        stage = box("column", [self._shelf.widget, self._gauges.widget, self._tabs, *panes], "mmrec-stage")
        style = w.HTML(f"<style>{css()}</style>", layout=w.Layout(display="none"))
        body = box("row", [self._form, stage], "mmrec-body")
        self.widget = box("column", [style, self._head, self._status, gone, self._error, body, self._sentence], "mmrec-whatif")
        self._show_status(None)
        self._show_buttons(None)

    def _handle(self, name: str, value: Any, act: Callable[[Any], None] | None = None, choices: Sequence[Any] = ()) -> Handle:
        handle = Handle(value, choices=choices)
        if act is not None:
            handle.observe(lambda change: self._act(act, change["new"]), names="value")
        self.controls[name] = handle
        return handle

    def _act(self, act: Callable[[Any], None], value: Any) -> None:
        act(value)
        with self._lock:  # in a pause a change waits, and no update says so
            self._show_status(self.studio.last)
            self._show_buttons(self.studio.last)

    def _make_head(self) -> Form:
        studio = self.studio
        buttons = {
            "run": ("Run", "Train with these settings", "mmrec-main", studio.run),
            "stop": ("Pause", "Pause after this epoch", "", studio.stop),
            "step": ("Step", "Train one epoch, then pause", "", studio.step),
            "undo": ("Undo", "Take the last change back", "", self._undo),
            "pin": ("Pin", "Keep this run as it is now, to compare", "", self._pin),
        }
        handles = {}
        for name, (_, _, _, act) in buttons.items():
            handles[name] = self.controls[name] = Handle(click=act)
        row = "".join(button(name, label, tip, kind) for name, (label, tip, kind, _) in buttons.items())
        title = f"{html.escape(studio.name)} on {html.escape(studio.data.name)}"
        return Form(
            f'<div class="mmrec-headline"><div class="mmrec-title" role="heading" aria-level="3">What if? <span>{title}</span></div>'
            f'<div class="mmrec-buttons" role="group" aria-label="training">{row}</div></div>',
            "mmrec-header",
            handles=handles,
            on_error=self._refuse,
        )

    def _make_form(self) -> Form:
        studio, prefix = self.studio, self._prefix
        rows: list[tuple[Control, str]] = []
        before = set(self.controls)
        for control in studio.controls:
            value = studio.values.get(control.name, control.default)
            rows.append((control, control_html(control, value, prefix)))
            choices = choices_of(control, value) if control.style == "choice" else ()
            handle = self._handle(control.name, value, self._setter(control), choices)
            if control.kind == "weight":
                on = self._handle(f"{control.name}-on", control.name not in studio.off, self._switcher(control.name, handle))
                handle.disabled = not on.value
        self._handle("seed", int(studio.values["seed"]), lambda value: studio.set("seed", int(value)))
        seed = (
            f'<div class="mmrec-row mmrec-choice"><label for="{prefix}-seed" title="Of initial values, shuffling and negatives">seed'
            f'</label><input type="number" min="0" max="999999" step="1" id="{prefix}-seed" class="mmrec-control-seed" '
            'data-name="seed" data-key="seed"></div>'
        )
        self._handle("mode", studio.mode, self._set_mode, ("restart", "continue"))
        group = f"{prefix}-mode"
        modes = (
            '<fieldset class="mmrec-control-mode"><legend>moving a weight</legend><div class="mmrec-modes">'
            f'<label class="cold"><input type="radio" name="{group}" data-name="mode" data-key="mode-cold" value="restart"><b>restarts</b>'
            "<small>cold: comparable</small></label>"
            f'<label class="warm"><input type="radio" name="{group}" data-name="mode" data-key="mode-warm" value="continue">'
            "<b>continues</b><small>warm: at once</small></label></div>"
            '<div class="mmrec-quiet">Anything but a weight always restarts.</div></fieldset>'
        )
        data = self._data_section()
        handles = {name: handle for name, handle in self.controls.items() if name not in before}

        def written() -> str:
            inside = {"weight": "", "option": "", "training": ""}
            for control, text in rows:
                if control.kind != "weight" or control.name in studio.terms:
                    inside[control.kind] += text
            inside["training"] += seed
            heads = {"weight": "Loss weights", "option": "Model", "training": "Training"}
            return modes + "".join(section(k, heads[k], text) for k, text in inside.items() if text) + data

        self._written, self._terms = written, studio.terms
        return Form(written(), "mmrec-form", handles=handles, on_error=self._refuse)

    def _show_form(self) -> None:
        """Write the form anew where the model has other loss terms than before: another strategy, say."""
        if self._terms != self.studio.terms:
            self._terms = self.studio.terms
            self._form.html = self._written()

    def _data_section(self) -> str:
        """Switches on the data: drop a modality, shuffle the features, hide features, take interactions away."""
        parts = []
        for control in self.studio.switch_controls:
            name, value = f"data-{control.name}", getattr(self.studio.switches, control.name)
            if control.style == "several":  # a tick each: what is ticked stays
                for choice in control.choices:
                    self._handle(f"data-{choice}", choice not in value, lambda _, control=control: self._set_several(control))
                    parts.append(tick(f"data-{choice}", f"use {choice}", f"Untick to leave {choice} out.", self._prefix))
                continue
            self._handle(
                name, value, self._share_setter(control), choices_of(control, value) if control.style == "choice" else ()
            )
            parts.append(control_html(replace(control, name=name), value, self._prefix))
        return section("data", "Data", "".join(parts), opened=bool(self.studio.switches))

    def _share_setter(self, control: Control) -> Callable[[Any], None]:
        def act(value: Any) -> None:
            if control.style == "float" and not control.low <= value <= control.high:  # at 1 nothing is left to learn from
                raise InputError(
                    "share out of range",
                    where=control.label or control.name,
                    found=f"{value:g}",
                    expected=f"a number from {control.low:g} to {control.high:g}",
                )
            self.studio.set_switch(control.name, value)

        return act

    def _set_several(self, control: Control) -> None:
        self.studio.set_switch(control.name, tuple(c for c in control.choices if not self.controls[f"data-{c}"].value))

    # -- from the reader -----------------------------------------------------------------------------------------------------
    def _setter(self, control: Control) -> Callable[[Any], None]:
        def act(value: Any) -> None:
            if control.style == "log" and not (isinstance(value, (int, float)) and 0 < value < float("inf")):
                raise InputError(
                    "not a positive number",
                    where=control.label or control.name,
                    found=repr(value),
                    expected="such as 0.01; untick a loss term to leave it out" if control.kind == "weight" else "such as 0.01",
                )
            self.studio.set(control.name, value)

        return act

    def _switcher(self, term: str, handle: Handle) -> Callable[[Any], None]:
        def act(on: Any) -> None:
            handle.disabled = not on
            self.studio.switch(term, bool(on))

        return act

    def _set_mode(self, mode: str) -> None:
        self.studio.mode = mode
        self._show_status(self.studio.last)

    def _undo(self) -> None:
        self.studio.undo()
        self._pull()

    def _pull(self) -> None:
        """Move the controls to where the studio stands: after an undo, or when a setting was opened."""
        studio = self.studio
        for term in studio.default_weights:
            if f"{term}-on" in self.controls:
                self.controls[f"{term}-on"].value = term not in studio.off
        for name, value in studio.values.items():
            if name in self.controls:
                self.controls[name].value = value
        for control in studio.switch_controls:
            value = getattr(studio.switches, control.name)
            if control.style == "several":
                for choice in control.choices:
                    self.controls[f"data-{choice}"].value = choice not in value
            else:
                self.controls[f"data-{control.name}"].value = value
        self.controls["mode"].value = studio.mode

    def _pin(self) -> None:
        self.studio.pin()
        self._show_pins()

    def _unpin(self, number: int) -> None:
        self.studio.unpin(number)
        self._show_pins()

    def _show_pins(self) -> None:
        with self._lock:
            self._compare.show(self.studio.pins)
            self._top.offer(self.studio.pins)
            last = self.studio.last
            if last is not None and last.run is not None:
                self._show_curves(last)
                self._show_gauges(last)

    def _open(self, setting: Any) -> None:
        self.studio.apply_setting(setting)
        self._pull()

    def _choose_user(self, user: int) -> None:
        self.studio.choose_user(user)
        if self._tab != "top":
            self._tabs.send({"turn": "top"})

    def _on_tab(self, content: Mapping[str, Any]) -> None:
        tab = next(iter(TABS)) if content.get("ready") else content.get("tab")  # a page that comes anew shows the first
        if tab in TABS:
            self._tab, self._curves_at = tab, 0.0
            with self._lock:
                if self.studio.last is not None:
                    self._show_panes(self.studio.last)

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        """The page shows the panel: a run without anyone looking would only heat the machine."""
        if self._autostart and isinstance(content, Mapping) and content.get("ready"):
            self._autostart = False
            self.studio.run()

    def _refuse(self, error: Exception) -> None:
        """A value was refused: say why, where the reader looks."""
        said = str(error) if isinstance(error, MMRecTeachError) else f"{type(error).__name__}: {error}"
        self._error.html = f'<div class="mmrec-error" role="alert">{html.escape(said)}</div>'

    # -- from the worker ---------------------------------------------------------------------------------------------------
    def _on_update(self, update: Update) -> None:
        with self._lock:
            if update.fresh:  # the maps first: they are what is waited for
                self._shelf.show(update)
            self._note_interval(update)
            self._show_status(update)
            self._show_buttons(update)
            self._show_error(update)
            self._show_form()
            if update.run is not None and (update.fresh or update.kind != "epoch"):
                self._show_gauges(update)
                self._show_panes(update)
            now = time.monotonic()
            if update.kind not in ("epoch", "picture") or now - self._spoken > QUIET:
                self._spoken = now
                self._sentence.text = self.studio.sentence(update)
        if update.kind in ("finished", "stopped"):
            self._leave_still()

    def _note_interval(self, update: Update) -> None:
        judged = self.studio.evaluation
        if update.kind == "epoch" and judged is not None and self.studio.metric in judged.per_user:
            self._curves.note(update.run, update.epoch, judged.per_user[self.studio.metric])

    def _show_status(self, update: Update | None) -> None:
        known = {"started": "training", "epoch": "training", "finished": "done", "stopped": "stopped", "failed": "failed"}
        self._state = self._state if update is None else known.get(update.kind, self._state or "done")
        if update is not None and update.warm:
            start = ("warm", "warm: weights were moved while it trained", "Its curve is not that of one setting")
        elif self.studio.mode == "continue":
            start = ("warm", "warm: a moved weight continues", "A moved weight acts on the model as it is")
        else:
            start = ("cold", "cold: a moved weight restarts", "A moved weight trains a new model")
        share, parts = 0.0, [f"update {update.number if update else 0}"]
        if update is not None:
            stepped = update.kind == "stopped" and update.epoch >= update.until  # the step's end is not the run's
            until = max(update.until, update.epoch, self.studio.epochs if stepped else 0)
            share = 100 * update.epoch / until if until else 0.0
            if update.value is not None:
                parts.append(f"{html.escape(self.studio.metric)} {update.value:.3f}")
            parts.append(f"epoch {update.epoch}/{until}")
        words = {"": "not started", "stopped": "paused"}.get(self._state, self._state)
        if self._state == "training" and update is not None and update.until and update.epoch >= update.until:
            words = "drawing"  # the last picture is made with care
        if self.studio.waiting:
            parts.append("changed: Run trains with it")
        kind, text, tip = start
        said = f'<span>{" · ".join(parts)}</span><span class="mmrec-start {kind}" title="{tip}">{text}</span>'
        self._status.html = (
            f'<div class="mmrec-state"><span class="mmrec-pill {self._state}">{words}</span>{said}</div>'
            f'<div class="mmrec-progress" aria-hidden="true"><i style="width:{share:.0f}%"></i></div>'
        )

    def _show_buttons(self, update: Update | None) -> None:
        active = self._state == "training"
        face = ("Run", "Train with these settings", not active)
        if active and self.studio.mode == "restart":
            face = ("Restart", "Give this run up and train from the first epoch", False)
        self.controls["run"].face = face
        for name, off in {
            "stop": not active,
            "step": active,
            "undo": not self.studio.can_undo,
            "pin": update is None or update.run is None or not update.epoch,
        }.items():
            if self.controls[name].disabled != off:
                self.controls[name].disabled = off

    def _show_error(self, update: Update) -> None:
        text = ""
        if update.kind == "failed":
            text = (
                f'<div class="mmrec-error" role="alert">{html.escape(update.error)}'
                f"<details><summary>Traceback</summary><pre>{html.escape(update.details)}</pre></details></div>"
            )
        if self._error.html != text and (text or update.kind in ("started", "epoch")):
            self._error.html = text

    def _show_curves(self, update: Update) -> None:
        self._curves_at = time.monotonic()
        self._curves.show(update.run, self.studio.runs, self.studio.pins)

    def _show_gauges(self, update: Update) -> None:
        self._gauges.show(update, self.studio.pins[-1] if self.studio.pins else None)

    def _show_top(self, update: Update) -> None:
        self._top.show(update.top)

    def _show_panes(self, update: Update) -> None:
        """Bring the open tab up to date; the others catch up when they are opened."""
        if self._tab == "curves" and update.run is not None:
            on_the_way = update.kind in ("epoch", "picture") and self._state == "training"
            if not on_the_way or time.monotonic() - self._curves_at >= CURVES_EVERY:
                self._show_curves(update)
        elif self._tab == "tug":
            self._tug.show(update.tug, self.studio.terms)
        elif self._tab == "top":
            self._show_top(update)
        elif self._tab == "share":
            self._share.show(self._setting_text())

    def _setting_text(self) -> str:
        try:
            return self.studio.setting().to_text(self.studio.factory)
        except MMRecTeachError as error:
            return str(error)

    def _leave_still(self) -> None:
        """Put the last state where it stays when the kernel is gone. Best effort: a front end may have left."""
        if self._twin is None:
            return
        from IPython.display import HTML

        with contextlib.suppress(Exception):
            self._twin.update(HTML(still(self.studio, self._setting_text())))


# -- one live panel a cell ---------------------------------------------------------------------------------------------------
_panels: dict[str, tuple[str, list[Any]]] = {}


def _close_predecessors(panel: WhatIf) -> None:
    """Stop panels that an earlier run of the same cell left behind: their outputs are gone, their work would go on."""
    try:
        from IPython import get_ipython

        parent = get_ipython().kernel.get_parent("shell")
        cell, message = str(parent["metadata"]["cellId"]), str(parent["header"]["msg_id"])
    except Exception:  # not in a kernel, or a front end that does not name cells
        return
    before, panels = _panels.get(cell, ("", []))
    if before != message:
        for old in panels:
            old.studio.close()
        panels = []
    _panels[cell] = (message, [*panels, panel])


def whatif(
    model: str | type[Recommender] | Callable[..., Recommender] | None = None,
    data: Dataset | None = None,
    *,
    controls: Sequence[str | Control] | None = None,
    views: Sequence[str] | None = None,
    epochs: int = 40,
    options: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    mode: Literal["restart", "continue"] = "restart",
    autostart: bool = True,
    setting: str | Setting | None = None,
    **settings: Any,
) -> WhatIf:
    """Return a live panel around any model: loss weights and options on sliders, metric, losses and maps answering.

    Args:
        model: a registered name, a class, or a factory ``(data, *, options, seed)`` with the three methods; None is the
            setting's, or LightGCN.
        data: a data set; None is the setting's, or the bazaar.
        controls: what may be changed: loss terms, constructor options, "lr"; None for all. Seed is always there.
        views: one to three views to draw as maps; None for ID and content of the items where the model has both (joined in one
            map if they share a space), else ``item/final``. The reader can change to others.
        epochs: how long a run takes before it pauses.
        options: constructor options that stay as given.
        weights: loss weights to begin with.
        mode: whether a changed weight restarts training or acts on the model as it is.
        autostart: start as soon as a page shows the panel.
        setting: a run to begin with, as the panel's "Share" tells it.
        settings: ``lr``, ``batch_size``, ``metric``, ``seed``, ``points``, ``umap`` and so on, see
            :class:`~mmrec_teach.views.studio.Studio`; ``height`` of the map in pixels.

    Raises:
        OptionError: an unknown model, control, view or setting.
    """
    return WhatIf(
        "lightgcn" if model is None and setting is None else model,
        data,
        controls=controls,
        views=views,
        epochs=epochs,
        options=options,
        weights=weights,
        mode=mode,
        autostart=autostart,
        setting=setting,
        **settings,
    )


__all__ = ["WhatIf", "say", "static_figure", "whatif"]
