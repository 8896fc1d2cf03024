"""Recommendations with their reasons: in Python, on the command line, as pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import in_order, make_tiny
from torch.nn import functional as F

from mmrec_teach.cli import main
from mmrec_teach.data import Dataset, load
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.evaluation.recommend import item_names, item_number, recommend, recommend_after, taken, to_json, user_number
from mmrec_teach.evaluation.retrieval import add_new, index_of
from mmrec_teach.models import MODELS, create
from mmrec_teach.training.experiments import RunConfig, data_key, open_run, read_config, run
from mmrec_teach.views.recommended import cards

SETTINGS = {"epochs": 1, "patience": 1, "batch_size": 1024, "lr": 5e-3, "metric": "recall@20"}


@pytest.fixture(scope="module")
def data() -> Dataset:
    data = in_order(make_tiny())
    titles = [f"thing {i}" for i in range(38)] + ["odd & new", "thing 0"]
    images = np.zeros((40, 8, 8, 3), np.uint8)
    images[:39, 2:5, 2:5] = np.arange(39, dtype=np.uint8)[:, None, None, None] * 5 + 20
    return replace(data, items=pd.DataFrame({"title": titles, "caption": ['a "small" <thing>'] + [""] * 39}), images=images)


def built(name: str, data: Dataset, **options):
    sizes = {"popularity": {}, "item-knn": {}, "missrec": {"dim": 8, "heads": 2}}
    model = create(name, data, **sizes.get(name, {"dim": 8}), **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def scores_of(model, user: int) -> torch.Tensor:
    with model.knowing("train", "valid") if hasattr(model, "knowing") else model.evaluating():
        return model.score(torch.tensor([user]))[0].detach().clone()


# -- lists ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["vbpr", "bpr", "grcn", "sasrec", "missrec", "unisrec", "popularity", "item-knn"])
def test_a_list_is_the_models_own_without_what_is_known(name, data):
    model = built(name, data, **({"heads": 1} if name == "unisrec" else {}))
    mask = data.matrix("train", "valid")
    for one in recommend(model, data, [4, 0], k=6):
        seen = mask[[one.user]].indices
        assert sorted(one.liked) == sorted(seen.tolist())
        score = scores_of(model, one.user)
        score[seen] = -torch.inf
        assert [s.item for s in one.best] == np.argsort(-score.numpy(), kind="stable")[:6].tolist()
        assert np.allclose([s.score for s in one.best], score.sort(descending=True).values[:6], atol=1e-4)
        later = set(data.test.items[data.test.users == one.user].tolist())
        assert [s.found for s in one.best] == [s.item in later for s in one.best]
        for s in one.best:
            if MODELS[name].parts_note:
                assert s.parts is None
                assert s.shares is None
            else:
                assert sum(s.parts.values()) == pytest.approx(s.score, abs=1e-4)
        assert any("not split" in note for note in one.notes) == bool(MODELS[name].parts_note)
        assert one.how.startswith(
            "Every item was scored" if name in ("missrec", "popularity", "item-knn") else "A search among 40"
        )


def test_liked_items_stand_in_order_and_the_nearest_are_named(data):
    model = built("lightgcn", data)
    (one,) = recommend(model, data, [7], k=5, near=3)
    times = {(u, i): t for part in (data.train, data.valid) for u, i, t in zip(part.users, part.items, part.timestamps)}
    assert list(one.liked) == sorted(one.liked, key=lambda item: times[7, item])
    table = F.normalize(model.item_vectors(), dim=1)
    for s in one.best:
        cosines = {item: float(table[item] @ table[s.item]) for item in one.liked}
        assert [item for item, _ in s.near] == sorted(cosines, key=lambda item: -cosines[item])[:3]
        assert [c for _, c in s.near] == pytest.approx(sorted(cosines.values(), reverse=True)[:3])
    assert recommend(model, data, [7], near=0)[0].best[0].near == ()


def test_shares_only_where_they_say_something(data):
    (one,) = recommend(built("vbpr", data), data, [3], k=30)
    mixed = 0
    for s in one.best:
        if s.parts["id"] * s.parts["content"] < 0:
            mixed += 1
            assert s.shares is None
        else:
            assert sum(s.shares.values()) == pytest.approx(1)
            assert min(s.shares.values()) >= 0
    assert 0 < mixed < 30


def test_a_history_given_by_hand(data):
    model = built("sasrec", data, length=4)
    given = [5, 9, 2, 11, 30, 5]
    one = recommend_after(model, data, given, k=8)
    assert one.user is None
    assert one.liked == (5, 9, 2, 11, 30)
    with model.evaluating():
        score = model.match(model.encode(torch.tensor([[2, 11, 30, 5]]), torch.tensor([4])))[0]
    score[torch.tensor(given)] = -torch.inf
    assert [s.item for s in one.best] == np.argsort(-score.numpy(), kind="stable")[:8].tolist()
    assert "read as a history" in one.how
    mine = taken(data, 6).tolist()
    for name in ("sasrec", "missrec"):
        model = built(name, data)
        by_hand, hers = recommend_after(model, data, mine), recommend(model, data, [6])[0]
        assert [s.item for s in by_hand.best] == [s.item for s in hers.best]
        assert (by_hand.best[0].parts is None) == (name == "sasrec")


def test_items_like_these(data):
    model = built("vbpr", data)
    one = recommend_after(model, data, [4, 8], k=5)
    table = F.normalize(model.item_vectors(), dim=1)
    cosine = F.normalize(table[[4, 8]].mean(0), dim=0) @ table.T
    cosine[[4, 8]] = -torch.inf
    assert [s.item for s in one.best] == cosine.argsort(descending=True)[:5].tolist()
    assert "cosine" in one.how
    with pytest.raises(OptionError, match="cannot start from items .*count an item"):
        recommend_after(built("popularity", data), data, [4])
    with pytest.raises(OptionError, match="does not answer by cosine"):
        recommend_after(model, data, [4], index=index_of(model))


def test_an_index_takes_the_place_of_the_search_and_new_items_enter_lists(data):
    model = built("vbpr", data)
    index = index_of(model)
    plain = recommend(model, data, [2], k=5)
    assert recommend(model, data, [2], k=5, index=index) == plain
    best = plain[0].best[0].item
    add_new(index, model, {m: t[[best]] for m, t in data.features.items()}, [40])
    (one,) = recommend(model, data, [2], k=34, index=index)
    (new,) = (s for s in one.best if s.item == 40)
    assert new.parts is None
    assert new.near == ()
    assert to_json(data, [one])[0]["suggestions"][[s.item for s in one.best].index(40)]["item"] is None
    assert "new item 40" in cards(data, [one]).html
    with pytest.raises(OptionError, match="not a model of vectors"):
        recommend(built("item-knn", data), data, [2], index=index)


def test_wrong_numbers_are_refused(data):
    model = built("bpr", data)
    for more, words in (({"k": 0}, "k: out of range"), ({"near": -1}, "near: out of range")):
        with pytest.raises(OptionError, match=words):
            recommend(model, data, [0], **more)
    with pytest.raises(OptionError, match="no items"):
        recommend_after(model, data, [])


def test_names(data):
    assert item_names(data)[1] == "thing 1"
    assert item_names(data)[39] == "thing 0 (i39)"
    assert item_number(data, "i7") == item_number(data, "Thing 7") == 7
    assert user_number(data, "u12") == 12
    with pytest.raises(OptionError, match=r"several items have that title .*i0, i39"):
        item_number(data, "thing 0")
    with pytest.raises(OptionError, match=r"no such item .*'thong 7'.*Did you mean thing 7\?"):
        item_number(data, "thong 7")
    with pytest.raises(OptionError, match=r"no such user .*'u012'.*Did you mean u12\?"):
        user_number(data, "u012")
    assert item_names(make_tiny())[3] == "i3"


# -- pictures ----------------------------------------------------------------------------------------------------------------
def test_cards_show_pictures_with_words_for_those_who_cannot_see_them(data):
    model = built("vbpr", data)
    lists = [*recommend(model, data, [0, 1], k=4), recommend_after(model, data, [0, 39])]
    made = cards(data, lists)
    assert made._repr_html_() == made.html == cards(data, lists).html  # nothing hidden in it
    pictures = re.findall(r"<img [^>]*>", made.html)
    assert pictures
    for picture in pictures:
        assert re.search(r'alt="[^"]+"', picture), picture
        assert 'src="data:image/png;base64,' in picture
    assert 'alt="a &quot;small&quot; &lt;thing&gt;"' in made.html
    assert made.html.count("no picture") >= 1  # item 39
    assert made.html.count("<ol>") == 3
    assert "For user u1" in made.html
    first = lists[0].best[0]
    assert f"score {first.score:.3f}" in made.html
    assert f"ID {first.parts['id']:+.2f}" in made.html
    assert "http" not in made.html.replace("http://www.w3.org", "")
    bare = cards(make_tiny(), recommend(built("bpr", make_tiny()), make_tiny(), [0]))
    assert "<img" not in bare.html
    assert "not split into ID and content: the score reads IDs alone" in bare.html


# -- runs ----------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Runs of one epoch on the attic: two models on its own split, one on another."""
    out = tmp_path_factory.mktemp("runs")
    attic = load("bazaar/attic")
    for model, options in (("vbpr", {"dim": 8}), ("popularity", {})):
        run(attic, RunConfig(data_key(attic), model, options, {}, 0, SETTINGS), out, progress=False, device="cpu")
    attic = load("bazaar/attic", split="leave-one-out")
    run(attic, RunConfig(data_key(attic), "sasrec", {"dim": 8}, {}, 0, SETTINGS), out, progress=False, device="cpu")
    return out / "bazaar" / "attic"


