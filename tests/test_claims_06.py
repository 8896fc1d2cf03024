"""What lesson 06 claims of the masked encoder: the stored one on items it never saw, and short trainings over three seeds."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from mmrec_teach.data import Dataset, load
from mmrec_teach.data.bazaar import DOMAINS, SPIRITS
from mmrec_teach.data.pictures import HUES
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import create
from mmrec_teach.training import train
from mmrec_teach.training.pretrain import STORED, Encoder, attributes, fit_encoder, pretrained, shared_values
from mmrec_teach.views.figures_encoder import guess_words
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)


@functools.cache
def stored() -> Encoder:
    return pretrained("bazaar")


def late(data: Dataset) -> np.ndarray:
    """Items with picture and caption that no encoder here was trained on."""
    return np.flatnonzero(data.cold_items & ~data.missing["image"] & ~data.missing["text"])


@functools.cache
def quality(seed: int) -> dict[str, float]:
    data = load("bazaar")
    return stored().quality(data, seed=seed, items=late(data))


@functools.cache
def found(kind: str, way: str, shift: int = 1) -> float:
    """Share of the late items' words of a kind, each hidden alone, that the best guess hits."""
    data, encoder = load("bazaar"), stored()
    hide = set(HUES) if kind == "colour" else {word for words in SPIRITS.values() for word in words}
    items, hits = late(data), []
    for item, other in zip(items, np.roll(items, shift)):
        for word in set(encoder.tokenizer.text(encoder.tokens(data).words[item]).split()) & hide:
            picture = {"own": "own", "none": None, "other": int(other)}[way]
            hits.append(guess_words(encoder, data, int(item), [word], picture=picture, k=1)[0]["guesses"][0] == word)
    return float(np.mean(hits))


def test_colours_are_read_off_the_picture_and_anothers_misleads():
    assert found("colour", "own") > 0.5
    assert found("colour", "own") > 4 * found("colour", "none")
    for shift in (1, 2, 3):
        assert found("colour", "own") > 3 * found("colour", "other", shift)


def test_spirit_words_owe_nothing_to_the_picture():
    assert abs(found("spirit", "own") - found("spirit", "none")) < 0.06
    for shift in (1, 2, 3):
        assert abs(found("spirit", "own") - found("spirit", "other", shift)) < 0.06
    assert found("spirit", "none") > 0.15  # of 30 words: the others of the caption tell


def test_words_need_the_picture_more_than_patches_need_the_caption():
    for seed in SEEDS:
        q = quality(seed)
        assert q["mlm_accuracy"] > max(q["mlm_alone"], q["mlm_other"]) + 0.03
        assert q["mlm_accuracy"] - q["mlm_alone"] > q["mim_accuracy"] - q["mim_alone"]
        assert q["mim_accuracy"] < 0.12, "with the whole picture hidden next to nothing is found"
        assert q["mim_accuracy"] > q["mim_other"]
    assert np.mean([quality(s)["mim_blocks"] - quality(s)["mim_blocks_alone"] for s in SEEDS]) > 0


@pytest.mark.parametrize("domain", DOMAINS)
def test_neighbours_share_kind_and_colour(domain: str):
    data = load(domain)
    table, everybody = stored().vectors(data), np.arange(data.n_items)
    for name in ("category", "hue"):
        values = attributes(data)[name]
        assert shared_values(table, values, everybody) > 1.8 * np.mean([(values == v).mean() for v in values])


def test_the_two_tables_keep_more_of_what_one_side_tells():
    data = load("bazaar")
    unit = [t / np.linalg.norm(t, axis=1, keepdims=True).clip(1e-9) for t in (data.features["image"], data.features["text"])]
    concat, everybody = np.concatenate(unit, axis=1), np.arange(data.n_items)
    for name in ("tone", "pattern", "spirit", "making", "category"):
        values = attributes(data)[name]
        assert shared_values(concat, values, everybody) > shared_values(stored().vectors(data), values, everybody) + 0.05
    assert shared_values(stored().vectors(data), attributes(data)["hue"], everybody) > 2 * shared_values(
        concat, attributes(data)["hue"], everybody
    )


@functools.cache
def vbpr(modalities: tuple[str, ...], seed: int, weight: float = 1.0) -> tuple[float, float]:
    """Recall@20, of all and of cold items: lesson 02's training."""
    data = load("bazaar").with_features(mmenc=stored().vectors(load("bazaar")))
    options = {"dim": 32, "content_dim": 32, "scaling": "unit", "modalities": modalities, "content_weight": weight}
    model = create("vbpr", data, seed=seed, **options)
    how = {"epochs": 30, "lr": 1e-2, "batch_size": 1024, "metrics_every": 0, "device": "cpu"}
    for _ in train(model, data, weights={"l2": 0.01}, seed=seed, **how):
        pass
    judged = evaluate(model, data, "test")
    return judged.mean("recall@20"), judged.cold()["recall@20"]


def test_one_vector_does_not_replace_the_two_tables():
    for seed in SEEDS:
        two, one, three = (vbpr(chosen, seed) for chosen in (("image", "text"), ("mmenc",), ("image", "text", "mmenc")))
        nothing = vbpr(("mmenc",), seed, 0.0)
        assert one[0] < three[0] < two[0]
        assert two[0] < nothing[0]
        assert one[0] < nothing[0] - 0.05
        assert two[1] > 2 * one[1] > 0.08
        assert nothing[1] < 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_the_contrast_ties_pictures_to_captions_in_a_short_training(seed: int):
    sources = [load(domain) for domain in DOMAINS]
    data = sources[0]
    ratio = {}
    for name, weight in (("with", 0.5), ("without", 0.0)):
        settings = {**STORED, "epochs": 6, "seed": seed, "weights": {"mim": 1.0, "mlm": 1.0, "itc": weight}}
        encoder = fit_encoder(*sources, held_out=[d.cold_items for d in sources], progress=False, device="cpu", **settings)
        q = encoder.quality(data, items=late(data))
        ratio[name] = (q["image_to_text@10"] + q["text_to_image@10"]) / 2 / q["retrieval_chance@10"]
    assert ratio["with"] > 2
    assert ratio["without"] < 1.6
