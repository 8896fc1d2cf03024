"""Product pictures of the bazaar, drawn with numpy alone.

A picture is a handful of shapes given by *signed distances* (negative inside, positive outside, in units where the picture
spans -1..1, y pointing down). A shape is painted by turning its distance into coverage, so edges are smooth without any
drawing library, and the bytes are the same wherever IEEE arithmetic is.

What a picture shows:

* the silhouette: which kind of thing it is (``SILHOUETTES``);
* the hue, which the caption usually names too (``HUES``);
* the tone and the pattern, which *only* the picture shows (``TONES``, ``PATTERNS``);
* nuisance that says nothing about taste: wall, floor, light, pose, size.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SIZE = 48
OVERSAMPLE = 2

HUES: dict[str, float] = {
    "red": 0.0,
    "orange": 0.075,
    "yellow": 0.14,
    "green": 0.34,
    "teal": 0.485,
    "blue": 0.60,
    "violet": 0.74,
    "pink": 0.91,
}
"""Hue name -> angle, as a share of the colour circle."""

TONES: dict[str, tuple[float, float, float, float]] = {
    "pastel": (0.36, 0.97, 0.10, 1.00),
    "neon": (0.96, 1.00, 0.85, 1.00),
    "earthy": (0.58, 0.60, 0.40, 0.86),
    "midnight": (0.72, 0.34, 0.45, 0.88),
    "faded": (0.17, 0.76, 0.10, 0.52),
}
"""Tone name -> saturation and value of the main colour, then of the pattern's colour."""

PATTERNS: tuple[str, ...] = ("plain", "stripes", "dots", "checks", "zigzag", "stars")
"""Pattern names, in the order of their ids."""

BACKDROPS = 5

Array = np.ndarray


# -- shapes: signed distance functions ------------------------------------------------------------------------------------
def circle(x: Array, y: Array, cx: float, cy: float, r: float) -> Array:
    """Signed distance to a disc."""
    return np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - r


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Signed distance to an ellipse, approximate but exact on its edge."""
    return (np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) - 1.0) * min(rx, ry)


def box(x: Array, y: Array, cx: float, cy: float, hw: float, hh: float, r: float = 0.0) -> Array:
    """Signed distance to a box with half width ``hw``, half height ``hh`` and corner radius ``r``."""
    dx, dy = np.abs(x - cx) - (hw - r), np.abs(y - cy) - (hh - r)
    outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0.0) - r


def polygon(x: Array, y: Array, *points: tuple[float, float], r: float = 0.0) -> Array:
    """Signed distance to a polygon whose corners are rounded outwards by ``r``."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, (*points[1:], points[0])):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        nearest = np.minimum(nearest, (x - ax - ex * along) ** 2 + (y - ay - ey * along) ** 2)
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance) - r


def line(x: Array, y: Array, ax: float, ay: float, bx: float, by: float, w: float) -> Array:
    """Signed distance to a thick line with round ends and half width ``w``."""
    ex, ey = bx - ax, by - ay
    along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    return np.sqrt((x - ax - ex * along) ** 2 + (y - ay - ey * along) ** 2) - w


def ring(x: Array, y: Array, cx: float, cy: float, r: float, w: float) -> Array:
    """Signed distance to a ring of radius ``r`` and half width ``w``."""
    return np.abs(circle(x, y, cx, cy, r)) - w


def union(*shapes: Array) -> Array:
    """Signed distance to everything covered by any of ``shapes``."""
    return np.minimum.reduce(shapes)


def both(*shapes: Array) -> Array:
    """Signed distance to what all of ``shapes`` cover."""
    return np.maximum.reduce(shapes)


def without(shape: Array, hole: Array) -> Array:
    """Signed distance to ``shape`` with ``hole`` cut out."""
    return np.maximum(shape, -hole)


# -- colours --------------------------------------------------------------------------------------------------------------
def colours(hue: str, tone: str) -> tuple[Array, Array, Array]:
    """Return main, pattern and trim colour of a hue in a tone, each (3,) in 0..1."""
    h = HUES[hue]
    s1, v1, s2, v2 = TONES[tone]
    # A neon thing wears a clashing second hue, every other tone a neighbouring one: tones differ in more than brightness.
    shift = 0.42 if tone == "neon" else 0.07
    trim_s, trim_v = {"pastel": (0.45, 0.78), "neon": (0.9, 0.55), "earthy": (0.65, 0.36), "midnight": (0.5, 0.62)}.get(
        tone, (0.2, 0.45)
    )
    return (
        np.array(colorsys.hsv_to_rgb(h, s1, v1)),
        np.array(colorsys.hsv_to_rgb((h + shift) % 1.0, s2, v2)),
        np.array(colorsys.hsv_to_rgb((h + 0.03) % 1.0, trim_s, trim_v)),
    )


