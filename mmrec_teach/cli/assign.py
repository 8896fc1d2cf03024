"""`mmrec-teach assign` and `mmrec-teach gradescope-bundle`: what a teacher gives to students, and to Gradescope."""

from __future__ import annotations

import argparse
from pathlib import Path


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add both commands."""
    text = "make the folder that students get: blank notebooks, data, and the package with the examples alone"
    assign = subparsers.add_parser("assign", help=text, description=text)
    assign.add_argument("lessons", nargs="+", metavar="LESSON", help="e.g. 01 or bpr")
    assign.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder to make; it must not exist, or be empty"
    )
    assign.add_argument("--again", action="store_true", help="replace an earlier hand-out in DIR, unless it was changed since")
    assign.set_defaults(run=_assign)
    text = "make the autograder to upload to Gradescope for one lesson"
    bundle = subparsers.add_parser("gradescope-bundle", help=text, description=text)
    bundle.add_argument("lesson", metavar="LESSON", help="e.g. 01 or bpr")
    bundle.add_argument("--out", type=Path, default=Path("autograder.zip"), metavar="FILE", help="default: autograder.zip")
    bundle.add_argument("--again", action="store_true", help="replace FILE if it is there")
    bundle.add_argument("--salt", type=int, metavar="N", help="the number behind the random cases (default: drawn)")
    bundle.set_defaults(run=_bundle)
    for parser in (assign, bundle):
        parser.add_argument("--course", type=Path, metavar="DIR", help="the course's folder (default: found from here)")


def _assign(args: argparse.Namespace) -> int:
    from mmrec_teach.classroom.assign import assign

    done = assign(args.lessons, args.out, again=args.again, root=args.course)
    lessons = ", ".join(plan.lesson for plan in done.plans)
    points = sum(plan.points for plan in done.plans)
    print(f"{done.folder}: {lessons}; {points:g} points; {len(done.files)} files, {done.size / 1e6:.1f} MB.")
    print("Give the whole folder to your students; its README.md tells them the rest.")
    return 0


def _bundle(args: argparse.Namespace) -> int:
    from mmrec_teach.classroom.bundle import write_bundle

    plan, salt = write_bundle(args.lesson, args.out, salt=args.salt, again=args.again, root=args.course)
    print(
        f"{args.out}: the autograder of {plan.lesson}, {plan.points:g} points. Upload it in Gradescope under Configure Autograder."
    )
    print(
        f"Random cases follow from the number {salt}. Keep it: `mmrec-teach grade … --salt {salt}` grades the same elsewhere."
    )
    return 0
