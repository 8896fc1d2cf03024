"""The what-if panel: move a loss weight or an option and watch metric, losses and embedding map answer.

The panel is a thin shell of ipywidgets around a :class:`~mmrec_teach.views.studio.Studio`, which does the work in a thread of
its own. Importing this module needs the ``lab`` extra (ipywidgets, anywidget).
"""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError
from mmrec_teach.models import Recommender
from mmrec_teach.views import figures, palette
from mmrec_teach.views.studio import Control, Studio, Update, colourings, hover_texts, say, side

try:
    import anywidget
    import ipywidgets as w
    import traitlets
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("The what-if panel needs ipywidgets and anywidget: pip install 'mmrec_teach[lab]'.") from error

EARLIER = 4  # earlier runs drawn in grey
QUIET = 4.0  # seconds between two sentences read out while a run goes on

_CSS = """
.mmrec-whatif { border: 1px solid #d5dbe1; border-radius: 8px; padding: 12px 14px 10px; background: #fff; color: #1f2933;
  overflow: hidden;
  font-family: Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif; }
.mmrec-whatif .widget-label, .mmrec-whatif .widget-html-content, .mmrec-whatif .widget-readout, .mmrec-whatif label
  { color: #1f2933; font-size: 13px; }
.mmrec-whatif .mmrec-title { font-size: 17px; font-weight: 650; line-height: 1.35; }
.mmrec-whatif .mmrec-head { font-size: 12px; font-weight: 650; letter-spacing: .04em; text-transform: uppercase; color: #52606d;
  margin: 6px 0 2px; line-height: 1.3; }
.mmrec-whatif .mmrec-state { font-variant-numeric: tabular-nums; font-size: 13px; line-height: 1.4; color: #1f2933;
  text-align: right; }
.mmrec-whatif .mmrec-gauges { display: flex; flex-wrap: wrap; gap: 8px; margin: 2px 0 4px; }
.mmrec-whatif .mmrec-gauge { background: #f3f6f9; border-radius: 6px; padding: 5px 11px; line-height: 1.3; }
.mmrec-whatif .mmrec-gauge b { display: block; font-size: 16px; font-variant-numeric: tabular-nums; }
.mmrec-whatif .mmrec-gauge span { font-size: 12px; color: #43505c; }
.mmrec-whatif .mmrec-error { background: #fdf0e9; border-left: 4px solid #D55E00; padding: 8px 12px; line-height: 1.45;
  white-space: pre-wrap; }
.mmrec-whatif .mmrec-sentence { font-size: 13.5px; line-height: 1.5; padding: 4px 0 0; min-height: 42px; }
.mmrec-whatif .widget-readout { min-width: 50px; max-width: 54px; font-variant-numeric: tabular-nums; margin-left: 6px;
  padding: 0; }
.mmrec-whatif .widget-inline-hbox .widget-label { text-align: left; }
.mmrec-whatif .mmrec-toggle input { margin: 0; vertical-align: middle; }
.mmrec-whatif .mmrec-toggle label, .mmrec-whatif .mmrec-toggle { display: flex; align-items: center; }
.mmrec-whatif .mmrec-map, .mmrec-whatif .mmrec-curves { width: 100%; min-width: 0; }
.mmrec-whatif :focus-visible { outline: 2px solid #0072B2; outline-offset: 2px; }
"""


class Sentence(anywidget.AnyWidget):
    """A line of text that screen readers announce when it changes; tells Python once it stands in a page."""

    _esm = """
    export default {
      render({ model, el }) {
        el.classList.add("mmrec-sentence");
        el.setAttribute("role", "status");
        el.setAttribute("aria-live", "polite");
        const set = () => { el.textContent = model.get("text"); };
        model.on("change:text", set);
        set();
        // Plotly's figures learn their width from the window only: tell them when they appear and when the panel's width changes.
        const fit = () => window.dispatchEvent(new Event("resize"));
        let width = 0;
        const observer = new ResizeObserver((entries) => {
          const now = entries[0].contentRect.width;
          if (now !== width) { width = now; fit(); }
        });
        observer.observe(el);
        const drawn = () => requestAnimationFrame(fit);
        document.addEventListener("plotlywidget-after-render", drawn);
        model.send({ ready: true });
        return () => { observer.disconnect(); document.removeEventListener("plotlywidget-after-render", drawn); };
      }
    };
    """
    text = traitlets.Unicode("").tag(sync=True)


