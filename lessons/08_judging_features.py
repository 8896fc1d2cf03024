# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 08 · Judging features before training
# *60 minutes · 10 points · needs lessons 02 and 03 (05 and 07 for the long tail) · after this you can rank feature sets without training anything, say
# how far such a ranking can be trusted, and tell who serves the long tail.*
#
# An encoder has a new version. Another team offers its vectors, too. Somebody asks whether the captions are worth their cost. Each question means: train the
# recommender again, on every candidate, with several seeds, for hours.
#
# **Can we tell in seconds which features will help, without training at all?**

# %%
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import scipy.sparse as sp
import torch
from plotly.subplots import make_subplots

from mmrec_teach.evaluation import protocols
from mmrec_teach.evaluation.content_use import with_features
from mmrec_teach.evaluation.feature_sets import aligned, joined, noise, shuffled, unit_rows, with_table
from mmrec_teach.evaluation.long_tail import long_tail
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.views import palette, warm_up

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130)
bazaar = load("bazaar")
print(bazaar)
for name in bazaar.modalities:
    lengths = np.linalg.norm(bazaar.features[name][~bazaar.missing[name]], axis=1)
    print(f"{name}: {bazaar.missing[name].sum()} items have none; a vector's length is {lengths.mean():.2f} on average")

# %% [markdown]
# ## The candidates
# - **pictures**, **words**: one of the two tables.
# - **joined, even**: both side by side, each scaled to length 1 first.
# - **joined, raw**: side by side as they come. Look at the lengths above before you go on.
# - **aligned**: both mapped into one small space in which an item's picture and words agree, then averaged. The maps are found by canonical correlation, a
#   linear relative of CLIP. It has seen pairs of picture and words, and no user.
# - **shuffled**: *joined, even* with the rows dealt to other items. **noise**: random numbers. They know nothing. A judge that likes them is no judge.
#
# In the end each row is scaled to length 1, so that models and judges see the same tables.

# %%
def even_lengths(make):
    """A feature set with rows of length 1: make(hide) gives the table, hide says who loses what."""
    return lambda hide=None: unit_rows(make(hide))


raw = joined(bazaar, scaling="raw")
makers = {
    "pictures": joined(bazaar, "image"), "words": joined(bazaar, "text"), "joined, even": joined(bazaar), "joined, raw": raw,
    "aligned": aligned(bazaar),
}
makers = {name: even_lengths(make) for name, make in makers.items()}
sets = {name: make() for name, make in makers.items()}
sets |= {"shuffled": shuffled(sets["joined, even"], bazaar.n_items), "noise": noise(sets["joined, even"], bazaar.n_items)}
pd.DataFrame({name: {"numbers a row": t.shape[1], "items without": (~t.any(1)).sum()} for name, t in sets.items()}).T

# %% [markdown]
# ## Commit first

# %%
predict(
    "judge-first", "Take the mean of what a user bought, and look what lies near it. Which table finds her next purchase most often?",
    options=["pictures", "words", "joined, even", "joined, raw", "aligned"],
)

# %%
predict(
    "judge-modality", "Two protocols will ask: pictures or words? (One asks with all of a user's purchases, the other with one item.)",
    options=["pictures are ahead in both", "words are ahead in both", "each puts another one ahead"],
)

# %%
predict(
    "judge-agree", "Then we train VBPR on every table. Will it put the tables in the order that zero-shot gave without training?",
    options=["in exactly that order", "nearly: most pairs in the same order", "no better than by chance"],
)

# %% [markdown]
# ## Zero-shot: does the past point at the future?
# The article behind AlignRec (Liu et al., 2024; lesson 07) proposes three **intermediate protocols**. The first needs no model at all: a user is the mean of
# what she took. Is her **last** item near?

# %% jupyter={"source_hidden": true}
took = np.array([[0.95, 0.25], [0.7, 0.75], [0.35, 0.9]])
others = np.array([[-0.5, 0.8], [-0.9, 0.1], [-0.3, -0.8], [0.85, -0.6], [0.45, -0.95]])
last, mean = np.array([0.85, 0.6]), took.mean(0)
idea = go.Figure()
for n, (tip, colour, name) in enumerate(
    [*((t, palette.BLUE, "what she took") for t in took), (mean, palette.ORANGE, "their mean: the user")]
):
    idea.add_scatter(
        x=[0, tip[0]], y=[0, tip[1]], mode="lines+markers", name=name, showlegend=n in (0, 3),
        marker={"symbol": ["circle", "arrow"], "size": [1, 16], "angleref": "previous", "color": colour},
        line={"color": colour, "width": 4 if n == 3 else 2},
    )
idea.add_scatter(
    x=others[:, 0], y=others[:, 1], mode="markers", name="other items", marker={"color": palette.FAINT, "size": 10, "symbol": "square"}
)
idea.add_scatter(x=[last[0]], y=[last[1]], mode="markers", name="her last item", marker={"color": palette.INK, "size": 15, "symbol": "star"})
idea.update_xaxes(visible=False, range=[-1.3, 1.5]).update_yaxes(visible=False, range=[-1.1, 1.1], scaleanchor="x")
idea.update_layout(
    template=palette.template(), height=380, width=760, margin={"b": 10},
    title="A sketch: items are ranked by their angle with the mean; is the star among the first K?",
    meta={"alt": "Three arrows for items a user took, their mean as a thicker arrow, other items, and her last item near the mean's direction."},
)

