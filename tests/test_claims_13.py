"""What lesson 13 claims of knobs, switches, warm runs, pins, pictures and one's own data, over seeds with the lesson's settings."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmrec_teach.data import Interactions, load
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import create
from mmrec_teach.training import train
from mmrec_teach.training.experiments import compare_models
from mmrec_teach.views import Projector, align_to
from mmrec_teach.views.projection import nearest
from mmrec_teach.views.setting import Setting, replay
from tests.test_claims_02 import _one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.claim

SEEDS = (0, 1, 2)
HOW = "dim=32&lr=0.01&epochs=25"
GOOD = f"lightgcn?{HOW}&l2=0.01"
VBPR = f"vbpr?{HOW}&l2=0.01&scaling=unit"
STEPS = 10  # of an epoch


@functools.cache
def asked(line: str, seed: int) -> tuple[float, float, np.ndarray]:
    """Recall, recall on cold items, and the warm items' vectors of a run told in a line."""
    bazaar, setting = load("bazaar"), Setting.from_text(f"{line}&seed={seed}")
    model, _ = replay(setting, bazaar, metrics_every=0, device="cpu")
    found = evaluate(model, setting.switches.apply(bazaar), "test")
    with model.evaluating():
        table = model.views()["item/final"].numpy()
    return found.mean("recall@20"), found.cold()["recall@20"], table[~bazaar.cold_items]


def recall(line: str, seed: int) -> float:
    return asked(line, seed)[0]


def test_a_line_is_a_run_bit_for_bit():
    again = replay(Setting.from_text(f"{GOOD}&seed=1"), metrics_every=0, device="cpu")[0]
    with again.evaluating():
        table = again.views()["item/final"].numpy()[~load("bazaar").cold_items]
    assert np.array_equal(table, asked(GOOD, 1)[2])


@pytest.mark.parametrize("seed", SEEDS)
def test_too_much_regularisation_lifts_cold_items_and_ruins_the_model(seed):
    ruined = GOOD.replace("l2=0.01", "l2=1")
    assert asked(GOOD, seed)[1] == 0
    assert asked(ruined, seed)[1] > 0.2  # chance is 0.03
    assert recall(ruined, seed) < 0.06 < 0.5 < recall(GOOD, seed)
    assert np.linalg.norm(asked(ruined, seed)[2], axis=1).mean() < 0.01  # a cold item keeps its 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_wrong_content_is_worse_for_vbpr_than_none(seed):
    own, wrong, none = (asked(VBPR + more, seed) for more in ("", "&data.features=shuffled", "&data.features=zero"))
    assert wrong[0] < own[0] / 2
    assert own[0] < none[0]  # cold items are paid for by warm ones …
    assert own[1] > 0.35 > 0.1 > max(wrong[1], none[1])  # … and found only by their own content


# That FREEDOM and BM3 hardly notice wrong content is measured with lessons 04 and 05, whose subject they are.


