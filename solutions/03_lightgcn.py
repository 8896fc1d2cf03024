# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 03 · LightGCN: let the graph speak
# *45 minutes · 10 points · needs lesson 01 · after this you can write graph propagation from its edges, say why it costs next to nothing, and show when one
# layer more hurts.*
#
# BPR learns a user from the things she took, one pair at a time. It never asks: who else took them, and what did **they** take?
#
# That news is in the graph. **How far should it travel?**

# %%
import time

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from mmrec_teach.evaluation.diagnostics import effective_rank, mean_cosine
from mmrec_teach.evaluation.statistics import paired_comparison
from mmrec_teach.models import LightGCN
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.ops import graph
from mmrec_teach.views import Projector, Setting, palette, replay, warm_up

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130)
bazaar = load("bazaar")
mia = int(np.flatnonzero(bazaar.user_ids == "v0660")[0])
took = bazaar.matrix("train")  # (users, items), 1 where taken
print(bazaar)

# %% [markdown]
# ## How far news travels
# Start at Mia. One step leads to her things, two steps to all who took one of them, three to everything those took, and so on.

# %%
users, rows = np.arange(bazaar.n_users) == mia, []
for steps in range(1, 7):
    if steps % 2:
        items = took[users].sum(0) > 0
        rows.append({"model": "items reached", "metric": f"{steps} step{'s' * (steps > 1)}", "mean": items.mean()})
    else:
        users = took[:, items].sum(1) > 0
        rows.append({"model": "users reached", "metric": f"{steps} steps", "mean": users.mean()})
bar = figures.metric_bars(pd.DataFrame(rows), title=f"From Mia's {int(took[[mia]].sum())} things to nearly the whole shop in a few steps")
bar.update_yaxes(title="share reached").update_xaxes(title="steps along the edges")

# %% [markdown]
# *Takeaway: odd steps reach things, even steps reach people. Two steps from Mia are people with a thing in common; four steps is nearly everybody,
# five is everything that anybody ever took. News that comes from everybody says nothing about Mia.*
#
# ## Commit first
# LightGCN passes vectors along the edges, layer by layer. Depth 0 is plain matrix factorisation: BPR.

# %%
predict("depth", "Trained with 0, 1, 2, 4 and 8 layers: which depth finds most (recall@20)?", options=[0, 1, 2, 4, 8])

# %%
predict(
    "collapse",
    "Take good item vectors and pass them along 16 times, keeping only the last layer. How alike do two items look then (mean cosine)?",
    options=["about 0: as different as before", "about 0.5", "about 1: mostly one way"],
)

# %% [markdown]
# ## A graph small enough to hold
# Three users, four items. An edge for each purchase. We will send vectors along the edges, and each edge needs a **value**: how much of the
# news gets through.

# %%
toy_users, toy_items = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 1, 1, 2, 3, 3])


def draw(values=None, title="Six purchases"):
    """The toy graph, with a number on each edge."""
    figure = go.Figure()
    for e, (u, i) in enumerate(zip(toy_users.tolist(), toy_items.tolist())):
        figure.add_scatter(x=[0, 1], y=[-u - 0.5, -i], mode="lines", line={"color": palette.FAINT, "width": 3}, hoverinfo="skip")
        if values is not None:
            place = 0.3 if e % 2 else 0.62
            figure.add_annotation(
                x=place, y=(-u - 0.5) * (1 - place) - i * place, text=f"{float(values[e]):.2f}", showarrow=False, bgcolor="white"
            )
    for x, ys, names, colour, symbol in (
        (0, [-0.5, -1.5, -2.5], ["Mia", "neighbour", "stranger"], palette.BLUE, "circle"),
        (1, [0, -1, -2, -3], ["lamp", "rug", "mug", "kite"], palette.ORANGE, "square"),
    ):
        figure.add_scatter(
            x=[x] * len(ys), y=ys, mode="markers+text", text=names, marker={"size": 26, "color": colour, "symbol": symbol},
            textposition="middle left" if x == 0 else "middle right", textfont={"size": 15}, hoverinfo="skip",
        )
    figure.update_xaxes(visible=False, range=[-0.4, 1.3]).update_yaxes(visible=False, range=[-3.5, 0.5])
    alt = "Three users left, four items right, six edges" + ("" if values is None else " with their values")
    return figure.update_layout(
        template=palette.template(), title=title, showlegend=False, height=330, width=620, meta={"alt": f"{alt}."}
    )


