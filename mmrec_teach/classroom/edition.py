"""Editions of the package as wheels: the whole one for an autograder, and one for students that holds examples and no more.

A wheel is a zip of the package's files with a little metadata (PyPA, "Binary distribution format"). It is written here by hand, so
that no build tool is needed and the same files give the same bytes.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrec_teach
from mmrec_teach.errors import InputError

if TYPE_CHECKING:
    from mmrec_teach.grading.exercise import Exercise

HOME = Path(mmrec_teach.__file__).resolve().parent
STUDENT = "student"
EXERCISES = "grading/exercises"
FILE_TYPES = (".py", ".json", ".toml", ".js", ".css")
# What hands out, grades, and makes lessons: a student has no use for it. Whatever imports these stays out, too.
TEACHERS = (
    "classroom/assign.py",
    "classroom/autograder.py",
    "classroom/bundle.py",
    "classroom/edition.py",
    "classroom/grade.py",
    "classroom/gradescope.py",
    "classroom/intake.py",
    "classroom/pages.py",
    "classroom/parts.py",
    "classroom/progress.py",
    "classroom/report.py",
    "course/build.py",
    "course/furnish.py",
    "course/lint.py",
    "course/pairing.py",
    "course/progress.py",
    "course/workspace.py",
)


@dataclass(frozen=True)
class Wheel:
    """A wheel in memory.

    Attributes:
        name: of the file.
        content: its bytes.
    """

    name: str
    content: bytes


def whole_edition() -> Wheel:
    """The package as it is."""
    project = read_project()
    scripts = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    return _wheel(package_files(), project, str(project["version"]), scripts)


def student_edition(exercises: Iterable[Exercise]) -> Wheel:
    """The package without a teacher's tools and without exercises, but with the examples of those given.

    Raises:
        OptionError: an exercise has no example that could be handed out.
    """
    from mmrec_teach.grading.examples import SUFFIX, export_examples

    project = read_project()
    files = _without_teachers(package_files())
    files[f"{EXERCISES}/__init__.py"] = b'"""The examples of the exercises; hidden cases stay with the teacher."""\n'
    for exercise in exercises:
        files[f"{EXERCISES}/{exercise.name}{SUFFIX}"] = export_examples(exercise)
    points = {
        group: {name: target for name, target in entries.items() if _module_file(target) & files.keys()}
        for group, entries in {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}.items()
    }
    return _wheel(files, project, f"{project['version']}+{STUDENT}", points)


def package_files() -> dict[str, bytes]:
    """Every file of the package that belongs into a wheel: path inside the package → content."""
    files = {}
    for path in sorted(HOME.rglob("*")):
        if path.suffix in FILE_TYPES and path.is_file() and "__pycache__" not in path.parts:
            files[path.relative_to(HOME).as_posix()] = path.read_bytes()
    return files


def read_project() -> dict[str, Any]:
    """The ``[project]`` table beside the package.

    Raises:
        InputError: the package was installed without its repository.
    """
    path = HOME.parent / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            "the package's own repository is not here",
            where=str(path),
            fix="Run this from a checkout of the course, installed with `pip install -e .`",
        ) from error
    return project


def locked_requirements(root: Path, extras: Iterable[str] = ()) -> list[str]:
    """The ``name==version`` lines of ``requirements.lock`` that the package needs, with what those need in turn.

    Args:
        root: the course's folder.
        extras: of the package, such as ``lab``.
    Raises:
        InputError: there is no lock file.
    """
    import importlib.metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    path = root / "requirements.lock"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError("no list of versions", where=str(path), expected="requirements.lock of the course") from error
    locked = {canonicalize_name(line.split("==")[0]): line.strip() for line in lines if "==" in line}
    project = read_project()
    optional = project.get("optional-dependencies", {})
    todo = [(text, "") for text in [*project["dependencies"], *(text for extra in extras for text in optional[extra])]]
    wanted: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while todo:
        text, extra = todo.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in locked or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        wanted.add(name)
        for chosen in ("", *requirement.extras):
            if (name, chosen) in seen:
                continue
            seen.add((name, chosen))
            try:
                todo += [(found, chosen) for found in importlib.metadata.requires(name) or ()]
            except importlib.metadata.PackageNotFoundError:
                continue  # not installed here: its own line stands, what it needs pip will find
    return [locked[name] for name in sorted(wanted)]


def zipped(files: Mapping[str, bytes], executable: Iterable[str] = ()) -> bytes:
    """A zip of these files, in order of their names, without times and not compressed: the same on every machine.

    Args:
        files: name → content.
        executable: names of those that are run.
    """
    run = set(executable)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3  # Unix: the next line is a file's mode
            entry.external_attr = (0o100755 if name in run else 0o100644) << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _without_teachers(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files that neither are a teacher's nor import one; the modules of exercises least of all."""
    kept = {name: content for name, content in files.items() if name not in TEACHERS and not name.startswith(f"{EXERCISES}/")}
    imports = {name: _imported(content) for name, content in kept.items() if name.endswith(".py")}
    while True:
        gone = {_module_name(name) for name in files.keys() - kept.keys() if not name.startswith(f"{EXERCISES}/")}
        more = [name for name in kept if imports.get(name, set()) & gone]
        if not more:
            return kept
        for name in more:
            del kept[name]


def _imported(content: bytes) -> set[str]:
    """The modules a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _module_name(path: str) -> str:
    return ".".join([HOME.name, *path.removesuffix(".py").removesuffix("/__init__").split("/")])


def _module_file(target: str) -> set[str]:
    """The files that an entry point such as ``mmrec_teach.cli:main`` may stand for, relative to the package."""
    inside = target.split(":")[0].partition(".")[2].replace(".", "/")
    return {f"{inside}.py", f"{inside}/__init__.py"}


def _wheel(files: Mapping[str, bytes], project: Mapping[str, Any], version: str, points: Mapping[str, Mapping]) -> Wheel:
    name = str(project["name"])
    info = f"{name}-{version}.dist-info"
    whole = {f"{name}/{path}": content for path, content in files.items()}
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        f"Summary: {project['description']}",
        f"License: {project['license']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {text}" for text in project["dependencies"]),
    ]
    for extra, texts in project.get("optional-dependencies", {}).items():
        metadata += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {text}; extra == "{extra}"' for text in texts)]
    whole[f"{info}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    whole[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: mmrec_teach\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    sections = [
        "\n".join([f"[{group}]", *(f"{key} = {target}" for key, target in sorted(entries.items()))])
        for group, entries in sorted(points.items())
        if entries
    ]
    whole[f"{info}/entry_points.txt"] = ("\n\n".join(sections) + "\n").encode()
    licence = HOME.parent / "LICENSE"
    if licence.is_file():
        whole[f"{info}/licenses/LICENSE"] = licence.read_bytes()
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in sorted(whole.items())]
    whole[f"{info}/RECORD"] = ("\n".join([*record, f"{info}/RECORD,,"]) + "\n").encode()
    return Wheel(f"{name}-{version}-py3-none-any.whl", zipped(whole))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
