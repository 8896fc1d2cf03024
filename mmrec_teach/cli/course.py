"""`mmrec-teach course …`: build and check the lessons, start and reset a learner's copy."""

from __future__ import annotations

import argparse
from pathlib import Path


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add `course` and its commands."""
    course = subparsers.add_parser("course", help="build, check, start or reset the lessons", description=__doc__)
    course.set_defaults(run=lambda _: course.print_help())
    commands = course.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text)
        parser.add_argument("--root", type=Path, metavar="DIR", help="the course's folder (default: found from here)")
        parser.set_defaults(run=run)
        return parser

    build = command("build", _build, "make notebooks and blanks from the masters in solutions/")
    build.add_argument("lessons", nargs="*", metavar="LESSON", help="only these lessons, e.g. 01 (default: all)")
    build.add_argument("--check", action="store_true", help="write nothing; list what is out of date, exit 1 if anything is")
    check = command("check", _check, "look for mistakes in the masters")
    check.add_argument("lessons", nargs="*", metavar="LESSON", help="only these lessons (default: all)")
    check.add_argument(
        "--run", dest="run_lessons", action="store_true", help="run the solved lessons, too, and say how long each takes"
    )
    start = command("start", _start, "copy the lessons into your own folder, or bring that copy up to date")
    reset = command("reset", _reset, "put one lesson back as it was given; your version goes to backups/")
    reset.add_argument("lesson", metavar="LESSON", help="e.g. 01 or bpr")
    progress = command("progress", _progress, "show which exercises you have passed")
    for parser in (start, reset, progress):
        parser.add_argument("--dir", type=Path, metavar="DIR", help="your copy of the lessons (default: my_lessons)")


def _root(args: argparse.Namespace) -> Path:
    from mmrec_teach.course.master import course_root

    return course_root(args.root)


def _stems(args: argparse.Namespace, root: Path) -> list[str] | None:
    from mmrec_teach.course.master import find_lesson, load_masters

    available = [master.stem for master in load_masters(root)]
    return [find_lesson(name, available) for name in args.lessons] or None


def _build(args: argparse.Namespace) -> int:
    from mmrec_teach.course.build import build, differences

    root = _root(args)
    stems = _stems(args, root)
    if args.check:
        found = [line for line in differences(root) if stems is None or Path(line.split(":")[0]).stem in stems]
        for line in found:
            print(line)
        print(
            f"{len(found)} files are out of date: run `mmrec-teach course build`." if found else "All lessons are up to date."
        )
        return 1 if found else 0
    done = build(root, stems)
    for line in done:
        print(line)
    if not done:
        print("All lessons are up to date.")
    return 0


def _check(args: argparse.Namespace) -> int:
    from mmrec_teach.course.lint import LESSON_SECONDS, lint, lint_master, run_lesson
    from mmrec_teach.course.master import load_masters

    root = _root(args)
    stems = _stems(args, root)
    masters = load_masters(root)
    if stems is None:
        complaints = lint(root)
    else:
        complaints = [line for master in masters if master.stem in stems for line in lint_master(master)]
    if args.run_lessons:
        for stem in stems or [master.stem for master in masters]:
            done = run_lesson(root, stem)
            print(
                f"{stem}: {done.seconds:.0f} s by the clock, {done.cpu:.0f} s of CPU; {LESSON_SECONDS} s are allowed.",
                flush=True,
            )
            complaints += [done.complaint] if done.complaint else []
    for line in complaints:
        print(line)
    count = len(stems or masters)
    print(f"{len(complaints)} complaints about {count} lessons." if complaints else f"{count} lessons, no complaint.")
    return 1 if complaints else 0


def _start(args: argparse.Namespace) -> int:
    from mmrec_teach.course.workspace import default_directory, start

    root = _root(args)
    lines = start(args.dir, root).lines()
    for line in lines:
        print(line)
    print(f"Your lessons are in {args.dir or default_directory(root)}.")
    return 0


def _reset(args: argparse.Namespace) -> int:
    from mmrec_teach.course.workspace import reset

    stem, backup = reset(args.lesson, args.dir, _root(args))
    print(f"{stem} is as it was given." + (f" Your version is in {backup}." if backup else ""))
    return 0


def _progress(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from mmrec_teach.course.progress import progress

    table = Table("Lesson", "Exercise", "State", "Tries", "Points")
    reached = possible = 0
    for lesson in progress(_root(args), args.dir):
        reached, possible = reached + lesson.points, possible + lesson.possible
        for exercise, entry in lesson.exercises:
            state = "passed" if entry and entry.get("passed") else "not yet" if entry else "not tried"
            points = f"{exercise.points if state == 'passed' else 0} of {exercise.points}"
            if exercise.id in lesson.read_first:
                state += " (solution read)"
            table.add_row(lesson.stem, exercise.id, state, str(entry["attempts"]) if entry else "", points)
    Console().print(table)
    print(f"{reached} of {possible} points.")
    return 0
