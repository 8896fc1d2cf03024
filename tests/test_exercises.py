"""The course's exercises: every misconception is refused, named and paid less than in full, in a notebook and in the sandbox alike."""

from __future__ import annotations

import ast
import copy
import inspect
import linecache
import math
import textwrap

import pytest

from benchmarks.tolerances import nearest_wrong, noise, solutions
from mmrec_teach.course.master import load_masters, read_percent
from mmrec_teach.grading.engine import compare, grade, seed_of
from mmrec_teach.grading.exercise import find_exercise, load_exercises
from mmrec_teach.grading.submission import grade_submission, read_submission
from tests.toy_course import ROOT

EXERCISES = sorted(name for name, found in load_exercises().items() if found.lesson.isdigit())
IMPORTS = "import numpy as np\nimport torch\n"
DRAWS = 20


@pytest.fixture(autouse=True)
def _no_record(monkeypatch):
    monkeypatch.setenv("MMREC_TEACH_PROGRESS", "off")


@pytest.fixture(scope="module")
def solved():
    return solutions()


def without_rules(exercise):
    """The exercise with its cases alone: rules do not depend on the draw."""
    bare = copy.copy(exercise)
    bare.rules = {}
    return bare


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_has_examples_draws_and_traps(name):
    found = find_exercise(name)
    groups = {case.group for case in found.all_cases()}
    assert groups == {"examples", "random", "hidden"}
    assert len({case for case, _ in found.result_names()}) == len(found.result_names()), "names are unique"
    assert len(found.wrongs) >= 5, "at least five misconceptions"


@pytest.mark.parametrize("name", EXERCISES)
def test_draws_differ_and_can_be_repeated(name):
    found = find_exercise(name)
    drawn = [[found.answer(case) for case in found.all_cases(seed) if case.group == "random"] for seed in [*range(DRAWS), 0]]
    assert compare(drawn[0], drawn[-1], 0.0) is None
    assert any(compare(drawn[0], other, 1e-3) is not None for other in drawn[1:-1])
    names = [[case.name for case in found.all_cases(seed)] for seed in range(DRAWS)]
    assert all(one == names[0] for one in names), "the names do not depend on the draw"


@pytest.mark.parametrize("name", EXERCISES)
def test_the_course_s_own_solution_passes_whatever_the_draw(name, solved):
    found = find_exercise(name)
    verdict = grade(found, solved[name])
    assert (verdict.status, verdict.credit) == ("passed", 1.0), str(verdict)
    assert [(case.name, case.group) for case in verdict.cases] == found.result_names()
    for seed in range(DRAWS):
        assert grade(without_rules(found), solved[name], seed=seed), seed


@pytest.mark.parametrize("name", EXERCISES)
def test_every_misconception_is_refused_and_recognised(name):
    found = find_exercise(name)
    table = []
    for misconception, wrong in found.wrongs.items():
        verdict = grade(found, wrong)
        table.append(f"{verdict.credit:5.3f}  {misconception}  ->  {verdict.advice}")
        assert verdict.status in ("failed", "error"), f"{misconception}\n{verdict}"
        assert verdict.credit < 1, "\n".join(table)
        assert misconception in verdict.advice, "\n".join(table)


@pytest.mark.parametrize("name", EXERCISES)
def test_no_draw_lets_a_misconception_through(name):
    """What fails in an example fails in a random case as well, so that knowing the examples by heart earns nothing."""
    found = find_exercise(name)
    bare = without_rules(found)
    for misconception, wrong in found.wrongs.items():
        by_rules = {case.name for case in grade(found, wrong, advise=False).cases if not case.passed} & set(found.rules)
        for seed in range(DRAWS):
            failed = {case.group for case in grade(bare, wrong, seed=seed, advise=False).cases if not case.passed}
            assert failed or by_rules, f"{misconception}, draw {seed}"
            if "examples" in failed:
                assert "random" in failed, f"{misconception}, draw {seed}"


@pytest.mark.parametrize("name", EXERCISES)
def test_tolerances_lie_between_noise_and_the_nearest_wrong_answer(name, solved):
    found = find_exercise(name)
    nearest, wrong = nearest_wrong(found, range(3))
    assert 10 * noise(found, solved[name], range(3)) <= found.tolerance
    assert found.tolerance <= nearest / 10, wrong
    assert math.isfinite(found.tolerance)


# -- the same verdict wherever the function runs ---------------------------------------------------------------------------
def definition(source: str, name: str) -> str:
    """The text of the function ``name`` in ``source``, without decorators."""
    tree = ast.parse(source)
    node = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])


def renamed(function, name: str) -> str:
    """The text of a wrong solution as if a learner had written it for the exercise ``name``."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("def "))
    lines[start] = f"def {name}{lines[start][lines[start].index('(') :]}"
    return "\n".join(lines[start:])


def in_a_notebook(text: str, name: str):
    """The function as a notebook of two cells defines it."""
    namespace: dict = {}
    for number, cell in enumerate((IMPORTS, text), start=1):
        filename = f"<ipython-input-{number}-{name}>"
        linecache.cache[filename] = (len(cell), None, cell.splitlines(keepends=True), filename)
        exec(compile(cell, filename, "exec"), namespace)
    return namespace[name]


def handed_in() -> dict[str, dict[str, str]]:
    """For every exercise, by what it is: the texts of the solution, the stub and all wrong solutions."""
    texts: dict[str, dict[str, str]] = {}
    for master in load_masters(ROOT):
        blank = read_percent(master.blank, where=master.path.name)
        for one in master.exercises:
            texts[one.id] = {
                "the solution": definition(master.notebook.cells[one.cell].source, one.id),
                "the stub": definition(blank.cells[one.cell].source, one.id),
            }
    for name in EXERCISES:
        for misconception, wrong in find_exercise(name).wrongs.items():
            texts[name][misconception] = renamed(wrong, name)
    return texts


@pytest.mark.parametrize("name", EXERCISES)
def test_sandbox_and_notebook_give_one_verdict(name, sandbox):
    found = find_exercise(name)
    for what, text in handed_in()[name].items():
        session = sandbox.open([IMPORTS, text], name)
        assert (session.problem, session.source) == ("", text), what
        far = grade(found, session.function, seed=seed_of(name, session.source))
        near = grade(found, in_a_notebook(text, name))
        assert (far.status, far.advice, far.credit) == (near.status, near.advice, near.credit), f"{what}\n{far}\n{near}"
        assert far.cases == near.cases, f"{what}\n{far}\n{near}"
        assert near.status == {"the solution": "passed", "the stub": "blank"}.get(what, near.status)


@pytest.mark.parametrize("lesson", sorted({find_exercise(name).lesson for name in EXERCISES}))
def test_a_solved_lesson_earns_everything_and_a_blank_one_nothing(lesson, sandbox):
    wanted = [find_exercise(name) for name in EXERCISES if find_exercise(name).lesson == lesson]
    for folder, credit, status in (("solutions", 1.0, "passed"), ("lessons", 0.0, "blank")):
        (path,) = (ROOT / folder).glob(f"{lesson}_*.ipynb")
        graded = grade_submission(read_submission(path), wanted, sandbox)
        assert {(verdict.status, verdict.credit) for verdict in graded.verdicts.values()} == {(status, credit)}
