"""Pre-training of the masked encoder: the loop as a generator, ``fit_encoder`` that drains it, and what comes out, an :class:`Encoder`.

Nothing here looks at users or interactions: only at pictures and captions.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from mmrec_teach.data import Dataset, store
from mmrec_teach.data.bazaar import DOMAINS
from mmrec_teach.data.tokens import UNKNOWN, Tokenizer, TokenTables, make_tokenizer
from mmrec_teach.errors import DataError, OptionError, check_whole
from mmrec_teach.files import atomic_path, write_bytes, write_json
from mmrec_teach.models.encoding import not_an_encoder, read_encoder
from mmrec_teach.models.mmenc import TERMS, EncoderBatch, MMEnc, block_mask, word_mask
from mmrec_teach.ops.memory import keep_freed_memory
from mmrec_teach.training.loop import TrainingError, pick_device

WEIGHTS = {"mim": 1.0, "mlm": 1.0, "itc": 0.0}
"""BEiT-3's two terms, and the contrast, which is off."""
STORED = {"epochs": 70, "batch_size": 32, "lr": 2e-3, "seed": 0, "weights": {"mim": 1.0, "mlm": 1.0, "itc": 0.5}}
"""How the stored encoder of the bazaar was made. It has the contrast: by guessing alone, a thousand items teach too little of what a
picture and its caption have in common."""
WARM_UP = 0.1
"""Share of all steps in which the step size grows; after that it falls to zero along a cosine."""
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class PretrainRecord:
    """One epoch.

    Attributes:
        epoch: its number, from 1.
        losses: term -> mean over the epoch, unweighted.
        total: the weighted sum's mean.
        seconds: training time.
    """

    epoch: int
    losses: Mapping[str, float]
    total: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


