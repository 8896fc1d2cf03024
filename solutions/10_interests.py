# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 10 · Interests: what a history is about
# *75 minutes · 10 points · needs lesson 02; lesson 09 helps · after this you can cluster by density peaks, say what the clusters found and what they
# missed, and turn a history into a short list of interests, each once.*
#
# Here is all that one user took:

# %%
import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

from mmrec_teach.evaluation.recovery import recovery, token_table, tokens_of
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.ops.clustering import density_peaks, dpc_knn, minibatch_kmeans
from mmrec_teach.views import Projector, warm_up
from mmrec_teach.views.figures_interests import decision_graph, density_map, interest_map
from mmrec_teach.views.interests import whatif_interests

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 150)
bazaar = load("bazaar")
kind, kinds = bazaar.truth.item_interest, bazaar.truth.extra["interest_names"]
user = int(np.flatnonzero(bazaar.user_ids == "v0193")[0])
taken = bazaar.train.items[bazaar.train.users == user]
taken = taken[np.argsort(kind[taken], kind="stable")]
titles = bazaar.items["title"].to_numpy()
counts = pd.Series(kinds[kind[taken]]).value_counts()
figures.contact_sheet(
    bazaar.images[taken], titles[taken], columns=8, title="v0193 took " + ", ".join(f"{n} × {name}" for name, n in counts.items())
)

# %% [markdown]
# Sum her history up in one mean, and it is nine parts boot, five lamp, two backpack: mostly boot. Yet the backpacks may tell as much: no one who loves
# boots alone would take them.
#
# MISSRec (Wang et al., 2023) therefore asks first **what is there to be interested in at all**: it clusters the pictures and the captions of *all*
# items. A history is then a short list: which clusters occur in it, each once. A cluster is called an **interest**. Nobody tells it how many boots
# there are, or what a boot is.
#
# In the bazaar we know what was planted: each user's interests are **kinds** of things, and every item is of one kind. So we can check.

# %%
print(f"{bazaar.n_items} items of {len(kinds)} kinds: {', '.join(kinds)}")
print(f"planted in v0193: {', '.join(kinds[k] for k in bazaar.truth.user_interests[user] if k >= 0)}")

# %% [markdown]
# ## Commit first
# MISSRec's paper clusters by **DPC-KNN** (density peaks by nearest neighbours), which this lesson builds. Its released code runs mini-batch *k*-means instead.
# *k*-means begins with K middles drawn at random; every point joins the nearest, each middle moves to the mean of its points, and so on until nothing
# moves. Mini-batch *k*-means does the same with a part of the points at a time.

# %%
predict(
    "planted", "12 clusters of the items' pictures, as they are. Which comes closer to the 12 kinds?",
    options=["DPC-KNN", "k-means", "neither: k-means started elsewhere differs as much"],
)

# %%
predict(
    "words", "And 12 clusters of captions: what do they follow most?",
    options=["the kind (boots, lamps, …)", "the colour word", "the spirit (vintage, playful, …)"],
)

# %% [markdown]
# ## The idea: look for hilltops
# A cluster's centre should be **dense**: many points near by. But the neighbour of a hilltop is dense, too, and is no second hill. So a centre should
# also be **far from anything denser**. That is all of it.
#
# We begin in two dimensions, where we see everything: one wide heap and two small tight ones.

# %%
def heaps(seed):
    """200 points in the plane, and which heap each is from."""
    rng = np.random.default_rng(seed)
    sizes, spread, middle = (150, 30, 20), (1.0, 0.25, 0.25), [[0, 0], [3.2, 0.8], [3.2, -0.8]]
    heap = np.repeat(np.arange(3), sizes)
    x = np.array(middle)[heap] + np.array(spread)[heap, None] * rng.normal(size=(200, 2))
    return torch.tensor(3 * x, dtype=torch.float32), heap  # times 3: density depends on the scale, as you will see


plane, heap = heaps(1)

