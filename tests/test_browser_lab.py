"""The what-if panel in real JupyterLab and as a page of its own, in real Chromium, by keyboard where a reader may use one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import nbformat
import psutil
import pytest

from tests.lab_driver import (
    browser_page,
    errors_of,
    figure_data,
    open_notebook,
    requests_elsewhere,
    restart_kernel,
    run_all,
    running_lab,
    script_errors,
)
from tests.toy_course import make_course

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.usefixtures("chromium"),
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(480),
]
WAIT = 120_000  # milliseconds before a state that does not come is given up
PAGE_SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},  # two saves at once end in a question
}

CELLS = (
    "from mmrec_teach.notebook import load, whatif\n"
    "from tests.conftest import make_tiny\n"
    "small = dict(umap=False, options={'dim': 8}, tug=False)\n"
    "panel = whatif('vbpr', load('bazaar/garden'), epochs=3, **small)\n"
    "panel",
    "second = whatif('bpr', load('bazaar/garden'), epochs=2, autostart=False, **small)\nsecond",
    "large = whatif('bpr', make_tiny(n_users=60, n_items=10_000), epochs=1, points=10_000, autostart=False, **small)\nlarge",
)
CONTROLS = ("button", "slider", "checkbox", "radio", "combobox", "spinbutton", "textbox", "searchbox", "tab", "link")
TABS = ("curves", "tug", "top", "compare", "share")
STATE = """panel => {
    const words = panel.querySelector(".mmrec-status")?.textContent ?? "";
    return { update: Number(/update (\\d+)/.exec(words)?.[1] ?? 0), epoch: Number(/epoch (\\d+)/.exec(words)?.[1] ?? 0),
        pill: panel.querySelector(".mmrec-pill")?.textContent ?? "", words };
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """One browser for all tests here."""
    with browser_page() as made:
        yield made


@pytest.fixture(scope="module")
def lab(tmp_path_factory, page) -> Iterator[SimpleNamespace]:
    """JupyterLab with three panels in one notebook, all cells run."""
    root = make_course(tmp_path_factory.mktemp("lab") / "course")
    mine = root / "my_lessons"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(ROOT))
        with running_lab(mine, root, PAGE_SETTINGS) as server:
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(notebook, mine / "whatif.ipynb")
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            open_notebook(page, server, "whatif.ipynb")
            assert errors_of(run_all(page)) == []
            panels = page.locator(".mmrec-whatif")
            page.wait_for_function(
                "() => document.querySelectorAll('.mmrec-whatif .mmrec-sentence').length === 3", timeout=WAIT
            )
            wait_for(page, panels.nth(0), "now.pill === 'done' && now.update >= 3")
            yield SimpleNamespace(server=server, page=page, panel=panels.nth(0), second=panels.nth(1), large=panels.nth(2))


@pytest.fixture(autouse=True)
def _no_script_error_and_no_request(request) -> Iterator[None]:
    """No test leaves an error of the page's scripts behind, or has asked anything of another machine."""
    yield
    if "lab" in request.fixturenames:
        page = request.getfixturevalue("lab").page
        assert script_errors(page) == []
        assert page.elsewhere == []


# -- helpers -----------------------------------------------------------------------------------------------------------------
def state(panel: Any) -> dict[str, Any]:
    """What the line below a panel's head says."""
    return panel.evaluate(STATE)


def wait_for(page: Any, panel: Any, condition: str) -> None:
    """Wait until a JavaScript condition about ``now``, the panel's state, holds."""
    page.wait_for_function(
        f"panel => {{ const now = ({STATE})(panel); return {condition}; }}", arg=panel.element_handle(), timeout=WAIT
    )


def settle(page: Any, panel: Any, act: Callable[[], Any]) -> dict[str, Any]:
    """Do something that trains, wait until that run is done, and return the panel's state."""
    before = state(panel)["update"]
    act()
    wait_for(page, panel, f"now.pill === 'done' && now.update > {before}")
    return state(panel)


def control(panel: Any, name: str) -> Any:
    """The control of that name."""
    return panel.locator(f".mmrec-control-{name}").first


