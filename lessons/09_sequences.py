# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 09 · Sequences: what she takes next, and items without ids
# *65 minutes · 10 points · needs lessons 00 and 01 (06 and 08 help) · after this you can write the attention and the losses of SASRec, say what order
# is worth and measure it, judge under leave-one-out, and build a model without ids that can be carried to another shop.*
#
# So far a user was a bag of purchases. **When** she took what, nobody asked. But people come in visits: they look for a lamp, take two lamps, and a
# month later they want boots. **Is the next purchase told by the last one? And what of such a model is left if it must serve a shop it has never
# seen?**

# %%
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from torch.nn.functional import normalize

from mmrec_teach.data import Interactions
from mmrec_teach.data.sequences import follows_time, histories
from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation import protocols
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.training import Trainer
from mmrec_teach.views import palette, warm_up

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130)
bazaar = load("bazaar", split="leave-one-out")
print(bazaar)
print("does the split follow time?  leave-one-out:", follows_time(bazaar), "  the bazaar's own, random one:", follows_time(load("bazaar")))

# %% [markdown]
# ## Leave one out
# A new split, and the reason stands in the last line: a random split holds out purchases from *before* others that the model reads. For sequences
# that is a look into the future. **Leave-one-out** takes each user's last purchase for test, the one before it for validation, and all earlier ones
# for training.
#
# At the test, a model that reads histories reads training *and* validation purchases. Nothing is learned anew, but it then knows what she took
# last. One user, and her visits:

# %%
told = histories(bazaar, "train", "valid")
both = Interactions.concatenate(bazaar.train, bazaar.valid)
day = both.timestamps[np.lexsort((both.timestamps, both.users))] // 86_400  # of every place of `told`
visit = np.concatenate([[True], (np.diff(told.users) != 0) | (np.diff(day) > 0)]).cumsum()  # a number for each user's each day
visits = np.array([len(set(visit[a:b])) for a, b in zip(told.starts[:-1], told.starts[1:])])
target = np.empty(bazaar.n_users, dtype=np.int64)
target[bazaar.test.users] = bazaar.test.items
kind, colour = bazaar.items["category"].to_numpy(), bazaar.truth.extra["hue"]
kinds = np.array([len(set(kind[told.of(u)])) for u in range(bazaar.n_users)])
her = int(np.flatnonzero((told.lengths == 7) & (visits == 3) & (kinds == 3))[0])
place = np.arange(told.starts[her], told.starts[her + 1])
titles, shown = bazaar.items["title"].to_numpy(), [*told.of(her), target[her]]
label = [f"day {day[p] - day[place[0]]}: {titles[told.items[p]]}" for p in place] + [f"to be found: {titles[target[her]]}"]
figures.contact_sheet(
    bazaar.images[shown], label, columns=4, cell=130, marks=[False] * 7 + [True],
    title=f"{bazaar.user_ids[her]}: seven purchases in {visits[her]} visits, oldest first; the marked one is to be found",
)

# %% [markdown]
# ## What does order carry?
# Before any model: does an item resemble the one before it, the one before that, and so on? To compare, we **shuffle**: everybody keeps her
# purchases, but when she took which is dealt anew among them. Remember this function. It is the knife of this lesson.

# %%
def shuffled(data, keep_last=False, seed=0):
    """The same purchases in train and valid; every user's are dealt to her times anew (keep_last: not the latest one)."""
    both, rng = Interactions.concatenate(data.train, data.valid), np.random.default_rng(seed)
    order = np.lexsort((both.timestamps, both.users))
    draw = rng.random(len(order))
    if keep_last:
        draw[np.append(np.diff(both.users[order]) != 0, True)] = 2  # stays behind all others
    times = both.timestamps.copy()
    times[order[np.lexsort((draw, both.users[order]))]] = both.timestamps[order]
    n = len(data.train)
    parts = [Interactions(p.users, p.items, t) for p, t in ((data.train, times[:n]), (data.valid, times[n:]))]
    return data.with_splits(*parts, data.test)


mixed, older_mixed = shuffled(bazaar), shuffled(bazaar, keep_last=True)
lags, same = np.arange(1, 9), {}
for order, data in (("", bazaar), (", shuffled", mixed)):
    h = histories(data, "train", "valid")
    for what, values in (("same kind", kind), ("same colour", colour)):
        pairs = [np.flatnonzero(np.arange(len(h)) - lag >= h.starts[h.users]) for lag in lags]
        same[what + order] = [(values[h.items[p]] == values[h.items[p - lag]]).mean() for p, lag in zip(pairs, lags)]
figures.lines(
    lags, same, x_title="how many purchases before", y_title="share of pairs that agree", markers=True,
    title=f"The item before has the same kind in {same['same kind'][0]:.0%}, the same colour in {same['same colour'][0]:.0%} of all cases",
)

# %% [markdown]
# *Takeaway: order carries two things here. A visit stays with one **kind** of thing, and that fades over some purchases. And people shop in
# **colour**: the next thing tends to have the last one's, but nothing remembers the one before that. Shuffled, both lines are flat. Further back the true
# lines lie below them: shuffling spreads what neighbours share over all distances.*
#
# ## Commit first
# A model will be trained on the true order. Then its readings are shuffled, at the test only.

# %%
predict(
    "order-scoring", "Trained in order, reading shuffled histories at the test: what happens to recall@20 (share of users whose last purchase is among 20)?",
    options=["next to nothing: which items matters, not when", "it falls, by less than a third", "it falls by a third or more"],
)

