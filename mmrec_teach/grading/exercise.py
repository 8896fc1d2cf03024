"""What an exercise is, and how to write one.

In ``grading/exercises/lesson_NN.py``:

    import numpy as np
    import torch
    from mmrec_teach.grading.exercise import Case, Exercise, expect

    hinge_loss = Exercise("hinge_loss", lesson="01", gradient=("pos", "neg"))

    @hinge_loss.cases
    def _():
        yield Case("one pair", pos=np.array([2.0]), neg=np.array([0.5]))
        rng = np.random.default_rng(0)
        yield Case("many pairs", pos=rng.normal(size=64), neg=rng.normal(size=64))

    @hinge_loss.oracle                                  # float64 numpy, written from the formula, not from the package's code
    def _(pos, neg):
        return np.mean(np.maximum(0, 1 - (pos - neg)))

    @hinge_loss.rule("never below zero")                              # optional: what must hold beyond the cases
    def _(hinge_loss):
        loss = hinge_loss(torch.tensor([200.0]), torch.tensor([-200.0]))
        expect(bool(loss >= 0), "with a margin of 400 the loss is below zero; it should stop at zero")

    @hinge_loss.wrong("the margin with its sign reversed")                  # at least five: one per misconception; each must be refused
    def _(pos, neg):
        return torch.relu(1 - (neg - pos)).mean()

    @hinge_loss.random                                  # property tests: drawn anew for every submission, from the generator given
    def _(rng):
        yield Case("a random batch", pos=rng.normal(size=40), neg=rng.normal(size=40))

    @hinge_loss.hidden                                  # fixed cases kept out of a teacher's hand-out: edges, traps
    def _():
        yield Case("a margin of exactly one", pos=np.array([2.0]), neg=np.array([1.0]))

Examples are what a learner may see whole; a hand-out to a class contains them alone. The names of random cases must not depend
on the draw. Draw them so that every misconception is refused by some case whatever the draw.

The learner's function receives the inputs of a case by position, as fresh torch tensors: floats as float32, integers as int64,
scipy sparse matrices as torch CSR; everything that is not an array (numbers, lists, generators made by a callable, see below)
as it is. ``Exercise(…, arrays="numpy")`` hands over numpy arrays instead (dtypes as written). The oracle receives the same
inputs as float64 numpy arrays (scipy sparse stays sparse) and its answer is compared entry by entry: an error is allowed of
``tolerance * max(1, |expected|)``. Shapes must be equal; integer answers must come as integers; a tuple, list or dict is
compared part by part. From the cases follow three results more: with ``gradient=(names…)`` the gradient of the sum of the answer
with respect to those inputs must equal a central difference of the oracle; inputs must not be changed in place; the same
inputs must give the same answer twice.

An input that must be made anew for each call (a random generator) is given as ``Fresh(lambda: np.random.default_rng(0))``. An
exercise without an oracle (sampling, say) consists of rules alone. A rule gets the learner's function, and complains with
``expect(condition, "what is wrong, in words a learner understands")``; any exception the learner's code raises in it is
reported with its line. A rule of two arguments is also given a generator, which follows from the submission as that of the random
cases does: what is drawn from it nobody can prepare for. Rules run on the grader's side, the function perhaps in another process: call
it with tensors, arrays and numbers by position, look at its answer, and measure what it costs with
`mmrec_teach.grading.watch.Effort` and `ask_large`.

Credit goes by groups, each paid whole or not at all. The core (examples, random cases, same answer twice, and rules marked
``core=True``) pays `CORE_SHARE`; hidden cases, the gradient, inputs left alone, and the rules share the rest equally, and are paid only
if the core holds: a function that is wrong earns nothing for being harmless. Without other groups the core pays everything.

A wrong solution is written like a learner's. Its name is shown to a learner whose answers equal it on every case: "Your answers
are those of: the margin with its sign reversed". So word the name as a misconception and not as the answer.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmrec_teach.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

GRADIENT = "gradients flow, and are right"
INPUTS = "the inputs are left as they were"
STEADY = "the same inputs give the same answer again"


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

    Attributes:
        group: "examples", "random" or "hidden"; set by the exercise.
    """

    def __init__(self, name: str, /, **inputs: Any):
        self.name = name
        self.inputs = inputs
        self.group = "examples"

    def __repr__(self) -> str:
        return f"Case({self.name!r}, {', '.join(self.inputs)})"


