"""What is in a data set: counts, sparsity, modalities, splits, cold items and the long tail, printed in a terminal."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from mmrec_teach.data.dataset import SPLITS, Dataset
from mmrec_teach.errors import OptionError

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
QUANTILE_NAMES = ("least", "25 %", "median", "75 %", "95 %", "most")


def summarize(data: Dataset) -> dict[str, Any]:
    """Return the numbers :func:`describe_command` prints, as plain Python values (ready for JSON).

    Keys: name, source, users, items, interactions, sparsity (share of empty cells), splits {name: {interactions, users,
    items}}, cold_items (without training interactions), cold_rows {valid, test: interactions with such items},
    head_share (share of the training interactions that the most taken fifth of the items gets), modalities {name:
    {dim, missing}}, pictures ([height, width] or None), captions (items that have one, or None), time (None, "order" or
    [first, last]), per_user and per_item {quantile name: training interactions}, truth (bool).
    """
    counts = np.sort(data.item_counts)[::-1]
    head = counts[: max(1, round(0.2 * len(counts)))].sum() / counts.sum()
    parts = {s: data.split(s) for s in SPLITS}
    times = [p.timestamps for p in parts.values() if p.timestamps is not None and len(p)]
    return {
        "name": data.name,
        "source": data.source,
        "users": data.n_users,
        "items": data.n_items,
        "interactions": data.n_interactions,
        "sparsity": 1 - data.n_interactions / (data.n_users * data.n_items),
        "splits": {
            s: {"interactions": len(p), "users": len(np.unique(p.users)), "items": len(np.unique(p.items))}
            for s, p in parts.items()
        },
        "cold_items": int(data.cold_items.sum()),
        "cold_rows": {s: int(data.cold_items[parts[s].items].sum()) for s in ("valid", "test")},
        "head_share": float(head),
        "modalities": {m: {"dim": data.features[m].shape[1], "missing": int(data.missing[m].sum())} for m in data.modalities},
        "pictures": None if data.images is None else list(data.images.shape[1:3]),
        "captions": None if data.captions is None else sum(bool(c) for c in data.captions),
        "time": None
        if not times
        else "order"
        if data.time_is_order
        else [int(min(map(np.min, times))), int(max(map(np.max, times)))],
        "per_user": _quantiles(data.user_counts),
        "per_item": _quantiles(data.item_counts),
        "truth": data.truth is not None,
    }


def _quantiles(counts: np.ndarray) -> dict[str, int]:
    values = np.quantile(counts, QUANTILES, method="inverted_cdf")  # a count that occurs, never one in between
    return {name: int(v) for name, v in zip(QUANTILE_NAMES, values)}


def print_summary(data: Dataset, *, plot: bool = True, width: int | None = None) -> None:
    """Print the summary of ``data`` as tables, and the long tail as a plot of ``width`` columns."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=width, highlight=False)
    numbers = summarize(data)
    console.print(f"[bold]{_plain(data.name)}[/bold]  {_plain(data.source)}")
    table = Table(title="Size", title_justify="left", show_header=False)
    for label, value in _size_rows(numbers):
        table.add_row(label, value)
    console.print(table)

    table = Table("split", title="Splits", title_justify="left")
    for column in ("interactions", "share", "users", "items", "with cold items"):
        table.add_column(column, justify="right")
    for split, row in numbers["splits"].items():
        cold = numbers["cold_rows"].get(split)
        share = row["interactions"] / numbers["interactions"]
        cells = (
            f"{row['interactions']:,}",
            f"{share:.1%}",
            f"{row['users']:,}",
            f"{row['items']:,}",
            "" if cold is None else f"{cold:,}",
        )
        table.add_row(split, *cells)
    console.print(table)

    table = Table("modality", title="Modalities", title_justify="left")
    for column in ("dimension", "items without it"):
        table.add_column(column, justify="right")
    for modality, row in numbers["modalities"].items():
        table.add_row(_plain(modality), str(row["dim"]), f"{row['missing']:,}")
    console.print(table if numbers["modalities"] else "No features: neither pictures nor texts nor tables of them.")

    table = Table("training interactions", *QUANTILE_NAMES, title="Histories", title_justify="left")
    for label in ("per_user", "per_item"):
        table.add_row(label.replace("_", " "), *(f"{v:,}" for v in numbers[label].values()))
    console.print(table)
    if plot:
        print(long_tail_plot(data, width=min(console.width, 100)))


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _size_rows(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("users", f"{numbers['users']:,}"),
        ("items", f"{numbers['items']:,}"),
        ("interactions", f"{numbers['interactions']:,}"),
        ("sparsity", f"{numbers['sparsity']:.4%}"),
        ("items without training interactions (cold)", f"{numbers['cold_items']:,}"),
        ("training share of the top 20 % items", f"{numbers['head_share']:.1%}"),
    ]
    if numbers["pictures"]:
        rows.append(("pictures", "{} x {} pixels (height x width)".format(*numbers["pictures"])))
    if numbers["captions"] is not None:
        rows.append(("items with a caption", f"{numbers['captions']:,}"))
    time = numbers["time"]
    if time == "order":
        rows.append(("time", "the order within each user's history"))
    elif time:
        rows.append(("time", " to ".join(_date(t) for t in time)))
    else:
        rows.append(("time", "unknown"))
    if numbers["truth"]:
        rows.append(("planted truth", "known"))
    return rows


