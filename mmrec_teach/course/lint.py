"""The linter of lessons: what an author can get wrong in a master, found before a learner meets it."""

from __future__ import annotations

import ast
import builtins
import functools
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmrec_teach.course.build import differences
from mmrec_teach.course.master import BEGIN, Exercise, Master, load_masters, read_percent
from mmrec_teach.errors import InputError
from mmrec_teach.grading.child.cells import Pile
from mmrec_teach.grading.engine import grade
from mmrec_teach.grading.exercise import load_exercises

if TYPE_CHECKING:
    from nbformat import NotebookNode

LONGEST_CELL = 45
IN_EVERY_CELL = ("display", "get_ipython", "__name__", "__builtins__")
MIN_WRONGS = 4
LESSON_SECONDS = 120


def lint(root: Path) -> list[str]:
    """All complaints about the masters in ``root/solutions`` and the files made from them; empty when all is well.

    Checks: front matter; cells no longer than a screen; exercise ids unique, with title, points, minutes, difficulty and three
    hints; points that add up and minutes that fit; names used only after they are defined, solved and blank; a check cell for
    each exercise; cases with wrong solutions; the stub fails, the solution passes, every wrong solution is refused; a docstring
    on every exercise and on whatever is public in the package beside the course; nothing of a solution left in a blank;
    generated files up to date.
    """
    complaints: list[str] = []
    seen: dict[str, str] = {}
    for master in load_masters(root):
        try:
            complaints += lint_master(master)
            for exercise in master.exercises:
                if exercise.id in seen:
                    complaints.append(f"{master.path.name}: exercise {exercise.id} is also in {seen[exercise.id]}")
                seen[exercise.id] = master.path.name
        except InputError as error:
            complaints.append(str(error))
    return [*complaints, *docstring_complaints(root / "mmrec_teach"), *differences(root)]


def lint_master(master: Master) -> list[str]:
    """The complaints about one master by itself."""
    name = master.path.name
    out = [f"{name}: {complaint}" for complaint in front_matter_complaints(master)]
    for number, cell in enumerate(master.notebook.cells, start=1):
        lines = cell.source.count("\n") + 1
        if lines > LONGEST_CELL:
            out.append(f"{name}: cell {number} has {lines} lines; a screen holds {LONGEST_CELL}")
    code = "\n".join(cell.source for cell in master.notebook.cells if cell.cell_type == "code")
    for exercise in master.exercises:
        out += [f"{name}: exercise {exercise.id} {complaint}" for complaint in exercise_complaints(master, exercise, code)]
    out += [f"{name}: {line!r} of a solution is still in the blank" for line in leaks(master)]
    solved = order_complaints(master.notebook)
    out += [f"{name}: {line}" for line in solved]
    blank = order_complaints(read_percent(master.blank, where=name))
    out += [f"{name}: in the blank, {line}" for line in blank if line not in solved]
    return out


def front_matter_complaints(master: Master) -> list[str]:
    """What the top of a lesson lacks: `# NN · title`, and a line with minutes, prerequisites and "after this you can"."""
    out = []
    if "formats: ipynb,py:percent" not in master.text:
        out.append("the header lacks `formats: ipynb,py:percent`")
    if "kernelspec" not in master.text:
        out.append("the header lacks a kernelspec")
    first = master.notebook.cells[0] if master.notebook.cells else None
    if first is None or first.cell_type != "markdown" or not re.match(rf"# {master.number} · \S", first.source):
        return [*out, f"the first cell is not a title, `# {master.number} · …`"]
    matter = first.source.lower()
    minutes, points = re.search(r"(\d+) minutes", matter), re.search(r"(\d+) points?\b", matter)
    needed = sum(exercise.minutes for exercise in master.exercises)
    worth = sum(exercise.points for exercise in master.exercises)
    if minutes is None:
        out.append("the front matter does not say how many minutes the lesson takes")
    elif needed > int(minutes[1]):
        out.append(f"the exercises take {needed} minutes, and the lesson has {minutes[1]}")
    if points is None:
        out.append(f'the front matter does not say what the exercises are worth ("{worth} points")')
    elif int(points[1]) != worth:
        out.append(f"the front matter says {points[1]} points, and the exercises are worth {worth}")
    if "after this you can" not in matter:
        out.append('the front matter does not say "after this you can …"')
    if "needs" not in matter:
        out.append('the front matter does not say what the lesson needs ("needs lesson 01", "needs nothing")')
    return out