# %%
predict(
    "new-shop",
    "A model that reads only captions learns in three other shops (garden, kitchen, attic). Then, untrained there, it ranks the bazaar. It finds",
    options=["no more than random order", "about as much as popularity", "at least half of what it finds when trained here"],
)

# %% [markdown]
# ## SASRec: every place looks back
# Kang and McAuley's model (2018). Each item of a history is a vector: its row of the item table $M$, plus one for its position. Then each place
# **looks at itself and all places before it** and gathers what helps to guess the next one.

# %% jupyter={"source_hidden": true}
idea = go.Figure()
for t in range(5):
    for j in range(5):
        line = {"color": palette.BLUE if j <= t else palette.FAINT, "width": 2.5 if j <= t else 1, "dash": "solid" if j <= t else "dot"}
        idea.add_scatter(x=[j, t], y=[0.22, 1.78], mode="lines", line=line, hoverinfo="skip", opacity=1 if j <= t else 0.6)
for t in range(5):
    box = {"showarrow": False, "bgcolor": "white", "borderpad": 6, "font": {"size": 16}}
    idea.add_annotation(x=t, y=0, text=f"s<sub>{t + 1}</sub>", bordercolor=palette.INK, **box)
    idea.add_annotation(x=t, y=2, text=f"F<sub>{t + 1}</sub>", bordercolor=palette.BLUE, **box)
    idea.add_annotation(x=t, y=2.62, text=f"guesses s<sub>{t + 2}</sub>", showarrow=False, font={"size": 13, "color": palette.INK})
idea.update_xaxes(visible=False, range=[-0.6, 4.6]).update_yaxes(visible=False, range=[-0.4, 2.9])
idea.update_layout(
    template=palette.template(), showlegend=False, height=330, width=760, margin={"b": 10},
    title="One pass, five questions: no place may see the item it is to guess",
    meta={"alt": "Items s1 to s5 below, outputs F1 to F5 above. Solid lines join each output with its own and earlier items; dotted, forbidden "
                 "lines go to later items. Each output guesses the next item."},
)

# %% [markdown]
# *Takeaway: a history of n items asks n questions at once, as long as nobody looks ahead (the dotted lines).*
#
# How does a place choose what to look at? Each place asks with a **query** $q$, each shows a **key** $k$ and hands out a **value** $v$: three linear
# maps of its vector. The inner product of query and key says how well they fit. A softmax over the allowed places turns that into shares:
#
# $$S_t = \sum_{j \le t} a_{tj}\, v_j, \qquad a_{tj} = \frac{\exp(q_t\cdot k_j/\sqrt d)}{\sum_{j' \le t}\exp(q_t\cdot k_{j'}/\sqrt d)}$$
#
# Inner products of $d$ numbers grow with $\sqrt d$; the division keeps the softmax from choosing one place from the start. The shares of a place sum
# to 1, **over the places it may see**.
#
# ## Exercise 1 · causal attention

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 12 min · 3 points · difficulty 2 of 3
# Write `causal_attention`: each place gathers from itself and the past.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "causal_attention", "title": "each place gathers from itself and the past", "points": 3, "minutes": 12, "difficulty": 2, "hints": ["Three steps: a (B, L, L) table of inner products of all queries with all keys, a softmax along the keys, and the sum of the values with these shares. The mask stands between the first two.", "`q @ k.transpose(1, 2)` has row = who asks, column = who is looked at. What must a logit be so that its exp() is exactly 0? Row t keeps columns 0 to t: `torch.ones(L, L, dtype=torch.bool).tril()` is True there.", "logits = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5; then logits.masked_fill(~allowed, float('-inf')); then .softmax(-1) @ v."]}
def causal_attention(q, k, v):
    """What each place of each history gathers.

    Args:
        q, k, v: (B, L, d) queries, keys and values of B histories with L places, oldest first.
    Returns:
        (B, L, d): row t is a mean of the values at places 0 to t, itself included.
    """
    raise NotImplementedError("Write `causal_attention`: each place gathers from itself and the past")

# %%
check("causal_attention")

# %%
hint("causal_attention")

# %% [markdown]
# Around it the model has what every Transformer has: a sum (a place's own vector plus what it gathered), a small network at each place, LayerNorm,
# dropout. These make a **block**, and blocks are stacked. Your attention in place of the package's, on real histories (write exercise 1 first):

# %%
model = create("sasrec", bazaar, dim=32, n_layers=1, loss="ce", seed=0)
batch = Trainer(model, bazaar, device="cpu").examples(300)  # rows of some users
attention = model.blocks[0].attention
with model.evaluating():
    x = model.item_id.weight[batch.items]
    mine = causal_attention(attention.query(x), attention.key(x), attention.value(x))
    allowed = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    theirs = attention(x, x, allowed, lambda weights: weights)
print(f"{len(batch.items)} histories, {batch.items.shape[1]} places, {x.shape[2]} numbers; largest difference {(mine - theirs).abs().max():.0e}")
shortest = int(batch.lengths.argmin())
n = int(batch.lengths[shortest])
print("a row reads:     ", batch.items[shortest, : n + 2].tolist(), f"  ({n} items, then padding)")
print("and is asked for:", batch.targets[shortest, : n + 2].tolist(), "  (-1: nothing)")

