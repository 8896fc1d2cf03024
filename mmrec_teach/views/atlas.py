"""The atlas of a sweep: one HTML file with every trained run's pictures and numbers, that needs no kernel and no network.

Drawn by a small script of its own and not by plotly.js: that alone would take 4.6 of the 10 MB, redraws where points should
move, and leaves its marks out of reach of the keyboard. What the sliders show was trained; between two stops there is nothing.

Pictures are UMAPs that start from the picture of a neighbouring grid point and are turned onto it, so that an item stays in place
unless its neighbours changed. Each tells how many of the nearest neighbours it keeps.
"""

from __future__ import annotations

import base64
import copy
import html
import io
import json
import math
import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mmrec_teach.data import Dataset, load
from mmrec_teach.errors import DataError, InputError, OptionError, check_whole
from mmrec_teach.files import write_text
from mmrec_teach.models import model_class
from mmrec_teach.training.experiments import RunConfig, data_key
from mmrec_teach.training.sweep import Point, Sweep, read_sweep
from mmrec_teach.views import palette
from mmrec_teach.views.colourings import colourings
from mmrec_teach.views.gauges import GAUGES
from mmrec_teach.views.projection import Projector, nearest

MAX_MB = 10.0
REFIT_EPOCHS = 100  # of a picture that starts from its neighbour's: as many neighbours kept as by a fit from nothing, or more
LINKS = 5  # nearest neighbours in the full space that the page can draw lines to
TILE = 48  # pixels of a product's picture
RULES = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"  # of the page: no network
HIGHER = ("recall", "ndcg", "precision", "map", "mrr", "hitrate", "coverage", "novelty")
LOWER = ("alignment", "uniformity", "ID-content distance")


# -- numbers -------------------------------------------------------------------------------------------------------------
def measures_of(points: Sequence[Point], metric: str) -> list[dict[str, Any]]:
    """Return what the page tells of every run: ``{"key", "label", "help", "better", "digits"}`` in order.

    ``key`` is read by :func:`value_of`; ``better`` is "high", "low" or None where neither way is better.

    Args:
        points: finished runs.
        metric: the one that steered training.
    """
    kind, _, cut = metric.partition("@")
    names = dict.fromkeys([metric, f"recall@{cut}", f"ndcg@{cut}", f"coverage@{cut}"])
    found: list[dict[str, Any]] = []
    for split, words in (("test", "test, train and valid masked"), ("valid", "valid, train masked")):
        for name in names:
            better = "high" if name.partition("@")[0] in HIGHER else None
            share = "Share of the catalogue that stands in any user's list" if name.startswith("coverage") else f"Mean {name}"
            found.append(
                {
                    "key": f"{split}/{name}",
                    "label": f"{name} on {split}",
                    "help": f"{share}; {words}.",
                    "better": better,
                    "digits": 3,
                }
            )
    if any(f"recall@{cut}" in p.record["metrics"].get("cold", {}) for p in points):
        help_text = "Recall of the items never seen in training, on test."
        found.append(
            {
                "key": f"cold/recall@{cut}",
                "label": f"recall@{cut} of cold items",
                "help": help_text,
                "better": "high",
                "digits": 3,
            }
        )
    for name, gauge in GAUGES.items():
        if any(name in p.record["gauges"] for p in points):
            better = "low" if name in LOWER else None
            digits = 1 if gauge.style == ".1f" else 2
            found.append({"key": f"gauges/{name}", "label": name, "help": gauge.help, "better": better, "digits": digits})
    return found


def value_of(point: Point, key: str) -> float | None:
    """Return a run's number by a measure's key, or None where it has none."""
    section, _, name = key.partition("/")
    values = point.record["gauges"] if section == "gauges" else point.record["metrics"].get(section, {})
    value = values.get(name)
    return None if value is None or not math.isfinite(value) else float(value)


