# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 13 · The what-if lab, and your own data
# *40 minutes · 0 points, nothing to write · needs lesson 03 · after this you can turn one knob and say what it did, tell a difference from a
# draw of the dice, send a run to a friend in one line, and bring your own pictures.*
#
# The lessons so far turned the knobs for you. Here all knobs are yours: any model, any data set, every weight, live. A lab with so many
# knobs answers every question, the wrong ones too.
#
# **How do you ask it so that the answer means something?**

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from PIL import Image

from mmrec_teach.data import Interactions
from mmrec_teach.notebook import evaluate, figures, load, predict, quiz, reveal, whatif
from mmrec_teach.training.experiments import all_models, compare_models
from mmrec_teach.views import Projector, Studio, align_to, palette, warm_up
from mmrec_teach.views.pins import aligned, difference, pin_table
from mmrec_teach.views.setting import Setting, replay

warm_up()  # UMAP gets ready in the background while you read
torch.set_num_threads(1)  # tables this small gain nothing from a second thread
pd.set_option("display.width", 130, "display.max_colwidth", 80)
bazaar = load("bazaar")
print(bazaar)

# %% [markdown]
# ## A run is one line of text
# Everything a run's numbers depend on fits in a line: the model, and what differs from its defaults. The panel writes such a line under
# *Share*; `replay` trains it again.
#
# Names are those of the papers' losses and of the models' options. What begins with `data.` changes the data: `data.features=shuffled`,
# `data.cold=0.3`. `l2@100=0.01` moves a weight after step 100.

# %%
HOW = "dim=32&lr=0.01&epochs=25"
warm = ~bazaar.cold_items  # somebody took them in training


def ask(text):
    """Train the run that a line tells; returns the model, and what it finds on test."""
    setting = Setting.from_text(text)
    model, _ = replay(setting, bazaar, metrics_every=0)
    found = evaluate(model, setting.switches.apply(bazaar), "test")
    return model, {"recall@20": found.mean("recall@20"), "cold items": found.cold()["recall@20"]}


line = f"lightgcn?{HOW}&l2=0.01"
light, light_row = ask(line)
print(line, {name: round(value, 3) for name, value in light_row.items()})

# %% [markdown]
# The same line, the same numbers? Not nearly: exactly.

# %%
again, _ = ask(line)
same = all(torch.equal(a, b) for a, b in zip(light.parameters(), again.parameters()))
print("every number of both models is equal, bit for bit" if same else "the two runs differ")

# %% [markdown]
# *Takeaway: on one machine a setting is the run. Send the line, not a screenshot.*
#
# ## Rule one: predict, then turn **one** knob
# LightGCN has a single regularising weight, $\lambda$ (`l2`). It pulls the vectors of a batch's users and items towards zero. Cold items are in no
# batch. We turn $\lambda$ from 0.01 up to 1.

# %%
predict(
    "lambda-cold", "λ = 1, a hundred times too much. What will happen to the recall on cold items, which is 0 now?",
    options=["it stays 0", "it rises a little, to chance", "it rises far above chance"],
)

# %%
print("chance is about", round(20 / bazaar.n_items, 3))
knob, lengths = {}, {}
for l2 in (0.001, 0.01, 0.1, 1):
    model, knob[f"l2={l2}"] = ask(f"lightgcn?{HOW}&l2={l2}")
    with model.evaluating():
        length = model.views()["item/final"].norm(dim=1).numpy()
    lengths[f"l2={l2}"] = {"length, warm": length[warm].mean(), "length, cold": length[~warm].mean()}
knob = pd.DataFrame(knob).T.join(pd.DataFrame(lengths).T)
knob.round(3)

# %% jupyter={"source_hidden": true}
last = knob.loc["l2=1"]
reveal(
    "lambda-cold", "it rises far above chance" if last["cold items"] > 0.15 else "it rises a little, to chance",
    f"To {last['cold items']:.2f}. And recall over all falls to {last['recall@20']:.2f}. The warm vectors shrink to a length of "
    f"{last['length, warm']:.3f}; the cold ones, which no batch ever touched, keep their {last['length, cold']:.1f} of random numbers. "
    "A list is topped by whatever has length.",
)

