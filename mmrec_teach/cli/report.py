"""`mmrec-teach report OUT`: tables, feedback pages and the teacher's summary, from what grading stored."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``report``."""
    parser = subparsers.add_parser(
        "report",
        help="make a graded class's reports (tables, feedback pages, summary)",
        description="Make the reports of a graded class from OUT/results. Without an option: all but Gradescope's. "
        "Nothing is graded again.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder that `mmrec-teach grade` wrote")
    parser.add_argument("--csv", action="append_const", dest="kinds", const="csv", help="OUT/class.csv: one row a student")
    parser.add_argument(
        "--html", action="append_const", dest="kinds", const="html", help="OUT/feedback: a page for each student"
    )
    parser.add_argument(
        "--summary", action="append_const", dest="kinds", const="summary", help="OUT/summary.html and .json, for the teacher"
    )
    parser.add_argument(
        "--nbgrader", action="append_const", dest="kinds", const="nbgrader", help="OUT/nbgrader_scores.csv: nbgrader's columns"
    )
    parser.add_argument("--gradescope", type=Path, metavar="DIR", help="write DIR/LESSON/STUDENT/results.json for Gradescope")
    parser.add_argument(
        "--hidden",
        default="after_published",
        choices=("hidden", "after_due_date", "after_published", "visible"),
        help="when Gradescope shows students the tests of hidden cases (default: %(default)s)",
    )
    parser.add_argument(
        "--course", type=Path, metavar="DIR", help="the course's folder, to name the sections to read again (default: found)"
    )
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from mmrec_teach.classroom.report import KINDS, read_left_out, write_gradescope, write_reports
    from mmrec_teach.errors import InputError

    problems: dict[str, None] = {}

    def tell(sentence: str) -> None:
        problems.setdefault(sentence)

    written: list[Path] = []
    if args.kinds or not args.gradescope:
        written += write_reports(args.out, kinds=args.kinds or KINDS, course=args.course, tell=tell)
    pages = [path for path in written if path.is_relative_to(args.out / "feedback")]
    for path in written:
        if path not in pages:
            print(path)
    if pages:
        print(f"{args.out / 'feedback'}: {len(pages)} {'page' if len(pages) == 1 else 'pages'}")
    if args.gradescope:
        files = write_gradescope(args.out, args.gradescope, hidden=args.hidden, tell=tell)
        print(f"{args.gradescope}: {len(files)} results.json")
    with contextlib.suppress(InputError):  # told already
        absent = {one.name for one in read_left_out(args.out)}
        if absent:
            print(
                f"Nothing to grade for {len(absent)} {'student' if len(absent) == 1 else 'students'}: see class.csv or summary.html"
            )
    for sentence in problems:
        print(f"Left out: {sentence}", file=sys.stderr)
    return 1 if problems else 0