def say(value: Any) -> str:
    """Return a setting's value in few words: 0.001, on, text + image."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return re.sub(r"e([+-])0?", r"e\1", f"{value:g}").replace("e+", "e")
    return " + ".join(map(str, value)) if isinstance(value, (tuple, list)) else "none" if value is None else str(value)


# -- pictures ------------------------------------------------------------------------------------------------------------
def path_through(shape: Sequence[int], start: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """Return every grid index once with a neighbour that comes earlier (None for ``start``), nearest to ``start`` first."""
    order: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = [(start, None)]
    seen = {start}
    for here, _ in order:  # grows while it is walked
        for axis, size in enumerate(shape):
            for step in (-1, 1):
                there = (*here[:axis], here[axis] + step, *here[axis + 1 :])
                if 0 <= there[axis] < size and there not in seen:
                    seen.add(there)
                    order.append((there, here))
    return order


def draw(
    tables: Mapping[tuple[tuple[int, ...], int], np.ndarray],
    shape: Sequence[int],
    start: tuple[int, ...],
    seeds: Sequence[int],
    tell: Callable[[], None] = lambda: None,
) -> dict[tuple[tuple[int, ...], int], Projector]:
    """Return a drawn projector for every (grid index, seed) that has a table.

    A picture starts from the same seed's at a neighbouring grid point (the first from the first seed's), or from nothing.
    """
    drawn: dict[tuple[tuple[int, ...], int], Projector] = {}
    for at, before in path_through(shape, start):
        for seed in seeds:
            table = tables.get((at, seed))
            if table is None:
                continue
            sources = [(before, seed), (at, seeds[0]), *reversed(drawn)]
            source = next((drawn[s] for s in sources if s in drawn), None)
            projector = copy.copy(source) if source is not None else Projector(update_epochs=REFIT_EPOCHS)
            projector.update(table, "UMAP")
            drawn[at, seed] = projector
            tell()
    return drawn


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def sheet_of(images: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Return the pictures of ``rows`` as one sheet: ``{"src", "tile", "columns", "missing"}``; missing ones are black."""
    from PIL import Image

    columns = math.ceil(math.sqrt(len(rows)))
    sheet = Image.new("RGB", (columns * TILE, math.ceil(len(rows) / columns) * TILE), "white")
    for n, row in enumerate(rows):
        tile = Image.fromarray(images[row]).resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (n % columns * TILE, n // columns * TILE))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=80, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
    missing = [n for n, row in enumerate(rows) if not images[row].any()]
    return {"src": source, "tile": TILE, "columns": columns, "missing": missing}


def _side(data: Dataset, side: str, rows: np.ndarray, pictures: bool) -> dict[str, Any]:
    """What is known of the rows of one side: names, notes, how they can be coloured, their pictures."""
    if side == "item":
        ids, counts = data.item_ids[rows], data.item_counts[rows]
        titles = ids
        if data.items is not None and "title" in data.items:
            given = data.items["title"].fillna("").astype(str).to_numpy()[rows]
            titles = np.where(given == "", ids, given)
    elif side == "user":
        ids, counts = data.user_ids[rows], data.user_counts[rows]
        titles = np.array([f"user {u}" for u in ids])
    else:  # a side of the model's own (interests, say): nothing is known of its rows
        return {
            "titles": [f"row {r} of {side}" for r in rows],
            "counts": None,
            "colourings": [_plain(len(rows))],
            "sheet": None,
        }
    found: list[dict[str, Any]] = []
    known = colourings(data, side)
    if side == "user" and "planted interest" in known:
        known.pop("category", None)  # the same once more
    for name, (kind, values) in known.items():
        if kind == "category":
            groups = _groups(name, np.asarray(values).astype(str)[rows])
            twin = next((f for f in found if f["groups"] == groups["groups"] and f["values"] == groups["values"]), None)
            if twin is not None:
                twin["name"] += f" ({name})"
                continue
            found.append(groups)
        elif kind == "cold":
            cold = np.asarray(values, dtype=bool)
            found.append(_groups(name, np.where(cold, "cold", "warm")[rows], ["warm", "cold"]))
        elif kind == "popularity":
            found.append({"name": name, "kind": "popularity", "groups": [], "values": counts.tolist()})
    found.append(_plain(len(rows)))
    sheet = sheet_of(data.images, rows) if pictures and side == "item" and data.images is not None else None
    return {"titles": [str(t) for t in titles], "counts": counts.tolist(), "colourings": found, "sheet": sheet}


def _plain(n: int) -> dict[str, Any]:
    return {"name": "plain", "kind": "category", "groups": ["all"], "values": [0] * n, "styles": [palette.style(0)]}


def _groups(name: str, labels: np.ndarray, order: list[str] | None = None) -> dict[str, Any]:
    names = order or sorted(set(labels.tolist()), key=lambda v: (v == "other", v))
    names = [v for v in names if (labels == v).any()]
    numbers = {v: n for n, v in enumerate(names)}
    return {
        "name": name,
        "kind": "category",
        "groups": names,
        "values": [numbers[v] for v in labels.tolist()],
        "styles": [palette.style(n) for n in range(len(names))],
    }


# -- the page ------------------------------------------------------------------------------------------------------------
def contents(
    sweep: Sweep,
    data: Dataset,
    *,
    views: Sequence[str] | None = None,
    points: int | None = None,
    pictures: bool = True,
    links: bool = True,
    progress: bool = False,
) -> dict[str, Any]:
    """Return everything the page shows, as a dictionary for JSON. See :func:`write_atlas` for the arguments."""
    from tqdm.auto import tqdm

    plan = sweep.plan
    if data_key(data) != dict(plan.data):
        raise DataError(
            "not the data set of this sweep",
            where=data.name,
            found=f"hash {data_key(data)['hash']}",
            expected=f"{plan.data['name']} with hash {plan.data['hash']}",
        )
    wanted = list(plan.views) if views is None else list(views)
    for view in wanted:
        if view not in plan.views:
            raise OptionError("the sweep kept no such view", where="views", found=repr(view), expected=", ".join(plan.views))
    shape = tuple(len(values) for values in plan.grid.values())
    runs: dict[tuple[tuple[int, ...], int], tuple[RunConfig, Point]] = {}
    for config in plan.runs():
        point = sweep.point(config)
        if point is not None:
            at = tuple(list(values).index(point.value(name)) for name, values in plan.grid.items())
            runs[at, config.seed] = (config, point)
    if not runs:
        raise DataError("no run is finished yet", where=str(sweep.folder), fix="Sweep first, with the same command")
    metric = plan.settings["metric"]
    measures = measures_of([point for _, point in runs.values()], metric)
    start = best_point({key: point for key, (_, point) in runs.items()}, f"valid/{metric}")

    drawn: dict[str, dict] = {}
    described, sides, kept_rows = [], {}, {}
    bar = tqdm(total=len(wanted) * len(runs), unit="picture", desc="drawing", disable=not progress)
    for view in wanted:
        side = view.split("/", 1)[0]
        side = side if side in ("item", "user") else view  # tables of a model's own need not have equally many rows
        tables = {}
        for key, (_, point) in runs.items():
            rows, table = point.tables()[view]
            rows, table = (rows, table) if points is None else (rows[:: _stride(rows, points)], table[:: _stride(rows, points)])
            tables[key] = table
            if len(rows) > len(kept_rows.get(side, ())):
                kept_rows[side] = rows
        drawn[view] = draw(tables, shape, start, plan.seeds, bar.update)
        extent = max(float(np.abs(p.xy).max(initial=0.0)) for p in drawn[view].values()) or 1.0
        described.append({"name": view, "side": side, "extent": extent})
        sides.setdefault(side, _side(data, side, kept_rows[side], pictures))
    bar.close()

    told = []
    for key, (config, point) in runs.items():
        record = point.record
        shown = {}
        for view in described:
            projector = drawn[view["name"]][key]
            xy = np.round(projector.xy / view["extent"] * 32767).astype(np.int16)
            shown[view["name"]] = {
                "xy": _packed(xy, "<i2"),
                "method": projector.method,
                "kept": round(projector.kept(), 4),
                "rank": record["views"][view["name"]]["effective_rank"],
                "dim": record["views"][view["name"]]["dim"],
                "of": record["views"][view["name"]]["rows"],
            }
            if links and len(xy) > LINKS:
                shown[view["name"]]["near"] = _packed(nearest(projector._table, LINKS)[0], "<u2" if len(xy) < 65536 else "<u4")
        curve = [[r["epoch"], r["metrics"][metric]] for r in record["curve"] if r["metrics"] and metric in r["metrics"]]
        told.append(
            {
                "at": list(key[0]),
                "seed": key[1],
                "values": [value_of(point, m["key"]) for m in measures],
                "best_epoch": record["metrics"].get("best_epoch"),
                "epochs": record["metrics"].get("epochs"),
                "curve": [[e, round(v, 5)] for e, v in _thinned(curve)],
                "pictures": shown,
                "folder": config.folder,
            }
        )
    weights = model_class(plan.model).default_weights
    return {
        "format": 1,
        "model": plan.model,
        "data": dict(plan.data),
        "source": data.source,
        "command": sweep.command,
        "metric": metric,
        "settings": dict(plan.settings),
        "given": {name: say(value) for name, value in plan.given.items()},
        "seeds": list(plan.seeds),
        "controls": [
            {"name": name, "kind": "weight" if name in weights else "option", "labels": [say(v) for v in values]}
            for name, values in plan.grid.items()
        ],
        "start": {"at": list(start), "seed": next(seed for at, seed in runs if at == start)},
        "views": described,
        "sides": sides,
        "measures": measures,
        "runs": told,
        "expected": len(plan.runs()),
        "links": LINKS if links else 0,
        "scale": [list(stop) for stop in palette.POPULARITY_SCALE],
    }


def _stride(rows: np.ndarray, points: int) -> int:
    return max(math.ceil(len(rows) / points), 1)


def _thinned(curve: list, most: int = 200) -> list:
    """At most about ``most`` points of a curve, its last one among them: more than a screen shows."""
    step = max(math.ceil(len(curve) / most), 1)
    return curve[::step] if not curve or (len(curve) - 1) % step == 0 else [*curve[::step], curve[-1]]


def best_point(points: Mapping[tuple[tuple[int, ...], int], Point], key: str) -> tuple[int, ...]:
    """Return the grid index whose mean over seeds of a measure is highest."""
    values: dict[tuple[int, ...], list[float]] = {}
    for (at, _), point in points.items():
        values.setdefault(at, []).append(value_of(point, key) or 0.0)
    return max(values, key=lambda at: statistics.fmean(values[at]))


def over_seeds(told: Mapping[str, Any], at: Sequence[int], number: int) -> tuple[float, float | None, int] | None:
    """Return (mean, standard deviation or None, runs) of measure ``number`` over the seeds of a grid point."""
    values = [r["values"][number] for r in told["runs"] if r["at"] == list(at) and r["values"][number] is not None]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)


