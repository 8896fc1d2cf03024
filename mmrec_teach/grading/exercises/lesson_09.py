"""Exercises of lesson 09: causal attention, the two losses of the next item, a mixture of whitenings of text."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, logsigmoid, normalize, softplus

from mmrec_teach.grading.exercise import Case, Exercise, expect


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


# -- attention that does not look ahead ------------------------------------------------------------------------------------
causal_attention = Exercise("causal_attention", lesson="09", gradient=("q", "k", "v"))


@causal_attention.cases
def _():
    yield Case(
        "one history of three items",
        q=np.array([[[1.0, 0.0], [0.5, 2.0], [-1.0, 1.0]]]),
        k=np.array([[[0.5, 1.0], [2.0, -1.0], [1.0, 1.0]]]),
        v=np.array([[[1.0, 0.0], [0.0, 3.0], [-2.0, 5.0]]]),
    )
    rng = np.random.default_rng(90)
    yield Case("two histories of four items", **_looks(rng, 2, 4, 3))


def _looks(rng: np.random.Generator, n: int, length: int, d: int) -> dict[str, np.ndarray]:
    """Queries, keys and values of n histories, far enough from 0 that attention is not even."""
    return {name: 1.3 * rng.normal(size=(n, length, d)) for name in ("q", "k", "v")}


@causal_attention.random
def _(rng):
    yield Case("three histories at random", **_looks(rng, 3, int(rng.integers(4, 7)), 3))


@causal_attention.hidden
def _():
    rng = np.random.default_rng(91)
    yield Case("a history of one item", **_looks(rng, 2, 1, 3))
    yield Case("as many places as numbers", **_looks(rng, 1, 4, 4))
    large = _looks(rng, 1, 3, 2)
    yield Case("large queries: exp() of them is infinite", **large | {"q": 300.0 * np.sign(large["q"])})


@causal_attention.oracle
def _(q, k, v):
    out = np.zeros(v.shape)
    for b in range(len(q)):
        for t in range(q.shape[1]):
            weights = _softmax(np.array([np.sum(q[b, t] * k[b, j]) for j in range(t + 1)]) / q.shape[2] ** 0.5)
            out[b, t] = sum(w * v[b, j] for j, w in enumerate(weights))
    return out


@causal_attention.rule("what comes later changes nothing before it")
def _(causal_attention):
    rng = np.random.default_rng(92)
    q, k, v = (torch.from_numpy(x).float() for x in _looks(rng, 1, 5, 3).values())
    before = causal_attention(q, k, v)
    k2, v2 = k.clone(), v.clone()
    k2[:, 3:], v2[:, 3:] = 7.0, -7.0
    after = causal_attention(q, k2, v2)
    shaped = isinstance(before, torch.Tensor) and before.shape == v.shape
    expect(not shaped or not bool(before.isnan().any()), "some answers are no numbers (NaN): a place that may look nowhere?")
    expect(
        shaped and torch.equal(before[:, :3], after[:, :3]),
        "items 4 and 5 were exchanged, and the answers at places 1 to 3 changed: these places look ahead",
    )


def _logits(q, k):
    return q @ k.transpose(1, 2) / q.shape[2] ** 0.5


def _hidden(q, strictly=False):
    """(L, L), True where a place must not look (`strictly`: nor at itself)."""
    return torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(0 if strictly else 1)


def _attend(logits, v, hidden):
    return logits.masked_fill(hidden, -torch.inf).softmax(2) @ v


@causal_attention.wrong("no mask: every place looks ahead, also at the item it is to guess")
def _(q, k, v):
    return _logits(q, k).softmax(2) @ v


@causal_attention.wrong("the mask turned over: a place looks at itself and what comes after")
def _(q, k, v):
    return _attend(_logits(q, k), v, _hidden(q).T)


@causal_attention.wrong(
    "the mask turned over: masked_fill fills where it is True, so True must stand where looking is forbidden"
)
def _(q, k, v):
    return _attend(_logits(q, k), v, ~_hidden(q))


@causal_attention.wrong("a place does not look at itself: the first one has nothing to look at, and 0/0 is no number")
def _(q, k, v):
    return _attend(_logits(q, k), v, _hidden(q, strictly=True))


@causal_attention.wrong("a place does not look at itself, with a large negative number as mask: the first one looks everywhere")
def _(q, k, v):
    return _logits(q, k).masked_fill(_hidden(q, strictly=True), -1e9).softmax(2) @ v


@causal_attention.wrong("one place too many: the next item is still seen")
def _(q, k, v):
    hidden = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(2)
    return _attend(_logits(q, k), v, hidden)


@causal_attention.wrong("masked after the softmax: the weights of a place no longer add up to 1")
def _(q, k, v):
    return (_logits(q, k).softmax(2) * ~_hidden(q)) @ v


@causal_attention.wrong("the masked logits set to 0: exp(0) = 1 stays in the sum")
def _(q, k, v):
    return _logits(q, k).masked_fill(_hidden(q), 0.0).softmax(2) @ v


@causal_attention.wrong("the division by the root of d forgotten")
def _(q, k, v):
    return _attend(q @ k.transpose(1, 2), v, _hidden(q))


@causal_attention.wrong("divided by d, not by its root")
def _(q, k, v):
    return _attend(q @ k.transpose(1, 2) / q.shape[2], v, _hidden(q))


@causal_attention.wrong("divided by the root of the number of places")
def _(q, k, v):
    return _attend(q @ k.transpose(1, 2) / q.shape[1] ** 0.5, v, _hidden(q))


@causal_attention.wrong("divided after the softmax")
def _(q, k, v):
    return _attend(q @ k.transpose(1, 2), v, _hidden(q)) / q.shape[2] ** 0.5


@causal_attention.wrong("the softmax down the queries: each place looked at spreads itself over those that look")
def _(q, k, v):
    return _logits(q, k).masked_fill(_hidden(q), -torch.inf).softmax(1) @ v


@causal_attention.wrong("the softmax over the histories of the batch")
def _(q, k, v):
    return _logits(q, k).softmax(0).masked_fill(_hidden(q), 0.0) @ v


@causal_attention.wrong("keys and queries exchanged")
def _(q, k, v):
    return _attend(_logits(k, q), v, _hidden(q))


@causal_attention.wrong("the keys summed up in place of the values")
def _(q, k, v):
    return _attend(_logits(q, k), k, _hidden(q)) + 0 * v


@causal_attention.wrong("no softmax: the logits themselves are the weights")
def _(q, k, v):
    return (_logits(q, k) * ~_hidden(q)) @ v


@causal_attention.wrong("an even mean over the places up to t: queries and keys say nothing")
def _(q, k, v):
    return _attend(0 * _logits(q, k), v, _hidden(q))


@causal_attention.wrong("the place's own query added: the block does that, not the attention")
def _(q, k, v):
    return q + _attend(_logits(q, k), v, _hidden(q))


# -- the next item: softmax over the catalogue ------------------------------------------------------------------------------
softmax_loss = Exercise("softmax_loss", lesson="09", gradient=("f", "items"))


@softmax_loss.cases
def _():
    yield Case(
        "one history, two targets",
        f=np.array([[[1.0, 0.0], [0.5, 2.0], [9.0, 9.0]]]),
        items=np.array([[1.0, 1.0], [0.0, 2.0], [-1.0, 0.5], [2.0, -1.0]]),
        targets=np.array([[3, 1, -1]]),
    )
    rng = np.random.default_rng(93)
    yield Case("two histories, one shorter", **_asked(rng, [4, 2], 6, 3))


def _asked(rng: np.random.Generator, lengths: list[int], n_items: int, d: int, *, negatives: bool = False) -> dict:
    """Outputs of a model at histories of these lengths, padded behind; the last item is nobody's target nor negative."""
    longest = max(lengths)
    inside = np.arange(longest) < np.array(lengths)[:, None]
    drawn = np.stack([rng.permutation(n_items - 1)[:2] for _ in range(inside.size)]).reshape(*inside.shape, 2)
    if not (drawn[inside, 0] == 0).any():  # item 0 is somebody's target, so that who takes it for the padding is found out
        drawn[0, 0] = 0, drawn[0, 0].max()
    drawn[~inside] = -1
    given = {"f": 1.2 * rng.normal(size=(*inside.shape, d)), "items": rng.normal(size=(n_items, d)), "targets": drawn[..., 0]}
    return given | ({"negatives": drawn[..., 1]} if negatives else {})


