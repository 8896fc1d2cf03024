# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 12 · In production: two towers, gates, vector recall
# *75 minutes · 9 points · needs lessons 02 and 07 (lesson 08 for the long tail) · after this you can build a recall stage: two vectors an item, a gate
# between them, losses that know how often an item is a rival, a search index and its price; and you can say what new items need to be found.*
#
# A real shop does not have 600 things but 100 million, and a home page waits some milliseconds. No model can look at all of them. So shops work in two
# stages: **recall** picks a few hundred candidates, **ranking** looks at those closely. What recall misses, nobody sees.
#
# Recall is a **search among vectors**: one vector $q$ of the user, one of every item, and the items with the largest inner products. So the score must be
# an inner product of something that knows only the user and something that knows only the item: **two towers**.
#
# And an item can be known in two ways: by what people did with it, or by what it is. Which of them should its vector tell?

# %%
import importlib.util
import time

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from torch.nn.functional import normalize

from mmrec_teach.data.counts import check_counts, with_future
from mmrec_teach.errors import DataError
from mmrec_teach.evaluation.long_tail import long_tail
from mmrec_teach.evaluation.recommend import recommend
from mmrec_teach.evaluation.retrieval import add_new, item_table, query_table
from mmrec_teach.models import Batch
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train
from mmrec_teach.ops.index import VectorIndex
from mmrec_teach.views import palette
from mmrec_teach.views.figures_production import reach_bars
from mmrec_teach.views.figures_towers import cluster_curve, gate_by_popularity
from mmrec_teach.views.gates import whatif_gate
from mmrec_teach.views.recommended import cards

torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 150)
bazaar = load("bazaar")
new = bazaar.cold_items  # (600,) bool: launched after training ended
print(bazaar)
for name, items in (("items with training purchases", ~new), ("new items", new)):
    shown, clicked = bazaar.exposures[items], bazaar.clicks[items]
    print(f"{items.sum():3} {name}: shown {shown.min():,} to {shown.max():,} times, clicked {clicked.min():,} to {clicked.max():,} times")

# %% [markdown]
# Two new columns, the item's **statistics**: how often passers-by were **shown** an item (an *exposure*) and how often they **clicked** it, counted in the shop window until training
# ends. A new item was launched after that. Its counts are zero, as they must be.
#
# ## The idea
# We follow an article by the team of Taobao's content feed Guangguang ("Content recall models that fuse multimodal information in
# recommendation", in Chinese; it has neither code nor numbers). Every item has two towers:
# - the **behaviour tower** reads the item's number, and no content: $z_{id} = f(e_i)$. It knows what people do with the item;
# - the **content tower** reads picture and words, and no number: $z_c = f_c(x_i)$. It knows what the item is.
#
# Both are brought to length 1. The user's tower reads her number, and what else she took: $q$, also of length 1. In training the item asked for is left
# out of what she took.

# %% jupyter={"source_hidden": true}
idea = go.Figure()
for (x0, y0), (x1, y1), colour, dash in (
    ((0, 3), (2.2, 3), palette.BLUE, "dot"), ((0, 2), (2.2, 2), palette.ORANGE, "solid"), ((0, 1), (2.2, 1), palette.INK, "solid"),
    ((2.2, 3), (4.2, 2), palette.BLUE, "dot"), ((2.2, 2), (4.2, 2), palette.ORANGE, "solid"), ((2.2, 1), (4.2, 2), palette.INK, "solid"),
    ((0, 0), (4.2, 0), palette.INK, "solid"), ((4.2, 2), (6, 1), palette.INK, "solid"), ((4.2, 0), (6, 1), palette.INK, "solid"),
):
    idea.add_scatter(x=[x0, x1], y=[y0, y1], mode="lines", line={"color": colour, "width": 3, "dash": dash}, hoverinfo="skip")
for text, x, y in (
    ("item's number", 0, 3), ("picture and words", 0, 2), ("exposures, clicks", 0, 1), ("user's number,<br>what else she took", 0, 0),
    ("z<sub>id</sub>", 2.2, 3), ("z<sub>c</sub>", 2.2, 2), ("gate g", 2.2, 1), ("item vector", 4.2, 2), ("q", 4.2, 0), ("score:<br>inner product", 6, 1),
):
    box = {"bgcolor": "white", "bordercolor": palette.INK, "borderpad": 5, "font": {"size": 14}}
    idea.add_annotation(x=x, y=y, text=text, showarrow=False, **box)
for text, x, y in (("behaviour tower", 1.25, 3.22), ("content tower", 1.25, 2.22), ("user tower", 2.2, 0.22), ("weighs both", 3.55, 1.25)):
    idea.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": 13})
idea.update_xaxes(visible=False, range=[-1, 6.9]).update_yaxes(visible=False, range=[-0.5, 3.5])
idea.update_layout(
    template=palette.template(), showlegend=False, height=360, width=900, margin={"b": 10},
    title="Two views of an item become one vector; how much of each, a gate decides",
    meta={"alt": "An item's number passes the behaviour tower and becomes z_id; its picture and words pass the content tower and become z_c; its "
                 "exposures and clicks become a gate g. Together they make the item vector. The user's number and what else she took become q. "
                 "The score is the inner product of q and the item vector."},
)