def exercise_complaints(master: Master, exercise: Exercise, code: str) -> list[str]:
    """What is wrong with one exercise; runs its stub, its solution and its wrong solutions."""
    out = []
    if len(exercise.hints) != 3 or not all(hint.strip() for hint in exercise.hints):
        out.append(f"has {len(exercise.hints)} hints; three are wanted")
    for key in ("title", "points", "minutes", "difficulty"):
        if not getattr(exercise, key):
            out.append(f"lacks {key}")
    if not exercise.solutions:
        out.append("has no solution region")
    if not re.search(rf"""check\(\s*["']{re.escape(exercise.id)}["']""", code):
        out.append(f'is never checked: add a cell with check("{exercise.id}")')
    hidden = load_exercises().get(exercise.id)
    if hidden is None:
        return [*out, f"has no cases in grading/exercises/lesson_{master.number}.py"]
    if hidden.lesson != master.number:
        out.append(f"belongs to lesson {hidden.lesson} in grading/exercises")
    try:
        stub = grade(hidden, defined_function(master, exercise, solved=False))
        if stub.status != "blank":
            out.append(f"has a stub that is {stub.status}; it must raise NotImplementedError")
        function = defined_function(master, exercise, solved=True)
        solution = grade(hidden, function)
        if not solution:
            out.append(f"refuses its own solution:\n{solution}")
        if not (getattr(function, "__doc__", None) or "").strip():
            out.append("has no docstring: it says what comes in and what is wanted")
    except Exception as error:  # the lesson's code is being executed: report, whatever it raises
        out.append(f"cannot be run on its own: {type(error).__name__}: {error}")
    if len(hidden.wrongs) < MIN_WRONGS:
        out.append(f"has {len(hidden.wrongs)} wrong solutions; at least {MIN_WRONGS} are wanted")
    out += [f"accepts the wrong solution {name!r}" for name, wrong in hidden.wrongs.items() if grade(hidden, wrong)]
    return out


def defined_function(master: Master, exercise: Exercise, *, solved: bool) -> object:
    """The exercise's function as the lesson defines it.

    Only imports, functions, classes and plain constants are executed (earlier exercises solved), so nothing is loaded or trained.
    With ``solved=False`` the exercise's own cell is the blank one.

    Raises:
        InputError: the cell does not define a function of the exercise's name. Whatever the lesson's code raises is passed on.
    """
    namespace: dict[str, object] = {"__name__": "__lesson__"}
    cells = master.notebook.cells[: exercise.cell + 1]
    if not solved:
        cells = [*cells[:-1], read_percent(master.blank, where=master.path.name).cells[exercise.cell]]
    for number, cell in enumerate(cells, start=1):
        if cell.cell_type != "code":
            continue
        source = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!")))
        for node in filter(_is_definition, ast.parse(source).body):
            try:
                exec(compile(ast.Module([node], []), f"{master.path.name} cell {number}", "exec"), namespace)
            except NameError:
                # a definition that needs the lesson's data where it stands (a default, say); only the exercise's own must do without
                if number == len(cells):
                    raise
    if exercise.id not in namespace:
        raise InputError(f"the cell does not define `{exercise.id}`", where=f"{master.path.name}, cell {exercise.cell + 1}")
    return namespace[exercise.id]


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return True
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)


def order_complaints(notebook: NotebookNode) -> list[str]:
    """Names that a cell reads and no earlier cell, import or builtin defines: the lesson would not run from top to bottom.

    What a function's body reads must be there by the end of the cell that defines it.
    """
    out: list[str] = []
    known = {*dir(builtins), *IN_EVERY_CELL}
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        pile = Pile([cell.source])
        if pile.broken:
            out.append(f"cell {number} is not Python: {pile.broken[0]}")
        missing: list[str] = []
        later: set[str] = set()
        for statement in pile.statements:
            if isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                later |= statement.needs
            else:
                # a loop reads the name that it binds; an assignment reads only what was there before
                own = set() if isinstance(statement.node, ast.Assign | ast.AugAssign | ast.AnnAssign) else statement.binds
                missing += sorted(statement.needs - known - own)
            known |= statement.binds
        missing += sorted(later - known)
        out += [f"cell {number} reads `{name}`, which no cell before it defines" for name in dict.fromkeys(missing)]
    return out


