"""Reports on a class, made from the results that grading stored: nothing is graded here, and all can be made again.

Read from ``OUT/results/<lesson>/<student>.json`` (see `mmrec_teach.classroom.result`) and ``OUT/left_out.json`` (students who handed
in nothing to grade), written to ``OUT``:

- ``class.csv``: one row a student and lesson, for a spreadsheet. Students without a score are in it too, with the reason as a note.
- ``feedback/<lesson>/<student>.html``: a page for each student.
- ``summary.html`` and ``summary.json``: how the class did, and what it misunderstood; for the teacher.
- ``nbgrader_scores.csv``: the columns of ``nbgrader export``.
"""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmrec_teach.classroom.gradescope import gradescope_results
from mmrec_teach.classroom.pages import Pointer, feedback_page, summary_page
from mmrec_teach.classroom.parts import INCIDENTS, notes_of, reasons_of, standing, unreadable, untried
from mmrec_teach.classroom.result import ANEW, ExerciseResult, StudentResult, read_result
from mmrec_teach.course.master import course_root, exercises_of, read_percent
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.files import write_bytes, write_json, write_text
from mmrec_teach.grading.verdict import GROUPS, STATUS_WORDS

KINDS = ("csv", "html", "summary", "nbgrader")
NBGRADER_COLUMNS = (
    "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
    "raw_score", "late_submission_penalty", "score", "max_score",
)  # fmt: skip
LEFT_OUT = "left_out.json"
_MISCONCEPTION = re.compile(
    r"^(?:Your answers are those of|The usual mistake that fails just here): (?P<name>.+)\.$", re.DOTALL
)
_FORMULA = tuple("=+-@＝＋－＠")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Stored:
    """A result and where it lies.

    Attributes:
        name: of the file, without ``.json``; the student's page is called the same.
        result: what was read.
    """

    name: str
    result: StudentResult

    @property
    def page(self) -> Path:
        """The student's page, seen from the class's folder."""
        return Path("feedback", self.result.lesson, f"{self.name}.html")


@dataclass(frozen=True)
class Unscored:
    """Somebody without a score, and why.

    Attributes:
        student: whose it is; "" where that is not known.
        lesson: the lesson's stem; "" where that is not known.
        file: what the sentence is about.
        sentence: the reason.
    """

    student: str
    lesson: str
    file: str
    sentence: str

    @property
    def name(self) -> str:
        """The student, or else the file."""
        return self.student or self.file


def read_results(out: Path) -> tuple[list[Stored], list[Unscored]]:
    """Every result of a class, by lesson and student, and one `Unscored` for each file that is damaged.

    Args:
        out: the folder that ``mmrec-teach grade`` wrote.
    Raises:
        InputError: there is no result in it at all.
    """
    out = Path(out)
    folder = out / "results"
    files = sorted(folder.glob("*/*.json")) if folder.is_dir() else []
    found, damaged = [], []
    for path in files:
        if path.name.startswith("."):
            continue
        lesson = path.parent.name
        try:
            result = read_result(path)
            if result.lesson != lesson:
                raise InputError(f"damaged: {ANEW}", where=str(path), found=f"lesson {result.lesson!r}")
            found.append(Stored(path.stem, result))
        except InputError as error:
            file = path.relative_to(out).as_posix()
            damaged.append(Unscored(_student_of(path), lesson, file, str(error).replace(str(path), file, 1)))
    if not found:
        count = "1 damaged file" if len(damaged) == 1 else f"{len(damaged)} damaged files, the first"
        raise InputError(
            "there are no results to report",
            where=str(folder),
            found=f"{count}: {damaged[0].sentence.rstrip('.')}" if damaged else "none",
            expected="results/<lesson>/<student>.json",
            fix="Grade a class first: mmrec-teach grade FOLDER --out OUT",
        )
    found.sort(key=lambda one: (one.result.lesson, one.result.student.casefold(), one.result.student, one.name))
    return found, sorted(damaged, key=lambda one: (one.lesson, one.student.casefold(), one.file))