# %% [markdown]
# *Takeaway: rows are padded **behind** to one length. Nobody looks ahead, so no item ever sees the padding; it only must not be asked. Targets are
# the row moved by one.*
#
# ## Two ways to ask
# $F_t$ is what comes out at place $t$. Item $i$'s score there is $r_{i,t} = F_t\cdot M_i$, and $o_t$ is the item taken next. Today most take a
# **softmax over the whole catalogue** (cross-entropy, CE):
#
# $$L_{ce} = -\frac1T\sum_t \ln\frac{\exp r_{o_t,t}}{\sum_i \exp r_{i,t}}$$
#
# The sums run over the $T$ places of the batch at which something is asked.
#
# ## Exercise 2 · the softmax over all items

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 7 min · 2 points · difficulty 2 of 3
# Write `softmax_loss`: the next item among all items.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "softmax_loss", "title": "the next item among all items", "points": 2, "minutes": 7, "difficulty": 2, "hints": ["Pick the places that are asked first, over the whole batch; everything after that is a table with T rows.", "`asked = targets >= 0` has shape (B, L), and `f[asked]` is (T, d). Its product with the item table gives T rows of I scores.", "torch.nn.functional.cross_entropy takes (T, I) scores (no softmax before it) and (T,) right answers, and gives the mean."]}
def softmax_loss(f, items, targets):
    """Mean over what is asked of -log p(next item), p a softmax over all items.

    Args:
        f: (B, L, d) what the model gives at each place.
        items: (I, d) the item table M.
        targets: (B, L) int64, the item taken next; -1 where nothing is asked.
    Returns:
        a tensor with one number.
    """
    raise NotImplementedError("Write `softmax_loss`: the next item among all items")

# %%
check("softmax_loss")

# %%
hint("softmax_loss")

# %% [markdown]
# The paper asks less. For each target it draws **one** item $j$ that the user did not take, anew in each epoch, and wants a yes for the one and a no
# for the other (binary cross-entropy, BCE). $\sigma$ is the sigmoid. It is cheap for millions of items:
#
# $$L_{bce} = -\frac1T\sum_t \big[\ln\sigma(r_{o_t,t}) + \ln(1 - \sigma(r_{j_t,t}))\big]$$
#
# Far from 0 a sigmoid is 0 or 1 to the last digit, and the logarithm infinite. $-\ln\sigma(x) = \mathrm{softplus}(-x)$ is not. (And $1-\sigma(x) =
# \sigma(-x)$.)
#
# ## Exercise 3 · one negative each

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 7 min · 2 points · difficulty 1 of 3
# Write `bce_loss`: a yes for the next item, a no for another.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "bce_loss", "title": "a yes for the next item, a no for another", "points": 2, "minutes": 7, "difficulty": 1, "hints": ["Two scores for every asked place: of the target and of the negative. No table of all items is needed.", "`items[targets[asked]]` are the T rows of the targets; a product with f[asked], number by number, and a sum along the last axis gives T scores.", "torch.nn.functional.softplus(-positive) + torch.nn.functional.softplus(negative), and the mean over the T places."]}
def bce_loss(f, items, targets, negatives):
    """Mean over what is asked of -ln sigma(r of the target) - ln(1 - sigma(r of the negative)).

    Args:
        f: (B, L, d) what the model gives at each place.
        items: (I, d) the item table M.
        targets: (B, L) int64, the item taken next; -1 where nothing is asked.
        negatives: (B, L) int64, an item not taken, for each target; -1 where nothing is asked.
    Returns:
        a tensor with one number, finite for any finite scores.
    """
    raise NotImplementedError("Write `bce_loss`: a yes for the next item, a no for another")

# %%
check("bce_loss")

# %%
hint("bce_loss")

# %% [markdown]
# Both beside the package's, on one batch (write exercises 2 and 3 first):

# %%
for loss, mine in (("ce", softmax_loss), ("bce", bce_loss)):
    one = create("sasrec", bazaar, dim=32, n_layers=1, loss=loss, seed=0)
    batch = Trainer(one, bazaar, device="cpu").examples(300)
    with one.evaluating():
        f, asked = one(batch.items, batch.lengths), (batch.targets,) if loss == "ce" else (batch.targets, batch.negatives)
        print(f"{loss}: yours {mine(f, one.item_id.weight, *asked):.6f}, the package's {one.losses(batch)[loss]:.6f}")

# %% [markdown]
# ## Train it
# Every SASRec of this lesson: one block, 32 numbers a vector, 20 epochs of Adam 1e-2, batches of 1,024 targets. One seed, to save your time; what the
# takeaways say holds at three (in the course's folder, `tests/test_claims_09.py` measures it). The neighbours in purchases (item-knn) know no order.
# They are told the validation purchases as well: SASRec reads those at the test, the neighbours are counted from them, too.
# (An option in the code below: with `rows="prefixes"` each beginning of a history is a row of its own, with one target.)

# %%
def fitted(data, name="sasrec", epochs=20, lr=1e-2, batch_size=1024, seed=0, start=None, **options):
    """A model after training on `data`; `start`: a model whose parameters it begins with."""
    usual = {"loss": "ce"} if name == "sasrec" else {"experts": 4, "inner": 64, "scaling": "unit", "modalities": "text"}
    model = create(name, data, dim=32, seed=seed, **{"n_layers": 1, **usual, **options})
    if start is not None:
        model.adopt(start)
    for _ in train(model, data, seed=seed, epochs=epochs, lr=lr, batch_size=batch_size, metrics_every=0):
        pass
    return model


