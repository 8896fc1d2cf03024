"""Palette, projections and figures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

from mmrec_teach.errors import InputError, OptionError
from mmrec_teach.views import Projector, align_to, alt_text, figures, kept_neighbours, palette, pca
from mmrec_teach.views.changes import change_dots
from mmrec_teach.views.projection import nearest, nearest_in_picture, overlap


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# -- palette -----------------------------------------------------------------------------------------------------------------
def test_styles_are_distinct_for_64_categories_and_never_by_colour_alone():
    pairs = [palette.style(n) for n in range(64)]
    assert len(set(pairs)) == 64
    first = pairs[:8]
    assert len({c for c, _ in first}) == len({s for _, s in first}) == 8
    for a in range(64):  # wherever a colour comes back, the shape is another one
        for b in range(a):
            assert pairs[a][0] != pairs[b][0] or pairs[a][1] != pairs[b][1]
    with pytest.raises(OptionError):
        palette.style(-1)


def test_popularity_scale_falls_in_lightness():
    def lightness(colour: str) -> float:
        r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    values = [lightness(c) for _, c in palette.POPULARITY_SCALE]
    assert values == sorted(values, reverse=True)
    assert [s for s, _ in palette.POPULARITY_SCALE] == sorted(s for s, _ in palette.POPULARITY_SCALE)


# -- neighbours --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_equals_a_plain_sort(rng, metric):
    x = rng.normal(size=(57, 5)).astype(np.float32)
    rows = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x
    far = 1 - rows @ rows.T if metric == "cosine" else np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(far, np.inf)
    indices, distances = nearest(x, 6, metric, block=10)
    expected = np.argsort(far, axis=1, kind="stable")[:, :6]
    assert (indices == expected).all()
    np.testing.assert_allclose(distances, np.take_along_axis(far, expected, 1), atol=2e-4)


def test_nearest_leaves_the_point_itself_out_among_duplicates():
    indices, distances = nearest(np.ones((5, 3), np.float32), 4)
    assert all(i not in row for i, row in enumerate(indices))
    assert distances.max() < 1e-6
    assert nearest(np.zeros((4, 2), np.float32), 2, "cosine")[1].min() == 1.0  # no direction: similar to nothing
    with pytest.raises(OptionError):
        nearest(np.ones((3, 2), np.float32), 3)
    with pytest.raises(OptionError):
        nearest(np.ones((3, 2), np.float32), 1, "manhattan")


def test_nearest_in_the_picture_is_the_same_and_leaves_the_point_itself_out(rng):
    xy = rng.normal(size=(300, 2)).astype(np.float32)
    np.testing.assert_array_equal(nearest_in_picture(xy, 10), nearest(xy, 10, "euclidean")[0])
    found = nearest_in_picture(np.zeros((40, 2), np.float32), 3)
    assert found.shape == (40, 3)
    assert not (found == np.arange(40)[:, None]).any()
    assert all(len(set(row)) == 3 for row in found)


def test_overlap_counts_common_members():
    assert overlap(np.array([[0, 1], [2, 3]]), np.array([[1, 0], [3, 9]])) == 0.75
    assert overlap(np.zeros((0, 3), int), np.zeros((0, 3), int)) == 1.0


def test_kept_neighbours_is_one_for_a_faithful_picture_and_chance_for_a_shuffled_one(rng):
    xy = rng.normal(size=(400, 2)).astype(np.float32)
    flat = np.concatenate([xy, np.zeros((400, 3), np.float32)], axis=1)
    assert kept_neighbours(flat, 3 * xy[:, ::-1], metric="euclidean") == 1.0
    shuffled = kept_neighbours(flat, xy[rng.permutation(400)], k=10, metric="euclidean")
    assert abs(shuffled - 10 / 399) < 0.02
    assert kept_neighbours(flat[:1], xy[:1]) == 1.0
    with pytest.raises(InputError, match="differ in length"):
        kept_neighbours(flat, xy[:10])


# -- linear pictures ---------------------------------------------------------------------------------------------------------
def test_pca_finds_the_plane_and_takes_tensors(rng):
    plane = rng.normal(size=(80, 2)) * [3, 1]
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    x = torch.tensor(plane @ basis[:2] + 5, requires_grad=True)
    xy = pca(x)
    assert xy.shape == (80, 2)
    assert xy.dtype == np.float32
    back = align_to(plane - plane.mean(0), xy, scale=True)
    np.testing.assert_allclose(back, plane - plane.mean(0), atol=1e-3)
    assert np.ptp(xy, axis=0).max() == pytest.approx(10, rel=1e-5)
    wide = pca(rng.normal(size=(5, 300)))  # fewer rows than columns takes the other route
    assert np.isfinite(wide).all()
    assert (pca(np.ones((4, 3))) == 0).all()
    assert pca(np.zeros((0, 3))).shape == (0, 2)
    assert pca(np.arange(4.0)[:, None]).shape == (4, 2)


def test_both_routes_of_pca_agree(rng):
    x = rng.normal(size=(20, 20))
    tall = pca(x)
    padded = pca(np.concatenate([x, np.zeros((20, 30))], axis=1))
    np.testing.assert_allclose(tall, padded, atol=1e-3)


def test_align_to_undoes_turning_mirroring_and_shifting(rng):
    a = rng.normal(size=(30, 2))
    turn = np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]]) @ np.diag([1, -1])
    np.testing.assert_allclose(align_to(a, a @ turn + 7), a, atol=1e-5)
    doubled = align_to(a, 2 * a)
    # shapes stay unless a factor is allowed
    np.testing.assert_allclose(np.ptp(doubled, axis=0), 2 * np.ptp(a, axis=0), rtol=1e-4)
    np.testing.assert_allclose(align_to(a, 2 * a, scale=True), a, atol=1e-5)
    with pytest.raises(InputError):
        align_to(a, a[:5])


# -- UMAP --------------------------------------------------------------------------------------------------------------------
def clusters(rng: np.random.Generator, n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    label = np.arange(n) % 3
    centres = 4 * np.eye(3, 10)
    return (centres[label] + 0.3 * rng.normal(size=(n, 10))).astype(np.float32), label


def test_projector_fits_updates_in_place_and_repeats_itself(rng):
    x, label = clusters(rng)
    projector = Projector()
    first = projector.fit(x)
    assert projector.method == "UMAP"
    assert first.shape == (150, 2)
    kept = projector.kept()
    assert kept == pytest.approx(kept_neighbours(x, first), abs=1e-9)
    near = nearest(first, 10, "euclidean")[0]
    assert (label[near] == label[:, None]).mean() > 0.95  # three clusters stay three clusters
    moved = projector.update(x + 0.01 * rng.normal(size=x.shape))
    size = np.ptp(first, axis=0).max()
    assert np.linalg.norm(moved - first, axis=1).mean() < 0.1 * size  # a small change moves points a little
    assert projector.kept() > 0.5 * kept

    again = Projector()
    np.testing.assert_array_equal(again.fit(x), first)
    fresh = Projector(seed=5).fit(x)
    assert not np.array_equal(fresh, first)

    projector.restart()
    turned = projector.update(x, "PCA")
    straight = pca(x, "cosine")
    assert np.linalg.norm(turned - moved) <= np.linalg.norm(straight - straight.mean(0) - moved + moved.mean(0)) + 1e-3


def test_projector_takes_small_flat_and_growing_tables(rng):
    for n in (0, 1, 2, 3):
        projector = Projector()
        assert projector.fit(rng.normal(size=(n, 4))).shape == (n, 2)
        assert projector.method == "PCA"
        assert 0 <= projector.kept() <= 1
    few = Projector()
    assert np.isfinite(few.fit(rng.normal(size=(6, 4)))).all()  # fewer points than neighbours asked for
    assert few.method == "UMAP"
    flat = Projector()
    assert (flat.fit(np.ones((50, 4))) == 0).all()
    two = Projector().fit(np.repeat(np.eye(2, 4), 25, axis=0))  # two points, 25 times each
    assert np.isfinite(two).all()
    growing = Projector()
    growing.update(rng.normal(size=(20, 4)), "PCA")
    assert growing.update(rng.normal(size=(25, 4)), "PCA").shape == (25, 2)


def test_projector_says_what_is_wrong(rng):
    x = rng.normal(size=(10, 4))
    x[3, 1] = np.nan
    with pytest.raises(InputError, match="row 3"):
        Projector().fit(x)
    with pytest.raises(InputError, match="table"):
        Projector().fit(np.arange(5))
    with pytest.raises(OptionError):
        Projector(n_neighbors=1)
    with pytest.raises(OptionError):
        Projector(metric="manhattan")
    with pytest.raises(OptionError):
        Projector().update(x[:2], "tsne")
    with pytest.raises(OptionError, match="no picture"):
        Projector().kept()


def test_importing_views_imports_neither_umap_nor_widgets():
    code = "import sys, mmrec_teach.views; print([m for m in ('umap', 'numba', 'ipywidgets', 'anywidget') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


# -- figures -----------------------------------------------------------------------------------------------------------------
HISTORY = [
    {"epoch": e, "losses": {"bpr": 0.7 / e, "l2": 40.0 * e}, "metrics": {"recall@20": v} if v else None}
    for e, v in enumerate([0.1, 0.3, None, 0.2], start=1)
]


def all_figures() -> dict[str, go.Figure]:
    rng = np.random.default_rng(0)
    xy = rng.normal(size=(40, 2)).astype(np.float32)
    images = rng.integers(0, 255, (7, 8, 8, 3)).astype(np.uint8)
    images[4] = 0
    table = pd.DataFrame(
        {"model": ["bpr", "vbpr"], "metric": ["recall@20"] * 2, "mean": [0.2, 0.3], "low": [0.18, 0.27], "high": [0.22, 0.33]}
    )
    changes = table.assign(change="zero", difference=[0.1, -0.1], low=[0.0, -0.2], high=[0.2, 0.0])
    frequency = pd.DataFrame({"bucket": ["cold", "1-4", "5-9"], "recall@20": [0.0, 0.1, 0.2]})
    return {
        "loss_curves": figures.loss_curves(HISTORY),
        "metric_bars": figures.metric_bars(table),
        "change_dots": change_dots(changes),
        "category": figures.embedding_map(xy, ["a", "b", "c", "b"] * 10, kept=0.4, measured={"effective rank": 3.2}),
        "popularity": figures.embedding_map(xy, np.arange(40), "popularity", method="PCA"),
        "cold": figures.embedding_map(xy, np.arange(40) < 5, "cold"),
        "plain": figures.embedding_map(xy),
        "id_content_map": figures.id_content_map(xy, xy + 1, kept=0.3),
        "long_tail": figures.long_tail([50, 20, 5, 3, 2, 1, 1, 0, 0, 0]),
        "frequency_bars": figures.frequency_bars({"bpr": frequency, "vbpr": frequency}),
        "oversmoothing": figures.oversmoothing([0, 1, 4], [30, 20, 5], recall=[0.1, 0.2, 0.15], mean_cosine=[0, 0.1, 0.7]),
        "contact_sheet": figures.contact_sheet(images, [f"product {i}" for i in range(7)], marks=[True] + [False] * 6),
    }


@pytest.mark.parametrize("name", list(all_figures()))
def test_every_figure_has_a_title_labelled_axes_alt_text_and_serialises(name):
    figure = all_figures()[name]
    assert isinstance(figure, go.Figure)
    assert len(figure.layout.title.text) > 5
    alt = alt_text(figure)
    assert alt.endswith(".")
    assert len(alt) > 20
    for axis in [*figure.select_xaxes(), *figure.select_yaxes()]:
        assert axis.visible is False or axis.title.text
    assert figure.layout.font.size or figure.layout.template.layout.font.size >= 14
    assert "sendChartToCloud" in figure.layout.template.layout.modebar.remove
    assert len(figure.to_json()) > 100


def test_titles_can_be_given_and_foreign_figures_have_no_alt():
    assert figures.long_tail([3, 1], title="My own").layout.title.text == "My own"
    assert alt_text(go.Figure()) == ""
    figure = go.Figure()
    assert figures.show(figure) is figure


def test_figures_say_the_numbers_they_show():
    made = all_figures()
    assert "best after epoch 2: 0.3000" in made["loss_curves"].layout.title.text
    assert made["loss_curves"].layout.yaxis.type == "log"  # terms a thousandfold apart
    assert made["metric_bars"].layout.title.text.startswith("vbpr has the highest recall@20: 0.3000; the interval is clear")
    bars = made["metric_bars"].data[0]
    assert bars.error_y.array[0] == pytest.approx(0.02)
    assert "20% of items take 85%" in made["long_tail"].layout.title.text
    assert "3 of 10 items have none" in made["long_tail"].layout.title.text
    assert "keeps 40% of neighbours" in alt_text(made["category"])
    assert "largest b with 20" in alt_text(made["category"])
    assert "5 of them cold" in alt_text(made["cold"])
    assert "best at 1" in made["oversmoothing"].layout.title.text
    assert "7 products, 1 without a picture, 1 ticked" in made["contact_sheet"].layout.title.text
    assert len(made["contact_sheet"].layout.images) == 6


def test_map_groups_cover_every_point_once_and_keep_their_colours():
    labels = np.array(["pear", "apple", None, "other", "apple"], dtype=object)
    parts = figures.groups(labels, "category", 5)
    assert [label for label, _ in parts] == ["(none)", "apple", "pear", "other"]
    assert sorted(np.concatenate([rows for _, rows in parts])) == list(range(5))
    traces = figures.map_traces(np.zeros((5, 2), np.float32), labels, "category")
    assert len({(t.marker.color, t.marker.symbol) for t in traces}) == len(traces)
    with pytest.raises(OptionError):
        figures.groups(labels, "mood", 5)
    with pytest.raises(InputError):
        figures.groups(labels[:3], "category", 5)


def test_figures_refuse_what_they_cannot_draw():
    with pytest.raises(InputError):
        figures.loss_curves([])
    with pytest.raises(InputError):
        figures.metric_bars(pd.DataFrame({"model": ["a"]}))
    with pytest.raises(InputError):
        figures.embedding_map(np.zeros((3, 3)))
    with pytest.raises(InputError):
        figures.id_content_map(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(InputError):
        figures.contact_sheet(np.zeros((2, 4, 4, 3)))
    with pytest.raises(InputError):
        figures.oversmoothing([1, 2], [3.0])
    with pytest.raises(InputError):
        figures.frequency_bars(pd.DataFrame({"bucket": ["a"]}))
    with pytest.raises(InputError):
        figures.embedding_map(np.zeros((3, 2)), hover=["one"])


def test_frequency_bars_read_the_evaluations_table(tiny):
    from mmrec_teach.evaluation import evaluate
    from mmrec_teach.models import create

    table = evaluate(create("popularity", tiny), tiny, "test").by_frequency()
    figure = figures.frequency_bars(table)
    assert list(figure.data[0].x) == [str(v) for v in table["bucket"]]
    np.testing.assert_allclose(np.array(figure.data[0].y, dtype=float), table["recall@20"])
