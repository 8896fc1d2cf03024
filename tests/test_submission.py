# ruff: noqa: E501 - code inside code
"""Reading and slicing what students hand in: whatever its state, a sentence or a fair verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmrec_teach.grading.child.cells import Pile
from mmrec_teach.grading.exercise import find_exercise, load_exercises
from mmrec_teach.grading.sandbox import Limits, Sandbox
from mmrec_teach.grading.submission import Submission, grade_submission, lesson_of, read_submission
from tests.toy_course import ROOT

IMPORT = "import torch\n"
RIGHT = "def bpr_loss(pos, neg):\n    return torch.nn.functional.softplus(neg - pos).mean()\n"


@pytest.fixture(scope="module")
def box():
    with Sandbox(limits=Limits(call=5, loading=1)) as box:
        yield box


def verdict(box, *cells: str, exercise: str = "bpr_loss"):
    return grade_submission(Submission("one.ipynb", cells), [find_exercise(exercise)], box).verdicts[exercise]


def notebook(*cells: str, **more) -> bytes:
    made = [{"cell_type": "code", "source": text.splitlines(keepends=True), "outputs": [], "metadata": {}} for text in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}).encode()


# -- honest but awkward: all of these are right, and earn every point ---------------------------------------------------------
HONEST = {
    "prints": (IMPORT, "def bpr_loss(pos, neg):\n    print('x' * 100000)\n    return torch.nn.functional.softplus(neg - pos).mean()"),
    "writes to stderr": (IMPORT + "import sys", RIGHT.replace("    return", "    sys.stderr.write('warning: hot')\n    return")),
    "warns": (IMPORT + "import warnings", RIGHT.replace("    return", "    warnings.warn('slow', DeprecationWarning)\n    return")),
    "turns warnings into errors": (IMPORT + "import warnings\nwarnings.simplefilter('error')", RIGHT),
    "logs": (IMPORT + "import logging\nlogging.basicConfig(level=0)\nlog = logging.getLogger()", RIGHT.replace("    return", "    log.error('at work')\n    return")),
    "changes a copy in place": (IMPORT, "def bpr_loss(pos, neg):\n    d = neg.clone()\n    d -= pos\n    return torch.nn.functional.softplus(d).mean()"),
    "rebinds np afterwards": ("import torch\nimport numpy as np", RIGHT, "np = 5\nassert np == 5"),
    "another name for torch": ("import torch as th, numpy as torch", "def bpr_loss(pos, neg):\n    return th.nn.functional.softplus(neg - pos).mean()"),
    "shadows builtins": (IMPORT + "list = [1]\nmax = 3\nsum = 0", RIGHT),
    "shadows the builtin it needs": (IMPORT + "def abs(x):\n    return torch.nn.functional.softplus(x)", "def bpr_loss(pos, neg):\n    return abs(neg - pos).mean()"),
    "unicode names": (IMPORT, "def σ(x):\n    return torch.sigmoid(x)\n", "def bpr_loss(pos, neg):\n    Δ, 损失 = pos - neg, torch.nn.functional.softplus\n    return 损失(-Δ).mean()  # \u2028 σ\x0c"),
    "changes the folder": (IMPORT + "import os\nos.chdir('/')", RIGHT.replace("    return", "    os.chdir(os.path.expanduser('/'))\n    return")),
    "asks for input": (IMPORT, "name = input('Your name? ')", RIGHT),
    "asks for input where it matters": (IMPORT, "try:\n    scale = float(input('scale? '))\nexcept Exception:\n    scale = 1.0", RIGHT.replace(".mean()", ".mean() * scale")),
    "an error after the function": (IMPORT, RIGHT, "1 / 0"),
    "an error before the function": (IMPORT, "assert False, 'not yet'", RIGHT),
    "an error in the same cell": ("1 / 0\n" + IMPORT + "undefined_name\n" + RIGHT + "raise SystemExit",),
    "reads a file of her own": (IMPORT + "import pandas as pd\ntable = pd.read_csv('my_data.csv')", RIGHT),
    "writes a file": (IMPORT, RIGHT, "open('out.txt', 'w').write('x')\ntorch.save({}, 'model.pt')"),
    "cells out of order": (RIGHT.replace("softplus", "softplus"), "scale = 1", IMPORT),
    "defined twice, the last is right": (IMPORT, "def bpr_loss(pos, neg):\n    raise NotImplementedError", RIGHT),
    "a syntax error elsewhere": (IMPORT, "def broken(:\n    pass", RIGHT),
    "a training loop at the top": (IMPORT, RIGHT, "for epoch in range(10**12):\n    loss = bpr_loss(torch.ones(1), torch.ones(1))"),
    "while True at the top": (IMPORT, "while True:\n    pass", RIGHT),
    "sleeps at the top": (IMPORT + "import time", "time.sleep(10**6)", RIGHT),
    "a heavy name that the function has, too": (IMPORT, "while True:\n    loss = 1\n", "def bpr_loss(pos, neg):\n    loss = torch.nn.functional.softplus(neg - pos)\n    return loss.mean()"),
    "a heavy name in a comprehension": (IMPORT, "while True:\n    row = 1\n", "def bpr_loss(pos, neg):\n    return torch.stack([torch.nn.functional.softplus(-row) for row in pos - neg]).mean()"),
    "a heavy name as an attribute": (IMPORT, "while True:\n    mean = softplus = 1\n", RIGHT),
    "helpers and constants": (IMPORT, "ONE = 1.0\nTWO = ONE + 1", "def helper(x):\n    return inner(x) * TWO / 2", RIGHT.replace("torch.nn.functional.softplus", "helper"), "inner = torch.nn.functional.softplus"),
    "a closure": (IMPORT, "def make(scale):\n    def bpr_loss(pos, neg):\n        return scale * torch.nn.functional.softplus(neg - pos).mean()\n    return bpr_loss", "bpr_loss = make(1.0)"),
    "a lambda": (IMPORT, "bpr_loss = lambda pos, neg: torch.nn.functional.softplus(neg - pos).mean()"),
    "an object that can be called": (IMPORT, "class Loss:\n    def __call__(self, pos, neg):\n        return torch.nn.functional.softplus(neg - pos).mean()", "bpr_loss = Loss()"),
    "a module": (IMPORT, "class Loss(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n    def forward(self, pos, neg):\n        return torch.nn.functional.softplus(neg - pos).mean()", "bpr_loss = Loss()"),
    "a decorator": (IMPORT + "import functools", "def loud(f):\n    @functools.wraps(f)\n    def inner(*a, **k):\n        print(a)\n        return f(*a, **k)\n    return inner", "@loud\n" + RIGHT),
    "a cache": (IMPORT + "import functools", "@functools.lru_cache\ndef one():\n    return 1.0", RIGHT.replace(".mean()", ".mean() * one()")),
    "a partial": (IMPORT + "from functools import partial", "def loss(scale, pos, neg):\n    return scale * torch.nn.functional.softplus(neg - pos).mean()", "bpr_loss = partial(loss, 1.0)"),
    "from … import *": ("from math import *\nfrom torch import *\nfrom torch.nn.functional import *", "def bpr_loss(pos, neg):\n    return softplus(neg - pos).mean() * factorial(1)"),
    "inside if": (IMPORT + "if torch.cuda.is_available():\n    bpr_loss = None\nelse:\n    " + RIGHT.replace("\n", "\n    "),),
    "inside try": ("try:\n    import torch\n    import not_installed\nexcept ImportError:\n    pass\ntry:\n    " + RIGHT.replace("\n", "\n    ") + "\nfinally:\n    pass",),
    "inside with": (IMPORT + "import contextlib\nwith contextlib.suppress(ValueError):\n    " + RIGHT.replace("\n", "\n    "),),
    "inside for": (IMPORT + "for one in [1]:\n    " + RIGHT.replace("\n", "\n    "),),
    "imports inside": ("def bpr_loss(pos, neg):\n    from torch.nn.functional import softplus\n    return softplus(neg - pos).mean()",),
    "type hints with unknown names": (IMPORT, "from __future__ import annotations\ndef bpr_loss(pos: Scores, neg: 'Scores') -> Loss[torch.Tensor]:\n    return torch.nn.functional.softplus(neg - pos).mean()"),
    "other names for the arguments": (IMPORT, "def bpr_loss(a, b, *, margin=0.0):\n    return torch.nn.functional.softplus(b - a - margin).mean()"),
    "async cells": (IMPORT, "import asyncio\nawait asyncio.sleep(1)", RIGHT),
    "the course's imports": ("from mmrec_teach.notebook import check, hint\nfrom mmrec_teach.data import load\nimport mmrec_teach.views as views\n" + IMPORT, "bazaar = load('bazaar')\nviews.show(bazaar)", RIGHT, "check('bpr_loss')"),
    "magics": ("%load_ext autoreload\n%autoreload 2\n%matplotlib inline\n!pip install torch\n" + IMPORT, "?torch\ntorch.nn?\nfiles = !ls\nhere = %pwd\n" + RIGHT, "%%bash\necho 'def'", "%%time\nx = 1"),
    "installs without a mark": ("pip install torch\nimport torch\n" + RIGHT,),
    "a timed assignment": (IMPORT + "%time scale = torch.ones(())", RIGHT.replace(".mean()", ".mean() * scale")),
    "%%time above the function": (IMPORT, "%%time\n" + RIGHT),
    "a shell line in a block": (IMPORT + "if True:\n    !echo it's (\n    pass\n" + RIGHT,),
    "a shell line that goes on": (IMPORT + "!pip install \\\n    torch \\\n    numpy\n" + RIGHT,),
    "a remainder on its own line": (IMPORT + "%time one = 1\nseven = (17\n% 10)\n" + RIGHT.replace(".mean()", ".mean() * (seven - 6)"),),
    "a % line in a text": (IMPORT + '!ls\nTEXT = """\n%d files\n!important\n"""\n' + RIGHT.replace(".mean()", ".mean() * (TEXT.count('%d files') + TEXT.count('!important') - 1)"),),
    "Windows line ends": ((IMPORT + RIGHT).replace("\n", "\r\n"),),
    "a long picture in a cell": (IMPORT + "PICTURE = '" + "A" * 300_000 + "'\n" + RIGHT,),
    "a plot": (IMPORT + "import matplotlib.pyplot as plt", "plt.plot([1, 2])\nplt.show()", RIGHT),
    "main": (IMPORT + RIGHT + "if __name__ == '__main__':\n    while True: pass",),
    "a dataclass": (IMPORT + "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Options:\n    scale: float = 1.0", RIGHT.replace(".mean()", ".mean() * Options().scale")),
    "threads": (IMPORT + "from concurrent.futures import ThreadPoolExecutor", "def bpr_loss(pos, neg):\n    with ThreadPoolExecutor(2) as pool:\n        return pool.submit(lambda: torch.nn.functional.softplus(neg - pos).mean()).result()"),
    "a progress bar": (IMPORT + "from tqdm.auto import tqdm", RIGHT.replace("    return", "    for _ in tqdm(range(3)):\n        pass\n    return")),
    "a seed": (IMPORT + "import random\ntorch.manual_seed(0)\nrandom.seed(0)", RIGHT),
    "float64 within": (IMPORT, "def bpr_loss(pos, neg):\n    return torch.nn.functional.softplus(neg.double() - pos.double()).mean()"),
}  # fmt: skip


@pytest.mark.parametrize("cells", HONEST.values(), ids=[name.replace(" ", "-") for name in HONEST])
def test_honest_work_is_paid_in_full(box, cells):
    found = verdict(box, *cells)
    assert found.credit == 1.0, str(found)


def test_there_are_as_many_as_other_graders_were_tried_with():
    assert len(HONEST) >= 33


def test_a_numpy_answer_earns_what_it_deserves(box):
    found = verdict(
        box,
        "import numpy as np\ndef bpr_loss(pos, neg):\n    d = (pos - neg).detach().numpy()\n    return np.log1p(np.exp(-d)).mean()",
    )
    assert 0.5 <= found.credit < 1 or found.credit == 0.5
    changed = verdict(
        box,
        IMPORT
        + "def bpr_loss(pos, neg):\n    with torch.no_grad():\n        pos -= neg\n        neg.zero_()\n    return torch.nn.functional.softplus(neg - pos).mean()",
    )
    assert changed.credit < 1
    assert any("in place" in case.message for case in changed.cases)


# -- what cannot be judged is told in a sentence --------------------------------------------------------------------------------
TOLD = {
    "nothing there": (("x = 1",), "There is no `bpr_loss` in this submission."),
    "renamed": ((IMPORT + RIGHT.replace("bpr_loss", "bpr_los"),), "there is `bpr_los`. The name must stay as it was given"),
    "its cell is broken": (("def bpr_loss(pos, neg):\n    return (pos - neg",), "The cell that defines `bpr_loss` (code cell 1) is not Python"),
    "not a function": (("bpr_loss = 5",), "`bpr_loss` is of type int, not a function"),
    "None": (("bpr_loss = None",), "could not be defined"),
    "fails while defined": ((IMPORT + "@undefined\n" + RIGHT,), "NameError"),
    "never defined in time": (("def slow():\n    while True: pass\nbpr_loss = slow()",), "stopped after"),
    "ends the process": (("import os\nos._exit(1)\nbpr_loss = os",), "could not be defined"),
    "the package's": (("from mmrec_teach.ops import bpr_loss",), "could not be defined"),
}  # fmt: skip


@pytest.mark.parametrize(("cells", "words"), TOLD.values(), ids=[name.replace(" ", "-") for name in TOLD])
def test_what_cannot_be_judged_is_told(box, cells, words):
    cells = ("import os\ngone = os._exit(1)\ndef bpr_loss(pos, neg):\n    return gone",) if "_exit" in cells[0] else cells
    found = verdict(box, *cells)
    assert found.credit == 0
    assert words in f"{found.advice} {' '.join(found.notes)}"


def test_what_is_left_out_is_noted(box):
    found = verdict(box, "%matplotlib inline\n" + IMPORT + RIGHT, "not python at all", "!ls")
    assert found.credit == 1
    assert any("2 lines starting with % or ! ignored" in note for note in found.notes), found.notes
    assert any("cell 2" in note for note in found.notes)


def test_a_lesson_taken_for_another_is_told(box):
    exercises = [one for one in load_exercises().values() if one.lesson == "01"]
    graded = grade_submission(read_submission(ROOT / "solutions" / "03_lightgcn.ipynb"), exercises, box)
    assert "This looks like lesson 03, not lesson 01." in graded.notes
    assert lesson_of(Submission("x.py", ("x = 1",))) == ""


@pytest.mark.parametrize("suffix", ["py", "ipynb"])
@pytest.mark.parametrize("lesson", ["00_bazaar", "01_bpr", "02_vbpr", "03_lightgcn"])
def test_the_solutions_and_the_lessons_are_known_for_what_they_are(lesson, suffix):
    for folder in ("solutions", "lessons"):
        read = read_submission(ROOT / folder / f"{lesson}.{suffix}")
        assert not read.problem
        assert lesson_of(read) == lesson[:2]


def test_only_what_is_needed_is_run():
    cells = ["import numpy as np\nimport torch", "heavy = sum(range(10))", "a = 1", "b = a + 1\nb += 1", "def f(x):\n    heavy = x\n    return g(x) + b", "def g(x):\n    return np.abs(x)", "a = 5"]  # fmt: skip
    found = Pile(cells).slice("f")
    assert [statement.cell for statement in found.statements] == [0, 2, 3, 3, 4, 5, 6]
    assert found.source.startswith("def f(x):")


# -- reading ----------------------------------------------------------------------------------------------------------------
def read(tmp_path: Path, content: bytes, name: str = "one.ipynb") -> Submission:
    path = tmp_path / name
    path.write_bytes(content)
    return read_submission(path)


GERMAN = "# Größe: σ\nx = 'ä'\n"
ENCODED = {
    "utf-8": GERMAN.encode(), "utf-8 with a mark": GERMAN.encode("utf-8-sig"), "utf-16": GERMAN.encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + GERMAN.encode("utf-16-be"), "utf-16 without a mark": GERMAN.replace("σ", "s").encode("utf-16-le"),
    "utf-16-be without a mark": GERMAN.replace("σ", "s").encode("utf-16-be"),
    "latin-1": GERMAN.replace("σ", "s").encode("latin-1"),
    "latin-1 that says so": b"# coding: latin-1\n" + GERMAN.replace("σ", "s").encode("latin-1"),
    "cp1252 that says so": b"# -*- coding: cp1252 -*-\n" + GERMAN.replace("σ", "\u20ac").encode("cp1252"),
}  # fmt: skip


@pytest.mark.parametrize("content", ENCODED.values(), ids=ENCODED)
def test_encodings(tmp_path, content):
    found = read(tmp_path, content, "one.py")
    assert not found.problem
    pile = Pile(list(found.cells))
    assert not pile.broken
    assert "'ä'" in pile.cells[0][0]
    assert "Größe" in pile.cells[0][0]


@pytest.mark.parametrize("cookie", ["idna", "punycode", "undefined", "rot13", "no-such", "unicode_escape", "zlib", "utf-7"])
def test_odd_encodings_are_read_as_latin_1(tmp_path, cookie):
    found = read(tmp_path, f"# coding: {cookie}\nx = '".encode() + b"\xe4" * 100 + b"'\n", "one.py")
    assert "Latin-1" in found.notes[0]
    assert "ä" in found.cells[0]


def test_nul_bytes_are_dropped(tmp_path):
    found = read(tmp_path, b"x = 1\0\ny = 2\n\0\0", "one.py")
    assert not Pile(list(found.cells)).broken


UNREADABLE = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \n\t", "the file is empty"),
    "not JSON": (b"hello", "not JSON"),
    "cut off": (notebook("x = 1")[:-30], "not JSON"),
    "a list": (b"[1, 2]", "no list of cells"),
    "a number": (b"5", "no list of cells"),
    "cells that are none": (b'{"cells": 5}', "no list of cells"),
    "nested too deeply": (b"[" * 100_000, "nested too deeply"),
    "a number too long": (b'{"cells": ' + b"9" * 5000 + b"}", "not JSON"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not JSON"),
}


@pytest.mark.parametrize(("content", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_told(tmp_path, box, content, words):
    found = read(tmp_path, content)
    assert words in found.problem
    graded = grade_submission(found, [find_exercise("bpr_loss")], box)
    assert graded.verdicts["bpr_loss"].credit == 0
    assert words.lower() in graded.verdicts["bpr_loss"].advice.lower()


def test_odd_cells_of_a_notebook(tmp_path):
    cells = [5, None, {}, {"cell_type": "markdown", "source": "def f(): pass"}, {"cell_type": "code"}, {"cell_type": "code", "source": 7},
             {"cell_type": "code", "source": ["a = 1\n", 5, "b = 2"]}, {"cell_type": "code", "source": "c = '\ud800'"}]  # fmt: skip
    found = read(tmp_path, json.dumps({"cells": cells}).encode())
    assert found.cells == ("", "", "a = 1\nb = 2", "c = '?'")
    assert len(found.digest) == 16
    assert not Pile(list(found.cells)).broken


def test_a_notebook_of_the_old_form(tmp_path):
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": ["a = 1\n", "b = 2"]}]}]}
    assert read(tmp_path, json.dumps(old).encode()).cells == ("a = 1\nb = 2",)


def test_outputs_do_not_change_what_was_handed_in(tmp_path):
    plain = json.loads(notebook("x = 1"))
    full = json.loads(notebook("x = 1"))
    full["cells"][0]["outputs"] = [{"output_type": "stream", "text": "A" * 50 * 2**20}]
    full["cells"][0]["execution_count"] = 9
    one, other = read(tmp_path, json.dumps(plain).encode()), read(tmp_path, json.dumps(full).encode(), "two.ipynb")
    assert one.digest == other.digest
    assert other.cells == ("x = 1",)


def test_files_too_large_are_told(tmp_path, monkeypatch):
    path = tmp_path / "large.ipynb"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    assert "larger than 200 MB" in read_submission(path).problem
    assert "of code" in read(tmp_path, b"x = 1\n" * 10**6, "long.py").problem
    monkeypatch.setattr("mmrec_teach.grading.submission.MAX_PARTS", 1000)
    assert "million parts" in read(tmp_path, b"[" + b"[]," * 1000 + b"[]]").problem


def test_folders_pipes_and_what_is_not_there(tmp_path):
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    assert "a folder" in read_submission(tmp_path / "folder.ipynb").problem
    assert "not an ordinary file" in read_submission(tmp_path / "pipe.py").problem
    assert "cannot be read" in read_submission(tmp_path / "gone.py").problem
    (tmp_path / "round.py").symlink_to(tmp_path / "round.py")
    assert "cannot be read" in read_submission(tmp_path / "round.py").problem


def test_links_stay_in_the_folder(tmp_path):
    ann, ben = tmp_path / "class" / "ann", tmp_path / "class" / "ben"
    ann.mkdir(parents=True), ben.mkdir()
    (ann / "real.py").write_text("x = 1\n")
    links = {
        "near.py": ann / "real.py", "away.py": ben / "theirs.py", "passwd.ipynb": Path("/etc/passwd"),
        "master.py": ROOT / "solutions" / "01_bpr.py", "zero.py": Path("/dev/zero"), "dots.py": Path("../ben/theirs.py"),
    }  # fmt: skip
    (ben / "theirs.py").write_text("y = 2\n")
    for name, target in links.items():
        (ann / name).symlink_to(target)
        found = read_submission(ann / name)
        if name == "near.py":
            assert found.cells == ("x = 1\n",)
        else:
            assert "leads out of the folder" in found.problem
            assert not found.cells
    (tmp_path / "class" / "eve").symlink_to(ROOT / "solutions")
    assert "leads out" in read_submission(tmp_path / "class" / "eve" / "01_bpr.py", within=tmp_path / "class").problem
    (tmp_path / "other").symlink_to(tmp_path / "class")
    assert read_submission(tmp_path / "other" / "ann" / "real.py", within=tmp_path / "other").cells == ("x = 1\n",)


def test_cells_of_a_python_file(tmp_path):
    text = "a = 1\n# %%\nb = 2\n# %% [markdown]\n# words\n# %% tags=['x']\nc = 3\n"
    assert read(tmp_path, text.encode(), "one.py").cells == ("a = 1\n", "b = 2\n", "c = 3\n")
    assert read(tmp_path, notebook("x = 1"), "no_suffix").cells == ("x = 1",)


@pytest.mark.parametrize(
    ("cell", "plain", "count"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1", 1),
        ("x = (5\n% 3)", "x = (5\n% 3)", 0),
        ("'''\n%a\n!b\n'''", "'''\n%a\n!b\n'''", 0),
        ("!ls\n'''\n%a\n'''", "pass\n'''\n%a\n'''", 1),
        ("x = !ls\ny = %pwd", "x = None\ny = None", 2),
        ("%time y = f(1)", "y = f(1)", 1),
        ("?x\nx?\nx??\nlen?", "pass\npass\npass\npass", 4),
        ("%%bash\nls\necho", "\n\n", 1),
        ("%%time\nx = 1", "\nx = 1", 1),
        ("for x in y:\n    !echo {x}", "for x in y:\n    pass", 1),
        ("!a \\\n b\nx = 1", "pass\n\nx = 1", 1),
        ("pip install x\nx = 1", "pass\nx = 1", 1),
        ("ls = 1\nls", "ls = 1\nls", 0),
        ("x = 1 %\\\n3", "x = 1 %\\\n3", 0),
    ],
)
def test_magics(cell, plain, count):
    pile = Pile([cell])
    assert (pile.cells[0], pile.broken) == ((plain, count), {})