# %% [markdown]
# *Takeaway: one gauge went up, and the model is ruined. Nobody rescued a cold item: beside warm vectors of no length,
# random ones are on top of everyone's list. Read a number
# beside the number it can be bought with. Here: cold recall beside recall.*
#
# ## Rule two: change the data to learn what the model uses
# Does a model *use* content? Give it every item's neighbour's pictures and words (`shuffled`), or nothing but zeros (`zero`), and train.

# %%
predict(
    "lies", "VBPR trained on another item's content, against VBPR trained without any (zeros): which finds more of what was taken?",
    options=["wrong content: it is at least something", "both the same", "no content: silence is better than lies"],
)

# %%
MODELS = {"lightgcn": "l2=0.01", "vbpr": "l2=0.01&scaling=unit", "freedom": "", "bm3": "reg=0"}
rows = []
for name, weights in MODELS.items():
    for features in ("own", "zero", "shuffled"):
        text = f"{name}?{HOW}&{weights}" + f"&data.features={features}" * (features != "own")
        row = light_row if name == "lightgcn" else ask(text)[1]  # LightGCN never looks at features
        rows.append({"model": name, "features": features, **row})
uses = pd.DataFrame(rows)
uses.pivot(index="model", columns="features", values=["recall@20", "cold items"]).loc[list(MODELS)].round(3)

# %% jupyter={"source_hidden": true}
found = uses[uses["model"] == "vbpr"].set_index("features")["recall@20"]
reveal(
    "lies", "no content: silence is better than lies" if found["zero"] > found["shuffled"] + 0.02 else "both the same",
    f"VBPR finds {found['own']:.3f} with its own features, {found['zero']:.3f} with none, {found['shuffled']:.3f} with another item's. "
    "It cannot know that they are wrong: what it learns of one product's looks it believes of another's.",
)

# %%
bars = uses.rename(columns={"recall@20": "mean"}).assign(metric=uses["model"], model=uses["features"])[["model", "metric", "mean"]]
figures.metric_bars(bars, title="Only VBPR stands or falls with its content", x_title="model", y_title="test recall@20")

# %% [markdown]
# *Takeaway: three models called multimodal, three answers. VBPR scores by content: right content finds cold items, wrong content costs it more than half
# of what it found. (And over all, none beats its own: cold items are paid for by warm ones.) FREEDOM takes content as a graph and BM3 as a training
# signal: both hardly notice. A label says nothing; a switch does.*
#
# ## Rule three: the winner belongs to the data
# On the bazaar as it is, about one item in ten is cold. In a shop of second-hand things it may be one in two. `data.cold=0.3` takes all training
# interactions away from 30 % of the warm items; test stays as it was.

# %%
predict(
    "cold-share", "LightGCN is ahead of VBPR now. And where 30 % and 50 % of the warm items are cold as well?",
    options=["LightGCN stays ahead", "VBPR passes it at 50 % only", "VBPR is ahead at 30 % already"],
)

# %%
shares = {0.0: {name: uses[(uses["model"] == name) & (uses["features"] == "own")]["recall@20"].item() for name in ("lightgcn", "vbpr")}}
for share in (0.3, 0.5):
    shares[share] = {name: ask(f"{name}?{HOW}&{MODELS[name]}&data.cold={share}")[1]["recall@20"] for name in ("lightgcn", "vbpr")}
shares = pd.DataFrame(shares).T
figures.lines(
    [100 * share for share in shares.index], {name: shares[name].tolist() for name in shares}, x_title="% of the warm items made cold",
    y_title="test recall@20", title="The more items are new, the more content is worth", markers=True,
)

