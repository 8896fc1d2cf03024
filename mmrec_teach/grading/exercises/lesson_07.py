"""Exercises of lesson 07: AlignRec's content branch, its contrast of content and ID, the guard of similarities, users and items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from mmrec_teach.grading.exercise import Case, Exercise, expect


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors that are not zero."""
    return float(np.sum(a * b) / (np.sqrt(np.sum(a * a)) * np.sqrt(np.sum(b * b))))


def _moves(function: Callable, given: dict[str, torch.Tensor], name: str, why: str) -> None:
    """Complains when no gradient reaches the input ``name``."""
    given = {k: v.clone().requires_grad_(True) if v.is_floating_point() else v for k, v in given.items()}
    answer = function(*given.values())
    expect(
        isinstance(answer, torch.Tensor) and answer.requires_grad, "the answer has no gradient at all: nothing learns from it"
    )
    slope = torch.autograd.grad(answer.sum(), given[name], allow_unused=True)[0]
    expect(slope is not None and bool(slope.any()), f"no gradient reaches `{name}`: {why}")


def _cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([[_cosine(a, b) for b in y] for a in x])


# -- the content branch ----------------------------------------------------------------------------------------------------
content_branch = Exercise("content_branch", lesson="07", gradient=("e_id", "W1", "W2"))


@content_branch.cases
def _():
    yield Case(
        "two items that are each other's neighbours",
        e_id=np.array([[1.0, -2.0], [0.5, 3.0]]), h_enc=np.array([[1.0, 0.0, 2.0], [0.0, -1.0, 1.5]]),
        W1=np.array([[0.5, 1.0, -0.3], [-1.0, 0.2, 0.8]]), b1=np.array([0.3, 0.1]),
        W2=np.array([[1.0, -0.5], [0.7, 2.0]]), b2=np.array([-0.4, 0.6]),
        S=np.array([[0.6, 0.4], [0.1, 0.7]]),
    )  # fmt: skip
    rng = np.random.default_rng(70)
    yield Case("five items", **_branch(rng, 5, 4, 3))


def _branch(rng: np.random.Generator, n: int, wide: int, d: int) -> dict[str, np.ndarray]:
    """A problem in which some, not all, of the hidden numbers are below zero, and S is not symmetric."""
    S = np.where(rng.random((n, n)) < 0.5, rng.uniform(0.1, 0.5, (n, n)), 0.0)
    S[np.arange(n), np.arange(n)] = rng.uniform(0.3, 0.9, n)
    S[0, 1], S[1, 0] = 0.45, 0.0
    h_enc, W1, b1 = rng.normal(size=(n, wide)), rng.normal(size=(d, wide)), rng.normal(size=d)
    hidden = h_enc @ W1.T + b1
    b1 = b1 - np.sort(hidden, axis=0)[n // 2] + 0.05  # half of each column below zero, none near it
    near = np.abs(h_enc @ W1.T + b1) < 0.02
    h_enc = h_enc + 0.1 * near.any(1, keepdims=True)
    W2, b2 = rng.normal(size=(d, d)), rng.normal(size=d)
    return {"e_id": rng.normal(size=(n, d)), "h_enc": h_enc, "W1": W1, "b1": b1, "W2": W2, "b2": b2, "S": S}


@content_branch.random
def _(rng):
    yield Case("a shop at random", **_branch(rng, int(rng.integers(6, 9)), 5, 4))


@content_branch.hidden
def _():
    rng = np.random.default_rng(71)
    alone = _branch(rng, 4, 3, 3)
    alone["S"][2] = alone["S"][:, 2] = 0.0
    yield Case("an item without content: its row of S is empty", **alone)
    yield Case("as many items as numbers", **_branch(rng, 4, 4, 4))


@content_branch.oracle
def _(e_id, h_enc, W1, b1, W2, b2, S):
    con = []
    for e, x in zip(e_id, h_enc, strict=True):
        hidden = [max(0.0, sum(w * v for w, v in zip(row, x, strict=True)) + b) for row, b in zip(W1, b1, strict=True)]
        gate = [sum(w * v for w, v in zip(row, hidden, strict=True)) + b for row, b in zip(W2, b2, strict=True)]
        con.append([own * g for own, g in zip(e, gate, strict=True)])
    return np.array([[sum(S[i, j] * con[j][f] for j in range(len(con))) for f in range(e_id.shape[1])] for i in range(len(S))])


def _mlp(h_enc, W1, b1, W2, b2):
    return torch.relu(h_enc @ W1.T + b1) @ W2.T + b2


@content_branch.wrong("content added to the ID, not multiplied")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id + _mlp(h_enc, W1, b1, W2, b2))