# %% [markdown]
# *Takeaway: nothing is learned. If content says what she likes, the last item lies at a small angle.*
#
# With $h_i$ the row of item $i$, $N_u$ what user $u$ took, and $t_u$ the last of it:
#
# $$h_u = \frac{1}{|N_u| - 1}\sum_{i \in N_u \setminus \{t_u\}} h_i, \qquad
# \text{found if } t_u \text{ is among the } K \text{ items with the largest } \cos(h_u, h_i),\ i \notin N_u \setminus \{t_u\}$$
#
# Only items with content count: if some of $N_u$ have a row of zeros, the mean is over the others, and the divisor is their number.
#
# Some things the articles leave open. Here: *last* is by time, among training and validation purchases. **The test purchases are not read.** Who
# picks features by a number that has seen the test has spent the test. And an item without content (a row of zeros) is never found.

# %%
users, targets, history = protocols.last_events(bazaar, splits=("train", "valid"))
rows, items = history.nonzero()  # row r of `users` took item i before her last one
print(f"{len(users):,} users; {len(rows) / len(users):.1f} earlier purchases each; item {targets[0]} is the last of user {users[0]}")

# %% [markdown]
# ## Exercise 1 · a user as the mean of her items
# Purchases come as pairs: `rows[n]` took `items[n]`. Items without content take no part in the mean.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 7 min · 2 points · difficulty 1 of 3
# Write `taste_vectors`: for every user the mean row of what she took.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "taste_vectors", "title": "for every user the mean row of what she took", "points": 2, "minutes": 7, "difficulty": 1, "hints": ["Add up the rows of each user, count how many there are, and divide.", "`out[rows] += …` adds only once for a user who stands there several times. `np.add.at(out, rows, values)` adds every time.", "Count only items with content: `full = features.any(1)[items]`, then `np.bincount(rows[full], minlength=n_users)`. Divide by at least 1."]}
def taste_vectors(features, rows, items, n_users):
    """The mean of the rows of features that each user took.

    Args:
        features: (I, d) numbers; a row of zeros is an item without content.
        rows, items: (n,) whole numbers: user rows[n] took item items[n]; no pair stands there twice.
        n_users: how many users there are.
    Returns:
        (n_users, d): the mean over her items with content; zeros for a user without any.
    """
    raise NotImplementedError("Write `taste_vectors`: for every user the mean row of what she took")

# %%
check("taste_vectors")

# %%
hint("taste_vectors")

# %% [markdown]
# ## Exercise 2 · is the target among the first K?
# A query (a user's mean, later an item) ranks all items by the cosine. What belongs to the query itself (`rows`, `items` again) does not compete.
# Scale the rows to length 1 yourself: `unit_rows`, which the first cell imports, is not allowed here.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 10 min · 3 points · difficulty 2 of 3
# Write `found_at_k`: rank by angle, look among the first k.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "found_at_k", "title": "rank by angle, look among the first k", "points": 3, "minutes": 10, "difficulty": 2, "hints": ["Cosines are inner products of rows of length 1. Mind the rows of zeros: nothing may be divided by 0.", "Put -np.inf where an item must not stand: whole columns of items without content, and the single places [rows, items].", "The target is found if fewer than k scores are larger than its own. A query of zeros, and a target without content, find nothing: check both with `.any(1)`."]}
def found_at_k(queries, features, rows, items, targets, k):
    """Whether each query's target is among the k items at the smallest angle.

    Args:
        queries: (n, d); a row of zeros finds nothing.
        features: (I, d); a row of zeros is an item without content: it stands in no list.
        rows, items: (m,) item items[j] is left out of the list of query rows[j]; never a target.
        targets: (n,) the item each query should find.
        k: length of the list. (Equal cosines do not come up.)
    Returns:
        (n,) array of bool: True where the target is found.
    """
    raise NotImplementedError("Write `found_at_k`: rank by angle, look among the first k")

# %%
check("found_at_k")

# %%
hint("found_at_k")

# %% [markdown]
# Your two functions are the whole protocol. Beside the package's (write exercises 1 and 2 first):

# %%
for name, table in sets.items():
    mine = found_at_k(taste_vectors(table, rows, items, len(users)), table, rows, items, targets, 20)
    theirs = protocols.zero_shot(table, bazaar)
    print(f"{name:>13}: yours {mine.mean():.4f}, the package's {theirs.recall(20):.4f}, {(mine != theirs.found(20)).sum()} users differ")

# %% [markdown]
# What does that look like for one user? Above, what she took. Below, the items nearest to the mean of *joined, even*.