# Figures change from workers, from the kernel's own thread and from subshells (messages of the page): one at a time.
_drawing = threading.RLock()


class LiveFigure(go.FigureWidget):
    """A plotly figure that a worker may change: it takes turns with messages of the page, and knows when it stands there.

    Plotly's own widget opens its channel to the page before it has any traces and sends them afterwards; a page that is slow
    to load draws the empty figure and stays with it. This one opens the channel when it is complete. And changes sent before
    the page has drawn the figure are lost, so nothing should be sent before ``ready``.

    Args:
        figure: the figure to begin with, complete.
        config: plotly's configuration of the page's side.
        on_ready: called once, when the page has drawn it.
    """

    def __init__(self, figure: go.Figure, config: Mapping[str, Any], on_ready: Callable[[], None]):
        self._complete = self._ready = False
        self._on_ready = on_ready
        super().__init__(figure)
        self._config = self._config | dict(config)
        self._complete = True
        self.open()

    def open(self) -> None:
        """Open the channel to the page; ipywidgets asks for it too early."""
        if self._complete:
            super().open()

    @property
    def ready(self) -> bool:
        """Whether a page has drawn the figure."""
        return self._ready

    def _handle_msg(self, msg: Any) -> None:
        with _drawing:
            super()._handle_msg(msg)
            state = msg["content"]["data"].get("state") or {}
            if not self._ready and "_js2py_traceDeltas" in state:  # sent by the page once it has drawn the figure
                self._ready = True
                self._on_ready()


