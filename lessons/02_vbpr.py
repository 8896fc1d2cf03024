# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 02 · VBPR: content enters
# *45 minutes · 8 points · needs lesson 01 · after this you can add pictures and words to a recommender, say whom they help and whom they hurt, and find
# out which of the two knew the answer.*
#
# New things arrived in the bazaar. Nobody has bought one yet. BPR gave each of them a random vector, and nothing ever moved it.
#
# But look at them. You could say at once who might like which. **What would a recommender need to see what you see?**

# %%
import numpy as np
import pandas as pd
import torch

from mmrec_teach.evaluation.diagnostics import effective_rank, knn_overlap
from mmrec_teach.evaluation.statistics import paired_comparison
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.views import Projector, warm_up

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130)
bazaar = load("bazaar")
titles, captions = bazaar.items["title"].to_numpy(), bazaar.items["caption"].to_numpy()
new = np.flatnonzero(bazaar.cold_items & ~bazaar.missing["image"])
print(f"{bazaar.cold_items.sum()} of {bazaar.n_items} items are cold: not one training interaction.")
figures.contact_sheet(
    bazaar.images[new[:12]], titles[new[:12]].tolist(), columns=6, cell=110, title="Twelve of the cold items: no history, but a face"
)

# %% [markdown]
# *Takeaway: a cold item is not unknown. It has a picture and a caption; only its buyers are missing.*
#
# ## Where BPR stands
# We train BPR as in lesson 01 and look at its recall by how often an item was bought.

# %%
def trained(name, data=None, weights=None, seed=0, negatives="warm", **options):
    """A model after a short training, the same for all: 30 epochs of Adam 1e-2, batches of 1,024, vectors of 32 numbers."""
    data = bazaar if data is None else data
    model = create(name, data, dim=32, seed=seed, **options)
    how = {"epochs": 30, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0}
    for _ in train(model, data, weights=weights, seed=seed, negatives=negatives, **how):
        pass
    return model


EDGES = (1, 10, 20, 40)  # cold | 1-9 | 10-19 | 20-39 | 40 and more buyers
bpr = trained("bpr", weights={"l2": 0.03})
bpr_test = evaluate(bpr, bazaar, "test")
bpr_test.by_frequency(edges=EDGES).round(3)

# %% [markdown]
# `recall@20` is the share of the `relevant` purchases that were found; `share` is the part of all recommendations that goes to these items.
#
# *Takeaway: the rarer the item, the worse. For cold items the recall is zero: their random vectors never win against a trained one.*
#
# ## Commit first
# Soon the model will see pictures and captions. Cold items are ranked **among all 600**, twenty places, warm competitors included.

# %%
predict(
    "vbpr-cold",
    "Which share of the cold items that people took will be in their top 20, once the model sees content?",
    options=["about 0.05", "about 0.2", "about 0.4", "about 0.8"],
)

# %%
predict(
    "vbpr-head",
    "And the best known items, with 40 buyers or more: does content help them, hurt them, or change nothing?",
    options=["helps", "hurts", "changes nothing"],
)

# %% [markdown]
# ## What a feature vector knows
# An encoder turned every picture into 64 numbers, and every caption into 64 others. They are **frozen**: training does not touch them.
# What is in them? Take one product and ask for its nearest neighbours, by picture and by words.

# %%
def nearest(modality, item, n=5):
    """The n items whose feature vectors point most nearly the same way."""
    f = bazaar.features[modality]
    unit = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-9)
    similar = unit @ unit[item]
    similar[[item, *np.flatnonzero(bazaar.missing[modality])]] = -2
    return np.argsort(-similar)[:n]


item = int(np.flatnonzero((bazaar.items["category"] == "teapot") & ~bazaar.missing["image"] & ~bazaar.missing["text"])[0])
row = np.concatenate([[item], nearest("image", item), [item], nearest("text", item)])
label = ["the product", *["by picture"] * 5, "the product", *["by words"] * 5]
for place in (0, 1, 2, 7, 8):
    print(f"{label[place]:>11} | {titles[row[place]]}: {captions[row[place]]}")
figures.contact_sheet(
    bazaar.images[row], [f"{titles[i]} ({what})" for i, what in zip(row, label)], columns=6, cell=115,
    title="One product, its neighbours by picture (above) and by words (below)",
)

# %% [markdown]
# *Takeaway: above, things that look alike; below, things that are told alike.* One product is an anecdote. The bazaar's truth says what was
# planted in every product, so ask all of them: how often does a neighbour share it?

