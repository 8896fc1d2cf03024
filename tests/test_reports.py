"""Reports on a class that was really graded: the tables, the students' pages, the teacher's summary, Gradescope's results."""

from __future__ import annotations

import csv
import inspect
import io
import itertools
import json
import math
import re
import textwrap
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from mmrec_teach.classroom import pages, report
from mmrec_teach.classroom.gradescope import VISIBILITIES, gradescope_results
from mmrec_teach.classroom.parts import for_student, parts_of, reasons_of, standing
from mmrec_teach.classroom.plan import Plan, Task, load_plans
from mmrec_teach.classroom.report import class_csv, read_results, safe_cell, summarise, write_gradescope, write_reports
from mmrec_teach.classroom.result import ExerciseResult, StudentResult, read_result, result_of, write_result
from mmrec_teach.cli import main
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading import exercise as exercise_module
from mmrec_teach.grading.exercise import Case, Exercise, expect, load_exercises
from mmrec_teach.grading.sandbox import Sandbox
from mmrec_teach.grading.submission import grade_submission, read_submission
from mmrec_teach.grading.verdict import CaseResult, Verdict

ROOT = Path(__file__).resolve().parent.parent
SCRIPT, FORMULA, FOREIGN = "<script>alert(1)", "=1+1", "Zoë 王小明"
SECRETS = ("3.25", "1.75", "5.0067")  # the hidden case's inputs and answer, as messages write them
RIGHT = "import torch\nseen = []\ndef toy_gap(pos, neg):\n    return -torch.nn.functional.logsigmoid(pos - neg).mean()\n"


def toy_gap() -> Exercise:
    """An exercise with every kind of group: examples, random and hidden cases, a gradient, a rule."""
    toy = Exercise("toy_gap", lesson="09", gradient=("pos",))
    toy.cases(lambda: [Case("one pair", pos=np.array([2.0]), neg=np.array([0.5]))])
    toy.random(lambda rng: [Case("a random batch", pos=rng.normal(size=6), neg=rng.normal(size=6))])
    toy.hidden(lambda: [Case("a very wrong pair", pos=np.array([-3.25]), neg=np.array([1.75]))])
    toy.oracle(lambda pos, neg: float(np.mean(np.log1p(np.exp(neg - pos)))))

    @toy.rule("stays finite")
    def _(function) -> None:
        expect(bool(torch.isfinite(function(torch.tensor([-200.0]), torch.tensor([200.0])))), "the loss is not finite")

    @toy.wrong("the pair the wrong way round")
    def _(pos, neg):
        return -torch.nn.functional.logsigmoid(neg - pos).mean()

    return toy


def toy_variant(lines: str) -> str:
    """The right function, with lines before its return."""
    return RIGHT.replace("    return", textwrap.indent(textwrap.dedent(lines), "    ") + "    return")


TOY = {
    "right": RIGHT,
    "turned": RIGHT.replace("pos - neg", "neg - pos"),
    "hidden value": toy_variant("if pos.numel() == 1 and -4 < pos[0] < 0:\n    return (neg - pos).mean() + 7\n"),
    "hidden exception": toy_variant("if pos.numel() == 1 and -4 < pos[0] < 0:\n    raise ValueError(f'{pos.tolist()}')\n"),
    "hidden name": toy_variant(
        "if pos.numel() == 1 and -4 < pos[0] < 0:\n    raise type(f'E{pos[0]:.2f}', (Exception,), {})()\n"
    ),
    "spy": toy_variant("seen.append((pos.tolist(), neg.tolist()))\nif pos[0] < -100:\n    raise ValueError(str(seen))\n"),
    "slope": RIGHT.replace(".mean()", ".mean() + (pos - pos.detach()).sum() * 3.25"),
    "overflow": RIGHT.replace("torch.nn.functional.logsigmoid(pos - neg)", "torch.log(torch.sigmoid(pos - neg))"),
    "one pair only": toy_variant("if pos.numel() > 1:\n    return pos.sum() * 0 + 9\n"),
    "gone": toy_variant("import os\nos._exit(0)\n"),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    """A class of two lessons, graded by one sandbox; its folder holds ``results/`` alone."""
    out = tmp_path_factory.mktemp("class") / "out"
    exercises = load_exercises()
    plan = load_plans(ROOT)["01_bpr"]
    names = [task.name for task in plan.tasks]
    solved = (ROOT / "solutions" / "01_bpr.py").read_text(encoding="utf-8")
    loss = "\n# %%\ndef bpr_loss(pos, neg):\n    "
    hands_in = {
        "Ada": solved,
        "Gil": solved,
        "Ben": (ROOT / "lessons" / "01_bpr.py").read_text(encoding="utf-8"),
        "Cleo": solved + as_submission(exercises["bpr_loss"], 0) + "\n# %%\n!pip list\n",
        "Dan": solved + as_submission(exercises["bpr_loss"], 0) + as_submission(exercises["bpr_score"], 0),
        FOREIGN: solved + loss + "from mmrec_teach.ops.losses import bpr as answer\n    return answer(pos, neg)\n",
        SCRIPT: solved + loss + "raise ValueError('<img src=x onerror=alert(2)> & \\x00 `<b>`')\n",
        FORMULA: '{"cells": [{"cell_type"',
    }
    with pytest.MonkeyPatch.context() as patch, Sandbox() as sandbox:
        patch.setattr(exercise_module, "_REGISTRY", dict(exercise_module._REGISTRY))
        for student, text in hands_in.items():
            file = f"{student}.ipynb" if text.startswith("{") else f"{student}.py"
            marks = grade_submission(read_submission(file, text.encode()), [exercises[name] for name in names], sandbox)
            write_result(out / "results" / "01_bpr" / f"{student}.json", result_of(student, file, plan, marks))
        toy, toy_plan = toy_gap(), Plan("09_toy", (Task("toy_gap", "the mean of a pair's loss", 1.0),))
        for student, text in TOY.items():
            marks = grade_submission(read_submission(f"{student}.py", text.encode()), [toy], sandbox)
            write_result(out / "results" / "09_toy" / f"{student}.json", result_of(student, f"{student}.py", toy_plan, marks))
    return out


def as_submission(exercise: Exercise, number: int) -> str:
    """A cell that defines the exercise's function as its wrong solution of that number does."""
    lines = textwrap.dedent(inspect.getsource(list(exercise.wrongs.values())[number])).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("def "))
    return "\n# %%\n" + re.sub(r"^def \w+", f"def {exercise.name}", "\n".join(lines[start:])) + "\n"


