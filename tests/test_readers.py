"""Opening real data: the three forms, their options, and the four real sets where they are at hand."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmrec_teach.data import Dataset, Interactions, describe, load, readers
from mmrec_teach.data.readers import images, items


def pairs(part: Interactions) -> set[tuple[int, int]]:
    return set(zip(part.users.tolist(), part.items.tolist()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


# -- MMRec ----------------------------------------------------------------------------------------------------------------
INTER = "userID\titemID\trating\ttimestamp\tx_label\n0\t0\t5.0\t30\t0\n0\t2\t4.0\t10\t1\n0\t1\t3.0\t20\t2\n2\t1\t1.0\t40\t0\n"


def test_mmrec_rows_keep_their_index_and_untouched_items_stay(folder: Path) -> None:
    (folder / "shop.inter").write_text(INTER)
    table = np.arange(8, dtype=np.float16).reshape(4, 2)
    table[2] = 0
    np.save(folder / "image_feat.npy", table)
    (folder / "user_graph_dict.npy").write_bytes(b"\x80 a pickle that belongs to somebody else")
    data = load(folder)
    assert data.name == "shop"
    assert data.item_ids.tolist() == ["0", "1", "2", "3"]
    assert data.user_ids.tolist() == ["0", "2"]  # users have no rows anywhere, so theirs close up
    assert (pairs(data.train), pairs(data.valid), pairs(data.test)) == ({(0, 0), (1, 1)}, {(0, 2)}, {(0, 1)})
    assert data.train.timestamps.tolist() == [30, 40]
    assert data.features["image"].tolist() == table.tolist()
    assert data.missing["image"].tolist() == [False, False, True, False]
    assert data.cold_items.tolist() == [False, False, True, True]


def test_mmrec_windows_line_ends_byte_order_mark_and_blank_lines(folder: Path) -> None:
    plain = folder / "shop.inter"
    plain.write_text(INTER)
    expected = load(folder)
    plain.write_bytes(b"\xef\xbb\xbf" + INTER.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    again = load(plain)  # the path of the file itself
    assert pairs(again.train) == pairs(expected.train)
    assert again.test.timestamps.tolist() == [20]


def test_mmrec_without_features_closes_gaps_in_item_ids(folder: Path) -> None:
    (folder / "shop.inter").write_text(INTER.replace("2\t1\t1.0", "2\t900\t1.0"))
    assert load(folder).item_ids.tolist() == ["0", "1", "2", "900"]


def test_mmrec_cold_users_leave_and_the_source_says_so(folder: Path) -> None:
    (folder / "shop.inter").write_text(INTER + "7\t0\t1.0\t50\t2\n")
    data = load(folder)
    assert len(data.test) == 1
    assert "1 rows of users without training interactions left out of valid and test" in data.source


def test_mmrec_can_be_split_anew(folder: Path) -> None:
    (folder / "shop.inter").write_text(INTER)
    data = load(folder, split="user-time")
    assert data.test.items.tolist() == [0]  # the latest of user 0
    assert "by time within each user" in data.source


# -- the atomic form ------------------------------------------------------------------------------------------------------
def write_histories(folder: Path, most: int = 50) -> dict[str, list[str]]:
    """Write sequences as histories of at most ``most`` items, as UniSRec does, and return them."""
    sequences = {"ann": list("ABCDEFG"), "bob": list("CABAD"), "eve": list("FGA")}
    index = {item: str(k) for k, item in enumerate("ABCDEFG")}
    lines: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user, sequence in enumerate(sequences.values()):
        for end in range(len(sequence) - 1, 0, -1):
            split = {0: "test", 1: "valid"}.get(len(sequence) - 1 - end, "train")
            history = " ".join(index[i] for i in sequence[max(0, end - most) : end])
            lines[split].append(f"{user}\t{history}\t{index[sequence[end]]}")
    for split, rows in lines.items():
        (folder / f"S.{split}.inter").write_text(
            "\n".join(["user_id:token\titem_id_list:token_seq\titem_id:token", *rows]) + "\n"
        )
    (folder / "S.item2index").write_text("".join(f"{i}\t{k}\n" for i, k in index.items()))
    (folder / "S.user2index").write_text("".join(f"{u}\t{k}\n" for k, u in enumerate(sequences)))
    (folder / "S.text").write_text('item_id:token\ttext:token_seq\nB\ta "red" lamp\nA\tNULL\n')
    return sequences


def in_order(data: Dataset) -> dict[str, list[str]]:
    """Return each user's items over all splits, in order of time."""
    every = Interactions.concatenate(data.train, data.valid, data.test)
    order = np.lexsort((every.timestamps, every.users))
    result: dict[str, list[str]] = {}
    for row in order:
        result.setdefault(str(data.user_ids[every.users[row]]), []).append(str(data.item_ids[every.items[row]]))
    return result