# %% [markdown]
# **Density.** Take the $k$ nearest points of $i$, itself among them (at distance 0). The closer they are, the denser it is at $i$:
#
# $$\rho_i = \exp\Big(-\frac1k \sum_{j\in kNN(i)} d_{ij}^2\Big), \qquad d_{ij} = \frac{\lVert x_i - x_j\rVert}{\sqrt{D}}$$
#
# $D$ under the root is how many numbers a point has. Dividing by its root keeps distances comparable, however many there are.
#
# ## Exercise 1 · density

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 1 of 3
# Write `local_density`: how close the k nearest are.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "local_density", "title": "how close the k nearest are", "points": 2, "minutes": 8, "difficulty": 1, "hints": ["Three steps: all squared distances, the k smallest of each row, and exp of minus their mean. Where does the dimension come in?", "Without a loop: `x[:, None] - x` has shape (N, N, D). Square it and take the mean over the last axis: that is the squared distance divided by D, all at once.", "`.topk(k, dim=1, largest=False).values` are the k smallest of each row; the point itself is among them, at 0, as it should be. Then torch.exp(-mean)."]}
def local_density(x, k):
    """Density of every point.

    Args:
        x: (N, D) float, the points.
        k: neighbours, the point itself counted as the first.
    Returns:
        (N,) float, between 0 and 1.
    """
    ### BEGIN SOLUTION
    squares = (x[:, None] - x).square().mean(2)
    return torch.exp(-squares.topk(k, dim=1, largest=False).values.mean(1))
    ### END SOLUTION

# %%
check("local_density")

# %%
hint("local_density")

# %% [markdown]
# What density looks like, from the package:

# %%
peaks = density_peaks(plane, k=10)
densest = peaks.density.argsort(descending=True)[:10]
density_map(
    plane, peaks.density, title=f"Three hills. Of the ten densest points, {int((heap[densest] > 0).sum())} lie on the two small ones",
)

# %% [markdown]
# *Takeaway: who takes the densest points as centres finds the small hills several times over, and the wide one never.*
#
# **Delta.** So how far is it from $i$ to the nearest point that is denser? The highest hilltop has none; it gets its largest distance to any point:
#
# $$\delta_i = \begin{cases}\min_{j:\ \rho_j > \rho_i} d_{ij} & \text{if any is denser}\\ \max_j d_{ij} & \text{else}\end{cases}$$
#
# One thing the formula forgets: **equal densities**. Ten copies of one picture are equally dense, and none is denser than another; then all ten would be
# peaks. So a rule is needed: of two equal densities the one in the *earlier row* counts as the denser.
#
# ## Exercise 2 · delta

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 12 min · 3 points · difficulty 3 of 3
# Write `distance_to_denser`: how far it is to somewhere denser.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "distance_to_denser", "title": "how far it is to somewhere denser", "points": 3, "minutes": 12, "difficulty": 3, "hints": ["Make an (N, N) table of True and False: does column j count as denser than row i? Then set the others aside and take the smallest distance of each row.", "`density > density[:, None]` is that table without the rule for equal ones. For these: equal density and an earlier row, `row < row[:, None]` with row = torch.arange(len(density)). Join with | and &.", "`distance.masked_fill(~denser, float('inf')).amin(1)` is infinite where nothing is denser; there, torch.where takes `distance.amax(1)`."]}
def distance_to_denser(distance, density):
    """Delta of every point.

    Args:
        distance: (N, N) float, all distances d_ij, zero on the diagonal.
        density: (N,) float. Of two equal ones, the one in the earlier row counts as denser.
    Returns:
        (N,) float; a point with nothing denser gets the largest distance of its own row.
    """
    ### BEGIN SOLUTION
    row = torch.arange(len(density))
    denser = (density > density[:, None]) | ((density == density[:, None]) & (row < row[:, None]))
    nearest = distance.masked_fill(~denser, float("inf")).amin(1)
    return torch.where(denser.any(1), nearest, distance.amax(1))
    ### END SOLUTION

# %%
check("distance_to_denser")

# %%
hint("distance_to_denser")

# %% [markdown]
# Each point, joined to its nearest denser one:

# %%
three = dpc_knn(plane, 3, peaks=peaks)
density_map(
    plane, peaks.density, parent=peaks.parent, centres=three.centres,
    title="Uphill from everywhere: nearly all steps are short",
)

# %% [markdown]
# *Takeaway: delta is the length of a point's line (divided by √2: a point here has two numbers). Nearly all are short. Long ones start at hilltops (framed), or
# at outliers: two outliers have longer lines than hilltop 3. So delta alone will not do. The framed point without a line, number 1, is the densest of all.*
#
# ## The decision graph
# Draw density across, delta up. Most points crouch at the bottom. Centres stand alone, high up and to the right. To choose $K$ of them, take the $K$ largest
# **products** $\rho_i\,\delta_i$.

# %%
products = peaks.score.sort(descending=True).values
decision_graph(
    peaks.density, peaks.delta, three.centres,
    title="Three points stand out: products {:.1f}, {:.1f}, {:.1f}; the fourth has {:.1f}".format(*products[:4]),
)

