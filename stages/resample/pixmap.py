"""Where the pixels of an input image lie on an output grid.

The optics' distortion is so smooth that it is computed at every `STEP`-th pixel alone; between, polynomials
of third degree through four nodes are as good as the computation itself (the rest is h^4 times the fourth
derivative, some 10^-9 pixels). That is checked; where it is not so, the nodes are drawn closer, as much as
their distance's fourth power asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.kernel import kernel

STEP = 32
PRECISION = 1e-6
"""Pixels by which the positions may be off, if nobody says otherwise."""

HOPELESS = 4.0
"""An error, in units of what is asked for, that makes a distance of nodes not worth a try."""

Map = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""``map(x, y)``: pixels of the input -> pixels of the output, from 0, float64."""


@kernel
def cubic(u):
    """Weights of four equidistant values for a place ``u`` (0 to 1) between the second and the third."""
    a, b, c = u + 1, u - 1, u - 2
    return -u * b * c / 6, a * b * c / 2, -a * u * c / 2, a * u * b / 6


@kernel
def along_x(nodes, step, out):
    """Values of node rows at all columns from -1 on: ``nodes`` (rows, n) -> ``out`` (rows, columns + 2).

    The second node is that of column -1 and the others follow every ``step`` columns.
    """
    for c in range(out.shape[1]):
        k = c // step
        w0, w1, w2, w3 = cubic((c - k * step) / step)
        for r in range(nodes.shape[0]):
            out[r, c] = w0 * nodes[r, k] + w1 * nodes[r, k + 1] + w2 * nodes[r, k + 2] + w3 * nodes[r, k + 3]


@kernel
def row_of(rows, step, y, out):
    """Values of row ``y`` (from -1 on) from node rows of all columns, into ``out``."""
    k = (y + 1) // step
    w0, w1, w2, w3 = cubic((y + 1 - k * step) / step)
    a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
    for i in range(out.size):
        out[i] = w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i]


@dataclass(frozen=True)
class Pixmap:
    """Positions on the output of an input's pixels, and of one more on every side.

    ``x``, ``y``: node rows of all columns from -1 on, float64 (n, nx + 2), every ``step`` rows; the second
    is row -1. ``shape`` is the input's (ny, nx).
    """

    x: np.ndarray
    y: np.ndarray
    step: int
    shape: tuple[int, int]

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """All pixels' positions, two arrays (ny, nx)."""
        ny, nx = self.shape
        found = np.empty((2, ny, nx + 2))
        for rows, out in zip((self.x, self.y), found, strict=True):
            for y in range(ny):
                row_of(rows, self.step, y, out[y])
        return found[0, :, 1:-1], found[1, :, 1:-1]


def _nodes(length: int, step: int) -> np.ndarray:
    """Places of nodes for pixels -1 to ``length``."""
    return -1 + step * np.arange(-1, -(-(length + 2) // step) + 2)


def pixmap(to_output: Map, shape: tuple[int, int], precision: float = PRECISION) -> Pixmap:
    """Positions of all pixels of an input (ny, nx) on the output; they may be off by ``precision`` pixels."""
    ny, nx = shape
    step = STEP
    while True:
        y, x = np.meshgrid(_nodes(ny, step).astype(float), _nodes(nx, step).astype(float), indexing="ij")
        nodes = [a.reshape(x.shape) for a in to_output(x.ravel(), y.ravel())]
        spread = [np.empty((len(n), nx + 2)) for n in nodes]
        for n, out in zip(nodes, spread, strict=True):
            along_x(np.ascontiguousarray(n), step, out)
        made = Pixmap(spread[0], spread[1], step, shape)
        error = 0.0 if step == 1 else _error(made, to_output)
        if error < precision:
            return made
        step, error = step // 2, error / 16
        while step > 1 and error > HOPELESS * precision:
            step, error = step // 2, error / 16


def _error(made: Pixmap, to_output: Map) -> float:
    """How far positions are off, at most, amid the nodes of some rows."""
    ny, nx = made.shape
    columns = np.arange(made.step // 2 - 1, nx, made.step)
    lines = np.unique(np.linspace(0, ny - 1, 9).astype(int))
    y, x = np.meshgrid(lines.astype(float), columns.astype(float), indexing="ij")
    row, worst = np.empty(nx + 2), 0.0
    for rows, exact in zip((made.x, made.y), to_output(x.ravel(), y.ravel()), strict=True):
        for line, wanted in zip(lines, exact.reshape(x.shape), strict=True):
            row_of(rows, made.step, int(line), row)
            worst = max(worst, float(np.nanmax(np.abs(row[1 + columns] - wanted), initial=0.0)))
    return worst
