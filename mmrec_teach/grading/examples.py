"""The visible half of an exercise as a file: what a hand-out holds in place of ``grading/exercises/lesson_NN.py``.

The file stores the examples alone: inputs, answers, gradients. It has neither the oracle nor hidden and random cases, rules and
wrong solutions. It is an npz archive in the form of `mmrec_teach.grading.child.wire`; the same exercise gives the same bytes.
"""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading.child.wire import Opaque, WireError, pack, unpack
from mmrec_teach.grading.exercise import Case, Exercise, Fresh

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
SUFFIX = ".npz"
NOTE = "These are the examples; more cases decide when your teacher grades."


class StoredExercise(Exercise):
    """An exercise whose examples come from a file; its answers and gradients are looked up, not computed."""

    def __init__(self, stored: dict[str, Any]):
        super().__init__(
            stored["name"],
            lesson=stored["lesson"],
            tolerance=stored["tolerance"],
            gradient=tuple(stored["gradient"]),
            arrays=stored["arrays"],
            note=NOTE,
        )
        self._stored = {case["name"]: case for case in stored["cases"]}
        self._cases = self._examples
        self._oracle = lambda *inputs: None  # there are answers, though nothing here computes them

    def _examples(self) -> Iterable[Case]:
        for name, case in self._stored.items():
            yield Case(name, **{key: _thawed(value) for key, value in case["inputs"].items()})

    def answer(self, case: Case) -> Any:
        """The stored answer."""
        return copy.deepcopy(self._stored[case.name]["answer"])

    def slope(self, case: Case, name: str, step: float = 0.0) -> np.ndarray:
        """The stored gradient."""
        return self._stored[case.name]["slopes"][name].copy()


def export_examples(exercise: Exercise) -> bytes:
    """The file of one exercise's examples.

    Raises:
        OptionError: the exercise has no example, or one that cannot be stored.
    """
    where = f"exercise {exercise.name}"
    examples = [case for case in exercise.all_cases() if case.group == "examples"]
    if not examples or exercise.answer(examples[0]) is None:
        raise OptionError(
            "there is no example that could be handed out", where=where, fix="Give it a @cases generator and an @oracle"
        )
    if len({case.name for case in examples}) < len(examples):
        raise OptionError("two examples have one name", where=where)
    stored = {
        "format": FORMAT,
        "name": exercise.name,
        "lesson": exercise.lesson,
        "tolerance": float(exercise.tolerance),
        "gradient": list(exercise.gradient),
        "arrays": exercise.arrays,
        "cases": [
            {
                "name": case.name,
                "inputs": {name: _frozen(value) for name, value in case.inputs.items()},
                "answer": exercise.answer(case),
                "slopes": {name: exercise.slope(case, name) for name in exercise.gradient},
            }
            for case in examples
        ],
    }
    try:
        content = _undated(pack(stored))
        kept = unpack(content)
    except WireError as error:
        raise OptionError("an example cannot be stored", where=where, found=str(error)) from error
    for case in kept["cases"]:
        if lost := _lost(case):
            raise OptionError("an example cannot be stored", where=f"{where}, {case['name']}", found=f"a value of type {lost}")
    return content


def load_examples(content: bytes, where: str = "examples") -> StoredExercise:
    """Read what `export_examples` made, and register the exercise.

    Args:
        content: the file's bytes.
        where: its name, for errors.
    Raises:
        InputError: it is not such a file.
    """
    try:
        stored = unpack(content)
        if stored["format"] != FORMAT:
            raise InputError("examples of another version of the course", where=where, found=stored["format"])
        return StoredExercise(stored)
    except (WireError, KeyError, TypeError) as error:
        raise InputError("not a file of examples", where=where, found=str(error), fix="Install the hand-out again") from error


def load_stored(folders: Iterable[str]) -> None:
    """Register every exercise whose examples lie in one of the folders."""
    for folder in folders:
        for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
            load_examples(path.read_bytes(), path.name)


def _frozen(value: Any) -> Any:
    """An input with its generators as they are when made; told apart by the key."""
    return {"fresh": value.make()} if isinstance(value, Fresh) else {"plain": value}


def _thawed(stored: dict[str, Any]) -> Any:
    if "plain" in stored:
        return stored["plain"]
    value = stored["fresh"]
    return Fresh(lambda: value.clone_state() if hasattr(value, "clone_state") else copy.deepcopy(value))


def _lost(value: Any) -> str:
    """The type of the first value that does not survive storing; "" when all do."""
    if isinstance(value, Opaque):
        return value.type_name
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return next(filter(None, map(_lost, value)), "")
    return ""


def _undated(content: bytes) -> bytes:
    """The same archive with no time of writing in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name))
    return buffer.getvalue()