# %% [markdown]
# *Takeaway: here the graph also says how many clusters there are: after the third centre the products drop. On the left of it stand outliers: far from everybody, and not
# dense.*
#
# ## Exercise 3 · centres

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 4 min · 1 point · difficulty 1 of 3
# Write `choose_centres`: the largest products.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "choose_centres", "title": "the largest products", "points": 1, "minutes": 4, "difficulty": 1, "hints": ["The answer is row numbers, best first. Which function sorts and tells row numbers?", "`argsort(descending=True)` does. For equal products the earlier row must stay first; `topk` does not promise that.", "`(density * delta).argsort(descending=True, stable=True)`, and the first n_clusters of it."]}
def choose_centres(density, delta, n_clusters):
    """Row numbers of the centres.

    Args:
        density, delta: (N,) float.
        n_clusters: K, 1 to N.
    Returns:
        (K,) int64, the largest product first; of equal products the earlier row first.
    """
    ### BEGIN SOLUTION
    return (density * delta).argsort(descending=True, stable=True)[:n_clusters]
    ### END SOLUTION

# %%
check("choose_centres")

# %%
hint("choose_centres")

# %% [markdown]
# **The rest joins.** MISSRec: every point joins its *nearest centre*. The interest's vector is the **mean** of all members. (Rodriguez and Laio, whose idea
# density peaks were, let a point walk *uphill*, along the lines of the picture above, until it meets a centre.)
#
# ## Exercise 4 · join

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 2 of 3
# Write `join_centres`: clusters and their vectors.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "join_centres", "title": "clusters and their vectors", "points": 2, "minutes": 8, "difficulty": 2, "hints": ["An (N, K) table of distances to the centres `x[centres]`; which column is the smallest of each row?", "Clusters are numbered 0 to K - 1 in the order of `centres`. A centre at the very place of another would join the first of the two: put it back with `label[centres] = torch.arange(K)`.", "For the means: `torch.stack([x[label == c].mean(0) for c in range(K)])`. Return (label, vectors)."]}
def join_centres(x, centres):
    """Every point joins its nearest centre.

    Args:
        x: (N, D) float, the points.
        centres: (K,) int64, row numbers of the centres. Cluster c is that of centres[c].
    Returns:
        label: (N,) int64, the cluster of every point, 0 to K - 1; of equally near centres the first. A centre is always in its
            own cluster, even if another lies at the same place.
        vectors: (K, D) float, the mean of each cluster's members, the centre included.
    """
    ### BEGIN SOLUTION
    label = (x[:, None] - x[centres]).square().sum(2).argmin(1)
    label[centres] = torch.arange(len(centres))
    return label, torch.stack([x[label == c].mean(0) for c in range(len(centres))])
    ### END SOLUTION

# %%
check("join_centres")

# %%
hint("join_centres")

# %% [markdown]
# A **token** is the feature vector of one picture, or of one caption. Your four functions in a row, and the package's, on all picture tokens of the bazaar
# (write exercises 1 to 4 first):

# %%
pictures = tokens_of(bazaar, "image")
x = pictures.x.double()
density = local_density(x, 5)
# compute_mode: exact distances; the fast way loses digits where two points are nearly equal
delta = distance_to_denser(torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5, density)
label, vectors = join_centres(x, choose_centres(density, delta, 12))
theirs = dpc_knn(x, 12, 5)
print(f"{len(x)} pictures; same clusters: {bool((label == theirs.assignment).all())}; "
      f"largest difference of the vectors: {(vectors - theirs.vectors).abs().max():.0e}")

# %% [markdown]
# Yours holds all N × N distances at once; the package never holds more than a block of them, so that a hundred thousand items fit.
#
# ## Where density peaks shine
# The same heaps, three clusters each. **ARI** (adjusted Rand index) says how well clusters agree with the truth: 1 is perfect, 0 is chance. It looks at all pairs of
# points: together or apart, here and there?

# %%
METHODS = ("DPC-KNN", "DPC-KNN, uphill", "k-means", "mini-batch k-means")


def clusters(x, method, n, seed=0, k=5):
    """Assignment of one method; DPC-KNN has no seed."""
    if method.startswith("DPC"):
        return dpc_knn(x, n, k, assign="parent" if "uphill" in method else "nearest").assignment
    if method == "k-means":
        return torch.from_numpy(KMeans(n, n_init=1, random_state=seed).fit(x.numpy()).labels_)
    return minibatch_kmeans(x, n, seed=seed).assignment


toy = {
    f"points {draw}": {method: recovery(clusters(points, method, 3, k=10), truth)["ari"] for method in METHODS}
    for draw in (0, 1, 2) for points, truth in [heaps(draw)]
}
pd.DataFrame(toy).T.round(2)