@pytest.fixture
def out(graded, tmp_path) -> Path:
    """A copy of the class's folder, to write into."""
    import shutil

    return Path(shutil.copytree(graded, tmp_path / "out"))


def loaded(out: Path, lesson: str, student: str) -> StudentResult:
    return read_result(out / "results" / lesson / f"{student}.json")


def cents(value: float) -> int:
    return round(100 * value)


# -- how points come about ----------------------------------------------------------------------------------------------------
def test_the_class_is_what_the_tests_below_take_it_for(graded):
    scores = {student: loaded(graded, "09_toy", student).score for student in TOY}
    assert scores == {
        "right": 1.0, "turned": 0.0, "hidden value": 0.88, "hidden exception": 0.88, "hidden name": 0.88, "spy": 0.88,
        "slope": 0.88, "overflow": 0.88, "one pair only": 0.0, "gone": 0.0,
    }  # fmt: skip
    stored = "".join(path.read_text(encoding="utf-8") for path in (graded / "results" / "09_toy").glob("*.json"))
    assert all(secret in stored for secret in SECRETS), "the stored results are the teacher's, and tell everything"


@pytest.mark.parametrize("points", [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 7.0])
def test_parts_add_up_whatever_passes(points):
    groups = ("examples", "hidden", "gradient", "inputs", "rules")
    for there in (groups, groups[:1], groups[:2], groups[:4], groups[1:], groups[4:]):
        for holds in itertools.product((True, False), repeat=len(there)):
            cases = tuple(CaseResult(group, held, "" if held else "value", group=group) for group, held in zip(there, holds))
            verdict = Verdict("toy", "passed" if all(holds) else "failed", cases)
            exercise = ExerciseResult("toy", "a toy", points, round(points * verdict.credit, 2), verdict)
            parts = parts_of(exercise)
            assert sum(cents(part.score) for part in parts) == cents(exercise.score)
            assert sum(cents(part.points) for part in parts) == cents(points)
            for part in parts:
                assert part.score in (0.0, part.points)
                assert part.score == 0 or part.holds
            assert len(parts) == len(there)
            if "examples" in there and len(there) > 1:
                assert abs(cents(parts[0].points) - cents(points) / 2) <= 0.5, "the core is worth half"


def test_parts_of_a_score_that_does_not_follow_from_its_cases_are_not_invented():
    verdict = Verdict("toy", "failed", (CaseResult("one", False, "value", "no"),))
    (part,) = parts_of(ExerciseResult("toy", "a toy", 2.0, 1.5, verdict))
    assert (part.key, part.score, part.points) == ("all", 1.5, 2.0)


# -- tables -------------------------------------------------------------------------------------------------------------------
def test_class_table(out):
    assert out / "class.csv" in write_reports(out, kinds=["csv"])
    content = (out / "class.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf"), "Excel takes a table for UTF-8 by this mark"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    first = ["student", "lesson", "score", "points", "percent", "bpr_score (1)", "sample_negatives (3)", "bpr_loss (2)"]
    assert list(rows[0]) == [*first, "toy_gap (1)", "notes", "wall"]
    assert [row["student"] for row in rows if row["lesson"] == "01_bpr"] == [
        SCRIPT, f"'{FORMULA}", "Ada", "Ben", "Cleo", "Dan", "Gil", FOREIGN,
    ]  # fmt: skip
    of = {(row["student"], row["lesson"]): row for row in rows}
    assert of["Ada", "01_bpr"]["score"] == "6"
    assert of["Ada", "01_bpr"]["percent"] == "100"
    assert of["Ada", "01_bpr"]["toy_gap (1)"] == "", "no column of another lesson is filled"
    assert (of["Dan", "01_bpr"]["bpr_score (1)"], of["Dan", "01_bpr"]["sample_negatives (3)"]) == ("0", "3")
    assert of["spy", "09_toy"]["score"] == "0.88"
    assert of["Cleo", "01_bpr"]["notes"].count("ignored") == 1, "a note on the whole file is told once"
    assert "not JSON" in of[f"'{FORMULA}", "01_bpr"]["notes"]
    assert of["Ada", "01_bpr"]["wall"] == loaded(out, "01_bpr", "Ada").wall


