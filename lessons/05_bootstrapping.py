# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 05 · Bootstrapping: learning without a "no"
# *60 minutes · 10 points · needs lessons 02 and 03 · after this you can train a recommender without a single negative, say which of its parts keeps it
# from collapsing, and find out what content does in BM3.*
#
# Every model so far learned from a contrast: Mia took the lamp and **not** the mug. But nobody ever said no to the mug. We made that up.
#
# **Can a model learn from "yes" alone?** There is an obvious danger. If all it hears is "these two belong together", it can put everything in one place.

# %%
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from mmrec_teach.evaluation.diagnostics import effective_rank, mean_cosine
from mmrec_teach.models import Batch
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.views import Projector, palette, warm_up

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130)
bazaar = load("bazaar")
warm = ~bazaar.cold_items
print(bazaar)

# %% [markdown]
# ## Commit first
# Two models of this lesson never see a negative: **BUIR** and **BM3**. LightGCN of lesson 03 draws one for every purchase. Same shop, same
# graph, same number of epochs.
#
# Both compare two vectors that belong together. Three devices come up, in one line each: a **stop-gradient** treats one of the two as a
# constant; a **predictor** is a linear map that the other one passes first; **dropout** sets random numbers of the constant one to zero.

# %%
predict(
    "no-negatives", "How will BUIR, which hears only yes, do against LightGCN (recall@20)?",
    options=["like popularity: it collapses", "a little below LightGCN", "above LightGCN"],
)

# %%
predict(
    "bm3-collapse",
    "BM3 has three guards: a stop-gradient, a predictor, and dropout. Taken away alone, which lets its vectors collapse?",
    options=["the stop-gradient only", "the predictor only", "either of these two, not dropout", "each of the three"],
)

# %%
predict(
    "bm3-features", "After training we set all pictures and captions to zero. What happens to BM3's recommendations?",
    options=["they get much worse", "they change a little", "they stay exactly the same"],
)

# %% [markdown]
# ## The idea
# Give a user and an item that she took. Let the user's vector **predict** the item's, and the item's predict the user's. Nothing is pushed away.
#
# - The **student** makes the prediction: her vector $h_u$ passes a small linear map, the **predictor** $q$.
# - The **target** is another view of the partner. It is **held still**: the gradient stops there, written $\mathrm{sg}(\cdot)$. The student has to come to it.

# %% jupyter={"source_hidden": true}
places = {
    "h<sub>u</sub>": (0, 1), "q(h<sub>u</sub>)": (1, 1), "view of i": (2, 1),
    "h<sub>i</sub>": (0, 0), "q(h<sub>i</sub>)": (1, 0), "view of u": (2, 0),
}
idea = go.Figure()
for start, end, colour, text, at in (
    ((0, 1), (1, 1), palette.BLUE, "predictor", (0.5, 1.13)), ((0, 0), (1, 0), palette.BLUE, "predictor", (0.5, -0.13)),
    ((1, 1), (2, 1), palette.ORANGE, "should agree", (1.5, 1.13)),
    ((1, 0), (2, 0), palette.ORANGE, "should agree", (1.5, -0.13)),
    ((0, 0), (2, 1), palette.FAINT, "no gradient", (1.55, 0.66)), ((0, 1), (2, 0), palette.FAINT, "no gradient", (1.55, 0.34)),
):
    dash = "dot" if colour == palette.FAINT else "solid"
    line = {"color": colour, "width": 3, "dash": dash}
    idea.add_scatter(x=[start[0], end[0]], y=[start[1], end[1]], mode="lines", line=line, hoverinfo="skip")
    idea.add_annotation(x=at[0], y=at[1], text=text, showarrow=False, bgcolor="white", font={"size": 13})
for name, (x, y) in places.items():
    box = {"bgcolor": "white", "bordercolor": palette.INK, "borderpad": 6, "font": {"size": 16}}
    idea.add_annotation(x=x, y=y, text=name, showarrow=False, **box)
idea.update_xaxes(visible=False, range=[-0.3, 2.35]).update_yaxes(visible=False, range=[-0.4, 1.4])
idea.update_layout(
    template=palette.template(), showlegend=False, height=280, width=720, margin={"b": 10},
    title="Each predicts a view of its partner; the view is held still",
    meta={"alt": "The user's vector passes the predictor and should agree with a view of the item, the item's with one of the user."},
)