class WhatIf:
    """A what-if panel. Shows itself as the last expression of a cell; see :func:`whatif` for the arguments.

    Attributes:
        studio: the engine; its ``runs`` hold every run's settings and history.
        widget: the ipywidgets box, to be placed elsewhere.
    """

    def __init__(self, model: Any, data: Dataset | None = None, *, autostart: bool = True, height: int = 400, **settings: Any):
        if data is None:
            from mmrec_teach.data import load

            data = load("bazaar")
        self.studio = Studio(model, data, listener=self._on_update, **settings)
        if len(self.studio.views) > 3:
            raise OptionError("too many maps for one panel", where="views", found=len(self.studio.views), expected="at most 3")
        self._autostart, self._height = autostart, height
        self._spoken = 0.0
        self._ranges: dict[str, tuple[list[float], list[float]]] = {}
        self._shown_run: int | None = None
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

    # -- building --------------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        studio = self.studio
        self._status = _html("", "mmrec-status")
        self._gauges = _html("", "mmrec-gauge-row")
        self._error = _html("", "mmrec-error-box")
        self._sentence = Sentence(text="Starts when the page is ready." if self._autostart else "Press Run to train.")
        self._sentence.on_msg(self._on_message)

        self.controls: dict[str, w.Widget] = {}
        groups: dict[str, list[w.Widget]] = {"weight": [], "option": [], "training": []}
        for control in studio.controls:
            groups[control.kind].append(self._control(control))
        seed = w.BoundedIntText(
            value=int(studio.values["seed"]),
            min=0,
            max=999_999,
            description="seed",
            tooltip="Seed of initial values, shuffling and negatives.",
            style=_style(),
            layout=w.Layout(width="100%"),
        )
        seed.add_class("mmrec-control-seed")
        seed.observe(lambda change: studio.set("seed", int(change["new"])), names="value")
        self.controls["seed"] = seed
        groups["training"].append(seed)

        mode = w.ToggleButtons(
            options=[("restart", "restart"), ("continue", "continue")],
            value=studio.mode,
            style={"button_width": "calc(50% - 4px)"},
            tooltips=[
                "A changed control starts training anew: runs stay comparable",
                "A changed weight acts on the model as it is",
            ],
            layout=w.Layout(width="100%"),
        )
        mode.add_class("mmrec-control-mode")
        mode.observe(lambda change: setattr(studio, "mode", change["new"]), names="value")
        self.controls["mode"] = mode
        self._run_button = w.Button(description="Run", icon="play", button_style="primary", tooltip="Train with these settings")
        self._stop_button = w.Button(description="Stop", icon="stop", tooltip="Pause after this epoch", disabled=True)
        for button, name, act in ((self._run_button, "run", studio.run), (self._stop_button, "stop", studio.stop)):
            button.layout.width = "calc(50% - 4px)"
            button.add_class(f"mmrec-control-{name}")
            button.on_click(lambda _, act=act: act())
            self.controls[name] = button

        self._colourings = {view: colourings(studio.data, side(view)) for view in studio.views}
        labels = list(dict.fromkeys(label for c in self._colourings.values() for label in c))
        self._colour = w.Dropdown(
            options=labels,
            value=labels[0],
            description="colour by",
            style=_style(),
            layout=w.Layout(width="100%"),
            tooltip="What colour and shape stand for. Users: by main interest, by number of interactions.",
        )
        self._colour.add_class("mmrec-control-colour")
        self._colour.observe(lambda _: self._recolour(), names="value")
        self.controls["colour"] = self._colour

        heads = {"weight": "loss weights", "option": "model", "training": "training"}
        column: list[w.Widget] = []
        for kind, members in groups.items():
            if members:
                column += [w.HTML(f'<div class="mmrec-head">{heads[kind]}</div>'), *members]
        column += [
            w.HTML('<div class="mmrec-head">a changed control will</div>'),
            mode,
            w.HBox([self._run_button, self._stop_button]),
            w.HTML('<div class="mmrec-head">map</div>'),
            self._colour,
        ]
        left = w.VBox(column, layout=w.Layout(flex="0 0 316px", width="316px", padding="0 16px 0 0"))

        self._hover = {which: hover_texts(studio.data, which) for which in {side(v) for v in studio.views}}
        self._maps = {view: self._empty_map(view) for view in studio.views}
        self._curves = self._empty_curves()
        # a figure's own ``layout`` is plotly's, so the box around it carries its place in the row
        boxes = [
            w.VBox([figure], layout=w.Layout(flex="1 1 300px", min_width="0", overflow="hidden"))
            for figure in self._maps.values()
        ]
        maps = w.HBox(boxes, layout=w.Layout(width="100%"))
        right = w.VBox([maps, self._curves], layout=w.Layout(flex="1 1 420px", min_width="0", overflow="hidden"))
        header = w.HBox(
            [
                w.HTML(
                    f'<div class="mmrec-title">What if? <span style="font-weight:400">{html.escape(studio.name)} on '
                    f"{html.escape(studio.data.name)}</span></div>",
                    layout=w.Layout(flex="1 1 auto"),
                ),
                self._status,
            ],
            layout=w.Layout(justify_content="space-between", align_items="center"),
        )
        self.widget = w.VBox(
            [
                w.HTML(f"<style>{_CSS}</style>", layout=w.Layout(display="none")),
                header,
                self._error,
                self._gauges,
                w.HBox([left, right], layout=w.Layout(width="100%", align_items="flex-start")),
                self._sentence,
            ]
        )
        self.widget.add_class("mmrec-whatif")
        self._show_status(None)

    def _control(self, control: Control) -> w.Widget:
        studio, value = self.studio, self.studio.values.get(control.name, control.default)
        common = {
            "description": control.label or control.name,
            "tooltip": control.help,
            "style": _style(),
            "layout": w.Layout(width="100%", min_width="0"),
        }
        if control.style == "log":
            low, high = math.log10(control.low), math.log10(control.high)
            low, high = min(low, math.floor(math.log10(value))), max(high, math.ceil(math.log10(value)))
            slider: w.Widget = w.FloatLogSlider(
                value=value, base=10, min=low, max=high, step=control.step, readout_format=".1e", **common
            )
        elif control.style == "float":
            slider = w.FloatSlider(
                value=value,
                min=min(control.low, value),
                max=max(control.high, value),
                step=control.step,
                readout_format=".2f",
                **common,
            )
        elif control.style == "int":
            slider = w.IntSlider(
                value=value,
                min=int(min(control.low, value)),
                max=int(max(control.high, value)),
                step=int(control.step),
                **common,
            )
        elif control.style == "choice":
            slider = w.Dropdown(
                options=list(dict.fromkeys([*control.choices, value] if value not in control.choices else control.choices)),
                value=value,
                **common,
            )
        else:
            slider = w.Checkbox(value=bool(value), indent=False, **common)
        slider.add_class(f"mmrec-control-{control.name}")
        slider.observe(lambda change: studio.set(control.name, change["new"]), names="value")
        self.controls[control.name] = slider
        if control.kind != "weight":
            return slider
        toggle = w.Checkbox(
            value=control.name not in studio.off,
            indent=False,
            description="",
            tooltip=f"Use the loss term {control.name}",
            layout=w.Layout(width="22px", min_width="22px", flex="0 0 auto"),
        )
        toggle.add_class("mmrec-toggle")
        toggle.add_class(f"mmrec-control-{control.name}-on")
        slider.style.description_width = "66px"  # the box stands in front
        slider.disabled = not toggle.value

        def switched(change: Mapping[str, Any]) -> None:
            slider.disabled = not change["new"]
            studio.switch(control.name, bool(change["new"]))

        toggle.observe(switched, names="value")
        self.controls[f"{control.name}-on"] = toggle
        return w.HBox([toggle, slider], layout=w.Layout(width="100%", align_items="center"))

    # -- figures -----------------------------------------------------------------------------------------------------------
    def _empty_map(self, view: str) -> LiveFigure:
        many = len(self.studio.views) > 1
        figure = go.Figure(self._map_traces(view, np.zeros((len(self.studio.rows[side(view)]), 2), np.float32)))
        figure.update_layout(
            template=palette.template(),
            height=self._height + 80 * many,
            autosize=True,
            title={"text": view, "font": {"size": 15}},
            margin={"l": 34, "r": 10, "t": 40, "b": 54},
            legend={"itemsizing": "constant", "font": {"size": 11.5}}
            | ({"orientation": "h", "y": -0.2, "x": 0} if many else {}),
            meta={"alt": ""},
            uirevision="keep",
        )
        if many:
            figure.update_layout(showlegend=True)
        hidden = {"showticklabels": False, "ticks": "", "showgrid": False}
        figure.update_xaxes(title={"text": "first axis (no unit)", "font": {"size": 12}}, range=[-1, 1], **hidden)
        figure.update_yaxes(
            title={"text": "second axis (no unit)", "font": {"size": 12}}, range=[-1, 1], scaleanchor="x", **hidden
        )
        config = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
        widget = LiveFigure(figure, config, self._catch_up)
        widget.add_class("mmrec-map")
        return widget

    def _colouring(self, view: str) -> tuple[str, Any]:
        options = self._colourings[view]
        kind, values = options.get(self._colour.value, next(iter(options.values())))
        return kind, None if values is None else np.asarray(values)[self.studio.rows[side(view)]]

    def _map_traces(self, view: str, xy: np.ndarray) -> list[Any]:
        kind, values = self._colouring(view)
        rows = self.studio.rows[side(view)]
        return figures.map_traces(xy, values, kind, [self._hover[side(view)][r] for r in rows])

    def _recolour(self) -> None:
        with _drawing:
            for view, figure in self._maps.items():
                if not figure.ready:
                    continue  # it catches up when the page has drawn it
                last = self.studio.last
                picture = last.pictures.get(view) if last else None
                xy = picture.xy if picture else np.zeros((len(self.studio.rows[side(view)]), 2), np.float32)
                with figure.batch_update():
                    figure.data = []
                figure.add_traces(self._map_traces(view, xy))

    def _empty_curves(self) -> LiveFigure:
        studio = self.studio
        figure = make_subplots(1, 2, horizontal_spacing=0.13)
        for n in range(EARLIER):
            figure.add_scatter(
                x=[],
                y=[],
                mode="lines",
                line={"color": palette.FAINT, "width": 2, "dash": palette.dash(n)},
                name="earlier runs",
                showlegend=n == 0,
                legendgroup="earlier",
                row=1,
                col=1,
            )
        figure.add_scatter(
            x=[],
            y=[],
            mode="lines+markers",
            line={"color": palette.INK, "width": 3},
            marker={"size": 5},
            name="this run",
            row=1,
            col=1,
        )
        for n, term in enumerate(studio.default_weights):
            colour, symbol = palette.style(n)
            figure.add_scatter(
                x=[],
                y=[],
                mode="lines+markers",
                name=f"loss {term}",
                line={"color": colour, "width": 2.5, "dash": palette.dash(n)},
                marker={"symbol": symbol, "size": 6},
                row=1,
                col=2,
            )
        figure.update_layout(
            template=palette.template(),
            height=290,
            autosize=True,
            margin={"l": 56, "r": 12, "t": 14, "b": 40},
            legend={"orientation": "h", "y": -0.24, "x": 0, "font": {"size": 12}},
            meta={"alt": ""},
        )
        ticks = [m * 10.0**e for e in range(-6, 5) for m in (1, 3)]
        figure.update_xaxes(title={"text": "epoch", "font": {"size": 13}}, rangemode="tozero")
        figure.update_yaxes(
            title={"text": f"{studio.metric}, validation", "font": {"size": 13}}, rangemode="tozero", row=1, col=1
        )
        figure.update_yaxes(
            title={"text": "loss term (log scale)", "font": {"size": 13}},
            type="log",
            row=1,
            col=2,
            tickvals=ticks,
            ticktext=[f"{t:g}" for t in ticks],
        )
        widget = LiveFigure(figure, {"displaylogo": False, "responsive": True, "displayModeBar": False}, self._catch_up)
        widget.add_class("mmrec-curves")
        return widget

    # -- from the worker ---------------------------------------------------------------------------------------------------
    def _on_update(self, update: Update) -> None:
        with _drawing:
            self._show_status(update)
            self._show_error(update)
            if update.fresh:
                self._show_maps(update)
            if update.run is not None and (update.fresh or update.kind != "epoch"):
                self._show_curves(update)
                self._show_gauges(update)
            now = time.monotonic()
            if update.kind != "epoch" or now - self._spoken > QUIET:
                self._spoken = now
                self._sentence.text = self.studio.sentence(update)

    def _show_status(self, update: Update | None) -> None:
        if update is None:
            text = "update 0 · not started"
        else:
            value = "" if update.value is None else f" · {self.studio.metric} {update.value:.3f}"
            state = {"started": "training", "epoch": "training", "finished": "done", "stopped": "stopped", "failed": "failed"}[
                update.kind
            ]
            text = f"update {update.number}{value} · epoch {update.epoch}/{max(update.until, update.epoch)} · {state}"
            active = update.kind in ("started", "epoch")
            if self._stop_button.disabled == active:
                self._stop_button.disabled = not active
        self._status.value = f'<div class="mmrec-state">{text}</div>'

    def _show_error(self, update: Update) -> None:
        text = ""
        if update.kind == "failed":
            text = (
                f'<div class="mmrec-error" role="alert">{html.escape(update.error)}'
                f"<details><summary>Traceback</summary><pre>{html.escape(update.details)}</pre></details></div>"
            )
        if self._error.value != text:
            self._error.value = text

    def _show_maps(self, update: Update) -> None:
        for view, picture in update.pictures.items():
            figure = self._maps[view]
            if not figure.ready:
                continue
            kind, values = self._colouring(view)
            parts = figures.groups(values, kind, len(picture.xy))
            ranges = self._steady_range(view, picture.xy)
            line = figures.honesty("", picture.kept)
            with figure.batch_update():
                for trace, (_, rows) in zip(figure.data, parts):
                    trace.x, trace.y = picture.xy[rows, 0], picture.xy[rows, 1]
                figure.layout.xaxis.range, figure.layout.yaxis.range = ranges
                figure.layout.xaxis.title.text = f"{picture.method} 1 (no unit){'<br>' if len(self._maps) > 1 else ' · '}{line}"
                figure.layout.yaxis.title.text = f"{picture.method} 2 (no unit)"
                figure.layout.title.text = f"{view} after {update.epoch} epochs"
                figure.layout.meta = {
                    "alt": f"{picture.method} map of {len(picture.xy)} rows of {view} after {update.epoch} epochs; {line}."
                }

    def _steady_range(self, view: str, xy: np.ndarray) -> tuple[list[float], list[float]]:
        """The range to show: the last one as long as all points are well inside it, so that axes do not twitch."""
        wanted = figures.map_range(xy, 0.12)
        shown = self._ranges.get(view)
        if shown is not None:
            inside = all((xy[:, a] >= shown[a][0]).all() and (xy[:, a] <= shown[a][1]).all() for a in (0, 1))
            if inside and (wanted[0][1] - wanted[0][0]) > 0.7 * (shown[0][1] - shown[0][0]):
                return shown
        self._ranges[view] = wanted
        return wanted

    def _show_curves(self, update: Update) -> None:
        studio, run = self.studio, update.run
        earlier = [r for r in studio.runs if r is not run and r.history][-EARLIER:]
        history = list(run.history)
        figure = self._curves
        if not figure.ready:
            return
        with figure.batch_update():
            if self._shown_run != run.number:
                self._shown_run = run.number
                for n in range(EARLIER):
                    trace = figure.data[n]
                    x, y = earlier[n].curve(studio.metric) if n < len(earlier) else ([], [])
                    trace.x, trace.y = x, y
                    trace.hovertemplate = (
                        f"%{{y:.3f}} after epoch %{{x}}<extra>{html.escape(earlier[n].label)}</extra>"
                        if n < len(earlier)
                        else None
                    )
            trace = figure.data[EARLIER]
            trace.x, trace.y = run.curve(studio.metric)
            for n, term in enumerate(studio.default_weights):
                pairs = [(r.epoch, r.losses[term]) for r in history if r.losses.get(term, 0) > 0]
                trace = figure.data[EARLIER + 1 + n]
                trace.x, trace.y = [e for e, _ in pairs], [v for _, v in pairs]

    def _show_gauges(self, update: Update) -> None:
        studio = self.studio
        chips = []
        best = update.run.best(studio.metric)
        if update.value is not None:
            chips.append(
                (f"{update.value:.3f}", f"{studio.metric}, valid" + (f" · best {best:.3f}" if best is not None else ""))
            )
        one = len(update.pictures) == 1
        for view, picture in update.pictures.items():
            chips.append((f"{picture.effective_rank:.1f}", f"effective rank of {picture.dim}" + ("" if one else f" · {view}")))
        chips += [(f"{v:.2f}", name) for name, v in update.gauges.items()]
        if one:  # several maps have it written below them
            chips += [(f"{p.kept:.0%}", f"neighbours kept by {p.method}") for p in update.pictures.values()]
        inner = "".join(
            f'<div class="mmrec-gauge"><b>{value}</b><span>{html.escape(label)}</span></div>' for value, label in chips
        )
        self._gauges.value = f'<div class="mmrec-gauges">{inner}</div>'

    def _catch_up(self) -> None:
        """A figure has just been drawn in the page: show it what it missed."""
        if self._colour.index:
            self._recolour()
        last = self.studio.last
        if last is None:
            return
        self._shown_run = None
        self._show_maps(last)
        if last.run is not None:
            self._show_curves(last)

    # -- from the page -----------------------------------------------------------------------------------------------------
    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        """The page shows the panel: a run without anyone looking would only heat the machine."""
        if self._autostart and isinstance(content, Mapping) and content.get("ready"):
            self._autostart = False
            self.studio.run()


