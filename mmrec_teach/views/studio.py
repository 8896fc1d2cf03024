"""The engine of the what-if panel, without a widget in it: settings in, updates out.

A :class:`Studio` owns one model class, one data set and at most one worker thread. Changing a control cancels the run in
progress between two epochs and starts the next after a short pause (or, in "continue" mode, changes the weight under the
running one). Whatever happens is told to a listener as an :class:`Update`; an exception ends the run and is told as well.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mmrec_teach.data import Dataset
from mmrec_teach.errors import MMRecTeachError, OptionError
from mmrec_teach.models import Recommender, model_class
from mmrec_teach.views.colourings import colourings, hover_texts
from mmrec_teach.views.controls import Control, constructor_options, controls_of
from mmrec_teach.views.projection import Projector, is_warm, warm_up, warm_up_error
from mmrec_teach.views.updates import Picture, Run, Update, say, side

__all__ = [
    "Control",
    "Picture",
    "Run",
    "Studio",
    "Update",
    "colourings",
    "constructor_options",
    "controls_of",
    "hover_texts",
    "say",
    "side",
]

ENDLESS = 1_000_000  # the loop is a generator: we stop asking; it never ends by itself


class Studio:
    """One model, one data set, live: see the module's first lines.

    Args:
        model: a registered name, a :class:`Recommender` class, or a factory ``(data, *, options, seed)``.
        data: what to train on.
        controls: names or :class:`Control` objects; None for all.
        views: views to draw; None draws ``item/final`` (or the model's first item view).
        epochs: how many epochs a run takes before it pauses.
        metric: the validation metric to follow.
        options: fixed constructor options.
        weights: loss weights to begin with.
        lr, batch_size: of the training loop.
        listener: called with every :class:`Update`, in the worker thread.
        trainer: the loop, ``train`` by default.
        points: at most so many rows of a table are drawn (a fixed sample).
        debounce: seconds a changed control must rest before the next run starts.
        interval: seconds between pictures at least; every epoch is told, but not every one is drawn.
        umap: draw UMAP once it is compiled; False keeps to PCA.

    Raises:
        OptionError: unknown model, control or view, or a model without anything to train.
    """

    def __init__(
        self,
        model: str | type[Recommender] | Callable[..., Recommender],
        data: Dataset,
        *,
        controls: Sequence[str | Control] | None = None,
        views: Sequence[str] | None = None,
        epochs: int = 40,
        metric: str = "recall@20",
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, float] | None = None,
        lr: float = 5e-3,
        batch_size: int = 1024,
        seed: int = 0,
        mode: Literal["restart", "continue"] = "restart",
        listener: Callable[[Update], None] | None = None,
        trainer: Callable[..., Iterator[Any]] | None = None,
        points: int = 1500,
        debounce: float = 0.12,
        interval: float = 0.15,
        umap: bool = True,
    ):
        if isinstance(model, str):
            self.name, self.factory = model, model_class(model)
        else:
            self.name, self.factory = getattr(model, "__name__", type(model).__name__), model
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
        probe = self._build({}, seed)  # says at once, in the caller's cell, what is wrong with model, data or options
        if not probe.trainable:
            raise OptionError(f"{self.name} has nothing to train", where="whatif", expected="a model with loss terms")
        self.default_weights = probe.check_weights(weights)
        with probe.evaluating():
            tables = {k: tuple(v.shape) for k, v in probe.views().items()}
        self.views = tuple(views) if views is not None else _default_view(tables)
        for view in self.views:
            if view not in tables:
                raise OptionError("the model has no such view", where="views", found=repr(view), expected=", ".join(tables))
        self.available_views = tuple(tables)
        self.controls = controls_of(self.factory, self.default_weights, lr, controls)
        self.values: dict[str, Any] = {"lr": lr, "seed": seed}
        self.values |= {c.name: self.fixed.get(c.name, c.default) for c in self.controls}
        self.values |= {t: w for t, w in self.default_weights.items() if w != 0 or t not in self.values}
        self.off = {t for t, w in self.default_weights.items() if w == 0}
        self.mode = mode
        sample = np.random.default_rng(0)
        self.rows = {
            side: np.arange(n) if n <= points else np.sort(sample.choice(n, points, replace=False))
            for side, n in (("user", data.n_users), ("item", data.n_items))
        }
        pairs = len(data.train)
        self._pairs = np.arange(pairs) if pairs <= 4000 else np.sort(sample.choice(pairs, 4000, replace=False))

        self.listener, self.debounce, self.interval, self.umap = listener, debounce, interval, umap
        if trainer is None:
            from mmrec_teach.training import train as trainer
        self._train = trainer
        # points of a tight cluster should still be seen one by one: a larger min_dist than umap's own
        self.projectors = {view: Projector(min_dist=0.5, seed=0) for view in self.views}
        self.runs: list[Run] = []
        self.last: Update | None = None
        self.number = 0
        self._live: dict[str, float] = {}
        self._model: Recommender | None = None
        self._generator: Iterator[Any] | None = None
        self._until = 0
        # everything below is guarded by the condition
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._request: Literal["restart", "continue"] | None = None
        self._due = 0.0
        self._training = False
        self._settled = False  # all told but for a last picture that waits for UMAP
        self._turn = 0  # a job works for one turn; whoever wants it to end takes the next
        self._closed = False

    # -- settings ----------------------------------------------------------------------------------------------------------
    @property
    def weights(self) -> dict[str, float]:
        """Loss term -> weight as set now; switched-off terms are 0."""
        return {t: 0.0 if t in self.off else float(self.values.get(t, w)) for t, w in self.default_weights.items()}

    @property
    def options(self) -> dict[str, Any]:
        """Constructor options as set now."""
        return self.fixed | {c.name: self.values[c.name] for c in self.controls if c.kind == "option"}

    def settings(self) -> dict[str, Any]:
        """Everything a run depends on, by name."""
        return {**self.weights, **self.options, "lr": self.values["lr"], "seed": self.values["seed"]}

    def set(self, name: str, value: Any) -> None:
        """Move a control. A weight in "continue" mode acts on the run in progress; anything else restarts."""
        if name not in self.values:
            raise OptionError("no such control", where="Studio.set", found=repr(name), expected=", ".join(self.values))
        if self.values[name] == value:
            return
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
        (self.off.discard if on else self.off.add)(term)
        self._changed(live=True)

    def _changed(self, live: bool) -> None:
        if live and self.mode == "continue" and self._generator is not None:
            self._live.update(self.weights)  # the loop reads it at its next step
            with self._condition:
                training = self._training
                self._until = self._epoch() + self.epochs
            if not training:
                self._ask("continue", self.debounce, cancel=False)
        else:
            self._ask("restart", self.debounce)

    # -- commands, from any thread ---------------------------------------------------------------------------------------
    def run(self) -> None:
        """Start a run; in "continue" mode go on with the last one, if there is one."""
        self._ask("continue" if self.mode == "continue" and self._generator is not None else "restart", 0.0)

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

    def _ask(self, what: Literal["restart", "continue"], delay: float, cancel: bool = True) -> None:
        with self._condition:
            if self._closed:
                return
            self._turn += cancel
            self._request, self._due, self._settled = what, time.monotonic() + delay, False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"what-if {self.name}", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    # -- the worker --------------------------------------------------------------------------------------------------------
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
                    self._training, self._generator = False, None
                self._failed(error)

    def _job(self, what: str, turn: int) -> None:
        if what == "restart" or self._generator is None:
            self._begin()
        with self._condition:
            self._until, self._training = self._epoch() + self.epochs, True
        run, drawn = self.runs[-1], time.monotonic()
        self._tell("started", draw=self._epoch() == 0)
        if self.umap:
            warm_up()  # not earlier: the first picture should not wait for a compiler
        while True:
            with self._condition:
                if turn != self._turn or self._epoch() >= self._until:
                    self._training = False
                    break
            record = next(self._generator)
            run.history.append(record)
            self.number += 1
            due = time.monotonic() - drawn >= self.interval or record.epoch >= self._until
            self._tell("epoch", draw=due)
            if due:
                drawn = time.monotonic()
            time.sleep(0.001)  # let the kernel's own thread have its turn
        with self._condition:
            waiting = self._request is not None  # then the next run's pictures come at once
            kind = "finished" if turn == self._turn else "stopped"
        self._tell(kind, draw=not waiting and not self.last.fresh)
        if not waiting and self.umap and not is_warm():
            self._await_umap(kind, self._turn)

    def _await_umap(self, kind: str, turn: int) -> None:
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

    def _begin(self) -> None:
        if hasattr(self._generator, "close"):
            self._generator.close()
        self._generator = None
        settings = self.settings()
        if self.runs and not self.runs[-1].history:
            self.runs.pop()  # cancelled before its first epoch: nothing to compare with
        label = "first run"
        if self.runs:
            before = self.runs[-1].settings
            changes = [f"{k} {say(before.get(k))} → {say(v)}" for k, v in settings.items() if before.get(k) != v]
            label = ", ".join(changes) or "same settings"
        self._live = self.weights
        self._model = self._build(self.options, int(self.values["seed"]))
        self._generator = self._train(
            self._model,
            self.data,
            weights=self._live,
            epochs=ENDLESS,
            batch_size=self.batch_size,
            lr=float(self.values["lr"]),
            seed=int(self.values["seed"]),
            metrics_every=1,
        )
        self.runs.append(Run((self.runs[-1].number if self.runs else 0) + 1, label, settings))
        for projector in self.projectors.values():
            projector.restart()

    def _build(self, options: Mapping[str, Any], seed: int) -> Recommender:
        return self.factory(self.data, **{**self.fixed, **options, "seed": seed})

    def _epoch(self) -> int:
        return len(self.runs[-1].history) if self.runs else 0

    # -- measuring and telling ---------------------------------------------------------------------------------------------
    def _tell(self, kind: str, draw: bool) -> None:
        run = self.runs[-1]
        record = run.history[-1] if run.history else None
        value = None if record is None or not record.metrics else record.metrics.get(self.metric)
        last = self.last if self.last is not None and self.last.run is run else None
        pictures, gauges = self._draw() if draw else (last.pictures, last.gauges) if last else ({}, {})
        self._emit(Update(kind, self.number, run, self._epoch(), self._until, value, gauges, pictures, draw))

    def _draw(self) -> tuple[dict[str, Picture], dict[str, float]]:
        from mmrec_teach.evaluation import diagnostics

        model = self._model
        with model.evaluating():
            tables = {k: v.detach().float().cpu().numpy() for k, v in model.views().items()}
        pictures = {}
        for view in self.views:
            table = tables[view][self.rows[side(view)]]
            projector = self.projectors[view]
            xy = projector.update(table, "auto" if self.umap else "PCA")
            pictures[view] = Picture(
                xy.copy(),
                projector.method,
                projector.kept(),
                float(diagnostics.effective_rank(table)),
                table.shape[1],
                self.rows[side(view)],
            )
        gauges = {}
        users, items = tables.get("user/final"), tables.get("item/final")
        if users is not None and items is not None and users.shape[1] == items.shape[1]:
            train = self.data.train
            gauges["alignment"] = float(diagnostics.alignment(users[train.users[self._pairs]], items[train.items[self._pairs]]))
            gauges["uniformity"] = float(diagnostics.uniformity(items[self.rows["item"]]))
        return pictures, gauges

    def _emit(self, update: Update) -> None:
        self.last = update
        if self.listener is not None:
            self.listener(update)

    def _failed(self, error: Exception) -> None:
        sentence = str(error) if isinstance(error, MMRecTeachError) else f"{type(error).__name__}: {error}"
        details = "".join(traceback.format_exception(error))
        last = self.last
        update = Update(
            "failed",
            self.number,
            self.runs[-1] if self.runs else None,
            self._epoch(),
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


def _default_view(tables: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    if "item/final" in tables:
        return ("item/final",)
    items = [name for name in tables if name.startswith("item/")]
    return tuple(items[:1] or list(tables)[:1])