@pytest.mark.parametrize("most", [50, 3, 2, 1])
def test_histories_come_back_in_order_even_if_they_were_cut(folder: Path, most: int) -> None:
    sequences = write_histories(folder, most)
    if most == 1:  # nothing but pairs of neighbours is left: repeats make the chain ambiguous, so leave them out
        sequences = {u: s for u, s in sequences.items() if u != "bob"}
    data = load(folder)
    found = in_order(data)
    for user, sequence in sequences.items():
        assert found[user] == list(dict.fromkeys(sequence))
    assert data.time_is_order
    assert pairs(data.test) >= {(0, 6), (2, 0)}


def test_repeats_the_first_counts_or_the_last(folder: Path) -> None:
    write_histories(folder)
    first, last = load(folder), load(folder, repeats="last")
    assert in_order(first)["bob"] == list("CABD")
    assert in_order(last)["bob"] == list("CBAD")
    assert [len(d.valid) for d in (first, last)] == [2, 3]  # bob's validation item is the A he had before
    assert "1 repeats left out (of a repeated pair the first counts)" in first.source


def test_texts_and_raw_features_follow_item2index(folder: Path) -> None:
    write_histories(folder)
    table = np.arange(21, dtype="<f4").reshape(7, 3)
    table[4] = 0
    table.tofile(folder / "S.feat1CLS")
    (-table[:, :2]).astype("<f4").tofile(folder / "S.feat3CLS")
    np.ones(5, dtype="<f4").tofile(folder / "S.feat2CLS")  # the word-drop twin: not read
    data = load(folder)
    assert data.item_ids.tolist() == list("ABCDEFG")
    assert data.captions == ("NULL", 'a "red" lamp', "", "", "", "", "")
    assert data.features["text"].tolist() == table.tolist()
    assert data.features["image"].shape == (7, 2)
    assert data.missing["text"].tolist() == [False] * 4 + [True] + [False] * 2


