"""What an exercise is, and how to write one.

In ``grading/exercises/lesson_NN.py``:

    import numpy as np
    import torch
    from mmrec_teach.grading.exercise import Case, Exercise, expect

    bpr_loss = Exercise("bpr_loss", lesson="01", gradient=("pos", "neg"))

    @bpr_loss.cases
    def _():
        yield Case("one pair", pos=np.array([2.0]), neg=np.array([0.5]))
        rng = np.random.default_rng(0)
        yield Case("many pairs", pos=rng.normal(size=64), neg=rng.normal(size=64))

    @bpr_loss.oracle                                  # float64 numpy, written from the formula, not from the package's code
    def _(pos, neg):
        return np.mean(np.log1p(np.exp(-(pos - neg))))

    @bpr_loss.rule("stays finite for very wrong pairs")              # optional: what must hold beyond the cases
    def _(bpr_loss):
        loss = bpr_loss(torch.tensor([-200.0]), torch.tensor([200.0]))
        expect(bool(torch.isfinite(loss)), "with a margin of -400 the loss is not finite; use logsigmoid or softplus")

    @bpr_loss.wrong("the pair the wrong way round")                  # at least two: one per misconception; each must be refused
    def _(pos, neg):
        return -torch.nn.functional.logsigmoid(neg - pos).mean()

The learner's function receives the inputs of a case by position, as fresh torch tensors: floats as float32, integers as int64,
scipy sparse matrices as torch CSR; everything that is not an array (numbers, lists, generators made by a callable, see below)
as it is. ``Exercise(…, arrays="numpy")`` hands over numpy arrays instead (dtypes as written). The oracle receives the same
inputs as float64 numpy arrays (scipy sparse stays sparse) and its answer is compared entry by entry: an error is allowed of
``tolerance * max(1, |expected|)``. Shapes must be equal; integer answers must come as integers; a tuple, list or dict is
compared part by part. Inputs must not be changed in place. With ``gradient=(names…)`` the gradient of the sum of the answer
with respect to those inputs must equal a central difference of the oracle.

An input that must be made anew for each call (a random generator) is given as ``Fresh(lambda: np.random.default_rng(0))``. An
exercise without an oracle (sampling, say) consists of rules alone. A rule gets the learner's function, and complains with
``expect(condition, "what is wrong, in words a learner understands")``; any exception the learner's code raises in it is
reported with its line.

A wrong solution is written like a learner's. Its name is shown to a learner whose answers equal it on every case: "Your answers
are those of: the pair the wrong way round". So word the name as a misconception and not as the answer.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mmrec_teach.errors import OptionError


class RefusedError(Exception):
    """A rule does not hold; the message is for the learner."""


def expect(condition: bool, message: str) -> None:
    """Refuse the learner's function with ``message`` unless ``condition`` holds. Works under ``python -O`` too."""
    if not condition:
        raise RefusedError(message)


@dataclass(frozen=True)
class Fresh:
    """An input made anew for each call, e.g. ``Fresh(lambda: np.random.default_rng(0))``."""

    make: Callable[[], Any]


class Case:
    """One call of the learner's function: a name a learner can read, and the inputs in order.

    Args:
        name: says what is special here ("a user without any item").
        inputs: the arguments, in the order of the function's signature.
    """

    def __init__(self, name: str, /, **inputs: Any):
        self.name = name
        self.inputs = inputs

    def __repr__(self) -> str:
        return f"Case({self.name!r}, {', '.join(self.inputs)})"


_REGISTRY: dict[str, Exercise] = {}


@dataclass
class Exercise:
    """The hidden half of an exercise: cases, oracle, rules and wrong solutions. Registers itself under its name.

    Args:
        name: the id in the master's metadata, and the name of the function to write.
        lesson: number of its lesson ("01").
        tolerance: largest allowed error, times max(1, |expected|).
        gradient: names of inputs whose gradient is compared too.
        arrays: "torch" or "numpy": what the learner's function is given.
    Raises:
        OptionError: a second exercise of that name in another module, or an unknown ``arrays``.
    """

    name: str
    lesson: str = ""
    tolerance: float = 1e-5
    gradient: tuple[str, ...] = ()
    arrays: str = "torch"
    _cases: Callable[[], Iterable[Case]] | None = field(default=None, repr=False)
    _oracle: Callable | None = field(default=None, repr=False)
    rules: dict[str, Callable] = field(default_factory=dict, repr=False)
    wrongs: dict[str, Callable] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.arrays not in ("torch", "numpy"):
            raise OptionError(
                "unknown kind of arrays", where=f"exercise {self.name}", found=self.arrays, expected="torch or numpy"
            )
        other = _REGISTRY.get(self.name)
        if other is not None and other.lesson != self.lesson:
            raise OptionError(
                "the name is taken", where=f"exercise {self.name} of lesson {self.lesson}", found=f"lesson {other.lesson}"
            )
        _REGISTRY[self.name] = self

    def cases(self, function: Callable[[], Iterable[Case]]) -> Callable[[], Iterable[Case]]:
        """Decorator: the generator of this exercise's cases."""
        self._cases = function
        return function

    def oracle(self, function: Callable) -> Callable:
        """Decorator: the independent answer, in float64 numpy."""
        self._oracle = function
        return function

    def rule(self, name: str) -> Callable[[Callable], Callable]:
        """Decorator: a check of the learner's function beyond the cases; ``name`` says what must hold."""

        def register(function: Callable) -> Callable:
            self.rules[name] = function
            return function

        return register

    def wrong(self, name: str) -> Callable[[Callable], Callable]:
        """Decorator: a wrong solution, named after its misconception."""

        def register(function: Callable) -> Callable:
            self.wrongs[name] = function
            return function

        return register

    def all_cases(self) -> list[Case]:
        """The cases, made anew."""
        return list(self._cases()) if self._cases else []

    def answer(self, case: Case) -> Any:
        """The oracle's answer to a case; None when this exercise has no oracle."""
        from mmrec_teach.grading.arrays import for_oracle

        if self._oracle is None:
            return None
        return self._oracle(*[for_oracle(value) for value in case.inputs.values()])


def load_exercises() -> dict[str, Exercise]:
    """All exercises by name: imports every module in ``grading/exercises``."""
    from mmrec_teach.grading import exercises

    for module in sorted(pkgutil.iter_modules(exercises.__path__), key=lambda found: found.name):
        importlib.import_module(f"{exercises.__name__}.{module.name}")
    return dict(_REGISTRY)


def find_exercise(name: str) -> Exercise:
    """The exercise of that name.

    Raises:
        OptionError: there is none; the message lists those there are.
    """
    if name not in _REGISTRY:
        load_exercises()
    if name not in _REGISTRY:
        listed = ", ".join(sorted(_REGISTRY)) or "none yet"
        raise OptionError(f"no exercise is called {name!r}", expected=f"one of: {listed}")
    return _REGISTRY[name]
