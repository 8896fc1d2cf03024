"""Judge a learner's function: call it on an exercise's cases, compare with the oracle, and say what was found.

The function may live in this process (a notebook's `check`) or in one of its own (`mmrec_teach.grading.sandbox`); the verdict is made
here in either case, by the same lines.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import torch

from mmrec_teach.grading.arrays import describe, for_learner, for_oracle, plain, same_inputs, shape_words
from mmrec_teach.grading.child import patience
from mmrec_teach.grading.child.away import borrowed
from mmrec_teach.grading.child.effort import Watch
from mmrec_teach.grading.child.patience import OutOfTimeError, time_limit
from mmrec_teach.grading.child.telling import LearnerError, told
from mmrec_teach.grading.child.wire import Opaque, settle
from mmrec_teach.grading.exercise import Case, Exercise, RefusedError, find_exercise
from mmrec_teach.grading.record import current_record
from mmrec_teach.grading.verdict import CaseResult, Verdict
from mmrec_teach.grading.watch import large_tasks, watching

RIGHT = "the value is right, but "
MOST_LOST = 2  # calls that never end before the rest is not tried: an hour of waiting tells nobody more
_GIVEN_UP = ("untried", "not tried: calls before it did not come back.")


def check(name: str, function: Callable | None = None) -> Verdict:
    """Check the learner's function ``name`` against its test cases.

    The function is looked for where `check` is called: among the caller's variables (in a notebook: all cells run so far).

    Args:
        name: the exercise, e.g. ``"bpr_loss"``.
        function: check this one instead of looking it up.
    Returns:
        The verdict; a notebook shows it when it is the last line of a cell. Outside IPython it is printed as well. The outcome
        is noted in the learner's progress file.
    Raises:
        OptionError: no exercise of that name; lists those there are.
    """
    find_exercise(name)
    if function is None:
        frame = sys._getframe(1)
        function = frame.f_locals.get(name, frame.f_globals.get(name))
    verdict = verdict_on(name, function)
    current_record().note_check(verdict)
    if not in_ipython():
        print(verdict)
    return verdict


def verdict_on(name: str, function: Any) -> Verdict:
    """The verdict on what was found under an exercise's name: perhaps nothing, or no function. Notes and prints nothing.

    Raises:
        OptionError: no exercise of that name; lists those there are.
    """
    exercise = find_exercise(name)
    if function is None:
        return Verdict(
            name, "missing", advice=f"There is no `{name}` here yet: run the cell that defines it, then run this one again."
        )
    if not callable(function):
        return Verdict(name, "missing", advice=f"`{name}` is {describe(function)}, not a function: define it again with def.")
    verdict = grade(exercise, function)
    return replace(verdict, notes=(*verdict.notes, exercise.note)) if exercise.note and verdict.cases else verdict


def in_ipython() -> bool:
    """Whether this process is an IPython one, where values show themselves."""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None


def in_notebook() -> bool:
    """Whether values are shown by a notebook's front end, which can draw widgets; False in IPython's plain terminal."""
    return in_ipython() and getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None


def grade(exercise: Exercise | str, function: Callable, *, seed: int | None = None, advise: bool = True) -> Verdict:
    """The verdict on ``function``; looks nothing up, notes nothing, prints nothing.

    Args:
        exercise: it or its name.
        function: the learner's, or one that raises `LearnerError` by itself (`mmrec_teach.grading.sandbox.RemoteFunction`).
        seed: of the random cases; by default it follows from the text of the function.
        advise: whether to look for the misconception behind a failure.
    """
    if isinstance(exercise, str):
        exercise = find_exercise(exercise)
    run = _run(exercise, function, seed)
    if isinstance(run, LearnerError):
        return Verdict(exercise.name, "blank", advice=run.message)
    results = tuple(run.results)
    if not results:
        return Verdict(exercise.name, "failed", advice="This exercise has no cases yet.")
    if all(result.passed for result in results):
        return Verdict(exercise.name, "passed", results)
    tried = [result for result in results if result.kind not in ("untried", "timeout")]
    stopped = any(result.kind == "timeout" for result in results)
    status = "error" if tried and not stopped and all(result.kind in ("exception", "crash") for result in tried) else "failed"
    return Verdict(exercise.name, status, results, advice=run.resemblance() if advise else "")


def broken(exercise: Exercise, wrong: str) -> frozenset[tuple[str, ...]]:
    """The results that the wrong solution of that name fails, and how; remembered. Takes no account of what it resembles."""
    if wrong not in exercise.broken:
        run = _run(exercise, exercise.wrongs[wrong], None)
        exercise.broken[wrong] = frozenset() if isinstance(run, LearnerError) else _failed(run.results)
    return exercise.broken[wrong]


def _run(exercise: Exercise, function: Callable, seed: int | None) -> _Run | LearnerError:
    """Call ``function`` on everything; the error of a stub that is not written yet."""
    if not isinstance(function, Guarded) and getattr(type(function), "remote", False) is not True:
        seed = seed_of(exercise.name, source_of(function)) if seed is None else seed
        function = Guarded(function)
    run = _Run(exercise, function, seed or 0)
    try:
        run.cases()
        run.after_cases()
        run.rules()
    except LearnerError as blank:
        return blank
    return run


def _failed(results: Iterable[CaseResult]) -> frozenset[tuple[str, ...]]:
    """The results that fail, and how: a rule may be broken in more than one way. Those that could not be tried say nothing."""
    return frozenset(
        (result.name, result.kind, re.sub(r"[\d.,]+", "", result.message)[:40] if result.kind == "rule" else "")
        for result in results
        if not result.passed and result.kind != "untried"
    )


def seed_of(name: str, source: str, salt: int = 0) -> int:
    """The seed of a submission's random cases: it follows from what was handed in, so that a grade can be reproduced.

    Args:
        name: of the exercise.
        source: the text of the function's definition.
        salt: a teacher's own number, so that nobody can compute the cases beforehand.
    """
    text = "\n".join(line.rstrip() for line in source.strip().splitlines())
    return int.from_bytes(hashlib.sha256(f"{salt}\n{name}\n{text}".encode("utf-8", "replace")).digest()[:6])


def source_of(function: Callable) -> str:
    """The text of a function's definition, dedented; its name where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function)).strip()
    except (OSError, TypeError, IndentationError):
        return getattr(function, "__name__", "")