def recall(model, data=bazaar, metric="recall@20"):
    """On the test split of `data`."""
    return evaluate(model, data, "test").mean(metric)


nothing = Interactions(*np.zeros((3, 0), dtype=np.int64))
whole = bazaar.with_splits(Interactions.concatenate(bazaar.train, bazaar.valid), nothing, bazaar.test)
base = {name: create(name, whole) for name in ("random", "popularity", "item-knn")}
models = {"SASRec": fitted(bazaar), "SASRec, bce": fitted(bazaar, loss="bce")}
table = {name: {m: recall(model, whole, m) for m in ("recall@20", "ndcg@20")} for name, model in base.items()}
table |= {name: {m: recall(model, metric=m) for m in ("recall@20", "ndcg@20")} for name, model in models.items()}
pd.DataFrame(table).T.round(3)

# %% [markdown]
# *Takeaway: SASRec with the softmax finds six times what popularity finds. With one negative it is behind after as many epochs: it has been told less
# in each. And be honest: plain neighbours, who know no order at all, find as many, and rank them higher (ndcg). On 13,000 purchases a strong simple
# method is hard to beat; what order is worth, we must ask SASRec itself.*
#
# ## Experiment 1 · the knife
# The same model in three readings at the test: in order, shuffled, and shuffled but for the last item. Then a model that has **learned** from
# shuffled histories.

# %%
def reading(model, data):
    """The same parameters; histories are read from `data`."""
    copy = create("sasrec", data, **model.options)
    copy.load_state_dict(model.state_dict())
    return copy


readings = {"true order": bazaar, "all but the last shuffled": older_mixed, "all shuffled": mixed}
learners = {"learned in order": models["SASRec"], "learned shuffled": fitted(mixed)}
knife = pd.DataFrame({name: {read: recall(reading(m, data), data) for read, data in readings.items()} for name, m in learners.items()})
last_only = recall(fitted(bazaar, length=1, rows="prefixes"))
print(f"a SASRec that learns and reads with the last item only: {last_only:.3f}")
knife.round(3)

# %%
bars = [{"model": learner, "metric": read, "mean": knife.loc[read, learner]} for learner in knife for read in knife.index]
figures.metric_bars(
    pd.DataFrame(bars), x_title="how histories are read at the test", y_title="recall@20",
    title="In order {:.3f}; shuffled at the test {:.3f}; shuffled in training {:.3f}".format(
        knife.loc["true order", "learned in order"], knife.loc["all shuffled", "learned in order"], knife.loc["true order", "learned shuffled"]),
)

# %% jupyter={"source_hidden": true}
lost = 1 - knife.loc["all shuffled", "learned in order"] / knife.loc["true order", "learned in order"]
options = ["next to nothing: which items matters, not when", "it falls, by less than a third", "it falls by a third or more"]
reveal(
    "order-scoring", options[0 if lost < 0.05 else 1 if lost < 1 / 3 else 2],
    f"It falls by {lost:.0%}. All but the last item shuffled: {knife.loc['all but the last shuffled', 'learned in order']:.3f}, as good as in order.",
)

# %% [markdown]
# *Takeaway: order matters, and both ways of losing it cost about the same: shuffled at the test, the model is misled about the last item; shuffled in
# training, it never learns that the last item is special. Of the order only the last item counts here: with the rest shuffled nothing is lost. But two
# clues overlap: **all items without their order find nearly as much, and so does the last item alone.** Both together find most.*
#
# What has it learned of the two rules, kind and colour? Look into the lists: how many of the first five share the last item's?

# %%
last = told.items[told.starts[1:] - 1]
rows = {"the purchase to be found": target[:, None]}
for name, model in {"SASRec": models["SASRec"], "SASRec, learned shuffled": reading(learners["learned shuffled"], bazaar)}.items():
    rows[name] = evaluate(model, bazaar, "test").topk[:, :5]
rows |= {name: evaluate(base[name], whole, "test").topk[:, :5] for name in ("item-knn", "random")}
learned = pd.DataFrame({
    name: {what: (values[items] == values[last][:, None]).mean() for what, values in (("last item's kind", kind), ("last item's colour", colour))}
    for name, items in rows.items()
}).T
learned.round(3)

# %% [markdown]
# *Takeaway: it has learned to stay with the kind; more than people do. The colour rule it has hardly found: its lists hold little more of the last
# colour than random ones, the purchases far more. With ids, "teal follows teal" is not one rule but must be found anew for each pair of items,
# and each item was bought some 18 times.*
#
# Where does it look? The shares of the last place in histories of ten items and more:

# %%
with models["SASRec"].evaluating(), models["SASRec"].knowing("train", "valid"):
    sasrec, long = models["SASRec"], torch.from_numpy(np.flatnonzero(told.lengths >= 10))
    items, lengths = sasrec.history(long)
    column = (torch.arange(items.shape[1]) + sasrec.length - lengths[:, None]).clamp_max(sasrec.length - 1)
    inside = torch.arange(items.shape[1]) < lengths[:, None]
    x = sasrec.blocks[0].norm_1(sasrec.item_id.weight[items] * inside[..., None] + sasrec.place.weight[column])
    identity = torch.eye(x.shape[1]).expand(len(x), -1, -1)  # value j is the unit vector j: what is gathered are the shares
    q, k = sasrec.blocks[0].attention.query(x), sasrec.blocks[0].attention.key(x)
    allowed = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    shares = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).masked_fill(~allowed, -torch.inf).softmax(2) @ identity