# %%
planted = {"category": bazaar.items["category"].to_numpy(), **{k: bazaar.truth.extra[k] for k in ("tone", "pattern", "spirit", "making")}}
shared = {}
for modality in bazaar.modalities:
    with_it = np.flatnonzero(~bazaar.missing[modality])
    near = np.stack([nearest(modality, i) for i in with_it])
    shared[f"by {modality}"] = {name: (v[near] == v[with_it][:, None]).mean() for name, v in planted.items()}
shared["by chance"] = {name: (np.unique(v, return_counts=True)[1] ** 2).sum() / len(v) ** 2 for name, v in planted.items()}
pd.DataFrame(shared).round(2)

# %% [markdown]
# *Takeaway: pictures tell tone and pattern, captions tell spirit and making, and where one speaks the other is close to chance. Both know
# something of the category.*
#
# ## From features to a score
# The features say what an item **is**. They do not say what a user **wants**. VBPR (He and McAuley, 2016) learns the bridge:
#
# 1. a matrix $E$ squeezes the item's features $f_i$ into a small **content vector** $E f_i$;
# 2. every user gets a second vector $\theta_u$, her taste in content. The inner product $\theta_u\cdot E f_i$ says how well they fit;
# 3. some looks please everybody. $\beta'\cdot f_i$ scores an item's **common appeal**, the same for all users.
#
# Everything BPR had stays, and an item bias $b_i$ joins it:
#
# $$s_{ui} \;=\; \underbrace{b_i + \gamma_u\cdot\gamma_i}_{\text{by history}} \;+\; w\,\underbrace{(\theta_u\cdot E f_i + \beta'\cdot f_i)}_{\text{by content}}$$
#
# | symbol | shape | learned? | an item without history |
# |---|---|---|---|
# | $\gamma_u, \gamma_i$ | $d$ each | yes | $\gamma_i$ stays as random as it began |
# | $f_i$ | $D$ = 128 here, picture and caption joined | no, frozen | known |
# | $E$ | $k \times D$, **one for all items** | yes | learned from the other items |
# | $\theta_u$ | $k$ | yes | learned from what the user took |
# | $\beta'$ | $D$ | yes | learned from the other items |
#
# The last column is the trick: $E$, $\theta$ and $\beta'$ never belonged to one item. What they learned from the others holds for the new one.
# ($w$ is ours: 1 in the paper, and at 0 content is switched off. The paper also writes $\alpha$ and $b_u$. They are equal for both items of a
# pair, cancel, and can be left out.)
#
# ## Exercise 1 · the projection
# A training step needs the content vectors of its batch, not of the shop. And an item **without any content** should say **nothing**:
# zero, so that it neither gains nor loses. Some implementations add an offset to $E f_i$; then "nothing" needs care.
#
# (If only the picture is lost, its 64 numbers in $f_i$ are zero and the caption still speaks. In the bazaar no item lacks both.)

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 3 points · difficulty 2 of 3
# Write `project`: the content vectors of a batch.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "project", "title": "the content vectors of a batch", "points": 3, "minutes": 8, "difficulty": 2, "hints": ["What is the smallest table you need: features of all items, or of those in `items`? Look up first, multiply after.", "E has shape (k, D) and a row of features has D numbers: rows @ E.T gives k numbers for each row. The offset is added to every row.", "Afterwards set the rows of missing items to zero: `missing[items]` is True where a row must vanish; masked_fill with [:, None] reaches all k columns."]}
def project(features, missing, items, E, offset):
    """Content vectors E f_i + offset of a batch of items; zeros for an item without content.

    Args:
        features: (I, D) frozen features of all items.
        missing: (I,) bool, True where an item has none.
        items: (B,) the batch's items.
        E: (k, D) the projection.
        offset: (k,) added to every projection.
    Returns:
        (B, k).
    """
    raise NotImplementedError("Write `project`: the content vectors of a batch")

# %%
check("project")

# %%
hint("project")

# %% [markdown]
# ## Exercise 2 · the content score of a pair
# Row $n$ of every input belongs to pair $n$ of the batch. Personal fit plus common appeal.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 6 min · 2 points · difficulty 1 of 3
# Write `content_score`: personal fit plus common appeal.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "content_score", "title": "personal fit plus common appeal", "points": 2, "minutes": 6, "difficulty": 1, "hints": ["Two inner products are added. One differs by user, the other does not.", "Pair by pair: multiply entry by entry and sum over the last axis. A matrix product would pair everybody with everybody.", "The first is (theta * Ef).sum(-1); the second is a matrix-vector product of f with beta."]}
def content_score(theta, Ef, f, beta):
    """θ_u · (E f_i) + β' · f_i for every pair.

    Args:
        theta: (B, k) content taste of the pair's user.
        Ef: (B, k) content vector of the pair's item.
        f: (B, D) features of the pair's item.
        beta: (D,) the common appeal of each feature.
    Returns:
        (B,).
    """
    raise NotImplementedError("Write `content_score`: personal fit plus common appeal")