# %% [markdown]
# *Takeaway: the gradient goes back along the solid lines, never along the dotted ones. What counts as a "view" is where BUIR and BM3 differ.*
#
# How far is a prediction $a$ from its target $b$? By direction alone, $C$ being the cosine:
#
# $$D(a, b) = \frac1B\sum_{n=1}^{B}\big[\,1 - C(a_n, \mathrm{sg}(b_n))\,\big]$$
#
# ## Exercise 1 · the distance

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 1 of 3
# Write `bootstrap_distance`: one minus the cosine, with the target held still.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "bootstrap_distance", "title": "one minus the cosine, with the target held still", "points": 2, "minutes": 8, "difficulty": 1, "hints": ["Row n of the one belongs to row n of the other: B cosines, and then their mean.", "A tensor without its history is `.detach()`: the same numbers, and no gradient goes back through it. Which of the two is held?", "torch.nn.functional.cosine_similarity takes two (B, d) tables and gives B cosines (zero where a vector is zero)."]}
def bootstrap_distance(prediction, target):
    """Mean over the batch of 1 - C(prediction, sg(target)).

    Args:
        prediction: (B, d), what the student says.
        target: (B, d), held still; a zero row has cosine 0 with everything.
    Returns:
        a tensor with one number: 0 when all directions agree, 2 when all are opposite.
    """
    raise NotImplementedError("Write `bootstrap_distance`: one minus the cosine, with the target held still")

# %%
check("bootstrap_distance")

# %%
hint("bootstrap_distance")

# %% [markdown]
# Here is the danger in one line, with your function (write exercise 1 first). A shop in which **everything is one vector**:

# %%
same = torch.ones(5, 3)
print(f"distance when all five users and all five items are the same vector: {bootstrap_distance(same, same).item():.3f}")

# %% [markdown]
# *Takeaway: a perfect loss, and nothing learned. That is a **collapse**. The loss cannot see it. Three numbers can: the effective rank (1: all vectors on one line),
# the mean cosine (1: all point one way), and recall.*
#
# ## BUIR: the target is a slow copy
# BUIR (Lee et al., 2021) keeps every vector twice. The student $\theta$ learns. The target $\xi$ starts as its copy and is never trained; after
# every step it follows a little:
#
# $$\xi \leftarrow \tau\,\xi + (1-\tau)\,\theta, \qquad \tau = 0.995$$
#
# Both pass two layers of LightGCN. That gives $h$ from the student and the view $\hat h$ from the target, with a few other edges left out in each.
# The loss is twice $D(q(h_u), \hat h_i) + D(q(h_i), \hat h_u)$, and the score uses both directions as well: $q(h_u)\cdot h_i + h_u\cdot q(h_i)$.
#
# ## Exercise 2 · the slow copy

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 4 min · 1 point · difficulty 1 of 3
# Write `momentum_update`: the target takes a small step to the student.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "momentum_update", "title": "the target takes a small step to the student", "points": 1, "minutes": 4, "difficulty": 1, "hints": ["At τ = 1 nothing moves, at τ = 0 the target is the student.", "A weighted mean of both tables. And no gradient: the copy is not trained.", "Multiply the old copy by tau and the student by 1 - tau. `.detach()` of both, or `with torch.no_grad():` around the line, keeps the gradient out."]}
def momentum_update(target, online, tau):
    """The target after one step behind the student.

    Args:
        target: (n, d) ξ, left as it is.
        online: (n, d) θ, the student's parameters; they may require a gradient, the answer must not.
        tau: how much of the old copy stays.
    Returns:
        (n, d), the new ξ.
    """
    raise NotImplementedError("Write `momentum_update`: the target takes a small step to the student")

# %%
check("momentum_update")

# %%
hint("momentum_update")

# %% [markdown]
# Your update beside the package's, for a student that has moved (write exercise 2 first). Then: how slow is slow?

# %%
buir = create("buir", bazaar, dim=32, seed=0)
with torch.no_grad():
    buir.item_id.weight.add_(0.1)  # as if the student had learned something
    yours = momentum_update(buir.item_target, buir.item_id.weight, buir.momentum)
    buir.follow()
