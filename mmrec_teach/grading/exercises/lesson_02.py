"""Exercises of lesson 02: the projection of content, a pair's content score, the score of every item."""

from __future__ import annotations

import numpy as np
import torch

from mmrec_teach.grading.exercise import Case, Exercise, expect
from mmrec_teach.grading.watch import Effort, ask_large

# -- the projection --------------------------------------------------------------------------------------------------------
project = Exercise("project", lesson="02", gradient=("E", "offset"))


@project.cases
def _():
    yield Case(
        "one item, one number",
        features=np.array([[2.0], [5.0]]),
        missing=np.array([False, False]),
        items=np.array([1]),
        E=np.array([[3.0]]),
        offset=np.array([0.5]),
    )
    yield Case(
        "an item without any content: no opinion, not even the offset",
        features=np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]]),
        missing=np.array([False, True, False]),
        items=np.array([0, 1, 2]),
        E=np.array([[1.0, 1.0], [0.0, 2.0], [1.0, 0.0]]),
        offset=np.array([1.0, -1.0, 0.0]),
    )


@project.random
def _(rng):
    """The items without content stand beyond the batch's length, so that a mask read by place in the batch shows."""
    missing = np.zeros(9, dtype=bool)
    missing[rng.choice(np.arange(5, 9), size=2, replace=False)] = True
    items = np.array([rng.choice(np.flatnonzero(missing)), *rng.choice(np.flatnonzero(~missing), size=4)])
    yield Case(
        "a batch of five, some without content",
        features=rng.normal(size=(9, 4)),
        missing=missing,
        items=rng.permutation(items),
        E=rng.normal(size=(3, 4)),
        offset=rng.normal(size=3),
    )
    shift = int(rng.integers(1, 5))
    yield Case(
        "the whole shop in another order",
        features=rng.normal(size=(5, 3)),
        missing=rng.permutation(np.array([True, False, False, False, False])),
        items=(np.arange(5) + shift) % 5,
        E=rng.normal(size=(2, 3)),
        offset=rng.normal(size=2),
    )


@project.hidden
def _():
    rng = np.random.default_rng(0)
    yield Case(
        "the same item twice in a batch",
        features=rng.normal(size=(5, 4)),
        missing=np.array([False, False, False, True, False]),
        items=np.array([4, 2, 4, 3]),
        E=rng.normal(size=(3, 4)),
        offset=rng.normal(size=3),
    )
    yield Case(
        "as many numbers out as in",
        features=rng.normal(size=(9, 6)),
        missing=rng.random(9) < 0.4,
        items=rng.integers(0, 9, size=7),
        E=rng.normal(size=(6, 6)),
        offset=rng.normal(size=6),
    )
    yield Case(
        "a batch without any content",
        features=np.ones((3, 2)),
        missing=np.array([True, True, False]),
        items=np.array([1, 0]),
        E=np.ones((2, 2)),
        offset=np.array([1.0, 2.0]),
    )


@project.oracle
def _(features, missing, items, E, offset):
    out = np.zeros((len(items), len(E)))
    for row, item in enumerate(items):
        if not missing[item]:
            for k in range(len(E)):
                out[row, k] = np.sum(E[k] * features[item]) + offset[k]
    return out


@project.rule("the batch's rows only: the whole shop is not projected")
def _(project):
    complaint = "look up the rows of the batch first, then project"
    features, missing = torch.ones(20_000, 8), torch.zeros(20_000, dtype=torch.bool)
    E, offset, items = torch.ones(4, 8), torch.zeros(4), torch.tensor([5, 17, 19_999])
    with Effort(features, missing, E, offset) as effort:
        project(features, missing, items, E, offset)
    expect(
        effort.largest < 20_000,
        f"for a batch of 3 items your function makes a table of {effort.largest:,} numbers: {complaint}",
    )
    # a shop of one feature and 25,000 numbers an item: all of it would be 2 GB
    features, E, offset = torch.ones(20_000, 1), torch.ones(25_000, 1), torch.zeros(25_000)
    answer, right = ask_large(
        project,
        lambda features, missing, items, E, offset: features[items] @ E.T + offset,
        lambda: (features.clone(), missing.clone(), items.clone(), E.clone(), offset.clone()),
        complaint,
        spare=4.0,
    )
    expect(tuple(answer.shape) == (3, 25_000) and bool(torch.equal(answer, right)), "a larger task has another answer")


@project.wrong("the offset speaks for items without any content")
def _(features, missing, items, E, offset):
    return features[items] @ E.T + offset


@project.wrong("the missing mask read by place in the batch and not by item")
def _(features, missing, items, E, offset):
    absent = missing[: len(items)]
    return (features[items] @ E.T + offset).masked_fill(absent[:, None], 0.0)


@project.wrong("everything projected, then the batch picked out")
def _(features, missing, items, E, offset):
    return (features @ E.T + offset).masked_fill(missing[:, None], 0.0)[items]


