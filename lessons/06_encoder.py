# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 06 · One vector per item: guess what is hidden
# *55 minutes · 10 points · needs lesson 02 · after this you can turn pictures and captions into tokens, hide some of them, train a network to guess
# what was hidden, and say what its one vector per item is good for.*
#
# So far pictures and words came as two tables. Two recipes made them, and neither knew of the other: that "teal" in a caption and a certain blue-green in a
# picture are the same thing, a recommender had to find out from purchases.
#
# **Can one network learn that before anybody has bought anything?** Nobody tells it what a lamp is. It gets pictures with captions, and a riddle.

# %%
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from mmrec_teach.data.bazaar import SPIRITS
from mmrec_teach.data.pictures import HUES
from mmrec_teach.data.tokens import make_tokenizer
from mmrec_teach.models.mmenc import EncoderBatch, MMEnc
from mmrec_teach.notebook import check, create, evaluate, figures, hint, load, predict, quiz, reveal, solution, train, whatif
from mmrec_teach.training.pretrain import attributes, pretrain, pretrained, shared_values
from mmrec_teach.views import palette, warm_up
from mmrec_teach.views.figures_encoder import guess_words, reconstruction, retrieval

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130)
bazaar = load("bazaar")
whole = ~bazaar.missing["image"] & ~bazaar.missing["text"]
new = np.flatnonzero(bazaar.cold_items & whole)  # launched late: no encoder of this lesson is trained on them
thing = int(new[0])
print(bazaar.captions[thing])

# %%
figures.contact_sheet(bazaar.images[new[:6]], [bazaar.captions[i] for i in new[:6]], columns=6, title="Six things launched late")

# %% [markdown]
# ## Commit first
# The riddle: hide a word of the caption, show the picture, and let the network guess the word. Or hide a part of the picture, and show the caption.
# We hide words of things the network has never seen, and ask three times: with the thing's own picture, with none, and with that of another thing.

# %%
predict(
    "seen-words", "Hidden colour words (8 colours): how many does the network find with the picture, and without?",
    options=["about as many: captions repeat themselves", "with it at least four times as many", "with it all of them, without it none"],
)

# %%
predict(
    "fused", "VBPR gets the network's one vector in place of the two tables of pictures and words. What happens to its recall@20?",
    options=["it rises: pictures and words have met", "hardly anything", "it falls"],
)

# %% [markdown]
# ## Everything is a token
# Cut the picture into squares, **patches**, and read them row by row. Split the caption into words. Both become numbers in one row: first a free place, called
# **[CLS]**, then the patches, then the words. What stands at [CLS] in the end is **the item's vector**.
#
# A hidden word is guessed from a list: the vocabulary. For a hidden patch there is no such list, so BEiT makes one. *k*-means finds typical
# patches; a patch's **visual word** $z$ is the number of the nearest:
#
# $$z(x) = \arg\min_k \lVert x - c_k \rVert^2$$
#
# ## Exercise 1 · visual words

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 6 min · 2 points · difficulty 1 of 3
# Write `visual_words`: the number of the nearest typical patch.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "visual_words", "title": "the number of the nearest typical patch", "points": 2, "minutes": 6, "difficulty": 1, "hints": ["For one patch: K distances, and the place of the smallest. Now for all patches of all pictures at once.", "An extra axis lets every patch meet every typical patch: (B, P, 1, n) minus (K, n) has shape (B, P, K, n).", "Square, sum over the last axis, and `.argmin(-1)`. Or torch.cdist, which takes (B, P, n) and (K, n)."]}
def visual_words(patches, codebook):
    """Each patch's visual word.

    Args:
        patches: (B, P, n) float, P patches of n numbers for each of B pictures.
        codebook: (K, n) float, the typical patches.
    Returns:
        (B, P) int64, 0 to K - 1; the first of several that are equally near.
    """
    raise NotImplementedError("Write `visual_words`: the number of the nearest typical patch")

# %%
check("visual_words")

# %%
hint("visual_words")

# %% [markdown]
# Your function beside the package's, on things of the bazaar (write exercise 1 first). And what is left of a picture when each patch is replaced by its typical one?

