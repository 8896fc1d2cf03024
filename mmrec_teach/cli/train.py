"""`mmrec-teach train` and `mmrec-teach compare`: runs, tables, JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrec_teach.cli.data import add_reader_arguments
from mmrec_teach.errors import OptionError

if TYPE_CHECKING:
    from mmrec_teach.data import Dataset

STANDARD = {"epochs": 1000, "patience": 20, "batch_size": 2048, "lr": 1e-3}
"""What the published tables were made with."""
QUICK = {"epochs": 60, "patience": 5, "batch_size": 1024, "lr": 5e-3}
"""A first look at small data, which have few steps an epoch."""
SMALL = 50
"""Below so many steps an epoch the standard settings stop too early."""
FEW_ITEMS = 200
"""Below so many items a table says how much of the shop a list holds, where that is a tenth or more."""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the two commands."""
    train = subparsers.add_parser("train", help="train one model to early stopping and judge it", description=run_train.__doc__)
    train.add_argument("--model", required=True, help="model to train, such as lightgcn")
    _common(train)
    train.set_defaults(run=run_train, command="train")
    compare = subparsers.add_parser(
        "compare", help="train several models alike and print one table", description=run_compare.__doc__
    )
    compare.add_argument("--models", help="names with commas, such as popularity,bpr,lightgcn, or all")
    compare.add_argument("--from", dest="saved", metavar="FILE", help="print a saved table again, train nothing")
    _common(compare)
    compare.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    compare.set_defaults(run=run_compare, command="compare")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says on which data, with which settings and seeds models are trained; see :func:`settings_from`."""
    parser.add_argument("--data", default="bazaar", help="bazaar, bazaar/DOMAIN, or the path of a data set (default: bazaar)")
    add_reader_arguments(parser, "--split-seed")
    parser.add_argument(
        "--weights", action="append", default=[], metavar="NAME=X,…", help="loss weights, such as l2=0.01 or bm3.reg=0.1"
    )
    parser.add_argument(
        "--options",
        action="append",
        default=[],
        metavar="NAME=X,…",
        help="model options, such as n_layers=3 or bm3.dropout=0.3",
    )
    parser.add_argument("--seeds", default="1", help="how many seeds (3 means 0, 1, 2), or a list such as 0,7")
    parser.add_argument("--epochs", type=int, help=_default("epochs", "at most so many epochs"))
    parser.add_argument(
        "--patience", type=int, help=_default("patience", "stop after so many evaluations without a better one")
    )
    parser.add_argument("--metrics-every", type=int, default=1, help="epochs between two evaluations (default 1)")
    parser.add_argument("--metric", default="recall@20", help="chooses epochs and settings on valid (default recall@20)")
    parser.add_argument("--batch-size", type=int, help=_default("batch_size", "interactions a step"))
    parser.add_argument("--lr", type=float, help=_default("lr", "Adam's step size"))
    parser.add_argument("--quick", action="store_true", help="defaults for a first look at small data: few, large steps")
    parser.add_argument("--negatives", choices=("warm", "all"), default="warm", help="pool of sampled negatives")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def settings_from(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of :func:`~mmrec_teach.training.fit` among ``args``, the metric aside."""
    defaults = QUICK if args.quick else STANDARD
    chosen = {name: default if (given := getattr(args, name)) is None else given for name, default in defaults.items()}
    return {**chosen, "metrics_every": args.metrics_every, "negatives": args.negatives}


def _default(name: str, what: str) -> str:
    return f"{what} (default {STANDARD[name]}; with --quick {QUICK[name]})"


def _common(parser: argparse.ArgumentParser) -> None:
    add_training_arguments(parser)
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="a table of one row an item beside the data set's own, such as mmenc=… of `pretrain`; may be given several times",
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=X,Y,…",
        help="values to choose from on valid, such as l2=0.001,0.01, or for one model alone bm3.dropout=0.3,0.5",
    )
    parser.add_argument("--out", default="runs", help="where run folders go (default: runs)")
    parser.add_argument("--json", metavar="FILE", help="where the table goes as JSON (default: OUT/DATA/COMMAND.json)")


def parse_pairs(texts: list[str], where: str) -> dict[str, Any]:
    """Return ``["l2=0.01,dim=32"]`` as ``{"l2": 0.01, "dim": 32}``.

    Raises:
        OptionError: a piece that is not NAME=VALUE.
    """
    pairs: dict[str, Any] = {}
    for piece in (p for text in texts for p in text.split(",")):
        name, equals, value = piece.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise OptionError("not NAME=VALUE", where=where, found=repr(piece), expected="such as l2=0.01")
        if name.strip() in pairs:
            raise OptionError("a name stands twice", where=where, found=repr(name.strip()), expected="each name once")
        pairs[name.strip()] = parse_value(value.strip())
    return pairs


