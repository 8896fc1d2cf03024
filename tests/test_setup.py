"""The set-up: make, lock, environment, style, and nothing of anyone's machine in the repository."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mmrec_teach.notebook
from mmrec_teach.cli.doctor import read_lock
from mmrec_teach.course.build import differences
from mmrec_teach.course.lint import lint
from tests.conftest import LONG, unit_of

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = {canonicalize_name(name): version for name, version in read_lock(ROOT / "requirements.lock").items()}


def tracked_files() -> list[Path]:
    """The repository's text files; every file outside ignored folders where there is no git."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file() and path.suffix not in (".npz", ".png", ".npy", ".gif", ".ico")]


# --- style and generated files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_lessons_are_up_to_date():
    assert differences(ROOT) == []


def test_the_linter_has_no_complaint_about_the_lessons():
    assert lint(ROOT) == []


def test_every_name_of_the_facade_is_there():
    for name in mmrec_teach.notebook.__all__:
        assert getattr(mmrec_teach.notebook, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mmrec_teach.notebook.nothing


# --- lock, environment, pyproject ----------------------------------------------------------------------------------


def test_the_lock_is_plain():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line), line
    assert len(LOCK) == len(lines), "a package stands there twice"


def project_requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    lines = [
        *PROJECT["dependencies"],
        *extras["lab"],
        *extras["app"],
        *extras["cluster"],
        *extras["retrieval"],
        *extras["test"],
    ]
    return [
        Requirement(line) for line in lines if canonicalize_name(Requirement(line).name) != canonicalize_name(PROJECT["name"])
    ]