draw()

# %% [markdown]
# *Takeaway: Mia and her neighbour share a rug. So the neighbour's mug and kite are three steps away from Mia: that is where a recommendation comes
# from.*
#
# ## The formula
# A user's next vector is a weighted sum of her items' vectors. An item's next vector is a weighted sum of its users' vectors. All at once, from the
# **old** vectors (He et al., 2020):
#
# $$h_u^{(l+1)} = \sum_{i\in N_u} \frac{h_i^{(l)}}{\sqrt{|N_u|}\sqrt{|N_i|}}, \qquad
#   h_i^{(l+1)} = \sum_{u\in N_i} \frac{h_u^{(l)}}{\sqrt{|N_u|}\sqrt{|N_i|}}$$
#
# $N_u$ are the items of user $u$, $|N_u|$ is how many. No weight matrix, no activation: a graph convolution with everything taken out but
# the graph. Only $h^{(0)}$ is learned.
#
# Why two roots? Without them a much bought item would shout at everyone, and vectors would grow at every layer. With them the
# matrix of the edge values, $\hat A$, is **symmetric**, and its largest eigenvalue is exactly 1: nothing grows.
#
# ## Exercise 1 · the value of every edge

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 3 points · difficulty 2 of 3
# Write `normalize_adjacency`: one over the roots of both degrees, for every edge.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "normalize_adjacency", "title": "one over the roots of both degrees, for every edge", "points": 3, "minutes": 8, "difficulty": 2, "hints": ["Two counts first: how many edges each user has, and how many each item has. Then look both up for each edge.", "torch.bincount(users, minlength=n_users) counts the edges of every user; indexing it with `users` gives one degree for each edge.", "Multiply the two degrees of an edge as floats and take one over the square root: .rsqrt() does both."]}
def normalize_adjacency(users, items, n_users, n_items):
    """Value 1 / (√|N_u| √|N_i|) of every edge (u, i).

    Args:
        users, items: (n,) the ends of n different edges.
        n_users, n_items: how many users and items there are, those without an edge included.
    Returns:
        (n,) float, in the order of the edges.
    """
    ### BEGIN SOLUTION
    user_degree = torch.bincount(users, minlength=n_users)
    item_degree = torch.bincount(items, minlength=n_items)
    return (user_degree[users] * item_degree[items]).float().rsqrt()
    ### END SOLUTION

# %%
check("normalize_adjacency")

# %%
hint("normalize_adjacency")

# %% [markdown]
# Your values on the toy graph. (This cell and "Your functions and the package's" below run what you wrote: write exercise 1 first.)

# %%
draw(normalize_adjacency(toy_users, toy_items, 3, 4), "Edges between well connected ends let less through")

# %% [markdown]
# *Takeaway: the lamp has one buyer, so Mia's edge to it is strong. The neighbour has three things: each says less
# about the neighbour.*
#
# ## Exercise 2 · one step along the edges
# Users and items sit in one table `h`: users in the first rows, items after them. Item $i$ is row `n_users + i`. For every edge, take
# the vector at one end, multiply it by the edge's value, add it at the other end. In both directions.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 12 min · 4 points · difficulty 3 of 3
# Write `propagate`: one step along the edges.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "propagate", "title": "one step along the edges", "points": 4, "minutes": 12, "difficulty": 3, "hints": ["Make an empty (all zero) table like h. Along each edge two messages travel: item to user and user to item. Both read h, neither reads the new table.", "A node with many edges receives many messages and must add them up. new[users] = … or new[users] += … keeps only one of them; index_add adds all.", "values[:, None] * h[n_users + items] are the messages to users; new.index_add(0, users, messages) delivers them. The other direction likewise."]}
def propagate(users, items, values, h, n_users):
    """One LightGCN layer, from the list of edges.

    Args:
        users, items: (n,) the ends of the edges.
        values: (n,) how much of the news each edge lets through.
        h: (n_users + n_items, d) layer l, users first.
        n_users: how many of the rows are users.
    Returns:
        (n_users + n_items, d) layer l + 1; zeros for whoever has no edge.
    """
    ### BEGIN SOLUTION
    to_users = values[:, None] * h[n_users + items]
    to_items = values[:, None] * h[users]
    received = torch.zeros_like(h).index_add(0, users, to_users)
    return received.index_add(0, n_users + items, to_items)
    ### END SOLUTION