# %%
encoder = pretrained("bazaar")  # trained before, see below; its tokenizer serves us from now on
tokenizer, tokens = encoder.tokenizer, encoder.tokens(bazaar)
batch = EncoderBatch.of(tokens, new[:6])
yours = visual_words(255 * batch.patches, torch.from_numpy(tokenizer.codebook))  # the codebook counts in 0..255, a batch in 0..1
print(f"{tokenizer.n_patches} patches a picture, {tokenizer.n_codes} visual words, {tokenizer.n_words} words; ",
      f"same numbers as the package: {(yours == batch.codes).float().mean():.1%}")
rebuilt = tokenizer.picture(tokenizer.codebook[yours.numpy()])
figures.contact_sheet(
    np.concatenate([bazaar.images[new[:6]], rebuilt]), ["as it is"] * 6 + ["in visual words"] * 6, columns=6,
    title=f"Above: the pictures. Below: the same in {tokenizer.n_codes} typical patches",
)

# %% [markdown]
# *Takeaway: the colour of the wall survives, and where the thing stands; of the thing's own colour a muted idea, or none; patterns are gone. That is all the network is
# asked to guess of a picture.*
#
# ## What to hide
# **Words:** a share of each caption's words, at least one. Every word of the caption gets a number drawn at random; those with the smallest are hidden.
#
# ## Exercise 2 · hide words

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 9 min · 3 points · difficulty 2 of 3
# Write `mask_words`: hide the share of words with the smallest draws.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "mask_words", "title": "hide the share of words with the smallest draws", "points": 3, "minutes": 9, "difficulty": 2, "hints": ["Three steps: which places hold a known word (number above 2); how many of them to hide in each caption; and which.", "How many: `(share * known.sum(1)).round().clamp(min=1)`, one number a caption. Places that may not be hidden get a draw beyond all others, say 2.", "The rank of each draw in its row is `draw.argsort(dim=1).argsort(dim=1)`. Hide a place if it is known and its rank is below the caption's count: `known & (rank < count[:, None])`."]}
def mask_words(words, draw, share):
    """Which words to hide.

    Args:
        words: (B, W) int64; 0 is padding (no word here), 2 is a word the vocabulary lacks: neither is ever hidden. 1 is [MASK],
            which stands for a hidden word, and is never in a caption.
        draw: (B, W) float in 0..1, one number a place, all different within a row.
        share: the share of each caption's known words to hide: rounded, at least one word (if the caption has one).
    Returns:
        (B, W) bool, True where hidden.
    """
    raise NotImplementedError("Write `mask_words`: hide the share of words with the smallest draws")

# %%
check("mask_words")

# %%
hint("mask_words")

# %% [markdown]
# **Patches:** one hidden square is no riddle, its neighbours tell. So BEiT hides **rectangles**, one after the other, until enough is hidden.
#
# **A whole side:** now and then the package treats the picture or the caption of an item as missing, so that the network gets used to it.
#
# ## Exercise 3 · hide rectangles

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 2 points · difficulty 2 of 3
# Write `mask_patches`: rectangles, until enough is hidden.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "mask_patches", "title": "rectangles, until enough is hidden", "points": 2, "minutes": 8, "difficulty": 2, "hints": ["Begin with a (rows, columns) table of False. Look before each rectangle whether enough is hidden.", "`picture[top:top + height, left:left + width] = True` hides one. Rectangles may overlap, so count what is hidden, not the areas.", "Stop as soon as `picture.sum() >= share * rows * columns`. Row by row is what `.flatten()` gives."]}
def mask_patches(blocks, rows, columns, share):
    """Which patches of one picture to hide.

    Args:
        blocks: (N, 4) int64, rectangles in order: top, left, height, width, in patches.
        rows, columns: of the grid of patches.
        share: take one rectangle after the other until at least this share of all patches is hidden (or none is left).
    Returns:
        (rows * columns,) bool, row by row, True where hidden.
    """
    raise NotImplementedError("Write `mask_patches`: rectangles, until enough is hidden")

# %%
check("mask_patches")

# %%
hint("mask_patches")