row = torch.arange(len(items))
looks = [shares[row, lengths - 1, lengths - 1 - back].mean().item() for back in range(10)]
even = [(1 / lengths).mean().item()] * 10
figures.lines(
    range(10), {"SASRec": looks, "an even look": even}, x_title="how many purchases back (0: the last item itself)", y_title="mean share",
    markers=True, title=f"The last item gets {looks[0]:.0%} of the look, an even look would give it {even[0]:.0%}",
)

# %% [markdown]
# *Takeaway: it looks at the last item more than at any other, but mildly, and spreads the rest over all. The last item has a second way in: a block adds
# what was gathered **to the place's own vector**, and at the last place that is the last item. It also asks the question (the query).*
#
# ## Experiment 2 · without the mask

# %%
predict(
    "peek", "We leave out the mask: every place sees all places. Training loss, and recall at the test?",
    options=["both get better: more to look at", "the loss falls far, and recall falls too", "the loss rises, recall is the same"],
)

# %%
def without_mask(data):
    """SASRec whose places look ahead, too."""
    model = create("sasrec", data, dim=32, n_layers=1, loss="ce", seed=0)
    attention = model.blocks[0].attention
    look = attention.forward
    attention.forward = lambda x, memory, allowed, drop: look(x, memory, torch.ones_like(allowed), drop)
    for _ in train(model, data, seed=0, epochs=20, lr=1e-2, batch_size=1024, metrics_every=0):
        pass
    return model


def training_loss(model):
    """Over all training histories, without dropout."""
    with model.evaluating():
        return model.losses(Trainer(model, bazaar, device="cpu").examples(10**6))["ce"].item()


peeking, honest = without_mask(bazaar), models["SASRec"]
peeked, fair = recall(peeking), recall(honest)
peeking_loss, honest_loss = training_loss(peeking), training_loss(honest)
print(f"with the mask: training loss {honest_loss:.2f}, recall@20 {fair:.3f}")
print(f"without it:    training loss {peeking_loss:.2f}, recall@20 {peeked:.3f}")

# %% jupyter={"source_hidden": true}
answer = "the loss falls far, and recall falls too" if peeking_loss < 0.7 * honest_loss and peeked < fair - 0.02 else "both get better: more to look at"
reveal("peek", answer, "The next item stands in the row, one place on. Copying it is a perfect answer in training, and at the test there is nothing to copy.")

# %% [markdown]
# *Takeaway: a training loss too good to be true is a leak until shown otherwise. One line of code, no error message.*
#
# ## Full ranking, or among a hundred?
# SASRec's paper, and many after it, rank the target among 100 items drawn at random, to save time. Same models, both ways:

# %%
def both_rankings(model, data, n=100, first=10):
    """Share of users whose target is among the first 10: of all items, and of it and n others drawn at random."""
    rng, found = np.random.default_rng(0), []
    with model.evaluating(), model.knowing("train", "valid") if hasattr(model, "knowing") else model.evaluating():  # what it may read
        scores = model.score(torch.arange(data.n_users)).numpy().copy()
    scores[bazaar.matrix("train", "valid").toarray() > 0] = -np.inf
    own = scores[np.arange(len(target)), target]
    for row, score in enumerate(scores):
        rivals = np.flatnonzero((score > -np.inf) & (np.arange(len(score)) != target[row]))
        better = score[rivals] > own[row]
        found.append((better.sum() < first, better[rng.permutation(len(rivals))[:n]].sum() < first))
    return np.mean(found, axis=0)


ranked = {name: both_rankings(model, whole) for name, model in base.items()} | {"SASRec": both_rankings(models["SASRec"], bazaar)}
pd.DataFrame(ranked, index=["first 10 of all items", "first 10 of 101"]).T.round(3)

# %% [markdown]
# *Takeaway: among 101 everything looks good. The number is another one, not an estimate of the first, and it squeezes models together: compare the
# ratio of SASRec and popularity in both columns. Always say which you mean; this course ranks all items.*
#
# ## Items without ids
# A SASRec cannot leave its shop. Its table $M$ has a row for each item of *this* shop, and nothing else in it says what an item is. UniSRec (Hou et
# al., 2022) has no such table: an item is what its **text** says. A caption's vector $x$ (from a frozen encoder) passes an **adaptor**, and the
# result $v$ takes the place of the row of $M$:
#
# $$v = \sum_{e=1}^{G} g_e\,(x - b_e)\,W_e, \qquad g = \mathrm{softmax}(x\,W_2)$$
#
# Each of $G$ experts moves the vectors to a centre $b_e$ and maps them by $W_e$: a *whitening*, as it may undo what all captions have in common. A
# gate $g$ says, item by item, how much each expert counts. (In training the gate's logits get some noise, so that no expert falls asleep.)
#
# ## Exercise 4 · the adaptor

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 10 min · 3 points · difficulty 2 of 3
# Write `adaptor`: a mixture of whitenings.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "adaptor", "title": "a mixture of whitenings", "points": 3, "minutes": 10, "difficulty": 2, "hints": ["For one expert it is a subtraction and a matrix product. Do that for every expert, weigh each item's result by its own share, and add up.", "The gate: `(x @ W2).softmax(1)` is (n, G), each row sums to 1. It reads x as it is, before any centre is taken off.", "A loop does it: sum over the experts e of `g[:, e, None] * ((x - b[e]) @ W[e])`; the None makes a column of shares that multiplies whole rows."]}
def adaptor(x, W, b, W2):
    """Items' vectors from their texts.

    Args:
        x: (n, D) the texts' vectors.
        W: (G, D, d) a map for each expert.
        b: (G, D) a centre for each expert.
        W2: (D, G) the gate.
    Returns:
        (n, d): v of each item.
    """
    raise NotImplementedError("Write `adaptor`: a mixture of whitenings")