# %%
check("content_score")

# %%
hint("content_score")

# %% [markdown]
# ## Exercise 3 · everybody's score for everything
# Training scores pairs. Ranking scores all items for a block of users at once: here matrix products are right.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 3 points · difficulty 2 of 3
# Write `vbpr_score`: the score of every item for a block of users.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "vbpr_score", "title": "the score of every item for a block of users", "points": 3, "minutes": 8, "difficulty": 2, "hints": ["The answer has one row a user and one column an item. Which of the inputs differ by user, which by item only?", "Two matrix products give (users, items) tables. b_i and appeal are one number an item: adding a (I,) vector to a (n, I) table lays it along the items.", "History: b_i + gamma_u @ gamma_i.T. Content: w times the sum of theta_u @ Ef.T and appeal."]}
def vbpr_score(gamma_u, theta_u, gamma_i, Ef, b_i, appeal, w):
    """Scores of all items for a block of users.

    Args:
        gamma_u, theta_u: (n, d) and (n, k), the users' vectors.
        gamma_i, Ef: (I, d) and (I, k), the items' vectors.
        b_i: (I,) item biases.
        appeal: (I,) β' · f_i.
        w: weight of content; 1 in the paper.
    Returns:
        (n, I).
    """
    raise NotImplementedError("Write `vbpr_score`: the score of every item for a block of users")

# %%
check("vbpr_score")

# %%
hint("vbpr_score")

# %% [markdown]
# ## Your functions and the package's
# The package has VBPR as well, tested against published numbers. We train it, take its tables, and let **your** three functions score Mia.

# %%
vbpr = trained("vbpr", weights={"l2": 0.01}, content_dim=32)  # the features as they come

# %%
mia = int(np.flatnonzero(bazaar.user_ids == "v0660")[0])
with torch.no_grad():
    every = torch.arange(bazaar.n_items)
    absent = torch.from_numpy(bazaar.missing["image"] & bazaar.missing["text"])  # here no item lacks both
    Ef = project(vbpr.features, absent, every, vbpr.projection.weight, torch.zeros(32))
    yours = vbpr_score(
        vbpr.user_id.weight[[mia]], vbpr.user_content.weight[[mia]], vbpr.item_id.weight, Ef,
        vbpr.item_bias, vbpr.features @ vbpr.content_bias, 1.0,
    )
    packages = vbpr.score(torch.tensor([mia]))
    pair = content_score(vbpr.user_content.weight[[mia]], Ef[:1], vbpr.features[:1], vbpr.content_bias)
print(f"largest difference over {bazaar.n_items} items: {(yours - packages).abs().max():.1e}")
print(f"of Mia's score for item 0, {packages[0, 0]:.2f}, content is {pair.item():.2f}")

# %% [markdown]
# ## The rescue
# Same data, same number of epochs, three seeds. `λ` is 0.03 for BPR and 0.01 for VBPR, each the best of a small grid on the validation split.
# "Warm items" and "cold items": the share of their hidden purchases that is in the top 20. "Cold among cold": the same share, a mean over users,
# when only cold items are ranked.

# %%
def summary(result):
    """The numbers this lesson compares."""
    table = result.by_frequency(edges=EDGES)
    warm = table.query("low > 0")
    return {
        "recall@20": result.mean("recall@20"), "ndcg@20": result.mean("ndcg@20"),
        "warm items": (warm["recall@20"] * warm["relevant"]).sum() / warm["relevant"].sum(),
        "cold items": table["recall@20"].iloc[0], "cold among cold": result.cold()["recall_among_cold@20"],
    }


def judge(name, data=None, **options):
    """Train, evaluate on the test split, and say that it is done."""
    data = bazaar if data is None else data
    result = evaluate(trained(name, data, **options), data, "test")
    shown = {k: v for k, v in options.items() if k in ("scaling", "content_weight", "negatives", "modalities", "seed")}
    print(name, *(f"{k}={v}" for k, v in shown.items()), f"recall@20 {result.mean('recall@20'):.3f}", sep="  ")
    return result


SETTING = {"weights": {"l2": 0.01}, "content_dim": 32}
runs = {"BPR": [bpr_test], "VBPR": [evaluate(vbpr, bazaar, "test")]}
for seed in (1, 2):
    runs["BPR"].append(judge("bpr", weights={"l2": 0.03}, seed=seed))
    runs["VBPR"].append(judge("vbpr", seed=seed, **SETTING))


