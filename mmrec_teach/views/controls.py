"""What a reader can change, read off the model: loss weights, constructor options, training settings, data switches."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmrec_teach.data import Dataset
from mmrec_teach.data.switches import FEATURES
from mmrec_teach.errors import OptionError
from mmrec_teach.models import Recommender


@dataclass(frozen=True)
class Control:
    """One thing a reader can change.

    Attributes:
        name: a loss term or a constructor option of the model, ``"lr"`` or ``"seed"``, or one of the data's switches.
        kind: what ``name`` is.
        style: how it is moved: "log" and "float" sliders, "int" slider, "choice", "switch", "several" (any of the choices).
        default: value to begin with.
        low, high, step: the slider's ends and step (powers of ten for "log": 1e-5 to 1e1).
        choices: for "choice".
        label: short, in front of the slider.
        help: one sentence, shown under the pointer and read by screen readers.
        on: for weights: whether the term is switched on to begin with.
    """

    name: str
    kind: Literal["weight", "option", "training", "data"]
    style: Literal["log", "float", "int", "choice", "switch", "several"]
    default: Any
    low: float = 0.0
    high: float = 1.0
    step: float = 0.1
    choices: tuple[Any, ...] = ()
    label: str = ""
    help: str = ""
    on: bool = True


_SIZES = (4, 8, 16, 32, 64, 128)
# What is known of common options beyond their type: style, low, high, step, choices, label, help.
_KNOWN: dict[str, dict[str, Any]] = {
    "dim": {
        "style": "choice",
        "choices": _SIZES,
        "label": "dimensions",
        "help": "Length of the ID vectors. Restarts training.",
    },
    "content_dim": {
        "style": "choice",
        "choices": _SIZES,
        "label": "content dims",
        "help": "Length of the content vectors. Restarts training.",
    },
    "n_layers": {
        "style": "int",
        "low": 0,
        "high": 8,
        "step": 1,
        "label": "layers",
        "help": "Propagation depth; 0 is matrix factorisation.",
    },
    "content_weight": {
        "style": "float",
        "low": 0.0,
        "high": 4.0,
        "step": 0.1,
        "label": "content weight",
        "help": "How much the score listens to content; 0 ignores it.",
    },
    "dropout": {
        "style": "float",
        "low": 0.0,
        "high": 0.95,
        "step": 0.05,
        "help": "Share of the numbers left out of a view; 0 leaves none out. Restarts training.",
    },
    "edge_dropout": {
        "style": "float",
        "low": 0.0,
        "high": 0.95,
        "step": 0.05,
        "label": "edge dropout",
        "help": "Share of the edges left out in training; 0 leaves none out. Restarts training.",
    },
    "momentum": {  # what matters lies close to 1: no slider with even steps
        "style": "choice",
        "choices": (0.0, 0.9, 0.99, 0.995, 1.0),
        "help": "Share of the old copy that stays at each step: 0 is no slow copy, 1 one that never moves. Restarts training.",
    },
    "regularizer": {
        "style": "choice",
        "choices": ("squared", "emb_norm"),
        "help": "Form of the penalty: the paper's or the released code's.",
    },
    "scaling": {
        "style": "choice",
        "choices": ("raw", "unit"),
        "help": "Features as they are, or every row scaled to length one.",
    },
}


def constructor_options(factory: Callable[..., Recommender]) -> dict[str, Any]:
    """Return option -> default of a model class or factory, without ``data`` and ``seed``."""
    function = factory.__init__ if inspect.isclass(factory) else factory
    parameters = list(inspect.signature(function).parameters.values())
    skip = {"self", "data", "seed"}
    return {
        p.name: p.default
        for p in parameters
        if p.name not in skip and p.default is not p.empty and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }


def terms_of(model: Recommender) -> tuple[str, ...]:
    """Return the loss terms that a model has under its options, in the order of its class."""
    return tuple(term for term in model.default_weights if term in model.terms)


def weight_control(term: str, default: float) -> Control:
    """Return the log slider with switch of a loss term, three powers of ten to either side of its default."""
    centre = default if default > 0 else 0.1
    power = round(math.log10(centre))
    return Control(
        term,
        "weight",
        "log",
        centre,
        10.0 ** (power - 3),
        10.0 ** (power + 2),
        0.1,
        label=term,
        help=f"Weight of the loss term {term}; untick to leave the term out altogether.",
        on=default != 0,
    )


def option_control(name: str, default: Any, choices: tuple[Any, ...] = ()) -> Control | None:
    """Return a control for a constructor option, or None where nothing says its range.

    Args:
        name: the option.
        default: its default.
        choices: the values it may have, where the model's class declares them.
    """
    known = dict(_KNOWN.get(name, {}))
    if choices:
        known = {"style": "choice", "choices": tuple(choices)} | {k: v for k, v in known.items() if k in ("label", "help")}
    label, text = (
        known.pop("label", name.replace("_", " ")),
        known.pop("help", f"Option {name} of the model. Restarts training."),
    )
    if known:
        if known["style"] == "choice" and default not in known["choices"]:
            known["choices"] = tuple(sorted({*known["choices"], default}, key=lambda v: (str(type(v)), v)))
        return Control(name, "option", default=default, label=label, help=text, **known)
    if isinstance(default, bool):
        return Control(name, "option", "switch", default, label=label, help=text)
    if isinstance(default, int):
        return Control(name, "option", "int", default, min(0, default), max(4, 2 * default), 1, label=label, help=text)
    if isinstance(default, float):
        if 0 <= default <= 1:
            return Control(name, "option", "float", default, 0.0, 1.0, 0.05, label=label, help=text)
        return Control(
            name, "option", "float", default, min(0.0, 2 * default), max(1.0, 2 * default), 0.1, label=label, help=text
        )
    return None


def controls_of(
    factory: Callable[..., Recommender], weights: Mapping[str, float], lr: float, wanted: Sequence[str | Control] | None = None
) -> tuple[Control, ...]:
    """Return the controls asked for, or all of the model's: every loss weight, every option with a known range.

    What a class says of its options' values in ``choices`` becomes a choice, such as a training strategy.

    Raises:
        OptionError: a name that is neither, or an option without a known range (pass a :class:`Control` for it).
    """
    options = constructor_options(factory)
    declared = dict(getattr(factory, "choices", None) or {})
    known: dict[str, Control | None] = {
        name: option_control(name, default, declared.get(name, ())) for name, default in options.items()
    }
    known |= {term: weight_control(term, default) for term, default in weights.items()}
    known["lr"] = Control("lr", "training", "log", lr, 1e-4, 1e-1, 0.1, label="learning rate", help="Adam's step size.")
    if wanted is None:
        order = [*weights, *(n for n in options if n not in weights)]
        return tuple(c for n in order if (c := known[n]) is not None and (n in declared or not isinstance(c.default, str)))
    chosen = []
    for name in wanted:
        if isinstance(name, Control):
            if (name.kind == "weight" and name.name not in weights) or (name.kind == "option" and name.name not in options):
                raise OptionError(
                    "a control for something the model does not have",
                    where="controls",
                    found=repr(name.name),
                    expected=", ".join(known),
                )
            chosen.append(name)
            continue
        if name == "seed":
            continue  # always there
        if name not in known:
            raise OptionError(
                "no such control", where="controls", found=repr(name), expected=", ".join(n for n, c in known.items() if c)
            )
        control = known[name]
        if control is None:
            raise OptionError(
                "no range is known for this option",
                where="controls",
                found=repr(name),
                fix=f"Pass Control({name!r}, 'option', 'choice', default, choices=(...)) instead of the name",
            )
        chosen.append(control)
    return tuple(chosen)


def switch_controls(data: Dataset) -> tuple[Control, ...]:
    """Return a control for each switch that means something to ``data``; see :class:`~mmrec_teach.data.switches.Switches`."""
    share = {"style": "float", "low": 0.0, "high": 0.9, "step": 0.05}
    content = (
        Control("without", "data", "several", (), choices=data.modalities, label="without", help="Modalities left out."),
        Control(
            "features", "data", "choice", "own", choices=FEATURES, label="features",
            help="What stands in the feature tables: the items' own, another item's, zeros, or noise.",
        ),
        Control("missing", "data", default=0.0, label="missing", help="Share of the items that lose a modality.", **share),
    )  # fmt: skip
    clicks = (
        Control("cold", "data", default=0.0, label="made cold", help="Share of the items that nobody has bought yet.", **share),
        Control(
            "keep", "data", "float", 1.0, 0.1, 1.0, 0.05, label="kept", help="Share of the training interactions that stay."
        ),
    )
    return (content if data.modalities else ()) + clicks