# %%
check("adaptor")

# %%
hint("adaptor")

# %% [markdown]
# The rest is as before: $v$ plus a vector for the position, causal attention (two of them side by side, `heads`), next item. Scores are cosines
# divided by a temperature $\tau = 0.07$, and the loss is the softmax over all items: exercise 2 with rows of length 1. (Options below: `inner` is the
# width of a block's small network; `scaling="unit"` brings the texts' vectors to length 1.) Your functions and the package's (write exercises 2 and 4
# first):

# %%
unisrec = create("unisrec", bazaar, dim=32, n_layers=1, experts=4, inner=64, scaling="unit", seed=0)
whitenings = unisrec.adaptor
batch = Trainer(unisrec, bazaar, device="cpu").examples(300)
with unisrec.evaluating():
    W, W2 = torch.stack([one.weight.T for one in whitenings.whiten]), whitenings.gate.weight.T
    mine = adaptor(unisrec.x, W, whitenings.centre, W2)
    print(f"adaptor: largest difference {(mine - whitenings(unisrec.x, None)).abs().max():.0e}")
    s, v = unisrec(unisrec.items(), batch.items), unisrec.items()
    loss = softmax_loss(normalize(s, dim=2) / unisrec.temperature, normalize(v, dim=1), batch.targets)
    print(f"loss: yours {loss:.5f}, the package's {unisrec.losses(batch)['ce']:.5f}")
has_row = [name for name, p in unisrec.named_parameters() if len(p) == bazaar.n_items]
print(f"parameters: {sum(p.numel() for p in unisrec.parameters()):,}, of these with a row for each item: {has_row or 'none'}")

# %% [markdown]
# ## Experiment 3 · does it pay to have no ids?
# Trained here, on the bazaar. Under leave-one-out nearly every item has been bought; the rare ones are what to look at. UniSRec learns at 5e-3.

# %%
gentle = {"name": "unisrec", "lr": 5e-3}
models["UniSRec"] = fitted(bazaar, **gentle)
models["UniSRec, with pictures"] = fitted(bazaar, modalities=("text", "image"), **gentle)
found = {name: evaluate(models[name], bazaar, "test") for name in ("SASRec", "UniSRec", "UniSRec, with pictures")}
print("; ".join(f"{name}: recall@20 {result.mean('recall@20'):.3f}" for name, result in found.items()))
rare = {name: result.by_frequency(edges=(1, 10, 20, 40)) for name, result in found.items()}
rare = {name: rows[rows["low"] > 0] for name, rows in rare.items()}
print("users whose last purchase is such an item:", dict(zip(rare["SASRec"]["bucket"], rare["SASRec"]["relevant"])))
few_bought = {name: rows["recall@20"].iloc[0] for name, rows in rare.items()}
figures.frequency_bars(rare, title="Bought at most 9 times: " + ", ".join(f"{n} finds {v:.2f}" for n, v in few_bought.items()))

# %% [markdown]
# *Takeaway: over all, captions alone stay behind ids; with pictures they draw level. Of items bought at most nine times the models without ids find more:
# what was learned of one caption serves all that are like it. Of items bought ten times and more, ids know more than
# captions alone.*
#
# ## Experiment 4 · into another shop
# Now the test of the promise. UniSRec learns in the garden, the kitchen and the attic: other items, other kinds of things, other users. Its
# parameters are then carried to the bazaar (`adopt`), and it ranks at once. First, what a SASRec says to that:

# %%
others = load("bazaar/garden+bazaar/kitchen+bazaar/attic", split="leave-one-out")
print(others)
try:
    create("sasrec", bazaar).adopt(create("sasrec", others))
except OptionError as error:
    print(f"SASRec: {error}")

# %% [markdown]
# To compare: what needs no training. Random; the bazaar's popularity; and lesson 08's zero-shot: rank by the cosine with the mean text of what she
# took.

# %%
away, away_both = fitted(others, **gentle), fitted(others, modalities=("text", "image"), **gentle)
how = {"dim": 32, "n_layers": 1, "experts": 4, "inner": 64, "scaling": "unit", "seed": 0}
arrived = create("unisrec", bazaar, modalities="text", **how).adopt(away)
arrived_both = create("unisrec", bazaar, modalities=("text", "image"), **how).adopt(away_both)
text = normalize(torch.from_numpy(bazaar.features["text"].copy()), dim=1).numpy()
past = bazaar.matrix("train", "valid")
ranks = protocols.target_ranks(past @ text, text, target, past)
transfer = pd.Series({
    "random": recall(base["random"]), "UniSRec, untrained": recall(create("unisrec", bazaar, modalities="text", **how)),
    "popularity": recall(base["popularity"], whole), "UniSRec, from other shops": recall(arrived),
    "the same, with pictures": recall(arrived_both), "mean text, nothing learned": ((ranks > 0) & (ranks <= 20)).mean(),
    "UniSRec, trained here": found["UniSRec"].mean("recall@20"),
}, name="recall@20")
transfer.round(3).to_frame()

