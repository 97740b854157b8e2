"""Keywords of resampled images: where they lie, how they were made, how long was exposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from upramp.stages.core.errors import NotApplicable
from upramp.stages.resample.combine import Drizzling
from upramp.stages.resample.given import Given
from upramp.stages.resample.grid import Grid
from upramp.stages.resample.outline import clipped, union

ARCSECONDS = 3600.0
_DISTORTION = ("RA_REF", "DEC_REF", "ROLL_REF", "V2_REF", "V3_REF", "VPARITY", "V3I_YANG")


def footprint(cards: Mapping[str, Any]) -> np.ndarray:
    """Corners of S_REGION, degrees (n, 2).

    Raises
    ------
    NotApplicable
        If there is none.
    """
    words = str(cards.get("S_REGION") or "").split()
    try:
        numbers = [float(w) for w in words[2:]]
    except ValueError:
        numbers = []
    if len(numbers) < 6 or len(numbers) % 2:
        raise NotApplicable(f"S_REGION {cards.get('S_REGION')!r} is no polygon, so the image has no place")
    return np.array(numbers).reshape(-1, 2)


def outline(footprints: Sequence[np.ndarray], grid: Grid) -> str | None:
    """S_REGION of the whole: a polygon around all footprints as far as the grid reaches, or several."""
    seen = [np.column_stack(grid.pixels(f[:, 0], f[:, 1])) for f in footprints]
    rings = [grid.sky(r[:, 0], r[:, 1]) for r in union([clipped(s, grid.shape) for s in seen])]
    polygons = [" ".join(f"{a % 360:.9f} {d:.9f}" for a, d in zip(*ring, strict=True)) for ring in rings]
    return "  ".join(f"POLYGON ICRS  {polygon}" for polygon in polygons) or None


def plane(grid: Grid) -> dict[str, Any]:
    """Keywords of the plane that a grid lies on; scale and rotation follow."""
    return {
        "WCSAXES": 2,
        "CRPIX1": grid.crpix[0] + 1,
        "CRPIX2": grid.crpix[1] + 1,
        "CRVAL1": grid.crval[0],
        "CRVAL2": grid.crval[1],
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
    }


def headers(
    every: Sequence[Mapping[str, Any]],
    groups: Sequence[Sequence[int]],
    grid: Grid,
    how: Drizzling,
    region: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the primary and the SCI header get, or lose (None).

    ``every``: the keywords of each image; ``groups``: numbers of those that were taken at the same time,
    whose time counts once; ``region``: S_REGION.
    """
    area = grid.area if isinstance(grid, Given) else np.radians(grid.scale) ** 2
    exposures = [every[group[0]] for group in groups]
    seconds = sum(float(c.get("EFFEXPTM") or 0) for c in exposures)
    duration = sum(float(c.get("DURATION") or 0) for c in exposures)
    primary: dict[str, Any] = {
        "NDRIZ": len(groups),
        "RESWHT": how.weight_type or "none",
        "PIXFRAC": how.pixfrac,
        "PXSCLRT": how.scale_ratio,
        "S_RESAMP": "COMPLETE",
        "DURATION": duration,
    }
    if len(every) > 1:
        primary |= {
            "EFFEXPTM": seconds,
            "EXPSTART": min(float(c.get("EXPSTART") or 0) for c in exposures),
            "EXPEND": max(float(c.get("EXPEND") or 0) for c in exposures),
        }
    sci: dict[str, Any] = {
        "XPOSURE": seconds,
        "TELAPSE": duration,
        "PIXAR_SR": float(area),
        "PIXAR_A2": float(area * np.degrees(ARCSECONDS) ** 2),
        **plane(grid),
        "CDELT1": grid.scale,
        "CDELT2": grid.scale,
        **{f"PC{i + 1}_{j + 1}": float(grid.pc[i, j]) for i in (0, 1) for j in (0, 1)},
        "S_REGION": region,
        **dict.fromkeys(_DISTORTION),
    }
    approximation = {k for k in every[0] if k.startswith(("CD1_", "CD2_", "A_", "B_", "AP_", "BP_"))}
    return primary, {**dict.fromkeys(sorted(approximation)), **sci}