def _table(told: Mapping[str, Any]) -> str:
    """All numbers as a plain HTML table: what the page says without its script, and to a screen reader."""
    cell = lambda text, tag="td", more="": f"<{tag}{more}>{html.escape(text)}</{tag}>"  # noqa: E731
    heads = [c["name"] for c in told["controls"]]
    lines = [
        "<table><caption>Every trained setting: mean over seeds ± standard deviation</caption><thead><tr>"
        + "".join(cell(h, "th", ' scope="col"') for h in [*heads, "runs", *(m["label"] for m in told["measures"])])
        + "</tr></thead><tbody>"
    ]
    for at in sorted({tuple(r["at"]) for r in told["runs"]}):
        runs = sum(r["at"] == list(at) for r in told["runs"])
        cells = [c["labels"][n] for c, n in zip(told["controls"], at)]
        row = cell(cells[0], "th", ' scope="row"') + "".join(cell(c) for c in [*cells[1:], str(runs)])
        for number, measure in enumerate(told["measures"]):
            value = over_seeds(told, at, number)
            row += cell("none" if value is None else _number(*value[:2], measure["digits"]))
        lines.append(f'<tr data-at="{",".join(map(str, at))}">{row}</tr>')
    return "\n".join([*lines, "</tbody></table>"])


