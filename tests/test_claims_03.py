"""What lesson 03 claims of the graph, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import load
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.diagnostics import effective_rank, mean_cosine
from mmrec_teach.models import LightGCN, create
from mmrec_teach.ops import graph
from mmrec_teach.training import train
from tests.test_claims_02 import _one_thread, bpr, bucket  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)


class LastLayer(LightGCN):
    """LightGCN that keeps only layer L, as in the lesson."""

    def propagate(self):
        h = torch.cat([self.user_id.weight, self.item_id.weight])
        for _ in range(self.n_layers):
            h = graph.propagate(self.adjacency, h)
        return h.split([self.n_users, self.n_items])


@functools.cache
def light(
    seed: int, depth: int = 2, last: bool = False, dim: int = 32, epochs: int = 30, lr: float = 1e-2
) -> tuple[LightGCN, Evaluation]:
    """The lesson's training of LightGCN, and its test evaluation."""
    data = load("bazaar")
    model = (LastLayer if last else LightGCN)(data, dim=dim, n_layers=depth, seed=seed)
    for _ in train(
        model, data, weights={"l2": 1e-3}, epochs=epochs, lr=lr, batch_size=1024, seed=seed, metrics_every=0, device="cpu"
    ):
        pass
    return model, evaluate(model, data, "test")


def test_the_graph_beats_bpr_in_recall_and_ndcg():
    for metric in ("recall@20", "ndcg@20"):
        ours = [light(s)[1].mean(metric) for s in SEEDS]
        theirs = [bpr(s).mean(metric) for s in SEEDS]
        assert np.mean(ours) > np.mean(theirs)
        assert sum(a > b for a, b in zip(ours, theirs)) >= 2


def test_item_knn_is_level_in_recall_and_ahead_in_ndcg():
    counting = evaluate(create("item-knn", load("bazaar")), load("bazaar"), "test")
    for seed in SEEDS:
        result = light(seed)[1]
        assert abs(result.mean("recall@20") - counting.mean("recall@20")) < 0.02
        assert result.mean("ndcg@20") < counting.mean("ndcg@20")


def test_with_more_room_and_time_the_graph_closes_the_gap_to_counting():
    counting = evaluate(create("item-knn", load("bazaar")), load("bazaar"), "test")
    for seed in SEEDS:
        result = light(seed, 1, dim=128, epochs=60, lr=5e-3)[1]
        for metric in ("recall@20", "ndcg@20"):
            assert result.mean(metric) > counting.mean(metric) - 0.01


def test_cold_items_get_nothing_from_the_graph():
    for seed in SEEDS:
        assert light(seed)[1].cold()["recall@20"] < 0.02


def test_a_little_depth_helps_much_hurts_and_rare_items_suffer_first():
    for seed in SEEDS:
        recall = {depth: light(seed, depth)[1].mean("recall@20") for depth in (0, 1, 2, 8)}
        assert min(recall[1], recall[2]) > max(recall[0], recall[8]) + 0.02
        assert bucket(light(seed, 8)[1], 1) < bucket(light(seed, 1)[1], 1) - 0.08


def test_the_mean_of_the_layers_softens_the_fall():
    for seed in SEEDS:
        assert light(seed, 8)[1].mean("recall@20") > light(seed, 8, last=True)[1].mean("recall@20") + 0.08


def test_rank_of_the_trained_vectors_falls_with_depth():
    warm = ~load("bazaar").cold_items
    for seed in SEEDS:
        ranks = [effective_rank(light(seed, depth)[0].views()["item/final"][warm]) for depth in (0, 1, 2, 8)]
        assert ranks == sorted(ranks, reverse=True)
        assert ranks[-1] < 0.7 * ranks[0]


def test_over_smoothing_of_the_last_layer_and_not_of_the_mean():
    data = load("bazaar")
    warm = torch.from_numpy(~data.cold_items)
    degree = np.sqrt(data.item_counts[~data.cold_items])
    for seed in SEEDS:
        model = light(seed)[0]
        rank, cosine, mean = {}, {}, {}
        with torch.no_grad():
            layer = total = torch.cat([model.user_id.weight, model.item_id.weight])
            for depth in range(65):
                if depth:
                    layer = graph.propagate(model.adjacency, layer)
                    total = total + layer
                items = layer[data.n_users :][warm]
                if depth in (0, 1, 2, 4, 8, 16, 64):
                    rank[depth], cosine[depth] = effective_rank(items), mean_cosine(items)
                    mean[depth] = effective_rank(total[data.n_users :][warm]), mean_cosine(total[data.n_users :][warm])
                if depth == 16:
                    correlation = np.corrcoef(items.norm(dim=1).numpy(), degree)[0, 1]
        assert list(rank.values()) == sorted(rank.values(), reverse=True)
        assert rank[16] < rank[0] / 2 < mean[16][0]
        assert abs(cosine[0]) < 0.1
        assert cosine[16] > 0.5, "the lesson's nearest answer must not be 'about 0'"
        assert cosine[64] > 0.95
        assert mean[16][1] < 0.4
        assert correlation > 0.9
