"""The masked encoder and its tokens: shapes, masks, what may be seen of what, losses, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny
from torch.nn import functional as F

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.tokens import MASK, PAD, UNKNOWN, TokenTables, cut, make_tokenizer, split_words
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models.mmenc import EncoderBatch, MMEnc, block_mask, word_mask

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230), "grey": (128, 128, 128)}


def make_shop(n_items: int = 40, seed: int = 0, side: int = 16) -> Dataset:
    """Things of one colour each, told by the caption; two have no picture, two no caption."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(COLOURS), n_items)
    noise = rng.integers(-20, 21, (n_items, side, side, 3))
    images = np.clip(np.array([COLOURS[n] for n in names])[:, None, None] + noise, 0, 255).astype(np.uint8)
    captions = [f"A {n} {rng.choice(['hat', 'cup'])}, made by hand." for n in names]
    images[:2] = 0
    captions[2] = captions[3] = ""
    tiny = make_tiny(n_items=n_items)
    return replace(tiny, images=images, items=pd.DataFrame({"caption": captions, "category": names}))


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return make_shop()


@pytest.fixture(scope="module")
def tokens(shop: Dataset) -> TokenTables:
    return make_tokenizer(shop, patch=4, n_codes=12)(shop)


def encoder(tokens: TokenTables, **options) -> MMEnc:
    tk = tokens.tokenizer
    sizes = {"grid": tk.grid, "patch_dim": 3 * tk.patch**2, "length": tk.length, "dim": 16, "depth": 2, "heads": 2}
    return MMEnc(tk.n_words, tk.n_codes, **{**sizes, **options})


# -- tokens ---------------------------------------------------------------------------------------------------------------
def test_cutting_and_putting_together() -> None:
    images = np.arange(2 * 8 * 12 * 3, dtype=np.uint8).reshape(2, 8, 12, 3)
    patches = cut(images, 4)
    assert patches.shape == (2, 6, 48)
    assert np.array_equal(patches[1, 4].reshape(4, 4, 3), images[1, 4:8, 4:8])


def test_tokens_of_a_shop(shop: Dataset, tokens: TokenTables) -> None:
    tk = tokens.tokenizer
    assert tk.grid == (4, 4)
    assert tokens.patches.shape == (40, 16, 48)
    assert np.array_equal(tk.picture(tokens.patches), shop.images)
    assert tokens.patch_missing.tolist() == [True] * 2 + [False] * 38
    assert tokens.word_missing.tolist() == [False, False, True, True] + [False] * 36
    assert tk.text(tokens.words[5]) == " ".join(split_words(shop.captions[5]))
    assert tk.vocabulary[:3].tolist() == ["[pad]", "[mask]", "[?]"]
    # the code is the nearest typical patch, by the definition
    gap = ((tokens.patches[7][:, None].astype(float) - tk.codebook[None]) ** 2).sum(-1)
    assert np.array_equal(gap.argmin(1), tokens.codes[7])
    # a thing of one colour gets codes of that colour
    near = np.abs(tk.codebook[tokens.codes[7]].reshape(16, 16, 3).mean(1) - COLOURS[shop.items["category"][7]])
    assert near.max() < 25
    assert not any(getattr(tokens, name).flags.writeable for name in ("patches", "codes", "words"))


def test_words_are_counted_cut_and_known() -> None:
    assert split_words("Don't: an ÉTUDE, 3 mugs_and-pans!") == ["don't", "an", "étude", "mugs", "and", "pans"]
    shop = make_shop()
    tk = make_tokenizer(shop, patch=4, length=3, min_count=11)
    assert tk.length == 3
    assert set(tk.vocabulary[3:]) < {"a", "red", "green", "blue", "grey", "hat", "cup", "made", "by", "hand"}
    rows = tk.words(["a zebra by hand", ""])
    assert rows[0].tolist() == [list(tk.vocabulary).index("a"), UNKNOWN, list(tk.vocabulary).index("by")]
    assert rows[1].tolist() == [PAD] * 3
    few = make_tokenizer(shop, patch=4, max_words=2)
    assert few.n_words == 5


def test_large_pictures_are_scaled_down() -> None:
    shop = make_shop(side=24)
    tk = make_tokenizer(shop, patch=4, side=16)
    assert tk.grid == (4, 4)
    assert tk(shop).patches.shape == (40, 16, 48)