def pattern_mask(pattern: str, x: Array, y: Array) -> Array:
    """Return 0..1 where the pattern's second colour goes, at object coordinates ``x``, ``y``."""
    soft = 0.03

    def edge(d: Array) -> Array:
        return np.clip(0.5 - d / (2 * soft), 0.0, 1.0)

    def wave(t: Array, period: float) -> Array:  # triangle wave, 0 at the middle of a cell, period/2 at its border
        return np.abs(t - period * np.floor(t / period + 0.5))

    if pattern == "stripes":
        return edge(wave(x * 0.8 + y * 0.6, 0.36) - 0.085)
    if pattern == "dots":
        row = np.floor(y / 0.27 + 0.5)
        shifted = x + 0.135 * (row - 2 * np.floor(row / 2))
        return edge(np.sqrt(wave(shifted, 0.27) ** 2 + wave(y, 0.27) ** 2) - 0.085)
    if pattern == "checks":
        cell = np.floor(x / 0.23) + np.floor(y / 0.23)
        return cell - 2 * np.floor(cell / 2)
    if pattern == "zigzag":
        return edge(wave(y + 0.9 * wave(x, 0.32), 0.32) - 0.075)
    if pattern == "stars":
        row = np.floor((y - 0.05) / 0.31 + 0.5)
        u, v = wave(x + 0.155 * (row - 2 * np.floor(row / 2)), 0.31), wave(y - 0.05, 0.31)
        return edge(0.5 * (np.sqrt(u) + np.sqrt(v) - 0.43))
    return np.zeros(x.shape)


# -- the painter ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Look:
    """Everything that decides one picture.

    Attributes:
        category: a key of ``SILHOUETTES``.
        hue, tone, pattern: keys of ``HUES`` and ``TONES``, a member of ``PATTERNS``.
        shape: four numbers in 0..1 that vary the silhouette within its category.
        pose: four numbers in 0..1: flip, tilt, size, shift.
        backdrop: four numbers in 0..1: kind of backdrop, its hue, its brightness, direction of light.
    """

    category: str
    hue: str
    tone: str
    pattern: str
    shape: tuple[float, float, float, float]
    pose: tuple[float, float, float, float]
    backdrop: tuple[float, float, float, float]