def show(panel: Any, tab: str) -> None:
    """Open a tab, and wait until its pane shows."""
    panel.locator(f".mmrec-tab-{tab}").click()
    panel.locator(f".mmrec-pane-{tab}.mmrec-shown").wait_for()


def picture(panel: Any) -> Any:
    """The first map's figure, drawn."""
    figure = panel.locator(".mmrec-shelf .mmrec-map [data-drawn]").first
    figure.wait_for(timeout=WAIT)
    return figure


def wait_for_another(page: Any, figure: Any, before: str) -> None:
    """Wait until a figure shows other numbers."""
    for _ in range(WAIT // 100):
        if figure_data(figure) != before:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the picture did not change")


def python(page: Any, code: str) -> None:
    """Run a line in the notebook's kernel, beside its cells."""
    status = page.evaluate(
        """async code => (await jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code }).done)
            .content.status""",
        code,
    )
    assert status == "ok"


def setting(panel: Any) -> str:
    """The text of the run shown, from the tab Share."""
    show(panel, "share")
    python(panel.page, "panel._lock.acquire(); panel._lock.release()")  # what the tab asked for has been answered
    field = control(panel, "setting")
    panel.page.wait_for_function("field => field.value.includes('?')", arg=field.element_handle(), timeout=WAIT)
    return field.input_value()


def unnamed_controls(page: Any, selector: str) -> tuple[int, list[str]]:
    """(how many controls the accessibility tree has below an element, those that have no name)."""
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    nodes = session.send("Accessibility.queryAXTree", {"nodeId": node})["nodes"]
    session.detach()
    found = [n for n in nodes if not n["ignored"] and n["role"]["value"] in CONTROLS]
    return len(found), [str(n["role"]["value"]) for n in found if not n.get("name", {}).get("value", "").strip()]


# -- the panel in a notebook -------------------------------------------------------------------------------------------------
def test_it_runs_and_a_slider_moved_by_keyboard_changes_the_picture(lab):
    page, panel = lab.page, lab.panel
    settle(page, panel, lambda: control(panel, "run").press("Enter"))
    figure = picture(panel)
    before = figure_data(figure)
    slider = control(panel, "l2")
    slider.focus()
    started = slider.get_attribute("aria-valuetext")
    settle(page, panel, lambda: slider.press("ArrowRight"))
    assert slider.get_attribute("aria-valuetext") != started
    wait_for_another(page, figure, before)
    assert "training" not in panel.locator(".mmrec-sentence").inner_text()


def test_a_term_can_be_left_out(lab):
    page, panel = lab.page, lab.panel
    settle(page, panel, lambda: control(panel, "l2-on").uncheck())
    assert control(panel, "l2").is_disabled()
    assert "l2=0" in setting(panel).split("?")[1].split("&")
    settle(page, panel, lambda: control(panel, "l2-on").press("Space"))
    assert control(panel, "l2").is_enabled()


def test_stop_step_and_undo(lab):
    page, panel = lab.page, lab.panel
    python(page, "panel.studio.epochs = 10**6")
    control(panel, "run").click()
    wait_for(page, panel, "now.pill === 'training' && now.epoch > 1 && now.words.includes('1000000')")
    control(panel, "stop").press("Enter")
    wait_for(page, panel, "now.pill === 'paused'")
    at = state(panel)["epoch"]
    control(panel, "step").click()
    wait_for(page, panel, f"now.pill === 'paused' && now.epoch === {at + 1}")
    python(page, "panel.studio.epochs = 3")
    slider = control(panel, "bpr")
    before = slider.input_value()
    settle(page, panel, lambda: slider.press("ArrowLeft"))
    assert slider.input_value() != before
    settle(page, panel, lambda: control(panel, "undo").click())
    page.wait_for_function("([e, v]) => e.value === v", arg=[slider.element_handle(), before], timeout=WAIT)


def test_two_pins_are_compared(lab):
    page, panel = lab.page, lab.panel
    settle(page, panel, lambda: control(panel, "run").click())
    control(panel, "pin").click()
    show(panel, "compare")
    rows = panel.locator(".mmrec-pins tbody tr")
    rows.nth(0).wait_for()
    seed = control(panel, "seed")
    settle(page, panel, lambda: (seed.fill("5"), seed.press("Enter")))
    control(panel, "pin").click()
    rows.nth(1).wait_for()
    page.wait_for_function(
        "panel => panel.querySelectorAll('.mmrec-compare [data-drawn]').length === 3", arg=panel.element_handle(), timeout=WAIT
    )
    said = panel.locator(".mmrec-comparenote").inner_text()
    assert re.search(r"From pin 1 to pin 2, [1-9]\d*% of an item's 10 nearest neighbours", said), said
    rows.nth(1).get_by_role("button", name="take down pin").click()
    rows.nth(1).wait_for(state="detached")


def test_a_setting_is_copied_and_opened_again(lab):
    page, panel = lab.page, lab.panel
    slider = control(panel, "l2")
    settle(page, panel, lambda: slider.press("Home"))
    wanted, place = setting(panel), slider.input_value()
    panel.get_by_role("button", name="Copy").click()
    panel.get_by_text("Copied").wait_for()
    settle(page, panel, lambda: slider.press("End"))
    assert setting(panel) != wanted
    field = control(panel, "open")
    field.focus()
    page.keyboard.press("Control+V")
    assert field.input_value() == wanted
    settle(page, panel, lambda: field.press("Enter"))
    page.wait_for_function("([e, v]) => e.value === v", arg=[slider.element_handle(), place], timeout=WAIT)
    assert setting(panel) == wanted


def test_an_error_is_said_in_the_panel(lab):
    page, panel = lab.page, lab.panel
    field = panel.locator('.mmrec-value[data-of="l2"]')
    kept = field.input_value()
    field.fill("-1")
    field.press("Enter")
    panel.locator(".mmrec-error-box [role=alert]", has_text="not a positive number").wait_for()
    field.blur()
    page.wait_for_function("([e, v]) => e.value === v", arg=[field.element_handle(), kept], timeout=WAIT)
    show(panel, "share")
    control(panel, "open").fill("vbpr?no_such_thing=1")
    control(panel, "open").press("Enter")
    panel.locator(".mmrec-sharebox [role=alert]", has_text="no_such_thing").wait_for()


def test_two_panels_do_not_meddle(lab):
    page, panel, second = lab.page, lab.panel, lab.second
    one, text = state(panel), setting(panel)
    settle(page, second, lambda: control(second, "run").click())
    settle(page, second, lambda: control(second, "l2").press("ArrowRight"))
    show(second, "top")
    assert (state(panel), setting(panel)) == (one, text)
    twice = page.evaluate(
        """() => { const ids = [...document.querySelectorAll(".mmrec-whatif [id]")].map(e => e.id);
            return ids.filter((id, n) => ids.indexOf(id) !== n && !id.includes("topdef") && !id.includes("clip")); }"""
    )
    assert twice == []


def test_ten_thousand_points_are_drawn(lab):
    page, large = lab.page, lab.large
    settle(page, large, lambda: control(large, "run").click())
    assert large.locator('[data-title*="Share"]').count() == 0  # plotly's upload to its cloud
    drawn = picture(large).evaluate("element => element.data.reduce((sum, trace) => sum + (trace.customdata?.length ?? 0), 0)")
    assert drawn == 10_000


def test_every_control_has_a_name_and_axe_has_no_serious_complaint(lab):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed (pip install the extra test)"
    )
    page, panel = lab.page, lab.panel
    panel.evaluate("panel => { panel.id = 'first-panel'; for (const d of panel.querySelectorAll('details')) d.open = true; }")
    for tab in TABS:
        show(panel, tab)
        count, unnamed = unnamed_controls(page, "#first-panel")
        assert count >= 15
        assert unnamed == [], tab
        found = axe.Axe().run(page, context="#first-panel").response["violations"]
        bad = [(v["id"], [n["html"][:160] for n in v["nodes"]][:3]) for v in found if v["impact"] in ("serious", "critical")]
        assert bad == [], tab