def _style() -> dict[str, str]:
    return {"description_width": "92px"}


def _html(value: str, name: str) -> w.HTML:
    widget = w.HTML(value)
    widget.add_class(name)
    return widget


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


# -- for pages without a kernel ------------------------------------------------------------------------------------------------
def static_figure(studio: Studio) -> go.Figure:
    """Return metric curves of all runs and the maps of the last state as one plain figure."""
    last = studio.last
    pictures = dict(last.pictures) if last is not None else {}
    n = 1 + len(pictures)
    figure = make_subplots(
        1, n, horizontal_spacing=0.08, subplot_titles=["", *(f"{v} ({p.method})" for v, p in pictures.items())]
    )
    for number, run in enumerate([r for r in studio.runs if r.history][-EARLIER - 1 :]):
        current = last is not None and run is last.run
        x, y = run.curve(studio.metric)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=run.label,
            row=1,
            col=1,
            line={
                "color": palette.INK if current else palette.FAINT,
                "width": 3 if current else 2,
                "dash": palette.dash(0 if current else number + 1),
            },
        )
    figure.update_xaxes(title="epoch", row=1, col=1)
    figure.update_yaxes(title=f"{studio.metric}, validation", rangemode="tozero", row=1, col=1)
    for column, (view, picture) in enumerate(pictures.items(), start=2):
        kind, values = next(iter(colourings(studio.data, side(view)).values()))
        rows = studio.rows[side(view)]
        texts = hover_texts(studio.data, side(view))
        for trace in figures.map_traces(
            picture.xy, None if values is None else np.asarray(values)[rows], kind, [texts[r] for r in rows]
        ):
            trace.showlegend = False
            if getattr(trace.marker, "showscale", None) or trace.marker.colorbar.thickness:
                trace.marker.showscale = False
            figure.add_trace(trace, row=1, col=column)
        ranges = figures.map_range(picture.xy)
        hidden = {"showticklabels": False, "ticks": "", "showgrid": False}
        figure.update_xaxes(
            title=figures._map_axis(picture.method, figures.honesty("", picture.kept)),
            range=ranges[0],
            row=1,
            col=column,
            **hidden,
        )
        figure.update_yaxes(title=f"{picture.method} 2 (no unit)", range=ranges[1], row=1, col=column, **hidden)
    label = f"{studio.name} on {studio.data.name}"
    if last is not None and last.value is not None:
        label += f": {studio.metric} {last.value:.3f} after {last.epoch} epochs"
    figures._finish(figure, label, studio.sentence(), 460, legend={"orientation": "h", "y": -0.22, "x": 0})
    figure.update_layout(title={"pad": {"b": 40}}, margin={"t": 104})  # above the maps' own titles
    return figure