def test_the_same_tokens_every_time(shop: Dataset, tokens: TokenTables) -> None:
    again = make_tokenizer(shop, patch=4, n_codes=12)
    assert np.array_equal(again.codebook, tokens.tokenizer.codebook)
    assert np.array_equal(again.vocabulary, tokens.tokenizer.vocabulary)


def test_hiding_and_concatenating(tokens: TokenTables) -> None:
    image, text = tokens.hidden({"image": np.arange(40) == 9})
    assert np.flatnonzero(image).tolist() == [0, 1, 9]
    assert np.flatnonzero(text).tolist() == [2, 3]
    double = TokenTables.concatenate([tokens, tokens])
    assert len(double) == 80
    assert np.array_equal(double.words[40:], tokens.words)
    with pytest.raises(OptionError, match="image or text"):
        tokens.hidden({"audio": np.zeros(40, dtype=bool)})
    with pytest.raises(OptionError, match="one flag per item"):
        tokens.hidden({"text": np.zeros(40)})


def test_what_cannot_be_tokens(shop: Dataset) -> None:
    with pytest.raises(DataError, match="needs pictures and captions"):
        make_tokenizer(make_tiny())
    with pytest.raises(DataError, match="no word occurs often enough"):
        make_tokenizer(shop, patch=4, min_count=1000)
    with pytest.raises(DataError, match="differ in shape"):
        make_tokenizer(shop, make_shop(side=12), patch=4)
    with pytest.raises(DataError, match="every picture is missing"):
        make_tokenizer(replace(shop, images=np.zeros_like(shop.images)), patch=4)
    for option in ({"patch": 1}, {"n_codes": 1}, {"side": 3, "patch": 4}, {"length": 0}):
        with pytest.raises(OptionError, match="out of range"):
            make_tokenizer(shop, **option)


def test_more_feature_tables(shop: Dataset) -> None:
    table = np.ones((40, 3), dtype=np.float32)
    table[4] = 0
    more = shop.with_features(mmenc=table)
    assert more.modalities == (*shop.modalities, "mmenc")
    assert np.flatnonzero(more.missing["mmenc"]).tolist() == [4]
    assert shop.with_features({}, mmenc=table).modalities == ("mmenc",)


