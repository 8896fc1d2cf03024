"""A masked encoder inside a recommender: its vectors of all items as they are now, and those of a few items with gradient."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset, store
from mmrec_teach.data.tokens import Tokenizer, TokenTables, make_tokenizer
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models.mmenc import EncoderBatch, MMEnc

BLOCK = 128  # items encoded at a time where no gradient is kept

_made: WeakKeyDictionary[Dataset, TokenTables] = WeakKeyDictionary()  # k-means and cutting once a data set, not once a model


class LiveEncoder(nn.Module):
    r"""MMEnc on the items of one data set, trained along with whatever uses its vectors.

    A vector is :math:`h / \lVert h \rVert`, h = [CLS] less the mean [CLS] of all items: all [CLS] lean one way, and that
    common part says nothing about an item. An item with neither picture nor words has a zero vector.

    Args:
        data: needs pictures and captions.
        start: ``"scratch"``, or ``"pretrained"``: the stored encoder of the bazaar, with its words and visual words.
        dim, depth: of an encoder from scratch.
        generator: draws initial values and masks.

    Attributes:
        has: (I,) bool, which items have a picture or words.

    Raises:
        OptionError: the data set has no pictures or no captions, or an unknown start.
        DataError: the stored encoder is missing or damaged.
    """

    def __init__(self, data: Dataset, start: str, dim: int, depth: int, generator: torch.Generator):
        super().__init__()
        if data.images is None or data.captions is None:
            raise OptionError(
                "joint training needs pictures and captions",
                where=f"strategy on data set {data.name!r}",
                found="no pictures" if data.images is None else "no captions",
                expected="images, and a caption column in items",
                fix='Use strategy="staged", which needs feature tables only',
            )
        if start == "pretrained":
            self.mmenc, tokenizer = stored_encoder()
            self.tokens = tokenizer(data)
        else:
            if data not in _made:
                _made[data] = make_tokenizer(data)(data)
            self.tokens = _made[data]
            read = self.tokens.tokenizer
            sizes = {"grid": read.grid, "patch_dim": 3 * read.patch**2, "length": read.length, "dim": dim, "depth": depth}
            sizes["word_counts"] = read.counts
            seed = int(torch.randint(2**31, (), generator=generator))
            self.mmenc = MMEnc(read.n_words, read.n_codes, **sizes, seed=seed)
        self.mmenc.generator = generator  # one state to keep and to give back
        self.register_buffer("has", torch.from_numpy(~(self.tokens.patch_missing & self.tokens.word_missing)), persistent=False)
        self._known: tuple[list[Tensor], Tensor, Tensor] | None = None  # parameters, and what they made

    def batch(self, items: Tensor) -> EncoderBatch:
        """Return ``items`` (n,) as tokens, of the encoder's kind and place."""
        like = self.mmenc.cls
        read = EncoderBatch.of(self.tokens, items.cpu()).to(like.device)
        return replace(read, patches=read.patches.to(like.dtype))

    @torch.no_grad()
    def _tables(self) -> tuple[Tensor, Tensor]:
        """Return all vectors (I, D) and the mean [CLS] (D,); computed anew only after the parameters have moved."""
        now = list(self.mmenc.parameters())
        if self._known is None or not all(map(_same, self._known[0], now)):
            ids = torch.arange(len(self.tokens))
            cls = torch.cat([self.mmenc.encode(self.batch(some)) for some in ids.split(BLOCK)])
            centre = cls[self.has].mean(0)
            table = F.normalize(cls - centre, dim=1) * self.has[:, None]
            self._known = [p.detach().clone() for p in now], table, centre
        return self._known[1:]

    def table(self) -> Tensor:
        """Return the vectors of all items as the parameters are, (I, D), without gradient; the same object until they move."""
        return self._tables()[0]

    def encode(self, items: Tensor, centre: Tensor) -> Tensor:
        """Return the vectors of ``items`` (n,), all of which have something to be seen: (n, D), with gradient."""
        return F.normalize(self.mmenc.encode(self.batch(items)) - centre, dim=1)

    @property
    def centre(self) -> Tensor:
        """The mean [CLS] of all items (D,), without gradient."""
        return self._tables()[1]

    def losses(self, items: Tensor, active: Collection[str]) -> dict[str, Tensor]:
        """Return ``mim`` and ``mlm`` of ``items`` (n,), those of them in ``active``, masks freshly drawn; 0 for no item."""
        wanted = [name for name in ("mim", "mlm") if name in active]
        if not len(items):
            return {name: self.mmenc.cls.sum() * 0.0 for name in wanted}
        return self.mmenc.losses(self.batch(items), wanted) if wanted else {}


def stored_encoder() -> tuple[MMEnc, Tokenizer]:
    """Return the stored encoder of the bazaar and what it reads by, fresh at every call.

    Raises:
        DataError: the file is missing or damaged.
    """
    return read_encoder(store.read_model("encoder"), store.ENCODER)[:2]


def read_encoder(content: bytes, where: str) -> tuple[MMEnc, Tokenizer, dict[str, np.ndarray], dict]:
    """Return network, tokenizer, all arrays and the description of an encoder's file; ``where`` names it in messages.

    Raises:
        DataError: it is no such file.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes())
        tokenizer = Tokenizer(
            np.array(about["vocabulary"]),
            arrays["codebook"].astype(np.float32),
            about["patch"],
            tuple(about["grid"]),
            about["length"],
        )
        model = MMEnc(**about["options"])
        weights = {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items() if k.startswith("weight/")}
        model.load_state_dict({k.removeprefix("weight/"): v for k, v in weights.items()})
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, EOFError, zipfile.BadZipFile, OptionError) as error:
        raise not_an_encoder(where, error) from None
    return model, tokenizer, arrays, about


def not_an_encoder(where: str, error: Exception) -> DataError:
    """Return what to raise of a file that ``error`` shows to be no encoder's."""
    return DataError("not an encoder", where=where, found=type(error).__name__, expected="a file written by Encoder.save")


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are equal, kind and place included."""
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
