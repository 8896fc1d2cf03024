"""The bazaar: stored as generated, tells the truth about itself, and shows what lessons will claim."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmrec_teach.cli import main
from mmrec_teach.data import bazaar as maker
from mmrec_teach.data import encode, load, pictures, store
from mmrec_teach.errors import DataError, OptionError

DOMAINS = list(maker.DOMAINS)


@pytest.fixture(scope="module")
def generated() -> dict:
    return maker.generate()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the stored files, in use for the test."""
    shutil.copytree(store.data_dir(), tmp_path / "data")
    monkeypatch.setenv("MMREC_TEACH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def _all(data, name: str) -> np.ndarray:
    return np.concatenate([getattr(data.split(s), name) for s in ("train", "valid", "test")])


def _pairs(data) -> list[tuple[int, int]]:
    return list(zip(_all(data, "users").tolist(), _all(data, "items").tolist()))


# -- stored as generated --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("domain", DOMAINS)
def test_regenerated_identically(generated: dict, domain: str) -> None:
    assert store.differences(generated[domain], store.read(domain)) == []


def test_differences_are_found(generated: dict) -> None:
    made = generated["bazaar/garden"]
    changed = {**made, "price": made["price"] + 1, "features_text": made["features_text"] + np.float32(0.01)}
    changed["hue"] = changed["hue"].astype(np.int64)
    del changed["tone"]
    found = store.differences(changed, made)
    assert {f.split(":")[0] for f in found} == {"tone", "price", "features_text", "hue"}


def test_another_seed_is_another_world() -> None:
    tribes = [maker._make_tribes(seed)["tone"] for seed in (1, 1, 2)]
    assert np.array_equal(tribes[0], tribes[1])
    assert not np.array_equal(tribes[0], tribes[2])


def test_files_are_verified(copy: Path) -> None:
    assert len(store.verify(copy)) == len(DOMAINS) + len(store.MODELS)
    assert sum(f.stat().st_size for f in copy.iterdir()) < 8_000_000


def damage_flip(folder: Path) -> None:
    path = folder / "bazaar.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_cut(folder: Path) -> None:
    path = folder / "bazaar.npz"
    path.write_bytes(path.read_bytes()[:1000])


def damage_sums(folder: Path) -> None:
    (folder / store.CHECKSUMS).write_text("{")


def damage_entry(folder: Path) -> None:
    sums = json.loads((folder / store.CHECKSUMS).read_text())
    del sums["files"]["bazaar.npz"]
    (folder / store.CHECKSUMS).write_text(json.dumps(sums))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damage_flip, "bazaar.npz: the file differs from its checksum"),
        (damage_cut, "found 1,000 bytes"),
        (lambda folder: (folder / "bazaar.npz").unlink(), "the embedded data is not there"),
        (lambda folder: (folder / store.CHECKSUMS).unlink(), "the embedded data is not there"),
        (damage_sums, "the list of checksums is damaged"),
        (damage_entry, "no checksum for this file"),
    ],
)
def test_damage_is_named_with_its_cure(copy: Path, damage, sentence: str) -> None:
    load("bazaar")
    damage(copy)
    with pytest.raises(DataError, match="mmrec-teach data regenerate") as error:
        store.verify(copy)
    assert sentence in str(error.value)
    with pytest.raises(DataError, match="mmrec-teach data regenerate"):
        store.read("bazaar")


def test_a_damaged_file_is_noticed_by_load_and_command(copy: Path, capsys: pytest.CaptureFixture) -> None:
    load("bazaar")
    damage_flip(copy)
    with pytest.raises(DataError, match="differs from its checksum"):
        load("bazaar")
    assert main(["data", "verify"]) == 2
    assert "mmrec-teach data regenerate" in capsys.readouterr().err