print(f"largest difference: {(yours - buir.item_target).abs().max():.1e}")
steps = -(-len(bazaar.train.users) // 1024)
for tau in (0.9, 0.99, 0.995):
    half = np.log(0.5) / np.log(tau)
    print(f"τ = {tau}: half of the old copy is gone after {half:.0f} steps, {half / steps:.1f} epochs")

# %% [markdown]
# *Takeaway: at BUIR's τ the copy takes nearly half of the training below (30 epochs) to forget half of itself.*
#
# ## Does it work at all?
# Every model gets 30 epochs of Adam 1e-2, batches of 1,024 and vectors of 32 numbers. LightGCN keeps lesson 03's penalty of 1e-3. BUIR and BM3 go
# without one; what it does to BM3 is measured near the end. We watch the health of the items' vectors after each epoch.

# %%
def health(model):
    """Effective rank and mean cosine of the warm items' vectors, before any predictor."""
    with model.evaluating():
        views = model.views()
        items = views.get("item/online", views["item/final"])[warm]
        return effective_rank(items), mean_cosine(items)


def fitted(name, weights=None, seed=0, epochs=30, data=None, **options):
    """Train a model; returns it and the effective rank after each epoch."""
    data = bazaar if data is None else data
    model = create(name, data, dim=32, seed=seed, **options)
    how = {"epochs": epochs, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0}
    ranks = [health(model)[0] for _ in train(model, data, weights=weights, seed=seed, **how)]
    return model, ranks


def row(model, data=None):
    """What this lesson compares."""
    result, (rank, cosine) = evaluate(model, bazaar if data is None else data, "test"), health(model)
    return {
        "recall@20": result.mean("recall@20"), "ndcg@20": result.mean("ndcg@20"), "cold items": result.cold()["recall@20"],
        "effective rank": rank, "mean cosine": cosine,
    }


BM3 = {"reg": 0.0}  # what a penalty on the lengths does is measured near the end
rivals = {"LightGCN": ("lightgcn", {"l2": 1e-3}), "BUIR": ("buir", None), "BM3": ("bm3", BM3)}
popular = evaluate(create("popularity", bazaar), bazaar, "test").mean("recall@20")
rows, ranks, whole = {}, {}, {}
for name, (kind, weights) in rivals.items():
    for seed in (0, 1, 2):
        model, trace = fitted(kind, weights, seed=seed)
        rows[name, seed] = row(model)
        if seed == 0:
            ranks[name], whole[name] = trace, model
        print(f"{name}, seed {seed}: recall@20 {rows[name, seed]['recall@20']:.3f}")
table = pd.DataFrame(rows).T.rename_axis(["model", "seed"])
table.round(3)

# %%
bars = [{"model": name, "metric": metric, "mean": part.mean(), "low": part.min(), "high": part.max()}
        for name in rivals for metric in ("recall@20", "ndcg@20") for part in [table.loc[name][metric]]]
mean = table.groupby("model")["recall@20"].mean()
bar = figures.metric_bars(
    pd.DataFrame(bars),
    title=f"Without a negative: BUIR {mean['BUIR']:.3f}, BM3 {mean['BM3']:.3f}; "
    f"popularity has {popular:.3f}, LightGCN {mean['LightGCN']:.3f}",
)
bar.update_yaxes(title="mean (lowest to highest seed)")

# %% jupyter={"source_hidden": true}
behind = (table.loc["LightGCN"]["recall@20"] - table.loc["BUIR"]["recall@20"]).round(3).tolist()
answer = "above LightGCN" if min(behind) <= 0 else "a little below LightGCN"
answer = "like popularity: it collapses" if mean["BUIR"] < popular + 0.05 else answer
reveal(
    "no-negatives", answer,
    f"BUIR finds {mean['BUIR']:.3f} of the hidden purchases, nearly five times what popularity finds, and stays behind LightGCN "
    f"at each of three seeds (by {', '.join(map(str, behind))}). Negatives are not needed. Here they still help a little.",
)

# %% [markdown]
# *Takeaway: "yes" alone is enough to learn taste. On the bazaar it costs some recall, more for BM3 (whose turn comes below) than for BUIR. Look at
# `cold items`: both leave them where LightGCN does, at nothing. For BUIR, which uses no content, that was clear. BM3 had their pictures!*
#
# ## Take BUIR apart
# Where did the collapse go? Take away the slow copy (τ = 0: the target is the student of this very step, held still), the predictor, or both. And τ = 1:
# the target never moves from its random start.

# %%
apart = {"BUIR": rows["BUIR", 0]}
for name, options in {
    "τ = 0: no slow copy": {"momentum": 0.0}, "no predictor": {"predictor": False},
    "no predictor, 90 epochs": {"predictor": False, "epochs": 90}, "neither": {"predictor": False, "momentum": 0.0},
    "τ = 1: a frozen target": {"momentum": 1.0},
}.items():
    model, ranks[name] = fitted("buir", **options)
    apart[name] = row(model)
    print(f"{name}: effective rank {apart[name]['effective rank']:.1f}")
pd.DataFrame(apart).T.drop(columns="cold items").round(3) + 0.0  # no "-0.000"

# %%
shown = ["BUIR", "τ = 0: no slow copy", "no predictor", "neither"]
figures.lines(
    range(1, 31), {name: ranks[name] for name in shown}, x_title="epoch", y_title="effective rank, warm items",
    title=f"Without predictor and slow copy BUIR collapses fast: of 32 directions {ranks['neither'][-1]:.1f} is left",
)

# %% [markdown]
# *Takeaway:*
# - ***Without the slow copy nothing collapses.*** *Recall loses a little. The predictor, and a target that is held still, are enough.*
# - ***Without the predictor it collapses, slowly.*** *The slow copy only delays: after 90 epochs the cosine is far higher and recall far lower than after 30.*
# - ***Without both: one direction***, *and the recall of popularity.*
# - ***A frozen target teaches next to nothing***: *nearly every direction is used, the rank is the highest of all, and recall is below popularity. A
#   high rank alone is no merit.*
#
# Why the predictor? Without it, each vector is pulled to the mean direction of its partners. Do that again and again, and news from everywhere mixes: it is
# the over-smoothing of lesson 03, by training. With a predictor, $q$ may learn the way to the partners' mean, and the vectors need not go there
# themselves. That is an intuition; a full theory is still argued about.
#
# ## BM3: no copy, and content
# BM3 (Zhou et al., 2023) throws the slow copy away. It takes LightGCN's vectors $h$ (an item's own layer 0 is added once more), and a target is the
# same vector with **holes**, $\hat h = \mathrm{dropout}(h)$.
#
# ## Exercise 3 · a view with holes

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 6 min · 2 points · difficulty 1 of 3
# Write `dropout_view`: leave out a share of the numbers, scale up the rest.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "dropout_view", "title": "leave out a share of the numbers, scale up the rest", "points": 2, "minutes": 6, "difficulty": 1, "hints": ["One draw for every number of the table: 1 keeps it, 0 leaves it out. How likely must a 1 be?", "On average an entry must stay what it was. If one in two is kept, those kept count twice.", "torch.empty(h.shape).bernoulli_(p, generator=generator) draws ones with probability p. Multiply, and divide by that p."]}
def dropout_view(h, rate, generator):
    """h with a share of its numbers set to zero and the others scaled up, so that the expected value stays.

    Args:
        h: (B, d), left as it is.
        rate: share of the numbers to leave out, from 0 to below 1.
        generator: a torch.Generator. Draw once, with `torch.empty(h.shape).bernoulli_(…, generator=generator)`:
            1 where a number is kept.
    Returns:
        (B, d).
    """
    raise NotImplementedError("Write `dropout_view`: leave out a share of the numbers, scale up the rest")

# %%
check("dropout_view")

# %%
hint("dropout_view")

# %% [markdown]
# ## Exercise 4 · users and items predict each other
# One predictor $q(h) = W h + b$ for all. Each side predicts the **partner's** view:
#
# $$L_{rec} = D(q(h_u), \hat h_i) + D(q(h_i), \hat h_u)$$

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 7 min · 2 points · difficulty 2 of 3
# Write `rec_loss`: both directions.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "rec_loss", "title": "both directions", "points": 2, "minutes": 7, "difficulty": 2, "hints": ["Two distances are added. In each the left side has passed the predictor and the right side has not.", "Rows are users: W h + b for every row is `h @ W.T + b`. You may call your `bootstrap_distance`.", "The user's prediction is compared with view_i, the item's with view_u, both views held still."]}
def rec_loss(h_u, h_i, view_u, view_i, W, b):
    """D(q(h_u), view_i) + D(q(h_i), view_u), with q(h) = W h + b.

    Args:
        h_u, h_i: (B, d), row n is a user and an item she took.
        view_u, view_i: (B, d), the same with holes; held still.
        W, b: (d, d) and (d,), the predictor.
    Returns:
        a tensor with one number.
    """
    raise NotImplementedError("Write `rec_loss`: both directions")

# %%
check("rec_loss")

# %%
hint("rec_loss")

# %% [markdown]
# ## Exercise 5 · content joins
# For each modality (picture, words) a linear map makes $h_m = W_m e_m + b_m$ of the frozen features $e_m$. Two terms:
#
# $$L_{align} = D(q(h_m), \hat h_i), \qquad L_{mask} = D(q(h_m), \hat h_m)$$
#
# *align*: the picture predicts its item. *mask*: the picture predicts itself with holes. An item without a picture takes no part: not in the sum, not in
# the count. The terms of picture and words are added, and with that you have all of BM3's loss:
#
# $$L = L_{rec} + 2\,L_{align} + 2\,L_{mask} + \lambda\,L_{reg}$$
#
# The 2 are the released code's. $L_{reg}$ is a penalty on lengths; here $\lambda = 0$.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 9 min · 3 points · difficulty 2 of 3
# Write `align_and_mask`: the two terms of one modality.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "align_and_mask", "title": "the two terms of one modality", "points": 3, "minutes": 9, "difficulty": 2, "hints": ["One prediction, q(h_m), meets two targets. Both targets are held still.", "Not the mean over the batch: sum over those that are present, divide by how many they are.", "`(values * present).sum() / present.sum().clamp_min(1)` is such a mean, and 0 where nobody is present. torch.stack([align, mask]) makes one answer of two numbers."]}
def align_and_mask(h_m, view_i, view_m, present, W, b):
    """L_align and L_mask of one modality, over the items that have it.

    Args:
        h_m: (B, d), the projected features of each item; rows of those without the modality mean nothing.
        view_i: (B, d), the item's vector with holes; held still.
        view_m: (B, d), h_m with holes; held still.
        present: (B,) bool, whether the item has the modality.
        W, b: (d, d) and (d,), the predictor q(h) = W h + b.
    Returns:
        (2,) tensor: align, mask; both 0 if no item of the batch has the modality.
    """
    raise NotImplementedError("Write `align_and_mask`: the two terms of one modality")

# %%
check("align_and_mask")

# %%
hint("align_and_mask")

# %% [markdown]
# ## Your functions and the package's
# One batch through the package's BM3, and through your `dropout_view`, `rec_loss` and `align_and_mask`, with the same random numbers.

# %%
model = create("bm3", bazaar, dim=32, seed=0).train()
u, i = (torch.from_numpy(ids[:512].copy()) for ids in (bazaar.train.users, bazaar.train.items))
state = model.generator.get_state()
package = model.losses(Batch(u, i), {"rec", "align", "mask"})
model.generator.set_state(state)  # the same holes once more
with torch.no_grad():
    users, items = model.propagate()
    W, b = model.predict.weight, model.predict.bias
    view_u, view_i = (dropout_view(h, 0.5, model.generator) for h in (users[u], items[i]))
    own = {"rec": rec_loss(users[u], items[i], view_u, view_i, W, b), "align": 0.0, "mask": 0.0}
    for m in model.modality.names:
        h_m, present = model.modality(m, i), ~torch.from_numpy(bazaar.missing[m])[i]
        align, mask = align_and_mask(h_m, view_i, dropout_view(h_m, 0.5, model.generator), present, W, b)
        own["align"], own["mask"] = own["align"] + align, own["mask"] + mask
for term, value in package.items():
    print(f"{term:>5}: yours {own[term]:.6f}, the package's {value:.6f}, difference {abs(own[term] - value.detach()):.0e}")

# %% [markdown]
# ## Take BM3 apart
# Now its three guards, one by one, and two of them together.

# %%
parts = {"BM3": rows["BM3", 0]}
guards = {
    "no stop-gradient": {"stop_gradient": False}, "no predictor": {"predictor": False}, "no dropout": {"dropout": 0.0},
    "no dropout, no predictor": {"dropout": 0.0, "predictor": False},
}
for name, options in guards.items():
    whole[name], ranks[f"BM3, {name}"] = fitted("bm3", BM3, **options)
    parts[name] = row(whole[name])
    print(f"{name}: effective rank {parts[name]['effective rank']:.1f}")
collapse = pd.DataFrame(parts).T.drop(columns="cold items")
collapse.round(3)

# %%
figures.lines(
    range(1, 31), {"BM3": ranks["BM3"]} | {name: ranks[f"BM3, {name}"] for name in guards}, x_title="epoch",
    y_title="effective rank, warm items",
    title="Directions left: without stop-gradient {:.1f}, without predictor {:.1f}, without dropout {:.0f}".format(
        *collapse.loc[["no stop-gradient", "no predictor", "no dropout"], "effective rank"]
    ),
)

# %% jupyter={"source_hidden": true}
fallen = [name for name in ("no stop-gradient", "no predictor", "no dropout") if collapse.loc[name, "mean cosine"] > 0.9]
named = {
    ("no stop-gradient",): "the stop-gradient only", ("no predictor",): "the predictor only",
    ("no stop-gradient", "no predictor"): "either of these two, not dropout",
}
said = "; ".join(f"{name}: {part['mean cosine']:.2f} and {part['recall@20']:.3f}" for name, part in collapse.iterrows())
reveal(
    "bm3-collapse", named.get(tuple(fallen), "each of the three"),
    f"Mean cosine between items, and recall. {said}. Popularity has a recall of {popular:.3f}.",
)

# %% [markdown]
# *Takeaway: stop-gradient and predictor are both needed; either one missing is a collapse. Dropout is not what holds it up. Without dropout BM3
# stays healthy and here even finds a little more. Why? In $L_{rec}$ the two sides are a user and an item. They are different already; no holes are
# needed to tell them apart. Only when the predictor is gone do the holes show: with them some directions survive, without them one.*
#
# How can several directions be left when the mean cosine is nearly 1? One is strong and the others are weak; the effective rank counts many weak ones, too.
# So look at both.
#
# But why is a collapsed model as good as popularity, and not as bad as chance?

# %%
with torch.no_grad():
    fallen_model = whole["no stop-gradient"]
    with fallen_model.evaluating():
        average = fallen_model.score(torch.arange(bazaar.n_users)).mean(0).numpy()[warm]
root = np.sqrt(bazaar.item_counts[warm])
figure = go.Figure(go.Scatter(
    x=bazaar.item_counts[warm], y=average, mode="markers", marker={"color": palette.BLUE, "size": 7, "opacity": 0.6},
    text=bazaar.items["title"].to_numpy()[warm],
))
figure.update_xaxes(title="buyers in training").update_yaxes(title="mean score over all users")
figure.update_layout(
    template=palette.template(), height=380,
    meta={"alt": "Scatter of an item's mean score against its number of buyers: they rise together."},
    title="All point one way; what is left is length, and length is popularity "
    f"(correlation with √buyers {np.corrcoef(average, root)[0, 1]:.2f})",
)

# %% [markdown]
# *Takeaway: the cosine does not look at lengths, so the collapse leaves them. The graph gives much bought items longer vectors. A collapsed model
# ranks by that, for everybody alike. Beware: "better than chance" is no sign of health.*
#
# ## The same in pictures
# Directions of the warm items, unit length, on their two widest axes (PCA, not centred), one scale for all. A point on the circle lies in these two
# axes alone; one inside has the rest of its length in the 30 others.

# %%
category = bazaar.items["category"].to_numpy()[warm]
common = bazaar.items["category"].value_counts().index[:4].tolist()
show = np.isin(category, common)  # four categories: fewer points, clearer picture
names = bazaar.items["title"].to_numpy()[warm][show]
pictured = ("BM3", "no stop-gradient", "no predictor")
tables = {}
for name in pictured:
    with whole[name].evaluating():
        tables[name] = whole[name].views()["item/online"][warm].detach()

heads = [f"{n}<br>rank {collapse.loc[n, 'effective rank']:.1f}, cosine {collapse.loc[n, 'mean cosine']:.2f}" for n in pictured]
trio = make_subplots(1, 3, horizontal_spacing=0.04, subplot_titles=heads)
around = np.linspace(0, 2 * np.pi, 100)
for column, name in enumerate(pictured, start=1):
    x = torch.nn.functional.normalize(tables[name], dim=1).double()
    axes = torch.linalg.svd(x, full_matrices=False).Vh[:2]
    flip = (x @ axes.T).mean(0).sign()  # a direction has no sign of its own: turn the crowd to one side
    circle = {"mode": "lines", "line": {"color": palette.FAINT}, "showlegend": False, "hoverinfo": "skip"}
    trio.add_scatter(x=np.cos(around), y=np.sin(around), row=1, col=column, **circle)
    for trace in figures.map_traces((x @ axes.T * flip).numpy()[show], category[show], "category", names, size=6):
        trio.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
    frame = {"range": [-1.1, 1.1], "showticklabels": False, "showgrid": False, "zeroline": True, "ticks": "", "row": 1, "col": column}
    trio.update_xaxes(title="widest axis (PCA)", **frame).update_yaxes(scaleanchor=f"x{column if column > 1 else ''}", **frame)
trio.update_layout(
    template=palette.template(), height=450, margin={"t": 130, "l": 20, "r": 10},
    title={"text": "A shop that points everywhere, and two that point one way",
           "y": 0.96, "yref": "container", "yanchor": "top", "pad": {"t": 0, "b": 0}},
    meta={"alt": "Three maps of directions on one scale. " + "; ".join(h.replace("<br>", ": ") for h in heads) + "."},
)

# %% [markdown]
# *Takeaway: this is what a cosine near 1 looks like. All items sit at one spot of the circle.* Now UMAP, which does not keep scale.

# %%
def umap_of(name, title):
    """The warm items of one model as UMAP draws them."""
    projector = Projector(min_dist=0.4, seed=0)
    xy = projector.fit(tables[name].numpy())
    figure = figures.embedding_map(
        xy[show], category[show], hover=names, kept=projector.kept(), height=480, title=title,
        measured={"effective rank": collapse.loc[name, "effective rank"], "mean cosine": collapse.loc[name, "mean cosine"]},
    )
    return figure.update_layout(width=760)


umap_of("BM3", "UMAP of BM3: items of a kind lie together")

# %%
umap_of("no stop-gradient", "UMAP without stop-gradient: a picture with shape, of vectors that all point one way")

# %% [markdown]
# *Takeaway: UMAP blows up the little that differs until kinds stand apart. Only the line below the map gives the collapse away: rank and cosine are
# of the full space.*
#
# ## What does content do in BM3?
# First, after training. We take the trained BM3 and give it wrong features, then none.

# %%
before = whole["BM3"].eval()
everybody = torch.arange(bazaar.n_users)
scores = before.score(everybody)
kept, pictures = {m: before.modality.table(m).clone() for m in before.modality.names}, before.modality("image").detach()
order = torch.from_numpy(np.random.default_rng(0).permutation(bazaar.n_items))
changed = {}
for what, change in {"features of another item": lambda t: t[order], "all features zero": torch.zeros_like}.items():
    for m in before.modality.names:
        before.modality.table(m).data = change(kept[m])
    changed[what] = (before.score(everybody) - scores).abs().max().item()
    moved = (before.modality("image") - pictures).abs().max()
    print(f"{what}: pictures' vectors move by up to {moved:.1f}, and {scores.numel():,} scores by up to {changed[what]}")
for m in before.modality.names:
    before.modality.table(m).data = kept[m]

# %% jupyter={"source_hidden": true}
reveal(
    "bm3-features", "they stay exactly the same" if max(changed.values()) == 0 else "they change a little",
    "The score is q(h_u) · q(h_i), and both come from ids and the graph. Content is there in training only. "
    f"So a cold item, which has no edge, gets nothing: recall {rows['BM3', 0]['cold items']:.3f}.",
)

# %% [markdown]
# So content must help **through training**. Follow the gradient: which term reaches which table?

# %%
probe = create("bm3", bazaar, dim=32, seed=0).train()
terms = probe.losses(Batch(u, i), {"rec", "align", "mask"})
reach = {
    "user ids": probe.user_id.weight, "item ids": probe.item_id.weight, "predictor W": probe.predict.weight,
    "projection of pictures": probe.modality.layer("image").weight,
}
slopes = {}
for term, value in terms.items():
    found = torch.autograd.grad(value, list(reach.values()), allow_unused=True, retain_graph=True)
    slopes[f"L_{term}"] = ["none" if g is None else f"{g.norm():.3f}" for g in found]
pd.DataFrame(slopes, index=list(reach))

# %% [markdown]
# *Takeaway: align pulls the picture to the item, never the item to the picture: the item is the target, and targets are held still. **No
# content term has a gradient on the ids.** The one way from content to ids is the shared predictor.*
#
# How much comes through that door? Train with the content terms, without them, and with the features of other items.

# %%
mixed = order.numpy()
swapped = bazaar.with_features(
    {m: f[mixed] for m, f in bazaar.features.items()}, {m: gone[mixed] for m, gone in bazaar.missing.items()}
)
content = {"own features (BM3)": table.loc["BM3"].mean(), "no content: rec alone": [], "another item's features": []}
for seed in (0, 1, 2):
    content["no content: rec alone"].append(row(fitted("bm3", {"reg": 0.0, "align": 0.0, "mask": 0.0}, seed=seed)[0]))
    content["another item's features"].append(row(fitted("bm3", BM3, seed=seed, data=swapped)[0], swapped))
doors = pd.DataFrame({k: pd.DataFrame(v).mean() if isinstance(v, list) else v for k, v in content.items()}).T
doors.round(3)

# %% [markdown]
# *Takeaway (means over three seeds): on the bazaar, content moves BM3's recall by about as much as seeds differ. The true features, no features and
# wrong features are within a hundredth or so of each other, and a cold item gets nothing from any. The paper reports gains of its content terms on its
# own, far sparser data. Measure it on yours: train once with `align` and `mask` at 0.*
#
# ## What if …
# Untick `stop gradient` and watch both maps and the effective rank. Put it back, untick `predictor`. Move `dropout` to 0. Then untick `align` and `mask`.
#
# And a move to predict: untick `rec`, with `align` and `mask` on. Pictures and words alone.

# %%
predict(
    "bm3-no-rec", "BM3 trained without rec, by align and mask alone. What is its recall@20?",
    options=["nearly as before: content knows what is alike", "like popularity", "about chance"],
)

# %%
whatif(
    "bm3", bazaar, controls=["rec", "align", "mask", "reg", "dropout", "stop_gradient", "predictor"],
    views=["item/id", "item/content"], options={"dim": 32}, weights={"reg": 0.0}, lr=1e-2, batch_size=1024, epochs=30,
)

# %%
alone = fitted("bm3", BM3 | {"rec": 0.0})[0]
fresh = create("bm3", bazaar, dim=32, seed=0)
same = torch.equal(alone.item_id.weight, fresh.item_id.weight) and torch.equal(alone.user_id.weight, fresh.user_id.weight)
found = row(alone)["recall@20"]
print("the id vectors are those of the start, bit for bit" if same else "the id vectors have moved")

# %% jupyter={"source_hidden": true}
reveal(
    "bm3-no-rec",
    "about chance" if found < 0.07 else "like popularity" if found < popular + 0.05 else "nearly as before: content knows what is alike",
    f"{found:.3f}, where chance is {20 / bazaar.n_items:.3f} and popularity {popular:.3f}. The score is made of ids, and no gradient reached them. align taught "
    "pictures and words to predict random numbers.",
)

# %% [markdown]
# BUIR's guards, in the same way. Set `momentum` to 0: no slow copy. Put it back, untick `predictor`, and let the panel train on. Then both.
#
# Two views, each with a few other edges left out: is that a guard as well? `edge dropout` is the most that a view may lose; how much it loses is drawn
# at each step. Predict two moves: `edge dropout` to 0, and to 0.9.

# %%
predict(
    "buir-edges", "BUIR with edge dropout 0 and with 0.9, in place of 0.2. What happens to its recall@20?",
    options=["at 0 it collapses", "at 0.9 it falls by more than a tenth", "at both it hardly moves"],
)

# %%
whatif(
    "buir", bazaar, controls=["momentum", "predictor", "edge_dropout"],
    views=["item/online", "item/target"], options={"dim": 32}, lr=1e-2, batch_size=1024, epochs=30,
)

# %%
edges = pd.DataFrame({0.2: rows["BUIR", 0]} | {rate: row(fitted("buir", edge_dropout=rate)[0]) for rate in (0.0, 0.9)}).T.sort_index()
edges.rename_axis("edge dropout").drop(columns="cold items").round(3)

# %% jupyter={"source_hidden": true}
rate = edges["recall@20"]
answer = "at 0 it collapses" if edges.loc[0.0, "effective rank"] < 5 else "at 0.9 it falls by more than a tenth"
reveal(
    "buir-edges", "at both it hardly moves" if abs(rate / rate[0.2] - 1).max() < 0.05 else answer,
    f"Recall {rate[0.0]:.3f}, {rate[0.2]:.3f} and {rate[0.9]:.3f}. The dropped edges are no guard: without them the effective rank is "
    f"{edges.loc[0.0, 'effective rank']:.0f}. Nor are they missed: a pair that was taken is asked for in the loss, whether or not its edge is left out, and the "
    "score uses all edges.",
)

# %% [markdown]
# ## Paper and code
# | the paper writes | the released code does | what it changes here |
# |---|---|---|
# | $e_m$ are features, $h_m$ their projection | the feature tables are **trained** too | many more parameters: measured below |
# | $\lambda(\lVert h_u\rVert^2+\lVert h_i\rVert^2)$ | the norm of each whole table, not squared, divided by the number of items ("EmbLoss") | measured below |
# | losses $-C(\cdot,\cdot)$ | $1 - C(\cdot,\cdot)$ | nothing: a constant has no gradient |
# | rec, align and mask at equal weight | align and mask at 2 | little: they hardly reach the ids |
# | project the items of the batch | project all items, every batch | the same numbers, more work |

# %%
forms = {
    "no regularisation": ({}, BM3), "squared, λ = 0.01": ({}, {"reg": 0.01}),
    "EmbLoss, λ = 0.1 (released)": ({"regularizer": "emb_norm"}, {"reg": 0.1}),
    "EmbLoss and trained features (released)": ({"regularizer": "emb_norm", "trainable_features": True}, {"reg": 0.1}),
}
lines = {}
for name, (options, weights) in forms.items():
    model = whole["BM3"] if name == "no regularisation" else fitted("bm3", weights, **options)[0]
    with model.evaluating():
        size = model.views()["item/online"][warm].norm(dim=1).numpy()
    numbers = sum(p.numel() for p in model.parameters())
    lines[name] = {
        "recall@20": row(model)["recall@20"], "numbers trained": numbers, "mean length of item vectors": size.mean(),
        "length: correlation with √buyers": np.corrcoef(size, root)[0, 1],
    }
    print(f"{name}: recall@20 {lines[name]['recall@20']:.3f}")
pd.DataFrame(lines).T.astype({"numbers trained": int}).round(3)

# %% [markdown]
# *Takeaway: training the feature tables more than doubles what is trained and finds nothing more. EmbLoss at 0.1 finds what no penalty finds.*
#
# *A squared λ of 0.01 costs recall. The cosine never asks for length, so nothing resists the penalty's pull to zero, and it pulls most at items that
# are often in a batch: the popular ones. Length no longer follows the number of buyers (last column), and the score, an inner product, has lost
# what it knew of popularity.*
#
# ## Recap
# - A model can learn from positive pairs alone. The loss is blind to collapse: look at rank, cosine and recall, all three.
# - Both need the predictor, and BM3's target must be held still. BUIR's slow copy only delays a collapse; BM3's dropout is not what prevents it.
# - A collapsed model may still score like popularity.
# - BM3 uses content in training only, and only through the shared predictor. Cold items get nothing.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "BM3's loss falls to nearly 0 within an epoch. Good news?",
            "options": ["Yes, it learned quickly", "Not by itself: a collapse has loss 0 as well"],
            "answer": 1,
            "why": ["One vector for everything has the best loss of all.",
                    "Right: look at effective rank, mean cosine and recall."],
        },
        {
            "question": "BUIR without a predictor, but with its slow copy, has a fair recall after 30 epochs. And after many more?",
            "options": ["It goes on falling: the copy delays the collapse", "It recovers", "It stays"],
            "answer": 0,
            "why": ["Right: you saw it at 90 epochs.", "Nothing pushes the vectors apart again.",
                    "The copy follows, and so does the collapse."],
        },
        {
            "question": "Why does L_align not move the item ids?",
            "options": ["Its weight is too small", "The item's view is the target, and targets are held still",
                        "Pictures are frozen"],
            "answer": 1,
            "why": ["No weight helps where no gradient is.", "Right: align teaches the projection and the predictor.",
                    "True, but W_m learns from it."],
        },
        {
            "question": "Your shop has many new items each day. Is BM3 as it stands the model for them?",
            "options": ["Yes, it is multimodal", "No: it scores by ids, and a new item has an untrained one"],
            "answer": 1,
            "why": ["It is so in training only.", "Right. Lesson 02's way, or lesson 07's, lets content speak in the score."],
        },
    ],
    id="05-bootstrapping",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")
# whatif("bm3", data, controls=["rec", "align", "mask", "reg", "dropout", "stop_gradient", "predictor"], views=["item/id", "item/content"])
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --models lightgcn,buir,bm3 --grid bm3.reg=0,0.001,0.01 --seeds 3`.
# In the course's folder, `python benchmarks/collapse.py --print` shows what each guard is worth over three seeds and three times as many epochs.
#
# Next, lesson 06: one vector for picture and words together.