def over_seeds(runs):
    """One row a run."""
    table = pd.DataFrame({(name, seed): summary(r) for name, results in runs.items() for seed, r in enumerate(results)}).T
    return table.rename_axis(["model", "seed"])


table = over_seeds(runs)
table.round(3)

# %%
def mean_by_frequency(runs):
    """The long-tail table of each model, recall averaged over its seeds."""
    tables = {name: results[0].by_frequency(edges=EDGES) for name, results in runs.items()}
    for name, results in runs.items():
        tables[name]["recall@20"] = np.mean([r.by_frequency(edges=EDGES)["recall@20"] for r in results], axis=0)
    return tables


frequency = mean_by_frequency(runs)
cold_bpr, cold_vbpr = (frequency[name]["recall@20"].iloc[0] for name in ("BPR", "VBPR"))
head_bpr, head_vbpr = (frequency[name]["recall@20"].iloc[-1] for name in ("BPR", "VBPR"))
figures.frequency_bars(
    frequency,
    title=f"Content lifts cold items from {cold_bpr:.2f} to {cold_vbpr:.2f}, and costs the head: {head_bpr:.2f} to {head_vbpr:.2f}",
)

# %% [markdown]
# *Takeaway: content rescues cold items and helps the rarest warm ones. All others pay for it. That price is worth a closer look.*

# %% jupyter={"source_hidden": true}
options = {"about 0.05": 0.05, "about 0.2": 0.2, "about 0.4": 0.4, "about 0.8": 0.8}
reveal(
    "vbpr-cold",
    min(options, key=lambda o: abs(options[o] - table.loc["VBPR", "cold items"].mean())),
    f"VBPR {table.loc['VBPR', 'cold items'].mean():.2f}, BPR {table.loc['BPR', 'cold items'].mean():.2f}. Among cold items alone VBPR finds "
    f"{table.loc['VBPR', 'cold among cold'].mean():.2f} (chance: {bpr_test.cold()['chance_among_cold@20']:.2f}): it knows them well, but "
    "warm items with a history to speak for them take many of the places.",
)

# %% jupyter={"source_hidden": true}
change = head_vbpr - head_bpr
reveal(
    "vbpr-head",
    "hurts" if change < -0.01 else "helps" if change > 0.01 else "changes nothing",
    f"Items with 40 buyers or more: {head_bpr:.3f} without content, {head_vbpr:.3f} with it. Their γ_i had learned more than looks can "
    "tell. Why is that lost? Read on.",
)

# %% [markdown]
# ## Who holds the floor?
# Why should adding a term hurt? The two parts share one score. We measure how much of its spread each part makes.

# %%
def loudness(model):
    """Spread over the items of each part of the score, mean over users."""
    width = bazaar.features["image"].shape[1]  # f is the picture's numbers, then the caption's
    theta, E, beta, f = model.user_content.weight, model.projection.weight, model.content_bias, model.features
    with torch.no_grad():
        parts = {"by history": model.user_id.weight @ model.item_id.weight.T + model.item_bias}
        for name, cut in (("by picture", slice(0, width)), ("by words", slice(width, None))):
            parts[name] = theta @ (f[:, cut] @ E[:, cut].T).T + f[:, cut] @ beta[cut]
    return {name: part.std(1).mean().item() for name, part in parts.items()}


print(f"In one epoch the median item's γ_i is the bought one {np.median(bazaar.item_counts):.0f} times; E is used {len(bazaar.train):,} times.")
for modality, f in bazaar.features.items():
    length = np.linalg.norm(f[~bazaar.missing[modality]], axis=1)
    print(f"{modality}: feature vectors are {length.mean():.2f} long on average")
pd.DataFrame({"spread of the score": loudness(vbpr)}).round(2)

# %% [markdown]
# *Takeaway: content makes by far the larger part of the score. $E$ is one matrix that every example moves; $\gamma_i$ moves only when its own
# item comes by. So content learns first, explains what it can, and leaves history the rest. And within content the picture drowns the words: its
# vectors are longer.*
#
# ## The length of a vector is an opinion
# Suppose we scale every picture's and every caption's vector to length 1. No direction changes. $E$ could have done
# nearly the same by itself: it is one matrix for all items, so it can undo a length that all share, though not each item's own.

# %%
predict(
    "vbpr-scale",
    "Same model, same training, features of length 1: what happens to recall@20 over all items?",
    options=["nothing: E could have done that", "it rises by more than 0.05", "it falls by more than 0.05"],
)

