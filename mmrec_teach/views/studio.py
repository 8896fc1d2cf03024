"""The engine of the what-if panel, without a widget in it: settings in, updates out.

A :class:`Studio` owns one model class, one data set and at most one worker thread. What a changed control does is the reader's
choice: in "restart" mode (cold) the run in progress is broken off and the next starts from the seed, so that runs compare; in
"continue" mode (warm) a changed weight acts from the next step on, under the model as it is. Either way a first picture follows
after a few steps, not after an epoch. Whatever happens is told to a listener as an :class:`Update`; an exception ends the run
and is told as well.

Looking never changes a number: pictures, gauges and lists leave the model and its random numbers as they were, so a run is
decided by its :class:`~mmrec_teach.views.setting.Setting` alone, however often it was drawn.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import MMRecTeachError, OptionError
from mmrec_teach.evaluation import Evaluation
from mmrec_teach.models import Batch, Recommender, model_class
from mmrec_teach.training import GradientReport, Trainer, gradient_report
from mmrec_teach.training.experiments import data_key
from mmrec_teach.training.loop import Snapshot
from mmrec_teach.training.state import undisturbed
from mmrec_teach.views import gauges as measured
from mmrec_teach.views.colourings import colourings, error_colourings, hover_texts
from mmrec_teach.views.controls import Control, constructor_options, controls_of, switch_controls
from mmrec_teach.views.pins import Pin
from mmrec_teach.views.projection import Projector, is_warm, warm_up, warm_up_error
from mmrec_teach.views.setting import BATCH_SIZE, EPOCHS, LR, Setting, factory_name
from mmrec_teach.views.toplists import Reference, ranking, top_list
from mmrec_teach.views.updates import Kind, Picture, Run, TopItem, TopList, Update, say, side

__all__ = [
    "Control",
    "Picture",
    "Run",
    "Studio",
    "TopItem",
    "TopList",
    "Update",
    "colourings",
    "constructor_options",
    "controls_of",
    "hover_texts",
    "say",
    "side",
]

ENDLESS = 1_000_000  # a trainer of the caller's own is a generator: we stop asking; it never ends by itself
FIRST_PICTURE = 0.06  # seconds of training between a moved control and its first picture
LONG = 0.3  # seconds without a picture after which one is drawn in the middle of an epoch
QUICK_EPOCHS = 8  # of UMAP, for that picture; the next ones refine it
LEVELS = 12  # changes that can be undone
UNDO_BYTES = 256 << 20  # of model and optimiser copies kept for that
GATHER = 0.8  # seconds within which movements of one slider are one change


class _Broken(Exception):  # noqa: N818 - no error
    """Breaks an epoch off between two steps."""


@dataclass
class _Session:
    """One model being trained, and what belongs to it."""

    run: Run
    model: Recommender
    data: Dataset
    weights: dict[str, float]  # read by the loop at every step; only the worker writes
    trainer: Trainer | None = None  # None: the caller's own loop
    records: Iterator[Any] | None = None
    plan: dict[int, Mapping[str, float]] = field(default_factory=dict)  # of a replayed setting: step -> weights
    stop_at: int | None = None  # steps, likewise
    probe: Batch | None = None  # the batch that gradients are compared on

    @property
    def steps(self) -> int:
        return self.trainer.steps_done if self.trainer is not None else 0


@dataclass(frozen=True)
class _Board:
    """Where the controls stand."""

    values: Mapping[str, Any]
    off: frozenset[str]
    switches: Switches
    fixed: Mapping[str, Any]


@dataclass
class _Change:
    """A change of a control that can be undone."""

    name: str
    at: float
    board: _Board  # before it
    session: _Session | None = None  # "continue" mode: the run it acted on …
    snapshot: Snapshot | None = None  # … and that run's state before it; None with ``applied``: as it was left
    applied: bool = False
    setting: Setting | None = None
    label: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    until: int = 0


class Studio:
    """One model, one data set, live: see the module's first lines.

    Args:
        model: a registered name, a :class:`Recommender` class, or a factory ``(data, *, options, seed)``; None with ``setting``.
        data: what to train on; None opens the setting's data set, or the bazaar.
        controls: names or :class:`Control` objects; None for all.
        views: views to draw; None draws ``item/final`` (or the model's first item view).
        epochs: how many epochs a run takes before it pauses.
        metric: the validation metric to follow.
        options: fixed constructor options.
        weights: loss weights to begin with.
        lr, batch_size: of the training loop.
        listener: called with every :class:`Update`, in the worker thread.
        trainer: a loop of the caller's own with the arguments of :func:`~mmrec_teach.training.train`; pictures then come between
            epochs only, and undo brings back settings only. None for the package's.
        points: at most so many rows of a table are drawn (a fixed sample).
        debounce: seconds a changed control must rest before the next run starts.
        interval: seconds between pictures at least; every epoch is told, but not every one is drawn.
        umap: draw UMAP once it is compiled; False keeps to PCA.
        switches: what is changed in the data.
        tug: measure the loss terms' gradients with each picture.
        setting: begin with this setting, text or :class:`Setting`; ``run()`` then repeats its run.

    Attributes:
        runs: all runs, the present one last.
        pins: pinned runs, in order.
        last: the last :class:`Update`, or None.
        user: the chosen user's index, or None.
        mode: "restart" or "continue".

    Raises:
        OptionError: unknown model, control or view, or a model without anything to train.
    """

    def __init__(
        self,
        model: str | type[Recommender] | Callable[..., Recommender] | None = None,
        data: Dataset | None = None,
        *,
        controls: Sequence[str | Control] | None = None,
        views: Sequence[str] | None = None,
        epochs: int = EPOCHS,
        metric: str = "recall@20",
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, float] | None = None,
        lr: float = LR,
        batch_size: int = BATCH_SIZE,
        seed: int = 0,
        mode: Literal["restart", "continue"] = "restart",
        listener: Callable[[Update], None] | None = None,
        trainer: Callable[..., Iterator[Any]] | None = None,
        points: int = 1500,
        debounce: float = 0.12,
        interval: float = 0.15,
        umap: bool = True,
        switches: Switches | None = None,
        tug: bool = True,
        setting: str | Setting | None = None,
    ):
        if isinstance(setting, str):
            setting = Setting.from_text(setting, None if isinstance(model, str) else model)
        if model is None:
            if setting is None:
                raise OptionError("no model", where="Studio", expected="a model, or a setting that names one")
            model = setting.model
        self.factory = model_class(model) if isinstance(model, str) else model
        self.name = model if isinstance(model, str) else factory_name(model)
        if data is None:
            data = setting.load() if setting is not None else load("bazaar")
        if not isinstance(epochs, int) or epochs < 1:
            raise OptionError(
                "number of epochs out of range", where="epochs", found=epochs, expected="a whole number, 1 or more"
            )
        self.data, self.epochs, self.metric, self.batch_size = data, epochs, metric, batch_size
        self.fixed = dict(options or {})
        unknown = set(self.fixed) - set(constructor_options(self.factory))
        if unknown:
            raise OptionError(
                "the model has no such option",
                where="options",
                found=", ".join(map(repr, sorted(unknown))),
                expected=", ".join(constructor_options(self.factory)),
            )
        self._switches = switches if switches is not None else Switches()
        self._switched: tuple[Switches, Dataset] = (Switches(), data)
        # says at once, in the caller's cell, what is wrong with model, data or options
        probe = self.factory(self.switched, **{**self.fixed, "seed": seed})
        if not probe.trainable:
            raise OptionError(f"{self.name} has nothing to train", where="whatif", expected="a model with loss terms")
        self.default_weights = probe.check_weights(weights)
        with probe.evaluating():
            self._shapes = {k: tuple(v.shape) for k, v in probe.views().items()}
        self._same_space = bool(getattr(probe, "same_space", True))
        self.available_views = tuple(self._shapes)
        self.views: tuple[str, ...] = ()
        self.views = self._known_views(views) if views is not None else _default_view(self._shapes)
        self.controls = controls_of(self.factory, self.default_weights, lr, controls)
        self.switch_controls = switch_controls(data)
        self.values: dict[str, Any] = {"lr": lr, "seed": seed}
        self.values |= {c.name: self.fixed.get(c.name, c.default) for c in self.controls}
        self.values |= {t: w for t, w in self.default_weights.items() if w != 0 or t not in self.values}
        self.off = {t for t, w in self.default_weights.items() if w == 0}
        self.mode, self.tug = mode, tug
        self.points = points
        self.rows: dict[str, np.ndarray] = {}
        for view, shape in {**self._shapes, "user/": (data.n_users,), "item/": (data.n_items,)}.items():
            self._rows(side(view), shape[0])

        self.listener, self.debounce, self.interval, self.umap = listener, debounce, interval, umap
        self._train = trainer
        self.projectors: dict[tuple[str, ...], Projector] = {}
        self.runs: list[Run] = []
        self.pins: tuple[Pin, ...] = ()
        self.last: Update | None = None
        self.number = 0
        self.user: int | None = None
        self._reference: Reference | None = None
        self._against: int | None = None  # number of the pin that lists are compared with
        self._tables: dict[str, np.ndarray] = {}  # drawn rows of the last pictures
        self._drawn = (0, 0, 0)  # epochs, steps, steps of the epoch in progress at the last pictures
        self._ranking: np.ndarray | None = None
        self._session: _Session | None = None
        self._replay: Setting | None = None  # the next run repeats it
        self._until, self._drawn_at = 0, 0.0
        self._pins_made = 0
        self._changes: list[_Change] = []
        self._data_key: dict[str, Any] | None = None
        # everything below is guarded by the condition
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._request: Literal["restart", "continue", "step", "undo", "draw"] | None = None
        self._undone: tuple[_Change, bool] | None = None
        self._due = 0.0
        self._training = False
        self._settled = False  # all told but for a last picture that waits for UMAP
        self._stale = False  # the controls ask for another run than the present one
        self._moved = False  # … or for other weights under it
        self._hurry: float | None = None  # draw as soon as this time is FIRST_PICTURE ago
        self._turn = 0  # a job works for one turn; whoever wants it to end takes the next
        self._closed = False
        # whoever looks at the model from another thread takes turns with the worker's steps
        self._model_lock = threading.Lock()
        self._visitors = 0
        if setting is not None:
            self._adopt(setting)

    # -- settings ----------------------------------------------------------------------------------------------------------
    @property
    def weights(self) -> dict[str, float]:
        """Loss term -> weight as set now; switched-off terms are 0."""
        return {t: 0.0 if t in self.off else float(self.values.get(t, w)) for t, w in self.default_weights.items()}

    @property
    def options(self) -> dict[str, Any]:
        """Constructor options as set now."""
        return self.fixed | {c.name: self.values[c.name] for c in self.controls if c.kind == "option"}

    @property
    def switches(self) -> Switches:
        """What is changed in the data now."""
        return self._switches

    @switches.setter
    def switches(self, value: Switches) -> None:
        if value == self._switches:
            return
        value.apply(self.data)  # says at once what is wrong
        self._remember("switches")
        self._switches = value
        self._changed(live=False)

    @property
    def switched(self) -> Dataset:
        """The data set with the switches applied, as the next run sees it."""
        if self._switched[0] != self._switches:
            self._switched = (self._switches, self._switches.apply(self.data))
        return self._switched[1]

    @property
    def pair(self) -> tuple[str, str] | None:
        """The two views of the same items that are drawn in one space when both are drawn, or None."""
        return measured.paired_views(self._shapes, self._same_space)

    def settings(self) -> dict[str, Any]:
        """Everything a run depends on, by name."""
        told = {**self.weights, **self.options, "lr": self.values["lr"], "seed": self.values["seed"]}
        return told | ({"data": self._switches.words()} if self._switches else {})

    def set(self, name: str, value: Any) -> None:
        """Move a control. A weight in "continue" mode acts on the run in progress; anything else restarts."""
        if name not in self.values:
            raise OptionError("no such control", where="Studio.set", found=repr(name), expected=", ".join(self.values))
        if self.values[name] == value:
            return
        self._remember(name)
        self.values[name] = value
        if name in self.default_weights and name in self.off:
            return  # moving the slider of a term that is switched off changes nothing
        self._changed(live=name in self.default_weights)

    def switch(self, term: str, on: bool) -> None:
        """Switch a loss term on or off (off: weight zero, the term is not computed)."""
        if term not in self.default_weights:
            raise OptionError(
                "no such loss term", where="Studio.switch", found=repr(term), expected=", ".join(self.default_weights)
            )
        if on != (term in self.off):
            return
        self._remember(f"{term} on or off")
        (self.off.discard if on else self.off.add)(term)
        self._changed(live=True)

    def set_switch(self, name: str, value: Any) -> None:
        """Change one of the data switches by name (``"without"``, ``"features"``, ``"cold"``…). Restarts.

        Raises:
            OptionError: no such switch, or a value it does not take.
        """
        known = self._switches.to_json()
        if name not in known:
            raise OptionError("no such switch", where="Studio.set_switch", found=repr(name), expected=", ".join(known))
        self.switches = replace(self._switches, **{name: tuple(value) if isinstance(value, list) else value})

    def setting(self, run: Run | None = None) -> Setting:
        """Return the setting that repeats a run, or what the controls say.

        Args:
            run: one of ``runs``, as far as it has come. None: the present run, its planned end included; or the run that the
                controls ask for, where none has been started with them.
        """
        session = self._session
        if run is None:
            if session is None or self._stale:
                return self._board_setting()
            run = session.run
            done = self._until if self._training else len(run.history)
        else:
            done = len(run.history)
        steps = 0
        if session is not None and session.run is run and not self._training and session.trainer is not None:
            steps = session.trainer.steps_this_epoch
        return replace(run.setting, epochs=done, steps=steps)

    def apply_setting(self, setting: Setting | str, start: bool = True) -> None:
        """Put all controls where ``setting`` has them and repeat its run, moved weights included.

        Args:
            setting: of this model and data set.
            start: also start the run; else ``run()`` does.

        Raises:
            OptionError: another model, an option or term it does not have.
            DataError: another data set.
        """
        if isinstance(setting, str):
            setting = Setting.from_text(setting, None if self.name == setting.partition("?")[0] else self.factory)
        self._remember("setting")
        self._adopt(setting)
        if start:
            self._ask("restart", 0.0)

    def _adopt(self, setting: Setting) -> None:
        if setting.model != self.name:
            raise OptionError(
                "the setting is of another model",
                where="setting",
                found=repr(setting.model),
                expected=repr(self.name),
                fix="open it with whatif(setting=...) or Studio(setting=...)",
            )
        setting.check(self.data)
        for name in setting.options:
            if name not in constructor_options(self.factory):
                raise OptionError("the model has no such option", where="setting", found=repr(name))
        for names in (setting.weights, *(change for _, change in setting.changes)):
            for term in names:
                if term not in self.default_weights:
                    raise OptionError("the model has no such loss term", where="setting", found=repr(term))
        setting.switches.apply(self.data)
        weights = dict(setting.weights)
        for _, change in setting.changes:
            weights.update(change)
        with self._condition:
            controlled = {c.name for c in self.controls if c.kind == "option"}
            self.fixed |= {n: v for n, v in setting.options.items() if n not in controlled}
            self.values |= {n: v for n, v in setting.options.items() if n in controlled}
            self.off = {t for t, w in weights.items() if w == 0}
            self.values |= {t: w for t, w in weights.items() if w != 0}
            self.values |= {"lr": setting.lr, "seed": setting.seed}
            self.batch_size, self._switches = setting.batch_size, setting.switches
            self._replay, self._stale = setting, True

    def _board_setting(self) -> Setting:
        if self._replay is not None:
            return self._replay
        if self._data_key is None:
            self._data_key = data_key(self.data)
        known = constructor_options(self.factory)
        return Setting(
            model=self.name,
            data=self._data_key["name"],
            data_hash=self._data_key["hash"],
            switches=self._switches,
            options={**known, **self.options},
            weights=self.weights,
            lr=float(self.values["lr"]),
            batch_size=self.batch_size,
            seed=int(self.values["seed"]),
            epochs=self.epochs,
        )

    def _changed(self, live: bool) -> None:
        """A control was moved. ``live``: it can act on the run in progress."""
        with self._condition:
            self._replay = None
            session = self._session
            if live and self.mode == "continue" and session is not None and not self._stale:
                self._moved = True
                self._until = self._epoch() + self.epochs
                if not self._training:
                    self._ask("continue", 0.0, cancel=False)
                return
            self._stale = True
        self._ask("restart", self.debounce)

    # -- undo --------------------------------------------------------------------------------------------------------------
    def _board(self) -> _Board:
        return _Board(dict(self.values), frozenset(self.off), self._switches, dict(self.fixed))

    def _remember(self, name: str) -> None:
        """Note where the controls stand, before a change of ``name``."""
        with self._condition:
            now = time.monotonic()
            if self._changes and self._changes[-1].name == name and now - self._changes[-1].at < GATHER:
                self._changes[-1].at = now
                return
            warm = self.mode == "continue" and not self._stale
            self._changes.append(_Change(name, now, self._board(), self._session if warm else None, until=self._until))
            del self._changes[:-LEVELS]

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._changes)

    def undo(self) -> None:
        """Take back the last change of a control.

        In "continue" mode the model and optimiser also go back to what they were before it, at once, and a run in progress goes
        on from there. In "restart" mode the run before is trained again.
        """
        with self._condition:
            if not self._changes or self._closed:
                return
            change = self._changes.pop()
            before = self.settings()
            self.values, self.off = dict(change.board.values), set(change.board.off)
            self._switches, self.fixed = change.board.switches, dict(change.board.fixed)
            self._replay = None
            if change.applied:
                training = self._training
                self._undone, self._stale, self._moved = (change, training), False, False
                self._ask("undo", 0.0)
                return
            if self.settings() == before:
                return
            session = self._session
            waiting = self._request == "continue" and not self._training
            if session is not None and self.weights == session.weights and waiting:
                self._request, self._moved = None, False  # it has not begun to act
                self._turn += 1
                self._condition.notify_all()
                return
        live = self.mode == "continue" and change.session is not None and change.session is self._session
        self._changed(live=live)

    # -- commands, from any thread ---------------------------------------------------------------------------------------
    def run(self) -> None:
        """Start a run; in "continue" mode go on with the last one, if there is one."""
        self._ask("continue" if self.mode == "continue" and self._session is not None else "restart", 0.0)

    def go_on(self) -> None:
        """Go on with the present run, in either mode; start one if there is none or the controls ask for another."""
        self._ask("continue", 0.0)

    def step(self) -> None:
        """Train one epoch of the present run (or of a new one, if there is none or the controls ask for another), then pause."""
        self._ask("step", 0.0)

    def stop(self) -> None:
        """Pause after the epoch in progress."""
        with self._condition:
            self._turn += 1
            self._request = None
            self._condition.notify_all()

    def close(self, wait: float = 0.0) -> None:
        """End for good; ``wait`` seconds at most for the worker."""
        with self._condition:
            self._closed = True
            self._turn += 1
            self._request = None
            self._condition.notify_all()
        self.join(wait)

    def join(self, timeout: float | None = None, picture: bool = True) -> bool:
        """Wait until nothing is running or waiting to run. Returns whether that came true.

        Args:
            timeout: seconds; None waits as long as it takes.
            picture: also wait for the last state to be drawn with UMAP, if that is still being compiled.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while self._thread is not None and not (self._settled and not picture):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._condition.wait(left)
        return True

    @property
    def busy(self) -> bool:
        """Whether a run is in progress or about to start."""
        with self._condition:
            return self._thread is not None

    def choose_views(self, views: Sequence[str]) -> None:
        """Draw these views from now on; the next picture comes at once.

        Raises:
            OptionError: no view, or one the model does not have.
        """
        self.views = self._known_views(views)
        self._redraw()

    def choose_user(self, user: int | None) -> None:
        """Follow this user's list from now on; None follows nobody.

        Raises:
            OptionError: no such user.
        """
        if user is not None and not 0 <= user < self.data.n_users:
            raise OptionError("no such user", where="choose_user", found=user, expected=f"0..{self.data.n_users - 1}")
        if user != self.user:
            self.user = None if user is None else int(user)
            self._reference = None
            self._redraw()

    def compare_with(self, number: int | None) -> None:
        """Compare lists with a pinned run's instead of with the state before the last change; None goes back to that.

        Raises:
            OptionError: no such pin.
        """
        if number is not None:
            self._pin(number)
        self._against = number
        self._redraw()

    def top(self, user: int | None = None, k: int = 10) -> TopList:
        """Return a user's ``k`` best items of the model as it is now, and what left the list.

        Args:
            user: an index; None for the chosen one. What entered and left is known of the chosen user only.
            k: how many.

        Raises:
            OptionError: nobody is chosen and no user named, or no such user.
        """
        user = self.user if user is None else user
        if user is None or not 0 <= user < self.data.n_users:
            raise OptionError("no such user", where="Studio.top", found=repr(user), expected=f"0..{self.data.n_users - 1}")
        session = self._session
        if session is None:
            return TopList(user, ())
        with self._visiting():
            scores = self._scores(session, user)
        return top_list(session.data, user, scores, k, self._compared(user))

    # -- pins --------------------------------------------------------------------------------------------------------------
    def pin(self, label: str | None = None) -> Pin:
        """Keep the present run as last drawn, to be compared with others.

        Args:
            label: a short name; None says what sets the run apart.

        Raises:
            OptionError: nothing has been drawn yet.
        """
        last, session = self.last, self._session
        if last is None or session is None or not last.pictures or last.run is None:
            raise OptionError("there is nothing to pin yet", where="Studio.pin", fix="run the model first")
        run, (epochs, steps, within) = last.run, self._drawn
        names = dict.fromkeys(name for r in run.history[:epochs] for name in (r.metrics or {}))
        curves = {}
        for name in names:
            pairs = [(e, v) for e, v in zip(*run.curve(name), strict=True) if e <= epochs]
            curves[name] = (tuple(e for e, _ in pairs), tuple(v for _, v in pairs))
        best = None
        if curves.get(self.metric, ((), ()))[0]:
            best = max(zip(*curves[self.metric], strict=True), key=lambda pair: (pair[1], -pair[0]))[0]
        record = run.history[epochs - 1] if epochs else None
        changes = tuple((step, change) for step, change in run.setting.changes if step <= steps)
        self._pins_made += 1
        pin = Pin(
            number=self._pins_made,
            label=label or self._distinction(run),
            setting=replace(run.setting, epochs=epochs, steps=within, changes=changes),
            epoch=epochs,
            steps=steps,
            metric=self.metric,
            curves=curves,
            metrics={} if best is None else {n: dict(zip(*c, strict=True))[best] for n, c in curves.items() if best in c[0]},
            best_epoch=best,
            losses=dict(record.losses) if record is not None else {},
            gauges=dict(last.gauges),
            tables={v: t.copy() for v, t in self._tables.items()},
            pictures={v: p.xy.copy() for v, p in last.pictures.items()},
            rows={v: p.rows.copy() for v, p in last.pictures.items()},
            methods={v: p.method for v, p in last.pictures.items()},
            kept={v: p.kept for v, p in last.pictures.items()},
            top=last.top,
            ranking=None if self._ranking is None or last.top is None else self._ranking.copy(),
            warm=bool(changes),
        )
        self.pins = (*self.pins, pin)
        return pin

    def unpin(self, number: int) -> None:
        """Forget a pin.

        Raises:
            OptionError: no such pin.
        """
        gone = self._pin(number)
        self.pins = tuple(p for p in self.pins if p is not gone)
        if self._against == number:
            self._against = None

    def _pin(self, number: int) -> Pin:
        for pin in self.pins:
            if pin.number == number:
                return pin
        raise OptionError(
            "no such pin", where="pins", found=repr(number), expected=", ".join(str(p.number) for p in self.pins) or "none yet"
        )

    def _distinction(self, run: Run) -> str:
        """What sets a run apart from the defaults, in a few words."""
        query = run.setting.to_text(self.factory).partition("?")[2]
        parts = [p for p in query.split("&") if p and not p.startswith(("data.hash=", "epochs=", "steps=", "data="))]
        return ", ".join(p.replace("=", " ") for p in parts) or "defaults"

    # -- colours -----------------------------------------------------------------------------------------------------------
    def colourings(self, which: str) -> dict[str, tuple[str, Any]]:
        """Return label -> (kind, values) of all that rows of a side can be coloured by now.

        What is known of the data (switches applied), and how the model errs: the share of an item's validation interactions
        that are missed ("missed"), a user's recall. These change with every epoch.

        Args:
            which: "item", "user", or another side, which is drawn plain.
        """
        session, evaluation = self._session, self.evaluation
        data = session.data if session is not None else self.switched
        found = colourings(data, which)
        if evaluation is not None:
            plain = found.pop("plain")
            found |= error_colourings(evaluation, data, which, self.cutoff)
            found["plain"] = plain
        return found

    @property
    def evaluation(self) -> Evaluation | None:
        """The present run's last validation in full, user by user, or None."""
        session = self._session
        return session.trainer.evaluation if session is not None and session.trainer is not None else None

    @property
    def cutoff(self) -> int:
        """The length of list that the followed metric judges."""
        cut = self.metric.partition("@")[2]
        return int(cut) if cut.isdecimal() and int(cut) > 0 else 20

    # -- the worker --------------------------------------------------------------------------------------------------------
    def _ask(self, what: Literal["restart", "continue", "step", "undo", "draw"], delay: float, cancel: bool = True) -> None:
        with self._condition:
            if self._closed:
                return
            self._turn += cancel
            self._request, self._due, self._settled = what, time.monotonic() + delay, False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"what-if {self.name}", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def _redraw(self) -> None:
        """Have the present state drawn as soon as possible."""
        with self._condition:
            if self._training:
                self._hurry = -FIRST_PICTURE  # long ago
            elif self._request is None and self._session is not None:
                self._ask("draw", 0.0, cancel=False)

    def _work(self) -> None:
        while True:
            with self._condition:
                while self._request is not None and (left := self._due - time.monotonic()) > 0:
                    self._condition.wait(left)
                if self._request is None:  # nothing to do: the thread ends, nothing lingers
                    self._thread = None
                    self._condition.notify_all()
                    return
                what, self._request, turn = self._request, None, self._turn
            try:
                self._job(what, turn)
            except Exception as error:
                with self._condition:
                    self._training, self._session, self._replay = False, None, None
                self._failed(error)

    def _job(self, what: str, turn: int) -> None:
        kind: Kind = "picture"
        if what == "draw":
            self._tell(kind, draw=True)
        else:
            kind = self._train_until_done(what, turn)
            if kind == "failed":
                return
        with self._condition:
            waiting = self._request is not None
        if not waiting and self.umap and not is_warm():
            self._await_umap(kind, self._turn)

    def _train_until_done(self, what: str, turn: int) -> Kind:
        until = None
        if what == "undo":
            until = self._go_back()
        elif what == "restart" or self._session is None or self._stale:
            until = self._begin()
            until = None if what == "step" else until
        session = self._session
        if what == "undo" and until is None:
            self._tell("stopped", draw=True)
            return "stopped"
        with self._condition:
            if until is None:
                until = self._epoch() + (1 if what == "step" else self.epochs)
            self._until, self._training = until, True
        self._tell("started", draw=self._epoch() == 0 or what == "undo", quick=True)
        if self.umap:
            warm_up()  # not earlier: the first picture should not wait for a compiler
        if self._epoch() == 0:
            self._hurry = time.monotonic()
        self._drawn_at = time.monotonic()
        while True:
            if self._moved:
                self._apply(session)
            with self._condition:
                if turn != self._turn or (self._epoch() >= self._until and session.stop_at is None):
                    self._training = False
                    break
            record = self._train_epoch(session, turn)
            if record is None:
                continue
            session.run.history.append(record)
            self.number += 1
            now = time.monotonic()
            hurry = self._hurry is not None and now - self._hurry >= FIRST_PICTURE
            due = hurry or now - self._drawn_at >= self.interval or record.epoch >= self._until
            self._tell("epoch", draw=due, quick=hurry)
            time.sleep(0.001)  # let the kernel's own thread have its turn
        with self._condition:
            waiting = self._request is not None  # then the next run's pictures come at once
            kind: Kind = "finished" if turn == self._turn else "stopped"
        self._tell(kind, draw=not waiting and not self.last.fresh)
        return kind

    def _train_epoch(self, session: _Session, turn: int) -> Any:
        """Return the next epoch's record, or None if it was broken off."""
        if session.trainer is None:
            return next(session.records)
        with self._model_lock:
            try:
                return session.trainer.epoch(lambda step: self._after_step(session, turn, step))
            except _Broken:
                return None

    def _after_step(self, session: _Session, turn: int, step: int) -> None:
        """Between two steps: obey the controls, let others look at the model, draw."""
        self._model_lock.release()
        try:
            planned = session.plan.pop(step, None)
            if planned is not None:
                self._move(session, planned)
            if session.stop_at == step:
                session.stop_at = None
                raise _Broken
            self._break_off(turn)
            if self._visitors:
                time.sleep(0.001)
            now = time.monotonic()
            if self._hurry is not None and now - self._hurry >= FIRST_PICTURE:
                self._tell("picture", draw=True, quick=True)
            elif now - self._drawn_at >= max(2 * self.interval, LONG):  # epochs are long
                self._tell("picture", draw=True)
            self._break_off(turn)
            if self._moved:
                self._apply(session)
        finally:
            self._model_lock.acquire()

    def _break_off(self, turn: int) -> None:
        """End the epoch here if another model is wanted; a mere stop waits for the epoch's end."""
        with self._condition:
            if self._closed or (turn != self._turn and self._request in ("restart", "undo")):
                raise _Broken

    def _apply(self, session: _Session) -> None:
        """Let the weights that were moved act from the next step on, and keep the state before them for undo."""
        with self._condition:
            self._moved = False
            wanted = self.weights
            pending = [c for c in self._changes if c.session is session and not c.applied]
        changed = {t: w for t, w in wanted.items() if session.weights.get(t) != w}
        if not changed:
            return
        if session.trainer is not None and pending:
            snapshot = session.trainer.snapshot()
            for change in pending:
                self._keep(change, session, snapshot)
            self._forget_old()
        session.plan.clear()
        session.stop_at = None
        words = ", ".join(f"{t} {say(session.weights[t])} → {say(w)}" for t, w in changed.items())
        self._refer(session, f"before {words}")
        session.run.label += f"; from epoch {len(session.run.history)} on {words}"
        self._move(session, changed)
        self._hurry = time.monotonic()

    def _move(self, session: _Session, weights: Mapping[str, float]) -> None:
        """Change weights under a session and write it down in its setting."""
        session.weights.update(weights)
        run, at = session.run, session.steps
        changes = dict(run.setting.changes)
        changes[at] = {**changes.get(at, {}), **weights}
        run.setting = replace(run.setting, changes=tuple(sorted(changes.items())))

    def _keep(self, change: _Change, session: _Session, snapshot: Snapshot | None) -> None:
        change.applied, change.snapshot = True, snapshot
        change.setting, change.label = session.run.setting, session.run.label
        change.weights, change.epochs = dict(session.weights), len(session.run.history)

    def _forget_old(self) -> None:
        """Keep no more copies of models than fit."""
        with self._condition:
            kept, total = set(), 0
            for n in range(len(self._changes) - 1, -1, -1):
                snapshot = self._changes[n].snapshot
                if snapshot is not None and id(snapshot) not in kept:
                    kept.add(id(snapshot))
                    total += snapshot.nbytes
                if total > UNDO_BYTES:
                    del self._changes[: n + 1]
                    return

    def _go_back(self) -> int | None:
        """Bring back the run of the change that is undone, as it was before; return the epoch it was to pause at."""
        with self._condition:
            change, training = self._undone
            self._undone = None
        session = change.session
        if change.snapshot is not None:
            session.trainer.restore(change.snapshot)
        session.plan.clear()
        session.stop_at = None
        session.weights.update(change.weights)
        run = session.run
        del run.history[change.epochs :]
        run.setting, run.label = change.setting, change.label
        self.runs = [*(r for r in self.runs if r is not run), run]
        self._session, self._reference = session, None
        return max(change.until, self._epoch() + 1) if training else None

    def _await_umap(self, kind: Kind, turn: int) -> None:
        """The run was over before UMAP was compiled: draw its last state once more when it is, unless something else comes."""
        while not is_warm():
            thread = warm_up()
            if thread is None or warm_up_error() is not None:
                return
            with self._condition:
                self._settled = True
                self._condition.notify_all()
                if turn != self._turn or self._request is not None or self._closed:
                    return
                self._condition.wait(0.1)
        self._tell(kind, draw=True)

    def _begin(self) -> int:
        """Start a new session with what the controls say; return the epoch to pause at."""
        old = self._session
        if old is not None:
            self._refer(old, f"the run before ({old.run.label})")
            if hasattr(old.records, "close"):
                old.records.close()
        with self._condition:
            self._session = None
            replayed, self._replay, self._stale, self._moved = self._replay, None, False, False
            settings, weights = self.settings(), self.weights
            for change in self._changes:
                if old is not None and change.session is old and not change.applied and old.trainer is not None:
                    self._keep(change, old, None)
        setting = replayed if replayed is not None else self._board_setting()
        if self.runs and not self.runs[-1].history:
            self.runs.pop()  # cancelled before its first epoch: nothing to compare with
        label = "first run"
        if self.runs:
            before = self.runs[-1].settings
            names = dict.fromkeys([*settings, *before])
            changes = [f"{n} {_told(before, n)} → {_told(settings, n)}" for n in names if before.get(n) != settings.get(n)]
            label = ", ".join(changes) or "same settings"
        run = Run((self.runs[-1].number if self.runs else 0) + 1, label, settings)
        run.setting = replace(setting, changes=(), epochs=0, steps=0)
        data = self.switched
        model = self.factory(data, **{**self.fixed, **self.options, "seed": setting.seed})
        session = _Session(run, model, data, dict(setting.weights) if replayed is not None else weights)
        common = {"weights": session.weights, "batch_size": self.batch_size, "lr": setting.lr, "seed": setting.seed}
        if self._train is not None:
            session.records = self._train(model, data, epochs=ENDLESS, metrics_every=1, **common)
        else:
            session.trainer = Trainer(model, data, ks=tuple(sorted({10, 20, self.cutoff})), **common)
        self._session = session
        self.runs = [*self.runs, run]
        for projector in self.projectors.values():
            projector.restart()
        if replayed is None:
            return self.epochs
        session.plan = dict(replayed.changes)
        if 0 in session.plan:
            self._move(session, session.plan.pop(0))
        per_epoch = -(-len(data.train) // self.batch_size)
        session.stop_at = replayed.epochs * per_epoch + replayed.steps if replayed.steps else None
        return replayed.epochs

    def _epoch(self) -> int:
        return len(self._session.run.history) if self._session is not None else 0

    # -- looking at the model ------------------------------------------------------------------------------------------------
    @contextmanager
    def _visiting(self) -> Iterator[None]:
        """Look at the model between two steps, from any thread."""
        with self._condition:
            self._visitors += 1
        try:
            with self._model_lock:
                yield
        finally:
            with self._condition:
                self._visitors -= 1

    @staticmethod
    def _scores(session: _Session, user: int) -> np.ndarray:
        """(I,) scores of one user."""
        model = session.model
        with undisturbed(model), model.evaluating():
            return model.score(torch.tensor([user], device=model.device))[0].detach().float().cpu().numpy().copy()

    def _refer(self, session: _Session, words: str) -> None:
        """From now on, compare the chosen user's list with the one of this moment."""
        if self.user is not None:
            with self._visiting():
                scores = self._scores(session, self.user)
            self._reference = Reference(self.user, ranking(session.data, self.user, scores), words)

    def _compared(self, user: int) -> Reference | None:
        """What the list of ``user`` is compared with."""
        if self._against is not None:
            pin = self._pin(self._against)
            known = pin.top is not None and pin.ranking is not None and pin.top.user == user
            return Reference(user, pin.ranking, f"pin {pin.number} ({pin.label})") if known else None
        return self._reference if self._reference is not None and self._reference.user == user else None

    def _known_views(self, views: Sequence[str]) -> tuple[str, ...]:
        for view in views:
            if view not in self._shapes:
                raise OptionError(
                    "the model has no such view", where="views", found=repr(view), expected=", ".join(self._shapes)
                )
        if not views:
            raise OptionError("no view to draw", where="views", expected=", ".join(self._shapes))
        return tuple(dict.fromkeys(views))

    def _rows(self, which: str, n: int) -> np.ndarray:
        """The drawn rows of a side: all, or a fixed sample."""
        known = self.rows.get(which)
        if known is None or (len(known) and known[-1] >= n) or len(known) < min(n, self.points):
            chosen = np.random.default_rng(0).choice(n, self.points, replace=False) if n > self.points else np.arange(n)
            self.rows[which] = np.sort(chosen)
        return self.rows[which]

    def _draw(self, quick: bool) -> dict[str, Any]:
        session = self._session
        model = session.model
        with self._visiting(), undisturbed(model):
            with model.evaluating():
                tables = {k: v.detach().float().cpu().numpy() for k, v in model.views().items()}
            drawn = {view: tables[view][self._rows(side(view), len(tables[view]))] for view in self.views}
        pictures = self._pictures(drawn, quick)
        before = self.last.gauges if quick and self.last is not None and self.last.run is session.run else None
        gauges = measured.measure(
            tables, session.data, self._rows("item", self.data.n_items), same_space=self._same_space, quick=before
        )
        first = next(iter(pictures.values()))
        gauges["neighbours kept"] = first.kept
        self._tables = drawn
        within = session.trainer.steps_this_epoch if session.trainer is not None else 0
        self._drawn = (len(session.run.history), session.steps, within)
        told: dict[str, Any] = {"pictures": pictures, "gauges": gauges, "tug": self._gradients(session, quick)}
        if self.user is not None:
            with self._visiting():
                scores = self._scores(session, self.user)
            self._ranking = ranking(session.data, self.user, scores)
            told["top"] = top_list(session.data, self.user, scores, 10, self._compared(self.user))
        return told

    def _pictures(self, drawn: Mapping[str, np.ndarray], quick: bool) -> dict[str, Picture]:
        pair = self.pair if self.pair is not None and set(self.pair) <= set(drawn) else ()
        together = [(v,) for v in drawn if v not in pair] + ([pair] if pair else [])
        found: dict[str, Picture] = {}
        for views in together:
            projector = self.projectors.get(views)
            if projector is None:  # points of a tight cluster should still be seen one by one: a min_dist above umap's own
                projector = self.projectors[views] = Projector(min_dist=0.5, seed=0)
            stacked = np.concatenate([drawn[v] for v in views]) if len(views) > 1 else drawn[views[0]]
            xy = projector.update(stacked, "auto" if self.umap else "PCA", epochs=QUICK_EPOCHS if quick else None)
            kept, n = projector.kept(), 0
            for view in views:
                table = drawn[view]
                found[view] = Picture(
                    xy[n : n + len(table)].copy(),
                    projector.method,
                    kept,
                    measured.rank_of(table),
                    table.shape[1],
                    self.rows[side(view)],
                    next((other for other in views if other != view), ""),
                )
                n += len(table)
        return {view: found[view] for view in drawn}

    def _gradients(self, session: _Session, quick: bool) -> GradientReport | None:
        if not self.tug or session.trainer is None:
            return None
        if quick and self.last is not None and self.last.run is session.run:
            return self.last.tug  # the first picture after a movement should not wait for it
        if session.probe is None:  # always the same examples: what changes is the model
            train, random = session.data.train, torch.Generator().manual_seed(0)
            some = torch.randperm(len(train), generator=random)[: min(self.batch_size, 1024)].numpy()
            users, items = (torch.from_numpy(side[some].copy()) for side in (train.users, train.items))
            sampler = session.trainer.sampler
            session.probe = Batch(users, items, None if sampler is None else sampler.sample(users, random))
        with self._visiting():
            return gradient_report(session.model, session.probe, session.weights)

    # -- telling -----------------------------------------------------------------------------------------------------------
    def _tell(self, kind: Kind, draw: bool, quick: bool = False) -> None:
        session = self._session
        run = session.run
        record = run.history[-1] if run.history else None
        value = None if record is None or not record.metrics else record.metrics.get(self.metric)
        last = self.last if self.last is not None and self.last.run is run else None
        if draw:
            self._hurry = None
            told = self._draw(quick)
            self._drawn_at = time.monotonic()
        elif last is not None:
            told = {"pictures": last.pictures, "gauges": last.gauges, "tug": last.tug, "top": last.top}
        else:
            told = {}
        self._emit(
            Update(
                kind,
                self.number,
                run,
                self._epoch(),
                self._until,
                value,
                fresh=draw,
                steps=session.steps,
                warm=run.warm,
                **told,
            )
        )

    def _emit(self, update: Update) -> None:
        self.last = update
        if self.listener is not None:
            self.listener(update)

    def _failed(self, error: Exception) -> None:
        sentence = str(error) if isinstance(error, MMRecTeachError) else f"{type(error).__name__}: {error}"
        details = "".join(traceback.format_exception(error))
        last = self.last
        run = self.runs[-1] if self.runs else None
        update = Update(
            "failed",
            self.number,
            run,
            len(run.history) if run is not None else 0,
            self._until,
            pictures=last.pictures if last else {},
            gauges=last.gauges if last else {},
            error=sentence,
            details=details,
        )
        try:
            self._emit(update)
        except Exception:  # the listener itself is broken: keep the news for whoever asks
            self.last = update

    # -- words -----------------------------------------------------------------------------------------------------------
    def sentence(self, update: Update | None = None) -> str:
        """Return one or two sentences that say what the panel shows."""
        update = update or self.last
        if update is None or update.run is None:
            return f"{self.name} on {self.data.name} has not been trained yet."
        if update.kind == "failed":
            return f"The run stopped: {update.error}"
        text = f"{self.name} on {self.data.name} after {update.epoch} epoch{'s' if update.epoch != 1 else ''}"
        if update.warm:
            text += ", with weights moved on the way"
        earlier = [r for r in self.runs if r is not update.run and r.history]
        if update.value is not None:
            text += f": {self.metric} on validation is {update.value:.3f}"
            now, then = update.run.best(self.metric), earlier[-1].best(self.metric) if earlier else None
            if then is not None and now is not None:
                gap = now - then
                how = "as good as" if abs(gap) < 5e-4 else f"{abs(gap):.3f} {'better' if gap > 0 else 'worse'} than"
                text += f", at its best {how} the run before ({update.run.label})"
        text += "."
        for view, picture in update.pictures.items():
            text += (
                f" The {picture.method} map of {view} shows {len(picture.xy):,} points and keeps {picture.kept:.0%} of their "
                f"nearest neighbours; effective rank {picture.effective_rank:.1f} of {picture.dim}."
            )
        return text


def _told(settings: Mapping[str, Any], name: str) -> str:
    return say(settings[name]) if name in settings else "as they are"


def _default_view(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    if "item/final" in shapes:
        return ("item/final",)
    items = [name for name in shapes if name.startswith("item/")]
    return tuple(items[:1] or list(shapes)[:1])
