"""A file that a student handed in: read whatever its state, and judged exercise by exercise in a sandbox.

Nothing a submission holds stops the class: what cannot be read or run becomes a sentence in its verdict.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import re
import time
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmrec_teach.grading.child.telling import LearnerError
from mmrec_teach.grading.engine import grade, seed_of
from mmrec_teach.grading.exercise import Exercise, load_exercises
from mmrec_teach.grading.sandbox import CrashedError, Sandbox
from mmrec_teach.grading.verdict import Verdict

SUFFIXES = (".ipynb", ".py")
MAX_FILE = 200 * 2**20
MAX_CODE = 5 * 2**20
MAX_PARTS = 3_000_000
_ODD_ENCODINGS = (
    "idna",
    "punycode",
    "undefined",
    "unicode_escape",
    "raw_unicode_escape",
    "utf_7",
)  # none that an editor writes
_PERCENT = re.compile(r"^# %%(?P<rest>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Submission:
    """What was handed in.

    Attributes:
        name: the file's name.
        cells: the texts of its code cells, in the order of the file.
        problem: why it cannot be read; "" when it can.
        notes: sentences on what was set right while reading.
        digest: of what was read; the same work, whatever its outputs, has the same.
    """

    name: str
    cells: tuple[str, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def digest(self) -> str:
        """A fingerprint of what was read."""
        text = json.dumps([self.problem, *self.cells], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Graded:
    """The verdicts on one submission.

    Attributes:
        submission: what was handed in.
        verdicts: one for each exercise asked for, by name and in that order.
        wall: behind which it was run (see `mmrec_teach.grading.sandbox`).
        seconds: what it took by the clock.
        notes: sentences on the submission as a whole.
    """

    submission: Submission
    verdicts: dict[str, Verdict]
    wall: str
    seconds: float
    notes: tuple[str, ...] = ()


def read_submission(path: str | Path, content: bytes | None = None, *, within: str | Path | None = None) -> Submission:
    """Read a notebook or a Python file (plain, or with ``# %%`` cells).

    Args:
        path: of the file.
        content: its bytes, when they are at hand already.
        within: folder that the file must lie in when links are followed; by default its own. A link to the solution, or to
            somebody else's work, is nobody's submission.
    """
    path = Path(path)
    name = path.name
    try:
        if content is None:
            folder = Path(path.parent if within is None else within).resolve()
            if not path.resolve().is_relative_to(folder):
                return Submission(name, problem="the file is a link that leads out of the folder; the file itself is needed.")
            if path.is_dir():
                return Submission(name, problem="this is a folder, not a file.")
            if path.exists() and not path.is_file():
                return Submission(name, problem="this is not an ordinary file.")
            if path.stat().st_size > MAX_FILE:
                return Submission(name, problem=f"the file is larger than {MAX_FILE // 2**20} MB.")
            content = path.read_bytes()
    except (OSError, RuntimeError) as error:  # a RuntimeError: links that lead in a circle
        return Submission(name, problem=f"the file cannot be read ({getattr(error, 'strerror', None) or 'a link to itself'}).")
    if len(content) > MAX_FILE:
        return Submission(name, problem=f"the file is larger than {MAX_FILE // 2**20} MB.")
    if not content.strip():
        return Submission(name, problem="the file is empty.")
    notebook = path.suffix.lower() == ".ipynb" or (path.suffix.lower() != ".py" and content.lstrip()[:1] == b"{")
    text, notes = _decoded(content)
    cells: list[str] = []
    if notebook:
        try:
            cells = _notebook_cells(text)
        except _UnreadableError as error:
            return Submission(name, problem=str(error), notes=notes)
    else:
        cells = _percent_cells(text)
    if sum(map(len, cells)) > MAX_CODE:
        return Submission(name, problem=f"there are more than {MAX_CODE // 2**20} MB of code in it.", notes=notes)
    return Submission(name, tuple(cells), notes=notes)


def lesson_of(submission: Submission, exercises: Iterable[Exercise] | None = None) -> str:
    """The lesson most of whose functions a submission defines; "" when it defines none."""
    text = "\n".join(submission.cells)
    defined = set(re.findall(r"^def\s+(\w+)", text, re.MULTILINE))
    counts: dict[str, int] = {}
    for exercise in load_exercises().values() if exercises is None else exercises:
        counts[exercise.lesson] = counts.get(exercise.lesson, 0) + (exercise.name in defined)
    best = max(counts, key=lambda lesson: counts[lesson], default="")
    return best if counts.get(best) else ""


def grade_submission(
    submission: Submission,
    exercises: list[Exercise],
    sandbox: Sandbox,
    *,
    salt: int = 0,
    tell: Callable[[str], None] = lambda name: None,
) -> Graded:
    """Judge every exercise of a submission, each in a process of its own.

    Args:
        submission: from `read_submission`.
        exercises: what to judge.
        sandbox: where the code runs.
        salt: the teacher's own number that goes into the random cases (see `seed_of`).
        tell: called with the name of each exercise before it is judged.
    """
    start = time.monotonic()
    notes = list(submission.notes)
    verdicts: dict[str, Verdict] = {}
    for exercise in exercises:
        tell(exercise.name)
        verdicts[exercise.name] = _verdict(submission, exercise, sandbox, salt)
    if not submission.problem and exercises and all(verdict.status == "missing" for verdict in verdicts.values()):
        wanted = {exercise.lesson for exercise in exercises}
        other = lesson_of(submission)
        if other and other not in wanted:
            notes.append(f"This looks like lesson {other}, not lesson {' or '.join(sorted(wanted))}.")
    return Graded(submission, verdicts, sandbox.wall, time.monotonic() - start, tuple(notes))


def _verdict(submission: Submission, exercise: Exercise, sandbox: Sandbox, salt: int) -> Verdict:
    if submission.problem:
        return Verdict(exercise.name, "missing", advice=_sentence(submission.problem))
    try:
        session = sandbox.open(list(submission.cells), exercise.name)
    except CrashedError as error:
        return Verdict(exercise.name, "error", advice=f"The sandbox could not be started ({error}); grade this one again.")
    try:
        if session.problem:
            return Verdict(exercise.name, "missing", advice=_sentence(session.problem), notes=tuple(session.notes))
        seed = seed_of(exercise.name, session.source, salt)
        try:
            verdict = grade(exercise, session.function, seed=seed)
        except (LearnerError, CrashedError) as error:
            return Verdict(exercise.name, "error", advice=_sentence(str(error)), notes=tuple(session.notes))
        except Exception as error:  # the class goes on, whatever an answer has done to the judge
            advice = f"The grader stumbled over an answer ({type(error).__name__}); a person should look at this one."
            return Verdict(exercise.name, "error", advice=advice, notes=tuple(session.notes))
        return Verdict(exercise.name, verdict.status, verdict.cases, verdict.advice, tuple(session.notes))
    finally:
        session.close()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


class _UnreadableError(Exception):
    pass


def _decoded(content: bytes) -> tuple[str, tuple[str, ...]]:
    """The text of a file in UTF-8, or whatever else it says or seems to be in."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace"), ()
    for place, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(content) > 3 and not any(content[place:200:2]) and all(content[1 - place : 4 : 2]):
            return content.decode(encoding, errors="replace"), ("The file is in UTF-16, not in UTF-8.",)
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError:
        pass
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        if encoding not in ("utf-8", "utf-8-sig") and codecs.lookup(encoding).name.replace("-", "_") not in _ODD_ENCODINGS:
            return content.decode(encoding), (f"The file is in {encoding}, not in UTF-8.",)
    except (SyntaxError, ValueError, LookupError):
        pass
    return content.decode("latin-1"), ("The file is not in UTF-8; it was read as Latin-1.",)