# %%
unit_models, runs["VBPR, length 1"] = [], []
for seed in (0, 1, 2):
    unit_models.append(trained("vbpr", seed=seed, scaling="unit", **SETTING))
    runs["VBPR, length 1"].append(evaluate(unit_models[-1], bazaar, "test"))
    print(f"VBPR, length 1, seed {seed}: recall@20 {runs['VBPR, length 1'][-1].mean('recall@20'):.3f}")
table = over_seeds(runs)
table.groupby("model", sort=False).mean().round(3)

# %% jupyter={"source_hidden": true}
rise = table.loc["VBPR, length 1", "recall@20"].mean() - table.loc["VBPR", "recall@20"].mean()
loud, calm = loudness(vbpr), loudness(unit_models[0])
reveal(
    "vbpr-scale",
    "it rises by more than 0.05" if rise > 0.05 else "it falls by more than 0.05" if rise < -0.05 else "nothing: E could have done that",
    f"It changes by {rise:+.3f}. E could have adapted, but training takes small steps, and with long features a small step of E is a large "
    f"step of the score. Spread by picture and by words: {loud['by picture']:.2f} and {loud['by words']:.2f} before, "
    f"{calm['by picture']:.2f} and {calm['by words']:.2f} now: the words are heard again.",
)

# %%
frequency = mean_by_frequency(runs)
figures.frequency_bars(frequency, title="Scaled features keep the rescue and give most of the head back")

# %% [markdown]
# *Takeaway: look at the length of your features before you train. Here the pictures' vectors were so long that they drowned the words, and much of
# the history. Content of length 1 still costs something on warm items.*
#
# ## How much content is right?
# The weight $w$ turns content down further. We keep length 1 from here on.

# %%
weighted = {w: [judge("vbpr", seed=seed, scaling="unit", content_weight=w, **SETTING) for seed in (0, 1, 2)] for w in (0.0, 0.3)}
weighted[1.0] = runs["VBPR, length 1"]
by_weight = over_seeds({f"w = {w}": results for w, results in weighted.items()})
by_weight.round(3)

# %%
spread = by_weight[["recall@20", "warm items", "cold items"]].groupby("model", sort=False).agg(["mean", "min", "max"])
bars = figures.metric_bars(
    spread.stack(level=0).rename(columns={"min": "low", "max": "high"}).rename_axis(["model", "metric"]).reset_index(),
    title=f"At w = 0.3 cold items reach {spread.loc['w = 0.3', ('cold items', 'mean')]:.2f}, and the whole loses nothing",
)
bars.update_yaxes(title="mean (lowest to highest seed)")

# %% [markdown]
# *Takeaway: $w$ buys cold items with warm ones. Against the paper's 1, a third of it raises the whole at every seed. Against no content at all
# ($w$ = 0) the whole loses nothing: here it is a little ahead, on average by less than seeds differ. And now new things are found too.*
#
# ## Which negatives?
# Lesson 01 left a question here. Negatives are drawn from warm items only. What if cold items are drawn too, as if everybody had seen them and said no?

# %%
told_no = judge("vbpr", scaling="unit", negatives="all", **SETTING)
pd.DataFrame({"negatives: warm items": summary(runs["VBPR, length 1"][0]), "negatives: all items": summary(told_no)}).T.round(3)

# %% [markdown]
# *Takeaway: about half of the rescue is gone. A cold item is never the bought one of a pair, so its $\gamma_i$ and $b_i$ learn nothing but "no", and
# warm items gain the places. Nobody said no to a new thing: leave it out of the negatives.*
#
# ## Content that lies
# What if the features are wrong? We give every item the picture and caption of **another** item.

# %%
order = np.random.default_rng(0).permutation(bazaar.n_items)
swapped = bazaar.with_features(
    {m: f[order] for m, f in bazaar.features.items()}, {m: gone[order] for m, gone in bazaar.missing.items()}
)
trials = {
    "no content (BPR)": runs["BPR"][0], "its own features": runs["VBPR, length 1"][0],
    "another item's features": judge("vbpr", swapped, scaling="unit", **SETTING),
}
harm = pd.DataFrame({name: summary(result) for name, result in trials.items()}).T
figures.metric_bars(
    harm[["warm items", "cold items"]].rename_axis("model").reset_index().melt("model", var_name="metric", value_name="mean"),
    title="Wrong content is worse than none: it sinks the warm items too",
)

# %% [markdown]
# *Takeaway: VBPR believes its features, right or wrong. $E$ fits the training pairs by accident before the IDs can learn them properly. In a
# later lesson you judge features before training.*
#
# ## Which modality reveals what
# In the bazaar we know how much each user cares for pictures and how much for words (`truth.care`). Train with one modality, then with both, and ask
# the two camps separately.

