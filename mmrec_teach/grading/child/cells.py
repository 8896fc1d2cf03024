"""Which statements of a submission an exercise needs, and running those alone.

A notebook is a pile of cells that may have run in any order, may fail, may train for an hour. To judge one function only its own
definition is needed, and whatever its body names, and whatever that names in turn. The rest is never run.
"""

from __future__ import annotations
import __future__ as future_features

import ast
import builtins
import difflib
import dis
import linecache
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

if __package__ == "child":  # inside the sandbox
    from child.away import Away
    from child.patience import OutOfTimeError, time_limit
else:
    from mmrec_teach.grading.child.away import Away
    from mmrec_teach.grading.child.patience import OutOfTimeError, time_limit

_SHELL = "pip|conda|mamba|ls|cd|pwd|mkdir|cat|rm|cp|mv"  # IPython runs these without a mark
_MAGIC = re.compile(rf"^(?P<indent>\s*)(?:[%!?].*|[^#'\"]*\?{{1,2}}\s*|(?:{_SHELL})(?:\s.*)?)$")
_TIMED = re.compile(r"^(?P<indent>\s*)%time\s+(?P<rest>[^-\s].*)$")
_ASSIGNED_MAGIC = re.compile(r"^(?P<target>\s*[\w, .\[\]]+?=)\s*[%!].*$")
MOST_MAGICS = 200  # of a cell, looked at one by one
_PYTHON_CELLS = ("time", "timeit", "capture", "prun")


@dataclass
class Statement:
    """One top-level statement: where it stands, which names it binds, which it needs when it runs and when it is called."""

    cell: int
    node: ast.stmt
    binds: set[str]
    needs: set[str]


@dataclass
class Slice:
    """What of a submission one exercise needs.

    Attributes:
        name: the exercise, and the name of its function.
        statements: to run, in the order of the submission.
        source: the text of the function's definition, dedented; "" when it is missing.
        problem: why there is nothing to judge; "" when there is.
        notes: things a teacher or learner may want to know.
    """

    name: str
    statements: list[Statement] = field(default_factory=list)
    source: str = ""
    problem: str = ""
    notes: list[str] = field(default_factory=list)


