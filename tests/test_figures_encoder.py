"""The encoder's figures: what is hidden is hidden, guesses stand where they belong, titles say what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from mmrec_teach.data import load
from mmrec_teach.errors import InputError
from mmrec_teach.training.pretrain import Encoder, pretrained
from mmrec_teach.views.figures import alt_text
from mmrec_teach.views.figures_encoder import HIDDEN, guess_patches, guess_words, hidden_pictures, reconstruction, retrieval


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return pretrained("bazaar")


def test_hidden_and_guessed_patches_stand_where_they_belong(encoder: Encoder) -> None:
    data = load("bazaar/attic")
    items = np.flatnonzero(~data.missing["image"])[:3]
    hidden = np.zeros((3, 16), dtype=bool)
    hidden[:, 5] = True  # second row, second column
    grey, guessed = hidden_pictures(encoder, data, items, hidden), guess_patches(encoder, data, items, hidden)
    assert (grey[:, 12:24, 12:24] == HIDDEN).all()
    for pictures in (grey, guessed):
        rest = pictures.copy()
        rest[:, 12:24, 12:24] = data.images[items][:, 12:24, 12:24]
        assert np.array_equal(rest, data.images[items])
    typical = np.clip(np.rint(encoder.tokenizer.codebook), 0, 255)
    for picture in guessed:
        assert (typical == picture[12:24, 12:24].reshape(-1)).all(axis=1).any()
    other = guess_patches(encoder, data, items, ~hidden, words=False)
    assert not np.array_equal(other, guess_patches(encoder, data, items, ~hidden))


def test_words_are_guessed_by_what_is_shown(encoder: Encoder) -> None:
    data = load("bazaar")
    item = int(np.flatnonzero(~data.missing["image"] & ~data.missing["text"])[0])
    words = encoder.tokenizer.text(encoder.tokens(data).words[item]).split()
    found = guess_words(encoder, data, item, [words[1]], k=4)
    assert [f["word"] for f in found] == [words[1]] * words.count(words[1])
    assert len(found[0]["guesses"]) == 4
    assert found[0]["chances"] == sorted(found[0]["chances"], reverse=True)
    assert len(guess_words(encoder, data, item)) == len(words)
    assert guess_words(encoder, data, item, [words[1]], k=4, picture=item) == found
    assert guess_words(encoder, data, item, [words[1]], k=4, picture=None) != found
    with pytest.raises(InputError, match="no such word"):
        guess_words(encoder, data, item, ["zebra"])


def test_figures_say_what_they_show(encoder: Encoder) -> None:
    data = load("bazaar/attic")
    items = np.flatnonzero(~data.missing["image"] & ~data.missing["text"])
    figure = reconstruction(encoder, data, items[:2], share=0.5, seed=0)
    assert len(figure.layout.images) == 8
    assert "with the caption" in figure.layout.title.text
    assert "four pictures in a row" in alt_text(figure)
    figure = retrieval(encoder, data, items[:3], items[:20], k=4)
    assert len(figure.layout.images) == 3 * 5
    similarity = encoder.similarity(data, items[:20])
    hits = sum((similarity[:, n] > similarity[n, n]).sum() < 4 for n in range(3))
    assert figure.layout.title.text.startswith(f"{hits} of 3 captions find their own picture")
    assert alt_text(figure)
    with pytest.raises(InputError, match="not among the items"):
        retrieval(encoder, data, [int(items[30])], items[:20])
    for wrong in ([], [data.n_items], [-1]):
        with pytest.raises(InputError, match="row numbers"):
            reconstruction(encoder, data, wrong)