def test_one_file_of_rows_with_item_columns(folder: Path) -> None:
    rows = [f"u{u}\ti{i}\t{1 + i % 5}\t{100 + 10 * u - i}.5" for u in range(3) for i in range(12)]
    (folder / "ml.inter").write_text("\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows]))
    (folder / "ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\ni3\tHeat\tCrime, Drama\ni99\tno one\tx\n"
    )
    data = load(folder, split="leave-one-out", rating_threshold=2)
    assert (data.n_users, data.n_items) == (3, 9)  # i0, i5 and i10 are rated 1
    assert [str(data.item_ids[i]) for i in data.test.items] == ["i1"] * 3  # the latest: time runs against the id
    row = data.items.set_index("item_id").loc["i3"]
    assert (row.title, row.category) == ("Heat", "Crime")
    assert "9 ratings below 2 left out" in data.source
    assert not data.time_is_order


def test_three_files_of_rows_keep_their_split(folder: Path) -> None:
    for split, row in (("train", "a\tx"), ("valid", "a\ty"), ("test", "a\tz")):
        (folder / f"P.{split}.inter").write_text(f"user_id:token\titem_id:token\n{row}\n")
    data = load(folder)
    assert [data.item_ids[data.split(s).items[0]] for s in ("train", "valid", "test")] == ["x", "y", "z"]


# -- raw tables -----------------------------------------------------------------------------------------------------------
def write_raw(folder: Path) -> None:
    rows = [(u, i, 1 + (u + i) % 5, 1_000_000_000 + 86_400 * (3 * u + i)) for u in range(5) for i in range(12)]
    pd.DataFrame(rows, columns=["userID", "itemID", "rating", "timestamp"]).to_csv(folder / "ratings.csv", index=False)
    words = ["lamp", "cup", "red", "blue", "green", "old"]
    with (folder / "items.jsonl").open("w") as file:
        for i in range(14):
            record = {"itemID": i, "title": f"The {words[i % 2]}", "genres": [words[2 + i % 3], "other"], "price": i / 2}
            if i % 4:
                record["plot"] = f"{words[2 + i % 3]} {words[i % 2]}, very {words[5]}"
            if i != 5:
                record["poster"] = f"posters/{i}.png"
            file.write(json.dumps(record) + "\n")
    (folder / "posters").mkdir()
    for i in range(13):
        pixels = np.random.default_rng(i).integers(0, 255, (24, 18, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "posters" / f"{i}.png")


def test_raw_tables_texts_and_pictures(folder: Path) -> None:
    write_raw(folder)
    data = load(folder)
    assert (data.name, data.n_users, data.n_items, data.n_interactions) == ("shop", 5, 14, 60)
    assert data.items.columns[:4].tolist() == ["item_id", "title", "category", "caption"]
    assert data.items.category[:3].tolist() == ["red", "blue", "green"]
    assert data.captions[:2] == ("The lamp", "blue cup, very old")
    assert data.images.shape == (14, 24, 18, 3)
    assert np.array_equal(data.images[3], np.asarray(Image.open(folder / "posters" / "3.png")))
    assert np.flatnonzero(data.missing["image"]).tolist() == [5, 13]  # one is not named, one is named and not there
    assert not data.images[5].any()
    assert "1 of the pictures named do not exist" in data.source
    assert set(data.modalities) == {"image", "text"}
    assert not data.missing["text"].any()
    assert not data.features["image"][5].any()
    assert (len(data.valid), len(data.test)) == (5, 5)


def test_raw_forms_say_the_same(folder: Path, tmp_path: Path) -> None:
    write_raw(folder)
    table = pd.read_csv(folder / "ratings.csv")
    options = {"encoder": None, "image_encoder": None}
    expected = load(folder, **options)
    for write in (
        lambda f: table.to_csv(f / "r.tsv", sep="\t", index=False),
        lambda f: table.to_json(f / "r.jsonl", orient="records", lines=True),
        lambda f: table.to_parquet(f / "r.parquet"),
        lambda f: table.assign(timestamp=pd.to_datetime(table.timestamp, unit="s")).to_parquet(f / "r.parquet"),
        lambda f: table.rename(columns={"userID": "reviewer_id", "itemID": "ASIN"}).to_csv(f / "r.csv", index=False),
    ):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        write(other)
        data = load(other)
        assert pairs(data.train) == pairs(expected.train)
        assert np.array_equal(data.test.timestamps, expected.test.timestamps)
        for file in other.iterdir():
            file.unlink()


def test_raw_filters_and_columns(folder: Path) -> None:
    write_raw(folder)
    (folder / "ratings.csv").write_text(
        'reader,book,liked,when\nann,"1",5,1\nann,2,4,2\nann,2,5,9\nann,3,1,3\nbob,1,4,4\nbob,2,4,5\n"eve, jr",2,5,6\n'
    )
    (folder / "items.jsonl").unlink()
    columns = {"user": "reader", "item": "book", "rating": "liked", "timestamp": "when"}
    data = load(folder, columns=columns, rating_threshold=4, k_core=2, image_encoder=None)
    assert data.user_ids.tolist() == ["ann", "bob"]
    assert data.item_ids.tolist() == ["1", "2"]
    assert data.n_interactions == 4
    assert data.images.shape == (2, 24, 18, 3)  # pictures found by the items' ids
    for note in ("1 ratings below 4", "1 repeats left out", "1 interactions outside the 2-core"):
        assert note in data.source
    everyone = load(folder, columns=columns, image_encoder=None)
    assert "eve, jr" in everyone.user_ids
    times = dict(zip(zip(everyone.train.users.tolist(), everyone.train.items.tolist()), everyone.train.timestamps.tolist()))
    assert 9 not in times.values()  # of ann's two times book 2, the first counts


def test_raw_k_core_leaves_out_items_nobody_took_and_no_k_core_keeps_them(folder: Path) -> None:
    write_raw(folder)
    assert load(folder, encoder=None, image_encoder=None).n_items == 14
    data = load(folder, encoder=None, image_encoder=None, k_core=(1, 5))
    assert data.n_items == 12
    assert data.items.item_id.tolist() == data.item_ids.tolist()


def test_pictures_of_many_forms_are_scaled_alike(tmp_path: Path) -> None:
    forms = [("a.png", "RGBA", (40, 30)), ("b.jpg", "L", (500, 300)), ("c.gif", "P", (20, 20)), ("d.webp", "RGB", (64, 64))]
    for name, mode, size in forms:
        Image.new("RGB", size, (200, 100, 50)).convert(mode).save(tmp_path / name)
    paths = [tmp_path / f[0] for f in forms] + [None, tmp_path / "gone.png"]
    pictures, missing, size = images.read_pictures(paths)
    assert (pictures.shape, size) == ((6, 64, 64, 3), (64, 64))
    assert missing.tolist() == [False] * 4 + [True] * 2
    off = np.abs(pictures.astype(int) - [200, 100, 50]).max(axis=(1, 2, 3))
    assert off[[0, 3]].max() <= 12
    assert off[2] <= 52  # the palette of a GIF has steps of 51
    assert images.read_pictures(paths, (20, 30))[0].shape == (6, 20, 30, 3)


def test_an_encoder_from_sentence_transformers_is_used_for_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, name: str):
            assert name == "some/model"

        def encode(self, content: list, show_progress_bar: bool) -> np.ndarray:
            return np.array([[len(c), 1.0] if isinstance(c, str) else [*c.size] for c in content])

    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = Fake
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    write_raw(folder)
    name = "sentence-transformers:some/model"
    data = load(folder, encoder=name, image_encoder=name)
    assert data.features["text"][0].tolist() == [len("The lamp"), 1]
    assert data.features["image"][0].tolist() == [18, 24]
    assert not data.features["image"][5].any()


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("genres", ["Drama War", "Sci-Fi", ""], ["Drama", "Sci-Fi", ""]),
        ("genres", ["Drama|War", "Film Noir|Crime"], ["Drama", "Film Noir"]),
        ("category", ["Garden tools", "Cups"], ["Garden tools", "Cups"]),
        ("categories", ["Industrial & Scientific", "Tools"], ["Industrial & Scientific", "Tools"]),
        ("class", ["Crime, Drama", "War"], ["Crime", "War"]),
    ],
)
def test_the_first_category(column: str, values: list[str], expected: list[str]) -> None:
    assert items.first_category(np.array(values, dtype=object), column).tolist() == expected