# %% [markdown]
# *Takeaway: everything on the item's side can be computed before anybody comes. Only $q$ is made on the spot.*
#
# The gate is meant to do this: much shown and clicked, and the ID knows best; hardly shown, and content must speak.
#
# ## Commit first

# %%
predict(
    "lean", "The gate learns from purchases how much weight content gets. A new item, never shown: its content weighs …",
    options=["clearly more than that of other items", "about as much, or less"],
)

# %%
predict(
    "leaves", "The content tower reads the number of the item's cluster in place of its features. As many clusters as items: how many of the new items' "
    "purchases does it find?", options=["as many as with features", "about half of them", "next to none"],
)

# %% [markdown]
# ## Rivals from the batch
# Training asks: which of the batch's items did this user take? The other rows' items are the rivals. That is cheap, and it is **unfair**: a popular item is in
# many rows, so it is a rival all the time, and is pushed down for nothing but being popular. Let $Q(i)$ be the item's share of the training purchases: how
# likely it is to be drawn. The remedy (Yi et al., 2019) takes $\ln Q$ off every logit, the own item's too:
#
# $$L = -\frac1B\sum_b \ln\frac{\exp(l_{bb} - \ln Q(i_b))}{\sum_{b'} \exp(l_{bb'} - \ln Q(i_{b'}))}, \qquad l_{bb'} = q_b\cdot z_{b'} / \tau$$
#
# A rare rival stands for the many batches that it is not in. (Only in training: what ranks in the shop stays $q\cdot z$.) As in lesson 11, a row that asks for the *same* item is no rival: $b'$ runs over $b$ itself
# and the rows with another item. τ is 0.2 here.
#
# ## Exercise 1 · a fair softmax

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 2 of 3
# Write `log_q_softmax`: rivals from the batch, corrected by how often they are there.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "log_q_softmax", "title": "rivals from the batch, corrected by how often they are there", "points": 2, "minutes": 8, "difficulty": 2, "hints": ["ln Q belongs to an item, and items are the columns: which of log_q and log_q[:, None] gives every column its own number? The diagonal is corrected, too.", "logits - log_q first. Then a copy of the own item, off the diagonal, must leave nothing in the sum: set it to -inf. logsumexp over the rows is safe for large logits.", "logits = logits - log_q; copies = (items[:, None] == items) & ~torch.eye(len(items), dtype=torch.bool); logits = logits.masked_fill(copies, float('-inf')); then the mean of logits.logsumexp(1) - logits.diagonal()."]}
def log_q_softmax(logits, items, log_q):
    """In-batch softmax with log Q; rows that ask for the same item are no rivals.

    Args:
        logits: (B, B), entry (b, k) is the query of row b with the item of row k, already divided by the temperature.
        items: (B,) int64, the item of each row; some come again.
        log_q: (B,) the logarithm of Q of each row's item.
    Returns:
        a tensor with one number, the mean over the B rows.
    """
    raise NotImplementedError("Write `log_q_softmax`: rivals from the batch, corrected by how often they are there")

# %%
check("log_q_softmax")

# %%
hint("log_q_softmax")

# %% [markdown]
# ## Two views of one thing
# Each tower is trained against the same queries, so $z_{id}$ and $z_c$ live in one space. The article wants more: the two views of *one* item shall be
# nearer to each other than to the views of any other item $j$, by a margin $m$. In both directions: content looks for its ID view, and the ID view for its content.
#
# $$L_{triplet} = \frac1{n(n-1)}\sum_{i \ne j} \Big( \left[m - z_c^i\cdot z_{id}^i + z_c^i\cdot z_{id}^j\right]_+ + \left[m - z_{id}^i\cdot z_c^i + z_{id}^i\cdot z_c^j\right]_+ \Big)$$
#
# $[x]_+$ is $x$ where it is positive, else 0: who is far enough away is left alone.
#
# ## Exercise 2 · the triplet of views

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 9 min · 3 points · difficulty 3 of 3
# Write `view_triplet`: the own other view nearer than anybody else's.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "view_triplet", "title": "the own other view nearer than anybody else's", "points": 3, "minutes": 9, "difficulty": 3, "hints": ["One product gives all: cosine = z_c @ z_id.T. The diagonal holds the own matches. Row i holds what content i sees; column i holds what ID view i sees.", "With own = cosine.diagonal()[:, None], the first direction is relu(margin - own + cosine), the second the same with cosine.T. On the diagonal each of them is just the margin: take it out. Fewer than two items: no pair, and 0.", "gaps = relu(margin - own + cosine) + relu(margin - own + cosine.T); return (gaps.sum() - gaps.diagonal().sum()) / (n * (n - 1)). For n < 2 return 0 * z_c.sum()."]}
def view_triplet(z_c, z_id, margin):
    """Both directions of the triplet loss between two views of the same items.

    Args:
        z_c: (n, d) content views, rows of length 1.
        z_id: (n, d) ID views, rows of length 1; row i of both is the same item. All items differ.
        margin: m, a number.
    Returns:
        a tensor with one number: the two directions added, the mean over the n (n - 1) pairs of different items; 0 if n is below 2.
    """
    raise NotImplementedError("Write `view_triplet`: the own other view nearer than anybody else's")

