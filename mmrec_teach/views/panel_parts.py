"""What the panels are made of: a figure that a worker may change, a piece of HTML that answers, a line that is read out.

Importing this module needs the ``lab`` extra (ipywidgets, anywidget).
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

try:
    import anywidget
    import ipywidgets as w
    import traitlets
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("The live panels need ipywidgets and anywidget: pip install 'mmrec_teach[lab]'.") from error

WEB = Path(__file__).parent / "web"


def css() -> str:
    """Return the panels' style sheet."""
    return (WEB / "panel.css").read_text(encoding="utf-8")


# -- text that is read out -------------------------------------------------------------------------------------------------
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
        model.send({ ready: true });
        // a kernel that ends leaves a picture that no longer answers: say so
        model.on("comm_live_update", () => {
          if (!model.comm_live) el.closest(".mmrec-whatif")?.classList.add("mmrec-still");
        });
        return () => model.off("change:text", set);
      }
    };
    """
    text = traitlets.Unicode("").tag(sync=True)


# -- a piece of HTML -------------------------------------------------------------------------------------------------------
class Part(anywidget.AnyWidget):
    """A piece of the panel written in HTML; what a reader does to it arrives as small messages (see ``web/part.js``).

    Args:
        html: its contents; whatever comes from data must be escaped.
        classes: CSS classes of its element.
        on_event: called with the messages {"do": …}, {"set": …}, {"tab": …}, {"ready": True}.
    """

    _esm = (WEB / "part.js").read_text(encoding="utf-8")
    html = traitlets.Unicode("").tag(sync=True)
    values = traitlets.Dict().tag(sync=True)

    def __init__(self, html: str = "", *classes: str, on_event: Callable[[Mapping[str, Any]], None] | None = None):
        super().__init__(html=html)
        for name in ("mmrec-part", *classes):
            self.add_class(name)
        if on_event is not None:
            self.on_msg(lambda _, content, __: on_event(content) if isinstance(content, Mapping) else None)


# -- a figure ----------------------------------------------------------------------------------------------------------------
_KINDS = {"f": ("float32", np.float32), "i": ("int32", np.int32), "u": ("int32", np.int32), "b": ("uint8", np.uint8)}


def pack(value: Any, buffers: list[bytes]) -> Any:
    """Return ``value`` as JSON with every array of numbers moved into ``buffers`` (float32, int32 or uint8)."""
    if isinstance(value, Mapping):
        return {str(k): pack(v, buffers) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in _KINDS:
        name, dtype = _KINDS[value.dtype.kind]
        buffers.append(np.ascontiguousarray(value, dtype).tobytes())
        return {"_array": len(buffers) - 1, "dtype": name}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [pack(v, buffers) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return value.item() if isinstance(value, np.generic) else value


def _decoded(value: Any) -> Any:
    """Return a figure's JSON with the arrays that plotly wrote as text turned back into arrays."""
    if isinstance(value, Mapping):
        if "bdata" in value and "dtype" in value:
            return np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
        return {k: _decoded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_decoded(v) for v in value]
    return value


def _plotly_source() -> bytes:
    import plotly

    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()


