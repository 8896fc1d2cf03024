"""A run as text: there and back, what is refused, and that it is enough to train the run again bit for bit."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from conftest import make_tiny

from mmrec_teach.data.switches import Switches
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import BM3, create
from mmrec_teach.training import train
from mmrec_teach.views.setting import Setting, replay, setting_of


def tables(model) -> dict[str, np.ndarray]:
    with model.evaluating():
        return {name: view.numpy().copy() for name, view in model.views().items()}


def assert_same_run(a, b) -> None:
    """Bit for bit: losses, metrics and all tables."""
    (model_a, records_a), (model_b, records_b) = a, b
    assert [(r.losses, r.metrics) for r in records_a] == [(r.losses, r.metrics) for r in records_b]
    for name, table in tables(model_a).items():
        np.testing.assert_array_equal(table, tables(model_b)[name], err_msg=name)


# -- text --------------------------------------------------------------------------------------------------------------------
def test_the_text_says_only_what_is_different():
    assert Setting.from_text("lightgcn").to_text() == "lightgcn"
    text = "lightgcn?n_layers=3&l2=0.01&seed=2"
    setting = Setting.from_text("lightgcn?l2=0.01&n_layers=3&seed=2")
    assert setting.to_text() == text
    assert (setting.options["n_layers"], setting.options["dim"], setting.weights, setting.seed) == (
        3,
        64,
        {"bpr": 1.0, "l2": 0.01},
        2,
    )


@pytest.mark.parametrize(
    "text",
    [
        "bm3?stop_gradient=false&align=0&mask=0.30000000000000004&lr=1e-05&batch_size=7&epochs=3&steps=2",
        "bm3?data.without=image,text&data.features=shuffled&data.missing=0.25&data.cold=0.5&data.keep=0.1&data.seed=4",
        "bm3?align@0=0&align@12=1e-20&mask@12=3&align@300=1e20",
        "bm3?modalities=[%22image%22]",
        "freedom?modality_weights=%7B%22image%22:0.5,%22text%22:1%7D",
        "vbpr?data=my%20shop%20%26%20yours&data.hash=0123456789abcdef&content_weight=2",
    ],
)
def test_text_survives_there_and_back(text):
    setting = Setting.from_text(text)
    assert setting.to_text() == text
    assert Setting.from_text(setting.to_text()) == setting
    assert setting != Setting.from_text(text.partition("?")[0])
    for base in ("http://localhost:8866/", "https://x.org/voila/render/lab.ipynb?theme=dark#top"):
        link = setting.link(base)
        assert parse_qs(urlsplit(link).query)["setting"] == [text]
        assert (urlsplit(link).netloc, urlsplit(link).fragment) == (urlsplit(base).netloc, urlsplit(base).fragment)
        assert set(urlsplit(base).query.split("&")) - {""} <= set(urlsplit(link).query.split("&"))


def test_values_keep_their_kind():
    options = {
        "n": 3,
        "p": 2.0,
        "on": True,
        "nothing": None,
        "word": "true",
        "digits": "12",
        "names": ["a", "b"],
        "by": {"a": 1},
    }

    def factory(data, *, n=1, p=1.0, on=False, nothing=1, word="x", digits="x", names=(), by=None, seed=0): ...

    factory.default_weights = {"fit": 1.0}
    setting = Setting("own", options={**options, "n": np.int64(3), "p": np.float64(2)}, weights={"fit": 0.1})
    again = Setting.from_text(setting.to_text(factory), factory)
    assert again == setting
    assert {name: type(value) for name, value in again.options.items()} == {
        **{name: type(value) for name, value in options.items()},
        "names": tuple,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a setting"),
        ("gpt?l2=1", "unknown model"),
        ("lightgcn?speed=3", "lightgcn has no such setting.*speed"),
        ("lightgcn?l2", "no value"),
        ("lightgcn?l2=a lot", "weight is no number"),
        ("lightgcn?l2=-1", "below 0"),
        ("lightgcn?l2=inf", "weight is no number"),
        ("lightgcn?l2=1&l2=2", "named twice"),
        ("lightgcn?l2@soon=1", "not a step"),
        ("lightgcn?speed@3=1", "no such setting"),
        ("lightgcn?seed=1.5", "whole number"),
        ("lightgcn?seed=-1", "out of range"),
        ("lightgcn?epochs=many", "whole number"),
        ("lightgcn?lr=quick", "no number"),
        ("lightgcn?data.keep=2", "share out of range"),
        ("lightgcn?data.speed=2", "no such setting"),
        ("lightgcn?data.features=odd", "unknown choice"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text, sentence):
    with pytest.raises(OptionError, match=sentence):
        Setting.from_text(text)


def test_changes_must_ascend():
    with pytest.raises(OptionError, match="follow"):
        Setting("bpr", changes=((3, {"l2": 1.0}), (2, {"l2": 0.0})))


def test_the_bazaar_needs_no_hash_and_other_data_need_one(bazaar, tiny):
    assert setting_of("bpr", bazaar).to_text() == "bpr"
    setting_of("bpr", bazaar).check(bazaar)
    Setting.from_text("bpr").check(bazaar)
    other = setting_of("bpr", tiny)
    assert other.to_text() == f"bpr?data=tiny&data.hash={other.data_hash}"
    assert Setting.from_text(other.to_text()) == other
    with pytest.raises(DataError, match="other data"):
        other.check(make_tiny(seed=1))
    with pytest.raises(DataError, match="other data"):
        other.check(bazaar)
    with pytest.raises(DataError, match="not an embedded"):
        replay(other)


# -- the run -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["lightgcn", "bm3"])
def test_a_setting_is_a_plain_run_of_the_loop(name, tiny):
    term = "l2" if name == "lightgcn" else "align"
    setting = setting_of(name, tiny, weights={term: 0.5}, options={"dim": 8}, seed=3, epochs=2, batch_size=50, lr=0.01)
    model = create(name, tiny, dim=8, seed=3)
    records = list(train(model, tiny, weights={term: 0.5}, epochs=2, batch_size=50, lr=0.01, seed=3))
    torch.manual_seed(99)  # nothing may depend on the global generator
    assert_same_run(replay(Setting.from_text(setting.to_text()), tiny), (model, records))


@pytest.mark.parametrize("name", ["lightgcn", "bm3"])
def test_moved_weights_and_switches_are_part_of_it(name, tiny):
    moved, other = ("l2", "bpr") if name == "lightgcn" else ("align", "mask")
    text = (
        f"{name}?dim=8&seed=1&epochs=2&batch_size=50&data.features=shuffled&data.cold=0.1&{moved}@0=0&{moved}@3=2&{other}@5=0.5"
    )
    setting = Setting.from_text(text)
    setting = setting_of(name, tiny, switches=setting.switches, options=setting.options, seed=1, epochs=2, batch_size=50,
                         changes=setting.changes)  # fmt: skip
    weights = {**setting.weights, moved: 0.0}
    data = Switches(features="shuffled", cold=0.1).apply(tiny)
    model = create(name, data, dim=8, seed=1)

    def after_step(step: int) -> None:
        weights.update({3: {moved: 2.0}, 5: {other: 0.5}}.get(step, {}))

    records = list(train(model, data, weights=weights, epochs=2, batch_size=50, lr=5e-3, seed=1, after_step=after_step))
    assert_same_run(replay(setting, tiny), (model, records))
    still, _ = replay(
        setting_of(name, tiny, switches=setting.switches, options=setting.options, seed=1, epochs=2, batch_size=50), tiny
    )
    assert not np.array_equal(tables(still)["item/final"], tables(model)["item/final"])


def test_steps_end_in_the_middle_of_an_epoch(tiny):
    whole = setting_of("bpr", tiny, epochs=1, steps=2, batch_size=50)
    taken = []
    model = create("bpr", tiny)

    def after_step(step: int) -> None:
        taken.append(step)
        if step == len(first) + 2:
            raise InterruptedError

    first = []
    list(train(create("bpr", tiny), tiny, epochs=1, batch_size=50, after_step=first.append))
    with pytest.raises(InterruptedError):
        list(train(model, tiny, epochs=2, batch_size=50, lr=whole.lr, after_step=after_step))
    again, records = replay(whole, tiny)
    assert len(records) == 1
    np.testing.assert_array_equal(tables(again)["item/final"], tables(model)["item/final"])


def test_a_model_of_ones_own_needs_its_factory(tiny):
    class Mine(BM3):
        pass

    setting = setting_of("Mine", tiny, Mine, weights={"align": 0.0}, options={"dim": 4}, epochs=1)
    text = setting.to_text(Mine)
    assert "align=0" in text
    with pytest.raises(OptionError, match="unknown model"):
        Setting.from_text(text)
    assert Setting.from_text(text, Mine) == setting
    assert replay(setting, tiny, Mine)[0].options["dim"] == 4
