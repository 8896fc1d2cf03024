"""The atlas: its numbers are those of the runs, it is one file, and it works in a browser without a network."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from mmrec_teach.cli import main
from mmrec_teach.data import load
from mmrec_teach.errors import DataError, InputError, OptionError
from mmrec_teach.training.sweep import read_sweep, sweep
from mmrec_teach.views.atlas import draw, path_through, say, value_of, write_atlas
from mmrec_teach.views.projection import kept_neighbours, nearest
from tests.lab_driver import browser_page, script_errors

GRID = {"l2": [0.001, 0.1], "content_dim": [4, 8]}


@pytest.fixture(scope="module")
def attic():
    return load("bazaar/attic")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, attic):
    """A sweep of 2 x 2 grid points and 2 seeds."""
    folder = tmp_path_factory.mktemp("atlas") / "sweep"
    words = {"given": {"dim": 4}, "seeds": [0, 1], "settings": {"epochs": 3, "lr": 0.02, "metric": "recall@20"}}
    source = {"source": "bazaar/attic", "options": {}}
    outcome = sweep(attic, "vbpr", GRID, folder, processes=1, progress=False, device="cpu", source=source, **words)
    return outcome.sweep


@pytest.fixture(scope="module")
def file(swept, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "atlas.html"
    assert main(["atlas", str(swept.folder), "--out", str(out), "--quiet"]) == 0
    return out


def told_by(file) -> dict:
    found = re.search(r'<script type="application/json" id="atlas-data">(.*?)</script>', file.read_text("utf-8"), re.S)
    return json.loads(found.group(1))


def decoded(text: str, kind: str, width: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(-1, width)


# -- what is in the file -------------------------------------------------------------------------------------------------
def test_every_number_and_picture_is_that_of_its_run(file, swept):
    told = told_by(file)
    assert len(told["runs"]) == len(swept.points()) == told["expected"] == 8
    by_folder = {run["folder"]: run for run in told["runs"]}
    for point in swept.points():
        run, record = by_folder[point.folder.name], point.record
        labels = [control["labels"][n] for control, n in zip(told["controls"], run["at"])]
        assert labels == [say(point.value("l2")), say(point.value("content_dim"))]
        assert run["seed"] == point.seed
        assert run["values"] == [value_of(point, measure["key"]) for measure in told["measures"]]
        shown = dict(zip([m["key"] for m in told["measures"]], run["values"]))
        assert shown["test/recall@20"] == record["metrics"]["test"]["recall@20"]
        assert shown["valid/coverage@20"] == record["metrics"]["valid"]["coverage@20"]
        assert shown["gauges/effective rank"] == record["gauges"]["effective rank"]
        assert shown["gauges/CKA"] == record["gauges"]["CKA"]
        assert [epoch for epoch, _ in run["curve"]] == [1, 2, 3]
        for view, (rows, table) in point.tables().items():
            picture = run["pictures"][view]
            xy = decoded(picture["xy"], "<i2", 2)
            assert len(xy) == len(rows)
            assert (picture["dim"], picture["of"]) == (table.shape[1], len(rows))
            assert picture["kept"] == pytest.approx(kept_neighbours(table, xy.astype(np.float32)), abs=0.01)
            np.testing.assert_array_equal(decoded(picture["near"], "<u2", told["links"]), nearest(table, told["links"])[0])
    about = told["sides"]["item"]
    attic = load("bazaar/attic")
    assert about["titles"] == attic.items["title"].tolist()
    assert about["counts"] == attic.item_counts.tolist()
    colours = {c["name"]: c for c in about["colourings"]}
    category = colours["category (planted interest)"]
    assert [category["groups"][v] for v in category["values"]] == attic.items["category"].tolist()
    assert len({tuple(s) for s in category["styles"]}) == len(category["groups"])
    assert [colours["cold"]["groups"][v] == "cold" for v in colours["cold"]["values"]] == attic.cold_items.tolist()
    assert [c["name"] for c in told["sides"]["user"]["colourings"]][:2] == ["planted interest", "popularity"]
    best = max({tuple(r["at"]) for r in told["runs"]}, key=lambda at: mean_of(told, at, "valid/recall@20"))
    assert tuple(told["start"]["at"]) == best


def mean_of(told, at, key) -> float:
    number = [m["key"] for m in told["measures"]].index(key)
    return float(np.mean([r["values"][number] for r in told["runs"] if tuple(r["at"]) == at]))


class Cells(HTMLParser):
    """The rows of the page's table, as text."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_the_table_needs_no_script_and_tells_means_and_spread(file):
    told = told_by(file)
    heads, *rows = Cells(file.read_text("utf-8")).rows
    assert heads == ["l2", "content_dim", "runs", *(m["label"] for m in told["measures"])]
    assert [row[:3] for row in rows] == [["0.001", "4", "2"], ["0.001", "8", "2"], ["0.1", "4", "2"], ["0.1", "8", "2"]]
    values = [r["values"][0] for r in told["runs"] if r["at"] == [1, 0]]
    assert rows[2][3] == f"{np.mean(values):.3f} ±{np.std(values, ddof=1):.3f}"


