"""One test class that every model must pass, now and later: subclass it and say how the model is built."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny

from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.data.sequences import histories
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import MODELS, Batch, Recommender, SequenceBatch, create, load_model, model_options
from mmrec_teach.training import NegativeSampler, Trainer, fit
from mmrec_teach.training.sampling import sequence_batches


def checkerboard(n_users: int = 24, n_items: int = 24, seed: int = 0) -> Dataset:
    """Even users like even items, odd users odd items; a quarter of the pattern is withheld for valid and test.

    Features reveal the item's colour, so that content models have no excuse.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[tuple[int, int]]] = {"train": [], "valid": [], "test": []}
    for user in range(n_users):
        liked = rng.permutation(np.arange(user % 2, n_items, 2))
        parts["train"] += [(user, i) for i in liked[:9]]
        parts["valid"] += [(user, i) for i in liked[9:10]]
        parts["test"] += [(user, i) for i in liked[10:]]
    colour = np.where(np.arange(n_items) % 2 == 0, 1.0, -1.0)[:, None]
    features = {m: (colour + rng.normal(0, 0.3, (n_items, 6))).astype(np.float32) for m in ("image", "text")}
    tables = {k: Interactions(*np.array(v, dtype=np.int64).T) for k, v in parts.items()}
    return Dataset("checkerboard", np.arange(n_users).astype(str), np.arange(n_items).astype(str), **tables, features=features)