@softmax_loss.random
def _(rng):
    yield Case("histories of many lengths", **_asked(rng, [5, 1, 3, int(rng.integers(2, 4))], 7, 3))


@softmax_loss.hidden
def _():
    rng = np.random.default_rng(94)
    yield Case("no padding at all", **_asked(rng, [3, 3], 5, 4))
    one = _asked(rng, [4, 4], 5, 4)
    one["targets"][:, 1:3] = -1
    yield Case("no target at some places within", **one)
    large = _asked(rng, [3, 1], 5, 3)
    yield Case("large scores: exp() of them is infinite", **large | {"f": 200.0 * np.sign(large["f"])})


@softmax_loss.oracle
def _(f, items, targets):
    terms = []
    for b, t in zip(*np.nonzero(targets >= 0), strict=True):
        r = items @ f[b, t]
        terms.append(r.max() + np.log(np.sum(np.exp(r - r.max()))) - r[targets[b, t]])
    return np.mean(terms)


def _chosen(f, targets):
    """What was asked: outputs (T, d) and right answers (T,)."""
    asked = targets >= 0
    return f[asked], targets[asked]


@softmax_loss.wrong("the padding counted: -1 reads as the last item of the catalogue")
def _(f, items, targets):
    logits = (f @ items.T).flatten(0, 1)
    return (logits.logsumexp(1) - logits[torch.arange(len(logits)), targets.flatten()]).mean()


