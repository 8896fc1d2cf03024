"""`pytest --submission`: one item a case, and the verdicts of `check` and `mmrec-teach grade`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from mmrec_teach.classroom.plan import load_plans
from mmrec_teach.classroom.result import StudentResult, result_from
from mmrec_teach.classroom.worker import close_sandboxes, grade_file
from mmrec_teach.grading.engine import check
from mmrec_teach.grading.exercise import find_exercise
from mmrec_teach.grading.verdict import Verdict
from tests.test_classroom import BLANK, DAMAGED, SIGN, SOLVED, put
from tests.toy_course import ROOT

pytest_plugins = "pytester"

PLAN = load_plans()["01_bpr"]
WORK = {
    "solved.py": SOLVED,
    "blank.py": BLANK,
    "sign.py": SIGN,
    "summed.py": SOLVED.replace("return (user_vectors * item_vectors).sum(-1)", "return (user_vectors * item_vectors).sum(0)"),
    "detached.py": SOLVED.replace("softplus(neg - pos).mean()", "softplus(neg - pos).mean().detach()"),
    "inplace.py": SOLVED.replace("return (user_vectors * item_vectors)", "return user_vectors.mul_(item_vectors)"),
    "stops.py": SOLVED.replace("return (user_vectors * item_vectors).sum(-1)", "return user_vectors.summe()"),
    "renamed.py": SOLVED.replace("def sample_negatives", "def sample_negative"),
    "greedy.py": SOLVED.replace("    return items\n", "    return torch.zeros_like(items)\n"),
}
BROKEN = {"damaged.ipynb": DAMAGED, "empty.py": "", "syntax.py": SOLVED.replace("def bpr_score(", "def bpr_score((")}
Outcome = dict[tuple[str, str], bool]


@pytest.fixture(scope="module")
def graded() -> dict[str, StudentResult]:
    """What `mmrec-teach grade` finds."""
    try:
        return {
            name: result_from(grade_file(text.encode(), name, PLAN, student=Path(name).stem))
            for name, text in {**WORK, **BROKEN}.items()
        }
    finally:
        close_sandboxes()


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> ElementTree.Element:
    """What pytest finds, with two processes."""
    folder = put(tmp_path_factory.mktemp("handed-in"), {**WORK, **BROKEN})
    put(folder, {"student/conftest.py": "open('was_here', 'w')", "student/test_evil.py": "open('was_here', 'w')"})
    put(folder, {"student/01_bpr.py": SOLVED})
    words = ["--submission", str(folder), "--lesson", "01", "-n", "2", "-q", f"--junitxml={folder / 'report.xml'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    assert not (folder / "was_here").exists(), "pytest runs no file of a student"
    return ElementTree.parse(folder / "report.xml").getroot()


def outcome(verdict: Verdict) -> Outcome:
    """Whether each case passed; none does where there is nothing to judge."""
    passed = [case.passed for case in verdict.cases]
    names = [name for name, _ in find_exercise(verdict.exercise).result_names()]
    return {(verdict.exercise, name): bool(passed) and passed[index] for index, name in enumerate(names)}


def in_report(report: ElementTree.Element, name: str) -> Outcome:
    out = {}
    for case in report.iter("testcase"):
        if properties(case)["student"] == Path(name).stem:
            out[properties(case)["exercise"], case.attrib["name"]] = not len(case.findall("failure"))
    return out


def properties(case: ElementTree.Element) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}


@pytest.mark.parametrize("name", [*WORK, *BROKEN])
def test_pytest_judges_as_grade_does(graded, reported, name):
    expected: Outcome = {}
    for exercise in graded[name].exercises:
        expected |= outcome(exercise.verdict)
    assert in_report(reported, name) == expected
    scores = {
        properties(case)["exercise"]: float(properties(case)["score"])
        for case in reported.iter("testcase")
        if properties(case)["student"] == Path(name).stem
    }
    assert scores == {exercise.name: exercise.score for exercise in graded[name].exercises}


@pytest.mark.parametrize("name", WORK)
def test_check_judges_as_grade_does(graded, tmp_path, monkeypatch, capsys, name):
    """In a notebook the functions live in the learner's own process: they are loaded here as from a file."""
    monkeypatch.setenv("MMREC_TEACH_PROGRESS", "off")
    # only the exercises' own cells: the rest of a lesson trains models
    cells = re.findall(r"^# %% tags=\[\"exercise\"\].*?(?=^# %%)", WORK[name], re.MULTILINE | re.DOTALL)
    assert len(cells) == len(PLAN.tasks)
    path = tmp_path / f"{Path(name).stem}_learner.py"
    path.write_text("import torch\n\n" + "\n".join(cells), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    learner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(learner)
    for exercise in graded[name].exercises:
        verdict = check(exercise.name, getattr(learner, exercise.name, None))
        assert outcome(verdict) == outcome(exercise.verdict)
        assert (verdict.status, verdict.credit) == (exercise.verdict.status, exercise.verdict.credit)
        assert [case.kind for case in verdict.cases] == [case.kind for case in exercise.verdict.cases]
        assert verdict.advice == exercise.verdict.advice or verdict.status in ("blank", "missing")


def test_the_works_differ(graded):
    """The comparisons above say something only when verdicts of every kind are among them."""
    verdicts = [exercise.verdict for result in graded.values() for exercise in result.exercises]
    assert {verdict.status for verdict in verdicts} == {"passed", "failed", "blank", "missing", "error"}
    kinds = {case.kind for verdict in verdicts for case in verdict.cases}
    assert {"", "value", "shape", "gradient", "mutation", "exception", "rule"} <= kinds
    assert 0 < graded["inplace.py"].exercises[0].score < graded["inplace.py"].exercises[0].points


def test_a_failure_is_the_cases_sentence(reported, graded):
    failures = {
        (properties(case)["student"], properties(case)["exercise"], case.attrib["name"]): failure.text
        for case in reported.iter("testcase")
        for failure in case.findall("failure")
    }
    verdict = next(one.verdict for one in graded["sign.py"].exercises if one.name == "bpr_loss")
    first = verdict.cases[0]
    assert failures["sign", "bpr_loss", first.name] == f"{first.message}\n{verdict.advice}"
    assert "got" in first.message
    assert failures["blank", "bpr_loss", first.name].startswith("Write `bpr_loss`")
    assert "there is `sample_negative`" in failures["renamed", "sample_negatives", "one user with one item left"]
    sentences = [text for (student, *_), text in failures.items() if student == "damaged"]
    told = [text for text in sentences if "damaged" in text]
    assert 1 <= len(told) <= 2, "once for each of the two processes"
    assert len(sentences) > 20
    assert {text for text in sentences if text not in told} <= {
        f"see {one.name}: {case}"
        for one in graded["damaged.ipynb"].exercises
        for case, _ in find_exercise(one.name).result_names()[:1]
    }
    case = next(case for case in reported.iter("testcase") if properties(case)["exercise"] == "bpr_loss")
    assert (properties(case)["points"], properties(case)["lesson"], properties(case)["group"]) == ("2.0", "01_bpr", "examples")


# --- options of pytest's own -----------------------------------------------------------------------------------------------


@pytest.fixture
def pytester_here(pytester: pytest.Pytester) -> pytest.Pytester:
    put(pytester.path, {"hw.py": SOLVED, "blank.py": BLANK, "test_mine.py": "def test_mine(): pass"})
    return pytester


def test_node_ids_and_choosing(pytester_here):
    done = pytester_here.runpytest_inprocess("--submission", "hw.py", "--collect-only", "-q", "-k", "bpr_loss and one")
    done.stdout.fnmatch_lines(["hw.py::bpr_loss::one pair", "hw.py::bpr_loss::one pair the wrong way round"])
    done.stdout.no_fnmatch_line("*test_mine*")
    done.stdout.no_fnmatch_line("*bpr_score*")


def test_stopping_at_the_first_failure(pytester_here):
    done = pytester_here.runpytest_inprocess("--submission", "blank.py", "-x", "-k", "bpr_score", "--isolation", "limits")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["submissions: 1 (01_bpr)", "isolation: a plain process with limits alone*"])
    done.stdout.fnmatch_lines(
        ["*_ blank.py: bpr_score: one pair _*", "Write `bpr_score`: the inner product of each user with her item"]
    )