# %%
zero = {name: protocols.zero_shot(table, bazaar) for name, table in sets.items()}
size = np.diff(history.indptr)
alone = np.minimum(zero["pictures"].ranks, zero["words"].ranks)
her = int(np.argmax(np.where((zero["joined, even"].ranks == 3) & (size == 6), alone, -1)))
past = history[[her]].indices
nearest = unit_rows(history @ sets["joined, even"])[her] @ sets["joined, even"].T
nearest[past] = -2
top = np.argsort(-nearest)[:6]
titles = bazaar.items["title"].to_numpy()
label = [f"{titles[i]} (took)" for i in past]
label += [f"{titles[i]} ({'her last' if i == targets[her] else f'place {n}'})" for n, i in enumerate(top, start=1)]
for name in ("joined, even", "pictures", "words"):
    print(f"{name}: her last item is at place {zero[name].ranks[her]}")
figures.contact_sheet(
    bazaar.images[[*past, *top]], label, columns=6, cell=115, marks=[False] * 6 + [i == targets[her] for i in top],
    title="What one user took, and below what lies nearest to its mean: her last purchase is among it",
)

# %% [markdown]
# *Takeaway: one user, and a lucky choice: she was picked because it works. Now all of them, with intervals.*

# %%
def told(judgements):
    """One row a feature set: recall@20 and its 95 % interval over what was judged."""
    found = [{"features": n, "recall@20": j.recall(20), **dict(zip(("low", "high"), j.interval(20), strict=True))} for n, j in judgements.items()]
    return pd.DataFrame(found).set_index("features")


zero_table = told(zero)
print(f"random order finds {zero['words'].chance(20):.3f}")
zero_table.round(3)

# %%
bars = zero_table.rename(columns={"recall@20": "mean"}).reset_index(names="model").assign(metric="zero-shot")
figures.metric_bars(
    bars, title=f"Zero-shot: {zero_table['recall@20'].idxmax()} finds {zero_table['recall@20'].max():.0%} of the last purchases, "
    f"noise {zero_table.loc['noise', 'recall@20']:.0%}", x_title="protocol", y_title="share of users whose last item is found",
)

# %% jupyter={"source_hidden": true}
reveal(
    "judge-first", zero_table["recall@20"].idxmax(),
    f"Both together know more than either: {zero_table.loc['joined, even', 'recall@20']:.3f} against "
    f"{zero_table.loc['pictures', 'recall@20']:.3f} and {zero_table.loc['words', 'recall@20']:.3f}. Joined raw, at {zero_table.loc['joined, raw', 'recall@20']:.3f}, "
    "finds as many as pictures alone: its words are too quiet to be heard.",
)

# %% [markdown]
# *Takeaway: without one step of training, content finds ten times what chance finds. And the judge is not fooled: shuffled rows and noise stay at chance.
# How two tables are joined matters as much as which: the raw pictures are about nine times as long as the words, and drown them.*
#
# ## Item-CF: does content know what is bought together?
# The second protocol asks item by item. Two items are close if the **same people** bought them. With $U_i$ the buyers of item $i$:
#
# $$\mathrm{cf}(i, j) = \frac{|U_i \cap U_j|}{\sqrt{|U_i|\,|U_j|}}, \qquad \text{the target of } i \text{ is } \arg\max_{j \ne i} \mathrm{cf}(i, j)$$
#
# The articles say "the highest item-CF score" and give no formula. This is the usual one, the cosine of two columns of the purchase matrix.
# Then content ranks all other items by their cosine with $i$: is the target among the first $K$? Only training purchases are counted.
#
# ## Exercise 3 · bought together

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 7 min · 2 points · difficulty 2 of 3
# Write `cf_scores`: the cosine of co-purchase, for all pairs.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "cf_scores", "title": "the cosine of co-purchase, for all pairs", "points": 2, "minutes": 7, "difficulty": 2, "hints": ["Make a table of users x items with a 1 where somebody bought something. What does the product of its transpose with itself count?", "Entry (i, j) of that product is the number of common buyers; its diagonal is each item's own number of buyers.", "Divide by np.sqrt(np.outer(n, n)) with n at least 1, and set the diagonal to 0 with np.fill_diagonal."]}
def cf_scores(users, items, n_items):
    """How much the buyers of two items are the same people.

    Args:
        users, items: (n,) whole numbers: users[n] bought items[n]; no pair stands there twice.
        n_items: how many items there are.
    Returns:
        (n_items, n_items): common buyers / root of the product of both numbers of buyers. 0 on the diagonal, and for items
        without a buyer.
    """
    raise NotImplementedError("Write `cf_scores`: the cosine of co-purchase, for all pairs")

# %%
check("cf_scores")

# %%
hint("cf_scores")

# %% [markdown]
# With `found_at_k` that is the second protocol: the query is the item's own row, and only the item itself is left out (write exercises 2 and 3 first).