# %%
check("propagate")

# %%
hint("propagate")

# %% [markdown]
# Watch one number travel, by your `propagate` (write exercise 2 first). Only the lamp knows something; everyone else starts at zero.

# %%
toy_values = graph.normalized_adjacency(toy_users.numpy(), toy_items.numpy(), 3, 4).to_dense()[toy_users, 3 + toy_items]
news = torch.zeros(7, 1)
news[3] = 1.0  # row 3 is item 0, the lamp
steps = [news]
for _ in range(4):
    steps.append(propagate(toy_users, toy_items, toy_values, steps[-1], 3))
names = ["Mia", "neighbour", "stranger", "lamp", "rug", "mug", "kite"]
pd.DataFrame({f"layer {l}": h[:, 0].tolist() for l, h in enumerate(steps)}, index=names).round(2)

# %% [markdown]
# *Takeaway: at layer 1 Mia knows, at layer 2 the rug, at layer 3 the neighbour, at layer 4 the neighbour's mug and kite. News alternates
# between the two sides, and thins out.*
#
# That sum over edges is a product with a sparse matrix, $H^{(l+1)} = \hat A H^{(l)}$: one call, and it runs at the speed of memory.
#
# ## Exercise 3 · the mean of the layers
# Layer 0 is a node itself, layer 1 its direct neighbours, layer 2 those who share one. LightGCN keeps **all** of them, equally:
#
# $$H = \frac{1}{L+1}\sum_{l=0}^{L} H^{(l)}$$

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 6 min · 3 points · difficulty 1 of 3
# Write `layer_mean`: propagate L times and average all layers.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "layer_mean", "title": "propagate L times and average all layers", "points": 3, "minutes": 6, "difficulty": 1, "hints": ["Keep two things while you walk: the current layer, and the sum of all layers so far. Both begin as h0.", "`adjacency @ layer` is the next layer. L layers of propagation make L + 1 tables.", "for _ in range(n_layers): layer = adjacency @ layer; total = total + layer. At the end divide by n_layers + 1."]}
def layer_mean(adjacency, h0, n_layers):
    """LightGCN's output: the mean of layers 0 … n_layers.

    Args:
        adjacency: (n, n) sparse and symmetric, the matrix of the edge values.
        h0: (n, d) learned vectors, users first.
        n_layers: L; 0 gives h0 back.
    Returns:
        (n, d).
    """
    ### BEGIN SOLUTION
    layer = total = h0
    for _ in range(n_layers):
        layer = adjacency @ layer
        total = total + layer
    return total / (n_layers + 1)
    ### END SOLUTION

# %%
check("layer_mean")

# %%
hint("layer_mean")

# %% [markdown]
# ## Your functions and the package's
# On the whole bazaar: your edge values, your step, your mean, against the package's tested code. (Needs all three exercises.)

# %%
model = create("lightgcn", bazaar, dim=32, n_layers=2, seed=0)
u, i = torch.from_numpy(bazaar.train.users.copy()), torch.from_numpy(bazaar.train.items.copy())
with torch.no_grad():
    h0 = torch.cat([model.user_id.weight, model.item_id.weight])
    values = normalize_adjacency(u, i, bazaar.n_users, bazaar.n_items)
    package_values = model.adjacency.to_dense()[u, bazaar.n_users + i]
    step, package_step = propagate(u, i, values, h0, bazaar.n_users), graph.propagate(model.adjacency, h0)
    mean, package_mean = layer_mean(model.adjacency, h0, 2), torch.cat(model.propagate())
for name, a, b in (("edge values", values, package_values), ("one step", step, package_step), ("layer mean", mean, package_mean)):
    print(f"{name}: largest difference {(a - b).abs().max():.1e}")

# %% [markdown]
# ### A trick worth knowing
# The package does not call `adjacency @ h` but `graph.propagate`. Why? Training needs the gradient. If $Y = \hat A H$ and $G$ is the gradient that
# arrives at $Y$, then $\hat A^\top G$ must go on to $H$. Autograd therefore transposes the sparse matrix, at every step. But $\hat A$ is
# symmetric: $\hat A^\top G = \hat A G$. So backward is **the same product once more**, and a small `autograd.Function` says so.

