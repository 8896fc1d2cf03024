"""`check` as a lesson knows it: short verdicts, help beside them, and a note about the notebook's variables."""

from __future__ import annotations

import builtins
import importlib

import nbclient
import nbformat
import numpy as np
import pytest
import torch

from mmrec_teach.course import ask, hints
from mmrec_teach.course.hints import KEPT_BACK, Help, HelpPanel, find_solution, hint, solution
from mmrec_teach.course.workspace import start
from mmrec_teach.errors import OptionError
from mmrec_teach.grading import record
from mmrec_teach.grading.reads import reading_notes, variables_read
from mmrec_teach.grading.verdict import CaseResult, Verdict
from mmrec_teach.notebook import check
from tests.toy_course import ROOT, make_course

check_module = importlib.import_module("mmrec_teach.course.check")
logsigmoid = torch.nn.functional.logsigmoid
table, scale, names, settings = torch.ones(2), 3, ["a", "b"], {"lr": 0.1}
generator = np.random.default_rng(0)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one lesson; the working directory is the learner's copy."""
    monkeypatch.delenv("MMREC_TEACH_PROGRESS", raising=False)
    root = make_course(tmp_path / "course")
    start(root=root)
    monkeypatch.chdir(root / "my_lessons")
    return root


@pytest.fixture
def notebook(course, monkeypatch):
    """As `course`, with what a notebook is shown in a list."""
    shown: list = []
    for module in (ask, hints, check_module):
        for name in ("in_ipython", "in_notebook"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda: True)
    monkeypatch.setattr(hints, "show", shown.append)
    monkeypatch.setattr("IPython.display.display", lambda value, **_: shown.append(value))
    return shown


def wrong(pos, neg):
    return (neg - pos).mean()


def right(pos, neg):
    return -logsigmoid(pos - neg).mean()


def test_a_flood_of_prints_is_counted(course, capsys):
    def talks(pos, neg):
        for number in range(1000):
            print("margin", number)
        return right(pos, neg)

    assert check("toy_loss", talks)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["margin 0", "margin 1"]
    assert sum(line.startswith("margin") for line in lines) == 20
    assert lines[20].startswith("(Your function printed ")
    assert lines[20].endswith("the first 20 are shown.)")


def test_the_function_itself_will_do(course, capsys):
    def toy_loss(pos, neg):
        return right(pos, neg)

    assert check(toy_loss)
    with pytest.raises(OptionError, match="no exercise is called 'toy_los'.*Did you mean 'toy_loss'"):
        check("toy_los")


# --- text ----------------------------------------------------------------------------------------------------------


def test_a_script_is_told_what_to_call_next(course, capsys):
    toy_loss = wrong  # noqa: F841 - looked up by its name
    assert not check("toy_loss")
    assert capsys.readouterr().out.endswith('  Stuck? hint("toy_loss") shows hint 1 of 3.\n')
    for _ in range(3):
        hint("toy_loss")
    assert 'That was the last hint. solution("toy_loss") shows the worked solution.' in capsys.readouterr().out
    check("toy_loss", wrong)
    assert capsys.readouterr().out.endswith('  Stuck? solution("toy_loss") shows the worked solution.\n')
    solution("toy_loss")
    worked = capsys.readouterr().out
    assert "margin_of_pairs = pos - neg" in worked
    assert "SOLUTION" not in worked
    assert record.current_record().get("solutions", "toy_loss")["passed_before"] is False
    assert check("toy_loss", right)
    assert capsys.readouterr().out.endswith('  To compare: solution("toy_loss") shows the worked solution.\n')


def test_the_function_is_the_callers(course, capsys):
    def toy_loss(pos, neg):
        return right(pos, neg)

    assert check("toy_loss").status == "passed"
    del toy_loss
    assert check("toy_loss").status == "missing"
    namespace = {"check": check, "toy_loss": wrong}
    exec("verdict = check('toy_loss')", namespace)
    assert namespace["verdict"].status == "failed"
    entry = record.current_record().get("exercises", "toy_loss")
    assert (entry["passed"], entry["attempts"]) == (True, 2)


def test_without_solutions_none_is_offered(course, capsys):
    (course / "solutions" / "01_toy.py").unlink()
    (course / "solutions" / "01_toy.ipynb").unlink()
    for _ in range(3):
        hint("toy_loss")
    assert capsys.readouterr().out.endswith("That was the last hint.\n")
    check("toy_loss", wrong)
    assert "solution" not in capsys.readouterr().out
    check("toy_loss", right)
    assert capsys.readouterr().out.endswith(f"  {KEPT_BACK}\n")
    solution("toy_loss")
    assert capsys.readouterr().out == f"{KEPT_BACK}\n"


def test_ones_own_copy_of_the_solution_is_not_compared_with_it(course):
    namespace: dict = {"torch": torch}
    source = find_solution("toy_loss")[0]
    path = course / "mine.py"
    path.write_text(source, encoding="utf-8")
    exec(compile(source, str(path), "exec"), namespace)
    assert check("toy_loss", namespace["toy_loss"]).help is None


def test_hints_are_found_in_a_notebook_without_its_text(course):
    (course / "my_lessons" / "01_toy.py").unlink()
    assert hints.find_hints("toy_loss", course / "my_lessons")[0].hints[0] == "First nudge."


# --- buttons -------------------------------------------------------------------------------------------------------


