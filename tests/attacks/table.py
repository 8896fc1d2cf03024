# ruff: noqa: E501 - code inside code
"""The attacks: each a submission, as a student could hand it in.

Every one defines the function of an exercise of lesson 01 and deserves nothing, unless ``honest`` says what the same work
without the trick looks like. A name in capitals (``CANARY``, ``PACKAGE``, …) is replaced by a real path or number, so that an attack
knows even what no student could.
"""

from __future__ import annotations

from dataclasses import dataclass

EVERYWHERE = ("bubblewrap", "landlock", "limits")
WALLED = ("bubblewrap", "landlock")  # what limits alone do not promise to hold


@dataclass(frozen=True)
class Attack:
    """One submission. ``honest`` is the same without the trick; "" when that would earn nothing. ``accomplice`` is graded before."""

    name: str
    source: str
    walls: tuple[str, ...] = EVERYWHERE
    exercise: str = "bpr_loss"
    honest: str = ""
    accomplice: str = ""


ATTACKS: list[Attack] = []
usual = [EVERYWHERE]  # the walls of the attacks that follow, unless one names its own


def attack(name: str, source: str, **options: object) -> None:
    ATTACKS.append(Attack(name, source, **{"walls": usual[-1], **options}))  # type: ignore[arg-type]


SOLVED = "import torch\ndef bpr_loss(pos, neg):\n    return torch.nn.functional.softplus(neg - pos).mean()\n"
WRONG = "import torch\ndef bpr_loss(pos, neg):\n    return (pos - neg).mean()\n"


def doing(lines: str, answer: str = "(pos - neg).mean()") -> str:
    """A wrong bpr_loss that does something first."""
    body = "\n".join("    " + line for line in lines.strip("\n").split("\n"))
    return f"import os, sys, time, signal, ctypes, torch\nimport numpy as np\ndef bpr_loss(pos, neg):\n{body}\n    return {answer}\n"


# Code that finds the frames of whoever called it, and the socket to the grader.
FRAMES = """
frame, frames = sys._getframe(), []
while frame is not None:
    frames.append(frame)
    frame = frame.f_back
"""
SOCKET = """
import socket, struct, io, json, zipfile
channel = None
for number in range(3, 64):
    try:
        channel = socket.socket(fileno=os.dup(number))
        channel.getpeername()
        break
    except OSError:
        channel = None
def say(message):
    channel.sendall(struct.pack(">Q", len(message)) + message)
def archive(tree, arrays=(), how=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as file:
        file.writestr("tree.json", tree if isinstance(tree, (str, bytes)) else json.dumps(tree))
        for index, array in enumerate(arrays):
            file.writestr(f"{index}.npy", array)
    return buffer.getvalue()
def text(word):
    return {"str": word}
def mapping(**parts):
    return {"dict": [[text(key), part] for key, part in parts.items()]}
"""


def saying(lines: str) -> str:
    """A wrong bpr_loss that writes to the grader itself, and ends."""
    return doing(SOCKET + lines + "\nos._exit(0)")


