"""A what-if panel without training: how the same rankings score under other rules of measuring.

The four baselines stand still; cut-off, metric, split and mask move.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.data import Dataset, Interactions, splits
from mmrec_teach.errors import OptionError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.evaluation import metrics as m
from mmrec_teach.models import create
from mmrec_teach.views import figures, palette
from mmrec_teach.views.panel_parts import LivePlot, Sentence, shell, w

METRICS = ("recall", "ndcg", "precision", "hitrate")
SPLITS = {"as it came": None, "random per user": "random", "time per user": "user-time", "one date for all": "global-time"}
MASKS = {"nothing": (), "train": ("train",), "train and valid": ("train", "valid")}


class WhatIfProtocol:
    """The panel; see :func:`whatif_protocol`. Shows itself as the last expression of a cell.

    Attributes:
        controls: the widgets by name: "k", "metric", "split", "mask".
        plot: the live figure they move.
    """

    def __init__(self, data: Dataset, models: tuple[str, ...], k_max: int):
        if not 2 <= k_max <= data.n_items:
            raise OptionError("cut-off out of range", where="k_max", found=k_max, expected=f"2..{data.n_items}")
        self._data, self._k_max = data, k_max
        self._models = [name for name in models if name != "oracle" or data.truth is not None]
        self._splits: dict[str, Dataset] = {}
        self._hits: dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]] = {}
        timed = all(p.timestamps is not None for p in (data.train, data.valid, data.test) if len(p))
        names = [label for label, how in SPLITS.items() if timed or how in (None, "random")]
        wide = {"style": {"description_width": "90px"}, "layout": w.Layout(width="330px")}
        self.controls: dict[str, Any] = {
            "k": w.IntSlider(value=min(20, k_max), min=1, max=k_max, description="cut-off K", **wide),
            "metric": w.Dropdown(options=METRICS, value="recall", description="metric", **wide),
            "split": w.Dropdown(options=names, value=names[0], description="split", **wide),
            "mask": w.Dropdown(options=list(MASKS), value="train and valid", description="hidden items", **wide),
        }
        self.plot = LivePlot(self._empty(), "protocol", "mmrec-map")
        self._sentence = Sentence(text="")
        self._refresh()
        for control in self.controls.values():
            control.observe(lambda _: self._refresh(), names="value")
        k, metric, split, mask = self.controls.values()
        self.widget = shell("What if we measured otherwise?", ((k, split), (metric, mask)), self.plot, self._sentence)

    @property
    def figure(self) -> go.Figure:
        """A plain figure of what the panel shows."""
        return self.plot.figure

    def values(self) -> dict[str, np.ndarray]:
        """Return model -> (k_max,) mean over users of the chosen metric at every cut-off from 1."""
        split, mask = self.controls["split"].value, self.controls["mask"].value
        out = {}
        for name in self._models:
            hits, n_relevant = self._judged(split, mask, name)
            found, places = np.cumsum(hits, axis=1), np.arange(1, self._k_max + 1)
            if self.controls["metric"].value == "recall":
                per_user = found / n_relevant[:, None]
            elif self.controls["metric"].value == "precision":
                per_user = found / places
            elif self.controls["metric"].value == "hitrate":
                per_user = found > 0
            else:
                discount = 1 / np.log2(places + 1)
                ideal = np.cumsum(discount)
                per_user = np.cumsum(hits * discount, axis=1) / ideal[np.minimum(n_relevant[:, None], places) - 1]
            out[name] = per_user.mean(0)
        return out

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _dataset(self, split: str) -> Dataset:
        if split not in self._splits:
            how, data = SPLITS[split], self._data
            if how is not None:
                events = Interactions.concatenate(data.train, data.valid, data.test)
                data = data.with_splits(*splits.make(events, how), source=f"{data.name}, split {how}")
            self._splits[split] = data
        return self._splits[split]

    def _judged(self, split: str, mask: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(n, k_max) hits and (n,) relevant items of a model's test lists."""
        key = (split, mask, name)
        if key not in self._hits:
            data = self._dataset(split)
            found = evaluate(create(name, data), data, "test", ks=(self._k_max,), mask=MASKS[mask])
            hits = m.hit_matrix(found.topk, (found.relevant[0], found.relevant[1]), data.n_items)
            self._hits[key] = hits, found.n_relevant
        return self._hits[key]

    def _empty(self) -> go.Figure:
        figure = make_subplots(1, 2, column_widths=[0.58, 0.42], horizontal_spacing=0.1)
        for n, name in enumerate(self._models):
            line = {"color": palette.style(n)[0], "width": 3, "dash": palette.dash(n)}
            figure.add_scatter(x=[], y=[], mode="lines", name=name, line=line, row=1, col=1)
        colours = [palette.style(n)[0] for n in range(len(self._models))]
        bars = {"x": self._models, "y": [0.0] * len(self._models), "marker": {"color": colours}, "textposition": "outside"}
        figure.add_bar(**bars, showlegend=False, cliponaxis=False, row=1, col=2)
        figure.update_xaxes(title="cut-off K", range=[0, self._k_max + 1], row=1, col=1)
        figure.update_xaxes(type="category", row=1, col=2)
        figure.update_yaxes(rangemode="tozero")
        return figures._finish(figure, "…", "", 430, autosize=True, legend={"orientation": "h", "y": -0.2, "x": 0})

    def _refresh(self) -> None:
        k, metric = self.controls["k"].value, self.controls["metric"].value
        split, mask = self.controls["split"].value, self.controls["mask"].value
        curves = self.values()
        users = len(self._judged(split, mask, self._models[0])[1])
        best = max(curves, key=lambda name: curves[name][k - 1])
        title = f"{metric}@{k}: {best} leads with {curves[best][k - 1]:.3f} ({mask} hidden, split {split})"
        listed = ", ".join(f"{name} {values[k - 1]:.3f}" for name, values in curves.items())
        *lines, bars = range(len(self._models) + 1)
        places = np.arange(1, self._k_max + 1)
        changes: dict[int, dict[str, Any]] = {n: {"x": places, "y": values} for n, values in zip(lines, curves.values())}
        heights = np.array([values[k - 1] for values in curves.values()])
        changes[bars] = {"y": heights, "text": [f"{v:.3f}" for v in heights]}
        here = {"type": "line", "xref": "x", "yref": "y domain", "x0": k, "x1": k, "y0": 0, "y1": 1}
        self.plot.change(
            changes,
            {
                "shapes": [here | {"line": {"color": palette.INK, "width": 1.5, "dash": "dot"}}],
                "title.text": title,
                "yaxis.title.text": f"{metric}@K, mean over users",
                "yaxis2.title.text": f"{metric}@{k}",
                "meta.alt": f"Curves over the cut-off and bars at {k}. {listed}.",
            },
        )
        self._sentence.text = f"{metric}@{k}, {users:,} users judged, {mask} hidden, split {split}: {listed}."


def whatif_protocol(
    data: Dataset, models: tuple[str, ...] = ("random", "popularity", "item-knn", "oracle"), k_max: int = 50
) -> WhatIfProtocol:
    """Return a panel that moves the rules of measuring and leaves the models alone: cut-off, metric, split, hidden items.

    Args:
        data: a data set; splits by time are offered where its interactions have timestamps.
        models: registered names of models that need no training; the oracle is left out where there is no planted truth.
        k_max: the largest cut-off.

    Raises:
        OptionError: a cut-off out of range or an unknown model.
    """
    return WhatIfProtocol(data, tuple(models), k_max)