class Painter:
    """Paints shapes onto one picture. Silhouettes see object coordinates ``x``, ``y`` and four shape numbers ``v``."""

    def __init__(self, look: Look):
        n = SIZE * OVERSAMPLE
        axis = (np.arange(n) + 0.5) / n * 2.0 - 1.0
        self.px, self.py = np.broadcast_arrays(axis[None, :], axis[:, None])
        flip, tilt, size, shift = look.pose
        side = -1.0 if flip < 0.5 else 1.0
        slope = (tilt - 0.5) * 0.26  # a shear-free small rotation by a rational tangent: no trigonometry, same bytes everywhere
        norm = 1.0 / float(np.sqrt(1.0 + slope * slope))
        scale = 0.88 + 0.20 * size
        x0, y0 = (self.px - (shift - 0.5) * 0.2) / scale, (self.py - 0.03) / scale
        self.x = (x0 * norm + y0 * slope * norm) * side
        self.y = y0 * norm - x0 * slope * norm
        self.v = look.shape
        self.unit = 2.0 / n / scale
        self.light_side = look.backdrop[3] - 0.5
        self.main, self.second, self.trim_colour = colours(look.hue, look.tone)
        self.ink = 0.16 * self.main + 0.06 * self.second + 0.02
        self.marks = pattern_mask(look.pattern, self.x, self.y)[..., None]
        self.rgb = self._backdrop(look)

    # -- backdrop: nuisance, it says nothing about taste
    def _backdrop(self, look: Look) -> Array:
        kind, hue, bright, _ = look.backdrop
        wall = np.array(colorsys.hsv_to_rgb(hue, 0.04 + 0.20 * bright, 0.98 - 0.16 * bright))
        floor = np.array(colorsys.hsv_to_rgb((hue + 0.09) % 1.0, 0.12 + 0.22 * (1 - bright), 0.84 - 0.22 * bright))
        rgb = np.broadcast_to(wall, (*self.px.shape, 3)).copy()
        kind = int(kind * BACKDROPS)
        if kind == 1:  # a table
            rgb[self.py[:, 0] > 0.52] = floor
        elif kind == 2:  # a spotlight
            near = np.clip(1.15 - circle(self.px, self.py, 0, -0.1, 0.0), 0.0, 1.0)[..., None]
            rgb = floor + (np.minimum(wall * 1.06, 1.0) - floor) * near
        elif kind == 3:  # wallpaper
            strip = np.floor((self.px + 1) / 0.25)
            rgb[(strip - 2 * np.floor(strip / 2)) == 1] = 0.72 * wall + 0.28 * floor
        elif kind == 4:  # a round rug of light behind the thing
            rgb[circle(self.px, self.py, 0.0, 0.05, 0.88) < 0] = 0.45 * wall + 0.55
        return rgb

    def _blend(self, coverage: Array, colour: Array) -> None:
        self.rgb += (colour - self.rgb) * coverage[..., None]

    def _coverage(self, d: Array, width: float = 1.0) -> Array:
        return np.clip(0.5 - d / (self.unit * width), 0.0, 1.0)

    def _lit(self, colour: Array) -> Array:
        light = 1.0 + 0.13 * (-self.y + 1.2 * self.light_side * self.x)
        return np.clip(colour * light[..., None], 0.0, 1.0)

    def _paint(self, d: Array, colour: Array, outline: float) -> None:
        if outline:
            self._blend(self._coverage(d - outline), self.ink)
        self._blend(self._coverage(d), self._lit(colour))

    def shadow(self, cx: float, cy: float, rx: float) -> None:
        """A soft shadow on the ground."""
        self._blend(np.clip(-ellipse(self.x, self.y, cx, cy, rx, 0.13) / 0.13, 0.0, 1.0) * 0.38, np.array([0.12, 0.10, 0.16]))

    def body(self, d: Array) -> None:
        """Paint the patterned main part."""
        self._paint(d, self.main + (self.second - self.main) * self.marks, 0.035)

    def plain(self, d: Array) -> None:
        """Paint a part in the main colour without pattern."""
        self._paint(d, self.main, 0.035)

    def accent(self, d: Array) -> None:
        """Paint a part in the pattern's colour."""
        self._paint(d, self.second, 0.03)

    def trim(self, d: Array) -> None:
        """Paint a part in the trim colour."""
        self._paint(d, self.trim_colour, 0.03)

    def dark(self, d: Array) -> None:
        """Paint a part in ink."""
        self._paint(d, self.ink, 0.0)

    def light(self, d: Array, strength: float = 1.0) -> None:
        """Paint a part nearly white, or only a glow of it."""
        self._blend(self._coverage(d) * strength, np.array([1.0, 0.98, 0.92]))

    def white(self, d: Array) -> None:
        """Paint a nearly white part with an outline."""
        self._paint(d, np.array([0.99, 0.96, 0.90]), 0.03)

    def skin(self, d: Array) -> None:
        """Paint a face."""
        self._paint(d, np.array([0.94, 0.72, 0.58]), 0.025)

    def wood(self, d: Array) -> None:
        """Paint a wooden part."""
        self._paint(d, np.array([0.68, 0.49, 0.31]), 0.03)

    def leaf(self, d: Array) -> None:
        """Paint something green that grows."""
        self._paint(d, np.array([0.33, 0.60, 0.34]), 0.03)

    def picture(self) -> Array:
        """Return the (SIZE, SIZE, 3) uint8 picture."""
        fine = self.rgb.reshape(SIZE, OVERSAMPLE, SIZE, OVERSAMPLE, 3)
        mean = (fine[:, 0, :, 0] + fine[:, 0, :, 1] + fine[:, 1, :, 0] + fine[:, 1, :, 1]) / 4.0
        # Steps of four make the stored file a third smaller, and no eye can tell.
        return (np.floor(np.clip(mean, 0.0, 1.0) * 63.0 + 0.5) * 4.0).astype(np.uint8)