def whatif(
    model: str | type[Recommender] | Callable[..., Recommender] = "lightgcn",
    data: Dataset | None = None,
    *,
    controls: Sequence[str | Control] | None = None,
    views: Sequence[str] | None = None,
    epochs: int = 40,
    options: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    mode: Literal["restart", "continue"] = "restart",
    autostart: bool = True,
    **settings: Any,
) -> WhatIf:
    """Return a live panel around any model: loss weights and options on sliders, metric, losses and maps answering.

    Args:
        model: a registered name, a class, or a factory ``(data, *, options, seed)`` with the three methods.
        data: a data set; None is the bazaar.
        controls: what may be changed: loss terms, constructor options, "lr"; None for all. Seed is always there.
        views: one to three views to draw as maps; None for ``item/final``.
        epochs: how long a run takes before it pauses.
        options: constructor options that stay as given.
        weights: loss weights to begin with.
        mode: whether a changed weight restarts training or acts on the model as it is.
        autostart: start as soon as a page shows the panel.
        settings: ``lr``, ``batch_size``, ``metric``, ``seed``, ``points``, ``umap`` and so on, see
            :class:`~mmrec_teach.views.studio.Studio`; ``height`` of the map in pixels.

    Raises:
        OptionError: an unknown model, control, view or setting.
    """
    return WhatIf(
        model,
        data,
        controls=controls,
        views=views,
        epochs=epochs,
        options=options,
        weights=weights,
        mode=mode,
        autostart=autostart,
        **settings,
    )


__all__ = ["WhatIf", "say", "static_figure", "whatif"]