@softmax_loss.wrong("the padding counted as item 0")
def _(f, items, targets):
    return cross_entropy((f @ items.T).flatten(0, 1), targets.flatten().clamp(min=0))


@softmax_loss.wrong("targets > 0: item 0 is an item like any other, only -1 means that nothing is asked")
def _(f, items, targets):
    return cross_entropy(f[targets > 0] @ items.T, targets[targets > 0])


@softmax_loss.wrong("the sign reversed: the mean logarithm without its minus, the next item is driven away")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return (h @ items.T).log_softmax(1)[torch.arange(len(o)), o].mean()


@softmax_loss.wrong("divided by all places, those of the padding too")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy(h @ items.T, o, reduction="sum") / targets.numel()


@softmax_loss.wrong("divided by the number of histories")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy(h @ items.T, o, reduction="sum") / len(targets)


@softmax_loss.wrong("the sum over the targets")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy(h @ items.T, o, reduction="sum")


@softmax_loss.wrong("a mean of the histories' means: a short history weighs as much as a long one")
def _(f, items, targets):
    asked = targets >= 0
    logits = f @ items.T
    each = logits.logsumexp(2) - logits.gather(2, targets.clamp(min=0)[..., None])[..., 0]
    return ((each * asked).sum(1) / asked.sum(1)).mean()


@softmax_loss.wrong("the last target of each history only")
def _(f, items, targets):
    row, place = torch.arange(len(f)), (targets >= 0).sum(1) - 1
    return cross_entropy(f[row, place] @ items.T, targets[row, place])


@softmax_loss.wrong("item 0 left out of the sum, as if it were the padding")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    logits = h @ items.T
    return (logits[:, 1:].logsumexp(1) - logits[torch.arange(len(o)), o]).mean()


@softmax_loss.wrong("the target left out of the sum")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    logits = h @ items.T
    others = logits.masked_fill(torch.arange(len(items)) == o[:, None], -torch.inf)
    return (others.logsumexp(1) - logits[torch.arange(len(o)), o]).mean()


@softmax_loss.wrong("only the targets of the batch are rivals, not the whole catalogue")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy(h @ items[o].T, torch.arange(len(o)))


@softmax_loss.wrong("cosines in place of inner products")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy(normalize(h, dim=1) @ normalize(items, dim=1).T, o)


@softmax_loss.wrong("the softmax taken twice: cross_entropy wants scores, not probabilities")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy((h @ items.T).softmax(1), o)


