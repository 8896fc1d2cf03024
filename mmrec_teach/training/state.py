"""A model's whole state in memory, taken between two steps and given back exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmrec_teach.models import Recommender

_TABLES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class ModelState:
    """What :func:`take` found; opaque. Belongs to one model object."""

    modules: tuple[tuple[nn.Module, dict[str, Any], dict[str, Tensor | None]], ...]
    values: tuple[tuple[Tensor, Tensor], ...]
    generator: Tensor


def take(model: Recommender, parameters: bool = True) -> ModelState:
    """Return the state of ``model`` between two steps.

    Copied: parameters and persistent buffers, which training changes in place. Kept by reference: other buffers (graphs,
    features) and plain attributes (an epoch's graph), which models replace and never write into.

    Args:
        model: any model.
        parameters: also copy the parameters; not needed where nothing takes a step.
    """
    modules, values = [], []
    for module in model.modules():
        plain = {name: value for name, value in vars(module).items() if name not in _TABLES}
        modules.append((module, plain, dict(module._buffers)))
        changing = [
            b for name, b in module._buffers.items() if b is not None and name not in module._non_persistent_buffers_set
        ]
        if parameters:
            changing += [p.data for p in module._parameters.values() if p is not None]
        values += [(tensor, tensor.clone()) for tensor in changing]
    return ModelState(tuple(modules), tuple(values), model.generator.get_state())


@torch.no_grad()
def give_back(model: Recommender, state: ModelState) -> None:
    """Bring ``model`` back to ``state``."""
    for module, plain, buffers in state.modules:
        for name in set(vars(module)) - set(plain) - set(_TABLES):
            del module.__dict__[name]
        module.__dict__.update(plain)
        module._buffers.update(buffers)
    for tensor, value in state.values:
        tensor.copy_(value)
    model.generator.set_state(state.generator)


@contextmanager
def undisturbed(model: Recommender) -> Iterator[None]:
    """Leave ``model`` as it was found, random numbers included, but for what happens to the parameters.

    For looking at a model in the middle of training: losses, views and scores are free to draw and to remember.
    """
    state = take(model, parameters=False)
    try:
        yield
    finally:
        give_back(model, state)
