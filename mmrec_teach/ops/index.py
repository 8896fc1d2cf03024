"""Top-k search among vectors: exact in torch, or by faiss, exact (flat) or approximate (IVF, HNSW).

Recall in a recommender is this search: a user's vector asks, the items' vectors answer. IVF: Sivic and Zisserman, "Video Google", ICCV
2003, as in Johnson et al., "Billion-scale similarity search with GPUs", arXiv:1702.08734. HNSW: Malkov and Yashunin, "Efficient and
robust approximate nearest neighbor search using hierarchical navigable small world graphs", arXiv:1603.09320.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmrec_teach.errors import DataError, OptionError, check_choice, check_whole
from mmrec_teach.files import atomic_path
from mmrec_teach.ops.topk import top_k

KINDS: dict[str, dict[str, int | None]] = {
    "exact": {},
    "flat": {},
    "ivf": {"lists": None, "probes": 16, "seed": 0},
    "hnsw": {"links": 32, "build_width": 80, "search_width": 64},
}
"""Kind -> its options and their defaults."""
METRICS = ("inner", "cosine")
CELLS = 2**25
"""Scores held at once by an exact search (128 MB)."""
PER_LIST = 39
"""Vectors a list of IVF needs at least to be learned from, by faiss's own advice."""


class VectorIndex:
    r"""Vectors with ids, ready to be searched by inner product or cosine.

    ``exact`` scores everything, in torch, in blocks; ``flat`` does the same in faiss. ``ivf`` sorts vectors into lists by k-means and looks
    into those whose centres fit the query best. ``hnsw`` walks a graph of near neighbours. Every build and search is repeatable: the
    graph is built on one thread for that reason.

    Attributes:
        kind, metric: what it is.
        options: of the kind, defaults filled in.
        ids: (n,) int64, the id of each vector.
        dim: d.
        about: whatever its maker wants to be kept with it (plain JSON values).
    """

    def __init__(self, kind: str, metric: str, options: Mapping[str, int], dim: int, store: Any, ids: np.ndarray):
        self.kind, self.metric, self.options, self.dim = kind, metric, dict(options), dim
        self._store = store
        self.about: dict[str, Any] = {}
        self._named(ids)

    def _named(self, ids: np.ndarray) -> None:
        self.ids = ids
        self._order = np.argsort(ids, kind="stable")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"VectorIndex({self.kind}, {self.metric}, {len(self):,} x {self.dim})"

    # -- making ---------------------------------------------------------------------------------------------------------
    @classmethod
    def build(
        cls,
        vectors: Tensor | np.ndarray,
        *,
        kind: str = "exact",
        metric: str = "inner",
        ids: Sequence[int] | np.ndarray | None = None,
        **options: int,
    ) -> Self:
        """Return an index of ``vectors``.

        Args:
            vectors: (n, d), finite.
            kind: one of :data:`KINDS`; all but ``"exact"`` need faiss.
            metric: ``"inner"`` or ``"cosine"``; a vector of zeros has cosine 0 with everything.
            ids: (n,) whole numbers from 0, all different; the rows' numbers if None.
            options: of the kind. ivf: ``lists`` (None: about the root of n), ``probes`` lists looked into, ``seed`` of k-means. hnsw:
                ``links`` a vector, ``build_width`` and ``search_width`` candidates held while building and searching.

        Raises:
            OptionError: an unknown kind, metric or option, faiss not installed, vectors or ids that are none.
        """
        check_choice("kind", kind, KINDS)
        check_choice("metric", metric, METRICS)
        if unknown := sorted(options.keys() - KINDS[kind].keys()):
            known = ", ".join(KINDS[kind]) or "none"
            raise OptionError("no such option", where=f"a {kind} index", found=unknown[0], expected=known)
        x = _prepared(vectors, metric, "VectorIndex vectors")
        n, dim = x.shape
        if not n or not dim:
            raise OptionError("nothing to search", where="VectorIndex vectors", found=f"{n} x {dim}", expected="at least 1 x 1")
        chosen = {**KINDS[kind], **options}
        if kind == "ivf" and chosen["lists"] is None:
            chosen["lists"] = max(1, min(round(math.sqrt(n)), n // PER_LIST))
        for name, value in chosen.items():
            check_whole(f"{kind} {name}", value, 0 if name == "seed" else 1)
        if kind == "ivf" and chosen["lists"] > n:
            raise OptionError("more lists than vectors", where="ivf lists", found=chosen["lists"], expected=f"at most {n}")
        names = _checked_ids(np.arange(n) if ids is None else ids, n)
        return cls(kind, metric, chosen, dim, x if kind == "exact" else _faiss_index(kind, x.numpy(), chosen), names)

    def add(self, vectors: Tensor | np.ndarray, ids: Sequence[int] | np.ndarray) -> None:
        """Add new vectors; what is there stays as it is (lists of ivf keep their centres).

        Args:
            vectors: (m, d).
            ids: (m,), none of them in the index yet.

        Raises:
            OptionError: vectors of another width, ids that are taken or stand twice. Nothing is added then.
        """
        x = self._fitting(vectors, "VectorIndex.add vectors")
        names = _checked_ids(ids, len(x))
        if (taken := self._positions(names))[taken >= 0].size:
            raise OptionError("an id is taken", where="VectorIndex.add", found=int(names[taken >= 0][0]), expected="new ids")
        if self.kind == "exact":
            self._store = torch.cat([self._store, x])
        else:
            with _threads(1 if self.kind == "hnsw" else None):
                self._store.add(x.numpy())
        self._named(np.concatenate([self.ids, names]))

    # -- searching --------------------------------------------------------------------------------------------------------
    def search(
        self, queries: Tensor | np.ndarray, k: int, exclude: Sequence[Sequence[int] | np.ndarray] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores and ids of the k best vectors of each query, best first.

        Args:
            queries: (q, d).
            k: how many; may exceed n.
            exclude: for each query the ids that must not come back, such as what a user has; unknown ones do no harm.

        Returns:
            (q, k) float32 scores, -inf where nothing was left or found, and (q, k) int64 ids, -1 there. Of equal scores the vector
            that came into the index first goes first (for ivf and hnsw: among those found).

        Raises:
            OptionError: queries of another width, k below 1, another number of exclusions than queries.
        """
        q = self._fitting(queries, "VectorIndex.search queries")
        check_whole("VectorIndex.search k", k, 1, "nothing to find")
        if exclude is not None and len(exclude) != len(q):
            raise OptionError(
                "not one list of exclusions a query",
                where="VectorIndex.search exclude",
                found=f"{len(exclude)} for {len(q)} queries",
                expected="as many",
            )
        hidden = [np.zeros(0, np.int64)] * len(q) if exclude is None else [self._found(ids) for ids in exclude]
        scores, places = self._exactly(q, k, hidden) if self.kind == "exact" else self._by_faiss(q, k, hidden)
        names = torch.from_numpy(np.append(self.ids, -1))
        return scores, names[places]

    def _exactly(self, q: Tensor, k: int, hidden: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        scores, places = [torch.zeros(0, k)], [torch.zeros(0, k, dtype=torch.int64)]
        block = max(1, CELLS // len(self))
        for start in range(0, len(q), block):
            table = q[start : start + block] @ self._store.T
            for row, out in enumerate(hidden[start : start + block]):
                table[row, out] = -torch.inf
            best = top_k(table, k)
            scores.append(table.gather(1, best.clamp_min(0)).masked_fill(best < 0, -torch.inf))
            places.append(best)
        return torch.cat(scores), torch.cat(places)

    def _by_faiss(self, q: Tensor, k: int, hidden: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        scores = np.full((len(q), k), -np.inf, np.float32)
        places = np.full((len(q), k), -1, np.int64)
        # more are fetched than wanted, by powers of two, so that a row's answer does not depend on the others asked with it
        wanted = np.array([min(len(self), k if not len(out) else 1 << (k + len(out) - 1).bit_length()) for out in hidden])
        for fetch in np.unique(wanted):
            rows = np.flatnonzero(wanted == fetch)
            found, at = self._store.search(q[rows].numpy(), int(fetch), params=self._parameters(int(fetch)))
            for row, values, which in zip(rows, found, at, strict=True):
                keep = (which >= 0) & ~np.isin(which, hidden[row])
                values, which = values[keep], which[keep]
                best = np.lexsort((which, -values))[:k]
                scores[row, : len(best)], places[row, : len(best)] = values[best], which[best]
        return torch.from_numpy(scores), torch.from_numpy(places)

    def _parameters(self, fetch: int) -> Any:
        faiss = _faiss()
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=min(self.options["probes"], self.options["lists"]))
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(self.options["search_width"], fetch))
        return None

    def _positions(self, ids: np.ndarray) -> np.ndarray:
        """Return where each id stands, -1 where it does not."""
        at = np.searchsorted(self.ids, ids, sorter=self._order).clip(max=len(self) - 1)
        place = self._order[at]
        return np.where(self.ids[place] == ids, place, -1)

    def _found(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        place = self._positions(np.asarray(ids, dtype=np.int64).reshape(-1))
        return place[place >= 0]

    def _fitting(self, vectors: Tensor | np.ndarray, where: str) -> Tensor:
        x = _prepared(vectors, self.metric, where)
        if x.shape[1] != self.dim:
            raise OptionError("vectors of another width", where=where, found=x.shape[1], expected=f"{self.dim} as in the index")
        return x

    # -- keeping ------------------------------------------------------------------------------------------------------------
    def save(self, path: str | Path) -> None:
        """Write the index to ``path``, whole or not at all, with a checksum."""
        if self.kind == "exact":
            content = self._store.numpy()
        else:
            content = _faiss().serialize_index(self._store)
        about = {"kind": self.kind, "metric": self.metric, "options": self.options, "dim": self.dim, "about": self.about}
        text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
        arrays = {"about": text, "ids": self.ids, "content": content}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, checksum=np.frombuffer(_checksum(arrays), dtype=np.uint8), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: no such file, no index, or damaged.
            OptionError: it needs faiss, which is not installed.
        """
        where, expected = str(path), "a file written by VectorIndex.save"
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("about", "ids", "content")}
                kept = archive["checksum"].tobytes()
        except FileNotFoundError:
            raise DataError("no such file", where=where, expected=expected) from None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, TypeError) as error:
            raise DataError("not an index, or damaged", where=where, found=type(error).__name__, expected=expected) from None
        if kept != _checksum(arrays):
            raise DataError("the index is damaged", where=where, found="another checksum", fix="Build it again")
        about = json.loads(arrays["about"].tobytes())
        if about["kind"] == "exact":
            store = torch.from_numpy(arrays["content"])
        else:
            store = _faiss().deserialize_index(arrays["content"])
        index = cls(about["kind"], about["metric"], about["options"], about["dim"], store, arrays["ids"])
        index.about = about["about"]
        return index


def recall_of(found: Tensor, truth: Tensor) -> float:
    """Return the share of the ids in ``truth`` (q, k) that stand in the same row of ``found`` (q, k'); -1 does not count."""
    there = (truth[:, :, None] == found[:, None, :]).any(2) & (truth >= 0)
    return float(there.sum() / (truth >= 0).sum().clamp_min(1))


def _prepared(vectors: Tensor | np.ndarray, metric: str, where: str) -> Tensor:
    """Return vectors as a contiguous float32 CPU table, rows of length 1 for the cosine."""
    x = torch.as_tensor(vectors).detach().to("cpu")
    if x.ndim != 2 or not x.is_floating_point():
        raise OptionError(
            "not a table of vectors", where=where, found=f"shape {tuple(x.shape)}, {x.dtype}", expected="(n, d), floating-point"
        )
    if not torch.isfinite(x).all():
        row = int((~torch.isfinite(x)).any(1).nonzero()[0])
        raise OptionError("a number is not finite", where=where, found=f"row {row}", expected="finite numbers")
    x = x.float()
    return (F.normalize(x, dim=1) if metric == "cosine" else x).contiguous()


def _checked_ids(ids: Sequence[int] | np.ndarray, n: int) -> np.ndarray:
    names = np.asarray(ids)
    if names.shape != (n,) or not (np.issubdtype(names.dtype, np.integer) or not n) or (n and names.min() < 0):
        raise OptionError(
            "not one id a vector",
            where="VectorIndex ids",
            found=f"shape {names.shape}, {names.dtype}",
            expected=f"{n} whole numbers from 0",
        )
    values, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise OptionError("an id stands twice", where="VectorIndex ids", found=int(values[counts > 1][0]), expected="each once")
    return names.astype(np.int64)


def _checksum(arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.digest()


# -- faiss ------------------------------------------------------------------------------------------------------------------
def _faiss() -> Any:
    """Return the module.

    Raises:
        OptionError: it is not installed.
    """
    if importlib.util.find_spec("faiss") is None:
        raise OptionError(
            "faiss is not installed",
            where="VectorIndex kind",
            expected='kind "exact", which needs nothing',
            fix="For flat, ivf and hnsw run `pip install 'mmrec_teach[retrieval]'`",
        )
    import faiss

    return faiss


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """Have faiss work on ``n`` threads; None: as it stands."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    if n is not None:
        faiss.omp_set_num_threads(n)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss_index(kind: str, x: np.ndarray, options: Mapping[str, int]) -> Any:
    faiss = _faiss()
    dim, inner = x.shape[1], faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        store = faiss.IndexFlatIP(dim)
    elif kind == "ivf":
        store = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, options["lists"], inner)
        store.cp.seed, store.cp.min_points_per_centroid = (
            options["seed"] + 1,
            1,
        )  # a few to a list are enough where they are asked for
        store.train(x)
    else:
        store = faiss.IndexHNSWFlat(dim, options["links"], inner)
        store.hnsw.efConstruction = options["build_width"]
    with _threads(1 if kind == "hnsw" else None):  # the graph depends on who comes first
        store.add(x)
    return store