@content_branch.wrong("the ID left out: content alone")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ _mlp(h_enc, W1, b1, W2, b2)


@content_branch.wrong("no relu: two linear maps are one")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id * ((h_enc @ W1.T + b1) @ W2.T + b2))


@content_branch.wrong("a sigmoid on the gate")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id * torch.sigmoid(_mlp(h_enc, W1, b1, W2, b2)))


@content_branch.wrong("a relu after the second map, too: gates that cannot turn a number's sign")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id * torch.relu(_mlp(h_enc, W1, b1, W2, b2)))


@content_branch.wrong("self left out: S without its diagonal")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return (S - torch.diag(S.diagonal())) @ (e_id * _mlp(h_enc, W1, b1, W2, b2))


@content_branch.wrong("self counted twice: the item's own vector on top of S")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    con = e_id * _mlp(h_enc, W1, b1, W2, b2)
    return con + S @ con


@content_branch.wrong("S turned over: the item gets from those whose neighbour it is")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S.T @ (e_id * _mlp(h_enc, W1, b1, W2, b2))


@content_branch.wrong("neighbours' contents times the own ID: the neighbours' IDs are left out")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return e_id * (S @ _mlp(h_enc, W1, b1, W2, b2))


@content_branch.wrong("neighbours' IDs times the own content")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return (S @ e_id) * _mlp(h_enc, W1, b1, W2, b2)


@content_branch.wrong("the encoder's vectors averaged before the MLP")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return e_id * _mlp(S @ h_enc, W1, b1, W2, b2)


@content_branch.wrong("no neighbours: S forgotten")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return e_id * _mlp(h_enc, W1, b1, W2, b2)


@content_branch.wrong("the rows of S scaled to sum to 1 once more")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return (S / S.sum(1, keepdim=True).clamp_min(1e-12)) @ (e_id * _mlp(h_enc, W1, b1, W2, b2))


@content_branch.wrong("divided by the sum of the row's weights: S holds them ready, and an empty row gives 0/0")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id * _mlp(h_enc, W1, b1, W2, b2)) / S.sum(1, keepdim=True)


@content_branch.wrong("the offsets forgotten")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id * (torch.relu(h_enc @ W1.T) @ W2.T))


@content_branch.wrong("W2 used without turning it over")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id * (torch.relu(h_enc @ W1.T + b1) @ W2 + b2))


@content_branch.wrong("the ID held still: content never reaches it")
def _(e_id, h_enc, W1, b1, W2, b2, S):
    return S @ (e_id.detach() * _mlp(h_enc, W1, b1, W2, b2))


# -- content and ID: InfoNCE -----------------------------------------------------------------------------------------------
cca_loss = Exercise("cca_loss", lesson="07", gradient=("h_mm", "h_id"))


@cca_loss.cases
def _():
    yield Case(
        "two items, at right angles", h_mm=np.array([[2.0, 1.0], [0.5, 3.0]]), h_id=np.array([[5.0, 0.0], [0.0, 0.2]]),
        ids=np.array([4, 9]), tau=0.5,
    )  # fmt: skip
    rng = np.random.default_rng(72)
    yield Case("five entries, one item twice", **_entries(rng, np.array([3, 8, 3, 1, 6]), 3), tau=0.2)


def _entries(rng: np.random.Generator, ids: np.ndarray, d: int) -> dict[str, np.ndarray]:
    """Rows of the entries of a batch: the same item has the same rows, and its content lies near its ID."""
    mm = rng.normal(size=(int(ids.max()) + 1, d))
    own = mm + 0.8 * rng.normal(size=mm.shape)
    lengths = rng.uniform(0.4, 2.5, (len(mm), 1))
    return {"h_mm": mm[ids], "h_id": (own * lengths)[ids], "ids": ids}