def parse_grid(texts: list[str]) -> dict[str, list[Any]]:
    """Return ``["l2=0.1,0.01"]`` as ``{"l2": [0.1, 0.01]}``.

    Raises:
        OptionError: a text that is not NAME=VALUE,VALUE,…
    """
    grid = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not all(v.strip() for v in values.split(",")):
            raise OptionError("not NAME=VALUE,VALUE,…", where="--grid", found=repr(text), expected="such as l2=0.001,0.01")
        grid[name.strip()] = [parse_value(v.strip()) for v in values.split(",")]
    return grid


def parse_value(text: str) -> Any:
    """Return the number, truth value, None or ``a+b`` list (as a tuple) that ``text`` writes; else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() == "none":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return tuple(text.split("+")) if "+" in text else text


def parse_seeds(text: str) -> list[int]:
    """Return ``"3"`` as [0, 1, 2] and ``"0,7"`` as [0, 7].

    Raises:
        OptionError: neither a count nor a list of whole numbers.
    """
    try:
        numbers = [int(t) for t in text.split(",") if t.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (len(numbers) == 1 and "," not in text and numbers[0] < 1):
        raise OptionError("not a count or a list of seeds", where="--seeds", found=repr(text), expected="such as 3 or 0,1,2")
    return numbers if "," in text else list(range(numbers[0]))


def run_train(args: argparse.Namespace) -> int:
    """Train one model to early stopping, judge it on valid and test, keep the run in a folder."""
    return _compare(args, [args.model])


def run_compare(args: argparse.Namespace) -> int:
    """Train several models with the same protocol and print one table; settings and epochs are chosen on valid."""
    if args.saved:
        from mmrec_teach.training.experiments import read_comparison

        table = read_comparison(args.saved)
        print(as_markdown(table)) if args.markdown else print_table(table)
        return 0
    if not args.models:
        raise OptionError(
            "no models named", where="--models", expected="all, or names with commas, such as popularity,bpr,lightgcn"
        )
    return _compare(args, None if args.models == "all" else [m.strip() for m in args.models.split(",") if m.strip()])


def _compare(args: argparse.Namespace, models: list[str] | None) -> int:
    """Train ``models`` (None: all that the data allow), write the table and print it; 1 if a model named had to be left out."""
    from rich.console import Console

    from mmrec_teach.cli.judge import read_table
    from mmrec_teach.data import load
    from mmrec_teach.data.describe import options_from
    from mmrec_teach.files import write_json
    from mmrec_teach.models import MODELS, model_class
    from mmrec_teach.training.experiments import BrokenOff, all_models, compare_models, history_note

    for model in models or ():
        model_class(model)  # a wrong name should not wait for the data
    given = {**parse_pairs(args.options, "--options"), **parse_pairs(args.weights, "--weights")}
    grid, seeds = parse_grid(args.grid), parse_seeds(args.seeds)
    extra = dict(map(read_table, args.features))
    data = with_tables(load(args.data, **options_from(args)), extra)
    console = Console(stderr=True, highlight=False)
    console.print(str(data), markup=False)
    settings = settings_from(args)
    steps = -(-len(data.train) // max(1, settings["batch_size"]))
    if steps < SMALL and not args.quick and args.lr is None:
        console.print(
            f"Small data: {steps} step{'s' * (steps > 1)} an epoch. --quick has settings for it: {_words(QUICK)}.", markup=False
        )
    note = history_note(data, MODELS) if models is None else None
    notes = [f"Left out of all: {note}"] if note else []
    for line in notes:
        console.print(line, markup=False)

    def show(table: dict[str, Any]) -> None:
        print(as_markdown(table)) if getattr(args, "markdown", False) else print_table(table)

    try:
        table = compare_models(
            data,
            all_models(data) if models is None else models,
            strict=args.command == "train",
            seeds=seeds,
            given=given,
            grid=grid,
            settings=settings,
            out=args.out,
            metric=args.metric,
            progress=not args.quiet,
            device=args.device,
            report=lambda line: console.print(line, markup=False),
            notes=notes,
        )
    except BrokenOff as stop:
        show(stop.table)
        raise
    file = args.json or Path(args.out) / data.name / f"{args.command}.json"
    write_json(file, table)
    console.print(f"Written to {file}", markup=False)
    show(table)
    return 1 if models is not None and table["left_out"] else 0


def with_tables(data: Dataset, tables: dict[str, Any]) -> Dataset:
    """Return ``data`` with ``tables`` of `--features` beside its own; a row of zeros is an item without.

    Raises:
        OptionError: a name that the data have already.
    """
    if taken := tables.keys() & data.features.keys():
        own = ", ".join(data.modalities)
        raise OptionError("the name is taken", where="--features", found=min(taken), expected=f"none of: {own}")
    return data.with_features(**tables) if tables else data


def _words(settings: dict[str, Any]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())


NOTES = (
    "Epochs and settings are chosen on valid. test: train and valid masked; train-mask: only train masked, as in the "
    "published tables; cold items: recall of those never seen in training. ± is the standard deviation over seeds; the "
    "interval is a bootstrap over users, first seed."
)


def cells_of(table: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str], list[str]]]]:
    """Return the column heads, and for each row the model, its settings and its numbers, all as text."""
    metric = table["metric"]
    kind, _, cut = metric.partition("@")
    other = f"ndcg@{cut}" if kind != "ndcg" else f"recall@{cut}"
    heads = [
        f"valid {metric}",
        f"test {metric}",
        "95 % interval",
        f"test {other}",
        f"cold items recall@{cut}",
        f"train-mask {metric}",
    ]
    published = any(metric in row.get("published", {}) for row in table["rows"])
    heads += [f"published {metric}"] * published
    rows = []
    for row in table["rows"]:
        low, high = row["interval"]
        cold = row["cold"].get(f"recall@{cut}")
        numbers = [
            _cell(row["valid"][metric]),
            _cell(row["test"][metric]),
            f"{low:.3f}-{high:.3f}",
            _cell(row["test"][other]),
            "none" if cold is None else _cell(cold),
            _cell(row["test_train_mask"][metric]),
        ]
        if published:
            numbers.append(f"{row['published'][metric]:.4f}" if metric in row.get("published", {}) else "-")
        rows.append((row["model"], [f"{k}={v}" for k, v in {**row["options"], **row["weights"]}.items()], numbers))
    return heads, rows


def title_of(table: dict[str, Any]) -> str:
    """Return one line on the data set, the ranking and the seeds."""
    data, counts = table["data"], [len(row["seeds"]) for row in table["rows"]]
    few, seeds = min(counts), max(counts)
    size = f"{data['name']}: {data['users']:,} users, {data['items']:,} items, all items ranked"
    return f"{size}, {f'{few} to ' * (few < seeds)}{seeds} seed{'s' * (seeds > 1)}"


def _small_shop(table: dict[str, Any]) -> list[str]:
    """A sentence where so few items are ranked that a list holds much of the shop; empty otherwise."""
    cut, items = int(table["metric"].partition("@")[2]), table["data"]["items"]
    if items >= FEW_ITEMS or 10 * cut < items:
        return []
    share = min(1.0, cut / items)
    return [f"Few items: a list of {cut} holds {share:.0%} of the {items} in the shop, so a random list finds much as well."]


def as_markdown(table: dict[str, Any]) -> str:
    """Return a comparison as a Markdown table with its title."""
    heads, rows = cells_of(table)
    lines = [
        f"| {title_of(table)} | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(heads),
        *(
            "| " + " | ".join([model + (f" ({', '.join(setting)})" if setting else ""), *numbers]) + " |"
            for model, setting, numbers in rows
        ),
    ]
    return "\n".join(lines)


def print_table(table: dict[str, Any]) -> None:
    """Print a comparison as a table for people."""
    from rich.console import Console
    from rich.table import Table

    metric = table["metric"]
    console = Console(width=None if Console().is_terminal else 118, highlight=False)
    heads, rows = cells_of(table)
    out = Table(title=title_of(table), title_justify="left")
    out.add_column("model", no_wrap=True)
    for head in heads:
        out.add_column("\n".join(head.rsplit(" ", 1)), justify="right", no_wrap=True)
    for model, setting, numbers in rows:
        out.add_row("\n  ".join([model, *setting]), *numbers)
    console.print(out)
    console.print(" ".join([NOTES, *_small_shop(table), *table.get("notes", [])]), soft_wrap=False, markup=False)
    for model, reason in table.get("left_out", {}).items():
        console.print(f"Left out: {model}. {reason}", markup=False)
    if table["pairs"]:
        console.print(
            f"Best on valid: {table['pairs'][0]['models'][0]}. On the same test users, in {metric}, it is ahead of",
            markup=False,
        )
    for pair in table["pairs"]:
        console.print(
            f"  {pair['models'][1]} by {pair['difference']:+.4f} ({pair['low']:+.4f} to {pair['high']:+.4f}, p = {pair['p_value']:.2g})",
            markup=False,
        )


def _cell(value: dict[str, Any]) -> str:
    return f"{value['mean']:.4f}" + (f" ±{value['std']:.3f}" if value["std"] is not None else "")
