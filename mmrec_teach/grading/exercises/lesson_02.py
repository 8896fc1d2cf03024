"""Exercises of lesson 02: the projection of content, a pair's content score, the score of every item."""

from __future__ import annotations

import numpy as np
import torch

from mmrec_teach.grading.exercise import Case, Exercise, expect
from mmrec_teach.grading.watch import Effort

# -- the projection --------------------------------------------------------------------------------------------------------
project = Exercise("project", lesson="02", gradient=("E", "offset"))


@project.cases
def _():
    rng = np.random.default_rng(0)
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
    features, missing = torch.ones(20_000, 8), torch.zeros(20_000, dtype=torch.bool)
    E, offset = torch.ones(4, 8), torch.zeros(4)
    with Effort(features, missing, E, offset) as effort:
        project(features, missing, torch.tensor([5, 17, 19_999]), E, offset)
    expect(
        effort.largest < 20_000,
        f"for a batch of 3 items your function makes a table of {effort.largest:,} numbers: look up the rows first, then project",
    )


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


# -- a pair's content score ------------------------------------------------------------------------------------------------
content_score = Exercise("content_score", lesson="02", gradient=("theta", "Ef", "beta"))


@content_score.cases
def _():
    rng = np.random.default_rng(1)
    yield Case(
        "one pair",
        theta=np.array([[1.0, 2.0]]),
        Ef=np.array([[3.0, -1.0]]),
        f=np.array([[1.0, 0.0, 2.0]]),
        beta=np.array([0.5, 9.0, 0.25]),
    )
    yield Case(
        "no content: no opinion",
        theta=rng.normal(size=(2, 3)),
        Ef=np.zeros((2, 3)),
        f=np.zeros((2, 4)),
        beta=rng.normal(size=4),
    )
    yield Case(
        "eight pairs",
        theta=rng.normal(size=(8, 3)),
        Ef=rng.normal(size=(8, 3)),
        f=rng.normal(size=(8, 5)),
        beta=rng.normal(size=5),
    )
    yield Case(
        "as many pairs as dimensions, and E as wide as f",
        theta=rng.normal(size=(4, 4)),
        Ef=rng.normal(size=(4, 4)),
        f=rng.normal(size=(4, 4)),
        beta=rng.normal(size=4),
    )


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


# -- the score of every item -----------------------------------------------------------------------------------------------
vbpr_score = Exercise("vbpr_score", lesson="02", gradient=("gamma_u", "theta_u", "gamma_i", "Ef", "b_i", "appeal"))


@vbpr_score.cases
def _():
    rng = np.random.default_rng(2)

    def case(name: str, users: int, items: int, d: int, k: int, w: float) -> Case:
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

    yield case("one user, two items, the paper's w = 1", 1, 2, 2, 1, 1.0)
    yield case("w = 0: plain BPR with an item bias", 2, 3, 2, 2, 0.0)
    yield case("three users, five items, half the weight", 3, 5, 2, 4, 0.5)
    yield case("as many users as items", 4, 4, 3, 3, 2.0)


@vbpr_score.oracle
def _(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    out = np.empty((len(gamma_u), len(gamma_i)))
    for u in range(len(gamma_u)):
        for i in range(len(gamma_i)):
            out[u, i] = b_i[i] + np.dot(gamma_u[u], gamma_i[i]) + w * (np.dot(theta_u[u], Ef[i]) + appeal[i])
    return out


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
