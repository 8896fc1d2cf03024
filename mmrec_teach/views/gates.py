"""A what-if panel of the two towers: turn the gate of a trained model and see at once who is found; change the training too."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrec_teach.data import Dataset
from mmrec_teach.errors import DataError
from mmrec_teach.evaluation import evaluate
from mmrec_teach.models import TwoTower
from mmrec_teach.training import Trainer
from mmrec_teach.views import figures, palette
from mmrec_teach.views.panel_parts import LivePlot, Sentence, shell, w

K = 20
LEANS = (-6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
"""Leans of the gate at which the curve is drawn."""
TRIPLET = (0.0, 0.1, 1.0, 10.0)
CLUSTERS = (0, 4, 16, 64, 256)
NEW = (0.0, 0.1, 0.3)
TRAINING = {"batch_size": 512, "lr": 5e-3, "metrics_every": 0}


class WhatIfGate:
    """The panel; see :func:`whatif_gate`. Shows itself as the last expression of a cell.

    Attributes:
        controls: the widgets by name: "strength", "lean" (at once), "form", "statistics", "new", "triplet", "clusters" (train anew).
        plot: the live figure they move.
    """

    def __init__(self, data: Dataset, epochs: int, dim: int, seed: int):
        self._data, self._epochs, self._dim, self._seed = data, epochs, dim, seed
        self._models: dict[tuple, TwoTower] = {}
        self._curves: dict[tuple, list[tuple[float, float]]] = {}
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        window = data.exposures is not None and data.clicks is not None
        wide = {"style": {"description_width": "110px"}, "layout": w.Layout(width="330px")}
        slow = {"continuous_update": False, **wide}
        leaves = [n for n in CLUSTERS if n < data.n_items]
        self.controls: dict[str, Any] = {
            "strength": w.FloatSlider(value=1.0, min=0.0, max=4.0, step=0.1, description="gate strength κ", **slow),
            "lean": w.FloatSlider(value=0.0, min=LEANS[0], max=LEANS[-1], step=0.25, description="lean to content", **slow),
            "form": w.Dropdown(options=["sum", "concat"], description="gate", **wide),
            "statistics": w.Dropdown(
                options=[*(["window"] if window else []), "others", "constant"], description="the gate reads", **wide
            ),
            "new": w.Dropdown(options=list(NEW), value=0.0, description="taken for new", **wide),
            "triplet": w.Dropdown(options=list(TRIPLET), value=0.1, description="triplet weight", **wide),
            "clusters": w.Dropdown(
                options=[("features", 0), *((f"{n} cluster ids", n) for n in leaves if n)], description="content tower", **wide
            ),
        }
        self.plot = LivePlot(self._empty(), "gates", "mmrec-map")
        self._sentence = Sentence(text="")
        self._model = self._new()
        self._show()
        for name, control in self.controls.items():
            control.observe(self._turned if name in ("strength", "lean") else self._changed, names="value")
        pairs = (("strength", "lean"), ("form", "statistics"), ("triplet", "clusters"), ("new",))
        rows = [[self.controls[name] for name in pair] for pair in pairs]
        self.widget = shell("What if the gate trusted content more?", rows, self.plot, self._sentence)
        self._over = False
        atexit.register(_stop, weakref.ref(self))
        self._changed()

    @property
    def figure(self) -> go.Figure:
        """A plain figure of what the panel shows."""
        return self.plot.figure

    @property
    def model(self) -> TwoTower:
        """The model that is shown, its gate turned as the sliders say."""
        return self._model

    def settle(self, seconds: float | None = None) -> WhatIfGate:
        """Wait until training has ended.

        Raises:
            Exception: what training ended with, if it failed.
        """
        if self._thread is not None:
            self._thread.join(seconds)
        if self._failed is not None:
            raise self._failed
        return self

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    # -- training -----------------------------------------------------------------------------------------------------
    def _key(self) -> tuple:
        return tuple(self.controls[name].value for name in ("form", "statistics", "triplet", "clusters", "new"))

    def _new(self) -> TwoTower:
        form, statistics, _, clusters, new = self._key()
        options = {"gate": form, "statistics": statistics, "clusters": clusters, "new_share": new, "temperature": 0.2}
        return TwoTower(self._data, dim=self._dim, seed=self._seed, **options)

    def _changed(self, _: Any = None) -> None:
        """Show the model of these settings: one trained before, or a new one, epoch by epoch."""
        key = self._key()
        with self._lock:
            self._failed = None
            if key in self._models:
                self._model = self._models[key]
                self._show()
                return
            before = self._thread
            self._thread = threading.Thread(target=self._train, args=(key, before), daemon=True)
            self._thread.start()

    def _train(self, key: tuple, before: threading.Thread | None) -> None:
        """Train the model of ``key``, as long as nothing else is asked for."""
        if before is not None:
            before.join()
        try:
            if self._key() != key:
                return
            model = self._new()
            weights = {**model.default_weights, "triplet": key[2]}
            trainer = Trainer(model, self._data, weights=weights, device="cpu", seed=self._seed, **TRAINING)
            for epoch in range(1, self._epochs + 1):
                trainer.epoch()
                with self._lock:
                    if self._over or self._key() != key:
                        return
                    self._model = model
                    if epoch == self._epochs:
                        self._models[key] = model
                    self._show(f"Training: epoch {epoch} of {self._epochs}. " if epoch < self._epochs else "")
        except Exception as error:
            self._failed = error
            self._sentence.text = f"Training ended with an error: {error}"

    # -- picture ------------------------------------------------------------------------------------------------------
    def values(self) -> dict[str, float]:
        """Return what stands in the picture: mean g and recall of warm and of new items, and their share of the lists."""
        with self._lock:
            return self._measure(self.controls["strength"].value, self.controls["lean"].value)

    def _measure(self, strength: float, lean: float) -> dict[str, float]:
        gate, cold = self._model.weigh, self._data.cold_items
        gate.strength, gate.lean = strength, lean
        judged = evaluate(self._model, self._data, "test", ks=(K,))
        with self._model.evaluating():
            g = self._model.gates().cpu().numpy()
        found = (judged.relevant_ranks > 0) & (judged.relevant_ranks <= K)
        new = cold[judged.relevant[1]]
        shown = judged.topk[judged.topk >= 0]
        told = {"recall": judged.mean(f"recall@{K}"), "shown": float(cold[shown].mean()) if len(shown) else 0.0}
        for name, items, pairs in (("warm", ~cold, ~new), ("new", cold, new)):
            told[f"g {name}"] = float(g[items].mean()) if items.any() else float("nan")
            told[f"found {name}"] = float(found[pairs].mean()) if pairs.any() else float("nan")
        return told

    def _turned(self, _: Any = None) -> None:
        with self._lock:
            self._show()

    def _curve(self) -> list[tuple[float, float]]:
        """Return the share found of warm and new items at every lean, of a model that has been trained to the end."""
        key = (*self._key(), self.controls["strength"].value)
        if self._models.get(key[:-1]) is not self._model:
            return []
        if key not in self._curves:
            each = [self._measure(key[-1], lean) for lean in LEANS]
            self._curves[key] = [(one["found warm"], one["found new"]) for one in each]
        return self._curves[key]

    def _empty(self) -> go.Figure:
        figure = make_subplots(1, 2, column_widths=[0.5, 0.5], horizontal_spacing=0.12)
        marks = (
            ("items with purchases", {"size": 6, "color": palette.BLUE, "opacity": 0.5}),
            (
                "new items",
                {"size": 9, "color": palette.ORANGE, "symbol": "diamond", "line": {"width": 1, "color": palette.INK}},
            ),
        )
        for name, marker in marks:
            figure.add_scatter(x=[], y=[], mode="markers", name=name, marker=marker, row=1, col=1)
        line = {"color": palette.INK, "width": 1.5, "dash": "dot"}
        marker = {"size": 6, "color": palette.INK}
        figure.add_scatter(x=[], y=[], mode="lines+markers", name="other leans", line=line, marker=marker, row=1, col=2)
        star = {"size": 17, "color": palette.ORANGE, "symbol": "star", "line": {"width": 1, "color": palette.INK}}
        figure.add_scatter(x=[], y=[], mode="markers", name="this gate", marker=star, row=1, col=2)
        seen = "clicks in the shop window" if self._data.clicks is not None else "training interactions"
        figure.update_xaxes(title=f"{seen}, log(1 + n)", row=1, col=1)
        figure.update_yaxes(title="g: weight of content", range=[-0.03, 1.03], row=1, col=1)
        figure.update_xaxes(title="test purchases found, items with purchases", row=1, col=2)
        figure.update_yaxes(title="found, new items", rangemode="tozero", row=1, col=2)
        return figures._finish(figure, "…", "", 440, autosize=True, legend={"orientation": "h", "y": -0.2, "x": 0})

    def _show(self, before: str = "") -> None:
        cold, data = self._data.cold_items, self._data
        curve = self._curve()
        told = self.values()
        with self._model.evaluating():
            g = self._model.gates().cpu().numpy()
        x = np.log1p(data.clicks if data.clicks is not None else data.item_counts).astype(np.float64)
        title = "; ".join(
            f"{label}: g = {told[f'g {name}']:.2f}, {told[f'found {name}']:.0%} found"
            for name, label in (("new", "new items"), ("warm", "others"))
        )
        self.plot.change(
            {
                0: {"x": x[~cold], "y": g[~cold]},
                1: {"x": x[cold], "y": g[cold]},
                2: {"x": np.array([a for a, _ in curve]), "y": np.array([b for _, b in curve])},
                3: {"x": np.array([told["found warm"]]), "y": np.array([told["found new"]])},
            },
            {
                "title.text": title[0].upper() + title[1:],
                "meta.alt": f"Left: the gate of every item against how often it was clicked. Right: share of test purchases found "
                f"among the first {K}, of new items against the others, at eleven leans of the gate. {title}.",
            },
        )
        self._sentence.text = (
            f"{before}Recall@{K} {told['recall']:.3f}; {told['shown']:.1%} of the places in all lists go to new items, which are "
            f"{cold.mean():.1%} of the catalogue. {title}."
        )


def _stop(panel: weakref.ref[WhatIfGate]) -> None:
    """Let a training end with its epoch when the process ends: torch does not survive being broken off in a step."""
    if (there := panel()) is not None:
        there._over = True
        if there._thread is not None:
            there._thread.join()


def whatif_gate(data: Dataset, *, epochs: int = 5, dim: int = 64, seed: int = 0) -> WhatIfGate:
    """Return a panel of two towers with a gate: its strength and lean move at once, what is trained trains anew in some seconds.

    Args:
        data: needs features, and new items (without training interactions) that test has.
        epochs, dim, seed: of each training, which runs in the background and shows every epoch.

    Raises:
        DataError: the data have no features, or no new items.
    """
    if not data.cold_items[data.test.items].any():
        raise DataError(
            "no new items to look for",
            where=f"data set {data.name!r}",
            found="every item of test has training interactions",
            expected="some items without any, taken in test",
        )
    return WhatIfGate(data, epochs, dim, seed)