def test_a_damaged_file_is_told_once(pytester_here):
    put(pytester_here.path, {"hurt.ipynb": DAMAGED})
    done = pytester_here.runpytest_inprocess("--submission", "hurt.ipynb", "--lesson", "01", "--isolation", "limits", "-rN")
    done.stdout.fnmatch_lines(["The notebook is damaged*"])
    lines = [line for line in done.outlines if line.startswith(("The notebook is damaged", "see "))]
    assert lines[1:] == ["see bpr_score: one pair"] * (len(lines) - 1)
    done.assert_outcomes(failed=len(lines))
    assert len(lines) == sum(len(find_exercise(task.name).result_names()) for task in PLAN.tasks)


def test_what_cannot_be_judged_fails_with_a_sentence(pytester_here):
    put(pytester_here.path, {"class/mia.py": SOLVED, "class/mia_01_bpr.py": SOLVED, "class/zoe/notes.txt": ""})
    done = pytester_here.runpytest_inprocess("--submission", "class", "-v")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["zoe: there is no notebook*", "mia, 01_bpr: 2 files claim to be the submission*"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--submission", "none.py"], "*none.py: there is no such file or folder."),
        (["--submission", "hw.py", "--lesson", "77"], "*no lesson is called '77'*"),
    ],
)
def test_bad_options_are_one_sentence(pytester_here, words, said):
    done = pytester_here.runpytest_inprocess(*words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([said])


def test_a_wall_that_does_not_work_is_told(pytester_here, monkeypatch):
    monkeypatch.setattr("mmrec_teach.grading.sandbox.wall_problem", lambda wall: "no such thing")
    done = pytester_here.runpytest_inprocess("--submission", "hw.py", "--isolation", "landlock")
    done.stderr.fnmatch_lines(["*--isolation landlock: cannot be used here (no such thing)."])


def test_without_a_submission_nothing_happens(pytester_here):
    done = pytester_here.runpytest_inprocess("-v")
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("submissions:*")


def test_the_plugin_is_installed_and_light():
    names = {entry.name: entry.value for entry in importlib.metadata.entry_points(group="pytest11")}
    assert names["mmrec_teach"] == "mmrec_teach.classroom.pytest_plugin"
    code = (
        "import sys, mmrec_teach.classroom.pytest_plugin\n"
        "print([name for name in ('torch', 'numpy', 'jupytext', 'mmrec_teach.grading') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_two_cases_of_one_name_are_told_apart(pytester_here, monkeypatch):
    exercise = find_exercise("bpr_score")
    monkeypatch.setattr(type(exercise), "result_names", lambda self: [("a pair", "examples"), ("a pair", "random")])
    monkeypatch.setattr("mmrec_teach.classroom.plan.load_plans", lambda: {"01_bpr": replace(PLAN, tasks=PLAN.tasks[:1])})
    done = pytester_here.runpytest_inprocess("--submission", "hw.py", "--collect-only", "-q")
    done.stdout.fnmatch_lines(["hw.py::bpr_score::a pair", "hw.py::bpr_score::a pair (2)"])