# -- masks ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("grid", [(6, 6), (6, 4), (1, 5), (2, 2)])
def test_blocks_hide_enough_and_are_blocks(grid: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    n = grid[0] * grid[1]
    for share in (0.05, 0.4, 0.75, 1.0):
        mask = block_mask(torch.full((200,), share), grid, g)
        assert mask.shape == (200, n)
        assert mask.sum(1).min() >= share * n
        assert mask.sum(1).float().mean() <= min(n, share * n + max(1, 0.35 * n))
    if grid == (6, 6):  # hidden patches have more hidden neighbours than patches hidden one by one would
        shape = mask = block_mask(torch.full((500,), 0.4), grid, g).view(-1, 6, 6)
        beside = (shape[:, :, 1:] & shape[:, :, :-1]).float().mean() / shape.float().mean()
        assert beside > shape.float().mean() + 0.2
        assert mask.float().mean((0,)).min() > 0.15  # no corner is left out


def test_words_are_hidden_by_share() -> None:
    g = torch.Generator().manual_seed(0)
    words = torch.tensor([[5, 6, 7, 8, 9, 4, PAD, PAD], [5, UNKNOWN, 7, PAD, PAD, PAD, PAD, PAD], [UNKNOWN] + [PAD] * 7])
    for _ in range(20):
        mask = word_mask(words, torch.tensor([0.5, 0.01, 1.0]), g)
        assert mask.sum(1).tolist() == [3, 1, 0]
        assert not (mask & (words <= UNKNOWN)).any()
    often = torch.stack([word_mask(words, torch.tensor([0.5, 0.5, 0.5]), g)[0] for _ in range(300)]).float().mean(0)
    assert torch.allclose(often[:6], torch.full((6,), 0.5), atol=0.12)


def test_rare_words_are_hidden_sooner(tokens: TokenTables) -> None:
    g = torch.Generator().manual_seed(0)
    words, odds = torch.tensor([[3, 4, 5, 6]]).expand(4000, -1), torch.tensor([1.0, 1, 1, 6, 1, 1, 2])
    often = word_mask(words, torch.full((4000,), 0.25), g, odds).float().mean(0)
    assert torch.allclose(often, torch.tensor([0.6, 0.1, 0.1, 0.2]), atol=0.03)  # one word each, by its odds
    counts = tokens.tokenizer.counts
    assert counts[tokens.words[tokens.words > UNKNOWN]].min() >= 2
    assert counts[3] == (tokens.words == 3).sum()
    model = encoder(tokens, word_counts=counts, rarity=1.0)
    assert model.odds[3].item() == pytest.approx(1 / counts[3])
    with pytest.raises(OptionError, match="one count a word"):
        encoder(tokens, word_counts=[1, 2])


def test_tasks_decide_what_is_hidden(tokens: TokenTables) -> None:
    batch = EncoderBatch.of(tokens)
    whole = ~batch.patch_missing & ~batch.word_missing
    for task, hidden_patches, hidden_words, alone in (
        ("words", False, True, None),
        ("patches", True, False, None),
        ("both", True, True, None),
        ("words alone", False, True, "patch_missing"),
        ("patches alone", True, False, "word_missing"),
    ):
        patch, word, seen = encoder(tokens, tasks={task: 1.0}).masks(batch)
        assert patch.any(1)[whole].all() == hidden_patches == patch.any(1)[whole].any()
        assert word.any(1)[whole].all() == hidden_words == word.any(1)[whole].any()
        for side in ("patch_missing", "word_missing"):
            assert bool(getattr(seen, side)[whole].all()) == (side == alone)
        # who lacks a side is asked for the other, and nobody ends with nothing
        assert patch[batch.word_missing].any(1).all()
        assert word[batch.patch_missing].any(1).all()
        assert not patch[batch.patch_missing].any()
        assert not word[batch.word_missing].any()
        assert not (seen.patch_missing & seen.word_missing).any()


# -- what is seen ---------------------------------------------------------------------------------------------------------
def test_shapes_and_item_vectors(tokens: TokenTables) -> None:
    model, batch = encoder(tokens).eval(), EncoderBatch.of(tokens, torch.tensor([7, 5]))
    hidden = model(batch.patches, batch.words)
    assert hidden.shape == (2, 1 + 16 + tokens.tokenizer.length, 16)
    assert torch.allclose(model.encode(batch), hidden[:, 0])


def test_the_hidden_cannot_be_seen(tokens: TokenTables) -> None:
    """Neither a hidden token's content, nor padding, nor anything of a missing side changes what stands anywhere else."""
    model, batch = encoder(tokens).eval(), EncoderBatch.of(tokens, np.arange(6, 12))
    mask = torch.zeros(6, 16, dtype=torch.bool)
    mask[:, 3] = True
    words_mask = torch.zeros_like(batch.words, dtype=torch.bool)
    words_mask[:, 1] = True
    patches, words = batch.patches.clone(), batch.words.clone()
    patches[:, 3], words[:, 1] = 0.9, 4
    options = {"patch_mask": mask, "word_mask": words_mask}
    assert torch.equal(model(batch.patches, batch.words, **options), model(patches, words, **options))
    assert not torch.allclose(model(batch.patches, batch.words)[:, 0], model(patches, batch.words)[:, 0])
    assert not torch.allclose(model(batch.patches, batch.words)[:, 0], model(batch.patches, words)[:, 0])

    gone = torch.ones(6, dtype=torch.bool)
    for missing, swapped in (
        ({"patch_missing": gone}, (patches.flip(0), batch.words)),
        ({"word_missing": gone}, (batch.patches, words.flip(0))),
    ):
        own, other = model(batch.patches, batch.words, **missing), model(*swapped, **missing)
        assert torch.allclose(own[:, 0], other[:, 0], atol=1e-6)
    longer = torch.cat([words, torch.full((6, 0), PAD)], dim=1)
    cut_words = longer.clone()
    cut_words[:, 3:] = PAD
    short = encoder(tokens, length=3).eval()
    state = model.state_dict()
    state["word_place"] = state["word_place"][:3]
    short.load_state_dict(state)
    assert torch.allclose(model(patches, cut_words)[:, 0], short(patches, cut_words[:, :3])[:, 0], atol=1e-5)


def test_a_side_left_out_is_a_side_missing(tokens: TokenTables) -> None:
    model, batch = encoder(tokens).eval(), EncoderBatch.of(tokens, np.arange(6, 12))
    gone = torch.ones(6, dtype=torch.bool)
    for without, missing in (((None, batch.words), "patch_missing"), ((batch.patches, None), "word_missing")):
        short, long = model(*without), model(batch.patches, batch.words, **{missing: gone})
        assert torch.allclose(short[:, 0], long[:, 0], atol=1e-5)
    assert model(None, batch.words).shape[1] == 1 + tokens.tokenizer.length


def test_hide_equals_an_item_that_lacks_it(tokens: TokenTables) -> None:
    model = encoder(tokens).eval()
    flags = np.arange(40) == 8
    seen = model.encode(EncoderBatch.of(tokens, [8], hide={"text": flags}))
    batch = EncoderBatch.of(tokens, [8])
    assert torch.equal(seen, model.encode(replace(batch, word_missing=torch.tensor([True]))))
    assert not torch.allclose(seen, model.encode(batch))


def test_experts_belong_to_their_modality(tokens: TokenTables) -> None:
    """Below the fused layers, a picture's tokens never pass the words' network; above, all pass one."""
    model, batch = encoder(tokens, depth=2, fused=1).eval(), EncoderBatch.of(tokens, np.arange(6, 12))
    assert [len(layer.networks) for layer in model.layers] == [2, 1]
    gone = torch.ones(6, dtype=torch.bool)
    before = model(batch.patches, batch.words, word_missing=gone)[:, 0]
    with torch.no_grad():
        for p in model.layers[0].networks[1].parameters():
            p.add_(0.3)
    assert torch.equal(before, model(batch.patches, batch.words, word_missing=gone)[:, 0])
    with torch.no_grad():
        for p in model.layers[1].networks[0].parameters():
            p.add_(0.3)
    assert not torch.allclose(before, model(batch.patches, batch.words, word_missing=gone)[:, 0])


def test_a_layer_is_what_it_says(tokens: TokenTables) -> None:
    """Attention against the textbook, heads one by one, in float64."""
    layer = encoder(tokens).layers[0].double()
    x = torch.randn(2, 7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0, 1]], dtype=torch.bool)
    h = F.layer_norm(x, (16,), layer.attention_norm.weight, layer.attention_norm.bias)
    q, k, v = (h @ layer.qkv.weight.T + layer.qkv.bias).split(16, dim=-1)
    parts = []
    for head in range(2):
        at = slice(8 * head, 8 * head + 8)
        logits = q[..., at] @ k[..., at].mT / 8**0.5
        parts.append(logits.masked_fill(~seen[:, None], -torch.inf).softmax(-1) @ v[..., at])
    y = x + layer.out(torch.cat(parts, -1))
    h = F.layer_norm(y, (16,), layer.forward_norm.weight, layer.forward_norm.bias)
    want = y + torch.cat([layer.networks[0](h[:, :4]), layer.networks[1](h[:, 4:])], 1)
    assert torch.allclose(layer(x, seen[:, None, None], 4), want, atol=1e-10)


