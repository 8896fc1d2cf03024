"""`mmrec-teach pretrain`: one vector per item from pictures and captions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmrec_teach.cli.data import add_reader_arguments

ROWS = (
    ("hidden words found", "mlm", (("with the picture", "_accuracy"), ("without", "_alone"), ("another's picture", "_other"))),
    (
        "hidden pictures found",
        "mim",
        (("with the caption", "_accuracy"), ("without", "_alone"), ("another's caption", "_other")),
    ),
)


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pretrain", help="train the masked encoder on pictures and captions", description=run_pretrain.__doc__
    )
    parser.add_argument("--data", action="append", metavar="SOURCE", help="as for `train`; may be given several times")
    add_reader_arguments(parser, "--split-seed")
    parser.add_argument("--out", metavar="DIR", help="where checkpoint, encoder.npz and one NAME_feat.npy a data set go")
    parser.add_argument("--stored", action="store_true", help="make the stored encoder of the bazaar anew, with its checksum")
    parser.add_argument("--epochs", type=int, help="rounds over all items (default 70)")
    parser.add_argument("--batch-size", type=int, help="items a step (default 32)")
    parser.add_argument("--lr", type=float, help="largest step size (default 0.002)")
    parser.add_argument("--dim", type=int, help="length of a vector (default 64)")
    parser.add_argument("--depth", type=int, help="layers (default 2)")
    parser.add_argument("--patch", type=int, help="side of a patch in pixels (default 12)")
    parser.add_argument("--side", type=int, help="longest side of a picture, larger ones are scaled down (default 48)")
    parser.add_argument("--codes", type=int, help="size of the codebook of patches (default 128)")
    parser.add_argument("--target", choices=("codes", "pixels"), help="what is guessed of a hidden patch (default codes)")
    parser.add_argument(
        "--contrast", type=float, metavar="W", help="weight of an image-text contrast, which BEiT-3 lacks (default 0)"
    )
    parser.add_argument("--held-out", type=float, default=0.1, metavar="SHARE", help="items kept out to judge by (default 0.1)")
    parser.add_argument(
        "--seed", type=int, default=0, dest="training_seed", help="of everything random in training (default 0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_pretrain)


def run_pretrain(args: argparse.Namespace) -> int:
    """Train the masked encoder, say what it can do, and write one vector per item."""
    import numpy as np

    from mmrec_teach.data import load, store
    from mmrec_teach.data.describe import options_from
    from mmrec_teach.errors import OptionError
    from mmrec_teach.files import atomic_path
    from mmrec_teach.training.pretrain import WEIGHTS, fit_encoder, make_stored

    given = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr, "dim": args.dim, "depth": args.depth}
    given |= {"target": args.target}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    tokens = {"patch": args.patch, "side": args.side, "n_codes": args.codes}
    settings["tokens"] = {name: value for name, value in tokens.items() if value is not None}
    if args.contrast is not None:
        settings["weights"] = {**WEIGHTS, "itc": args.contrast}
    if stored_asked(args, settings != {"tokens": {}}):
        folder = store.ensure()
        encoder = make_stored(folder, progress=not args.quiet)
        data = load("bazaar")
        print(_table(encoder.quality(data, items=np.flatnonzero(data.truth.extra["cold"])), "bazaar, cold items (never seen)"))
        print(f"Written to {folder / store.ENCODER}")
        return 0
    sources = [load(source, **options_from(args)) for source in args.data]
    rng = np.random.Generator(np.random.PCG64(args.training_seed))
    if not 0 <= args.held_out < 1:
        raise OptionError("out of range", where="--held-out", found=args.held_out, expected="a share from 0 to below 1")
    held = [rng.random(data.n_items) < args.held_out for data in sources]
    out = Path(args.out)
    encoder = fit_encoder(
        *sources,
        held_out=held,
        seed=args.training_seed,
        device=args.device,
        progress=not args.quiet,
        run_dir=out,
        **settings,
    )
    if encoder.info["stopped"] == "interrupted":
        print(f"Interrupted after {len(encoder.history)} epochs; the same command goes on from there.")
    for data, flags in zip(sources, held, strict=True):
        items = np.flatnonzero(flags)
        about = f"{data.name}, {len(items)} items it never saw" if len(items) >= 20 else f"{data.name}, all items"
        print(_table(encoder.quality(data, items=items if len(items) >= 20 else None), about))
        file = out / f"{data.name.replace('/', '-')}_feat.npy"
        with atomic_path(file) as temporary:
            np.save(temporary, encoder.vectors(data), allow_pickle=False)
        print(f"Vectors of {data.n_items:,} items: {file}")
    return 0


def stored_asked(args: argparse.Namespace, settings: bool) -> bool:
    """Return whether the stored model is to be made anew; otherwise ``args`` say what to train on, and where it goes.

    Raises:
        OptionError: too much is said beside ``--stored`` (``settings``: whether any was given), or too little without it.
    """
    from mmrec_teach.errors import OptionError

    if args.stored and (args.data or args.out or settings):
        raise OptionError(
            "the stored model has settings of its own", where="--stored", expected="no --data, no --out, no settings"
        )
    if not args.stored and not (args.data and args.out):
        raise OptionError(
            "what to train on, and where it goes", where="--data, --out", expected="--data SOURCE --out DIR, or --stored"
        )
    return args.stored


def _table(quality: dict[str, float], title: str) -> str:
    """Return the quality as lines for people."""
    lines = [title]
    for name, key, columns in ROWS:
        lines.append(f"  {name:<24}" + "   ".join(f"{text} {quality[key + tail]:.1%}" for text, tail in columns))
    chance = quality["retrieval_chance@10"]
    pairs = ", ".join(
        f"{name} {quality[key]:.1%}"
        for name, key in (("image to text", "image_to_text@10"), ("text to image", "text_to_image@10"))
    )
    lines.append(f"  {'own one among first ten':<24}{pairs} (by chance {chance:.1%})")
    names = [key[len("neighbours_") : -len("_chance")] for key in quality if key.endswith("_chance")]
    same = ", ".join(f"{n} {quality[f'neighbours_{n}@10']:.1%} ({quality[f'neighbours_{n}_chance']:.1%})" for n in names)
    if same:
        lines.append(f"  {'ten nearest share':<24}{same} (in brackets: all others)")
    return "\n".join(lines)