def test_one_file_that_asks_for_nothing_else(file):
    text = file.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)
    assert len(text.encode()) < 1e6


def test_titles_cannot_leave_their_place(swept, attic, tmp_path):
    evil = attic.items.assign(title="</script><img src=x onerror=alert(1)>", category="<b>&")
    write_atlas(swept, tmp_path / "a.html", data=dataclasses.replace(attic, items=evil), views=["item/id"])
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert told_by(tmp_path / "a.html")["sides"]["item"]["titles"][0] == "</script><img src=x onerror=alert(1)>"


def test_fewer_points_and_views_make_it_smaller_and_a_large_one_is_refused(swept, file, tmp_path, attic):
    out = tmp_path / "a.html"
    with pytest.raises(InputError, match=r"at most 0.1 MB.*--points"):
        write_atlas(swept, out, data=attic, max_mb=0.1)
    assert not out.exists()
    told = write_atlas(swept, out, data=attic, views=["item/final"], points=60, pictures=False, links=False)
    assert out.stat().st_size < 0.5 * file.stat().st_size
    assert [view["name"] for view in told["views"]] == ["item/final"]
    assert len(decoded(told["runs"][0]["pictures"]["item/final"]["xy"], "<i2", 2)) == 53  # every fourth of 210
    assert told["sides"]["item"]["titles"] == attic.items["title"].tolist()[::4]
    for words, says in (({"views": ["item/none"]}, "no such view"), ({"points": 1}, "points out of range")):
        with pytest.raises(OptionError, match=says):
            write_atlas(swept, out, data=attic, **words)


def test_other_data_is_refused(swept, tmp_path, tiny):
    with pytest.raises(DataError, match="not the data set of this sweep"):
        write_atlas(swept, tmp_path / "a.html", data=tiny)
    with pytest.raises(DataError, match="does not know where its data came from"):
        write_atlas(dataclasses.replace(swept, load=None), tmp_path / "a.html")
    gone = dataclasses.replace(swept, load={"source": str(tmp_path / "gone"), "options": {}})
    with pytest.raises(DataError, match=r"cannot be opened.*--data"):
        write_atlas(gone, tmp_path / "a.html")


@pytest.fixture(scope="module")
def unfinished(swept, tmp_path_factory):
    """The atlas of the same sweep, the runs of one grid point not yet trained."""
    folder = tmp_path_factory.mktemp("unfinished")
    shutil.copytree(swept.folder, folder / "sweep")
    half = read_sweep(folder / "sweep")
    for config in half.plan.runs()[-2:]:
        (half.folder_of(config) / "point.json").unlink()
    write_atlas(half, folder / "atlas.html", views=["item/final"], pictures=False)
    return folder / "atlas.html"


def test_an_unfinished_sweep_says_so(unfinished, tmp_path, tiny):
    told = told_by(unfinished)
    assert (len(told["runs"]), told["expected"]) == (6, 8)
    assert "2 of 8 runs are not trained yet." in unfinished.read_text("utf-8")


# -- pictures --------------------------------------------------------------------------------------------------------------
def test_a_path_reaches_every_grid_point_from_a_neighbour():
    path = path_through((3, 2), (1, 0))
    assert path[0] == ((1, 0), None)
    assert len({at for at, _ in path}) == 6
    for n, (at, before) in enumerate(path[1:], 1):
        assert sum(abs(a - b) for a, b in zip(at, before)) == 1
        assert before in [earlier for earlier, _ in path[:n]]


def test_items_stay_in_place_along_the_grid():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 8))
    table = (centres[np.arange(120) % 6] + 0.3 * rng.normal(size=(120, 8))).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
    drawn = draw({((0,), 0): table, ((1,), 0): table @ turn, ((1,), 1): table}, (2,), (0,), (0, 1))
    width = np.ptp(drawn[(0,), 0].xy, axis=0).max()
    for key in (((1,), 0), ((1,), 1)):
        moved = np.linalg.norm(drawn[key].xy - drawn[(0,), 0].xy, axis=1)
        assert np.median(moved) < 0.1 * width
        assert drawn[key].method == "UMAP"


# -- in a browser ------------------------------------------------------------------------------------------------------------
def in_browser(test):
    """Mark a test that drives Chromium."""
    return pytest.mark.browser(pytest.mark.xdist_group("browser")(pytest.mark.timeout(240)(test)))


@pytest.fixture(scope="module")
def page_of(chromium):
    """Opens a file in one Chromium; asserts in the end that nothing was asked of a network and no script failed."""
    asked = []
    with browser_page(1400, 1000) as page:
        page.emulate_media(reduced_motion="reduce")
        page.on("request", lambda request: asked.append(request.url))

        def open_file(path, words="", width=1400):
            page.set_viewport_size({"width": width, "height": 1000})
            page.goto("about:blank")
            page.goto(f"file://{path}{words}")
            page.wait_for_selector(".says")
            return page

        yield open_file
        assert script_errors(page) == []
    assert [url for url in asked if not url.startswith(("file://", "data:", "about:"))] == []


