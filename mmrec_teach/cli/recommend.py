"""`mmrec-teach recommend` and `mmrec-teach index`: a trained run's lists, explained, and its items as an index to search."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrec_teach.cli.data import add_reader_arguments
from mmrec_teach.errors import DataError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmrec_teach.data import Dataset
    from mmrec_teach.evaluation.recommend import Suggestions
    from mmrec_teach.models import Recommender
    from mmrec_teach.training.experiments import RunConfig

SHOWN = 12
"""Liked items named below a table, the latest."""
SPLITS = (None, "leave-one-out", "user-time", "global-time")
"""Splits of the embedded data among which a run's own is looked for."""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the two commands."""
    parser = subparsers.add_parser("recommend", help="what a trained run would show somebody, and why", description=run.__doc__)
    _common(parser)
    parser.add_argument("--user", action="append", default=[], metavar="U", help="a user's id; may be given several times")
    parser.add_argument(
        "--items", metavar="A,B,…", help="ids or titles: a history, for models that read them; else items like these"
    )
    parser.add_argument("--k", type=int, default=10, help="length of the lists (default 10)")
    parser.add_argument("--near", type=int, default=2, help="liked items to name beside each suggestion (default 2)")
    parser.add_argument("--index", metavar="FILE", help="search in this index of `mmrec-teach index`")
    parser.add_argument("--json", action="store_true", help="print the lists as JSON instead")
    parser.set_defaults(run=run)

    parser = subparsers.add_parser(
        "index", help="write a trained run's items as an index to search", description=run_index.__doc__
    )
    _common(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="where the index goes")
    parser.add_argument("--kind", default="exact", help="exact; with faiss also flat, ivf, hnsw (default exact)")
    parser.add_argument(
        "--options", action="append", default=[], metavar="NAME=X,…", help="of the kind, such as lists=100,probes=8 or links=16"
    )
    parser.set_defaults(run=run_index)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", dest="folder", required=True, metavar="DIR", help="a run's folder, as train writes it")
    parser.add_argument("--data", help="what it was trained on (default: the run's, if that is the bazaar)")
    add_reader_arguments(parser, "--split-seed")
    parser.add_argument(
        "--features", action="append", default=[], metavar="NAME=FILE.npy", help="a feature table it was trained with"
    )