# %%
judged = {
    "no content (BPR)": runs["BPR"][0],
    "picture only": judge("vbpr", scaling="unit", modalities=("image",), **SETTING),
    "words only": judge("vbpr", scaling="unit", modalities=("text",), **SETTING),
    "both": runs["VBPR, length 1"][0],
}
care = bazaar.truth.care[:, 0]
camps = {"who care for pictures": care > 0.67, "who care for words": care < 0.33}
rows = [
    {"model": name, "metric": camp, "mean": result.per_user["recall@20"][members[result.users]].mean()}
    for name, result in judged.items() for camp, members in camps.items()
]
for camp, members in camps.items():
    print(f"{members.sum()} users {camp}")
figures.metric_bars(pd.DataFrame(rows), title="Each camp is served by its own modality; both together come near the better one in each", x_title="users")

# %% [markdown]
# *Takeaway: a model that sees only pictures serves those who shop with their eyes better than one that reads; the words-only model is its mirror
# image. But compare with BPR: words help those who care for words. Pictures do not lift those who care for pictures above plain history. Averages
# over all users hide all of this.*
#
# How sure is that? User by user, within each camp:

# %%
def within(members, a, b):
    """Recall@20 of two models compared user by user, among some of the users."""
    return paired_comparison("recall@20", *(judged[n].per_user["recall@20"][members[judged[n].users]] for n in (a, b)))


for camp, members in camps.items():
    for a, b in (("picture only", "words only"), ("both", "picture only"), ("both", "words only")):
        found = within(members, a, b)
        print(f"users {camp}: {a} {found.a:.3f}, {b} {found.b:.3f}, difference {found.low:+.3f} to {found.high:+.3f} (95 %)")

# %% [markdown]
# ## The two maps
# Now look at the vectors of the model with scaled features. First $\gamma_i$, what history says of an item. Stars are cold items.
# Below the map stands the **effective rank**: how many directions the vectors really use, 1 if all lie on one line, 32 if all 32 axes carry the same.

# %%
model = unit_models[0]
views = {name: table.detach().numpy() for name, table in model.views().items()}
names = [f"{t}<br>{c}" for t, c in zip(titles, captions)]
maps = {}
for name in ("item/id", "item/content"):
    projector = Projector(seed=0)
    maps[name] = (projector.fit(views[name]), projector.kept())
xy, kept = maps["item/id"]
figures.embedding_map(
    xy, bazaar.cold_items, "cold", hover=names, kept=kept, measured={"effective_rank": effective_rank(views["item/id"])},
    title="By history: cold items are strewn about; nothing put them where they are",
)

# %% [markdown]
# *Takeaway: a cold item's place on this map is its random start. Hover over two neighbours: they have nothing in common.*

# %%
xy, kept = maps["item/content"]
figures.embedding_map(
    xy, bazaar.items["category"].to_numpy(), hover=names, kept=kept,
    measured={"effective_rank": effective_rank(views["item/content"])},
    title="By content: twelve categories, each in its place",
)

# %%
figures.embedding_map(
    xy, bazaar.cold_items, "cold", hover=names, kept=kept, title="The same map: cold items lie among their own kind"
)

# %% [markdown]
# *Takeaway: on the content map every new item lies among its like, and inherits what was learned of them.*
#
# And the warm items? Count how many of an item's ten nearest neighbours share its category, in three tables.

# %%
def purity(view, items):
    """Share of the ten nearest neighbours of `items` that share their category."""
    category = bazaar.items["category"].to_numpy()
    unit = view / np.linalg.norm(view, axis=1, keepdims=True).clip(1e-9)
    similar = unit[items] @ unit.T
    similar[np.arange(len(items)), items] = -2
    return (category[np.argsort(-similar, axis=1)[:, :10]] == category[items][:, None]).mean()


tables = {"BPR, γ": bpr.views()["item/id"].detach().numpy(), "VBPR, γ": views["item/id"], "VBPR, E f": views["item/content"]}
groups = {"warm items": np.flatnonzero(~bazaar.cold_items), "cold items": np.flatnonzero(bazaar.cold_items)}
print(f"VBPR's two tables share {knn_overlap(views['item/id'], views['item/content']):.0%} of their ten nearest neighbours "
      f"(chance: {10 / (bazaar.n_items - 1):.0%})")
pd.DataFrame({table: {g: purity(view, items) for g, items in groups.items()} for table, view in tables.items()}).round(2)

