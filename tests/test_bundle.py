"""The autograder for Gradescope: what is in the zip file, and that results are there whatever is submitted."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmrec_teach.classroom import autograder
from mmrec_teach.classroom.bundle import write_bundle
from mmrec_teach.classroom.plan import load_plans, read_plans
from mmrec_teach.cli import main
from mmrec_teach.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The zip file of lesson 01."""
    out = tmp_path_factory.mktemp("bundle") / "autograder.zip"
    plan, salt = write_bundle("01", out, salt=7, root=ROOT)
    assert (plan.lesson, salt) == ("01_bpr", 7)
    return out


@pytest.fixture
def place(bundle, tmp_path) -> Path:
    """What Gradescope calls /autograder, nothing submitted yet."""
    root = tmp_path / "autograder"
    for name in ("source", "submission"):
        (root / name).mkdir(parents=True)
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(root / "source")
    return root


def results(root: Path) -> dict:
    found = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in (root / "results").iterdir()) == ["results.json"]
    return found


def judged(root: Path, monkeypatch) -> dict:
    """The results, made in this process."""
    monkeypatch.setenv("AUTOGRADER_ROOT", str(root))
    assert autograder.main() == 0
    return results(root)


# -- the zip file -----------------------------------------------------------------------------------------------------------
def test_what_is_in_it(bundle, place):
    with zipfile.ZipFile(bundle) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    (wheel,) = (name for name in modes if name.endswith(".whl"))
    assert set(modes) == {"setup.sh", "run_autograder", "requirements.txt", "plan.json", "settings.json", wheel}
    assert {name for name, mode in modes.items() if mode & 0o111} == {"setup.sh", "run_autograder"}
    assert read_plans(place / "source" / "plan.json") == {"01_bpr": load_plans(ROOT)["01_bpr"]}
    assert json.loads((place / "source" / "settings.json").read_text(encoding="utf-8")) == {"lesson": "01_bpr", "salt": 7}
    with zipfile.ZipFile(place / "source" / wheel) as package:
        names = set(package.namelist())
    for needed in (
        "grading/exercises/lesson_01.py",
        "classroom/autograder.py",
        "classroom/gradescope.py",
        "grading/child/player.py",
    ):
        assert f"mmrec_teach/{needed}" in names


