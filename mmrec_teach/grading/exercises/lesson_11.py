"""Exercises of lesson 11: fusion of modalities, with an ID beside it, diversity of interests, the batch's contrast, item drop."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from mmrec_teach.grading.exercise import Case, Exercise, expect

# -- fusion: the modality that matches better has more to say ---------------------------------------------------------------
fuse_matches = Exercise("fuse_matches", lesson="11", gradient=("cosines", "lam"))


@fuse_matches.cases
def _():
    yield Case(
        "one user, three items: both modalities, picture only, neither",
        cosines=np.array([[[0.8, 0.2], [0.6, 0.0], [0.0, 0.0]]]),
        has=np.array([[True, True], [True, False], [False, False]]),
        lam=np.array(2.0),
    )
    yield Case("two users, four items, λ = 0", **_matches(np.random.default_rng(110), 2, 4, 2), lam=np.array(0.0))


def _matches(rng: np.random.Generator, users: int, items: int, modalities: int) -> dict[str, np.ndarray]:
    """Cosines of every user and token, zero where there is no token; item 0 has all, item 1 one, item 2 none, as real tables do."""
    has = rng.random((items, modalities)) < 0.7
    has[0], has[1], has[2] = True, False, False
    has[1, int(rng.integers(modalities))] = True
    cosines = rng.uniform(-0.9, 0.9, (users, items, modalities))
    cosines[0, 0, 0], cosines[0, 0, 1] = 0.8, -0.6  # one that would change with any other weight
    cosines[0, 1] = -0.7  # a single match below zero: an absent 0 must not beat it
    return {"cosines": cosines * has, "has": has}


@fuse_matches.random
def _(rng):
    given = _matches(rng, int(rng.integers(2, 4)), int(rng.integers(5, 8)), 3)
    yield Case("three modalities, drawn at random", **given, lam=np.array(rng.uniform(1.0, 4.0)))


@fuse_matches.hidden
def _():
    rng = np.random.default_rng(111)
    yield Case("a large λ: the best modality decides", **_matches(rng, 2, 4, 2), lam=np.array(300.0))
    yield Case("a λ below zero: the worst has more to say", **_matches(rng, 2, 4, 2), lam=np.array(-2.0))
    yield Case("one modality only", cosines=np.array([[[0.3], [0.0]]]), has=np.array([[True], [False]]), lam=np.array(1.0))


@fuse_matches.oracle
def _(cosines, has, lam):
    out = np.zeros(cosines.shape[:2])
    for u, i in np.ndindex(*out.shape):
        own = [cosines[u, i, m] for m in range(cosines.shape[2]) if has[i, m]]
        if own:
            highest = max(lam * s for s in own)
            weights = [np.exp(lam * s - highest) for s in own]
            out[u, i] = sum(w * s for w, s in zip(weights, own, strict=True)) / sum(weights)
    return out


@fuse_matches.rule("λ = 0 gives the mean of what is there")
def _(fuse_matches):
    got = fuse_matches(torch.tensor([[[0.8, 0.2, 0.0]]]), torch.tensor([[True, True, False]]), torch.tensor(0.0))
    expect(
        bool(torch.isclose(got.sum(), torch.tensor(0.5))),
        "at λ = 0 an item with matches 0.8 and 0.2, and a third modality that it lacks, should score 0.5",
    )


@fuse_matches.rule("an item without anything passes no gradient on")
def _(fuse_matches):
    cosines = torch.tensor([[[0.5, -0.2], [0.0, 0.0]]], requires_grad=True)
    got = fuse_matches(cosines, torch.tensor([[True, True], [False, False]]), torch.tensor(1.0))
    if isinstance(got, torch.Tensor) and got.requires_grad:  # whether it does at all is another question
        slope = torch.autograd.grad(got.sum(), cosines)[0]
        expect(bool(torch.isfinite(slope).all()), "the gradient holds nan: a softmax over nothing but -inf has no answer")
        expect(not slope[0, 1].any(), "its score is 0, and no gradient belongs to it: multiply by a 0 where nothing is there")


def _shares(cosines, has, lam):
    some = has.any(1, keepdim=True)
    return (lam * cosines).masked_fill(~has & some, -torch.inf).softmax(2) * some


@fuse_matches.wrong("the mean of the modalities: λ is not used")
def _(cosines, has, lam):
    return (cosines * _shares(cosines, has, 0 * lam)).sum(2)


@fuse_matches.wrong("the maximum, whatever λ is")
def _(cosines, has, lam):
    return cosines.masked_fill(~has, -2).amax(2) * has.any(1) + 0 * lam


@fuse_matches.wrong("a missing modality has a say, with cosine 0: exp(0) = 1 stays below the line")
def _(cosines, has, lam):
    return (cosines * (lam * cosines).softmax(2)).sum(2)


@fuse_matches.wrong("an item without any modality gives nan: -inf everywhere")
def _(cosines, has, lam):
    return (cosines * (lam * cosines).masked_fill(~has, -torch.inf).softmax(2)).sum(2)


@fuse_matches.wrong("divided by λ in place of multiplied")
def _(cosines, has, lam):
    some = has.any(1, keepdim=True)
    return ((cosines / lam).masked_fill(~has & some, -torch.inf).softmax(2) * cosines * some).sum(2)


@fuse_matches.wrong("the softmax over items, not over modalities")
def _(cosines, has, lam):
    return (cosines * (lam * cosines).masked_fill(~has, -1e9).softmax(1) * has).sum(2)


@fuse_matches.wrong("the shares themselves are summed: every item scores 1")
def _(cosines, has, lam):
    return _shares(cosines, has, lam).sum(2) + 0 * cosines.sum(2)


@fuse_matches.wrong("the softmax of λ·s taken as the score of the first modality")
def _(cosines, has, lam):
    return _shares(cosines, has, lam)[..., 0] + 0 * cosines.sum(2)


@fuse_matches.wrong("log-sum-exp: a smooth maximum, but not a weighted mean")
def _(cosines, has, lam):
    some = has.any(1)
    safe = torch.where(lam.abs() < 1e-6, torch.full_like(lam, 1e-6), lam)
    return (safe * cosines).masked_fill(~has & some[:, None], -torch.inf).logsumexp(2) / safe * some


@fuse_matches.wrong("the shares held still: λ and the cosines learn nothing from them")
def _(cosines, has, lam):
    return (cosines * _shares(cosines, has, lam).detach()).sum(2) + 0 * lam


@fuse_matches.wrong("a softmax of the cosines alone: λ is left out")
def _(cosines, has, lam):
    return (cosines * _shares(cosines, has, 1 + 0 * lam)).sum(2)


@fuse_matches.wrong("exp by hand: it overflows at a large λ, and inf / inf is nan; softmax does not")
def _(cosines, has, lam):
    weights = (lam * cosines).exp() * has
    return (weights * cosines).sum(2) / weights.sum(2).clamp_min(1e-9)


@fuse_matches.wrong("an item without anything: its score is 0 only because its cosines are, and a gradient still flows")
def _(cosines, has, lam):
    return (cosines * (lam * cosines).masked_fill(~has, -1e9).softmax(2)).sum(2)


@fuse_matches.wrong("summed over modalities in place of averaged")
def _(cosines, has, lam):
    return (cosines * _shares(cosines, has, lam)).sum(2) * has.sum(1)


# -- with IDs --------------------------------------------------------------------------------------------------------------
add_id = Exercise("add_id", lesson="11", gradient=("own", "fused"))


@add_id.cases
def _():
    yield Case(
        "one user, two items, the second without content",
        own=np.array([[0.3, 0.6]]),
        fused=np.array([[0.9, 0.0]]),
        has=np.array([[True, False], [False, False]]),
    )
    yield Case("two users, four items", **_opinions(np.random.default_rng(112), 2, 4))


def _opinions(rng: np.random.Generator, users: int, items: int) -> dict[str, np.ndarray]:
    has = rng.random((items, 2)) < 0.6
    has[0], has[1], has[2] = (True, True), (False, False), (False, True)
    fused = rng.uniform(-0.9, 0.9, (users, items)) * has.any(1)
    return {"own": rng.uniform(-0.9, 0.9, (users, items)), "fused": fused, "has": has}


@add_id.random
def _(rng):
    yield Case("a table at random", **_opinions(rng, int(rng.integers(2, 4)), int(rng.integers(5, 8))))


@add_id.hidden
def _():
    rng = np.random.default_rng(113)
    yield Case("as many users as items", **_opinions(rng, 4, 4))
    cancel = np.array([[True, True], [False, True], [False, False]])
    yield Case("content that scores exactly 0 is content", own=np.array([[0.6, -0.3, 0.5]]), fused=np.zeros((1, 3)), has=cancel)
    yield Case("no item has content", own=np.array([[0.2, -0.4]]), fused=np.zeros((1, 2)), has=np.zeros((2, 2), dtype=bool))


@add_id.oracle
def _(own, fused, has):
    out = np.empty(own.shape)
    for u, i in np.ndindex(*own.shape):
        out[u, i] = (own[u, i] + 2 * fused[u, i]) / 3 if any(has[i]) else own[u, i]
    return out


@add_id.wrong("an item without content is divided by 3 all the same: it can never win")
def _(own, fused, has):
    return (own + 2 * fused) / 3


@add_id.wrong("the sum, not the mean: items with content are three opinions loud")
def _(own, fused, has):
    return own + 2 * fused


@add_id.wrong("ID and content weigh the same")
def _(own, fused, has):
    some = has.any(1)
    return (own + fused) / (1 + some.float())


@add_id.wrong("the ID weighs twice, content once")
def _(own, fused, has):
    some = has.any(1).float()
    return (2 * own + some * fused) / (2 + some)


@add_id.wrong("an item with one modality gets one opinion in place of two")
def _(own, fused, has):
    n = has.sum(1).float()
    return (own + n * fused) / (1 + n)


@add_id.wrong("content only where both modalities are there")
def _(own, fused, has):
    weight = 2.0 * has.all(1).float()
    return (own + weight * fused) / (1 + weight)


@add_id.wrong("a fused score of 0 taken for no content: look at has")
def _(own, fused, has):
    return torch.where(fused == 0, own, (own + 2 * fused) / 3)


@add_id.wrong("the ID left out where there is content")
def _(own, fused, has):
    return torch.where(has.any(1), fused, own)


# -- interests shall differ ------------------------------------------------------------------------------------------------
diversity = Exercise("diversity", lesson="11", gradient=("z",))


@diversity.cases
def _():
    yield Case(
        "a user with two interests, one with a single one",
        z=np.array([[[1.0, 0.0], [2.0, 2.0]], [[0.5, 1.0], [7.0, 7.0]]]),
        known=np.array([[True, True], [True, False]]),
    )
    yield Case("three users", **_interests(np.random.default_rng(114), (4, 2, 1)))


def _interests(rng: np.random.Generator, counts: tuple[int, ...], d: int = 3) -> dict[str, np.ndarray]:
    """Interests of users with so many each; what stands in the padding is not zero and alike, so that it shows if read."""
    known = np.arange(max(counts) + 1) < np.array(counts)[:, None]
    z = rng.normal(size=(*known.shape, d)) * rng.uniform(0.5, 2.0, (*known.shape, 1))
    return {"z": np.where(known[..., None], z, np.array([1.5, -1.0, 2.0, 0.5, 1.0][:d])), "known": known}


@diversity.random
def _(rng):
    counts = rng.permutation([0, 1, 2, 3, 5])[: int(rng.integers(4, 6))].tolist()
    yield Case("users at random", **_interests(rng, (*counts, 4, 2), 4))


@diversity.hidden
def _():
    rng = np.random.default_rng(115)
    yield Case("nobody has two interests", **_interests(rng, (1, 0, 1)))
    opposite = np.array([[[1.0, 0.0], [-3.0, 0.0]]])
    yield Case("two interests that point opposite ways are alike, too", z=opposite, known=np.ones((1, 2), dtype=bool))


@diversity.oracle
def _(z, known):
    users = []
    for rows, there in zip(z, known, strict=True):
        rows = [row / np.sqrt(sum(row**2)) for row, yes in zip(rows, there, strict=True) if yes]
        squares = [sum(a * b) ** 2 for k, a in enumerate(rows) for n, b in enumerate(rows) if k != n]
        if squares:
            users.append(sum(squares) / len(squares))
    return np.array(sum(users) / len(users) if users else 0.0)


def _squares(z, known):
    """(B,) sum of squared cosines of two different interests, and (B,) how many interests there are."""
    unit = normalize(z, dim=2) * known[..., None]
    n = known.sum(1)
    return (unit @ unit.transpose(1, 2)).square().sum((1, 2)) - n, n


@diversity.wrong("the padding counted as interests")
def _(z, known):
    unit = normalize(z, dim=2)
    n = z.shape[1]
    return ((unit @ unit.transpose(1, 2)).square().sum((1, 2)) - n).mean() / max(1, n * (n - 1))


@diversity.wrong("each interest with itself counted: never below 1/n")
def _(z, known):
    squares, n = _squares(z, known)
    many = n > 1
    return ((squares + n) / (n * n).clamp_min(1) * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("each interest with itself among the pairs, divided by n (n - 1)")
def _(z, known):
    squares, n = _squares(z, known)
    many = n > 1
    return ((squares + n) / (n * (n - 1)).clamp_min(1) * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("divided by the pairs of the padded table: N rows in place of n")
def _(z, known):
    squares, n = _squares(z, known)
    many, rows = n > 1, z.shape[1]
    return (squares / max(1, rows * (rows - 1)) * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("N subtracted in place of n: rows of padding have no cosine of 1 with themselves")
def _(z, known):
    squares, n = _squares(z, known)
    many = n > 1
    return ((squares + n - z.shape[1])[many] / (n * (n - 1))[many]).sum() / many.sum().clamp_min(1)


@diversity.wrong("the mean over nobody: nan where no user has two interests")
def _(z, known):
    squares, n = _squares(z, known)
    many = n > 1
    return (squares[many] / (n * (n - 1))[many]).mean()


@diversity.wrong("the cosine itself, not squared: opposite interests lower the loss")
def _(z, known):
    unit = normalize(z, dim=2) * known[..., None]
    n, many = known.sum(1), known.sum(1) > 1
    mean = ((unit @ unit.transpose(1, 2)).sum((1, 2)) - n) / (n * (n - 1)).clamp_min(1)
    return (mean * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("inner products in place of cosines: short vectors count as diverse")
def _(z, known):
    z = z * known[..., None]
    n, many = known.sum(1), known.sum(1) > 1
    table = (z @ z.transpose(1, 2)).square()
    squares = table.sum((1, 2)) - table.diagonal(dim1=1, dim2=2).sum(1)
    return (squares / (n * (n - 1)).clamp_min(1) * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("users with a single interest counted as perfectly diverse")
def _(z, known):
    squares, n = _squares(z, known)
    return (squares / (n * (n - 1)).clamp_min(1)).mean()


@diversity.wrong("all pairs of the batch in one mean: who has many interests counts more")
def _(z, known):
    squares, n = _squares(z, known)
    return squares.sum() / (n * (n - 1)).sum().clamp_min(1)


@diversity.wrong("each pair once, divided as if it were there twice: half")
def _(z, known):
    squares, n = _squares(z, known)
    many = n > 1
    return (squares / 2 / (n * (n - 1)).clamp_min(1) * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("summed over users in place of averaged")
def _(z, known):
    squares, n = _squares(z, known)
    return (squares / (n * (n - 1)).clamp_min(1)).sum()


@diversity.wrong("the sign turned: interests are drawn together")
def _(z, known):
    squares, n = _squares(z, known)
    many = n > 1
    return -(squares / (n * (n - 1)).clamp_min(1) * many).sum() / many.sum().clamp_min(1)


@diversity.wrong("interests of different users compared")
def _(z, known):
    unit = normalize(z[known], dim=1)
    n = len(unit)
    return ((unit @ unit.T).square().sum() - n) / max(1, n * (n - 1))


# -- whose next item is it? ------------------------------------------------------------------------------------------------
seq_item = Exercise("seq_item", lesson="11", gradient=("scores",))


@seq_item.cases
def _():
    yield Case(
        "two histories, three items",
        scores=np.array([[0.7, 0.1, -0.2], [0.3, 0.9, 0.4]]),
        targets=np.array([2, 0]),
        tau=0.5,
    )
    rng = np.random.default_rng(116)
    yield Case(
        "five rows, two ask for the same item",
        scores=rng.uniform(-0.9, 0.9, (5, 7)),
        targets=np.array([6, 2, 6, 0, 4]),
        tau=0.3,
    )


@seq_item.random
def _(rng):
    n_items = int(rng.integers(12, 16))
    few = rng.permutation(n_items)[:5]
    targets = rng.permutation(np.concatenate([few, few[:2], few[:1]]))
    scores = rng.uniform(-0.9, 0.9, (len(targets), n_items))
    yield Case("a batch with targets that come again", scores=scores, targets=targets, tau=float(rng.choice([0.2, 0.3, 0.5])))


@seq_item.hidden
def _():
    rng = np.random.default_rng(117)
    yield Case("all ask for one item", scores=rng.uniform(-0.9, 0.9, (3, 4)), targets=np.array([1, 1, 1]), tau=0.2)
    yield Case("every target once", scores=rng.uniform(-0.9, 0.9, (4, 4)), targets=np.array([2, 0, 3, 1]), tau=0.07)
    yield Case("very sure, and wrong", scores=np.array([[9.0, -9.0], [-9.0, 9.0]]), targets=np.array([1, 0]), tau=0.05)


@seq_item.oracle
def _(scores, targets, tau):
    total = 0.0
    for b, own in enumerate(targets):
        rivals = [scores[b, t] / tau for k, t in enumerate(targets) if k == b or t != own]
        highest = max(rivals)
        total += highest + np.log(sum(np.exp(value - highest) for value in rivals)) - scores[b, own] / tau
    return np.array(total / len(targets))


def _table(scores, targets, tau):
    """(B, B): row b and the target of b'."""
    return scores[:, targets] / tau


