# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 01 · BPR: learning from pairs
# *50 minutes · 6 points · needs lesson 00 · after this you can train a recommender from clicks alone with three short functions, and say what it
# will never learn.*
#
# Mia took a rug. She did not take hundreds of other things. Does she dislike them? Surely not: most of them she never saw.
# So "taken = 1, not taken = 0" teaches a model something false.
#
# Bayesian Personalized Ranking (Rendle et al. 2009, arXiv:1205.2618) asks for less: **the thing she took should score higher than a thing she
# did not take.** No more than that, for many pairs of things.
#
# (How a lesson works stands at the top of lesson 00: commit predictions, put your lines in place of each `raise`, `check`, go on.)

# %%
import numpy as np
import pandas as pd
import torch

from mmrec_teach.evaluation import compare
from mmrec_teach.models import BPR, Batch
from mmrec_teach.notebook import check, create, evaluate, figures, fit, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.ops import losses
from mmrec_teach.training.sampling import NegativeSampler
from mmrec_teach.views import Projector, Setting, replay

bazaar = load("bazaar")
mia = int(np.flatnonzero(bazaar.user_ids == "v0660")[0])
category = bazaar.items["category"].to_numpy()
warm = ~bazaar.cold_items  # items with at least one training interaction
SETTINGS = {"lr": 5e-3, "batch_size": 1024}
print(bazaar)

# %% tags=["predict"]
predict(
    "bpr-place",
    "BPR sees who took what, and neither picture nor caption. Where does its test recall@20 end up?",
    options=["below popularity", "between popularity and item-kNN", "above item-kNN"],
)

# %% [markdown]
# ## A score is an inner product
# Give every user $u$ a vector $\gamma_u$ and every item $i$ a vector $\gamma_i$, both with $d$ numbers. At first they are noise. The score is
#
# $$s_{ui} = \gamma_u \cdot \gamma_i = \sum_{k=1}^{d} \gamma_{uk}\,\gamma_{ik}$$
#
# It is large where both point the same way. A batch holds $B$ pairs, so we need $B$ scores: row 1 with row 1, row 2 with row 2.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 4 min · 1 point · difficulty 1 of 3
# Write `bpr_score`: the inner product of each user with her item.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "bpr_score", "title": "the inner product of each user with her item", "points": 1, "minutes": 4, "difficulty": 1, "hints": ["Row t of the answer uses row t of both tables and nothing else.", "Multiply the two tables entry by entry; both have the shape (B, d).", "Then sum over the last axis: .sum(-1) leaves (B,)."]}
def bpr_score(user_vectors, item_vectors):
    """Scores of B pairs.

    Args:
        user_vectors, item_vectors: (B, d) float tensors; row t of both makes pair t.
    Returns:
        (B,) float tensor.
    """
    raise NotImplementedError("Write `bpr_score`: the inner product of each user with her item")

# %%
check("bpr_score")

# %%
hint("bpr_score")

# %% [markdown]
# ## Where do the other halves of the pairs come from?
# Training data holds what was taken. The item that was *not* taken we draw: for each row one **negative**, uniformly among all things
# that this user did not take. Drawn anew in each epoch, so that over time every untaken thing gets its turn.
#
# Two rules. A negative is **never** something the user took: that would teach the opposite of the truth. And no Python loop over rows:
# there are ten thousand an epoch.
#
# One way: draw for all rows at once, look which rows were unlucky, and draw again **for those rows only** until none is left.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 12 min · 3 points · difficulty 2 of 3
# Write `sample_negatives`: for each row an item that its user did not take.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "sample_negatives", "title": "for each row an item that its user did not take", "points": 3, "minutes": 12, "difficulty": 2, "hints": ["torch.randint(n, size, generator=generator) draws whole numbers from 0 to n - 1. Start with one for every row.", "taken[users, items] says for each row whether it hit something taken. Those rows, and only those, are drawn again.", "bad = taken[users, items]; while bad.any(): draw int(bad.sum()) new numbers into items[bad], then compute bad again."]}
def sample_negatives(users, taken, generator):
    """Draw one untaken item for each row, uniformly.

    Args:
        users: (B,) int64, the user of each row; the same user may occur often.
        taken: (U, I) bool, True where user u took item i. Nobody took everything.
        generator: torch.Generator to draw from.
    Returns:
        (B,) int64 item numbers; taken[users, answer] is False everywhere.
    """
    raise NotImplementedError("Write `sample_negatives`: for each row an item that its user did not take")