def read_left_out(out: Path) -> list[Unscored]:
    """Students who handed in nothing to grade, as grading noted them in ``OUT/left_out.json``; none where there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = Path(out) / LEFT_OUT
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        found = [Unscored(one["student"], "", one["file"], one["sentence"]) for one in entries]
        sound = all(isinstance(text, str) for one in found for text in (one.student, one.file, one.sentence))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise InputError("damaged: run `mmrec-teach grade` again, it is written anew", where=str(path))
    return sorted(found, key=lambda one: (one.name.casefold(), one.name, one.file, one.sentence))


def _student_of(path: Path) -> str:
    """Whose a damaged result is: what it says as far as it goes, or else what its file is called."""
    try:
        text = path.read_bytes()[:10_000].decode("utf-8", "replace")
        said = re.search(r'"student":\s*("(?:[^"\\]|\\.)*")', text)
        student = json.loads(said[1]) if said else ""
    except (OSError, ValueError):
        student = ""
    return student or path.stem


def write_reports(
    out: Path,
    *,
    kinds: Collection[str] = KINDS,
    course: Path | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> list[Path]:
    """Write the reports of a class, each file whole or not at all.

    Args:
        out: the class's folder, with ``results/`` in it.
        kinds: which reports, of `KINDS`.
        course: a course's folder, to name the section of a lesson to read again; looked for by default, and done without where
            there is none.
        tell: called with a sentence for each stored result that cannot be used; it is left out.
    Returns:
        The files written.
    Raises:
        InputError: no result there.
        OptionError: an unknown kind.
    """
    out = Path(out)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise OptionError("unknown kind of report", found=unknown[0], expected=", ".join(KINDS))
    stored, damaged = read_results(out)
    for one in damaged:
        tell(one.sentence)
    try:
        left_out = read_left_out(out)
    except InputError as error:
        left_out = []
        tell(str(error))
    results = [one.result for one in stored]
    written = []
    if "csv" in kinds:
        write_bytes(
            out / "class.csv", class_csv(results, [*damaged, *left_out]).encode("utf-8-sig")
        )  # the mark tells Excel that this is UTF-8
        written.append(out / "class.csv")
    if "nbgrader" in kinds:
        write_bytes(out / "nbgrader_scores.csv", nbgrader_csv(results).encode("utf-8"))
        written.append(out / "nbgrader_scores.csv")
    pointers = find_pointers(course) if {"html", "summary"} & set(kinds) else {}
    if "html" in kinds:
        for one in stored:
            write_text(out / one.page, feedback_page(one.result, pointers))
            written.append(out / one.page)
    if "summary" in kinds:
        summary = summarise(stored, damaged, left_out, pointers)
        write_json(out / "summary.json", summary)
        write_text(out / "summary.html", summary_page(summary))
        written += [out / "summary.json", out / "summary.html"]
    return written


def write_gradescope(
    out: Path, target: Path, *, hidden: str = "after_published", tell: Callable[[str], None] = lambda sentence: None
) -> list[Path]:
    """Write ``target/<lesson>/<student>/results.json`` for every stored result.

    Args:
        out: the class's folder.
        target: where to.
        hidden: when students see the tests of hidden cases (see `gradescope_results`).
        tell: called with a sentence for each stored result that cannot be used.
    Returns:
        The files written.
    Raises:
        InputError: no result there.
        OptionError: an unknown ``hidden``.
    """
    stored, damaged = read_results(Path(out))
    for one in damaged:
        tell(one.sentence)
    written = []
    for one in stored:
        path = Path(target) / one.result.lesson / one.name / "results.json"
        write_json(path, gradescope_results(one.result, hidden=hidden))
        written.append(path)
    return written


def class_csv(results: Iterable[StudentResult], unscored: Iterable[Unscored] = ()) -> str:
    """One row a student and lesson: the score, then a column for each exercise, notes, and the wall the code ran behind.

    The notes say why an exercise earned nothing.

    Args:
        results: one each.
        unscored: those without a score; their sentence is the note.
    """
    results = list(results)
    columns: dict[str, None] = {}
    for result in results:
        columns.update(dict.fromkeys(_column(exercise) for exercise in result.exercises))
    rows: list[list[Any]] = [["student", "lesson", "score", "points", "percent", *columns, "notes", "wall"]]
    for result in results:
        scores = {_column(exercise): _number(exercise.score) for exercise in result.exercises}
        notes = [*reasons_of(result), *notes_of(result)]
        rows.append(
            [
                safe_cell(result.student), safe_cell(result.lesson), _number(result.score), _number(result.points),
                _number(round(100 * result.score / result.points, 1)) if result.points else "",
                *(scores.get(column, "") for column in columns), safe_cell(" ".join(filter(None, notes))), safe_cell(result.wall),
            ]
        )  # fmt: skip
    for one in unscored:
        empty = [""] * (3 + len(columns))
        rows.append([safe_cell(one.name), safe_cell(one.lesson), *empty, safe_cell(one.sentence), ""])
    return _csv(rows)


def nbgrader_csv(results: Iterable[StudentResult]) -> str:
    """The columns of ``nbgrader export``. What is not known here (dates, names, addresses) stays empty."""
    rows: list[list[Any]] = [list(NBGRADER_COLUMNS)]
    for result in results:
        score = _number(result.score)
        assignment, student = safe_cell(result.lesson), safe_cell(result.student)
        rows.append([assignment, "", "", student, "", "", "", score, 0, score, _number(result.points)])
    return _csv(rows)


def safe_cell(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula: it then starts with an apostrophe; on one line, without NULs."""
    text = " ".join(_UNSEEN.sub("", text).encode("utf-8", "replace").decode("utf-8").split())
    return f"'{text}" if text.startswith(_FORMULA) else text