# %%
check("view_triplet")

# %%
hint("view_triplet")

# %% [markdown]
# ## A gate between them
# $g_i$, from 0 to 1, says how much item $i$ is to be its content. It is a small network of the item's statistics: how often shown, how often clicked, at which
# rate (logarithms $s_i$; the rate is smoothed, so that one lucky click is not a rate of 100 %): $g_i = \sigma(\mathrm{MLP}(s_i))$. The article puts the views together in two ways:
#
# | | item vector | score |
# |---|---|---|
# | **concat** | $[z_{id}\,;\; g\,z_c]$ | $q_{id}\cdot z_{id} + g\; q_c\cdot z_c$: the query has two halves |
# | **sum** | $(1-g)\,z_{id} + g\,z_c$ | $q\cdot$ that |
#
# And an item nobody has bought? Its $e_i$ was never trained: $z_{id}$ would be noise. We set it to 0.
#
# ## Exercise 3 · the item's vector

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 5 min · 2 points · difficulty 1 of 3
# Write `gated_vectors`: both forms of the gate.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "gated_vectors", "title": "both forms of the gate", "points": 2, "minutes": 5, "difficulty": 1, "hints": ["g has one number an item, the views have d numbers an item: g[:, None] stretches over them. In concat, only content is weighed.", "concat: torch.cat of z_id and the weighed z_c along axis 1, in this order. Nothing is brought back to length 1.", "g = g[:, None]; if form == 'sum': return (1 - g) * z_id + g * z_c; else return torch.cat([z_id, g * z_c], 1)."]}
def gated_vectors(z_id, z_c, g, form):
    """The items' vectors, whose inner product with the query is the score.

    Args:
        z_id, z_c: (n, d) the items' two views; a new item's z_id is 0.
        g: (n,) the weight of content, 0 to 1.
        form: "sum" or "concat".
    Returns:
        (n, d) for "sum", (n, 2 d) for "concat": ID first.
    """
    raise NotImplementedError("Write `gated_vectors`: both forms of the gate")

# %%
check("gated_vectors")

# %%
hint("gated_vectors")

# %% [markdown]
# All three beside the package, on one batch (write exercises 1 to 3 first). `match` is the loss of the gated score; `create("two-tower", …)` also trains each tower
# by itself against the query, terms `id` and `content`.

# %%
SETTINGS = {"dim": 32, "temperature": 0.2}
some = np.random.default_rng(0).permutation(len(bazaar.train))[:400]
batch = Batch(torch.as_tensor(bazaar.train.users[some]), torch.as_tensor(bazaar.train.items[some]), None)
for form in ("sum", "concat"):
    model = create("two-tower", bazaar, gate=form, seed=0, **SETTINGS)
    with model.evaluating():
        q = torch.cat(model.queries(batch), 1)  # q, or q_id and q_c side by side
        z_id, z_c, g = model.z_id(batch.items), model.z_c(batch.items), model.gates()[batch.items]
        package, distinct = model.losses(batch), batch.items.unique()
        distinct = distinct[model.has[distinct]]  # an item without any content has one view only
        mine = {
            "match": log_q_softmax(q @ gated_vectors(z_id, z_c, g, form).T / 0.2, batch.items, model.log_q[batch.items]),
            "triplet": view_triplet(model.z_c(distinct), model.z_id(distinct), model.margin),
        }
    for term, value in mine.items():
        print(f"{form}, {term}: yours {value:.6f}, the package's {package[term]:.6f}, difference {abs(value - package[term]).item():.0e}")

# %% [markdown]
# ## Experiment 1 · each tower alone
# No gate yet: the score is $q\cdot z_{id} + q\cdot z_c$. One training of five epochs; then we let one tower answer alone.

# %%
def trained(data=bazaar, weights=None, epochs=5, seed=0, **options):
    """A two-tower model after training, and the losses of its last epoch."""
    model = create("two-tower", data, seed=seed, **SETTINGS, **options)
    how = {"seed": seed, "epochs": epochs, "lr": 5e-3, "batch_size": 512, "metrics_every": 0}
    *_, last = train(model, data, weights=weights, **how)
    return model, last.losses


def judged(model):
    """The evaluation on test, and what is found: recall@20, and the share of test purchases: all, of known and of new items."""
    result = evaluate(model, bazaar, "test")
    found = (result.relevant_ranks > 0) & (result.relevant_ranks <= 20)
    cold = new[result.relevant[1]]
    shares = {"all purchases": found.mean(), "known items": found[~cold].mean(), "new items": found[cold].mean()}
    return result, {"recall@20": result.mean("recall@20")} | shares


apart = {"id": 1.0, "content": 1.0, "triplet": 0.0, "l2": 1e-4}  # both towers learn, and nothing joins them
plain, _ = trained(gate="none", weights=apart)
alone, results = {}, {}
for serve, name in (("id", "behaviour tower"), ("content", "content tower"), ("both", "both, added")):
    plain.serve = serve
    results[name], alone[name] = judged(plain)