def _notebook_cells(text: str) -> list[str]:
    if sum(map(text.count, "[{,")) > MAX_PARTS:  # each may become an object of many bytes
        raise _UnreadableError(f"the notebook has more than {MAX_PARTS // 10**6} million parts; clear its outputs.")
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise _UnreadableError(f"the notebook is damaged: it is not JSON ({reason}).") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if cells is None and isinstance(notebook, dict):  # the form of before 2015
        sheets = notebook.get("worksheets")
        if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict):
            cells = sheets[0].get("cells")
    if not isinstance(cells, list):
        raise _UnreadableError("the file is not a notebook: it has no list of cells.")
    out = []
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        if isinstance(source, list):
            source = "".join(part for part in source if isinstance(part, str))
        # JSON may hold half of a surrogate pair, which no file and no parser takes
        out.append(source.encode("utf-8", "replace").decode() if isinstance(source, str) else "")
    return out


def _percent_cells(text: str) -> list[str]:
    """The code between ``# %%`` lines; a file without any is one cell."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    marks = list(_PERCENT.finditer(text))
    if not marks:
        return [text]
    pieces = [text[: marks[0].start()]]
    for mark, following in zip(marks, [*marks[1:], None]):
        if "[markdown]" in mark["rest"] or "[md]" in mark["rest"] or "[raw]" in mark["rest"]:
            continue
        pieces.append(text[mark.end() : following.start() if following else None].lstrip("\n"))
    return [piece for piece in pieces if piece.strip()]
