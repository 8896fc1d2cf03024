"""Metrics against the public reference numbers and against loops written the slow, plain way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation import metrics as m
from mmrec_teach.evaluation import top_k

ROOT = Path(__file__).resolve().parent.parent


def parity(name: str) -> dict[str, np.ndarray]:
    """The reference numbers, from the shared folder where it is at hand, else from our copy."""
    for folder in (ROOT.parent / "shared" / "parity", ROOT / "tests" / "parity"):
        if (folder / f"{name}.npz").is_file():
            with np.load(folder / f"{name}.npz") as stored:
                return dict(stored)
    raise FileNotFoundError(f"tests/parity/{name}.npz")


def test_equal_to_the_public_reference_at_every_cutoff():
    reference = parity("metrics")
    scores = torch.from_numpy(reference["scores"])
    relevant = np.split(reference["pos_flat"], np.cumsum(reference["pos_len"])[:-1])
    hits = m.hit_matrix(top_k(scores, 20).numpy(), relevant, scores.shape[1])
    for k in range(1, 21):
        for name, values in (
            ("recall", m.recall(hits, reference["pos_len"], k)),
            ("ndcg", m.ndcg(hits, reference["pos_len"], k)),
            ("precision", m.precision(hits, k)),
            ("map", m.average_precision(hits, reference["pos_len"], k)),
        ):
            assert values.mean() == pytest.approx(reference[f"{name}_at"][k - 1], rel=1e-12, abs=1e-12), f"{name}@{k}"


# -- the slow, plain way ------------------------------------------------------------------------------------------------
def slow_ndcg(items: list[int], relevant: set[int], k: int) -> float:
    dcg = sum(1 / math.log2(rank + 1) for rank, item in enumerate(items[:k], 1) if item in relevant)
    return dcg / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))


def slow_average_precision(items: list[int], relevant: set[int], k: int) -> float:
    total = 0.0
    for rank, item in enumerate(items[:k], 1):
        if item in relevant:
            total += len(relevant & set(items[:rank])) / rank
    return total / min(k, len(relevant))


def slow_mrr(items: list[int], relevant: set[int], k: int) -> float:
    return next((1 / rank for rank, item in enumerate(items[:k], 1) if item in relevant), 0.0)


@st.composite
def judged_lists(draw) -> tuple[int, list[list[int]], list[set[int]]]:
    n_items = draw(st.integers(2, 12))
    length = draw(st.integers(1, n_items))
    lists, relevant = [], []
    for _ in range(draw(st.integers(1, 5))):
        order = draw(st.permutations(range(n_items)))[:length]
        empty = draw(st.integers(0, length - 1))
        lists.append(order[: length - empty] + [-1] * empty)
        relevant.append(draw(st.sets(st.integers(0, n_items - 1), min_size=1)))
    return n_items, lists, relevant


@settings(derandomize=True, max_examples=200, deadline=None)
@given(judged_lists())
def test_accuracy_equals_plain_loops(case):
    n_items, lists, relevant = case
    topk = np.array(lists)
    hits = m.hit_matrix(topk, [sorted(r) for r in relevant], n_items)
    assert hits.tolist() == [[i in r for i in items] for items, r in zip(lists, relevant)]
    n = np.array([len(r) for r in relevant])
    for k in range(1, topk.shape[1] + 1):
        found = np.array([len(set(items[:k]) & r) for items, r in zip(lists, relevant)])
        np.testing.assert_allclose(m.recall(hits, n, k), found / n)
        np.testing.assert_allclose(m.precision(hits, k), found / k)
        np.testing.assert_allclose(m.hitrate(hits, k), found > 0)
        np.testing.assert_allclose(m.ndcg(hits, n, k), [slow_ndcg(i, r, k) for i, r in zip(lists, relevant)])
        np.testing.assert_allclose(
            m.average_precision(hits, n, k), [slow_average_precision(i, r, k) for i, r in zip(lists, relevant)]
        )
        np.testing.assert_allclose(m.mrr(hits, k), [slow_mrr(i, r, k) for i, r in zip(lists, relevant)])


@settings(derandomize=True, max_examples=100, deadline=None)
@given(judged_lists())
def test_beyond_accuracy_equals_plain_loops(case):
    n_items, lists, _ = case
    topk = np.array(lists)
    popularity = [(7 * i) % 5 for i in range(n_items)]  # some cold
    for k in range(1, topk.shape[1] + 1):
        shown = [i for items in lists for i in items[:k] if i >= 0]
        assert m.coverage(topk, n_items, k) == pytest.approx(len(set(shown)) / n_items)
        x = [shown.count(i) for i in range(n_items)]
        mean_difference = sum(abs(a - b) for a in x for b in x) / n_items**2
        assert m.gini(topk, n_items, k) == pytest.approx(mean_difference / (2 * sum(x) / n_items))
        bits = [-math.log2(max(popularity[i], 1) / 9) for i in shown]
        assert m.novelty(topk, np.array(popularity), 9, k) == pytest.approx(sum(bits) / len(bits))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(judged_lists(), st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_names(case, random):
    n_items, lists, relevant = case
    names = list(range(n_items))
    random.shuffle(names)
    before = m.hit_matrix(np.array(lists), [sorted(r) for r in relevant], n_items)
    renamed = [[names[i] if i >= 0 else -1 for i in items] for items in lists]
    after = m.hit_matrix(np.array(renamed), [[names[i] for i in r] for r in relevant], n_items)
    np.testing.assert_array_equal(before, after)


# -- worked examples -------------------------------------------------------------------------------------------------------
def test_a_list_worked_by_hand():
    hits = m.hit_matrix(np.array([[4, 2, 9, 7]]), [[2, 7, 1]], 10)
    n = np.array([3])
    assert m.recall(hits, n)[0] == pytest.approx(2 / 3)
    assert m.precision(hits)[0] == 0.5
    assert m.mrr(hits)[0] == 0.5
    assert m.average_precision(hits, n)[0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert m.ndcg(hits, n)[0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2))


def test_perfect_and_empty_lists():
    n = np.array([5, 5])
    hits = np.array([[True] * 3, [False] * 3])
    assert m.ndcg(hits, n).tolist() == [1.0, 0.0]  # the ideal list is as short as the list itself
    assert m.average_precision(hits, n).tolist() == [1.0, 0.0]
    np.testing.assert_allclose(m.recall(hits, n), [0.6, 0.0])  # five relevant items do not fit into three places
    assert m.mrr(hits).tolist() == [1.0, 0.0]


def test_an_empty_place_is_never_the_last_item_of_the_row_above():
    hits = m.hit_matrix(np.array([[0, 1], [-1, -1]]), [[3], [0]], 4)  # key of (row 1, item -1) equals that of (row 0, item 3)
    assert not hits.any()


def test_gini_and_coverage_at_their_ends():
    assert m.gini(np.array([[0, 1], [2, 3]]), 4) == 0.0
    assert m.gini(np.zeros((9, 1), dtype=int), 4) == pytest.approx(3 / 4)
    assert m.gini(np.full((2, 2), -1), 4) == 0.0
    assert m.coverage(np.array([[0, 1], [2, 3]]), 4) == 1.0
    assert m.coverage(np.zeros((9, 1), dtype=int), 4) == 0.25


def test_novelty_counts_bits():
    counts = np.array([8, 4, 2, 0])
    assert m.novelty(np.array([[0]]), counts, 8) == 0.0
    assert m.novelty(np.array([[1, 2]]), counts, 8) == pytest.approx(1.5)
    assert m.novelty(np.array([[3]]), counts, 8) == 3.0  # a cold item counts as taken once
    assert m.novelty(np.array([[-1]]), counts, 8) == 0.0


def test_both_forms_of_relevant_items_agree():
    topk = np.array([[0, 1], [2, 3], [1, 0]])
    rows, items = np.array([2, 0, 0]), np.array([0, 1, 3])
    np.testing.assert_array_equal(m.hit_matrix(topk, (rows, items), 4), m.hit_matrix(topk, [[1, 3], [], [0]], 4))
    assert not m.hit_matrix(topk, [[], [], []], 4).any()


def test_nonsense_is_refused():
    hits, n = np.ones((2, 3), dtype=bool), np.array([3, 3])
    for call, match in (
        (lambda: m.recall(hits, np.array([1, 0])), "cannot be judged"),
        (lambda: m.recall(hits, np.array([1])), "n_relevant"),
        (lambda: m.ndcg(hits, n, 4), "k"),
        (lambda: m.precision(hits, 0), "k"),
        (lambda: m.mrr(hits[0]), "hits"),
        (lambda: m.hit_matrix(np.array([1, 2]), [[1]], 3), "topk"),
        (lambda: m.hit_matrix(np.array([[1, 3]]), [[1]], 3), "topk"),
        (lambda: m.hit_matrix(np.array([[1, -2]]), [[1]], 3), "topk"),
        (lambda: m.hit_matrix(np.array([[1, 2]]), [[5]], 3), "relevant"),
        (lambda: m.hit_matrix(np.array([[1, 2]]), [[1], [2], [0]], 3), "relevant"),
        (lambda: m.hit_matrix(np.array([[1, 2]]), (np.array([1]), np.array([0])), 3), "row"),
        (lambda: m.hit_matrix(np.array([[1, 2]]), (np.array([0, 0]), np.array([0])), 3), "relevant"),
    ):
        with pytest.raises(OptionError, match=match):
            call()