# %%
close = cf_scores(bazaar.train.users, bazaar.train.items, bazaar.n_items)
asked, partners, strength = protocols.cf_partners(bazaar)  # the package's: ties go to the pair with more common buyers
print(f"largest difference to the package's best scores: {abs(close[asked].max(1) - strength).max():.0e}")
for name, table in sets.items():
    mine = found_at_k(table[asked], table, np.arange(len(asked)), asked, partners, 20)
    print(f"{name:>13}: yours {mine.mean():.4f}, the package's {protocols.item_cf(table, bazaar).recall(20):.4f}")

# %%
cf = {name: protocols.item_cf(table, bazaar) for name, table in sets.items()}
cf_table = told(cf)
both = pd.DataFrame({"zero-shot": zero_table["recall@20"], "item-CF": cf_table["recall@20"]})
print(f"random order finds {cf['words'].chance(20):.3f} of the partners")
both.assign(low=cf_table["low"], high=cf_table["high"]).rename(columns={"low": "item-CF: low", "high": "item-CF: high"}).round(3)

# %%
bars = pd.concat([
    table.loc[["pictures", "words", "joined, even"]].rename(columns={"recall@20": "mean"}).reset_index(names="model").assign(metric=protocol)
    for protocol, table in (("zero-shot", zero_table), ("item-CF", cf_table))
])
figures.metric_bars(
    bars, x_title="protocol", y_title="recall@20", title="Pictures or words? Zero-shot: {:.3f} against {:.3f}. Item-CF: {:.3f} against {:.3f}".format(
        *(both.loc[name, protocol] for protocol in both for name in ("pictures", "words"))),
)

# %% jupyter={"source_hidden": true}
ahead = [both[protocol]["pictures"] > both[protocol]["words"] for protocol in both]
answer = "each puts another one ahead" if ahead[0] != ahead[1] else f"{'pictures' if ahead[0] else 'words'} are ahead in both"
reveal(
    "judge-modality", answer,
    "Words {:.3f} to {:.3f} and pictures {:.3f} to {:.3f} in zero-shot; item-CF has words {:.3f} to {:.3f} and pictures {:.3f} to {:.3f} (95 % intervals).".format(
        *(table.loc[name, end] for table in (zero_table, cf_table) for name in ("words", "pictures") for end in ("low", "high"))),
)

# %% [markdown]
# *Takeaway: two honest judges, two answers. Item-CF has pictures far ahead. Zero-shot has words slightly ahead, and cannot separate the two for certain: the
# intervals overlap. But it surely does not see the lead of pictures that item-CF sees. Why?*
#
# Item-CF asks with **one** item, zero-shot with the mean of about nine. So let zero-shot ask with fewer: 1, 2, 4 of the earlier purchases, drawn at random.

# %%
rng = np.random.default_rng(0)
order = np.lexsort((rng.random(len(rows)), rows))  # each user's earlier purchases, shuffled
place = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)  # 0, 1, 2, … within each user
asks = {name: [] for name in ("pictures", "words", "joined, even")}
counts = (1, 2, 4, 8, 16)
for n in counts:
    kept = order[place < n]
    fewer = sp.csr_array((np.ones(len(kept)), (rows[kept], items[kept])), shape=history.shape)
    for name in asks:
        ranks = protocols.target_ranks(fewer @ sets[name], sets[name], targets, history)
        asks[name].append(((ranks > 0) & (ranks <= 20)).mean())
figures.lines(
    counts, asks, x_title="purchases in the mean, at most", y_title="zero-shot recall@20", markers=True,
    title=f"Asked with one purchase, pictures lead {asks['pictures'][0]:.2f} to {asks['words'][0]:.2f}; words gain more from the mean",
)

# %% [markdown]
# *Takeaway: a caption says little about the next purchase; nine captions say much. Averaging takes the noise out of words. Item-CF sees each table one item at
# a time. So ask first how your recommender will use content: item by item ("more like this", a new item), or summed over a user?*
#
# ## Mask-modality: what is a modality worth?
# The third protocol takes something away. A share of the items, drawn at random, loses its picture (or its words). How much is lost? The article measures
# the loss in the final recommendation. We do that further below; first with zero-shot as the judge, since it costs nothing.

# %%
predict(
    "judge-mask", "Half of the items lose their words. How much of its zero-shot recall does *joined, raw* lose?",
    options=["almost nothing", "about a fifth", "about a half"],
)

# %% [markdown]
# ## Exercise 4 · hide a share
# Shares should be **nested**: whoever loses the picture at 0.25 loses it at 0.5 as well. Then a curve over shares is about shares, and not about luck. So the order
# in which items lose it is drawn once and handed to you.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 6 min · 2 points · difficulty 1 of 3
# Write `hide_share`: the first of an order lose their content.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "hide_share", "title": "the first of an order lose their content", "points": 2, "minutes": 6, "difficulty": 1, "hints": ["Who cannot lose it: an item whose row is all zeros already. Leave those out of the order first.", "`order[table.any(1)[order]]` keeps, in that order, the items that have content.", "Take the first round(share * how many they are), and set their rows to 0 in a copy of the table."]}
def hide_share(table, order, share):
    """The table after a share of the items that have content lost it.

    Args:
        table: (I, d), left as it is; a row of zeros is an item without content.
        order: (I,) all items in the order in which they lose it; those without content are passed over.
        share: of the items that have content, from 0 to 1; round to a whole number of items.
    Returns:
        (I, d): rows of zeros for those who lost it.
    """
    raise NotImplementedError("Write `hide_share`: the first of an order lose their content")