@cca_loss.random
def _(rng):
    few, many = rng.permutation(6), int(rng.integers(2, 4))
    ids = rng.permutation(np.concatenate([few, np.full(many, few[0]), few[1:3]]))
    yield Case("a batch with items that come again", **_entries(rng, ids, 4), tau=float(rng.choice([0.2, 0.3, 0.5])))


@cca_loss.hidden
def _():
    rng = np.random.default_rng(73)
    yield Case("one item only, three times", **_entries(rng, np.array([2, 2, 2]), 3), tau=0.2)
    yield Case("every item once", **_entries(rng, np.array([5, 0, 3, 2]), 4), tau=1.0)
    opposite = {"h_mm": np.array([[1.0, 0.0], [0.0, 1.0]]), "h_id": np.array([[-1.0, 0.1], [0.2, -1.0]])}
    yield Case("a small temperature and pairs that disagree", **opposite, ids=np.array([1, 0]), tau=0.02)


@cca_loss.oracle
def _(h_mm, h_id, ids, tau):
    cosine, total = _cosines(h_mm, h_id) / tau, 0.0
    for b in range(len(ids)):
        rivals = [cosine[b, other] for other in range(len(ids)) if other == b or ids[other] != ids[b]]
        highest = max(rivals)
        total += highest + np.log(sum(np.exp(value - highest) for value in rivals)) - cosine[b, b]
    return total / len(ids)


def _batch() -> dict[str, torch.Tensor]:
    entries = _entries(np.random.default_rng(79), np.array([3, 8, 3, 1, 6]), 3)
    return {k: torch.from_numpy(v).float() if v.dtype.kind == "f" else torch.from_numpy(v) for k, v in entries.items()}


@cca_loss.rule("the content moves to the ID")
def _(cca_loss):
    _moves(lambda *given: cca_loss(*given, 0.2), _batch(), "h_mm", "the content would stay where it is")


@cca_loss.rule("the ID moves to the content")
def _(cca_loss):
    _moves(lambda *given: cca_loss(*given, 0.2), _batch(), "h_id", "the ID would stay where it is; here both sides move")


def _logits(h_mm, h_id, tau):
    return normalize(h_mm, dim=1) @ normalize(h_id, dim=1).T / tau


def _others(ids):
    """(B, B), True where another entry is the same item."""
    return (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool)


def _nce(logits, ids):
    return (logits.masked_fill(_others(ids), -torch.inf).logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("the temperature forgotten")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm, h_id, 1.0), ids)


@cca_loss.wrong("multiplied by the temperature")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm, h_id, 1.0) * tau, ids)


@cca_loss.wrong("inner products in place of cosines: long vectors win")
def _(h_mm, h_id, ids, tau):
    return _nce(h_mm @ h_id.T / tau, ids)


@cca_loss.wrong("only the IDs scaled to length 1, content at its own length")
def _(h_mm, h_id, ids, tau):
    return _nce(h_mm @ normalize(h_id, dim=1).T / tau, ids)


@cca_loss.wrong("the softmax down the columns: from ID to content")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm, h_id, tau).T, ids)


@cca_loss.wrong("both directions, averaged")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau)
    return (_nce(logits, ids) + _nce(logits.T, ids)) / 2


@cca_loss.wrong("further copies of the item are negatives")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau)
    return (logits.logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("every copy of the item masked, its own place in the sum as well")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau)
    rivals = logits.masked_fill(ids[:, None] == ids, -1e9)  # an empty sum must stay finite
    return (rivals.logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("the own column masked as well: its logit is minus infinity (leave the diagonal out of the mask)")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau).masked_fill(ids[:, None] == ids, -torch.inf)
    return (logits.logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("the own entry left out of the denominator: only other items are summed")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau)
    return (logits.masked_fill(ids[:, None] == ids, -torch.inf).logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("the own entry left out of the denominator, its copies left in")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau)
    rivals = logits.masked_fill(torch.eye(len(ids), dtype=torch.bool), -torch.inf)
    return (rivals.logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("cross_entropy with the items' numbers as targets: the own column of entry b is b, not ids[b]")
def _(h_mm, h_id, ids, tau):
    return cross_entropy(_logits(h_mm, h_id, tau), ids)


@cca_loss.wrong("copies multiplied by 0: they stay in the sum, with exp(0) = 1")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau)
    return ((logits * ~_others(ids)).logsumexp(1) - logits.diagonal()).mean()