def table(out: Path) -> list[dict[str, str]]:
    """The rows of ``class.csv``."""
    return list(csv.DictReader(io.StringIO((out / "class.csv").read_text(encoding="utf-8-sig"), newline="")))


def verdict_result(*verdicts: Verdict, score: float = 0.0) -> StudentResult:
    exercises = tuple(ExerciseResult(one.exercise, f"what {one.exercise} does", 1.0, score, one) for one in verdicts)
    return StudentResult("x", "x.py", "09_toy", "d", exercises, "limits", 0.0)


RENAMED = Verdict("loss", "missing", advice="There is no `loss`; there is `los`. The name must stay as it was given.")
LATE = Verdict(
    "loss",
    "failed",
    (CaseResult("one", False, "timeout", "took too long"), CaseResult("two", False, "untried", "not tried: …")),
)


@pytest.mark.parametrize(
    ("verdict", "words", "reason"),
    [
        (RENAMED, "not found", "There is no `loss`; there is `los`"),
        (LATE, "nothing", "not done in time"),
        (Verdict("loss", "blank", advice="The stub is still there."), "not written", "not written"),
        (Verdict("loss", "failed", (CaseResult("one", False, "shape", "no"),)), "nothing", "an answer of the wrong shape"),
        (Verdict("loss", "failed", (CaseResult("one", False, "value"),), "Half a. sum! And more."), "nothing", "Half a. sum"),
        (Verdict("loss", "error", advice="The grader stumbled."), "not graded",
         "not graded, by a fault of the grader: run `mmrec-teach grade` again"),
    ],
)  # fmt: skip
def test_a_bare_zero_has_a_reason(verdict, words, reason):
    result = verdict_result(verdict, Verdict("other", "passed", (CaseResult("one", True),)))
    assert standing(result.exercises[0]) == words
    reasons = reasons_of(StudentResult(**{**vars(result), "exercises": result.exercises[:1]}))
    assert reasons == [f"loss: {reason}."]
    assert f"loss: {reason}." in next(csv.DictReader(io.StringIO(class_csv([result]), newline="")))["notes"]
    assert summarise([report.Stored("x", result)])["lessons"][0]["exercises"][0][words.replace(" ", "_")] == 1


def test_reasons_are_short_and_told_once():
    long = Verdict("loss", "missing", advice="word " * 100)
    (said,) = reasons_of(verdict_result(long))
    assert len(said) < 180
    assert said.endswith("word…")
    same = [Verdict(name, "missing", advice="the file is empty.") for name in ("a", "b")]
    assert reasons_of(verdict_result(*same)) == ["The file is empty."]
    assert reasons_of(verdict_result(RENAMED, score=1.0)) == [], "only where nothing was earned"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'=1"), ("\r\n=1", "'=1"),
        ("  =cmd()", "'=cmd()"), ("＝1", "'＝1"), ("\x00=1", "'=1"), ("Anna", "Anna"), ("a=1", "a=1"), ("two\nlines", "two lines"),
        ("un\udcffsound", "un?sound"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(text, cell):
    assert safe_cell(text) == cell


def test_a_separator_in_a_name_starts_no_cell(graded):
    one = loaded(graded, "01_bpr", "Ada")
    text = class_csv([StudentResult(**{**vars(one), "student": 'x";=1+1,"y'})])
    assert next(csv.DictReader(io.StringIO(text, newline="")))["student"] == 'x";=1+1,"y'
    assert text.splitlines()[1].startswith('"x"";=1+1,""y",')


def test_nbgrader_table(out):
    write_reports(out, kinds=["nbgrader"])
    rows = list(csv.DictReader((out / "nbgrader_scores.csv").open(encoding="utf-8", newline="")))
    assert tuple(rows[0]) == (
        "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "raw_score",
        "late_submission_penalty", "score", "max_score",
    )  # fmt: skip
    cleo = next(row for row in rows if row["student_id"] == "Cleo")
    assert (cleo["assignment"], cleo["raw_score"], cleo["score"], cleo["max_score"]) == ("01_bpr", "4", "4", "6")
    assert len(rows) == 8 + len(TOY)


# -- pages --------------------------------------------------------------------------------------------------------------------
class Outline(HTMLParser):
    """What a page holds: its elements with their attributes, and the text within some."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.title = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "title":
            self.title += data
        elif "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def written(graded, tmp_path_factory) -> Path:
    """The class's folder with all reports."""
    import shutil

    out = Path(shutil.copytree(graded, tmp_path_factory.mktemp("written") / "out"))
    write_reports(out, course=ROOT)
    return out


def page(out: Path, lesson: str, student: str) -> Outline:
    return Outline((out / "feedback" / lesson / f"{student}.html").read_text(encoding="utf-8"))


def all_pages(out: Path) -> list[Path]:
    found = [*sorted(out.glob("feedback/*/*.html")), out / "summary.html"]
    assert len(found) == 9 + len(TOY)
    return found


def test_every_page_is_sound_and_accessible(written):
    for path in all_pages(written):
        outline = Outline(path.read_text(encoding="utf-8"))
        assert not outline.open, f"{path.name}: not closed: {outline.open}"
        assert outline.named("html") == [{"lang": "en"}]
        assert outline.title
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in outline.named("meta")
        for landmark in ("header", "main", "footer", "h1"):
            assert len(outline.named(landmark)) == 1, f"{path.name}: {landmark}"
        levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), f"{path.name}: {levels}"
        ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for link in outline.named("a"):
            target = link["href"]
            assert (target[1:] in ids) if target.startswith("#") else (path.parent / unquote(target)).is_file(), target
        for _, attributes in outline.elements:
            for reference in attributes.get("aria-labelledby", "").split():
                assert reference in ids
        for picture in outline.named("svg"):
            assert picture.get("aria-hidden") == "true" or (picture["role"] == "img" and picture["aria-label"])
        for head in outline.named("th"):
            assert head["scope"] in ("row", "col")