class LivePlot(anywidget.AnyWidget):
    """A plotly figure that any thread may change. Only what changed is sent, and only once the page has drawn what came before.

    Args:
        figure: the figure to begin with.
        name: what events of the page and tests know it by.
        classes: CSS classes of its element.
        config: plotly's settings of the page's side.
        on_event: called with {"hover": row}, {"click": row}, {"choose": rows or None}; a row is the point's ``customdata``.

    Attributes:
        ready: whether a page shows it.
    """

    _esm = (WEB / "plot.js").read_text(encoding="utf-8")
    name = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        figure: go.Figure,
        name: str,
        *classes: str,
        config: Mapping[str, Any] | None = None,
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
    ):
        self._lock = threading.RLock()
        self._config = dict(config or {})
        self._read(figure)
        self.ready = self._busy = self._whole = False
        self._number = 0
        self._data: dict[int, dict[str, Any]] = {}
        self._layout: dict[str, Any] = {}
        self._on_event = on_event
        super().__init__(name=name)
        for known in ("mmrec-plot", *classes):
            self.add_class(known)
        self.on_msg(self._heard)

    @property
    def figure(self) -> go.Figure:
        """A plain figure of what it shows."""
        with self._lock:
            return go.Figure({"data": self._spec["data"], "layout": self._spec["layout"]})

    @property
    def traces(self) -> list[dict[str, Any]]:
        """Its traces as plain dictionaries, arrays as they were given."""
        return self._spec["data"]

    def _read(self, figure: go.Figure) -> None:
        plain = _decoded(figure.to_plotly_json())
        self._spec = {"data": list(plain["data"]), "layout": plain["layout"], "config": self._config}

    def draw(self, figure: go.Figure) -> None:
        """Show another figure."""
        with self._lock:
            self._read(figure)
            self._data, self._layout, self._whole = {}, {}, True
            self._flush()

    def change(self, data: Mapping[int, Mapping[str, Any]], layout: Mapping[str, Any] | None = None) -> None:
        """Change single entries: ``data`` trace number -> path -> value, ``layout`` path -> value ("xaxis.title.text")."""
        with self._lock:
            for number, entries in data.items():
                for path, value in entries.items():
                    if _put(self._spec["data"][number], path, value):
                        self._data.setdefault(number, {})[path] = value
            for path, value in (layout or {}).items():
                if _put(self._spec["layout"], path, value):
                    self._layout[path] = value
            self._flush()

    def circle(self, row: int | None) -> None:
        """Lay a ring around the points of a row, without drawing anew."""
        if self.ready:
            self.send({"ring": row})

    def _flush(self) -> None:
        if not self.ready or self._busy or not (self._whole or self._data or self._layout):
            return
        buffers: list[bytes] = []
        self._number += 1
        if self._whole:
            message: dict[str, Any] = {"figure": pack(self._spec, buffers)}
        else:
            message = {"change": {"data": pack(self._data, buffers), "layout": pack(self._layout, buffers)}}
        self._data, self._layout, self._whole, self._busy = {}, {}, False, True
        self.send(message | {"number": self._number}, buffers)

    def _heard(self, _: Any, content: Any, __: Any) -> None:
        if not isinstance(content, Mapping):
            return
        if content.get("want") == "plotly":
            self.send({"plotly": True}, [_plotly_source()])
        elif content.get("ready"):
            with self._lock:
                self.ready, self._busy, self._whole = True, False, True
                self._flush()
        elif "drawn" in content:
            with self._lock:
                if content["drawn"] == self._number:
                    self._busy = False
                    self._flush()
        elif self._on_event is not None:
            self._on_event(content)


def _put(target: dict[str, Any], path: str, value: Any) -> bool:
    """Set ``target``'s entry at a dotted path. Returns whether that changed it."""
    *names, last = path.split(".")
    for name in names:
        target = target.setdefault(name, {})
    old = target.get(last)
    target[last] = value
    if isinstance(value, np.ndarray) or isinstance(old, np.ndarray):
        return not np.array_equal(old, value) if old is not None else True
    return old != value


def box(kind: str, children: Sequence[Any], *classes: str) -> w.Box:
    """Return a box ("row" or "column") whose look is the style sheet's."""
    made = (w.HBox if kind == "row" else w.VBox)(children)
    for name in classes:
        made.add_class(name)
    return made


__all__ = ["WEB", "LivePlot", "Part", "Sentence", "box", "css", "pack", "w"]


def shell(title: str, rows: Sequence[Sequence[w.Widget]], plot: LivePlot, sentence: Sentence) -> w.VBox:
    """Return a small panel: a title, rows of controls, a live figure, and the sentence that is read out when it changes."""
    box = w.Box([plot], layout=w.Layout(min_width="0", width="100%", overflow="hidden"))
    style = w.HTML(f"<style>{css()}</style>", layout=w.Layout(display="none"))
    head = w.HTML(f'<div class="mmrec-title">{title}</div>')
    panel = w.VBox([style, head, w.VBox([w.HBox(list(row)) for row in rows]), box, sentence])
    panel.add_class("mmrec-whatif")
    return panel
