"""`pytest --submission PATH`: one test item for each case of each exercise, judged as `mmrec-teach grade` judges.

    pytest --submission hw.ipynb                       one submission
    pytest --submission class/ --lesson 01 -n 2        everybody's
    pytest --submission hw.ipynb -k bpr_loss -x --junitxml=report.xml

Students' code runs in a sandbox; pytest never imports a submission, nor a ``conftest.py``. Settings and plug-ins, however, are
read from where pytest is started: start it in a folder of your own, not in a student's.

Without ``--submission`` this plug-in does nothing, and imports nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mmrec_teach.classroom.plan import Plan, Task
    from mmrec_teach.classroom.roster import Entry, Roster
    from mmrec_teach.grading.submission import Submission
    from mmrec_teach.grading.verdict import Verdict

_WALLS = ("bubblewrap", "landlock", "limits")  # as in the sandbox, which is not imported before it is needed


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plug-in."""
    group = parser.getgroup("mmrec_teach", "submissions to a lesson (mmrec_teach)")
    group.addoption("--submission", metavar="PATH", help="judge this notebook, Python file, or folder of a class")
    group.addoption("--lesson", action="append", metavar="LESSON", help="which lesson it is, e.g. 01 (found by itself)")
    group.addoption("--isolation", choices=_WALLS, help="the wall around students' code (default: the strongest there is)")
    group.addoption("--salt", type=int, default=0, metavar="N", help="your own number behind the random cases")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """With a submission, no conftest.py is run: it could be a student's."""
    known = early_config.known_args_namespace
    if getattr(known, "submission", None):
        known.noconftest = True


def pytest_configure(config: pytest.Config) -> None:
    """With a submission, take collecting over."""
    if config.getoption("submission", None):
        config.option.noconftest = True
        config.pluginmanager.register(Submissions(config), "mmrec_teach_submissions")


class Submissions:
    """What this plug-in does when there is a submission to judge."""

    def __init__(self, config: pytest.Config):
        from mmrec_teach.classroom.plan import choose_plan, load_plans
        from mmrec_teach.classroom.roster import find_submissions
        from mmrec_teach.errors import InputError

        self.wall: str | None = config.getoption("isolation")
        self.salt: int = config.getoption("salt")
        try:
            self.plans: dict[str, Plan] = load_plans()
            lessons = config.getoption("lesson") or []
            wanted = [choose_plan(name, self.plans).lesson for name in lessons] or None
            path = config.invocation_params.dir / config.getoption("submission")
            self.roster: Roster = find_submissions(path, list(self.plans), wanted)
        except InputError as error:
            raise pytest.UsageError(str(error)) from None

        from mmrec_teach.grading.sandbox import wall_problem  # imports torch, which takes seconds

        if self.wall and (problem := wall_problem(self.wall)):
            raise pytest.UsageError(f"--isolation {self.wall}: cannot be used here ({problem}).")

    def pytest_report_header(self) -> list[str]:
        """Which submissions, and behind which wall."""
        from mmrec_teach.grading.sandbox import WORDS, strongest_wall

        wall, why = (self.wall, "") if self.wall else strongest_wall()
        count = len(self.roster.entries)
        lines = [f"submissions: {count} ({', '.join(sorted({entry.lesson for entry in self.roster.entries})) or 'none'})"]
        lines.append(f"isolation: {WORDS[wall]}" + (f" ({why})" if why else ""))
        return [*lines, *self.roster.notes]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Collect the submissions and nothing else; pytest itself would look for Python tests in students' folders."""
        config = session.config
        if config.pluginmanager.hasplugin("dsession"):  # pytest-xdist: its workers collect
            return None
        session.items = items = [item for collector in self._collectors(session) for item in session.genitems(collector)]
        config.hook.pytest_collection_modifyitems(session=session, config=config, items=items)
        config.hook.pytest_collection_finish(session=session)
        session.testscollected = len(items)
        return True

    def _collectors(self, session: pytest.Session) -> Iterator[pytest.Collector]:
        for entry in self.roster.entries:
            yield SubmissionFile.from_parent(
                session, name=entry.file, nodeid=entry.file, path=entry.path, entry=entry, submissions=self
            )
        for about, sentence in self.roster.problems.items():
            yield Unusable.from_parent(session, name=about, nodeid=about, path=session.path, sentence=sentence)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """The cases of one exercise go to one process, which judges it once."""
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import LoadScopeScheduling

        return LoadScopeScheduling(config, log)

    def pytest_unconfigure(self) -> None:
        """End the sandbox."""
        from mmrec_teach.classroom.worker import close_sandboxes

        close_sandboxes()