@softmax_loss.wrong("the softmax over the places, not over the items")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return -(h @ items.T).log_softmax(0)[torch.arange(len(o)), o].mean()


@softmax_loss.wrong("one minus the probability: the logarithm forgotten")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return 1 - (h @ items.T).softmax(1)[torch.arange(len(o)), o].mean()


@softmax_loss.wrong("the softmax first, then the logarithm: a probability of 0 gives an infinite loss")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return -(h @ items.T).softmax(1)[torch.arange(len(o)), o].log().mean()


@softmax_loss.wrong("the item table held still: only the blocks before it learn")
def _(f, items, targets):
    h, o = _chosen(f, targets)
    return cross_entropy(h @ items.detach().T, o)


# -- the next item against one drawn at random ------------------------------------------------------------------------------
bce_loss = Exercise("bce_loss", lesson="09", gradient=("f", "items"))


@bce_loss.cases
def _():
    yield Case(  # small enough that a check shows the inputs
        "one history, two targets",
        f=np.array([[[1.0, 0.0], [0.5, 2.0]]]),
        items=np.array([[1.0, 1.0], [0.0, 2.0], [-1.0, 0.5]]),
        targets=np.array([[2, 1]]),
        negatives=np.array([[0, 2]]),
    )
    rng = np.random.default_rng(95)
    yield Case("two histories, one shorter", **_asked(rng, [4, 2], 6, 3, negatives=True))


@bce_loss.random
def _(rng):
    yield Case("histories of many lengths", **_asked(rng, [5, 1, 3, int(rng.integers(2, 4))], 7, 3, negatives=True))


@bce_loss.hidden
def _():
    rng = np.random.default_rng(96)
    yield Case("no padding at all", **_asked(rng, [3, 3], 5, 4, negatives=True))
    large = _asked(rng, [3, 2], 5, 3, negatives=True)
    yield Case("large scores: exp() of them is infinite", **large | {"f": 200.0 * np.sign(large["f"])})


@bce_loss.oracle
def _(f, items, targets, negatives):
    terms = []
    for b, t in zip(*np.nonzero(targets >= 0), strict=True):
        positive, negative = (np.sum(f[b, t] * items[i]) for i in (targets[b, t], negatives[b, t]))
        terms.append(np.logaddexp(0, -positive) + np.logaddexp(0, negative))
    return np.mean(terms)


def _pair(f, items, targets, negatives):
    """Scores (T,) of the targets and of the negatives, where something was asked."""
    asked = targets >= 0
    h = f[asked]
    return (h * items[targets[asked]]).sum(1), (h * items[negatives[asked]]).sum(1)


@bce_loss.wrong("BPR: only the difference of the two scores")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return softplus(negative - positive).mean()


@bce_loss.wrong("the negative's sign forgotten: both are drawn near")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (softplus(-positive) + softplus(-negative)).mean()


@bce_loss.wrong("the target and the negative exchanged")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (softplus(positive) + softplus(-negative)).mean()


@bce_loss.wrong("the target alone, no negative")
def _(f, items, targets, negatives):
    positive, _ = _pair(f, items, targets, negatives)
    return softplus(-positive).mean()


@bce_loss.wrong("the negative alone")
def _(f, items, targets, negatives):
    _, negative = _pair(f, items, targets, negatives)
    return softplus(negative).mean()


@bce_loss.wrong("the mean over targets and negatives together: half of the loss")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return torch.cat([softplus(-positive), softplus(negative)]).mean()


@bce_loss.wrong("the sum over the targets")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (softplus(-positive) + softplus(negative)).sum()


@bce_loss.wrong("the sign reversed: the loss is below zero")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (logsigmoid(positive) + logsigmoid(-negative)).mean()


@bce_loss.wrong("the padding counted: -1 reads as the last item of the catalogue")
def _(f, items, targets, negatives):
    positive, negative = ((f * items[which]).sum(2) for which in (targets, negatives))
    return (softplus(-positive) + softplus(negative)).mean()