def _copies(targets):
    return (targets[:, None] == targets) & ~torch.eye(len(targets), dtype=torch.bool)


def _nce(logits, targets):
    return (logits.masked_fill(_copies(targets), -torch.inf).logsumexp(1) - logits.diagonal()).mean()


@seq_item.wrong("rows that ask for the same item are negatives of each other")
def _(scores, targets, tau):
    logits = _table(scores, targets, tau)
    return (logits.logsumexp(1) - logits.diagonal()).mean()


@seq_item.wrong("all items are negatives: that is the loss of fine-tuning")
def _(scores, targets, tau):
    return cross_entropy(scores / tau, targets)


@seq_item.wrong("the first B items as columns: the targets are not looked up")
def _(scores, targets, tau):
    return _nce(scores[:, : len(targets)] / tau, targets)


@seq_item.wrong("the rows looked up, not the columns")
def _(scores, targets, tau):
    logits = scores[targets % len(scores)][:, targets] / tau
    return _nce(logits, targets)


@seq_item.wrong("cross_entropy of the B x B table with item numbers as targets: row b's own column is b")
def _(scores, targets, tau):
    return cross_entropy(_table(scores, targets, tau), targets % len(targets))


@seq_item.wrong("its own column masked too: nothing to find, and the loss is infinite")
def _(scores, targets, tau):
    logits = _table(scores, targets, tau).masked_fill(targets[:, None] == targets, -torch.inf)
    return (logits.logsumexp(1) - logits.diagonal()).mean()