# %%
def seconds(product, repeats=40):
    """Median time of forward and backward through two layers."""
    table, times = h0.clone().requires_grad_(True), []
    for _ in range(repeats):
        start = time.perf_counter()
        product(model.adjacency, product(model.adjacency, table)).square().sum().backward()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), table.grad / repeats


plain, gradient = seconds(lambda a, h: a @ h)
ours, our_gradient = seconds(graph.propagate)
print(f"forward and backward, two layers: plain product {1000 * plain:.2f} ms, with the trick {1000 * ours:.2f} ms")
apart = (gradient - our_gradient).abs().max() / gradient.abs().max()
print("the gradients are equal, bit by bit" if apart == 0 else f"the gradients differ by {apart:.0e} of the largest")

# %% [markdown]
# ## Does it beat BPR?
# Same data, same 30 epochs, vectors of 32 numbers, three seeds. Each model has the `λ` that did best on the validation split. Beside them item-kNN: no
# training, it counts how often two things were taken by the same people.

# %%
def fitted(model, weights=None, epochs=30, seed=0, lr=1e-2):
    """Train a model; returns it and the seconds an epoch took."""
    records = list(train(model, bazaar, weights=weights, epochs=epochs, lr=lr, batch_size=1024, seed=seed, metrics_every=0))
    return model, float(np.median([record.seconds for record in records]))


runs = {"item-kNN": [evaluate(create("item-knn", bazaar), bazaar, "test")], "BPR": [], "LightGCN": []}
for seed in (0, 1, 2):
    bpr, _ = fitted(create("bpr", bazaar, dim=32, seed=seed), {"l2": 0.03}, seed=seed)
    light, _ = fitted(create("lightgcn", bazaar, dim=32, n_layers=2, seed=seed), {"l2": 1e-3}, seed=seed)
    runs["BPR"].append(evaluate(bpr, bazaar, "test"))
    runs["LightGCN"].append(evaluate(light, bazaar, "test"))
    print(f"seed {seed}: recall@20 BPR {runs['BPR'][-1].mean('recall@20'):.3f}, LightGCN {runs['LightGCN'][-1].mean('recall@20'):.3f}")
    if seed == 0:
        first = light
table = pd.DataFrame(
    {(name, s): {m: r.mean(m) for m in ("recall@20", "ndcg@20")} | {"cold": r.cold()["recall@20"]}
     for name, results in runs.items() for s, r in enumerate(results)}
).T.rename_axis(["model", "seed"])
table.round(3)

# %%
rows = []
for name, results in runs.items():
    for metric in ("recall@20", "ndcg@20"):
        values_of = [r.mean(metric) for r in results]
        rows.append({"model": name, "metric": metric, "mean": np.mean(values_of), "low": min(values_of), "high": max(values_of)})
gain = table.loc["LightGCN"].mean() - table.loc["BPR"].mean()
bars = figures.metric_bars(
    pd.DataFrame(rows), title=f"LightGCN beats BPR by {gain['recall@20']:+.3f} recall and {gain['ndcg@20']:+.3f} NDCG"
)
bars.update_yaxes(title="mean (lowest to highest seed)")

# %% [markdown]
# Is that luck? One seed can mislead: in the lines above one gain is more than twice another. So first take each user's mean over the
# seeds, then compare user by user.

# %%
def pooled(name, metric):
    """Each user's metric, averaged over the model's seeds."""
    return np.mean([result.per_user[metric] for result in runs[name]], axis=0)


for other in ("BPR", "item-kNN"):
    for metric in ("recall@20", "ndcg@20"):
        print(f"LightGCN against {other}:", paired_comparison(metric, pooled("LightGCN", metric), pooled(other, metric)))

# %% [markdown]
# *Takeaway: the graph helps BPR by a few percent on average, yet at one of the three seeds NDCG does not rise at all. And a baseline without any
# learning is right beside it, in NDCG ahead.*
#
# (The interval speaks of other users, not of other seeds: for those look at the bars above.)
#
# That is no accident. Item-kNN **is** the graph, two steps deep (item, user, item), and it keeps every pair of items exactly, where LightGCN squeezes
# everything into 32 numbers a node. In a small and busy shop exact counting is hard to beat. What if LightGCN gets 128 numbers, and nothing
# else changes?

# %%
runs["LightGCN, 128"] = []
for seed in (0, 1, 2):
    wide, _ = fitted(create("lightgcn", bazaar, dim=128, n_layers=2, seed=seed), {"l2": 1e-3}, seed=seed)
    runs["LightGCN, 128"].append(evaluate(wide, bazaar, "test"))
    print(f"seed {seed}: ndcg@20 {runs['LightGCN, 128'][-1].mean('ndcg@20'):.3f}")
