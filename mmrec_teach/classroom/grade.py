"""Grade a class: every submission in a folder, several at a time, here or on a Dask cluster.

Each result is stored as soon as it is there (``results/LESSON/STUDENT.json``). A run that was stopped or killed goes on where it was:
a stored result is kept while the submission, the exercises, the points and the salt are the same and no weaker wall was used.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import re
import signal
import sys
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mmrec_teach.classroom.intake import Intake, take_in
from mmrec_teach.classroom.plan import Plan
from mmrec_teach.classroom.progress import Progress
from mmrec_teach.classroom.result import StudentResult, grader_mark, read_result, result_from, write_result
from mmrec_teach.classroom.roster import Entry, Roster
from mmrec_teach.classroom.worker import grade_file, is_unfinished, not_graded, start_worker, worker_state
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading.sandbox import WALLS, strongest_wall, wall_problem
from mmrec_teach.grading.submission import Submission

RESULTS = "results"
_TAIL = 48  # letters of a student's name in a file's name


def grade_class(
    folder: str | Path,
    out: str | Path,
    lessons: list[str] | None = None,
    jobs: int | None = None,
    wall: str | None = None,
    salt: int | None = None,
    scheduler: str | None = None,
    again: bool = False,
    progress: bool = True,
    *,
    root: Path | None = None,
    tell: Callable[[str, str], None] = lambda kind, sentence: print(sentence, file=sys.stderr),
) -> list[StudentResult]:
    """Grade all submissions in a folder.

    A script that calls this with ``jobs`` needs the usual ``if __name__ == "__main__":``, because processes are started afresh.

    Args:
        folder: see `mmrec_teach.classroom.roster`.
        out: where results go, as ``out/results/LESSON/STUDENT.json``.
        lessons: names of those to grade; all that have exercises by default.
        jobs: processes; as many as cores by default.
        wall: behind which students' code runs; the strongest there is by default.
        salt: a number of your own: random cases follow from it and from what was handed in. By default one is drawn for the class
            and kept in ``out/salt.json``: nobody can compute the cases beforehand, and a later run grades with the same.
        scheduler: address of a Dask scheduler whose workers grade instead.
        again: grade what is graded already, too.
        progress: tell on stderr how far it has come.
        root: the course's folder, or one with a ``plan.json``; found by default.
        tell: is given "problem" and a sentence for what cannot be graded as it is, "note" and one for what was left out.
    Returns:
        A result for each submission, by lesson and student. Reproducible but for ``seconds``.
    Raises:
        InputError: no submission there, an unknown lesson, a cluster that cannot be used, results that would lie among submissions.
        OptionError: a wall that does not work here, a senseless number of jobs.
        KeyboardInterrupt: stopped; its message says what is done and how to go on.
    """
    intake = take_in(folder, out, lessons, jobs, wall, salt, scheduler, root)
    for sentence in intake.roster.problems.values():
        tell("problem", sentence)
    for sentence in intake.roster.notes:
        tell("note", sentence)
    with Progress(len(intake.roster.entries), intake.words, progress) as shown:
        return grade_intake(intake, shown.step, again)


def grade_intake(intake: Intake, step: Callable[[str], None], again: bool = False) -> list[StudentResult]:
    """Grade what was taken in; the second half of `grade_class`.

    Args:
        intake: from `take_in`.
        step: called with a student's name for each submission that is done.
        again: grade what is graded already, too.
    """
    roster, wall, salt, scheduler = intake.roster, intake.wall, intake.salt, intake.scheduler
    if scheduler is None and wall is not None and (problem := wall_problem(wall)):
        raise OptionError(f"the wall {wall!r} cannot be used here", found=problem)
    run = _ClassRun(roster, intake.plans, intake.out, wall, salt, again, remote=scheduler is not None)
    pool: _Pool | None = None
    try:
        pool = _Cluster(scheduler, wall, salt) if scheduler is not None else _Processes(intake.jobs)
        run.grade(pool, step)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(intake.stopped(len(run.results))) from None
    finally:
        if pool is not None:
            pool.close()
    return [run.results[entry] for entry in roster.entries]


def result_paths(entries: tuple[Entry, ...], out: Path) -> dict[Entry, Path]:
    """Where each result is stored: a file's name for each student's name, safe on every system and never the same twice.

    It depends on the student's name alone, so that a new student in the class moves nobody else's result.
    """
    paths = {}
    for entry in entries:
        plain = _plain(entry.student)
        # some systems do not tell Mia from mia; and nobody may be called as another's file is
        if plain != entry.student or plain != plain.lower() or re.search(r"-[0-9a-f]{8}$", plain):
            plain += f"-{hashlib.sha256(entry.student.encode()).hexdigest()[:8]}"
        paths[entry] = out / RESULTS / entry.lesson / f"{plain}.json"
    return paths


def _plain(student: str) -> str:
    """Letters, digits, dots and dashes of a name; never a name that Windows keeps for devices, nor a hidden one."""
    text = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode()
    text = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._")[:_TAIL] or "student"
    return f"_{text}" if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", text) else text


@dataclass(frozen=True)
class _Job:
    entry: Entry
    submission: Submission
    alone: bool = False  # a process ended while this one was graded: try it with nothing beside it


class _Pool(Protocol):
    """Where submissions are graded."""

    slots: int

    def submit(self, job: _Job, plan: Plan, wall: str | None, salt: int) -> Future: ...

    def restart(self) -> None: ...

    def close(self) -> None: ...


class _ClassRun:
    """One run over a class: what is done so far."""

    def __init__(
        self, roster: Roster, plans: dict[str, Plan], out: Path, wall: str | None, salt: int, again: bool, remote: bool
    ):
        self.roster, self.plans, self.wall, self.salt, self.again = roster, plans, wall, salt, again
        self.paths = result_paths(roster.entries, out)
        self.mark = grader_mark(salt)
        self.least = wall or (None if remote else strongest_wall()[0])  # a cluster's own strongest is not known here
        self.results: dict[Entry, StudentResult] = {}

    def grade(self, pool: _Pool, step: Callable[[str], None]) -> None:
        """Grade what is not graded yet; ``step`` is called with the student of each submission that is done."""
        waiting = self._jobs(step)
        suspects: deque[_Job] = deque()
        running: dict[Future, _Job] = {}
        while True:
            if suspects:
                if not running:
                    self._start(pool, suspects.popleft(), running, suspects)
            else:
                while len(running) < pool.slots and (job := next(waiting, None)) is not None:
                    if not self._start(pool, job, running, suspects):
                        break
            if not running and not suspects:
                return
            lost: list[_Job] = []
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                job = running.pop(future)
                if (result := self._result(job, future)) is None:
                    lost.append(job)
                else:
                    self._keep(job.entry, result)
                    step(job.entry.student)
            if lost:
                self._recover(pool, lost, running, suspects, step)

    def _start(self, pool: _Pool, job: _Job, running: dict[Future, _Job], suspects: deque[_Job]) -> bool:
        try:
            running[pool.submit(job, self.plans[job.entry.lesson], self.wall, self.salt)] = job
        except BrokenExecutor:  # a process ended between two submissions: none of those that wait is to blame
            suspects.appendleft(job)
            if not running:
                pool.restart()
            return False
        return True

    def _recover(
        self, pool: _Pool, lost: list[_Job], running: dict[Future, _Job], suspects: deque[_Job], step: Callable[[str], None]
    ) -> None:
        """A process is gone: what it and its siblings worked on is tried again, one at a time; the second time it is given up."""
        for future in wait(running).done:
            job = running.pop(future)
            if (result := self._result(job, future)) is None:
                lost.append(job)
            else:
                self._keep(job.entry, result)
                step(job.entry.student)
        pool.restart()
        for job in lost:
            if job.alone:
                why = "its process ended twice while at it"
                self._keep(job.entry, self._failed(job, why))
                step(job.entry.student)
            else:
                suspects.append(replace(job, alone=True))

    def _result(self, job: _Job, future: Future) -> StudentResult | None:
        """What came back; None when the process is gone."""
        try:
            return result_from(future.result())
        except BrokenExecutor:
            return None
        except (CancelledError, OSError) as error:
            raise InputError(
                "the connection to the graders is lost",
                found=str(error) or type(error).__name__,
                fix=f"{len(self.results)} submissions are graded; the same command goes on from there",
            ) from error
        except Exception as error:
            return self._failed(job, f"{type(error).__name__}: {error}")

    def _failed(self, job: _Job, why: str) -> StudentResult:
        entry = job.entry
        return not_graded(entry.student, entry.file, self.plans[entry.lesson], job.submission.digest, why, self.salt)

    def _jobs(self, step: Callable[[str], None]) -> Iterator[_Job]:
        """What is to be graded, read when its turn comes."""
        for entry in self.roster.entries:
            try:
                submission = entry.read()
            except (Exception, RecursionError) as error:
                submission = Submission(Path(entry.file).name, problem=f"the file cannot be read ({type(error).__name__}).")
            if (stored := self._stored(entry, submission)) is not None:
                self.results[entry] = stored
                step(entry.student)
            else:
                yield _Job(entry, submission)

    def _stored(self, entry: Entry, submission: Submission) -> StudentResult | None:
        """The result of an earlier run, if it is still right."""
        path = self.paths[entry]
        if self.again or not path.is_file():
            return None
        try:
            stored = read_result(path)
        except InputError:
            return None
        tasks = [(one.name, one.title, one.points) for one in stored.exercises]
        if (
            (stored.student, stored.lesson, stored.digest) != (entry.student, entry.lesson, submission.digest)
            or stored.graded_with != self.mark
            or tasks != [(task.name, task.title, task.points) for task in self.plans[entry.lesson].tasks]
            or is_unfinished(stored)
            or stored.wall not in WALLS
            or (self.least is not None and WALLS.index(stored.wall) > WALLS.index(self.least))
        ):
            return None
        if stored.file != entry.file:
            stored = replace(stored, file=entry.file)
            write_result(path, stored)
        return stored

    def _keep(self, entry: Entry, result: StudentResult) -> None:
        write_result(self.paths[entry], result)
        self.results[entry] = result


def _arguments(job: _Job, plan: Plan, wall: str | None, salt: int) -> tuple[tuple, dict[str, Any]]:
    entry = job.entry
    return (job.submission, job.submission.name, plan), {
        "student": entry.student,
        "file": entry.file,
        "wall": wall,
        "salt": salt,
    }


class _Processes:
    """Processes on this machine, each with a sandbox of its own."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        self.slots = jobs + 1  # one waits at the door, so that no process does
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, job: _Job, plan: Plan, wall: str | None, salt: int) -> Future:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=start_worker)
        given, named = _arguments(job, plan, wall, salt)
        with _interrupts_later():
            return self._pool.submit(grade_file, *given, **named)

    def restart(self) -> None:
        """Go on with new processes."""
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(OSError, ValueError):
                process.terminate()
        for process in processes:
            with contextlib.suppress(OSError, ValueError, AssertionError):
                process.join(5)
                if process.is_alive():
                    process.kill()


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C waits. A process started in here does not hear it before it has set itself up, and so complains of nothing."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Cluster:
    """Workers of a Dask cluster. A worker that is lost is the scheduler's to replace: what it worked on is given to another."""

    def __init__(self, address: str, wall: str | None, salt: int):
        try:
            from distributed import Client
        except ImportError as error:
            raise OptionError(
                "grading on a cluster needs Dask", where="scheduler", fix='Install it: pip install "mmrec_teach[cluster]"'
            ) from error
        self._mark = grader_mark(salt)
        try:
            self._client = Client(address, timeout=20, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError("no Dask scheduler answers", where=address, found=str(error) or type(error).__name__) from error
        try:
            self._client.wait_for_workers(1, timeout=30)
            states = self._client.run(worker_state, wall, salt)
        except TimeoutError as error:
            self.close()
            raise InputError("the scheduler has no workers", where=address, fix="Start some: `dask worker ADDRESS`") from error
        except Exception as error:
            self.close()
            raise InputError(
                "the cluster's workers cannot grade",
                where=address,
                found=f"{type(error).__name__}: {error}",
                fix="Install the course's package on them, in this version",
            ) from error
        for worker, state in states.items():
            if state["mark"] != self._mark or state["problem"]:
                self.close()
                raise InputError(
                    "a worker of the cluster cannot grade",
                    where=worker,
                    found=state["problem"] or "another version of the course",
                    fix="Install there what is installed here",
                )
        self._executor: Executor = self._client.get_executor(pure=False)

    @property
    def slots(self) -> int:
        """Two for each worker that there is just now: one in work, one at hand."""
        return 2 * max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def submit(self, job: _Job, plan: Plan, wall: str | None, salt: int) -> Future:
        given, named = _arguments(job, plan, wall, salt)
        return self._executor.submit(grade_file, *given, **named, mark=self._mark)

    def restart(self) -> None:
        """Nothing to do: the scheduler does it."""

    def close(self) -> None:
        """Leave the cluster; what is still to do there is dropped."""
        self._client.close(timeout=10)