# %% [markdown]
# *Takeaway: k-means splits the wide heap and merges the two small ones: it wants round clusters of like width (mini-batch k-means is lucky once). Density peaks do not mind.
# Uphill is better still: the nearest centre draws its border halfway between two centres, though one heap is wide.*
#
# ## Experiment 1 · the planted interests
# Now real tokens: the pictures, 64 numbers each. Raw as they are, and scaled to length 1 ("unit"). Three seeds for what has seeds.

# %%
def against(truth, x, n, k=5):
    """ARI of each method with `truth`: lowest and highest of three seeds."""
    out = {}
    for method in METHODS:
        seeds = (0,) if method.startswith("DPC") else (0, 1, 2)
        values = [recovery(clusters(x, method, n, seed, k), truth)["ari"] for seed in seeds]
        out[method] = (min(values), max(values))
    return out


found = {scaling: against(kind[pictures.items], tokens_of(bazaar, "image", scaling).x, 12) for scaling in ("raw", "unit")}
pd.DataFrame(found).map(lambda v: f"{v[0]:.2f}" if v[0] == v[1] else f"{v[0]:.2f} to {v[1]:.2f}")

# %%
grid = (4, 6, 12, 24, 48, 96)
curves = {m: [recovery(clusters(pictures.x, m, n), kind[pictures.items])["ari"] for n in grid] for m in METHODS}
figures.lines(
    grid, curves, x_title="clusters K", y_title="ARI with the kinds", log_x=True, markers=True,
    title=f"Raw pictures, k = 5: nobody goes beyond {max(max(c) for c in curves.values()):.2f}",
).update_xaxes(tickvals=grid)

# %% jupyter={"source_hidden": true}
dpc, (low, high) = found["raw"]["DPC-KNN"][0], found["raw"]["k-means"]
answer = "DPC-KNN" if dpc > high else "k-means" if dpc < low else "neither: k-means started elsewhere differs as much"
reveal("planted", answer, f"DPC-KNN {dpc:.2f}; k-means from {low:.2f} to {high:.2f}, depending on where it starts.")

# %% [markdown]
# *Takeaway: about a third of the way, whoever clusters. On raw pictures DPC-KNN lies within what k-means' seeds differ by; scaled to length 1 it is below
# all of them. What it has for itself: it needs no luck, the same pictures give the same clusters.*
#
# Why is it no better than k-means here, when it was in the plane? Look at the decision graph of the scaled pictures:

# %%
unit = tokens_of(bazaar, "image", "unit").x
wide = density_peaks(unit, 5)
twelve = dpc_knn(unit, 12, 5, peaks=wide).centres
decision_graph(
    wide.density, wide.delta, twelve, hover=titles[pictures.items],
    title=f"64 numbers a point: densities from {wide.density.min():.3f} to {wide.density.max():.3f}, and no gap after the twelfth",
)

# %% [markdown]
# *Takeaway: no hill stands out, and there is no K to read off. Look at the densities: all nearly 1. At length 1 no two points are farther apart than
# $2/\sqrt{64}$, so $d^2$ is small and $\exp(-d^2)$ is nearly 1 everywhere. The product is then nearly delta alone, and some lonely points (left) become centres.*
#
# So density depends on the **scale** of the features. Is that the reason? Multiply all pictures by one number $c$: nobody's neighbours change. Do the clusters? A
# centre is called lonely here if three quarters of all points are denser.

# %%
scales = {}
for name, rows, factors in (("raw", pictures.x, (0.25, 0.5, 1, 2)), ("unit", unit, (1, 4, 8))):
    for c in factors:
        at = density_peaks(c * rows, 5)
        rho, centres = at.density, dpc_knn(c * rows, 12, 5, peaks=at).centres
        ari = {m: recovery(clusters(c * rows, m, 12), kind[pictures.items])["ari"] for m in ("DPC-KNN", "k-means")}
        lonely = int((rho[centres] < rho.quantile(0.25)).sum())
        scales[f"{name}, c = {c}"] = {"lowest density": rho.min().item(), "highest": rho.max().item(), "lonely centres": lonely} | ari
pd.DataFrame(scales).T.round(2)

# %% [markdown]
# *Takeaway: DPC-KNN is not free of scale. On raw pictures it works at the length that they happen to have, and loses half or more at a quarter of it. k-means
# does not care. But scale is not why rows of length 1 lose: at c = 8 the densities spread out, no centre is lonely, and the ARI is no better.*
#
# So what is missing? For how many pictures is the nearest other picture of their own kind?