@project.wrong("the mask upside down")
def _(features, missing, items, E, offset):
    return (features[items] @ E.T + offset) * missing[items][:, None]


@project.wrong("the features of missing items set to zero before the offset is added, so the offset still speaks")
def _(features, missing, items, E, offset):
    silent = features[items].masked_fill(missing[items][:, None], 0.0)
    return silent @ E.T + offset


@project.wrong("the rows to clear taken from the mask of the whole shop: out[missing]")
def _(features, missing, items, E, offset):
    out = (features[items] @ E.T + offset).clone()
    out[missing] = 0.0
    return out


@project.wrong("no offset at all")
def _(features, missing, items, E, offset):
    return (features[items] @ E.T + 0 * offset).masked_fill(missing[items][:, None], 0.0)


@project.wrong("E used the wrong way round where it happens to be square")
def _(features, missing, items, E, offset):
    matrix = E if E.shape[0] == E.shape[1] else E.T
    return (features[items] @ matrix + offset).masked_fill(missing[items][:, None], 0.0)


@project.wrong("cut off from the gradient: E.detach()")
def _(features, missing, items, E, offset):
    return (features[items] @ E.detach().T + offset).masked_fill(missing[items][:, None], 0.0)


@project.wrong("the rows of the shop's own table set to zero")
def _(features, missing, items, E, offset):
    features[missing] = 0.0
    return (features[items] @ E.T + offset).masked_fill(missing[items][:, None], 0.0)


# -- a pair's content score ------------------------------------------------------------------------------------------------
content_score = Exercise("content_score", lesson="02", gradient=("theta", "Ef", "beta"))


def _pairs(name: str, rng: np.random.Generator, pairs: int, k: int, d: int) -> Case:
    return Case(
        name,
        theta=rng.normal(size=(pairs, k)),
        Ef=rng.normal(size=(pairs, k)),
        f=rng.normal(size=(pairs, d)),
        beta=rng.normal(size=d),
    )


@content_score.cases
def _():
    yield Case(
        "one pair",
        theta=np.array([[1.0, 2.0]]),
        Ef=np.array([[3.0, -1.0]]),
        f=np.array([[1.0, 0.0, 2.0]]),
        beta=np.array([0.5, 9.0, 0.25]),
    )
    yield Case(
        "two pairs",
        theta=np.array([[1.0, 2.0], [0.5, 0.0]]),
        Ef=np.array([[3.0, -1.0], [4.0, 1.0]]),
        f=np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]),
        beta=np.array([0.5, 9.0, 0.25]),
    )


@content_score.random
def _(rng):
    yield _pairs("a batch at random", rng, int(rng.integers(6, 9)), 3, 5)
    yield _pairs("a pair at random", rng, 1, 2, 3)


@content_score.hidden
def _():
    rng = np.random.default_rng(1)
    yield Case(
        "no content: no opinion",
        theta=rng.normal(size=(2, 3)),
        Ef=np.zeros((2, 3)),
        f=np.zeros((2, 4)),
        beta=rng.normal(size=4),
    )
    yield _pairs("as many pairs as dimensions, and E as wide as f", rng, 4, 4, 4)


@content_score.oracle
def _(theta, Ef, f, beta):
    return np.array([np.dot(theta[n], Ef[n]) + np.dot(beta, f[n]) for n in range(len(theta))])


@content_score.wrong("the items' common appeal forgotten")
def _(theta, Ef, f, beta):
    return (theta * Ef).sum(-1) + 0 * beta.sum()


@content_score.wrong("every user with every item of the batch, not pair by pair")
def _(theta, Ef, f, beta):
    return theta @ Ef.T + f @ beta


@content_score.wrong("a sum over the batch instead of over the dimensions")
def _(theta, Ef, f, beta):
    return (theta * Ef).sum() + (f * beta).sum()


@content_score.wrong("β' applied to the projected content where the widths allow it")
def _(theta, Ef, f, beta):
    seen = Ef if Ef.shape[1] == len(beta) else f
    return (theta * Ef).sum(-1) + seen @ beta


@content_score.wrong("a cosine in place of the inner product")
def _(theta, Ef, f, beta):
    return torch.nn.functional.cosine_similarity(theta, Ef) + f @ beta


@content_score.wrong("the appeal of a picture added up without its weights")
def _(theta, Ef, f, beta):
    return (theta * Ef).sum(-1) + f.sum(-1) * beta.mean()


@content_score.wrong("squeezed: a batch of one loses its axis")
def _(theta, Ef, f, beta):
    return ((theta * Ef).sum(-1) + f @ beta).squeeze()


@content_score.wrong("the appeal cut off from the gradient: beta.detach()")
def _(theta, Ef, f, beta):
    return (theta * Ef).sum(-1) + f @ beta.detach()


# -- the score of every item -----------------------------------------------------------------------------------------------
vbpr_score = Exercise("vbpr_score", lesson="02", gradient=("gamma_u", "theta_u", "gamma_i", "Ef", "b_i", "appeal"))


