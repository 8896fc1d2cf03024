"""Views: projections, figures, and the live what-if panel.

``figures``, ``palette`` and ``projection`` need nothing but plotly and numpy; :func:`whatif` is loaded on first use, because it
needs a notebook's widgets.
"""

from __future__ import annotations

from typing import Any

from mmrec_teach.views import figures, palette
from mmrec_teach.views.figures import alt_text, show
from mmrec_teach.views.projection import Projector, align_to, is_warm, kept_neighbours, pca, warm_up

_LATER = {
    "whatif": "mmrec_teach.views.panel",
    "WhatIf": "mmrec_teach.views.panel",
    "Control": "mmrec_teach.views.studio",
    "Setting": "mmrec_teach.views.setting",
    "Studio": "mmrec_teach.views.studio",
    "replay": "mmrec_teach.views.setting",
    "whatif_protocol": "mmrec_teach.views.protocol",
}

__all__ = [
    "Control",
    "Projector",
    "Setting",
    "Studio",
    "WhatIf",
    "align_to",
    "alt_text",
    "figures",
    "is_warm",
    "kept_neighbours",
    "palette",
    "pca",
    "replay",
    "show",
    "warm_up",
    "whatif",
    "whatif_protocol",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value