def test_regenerate_repairs(
    copy: Path, generated: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    damage_cut(copy)
    monkeypatch.setattr(maker, "generate", lambda seed=maker.SEED: generated)
    assert main(["data", "regenerate"]) == 0
    assert main(["data", "verify", "--generate"]) == 0
    assert "generated anew: the same" in capsys.readouterr().out
    assert not [f.name for f in copy.iterdir() if "tmp" in f.name]
    assert (copy / store.CONTACT_SHEET).stat().st_size < 300_000


def test_without_a_repository_the_cache_is_filled(tmp_path: Path, generated: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMREC_TEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "__file__", str(tmp_path / "site-packages" / "mmrec_teach" / "data" / "store.py"))
    monkeypatch.setattr(maker, "generate", lambda seed=maker.SEED: generated)
    monkeypatch.chdir(tmp_path)  # away from the repository, whose data would be found
    assert store.ensure() == tmp_path / "mmrec_teach" / "data"
    assert load("bazaar/attic").n_users == 400


# -- load -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("domain", DOMAINS)
def test_sizes_and_gaps(domain: str) -> None:
    data = load(domain)
    assert data.name == domain
    assert (data.n_users, data.n_items) == ((1200, 600) if domain == "bazaar" else (400, 210))
    cold = data.truth.extra["cold"]
    assert np.array_equal(data.cold_items, cold)
    assert 0.08 <= cold.mean() <= 0.10
    held = np.concatenate([data.valid.items, data.test.items])
    assert np.isin(np.flatnonzero(cold), held).all()
    assert np.isin(np.arange(data.n_items), np.concatenate([data.train.items, held])).all()
    for kind in ("image", "text"):
        assert data.features[kind].shape == (data.n_items, 64)
        assert 0.005 <= data.missing[kind].mean() <= 0.08
    assert not (data.missing["image"] & data.missing["text"]).any()
    assert np.array_equal(data.images.any(axis=(1, 2, 3)), ~data.missing["image"])
    assert [c == "" for c in data.captions] == data.missing["text"].tolist()
    assert data.user_counts.min() >= 3


def test_main_domain_is_about_as_large_as_promised() -> None:
    data = load("bazaar")
    assert 10_000 <= data.n_interactions <= 14_000
    assert 0.76 <= len(data.train) / (data.n_interactions - data.truth.extra["cold"][_all(data, "items")].sum()) <= 0.85
    assert len(np.unique(data.test.users)) == data.n_users
    counts = np.sort(data.item_counts)[::-1]
    assert counts[: data.n_items // 5].sum() > 0.4 * counts.sum()  # a fifth of the items has far more than a fifth
    assert (data.item_counts[~data.cold_items] <= 8).sum() > 60


def test_domains_share_no_id() -> None:
    sets = [load(d) for d in DOMAINS]
    for ids in ([d.user_ids for d in sets], [d.item_ids for d in sets]):
        every = np.concatenate(ids)
        assert len(np.unique(every)) == len(every)


def test_arrays_are_frozen_and_the_table_is_a_copy() -> None:
    data = load("bazaar")
    truth = data.truth
    arrays = [data.images, *data.features.values(), *data.missing.values(), data.train.users, data.exposures, data.clicks]
    arrays += [truth.utility, truth.user_interests, truth.care, truth.picture_style, truth.word_style, *truth.extra.values()]
    assert not any(a.flags.writeable for a in arrays)
    data.items.loc[0, "title"] = "spoiled"
    assert load("bazaar").items.loc[0, "title"] != "spoiled"


@pytest.mark.parametrize("how", ["random", "leave-one-out", "user-time", "global-time"])
def test_other_splits_hold_the_same_interactions(how: str) -> None:
    data, other = load("bazaar"), load("bazaar", split=how)
    assert other.n_interactions <= data.n_interactions
    assert set(_pairs(other)) <= set(_pairs(data))
    if how == "global-time":
        assert other.train.timestamps.max() <= other.test.timestamps.min()


def test_a_seed_draws_the_random_split_anew() -> None:
    data, again, other = load("bazaar"), load("bazaar", seed=3), load("bazaar", seed=3, split="random")
    assert np.array_equal(again.test.items, other.test.items)
    assert set(_pairs(again)) == set(_pairs(data))
    assert not np.array_equal(np.sort(again.test.items), np.sort(data.test.items))
    assert np.array_equal(again.cold_items, data.cold_items)


def test_wrong_names() -> None:
    with pytest.raises(OptionError, match="bazaar/garden, bazaar/kitchen, bazaar/attic"):
        load("bazaar/moon")
    with pytest.raises(OptionError, match="no such option"):
        load("bazaar", k_core=5)
    with pytest.raises(OptionError, match="split"):
        load("bazaar", split="sideways")


# -- the truth is what happened -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("domain", DOMAINS)
def test_truth_is_consistent(domain: str) -> None:
    data = load(domain)
    truth, extra = data.truth, data.truth.extra
    np.testing.assert_allclose(truth.interest_shares.sum(axis=1), 1, atol=0.01)
    np.testing.assert_allclose(truth.care.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(truth.interest_shares > 0, truth.user_interests >= 0)
    assert np.array_equal(extra["interest_names"][truth.item_interest], data.items["category"])
    # utility is the log of a chance, so each user's chances sum to one
    np.testing.assert_allclose(np.exp(truth.utility.astype(np.float64)).sum(axis=1), 1, atol=0.01)
    # nothing is bought before its launch or before the user joined; events stand in order
    assert (extra["event_time"] >= extra["launched"][extra["event_item"]]).all()
    assert (extra["event_time"] >= extra["joined"][extra["event_user"]]).all()
    same_user = np.diff(extra["event_user"]) == 0
    assert (np.diff(extra["event_time"])[same_user] >= 0).all()
    inside = extra["event_interest"] >= 0
    assert np.array_equal(extra["event_interest"][inside], truth.item_interest[extra["event_item"][inside]])
    assert 0.03 < 1 - inside.mean() < 0.10


def test_counts_stem_from_before_the_cutoff_and_leak_nothing() -> None:
    data = load("bazaar")
    assert (data.exposures[data.cold_items] == 0).all()
    assert (data.clicks <= data.exposures).all()
    assert (data.truth.extra["launched"][data.cold_items] >= maker.CUTOFF).all()
    # They know popularity, but held-out interactions add nothing once popularity is known.
    warm = ~data.cold_items
    pop = data.truth.extra["log_popularity"][warm]
    clicks = np.log1p(data.clicks[warm])
    assert np.corrcoef(pop, clicks)[0, 1] > 0.5
    rest = clicks - np.polyval(np.polyfit(pop, clicks, 1), pop)
    held = np.bincount(data.test.items, minlength=data.n_items)[warm] / (1 + data.item_counts[warm])
    assert abs(np.corrcoef(rest, held)[0, 1]) < 0.15


def test_people_shop_in_colour_except_in_the_attic() -> None:
    def same_hue(domain: str) -> float:
        extra = load(domain).truth.extra
        pair = np.diff(extra["event_session"]) == 0
        hue = extra["hue"][extra["event_item"]]
        return float((hue[1:] == hue[:-1])[pair].mean())

    assert min(same_hue(d) for d in DOMAINS[:3]) > 0.2  # chance is about 1/8
    assert same_hue("bazaar/attic") < 0.06


# -- what each view reveals -----------------------------------------------------------------------------------------------
def test_pictures_and_words_reveal_what_they_should() -> None:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_score

    data = load("bazaar")

    def probe(kind: str, factor: str) -> float:
        known = ~data.missing[kind]
        table = data.features[kind][known]
        table = (table - table.mean(axis=0)) / table.std(axis=0)
        return float(cross_val_score(RidgeClassifier(alpha=10.0), table, data.truth.extra[factor][known], cv=4).mean())

    assert probe("image", "tone") > 0.9
    assert probe("image", "pattern") > 0.5
    assert probe("text", "spirit") > 0.9
    assert probe("text", "making") > 0.9
    assert min(probe("image", "hue"), probe("text", "hue")) > 0.5
    chance = {"tone": 1 / 5, "pattern": 1 / 6, "spirit": 1 / 6, "making": 1 / 5, "feel": 1 / 8}
    for kind, hidden in (("image", ("spirit", "making", "feel")), ("text", ("tone", "pattern", "feel"))):
        for factor in hidden:
            assert probe(kind, factor) < chance[factor] + 0.08


def test_feature_scales_differ_as_documented() -> None:
    data = load("bazaar")
    length = {k: float(np.sqrt((v[~data.missing[k]] ** 2).sum(axis=1).mean())) for k, v in data.features.items()}
    assert 7 < length["image"] < 9
    assert 0.7 < length["text"] <= 1


def test_care_decides_between_picture_and_words() -> None:
    """Who cares for pictures takes things whose picture is to their taste, and the other way round."""
    data = load("bazaar")
    extra, care = data.truth.extra, data.truth.care

    def chosen(*factors: str) -> np.ndarray:
        score = sum(extra[f"taste_{f}"][:, extra[f]] for f in factors)
        score = score - score.mean(axis=1, keepdims=True)
        return score[extra["event_user"], extra["event_item"]]

    looks, reads = chosen("tone", "pattern"), chosen("spirit", "making")
    for mine, other, who in ((looks, reads, care[:, 0]), (reads, looks, care[:, 1])):
        rows = who[extra["event_user"]] > 0.75
        assert mine[rows].mean() > 1.0
        assert mine[rows].mean() > other[rows].mean() + 0.5


# -- what lessons will build on: rank quality, each with a wide margin ----------------------------------------------------
def recall(data, scores: np.ndarray, k: int = 20, items: np.ndarray | None = None) -> float:
    """Share of test interactions (with ``items``) found among the k best unseen items."""
    scores = np.asarray(scores, dtype=np.float64) + np.zeros((data.n_users, data.n_items))
    scores[data.train.users, data.train.items] = -np.inf
    scores[data.valid.users, data.valid.items] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hit = (best[data.test.users] == data.test.items[:, None]).any(axis=1)
    return float(hit.mean() if items is None else hit[items[data.test.items]].mean())


@pytest.mark.claim
def test_phenomena_are_there(capsys: pytest.CaptureFixture) -> None:
    data = load("bazaar")
    taken = data.matrix().toarray()

    def like_mine(*tables: np.ndarray) -> np.ndarray:
        unit = [t / np.maximum(np.linalg.norm(t, axis=1, keepdims=True), 1e-9) for t in tables]
        return sum(taken @ t @ t.T for t in unit)

    image, text = data.features["image"], data.features["text"]
    together = np.minimum(taken.T @ taken, 1e9)
    np.fill_diagonal(together, 0)
    counts = np.maximum(data.item_counts, 1)
    category = np.eye(data.truth.item_interest.max() + 1)[data.truth.item_interest]
    shuffled = np.random.default_rng(0).permutation(data.n_items)
    scores = {
        "chance": np.random.default_rng(0).random((data.n_users, data.n_items)),
        "popularity": data.item_counts.astype(float),
        "category share": taken @ category @ category.T + 1e-6 * np.random.default_rng(0).random(data.n_items),
        "category share x popularity": (taken @ category @ category.T) * data.item_counts,
        "item-kNN": taken @ (together / np.sqrt(np.outer(counts, counts))),
        "image": like_mine(image),
        "text": like_mine(text),
        "image and text": like_mine(image, text),
        "shuffled features": like_mine(image[shuffled], text[shuffled]),
        "oracle": data.truth.utility,
    }
    r = {name: recall(data, s) for name, s in scores.items()}
    cold = {name: recall(data, s, items=data.cold_items) for name, s in scores.items()}
    with capsys.disabled():
        print("\n" + "\n".join(f"{name:30s} recall@20 {r[name]:.3f}   cold items {cold[name]:.3f}" for name in scores))
    assert r["popularity"] > 2 * r["chance"]
    assert r["oracle"] > 4 * r["popularity"]
    assert r["item-kNN"] > r["category share x popularity"] + 0.03  # others' baskets know more than category and fame
    assert r["oracle"] > r["item-kNN"] + 0.08  # and leave something to find
    assert r["image and text"] > max(r["image"], r["text"]) + 0.02  # each knows something the other does not
    assert r["image and text"] > r["category share"] + 0.04  # content predicts beyond category
    assert r["shuffled features"] < 2 * r["chance"]
    assert cold["popularity"] == cold["item-kNN"] == 0
    assert cold["image and text"] > 5 * max(cold["chance"], 0.03)
    assert cold["oracle"] > cold["image and text"] + 0.2


# -- pieces ---------------------------------------------------------------------------------------------------------------
def test_every_category_can_be_drawn_and_told() -> None:
    drawn = [c for d in maker.DOMAINS.values() for c in d.categories]
    assert sorted(drawn) == sorted(pictures.SILHOUETTES) == sorted(maker.NOUNS)
    looks = [pictures.Look(c, "blue", "pastel", "dots", (0.5,) * 4, (0.9, 0.5, 0.5, 0.5), (0.0, 0.5, 0.5, 0.5)) for c in drawn]
    images = np.stack([pictures.draw(look) for look in looks])
    assert images.shape == (27, 48, 48, 3)
    gaps = np.abs(images[:, None].astype(int) - images[None]).mean(axis=(2, 3, 4))
    assert (gaps[~np.eye(27, dtype=bool)] > 5).all()  # no two silhouettes are alike


def test_words_of_different_meaning_never_coincide() -> None:
    groups = [*maker.SPIRITS.values(), *maker.MAKINGS.values(), *maker.NOUNS.values(), maker.HUES]
    groups.append(tuple({w for f in maker.FILLERS for w in f.split()}))
    words = [w for g in groups for w in g]
    assert len(set(words)) == len(words)
    told = set(words) | {"a", "an", "with", "soul", "for", "days", "and", "evenings"}
    used = {
        w
        for c in load("bazaar").captions
        for w in c.lower().replace(",", " ").replace(".", " ").replace(";", " ").replace(":", " ").split()
    }
    assert used <= told


@pytest.mark.parametrize("pattern", pictures.PATTERNS[1:])
def test_patterns_leave_room_for_both_colours(pattern: str) -> None:
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 120), np.linspace(-0.6, 0.6, 120))
    mask = pictures.pattern_mask(pattern, x, y)
    assert mask.min() == 0
    assert mask.max() == 1
    assert 0.1 < mask.mean() < 0.7


def test_signed_distances() -> None:
    at = np.array([0.0, 3.0]), np.array([0.0, 4.0])
    np.testing.assert_allclose(pictures.circle(*at, 0, 0, 1), [-1, 4])
    np.testing.assert_allclose(pictures.box(*at, 0, 0, 2, 1), [-1, np.hypot(1, 3)])
    np.testing.assert_allclose(pictures.line(*at, -1, 0, 1, 0, 0.5), [-0.5, np.hypot(2, 4) - 0.5])
    np.testing.assert_allclose(pictures.ring(*at, 0, 0, 5, 1), [4, -1])
    np.testing.assert_allclose(pictures.polygon(*at, (-1, -1), (1, -1), (1, 1), (-1, 1)), [-1, np.hypot(2, 3)])


def test_dice_are_fair_and_repeatable() -> None:
    a, b = maker.Dice(1, 2), maker.Dice(1, 2)
    assert np.array_equal(a.normal(50), b.normal(50))
    draws = maker.Dice(5).normal(20_000)
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.03
    assert np.array_equal(draws * maker.GRID, np.round(draws * maker.GRID))
    dice = maker.Dice(7)
    counts = np.bincount([dice.pick(np.array([1, 0, 3])) for _ in range(4000)], minlength=3)
    assert counts[1] == 0
    assert abs(counts[2] / 4000 - 0.75) < 0.03
    assert sorted(dice.order(9)) == list(range(9))


def test_default_split_keeps_its_rules() -> None:
    users = np.repeat(np.arange(20), 12)
    items = np.tile(np.arange(12), 20)
    cold = np.arange(12) >= 11
    split = maker.default_split(users, items, cold, seed=4)
    assert (split[cold[items]] > 0).all()
    for user in range(20):
        mine = split[(users == user) & ~cold[items]]
        assert (np.bincount(mine, minlength=3) == [9, 1, 1]).all()
    # an item known to a single user stays in training, whatever the draw
    items = items.copy()
    items[5] = 12
    for seed in range(20):
        split = maker.default_split(users, items, np.append(cold, False), seed)
        assert split[5] == 0


# -- features -------------------------------------------------------------------------------------------------------------
def test_fixed_signs() -> None:
    assert encode.fix_signs(np.array([[1.0, -3.0], [2.0, 1.0], [0.0, 0.0]])).tolist() == [-1, 1, 1]


def test_missing_rows_are_zero_and_do_not_matter() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    missing = np.arange(12) == 4
    one = encode.picture_features(images, missing, dim=6)
    images[4] = 7
    assert np.array_equal(one, encode.picture_features(images, missing, dim=6))
    assert one.shape == (12, 6)
    assert not one[4].any()
    text = encode.text_features(["red lamp", "red rug", "", "blue lamp", "blue rug lamp"], dim=3)
    assert not text[2].any()
    assert np.isfinite(text).all()


def test_blocks_have_their_documented_weight() -> None:
    images = load("bazaar").images[~load("bazaar").missing["image"]][:100]
    for block, weight in encode.BLOCKS.items():
        assert encode.describe_pictures(images, blocks=[block]).var(axis=0).sum() == pytest.approx(weight**2, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: encode.describe_pictures(np.zeros((2, 16, 16, 3))), "cannot describe these pictures"),
        (lambda: encode.describe_pictures(np.zeros((2, 8, 8, 3), dtype=np.uint8)), "at least 16"),
        (lambda: encode.describe_pictures(np.zeros((2, 16, 16, 3), dtype=np.uint8), blocks=["smell"]), "unknown block"),
        (lambda: encode.picture_features(np.zeros((1, 16, 16, 3), dtype=np.uint8)), "too few pictures"),
        (lambda: encode.text_features(["a lamp", "one rug"]), "no word occurs in two texts"),
        (lambda: encode.text_features(["a lamp", ""]), "too few texts"),
    ],
)
def test_what_cannot_be_encoded(call, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        call()