# -- describe -------------------------------------------------------------------------------------------------------------
def described(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    from mmrec_teach.cli import main

    assert main(["data", "describe", *argv]) == 0
    return capsys.readouterr().out


def test_summary_numbers(tiny: Dataset) -> None:
    numbers = describe.summarize(tiny)
    assert (numbers["users"], numbers["items"], numbers["cold_items"]) == (30, 40, 2)
    assert numbers["interactions"] == sum(s["interactions"] for s in numbers["splits"].values()) == tiny.n_interactions
    assert numbers["sparsity"] == 1 - tiny.n_interactions / 1200
    assert numbers["cold_rows"] == {"valid": 0, "test": 30}
    assert numbers["modalities"] == {"image": {"dim": 8, "missing": 0}, "text": {"dim": 5, "missing": 0}}
    assert numbers["per_item"]["least"] == 0
    assert numbers["per_user"]["most"] == tiny.user_counts.max()
    assert json.loads(json.dumps(numbers)) == numbers


def test_describe_prints_tables_and_the_long_tail(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_raw(folder)
    page = tmp_path / "tail.html"
    text = described([str(folder), "--k-core", "2", "--column", "user=userID", "--html", str(page)], capsys)
    for piece in ("shop", "24 x 18 pixels", "2001-09-09", "train", "image", "Long tail", "rank 12"):
        assert piece in text
    assert "┤" in text
    content = page.read_text()
    assert "<html" in content
    assert "most taken first" in content
    assert "<script src=" not in content  # nothing is fetched from anywhere
    assert '"showSendToCloud": false' in content  # and no button sends the figure anywhere
    assert json.loads(described([str(folder), "--json"], capsys))["items"] == 14
    assert "Long tail" not in described([str(folder), "--no-plot"], capsys)


def test_describe_breaks_no_label_in_a_terminal_of_80_columns(bazaar: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    describe.print_summary(bazaar, plot=False, width=80)
    lines = capsys.readouterr().out.splitlines()
    for label, value in describe._size_rows(describe.summarize(bazaar)):
        assert any(label in line and value in line for line in lines), label


def test_describe_says_what_is_wrong_and_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmrec_teach.cli import main

    assert main(["data", "describe", str(folder), "--column", "user"]) == 2
    assert (
        capsys.readouterr().err
        == "--column: not a column mapping (found 'user', expected ROLE=NAME, for example user=reader).\n"
    )
    assert main(["data", "describe", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "no interactions found" in captured.err
    assert not captured.out


def test_describe_the_bazaar(capsys: pytest.CaptureFixture[str], bazaar: Dataset) -> None:
    text = described(["bazaar"], capsys)
    assert f"{bazaar.n_interactions:,}" in text
    assert "planted truth" in text


def test_the_plot_falls_from_left_to_right(tiny: Dataset) -> None:
    lines = describe.long_tail_plot(tiny, width=60).splitlines()
    body = [line.partition("┤")[2] or line.partition("│")[2] for line in lines if "┤" in line or "│" in line]
    filled = [(row, column) for row, line in enumerate(body) for column, c in enumerate(line) if c != "\u2800"]
    first = [min(row for row, column in filled if column == c) for c in sorted({column for _, column in filled})]
    assert first == sorted(first)
    assert "2 more items have none" in lines[-1]


# -- the real sets --------------------------------------------------------------------------------------------------------
@pytest.mark.real
def test_baby_is_the_published_split(real_data: Path) -> None:
    data = load(real_data / "amazon-baby")
    assert (data.n_users, data.n_items, len(data.train), len(data.valid), len(data.test)) == (19445, 7050, 118551, 20559, 21682)
    assert data.features["image"].shape == data.features["text"].shape == (7050, 256)
    assert np.array_equal(data.item_ids, np.arange(7050).astype(str))
    # and the published rule of sizes holds for every user of it
    from mmrec_teach.data.splits import held_out_sizes

    every = [np.bincount(p.users, minlength=data.n_users) for p in (data.train, data.valid, data.test)]
    valid, test = held_out_sizes(sum(every))
    assert np.array_equal(every[1], valid)
    assert np.array_equal(every[2], test)


@pytest.mark.real
def test_tiktok_opens_without_its_ten_cold_rows(real_data: Path) -> None:
    data = load(real_data / "tiktok")
    assert (data.n_users, data.n_items, len(data.train)) == (9308, 6710, 59541)
    assert (len(data.valid), len(data.test)) == (3051 - 5, 6130 - 5)
    assert data.modalities == ("audio", "image")
    assert data.features["audio"].dtype == np.float32


@pytest.mark.real
def test_scientific_has_order_texts_and_both_modalities(real_data: Path) -> None:
    data = load(real_data / "scientific")
    assert (data.n_users, data.n_items) == (2928, 1585)
    assert "144 repeats" in data.source
    assert data.n_interactions == 19712 - 144
    assert data.features["text"].shape == data.features["image"].shape == (1585, 512)
    assert all(data.captions)
    row = data.items[data.items.item_id == "B0000223UV"].iloc[0]
    assert row.caption.startswith("Gorilla Original Gorilla Glue")
    assert in_order(data)["A1AXCV2WYDA4PD"] == list(data.item_ids[:5])
    last = np.zeros(data.n_users)
    np.maximum.at(last, data.train.users, data.train.timestamps)
    assert (data.test.timestamps > last[data.test.users]).all()


@pytest.mark.real
def test_ml_100k_has_pictures_plots_and_time(real_data: Path) -> None:
    data = load(real_data / "ml-100k", split="global-time", picture_size=(24, 16), rating_threshold=4)
    assert (data.n_users, data.n_items) == (942, 1682)
    assert data.images.shape == (1682, 24, 16, 3)
    assert int(data.missing["image"].sum()) == 35
    assert data.items.title[0] == "Toy Story"
    assert data.items.category[0] == "Animation"
    assert data.train.timestamps.max() < data.valid.timestamps.min() <= data.valid.timestamps.max() < data.test.timestamps.min()


def test_detected_form(folder: Path) -> None:
    write_raw(folder)
    assert readers._detect(folder, None) == "raw"
    write_histories(folder)
    assert readers._detect(folder, None) == "atomic"
    assert readers._detect(folder, folder / "ratings.csv") == "raw"