@bce_loss.wrong("the padding counted as item 0")
def _(f, items, targets, negatives):
    positive, negative = ((f * items[which.clamp(min=0)]).sum(2) for which in (targets, negatives))
    return (softplus(-positive) + softplus(negative)).mean()


@bce_loss.wrong("divided by all places, those of the padding too")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (softplus(-positive) + softplus(negative)).sum() / targets.numel()


@bce_loss.wrong("divided by the number of histories")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (softplus(-positive) + softplus(negative)).sum() / len(targets)


@bce_loss.wrong("the sigmoid first, then the logarithm: far from 0 that is infinite")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return -(torch.sigmoid(positive).log() + (1 - torch.sigmoid(negative)).log()).mean()


@bce_loss.wrong("the probabilities themselves: the logarithm forgotten")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (1 - torch.sigmoid(positive) + torch.sigmoid(negative)).mean()


@bce_loss.wrong("a small number added in the logarithm: it puts a ceiling on the loss of a wrong and sure answer")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return -((torch.sigmoid(positive) + 1e-8).log() + (1 - torch.sigmoid(negative) + 1e-8).log()).mean()


@bce_loss.wrong("every place against every place's items, a T x T table: a place is asked for its own target and negative only")
def _(f, items, targets, negatives):
    asked = targets >= 0
    positive, negative = (f[asked] @ items[which[asked]].T for which in (targets, negatives))
    return (softplus(-positive) + softplus(negative)).mean()


@bce_loss.wrong("the target's sign forgotten: both are pushed away")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items, targets, negatives)
    return (softplus(positive) + softplus(negative)).mean()


@bce_loss.wrong("targets > 0: item 0 is an item like any other, only -1 means that nothing is asked")
def _(f, items, targets, negatives):
    asked = targets > 0
    h = f[asked]
    positive, negative = ((h * items[which[asked]]).sum(1) for which in (targets, negatives))
    return (softplus(-positive) + softplus(negative)).mean()


@bce_loss.wrong("cosines in place of inner products")
def _(f, items, targets, negatives):
    positive, negative = _pair(normalize(f, dim=2), normalize(items, dim=1), targets, negatives)
    return (softplus(-positive) + softplus(negative)).mean()


@bce_loss.wrong("a softmax over the two of them")
def _(f, items, targets, negatives):
    scores = torch.stack(_pair(f, items, targets, negatives), 1)
    return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64)) * 2


@bce_loss.wrong("the item table held still: only the blocks before it learn")
def _(f, items, targets, negatives):
    positive, negative = _pair(f, items.detach(), targets, negatives)
    return (softplus(-positive) + softplus(negative)).mean()


# -- text becomes a vector: a mixture of whitenings --------------------------------------------------------------------------
adaptor = Exercise("adaptor", lesson="09", gradient=("x", "W", "b", "W2"))


@adaptor.cases
def _():
    yield Case(  # small enough that a check shows the inputs
        "two items, two experts, vectors of one number",
        x=np.array([[1.0, 2.0], [0.5, -1.0]]),
        W=np.array([[[1.0], [-1.0]], [[0.5], [2.0]]]),
        b=np.array([[0.5, 0.0], [1.0, -1.0]]),
        W2=np.array([[1.0, 0.0], [-0.5, 1.0]]),
    )
    rng = np.random.default_rng(97)
    yield Case("five items, three experts", **_texts(rng, 5, 4, 2, 3))


def _texts(rng: np.random.Generator, n: int, wide: int, d: int, experts: int) -> dict[str, np.ndarray]:
    return {
        "x": rng.normal(size=(n, wide)),
        "W": rng.normal(size=(experts, wide, d)),
        "b": rng.normal(size=(experts, wide)),
        "W2": 0.8 * rng.normal(size=(wide, experts)),
    }


@adaptor.random
def _(rng):
    yield Case("items at random", **_texts(rng, int(rng.integers(5, 8)), 5, 3, int(rng.integers(2, 4))))


@adaptor.hidden
def _():
    rng = np.random.default_rng(98)
    yield Case("one expert: its share is 1", **_texts(rng, 4, 3, 2, 1))
    yield Case("as many items as experts as numbers", **_texts(rng, 3, 3, 3, 3))
    yield Case(
        "a gate that is sure of itself: exp() is infinite", **_texts(rng, 4, 3, 2, 3) | {"W2": 400.0 * rng.normal(size=(3, 3))}
    )


