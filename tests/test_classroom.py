"""A class: finding submissions, grading them side by side, and losing none to crashes, kills and clusters."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from mmrec_teach.classroom import grade as grading
from mmrec_teach.classroom import intake, plan
from mmrec_teach.classroom.grade import grade_class, result_paths
from mmrec_teach.classroom.intake import take_in
from mmrec_teach.classroom.plan import exercise_lessons, load_plans
from mmrec_teach.classroom.progress import APART, PULSE, Progress
from mmrec_teach.classroom.result import read_result, write_result
from mmrec_teach.classroom.roster import MAX_ZIP_ENTRIES, Entry, Roster, find_submissions
from mmrec_teach.classroom.worker import grade_file, is_unfinished, not_graded
from mmrec_teach.cli import doctor, main
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.files import atomic_path
from mmrec_teach.grading.submission import Submission
from tests.toy_course import ROOT

LESSONS = ["00_bazaar", "01_bpr", "02_vbpr", "03_lightgcn"]
SOLVED = (ROOT / "solutions" / "01_bpr.py").read_text(encoding="utf-8")
BLANK = (ROOT / "lessons" / "01_bpr.py").read_text(encoding="utf-8")
SIGN = SOLVED.replace("softplus(neg - pos)", "softplus(pos - neg)")
SLOW = SOLVED.replace("return (user_vectors", "import time; time.sleep(4); return (user_vectors")
DAMAGED = '{"cells": [{"cell_type": "code", '


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files, their folders with them; all of one age."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def found(roster: Roster) -> dict[tuple[str, str], str]:
    return {(entry.student, entry.lesson): entry.file for entry in roster.entries}


def look(folder: Path, *wanted: str) -> Roster:
    return find_submissions(folder, LESSONS, list(wanted) or None)


# --- who handed in what ----------------------------------------------------------------------------------------------------

LAYOUTS = {
    "mia.py": "mia",
    "mia_01_bpr.py": "mia",
    "01_bpr-mia.py": "mia",
    "lesson-1 Mia Müller.py": "Mia Müller",
    "bpr_mia (2).py": "mia (2)",
    "mia_bpr.py": "mia",
    "mia/hw.py": "mia",
    "mia/deep/inside/01_bpr.py": "mia",
    "muellermia_12345_67890_01_bpr-1.py": "muellermia",
    "muellermia_LATE_12345_67890_homework.py": "muellermia",
    "Mia Müller_4711_assignsubmission_file_/01_bpr.py": "Mia Müller",
    "Mia Müller_4711_assignsubmission_file_01_bpr.py": "Mia Müller",
    "submitted/mia/01_bpr/homework.py": "mia",
    "mia/01_bpr/homework.py": "mia",
    "01-bpr-mia/lessons/01_bpr.py": "mia",
    "01-bpr-submissions/01-bpr-mia/01_bpr.py": "mia",
    "01_bpr/mia.py": "mia",
    "01_bpr/mia/any.py": "mia",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    put(tmp_path, {name: SOLVED})
    roster = look(tmp_path)
    assert found(roster) == {(LAYOUTS[name], "01_bpr"): name}
    assert not roster.problems


def test_a_folder_of_several_lessons_with_what_lies_about(tmp_path):
    course = {f"zoe/lessons/{stem}.py": "x = 1" for stem in LESSONS}
    put(tmp_path, {
        "mia_01_bpr.py": SOLVED, "mia_02_vbpr.py": "y = 1", **course, "zoe/tests/conftest.py": "", "zoe/readme.md": "",
        ".git/01_bpr.py": "", "mia/.ipynb_checkpoints/01_bpr-checkpoint.ipynb": "", "__MACOSX/eve/._01_bpr.py": "",
        "01-bpr-kim/lessons/01_bpr.py": "", "01-bpr-kim/lessons/02_vbpr.py": "", "out/results/old.py": "",
    })  # fmt: skip
    roster = find_submissions(tmp_path, LESSONS, None, skip=tmp_path / "out")
    assert set(found(roster)) == {
        ("mia", "01_bpr"), ("mia", "02_vbpr"), *(("zoe", stem) for stem in LESSONS), ("kim", "01_bpr"),
    }  # fmt: skip
    assert roster.problems == {"mia": "mia: there is no notebook or Python file to grade in it."}
    assert roster.left_out == (), "mia's other files are graded"
    one = find_submissions(tmp_path, LESSONS, ["02_vbpr"], skip=tmp_path / "out")
    assert set(found(one)) == {("mia", "02_vbpr"), ("zoe", "02_vbpr")}
    assert one.notes == ("Nothing for 02_vbpr from kim.",)
    assert [(left.student, left.file, left.sentence) for left in one.left_out] == [
        ("kim", "01-bpr-kim/lessons/01_bpr.py", "kim: 01-bpr-kim/lessons/01_bpr.py is lesson 01, not 02.")
    ]


def test_students_with_nothing_to_grade_are_named(tmp_path):
    put(tmp_path, {
        "ann_01_bpr.py": SOLVED, "pdf/essay.pdf": "", "much/a.pdf": "", "much/b.txt": "", "submitted/nb/hw.odt": "",
        "kim_123_4567_essay.pdf": "", "Mia Müller_47_assignsubmission_file_/essay.pdf": "", "course notes.pdf": "",
        ".dot_01_bpr.py": SOLVED, "dotted/.01_bpr.ipynb": "{}", "ann/.01_bpr.py": "", "._ann_01_bpr.py": "", "mac/._01_bpr.py": "",
        "other_02_vbpr.py": "", "two.py": SOLVED, "two_01_bpr.py": SOLVED,
    })  # fmt: skip
    (tmp_path / "empty").mkdir()
    zipped(tmp_path / "packed.zip", {"hw/essay.pdf": ""})
    zipped(tmp_path / "packed dot.zip", {"hw/.01_bpr.py": SOLVED})
    roster = look(tmp_path, "01_bpr")
    assert set(found(roster)) == {("ann", "01_bpr")}
    nothing = "there is no notebook or Python file to grade in it"
    dot = "skipped: its name starts with a dot. Give it another name."
    assert {one.student: (one.file, one.sentence) for one in roster.left_out} == {
        "pdf": ("pdf/essay.pdf", f"pdf: {nothing} (essay.pdf)."),
        "much": ("much", f"much: {nothing} (a.pdf, b.txt)."),
        "nb": ("submitted/nb/hw.odt", f"submitted/nb: {nothing} (hw.odt)."),
        "kim": ("kim_123_4567_essay.pdf", "kim_123_4567_essay.pdf: neither a notebook nor a Python file; there is nothing to grade."),
        "Mia Müller": (
            "Mia Müller_47_assignsubmission_file_/essay.pdf", f"Mia Müller_47_assignsubmission_file_: {nothing} (essay.pdf).",
        ),
        "dot": (".dot_01_bpr.py", f".dot_01_bpr.py: {dot}"),
        "dotted": ("dotted/.01_bpr.ipynb", f"dotted/.01_bpr.ipynb: {dot}"),
        "mac": ("mac", f"mac: {nothing}."),
        "other": ("other_02_vbpr.py", "other: other_02_vbpr.py is lesson 02, not 01."),
        "two": ("two.py", "two, 01_bpr: 2 files claim to be the submission (two.py and two_01_bpr.py); keep one of them."),
        "empty": ("empty", f"empty: {nothing}."),
        "packed": ("packed/hw/essay.pdf", f"packed: {nothing} (hw/essay.pdf)."),
        "packed dot": ("packed dot/hw/.01_bpr.py", f"packed dot/hw/.01_bpr.py: {dot}"),
    }  # fmt: skip


def test_who_is_left_out_is_written_each_run(tmp_path):
    folder = put(tmp_path / "class", {"ann_01_bpr.py": SOLVED, "pdf/essay.pdf": "", "zoe/essay.pdf": ""})
    out = tmp_path / "out"
    take_in(folder, out, ["01"])
    kept = json.loads((out / intake.LEFT_OUT).read_text(encoding="utf-8"))
    assert kept["version"] == 1
    assert [(one["student"], one["file"]) for one in kept["entries"]] == [("pdf", "pdf/essay.pdf"), ("zoe", "zoe/essay.pdf")]
    put(tmp_path, {"pdf.py": SOLVED})
    take_in(tmp_path / "pdf.py", out, ["01"])
    assert [one.student for one in intake.read_left_out(out)] == ["zoe"], "one student alone leaves the others' as they are"
    shutil.rmtree(folder / "zoe")
    put(folder, {"pdf/01_bpr.py": SOLVED})
    take_in(folder, out, ["01"])
    assert json.loads((out / intake.LEFT_OUT).read_text(encoding="utf-8")) == {"version": 1, "entries": []}
    (out / intake.LEFT_OUT).write_text("{", encoding="utf-8")
    assert intake.read_left_out(out) == []


def test_a_pair_counts_once_and_the_newest_file_wins(tmp_path):
    put(tmp_path, {"mia_01_bpr.py": BLANK, "mia_01_bpr.ipynb": "{}", "bob/01_bpr.ipynb": "{}", "bob/01_bpr (1).ipynb": "{}"})
    os.utime(tmp_path / "bob" / "01_bpr (1).ipynb", (1_700_000_100, 1_700_000_100))
    roster = look(tmp_path)
    assert found(roster) == {("mia", "01_bpr"): "mia_01_bpr.ipynb", ("bob", "01_bpr"): "bob/01_bpr (1).ipynb"}
    assert roster.entries[0].notes == ("The newest of 2 files was graded: 01_bpr (1).ipynb, not 01_bpr.ipynb.",)
    assert roster.entries[0].notes[0] in roster.entries[0].read().notes


def test_canvas_counts_the_last_attempt_and_tells_people_of_one_name_apart(tmp_path):
    put(tmp_path, {
        "leeann_111_900_01_bpr.py": "a", "leeann_111_901_01_bpr-2.py": "b", "leeann_222_902_01_bpr.py": "c",
    })  # fmt: skip
    assert found(look(tmp_path)) == {
        ("leeann (111)", "01_bpr"): "leeann_111_901_01_bpr-2.py",
        ("leeann (222)", "01_bpr"): "leeann_222_902_01_bpr.py",
    }


def test_two_claims_are_nobodys(tmp_path):
    put(tmp_path, {"mia.py": SOLVED, "mia_01_bpr.py": SOLVED, "bob.py": SOLVED, "eve/01_bpr.py": "", "eve/old/01_bpr.py": ""})
    roster = look(tmp_path)
    assert set(found(roster)) == {("bob", "01_bpr")}
    assert roster.problems["mia (01_bpr)"] == (
        "mia, 01_bpr: 2 files claim to be the submission (mia.py and mia_01_bpr.py); keep one of them."
    )
    assert "eve/01_bpr.py and eve/old/01_bpr.py" in roster.problems["eve (01_bpr)"]


def test_the_lesson_is_told_by_the_functions_or_is_the_only_one(tmp_path):
    put(tmp_path, {"mia.py": SOLVED, "kim.ipynb": DAMAGED, "bob/a.py": "x = 1", "bob/b.py": SOLVED})
    assert found(look(tmp_path)) == {("mia", "01_bpr"): "mia.py", ("kim", "01_bpr"): "kim.ipynb", ("bob", "01_bpr"): "bob/b.py"}
    put(tmp_path, {"zoe_02_vbpr.py": "x = 1"})
    roster = look(tmp_path)
    assert ("kim", "01_bpr") not in found(roster)
    assert roster.problems["kim.ipynb"].startswith("kim.ipynb: nothing tells which lesson this is; name it like kim_01_bpr")
    assert ("kim", "02_vbpr") in found(look(tmp_path, "02_vbpr"))


def test_zip_files_are_read_in_memory(tmp_path):
    whole = tmp_path / "class"
    whole.mkdir()
    zipped(whole / "mia.zip", {"hw/01_bpr.py": SOLVED, "__MACOSX/hw/._01_bpr.py": "", "hw/.hidden.py": ""})
    (whole / "Bob_7_assignsubmission_file_").mkdir()
    zipped(whole / "Bob_7_assignsubmission_file_" / "hand in.zip", {"01_bpr.ipynb": "{}"})
    roster = look(whole)
    assert found(roster) == {
        ("mia", "01_bpr"): "mia/hw/01_bpr.py",
        ("Bob", "01_bpr"): "Bob_7_assignsubmission_file_/hand in/01_bpr.ipynb",
    }
    assert "def bpr_loss" in "".join(next(entry for entry in roster.entries if entry.student == "mia").read().cells)
    everybody = zipped(tmp_path / "submissions.zip", {"mia_01_bpr.py": SOLVED, "bob/01_bpr.py": BLANK})
    assert set(found(look(everybody))) == {("mia", "01_bpr"), ("bob", "01_bpr")}
    assert sorted(path.name for path in tmp_path.rglob("*.py")) == [], "nothing is unpacked"


def test_bad_zip_files_are_told(tmp_path, monkeypatch):
    put(tmp_path, {"broken.zip": b"PK\x03\x04 no", "mia_01_bpr.py": SOLVED})
    zipped(tmp_path / "slip.zip", {"../../01_bpr.py": SOLVED, "/etc/01_bpr.py": SOLVED, "..\\up\\01_bpr.py": SOLVED})
    zipped(tmp_path / "many.zip", {f"{number}.py": "" for number in range(MAX_ZIP_ENTRIES + 1)})
    zipped(tmp_path / "bomb.zip", {"01_bpr.py": "#" * 5_000_000})
    monkeypatch.setattr("mmrec_teach.classroom.roster.MAX_FILE", 1_000_000)
    roster = look(tmp_path)
    assert set(found(roster)) == {("mia", "01_bpr"), ("bomb", "01_bpr")}
    assert "cannot be used" in roster.problems["broken.zip"]
    assert "a name in it leads outside" in roster.problems["slip.zip"]
    assert "more than 5000 files" in roster.problems["many.zip"]
    assert "larger than" in next(entry for entry in roster.entries if entry.student == "bomb").read().problem


def test_a_zip_file_that_lies_about_sizes_is_read_no_further_than_it_may(tmp_path, monkeypatch):
    path = zipped(tmp_path / "mia.zip", {"01_bpr.py": "#" * 5_000_000})
    content = path.read_bytes()
    path.write_bytes(content.replace((5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    monkeypatch.setattr("mmrec_teach.classroom.roster.MAX_FILE", 1_000_000)
    submission = look(path, "01_bpr").entries[0].read()
    assert submission.problem or sum(map(len, submission.cells)) <= 2_100_000


def test_links_out_of_a_folder_and_odd_files_are_not_followed(tmp_path):
    put(tmp_path, {"bob/01_bpr.py": SOLVED, "eve/hw/real.py": BLANK})
    (tmp_path / "eve" / "01_bpr.py").symlink_to("../bob/01_bpr.py")
    (tmp_path / "eve" / "up").symlink_to("..")
    (tmp_path / "kim").mkdir()
    (tmp_path / "kim" / "01_bpr.py").symlink_to("hw.py")
    (tmp_path / "kim" / "hw.py").write_text(BLANK)
    (tmp_path / "zoe").mkdir()
    os.mkfifo(tmp_path / "zoe" / "01_bpr.py")
    roster = look(tmp_path, "01_bpr")
    assert found(roster) == {
        ("bob", "01_bpr"): "bob/01_bpr.py",
        ("eve", "01_bpr"): "eve/hw/real.py",
        ("kim", "01_bpr"): "kim/hw.py",
    }
    assert roster.problems["eve/01_bpr.py"] == "eve/01_bpr.py: a link is not followed; put the file itself there."
    assert "eve/up" in roster.problems
    assert roster.problems["zoe"] == "zoe: there is no notebook or Python file to grade in it."


def test_a_neighbours_file_is_not_handed_in_by_a_link(tmp_path):
    put(tmp_path, {"mia_01_bpr.py": SOLVED})
    (tmp_path / "eve_01_bpr.py").symlink_to("mia_01_bpr.py")
    roster = look(tmp_path, "01_bpr")
    assert found(roster) == {("mia", "01_bpr"): "mia_01_bpr.py"}
    assert "a link is not followed" in roster.problems["eve_01_bpr.py"]


def test_nobody_is_called_as_anothers_result_is(tmp_path):
    mia = Entry(student="Mia Müller", **{k: v for k, v in vars(_entry()).items() if k != "student"})
    (path,) = result_paths((mia,), tmp_path).values()
    eve = Entry(student=path.stem, **{k: v for k, v in vars(_entry()).items() if k != "student"})
    assert len(set(result_paths((mia, eve), tmp_path).values())) == 2


def _entry() -> Entry:
    with tempfile.TemporaryDirectory() as name:
        return look(put(Path(name), {"mia_01_bpr.py": SOLVED}), "01_bpr").entries[0]


def test_a_zip_file_is_its_students_whatever_it_is_called(tmp_path):
    zipped(tmp_path / "eve_22345_67891_submissions.zip", {"mia_12345_67890_01_bpr.py": SOLVED})
    put(tmp_path, {"mia_12345_67890_01_bpr.py": BLANK})
    assert {student for student, _ in found(look(tmp_path, "01_bpr"))} == {"eve", "mia"}


def test_a_zip_file_that_swells_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mmrec_teach.classroom.roster.MAX_UNPACKED", 1_000_000)
    zipped(tmp_path / "zoe.zip", {"01_bpr.py": SOLVED + "#" * 2_000_000})
    assert "unpacked it would be" in look(tmp_path, "01_bpr").problems["zoe.zip"]


def test_what_was_handed_in_says_neither_what_is_graded_nor_how(tmp_path, monkeypatch):
    put(tmp_path, {"mia_01_bpr.py": SOLVED, "plan.json": '{"version": 1, "lessons": []}'})
    monkeypatch.chdir(tmp_path)
    assert "01_bpr" in load_plans(), "the course's own plan counts"
    with pytest.raises(InputError, match="results would lie among the submissions"):
        grade_class(".", "grades", progress=False)
    assert not (tmp_path / "grades").exists()


def test_bad_folders_are_one_sentence(tmp_path, capsys):
    with pytest.raises(InputError, match="there is no such file or folder"):
        look(tmp_path / "none")
    with pytest.raises(InputError, match="no submission for any lesson is in there"):
        look(tmp_path)
    put(tmp_path, {"notes.txt": ""})
    with pytest.raises(InputError, match="not a submission"):
        look(tmp_path / "notes.txt")
    out = tmp_path.with_name("elsewhere")
    assert main(["grade", str(tmp_path), "--out", str(out)]) == 2
    assert "no submission for any lesson" in capsys.readouterr().err
    put(tmp_path, {"mia.py": SOLVED})
    capsys.readouterr()
    for words, said in (
        (["--lesson", "77"], "no lesson is called '77'"),
        (["--jobs", "0"], "at least one process"),
        (["--jobs", "1", "--scheduler", "tcp://127.0.0.1:1"], "its own number of workers"),
        (["--out", str(tmp_path / "grades")], "results would lie among the submissions"),
        (["--out", str(tmp_path / "mia.py")], "a file stands where results should go"),
    ):
        assert main(["grade", str(tmp_path), "--out", str(out), *words]) == 2
        assert said in capsys.readouterr().err
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mia.py", "notes.txt"], "nothing is written"


def test_another_lesson_is_named(tmp_path):
    put(tmp_path, {"01_bpr.ipynb": "{}", "README.md": ""})
    with pytest.raises(InputError, match=r"no submission for 02_vbpr is in there: 01_bpr\.ipynb is lesson 01, not 02\."):
        look(tmp_path, "02_vbpr")
    with pytest.raises(InputError, match=r"is lesson 01, not 02 or 03\."):
        look(tmp_path, "02_vbpr", "03_lightgcn")


def test_wrong_uses_are_told_before_anything_heavy_is_imported(tmp_path):
    """Each was a wait of seconds for a sentence."""
    put(tmp_path, {"class/mia.py": SOLVED, "file.zip": "", "other/01_bpr.ipynb": "{}", "pdf/a.pdf": ""})
    uses = {
        "grade class --lesson 77": "no lesson is called '77'",
        "grade none": "there is no such file or folder",
        "grade": "no submissions were named",
        "grade pdf --lesson 01 --jobs 0": "at least one process",
        "grade class --jobs 1 --scheduler tcp://127.0.0.1:1": "its own number of workers",
        "grade class --out class": "results would lie among the submissions",
        "grade other --lesson 02": "01_bpr.ipynb is lesson 01, not 02",
        "assign 77 --out new": "no lesson is called '77'",
        "assign 01 --out class --again": "no hand-out of this course is in it",
        "gradescope-bundle 77": "no lesson is called '77'",
        "gradescope-bundle 01 --out file.zip": "a file of that name is there",
    }
    code = (
        "import sys, json, contextlib, io\n"
        "from mmrec_teach.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stderr(said):\n"
        "        status = main([*words.split()])\n"
        "    heavy = [name for name in ('torch', 'numpy', 'pandas', 'jupytext', 'rich') if name in sys.modules]\n"
        "    print(json.dumps([words, status, said.getvalue(), heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(uses))], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, *_ in told] == list(uses)
    for words, status, said, heavy in told:
        assert (status, heavy) == (2, []), words
        assert uses[words] in said


def test_an_output_that_cannot_be_written_is_named_as_the_user_named_it(tmp_path, monkeypatch, capsys):
    put(tmp_path, {"class/mia_01_bpr.py": SOLVED})

    def no_folder(prefix, dir):
        raise OSError(30, "Read-only file system", f"{dir}/{prefix}m3a5rxd4")

    monkeypatch.setattr("mmrec_teach.files.tempfile.mkdtemp", no_folder)
    monkeypatch.chdir(tmp_path)
    assert main(["grade", "class", "--out", "grades"]) == 2
    assert capsys.readouterr().err == "grades/salt.json: Read-only file system.\n"
    monkeypatch.undo()
    target = tmp_path / "file.txt"
    with pytest.raises(FileNotFoundError) as caught, atomic_path(target):
        pass  # writes nothing, so that there is nothing to put in the target's place
    assert caught.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as caught, atomic_path(target):
        (tmp_path / "other.txt").read_bytes()
    assert caught.value.filename == str(tmp_path / "other.txt"), "another file's error is its own"
    with pytest.raises(OSError, match="No space") as caught, atomic_path(target):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["class", "grades"], "nothing is left behind"


@pytest.mark.parametrize(
    ("words", "lessons"),
    [
        ("grade class --lesson 01 02", ["01", "02"]),
        ("grade --lesson 01 --lesson 02 class", ["01", "02"]),
        ("grade --lesson 01 02 class", ["01", "02"]),
        ("grade --lesson 01 --again class", ["01"]),
        ("grade --again class", None),
    ],
)
def test_lessons_may_be_given_in_several_ways(monkeypatch, words, lessons):
    asked: list[tuple] = []

    def ask(*given):
        asked.append(given)
        raise InputError("enough")

    monkeypatch.setattr(intake, "take_in", ask)
    assert main(words.split()) == 2
    assert asked[0][0] == Path("class")
    assert asked[0][2] == lessons


def test_lessons_are_read_without_importing_exercises(monkeypatch, tmp_path):
    loaded = {name: lesson for name, lesson in plan._loaded().items() if lesson.isdigit()}  # not those of other tests
    assert exercise_lessons() == loaded
    light = load_plans(ROOT)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "_tasks", lambda text, where: [
            plan.Task(one.id, one.title, float(one.points))
            for one in plan.exercises_of(plan.read_percent(text, where=where), where=where)
        ])  # fmt: skip
        assert load_plans(ROOT) == light, "as jupytext reads them"
    put(
        tmp_path, {"lessons/01_bpr.py": BLANK.replace('"points": 3', '"points": 3, "colour": "red"'), "solutions/01_bpr.py": ""}
    )
    with pytest.raises(InputError, match="unknown keys.*colour"):
        load_plans(tmp_path)


def test_results_have_file_names_that_every_system_takes(tmp_path):
    names = ["mia", "Mia", "Müller, Anna", "Muller, Anna", "con", "a/../b", "x" * 99, "李", "..", "a  b", "a_b"]
    paths = result_paths(tuple(Entry(name, "01_bpr", "f", Path("f")) for name in names), tmp_path)
    stems = [path.stem for path in paths.values()]
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all(path.parent == tmp_path / "results" / "01_bpr" and len(path.name) < 80 for path in paths.values())
    assert all(stem.isascii() and not stem.startswith(".") and "/" not in stem for stem in stems)
    assert "_con" in stems[4]
    assert (stems[0], stems[-1]) == ("mia", "a_b")


# --- grading ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded_class(tmp_path_factory):
    """A class graded by two processes, one of which is killed in mid-run."""
    folder = put(tmp_path_factory.mktemp("class"), {
        "ann_01_bpr.py": SOLVED, "bob/01_bpr.py": BLANK, "cleo_01_bpr.py": SIGN, "dan_01_bpr.ipynb": DAMAGED,
        "eve_01_bpr.py": SOLVED.replace("def bpr_loss", "def bprloss"), "finn_01_bpr.py": SOLVED + "\nwhile True: pass\n",
        "gus_01_bpr.py": "", "hal_01_bpr.py": (ROOT / "solutions" / "02_vbpr.py").read_text(encoding="utf-8"),
    })  # fmt: skip
    out = tmp_path_factory.mktemp("grades")
    killed: list[int] = []
    real = grading.write_result

    def write_and_kill(path, result):
        real(path, result)
        if not killed:
            workers = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
            workers[0].kill()
            killed.append(workers[0].pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "write_result", write_and_kill)
        results = grade_class(folder, out, jobs=2, salt=0, progress=False)
    assert killed
    return folder, out, results


def stored(out: Path) -> dict[str, tuple[int, str]]:
    return {path.stem: (path.stat().st_mtime_ns, path.read_text(encoding="utf-8")) for path in out.glob("results/*/*.json")}


def without_seconds(text: str) -> dict:
    return {key: value for key, value in json.loads(text).items() if key != "seconds"}


def test_a_class_is_graded_though_a_process_is_killed(graded_class):
    _, out, results = graded_class
    assert {result.student: result.score for result in results} == {
        "ann": 6, "bob": 0, "cleo": 4, "dan": 0, "eve": 4, "finn": 6, "gus": 0, "hal": 0,
    }  # fmt: skip
    assert not any(is_unfinished(result) for result in results)
    assert [read_result(out / "results" / "01_bpr" / f"{result.student}.json") for result in results] == results
    assert sorted(path.name for path in (out / "results" / "01_bpr").iterdir()) == [f"{one.student}.json" for one in results]
    words = {result.student: {one.verdict.advice for one in result.exercises} for result in results}
    assert any("damaged" in sentence for sentence in words["dan"])
    assert any("there is `bprloss`" in sentence for sentence in words["eve"])
    assert any("looks like lesson 02" in sentence for one in results if one.student == "hal" for sentence in one.notes)


def test_only_what_changed_is_graded_again(graded_class, tmp_path):
    folder, out, results = graded_class
    folder = Path(shutil.copytree(folder, tmp_path / "class"))
    out = Path(shutil.copytree(out, tmp_path / "out"))
    before = stored(out)
    assert grade_class(folder, out, salt=0, progress=False) == results
    assert stored(out) == before
    ann = out / "results" / "01_bpr" / "ann.json"
    good = read_result(ann)
    put(folder, {"bob/01_bpr.py": SIGN})
    # the grader failed on ann's last time
    write_result(ann, not_graded("ann", good.file, load_plans()["01_bpr"], good.digest, "no luck"))
    now = {result.student: result for result in grade_class(folder, out, jobs=1, salt=0, progress=False)}
    assert (now["bob"].score, now["ann"].score) == (4, 6)
    after = stored(out)
    assert {name for name in before if after[name] != before[name]} == {"ann", "bob"}
    assert without_seconds(after["ann"][1]) == without_seconds(before["ann"][1]), "the same work earns the same again"


def test_a_class_keeps_the_number_behind_its_random_cases(tmp_path):
    here, there = intake.class_salt(tmp_path / "here"), intake.class_salt(tmp_path / "there")
    assert here == intake.class_salt(tmp_path / "here") != there, "drawn once for each class"
    for damaged in ("{", "[]", '{"salt": "1"}', "{}"):
        (tmp_path / "here" / intake.SALT).write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match=r"salt\.json.*Give --salt, or delete the file"):
            intake.class_salt(tmp_path / "here")


def test_results_that_are_out_of_date_are_not_kept(graded_class):
    folder, out, results = graded_class
    roster = find_submissions(folder, LESSONS)
    entry = next(entry for entry in roster.entries if entry.student == "cleo")
    plans = load_plans()

    def kept(plans=plans, salt=0, again=False, wall="limits", change=None):
        run = grading._ClassRun(roster, plans, out, wall, salt, again, False)
        if change:
            run.paths = {entry: out / "changed.json"}
            write_result(out / "changed.json", replace(read_result(out / "results" / "01_bpr" / "cleo.json"), **change))
        return run._stored(entry, entry.read()) is not None

    assert kept()
    assert kept(wall=results[0].wall)
    assert not kept(salt=1)
    assert not kept(again=True)
    tasks = plans["01_bpr"].tasks
    assert not kept({**plans, "01_bpr": replace(plans["01_bpr"], tasks=(replace(tasks[0], points=9.0), *tasks[1:]))})
    assert kept(change={"file": "old name.py"})
    assert read_result(out / "changed.json").file == "cleo_01_bpr.py"
    assert not kept(change={"digest": "another"})
    assert not kept(change={"wall": "limits"}, wall="landlock")
    assert not kept(change={"graded_with": {"package": "0.0.1"}})
    (out / "changed.json").write_text("{", encoding="utf-8")
    run = grading._ClassRun(roster, plans, out, "limits", 0, False, False)
    run.paths = {entry: out / "changed.json"}
    assert run._stored(entry, entry.read()) is None


class FragilePool:
    """Grades nothing; the process ends whenever it is given somebody from ``deadly``."""

    slots = 3

    def __init__(self, deadly: set[str], error: type[Exception] | None = None):
        self.deadly, self.error = deadly, error
        self.restarts = 0
        self.given: list[str] = []
        self.pending: list[Future] = []

    def submit(self, job, plan, wall, salt):
        future: Future = Future()
        self.given.append(job.entry.student)
        if self.error is not None:
            future.set_exception(self.error("no more"))
        elif job.entry.student in self.deadly:
            for other in [*self.pending, future]:
                other.set_exception(BrokenProcessPool())
            self.pending = []
        elif self.deadly and not job.alone:
            self.pending.append(future)  # still at work when the process ends
        else:
            verdicts = not_graded(job.entry.student, job.entry.file, plan, "", "pretended", salt)
            future.set_result(asdict(replace(verdicts, wall="limits")))
        return future

    def restart(self):
        self.restarts += 1

    def close(self):
        pass


def pretend(tmp_path, pool):
    put(tmp_path, {f"{name}_01_bpr.py": SOLVED for name in ("ann", "bob", "cleo")})
    run = grading._ClassRun(find_submissions(tmp_path, LESSONS), load_plans(), tmp_path / "out", "limits", 0, False, False)
    steps: list[str] = []
    run.grade(pool, steps.append)
    return run, steps


def test_a_submission_that_ends_every_process_is_told_apart_from_its_neighbours(tmp_path):
    pool = FragilePool({"cleo"})
    run, steps = pretend(tmp_path, pool)
    said = {entry.student: result.exercises[0].verdict.advice for entry, result in run.results.items()}
    assert "its process ended twice while at it" in said["cleo"]
    assert "pretended" in said["ann"]
    assert "pretended" in said["bob"]
    assert (sorted(steps), pool.restarts) == (["ann", "bob", "cleo"], 2)
    assert pool.given.count("cleo") == 2


def test_an_exception_of_the_grader_is_a_result_and_a_lost_cluster_a_sentence(tmp_path):
    run, _ = pretend(tmp_path, FragilePool(set(), ZeroDivisionError))
    assert all(is_unfinished(result) and result.score == 0 for result in run.results.values())
    assert "(ZeroDivisionError: no more)" in next(iter(run.results.values())).exercises[0].verdict.advice
    with pytest.raises(InputError, match="the connection to the graders is lost"):
        pretend(tmp_path, FragilePool(set(), ConnectionError))


def test_the_grader_never_raises_for_a_submission(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a fault\nof ours.")

    monkeypatch.setattr("mmrec_teach.classroom.worker.grade_submission", broken)
    plan = load_plans()["01_bpr"]
    result = grade_file(b"x = 1", "hw.py", plan, student="mia")
    assert result["exercises"][0]["verdict"]["advice"] == (
        "The grader could not finish this one (RuntimeError: a fault of ours). It is no fault of the submission: grade it again."
    )
    assert result["digest"] == Submission("hw.py", ("x = 1",)).digest
    other = grade_file(b"x = 1", "hw.py", plan, student="mia", mark={"package": "other"})
    assert "another version of the course" in other["exercises"][0]["verdict"]["advice"]


def start(folder: Path, out: Path) -> subprocess.Popen:
    code = "import sys; from mmrec_teach.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["grade", str(folder), "--out", str(out), "--jobs", "1"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited a minute in vain")


def test_a_run_that_was_stopped_or_killed_goes_on_where_it_was(tmp_path):
    slow = {"b_slow_01_bpr.py": SLOW, "d_slow_01_bpr.py": SLOW}
    folder = put(tmp_path / "class", {"a_01_bpr.py": SOLVED, **slow, "c_01_bpr.py": BLANK})
    out = tmp_path / "out"
    first = start(folder, out)  # a is graded; at b it is stopped
    wait_for(lambda: len(stored(out)) == 1)
    helpers = psutil.Process(first.pid).children(recursive=True)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "Stopped: 1 of 4 submissions are graded" in said
    assert "Traceback" not in said
    assert psutil.wait_procs(helpers, timeout=30)[1] == []
    assert set(stored(out)) == {"a"}
    put(folder, {"b_slow_01_bpr.py": SIGN})
    second = start(folder, out)  # b and c; at d it is killed
    wait_for(lambda: len(stored(out)) == 3)
    helpers = psutil.Process(second.pid).children(recursive=True)
    assert helpers
    second.kill()
    second.communicate(timeout=60)
    assert psutil.wait_procs(helpers, timeout=30)[1] == [], "nothing is left behind"
    before = stored(out)
    assert set(before) == {"a", "b_slow", "c"}
    put(folder, {"d_slow_01_bpr.py": SOLVED})
    results = grade_class(folder, out, jobs=1, progress=False)
    assert {result.student: result.score for result in results} == {"a": 6, "b_slow": 4, "c": 0, "d_slow": 6}
    after = stored(out)
    assert {name: after[name] for name in before} == before, "finished ones are not graded again"


# --- a Dask cluster --------------------------------------------------------------------------------------------------------


def test_a_cluster_that_loses_a_worker_loses_no_result(graded_class, tmp_path, monkeypatch):
    from distributed import LocalCluster

    folder, here, _ = graded_class
    written: list[str] = []
    finished: dict[str, list[str]] = {}
    real = grading.write_result

    def keys_in_memory(scheduler) -> list[str]:
        return [str(entry[0]) for entry in scheduler.transition_log if entry[2] == "memory" and "grade_file" in str(entry[0])]

    with LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1") as cluster:

        def write_and_kill(path, result):
            real(path, result)
            written.append(path.stem)
            if len(written) == 2:
                finished["before"] = keys_in_memory(cluster.scheduler)
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

        monkeypatch.setattr(grading, "write_result", write_and_kill)
        results = grade_class(folder, tmp_path, salt=0, scheduler=cluster.scheduler_address, progress=False)
        finished["after"] = keys_in_memory(cluster.scheduler)
    assert sorted(written) == [result.student for result in results]
    assert len(set(finished["after"])) == 8, "nothing is lost"
    assert [key for key in finished["before"][:2] if finished["after"].count(key) != 1] == [], "nothing is graded twice"
    there, locally = stored(tmp_path), stored(here)
    assert {name: without_seconds(text) for name, (_, text) in there.items()} == {
        name: without_seconds(text) for name, (_, text) in locally.items()
    }, "a cluster judges as this machine does"


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    import distributed

    put(tmp_path, {"mia_01_bpr.py": SOLVED})

    def no_client(*_, **__):
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", no_client)
    with pytest.raises(InputError, match="tcp://127.0.0.1:9: no Dask scheduler answers"):
        grade_class(tmp_path, tmp_path.with_name("elsewhere"), scheduler="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(OptionError, match="grading on a cluster needs Dask"):
        grade_class(tmp_path, tmp_path.with_name("elsewhere"), scheduler="tcp://127.0.0.1:9")


# --- the command -----------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_writes_reports(graded_class, capsys):
    folder, out, _ = graded_class
    assert main(["grade", str(folder), "--out", str(out), "--isolation", "limits", "--salt", "0"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("Grading 8 submissions with ")
    assert "8 of 8 after " in captured.err
    assert "Random cases follow from the number 0, given with --salt." in captured.out
    rows = {line.split("│")[1].strip(): line for line in captured.out.splitlines() if line.startswith("│")}
    assert [part.strip() for part in rows["cleo"].split("│")[1:-1]] == ["cleo", "1", "3", "0", "4"]
    assert rows["bob"].count("not written") == 3
    assert rows["eve"].count("not found") == 1
    assert "Isolation: a plain process with limits alone" in captured.out
    assert "Warning: on this wall a student's code could read and write your files" in captured.err
    assert (out / "class.csv").is_file()
    put(folder, {"cleo.py": SIGN})
    try:
        assert main(["grade", str(folder), "--out", str(out), "--isolation", "limits", "--salt", "0"]) == 1
        assert "cleo, 01_bpr: 2 files claim to be the submission" in capsys.readouterr().err
        assert [one.student for one in intake.read_left_out(out)] == ["cleo"]
    finally:
        (folder / "cleo.py").unlink()


def test_the_command_names_the_number_it_keeps(tmp_path, capsys, monkeypatch):
    put(tmp_path, {"class/ann_01_bpr.py": SOLVED})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grading, "grade_intake", lambda taken, step, again: [])
    assert main(["grade", "class"]) == 0
    said = capsys.readouterr()
    number = json.loads((tmp_path / "grades" / "salt.json").read_text(encoding="utf-8"))["salt"]
    assert f"Random cases follow from the number {number}, kept in grades/salt.json.\n" in said.out
    assert said.err == "Grading 1 submission with 1 process (starting it takes some seconds) …\n"


def test_a_run_stopped_before_its_first_result_promises_none(tmp_path, capsys, monkeypatch):
    put(tmp_path, {"class/ann_01_bpr.py": SOLVED})
    for where in ("mmrec_teach.grading.sandbox.strongest_wall", "mmrec_teach.classroom.grade._ClassRun.grade"):
        with monkeypatch.context() as patch:
            patch.setattr(where, _stop)
            assert main(["grade", str(tmp_path / "class"), "--out", str(tmp_path / "out")]) == 130
        said = capsys.readouterr().err
        assert "Stopped before the first submission was graded. The same command begins again." in said
        assert "results are in" not in said


def _stop(*_, **__):
    raise KeyboardInterrupt


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_a_line_now_and_then():
    clock, stream = Clock(), io.StringIO()
    with Progress(5, "Grading 5 …", stream=stream, clock=clock) as progress:
        assert stream.getvalue() == "Grading 5 …\n", "at once"
        clock.now = PULSE - 1
        progress.pulse()
        clock.now = PULSE + 1
        progress.pulse()
        progress.pulse()
        clock.now = 12
        progress.step("ann")
        progress.step("bob")
        clock.now = 12 + 2 * APART
        progress.step("cleo")
        progress.step("dan")
        progress.step("eve")
    progress.pulse()
    assert stream.getvalue().splitlines() == [
        "Grading 5 …", "0 of 5 after 11 s", "1 of 5 after 12 s: ann", "3 of 5 after 14 s: cleo", "5 of 5 after 14 s: eve",
    ]  # fmt: skip
    silent = io.StringIO()
    with Progress(5, "Grading", False, silent) as progress:
        progress.step("ann")
    assert silent.getvalue() == ""


def test_progress_in_a_terminal_is_a_bar_from_the_start():
    """In one that does not tell its size, too: tqdm shows nothing there by itself."""
    outer, inner = pty.openpty()
    with open(inner, "w", encoding="utf-8") as terminal, Progress(4, "Grading 4 …", stream=terminal) as progress:
        shown = ""
        while "0 of 4" not in shown:
            shown += os.read(outer, 4096).decode()
        progress.step("ann")
        progress.pulse()
        while "1 of 4" not in shown:
            shown += os.read(outer, 4096).decode()
    assert shown.startswith("Grading 4 …")
    os.close(outer)


@pytest.mark.parametrize(
    ("wall", "why", "state", "advice"),
    [
        ("bubblewrap", "", "OK", ""),
        ("landlock", "bubblewrap is not installed (…)", "note", "apt install bubblewrap"),
        ("landlock", "bubblewrap does not work here (…)", "note", "user name spaces"),
        ("limits", "bubblewrap is not installed (…); this kernel has no Landlock", "note", "only people you trust"),
    ],
)
def test_the_doctor_names_the_wall(monkeypatch, wall, why, state, advice):
    monkeypatch.setattr("mmrec_teach.grading.sandbox.strongest_wall", lambda: (wall, why))
    finding = doctor.isolation()
    assert (finding.subject, finding.state) == ("Isolation", state)
    assert advice in finding.advice
    assert why in finding.found