pd.DataFrame(alone).T.round(3)

# %% [markdown]
# recall@20 is a mean over users; the other columns count purchases, every one alike.
#
# *Takeaway:*
# - ***The behaviour tower does not find a single new item.** The content tower finds half of what people take of them, and is no worse over all.*
# - ***Added, the two gain little among known items, and lose the new ones again.** A known item can collect $q\cdot z_{id} + q\cdot z_c \le 2$, a new one only
#   $q\cdot z_c \le 1$. Nothing is wrong with its content: it runs with one leg.*
#
# That was without the triplet. Now with it, at weight 10. For each known item: is its own ID view the nearest to its content view?

# %%
joined, _ = trained(gate="none", weights=apart | {"triplet": 10.0})
rows = {}
for name, model in (("without the triplet", plain), ("triplet weight 10", joined)):
    with model.evaluating():
        cosine = model.z_c()[~new] @ model.z_id()[~new].T
    first = (cosine.argmax(1) == torch.arange(len(cosine))).float().mean().item()
    rows[name] = {"own view is the nearest": first, "cosine of own views": cosine.diagonal().mean().item(), **judged(model)[1]}
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# *Takeaway: it does what it says: far more items know their own other view. Recall gains nothing from it: here it even falls by about 0.02. Without the triplet the own views are close already,
# for both towers answer the same queries.*
#
# ## Experiment 2 · gates
# With a gate, everything trains at its default weight: `match` (the gated score), `id` and `content` 1, `triplet` 0.1. So the row "no gate" differs in more than the gate.

# %%
gates = {"sum": trained(gate="sum")[0], "concat": trained(gate="concat")[0]}


def table_of(gates):
    """Recall, and the gate of known and of new items."""
    rows = {"no gate": alone["both, added"]}
    for name, model in gates.items():
        results[name], told = judged(model)
        with model.evaluating():
            g = model.gates().numpy()
        rows[name] = told | {"g, known items": g[~new].mean(), "g, new items": g[new].mean()}
    return pd.DataFrame(rows).T


table_of(gates).round(3)

# %% jupyter={"source_hidden": true}
with gates["sum"].evaluating():
    g_known, g_new = (gates["sum"].gates().numpy()[which].mean() for which in (~new, new))
answer = "clearly more than that of other items" if g_new > g_known + 0.05 else "about as much, or less"
reveal("lean", answer, f"The sum's gate gives content {g_known:.2f} of a known item and {g_new:.2f} of a new one.")

# %% [markdown]
# That is not what the gate is for! The new items have *nothing but* content, and get no larger share of it. (Concat's gate does lean the right way.
# It does not help: see below.) Why?
#
# **No new item was in training.** Every item that the gate ever learned from has been shown and bought, and its ID is right. At 0 exposures the
# network was never asked: what it says there is what its curve happens to do beyond its end. Yet the article's gate works? A feed learns from
# every day's new items: in its training there *are* items that are hardly known. Two ways to have such in ours:
# - **training counts**: the gate reads how many *others* took the item in training (`statistics="others"`), the purchase at hand left out. An item with one buyer is at 0 then;
# - **shown new items**: in 30 % of the cases, drawn anew each time, training shows the item *as if it were new* (`new_share=0.3`): $z_{id} = 0$, statistics 0.

# %%
gates |= {f"{form}, training counts": trained(gate=form, statistics="others")[0] for form in ("sum", "concat")}
gates |= {f"{form}, shown new items": trained(gate=form, new_share=0.3)[0] for form in ("sum", "concat")}
table = table_of(gates)
table.round(3)

# %%
g = {}
for name in ("sum, shown new items", "sum", "concat, training counts", "sum, training counts", "concat"):
    with gates[name].evaluating():
        g[name] = gates[name].gates().numpy()
a, b = (g[name][new].mean() for name in ("sum", "sum, shown new items"))
# on the axis, "cold" are the new items
gate_by_popularity(g, bazaar.item_counts, title=f"New items: the sum's g = {a:.2f} if training never shows one, {b:.2f} if it does", height=460)

# %% [markdown]
# *Takeaway:*
# - ***Shown some, the gate learns it at once***: *a new item is all content, and the sum finds more than half of what is taken of them. Its known items lose
#   about 0.04, for places in the lists are given away; all together gain. (In the figure: medians; whiskers hold the middle half of the items.)*
# - ***The article's picture, content for the weak and ID for the strong, appears by itself in one form: concat on training counts.** The sum on the same
#   counts does not; if anything it leans the other way. A gate's curve is no law of items; it depends on how the views are put together.*
#
# **Sum or concat?** In the sum, a new item with $g = 1$ can reach 1, as any other. In concat it can reach $g \le 1$, a known one $1 + g$. So concat must turn
# down *everybody's* content to be fair to the new: look at its `g, known items`. Where training shows new items, the sum finds clearly more of them.
# Over all items the two are alike then. Fed by the window, without new items in training, the sum is ahead by 0.01 to 0.02; fed by training counts neither is,
# clearly. The article found the sum better.
#
# And is a gate needed? A rule without any learning: where there is no ID view, put the content view in its place.

