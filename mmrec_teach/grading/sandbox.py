"""Run a submission's functions in a process of their own, behind the strongest wall this machine has.

`Sandbox` is one warm process (`child/player.py`) behind a wall; `Sandbox.open` forks it for one exercise of one submission and
gives a `Session`, whose ``function`` is called like the learner's own: arrays cross as npz, exceptions come back as
`LearnerError`, autograd works through it. Limits are kept from this side, where a student's code cannot reach.

The walls, strongest first:

- ``bubblewrap``: Linux name spaces. No network, no other process in sight, Python's own folders read-only and nothing else but an
  empty, small folder of its own; and the system-call filter of the next.
- ``landlock``: a plain process that may open nothing but Python's own folders, write nowhere, start nothing, reach no network and
  signal nobody (Landlock and seccomp; Linux 5.13 or newer).
- ``limits``: a plain process with limits on memory, CPU and files. It keeps accidents away, not a determined cheat.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmrec_teach.errors import OptionError
from mmrec_teach.grading.child import jail, patience, wire
from mmrec_teach.grading.child.telling import LearnerError, too_slow
from mmrec_teach.grading.watch import watching

WALLS = ("bubblewrap", "landlock", "limits")
WORDS = {
    "bubblewrap": "bubblewrap: no network, no other process in sight, files read-only, system calls filtered",
    "landlock": "a plain process with Landlock and seccomp: no network, no file outside Python's own folders, nothing written",
    "limits": "a plain process with limits alone: keeps accidents away, but not a determined cheat",
}
REFERENCE_CALIBRATION = 0.012  # seconds that `calibrate` takes on the machine the limits were chosen on
MOST_NUMBERS = 2**24  # that a sparse answer may stand for
_OWN = "/student"  # behind bubblewrap
_CHILD = Path(__file__).resolve().parent / "child"


@dataclass(frozen=True)
class Limits:
    """What one exercise of one submission may use. Times are for a machine as fast as the one they were chosen on; see `scaled`.

    Attributes:
        call: CPU seconds of one call (and `patience.WAITING` times as many by the clock).
        loading: CPU seconds for the code that the exercise needs.
        total: CPU seconds of all calls together.
        clock: seconds by the clock that all calls together may be waited for.
        memory: bytes beyond what Python and torch take.
        disk: bytes in the folder of its own (behind bubblewrap on kernels without Landlock; elsewhere nothing may be written).
        grace: seconds beyond, in which the process itself says that it was stopped, and where; then it is killed.
    """

    call: float = patience.SECONDS
    loading: float = 10.0
    total: float = 60.0
    clock: float = 90.0
    memory: int = 1536 * 2**20
    disk: int = 64 * 2**20
    grace: float = 2.0

    def scaled(self, factor: float) -> Limits:
        """The limits for a machine that is ``factor`` times slower; never lower ones."""
        factor = max(1.0, factor)
        times = {name: getattr(self, name) * factor for name in ("call", "loading", "total", "clock", "grace")}
        return replace(self, **times)


_NOTE = re.compile(r"(?:Code cell \d+: `.*` failed \(.*\)|The code before `\w+` that it needs was stopped after .*)\.$")


class CrashedError(Exception):
    """The student's process is gone, or talks nonsense."""


@lru_cache(maxsize=1)
def strongest_wall() -> tuple[str, str]:
    """The strongest wall that works here, and why no stronger one does ("" when it is the strongest there is)."""
    why = []
    for wall in WALLS[:-1]:
        problem = wall_problem(wall)
        if not problem:
            return wall, "; ".join(why)
        why.append(problem)
    return WALLS[-1], "; ".join(why)


