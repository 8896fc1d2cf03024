"""Pinned runs beside each other: a table, two maps turned to lie on each other, and where they differ."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmrec_teach.errors import MMRecTeachError
from mmrec_teach.views.gauges import GAUGES
from mmrec_teach.views.panel_maps import Map, gradient
from mmrec_teach.views.panel_parts import Part, box, w
from mmrec_teach.views.pins import Pin, aligned, difference
from mmrec_teach.views.updates import Picture, side

SHOWN_GAUGES = ("effective rank", "alignment", "uniformity", "modality gap", "neighbour overlap")


class Compare:
    """The pane.

    Args:
        rows: side -> (n,) which rows its points are.
        texts: side -> what the pointer shows, one text a row of the whole table.
        metric: the followed metric.
        height: of the maps.
        on_unpin: called with a pin's number.
        on_open: called with a pin whose setting is wanted back.
        on_event: of the maps, called with the view and the message.
        colouring: how the rows of a side are coloured now.
        prefix: of element ids.

    Attributes:
        widget: the box.
        maps: the three maps: A, B and their difference.
    """

    def __init__(
        self,
        rows: Mapping[str, np.ndarray],
        texts: Callable[[str], Sequence[str]],
        metric: str,
        height: int,
        on_unpin: Callable[[int], None],
        on_open: Callable[[Pin], None],
        on_event: Callable[[str, Mapping[str, Any]], None],
        colouring: Callable[[str], tuple[str, Any]],
        prefix: str,
    ):
        self._rows, self._texts, self._metric, self._height = rows, texts, metric, height
        self._on_unpin, self._on_open, self._on_event, self._prefix = on_unpin, on_open, on_event, prefix
        self._views: tuple[str, ...] = ()
        self.view = ""
        self._pins: tuple[Pin, ...] = ()
        self._chosen: dict[str, int | None] = {"a": None, "b": None}
        self._colouring = colouring
        self._table = Part("", "mmrec-pins", on_event=self._heard)
        self._note = Part("", "mmrec-comparenote")
        self.maps: dict[str, Map] = {}
        self._shelf = box("row", [], "mmrec-maps")
        self.widget: w.Box = box("column", [self._table, self._shelf, self._note], "mmrec-compare")
        self._write()

    def _make_maps(self) -> None:
        """Figures cost the page something: made with the second pin, not before."""
        for name in ("a", "b", "difference"):
            which = side(self.view)
            on_event = lambda event: self._on_event(self.view, event)  # noqa: E731
            self.maps[name] = Map(self.view, self._rows[which], self._texts(which), self._height, on_event)
            if name != "difference":
                self.maps[name].colour(*self._colouring(which))
        self._shelf.children = [m.widget for m in self.maps.values()]

    # -- what it shows -----------------------------------------------------------------------------------------------------
    def recolour(self) -> None:
        """Colour maps A and B as the others are."""
        for name in ("a", "b"):
            if name in self.maps:
                self.maps[name].colour(*self._colouring(side(self.view)))

    def choose(self, rows: Sequence[int] | None) -> None:
        """Let all but these fade."""
        for shown in self.maps.values():
            shown.choose(rows)

    def show(self, pins: Sequence[Pin]) -> None:
        """Show these pins; the two last ones side by side unless others are chosen."""
        new = {p.number for p in pins} - {p.number for p in self._pins}
        self._pins = tuple(pins)
        known = [p.number for p in pins]
        if new or any(c not in known for c in self._chosen.values()):
            a = self._chosen["a"] if self._chosen["a"] in known else (known[0] if known else None)
            others = [n for n in known if n != a]
            b = max(new - {a}, default=self._chosen["b"] if self._chosen["b"] in others else others[-1] if others else None)
            self._chosen = {"a": a, "b": b}
        self._find_views()
        self._write()
        self._draw()

    def _find_views(self) -> None:
        """The views that both A and B were drawn in."""
        two = self.pair()
        self._views = () if two is None else tuple(v for v in two[0].pictures if v in two[1].pictures)
        if self._views and self.view not in self._views:
            self.view, self.maps = self._views[0], {}

    def pair(self) -> tuple[Pin, Pin] | None:
        """Return pins A and B, or None while there are not two."""
        known = {p.number: p for p in self._pins}
        a, b = known.get(self._chosen["a"]), known.get(self._chosen["b"])
        return (a, b) if a is not None and b is not None and a is not b else None

    def _draw(self) -> None:
        two = self.pair()
        if two is None:
            self._shelf.children = []
            self._note.html = ""
            return
        if not self._views:
            self._shelf.children = []
            self._note.html = (
                '<p role="alert">These two runs were never drawn in the same view: nothing to lay side by side.</p>'
            )
            return
        if not self.maps:
            self._make_maps()
        elif not self._shelf.children:
            self._shelf.children = [m.widget for m in self.maps.values()]
        try:
            places = aligned(two, self.view)
            gap = difference(*two, self.view)
        except MMRecTeachError as error:
            self._note.html = f'<p role="alert">{html.escape(str(error))}</p>'
            return
        for name, pin, xy in zip(("a", "b"), two, places):
            shown = self.maps[name]
            shown.move({self.view: _picture(pin, self.view, xy)}, pin.epoch)
            value = pin.metrics.get(self._metric)
            said = f" · {self._metric} {value:.3f}" if value is not None else ""
            shown.head.html = (
                f'<b>{name.upper()} · pin {pin.number}</b>{said}<br><span class="mmrec-quiet">{_short(pin.label)}</span>'
            )
        changed = gap.changed
        last = self.maps["difference"]
        last.colour("share", changed)
        last.move({self.view: _picture(two[1], self.view, places[1])}, two[1].epoch)
        mean = float(np.nanmean(changed)) if np.isfinite(changed).any() else 0.0
        last.head.html = (
            f'<b>B against A</b> · neighbours changed<br><span class="mmrec-scale">none <i style="background:{gradient()}"></i> all '
            f"{gap.k}</span>"
        )
        first, second = two
        text = (
            f"From pin {first.number} to pin {second.number}, {mean:.0%} of an item's {gap.k} nearest neighbours in {self.view} "
            f"are others, measured in the full space; points move by {float(np.median(gap.moved)):.0%} of the picture's width "
            "(median) after B was turned to lie on A."
        )
        self._note.html = f'<p class="mmrec-lead">{html.escape(text)}</p>'

    # -- the table ---------------------------------------------------------------------------------------------------------
    def _write(self) -> None:
        if not self._pins:
            self._table.html = (
                '<p class="mmrec-lead">Nothing is pinned yet. <b>Pin</b> keeps a run as it is now; move a weight, let it train, '
                "pin again, and the two stand here side by side, each item in the same place.</p>"
            )
            return
        gauges = [g for g in GAUGES if g in SHOWN_GAUGES and any(g in p.gauges for p in self._pins)]
        head = "".join(f'<th scope="col">{html.escape(t)}</th>' for t in (f"best {self._metric}", "epochs", *gauges))
        rows = "".join(self._row(pin, gauges) for pin in self._pins)
        views = ""
        if len(self._views) > 1 and len(self._pins) > 1:
            options = "".join(
                f'<option value="{html.escape(v)}"{" selected" if v == self.view else ""}>{html.escape(v)}</option>'
                for v in self._views
            )
            views = (
                f'<div class="mmrec-mapbar"><label>compare the view <select data-name="view" data-key="view">{options}</select>'
                "</label></div>"
            )
        self._table.html = (
            '<div class="mmrec-scroll" tabindex="0" role="region" aria-label="pinned runs"><table class="mmrec-table">'
            '<thead><tr><th scope="col">A</th><th scope="col">B</th><th scope="col" class="mmrec-left">pinned run</th>'
            f'{head}<th scope="col"><span class="mmrec-hidden">actions</span></th></tr></thead><tbody>{rows}</tbody></table></div>{views}'
        )

    def _row(self, pin: Pin, gauges: Sequence[str]) -> str:
        picks = "".join(
            f'<td><input type="radio" name="{self._prefix}-{side}" data-name="{side}" data-key="{side}-{pin.number}" '
            f'value="{pin.number}"{" checked" if self._chosen[side] == pin.number else ""} '
            f'aria-label="show pin {pin.number} as {side.upper()}"></td>'
            for side in ("a", "b")
        )
        best = pin.metrics.get(self._metric)
        cells = [f"<b>{best:.3f}</b>" if best is not None else "–", str(pin.epoch)]
        cells += [format(pin.gauges[g], GAUGES[g].style) if g in pin.gauges else "–" for g in gauges]
        numbers = "".join(f"<td>{c}</td>" for c in cells)
        warm = ' <span class="mmrec-start warm">warm</span>' if pin.warm else ""
        return (
            f'<tr>{picks}<td class="mmrec-left"><b>{pin.number}</b> {_short(pin.label)}{warm}</td>{numbers}'
            f'<td><button type="button" class="mmrec-button mmrec-small" data-do="open" data-key="open-{pin.number}" '
            f'data-value="{pin.number}" title="Set all controls as they were and train it again">Open</button> '
            f'<button type="button" class="mmrec-button mmrec-small" data-do="unpin" data-key="unpin-{pin.number}" '
            f'data-value="{pin.number}" aria-label="take down pin {pin.number}">✕</button></td></tr>'
        )

    def _heard(self, content: Mapping[str, Any]) -> None:
        if content.get("do") == "unpin":
            self._on_unpin(int(content["value"]))
        elif content.get("do") == "open":
            for pin in self._pins:
                if pin.number == int(content["value"]):
                    self._on_open(pin)
        elif content.get("set") in ("a", "b"):
            self._chosen[content["set"]] = int(content["value"])
            self._find_views()
            self._write()
            self._draw()
        elif content.get("set") == "view" and content.get("value") in self._views:
            self.view = content["value"]
            self.maps = {}
            self._draw()


def _short(label: str) -> str:
    """A pin's label in one or two lines, all of it under the pointer."""
    return f'<span title="{html.escape(label)}">{html.escape(textwrap.shorten(label, 56, placeholder=" …"))}</span>'


def _picture(pin: Pin, view: str, xy: np.ndarray) -> Picture:
    table = pin.tables[view]
    return Picture(xy, pin.methods.get(view, "UMAP"), pin.kept.get(view, 0.0), 0.0, table.shape[1], pin.rows[view])


__all__ = ["Compare"]
