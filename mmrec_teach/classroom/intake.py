"""What a teacher asks of `mmrec-teach grade`, checked before anything heavy is imported: a wrong word is told at once.

Beside the results it keeps two files in the folder they go to: ``salt.json``, the number behind the class's random cases, and
``left_out.json``, the students with nothing to grade.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrec_teach.classroom.plan import Plan, choose_plan, load_plans
from mmrec_teach.classroom.roster import LeftOut, Roster, find_submissions
from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.files import write_json

SALT = "salt.json"
LEFT_OUT = "left_out.json"
WALLS = ("bubblewrap", "landlock", "limits")  # as in grading/sandbox.py


@dataclass(frozen=True)
class Intake:
    """A class run that can begin.

    Attributes:
        roster: what to grade.
        plans: of all lessons.
        out: where results go.
        jobs: processes.
        wall: behind which students' code runs; None takes the strongest there is.
        salt: the number behind the random cases.
        kept: the file that keeps it; None when the teacher gave one.
        scheduler: address of a Dask scheduler whose workers grade; None: processes here.
    """

    roster: Roster
    plans: dict[str, Plan]
    out: Path
    jobs: int
    wall: str | None
    salt: int
    kept: Path | None
    scheduler: str | None

    @property
    def words(self) -> str:
        """What happens next, as a line."""
        count = len(self.roster.entries)
        what = f"Grading {count} submission{'' if count == 1 else 's'}"
        if self.scheduler is not None:
            return f"{what} on the cluster at {self.scheduler} …"
        them = "it" if self.jobs == 1 else "them"
        return f"{what} with {self.jobs} process{'' if self.jobs == 1 else 'es'} (starting {them} takes some seconds) …"

    def stopped(self, done: int) -> str:
        """What to say when the run is stopped."""
        if not done:
            return "Stopped before the first submission was graded. The same command begins again."
        return (
            f"Stopped: {done} of {len(self.roster.entries)} submissions are graded, their results are in {self.out}. "
            "The same command goes on from there."
        )


def take_in(
    folder: str | Path,
    out: str | Path,
    lessons: list[str] | None = None,
    jobs: int | None = None,
    wall: str | None = None,
    salt: int | None = None,
    scheduler: str | None = None,
    root: Path | None = None,
) -> Intake:
    """Check what was asked, find the submissions, draw the class's number, and write down who has nothing to grade.

    Args:
        folder, out, lessons, jobs, wall, salt, scheduler, root: see `mmrec_teach.classroom.grade.grade_class`.
    Raises:
        InputError: no submission there, an unknown lesson, results that would lie among submissions.
        OptionError: an unknown wall, a senseless number of jobs.
        OSError: ``out`` cannot be written.
    """
    folder, out = Path(folder), Path(out)
    if wall is not None and wall not in WALLS:
        raise OptionError("unknown wall", where="isolation", found=wall, expected=", ".join(WALLS))
    if jobs is not None and jobs < 1:
        raise OptionError("at least one process must work", where="jobs", found=jobs)
    if scheduler is not None and jobs is not None:
        raise OptionError("a cluster has its own number of workers", where="jobs", fix="Leave jobs out, or the scheduler")
    if out.exists() and not out.is_dir():
        raise InputError("a file stands where results should go", where=str(out), fix="Name another folder with --out")
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        # results that lie there could have been handed in, and would be believed
        raise InputError("results would lie among the submissions", where=str(out), fix="Name another folder with --out")
    plans = load_plans(root)
    chosen = [choose_plan(name, plans, root).lesson for name in lessons] if lessons else list(plans)
    roster = find_submissions(folder, list(plans), chosen, out)
    kept = out / SALT if salt is None else None
    number = class_salt(out) if salt is None else salt
    write_left_out(out, roster, whole=folder.is_dir() or folder.suffix.lower() == ".zip")
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(roster.entries)))
    return Intake(roster, plans, out, jobs, wall, number, kept, scheduler)


def class_salt(out: Path) -> int:
    """The number behind a class's random cases: drawn once, from the system's randomness, and kept in ``out``.

    Raises:
        InputError: what is kept there is no such number.
    """
    path = out / SALT
    if not path.exists():
        write_json(path, {"salt": secrets.randbelow(2**31)})
    try:
        salt = json.loads(path.read_text(encoding="utf-8"))["salt"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "not the number behind a class's random cases",
            where=str(path),
            found=str(error),
            fix="Give --salt, or delete the file",
        ) from error
    if type(salt) is not int:
        raise InputError("not a whole number", where=f"{path}: salt", found=repr(salt), fix="Give --salt, or delete the file")
    return salt


def write_left_out(out: Path, roster: Roster, *, whole: bool = True) -> None:
    """Store the students with nothing to grade, for the reports: ``{"version": 1, "entries": [{student, file, sentence}]}``.

    Args:
        out: where results go.
        roster: of this run.
        whole: it is a class's. One student's, graded alone, leaves the others' entries as they are.
    """
    path = out / LEFT_OUT
    entries = list(roster.left_out)
    if not whole:
        mine = {one.student for one in (*entries, *roster.entries)}
        entries += [one for one in read_left_out(out) if one.student not in mine]
        entries.sort(key=lambda one: (one.student, one.file))
    write_json(path, {"version": 1, "entries": [asdict(one) for one in entries]})


def read_left_out(out: Path) -> list[LeftOut]:
    """What `write_left_out` stored; nothing when it is not there, or damaged."""
    try:
        stored = json.loads((out / LEFT_OUT).read_text(encoding="utf-8"))
        return [LeftOut(str(one["student"]), str(one["file"]), str(one["sentence"])) for one in stored["entries"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
