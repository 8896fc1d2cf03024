"""What a lesson imports: `from mmrec_teach.notebook import load, check, predict, …`.

A thin door and nothing else: each name lives in the part of the package that it belongs to, and is imported when first asked
for.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "load": "mmrec_teach.data",
    "check": "mmrec_teach.course.check",
    "predict": "mmrec_teach.course.ask",
    "reveal": "mmrec_teach.course.ask",
    "quiz": "mmrec_teach.course.ask",
    "hint": "mmrec_teach.course.hints",
    "solution": "mmrec_teach.course.hints",
    "whatif": "mmrec_teach.views",
    "whatif_protocol": "mmrec_teach.views",
    "figures": "mmrec_teach.views",
    "evaluate": "mmrec_teach.evaluation",
    "train": "mmrec_teach.training",
    "fit": "mmrec_teach.training",
    "create": "mmrec_teach.models",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    value = getattr(home, name, None)
    if value is None:  # a module of that package, such as views.figures
        value = importlib.import_module(f"{_HOME[name]}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)