# %%
plain.serve = "both"
with plain.evaluating():
    q, (own, seen) = plain.users(), plain.items()
    own = torch.where(plain.warm[:, None], own, seen)  # the rule
    scores = q @ (own + seen).T
has = torch.zeros(bazaar.n_users, bazaar.n_items, dtype=torch.bool)
for split in ("train", "valid"):
    has[bazaar.split(split).users, bazaar.split(split).items] = True
best = scores.masked_fill(has, -torch.inf).topk(20).indices
users, asked = (torch.tensor(side) for side in (bazaar.test.users, bazaar.test.items))
hit, is_new = (best[users] == asked[:, None]).any(1).numpy(), new[bazaar.test.items]
learned = table.loc["sum, shown new items"]
print(f"the rule:    {hit[~is_new].mean():.3f} of the known items' purchases found, {hit[is_new].mean():.3f} of the new items'")
print(f"the learned: {learned['known items']:.3f} and {learned['new items']:.3f}")

# %% [markdown]
# *Takeaway: one line does what the gate does. A learned gate may be worth its trouble where items are new by degrees, some clicks old. In the bazaar items have no
# exposure at all or more than a hundred, and nothing between.*
#
# ## Experiment 3 · a log that is read too late
# Statistics are the easiest thing to get wrong. Somebody counts clicks from a log that runs until *today*, and tests on last week: then the counts hold the
# answers. `with_future` makes that mistake on purpose. A guard looks at new items: they cannot have clicks that follow what is bought of them later.

# %%
late = with_future(bazaar)
for name, data in (("counted until training ends", bazaar), ("counted until today", late)):
    try:
        check_counts(data)
        print(f"{name}: accepted")
    except DataError as error:
        print(f"{name}: {error}")

# %%
bought = np.bincount(bazaar.test.items, minlength=bazaar.n_items)[new]
most = np.argsort(-late.clicks[new], kind="stable")[:20]
print(f"The 20 of {new.sum()} new items with the most clicks in the late log: {bought[most].sum() / bought.sum():.0%} of what is bought of new items. "
      f"Any 20 of them hold {20 / new.sum():.0%} on average, the best 20 {np.sort(bought)[-20:].sum() / bought.sum():.0%}.")
leaked = create("two-tower", late, gate="sum", new_share=0.3, allow_leak=True, seed=0, **SETTINGS)
leaked.load_state_dict(gates["sum, shown new items"].state_dict())  # the same weights; only what the gate reads is another
with leaked.evaluating():
    g_late = leaked.gates().numpy()
told = judged(leaked)[1] | {"g, known items": g_late[~new].mean(), "g, new items": g_late[new].mean()}
pd.DataFrame({"honest": dict(learned), "leaked": told}).T.round(3)

# %% [markdown]
# *Takeaway: the counts do hold the answers: whoever sorts by them is nearly a prophet. **This gate** cannot cash them in: all it can do with them is to trust the ID
# more, and a new item's ID is empty. So the leak neither pays nor costs much here. Do not count on such luck: with the same counts as an input of the score
# itself, the numbers would be worth nothing. The model refuses such data unless you write `allow_leak=True`.*
#
# ## Experiment 4 · content as a cluster number
# The article's observation: cluster the content vectors in a tree, and give the tower the *number of the cluster* in place of the vector. The more clusters, the
# nearer the loss comes to that of the behaviour tower. Each tower is trained alone here: only `content`, or only `id`.

# %%
ONLY = {"id": 0.0, "content": 0.0, "triplet": 0.0, "l2": 1e-4}
told = {}
for name, tower, clusters in (
    *((n, "content", n) for n in (4, 16, 64, 256, 600)), ("features", "content", 0), ("behaviour tower", "id", 0),
):
    model, losses = trained(gate="none", serve=tower, weights=ONLY | {tower: 1.0}, clusters=clusters)
    recall = judged(model)[1]
    told[name] = {"loss": losses[tower], "known": recall["known items"], "new": recall["new items"]}
curve = pd.DataFrame([{"clusters": name, **row} for name, row in told.items() if isinstance(name, int)])
cluster_curve(
    curve, {name: told[name] for name in ("behaviour tower", "features")},
    measures={"loss": "training loss, last epoch", "known": "known items found", "new": "new items found"},
    title=f"600 clusters: loss {told[600]['loss']:.2f}, the IDs' {told['behaviour tower']['loss']:.2f}; new items found: "
    f"{told[600]['new']:.2f}, with features {told['features']['new']:.2f}",
)

# %% jupyter={"source_hidden": true}
share = told[600]["new"] / told["features"]["new"]
answer = "next to none" if share < 0.2 else "about half of them" if share < 0.75 else "as many as with features"
reveal("leaves", answer, f"{told[600]['new']:.3f} of them, with features {told['features']['new']:.3f}.")