@cca_loss.wrong("each item once: the mean over items and not over the batch")
def _(h_mm, h_id, ids, tau):
    first = torch.stack([(ids == i).nonzero()[0, 0] for i in ids.unique()])
    return _nce(_logits(h_mm[first], h_id[first], tau), ids[first])


@cca_loss.wrong("the sum over the batch")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm, h_id, tau), ids) * len(ids)


@cca_loss.wrong("the mean taken inside the logarithm's sum")
def _(h_mm, h_id, ids, tau):
    logits = _logits(h_mm, h_id, tau).masked_fill(_others(ids), -torch.inf)
    return -logits.softmax(1).diagonal().mean().log()


@cca_loss.wrong("the sign reversed: content is driven away from its ID")
def _(h_mm, h_id, ids, tau):
    return -_nce(_logits(h_mm, h_id, tau), ids)


@cca_loss.wrong("content compared with content")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm, h_mm, tau), ids) + 0 * h_id.sum()


@cca_loss.wrong("the probability itself, the logarithm forgotten")
def _(h_mm, h_id, ids, tau):
    return 1 - _logits(h_mm, h_id, tau).masked_fill(_others(ids), -torch.inf).softmax(1).diagonal().mean()


@cca_loss.wrong("the ID held still, as a target of BM3 is: only content moves")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm, h_id.detach(), tau), ids)


@cca_loss.wrong("the content held still: only the ID moves")
def _(h_mm, h_id, ids, tau):
    return _nce(_logits(h_mm.detach(), h_id, tau), ids)


# -- the guard: similarities stay what the encoder saw ---------------------------------------------------------------------
reg_loss = Exercise("reg_loss", lesson="07", gradient=("h_mm",))


@reg_loss.cases
def _():
    yield Case(
        "three items", h_mm=np.array([[2.0, 0.0], [1.0, 1.0], [-0.5, 2.0]]),
        h_enc=np.array([[1.0, 0.0, 0.5], [0.0, 2.0, 1.0], [1.0, 1.0, -3.0]]),
    )  # fmt: skip
    rng = np.random.default_rng(74)
    yield Case("five items, two numbers against four", h_mm=2.0 * rng.normal(size=(5, 2)), h_enc=rng.normal(size=(5, 4)))


@reg_loss.random
def _(rng):
    n = int(rng.integers(6, 10))
    lengths = rng.uniform(0.4, 2.5, (n, 1))
    yield Case("a batch at random", h_mm=lengths * rng.normal(size=(n, 4)), h_enc=lengths[::-1] * rng.normal(size=(n, 5)))


@reg_loss.hidden
def _():
    rng = np.random.default_rng(75)
    yield Case("as many items as numbers", h_mm=3.0 * rng.normal(size=(4, 4)), h_enc=rng.normal(size=(4, 4)))
    yield Case("two items that point opposite ways", h_mm=np.array([[1.0, 0.2], [-2.0, 0.3]]), h_enc=np.array([[1.0], [2.0]]))


@reg_loss.oracle
def _(h_mm, h_enc):
    gap = _cosines(h_mm, h_mm) - _cosines(h_enc, h_enc)
    return np.sqrt(sum(value**2 for value in gap.ravel())) / len(gap)


@reg_loss.rule("the encoder's similarities are held: no gradient flows into h_enc")
def _(reg_loss):
    generator = torch.Generator().manual_seed(76)
    mm, enc = (torch.randn(6, d, generator=generator).requires_grad_(True) for d in (4, 5))
    answer = reg_loss(mm, enc)
    expect(isinstance(answer, torch.Tensor), "the answer is no tensor, so nothing can be learned from it")
    if answer.requires_grad:  # whether content learns is another question
        slope = torch.autograd.grad(answer.sum(), enc, allow_unused=True)[0]
        expect(
            slope is None or not bool(slope.any()),
            "a gradient flows into `h_enc`: the encoder's vectors would bend to the recommender, and there is nothing to hold on to",
        )