# %%
check("hide_share")

# %%
hint("hide_share")

# %% [markdown]
# The package hides by the same rule (write exercise 4 first):

# %%
drawn = np.random.default_rng([0, *b"image"]).permutation(bazaar.n_items)  # the package's order for pictures, seed 0
for share in (0.25, 0.5):
    mine = hide_share(sets["pictures"], drawn, share)
    theirs = sets["pictures"] * ~protocols.hidden(bazaar, "image", share, seed=0)[:, None]
    print(f"share {share}: {(~mine.any(1)).sum()} items without a picture, the same as the package's: {np.array_equal(mine, theirs)}")

# %%
shares, kinds = (0.0, 0.25, 0.5, 0.75, 1.0), ("joined, even", "joined, raw", "aligned")
masked = {
    name: protocols.mask_modality(makers[name], bazaar, "zero-shot", shares=shares, seeds=(0, 1, 2)).groupby(["modality", "share"])["hidden"].mean()
    for name in kinds
}
curves = {f"{name}: no {what}": masked[name][m].tolist() for name in kinds for m, what in (("image", "pictures"), ("text", "words"))}
figures.lines(
    shares, curves, x_title="share of the items that lose it", y_title="zero-shot recall@20", markers=True,
    title="Half without words: even {:+.3f}, raw {:+.3f}, aligned {:+.3f}".format(*(masked[n]["text"][0.5] - masked[n]["text"][0.0] for n in kinds)),
)

# %% jupyter={"source_hidden": true}
lost = (masked["joined, raw"]["text"][0.0] - masked["joined, raw"]["text"][0.5]) / masked["joined, raw"]["text"][0.0]
reveal(
    "judge-mask", "almost nothing" if lost < 0.1 else "about a fifth" if lost < 0.35 else "about a half",
    f"Its recall changes by {-lost:+.1%}. One cannot lose what was never heard: in the raw table words hardly move an angle.",
)

# %% [markdown]
# *Takeaway:*
# - ***even*** *loses by either: both modalities work.*
# - ***raw*** *shows that its words are idle for zero-shot. And look at its other curve: with half of the pictures gone it is worse than with all of them gone! Items
#   with a picture and items without speak two languages. When nobody has a picture, the words have the table to themselves.*
# - ***aligned*** *loses nothing, and without pictures it even gains. Its maps saw both tables before we hid one, so the words keep what they share with
#   pictures. Averaging in the pictures perhaps costs a little. That is what alignment is for. It is also its price: what only one of the two knew was
#   dropped, and the whole is below* even.
#
# ## Now train
# The judges have spoken. VBPR (lesson 02) on each table, three seeds each, a short training, the same for all; test purchases, the whole shop ranked.

# %%
def final(table, seed):
    """VBPR on one feature table; returns the trained model, its data and its test evaluation."""
    shop = with_table(bazaar, table)
    model = create("vbpr", shop, dim=32, content_dim=32, scaling="unit", seed=seed)
    for _ in train(model, shop, weights={"l2": 1e-2}, epochs=15, lr=1e-2, batch_size=1024, metrics_every=0, seed=seed):
        pass
    return model, shop, evaluate(model, shop, "test", ks=(20,))


measured, per_user = {}, {}
for name, table in sets.items():
    results = [final(table, seed)[2] for seed in (0, 1, 2)]
    measured[name] = {"all items": [r.mean("recall@20") for r in results], "cold items": [r.cold()["recall@20"] for r in results]}
    per_user[name] = np.mean([r.per_user["recall@20"] for r in results], axis=0)
    print(f"{name}: recall@20 {np.mean(measured[name]['all items']):.3f}, of cold items {np.mean(measured[name]['cold items']):.3f}")

# %%
trained = pd.DataFrame({n: {k: np.mean(v) for k, v in kinds_of.items()} for n, kinds_of in measured.items()}).T
summary = pd.concat({"judged": both, "trained: VBPR": trained}, axis=1)
summary.round(3)

# %% [markdown]
# ## Exercise 5 · do two judges agree?
# Take all **pairs** of tables. A pair agrees if both judges put the same one first. Kendall's $\tau$ counts:
#
# $$\tau = \frac{\text{agreeing pairs} - \text{pairs the other way round}}{\text{all pairs}}$$
#
# A tie, two tables that are equal for one of the judges, is neither. 1: the same order. 0: no relation. -1: the order turned round.

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 5 min · 1 point · difficulty 1 of 3
# Write `kendall_tau`: agreeing pairs less those the other way round, over all pairs.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "kendall_tau", "title": "agreeing pairs less those the other way round, over all pairs", "points": 1, "minutes": 5, "difficulty": 1, "hints": ["Two tables i and j: the judges agree if a[i] - a[j] and b[i] - b[j] have the same sign.", "Each pair counts once: j below i only. n tables have n (n - 1) / 2 pairs.", "np.sign(a[:, None] - a) * np.sign(b[:, None] - b) is a table of +1 and -1 for all i, j; np.triu_indices(len(a), 1) picks each pair once."]}
def kendall_tau(a, b):
    """Agreement of two judges about the order of the same things.

    Args:
        a, b: (n,) the values each judge gave, n at least 2.
    Returns:
        a number from -1 to 1; a pair that is equal for one of the judges counts as neither agreeing nor not.
    """
    raise NotImplementedError("Write `kendall_tau`: agreeing pairs less those the other way round, over all pairs")

