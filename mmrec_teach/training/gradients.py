"""The tug of war: how hard each loss term pulls at the parameters, and which terms pull against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor

from mmrec_teach.models import Batch, Recommender
from mmrec_teach.training.state import undisturbed


@dataclass(frozen=True)
class GradientReport:
    """Gradients of a model's weighted loss terms on one batch.

    Attributes:
        norms: term -> length of the gradient of weight x term over all parameters; terms that are switched off are absent.
        cosines: (a, b) -> cosine of the angle between two terms' gradients over the parameters that both depend on: 1 pull
            together, 0 do not meet, -1 pull against each other. Pairs in the order of ``norms``. A pair is absent where the
            two share no parameter, or one of them does not move what they share.
    """

    norms: Mapping[str, float] = field(default_factory=dict)
    cosines: Mapping[tuple[str, str], float] = field(default_factory=dict)


def gradient_report(model: Recommender, batch: Batch, weights: Mapping[str, float]) -> GradientReport:
    """Return how the loss terms pull at ``model`` on ``batch``.

    The model is left as it was found: parameters, their ``.grad``, buffers, random numbers, train or eval mode.

    Args:
        model: in the mode its losses are wanted in; training mode (with dropout) is how the loop sees them.
        batch: examples, on any device.
        weights: loss term -> weight; terms left out keep the model's default.

    Raises:
        OptionError: a weight for a term the model does not have.
    """
    weights = model.check_weights(weights)
    active = {name for name, weight in weights.items() if weight != 0.0}
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients: dict[str, list[Tensor | None]] = {}
    with undisturbed(model), torch.enable_grad():
        terms = model.losses(batch.to(model.device), active)
        for name, term in terms.items():
            if not term.requires_grad:  # such as a constant 0: it pulls at nothing
                gradients[name] = [None] * len(parameters)
                continue
            found = torch.autograd.grad(weights[name] * term, parameters, retain_graph=True, allow_unused=True)
            gradients[name] = [None if g is None else g.detach() for g in found]
    norms = {name: _length(parts) for name, parts in gradients.items()}
    cosines = {}
    for a, b in combinations(gradients, 2):
        shared = [(x, y) for x, y in zip(gradients[a], gradients[b], strict=True) if x is not None and y is not None]
        lengths = _length([x for x, _ in shared]) * _length([y for _, y in shared])
        if lengths > 0:
            product = sum(float((x * y).sum()) for x, y in shared)
            cosines[a, b] = max(-1.0, min(1.0, product / lengths))
    return GradientReport(norms, cosines)


def _length(parts: list[Tensor | None]) -> float:
    return sum(float(g.square().sum()) for g in parts if g is not None) ** 0.5