def _gap(h_mm, h_enc):
    mm, enc = normalize(h_mm, dim=1), normalize(h_enc.detach(), dim=1)
    return mm @ mm.T - enc @ enc.T


@reg_loss.wrong("squared: the root is missing")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).square().mean()


@reg_loss.wrong("the root of the sum: not divided by the batch")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).norm()


@reg_loss.wrong("the norm divided by the number of pairs, not by its root")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).norm() / len(h_mm) ** 2


@reg_loss.wrong("the norm divided by the root of the batch, not by the batch")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).norm() / len(h_mm) ** 0.5


@reg_loss.wrong("the mean of the absolute gaps")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).abs().mean()


@reg_loss.wrong("the plain mean of the gaps: too high and too low cancel")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).mean()


@reg_loss.wrong("the root taken row by row, then averaged")
def _(h_mm, h_enc):
    return (_gap(h_mm, h_enc).square().sum(1) + 1e-30).sqrt().mean() / len(h_mm) ** 0.5


@reg_loss.wrong("content at its own length: inner products, as the released code has them")
def _(h_mm, h_enc):
    enc = normalize(h_enc.detach(), dim=1)
    return (h_mm @ h_mm.T - enc @ enc.T).norm() / len(h_mm)


@reg_loss.wrong("inner products on both sides")
def _(h_mm, h_enc):
    return (h_mm @ h_mm.T - (h_enc @ h_enc.T).detach()).norm() / len(h_mm)


@reg_loss.wrong("scaled down the batch: columns made to length 1, not rows")
def _(h_mm, h_enc):
    mm, enc = normalize(h_mm, dim=0), normalize(h_enc.detach(), dim=0)
    return (mm @ mm.T - enc @ enc.T).norm() / len(h_mm)


@reg_loss.wrong("pairs without the item itself: divided by fewer")
def _(h_mm, h_enc):
    n = len(h_mm)
    return _gap(h_mm, h_enc).norm() / (n * (n - 1)) ** 0.5


@reg_loss.wrong("each pair once: half of the sum, divided by all")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).triu(1).norm() / len(h_mm)


@reg_loss.wrong("only neighbours in the batch compared, not all pairs")
def _(h_mm, h_enc):
    return _gap(h_mm, h_enc).diagonal(1).square().mean().sqrt()


@reg_loss.wrong("the encoder is free to move: no stop-gradient")
def _(h_mm, h_enc):
    mm, enc = normalize(h_mm, dim=1), normalize(h_enc, dim=1)
    return (mm @ mm.T - enc @ enc.T).norm() / len(mm)


@reg_loss.wrong("the stop-gradient at the content: the encoder moves in its place")
def _(h_mm, h_enc):
    mm, enc = normalize(h_mm.detach(), dim=1), normalize(h_enc, dim=1)
    return (mm @ mm.T - enc @ enc.T).norm() / len(mm)


# -- users and items -------------------------------------------------------------------------------------------------------
uia_loss = Exercise("uia_loss", lesson="07", gradient=("mm_u", "id_u", "mm_i", "id_i"))


@uia_loss.cases
def _():
    yield Case(
        "one pair", mm_u=np.array([[1.0, 0.0]]), id_u=np.array([[0.0, 2.0]]), mm_i=np.array([[0.5, 0.5]]),
        id_i=np.array([[2.0, -0.5]]),
    )  # fmt: skip
    yield Case("three pairs", **_parts(np.random.default_rng(77), 3, 4))


def _parts(rng: np.random.Generator, batch: int, d: int) -> dict[str, np.ndarray]:
    """Pairs that agree somewhat, with content and ID of very different lengths."""
    common = rng.normal(size=(batch, d))
    scale = {"mm_u": 0.4, "id_u": 1.5, "mm_i": 2.0, "id_i": 0.7}
    return {name: s * (common + rng.normal(size=(batch, d))) for name, s in scale.items()}