def run(args: argparse.Namespace) -> int:
    """Print the best items for users, or after items given by hand, with the reasons that a trained run has for them."""
    from mmrec_teach.evaluation import recommend as r

    if not args.user and args.items is None:
        raise OptionError("nobody to recommend to", where="recommend", expected="--user U or --items A,B")
    config, data, model = opened(args)
    index = None if args.index is None else read_index(args.index, args.folder)
    shared = {"k": args.k, "near": args.near, "index": index}
    lists = r.recommend(model, data, [r.user_number(data, name) for name in args.user], **shared) if args.user else []
    if args.items is not None:
        named = [name.strip() for name in args.items.split(",") if name.strip()]
        lists.append(r.recommend_after(model, data, [r.item_number(data, name) for name in named], **shared))
    if args.json:
        told = {"run": str(args.folder), "model": config.model, "data": config.data["name"], "lists": r.to_json(data, lists)}
        print(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_lists(config.model, data, lists)
    return 0


def run_index(args: argparse.Namespace) -> int:
    """Write a trained run's item vectors as an index: a user's best items are the nearest to her vector by inner product."""
    import torch

    from mmrec_teach.cli.train import parse_pairs
    from mmrec_teach.evaluation.retrieval import index_of, query_table
    from mmrec_teach.ops.index import recall_of

    options = parse_pairs(args.options, "--options")
    config, data, model = opened(args)
    start = time.perf_counter()
    index = index_of(model, kind=args.kind, **options)
    seconds = time.perf_counter() - start
    index.about = {
        "run": Path(args.folder).name,
        "model": config.model,
        "data": dict(config.data),
        "weights": _weights(args.folder),
    }
    index.save(args.out)
    chosen = "".join(f", {name} {value}" for name, value in index.options.items())
    print(f"{len(index):,} items of {config.model}, {index.dim} numbers each: {index.kind}{chosen}, built in {seconds:.2f} s.")
    if index.kind not in ("exact", "flat"):
        users = torch.arange(min(data.n_users, 200))
        queries, k = query_table(model, model.user_vectors(users)), min(20, len(index))
        share = recall_of(index.search(queries, k)[1], index_of(model).search(queries, k)[1])
        print(f"Of the {k} best for {len(users)} users it finds {share:.1%}.")
    print(f"Written to {args.out}")
    return 0


# -- opening ---------------------------------------------------------------------------------------------------------------
def opened(args: argparse.Namespace) -> tuple[RunConfig, Dataset, Recommender]:
    """Return the run that ``args`` name, its data and its model.

    Raises:
        DataError: no finished run, or other data. OptionError: it cannot be told which data.
    """
    from mmrec_teach.cli.judge import read_table
    from mmrec_teach.cli.train import with_tables
    from mmrec_teach.data import load
    from mmrec_teach.data.describe import options_from
    from mmrec_teach.training.experiments import data_key, open_run, read_config

    config = read_config(args.folder)
    name = config.data["name"]
    if args.data is None and not all(part.partition("/")[0] == "bazaar" for part in name.split("+")):
        raise OptionError("the run does not say where its data lie", where="--data", found=name, expected="a path")
    given = options_from(args)
    tables = dict(map(read_table, args.features))
    splits = SPLITS if args.data is None and "split" not in given else (given.pop("split", None),)
    for split in splits:
        data = with_tables(load(args.data or name, split=split, **given), tables)
        if data_key(data)["hash"] == config.data["hash"]:
            return config, data, open_run(args.folder, data)[1]
    return config, data, open_run(args.folder, data)[1]  # says what is wrong


def read_index(path: str, folder: str) -> Any:
    """Return the index at ``path``.

    Raises:
        DataError: it is none, damaged, or of another run than the one in ``folder``.
    """
    from mmrec_teach.ops.index import VectorIndex

    index = VectorIndex.load(path)
    if index.about.get("weights") != _weights(folder):
        raise DataError(
            "an index of another run",
            where=path,
            found=index.about.get("run", "no run's name"),
            expected=Path(folder).name,
            fix="Write it anew with `mmrec-teach index`",
        )
    return index


def _weights(folder: str) -> str | None:
    path = Path(folder) / "best.pt"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


# -- printing --------------------------------------------------------------------------------------------------------------
def print_lists(model: str, data: Dataset, lists: Sequence[Suggestions]) -> None:
    """Print lists as tables for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mmrec_teach.evaluation.recommend import item_name

    console = Console(width=None if Console().is_terminal else 118, highlight=False)
    for one in lists:
        whose = (
            "given " + ", ".join(item_name(data, i) for i in one.liked)
            if one.user is None
            else f"user {data.user_ids[one.user]}"
        )
        out = Table(title=escape(f"{model}, {whose}"), title_justify="left")
        for head, justify in (
            ("", "right"),
            ("item", "left"),
            ("score", "right"),
            ("from ID", "right"),
            ("from content", "right"),
        ):
            out.add_column(head, justify=justify)
        out.add_column("nearest liked (cosine)")
        for rank, s in enumerate(one.best, start=1):
            near = ", ".join(f"{item_name(data, item)} ({cosine:.2f})" for item, cosine in s.near) or "-"
            title = item_name(data, s.item) + " *" * s.found
            out.add_row(str(rank), escape(title), f"{s.score:.3f}", part_text(s, "id"), part_text(s, "content"), escape(near))
        console.print(out)
        notes = [one.how, *one.notes]
        if any(s.found for s in one.best):
            notes.append("* taken in test, which the model does not know.")
        if one.user is not None:
            names = ", ".join(item_name(data, item) for item in one.liked[-SHOWN:])
            latest = f", the last {SHOWN}" if len(one.liked) > SHOWN else ""
            notes.append(f"Took {len(one.liked)} items in train and valid{latest}: {names}." if names else "Took nothing yet.")
        console.print("\n".join(notes), markup=False)


def part_text(s: Any, name: str) -> str:
    """Return a part with its share: "+1.20 (63 %)", "+1.20" where shares say nothing, "-" where there are no parts."""
    if s.parts is None:
        return "-"
    share = "" if s.shares is None else f" ({s.shares[name]:.0%})"
    return f"{s.parts[name]:+.2f}{share}"