def test_in_a_narrow_window_nothing_is_cut_off(lab):
    page, panel = lab.page, lab.panel
    size = page.viewport_size
    page.evaluate("""() => { if (!jupyterapp.shell.leftCollapsed) jupyterapp.shell.collapseLeft(); }""")
    page.set_viewport_size({"width": 600, "height": 900})
    try:
        page.wait_for_function("panel => panel.clientWidth < 600", arg=panel.element_handle())
        control(panel, "pin").click()  # its table is wider than the window: it scrolls by itself, the panel does not
        panel.locator(".mmrec-pins tbody tr").first.wait_for(state="attached")
        for tab in TABS:
            show(panel, tab)
            assert panel.evaluate("panel => panel.scrollWidth - panel.clientWidth") <= 0, tab
            wide = panel.evaluate(
                """panel => { const edge = panel.getBoundingClientRect();
                    const cut = e => { const box = e.getBoundingClientRect();
                        return box.width && (box.right > edge.right + 1 || box.left < edge.left - 1) && !e.closest(".mmrec-scroll"); };
                    return [...panel.querySelectorAll("button, input, select, [tabindex]")].filter(cut)
                        .map(e => e.outerHTML.slice(0, 120)); }"""
            )
            assert wide == [], tab
    finally:
        page.set_viewport_size(size)


