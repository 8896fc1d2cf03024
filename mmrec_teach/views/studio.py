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

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import OptionError, check_whole
from mmrec_teach.evaluation import Evaluation
from mmrec_teach.models import Recommender, model_class
from mmrec_teach.training.experiments import data_key
from mmrec_teach.views import gauges as measured
from mmrec_teach.views.colourings import colourings, error_colourings, hover_texts
from mmrec_teach.views.controls import Control, constructor_options, controls_of, switch_controls, terms_of
from mmrec_teach.views.pins import Pin
from mmrec_teach.views.session import Board, Change, Session
from mmrec_teach.views.setting import BATCH_SIZE, EPOCHS, LR, Setting, factory_name
from mmrec_teach.views.toplists import scores_of, top_list
from mmrec_teach.views.updates import Picture, Run, TopItem, TopList, Update, say, side, versus
from mmrec_teach.views.worker import Worker

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

LEVELS = 12  # changes that can be undone
GATHER = 0.8  # seconds within which movements of one slider are one change


class Studio(Worker):
    """One model, one data set, live: see the module's first lines.

    Args:
        model: a registered name, a :class:`Recommender` class, or a factory ``(data, *, options, seed)``; None with ``setting``.
        data: what to train on; None opens the setting's data set, or the bazaar.
        controls: names or :class:`Control` objects; None for all.
        views: views to draw; None draws ``item/final`` (or the model's first item view).
        epochs: how many epochs a run takes before it pauses; a setting brings its own.
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
        terms: the loss terms that the present run's model has; an option such as a strategy may leave out some of the class's.

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
        check_whole("epochs", epochs, 1, "number of epochs out of range")
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
        self.terms = terms_of(probe)
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
        self.user: int | None = None
        self.pins: tuple[Pin, ...] = ()
        self._pins_made = 0
        self._against: int | None = None  # number of the pin that lists are compared with
        self._data_key: dict[str, Any] | None = None
        self._prepare()
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
        """Change the data; a run begins anew."""
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
        told = {
            **self.weights,
            **constructor_options(self.factory),
            **self.options,
            "lr": self.values["lr"],
            "seed": self.values["seed"],
        }
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
        steps, changes = 0, run.setting.changes
        if session is not None and session.run is run:
            changes += tuple(sorted(session.plan.items()))  # of a replay in progress
        if session is not None and session.run is run and not self._training and session.trainer is not None:
            steps = session.trainer.steps_this_epoch
        return replace(run.setting, epochs=done, steps=steps, changes=changes)

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
            setting = Setting.from_text(setting, self.factory if unquote(setting.partition("?")[0]) == self.name else None)
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
                fix="Open it with whatif(setting=...) or Studio(setting=...)",
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
            self.epochs = max(1, setting.epochs)  # a run that is compared with it is as long
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
                if not self._training and not self._halted:
                    self._ask("continue", 0.0, cancel=False)
                return
            self._stale = True
            if not self._halted:
                self._ask("restart", self.debounce)

    # -- undo --------------------------------------------------------------------------------------------------------------
    def _board(self) -> Board:
        return Board(dict(self.values), frozenset(self.off), self._switches, dict(self.fixed), self.epochs)

    def _remember(self, name: str) -> None:
        """Note where the controls stand, before a change of ``name``."""
        with self._condition:
            now = time.monotonic()
            if self._changes and self._changes[-1].name == name and now - self._changes[-1].at < GATHER:
                self._changes[-1].at = now
                return
            warm = self.mode == "continue" and not self._stale
            self._changes.append(Change(name, now, self._board(), self._session if warm else None, until=self._until))
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
            self._switches, self.fixed, self.epochs = change.board.switches, dict(change.board.fixed), change.board.epochs
            self._replay = None
            if change.applied:
                training = self._training
                self._undone, self._stale, self._moved = (change, training), False, False
                self._ask("undo", 0.0)
                return
            if self.settings() == before:
                return
            session = self._session
            if session is not None and self._is_of(session):  # the change has not begun to act
                self._stale = self._moved = False
                if not self._training or self._request is not None:
                    self._request = None
                    self._turn += 1
                    self._condition.notify_all()
                    if self._epoch() < change.until and not self._halted:  # a run that was broken off for it goes on
                        self._ask("continue", 0.0)
                return
        live = self.mode == "continue" and change.session is not None and change.session is self._session
        self._changed(live=live)

    def _is_of(self, session: Session) -> bool:
        """Whether the session is what the controls ask for."""
        began, asked = (
            {n: v for n, v in s.items() if n not in self.default_weights} for s in (session.run.settings, self.settings())
        )
        return began == asked and session.weights == self.weights

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
        """Pause after the epoch in progress. What is changed from now on waits for :meth:`run`, :meth:`go_on` or :meth:`step`."""
        with self._condition:
            self._halted = self._halted or self._training or self._request not in (None, "draw")
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
    def waiting(self) -> bool:
        """Whether something was changed while the run was paused, and waits to be run."""
        with self._condition:
            return self._halted and (self._stale or self._moved)

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
            user: an index; None for the chosen one.
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
            scores = scores_of(session.model, user)
        return top_list(session.data, user, scores, k, self._compared(user))

    # -- pins --------------------------------------------------------------------------------------------------------------
    def pin(self, label: str | None = None) -> Pin:
        """Keep the present run as last drawn, to be compared with others.

        Args:
            label: a short name; None says what sets the run apart.

        Raises:
            OptionError: nothing has been drawn yet.
        """
        drawn = self._drawn
        if drawn is None:
            raise OptionError("there is nothing to pin yet", where="Studio.pin", fix="Run the model first")
        run, epochs, steps = drawn.run, drawn.epoch, drawn.steps
        names = dict.fromkeys(name for r in run.history[:epochs] for name in (r.metrics or {}))
        curves = {}
        for name in names:
            pairs = [(e, v) for e, v in zip(*run.curve(name), strict=True) if e <= epochs]
            curves[name] = (tuple(e for e, _ in pairs), tuple(v for _, v in pairs))
        best = None
        if curves.get(self.metric, ((), ()))[0]:
            best = max(zip(*curves[self.metric], strict=True), key=lambda pair: (pair[1], -pair[0]))[0]
        record = run.history[epochs - 1] if epochs else None
        changes = tuple((step, change) for step, change in run.setting.changes if step < steps)
        self._pins_made += 1
        pin = Pin(
            number=self._pins_made,
            label=label or self._distinction(run),
            setting=replace(run.setting, epochs=epochs, steps=drawn.within, changes=changes),
            epoch=epochs,
            steps=steps,
            metric=self.metric,
            curves=curves,
            metrics={} if best is None else {n: dict(zip(*c, strict=True))[best] for n, c in curves.items() if best in c[0]},
            best_epoch=best,
            losses=dict(record.losses) if record is not None else {},
            gauges=dict(drawn.gauges),
            tables={v: t.copy() for v, t in drawn.tables.items()},
            pictures={v: p.xy.copy() for v, p in drawn.pictures.items()},
            rows={v: p.rows.copy() for v, p in drawn.pictures.items()},
            methods={v: p.method for v, p in drawn.pictures.items()},
            kept={v: p.kept for v, p in drawn.pictures.items()},
            top=drawn.top,
            memory=drawn.memory,
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

    def _known_views(self, views: Sequence[str]) -> tuple[str, ...]:
        for view in views:
            if view not in self._shapes:
                raise OptionError(
                    "the model has no such view", where="views", found=repr(view), expected=", ".join(self._shapes)
                )
        if not views:
            raise OptionError("no view to draw", where="views", expected=", ".join(self._shapes))
        return tuple(dict.fromkeys(views))

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
            done = update.kind == "finished" or update.epoch >= update.until
            found = versus(update.run.curve(self.metric), earlier[-1].curve(self.metric), done) if earlier else None
            if found is not None:
                gap, where = found
                how = "as good as" if abs(gap) < 5e-4 else f"{abs(gap):.3f} {'better' if gap > 0 else 'worse'} than"
                text += f", {how} the run before ({update.run.label}), {where}"
        text += "."
        for view, picture in update.pictures.items():
            text += (
                f" The {picture.method} map of {view} shows {len(picture.xy):,} points and keeps {picture.kept:.0%} of their "
                f"nearest neighbours; the effective rank of {view} is {picture.effective_rank:.1f} of {picture.dim}."
            )
        return text


def _default_view(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    if "item/final" in shapes:
        return ("item/final",)
    items = [name for name in shapes if name.startswith("item/")]
    return tuple(items[:1] or list(shapes)[:1])