@adaptor.oracle
def _(x, W, b, W2):
    out = np.zeros((len(x), W.shape[2]))
    for n, row in enumerate(x):
        shares = _softmax(np.array([np.sum(row * W2[:, k]) for k in range(len(W))]))
        for k, share in enumerate(shares):
            out[n] += share * np.array([np.sum((row - b[k]) * W[k][:, j]) for j in range(W.shape[2])])
    return out


def _white(x, W, b):
    """(G, n, d): every expert's whitening of every item."""
    return (x - b[:, None]) @ W


def _mixed(g, white):
    return (g.T[..., None] * white).sum(0)


@adaptor.wrong("no gate: the mean of the experts")
def _(x, W, b, W2):
    return _white(x, W, b).mean(0) + 0 * W2.sum()


@adaptor.wrong("no gate: the sum of the experts")
def _(x, W, b, W2):
    return _white(x, W, b).sum(0) + 0 * W2.sum()


@adaptor.wrong("only the expert with the largest share counts")
def _(x, W, b, W2):
    g = (x @ W2).softmax(1)
    return _mixed(torch.nn.functional.one_hot(g.argmax(1), len(W)).float(), _white(x, W, b))


@adaptor.wrong("the softmax down the items, not over the experts")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(0), _white(x, W, b))


@adaptor.wrong("the gate without softmax")
def _(x, W, b, W2):
    return _mixed(x @ W2, _white(x, W, b))


@adaptor.wrong("a sigmoid for each expert: the shares do not add up to 1")
def _(x, W, b, W2):
    return _mixed(torch.sigmoid(x @ W2), _white(x, W, b))


@adaptor.wrong("one gate for all items, from their mean")
def _(x, W, b, W2):
    return _mixed((x.mean(0, keepdim=True) @ W2).softmax(1).expand(len(x), -1), _white(x, W, b))


@adaptor.wrong("the centre forgotten")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1), _white(x, W, 0 * b))


@adaptor.wrong("the centre added")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1), _white(x, W, -b))


@adaptor.wrong("one centre for all experts: their mean")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1), _white(x, W, b.mean(0, keepdim=True).expand_as(b)))


@adaptor.wrong("the centre of every item, not that of the expert: the items' mean is taken off")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1), (x - x.mean(0)) @ W)


@adaptor.wrong("the gate reads the centred features, each share with its own expert's centre")
def _(x, W, b, W2):
    logits = torch.stack([((x - b[k]) @ W2)[:, k] for k in range(len(W))], 1)
    return _mixed(logits.softmax(1), _white(x, W, b))


@adaptor.wrong("the gate reads the features less the mean of all centres")
def _(x, W, b, W2):
    return _mixed(((x - b.mean(0)) @ W2).softmax(1), _white(x, W, b))


@adaptor.wrong("the share weighs x alone: the centre is taken off whole")
def _(x, W, b, W2):
    g = (x @ W2).softmax(1)
    return sum((g[:, k, None] * x - b[k]) @ W[k] for k in range(len(W)))


@adaptor.wrong("the features mixed first, then the sum of all maps")
def _(x, W, b, W2):
    g = (x @ W2).softmax(1)
    return (x - g @ b) @ W.sum(0)


@adaptor.wrong("the maps mixed by the mean gate of all items")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1).mean(0, keepdim=True).expand(len(x), -1), _white(x, W, b))


@adaptor.wrong("the shares in the order of the experts turned round")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1).flip(1), _white(x, W, b))


@adaptor.wrong("the gate held still: it learns nothing")
def _(x, W, b, W2):
    return _mixed((x @ W2).softmax(1).detach(), _white(x, W, b)) + 0 * W2.sum()


@adaptor.wrong("exp() of the logits as they are: infinite for a sure gate")
def _(x, W, b, W2):
    e = (x @ W2).exp()
    return _mixed(e / e.sum(1, keepdim=True), _white(x, W, b))