# %%
bars, touched = go.Figure(), transfer.index.str.contains("other shops|with pictures")
bars.add_bar(
    x=transfer, y=transfer.index, orientation="h", text=transfer.map("{:.3f}".format), textposition="outside",
    marker={"color": np.where(touched, palette.ORANGE, palette.BLUE), "pattern": {"shape": list(np.where(touched, "/", ""))}},
)
bars.update_xaxes(title="recall@20 on the bazaar", range=[0, 0.7]).update_yaxes(autorange="reversed")
bars.update_layout(
    template=palette.template(), height=360, width=820, showlegend=False,
    title="Carried over (hatched): {:.3f}; popularity {:.3f}; trained here {:.3f}".format(
        *transfer[["UniSRec, from other shops", "popularity", "UniSRec, trained here"]]),
    meta={"alt": "Bars of recall@20: " + "; ".join(f"{name} {value:.3f}" for name, value in transfer.items())},
)

# %% jupyter={"source_hidden": true}
got, here = transfer["UniSRec, from other shops"], transfer["UniSRec, trained here"]
options = ["no more than random order", "about as much as popularity", "at least half of what it finds when trained here"]
answer = options[2] if got > here / 2 else options[0] if got < 1.5 * transfer["random"] else options[1]
reveal("new-shop", answer, f"{got:.3f}: {got / transfer['random']:.1f} times random, {got / transfer['popularity']:.1f} times popularity, {got / here:.0%} of training here.")

# %% [markdown]
# So something moves, and ids cannot move at all. But it is little, and, mind this row, **less than the plain mean of the texts finds, with nothing
# learned**. Why? Look at the kinds, which are most of what order carries. In the adaptor: of an item's ten nearest, how many are of its kind? In the
# lists: how many of the twenty are of the last item's kind? (For the captions, the lists of the mean text.)

# %%
def same_kind(table):
    """Of an item's ten nearest by cosine, the share of its own kind."""
    unit = normalize(torch.as_tensor(table).float(), dim=1)
    near = (unit @ unit.T).fill_diagonal_(-2).topk(10).indices.numpy()
    return (kind[near] == kind[:, None]).mean()


def vectors(model):
    """v of the bazaar's items."""
    with model.evaluating():
        return model.items()


def stays(lists):
    """The share of a list's twenty that are of the last item's kind."""
    return (kind[lists[:, :20]] == kind[last][:, None]).mean()


by_mean = np.where(past.toarray() > 0, -np.inf, (past @ text) @ text.T)  # the mean text's scores; what she has does not count
rows = {"in the captions, x": (same_kind(text), stays((-by_mean).argsort(axis=1)))}
for name, model in {"carried from other shops": arrived, "the same, with pictures": arrived_both, "trained here": models["UniSRec"]}.items():
    rows[name] = same_kind(vectors(model)), stays(evaluate(model, bazaar, "test").topk)
words = {w for c in others.captions for w in c.lower().replace(",", " ").replace(".", " ").replace(";", " ").split()}
print("kinds whose name stands in no caption of the other shops:", ", ".join(k for k in sorted(set(kind)) if k not in words))
pd.DataFrame(rows, index=["ten nearest of the same kind", "list of the last kind"]).T.round(3)

# %% [markdown]
# *Takeaway: in the other shops nobody sold a lamp. Trained here, the adaptor pulls the bazaar's kinds together; carried, it tells them about as well
# as the raw captions do. But the blocks behind it have never met such vectors: their lists stay with the last kind far less than those of the plain
# mean. That is what broke. With pictures more comes along, in both columns. The promise of leaving out ids is kept as far as both shops use the same
# words; public models are pre-trained on far more than three small shops.*
#
# ## Experiment 5 · a shop with few customers
# Not zero, but few: only 100 of the 1,200 users may be learned from. From scratch, or beginning with what was carried over? (Both are tested on
# everybody.)

# %%
chosen = np.isin(np.arange(bazaar.n_users), np.random.default_rng(0).permutation(bazaar.n_users)[:100])
few = bazaar.with_splits(bazaar.train.select(chosen[bazaar.train.users]), nothing, nothing)
epochs, small = (2, 5, 10, 20, 40), {}
for name, start in (("from scratch", None), ("from other shops", away)):
    model = create("unisrec", few, modalities="text", **how)
    if start is not None:
        model.adopt(start)
    small[name] = []
    for record in train(model, few, seed=0, epochs=40, lr=5e-3, batch_size=256, metrics_every=0):
        if record.epoch in epochs:
            small[name].append(recall(create("unisrec", bazaar, modalities="text", **how).adopt(model)))
ids_few = recall(reading(fitted(few, epochs=40, batch_size=256), bazaar))
print(f"SASRec from the same 100 users: {ids_few:.3f}; the mean text, with nothing learned: {transfer['mean text, nothing learned']:.3f}")
figures.lines(
    epochs, small, x_title="epochs on 100 users", y_title="recall@20, all users", markers=True,
    title=f"After {epochs[-1]} epochs: from scratch {small['from scratch'][-1]:.3f}, from other shops {small['from other shops'][-1]:.3f}",
)

