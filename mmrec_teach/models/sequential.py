"""What all models that read histories share: whose history is known, and scores from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mmrec_teach.data import Dataset
from mmrec_teach.data.sequences import LENGTH, Histories, histories
from mmrec_teach.errors import OptionError, check_whole
from mmrec_teach.models.base import Recommender
from mmrec_teach.ops.gather import cross_entropy_of_all, rows_of_all, span

BLOCK = 512
"""Users encoded at a time where a table of all users is wanted."""
ITEM_DROPS = 0.9
"""How many batches lose items in ``seq_seq``'s second reading; the others lose feature entries."""


class SequenceRecommender(Recommender):
    r"""A user is what she took, in order: :math:`h = \mathrm{encode}(i_1, \dots, i_n)`, :math:`s = \mathrm{match}(h)`.

    There are no user parameters. Scores read the users' training histories; inside ``with model.knowing("train", "valid"):`` those
    of both splits, as is right when test is judged. :func:`~mmrec_teach.evaluation.evaluate` sees to it.

    Subclasses implement :meth:`encode`, :meth:`match`, ``losses`` and ``views``.

    Args:
        data: its interactions need an order.
        length: items of a history that are read, the latest ones.
        seed: as for every model.

    Class attributes:
        items_own: names of the parts whose parameters belong to single items; the others can move to other data. None: all of
            them, nothing can move.
        must_agree: options that decide what a parameter means; two models that differ in one cannot share parameters.
        tuned: ways to train only some parts, by name -> the names of these parts.
        pretraining: loss weights for training over several shops at once; empty for a model that is not made for it.

    Raises:
        DataError: the interactions have no order.
    """

    batches = "users"
    items_own: ClassVar[tuple[str, ...] | None] = None
    must_agree: ClassVar[tuple[str, ...]] = ("dim", "n_layers", "heads", "inner", "length", "scaling")
    tuned: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    pretraining: ClassVar[Mapping[str, float]] = {}

    def __init__(self, data: Dataset, *, length: int = LENGTH, seed: int = 0):
        super().__init__(data, seed=seed)
        self.length = check_whole(f"{type(self).__name__}(length=)", length, 1)
        self.data = data
        self._known: dict[tuple[str, ...], Histories] = {("train",): histories(data)}
        self._told: tuple[str, ...] = ("train",)

    # -- what a model of this kind says ---------------------------------------------------------------------------------
    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the users' vectors (B, d) after histories ``items`` (B, L) of ``lengths`` (B,), as in a SequenceBatch."""
        raise NotImplementedError

    def match(self, h: Tensor) -> Tensor:
        """Return the scores (B, I) of all items for user vectors ``h`` (B, d)."""
        raise NotImplementedError

    # -- moving to other data -----------------------------------------------------------------------------------------------
    def transferable(self) -> dict[str, Tensor]:
        """Return the parameters that belong to no single item, by name, without gradient; they share the model's memory.

        Raises:
            OptionError: the model reads item numbers, so there is nothing that could move to other items.
        """
        if self.items_own is None:
            raise OptionError(
                f"the parameters of {type(self).__name__} are its items' own and cannot move to other items",
                where="transfer",
                fix="Take a model that reads content: unisrec, or missrec with ids=False",
            )
        named = ((name, p) for name, p in self.named_parameters() if name.partition(".")[0] not in self.items_own)
        return {self.common_name(name): parameter.detach() for name, parameter in named}

    def common_name(self, name: str) -> str:
        """Return what parameter ``name`` is called in every model of this class: a feature table by its name, not its number."""
        return name

    def adopt(self, other: SequenceRecommender | Mapping[str, Tensor]) -> Self:
        """Copy every parameter that belongs to no single item from ``other``, a model of this class on whatever data.

        The model's own items keep their own parameters, if it has any. Nothing is copied unless all fits.

        Args:
            other: the model, or what its :meth:`transferable` returned.

        Returns:
            This model.

        Raises:
            OptionError: another class, an option of ``must_agree`` that differs, or parameters of other names or sizes.
        """
        mine, where = self.transferable(), f"{type(self).__name__}.adopt"
        if isinstance(other, SequenceRecommender):
            if type(other) is not type(self):
                raise OptionError(
                    "a model of another class", where=where, found=type(other).__name__, expected=type(self).__name__
                )
            self.check_agrees(other.options, where)
            other = other.transferable()
        for these, those, expected in ((mine, other, True), (other, mine, False)):
            if absent := [name for name in these if name not in those]:
                some = absent[0] + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
                raise OptionError(
                    "a parameter is not there" if expected else "a parameter too many",
                    where=where,
                    found=f"no {some}" if expected else some,
                    expected="a model of the same modalities and parts",
                )
        for name, parameter in mine.items():
            if other[name].shape != parameter.shape:
                raise OptionError(
                    "a parameter of another size",
                    where=f"{where}, {name}",
                    found=_times(other[name].shape),
                    expected=_times(parameter.shape),
                    fix="Features of the same encoders and equal options are needed",
                )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(other[name])
        return self

    def check_agrees(self, options: Mapping[str, Any], where: str) -> None:
        """Check that ``options`` of another model leave its parameters their meaning here.

        Raises:
            OptionError: one of ``must_agree`` differs.
        """
        for name in self.must_agree:
            if name in self.options and options.get(name, self.options[name]) != self.options[name]:
                raise OptionError(
                    "the two models differ in an option",
                    where=f"{where}, {name}",
                    found=f"{options[name]!r} there",
                    expected=f"{self.options[name]!r} as here",
                )

    # -- reading a history twice -----------------------------------------------------------------------------------------
    def without_some(self, items: Tensor, lengths: Tensor, p: float, among: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return histories of which each item was dropped with probability ``p``, but for the latest where nothing would be left.

        Args:
            items, lengths: as in a SequenceBatch.
            p: from 0 to below 1.
            among: where these rows begin in the whole batch and how many it has, see :func:`~mmrec_teach.ops.gather.span`; drawn is
                for all of them, so that several ranks drop what one would.
        """
        begin, n = among
        keep = torch.rand(n, items.shape[1], generator=self.generator)[begin : begin + len(items)] >= p
        return thinned(items, lengths, keep.to(items.device))

    # -- histories --------------------------------------------------------------------------------------------------------
    @contextmanager
    def knowing(self, *splits: str) -> Iterator[None]:
        """Score from the histories that ``splits`` tell together.

        Raises:
            DataError: the interactions of these splits have no order.
        """
        if splits not in self._known:
            self._known = {**self._known, splits: histories(self.data, *splits)}
        before, self._told = self._told, splits
        try:
            yield
        finally:
            self._told = before

    def history(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is known of ``users`` (B,): items (B, L) int64, padded behind, and lengths (B,); length 0 for nothing."""
        known, users = self._known[self._told], users.cpu().numpy()
        places, lengths = known.windows(users, known.starts[users + 1], self.length)
        items = torch.from_numpy(known.items[places])
        return items.to(self.device), torch.from_numpy(lengths).to(self.device)

    def score(self, users: Tensor) -> Tensor:
        with self.evaluating():
            return self.match(self.encode(*self.history(users)))

    def parts(self, users: Tensor) -> dict[str, Tensor] | None:
        with self.evaluating():
            return self.parts_of(self.encode(*self.history(users)))

    def parts_of(self, h: Tensor) -> dict[str, Tensor] | None:
        """Return what :meth:`match` returns of ``h`` (B, d) as the sum of two parts, see :meth:`parts`."""
        return None

    def user_vectors(self, users: Tensor | None = None) -> Tensor:
        """Return :meth:`encode` of the histories of ``users`` (n,), None: of all: (n, d), without gradient."""
        with self.evaluating():
            blocks = (torch.arange(self.n_users) if users is None else users).split(BLOCK)
            return torch.cat([self.encode(*self.history(part)) for part in blocks])


def inside(items: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, L) bool: which places hold an item. The padding stands behind."""
    return torch.arange(items.shape[1], device=items.device) < lengths[:, None]


def last(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the rows (B, d) of ``x`` (B, L, d) at each history's last item; of an empty history the first row."""
    return x[torch.arange(len(x), device=x.device), (lengths - 1).clamp_min(0)]


def thinned(items: Tensor, lengths: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return histories without some of their items: (B, L') padded behind, and lengths (B,). Their order stays.

    Args:
        items, lengths: as in a SequenceBatch.
        keep: (B, L) bool; a history that would lose everything keeps its latest item.
    """
    there = inside(items, lengths)
    keep = keep & there
    latest = torch.arange(items.shape[1], device=items.device) == lengths[:, None] - 1
    keep = torch.where(keep.any(1, keepdim=True), keep, latest)
    order = (~keep).int().argsort(dim=1, stable=True)  # kept ones to the front
    lengths = keep.sum(1)
    longest = int(lengths.amax()) if len(lengths) else 1
    items = items.gather(1, order)[:, : max(1, longest)]
    return items * inside(items, lengths), lengths


def pulled_together(h: Tensor, other: Tensor, asked: Tensor, temperature: float, mask_duplicates: bool) -> Tensor:
    r"""InfoNCE of every history's vector against another reading of the same: a rank's share of the mean, see ``ops.gather``.

    .. math:: -\ln\frac{\exp(h_b\cdot h'_b/\tau)}{\sum_{b'} \exp(h_b\cdot h'_{b'}/\tau)}

    Args:
        h, other: (B, d) at length 1.
        asked: (B,) int64, what each history is asked for.
        temperature: τ.
        mask_duplicates: histories asked for the same item are no negatives of each other.
    """
    begin, _ = span(len(h), h.device)
    own = begin + torch.arange(len(h), device=h.device)
    logits = h @ rows_of_all(other).T / temperature  # (B, N)
    if mask_duplicates:
        same = asked[:, None] == rows_of_all(asked)
        same.scatter_(1, own[:, None], False)
        logits = logits.masked_fill(same, -torch.inf)
    return cross_entropy_of_all(logits, own)


def _times(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a single number"
