"""What models ask of a data set's feature tables: which modalities, as tensors, and who lacks what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models.base import check_choice


def modality_features(
    data: Dataset, modalities: Sequence[str] | str | None = None, *, model: str, scaling: str = "raw"
) -> dict[str, Tensor]:
    """Return the chosen feature tables, each (I, D_m) float32, in the order asked for.

    A missing item's row is zero: see :func:`modality_presence` before an offset, a neighbour search or a mean gives that zero
    a meaning it does not have.

    Args:
        data: the data set.
        modalities: names, or one name; None means all.
        model: the class that asks, for error messages.
        scaling: ``"raw"`` features as they are; ``"unit"`` each modality's rows scaled to length 1 (zero rows stay zero).

    Raises:
        DataError: no features, or none chosen.
        OptionError: a name the data set does not have, a name given twice, or an unknown scaling.
    """
    check_choice("scaling", scaling, {"raw": None, "unit": None})
    chosen = tuple(data.modalities if modalities is None else [modalities] if isinstance(modalities, str) else modalities)
    if not chosen:
        raise DataError(
            f"{model} needs item features",
            where=f"data set {data.name!r}",
            found="none" if modalities is None else "an empty choice of modalities",
            expected="at least one feature table",
            fix="Add NAME_feat.npy beside the interactions, or use a model without content (bpr, lightgcn, buir)",
        )
    tables = {}
    for name in chosen:
        if name not in data.features:
            raise OptionError(
                "unknown modality",
                where=f"{model}(modalities=)",
                found=repr(name),
                expected=f"some of: {', '.join(data.modalities) or 'none'}",
            )
        if name in tables:
            raise OptionError(
                "a modality is named twice", where=f"{model}(modalities=)", found=repr(name), expected="each once"
            )
        table = torch.tensor(data.features[name], dtype=torch.float32)  # a copy: the data set's own table is read-only
        tables[name] = torch.nn.functional.normalize(table, dim=1) if scaling == "unit" else table
    return tables


def modality_presence(data: Dataset, names: Sequence[str]) -> dict[str, Tensor]:
    """Return, per modality, (I,) bool: True where the item has it."""
    return {name: ~torch.tensor(data.missing[name], dtype=torch.bool) for name in names}


def shares(weights: Tensor, present: Mapping[str, Tensor]) -> Tensor:
    """Return every item's modality weights, renormalised over the modalities it has.

    An item without a picture is judged by its words alone, at full weight; a missing modality never counts as a zero opinion.

    Args:
        weights: (M,) not negative, in the order of ``present``; gradients flow through.
        present: modality -> (I,) bool.

    Returns:
        (I, M) rows that sum to 1, or are zero for an item that has nothing (or nothing with a weight above 0).
    """
    kept = weights * torch.stack(list(present.values()), dim=1).to(weights)  # (I, M)
    total = kept.sum(1, keepdim=True)
    return kept / torch.where(total > 0, total, torch.ones_like(total))