def folder(runs: Path, model: str) -> str:
    return str(next(runs.glob(f"{model}-*")))


def test_recommend_prints_lists_with_reasons(runs, capsys):
    attic = load("bazaar/attic")
    user = str(attic.user_ids[5])
    assert main(["recommend", "--run", folder(runs, "vbpr"), "--user", user, "--user", str(attic.user_ids[6]), "--k", "3"]) == 0
    out = capsys.readouterr().out
    assert f"vbpr, user {user}" in out
    assert f"user {attic.user_ids[6]}" in out
    assert "from content" in out
    assert "A search among 210 item vectors, exact." in out
    config, model = open_run(folder(runs, "vbpr"), attic)
    assert config.model == "vbpr"
    (one,) = recommend(model, attic, [5], k=3)
    for s in one.best:
        assert item_names(attic)[s.item] in out
        assert f"{s.score:.3f}" in out
    assert item_names(attic)[one.liked[-1]] in re.sub(r"\s+", " ", out)


def test_recommend_as_json(runs, capsys):
    attic = load("bazaar/attic")
    items = f"{attic.item_ids[3]}, {attic.item_ids[8]}"
    assert (
        main(["recommend", "--run", folder(runs, "sasrec"), "--items", items, "--user", str(attic.user_ids[0]), "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "sasrec"
    assert told["data"] == "bazaar/attic"  # split by leave-one-out: found by the run's own hash
    hers, given = told["lists"]
    assert hers["user"] == attic.user_ids[0]
    assert [item["item"] for item in given["liked"]] == [attic.item_ids[3], attic.item_ids[8]]
    assert [s["rank"] for s in given["suggestions"]] == list(range(1, 11))
    assert given["suggestions"][0]["parts"] is None
    assert given["notes"] == ["A score is not split into ID and content: the score reads IDs alone."]


def test_a_run_without_vectors_still_recommends(runs, capsys):
    user = str(load("bazaar/attic").user_ids[0])
    assert main(["recommend", "--run", folder(runs, "popularity"), "--user", user]) == 0
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Every item was scored, without a search among vectors: its score is a count an item" in out
    assert main(["index", "--run", folder(runs, "popularity"), "--out", "nowhere"]) == 2
    assert "not a model of vectors" in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_an_index_is_written_and_searched(runs, tmp_path, capsys):
    user, file = str(load("bazaar/attic").user_ids[9]), str(tmp_path / "items.index")
    question = ["recommend", "--run", folder(runs, "vbpr"), "--user", user, "--json"]
    assert main(["index", "--run", folder(runs, "vbpr"), "--out", file]) == 0
    assert re.match(r"210 items of vbpr, 73 numbers each: exact, built in ", capsys.readouterr().out)
    assert main(question) == 0
    plain = capsys.readouterr().out
    assert main([*question, "--index", file]) == 0
    assert capsys.readouterr().out == plain
    assert main(["recommend", "--run", folder(runs, "sasrec"), "--user", user, "--index", file]) == 2
    assert "an index of another run" in capsys.readouterr().err
    pytest.importorskip("faiss")
    assert main(["index", "--run", folder(runs, "vbpr"), "--out", file, "--kind", "ivf", "--options", "lists=5,probes=2"]) == 0
    out = capsys.readouterr().out
    assert "ivf, lists 5, probes 2, seed 0" in out
    assert re.search(r"Of the 20 best for 200 users it finds \d+\.\d%\.", out)
    assert main([*question, "--index", file]) == 0
    assert "approximate (ivf)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--user": "nobody"}, r"no such user \(found 'nobody', expected an id such as"),
        ({"--items": "no such thing"}, "no such item"),
        ({"--items": ","}, "no items"),
        ({"--run": "vbpr-seed0-00000000"}, r"no run lies there .*Did you mean .*vbpr-seed0-"),
        ({"--run": "."}, r"no run lies there .*such as .*popularity-seed0-"),
        ({"--split": "leave-one-out"}, "the run was trained on other data"),
        ({"--data": "bazaar/kitchen"}, "the run was trained on other data"),
        ({"--index": "no.index"}, "no.index: no such file"),
        ({"--k": "0"}, "k: out of range"),
        ({"--user": None}, "nobody to recommend to"),
    ],
)
def test_wrong_words_get_one_sentence(runs, change, words, capsys):
    given = {"--run": Path(folder(runs, "vbpr")).name, "--user": str(load("bazaar/attic").user_ids[0]), **change}
    given["--run"] = str(runs / given["--run"])
    assert main(["recommend", *(word for pair in given.items() if pair[1] is not None for word in pair)]) == 2
    error = capsys.readouterr().err
    assert re.search(words, error), error
    assert error.count("\n") == 1


def test_unfinished_and_broken_runs_are_refused(runs, tmp_path):
    with pytest.raises(DataError, match="no run lies there"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text((Path(folder(runs, "vbpr")) / "config.json").read_text())
    with pytest.raises(DataError, match="has not finished"):
        read_config(tmp_path)
    for text in ("{", "[]", '{"data": {}, "model": "vbpr"}', '{"data": {"name": "x", "hash": "y"}, "model": "none"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(DataError, match="not a run's configuration"):
            read_config(tmp_path)


def test_a_run_on_other_data_asks_where_they_lie(runs, tmp_path, capsys):
    config = json.loads((Path(folder(runs, "vbpr")) / "config.json").read_text())
    config["data"]["name"] = "baby"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.json").write_text("{}")
    assert main(["recommend", "--run", str(tmp_path), "--user", "1"]) == 2
    assert capsys.readouterr().err == "--data: the run does not say where its data lie (found baby, expected a path).\n"
