"""Who is this point? Picture, caption and facts of one item or user, and the list of what was chosen with the lasso."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmrec_teach.data import Dataset
from mmrec_teach.views.panel_parts import Part, box, w

LISTED = 40  # thumbnails of a choice
FOUND = 6  # answers to a search that are shown


class Catalogue:
    """Words and pictures of a data set's items and users, ready for HTML.

    Args:
        data: the data set.
    """

    def __init__(self, data: Dataset):
        self.data = data
        self.titles = [t or str(i) for t, i in zip(self._column("title") or data.item_ids, data.item_ids)]
        self.captions, self.categories = self._column("caption"), self._column("category")
        self._photo = functools.lru_cache(maxsize=2048)(self._encode)

    def _column(self, name: str) -> list[str] | None:
        items = self.data.items
        return items[name].fillna("").astype(str).tolist() if items is not None and name in items else None

    def _encode(self, item: int) -> str | None:
        if self.data.images is None or not self.data.images[item].any():
            return None
        from PIL import Image

        image = Image.fromarray(self.data.images[item])
        if max(image.size) > 192:
            image.thumbnail((192, 192))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

    def photo(self, item: int, alt: str | None = None) -> str:
        """Return an item's picture as HTML, or a frame that says there is none; ``alt`` "" where its name stands beside it."""
        address = self._photo(int(item))
        if address is None:
            return '<div class="mmrec-photo mmrec-nophoto">no picture</div>'
        text = html.escape(self.titles[item] if alt is None else alt)
        return f'<img class="mmrec-photo" src="{address}" alt="{text}" draggable="false">'

    def facts(self, item: int) -> str:
        """Return an item's category and how often it was taken, in words."""
        count = int(self.data.item_counts[item])
        said = f"taken {count:,} times in training" if count else "cold: never taken in training"
        return " · ".join([*([self.categories[item]] if self.categories and self.categories[item] else []), said])

    def user_facts(self, user: int) -> str:
        """Return what is known of a user, in words."""
        said, truth = f"{int(self.data.user_counts[user]):,} training interactions", self.data.truth
        if truth is None:
            return said
        wanted = []
        for interest, share in zip(truth.user_interests[user], truth.interest_shares[user]):
            if interest >= 0:
                wanted.append(f"{self._interest(int(interest))} {share:.0%}")
        return f"{said} · planted interests: {', '.join(wanted)}"

    def _interest(self, interest: int) -> str:
        members = np.flatnonzero(self.data.truth.item_interest == interest)
        if not self.categories or not len(members):
            return f"interest {interest}"
        names, counts = np.unique([self.categories[m] for m in members], return_counts=True)
        return str(names[counts.argmax()])

    def find(self, text: str) -> list[int]:
        """Return items whose title, else category or caption, holds ``text``."""
        wanted = text.strip().casefold()
        if not wanted:
            return []
        found: dict[int, None] = {}
        for column in (self.titles, self.categories, self.captions):
            for item, words in enumerate(column or ()):
                if wanted in words.casefold():
                    found.setdefault(item)
        return list(found)


