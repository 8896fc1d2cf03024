"""What lesson 03 claims of the graph, measured over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from mmrec_teach.data import load
from mmrec_teach.evaluation import Evaluation, evaluate
from mmrec_teach.evaluation.diagnostics import effective_rank, mean_cosine
from mmrec_teach.evaluation.statistics import paired_comparison
from mmrec_teach.models import LightGCN, create
from mmrec_teach.ops import graph
from mmrec_teach.training import train
from mmrec_teach.views import Setting, replay
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
    seed: int, depth: int = 2, last: bool = False, dim: int = 32, l2: float = 1e-3, self_loops: bool = False, **options
) -> tuple[LightGCN, Evaluation]:
    """The lesson's training of LightGCN, and its test evaluation."""
    data = load("bazaar")
    model = (LastLayer if last else LightGCN)(data, dim=dim, n_layers=depth, seed=seed, **options)
    if self_loops:
        a = (model.adjacency.to_dense() > 0).float() + torch.eye(data.n_users + data.n_items)
        root = a.sum(1).rsqrt()
        model.adjacency = (root[:, None] * a * root[None, :]).to_sparse_csr()
    how = {"epochs": 30, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights={"l2": l2}, seed=seed, **how):
        pass
    return model, evaluate(model, data, "test")


def test_the_graph_beats_bpr_in_recall_and_ndcg():
    for metric in ("recall@20", "ndcg@20"):
        ours = [light(s)[1].mean(metric) for s in SEEDS]
        theirs = [bpr(s).mean(metric) for s in SEEDS]
        assert np.mean(ours) > np.mean(theirs)
        assert sum(a > b for a, b in zip(ours, theirs)) >= 2
        pooled = (np.mean([run(s).per_user[metric] for s in SEEDS], axis=0) for run in (lambda s: light(s)[1], bpr))
        found = paired_comparison(metric, *pooled)
        assert found.low > 0, "with the seeds pooled the sign is sure"
        assert 0.01 < found.difference / found.b < 0.06, "by a few percent"


def test_item_knn_is_level_in_recall_and_ahead_in_ndcg():
    counting = evaluate(create("item-knn", load("bazaar")), load("bazaar"), "test")
    for seed in SEEDS:
        result = light(seed)[1]
        assert abs(result.mean("recall@20") - counting.mean("recall@20")) < 0.02
        assert result.mean("ndcg@20") < counting.mean("ndcg@20")


def test_with_more_room_alone_the_graph_passes_counting_in_ndcg():
    counting = evaluate(create("item-knn", load("bazaar")), load("bazaar"), "test")
    for seed in SEEDS:
        result = light(seed, dim=128)[1]
        assert result.mean("ndcg@20") > counting.mean("ndcg@20")
        assert abs(result.mean("recall@20") - counting.mean("recall@20")) < 0.01


def test_how_far_news_travels_from_mia():
    data = load("bazaar")
    took = data.matrix("train")
    users, reached = np.flatnonzero(data.user_ids == "v0660"), {}
    for steps in range(1, 7):
        if steps % 2:
            items = np.flatnonzero(took[users].sum(0))
            reached[steps] = len(items)
        else:
            users = np.flatnonzero(took[:, items].sum(1))
            reached[steps] = len(users)
    assert reached[4] > 0.99 * data.n_users
    assert reached[5] == (~data.cold_items).sum()


def test_cold_items_get_nothing_from_the_graph():
    for seed in SEEDS:
        assert light(seed)[1].cold()["recall@20"] < 0.02


def test_a_little_depth_helps_a_little_much_hurts_and_rare_items_suffer_first():
    for seed in SEEDS:
        zero, one, two, eight = (light(seed, depth, l2=1e-3 if depth else 0.03)[1] for depth in (0, 1, 2, 8))
        assert zero.mean("recall@20") == pytest.approx(bpr(seed).mean("recall@20"), abs=0.003), "depth 0 is BPR"
        assert min(one.mean("recall@20"), two.mean("recall@20")) > zero.mean("recall@20") > eight.mean("recall@20")
        assert bucket(eight, 1) < bucket(one, 1) - 0.08


def test_with_few_purchases_depth_pays_and_news_travels_less_far():
    data = load("bazaar")
    for seed in SEEDS:
        found = {}
        for depth in (1, 2, 4, 8):
            setting = Setting.from_text(f"lightgcn?dim=32&lr=0.01&epochs=30&n_layers={depth}&data.keep=0.3&seed={seed}")
            few = setting.switches.apply(data)
            found[depth] = evaluate(replay(setting, data, metrics_every=0, device="cpu")[0], few, "valid")
            assert found[depth].cold()["recall@20"] < 0.02
        assert max(found, key=lambda depth: found[depth].mean("recall@20")) == 8
    near = [(took @ took.T > 0).sum(1) - 1 for took in (d.matrix("train").astype(float) for d in (data, few))]
    assert np.median(near[1]) < 0.2 * np.median(near[0])


def test_variants_of_propagation_and_regularisation():
    for seed in SEEDS:
        mean, last, loops = light(seed)[1], light(seed, last=True)[1], light(seed, last=True, self_loops=True)[1]
        assert last.mean("recall@20") < loops.mean("recall@20") < mean.mean("recall@20")
        norm, none, strong = light(seed, regularizer="emb_norm"), light(seed, l2=0.0), light(seed, l2=0.1)
        for variant in (norm, none):
            assert abs(variant[1].mean("recall@20") - mean.mean("recall@20")) < 0.01
        assert abs(norm[1].mean("recall@20") - none[1].mean("recall@20")) < 0.003
        assert strong[1].mean("recall@20") < mean.mean("recall@20") - 0.03
        length = [run[0].item_id.weight.norm(dim=1).mean().item() for run in (strong, none)]
        assert length[0] < length[1] / 3


def test_the_mean_of_the_layers_softens_the_fall():
    for seed in SEEDS:
        assert light(seed, 8)[1].mean("recall@20") > light(seed, 8, last=True)[1].mean("recall@20") + 0.08


def test_rank_of_the_trained_vectors_falls_with_depth():
    warm = ~load("bazaar").cold_items
    for seed in SEEDS:
        ranks = [
            effective_rank(light(seed, depth, l2=1e-3 if depth else 0.03)[0].views()["item/final"][warm])
            for depth in (0, 1, 2, 8)
        ]
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