def test_a_failed_check_offers_hints_then_the_solution(notebook):
    check("toy_loss", wrong)._ipython_display_()
    told, box = notebook
    assert told["text/plain"].startswith("✗ Not yet: toy_loss")
    assert "hint(" not in told["text/plain"]
    row, shown = box.children
    more, worked = row.children
    assert shown.value == ""
    for number, words in enumerate(("First", "Second", "Third"), start=1):
        assert more.description == f"Show hint {number} of 3"
        assert worked.layout.display == "none"
        more.click()
        assert f"{words} nudge." in shown.value
    assert (more.layout.display, worked.layout.display) == ("none", None)
    worked.click()
    assert "margin_of_pairs" in shown.value
    assert worked.description == "Hide the worked solution"
    worked.click()
    assert "margin_of_pairs" not in shown.value

    # checked again: what was seen is folded away, the solution is one press away
    check("toy_loss", wrong)._ipython_display_()
    row, shown = notebook[-1].children
    assert shown.value.startswith("<details><summary")
    assert row.children[1].layout.display is None


def test_a_hint_given_in_one_place_is_not_offered_in_another(notebook):
    one, other = HelpPanel(Help("toy_loss"), earlier="folded"), HelpPanel(Help("toy_loss"))
    one.more.click()
    assert other.more.description == "Show hint 2 of 3"
    other.more.click()
    assert "First nudge." in other.shown.value
    assert "Second nudge." in other.shown.value
    assert "Second nudge." not in one.shown.value
    one.more.click()
    assert other.more.description == "Show all 3 hints"
    other.more.click()
    assert "Third nudge." in other.shown.value
    assert other.more.disabled


def test_a_passed_check_offers_the_solution_alone(notebook):
    check("toy_loss", right)._ipython_display_()
    row, shown = notebook[-1].children
    more, worked = row.children
    assert (more.layout.display, worked.layout.display, shown.value) == ("none", None, "")
    worked.click()
    assert "margin_of_pairs" in shown.value


def test_a_stub_gets_no_buttons(notebook):
    def toy_loss(pos, neg):
        raise NotImplementedError("Write it")

    check("toy_loss", toy_loss)._ipython_display_()
    assert [type(value) for value in notebook] == [dict]


def test_without_ipywidgets_there_are_words(notebook, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ipywidgets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    check("toy_loss", wrong)._ipython_display_()
    assert len(notebook) == 1
    assert 'hint("toy_loss")' in notebook[0]["text/plain"]
    assert "hint(&quot;toy_loss&quot;)" in notebook[0]["text/html"]


def test_a_notebook_without_a_front_end_keeps_the_verdict(course, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(course / "solutions" / "01_toy.ipynb", as_version=4)
    book.cells = [cell for cell in book.cells if cell.cell_type == "code"][:4]
    book.cells[2].source = book.cells[2].source.replace("pos - neg", "neg - pos")
    nbclient.NotebookClient(book, resources={"metadata": {"path": str(course / "my_lessons")}}).execute()
    first, second = book.cells[3].outputs
    assert first.data["text/plain"].startswith("✗ Not yet: toy_loss")
    assert "application/vnd.jupyter.widget-view+json" in second.data


# --- short verdicts --------------------------------------------------------------------------------------------------


def many(fails: int, passes: int, message: str = "got {}", untried: int = 0) -> Verdict:
    cases = [CaseResult(f"bad {n}", False, "value", message.format(n)) for n in range(fails)]
    cases += [CaseResult(f"late {n}", False, "untried", "cannot be tried.") for n in range(untried)]
    cases += [CaseResult(f"good <{n}>", True) for n in range(passes)]
    return Verdict("f", "failed" if fails else "passed", tuple(cases))


def test_many_results_are_grouped():
    lines = str(many(2, 9)).splitlines()
    assert lines[1:] == ["  ✗ fail  bad 0: got 0", "  ✗ fail  bad 1: got 1", "  ✓ pass  9 more"]
    page = many(2, 9)._repr_html_()
    assert page.count("<details>") == 1
    assert "<li>good &lt;8&gt;</li>" in page

    lines = str(many(20, 0)).splitlines()
    assert len(lines) == 8
    assert lines[-1] == "  ✗ fail  14 more"
    assert "bad 19" in many(20, 0)._repr_html_()


def test_one_reason_is_told_once():
    lines = str(many(5, 0, "NameError", untried=3)).splitlines()
    assert lines[1:] == ["  ✗ fail  bad 0, and 4 more: NameError", "  … not tried  late 0, and 2 more: cannot be tried."]


def test_a_passed_verdict_on_many_cases_is_a_line():
    assert str(many(0, 12)) == "✓ Passed: f (all 12 cases pass)"
    assert many(0, 12)._repr_html_().count("good") == 12
    assert len(str(many(0, 6)).splitlines()) == 7


# --- the notebook's variables --------------------------------------------------------------------------------------


def reads_table(x):
    return x * table


def calls_reader(x):
    return [reads_table(value) for value in x]


def reads_constants(x):
    return x * scale + len(names) + settings["lr"] + np.pi + len(wrong(x, x))


def reads_in_a_comprehension(x):
    return [generator.random() + one for one in x]


def test_variables_of_the_notebook_are_noticed():
    assert variables_read(reads_table) == ["table"]
    assert variables_read(calls_reader) == ["table"]
    assert variables_read(reads_in_a_comprehension) == ["generator"]
    assert variables_read(reads_constants) == []
    assert variables_read(torch.nn.Linear(1, 1)) == []
    assert variables_read(len) == []
    assert reading_notes(reads_table) == [
        "Reads the notebook's variable `table`: when a teacher grades, only what the function needs is run; pass it as an argument."
    ]


def test_such_a_note_costs_nothing(course):
    def toy_loss(pos, neg):
        return right(pos, neg) * table.prod()

    verdict = check("toy_loss")
    assert verdict
    assert verdict.credit == 1
    assert "`table`" in verdict.notes[0]