@functools.cache
def docstring_complaints(package: Path) -> tuple[str, ...]:
    """Public functions, classes and methods of a package without a docstring.

    A method that overrides a documented one of the package needs none: the contract stands where it is declared.

    Args:
        package: its folder; none is no complaint.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}

    def inherited(owner: ast.ClassDef, name: str, seen: frozenset[str] = frozenset()) -> bool:
        bases = [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in owner.bases]
        for base in (classes[base] for base in bases if base in classes and base not in seen):
            documented = any(getattr(one, "name", "") == name and ast.get_docstring(one) for one in _definitions(base.body))
            if documented or inherited(base, name, seen | {owner.name}):
                return True
        return False

    out = []
    for path, tree in trees.items():
        for node in _definitions(tree.body):
            inner = _definitions(node.body) if isinstance(node, ast.ClassDef) else []
            for found, owner in [(node, None), *((one, node) for one in inner)]:
                if ast.get_docstring(found) or (owner is not None and inherited(owner, found.name)):
                    continue
                name = f"{owner.name}.{found.name}" if owner is not None else found.name
                where = path.relative_to(package.parent).as_posix()
                out.append(f"{where} line {found.lineno}: {name} has no docstring")
    return tuple(out)


def _definitions(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The public functions and classes among some statements."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


@dataclass(frozen=True)
class LessonRun:
    """How the solved lesson ran from top to bottom.

    Attributes:
        stem: of the lesson.
        seconds, cpu: by the clock, and of CPU time.
        problem: the error that stopped it; "" when none did.
    """

    stem: str
    seconds: float
    cpu: float
    problem: str = ""

    @property
    def complaint(self) -> str:
        """What is wrong; "" when nothing is. A lesson is slow when the clock and the CPU say so: a busy machine is no fault of it."""
        if self.problem:
            return f"{self.stem}: does not run to its end: {self.problem}"
        if min(self.seconds, self.cpu) > LESSON_SECONDS:
            return f"{self.stem}: takes {self.seconds:.0f} s ({self.cpu:.0f} s of CPU); {LESSON_SECONDS} s are allowed"
        return ""


def run_lesson(root: Path, stem: str) -> LessonRun:
    """Execute a solved lesson in a kernel of its own and take the time."""
    import resource

    import nbclient
    import nbformat

    notebook = nbformat.read(root / "solutions" / f"{stem}.ipynb", as_version=4)
    problem = ""
    with tempfile.TemporaryDirectory(prefix="mmrec-lesson-") as folder:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        try:
            resources = {"metadata": {"path": folder}}
            nbclient.NotebookClient(notebook, timeout=5 * LESSON_SECONDS, kernel_name="python3", resources=resources).execute()
        except Exception as error:  # whatever the lesson raises, or nbclient when a cell hangs
            lines = [line for line in str(error).splitlines() if line.strip()]
            problem = lines[-1] if lines else type(error).__name__
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return LessonRun(stem, seconds, cpu, problem)


def leaks(master: Master) -> list[str]:
    """Lines of solutions that can still be read in the blank's code; lines too short to tell anything are left out."""
    outside = set()
    inside_region = False
    solution_lines = []
    for line in master.text.splitlines():
        if BEGIN.match(line):
            inside_region = True
        elif line.strip() == "### END SOLUTION":
            inside_region = False
        elif inside_region:
            solution_lines.append(_bare(line))
    for line in master.blank.splitlines():
        outside.add(_bare(line))
    telling = [line for line in solution_lines if len(line) >= 12 and not line.startswith("#")]
    return sorted({line for line in telling if line in outside})


def _bare(line: str) -> str:
    """A line without indent, trailing comment or spacing, so that a reformatted copy is still recognised."""
    return re.sub(r"\s+", "", re.sub(r"\s+#.*$", "", line))