pd.DataFrame({name: {m: pooled(name, m).mean() for m in ("recall@20", "ndcg@20")} for name in runs}).T.round(3)

# %% [markdown]
# *Takeaway: room is what was missing in NDCG: with 128 numbers LightGCN passes item-kNN there, and in recall the two stay level. Always put the
# simple baseline in the table.*
#
# Where does the graph help?

# %%
EDGES = (1, 10, 20, 40)
shown = ("item-kNN", "BPR", "LightGCN")
frequency = {name: runs[name][0].by_frequency(edges=EDGES) for name in shown}
for name, results in ((name, runs[name]) for name in shown):
    frequency[name]["recall@20"] = np.mean([r.by_frequency(edges=EDGES)["recall@20"] for r in results], axis=0)
figures.frequency_bars(frequency, title="The graph helps items that have edges; a cold item has none and gets nothing")

# %% [markdown]
# *Takeaway: an item without edges receives no news: its row of $\hat A$ is empty. Lesson 02 reached it through its content, lesson 04 will give it
# edges of another kind.*
#
# ## Depth
# Now train with 0, 1, 2, 4 and 8 layers. Also with the **last layer alone** in place of the mean: your own model, in three lines. At depth 0 both are
# BPR, so depth 0 gets BPR's `λ`; the others get the `λ` that was best for two layers.
#
# The table also has the **effective rank**: how many directions the items' vectors really use. It is 1 if all lie on one line, and 32 if all 32 axes
# carry the same (the exponential of the entropy of the singular values, scaled to sum to 1).

# %%
class LastLayer(LightGCN):
    """LightGCN that keeps only layer L."""

    def propagate(self):
        h = torch.cat([self.user_id.weight, self.item_id.weight])
        for _ in range(self.n_layers):
            h = graph.propagate(self.adjacency, h)
        return h.split([self.n_users, self.n_items])


def at_depth(build, depth):
    """One trained depth: a row of the table."""
    deep, epoch = fitted(build(bazaar, dim=32, n_layers=depth, seed=0), {"l2": 1e-3 if depth else 0.03})
    result = evaluate(deep, bazaar, "test")
    print(f"{build.__name__}, layers={depth}: recall@20 {result.mean('recall@20'):.3f}, {1000 * epoch:.0f} ms an epoch")
    return {"recall@20": result.mean("recall@20"), "ndcg@20": result.mean("ndcg@20"),
            "rare items": result.by_frequency(edges=EDGES)["recall@20"].iloc[1],
            "effective rank": effective_rank(deep.views()["item/final"][~bazaar.cold_items])}


depths = (0, 1, 2, 4, 8)
table_of = {("mean of all layers", depth): at_depth(LightGCN, depth) for depth in depths}
table_of[("last layer alone", 0)] = table_of[("mean of all layers", 0)]  # the same model
table_of |= {("last layer alone", depth): at_depth(LastLayer, depth) for depth in depths[1:]}
by_depth = pd.DataFrame(table_of).T.rename_axis(["kind", "layers"])
by_depth.round(3)

# %%
mean_rows, last_rows = by_depth.loc["mean of all layers"], by_depth.loc["last layer alone"]
figures.oversmoothing(
    depths, mean_rows["effective rank"].tolist(), recall=mean_rows["recall@20"].tolist(),
    title=f"Trained with the layer mean: recall peaks at {mean_rows['recall@20'].idxmax()} layers, then depth costs",
)

# %% jupyter={"source_hidden": true}
reveal(
    "depth", int(mean_rows["recall@20"].idxmax()),
    "Recall@20 by depth: " + ", ".join(f"{d}: {r:.3f}" for d, r in mean_rows["recall@20"].items()) + ". One or two layers are close; with "
    f"8 the rare items (1 to 9 buyers) fall from {mean_rows['rare items'][1]:.2f} at 1 layer to {mean_rows['rare items'][8]:.2f}: they are "
    "buried under news from everywhere. With the last layer alone: "
    + ", ".join(f"{d}: {r:.3f}" for d, r in last_rows["recall@20"].items()) + ".",
)

