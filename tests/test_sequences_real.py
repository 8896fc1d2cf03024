"""Sequence models on real histories: a short run finds more than popularity does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmrec_teach.data import Dataset, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import create
from mmrec_teach.training import fit


def found(data: Dataset, model: str, epochs: int = 0, lr: float = 0.003, batch_size: int = 128, **options) -> float:
    """Return recall@50 on test, nothing masked, after a short training."""
    made = create(model, data, **options)
    if epochs:
        settings = {"lr": lr, "batch_size": batch_size, "device": "cpu", "progress": False, "metrics_every": epochs}
        fit(made, data, epochs=epochs, **settings)
    return evaluate(made, data, "test", ks=(50,), mask=()).mean("recall@50")


@pytest.mark.real
def test_scientific_by_its_content(real_data: Path) -> None:
    data = load(real_data / "scientific")
    data = data.with_splits(*(part.select(part.users < 700) for part in (data.train, data.valid, data.test)))
    popular = found(data, "popularity")
    assert found(data, "unisrec", 4, dim=32, experts=2, n_layers=1, inner=64) > 1.15 * popular
    interests = {"interest_ratio": 0.1, "feature_dropout": 0.0, "dropout": 0.1}
    assert found(data, "missrec", 2, 0.005, 256, dim=16, inner=32, **interests) > 1.15 * popular


@pytest.mark.real
def test_ml_100k_by_time(real_data: Path) -> None:
    data = load(real_data / "ml-100k", split="leave-one-out", picture_size=(16, 16))
    last = np.zeros(data.n_users)
    np.maximum.at(last, data.train.users, data.train.timestamps)
    assert (data.valid.timestamps >= last[data.valid.users]).all()
    popular = found(data, "popularity")
    assert found(data, "sasrec", 5, 0.01, 1024, loss="ce", dim=32, length=20, n_layers=1) > 1.15 * popular
