"""A what-if panel without training: density peaks on a shop's tokens, with K and k to move, k-means beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.data import Dataset
from mmrec_teach.errors import InputError
from mmrec_teach.evaluation.recovery import Tokens, recovery, tokens_of
from mmrec_teach.ops.clustering import DensityPeaks, density_peaks, dpc_knn, minibatch_kmeans
from mmrec_teach.views import figures, palette
from mmrec_teach.views.panel_parts import LivePlot, Sentence, shell, w

GRID = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
"""Numbers of clusters at which the curve is drawn."""
MEASURES = {"ARI": "ari", "NMI": "nmi", "pairs alike": "pairs"}


class WhatIfInterests:
    """The panel; see :func:`whatif_interests`. Shows itself as the last expression of a cell.

    Attributes:
        controls: the widgets by name: "features", "scaling", "clusters" (K), "neighbours" (k), "itself", "assign", "measure".
        plot: the live figure they move.
    """

    def __init__(self, data: Dataset, labels: np.ndarray):
        self._data, self._labels = data, labels
        self._tokens: dict[tuple[str, str], Tokens] = {}
        self._peaks: dict[tuple, DensityPeaks] = {}
        self._curves: dict[tuple, list[dict[str, float]]] = {}
        wide = {"style": {"description_width": "110px"}, "layout": w.Layout(width="330px")}
        whole = w.IntSlider(value=12, min=2, max=GRID[-1], description="clusters K", continuous_update=False, **wide)
        near = w.IntSlider(value=5, min=1, max=60, description="neighbours k", continuous_update=False, **wide)
        self.controls: dict[str, Any] = {
            "clusters": whole,
            "neighbours": near,
            "features": w.Dropdown(options=list(data.modalities), description="features", **wide),
            "scaling": w.Dropdown(options=["unit", "raw"], value="unit", description="scaling", **wide),
            "assign": w.Dropdown(options=["nearest", "parent"], description="points join", **wide),
            "measure": w.Dropdown(options=list(MEASURES), description="measure", **wide),
            "itself": w.Dropdown(options=["counts", "left out"], description="the point itself", **wide),
        }
        self.plot = LivePlot(self._empty(), "interests", "mmrec-map")
        self._sentence = Sentence(text="")
        self._refresh()
        for control in self.controls.values():
            control.observe(lambda _: self._refresh(), names="value")
        pairs = (("clusters", "features"), ("neighbours", "scaling"), ("measure", "assign"), ("itself",))
        rows = [[self.controls[name] for name in pair] for pair in pairs]
        self.widget = shell("What if there were more centres, or more neighbours?", rows, self.plot, self._sentence)

    @property
    def figure(self) -> go.Figure:
        """A plain figure of what the panel shows."""
        return self.plot.figure

    def values(self) -> dict[str, dict[str, float]]:
        """Return method -> :func:`~mmrec_teach.evaluation.recovery.recovery` at the chosen K."""
        n = min(self.controls["clusters"].value, len(self._chosen()[0]))
        return {name: self._measured(name, n) for name in ("DPC-KNN", "mini-batch k-means")}

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _chosen(self) -> tuple[Tokens, DensityPeaks, tuple]:
        c = {name: control.value for name, control in self.controls.items()}
        of = (c["features"], c["scaling"])
        if of not in self._tokens:
            self._tokens[of] = tokens_of(self._data, *of)
        tokens = self._tokens[of]
        how = (*of, min(c["neighbours"], len(tokens) - 1), c["itself"] == "counts")
        if how not in self._peaks:
            self._peaks[how] = density_peaks(tokens.x, how[2], include_self=how[3])
        return tokens, self._peaks[how], how

    def _measured(self, method: str, n: int) -> dict[str, float]:
        tokens, peaks, how = self._chosen()
        assign = self.controls["assign"].value
        key = (method, n, *(how[:2] if method != "DPC-KNN" else (*how, assign)))
        if key not in self._curves:
            planted = self._labels[tokens.items]
            if method == "DPC-KNN":
                found = [dpc_knn(tokens.x, n, assign=assign, peaks=peaks)]
            else:
                found = [minibatch_kmeans(tokens.x, n, seed=seed) for seed in range(3)]
            each = [recovery(one.assignment, planted) for one in found]
            self._curves[key] = {name: float(np.mean([e[name] for e in each])) for name in each[0]}
        return self._curves[key]

    def _empty(self) -> go.Figure:
        figure = make_subplots(1, 2, column_widths=[0.5, 0.5], horizontal_spacing=0.11)
        marks = (
            ("points", {"size": 5, "color": palette.BLUE, "opacity": 0.55}),
            ("centres", {"size": 11, "color": palette.ORANGE, "symbol": "diamond", "line": {"width": 1, "color": palette.INK}}),
        )
        for name, marker in marks:
            figure.add_scatter(x=[], y=[], mode="markers", name=name, marker=marker, row=1, col=1)
        dashed = {"color": palette.INK, "width": 1.5, "dash": "dash"}
        figure.add_scatter(x=[], y=[], mode="lines", name="product of the last centre", line=dashed, row=1, col=1)
        for n, name in enumerate(("DPC-KNN", "mini-batch k-means")):
            colour, symbol = palette.style(n + 2)
            figure.add_scatter(
                x=list(GRID), y=[0.0] * len(GRID), mode="lines+markers", name=name,
                line={"color": colour, "width": 3, "dash": palette.dash(n)}, marker={"symbol": symbol, "size": 9}, row=1, col=2,
            )  # fmt: skip
        figure.update_xaxes(title="density ρ", row=1, col=1).update_yaxes(title="delta δ", row=1, col=1)
        figure.update_xaxes(title="clusters K", type="log", tickvals=list(GRID), row=1, col=2)
        figure.update_yaxes(rangemode="tozero", row=1, col=2)
        return figures._finish(figure, "…", "", 440, autosize=True, legend={"orientation": "h", "y": -0.2, "x": 0})

    def _refresh(self) -> None:
        tokens, peaks, how = self._chosen()
        n, said = min(self.controls["clusters"].value, len(tokens)), self.controls["measure"].value
        name = MEASURES[said]
        centres = dpc_knn(tokens.x, n, peaks=peaks).centres.numpy()
        rho, delta = peaks.density.double().numpy(), peaks.delta.double().numpy()
        least = float((rho * delta)[centres].min())
        x = np.linspace(max(float(rho.min()), 1e-9), float(rho.max()), 60)
        y = np.minimum(least / x, 1.05 * delta.max())
        here = self.values()
        curves = {method: [self._measured(method, k)[name] if k <= len(tokens) else np.nan for k in GRID] for method in here}
        dpc, means = (here[method][name] for method in curves)
        chance = here["DPC-KNN"]["chance"]
        title = f"K = {n}, k = {how[2]}: {said} of DPC-KNN {dpc:.2f}, of mini-batch k-means {means:.2f}"
        line = {"type": "line", "xref": "x2", "yref": "y2 domain", "x0": n, "x1": n, "y0": 0, "y1": 1}
        self.plot.change(
            {
                0: {"x": rho, "y": delta},
                1: {"x": rho[centres], "y": delta[centres]},
                2: {"x": x, "y": y},
                3: {"y": np.array(curves["DPC-KNN"])},
                4: {"y": np.array(curves["mini-batch k-means"])},
            },
            {
                "shapes": [line | {"line": {"color": palette.INK, "width": 1.5, "dash": "dot"}}],
                "title.text": title,
                "yaxis2.title.text": said + (f" (chance {chance:.2f})" if name == "pairs" else ""),
                "meta.alt": f"Left: density against delta of {len(tokens):,} tokens, {n} centres marked. Right: {said} over K. {title}.",
            },
        )
        self._sentence.text = f"{title}. {len(tokens):,} tokens of {' and '.join(tokens.names)}, {how[1]}."


def whatif_interests(data: Dataset, labels: Any = None) -> WhatIfInterests:
    """Return a panel that clusters a shop's tokens anew as K and k move, and says what is recovered of the items' classes.

    Args:
        data: its items need features.
        labels: (I,) each item's class; None takes the planted interests, or the items' column ``category``.

    Raises:
        InputError: no classes, or not one an item.
    """
    if labels is None and data.truth is not None:
        labels = data.truth.item_interest
    if labels is None and data.items is not None and "category" in data.items:
        labels = data.items["category"].astype(str)
    if labels is None or len(labels) != data.n_items:
        found = "none" if labels is None else f"{len(labels)} classes"
        raise InputError(
            "one class per item is needed", where="whatif_interests(labels=)", found=found, expected=str(data.n_items)
        )
    return WhatIfInterests(data, np.unique(np.asarray(labels), return_inverse=True)[1])