# %% [markdown]
# *Takeaway: a little smoothing helps a little, much of it hurts, rare items first. The mean softens the fall, because layer 0 is always in it. Which of
# 1 and 2 layers wins is close: one seed does not settle it. And each layer costs one more sparse product, forward and backward.*
#
# ## Over-smoothing, pure
# To see what depth does by itself, train nothing more. Take the layer-0 vectors of the trained model and pass them along 16 times.

# %%
rows, pure = [], {}
warm = torch.from_numpy(~bazaar.cold_items)
with torch.no_grad():
    layer = running = torch.cat([first.user_id.weight, first.item_id.weight])
    for l in range(65):
        if l:
            layer = graph.propagate(first.adjacency, layer)
            running = running + layer
        if l in (0, 1, 2, 4, 8, 16, 64):
            pure[l] = layer[bazaar.n_users:]
            for kind, table_l in (("last layer", layer), ("layer mean", running / (l + 1))):
                items_l = table_l[bazaar.n_users:][warm]
                rows.append({"kind": kind, "layers": l, "effective rank": effective_rank(items_l), "mean cosine": mean_cosine(items_l)})
smooth = pd.DataFrame(rows).pivot(index="layers", columns="kind", values=["effective rank", "mean cosine"])
far, smooth = smooth.loc[64], smooth.loc[:16]
smooth.round(2) + 0.0  # no "-0.00"

# %%
figures.oversmoothing(
    smooth.index.tolist(), smooth["effective rank", "last layer"].tolist(), mean_cosine=smooth["mean cosine", "last layer"].tolist(),
    title=f"Last layer alone: {smooth['effective rank', 'last layer'].iloc[0]:.0f} directions shrink to "
    f"{smooth['effective rank', 'last layer'].iloc[-1]:.0f}, and the items turn one way",
)

# %% jupyter={"source_hidden": true}
final_cosine = smooth["mean cosine", "last layer"].iloc[-1]
answers = {"about 0: as different as before": 0.0, "about 0.5": 0.5, "about 1: mostly one way": 1.0}
length = pure[16][warm].norm(dim=1).numpy()
degree = bazaar.item_counts[~bazaar.cold_items]
reveal(
    "collapse", min(answers, key=lambda a: abs(answers[a] - final_cosine)),
    f"Mean cosine {final_cosine:.2f} after 16 layers, from {abs(smooth['mean cosine', 'last layer'].iloc[0]):.2f} at none; the layer mean "
    f"stays at {smooth['mean cosine', 'layer mean'].iloc[-1]:.2f}. After 64 it is {far['mean cosine', 'last layer']:.2f}. Repeated "
    f"products leave the largest eigenvector, and that one is √degree: at 16 the vectors' lengths "
    f"correlate {np.corrcoef(length, np.sqrt(degree))[0, 1]:.2f} with the root of the number of "
    "buyers. What is left is popularity.",
)

# %% [markdown]
# ## The same in pictures
# Warm items at layers 0, 2 and 16 of that table, drawn straight: directions of unit length, the two widest axes (PCA), the same scale for all three.

# %%
category = bazaar.items["category"].to_numpy()[~bazaar.cold_items]
common = bazaar.items["category"].value_counts().index[:4].tolist()
show = np.isin(category, common)  # four categories: fewer points, clearer picture
names = bazaar.items["title"].to_numpy()[~bazaar.cold_items][show]


def directions(table):
    """Rows of length 1 on the two widest axes, not centred: the origin stays where it is."""
    x = torch.nn.functional.normalize(table, dim=1).double()
    return (x @ torch.linalg.svd(x, full_matrices=False).Vh[:2].T).numpy()


layers, last = (0, 2, 16), smooth.xs("last layer", axis=1, level="kind")
heads = [f"layer {l}<br>rank {last['effective rank'][l]:.1f}, cosine {abs(last['mean cosine'][l]):.2f}" for l in layers]
trio = make_subplots(1, 3, subplot_titles=heads, horizontal_spacing=0.04)
around = np.linspace(0, 2 * np.pi, 100)
for column, l in enumerate(layers, start=1):
    circle = {"mode": "lines", "line": {"color": palette.FAINT}, "showlegend": False, "hoverinfo": "skip"}
    trio.add_scatter(x=np.cos(around), y=np.sin(around), row=1, col=column, **circle)
    for trace in figures.map_traces(directions(pure[l][warm])[show], category[show], "category", names, size=6):
        trio.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
    axis = {"range": [-1.1, 1.1], "showticklabels": False, "showgrid": False, "zeroline": True, "ticks": "", "row": 1, "col": column}
    trio.update_xaxes(title="widest axis (PCA)", **axis).update_yaxes(scaleanchor=f"x{column if column > 1 else ''}", **axis)
