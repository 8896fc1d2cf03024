"""A throwaway course of one lesson, for tests of the machinery that must not depend on the real lessons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmrec_teach.course.build import build
from mmrec_teach.grading.exercise import Case, Exercise, expect

ROOT = Path(__file__).resolve().parent.parent

HEADER = """# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
"""

LESSON = (
    HEADER
    + '''
# %% [markdown]
# # 01 · A toy
# *6 minutes · 2 points · needs nothing · after this you can tell a pair's loss.*

# %%
import torch

from mmrec_teach.notebook import check, hint, predict, quiz, reveal
from tests.toy_course import toy_loss as _  # registers the exercise; a real lesson's cases are in the package

# %% tags=["predict"]
predict("toy-depth", "Which is best?", options=[1, 2, 4])

# %% tags=["exercise"] exercise={"id": "toy_loss", "title": "the mean \\"loss\\" of pairs", "points": 2, "minutes": 5, "difficulty": 1, "hints": ["First nudge.", "Second nudge.", "Third nudge."]}
def toy_loss(pos, neg):
    """Mean of -log sigmoid(pos - neg).

    Args:
        pos, neg: (n,) scores.
    """
    ### BEGIN SOLUTION
    margin_of_pairs = pos - neg
    return -torch.nn.functional.logsigmoid(margin_of_pairs).mean()
    ### END SOLUTION

# %%
check("toy_loss")

# %%
hint("toy_loss")

# %%
toy_loss(torch.ones(3), torch.zeros(3))

# %%
reveal("toy-depth", 2, "Because the toy says so.")

# %%
import ipywidgets as widgets
import plotly.graph_objects as go
from IPython.display import display

figure = go.FigureWidget(go.Scatter(x=[0, 1, 2], y=[0, 1, 4]))
power = widgets.IntSlider(value=2, min=1, max=5, description="Power")


def redraw(change):
    figure.data[0].y = [x ** change["new"] for x in (0, 1, 2)]


power.observe(redraw, names="value")
display(power, figure)

# %%
quiz([{"question": "1 + 1?", "options": ["1", "2"], "answer": "2", "why": ["Count again.", "Indeed."]}])
'''  # noqa: E501 - the metadata of a cell is one line
)

toy_loss = Exercise("toy_loss", lesson="toy", gradient=("pos", "neg"))


@toy_loss.cases
def _cases():
    rng = np.random.default_rng(0)
    yield Case("one pair", pos=np.array([2.0]), neg=np.array([0.5]))
    yield Case("many pairs", pos=rng.normal(size=20), neg=rng.normal(size=20))


@toy_loss.oracle
def _oracle(pos, neg):
    return np.mean(np.log1p(np.exp(-(pos - neg))))


@toy_loss.rule("stays finite for very wrong pairs")
def _finite(function):
    loss = function(torch.tensor([-200.0]), torch.tensor([200.0]))
    expect(bool(torch.isfinite(loss)), "with a margin of -400 the loss is not finite; use logsigmoid")


@toy_loss.wrong("the pair the wrong way round")
def _swapped(pos, neg):
    return -torch.nn.functional.logsigmoid(neg - pos).mean()


@toy_loss.wrong("the sum in place of the mean")
def _summed(pos, neg):
    return -torch.nn.functional.logsigmoid(pos - neg).sum()


@toy_loss.wrong("a gradient that is cut off")
def _detached(pos, neg):
    return -torch.nn.functional.logsigmoid(pos - neg).mean().detach()


@toy_loss.wrong("the logarithm of a sigmoid that has become zero")
def _overflowing(pos, neg):
    return -torch.log(torch.sigmoid(pos - neg)).mean()


def make_course(root: Path, lessons: dict[str, str] | None = None) -> Path:
    """A course folder with these masters (default: the toy lesson), built."""
    (root / "solutions").mkdir(parents=True)
    for name, text in (lessons or {"01_toy": LESSON}).items():
        (root / "solutions" / f"{name}.py").write_text(text, encoding="utf-8")
    build(root)
    return root