# %% [markdown]
# *Takeaway: in BPR $\gamma$ had to learn what a thing is from who bought it. In VBPR the content knows, so $\gamma$ learns only what content cannot
# say. The history half of VBPR is not BPR.*
#
# ## One visitor, three shelves
# What do ten recommendations look like: by BPR, by VBPR's history half alone, by its content half alone? First for everybody.

# %%
with torch.no_grad():
    halves = {
        "BPR": bpr.user_id.weight @ bpr.item_id.weight.T,
        "VBPR's history half": model.user_id.weight @ model.item_id.weight.T + model.item_bias,
        "VBPR's content half": model.user_content.weight @ model.projection(model.features).T + model.features @ model.content_bias,
    }
own = torch.from_numpy(bazaar.matrix("train").toarray() > 0)
hidden = bazaar.matrix("valid", "test").toarray() > 0
shelves, hits, rows = {}, {}, {}
for name, scores in halves.items():
    shelves[name] = scores.masked_fill(own, -torch.inf).topk(10).indices.numpy()
    hits[name] = np.take_along_axis(hidden, shelves[name], axis=1)
    rows[name] = {"hits a user": hits[name].sum(1).mean(), "cold hits a user": (hits[name] & bazaar.cold_items[shelves[name]]).sum(1).mean(),
                  "places for items without a picture": bazaar.missing["image"][shelves[name]].mean()}
print(f"In the shop {bazaar.missing['image'].mean():.3f} of the items have no picture.")
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# *Takeaway: the history half alone is poor, and full of items **without a picture**: where content is silent, history has to speak.*
#
# Now one visitor whom both BPR and content serve well (chosen for that: she is no average). A tick marks what she really took, hidden from training.

# %%
score = sum(np.minimum(hits[name].sum(1), 3) for name in ("BPR", "VBPR's content half"))
score = score + 2 * (hits["VBPR's content half"] & bazaar.cold_items[shelves["VBPR's content half"]]).any(1)
visitor = int((score - 0.1 * bazaar.user_counts).argmax())  # a short history fits on the screen


def sheet(name):
    """The visitor's ten by one half, cold ones named, hits ticked."""
    items, marks = shelves[name][visitor], hits[name][visitor]
    words = [f"{titles[i]}{' (cold)' if bazaar.cold_items[i] else ''}" for i in items]
    return figures.contact_sheet(
        bazaar.images[items], words, columns=5, cell=120, marks=marks,
        title=f"{bazaar.user_ids[visitor]}, {name}: {bazaar.cold_items[items].sum()} cold, {marks.sum()} she took",
    )


bought = bazaar.train.items[bazaar.train.users == visitor]
figures.contact_sheet(
    bazaar.images[bought], titles[bought].tolist(), columns=7, cell=100, title=f"What {bazaar.user_ids[visitor]} had taken so far"
)

# %%
sheet("BPR")

# %%
sheet("VBPR's content half")

# %% [markdown]
# *Takeaway: BPR recommends what people like her took; content recommends what looks and sounds like what she takes. Only the content shelf can hold
# something new.*
#
# ## What if …
# Colour the maps by `cold`, move `content weight` and watch where the stars go. Each change trains again from the start; press Run if nothing moves.
#
# Then a move to predict: tick `l2_content`, the paper's $\lambda_E$, and set it to 0.001. It pulls $E$ and $\beta'$ to zero.

# %%
predict(
    "vbpr-l2-content",
    "With l2_content at 0.001, what happens to cold items, of whose purchases about 0.4 are found now, and to recall@20 over all?",
    options=["neither moves much: 0.001 is little", "cold items are lost, and recall over all falls", "cold items are lost, and recall over all hardly moves"],
)

# %%
whatif(
    "vbpr", bazaar, controls=["content_weight", "l2", "l2_content"], views=["item/id", "item/content"],
    options={"dim": 32, "content_dim": 32, "scaling": "unit"}, weights={"l2": 0.01}, lr=1e-2, batch_size=1024, epochs=30,
)

# %%
pulled = {"off": summary(runs["VBPR, length 1"][0])}
for strength in (1e-4, 1e-3):
    result = evaluate(trained("vbpr", scaling="unit", content_dim=32, weights={"l2": 0.01, "l2_content": strength}), bazaar, "test")
    pulled[f"{strength:g}"] = summary(result)
pulled = pd.DataFrame(pulled).T.rename_axis("l2_content")
pulled.round(3)