trio.update_layout(
    template=palette.template(), height=460, margin={"t": 130, "l": 20, "r": 10},
    title={"text": "Directions of items: spread out, in groups, mostly one way",
           "y": 0.96, "yref": "container", "yanchor": "top", "pad": {"t": 0, "b": 0}},
    meta={"alt": "Three maps on one scale. " + "; ".join(h.replace("<br>", ": ") for h in heads) + "."},
)

# %% [markdown]
# *Takeaway: at layer 0 the directions lie around the origin; two layers draw categories together, which is what we want; sixteen draw everything
# to one side, where a lamp and a mug point nearly the same way.*
#
# Now UMAP, of layers 2 and 16.

# %%
def umap_of(l, title):
    """The same items as UMAP draws them, on a scale of its own."""
    projector = Projector(seed=0)
    xy = projector.fit(pure[l][warm].numpy())
    figure = figures.embedding_map(
        xy[show], category[show], hover=names, kept=projector.kept(), height=440,
        measured={"effective rank": smooth["effective rank", "last layer"][l], "mean cosine": smooth["mean cosine", "last layer"][l]},
        title=title,
    )
    return figure.update_layout(width=760)


umap_of(2, "UMAP of layer 2: categories apart")

# %%
umap_of(16, "UMAP of layer 16: as crisp as before, though the items point mostly one way")

# %% [markdown]
# *Takeaway: UMAP draws who is near whom, not how near. It pulls apart even vectors that point mostly one way. So read the line below the
# picture: effective rank and mean cosine are of the full space and cannot be stretched.*
#
# ## What if …
# Pull the depth up and watch the map draw in; then try `l2` at depth 0 and at depth 3.
#
# And a move to predict. Open *Data* and set `kept` to 0.3: of the training purchases 30 % are left.

# %%
predict("depth-few", "With 30 % of the purchases: which number of layers finds most now (recall@20)?", options=[1, 2, 4, 8])

# %%
whatif(
    "lightgcn", bazaar, controls=["n_layers", "l2"], views=["item/id", "item/final"], options={"dim": 32}, weights={"l2": 1e-3},
    lr=1e-2, batch_size=1024, epochs=30,
)

# %% [markdown]
# Each run of a panel fits in one line, which stands under its *Share*; `replay` trains it again. So here are the panel's own numbers.

# %%
few = {}
for depth in (1, 2, 4, 8):
    setting = Setting.from_text(f"lightgcn?dim=32&lr=0.01&epochs=30&n_layers={depth}&data.keep=0.3")
    shop = setting.switches.apply(bazaar)
    result = evaluate(replay(setting, bazaar, metrics_every=0)[0], shop, "valid")
    few[depth] = {"recall@20": result.mean("recall@20"), "cold items": result.cold()["recall@20"]}
few = pd.DataFrame(few).T.rename_axis("layers")
near = {}
for name, data in (("all", bazaar), ("30 %", shop)):
    bought = data.matrix("train").astype(float)
    near[name] = np.median(((bought @ bought.T) > 0).sum(1) - 1) / bazaar.n_users
few.round(3)

# %% jupyter={"source_hidden": true}
reveal(
    "depth-few", int(few["recall@20"].idxmax()),
    f"With all purchases {by_depth.loc['mean of all layers']['recall@20'].idxmax()} layers were best, now {few['recall@20'].idxmax()}. Two steps from the "
    f"median user stand {near['all']:.0%} of all people if all purchases are known, and {near['30 %']:.1%} if 30 % are. News has to travel further "
    f"before it comes from everybody. And cold items? {few['cold items'].max():.2f} at every depth: no edge, no news.",
)

# %% [markdown]
# *Takeaway: how deep is too deep depends on how dense the graph is.*
#
# ## Paper and code
# | the paper writes | public code does | what it changes here |
# |---|---|---|
# | layer weights $\alpha_l = 1/(L+1)$, learnable if one likes | the plain mean | nothing; many later models keep the mean |
# | no self-loops: the mean keeps the node itself | some graph code adds them | measured below |
# | $\lambda\lVert H^{(0)}\rVert^2$ on the batch's rows | re-implementations: norms **not squared**, over the batch ("EmbLoss") | regularises almost nothing: measured below |
# | edge dropout: not needed | there as an option, off | — |
# | Adam 1e-3, batch 2,048, up to 1,000 epochs | the same | here 1e-2 and 30 epochs: a lesson must be quick |