# %%
check("kendall_tau")

# %%
hint("kendall_tau")

# %% [markdown]
# Yours beside the package's, which also says how sure it is: users and items are drawn again with replacement, a thousand times (write exercise 5 first).

# %%
theirs = protocols.rank_agreement([zero[n].found() for n in sets], [per_user[n] for n in sets])
print(f"zero-shot and VBPR: the package's τ {theirs['tau']:.3f}")
print(f"yours: {kendall_tau(both['zero-shot'].to_numpy(), trained['all items'].to_numpy()):.3f}")

# %%
content = [name for name in sets if name not in ("shuffled", "noise")]
lines = {}
for protocol, judged in (("zero-shot", zero), ("item-CF", cf)):
    for over, names in (("all tables", list(sets)), ("without shuffled and noise", content)):
        sure = protocols.rank_agreement([judged[n].found() for n in names], [per_user[n] for n in names])
        cold = protocols.rank_agreement([judged[n].found() for n in names], [np.array(measured[n]["cold items"]) for n in names], n_boot=1)
        lines[protocol, over] = {
            "τ with final recall": round(sure["tau"], 2), "95 %": f"{sure['low']:.2f} to {sure['high']:.2f}",
            "pairs in the same order": f"{sure['agreeing']} of {sure['pairs']}",
            "ties": round(sure["pairs"] * (1 + sure["tau"])) - 2 * sure["agreeing"], "τ with recall of cold items": round(cold["tau"], 2),
        }
agreement = pd.DataFrame(lines).T
agreement

# %%
sides = make_subplots(1, 2, horizontal_spacing=0.1, subplot_titles=["zero-shot", "item-CF"])
for column, protocol in enumerate(("zero-shot", "item-CF"), start=1):
    for n, name in enumerate(sets):
        colour, symbol = palette.style(n)
        sides.add_scatter(
            x=[both.loc[name, protocol]], y=[trained.loc[name, "all items"]], mode="markers", name=name, legendgroup=name,
            showlegend=column == 1, marker={"color": colour, "symbol": symbol, "size": 13},
            error_y={"type": "data", "symmetric": False, "color": colour,
                     "array": [max(measured[name]["all items"]) - trained.loc[name, "all items"]],
                     "arrayminus": [trained.loc[name, "all items"] - min(measured[name]["all items"])]}, row=1, col=column,
        )
sides.update_xaxes(title="recall@20 without training").update_yaxes(title="VBPR's test recall@20 (lowest to highest seed)", row=1, col=1)
tau = agreement["τ with final recall"]
sides.update_layout(
    template=palette.template(), height=480, margin={"t": 110},
    title={"text": "Something against nothing is easy; among real tables τ is {:.2f} (zero-shot) and {:.2f} (item-CF)".format(
        tau["zero-shot", "without shuffled and noise"], tau["item-CF", "without shuffled and noise"]),
           "y": 0.96, "yref": "container", "yanchor": "top", "pad": {"t": 0, "b": 0}},
    meta={"alt": "Two scatters of final recall over a protocol's recall, one point a feature table. "
                 "Noise and shuffled lie low and left; the others right and above."},
)

# %% jupyter={"source_hidden": true}
share = theirs["agreeing"] / theirs["pairs"]
reveal(
    "judge-agree", "in exactly that order" if share == 1 else "nearly: most pairs in the same order" if share > 0.65 else "no better than by chance",
    f"{theirs['agreeing']} of {theirs['pairs']} pairs, but a good part of these are a real table against shuffled or noise. "
    f"Without those two tables: {agreement.loc[('zero-shot', 'without shuffled and noise'), 'pairs in the same order']}.",
)

# %% [markdown]
# *Takeaway: what really happens here, at each of three seeds:*
# - ***The winner is right.*** *Joined, even is first after training. Zero-shot puts it clearly first; item-CF has it level with aligned (intervals above).*
# - ***Something against nothing is right.*** *Shuffled and noise are last everywhere. That inflates τ: a table of many controls makes any judge look good.
#   Shuffled ends below noise, perhaps because its rows make false neighbours, and noise makes none.*
# - ***Ties.*** *For zero-shot, pictures and joined, raw find equally many. Such a pair counts neither for nor against, so pairs and τ need not match.*
# - ***The middle is not settled.*** *Aligned is second for both judges and not for VBPR over all items. Perhaps because it has the fewest numbers, and VBPR can
#   learn for itself what to read from a wider table. Zero-shot knows no learning.*
# - ***Another question, another judge.*** *For cold items aligned is first or second, and item-CF, which asks item by item, orders the tables much as
#   they turn out (last column, means of three seeds). That holds after this short training; the benchmark at the end trains longer, and there zero-shot is
#   the better judge of VBPR's cold items.*
#
# ## The third protocol, in the final recommendation
# Now as the article has it: the trained model, and half of the items lose a modality when it scores.

