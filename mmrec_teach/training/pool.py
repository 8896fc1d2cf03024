"""Worker processes that may be killed: a job whose worker dies goes to a fresh one, and the others never notice.

``concurrent.futures`` gives up a whole pool when one worker dies; here each worker has its own pipe, so it is known which job was
lost. Workers ignore Ctrl-C (the terminal sends it to all at once); the parent tells them to stop, and they stop as if
interrupted, so that a job can save what it has.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmrec_teach.errors import MMRecTeachError

STOP_SECONDS = 20.0  # what a worker gets to save its state
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Done:
    """A job that ended: its number, what it returned, or one sentence on why there is nothing."""

    job: int
    result: Any = None
    error: str = ""


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    job: int | None = None


def sentence_of(error: BaseException) -> str:
    """Return one sentence on an exception: the message alone where it was written for readers."""
    if isinstance(error, MMRecTeachError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" (in {Path(last[0].filename).name} line {last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


def run_jobs(
    function: Callable[..., Any], shared: Any, jobs: Sequence[Any], *, processes: int, threads: int = 1, tries: int = 3
) -> Iterator[Done]:
    """Call ``function(shared, job)`` for every job in ``processes`` processes; yield a :class:`Done` as each ends.

    Args:
        function: importable by name; it gets KeyboardInterrupt where the caller leaves before all jobs are done.
        shared: what every job needs; written to a file once, read by each worker once.
        jobs: small, picklable.
        processes: workers, at most as many as jobs.
        threads: what numerical libraries may use in each worker.
        tries: a job whose worker died so many times is given up.
    """
    waiting, attempts = deque(range(len(jobs))), [0] * len(jobs)
    with tempfile.TemporaryDirectory(prefix="mmrec-pool-") as folder:
        file = Path(folder) / "shared.pickle"
        file.write_bytes(pickle.dumps((function, shared), protocol=pickle.HIGHEST_PROTOCOL))
        workers: list[_Worker] = []
        try:
            while waiting or any(worker.job is not None for worker in workers):
                while waiting:
                    idle = next((worker for worker in workers if worker.job is None), None)
                    if idle is None and len(workers) < processes:
                        idle = _start(file, threads)
                        workers.append(idle)
                    if idle is None or not _hand_out(idle, waiting[0], jobs[waiting[0]]):
                        break
                    waiting.popleft()
                yield from _collect(workers, waiting, attempts, tries)
        finally:
            _stop(workers)


def _hand_out(worker: _Worker, number: int, job: Any) -> bool:
    try:
        worker.pipe.send((number, job))
    except OSError:  # it died idle: its sentinel says so next
        return False
    worker.job = number
    return True


def _collect(workers: list[_Worker], waiting: deque[int], attempts: list[int], tries: int) -> Iterator[Done]:
    """Wait until something happens; yield what was done, and put lost jobs first in the queue again."""
    ready = wait([*(worker.pipe for worker in workers), *(worker.process.sentinel for worker in workers)])
    for worker in list(workers):
        message = None
        if worker.pipe in ready:
            with suppress(EOFError, OSError):
                message = worker.pipe.recv()
        if message is not None:
            number, worker.job = worker.job, None
            yield Done(number, *message)
        elif worker.pipe in ready or worker.process.sentinel in ready:
            workers.remove(worker)
            worker.process.join()
            worker.pipe.close()
            if worker.job is None:
                continue
            attempts[worker.job] += 1
            if attempts[worker.job] < tries:
                waiting.appendleft(worker.job)
            else:
                code = worker.process.exitcode
                how = f"was killed by signal {-code}" if code and code < 0 else f"ended with status {code}"
                memory = "; there may be too little memory for so many processes" if code == -signal.SIGKILL else ""
                yield Done(worker.job, None, f"Its process {how}, {tries} times over{memory}.")


def _start(file: Path, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(str(file), theirs), daemon=True, name="sweep worker")
    with _no_interrupts(), _environment(threads):
        process.start()
    theirs.close()
    return _Worker(process, mine)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait until a child has started; it comes when the block ends.

    The signal is blocked, which the child inherits: it must not die of it while it still imports. And Python's own answer waits
    too: another thread may receive the signal, and an exception between two halves of a start leaves a child without its orders.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()  # signals are answered there alone
    answer = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if main else None
    resource_tracker.ensure_running()  # starting it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if answer is not None:
            signal.signal(signal.SIGINT, answer)
            if came:
                signal.raise_signal(signal.SIGINT)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update({name: str(threads) for name in THREAD_VARIABLES})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.job is None:
            worker.pipe.close()  # it waits for the next job, reads the end, and leaves
        else:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


# -- in the worker -------------------------------------------------------------------------------------------------------
def _serve(file: str, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_leave_with_parent, args=(Path(file).parent,), daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own would be shared by processes, and left behind by a killed one
    try:
        function, shared = pickle.loads(Path(file).read_bytes())
        while True:
            _, job = pipe.recv()
            try:
                answer = (function(shared, job), "")
            except Exception as error:
                answer = (None, sentence_of(error))
            pipe.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # told to stop, or nobody is left to tell


def _interrupt(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what it saves now must be saved whole
    raise KeyboardInterrupt


def _leave_with_parent(folder: Path) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)  # it was killed, or it would have done so
        os.kill(os.getpid(), signal.SIGTERM)