@seq_item.wrong("the own target left out of the sum: only others below the line")
def _(scores, targets, tau):
    logits = _table(scores, targets, tau)
    others = logits.masked_fill(targets[:, None] == targets, -torch.inf)
    return (others.logsumexp(1) - logits.diagonal()).mean()


@seq_item.wrong("copies set to 0: they stay in the sum, with exp(0) = 1")
def _(scores, targets, tau):
    logits = _table(scores, targets, tau)
    return ((logits * ~_copies(targets)).logsumexp(1) - logits.diagonal()).mean()


@seq_item.wrong("copies counted as right answers, too: above the line as well as below")
def _(scores, targets, tau):
    logits = _table(scores, targets, tau)
    same = logits.masked_fill(targets[:, None] != targets, -torch.inf)
    return (logits.logsumexp(1) - same.logsumexp(1)).mean()


@seq_item.wrong("each target one column: a rival that two rows ask for counts twice")
def _(scores, targets, tau):
    different, own = targets.unique(return_inverse=True)
    return cross_entropy(scores[:, different] / tau, own)


@seq_item.wrong("exp by hand: it overflows when a score is large; logsumexp does not")
def _(scores, targets, tau):
    weights = _table(scores, targets, tau).exp()
    return -(weights.diagonal() / (weights * ~_copies(targets)).sum(1)).log().mean()


