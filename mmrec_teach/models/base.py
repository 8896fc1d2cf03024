"""The contract every model keeps: ``losses``, ``views``, ``score``.

The total loss is a weighted sum of named terms. The weights are a plain mapping that may change between two steps, and a term
whose weight is zero is not computed. Training, evaluation, figures and widgets know nothing else about a model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmrec_teach.data import Dataset
from mmrec_teach.errors import OptionError, check_whole
from mmrec_teach.files import atomic_path


@dataclass(frozen=True)
class Batch:
    """One training step's examples.

    Attributes:
        users: (B,) int64.
        items: (B,) int64, items the users took.
        negatives: (B,) int64, items they did not take; None for models with ``needs_negatives = False``.
    """

    users: Tensor
    items: Tensor
    negatives: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``."""
        return Batch(*(None if t is None else t.to(device) for t in (self.users, self.items, self.negatives)))


@dataclass(frozen=True)
class SequenceBatch:
    """One training step's examples for a model that reads histories: B rows of at most L items, oldest first.

    Attributes:
        users: (B,) int64.
        items: (B, L) int64 the history; 0 in the padding, which stands behind.
        lengths: (B,) int64 items of each row, at least 1.
        targets: (B, L) int64 the item taken next after each place, -1 where nothing is asked: everywhere but at a row's last
            item for ``batches = "prefixes"``, only in the padding for ``"users"``.
        negatives: (B, L) int64, an item not taken for each target, else -1; None for models with ``needs_negatives = False``.
    """

    users: Tensor
    items: Tensor
    lengths: Tensor
    targets: Tensor
    negatives: Tensor | None = None

    def to(self, device: torch.device | str) -> SequenceBatch:
        """Return the batch on ``device``."""
        parts = (self.users, self.items, self.lengths, self.targets, self.negatives)
        return SequenceBatch(*(None if t is None else t.to(device) for t in parts))


def once_per_evaluation(method: Callable[..., Any]) -> Callable[..., Any]:
    """Compute ``method`` once inside ``with model.evaluating():``, every time outside it. For methods without arguments."""

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        if self._evaluation is None:
            return method(self, *args, **kwargs)
        if method.__name__ not in self._evaluation:
            self._evaluation[method.__name__] = method(self, *args, **kwargs)
        return self._evaluation[method.__name__]

    return wrapper