# %% [markdown]
# ## The network
# A patch becomes one vector by a small net, a word by its row of a table. A vector for its place is added. Of a hidden token the place alone is kept: a learned
# vector stands there for what it showed, one for all patches and one, [MASK], for all words.
#
# All tokens then pass a few layers. In each, every token looks at every other (**self-attention**): a hidden word can look at patches, a hidden patch
# at words. Then each token passes a small network of its own kind, one for patches and one for words; BEiT-3 calls them **experts**. In the top layer
# there is one for all. A side that is missing is not looked at.

# %% jupyter={"source_hidden": true}
idea = go.Figure()
kinds = (("[CLS]", palette.GREEN, ["→ item vector"]), ("patch", palette.BLUE, ["", "hidden", ""]), ("word", palette.ORANGE, ["", "", "hidden"]))
x = 0
for kind, colour, marks in kinds:
    for mark in marks:
        for y, text in ((0, mark if mark == "hidden" else kind), (3.2, "guess" if mark == "hidden" else mark)):
            if text:
                box = {"bgcolor": "white", "bordercolor": colour, "borderpad": 5, "borderwidth": 3 if text == "hidden" else 1.5}
                idea.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": 13}, **box)
        idea.add_scatter(x=[x, x], y=[0.3, 2.9], mode="lines", line={"color": colour, "width": 2}, hoverinfo="skip")
        x += 1
for y, text, height in ((1.1, "attention: every token looks at every token", 0.5), (2.1, "experts: patches on the left, words on the right", 0.5)):
    idea.add_shape(type="rect", x0=-0.45, x1=x - 0.55, y0=y - height / 2, y1=y + height / 2, fillcolor="#f3f5f7", line={"color": palette.INK})
    idea.add_annotation(x=(x - 1) / 2, y=y, text=text, showarrow=False, font={"size": 14})
idea.update_xaxes(visible=False, range=[-0.8, x - 0.2]).update_yaxes(visible=False, range=[-0.5, 3.7])
idea.update_layout(
    template=palette.template(), showlegend=False, height=330, width=760, margin={"b": 10},
    title="One transformer reads both; what stands at [CLS] is the item's vector",
    meta={"alt": "A row of tokens, [CLS], patches and words, some hidden, goes up through attention and experts; the hidden ones are guessed."},
)

# %% [markdown]
# *Takeaway: one row of tokens, one network. The only way to guess "teal" from blue-green patches is to connect the two.*
#
# ## The loss
# At each hidden token the network gives one number (a *logit*) for each possible answer; $p$ is their softmax. The loss is the mean of $-\log p$ of the right answer,
# **over the hidden tokens only**:
#
# $$L_{mlm} = -\frac{1}{|H_w|}\sum_{w\in H_w}\log p(t_w \mid \mathrm{visible}), \qquad L_{mim} = -\frac{1}{|H_p|}\sum_{j\in H_p}\log p(z_j \mid \mathrm{visible})$$
#
# $H_w$ and $H_p$ are the hidden words and the hidden patches of the whole batch, $t_w$ is the word at place $w$, $z_j$ the visual word of patch $j$: masked language
# modelling and masked image modelling are one formula.
#
# ## Exercise 4 · the loss of guessing

# %% [markdown] tags=["exercise-heading"]
# ### Exercise · 8 min · 3 points · difficulty 2 of 3
# Write `guessing_loss`: for words and for patches alike.
# *Put your own lines in place of the `raise` line and run the cell, then the check below it. Stuck? The button gives hints.*

# %% tags=["exercise"] exercise={"id": "guessing_loss", "title": "for words and for patches alike", "points": 3, "minutes": 8, "difficulty": 2, "hints": ["Pick the hidden tokens first: `logits[hidden]` has one row for each, over the whole batch.", "torch.nn.functional.cross_entropy takes (n, V) logits and (n,) right answers, and is safe with large numbers; its mean is over the rows it is given.", "If nothing is hidden, the mean of nothing is no number: give a tensor with 0. `logits.sum() * 0` is one that a training step can go back through."]}
def guessing_loss(logits, target, hidden):
    """Mean over all hidden tokens of the batch of -log p(right answer).

    Args:
        logits: (B, T, V) float, one number for each of V answers at each token.
        target: (B, T) int64, the right answers.
        hidden: (B, T) bool; other tokens do not count.
    Returns:
        a tensor with one number, also if nothing is hidden: then 0.
    """
    raise NotImplementedError("Write `guessing_loss`: for words and for patches alike")

