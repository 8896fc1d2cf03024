"""`mmrec-teach judge`: what are these features worth, before anything is trained on them?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrec_teach.cli.data import add_reader_arguments
from mmrec_teach.errors import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser("judge", help="judge item features without training", description=run_judge.__doc__)
    parser.add_argument("--data", default="bazaar", help="bazaar, bazaar/NAME or a path (default bazaar)")
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="a table of one row an item to put beside the data set's own; may be given several times",
    )
    parser.add_argument(
        "--encoder",
        metavar="FILE",
        help="encoder.npz of `mmrec-teach pretrain`: its vectors join as mmenc (bazaar: the stored one)",
    )
    parser.add_argument("--k", type=int, default=20, help="cut-off of the lists (default 20)")
    parser.add_argument("--hide", type=float, default=0.5, help="share of the items that lose a modality (default 0.5)")
    parser.add_argument("--seeds", type=int, default=3, help="draws of those items (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write the table to this file")
    add_reader_arguments(parser, "--split-seed")
    parser.set_defaults(run=run_judge)


def run_judge(args: argparse.Namespace) -> int:
    """Judge feature tables by AlignRec's three protocols: zero-shot, item-CF, and what is lost when a modality is hidden."""
    from mmrec_teach.data import load
    from mmrec_teach.data.describe import options_from
    from mmrec_teach.evaluation import feature_sets, protocols
    from mmrec_teach.files import write_json

    if args.seeds < 1:
        raise OptionError("nothing to draw", where="--seeds", found=args.seeds, expected="1 or more")
    extra = [read_table(given) for given in args.features]
    data = load(args.data, **options_from(args))
    sets = feature_sets.of_data(data, encoder=encoder_for(data.name, args.encoder))
    for name, table in extra:
        if name in sets:
            raise OptionError("the name is taken", where="--features", found=name, expected=f"none of: {', '.join(sets)}")
        sets[name] = feature_sets.table_of(table, data.n_items)
    if not sets:
        raise DataError(
            "no features to judge",
            where=f"data set {data.name!r}",
            found="no tables",
            expected="one or more",
            fix="--features NAME=FILE.npy",
        )
    frame = protocols.judge_table(sets, data, k=args.k, hide=args.hide, seeds=range(args.seeds))
    print(data)
    print(as_text(frame, args.k, args.hide))
    if args.json:
        write_json(Path(args.json), {"data": data.name, "k": args.k, **to_json(frame)})
    return 0


def read_table(given: str) -> tuple[str, Any]:
    """Return (name, array) of one ``NAME=FILE.npy``.

    Raises:
        OptionError: not of that form. DataError: no such file, or no array in it.
    """
    import numpy as np

    name, equals, path = given.partition("=")
    if not (name and equals and path):
        raise OptionError("not a name and a file", where="--features", found=repr(given), expected="NAME=FILE.npy")
    try:
        return name, np.load(path, allow_pickle=False)
    except OSError:
        raise DataError("no such file", where="--features", found=path, expected="a .npy file") from None
    except (ValueError, EOFError):
        raise DataError("not a plain numpy array", where=path, found="something else", expected="a .npy file") from None


def encoder_for(data: str, path: str | None) -> Any | None:
    """Return the encoder at ``path``, or for the bazaar the one stored beside it if it is there, or None."""
    from mmrec_teach.data import store
    from mmrec_teach.training.pretrain import load_encoder, pretrained

    if path is not None:
        return load_encoder(path)
    return pretrained("bazaar") if data == "bazaar" and (store.ensure() / store.ENCODER).exists() else None


def to_json(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the table as plain values, NaN as None."""
    rows = [
        {"features": name, **{key: None if value != value else float(value) for key, value in row.items()}}
        for name, row in frame.iterrows()
    ]
    return {"rows": rows, "chance": dict(frame.attrs["chance"])}


def as_text(frame: pd.DataFrame, k: int, hide: float) -> str:
    """Return the table with one line of legend."""
    shown = frame[["dim", "empty"]].astype(int)
    for protocol in ("zero-shot", "item-cf"):
        shown[f"{protocol}@{k}"] = [
            f"{row[f'{protocol}@{k}']:.3f} ({row[f'{protocol} low']:.3f} to {row[f'{protocol} high']:.3f})"
            for _, row in frame.iterrows()
        ]
    for column in frame.columns[frame.columns.str.startswith("hide ")]:
        shown[column] = ["" if value != value else f"{0.0 - round(value, 3):+.3f}" for value in frame[column]]
    chance = ", ".join(f"{protocol} {value:.3f}" for protocol, value in frame.attrs["chance"].items())
    return (
        shown.rename_axis(None).to_string()
        + f"\nIn brackets: 95 % intervals. Random order: {chance}. hide NAME: what zero-shot@{k} changes by when {hide:.0%} of the "
        "items\nlose that modality (needs a function of the modalities; a table from a file has none)."
    )