class Guarded:
    """A learner's function in this process: bounded in time, its exceptions as `LearnerError`, the package's answers refused."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *given: Any, **named: Any) -> Any:
        efforts = watching()
        watch = Watch(*[value for value in (*given, *named.values()) if isinstance(value, torch.Tensor)]) if efforts else None
        start = time.process_time()
        try:
            with time_limit(), _no_borrowing() as borrowed_names, watch or nullcontext():
                answer = self.function(*given, **named)
        except (Exception, OutOfTimeError, SystemExit) as error:
            if borrowed_names:
                raise LearnerError("borrowed", borrowed(borrowed_names[0])) from None
            raise told(error, self.function, patience.SECONDS) from None
        if borrowed_names:
            raise LearnerError("borrowed", borrowed(borrowed_names[0]))
        for effort in efforts if watch else ():  # counted as in the sandbox: what the function itself does, nothing around it
            effort.add(watch.count, watch.numel, time.process_time() - start)
        return settle(answer)


@contextmanager
def _no_borrowing() -> Iterator[list[str]]:
    """Collects the names of this package's functions that are called inside (its graders excepted)."""
    names: list[str] = []
    before = sys.getprofile()
    own = f"{__name__.split('.')[0]}."

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not names:
            module = frame.f_globals.get("__name__", "")
            if type(module) is str and module.startswith(own) and not module.startswith(f"{own}grading."):
                names.append(frame.f_code.co_qualname.removesuffix(".__init__"))

    sys.setprofile(see)
    try:
        yield names
    finally:
        sys.setprofile(before)