# %%
model, shop, whole = final(sets["joined, even"], 0)
drops = {}
for modality, what in (("image", "pictures"), ("text", "words")):
    mask = protocols.hidden(bazaar, modality, 0.5, seed=0)
    less = with_table(bazaar, makers["joined, even"]({modality: mask}))
    after = evaluate(with_features(model, less), less, "test", ks=(20,))
    drops[f"half without {what}"] = {
        "zero-shot": zero["joined, even"].recall(20) - protocols.zero_shot(makers["joined, even"]({modality: mask}), bazaar).recall(20),
        "item-CF": cf["joined, even"].recall(20) - protocols.item_cf(makers["joined, even"]({modality: mask}), bazaar).recall(20),
        "trained: VBPR": whole.mean("recall@20") - after.mean("recall@20"),
    }
pd.DataFrame(drops).T.round(3)

# %% [markdown]
# *Takeaway: these are losses, so larger means worth more. Both judges see that VBPR will miss either modality. Which more? Zero-shot says words; item-CF and the
# trained model say pictures (at each of three seeds). This asks what a model trained on both will miss. Trained on one alone, words came out ahead in the table
# above: another question.*
#
# ## What if …
# The panel trains VBPR. Under *Data*, set the features to *shuffled* or *random*, leave out a modality, or let a share of the items miss theirs. Before
# each run say what recall you expect, and what the map of `item/content` will look like.

# %%
predict(
    "judge-panel", "In the panel: VBPR with shuffled features. Will its recall@20 fall to that of chance (0.03), or stay above the half of what it was?",
    options=["to chance", "it stays above the half"],
)

# %%
whatif(
    "vbpr", bazaar, controls=["content_weight", "l2"], views=["item/id", "item/content"],
    options={"dim": 32, "content_dim": 32, "scaling": "unit"}, weights={"l2": 1e-2}, lr=1e-2, batch_size=1024, epochs=15,
)

# %% jupyter={"source_hidden": true}
kept = trained.loc["shuffled", "all items"] / trained.loc["joined, even", "all items"]
reveal(
    "judge-panel", "it stays above the half" if kept > 0.5 else "to chance",
    f"With shuffled rows VBPR keeps {kept:.0%} of its recall: it still has ids. Final recall alone is a poor judge of features: a model can do well in spite "
    "of them. Zero-shot has nothing but features, and falls to chance.",
)

# %% [markdown]
# ## The long tail
# One more table belongs to the article: how results spread over rare and popular items. Four recommenders, one seed; two of them score with content
# (VBPR, AlignRec), two do not (LightGCN; BM3 at scoring time, lesson 05).

# %%
predict(
    "judge-tail", "Which share of the shop ever appears in somebody's list of twenty, if the model scores by ids and the graph alone?",
    options=["about a half", "about eight in ten", "nearly everything"],
)

# %%
rivals = {
    "lightgcn": ({}, {"l2": 1e-3}), "bm3": ({}, {"reg": 0.0}), "vbpr": ({"scaling": "unit", "content_dim": 32}, {"l2": 1e-2}), "alignrec": ({}, {}),
}
lists = {"popularity": evaluate(create("popularity", bazaar), bazaar, "test", ks=(20,))}
for name, (options, weights) in rivals.items():
    model = create(name, bazaar, dim=32, seed=0, **options)
    for _ in train(model, bazaar, weights=weights, epochs=20, lr=1e-2, batch_size=1024, metrics_every=0, seed=0):
        pass
    lists[name] = evaluate(model, bazaar, "test", ks=(20,))
EDGES = (1, 10, 20, 40)  # cold | 1-9 | 10-19 | 20-39 | 40 and more buyers
tail = long_tail(lists, edges=EDGES).set_index("model").drop(columns="run")
print(f"tail: the {tail.attrs['tail items']:.0%} of the items that were bought least; {tail.attrs['tail purchases']:.0%} of the test purchases are theirs")
tail.round(3)

# %%
figures.frequency_bars(
    {name: result.by_frequency(EDGES) for name, result in lists.items() if name != "popularity"},
    title="Found of the cold items: LightGCN {:.2f}, BM3 {:.2f}, VBPR {:.2f}, AlignRec {:.2f}; of the best sold LightGCN leads".format(
        *tail.loc[list(rivals), "found cold"]),
)

