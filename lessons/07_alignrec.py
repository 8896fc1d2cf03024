# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 07 · AlignRec: content and ID in one space
# *70 minutes · 10 points · needs lessons 03, 04 and 05 · after this you can build AlignRec's content branch and its three alignments, measure whether
# content and ID of an item agree, and say what each alignment gives and costs.*
#
# So far content came in by a side door: a second score (VBPR), edges (FREEDOM), a predictor in training only (BM3). AlignRec (Liu et al., 2024) adds
# it **to the vector itself**:
#
# $$h^i = h_{mm}^i + h_{id}^i$$
#
# A sum of two vectors means something only if both speak one language. BPR and the ID that both share bring them part of the way. **How do you make
# content and ID of an item agree further, and what is lost when they do?**

# %%
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from torch.nn.functional import normalize

from mmrec_teach.evaluation.diagnostics import alignment, knn_overlap, linear_cka, modality_gap
from mmrec_teach.models import Batch
from mmrec_teach.models.alignrec import item_vectors
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.training.pretrain import pretrained
from mmrec_teach.views import Projector, palette, warm_up

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 150)
bazaar = load("bazaar")
h_enc, has = item_vectors(bazaar)
warm = torch.from_numpy(~bazaar.cold_items) & has  # bought in training, and with content
print(bazaar)
print(f"h_enc: {tuple(h_enc.shape)}; {int((~has).sum())} items have neither picture nor caption; {int(warm.sum())} are warm and have one")

# %% [markdown]
# $h_{enc}$ is **one content vector for each item**. In the paper a large encoder makes it from picture and words together. For this lesson any such
# table will do: here the features of picture and caption side by side, each scaled to length 1. It is finished before the recommender begins, and
# frozen.
#
# ## The idea
# Two ways lead to an item's vector. The **ID branch** is LightGCN. The **content branch** begins with the ID vector too, but content rescales it, and
# neighbours in content (lesson 04's graph $S$) are added up:

# %% jupyter={"source_hidden": true}
idea = go.Figure()
arrows = [
    ((0, 2), (2.6, 2), "LightGCN: graph of purchases", palette.BLUE, (1.3, 2.2)),
    ((0, 2), (1, 1), "", palette.BLUE, None), ((0, 0), (1, 1), "MLP", palette.ORANGE, (0.33, 0.62)),
    ((1, 1), (2.6, 0), "S: neighbours in content", palette.ORANGE, (1.3, 0.3)),
    ((2.6, 2), (3.8, 1), "", palette.INK, None), ((2.6, 0), (3.8, 1), "", palette.INK, None),
]
for (x0, y0), (x1, y1), text, colour, at in arrows:
    idea.add_scatter(x=[x0, x1], y=[y0, y1], mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip")
    if at:
        idea.add_annotation(x=at[0], y=at[1], text=text, showarrow=False, bgcolor="white", font={"size": 13})
for x0, y0, x1, y1, text, at in (
    (2.6, 1.75, 2.6, 0.25, "CCA: agree", (2.6, 1.25)), (0.15, -0.28, 2.55, -0.28, "REG: the same similarities", (1.35, -0.42)),
    (3.95, 1, 5.25, 1, "UIA: agree", (4.7, 1.2)),
):
    dots = {"color": palette.GREEN, "width": 3, "dash": "dot"}
    idea.add_scatter(x=[x0, x1], y=[y0, y1], mode="lines", line=dots, hoverinfo="skip")
    idea.add_annotation(x=at[0], y=at[1], text=f"<b>{text}</b>", showarrow=False, bgcolor="white", font={"size": 13})
for name, x, y in (
    ("e<sub>id</sub>", 0, 2), ("h<sub>enc</sub>", 0, 0), ("⊙", 1, 1), ("h<sub>id</sub>", 2.6, 2), ("h<sub>mm</sub>", 2.6, 0),
    ("h of the item (+)", 3.8, 1), ("h of the user", 5.6, 1),
):
    box = {"bgcolor": "white", "bordercolor": palette.INK, "borderpad": 6, "font": {"size": 16}}
    idea.add_annotation(x=x, y=y, text=name, showarrow=False, **box)
idea.update_xaxes(visible=False, range=[-0.4, 6.2]).update_yaxes(visible=False, range=[-0.65, 2.45])
idea.update_layout(
    template=palette.template(), showlegend=False, height=360, width=820, margin={"b": 10},
    title="Two branches from one ID, three alignments (dotted)",
    meta={"alt": "The ID passes LightGCN to h_id. Gated by the encoder's vector and summed over S it becomes h_mm. Both are added. "
                 "Dotted: CCA joins h_id and h_mm, REG ties h_mm to h_enc, UIA joins item and user."},
)

# %% [markdown]
# *Takeaway: three terms besides BPR. **CCA** draws content and ID of one item (and of one user) together; **REG** keeps content like what the
# encoder saw; **UIA** draws users to what they took.*
#
# ## The content branch
# A small network reads $h_{enc}$ and gives $d$ factors (a **gate**), one for each number of the ID. They are multiplied on, number by number
# ($\odot$). Then each item sums its $K'$ nearest in content, itself among them, with weights $S$: cosines, normalised as in LightGCN (an item keeps
# about a fifth of itself):
#
# $$\mathrm{MLP}(x) = W_2\,\mathrm{relu}(W_1 x + b_1) + b_2, \qquad h_{con}^i = e_{id}^i \odot \mathrm{MLP}(h_{enc}^i), \qquad
# h_{mm}^i = \sum_j S_{ij}\, h_{con}^j$$
#
# ## Exercise 1 · the content branch

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 10 min · 3 points · difficulty 2 of 3
# Write `content_branch`: content steers the ID, neighbours are summed.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "content_branch", "title": "content steers the ID, neighbours are summed", "points": 3, "minutes": 10, "difficulty": 2, "hints": ["Three steps in the order of the formula: factors from the content of every item, factors times the item's own ID, then the sum over neighbours.", "Rows are items: W x + b for every row is `h_enc @ W1.T + b1`. The relu stands between the two maps, and not after the second.", "S already holds the weights, the item itself included: the last step is `S @ con`, with con = e_id * factors."]}
def content_branch(e_id, h_enc, W1, b1, W2, b2, S):
    """h_mm of all items.

    Args:
        e_id: (n, d) the items' ID vectors, before any graph.
        h_enc: (n, D) the items' content vectors.
        W1, b1: (d, D) and (d,), the first map of the MLP.
        W2, b2: (d, d) and (d,), the second.
        S: (n, n) weights of the content graph, the item itself included; row i says from whom item i gets. An empty row is an
            item without content.
    Returns:
        (n, d) tensor.
    """
    raise NotImplementedError("Write `content_branch`: content steers the ID, neighbours are summed")

# %%
check("content_branch")

# %%
hint("content_branch")

# %% [markdown]
# Your branch and the package's, on the whole bazaar (write exercise 1 first). A user's content is then the sum over what she took,
# $h_{mm}^u = \sum_i \hat R_{ui}\,h_{mm}^i$, with $\hat R$ the user-item block of LightGCN's $\hat A$.

# %%
model = create("alignrec", bazaar, dim=32, seed=0)
with model.evaluating(), torch.no_grad():
    first, second = model.mlp.first, model.mlp.second
    S = model.similar.to_dense()
    own = content_branch(model.item_id.weight, h_enc, first.weight, first.bias, second.weight, second.bias, S)
    theirs = model.views()["item/content"]
print(f"largest difference: {(own - theirs).abs().max():.0e}")
print(f"a row of S has at most {int((S > 0).sum(1).max())} entries; its diagonal is on average {S.diagonal()[has].mean():.2f}")

# %% [markdown]
# ## CCA: which ID belongs to this content?
# Take a batch. For the content of entry $b$, all IDs of the batch are candidates. Which one is its own? A softmax over cosines $C$ gives each
# candidate a probability; the loss is minus the logarithm of the right one's. That is **InfoNCE**:
#
# $$L_{CCA} = -\frac1B\sum_b \ln\frac{\exp(C(h_{mm}^b, h_{id}^b)/\tau)}{\sum_{b'} \exp(C(h_{mm}^b, h_{id}^{b'})/\tau)}$$
#
# The paper adds the same for the users of the batch. Two things to mind:
# - The **temperature** $\tau$ says how sharp the choice is. Cosines lie between -1 and 1; at $\tau = 1$ even a perfect match hardly stands out.
# - An item that many users took is in the batch **more than once**. Its other copies are not rivals, they are the same item. So $b'$ runs over $b$
#   itself and the entries of *other* items. Every entry still counts in the mean.

# %%
cosines = np.array([0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5])
sharp = {f"τ = {tau}": (np.exp(cosines / tau) / np.exp(cosines / tau).sum()) for tau in (1.0, 0.2, 0.05)}
figures.lines(
    cosines, sharp, x_title="cosine of the content with each of eight IDs (0.9 is its own)", y_title="probability", markers=True,
    title="The own ID gets {:.2f} at τ = 1, {:.2f} at τ = 0.2 and {:.2f} at τ = 0.05".format(*(p[0] for p in sharp.values())),
)

# %% [markdown]
# *Takeaway: at a small τ a small lead is enough. At a large one the others would have to be far away, and the loss goes on pushing.*
#
# ## Exercise 2 · InfoNCE from content to ID

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 12 min · 3 points · difficulty 3 of 3
# Write `cca_loss`: the own ID among those of other items.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "cca_loss", "title": "the own ID among those of other items", "points": 3, "minutes": 12, "difficulty": 3, "hints": ["A (B, B) table: row = content of an entry, column = ID of an entry, each cosine divided by tau. The own one stands on the diagonal. In which direction is the softmax?", "Where ids[b] equals ids[b'] but b is not b', the column must not be in the sum. Setting it to 0 leaves exp(0) = 1 in it; what leaves nothing?", "logits.masked_fill(copies, float('-inf')) with copies = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool); then logits.logsumexp(1) - logits.diagonal(), and the mean."]}
def cca_loss(h_mm, h_id, ids, tau):
    """InfoNCE from content to ID over a batch; other entries of the same item are no rivals. Both sides learn.

    Args:
        h_mm: (B, d) content vector of each entry.
        h_id: (B, d) ID vector of each entry.
        ids: (B,) which item each entry is; an item may be there several times.
        tau: the temperature.
    Returns:
        a tensor with one number, the mean over all B entries.
    """
    raise NotImplementedError("Write `cca_loss`: the own ID among those of other items")

# %%
check("cca_loss")

# %%
hint("cca_loss")

# %% [markdown]
# ## REG: keep what the encoder saw
# CCA has a lazy solution: content forgets itself and becomes a copy of the ID. The paper calls it a collapse of the representation, and guards
# against it: within a batch, two items' contents shall be as similar as their encoder vectors are. The encoder is the measure, so it is held still
# (sg):
#
# $$L_{REG} = \frac1B\,\Big\lVert\, C(h_{mm}^b, h_{mm}^{b'}) - \mathrm{sg}\big(C(h_{enc}^b, h_{enc}^{b'})\big)\Big\rVert_F
# = \sqrt{\text{mean over all pairs of the squared difference}}$$
#
# ## Exercise 3 · the guard

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 2 of 3
# Write `reg_loss`: two tables of similarities, and how far they are apart.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "reg_loss", "title": "two tables of similarities, and how far they are apart", "points": 2, "minutes": 8, "difficulty": 2, "hints": ["The two spaces differ in width, so vectors cannot be compared. Their (B, B) tables of cosines can.", "Scale rows to length 1 on both sides (torch.nn.functional.normalize); then a table times its transpose holds all cosines. No gradient may reach h_enc.", "(mm @ mm.T - enc @ enc.T).norm() is the root of the sum of squares. Divide by B, not by its square."]}
def reg_loss(h_mm, h_enc):
    """Root mean square difference of all pairs' cosines, in h_mm and in h_enc.

    Args:
        h_mm: (B, d) content vectors of the entries.
        h_enc: (B, D) encoder vectors of the same entries, none zero; held still.
    Returns:
        a tensor with one number. The B x B pairs include (b, b).
    """
    raise NotImplementedError("Write `reg_loss`: two tables of similarities, and how far they are apart")

# %%
check("reg_loss")

# %%
hint("reg_loss")

# %% [markdown]
# ## UIA: users and what they took
# The last alignment is over the sums, $h^u = h_{mm}^u + h_{id}^u$ and $h^i = h_{mm}^i + h_{id}^i$. Lesson 05's distance, but with nothing held
# still: BPR's negatives keep users and items from becoming one point.
#
# $$L_{UIA} = \frac1B\sum_b\big[\,1 - C(h^{u_b}, h^{i_b})\,\big], \qquad
# L = L_{BPR} + \alpha\,L_{CCA} + \beta\,L_{UIA} + \lambda\,L_{REG}$$
#
# ## Exercise 4 · fuse, then align

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 5 min · 2 points · difficulty 1 of 3
# Write `uia_loss`: one minus the cosine of the sums.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "uia_loss", "title": "one minus the cosine of the sums", "points": 2, "minutes": 5, "difficulty": 1, "hints": ["Add first, compare afterwards.", "B cosines, row by row, and their mean. No .detach() anywhere: both sides move.", "torch.nn.functional.cosine_similarity(mm_u + id_u, mm_i + id_i, dim=-1) gives the B cosines."]}
def uia_loss(mm_u, id_u, mm_i, id_i):
    """Mean over the batch of 1 - C(h_u, h_i), with h = h_mm + h_id.

    Args:
        mm_u, id_u: (B, d) content and ID vector of each entry's user.
        mm_i, id_i: (B, d) the same of the item she took.
    Returns:
        a tensor with one number; a gradient reaches all four.
    """
    raise NotImplementedError("Write `uia_loss`: one minus the cosine of the sums")

# %%
check("uia_loss")

# %%
hint("uia_loss")

# %% [markdown]
# ## Your functions and the package's
# One batch through both (write exercises 2 to 4 first). Items without content take no part in REG and in the items' half of CCA.

# %%
u, i = (torch.from_numpy(ids[:512].copy()) for ids in (bazaar.train.users, bazaar.train.items))
package = model.losses(Batch(u, i, i.flip(0)), {"cca", "uia", "reg"})  # any negatives: none of the three reads them
with torch.no_grad():
    v = model.views()
    mm_u, id_u, mm_i, id_i = v["user/content"], v["user/id"], v["item/content"], v["item/id"]
    some = i[has[i]]
    mine = {
        "cca": cca_loss(mm_u[u], id_u[u], u, 0.2) + cca_loss(mm_i[some], id_i[some], some, 0.2),
        "uia": uia_loss(mm_u[u], id_u[u], mm_i[i], id_i[i]),
        "reg": reg_loss(mm_i[some], h_enc[some]),
    }
for term, value in mine.items():
    print(f"{term}: yours {value:.6f}, the package's {package[term]:.6f}, difference {abs(value - package[term]).item():.0e}")

# %% [markdown]
# ## What we will measure
# Every model: 20 epochs of Adam 1e-2, batches of 1,024, 32 numbers a vector. AlignRec has α = 0.01, β = 0.1, λ = 0.1, τ = 0.2, $K'$ = 10 unless we
# say so. One seed, to save your time; what the takeaways say holds at three (in the course's folder, `tests/test_claims_07.py` measures it). On the
# warm items:
# - **distance**: mean squared distance of an item's ID and content on the unit sphere, that is 2 - 2 · cosine. 0 is one direction, 2 a right angle.
# - **gap**: distance of the two clouds' centres. **CKA**: how alike two spaces are in shape (1: the same but for rotation).
# - **content : ID**: how many times as long the content vector is. The longer one has more to say in the sum.
# - **neighbours** shared: of an item's ten nearest in one space, the share that are also nearest in another. By chance that is below 0.02.

# %%
def fitted(weights=None, seed=0, name="alignrec", **options):
    """A model after the training of this lesson."""
    model = create(name, bazaar, dim=32, seed=seed, **options)
    for _ in train(model, bazaar, weights=weights, seed=seed, epochs=20, lr=1e-2, batch_size=1024, metrics_every=0):
        pass
    return model


def tables(model):
    """ID and content vectors of the warm items."""
    with model.evaluating():
        views = model.views()
    return views["item/id"][warm].detach(), views["item/content"][warm].detach()


def row(model):
    """What this lesson compares; `seen` is what the encoder saw, before any training."""
    (own, mm), seen, result = tables(model), h_enc[warm], evaluate(model, bazaar, "test")
    return {
        "recall@20": result.mean("recall@20"), "cold items": result.cold()["recall@20"],
        "content : ID": (mm.norm(dim=1).mean() / own.norm(dim=1).mean()).item(),
        "distance": alignment(own, mm), "gap": modality_gap(own, mm), "CKA ID-content": linear_cka(own, mm),
        "CKA content-encoder": linear_cka(mm, seen), "neighbours ID-content": knn_overlap(own, mm),
        "neighbours content-encoder": knn_overlap(mm, seen), "neighbours ID-encoder": knn_overlap(own, seen),
    }


lightgcn = evaluate(fitted({"l2": 1e-3}, name="lightgcn"), bazaar, "test")
popular = evaluate(create("popularity", bazaar), bazaar, "test").mean("recall@20")
print(f"popularity finds {popular:.3f}; LightGCN {lightgcn.mean('recall@20'):.3f}, of cold items {lightgcn.cold()['recall@20']:.3f}")

# %% [markdown]
# ## Experiment 1 · who moves?
# CCA has a gradient on both. Before you see it:

# %%
predict(
    "cca-moves",
    "With CCA, content and ID of an item come together. Which changes: does the ID take over the encoder's neighbours, or does content lose them?",
    options=["content loses the encoder's neighbours", "the ID gains the encoder's neighbours", "neither: only directions turn"],
)

# %%
whole, rows = {}, {}
for name, alpha in {"α = 0": 0.0, "α = 0.01": 0.01, "α = 0.1": 0.1}.items():
    whole[name] = fitted({"cca": alpha})
    rows[name] = row(whole[name])
    print(f"{name}: recall@20 {rows[name]['recall@20']:.3f}, cold items {rows[name]['cold items']:.3f}")
moved = pd.DataFrame(rows).T
moved.T.round(3)

# %% jupyter={"source_hidden": true}
gained = moved["neighbours ID-encoder"]["α = 0.01"] - moved["neighbours ID-encoder"]["α = 0"]
lost = moved["neighbours content-encoder"]["α = 0"] - moved["neighbours content-encoder"]["α = 0.01"]
answer = "the ID gains the encoder's neighbours" if gained > 0.05 > lost else "neither: only directions turn"
answer = "content loses the encoder's neighbours" if lost > max(gained, 0.05) else answer
reveal(
    "cca-moves", answer,
    f"From α = 0 to 0.01 the share of its ten nearest that an ID has in common with the encoder goes up by {gained:.2f}; what content has in common with "
    f"it changes by {-lost:+.2f}. S sums content over its neighbours whatever happens, so by neighbours it is the ID that comes. "
    "By overall shape content gives way too: its CKA with the encoder goes {:.2f}, {:.2f}, {:.2f}.".format(*moved["CKA content-encoder"]),
)

# %% [markdown]
# *Takeaway: ID and content do move together: distance and gap fall, CKA and shared neighbours rise, more with a larger α. By neighbours the ID
# comes; by overall shape (CKA) content gives way too. Look at `cold items`: beside UIA and REG, CCA at 0.01 brings far more of them. It hardly
# moves overall recall (here a little up; at two other seeds 0.02 to 0.03 down). At 0.1 it costs dearly: as each item is to be told from all others,
# the loss pushes like items apart, which BPR wants near.*
#
# Two pictures: ID (dot) and content (diamond) of the same item are joined by a line (lines for 400 items). Both tables are scaled to length 1 and
# drawn in one UMAP.

# %%
def joined(name):
    """One map of both tables."""
    both = np.concatenate([normalize(table, dim=1).numpy() for table in tables(whole[name])])
    projector = Projector(seed=0)
    xy, n = projector.fit(both), len(both) // 2
    return figures.id_content_map(
        xy[:n], xy[n:], hover=bazaar.items["title"].to_numpy()[warm.numpy()], kept=projector.kept(), height=480,
        title=f"{name}: ID and content of an item are {moved.loc[name, 'distance']:.2f} apart (in the full space)",
    )


joined("α = 0")

# %%
joined("α = 0.1")

# %% [markdown]
# *Takeaway: without CCA a few items have ID and content in different clumps, and a long line joins them; with it, next to none. And the clumps have
# melted: at 0.1 content has lost much of the encoder's shape (its CKA with the encoder). A UMAP stretches and bends, so trust the numbers, taken in
# the full space.*
#
# ## Experiment 2 · does content collapse onto the ID without REG?
# The paper says it would. Here is a hint that it may not be so simple: what did $S$ do in experiment 1?

# %%
predict(
    "reg-collapse",
    "We leave REG out (λ = 0). Content has about 60 % of its neighbours in common with the encoder. What will be left of that?",
    options=["nearly all of it: no collapse", "half of it", "next to nothing: content has become the ID"],
)

# %% [markdown]
# And to see what $S$ is worth, the same with $K' = 1$: each item is its own only neighbour, so nothing is summed.

# %%
guards = {"λ = 0.1": rows["α = 0.01"]}
for name, weights, options in (
    ("λ = 0", {"reg": 0.0}, {}), ("λ = 1", {"reg": 1.0}, {}), ("no S, λ = 0.1", {}, {"k": 1}), ("no S, λ = 0", {"reg": 0.0}, {"k": 1}),
    ("no S, λ = 1", {"reg": 1.0}, {"k": 1}),
):
    whole[name] = fitted(weights, **options)
    guards[name] = row(whole[name])
    print(f"{name}: recall@20 {guards[name]['recall@20']:.3f}, cold items {guards[name]['cold items']:.3f}")
collapse = pd.DataFrame(guards).T.loc[["λ = 0", "λ = 0.1", "λ = 1", "no S, λ = 0", "no S, λ = 0.1", "no S, λ = 1"]]
collapse.drop(columns=["gap", "neighbours ID-encoder"]).round(3)

# %%
FROM_ENC, FROM_ID = "neighbours content-encoder", "neighbours ID-content"
shares = go.Figure()
for column, label, colour, shape in (
    (FROM_ENC, "content and encoder", palette.ORANGE, ""), (FROM_ID, "content and ID", palette.BLUE, "/"),
):
    shares.add_bar(
        x=collapse.index, y=collapse[column], name=label, marker={"color": colour, "pattern": {"shape": shape}},
        text=collapse[column].map("{:.2f}".format), textposition="outside",
    )
near = collapse[FROM_ENC]
shares.update_yaxes(title="share of neighbours in common", range=[0, 1]).update_layout(
    template=palette.template(), height=420, barmode="group", legend={"orientation": "h", "y": -0.15},
    title=f"Encoder's neighbours kept: {near['λ = 0']:.2f} with S alone, {near['no S, λ = 0']:.2f} without, "
    f"{near['no S, λ = 1']:.2f} by a strong REG",
    meta={"alt": "Bars: neighbours that content shares with encoder and with ID, for six settings: "
                 + "; ".join(f"{n}: {r[FROM_ENC]:.2f} and {r[FROM_ID]:.2f}" for n, r in collapse.iterrows())},
)

# %% jupyter={"source_hidden": true}
kept = near["λ = 0"] / near["λ = 0.1"]
answer = "nearly all of it: no collapse" if kept > 0.8 else "half of it" if kept > 0.25 else "next to nothing: content has become the ID"
reveal(
    "reg-collapse", answer,
    f"{near['λ = 0.1']:.2f} with REG, {near['λ = 0']:.2f} without. What falls is the shape as a whole: CKA with the encoder goes from "
    f"{collapse.loc['λ = 0.1', 'CKA content-encoder']:.2f} to {collapse.loc['λ = 0', 'CKA content-encoder']:.2f}.",
)

# %% [markdown]
# *Takeaway: the collapse is real, and it has **two** guards.*
# - ***With S***, *no collapse. $S$ was made from $h_{enc}$ and is frozen; whatever is learned, the same neighbours are summed. REG then adds
#   the shape as a whole (CKA), and at 1 more of the encoder's neighbours too.*
# - ***Without S***, *content is nearly the ID: small distance, most neighbours in common with it, few with the encoder. REG at 0.1 does little
#   against that; at 1 it brings a good part back. And cold items get nothing at all: their own ID is untrained, and no neighbour speaks for them.*
# - ***A strong REG is not free***: *with S and λ = 1, cold items lose most of what they had.*
#
# ## Experiment 3 · what is each term worth?

# %%
predict(
    "term-worth", "Which alignment, left out, costs the most recall@20 over all items?",
    options=["CCA (α)", "UIA (β)", "REG (λ)"],
)

# %%
worth = {"all three": rows["α = 0.01"], "without CCA": rows["α = 0"], "without REG": guards["λ = 0"]}
worth["without UIA"] = row(fitted({"uia": 0.0}))
worth["REG alone"] = row(fitted({"cca": 0.0, "uia": 0.0}))
worth["UIA alone"] = row(fitted({"cca": 0.0, "reg": 0.0}))
worth["CCA alone"] = row(fitted({"uia": 0.0, "reg": 0.0}))
worth["none: BPR alone"] = row(fitted({"cca": 0.0, "uia": 0.0, "reg": 0.0}))
terms = pd.DataFrame(worth).T[["recall@20", "cold items", "content : ID", "distance", "CKA content-encoder"]]
terms.loc["LightGCN", ["recall@20", "cold items"]] = lightgcn.mean("recall@20"), lightgcn.cold()["recall@20"]
terms.map("{:.3f}".format).replace("nan", "")

# %%
part = {"recall@20": "all items", "cold items": "cold items"}
bars = [{"model": part[c], "metric": name, "mean": terms.loc[name, c]} for name in terms.index for c in part]
figures.metric_bars(
    pd.DataFrame(bars), x_title="what is trained", y_title="recall@20",
    title=f"LightGCN finds {terms.loc['LightGCN', 'recall@20']:.3f} and nothing cold; AlignRec {terms.loc['all three', 'recall@20']:.3f}, "
    f"and {terms.loc['all three', 'cold items']:.2f} of the cold",
)

# %% jupyter={"source_hidden": true}
found = terms["recall@20"]
drop = {f"{n} ({s})": found["all three"] - found[f"without {n}"] for n, s in (("CCA", "α"), ("UIA", "β"), ("REG", "λ"))}
reveal("term-worth", max(drop, key=drop.get), "What recall@20 loses: " + "; ".join(f"without {n} {d:+.3f}" for n, d in drop.items()) + ".")

# %% [markdown]
# *Takeaway: without UIA you are below BPR alone: CCA by itself costs recall, and UIA makes up for it. REG's effect on recall is small. Over all
# items AlignRec in this form does not beat LightGCN here; what content adds is the cold part. (Paper and code, below, differ in this.)*
#
# *For the cold, leaving one out is not the whole story. BPR alone finds about as much of them as all three. REG and UIA lose some of it, REG more;
# CCA brings it back.*
#
# *Look at `content : ID`. No purchase reaches a cold item's ID; only $S$ trains it, through its neighbours' content. So its $h_{id}$ is about half
# as long as a warm one's and says nothing of who buys it. Mostly, and up to a point: the louder content is in the sum, the better a cold item does
# among warm ones. With REG and without CCA the ID is longer against content, and the cold fall back.*
#
# ## Experiment 4 · staged, or all at once?
# The paper trains in **stages**: first the encoder, on pictures and words; then, with $h_{enc}$ frozen, the recommender. Why not all at once? Because, it
# says, the recommender learns far faster than the encoder, and content is overrun.
#
# Here is a small encoder of that kind, trained beforehand on the bazaar's pictures and captions: parts of them are hidden, and it guesses them (the terms
# **MIM** for pictures, **MLM** for words). Now a copy of it goes on training inside AlignRec, and hears BPR and the three alignments.

# %%
predict(
    "staged", "A trained encoder goes on with the recommender for 5 epochs, without MIM and MLM. How many of its ten neighbours has an item kept?",
    options=["nine or ten", "about half", "three or fewer"],
)

# %%
def after(data, weights=None, **options):
    """Recall after 5 epochs, and what is left of the encoder's space."""
    model = create("alignrec", data, dim=32, seed=0, **options)

    def vectors():
        with model.evaluating():
            return model.views()["item/encoder"][warm].detach().clone()

    start = vectors()
    for _ in train(model, data, weights=weights, seed=0, epochs=5, lr=1e-2, batch_size=1024, metrics_every=0):
        pass
    end = vectors()
    result = evaluate(model, data, "test")
    return {
        "recall@20": result.mean("recall@20"), "cold items": result.cold()["recall@20"],
        "encoder's neighbours kept": knn_overlap(start, end), "CKA with its start": linear_cka(start, end),
    }


inside = {"strategy": "joint", "start": "pretrained", "n_fresh": 32}
frozen = bazaar.with_features(mmenc=pretrained("bazaar").vectors(bazaar))
strategies = pd.DataFrame({
    "staged: frozen": after(frozen),
    "joint, with MIM and MLM": after(bazaar, **inside),
    "joint, without": after(bazaar, {"mim": 0.0, "mlm": 0.0}, **inside),
}).T
strategies.round(3)

# %% jupyter={"source_hidden": true}
staying = strategies["encoder's neighbours kept"]["joint, without"]
answer = "nine or ten" if staying > 0.85 else "three or fewer" if staying < 0.35 else "about half"
guarded = strategies["encoder's neighbours kept"]["joint, with MIM and MLM"]
reveal("staged", answer, f"{staying:.0%} are still there. With MIM and MLM beside the rest it is {guarded:.0%}; staged, all of them by design.")

# %% [markdown]
# *Takeaway: a few epochs are enough for the recommender to rewrite what the encoder knew. Its own terms hold on to more than half, though a step
# encodes only up to 32 items anew (`n_fresh`) and the encoder's step size is a fifth of the others'. Staged, nothing is lost, and after as many
# epochs more is found. REG is no help here: its measure moves along with the encoder.*
#
# *Five epochs show the direction; `python benchmarks/strategies.py` in the course's folder trains the strategies for longer, over three seeds.*
#
# ## What if …
# ID and content are drawn in one map, joined by lines, with the gauges beside it. Commit first:

# %%
predict(
    "alpha-one", "You push α from 0.01 to 1. What happens to recall@20?",
    options=["it rises: better aligned is better", "it falls somewhat", "it falls below popularity"],
)

# %% [markdown]
# Move `cca` (α) up to 1 and watch the lines shorten and *ID-content distance* fall. What does recall do? Back at 0.01: raise `temperature` to 1; then
# set `k` to 1 and `reg` to 0 (the collapse of experiment 2: look at *neighbour overlap*), then `reg` to 1. Last, raise `uia`: *alignment* (the
# distance of users and the items they took) falls, for that is what UIA asks; recall need not rise with it.

# %%
whatif(
    "alignrec", bazaar, controls=["cca", "uia", "reg", "temperature", "k"], options={"dim": 32}, lr=1e-2, batch_size=1024, epochs=20,
)

# %% jupyter={"source_hidden": true}
high = row(fitted({"cca": 1.0}))
answer = "it falls below popularity" if high["recall@20"] < popular else "it falls somewhat"
answer = "it rises: better aligned is better" if high["recall@20"] > rows["α = 0.01"]["recall@20"] else answer
reveal(
    "alpha-one", answer,
    f"Recall {high['recall@20']:.3f}, popularity has {popular:.3f}. Distance {high['distance']:.3f}: nearly perfectly aligned, and nothing left of taste. "
    "Every item is told from every other, so like items, which BPR wants near, are pushed apart; and so are users.",
)

# %% [markdown]
# *Takeaway: alignment is a means. A weight at which it is nearly perfect is far too large.*
#
# ## Paper and code
# | the paper writes | the released code does | what it changes here |
# |---|---|---|
# | $\mathrm{MLP}$ | $\sigma(W_2(W_1 x + b_1) + b_2)$: factors from 0 to 1, content can only damp | measured below |
# | REG with cosines of $h_{mm}$ | inner products of $h_{mm}$ | measured below |
# | InfoNCE over the batch | copies of the own item stand among the rivals | measured below |
# | $h_{enc}$ from the encoder, frozen | the table $h_{enc}$ learns along | measured below |
# | L2 of the parameters | of the summed vectors $h$ | little: the weight is small |

# %%
released = {
    "gate": "sigmoid", "reg_form": "released", "mask_duplicates": False, "regularizer": "propagated", "trainable_features": True,
}
forms, sizes = {"as in the paper": {}}, {}
forms |= {"sigmoid gate": {"gate": "sigmoid"}, "inner products in REG": {"reg_form": "released"}}
forms |= {"copies as rivals": {"mask_duplicates": False}, "h_enc learns": {"trainable_features": True}, "all of the released": released}
for name, options in forms.items():
    kept = row(fitted(**options)) if options else rows["α = 0.01"]
    sizes[name] = {n: kept[n] for n in ("recall@20", "cold items", "content : ID", "distance", "neighbours content-encoder")}
    print(f"{name}: recall@20 {sizes[name]['recall@20']:.3f}")
pd.DataFrame(sizes).T.round(3)

# %% [markdown]
# *Takeaway: copies as rivals change nothing here. Two forms make content **quieter**: a sigmoid can only damp, and an inner product that is asked
# to be a cosine asks each item's squared length to be 1. Compare `content : ID`. With quieter content more is found over all items, more than
# LightGCN finds, and less of the cold. Which of the two your shop needs is not the paper's to decide. A table $h_{enc}$ that learns costs recall;
# of the cold about as much is found, or more.*
#
# ## Recap
# - One sum, $h = h_{mm} + h_{id}$; three alignments steer how far the two agree.
# - CCA draws ID and content of an item together. By neighbours the ID comes to the content. Beside REG and UIA, CCA brings back the cold items
#   they cost. Too much of it destroys taste.
# - Content does not collapse onto the ID as long as $S$ stands; REG is the second guard, and the only one without $S$.
# - Let the recommender train the encoder as well, and its neighbours are forgotten: train in stages.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Why are further copies of the same item masked in InfoNCE?",
            "options": ["To save time", "They would be rivals of themselves: the loss would push an item from its own ID"],
            "answer": 1,
            "why": ["It costs a line more.", "Right. How much it matters depends on how often an item comes again in a batch."],
        },
        {
            "question": "In REG, why is the gradient into h_enc stopped?",
            "options": ["Else both could agree by changing the measure", "Because h_enc has another width"],
            "answer": 0,
            "why": ["Right: the guard would move with the guarded.", "Tables of similarities have one shape, whatever the widths."],
        },
        {
            "question": "K' = 1 and λ = 0. Content is nearly a copy of the ID. What do cold items get?",
            "options": ["As much as before, they have content", "Nothing: their ID is untrained and no neighbour lends a trained one"],
            "answer": 1,
            "why": ["Their content only scales their own ID.", "Right. S is what carries trained vectors to them."],
        },
        {
            "question": "Two settings: ID-content distance 0.02 and 0.2. Which model do you deploy?",
            "options": ["0.02: better aligned", "Neither number decides; look at recall, and at cold items"],
            "answer": 1,
            "why": ["You saw that at α = 1.", "Right: alignment is a means."],
        },
    ],
    id="07-alignrec",
)

# %% [markdown]
# ## Your own data
# ```python
# data = load("path/to/folder")
# whatif("alignrec", data, controls=["cca", "uia", "reg", "temperature", "k"])
# data = data.with_features(mmenc=my_vectors)  # (items, d), of any encoder: a table of this name is taken as h_enc
# ```
# In a terminal: `mmrec-teach compare --data path/to/folder --models lightgcn,freedom,bm3,alignrec --grid alignrec.cca=0,0.01,0.1 --seeds 3`.
#
# Next, lesson 08: judge content vectors before you train with them.