class _Run:
    """One exercise, one function: the results so far."""

    def __init__(self, exercise: Exercise, function: Callable, seed: int):
        self.exercise, self.function, self.seed = exercise, function, seed
        self.results: list[CaseResult] = []
        self.answers: list[tuple[Case, Any, CaseResult]] = []
        self.changed: str = ""
        self.gradient: str = ""
        self.stuck: str = ""  # a change in place that torch refuses while a gradient is wanted
        self.all = exercise.all_cases(seed)
        self.lost = 0  # calls that never came back

    def add(self, name: str, group: str, problem: tuple[str, str] | None) -> CaseResult:
        """Note a result; ``problem`` is its kind and message, None when all is well."""
        if problem is not None and problem[0] == "blank":
            raise LearnerError(*problem)
        if problem is not None and problem[0] in ("timeout", "crash"):
            self.lost += 1
        result = CaseResult(name, problem is None, *(problem or ("", "")), group=group)
        self.results.append(result)
        return result

    def cases(self) -> None:
        """Examples, random and hidden cases."""
        for case in self.all:
            if self.lost >= MOST_LOST:
                self.add(case.name, case.group, _GIVEN_UP)
                continue
            answer, problem = self.case(case)
            self.answers.append((case, answer, self.add(case.name, case.group, problem)))

    def case(self, case: Case) -> tuple[Any, tuple[str, str] | None]:
        """One case: the answer (None where there is none), and what is wrong with it."""
        exercise = self.exercise
        slopes = bool(exercise.gradient) and not self.stuck
        given = self.given(case, slopes)
        try:
            try:
                answer = self.function(*given.values())
            except LearnerError as error:
                if error.kind != "mutation" or not slopes:
                    raise
                # torch refuses a change in place where a gradient is wanted; the answer itself is judged without one
                self.stuck = self.changed = error.message
                given = self.given(case, False)
                answer = self.function(*given.values())
        except LearnerError as error:
            if error.kind == "mutation":
                self.changed = self.changed or error.message
            return None, (error.kind, error.message)
        if not self.changed:
            for name, value in case.inputs.items():
                # inputs that are made anew each time are meant to be used up
                if not same_inputs(for_learner(value, exercise.arrays), given[name]):
                    self.changed = f"your function changes its input `{name}` in place; work on a copy."
        expected = exercise.expected(case)
        if (problem := compare(answer, expected, exercise.tolerance)) is not None:
            kind, message = problem
            return answer, (kind, f"{_inputs(case)}{message}" if kind == "value" else message)
        if exercise.gradient and not self.gradient:
            self.gradient = self.stuck or _gradient_problem(exercise, case, given, answer) or ""
        return answer, None

    def given(self, case: Case, slopes: bool) -> dict[str, Any]:
        """Fresh inputs of a case; with ``slopes`` those whose gradient is compared require one."""
        given = {name: for_learner(value, self.exercise.arrays) for name, value in case.inputs.items()}
        for name in self.exercise.gradient if slopes else ():
            given[name] = given[name].requires_grad_(True)
        return given

    def after_cases(self) -> None:
        """What follows from the cases: gradients, inputs, the same answer twice."""
        right = next((entry for entry in self.answers if entry[2].passed), None)
        for name, group in self.exercise.after_cases():
            if self.lost >= MOST_LOST:
                self.add(name, group, _GIVEN_UP)
            elif group == "inputs" and self.changed:
                self.add(name, group, ("mutation", self.changed))
            elif right is None:
                self.add(name, group, ("untried", "is tried once a case above passes."))
            elif group == "gradient":
                told = self.gradient
                if not all(
                    result.passed for _, _, result in self.answers
                ):  # right here, wrong there: speak of the gradient alone
                    told = told.removeprefix(RIGHT)
                self.add(name, group, ("gradient", told) if told else None)
            elif group == "steady":
                self.add(name, group, self.steady(*right[:2]))
            else:
                self.add(name, group, None)

    def steady(self, case: Case, answer: Any) -> tuple[str, str] | None:
        """Whether a case that passed still does, after all the others."""
        again, problem = self.case(case)
        if problem is None and compare(again, _detached(answer), self.exercise.tolerance) is None:
            return None
        told = "" if problem is None or problem[0] == "value" else f" ({problem[1].rstrip('.')})"
        return "value", f"called twice with the same input ({case.name}), your function does not answer the same{told}."

    def rules(self) -> None:
        """Rules. When something before failed, a rule that stumbles over an odd answer tells no traceback."""
        for name, rule in self.exercise.rules.items():
            problem: tuple[str, str] | None = None
            if self.lost >= MOST_LOST:
                problem = _GIVEN_UP
            else:
                try:
                    with large_tasks(all(result.passed for result in self.results)):
                        rule(self.function, *self.drawn(name, rule))
                except RefusedError as refused:
                    problem = "rule", str(refused)
                except LearnerError as error:
                    problem = error.kind, error.message
                except Exception as error:
                    summary = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
                    if all(result.passed for result in self.results):
                        problem = "rule", f"your answer cannot be used as an answer is used ({summary})."
                    else:
                        problem = "untried", "is tried once the cases above pass."
            self.add(name, self.exercise.rule_group(name), problem)

    def drawn(self, name: str, rule: Callable) -> tuple[np.random.Generator, ...]:
        """The generator for a rule that takes one: its draws follow from the submission, as the random cases do."""
        asked = [one for one in inspect.signature(rule).parameters.values() if one.default is one.empty]
        if len(asked) < 2:
            return ()
        return (np.random.default_rng([self.seed, zlib.crc32(name.encode())]),)

    def resemblance(self) -> str:
        """The misconception whose answers equal the learner's on every case, or else which breaks the same rules; "" when none does."""
        return _resemblance(self.exercise, self.answers) or _same_failures(self.exercise, self.results)


