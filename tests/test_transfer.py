"""Pre-training over several shops: its loss terms beside plain loops in float64, parts that are tuned, and the file it leaves."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import in_order, make_tiny

from mmrec_teach.data import Dataset, store
from mmrec_teach.data.sequences import histories
from mmrec_teach.data.union import union
from mmrec_teach.errors import DataError, OptionError
from mmrec_teach.models import MISSRec, Recommender, SequenceBatch, UniSRec, create, load_model
from mmrec_teach.models.pretrained import Pretrained, load_pretrained
from mmrec_teach.models.sequential import thinned
from mmrec_teach.ops.losses import softmax_in_batch
from mmrec_teach.training import Trainer, fit
from mmrec_teach.training.experiments import RunConfig, data_key, read_config, run
from mmrec_teach.training.sampling import sequence_batches

SMALL = {"dim": 8, "heads": 2, "inner": 8, "length": 8, "n_layers": 1, "dropout": 0.0}
PLAIN = {"missrec": {**SMALL, "feature_dropout": 0.0}, "unisrec": {**SMALL, "experts": 2}}


@pytest.fixture(scope="module")
def shops() -> Dataset:
    first, second = in_order(make_tiny()), replace(in_order(make_tiny(1, n_users=20, n_items=30)), name="other")
    lost = np.zeros(30, dtype=bool)
    lost[4] = True
    image = np.where(lost[:, None], 0, second.features["image"])
    return union([first, second.with_features({"image": image, "text": second.features["text"]}, {"image": lost})])


def build(name: str, data: Dataset, **more) -> Recommender:
    return create(name, data, **{**PLAIN[name], **more}).double()


def one_batch(model: Recommender, data: Dataset, size: int = 60) -> SequenceBatch:
    drawn = sequence_batches(histories(data), model.batches, model.length, size, None, torch.Generator().manual_seed(0))
    return SequenceBatch(*next(drawn))


def in_loops(logits: np.ndarray, asked: list[int], mask: bool) -> float:
    """InfoNCE of square ``logits``: row b is to find column b; rows that ask for the same are no negatives where ``mask``."""
    terms = []
    for b, row in enumerate(logits):
        others = [row[c] for c in range(len(row)) if c == b or not mask or asked[c] != asked[b]]
        terms.append(math.log(sum(math.exp(x) for x in others)) - row[b])
    return float(np.mean(terms))


# -- the terms ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mask", [True, False])
def test_distinct_targets_with_counts_are_the_whole_batch(mask):
    random = torch.Generator().manual_seed(0)
    asked = [3, 1, 3, 0, 2, 3, 1]
    scores = torch.randn(7, 4, generator=random).double().requires_grad_()
    expected = in_loops(scores.detach().numpy()[:, asked], asked, mask)
    count = torch.tensor(asked).bincount()
    found = softmax_in_batch(scores, torch.tensor(asked), count, mask_duplicates=mask).mean()
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: softmax_in_batch(x, torch.tensor(asked), count, mask_duplicates=mask), (scores,))


@pytest.mark.parametrize("options", [{}, {"false_negatives": "keep"}, {"ids": False, "fusion": "max"}])
def test_missrec_seq_item_and_seq_seq_are_their_formulas(shops, options):
    model = build("missrec", shops, **options).eval()
    batch = one_batch(model, shops)
    asked = [int(row[n - 1]) for row, n in zip(batch.targets, batch.lengths, strict=True)]
    assert len(set(asked)) < len(asked)
    assert min(asked) < 40 <= max(asked), "targets of both shops are each other's negatives"
    terms = model.losses(batch, {"seq_item", "seq_seq"})
    assert set(terms) == {"seq_item", "seq_seq"}
    h = model.encode(batch.items, batch.lengths)
    mask = options.get("false_negatives", "mask") == "mask"
    scores = model.match(h).detach().numpy()[:, asked] / 0.07
    assert terms["seq_item"].item() == pytest.approx(in_loops(scores, asked, mask), abs=1e-10)
    logits = (h @ h.T).detach().numpy() / 0.07  # in eval mode nothing is dropped
    assert terms["seq_seq"].item() == pytest.approx(in_loops(logits, asked, mask), abs=1e-10)


@pytest.mark.parametrize("rows", ["users", "prefixes"])
def test_unisrec_has_the_same_two_terms(shops, rows):
    model = build("unisrec", shops, rows=rows).eval()
    batch = one_batch(model, shops)
    terms, v = model.losses(batch), model.items()
    places = [(b, t) for b in range(len(batch.users)) for t in range(batch.items.shape[1]) if batch.targets[b, t] >= 0]
    asked = [int(batch.targets[place]) for place in places]
    f = model(v, batch.items)
    scores = model.cosines(torch.stack([f[place] for place in places]), v).detach().numpy()[:, asked] / 0.07
    assert terms["seq_item"].item() == pytest.approx(in_loops(scores, asked, True), abs=1e-10)
    h = model.encode(batch.items, batch.lengths)
    latest = [int(row[n - 1]) for row, n in zip(batch.targets, batch.lengths, strict=True)]
    assert terms["seq_seq"].item() == pytest.approx(in_loops((h @ h.T).detach().numpy() / 0.07, latest, True), abs=1e-10)


def test_a_history_loses_items_and_keeps_their_order():
    items = torch.tensor([[5, 6, 7, 8], [3, 4, 0, 0], [9, 0, 0, 0], [1, 2, 0, 0]])
    keep = torch.tensor([[True, False, True, False], [False, False, True, True], [False] * 4, [True, True, False, False]])
    found, lengths = thinned(items, torch.tensor([4, 2, 1, 0]), keep)
    assert lengths.tolist() == [2, 1, 1, 0]
    assert found.tolist() == [[5, 7], [4, 0], [9, 0], [0, 0]]


@pytest.mark.parametrize("name", ["missrec", "unisrec"])
def test_the_second_reading_lacks_what_was_drawn(shops, name):
    more = {"augment": "items"} if name == "missrec" else {}
    model = build(name, shops, drop=0.5, **more)
    batch = one_batch(model, shops)
    if name == "unisrec":
        with torch.no_grad():
            model.adaptor.noise.weight.fill_(-1e4)  # a gate without noise
            model.x.clamp_(min=0.1)
    random = torch.Generator()
    random.set_state(model.generator.get_state())
    if name == "unisrec":
        torch.randn(len(model.x), 2, generator=random)
        assert torch.rand((), generator=random) < 0.9
        args = (model.items(), batch)
    else:
        args = (batch,)
    keep = torch.rand(batch.items.shape, generator=random) >= 0.5
    again = model.train().read_again(*args)
    model.eval()
    for b, n in enumerate(batch.lengths.tolist()):
        mine = [int(i) for i, k in zip(batch.items[b, :n], keep[b], strict=False) if k] or [int(batch.items[b, n - 1])]
        expected = model.encode(torch.tensor([mine]), torch.tensor([len(mine)]))[0]
        torch.testing.assert_close(torch.nn.functional.normalize(again[b], dim=0), expected, atol=1e-9, rtol=0)


def test_features_are_dropped_instead_of_items(shops):
    model = build("missrec", shops, augment="features", drop=0.4)
    batch = one_batch(model, shops)
    seen = []
    model.dropout = lambda x, p: seen.append((x.shape[1], p)) or x
    model.read_again(batch)
    assert {(width, round(p, 9)) for width, p in seen if p} == {(8, 0.4), (5, 0.4)}


def test_released_item_drop_parts_words_from_pictures(shops, monkeypatch):
    model = build("missrec", shops)
    items, lengths = torch.tensor([[5, 44, 7, 8], [3, 4, 0, 0]]), torch.tensor([4, 2])
    fewer, less = torch.tensor([[5, 7, 8], [4, 0, 0]]), torch.tensor([3, 1])
    seen = {}
    monkeypatch.setattr(model, "attend", lambda *args: seen.update(args=args))
    model.read(fewer, less, pictures=(items, lengths))
    x, found, read, n = seen["args"]
    assert (read.tolist(), n.tolist()) == (fewer.tolist(), less.tolist())
    words, pictures = model.token("text"), model.token("image")
    of = {name: model.interest_of[:, m].tolist() for m, name in enumerate(model.modality.names)}
    for b in range(2):
        for t in range(int(less[b])):
            torch.testing.assert_close(x[b, t], words[fewer[b, t]] + pictures[items[b, t]])
        mine = {of["text"][i] for i in fewer[b, : less[b]]} | {of["image"][i] for i in items[b, : lengths[b]]}
        assert set(found[b].tolist()) - {len(model.interest)} == mine - {len(model.interest)}
    together = build("missrec", shops)
    monkeypatch.setattr(together, "attend", lambda *args: seen.update(args=args))
    together.read(fewer, less)
    torch.testing.assert_close(seen["args"][0][0, 1], words[7] + pictures[7])


def test_pre_training_teaches_what_ordinary_training_is_judged_by(shops):
    for name, more in (("missrec", {"ids": False}), ("unisrec", {})):
        model = create(name, shops, **{**PLAIN[name], **more})
        before = Trainer(model, shops, weights=dict(model.pretraining), device="cpu", metrics_every=0, batch_size=64, lr=0.01)
        first = before.epoch()
        assert set(first.losses) == {term for term, weight in model.pretraining.items() if weight}
        for _ in range(4):
            last = before.epoch()
        assert last.losses["seq_item"] < 0.9 * first.losses["seq_item"]


# -- tuning a part ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "tune", "trains"),
    [
        ("missrec", "adapters", {"modality", "sharpness", "norm", "item_id"}),
        ("missrec", "frozen", {"sharpness", "item_id"}),
        ("unisrec", "adapters", {"adaptor"}),
    ],
)
def test_only_these_parts_train(shops, name, tune, trains):
    model = create(name, shops, **PLAIN[name], tune=tune)
    before = {k: v.clone() for k, v in model.named_parameters()}
    trained, everything = model.trained_share()
    assert everything == sum(p.numel() for p in model.parameters())
    assert trained == sum(v.numel() for k, v in before.items() if k.partition(".")[0] in trains)
    trainer = Trainer(model, shops, device="cpu", metrics_every=0, lr=0.05, gradient_norms=True)
    record = trainer.epoch()
    moved = {k.partition(".")[0] for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert moved == trains
    if name == "missrec":
        assert record.gradient_norms["diversity"] == 0
    assert create(name, shops, **PLAIN[name]).trained_share() == (everything, everything)


def test_nothing_left_to_train_is_said(shops):
    with pytest.raises(OptionError, match=r"MISSRec\(tune='frozen'\): nothing is left to train.*expected full or adapters"):
        create("missrec", shops, tune="frozen", ids=False, fusion="mean")
    assert create("missrec", shops, tune="frozen", ids=False).trained_share()[0] == 1  # λ alone


# -- the file -----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def file(shops: Dataset, tmp_path: Path) -> Path:
    model = create("missrec", shops, **PLAIN["missrec"], ids=False)
    fit(model, shops, weights=MISSRec.pretraining, epochs=1, progress=False, device="cpu")
    Pretrained.of(model, {"data": ["tiny", "other"]}).save(tmp_path / "pretrained.npz")
    return tmp_path / "pretrained.npz"


def test_a_model_begins_with_the_file(shops, file, tmp_path):
    tiny, kept = in_order(make_tiny()), load_pretrained(file)
    assert (kept.model, kept.info) == ("MISSRec", {"data": ["tiny", "other"]})
    model = create("missrec", tiny, **PLAIN["missrec"], pretrained=str(file), tune="adapters")
    for name, value in model.transferable().items():
        assert torch.equal(value, kept.parameters[name]), name
    interests = model.interest.clone()
    model.find_interests()
    assert torch.equal(model.interest, interests)
    users = torch.arange(tiny.n_users)
    scores = model.score(users)
    model.save(tmp_path / "model.pt")
    file.unlink()
    again = load_model(tmp_path / "model.pt", tiny)  # what was saved holds all: the file is no longer needed
    assert torch.equal(again.score(users), scores)
    assert again.options == model.options
    assert again.trained_share() == model.trained_share()


def test_a_run_knows_what_the_file_held(file, tmp_path):
    tiny = in_order(make_tiny())
    settings = {"epochs": 1, "batch_size": 64, "metric": "recall@10"}

    def config(source: str | None) -> RunConfig:
        return RunConfig(data_key(tiny), "missrec", {**PLAIN["missrec"], "pretrained": source}, settings=settings)

    before = config(str(file))
    assert before.begins_with == {"pretrained": hashlib.sha256(file.read_bytes()).hexdigest()}
    done = run(tiny, before, tmp_path / "runs", progress=False, device="cpu")
    assert run(tiny, config(str(file)), tmp_path / "runs", progress=False, device="cpu").reused

    kept = load_pretrained(file)
    Pretrained(kept.model, kept.options, {k: p + 1 for k, p in kept.parameters.items()}, kept.info).save(file)
    assert config(str(file)).folder != before.folder
    assert not run(tiny, config(str(file)), tmp_path / "runs", progress=False, device="cpu").reused

    file.unlink()
    assert read_config(done.folder) == before  # what it began with is written down
    with pytest.raises(DataError, match="cannot read the pre-trained model"):
        config(str(file))


def test_a_stored_copy_is_known_by_its_content(tiny, monkeypatch):
    def config(option: str, value: str) -> RunConfig:
        return RunConfig(data_key(tiny), "missrec" if option == "pretrained" else "alignrec", {option: value})

    assert "begins_with" not in config("start", "scratch").to_json()
    for option, name, kind in (("pretrained", "bazaar", "sequences"), ("start", "pretrained", "encoder")):
        config_before = config(option, name)
        assert config_before.begins_with == {option: hashlib.sha256(store.read_model(kind)).hexdigest()}
        with monkeypatch.context() as patch:
            patch.setattr(store, "read_model", lambda kind, folder=None: b"made anew")
            assert config(option, name).folder != config_before.folder


def test_a_file_that_does_not_fit_is_refused(shops, file, tmp_path):
    tiny = in_order(make_tiny())
    narrow = tiny.with_features({"image": tiny.features["image"][:, :4], "text": tiny.features["text"]})
    for data, options, sentence in (
        (tiny, {"dim": 4}, "dim: the two models differ in an option.*found 8 there, expected 4 as here"),
        (tiny, {"scaling": "unit"}, "scaling"),
        (narrow, {}, "modality.image.weight: a parameter of another size"),
    ):
        with pytest.raises(OptionError, match=sentence):
            MISSRec(data, **{**PLAIN["missrec"], **options}, pretrained=str(file))
    with pytest.raises(OptionError, match="made by another model.*found MISSRec, expected UniSRec"):
        UniSRec(tiny, **PLAIN["unisrec"], pretrained=str(file))
    with pytest.raises(DataError, match="cannot read the pre-trained model"):
        MISSRec(tiny, pretrained=str(tmp_path / "none.npz"))
    with pytest.raises(OptionError, match="not a path"):
        MISSRec(tiny, pretrained=3)


def test_a_damaged_file_is_refused(file):
    content = file.read_bytes()
    for place in (0, len(content) // 3, len(content) // 2, len(content) - 30):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        file.write_bytes(bytes(broken))
        with pytest.raises(DataError, match="pre-trained|checksum"):
            load_pretrained(file)
    file.write_bytes(content[:100])
    with pytest.raises(DataError, match="pre-trained"):
        load_pretrained(file)
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    arrays["parameter/sharpness"] = arrays["parameter/sharpness"] + 1
    np.savez_compressed(file, **arrays)
    with pytest.raises(DataError, match="differ from their checksum"):
        load_pretrained(file)