def _number(mean: float, spread: float | None, digits: int) -> str:
    return f"{mean:.{digits}f}" + (f" ±{spread:.{digits}f}" if spread is not None else "")


def page(told: Mapping[str, Any]) -> str:
    """Return the page as text: one file, its script, style and data within; its own rules forbid it the network."""
    asset = lambda name: (resources.files("mmrec_teach.views") / "web" / name).read_text(encoding="utf-8")  # noqa: E731
    # "<" as \\u003c: a title must not be able to end the script element it stands in
    body = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    n_points = len({tuple(r["at"]) for r in told["runs"]})
    count = f"{n_points} setting{'s' * (n_points != 1)} x {len(told['seeds'])} seed{'s' * (len(told['seeds']) != 1)}"
    gaps = told["expected"] - len(told["runs"])
    missing = f" {gaps} of {told['expected']} runs are not trained yet." if gaps else ""
    settings = ", ".join(f"{name} {say(value)}" for name, value in told["settings"].items() if name != "metric")
    title = html.escape(f"Atlas: {told['model']} on {told['data']['name']}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{RULES}">
<title>{title}</title>
<style>
{asset("atlas.css")}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="promise">{count}: {len(told["runs"])} trained runs.{missing} Sliders stop only where a run was trained; nothing between two
stops is guessed.</p>
</header>
<main id="atlas"></main>
<section class="all" aria-labelledby="all-numbers">
<h2 id="all-numbers">All numbers</h2>
<div class="scroll" tabindex="0" role="region" aria-label="All numbers, scrolls sideways">
{_table(told)}
</div>
</section>
<footer>
<p>{html.escape(told["data"]["name"])}: {told["data"]["users"]:,} users, {told["data"]["items"]:,} items; {html.escape(told["source"])}.
Epochs are chosen by {html.escape(told["metric"])} on valid; {html.escape(settings)}.</p>
<p>Made from <code>{html.escape(told["command"] or "a sweep in Python")}</code></p>
</footer>
<noscript>Without JavaScript this page shows the table only.</noscript>
<script type="application/json" id="atlas-data">{body}</script>
<script>
{asset("atlas.js")}
</script>
</body>
</html>
"""


def write_atlas(
    sweep: str | os.PathLike | Sweep,
    out: str | os.PathLike,
    *,
    data: Dataset | None = None,
    views: Sequence[str] | None = None,
    points: int | None = None,
    pictures: bool = True,
    links: bool = True,
    max_mb: float = MAX_MB,
    progress: bool = False,
) -> dict[str, Any]:
    """Write a sweep as one HTML file that works offline and without a kernel; return what it shows.

    A sweep that is not finished is drawn with what there is.

    Args:
        sweep: a sweep or its folder.
        out: the file to write.
        data: the sweep's data set; None opens it again as the sweep did.
        views: tables to draw; None all that were kept.
        points: rows drawn of each table, at most; None all that were kept.
        pictures: products' pictures under the pointer, where the data has some.
        links: lines to an item's nearest neighbours in the full space.
        max_mb: a larger file is refused.
        progress: show a bar.

    Raises:
        DataError: no sweep, no finished run, data that cannot be found or is not the sweep's.
        OptionError: an unknown view, a number out of range.
        InputError: the file would be too large; nothing is written.
    """
    if points is not None:
        check_whole("points", points, 2, "points out of range")
    sweep = sweep if isinstance(sweep, Sweep) else read_sweep(sweep)
    told = contents(sweep, data or reload(sweep), views=views, points=points, pictures=pictures, links=links, progress=progress)
    text = page(told)
    size = len(text.encode("utf-8")) / 1e6
    if size > max_mb:
        raise InputError(
            "the atlas would be too large",
            where=str(out),
            found=f"{size:.1f} MB ({sizes(told)})",
            expected=f"at most {max_mb:g} MB",
            fix="Draw fewer points (--points 500) or views (--views item/final), leave out --no-links or --no-pictures, or allow more "
            "with --max-mb",
        )
    write_text(out, text)
    return told


def sizes(told: Mapping[str, Any]) -> str:
    """Return in words what takes how much of the file."""
    maps = sum(len(p["xy"]) for r in told["runs"] for p in r["pictures"].values())
    near = sum(len(p.get("near", "")) for r in told["runs"] for p in r["pictures"].values())
    sheets = sum(len(s["sheet"]["src"]) for s in told["sides"].values() if s["sheet"])
    return f"maps {maps / 1e6:.1f}, links {near / 1e6:.1f}, products' pictures {sheets / 1e6:.1f} MB"


def reload(sweep: Sweep) -> Dataset:
    """Open a sweep's data set again.

    Raises:
        DataError: the sweep does not know how, or it is no longer there.
    """
    if sweep.load is None:
        raise DataError("the sweep does not know where its data came from", where=str(sweep.folder), fix="Pass the data set")
    try:
        return load(sweep.load["source"], **sweep.load["options"])
    except DataError as error:
        raise DataError(
            "the sweep's data cannot be opened", where=str(Path(sweep.folder)), found=str(error), fix="Name it with --data"
        ) from None