# %%
check("guessing_loss")

# %%
hint("guessing_loss")

# %% [markdown]
# Your loss in the network, beside the package's (write exercise 4 first). Both are given the same masks.

# %%
small = MMEnc(tokenizer.n_words, tokenizer.n_codes, grid=tokenizer.grid, patch_dim=3 * tokenizer.patch**2, length=tokenizer.length,
              dim=32, depth=2, aggregate=False, tasks={"both": 1.0}, seed=0)
state = small.generator.get_state()
patch_hidden, word_hidden, seen = small.masks(batch)
small.generator.set_state(state)  # the package draws the same masks again
package = small.losses(batch)
out = small(seen.patches, seen.words, patch_mask=patch_hidden, word_mask=word_hidden)
first_word = 1 + small.n_patches
mine = {
    "mim": guessing_loss(small.patch_out(out[:, 1:first_word]), batch.codes, patch_hidden),
    "mlm": guessing_loss(small.word_out(out[:, first_word:]), batch.words, word_hidden),
}
for term in ("mim", "mlm"):
    print(f"{term}: yours {mine[term].item():.4f}, package {package[term].item():.4f}; by blind guessing about "
          f"{np.log(tokenizer.n_codes if term == 'mim' else tokenizer.n_words):.2f}")

# %% [markdown]
# *Takeaway: one formula serves both. An untrained network is a little worse than blind guessing: it is surer of random answers than it should be.*
#
# ## A short training
# The bazaar has four corners, each a small shop with kinds of things of its own. A fresh network, a dozen epochs on the corner "garden", the package's loop.

# %%
garden = load("bazaar/garden")
reads = make_tokenizer(garden, n_codes=64)
short = MMEnc(reads.n_words, reads.n_codes, grid=reads.grid, patch_dim=3 * reads.patch**2, length=reads.length, dim=32, depth=2,
              aggregate=False, seed=0)
history = list(pretrain(short, reads(garden), epochs=12, batch_size=16, lr=3e-3))
figures.lines(
    range(1, 13), {term: [record.losses[term] for record in history] for term in ("mim", "mlm")}, x_title="epoch", y_title="loss",
    title=f"Twelve epochs: mlm {history[0].losses['mlm']:.1f} → {history[-1].losses['mlm']:.1f}, "
    f"mim {history[0].losses['mim']:.1f} → {history[-1].losses['mim']:.1f}",
)

# %% [markdown]
# *Takeaway: both fall. Walls and floors go on behind a hidden patch, and shop talk repeats itself. What we are after, the tie between picture and caption, is the
# smallest part of both losses. It takes longer than this.*
#
# ## A trained one
# `pretrained("bazaar")` was trained on all four corners, without the items launched late. It knows two things more than the network above:
#
# - **[CLS] must guess, too.** In BEiT-3 no loss looks at [CLS]. Here each hidden token is guessed a second time, from [CLS] alone (and the place of a
#   patch): the option `aggregate=True`. The idea is BEiT v2's, which adds the patch vectors of a middle layer.
# - **A contrast.** A thousand items are few. So [CLS] of each picture alone is to be closer to [CLS] of its own caption than to others' captions (as in CLIP).
#   BEiT-3 does without, on 21 million pairs.

# %%
def best_guess(item, word, way, other):
    """What the network puts in place of one hidden word."""
    picture = {"own picture": "own", "no picture": None, "another's picture": int(other)}[way]
    found = guess_words(encoder, bazaar, int(item), [word], picture=picture, k=1)[0]
    return found["guesses"][0], found["chances"][0]


