"""Who handed in what: find the submissions in a folder (or a zip file), however it was laid out.

What is understood:

- files side by side: ``mia.ipynb``, ``mia_01_bpr.ipynb``, ``01_bpr-mia.py``; Canvas' ``muellermia_12345_67890_01_bpr-1.ipynb``;
- a folder a student: ``mia/anything.ipynb``; Moodle's ``Mia Müller_123_assignsubmission_file_/…``; nbgrader's
  ``submitted/mia/01_bpr/…``; GitHub Classroom's ``01-bpr-mia/…``, a whole course's repository inside or not;
- zip files in place of any of these; they are read in memory, and nothing of them is written to disk;
- several lessons side by side, and a folder a lesson (``01_bpr/mia.ipynb``).

Which lesson a file belongs to is told by its name, else by its folder's name, else by the functions it defines, else it is the only
lesson graded. Of a pair ``01_bpr.ipynb`` and ``01_bpr.py`` the notebook counts. Of several files for one lesson in one student's
folder the newest counts, and a note says so. Two students' entries of one name are a problem that a person must solve: neither is
graded, and a sentence says what to do. Hidden files, caches and links that leave their folder are not looked at; a student of whom
nothing else is there is named.

Nothing heavy is imported before a submission is read, so that a wrong folder is told at once.
"""

from __future__ import annotations

import io
import os
import re
import stat
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mmrec_teach.classroom.plan import exercise_lessons
from mmrec_teach.errors import InputError

if TYPE_CHECKING:
    from mmrec_teach.grading.submission import Submission

SUFFIXES = (".ipynb", ".py")  # these two as in grading/submission.py
MAX_FILE = 200 * 2**20
MAX_FILES = 50_000
MAX_DEPTH = 12
MOST_ABOVE = 4  # folders, down to a student's: submissions/01_bpr/mia
MAX_ZIP = 500 * 2**20
MAX_ZIP_ENTRIES = 5000
MAX_UNPACKED = 200 * 2**20  # or 50 times the zip file's own size, if that is more
_SAME_TIME = 2.0  # seconds: what zip files and some file systems cannot tell apart
_SKIPPED = {"__macosx", "__pycache__", "node_modules", "site-packages", "venv", "env"}
_CLASS_FOLDER = re.compile(r"^(?:.*[-_ ])?(?:submitted|submissions)$", re.IGNORECASE)
_MOODLE = re.compile(r"^(?P<student>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<rest>.*)$")
_CANVAS = re.compile(r"^(?P<student>.+?)(?:_LATE)?_(?P<id>\d{3,})_\d{3,}_(?P<rest>.+)$")
_COPY = re.compile(r"^(?:[-_ ]*\((?P<a>\d+)\)|[-_ ]*copy[-_ ]*(?P<b>\d*)|-(?P<c>\d{1,2}))$", re.IGNORECASE)
_SEPARATORS = "-_ ."
_DEFINED = re.compile(rb'(?:^|"|\\n)def[ \t]+(\w+)', re.MULTILINE)  # in a script, or in a notebook as it is stored


@dataclass(frozen=True)
class Entry:
    """One submission: a student, a lesson, a file.

    Attributes:
        student: as the file or folder is called.
        lesson: the lesson's stem.
        file: relative to the class's folder; ``hw.zip/01_bpr.ipynb`` inside a zip file.
        path: where it lies on disk (the zip file that holds it).
        notes: sentences on how it was chosen.
    """

    student: str
    lesson: str
    file: str
    path: Path
    notes: tuple[str, ...] = ()
    leaf: Leaf | None = field(default=None, repr=False, compare=False)

    def read(self) -> Submission:
        """The submission; what cannot be read becomes its ``problem``."""
        assert self.leaf is not None
        found = self.leaf.read()
        return replace(found, notes=(*self.notes, *found.notes)) if self.notes else found


@dataclass(frozen=True)
class LeftOut:
    """A student with nothing to grade.

    Attributes:
        student: as the file or folder is called.
        file: what is there instead; the folder's name when there is nothing or much.
        sentence: why it is not graded.
    """

    student: str
    file: str
    sentence: str


