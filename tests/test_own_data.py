"""A folder of pictures and a table become a data set, however people happen to have named things."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrec_teach.cli import main
from mmrec_teach.data import load
from mmrec_teach.data.kept import cache_dir, kept
from mmrec_teach.errors import DataError

ITEMS, USERS, EACH = 12, 6, 6


def shop(folder: Path, *, pictures: str = "pictures", picture: str = "A{}.png", header: str = "user,item", when=None) -> Path:
    """Write 12 small pictures and likes.csv with 6 interactions of each of 6 users."""
    rng = np.random.default_rng(0)
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    for i in range(ITEMS):
        Image.fromarray(np.full((20, 20, 3), rng.integers(0, 255, 3), np.uint8)).save(folder / pictures / picture.format(i))
    mark = ";" if ";" in header else ","
    rows = [[f"u{u}", f"A{(2 * u + k) % ITEMS}", *([when(k)] if when else [])] for u in range(USERS) for k in range(EACH)]
    (folder / "likes.csv").write_text("\n".join([header, *(mark.join(row) for row in rows)]) + "\n")
    return folder


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"pictures": "photos"},
        {"pictures": "."},
        {"picture": "A{}.JPG"},
        {"header": "user;item"},
        {"header": "Customer,Product"},
    ],
    ids=str,
)
def test_the_usual_names_are_understood(names, tmp_path):
    data = load(shop(tmp_path, **names))
    assert (data.n_users, data.n_items) == (USERS, ITEMS)
    assert not data.missing["image"].any()
    assert data.images.shape == (ITEMS, 20, 20, 3)


def test_item_ids_may_be_file_names(tmp_path):
    table = shop(tmp_path) / "likes.csv"
    for ending in (".png", "/A.png"):
        header, *rows = table.read_text().splitlines()
        if ending == ".png":
            rows = [row + ".png" for row in rows]
        else:
            rows = [row.replace(",", ",pictures/") for row in rows]
        table.write_text("\n".join([header, *rows]) + "\n")
        assert not load(tmp_path).missing["image"].any()


def test_a_table_of_items_may_say_id_and_file(tmp_path):
    shop(tmp_path, picture="{}.png")
    rows = [
        f"A{i},nice {w} lamp {i},lamp,{i}.png" for i, w in enumerate(["red", "blue", "old"] * 4)
    ]  # bare names: the pictures lie in their folder
    (tmp_path / "things.csv").write_text("\n".join(["id,name,kind,file", *rows]) + "\n")
    data = load(tmp_path)
    assert not data.missing["image"].any()
    assert list(data.items["category"].unique()) == ["lamp"]
    assert data.captions[3] == "nice red lamp 3"


def test_beside_a_user_id_is_no_item(tmp_path):
    shop(tmp_path, header="user,id")
    with pytest.raises(DataError, match="--column item=NAME"):
        load(tmp_path)
    assert load(tmp_path, columns={"item": "id"}).n_items == ITEMS


def test_dates_make_a_split_by_time(tmp_path):
    data = load(shop(tmp_path, header="user,item,date", when=lambda k: f"2024-05-0{k + 1}"), split="leave-one-out")
    days = data.test.timestamps - np.datetime64("2024-05-01", "s").astype(np.int64)
    assert set(days) == {(EACH - 1) * 86_400}
    moments = load(shop(tmp_path, header="user,item,date", when="2024-05-01T10:0{}:00+02:00".format))
    assert moments.train.timestamps.min() == np.datetime64("2024-05-01T08:00:00", "s").astype(np.int64)


def test_texts_that_share_no_word_do_not_keep_the_rest_from_opening(tmp_path):
    shop(tmp_path)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    (tmp_path / "things.csv").write_text("\n".join(["item,title", *(f"A{i},{w}" for i, w in enumerate(words))]) + "\n")
    data = load(tmp_path)
    assert data.modalities == ("image",)
    assert "no text features: no word occurs in two texts" in data.source


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"picture": "foo{}.png"}, "no picture has the name of an item .* names such as A0.png"),
        ({"pictures": "pictures/lamps"}, "found folders only"),
        ({"header": "1,2"}, "a first line that names the columns"),
        ({"header": "user,item,date", "when": "3.{}.2024".format}, "a date such as 2024-05-31"),
    ],
    ids=["no picture named so", "folders only", "no header", "a date day first"],
)
def test_what_cannot_be_understood_is_said_in_a_sentence(names, says, tmp_path):
    with pytest.raises(DataError, match=says):
        load(shop(tmp_path, **names))


def test_a_date_in_the_middle_that_is_none(tmp_path):
    table = shop(tmp_path, header="user,item,date", when="2024-05-1{}".format) / "likes.csv"
    table.write_text(table.read_text().replace("2024-05-13", "yesterday", 1))
    with pytest.raises(DataError, match="line 5: date is no date .*yesterday"):
        load(tmp_path)


def test_two_folders_of_pictures_need_a_word(tmp_path):
    shop(tmp_path, pictures="front")
    shop(tmp_path, pictures="back")
    with pytest.raises(DataError, match='pictures="front"'):
        load(tmp_path)
    assert not load(tmp_path, pictures="front").missing["image"].any()
    assert main(["data", "describe", str(tmp_path), "--pictures", "front", "--no-plot"]) == 0


def test_pictures_stand_upright_and_on_white(tmp_path):
    shop(tmp_path)
    half = np.zeros((24, 20, 4), np.uint8)  # upper half blue, lower half nothing at all
    half[:12] = (0, 0, 255, 255)
    Image.fromarray(half).save(tmp_path / "pictures" / "A0.png")
    lying = Image.fromarray(np.repeat(np.array([[[255, 0, 0]], [[0, 255, 0]]], np.uint8), 20, 1).repeat(12, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees to the right
    (tmp_path / "pictures" / "A1.png").unlink()
    lying.save(tmp_path / "pictures" / "A1.jpg", exif=exif, quality=95)
    images = load(tmp_path).images.astype(int)
    height, width = images.shape[1:3]
    assert images[0, 2, 2].tolist() == [0, 0, 255]
    assert images[0, height - 3, 2].tolist() == [255, 255, 255]
    left, right = images[1, height // 2, 3], images[1, height // 2, width - 4]  # what was above is now right
    assert left[1] > 200 > 60 > left[0]
    assert right[0] > 200 > 60 > right[1]


# -- features are kept --------------------------------------------------------------------------------------------------
def test_features_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_TEACH_CACHE", str(tmp_path / "cache"))
    folder = shop(tmp_path / "shop")
    first = load(folder).features["image"]
    (file,) = (tmp_path / "cache").iterdir()

    def never(*args, **kwargs):
        raise AssertionError("made again")

    with monkeypatch.context() as patch:
        patch.setattr("mmrec_teach.data.encode.picture_features", never)
        assert np.array_equal(load(folder).features["image"], first)
        with pytest.raises(AssertionError, match="made again"):
            load(folder, feature_dim=3)
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "pictures" / "A0.png")
        with pytest.raises(AssertionError, match="made again"):
            load(folder)
    shop(folder)
    file.write_bytes(file.read_bytes()[:-4] + b"oops")  # damaged: made again, and whole afterwards
    assert np.array_equal(load(folder).features["image"], first)
    assert b"oops" not in file.read_bytes()


def test_nowhere_to_keep_features_is_no_error(tmp_path, monkeypatch):
    table = np.arange(6.0).reshape(2, 3)
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file" / "cache"), ""):
        monkeypatch.setenv("MMREC_TEACH_CACHE", place)
        assert np.array_equal(kept(lambda: table, "test", ["a"]), table)
    assert cache_dir() is None
    monkeypatch.delenv("MMREC_TEACH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "mmrec_teach" / "features"


def test_different_inputs_never_share_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_TEACH_CACHE", str(tmp_path))
    zeros = np.zeros(4, np.uint8)
    for inputs in (
        ["ab"],
        ["a", "b"],
        ["", "ab"],
        [zeros],
        [zeros.reshape(2, 2)],
        [zeros.view(np.int8)],
        [zeros[:2], zeros[:2]],
    ):
        kept(lambda: np.ones(1), "recipe", inputs)
    kept(lambda: np.ones(1), "another", ["ab"])
    assert len(list(tmp_path.iterdir())) == 8


def test_only_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_TEACH_CACHE", str(tmp_path))
    monkeypatch.setattr("mmrec_teach.data.kept.MOST", 3)
    for n in range(5):
        kept(lambda: np.ones(1), "recipe", [str(n)])
        time.sleep(0.002)  # the clock of a file system is coarse
    assert len(list(tmp_path.iterdir())) == 3
