"""Models: one paper, one file. All keep the contract of :mod:`mmrec_teach.models.base`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError, OptionError, guess
from mmrec_teach.models.alignrec import AlignRec
from mmrec_teach.models.base import Batch, Recommender, SequenceBatch
from mmrec_teach.models.baselines import ItemKNN, Oracle, Popularity, Random
from mmrec_teach.models.bm3 import BM3
from mmrec_teach.models.bpr import BPR
from mmrec_teach.models.buir import BUIR
from mmrec_teach.models.dualgnn import DualGNN
from mmrec_teach.models.freedom import FREEDOM
from mmrec_teach.models.grcn import GRCN
from mmrec_teach.models.lattice import LATTICE
from mmrec_teach.models.lightgcn import LightGCN
from mmrec_teach.models.missrec import MISSRec
from mmrec_teach.models.mmgcn import MMGCN
from mmrec_teach.models.sasrec import SASRec
from mmrec_teach.models.two_tower import TwoTower
from mmrec_teach.models.unisrec import UniSRec
from mmrec_teach.models.vbpr import VBPR

MODELS: dict[str, type[Recommender]] = {
    "random": Random,
    "popularity": Popularity,
    "item-knn": ItemKNN,
    "oracle": Oracle,
    "bpr": BPR,
    "vbpr": VBPR,
    "lightgcn": LightGCN,
    "buir": BUIR,
    "lattice": LATTICE,
    "freedom": FREEDOM,
    "bm3": BM3,
    "mmgcn": MMGCN,
    "grcn": GRCN,
    "dualgnn": DualGNN,
    "alignrec": AlignRec,
    "sasrec": SASRec,
    "unisrec": UniSRec,
    "missrec": MISSRec,
    "two-tower": TwoTower,
}

__all__ = [
    "BM3",
    "BPR",
    "BUIR",
    "FREEDOM",
    "GRCN",
    "LATTICE",
    "MMGCN",
    "MODELS",
    "VBPR",
    "AlignRec",
    "Batch",
    "DualGNN",
    "ItemKNN",
    "LightGCN",
    "MISSRec",
    "Oracle",
    "Popularity",
    "Random",
    "Recommender",
    "SASRec",
    "SequenceBatch",
    "TwoTower",
    "UniSRec",
    "create",
    "load_model",
    "model_options",
]


def model_class(name: str) -> type[Recommender]:
    """Return the class registered under ``name``.

    Raises:
        OptionError: no such model.
    """
    if name not in MODELS:
        raise OptionError("unknown model", where="model", found=repr(name), expected=", ".join(MODELS), fix=guess(name, MODELS))
    return MODELS[name]


def model_options(name: str) -> dict[str, Any]:
    """Return the options of a model and their defaults, in the order of its constructor."""
    parameters = inspect.signature(model_class(name).__init__).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("self", "data")}


def create(name: str, data: Dataset, **options: Any) -> Recommender:
    """Build a model by its registered name.

    Raises:
        OptionError: no such model, or an option it does not take.
    """
    known = model_options(name)
    for option, value in options.items():
        if option in known and isinstance(known[option], (bool, int, float)):
            numbers = bool if isinstance(known[option], bool) else (int, float)
            if not isinstance(value, numbers) or (numbers is not bool and isinstance(value, bool)):
                raise OptionError(
                    "not the kind of value this option takes",
                    where=f"{name} option {option}",
                    found=repr(value),
                    expected="true or false" if numbers is bool else f"a number such as {known[option]}",
                )
        if option not in known:
            raise OptionError(
                f"{name} has no such option", where="model options", found=repr(option), expected=", ".join(known)
            )
    return MODELS[name](data, **options)


def load_model(path: str | Path, data: Dataset) -> Recommender:
    """Rebuild a model saved by :meth:`Recommender.save` on the data set it was trained on.

    Raises:
        DataError: the file is missing or no saved model, or the data set has other sizes.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", where=str(path), expected="a model saved by Recommender.save")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        name, options, shape, state = (saved[k] for k in ("model", "options", "shape", "state"))
    except Exception as error:
        raise DataError(
            "not a saved model", where=str(path), found=type(error).__name__, expected="a file written by Recommender.save"
        ) from None
    classes = {c.__name__: c for c in MODELS.values()}
    if name not in classes:
        raise DataError("a model of unknown class", where=str(path), found=repr(name), expected=", ".join(classes))
    if tuple(shape) != (data.n_users, data.n_items):
        raise DataError(
            "the model was trained on other data",
            where=str(path),
            found=f"{shape[0]} users and {shape[1]} items",
            expected=f"{data.n_users} and {data.n_items} as in {data.name!r}",
        )
    given = {**options, "pretrained": None} if "pretrained" in options else options  # the state has what it began with
    model = classes[name](data, **given)
    object.__setattr__(model, "options", options)
    model.load_state_dict(state)
    return model
