"""Where the spectra of NIRISS SOSS exposures lie, for scene masks.

The reference tells points of each order's trace at the commanded position of the pupil wheel. They turn with
the wheel around a pivot; wavelengths come from a polynomial in the column and the wheel's offset, both scaled
to 0 ... 1. Where an order is shorter or longer than the reference's grid of wavelengths, its trace goes on
as a level.

Source: JWST documentation of the PASTASOSS reference; Baines et al. 2023; how wide the mask is was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference

HALF_WIDTH = 16
"""Rows above and below a trace that are masked."""

OFFSETS = {"SUBSTRIP96": 10}
"""Rows by which subarrays begin later than the reference's."""


def prepare(raw: RawReference, meta: ExposureMeta, params: Any) -> Prepared:
    """Rows (orders, nx) float64 of the traces in the exposure, from 0.

    Nothing but the reason (``info["unknown"]``) if the position of the pupil wheel is not known, or lies
    beyond what the reference is made for.
    """
    tree = raw.tree()
    about = tree["meta"]
    low, high = sorted(float(bound) for bound in about["pwcpos_bounds"])
    position = meta.pupil_position
    if position is None or not low <= position <= high:
        where = f"PWCPOS is {position}; the traces in {raw.name} are known from {low} to {high} degrees"
        return Prepared({}, {"unknown": where})
    offset = position - float(about["pwcpos_cmd"])
    grid = np.linspace(
        float(about["wavemap_wlmin"]), float(about["wavemap_wlmax"]), int(about["wavemap_nwl"])
    )
    models = {int(model["spectral_order"]): model for model in tree["wavecal_models"]}
    below = OFFSETS.get(meta.subarray, 0)
    rows = [
        trace_rows(trace, models[int(trace["spectral_order"])], offset, below, grid, meta.nx)
        for trace in tree["traces"]
    ]
    return Prepared({"rows": np.array(rows)})


def trace_rows(
    trace: Mapping[str, Any],
    model: Mapping[str, Any],
    offset: float,
    below: int,
    grid: np.ndarray,
    nx: int,
) -> np.ndarray:
    """Row of a trace in each of ``nx`` columns; ``offset`` of the wheel, degrees, ``below``: rows not read.

    The pivot stays where it is whatever rows are read, as the observatory's package has it.
    """
    x, y = np.array(trace["trace"], np.float64).T
    turned_x, turned_y = rotate(x, y - below, offset, (float(trace["pivot_x"]), float(trace["pivot_y"])))
    y = np.interp(x, turned_x, turned_y)
    wavelengths = polynomial(model, x, offset)
    order = np.argsort(wavelengths)
    known = grid[(grid >= wavelengths.min()) & (grid <= wavelengths.max())]
    ends = [w for w in (wavelengths.min(), wavelengths.max()) if grid[0] < w < grid[-1]]
    places = np.concatenate([known, ends])
    columns, rows = (np.interp(places, wavelengths[order], a[order]) for a in (x, y))
    ascending = np.argsort(columns)
    return np.interp(np.arange(nx), columns[ascending], rows[ascending])


def rotate(
    x: np.ndarray, y: np.ndarray, degrees: float, origin: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Points turned around an origin."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    dx, dy = x - origin[0], y - origin[1]
    return origin[0] + c * dx - s * dy, origin[1] + s * dx + c * dy


def polynomial(model: Mapping[str, Any], x: np.ndarray, offset: float) -> np.ndarray:
    """Wavelengths, micrometres: coefficients of 1, x, o, x^2, x o, o^2, x^3 ... of scaled x and offset."""
    (x_low, o_low), (x_high, o_high) = np.array(model["scale_extents"], np.float64)
    u, v = (x - x_low) / (x_high - x_low), (offset - o_low) / (o_high - o_low)
    coefficients = np.array(model["coefficients"], np.float64)
    degree = int(model["polynomial_degree"])
    powers = [(n - k, k) for n in range(degree + 1) for k in range(n + 1)]
    terms = [c * u**a * v**b for c, (a, b) in zip(coefficients, powers, strict=True)]
    return np.asarray(sum(terms) + np.zeros_like(x))


def unlit(rows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where there is no trace (ny, nx), bool; ``rows`` (orders, nx)."""
    ny, nx = shape
    allowed = np.ones((ny, nx), np.bool_)
    y = np.arange(ny)[:, None]
    for row in rows:
        allowed &= (y < np.floor(row) - HALF_WIDTH) | (y > np.ceil(row) + HALF_WIDTH)
    return allowed
