"""The thread behind the what-if studio: it trains, obeys between two steps, looks at the model, and tells what it saw."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mmrec_teach.errors import MMRecTeachError
from mmrec_teach.training import GradientReport, Trainer, gradient_report
from mmrec_teach.training.loop import Snapshot
from mmrec_teach.training.state import take, undisturbed
from mmrec_teach.views import gauges as measured
from mmrec_teach.views.controls import terms_of
from mmrec_teach.views.projection import Projector, is_warm, warm_up, warm_up_error
from mmrec_teach.views.session import Change, Drawn, Session
from mmrec_teach.views.setting import Setting
from mmrec_teach.views.toplists import Memory, Reference, ranking, scores_of, top_list
from mmrec_teach.views.updates import Kind, Picture, Run, Update, say, side

ENDLESS = 1_000_000  # a trainer of the caller's own is a generator: we stop asking; it never ends by itself
FIRST_PICTURE = 0.04  # seconds of training between a moved control and its first picture
LONG = 0.15  # seconds without a picture after which one is drawn in the middle of an epoch
REST = 1.0  # drawing and telling may take as long as the training between two pictures, not longer
MEASURE_EVERY = 0.5  # seconds between two measurements of what takes long: gradients, CKA, neighbour overlap
QUICK_EPOCHS = 8  # of UMAP, for a first picture; the next ones refine it
USUAL_EPOCHS = 10  # … while training: five pictures a second add up
SETTLED_EPOCHS = 120  # of UMAP, for a run's last picture: it will be looked at for long
UNDO_BYTES = 256 << 20  # of model and optimiser copies kept for that
COPY_BYTES = 64 << 20  # of parameters that are copied with every picture; larger ones with a run's last


Care = Literal["quick", "usual", "settled"]
Request = Literal["restart", "continue", "step", "undo", "draw"]


class BrokenOff(Exception):  # noqa: N818 - no error
    """Breaks an epoch off between two steps."""


class Worker:
    """What a :class:`~mmrec_teach.views.studio.Studio` does in its thread; the studio itself is the controls.

    All attributes are set by the studio, those of the thread by :meth:`_prepare`.
    """

    def _prepare(self) -> None:
        """Set what the thread needs. Everything from the condition on is guarded by it."""
        self.projectors: dict[tuple[str, ...], Projector] = {}
        self.runs: list[Run] = []
        self.last: Update | None = None
        self.number = 0
        self._former: tuple[str, Memory] | None = None  # the model before the last change, and that in words
        self._drawn: Drawn | None = None
        self._drawn_at = self._rest_until = self._measured_at = 0.0
        self._session: Session | None = None
        self._replay: Setting | None = None  # the next run repeats it
        self._until = 0
        self._changes: list[Change] = []
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._request: Request | None = None
        self._undone: tuple[Change, bool] | None = None
        self._due = 0.0
        self._training = False
        self._settled = False  # all told but for a last picture that waits for UMAP
        self._stale = False  # the controls ask for another run than the present one
        self._moved = False  # … or for other weights under it
        self._halted = False  # the reader has paused the run: no change starts one before they say so
        self._hurry: float | None = None  # draw as soon as this time is FIRST_PICTURE ago
        self._turn = 0  # a job works for one turn; whoever wants it to end takes the next
        self._closed = False
        # whoever looks at the model from another thread takes turns with the worker's steps
        self._model_lock = threading.Lock()
        self._visitors = 0

    # -- the worker --------------------------------------------------------------------------------------------------------
    def _ask(self, what: Request, delay: float, cancel: bool = True) -> None:
        with self._condition:
            if self._closed:
                return
            self._turn += cancel
            self._halted = self._halted and what == "draw"
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
        if what != "draw":
            kind = self._train_until_done(what, turn)
        elif self._session is not None:
            self._tell(kind, draw=True)
        else:
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
        self._tell("started", draw=self._epoch() == 0 or what == "undo", care="quick")
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
            last = record.epoch >= self._until
            if last:  # drawn with care, here or with the news that it is over
                self._tell("epoch", draw=not self._settles(), care="settled")
            else:
                self._tell("epoch", draw=hurry or self._due_at(self.interval) <= now, care="quick" if hurry else "usual")
            time.sleep(0.001)  # let the kernel's own thread have its turn
        with self._condition:
            waiting = self._request is not None  # then the next run's pictures come at once
            kind: Kind = "finished" if turn == self._turn and what != "step" else "stopped"
        settle = not waiting and self._settles()
        self._tell(kind, draw=settle or (not waiting and not self.last.fresh), care="settled")
        return kind

    def _due_at(self, interval: float) -> float:
        """When the next picture is due: not before training has had its share of the time."""
        return max(self._drawn_at + interval, self._rest_until if interval else 0.0)

    def _settles(self) -> bool:
        """Whether a last, careful picture is better than the one before it."""
        return self.umap and is_warm()

    def _train_epoch(self, session: Session, turn: int) -> Any:
        """Return the next epoch's record, or None if it was broken off."""
        if session.trainer is None:
            return next(session.records)
        with self._model_lock:
            try:
                return session.trainer.epoch(lambda step: self._after_step(session, turn, step))
            except BrokenOff:
                return None

    def _after_step(self, session: Session, turn: int, step: int) -> None:
        """Between two steps: obey the controls, let others look at the model, draw."""
        self._model_lock.release()
        try:
            planned = session.plan.pop(step, None)
            if planned is not None:
                self._move(session, planned)
            if session.stop_at == step:
                session.stop_at = None
                raise BrokenOff
            self._break_off(turn)
            if self._visitors:
                time.sleep(0.001)
            now = time.monotonic()
            if self._hurry is not None and now - self._hurry >= FIRST_PICTURE:
                self._tell("picture", draw=True, care="quick")
            elif self._due_at(max(self.interval, LONG)) <= now:  # the epoch's end is too far
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
                raise BrokenOff

    def _apply(self, session: Session) -> None:
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

    def _move(self, session: Session, weights: Mapping[str, float]) -> None:
        """Change weights under a session and write it down in its setting."""
        session.weights.update(weights)
        run, at = session.run, session.steps
        changes = dict(run.setting.changes)
        changes[at] = {**changes.get(at, {}), **weights}
        run.setting = replace(run.setting, changes=tuple(sorted(changes.items())))

    def _keep(self, change: Change, session: Session, snapshot: Snapshot | None) -> None:
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
        self._session, self._former = session, None
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
        self.terms = terms_of(model)
        session = Session(run, model, data, dict(setting.weights) if replayed is not None else weights)
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
        if replayed.steps and session.trainer is not None:
            session.stop_at = replayed.epochs * per_epoch + replayed.steps
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

    def _refer(self, session: Session, words: str) -> None:
        """From now on, compare lists with those of this moment."""
        with self._visiting():
            memory = Memory(session.model, take(session.model), session.data)
            if self.user is not None and session.trainer is None:  # asked later, it might be in the middle of a step
                memory.ranking(self.user)
        self._former = (words, memory)

    def _compared(self, user: int) -> Reference | None:
        """What the list of ``user`` is compared with."""
        if self._against is not None:
            pin = self._pin(self._against)
            words, memory = f"pin {pin.number} ({pin.label})", pin.memory
        else:
            words, memory = self._former or ("", None)
        session = self._session
        if memory is None:
            return None
        if user not in memory.known and session is not None and session.trainer is None and session.model is memory.model:
            return None  # a loop of the caller's own trains it, and nobody takes turns with that
        with self._visiting():
            return Reference(user, memory.ranking(user), words)

    def _rows(self, which: str, n: int) -> np.ndarray:
        """The drawn rows of a side: all, or a fixed sample."""
        known = self.rows.get(which)
        if known is None or (len(known) and known[-1] >= n) or len(known) < min(n, self.points):
            chosen = np.random.default_rng(0).choice(n, self.points, replace=False) if n > self.points else np.arange(n)
            self.rows[which] = np.sort(chosen)
        return self.rows[which]

    def _draw(self, care: Care) -> dict[str, Any]:
        session, now = self._session, time.monotonic()
        last = self.last if self.last is not None and self.last.run is session.run else None
        whole = care == "settled" or (care == "usual" and not (self._training and now - self._measured_at < MEASURE_EVERY))
        if whole:
            self._measured_at = now
        model = session.model
        with self._visiting(), undisturbed(model):
            light = sum(p.numel() * p.element_size() for p in model.parameters()) <= COPY_BYTES
            memory = Memory(model, take(model), session.data) if light or care == "settled" or not self._training else None
            with model.evaluating():
                tables = {k: v.detach().float().cpu().numpy() for k, v in model.views().items()}
            drawn = {view: tables[view][self._rows(side(view), len(tables[view]))] for view in self.views}
        pictures = self._pictures(drawn, {"quick": QUICK_EPOCHS, "usual": USUAL_EPOCHS, "settled": SETTLED_EPOCHS}[care])
        before = None if whole or last is None else last.gauges
        gauges = measured.measure(
            tables, session.data, self._rows("item", self.data.n_items), same_space=self._same_space, quick=before
        )
        first = next(iter(pictures.values()))
        gauges["neighbours kept"] = first.kept
        within = session.trainer.steps_this_epoch if session.trainer is not None else 0
        told: dict[str, Any] = {"pictures": pictures, "gauges": gauges, "tug": None}
        if self.tug and session.trainer is not None:
            told["tug"] = self._gradients(session) if whole or last is None else last.tug
        if self.user is not None:
            with self._visiting():
                scores = scores_of(model, self.user)
            if memory is not None:
                memory.known[self.user] = ranking(session.data, self.user, scores)
            told["top"] = top_list(session.data, self.user, scores, 10, self._compared(self.user))
        state = len(session.run.history), session.steps, within
        self._drawn = Drawn(session.run, *state, drawn, pictures, gauges, told.get("top"), memory)
        return told

    def _pictures(self, drawn: Mapping[str, np.ndarray], umap_epochs: int) -> dict[str, Picture]:
        pair = self.pair if self.pair is not None and set(self.pair) <= set(drawn) else ()
        together = [(v,) for v in drawn if v not in pair] + ([pair] if pair else [])
        found: dict[str, Picture] = {}
        for views in together:
            projector = self.projectors.get(views)
            if projector is None:  # points of a tight cluster should still be seen one by one: a min_dist above umap's own
                projector = self.projectors[views] = Projector(min_dist=0.5, seed=0)
            stacked = np.concatenate([drawn[v] for v in views]) if len(views) > 1 else drawn[views[0]]
            xy = projector.update(stacked, "auto" if self.umap else "PCA", epochs=umap_epochs)
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

    def _gradients(self, session: Session) -> GradientReport:
        if session.probe is None:  # always the same examples: what changes is the model
            session.probe = session.trainer.examples(min(self.batch_size, 1024))
        with self._visiting():
            return gradient_report(session.model, session.probe, session.weights)

    # -- telling -----------------------------------------------------------------------------------------------------------
    def _tell(self, kind: Kind, draw: bool, care: Care = "usual") -> None:
        start = time.monotonic()
        session = self._session
        run = session.run
        record = run.history[-1] if run.history else None
        value = None if record is None or not record.metrics else record.metrics.get(self.metric)
        last = self.last if self.last is not None and self.last.run is run else None
        if draw:
            self._hurry = None
            told = self._draw(care)
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
        if draw:
            end = time.monotonic()
            self._drawn_at, self._rest_until = start, end + REST * (end - start)

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


def _told(settings: Mapping[str, Any], name: str) -> str:
    return say(settings[name]) if name in settings else "as they are"
