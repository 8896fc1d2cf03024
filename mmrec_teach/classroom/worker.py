"""Grade one submission in this process: the same function in a pool of processes and on a Dask cluster.

A process keeps one warm sandbox and grades one submission at a time; several processes grade several at a time.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import asdict
from typing import Any

from mmrec_teach.classroom.plan import Plan
from mmrec_teach.classroom.result import ExerciseResult, StudentResult, grader_mark, result_of
from mmrec_teach.grading.exercise import find_exercise
from mmrec_teach.grading.sandbox import Sandbox, wall_problem
from mmrec_teach.grading.submission import Submission, grade_submission, read_submission
from mmrec_teach.grading.verdict import Verdict

_ONE_AT_A_TIME = threading.RLock()
_SANDBOXES: dict[str | None, Sandbox] = {}


def grade_file(
    content: bytes | Submission,
    name: str,
    plan: Plan,
    *,
    student: str,
    file: str = "",
    wall: str | None = None,
    salt: int = 0,
    mark: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Grade a submission; never raises for what is in it.

    Args:
        content: the file's bytes, or what was read from them.
        name: the file's.
        plan: of its lesson.
        student: whose it is.
        file: how results call the file; by default its name.
        wall: see `mmrec_teach.grading.sandbox`; None takes the strongest there is.
        salt: the teacher's own number that goes into the random cases.
        mark: what graders elsewhere in this class run go by (`grader_mark`); a process that differs refuses.
    Returns:
        The result as plain values: `mmrec_teach.classroom.result.result_from` makes a `StudentResult` of it.
    """
    with _ONE_AT_A_TIME:
        file = file or name
        submission = Submission(name)
        try:
            if mark is not None and mark != grader_mark(salt):
                return asdict(
                    not_graded(student, file, plan, "", "this worker has another version of the course installed", salt)
                )
            submission = content if isinstance(content, Submission) else read_submission(name, content)
            exercises = [find_exercise(task.name) for task in plan.tasks]
            graded = grade_submission(submission, exercises, sandbox(wall), salt=salt)
            return asdict(result_of(student, file, plan, graded, salt))
        except Exception as error:
            close_sandboxes()  # whatever happened, the next submission starts from a clean one
            digest = submission.digest
            return asdict(not_graded(student, file, plan, digest, f"{type(error).__name__}: {error}", salt))


def not_graded(student: str, file: str, plan: Plan, digest: str, why: str, salt: int = 0) -> StudentResult:
    """The result of a submission that the grader itself failed on: no verdict on the student, and tried again next time."""
    reason = " ".join(why.split())[:300].rstrip(".")
    advice = f"The grader could not finish this one ({reason}). It is no fault of the submission: grade it again."
    exercises = tuple(
        ExerciseResult(task.name, task.title, task.points, 0.0, Verdict(task.name, "error", advice=advice))
        for task in plan.tasks
    )
    return StudentResult(student, file, plan.lesson, digest, exercises, "none", 0.0, (), grader_mark(salt))


def is_unfinished(result: StudentResult) -> bool:
    """Whether the grader failed on some exercise, so that the submission should be graded again."""
    return any(one.verdict.status == "error" and not one.verdict.cases for one in result.exercises)


def sandbox(wall: str | None = None) -> Sandbox:
    """This process's sandbox behind that wall; warm after its first use."""
    if wall not in _SANDBOXES:
        _SANDBOXES[wall] = Sandbox(wall)
    return _SANDBOXES[wall]


def close_sandboxes() -> None:
    """End this process's sandboxes."""
    while _SANDBOXES:
        _SANDBOXES.popitem()[1].close()


def worker_state(wall: str | None, salt: int) -> dict[str, Any]:
    """What a class run asks a cluster's worker before it trusts it: its mark, and why the wall cannot be used there."""
    return {"mark": grader_mark(salt), "problem": wall_problem(wall) if wall else ""}


def start_worker() -> None:
    """Set up a process of the pool: Ctrl-C is its parent's to handle, and it ends when its parent does."""
    import multiprocessing

    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # its parent held it back while this process started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    _leave()


def _leave() -> None:
    try:
        close_sandboxes()
    finally:
        os._exit(1)
