"""The file of a pre-trained sequence model: its parameters that belong to no single item, its options, and a checksum; no pickle."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrec_teach.data import store
from mmrec_teach.errors import DataError, OptionError, check_choice
from mmrec_teach.files import write_bytes
from mmrec_teach.models.sequential import SequenceRecommender

NAME = "bazaar"
"""What stands for the stored copy where a path is asked for."""


@dataclass(frozen=True)
class Pretrained:
    """What a model has learned that can move to other items.

    Attributes:
        model: the name of its class.
        options: it was made with.
        parameters: its :meth:`~mmrec_teach.models.sequential.SequenceRecommender.transferable`, float32.
        info: how it was made, plain values.
    """

    model: str
    options: Mapping[str, Any]
    parameters: Mapping[str, Tensor]
    info: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(model: SequenceRecommender, info: Mapping[str, Any] | None = None) -> Pretrained:
        """Return a copy of what ``model`` has learned."""
        copies = {name: p.detach().cpu().float().clone() for name, p in model.transferable().items()}
        return Pretrained(type(model).__name__, dict(model.options), copies, dict(info or {}))

    def give_to(self, model: SequenceRecommender, where: str) -> None:
        """Let ``model`` adopt the parameters.

        Raises:
            OptionError: they are of another class, or of other options or sizes; ``where`` names the place in messages.
        """
        if type(model).__name__ != self.model:
            raise OptionError("made by another model", where=where, found=self.model, expected=type(model).__name__)
        model.check_agrees(self.options, where)
        model.adopt(self.parameters)

    def to_bytes(self) -> bytes:
        """Return the content of the file: a NumPy archive."""
        arrays = {f"parameter/{name}": p.numpy() for name, p in self.parameters.items()}
        about = {"model": self.model, "options": dict(self.options), "info": dict(self.info)}
        about["checksum"] = _checksum(arrays, about)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **arrays)
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the file, atomically."""
        write_bytes(path, self.to_bytes())


def load_pretrained(source: str | Path) -> Pretrained:
    """Read a file written by :meth:`Pretrained.save`, or with "bazaar" the stored copy.

    Raises:
        DataError: the file is missing, damaged or something else.
    """
    return from_bytes(read_pretrained(source), store.SEQUENCES if source == NAME else str(source))


def read_pretrained(source: str | Path) -> bytes:
    """Return the content of such a file, or with "bazaar" of the stored copy.

    Raises:
        DataError: the file is missing, or the stored copy is damaged.
    """
    if source == NAME:
        return store.read_model("sequences")
    try:
        return Path(source).expanduser().read_bytes()
    except OSError as error:
        raise DataError(
            "cannot read the pre-trained model",
            where=str(source),
            found=error.strerror,
            expected=f'"{NAME}", or a file that `mmrec-teach pretrain-sequences` wrote',
        ) from None


def start(model: SequenceRecommender, pretrained: str | None, tune: str) -> None:
    """Let ``model`` begin with what a file holds, and decide which of its parameters train.

    Args:
        model: at the end of its constructor.
        pretrained: the path of a file, "bazaar" for the stored copy, or None: its own initial values.
        tune: ``"full"`` all parameters, or a key of the model's ``tuned``: those of these parts.

    Raises:
        DataError: the file is missing, damaged or something else.
        OptionError: the file does not fit the model, or nothing would train.
    """
    kind = type(model).__name__
    check_choice("tune", tune, ("full", *model.tuned))
    if not isinstance(pretrained, (str, type(None))):
        raise OptionError(
            "not a path",
            where=f"{kind}(pretrained=)",
            found=repr(pretrained),
            expected='the path of a file, as text, or "bazaar"',
        )
    if pretrained is not None:
        load_pretrained(pretrained).give_to(model, f"{kind}(pretrained={str(pretrained)!r})")
    if tune == "full":
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.partition(".")[0] in model.tuned[tune])
    if not model.trained_share()[0]:
        raise OptionError(
            "nothing is left to train",
            where=f"{kind}(tune={tune!r})",
            found="no parameter in " + ", ".join(model.tuned[tune]) if model.tuned[tune] else "every part held fixed",
            expected="full or adapters" if "adapters" in model.tuned else "full",
            fix="Evaluate it as it is",
        )


def from_bytes(content: bytes, where: str) -> Pretrained:
    """Return what :meth:`Pretrained.to_bytes` wrote; ``where`` names its file in messages.

    Raises:
        DataError: it is no such file, or differs from its checksum.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes())
        same = about.pop("checksum") == _checksum(arrays, about)
        parameters = {name.removeprefix("parameter/"): torch.from_numpy(array) for name, array in arrays.items()}
        made = Pretrained(about["model"], about["options"], parameters, about["info"])
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(
            "not a pre-trained sequence model, or a damaged one",
            where=where,
            found=type(error).__name__,
            expected="a file that `mmrec-teach pretrain-sequences` wrote",
        ) from None
    if not same:
        raise DataError("the parameters differ from their checksum", where=where, fix="Make the file anew")
    return made


def _checksum(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """Return one SHA-256 of all arrays, their names and the description."""
    lines = [json.dumps(about, sort_keys=True), *(f"{name} {store.digest(arrays[name])}" for name in sorted(arrays))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