def number_shown(page, key) -> str:
    return page.locator(f"tr[data-key='{key}'] td b").inner_text()


def picture_shown(page) -> str:
    return page.locator("canvas").evaluate("canvas => canvas.toDataURL()")


def run_of(told, at, seed) -> dict:
    return next(r for r in told["runs"] if r["at"] == at and r["seed"] == seed)


@in_browser
def test_by_keyboard_alone(page_of, file):
    told = told_by(file)
    key = "test/recall@20"
    number = [m["key"] for m in told["measures"]].index(key)
    page = page_of(file, "#l2=0.001&content_dim=4&seed=0&view=item/final")
    assert number_shown(page, key) == f"{run_of(told, [0, 0], 0)['values'][number]:.3f}"
    before = picture_shown(page)
    page.get_by_role("slider", name="weight of l2").focus()
    page.keyboard.press("ArrowRight")
    assert number_shown(page, key) == f"{run_of(told, [1, 0], 0)['values'][number]:.3f}"
    assert page.get_by_role("slider", name="weight of l2").get_attribute("aria-valuetext") == "0.1, 2 of 2"
    assert picture_shown(page) != before
    assert "l2 = 0.1, content_dim = 4, seed 0" in page.locator(".says").inner_text()
    page.keyboard.press("ArrowRight")  # the last stop: there is nothing beyond it
    page.get_by_role("slider", name="content_dim").press("End")
    page.get_by_role("radio", name="0").press("ArrowRight")
    assert number_shown(page, key) == f"{run_of(told, [1, 1], 1)['values'][number]:.3f}"
    assert "seed=1" in page.evaluate("location.hash")
    # back where it began, the picture is the same again
    for slider in ("weight of l2", "content_dim"):
        page.get_by_role("slider", name=slider).press("Home")
    page.get_by_role("radio", name="1").press("ArrowLeft")
    page.evaluate("document.activeElement.blur()")
    assert picture_shown(page) == before
    # from point to point, and what is said of them
    page.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert "Nearest in the full space:" in page.locator("[role=status].hidden").inner_text()
    assert page.locator(".card").is_visible()
    assert picture_shown(page) != before
    page.keyboard.press("Escape")
    assert not page.locator(".card").is_visible()
    # the front: axes are chosen, a setting is gone to
    page.get_by_label("across").select_option(label="coverage@20 on test")
    here = page.locator("svg.chart [role=button][tabindex='0']")
    here.focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    coverage = {tuple(r["at"]): mean_of(told, tuple(r["at"]), "test/coverage@20") for r in told["runs"]}
    gone_to = tuple(map(int, page.locator("tr.here").get_attribute("data-at").split(",")))
    assert coverage[gone_to] == max(coverage.values())
    words = ", ".join(f"{c['name']} = {c['labels'][n]}" for c, n in zip(told["controls"], gone_to))
    assert page.locator("#map-name").inner_text() == f"item/final: {words}"
    # one by name
    page.get_by_label("find one of the items").fill(told["sides"]["item"]["titles"][7].upper())
    page.keyboard.press("Enter")
    assert page.locator(".card b").inner_text() == told["sides"]["item"]["titles"][7]
    page.get_by_label("find one of the items").fill("no such thing")
    page.keyboard.press("Enter")
    assert page.get_by_text("No item is called that.").is_visible()
    # other views and colours
    page.get_by_label("map", exact=True).select_option("user/final")
    assert "400 users, coloured by planted interest" in page.locator(".says").inner_text()
    page.get_by_label("colour by").select_option("popularity")
    assert "training interactions (log scale)" in page.locator(".scale").inner_text()


@in_browser
@pytest.mark.parametrize("width", [500, 900])
def test_narrow_windows_hold_everything(page_of, file, width):
    page = page_of(file, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("canvas").bounding_box()
    assert box["width"] > 0.4 * width
    page.locator("canvas").hover(position={"x": box["width"] / 2, "y": box["height"] / 2})


@in_browser
def test_axe_finds_nothing(page_of, file):
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe is not installed (pip install the extra test)")
    page = page_of(file)
    for width in (1400, 500):
        page.set_viewport_size({"width": width, "height": 1000})
        page.evaluate(axe.AXE_SCRIPT)  # not add_script_tag: the page's own rules forbid it
        found = page.evaluate("async () => (await axe.run()).violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)])")
        assert found == []


@in_browser
def test_what_was_not_trained_is_not_drawn(page_of, unfinished):
    page = page_of(unfinished, "#l2=0.1&content_dim=8&seed=0")
    assert "was not trained" in page.locator(".none").inner_text()
    assert number_shown(page, "test/recall@20") == "none"
    blank = page.locator("canvas").evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.every(value => value === 0)"
    )
    assert blank
    page.get_by_role("slider", name="weight of l2").press("ArrowLeft")
    assert not page.locator(".none").is_visible()