@seq_item.wrong("the softmax down the columns: which history wants this item?")
def _(scores, targets, tau):
    return _nce(_table(scores, targets, tau).T, targets)


@seq_item.wrong("the temperature forgotten")
def _(scores, targets, tau):
    return _nce(scores[:, targets], targets)


@seq_item.wrong("multiplied by the temperature")
def _(scores, targets, tau):
    return _nce(scores[:, targets] * tau, targets)


@seq_item.wrong("the sum over the batch")
def _(scores, targets, tau):
    return _nce(_table(scores, targets, tau), targets) * len(targets)


@seq_item.wrong("the sign turned")
def _(scores, targets, tau):
    return -_nce(_table(scores, targets, tau), targets)


@seq_item.wrong("each target once: the mean over items and not over rows")
def _(scores, targets, tau):
    first = torch.stack([(targets == t).nonzero()[0, 0] for t in targets.unique()])
    return _nce(_table(scores[first], targets[first], tau), targets[first])


# -- item drop -------------------------------------------------------------------------------------------------------------
drop_items = Exercise("drop_items", lesson="11")


@drop_items.cases
def _():
    yield Case(
        "the middle one goes; all would go",
        items=np.array([[5, 8, 3], [7, 4, 0]]),
        lengths=np.array([3, 2]),
        gone=np.array([[False, True, False], [True, True, False]]),
    )
    yield Case("three histories", **_dropped(np.random.default_rng(118), 3))