# %%
def with_self_loops(model):
    """Every node also hears itself: (D + 1)^-1/2 (A + 1) (D + 1)^-1/2."""
    n = model.n_users + model.n_items
    old = model.adjacency.to_dense() > 0
    a = old.float() + torch.eye(n)
    root = a.sum(1).rsqrt()
    model.adjacency = (root[:, None] * a * root[None, :]).to_sparse_csr()
    return model


variants = {
    "no self-loops, mean (paper)": (LightGCN(bazaar, dim=32, n_layers=2), {"l2": 1e-3}),
    "no self-loops, last layer": (LastLayer(bazaar, dim=32, n_layers=2), {"l2": 1e-3}),
    "self-loops, last layer": (with_self_loops(LastLayer(bazaar, dim=32, n_layers=2)), {"l2": 1e-3}),
    "un-squared norm, λ = 1e-3": (LightGCN(bazaar, dim=32, n_layers=2, regularizer="emb_norm"), {"l2": 1e-3}),
    "no regularisation": (LightGCN(bazaar, dim=32, n_layers=2), {"l2": 0.0}),
    "squared, λ = 0.1": (LightGCN(bazaar, dim=32, n_layers=2), {"l2": 0.1}),
}
rows = {}
for name, (model, weights) in variants.items():
    result = evaluate(fitted(model, weights)[0], bazaar, "test")
    size = model.item_id.weight.norm(dim=1).mean().item()
    rows[name] = {"recall@20": result.mean("recall@20"), "ndcg@20": result.mean("ndcg@20"), "mean length of item vectors": size}
    print(f"{name}: recall@20 {rows[name]['recall@20']:.3f}")
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# *Takeaway: without the mean, self-loops help: each node hears itself again. The mean does that job better. The un-squared norm at λ = 1e-3 does
# what no regularisation does: nothing to speak of. Here that costs little. A squared λ that is too large costs much more: the vectors stay short.*
#
# ## Recap
# - One layer is one sparse product: every node adds up its neighbours, weighted by $1/\sqrt{|N_u||N_i|}$.
# - Nothing is learned but layer 0. Because $\hat A$ is symmetric, backward is the same product again.
# - One or two layers beat BPR. More smooth too far, and rare items suffer first; the layer mean softens it. Where purchases are few, more is better.
# - Item-kNN, which only counts, is level with it here. Keep it in your tables.
# - A map shows neighbourhoods. Collapse is read from effective rank and mean cosine.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Why is no weight matrix needed in a layer?",
            "options": ["The embeddings of layer 0 are free parameters already", "It would be too slow", "The graph is too small"],
            "answer": 0,
            "why": ["Right: with ids as only input, layer 0 can be anything, and a matrix adds nothing but trouble for the optimiser.",
                    "It would cost little; it does not help.", "It holds for large graphs too."],
        },
        {
            "question": "Backward through Â H needs Âᵀ G. Why does the package never transpose?",
            "options": ["Â has no gradient", "Â is symmetric, so Âᵀ G = Â G", "PyTorch caches it"],
            "answer": 1,
            "why": ["True, but H needs one.", "Right: both directions of an edge carry the same value.", "It does not."],
        },
        {
            "question": "After 16 layers without the mean, what still tells two items apart?",
            "options": ["Their category", "Mostly their popularity", "Their pictures"],
            "answer": 1,
            "why": ["That was clearest at two layers.", "Right: the surviving eigenvector is the root of the degree.", "LightGCN never saw them."],
        },
        {
            "question": "A UMAP shows twelve crisp clusters. May the space have collapsed?",
            "options": ["No, one sees it has not", "Yes: check effective rank and mean cosine"],
            "answer": 1,
            "why": ["UMAP stretches tiny differences to full size.", "Right."],
        },
    ],
    id="03-lightgcn",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")
# whatif("lightgcn", data, controls=["n_layers", "l2"])
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --models item-knn,bpr,lightgcn --seeds 3`.
# On sparse data deeper can be better, as in the panel above. Measure it.
#
# Next, lesson 04: edges between items, made of pictures and words.