def test_fingers_find_targets_of_forty_pixels(lab):
    page, panel = lab.page, lab.panel
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page.wait_for_function("() => matchMedia('(pointer: coarse)').matches")
        panel.evaluate("panel => { for (const details of panel.querySelectorAll('details')) details.open = true; }")
        for tab in TABS:
            show(panel, tab)
            small = panel.evaluate(
                """panel => [...panel.querySelectorAll("button, input, select, summary")]
                    .map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 120)])
                    .filter(([box]) => box.width && Math.min(box.width, box.height) < 39.5).map(([box, text]) => text)"""
            )
            assert small == [], "\n".join([tab, *small])
    finally:
        session.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
        session.detach()


def test_who_asked_for_less_motion_gets_a_map_a_second(lab):
    page, panel = lab.page, lab.panel
    page.emulate_media(reduced_motion="reduce")
    try:
        panel.evaluate(
            """panel => { window.seen = [];
                panel.querySelector(".mmrec-shelf .mmrec-map").addEventListener("mmrec-drawn", event => {
                    if (event.detail.number !== seen.at(-1)?.[1]) seen.push([performance.now(), event.detail.number]); }); }"""
        )
        python(page, "panel.studio.epochs = 10**6")
        control(panel, "run").click()
        page.wait_for_function("() => seen.length > 3", timeout=WAIT)
        control(panel, "stop").click()
        wait_for(page, panel, "now.pill === 'paused'")
        times = [time for time, _ in page.evaluate("seen")]
        assert min(after - before for before, after in pairwise(times[1:])) > 900
    finally:
        page.emulate_media(reduced_motion="null")
        python(page, "panel.studio.epochs = 3")


def test_a_dark_theme_makes_a_dark_panel_that_can_be_read(lab):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed (pip install the extra test)"
    )
    page, panel = lab.page, lab.panel
    switch = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })"
    page.evaluate(switch, "JupyterLab Dark")
    try:
        page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
        background = "panel => getComputedStyle(panel).backgroundColor.match(/\\d+/g).map(Number)"
        assert max(panel.evaluate(background)) < 64
        panel.evaluate("panel => { panel.id = 'first-panel'; }")
        for tab in TABS:
            show(panel, tab)
            found = axe.Axe().run(page, context="#first-panel").response["violations"]
            bad = [
                (v["id"], [n["html"][:160] for n in v["nodes"]][:3]) for v in found if v["impact"] in ("serious", "critical")
            ]
            assert bad == [], tab
    finally:
        page.evaluate(switch, "JupyterLab Light")