# %% [markdown]
# *Takeaway: with 100 users, a start from other shops is worth a few hundredths in the end, no more; after 2 epochs it may still be behind. SASRec from
# the same users is far behind, behind even the mean text: 600 items, and 100 users have hardly bought each. Content helps most where purchases are few.*
#
# ## What if …

# %%
predict(
    "no-blocks", "You set n_layers to 0: no attention at all. What is left of recall?",
    options=["as much as with one block", "a little less: the last item alone speaks", "less than popularity finds"],
)

# %% [markdown]
# The panel trains SASRec on prefixes, one row for each, so that a short `length` takes away reading and no targets; it reads ten items at most. Set
# `n_layers` to 0; back at 1, `length` to 1 and 3. Then `loss` to bce: watch how slowly recall climbs. (It measures on the validation split.)

# %%
whatif(
    "sasrec", bazaar, controls=["n_layers", "length", "loss", "dropout"], lr=1e-2, batch_size=1024, epochs=20,
    options={"dim": 32, "n_layers": 1, "loss": "ce", "rows": "prefixes", "length": 10},
)

# %% jupyter={"source_hidden": true}
none = recall(fitted(bazaar, n_layers=0))
full = found["SASRec"].mean("recall@20")
answer = "as much as with one block" if none > full - 0.01 else "a little less: the last item alone speaks"
answer = "less than popularity finds" if none < transfer["popularity"] else answer
reveal("no-blocks", answer, f"{none:.3f}, with one block {full:.3f}. Without attention a place knows its own item only; that is the last item. (Experiment 1 found {last_only:.3f} with it.)")

# %% [markdown]
# And the model without ids; press Run. Try `experts` 1, and `temperature` 0.5: the softmax no longer minds small differences of the cosine. Colour the
# map by category and watch the kinds part; no id told them.

# %%
whatif(
    "unisrec", bazaar, controls=["experts", "temperature", "dropout", "n_layers"], options={"dim": 32, "n_layers": 1, "experts": 4, "inner": 64, "scaling": "unit"},
    lr=5e-3, batch_size=1024, epochs=20, autostart=False,
)

# %% [markdown]
# ## Paper and code
# | the paper writes | public code does | what it changes here |
# |---|---|---|
# | SASRec: one negative a target (BCE) | newer code: softmax over all items | measured above: BCE is behind after as many epochs |
# | SASRec: padding in front, the last item has the last position | UniSRec, RecBole: padding behind, the first item has the first | measured below |
# | SASRec: LayerNorm before attention | the authors' code norms the queries, not keys and values | not rebuilt here |
# | SASRec: one row a user, a target at every place | UniSRec: every prefix a row of its own | several times the work. With positions from the start the same sum but for dropout; from the end another: a prefix is asked at the last position only, as the test is |
# | UniSRec: pre-training with two contrasts over many shops, then tuning | the same | here: the next-item softmax over the items of three shops |

# %%
start = recall(fitted(bazaar, positions="start"))
print(f"positions counted from the end {full:.3f}, from the start {start:.3f}")

# %% [markdown]
# *Takeaway: counted from the start, the last item stands at another position in every history; the model still knows which one is last, since nothing
# follows. The difference is small.*
#
# ## Recap
# - Histories need a split that follows time: leave-one-out. Nobody looks ahead, neither the split nor the attention.
# - Order is worth a part: shuffle, and see. Here the last item carries it; which items were taken, without any order, tells nearly as much.
# - The same score among 101 items is another number. Say which you mean.
# - Without ids a model moves, and serves rare items. What moves is what both shops' texts share; what is new there must be learned there.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Your sequence model's training loss is near 0, its test recall poor. What do you look at first?",
            "options": ["The mask, and the targets' shift by one", "The learning rate"],
            "answer": 0,
            "why": ["Right: a place that sees its own answer copies it.", "A wrong step size seldom gives a loss near 0."],
        },
        {
            "question": "A model trained in order loses nothing when all but the last item of a history are shuffled. So …",
            "options": ["… order does not matter", "… of the order it uses only which item was last"],
            "answer": 1,
            "why": ["Shuffle the last item as well, and it does.", "Right: and that may be all there is to use, as on the bazaar."],
        },
        {
            "question": "Paper A reports a hit rate of 0.8 among 101 items, paper B 0.1 among all items. Which model is better?",
            "options": ["A's", "B's", "Nobody can tell from that"],
            "answer": 2,
            "why": ["Among 101 items even weak models look strong.", "Not from these two numbers.", "Right: two tasks, two scales."],
        },
        {
            "question": "A UniSRec from a book shop ranks a shoe shop and does worse than the mean of the captions. Why can that be?",
            "options": ["Its ids do not fit", "What reads its vectors has only met books: it does not stay with kinds of shoes"],
            "answer": 1,
            "why": ["It has none.", "Right: you measured it in the lists of the carried model."],
        },
    ],
    id="09-sequences",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder", split="leave-one-out")  # needs a time, or a position, for each purchase
# whatif("sasrec", data, controls=["n_layers", "length", "loss", "dropout"])
# both = load("path/to/shop-a+path/to/shop-b", split="leave-one-out")  # side by side; features must come from one encoder
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --split leave-one-out --models popularity,item-knn,sasrec,unisrec --grid sasrec.loss=bce,ce
# --seeds 3`.
#
# Next, lesson 10: one user, several interests.
