"""What test_ranks.py starts twice, with torchrun: each process holds some rows, and all is written by the first."""

from __future__ import annotations

import sys
import time

import torch
from conftest import in_order, make_tiny

from mmrec_teach.cli import main as run
from mmrec_teach.data import Dataset
from mmrec_teach.models import Recommender, create
from mmrec_teach.ops.gather import across_ranks, rows_of_all, span
from mmrec_teach.training import Trainer
from mmrec_teach.training.ranks import Ranks, torchrun_ranks

SMALL = {"dim": 8, "heads": 2, "inner": 8, "length": 8, "n_layers": 1, "dropout": 0.0}
CASES = {
    "missrec": ("missrec", {**SMALL, "feature_dropout": 0.0, "augment": "items"}, {"seq_seq": 0.5, "ce": 0.5}),
    "released": (
        "missrec",
        {**SMALL, "feature_dropout": 0.0, "augment": "released", "false_negatives": "keep", "ids": False},
        {},
    ),
    "unisrec": ("unisrec", {**SMALL, "experts": 2}, {"seq_seq": 0.5, "ce": 0.5}),
}
DROPOUT = {"missrec": {**SMALL, "dropout": 0.3, "ids": False}, "unisrec": {**SMALL, "dropout": 0.3, "experts": 2}}
"""Each rank draws its own here, what the second reading lacks included."""
COMMAND = ["pretrain-sequences", "--data", "bazaar/attic", "--epochs", "1", "--device", "cpu", "--quiet", "--options"]
COMMAND += ["dim=8,heads=2,inner=8,length=8,dropout=0,feature_dropout=0,augment=items"]
BATCH = 61
"""Not even, and the epoch's last batch of 180 - 30 rows is small: 28."""


def trained(case: str, data: Dataset, ranks: Ranks) -> tuple[Recommender, list[dict[str, float]]]:
    """Return a model after two epochs in float64, and the losses of these."""
    name, options, more = CASES[case]
    model = create(name, data, **options).double()
    weights = {**model.pretraining, "diversity": 0.1, **more} if name == "missrec" else {**model.pretraining, **more}
    trainer = Trainer(model, data, weights=weights, batch_size=BATCH, lr=0.01, device="cpu", metrics_every=0, ranks=ranks)
    return model, [dict(trainer.epoch().losses) for _ in range(2)]


def gathered(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return rows of unequal ranks put together, and this rank's gradient of a sum in which rank r's rows weigh r + 1."""
    mine = torch.arange(3.0 * (2 - ranks.rank)).view(-1, 3).add(10.0 * ranks.rank).requires_grad_()  # 2 rows and 1 row
    nothing = torch.zeros(1 if ranks.first else 0, 2, requires_grad=True)
    with across_ranks():
        whole, one = rows_of_all(mine), rows_of_all(nothing)
        begin, n = span(len(mine))
    ((ranks.rank + 1) * (whole.square().sum() + one.sum())).backward()
    return {"whole": whole.detach(), "one": one.detach(), "span": torch.tensor([begin, n]), "gradient": mine.grad}


def main(out: str) -> None:
    torch.set_num_threads(1)
    with torchrun_ranks("cpu") as (ranks, _):
        data = in_order(make_tiny())
        found = {"gathered": gathered(ranks)}
        for case in CASES:
            model, losses = trained(case, data, ranks)
            found[case] = {"losses": losses, "state": model.state_dict()}
        for name, options in DROPOUT.items():
            model = create(name, data, **options)
            trainer = Trainer(model, data, weights=model.pretraining, batch_size=20, device="cpu", metrics_every=0, ranks=ranks)
            for _ in range(4):
                trainer.epoch()
            found[f"dropout {name}"] = model.state_dict()
        few = Ranks(ranks.rank, ranks.size).rows(next(Trainer(model, data, device="cpu").batches(1, torch.Generator())))
        found["few"] = len(few.users)
        torch.save(found, f"{out}/{ranks.rank}.pt")
    if ranks.first:
        time.sleep(1)  # the other is the first to come to the second group, and must not go by what is left of the first
    assert run([*COMMAND, "--out", f"{out}/two"]) == 0


if __name__ == "__main__":
    main(sys.argv[1])