def test_the_same_course_gives_the_same_bytes(bundle, tmp_path):
    write_bundle("bpr", tmp_path / "again.zip", salt=7, root=ROOT)
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_requirements_are_those_of_grading_and_no_registry_is_named(place):
    lines = (place / "source" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    names = {line.split("==")[0].lower() for line in lines}
    assert {"torch", "numpy", "scipy", "jupytext"} <= names
    assert not names & {"jupyterlab", "pytest"}
    for script in ("setup.sh", "run_autograder"):
        text = (place / "source" / script).read_text(encoding="utf-8")
        assert "://" not in text
        assert "index" not in text


@pytest.mark.parametrize("script", ["setup.sh", "run_autograder"])
def test_scripts_are_well_formed(place, script):
    path = place / "source" / script
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_setup_installs_from_the_bundle_alone(place, tmp_path):
    """With stand-ins for apt-get and Python: which commands it runs, in which order; the real installations cannot be tried here."""
    tools = tmp_path / "tools"
    tools.mkdir()
    said = tmp_path / "said"
    (tools / "apt-get").write_text(f'#!/bin/bash\necho "apt-get $*" >> {said}\n', encoding="utf-8")
    stand_in = f"""#!/bin/bash
if [ "$1" = -c ]; then [[ "$2" == *print* ]] && echo 3.11; exit 0; fi
echo "python $*" >> {said}
if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi
"""
    (tools / "python3").write_text(stand_in, encoding="utf-8")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    env = {"PATH": f"{tools}:/usr/bin:/bin", "AUTOGRADER_ROOT": str(place)}
    done = subprocess.run(["bash", str(place / "source" / "setup.sh")], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wheel = next((place / "source").glob("*.whl")).name
    assert said.read_text(encoding="utf-8").splitlines() == [
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends bubblewrap",
        f"python -m venv {place}/venv",
        "python -m pip install --quiet -r requirements.txt",
        f"python -m pip install --quiet --no-deps ./{wheel}",
    ]


def test_the_command(tmp_path, capsys):
    out = tmp_path / "lesson.zip"
    assert main(["gradescope-bundle", "bpr", "--out", str(out), "--course", str(ROOT)]) == 0
    said = capsys.readouterr().out
    assert "01_bpr, 6 points" in said
    with zipfile.ZipFile(out) as archive:
        salt = json.loads(archive.read("settings.json"))["salt"]
    assert f"Random cases follow from the number {salt}. Keep it" in said
    before = out.read_bytes()
    assert main(["gradescope-bundle", "bpr", "--out", str(out), "--course", str(ROOT)]) == 2
    assert "a file of that name is there. Name another, or replace it with --again." in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["gradescope-bundle", "bpr", "--out", str(out), "--course", str(ROOT), "--again", "--salt", str(salt + 1)]) == 0
    assert out.read_bytes() != before
    assert main(["gradescope-bundle", "bpr", "--out", str(tmp_path / "lesson.ipynb"), "--course", str(ROOT)]) == 2
    assert "ends in .zip" in capsys.readouterr().err
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(InputError, match="a folder stands there"):
        write_bundle("01", tmp_path / "folder.zip", root=ROOT)


# -- grading with it ----------------------------------------------------------------------------------------------------------
def test_a_solved_lesson_gets_all_points_from_the_installed_package(place, tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(site)]
    subprocess.run([*pip, *map(str, (place / "source").glob("*.whl"))], check=True, capture_output=True)
    shutil.copy(ROOT / "solutions" / "01_bpr.ipynb", place / "submission" / "my work.ipynb")
    # What lies in the submission must not be imported by the grader.
    (place / "submission" / "json.py").write_text("raise SystemExit('imported from the submission')\n", encoding="utf-8")
    env = {**os.environ, "AUTOGRADER_ROOT": str(place), "AUTOGRADER_PYTHON": sys.executable, "PYTHONPATH": str(site)}
    run = ["bash", str(place / "source" / "run_autograder")]
    done = subprocess.run(run, cwd=place / "submission", env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Isolation: ")
    found = results(place)
    assert found["score"] == 6
    assert sum(test["score"] for test in found["tests"]) == pytest.approx(6)
    assert "my work.ipynb was graded, and not json.py" in found["output"]


def test_a_python_that_does_not_start_leaves_a_sentence(place):
    (place / "results").mkdir()
    (place / "results" / "results.json").write_text('{"score": 100}', encoding="utf-8")
    env = {"PATH": os.environ["PATH"], "AUTOGRADER_ROOT": str(place), "AUTOGRADER_PYTHON": "/bin/false"}
    run = ["bash", str(place / "source" / "run_autograder")]
    assert subprocess.run(run, env=env, capture_output=True, check=False).returncode == 0
    found = results(place)
    assert found["score"] == 0
    assert "no fault of your submission" in found["output"]


def test_blank_and_broken_submissions_get_nothing_and_a_sentence(place, monkeypatch):
    shutil.copy(ROOT / "lessons" / "01_bpr.ipynb", place / "submission")
    found = judged(place, monkeypatch)
    assert found["score"] == 0
    assert {test["name"] for test in found["tests"]} == {"bpr_score", "sample_negatives", "bpr_loss"}
    assert all("Not written yet" in test["output"] for test in found["tests"])
    (place / "submission" / "01_bpr.ipynb").write_bytes(b'{"cells": [')
    found = judged(place, monkeypatch)
    assert found["score"] == 0
    assert "damaged" in found["tests"][0]["output"]


def test_part_of_the_work_gets_part_of_the_points(place, monkeypatch):
    work = "import torch\n\ndef bpr_loss(pos, neg):\n    return torch.nn.functional.softplus(neg - pos).mean()\n\n1 / 0\n"
    (place / "submission" / "work.py").write_text(work, encoding="utf-8")
    found = judged(place, monkeypatch)
    assert found["score"] == 2
    assert [test["score"] for test in found["tests"] if test["name"].startswith("bpr_score")] == [0]


def test_without_a_file_there_is_a_sentence(place, monkeypatch, tmp_path):
    (tmp_path / "outside.ipynb").write_bytes((ROOT / "solutions" / "01_bpr.ipynb").read_bytes())
    (place / "submission" / "01_bpr.ipynb").symlink_to(tmp_path / "outside.ipynb")
    (place / "submission" / "essay.pdf").write_bytes(b"%PDF")
    found = judged(place, monkeypatch)
    assert found["score"] == 0
    assert "hand in 01_bpr.ipynb" in found["output"]


@pytest.mark.parametrize("broken", ["settings.json", "plan.json"])
def test_a_broken_autograder_says_that_it_is_not_the_students_fault(place, monkeypatch, capsys, broken):
    (place / "source" / broken).write_bytes(b"{")
    found = judged(place, monkeypatch)
    assert found["score"] == 0
    assert "no fault of your submission" in found["output"]
    assert "Traceback" in capsys.readouterr().err, "the teacher sees why"


def test_results_are_there_before_grading_begins(place, monkeypatch):
    def killed(root):
        assert "did not finish" in results(root)["output"]
        raise KeyboardInterrupt

    monkeypatch.setattr(autograder, "grade_submitted", killed)
    with pytest.raises(KeyboardInterrupt):
        judged(place, monkeypatch)
    assert results(place)["score"] == 0


def test_the_file_that_holds_the_work_is_chosen(place):
    plan = load_plans(ROOT)["01_bpr"]
    folder = place / "submission"
    (folder / "deep").mkdir()
    assert autograder.find_submission(folder, plan) is None
    (folder / "notes.py").write_text("print('hello')\n", encoding="utf-8")
    assert autograder.find_submission(folder, plan).name == "notes.py"
    (folder / "01_bpr.py").write_text("def bpr_loss(pos, neg):\n    return 0\n", encoding="utf-8")
    assert autograder.find_submission(folder, plan).name == "01_bpr.py"
    shutil.copy(ROOT / "solutions" / "01_bpr.ipynb", folder / "deep" / "final.ipynb")
    chosen = autograder.find_submission(folder, plan)
    assert chosen.name == "final.ipynb", "most of the functions"
    assert "not 01_bpr.py, notes.py" in chosen.notes[-1]
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        (folder / hidden).mkdir()
        shutil.copy(ROOT / "solutions" / "01_bpr.ipynb", folder / hidden / "01_bpr.ipynb")
    assert autograder.find_submission(folder, plan).name == "final.ipynb"