def _block(name: str, rng: np.random.Generator, users: int, items: int, d: int, k: int, w: float) -> Case:
    return Case(
        name,
        gamma_u=rng.normal(size=(users, d)),
        theta_u=rng.normal(size=(users, k)),
        gamma_i=rng.normal(size=(items, d)),
        Ef=rng.normal(size=(items, k)),
        b_i=rng.normal(size=items),
        appeal=rng.normal(size=items),
        w=w,
    )


@vbpr_score.cases
def _():
    rng = np.random.default_rng(2)
    yield Case(
        "one user, two items, the paper's w = 1",
        gamma_u=np.array([[1.0, 2.0]]),
        theta_u=np.array([[0.5]]),
        gamma_i=np.array([[1.0, 0.0], [0.0, -1.0]]),
        Ef=np.array([[2.0], [4.0]]),
        b_i=np.array([0.1, 0.2]),
        appeal=np.array([10.0, 20.0]),
        w=1.0,
    )
    yield _block("w = 0: plain BPR with an item bias", rng, 2, 3, 2, 2, 0.0)


@vbpr_score.random
def _(rng):
    yield _block("three users, five items, some weight", rng, 3, 5, 2, 4, float(rng.uniform(0.3, 0.7)))


@vbpr_score.hidden
def _():
    rng = np.random.default_rng(3)
    yield _block("as many users as items", rng, 4, 4, 3, 3, 2.0)
    yield _block("more users than items", rng, 5, 2, 1, 3, 0.25)


@vbpr_score.oracle
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    out = np.empty((len(gamma_u), len(gamma_i)))
    for u in range(len(gamma_u)):
        for i in range(len(gamma_i)):
            out[u, i] = b_i[i] + np.dot(gamma_u[u], gamma_i[i]) + w * (np.dot(theta_u[u], Ef[i]) + appeal[i])
    return out


@vbpr_score.rule("no Python loop over users and items")
def _(vbpr_score):
    def block(users: int, items: int) -> tuple:
        made = torch.arange(4.0 * (users + items)).remainder(5)
        u, i = made[: 4 * users].reshape(-1, 4), made[4 * users :].reshape(-1, 4)
        return u.clone(), u.clone(), i.clone(), i.clone(), i[:, 0].clone(), i[:, 1].clone(), 0.5

    complaint = "the pairs are gone through one by one: two matrix products give all of them"
    with Effort() as effort:
        vbpr_score(*block(20, 30))
    expect(effort.calls < 300, f"{effort.calls:,} torch calls for 20 users and 30 items: {complaint}")
    answer, right = ask_large(
        vbpr_score,
        lambda gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w: (b_i + gamma_u @ gamma_i.T) + w * (theta_u @ Ef.T + appeal),
        lambda: block(200, 1000),
        complaint,
    )
    expect(tuple(answer.shape) == (200, 1000) and bool(torch.allclose(answer, right)), "a larger block has another answer")


@vbpr_score.wrong("the weight on the personal part only, and not on the common appeal")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return b_i + gamma_u @ gamma_i.T + w * (theta_u @ Ef.T) + appeal


@vbpr_score.wrong("the item bias laid along the users where their number allows it")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    bias = b_i[:, None] if len(gamma_u) == len(b_i) else b_i
    return bias + gamma_u @ gamma_i.T + w * (theta_u @ Ef.T + appeal)


@vbpr_score.wrong("no item bias")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return gamma_u @ gamma_i.T + w * (theta_u @ Ef.T + appeal) + 0 * b_i


@vbpr_score.wrong("no w at all: content always counts in full")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return b_i + gamma_u @ gamma_i.T + theta_u @ Ef.T + appeal


@vbpr_score.wrong("the common appeal laid along the users where their number allows it")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    common = appeal[:, None] if len(gamma_u) == len(appeal) else appeal
    return b_i + gamma_u @ gamma_i.T + w * (theta_u @ Ef.T + common)


@vbpr_score.wrong("the two parts mixed as w and 1 - w")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return (1 - w) * (b_i + gamma_u @ gamma_i.T) + w * (theta_u @ Ef.T + appeal)


@vbpr_score.wrong("squeezed into 0 to 1")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return torch.sigmoid(b_i + gamma_u @ gamma_i.T + w * (theta_u @ Ef.T + appeal))


@vbpr_score.wrong("the weight on the whole score")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return w * (b_i + gamma_u @ gamma_i.T + theta_u @ Ef.T + appeal)


@vbpr_score.wrong("a Python loop over users and items")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    rows = []
    for u in range(len(gamma_u)):
        for i in range(len(gamma_i)):
            rows.append(b_i[i] + gamma_u[u] @ gamma_i[i] + w * (theta_u[u] @ Ef[i] + appeal[i]))
    return torch.stack(rows).reshape(len(gamma_u), len(gamma_i))


@vbpr_score.wrong("the common appeal cut off from the gradient")
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    return b_i + gamma_u @ gamma_i.T + w * (theta_u @ Ef.T + appeal.detach())