# -- the silhouettes ------------------------------------------------------------------------------------------------------
def _lamp(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    top, wide = 0.16 + 0.16 * a, 0.46 + 0.14 * b
    p.shadow(0, 0.80, 0.45)
    p.light(polygon(x, y, (-wide, 0.02), (wide, 0.02), (wide + 0.2, 0.72), (-wide - 0.2, 0.72)), 0.30)
    p.trim(union(line(x, y, 0, 0.0, 0, 0.72, 0.05), circle(x, y, 0, 0.25 + 0.25 * c, 0.10)))
    p.trim(ellipse(x, y, 0, 0.76, 0.34, 0.10))
    p.body(polygon(x, y, (-top, -0.76), (top, -0.76), (wide, 0.02), (-wide, 0.02), r=0.03))


def _rug(p: Painter) -> None:
    x, y, (a, b, _, _) = p.x, p.y, p.v
    w, h = 0.70 + 0.08 * a, 0.42 + 0.14 * b
    fringe = [
        line(x, y, s * w, t * h, s * (w + 0.13), t * h * 1.03, 0.022)
        for s in (-1, 1)
        for t in (-0.9, -0.54, -0.18, 0.18, 0.54, 0.9)
    ]
    p.dark(union(*fringe))
    p.trim(box(x, y, 0, 0, w, h, 0.04))
    p.body(box(x, y, 0, 0, w - 0.11, h - 0.11, 0.02))


def _mug(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, h = 0.46 + 0.10 * a, 0.46 + 0.10 * b
    p.shadow(0, 0.16 + h, 0.55)
    p.trim(ring(x, y, w + 0.03, 0.15, 0.23, 0.065))
    p.body(box(x, y, -0.05, 0.15, w, h, 0.10 + 0.08 * c))
    p.dark(ellipse(x, y, -0.05, 0.17 - h, w - 0.06, 0.06))
    for s in (-0.22, 0.10):
        p.light(union(line(x, y, s, -0.52, s + 0.07, -0.64, 0.03), line(x, y, s + 0.07, -0.64, s, -0.76, 0.03)), 0.85)


def _kite(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, low = 0.50 + 0.14 * a, 0.28 + 0.12 * b
    tail = [(0.0, low), (0.16, 0.52), (-0.04, 0.68), (0.14, 0.92)]
    p.dark(union(*(line(x, y, *s, *t, 0.018) for s, t in pairwise(tail))))
    for tx, ty in tail[1:]:
        p.accent(
            union(
                polygon(x, y, (tx, ty), (tx - 0.13, ty - 0.07), (tx - 0.13, ty + 0.07)),
                polygon(x, y, (tx, ty), (tx + 0.13, ty - 0.07), (tx + 0.13, ty + 0.07)),
            )
        )
    mid = -0.42 + 0.12 * c
    p.body(polygon(x, y, (0, -0.90), (w, mid), (0, low), (-w, mid)))
    p.dark(union(line(x, y, 0, -0.88, 0, low, 0.016), line(x, y, -w, mid, w, mid, 0.016)))


def _boots(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    top, toe = -0.74 + 0.34 * a, 0.50 + 0.12 * b
    p.shadow(0.05, 0.70, 0.70)
    for dx, dy in ((-0.20, -0.07), (0.12, 0.05)):
        boot = polygon(
            x,
            y,
            (-0.32 + dx, top + dy),
            (0.06 + dx, top + dy),
            (0.10 + dx, 0.14 + dy),
            (toe + dx, 0.34 + dy),
            (toe + dx, 0.54 + dy),
            (-0.32 + dx, 0.54 + dy),
            r=0.05,
        )
        p.body(boot)
        p.dark(box(x, y, 0.09 + dx, 0.60 + dy, 0.42 + 0.06 * b, 0.06, 0.03))
        p.trim(box(x, y, -0.13 + dx, top + dy, 0.25, 0.055 + 0.04 * c, 0.04))


def _plant(p: Painter) -> None:
    x, y, (a, b, c, d) = p.x, p.y, p.v
    p.shadow(0, 0.80, 0.45)
    reach = 0.40 + 0.16 * b
    for s in (-1.0, 1.0):
        p.leaf(
            polygon(x, y, (0, 0.12), (s * reach * 0.55, -0.22), (s * (reach + 0.08), -0.34), (s * reach * 0.75, 0.02), r=0.04)
        )
        p.leaf(polygon(x, y, (0, 0.12), (s * 0.10, -0.34), (s * (0.30 + 0.10 * c), -0.72), (s * 0.34, -0.28), r=0.04))
    p.leaf(polygon(x, y, (-0.05, 0.12), (-0.13, -0.38), (0, -0.84 + 0.2 * d), (0.13, -0.38), (0.05, 0.12), r=0.02))
    w = 0.36 + 0.10 * a
    p.body(polygon(x, y, (-w, 0.16), (w, 0.16), (w * 0.70, 0.78), (-w * 0.70, 0.78), r=0.03))
    p.trim(box(x, y, 0, 0.16, w + 0.05, 0.07, 0.03))


def _clock(p: Painter) -> None:
    x, y, (a, b, c, d) = p.x, p.y, p.v
    r = 0.54 + 0.08 * a
    p.shadow(0, 0.80, 0.5)
    p.trim(union(line(x, y, -0.30, 0.5, -0.44, 0.80, 0.06), line(x, y, 0.30, 0.5, 0.44, 0.80, 0.06)))
    p.trim(union(circle(x, y, -0.36, -0.50, 0.19), circle(x, y, 0.36, -0.50, 0.19), line(x, y, 0, -0.5, 0, -0.76, 0.05)))
    p.body(circle(x, y, 0, 0.08, r))
    face = r - 0.20 - 0.06 * b
    p.light(circle(x, y, 0, 0.08, face))
    p.dark(ring(x, y, 0, 0.08, face, 0.018))
    p.dark(
        union(
            line(x, y, 0, 0.08, (c - 0.5) * 0.34, 0.08 - face * 0.80, 0.03),
            line(x, y, 0, 0.08, face * 0.60, 0.08 + (d - 0.5) * 0.3, 0.035),
        )
    )


def _teapot(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, h = 0.46 + 0.08 * a, 0.38 + 0.10 * b
    p.shadow(0, 0.16 + h, 0.6)
    p.trim(ring(x, y, -w - 0.03, 0.12, 0.22, 0.06))
    p.plain(
        polygon(x, y, (w - 0.14, 0.06), (w + 0.22, -0.26 - 0.10 * c), (w + 0.36, -0.26 - 0.10 * c), (w - 0.02, 0.38), r=0.02)
    )
    p.body(ellipse(x, y, 0, 0.16, w, h))
    p.trim(both(ellipse(x, y, 0, 0.18 - h, 0.27, 0.15), y - (0.20 - h)))
    p.accent(circle(x, y, 0, -0.02 - h, 0.085))


def _backpack(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, h = 0.44 + 0.09 * a, 0.56 + 0.06 * b
    p.shadow(0, 0.80, 0.55)
    p.dark(ring(x, y, 0, -h + 0.06, 0.17, 0.05))
    p.trim(union(box(x, y, -w - 0.02, 0.28, 0.13, 0.30, 0.1), box(x, y, w + 0.02, 0.28, 0.13, 0.30, 0.1)))
    p.body(union(box(x, y, 0, 0.12, w, h, 0.28), box(x, y, 0, 0.42, w, h - 0.30, 0.10)))
    p.trim(box(x, y, 0, 0.46, w - 0.13, 0.22 + 0.06 * c, 0.08))
    p.dark(line(x, y, -w + 0.22, 0.36, w - 0.22, 0.36, 0.025))
    p.dark(line(x, y, -w + 0.12, -0.10, w - 0.12, -0.10, 0.022))


def _umbrella(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    r = 0.70 + 0.10 * a
    p.wood(union(line(x, y, 0, -0.1, 0, 0.66, 0.04), both(ring(x, y, 0.14, 0.66, 0.14, 0.045), 0.66 - y)))
    dome = both(ellipse(x, y, 0, 0.02, r, 0.72 + 0.12 * b), y - 0.05)
    n = 3 if c < 0.5 else 4
    for k in range(n):  # scallops along the rim
        cx = -r + r / n * (2 * k + 1)
        dome = without(dome, ellipse(x, y, cx, 0.08, r / n * 0.92, 0.16))
    p.body(dome)
    p.dark(line(x, y, 0, -0.72 - 0.12 * b, 0, -0.84 - 0.10 * b, 0.03))


def _guitar(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    p.wood(box(x, y, 0, -0.42, 0.065, 0.40))
    p.trim(polygon(x, y, (-0.10, -0.96), (0.10, -0.96), (0.07, -0.72), (-0.07, -0.72), r=0.03))
    low, high = 0.46 + 0.06 * a, 0.34 + 0.06 * b
    p.body(union(circle(x, y, 0, 0.44, low), circle(x, y, 0, 0.02, high), box(x, y, 0, 0.20, high - 0.06, 0.22)))
    p.dark(circle(x, y, 0, 0.14, 0.11 + 0.03 * c))
    p.dark(box(x, y, 0, 0.58, 0.17, 0.045))
    p.light(union(line(x, y, -0.025, -0.8, -0.025, 0.56, 0.008), line(x, y, 0.025, -0.8, 0.025, 0.56, 0.008)), 0.8)


def _chair(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.46 + 0.08 * a
    p.shadow(0, 0.84, 0.7)
    p.wood(union(line(x, y, -w + 0.04, 0.56, -w - 0.04, 0.84, 0.05), line(x, y, w - 0.04, 0.56, w + 0.04, 0.84, 0.05)))
    p.body(box(x, y, 0, -0.20, w, 0.56 + 0.08 * b, 0.18 + 0.14 * c))
    p.trim(box(x, y, 0, 0.34, w, 0.17, 0.10))
    p.body(box(x, y, 0, 0.56, w + 0.06, 0.13, 0.05))
    p.plain(union(box(x, y, -w - 0.10, 0.30, 0.14, 0.38, 0.13), box(x, y, w + 0.10, 0.30, 0.14, 0.38, 0.13)))


def _watering_can(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.38 + 0.08 * a
    p.shadow(-0.1, 0.64, 0.6)
    p.trim(ring(x, y, -0.50, 0.08, 0.30, 0.055))
    p.plain(polygon(x, y, (w - 0.30, 0.42), (0.66, -0.46 - 0.12 * b), (0.76, -0.38 - 0.12 * b), (w - 0.10, 0.56), r=0.02))
    p.trim(polygon(x, y, (0.58, -0.62 - 0.12 * b), (0.92, -0.32 - 0.12 * b), (0.72, -0.36 - 0.12 * b), r=0.03))
    p.body(polygon(x, y, (-w - 0.08, -0.22), (w - 0.22, -0.22), (w - 0.08, 0.60), (-w - 0.20, 0.60), r=0.04))
    p.trim(ring(x, y, -0.16, -0.26, 0.20 + 0.06 * c, 0.05))


def _birdhouse(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.40 + 0.08 * a
    p.wood(box(x, y, 0, 0.76, 0.07, 0.24))
    p.body(box(x, y, 0, 0.16, w, 0.44, 0.03))
    p.trim(polygon(x, y, (0, -0.82 + 0.12 * b), (w + 0.20, -0.22), (-w - 0.20, -0.22), r=0.04))
    p.dark(circle(x, y, 0, 0.08, 0.15 + 0.04 * c))
    p.wood(line(x, y, 0, 0.36, 0, 0.40, 0.045))
    p.accent(both(circle(x, y, 0.02, 0.12, 0.11), y - 0.16))


def _lantern(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.36 + 0.10 * a
    p.light(circle(x, y, 0, 0.1, 0.86), 0.25)
    p.dark(ring(x, y, 0, -0.74, 0.15, 0.035))
    p.trim(polygon(x, y, (-0.15, -0.66), (0.15, -0.66), (w + 0.06, -0.40), (-w - 0.06, -0.40), r=0.03))
    p.body(box(x, y, 0, 0.12, w, 0.50, 0.10 + 0.14 * b))
    p.light(ellipse(x, y, 0, 0.14, 0.15 + 0.04 * c, 0.26))
    p.accent(polygon(x, y, (0, -0.06), (0.08, 0.18), (0, 0.28), (-0.08, 0.18), r=0.02))
    p.trim(box(x, y, 0, 0.66, w + 0.06, 0.08, 0.03))


def _gnome(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    p.shadow(0, 0.84, 0.6)
    p.dark(union(ellipse(x, y, -0.22, 0.82, 0.20, 0.09), ellipse(x, y, 0.22, 0.82, 0.20, 0.09)))
    p.trim(box(x, y, 0, 0.52, 0.44 + 0.08 * a, 0.30, 0.24))
    p.white(polygon(x, y, (-0.34, 0.06), (0.34, 0.06), (0.22, 0.44), (0.0, 0.64 + 0.1 * c), (-0.22, 0.44), r=0.05))
    p.skin(box(x, y, 0, 0.03, 0.31, 0.12, 0.11))
    p.dark(union(circle(x, y, -0.15, 0.04, 0.04), circle(x, y, 0.15, 0.04, 0.04)))
    p.body(polygon(x, y, (-0.44, -0.10), (0.44, -0.10), (0.10 + 0.24 * b, -0.88), r=0.06))
    p.skin(circle(x, y, 0, 0.13, 0.09))


def _toadstool(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.62 + 0.12 * a
    p.shadow(0, 0.78, 0.55)
    p.white(polygon(x, y, (-0.20, 0.0), (0.20, 0.0), (0.28 + 0.08 * c, 0.74), (-0.28 - 0.08 * c, 0.74), r=0.05))
    p.trim(ellipse(x, y, 0, 0.05, w - 0.12, 0.11))
    p.body(both(ellipse(x, y, 0, 0.06, w, 0.74 + 0.10 * b), y - 0.04))
    p.leaf(
        union(polygon(x, y, (0.34, 0.80), (0.40, 0.52), (0.46, 0.80)), polygon(x, y, (0.46, 0.80), (0.58, 0.58), (0.58, 0.80)))
    )


def _bowl(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, h = 0.70 + 0.10 * a, 0.60 + 0.12 * b
    p.shadow(0, 0.10 + h, 0.6)
    p.trim(box(x, y, 0, 0.06 + h, 0.26, 0.08, 0.03))
    for cx, cy in ((-0.28, -0.10), (0.28, -0.10), (0.0, -0.20)):
        p.accent(circle(x, y, cx, cy, 0.18 + 0.06 * c))
    p.body(both(ellipse(x, y, 0, 0.0, w, h + 0.05), -0.02 - y))
    p.trim(box(x, y, 0, 0.0, w + 0.03, 0.06, 0.05))


def _pan(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    r = 0.50 + 0.08 * a
    p.wood(line(x, y, 0.1, -0.1, 0.80 + 0.04 * b, -0.80 - 0.04 * b, 0.085))
    p.trim(circle(x, y, -0.20, 0.22, r + 0.10))
    p.body(circle(x, y, -0.20, 0.22, r))
    p.white(ellipse(x, y, -0.16, 0.26, 0.25 + 0.06 * c, 0.20))
    p._paint(circle(x, y, -0.13, 0.25, 0.10), np.array([0.98, 0.76, 0.22]), 0.0)


def _bottle(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, neck = 0.33 + 0.09 * a, -0.16 - 0.14 * b
    p.shadow(0, 0.86, 0.4)
    p.body(
        union(
            box(x, y, 0, 0.32, w, 0.54, 0.10),
            polygon(x, y, (-w, neck + 0.22), (w, neck + 0.22), (0.11, neck - 0.16), (-0.11, neck - 0.16), r=0.02),
            box(x, y, 0, -0.50, 0.12, 0.30),
        )
    )
    p.wood(box(x, y, 0, -0.84, 0.10, 0.10, 0.02))
    p.white(box(x, y, 0, 0.36, w - 0.01, 0.14 + 0.06 * c))
    p.dark(union(line(x, y, -0.13, 0.32, 0.13, 0.32, 0.02), line(x, y, -0.09, 0.42, 0.09, 0.42, 0.02)))


def _apron(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.46 + 0.10 * a
    p.dark(ring(x, y, 0, -0.66, 0.22, 0.03))
    p.dark(union(line(x, y, -w, 0.06, -w - 0.24, 0.18, 0.03), line(x, y, w, 0.06, w + 0.24, 0.18, 0.03)))
    p.body(
        polygon(
            x,
            y,
            (-0.24, -0.62),
            (0.24, -0.62),
            (0.30, -0.18),
            (w, 0.0),
            (w + 0.04, 0.80),
            (-w - 0.04, 0.80),
            (-w, 0.0),
            (-0.30, -0.18),
            r=0.03,
        )
    )
    p.trim(box(x, y, 0, 0.32, 0.24 + 0.06 * b, 0.17 + 0.04 * c, 0.06))
    p.dark(line(x, y, -0.22, 0.22, 0.22, 0.22, 0.018))


def _jar(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, h = 0.48 + 0.10 * a, 0.48 + 0.06 * b
    p.shadow(0, 0.24 + h, 0.5)
    p.body(box(x, y, 0, 0.22, w, h, 0.16))
    p.wood(box(x, y, 0, -h + 0.12, w - 0.07, 0.11, 0.05))
    p.accent(circle(x, y, 0, -h - 0.04, 0.09))
    p.white(polygon(x, y, (0, 0.36), (-0.17, 0.18), (-0.09, 0.08), (0, 0.15), (0.09, 0.08), (0.17, 0.18), r=0.03 + 0.03 * c))


def _robot(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.38 + 0.08 * a
    p.shadow(0, 0.86, 0.5)
    p.trim(union(box(x, y, -0.20, 0.76, 0.11, 0.14, 0.03), box(x, y, 0.20, 0.76, 0.11, 0.14, 0.03)))
    p.trim(union(line(x, y, -w, 0.16, -w - 0.22, 0.46 - 0.7 * c, 0.07), line(x, y, w, 0.16, w + 0.22, 0.46, 0.07)))
    p.body(box(x, y, 0, 0.30, w, 0.36, 0.06))
    p.dark(line(x, y, 0, -0.62, 0, -0.80, 0.025))
    p.accent(circle(x, y, 0, -0.84, 0.08))
    p.plain(box(x, y, 0, -0.36, 0.34 + 0.06 * b, 0.26, 0.08))
    p.light(union(circle(x, y, -0.15, -0.42, 0.10), circle(x, y, 0.15, -0.42, 0.10)))
    p.dark(
        union(circle(x, y, -0.14, -0.42, 0.045), circle(x, y, 0.16, -0.42, 0.045), line(x, y, -0.12, -0.22, 0.12, -0.22, 0.025))
    )


def _boat(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    p.wood(line(x, y, 0, -0.84, 0, 0.40, 0.035))
    p.body(polygon(x, y, (0.06, -0.80), (0.56 + 0.10 * a, 0.20), (0.06, 0.20), r=0.02))
    p.accent(polygon(x, y, (-0.06, -0.62 + 0.14 * b), (-0.06, 0.20), (-0.44, 0.20), r=0.02))
    p.plain(polygon(x, y, (-0.72, 0.36), (0.72, 0.36), (0.46, 0.70), (-0.46 - 0.08 * c, 0.70), r=0.04))
    water = np.abs((x + 1) / 0.32 - np.floor((x + 1) / 0.32) - 0.5) * 0.2
    p._paint(both(np.abs(y - 0.76) - 0.07 - water * 0.6, np.abs(x) - 0.86), np.array([0.48, 0.72, 0.86]), 0.0)


def _rocket(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w = 0.33 + 0.07 * a
    p._paint(polygon(x, y, (-0.15, 0.56), (0.15, 0.56), (0.0, 0.96)), np.array([0.99, 0.74, 0.26]), 0.02)
    fin = 0.26 + 0.10 * b
    p.trim(
        union(
            polygon(x, y, (-w + 0.04, 0.10), (-w - fin, 0.66), (-w + 0.04, 0.54)),
            polygon(x, y, (w - 0.04, 0.10), (w + fin, 0.66), (w - 0.04, 0.54)),
        )
    )
    p.body(both(ellipse(x, y, 0, 0.20, w, 1.12), y - 0.58))
    p.trim(both(ellipse(x, y, 0, 0.20, w, 1.12), y + 0.52))
    p.light(circle(x, y, 0, -0.16, 0.14 + 0.03 * c))
    p.dark(ring(x, y, 0, -0.16, 0.14 + 0.03 * c, 0.028))


def _bear(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    p.shadow(0, 0.84, 0.55)
    ear = 0.14 + 0.05 * a
    p.plain(union(circle(x, y, -0.30, -0.66, ear), circle(x, y, 0.30, -0.66, ear)))
    p.plain(
        union(
            circle(x, y, -0.30, 0.72, 0.18),
            circle(x, y, 0.30, 0.72, 0.18),
            ellipse(x, y, -0.48, 0.26, 0.13, 0.25),
            ellipse(x, y, 0.48, 0.26, 0.13, 0.25),
        )
    )
    p.body(ellipse(x, y, 0, 0.36, 0.42 + 0.06 * b, 0.46))
    p.plain(ellipse(x, y, 0, -0.34, 0.44, 0.39))
    p.light(ellipse(x, y, 0, -0.20, 0.20, 0.15))
    p.dark(union(circle(x, y, -0.17, -0.42, 0.05), circle(x, y, 0.17, -0.42, 0.05), ellipse(x, y, 0, -0.25, 0.085, 0.055)))
    p.accent(
        union(polygon(x, y, (0, 0.04), (-0.20, -0.06), (-0.20, 0.14)), polygon(x, y, (0, 0.04), (0.20, -0.06), (0.20, 0.14)))
        - 0.02 * c
    )


def _drum(p: Painter) -> None:
    x, y, (a, b, c, _) = p.x, p.y, p.v
    w, h = 0.56 + 0.10 * a, 0.30 + 0.10 * b
    p.shadow(0, 0.20 + h, 0.7)
    p.body(box(x, y, 0, 0.20, w, h, 0.03))
    p.trim(ellipse(x, y, 0, 0.20 + h, w + 0.03, 0.11))
    p.body(both(box(x, y, 0, 0.16, w, h, 0.0), y - (0.13 + h)))
    p.trim(ellipse(x, y, 0, 0.20 - h, w + 0.03, 0.18))
    p.light(ellipse(x, y, 0, 0.18 - h, w - 0.07, 0.12))
    tip = -0.72 - 0.1 * c
    p.wood(union(line(x, y, -0.05, 0.16 - h, -0.56, tip, 0.03), line(x, y, 0.10, 0.16 - h, 0.52, tip, 0.03)))
    p.wood(union(circle(x, y, -0.05, 0.16 - h, 0.06), circle(x, y, 0.10, 0.16 - h, 0.06)))


SILHOUETTES: dict[str, Callable[[Painter], None]] = {
    "lamp": _lamp,
    "rug": _rug,
    "mug": _mug,
    "kite": _kite,
    "boots": _boots,
    "plant": _plant,
    "clock": _clock,
    "teapot": _teapot,
    "backpack": _backpack,
    "umbrella": _umbrella,
    "guitar": _guitar,
    "armchair": _chair,
    "watering can": _watering_can,
    "birdhouse": _birdhouse,
    "lantern": _lantern,
    "gnome": _gnome,
    "toadstool": _toadstool,
    "bowl": _bowl,
    "pan": _pan,
    "bottle": _bottle,
    "apron": _apron,
    "jar": _jar,
    "robot": _robot,
    "boat": _boat,
    "rocket": _rocket,
    "bear": _bear,
    "drum": _drum,
}
"""Category -> the function that draws it."""


def draw(look: Look) -> Array:
    """Return the (SIZE, SIZE, 3) uint8 picture of ``look``."""
    painter = Painter(look)
    SILHOUETTES[look.category](painter)
    return painter.picture()


def contact_sheet(pictures: Array, columns: int, gap: int = 2, background: int = 255) -> Array:
    """Return all ``pictures`` (n, H, W, 3) on one sheet, row by row, as an (H', W', 3) uint8 array."""
    n, height, width, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), background, dtype=np.uint8)
    for k in range(n):
        top, left = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = pictures[k]
    return sheet
