"""Masters to lessons, the learner's copy, and the questions a lesson asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import jupytext
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.course import ask, hints
from mmrec_teach.course.build import build, cell_ids, differences, generated_files
from mmrec_teach.course.lint import LessonRun, docstring_complaints, leaks, lint, order_complaints, run_lesson
from mmrec_teach.course.master import Master, blank_text, course_root, find_lesson, load_masters
from mmrec_teach.course.pairing import inputs_digest, sync_pair
from mmrec_teach.course.progress import progress
from mmrec_teach.course.workspace import reset, start
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading import record
from tests.toy_course import HEADER, LESSON, make_course, toy_loss


@pytest.fixture
def course(tmp_path):
    return make_course(tmp_path / "course")


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- masters to blanks ---------------------------------------------------------------------------------------------


def test_the_blank_keeps_all_but_the_solution(course):
    solved = (course / "solutions" / "01_toy.py").read_text(encoding="utf-8").splitlines()
    blank = (course / "lessons" / "01_toy.py").read_text(encoding="utf-8").splitlines()
    gone = [line for line in solved if line not in blank]
    new = [line for line in blank if line not in solved]
    assert gone == [
        "    ### BEGIN SOLUTION",
        "    margin_of_pairs = pos - neg",
        "    return -torch.nn.functional.logsigmoid(margin_of_pairs).mean()",
        "    ### END SOLUTION",
    ]
    assert new == ['    raise NotImplementedError("Write `toy_loss`: the mean \\"loss\\" of pairs")']
    everything = (course / "lessons" / "01_toy.ipynb").read_text(encoding="utf-8") + "\n".join(blank)
    assert "margin_of_pairs" not in everything
    assert "SOLUTION" not in everything


def test_notebooks_are_valid_paired_and_without_outputs(course):
    for folder in ("solutions", "lessons"):
        path = course / folder / "01_toy.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.jupytext.formats == "ipynb,py:percent"
        assert notebook.metadata.kernelspec.name == "python3"
        assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
        assert inputs_digest(path) == inputs_digest(path.with_suffix(".py")) is not None
        # byte for byte what Jupyter itself would write: saving an unchanged notebook changes nothing
        assert nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n" == path.read_text(encoding="utf-8")


def test_building_twice_changes_nothing(course):
    before = {path: path.read_bytes() for path in course.rglob("*.*")}
    assert build(course) == []
    assert differences(course) == []
    assert {path: path.read_bytes() for path in course.rglob("*.*")} == before


def test_the_builder_furnishes_a_master(course):
    notebook = nbformat.read(course / "lessons" / "01_toy.ipynb", as_version=4)
    at = next(n for n, cell in enumerate(notebook.cells) if cell.id == "exercise-toy_loss")
    said = notebook.cells[at - 1].source
    assert "Exercise · 5 min · 2 points · difficulty 1 of 3" in said
    assert "Write `toy_loss`" in said
    folded = [cell for cell in notebook.cells if cell.metadata.get("jupyter", {}).get("source_hidden")]
    assert [cell.source.split("(")[0] for cell in folded] == ["reveal", "quiz"]

    edit(course / "solutions" / "01_toy.py", '"minutes": 5', '"minutes": 7')
    assert any("lacks its heading" in line for line in differences(course))
    build(course)
    text = (course / "solutions" / "01_toy.py").read_text(encoding="utf-8")
    assert text.count("Exercise · ") == 1
    assert "Exercise · 7 min" in text
    assert differences(course) == []


def test_cell_ids_survive_the_edit_of_another_cell():
    ids = {}
    for name, text in {
        "before": LESSON,
        "edited": LESSON.replace("torch.ones(3)", "torch.ones(4)"),
        "solved otherwise": LESSON.replace("margin_of_pairs", "margin"),
        "one cell more": LESSON.replace("# %%\nhint", "# %%\n1 + 1\n\n# %%\nhint"),
    }.items():
        notebook = jupytext.reads(text, fmt="py:percent")
        ids[name] = cell_ids(notebook, "01_toy")
        assert len(set(ids[name])) == len(ids[name])
    before = ids["before"]
    assert sum(one != other for one, other in zip(before, ids["edited"], strict=True)) == 1
    assert ids["solved otherwise"] == before
    assert [identity for identity in ids["one cell more"] if identity in before] == before
    assert "exercise-toy_loss" in before


def test_equal_cells_get_different_ids():
    notebook = jupytext.reads(HEADER + "\n# %%\n1\n\n# %%\n1\n", fmt="py:percent")
    first, second = cell_ids(notebook, "01_toy")
    assert second == f"{first}-2"


def test_blank_and_solution_share_their_ids(course):
    solved, blank = (nbformat.read(course / folder / "01_toy.ipynb", as_version=4) for folder in ("solutions", "lessons"))
    assert [cell.id for cell in solved.cells] == [cell.id for cell in blank.cells]


EXERCISE = '# %% exercise={"id": "f", "title": "it"}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EXERCISE + "### BEGIN SOLUTION\n1\n", "line 2: a solution region is never closed"),
        (EXERCISE + "### BEGIN SOLUTION\n1\n# %%\n2\n", "line 2: a solution region is still open where the next cell begins"),
        (EXERCISE + "1\n### END SOLUTION\n", "line 3: END SOLUTION without a BEGIN SOLUTION"),
        (EXERCISE + "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION\n", "line 3: a solution region begins inside"),
        ("# %%\n### BEGIN SOLUTION\n### END SOLUTION\n", "line 2: a solution region stands in a cell without exercise="),
        (EXERCISE + "## BEGIN SOLUTION\n## END SOLUTION\n", "a solution marker that is not exact"),
        (EXERCISE + "x = 1 ### BEGIN SOLUTION\n", "a solution marker that is not exact"),
    ],
)
def test_broken_regions_are_refused_in_a_sentence(text, said):
    with pytest.raises(InputError, match="m.py") as caught:
        blank_text(text, where="m.py")
    assert said in str(caught.value)


def test_each_region_of_an_exercise_can_say_its_own_task():
    text = EXERCISE + "def f():\n    ### BEGIN SOLUTION: the left half\n    a = 1\n    ### END SOLUTION\n    b = 2\n"
    text += "    ### BEGIN SOLUTION\n    return a\n    ### END SOLUTION\n"
    blank = blank_text(text)
    assert 'raise NotImplementedError("Write `f`: the left half")\n    b = 2\n' in blank
    assert 'raise NotImplementedError("Write `f`: it")' in blank


@settings(max_examples=60, deadline=None)
@given(
    task=st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30),
    secret=st.from_regex(r"[a-z]{12,20}", fullmatch=True),
    indent=st.integers(0, 8),
)
def test_a_blank_is_python_and_holds_no_secret(task, secret, indent):
    pad = " " * indent
    meta = json.dumps({"id": "f", "title": task}, ensure_ascii=False)
    body = f"if True:\n{pad} ### BEGIN SOLUTION\n{pad} {secret} = 1\n{pad} ### END SOLUTION\n"
    blank = blank_text(f"# %% exercise={meta}\n{body}")
    assert secret not in blank
    with pytest.raises(NotImplementedError) as caught:
        exec(compile(blank, "blank", "exec"), {})
    wanted = task.rstrip() if task else "the lines that are missing here"
    assert str(caught.value).startswith("Write `f`: ")
    assert wanted.strip()[:1] in str(caught.value)


def test_a_solution_line_elsewhere_in_the_blank_is_a_leak(course):
    master = Master(course / "x.py", LESSON + "\n# %%\nmargin_of_pairs  =  pos - neg   # as above\n")
    assert leaks(master) == ["margin_of_pairs=pos-neg"]
    assert leaks(Master(course / "x.py", LESSON)) == []


def test_differences_name_each_file(course):
    edit(course / "lessons" / "01_toy.py", "Third nudge", "No nudge")
    (course / "solutions" / "01_toy.ipynb").unlink()
    (course / "lessons" / "07_gone.py").write_text("# %%\n", encoding="utf-8")
    found = differences(course)
    assert found[0] == "solutions/01_toy.ipynb: missing"
    assert found[1].startswith("lessons/01_toy.py: differs from solutions/01_toy.py, first at line ")
    assert found[2] == "lessons/07_gone.py: has no master in solutions/"
    assert set(build(course)) == {
        "wrote solutions/01_toy.ipynb",
        "wrote lessons/01_toy.py",
        "removed lessons/07_gone.py (it has no master)",
    }
    assert differences(course) == []


@pytest.mark.parametrize("name", ["2_toy.py", "01-toy.py", "01_Toy.py"])
def test_odd_file_names_are_refused(course, name):
    (course / "solutions" / name).write_text(LESSON, encoding="utf-8")
    with pytest.raises(InputError, match="not the name of a lesson"):
        load_masters(course)


def test_two_lessons_of_one_number_are_refused(course):
    (course / "solutions" / "01_other.py").write_text(LESSON, encoding="utf-8")
    with pytest.raises(InputError, match="two lessons have one number"):
        load_masters(course)


# --- the linter ----------------------------------------------------------------------------------------------------


@pytest.fixture
def toy_is_lesson_01(monkeypatch):
    monkeypatch.setattr(toy_loss, "lesson", "01")


@pytest.mark.usefixtures("toy_is_lesson_01")
def test_the_toy_lesson_has_no_complaint(course):
    assert lint(course) == []


@pytest.mark.usefixtures("toy_is_lesson_01")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# # 01 · A toy", "# # A toy", "the first cell is not a title"),
        ("6 minutes · ", "", "does not say how many minutes"),
        ("6 minutes · ", "4 minutes · ", "the exercises take 5 minutes, and the lesson has 4"),
        ("2 points · ", "", 'does not say what the exercises are worth ("2 points")'),
        ("2 points · ", "3 points · ", "says 3 points, and the exercises are worth 2"),
        ('"""Mean of -log sigmoid(pos - neg).\n\n    Args:\n        pos, neg: (n,) scores.\n    """', "", "has no docstring"),
        ("go.Scatter(x=[0, 1, 2]", "go.Scatter(x=places", "cell 10 reads `places`, which no cell before it defines"),
        ("    margin_of_pairs = pos - neg", "    margin_of_pairs = pos - neg + shift", "cell 5 reads `shift`"),
        ("after this you can", "then you", "after this you can"),
        ("needs nothing · ", "", "what the lesson needs"),
        ("formats: ipynb,py:percent", "formats: ipynb", "the header lacks `formats"),
        (', "Third nudge."', "", "has 2 hints; three are wanted"),
        ('"points": 2, ', "", "lacks points"),
        ('check("toy_loss")', "1", "is never checked"),
        ("margin_of_pairs = pos - neg", "margin_of_pairs = neg - pos", "refuses its own solution"),
        ("    ### BEGIN SOLUTION", "    if True: return 3\n    ### BEGIN SOLUTION", "has a stub that is failed"),
        ("def toy_loss(", "def toy_lost(", "does not define `toy_loss`"),
        ("figure = go", "\n" * 46 + "figure = go", "a screen holds 45"),
        ('"points": 2', '"pionts": 2', "unknown keys"),
    ],
)
def test_the_linter_finds(tmp_path, old, new, said):
    assert old in LESSON + HEADER
    root = tmp_path / "course"
    (root / "solutions").mkdir(parents=True)
    (root / "solutions" / "01_toy.py").write_text(LESSON.replace(old, new), encoding="utf-8")
    build(root)
    complaints = lint(root)
    assert any(said in complaint for complaint in complaints), complaints


@pytest.mark.usefixtures("toy_is_lesson_01")
def test_the_linter_finds_an_exercise_without_cases_and_a_repeated_id(tmp_path):
    root = make_course(tmp_path / "c", {"01_toy": LESSON, "02_toy": LESSON.replace("# # 01", "# # 02")})
    complaints = lint(root)
    assert "02_toy.py: exercise toy_loss is also in 01_toy.py" in complaints
    root = make_course(tmp_path / "d", {"01_toy": LESSON.replace("toy_loss", "no_such_thing")})
    assert "01_toy.py: exercise no_such_thing has no cases in grading/exercises/lesson_01.py" in lint(root)


@pytest.mark.usefixtures("toy_is_lesson_01")
def test_the_linter_finds_a_wrong_solution_that_passes(course, monkeypatch):
    monkeypatch.setitem(toy_loss.wrongs, "not wrong at all", lambda pos, neg: toy_loss_torch(pos, neg))
    assert any("accepts the wrong solution 'not wrong at all'" in complaint for complaint in lint(course))


@pytest.mark.usefixtures("toy_is_lesson_01")
def test_the_linter_finds_what_only_the_blank_lacks(tmp_path):
    """A name that is defined nowhere but inside a solution region is gone in the blank."""
    outside = LESSON.replace("def toy_loss", "### BEGIN SOLUTION\nfactor_of_mine = 1.0\n### END SOLUTION\ndef toy_loss")
    outside = outside.replace("toy_loss(torch.ones(3)", "factor_of_mine * toy_loss(torch.ones(3)")
    complaints = lint(make_course(tmp_path / "d", {"01_toy": outside}))
    assert "01_toy.py: in the blank, cell 8 reads `factor_of_mine`, which no cell before it defines" in complaints


@pytest.mark.parametrize(
    ("cells", "missing"),
    [
        (["x = 1", "y = x"], []),
        (["y = x", "x = 1"], ["x"]),
        (["x = x + 1"], ["x"]),
        (["for i in range(3):\n    print(i)", "[j for j in range(i)]", "j"], ["j"]),
        (["def f():\n    return g()\ndef g():\n    return 1", "f()"], []),
        (["def f():\n    return later", "later = 1", "f()"], ["later"]),
        (["%matplotlib inline\n!ls\nimport numpy as np", "with np.errstate() as e:\n    print(e)"], []),
        (["try:\n    1 / 0\nexcept ZeroDivisionError as problem:\n    print(problem)", "display(1)"], []),
        (["d = {}\nd['a'] = 1", "e['a'] = 1"], ["e"]),
    ],
)
def test_names_are_defined_before_they_are_read(cells, missing):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    assert [line.split("`")[1] for line in order_complaints(notebook)] == missing


def test_public_names_need_docstrings(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "a.py").write_text(
        'class Base:\n    """Here."""\n    def told(self):\n        """Here."""\n    def silent(self): ...\n    def _own(self): ...\n'
        "class Child(Base):\n    def told(self): ...\n    def new(self): ...\ndef bare(): ...\ndef _own(): ...\n",
        encoding="utf-8",
    )
    said = docstring_complaints(tmp_path / "pack")
    assert [line.split(": ")[1].split()[0] for line in said] == ["Base.silent", "Child", "Child.new", "bare"]
    assert said[0].startswith("pack/a.py line 5: ")


def test_a_lesson_is_slow_only_when_clock_and_cpu_say_so():
    assert LessonRun("01_toy", 300, 20).complaint == ""
    assert LessonRun("01_toy", 70, 130).complaint == ""
    assert LessonRun("01_toy", 130, 140).complaint == "01_toy: takes 130 s (140 s of CPU); 120 s are allowed"
    assert "NameError" in LessonRun("01_toy", 1, 1, "NameError: x").complaint


def test_a_lesson_is_run_and_its_error_told(course, monkeypatch):
    path = course / "solutions" / "01_toy.ipynb"
    cells = [nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("no_such_name")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert "NameError" in run_lesson(course, "01_toy").problem
    nbformat.write(nbformat.v4.new_notebook(cells=cells[:1]), path)
    done = run_lesson(course, "01_toy")
    assert (done.problem, done.complaint) == ("", "")
    assert done.seconds > 0
    assert done.cpu > 0


def toy_loss_torch(pos, neg):
    import torch

    return torch.nn.functional.softplus(neg - pos).mean()


# --- the learner's copy --------------------------------------------------------------------------------------------


def test_start_copies_once_and_then_does_nothing(course):
    assert start(root=course).added == ["01_toy"]
    mine = course / "my_lessons"
    assert (mine / "01_toy.ipynb").read_bytes() == (course / "lessons" / "01_toy.ipynb").read_bytes()
    assert (mine / "01_toy.py").stat().st_mtime >= (mine / "01_toy.ipynb").stat().st_mtime
    before = {path: path.stat().st_mtime_ns for path in mine.glob("01*")}
    assert start(root=course).lines() == []
    assert {path: path.stat().st_mtime_ns for path in mine.glob("01*")} == before


def upstream_update(course):
    edit(course / "solutions" / "01_toy.py", "First nudge.", "First gentle nudge.")
    edit(course / "solutions" / "01_toy.py", "# # 01 · A toy", "# # 01 · A better toy")
    build(course)


def test_an_update_refreshes_what_is_untouched_and_keeps_what_is_not(course):
    mine = course / "my_lessons"
    start(root=course)
    # run, not changed: outputs are no work of the learner's hands
    notebook = json.loads((mine / "01_toy.ipynb").read_text(encoding="utf-8"))
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["hello\n"]}]
    notebook["cells"][1]["execution_count"] = 1
    (mine / "01_toy.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    upstream_update(course)
    assert start(root=course).updated == ["01_toy"]
    assert "A better toy" in (mine / "01_toy.ipynb").read_text(encoding="utf-8")

    edit(mine / "01_toy.py", "raise NotImplementedError", "return 0  # raise NotImplementedError")
    written = (mine / "01_toy.py").read_bytes()
    edit(course / "solutions" / "01_toy.py", "A better toy", "The best toy")
    build(course)
    report = start(root=course)
    assert (report.kept, report.updated, report.added) == (["01_toy"], [], [])
    assert "mmrec-teach course reset 01" in report.lines()[0]
    assert (mine / "01_toy.py").read_bytes() == written


def test_work_survives_a_lost_state_file(course):
    mine = course / "my_lessons"
    start(root=course)
    edit(mine / "01_toy.py", "raise NotImplementedError", "return 0  # raise NotImplementedError")
    for content in (None, "not json", "[]", '{"lessons": 3}'):
        if content is None:
            (mine / record.STATE_NAME).unlink()
        else:
            (mine / record.STATE_NAME).write_text(content, encoding="utf-8")
        assert start(root=course).kept == ["01_toy"]
        assert "return 0" in (mine / "01_toy.py").read_text(encoding="utf-8")


def test_a_file_the_learner_had_before_is_never_overwritten(course):
    mine = course / "my_lessons"
    mine.mkdir()
    (mine / "01_toy.ipynb").write_text("my own notes", encoding="utf-8")
    assert start(root=course).kept == ["01_toy"]
    assert (mine / "01_toy.ipynb").read_text(encoding="utf-8") == "my own notes"
    assert not (mine / "01_toy.py").exists()


def test_a_deleted_lesson_or_half_comes_back(course):
    mine = course / "my_lessons"
    start(root=course)
    (mine / "01_toy.py").unlink()
    start(root=course)
    assert (mine / "01_toy.py").exists()
    (mine / "01_toy.py").unlink()
    (mine / "01_toy.ipynb").unlink()
    assert start(root=course).added == ["01_toy"]


def test_reset_keeps_a_backup_each_time(course):
    mine = course / "my_lessons"
    start(root=course)
    backups = set()
    for work in ("return 1", "return 2"):
        edit(mine / "01_toy.py", 'raise NotImplementedError("Write `toy_loss`', f'{work}  # raise ("Write `toy_loss`')
        stem, backup = reset("toy", root=course)
        assert stem == "01_toy"
        assert work in (backup / "01_toy.py").read_text(encoding="utf-8")
        assert (backup / "01_toy.ipynb").is_file()
        assert (mine / "01_toy.py").read_bytes() == (course / "lessons" / "01_toy.py").read_bytes()
        backups.add(backup)
    assert len(backups) == 2
    assert start(root=course).lines() == []


def test_reset_of_an_unknown_lesson_lists_the_lessons(course):
    with pytest.raises(InputError, match="no lesson is called '07'") as caught:
        reset("07", root=course)
    assert "01_toy" in str(caught.value)


def test_start_refuses_the_lessons_themselves_and_files(course, tmp_path):
    with pytest.raises(InputError, match="own folder"):
        start(course / "lessons", course)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        start(tmp_path / "file" / "mine", course)


def test_a_newer_notebook_is_paired_again(course):
    start(root=course)
    notebook, text = (course / "my_lessons" / f"01_toy{suffix}" for suffix in (".ipynb", ".py"))
    old = time.time() - 100
    os.utime(text, (old, old))
    assert sync_pair(notebook) is None, "the same text needs no word"
    assert text.stat().st_mtime > old + 50
    edit(notebook, "torch.ones(3)", "torch.ones(5)")
    os.utime(text, (old, old))
    assert "which is newer" in start(root=course).notes[0]
    assert "torch.ones(5)" in text.read_text(encoding="utf-8")
    # the other way round: jupytext reads the newer text itself
    edit(text, "torch.ones(5)", "torch.ones(6)")
    os.utime(notebook, (old, old))
    assert sync_pair(notebook) is None
    assert "torch.ones(6)" in text.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["1", "01", "bpr", "01_bpr", "01_bpr.ipynb", "my_lessons/01_bpr.py", "BPR"])
def test_names_a_learner_may_use(name):
    assert find_lesson(name, ["00_bazaar", "01_bpr", "02_vbpr"]) == "01_bpr"


@pytest.mark.parametrize("name", ["", "9", "b", "nothing"])
def test_names_that_fit_none_or_several(name):
    with pytest.raises(InputError, match="00_bazaar, 01_bpr, 02_vbpr"):
        find_lesson(name, ["00_bazaar", "01_bpr", "02_vbpr"])


def test_the_course_is_found_from_a_folder_inside_it(course, tmp_path, monkeypatch):
    start(root=course)
    monkeypatch.chdir(course / "my_lessons")
    assert course_root() == course
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match="no course here"):
        course_root(tmp_path / "elsewhere")


# --- the record ----------------------------------------------------------------------------------------------------


def test_the_record_lives_beside_the_learners_lessons_only(course, monkeypatch):
    monkeypatch.delenv("MMREC_TEACH_PROGRESS", raising=False)
    start(root=course)
    mine = course / "my_lessons"
    assert record.record_path(mine) == mine / record.FILE_NAME
    assert record.record_path(course / "solutions") is None
    monkeypatch.setenv("MMREC_TEACH_PROGRESS", str(course / "x.json"))
    assert record.record_path(mine) == course / "x.json"
    monkeypatch.setenv("MMREC_TEACH_PROGRESS", "off")
    assert record.record_path(mine) is None


def test_two_notebooks_share_one_record(tmp_path):
    one, other = record.Record(tmp_path / "p.json"), record.Record(tmp_path / "p.json")
    one.put("hints", "a", 1)
    other.put("hints", "b", 2)
    one.put("quizzes", "q", {"1": {"right": True}})
    other.put("hints", "a", 3)
    assert one.read()["hints"] == {"a": 3, "b": 2}
    assert other.get("quizzes", "q") == {"1": {"right": True}}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"hints": 3}'])
def test_a_broken_record_stops_nothing(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    mine = record.Record(path)
    mine.put("hints", "a", 1)
    assert record.Record(path).get("hints", "a") == 1
    if content != b'{"hints": 3}':
        assert (tmp_path / "p.json.unreadable").read_bytes() == content


def test_a_record_that_cannot_be_written_stays_in_memory(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    mine = record.Record(tmp_path / "file" / "p.json")
    mine.put("hints", "a", 1)
    mine.put("hints", "odd", {1, 2})
    assert mine.get("hints", "a") == 1


def test_progress_counts_points(course):
    start(root=course)
    mine = record.Record(course / "my_lessons" / record.FILE_NAME)
    assert [(lesson.points, lesson.possible) for lesson in progress(course)] == [(0, 2)]
    mine.put("exercises", "toy_loss", {"passed": True, "attempts": 1})
    assert [(lesson.points, lesson.possible) for lesson in progress(course)] == [(2, 2)]


@pytest.mark.parametrize(("before", "told"), [(False, ["toy_loss"]), (True, [])])
def test_progress_tells_whether_the_solution_was_read_first(course, before, told):
    start(root=course)
    mine = record.Record(course / "my_lessons" / record.FILE_NAME)
    mine.put("solutions", "toy_loss", {"at": "2026-01-01T00:00:00+00:00", "passed_before": before})
    assert [sorted(lesson.read_first) for lesson in progress(course)] == [told]


# --- predict, reveal, quiz, hint -----------------------------------------------------------------------------------


@pytest.fixture
def learner(course, monkeypatch):
    """The working directory of a learner's notebook, under an IPython that shows things into a list."""
    monkeypatch.delenv("MMREC_TEACH_PROGRESS", raising=False)
    start(root=course)
    monkeypatch.chdir(course / "my_lessons")
    shown: list = []
    monkeypatch.setattr(ask, "in_ipython", lambda: True)
    monkeypatch.setattr(ask, "in_notebook", lambda: True)
    monkeypatch.setattr(hints, "in_notebook", lambda: True)
    monkeypatch.setattr(ask, "show", shown.append)
    monkeypatch.setattr(hints, "show", shown.append)
    return shown