def _dropped(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Histories in which items come again; one is to lose all, one nothing, one its first and its last but one."""
    lengths = np.concatenate([[3, 2, 5], rng.integers(1, 6, rows - 3)]).astype(np.int64)
    inside = np.arange(5) < lengths[:, None]
    items = np.where(inside, rng.integers(1, 40, inside.shape), 0)
    gone = (rng.random(inside.shape) < 0.5) & inside
    gone[0, :3], gone[1], gone[2] = True, False, [True, False, False, True, False]
    items[2] = rng.permutation(np.arange(41, 46))[[4, 0, 1, 2, 3]]
    return {"items": items, "lengths": lengths, "gone": gone}


@drop_items.random
def _(rng):
    yield Case("histories at random", **_dropped(rng, int(rng.integers(4, 8))))


@drop_items.hidden
def _():
    yield Case(
        "item 0 was taken, and stays", items=np.array([[9, 0, 6, 2]]), lengths=np.array([4]),
        gone=np.array([[True, False, False, True]]),
    )  # fmt: skip
    yield Case("a single item is never lost", items=np.array([[4, 0]]), lengths=np.array([1]), gone=np.array([[True, False]]))
    yield Case(
        "the mask says nothing about the padding", items=np.array([[3, 5, 0, 0]]), lengths=np.array([2]),
        gone=np.array([[True, False, False, True]]),
    )  # fmt: skip


@drop_items.oracle
def _(items, lengths, gone):
    out, left = np.zeros_like(items), np.zeros_like(lengths)
    for b, n in enumerate(lengths):
        kept = [items[b, t] for t in range(n) if not gone[b, t]] or [items[b, n - 1]]
        out[b, : len(kept)] = kept
        left[b] = len(kept)
    return out, left


def _there(items, lengths):
    return torch.arange(items.shape[1]) < lengths[:, None]


def _closed(items, kept):
    """Kept items moved to the front, zeros behind, and how many there are."""
    order = (~kept).long().argsort(dim=1, stable=True)
    n = kept.sum(1)
    return items.gather(1, order) * _there(items, n), n


def _kept(items, lengths, gone):
    kept = _there(items, lengths) & ~gone
    alone = torch.arange(items.shape[1]) == lengths[:, None] - 1
    return torch.where(kept.any(1, keepdim=True), kept, alone)


@drop_items.wrong("zeroed, and not closed up: item 0 stands in the gap")
def _(items, lengths, gone):
    kept = _kept(items, lengths, gone)
    return items * kept, kept.sum(1)


@drop_items.wrong("the lengths left as they were: the padding is read")
def _(items, lengths, gone):
    return _closed(items, _kept(items, lengths, gone))[0], lengths.clone()


@drop_items.wrong("a history may lose everything")
def _(items, lengths, gone):
    return _closed(items, _there(items, lengths) & ~gone)


@drop_items.wrong("the oldest item saved, not the latest")
def _(items, lengths, gone):
    kept = _there(items, lengths) & ~gone
    alone = torch.arange(items.shape[1]).expand_as(items) == 0
    return _closed(items, torch.where(kept.any(1, keepdim=True), kept, alone))


@drop_items.wrong("the latest item never dropped, also where others stay")
def _(items, lengths, gone):
    last = torch.arange(items.shape[1]) == lengths[:, None] - 1
    return _closed(items, _there(items, lengths) & (~gone | last))


@drop_items.wrong("nothing dropped where all would go")
def _(items, lengths, gone):
    kept = _there(items, lengths) & ~gone
    return _closed(items, torch.where(kept.any(1, keepdim=True), kept, _there(items, lengths)))


@drop_items.wrong("the mask the other way round: what should go, stays")
def _(items, lengths, gone):
    return _closed(items, _kept(items, lengths, ~gone))


@drop_items.wrong("the padding kept as items")
def _(items, lengths, gone):
    kept = ~gone
    return _closed(items, torch.where(kept.any(1, keepdim=True), kept, torch.arange(items.shape[1]) == 0))


@drop_items.wrong("the kept ones sorted by number: the order is lost")
def _(items, lengths, gone):
    kept = _kept(items, lengths, gone)
    n = kept.sum(1)
    return items.masked_fill(~kept, 10**6).sort(1).values * _there(items, n), n


@drop_items.wrong("the kept ones in reverse")
def _(items, lengths, gone):
    closed, n = _closed(items.flip(1), _kept(items, lengths, gone).flip(1))
    return closed, n


@drop_items.wrong("not closed up, and a history may lose everything")
def _(items, lengths, gone):
    kept = _there(items, lengths) & ~gone
    return items * kept, kept.sum(1)


@drop_items.wrong("every 0 read as padding: item 0 is an item, too")
def _(items, lengths, gone):
    real = items != 0
    n = real.sum(1)
    kept = real & ~gone
    alone = torch.arange(items.shape[1]) == n[:, None] - 1
    return _closed(items, torch.where(kept.any(1, keepdim=True), kept, alone))


@drop_items.wrong("the last column taken for the latest item: it may be padding")
def _(items, lengths, gone):
    kept = _there(items, lengths) & ~gone
    alone = (torch.arange(items.shape[1]) == items.shape[1] - 1).expand_as(items)
    return _closed(items, torch.where(kept.any(1, keepdim=True), kept, alone))
