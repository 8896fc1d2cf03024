"""A hand-out holds what a student needs, works, and keeps the teacher's half out; the pages about it say what is so."""

from __future__ import annotations

import base64
import csv
import hashlib
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml

from mmrec_teach.classroom import edition
from mmrec_teach.classroom.assign import STATE_NAME, assign, hand_out_files
from mmrec_teach.classroom.plan import load_plans
from mmrec_teach.cli import build_parser, main
from mmrec_teach.course.lint import defined_function
from mmrec_teach.course.master import load_masters
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.grading import exercise as exercise_module
from mmrec_teach.grading import record
from mmrec_teach.grading.engine import grade, verdict_on
from mmrec_teach.grading.examples import NOTE, export_examples, load_examples
from mmrec_teach.grading.exercise import Case, Exercise, Fresh, load_exercises

ROOT = Path(__file__).resolve().parent.parent
ORDINARY = {"rng=np.random.default_rng(0)", "withEffort()aseffort:"}  # lines that docstrings show, and that tell nothing
# What the lessons train with computes what the exercises ask for, in the package's own words; that is said in docs/teaching.md.
LIBRARY = ("ops/", "models/", "training/", "evaluation/", "views/", "data/")


@pytest.fixture(scope="module")
def hand_out(tmp_path_factory) -> Path:
    """All lessons, handed out."""
    out = tmp_path_factory.mktemp("class") / "handout"
    assign(["0", "01", "vbpr", *list(load_plans(ROOT))[3:]], out, root=ROOT)
    return out


@pytest.fixture(scope="module")
def site(hand_out, tmp_path_factory) -> Path:
    """The student edition as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        str(target),
    ]
    done = subprocess.run([*pip, str(wheel_in(hand_out))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def registry(monkeypatch) -> dict:
    """An empty registry of exercises for the length of a test."""
    load_exercises()
    empty: dict = {}
    monkeypatch.setattr(exercise_module, "_REGISTRY", empty)
    return empty


def wheel_in(folder: Path) -> Path:
    (found,) = folder.glob("*.whl")
    return found


def every_file(folder: Path) -> dict[str, bytes]:
    """Every file of a hand-out, the wheel's as ``wheel/…``; zip files are stored, so what is inside can be searched as it is."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel_in(folder)) as wheel:
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in wheel.infolist())
        files |= {f"wheel/{name.partition('/')[2]}": wheel.read(name) for name in wheel.namelist()}
    return files


def bare(text: str) -> list[str]:
    """Lines without comments and spaces; those too short to tell anything are left out."""
    lines = (re.sub(r"\s+", "", re.sub(r"\s+#.*$", "", line)) for line in text.splitlines())
    return [line for line in lines if len(line) >= 16 and not line.startswith(("#", "def", "@"))]


# -- what is in it ----------------------------------------------------------------------------------------------------------
def test_the_folder_holds_what_the_readme_promises(hand_out):
    names = {path.relative_to(hand_out).as_posix() for path in hand_out.rglob("*") if path.is_file()}
    domains = {f"data/bazaar{rest}.npz" for rest in ("", "-garden", "-kitchen", "-attic", "-encoder", "-sequences")}
    notebooks = {f"{lesson}.ipynb" for lesson in load_plans(ROOT)}
    rest = {"README.md", "requirements.txt", "plan.json", ".course.json", "data/checksums.json", wheel_in(hand_out).name}
    assert names == domains | notebooks | rest
    assert re.fullmatch(r"mmrec_teach-[\d.]+\+student-py3-none-any\.whl", wheel_in(hand_out).name)
    readme = (hand_out / "README.md").read_text(encoding="utf-8")
    assert "How a lesson works" not in readme, "lesson 00 is there and says it"
    assert STATE_NAME == record.STATE_NAME
    for plan in load_plans(ROOT).values():
        assert f"{plan.lesson}.ipynb" in readme
        for task in plan.tasks:
            assert f"| `{task.name}` | {task.title} | {task.points:g} |" in readme


def test_notebooks_are_the_blank_ones_without_their_pairing(hand_out):
    for path in sorted(hand_out.glob("*.ipynb")):
        given, blank = (nbformat.read(file, as_version=4) for file in (path, ROOT / "lessons" / path.name))
        nbformat.validate(given)
        assert given.cells == blank.cells
        assert "jupytext" not in given.metadata