# %%
for name, rows in (("raw", pictures.x), ("unit", unit)):
    nearest = torch.cdist(rows, rows).fill_diagonal_(torch.inf).argmin(1)
    print(f"{name}: {(kind[pictures.items[nearest]] == kind[pictures.items]).mean():.0%}")

# %% [markdown]
# *Takeaway: for nine of ten. Near by, the kinds are in order. What is missing is one hill for each kind, with a valley around it: that is what density peaks
# look for.*
#
# ## Experiment 2 · what do clusters follow?
# An item has more than its kind. Its picture shows hue, tone and pattern; its caption tells hue, spirit and making. Twelve clusters of each, rows at length 1:

# %%
truths = {"kind": kind} | {f: bazaar.truth.extra[f] for f in ("hue", "tone", "pattern", "spirit", "making")}
follows = {}
for name in ("image", "text"):
    tokens = tokens_of(bazaar, name, "unit")
    for method in ("DPC-KNN", "k-means"):
        each = clusters(tokens.x, method, 12)
        follows[name, method] = {f: recovery(each, values[tokens.items])["ari"] for f, values in truths.items()}
followed = pd.DataFrame(follows).T
followed.round(2) + 0.0  # no minus before a zero

# %% jupyter={"source_hidden": true}
words = followed.loc["text"].loc["DPC-KNN"]
answers = {"kind": "the kind (boots, lamps, …)", "hue": "the colour word", "spirit": "the spirit (vintage, playful, …)"}
reveal(
    "words", answers.get(words.idxmax(), words.idxmax()),
    f"ARI with the spirit {words['spirit']:.2f}, with the kind {words['kind']:.2f}. A caption has three words for its spirit, and one or two for its kind.",
)

# %% [markdown]
# *Takeaway: a cluster is about what its features are about. Pictures: the kind, for it is most of the silhouette, and some tone. Captions: the spirit; as an interest finder they would be
# useless here.*
#
# And both modalities in one table, as MISSRec does it? Raw features first:

# %%
both = tokens_of(bazaar)
mixed = dpc_knn(both.x, 12, 5)
for m, name in enumerate(both.names):
    of = torch.from_numpy(both.modality == m)
    rho, length = density_peaks(both.x, 5).density[of], both.x[of].norm(dim=1)
    print(f"{name}: {len(rho)} tokens, median density {rho.median():.2f}, median length {length.median():.2f}")
sides = np.bincount(both.modality[mixed.assignment == mixed.sizes.argmax()])
print(f"the largest of 12 clusters has {sides.sum()} of {len(both)} tokens: " + ", ".join(f"{n} {m}" for n, m in zip(sides, both.names)))

# %% [markdown]
# *Takeaway: one dense ball of captions, thin pictures around it, and clusters that say little. Two feature spaces in one table have nothing in common, not even a length. This is why MISSRec
# gives each modality an **adapter** $x_{i,m} = e_{i,m}W_m + b_m$, and clusters what comes out: $e_{i,m}$ are the features of item $i$ in modality $m$, $x_{i,m}$ is its
# token. Adapters learn.*
#
# ## Experiment 3 · what training does to the interests
# MISSRec learns to predict what comes next in a history. Before each epoch it clusters all tokens anew; no gradient passes through that. It has half as many
# interests as tokens, so most are small. Nobody tells it a kind. One seed, to save your time; what the takeaways say holds at three (in the course's folder,
# `tests/test_claims_10.py` measures it).

# %%
predict(
    "training", "Of two tokens of one interest, both are of one kind in about half of the cases at the start. And after three epochs?",
    options=["about half, as before", "three quarters", "nearly always"],
)

# %%
def fitted(seed=0, epochs=3, **options):
    """A small MISSRec without item numbers, after a short training."""
    model = create("missrec", bazaar, dim=32, length=10, inner=64, heads=2, dropout=0.2, scaling="unit", ids=False, seed=seed, **options)
    for _ in train(model, bazaar, seed=seed, epochs=epochs, lr=5e-3, batch_size=512, metrics_every=0):
        pass
    model.find_interests()  # once more: the last epoch has moved the tokens
    return model


models = {0: fitted(epochs=0), 3: fitted()}
rows = {}
for epochs, model in models.items():
    tokens = token_table(model)
    own = recovery(model.interest_of[model.has], kind[tokens.items])
    sides = recovery(model.interest_of[model.has], tokens.modality)
    rows[f"{epochs} epochs"] = {"of one kind": own["pairs"], "by chance": own["chance"],
                                "of one modality": sides["pairs"], "by chance ": sides["chance"]}
purity = pd.DataFrame(rows).T
print(f"{len(models[3].interest)} interests of {len(tokens)} tokens. Of two tokens of one interest, how often are both …")
purity.round(3)

