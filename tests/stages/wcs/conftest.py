"""Facts and optics that are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy.modeling.models import Identity, Mapping, Polynomial2D, Scale, Shift

from upramp.stages.wcs.facts import WcsFacts

SCALE = 0.063
"""Arcsec per pixel."""


@pytest.fixture
def make_facts() -> Callable[..., WcsFacts]:
    """A function that makes the facts of an exposure; what is not given is NIRCam's, full frame."""

    def make(**facts: Any) -> WcsFacts:
        usual: dict[str, Any] = {
            "instrument": "NIRCAM", "detector": "NRCALONG", "exp_type": "NRC_IMAGE", "nx": 2048, "ny": 2048,
            "v2_ref": 86.0, "v3_ref": -493.0, "ra_ref": 80.0, "dec_ref": -69.5, "roll_ref": 30.0,
            "filter": "F444W", "pupil": "CLEAR", "va_scale": 1.00002, "crpix": (1024.5, 1024.5),
        }  # fmt: skip
        return WcsFacts(**usual | facts)

    return make


def warped(seed: int = 1, order: int = 3) -> Any:
    """From pixels to (V2, V3): a plate scale with some distortion; the inverse is a polynomial, too."""
    rng = np.random.default_rng(seed)
    forward, back = [], []
    grid = np.linspace(-1024, 1024, 21)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    outs = []
    for axis in ("c1_0", "c0_1"):
        p = Polynomial2D(order)
        for name in p.param_names:
            i, j = int(name[1]), int(name[3])
            if i + j > 1:
                setattr(p, name, rng.normal() * 2.0 * SCALE / 1024 ** (i + j))
        setattr(p, axis, SCALE)
        forward.append(p)
        outs.append(p(x, y))
    terms = [(i, j) for i in range(6) for j in range(6 - i)]
    design = np.stack([(outs[0] / 60) ** i * (outs[1] / 60) ** j for i, j in terms], axis=1)
    for target in (x, y):
        values = np.linalg.lstsq(design, target, rcond=None)[0]
        given = {f"c{i}_{j}": v / 60 ** (i + j) for (i, j), v in zip(terms, values, strict=True)}
        back.append(Polynomial2D(5, **given))
    both = forward[0] & forward[1]
    both.inverse = back[0] & back[1]
    split, join = Mapping((0, 1, 0, 1)), Identity(2)
    split.inverse, join.inverse = Identity(2), Mapping((0, 1, 0, 1))
    centre = Shift(-1023.5) & Shift(-1023.5)
    return centre | split | both | join | Shift(86.0) & Shift(-493.0)


@pytest.fixture
def distortion() -> Any:
    """From pixels of a detector of 2048 x 2048 to (V2, V3) about (86, -493) arcsec, and back."""
    return warped()


@pytest.fixture
def plain() -> Any:
    """A plate scale and nothing else."""
    return Shift(-1023.5) & Shift(-1023.5) | Scale(SCALE) & Scale(SCALE) | Shift(86.0) & Shift(-493.0)
