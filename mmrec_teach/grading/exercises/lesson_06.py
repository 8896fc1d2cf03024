"""Exercises of lesson 06: which words and patches to hide, visual words, and the loss of guessing what was hidden."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from mmrec_teach.grading.exercise import Case, Exercise, expect

# -- hiding words ----------------------------------------------------------------------------------------------------------
mask_words = Exercise("mask_words", lesson="06")

PAD, UNKNOWN = 0, 2


def _draw(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Different numbers in 0..1, no two of a row close to each other."""
    return np.stack([rng.permutation(columns) for _ in range(rows)]) / columns + 0.5 / columns


@mask_words.cases
def _():
    yield Case("two of four words", words=np.array([[7, 4, 9, 5]]), draw=np.array([[0.6, 0.1, 0.9, 0.3]]), share=0.5)
    yield Case(
        "captions of different length",
        words=np.array([[7, 4, 9, 5, 8, 6], [5, 3, 4, 0, 0, 0]]),
        draw=np.array([[0.9, 0.2, 0.5, 0.3, 0.1, 0.7], [0.8, 0.4, 0.6, 0.2, 0.1, 0.3]]),
        share=0.34,
    )


@mask_words.random
def _(rng):
    words = rng.integers(3, 40, size=(8, 10))
    for row, length in zip(words, [10, 9, 8, 7, 6, 5, 4, 3]):
        row[length:] = PAD
    words[0, :2], words[1, 3] = UNKNOWN, UNKNOWN
    share = float(rng.choice([0.28, 0.42, 0.68]))
    yield Case("eight captions at random", words=words, draw=_draw(rng, 8, 10), share=share)


@mask_words.hidden
def _():
    rng = np.random.default_rng(1)
    yield Case("a small share: one word all the same", words=np.array([[9, 8, 7], [5, 0, 0]]), draw=_draw(rng, 2, 3), share=0.1)
    yield Case("everything hidden", words=np.array([[9, 8, 7, 0], [5, 2, 6, 0]]), draw=_draw(rng, 2, 4), share=1.0)
    yield Case(
        "an unknown word drawn first",
        words=np.array([[2, 5, 6, 7, 0, 0]]), draw=np.array([[0.05, 0.9, 0.5, 0.7, 0.1, 0.2]]), share=0.67,
    )  # fmt: skip
    yield Case("a caption without a known word", words=np.array([[2, 2, 0]]), draw=np.array([[0.5, 0.2, 0.8]]), share=0.5)


@mask_words.oracle
def _(words, draw, share):
    mask = np.zeros(words.shape, dtype=bool)
    for row in range(len(words)):
        known = [place for place in range(words.shape[1]) if words[row, place] > UNKNOWN]
        count = max(1, round(share * len(known)))
        for place in sorted(known, key=lambda place: draw[row, place])[:count]:
            mask[row, place] = True
    return mask