def test_after_a_reload_and_a_restarted_kernel_something_is_left(lab):
    """Last of the notebook's tests: afterwards its panels are gone."""
    page = lab.page
    python(page, "panel.studio.join()")  # the still picture of its end is made last
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    open_notebook(page, lab.server, "whatif.ipynb")
    left = """() => [...document.querySelectorAll('.mmrec-whatif .mmrec-pill, .mmrec-twin img')].some(e => e.offsetParent !== null)"""
    page.wait_for_function(left, timeout=WAIT)
    restart_kernel(page)
    page.wait_for_function(
        """() => [...document.querySelectorAll(".mmrec-gone, .mmrec-twin img")].some(e => e.offsetParent !== null)""",
        timeout=WAIT,
    )
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    open_notebook(page, lab.server, "whatif.ipynb")
    twin = page.locator(".mmrec-twin img").first
    twin.wait_for(timeout=WAIT)
    assert "recall@20" in twin.get_attribute("alt")


# -- the panel as a page -----------------------------------------------------------------------------------------------------
def test_the_app_opens_runs_follows_a_link_and_ends(tmp_path, page):
    pytest.importorskip("voila", reason="Voilà is not installed (pip install the extra app)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from mmrec_teach.cli import main; sys.exit(main())"
    words = ["whatif", "bpr", "--data", "bazaar/garden", "--no-browser", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONUNBUFFERED": "1",
    }
    log = open(tmp_path / "log", "w", encoding="utf-8")  # noqa: SIM115 - closed below; a pipe that nobody reads would fill
    app = subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        errors: list[str] = []
        page = page.context.browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("pageerror", lambda error: errors.append(str(error)))
        elsewhere = requests_elsewhere(page)
        address = wait_for_address(page, app, tmp_path / "log")
        page.goto(address, timeout=WAIT)
        panel = page.locator(".mmrec-whatif")
        panel.wait_for(timeout=WAIT)
        wait_for(page, panel, "now.pill === 'done'")
        picture(panel)
        assert page.locator(".jp-InputArea, .jp-CodeMirrorEditor, .cm-editor, .CodeMirror").count() == 0
        assert "import" not in page.locator("body").inner_text()
        settle(page, panel, lambda: control(panel, "l2").press("ArrowRight"))
        page.goto(f"{address}&setting={quote('bpr?l2=0.05&seed=4&data=bazaar/kitchen')}", timeout=WAIT)
        panel.wait_for(timeout=WAIT)
        wait_for(page, panel, "now.pill === 'done'")
        assert "bpr on bazaar/kitchen" in panel.locator(".mmrec-title").inner_text()
        assert panel.locator('.mmrec-value[data-of="l2"]').input_value() == "0.05"
        assert control(panel, "seed").input_value() == "4"
        page.goto(f"{address}&setting=bpr?nothing=4", timeout=WAIT)
        page.locator(".mmrec-refused", has_text="bpr has no such setting").wait_for(timeout=WAIT)
        assert errors == []
        assert elsewhere == []  # Voilà's own templates ask a CDN for style sheets
        family = psutil.Process(app.pid).children(recursive=True)
        assert family
        app.send_signal(signal.SIGINT)
        assert app.wait(60) == 0
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(("mmrec-whatif-", "voila_"))]
    finally:
        log.close()
        if app.poll() is None:
            for process in [*psutil.Process(app.pid).children(recursive=True), app]:
                process.kill()
            app.wait()


def wait_for_address(page: Any, app: subprocess.Popen, log: Path) -> str:
    """Return the address that the command prints, once a server answers there."""
    for _ in range(WAIT // 200):
        said = log.read_text(encoding="utf-8")
        assert app.poll() is None, said
        found = re.search(r"^What if: (\S+)$", said, re.MULTILINE)
        if found:
            try:
                urllib.request.urlopen(found[1].split("?")[0] + "voila/static/none", timeout=5)
            except urllib.error.HTTPError:
                return found[1]  # an answer, whatever it is
            except OSError:
                pass
            else:
                return found[1]
        page.wait_for_timeout(200)
    raise AssertionError(f"no address within {WAIT // 1000} s; the command said:\n{log.read_text(encoding='utf-8')}")
