"""Every lesson runs: solved from top to bottom, blank with no other error than its blanks.

`python -m pytest tests/test_lessons.py --durations=0` prints how long each takes.
"""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

from mmrec_teach.course.master import exercises_of
from mmrec_teach.course.workspace import lesson_stems, start

ROOT = Path(__file__).resolve().parent.parent
STEMS = lesson_stems(ROOT)
# A hang is found by these; how long a lesson may take is for `--durations` to say, on the machine at hand.
CELL_SECONDS = 240
pytestmark = [pytest.mark.timeout(600)]
# Where blanks stop a lesson depends neither on how well its models have learned nor on where points lie: there an epoch is one step,
# and pictures stay where UMAP, which is compiled anew in every process, would start.
QUICK = """
def _():
    from itertools import islice
    from mmrec_teach.training.loop import Trainer
    from mmrec_teach.views import projection
    batches = Trainer.batches
    Trainer.batches = lambda *words: islice(batches(*words), 1)
    projection._layout = lambda x, start, k, *rest: (start, projection.nearest(x, k - 1)[0])
    projection._warm.set()
_()
"""


def executed(path: Path, directory: Path, *, blank: bool = False) -> nbformat.NotebookNode:
    """The notebook after a run from top to bottom in a fresh kernel that works in ``directory``; a blank one goes on after errors."""
    notebook = nbformat.read(path, as_version=4)
    if blank:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(QUICK))
    nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        allow_errors=blank,
        resources={"metadata": {"path": str(directory)}},
    ).execute()
    return notebook


def texts(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """All plain texts in outputs: of results and displays ("data"), or of one stream ("stdout", "stderr")."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    if kind == "data":
        return [output.data.get("text/plain", "") for output in outputs if "data" in output]
    return [output.text for output in outputs if output.output_type == "stream" and output.name == kind]


@pytest.mark.parametrize("stem", STEMS)
def test_the_solved_lesson_runs_and_passes_its_checks(stem, tmp_path):
    notebook = executed(ROOT / "solutions" / f"{stem}.ipynb", tmp_path)
    shown = texts(notebook, "data")
    for exercise in exercises_of(notebook):
        assert any(text.startswith(f"✓ Passed: {exercise.id} ") for text in shown), exercise.id
    warnings = [text for text in texts(notebook, "stderr") if "Warning" in text]
    assert warnings == [], "a learner would see these"


@pytest.mark.parametrize("stem", STEMS)
def test_the_blank_lesson_stops_only_at_its_blanks(stem, tmp_path):
    start(tmp_path / "mine", ROOT)
    notebook = executed(tmp_path / "mine" / f"{stem}.ipynb", tmp_path / "mine", blank=True)
    assert notebook.cells[0].outputs == []
    exercises = exercises_of(notebook)
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                told = f"cell {number}: {output.ename}: {output.evalue}"
                assert output.ename == "NotImplementedError", told
                assert any(output.evalue.startswith(f"Write `{exercise.id}`: ") for exercise in exercises), told
    shown = texts(notebook, "data")
    for exercise in exercises:
        assert any(text.startswith(f"… Not written yet: {exercise.id}") for text in shown), exercise.id