@pytest.mark.parametrize("seed", SEEDS)
def test_the_winner_changes_with_the_share_of_cold_items(seed):
    gaps = [recall(VBPR + more, seed) - recall(GOOD + more, seed) for more in ("", "&data.cold=0.3", "&data.cold=0.5")]
    assert gaps[0] < -0.03
    assert 0 < gaps[1] < gaps[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_warm_run_is_not_the_run_of_its_last_knob(seed):
    start = "lightgcn?dim=32&lr=0.01"
    cold = recall(f"{start}&l2=1&epochs=10", seed)
    warm = recall(f"{start}&l2=0.01&epochs=35&l2@{25 * STEPS}=1", seed)
    back = recall(f"{start}&l2=1&epochs=35&l2@{10 * STEPS}=0.01", seed)
    assert warm > 3 * cold
    assert warm < recall(GOOD, seed) - 0.1
    assert back == pytest.approx(recall(GOOD, seed), abs=0.03)


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of each row's ten nearest neighbours in ``a`` that are others in ``b``."""
    one, other = nearest(a, 10)[0], nearest(b, 10)[0]
    return 1 - (one[:, :, None] == other[:, None, :]).any(2).mean(1)


def test_another_seed_changes_more_neighbours_than_a_third_layer_and_fewer_than_no_layer():
    seeds = [changed(asked(GOOD, a)[2], asked(GOOD, b)[2]).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    third = [changed(asked(GOOD, s)[2], asked(f"{GOOD}&n_layers=3", s)[2]).mean() for s in SEEDS]
    none = [changed(asked(GOOD, s)[2], asked(f"{GOOD}&n_layers=0", s)[2]).mean() for s in SEEDS]
    assert max(third) < 0.15 < min(seeds)
    assert max(seeds) < 0.25 < 0.35 < min(none)
    assert np.ptp([recall(GOOD, s) for s in SEEDS]) < 0.02


def test_one_table_in_three_drawings_and_a_picture_of_noise():
    table, drawings, kept = asked(GOOD, 0)[2], [], []
    for seed in SEEDS:
        projector = Projector(seed=seed)
        drawings.append(projector.fit(table))
        kept.append(projector.kept())
    width = np.ptp(drawings[0], axis=0).max()
    for other in drawings[1:]:
        assert np.median(np.linalg.norm(align_to(drawings[0], other) - drawings[0], axis=1)) > 0.05 * width
    assert np.ptp(kept) < 0.05 < 0.5 < min(kept)
    for seed in SEEDS:
        noise = Projector(seed=seed)
        noise.fit(np.random.default_rng(seed).normal(size=table.shape).astype(np.float32))
        assert noise.kept() < 0.35


@pytest.mark.parametrize("seed", SEEDS)
def test_how_far_a_point_moved_does_not_tell_how_many_neighbours_changed(seed):
    before, after = asked(GOOD, seed)[2], asked(f"{GOOD}&n_layers=0", seed)[2]
    first, second = Projector(seed=seed).fit(before), Projector(seed=seed).fit(after)
    moved = np.linalg.norm(align_to(first, second) - first, axis=1)
    assert abs(np.corrcoef(moved, changed(before, after))[0, 1]) < 0.3


# -- own data ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The lesson's folder of pictures and tables, opened."""
    garden, folder = load("bazaar/garden"), tmp_path_factory.mktemp("own") / "my-shop"
    (folder / "pictures").mkdir(parents=True)
    for name, picture, gone in zip(garden.item_ids, garden.images, garden.missing["image"]):
        if not gone:
            Image.fromarray(picture).save(folder / "pictures" / f"{name}.png")
    events = Interactions.concatenate(garden.train, garden.valid, garden.test)
    days = pd.to_datetime(events.timestamps, unit="s").strftime("%Y-%m-%d %H:%M")
    columns = {"user": garden.user_ids[events.users], "item": garden.item_ids[events.items], "date": days}
    pd.DataFrame(columns).to_csv(folder / "likes.csv", index=False)
    things = {"item": garden.item_ids, **{name: garden.items[name] for name in ("title", "category")}}
    pd.DataFrame({**things, "description": garden.items["caption"]}).to_csv(folder / "things.csv", index=False)
    return load(folder, split="user-time")


def test_the_folder_opens_whole(shop):
    garden = load("bazaar/garden")
    assert (shop.n_users, shop.n_items, shop.n_interactions) == (garden.n_users, garden.n_items, garden.n_interactions)
    assert shop.modalities == ("image", "text")
    assert np.array_equal(
        shop.missing["image"][np.argsort(shop.item_ids)], garden.missing["image"][np.argsort(garden.item_ids)]
    )
    assert "split by time within each user" in shop.source


@pytest.mark.parametrize("seed", SEEDS)
def test_on_a_small_shop_counting_is_as_good_as_the_best(shop, seed):
    models = ["popularity", "item-knn", "vbpr", "dualgnn"]
    settings = {"epochs": 20, "patience": 3, "lr": 1e-2, "batch_size": 512}
    given = {"dim": 32, "vbpr.scaling": "unit"}
    table = compare_models(shop, models, seeds=[seed], given=given, settings=settings, progress=False, device="cpu")
    rows = {row["model"]: row for row in table["rows"]}
    test = {name: row["test"]["recall@20"]["mean"] for name, row in rows.items()}
    best = max(rows.values(), key=lambda row: row["valid"]["recall@20"]["mean"])
    assert test["item-knn"] >= best["interval"][0]
    assert rows["popularity"]["interval"][1] < min(value for name, value in test.items() if name != "popularity") - 0.2


@pytest.mark.real
def test_on_real_films_posters_and_plots_rescue_nobody(real_data):
    films = load(real_data / "ml-100k", rating_threshold=4, k_core=5, split="user-time")
    assert films.cold_items[films.test.items].mean() < 0.02
    popular = evaluate(create("popularity", films), films, "test").mean("recall@20")
    found = {}
    for name in ("bpr", "vbpr"):
        for seed in SEEDS:
            model = create(name, films, dim=32, seed=seed)
            for _ in train(model, films, epochs=8, lr=1e-2, batch_size=1024, seed=seed, metrics_every=0, device="cpu"):
                pass
            found.setdefault(name, []).append(evaluate(model, films, "test").mean("recall@20"))
    assert popular < 0.75 * min(found["bpr"])
    assert max(found["vbpr"]) < min(found["bpr"])
