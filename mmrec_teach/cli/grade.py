"""`mmrec-teach grade`: grade everybody's submissions, behind a wall, several at a time; a stopped run goes on where it was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mmrec_teach.classroom.result import ExerciseResult, StudentResult

_WALLS = ("bubblewrap", "landlock", "limits")  # as in the sandbox, which --help must not import


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add `grade`."""
    parser = subparsers.add_parser("grade", help="grade the submissions in a folder", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="submissions: files, a folder a student, or a zip file")
    parser.add_argument("--lesson", action="append", metavar="LESSON", help="only this one, e.g. 01 (may be repeated)")
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
    from rich.console import Console

    from mmrec_teach.classroom.grade import RESULTS, grade_class
    from mmrec_teach.classroom.worker import is_unfinished
    from mmrec_teach.grading.sandbox import WALLS, WORDS, strongest_wall

    told: list[tuple[str, str]] = []
    if not args.scheduler:
        wall, why = (args.isolation, "") if args.isolation else strongest_wall()
        print(f"Isolation: {WORDS[wall]}.")
        if wall == WALLS[-1]:
            print(
                "Warning: on this wall a student's code could read and write your files and reach the network"
                + (f" ({why})" if why else "")
                + ". Grade only people you trust, or see `mmrec-teach doctor`.",
                file=sys.stderr,
            )
    results = grade_class(
        args.folder, args.out, args.lesson, args.jobs, args.isolation, args.salt, args.scheduler, args.again,
        root=args.course, tell=lambda *said: told.append(said),
    )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for lesson in dict.fromkeys(result.lesson for result in results):
        _table(console, lesson, [result for result in results if result.lesson == lesson])
    for _, sentence in told:
        print(sentence, file=sys.stderr)
    if args.scheduler and results:
        print("Isolation: " + ", ".join(sorted({result.wall for result in results})) + ".")
    unfinished = sum(is_unfinished(result) for result in results)
    if unfinished:
        print(f"{unfinished} could not be graded by a fault of the grader: run the same command again.", file=sys.stderr)
    problems = sum(kind == "problem" for kind, _ in told)
    if problems:
        print(f"{problems} left out: see the {'sentence' if problems == 1 else 'sentences'} above.", file=sys.stderr)
    if results:
        print(f"Results are in {args.out / RESULTS}; reports:")
        _reports(args.out, args.course)
    return 1 if unfinished or problems else 0


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