# %% jupyter={"source_hidden": true}
ahead = [share for share in (0.3, 0.5) if shares.loc[share, "vbpr"] > shares.loc[share, "lightgcn"]]
reveal(
    "cold-share",
    "VBPR is ahead at 30 % already" if 0.3 in ahead else "VBPR passes it at 50 % only" if ahead else "LightGCN stays ahead",
    "; ".join(f"{share:.0%} cold: LightGCN {row['lightgcn']:.3f}, VBPR {row['vbpr']:.3f}" for share, row in shares.iterrows()),
)

# %% [markdown]
# *Takeaway: "which model is best" has no answer; "best where" has. Move the share to yours before you believe a table, this course's included.*
#
# ## Warm or cold?
# In the panel a moved weight can act in two ways. **Cold**: a new run from random numbers. **Warm**: training goes on from where it is.
# Warm is quick, and you see what the knob does *from here*. But is it the same in the end?
#
# Twice the same last knob, $\lambda = 1$ for ten epochs: once from the start, once after 25 good epochs. And once the way back.

# %%
predict(
    "warm", "25 good epochs, then λ = 1 for ten more. Where does recall@20 land?",
    options=["where λ = 1 from the start lands: about chance", "far above it", "it stays as good as it was"],
)

# %%
steps = -(-len(bazaar.train) // 1024)  # of an epoch
SHORT = "dim=32&lr=0.01"
walks = {
    "good for 25 epochs": f"lightgcn?{SHORT}&l2=0.01&epochs=25",
    "λ = 1 for 10, cold": f"lightgcn?{SHORT}&l2=1&epochs=10",
    "good for 25, then λ = 1 for 10, warm": f"lightgcn?{SHORT}&l2=0.01&epochs=35&l2@{25 * steps}=1",
    "λ = 1 for 10, then good for 25, warm": f"lightgcn?{SHORT}&l2=1&epochs=35&l2@{10 * steps}=0.01",
}
walked = pd.DataFrame({name: ask(text)[1] for name, text in walks.items()}).T
walked.round(3)

# %% jupyter={"source_hidden": true}
there = walked["recall@20"]
reveal(
    "warm", "far above it" if there.iloc[2] > 3 * there.iloc[1] else "where λ = 1 from the start lands: about chance",
    f"{there.iloc[2]:.2f} against {there.iloc[1]:.2f}: the last knob alone does not say what you see. The way back is open: "
    f"from the ruin, 25 good epochs lead to {there.iloc[3]:.2f} (from random numbers: {there.iloc[0]:.2f}).",
)

# %% [markdown]
# *Takeaway: warm answers "what does this knob do now?", cold answers "what does this setting give?". Explore warm, report cold. The line of a warm run
# tells its whole way (`l2@250=1`), so even that can be repeated.*
#
# ## Pins: A against B
# A pin keeps a run: its setting, curves, gauges and picture. Then change one thing, run, pin, compare. `Studio` is the panel's engine without the
# widgets; in the panel the buttons *Pin* and *Compare* do the same.
#
# We pin LightGCN, the same with **another seed**, the same with **three layers** instead of two, and with **none**.

# %%
predict(
    "pins", "For each item, its ten nearest neighbours. Which changes more of them?",
    options=["another seed", "three layers instead of two"],
)

# %%
lab = Studio("lightgcn", bazaar, options={"dim": 32}, weights={"l2": 0.01}, lr=1e-2, epochs=25, interval=60, tug=False)
lab.run()
pins = {}
for label, (name, value) in {"A": ("seed", 0), "another seed": ("seed", 1), "3 layers": ("n_layers", 3), "no layer": ("n_layers", 0)}.items():
    lab.set("seed", 0)
    lab.set("n_layers", 2)
    lab.set(name, value)
    lab.join()
    pins[label] = lab.pin(label)
table = pd.DataFrame(pin_table(list(pins.values()))).set_index("label")
table[["recall@20", "ndcg@20", "effective rank", "setting"]].round(3)

# %%
changed = {label: float(np.nanmean(difference(pins["A"], pin, "item/final").changed[warm])) for label, pin in pins.items() if label != "A"}
bar = figures.metric_bars(
    pd.DataFrame([{"model": "against A", "metric": label, "mean": share} for label, share in changed.items()]),
    title="The yardstick of every difference: what another seed changes",
)
bar.update_yaxes(title="share of neighbours that changed").update_xaxes(title="what was changed").update_layout(showlegend=False)

# %% jupyter={"source_hidden": true}
reveal(
    "pins", max(("another seed", "3 layers"), key=changed.get).replace("3 layers", "three layers instead of two"),
    ", ".join(f"{label}: {share:.0%}" for label, share in changed.items())
    + ". Same data, same model, same recall within a hair, and a fifth of all neighbours are others.",
)

# %% [markdown]
# *Takeaway: two seeds are two answers to one question. A difference counts when it is larger than theirs. The third layer's is not; taking the graph
# away is. So pin a second seed before you pin anything else.*
#
# ## Reading pictures honestly
# The maps of A and of "no layer", the second turned onto the first. Colour: the share of an item's neighbours that changed, measured in the
# full space, not in the picture.

# %%
view, b = "item/final", pins["no layer"]
spots, moved = aligned([pins["A"], b], view)
share = difference(pins["A"], b, view).changed
names = bazaar.items["title"].to_numpy()[pins["A"].rows[view]]
length = np.linalg.norm(moved - spots, axis=1)
print(f"lines and colours: correlation {np.corrcoef(length[warm], share[warm])[0, 1]:.2f}")
figure = go.Figure()
for start, end in zip(spots[::6], moved[::6]):
    figure.add_scatter(x=[start[0], end[0]], y=[start[1], end[1]], mode="lines", line={"color": palette.FAINT, "width": 1}, hoverinfo="skip")
figure.add_scatter(
    x=moved[:, 0], y=moved[:, 1], mode="markers", text=names,
    marker={"size": 7, "color": share, "colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar": {"title": "neighbours<br>changed", "tickformat": ".0%"}},
)
frame = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
figure.update_xaxes(title=f"{b.methods[view]} 1 (no unit)", **frame).update_yaxes(title=f"{b.methods[view]} 2 (no unit)", scaleanchor="x", **frame)
figure.update_layout(
    template=palette.template(), height=500, width=760, showlegend=False,
    title=f"Without the graph {np.nanmean(share[warm]):.0%} of the neighbours are others, in every corner of the map",
    meta={"alt": "Map of the items without graph layers, coloured by the share of changed neighbours; lines lead from where every sixth item was with two layers."},
)

# %% [markdown]
# *Takeaway: lines show how points moved in the picture, colours what changed in the vectors. The two have hardly anything to do with each other (the
# correlation is near 0): whole groups travel together and keep their neighbours.*
#
# How far may a point move for no reason at all? We draw **one** table with three seeds of UMAP. Not one vector changes. And we draw pure noise.

# %%
vectors = pins["A"].tables[view][warm]
noise = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
drawn, kept = [], {}
for seed in (0, 1, 2):
    projector = Projector(seed=seed)
    drawn.append(projector.fit(vectors))
    kept[f"LightGCN, drawing {seed}"] = projector.kept()
projector = Projector(seed=0)
of_noise = projector.fit(noise)
kept["noise"] = projector.kept()
width = np.ptp(drawn[0], axis=0).max()
for seed in (1, 2):
    away = np.median(np.linalg.norm(align_to(drawn[0], drawn[seed]) - drawn[0], axis=1)) / width
    print(f"drawing {seed} against drawing 0: half of the points moved by more than {away:.0%} of the picture's width")
for name, part in kept.items():
    print(f"{name}: {part:.0%} of the neighbours kept")

# %%
figure = figures.embedding_map(of_noise, kept=kept["noise"], method="UMAP", height=420, title="UMAP of pure noise: a neat shape, and nothing in it")
figure.update_layout(width=640)

# %% [markdown]
# *Takeaway: places and distances between far points are UMAP's, not the model's. Two checks before you say a word about a picture: how many
# neighbours it kept (written below each), and whether the same shows in a number of the full space.*
#
# ## The open studio
# All of it, live. Before each experiment say your prediction aloud; then look.
#
# - *Pin* the first run. Set *moving a weight* to **continues** (warm) and push `l2` up, step by step. Colour the map by cold items. When do they stand out?
# - Back to **restarts** (cold). Under *Data* choose shuffled features. What will happen to the cold items if their words are another item's?
# - Open *Top 10*, choose a user, and watch which pictures enter and leave as you change the seed. Only the seed.
# - *Compare* shows two pins side by side. *Share* gives the line: `whatif(setting="…")` opens it.

# %%
whatif("vbpr", bazaar, options={"dim": 32, "scaling": "unit"}, weights={"l2": 0.01}, lr=1e-2, epochs=25)

# %% [markdown]
# ## Your own data
# All that is needed: **a table of who took what**, and **a folder of pictures**. Names that people usually give are understood. We make such a folder here,
# from another corner of the bazaar, as if it were yours.

# %%
garden = load("bazaar/garden")
mine = Path(tempfile.mkdtemp()) / "my-shop"
(mine / "pictures").mkdir(parents=True)
for name, picture, gone in zip(garden.item_ids, garden.images, garden.missing["image"]):
    if not gone:
        Image.fromarray(picture).save(mine / "pictures" / f"{name}.png")
events = Interactions.concatenate(garden.train, garden.valid, garden.test)
pd.DataFrame({
    "user": garden.user_ids[events.users], "item": garden.item_ids[events.items],
    "date": pd.to_datetime(events.timestamps, unit="s").strftime("%Y-%m-%d %H:%M"),
}).to_csv(mine / "likes.csv", index=False)
pd.DataFrame({
    "item": garden.item_ids, "title": garden.items["title"], "category": garden.items["category"], "description": garden.items["caption"],
}).to_csv(mine / "things.csv", index=False)
for file in ("likes.csv", "things.csv"):
    print(file, *(row[:110] for row in (mine / file).read_text().splitlines()[:3]), sep="\n    ")
print("pictures/", *sorted(p.name for p in (mine / "pictures").iterdir())[:3], "…", sep="\n    ")

# %% [markdown]
# `load` reads the tables, scales the pictures, makes features of pictures and words (no network: see `mmrec_teach/data/encode.py`), splits. Dates
# allow a split by time: each user's last things are the test.

# %%
shop = load(mine, split="user-time")
print(shop)
print(shop.source)
print("without a picture:", int(shop.missing["image"].sum()), "· cold items:", int(shop.cold_items.sum()))
figures.contact_sheet(shop.images[:15], shop.items["title"].tolist()[:15])

# %% [markdown]
# ## All models, one call
# In a terminal, with the settings for small data:
#
#     mmrec-teach compare --models all --data my-shop --split user-time --quick
#
# A model that your data do not allow is left out with a sentence, and the others go on. The same in Python, with smaller vectors and few epochs:

# %%
predict("shop", "What will be hard to beat here?", options=["popularity", "counting neighbours, without any training", "graphs and content"])

# %%
result = compare_models(
    shop, all_models(shop), given={"dim": 32, "vbpr.scaling": "unit"}, progress=False, strict=False,
    settings={"epochs": 20, "patience": 3, "lr": 1e-2, "batch_size": 512},
)
board = pd.DataFrame([
    {"model": row["model"], "valid": row["valid"]["recall@20"]["mean"], "test": row["test"]["recall@20"]["mean"],
     "95 %": "{:.3f} to {:.3f}".format(*row["interval"]), "seconds": row["seconds"][0]}
    for row in result["rows"]
]).sort_values("valid", ascending=False, ignore_index=True)
board.round(3)

# %% jupyter={"source_hidden": true}
top, knn = board.iloc[0], board.set_index("model").loc["item-knn"]
low, high = map(float, top["95 %"].split(" to "))
close = board[(board["test"] >= low)]["model"].tolist()
reveal(
    "shop", "counting neighbours, without any training" if knn["test"] >= low else "graphs and content",
    f"Best on valid is {top['model']} ({top['test']:.3f} on test, 95 % interval {low:.3f} to {high:.3f}). Within or above that interval lie "
    f"{len(close)} of {len(board)}: {', '.join(close)}.",
)

# %% [markdown]
# *Takeaway: with a few hundred users a single split cannot rank those on top: several lie in one interval, and plain counting is among them. What
# it can tell: popularity and chance are far away. Choose on valid, look at the interval, repeat with seeds (`--seeds 3`) before you say "better".*
#
# And the panel opens on your shop as on the bazaar:

# %%
whatif("vbpr", shop, options={"dim": 32, "scaling": "unit"}, weights={"l2": 0.01}, lr=1e-2, batch_size=512, epochs=25)

# %% [markdown]
# ## Real films: MovieLens 100K
# 943 people, 1,682 films, with posters and plots from elsewhere: a folder with `ratings.csv`, `items.jsonl` and `posters/`. Ratings are no purchases: we keep
# those of 4 and 5, and a 5-core.
#
#     mmrec-teach data describe ml-100k --rating-threshold 4 --k-core 5 --split user-time
#     mmrec-teach compare --models all --data ml-100k --rating-threshold 4 --k-core 5 --split user-time --quick
#
# What comes out: popularity is far behind BPR, and **posters and plots do not rescue anybody**. Hardly a film is cold, and VBPR on raw features falls
# behind BPR. You know why: rules two and three. (`tests/test_claims_13.py` measures this, where the films are at hand.)
#
# ## Recap
# - A setting is a run. Same line, same numbers, bit for bit, on one machine.
# - Predict, turn one knob, read the number beside the one it can be bought with.
# - Switch the data to see what a model uses. The winner belongs to the data.
# - Warm to explore, cold to report. A difference smaller than another seed's is none.
# - A map is a picture. Look at the neighbours kept, and at the full space.

# %% jupyter={"source_hidden": true}
quiz(
    [
        {
            "question": "You raise a weight and the recall on cold items goes from 0 to 0.3. What do you do first?",
            "options": ["Report it", "Look at the recall over all", "Raise it further"],
            "answer": 1,
            "why": ["You would report a ruin.", "Right: with λ = 1 the warm items had vanished.", "There is nothing left to shrink."],
        },
        {
            "question": "With shuffled features a model finds as much as with its own. What have you learned?",
            "options": ["It hardly uses content", "Its content is good", "Shuffling did not work"],
            "answer": 0,
            "why": ["Right: as FREEDOM and BM3 here.", "Then another item's would hurt.", "VBPR on the same data says it did."],
        },
        {
            "question": "Two runs, two settings: 12 % of all neighbours changed. Is it the setting?",
            "options": ["Yes, 12 % is a lot", "Only if another seed changes clearly less"],
            "answer": 1,
            "why": ["Another seed changed more.", "Right: the seed is the yardstick."],
        },
        {
            "question": "On the map a cluster has moved to the other side. What happened to its vectors?",
            "options": ["They moved", "Perhaps nothing: look at the neighbours"],
            "answer": 1,
            "why": ["UMAP moves clusters for no reason at all.", "Right."],
        },
    ],
    id="13-whatif-lab",
)

# %% [markdown]
# ## Where to go
# ```python
# data = load("path/to/folder")            # a table of who took what, a folder of pictures
# whatif("vbpr", data)                     # any model
# whatif(setting="vbpr?scaling=unit&l2=0.01&data.cold=0.3")   # a line somebody sent
# ```
# What the folder may look like, and what to do when it does not open: `data/README.md`.