def compare(answer: Any, expected: Any, tolerance: float, part: str = "your answer") -> tuple[str, str] | None:
    """What is wrong with ``answer``: (kind, sentence), kind being "type", "shape", "dtype" or "value"; None if nothing is.

    Args:
        answer: the learner's.
        expected: the oracle's: a number, an array, or a tuple, list or dict of them.
        tolerance: largest error, times max(1, |expected|).
        part: how to call the answer in the sentence.
    """
    if answer is None and expected is not None:
        return "type", f"{part} is None: is a `return` missing?"
    if isinstance(expected, Mapping):
        return _compare_mapping(answer, expected, tolerance, part)
    if isinstance(expected, tuple | list) and (isinstance(expected, tuple) or plain(answer) is None):
        if not isinstance(answer, tuple | list):
            return "type", f"{part} should be {len(expected)} values, and is {_kind_words(answer)}."
        if len(answer) != len(expected):
            return "shape", f"{part} has {len(answer)} parts; {len(expected)} are expected."
        for index, (one, other) in enumerate(zip(answer, expected, strict=True)):
            if problem := compare(one, other, tolerance, f"part {index + 1} of {part}"):
                return problem
        return None
    right = plain(np.asarray(expected)) if isinstance(expected, list) else plain(expected)
    if right is None:  # a string, a set, None …
        kinds = (set, frozenset) if isinstance(expected, set | frozenset) else (type(expected),)
        same = type(answer) in kinds and answer == expected
        return None if same else ("value", f"got {describe(answer)}, expected {describe(expected)}.")
    left = plain(answer)
    if left is None:
        return "type", f"{part} should be {_kind_words(expected)}, and is {_kind_words(answer)}."
    if left.shape != right.shape:
        return "shape", f"{part} has shape {shape_words(left.shape)}; expected is {shape_words(right.shape)}."
    if right.dtype.kind in "iub" and left.dtype.kind not in "iub":
        words = "True or False" if right.dtype.kind == "b" else "whole numbers"
        return "dtype", f"{part} has dtype {left.dtype}; expected are {words}."
    if right.dtype.kind == "f" and left.dtype.kind not in "fiu":
        return "dtype", f"{part} has dtype {left.dtype}; expected are decimal numbers."
    return _compare_numbers(left, right, tolerance, part)


def _compare_mapping(answer: Any, expected: Mapping, tolerance: float, part: str) -> tuple[str, str] | None:
    if not isinstance(answer, Mapping):
        return "type", f"{part} should be a dict with {', '.join(map(repr, expected))}, and is {_kind_words(answer)}."
    if missing := [key for key in expected if key not in answer]:
        return "shape", f"{part} lacks the key {missing[0]!r}."
    if extra := [key for key in answer if key not in expected]:
        return "shape", f"{part} has a key too many: {extra[0]!r}."
    for key, value in expected.items():
        if problem := compare(answer[key], value, tolerance, f"{part}[{key!r}]"):
            return problem
    return None


def _compare_numbers(left: np.ndarray, right: np.ndarray, tolerance: float, part: str) -> tuple[str, str] | None:
    found, wanted = left, right
    left, right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # an infinite answer is right only where it is expected: a tolerance of infinity would accept everything
        close = np.isfinite(right) & (np.abs(left - right) <= tolerance * np.maximum(1, np.abs(right)))
    close |= (left == right) | (np.isnan(left) & np.isnan(right))
    if close.all():
        return None
    name = "" if part == "your answer" else f"in {part}, "
    if left.ndim == 0 or left.size <= 12:
        told = f"{name}got {describe(found)}, expected {describe(_alike(wanted, found))}."
    else:
        worst = tuple(int(axis[0]) for axis in np.nonzero(~close))
        at = worst[0] if len(worst) == 1 else worst
        told = (
            f"{name}{int((~close).sum())} of {close.size} numbers differ; the first is at [{str(at).strip('()')}]: "
            f"got {describe(found[worst])}, expected {describe(_alike(wanted, found)[worst])}."
        )
    if np.isnan(left).any() and not np.isnan(right).any():
        told += " There are NaNs: look for 0/0, 1/0, log(0) or inf - inf."
    return "value", told