def _first(words: torch.Tensor, draw: torch.Tensor, count: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    rank = draw.masked_fill(~known, 2.0).argsort(dim=1).argsort(dim=1)
    return known & (rank < count[:, None])


@mask_words.wrong("each word hidden by its own draw: sometimes more than the share, sometimes none")
def _(words, draw, share):
    return (words > UNKNOWN) & (draw < share)


@mask_words.wrong("the share taken of all places, padding included")
def _(words, draw, share):
    count = torch.full((len(words),), share * words.shape[1]).round().clamp(min=1)
    return _first(words, draw, count, words > UNKNOWN)


@mask_words.wrong("padding hidden as if it were words")
def _(words, draw, share):
    count = (share * (words > UNKNOWN).sum(1)).round().clamp(min=1)
    return _first(words, draw, count, torch.ones_like(words, dtype=torch.bool))


@mask_words.wrong("unknown words hidden too: nobody could guess them")
def _(words, draw, share):
    known = words != PAD
    return _first(words, draw, (share * known.sum(1)).round().clamp(min=1), known)


@mask_words.wrong("the largest draws in place of the smallest")
def _(words, draw, share):
    known = words > UNKNOWN
    return _first(words, 1 - draw, (share * known.sum(1)).round().clamp(min=1), known)


@mask_words.wrong("the share stays and the rest is hidden")
def _(words, draw, share):
    known = words > UNKNOWN
    return known & ~_first(words, draw, (share * known.sum(1)).round().clamp(min=1), known)


@mask_words.wrong("the first words of the caption: what comes first is guessed, what comes last never")
def _(words, draw, share):
    known = words > UNKNOWN
    order = torch.arange(words.shape[1]).expand_as(words) / words.shape[1]
    return _first(words, order, (share * known.sum(1)).round().clamp(min=1), known)


@mask_words.wrong("one count for all captions: that of the longest")
def _(words, draw, share):
    known = words > UNKNOWN
    count = (share * known.sum(1)).round().clamp(min=1)
    return _first(words, draw, count.max().expand_as(count), known)


@mask_words.wrong("rounded down, and of a short caption nothing is hidden")
def _(words, draw, share):
    known = words > UNKNOWN
    return _first(words, draw, (share * known.sum(1)).floor(), known)


@mask_words.wrong("a caption without any known word loses one all the same")
def _(words, draw, share):
    known = words > UNKNOWN
    count = (share * known.sum(1)).round().clamp(min=1)
    return draw.masked_fill(~known, 2.0).argsort(dim=1).argsort(dim=1) < count[:, None]


@mask_words.wrong("sorted once: which place comes first, second, … is not the rank of a place")
def _(words, draw, share):
    known = words > UNKNOWN
    count = (share * known.sum(1)).round().clamp(min=1)
    return known & (draw.masked_fill(~known, 2.0).argsort(dim=1) < count[:, None])


@mask_words.wrong("padding and unknown words take part in the draw: too few words are hidden")
def _(words, draw, share):
    known = words > UNKNOWN
    count = (share * known.sum(1)).round().clamp(min=1)
    return known & (draw.argsort(dim=1).argsort(dim=1) < count[:, None])


@mask_words.wrong("True where a place is left as it is")
def _(words, draw, share):
    known = words > UNKNOWN
    return ~_first(words, draw, (share * known.sum(1)).round().clamp(min=1), known)


# -- hiding patches --------------------------------------------------------------------------------------------------------
mask_patches = Exercise("mask_patches", lesson="06")


@mask_patches.cases
def _():
    yield Case("one rectangle is enough", blocks=np.array([[0, 1, 2, 3], [2, 0, 1, 1]]), rows=3, columns=4, share=0.5)
    yield Case("two that overlap, and a third", blocks=np.array([[0, 0, 2, 2], [1, 1, 2, 2], [3, 0, 1, 4], [2, 0, 1, 1]]), rows=4,
               columns=4, share=0.5)  # fmt: skip


def _blocks(rng: np.random.Generator, n: int, rows: int, columns: int) -> np.ndarray:
    height, width = rng.integers(1, 3, size=n), rng.integers(1, 4, size=n)
    top = [int(rng.integers(0, rows - h + 1)) for h in height]
    left = [int(rng.integers(0, columns - w + 1)) for w in width]
    return np.stack([top, left, height, width], axis=1)


@mask_patches.random
def _(rng):
    for n in range(4):
        start = np.array([[1, 3, 1, 2], [1, 2, 2, 2]])  # they overlap, and are wider than high
        blocks = np.concatenate([start, _blocks(rng, 40, 5, 7)])
        yield Case(
            f"rectangles at random, {n + 1}", blocks=blocks, rows=5, columns=7, share=float(rng.choice([0.3, 0.45, 0.6]))
        )
    stripes = np.array([[row, 0, 1, 5] for row in rng.permutation(4)])
    yield Case("stripes that hit the share exactly", blocks=stripes, rows=4, columns=5, share=0.5)


@mask_patches.hidden
def _():
    yield Case("exactly the share", blocks=np.array([[0, 0, 1, 4], [1, 0, 1, 4], [2, 0, 1, 4]]), rows=4, columns=4, share=0.5)
    yield Case("too few rectangles: all of them", blocks=np.array([[0, 0, 1, 1], [2, 2, 1, 2]]), rows=3, columns=5, share=0.9)
    yield Case("the first again and again", blocks=np.array([[1, 1, 2, 3]] * 4 + [[0, 0, 1, 2]]), rows=4, columns=5, share=0.4)


@mask_patches.oracle
def _(blocks, rows, columns, share):
    picture = np.zeros((rows, columns), dtype=bool)
    for top, left, height, width in blocks.astype(int):
        if picture.sum() >= share * rows * columns:
            break
        for y in range(top, top + height):
            for x in range(left, left + width):
                picture[y, x] = True
    return np.array([picture[p // columns, p % columns] for p in range(rows * columns)])


def _painted(blocks, rows, columns, enough) -> torch.Tensor:
    picture = torch.zeros(rows, columns, dtype=torch.bool)
    for n, (top, left, height, width) in enumerate(blocks.tolist()):
        if enough(picture, n):
            break
        picture[top : top + height, left : left + width] = True
    return picture


@mask_patches.wrong("all rectangles, whatever the share")
def _(blocks, rows, columns, share):
    return _painted(blocks, rows, columns, lambda picture, n: False).flatten()


@mask_patches.wrong("the first rectangle alone")
def _(blocks, rows, columns, share):
    return _painted(blocks, rows, columns, lambda picture, n: n == 1).flatten()


@mask_patches.wrong("areas added up: what two rectangles share is counted twice")
def _(blocks, rows, columns, share):
    area = (blocks[:, 2] * blocks[:, 3]).cumsum(0).tolist()
    return _painted(blocks, rows, columns, lambda picture, n: n > 0 and area[n - 1] >= share * rows * columns).flatten()


@mask_patches.wrong("height and width exchanged")
def _(blocks, rows, columns, share):
    other = blocks[:, [0, 1, 3, 2]]
    return _painted(other, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).flatten()


@mask_patches.wrong("top and left exchanged")
def _(blocks, rows, columns, share):
    other = blocks[:, [1, 0, 2, 3]]
    return _painted(other, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).flatten()


@mask_patches.wrong("rows and columns exchanged: top and height counted to the right")
def _(blocks, rows, columns, share):
    other = blocks[:, [1, 0, 3, 2]]
    return _painted(other, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).flatten()


@mask_patches.wrong("height and width taken for where the rectangle ends")
def _(blocks, rows, columns, share):
    other = torch.cat([blocks[:, :2], (blocks[:, 2:] - blocks[:, :2]).clamp(min=0)], dim=1)
    return _painted(other, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).flatten()


@mask_patches.wrong("stopped before the rectangle that reaches beyond the share: too little is hidden")
def _(blocks, rows, columns, share):
    picture = torch.zeros(rows, columns, dtype=torch.bool)
    for top, left, height, width in blocks.tolist():
        more = picture.clone()
        more[top : top + height, left : left + width] = True
        if more.sum() > share * rows * columns:
            break
        picture = more
    return picture.flatten()


@mask_patches.wrong("patches counted column by column")
def _(blocks, rows, columns, share):
    return _painted(blocks, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).T.flatten()


@mask_patches.wrong("one rectangle too many: asked for more than the share")
def _(blocks, rows, columns, share):
    return _painted(blocks, rows, columns, lambda picture, n: picture.sum() > share * rows * columns).flatten()


@mask_patches.wrong("what is seen in place of what is hidden")
def _(blocks, rows, columns, share):
    return ~_painted(blocks, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).flatten()


@mask_patches.wrong("rectangles one patch too small")
def _(blocks, rows, columns, share):
    other = torch.cat([blocks[:, :2], blocks[:, 2:] - 1], dim=1)
    return _painted(other, rows, columns, lambda picture, n: picture.sum() >= share * rows * columns).flatten()


@mask_patches.wrong("the last rectangle alone counts: the mask is begun anew each time")
def _(blocks, rows, columns, share):
    for block in blocks:
        picture = _painted(block[None], rows, columns, lambda picture, n: False)
        if picture.sum() >= share * rows * columns:
            break
    return picture.flatten()


# -- visual words ----------------------------------------------------------------------------------------------------------
visual_words = Exercise("visual_words", lesson="06")


@visual_words.cases
def _():
    yield Case(
        "two patches, three typical ones",
        patches=np.array([[[0.9, 0.1], [0.2, 0.3]]]), codebook=np.array([[0.0, 0.0], [1.0, 0.0], [0.1, 0.6]]),
    )  # fmt: skip
    yield Case(
        "a long typical patch wins no prize",
        patches=np.array([[[1.0, 1.0]], [[0.2, 0.1]]]), codebook=np.array([[3.0, 3.0], [0.8, 0.9], [0.0, 0.3]]),
    )  # fmt: skip


@visual_words.random
def _(rng):
    codebook = rng.uniform(0, 1, size=(12, 5)) * rng.uniform(0.3, 3.0, size=(12, 1))
    near = codebook[rng.integers(0, 12, size=(6, 9))]
    yield Case("pictures at random", patches=near + rng.normal(0, 0.35, size=near.shape), codebook=codebook)


@visual_words.hidden
def _():
    rng = np.random.default_rng(3)
    yield Case("as many patches as typical ones", patches=rng.uniform(size=(1, 6, 4)), codebook=rng.uniform(size=(6, 4)) * 2)
    yield Case(
        "equally near: the first", patches=np.array([[[0.5, 0.0]]]), codebook=np.array([[9.0, 9.0], [0.0, 0.0], [1.0, 0.0]])
    )
    yield Case(
        "a bright typical patch, and one that fits",
        patches=np.array([[[1.0, 0.0]]]), codebook=np.array([[0.6, 0.6], [0.9, 0.0], [0.0, 0.2]]),
    )  # fmt: skip
    yield Case("one picture of one patch", patches=rng.uniform(size=(1, 1, 3)), codebook=rng.uniform(size=(4, 3)))


@visual_words.oracle
def _(patches, codebook):
    codes = np.zeros(patches.shape[:2], dtype=np.int64)
    for b in range(patches.shape[0]):
        for p in range(patches.shape[1]):
            codes[b, p] = int(np.argmin([np.sum((patches[b, p] - typical) ** 2) for typical in codebook]))
    return codes


def _gap(patches: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return (patches[:, :, None] - codebook).square().sum(-1)


@visual_words.wrong("differences added up without a square: the brightest typical patch wins everywhere")
def _(patches, codebook):
    return (patches[:, :, None] - codebook).sum(-1).argmin(-1)


@visual_words.wrong("the largest inner product: long typical patches win")
def _(patches, codebook):
    return (patches @ codebook.T).argmax(-1)


@visual_words.wrong("the largest cosine: brightness does not count")
def _(patches, codebook):
    return F.cosine_similarity(patches[:, :, None], codebook, dim=-1).argmax(-1)


@visual_words.wrong("the farthest typical patch")
def _(patches, codebook):
    return _gap(patches, codebook).argmax(-1)


@visual_words.wrong("the distance and not its number")
def _(patches, codebook):
    return _gap(patches, codebook).min(-1).values


@visual_words.wrong("for each typical patch the nearest patch")
def _(patches, codebook):
    return _gap(patches, codebook).argmin(1)


@visual_words.wrong("differences added up with their signs, and their size taken only then")
def _(patches, codebook):
    return (patches[:, :, None] - codebook).sum(-1).abs().argmin(-1)


@visual_words.wrong("numbers counted from 1")
def _(patches, codebook):
    return _gap(patches, codebook).argmin(-1) + 1


@visual_words.wrong("the typical patch itself in place of its number")
def _(patches, codebook):
    return codebook[_gap(patches, codebook).argmin(-1)]


@visual_words.wrong("half of |c|² with the wrong sign")
def _(patches, codebook):
    return (-2 * patches @ codebook.T - codebook.square().sum(-1)).argmin(-1)


# -- the loss --------------------------------------------------------------------------------------------------------------
guessing_loss = Exercise("guessing_loss", lesson="06", gradient=("logits",))


@guessing_loss.cases
def _():
    yield Case(
        "one of two is hidden",
        logits=np.array([[[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]]]), target=np.array([[0, 1]]), hidden=np.array([[True, False]]),
    )  # fmt: skip
    yield Case(
        "two captions, three hidden in all",
        logits=np.array([[[2.0, 0.0], [0.5, 1.0], [0.3, 0.2]], [[-1.0, 1.0], [0.0, 3.0], [1.0, 1.5]]]),
        target=np.array([[0, 1, 1], [0, 0, 1]]), hidden=np.array([[True, False, True], [False, True, False]]),
    )  # fmt: skip


def _guess(rng: np.random.Generator, hidden: np.ndarray, v: int) -> dict[str, np.ndarray]:
    return {
        "logits": 2 * rng.normal(size=(*hidden.shape, v)),
        "target": rng.integers(0, v, size=hidden.shape),
        "hidden": hidden,
    }


@guessing_loss.random
def _(rng):
    hidden = np.zeros((5, 6), dtype=bool)
    for row, count in zip(hidden, [1, 2, 3, 4, 5]):
        row[rng.permutation(6)[:count]] = True
    yield Case("a batch at random", **_guess(rng, hidden, 4))


@guessing_loss.hidden
def _():
    rng = np.random.default_rng(4)
    yield Case("an item of which nothing is hidden", **_guess(rng, np.array([[True, True, False], [False, False, False]]), 5))
    yield Case("nothing hidden at all", **_guess(rng, np.zeros((2, 3), dtype=bool), 4))
    yield Case(
        "very sure, and wrong",
        logits=np.array([[[300.0, -300.0, 0.0], [0.0, 1.0, 2.0], [-200.0, 200.0, 100.0]]]), target=np.array([[1, 0, 2]]),
        hidden=np.array([[True, False, True]]),
    )  # fmt: skip


@guessing_loss.oracle
def _(logits, target, hidden):
    losses = []
    for b, p in zip(*np.nonzero(hidden)):
        row = logits[b, p]
        top = row.max()
        losses.append(top + np.log(np.sum(np.exp(row - top))) - row[int(target[b, p])])
    return np.array(np.mean(losses) if losses else 0.0)


@guessing_loss.rule("what is not hidden teaches nothing")
def _(guessing_loss):
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    target = torch.arange(12).view(3, 4) % 5
    hidden = torch.tensor([[True, False, False, True], [False, True, False, False], [True, True, False, True]])
    loss = guessing_loss(logits, target, hidden)
    expect(isinstance(loss, torch.Tensor) and loss.requires_grad, "nothing can be learned from the answer: it has no gradient")
    slope = torch.autograd.grad(loss.sum(), logits)[0]
    expect(not bool(slope[~hidden].any()), "a gradient reaches tokens that were seen: copying them would be rewarded")


def _each(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)


@guessing_loss.wrong("all tokens, also those that were seen")
def _(logits, target, hidden):
    return _each(logits, target).mean() if hidden.any() else logits.sum() * 0


@guessing_loss.wrong("all tokens, whether anything is hidden or not")
def _(logits, target, hidden):
    return _each(logits, target).mean()


@guessing_loss.wrong("divided by all tokens and not by the hidden ones")
def _(logits, target, hidden):
    return (_each(logits, target) * hidden).mean()


@guessing_loss.wrong("the sum over the hidden tokens")
def _(logits, target, hidden):
    return (_each(logits, target) * hidden).sum()


@guessing_loss.wrong("the mean of each item first: items with little hidden count more")
def _(logits, target, hidden):
    one = (_each(logits, target) * hidden).sum(1) / hidden.sum(1).clamp(min=1)
    return one[hidden.any(1)].mean() if hidden.any() else logits.sum() * 0


@guessing_loss.wrong("the mean of each item first, and an item of which nothing is hidden counts as well")
def _(logits, target, hidden):
    return ((_each(logits, target) * hidden).sum(1) / hidden.sum(1).clamp(min=1)).mean()


@guessing_loss.wrong("the mean of each item first, and of an item of which nothing is hidden 0/0")
def _(logits, target, hidden):
    return ((_each(logits, target) * hidden).sum(1) / hidden.sum(1)).mean()


@guessing_loss.wrong("the loss of what was seen")
def _(logits, target, hidden):
    return F.cross_entropy(logits[~hidden], target[~hidden])


@guessing_loss.wrong("the tokens that were seen in place of the hidden ones")
def _(logits, target, hidden):
    seen = ~hidden
    return (_each(logits, target) * seen).sum() / seen.sum().clamp(min=1) if hidden.any() else logits.sum() * 0


@guessing_loss.wrong("the chance of the right one in place of its logarithm")
def _(logits, target, hidden):
    chance = logits.softmax(-1).gather(-1, target[..., None])[..., 0]
    return ((1 - chance) * hidden).sum() / hidden.sum().clamp(min=1)


@guessing_loss.wrong("a plus for a minus: wrong guesses are rewarded")
def _(logits, target, hidden):
    return -(_each(logits, target) * hidden).sum() / hidden.sum().clamp(min=1)


@guessing_loss.wrong("nothing hidden: nothing divided by nothing")
def _(logits, target, hidden):
    return F.cross_entropy(logits[hidden], target[hidden])


@guessing_loss.wrong("softmax taken twice")
def _(logits, target, hidden):
    return (_each(logits.softmax(-1), target) * hidden).sum() / hidden.sum().clamp(min=1)


@guessing_loss.wrong("the logarithm of a chance of zero")
def _(logits, target, hidden):
    chance = logits.softmax(-1).gather(-1, target[..., None])[..., 0]
    return torch.where(hidden, -chance.log(), 0.0).sum() / hidden.sum().clamp(min=1)


@guessing_loss.wrong("no gradient: the guesses are held")
def _(logits, target, hidden):
    return (_each(logits.detach(), target) * hidden).sum() / hidden.sum().clamp(min=1)