class Recommender(nn.Module):
    """Base of all models.

    Subclasses set ``default_weights``, take ``(data, *, options, seed=0)`` and implement the three methods. Everything random
    inside a model (initial values, dropout) draws from ``self.generator``, a CPU generator seeded by ``seed``.

    Class attributes:
        default_weights: loss term -> weight. Its keys are all terms the class knows; :attr:`terms` are those of one model.
        batches: the training examples it wants. ``"pairs"``: a :class:`Batch` of interactions. ``"prefixes"``: a
            :class:`SequenceBatch`, one row for each item of a history that has something before it. ``"users"``: one row a user,
            every item at once. See :class:`~mmrec_teach.models.sequential.SequenceRecommender`.
        needs_negatives: whether training batches carry sampled negatives.
        trainable: False for baselines that are fitted in ``__init__`` and have no loss terms.
        choices: option -> the values it may have, for whoever offers a choice of them (a training strategy, say).
        same_space: whether ``item/id`` and ``item/content`` are vectors of one space, so that their distance means something.
        parts_note: why :meth:`parts` has nothing to say, in words; "" where it has.
        new_note: why :meth:`new_items` cannot be asked, in words; "" where it can.
    """

    default_weights: ClassVar[Mapping[str, float]] = {}
    batches: ClassVar[str] = "pairs"
    needs_negatives: ClassVar[bool] = True
    trainable: ClassVar[bool] = True
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    same_space: ClassVar[bool] = True
    parts_note: ClassVar[str] = "the score reads IDs alone"
    new_note: ClassVar[str] = "an item is its ID vector, which only interactions train"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        init = cls.__init__
        signature = inspect.signature(init)

        @functools.wraps(init)
        def recording(self, *args, **options):
            if not hasattr(self, "options"):  # the outermost constructor knows every option
                bound = signature.bind(self, *args, **options)
                bound.apply_defaults()
                given = {k: v for k, v in bound.arguments.items() if k not in ("self", "data")}
                object.__setattr__(self, "options", given)
            init(self, *args, **options)

        cls.__init__ = recording

    def __init__(self, data: Dataset, *, seed: int = 0):
        super().__init__()
        self.n_users, self.n_items = data.n_users, data.n_items
        self.generator = torch.Generator().manual_seed(seed)
        self._evaluation: dict[str, Any] | None = None

    # -- the three methods ------------------------------------------------------------------------------------------
    def losses(self, batch: Batch | SequenceBatch, active: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return the model's loss terms, unweighted scalars by the paper's names.

        Args:
            batch: the examples, on the model's device.
            active: the terms wanted; None means all in :attr:`terms`. A term not wanted is not computed and not returned, nor is
                one that this model does not have.
        """
        raise NotImplementedError

    def views(self) -> dict[str, Tensor]:
        """Return the model's embedding tables by name, each (n_users, d) or (n_items, d).

        Names are ``user/...`` and ``item/...``: ``item/id``, ``item/content``, ``item/final``, ``user/final``.
        """
        raise NotImplementedError

    def score(self, users: Tensor) -> Tensor:
        """Return (len(users), n_items) scores, higher is better, seen items not yet masked."""
        raise NotImplementedError

    # -- recall: the same score as a search among vectors -----------------------------------------------------------
    def unsearchable(self) -> str:
        """Return why the score is no inner product of a user's and an item's vector, in words; "" where it is one."""
        return ""

    def check_searchable(self) -> None:
        """Check that the score is an inner product.

        Raises:
            OptionError: it is none; :meth:`unsearchable` says why.
        """
        if why := self.unsearchable():
            raise OptionError(
                "not a model of vectors",
                where=type(self).__name__,
                found=why,
                expected="a score that is an inner product of a user's and an item's vector, such as lightgcn's",
            )

    def user_vectors(self, users: Tensor | None = None) -> Tensor:
        """Return the vectors (n, d) of ``users`` (n,), None: of all. :meth:`item_vectors` says what they are for. No gradient.

        Raises:
            OptionError: the score is no such product, see :meth:`unsearchable`.
        """
        self.check_searchable()
        with self.evaluating():
            table = self.views()["user/final"].detach()
        return table if users is None else table[users]

    def item_vectors(self) -> Tensor:
        """Return the vectors (I, d) of all items: their inner products with a user's, plus :meth:`item_offsets`, are her scores,
        up to one constant a user. No gradient.

        Raises:
            OptionError: the score is no such product, see :meth:`unsearchable`.
        """
        self.check_searchable()
        with self.evaluating():
            return self.views()["item/final"].detach()

    def item_offsets(self) -> Tensor | None:
        """Return what each item's score has beside the product, (I,); None for nothing."""
        return None

    def parts(self, users: Tensor) -> dict[str, Tensor] | None:
        """Return :meth:`score` (n, I) as the sum of two parts, ``"id"`` and ``"content"``; None where :attr:`parts_note` says why.

        A part is what an item's ID vector, or its content's, adds to the score of the user as she is.
        """
        return None

    def new_items(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return vectors (n, d) and offsets (n,) or None, as of :meth:`item_vectors`, for new items that have content only.

        They are what an item without interactions would have whose ID vector is zero.

        Args:
            features: modality -> (n, D_m), as the model's own data have it; a row of zeros, or a modality left out, is missing.

        Raises:
            OptionError: the model cannot place such items, or the features are not as its own.
        """
        raise OptionError("cannot place a new item by its content", where=type(self).__name__, found=self.new_note)

    # -- hooks ------------------------------------------------------------------------------------------------------
    def begin_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch (graphs redrawn, interests refreshed). ``epoch`` counts from 0."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the optimiser's groups of parameters; one that is to have another step size than ``lr`` says so."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def trained_share(self) -> tuple[int, int]:
        """Return how many numbers train, and how many the parameters hold in all."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)

    # -- shared machinery -------------------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        tensor = next(self.parameters(), None)
        if tensor is None:
            tensor = next(self.buffers(), torch.empty(0))
        return tensor.device

    @property
    def terms(self) -> tuple[str, ...]:
        """The loss terms this model has, in the order of ``default_weights``. Some options of some models leave terms out."""
        return tuple(self.default_weights)

    def total(self, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """Return the weighted sum of ``terms``."""
        total = sum(weights.get(name, 0.0) * term for name, term in terms.items())
        return total if isinstance(total, Tensor) else torch.zeros((), device=self.device, requires_grad=True)

    @classmethod
    def check_weights(cls, weights: Mapping[str, float] | None) -> dict[str, float]:
        """Return the default weights updated by ``weights``.

        Raises:
            OptionError: a name that is no term of this model, or a weight that is no finite number from 0 up.
        """
        merged = dict(cls.default_weights)
        for name, value in (weights or {}).items():
            if name not in merged:
                raise OptionError(
                    f"{cls.__name__} has no loss term of that name",
                    where="weights",
                    found=repr(name),
                    expected=", ".join(cls.default_weights) or "none",
                )
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise OptionError(
                    "a weight is no number from 0 up",
                    where=f"weights[{name!r}]",
                    found=repr(value),
                    expected="a number such as 0.1",
                )
            merged[name] = float(value)
        return merged

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Score without gradients and dropout; propagated tables are computed once inside the block."""
        if self._evaluation is not None:  # nested: the outer block owns the cache
            yield
            return
        was_training = self.training
        self.eval()
        self._evaluation = {}
        try:
            with torch.no_grad():
                yield
        finally:
            self._evaluation = None
            self.train(was_training)

    def dropout(self, x: Tensor, p: float) -> Tensor:
        """Inverted dropout drawn from ``self.generator``; the identity in eval mode or at p = 0."""
        if not self.training or p == 0.0:
            return x
        keep = torch.empty(x.shape, dtype=x.dtype).bernoulli_(1.0 - p, generator=self.generator)
        return x * keep.to(x.device).div_(1.0 - p)

    def save(self, path: str | Path) -> None:
        """Write class name, options and weights to ``path``, atomically."""
        with atomic_path(path) as temporary:
            torch.save(
                {
                    "model": type(self).__name__,
                    "options": self.options,
                    "shape": (self.n_users, self.n_items),
                    "state": {k: v.cpu() for k, v in self.state_dict().items()},
                },
                temporary,
            )


# -- small helpers that models share ------------------------------------------------------------------------------------


class _Embedding(nn.Embedding):
    """``nn.Embedding`` whose lookup is :func:`rows`."""

    def forward(self, ids: Tensor) -> Tensor:
        return rows(self.weight, ids)


def embedding(n: int, dim: int, generator: torch.Generator) -> nn.Embedding:
    """Return an (n, dim) table with Xavier-normal initial values drawn from ``generator``.

    Raises:
        OptionError: ``dim`` below 1.
    """
    check_whole("dim", dim, 1, "embedding size out of range")
    weight = torch.empty(n, dim)
    nn.init.xavier_normal_(weight, generator=generator)
    return _Embedding(n, dim, _weight=weight)


def rows(table: Tensor, ids: Tensor) -> Tensor:
    """Return ``table[ids]``. The gradient of ``index_select`` adds rows up without sorting them first, as indexing does."""
    return table.index_select(0, ids)