def _alike(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Expected numbers as they are shown beside found ones: as whole numbers only where both are."""
    return wanted if found.dtype.kind in "iub" or wanted.dtype.kind not in "iu" else wanted.astype(np.float64)


def _gradient_problem(exercise: Exercise, case: Case, given: dict[str, Any], answer: Any) -> str | None:
    """Compare autograd with central differences of the oracle; a sentence when they disagree."""
    if not isinstance(answer, torch.Tensor) or not answer.requires_grad:
        if isinstance(answer, torch.Tensor) and not any(exercise.slope(case, name).any() for name in exercise.gradient):
            return None  # an answer that does not depend on the inputs here (no edges, say) need not be joined to them
        return RIGHT + "no gradient flows: keep to torch (no .item(), .numpy(), float(), no .detach() of what learns)."
    wanted = [given[name] for name in exercise.gradient]
    try:
        found = torch.autograd.grad(answer.sum(), wanted, allow_unused=True)
    except LearnerError as error:
        return error.message
    except RuntimeError as error:
        return RIGHT + f"going back through it fails: {str(error).splitlines()[0].rstrip('.')}."
    for name, gradient in zip(exercise.gradient, found, strict=True):
        expected = exercise.slope(case, name)
        if gradient is None:
            if not expected.any():
                continue
            return RIGHT + f"no gradient reaches `{name}`: is it detached on the way?"
        loose = max(1e-3, 10 * exercise.tolerance)
        if compare(gradient, expected, loose) is not None:
            return (
                RIGHT + f"its gradient with respect to `{name}` is not: "
                f"got {describe(gradient)}, expected {describe(expected)}."
            )
    return None


def _resemblance(exercise: Exercise, answers: list[tuple[Case, Any, CaseResult]]) -> str:
    """The misconception whose answers equal the learner's on every case; "" when none does.

    A case in which the learner's function raises an exception fits a wrong solution that raises one there, too.
    """
    if not any(result.kind in ("value", "shape", "dtype", "type") for _, _, result in answers):
        return ""
    if any(answer is None and result.kind != "exception" for _, answer, result in answers):
        return ""
    for name, wrong in exercise.wrongs.items():
        if all(
            _raises(wrong, exercise, case) if result.kind == "exception" else _answers(wrong, exercise, case, answer)
            for case, answer, result in answers
        ):
            return f"Your answers are those of: {name}."
    return ""


def _same_failures(exercise: Exercise, results: list[CaseResult]) -> str:
    """The one misconception that breaks the very results which the learner's function breaks; "" when none or several do."""
    failed = _failed(results)
    if not failed or any(result.kind not in ("", "rule", "gradient", "mutation", "untried") for result in results):
        return ""
    fitting = [name for name in exercise.wrongs if broken(exercise, name) == failed]
    return f"The usual mistake that fails just here: {fitting[0]}." if len(fitting) == 1 else ""


def _raises(wrong: Callable, exercise: Exercise, case: Case) -> bool:
    try:
        _answer_of(wrong, exercise, case)
    except Exception:
        return True
    return False


def _answers(wrong: Callable, exercise: Exercise, case: Case, answer: Any) -> bool:
    """Whether the wrong solution's answer to a case is the learner's."""
    try:
        return compare(answer, _answer_of(wrong, exercise, case), exercise.tolerance) is None
    except Exception:  # a wrong solution may be one that raises
        return False


def _answer_of(wrong: Callable, exercise: Exercise, case: Case) -> Any:
    return _detached(wrong(*[for_learner(value, exercise.arrays) for value in case.inputs.values()]))


def _detached(value: Any) -> Any:
    """A wrong solution's answer in the form `compare` expects of an oracle."""
    if isinstance(value, Mapping):
        return {key: _detached(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_detached(part) for part in value)
    found = plain(value)
    return value if found is None else found


def _inputs(case: Case) -> str:
    """``with pos = [2.], neg = [0.5]: `` for inputs small enough to read; "" for large ones."""
    shown = [(name, describe(for_oracle(value))) for name, value in case.inputs.items()]
    text = ", ".join(f"{name} = {value}" for name, value in shown)
    return f"with {text}: " if len(text) <= 160 and "array of shape" not in text and "<" not in text else ""


def _kind_words(value: Any) -> str:
    found = plain(value)
    if found is not None:
        return "a single number" if found.ndim == 0 else f"an array of shape {shape_words(found.shape)}"
    if value is None:
        return "None"
    if isinstance(value, Opaque):
        return f"of type {value.type_name}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"