def batch_of(data: Dataset, size: int = 32, seed: int = 0) -> Batch:
    """Return one training batch with negatives."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train), generator=generator)[:size].numpy()
    users = torch.from_numpy(data.train.users[rows])
    return Batch(users, torch.from_numpy(data.train.items[rows]), NegativeSampler(data).sample(users, generator))


class ModelContract:
    """What holds for every model.

    Class attributes:
        name: the registered name.
        options: constructor options for the tests (small sizes).
        training: settings of ``fit`` with which the model must learn the checkerboard.
        silent: names of parameters that need no gradient from a batch (say why where it is set).
    """

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    training: ClassVar[dict[str, Any]] = {"epochs": 60, "patience": 60, "lr": 0.02, "metric": "ndcg@20"}
    silent: ClassVar[set[str]] = set()

    def build(self, data: Dataset, seed: int = 0, **more: Any) -> Recommender:
        return create(self.name, data, **{**self.options, **more}, seed=seed)

    def test_no_option_is_named_like_a_loss_term(self):
        """On a command line and in a setting's text one name means one thing."""
        assert not set(model_options(self.name)) & set(MODELS[self.name].default_weights)

    def told(self, data: Dataset) -> Dataset:
        """Return ``data`` as the model can read it: with an order where it reads histories."""
        return data if MODELS[self.name].batches == "pairs" else in_order(data)

    def batch(self, model: Recommender, data: Dataset, size: int = 32) -> Batch | SequenceBatch:
        """Return one training batch of the kind the model wants."""
        if model.batches == "pairs":
            return batch_of(data, size)
        drawn = sequence_batches(
            histories(data), model.batches, model.length, size, NegativeSampler(data), torch.Generator().manual_seed(0)
        )
        return SequenceBatch(*next(drawn))

    @pytest.fixture
    def data(self) -> Dataset:
        return self.told(make_tiny())

    @pytest.fixture
    def model(self, data: Dataset) -> Recommender:
        return self.build(data)

    # -- shapes -----------------------------------------------------------------------------------------------------
    def test_losses_are_the_named_scalars(self, model, data):
        terms = model.losses(self.batch(model, data))
        assert set(terms) == set(model.terms)
        for name, term in terms.items():
            assert term.shape == (), name
            assert torch.isfinite(term), name

    def test_works_for_any_batch_size(self, model, data):
        for size in (1, 2, 7):
            for name, term in model.losses(self.batch(model, data, size)).items():
                assert torch.isfinite(term), (name, size)

    def test_views_are_tables_of_users_or_items(self, model, data):
        for name, table in model.views().items():
            side = {"user": data.n_users, "item": data.n_items}[name.split("/")[0]]
            assert table.ndim == 2, name
            assert len(table) == side, name
            assert torch.isfinite(table).all(), name

    def test_score_ranks_all_items(self, model, data):
        users = torch.tensor([3, 0, 3])
        scores = model.score(users)
        assert scores.shape == (3, data.n_items)
        assert torch.equal(scores[0], scores[2])
        with model.evaluating():
            assert torch.allclose(model.score(users), scores, atol=1e-6)
            assert torch.equal(model.score(users), model.score(users))  # the cached tables change nothing
        assert model._evaluation is None

    def test_inputs_are_left_alone(self, model, data):
        batch, before = self.batch(model, data), self.batch(model, data)
        model.losses(batch)
        assert torch.equal(batch.users, before.users)
        assert torch.equal(batch.items, before.items)

    # -- learning ---------------------------------------------------------------------------------------------------
    def test_gradients_reach_every_parameter(self, model, data):
        if not model.trainable:
            assert not list(model.parameters())
            return
        terms = model.losses(self.batch(model, data, 200))
        weights = dict.fromkeys(terms, 1.0)
        model.total(terms, weights).backward()
        for name, parameter in model.named_parameters():
            if name in self.silent:
                continue
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name

    def test_a_weight_of_zero_skips_the_term(self, model, data):
        for name in model.terms:
            terms = model.losses(self.batch(model, data), active=set(model.terms) - {name})
            assert name not in terms
        assert model.losses(self.batch(model, data), active=set()) == {}

    def test_zero_weights_leave_the_parameters_alone(self, model, data):
        if not model.trainable:
            return
        before = {k: v.clone() for k, v in model.state_dict().items()}
        trainer = Trainer(model, data, weights=dict.fromkeys(model.default_weights, 0.0), device="cpu", metrics_every=0)
        record = trainer.epoch()
        assert record.losses == {}
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    def test_same_seed_same_numbers(self, data):
        def numbers(seed: int) -> torch.Tensor:
            model = self.build(data, seed=seed)
            if model.trainable:
                fit(model, data, epochs=3, seed=seed, progress=False, device="cpu", batch_size=64)
            with model.evaluating():
                return model.score(torch.arange(data.n_users))

        assert torch.equal(numbers(1), numbers(1))
        if self.build(data).trainable:
            assert not torch.equal(numbers(1), numbers(2))

    def test_learns_a_withheld_checkerboard(self):
        board = self.told(checkerboard())
        model = self.build(board)
        if not model.trainable:
            return
        fit(model, board, progress=False, device="cpu", batch_size=64, **self.training)
        # twelve items of the right colour, nine of them masked: the withheld three must come first
        recall = evaluate(model, board, "test", ks=(2,), mask=("train", "valid")).mean("recall@2")
        assert recall > 0.9

    # -- moving and keeping -----------------------------------------------------------------------------------------
    def test_double_precision_agrees(self, model, data):
        users = torch.arange(data.n_users)
        single = model.score(users).detach()
        double = model.double().score(users).detach()
        assert torch.allclose(single.double(), double.double(), atol=1e-5)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    def test_moves_to_cuda(self, data):
        cpu, gpu = self.build(data), self.build(data).to("cuda")
        users = torch.arange(data.n_users)
        assert torch.allclose(cpu.score(users), gpu.score(users.cuda()).cpu(), atol=1e-4)
        for name, term in gpu.losses(self.batch(gpu, data).to("cuda")).items():
            assert term.device.type == "cuda", name

    def test_save_and_load(self, model, data, tmp_path):
        model.save(tmp_path / "model.pt")
        again = load_model(tmp_path / "model.pt", data)
        assert type(again) is type(model)
        assert again.options == model.options
        users = torch.arange(data.n_users)
        assert torch.equal(model.score(users), again.score(users))