# %% [markdown]
# *Takeaway: the loss falls all the way to the behaviour tower's, as the article says. The reason is plain: a cluster with one item in it **is** an ID. It learns who buys
# this item, and it has nothing to say of an item nobody bought. Coarse clusters, up to 64, are the other way round: poor, and as poor on known items as on new ones.
# So the curve of the new items goes up and comes down again. The features themselves have both at once: their loss is nearly as low as the IDs' (in the figure
# the two lines lie on each other), for with 128 numbers 600 items can be told apart.*
#
# ## Experiment 5 · the search
# The item vectors are ready. An **exact** search multiplies $q$ with all of them: 100 million products a visitor. An **approximate** one looks at a few. The simplest
# is IVF: sort the vectors into lists by k-means; for a query, look only into the lists whose centres match it best (`probes` of them).
#
# What is its price? The share of the exact answers that it still finds:
#
# $$\text{recall@}k = \frac{\sum_q |\text{found}_q \cap \text{exact}_q|}{\sum_q |\text{exact}_q|}$$
#
# This is not the recall of the other lessons: the truth is the exact list, not what people bought.
#
# ## Exercise 4 · the recall of an index

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 6 min · 2 points · difficulty 2 of 3
# Write `index_recall`: the share of the exact lists that was found.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "index_recall", "title": "the share of the exact lists that was found", "points": 2, "minutes": 6, "difficulty": 2, "hints": ["Order plays no part, and an item counts only if it stands in the found list of the same query. -1 is an empty place: it is never a find, and never missed.", "Compare every place with every place of the same row: exact[:, :, None] == found[:, None, :] is (n, k, k'); any(2) says which exact items were found. Count them where exact >= 0.", "real = exact >= 0; there = (exact[:, :, None] == found[:, None, :]).any(2) & real; return there.sum() / real.sum().clamp_min(1)."]}
def index_recall(found, exact):
    """The share of all items in the exact lists that stand in the found list of the same query.

    Args:
        found: (n, k') int64, what the index found for n queries; -1 where it found nothing more. k' may differ from k.
        exact: (n, k) int64, the right lists; -1 where no item is left.
    Returns:
        a tensor with one number, all lists counted together; 0 if there is nothing to find.
    """
    raise NotImplementedError("Write `index_recall`: the share of the exact lists that was found")

# %%
check("index_recall")

# %%
hint("index_recall")

# %%
predict(
    "probes", "24 lists, the search looks into 4 of them: a sixth of the items. What share of the exact top 20 does it find?",
    options=["about a sixth", "about a half", "more than 0.9"],
)

# %% [markdown]
# We search for all 1,200 users, what they have left out, with the vectors of the gate that was shown new items. (IVF and HNSW come from the library faiss; without it the
# cell below shows the exact search alone. Write exercise 4 first.)

# %%
model = gates["sum, shown new items"]
with model.evaluating():
    vectors, queries = item_table(model), query_table(model, model.user_vectors(torch.arange(bazaar.n_users)))
owned = [np.flatnonzero(row) for row in has.numpy()]
exact = VectorIndex.build(vectors).search(queries, 20, exclude=owned)[1]
taken = torch.zeros(bazaar.n_users, bazaar.n_items, dtype=torch.bool)
taken[bazaar.test.users, bazaar.test.items] = True
kinds = [("exact", {})]
if importlib.util.find_spec("faiss"):
    kinds += [("ivf", {"lists": 24, "probes": n}) for n in (1, 2, 4, 8)] + [("hnsw", {"links": 8, "search_width": 20})]
rows = []
for kind, options in kinds:
    found = VectorIndex.build(vectors, kind=kind, **options).search(queries, 20, exclude=owned)[1]
    bought = (taken.gather(1, found.clamp_min(0)) & (found >= 0)).sum() / taken.sum()
    words = ", ".join(f"{name} {value}" for name, value in options.items())
    rows.append({"index": f"{kind} {words}", "recall@20 of the index": float(index_recall(found, exact)), "purchases found": float(bought)})
prices = pd.DataFrame(rows).set_index("index")
prices.round(3)

# %% jupyter={"source_hidden": true}
four = next((row["recall@20 of the index"] for row in rows if row["index"].endswith("probes 4")), None)
answer = "more than 0.9" if (four or 0) > 0.9 else "about a half" if (four or 0) > 0.3 else "about a sixth"
told_why = f"{four:.3f}. Near vectors are in near lists: that is why one sorts them so." if four is not None else ""
nothing = "Nothing was measured: exercise 4 is open, or faiss is missing (pip install 'mmrec_teach[retrieval]')."
nothing if four is None else reveal("probes", answer, told_why)

# %% [markdown]
# *Takeaway: a sixth of the work finds nearly all of the exact list. And purchases suffer less than lists: what an index misses stands rather at the end of a
# list. (Where it finds even more than the exact search, that is chance: what is missed makes room for others.) HNSW walks a graph of near neighbours in place of
# lists, here with `links` neighbours a vector and `search_width` candidates in hand.*
#
# With 600 items nobody needs this. With 30,000? We make up a shop of that size: fifty shaken copies of each vector.