class SubmissionFile(pytest.Collector):
    """A submission; its exercises."""

    def __init__(self, *, entry: Entry, submissions: Submissions, **named: Any):
        super().__init__(**named)
        self.entry, self.submissions = entry, submissions
        self._read: Submission | None = None
        self._told: dict[str, str] = {}  # what cannot be judged at all, by its sentence → the case that said so

    @property
    def submission(self) -> Submission:
        """What was handed in; read once."""
        if self._read is None:
            self._read = self.entry.read()
        return self._read

    def once(self, sentence: str, case: str) -> str:
        """The sentence, the first time; then where it was said."""
        first = self._told.setdefault(sentence, case)
        return sentence if first == case else f"see {first}"

    def collect(self) -> Iterable[pytest.Collector]:
        """One collector for each exercise of the lesson."""
        for task in self.submissions.plans[self.entry.lesson].tasks:
            yield ExerciseNode.from_parent(self, name=task.name, task=task)


class ExerciseNode(pytest.Collector):
    """An exercise of a submission; judged when its first case is asked for."""

    def __init__(self, *, task: Task, **named: Any):
        super().__init__(**named)
        self.task = task
        self.notes: list[str] = []
        self._verdict: Verdict | None = None

    def collect(self) -> Iterable[pytest.Item]:
        """One item for each case and rule."""
        from mmrec_teach.grading.exercise import find_exercise

        seen: Counter[str] = Counter()
        for index, (name, group) in enumerate(find_exercise(self.task.name).result_names()):
            seen[name] += 1
            shown = name if seen[name] == 1 else f"{name} ({seen[name]})"
            yield CaseItem.from_parent(self, name=shown, index=index, group=group)

    @property
    def verdict(self) -> Verdict:
        """The verdict on this exercise."""
        if self._verdict is None:
            from mmrec_teach.classroom.worker import sandbox
            from mmrec_teach.grading.exercise import find_exercise
            from mmrec_teach.grading.submission import grade_submission

            file = self.parent
            assert isinstance(file, SubmissionFile)
            box = sandbox(file.submissions.wall)
            graded = grade_submission(file.submission, [find_exercise(self.name)], box, salt=file.submissions.salt)
            self._verdict = graded.verdicts[self.name]
            self.notes = list(dict.fromkeys((*graded.notes, *self._verdict.notes)))
        return self._verdict


class NotPassedError(Exception):
    """A case does not hold; the message is for the learner."""


class CaseItem(pytest.Item):
    """One case of one exercise."""

    def __init__(self, *, index: int, group: str, **named: Any):
        super().__init__(**named)
        self.index = index
        self.group = group
        exercise = self.parent
        assert isinstance(exercise, ExerciseNode)
        file = exercise.parent
        assert isinstance(file, SubmissionFile)
        self.exercise, self.file = exercise, file
        self.user_properties += [
            ("student", file.entry.student),
            ("lesson", file.entry.lesson),
            ("exercise", exercise.name),
            ("group", group),
            ("points", exercise.task.points),
        ]

    def runtest(self) -> None:
        """Fail with the case's sentence unless it holds."""
        verdict = self.exercise.verdict
        if not any(name == "score" for name, _ in self.user_properties):
            self.user_properties.append(("score", round(self.exercise.task.points * verdict.credit, 2)))
        if self.exercise.notes:
            self.add_report_section("call", "notes", "\n".join(self.exercise.notes))
        if not verdict.cases:
            raise NotPassedError(self.file.once(verdict.advice or "Not written yet.", f"{self.exercise.name}: {self.name}"))
        case = verdict.cases[self.index]
        if not case.passed:
            raise NotPassedError("\n".join(text for text in (case.message, verdict.advice) if text))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        """The sentence alone; anything else is a fault of the grader, and shown whole."""
        if isinstance(excinfo.value, NotPassedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        """How reports call this item."""
        return self.path, None, f"{self.file.name}: {self.exercise.name}: {self.name}"


class Unusable(pytest.Collector):
    """A submission that cannot be judged before somebody acts."""

    def __init__(self, *, sentence: str, **named: Any):
        super().__init__(**named)
        self.sentence = sentence

    def collect(self) -> Iterable[pytest.Item]:
        """One item, which fails."""
        yield UnusableItem.from_parent(self, name="can be graded")


class UnusableItem(pytest.Item):
    """Fails with the sentence on why there is nothing to judge."""

    def runtest(self) -> None:
        """Fail."""
        assert isinstance(self.parent, Unusable)
        raise NotPassedError(self.parent.sentence)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        """The sentence alone."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, None, str]:
        """How reports call this item."""
        return self.path, None, str(self.parent.name if self.parent else self.name)