def test_a_prediction_is_committed_once_and_shown_again(learner):
    ask.predict("depth", "Which depth?", options=[1, 2, 4])
    _, radio, button, status = learner[-1].children
    button.click()
    assert "Choose an answer first" in status.value
    assert ask.reveal("depth", 4).text.startswith("You have not committed a prediction here. Measured: 4.")
    radio.value = "2"
    button.click()
    assert radio.disabled
    assert button.disabled
    assert "You predicted <b>2</b>" in status.value
    assert "You predicted: 2. Measured: 4. It came out otherwise.\nWhy." in repr(ask.reveal("depth", 4, "Why."))
    assert "Your prediction holds" in ask.reveal("depth", 2).text
    ask.predict("depth", "Which depth?", options=[1, 2, 4])
    _, again, button, _ = learner[-1].children
    assert (again.value, again.disabled, button.disabled) == ("2", True, True)
    ask.predict("depth", "Which depth?", options=[8, 16])  # the lesson has changed since
    assert "You predicted <b>2</b>" in learner[-1].children[3].value


def test_a_number_is_compared_as_a_number(learner):
    ask.predict("recall", "How much?", unit="%")
    _, row, button, _ = learner[-1].children
    row.children[0].value = 12.5
    button.click()
    assert ask.reveal("recall", 10.0, unit="%").text == "You predicted: 12.5 %. Measured: 10 %. That is 2.5 away."