# -- losses ---------------------------------------------------------------------------------------------------------------
def test_losses_by_hand(tokens: TokenTables) -> None:
    batch = EncoderBatch.of(tokens, np.arange(4, 20))
    for aggregate in (False, True):
        model = encoder(tokens, aggregate=aggregate, tasks={"both": 1.0})
        state = model.generator.get_state()
        patch, word, seen = model.masks(batch)
        model.generator.set_state(state)
        terms = model.losses(batch)
        hidden = model(seen.patches, seen.words, patch_mask=patch, word_mask=word)
        mim = mlm = 0.0
        for b in range(16):
            for p in torch.nonzero(patch[b]).flatten():
                mim = mim - model.patch_out(hidden[b, 1 + p]).log_softmax(-1)[batch.codes[b, p]] / patch.sum()
                if aggregate:
                    h = model.query_norm(F.gelu(model.from_cls(hidden[b, 0]) + model.patch_query[p]))
                    mim = mim - model.patch_out(h).log_softmax(-1)[batch.codes[b, p]] / patch.sum()
            for w in torch.nonzero(word[b]).flatten():
                mlm = mlm - model.word_out(hidden[b, 17 + w]).log_softmax(-1)[batch.words[b, w]] / word.sum()
                if aggregate:
                    h = model.query_norm(F.gelu(model.from_cls(hidden[b, 0]) + model.word_query))
                    mlm = mlm - model.word_out(h).log_softmax(-1)[batch.words[b, w]] / word.sum()
        assert terms["mim"].item() == pytest.approx(mim.item(), rel=1e-5)
        assert terms["mlm"].item() == pytest.approx(mlm.item(), rel=1e-5)


