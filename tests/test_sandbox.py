"""The sandbox: what crosses its wire, autograd through it, limits, restarts, and the same verdict behind every wall."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import zipfile

import numpy as np
import psutil
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmrec_teach.errors import OptionError
from mmrec_teach.grading import sandbox as sandbox_module
from mmrec_teach.grading.child import jail, wire
from mmrec_teach.grading.child.telling import LearnerError
from mmrec_teach.grading.exercise import load_exercises
from mmrec_teach.grading.sandbox import WALLS, Limits, Sandbox, strongest_wall, wall_problem
from mmrec_teach.grading.submission import grade_submission, read_submission
from mmrec_teach.grading.watch import Effort
from tests.toy_course import ROOT

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", params=WALLS)
def anywhere(request):
    if problem := wall_problem(request.param):
        if request.param == "bubblewrap" and os.environ.get("MMREC_TEACH_REQUIRE_BROWSER") == "1":
            pytest.fail(problem)
        pytest.skip(problem)
    with Sandbox(request.param) as box:
        yield box


@pytest.fixture(scope="module")
def box():
    with Sandbox() as box:
        yield box


def function(box: Sandbox, source: str, name: str = "f"):
    session = box.open([source], name)
    assert not session.problem, session.problem
    return session.function


# -- the wire ---------------------------------------------------------------------------------------------------------------
scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats() | st.text(max_size=20)
keys = st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8)
arrays = hnp.arrays(
    st.sampled_from(["f4", "f8", "f2", "i1", "i4", "i8", "u1", "u8", "?", "c8", ">f4"]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)
values = st.recursive(
    scalars | arrays | st.frozensets(keys, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def same(one, other) -> bool:
    if type(one) is not type(other):
        return False
    if type(one) is np.ndarray:
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other or (one != one and other != other)


@FEW
@given(values)
def test_values_cross_exactly(value):
    assert same(wire.unpack(wire.pack(value)), value)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_tensors_cross_exactly(dtype, shape):
    tensor = torch.ones(shape, dtype=dtype)
    tensor = tensor.requires_grad_(dtype.is_floating_point)
    found = wire.unpack(wire.pack({"x": [tensor.T if tensor.ndim == 2 else tensor]}))["x"][0]
    assert (found.dtype, found.shape, found.requires_grad) == (
        dtype,
        tensor.T.shape if tensor.ndim == 2 else shape,
        tensor.requires_grad,
    )
    assert torch.equal(found, tensor.T if tensor.ndim == 2 else tensor)


def test_sparse_matrices_and_generators_cross():
    matrix = scipy.sparse.random(5, 4, 0.5, format="coo", rng=np.random.default_rng(0))
    found = wire.unpack(wire.pack(matrix))
    assert scipy.sparse.issparse(found)
    assert np.array_equal(found.toarray(), matrix.toarray())
    csr = torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse_csr()
    assert torch.equal(wire.unpack(wire.pack(csr)).to_dense(), csr.to_dense())
    one, other = np.random.default_rng(7), np.random.default_rng(7)
    other.random(3), one.random(3)
    assert wire.unpack(wire.pack(one)).random() == other.random()
    one, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    torch.rand(3, generator=one), torch.rand(3, generator=other)
    assert torch.equal(torch.rand(4, generator=wire.unpack(wire.pack(one))), torch.rand(4, generator=other))
    scalar = wire.unpack(wire.pack(np.float32(1.5)))
    assert type(scalar) is np.float32
    assert scalar == 1.5


class Lying(float):
    def __repr__(self):
        return "0.0"


@pytest.mark.parametrize(
    "value",
    [Lying(1), np.zeros(2).view(np.recarray), object(), 10**30, np.array([{}], dtype=object), {(1, 2): 3}, {(1, 2)}],
    ids=lambda value: type(value).__name__,
)
def test_other_things_cross_as_a_name_alone(value):
    assert type(wire.unpack(wire.pack([value]))[0]) is wire.Opaque


def test_what_is_too_large_or_too_deep_is_not_packed():
    deep: list = []
    deep.append(deep)
    for value in (deep, np.zeros(wire.MAX_BYTES // 8 + 1), [np.zeros(1)] * (wire.MAX_ARRAYS + 1), [["x" * 50_000]] * 200):
        with pytest.raises(wire.WireError):
            wire.pack(value)


SAMPLE = wire.pack(
    {
        "a": [1, 2.5, "x", np.arange(6.0), torch.ones(2, 3)],
        "b": scipy.sparse.eye_array(3).tocsr(),
        "c": np.random.default_rng(0),
    }
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=6), st.sampled_from(["put", "cut", "add"]))
def test_a_broken_message_gives_a_wire_error_or_a_value_and_nothing_else(place, rubbish, how):
    broken = {
        "put": SAMPLE[:place] + rubbish + SAMPLE[place + len(rubbish) :],
        "cut": SAMPLE[:place],
        "add": SAMPLE[:place] + rubbish + SAMPLE[place:],
    }[how]
    try:
        wire.unpack(broken)
    except wire.WireError:
        assert True
    else:
        assert how != "cut"


def archive(tree: str, *arrays: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as file:
        file.writestr("tree.json", tree)
        for index, array in enumerate(arrays):
            file.writestr(f"{index}.npy", array)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SCIPY = '{"as": "scipy", "shape": [2, 3], "arrays": [0, 1, 2]}'
CSR = SCIPY.replace("scipy", "csr")
HOSTILE = {
    "empty": b"",
    "no tree": archive("1")[:-22],
    "compressed": archive('{"str": "' + "x" * 10**6 + '"}', how=zipfile.ZIP_DEFLATED),
    "a large directory": b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 46 * 65535, 0, 0),
    "tree of lists": archive('{"list": ' * 100 + "[]" + "}" * 100),
    "tree too deep for the parser": archive("[" * 10**5),
    "tree too large": archive('{"list": [' + "null," * 2_000_000 + "null]}"),
    "raw list": archive("[1]"),
    "raw string": archive('"float"'),
    "raw float": archive("1.5"),
    "large int": archive(str(2**63)),
    "huge int": archive("9" * 5000),
    "float of a list": archive('{"float": []}'),
    "string of a number": archive('{"str": 5}'),
    "unhashable": archive('{"set": [{"list": []}]}'),
    "tuple as a key": archive('{"dict": [[{"tuple": []}, 1]]}'),
    "array as a key": archive('{"dict": [[{"as": "scalar", "array": 0}, 1]]}', npy(np.arange(1))),
    "no such array": archive('{"as": "numpy", "array": 3}'),
    "no such form": archive('{"as": "module"}'),
    "objects": archive('{"as": "numpy", "array": 0}', npy(np.array(["x"]))),
    "records": archive('{"as": "numpy", "array": 0}', npy(np.zeros(2, "i4,f4"))),
    "short array": archive('{"as": "numpy", "array": 0}', npy(np.arange(9))[:-8]),
    "header that lies": archive('{"as": "numpy", "array": 0}', npy(np.arange(9)).replace(b"(9,)", b"(9999999,)")),
    "indices beyond the columns": archive(SCIPY, npy(np.array([0, 1, 1])), npy(np.array([10**9])), npy(np.ones(1))),
    "indices below zero": archive(SCIPY, npy(np.array([0, 1, 1])), npy(np.array([-9])), npy(np.ones(1))),
    "pointers that go back": archive(SCIPY, npy(np.array([0, 5, 1])), npy(np.array([0])), npy(np.ones(1))),
    "torch indices beyond": archive(CSR, npy(np.array([0, 1, 1])), npy(np.array([10**9])), npy(np.ones(1))),
    "generator's state": archive('{"as": "torch-generator", "array": 0}', npy(np.zeros(5056, np.uint8))),
    "numpy generator's state": archive('{"as": "numpy-generator", "state": ["-1", "0", "0", "0"]}'),
    "tensor of a strange type": archive('{"as": "tensor", "array": 0}', npy(np.zeros(2, ">f8"))),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_hostile_messages_are_refused(message):
    with pytest.raises(wire.WireError):
        wire.unpack(message)


def test_truth_values_are_true_or_false_and_text_can_be_written():
    odd = npy(np.zeros(4, bool)).replace(b"\n\0\0\0\0", b"\n\0\1\2\xff")
    found = wire.unpack(archive('{"as": "numpy", "array": 0}', odd))
    assert found.view(np.uint8).tolist() == [0, 1, 1, 1]
    assert wire.unpack(archive('{"str": "\\ud800"}')).encode() == b"?"


def test_a_length_beyond_all_bounds_is_not_waited_for():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack(">Q", 2**62))
        with pytest.raises(wire.WireError, match="too large"):
            wire.receive(ours)


# -- calling ----------------------------------------------------------------------------------------------------------------
def test_gradients_through_the_process(anywhere):
    f = function(anywhere, "def f(a, b, unused):\n    return {'sum': (a * b).sum(), 'pair': (a ** 2, [b.exp(), 3])}\n")
    a, b, unused = (
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([0.5, -1.0], requires_grad=True),
        torch.ones(2, requires_grad=True),
    )
    answer = f(a, b, unused)
    assert type(answer["pair"]) is tuple
    assert answer["pair"][1][1] == 3
    total = answer["sum"] + answer["pair"][0].sum() + 2 * answer["pair"][1][0].sum()
    found = torch.autograd.grad(total, (a, b, unused), allow_unused=True)
    assert torch.allclose(found[0], b + 2 * a)
    assert torch.allclose(found[1], a + 2 * b.exp())
    assert found[2] is None
    again = f(a, b, unused)
    (slope,) = torch.autograd.grad(again["sum"], a)
    assert torch.allclose(slope, b)


def test_an_answer_off_the_graph_has_no_gradient(box):
    f = function(box, "def f(a):\n    return a.detach() * 2\n")
    assert not f(torch.ones(2, requires_grad=True)).requires_grad


def test_changes_in_place_are_seen(anywhere):
    f = function(anywhere, "def f(a, b, parts):\n    a += 1\n    b[0] = 7\n    parts[1].zero_()\n    return 0\n")
    a, b, parts = torch.zeros(2), np.zeros(2), [torch.ones(1), torch.ones(1)]
    f(a, b, parts)
    assert a.tolist() == [1, 1]
    assert b.tolist() == [7, 0]
    assert [part.item() for part in parts] == [1, 0]
    with pytest.raises(LearnerError, match="in place"):
        function(anywhere, "def f(a):\n    a.unsqueeze_(0)\n")(torch.zeros(2))


def test_generators_and_sparse_inputs(box):
    f = function(
        box,
        "import torch\ndef f(g, n, m, t):\n    return torch.rand(2, generator=g), n.random(), m @ [1.0, 1.0], t @ torch.ones(2)\n",
    )
    matrix = scipy.sparse.csr_array(np.array([[1.0, 2.0], [0.0, 3.0]]))
    sparse = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).to_sparse_csr()
    drawn, number, product, other = f(torch.Generator().manual_seed(3), np.random.default_rng(4), matrix, sparse)
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(3)))
    assert number == np.random.default_rng(4).random()
    assert product.tolist() == [3, 3]
    assert other.tolist() == [3, 3]


def test_effort_is_counted_in_the_other_process(box):
    f = function(box, "import torch\ndef f(x, n):\n    for _ in range(n):\n        x = x + 1\n    return torch.outer(x, x)\n")
    with Effort() as effort:
        f(torch.ones(30), 5)
        f(torch.ones(30), 5)
    assert effort.calls == 12
    assert effort.largest == 900
    assert effort.seconds >= 0


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("raise ValueError('no')", "exception", "ValueError: no, at your line 2"),
        ("raise NotImplementedError('write me')", "blank", "write me"),
        ("while True: pass", "timeout", "at your line 2"),
        ("import os; os._exit(3)", "crash", "exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "crash", "SIGSEGV"),
        ("from mmrec_teach import ops; return ops.x()", "borrowed", "write the answer yourself"),
        ("raise ValueError('a\\x1b[2Jb\\u202ec\\ud800')", "exception", "a [2Jb c"),
    ],
)
def test_what_goes_wrong_is_told(body, kind, words):
    with Sandbox(limits=Limits(call=0.3, loading=2, grace=0.5)) if kind == "timeout" else Shared() as box:
        f = function(box, f"def f():\n    {body}\n")
        with pytest.raises(LearnerError) as caught:
            f()
    assert caught.value.kind == kind
    assert words in caught.value.message
    assert caught.value.message.isprintable()


_SHARED: list[Sandbox] = []


class Shared:
    def __enter__(self):
        if not _SHARED:
            _SHARED.append(Sandbox())
        return _SHARED[0]

    def __exit__(self, *_):
        return None


@pytest.fixture(scope="module", autouse=True)
def _close_shared():
    yield
    while _SHARED:
        _SHARED.pop().close()


# -- limits and walls -------------------------------------------------------------------------------------------------------
def test_limits_scale_with_the_machine_and_never_shrink():
    limits = Limits(call=2, loading=4, total=10, clock=20, memory=5, disk=6, grace=1)
    assert limits.scaled(3) == Limits(call=6, loading=12, total=30, clock=60, memory=5, disk=6, grace=3)
    assert limits.scaled(0.1) == limits


def test_the_calibration_sets_the_limits(monkeypatch):
    monkeypatch.setattr(sandbox_module, "REFERENCE_CALIBRATION", 1e-5)
    with Sandbox("limits", Limits(call=1.0)) as box:
        box.start()
        assert box.factor > 10
        assert box.limits.call == pytest.approx(box.factor)


def test_unknown_walls_and_absent_ones_are_told(monkeypatch):
    with pytest.raises(OptionError, match="unknown wall"):
        Sandbox("castle")
    monkeypatch.setattr(sandbox_module.shutil, "which", lambda name: None)
    assert "apt install bubblewrap" in wall_problem("bubblewrap")
    with pytest.raises(OptionError, match="cannot be used here"):
        Sandbox("bubblewrap")


def test_the_strongest_wall_that_works_is_taken(monkeypatch):
    for broken, chosen in ((set(), "bubblewrap"), ({"bubblewrap"}, "landlock"), ({"bubblewrap", "landlock"}, "limits")):
        strongest_wall.cache_clear()
        monkeypatch.setattr(sandbox_module, "wall_problem", lambda wall, broken=broken: f"no {wall}" if wall in broken else "")
        assert strongest_wall() == (chosen, "; ".join(f"no {wall}" for wall in WALLS if wall in broken))
        assert Sandbox().wall == chosen
    strongest_wall.cache_clear()


def test_a_warm_process_that_dies_is_replaced(anywhere):
    assert function(anywhere, "def f():\n    return 1\n")() == 1
    before = anywhere._process.pid
    os.killpg(before, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(before)], timeout=5)
    f = function(anywhere, "def f():\n    return 2\n")
    assert f() == 2
    assert anywhere._process.pid != before


def test_it_dies_in_the_middle_of_a_call(box):
    f = function(box, "def f():\n    return 1\n")
    f()
    os.killpg(box._process.pid, signal.SIGKILL)
    with pytest.raises(LearnerError):
        [f() for _ in range(100)]
    assert function(box, "def f():\n    return 3\n")() == 3


def test_sleeping_counts():
    with Sandbox(limits=Limits(call=1.0, clock=0.3)) as box:
        f = function(box, "import time\ndef f():\n    time.sleep(0.15)\n    return 1\n")
        with pytest.raises(LearnerError, match="took too long"):
            [f() for _ in range(10)]


def test_a_session_ends_with_its_process(box):
    f = function(box, "kept = []\ndef f():\n    kept.append(1)\n    return len(kept)\n")
    assert (f(), f()) == (1, 2)
    assert function(box, "kept = []\ndef f():\n    kept.append(1)\n    return len(kept)\n")() == 1


@pytest.mark.parametrize(("folder", "deserved"), [("solutions", 1.0), ("lessons", 0.0)])
def test_every_wall_gives_the_same_verdict(anywhere, folder, deserved):
    exercises = [one for one in load_exercises().values() if one.lesson == "01"]
    graded = grade_submission(read_submission(ROOT / folder / "01_bpr.ipynb"), exercises, anywhere)
    assert {verdict.credit for verdict in graded.verdicts.values()} == {deserved}
    with Shared() as other:
        reference = grade_submission(read_submission(ROOT / folder / "01_bpr.py"), exercises, other)
    assert {name: (v.status, v.cases, v.advice) for name, v in graded.verdicts.items()} == {
        name: (v.status, v.cases, v.advice) for name, v in reference.verdicts.items()
    }


def test_the_filter_knows_its_architectures():
    for machine, architecture in enumerate(jail._ARCHITECTURES.values()):
        program = jail._program(machine, architecture)
        steps = [struct.unpack("<HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
        assert steps[-1] == (0x06, 0, 0, 0x7FFF0000), "what is not denied is allowed"
        for at, (code, if_true, if_false, _) in enumerate(steps):
            if code & 0x07 == 0x05:
                assert at + 1 + max(if_true, if_false) < len(steps)