# %%
check("sample_negatives")

# %%
hint("sample_negatives")

# %% [markdown]
# ## The loss of a pair
# The model believes that $u$ prefers $i$ to $j$ with probability $\sigma(s_{ui} - s_{uj})$, where $\sigma(x) = 1/(1+e^{-x})$.
# We want that to be high for all pairs, so we minimise minus its logarithm, plus a penalty on large vectors:
#
# $$\mathcal L = -\frac{1}{B}\sum_{(u,i,j)} \ln \sigma(s_{ui} - s_{uj})
# \;+\; \frac{\lambda}{2B}\sum_{(u,i,j)} \left(\lVert\gamma_u\rVert^2 + \lVert\gamma_i\rVert^2 + \lVert\gamma_j\rVert^2\right)$$
#
# The weight $\lambda$ says how much length costs. (The paper writes the penalty $\lambda\lVert\Theta\rVert^2$, with $\Theta$ for all
# learned numbers. We divide by $2B$, so that $\lambda$ means the same for every batch size.)
#
# Only the **difference** of two scores occurs. Here is its price.

# %%
margin = torch.linspace(-6, 6, 121, requires_grad=True)
price = torch.nn.functional.softplus(-margin)
(slope,) = torch.autograd.grad(price.sum(), margin)
figures.lines(
    margin.tolist(), {"loss −ln σ(margin)": price.tolist(), "pull on the margin (minus the slope)": (-slope).tolist()},
    x_title="margin: score of the taken item minus score of the other", y_title="loss, pull",
    title="A pair in the wrong order is pulled with full force; a pair in good order is left alone",
)

# %% [markdown]
# *Takeaway: equal scores cost ln 2 ≈ 0.69 and are pulled with 0.5. Far to the right there is nothing left to learn.*
#
# Mind the numbers: for a very wrong pair $\sigma$ is so small that a computer rounds it to zero, and the logarithm of zero is minus
# infinity. `torch.nn.functional` has `logsigmoid(x)` and `softplus(x)` $= \ln(1+e^x)$, which do not fall into that hole.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 1 of 3
# Write `bpr_loss`: the mean of -ln sigmoid(pos - neg), safe for very wrong pairs.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "bpr_loss", "title": "the mean of -ln sigmoid(pos - neg), safe for very wrong pairs", "points": 2, "minutes": 8, "difficulty": 1, "hints": ["Everything depends on one quantity: the margin pos - neg.", "-ln sigmoid(x) is the same as softplus(-x); torch.nn.functional has both logsigmoid and softplus.", "Take the function of the margin for every pair, then the mean over the batch. Mind the sign: a better margin must cost less."]}
def bpr_loss(pos, neg):
    """The BPR loss of B pairs, without the penalty.

    Args:
        pos: (B,) scores of the items taken.
        neg: (B,) scores of the items not taken.
    Returns:
        a single number (0-d tensor), through which gradients flow.
    """
    raise NotImplementedError("Write `bpr_loss`: the mean of -ln sigmoid(pos - neg), safe for very wrong pairs")

# %%
check("bpr_loss")

# %%
hint("bpr_loss")

# %% [markdown]
# ## Train it, all your own
# Three functions and an optimiser are a recommender. Items that were not yet for sale cannot have been passed over, so we mark the
# cold items as "taken" for everybody: they are never drawn. (What if they were? We measure that below.)

