"""`mmrec-teach pretrain-sequences`: one sequence model over several shops, to begin with in another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmrec_teach.cli.data import add_reader_arguments
from mmrec_teach.cli.pretrain import stored_asked


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pretrain-sequences", help="train a sequence model over several shops", description=run_pretrain_sequences.__doc__
    )
    parser.add_argument("--data", action="append", metavar="SOURCE", help="as for `train`; may be given several times")
    add_reader_arguments(parser, "--split-seed")
    parser.add_argument("--out", metavar="DIR", help="where checkpoint, history and pretrained.npz go")
    parser.add_argument("--stored", action="store_true", help="make the stored model of the bazaar anew, with its checksum")
    parser.add_argument("--model", default="missrec", help="missrec (default) or unisrec")
    parser.add_argument(
        "--options", action="append", default=[], metavar="NAME=X,…", help="model options, such as dim=32 or interests=kmeans"
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=X,…",
        help="loss weights, such as seq_seq=0.01 (default: the paper's)",
    )
    parser.add_argument("--epochs", type=int, help="rounds over all histories (default 30)")
    parser.add_argument("--batch-size", type=int, help="targets a step (default 512)")
    parser.add_argument("--lr", type=float, help="Adam's step size (default 0.001)")
    parser.add_argument("--metric", help="chooses the epoch on valid (default ndcg@10)")
    parser.add_argument(
        "--seed", type=int, default=0, dest="training_seed", help="of everything random in training (default 0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_pretrain_sequences)


def run_pretrain_sequences(args: argparse.Namespace) -> int:
    """Train a sequence model over several shops and write what can move to another; under torchrun on several processes."""
    from mmrec_teach.errors import InputError
    from mmrec_teach.training.ranks import torchrun_ranks

    with torchrun_ranks(args.device) as (ranks, device):
        try:
            return _run(args, ranks, device)
        except InputError:
            if ranks.first:
                raise
            return 2  # the first has said it


def _run(args: argparse.Namespace, ranks: Any, device: str) -> int:
    from mmrec_teach.cli.train import parse_pairs
    from mmrec_teach.data import load, store
    from mmrec_teach.data.describe import options_from
    from mmrec_teach.data.sequences import follows_time, has_order
    from mmrec_teach.training.transfer import FILE, make_stored, pretrain_sequences

    given = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr, "metric": args.metric}
    settings = {name: value for name, value in given.items() if value is not None}
    options, weights = parse_pairs(args.options, "--options"), parse_pairs(args.weights, "--weights")
    if stored_asked(args, bool(settings or options or weights)):
        done, result = make_stored(progress=not args.quiet)
        print(_told(done, result))
        print(f"Written to {store.data_dir() / store.SEQUENCES}")
        return 0

    def opened(source: str) -> Any:
        data = load(source, **options_from(args))
        if args.split is None and has_order(data) and not follows_time(data):  # a random split tells what comes later
            data = load(source, **{**options_from(args), "split": "leave-one-out"})
        return data

    done, result = pretrain_sequences(
        [opened(source) for source in args.data],
        model=args.model,
        options=options,
        weights=weights,
        seed=args.training_seed,
        out=args.out,
        device=device,
        progress=not args.quiet,
        ranks=ranks,
        **settings,
    )
    if not ranks.first:
        return 0
    if result.stopped == "interrupted":
        raise KeyboardInterrupt(f"Interrupted after epoch {len(result.history)}; the same command goes on from there.")
    print(_told(done, result))
    file = Path(args.out) / FILE
    print(
        f"Written to {file}; mmrec-teach train --model {args.model} --options pretrained={file},tune=adapters begins with it."
    )
    return 0


def _told(done: Any, result: Any) -> str:
    """Return in lines what was trained on what, and how well."""
    info = done.info
    numbers = sum(p.numel() for p in done.parameters.values())
    found = ", ".join(f"{name} {value:.4f}" for name, value in info["valid"].items() if name.startswith(("recall", "ndcg")))
    return "\n".join(
        [
            f"{done.model} on {', '.join(info['data'])}: {info['users']:,} users, {info['items']:,} items",
            f"best epoch {info['best_epoch']} of {len(result.history)} on their valid: {found}",
            f"{numbers:,} numbers that belong to no single item",
        ]
    )