@dataclass(frozen=True)
class Roster:
    """What a folder holds.

    Attributes:
        entries: what to grade, by lesson and student.
        problems: sentences on submissions that cannot be graded before somebody acts, by who or what they are about.
        notes: sentences on what was left out.
        left_out: the students of whom nothing is graded, or one lesson less, and why.
    """

    entries: tuple[Entry, ...]
    problems: dict[str, str]
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Leaf:
    """A file that could be a submission, on disk or in a zip file.

    Attributes:
        parts: the names on the way to it from the class's folder, a zip file's own name among them.
        path: the file on disk that holds it.
        size: in bytes.
        time: when it was last changed, in seconds since 1970.
        content: reads its bytes.
    """

    parts: tuple[str, ...]
    path: Path
    size: int
    time: float
    content: Callable[[], bytes] = field(repr=False, compare=False)

    @property
    def shown(self) -> str:
        """Its place as a teacher reads it: ``mia/01_bpr.ipynb``."""
        return "/".join(self.parts)

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return self.parts[-1].rpartition(".")[0]

    @property
    def is_notebook(self) -> bool:
        """Whether its name ends as a notebook's does."""
        return self.parts[-1].lower().endswith(".ipynb")

    def read(self) -> Submission:
        """The submission in it; whatever goes wrong is told in its ``problem``."""
        from mmrec_teach.grading.submission import Submission, read_submission

        name = self.parts[-1]
        if self.size > MAX_FILE:
            return Submission(name, problem=f"the file is larger than {MAX_FILE // 2**20} MB.")
        try:
            return read_submission(name, self.content())
        except Exception as error:  # zip files alone fail in five ways
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return Submission(name, problem=f"the file cannot be read ({words}).")


@dataclass(frozen=True)
class _Claim:
    """A file that is somebody's submission for a lesson ("" when that is still open)."""

    student: str
    identity: str
    lesson: str
    leaf: Leaf
    version: int = 0
    notes: tuple[str, ...] = ()


def find_submissions(
    folder: str | Path, lessons: Sequence[str], wanted: Iterable[str] | None = None, skip: Path | None = None
) -> Roster:
    """Find everybody's submissions.

    Args:
        folder: of a class; a zip file of one, or a single submission, will do.
        lessons: stems of all lessons that have exercises.
        wanted: those to grade; all by default.
        skip: a folder inside that holds no submissions (where results go).
    Raises:
        InputError: no such folder, too many files in it, or nothing to grade.
    """
    folder = Path(folder)
    chosen = list(lessons if wanted is None else wanted)
    search = _Search(folder, list(lessons), chosen, None if skip is None else skip.resolve())
    try:
        search.look()
    except OSError as error:
        raise InputError("cannot be read", where=str(error.filename or folder), found=error.strerror or error) from error
    return search.roster()


