"""A learner's first minutes in a real browser: `mmrec-teach lab`, JupyterLab, Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from tests.lab_driver import browser_page, errors_of, figure_data, open_notebook, run_all, running_lab, script_errors
from tests.toy_course import make_course

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.usefixtures("chromium"),
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(480),
]


def move_slider(page, name: str, key: str) -> None:
    """Press a key on the slider labelled ``name``, as a learner without a mouse does."""
    row = page.locator(".widget-slider", has=page.locator(".widget-label", has_text=name)).first
    row.scroll_into_view_if_needed()
    handle = row.locator(".noUi-handle").first
    handle.focus()
    handle.press(key)


def write_function(page, name: str, source: str) -> None:
    """Put ``source`` into the cell that defines the function ``name``."""
    page.evaluate(
        """([start, source]) => { const cell = jupyterapp.shell.currentWidget.content.widgets
            .find(cell => cell.model.sharedModel.getSource().startsWith(start));
            cell.model.sharedModel.setSource(source); }""",
        [f"def {name}", source],
    )


def wait_for_change(page, figure, before: str) -> str:
    """Wait until a figure shows something else, and return that."""
    for _ in range(600):
        now = figure_data(figure)
        if now != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the figure did not change within a minute of moving the slider")


def assert_quiet(page) -> None:
    """No pop-up of JupyterLab's and no dialog stands over the lesson."""
    assert page.locator(".Toastify__toast").count() == 0, page.locator(".Toastify__toast").all_inner_texts()
    assert page.locator(".jp-Dialog").count() == 0, page.locator(".jp-Dialog").all_inner_texts()


def test_a_lesson_in_the_browser(tmp_path):
    """The toy lesson: blank at first; solved, its slider moves its figure; choices are answered; the pair is saved in step."""
    root = make_course(tmp_path / "course")
    mine = root / "my_lessons"
    environment = pytest.MonkeyPatch()
    environment.setenv("PYTHONPATH", str(ROOT))
    try:
        with running_lab(mine, root) as lab, browser_page() as page:
            open_notebook(page, lab, "01_toy.ipynb")
            cells = run_all(page)
            assert errors_of(cells) == ['NotImplementedError: Write `toy_loss`: the mean "loss" of pairs']
            assert_quiet(page)

            # a wrong answer: the verdict offers a hint, by keyboard too
            page.get_by_text("raise NotImplementedError").first.dblclick()
            solution = (root / "solutions" / "01_toy.py").read_text(encoding="utf-8")
            body = "def toy_loss" + solution.split("def toy_loss", 1)[1].split("# %%", 1)[0]
            write_function(page, "toy_loss", body.replace("pos - neg\n", "neg - pos\n"))
            assert errors_of(run_all(page)) == []
            page.get_by_text("Your answers are those of: the pair the wrong way round.").wait_for()
            first = page.get_by_role("button", name="Show hint 1 of 3").first
            first.focus()
            first.press("Enter")
            page.get_by_text("First nudge.").wait_for()

            # the learner solves it, by typing into the cell, and saves
            write_function(page, "toy_loss", body)
            page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
            assert "margin_of_pairs" in (mine / "01_toy.py").read_text(encoding="utf-8")
            assert "margin_of_pairs" in (mine / "01_toy.ipynb").read_text(encoding="utf-8")

            cells = run_all(page)
            assert errors_of(cells) == []
            verdict = next(cell for cell in cells if cell["source"] == 'check("toy_loss")')
            assert "Passed: toy_loss (all 6 cases pass)" in verdict["outputs"][0]["data"]["text/html"]

            figure = page.locator(".js-plotly-plot").first
            figure.wait_for()
            before = figure_data(figure)
            move_slider(page, "Power", "ArrowRight")
            assert '"y":[0,1,8]' in wait_for_change(page, figure, before).replace(" ", "")

            for number in (2, 3):
                page.get_by_role("button", name=f"Show hint {number} of 3").click()
            page.get_by_text("Third nudge.").wait_for()
            page.get_by_role("button", name="Show the worked solution").click()
            page.locator("pre", has_text="margin_of_pairs = pos - neg").last.wait_for()
            page.get_by_role("radio", name="4").check()
            page.get_by_role("button", name="Commit my prediction").click()
            page.get_by_text("You predicted").first.wait_for()
            page.get_by_role("radio", name="2").last.check()
            page.get_by_text("Right.").wait_for()
            assert_quiet(page)
            assert script_errors(page) == []
            kernels = [child.pid for child in psutil.Process(lab.process.pid).children(recursive=True)]
            assert kernels
        assert not any(psutil.pid_exists(pid) for pid in kernels), "a kernel outlived the test"
    finally:
        environment.undo()


def test_lesson_00_in_the_browser(tmp_path):
    """What `make lab` opens: the first lesson runs, nothing pops up, and its what-if slider moves its figure."""
    mine = tmp_path / "mine"
    with running_lab(mine, ROOT) as lab, browser_page() as page:
        open_notebook(page, lab, "00_bazaar.ipynb")
        assert_quiet(page)
        (mine / "own.py").write_text("", encoding="utf-8")
        listed = {entry["name"] for entry in lab.get("api/contents/?content=1")["content"]}
        assert {"00_bazaar.ipynb", "own.py"} <= listed
        assert "00_bazaar.py" not in listed  # beside its notebook, but not listed a second time
        assert (mine / "00_bazaar.py").is_file()
        blank = run_all(page)
        assert [error.split("`")[0] for error in errors_of(blank)] in ([], ["NotImplementedError: Write "])
        assert_quiet(page)

        # the learner comes back with everything solved: the same file names, a fresh page and a fresh kernel
        page.goto("about:blank")  # first: a page whose kernel dies complains
        for session in lab.get("api/sessions"):
            lab.get(f"api/sessions/{session['id']}", "DELETE")
        for suffix in (".ipynb", ".py"):
            shutil.copyfile(ROOT / "solutions" / f"00_bazaar{suffix}", mine / f"00_bazaar{suffix}")
        open_notebook(page, lab, "00_bazaar.ipynb")
        cells = run_all(page)
        assert errors_of(cells) == []
        assert all(cell["count"] for cell in cells if cell["type"] == "code" and cell["source"].strip())

        row = page.locator(".widget-slider").last
        row.scroll_into_view_if_needed()
        figure = page.locator(".jp-OutputArea-child", has=page.locator(".widget-slider")).last.locator(".js-plotly-plot").first
        figure.wait_for()
        figure.evaluate(
            "element => new Promise(done => { const look = () => element.data ? done() : setTimeout(look, 50); look(); })"
        )
        before = figure_data(figure)
        row.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        wait_for_change(page, figure, before)
        assert page.locator(".modebar-btn").count() > 0
        assert page.locator('.modebar-btn[data-title^="Share"]').count() == 0  # plotly's upload to its cloud
        assert page.elsewhere == []
        assert_quiet(page)
        assert script_errors(page) == []
