"""Cases of lesson 01: the score, negatives drawn without a loop, the pairwise loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mmrec_teach.grading.exercise import Case, Exercise, Fresh, expect
from mmrec_teach.grading.watch import Effort, ask_large

# -- bpr_score --------------------------------------------------------------------------------------------------------------
bpr_score = Exercise("bpr_score", lesson="01", gradient=("user_vectors", "item_vectors"))


@bpr_score.cases
def _score_cases() -> Iterator[Case]:
    yield Case("one pair", user_vectors=np.array([[1.0, 2.0]]), item_vectors=np.array([[3.0, -1.0]]))
    yield Case(
        "two pairs of three dimensions",
        user_vectors=np.array([[1.0, 0.0, 2.0], [0.5, 0.5, 0.5]]),
        item_vectors=np.array([[2.0, 9.0, 1.0], [2.0, 4.0, -6.0]]),
    )


@bpr_score.random
def _score_random(rng: np.random.Generator) -> Iterator[Case]:
    batch, d = int(rng.integers(16, 24)), int(rng.integers(3, 6))
    yield Case("a batch at random", user_vectors=rng.normal(size=(batch, d)), item_vectors=rng.normal(size=(batch, d)))
    yield Case("a pair at random", user_vectors=rng.normal(size=(1, d)), item_vectors=rng.normal(size=(1, d)))


@bpr_score.hidden
def _score_hidden() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    yield Case("as many pairs as dimensions", user_vectors=rng.normal(size=(4, 4)), item_vectors=rng.normal(size=(4, 4)))
    yield Case("vectors of one dimension", user_vectors=rng.normal(size=(3, 1)), item_vectors=rng.normal(size=(3, 1)))


@bpr_score.oracle
def _score_oracle(user_vectors: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    return np.array([float(np.dot(u, i)) for u, i in zip(user_vectors, item_vectors, strict=True)])


@bpr_score.rule("no Python loop over the pairs")
def _score_loop(function) -> None:
    complaint = "the pairs are gone through one by one: multiply the whole tables, then sum over the dimensions"
    u = torch.ones(300, 4)
    with Effort(u) as effort:
        function(u, u)
    expect(effort.calls < 150, f"{effort.calls:,} torch calls for 300 pairs: {complaint}")
    u = torch.arange(300_000.0).remainder(7).reshape(-1, 2)
    answer, right = ask_large(function, lambda u, i: (u * i).sum(-1), lambda: (u.clone(), u.clone()), complaint)
    expect(bool(torch.allclose(answer, right)), "for 150,000 pairs the answer is another one than pair by pair")


@bpr_score.wrong("every user with every item")
def _score_table(user_vectors, item_vectors):
    return user_vectors @ item_vectors.T


@bpr_score.wrong("cosine: the lengths thrown away")
def _score_cosine(user_vectors, item_vectors):
    return torch.nn.functional.cosine_similarity(user_vectors, item_vectors)


@bpr_score.wrong("summed over the batch in place of the dimensions")
def _score_wrong_axis(user_vectors, item_vectors):
    return (user_vectors * item_vectors).sum(0)


@bpr_score.wrong("the mean over the dimensions")
def _score_mean(user_vectors, item_vectors):
    return (user_vectors * item_vectors).mean(-1)


@bpr_score.wrong("squeezed: a batch of one loses its axis")
def _score_squeezed(user_vectors, item_vectors):
    return (user_vectors * item_vectors).sum(-1).squeeze()


@bpr_score.wrong("cut off from the gradient: .detach()")
def _score_detached(user_vectors, item_vectors):
    return (user_vectors.detach() * item_vectors.detach()).sum(-1)


@bpr_score.wrong("the users' vectors overwritten by the products")
def _score_in_place(user_vectors, item_vectors):
    user_vectors *= item_vectors
    return user_vectors.sum(-1)


@bpr_score.wrong("a Python loop over the pairs")
def _score_looped(user_vectors, item_vectors):
    return torch.stack([torch.dot(user_vectors[t], item_vectors[t]) for t in range(len(user_vectors))])


# -- sample_negatives ---------------------------------------------------------------------------------------------------------
sample_negatives = Exercise("sample_negatives", lesson="01")


def _taken(seed: int, n_users: int, n_items: int, share: float) -> torch.Tensor:
    """(n_users, n_items) bool: who took what; nobody took everything."""
    table = torch.rand(n_users, n_items, generator=torch.Generator().manual_seed(seed)) < share
    table[:, 0] &= ~table.all(1)
    return table


def _one_left(name: str, users: np.ndarray, left: np.ndarray, n_items: int, seed: int) -> Case:
    """A case with one right answer: user u took everything but item left[u]."""
    taken = np.ones((len(left), n_items), dtype=bool)
    taken[np.arange(len(left)), left] = False
    return Case(name, users=users, taken=taken, generator=Fresh(lambda: torch.Generator().manual_seed(seed)))


@sample_negatives.cases
def _negative_cases() -> Iterator[Case]:
    yield _one_left("one user with one item left", np.array([0]), np.array([2]), 4, 0)
    yield _one_left("three users with one item left", np.array([0, 1, 2, 1]), np.array([0, 3, 5]), 6, 1)


@sample_negatives.random
def _negative_random(rng: np.random.Generator) -> Iterator[Case]:
    users, left = rng.integers(0, 8, 60), rng.integers(0, 40, 8)
    yield _one_left("one item left, wherever it is", users, left, 40, int(rng.integers(2**31)))


@sample_negatives.hidden
def _negative_hidden() -> Iterator[Case]:
    yield _one_left("one item left, and it is the first or the last", np.array([1, 0, 1]), np.array([0, 24]), 25, 2)


@sample_negatives.oracle
def _negative_oracle(users: np.ndarray, taken: np.ndarray, generator: torch.Generator) -> np.ndarray:
    return np.array([int(np.flatnonzero(~taken[user])[0]) for user in users])


def _draw(function, users: torch.Tensor, taken: torch.Tensor, seed: int) -> torch.Tensor:
    items = function(users.clone(), taken.clone(), torch.Generator().manual_seed(seed))
    expect(isinstance(items, torch.Tensor), f"a tensor is expected, and this is {type(items).__name__}")
    expect(tuple(items.shape) == tuple(users.shape), f"one item per user: shape {tuple(users.shape)}, not {tuple(items.shape)}")
    expect(items.dtype == torch.int64, f"item numbers are integers (int64), and these are {items.dtype}")
    low, high = int(items.min()), int(items.max())
    expect(low >= 0 and high < taken.shape[1], f"items from {low} to {high}; the catalogue goes from 0 to {taken.shape[1] - 1}")
    return items


@sample_negatives.rule("one item number for each user of the batch", core=True)
def _shape_rule(function) -> None:
    taken = _taken(0, 6, 9, 0.3)
    _draw(function, torch.tensor([0, 3, 3, 5, 1]), taken, 0)


@sample_negatives.rule("never an item the user took", core=True)
def _never_rule(function, rng: np.random.Generator) -> None:
    for share in (0.2, 0.8):
        n_users, seed = int(rng.integers(15, 25)), int(rng.integers(2**31))
        taken = _taken(seed, n_users, int(rng.integers(20, 30)), share)
        users = torch.arange(n_users).repeat(30)
        items = _draw(function, users, taken, seed)
        wrong = int(taken[users, items].sum())
        expect(
            wrong == 0, f"{wrong} of {len(items)} drawn items were taken by their user (users took {share:.0%} of the items)"
        )


def _evenly(counts: torch.Tensor, words: str) -> None:
    """Refuse counts that equal chances do not give: six standard deviations are one honest answer in a hundred million."""
    n, kinds = int(counts.sum()), len(counts)
    expected = n / kinds
    z = ((counts.double() - expected).abs() / (expected * (1 - 1 / kinds)) ** 0.5).max()
    expect(float(z) < 6.0, f"over {n} draws {words} came up {counts.tolist()} times; about {expected:.0f} each is expected")


@sample_negatives.rule("every untaken item is equally likely", core=True)
def _uniform_rule(function) -> None:
    taken = torch.zeros(1, 10, dtype=torch.bool)
    taken[0, :4] = True
    items = _draw(function, torch.zeros(2000, dtype=torch.int64), taken, 4)
    expect(int(items.min()) >= 4, "items that the user took were drawn")
    _evenly(torch.bincount(items, minlength=10)[4:], "the 6 untaken items")


@sample_negatives.rule("equally likely for each user", core=True)
def _uniform_for_all_rule(function, rng: np.random.Generator) -> None:
    n_users, n_items, seed = int(rng.integers(3, 6)), int(rng.integers(25, 35)), int(rng.integers(2**31))
    taken = _taken(seed, n_users, n_items, 0.3)
    items = _draw(function, torch.arange(n_users).repeat(3000), taken, seed).reshape(3000, n_users)
    for user in range(n_users):
        counts = torch.bincount(items[:, user], minlength=n_items)
        expect(int(counts[taken[user]].sum()) == 0, "items that the user took were drawn")
        _evenly(counts[~taken[user]], f"the untaken items of user {user}")


@sample_negatives.rule("what other users took is drawn as well", core=True)
def _others_rule(function) -> None:
    taken = torch.zeros(2, 10, dtype=torch.bool)
    taken[0, :4] = True
    items = _draw(function, torch.arange(2).repeat(1500), taken, 4)[1::2]
    _evenly(torch.bincount(items, minlength=10), "the 10 items, for a user who took none of them,")


@sample_negatives.rule("rows of one user are drawn one by one")
def _independent_rule(function) -> None:
    taken = _taken(5, 4, 50, 0.3)
    taken[1:] = False
    items = _draw(function, torch.zeros(400, dtype=torch.int64), taken, 5)
    free = int((~taken[0]).sum())
    found = len(items.unique())
    expect(found > 0.9 * free, f"400 rows of one user met only {found} of {free} untaken items: draw anew for each row")


@sample_negatives.rule("the same generator state draws the same items")
def _generator_rule(function) -> None:
    taken = _taken(6, 30, 40, 0.3)
    users = torch.arange(30).repeat(4)
    one, again, other = (_draw(function, users, taken, seed) for seed in (6, 6, 7))
    expect(torch.equal(one, again), "twice the same seed gave different items: draw from the generator that was passed")
    expect(not torch.equal(one, other), "two seeds gave the same items: draw from the generator that was passed")


@sample_negatives.rule("two draws in a row differ")
def _next_rule(function) -> None:
    taken = _taken(6, 30, 40, 0.3)
    users = torch.arange(30).repeat(4)
    generator = torch.Generator().manual_seed(9)
    one, other = (function(users.clone(), taken.clone(), generator) for _ in range(2))
    expect(
        not torch.equal(one, other),
        "called twice with one generator, your function draws the same items both times: draw from that generator itself, "
        "not from a new one made with its seed",
    )


def _negatives_right(users: torch.Tensor, taken: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    items = torch.randint(taken.shape[1], users.shape, generator=generator)
    while (unlucky := taken[users, items]).any():
        items[unlucky] = torch.randint(taken.shape[1], (int(unlucky.sum()),), generator=generator)
    return items


@sample_negatives.rule("no Python loop over the rows")
def _loop_rule(function) -> None:
    complaint = "the rows are gone through one by one. Draw for all rows at once, then again for the unlucky ones only"
    taken = _taken(7, 10, 40, 0.3)
    users = torch.arange(10).repeat(40)
    with Effort() as effort:
        function(users, taken, torch.Generator().manual_seed(7))
    expect(effort.calls < len(users) // 2, f"{effort.calls:,} torch calls for {len(users):,} rows: {complaint}")
    many = torch.arange(10).repeat(20_000)
    answer, _ = ask_large(
        function, _negatives_right, lambda: (many.clone(), taken.clone(), torch.Generator().manual_seed(8)), complaint
    )
    expect(int(taken[many, answer].sum()) == 0, "among 200,000 rows some drew an item that their user took")


@sample_negatives.wrong("a Python loop over the rows")
def _negatives_loop(users, taken, generator):
    items = torch.zeros_like(users)
    for row, user in enumerate(users.tolist()):
        item = int(torch.randint(taken.shape[1], (1,), generator=generator))
        while taken[user, item]:
            item = int(torch.randint(taken.shape[1], (1,), generator=generator))
        items[row] = item
    return items


@sample_negatives.wrong("no look at what the user took")
def _negatives_blind(users, taken, generator):
    return torch.randint(taken.shape[1], users.shape, generator=generator)


@sample_negatives.wrong("redrawn once, then hoped for the best")
def _negatives_once(users, taken, generator):
    items = torch.randint(taken.shape[1], users.shape, generator=generator)
    bad = taken[users, items]
    items[bad] = torch.randint(taken.shape[1], (int(bad.sum()),), generator=generator)
    return items


@sample_negatives.wrong("the next untaken item in place of a new draw")
def _negatives_next(users, taken, generator):
    items = torch.randint(taken.shape[1], users.shape, generator=generator)
    while (bad := taken[users, items]).any():
        items[bad] = (items[bad] + 1) % taken.shape[1]
    return items


@sample_negatives.wrong("one negative a user, whatever the number of rows")
def _negatives_shared(users, taken, generator):
    per_user = torch.multinomial((~taken).float(), 1, generator=generator)[:, 0]
    return per_user[users]


@sample_negatives.wrong("items nobody took")
def _negatives_unsold(users, taken, generator):
    free = (~taken).float() * (~taken.any(0)).float() + 1e-9 * (~taken).float()
    return torch.multinomial(free[users], 1, generator=generator)[:, 0]


@sample_negatives.wrong("drawn items noted as taken in the caller's own table")
def _negatives_noted(users, taken, generator):
    items = torch.multinomial((~taken).float()[users], 1, generator=generator)[:, 0]
    taken[users, items] = True
    return items


@sample_negatives.wrong("a new generator at every call, made with the old one's first seed")
def _negatives_reseeded(users, taken, generator):
    fresh = torch.Generator().manual_seed(generator.initial_seed())
    return torch.multinomial((~taken).float()[users], 1, generator=fresh)[:, 0]


@sample_negatives.wrong("a random number generator of its own")
def _negatives_global(users, taken, generator):
    return torch.multinomial((~taken).float()[users], 1)[:, 0]


# -- bpr_loss ---------------------------------------------------------------------------------------------------------------
bpr_loss = Exercise("bpr_loss", lesson="01", gradient=("pos", "neg"))


@bpr_loss.cases
def _loss_cases() -> Iterator[Case]:
    yield Case("one pair", pos=np.array([2.0]), neg=np.array([0.5]))
    yield Case("one pair the wrong way round", pos=np.array([0.0, 1.0]), neg=np.array([4.0, 0.0]))


@bpr_loss.random
def _loss_random(rng: np.random.Generator) -> Iterator[Case]:
    # on average the right item is ahead, so that the sign shows whatever the draw
    yield Case("many pairs at random", pos=rng.normal(size=24) + 1.5, neg=rng.normal(size=24))


@bpr_loss.hidden
def _loss_hidden() -> Iterator[Case]:
    yield Case("equal scores", pos=np.array([1.0, -3.0]), neg=np.array([1.0, -3.0]))
    yield Case("a batch of one, wrong by 3", pos=np.array([-1.0]), neg=np.array([2.0]))
    rng = np.random.default_rng(4)
    yield Case("two hundred pairs", pos=rng.normal(size=200), neg=rng.normal(size=200))


@bpr_loss.oracle
def _loss_oracle(pos: np.ndarray, neg: np.ndarray) -> float:
    return float(np.mean(np.log1p(np.exp(-(pos - neg)))))


@bpr_loss.rule("stays finite for very wrong pairs")
def _loss_finite(function, rng: np.random.Generator) -> None:
    margin = float(rng.integers(200, 800))
    loss = function(torch.tensor([-margin / 2]), torch.tensor([margin / 2]))
    expect(bool(torch.isfinite(loss)), f"with a margin of -{margin:g} the loss is not finite; use logsigmoid or softplus")


@bpr_loss.rule("keeps its slope for very wrong pairs")
def _loss_slope(function, rng: np.random.Generator) -> None:
    margin = float(rng.integers(200, 800))
    pos = torch.tensor([-margin / 2], requires_grad=True)
    loss = function(pos, torch.tensor([margin / 2]))
    expect(isinstance(loss, torch.Tensor) and loss.requires_grad, "no gradient flows")
    (slope,) = torch.autograd.grad(loss.sum(), pos, allow_unused=True)
    expect(slope is not None, "no gradient reaches `pos`")
    pull = round(float(slope), 3) + 0.0  # no minus zero
    lesson = (
        "nothing is learned"
        if pull == 0
        else "the model learns the opposite"
        if pull > 0
        else "the pull is not that of the loss"
    )
    expect(abs(pull + 1) < 1e-3, f"with a margin of -{margin:g} the slope is {pull:g} in place of -1: {lesson}")


@bpr_loss.rule("only the difference counts")
def _loss_shift(function) -> None:
    pos, neg = torch.tensor([0.3, -1.0]), torch.tensor([0.1, 0.5])
    one, other = float(function(pos, neg)), float(function(pos + 7, neg + 7))
    expect(abs(one - other) < 1e-4, f"adding 7 to both scores moves the loss from {one:.4f} to {other:.4f}")


@bpr_loss.wrong("the pair the wrong way round")
def _loss_swapped(pos, neg):
    return -torch.nn.functional.logsigmoid(neg - pos).mean()


@bpr_loss.wrong("the minus sign left out: the worse a pair, the lower the loss")
def _loss_no_minus(pos, neg):
    return torch.nn.functional.logsigmoid(pos - neg).mean()


@bpr_loss.wrong("the sum in place of the mean")
def _loss_summed(pos, neg):
    return -torch.nn.functional.logsigmoid(pos - neg).sum()


@bpr_loss.wrong("the logarithm left out")
def _loss_no_log(pos, neg):
    return -torch.sigmoid(pos - neg).mean()


@bpr_loss.wrong("each score by itself: pointwise cross-entropy")
def _loss_pointwise(pos, neg):
    return -(torch.nn.functional.logsigmoid(pos) + torch.nn.functional.logsigmoid(-neg)).mean()


@bpr_loss.wrong("a hinge in place of the logistic")
def _loss_hinge(pos, neg):
    return torch.relu(1 - (pos - neg)).mean()


@bpr_loss.wrong("the logarithm of a sigmoid that has become zero")
def _loss_overflowing(pos, neg):
    return -torch.log(torch.sigmoid(pos - neg)).mean()


@bpr_loss.wrong("a small constant against the logarithm of zero")
def _loss_released(pos, neg):
    return -torch.log(1e-10 + torch.sigmoid(pos - neg)).mean()


@bpr_loss.wrong("cut off from the gradient: .item() makes a plain number of it")
def _loss_item(pos, neg):
    return torch.tensor(torch.nn.functional.softplus(neg - pos).mean().item())


@bpr_loss.wrong("the caller's scores overwritten by the margin")
def _loss_in_place(pos, neg):
    pos -= neg
    return torch.nn.functional.softplus(-pos).mean()