class _Search:
    def __init__(self, folder: Path, lessons: list[str], wanted: list[str], skip: Path | None):
        self.folder, self.lessons, self.wanted, self.skip = folder, lessons, wanted, skip
        self.leaves: list[Leaf] = []
        self.folders: set[tuple[str, ...]] = set()  # those that could be a student's, to name the ones without a submission
        self.others: list[tuple[str, ...]] = []  # files that are no submissions
        self.dotted: list[tuple[str, ...]] = []  # files that would be submissions but for the dot before their names
        self.problems: dict[str, str] = {}
        self.about: dict[str, tuple[str, str]] = {}  # the student and the file of a problem, where its key does not tell
        self.notes: list[str] = []
        self.claims: list[_Claim] = []
        self.said: dict[Leaf, str] = {}
        self.numbers: dict[str, str] | None = None  # of the lessons, by what their exercises are called

    # -- files ----------------------------------------------------------------------------------------------------------------
    def look(self) -> None:
        """Collect the files."""
        if not self.folder.exists():
            raise InputError("there is no such file or folder", where=str(self.folder))
        if self.folder.is_dir():
            self._walk(self.folder, ())
        elif self.folder.suffix.lower() == ".zip":
            self._unzip(self.folder, (), self.folder.name)
        elif self.folder.suffix.lower() in SUFFIXES and self.folder.is_file():
            self._add_file(self.folder, (self.folder.name,), self.folder.stat())
        else:
            raise InputError(
                "not a submission", where=str(self.folder), expected="a folder, a zip file, a notebook or a Python file"
            )

    def _walk(self, folder: Path, parts: tuple[str, ...]) -> None:
        if len(parts) > MAX_DEPTH:
            self.problems["/".join(parts)] = f"{'/'.join(parts[:3])}/…: nested deeper than {MAX_DEPTH} folders; not looked at."
            return
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if not parts:
                raise
            self.problems["/".join(parts)] = f"{'/'.join(parts)}: the folder cannot be read ({error.strerror})."
            return
        for entry in found:
            here = (*parts, entry.name)
            if _hidden(entry.name):
                if _only_dotted(entry.name):
                    self.dotted.append(here)
                continue
            shown, path = "/".join(here), Path(entry.path)
            try:
                if entry.is_symlink():  # it may point to a neighbour's work, or out of the class
                    if not (path.is_dir() and self._link_is_safe(path)):  # a folder's files are looked at where they are
                        self.problems[shown] = f"{shown}: a link is not followed; put the file itself there."
                    continue
                if entry.is_dir():
                    if self.skip is None or path.resolve() != self.skip:
                        self._add_folders(here)
                        self._walk(path, here)
                elif stat.S_ISREG((status := entry.stat()).st_mode):
                    self._add_file(path, here, status)
            except OSError as error:
                self.problems[shown] = f"{shown}: cannot be read ({error.strerror or error})."

    def _link_is_safe(self, path: Path) -> bool:
        target = path.resolve()
        return target.exists() and target.is_relative_to(path.parent.resolve())

    def _add_file(self, path: Path, parts: tuple[str, ...], status: os.stat_result) -> None:
        suffix = path.suffix.lower()
        if suffix == ".zip":
            self._unzip(path, (*parts[:-1], path.stem), "/".join(parts))
        elif suffix in SUFFIXES:
            self._add(Leaf(parts, path, status.st_size, status.st_mtime, path.read_bytes))
        else:
            self.others.append(parts)

    def _add_folders(self, parts: tuple[str, ...]) -> None:
        self.folders |= {parts[:depth] for depth in range(1, min(len(parts), MOST_ABOVE) + 1)}

    def _add(self, leaf: Leaf) -> None:
        self.leaves.append(leaf)
        if len(self.leaves) > MAX_FILES:
            raise InputError(f"more than {MAX_FILES} files", where=str(self.folder), fix="Name the folder of one class")

    def _unzip(self, path: Path, parts: tuple[str, ...], shown: str) -> None:
        """The files of a zip file, as if it were a folder; nothing is written."""
        self._add_folders(parts)
        try:
            if path.stat().st_size > MAX_ZIP:
                raise _ZipError(f"it is larger than {MAX_ZIP // 2**20} MB")
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
            if len(members) > MAX_ZIP_ENTRIES:
                raise _ZipError(f"it holds more than {MAX_ZIP_ENTRIES} files")
            unpacked = sum(member.file_size for member in members)
            if unpacked > max(MAX_UNPACKED, 50 * path.stat().st_size):
                raise _ZipError(f"unpacked it would be {unpacked // 2**20} MB")
            for member in members:
                self._add_member(path, parts, member, shown)
        except (_ZipError, zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            self.problems[shown] = f"{shown}: the zip file cannot be used ({str(error).rstrip('.')})."

    def _add_member(self, path: Path, parts: tuple[str, ...], member: zipfile.ZipInfo, shown: str) -> None:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        inner = tuple(part for part in name.parts if part != ".")
        if not inner or any(_hidden(part) for part in inner[:-1] if part != ".."):
            return
        if inner[-1] != ".." and _hidden(inner[-1]):
            if _only_dotted(inner[-1]) and not member.is_dir():
                self.dotted.append((*parts, *inner))
            return
        if name.is_absolute() or ".." in inner or len(inner) > MAX_DEPTH or re.match(r"^[A-Za-z]:", inner[0]):
            self.problems[shown] = f"{shown}: a name in it leads outside ({member.filename[:80]!r}); that file is left out."
            return
        self._add_folders((*parts, *(inner if member.is_dir() else inner[:-1])))
        if member.is_dir():
            return
        suffix = name.suffix.lower()
        if suffix == ".zip":
            self.notes.append(f"{shown}/{name}: a zip file inside a zip file is not opened.")
        if suffix not in SUFFIXES or stat.S_ISLNK(member.external_attr >> 16):
            self.others.append((*parts, *inner))
            return
        try:
            when = time.mktime((*member.date_time, 0, 0, -1))
        except (ValueError, OverflowError):
            when = 0.0
        self._add(Leaf((*parts, *inner), path, member.file_size, when, lambda: _member_bytes(path, member)))

    # -- who and which lesson ------------------------------------------------------------------------------------------------
    def roster(self) -> Roster:
        """Put students and lessons to the files."""
        self._class_folder(self.leaves, 0, "", self.folder.stem if self.folder.is_file() else self.folder.resolve().name)
        self._nothing_there()
        claims = self._one_name_each(self._decided())
        entries, handed_in = [], set()
        groups: dict[tuple[str, str], list[_Claim]] = {}
        for claim in claims:
            groups.setdefault((claim.lesson, claim.student), []).append(claim)
        for (lesson, student), group in sorted(groups.items()):
            if lesson not in self.wanted:
                continue
            handed_in.add((lesson, student))
            newest = max(claim.version for claim in group)
            same_person = len({claim.identity for claim in group}) == 1 and group[0].identity
            if same_person and sum(claim.version == newest for claim in group) == 1:
                group = [claim for claim in group if claim.version == newest]  # handed in again
            if len(group) > 1:
                files = " and ".join(claim.leaf.shown for claim in group[:3])
                self.problems[f"{student} ({lesson})"] = (
                    f"{student}, {lesson}: {len(group)} files claim to be the submission ({files}); keep one of them."
                )
                self.about[f"{student} ({lesson})"] = (student, group[0].leaf.shown)
                continue
            claim = group[0]
            entries.append(Entry(student, lesson, claim.leaf.shown, claim.leaf.path, claim.notes, claim.leaf))
        for lesson in self.wanted if len(self.wanted) < len(self.lessons) else ():
            without = sorted({claim.student for claim in claims} - {name for stem, name in handed_in if stem == lesson})
            if without and (self.problems or lesson in {entry.lesson for entry in entries}):
                self.notes.append(f"Nothing for {lesson} from {', '.join(without)}.")
        others = self._of_other_lessons(claims)
        if not entries and not self.problems:
            words = f"no submission for {', '.join(self.wanted) if len(self.wanted) < 4 else 'any lesson'} is in there"
            if others:
                listed = "; ".join(sentence for _, _, sentence in others[:3]) + ("; …" if len(others) > 3 else "")
                raise InputError(f"{words}: {listed}", where=str(self.folder), fix="Give --lesson as it is there")
            raise InputError(words, where=str(self.folder), expected="notebooks (.ipynb) or Python files")
        return Roster(tuple(entries), self.problems, tuple(self.notes), self._left_out(entries, others))

    def _nothing_there(self) -> None:
        """Name the students of whom there is a folder, or a file, and nothing to grade in it."""
        claimed = {claim.leaf.parts[:depth] for claim in self.claims for depth in range(1, MOST_ABOVE + 1)}
        students = {claim.student for claim in self.claims}
        for parts in self.dotted:
            student = self._whose(parts)
            if student and student not in students:
                students.add(student)
                shown = "/".join(parts)
                self.problems[shown] = f"{shown}: skipped: its name starts with a dot. Give it another name."
                self.about[shown] = (student, shown)
        for parts in sorted(self.folders - claimed):
            name = "/".join(parts)
            told = any(key == name or key.startswith((f"{name}/", f"{name}.zip")) for key in self.problems)
            if told or self._above(parts) < len(parts) - 1 or self._is_class_folder(parts[-1])[0]:
                continue
            inside = ["/".join(other) for other in self.others if other[: len(parts)] == parts]
            found = (
                f" ({', '.join(one[len(name) + 1 :] for one in inside[:3])}{', …' if len(inside) > 3 else ''})"
                if inside
                else ""
            )
            self.problems[name] = f"{name}: there is no notebook or Python file to grade in it{found}."
            self.about[name] = (self._whose((*parts, "")), inside[0] if len(inside) == 1 else name)
        for parts in self.others:  # beside the others' files: a platform's own name tells that somebody handed it in
            if self._above(parts) == len(parts) - 1 and (_MOODLE.match(parts[-1]) or _CANVAS.match(parts[-1])):
                shown, student = "/".join(parts), self._whose(parts)
                if student and student not in students:
                    self.problems[shown] = f"{shown}: neither a notebook nor a Python file; there is nothing to grade."

    def _of_other_lessons(self, claims: list[_Claim]) -> list[tuple[str, str, str]]:
        """(student, file, words) of those who handed in none of the lessons that are graded, but another."""
        here = {claim.student for claim in claims if claim.lesson in self.wanted}
        numbers = " or ".join(stem[:2] for stem in self.wanted)
        others: dict[str, tuple[str, str, str]] = {}
        for claim in claims:
            if claim.student not in here:
                words = f"{claim.leaf.shown} is lesson {claim.lesson[:2]}, not {numbers}"
                others.setdefault(claim.student, (claim.student, claim.leaf.shown, words))
        return list(others.values())

    def _left_out(self, entries: list[Entry], others: list[tuple[str, str, str]]) -> tuple[LeftOut, ...]:
        graded = {entry.student for entry in entries}
        found = [LeftOut(student, file, f"{student}: {words}.") for student, file, words in others]
        for key, sentence in self.problems.items():
            student, file = self.about.get(key) or (self._whose(tuple(key.split("/"))), key)
            if student not in graded or key.startswith(f"{student} ("):
                found.append(LeftOut(student, file, sentence))
        return tuple(sorted(found, key=lambda one: (one.student, one.file)))

    def _whose(self, parts: tuple[str, ...]) -> str:
        """The student that a path belongs to."""
        depth = self._above(parts)
        name = parts[depth].lstrip(".")
        if depth == len(parts) - 1:
            name = name.rpartition(".")[0] or name
        return self._who(name)[0] or _clean(name)

    def _above(self, parts: tuple[str, ...]) -> int:
        """How many folders of a path stand above the students'."""
        depth = 0
        while depth < len(parts) - 1 and self._is_class_folder(parts[depth])[0]:
            depth += 1
        return depth

    def _is_class_folder(self, name: str) -> tuple[bool, str]:
        """Whether a folder holds students' and is not one's own; and the lesson its name tells."""
        student, _, named, _ = self._who(name)
        if _MOODLE.match(name) or _CANVAS.match(name):  # somebody's, whatever the rest of its name says
            return False, named
        return bool(_CLASS_FOLDER.match(name) or (named and not student)), named

    def _class_folder(self, leaves: list[Leaf], base: int, lesson: str, called: str) -> None:
        """Claims of a folder whose files and folders are students'."""
        flat = _without_pairs([leaf for leaf in leaves if len(leaf.parts) == base + 1])
        for leaf in flat:
            student, identity, named, version = self._who(leaf.stem)
            self._claim(student or _clean(called), identity, named or lesson, leaf, version)
        folders: dict[str, list[Leaf]] = {}
        for leaf in leaves:
            if len(leaf.parts) > base + 1:
                folders.setdefault(leaf.parts[base], []).append(leaf)
        for name, inside in folders.items():
            student, identity, named, version = self._who(name)
            if self._is_class_folder(name)[0]:
                self._class_folder(inside, base + 1, named or lesson, name)
            else:
                self._student_folder(inside, base + 1, student or _clean(name), identity, named or lesson, version)

    def _student_folder(self, leaves: list[Leaf], base: int, student: str, identity: str, lesson: str, version: int) -> None:
        """Claims of one student: for each lesson the newest file that fits."""
        by_file: dict[str, list[Leaf]] = {}
        by_folder: dict[str, list[Leaf]] = {}
        for leaf in leaves:
            if found := self._lesson_in(leaf.stem)[0]:
                by_file.setdefault(found, []).append(leaf)
            for part in reversed(leaf.parts[base:-1]):
                if found := self._lesson_in(part)[0]:
                    by_folder.setdefault(found, []).append(leaf)
                    break
        named = {**by_folder, **by_file}
        if lesson:
            named = {stem: inside for stem, inside in named.items() if stem == lesson}
        if not named:
            only = lesson or (self.wanted[0] if len(self.wanted) == 1 else "")
            if only:
                others = {leaf for inside in by_file.values() for leaf in inside}
                named = {only: [leaf for leaf in leaves if leaf not in others]}
            else:
                for leaf in _notebooks_first(leaves):
                    if found := self._lesson_by_content(leaf):
                        named.setdefault(found, []).append(leaf)
                if not named and len(_without_pairs(leaves)) == 1:
                    named = {"": leaves}
        for stem, inside in named.items():
            chosen = _notebooks_first(inside)
            if len(chosen) > 1:
                chosen = [leaf for leaf in chosen if self._lesson_by_content(leaf) == stem] or chosen
            chosen.sort(key=lambda leaf: leaf.time, reverse=True)
            notes: tuple[str, ...] = ()
            if len(chosen) > 1 and chosen[0].time - chosen[1].time > _SAME_TIME:
                left = ", ".join(leaf.parts[-1] for leaf in chosen[1:4])
                notes = (f"The newest of {len(chosen)} files was graded: {chosen[0].parts[-1]}, not {left}.",)
                chosen = chosen[:1]
            for leaf in chosen:
                self._claim(student, identity, stem, leaf, version, notes)
        if not any(named.values()):
            listed = ", ".join(leaf.parts[-1] for leaf in leaves[:3])
            self.problems[student] = (
                f"{student}: none of the files is recognised as a lesson ({listed}); name it like 01_bpr.ipynb."
            )
            self.about[student] = (student, leaves[0].shown)

    def _claim(self, student: str, identity: str, lesson: str, leaf: Leaf, version: int, notes: tuple[str, ...] = ()) -> None:
        if not lesson and len(self.wanted) == 1:
            lesson = self.wanted[0]
        self.claims.append(_Claim(student, identity, lesson or self._lesson_by_content(leaf), leaf, version, notes))

    def _decided(self) -> list[_Claim]:
        """The claims; one whose lesson nothing tells belongs to the only lesson there is."""
        found = {claim.lesson for claim in self.claims if claim.lesson}
        only = found.pop() if len(found) == 1 else self.lessons[0] if len(self.lessons) == 1 else ""
        out = []
        for claim in self.claims:
            if claim.lesson or only:
                out.append(replace(claim, lesson=claim.lesson or only))
            else:
                shown = claim.leaf.shown
                self.problems[shown] = (
                    f"{shown}: nothing tells which lesson this is; name it like {claim.student}_01_bpr, or give --lesson."
                )
                self.about[shown] = (claim.student, shown)
        return out

    def _one_name_each(self, claims: list[_Claim]) -> list[_Claim]:
        """Two people of one name (as their numbers show) get the number behind their names."""
        people: dict[str, set[str]] = {}
        for claim in claims:
            people.setdefault(claim.student, set()).add(claim.identity)
        return [
            replace(claim, student=f"{claim.student} ({claim.identity})")
            if len(people[claim.student] - {""}) > 1 and claim.identity
            else claim
            for claim in claims
        ]

    def _who(self, name: str) -> tuple[str, str, str, int]:
        """(student, number, lesson, version) that a file's or folder's name tells; "" for what it does not."""
        for pattern in (_MOODLE, _CANVAS):
            if found := pattern.match(name):
                lesson, _, version = self._lesson_in(found["rest"])
                return _clean(found["student"]), found["id"], lesson, version
        lesson, rest, version = self._lesson_in(name)
        return _clean(rest), "", lesson, version

    def _lesson_in(self, name: str) -> tuple[str, str, int]:
        """(lesson, what else the name says, number of the copy); the lesson is "" when the name tells none."""
        for patterns in _PATTERNS:
            for stem in self.lessons:
                if found := re.search(patterns(stem), name, re.IGNORECASE):
                    before, after = name[: found.start()], name[found.end() :]
                    copy = _COPY.match(after)
                    number = int(copy["a"] or copy["b"] or copy["c"] or 1) if copy else 0
                    return stem, f"{before.rstrip(_SEPARATORS)} {'' if copy else after.strip(_SEPARATORS)}", number
        return "", name, 0

    def _lesson_by_content(self, leaf: Leaf) -> str:
        """The lesson most of whose functions a file defines, as far as its text tells without being read as a submission."""
        if leaf not in self.said:
            if self.numbers is None:
                self.numbers = exercise_lessons()
            counts: dict[str, int] = {}
            for name in _defined(leaf):
                if number := self.numbers.get(name):
                    counts[number] = counts.get(number, 0) + 1
            best = max(sorted(counts), key=lambda number: counts[number], default="")
            self.said[leaf] = next((stem for stem in self.lessons if best and stem.startswith(f"{best}_")), "")
        return self.said[leaf]


_PATTERNS: tuple[Callable[[str], str], ...] = (
    lambda stem: rf"(?<![a-z0-9])0*{int(stem[:2])}[-_ .]+{stem[3:].replace('_', '[-_ .]*')}(?![a-z0-9])",
    lambda stem: rf"(?<![a-z0-9])lesson[-_ ]*0*{int(stem[:2])}(?![0-9])",
    lambda stem: rf"(?<![a-z0-9]){stem[3:].replace('_', '[-_ .]*')}(?![a-z0-9])",
)


class _ZipError(Exception):
    pass


def _member_bytes(path: Path, member: zipfile.ZipInfo) -> bytes:
    """A file inside a zip file, read no further than a submission may be large: what the archive says of sizes may be a lie."""
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        out = io.BytesIO()
        while out.tell() <= MAX_FILE and (block := file.read(2**20)):
            out.write(block)
        return out.getvalue()


def _defined(leaf: Leaf) -> set[str]:
    """The names of the functions in a file; none when it cannot be read."""
    if leaf.size > MAX_FILE:
        return set()
    try:
        content = leaf.content().replace(b"\0", b"")  # UTF-16 has one beside each letter
    except Exception:  # zip files alone fail in five ways; what is wrong is told when the submission is graded
        return set()
    return {name.decode("ascii", "replace") for name in _DEFINED.findall(content)}


def _only_dotted(name: str) -> bool:
    """Whether only a dot hides a submission; ``._name`` is what macOS puts beside each file."""
    return (
        name.startswith(".")
        and not name.startswith(("._", ".~"))
        and name.lower().endswith((*SUFFIXES, ".zip"))
        and bool(name.lstrip(".").rpartition(".")[0])
    )


def _hidden(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in _SKIPPED


def _clean(name: str) -> str:
    """A student's name without what no table can show."""
    text = unicodedata.normalize("NFC", name)
    text = "".join(character for character in text if character.isprintable())
    return " ".join(text.split()).strip(" _-.")[:100].strip()


def _without_pairs(leaves: list[Leaf]) -> list[Leaf]:
    """Of a notebook and a Python file with one name in one folder, the notebook."""
    notebooks = {(*leaf.parts[:-1], leaf.stem) for leaf in leaves if leaf.is_notebook}
    return [leaf for leaf in leaves if leaf.is_notebook or (*leaf.parts[:-1], leaf.stem) not in notebooks]


def _notebooks_first(leaves: list[Leaf]) -> list[Leaf]:
    """The notebooks; where there are none, the Python files."""
    return [leaf for leaf in leaves if leaf.is_notebook] or list(leaves)