# %%
shake = torch.randn(50 * len(vectors), vectors.shape[1], generator=torch.Generator().manual_seed(0))
many = normalize(vectors.repeat(50, 1) + 0.3 * shake / vectors.shape[1] ** 0.5, dim=1)
right, rows = None, []
for kind, options in [kinds[0], *((kind, {**options, "lists": 128}) for kind, options in kinds[1:] if kind == "ivf")]:
    index = VectorIndex.build(many, kind=kind, **options)
    begun = time.perf_counter()
    found = index.search(queries, 20)[1]
    right = found if right is None else right
    seconds = time.perf_counter() - begun
    row = {"index": f"{kind} {options.get('probes', '')}", "recall@20": float(index_recall(found, right))}
    rows.append(row | {"s for 1,200 queries": seconds})
pd.DataFrame(rows).set_index("index").round(3)

# %% [markdown]
# *Takeaway: seconds depend on your machine, and some hundredths on chance; the exact search is the slowest. `python benchmarks/bench_retrieval.py` measures up to a million vectors.*
#
# ## A list, explained
# The score is a sum of an ID part and a content part, so a list can say why. A user whose list holds a new item that she really took later:

# %%
lists = recommend(model, bazaar, range(60), k=6)
mine = max(lists, key=lambda one: (any(s.found and new[s.item] for s in one.best), sum(not new[s.item] for s in one.best) >= 3))
print("new items among them:", ", ".join(f"number {n}" for n, s in enumerate(mine.best, start=1) if new[s.item]))
cards(bazaar, [mine])

# %% [markdown]
# *Takeaway: new items stand there by content alone (ID 0 %), the others by both. "taken in test" is what she took later; the model did not know it.*
#
# **An item that came this morning** needs no training. Its picture and words pass the content tower, and its vector goes into the index. Say it is half one and half
# another of the things she owns:

# %%
index = VectorIndex.build(vectors)
halves = {name: torch.as_tensor(bazaar.features[name][list(mine.liked[:2])]).mean(0, keepdim=True) for name in bazaar.modalities}
with model.evaluating():
    add_new(index, model, halves, ids=[bazaar.n_items])
after = index.search(queries, 20, exclude=owned)[1]
place = (after[mine.user] == bazaar.n_items).nonzero().flatten().tolist()
print(f"{len(index)} vectors; the newcomer stands in the lists of {int((after == bazaar.n_items).any(1).sum())} of {bazaar.n_users:,} users; in hers: "
      f"{'place ' + str(place[0] + 1) if place else 'no'}")

# %% [markdown]
# ## Experiment 6 · whom do the lists reach?
# Recall decides who is seen at all. The **tail** is all but the 20 % most bought items, the new ones among them. Before: the behaviour tower alone. After: a gate that was
# shown new items. And the same once more without $\ln Q$:

# %%
predict(
    "no-log-q", "Trained without ln Q: which purchases are then found more often?",
    options=["those of popular items", "those of rare items, with 1 to 5 buyers", "about the same as before"],
)

# %%
fair, unfair = "sum, shown new items", "the same without ln Q"
results[unfair] = evaluate(trained(gate="sum", new_share=0.3, logq=False)[0], bazaar, "test")
shown = {name: results[name] for name in ("behaviour tower", "content tower", "both, added", fair, unfair)}
tail = long_tail(shown)
tail.drop(columns="run").set_index("model").T.round(3)

# %%
reach = {
    row["model"]: {
        "catalogue in some list": [row["reach@20"]], "places for the tail": [row["tail share@20"]],
        "places for new items": [one.cold()["share@20"]],
    }
    for (_, row), one in zip(tail.iterrows(), shown.values(), strict=True)
}
places = {name: values["places for new items"][0] for name, values in reach.items()}
reach_bars(reach, title=f"New items, {new.mean():.0%} of the shop, get {places[fair]:.0%} of all places with the gate, "
                        f"{places['behaviour tower']:.0%} without content")

# %% jupyter={"source_hidden": true}
rare = [results[name].by_frequency((1, 6)).set_index("bucket")["recall@20"]["1-5"] for name in (fair, unfair)]
answer = "those of rare items, with 1 to 5 buyers" if rare[1] > rare[0] + 0.1 else "about the same as before"
reveal("no-log-q", answer, f"Items with 1 to 5 buyers: {rare[0]:.2f} of their purchases with ln Q, {rare[1]:.2f} without. All: recall@20 "
       f"{results[fair].mean('recall@20'):.3f} and {results[unfair].mean('recall@20'):.3f}.")

# %% [markdown]
# (`found 6-10`: of the test purchases of items with 6 to 10 buyers in training. `reach@20`: share of the shop that stands in somebody's list, `tail reach@20` of the
# tail; `tail share@20`: share of all places.)
#
# *Takeaway:*
# - *Content brings the new items into the lists: more than a tenth of all places are theirs.*
# - ***Rare known** items (1 to 5 buyers) are hardly found, by content either. They have few test purchases, so look at the size and not at the last digit. They were
#   there to be bought and were not, and with $\ln Q$ the model learns that. A new item has no such record: it is judged by what resembles it.*
# - ***$\ln Q$ is fair to the popular.** Without it they are pushed down: rare items are found several times as often, nearly the whole shop is in some list, and
#   recall falls by 0.07 or more, for most purchases are of popular items. "Correct" is what the loss should estimate. Whom a shop wants to be seen is
#   another question, and somebody has to answer it.*
#
# ## What if …
# The panel trains a gate that was **not** shown new items, and lets you turn it: $g = \sigma(\kappa\,\mathrm{MLP}(s) + \text{lean})$. *window* and *others* are the shop window's and the training counts, *taken for new* is
# `new_share`. Commit first:

# %%
predict(
    "turn", "Lean such a gate toward content, by 4. About half of the new items' purchases are found then. What do the known items lose?",
    options=["nothing", "0.02 to 0.07 of theirs", "more than 0.1 of theirs"],
)

# %%
whatif_gate(bazaar, dim=32)

# %% [markdown]
# Turn *lean to content* up (0 to 4), then *gate strength* down to 0: now every item has the same gate. Set *taken for new* to 0.3: where does the diamond go? Then try
# the triplet at 10, and 4 or 256 clusters in place of features.

# %% jupyter={"source_hidden": true}
turned = {}
with gates["sum"].evaluating():
    own, seen, q = gates["sum"].z_id(), gates["sum"].z_c(), gates["sum"].users()
    inside = torch.logit(gates["sum"].gates())
for lean in (0.0, 1.0, 2.0, 4.0):
    weight = (inside + lean).sigmoid()[:, None]
    best = (q @ ((1 - weight) * own + weight * seen).T).masked_fill(has, -torch.inf).topk(20).indices
    hit = (best[users] == asked[:, None]).any(1).numpy()
    turned[lean] = hit[~is_new].mean(), hit[is_new].mean()
lost = turned[0.0][0] - turned[4.0][0]
reveal(
    "turn", "nothing" if lost < 0.02 else "0.02 to 0.07 of theirs" if lost < 0.07 else "more than 0.1 of theirs",
    "Of the sum's gate above. " + "; ".join(f"lean {lean:.0f}: known {a:.2f}, new {b:.2f}" for lean, (a, b) in turned.items()) + ".",
)

# %% [markdown]
# *Takeaway: the new items lack nothing but weight. The towers need no second training for that; the gate can be turned on the day.*
#
# ## Article and ours
# There is no public code, and the article gives no numbers. What it says, and what we measured here over three seeds:
#
# | the article says | in the bazaar |
# |---|---|
# | a triplet between the views helps | it draws them together; recall does not rise |
# | the gate gives weak items more content | only if training shows items that are hardly known; or, in concat, if it reads counts of training |
# | sum beats concat | fed by the window by 0.01 to 0.02; where training shows new items only among these, and clearly |
# | losses of content and behaviour differ much; with finer clusters the gap closes | features lose nothing here; coarse clusters do, and the finest are IDs |
#
# ## Recap
# - Recall is a search among vectors. Two towers make it possible; what an item's vector tells is a choice.
# - Rivals from the batch need $-\ln Q$, or popular items are pushed down; that has a price for the tail, too.
# - A gate is a model like any other: it knows nothing of what training never showed.
# - Statistics must end where training ends. A cluster number is a coarse content, and in the end an ID.
# - An approximate index is judged against the exact one, and what it loses in purchases is less than what it loses in items.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Why must the score of a recall stage be an inner product of a user's vector and an item's?",
            "options": ["It ranks better than any other score", "The items' vectors are made once, and a search finds the best without scoring all"],
            "answer": 1,
            "why": ["A network that reads both at once often ranks better: that is what the second stage is for.", "Right."],
        },
        {
            "question": "The gate gives new items less content than others. What is the first thing to look at?",
            "options": ["Whether training ever showed an item as little known", "Whether the gate's network is large enough"],
            "answer": 0,
            "why": ["Right: what it says beyond the data it saw is chance.", "A larger one is not better informed about what it never saw."],
        },
        {
            "question": "In concat, a new item has g = 1. What is the most that it can score, and what a known item with g = 1?",
            "options": ["1 and 1", "1 and 2"],
            "answer": 1,
            "why": ["That is the sum.", "Right: q_id·z_id is missing for the new one, and nothing takes its place."],
        },
        {
            "question": "An index finds 0.97 of the exact top 20. What does the shop lose?",
            "options": ["3 % of its purchases from recall", "Less, as a rule: what is lost stands rather at the end of the lists"],
            "answer": 1,
            "why": ["That would be so if all places were alike.", "Right, and you can measure it: count purchases, too."],
        },
    ],
    id="12-production",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")    # exposures and clicks are optional: without them the gate counts training purchases
# model = create("two-tower", data, gate="sum", new_share=0.3)
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --models lightgcn,two-tower`. Of a trained run, `mmrec-teach recommend --run DIR --user U`
# prints explained lists, and `mmrec-teach index --run DIR --out FILE` writes the item vectors as an index.
#
# At length, in the course's folder: `python benchmarks/two_towers.py` (towers, gates, leaks, clusters), `benchmarks/reach.py` (whom BM3 and
# AlignRec reach, before and after alignment) and `benchmarks/streaming.py` (one pass over a stream, as production trains, against many epochs).
#
# Next, lesson 13: the what-if lab, and your own data.