def wall_problem(wall: str) -> str:
    """Why a wall cannot be used here; "" when it can."""
    if wall == "bubblewrap":
        program = shutil.which("bwrap")
        if program is None:
            return "bubblewrap is not installed (Debian, Ubuntu: apt install bubblewrap)"
        command = [program, *_bubblewrap_options([], Limits().disk), "--", sys.executable, "-I", "-S", "-c", "print('in')"]
        try:
            tried = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap does not start ({error})"
        if tried.stdout.strip() != "in":
            return f"bubblewrap does not work here ({(tried.stderr.strip().splitlines() or ['no message'])[-1]})"
        return ""
    if wall == "landlock":
        if not jail.seccomp_works():
            return "this system cannot filter system calls (seccomp)"
        if jail.landlock_version() < 1:
            return "this kernel has no Landlock"
    return ""


def python_folders() -> list[str]:
    """Folders that a Python with torch needs to read: its own, those of packages, the system's libraries."""
    wanted = [sys.prefix, sys.base_prefix, sys.exec_prefix, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))]
    wanted += [entry for entry in sys.path if "-packages" in entry]
    wanted += ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"]
    real = []
    for entry in dict.fromkeys(os.path.abspath(entry) for entry in wanted if entry):
        if os.path.exists(entry) and not any(entry.startswith(other + "/") for other in real):
            real.append(entry)
    return real


def _bubblewrap_options(binds: Iterable[tuple[str, str]], disk: int) -> list[str]:
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    options += [
        "--setenv",
        "PATH",
        "/usr/bin:/bin",
        "--setenv",
        "HOME",
        _OWN,
        "--setenv",
        "TMPDIR",
        _OWN,
        "--setenv",
        "LANG",
        "C.UTF-8",
    ]
    options += ["--setenv", "OMP_NUM_THREADS", "1", "--setenv", "PYTHONDONTWRITEBYTECODE", "1"]
    for folder in python_folders():
        if os.path.islink(folder) and not os.path.isfile(folder):
            options += ["--symlink", os.readlink(folder), folder]
        else:
            options += ["--ro-bind", folder, folder]
    for own in _own_copies():
        options += ["--tmpfs", own]
    for source, target in binds:
        options += ["--ro-bind", source, target]
    # not /tmp: a virtual environment may lie there, and this folder is emptied after every student
    options += ["--proc", "/proc", "--dev", "/dev", "--size", str(disk), "--tmpfs", _OWN, "--chdir", _OWN]
    for folder in (
        "/",
        "/dev",
        *_own_copies(),
    ):  # memory as well, and without a bound: nothing is left there for the next student
        options += ["--remount-ro", folder]
    return options


def _own_copies() -> list[str]:
    """Where this package lies inside a folder that the sandbox sees: hidden there."""
    package = str(_CHILD.parents[1])
    return [package] if any(package.startswith(folder + "/") for folder in python_folders()) else []