@uia_loss.random
def _(rng):
    yield Case("a batch at random", **_parts(rng, int(rng.integers(6, 10)), 3))


@uia_loss.hidden
def _():
    rng = np.random.default_rng(78)
    yield Case("as many pairs as numbers", **_parts(rng, 4, 4))
    same = _parts(rng, 2, 3)
    yield Case("content of opposite sign", **(same | {"mm_u": -0.5 * same["id_u"], "mm_i": -0.5 * same["id_i"]}))


@uia_loss.oracle
def _(mm_u, id_u, mm_i, id_i):
    return np.mean([1.0 - _cosine(a + b, c + d) for a, b, c, d in zip(mm_u, id_u, mm_i, id_i, strict=True)])


def _pairs() -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v).float() for k, v in _parts(np.random.default_rng(80), 5, 3).items()}


@uia_loss.rule("the user moves to the item")
def _(uia_loss):
    for name in ("mm_u", "id_u"):
        _moves(uia_loss, _pairs(), name, "users would not move; here both sides do")


@uia_loss.rule("the item moves to the user")
def _(uia_loss):
    for name in ("mm_i", "id_i"):
        _moves(uia_loss, _pairs(), name, "items would not move; here both sides do")


@uia_loss.wrong("the item held still, as in BM3")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_u + id_u, (mm_i + id_i).detach())).mean()


@uia_loss.wrong("the user held still")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity((mm_u + id_u).detach(), mm_i + id_i)).mean()


@uia_loss.wrong("IDs alone: the fusion is missing")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(id_u, id_i)).mean()


@uia_loss.wrong("content alone")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_u, mm_i)).mean()


@uia_loss.wrong("content with content, ID with ID, averaged: fused too late")
def _(mm_u, id_u, mm_i, id_i):
    return (2 - cosine_similarity(mm_u, mm_i) - cosine_similarity(id_u, id_i)).mean() / 2


@uia_loss.wrong("two losses added, one of content and one of IDs: fused too late")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_u, mm_i)).mean() + (1 - cosine_similarity(id_u, id_i)).mean()


@uia_loss.wrong("side by side in place of the sum")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(torch.cat([mm_u, id_u], 1), torch.cat([mm_i, id_i], 1))).mean()


@uia_loss.wrong("both parts scaled to length 1 before they are added")
def _(mm_u, id_u, mm_i, id_i):
    u, i = (normalize(a, dim=1) + normalize(b, dim=1) for a, b in ((mm_u, id_u), (mm_i, id_i)))
    return (1 - cosine_similarity(u, i)).mean()


@uia_loss.wrong("multiplied in place of added")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_u * id_u, mm_i * id_i)).mean()


@uia_loss.wrong("an item's own two parts brought together: that is the other alignment")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_i, id_i)).mean() + 0 * (mm_u + id_u).sum()


@uia_loss.wrong("minus the cosine: the 1 before it is missing")
def _(mm_u, id_u, mm_i, id_i):
    return -cosine_similarity(mm_u + id_u, mm_i + id_i).mean()


@uia_loss.wrong("the cosine itself: agreement counted as loss")
def _(mm_u, id_u, mm_i, id_i):
    return cosine_similarity(mm_u + id_u, mm_i + id_i).mean()


@uia_loss.wrong("the sum over the batch")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_u + id_u, mm_i + id_i)).sum()


@uia_loss.wrong("squared distance of unit vectors: that is twice one minus the cosine")
def _(mm_u, id_u, mm_i, id_i):
    return (normalize(mm_u + id_u) - normalize(mm_i + id_i)).square().sum(1).mean()


@uia_loss.wrong("every user with every item")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity((mm_u + id_u)[:, None], (mm_i + id_i)[None], dim=-1)).mean()


@uia_loss.wrong("the cosine of columns: taken down the batch")
def _(mm_u, id_u, mm_i, id_i):
    return (1 - cosine_similarity(mm_u + id_u, mm_i + id_i, dim=0)).mean()
