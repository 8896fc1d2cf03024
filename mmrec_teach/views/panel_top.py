"""One user's top ten: what would be shown, what is new in it since the last change, what left."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmrec_teach.views.panel_card import Catalogue
from mmrec_teach.views.panel_form import button
from mmrec_teach.views.panel_parts import Part, box, w
from mmrec_teach.views.pins import Pin
from mmrec_teach.views.updates import TopItem, TopList


def movement(item: TopItem, n: int) -> tuple[str, str]:
    """Return (kind, words) for how an item moved: "new", "up", "down", "same" or "" where there is nothing to compare with."""
    if item.rank_before is None:
        return "", ""
    if item.rank_before > n:
        return "new", "▲ new"
    if item.rank_before == item.rank:
        return "same", "= same place"
    gap = item.rank_before - item.rank
    return ("up", f"↑ up {gap}") if gap > 0 else ("down", f"↓ down {-gap}")


def top_html(top: TopList | None, catalogue: Catalogue) -> str:
    """Return a user's list as HTML, products with their pictures, changes in words and in the shape of the frame."""
    if top is None:
        return (
            '<p class="mmrec-lead">Choose a user to see the ten products this model would show, and which enter or leave as '
            "you move a weight. A user is also chosen by a click on a map of users.</p>"
        )
    data, n = catalogue.data, len(top)
    said = f"user {html.escape(str(data.user_ids[top.user]))} · {html.escape(catalogue.user_facts(top.user))}"
    entered, since = len(top.entered), html.escape(top.since)
    change = (
        f"Since {since}: {entered} new, {len(top.left)} left."
        if top.since
        else "No setting was changed: nothing to compare with yet."
    )
    cells = [_cell(item, catalogue, *movement(item, n)) for item in top]
    gone = [_cell(item, catalogue, "left", f"▼ left (was {item.rank_before})") for item in top.left]
    left = (
        f'<h4 class="mmrec-head" style="margin-top:12px">left the list</h4><ul class="mmrec-list">{"".join(gone)}</ul>'
        if gone
        else ""
    )
    return (
        f'<p class="mmrec-lead"><b>{said}</b><br><span class="mmrec-quiet">{change} ✓ marks what the user took in validation.</span></p>'
        f'<ol class="mmrec-list">{"".join(cells)}</ol>{left}'
    )


def _cell(item: TopItem, catalogue: Catalogue, kind: str, words: str) -> str:
    rank = f'<span class="mmrec-rank">{item.rank}</span>' if kind != "left" else ""
    hit = '<span class="mmrec-hit">✓ taken</span>' if item.relevant == "valid" else ""
    moved = f'<span class="mmrec-move {kind}">{words}</span> ' if words else ""
    title = html.escape(catalogue.titles[item.item])
    return f'<li class="{kind}">{catalogue.photo(item.item, "")}{rank}<b>{title}</b>{moved}{hit}</li>'


class TopTen:
    """The pane.

    Args:
        catalogue: words and pictures.
        prefix: of element ids.
        choose: called with the user whose list is wanted.
        against: called with the number of the pin to compare with, or None for the last change.

    Attributes:
        widget: the box.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        prefix: str,
        choose: Callable[[int], None],
        against: Callable[[int | None], None],
    ):
        self._catalogue, self._prefix, self._choose, self._against = catalogue, prefix, choose, against
        self._user: int | None = None
        self._random = np.random.default_rng(0)
        self._compared: str = "change"
        self._bar = Part("", "mmrec-userpick", on_event=self._heard)
        self.offer([])
        self._list = Part(top_html(None, catalogue), "mmrec-top")
        self.widget: w.Box = box("column", [self._bar, self._list], "mmrec-topbox")

    def offer(self, pins: Sequence[Pin]) -> None:
        """Offer these pins to compare with; those that do not know their lists are greyed out and say why."""
        if self._compared not in (str(pin.number) for pin in pins):
            self._compared = "change"
        user = "" if self._user is None else html.escape(str(self._catalogue.data.user_ids[self._user]))
        bar = (
            f'<label for="{self._prefix}-user">user</label><input type="text" id="{self._prefix}-user" value="{user}" '
            'class="mmrec-field mmrec-control-user" data-name="user" data-key="user" data-enter="user" autocomplete="off" '
            'spellcheck="false">'
            '<button type="button" class="mmrec-button mmrec-small" data-do="user" data-from="user" data-key="show">Show</button>'
            + button("earlier", "← previous", "The user before this one", "mmrec-small")
            + button("later", "next →", "The user after this one", "mmrec-small")
            + button("any", "any user", "Somebody by chance", "mmrec-small")
        )
        if pins:
            choices = [("change", "the last change", True)]
            for pin in pins:
                known = pin.memory is not None
                why = "" if known else " (too large a model to copy while it trains: pause, then pin)"
                choices.append((str(pin.number), f"pin {pin.number}{why}", known))
            options = "".join(
                f'<option value="{value}"{" selected" if value == self._compared else ""}{"" if known else " disabled"}>{words}</option>'
                for value, words, known in choices
            )
            bar += (
                f'<label for="{self._prefix}-against">compare with</label><select id="{self._prefix}-against" '
                f'class="mmrec-control-against" data-name="against" data-key="against">{options}</select>'
            )
        self._bar.html = f'<div class="mmrec-userbar">{bar}</div>'

    def show(self, top: TopList | None) -> None:
        """Show a list."""
        if top is not None and top.user != self._user:
            self._user = top.user
            self._bar.values = {"user": {"value": str(self._catalogue.data.user_ids[top.user])}}
        self._list.html = top_html(top, self._catalogue)

    def _heard(self, content: Mapping[str, Any]) -> None:
        do, data = content.get("do"), self._catalogue.data
        if content.get("set") == "against":
            self._compared = str(content["value"])
            self._against(int(self._compared) if self._compared.isdecimal() else None)
        here = -1 if self._user is None else self._user
        if do == "user":
            text = str(content.get("value") or "").strip()
            found = np.flatnonzero(np.asarray(data.user_ids).astype(str) == text)
            if not len(found) and text.isdigit() and int(text) < data.n_users:
                found = np.array([int(text)])
            if len(found):
                self._choose(int(found[0]))
            else:
                example = html.escape(str(data.user_ids[0]))
                self._list.html = (
                    f'<p role="alert">There is no user {html.escape(repr(text))}. Users are named like {example}, or by their '
                    f"number from 0 to {data.n_users - 1:,}.</p>"
                )
        elif do == "earlier":
            self._choose((here - 1) % data.n_users)
        elif do == "later":
            self._choose((here + 1) % data.n_users)
        elif do == "any":
            self._choose(int(self._random.integers(data.n_users)))


__all__ = ["TopTen", "movement", "top_html"]