ways, shown = ("own picture", "no picture", "another's picture"), {}
for item, other in zip(new[:8], np.roll(new[:8], 1)):
    for word in set(tokenizer.text(tokens.words[item]).split()) & set(HUES):
        guesses = {way: best_guess(item, word, way, other) for way in ways}
        shown[bazaar.items["title"][item], word] = {way: f"{guess} ({chance:.0%})" for way, (guess, chance) in guesses.items()}
pd.DataFrame(shown).T.rename_axis(["item", "hidden word"])

# %% [markdown]
# *Takeaway: without its picture it says some colour. With it, it is right more often, and where it errs, it mostly takes the colour beside: yellow for orange.*
#
# Now count. One word hidden at a time: the **colour** (8 of them), which the picture shows, and the **spirit** words (*nostalgic*, *quirky*, …), which no picture
# shows. Late items only.

# %%
spirits = {word for words in SPIRITS.values() for word in words}


def found_of(hide, way):
    """Share of the late items' words among `hide`, each hidden alone, that the best guess hits."""
    hits = [
        best_guess(item, word, way, other)[0] == word
        for item, other in zip(new, np.roll(new, 1)) for word in set(tokenizer.text(tokens.words[item]).split()) & set(hide)
    ]
    return np.mean(hits)


riddles = pd.DataFrame({
    name: {way: found_of(hide, way) for way in ways} for name, hide in (("colour words", HUES), ("spirit words", spirits))
}).T
print(f"{len(HUES)} colours; {len(spirits)} spirit words, for {len(SPIRITS)} spirits; three of its spirit's words in each caption")
riddles.round(2)

# %% jupyter={"source_hidden": true}
with_it, without, misled = riddles.loc["colour words", list(ways)]
answer = "with it at least four times as many" if with_it > 4 * without else "about as many: captions repeat themselves"
reveal(
    "seen-words", "with it all of them, without it none" if with_it > 0.97 and without < 0.03 else answer,
    f"{with_it:.0%} of the colours with the picture, {without:.0%} without, {misled:.0%} "
    "with another thing's picture.",
)

# %% [markdown]
# *Takeaway: colours are read off the picture. Another's picture misleads, as it should. The spirit words owe nothing to the picture: no picture shows them. Blind, 1 in 30
# would be right. The caption's other two tell the spirit, which leaves three of its five words: at best 1 in 3.*
#
# Now the other way: patches hidden, with and without the caption.

# %%
quality = encoder.quality(bazaar, items=new)
sight = pd.DataFrame({
    "half of the words hidden": [quality[f"mlm_{x}"] for x in ("accuracy", "alone", "other")],
    "half of the picture hidden": [quality["mim_blocks"], quality["mim_blocks_alone"], np.nan],
    "the whole picture hidden": [quality[f"mim_{x}"] for x in ("accuracy", "alone", "other")],
}, index=["with the other side", "without it", "with that of another item"]).T
sight.round(3).astype(object).where(sight.notna(), "not measured")

# %%
reconstruction(encoder, bazaar, new[:4], share=0.6, seed=1)

# %% [markdown]
# *Takeaway: the caption helps to guess patches, but little. A caption knows neither pose, wall, tone (pastel, neon, faded, …) nor pattern, and what is left of a picture tells most of
# what can be told. With the whole picture hidden next to nothing is found; another's caption still does harm.*
#
# ## Who are the neighbours?
# Each item's ten nearest by the angle between their vectors. How many share its **category** (the kind of thing), its **hue** (the colour), its **tone** (pastel, neon,
# faded …: how strong and how light the colours are), its pattern, its spirit, its **making** (handmade, recycled, …)? Beside it, what chance would give, and the two
# tables of lesson 02, each of length 1, side by side ("concat").

# %%
def unit(table):
    """Rows of length 1."""
    return table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-9)


concat = np.concatenate([unit(bazaar.features["image"]), unit(bazaar.features["text"])], axis=1)
vectors = encoder.vectors(bazaar)
everybody = np.arange(bazaar.n_items)
near = pd.DataFrame({
    name: {"one vector (MMEnc)": shared_values(vectors, values, everybody), "concat": shared_values(concat, values, everybody),
           "chance": np.mean([(values == v).mean() for v in values])}
    for name, values in attributes(bazaar).items()
})
near.round(2)

