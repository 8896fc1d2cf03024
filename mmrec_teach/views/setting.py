"""A run in one line of text: everything its numbers depend on, short enough to send to a friend.

``lightgcn?l2=0.01&n_layers=3&seed=2`` names a model and what differs from the defaults. ``l2@120=0.1`` is a weight that was
moved while training, after 120 steps. :func:`replay` trains the run again, and on one machine gives the same numbers bit for bit.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import DataError, OptionError, guess
from mmrec_teach.models import MODELS, Recommender, model_class
from mmrec_teach.training import EpochRecord, Trainer
from mmrec_teach.training.experiments import data_key
from mmrec_teach.views.controls import constructor_options

LR, BATCH_SIZE, EPOCHS = 5e-3, 1024, 40  # of a studio that is told nothing else
BAZAARS = ("bazaar", "bazaar/garden", "bazaar/kitchen", "bazaar/attic")
_SAFE = "?@:,;!$'()*/=[]"  # may stand in the query of a link as they are

Factory = Callable[..., Recommender]


@dataclass(frozen=True)
class Setting:
    """Everything that decides a run's numbers on one machine.

    Attributes:
        model: registered name; for a class or factory of your own its name, and whoever opens the setting brings the factory.
        data: the data set's name.
        data_hash: what tells it from others of that name, before the switches; "" if not known.
        switches: what is changed in the data.
        options: constructor options, all of them.
        weights: loss term -> weight to begin with, all of them; 0 is off.
        lr, batch_size, seed: of the training loop; the seed also of the model.
        epochs: whole epochs.
        steps: steps of one more epoch, for a state in the middle of it.
        changes: ((step, {term: weight}), …): weights moved while training, ascending; the first step they count for is the
            one after ``step`` steps.

    Raises:
        OptionError: numbers out of range, changes that do not ascend.
    """

    model: str
    data: str = "bazaar"
    data_hash: str = ""
    switches: Switches = field(default_factory=Switches)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    lr: float = LR
    batch_size: int = BATCH_SIZE
    seed: int = 0
    epochs: int = EPOCHS
    steps: int = 0
    changes: tuple[tuple[int, Mapping[str, float]], ...] = ()

    def __post_init__(self) -> None:
        plain = {
            "options": {name: _plain(value) for name, value in self.options.items()},
            "weights": {name: float(value) for name, value in self.weights.items()},
            "changes": tuple((int(s), {t: float(w) for t, w in c.items()}) for s, c in self.changes),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        for name, low in (("batch_size", 1), ("seed", 0), ("epochs", 0), ("steps", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise OptionError(
                    "number out of range", where=f"setting {name}", found=repr(value), expected=f"a whole number, {low} or more"
                )
        places = [step for step, _ in self.changes]
        if places != sorted(set(places)) or any(step < 0 for step in places):
            raise OptionError(
                "changes do not follow each other", where="setting changes", found=places, expected="ascending steps, 0 or more"
            )

    # -- text --------------------------------------------------------------------------------------------------------------
    def to_text(self, factory: Factory | None = None) -> str:
        """Return the setting as text: the model, and what differs from the defaults. Safe in a link.

        Args:
            factory: the model's class or factory, where it is not a registered model.
        """
        weights, options = _defaults(self.model, factory, missing_ok=True)
        parts = [("data", self.data)] if self.data != "bazaar" else []
        if self.data_hash and not (self.data in BAZAARS and self.data_hash == _stored_hash(self.data)):
            parts.append(("data.hash", self.data_hash))
        usual = Switches()
        for f in fields(Switches):
            value = getattr(self.switches, f.name)
            if value != getattr(usual, f.name) and (f.name != "seed" or self.switches):
                parts.append((f"data.{f.name}", ",".join(value) if f.name == "without" else value))
        parts += [(n, v) for n, v in self.options.items() if n not in options or _plain(options[n]) != v]
        parts += [(n, v) for n, v in self.weights.items() if weights.get(n) != v]
        for name, default in (("lr", LR), ("batch_size", BATCH_SIZE), ("seed", 0), ("epochs", EPOCHS), ("steps", 0)):
            if getattr(self, name) != default:
                parts.append((name, getattr(self, name)))
        parts += [(f"{term}@{step}", weight) for step, change in self.changes for term, weight in change.items()]
        query = "&".join(f"{quote(name, safe=_SAFE)}={quote(_say(value), safe=_SAFE)}" for name, value in parts)
        return quote(self.model, safe="-._") + (f"?{query}" if query else "")

    @classmethod
    def from_text(cls, text: str, factory: Factory | None = None) -> Setting:
        """Return the setting that :meth:`to_text` wrote; what it leaves out has its default.

        Args:
            text: such as ``"bm3?align=0&data.without=image&seed=3"``.
            factory: the model's class or factory, where it is not a registered model.

        Raises:
            OptionError: an unknown model, a name the model does not have, a value that is none; the sentence says which part.
        """
        if not isinstance(text, str) or not text.strip():
            raise OptionError(
                "not a setting", where="setting", found=repr(text), expected="text such as lightgcn?l2=0.01&seed=2"
            )
        model, _, query = text.strip().partition("?")
        model = unquote(model)
        weights, options = _defaults(model, factory)
        values: dict[str, Any] = {}
        switches: dict[str, Any] = {}
        changes: dict[int, dict[str, float]] = {}
        weights, seen = dict(weights), set()
        options = {name: _plain(value) for name, value in options.items()}
        for part in filter(None, query.split("&")):
            name, equals, raw = (unquote(p) for p in part.partition("="))
            where = f"setting, part {part!r}"
            if not equals:
                raise OptionError("no value", where=where, expected="NAME=VALUE")
            if name in seen:
                raise OptionError("named twice", where=where, found=name, expected="each name once")
            seen.add(name)
            term, at, step = name.rpartition("@")
            if at and term in weights:
                if not step.isdecimal():
                    raise OptionError("not a step", where=where, found=repr(step), expected="a whole number after the @")
                changes.setdefault(int(step), {})[term] = _weight(raw, where)
            elif name in weights:
                weights[name] = _weight(raw, where)
            elif name in options:
                value = _plain(_read(raw))
                floats = isinstance(options[name], float) and type(value) is int
                options[name] = float(value) if floats else value
            elif name == "data":
                values["data"] = raw
            elif name == "data.hash":
                values["data_hash"] = raw
            elif name.startswith("data.") and name.removeprefix("data.") in {f.name for f in fields(Switches)}:
                key = name.removeprefix("data.")
                switches[key] = tuple(filter(None, raw.split(","))) if key == "without" else _read(raw)
            elif name in ("lr", "batch_size", "seed", "epochs", "steps"):
                values[name] = _number(raw, name, where)
            else:
                known = [*weights, *options, "data", "lr", "batch_size", "seed", "epochs", "steps"]
                known += [f"data.{f.name}" for f in fields(Switches)]
                raise OptionError(
                    f"{model} has no such setting",
                    where=where,
                    found=repr(name),
                    expected=", ".join(known),
                    fix=guess(name, known),
                )
        return cls(
            model=model,
            options=options,
            weights=weights,
            switches=Switches.from_json(switches),
            changes=tuple(sorted(changes.items())),
            **values,
        )

    def link(self, base: str, factory: Factory | None = None) -> str:
        """Return ``base`` with the setting in its query, as ``setting=…``.

        Args:
            base: an address such as ``"http://localhost:8866/"``; what it has of a query stays.
            factory: as in :meth:`to_text`.
        """
        parts = urlsplit(base)
        text = quote(self.to_text(factory), safe="?@:,;!$'()*/=")  # a second time: & and % must survive
        query = f"{parts.query}&setting={text}" if parts.query else f"setting={text}"
        return urlunsplit(parts._replace(query=query))

    # -- use ---------------------------------------------------------------------------------------------------------------
    def check(self, data: Dataset) -> None:
        """Say that ``data`` is another data set than the setting's, if it is.

        Raises:
            DataError: another name, or other contents.
        """
        key = data_key(data)
        if (self.data, self.data_hash or key["hash"]) != (key["name"], key["hash"]):
            named = self.data != key["name"]
            raise DataError(
                "the setting is of other data",
                where="setting",
                found=f"the data set {key['name']!r}" if named else f"{key['name']!r} with hash {key['hash']}",
                expected=f"{self.data!r}" if named else f"{self.data!r} with hash {self.data_hash}",
                fix="Open the data set that the setting was made with",
            )

    def load(self) -> Dataset:
        """Return the setting's data set, before the switches, where the package knows it by name.

        Raises:
            DataError: not an embedded data set, or its contents have changed.
        """
        if self.data not in BAZAARS:
            raise DataError(
                "not an embedded data set",
                where="setting",
                found=repr(self.data),
                expected=", ".join(BAZAARS),
                fix="Open the data yourself and pass it along",
            )
        data = load(self.data)
        self.check(data)
        return data

    def build(self, data: Dataset, factory: Factory | None = None) -> Recommender:
        """Return the untrained model on ``data`` (switches applied by the caller)."""
        factory = factory or model_class(self.model)
        known = constructor_options(factory)
        return factory(data, **{n: v for n, v in self.options.items() if n in known}, seed=self.seed)


class _Enough(Exception):  # noqa: N818 - no error
    """Ends an epoch in the middle."""


def replay(
    setting: Setting,
    data: Dataset | None = None,
    factory: Factory | None = None,
    *,
    metrics_every: int = 1,
    device: str = "auto",
) -> tuple[Recommender, list[EpochRecord]]:
    """Train a setting's run again, moved weights included.

    Args:
        setting: the run.
        data: its data set before the switches; None loads it, where it is embedded.
        factory: the model's class or factory, where it is not a registered model.
        metrics_every: validate after every so many epochs; 0 never. Changes no other number.
        device: where to train.

    Returns:
        the trained model and one record an epoch.

    Raises:
        DataError: other data than the setting's.
        OptionError: a model or option that does not exist.
    """
    if data is None:
        data = setting.load()
    else:
        setting.check(data)
    data = setting.switches.apply(data)
    weights = dict(setting.weights)
    due = dict(setting.changes)
    model = setting.build(data, factory)
    trainer = Trainer(
        model,
        data,
        weights=weights,
        batch_size=setting.batch_size,
        lr=setting.lr,
        seed=setting.seed,
        metrics_every=metrics_every,
        device=device,
    )
    weights.update(due.get(0, {}))
    left = [0]

    def after_step(step: int) -> None:
        weights.update(due.get(step, {}))
        if left[0]:
            left[0] -= 1
            if not left[0]:
                raise _Enough

    history = [trainer.epoch(after_step) for _ in range(setting.epochs)]
    if setting.steps:
        left[0] = setting.steps
        with contextlib.suppress(_Enough):
            trainer.epoch(after_step)
    return model, history


def setting_of(
    name: str, data: Dataset, factory: Factory | None = None, *, switches: Switches | None = None, **values: Any
) -> Setting:
    """Return the setting of a model on ``data``, everything not named at its default.

    Args:
        name: the model's name.
        data: the data set before the switches.
        factory: the model's class or factory, where it is not a registered model.
        switches: what is changed in the data.
        values: ``options``, ``weights`` (only those that differ), ``lr``, ``seed``, ``epochs``…
    """
    weights, options = _defaults(name, factory)
    key = data_key(data)
    return Setting(
        model=name,
        data=key["name"],
        data_hash=key["hash"],
        switches=switches or Switches(),
        options={**options, **values.pop("options", {})},
        weights={**weights, **values.pop("weights", {})},
        **values,
    )


def factory_name(model: Factory) -> str:
    """Return the name by which a class or factory goes: registered, or its own."""
    for name, registered in MODELS.items():
        if registered is model:
            return name
    return getattr(model, "__name__", type(model).__name__)


# -- parts of the text -----------------------------------------------------------------------------------------------------
def _defaults(model: str, factory: Factory | None, missing_ok: bool = False) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    if factory is None and missing_ok and model not in MODELS:
        return {}, {}
    factory = factory or model_class(model)
    weights = getattr(factory, "default_weights", None) or {}
    return weights, constructor_options(factory)


_hashes: dict[str, str] = {}


def _stored_hash(name: str) -> str:
    if name not in _hashes:
        _hashes[name] = data_key(load(name))["hash"]
    return _hashes[name]


def _plain(value: Any) -> Any:
    """Return a value as text gives it back: numpy scalars as Python's, lists as tuples."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v) for v in value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value


_WORDS = {"true": True, "false": False, "none": None}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def _say(value: Any) -> str:
    """Return a value as text that :func:`_read` turns into the same value."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        text = repr(value)
        return text.removesuffix(".0").replace("e+", "e") if math.isfinite(value) else text  # a + is a space in a link
    if isinstance(value, int):
        return str(value)
    if (
        isinstance(value, str)
        and value.lower() not in _WORDS
        and not _NUMBER.fullmatch(value)
        and value[:1] not in tuple('["{')
    ):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def _read(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text):
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    if text[:1] in tuple('["{'):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _weight(text: str, where: str) -> float:
    value = _number(text, "weight", where)
    if value < 0:
        raise OptionError("a weight below 0", where=where, found=text, expected="0 or more; 0 is off")
    return float(value)


def _number(text: str, name: str, where: str) -> int | float:
    value = _read(text)
    whole = name in ("batch_size", "seed", "epochs", "steps")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise OptionError(
            f"{name} is no {'whole number' if whole else 'number'}", where=where, found=repr(text), expected="such as 3"
        )
    return value if whole else float(value)
