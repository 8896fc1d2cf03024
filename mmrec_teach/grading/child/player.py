"""The process that runs students' code: warm, and forked anew for every exercise of every submission.

The warm process imports torch once and then does nothing but fork, kill and clean up on the grader's word. A fork gives up what
it may not do (see `jail`), says hello, reads the submission, and answers calls: inputs in, answer out. It holds no expected
value and no verdict, and whatever it claims about itself earns nothing. It is used for one exercise and then killed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import sys
import time
import types
from typing import Any

import numpy as np
import torch

if __package__ == "child":  # inside the sandbox
    from child import away, cells, jail, telling, wire
    from child.effort import Watch
    from child.patience import OutOfTimeError, time_limit
else:
    from mmrec_teach.grading.child import away, cells, jail, telling, wire
    from mmrec_teach.grading.child.effort import Watch
    from mmrec_teach.grading.child.patience import OutOfTimeError, time_limit

KEPT_ANSWERS = 16
_detach, _numpy, _leaf_type, _array_type = (
    torch.Tensor.detach,
    torch.Tensor.numpy,
    torch.Tensor,
    np.ndarray,
)  # before anyone patches


# -- the warm process -------------------------------------------------------------------------------------------------------
def main(options: dict[str, Any]) -> None:
    """Serve the grader until its end of the control socket closes.

    Args:
        options: ``control`` (file descriptor), ``work`` (a folder for students' files), ``see`` (folders readable under Landlock,
            None without), ``seccomp`` (bool).
    """
    control = socket.socket(fileno=options["control"])
    torch.set_num_threads(1)
    # symbolic_shapes: autograd imports it (and sympy) at its first backward pass, a quarter of a second in every child
    for module in ("pandas", "scipy.sparse", "torch.fx.experimental.symbolic_shapes"):
        with contextlib.suppress(ImportError):
            __import__(module)
    away.install()
    jail.hide_memory()
    if options["see"]:
        jail.see_only(options["see"])
    seconds = calibrate()
    gc.collect()
    gc.freeze()
    _tell(control, {"ready": True, "calibration": seconds})
    child: int | None = None
    while True:
        message, handles, _, _ = socket.recv_fds(control, 65536, 1)
        if not message:
            break
        order = json.loads(message)
        if order["op"] == "spawn":
            used = jail.address_space()
            child = os.fork()
            if child == 0:
                control.close()
                order["memory"] += used
                _be_the_student(socket.socket(fileno=handles[0]), options, order)
            os.close(handles[0])
            _tell(control, {"pid": child})
        elif order["op"] == "end":
            status = 0
            if child is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL if not order.get("gently") else 0)
                _, status = os.waitpid(child, 0)
                child = None
            _tell(control, {"status": status, "clean": _clean(options["work"])})
    if child is not None:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


def calibrate() -> float:
    """Seconds a fixed piece of work takes here and now: a little linear algebra and a Python loop, the faster of three."""
    best = float("inf")
    matrix = np.ones((160, 160))
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(20):
            matrix = matrix @ matrix / 160
        total = 0
        for number in range(100_000):
            total += number
        best = min(best, time.perf_counter() - start)
    return best


def _tell(control: socket.socket, message: dict) -> None:
    control.sendall(json.dumps(message).encode())


def _clean(folder: str) -> bool:
    """Delete what a student left; False when something resists (the grader then starts afresh)."""
    try:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    except (OSError, RecursionError):
        return False
    return True


# -- the student's process --------------------------------------------------------------------------------------------------
def _be_the_student(channel: socket.socket, options: dict[str, Any], order: dict[str, Any]) -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        keep = {0, 1, 2, channel.fileno()}
        for number in range(3, 4096):
            if number not in keep:
                with contextlib.suppress(OSError):
                    os.close(number)
        with contextlib.suppress(OSError):
            folder = os.path.join(options["work"], "here")
            os.mkdir(folder)
            os.chdir(folder)
        jail.hide_memory()
        jail.limit(order["memory"], order["cpu"], order["file_size"], threads=order["threads"])
        jail.drop_capabilities()
        if options["seccomp"]:
            jail.deny_system_calls()
        for name in [name for name in sys.modules if name.split(".")[0] == "child"]:
            del sys.modules[name]
        sys.modules["__main__"] = types.ModuleType("__main__")
        channel.sendall(b"hello")
        Student(channel, order).serve()
    except BaseException:
        os._exit(70)
    os._exit(0)


class Student:
    """Answers the grader's calls with one submission's function."""

    def __init__(self, channel: socket.socket, order: dict[str, Any]):
        self.channel = channel
        self.seconds = order["seconds"]
        self.loading = order["loading"]
        self.function: Any = None
        self.answers: dict[int, tuple[list, list]] = {}

    def serve(self) -> None:
        """Answer until the channel closes."""
        while True:
            try:
                order = wire.receive(self.channel)
            except EOFError:
                return
            try:
                reply = getattr(self, f"do_{order['op']}")(order)
            except BaseException as error:
                reply = {"error": ["exception", f"{type(error).__name__}: {error}"]}
            try:
                wire.send(self.channel, reply)
            except wire.WireError as error:
                wire.send(self.channel, {"error": ["type", f"your answer cannot be read: {error}."]})

    def do_read(self, order: dict) -> dict:
        """Parse the submission; nothing of it runs yet."""
        self.pile = cells.Pile(json.loads(bytes(order["cells"])))
        self.found = self.pile.slice(order["name"])
        return {"source": self.found.source, "problem": self.found.problem, "notes": self.found.notes}

    def do_load(self, order: dict) -> dict:
        """Run what the exercise needs."""
        self.function, notes = self.pile.run(self.found, self.loading)
        return {"problem": self.found.problem, "notes": notes[:10]}

    def do_call(self, order: dict) -> dict:
        """One call of the function."""
        given = order["given"]
        # tuples and local names: what a submission finds in this frame, it cannot rewrite
        leaves, imprint = tuple(wire.leaves(given)), _imprint
        before = tuple([imprint(leaf) for leaf in leaves])
        watch = Watch(*[leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]) if order["watch"] else None
        try:
            with time_limit(self.seconds), watch or contextlib.nullcontext():
                answer = self.function(*given, **order["named"])
        except (Exception, OutOfTimeError, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            failure = telling.told(error, self.function, self.seconds)
            return {"error": [failure.kind, failure.message]}
        made = [leaf for leaf in wire.leaves(answer) if type(leaf) is torch.Tensor and leaf.requires_grad]
        inputs = [leaf for leaf in wire.leaves(given) if type(leaf) is torch.Tensor and leaf.requires_grad]
        if made and inputs:
            self.answers[order["handle"]] = (made, inputs)
            for handle in list(self.answers)[:-KEPT_ANSWERS]:
                del self.answers[handle]
        changed, index = {}, 0
        for leaf in leaves:
            if imprint(leaf) != before[index]:
                changed[index] = leaf
            index += 1  # noqa: SIM113 - enumerate could be replaced
        reply = {"answer": answer, "changed": changed}
        if watch is not None:
            reply.update(calls=watch.count, largest=watch.numel)
        return reply

    def do_slope(self, order: dict) -> dict:
        """The gradient of an earlier answer: the product of its Jacobian with the given vectors."""
        made, inputs = self.answers[order["handle"]]
        with time_limit(self.seconds):
            slopes = torch.autograd.grad(made, inputs, order["vectors"], allow_unused=True, retain_graph=True)
        return {"slopes": [None if slope is None else slope.detach() for slope in slopes]}


def _imprint(leaf: Any) -> Any:
    """What an input holds, as bytes: nothing that a student could have replaced compares them."""
    if type(leaf) is _array_type:
        return leaf.shape, leaf.dtype.str, leaf.tobytes()
    if type(leaf) is torch.Generator:  # meant to be used up: the grader's own is moved on as far
        return _imprint(leaf.get_state().numpy())
    if type(leaf) is np.random.Generator:
        return repr(leaf.bit_generator.state)
    if type(leaf) is not _leaf_type:
        return None
    parts = [leaf] if leaf.layout == torch.strided else [leaf.crow_indices(), leaf.col_indices(), leaf.values()]
    return [_imprint(_numpy(_detach(part))) for part in parts]
