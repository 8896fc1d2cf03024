"""Several processes that train one model: whose rows are whose, and how their gradients become one.

Each rank has the whole model and takes its share of every batch's rows. The loss terms of a model that can do so
(:mod:`mmrec_teach.ops.gather`) are shares of those of the whole batch, negatives from all ranks; gradients are added up, and every rank
takes the same step. So the numbers are those of one process, up to rounding, wherever nothing is drawn for a single row: with
dropout each rank draws its own, and the numbers differ as they do between two seeds. MISSRec's ``regularizer="released"`` counts the
padding of the rows it is given, so it too differs.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from mmrec_teach.errors import OptionError
from mmrec_teach.ops.gather import across_ranks

_GROUPS = itertools.count()


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by default alone, and then nothing here changes anything.

    Attributes:
        rank, size: which one of how many.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def rows(self, batch: Any) -> Any:
        """Return this rank's rows of ``batch``, a Batch or SequenceBatch that all ranks have drawn alike."""
        if self.size == 1:
            return batch
        n = len(batch.users)
        mine = slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)
        parts = {part.name: getattr(batch, part.name) for part in fields(batch)}
        return type(batch)(**{name: None if part is None else part[mine] for name, part in parts.items()})

    def one_batch(self) -> AbstractContextManager[None]:
        """Return the block in which loss terms are shares of those of all ranks' rows."""
        return across_ranks()

    def whole(self, terms: Mapping[str, Tensor], total: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the whole batch and their weighted sum, detached, from this rank's shares of them."""
        told = {name: term.detach() for name, term in terms.items()}
        if self.size == 1:
            return told, total.detach()
        added = torch.stack([*told.values(), total.detach()])
        dist.all_reduce(added)
        return dict(zip(told, added[:-1], strict=True)), added[-1]

    def add_gradients(self, model: nn.Module) -> None:
        """Replace every parameter's gradient by the sum over all ranks; where a rank has none it counts as zero."""
        if self.size == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        added = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(added)
        for parameter, gradient in zip(parameters, added.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    @torch.no_grad()
    def agree(self, model: nn.Module) -> None:
        """Give every rank the parameters and stored tables of the first, so that rounding does not part them."""
        if self.size > 1:
            for value in model.state_dict().values():
                dist.broadcast(value, 0)


@contextmanager
def torchrun_ranks(device: str = "auto") -> Iterator[tuple[Ranks, str]]:
    """Join the processes that ``torchrun`` started, until the block ends; without torchrun this is one alone.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. On CUDA each process of a machine takes a GPU of its own (nccl), on the CPU they
            speak through gloo.

    Yields:
        the rank, and the device it is to use.

    Raises:
        OptionError: fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        yield Ranks(), device
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu:
        if local >= torch.cuda.device_count():
            raise OptionError(
                "more processes than GPUs",
                where="torchrun",
                found=f"{torch.cuda.device_count()} GPUs",
                expected="one for each process of a machine, or --device cpu",
            )
        torch.cuda.set_device(local)
    # Every group has keys of its own in torchrun's store. In a second block a rank that comes first would otherwise read where the
    # others were reached in the first one (torch counts its groups anew), and all would wait for ever.
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"ranks/{next(_GROUPS)}", store)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), f"cuda:{local}" if on_gpu else "cpu"
    finally:
        dist.destroy_process_group()