# %% jupyter={"source_hidden": true}
alike = purity["of one kind"].iloc[-1]
answer = "nearly always" if alike > 0.9 else "three quarters" if alike > 0.65 else "about half, as before"
reveal("training", answer, f"{purity['of one kind'].iloc[0]:.3f} before, {alike:.3f} after.")

# %% [markdown]
# *Takeaway: what features tell only in part, **histories** tell plainly: who takes boots takes boots again. Training moves the tokens of things that are taken
# together, and so the clusters find the kinds. And a "multi-modal" interest is one of pictures or one of captions: with so many interests, next to none has both.*
#
# So 24 clusters, one for the pictures and one for the captions of each kind, would be the truth now. Who finds them?

# %%
tokens = token_table(models[3])
classes = kind[tokens.items] * 2 + tokens.modality
after = against(classes, tokens.x, 24)
before = against(classes, token_table(models[0]).x, 24)
pd.DataFrame({"0 epochs": before, "3 epochs": after}).map(lambda v: f"{v[0]:.2f}" if v[0] == v[1] else f"{v[0]:.2f} to {v[1]:.2f}")

# %% [markdown]
# *Takeaway: once the hills stand apart, every method finds far more of them. All are told the right K, and k-means finds more than density peaks. Compact clusters of like size are what k-means is made
# for, and training makes such clusters. (Of three seeds this one is the kindest to density peaks. Train on, and all of them find fewer kinds at K = 24, density peaks the fewest: docs/studies.md.)*
#
# ## Whom does that describe?
# v0193 again: all tokens on one map, hers lit up, a colour for each interest. For the picture we take 24 interests.

# %%
few = dpc_knn(tokens.x, 24, 5)
projector = Projector(n_neighbors=40, min_dist=0.9, seed=0, metric="euclidean")
xy = projector.fit(tokens.x.numpy())
names = {}
for number in range(24):
    of = few.assignment.numpy() == number
    most = pd.Series(kinds[kind[tokens.items[of]]]).value_counts()
    names[number] = f"{most.index[0]}, {'pictures' if tokens.modality[of].mean() < 0.5 else 'words'}"
names = pd.Series(names)
names += np.where(names.duplicated(keep=False), " " + (names.groupby(names).cumcount() + 1).astype(str), "")  # boots, words 1 and 2
labels = [f"{titles[i]}: {tokens.names[m]}" for i, m in zip(tokens.items, tokens.modality)]
interest_map(xy, few.assignment, np.isin(tokens.items, taken), names=names.to_dict(), hover=labels, kept=projector.kept())

# %%
hers = pd.DataFrame({"item": tokens.items, "modality": tokens.modality, "interest": few.assignment.numpy()})
hers = hers[hers["item"].isin(taken) & (hers["modality"] == 0)].sort_values("interest", kind="stable")
figures.contact_sheet(
    bazaar.images[hers["item"]], [names[n] for n in hers["interest"]], columns=8,
    title=f"Her {len(hers)} pictures fall into {hers['interest'].nunique()} interests",
)

# %% [markdown]
# *Takeaway: sixteen things, thirty-two tokens, and far fewer interests. An interest is named after what most of its tokens are, kind and modality. It may hold a few
# things of another kind, and with only 24 interests some hold both pictures and words: so a thing may stand under a name that is not its own.*
#
# ## Each interest once
# What the encoder reads is not the history but the interests that occur in it, **each once**: nine boots shall count as one, two backpacks as one. Of many histories at once that is
# a small puzzle: rows of unequal length, tokens that are missing, numbers that come again.
#
# ## Exercise 5 · each once

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 10 min · 2 points · difficulty 2 of 3
# Write `interests_once`: distinct interests of each history, in order.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "interests_once", "title": "distinct interests of each history, in order", "points": 2, "minutes": 10, "difficulty": 2, "hints": ["`interest_of[items]` is (B, L, M). Places at or behind a row's length are padding (they hold item 0!): set them to `none`, then flatten to (B, L * M).", "Sort each row. Now repeats stand side by side: where a number equals the one before it, set it to `none`. `none` is larger than every interest, so what happens when you sort again?", "there = torch.arange(items.shape[1]) < lengths[:, None]; found = interest_of[items].masked_fill(~there[..., None], none).flatten(1).sort(1).values; again = found[:, 1:] == found[:, :-1]; set these to none and sort once more. A loop over rows is fine as well."]}
def interests_once(interest_of, items, lengths, none):
    """The interests that occur in each history, each once.

    Args:
        interest_of: (I, M) int64, the interest of each token of each item; `none` where the item lacks the modality.
        items: (B, L) int64, histories, padded behind with item 0.
        lengths: (B,) int64, how many items of each row are real.
        none: the number K of interests: no interest has it, all are smaller.
    Returns:
        (B, L * M) int64: in each row the distinct interests, ascending, then `none` up to the end.
    """
    ### BEGIN SOLUTION
    there = torch.arange(items.shape[1]) < lengths[:, None]
    found = interest_of[items].masked_fill(~there[..., None], none).flatten(1).sort(1).values
    found[:, 1:][found[:, 1:] == found[:, :-1]] = none
    return found.sort(1).values
    ### END SOLUTION