class Pretrainer:
    """The loop's state.

    Args:
        model: trained in place, moved to ``device``.
        tokens: the items.
        epochs: how many in all; the step size follows from it.
        items: row numbers to train on; None means all that have a picture or a word.
        weights: term -> weight, read at every step; a term at 0 is not computed.
        batch_size, lr, weight_decay: of AdamW.
        seed: of the order of the items (masks are drawn by the model's own generator).
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.

    Raises:
        OptionError: a setting out of range, or no item to train on.
    """

    def __init__(
        self,
        model: MMEnc,
        tokens: TokenTables,
        *,
        epochs: int = 70,
        items: np.ndarray | None = None,
        weights: Mapping[str, float] | None = None,
        batch_size: int = 32,
        lr: float = 2e-3,
        weight_decay: float = 0.05,
        seed: int = 0,
        device: str | torch.device = "auto",
    ):
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            check_whole(name, value)
        if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
            raise OptionError("step size out of range", where="lr", found=lr, expected="a positive number such as 0.002")
        self.weights = dict(WEIGHTS) if weights is None else weights
        check_weights(self.weights)
        keep_freed_memory()
        self.device = pick_device(device)
        self.model, self.tokens = model.to(self.device), tokens
        rows = np.arange(len(tokens)) if items is None else np.asarray(items)
        rows = rows[~(tokens.patch_missing[rows] & tokens.word_missing[rows])]
        if not len(rows):
            raise OptionError("no item to train on", where="items", expected="an item with a picture or a caption")
        self.items = torch.from_numpy(rows)
        self.epochs, self.batch_size, self.lr = epochs, batch_size, float(lr)
        self.generator = torch.Generator().manual_seed(seed)
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        self.epochs_done = self.steps_done = 0

    @property
    def n_steps(self) -> int:
        """Steps of all epochs together."""
        return self.epochs * -(-len(self.items) // self.batch_size)

    def step_size(self, step: int) -> float:
        """Return the step size of step number ``step``, from 0."""
        warm = max(1.0, WARM_UP * self.n_steps)
        return self.lr * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / self.n_steps))

    def step(self, batch: EncoderBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Take one step; return the terms and their weighted sum, detached.

        Raises:
            TrainingError: the loss is not finite. The parameters are as they were before the step.
        """
        active = [name for name in TERMS if self.weights.get(name, 0.0) > 0]
        terms = self.model.losses(batch, active)
        total = sum(self.weights[name] * term for name, term in terms.items())
        if not torch.isfinite(total):
            raise TrainingError(
                f"The loss is no longer a finite number in epoch {self.epochs_done + 1}. Try a smaller lr; the parameters are those "
                "before this step."
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.step_size(self.steps_done)
        self.optimizer.step()
        self.steps_done += 1
        return {k: v.detach() for k, v in terms.items()}, total.detach()

    def epoch(self) -> PretrainRecord:
        """Train one epoch and return its record."""
        start = time.perf_counter()
        self.model.train()
        sums: dict[str, float] = {}
        order = self.items[torch.randperm(len(self.items), generator=self.generator)]
        total = 0.0
        for rows in order.split(self.batch_size):
            terms, weighted = self.step(EncoderBatch.of(self.tokens, rows).to(self.device))
            share = len(rows) / len(order)
            total += share * float(weighted)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + share * float(value)
        self.epochs_done += 1
        return PretrainRecord(self.epochs_done, sums, total, time.perf_counter() - start)

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on as if never stopped (tensors are references, not copies)."""
        return {
            "model": self.model.state_dict(),
            "masks": self.model.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state of the same model, items and settings."""
        self.model.load_state_dict(state["model"])
        self.model.generator.set_state(state["masks"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.epochs_done, self.steps_done = state["epochs_done"], state["steps_done"]


def pretrain(
    model: MMEnc, tokens: TokenTables, *, resume: Mapping[str, Any] | None = None, **settings: Any
) -> Iterator[PretrainRecord]:
    """Train ``model`` in place, yielding one record an epoch. Stop by leaving the loop; nothing runs between two yields.

    Args:
        model, tokens, settings: see :class:`Pretrainer`.
        resume: a :meth:`Pretrainer.state_dict`.
    """
    trainer = Pretrainer(model, tokens, **settings)
    if resume is not None:
        trainer.load_state_dict(resume)
    return _run(trainer)


def _run(trainer: Pretrainer) -> Iterator[PretrainRecord]:
    while trainer.epochs_done < trainer.epochs:
        yield trainer.epoch()


def check_weights(weights: Mapping[str, float]) -> None:
    """Check the weights of the terms.

    Raises:
        OptionError: a term that does not exist, a weight that is no number from 0 up, or none above 0.
    """
    for name, value in weights.items():
        if name not in TERMS:
            raise OptionError("no term of that name", where="weights", found=repr(name), expected=", ".join(TERMS))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise OptionError("no weight", where=f"weights[{name!r}]", found=repr(value), expected="a number from 0 up")
    if not any(weights.values()):
        raise OptionError("no term has a weight", where="weights", found=dict(weights), expected="mim or mlm above 0")


# -- what comes out -------------------------------------------------------------------------------------------------------
@dataclass
class Encoder:
    """A trained encoder with its tokenizer: from a data set to one vector an item.

    Attributes:
        model: the network.
        tokenizer: what it reads by.
        centre: (d,) float32, the mean [CLS] of the items it was trained on. All its vectors lean that way; taken off, angles
            between items mean more.
        info: how it was made, for people.
        history: one record an epoch.
        kept: fingerprint of a data set's pictures and captions -> its vectors, computed when the encoder was stored.
    """

    model: MMEnc
    tokenizer: Tokenizer
    centre: np.ndarray
    info: dict[str, Any] = field(default_factory=dict)
    history: list[PretrainRecord] = field(default_factory=list, repr=False)
    kept: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    _read: WeakKeyDictionary[Dataset, TokenTables] = field(default_factory=WeakKeyDictionary, init=False, repr=False)

    def tokens(self, data: Dataset) -> TokenTables:
        """Return the items of ``data`` as tokens; made once a data set."""
        if data not in self._read:
            self._read[data] = self.tokenizer(data)
        return self._read[data]

    def vectors(self, data: Dataset, *, hide: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Return one vector an item, (I, d) float32: [CLS] less ``centre``; zero for an item of which nothing is to be seen.

        Args:
            data: needs pictures and captions.
            hide: ``"image"`` and/or ``"text"`` -> (I,) bool, True where that side is to be treated as missing.
        """
        if self.kept and not any(np.any(flags) for flags in (hide or {}).values()):
            found = self.kept.get(fingerprint(data))
            if found is not None:
                return found.copy()
        return self.encode(self.tokens(data), hide=hide)

    def encode(self, tokens: TokenTables, *, hide: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Return the same for tokens."""
        table = _cls(self.model, tokens, hide).numpy() - self.centre
        nothing = np.logical_and(*tokens.hidden(hide))
        table[nothing] = 0.0
        return table

    def similarity(self, data: Dataset, items: np.ndarray, how: str = "cosine") -> np.ndarray:
        """Return how well each picture goes with each caption, (n, n): row = picture, column = caption.

        The encoder sees each picture and each caption alone.

        Args:
            data: the data set.
            items: (n,) row numbers of items that have both.
            how: ``"cosine"``, between [CLS] of the picture and [CLS] of the caption, each less its own mean; or ``"guess"``: how much
                more likely than on average [CLS] of the picture finds the words of the caption, plus how much more likely than on
                average [CLS] of the caption finds the patches of the picture, each per token.

        Raises:
            OptionError: an unknown way, or ``"guess"`` of a model that cannot guess from [CLS].
        """
        if how not in ("cosine", "guess") or (how == "guess" and (not self.model.aggregate or self.model.target != "codes")):
            raise OptionError("unknown way", where="how", found=repr(how), expected="cosine, or guess (aggregate=True, codes)")
        return _similarity(self.model, self.tokens(data), np.asarray(items), how)

    def quality(self, data: Dataset, seed: int = 0, items: np.ndarray | None = None) -> dict[str, float]:
        """Return numbers that say what the encoder can do, on items that have a picture and a caption.

        * ``mlm_accuracy``, ``mlm_alone``, ``mlm_other``: share of hidden words (half of each caption) found with the item's own
          picture, without any, and with the picture of another item.
        * ``mim_accuracy``, ``mim_alone``, ``mim_other``: share of hidden patches (all of the picture's) whose visual word is found with
          the item's own caption, without any, and with another's. ``mim_blocks``, ``mim_blocks_alone``: with half the patches hidden.
        * ``image_to_text@10``, ``text_to_image@10``, ``retrieval_chance@10``: how often the own caption (picture) is among the ten that
          go best with a picture (caption), see :meth:`similarity`; ``..._guess@10`` likewise.
        * ``neighbours_category@10`` and, where the truth is known, one such number for each attribute: the share of an item's ten
          nearest that have its value; ``..._chance``: of all others.

        Args:
            data: the data set.
            seed: of the masks.
            items: row numbers to judge; None means all. Neighbours are looked for among all items of ``data``.
        """
        return quality(self, data, seed=seed, items=items)

    # -- files ----------------------------------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        """Return the content of an encoder's file: a NumPy archive without pickles. Weights are kept as float16."""
        tk = self.tokenizer
        about = {
            "options": self.model.options,
            "patch": tk.patch,
            "grid": tk.grid,
            "length": tk.length,
            "vocabulary": tk.vocabulary.tolist(),
            "info": self.info,
            "history": [r.to_json() for r in self.history],
        }
        arrays = {
            "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            "codebook": tk.codebook.astype(np.float16),
        }
        arrays["centre"] = self.centre
        arrays |= {f"weight/{k}": v.cpu().numpy().astype(np.float16) for k, v in self.model.state_dict().items()}
        arrays |= {f"vectors/{k}": v for k, v in self.kept.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the encoder to ``path``, atomically."""
        write_bytes(path, self.to_bytes())


def load_encoder(path: str | Path) -> Encoder:
    """Read an encoder written by :meth:`Encoder.save`.

    Raises:
        DataError: the file is missing or something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError("cannot read the encoder", where=str(path), found=error.strerror) from None
    return encoder_from_bytes(content, str(path))


def encoder_from_bytes(content: bytes, where: str) -> Encoder:
    """Return the encoder that :meth:`Encoder.to_bytes` wrote; ``where`` names its file in messages."""
    model, tokenizer, arrays, about = read_encoder(content, where)
    kept = {k.removeprefix("vectors/"): v for k, v in arrays.items() if k.startswith("vectors/")}
    try:
        history = [PretrainRecord(**record) for record in about["history"]]
        return Encoder(model.eval(), tokenizer, arrays["centre"], about["info"], history, kept)
    except (KeyError, TypeError) as error:
        raise not_an_encoder(where, error) from None


def fingerprint(data: Dataset) -> str:
    """Return a short hash of the pictures and captions of ``data``, all that an encoder reads."""
    digest = hashlib.sha256()
    if data.images is not None:
        digest.update(f"{data.images.shape}".encode() + np.ascontiguousarray(data.images).data)
    digest.update("\n".join(data.captions or ()).encode())
    return digest.hexdigest()[:16]


# -- fitting --------------------------------------------------------------------------------------------------------------
def fit_encoder(
    *sources: Dataset,
    epochs: int = 70,
    batch_size: int = 32,
    lr: float = 2e-3,
    weights: Mapping[str, float] | None = None,
    held_out: Sequence[np.ndarray] | float = 0.0,
    tokens: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = True,
    run_dir: str | Path | None = None,
    **options: Any,
) -> Encoder:
    """Make a tokenizer, pre-train an encoder on the pictures and captions of one or several data sets, and return it.

    Args:
        sources: the data sets; their pictures have one shape.
        epochs, batch_size, lr, weights, device: see :class:`Pretrainer`.
        held_out: items not to train on, to judge the encoder by: a share to draw at random, or one (I,) bool array a data set.
        tokens: settings of :func:`~mmrec_teach.data.tokens.make_tokenizer`.
        seed: of everything.
        progress: show a bar.
        run_dir: keep ``checkpoint.pt``, ``history.json`` and, in the end, ``encoder.npz`` there. If it holds a checkpoint, training goes
            on from it and gives the same numbers as a run that was never broken off.
        options: of :class:`~mmrec_teach.models.mmenc.MMEnc`.

    Ctrl-C ends training after the epoch before, and the encoder is returned as it is then (``info["stopped"]`` says so).

    Raises:
        DataError: no pictures or captions, or a checkpoint of something else.
        OptionError: a setting out of range.
    """
    if not sources:
        raise OptionError("nothing to train on", where="fit_encoder", expected="at least one data set")
    tokenizer = make_tokenizer(*sources, **{"seed": seed, **(tokens or {})})
    tables = TokenTables.concatenate([tokenizer(data) for data in sources])
    held = _held_out(held_out, sources, seed)
    sizes = {"grid": tokenizer.grid, "patch_dim": 3 * tokenizer.patch**2, "length": tokenizer.length}
    sizes["word_counts"] = tokenizer.counts
    model = MMEnc(tokenizer.n_words, tokenizer.n_codes, **{**sizes, **options}, seed=seed)
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    trainer = Pretrainer(model, tables, items=np.flatnonzero(~held), weights=weights, seed=seed, device=device, **settings)
    about = {
        "data": [data.name for data in sources],
        "items": len(trainer.items),
        "held_out": int(held.sum()),
        "weights": dict(trainer.weights),
        "seed": seed,
        **settings,
    }
    history: list[PretrainRecord] = []
    checkpoint = None if run_dir is None else Path(run_dir) / "checkpoint.pt"
    recipe = json.dumps({**about, "options": model.options, "tokens": fingerprint_of(tables)}, default=list, sort_keys=True)
    if checkpoint is not None and checkpoint.exists():
        history = _resume(trainer, checkpoint, recipe)

    def save(state: Mapping[str, Any]) -> None:
        nonlocal saved
        saved = time.monotonic()
        records = [r.to_json() for r in history[: state["epochs_done"]]]
        with atomic_path(checkpoint) as temporary:
            torch.save({**state, "recipe": recipe, "history": json.dumps(records)}, temporary)
        write_json(checkpoint.with_name("history.json"), records)

    saved, stopped = time.monotonic(), "epochs"
    whole = copy.deepcopy(trainer.state_dict())
    bar = tqdm(total=epochs, initial=trainer.epochs_done, unit="epoch", disable=not progress, desc="MMEnc")
    try:
        for record in _run(trainer):
            history.append(record)
            whole = copy.deepcopy(trainer.state_dict())
            bar.update()
            bar.set_postfix_str(", ".join(f"{k} {v:.3f}" for k, v in record.losses.items()))
            if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                save(whole)
    except KeyboardInterrupt:
        stopped = "interrupted"
        trainer.load_state_dict(whole)
        del history[trainer.epochs_done :]
    finally:
        bar.close()
    if checkpoint is not None:
        save(whole)
    model.cpu().eval()
    encoder = Encoder(model, tokenizer, np.zeros(model.dim, dtype=np.float32), {**about, "stopped": stopped}, history)
    return finished(encoder, tables, ~held, None if run_dir is None else Path(run_dir) / "encoder.npz")


def finished(encoder: Encoder, tables: TokenTables, used: np.ndarray, path: Path | None = None) -> Encoder:
    """Round the weights as a file would, set ``centre`` to the mean over the rows ``used``, and write the encoder to ``path``."""
    encoder = encoder_from_bytes(encoder.to_bytes(), "memory")
    tables = replace(tables, tokenizer=encoder.tokenizer)
    there = used & ~(tables.patch_missing & tables.word_missing)
    encoder.centre = _cls(encoder.model, tables).numpy()[there].mean(axis=0)
    if path is not None:
        encoder.save(path)
    return encoder


def fingerprint_of(tables: TokenTables) -> str:
    """Return a short hash of tokens."""
    digest = hashlib.sha256()
    for array in (tables.patches, tables.codes, tables.words):
        digest.update(array.data)
    return digest.hexdigest()[:16]


def _resume(trainer: Pretrainer, checkpoint: Path, recipe: str) -> list[PretrainRecord]:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        same, history = state["recipe"] == recipe, json.loads(state["history"])
        if same:
            trainer.load_state_dict(state)
    except Exception as error:
        raise DataError(
            "not a checkpoint of pre-training", where=str(checkpoint), found=type(error).__name__, fix="Remove it to start anew"
        ) from None
    if not same:
        raise DataError(
            "a checkpoint of other data or settings",
            where=str(checkpoint),
            fix="Choose another folder, or remove it to start anew",
        )
    return [PretrainRecord(**record) for record in history]


def _held_out(held_out: Sequence[np.ndarray] | float, sources: Sequence[Dataset], seed: int) -> np.ndarray:
    n = sum(data.n_items for data in sources)
    if isinstance(held_out, (int, float)):
        if not 0 <= held_out < 1:
            raise OptionError("out of range", where="held_out", found=held_out, expected="a share from 0 to below 1")
        held = np.zeros(n, dtype=bool)
        held[np.random.Generator(np.random.PCG64(seed)).permutation(n)[: round(held_out * n)]] = True
        return held
    flags = [np.asarray(f) for f in held_out]
    if [f.shape for f in flags] != [(d.n_items,) for d in sources] or any(f.dtype != bool for f in flags):
        raise OptionError(
            "not one flag an item", where="held_out", found=[f.shape for f in flags], expected="one (I,) bool array a data set"
        )
    return np.concatenate(flags)


# -- the stored one -------------------------------------------------------------------------------------------------------
def pretrained(name: str = "bazaar") -> Encoder:
    """Return the stored encoder of the bazaar, trained on all four corners without their cold items; a fresh one at every call.

    A package installed without the repository trains it once into the user's cache.

    Raises:
        OptionError: another name.
        DataError: the file differs from its checksum.
    """
    if name != "bazaar":
        raise OptionError("no stored encoder of that name", where="pretrained", found=repr(name), expected="bazaar")
    folder = store.ensure()
    if not (folder / store.ENCODER).exists():
        print("Pre-training the encoder of the bazaar, once (some minutes) ...", flush=True)
        make_stored(folder)
    return encoder_from_bytes(store.read_model("encoder", folder), str(folder / store.ENCODER))


def make_stored(folder: Path | None = None, progress: bool = True, **settings: Any) -> Encoder:
    """Pre-train the stored encoder and write it with its checksum; returns it.

    Args:
        folder: of the embedded data.
        progress: show a bar.
        settings: other than :data:`STORED`.
    """
    folder = store.data_dir() if folder is None else folder
    sources = [store.dataset(domain, store.read(domain, folder)) for domain in DOMAINS]
    held = [data.truth.extra["cold"] for data in sources]
    encoder = fit_encoder(*sources, held_out=held, progress=progress, **{**STORED, **settings})
    encoder.info["held_out_items"] = "the cold items of each corner"
    encoder.kept = {fingerprint(data): encoder.vectors(data) for data in sources}
    store.write_model("encoder", encoder.to_bytes(), folder)
    return encoder


# -- judging --------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def _cls(
    model: MMEnc, tokens: TokenTables, hide: Mapping[str, np.ndarray] | None = None, items: np.ndarray | None = None
) -> Tensor:
    """[CLS] of the items, (n, d) float32 on the CPU, nothing hidden but what ``hide`` says."""
    was, device = model.training, next(model.parameters()).device
    model.eval()
    rows = np.arange(len(tokens)) if items is None else items
    parts = [model.encode(EncoderBatch.of(tokens, rows[k : k + 128], hide).to(device)).cpu() for k in range(0, len(rows), 128)]
    model.train(was)
    return torch.cat(parts) if parts else torch.zeros(0, model.dim)


def _all(tokens: TokenTables, name: str) -> dict[str, np.ndarray]:
    return {name: np.ones(len(tokens), dtype=bool)}


@torch.no_grad()
def _similarity(model: MMEnc, tokens: TokenTables, items: np.ndarray, how: str) -> np.ndarray:
    model.eval()
    pictures = _cls(model, tokens, _all(tokens, "text"), items)
    texts = _cls(model, tokens, _all(tokens, "image"), items)
    if how == "cosine":
        return (F.normalize(pictures - pictures.mean(0), dim=1) @ F.normalize(texts - texts.mean(0), dim=1).T).numpy()
    n = len(items)
    words, codes = torch.from_numpy(tokens.words[items]), torch.from_numpy(tokens.codes[items])
    known = torch.zeros(n, model.n_words).scatter_(1, words, 1.0)
    known[:, : UNKNOWN + 1] = 0.0
    ones = torch.ones(n, 1, dtype=torch.bool)
    likely = model.guesses_from_cls(pictures, "word", ones).log_softmax(-1)  # (n, V) of each picture
    by_words = (likely - likely.mean(0)) @ (known / known.sum(1, keepdim=True).clamp(min=1)).T
    seen = model.guesses_from_cls(texts, "patch", torch.ones(n, model.n_patches, dtype=torch.bool)).log_softmax(-1)
    seen = seen.view(n, model.n_patches, -1)
    seen = (seen - seen.mean(0)).transpose(0, 1)  # (P, n, K) of each caption
    by_patches = torch.zeros(n, n)
    for place in range(model.n_patches):
        by_patches += seen[place][:, codes[:, place]].T / model.n_patches  # row = picture
    return (by_words + by_patches).numpy()


def recall_of_own(similarity: np.ndarray, k: int = 10) -> float:
    """Return how often the own column is among the ``k`` largest of a row; columns just as large count as ahead."""
    own = np.diag(similarity)[:, None]
    return float(((similarity >= own).sum(axis=1) <= k).mean())


def shared_values(vectors: np.ndarray, values: np.ndarray, rows: np.ndarray, k: int = 10) -> float:
    """Return the mean share of the ``k`` nearest items (cosine, the item itself left out) that have an item's value.

    Args:
        vectors: (I, d); items with a zero row neither count nor are anybody's neighbours.
        values: (I,) an attribute.
        rows: the items to ask about.
    """
    length = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(length > 0, length, 1.0)[:, None]
    rows = rows[length[rows] > 0]
    similar = unit[rows] @ unit.T
    similar[:, length == 0] = -np.inf
    similar[np.arange(len(rows)), rows] = -np.inf
    nearest = np.argpartition(-similar, k, axis=1)[:, :k]
    return float((values[nearest] == values[rows][:, None]).mean())


@torch.no_grad()
def quality(encoder: Encoder, data: Dataset, *, seed: int = 0, items: np.ndarray | None = None) -> dict[str, float]:
    """See :meth:`Encoder.quality`."""
    model, tokens = encoder.model.eval(), encoder.tokens(data)
    rows = np.arange(len(tokens)) if items is None else np.asarray(items)
    rows = rows[~tokens.patch_missing[rows] & ~tokens.word_missing[rows]]
    if len(rows) < 2:
        raise DataError("too few items with a picture and a caption", where="quality", found=len(rows), expected="at least 2")
    g = torch.Generator().manual_seed(seed)
    other = rows[np.roll(np.arange(len(rows)), 1)]
    words, codes = torch.from_numpy(tokens.words[rows]), torch.from_numpy(tokens.codes[rows])
    hidden_words = word_mask(words, torch.full((len(rows),), 0.5), g)
    blocks = block_mask(torch.full((len(rows),), 0.5), model.grid, g)
    everything = torch.ones_like(blocks)

    def found(kind: str, where: Tensor, pictures: np.ndarray, captions: np.ndarray, missing: str = "") -> float:
        right = 0.0
        for k in range(0, len(rows), 128):
            at = slice(k, k + 128)
            seen, gone = where[at], torch.ones(len(where[at]), dtype=torch.bool)
            hidden = model(
                EncoderBatch.of(tokens, pictures[at]).patches,
                EncoderBatch.of(tokens, captions[at]).words,
                patch_mask=seen if kind == "patch" else None,
                word_mask=seen if kind == "word" else None,
                patch_missing=gone if missing == "image" else None,
                word_missing=gone if missing == "text" else None,
            )
            guess = model.guesses(hidden, kind, seen)
            if kind == "patch" and model.target == "pixels":
                guess = torch.from_numpy(encoder.tokenizer.codes(255.0 * (0.5 + 0.25 * guess.numpy())))
            else:
                guess = guess.argmax(-1)
            right += float((guess == (words if kind == "word" else codes)[at][seen]).sum())
        return right / max(1.0, float(where.sum()))

    result = {
        "mlm_accuracy": found("word", hidden_words, rows, rows),
        "mlm_alone": found("word", hidden_words, rows, rows, "image"),
        "mlm_other": found("word", hidden_words, other, rows),
        "mim_accuracy": found("patch", everything, rows, rows),
        "mim_alone": found("patch", everything, rows, rows, "text"),
        "mim_other": found("patch", everything, rows, other),
        "mim_blocks": found("patch", blocks, rows, rows),
        "mim_blocks_alone": found("patch", blocks, rows, rows, "text"),
        "retrieval_chance@10": min(1.0, 10 / len(rows)),
    }
    ways = ("cosine", "guess") if model.aggregate and model.target == "codes" else ("cosine",)
    for how in ways:
        similarity, tail = _similarity(model, tokens, rows, how), "" if how == ways[0] else f"_{how}"
        result[f"image_to_text{tail}@10"] = recall_of_own(similarity)
        result[f"text_to_image{tail}@10"] = recall_of_own(similarity.T)
    table = encoder.vectors(data)
    for name, values in attributes(data).items():
        result[f"neighbours_{name}@10"] = shared_values(table, values, rows)
        result[f"neighbours_{name}_chance"] = float(np.mean([(values == values[r]).sum() - 1 for r in rows])) / (
            len(values) - 1
        )
    return result


def attributes(data: Dataset, names: Collection[str] = ("hue", "tone", "pattern", "spirit", "making")) -> dict[str, np.ndarray]:
    """Return what is known of the items: their category, and of a generated shop the planted attributes; (I,) arrays by name."""
    known = {}
    if data.items is not None and "category" in data.items:
        known["category"] = data.items["category"].fillna("").to_numpy().astype(str)
    if data.truth is not None:
        known |= {name: data.truth.extra[name] for name in names if name in data.truth.extra}
    return known