class Pile:
    """The cells of a submission, parsed.

    Args:
        cells: their texts, in the order of the file.
    """

    def __init__(self, cells: list[str]):
        self.cells = [_plain_python(text) for text in cells]
        self.ignored_magics = sum(count for _, count in self.cells)
        self.broken: dict[int, str] = {}
        self.statements: list[Statement] = []
        self.flags = 0
        for index, (text, _) in enumerate(self.cells):
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                line = getattr(error, "lineno", None)
                words = getattr(error, "msg", None) or str(error) or type(error).__name__
                self.broken[index] = f"{words}{f' in its line {line}' if line else ''}"
                continue
            for node in tree.body:
                if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                    for alias in node.names:
                        self.flags |= getattr(getattr(future_features, alias.name, None), "compiler_flag", 0)
                    continue
                try:
                    self.statements.append(Statement(index, node, set(_bound(node)), set(_needed(node, self.flags))))
                except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                    self.broken[index] = getattr(error, "msg", None) or str(error) or type(error).__name__
        self.binders: dict[str, list[Statement]] = {}
        for statement in self.statements:
            for name in statement.binds:
                self.binders.setdefault(name, []).append(statement)

    def slice(self, name: str) -> Slice:
        """What the function ``name`` needs."""
        found = Slice(name)
        if self.ignored_magics:
            found.notes.append(f"{_lines(self.ignored_magics)} starting with % or ! ignored.")
        if name not in self.binders:
            found.problem = self._missing(name)
            return found
        wanted: list[Statement] = []
        open_names, seen_names, taken = [name], {name}, set()
        while open_names:
            current = open_names.pop()
            if current not in self.binders:
                wanted += [one for one in self._stars() if id(one) not in taken]
                taken |= {id(one) for one in self._stars()}
            for statement in self.binders.get(current, []):
                if id(statement) in taken:
                    continue
                taken.add(id(statement))
                wanted.append(statement)
                for needed in statement.needs - seen_names:
                    if needed in self.binders or not hasattr(builtins, needed):
                        seen_names.add(needed)
                        open_names.append(needed)
        order = {id(statement): place for place, statement in enumerate(self.statements)}
        found.statements = sorted(wanted, key=lambda statement: order[id(statement)])
        last = self.binders[name][-1]
        found.source = self._text(last)
        if self.broken:
            where = ", ".join(f"code cell {index + 1} ({why})" for index, why in list(self.broken.items())[:3])
            found.notes.append(f"Left out, because it is not Python: {where}.")
        return found

    def _stars(self) -> list[Statement]:
        return [
            one
            for one in self.statements
            if isinstance(one.node, ast.ImportFrom) and any(a.name == "*" for a in one.node.names)
        ]

    def _text(self, statement: Statement) -> str:
        node = statement.node
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        lines = self.cells[statement.cell][0].split("\n")[first - 1 : node.end_lineno]
        return textwrap.dedent("\n".join(lines)).strip()

    def _missing(self, name: str) -> str:
        for index, why in self.broken.items():
            if re.search(rf"^\s*def\s+{re.escape(name)}\b", self.cells[index][0], re.M):
                return f"the cell that defines `{name}` (code cell {index + 1}) is not Python: {why}."
        functions = [
            one.node.name
            for one in self.statements
            if isinstance(one.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        near = difflib.get_close_matches(name, functions, n=1, cutoff=0.6)
        if near:
            return f"there is no `{name}`; there is `{near[0]}`. The name must stay as it was given."
        return f"there is no `{name}` in this submission."

    def run(self, found: Slice, seconds: float) -> tuple[Any, list[str]]:
        """Run what a slice needs and return the function (None when it could not be made), and notes on what failed.

        Args:
            found: of this pile.
            seconds: CPU time all of it may take.
        """
        namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        notes: list[str] = []
        failed: dict[str, str] = {}
        try:
            with time_limit(seconds):
                for statement in found.statements:
                    if (problem := self._execute(statement, namespace)) is not None:
                        said = f"code cell {statement.cell + 1}: `{self._first_line(statement)}` failed ({problem})"
                        notes.append(said[0].upper() + said[1:] + ".")
                        failed.update(dict.fromkeys(statement.binds, said))
        except OutOfTimeError:
            notes.append(f"The code before `{found.name}` that it needs was stopped after {seconds:g} seconds.")
        function = namespace.get(found.name)
        if function is None or isinstance(function, Away):
            why = failed.get(found.name) or (notes[-1].rstrip(".") if notes else "")
            found.problem = f"`{found.name}` could not be defined" + (f": {why}." if why else ".")
            return None, notes
        if not callable(function):
            found.problem = f"`{found.name}` is of type {type(function).__name__}, not a function."
            return None, notes
        return function, notes

    def _execute(self, statement: Statement, namespace: dict[str, Any]) -> str | None:
        """Run one statement; what it raised, in a few words."""
        filename = f"<submission cell {statement.cell + 1}>"
        text = self.cells[statement.cell][0]
        linecache.cache[filename] = (len(text), None, [line + "\n" for line in text.split("\n")], filename)
        try:
            code = compile(ast.Module([statement.node], []), filename, "exec", flags=self.flags, dont_inherit=True)
            exec(code, namespace)
        except OutOfTimeError:
            raise
        except BaseException as error:
            try:
                words = str(error).splitlines()[0][:200] if str(error) else ""
            except Exception:
                words = ""
            return f"{type(error).__name__}: {words}".rstrip(": ")
        return None

    def _first_line(self, statement: Statement) -> str:
        line = self.cells[statement.cell][0].split("\n")[statement.node.lineno - 1].strip()
        return line if len(line) <= 80 else line[:77] + "…"


def _lines(count: int) -> str:
    return "One line" if count == 1 else f"{count} lines"


def _plain_python(text: str) -> tuple[str, int]:
    """A cell without what only IPython understands, its lines still in their places; and how many lines were dropped."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    lines = text.split("\n")
    first = next((index for index, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return text, 0
    count = 0
    if lines[first].startswith("%%"):
        if lines[first][2:].split(maxsplit=1)[:1] not in [[word] for word in _PYTHON_CELLS]:
            return "\n" * (len(lines) - 1), 1
        lines[first] = ""
        count += 1
    # Only lines that Python stumbles over: a line beginning with % may also go on with an expression, or stand in a string.
    for _ in range(MOST_MAGICS):
        bad = _stumble("\n".join(lines))
        if bad is None or bad >= len(lines) or not _without_magic(lines, bad):
            break
        count += 1
    else:
        bad = 0
    if bad is not None:  # Python names another line than the magic one at times
        for index, line in enumerate(lines):
            if line.lstrip().startswith(("%", "!", "?")) or _ASSIGNED_MAGIC.match(line):
                count += _without_magic(lines, index)
    return "\n".join(lines), count


def _stumble(text: str) -> int | None:
    """Index of the line that is not Python; None when all is."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        return max((error.lineno or 1) - 1, 0)
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def _without_magic(lines: list[str], index: int) -> bool:
    """Replace one line that IPython would take for itself by Python; False when it is none."""
    line = lines[index]
    if timed := _TIMED.match(line):
        lines[index] = timed["indent"] + timed["rest"]
    elif assigned := _ASSIGNED_MAGIC.match(line):
        lines[index] = f"{assigned['target']} None"
    elif magic := _MAGIC.match(line):
        lines[index] = f"{magic['indent']}pass"
    else:
        return False
    while line.endswith("\\") and index + 1 < len(lines) and not timed:
        index += 1
        line, lines[index] = lines[index], ""
    return True


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names a top-level statement binds or changes: assigned, imported, defined; ``x[i] = …``, ``x.a = …``, ``x += …``, too."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in _own_nodes(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del):
            yield inner.id
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            for alias in inner.names:
                yield (alias.asname or alias.name).split(".")[0]
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store):
            base = inner.value
            while isinstance(base, ast.Attribute | ast.Subscript):
                base = base.value
            if isinstance(base, ast.Name):
                yield base.id
        elif isinstance(inner, ast.ExceptHandler) and inner.name:
            yield inner.name


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, except what stands inside a function, class, lambda or comprehension."""
    yield node
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield inner
        elif not isinstance(inner, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            yield from _own_nodes(inner)


def _needed(node: ast.stmt, flags: int) -> Iterator[str]:
    """Every global name a statement reads, now or when a function it defines is called; local names are not among them."""
    codes = [compile(ast.Module([node], []), "<needs>", "exec", flags=flags, dont_inherit=True)]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL", "STORE_GLOBAL"):
                yield instruction.argval