CORE_SHARE = 0.5

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
        note: a sentence that `check` adds to the verdict on what was tried.
    Raises:
        OptionError: a second exercise of that name in another module, or an unknown ``arrays``.
    """

    name: str
    lesson: str = ""
    tolerance: float = 1e-5
    gradient: tuple[str, ...] = ()
    arrays: str = "torch"
    note: str = ""
    _cases: Callable[[], Iterable[Case]] | None = field(default=None, repr=False)
    _random: Callable[[np.random.Generator], Iterable[Case]] | None = field(default=None, repr=False)
    _hidden: Callable[[], Iterable[Case]] | None = field(default=None, repr=False)
    _oracle: Callable | None = field(default=None, repr=False)
    core_rules: set[str] = field(default_factory=set, repr=False)
    rules: dict[str, Callable] = field(default_factory=dict, repr=False)
    wrongs: dict[str, Callable] = field(default_factory=dict, repr=False)
    broken: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)
    _memory: dict[tuple, Any] = field(default_factory=dict, repr=False)

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
        """Decorator: the generator of this exercise's examples, which a learner may see whole."""
        self._cases = function
        return function

    def random(self, function: Callable[[np.random.Generator], Iterable[Case]]) -> Callable:
        """Decorator: the generator of cases drawn anew for each submission, from the generator it is given."""
        self._random = function
        return function

    def hidden(self, function: Callable[[], Iterable[Case]]) -> Callable:
        """Decorator: the generator of fixed cases that hand-outs leave out."""
        self._hidden = function
        return function

    def oracle(self, function: Callable) -> Callable:
        """Decorator: the independent answer, in float64 numpy."""
        self._oracle = function
        return function

    def rule(self, name: str, *, core: bool = False) -> Callable[[Callable], Callable]:
        """Decorator: a check of the learner's function beyond the cases; ``name`` says what must hold.

        Args:
            core: without it the function is simply wrong, and earns nothing.
        """

        def register(function: Callable) -> Callable:
            self.rules[name] = function
            if core:
                self.core_rules.add(name)
            return function

        return register

    def wrong(self, name: str) -> Callable[[Callable], Callable]:
        """Decorator: a wrong solution, named after its misconception."""

        def register(function: Callable) -> Callable:
            self.wrongs[name] = function
            return function

        return register

    def all_cases(self, seed: int = 0) -> list[Case]:
        """The cases, made anew: examples, random ones drawn from ``seed``, hidden ones."""
        import numpy as np

        made: list[Case] = []
        for group, cases in (
            ("examples", self._cases() if self._cases else ()),
            ("random", self._random(np.random.default_rng([seed, len(self.name)])) if self._random else ()),
            ("hidden", self._hidden() if self._hidden else ()),
        ):
            for case in cases:
                case.group = group
                made.append(case)
        return made

    def result_names(self) -> list[tuple[str, str]]:
        """(name, group) of every result a verdict on this exercise has, in order; needs no submission."""
        cases = [(case.name, case.group) for case in self.all_cases()]
        return (
            cases
            + [(name, group) for name, group in self.after_cases()]
            + [(name, self.rule_group(name)) for name in self.rules]
        )

    def after_cases(self) -> list[tuple[str, str]]:
        """(name, group) of the results that follow from the cases."""
        if self._oracle is None or not (self._cases or self._random or self._hidden):
            return []
        out = [(GRADIENT, "gradient")] if self.gradient else []
        return [*out, (INPUTS, "inputs"), (STEADY, "steady")]

    def rule_group(self, name: str) -> str:
        """ "core" or "rules"."""
        return "core" if name in self.core_rules else "rules"

    def answer(self, case: Case) -> Any:
        """The oracle's answer to a case; None when this exercise has no oracle."""
        from mmrec_teach.grading.arrays import for_oracle

        if self._oracle is None:
            return None
        return self._oracle(*[for_oracle(value) for value in case.inputs.values()])

    def expected(self, case: Case) -> Any:
        """As `answer`, remembered for cases that are the same each time."""
        return self._remembered(("answer", case.group, case.name), case, lambda: self.answer(case))

    def slope(self, case: Case, name: str, step: float = 1e-5) -> np.ndarray:
        """Gradient of the sum of the oracle's answer with respect to the input ``name``, by central differences in float64."""
        return self._remembered(("slope", case.group, case.name, name), case, lambda: self._differences(case, name, step))

    def _differences(self, case: Case, name: str, step: float) -> np.ndarray:
        import numpy as np

        from mmrec_teach.grading.arrays import for_oracle

        base = np.asarray(for_oracle(case.inputs[name]), dtype=np.float64)
        gradient = np.zeros_like(base)
        for index in np.ndindex(base.shape):
            values = []
            for sign in (1, -1):
                moved = base.copy()
                moved[index] += sign * step
                values.append(float(np.sum(self.answer(Case(case.name, **{**case.inputs, name: moved})))))
            gradient[index] = (values[0] - values[1]) / (2 * step)
        return gradient

    def _remembered(self, key: tuple, case: Case, make: Callable[[], Any]) -> Any:
        if case.group == "random":
            return make()
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]


def load_exercises() -> dict[str, Exercise]:
    """All exercises by name: imports every module in ``grading/exercises``; a hand-out has files of examples there instead."""
    from mmrec_teach.grading import exercises
    from mmrec_teach.grading.examples import load_stored

    for module in sorted(pkgutil.iter_modules(exercises.__path__), key=lambda found: found.name):
        importlib.import_module(f"{exercises.__name__}.{module.name}")
    load_stored(exercises.__path__)
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
        near = difflib.get_close_matches(str(name), _REGISTRY, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"no exercise is called {name!r}", expected=f"one of: {listed}", fix=fix)
    return _REGISTRY[name]
