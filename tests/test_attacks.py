"""No attack earns a point, harms the machine or stops the class, behind every wall that works here."""

from __future__ import annotations

import ctypes
import os
import re
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest

import mmrec_teach
from mmrec_teach.grading.exercise import find_exercise
from mmrec_teach.grading.sandbox import WALLS, Limits, Sandbox, wall_problem
from mmrec_teach.grading.submission import Submission, grade_submission
from tests.attacks.table import ATTACKS, SOLVED, WRONG, Attack

ROOT = Path(__file__).resolve().parent.parent
LIMITS = Limits(call=0.4, loading=0.6, total=1.6, grace=0.2, disk=16 * 2**20)
SALT = 20261122  # the teacher's, which no student knows
SECRET = ctypes.create_string_buffer(b"SECRET of the grader")
NEGATIVES = """
import torch
def sample_negatives(users, taken, generator):
    items = torch.randint(taken.shape[1], users.shape, generator=generator)
    while (bad := taken[users, items]).any():
        items[bad] = torch.randint(taken.shape[1], (int(bad.sum()),), generator=generator)
    return items
"""


@pytest.fixture(scope="module", params=WALLS)
def sandbox(request):
    if problem := wall_problem(request.param):
        if request.param == "bubblewrap" and os.environ.get("MMREC_TEACH_REQUIRE_BROWSER") == "1":
            pytest.fail(problem)
        pytest.skip(problem)
    with Sandbox(request.param, LIMITS) as box:
        box.start()
        yield box


@pytest.fixture(scope="module")
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    path.write_text("alive")
    before = path.stat()
    yield path
    after = path.stat()
    assert path.read_text() == "alive"
    assert [entry.name for entry in tmp_path.iterdir()] == ["canary"]
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


def known_answers(groups: tuple[str, ...]) -> str:
    exercise = find_exercise("bpr_loss")
    cases = [case for case in exercise.all_cases(0) if case.group in groups]
    pairs = [(np.concatenate([case.inputs["pos"], case.inputs["neg"]]), exercise.answer(case)) for case in cases]
    return repr({tuple(round(float(np.float32(x)), 3) for x in numbers): answer for numbers, answer in pairs})


def filled_in(source: str, canary: Path, port: int) -> str:
    words = {
        "CANARY": str(canary), "PACKAGE": str(Path(mmrec_teach.__file__).parent), "ROOT": str(ROOT), "GRADER": str(os.getpid()),
        "ADDRESS": str(ctypes.addressof(SECRET)), "PORT": str(port),
    }  # fmt: skip
    if "EXAMPLES" in source or "CASES" in source:
        words |= {"EXAMPLES": known_answers(("examples",)), "CASES": known_answers(("examples", "random", "hidden"))}
    return re.sub(r"\b(" + "|".join(words) + r")\b", lambda found: words[found[0]], source)


def credit(sandbox: Sandbox, source: str, exercise: str):
    submission = Submission("attack.py", (source,))
    return grade_submission(submission, [find_exercise(exercise)], sandbox, salt=SALT).verdicts[exercise]


def running(sandbox: Sandbox) -> list[psutil.Process]:
    """Processes of students: what the warm process has started, and whatever left it and still carries its folder's name."""
    warm = sandbox._process.pid
    inside = 1 if sandbox.wall == "bubblewrap" else 0
    found = [one for one in psutil.Process(warm).children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    loose = []
    for one in psutil.process_iter(["pid", "cmdline", "status"]):
        if (
            one.info["pid"] != warm
            and one.info["status"] != psutil.STATUS_ZOMBIE
            and sandbox._folder in str(one.info["cmdline"])
        ):
            loose.append(one)
    return found[inside + (sandbox.wall == "bubblewrap") :] + loose


@pytest.mark.timeout(120)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_earns_nothing_and_harms_nobody(sandbox, attack: Attack, canary, port, monkeypatch):
    if sandbox.wall not in attack.walls:
        pytest.skip("limits alone do not promise to hold this one, or it does nothing to the machine")
    monkeypatch.setenv("SECRET", "SECRET")
    deserved = credit(sandbox, attack.honest, attack.exercise).credit if attack.honest else 0.0
    if attack.accomplice:
        credit(sandbox, attack.accomplice, attack.exercise)
    priority, files = os.getpriority(os.PRIO_PROCESS, 0), psutil.Process().num_fds()

    verdict = credit(sandbox, filled_in(attack.source, canary, port), attack.exercise)

    assert verdict.credit <= deserved, f"an attack earned {verdict.credit:.2f} points:\n{verdict}"
    assert verdict.status != "passed"
    assert "stumbled" not in verdict.advice
    assert all(text.isprintable() for text in (verdict.advice, *verdict.notes, *(case.message for case in verdict.cases)))
    assert (os.getpriority(os.PRIO_PROCESS, 0), psutil.Process().num_fds() - files < 4) == (priority, True)
    # the class goes on
    honest = NEGATIVES if attack.exercise == "sample_negatives" else SOLVED
    assert credit(sandbox, honest, attack.exercise).credit == 1.0
    assert running(sandbox) == []


def test_what_the_attacks_build_on(sandbox):
    """The wrong loss that most attacks wrap earns nothing, and the right one everything."""
    assert credit(sandbox, WRONG, "bpr_loss").credit == 0.0
    assert credit(sandbox, SOLVED, "bpr_loss").credit == credit(sandbox, NEGATIVES, "sample_negatives").credit == 1.0


def test_nothing_is_left_when_the_class_is_done(sandbox):
    folder = Path(sandbox._folder)
    warm = psutil.Process(sandbox._process.pid)
    family = [warm, *warm.children(recursive=True)]
    sandbox.close()
    assert not folder.exists()
    psutil.wait_procs(family, timeout=20)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


def test_there_are_attacks_enough():
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) >= 30
    for attack in ATTACKS:
        compile(attack.source, attack.name, "exec") if "deeply" not in attack.name and "minus" not in attack.name else None
