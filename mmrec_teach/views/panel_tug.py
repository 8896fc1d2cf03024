"""The tug of war: how hard each loss term pulls at the parameters, and which terms pull against each other."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mmrec_teach.views import figures, palette
from mmrec_teach.views.panel_parts import Part

if TYPE_CHECKING:
    from mmrec_teach.training.gradients import GradientReport

LEAD = (
    "Each loss term pulls at the same parameters. The bars are the lengths of the weighted gradients; the table is the angle "
    "between two pulls: below 90° they work together, above 90° against each other."
)


def direction(cosine: float) -> tuple[str, str, str]:
    """Return (words, background, ink) for the cosine between two gradients."""
    if cosine > 0.2:
        strength = min((cosine - 0.2) / 0.8, 1.0)
        return "together", _mix((222, 236, 246), (0, 114, 178), strength), "#fff" if strength > 0.55 else palette.INK
    if cosine < -0.2:
        strength = min((-cosine - 0.2) / 0.8, 1.0)
        return "against", _mix((252, 232, 219), (196, 78, 0), strength), "#fff" if strength > 0.75 else palette.INK
    return "across", "#eef1f4", palette.INK


def _mix(a: Sequence[int], b: Sequence[int], share: float) -> str:
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in zip(a, b))


def tug_html(report: GradientReport | None, terms: Sequence[str], there: Collection[str] | None = None) -> str:
    """Return the tug of war as HTML.

    Args:
        report: norms and cosines, or None before there are any.
        terms: all loss terms of the model's class, in order: a term keeps its colour whether it is on or not.
        there: those that the model has under its options; None for all.
    """
    if report is None or not report.norms:
        return f'<p class="mmrec-lead mmrec-quiet">{LEAD}</p><p>Train an epoch to see who pulls.</p>'
    top = max([v for v in report.norms.values() if math.isfinite(v)], default=0) or 1.0
    total = sum(v for v in report.norms.values() if math.isfinite(v)) or 1.0
    bars = []
    for n, term in enumerate(terms):
        value = report.norms.get(term)
        if value is None and there is not None and term not in there:
            continue
        if value is None:
            bars.append(f'<span>{html.escape(term)}</span><span class="mmrec-quiet">switched off</span><span></span>')
            continue
        share = 100 * min(value / top, 1) if math.isfinite(value) else 0
        bars.append(
            f'<span>{html.escape(term)}</span><i style="width:{share:.1f}%;background:{palette.style(n)[0]}"></i>'
            f'<span class="mmrec-quiet">{figures.number(value)} · {value / total:.0%}</span>'
        )
    left = f'<div><h4 class="mmrec-head">how hard they pull</h4><div class="mmrec-bars">{"".join(bars)}</div></div>'
    return f'<p class="mmrec-lead mmrec-quiet">{LEAD}</p><div class="mmrec-tug">{left}{_angles(report)}</div>'


def _angles(report: GradientReport) -> str:
    names = list(report.norms)
    if len(names) < 2:
        return '<div><p class="mmrec-quiet">One term alone has nobody to pull against.</p></div>'
    head = "".join(f'<th scope="col">{html.escape(n)}</th>' for n in names[1:])
    rows = []
    for a, first in enumerate(names[:-1]):
        cells = []
        for b, second in enumerate(names):
            if b == 0:
                continue
            if b <= a:
                cells.append("<td></td>")
                continue
            cosine = report.cosines.get((first, second), report.cosines.get((second, first)))
            if cosine is None:
                cells.append('<td class="mmrec-quiet">–<small>nothing shared</small></td>')
                continue
            words, background, ink = direction(cosine)
            angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
            cells.append(f'<td style="background:{background};color:{ink}">{angle:.0f}°<small>{words}</small></td>')
        rows.append(f'<tr><th scope="row" class="mmrec-left">{html.escape(first)}</th>{"".join(cells)}</tr>')
    return (
        '<div><h4 class="mmrec-head">which way</h4><div class="mmrec-scroll" tabindex="0" role="region" aria-label="angles">'
        f'<table class="mmrec-table mmrec-heat"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div></div>"
    )


class Tug:
    """The pane.

    Args:
        terms: all loss terms.
    """

    def __init__(self, terms: Sequence[str]):
        self._terms = tuple(terms)
        self.widget = Part(tug_html(None, self._terms), "mmrec-tugbox")

    def show(self, report: GradientReport | None, there: Collection[str] | None = None) -> None:
        """Show the last report there is; ``there`` are the terms that the model has now."""
        if report is not None:
            self.widget.html = tug_html(report, self._terms, there)


__all__ = ["Tug", "direction", "tug_html"]
