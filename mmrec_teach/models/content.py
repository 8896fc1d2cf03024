"""What models ask of a data set's feature tables: which modalities, as tensors, and who lacks what."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError, check_choice
from mmrec_teach.models.base import rows


def modality_features(
    data: Dataset, modalities: Sequence[str] | str | None = None, *, model: str, scaling: str = "raw"
) -> dict[str, Tensor]:
    """Return the chosen feature tables, each (I, D_m) float32, in the order asked for.

    Raw tables share the data set's memory (a gigabyte at 63,001 items and 4,096 columns): read them, never write to them; clone
    what is to be trained. A missing item's row is zero: see :func:`modality_presence` before an offset, a neighbour search or a
    mean gives that zero a meaning it does not have.

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
        table = _shared(data.features[name])
        tables[name] = torch.nn.functional.normalize(table, dim=1) if scaling == "unit" else table
    return tables


def modality_presence(data: Dataset, names: Sequence[str]) -> dict[str, Tensor]:
    """Return, per modality, (I,) bool: True where the item has it."""
    return {name: ~torch.tensor(data.missing[name], dtype=torch.bool) for name in names}


def new_features(
    features: Mapping[str, Tensor], widths: Mapping[str, int], *, model: str, scaling: str = "raw"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return feature rows of new items as the model's own are, and who has what.

    Args:
        features: modality -> (n, D_m); one that is left out is missing, and so is a row of zeros.
        widths: modality -> D_m, the model's.
        model, scaling: as in :func:`modality_features`.

    Returns:
        Modality -> (n, D_m) float32, zero where missing, and modality -> (n,) bool, True where the item has it, both in the order
        of ``widths``.

    Raises:
        OptionError: a modality that the model does not read, rows of another width or number, numbers that are not finite.
    """
    where, n = f"{model}.new_items", None
    if not features:
        raise OptionError("no features", where=where, expected=f"some of: {', '.join(widths)}")
    for name, table in features.items():
        if name not in widths:
            raise OptionError("unknown modality", where=where, found=repr(name), expected=f"some of: {', '.join(widths)}")
        n = len(table) if n is None else n
        if table.ndim != 2 or table.shape != (n, widths[name]) or not torch.isfinite(table).all():
            raise OptionError(
                "not a row of features an item",
                where=f"{where}, {name}",
                found=f"shape {tuple(table.shape)}" if table.shape != (n, widths[name]) else "numbers that are not finite",
                expected=f"({n}, {widths[name]}), finite",
            )
    empty = {name: torch.zeros(n, width) for name, width in widths.items()}
    tables = {name: features[name].float() if name in features else empty[name] for name in widths}
    present = {name: table.any(1) for name, table in tables.items()}
    if scaling == "unit":
        tables = {name: torch.nn.functional.normalize(table, dim=1) for name, table in tables.items()}
    return tables, present


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


def linear(n_in: int, n_out: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with Xavier-normal weights drawn from ``generator`` and an offset of zero."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias)
    nn.init.xavier_normal_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Projections(nn.Module):
    r"""One linear map per modality into the model's space, :math:`h_m = e_m W_m + b_m`.

    A row that is missing stays zero: neither the offset b_m nor a trained table turns it into an opinion.

    Args:
        data, modalities, model, scaling: as in :func:`modality_features`.
        dim: size of h_m.
        generator: draws the initial W_m.
        bias: whether b_m exists.
        trainable: the tables e_m are parameters that start from the features. Off, they are constants, and cost no gradient.

    Attributes:
        names: the modalities, in order.
        has: (I, M) bool, which item has which modality.
    """

    has: Tensor

    def __init__(
        self,
        data: Dataset,
        modalities: Sequence[str] | str | None,
        dim: int,
        generator: torch.Generator,
        *,
        model: str,
        scaling: str = "raw",
        bias: bool = True,
        trainable: bool = False,
    ):
        super().__init__()
        tables = modality_features(data, modalities, model=model, scaling=scaling)
        self.names, self.scaling, self.trainable = tuple(tables), scaling, trainable
        for m, table in enumerate(tables.values()):
            if trainable:
                self.register_parameter(f"table_{m}", nn.Parameter(table.clone()))
            else:
                self.register_buffer(f"table_{m}", table, persistent=False)
        self.layers = nn.ModuleList(linear(table.shape[1], dim, generator, bias=bias) for table in tables.values())
        present = modality_presence(data, self.names)
        self.register_buffer("has", torch.stack(list(present.values()), dim=1), persistent=False)
        self._complete = tuple(bool(p.all()) for p in present.values())

    def table(self, name: str) -> Tensor:
        """Return e_m, (I, D_m)."""
        return getattr(self, f"table_{self.names.index(name)}")

    def layer(self, name: str) -> nn.Linear:
        """Return W_m, b_m."""
        return self.layers[self.names.index(name)]

    def present(self, name: str, items: Tensor | None = None) -> Tensor | None:
        """Return (n,) bool, which of ``items`` (None: all) have the modality; None when every item of the catalogue has it."""
        m = self.names.index(name)
        if self._complete[m]:
            return None
        return self.has[:, m] if items is None else self.has[items, m]

    def shares(self, weights: Tensor | None = None) -> Tensor:
        """Return :func:`shares` of ``weights`` (M,), or of equal ones: (I, M)."""
        equal = torch.ones(len(self.names), dtype=self.layers[0].weight.dtype, device=self.has.device)
        return shares(equal if weights is None else weights, dict(zip(self.names, self.has.unbind(1), strict=True)))

    def forward(self, name: str, items: Tensor | None = None) -> Tensor:
        """Return h_m of ``items`` (n,), or of all items: (n, dim), zero where missing. Each distinct item is projected once."""
        if items is None:
            h = self.layer(name)(self.table(name))
        else:
            distinct, place = torch.unique(items, return_inverse=True)
            h = rows(self.layer(name)(rows(self.table(name), distinct)), place)
        present = self.present(name, items)
        return h if present is None else h * present[:, None]

    def new(self, features: Mapping[str, Tensor], model: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return :func:`new_features` of items that would stand among these by their content.

        Raises:
            OptionError: as there, or the tables have been trained, so that they are no features any more.
        """
        if self.trainable:
            raise OptionError(
                "trained feature tables do not say where a new item's features would stand",
                where=f"{model}(trainable_features=True)",
                fix="Train with frozen features",
            )
        widths = {name: self.table(name).shape[1] for name in self.names}
        return new_features(features, widths, model=model, scaling=self.scaling)

    def views(self) -> dict[str, Tensor]:
        """Return ``item/NAME`` -> h_m of all items; a modality with the name of another view is called ``item/modality-NAME``."""
        taken = ("id", "content", "final", "online", "target")
        return {f"item/modality-{name}" if name in taken else f"item/{name}": self(name) for name in self.names}


def _shared(table: np.ndarray) -> Tensor:
    """Return a read-only table as a tensor on the same memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32))
