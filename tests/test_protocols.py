"""Zero-shot, item-CF, mask-modality and the long-tail table, each against a version written with loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks import judge_features
from mmrec_teach.cli import main
from mmrec_teach.data import Dataset, Interactions
from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.evaluation import evaluate_scores, feature_sets, protocols
from mmrec_teach.evaluation.feature_sets import aligned, joined, noise, shuffled, unit_rows, with_table
from mmrec_teach.evaluation.long_tail import long_tail, tail_items
from mmrec_teach.evaluation.protocols import cf_partners, hidden, item_cf, last_events, mask_modality, rank_agreement, zero_shot


def timed(data: Dataset, seed: int = 0, upto: int = 1000) -> Dataset:
    """The same data with random times; few of them (``upto``) means many at the same moment."""
    rng = np.random.default_rng(seed)
    parts = [Interactions(p.users, p.items, rng.integers(0, upto, len(p))) for p in (data.train, data.valid, data.test)]
    return data.with_splits(*parts)


def dot(a, b) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def cosine(a, b) -> float:
    return dot(a, b) / (math.sqrt(dot(a, a)) * math.sqrt(dot(b, b)))


def place(query, table, target: int, left_out: set[int]) -> tuple[int, int]:
    """Rank of the target and number of candidates, by sorting."""
    candidates = [i for i in range(len(table)) if i not in left_out]
    if not any(query) or not any(table[target]):
        return 0, len(candidates)
    scored = [(-round(cosine(query, table[i]), 12), i) for i in candidates if any(table[i])]
    return 1 + sorted(scored).index((-round(cosine(query, table[target]), 12), target)), len(candidates)


def by_hand_zero_shot(table, data: Dataset, splits, length: str):
    out = []
    for user in range(data.n_users):
        events = []
        for number, name in enumerate(splits):
            part = data.split(name)
            for row in np.flatnonzero(part.users == user):
                events.append((int(part.timestamps[row]), number, int(row), int(part.items[row])))
        if len(events) < 2:
            continue
        *before, last = [event[3] for event in sorted(events)]
        vectors = [np.asarray(table[i], dtype=np.float64) for i in before]
        if length == "unit":
            vectors = [v / math.sqrt(dot(v, v)) if any(v) else v for v in vectors]
        out.append((user, last, *place(sum(vectors), table, last, set(before))))
    return out


@pytest.mark.parametrize("upto", [3, 100_000])
@pytest.mark.parametrize("length", ["own", "unit"])
@pytest.mark.parametrize("splits", [("train", "valid"), ("train", "valid", "test"), ("train",)])
def test_zero_shot_is_the_definition(tiny, splits, length, upto):
    data = timed(tiny, upto=upto)
    table = data.features["image"] * np.random.default_rng(1).uniform(0.2, 4, (data.n_items, 1))
    table[[3, 8, 20]] = 0
    table[5] = table[7]  # equal content: the lower index goes first
    told = zero_shot(table, data, splits=splits, length=length)
    wanted = by_hand_zero_shot(table, data, splits, length)
    assert list(zip(told.rows, told.targets, told.ranks, told.candidates, strict=True)) == wanted
    assert told.recall(3) == np.mean([0 < rank <= 3 for *_, rank, _ in wanted])
    assert told.chance(3) == pytest.approx(np.mean([3 / n for *_, n in wanted]))
    assert told.mute == np.mean([rank == 0 for *_, rank, _ in wanted])


def test_without_times_the_last_event_is_of_the_last_split_and_drawn(tiny):
    rng = np.random.default_rng(3)
    order = rng.permutation(len(tiny.test))
    data = tiny.with_splits(tiny.train, Interactions(tiny.test.users[order], tiny.test.items[order]), tiny.valid)
    drawn = set()
    for seed in range(8):
        users, targets, history = last_events(data, seed=seed)
        for user, target in zip(users, targets, strict=True):
            assert target in data.valid.items[data.valid.users == user]
        assert (
            history.sum(1)
            == [sum((data.train.users == u).sum() + (data.valid.users == u).sum() for u in [v]) - 1 for v in users]
        ).all()
        assert not history[np.arange(len(users)), targets].any()
        drawn.add(tuple(targets))
    assert len(drawn) > 1
    assert (last_events(data, seed=5)[1] == last_events(data, seed=5)[1]).all()


def test_features_that_tell_the_taste_are_found_and_noise_is_not(tiny):
    taste = np.where(np.arange(tiny.n_items) % 2 == 0, 1.0, -1.0)[:, None] * np.ones((1, 2))
    for judge in (zero_shot, item_cf):
        good = judge(taste + np.random.default_rng(0).normal(0, 0.1, (tiny.n_items, 2)), tiny)
        bad = judge(noise(taste, tiny.n_items), tiny)
        assert good.recall(20) > 0.95
        assert abs(bad.recall(20) - bad.chance(20)) < 0.25 < good.recall(20) - bad.recall(20)
        low, high = good.interval(20)
        assert low <= good.recall(20) <= high


def by_hand_partners(data: Dataset, splits, min_common: int):
    buyers = [set() for _ in range(data.n_items)]
    for name in splits:
        for user, item in zip(data.split(name).users, data.split(name).items, strict=True):
            buyers[item].add(int(user))
    out = []
    for i in range(data.n_items):
        best = []
        for j in range(data.n_items):
            common = len(buyers[i] & buyers[j])
            if j != i and common >= min_common:
                best.append((-round(common / math.sqrt(len(buyers[i]) * len(buyers[j])), 12), -common, j))
        if best:
            out.append((i, min(best)[2], -min(best)[0]))
    return out


@pytest.mark.parametrize(("splits", "min_common"), [(("train",), 1), (("train", "valid"), 2), (("train", "valid", "test"), 3)])
def test_item_cf_is_the_definition(tiny, splits, min_common):
    wanted = by_hand_partners(tiny, splits, min_common)
    items, partners, scores = cf_partners(tiny, splits, min_common)
    assert list(zip(items, partners, strict=True)) == [(i, j) for i, j, _ in wanted]
    np.testing.assert_allclose(scores, [s for *_, s in wanted], atol=1e-10)
    table = tiny.features["text"].copy()
    table[[2, 9]] = 0
    table[11] = table[4]
    told = item_cf(table, tiny, splits=splits, min_common=min_common)
    ranks = [place(table[i], table, j, {i}) for i, j, _ in wanted]
    assert list(zip(told.ranks, told.candidates, strict=True)) == ranks
    if splits == ("train",):
        assert not np.isin(told.rows, np.flatnonzero(tiny.cold_items)).any()


def test_blocks_change_nothing(tiny, monkeypatch):
    data = timed(tiny)
    before = [judge(data.features["image"], data).ranks for judge in (zero_shot, item_cf)]
    monkeypatch.setattr(protocols, "_BLOCK", 3 * data.n_items)
    after = [judge(data.features["image"], data).ranks for judge in (zero_shot, item_cf)]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ties_at_random_treat_equals_alike(tiny):
    same = np.ones((tiny.n_items, 2))
    places = np.concatenate([item_cf(same, tiny, ties="random", seed=seed).ranks for seed in range(40)])
    assert places.min() == 1
    assert places.max() == tiny.n_items - 1
    assert abs(places.mean() - tiny.n_items / 2) < 1
    told = item_cf(same, tiny)
    assert (told.ranks == 1 + told.targets - (told.rows < told.targets)).all(), "by index otherwise"


def test_an_item_without_content_is_never_found_and_counts_as_a_miss(tiny):
    table = tiny.features["image"].copy()
    whole = item_cf(table, tiny)
    table[whole.targets[0]] = 0
    told = item_cf(table, tiny)
    assert len(told) == len(whole), "every feature set is judged on the same rows"
    gone = (told.targets == whole.targets[0]) | (told.rows == whole.targets[0])
    assert (told.ranks[gone] == 0).all()
    assert (told.ranks[~gone] > 0).all()
    nothing = zero_shot(np.zeros_like(table), tiny)
    assert nothing.mute == 1
    assert nothing.recall(40) == 0


# -- feature sets and mask-modality -----------------------------------------------------------------------------------------
def test_joined_hides_block_by_block(tiny):
    mask = np.arange(tiny.n_items) % 3 == 0
    for scaling in feature_sets.SCALINGS:
        features = joined(tiny, ("text", "image"), scaling)
        whole, less = features(), features(hide={"image": mask})
        own = {name: unit_rows(t) if scaling == "unit" else t for name, t in tiny.features.items()}
        np.testing.assert_allclose(whole, np.hstack([own["text"], own["image"]]), atol=1e-12)
        assert not less[mask, 5:].any()
        np.testing.assert_array_equal(less[~mask], whole[~mask])
        np.testing.assert_array_equal(less[:, :5], whole[:, :5])
    assert joined(tiny, "image")().shape == (tiny.n_items, 8)


def test_shuffled_and_noise_keep_who_has_content(tiny):
    table = tiny.features["image"].copy()
    table[[0, 7]] = 0
    for other in (shuffled(table, tiny.n_items), noise(table, tiny.n_items)):
        np.testing.assert_array_equal(other.any(1), table.any(1))
        assert not np.allclose(other, table)
    np.testing.assert_allclose(np.sort(shuffled(table, tiny.n_items), axis=0), np.sort(table, axis=0))
    data = with_table(tiny, table)
    assert data.modalities == ("content",)
    assert np.flatnonzero(data.missing["content"]).tolist() == [0, 7]


def test_aligned_tables_meet_in_one_space():
    rng = np.random.default_rng(0)
    hidden_truth = rng.normal(size=(300, 3))
    data = _with_tables(
        hidden_truth @ rng.normal(size=(3, 12)) + rng.normal(size=(300, 12)),
        hidden_truth @ rng.normal(size=(3, 9)) + rng.normal(size=(300, 9)),
    )
    everyone, nobody = np.ones(300, dtype=bool), np.zeros(300, dtype=bool)
    features = aligned(data, dim=3)
    picture, words = (features({other: everyone}) for other in ("text", "image"))
    own, foreign = np.sum(picture * words, axis=1), np.sum(picture * np.roll(words, 1, axis=0), axis=1)
    assert own.mean() > foreign.mean() + 0.5
    np.testing.assert_allclose(features(), (picture + words) / 2, atol=1e-12)
    np.testing.assert_array_equal(features({"image": nobody}), features())
    with pytest.raises(OptionError, match="two modalities"):
        aligned(data, ("image",))


def _with_tables(image: np.ndarray, text: np.ndarray) -> Dataset:
    from tests.conftest import make_tiny

    data = make_tiny(n_items=len(image))
    return data.with_features({"image": image.astype(np.float32), "text": text.astype(np.float32)})


def test_hidden_items_are_nested_and_had_the_modality(tiny):
    data = Switches(missing=0.2).apply(tiny)
    few, many, all_of_them = (hidden(data, "image", share, seed=4) for share in (0.25, 0.5, 1.0))
    assert few.sum() == round(0.25 * (~data.missing["image"]).sum())
    assert (many | ~few).all()
    np.testing.assert_array_equal(all_of_them, ~data.missing["image"])
    assert (hidden(data, "image", 0.25, seed=5) != few).any()


def test_mask_modality_is_the_difference_of_two_judgements(tiny):
    features = joined(tiny)
    table = mask_modality(features, tiny, "item-cf", shares=(0.5, 1.0), seeds=(0, 3), k=5)
    assert len(table) == 2 * 2 * 2
    for row in table.itertuples():
        less = features({row.modality: hidden(tiny, row.modality, row.share, row.seed)})
        assert row.whole == item_cf(features(), tiny).recall(5)
        assert row.hidden == item_cf(less, tiny).recall(5)
        assert row.drop == pytest.approx(row.whole - row.hidden)
        assert row.low <= row.drop <= row.high
    other = {"image": "text", "text": "image"}
    for name in tiny.modalities:
        gone = table[(table["modality"] == name) & (table["share"] == 1)]
        assert gone["hidden"].tolist() == [item_cf(tiny.features[other[name]], tiny).recall(5)] * 2
    judged = mask_modality(features, tiny, lambda t: t[:, 0], modalities=("text",), shares=(1.0,), seeds=(0,))
    assert judged["drop"].tolist() == [0.0], "image comes first, and stays"


def test_rank_agreement():
    rng = np.random.default_rng(0)
    good = [rng.random(400) < p for p in (0.2, 0.4, 0.6, 0.8)]
    told = rank_agreement(good, [rng.random(300) < p for p in (0.1, 0.3, 0.5, 0.7)], n_boot=200)
    assert (told["tau"], told["agreeing"], told["pairs"], told["sets"]) == (1.0, 6, 6, 4)
    assert told["low"] == told["high"] == 1.0
    assert rank_agreement(good, good[::-1], n_boot=20)["tau"] == -1.0
    unsure = rank_agreement([rng.random(50) < 0.5 for _ in range(4)], [rng.random(50) < 0.5 for _ in range(4)], n_boot=200)
    assert unsure["low"] < unsure["tau"] < unsure["high"]
    assert unsure["high"] - unsure["low"] > 0.8, "sets that cannot be told apart have no certain order"


def test_what_cannot_be_judged_is_refused(tiny):
    table = tiny.features["image"]
    broken = table.copy()
    broken[4, 0] = np.nan
    for complaint, error, call in (
        ("row 4", DataError, lambda: zero_shot(broken, tiny)),
        (r"\(39, 8\).*\(40, d\)", DataError, lambda: item_cf(table[:-1], tiny)),
        ("no modalities to hide", OptionError, lambda: mask_modality(table, tiny)),
        ("length=", OptionError, lambda: zero_shot(table, tiny, length="long")),
        ("ties=", OptionError, lambda: item_cf(table, tiny, ties="first")),
        ("judge=", OptionError, lambda: mask_modality(joined(tiny), tiny, "final")),
        ("from 0 to 1", OptionError, lambda: hidden(tiny, "image", 1.5)),
        ("unknown modality", OptionError, lambda: hidden(tiny, "audio", 0.5)),
        ("unknown modality", OptionError, lambda: joined(tiny, "audio")),
        ("unit or raw", OptionError, lambda: joined(tiny, scaling="sphere")),
        ("no splits", OptionError, lambda: zero_shot(table, tiny, splits=())),
        ("unknown split", DataError, lambda: item_cf(table, tiny, splits=("training",))),
        ("1 or more", OptionError, lambda: item_cf(table, tiny, min_common=0)),
        ("share a buyer", DataError, lambda: item_cf(table, tiny, min_common=1000)),
        ("at least 1", OptionError, lambda: zero_shot(table, tiny).recall(0)),
        ("2 or more", OptionError, lambda: rank_agreement([np.ones(3)], [np.ones(3)])),
    ):
        with pytest.raises(error, match=complaint):
            call()


def test_an_encoder_joins_the_data_set_s_own_tables(tiny):
    class Encoder:
        def vectors(self, data, *, hide=None):
            return joined(data)(hide)

    sets = feature_sets.of_data(tiny, encoder=Encoder())
    assert list(sets) == ["image", "text", "joined, unit", "joined, raw", "mmenc"]
    table = protocols.judge_table(sets, tiny, k=5, hide=1.0, seeds=(0,))
    for column in ("zero-shot@5", "item-cf@5", "hide image", "hide text"):
        assert table[column]["mmenc"] == table[column]["joined, unit"]


# -- the long tail ------------------------------------------------------------------------------------------------------------
def test_the_tail_is_what_is_not_the_head():
    assert np.flatnonzero(~tail_items(np.array([5, 9, 9, 1, 9, 0, 2, 2, 2, 2]), 0.2)).tolist() == [1, 2]
    assert tail_items(np.array([3, 1]), 0.01).tolist() == [False, True], "one item at least"
    with pytest.raises(OptionError, match="between 0 and 1"):
        tail_items(np.ones(3), 1.0)


def test_the_long_tail_table_counts_what_is_in_the_lists(tiny):
    rng = np.random.default_rng(0)
    results = [evaluate_scores(rng.random((tiny.n_users, tiny.n_items)), tiny, "test", ks=(5,)) for _ in range(2)]
    table = long_tail({"chance": results, "popular": evaluate_scores(tiny.item_counts, tiny, "test", ks=(5,))}, k=5)
    assert table["model"].tolist() == ["chance", "chance", "popular"]
    tail = tail_items(tiny.item_counts)
    for row, result in zip(table.to_dict("records"), results, strict=False):
        shown = [int(i) for line in result.topk[:, :5] for i in line]
        assert row["reach@5"] == len(set(shown)) / tiny.n_items
        assert row["tail reach@5"] == len({i for i in shown if tail[i]}) / tail.sum()
        assert row["tail share@5"] == sum(tail[i] for i in shown) / len(shown)
        cold = [
            item in result.topk[list(result.users).index(user), :5]
            for user, item in zip(tiny.test.users, tiny.test.items, strict=True)
            if tiny.cold_items[item]
        ]
        assert row["found cold"] == np.mean(cold)
        assert row["recall@5"] == result.mean("recall@5")
    assert table["tail share@5"].iloc[2] < table["tail share@5"].iloc[:2].min(), "popularity shows the head"
    assert table.attrs["tail items"] == 0.8
    assert table.attrs["tail purchases"] == tail[tiny.test.items].mean()
    assert sum(items for items, _ in table.attrs["buckets"].values()) == tiny.n_items
    with pytest.raises(OptionError, match="nothing to compare"):
        long_tail({})


# -- the command --------------------------------------------------------------------------------------------------------------
def test_the_command_prints_the_table(tmp_path, capsys, bazaar):
    np.save(tmp_path / "mine.npy", bazaar.features["text"][:, :8])
    assert (
        main(["judge", "--features", f"mine={tmp_path / 'mine.npy'}", "--seeds", "1", "--json", str(tmp_path / "t.json")]) == 0
    )
    printed = capsys.readouterr().out
    rows = {row["features"]: row for row in json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["rows"]}
    assert {"image", "text", "joined, unit", "joined, raw", "mine"} <= rows.keys()
    told = zero_shot(joined(bazaar), bazaar)
    assert rows["joined, unit"]["zero-shot@20"] == told.recall(20)
    assert f"{told.recall(20):.3f} (" in printed
    assert rows["mine"]["dim"] == 8
    assert rows["mine"]["hide text"] is None
    assert rows["text"]["hide image"] == 0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [("mine", "NAME=FILE.npy"), ("mine=nowhere.npy", "no such file"), ("image={}", "name is taken"), ("mine={}", "3, 2")],
)
def test_the_command_refuses_in_a_sentence(tmp_path, capsys, given, complaint):
    np.save(tmp_path / "small.npy", np.ones((3, 2)))
    assert main(["judge", "--features", given.format(tmp_path / "small.npy")]) == 2
    assert complaint in capsys.readouterr().err


# -- the study in benchmarks/results ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def study() -> dict:
    """What `python benchmarks/judge_features.py` found."""
    return json.loads(judge_features.RESULT.read_text(encoding="utf-8"))


def agreements(study: dict, **wanted: str) -> list[dict]:
    return [a for a in study["agreement"] if all(a[key] == value for key, value in wanted.items())]


def finals(study: dict, model: str, items: str = "all") -> dict[str, float]:
    (found,) = (m for m in study["models"] if m["model"] == model)
    return {row["features"]: row[items]["mean"] for row in found["rows"]}


def test_the_study_s_protocols_are_those_of_the_package(study, bazaar):
    rows = {row["features"]: row for row in study["sets"]}
    for name, features in (
        ("image", joined(bazaar, "image")),
        ("joined, unit", joined(bazaar)),
        ("joined, raw", joined(bazaar, scaling="raw")),
    ):
        table = unit_rows(features())
        assert rows[name]["zero-shot"]["recall@20"] == pytest.approx(zero_shot(table, bazaar).recall(20), abs=0.003)
        assert rows[name]["item-cf"]["recall@20"] == pytest.approx(item_cf(table, bazaar).recall(20), abs=0.006)


def test_the_study_finds_that_the_best_set_is_recognised(study):
    for protocol in protocols.PROTOCOLS:
        judged = {row["features"]: row[protocol]["recall@20"] for row in study["sets"]}
        assert max(judged, key=judged.get) == "joined, unit"
    for model in ("vbpr", "freedom"):
        final = finals(study, model)
        assert max(final, key=final.get) == "joined, unit"


def test_the_study_finds_agreement_only_where_features_decide(study):
    vbpr, freedom = finals(study, "vbpr"), finals(study, "freedom")
    assert max(freedom.values()) - min(freedom.values()) < 0.03 < 0.1 < max(vbpr.values()) - min(vbpr.values())
    for protocol in protocols.PROTOCOLS:
        (all_sets,) = agreements(study, protocol=protocol, model="vbpr", items="all", over="all sets")
        assert all_sets["low"] > 0.2
        (freedom_all,) = agreements(study, protocol=protocol, model="freedom", items="all", over="sets with content")
        assert freedom_all["low"] < 0 < freedom_all["high"], "nothing to agree about"
        (new,) = agreements(study, protocol=protocol, model="freedom", items="cold", over="all sets")
        assert new["low"] > 0.3, "for cold items there is"


def test_the_study_finds_that_controls_flatter_a_judge(study):
    for protocol in protocols.PROTOCOLS:
        for model, items in (("vbpr", "all"), ("vbpr", "cold"), ("freedom", "cold"), ("alignrec", "cold")):
            with_controls, without = (
                agreements(study, protocol=protocol, model=model, items=items, over=over)[0]["tau"]
                for over in ("all sets", "sets with content")
            )
            assert with_controls > without


def test_the_study_s_encoder_is_judged_last_and_is_last(study):
    rows = [row for row in study["sets"] if row["features"] not in judge_features.EMPTY]
    orders = [{row["features"]: row[protocol]["recall@20"] for row in rows} for protocol in protocols.PROTOCOLS]
    orders += [{row["features"]: finals(study, "vbpr", items)[row["features"]] for row in rows} for items in ("all", "cold")]
    for order in orders:
        assert min(order, key=order.get) == "mmenc"


def test_the_study_s_long_tail(study):
    rows = {row["model"]: row["mean"] for row in study["long_tail"]["rows"]}
    for name in ("vbpr", "alignrec"):
        assert rows[name]["found cold"] > 0.2 > rows["lightgcn"]["found cold"]
        assert rows[name]["reach@20"] > 0.95 > 0.9 > max(rows["lightgcn"]["reach@20"], rows["bm3"]["reach@20"])
    assert rows["lightgcn"]["recall@20"] == max(row["recall@20"] for row in rows.values()), "and finds most over all items"
