"""`mmrec-teach grade`: grade everybody's submissions, behind a wall, several at a time; a stopped run goes on where it was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmrec_teach.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from mmrec_teach.classroom.intake import Intake
    from mmrec_teach.classroom.progress import Progress
    from mmrec_teach.classroom.result import ExerciseResult, StudentResult

_WALLS = ("bubblewrap", "landlock", "limits")  # as in the sandbox, which --help must not import


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add `grade`."""
    parser = subparsers.add_parser("grade", help="grade the submissions in a folder", description=__doc__)
    # may be missing: `--lesson 01 FOLDER` gives the folder to --lesson, and `_folder` takes it back
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="FOLDER", help="submissions: files, a folder a student, or a zip file"
    )
    parser.add_argument("--lesson", action="extend", nargs="+", metavar="LESSON", help="only these, e.g. 01 or 01 02")
    parser.add_argument("--out", type=Path, default=Path("grades"), metavar="DIR", help="where results go (default: grades)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: as many as cores)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="grade on a Dask cluster, e.g. tcp://10.0.0.5:8786")
    parser.add_argument("--isolation", choices=_WALLS, help="the wall around students' code (default: the strongest there is)")
    parser.add_argument(
        "--salt", type=int, metavar="N", help="the number behind the random cases (default: drawn once, kept in DIR)"
    )
    parser.add_argument("--again", action="store_true", help="grade what is graded already, too")
    parser.add_argument("--course", type=Path, metavar="DIR", help="the course's folder (default: found from here)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Grade, print a table, write reports; 1 when a submission could not be graded."""
    from mmrec_teach.classroom.intake import take_in
    from mmrec_teach.classroom.progress import Progress

    intake = take_in(
        _folder(args), args.out, args.lesson, args.jobs, args.isolation, args.salt, args.scheduler, args.course
    )  # fmt: skip
    with Progress(len(intake.roster.entries), intake.words) as progress:
        results = _graded(intake, args.again, progress)

    from rich.console import Console

    from mmrec_teach.classroom.grade import RESULTS
    from mmrec_teach.classroom.worker import is_unfinished

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for lesson in dict.fromkeys(result.lesson for result in results):
        _table(console, lesson, [result for result in results if result.lesson == lesson])
    for sentence in (*intake.roster.problems.values(), *intake.roster.notes):
        print(sentence, file=sys.stderr)
    if args.scheduler and results:
        print("Isolation: " + ", ".join(sorted({result.wall for result in results})) + ".")
    unfinished = sum(is_unfinished(result) for result in results)
    if unfinished:
        print(f"{unfinished} could not be graded by a fault of the grader: run the same command again.", file=sys.stderr)
    problems = len(intake.roster.problems)
    if problems:
        print(f"{problems} left out: see the {'sentence' if problems == 1 else 'sentences'} above.", file=sys.stderr)
    if results:
        print(f"Results are in {args.out / RESULTS}; reports:")
        _reports(args.out, args.course)
    return 1 if unfinished or problems else 0


def _folder(args: argparse.Namespace) -> Path:
    """The folder of submissions: its own word, or the last of those that --lesson took."""
    if args.folder is not None:
        return args.folder
    if args.lesson and len(args.lesson) > 1:
        return Path(args.lesson.pop())
    raise InputError("no submissions were named", where="grade", fix="Name their folder: mmrec-teach grade FOLDER")


def _graded(intake: Intake, again: bool, progress: Progress) -> list[StudentResult]:
    """The results; what is slow to start is imported here, while ``progress`` is shown."""
    if not intake.roster.entries:
        return []
    try:
        from mmrec_teach.classroom.grade import grade_intake
        from mmrec_teach.grading.sandbox import WALLS, WORDS, strongest_wall

        if intake.scheduler is None:
            wall, why = (intake.wall, "") if intake.wall else strongest_wall()
            progress.say(f"Isolation: {WORDS[wall]}.")
            if wall == WALLS[-1]:
                progress.say(
                    "Warning: on this wall a student's code could read and write your files and reach the network"
                    + (f" ({why})" if why else "")
                    + ". Grade only people you trust, or see `mmrec-teach doctor`.",
                    sys.stderr,
                )
        kept = f"kept in {intake.kept}" if intake.kept else "given with --salt"
        progress.say(f"Random cases follow from the number {intake.salt}, {kept}.")
        return grade_intake(intake, progress.step, again)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or intake.stopped(0)) from None


def _table(console: Console, lesson: str, results: list[StudentResult]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=lesson, title_justify="left")
    table.add_column("Student", overflow="fold")
    for exercise in results[0].exercises:
        table.add_column(f"{exercise.name} ({_number(exercise.points)})", justify="right")
    table.add_column(f"Total ({_number(results[0].points)})", justify="right")
    for result in results:
        points = [_cell(exercise) for exercise in result.exercises]
        table.add_row(Text(result.student), *points, _number(result.score))
    console.print(table)


def _cell(exercise: ExerciseResult) -> str:
    """Points, and a word where none are for lack of a function."""
    verdict = exercise.verdict
    words = {"blank": "not written", "missing": "not found"}.get(verdict.status, "")
    if verdict.status == "error" and not verdict.cases:
        words = "not graded"
    return words or _number(exercise.score)


def _number(points: float) -> str:
    return f"{points:g}"


def _reports(out: Path, course: Path | None) -> None:
    from mmrec_teach.classroom.report import write_reports

    written = write_reports(out, course=course, tell=lambda sentence: print(f"Left out: {sentence}", file=sys.stderr))
    pages = [path for path in written if path.parent != out]
    for path in written:
        if path not in pages:
            print(f"  {path}")
    if pages:
        print(f"  {pages[0].parent}: {len(pages)} {'page' if len(pages) == 1 else 'pages'}")