def test_pixels_are_a_target_too(tokens: TokenTables) -> None:
    batch = EncoderBatch.of(tokens, np.arange(4, 20))
    model = encoder(tokens, target="pixels", aggregate=False, tasks={"patches": 1.0})
    state = model.generator.get_state()
    patch, _, _ = model.masks(batch)
    model.generator.set_state(state)
    guess = model.guesses(model(batch.patches, batch.words, patch_mask=patch), "patch", patch)
    want = ((guess - (batch.patches[patch] - 0.5) / 0.25) ** 2).mean()
    assert model.losses(batch)["mim"].item() == pytest.approx(want.item(), rel=1e-5)


def test_contrast_is_an_option(tokens: TokenTables) -> None:
    batch = EncoderBatch.of(tokens, np.arange(0, 12))
    model = encoder(tokens)
    assert set(model.losses(batch)) == {"mim", "mlm"}
    only = model.losses(batch, ["itc"])
    assert set(only) == {"itc"}
    rows = np.arange(4, 12)  # who has both sides
    flags = np.ones(40, dtype=bool)
    a = F.normalize(model.encode(EncoderBatch.of(tokens, rows, hide={"text": flags})), dim=1)
    b = F.normalize(model.encode(EncoderBatch.of(tokens, rows, hide={"image": flags})), dim=1)
    logits = a @ b.T * 10
    own = torch.arange(8)
    want = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert only["itc"].item() == pytest.approx(want.item(), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"target": "pixels"}, {"aggregate": False}, {"fused": 0}, {"fused": 2}])
def test_every_parameter_learns(tokens: TokenTables, options: dict) -> None:
    model, batch = encoder(tokens, **options), EncoderBatch.of(tokens)
    sum(model.losses(batch, ["mim", "mlm", "itc"]).values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_the_same_seed_the_same_losses(tokens: TokenTables) -> None:
    batch = EncoderBatch.of(tokens)
    first, again, other = (encoder(tokens, seed=s).losses(batch) for s in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["mlm"], other["mlm"])


def test_items_without_anything_to_guess(tokens: TokenTables) -> None:
    batch = EncoderBatch.of(tokens, [0, 1])  # no pictures
    terms = encoder(tokens).losses(batch, ["mim", "mlm", "itc"])
    assert terms["mim"].item() == terms["itc"].item() == 0.0
    assert terms["mlm"].item() > 0


def test_refusals(tokens: TokenTables) -> None:
    for options, sentence in (
        ({"target": "dvae"}, "codes or pixels"),
        ({"dim": 15}, "multiple of the number of heads"),
        ({"depth": 0}, "out of range"),
        ({"tasks": {"captions": 1.0}}, "unknown task"),
        ({"tasks": {"words": -1.0}}, "not a share"),
        ({"tasks": {}}, "no task has a share"),
        ({"patch_share": (0.9, 0.4)}, "no range of shares"),
    ):
        with pytest.raises(OptionError, match=sentence):
            encoder(tokens, **options)


def test_the_bazaar_in_tokens() -> None:
    data = load("bazaar/attic")
    tokens = make_tokenizer(data, n_codes=32)(data)
    assert tokens.tokenizer.grid == (4, 4)
    assert np.array_equal(tokens.patch_missing, data.missing["image"])
    assert np.array_equal(tokens.word_missing, data.missing["text"])
    assert len(np.unique(tokens.codes)) == 32
    assert tokens.words.max() < tokens.tokenizer.n_words
    assert not (tokens.words == MASK).any()
