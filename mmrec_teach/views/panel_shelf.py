"""All that has to do with points: the maps, what their colours mean, the card beside them, and choosing the same rows in all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmrec_teach.views import figures
from mmrec_teach.views.colourings import hover_texts
from mmrec_teach.views.panel_card import Card, Catalogue
from mmrec_teach.views.panel_compare import Compare
from mmrec_teach.views.panel_form import Form, Handle, select
from mmrec_teach.views.panel_maps import Map, legend
from mmrec_teach.views.panel_parts import Part, box
from mmrec_teach.views.studio import Studio, Update
from mmrec_teach.views.updates import side

JOINED = ", joined"


class Shelf:
    """Maps, legend and card of a studio's views.

    Args:
        studio: the engine.
        catalogue: words and pictures.
        prefix: of element ids.
        height: of a map in pixels, at most.
        lock: held while maps change: pictures come from the worker, messages from the kernel's own threads.
        given: whether the studio's views were asked for by name; else the two that can be joined come first.
        on_user: called with a user whose list is wanted.
        on_error: called with what went wrong.

    Attributes:
        widget: the box.
        handles: "colour" and "maps", what the two lists above the maps are set to.
        maps: name -> map, as shown now.
        chosen: (side, rows) chosen with lasso or legend, or None.
    """

    def __init__(
        self,
        studio: Studio,
        catalogue: Catalogue,
        prefix: str,
        height: int,
        lock: threading.RLock,
        given: bool,
        on_user: Callable[[int], None],
        on_error: Callable[[Exception], None],
    ):
        self._studio, self._prefix, self._height = studio, prefix, height
        self._on_user, self._lock = on_user, lock
        self.texts: dict[str, Sequence[str]] = {}
        self._known: dict[str, dict[str, tuple[str, Any]]] = {}
        self.chosen: tuple[str, list[int]] | None = None
        self._pressed: str | None = None
        self._others: Compare | None = None
        self._arrangements = arrangements(studio.views if given else None, studio.available_views, studio.pair)
        first = next(iter(self._arrangements))
        studio.choose_views(self._arrangements[first][0])
        self.handles: dict[str, Handle] = {
            "colour": Handle("", choices=("",)),
            "maps": Handle(first, choices=tuple(self._arrangements)),
        }
        self.handles["colour"].observe(lambda _: self.recolour(), names="value")
        self.handles["maps"].observe(lambda _: self._rearrange(), names="value")
        self.card = Card(
            catalogue,
            prefix,
            on_item=lambda item: self.look("item", item),
            on_found=lambda items: self.choose(("item", items)),
            on_clear=lambda: self.choose(None),
            on_user=on_user,
        )
        self._legend = Part("", "mmrec-legendbox", on_event=self._on_legend)
        self._bar = Form("", "mmrec-maptools", handles=self.handles, on_error=on_error)
        self._row = box("row", [], "mmrec-maps")
        self.maps: dict[str, Map] = {}
        self._arrange()
        self.widget = box(
            "column", [self._bar, self._legend, box("row", [self._row, self.card.widget], "mmrec-shelf")], "mmrec-shelfbox"
        )

    def follow(self, compare: Compare) -> None:
        """Let the maps of pinned runs share colours and choices."""
        self._others = compare

    # -- arranging -----------------------------------------------------------------------------------------------------------
    def texts_of(self, which: str) -> Sequence[str]:
        """Return what the pointer shows over every row of a side."""
        if which not in self.texts:
            known = hover_texts(self._studio.data, which)
            self.texts[which] = known or [f"{which} {n}" for n in range(int(self._studio.rows[which].max(initial=-1)) + 1)]
        return self.texts[which]

    def _rearrange(self) -> None:
        self._studio.choose_views(self._arrangements[self.handles["maps"].value][0])
        self.choose(None)
        self._arrange()

    def _arrange(self) -> None:
        """Make the maps anew: one a view, or one for two views that are joined."""
        views, joined = self._arrangements[self.handles["maps"].value]
        made: dict[str, Map] = {}
        for view in views[:1] if joined else views:
            which = side(view)
            name = " + ".join(views) if joined else view
            on_event = lambda event, which=which: self._on_map(which, event)  # noqa: E731
            pair = (views[0], views[1]) if joined else None
            height = self._height + (60 if joined or len(views) == 1 else 0)  # one alone has room
            made[name] = Map(name, self._studio.rows[which], self.texts_of(which), height, on_event, pair)
        with self._lock:
            self.maps = made
            self._offer()
            self.recolour()
            self._row.children = [m.widget for m in made.values()]
            if self._studio.last is not None:
                self._move(self._studio.last)

    def _offer(self) -> None:
        """Offer the colourings there are for the sides shown; errors are known after the first validation only."""
        handle = self.handles["colour"]
        labels = tuple(dict.fromkeys(label for which in self._sides() for label in self._colourings(which)))
        if labels == handle.choices:
            return
        handle.choices = labels
        if handle.value not in labels:
            handle.value = labels[0]
        tip = "What colour and shape stand for. Users: by main interest, by number of interactions."
        inside = select("colour", labels, "colour by", tip, self._prefix)
        if len(self._arrangements) > 1:
            tip = "Which of the model's tables to draw. Joined: both points of an item in one map, with a line between them."
            inside += select("maps", tuple(self._arrangements), "draw", tip, self._prefix)
        self._bar.html = f'<div class="mmrec-mapbar">{inside}</div>'

    def show(self, update: Update) -> None:
        """Draw an update's pictures."""
        with self._lock:
            first = self._sides()[0]
            judged = any(kind == "share" for kind, _ in self._colourings(first).values())
            erring = self.colouring(first)[0] == "share"
            if update.kind == "started" or erring or (not judged and self._studio.evaluation is not None):
                self._known.clear()
                self._offer()
            if erring:  # how the model errs changes with every epoch
                for which, shown in zip(self._sides(), self.maps.values()):
                    shown.recolour(*self.colouring(which))
            self._move(update)

    def _move(self, update: Update) -> None:
        for shown in self.maps.values():
            shown.move(update.pictures, update.epoch)

    # -- colours -------------------------------------------------------------------------------------------------------------
    def colouring(self, which: str) -> tuple[str, Any]:
        """Return (kind, one value a drawn row) of a side, as chosen now."""
        options = self._colourings(which)
        kind, values = options.get(self.handles["colour"].value, next(iter(options.values())))
        return kind, None if values is None else np.asarray(values)[self._studio.rows[which]]

    def _colourings(self, which: str) -> dict[str, tuple[str, Any]]:
        """All colourings of a side, kept: sorting labels by name for every picture would cost more than drawing it."""
        if which not in self._known:
            self._known[which] = self._studio.colourings(which)
        return self._known[which]

    def recolour(self) -> None:
        """Colour all maps as chosen."""
        with self._lock:
            for which, shown in zip(self._sides(), self.maps.values()):
                shown.colour(*self.colouring(which))
            if self._others is not None:
                self._others.recolour()
        self._show_legend()

    def _sides(self) -> list[str]:
        return [side(shown.pair[0] if shown.pair else name) for name, shown in self.maps.items()]

    def _show_legend(self) -> None:
        which = self._sides()[0]
        pair = next((m.pair for m in self.maps.values() if m.pair), None)
        entries = legend(*self.colouring(which), self._studio.rows[which], which, self._pressed, pair)
        self._legend.html = f'<div class="mmrec-legend">{entries}</div>'

    # -- pointing and choosing -------------------------------------------------------------------------------------------------
    def look(self, which: str, row: int) -> None:
        """Show an item or user in the card and ring it in every map."""
        self.card.show(which, row)
        for shown, its in zip(self.maps.values(), self._sides()):
            shown.plot.circle(row if its == which else None)
        if self._others is not None:
            for shown in self._others.maps.values():
                shown.plot.circle(row if side(self._others.view) == which else None)

    def choose(self, what: tuple[str, Sequence[int]] | None, pressed: str | None = None) -> None:
        """Choose rows of one side in all maps; None frees them."""
        self.chosen = None if what is None or not len(what[1]) else (what[0], sorted({int(r) for r in what[1]}))
        self._pressed = pressed if self.chosen else None
        which, rows = self.chosen or ("", None)
        with self._lock:
            for shown, its in zip(self.maps.values(), self._sides()):
                shown.choose(rows if its == which else None)
            if self._others is not None:
                self._others.choose(rows if side(self._others.view) == which else None)
        self.card.choose(which, rows)
        self._show_legend()

    def on_map(self, view: str, event: Mapping[str, Any]) -> None:
        """Answer to what a reader did on a map of ``view``."""
        self._on_map(side(view), event)

    def _on_map(self, which: str, event: Mapping[str, Any]) -> None:
        if "hover" in event or "click" in event:
            row = int(event.get("hover", event.get("click")))
            self.look(which, row)
            if "click" in event and which == "user":
                self._on_user(row)
        elif "choose" in event:
            self.choose(None if event["choose"] is None else (which, event["choose"]))

    def _on_legend(self, content: Mapping[str, Any]) -> None:
        if content.get("do") != "legend":
            return
        label, which = str(content.get("value")), self._sides()[0]
        if label == self._pressed:
            self.choose(None)
            return
        kind, values = self.colouring(which)
        rows = self._studio.rows[which]
        for name, members in figures.groups(values, kind, len(rows)):
            if name == label:
                self.choose((which, rows[members].tolist()), label)


def arrangements(
    given: Sequence[str] | None, available: Sequence[str], pair: tuple[str, str] | None
) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Return label -> (views, whether they are joined) of what may be drawn, what to begin with first.

    Args:
        given: views asked for by name, or None.
        available: all views of the model.
        pair: two views of the same things that can be joined.
    """
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    if given is not None:
        found[", ".join(given)] = (tuple(given), False)
    if pair is not None:
        found[" + ".join(pair) + JOINED] = (pair, True)
    both = pair or (("item/id", "item/content") if {"item/id", "item/content"} <= set(available) else None)
    if both is not None:
        found.setdefault(", ".join(both), (both, False))
    if "item/final" in available:
        found.setdefault("item/final", (("item/final",), False))
    for view in available:
        found.setdefault(view, ((view,), False))
    return found


__all__ = ["Shelf", "arrangements"]
