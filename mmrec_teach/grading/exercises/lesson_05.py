"""Exercises of lesson 05: the distance with a held target, the slow copy, the dropped-out view, BM3's three terms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, normalize

from mmrec_teach.grading.exercise import Case, Exercise, Fresh, expect


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors; 0 where one of them is zero."""
    lengths = np.sqrt(np.sum(a * a)) * np.sqrt(np.sum(b * b))
    return float(np.sum(a * b) / lengths) if lengths > 0 else 0.0


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of 1 - cosine, row by row."""
    return float(np.mean([1.0 - _cosine(x, y) for x, y in zip(a, b, strict=True)]))


def _held(function: Callable, given: dict[str, torch.Tensor], targets: tuple[str, ...]) -> None:
    """Complains when a gradient reaches one of the ``targets`` among the inputs."""
    given = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in given.items()}
    answer = function(*given.values())
    expect(isinstance(answer, torch.Tensor), "the answer is no tensor, so nothing can be learned from it")
    if not answer.requires_grad:
        return  # what is learned is another question
    slopes = torch.autograd.grad(answer.sum(), [given[name] for name in targets], allow_unused=True)
    for name, slope in zip(targets, slopes, strict=True):
        expect(
            slope is None or not bool(slope.any()),
            f"a gradient flows into `{name}`: the target moves toward the prediction, and both may agree by becoming one vector",
        )


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- the distance ----------------------------------------------------------------------------------------------------------
bootstrap_distance = Exercise("bootstrap_distance", lesson="05", gradient=("prediction",))


@bootstrap_distance.cases
def _():
    yield Case("two rows: one agrees, one is at a right angle", prediction=np.array([[2.0, 0.0], [0.0, 3.0]]),
               target=np.array([[5.0, 0.0], [1.0, 0.0]]))  # fmt: skip
    yield Case("three rows of three numbers", prediction=np.array([[1.0, 2.0, 0.5], [-1.0, 0.5, 2.0], [0.3, 0.4, -2.0]]),
               target=np.array([[2.0, -1.0, 1.0], [-2.0, 1.0, 3.0], [1.0, 1.0, 0.2]]))  # fmt: skip


@bootstrap_distance.random
def _(rng):
    batch = int(rng.integers(9, 14))
    yield Case("a batch at random", prediction=rng.normal(size=(batch, 4)), target=rng.normal(size=(batch, 4)))


@bootstrap_distance.hidden
def _():
    rng = np.random.default_rng(5)
    target = rng.normal(size=(4, 3))
    target[2] = 0.0
    yield Case("one target is a row of zeros", prediction=rng.normal(size=(4, 3)), target=target)
    yield Case("as many rows as numbers", prediction=rng.normal(size=(5, 5)), target=rng.normal(size=(5, 5)))
    yield Case("a batch of one", prediction=rng.normal(size=(1, 6)), target=rng.normal(size=(1, 6)))


@bootstrap_distance.oracle
def _(prediction, target):
    return _distance(prediction, target)


@bootstrap_distance.rule("the target is held: no gradient flows into it")
def _(bootstrap_distance):
    _held(bootstrap_distance, {"prediction": _normal(0, 6, 4), "target": _normal(1, 6, 4)}, ("target",))


@bootstrap_distance.wrong("the cosine itself: agreement counted as loss")
def _(prediction, target):
    return cosine_similarity(prediction, target.detach()).mean()


@bootstrap_distance.wrong("inner products: long vectors win")
def _(prediction, target):
    return (1 - (prediction * target.detach()).sum(-1)).mean()


@bootstrap_distance.wrong("the sum over the batch")
def _(prediction, target):
    return (1 - cosine_similarity(prediction, target.detach())).sum()


@bootstrap_distance.wrong("the cosine of columns: taken down the batch")
def _(prediction, target):
    return (1 - cosine_similarity(prediction, target.detach(), dim=0)).mean()


@bootstrap_distance.wrong("every prediction with every target")
def _(prediction, target):
    return (1 - cosine_similarity(prediction[:, None], target.detach()[None], dim=-1)).mean()


@bootstrap_distance.wrong("minus the cosine: the 1 before it is missing")
def _(prediction, target):
    return -cosine_similarity(prediction, target.detach()).mean()


@bootstrap_distance.wrong("squared distance of unit vectors: that is twice one minus the cosine")
def _(prediction, target):
    return (normalize(prediction) - normalize(target.detach())).square().sum(-1).mean()


@bootstrap_distance.wrong("a number for each row: the mean is missing")
def _(prediction, target):
    return 1 - cosine_similarity(prediction, target.detach())


@bootstrap_distance.wrong("divided by a length of zero")
def _(prediction, target):
    a, b = prediction, target.detach()
    return (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean()


@bootstrap_distance.wrong("squared distance, lengths included")
def _(prediction, target):
    return (prediction - target.detach()).square().sum(-1).mean()


@bootstrap_distance.wrong("the target is free to move: no stop-gradient")
def _(prediction, target):
    return (1 - cosine_similarity(prediction, target)).mean()


@bootstrap_distance.wrong("the prediction held in place of the target")
def _(prediction, target):
    return (1 - cosine_similarity(prediction.detach(), target)).mean()


@bootstrap_distance.wrong("both sides held: nothing learns")
def _(prediction, target):
    with torch.no_grad():
        return (1 - cosine_similarity(prediction, target)).mean()


# -- the slow copy ---------------------------------------------------------------------------------------------------------
momentum_update = Exercise("momentum_update", lesson="05")


@momentum_update.cases
def _():
    yield Case("a tenth of the way", target=np.array([[0.0, 10.0]]), online=np.array([[10.0, 20.0]]), tau=0.9)
    yield Case("three quarters of the way", target=np.array([[1.0], [-2.0]]), online=np.array([[5.0], [2.0]]), tau=0.25)


@momentum_update.random
def _(rng):
    tau = float(rng.choice([0.2, 0.3, 0.7, 0.8]))
    yield Case("a table at random", target=rng.normal(size=(6, 3)), online=rng.normal(size=(6, 3)) + 2.0, tau=tau)


@momentum_update.hidden
def _():
    rng = np.random.default_rng(6)
    yield Case("no memory: the copy is the student", target=rng.normal(size=(3, 2)), online=rng.normal(size=(3, 2)), tau=0.0)
    yield Case("frozen: the copy stays", target=rng.normal(size=(3, 2)), online=rng.normal(size=(3, 2)), tau=1.0)


@momentum_update.oracle
def _(target, online, tau):
    return np.array([[tau * t + (1.0 - tau) * o for t, o in zip(x, y)] for x, y in zip(target, online)])


@momentum_update.rule("the copy follows without a gradient")
def _(momentum_update):
    online = _normal(2, 4, 3).requires_grad_(True)
    answer = momentum_update(_normal(3, 4, 3), online, 0.5)
    expect(isinstance(answer, torch.Tensor), "the answer is no tensor, so there is no new copy")
    expect(
        not answer.requires_grad,
        "the new copy hangs on the student's gradient: every step would drag the whole past along",
    )


@momentum_update.wrong("τ at the student: a quick copy in place of a slow one")
def _(target, online, tau):
    with torch.no_grad():
        return (1 - tau) * target + tau * online


@momentum_update.wrong("the student copied, whatever τ says")
def _(target, online, tau):
    return online.detach().clone()


@momentum_update.wrong("a share τ of the old copy, and the whole student on top")
def _(target, online, tau):
    with torch.no_grad():
        return tau * target + online


@momentum_update.wrong("both at weight τ")
def _(target, online, tau):
    with torch.no_grad():
        return tau * (target + online)


@momentum_update.wrong("the student added to the whole of the old copy")
def _(target, online, tau):
    with torch.no_grad():
        return target + (1 - tau) * online


@momentum_update.wrong("a step away from the student")
def _(target, online, tau):
    with torch.no_grad():
        return target - (1 - tau) * (online - target)


@momentum_update.wrong("the plain mean of both")
def _(target, online, tau):
    with torch.no_grad():
        return (target + online) / 2


@momentum_update.wrong("the gradient left on")
def _(target, online, tau):
    return tau * target + (1 - tau) * online


@momentum_update.wrong("the old copy overwritten in place")
def _(target, online, tau):
    with torch.no_grad():
        return target.mul_(tau).add_((1 - tau) * online)


# -- the other view --------------------------------------------------------------------------------------------------------
dropout_view = Exercise("dropout_view", lesson="05")


def _generator(seed: int) -> Fresh:
    return Fresh(lambda: torch.Generator().manual_seed(seed))


@dropout_view.cases
def _():
    yield Case("half of eight numbers", h=np.arange(1.0, 9.0).reshape(2, 4), rate=0.5, generator=_generator(7))
    yield Case("one in five of twenty", h=np.arange(1.0, 21.0).reshape(4, 5), rate=0.2, generator=_generator(11))


@dropout_view.random
def _(rng):
    h = rng.uniform(1.0, 3.0, size=(12, 8))
    yield Case(
        "a table at random", h=h, rate=float(rng.choice([0.2, 0.3, 0.7])), generator=_generator(1 + int(rng.integers(2**30)))
    )


@dropout_view.hidden
def _():
    h = np.arange(1.0, 13.0).reshape(3, 4)
    yield Case("nothing left out", h=h, rate=0.0, generator=_generator(2))
    yield Case("nearly everything left out", h=np.tile(h, (4, 4)), rate=0.9, generator=_generator(3))


@dropout_view.oracle
def _(h, rate, generator):
    keep = torch.empty(h.shape).bernoulli_(1 - rate, generator=generator).numpy() == 1
    return np.where(keep, h / (1.0 - rate), 0.0)


@dropout_view.rule("every view is another one")
def _(dropout_view):
    generator = torch.Generator().manual_seed(4)
    one, other = (dropout_view(torch.ones(20, 10), 0.5, generator) for _ in range(2))
    expect(not bool(torch.equal(one, other)), "asked twice with one generator, your function leaves out the same entries")


@dropout_view.rule("the holes come from the generator")
def _(dropout_view):
    one, again, other = (dropout_view(torch.ones(20, 10), 0.5, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    expect(
        bool(torch.equal(one, again)) and not bool(torch.equal(one, other)),
        "your holes do not follow from `generator`: hand it on to the draw, as generator=generator",
    )


@dropout_view.wrong("what is kept is not scaled up")
def _(h, rate, generator):
    return h * torch.empty(h.shape).bernoulli_(1 - rate, generator=generator)


@dropout_view.wrong("kept and dropped exchanged: `rate` is what stays")
def _(h, rate, generator):
    return h * torch.empty(h.shape).bernoulli_(rate, generator=generator) / (1 - rate)


@dropout_view.wrong("`rate` taken for the share that stays, in the scale too")
def _(h, rate, generator):
    return h * torch.empty(h.shape).bernoulli_(rate, generator=generator) / rate


@dropout_view.wrong("scaled by the share that is left out")
def _(h, rate, generator):
    return h * torch.empty(h.shape).bernoulli_(1 - rate, generator=generator) / rate


@dropout_view.wrong("the holes drawn and not what stays: as good, but not the draw that is asked for")
def _(h, rate, generator):
    return h * (1 - torch.empty(h.shape).bernoulli_(rate, generator=generator)) / (1 - rate)


@dropout_view.wrong("holes where torch.rand is below `rate`: as good, but not the draw that is asked for")
def _(h, rate, generator):
    return h * (torch.rand(h.shape, generator=generator) >= rate) / (1 - rate)


@dropout_view.wrong("torch.bernoulli on a table, or torch.rand below 1 - `rate`: as good, but not the draw that is asked for")
def _(h, rate, generator):
    return h * (torch.rand(h.shape, generator=generator) < 1 - rate) / (1 - rate)


@dropout_view.wrong("scaled down by the share that is kept")
def _(h, rate, generator):
    return h * torch.empty(h.shape).bernoulli_(1 - rate, generator=generator) * (1 - rate)


@dropout_view.wrong("whole rows dropped")
def _(h, rate, generator):
    return h * torch.empty(len(h), 1).bernoulli_(1 - rate, generator=generator) / (1 - rate)


@dropout_view.wrong("whole columns dropped: one draw for all rows")
def _(h, rate, generator):
    return h * torch.empty(h.shape[1]).bernoulli_(1 - rate, generator=generator) / (1 - rate)


@dropout_view.wrong("nothing dropped: the view is the vector itself")
def _(h, rate, generator):
    return h * 1.0


@dropout_view.wrong("a generator of its own, seeded anew at every call")
def _(h, rate, generator):
    own = torch.Generator().manual_seed(0)
    return h * torch.empty(h.shape).bernoulli_(1 - rate, generator=own) / (1 - rate)


@dropout_view.wrong("the vectors themselves overwritten")
def _(h, rate, generator):
    keep = torch.empty(h.shape).bernoulli_(1 - rate, generator=generator)
    h *= keep.to(h) / (1 - rate)
    return h


# -- users and items predict each other ------------------------------------------------------------------------------------
rec_loss = Exercise("rec_loss", lesson="05", gradient=("h_u", "h_i", "W", "b"))


@rec_loss.cases
def _():
    eye, zero = np.eye(2), np.zeros(2)
    yield Case(
        "the identity as predictor",
        h_u=np.array([[1.0, 0.0]]), h_i=np.array([[1.0, 2.0]]), view_u=np.array([[2.0, 0.5]]), view_i=np.array([[0.0, 2.0]]),
        W=eye, b=zero,
    )  # fmt: skip
    yield Case(
        "a predictor that turns and shifts",
        h_u=np.array([[1.0, 0.5], [0.5, -1.0]]), h_i=np.array([[0.3, 2.0], [1.0, 1.0]]),
        view_u=np.array([[2.0, 0.0], [0.5, -2.0]]), view_i=np.array([[0.6, 4.0], [0.0, 2.0]]),
        W=np.array([[0.5, 1.0], [-1.0, 0.2]]), b=np.array([0.3, -0.4]),
    )  # fmt: skip


def _pairs(rng: np.random.Generator, batch: int, d: int) -> dict[str, np.ndarray]:
    tables = {name: rng.normal(size=(batch, d)) for name in ("h_u", "h_i", "view_u", "view_i")}
    return tables | {"W": rng.normal(size=(d, d)), "b": rng.normal(size=d)}


@rec_loss.random
def _(rng):
    yield Case("a batch at random", **_pairs(rng, int(rng.integers(5, 8)), 3))


@rec_loss.hidden
def _():
    rng = np.random.default_rng(8)
    yield Case("as many pairs as numbers", **_pairs(rng, 4, 4))
    yield Case("one pair", **_pairs(rng, 1, 5))


@rec_loss.oracle
def _(h_u, h_i, view_u, view_i, W, b):
    q_u, q_i = np.einsum("kd,bd->bk", W, h_u) + b, np.einsum("kd,bd->bk", W, h_i) + b
    return _distance(q_u, view_i) + _distance(q_i, view_u)


@rec_loss.rule("the views are held: no gradient flows into them")
def _(rec_loss):
    names = ("h_u", "h_i", "view_u", "view_i")
    given = {name: _normal(seed, 5, 3) for seed, name in enumerate(names)} | {"W": _normal(8, 3, 3), "b": _normal(9, 3)}
    _held(rec_loss, given, ("view_u", "view_i"))


def _d(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (1 - cosine_similarity(a, b.detach())).mean()


@rec_loss.wrong("each predicts its own view and not its partner's")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u @ W.T + b, view_u) + _d(h_i @ W.T + b, view_i)


@rec_loss.wrong("one direction only: users predict items")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u @ W.T + b, view_i)


@rec_loss.wrong("the targets pass the predictor too")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u @ W.T + b, view_i @ W.T + b) + _d(h_i @ W.T + b, view_u @ W.T + b)


@rec_loss.wrong("the predictor on the side of the views: they are to be predicted, not to predict")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u, view_i @ W.T + b) + _d(h_i, view_u @ W.T + b)


@rec_loss.wrong("the predictions held in place of the views")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(view_i, h_u @ W.T + b) + _d(view_u, h_i @ W.T + b)


@rec_loss.wrong("no predictor at all")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u, view_i) + _d(h_i, view_u)


@rec_loss.wrong("W used without turning it over")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u @ W + b, view_i) + _d(h_i @ W + b, view_u)


@rec_loss.wrong("the mean of the two directions in place of their sum")
def _(h_u, h_i, view_u, view_i, W, b):
    return (_d(h_u @ W.T + b, view_i) + _d(h_i @ W.T + b, view_u)) / 2


@rec_loss.wrong("the offset forgotten")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u @ W.T, view_i) + _d(h_i @ W.T, view_u)


@rec_loss.wrong("the views are free to move: no stop-gradient")
def _(h_u, h_i, view_u, view_i, W, b):
    one = 1 - cosine_similarity(h_u @ W.T + b, view_i)
    other = 1 - cosine_similarity(h_i @ W.T + b, view_u)
    return one.mean() + other.mean()


@rec_loss.wrong("the vectors held, so that only the predictor learns")
def _(h_u, h_i, view_u, view_i, W, b):
    return _d(h_u.detach() @ W.T + b, view_i) + _d(h_i.detach() @ W.T + b, view_u)


# -- content joins ---------------------------------------------------------------------------------------------------------
align_and_mask = Exercise("align_and_mask", lesson="05", gradient=("h_m", "W", "b"))


@align_and_mask.cases
def _():
    yield Case(
        "two items, both have a picture",
        h_m=np.array([[1.0, 0.5], [0.5, -1.0]]), view_i=np.array([[2.0, 0.3], [0.5, 2.0]]),
        view_m=np.array([[0.0, 1.0], [1.0, -2.0]]), present=np.array([True, True]),
        W=np.array([[0.5, 1.0], [-1.0, 0.2]]), b=np.array([0.3, -0.4]),
    )  # fmt: skip
    yield Case(
        "three items, one without a picture",
        h_m=np.array([[1.0, 0.5], [0.0, 0.0], [0.5, -1.0]]), view_i=np.array([[2.0, 0.3], [1.0, 1.5], [0.5, 2.0]]),
        view_m=np.array([[0.0, 1.0], [0.0, 0.0], [1.0, -2.0]]), present=np.array([True, False, True]),
        W=np.array([[0.5, 1.0], [-1.0, 0.2]]), b=np.array([0.3, -0.4]),
    )  # fmt: skip


def _content(rng: np.random.Generator, present: np.ndarray, d: int) -> dict[str, np.ndarray]:
    h_m, view_i, view_m = (rng.normal(size=(len(present), d)) for _ in range(3))
    h_m[~present] = view_m[~present] = 0.0
    return {
        "h_m": h_m,
        "view_i": view_i,
        "view_m": view_m,
        "present": present,
        "W": rng.normal(size=(d, d)),
        "b": rng.normal(size=d),
    }


@align_and_mask.random
def _(rng):
    present = rng.permutation(8) >= int(rng.integers(2, 5))
    yield Case("eight items, some without a picture", **_content(rng, present, 3))


@align_and_mask.hidden
def _():
    rng = np.random.default_rng(9)
    yield Case("nobody has a picture", **_content(rng, np.zeros(3, dtype=bool), 2))
    yield Case("one of many has a picture", **_content(rng, np.arange(7) == 3, 4))


@align_and_mask.oracle
def _(h_m, view_i, view_m, present, W, b):
    rows = np.flatnonzero(present)
    if not len(rows):
        return np.zeros(2)
    predicted = np.stack([W @ h_m[row] + b for row in rows])
    return np.array([_distance(predicted, view_i[rows]), _distance(predicted, view_m[rows])])


@align_and_mask.rule("the views are held: no gradient flows into them")
def _(align_and_mask):
    given = {name: _normal(seed, 5, 3) for seed, name in enumerate(("h_m", "view_i", "view_m"))}
    given |= {"present": torch.tensor([True, True, False, True, True]), "W": _normal(8, 3, 3), "b": _normal(9, 3)}
    _held(align_and_mask, given, ("view_i", "view_m"))


def _over(values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    return (values * present).sum() / present.sum().clamp_min(1)


@align_and_mask.wrong("items without a picture counted as well")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m @ W.T + b
    return torch.stack([_d(q, view_i), _d(q, view_m)])


@align_and_mask.wrong("divided by the batch and not by those who have a picture")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m @ W.T + b
    return torch.stack([((1 - cosine_similarity(q, view.detach())) * present).mean() for view in (view_i, view_m)])


@align_and_mask.wrong("the sum over the batch")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m @ W.T + b
    return torch.stack([((1 - cosine_similarity(q, view.detach())) * present).sum() for view in (view_i, view_m)])


@align_and_mask.wrong("nobody has a picture: nothing divided by nothing")
def _(h_m, view_i, view_m, present, W, b):
    q = (h_m @ W.T + b)[present]
    return torch.stack([(1 - cosine_similarity(q, view[present].detach())).mean() for view in (view_i, view_m)])


@align_and_mask.wrong("align and mask exchanged")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m @ W.T + b
    return torch.stack([_over(1 - cosine_similarity(q, view.detach()), present) for view in (view_m, view_i)])


@align_and_mask.wrong("those without a picture set to zero, and still counted")
def _(h_m, view_i, view_m, present, W, b):
    q = (h_m @ W.T + b) * present[:, None]
    return torch.stack([_d(q, view_i), _d(q, view_m)])


@align_and_mask.wrong("align the other way round: the item predicts its picture")
def _(h_m, view_i, view_m, present, W, b):
    align = _over(1 - cosine_similarity(view_i @ W.T + b, h_m.detach()), present)
    return torch.stack([align, _over(1 - cosine_similarity(h_m @ W.T + b, view_m.detach()), present)])


@align_and_mask.wrong("the prediction held in place of the views")
def _(h_m, view_i, view_m, present, W, b):
    q = (h_m @ W.T + b).detach()
    return torch.stack([_over(1 - cosine_similarity(q, view), present) for view in (view_i, view_m)])


@align_and_mask.wrong("mask without the predictor")
def _(h_m, view_i, view_m, present, W, b):
    align = _over(1 - cosine_similarity(h_m @ W.T + b, view_i.detach()), present)
    return torch.stack([align, _over(1 - cosine_similarity(h_m, view_m.detach()), present)])


@align_and_mask.wrong("the views pass the predictor too")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m @ W.T + b
    return torch.stack([_over(1 - cosine_similarity(q, (view @ W.T + b).detach()), present) for view in (view_i, view_m)])


@align_and_mask.wrong("the views are free to move: no stop-gradient")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m @ W.T + b
    return torch.stack([_over(1 - cosine_similarity(q, view), present) for view in (view_i, view_m)])


@align_and_mask.wrong("the content held, so that its projection never learns")
def _(h_m, view_i, view_m, present, W, b):
    q = h_m.detach() @ W.T + b
    return torch.stack([_over(1 - cosine_similarity(q, view.detach()), present) for view in (view_i, view_m)])
