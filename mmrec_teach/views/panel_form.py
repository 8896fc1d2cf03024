"""The panel's controls: what the model, the loop and the data let a reader change, as one form that works by keyboard."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets

from mmrec_teach.views.panel_parts import Part
from mmrec_teach.views.studio import Control


class Handle(traitlets.HasTraits):
    """One control as Python sees it: set ``value`` and it moves in the page, and the other way round.

    Attributes:
        value: what it is set to.
        disabled: whether the page shows it greyed out.
        choices: what ``value`` may be, where it is picked from a list.
        face: of a button whose meaning changes: (its word, what the pointer shows, whether it stands out).
    """

    value = traitlets.Any()
    disabled = traitlets.Bool(False)
    face = traitlets.Any()

    def __init__(self, value: Any = None, *, choices: Sequence[Any] = (), click: Callable[[], None] | None = None):
        super().__init__(value=value)
        self.choices, self._click = tuple(choices), click

    def click(self) -> None:
        """Press it, if it is a button and not greyed out."""
        if self._click is not None and not self.disabled:
            self._click()


class Form(Part):
    """A part with controls in it.

    Args:
        html: its contents, see ``web/part.js``.
        handles: name -> handle of every control in it.
        on_event: called with messages of other kinds.
        on_error: called with a sentence when a value is refused.
    """

    def __init__(
        self,
        html: str,
        *classes: str,
        handles: Mapping[str, Handle],
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ):
        self._handles, self._other, self._error = dict(handles), on_event, on_error
        super().__init__(html, *classes, on_event=self._heard)
        for handle in self._handles.values():
            handle.observe(lambda _: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        """Show the page what the handles say."""
        self.values = {
            name: {"disabled": h.disabled}
            | ({} if h.value is None else {"value": h.value})
            | ({} if h.face is None else dict(zip(("label", "tip", "main"), h.face)))
            for name, h in self._handles.items()
        }

    def _heard(self, content: Mapping[str, Any]) -> None:
        name = content.get("set", content.get("do"))
        handle = self._handles.get(name) if isinstance(name, str) else None
        if handle is None:
            if self._other is not None:
                self._other(content)
            return
        before = handle.value
        try:
            if "do" in content:
                handle.click()
            else:
                handle.value = self._typed(handle, content.get("value"))
        except Exception as error:  # told in the panel; the page goes back to what stood
            if self._error is None:
                raise
            with contextlib.suppress(Exception):
                handle.value = before
            self._error(error)
            self.values = {}
            self.refresh()

    @staticmethod
    def _typed(handle: Handle, value: Any) -> Any:
        """A value of the page in the type the handle has: every choice arrives as text, every number may be a float."""
        if handle.choices:
            return next((c for c in handle.choices if str(c) == str(value)), handle.value)
        if isinstance(handle.value, bool):
            return bool(value)
        if isinstance(handle.value, int):
            return round(value)
        return float(value) if isinstance(handle.value, float) else value


# -- HTML --------------------------------------------------------------------------------------------------------------------
_PATHS = {
    "run": "M3 1.5v11l9-5.5z",
    "stop": "M2.5 2.5h9v9h-9z",
    "step": "M2 1.5v11l6.5-5.5zM9.5 1.5h2.5v11H9.5z",
    "undo": "M5.5 1 1.5 4.5l4 3.5V5.6h2.7a2.4 2.4 0 0 1 0 4.8H4v2h4.2a4.4 4.4 0 0 0 0-8.8H5.5z",
    "pin": "M5 1h4v1L8.4 2.6v3L11 8v1.4H7.7V13L7 14l-.7-1V9.4H3V8l2.6-2.4v-3L5 2z",
}


def icon(name: str) -> str:
    """Return a small picture for a button; its words stand beside it."""
    return f'<svg viewBox="0 0 14 14" width="12" height="12" aria-hidden="true"><path d="{_PATHS[name]}" fill="currentColor"/></svg>'


def button(name: str, label: str, tip: str, kind: str = "", value: Any = None) -> str:
    """Return a button that sends {"do": name}."""
    picture = icon(name) if name in _PATHS else ""
    given = "" if value is None else f' data-value="{html.escape(str(value))}"'
    return (
        f'<button type="button" class="mmrec-button {kind} mmrec-control-{name}" data-do="{name}" data-key="{name}{value or ""}"'
        f'{given} title="{html.escape(tip)}">{picture}<span>{html.escape(label)}</span></button>'
    )


def select(name: str, choices: Sequence[Any], label: str, tip: str, prefix: str) -> str:
    """Return a labelled drop-down list."""
    options = "".join(f'<option value="{html.escape(str(c))}">{html.escape(_said(c))}</option>' for c in choices)
    key = f"{prefix}-{name}"
    return (
        f'<div class="mmrec-row mmrec-choice"><label for="{key}" title="{html.escape(tip)}">{html.escape(label)}</label>'
        f'<select id="{key}" class="mmrec-control-{name}" data-name="{name}" data-key="{name}" title="{html.escape(tip)}">'
        f"{options}</select></div>"
    )


def tick(name: str, label: str, tip: str, prefix: str) -> str:
    """Return a labelled check box."""
    key = f"{prefix}-{name}"
    return (
        f'<div class="mmrec-row mmrec-tick"><input type="checkbox" id="{key}" class="mmrec-control-{name}" data-name="{name}" '
        f'data-key="{name}"><label for="{key}" title="{html.escape(tip)}">{html.escape(label)}</label></div>'
    )


def slider(
    name: str,
    label: str,
    tip: str,
    prefix: str,
    low: float,
    high: float,
    step: float,
    default: float,
    *,
    log: bool = False,
    switch: str | None = None,
) -> str:
    """Return a slider with its name, a field for the exact value and a mark where it began.

    Args:
        name: of the control.
        label, tip: what the reader sees and what the pointer shows.
        prefix: of element ids, one a panel.
        low, high, step: ends and step; powers of ten where ``log``.
        default: where the mark stands.
        switch: name of the check box in front, if there is one.
    """
    key, at = f"{prefix}-{name}", (math.log10(default) if log and default > 0 else default)
    share = min(max((at - low) / max(high - low, 1e-12), 0), 1)
    front = ""
    if switch is not None:
        front = (
            f'<input type="checkbox" class="mmrec-toggle mmrec-control-{switch}" data-name="{switch}" data-key="{switch}" '
            f'aria-label="use the loss term {html.escape(label)}" title="Untick to leave the term out altogether">'
        )
    text = html.escape(label)
    return (
        f'<div class="mmrec-row mmrec-slide">{front}<label for="{key}" title="{html.escape(tip)}">{text}</label>'
        f'<input type="text" inputmode="decimal" class="mmrec-value" data-of="{name}" data-key="{name}-value" '
        f'aria-label="{text}, exact value" autocomplete="off" spellcheck="false">'
        f'<input type="range" id="{key}" class="mmrec-control-{name}" data-name="{name}" data-key="{name}" '
        f'data-scale="{"log" if log else "plain"}" min="{low:.6g}" max="{high:.6g}" step="{step:.6g}" '
        f'style="--default:{share:.4f}" title="{html.escape(tip)}"></div>'
    )


def section(name: str, title: str, inside: str, *, opened: bool = True, note: str = "") -> str:
    """Return a part that folds."""
    return (
        f'<details class="mmrec-section mmrec-section-{name}" data-key="section-{name}"{" open" if opened else ""}>'
        f"<summary>{html.escape(title)}{f'<em>{html.escape(note)}</em>' if note else ''}</summary>{inside}</details>"
    )


def control_html(control: Control, value: Any, prefix: str) -> str:
    """Return a model's control as HTML."""
    label, tip = control.label or control.name, control.help
    if control.style == "log":
        low, high = math.log10(control.low), math.log10(control.high)
        if value > 0:
            low, high = min(low, math.floor(math.log10(value))), max(high, math.ceil(math.log10(value)))
        switch = f"{control.name}-on" if control.kind == "weight" else None
        return slider(control.name, label, tip, prefix, low, high, control.step, control.default, log=True, switch=switch)
    if control.style in ("float", "int"):
        low, high = min(control.low, value), max(control.high, value)
        return slider(control.name, label, tip, prefix, low, high, control.step, control.default)
    if control.style == "choice":
        return select(control.name, choices_of(control, value), label, tip, prefix)
    return tick(control.name, label, tip, prefix)


def choices_of(control: Control, value: Any) -> tuple[Any, ...]:
    """Return a list control's choices, the present value among them."""
    return tuple(control.choices) if value in control.choices else (*control.choices, value)


def _said(value: Any) -> str:
    return {"True": "on", "False": "off", "None": "none"}.get(str(value), str(value))


__all__ = ["Form", "Handle", "button", "choices_of", "control_html", "icon", "section", "select", "slider", "tick"]