def test_every_page_stands_alone_and_runs_nothing(written):
    for path in all_pages(written):
        text = path.read_text(encoding="utf-8")
        outline = Outline(text)
        tags = {tag for tag, _ in outline.elements}
        assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}, path.name
        for _, attributes in outline.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert not re.search(r"https?://|@import|url\((?!#)", text)
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours ``#rrggbb``."""

    def light(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [pages.LIGHT, pages.DARK])
def test_contrast(theme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    ground = ("paper", "card")
    pairs = [(text, back) for text in ("ink", "quiet", "link", "good", "bad") for back in ground]
    pairs += [(style, f"{style}-tint") for style in ("good", "part", "bad", "none")]
    pairs += [("ink", f"{style}-tint") for style in ("good", "part", "bad", "none")]
    pairs += [("ink", "tint"), ("quiet", "tint"), ("link", "tint")]  # code
    weak = {pair: round(contrast(theme[pair[0]], theme[pair[1]]), 2) for pair in pairs}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}
    assert contrast(theme["bar"], theme["card"]) >= 3, "a bar is seen"
    assert contrast(theme["quiet"], theme["card"]) >= 3, "the edge of a share is seen"


def test_both_themes_and_print_are_in_the_page(written):
    text = (written / "summary.html").read_text(encoding="utf-8")
    assert f"--paper:{pages.LIGHT['paper']}" in text
    assert "@media screen and (prefers-color-scheme:dark)" in text, "a dark page is not printed dark"
    assert f"--paper:{pages.DARK['paper']}" in text
    assert "@media print" in text
    used = set(re.findall(r"var\(--([a-z-]+)\)", text))
    assert used <= set(pages.LIGHT) == set(pages.DARK)


def test_a_students_page_says_what_happened(written):
    text = page(written, "01_bpr", "Cleo").text
    misconception = next(iter(load_exercises()["bpr_loss"].wrongs))
    assert f"Your answers are those of: {misconception}." in text
    assert "4of 6 points2 of 3 exercises solved" in text
    assert "With pos = [2.], neg = [0.5]: got 1.7014, expected 0.20141." in text, "an example is shown whole"
    assert "Read the section The loss of a pair of the lesson once more." in text
    assert 'hint("bpr_loss")' in text
    assert "None of these cost a point." in text
    assert "all 3 exercises solved" in page(written, "01_bpr", "Ada").text
    blank = page(written, "01_bpr", "Ben").text
    assert blank.count("Not written yet") == 6
    assert blank.count("put your own lines in its place") == 3
    unreadable = page(written, "01_bpr", FORMULA)
    assert unreadable.text.count("it is not JSON") == 1
    assert len(unreadable.named("h2")) == 2, "no card an exercise where nothing could be read"
    partly = page(written, "09_toy", "overflow").text
    assert "How the points come about: the answers are right 0.5 of 0.5; hidden cases 0.13 of 0.13;" in partly
    assert "rules 0 of 0.12" in partly


def test_what_was_not_tried_is_one_quiet_line():
    cases = tuple(CaseResult(f"case {number}", False, "untried", "is tried once …", "rules") for number in range(9))
    failed = Verdict("loss", "failed", (CaseResult("one", False, "value", "got 1."), *cases[:2]))
    text = Outline(pages.feedback_page(verdict_result(failed))).text
    assert "Not tried, because of what fails above: case 0; case 1." in text
    assert "Not yet (1)" in text, "what was not tried does not count as failed"
    assert "is tried once" not in text
    many = Verdict("loss", "failed", (CaseResult("one", False, "value", "got 1."), *cases))
    assert "case 3; case 4; and 4 more." in Outline(pages.feedback_page(verdict_result(many))).text
    rules = gradescope_results(verdict_result(failed))["tests"][1]["output"]
    assert rules == "not tried, because of what fails before: case 0; case 1"


