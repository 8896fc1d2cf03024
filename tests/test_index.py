"""Vector search: the exact kind against a table of all scores, the others against the exact kind."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.ops import index as index_module
from mmrec_teach.ops.index import KINDS, METRICS, VectorIndex, recall_of

FAISS = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed (the extra retrieval)")
ALL = [pytest.param(kind, marks=() if kind == "exact" else FAISS) for kind in KINDS]


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clustered(n: int, dim: int = 16) -> torch.Tensor:
    """Vectors around 20 centres, as items of some kinds lie."""
    return numbers(20, dim)[torch.arange(n) % 20] + 0.5 * numbers(n, dim, seed=1)


def brute(vectors, queries, k, metric, hidden=None):
    """All scores, sorted: (scores, rows)."""
    a, b = queries.double().numpy(), vectors.double().numpy()
    if metric == "cosine":
        a, b = (m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-12) for m in (a, b))
    table = a @ b.T
    for row, out in enumerate(hidden or ()):
        table[row, out] = -np.inf
    order = np.argsort(-table, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(table, order, 1), order


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["exact", pytest.param("flat", marks=FAISS)])
def test_exact_kinds_agree_with_a_table_of_all_scores(kind, metric, monkeypatch):
    monkeypatch.setattr(index_module, "CELLS", 1000)  # several blocks
    vectors, queries = numbers(150, 8), numbers(23, 8, seed=1)
    hidden = [np.arange(row) for row in range(23)]
    index = VectorIndex.build(vectors, kind=kind, metric=metric)
    for out in (None, hidden):
        scores, ids = index.search(queries, 7, exclude=out)
        wanted, order = brute(vectors, queries, 7, metric, out)
        assert (ids.numpy() == order).all()
        assert np.allclose(scores, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_recall_against_exact(kind):
    """At these widths the approximate kinds find nearly everything; with narrow ones less, so the measure does not flatter."""
    vectors, queries = clustered(2000), clustered(40) + 0.1 * numbers(40, 16, seed=3)
    _, truth = VectorIndex.build(vectors, metric="cosine").search(queries, 10)
    _, found = VectorIndex.build(vectors, kind=kind, metric="cosine").search(queries, 10)
    assert recall_of(found, truth) > (0.95 if kind in ("ivf", "hnsw") else 0.999)
    if kind == "ivf":
        narrow = VectorIndex.build(vectors, kind=kind, metric="cosine", lists=50, probes=1)
        assert recall_of(narrow.search(queries, 10)[1], truth) < recall_of(found, truth)


@pytest.mark.parametrize("kind", ALL)
def test_what_is_excluded_does_not_come_back_and_others_move_up(kind):
    vectors, queries = clustered(300), clustered(5)
    index = VectorIndex.build(vectors, kind=kind, ids=np.arange(300) + 1000)
    _, free = index.search(queries, 22)
    seen = [free[row, : 3 * row].numpy() for row in range(5)]
    seen[2] = np.append(seen[2], 7)  # an id that the index does not know
    _, ids = index.search(queries, 10, exclude=seen)
    for row in range(5):
        assert not set(ids[row].tolist()) & set(seen[row].tolist())
        if kind in ("exact", "flat"):
            assert ids[row].tolist() == [i for i in free[row].tolist() if i not in seen[row]][:10]
    assert (ids >= 1000).all()


@pytest.mark.parametrize("kind", ALL)
def test_a_rows_answer_does_not_depend_on_the_others(kind):
    index, queries = VectorIndex.build(clustered(400), kind=kind), clustered(6)
    seen = [np.arange(40 * row) for row in range(6)]
    together = index.search(queries, 5, exclude=seen)
    for row in range(6):
        alone = index.search(queries[row : row + 1], 5, exclude=seen[row : row + 1])
        assert torch.equal(alone[1][0], together[1][row])


@pytest.mark.parametrize("kind", ALL)
def test_more_than_there_is(kind):
    index = VectorIndex.build(numbers(4, 3), kind=kind)
    scores, ids = index.search(numbers(2, 3, seed=1), 6, exclude=[[0], []])
    assert ids[0].tolist().count(-1) == 3
    assert ids[1].tolist().count(-1) == 2
    assert ((scores == -torch.inf) == (ids == -1)).all()
    assert 0 not in ids[0]
    assert index.search(torch.zeros(0, 3), 2)[1].shape == (0, 2)


def test_equal_scores_go_by_order_of_entry():
    index = VectorIndex.build(torch.ones(5, 2), ids=[9, 3, 7, 1, 5])
    assert index.search(torch.ones(1, 2), 3)[1].tolist() == [[9, 3, 7]]


@pytest.mark.parametrize("kind", ALL)
def test_the_same_twice(kind):
    vectors, queries = clustered(500), numbers(9, 16, seed=5)
    a, b = (VectorIndex.build(vectors, kind=kind).search(queries, 8) for _ in range(2))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])


@pytest.mark.parametrize("kind", ALL)
def test_new_vectors_are_found(kind):
    vectors, queries = clustered(330), clustered(330)[300:]
    index = VectorIndex.build(vectors[:300], kind=kind, metric="cosine")
    assert index.search(queries, 1)[1].max() < 300
    index.add(vectors[300:], np.arange(300, 330))
    assert len(index) == 330
    assert index.search(queries, 1)[1][:, 0].tolist() == list(range(300, 330))
    if kind in ("exact", "flat"):
        whole = VectorIndex.build(vectors, kind=kind, metric="cosine")
        assert torch.equal(index.search(queries, 9)[1], whole.search(queries, 9)[1])
    with pytest.raises(OptionError, match="an id is taken"):
        index.add(vectors[:1], [5])
    with pytest.raises(OptionError, match="stands twice"):
        index.add(vectors[:2], [900, 900])
    assert len(index) == 330


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ALL)
def test_saved_and_read_again(kind, metric, tmp_path):
    index = VectorIndex.build(clustered(200), kind=kind, metric=metric, ids=np.arange(200) * 2)
    index.about = {"run": "bpr-seed0", "items": 200}
    index.save(tmp_path / "items.index")
    again = VectorIndex.load(tmp_path / "items.index")
    assert (again.kind, again.metric, again.options, again.about) == (kind, metric, index.options, index.about)
    queries = numbers(5, 16, seed=2)
    for a, b in zip(index.search(queries, 6), again.search(queries, 6)):
        assert torch.equal(a, b)
    again.add(numbers(1, 16, seed=9), [1])
    assert len(again) == 201
    assert [p.name for p in tmp_path.iterdir()] == ["items.index"]


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "items.index"
    VectorIndex.build(numbers(50, 8)).save(path)
    whole = path.read_bytes()
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["content"] = arrays["content"] + np.float32(1)
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(DataError, match=r"damaged .*checksum"):
        VectorIndex.load(path)
    for broken in (whole[:200], b"", b"hello"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not an index, or damaged"):
            VectorIndex.load(path)
    with pytest.raises(DataError, match="no such file"):
        VectorIndex.load(tmp_path / "none")


def test_without_faiss_the_exact_kind_works_and_the_others_say_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    vectors = numbers(20, 4)
    assert VectorIndex.build(vectors).search(vectors, 1)[1].shape == (20, 1)
    for kind in ("flat", "ivf", "hnsw"):
        with pytest.raises(OptionError, match=r"faiss is not installed .*pip install 'mmrec_teach\[retrieval\]'"):
            VectorIndex.build(vectors, kind=kind)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "tree"}, "unknown choice"),
        ({"metric": "l2"}, "unknown choice"),
        ({"probes": 3}, "no such option"),
        ({"vectors": torch.zeros(3)}, "not a table of vectors"),
        ({"vectors": torch.zeros(3, 2, dtype=torch.int64)}, "not a table of vectors"),
        ({"vectors": torch.tensor([[0.0], [float("nan")]])}, "row 1"),
        ({"vectors": torch.zeros(0, 4)}, "nothing to search"),
        ({"ids": [1, 2]}, "not one id a vector"),
        ({"ids": [0.5] * 9}, "not one id a vector"),
        ({"ids": [-1, *range(8)]}, "not one id a vector"),
        ({"ids": [4] * 9}, "stands twice"),
        pytest.param({"kind": "ivf", "lists": 10}, "more lists than vectors", marks=FAISS),
        pytest.param({"kind": "hnsw", "links": 0}, "out of range", marks=FAISS),
    ],
)
def test_wrong_input_is_refused(change, words):
    given = {"vectors": numbers(9, 4), **change}
    with pytest.raises(OptionError, match=words):
        VectorIndex.build(given.pop("vectors"), **given)


def test_wrong_questions_are_refused():
    index = VectorIndex.build(numbers(9, 4))
    for queries, k, exclude, words in (
        (numbers(2, 3), 1, None, "another width"),
        (numbers(2, 4), 0, None, "nothing to find"),
        (numbers(2, 4), 1, [[]], "not one list"),
    ):
        with pytest.raises(OptionError, match=words):
            index.search(queries, k, exclude)


def test_recall_counts_what_is_there():
    truth = torch.tensor([[1, 2], [3, -1]])
    assert recall_of(torch.tensor([[2, 5], [3, -1]]), truth) == pytest.approx(2 / 3)