def _date(seconds: int) -> str:
    """Return a day for what looks like seconds since 1970, else the number."""
    if 10**8 < seconds < 10**10:
        return str(np.datetime64(seconds, "s").astype("datetime64[D]"))
    return f"{seconds:,}"


def long_tail_plot(data: Dataset, *, width: int = 80, height: int = 14) -> str:
    """Return a plot in plain characters: training interactions (log scale) of the items, most taken first.

    Args:
        data: the data set.
        width, height: size in characters, with the labels; at least 40 x 8.
    """
    counts = np.sort(data.item_counts)[::-1]
    taken = counts[counts > 0]
    top = 10 ** np.ceil(np.log10(max(taken[0], 2)))
    label = len(f"{int(top):,}")
    columns, rows = max(width, 40) - label - 3, max(height, 8) - 4
    # every dot column gets the items of its ranks; Braille cells are 2 dots wide and 4 high
    dots = np.zeros((4 * rows, 2 * columns), dtype=bool)
    edges = np.linspace(0, len(taken), 2 * columns + 1)
    level = np.round((4 * rows - 1) * (1 - np.log10(taken) / np.log10(top))).astype(int)
    for column in range(2 * columns):
        first = int(edges[column])
        last = min(max(int(np.ceil(edges[column + 1])), first + 1), len(taken) - 1)
        dots[level[first] : level[last] + 1, column] = True
    bits = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    cells = (dots.reshape(rows, 4, columns, 2).transpose(0, 2, 1, 3) * bits).sum(axis=(2, 3))
    ticks = {round((4 * rows - 1) * (1 - p / np.log10(top))) // 4: f"{10**p:,}" for p in range(round(np.log10(top)) + 1)}
    lines = ["Long tail: training interactions of each item (log scale), most taken first"]
    lines += [
        f"{ticks.get(row, ''):>{label}} {'┤' if row in ticks else '│'}" + "".join(chr(0x2800 + c) for c in cells[row])
        for row in range(rows)
    ]
    last_rank = f"{len(taken):,}"
    lines += [" " * label + " └" + "─" * columns, " " * (label + 2) + "1" + f"rank {last_rank}".rjust(columns - 1)]
    if len(taken) < len(counts):
        lines.append(f"{len(counts) - len(taken):,} more items have none")
    return "\n".join(lines)


def long_tail_html(data: Dataset) -> str:
    """Return a self-contained HTML page with the long tail of the items as an interactive figure."""
    import plotly.graph_objects as go

    counts = np.sort(data.item_counts)[::-1]
    share = np.cumsum(counts) / counts.sum()
    figure = go.Figure(
        go.Scatter(
            x=np.arange(1, len(counts) + 1),
            y=counts,
            customdata=share,
            mode="lines",
            fill="tozeroy",
            line_color="#0072B2",
            hovertemplate="rank %{x}<br>%{y} interactions<br>ranks up to here hold %{customdata:.1%}<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"{data.name}: training interactions of each item, most taken first",
        xaxis_title="rank of the item",
        yaxis_title="training interactions",
        template="plotly_white",
    )
    # without plotly's "Share chart…", which uploads the figure
    return figure.to_html(include_plotlyjs=True, full_html=True, config={"showSendToCloud": False})


# -- command line -----------------------------------------------------------------------------------------------------
def options_from(args: argparse.Namespace) -> dict[str, Any]:
    """Return the reader options among ``args``: only those that were given."""
    options = {
        k: value
        for k in ("format", "split", "seed", "rating_threshold", "k_core", "pictures")
        if (value := getattr(args, k)) is not None
    }
    columns = {}
    for text in args.column:
        role, separator, name = text.partition("=")
        if not separator or not role or not name:
            raise OptionError(
                "not a column mapping", where="--column", found=repr(text), expected="ROLE=NAME, for example user=reader"
            )
        columns[role] = name
    return options | ({"columns": columns} if columns else {})


def describe_command(args: argparse.Namespace) -> int:
    """Open the data set that ``args`` names and print what is in it. Returns the exit code 0.

    Raises:
        DataError, OptionError: the data set cannot be opened.
    """
    from mmrec_teach.data import load

    data = load(args.source, **options_from(args))
    if args.json:
        print(json.dumps(summarize(data), indent=2, ensure_ascii=False))
    else:
        print_summary(data, plot=not args.no_plot)
    if args.html:
        from mmrec_teach.files import write_text

        write_text(args.html, long_tail_html(data))
    return 0
