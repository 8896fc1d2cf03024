"""The whole setting of a run as a line of text: to copy, to send, to open again."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from mmrec_teach.views.panel_form import Form, Handle


class Share:
    """The pane.

    Args:
        prefix: of element ids.
        on_open: called with the text of a setting; what it raises is shown here.

    Attributes:
        widget: what shows it.
    """

    def __init__(self, prefix: str, on_open: Callable[[str], None]):
        self._on_open = on_open
        self._text = Handle("")
        self._note, self._prefix, self._refused = "", prefix, ""
        self.widget = Form(self._html(), "mmrec-sharebox", handles={"setting": self._text}, on_event=self._heard)

    @property
    def text(self) -> str:
        """The setting shown."""
        return self._text.value

    def show(self, text: str) -> None:
        """Show a setting."""
        if text != self._text.value:
            self._text.value = text

    def tell(self, note: str, kind: str = "status") -> None:
        """Say something below the fields; ``kind`` "alert" for errors."""
        self._note = (
            f'<p role="{kind}"{" class=mmrec-error" if kind == "alert" else ""}>{html.escape(note)}</p>' if note else ""
        )
        self.widget.html = self._html()

    def _html(self) -> str:
        mine, other = f"{self._prefix}-setting", f"{self._prefix}-open"
        return (
            f'<div class="mmrec-share"><label for="{mine}">This run, as text</label>'
            f'<input id="{mine}" class="mmrec-field mmrec-control-setting" data-name="setting" data-key="setting" readonly>'
            '<button type="button" class="mmrec-button" data-copy="setting" data-key="copy">Copy</button>'
            '<p class="mmrec-quiet">Model, data, weights, options, seed, and every weight moved while it trained. On one machine it '
            "repeats the run bit for bit.</p>"
            f'<label for="{other}">Open a setting</label>'
            f'<input id="{other}" value="{html.escape(self._refused)}" '
            f'class="mmrec-field mmrec-control-open" data-key="open" data-enter="open" autocomplete="off" '
            'spellcheck="false" placeholder="lightgcn?l2=0.01&amp;seed=3">'
            '<button type="button" class="mmrec-button" data-do="open" data-from="open" data-key="open-button">Open</button>'
            f"{self._note}</div>"
        )

    def _heard(self, content: Mapping[str, Any]) -> None:
        if content.get("do") != "open":
            return
        text = str(content.get("value") or "").strip()
        try:
            self._on_open(text)
        except Exception as error:
            self._refused = text  # stays in its field, to be mended
            self.tell(str(error), "alert")
        else:
            self._refused = ""
            self.tell(f"Opened: {text}")


__all__ = ["Share"]