def test_a_page_names_what_graded_it(written):
    result = loaded(written, "01_bpr", "Ada")
    mark = f"mmrec_teach {result.graded_with['package']} (cases {result.graded_with['exercises'][:8]})"
    assert mark in page(written, "01_bpr", "Ada").text
    assert mark in Outline((written / "summary.html").read_text(encoding="utf-8")).text
    other = StudentResult(**{**vars(result), "student": "Late", "graded_with": {"package": "9", "exercises": "abcdefgh12"}})
    text = Outline(pages.summary_page(summarise([report.Stored("a", result), report.Stored("b", other)]))).text
    assert "Graded by different versions" in text
    assert "mmrec_teach 9 (cases abcdefgh): 1 student" in text


def test_what_students_write_is_text(written):
    outline = page(written, "01_bpr", SCRIPT)
    assert f"Feedback for {SCRIPT}" in outline.text
    assert "<img src=x onerror=alert(2)> & " in outline.text
    assert SCRIPT in Outline((written / "summary.html").read_text(encoding="utf-8")).text
    assert FOREIGN in page(written, "01_bpr", FOREIGN).title


def test_hidden_cases_keep_their_secrets(written):
    assert "a very wrong pair" in page(written, "09_toy", "hidden value").text
    told = {student: page(written, "09_toy", student).text for student in TOY}
    for student, text in told.items():
        text = re.sub(r"\d of \d|0\.\d+ of 0\.\d+", "", text)
        assert not [secret for secret in SECRETS if secret in text], student
    for student in TOY:
        results = json.dumps(gradescope_results(loaded(written, "09_toy", student), hidden="visible"))
        assert not [secret for secret in SECRETS if secret in results], student
    assert "a very wrong pair (hidden case)A wrong value." in told["hidden value"]
    assert "a very wrong pair (hidden case)An exception: ValueError." in told["hidden exception"]
    assert "a very wrong pair (hidden case)An exception." in told["hidden name"]
    assert "stays finiteAn exception: ValueError, at your line 4." in told["spy"]
    assert "its gradient with respect to pos is not." in told["slope"]
    assert "with pos = [2.], neg = [0.5]: got".lower() in told["turned"].lower(), "an example keeps its numbers"


def test_a_rule_passes_no_exception_on():
    told = "a larger task, which the right way does at once, ended so: ValueError: seen 3.25"
    case = CaseResult("no loop", False, "rule", told, "rules")
    assert for_student(case, hidden=True) == told.split(" so: ")[0] + " with an error."
    assert for_student(case, hidden=False) == case.message


def test_reports_are_the_same_each_time(out):
    files = write_reports(out, course=ROOT)
    before = {path: path.read_bytes() for path in files}
    again = write_reports(out, course=ROOT)
    assert {path: path.read_bytes() for path in again} == before
    assert not [path for path in out.rglob(".*") if path.is_dir()], "no temporary folder is left"