# %%
similar = unit(vectors) @ unit(vectors)[thing]
nearest = np.argsort(-similar)[:6]
figures.contact_sheet(
    bazaar.images[nearest], [bazaar.captions[i] for i in nearest], columns=6, title="A late item, and its five nearest by the one vector"
)

# %% [markdown]
# *Takeaway: beside the two tables the one vector gains colour and loses half of the kind. Pattern and making are at chance, spirit and tone not far above: to say what
# picture **and** caption tell is what it was trained for, and what only one side tells it lets go. So the boots have boots beside them, and a pink rug and a guitar.*
#
# ## Find the picture
# A caption, and the pictures of all late items. Which goes with it? The network sees each alone, and compares the two [CLS].

# %%
retrieval(encoder, bazaar, new[:4], new, k=6)

# %%
print(f"own picture among the first ten of {len(new)}: {quality['text_to_image@10']:.0%}, by chance {quality['retrieval_chance@10']:.0%}; ",
      f"own caption: {quality['image_to_text@10']:.0%}")

# %% [markdown]
# *Takeaway: it finds things it never saw. Thank the contrast for that: after six epochs with it the same network finds more than twice what chance does, after six
# without it hardly more than chance (tests/test_claims_06.py). Guessing needs the other side only where its own does not suffice.*
#
# ## Does one vector recommend better?
# VBPR as in lesson 02, vectors of 32 numbers, 30 epochs, three seeds. It gets the two tables, or the one, or all three, or no content at all (`content_weight=0`).
# Predict first what that does to the cold items.

# %%
predict(
    "without-content", "`content_weight` is 0: what happens to the recall of cold items?",
    options=["it stays: the content map E is learned all the same", "it falls to nothing", "it rises"],
)

# %%
fused = bazaar.with_features(mmenc=vectors)
wanted = {"two tables": ("image", "text"), "one vector": ("mmenc",), "all three": ("image", "text", "mmenc")}


def vbpr(modalities, seed, weight=1.0):
    """Lesson 02's VBPR, trained and judged."""
    model = create("vbpr", fused, dim=32, content_dim=32, scaling="unit", modalities=modalities, content_weight=weight, seed=seed)
    for _ in train(model, fused, weights={"l2": 0.01}, seed=seed, epochs=30, lr=1e-2, batch_size=1024, metrics_every=0):
        pass
    judged = evaluate(model, fused, "test")
    return {"recall@20": judged.mean("recall@20"), "cold items": judged.cold()["recall@20"]}


results = {(name, seed): vbpr(chosen, seed) for name, chosen in wanted.items() for seed in (0, 1, 2)}
results |= {("no content", seed): vbpr(("mmenc",), seed, weight=0.0) for seed in (0, 1, 2)}
table = pd.DataFrame(results).T.rename_axis(["features", "seed"])
table.groupby("features", sort=False).agg(["mean", "min", "max"]).round(3)

# %% jupyter={"source_hidden": true}
two, one = table.loc["two tables"]["recall@20"], table.loc["one vector"]["recall@20"]
answer = "it rises: pictures and words have met" if one.min() > two.max() else "hardly anything"
reveal(
    "fused", "it falls" if one.max() < two.min() else answer,
    f"Two tables {two.mean():.3f}, one vector {one.mean():.3f}, all three {table.loc['all three']['recall@20'].mean():.3f}, no content "
    f"{table.loc['no content']['recall@20'].mean():.3f}; cold items "
    f"{table.loc['two tables']['cold items'].mean():.2f} against {table.loc['one vector']['cold items'].mean():.2f}. Taste in the bazaar goes by tone, pattern, "
    "spirit and making, which only one side tells.",
)

# %% [markdown]
# *Takeaway: no. The one vector sinks VBPR below no content at all; beside the two tables it still costs a little. Even the two tables cost a little overall: what
# they buy is the cold items. What a network was trained for is what its vector
# is good for. Ours, of a thousand items, knows colour and some of the kind, and users take kinds they know anyway. AlignRec takes an encoder that has
# seen millions of pairs. Lesson 07 aligns vectors like these with purchases; lesson 08 judges features before anything is trained on them.*
#
# ## What if …
# The map below is VBPR's content map with the one vector alone. Set `content_weight` to 0 and train on: do the cold items fare as you predicted above?