def test_requirements_are_plain_versions_and_the_wheel(hand_out):
    *versions, wheel = (hand_out / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert wheel == f"./{wheel_in(hand_out).name}"
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert set(versions) <= set(locked)
    names = {line.split("==")[0].lower() for line in versions}
    assert {"torch", "numpy", "jupyterlab", "ipywidgets", "jupytext", "jinja2"} <= names
    assert not names & {"pytest", "ruff", "playwright", "hypothesis", "dask", "distributed"}


def test_the_wheel_says_what_it_is(hand_out):
    with zipfile.ZipFile(wheel_in(hand_out)) as wheel:
        names = set(wheel.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        record = wheel.read(f"{info}/RECORD").decode()
        for name, digest, size in csv.reader(io.StringIO(record)):
            names.remove(name)
            if name.endswith("/RECORD"):
                continue
            content = wheel.read(name)
            assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert int(size) == len(content)
        metadata = wheel.read(f"{info}/METADATA").decode()
    assert not names, "files that RECORD does not list"
    assert "\nName: mmrec_teach\n" in metadata
    assert "\nRequires-Dist: torch==" in metadata
    assert not [name for name in wheel.namelist() if name.endswith(".pyc")]


def test_the_same_course_gives_the_same_bytes(hand_out):
    again = hand_out_files(tuple(load_plans(ROOT).values()), ROOT)
    assert {name: (hand_out / name).read_bytes() for name in again} == again


# -- what is not in it --------------------------------------------------------------------------------------------------------
def test_the_teachers_modules_are_left_out(hand_out):
    names = {name.removeprefix("wheel/") for name in every_file(hand_out) if name.startswith("wheel/")}
    assert not names & set(edition.TEACHERS)
    for gone in ("classroom/grade.py", "cli/grade.py", "cli/assign.py", "cli/course.py", "classroom/autograder.py"):
        assert (edition.HOME / gone).is_file(), "the list below would be empty talk"
        assert gone not in names
    inside = {name for name in names if name.startswith("grading/exercises/")}
    lessons = [name for name, found in load_exercises().items() if found.lesson.isdigit()]  # not those of other tests
    assert inside == {"grading/exercises/__init__.py", *(f"grading/exercises/{name}.npz" for name in lessons)}


def test_no_file_tells_what_a_teacher_keeps(hand_out):
    files = every_file(hand_out)
    kept: set[str] = set()
    for exercise in load_exercises().values():
        cases = exercise.all_cases()
        examples = {case.name for case in cases if case.group == "examples"}
        kept |= {case.name for case in cases} - examples | {*exercise.rules, *exercise.wrongs}
    assert len(kept) > 80
    # Notebooks are those of lessons/, word for word (tested above), and may speak of "the last layer alone".
    texts = {name: content for name, content in files.items() if not name.endswith((".ipynb", ".whl"))}
    found = [(name, words) for name, content in texts.items() for words in kept if words.encode() in content]
    assert not [entry for entry in found if len(entry[1]) > 12], "a case, a rule or a wrong solution"


def test_no_solution_and_no_oracle_is_in_it(hand_out):
    masters = load_masters(ROOT)
    solutions = {line for master in masters for one in master.exercises for text in one.solutions for line in bare(text)}
    written = {line for master in masters for line in bare(master.blank)}  # a loop's head, say, that a lesson shows elsewhere
    assert len(solutions - written) > 20
    secret = set(solutions)
    for one in load_exercises().values():
        hidden = (one._oracle, one._random, one._hidden, *one.rules.values(), *one.wrongs.values())
        secret |= {line for function in hidden if function for line in bare(inspect.getsource(function))}
    for name, content in every_file(hand_out).items():
        if name.startswith(tuple(f"wheel/{folder}" for folder in LIBRARY)) or name.endswith((".npz", ".whl")):
            continue
        text = content.decode("utf-8")
        if name.endswith(".ipynb"):
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
        leaked = set(bare(text)) & (secret - written - ORDINARY)
        assert not leaked, name


def test_what_an_exercise_hides_stays_hidden(registry):
    exercise = Exercise("toy", lesson="01", gradient=("x",))
    exercise.cases(lambda: [Case("seen by all", x=np.array([1.0, 2.0]))])
    exercise.random(lambda rng: [Case("drawn in secret", x=rng.normal(size=3))])
    exercise.hidden(lambda: [Case("kept in secret", x=np.array([4321.5]))])
    exercise.oracle(lambda x: (x**2).sum())
    exercise.rule("ruled in secret")(lambda function: None)
    exercise.wrong("wrong in secret")(lambda x: x.sum())
    wheel = edition.student_edition([exercise]).content
    assert b"seen by all" in wheel
    assert b"in secret" not in wheel
    assert np.float64(4321.5).tobytes() not in wheel


# -- the examples ---------------------------------------------------------------------------------------------------------------
def test_solutions_pass_their_stored_examples_and_stubs_do_not(registry, monkeypatch):
    monkeypatch.undo()
    whole = load_exercises()
    stored = {name: export_examples(one) for name, one in whole.items()}
    monkeypatch.setattr(exercise_module, "_REGISTRY", {})
    for master in load_masters(ROOT):
        for told in master.exercises:
            small = load_examples(stored[told.id])
            solution = defined_function(master, told, solved=True)
            verdict = verdict_on(told.id, solution)
            assert verdict, verdict
            assert verdict.notes == (NOTE,)
            assert verdict_on(told.id, defined_function(master, told, solved=False)).status == "blank"
            seen = {(case.name, case.group) for case in verdict.cases}
            assert seen <= set(whole[told.id].result_names())
            assert {group for _, group in seen} == {"examples", "steady", "inputs"} | (
                {"gradient"} if small.gradient else set()
            )


def test_stored_examples_judge_as_the_exercise_does(registry, monkeypatch):
    monkeypatch.undo()
    whole = load_exercises()
    stored = {name: export_examples(one) for name, one in whole.items()}
    monkeypatch.setattr(exercise_module, "_REGISTRY", {})
    judged = 0
    for name, exercise in whole.items():
        small = load_examples(stored[name])
        for wrong in list(exercise.wrongs.values())[:2]:
            mine, theirs = grade(small, wrong, advise=False), grade(exercise, wrong, advise=False)
            shown = {case.name: case for case in theirs.cases if case.group == "examples"}
            for case in mine.cases:
                if case.group == "examples":
                    assert (case.passed, case.kind, case.message) == (
                        shown[case.name].passed, shown[case.name].kind, shown[case.name].message
                    )  # fmt: skip
                    judged += 1
    assert judged > 40


def test_generators_are_made_anew_for_every_call(registry):
    for make in (lambda: np.random.default_rng(7), lambda: torch.Generator().manual_seed(7)):
        exercise = Exercise("toy", lesson="01")
        exercise.cases(lambda make=make: [Case("draws", n=3, generator=Fresh(make))])
        exercise.oracle(lambda n, generator: _draw(n, generator))
        small = load_examples(export_examples(exercise))
        assert grade(small, lambda n, generator: _draw(n, generator))
        assert not grade(small, lambda n, generator: _draw(n, generator) + 1)


def _draw(n, generator):
    if isinstance(generator, torch.Generator):
        return torch.rand(n, generator=generator).numpy()
    return generator.random(n)


def test_what_cannot_be_stored_is_said(registry):
    exercise = Exercise("toy", lesson="01")
    with pytest.raises(OptionError, match="no example"):
        export_examples(exercise)
    exercise.cases(lambda: [Case("odd", x=1.0, how=str.upper)])
    exercise.oracle(lambda x, how: x)
    with pytest.raises(OptionError, match="method_descriptor"):
        export_examples(exercise)
    with pytest.raises(InputError, match="not a file of examples"):
        load_examples(b"PK", "toy.npz")


# -- the edition works ----------------------------------------------------------------------------------------------------------
def in_hand_out(hand_out: Path, site: Path, command: list[str]) -> subprocess.CompletedProcess:
    """Run a command as a student would: from the hand-out, with the student edition."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MMREC_TEACH", "PYTEST"))}
    env |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=hand_out, env=env, capture_output=True, text=True, timeout=300, check=False)


SESSION = """
import importlib, io, contextlib, json, pkgutil
import mmrec_teach, nbformat
out = {"home": mmrec_teach.__file__}
modules = [found.name for found in pkgutil.walk_packages(mmrec_teach.__path__, "mmrec_teach.")]
for name in modules:
    importlib.import_module(name)
out["modules"] = len(modules)
from mmrec_teach.notebook import check, hint, load
from mmrec_teach.data import store
out["data"] = str(store.data_dir())
out["users"] = load("bazaar").n_users
notebook = nbformat.read("01_bpr.ipynb", as_version=4)
solutions = json.loads(open("SOLUTIONS").read())
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    import torch
    for name, source in solutions.items():
        cell = next(cell for cell in notebook.cells if cell.metadata.get("exercise", {}).get("id") == name)
        exec(cell.source)
        out[name] = [check(name).status]
        exec(source)
        out[name].append(check(name).status)
    def bpr_loss(pos, neg):
        return (neg - pos).mean()
    out["wrong"] = str(check("bpr_loss"))
    hint("bpr_loss")
out["printed"] = printed.getvalue()
print(json.dumps(out))
"""


def test_a_student_can_work_with_it(hand_out, site, tmp_path):
    (master,) = (master for master in load_masters(ROOT) if master.number == "01")
    solutions = {one.id: master.notebook.cells[one.cell].source for one in master.exercises}
    (tmp_path / "solutions.json").write_text(json.dumps(solutions), encoding="utf-8")
    session = SESSION.replace("SOLUTIONS", str(tmp_path / "solutions.json"))
    done = in_hand_out(hand_out, site, [sys.executable, "-c", session])
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout.splitlines()[-1])
    assert Path(out["home"]).is_relative_to(site)
    assert out["modules"] > 50
    assert Path(out["data"]).resolve() == (hand_out / "data").resolve()
    assert out["users"] == 1200
    assert [out[name] for name in solutions] == [["blank", "passed"]] * 3
    assert NOTE in out["wrong"]
    assert "expected" in out["wrong"]
    assert "Hint 1 of 3" in out["printed"]
    progress = hand_out / ".progress.json"
    assert json.loads(progress.read_text(encoding="utf-8"))["exercises"]["bpr_score"]["passed"]
    progress.unlink()


def test_its_commands_work(hand_out, site):
    program = site / "bin" / "mmrec-teach"
    listed = in_hand_out(hand_out, site, [sys.executable, str(program), "--help"])
    assert listed.returncode == 0, listed.stderr
    commands = ["atlas", "data", "doctor", "judge", "pretrain", "pretrain-sequences", "recommend", "index", "sweep", "train"]
    commands += ["compare"]
    assert re.findall(r"^    ([a-z-]+)", listed.stdout, re.MULTILINE) == commands
    checked = in_hand_out(hand_out, site, [sys.executable, str(program), "data", "verify"])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    version = in_hand_out(hand_out, site, [sys.executable, str(program), "--version"])
    assert version.stdout.strip().endswith("+student")


def test_data_beside_the_notebook_is_found_without_a_repository(hand_out, monkeypatch, tmp_path):
    from mmrec_teach.data import store

    monkeypatch.delenv("MMREC_TEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "__file__", str(tmp_path / "site" / "mmrec_teach" / "data" / "store.py"))
    monkeypatch.chdir(hand_out)
    assert store.data_dir() == hand_out / "data"
    monkeypatch.chdir(tmp_path)
    assert store.data_dir() == tmp_path / "cache" / "mmrec_teach" / "data"


# -- the folder it is written to ------------------------------------------------------------------------------------------------
def test_nothing_of_anyones_is_overwritten(tmp_path, monkeypatch):
    small = {"01_bpr.ipynb": b"{}", "README.md": b"read me"}

    def files(plans, root):
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
        return {**small, ".course.json": json.dumps({"handed_out": digests}).encode()}

    monkeypatch.setattr("mmrec_teach.classroom.assign.hand_out_files", files)
    out = tmp_path / "handout"
    out.mkdir()
    assert [plan.lesson for plan in assign(["01"], out, root=ROOT).plans] == ["01_bpr"], "an empty folder will do"
    with pytest.raises(InputError, match="--again"):
        assign(["01"], out, root=ROOT)
    small["README.md"] = b"read me again"
    assign(["01"], out, again=True, root=ROOT)
    assert (out / "README.md").read_bytes() == b"read me again"
    (out / "01_bpr.ipynb").write_bytes(b"work of an hour")
    with pytest.raises(InputError, match=r"01_bpr\.ipynb: a file in the earlier hand-out was changed since"):
        assign(["01"], out, again=True, root=ROOT)
    (out / "01_bpr.ipynb").write_bytes(b"{}")
    (out / "notes.txt").write_bytes(b"mine")
    with pytest.raises(InputError, match="does not belong to it"):
        assign(["01"], out, again=True, root=ROOT)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_bytes(b"mine")
    for again in (False, True):
        with pytest.raises(InputError, match=r"no hand-out of this course is in it\. Name a folder that does not exist"):
            assign(["01"], other, again=again, root=ROOT)
    monkeypatch.chdir(other)
    with pytest.raises(InputError, match="you are in it"):
        assign(["01"], Path(), root=ROOT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="a folder of its own"):
        assign(["01"], tmp_path / "file", root=ROOT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "handout", "other"], "nothing is left behind"


def test_the_command_says_what_it_made_or_what_is_wrong(tmp_path, capsys):
    assert main(["assign", "1", "--out", str(tmp_path / "one"), "--course", str(ROOT)]) == 0
    assert "01_bpr; 6 points" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "one").glob("*.ipynb")) == ["01_bpr.ipynb"]
    readme = (tmp_path / "one" / "README.md").read_text(encoding="utf-8")
    told = readme.partition("## How a lesson works")[2].partition("\n## ")[0]
    for words in ("**Your prediction**", "**Exercise**", "**Quiz**", '"needs lesson 00"', "the public course"):
        assert words in told, "lesson 00, which says it, is not in this hand-out"
    with zipfile.ZipFile(wheel_in(tmp_path / "one")) as wheel:
        assert sum(name.endswith(".npz") for name in wheel.namelist()) == 3, "the examples of this lesson and no other"
    assert main(["assign", "99", "--out", str(tmp_path / "two"), "--course", str(ROOT)]) == 2
    assert "no lesson is called '99'" in capsys.readouterr().err
    assert main(["assign", "13", "--out", str(tmp_path / "two"), "--course", str(ROOT)]) == 2
    assert "lesson 13_whatif_lab has no exercises: there is nothing to hand out" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


# -- what the pages say ---------------------------------------------------------------------------------------------------------
def test_commands_of_the_teachers_page_can_be_parsed(capsys):
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    parser = build_parser()
    blocks = re.findall(r"^    (mmrec-teach .*)$", text, re.MULTILINE)
    spans = re.findall(r"`(mmrec-teach [^`]*)`", text)
    assert len(blocks) >= 6
    known = parser._subparsers._group_actions[0].choices
    for command in [*blocks, *spans]:
        words = shlex.split(command)[1:]
        if len(words) > 1 or command in blocks:
            parser.parse_args(words)
        else:
            assert words[0] in known, command


def test_places_the_teachers_page_names_exist():
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert len(targets) >= 2
    for target in targets:
        assert (ROOT / "docs" / target).exists(), target
    for module in re.findall(r"`(mmrec_teach/[\w/]+)/`", text):
        assert (ROOT / module).is_dir(), module


def test_the_workflow_asks_for_little_and_its_commands_work(hand_out, site, tmp_path):
    workflow = yaml.safe_load((ROOT / "docs" / "github-classroom.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert [shlex.split(run)[0] for run in runs] == ["python", "pytest"]
    assert (hand_out / "requirements.txt").is_file()
    assert "-r requirements.txt" in runs[0]
    words = shlex.split(runs[1])
    solved = tmp_path / "repository"
    solved.mkdir()
    for path in hand_out.iterdir():
        (solved / path.name).symlink_to(path)
    (solved / "01_bpr.ipynb").unlink()
    (solved / "01_bpr.ipynb").write_bytes((ROOT / "solutions" / "01_bpr.ipynb").read_bytes())
    done = in_hand_out(solved, site, [sys.executable, "-m", *words])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b1[0-9] passed\b", done.stdout), "the examples, and no more"
    assert (solved / "report.xml").is_file()