def _landlock_folders(child_home: str, work: str) -> list[str]:
    """As `python_folders`, but with the course's package (and a checkout around it) left out."""
    out = ["/dev/null", "/dev/urandom", "/dev/zero", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"]
    for folder in python_folders():
        out += _without(folder, str(_CHILD.parents[1]))
    return [*out, child_home, work]


def _without(folder: str, hidden: str) -> list[str]:
    """``folder``, or its entries one by one where something in it is hidden."""
    if folder == hidden:
        return []
    if not hidden.startswith(folder + "/") or not os.path.isdir(folder):
        return [folder]
    return [path for entry in sorted(os.listdir(folder)) for path in _without(os.path.join(folder, entry), hidden)]


class Sandbox:
    """One warm process behind a wall. Use as a context manager, or `close` it.

    Args:
        wall: one of `WALLS`; None takes the strongest that works here.
        limits: for a fast machine; scaled by how fast this one is found to be.
    Attributes:
        wall: the one in use.
        factor: how many times slower than the reference this machine is; at least 1.
        limits: scaled by it.
    Raises:
        OptionError: an unknown wall, or one that does not work here.
    """

    def __init__(self, wall: str | None = None, limits: Limits | None = None):
        if wall is not None and wall not in WALLS:
            raise OptionError("unknown wall", where="isolation", found=wall, expected=", ".join(WALLS))
        if wall is not None and (problem := wall_problem(wall)):
            raise OptionError(f"the wall {wall!r} cannot be used here", found=problem, fix="Leave the choice to the grader")
        self.wall = wall or strongest_wall()[0]
        self._wanted = limits or Limits()
        self.limits, self.factor = self._wanted, 1.0
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._session: Session | None = None
        self._folder: str | None = None
        atexit.register(self.close)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def start(self) -> None:
        """Start the warm process; takes seconds, because torch is imported. Does nothing when it runs already."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._folder = tempfile.mkdtemp(prefix="mmrec-sandbox-")
        work = _OWN if self.wall == "bubblewrap" else os.path.join(self._folder, "work")
        ours, theirs = socket.socketpair()
        options = {"control": theirs.fileno(), "work": work, "see": None, "seccomp": jail.seccomp_works()}
        code = (
            "import sys, json, os; o = json.loads(sys.argv[1]); os.makedirs(o['work'], exist_ok=True); "
            "sys.path.insert(0, sys.argv[2]); from child.player import main; main(o)"
        )
        if self.wall == "bubblewrap":
            home = "/player"
            command = [
                str(shutil.which("bwrap")),
                *_bubblewrap_options([(str(_CHILD), "/player/child")], self.limits.disk),
                "--",
            ]
            environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
            if jail.landlock_version() > 0:
                options["see"] = ["/", "/dev/null"]  # all of this small world, and nothing of it to be written
        else:
            home = os.path.join(self._folder, "player")
            shutil.copytree(_CHILD, os.path.join(home, "child"), ignore=shutil.ignore_patterns("__pycache__"))
            command = []
            environment = {"PATH": "/usr/bin:/bin", "HOME": work, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
            if self.wall == "landlock":
                options["see"] = _landlock_folders(home, work)
        command += [sys.executable, "-I", "-c", code, json.dumps(options), home]
        try:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, cwd="/", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        finally:
            theirs.close()
        self._control = ours
        try:
            ready = self._ask(None, 300)
        except CrashedError as error:
            said = self._last_words()
            self.close()
            raise OptionError(
                f"the process for students' code does not start behind the wall {self.wall!r}",
                found=said or str(error),
                fix="Run `mmrec-teach doctor`, or choose another wall",
            ) from error
        self.factor = max(1.0, ready["calibration"] / REFERENCE_CALIBRATION)
        self.limits = self._wanted.scaled(self.factor)

    def open(self, cells: list[str], name: str) -> Session:
        """A fresh process for the exercise ``name`` of the submission ``cells``; the one before is ended."""
        if self._session is not None:
            self._session.close()
        try:
            self.start()
            self._session = Session(self, cells, name)
        except CrashedError:  # the warm process itself is gone: once more from the beginning
            self.close()
            self.start()
            self._session = Session(self, cells, name)
        return self._session

    def close(self) -> None:
        """End the warm process and everything it started."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stderr:
                self._process.stderr.close()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._session = None

    # -- talking to the warm process
    def _spawn(self, channel: socket.socket) -> None:
        limits = self.limits
        order = {
            "op": "spawn", "memory": limits.memory, "cpu": limits.loading + limits.total + 5, "seconds": limits.call,
            "loading": limits.loading, "file_size": limits.disk // 4 if self.wall == "bubblewrap" else 0,
            "threads": 256 if self.wall == "bubblewrap" else 0,
        }  # fmt: skip
        self._ask(order, 60, channel)

    def _end(self) -> int:
        """End the student's process; its exit status. A warm process that is gone, or cannot clean up, is replaced later."""
        try:
            said = self._ask({"op": "end"}, 60)
        except CrashedError:
            said = {"status": 0, "clean": False}
        if not said["clean"]:
            self.close()
        return int(said["status"])

    def _ask(self, order: dict | None, seconds: float, channel: socket.socket | None = None) -> dict:
        if self._control is None:
            raise CrashedError("not started")
        try:
            if order is not None:
                message = json.dumps(order).encode()
                socket.send_fds(self._control, [message], [channel.fileno()] if channel is not None else [])
            if not select.select([self._control], [], [], seconds)[0]:
                raise CrashedError("no answer")
            reply = self._control.recv(65536)
        except OSError as error:
            raise CrashedError(str(error)) from error
        if not reply:
            raise CrashedError("gone")
        return json.loads(reply)

    def _last_words(self) -> str:
        if self._process is None or self._process.stderr is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            return ""
        return (self._process.stderr.read().decode(errors="replace").strip().splitlines() or [""])[-1]


class Session:
    """One exercise of one submission in a process of its own.

    Attributes:
        source: the text of the function's definition.
        problem: why there is no function to call; "" when there is one.
        notes: what a learner or teacher may want to know.
        function: to be called like the learner's own.
    """

    def __init__(self, sandbox: Sandbox, cells: list[str], name: str):
        self._sandbox, self._cells, self._name = sandbox, cells, name
        self._channel: socket.socket | None = None
        self._pid = 0
        self._spent = self._waited = 0.0
        self._handles = 0
        self.source, self.problem, self.notes = "", "", []
        self.function = RemoteFunction(self)
        self._begin()

    def _begin(self) -> None:
        limits = self._sandbox.limits
        if self._waited > limits.clock:
            raise LearnerError("timeout", "not tried: the calls before it took too long.")
        self._sandbox.start()
        ours, theirs = socket.socketpair()
        with contextlib.suppress(OSError, AttributeError):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sandbox._spawn(theirs)
        theirs.close()
        self._channel = ours
        try:
            self._pid = _hello(ours)
            cells = np.frombuffer(json.dumps(self._cells).encode(), np.uint8)
            read = self._exchange({"op": "read", "cells": cells, "name": self._name}, limits.loading)
            self.source = read["source"] if type(read.get("source")) is str else ""
            self.problem, self.notes = _told(read)
            if not self.problem:
                self.problem, notes = _told(self._exchange({"op": "load"}, limits.loading))
                self.notes += [note[:400] for note in notes if _NOTE.match(note)]  # told after the student's code has run
        except LearnerError as error:
            self._stop()
            self.problem = f"`{self._name}` could not be defined: {error.message}"

    def close(self) -> None:
        """End the process."""
        if self._channel is not None:
            self._stop()

    def _stop(self) -> int:
        self._spent += self._cpu()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        return self._sandbox._end()

    def call(self, given: list[Any], named: dict[str, Any]) -> Any:
        """Call the function; see `RemoteFunction`."""
        if self._channel is None:
            if self.problem:
                raise LearnerError("exception", self.problem)
            self._begin()
            if self.problem:
                raise LearnerError("exception", self.problem)
        limits = self._sandbox.limits
        # sleeping costs no CPU time, so the clock is looked at as well
        if self._spent + self._cpu() > limits.total + limits.loading or self._waited > limits.clock:
            raise LearnerError("timeout", "not tried: the calls before it took too long.")
        self._handles += 1
        efforts = watching()
        before = self._cpu()
        order = {"op": "call", "given": given, "named": named, "handle": self._handles, "watch": bool(efforts)}
        reply = self._exchange(order, limits.call)
        seconds = self._cpu() - before
        for effort in efforts:
            effort.add(_count(reply.get("calls")), _count(reply.get("largest")), seconds)
        _write_back(given, reply.get("changed"))
        _refuse_giants(reply.get("answer"))
        return _with_slopes(reply.get("answer"), given, self, self._handles)

    def slopes(self, handle: int, vectors: list[torch.Tensor]) -> list:
        """Gradients of an earlier answer (autograd's backward pass)."""
        if self._channel is None:
            raise LearnerError("crash", "the function's process has ended; its gradient cannot be asked for.")
        reply = self._exchange({"op": "slope", "handle": handle, "vectors": vectors}, self._sandbox.limits.call)
        return reply.get("slopes") if type(reply.get("slopes")) is list else []

    def _exchange(self, order: dict, cpu: float) -> dict:
        """Send an order and wait for the reply, no longer than the limits allow; LearnerError when none comes."""
        assert self._channel is not None
        start = time.monotonic()
        grace = self._sandbox.limits.grace
        left = max(0.0, self._sandbox.limits.clock - self._waited)
        deadline = start + min(cpu * patience.WAITING, left) + 1.5 * grace
        most = self._cpu() + cpu + grace
        try:
            self._channel.settimeout(deadline - start)
            wire.send(self._channel, order)
            reply = wire.receive(self._channel, lambda count: self._read(count, deadline, most))
            if type(reply) is not dict:
                raise wire.WireError("the reply is not what was asked for")
        except TimeoutError:
            self._stop()
            raise too_slow(cpu) from None
        except wire.WireError as error:
            self._stop()
            raise LearnerError("crash", f"your answer cannot be read: {error}.") from None
        except (EOFError, OSError):
            raise LearnerError("crash", _why_it_ended(self._stop())) from None
        finally:
            self._waited += time.monotonic() - start
        if "error" in reply:
            raise _learner_error(reply["error"])
        return reply

    def _read(self, count: int, deadline: float, most: float) -> bytes:
        assert self._channel is not None
        parts = bytearray()
        while len(parts) < count:
            if time.monotonic() > deadline or self._cpu() > most:
                raise TimeoutError
            if not select.select([self._channel], [], [], 0.1)[0]:
                continue
            part = self._channel.recv(min(count - len(parts), 2**20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _cpu(self) -> float:
        """CPU seconds of the student's process, asked of the kernel and not of the process; 0 where the system does not tell."""
        if self._channel is None or not self._pid:
            return 0.0
        try:
            return time.clock_gettime(((~self._pid) << 3) | 2)
        except (OSError, AttributeError, OverflowError):
            return 0.0


class RemoteFunction:
    """Called like the learner's function: arguments go to its process, the answer comes back.

    Tensors that require a gradient get one: the backward pass runs in the learner's process. Inputs that the function changed are
    changed here as well. Raises `LearnerError` when there is no answer.
    """

    remote = True

    def __init__(self, session: Session):
        self._session = session

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._session.call(list(given), named)


class _Slopes(torch.autograd.Function):
    """The learner's function as a step of this process's autograd."""

    @staticmethod
    def forward(ctx: Any, session: Session, handle: int, made: tuple, *inputs: torch.Tensor) -> tuple:
        ctx.session, ctx.handle = session, handle
        ctx.shapes = [(tensor.shape, tensor.dtype) for tensor in inputs]
        return tuple(tensor.clone() for tensor in made)

    @staticmethod
    def backward(ctx: Any, *vectors: torch.Tensor) -> tuple:
        slopes = ctx.session.slopes(ctx.handle, [vector.contiguous() for vector in vectors])
        slopes = slopes if len(slopes) == len(ctx.shapes) else [None] * len(ctx.shapes)
        sound = [
            slope if type(slope) is torch.Tensor and (slope.shape, slope.dtype) == wanted else None
            for slope, wanted in zip(slopes, ctx.shapes, strict=True)
        ]
        return (None, None, None, *sound)


def _with_slopes(answer: Any, given: list[Any], session: Session, handle: int) -> Any:
    """The answer with its tensors joined to this process's autograd graph."""
    inputs = [leaf for leaf in wire.leaves(given) if type(leaf) is torch.Tensor and leaf.requires_grad]
    made = [leaf for leaf in wire.leaves(answer) if type(leaf) is torch.Tensor and leaf.requires_grad]
    if not made or not inputs:
        return _mapped(answer, lambda leaf: leaf.detach() if type(leaf) is torch.Tensor else leaf)
    joined = iter(_Slopes.apply(session, handle, tuple(leaf.detach() for leaf in made), *inputs))
    return _mapped(answer, lambda leaf: next(joined) if type(leaf) is torch.Tensor and leaf.requires_grad else leaf)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_mapped(part, change) for part in value)
    if type(value) is dict:
        return {key: _mapped(part, change) for key, part in value.items()}
    return change(value)


def _write_back(given: list[Any], changed: Any) -> None:
    """Change the inputs here as the function changed them there, so that the judge sees it."""
    leaves = wire.leaves(given)
    for index, now in changed.items() if type(changed) is dict else ():
        if type(index) is not int or not 0 <= index < len(leaves):
            continue
        leaf = leaves[index]
        if type(leaf) is type(now) is torch.Generator:
            leaf.set_state(now.get_state())
            continue
        if type(leaf) is type(now) is np.random.Generator:
            leaf.bit_generator.state = now.bit_generator.state
            continue
        same = type(leaf) is type(now) and getattr(now, "shape", None) == getattr(leaf, "shape", 0) and now.dtype == leaf.dtype
        if same and type(leaf) is torch.Tensor and leaf.layout == now.layout == torch.strided:
            with torch.no_grad():
                leaf.copy_(now)
        elif same and type(leaf) is np.ndarray:
            leaf[...] = now
        else:
            raise LearnerError("mutation", "your function changes one of its inputs in place; work on a copy.")


def _learner_error(found: Any) -> LearnerError:
    kinds = ("exception", "timeout", "blank", "mutation", "borrowed", "type")
    if type(found) is list and [type(part) for part in found] == [str, str] and found[0] in kinds:
        return LearnerError(found[0], _printable(found[1]))
    return LearnerError("crash", "your answer cannot be read: the reply is not what was asked for.")


def _told(reply: dict) -> tuple[str, list[str]]:
    """The problem and the notes of a reply, whatever it holds."""
    problem, notes = reply.get("problem"), reply.get("notes")
    notes = [_printable(note) for note in notes if type(note) is str] if type(notes) is list else []
    return _printable(problem) if type(problem) is str else "its process does not answer as it should.", notes[:12]


def _printable(text: str) -> str:
    """Text of the student's process, bounded, without characters that command a terminal or turn the line around."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:2000])


def _refuse_giants(answer: Any) -> None:
    """A sparse matrix may stand for more numbers than the judge's memory holds."""
    for leaf in wire.leaves(answer):
        sparse = type(leaf).__module__.startswith("scipy.sparse") or (
            type(leaf) is torch.Tensor and leaf.layout != torch.strided
        )
        if sparse and math.prod(leaf.shape) > MOST_NUMBERS:
            raise LearnerError("type", f"your answer is a sparse matrix of shape {tuple(leaf.shape)}: far too large.")


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _why_it_ended(status: int) -> str:
    if (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL) or not status:
        return "the function ended the Python process, or was stopped for using too much memory or time."
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"the function crashed the Python process ({name})."
    return f"the function ended the Python process (exit status {os.WEXITSTATUS(status)})."


def _hello(channel: socket.socket) -> int:
    """Wait for a fresh process's hello; its process id as seen from here, attached by the kernel (0 where it attaches none)."""
    if not select.select([channel], [], [], 60)[0]:
        raise CrashedError("the student's process does not start")
    message, ancillary, _, _ = channel.recvmsg(5, 256)
    if message != b"hello":
        raise CrashedError("the student's process does not start")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == getattr(socket, "SCM_CREDENTIALS", 2) and len(content) >= 4:
            return int.from_bytes(content[:4], sys.byteorder)
    return 0