def test_quiz_explains_each_choice_and_notes_the_first(learner):
    ask.quiz([{"question": "1+1?", "options": [1, 2], "answer": 2, "why": ["Count <again>.", "Indeed."]}], id="q")
    _, radio, feedback = learner[-1].children[0].children
    radio.value = "1"
    assert "Not quite." in feedback.value
    assert "Count &lt;again&gt;." in feedback.value
    radio.value = "2"
    assert "Right." in feedback.value
    assert record.current_record().get("quizzes", "q") == {"1": {"right": True, "first_right": False}}


def test_hints_come_one_by_one_and_stay(learner):
    for _ in range(2):
        hints.hint("toy_loss")
        row, shown = learner[-1].children
        button, worked = row.children
        if not button.disabled:
            for number in (1, 2, 3):
                assert worked.layout.display == "none"
                assert f"hint {number} of 3" in button.description
                button.click()
        assert "Third nudge." in shown.value
        assert "shows the worked solution" in shown.value
        assert worked.layout.display is None
    with pytest.raises(OptionError, match="toy_loss"):
        hints.hint("no_such")


def test_hints_are_found_though_the_learners_own_file_is_broken(learner):
    with open("01_toy.py", "w", encoding="utf-8") as file:
        file.write('# %% exercise={"id": }\n')
    assert hints.find_hints("toy_loss")[1] == "01_toy"