MEASURE = """() => {
    const seen = box => box.width > 1 && box.height > 1, boxes = found => found.map(one => one.getBoundingClientRect()).filter(seen);
    const words = node => { const range = document.createRange(); range.selectNodeContents(node); return range; };
    const rows = [...document.querySelectorAll("thead tr")].filter(row => getComputedStyle(row.parentNode).position === "static");
    const heads = rows.map(row => boxes([...row.cells].map(words)));
    return {
        page: document.documentElement.scrollWidth - innerWidth,
        tables: Math.max(0, ...[...document.querySelectorAll(".scroll")].map(one => one.scrollWidth - one.clientWidth)),
        gaps: heads.flatMap(row => row.slice(1).map((box, place) => box.left - row[place].right)),
        letters: boxes([...document.querySelectorAll("svg text")]).map(box => box.height),
        pictures: boxes([...document.querySelectorAll("svg[role=img]")]).map(box => box.right - innerWidth),
    };
}"""


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_pages_fit_every_screen(out, chromium):
    """At any width, nothing is cut, headings do not touch, and the letters of a picture can be read."""
    from playwright.sync_api import sync_playwright

    from tests.lab_driver import CHROMIUM_OPTIONS

    ada = loaded(out, "01_bpr", "Ada")
    lost = Verdict("bpr_score", "error", advice="The grader could not finish this one. It is no fault of the submission.")
    exercises = (ExerciseResult("bpr_score", "a score", 1.0, 0.0, lost), *ada.exercises[1:])
    write_result(
        out / "results" / "01_bpr" / "Gus.json", StudentResult(**{**vars(ada), "student": "Gus", "exercises": exercises})
    )
    write_reports(out, kinds=["html", "summary"], course=ROOT)
    shown = [out / "summary.html", out / "feedback" / "01_bpr" / "Cleo.html"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        try:
            view = browser.new_page()
            for path in shown:
                view.goto(path.as_uri())
                for width in (360, 390, 730, 900, 1200):
                    view.set_viewport_size({"width": width, "height": 800})
                    found = view.evaluate(MEASURE)
                    where = f"{path.name} at {width}: {found}"
                    assert found["page"] <= 0, where
                    assert found["tables"] == 0, where
                    assert all(right <= 0 for right in found["pictures"]), where
                    assert all(gap >= 4 for gap in found["gaps"]), where
                    assert all(height >= 12 for height in found["letters"]), where
        finally:
            browser.close()


# -- the teacher's summary ------------------------------------------------------------------------------------------------------
def test_summary(written):
    summary = json.loads((written / "summary.json").read_text(encoding="utf-8"))
    bpr, toy = summary["lessons"]
    assert (bpr["lesson"], bpr["students"], bpr["points"], bpr["lowest"], bpr["highest"]) == ("01_bpr", 8, 6, 0, 6)
    assert sum(step["students"] for step in bpr["distribution"]) == 8
    assert bpr["distribution"][10] == {"percent": "100 %", "students": 2}
    loss = next(one for one in bpr["exercises"] if one["name"] == "bpr_loss")
    assert [loss[key] for key in ("solved", "partly", "nothing", "not_written", "not_found")] == [2, 0, 4, 1, 1]
    name = next(iter(load_exercises()["bpr_loss"].wrongs))
    assert loss["misconceptions"] == [{"name": name, "count": 2, "students": ["Cleo", "Dan"]}]
    assert loss["failing"][0]["count"] == max(one["count"] for one in loss["failing"]) == 4
    assert bpr["identical"] == [["Ada", "Gil"]], "two blank files alike are no news"
    incidents = {(one["student"], one["exercise"]): one["kind"] for one in bpr["incidents"]}
    assert incidents == {(FOREIGN, "bpr_loss"): "borrowed", (FORMULA, ""): "missing"}
    assert [one["student"] for one in bpr["notes"]] == ["Cleo"]
    assert [toy["exercises"][0][key] for key in ("solved", "partly", "nothing", "not_written")] == [1, 6, 3, 0]
    assert [(one["student"], one["kind"]) for one in toy["incidents"]] == [("gone", "crash")]
    assert (summary["damaged"], summary["nothing_to_grade"]) == ([], [])
    assert bpr["graders"] == {loaded(written, "01_bpr", "Ada").grader: 8}


def test_summary_page_shows_the_figures(written):
    outline = Outline((written / "summary.html").read_text(encoding="utf-8"))
    labels = [picture.get("aria-label") for picture in outline.named("svg")]
    assert "solved 2, nothing yet 4, not written 1, not found 1" in labels
    assert any(label and label.startswith("Number of students by percent of the points. 0 to 9 %: 2;") for label in labels)
    assert "2 (25%)" in outline.text
    assert "asked the package for the answer" in outline.text
    assert "Ada, Gil" in outline.text


def failing(*students: str) -> dict:
    """The summary of students for whom the cases named fail: "ab" for a and b, of a to d."""
    stored = []
    for number, fails in enumerate(students):
        cases = tuple(CaseResult(name, name not in fails, "" if name not in fails else "value") for name in "abcd")
        stored.append(report.Stored(str(number), verdict_result(Verdict("loss", "failed", cases))))
    return summarise(stored)


@pytest.mark.parametrize(
    ("students", "shown"),
    [
        (("abcd", "abcd", "abcd"), ""),  # all alike: no case tells anything
        (("a",), ""),  # one student is no pattern
        (("a", "b"), ""),
        (("a", "a", "b"), "a"),
        (("abcd", "ab", "a"), "ab"),
    ],
)
def test_cases_that_fail_most_often_are_those_that_stand_out(students, shown):
    summary = failing(*students)
    rows = summary["lessons"][0]["exercises"][0]["failing"]
    assert "".join(row["case"] for row in rows if row["often"]) == shown
    assert ("Cases that fail most often" in pages.summary_page(summary)) == bool(shown)
    assert sum(row["count"] for row in rows) == sum(map(len, students)), "the file holds them all"


def test_summary_of_one_student_without_points():
    empty = StudentResult("x", "x.py", "09_toy", "d", (), "limits", 0.0)
    summary = summarise([report.Stored("x", empty)])
    assert summary["lessons"][0]["mean"] == 0
    assert "1 student" in Outline(pages.summary_page(summary)).text
    assert "0of 0 points" in Outline(pages.feedback_page(empty)).text


# -- Gradescope -----------------------------------------------------------------------------------------------------------------
FORMATS = ("text", "html", "simple_format", "md", "ansi")
TOP = {
    "score": (int, float), "execution_time": (int, float), "output": str, "output_format": FORMATS, "test_output_format": FORMATS,
    "test_name_format": FORMATS, "visibility": VISIBILITIES, "stdout_visibility": VISIBILITIES, "extra_data": dict,
    "tests": list, "leaderboard": list,
}  # fmt: skip
TEST = {
    "score": (int, float), "max_score": (int, float), "status": ("passed", "failed"), "name": str, "name_format": FORMATS,
    "number": str, "output": str, "output_format": FORMATS, "tags": list, "visibility": VISIBILITIES, "extra_data": dict,
}  # fmt: skip


def assert_schema(results: dict) -> None:
    """What https://gradescope-autograders.readthedocs.io/en/latest/specs/ asks of ``results.json``."""

    def fits(found: dict, schema: dict) -> None:
        assert set(found) <= set(schema), f"unknown keys: {set(found) - set(schema)}"
        for key, value in found.items():
            wanted = schema[key]
            words = isinstance(wanted, tuple) and isinstance(wanted[0], str)
            assert value in wanted if words else isinstance(value, wanted), f"{key}: {value!r}"
            assert not isinstance(value, float) or math.isfinite(value)

    assert "score" in results or all("score" in test for test in results["tests"])
    fits(results, TOP)
    for test in results["tests"]:
        fits(test, TEST)
        assert all(isinstance(tag, str) for tag in test["tags"])
        assert 0 <= test["score"] <= test["max_score"]


def test_gradescope(out, tmp_path):
    files = write_gradescope(out, tmp_path / "gs")
    assert len(files) == 8 + len(TOY)
    for path in files:
        stored = read_result(out / "results" / path.parent.parent.name / f"{path.parent.name}.json")
        results = json.loads(path.read_text(encoding="utf-8"))
        assert path.name == "results.json"
        assert_schema(results)
        assert results["score"] == stored.score
        assert sum(cents(test["score"]) for test in results["tests"]) == cents(stored.score)
        for exercise in stored.exercises:
            tests = [test for test in results["tests"] if exercise.name in test["tags"]]
            assert sum(cents(test["score"]) for test in tests) == cents(exercise.score)
            assert sum(cents(test["max_score"]) for test in tests) == cents(exercise.points)
        assert len({test["number"] for test in results["tests"]}) == len(results["tests"])


def test_gradescope_hides_hidden_cases_as_asked(graded):
    result = loaded(graded, "09_toy", "hidden value")
    for hidden in VISIBILITIES:
        tests = gradescope_results(result, hidden=hidden)["tests"]
        seen = {test["tags"][1]: (test["visibility"], test["status"]) for test in tests}
        assert seen["hidden"] == (hidden, "failed")
        assert seen["core"] == ("visible", "passed")
        assert Counter(visibility for visibility, _ in seen.values())["visible"] >= len(seen) - 1
    with pytest.raises(OptionError, match="after_published"):
        gradescope_results(result, hidden="never")


def test_gradescope_says_why_a_part_that_holds_is_not_paid(graded):
    tests = {test["tags"][1]: test for test in gradescope_results(loaded(graded, "09_toy", "turned"))["tests"]}
    assert tests["core"]["status"] == "failed"
    assert "Your answers are those of: the pair the wrong way round." in tests["core"]["output"]
    tests = {test["tags"][1]: test for test in gradescope_results(loaded(graded, "09_toy", "one pair only"))["tests"]}
    assert (tests["hidden"]["score"], tests["hidden"]["max_score"], tests["hidden"]["status"]) == (0, 0.12, "failed")
    assert "This holds, but is paid only once the answers are right." in tests["hidden"]["output"]
    assert "paid only" not in tests["core"]["output"]


# -- what is damaged ------------------------------------------------------------------------------------------------------------
def damaged_files(out: Path) -> dict[str, str]:
    good = json.loads((out / "results" / "01_bpr" / "Cleo.json").read_text(encoding="utf-8"))

    def changed(**what) -> str:
        return json.dumps({**good, **what})

    odd_case = json.loads(json.dumps(good["exercises"]))
    odd_case[2]["verdict"]["cases"][0]["group"] = "bonus"
    rich = json.loads(json.dumps(good["exercises"]))
    rich[0]["score"] = 99
    return {
        "cut": json.dumps(good)[:200],
        "list": "[]",
        "deep": "[" * 100_000,
        "number": changed(student=7),
        "none": changed(exercises=None),
        "words": changed(seconds="long"),
        "extra": changed(bonus=5),
        "group": changed(exercises=odd_case),
        "rich": changed(exercises=rich),
        "moved": changed(lesson="../../elsewhere"),
        "empty": "",
    }


def test_damaged_results_are_named_and_left_out(out, capsys):
    before = len(read_results(out)[0])
    files = damaged_files(out)
    for name, text in files.items():
        (out / "results" / "01_bpr" / f"{name}.json").write_text(text, encoding="utf-8")
    (out / "results" / "01_bpr" / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert main(["report", str(out), "--course", str(ROOT)]) == 1
    told = capsys.readouterr().err.splitlines()
    for name in (*files, "binary"):
        assert any(f"{name}.json" in line and line.startswith("Left out: ") for line in told), name
    assert len(told) == len(files) + 1
    assert len(read_results(out)[0]) == before
    assert len(list(out.glob("feedback/*/*.html"))) == before
    assert not [line for line in told if re.search(r"\b\w+(Error|Exception)\b", line)], "no name of Python's"
    assert all("damaged: run `mmrec-teach grade` again, it grades this student anew" in line for line in told)
    assert "binary.json" in (out / "summary.html").read_text(encoding="utf-8")
    rows = table(out)
    listed = {row["notes"].partition(":")[0]: row for row in rows if row["score"] == ""}
    assert set(listed) == {f"results/01_bpr/{name}.json" for name in (*files, "binary")}, "nobody is missing in the table"
    assert {row["notes"].partition(": ")[2].partition(" (")[0].rstrip(".") for row in listed.values()} == {
        "damaged: run `mmrec-teach grade` again, it grades this student anew"
    }
    assert listed["results/01_bpr/cut.json"]["student"] == "Cleo", "what can still be read of it"
    assert listed["results/01_bpr/empty.json"]["student"] == "empty"
    assert len(rows) == before + len(told)


def test_a_folder_without_results(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "Grade a class first" in capsys.readouterr().err
    (tmp_path / "results" / "01_bpr").mkdir(parents=True)
    (tmp_path / "results" / "01_bpr" / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"1 damaged file: .*a\.json: damaged: run `mmrec-teach grade` again"):
        write_reports(tmp_path)
    assert not (tmp_path / "class.csv").exists()


def test_what_no_grader_writes_is_graded_anew(out):
    """Grading asks `read_result` whether a stored result can stay: what a report refuses, it must refuse too."""
    for name, text in damaged_files(out).items():
        path = out / "results" / "01_bpr" / f"{name}.json"
        path.write_text(text, encoding="utf-8")
        if name != "moved":  # grading compares the lesson itself
            with pytest.raises(InputError, match="it grades this student anew"):
                read_result(path)


# -- who has nothing to grade --------------------------------------------------------------------------------------------------
LEFT_OUT = [
    {"student": "Pia", "file": "Pia", "sentence": "Pia: no notebook and no Python file in Pia (report.pdf)."},
    {"student": "=Emil", "file": "=Emil", "sentence": "=Emil: the folder is empty."},
    {"student": "<b>Olga", "file": "<b>Olga/03.py", "sentence": "<b>Olga: <b>Olga/03.py is lesson 03, not 01."},
    {"student": "Ada", "file": "Ada/03.py", "sentence": "Ada: Ada/03.py is lesson 03, not 01."},
]


def test_students_with_nothing_to_grade_are_in_the_reports(out, capsys):
    (out / "left_out.json").write_text(json.dumps({"version": 1, "entries": LEFT_OUT}), encoding="utf-8")
    assert main(["report", str(out), "--course", str(ROOT)]) == 0
    assert "Nothing to grade for 4 students: see class.csv" in capsys.readouterr().out
    rows = [row for row in table(out) if row["score"] == ""]
    assert [row["student"] for row in rows] == ["<b>Olga", "'=Emil", "Ada", "Pia"]
    assert rows[3]["notes"] == LEFT_OUT[0]["sentence"]
    assert {row[column] for row in rows for column in ("lesson", "points", "percent", "bpr_loss (2)", "wall")} == {""}
    outline = Outline((out / "summary.html").read_text(encoding="utf-8"))
    assert "Nothing to grade" in outline.text
    assert "Pia: No notebook and no Python file in Pia (report.pdf)." in outline.text, "the name once"
    assert "3 more handed in nothing to grade" in outline.text, "Ada has a score for another file"
    assert "<b>Olga/03.py is lesson 03, not 01." in outline.text
    assert len(json.loads((out / "summary.json").read_text(encoding="utf-8"))["nothing_to_grade"]) == 4


@pytest.mark.parametrize("text", ["{", "[]", '{"entries": [{"student": 1, "file": "", "sentence": ""}]}', '{"entries": [{}]}'])
def test_a_damaged_list_of_them_costs_nobody_a_report(out, capsys, text):
    (out / "left_out.json").write_text(text, encoding="utf-8")
    assert main(["report", str(out), "--csv"]) == 1
    assert "left_out.json: damaged: run `mmrec-teach grade` again" in capsys.readouterr().err
    assert len(table(out)) == 8 + len(TOY)


# -- the command ----------------------------------------------------------------------------------------------------------------
def test_the_command_writes_what_is_asked_for(out, tmp_path, capsys):
    assert main(["report", str(out), "--csv"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["class.csv", "results"]
    assert main(["report", str(out), "--gradescope", str(tmp_path / "gs"), "--hidden", "hidden"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["class.csv", "results"]
    stored = json.loads((tmp_path / "gs" / "09_toy" / "right" / "results.json").read_text(encoding="utf-8"))
    assert "hidden" in {test["visibility"] for test in stored["tests"]}
    assert main(["report", str(out), "--course", str(ROOT)]) == 0
    assert {path.name for path in out.iterdir()} == {
        "class.csv", "nbgrader_scores.csv", "summary.html", "summary.json", "feedback", "results",
    }  # fmt: skip
    assert f"{out / 'feedback'}: {8 + len(TOY)} pages" in capsys.readouterr().out
    with pytest.raises(OptionError, match="csv"):
        write_reports(out, kinds=["pdf"])


def test_without_a_course_the_title_leads_back(graded, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    assert report.find_pointers(bare) == {}
    text = Outline(pages.feedback_page(loaded(graded, "09_toy", "turned"))).text
    assert "Read again what the lesson says before this exercise: the mean of a pair's loss." in text
    assert "Lesson 09_toy" in text