# %%
check("interests_once")

# %%
hint("interests_once")

# %% [markdown]
# Yours and the model's, for all users (write exercise 5 first):

# %%
model = models[3]
items, lengths = model.history(torch.arange(bazaar.n_users))
yours = interests_once(model.interest_of, items, lengths, len(model.interest))
package = model.interests_in(items, lengths)
print(f"same: {bool((yours[:, :package.shape[1]] == package).all())}; the longest row has {package.shape[1]} of {yours.shape[1]} places")

# %% [markdown]
# How much does "each once" change? That depends on how coarse the interests are. The share of a user's most frequent kind, among the tokens she has and among the interests that are
# left of them. A token counts as the kind that most tokens of its interest have; so the two rows differ a little on all tokens, too.

# %%
def memory(interest_of, none):
    """Mean over users: tokens, distinct interests, and the share of the most frequent kind among each."""
    of_kind, told = torch.full((none + 1,), -1), []
    flat, token_kind = interest_of[model.has], torch.from_numpy(kind[tokens.items])
    for number in flat.unique():
        of_kind[number] = token_kind[flat == number].mode().values
    for row, length in zip(items, lengths):
        have = interest_of[row[:length]].flatten()
        have = have[have < none]
        share = [np.bincount(of_kind[part]).max() / len(part) for part in (have, have.unique())]
        told.append([len(have), len(have.unique()), *share])
    return np.mean(told, axis=0)


coarse = torch.full_like(model.interest_of, 24)
coarse[model.has] = few.assignment
columns = ["tokens", "interests", "top kind: all tokens", "top kind: each once"]
once = pd.DataFrame({
    f"K = {len(model.interest)}": memory(model.interest_of, len(model.interest)), "K = 24": memory(coarse, 24),
}, index=columns).T
once.round(2)

# %% [markdown]
# *Takeaway: with 24 interests, "each once" does what was promised: the frequent kind drowns the rest less. With half as many interests as tokens, which is the default, a user's list is
# only a little shorter than her tokens, and "each once" changes far less.*
#
# ## Experiment 4 · does the finder matter in the end?

# %%
predict(
    "finder", "MISSRec with DPC-KNN, with mini-batch k-means, and with every token an interest of its own: recall@20?",
    options=["DPC-KNN is clearly ahead", "all three within 0.03", "without clusters it is worst by far"],
)

# %%
finders = {"DPC-KNN": model, "k-means": fitted(interests="kmeans"), "every token its own": fitted(interests="none")}
ends = {}
for name, one in finders.items():
    judged = evaluate(one, bazaar, "test")
    ends[name] = {"recall@20": judged.mean("recall@20"), "cold items": judged.cold()["recall@20"]}
ends = pd.DataFrame(ends).T
ends.round(3)

# %% jupyter={"source_hidden": true}
recall = ends["recall@20"]
spread = recall.max() - recall.min()
answer = "all three within 0.03" if spread < 0.03 else "DPC-KNN is clearly ahead"
reveal("finder", "without clusters it is worst by far" if spread >= 0.03 and recall.idxmin() == "every token its own" else answer,
       ", ".join(f"{n} {v:.3f}" for n, v in recall.items()) + ".")

# %% [markdown]
# *Takeaway: on this shop, after this short training, the finder hardly matters for recall. Interests are a memory that the decoder may look up; it also sees the history itself.
# (Cold items: those never taken in training.) `python benchmarks/interests.py --print` in the course's folder has DPC-KNN and mini-batch k-means over three
# seeds.*
#
# ## What if …
# Move K and k. Watch the centres on the left, and what is recovered on the right: as ARI, as NMI (normalised mutual information, which grows with K by itself), or as the
# share of pairs within a cluster that are of one kind ("pairs alike"). Try first: `features` on text; then image, with `scaling` set to raw and `points join` to
# parent (uphill), and k from 5 to 20.

# %%
whatif_interests(bazaar)