@pytest.mark.parametrize("requirement", project_requirements(), ids=str)
def test_the_lock_satisfies_the_project(requirement):
    version = LOCK[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(Version(version), prereleases=True)


def test_the_lock_satisfies_itself():
    """What a locked package needs is locked too, in a version that it takes. Judged by what is installed here."""
    wrong = []
    for name, version in LOCK.items():
        try:
            needs = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue  # a package for another platform or Python
        for line in needs:
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({"extra": ""}):
                continue
            # torch built for CUDA names its own libraries, which a machine without one does not need
            other = canonicalize_name(need.name)
            if other.startswith(("nvidia-", "cuda-", "triton")):
                continue
            if other not in LOCK:
                wrong.append(f"{name} {version} needs {need}, which is not locked")
            elif not need.specifier.contains(Version(LOCK[other]), prereleases=True):
                wrong.append(f"{name} {version} needs {need}; locked is {LOCK[other]}")
    assert wrong == []


def test_torch_is_the_same_everywhere():
    assert f"torch=={LOCK['torch']}" in PROJECT["dependencies"]


def test_conda_installs_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, inner = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert inner == {"pip": ["-r requirements.lock", "-e ."]}
    assert environment["channels"] == ["conda-forge"]


def test_no_address_of_a_registry_is_in_the_repository():
    words = [
        "index" + "-url",
        "find" + "-links",
        "trusted" + "-host",
        "pypi" + ".org",
        "python" + "hosted",
        "download." + "pytorch",
    ]
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked_files()
        for word in words
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_a_learners_work_is_ignored_by_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/my_lessons/", ".venv/", "/runs/"} <= set(ignored)


# --- make ----------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def sandbox(tmp_path):
    """The Makefile beside small stand-ins for pip and the package's commands, which write down how they were called."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    log = tmp_path / "log"
    stand_in = (
        f'#!/bin/sh\necho "$(basename "$0") $*" >> {log}\nif [ "$1 $2" = "data verify" ]; then exit "${{VERIFY:-0}}"; fi\n'
    )
    for name in ("python", "mmrec-teach", "ruff"):
        path = tmp_path / ".venv" / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stand_in, encoding="utf-8")
        path.chmod(0o755)

    def make(*words, **environment):
        log.write_text("", encoding="utf-8")
        settings = {**os.environ, **environment}
        # what an outer `make test ARGS=…` hands down must not reach this one
        ours = {"ARGS", "PYTHON", "WORKERS"} - environment.keys()
        for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", *ours):
            settings.pop(name, None)
        done = subprocess.run(["make", *words], cwd=tmp_path, capture_output=True, text=True, env=settings)
        return done, log.read_text(encoding="utf-8").splitlines()

    make.directory = tmp_path
    return make


def test_make_alone_lists_what_there_is(sandbox):
    done, calls = sandbox()
    assert done.returncode == 0
    assert calls == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())
    for target in targets - {"help"}:
        assert f"make {target} " in done.stdout


def test_make_installs_once_and_again_only_when_something_changed(sandbox):
    done, first = sandbox("setup", f"PYTHON={sys.executable}")
    started, *_, ended = done.stdout.splitlines()
    assert "this takes some minutes" in started
    assert ended.startswith("Ready. Next: make lab")
    assert all("--quiet" in call for call in first if "pip" in call)
    assert next(call.split(" -r ")[-1] for call in first if "pip" in call) == "requirements.lock"
    assert any("--no-deps --no-build-isolation -e ." in call for call in first)
    done, second = sandbox("setup")
    assert second == []
    assert [line.split(".")[0] for line in done.stdout.splitlines()] == ["Ready"]
    # The stamp's time is set back rather than the file's renewed: within one tick of the clock make sees no difference.
    stamp = sandbox.directory / ".venv" / ".installed"
    os.utime(stamp, (0, 0))
    _, touched = sandbox("setup", f"PYTHON={sys.executable}")
    assert touched == []
    assert stamp.stat().st_mtime > 0, "a checkout is looked into once"
    with open(sandbox.directory / "requirements.lock", "a", encoding="utf-8") as lock:
        lock.write("another==1.0\n")
    os.utime(stamp, (0, 0))
    _, changed = sandbox("setup", f"PYTHON={sys.executable}")
    assert len(changed) == 2


def test_make_test_and_lab_use_the_same_set_up(sandbox):
    _, calls = sandbox("test", "ARGS=-k grading", f"PYTHON={sys.executable}")
    assert calls[-1] == "python -m pytest -n 2 --dist loadfile -k grading"
    assert len(calls) == 3
    _, calls = sandbox("lab", "ARGS=01 --no-browser")
    assert calls == ["mmrec-teach data verify", "mmrec-teach lab 01 --no-browser"]
    _, calls = sandbox("lab", VERIFY="2")
    assert calls == ["mmrec-teach data verify", "mmrec-teach data regenerate", "mmrec-teach lab"]


def test_files_begun_first_exist_and_lessons_are_shared_out():
    units = {unit_of(f"tests/{path.name}::test") for path in (ROOT / "tests").glob("test_*.py")}
    assert set(LONG) <= units
    assert unit_of("tests/test_lessons.py::test_a[01]") != unit_of("tests/test_lessons.py::test_a[02]")
    assert unit_of("tests/test_claims_03.py::test_a") == unit_of("tests/test_claims_05.py::test_b[0]")
    assert unit_of("tests/test_ops.py::test_a") == unit_of("tests/test_ops.py::Class::test_b") == "ops"


def test_an_old_python_is_refused_in_a_sentence(sandbox):
    shutil.rmtree(sandbox.directory / ".venv")
    done, calls = sandbox("setup", "PYTHON=false")
    assert done.returncode != 0
    assert "mmrec_teach needs Python 3.11 or newer" in done.stdout
    assert calls == []
    assert not (sandbox.directory / ".venv").exists()


def test_a_failed_install_is_tried_again(sandbox):
    (sandbox.directory / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    done, _ = sandbox("setup", f"PYTHON={sys.executable}")
    assert done.returncode != 0
    assert "Ready" not in done.stdout
    assert not (sandbox.directory / ".venv" / ".installed").exists()


def test_the_ci_script_installs_only_what_is_not_there(tmp_path):
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    shutil.copy(ROOT / ".ci" / "run", script)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "log"
    for name in ("apt-get", "make"):
        (tools / name).write_text(
            f'#!/bin/sh\necho "{name} $* $MMREC_TEACH_REQUIRE_BROWSER" >> {log}\npwd >> {log}\n', encoding="utf-8"
        )
        (tools / name).chmod(0o755)
    for name in ("dirname", "bash", "env", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    environment = {"PATH": str(tools), "CI": "true", "HOME": str(tmp_path)}
    subprocess.run([shutil.which("bash"), str(script)], check=True, env=environment, stdin=subprocess.DEVNULL)
    calls = [line for line in log.read_text(encoding="utf-8").splitlines() if not line.startswith("/")]
    assert [call.split()[0] for call in calls] == ["apt-get", "apt-get", "make"]
    assert calls[-1] == "make test ARGS=--durations=25 1"
    log.write_text("", encoding="utf-8")
    assert any("chromium bubblewrap" in call for call in calls)
    for name in ("chromium", "bwrap"):
        (tools / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    subprocess.run([shutil.which("bash"), str(script)], check=True, env=environment, stdin=subprocess.DEVNULL)
    assert log.read_text(encoding="utf-8").splitlines() == ["make test ARGS=--durations=25 1", str(tmp_path)]