class Card:
    """The column beside the maps.

    Args:
        catalogue: words and pictures.
        on_item: called with the item a reader picked from a list here.
        on_found: called with all items that a search found.
        on_clear: called when the choice is to be given up.
        on_user: called with a user whose list is wanted.
        prefix: of element ids.

    Attributes:
        widget: the box.
        shown: (side, row) of what is shown, or None.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        prefix: str,
        on_item: Callable[[int], None],
        on_found: Callable[[list[int]], None],
        on_clear: Callable[[], None],
        on_user: Callable[[int], None],
    ):
        self.catalogue = catalogue
        self._on_item, self._on_found, self._on_clear, self._on_user = on_item, on_found, on_clear, on_user
        self.shown: tuple[str, int] | None = None
        self._find = Part(
            f'<label for="{prefix}-find" class="mmrec-quiet">Find an item</label>'
            f'<input type="search" id="{prefix}-find" data-find="find" data-enter="find" data-key="find" autocomplete="off" '
            f'class="mmrec-control-find" placeholder="title or category">',
            "mmrec-finder",
            on_event=self._heard,
        )
        self._found = Part("", "mmrec-found", on_event=self._heard)
        self._card = Part(self._welcome(), "mmrec-card", on_event=self._heard)
        self._list = Part("", "mmrec-chosen", on_event=self._heard)
        self.widget: w.Box = box("column", [self._find, self._found, self._card, self._list], "mmrec-side")

    def _welcome(self) -> str:
        return (
            '<p class="mmrec-quiet">Point at a dot to see the product. Draw a loop around dots to choose them in all maps; '
            "a double click gives them free.</p>"
        )

    def show(self, side: str, row: int) -> None:
        """Show an item or a user."""
        self.shown = (side, int(row))
        if side == "item":
            text = self._item(int(row))
        elif side == "user":
            text = self._user(int(row))
        else:
            text = f"<h4>{html.escape(side)} {row}</h4>"
        self._card.html = text

    def _item(self, item: int) -> str:
        known, title = self.catalogue, html.escape(self.catalogue.titles[item])
        caption = f"<p>{html.escape(known.captions[item])}</p>" if known.captions and known.captions[item] else ""
        return (
            f"<figure>{known.photo(item)}<figcaption><h4>{title}</h4>"
            f'<p class="mmrec-quiet">{html.escape(known.facts(item))}</p>{caption}</figcaption></figure>'
        )

    def _user(self, user: int) -> str:
        train, known = self.catalogue.data.train, self.catalogue
        taken = train.items[train.users == user][-8:]
        return (
            f"<h4>user {html.escape(str(known.data.user_ids[user]))}</h4>"
            f'<p class="mmrec-quiet">{html.escape(known.user_facts(user))}</p>'
            f'<p class="mmrec-quiet">last taken in training:</p>{self._thumbs(taken)}'
            f'<button type="button" class="mmrec-button mmrec-small" data-do="user" data-key="user" data-value="{user}">'
            "Show this user's top 10</button>"
        )

    def _thumbs(self, items: Sequence[int]) -> str:
        cells = []
        for item in items:
            title = html.escape(self.catalogue.titles[item])
            address = self.catalogue._photo(int(item))
            inside = f'<img src="{address}" alt="">' if address else title[:4]
            cells.append(
                f'<button type="button" data-do="item" data-key="item-{item}" data-value="{item}" title="{title}" '
                f'aria-label="{title}">{inside}</button>'
            )
        return f'<div class="mmrec-thumbs">{"".join(cells)}</div>'

    def choose(self, side: str, rows: Sequence[int] | None) -> None:
        """List what is chosen; None clears the list."""
        if rows is None:
            self._list.html = ""
            return
        what = f"{len(rows):,} {side}{'s' if len(rows) != 1 else ''} chosen"
        names = (
            self._thumbs(list(rows)[:LISTED])
            if side == "item"
            else f"<p>{html.escape(', '.join(str(self.catalogue.data.user_ids[r]) for r in list(rows)[:LISTED]))}</p>"
            if side == "user"
            else ""
        )
        more = f'<p class="mmrec-quiet">and {len(rows) - LISTED:,} more</p>' if len(rows) > LISTED else ""
        self._list.html = (
            f'<p role="status"><b>{what}</b> <button type="button" class="mmrec-button mmrec-small" data-do="clear" '
            f'data-key="clear">Clear</button></p>{names}{more}'
        )

    def _heard(self, content: Mapping[str, Any]) -> None:
        do, value = content.get("do"), content.get("value")
        if do == "find":
            found = self.catalogue.find(str(value or ""))
            text = '<p class="mmrec-quiet">no such title or category</p>' if value else ""
            if found:
                more = f"{FOUND} of {len(found)}; Enter shows all in the maps" if len(found) > FOUND else f"{len(found)} found"
                text = f'{self._thumbs(found[:FOUND])}<p class="mmrec-quiet">{more}</p>'
            self._found.html = text
            if found and not content.get("typing"):
                self._on_item(found[0])
                self._on_found(found)
        elif do == "item":
            self._on_item(int(value))
        elif do == "user":
            self._on_user(int(value))
        elif do == "clear":
            self._on_clear()


__all__ = ["Card", "Catalogue"]
