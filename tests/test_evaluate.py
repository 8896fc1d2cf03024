"""Full ranking against a plain Python oracle: ties, masks, missing candidates, tables by frequency, intervals, comparisons."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.evaluation import compare, evaluate, evaluate_scores, top_k
from mmrec_teach.evaluation.statistics import bootstrap_interval, bootstrap_means, sign_flip_p_value


class Table:
    """The smallest thing that can be evaluated: a stored table of scores."""

    device = torch.device("cpu")

    def __init__(self, table: np.ndarray):
        self.table = torch.as_tensor(table)
        self.entered = 0

    def score(self, users: torch.Tensor) -> torch.Tensor:
        return self.table[users]

    @contextmanager
    def evaluating(self):
        self.entered += 1
        yield


def coarse_scores(data, levels: int = 7, seed: int = 0) -> np.ndarray:
    """Random scores with many ties."""
    return np.random.default_rng(seed).integers(0, levels, (data.n_users, data.n_items)).astype(np.float32)


def by_hand(scores: np.ndarray, data, split: str, mask: tuple[str, ...], k: int) -> dict[int, tuple[list[int], set[int]]]:
    """User -> (the k best items that are not masked, lowest index first among equals; the relevant items)."""
    result = {}
    judged = data.split(split)
    for user in sorted(set(judged.users.tolist())):
        hidden = {i for s in mask for u, i in zip(data.split(s).users, data.split(s).items) if u == user}
        order = sorted((i for i in range(data.n_items) if i not in hidden), key=lambda i: (-scores[user, i], i))
        result[user] = order[:k], {int(i) for u, i in zip(judged.users, judged.items) if u == user}
    return result


# -- top_k ----------------------------------------------------------------------------------------------------------------
@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda n: st.integers(1, 30).flatmap(
            lambda i: st.lists(
                st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 3.5]), min_size=i, max_size=i), min_size=n, max_size=n
            )
        )
    ),
    st.integers(1, 35),
)
def test_top_k_orders_by_score_then_index_whatever_the_ties(rows, k):
    got = top_k(torch.tensor(rows, dtype=torch.float32), k)
    for row, items in zip(rows, got.tolist()):
        order = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))[:k]
        assert items == order + [-1] * (k - len(order))


def test_random_ties_keep_scores_sorted_and_share_places_evenly():
    scores = torch.tensor([[5.0, 1, 1, 1, 1, 0]]).repeat(4000, 1)
    got = top_k(scores, 3, "random", torch.Generator().manual_seed(0))
    assert (got[:, 0] == 0).all()
    assert (got[:, 1] != got[:, 2]).all()
    for place in (1, 2):
        counts = np.bincount(got[:, place], minlength=6)
        assert counts[[0, 5]].sum() == 0
        assert np.abs(counts[1:5] - 1000).max() < 120  # 4.4 standard deviations
    pairs = {tuple(p) for p in got[:, 1:].tolist()}
    assert len(pairs) == 12  # every ordered pair of the four occurs


def test_random_ties_depend_on_the_seed_and_not_on_the_block():
    scores = torch.randint(0, 3, (50, 40), generator=torch.Generator().manual_seed(1)).float()
    whole = top_k(scores, 10, "random", torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    parts = torch.cat([top_k(part, 10, "random", generator) for part in scores.split(7)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, top_k(scores, 10, "random", torch.Generator().manual_seed(6)))
    assert torch.equal(scores.gather(1, whole), scores.gather(1, top_k(scores, 10)))


def test_masked_items_come_last_and_leave_places_empty():
    scores = torch.tensor([[-torch.inf, 3.0, -torch.inf, 9.0], [0.0, -torch.inf, 1.0, 2.0], [-torch.inf] * 4])
    assert top_k(scores, 3).tolist() == [[3, 1, -1], [3, 2, 0], [-1, -1, -1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_top_k_takes_every_float_dtype(dtype):
    assert top_k(torch.tensor([[1.0, 3.0, 3.0, 2.0]], dtype=dtype), 3).tolist() == [[1, 2, 3]]


def test_top_k_refuses_nan_and_nonsense():
    with pytest.raises(InputError, match="NaN in row 1, 2 of 3"):
        top_k(torch.tensor([[1.0, 2, 3], [1, torch.nan, torch.nan]]), 1)
    for arguments in (
        (torch.ones(3), 1),
        (torch.ones(2, 3), 0),
        (torch.ones(2, 3), 1, "coin"),
        (torch.ones(2, 3), 1, "random"),
    ):
        with pytest.raises(OptionError):
            top_k(*arguments)
    with pytest.raises(OptionError, match="floating"):
        top_k(torch.ones(2, 3, dtype=torch.int64), 1)


# -- evaluate ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("split", "mask"),
    [("valid", None), ("test", None), ("test", ("train",)), ("valid", ()), ("train", None), ("valid", ("test",))],
)
def test_evaluation_equals_python_loops(tiny, split, mask):
    scores = coarse_scores(tiny)
    result = evaluate(Table(scores), tiny, split, ks=(3, 10), mask=mask, batch_users=7)
    used = {"train": (), "valid": ("train",), "test": ("train", "valid")}[split] if mask is None else mask
    expected = by_hand(scores, tiny, split, used, 10)
    assert result.mask == used
    assert result.users.tolist() == list(expected)
    assert result.topk.tolist() == [order for order, _ in expected.values()]
    assert result.n_relevant.tolist() == [len(relevant) for _, relevant in expected.values()]
    for k in (3, 10):
        recalls = [len(relevant & set(order[:k])) / len(relevant) for order, relevant in expected.values()]
        np.testing.assert_allclose(result.per_user[f"recall@{k}"], recalls)
        assert result.mean(f"recall@{k}") == pytest.approx(np.mean(recalls))
        assert result.means()[f"hitrate@{k}"] == pytest.approx(np.mean([r > 0 for r in recalls]))
        assert result.means()[f"coverage@{k}"] == len({i for order, _ in expected.values() for i in order[:k]}) / tiny.n_items
    for row, item, rank in zip(*result.relevant, result.relevant_ranks, strict=True):
        order, relevant = expected[int(result.users[row])]
        assert item in relevant
        assert rank == (order.index(item) + 1 if item in order else 0)


def test_blocks_and_forms_of_scores_do_not_matter(tiny):
    scores = coarse_scores(tiny)
    whole = evaluate(Table(scores), tiny, "test", ties="random", seed=3)
    for other in (
        evaluate(Table(scores), tiny, "test", batch_users=4, ties="random", seed=3),
        evaluate_scores(scores, tiny, "test", ties="random", seed=3),
        evaluate_scores(scores.astype(np.int64), tiny, "test", ties="random", seed=3),
        evaluate_scores(torch.from_numpy(scores), tiny, "test", ties="random", seed=3, batch_users=1),
        evaluate_scores(lambda users: scores[users.numpy()], tiny, "test", ties="random", seed=3),
    ):
        np.testing.assert_array_equal(whole.topk, other.topk)
        np.testing.assert_array_equal(whole.cold_topk, other.cold_topk)
        assert whole.means() == other.means()


def test_one_list_for_everybody(tiny):
    popularity = tiny.item_counts
    one = evaluate_scores(popularity, tiny, "test")
    full = evaluate_scores(np.tile(popularity, (tiny.n_users, 1)), tiny, "test")
    np.testing.assert_array_equal(one.topk, full.topk)


def test_the_model_s_own_table_comes_back_unchanged(tiny):
    class Cached(Table):
        def score(self, users):  # hands out its own memory
            return self.table[int(users[0]) : int(users[-1]) + 1]

    class Expanded(Table):
        def score(self, users):
            return self.table.expand(len(users), -1)

    class ReadOnly(Table):
        def score(self, users):
            table = coarse_scores(tiny)
            table.flags.writeable = False
            return table[int(users[0]) : int(users[-1]) + 1]

    for model in (Cached(coarse_scores(tiny)), Expanded(np.arange(tiny.n_items, dtype=np.float32)), ReadOnly(np.zeros(1))):
        before = model.table.clone()
        evaluate(model, tiny, "test", batch_users=8)
        assert torch.equal(model.table, before)
        assert model.entered == 1


def test_users_with_few_candidates_get_empty_places_that_count_as_misses(tiny):
    scores = np.full((tiny.n_users, tiny.n_items), -np.inf, dtype=np.float32)
    scores[:, :2] = 1.0
    result = evaluate_scores(scores, tiny, "valid", ks=(5, 60))
    assert result.topk.shape == (tiny.n_users, 60)
    assert set(result.topk[:, 2:].ravel()) == {-1}
    assert result.mean("coverage@60") <= 2 / tiny.n_items
    assert result.mean("precision@60") <= 1 / 60


def test_all_items_ranked_means_full_recall(tiny):
    result = evaluate_scores(coarse_scores(tiny), tiny, "test", ks=(tiny.n_items,))
    assert result.mean(f"recall@{tiny.n_items}") == 1.0
    assert result.mean(f"hitrate@{tiny.n_items}") == 1.0


def test_masking_valid_at_test_can_only_help(tiny):
    scores = coarse_scores(tiny)
    sound = evaluate_scores(scores, tiny, "test")
    released = evaluate_scores(scores, tiny, "test", mask=("train",))
    assert (sound.per_user["recall@20"] >= released.per_user["recall@20"]).all()
    assert sound.mean("recall@20") > released.mean("recall@20")


def test_wrong_settings_are_named(tiny):
    scores = coarse_scores(tiny)
    for options, match in (
        ({"split": "tset"}, "split"),
        ({"mask": ("valid",)}, "mask"),
        ({"mask": ("seen",)}, "seen"),
        ({"ks": ()}, "ks"),
        ({"ks": (0,)}, "ks"),
        ({"ks": (2.5,)}, "ks"),
        ({"batch_users": 0}, "batch_users"),
        ({"ties": "coin"}, "coin"),
    ):
        with pytest.raises(OptionError, match=match):
            evaluate(Table(scores), tiny, **options)
    with pytest.raises(OptionError, match="shape"):
        evaluate(Table(scores[:, :-1]), tiny)
    with pytest.raises(OptionError, match="shape"):
        evaluate_scores(scores[:, :-1], tiny)
    holed = scores.copy()
    holed[0, :] = np.nan
    with pytest.raises(InputError, match="NaN"):
        evaluate(Table(holed), tiny)
    only_masked = scores.copy()
    only_masked[tiny.train.users[0], tiny.train.items[0]] = np.nan
    with pytest.raises(InputError, match="NaN"):
        evaluate(Table(only_masked), tiny)


# -- what the result tells ----------------------------------------------------------------------------------------------------
def test_frequency_table_adds_up(tiny):
    scores = coarse_scores(tiny)
    result = evaluate_scores(scores, tiny, "test", ks=(5, 20))
    table = result.by_frequency()
    assert table["bucket"][0] == "cold"
    assert table["items"].sum() == tiny.n_items
    assert table["items"][0] == 2
    assert table["relevant"].sum() == len(tiny.test)
    assert table["share"].sum() == pytest.approx(1.0)
    found = sum(
        len(set(order) & relevant) for order, relevant in by_hand(scores, tiny, "test", ("train", "valid"), 20).values()
    )
    assert np.nansum(table["recall@20"] * table["relevant"]) == pytest.approx(found)
    by_edges = result.by_frequency((3, 5), k=5)
    assert by_edges["bucket"].tolist()[:3] == ["cold", "1-2", "3-4"]
    for _, row in by_edges.iterrows():
        inside = (tiny.item_counts >= row["low"]) & (tiny.item_counts <= row["high"])
        assert row["items"] == inside.sum()
        pairs = [(u, i) for u, i in zip(tiny.test.users, tiny.test.items) if inside[i]]
        top = dict(zip(result.users.tolist(), result.topk[:, :5].tolist()))
        if pairs:
            assert row["recall@5"] == pytest.approx(np.mean([i in top[u] for u, i in pairs]))
        assert row["share"] == pytest.approx(np.mean([inside[i] for items in top.values() for i in items]))
    for edges in ((), (5, 3), (0, 2)):
        with pytest.raises(OptionError, match="edges"):
            result.by_frequency(edges)


def test_cold_items_among_all_and_among_themselves(tiny):
    cold = np.flatnonzero(tiny.cold_items)
    scores = coarse_scores(tiny)
    scores[:, cold] -= 100  # pushed out of every list, but in the right order among themselves
    for user in range(tiny.n_users):
        scores[user, cold[cold % 2 == user % 2]] += 10
    told = evaluate_scores(scores, tiny, "test", ks=(1, 10)).cold(1)
    assert told["items"] == len(cold) == 2
    assert told["recall@1"] == told["share@1"] == 0.0
    assert told["recall_among_cold@1"] == 1.0
    assert told["chance_among_cold@1"] == 0.5
    assert told["users"] == told["relevant"] == tiny.n_users
    assert (
        evaluate_scores(scores, tiny, "test", ks=(1, 10)).cold_per_user(1)["recall_among_cold@1"].tolist()
        == [1.0] * tiny.n_users
    )
    assert np.isnan(evaluate_scores(scores, tiny, "valid", ks=(1,)).cold()["recall@1"])
    scores[:, cold] += 200
    assert evaluate_scores(scores, tiny, "test", ks=(1, 10)).cold(1)["recall@1"] == 1.0


def test_json_and_words(tiny):
    result = evaluate_scores(coarse_scores(tiny), tiny, "test", ks=(10, 5))
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert record["ks"] == [5, 10]
    assert record["users"] == tiny.n_users
    assert record["relevant"] == len(tiny.test)
    assert set(record["means"]) == {
        f"{name}@{k}"
        for k in (5, 10)
        for name in ("recall", "ndcg", "precision", "map", "mrr", "hitrate", "coverage", "gini", "novelty")
    }
    assert "recall@10" in repr(result)
    with pytest.raises(OptionError, match="recall@5"):
        result.mean("recal@5")
    with pytest.raises(OptionError, match="evaluated"):
        result.cold(7)


# -- intervals and comparisons ------------------------------------------------------------------------------------------
def test_bootstrap_interval_matches_the_normal_one_on_many_users():
    values = np.random.default_rng(0).normal(3.0, 2.0, 5000)
    low, high = bootstrap_interval(values, 0.95, 2000, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert bootstrap_interval(values, seed=1, n_boot=200) == bootstrap_interval(values, seed=1, n_boot=200)
    narrow = bootstrap_interval(values, 0.5, 2000, seed=1)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.random(200) < 0.3, 0.9, 300, seed=trial)
        covered += low <= 0.3 <= high
    assert 165 <= covered <= 195  # 180 expected


def test_bootstrap_refuses_nonsense():
    with pytest.raises(OptionError, match="level"):
        bootstrap_interval(np.ones(3), 95)
    with pytest.raises(OptionError, match="resample"):
        bootstrap_means(np.empty(0))
    with pytest.raises(OptionError, match="n_boot"):
        bootstrap_means(np.ones(3), 0)


def test_sign_flip_equals_all_sign_patterns():
    d = np.array([0.5, 0.25, -0.125, 0.3, 0.2, 0.0, 0.4])
    kept = d[d != 0]
    signs = np.array([[1 if n >> j & 1 else -1 for j in range(len(kept))] for n in range(2 ** len(kept))])
    exact = (np.abs(signs @ kept) >= abs(kept.sum()) - 1e-12).mean()
    assert sign_flip_p_value(d, 40_000, seed=0) == pytest.approx(exact, abs=0.004)
    assert sign_flip_p_value(np.zeros(5)) == 1.0
    assert sign_flip_p_value(np.ones(100), 999) == 1 / 1000


def test_p_values_are_uniform_when_nothing_differs():
    rng = np.random.default_rng(4)
    p = np.array([sign_flip_p_value(rng.normal(size=40), 400, seed=s) for s in range(300)])
    assert 0.02 <= (p < 0.05).mean() <= 0.09
    assert p.mean() == pytest.approx(0.5, abs=0.06)


def test_compare_pairs_the_same_users(tiny):
    good = coarse_scores(tiny)
    good[tiny.test.users, tiny.test.items] += 50
    a, b = evaluate_scores(good, tiny, "test"), evaluate_scores(coarse_scores(tiny), tiny, "test")
    result = compare(a, b, "ndcg@10")
    assert result.difference == pytest.approx(a.mean("ndcg@10") - b.mean("ndcg@10"))
    assert 0 < result.low < result.difference < result.high
    assert result.p_value < 0.001
    assert result.wins == tiny.n_users
    back = compare(b, a, "ndcg@10")
    assert back.difference == -result.difference
    assert (back.losses, back.wins) == (result.wins, result.losses)
    same = compare(a, a, "ndcg@10")
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert "ndcg@10" in str(result)
    assert json.loads(json.dumps(result.to_json()))["users"] == tiny.n_users


def test_compare_refuses_what_cannot_be_compared(tiny):
    scores = coarse_scores(tiny)
    a = evaluate_scores(scores, tiny, "test")
    fewer = tiny.with_splits(tiny.train, tiny.valid, tiny.test.select(tiny.test.users > 3))
    with pytest.raises(OptionError, match="users"):
        compare(a, evaluate_scores(scores, fewer, "test"))
    with pytest.raises(OptionError, match="split"):
        compare(a, evaluate_scores(scores, tiny, "valid"))
    with pytest.raises(OptionError, match="mask"):
        compare(a, evaluate_scores(scores, tiny, "test", mask=("train",)))
    with pytest.raises(OptionError, match="recall@7"):
        compare(a, a, "recall@7")
    moved = tiny.with_splits(tiny.train, tiny.valid, tiny.test.select(np.arange(len(tiny.test)) > 0))
    with pytest.raises(OptionError, match="compare"):
        compare(a, evaluate_scores(scores, moved, "test"))