# %%
whatif(
    "vbpr", fused, controls=["content_weight", "l2", "l2_content"], views=["item/id", "item/content"],
    options={"dim": 32, "content_dim": 32, "scaling": "unit", "modalities": ("mmenc",)}, weights={"l2": 0.01}, lr=1e-2, batch_size=1024, epochs=30,
)

# %% jupyter={"source_hidden": true}
cold = table.loc["no content"]["cold items"].mean()
reveal(
    "without-content", "it falls to nothing" if cold < 0.02 else "it stays: the content map E is learned all the same",
    f"Recall of cold items {cold:.3f}: without content VBPR is BPR, and BPR knows nothing of a thing nobody has bought.",
)

# %% [markdown]
# ## Paper and code
# | the papers write | public code does | what we do |
# |---|---|---|
# | BEiT-3: attention is shared, experts in the feed-forward networks only | TorchScale gives each modality its own query, key and value projections, too | as the paper |
# | BEiT-3: 15 % of a text's words hidden, 50 % beside a picture; 40 % of the patches | its pre-training code is not public | shares drawn for each item, rare words sooner |
# | visual words from a network trained on 250 million pictures (BEiT) | the same | *k*-means on the patches of the shop |
# | no loss looks at [CLS] (BEiT-3); a second guess from it and the patch vectors of a middle layer, by two layers of attention (BEiT v2) | as written | a second guess by one dense layer; `aggregate=False` leaves it out |
# | AlignRec: the item encoder is BEiT-3, trained by $L_{mim}+L_{mlm}$ | its pre-training code is not public | from scratch, and a contrast for want of data |
#
# ## Recap
# - A picture and a caption become one row of tokens; some are hidden, and one network guesses them.
# - The loss looks at hidden tokens only. Words are guessed from a vocabulary, patches from visual words.
# - Guessing connects both sides where one needs the other: colour words need the picture, spirit words do not.
# - What [CLS] holds depends on what it was asked for. On few data, measure before you replace a feature table.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "Why rectangles of patches, and not single ones?",
            "options": ["They are quicker to draw", "A single hidden patch can be copied from its neighbours"],
            "answer": 1,
            "why": ["The network does not mind.", "Right: only a large hole makes it ask what the thing is."],
        },
        {
            "question": "A mean over all tokens, seen ones too, would reward …",
            "options": ["copying what is in plain sight", "guessing harder", "nothing: the gradient is the same"],
            "answer": 0,
            "why": ["Right, and copying is easy.", "The hidden ones would count less.", "The seen ones have a gradient as well."],
        },
        {
            "question": "A modality of an item is missing. What does the network see of it?",
            "options": ["zeros", "nothing: its tokens are not looked at", "the mean of all items"],
            "answer": 1,
            "why": ["Zeros would be a picture: a black one.", "Right; and training hid whole sides now and then, so it is used to that.", "No."],
        },
        {
            "question": "Your captions say nothing that the pictures show, nor the other way round. What can a contrast teach?",
            "options": ["Everything", "Nothing in common: there is nothing to agree on"],
            "answer": 1,
            "why": ["It can learn the pairs by heart.", "Right; and what each side alone tells may even get lost."],
        },
    ],
    id="06-encoder",
)

# %% [markdown]
# ## Your own data
# A folder with pictures and a description of each item is enough:
#
#     mmrec-teach pretrain --data path/to/folder --out runs/encoder
#
# trains, says what the encoder can do on items it never saw, and writes `encoder.npz` and one vector an item (`NAME_feat.npy`). In a notebook:
# ```python
# from mmrec_teach.training.pretrain import fit_encoder
# data = load("path/to/folder")
# encoder = fit_encoder(data, epochs=50, held_out=0.1)
# data = data.with_features(mmenc=encoder.vectors(data))
# ```
# Next, lesson 07: AlignRec lets such a vector and the purchases speak to each other.