# %% [markdown]
# *Takeaway: uphill on raw pictures, with k = 10 at K = 12 or k = 20 at K = 24, density peaks pass k-means. With k = 13 at K = 12 they fall behind again, and on rows
# of length 1 they lose. Nothing tells you beforehand which k to take: that is what a known truth is for.*
#
# And MISSRec itself: `interests`, `interest_ratio` (K as a share of the tokens), `neighbours` (k) and `deduplicate` are switches. The maps show the tokens: watch kinds gather.

# %%
whatif(
    "missrec", bazaar, controls=["interests", "interest_ratio", "neighbours", "deduplicate", "diversity"], views=["item/image", "item/text"],
    options={"dim": 32, "length": 10, "inner": 64, "heads": 2, "dropout": 0.2, "scaling": "unit", "ids": False}, batch_size=512, epochs=5,
)

# %% [markdown]
# ## Paper and code
# | the paper writes | the released code does | what it changes here |
# |---|---|---|
# | DPC-KNN before every epoch | every call of it is commented out; mini-batch *k*-means runs | recovered at K = 24: see experiment 3; recall: next to nothing |
# | *k* nearest of a token | the token is its own first neighbour | measured below |
# | $\delta$ of the densest: its own largest distance | the largest distance between any two tokens | nothing: it is a centre either way |
# | $\rho_j > \rho_i$ | the same; equal tokens are then all peaks | matters with copies: below |
# | the $K$ largest products | K is 2 % of the tokens in pre-training, half of them in fine-tuning | how much "each once" does |

# %%
forms = {"as above": {}, "k others, not itself": {"include_self": False}, "released peak": {"top": "all"}, "equal ones: all peaks": {"ties": "strict"}}
copies = torch.cat([pictures.x, pictures.x[:40].repeat(3, 1)])  # forty pictures are in the shop four times
where = np.concatenate([pictures.items, np.tile(pictures.items[:40], 3)])
table = {}
for name, options in forms.items():
    plain, again = dpc_knn(pictures.x, 12, 5, **options), dpc_knn(copies, 12, 5, **options)
    table[name] = {
        "ARI": recovery(plain.assignment, kind[pictures.items])["ari"], "with copies: ARI": recovery(again.assignment, kind[where])["ari"],
        "with copies: centres at different places": len(copies[again.centres].unique(dim=0)),
    }
pd.DataFrame(table).T.round(2)

# %% [markdown]
# *Takeaway: as long as no two pictures are equal, the forms hardly differ. With copies in the shop and no rule for equal densities, twelve centres are spent on a few
# places.*
#
# ## Recap
# - A centre is dense and far from anything denser: the largest products $\rho\,\delta$.
# - Clusters are about what the features are about. The planted interests showed only after training on histories.
# - DPC-KNN needs no luck and copes with heaps of uneven width. For compact clusters of like size, k-means with the same K is as good or better.
# - "Each once" keeps a frequent interest from drowning a rare one, if interests are coarse.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "A point is very lonely. Where does it stand in the decision graph?",
            "options": ["high up on the left: large delta, small density", "bottom right", "high up on the right: a centre"],
            "answer": 0,
            "why": ["Right: an outlier. Its product is small if its density is.", "There are the neighbours of hilltops.", "It lacks density."],
        },
        {
            "question": "Why is delta needed at all?",
            "options": ["Density alone would choose many centres on one hill", "To make it faster"],
            "answer": 0,
            "why": ["Right: a hilltop's neighbours are dense as well.", "It costs N² distances."],
        },
        {
            "question": "Interests of raw captions follow the spirit of a thing. After training they follow its kind. Why?",
            "options": ["The clustering learned", "The tokens moved: histories stay within kinds"],
            "answer": 1,
            "why": ["No gradient passes through it.", "Right: what is taken together comes to lie together."],
        },
        {
            "question": "A user took 30 boots. K is half of the tokens. How many interests does the encoder read?",
            "options": ["one or two: boots", "many: with so many interests boots fall into several", "none"],
            "answer": 1,
            "why": ["With a coarse K, yes.", "Right: then each once changes little.", "Each token has one."],
        },
    ],
    id="10-interests",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")
# tokens = tokens_of(data, "image")           # or a trained model's: token_table(model)
# peaks = density_peaks(tokens.x, k=5)
# decision_graph(peaks.density, peaks.delta, dpc_knn(tokens.x, 20, peaks=peaks).centres)
# whatif_interests(data, labels)              # labels: one class an item, by default the column "category"
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --models sasrec,missrec --grid missrec.interests=dpc,kmeans,none --seeds 3`.
#
# Next, lesson 11: MISSRec whole, pre-trained on one shop and moved to another.
