"""Lists of recommendations as pictures: what `mmrec-teach recommend` prints, for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from mmrec_teach.data import Dataset
from mmrec_teach.evaluation.recommend import Suggestion, Suggestions, item_name
from mmrec_teach.views import palette
from mmrec_teach.views.panel_card import Catalogue

SHOWN = 12
"""Liked items shown, the latest."""
STYLE = f"""<style>
.mmrec-rec {{ font: 14px/1.4 {palette.FONT.replace('"', "'")}; color: {palette.INK}; background: {palette.PAPER}; padding: 4px 8px; }}
.mmrec-rec h4 {{ margin: 12px 0 4px; font-size: 16px; }}
.mmrec-rec p {{ margin: 4px 0; }}
.mmrec-rec ol, .mmrec-rec ul {{ display: flex; flex-wrap: wrap; gap: 12px; padding: 0; margin: 8px 0; list-style: none; }}
.mmrec-rec li {{ width: 132px; margin: 0; }}
.mmrec-rec ul li {{ width: 72px; font-size: 12px; }}
.mmrec-rec .mmrec-photo {{ display: block; width: 100%; aspect-ratio: 1; object-fit: contain; box-sizing: border-box;
  border: 1px solid #cdd5dc; border-radius: 6px; }}
.mmrec-rec .mmrec-nophoto {{ display: grid; place-items: center; border-style: dashed; font-size: 12px; color: #5a6570; }}
.mmrec-rec .mmrec-bar {{ display: flex; height: 8px; margin: 3px 0; border: 1px solid {palette.INK}; }}
.mmrec-rec .mmrec-bar i:first-child {{ background: {palette.BLUE}; }}
.mmrec-rec .mmrec-bar i:last-child {{ background: repeating-linear-gradient(45deg, {palette.ORANGE} 0 3px, {palette.PAPER} 3px 5px); }}
.mmrec-rec small {{ display: block; font-size: 12px; }}
</style>"""


@dataclass(frozen=True)
class Cards:
    """A page piece that a notebook shows by itself.

    Attributes:
        html: it, self-contained.
    """

    html: str

    def _repr_html_(self) -> str:
        return self.html


def cards(data: Dataset, lists: Sequence[Suggestions]) -> Cards:
    """Return lists as pictures with their reasons: score, bar of its parts from ID and content, nearest liked items.

    Every picture's alternative text is the item's caption where there is one, else its name; every bar's numbers stand beside it.

    Args:
        data: what the lists are about.
        lists: of :func:`~mmrec_teach.evaluation.recommend.recommend` and ``recommend_after``.
    """
    known = Catalogue(data)
    return Cards(f'<div class="mmrec-rec">{STYLE}{"".join(_list(known, one) for one in lists)}</div>')


def _list(known: Catalogue, one: Suggestions) -> str:
    given = one.user is None
    whose = "For items given by hand" if given else f"For user {known.data.user_ids[one.user]}"
    had = one.liked[-SHOWN:]
    latest = f", the last {SHOWN}" if len(one.liked) > SHOWN else ""
    words = (
        f"Given{latest}:"
        if given
        else f"Took {len(one.liked)} items in train and valid{latest}:"
        if had
        else "Took nothing yet."
    )
    owned = "".join(f"<li>{_photo(known, item)}{_text(item_name(known.data, item))}</li>" for item in had)
    lines = "".join(f"<li>{_line(known, rank, s)}</li>" for rank, s in enumerate(one.best, start=1))
    notes = "".join(f"<p><small>{_text(note)}</small></p>" for note in (one.how, *one.notes))
    return f"<h4>{_text(whose)}</h4><p>{words}</p><ul>{owned}</ul><p>Best items:</p><ol>{lines}</ol>{notes}"


def _line(known: Catalogue, rank: int, s: Suggestion) -> str:
    text = f"{_photo(known, s.item)}<b>{rank}. {_text(item_name(known.data, s.item))}</b><small>score {s.score:.3f}</small>"
    if s.parts is not None:
        numbers = [f"{words} {s.parts[name]:+.2f}" for name, words in (("id", "ID"), ("content", "content"))]
        if s.shares is not None:
            widths = "".join(f'<i style="width:{s.shares[name]:.1%}"></i>' for name in ("id", "content"))
            text += f'<div class="mmrec-bar" aria-hidden="true">{widths}</div>'
            numbers = [f"{n} ({s.shares[name]:.0%})" for n, name in zip(numbers, ("id", "content"), strict=True)]
        text += f"<small>{', '.join(numbers)}</small>"
    if s.near:
        text += f"<small>like {_text(', '.join(f'{item_name(known.data, i)} ({c:.2f})' for i, c in s.near))}</small>"
    return text + ("<small>taken in test</small>" if s.found else "")


def _photo(known: Catalogue, item: int) -> str:
    if item >= known.data.n_items:
        return '<div class="mmrec-photo mmrec-nophoto">no picture</div>'
    caption = known.captions[item] if known.captions else ""
    return known.photo(item, caption or item_name(known.data, item))


def _text(words: str) -> str:
    return html.escape(words)