def summarise(
    stored: list[Stored],
    damaged: Iterable[Unscored] = (),
    left_out: Iterable[Unscored] = (),
    pointers: dict[tuple[str, str], Pointer] | None = None,
) -> dict[str, Any]:
    """How a class did, as plain values: what ``summary.json`` holds and ``summary.html`` shows.

    Args:
        stored: the results.
        damaged: results that cannot be read.
        left_out: students who handed in nothing to grade.
        pointers: see `find_pointers`.
    """
    lessons = []
    for lesson in dict.fromkeys(one.result.lesson for one in stored):
        lessons.append(_lesson(lesson, [one for one in stored if one.result.lesson == lesson], pointers or {}))
    return {
        "format": 1,
        "lessons": lessons,
        "damaged": [{**asdict(one), "student": one.name} for one in damaged],
        "nothing_to_grade": [{"student": one.name, "file": one.file, "sentence": one.sentence} for one in left_out],
    }


def _lesson(lesson: str, stored: list[Stored], pointers: dict[tuple[str, str], Pointer]) -> dict[str, Any]:
    results = [one.result for one in stored]
    scores = [result.score for result in results]
    percents = [100 * result.score / result.points if result.points else 0.0 for result in results]
    incidents, notes = [], []
    for one in stored:
        said, student = notes_of(one.result), one.result.student
        if reason := unreadable(one.result):
            incidents.append({"student": student, "exercise": "", "kind": "missing", "words": reason})
        for exercise in one.result.exercises:
            kinds = Counter(case.kind for case in exercise.verdict.cases if case.kind in INCIDENTS)
            incidents += [
                {"student": student, "exercise": exercise.name, "kind": kind, "words": INCIDENTS[kind], "cases": count}
                for kind, count in sorted(kinds.items())
            ]
            if not reason and not exercise.verdict.cases and exercise.verdict.status in ("missing", "error"):
                words = exercise.verdict.advice or STATUS_WORDS[exercise.verdict.status]
                kind = exercise.verdict.status
                incidents.append({"student": student, "exercise": exercise.name, "kind": kind, "words": words})
        if said:
            notes.append({"student": student, "notes": said})
    names = {exercise.name: None for result in results for exercise in result.exercises}
    return {
        "lesson": lesson,
        "title": next((found.lesson_title for (stem, _), found in pointers.items() if stem == lesson), ""),
        "students": len(results),
        "points": max(result.points for result in results),
        "mean": round(statistics.fmean(scores), 2),
        "median": round(statistics.median(scores), 2),
        "lowest": min(scores),
        "highest": max(scores),
        "distribution": _distribution(percents),
        "exercises": [_exercise(name, results) for name in names],
        "incidents": incidents,
        "identical": _identical(results),
        "notes": notes,
        "walls": dict(sorted(Counter(result.wall for result in results).items())),
        "graders": dict(sorted(Counter(result.grader for result in results).items())),
        "results": [
            {
                "student": one.result.student,
                "score": one.result.score,
                "points": one.result.points,
                "file": one.result.file,
                "page": quote(one.page.as_posix().encode("utf-8", "replace")),
                "exercises": {exercise.name: standing(exercise) for exercise in one.result.exercises},
            }
            for one in stored
        ],
    }