# %%
def train_by_hand(epochs=12, dim=32):
    """A user and an item table trained with your functions; returns scores of all users for all items."""
    generator = torch.Generator().manual_seed(0)
    user_table = (0.1 * torch.randn(bazaar.n_users, dim, generator=generator)).requires_grad_()
    item_table = (0.1 * torch.randn(bazaar.n_items, dim, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([user_table, item_table], lr=SETTINGS["lr"])
    not_offered = torch.from_numpy(bazaar.matrix("train").toarray() > 0) | torch.from_numpy(bazaar.cold_items.copy())
    users, items = torch.from_numpy(bazaar.train.users.copy()), torch.from_numpy(bazaar.train.items.copy())
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(users), generator=generator)
        negatives = sample_negatives(users, not_offered, generator)
        for rows in order.split(SETTINGS["batch_size"]):
            u, i, j = user_table[users[rows]], item_table[items[rows]], item_table[negatives[rows]]
            penalty = (u.square().sum() + i.square().sum() + j.square().sum()) / (2 * len(rows))
            loss = bpr_loss(bpr_score(u, i), bpr_score(u, j)) + 0.01 * penalty  # λ = 0.01
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 4 == 0:
            print(f"epoch {epoch:2}: loss of the last batch {loss.item():.3f}")
    return (user_table @ item_table.T).detach()


class ByHand:
    """Just enough of a model for `evaluate`: it can score."""

    def __init__(self, table):
        self.score = lambda users: table[users].clone()
        self.evaluating = torch.no_grad


popularity = create("popularity", bazaar)
by_hand = evaluate(ByHand(train_by_hand()), bazaar, "test").mean()
print(f"Your BPR finds {by_hand:.3f} of the hidden purchases; popularity {evaluate(popularity, bazaar, 'test').mean():.3f}.")

# %% [markdown]
# *Takeaway: a few seconds, no pictures, no words, and far more is found than by popularity. And yours stopped after 12 epochs, with the loss still
# falling: the package's model below trains on, and ends higher.*
#
# ## The package's BPR
# The same thing in the form that all models of this course have: `losses(batch)` gives the terms to minimise by name, `views()` the tables to
# look at, `score(users)` a score for every item. On one batch your functions and its loss must agree.

# %%
model = create("bpr", bazaar, dim=32, seed=0)
start = model.item_id.weight.detach().clone()  # the noise it begins with, for later
sampler = NegativeSampler(bazaar, "warm")
some = torch.arange(0, len(bazaar.train), 20)
users, items = torch.from_numpy(bazaar.train.users[some]), torch.from_numpy(bazaar.train.items[some])
batch = Batch(users, items, sampler.sample(users, torch.Generator().manual_seed(1)))
package_loss = model.losses(batch, {"bpr"})["bpr"].item()
print(f"package: {package_loss:.6f}  (ln 2 = {np.log(2):.6f}: noise prefers nothing)")

# %%
u, i, j = model.user_id(batch.users), model.item_id(batch.items), model.item_id(batch.negatives)
yours = bpr_loss(bpr_score(u, i), bpr_score(u, j)).item()
print(f"yours:   {yours:.6f}")
assert abs(yours - package_loss) < 1e-6

# %% [markdown]
# `fit` trains until the validation recall stops rising, then goes back to the best epoch. The penalty is called `l2` here and has its weight λ.

# %%
result = fit(model, bazaar, weights={"l2": 0.01}, epochs=60, patience=6, metrics_every=2, progress=False, seed=0, **SETTINGS)
print(result.message)
measured = [(e.epoch, e.metrics["recall@20"], e.losses["bpr"]) for e in result.history if e.metrics]
epoch, _, loss = next(entry for entry in measured if entry[1] >= 0.97 * result.best["recall@20"])
last = result.history[-1]
print(f"Within 3 % of its best after epoch {epoch}. From there to the end the bpr loss fell from {loss:.3f} to {last.losses['bpr']:.3f}.")
print(f"The picture shows l2 without its weight: {last.losses['l2']:.1f} at the end. Times λ, it adds {0.01 * last.losses['l2']:.3f} to the total.")
figures.loss_curves(result.history)

# %% [markdown]
# *Takeaway: the loss keeps falling when validation hardly rises any more: most of the rest is learning by heart. The vectors grow all the time,
# because longer ones make larger differences; the penalty slows that down.*
#
# ## Experiment: does it beat popularity?

# %%
knn = create("item-knn", bazaar)
found = {name: evaluate(m, bazaar, "test") for name, m in (("popularity", popularity), ("BPR", model), ("item-kNN", knn))}
rows = [(name, metric, e.mean(metric), *e.interval(metric)) for name, e in found.items() for metric in ("recall@20", "ndcg@20")]
figures.metric_bars(pd.DataFrame(rows, columns=["model", "metric", "mean", "low", "high"]))

# %% [markdown]
# Two overlapping intervals do not say that two models are equal: both judge the *same* users. So look at each user's difference.

# %%
for metric in ("recall@20", "ndcg@20"):
    print(compare(found["item-kNN"], found["BPR"], metric))

# %% [markdown]
# *Takeaway: item-kNN ranks a little better. NDCG says so clearly. For recall, see whether the interval of the difference includes 0: then 1,200
# users are too few to tell.*
#
# One seed is an anecdote; here are three, trained for 25 epochs each without a look at validation (so a bit lower than the bar above).

# %%
def trained(seed=0, l2=0.01, negatives="warm", cls=BPR, epochs=25):
    """A BPR model after a fixed number of epochs."""
    made = cls(bazaar, dim=32, seed=seed)
    for _ in train(made, bazaar, weights={"l2": l2}, epochs=epochs, negatives=negatives, metrics_every=0, seed=seed, **SETTINGS):
        pass
    return made


models = {seed: trained(seed) for seed in (0, 1, 2)}
recalls = {seed: evaluate(m, bazaar, "test").mean() for seed, m in models.items()}
floor, neighbours = found["popularity"].mean(), found["item-kNN"].mean()
for seed, value in recalls.items():
    print(f"seed {seed}: BPR {value:.3f} = {value / floor:.1f} × popularity, {value / neighbours:.2f} × item-kNN")

# %% jupyter={"source_hidden": true}
mean = float(np.mean(list(recalls.values())))
place = "below popularity" if mean < floor else "between popularity and item-kNN" if mean < neighbours else "above item-kNN"
reveal(
    "bpr-place", place,
    f"Popularity {floor:.3f}, BPR {mean:.3f} (mean of three seeds, 25 epochs), item-kNN {neighbours:.3f}. In a small shop, counting who bought what together is hard to beat: "
    "always run the simple neighbour method as well. What BPR gives in return is vectors, and all later lessons build on them.",
)

# %% [markdown]
# *Takeaway: BPR beats popularity by far with every seed. It does not beat item-kNN, which stays a little ahead, and a report that leaves that out
# is not honest.*
#
# What does Mia get?

# %%
top = found["BPR"].topk[np.flatnonzero(found["BPR"].users == mia)[0], :14]
hits = np.isin(top, bazaar.test.items[bazaar.test.users == mia])
figures.contact_sheet(
    bazaar.images[top], bazaar.items["title"].iloc[top].tolist(), columns=7, cell=130, marks=hits,
    title=f"BPR's first 14 for Mia: {hits.sum()} of her {(bazaar.test.users == mia).sum()} hidden purchases (ticked)",
)

# %% [markdown]
# *Takeaway: it has understood what kind of things she takes, though nobody told it that there are kinds.*
#
# ## Kinds of things, out of pairs alone
# The item vectors began as noise. Here they are, before and after, squeezed from 32 numbers to 2 and coloured by category.
# **The model never saw a category.** (Warm items only; the line below a map says how much of the truth the picture keeps.)

# %%
def item_map(table, title, color_by=category[warm], kind="category", rows=warm):
    print("Drawing the map. The first one of a session takes up to 20 seconds, all others about one.")
    projector = Projector(min_dist=0.4, seed=0)
    xy = projector.fit(table[rows].numpy())
    return figures.embedding_map(
        xy, color_by, kind, hover=bazaar.items["title"][rows].tolist(), kept=projector.kept(), method=projector.method, title=title
    )


final = models[0].item_id.weight.detach()
item_map(start, "Before training: noise, the categories lie all over the place")

# %%
item_map(final, "After training: islands, each almost purely one category")

# %% [markdown]
# Pictures in two dimensions can deceive. So count in the full space: how many of an item's ten nearest neighbours share its category?

# %%
def purity(table, k=10):
    """Share of the k nearest neighbours (cosine) that are of an item's own category; warm items."""
    unit = torch.nn.functional.normalize(table[warm], dim=1)
    similar = (unit @ unit.T).fill_diagonal_(-2)
    return float((category[warm][similar.topk(k).indices.numpy()] == category[warm][:, None]).mean())


print(f"before {purity(start):.0%}, after {purity(final):.0%} (12 categories: chance is about {1 / 12:.0%})")

# %% [markdown]
# *Takeaway: things that the same people take end up near each other. That is all the model knows, and it is enough to find the categories.*
#
# ## What BPR will never learn
# Some items have no training interaction at all.

# %% tags=["predict"]
predict(
    "bpr-cold",
    "Of the hidden purchases of cold items, what share does BPR bring into the first 20?",
    options=["none", "about 5 %", "about half of what it finds of warm items"],
)

# %%
figures.frequency_bars(
    {name: found[name].by_frequency() for name in ("popularity", "BPR", "item-kNN")},
    title="The rarer an item in training, the less is found; of cold items nothing",
)

# %%
cold = [evaluate(m, bazaar, "test").cold() for m in models.values()]
table = pd.DataFrame(cold, index=[f"seed {s}" for s in models])[["relevant", "recall@20", "recall_among_cold@20", "chance_among_cold@20"]]
table.columns = ["hidden cold purchases", "found among all items", "found among cold items", "chance among cold items"]
table.round(3)

# %% [markdown]
# *Found among all items* is what counts: nothing. *Found among cold items* is a gentler exam: rank the cold items only among each other. Even
# there BPR does not know anything: each seed deals the cold items other random vectors, and so it lands now above, now below the level of
# chance. Are they really still random? Look at how far each vector moved.

# %%
moved = (final - start).norm(dim=1).numpy()
print(f"A warm item's vector moved by {moved[warm].mean():.2f} on average, a cold one's by {moved[~warm].mean():.2f}.")

# %% jupyter={"source_hidden": true}
share = float(np.mean([c["recall@20"] for c in cold]))
reveal(
    "bpr-cold",
    "none" if share < 0.005 else "about 5 %" if share < 0.15 else "about half of what it finds of warm items",
    "No pair ever contains a cold item, so no gradient ever reaches it. Its vector is still the noise it began with.",
)

# %% [markdown]
# *Takeaway: what has no history has no vector. Lesson 02 gives new things a voice: their picture and their words.*
#
# ## Who is shown?
# Popularity shows popular things only. And BPR? Coverage is the share of the catalogue shown to anybody; Gini is 0 if all things are
# shown equally often and near 1 if few take everything.

# %%
def shown(evaluation):
    """How popular and how varied the first twenty are."""
    taken = float(bazaar.item_counts[evaluation.topk[:, :20]].mean())
    return {"mean count of shown items": taken, "coverage@20": evaluation.mean("coverage@20"), "gini@20": evaluation.mean("gini@20")}


oracle = evaluate(create("oracle", bazaar), bazaar, "test")
print(f"The mean warm item has {bazaar.item_counts[warm].mean():.1f} training interactions.")
pd.DataFrame({name: shown(e) for name, e in {**found, "oracle": oracle}.items()}).T.round(2)

# %% [markdown]
# *Takeaway: BPR leans to popular things, much less than popularity does. The oracle, which knows taste alone, leans least: part of the
# leaning is what the training data taught.*
#
# ## What if λ were larger?
# λ keeps vectors short. A little is good manners. What does a lot do?

# %% tags=["predict"]
predict(
    "bpr-l2",
    "With λ = 1, a hundred times our setting, what fills the lists?",
    options=["the most popular items", "items the user's neighbours took", "cold items that nobody ever took"],
)

# %%
sweep = {}
for l2 in (0.001, 0.01, 0.1, 0.3, 1.0):
    e = evaluate(trained(l2=l2), bazaar, "test")
    sweep[l2] = {"recall@20": e.mean(), "coverage@20": e.mean("coverage@20"), "share of cold items shown": e.cold()["share@20"]}
    print(f"λ = {l2}: recall@20 {e.mean():.3f}")
sweep = pd.DataFrame(sweep).T
figures.lines(
    sweep.index, {c: sweep[c] for c in sweep}, x_title="λ, weight of l2 (log scale)", y_title="share", log_x=True, markers=True,
    title="Past λ = 0.1 recall falls; at λ = 1 cold items fill nearly all places",
)

# %% jupyter={"source_hidden": true}
filled = sweep.loc[1.0, "share of cold items shown"]
reveal(
    "bpr-l2",
    "cold items that nobody ever took" if filled > 0.5 else "the most popular items",
    f"At λ = 1, {filled:.0%} of all places go to cold items. The penalty counts only rows that occur in a batch: it has shrunk users and warm items to "
    "nothing, while cold vectors keep their noise. Their tiny random scores are now the largest ones.",
)

# %% [markdown]
# *Takeaway: regularisation also acts by what it does **not** reach. When a model suddenly recommends things that nobody took, look at norms.*
#
# Now live. Move λ (log scale) and the number of dimensions. Colour the map by category, by popularity, by cold. Where moving a weight *continues*, a
# new λ acts on the model as it is: let it learn, then turn λ far up and watch the islands melt.
#
# And one move to predict: `dimensions` to 4. Four numbers for Mia, four for the rug.

# %% tags=["predict"]
predict(
    "bpr-dim",
    "With 4 dimensions in place of 32, how much of its recall@20 does BPR keep?",
    options=["a quarter or less: what popularity finds", "a half to three quarters", "nearly all of it"],
)

# %%
whatif("bpr", bazaar, controls=["l2", "dim"], views=["item/final"], options={"item_bias": False, "dim": 32}, epochs=30)

# %% [markdown]
# Each run of a panel fits in one line, which stands under its *Share*; `replay` trains it again. So this cell has the panel's own numbers.

# %%
room = {}
for dim in (4, 32, 128):
    again, _ = replay(Setting.from_text(f"bpr?dim={dim}&epochs=30"), bazaar, metrics_every=0)
    e = evaluate(again, bazaar, "valid")
    room[dim] = {"recall@20": e.mean(), "recall@20, cold items": e.cold()["recall@20"]}
room = pd.DataFrame(room).T.rename_axis("dimensions")
room.round(3)

# %% jupyter={"source_hidden": true}
kept = room["recall@20"] / room["recall@20"][32]
reveal(
    "bpr-dim",
    "nearly all of it" if kept[4] > 0.8 else "a half to three quarters" if kept[4] > 0.4 else "a quarter or less: what popularity finds",
    f"Four numbers keep {kept[4]:.0%}: enough to say roughly what kind of things somebody takes. With 128 it finds little more ({kept[128]:.0%}). "
    f"Cold items get {room['recall@20, cold items'].max():.2f} at every size: more room for a vector is no reason for it to move.",
)

# %% [markdown]
# ## Paper and code
# | the paper writes | public code often does | what that does here |
# |---|---|---|
# | $\lambda\lVert\Theta\rVert^2$, squared, for the rows of a pair | "EmbLoss": norms of whole tables, not squared, divided by the batch size | at the same small λ it hardly regularises (A) |
# | $-\ln\sigma(x)$ | $-\ln(10^{-10} + \sigma(x))$ | a very wrong pair is given up (B) |
# | $j$ from all items not taken | all, cold ones included; or only those for sale | pushes cold items down (C) |
# | no item bias in the matrix-factorisation form | sometimes a bias per item | `create("bpr", data, item_bias=True)` |
#
# **(A)** Same λ, same seed, three penalties. The length of the item vectors tells how hard they are held.

# %%
class EmbLossBPR(BPR):
    """BPR with the released code's penalty in place of the squared one."""

    def losses(self, batch, active=None):
        terms = super().losses(batch, active)
        if "l2" in terms:
            tables = self.user_id(batch.users), self.item_id(batch.items), self.item_id(batch.negatives)
            terms["l2"] = losses.emb_norm(*tables)
        return terms


penalties = {"none": trained(l2=0.0), "EmbLoss, λ = 0.01": trained(cls=EmbLossBPR), "squared, λ = 0.01": models[0]}
pd.DataFrame(
    {
        name: {"mean length of warm items": m.item_id.weight[warm].norm(dim=1).mean().item(), "recall@20": evaluate(m, bazaar, "test").mean()}
        for name, m in penalties.items()
    }
).T.round(3)

# %% [markdown]
# **(B)** The pull on a pair, by margin. It should approach 1 for pairs in very wrong order.

# %%
margins = torch.tensor([-5.0, -15.0, -22.0, -25.0, -40.0], requires_grad=True)
zero = torch.zeros(5)
(paper,) = torch.autograd.grad(losses.bpr(margins, zero) * 5, margins)
(released,) = torch.autograd.grad(losses.bpr_released(margins, zero) * 5, margins)
pd.DataFrame({"margin": margins.tolist(), "paper": (-paper).tolist(), "released": (-released).tolist()}).round(3)

# %% [markdown]
# *Takeaway: beyond a margin of about −23 the released form lets go. With short vectors no margin gets there; with long ones it can.*
#
# **(C)** Negatives from all items, cold ones included, against negatives from warm items only. Place 0 is the top of the list, 1 its end.

# %%
def cold_place(m):
    """Mean place of cold items in all users' full rankings, from 0 (top) to 1 (end)."""
    with m.evaluating():
        places = m.score(torch.arange(bazaar.n_users)).argsort(1, descending=True).argsort(1)
    return places[:, ~warm].double().mean().item() / (bazaar.n_items - 1)


print("Three more trainings, some seconds …")
from_all = {seed: trained(seed, negatives="all") for seed in (0, 1, 2)}
pd.DataFrame(
    {
        f"seed {seed}, {pool}": {
            "place of cold items": cold_place(m),
            "length of cold items": m.item_id.weight[~warm].norm(dim=1).mean().item(),
            "recall@20, all": evaluate(m, bazaar, "test").mean(),
            "recall@20, cold": evaluate(m, bazaar, "test").cold()["recall@20"],
        }
        for seed in (0, 1, 2)
        for pool, m in (("warm", models[seed]), ("all", from_all[seed]))
    }
).T.round(3)

# %% [markdown]
# *Takeaway: drawn as negatives, cold items are taught to be disliked: their vectors grow and their place sinks. For BPR nothing is lost, since
# cold recall was zero before. In lesson 02 content can lift them: ask the question again there.*
#
# ## Recap
# - BPR learns from **order**: taken above not taken. Only score differences count.
# - Negatives are drawn, never from what the user took; from which pool is a decision.
# - Out of pairs alone the item vectors sort themselves into kinds of things.
# - No pair, no gradient: cold items stay noise. That is not bad luck, it is the method.
# - Run popularity **and** a neighbour method beside every model.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "We add 5 to the scores of all items of a user. What does the BPR loss of her pairs do?",
            "options": ["it falls", "it stays", "it rises"],
            "answer": "it stays",
            "why": [
                "Both scores of each pair rise by 5; the difference stays.",
                "Only the difference of two scores of the same user occurs in it.",
                "Both scores of each pair rise by 5; the difference stays.",
            ],
        },
        {
            "question": "The loss of a fresh model is near 0.69. Why?",
            "options": ["its scores are nearly equal, and -ln(1/2) is 0.69", "69 % of the pairs are in order", "λ adds that much"],
            "answer": "its scores are nearly equal, and -ln(1/2) is 0.69",
            "why": [
                "Short random vectors give scores near zero, so each pair is a coin toss to the model.",
                "About half of them are; the loss is no percentage.",
                "The number is the loss without the penalty.",
            ],
        },
        {
            "question": "Training draws negatives from warm items only. What happens to a cold item's vector?",
            "options": ["it shrinks to zero", "it stays what it was at the start", "it drifts to the popular items"],
            "answer": "it stays what it was at the start",
            "why": [
                "The penalty, too, counts only rows that occur in a batch.",
                "It occurs in no pair, neither above nor below. No gradient reaches it.",
                "Nothing pulls it anywhere.",
            ],
        },
        {
            "question": "A paper shows its model against popularity only, and wins by far. What should you ask for?",
            "options": ["a larger embedding size", "item-kNN on the same split", "the training loss"],
            "answer": "item-kNN on the same split",
            "why": [
                "That changes the model and not the comparison.",
                "On the bazaar it stands a little above BPR. A tuned simple method is the honest opponent.",
                "A low training loss can be learning by heart.",
            ],
        },
    ],
    id="01",
)

# %% [markdown]
# ## Your own data
# Nothing here needs the bazaar. `load("path/to/folder")`, then `fit(create("bpr", data), data)`. In a terminal:
#
#     mmrec-teach compare --data path/to/folder --models popularity,item-knn,bpr
#
# Next: **02 · VBPR**, where an item's picture and words enter the score, and cold items get their chance.