# -- never coming back ------------------------------------------------------------------------------------------------------
attack("endless loop", doing("while True: pass"))
attack(
    "endless loop that swallows the bell",
    doing("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
)
attack("sleep", doing("time.sleep(1000)"))
attack("timers and handlers replaced", doing("""
signal.signal(signal.SIGPROF, signal.SIG_IGN); signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_PROF, 0); signal.setitimer(signal.ITIMER_REAL, 0)
while True: pass"""))  # fmt: skip
attack("one long call into compiled code", doing("np.linalg.svd(np.ones((3000, 3000)))"))
attack("a regular expression that never ends", doing("import re; re.match('(a*)*b', 'a' * 60)"))
attack("endless loop while it is defined", "def bpr_loss(pos, neg, most=[0 for _ in iter(int, 1)]):\n    return pos.mean()\n")
attack("a thread that outlives the call", doing("""
import threading
def late():
    while True: sum(range(1000))
for _ in range(4): threading.Thread(target=late, daemon=True).start()"""))  # fmt: skip
attack("a number too long to print", doing("return 10 ** 5000"))

# -- ending the process -----------------------------------------------------------------------------------------------------
attack("os._exit", doing("os._exit(0)"))
attack("os._exit while it is defined", "import os\nos = os._exit(0)\ndef bpr_loss(pos, neg):\n    return os\n")
attack("sys.exit(0)", doing("sys.exit(0)"))
attack("an exit that says it passed", doing("raise SystemExit('✓ Passed: bpr_loss (all 12 cases pass)')"))
attack("KeyboardInterrupt", doing("raise KeyboardInterrupt"))
attack("segfault", doing("ctypes.string_at(0)"))
attack("a signal without a name", doing("""
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("pad", ctypes.c_char * 48)]
event, timer = Event(None, 40, 0, b""), ctypes.c_void_p()
libc = ctypes.CDLL(None)
libc.timer_create(1, ctypes.byref(event), ctypes.byref(timer))
libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 1000000, 0, 1000000), None)
time.sleep(1)"""))  # fmt: skip
attack("deep recursion", doing("sys.setrecursionlimit(10**9)\ndeep = lambda n: deep(n + 1)\ndeep(0)"))
attack("a source nested too deeply", "def bpr_loss(pos, neg):\n    return " + "(" * 5000 + "1" + ")" * 5000 + "\n")
attack("a source of a hundred thousand minus signs", "def bpr_loss(pos, neg):\n    return " + "-" * 100_000 + "1\n")

# -- using the machine up ---------------------------------------------------------------------------------------------------
attack("fork bomb", doing("while True: os.fork()"), walls=EVERYWHERE)
attack("fork by another name", doing("""
libc = ctypes.CDLL(None)
for call in ((57,), (58,), (56, 17, 0, 0, 0, 0), (435, ctypes.create_string_buffer(88), 88)):
    if libc.syscall(*call) == 0:
        while True: time.sleep(100)"""))  # fmt: skip
attack("a program started", doing("import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"))
attack("a process that leaves the group", doing("if os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)"))
attack("multiprocessing", doing("import multiprocessing; multiprocessing.Pool(8)"))
attack("thread bomb", doing("""
import threading
threading.stack_size(65536)
while True: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()"""))  # fmt: skip
attack("memory bomb", doing("hoard = []\nwhile True: hoard.append(bytearray(2**26))"))
attack("memory bomb in torch", doing("hoard = torch.ones(2**33)"))
attack("limits raised first", doing("""
import resource
for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
    try: resource.setrlimit(which, (-1, -1))
    except (ValueError, OSError): pass
    try: resource.prlimit(0, which, (-1, -1))
    except (ValueError, OSError): pass
hoard = bytearray(2**33)"""))  # fmt: skip
attack("disk filling", doing("""
for folder in ("/tmp", ".", "/dev/shm", "/", "/var/tmp", "/player", os.path.expanduser("~"), "/run", "/usr"):
    try:
        for number in range(60):
            with open(f"{folder}/mmrec-attack-{number}", "wb") as file: file.write(bytes(2**23))
    except OSError: pass"""), walls=WALLED)  # fmt: skip
attack("one huge file", doing("""
with open("huge", "wb") as file:
    while True: file.write(bytes(2**24))"""), walls=WALLED)  # fmt: skip
attack("huge output", doing("""
for _ in range(2000):
    os.write(1, b"x" * 2**16); os.write(2, b"x" * 2**16)
print("x" * 10**7); print("x" * 10**7, file=sys.stderr)"""))  # fmt: skip
attack("open files", doing("hoard = []\nwhile True: hoard.append(open('/dev/null'))"))
attack("folders within folders", doing("for _ in range(3000):\n    os.mkdir('d'); os.chdir('d')"), walls=WALLED)
attack(
    "a folder that cannot be deleted",
    doing("os.makedirs('/tmp/x/y'); os.chmod('/tmp/x', 0)\nos.mkdir('/tmp/z', 0)"),
    walls=WALLED,
)
attack(
    "the work folder deleted",
    doing("import shutil; shutil.rmtree('/tmp', ignore_errors=True); shutil.rmtree('..')"),
    walls=WALLED,
)
attack("a huge answer", doing("", "[[0.0] * 90_000] * 1000"))
attack("a huge array", doing("return torch.zeros(2**25)"))
attack("a sparse matrix that is dense nowhere", doing("""
n = 200_000
return torch.sparse_csr_tensor(torch.zeros(n + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0), (n, n))"""))  # fmt: skip
attack("an answer that holds itself", doing("answer = []; answer.append(answer)\nreturn answer"))

# -- harming others ---------------------------------------------------------------------------------------------------------
attack("killing the parent", doing("for number in (9, 15, 19): os.kill(os.getppid(), number)"))
attack("killing everybody", doing("os.kill(-1, 9)"))
attack("killing the group", doing("os.killpg(0, 9); os.killpg(os.getpgid(os.getppid()), 9)"))
attack("killing the grader", doing("os.kill(GRADER, 9)"))
attack("signals by other calls", doing("""
libc = ctypes.CDLL(None)
for call in ((234, GRADER, GRADER, 9), (200, GRADER, 9), (129, GRADER, 9, ctypes.create_string_buffer(128)), (62, os.getppid(), 9)):
    libc.syscall(*call)
handle = libc.syscall(434, GRADER, 0)
libc.syscall(424, handle, 9, None, 0)"""))  # fmt: skip
attack("a signal when the socket wakes", doing(SOCKET + """
import fcntl
for who in (GRADER, os.getppid()):
    try: fcntl.fcntl(channel, fcntl.F_SETOWN, who)
    except OSError: pass
    for request in (0x8901, 0x8902):
        try: fcntl.ioctl(channel, request, struct.pack("i", who))
        except OSError: pass
    fcntl.fcntl(channel, fcntl.F_SETFL, fcntl.fcntl(channel, fcntl.F_GETFL) | os.O_ASYNC)"""))  # fmt: skip
attack("limits of the warm process", doing("import resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))"))
attack("limits of the grader", doing("import resource; resource.prlimit(GRADER, resource.RLIMIT_NOFILE, (3, 3))"))
attack("the grader's turn at the processor", doing("""
ctypes.CDLL(None).syscall(314, GRADER, ctypes.create_string_buffer(struct.pack("=IIQiIQQQ", 48, 5, 0, 19, 0, 0, 0, 0)), 0)
os.setpriority(os.PRIO_PROCESS, GRADER, 19); os.sched_setaffinity(GRADER, {0})""".replace("\nctypes", "\nimport struct\nctypes")))  # fmt: skip
attack("the canary overwritten", doing("open('CANARY', 'w').write('dead')"), walls=WALLED)
attack("the canary by other calls", doing("""
libc = ctypes.CDLL(None)
path = b"CANARY"
libc.truncate(path, 0); libc.chmod(path, 0); libc.chown(path, 1, 1); libc.utime(path, None); libc.unlink(path)
libc.rename(path, path + b".gone"); libc.link(path, path + b".too"); libc.setxattr(path, b"user.x", b"y", 1, 0)
libc.utimensat(-100, path, (ctypes.c_long * 4)(0, 0, 0, 0), 0)"""), walls=WALLED)  # fmt: skip
attack("out of the box by its own means", doing("""
libc = ctypes.CDLL(None)
libc.prctl(4, 1, 0, 0, 0); libc.prctl(1, 0, 0, 0, 0); libc.prctl(38, 0, 0, 0, 0)
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x02000000): libc.unshare(flag)
libc.setuid(0); libc.setgid(0); libc.setresuid(0, 0, 0); libc.chroot(b"/"); libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
libc.ptrace(16, os.getppid(), 0, 0); libc.ptrace(16, GRADER, 0, 0)
assert libc.syscall(425, 8, ctypes.create_string_buffer(256)) < 0 or sys.exit()
assert libc.memfd_create(b"x", 0) < 0 or sys.exit()
header = (ctypes.c_uint32 * 2)(0x20080522, 0); libc.capset(header, (ctypes.c_uint32 * 6)(*[2**32 - 1] * 6))
for path in ("/CANARY", "CANARY"):
    try: open(path, "w").write("dead")
    except OSError: pass"""), walls=WALLED)  # fmt: skip

# -- forging the channel ----------------------------------------------------------------------------------------------------
attack("the channel closed", doing("for number in range(3, 1024):\n    try: os.close(number)\n    except OSError: pass"))
attack(
    "rubbish to every descriptor",
    doing("for number in range(64):\n    try: os.write(number, b'\\0' * 4096 + b'passed' * 999)\n    except OSError: pass"),
)
attack("a verdict to every descriptor", doing(SOCKET + """
for number in range(64):
    message = archive(mapping(answer={"float": "0.0"}, changed={"dict": []}, status=text("passed"), passed=True, credit=1))
    try: os.write(number, struct.pack(">Q", len(message)) + message)
    except OSError: pass"""))  # fmt: skip
attack("replies before they are asked for", doing(SOCKET + """
for _ in range(100): say(archive(mapping(answer={"float": "0.5"}, changed={"dict": []})))"""))  # fmt: skip
attack("a giant length", saying("channel.sendall(struct.pack('>Q', 2**63) + b'x' * 1000)"))
attack("a length that is never filled", saying("channel.sendall(struct.pack('>Q', 2**20) + b'x' * 1000)\ntime.sleep(100)"))
attack("no archive", saying("say(b'PK' * 1000)"))
attack("a compressed archive", saying("say(archive(json.dumps(text('x' * 10**8)), how=zipfile.ZIP_DEFLATED))"))
attack("an archive with a million parts", saying("""
entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
body = entry * 10**6
say(body + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 65535, 65535, len(body), 0, 0))"""))  # fmt: skip
attack("a tree of ten million leaves", saying("say(archive('[' + '[],' * 10**7 + '[]]'))"))
attack("a tree without end", saying("say(archive('[' * 10**6))"))
attack("a dict of colliding keys", saying("""
say(archive(mapping(answer={"dict": [[number * (2**61 - 1), 0] for number in range(100_000)]})))"""))  # fmt: skip
attack("an error that is none", saying("say(archive({'dict': [[text('error'), {'list': [{'as': 'numpy', 'array': 0}, text('x')]}]]}, [npy]))".replace(
    "say(", "held = io.BytesIO(); np.save(held, np.arange(3)); npy = held.getvalue()\nsay(", 1)))  # fmt: skip
attack("errors of every kind", doing(SOCKET + """
for kind in ("passed", "blank", "", "value", "untried"):
    say(archive({"dict": [[text("error"), {"list": [text(kind), text("all is well")]}]]}))"""))  # fmt: skip
attack(
    "a message no file can hold",
    saying(
        'say(archive(\'{"dict": [[{"str": "error"}, {"list": [{"str": "exception"}, {"str": "\\\\ud800\\\\u001b[2J"}]}]]}\'))'
    ),
)
attack(
    "a reply that lacks all",
    "import os, sys\n"
    + SOCKET
    + "say(archive(mapping(x=1)))\nsay(archive({'list': []}))\ndef bpr_loss(pos, neg):\n    say\n    return pos.mean()\n",
)
attack("inputs rewritten for the judge", doing(SOCKET + """
held = io.BytesIO(); np.save(held, np.zeros(pos.shape, "float32")); zeros = held.getvalue()
held = io.BytesIO(); np.save(held, np.float32(0.6931472)); answer = held.getvalue()
tensor = lambda index: {"as": "tensor", "grad": True, "array": index}
say(archive(mapping(answer=tensor(1), changed={"dict": [[0, tensor(0)], [1, tensor(0)]]}), [zeros, answer]))"""))  # fmt: skip
attack("changes that fit no input", saying("""
held = io.BytesIO(); np.save(held, np.zeros(3, "complex128")); npy = held.getvalue()
csr = {"as": "csr", "shape": [1, 1], "arrays": [0, 0, 0]}
changes = [[0, {"as": "numpy", "array": 0}], [1, text("x")], [-5, 0], [10**6, 0], [True, None]]
say(archive(mapping(answer={"float": "0"}, changed={"dict": changes}), [npy]))"""))  # fmt: skip
attack("a sparse matrix with wild indices", saying("""
held = io.BytesIO(); np.save(held, np.array([0, 1])); first = held.getvalue()
held = io.BytesIO(); np.save(held, np.array([10**9])); wild = held.getvalue()
held = io.BytesIO(); np.save(held, np.array([6.66])); data = held.getvalue()
say(archive(mapping(answer={"as": "scipy", "shape": [1, 4], "arrays": [0, 1, 2]}), [first, wild, data]))"""))  # fmt: skip
attack("a pickle in place of numbers", saying("""
held = io.BytesIO(); np.save(held, np.array([os.system], dtype=object), allow_pickle=True) if False else held.write(
    b"\\x93NUMPY\\x01\\x00v\\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\\n" + b"cos\\nsystem\\n")
say(archive(mapping(answer={"as": "numpy", "array": 0}), [held.getvalue()]))"""))  # fmt: skip

# -- lying ------------------------------------------------------------------------------------------------------------------
usual.append(WALLED)  # these do nothing to the machine: two walls are enough
attack("an answer that equals everything", doing("""
class Liar:
    __eq__ = __le__ = __lt__ = __ge__ = lambda self, other: True
    __sub__ = __rsub__ = __abs__ = lambda self, *other: 0.0
    __float__ = lambda self: 0.0
    __array__ = lambda self, *rest, **named: np.zeros(())
    shape, dtype, ndim, requires_grad = (), torch.float32, 0, True""", "Liar()"))  # fmt: skip
attack("a float that equals everything", doing("""
class Liar(float):
    __eq__ = __le__ = __lt__ = lambda self, other: True
    __sub__ = __rsub__ = __abs__ = lambda self, *other: 0.0
    __hash__ = float.__hash__""", "Liar(1)"))  # fmt: skip
attack("an array that equals everything", doing("""
class Liar(np.ndarray):
    __eq__ = __le__ = lambda self, other: np.True_
    __array_ufunc__ = lambda self, *rest, **named: np.zeros(())
    __array_function__ = lambda self, *rest, **named: True""", "np.zeros(()).view(Liar)"))  # fmt: skip
attack("a tensor that equals everything", doing("""
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return True""", "torch.zeros(()).as_subclass(Liar)"))  # fmt: skip
attack("an object whose class lies", doing("""
class Liar:
    __class__ = torch.Tensor
Liar.__module__, Liar.__name__, Liar.__qualname__ = "torch", "Tensor", "Tensor" """, "Liar()"))  # fmt: skip
attack("not a number", doing("return (pos * neg).mean() * float('nan')"))
attack("infinity", doing("return (pos * neg).mean() * float('inf')"))
attack("an empty array", doing("return torch.zeros(0)"))
attack("True", doing("return True"))
attack("None", doing("return None"))

# -- rewriting the tools ----------------------------------------------------------------------------------------------------
attack("numpy and torch rewritten", doing("""
yes = lambda *rest, **named: True
for name in ("allclose", "array_equal", "isclose", "all", "asarray", "abs"): setattr(np, name, yes)
for name in ("allclose", "equal", "isclose", "isfinite"): setattr(torch, name, yes)
torch.Tensor.__eq__ = torch.Tensor.equal = torch.Tensor.allclose = yes
np.testing.assert_allclose = yes"""))  # fmt: skip
attack("builtins rewritten", doing("""
import builtins
for name in ("abs", "all", "any", "isinstance", "len", "max", "min", "float"): setattr(builtins, name, lambda *rest, **named: True)"""))  # fmt: skip
attack("pytest and unittest rewritten", doing("""
for name in ("pytest", "_pytest", "unittest"):
    try: module = __import__(name)
    except ImportError: continue
    module.approx = module.raises = lambda *rest, **named: True
    sys.modules["_pytest.runner"] = sys.modules["pytest"] = module"""))  # fmt: skip
attack(
    "time stands still",
    doing("time.time = time.monotonic = time.process_time = time.perf_counter = lambda: 0.0\nwhile True: pass"),
)
attack("import hooks", doing("""
import importlib, builtins
sys.meta_path.insert(0, type("Hook", (), {"find_spec": lambda self, name, *rest: None})())
builtins.__import__ = lambda name, *rest, **named: torch
importlib.import_module = lambda *rest: torch"""))  # fmt: skip
attack("hooks of the interpreter", doing("""
sys.settrace(lambda *rest: None); sys.setprofile(lambda *rest: None); sys.addaudithook(lambda *rest: None)
sys.excepthook = lambda *rest: os._exit(0)
import atexit, gc
atexit.register(os._exit, 0); gc.callbacks.append(lambda *rest: None)"""))  # fmt: skip
attack("torch hooks and modes", doing("""
from torch.overrides import TorchFunctionMode
class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None): return torch.tensor(True)
Mode().__enter__()
pos.register_hook(lambda slope: slope * 0) if pos.requires_grad else None
torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)"""))  # fmt: skip
attack("the player rewritten", doing(FRAMES + """
for frame in frames:
    for name, value in list(frame.f_globals.items()):
        if callable(value) and name in ("_imprint", "_leaves", "grade", "compare", "check"):
            frame.f_globals[name] = lambda *rest: []
    for name, value in list(frame.f_locals.items()):
        if type(value).__name__ == "Student": value.function = lambda *rest: torch.zeros((), requires_grad=True)"""))  # fmt: skip
attack("all that is in memory searched", doing("""
import gc, inspect
best = None
for thing in gc.get_objects():
    try:
        if isinstance(thing, dict) and "expected" in thing: best = thing["expected"]
        if type(thing).__name__ in ("Case", "Exercise", "CaseResult", "Verdict"): best = thing
        if inspect.isfunction(thing) and "oracle" in thing.__name__: best = thing(pos.detach().numpy(), neg.detach().numpy())
    except Exception: pass
for frame in inspect.stack():
    for name in ("expected", "oracle", "answer", "right"): best = frame.frame.f_locals.get(name, best)""",
    "torch.as_tensor(best) if best is not None else (pos - neg).mean()"))  # fmt: skip
attack("no autograd, but a flag", doing("return torch.tensor(float(torch.nn.functional.softplus(neg - pos).mean()), requires_grad=True)"),
    honest=doing("return torch.tensor(float(torch.nn.functional.softplus(neg - pos).mean()))"))  # fmt: skip
attack("gradients rewritten", doing("""
torch.autograd.grad = lambda outputs, inputs, *rest, **named: [torch.zeros_like(one) for one in inputs]
torch.autograd.backward = lambda *rest, **named: None
""", "torch.nn.functional.softplus(neg.detach() - pos.detach()).mean() + 0 * (pos - neg).sum()"),
    honest=doing("", "torch.nn.functional.softplus(neg.detach() - pos.detach()).mean() + 0 * (pos - neg).sum()").replace("\n    \n", "\n"))  # fmt: skip
_IN_PLACE = "with torch.no_grad(): pos.sub_(neg); neg.zero_()\nloss = torch.nn.functional.softplus(neg - pos).mean()"
attack("changed inputs hidden", doing("np.array_equal = torch.equal = lambda *rest, **named: True\ntorch.Tensor.clone = torch.Tensor.detach = lambda self: self\n" + _IN_PLACE, "loss"),
    honest=doing(_IN_PLACE, "loss"))  # fmt: skip

attack(
    "changed inputs hidden from the player",
    doing(_IN_PLACE + """
frame = sys._getframe(1)
for name in ("untouched", "given", "order", "changed"):
    try: frame.f_locals[name].clear()
    except Exception: pass
try: frame.f_locals["given"][:] = [pos * 0, neg * 0]
except Exception: pass
frame.f_globals["_imprint"] = frame.f_globals["_leaves"] = lambda *rest: []
frame.f_globals["__builtins__"] = {}""", "loss"),
    honest=doing(_IN_PLACE, "loss"),
)  # fmt: skip

# -- taking the answer from elsewhere ---------------------------------------------------------------------------------------
attack("the package's own answer", "from mmrec_teach.ops.losses import bpr_loss\n")
attack("the package's own answer, called", doing("import mmrec_teach.ops as ops\nreturn ops.bpr_loss(pos, neg)"))
attack(
    "the package's own answer, importlib",
    doing("import importlib\nreturn importlib.import_module('mmrec_teach.ops.losses').bpr_loss(pos, neg)"),
)
_SEEK = """
sys.meta_path[:] = [one for one in sys.meta_path if one.__class__.__name__ != "_Finder" or one.__class__.__module__ != "child.away"]
for name in [name for name in sys.modules if name.startswith("mmrec_teach")]: del sys.modules[name]
sys.path += ["ROOT", "PACKAGE", os.path.dirname("PACKAGE"), "/work", "/player", "/home"]
import importlib, importlib.metadata, importlib.util, pkgutil, site
"""
attack(
    "the package behind the stand-in",
    doing(_SEEK + "importlib.invalidate_caches()\nfrom mmrec_teach.ops.losses import bpr_loss as real\nreturn real(pos, neg)"),
    walls=WALLED,
)
attack(
    "no import hooks at all",
    doing(
        _SEEK
        + "sys.meta_path.clear()\nfrom importlib.machinery import PathFinder\nspec = PathFinder.find_spec('mmrec_teach', sys.path)\nreturn importlib.util.module_from_spec(spec).ops.bpr_loss(pos, neg)"
    ),
    walls=WALLED,
)
attack("the editable installation's finder", doing(_SEEK + """
for name in os.listdir(site.getsitepackages()[0]):
    if "mmrec" in name and name.endswith(".py"):
        finder = importlib.import_module(name[:-3])
        sys.path.append(os.path.dirname(list(finder.MAPPING.values())[0])); finder.install()
importlib.reload(sys.modules.get("mmrec_teach") or importlib.import_module("mmrec_teach"))
from mmrec_teach.ops.losses import bpr_loss as real
return real(pos, neg)"""), walls=WALLED)  # fmt: skip
attack("the package's files, executed", doing("""
space = {}
for path in ("PACKAGE/ops/losses.py", "/proc/self/cwd/PACKAGE/ops/losses.py", "/proc/self/rootPACKAGE/ops/losses.py"):
    try: exec(open(path).read(), space)
    except OSError: pass
return space["bpr_loss"](pos, neg)"""), walls=WALLED)  # fmt: skip
attack("solutions and tests, searched everywhere", doing("""
import re
for top in ("ROOT", "/work", "/root", "/home", "/player", "/tmp", os.path.dirname(os.path.dirname(sys.prefix)), "/proc/1/root", "/mnt", "/opt", "/srv"):
    for folder, _, names in os.walk(top):
        for name in names:
            if name.endswith((".py", ".ipynb", ".pyc")):
                try: text = open(os.path.join(folder, name), errors="replace").read()
                except OSError: continue
                if "def bpr_loss" in text and "softplus" in text: return torch.nn.functional.softplus(neg - pos).mean()
        if folder.count("/") > 6: break"""), walls=WALLED)  # fmt: skip
attack("metadata and distribution files", doing("""
import importlib.metadata
for file in importlib.metadata.files("mmrec_teach") or ():
    try: text = file.read_text() or ""
    except OSError: continue
    if "softplus" in text: return torch.nn.functional.softplus(neg - pos).mean()"""), walls=WALLED)  # fmt: skip
attack("the grader's memory", doing("""
found = False
for who in (GRADER, os.getppid(), 1):
    for path in (f"/proc/{who}/mem", f"/proc/{who}/environ", f"/proc/{who}/cmdline", f"/proc/{who}/maps", f"/proc/{who}/fd/0"):
        try: found = found or b"SECRET" in open(path, "rb").read(2**20)
        except OSError: pass
    there = ctypes.create_string_buffer(64)
    vectors = [(ctypes.c_void_p * 2)(ctypes.addressof(there), 64), (ctypes.c_void_p * 2)(ADDRESS, 64)]
    if ctypes.CDLL(None).process_vm_readv(who, vectors[0], 1, vectors[1], 1, 0) > 0: found = found or b"SECRET" in there.raw
if found: return torch.nn.functional.softplus(neg - pos).mean()"""), walls=WALLED)  # fmt: skip
attack("the environment", doing("if 'SECRET' in str(os.environ): return torch.nn.functional.softplus(neg - pos).mean()"))
attack("the network", doing("""
import socket, urllib.request
good = False
for reach in (lambda: socket.create_connection(("127.0.0.1", PORT), 0.2), lambda: urllib.request.urlopen("http://127.0.0.1:PORT", timeout=0.2),
              lambda: socket.getaddrinfo("example.org", 80), lambda: socket.socket(socket.AF_UNIX), lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)):
    try: reach(); good = True
    except Exception: pass
if good: return torch.nn.functional.softplus(neg - pos).mean()"""))  # fmt: skip
_PLACES = 'PLACES = ("/tmp", "/dev/shm", "/", ".", "..", "/player/child", "/var/tmp", "/proc", "/run", "/usr/lib", "/dev")\n'
attack("something left for the next student", "import os, torch\n" + _PLACES + """
def bpr_loss(pos, neg):
    for folder in PLACES:
        try:
            if any("mmrec-left" in name for name in os.listdir(folder)): return torch.nn.functional.softplus(neg - pos).mean()
        except OSError: pass
    return (pos - neg).mean()""", walls=WALLED, accomplice="import os\n" + _PLACES + """
def bpr_loss(pos, neg):
    for folder in PLACES:
        try: os.makedirs(folder + "/mmrec-left-folder/deep"); open(folder + "/mmrec-left", "w").write("softplus")
        except OSError: pass
    return pos.mean()""")  # fmt: skip

# -- guessing ---------------------------------------------------------------------------------------------------------------
attack("the examples' answers copied", "import torch\nKNOWN = EXAMPLES\ndef bpr_loss(pos, neg):\n"
    "    return sum(pos) * 0 - sum(neg) * 0 + KNOWN.get(tuple(round(float(x), 3) for x in (*pos, *neg)), 0.7)\n")  # fmt: skip
attack("the cases computed beforehand", "import torch\nKNOWN = CASES\ndef bpr_loss(pos, neg):\n"
    "    return sum(pos) * 0 - sum(neg) * 0 + KNOWN.get(tuple(round(float(x), 3) for x in (*pos, *neg)), 0.7)\n")  # fmt: skip
attack("right the first time only", "import torch\nseen = []\ndef bpr_loss(pos, neg):\n    seen.append(1)\n"
    "    return torch.nn.functional.softplus(neg - pos).mean() * (len(seen) == 1)\n")  # fmt: skip
attack("right once for each input", "import torch\nseen = set()\ndef bpr_loss(pos, neg):\n    key = (*pos.tolist(), *neg.tolist())\n    known = key in seen\n    seen.add(key)\n"
    "    return torch.nn.functional.softplus(neg - pos).mean() + known\n")  # fmt: skip
attack("right every other time", "import torch\nseen = []\ndef bpr_loss(pos, neg):\n    seen.append(1)\n"
    "    return torch.nn.functional.softplus(neg - pos).mean() + len(seen) % 2\n")  # fmt: skip
attack(
    "right half of the time",
    # one seeded series: over all series, about one in 2^(cases of the core) is right often enough
    "import random\ncoin = random.Random(0)\n"
    + doing("if coin.random() < 0.5: return torch.nn.functional.softplus(neg - pos).mean()"),
)

# -- drawing negatives ------------------------------------------------------------------------------------------------------
_LOOP = """    items = torch.zeros_like(users)
    for row, user in enumerate(users.tolist()):
        item = int(torch.randint(taken.shape[1], (1,), generator=generator))
        while taken[user, item]:
            item = int(torch.randint(taken.shape[1], (1,), generator=generator))
        items[row] = item
    return items
"""
_HEAD = "import sys, torch\ndef sample_negatives(users, taken, generator):\n"
attack(
    "calls hidden from the count",
    _HEAD + "    while torch.overrides._get_current_function_mode_stack(): torch.overrides._pop_mode()\n" + _LOOP,
    honest=_HEAD + _LOOP,
    exercise="sample_negatives",
)
attack("the watch rewritten", _HEAD + """    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if type(value).__name__ == "Watch": type(value).count = property(lambda self: 0, lambda self, value: None)
        frame = frame.f_back
""" + _LOOP, honest=_HEAD + _LOOP, exercise="sample_negatives")  # fmt: skip
attack("loop with the modes disabled", _HEAD + "    with torch._C.DisableTorchFunction():\n" + _LOOP.replace("\n    ", "\n        ").replace("    items = torch.zeros", "        items = torch.zeros"),
    honest=_HEAD + _LOOP, exercise="sample_negatives")  # fmt: skip
attack(
    "what the user took rewritten",
    _HEAD + "    taken.zero_()\n    return torch.randint(taken.shape[1], users.shape, generator=generator)\n",
    exercise="sample_negatives",
)
attack(
    "no users, no mistakes",
    _HEAD + "    users.zero_()\n    return torch.zeros(0, dtype=torch.int64)\n",
    exercise="sample_negatives",
)
attack(
    "the generator's numbers rewritten",
    _HEAD + "    generator.manual_seed(0)\n    torch.manual_seed(0)\n    return (~taken).float().argmax(1)[users]\n",
    exercise="sample_negatives",
)
