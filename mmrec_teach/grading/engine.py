"""Run a learner's function against an exercise's cases, in process, and say what was found."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from mmrec_teach.grading import patience
from mmrec_teach.grading.arrays import describe, for_learner, for_oracle, plain, same_inputs, shape_words
from mmrec_teach.grading.exercise import Case, Exercise, RefusedError, find_exercise
from mmrec_teach.grading.patience import OutOfTimeError, time_limit
from mmrec_teach.grading.record import current_record
from mmrec_teach.grading.verdict import CaseResult, Verdict


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
    exercise = find_exercise(name)
    if function is None:
        frame = sys._getframe(1)
        function = frame.f_locals.get(name, frame.f_globals.get(name))
    if function is None:
        verdict = Verdict(
            name, "missing", advice=f"There is no `{name}` here yet: run the cell that defines it, then run this one again."
        )
    elif not callable(function):
        verdict = Verdict(
            name, "missing", advice=f"`{name}` is {describe(function)}, not a function: define it again with def."
        )
    else:
        verdict = grade(exercise, function)
    current_record().note_check(verdict)
    if not in_ipython():
        print(verdict)
    return verdict


def in_ipython() -> bool:
    """Whether this process is an IPython one, where values show themselves."""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None


def in_notebook() -> bool:
    """Whether values are shown by a notebook's front end, which can draw widgets; False in IPython's plain terminal."""
    return in_ipython() and getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None


def grade(exercise: Exercise | str, function: Callable) -> Verdict:
    """The verdict on ``function``; looks nothing up, notes nothing, prints nothing."""
    if isinstance(exercise, str):
        exercise = find_exercise(exercise)
    results: list[CaseResult] = []
    answers: list[tuple[Case, Any]] = []
    for case in exercise.all_cases():
        result, answer = _run_case(exercise, case, function)
        results.append(result)
        answers.append((case, answer))
        if result.kind == "blank":
            return Verdict(exercise.name, "blank", advice=result.message)
        if result.kind == "timeout":  # the next case would wait as long
            return Verdict(exercise.name, "failed", tuple(results))
    for name, rule in exercise.rules.items():
        result = _run_rule(name, rule, function, sound=all(result.passed for result in results))
        results.append(result)
        if result.kind == "blank":
            return Verdict(exercise.name, "blank", advice=result.message)
        if result.kind == "timeout":
            return Verdict(exercise.name, "failed", tuple(results))
    if not results:
        return Verdict(exercise.name, "failed", advice="This exercise has no cases yet.")
    if all(result.passed for result in results):
        return Verdict(exercise.name, "passed", tuple(results))
    status = "error" if all(result.kind == "exception" for result in results) else "failed"
    return Verdict(exercise.name, status, tuple(results), advice=_resemblance(exercise, results, answers))


def _run_case(exercise: Exercise, case: Case, function: Callable) -> tuple[CaseResult, Any]:
    """One case: its result, and the answer for the search among wrong solutions (None where there is none)."""

    def failed(kind: str, message: str, answer: Any = None) -> tuple[CaseResult, Any]:
        return CaseResult(case.name, False, kind, message), answer

    given = {name: for_learner(value, exercise.arrays) for name, value in case.inputs.items()}
    for name in exercise.gradient:
        given[name] = given[name].requires_grad_(True)
    try:
        with time_limit():
            answer = function(*given.values())
    except (Exception, OutOfTimeError) as error:
        kind, message = _told(error, function)
        return failed(kind, message)
    for name, value in case.inputs.items():
        # inputs that are made anew each time are meant to be used up
        if not same_inputs(for_learner(value, exercise.arrays), given[name]):
            return failed("mutation", f"your function changes its input `{name}` in place; work on a copy.", answer)
    expected = exercise.answer(case)
    if (problem := compare(answer, expected, exercise.tolerance)) is not None:
        kind, message = problem
        if kind == "value":
            message = f"{_inputs(case)}{message}"
        return failed(kind, message, answer)
    if exercise.gradient and (message := _gradient_problem(exercise, case, given, answer)):
        return failed("gradient", message, answer)
    return CaseResult(case.name, True), answer


def _run_rule(name: str, rule: Callable, function: Callable, *, sound: bool) -> CaseResult:
    """One rule. When something before it failed (``sound`` is False), a rule that stumbles over an odd answer tells no
    traceback."""
    try:
        with time_limit():
            rule(function)
    except RefusedError as refused:
        return CaseResult(name, False, "rule", str(refused))
    except (Exception, OutOfTimeError) as error:
        kind, message = _told(error, function)
        if kind == "exception" and not sound and learner_line(error.__traceback__, function) is None:
            kind, message = "rule", "cannot be tried before the cases above pass."
        return CaseResult(name, False, kind, message)
    return CaseResult(name, True)


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
        same = answer == expected
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
    left, right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # an infinite answer is right only where it is expected: a tolerance of infinity would accept everything
        close = np.isfinite(right) & (np.abs(left - right) <= tolerance * np.maximum(1, np.abs(right)))
    close |= (left == right) | (np.isnan(left) & np.isnan(right))
    if close.all():
        return None
    name = "" if part == "your answer" else f"in {part}, "
    if left.ndim == 0 or left.size <= 12:
        told = f"{name}got {describe(left)}, expected {describe(right)}."
    else:
        worst = tuple(int(axis[0]) for axis in np.nonzero(~close))
        at = worst[0] if len(worst) == 1 else worst
        told = (
            f"{name}{int((~close).sum())} of {close.size} numbers differ; the first is at [{str(at).strip('()')}]: "
            f"got {describe(left[worst])}, expected {describe(right[worst])}."
        )
    if np.isnan(left).any() and not np.isnan(right).any():
        told += " There are NaNs: look for 0/0, 1/0, log(0) or inf - inf."
    return "value", told


def _gradient_problem(exercise: Exercise, case: Case, given: dict[str, Any], answer: Any) -> str | None:
    """Compare autograd with central differences of the oracle; a sentence when they disagree."""
    import torch

    if not isinstance(answer, torch.Tensor) or not answer.requires_grad:
        return (
            "the value is right, but no gradient flows: keep to torch operations (no .item(), .numpy(), .detach() or float())."
        )
    wanted = [given[name] for name in exercise.gradient]
    found = torch.autograd.grad(answer.sum(), wanted, allow_unused=True)
    for name, gradient in zip(exercise.gradient, found, strict=True):
        if gradient is None:
            return f"the value is right, but no gradient reaches `{name}`: is it detached on the way?"
        expected = _central_difference(exercise, case, name)
        loose = max(1e-3, 10 * exercise.tolerance)
        if compare(gradient, expected, loose) is not None:
            return (
                f"the value is right, but its gradient with respect to `{name}` is not: "
                f"got {describe(gradient)}, expected {describe(expected)}."
            )
    return None


def _central_difference(exercise: Exercise, case: Case, name: str, step: float = 1e-5) -> np.ndarray:
    base = np.asarray(for_oracle(case.inputs[name]), dtype=np.float64)
    gradient = np.zeros_like(base)
    for index in np.ndindex(base.shape):
        values = []
        for sign in (1, -1):
            moved = base.copy()
            moved[index] += sign * step
            values.append(float(np.sum(exercise.answer(Case(case.name, **{**case.inputs, name: moved})))))
        gradient[index] = (values[0] - values[1]) / (2 * step)
    return gradient


def _resemblance(exercise: Exercise, results: list[CaseResult], answers: list[tuple[Case, Any]]) -> str:
    """The misconception whose answers equal the learner's on every case; "" when none does.

    A case in which the learner's function raises an exception fits a wrong solution that raises one there, too.
    """
    raised = [result.kind == "exception" for result in results[: len(answers)]]
    if not any(result.kind == "value" for result in results):
        return ""
    if any(answer is None and not stumbled for (_, answer), stumbled in zip(answers, raised, strict=True)):
        return ""
    for name, wrong in exercise.wrongs.items():
        if all(
            _raises(wrong, exercise, case) if stumbled else _answers(wrong, exercise, case, answer)
            for (case, answer), stumbled in zip(answers, raised, strict=True)
        ):
            return f"Your answers are those of: {name}."
    return ""


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
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def _told(error: BaseException, function: Callable) -> tuple[str, str]:
    """An exception of the learner's code: kind and sentence, with the learner's own line."""
    if isinstance(error, OutOfTimeError):
        line = learner_line(error.__traceback__, function)
        return "timeout", (
            f"not done after {patience.SECONDS:g} seconds, and was stopped{f' at your line {line}' if line else ''}. "
            "If there is a loop: does what it waits for change inside it, and can it ever come true?"
        )
    if isinstance(error, NotImplementedError):
        return "blank", str(error) or "The function still raises NotImplementedError."
    summary = str(error).splitlines()[0].rstrip(".") if str(error) else ""
    if "in-place operation" in summary and "leaf Variable" in summary:
        line = learner_line(error.__traceback__, function)
        return "mutation", "your function changes an input in place; work on a copy" + (f" (line {line})." if line else ".")
    told = f"{type(error).__name__}: {summary}" if summary else type(error).__name__
    line = learner_line(error.__traceback__, function)
    if line is None and isinstance(error, TypeError):
        return "exception", f"{told} (do the arguments in your `def` line still have their places?)"
    return "exception", told + (f", at your line {line}" if line else "")


def learner_line(trace: TracebackType | None, function: Callable) -> str | None:
    """``3: `return x @ y` `` for the innermost line of the file (or notebook cells) that defines ``function``.

    The number counts from the function's ``def`` line as 1, as a learner counts in a cell.
    """
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__init__", None), "__code__", None)
    if code is None:
        return None
    frames = [
        (frame, number)
        for frame, number in traceback.walk_tb(trace)
        if _same_source(frame.f_code.co_filename, code.co_filename)
    ]
    if not frames:
        return None
    frame, number = frames[-1]
    text = linecache.getline(frame.f_code.co_filename, number).strip()
    shown = number - code.co_firstlineno + 1 if frame.f_code is code else number
    return f"{shown}" + (f": `{text}`" if text else "")


def _same_source(one: str, other: str) -> bool:
    """The same file, or two cells of one notebook."""
    notebook = ("ipykernel_", "<ipython-input-")
    return one == other or all(any(mark in name for mark in notebook) for name in (one, other))