def test_everything_prints_in_a_plain_script(course, monkeypatch, capsys):
    start(root=course)
    monkeypatch.chdir(course / "my_lessons")
    ask.predict("p", "Which?", options=["a", "b"])
    ask.reveal("p", "a", "So it is.")
    ask.quiz([{"question": "1+1?", "options": [1, 2], "answer": 1, "why": "Peano."}])
    for _ in range(4):
        hints.hint("toy_loss")
    out = capsys.readouterr().out
    for words in (
        "Predict: Which?",
        "1. a",
        "Measured: a.",
        "So it is.",
        "Question 1: 1+1?",
        "1. 2. Peano.",
        "Hint 1 of 3: First",
    ):
        assert words in out
    assert out.count("Hint 3 of 3: Third nudge.") == 2
    assert 'solution("toy_loss") shows the worked solution.' in out


def test_ipythons_terminal_gets_text_and_no_widgets(course, tmp_path):
    start(root=course)
    code = (
        "from mmrec_teach.notebook import hint, predict, quiz; "
        "predict('p', 'Which?', options=['a', 'b']); "
        "quiz([{'question': '1+1?', 'options': [1, 2], 'answer': 1, 'why': 'Peano.'}]); "
        "hint('toy_loss')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--quick", "--colors=NoColor", "--HistoryManager.enabled=False", "-c", code],
        cwd=course / "my_lessons",
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    for words in ("Predict: Which?", "Question 1: 1+1?", "Hint 1 of 3: First"):
        assert words in done.stdout, done.stdout + done.stderr
    assert "VBox" not in done.stdout


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"question": "?"}, "'options' is missing"),
        ({"question": "?", "options": ["a"], "answer": "a", "why": ""}, "two or more different options"),
        ({"question": "?", "options": ["a", "a"], "answer": "a", "why": ""}, "two or more different options"),
        ({"question": "?", "options": ["a", "b"], "answer": "c", "why": ""}, "not among the options"),
        ({"question": "?", "options": ["a", "b"], "answer": 2, "why": ""}, "not among the options"),
        ({"question": "?", "options": ["a", "b"], "answer": "b", "why": ["x"]}, "one explanation per option"),
    ],
)
def test_quiz_mistakes_are_named(entry, said):
    with pytest.raises(OptionError, match=said):
        ask.quiz([entry])


def test_generated_files_do_not_depend_on_where_the_course_is(tmp_path):
    one, other = (generated_files(Master(tmp_path / name / "01_toy.py", LESSON)) for name in ("a", "b"))
    assert one == other