def _exercise(name: str, results: list[StudentResult]) -> dict[str, Any]:
    tried = [(result.student, one) for result in results for one in result.exercises if one.name == name]
    standings = Counter(standing(one) for _, one in tried)
    misconceptions: dict[str, list[str]] = {}
    failing: dict[tuple[str, str], list[str]] = {}
    cases: set[tuple[str, str]] = set()
    for student, one in tried:
        if found := _MISCONCEPTION.match(one.verdict.advice):
            misconceptions.setdefault(found["name"], []).append(student)
        if one.verdict.status not in ("blank", "missing"):
            for case in one.verdict.cases:
                cases.add((case.name, case.group))
                if not case.passed and not untried(case):
                    failing.setdefault((case.name, case.group), []).append(student)
    # where every case fails as often as every other, none of them tells a teacher anything
    usual = sum(map(len, failing.values())) / max(1, len(cases))
    return {
        "name": name,
        "title": tried[0][1].title,
        "points": max(one.points for _, one in tried),
        "mean": round(statistics.fmean(one.score for _, one in tried), 2),
        "solved": standings["solved"],
        "partly": standings["partly"],
        "nothing": standings["nothing"],
        "not_written": standings["not written"],
        "not_found": standings["not found"],
        "not_graded": standings["not graded"],
        "misconceptions": [
            {"name": words, "count": len(students), "students": students}
            for words, students in sorted(misconceptions.items(), key=lambda one: (-len(one[1]), one[0]))
        ],
        "failing": [
            {
                "case": case,
                "group": group,
                "count": len(students),
                "often": len(students) > max(1, usual),
                "students": students,
            }
            for (case, group), students in sorted(
                failing.items(), key=lambda one: (-len(one[1]), GROUPS.index(one[0][1]), one[0][0])
            )
        ],
    }


def _distribution(percents: list[float]) -> list[dict[str, Any]]:
    """How many students reached 0 to 9 % of the points, 10 to 19 %, …, and all of them."""
    counts = Counter(10 if percent >= 100 else int(percent // 10) for percent in percents)
    words = [f"{10 * step} to {10 * step + 9} %" for step in range(10)] + ["100 %"]
    return [{"percent": words[step], "students": counts[step]} for step in range(11)]


def _identical(results: list[StudentResult]) -> list[list[str]]:
    """Students whose code cells are the same to the letter, where something was written."""
    groups: dict[str, list[str]] = {}
    for result in results:
        if any(standing(exercise) not in ("not written", "not found", "not graded") for exercise in result.exercises):
            groups.setdefault(result.digest, []).append(result.student)
    return [students for students in groups.values() if len(students) > 1]


def find_pointers(course: Path | None = None) -> dict[tuple[str, str], Pointer]:
    """Where a lesson explains what an exercise is about: by (lesson, exercise). Empty where no course is at hand."""
    try:
        root = course_root(course)
    except InputError:
        return {}
    folder = root / "lessons" if (root / "lessons").is_dir() else root / "solutions"
    found = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        try:
            notebook = read_percent(path.read_text(encoding="utf-8"), where=path.name)
            exercises = exercises_of(notebook, where=path.name)
        except (OSError, UnicodeDecodeError, InputError):
            continue  # pointers are a courtesy: a damaged lesson must not cost a class its reports
        headings = [
            (index, len(mark), words.strip())
            for index, cell in enumerate(notebook.cells)
            if cell.cell_type == "markdown"
            for mark, words in re.findall(r"^(#{1,2})[ \t]+(.+)$", cell.source, re.MULTILINE)
        ]
        title = next((words for _, level, words in headings if level == 1), "")
        for one in exercises:
            section = [words for index, level, words in headings if level == 2 and index < one.cell]
            found[path.stem, one.id] = Pointer(title, section[-1] if section else "", one.hints[0] if one.hints else "")
    return found


def _column(exercise: ExerciseResult) -> str:
    return safe_cell(f"{exercise.name} ({exercise.points:g})")


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)


def _csv(rows: list[list[Any]]) -> str:
    target = io.StringIO()
    csv.writer(target, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return target.getvalue()