# %% jupyter={"source_hidden": true}
reach = tail["reach@20"]
reveal(
    "judge-tail", "about eight in ten" if 0.7 < reach["lightgcn"] < 0.9 else "nearly everything" if reach["lightgcn"] >= 0.9 else "about a half",
    f"LightGCN reaches {reach['lightgcn']:.0%}, BM3 {reach['bm3']:.0%}; with content in the score VBPR reaches {reach['vbpr']:.0%} and AlignRec "
    f"{reach['alignrec']:.0%}. Popularity shows {reach['popularity']:.0%} of the shop.",
)

# %% [markdown]
# *Takeaway: content in the score opens the shelf. Cold items are found, nearly the whole shop is shown to somebody, and the tail gets more of the places.
# LightGCN finds more of the items with 10 buyers or more, not only at the head. How much of that is the price of content cannot be read from here: the models
# differ in more, and BM3, which scores without content, lies below LightGCN there too. One seed. One mean recall hides all of that.*
#
# ## Paper and code
# The protocols come without public code, so everything left open had to be chosen. What a choice does here:

# %%
choices = {
    "as above": protocols.zero_shot(sets["joined, raw"], bazaar),
    "own lengths in the mean": protocols.zero_shot(raw(), bazaar),
    "the test purchases read as well": protocols.zero_shot(sets["joined, raw"], bazaar, splits=("train", "valid", "test")),
}
for name, judgement in choices.items():
    print(f"zero-shot, joined raw, {name}: {judgement.recall(20):.3f}")
for least in (1, 2, 4):
    judgement = protocols.item_cf(sets["joined, raw"], bazaar, min_common=least)
    print(f"item-CF, joined raw, partners with {least} common buyers or more: {judgement.recall(20):.3f} of {len(judgement)} items")

# %% [markdown]
# | the articles say | left open | here |
# |---|---|---|
# | sort by time, the last is the target | of which split? | train and valid, so that test stays unseen; drawn within the split where time is unknown |
# | the user's multimodal vector | how it is made | the mean; rows as they come, or of length 1 |
# | the highest item-CF score | which score, ties | cosine of co-purchase; ties: more common buyers, then the lower index |
# | mask a share of a modality | how often, judged by what | seeds, nested shares; any judge, the final recommendation among them |
# | long-tail results | what the tail is | the 80 % of the items that were bought least |
#
# ## Recap
# - Zero-shot, item-CF and mask-modality judge features in seconds, with no training.
# - Here, for VBPR and these seven tables, they got the winner and the controls right. For a model that hardly needs content, or for a weak table, even
#   "something against nothing" can fail: see the command at the end. Do not trust them for the order of near neighbours; show intervals.
# - They ask different questions. A user's mean forgives noise in single items; item by item it counts.
# - Always put shuffled and random features on trial too, and leave them out again when you report how well a judge agrees.
# - Mean recall hides who is served: look at cold, tail and reach.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Your new features have zero-shot 0.31, the old ones 0.30, with intervals of ± 0.03. What do you do?",
            "options": ["Take the new ones", "Train both: the protocol cannot tell them apart"],
            "answer": 1,
            "why": ["The difference is well inside the noise of the measurement.", "Right. It saves training only where the differences are large."],
        },
        {
            "question": "Why are the test purchases left out of the protocols?",
            "options": ["To save time", "Features picked by looking at test make the test score too good", "They have no timestamps"],
            "answer": 1,
            "why": ["It costs nothing to read them.", "Right: picking is learning, and learning belongs to train and valid.", "In the bazaar they have."],
        },
        {
            "question": "Half the items lose their words, and zero-shot does not change. What follows?",
            "options": ["Words are useless", "These features do not use the words, or the pictures stand in for them", "The shares were too small"],
            "answer": 1,
            "why": ["The even join did lose: words know something.", "Right: joined raw was of the first kind, aligned of the second.",
                    "Half of the items is much."],
        },
        {
            "question": "A judge agrees with final recall on 18 of 21 pairs; 11 of the pairs hold a control. Good?",
            "options": ["Very good: 86 %", "Look at the pairs without a control first"],
            "answer": 1,
            "why": ["Telling something from nothing is easy and fills the count.", "Right: among the real tables it may be little better than a coin."],
        },
    ],
    id="08-judging-features",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")
# mine = np.load("vectors.npy")            # one row an item, zeros where an item has none
# protocols.zero_shot(mine, data), protocols.item_cf(mine, data)
# ```
# In a terminal: `mmrec-teach judge --data path/to/folder --features mine=vectors.npy`. Without any arguments it judges the bazaar's tables, and among them `mmenc`, the
# vectors of lesson 06's encoder. Say first where they will stand!
# It takes rows as they come, so some numbers differ slightly from those above, and *joined, even* is called `joined, unit` there.
#
# In the course's folder, `python benchmarks/judge_features.py --print` shows more feature sets, and two more models, trained to early stopping over three seeds. In
# FREEDOM nearly all tables end at the same recall over all items: it hardly needs content, and no judge of features can foretell what features do not decide. In
# FREEDOM and AlignRec alike, shuffled rows end above aligned ones; in VBPR, noise ends above `mmenc`. The protocols had all of these the other way round.
#
# Next, lesson 09: sequences.
