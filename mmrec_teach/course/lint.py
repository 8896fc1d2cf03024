"""The linter of lessons: what an author can get wrong in a master, found before a learner meets it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mmrec_teach.course.build import differences
from mmrec_teach.course.master import BEGIN, Exercise, Master, load_masters
from mmrec_teach.errors import InputError
from mmrec_teach.grading.engine import grade
from mmrec_teach.grading.exercise import load_exercises

LONGEST_CELL = 45
MIN_WRONGS = 2


def lint(root: Path) -> list[str]:
    """All complaints about the masters in ``root/solutions`` and the files made from them; empty when all is well.

    Checks: front matter; cells no longer than a screen; exercise ids unique, with title, points, minutes, difficulty and three
    hints; a check cell for each; hidden cases with wrong solutions; the stub fails, the solution passes, every wrong solution
    is refused; nothing of a solution left in a blank; generated files up to date.
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
    return complaints + differences(root)


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
    if not re.search(r"\d+ minutes", matter):
        out.append("the front matter does not say how many minutes the lesson takes")
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
        solution = grade(hidden, defined_function(master, exercise, solved=True))
        if not solution:
            out.append(f"refuses its own solution:\n{solution}")
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
    from mmrec_teach.course.master import read_percent

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