# %% jupyter={"source_hidden": true}
lost, change = pulled.loc["0.001", "cold items"], pulled.loc["0.001", "recall@20"] - pulled.loc["off", "recall@20"]
outcomes = ["neither moves much: 0.001 is little", "cold items are lost, and recall over all falls", "cold items are lost, and recall over all hardly moves"]
reveal(
    "vbpr-l2-content", outcomes[0 if lost > 0.2 else 1 if change < -0.02 else 2],
    f"Cold items fall from {pulled.loc['off', 'cold items']:.2f} to {lost:.2f}, recall over all changes by {change:+.3f}: warm items get the places, "
    f"{pulled.loc['off', 'warm items']:.2f} to {pulled.loc['0.001', 'warm items']:.2f}. The panel's curve of recall alone would not have told you.",
)

# %% [markdown]
# *Takeaway: one step of ten decides. Where $E$ is pulled to zero, a cold item has no voice left.*
#
# ## Paper and code
# | the paper writes | public code does | what it changes here |
# |---|---|---|
# | $f_i$: 4,096 numbers of an image network | a re-implementation joins text and image into one $f_i$ | nothing in the formula; $E$ gets wider |
# | $b_i$ and $\beta'\cdot f_i$ | both left out | common appeal must hide in the vectors |
# | $E f_i$ | a linear layer **with** offset | a missing item's zero vector becomes the offset: an opinion about nothing |
# | $\lambda\lVert\theta\rVert^2$, and $\lambda_E$ on $E$, $\beta'$ | one un-squared norm over the tables, divided by the batch | hardly regularises at all |
# | project what the batch needs | all items projected for every batch | same numbers, more work: your rule in exercise 1 |
#
# The released form is a set of options here, so you can measure it:

# %%
released = {  # words before pictures in f; emb_norm: the un-squared norm of the table's fourth row
    "weights": {"l2": 1e-4}, "content_dim": 32, "modalities": ("text", "image"), "item_bias": False, "content_bias": False,
    "projection_bias": True, "regularizer": "emb_norm",
}
forms = {"paper": runs["VBPR"], "released": [judge("vbpr", seed=seed, **released) for seed in (0, 1, 2)]}
over_seeds(forms).groupby("model", sort=False).mean().round(3)

# %% [markdown]
# *Takeaway: with raw features the released form finds a little more than the paper's, at each of three seeds, and fewer cold items. Several things
# differ at once, so this does not say which of them does it. Switch them one by one to find out.*

# %% [markdown]
# ## Recap
# - Content reaches an item without history, because $E$, $\theta$ and $\beta'$ are shared by all items.
# - It pays for cold and rare items and costs well known ones. The weight $w$ sets the exchange rate.
# - Look up, then project: a batch needs its own rows only. A missing picture should say nothing.
# - Scale and truth of the features matter: long vectors drown history, and wrong ones are worse than none.
# - Average recall hides who is served: ask by frequency, ask by user.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Why can VBPR rank an item that nobody has bought?",
            "options": ["Its γ_i is trained with the other items", "E, θ and β' were learned from other items and apply to its features",
                        "Its item bias b_i starts high"],
            "answer": 1,
            "why": ["γ_i moves only when its own item is in a pair.", "Right: no part of them belongs to one item.",
                    "b_i starts at zero, and for a cold item it stays there."],
        },
        {
            "question": "An item has no picture and no caption. With an offset in E and no mask, what does VBPR say of it?",
            "options": ["Nothing: zero", "The same offset for every such item, as if it had been seen"],
            "answer": 1,
            "why": ["Only without an offset is E · 0 = 0.", "Right: θ_u · offset is an opinion about nothing. Mask it."],
        },
        {
            "question": "Your encoder's vectors have length 40. VBPR does worse than BPR on warm items. What do you try first?",
            "options": ["A larger content vector", "Scale the features, or lower the content weight", "More negatives"],
            "answer": 1,
            "why": ["Size is not the trouble: the content part is too loud.", "Right: the scale of the features is the loudness of content.",
                    "They teach both parts alike."],
        },
        {
            "question": "Overall recall did not change when you added pictures. Did nothing happen?",
            "options": ["Right, nothing", "Look by item frequency and by user: gains and losses may cancel"],
            "answer": 1,
            "why": ["An average can stand still while cold items rise and the head falls.", "Right. You saw it happen."],
        },
    ],
    id="02-vbpr",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")            # *.inter with *_feat.npy, or the atomic form, or a table with pictures
# print(data)                              # modalities, and how many items lack them
# {m: np.linalg.norm(f, axis=1).mean() for m, f in data.features.items()}    # the length of your features: look first
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --models bpr,vbpr --seeds 3` prints the table with seeds and intervals.
#
# Next, lesson 03: no pictures at all. What if the *graph* of who took what could speak?
