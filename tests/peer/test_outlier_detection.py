"""outlier_detection beside the peer's: levels of the sky, groups, weights, limits, flags."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import pytest
from astropy.modeling.models import Identity, Polynomial2D, Shift
from astropy.modeling.models import Mapping as Axes

from upramp.simulate.cache import Cache
from upramp.stages.core.image import Image
from upramp.stages.stage3.members import Means
from upramp.stages.stage3.outlier_detection import Params, run
from upramp.stages.stage3.resample import grid_of
from upramp.stages.wcs.approximation import s_region
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.imaging import imaging_wcs

pytestmark = pytest.mark.peer

SCRIPT = Path(__file__).parent / "peerkit" / "run_outlier_detection.py"
SIDE, SCALE, STARS = 120, 0.063, 50
APERTURE = {
    "v2_ref": 86.0, "v3_ref": -493.0, "roll_ref": 30.0, "ra_ref": 80.0, "dec_ref": -69.5, "vparity": -1,
    "v3yangle": 0.0,
}  # fmt: skip
PLACES = [
    (0.0, 0.0, 30.0), (0.5, -0.4, 30.0), (-0.33, 0.71, 31.0), (0.9, 0.35, 29.5), (7.0, 0.1, 30.0),
    (7.6, 0.5, 30.0),
]  # fmt: skip
"""Offsets in arcsec, position angle."""
LEVELS = (0.30, 0.45, 0.35, 0.40, 0.30, 0.42)
RIM = 1
"""Pixels at the rim of the grid, where a value of the median may lack neighbours."""
KEYS = ("sci", "err", "rnoise", "dq", "wcs", "name", "exposure", "region", "background", "seconds")


@dataclass
class Exposure:
    """A member in memory."""

    name: str
    group: str
    sci: np.ndarray
    err: np.ndarray
    rnoise: np.ndarray
    dq: np.ndarray
    wcs: Any
    background: tuple[float | None, bool | None]
    seconds: float

    @property
    def exposure(self) -> str:
        return self.group

    @property
    def region(self) -> str:
        return s_region(self.wcs)

    @property
    def cards(self) -> dict[str, Any]:
        level, subtracted = self.background
        return {
            **{key.upper(): value for key, value in APERTURE.items()},
            "V3I_YANG": APERTURE["v3yangle"], "S_REGION": self.region, "TMEASURE": self.seconds,
            "BKGLEVEL": level, "BKGSUB": subtracted,
        }  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        return SIDE, SIDE

    def read(self, *names: str) -> Image:
        arrays = (self.sci, self.err, self.dq, *[self.rnoise] * 3)
        return Image(*(a.copy() for a in arrays), header={"PRIMARY": self.cards, "SCI": {}}, wcs=self.wcs)


def pointed(dx: float, dy: float, roll: float) -> Any:
    """A bent field with its way back."""
    bend = {"c2_0": 3e-6, "c0_2": -2e-6, "c1_1": 1e-6}
    there = [Polynomial2D(2, **{axis: SCALE}, **bend) for axis in ("c1_0", "c0_1")]
    back = [
        Polynomial2D(2, **{axis: 1 / SCALE}, **{k: -v / SCALE**3 for k, v in bend.items()})
        for axis in ("c1_0", "c0_1")
    ]
    both, split, join = there[0] & there[1], Axes((0, 1, 0, 1)), Identity(2)
    both.inverse = back[0] & back[1]
    split.inverse, join.inverse = Identity(2), Axes((0, 1, 0, 1))
    half = -(SIDE - 1) / 2
    model = Shift(half) & Shift(half) | split | both | join | Shift(86.0) & Shift(-493.0)
    ra, dec = 80.0 + dx / 3600 / np.cos(np.radians(-69.5)), -69.5 + dy / 3600
    facts = WcsFacts("NIRCAM", "NRCALONG", "NRC_IMAGE", SIDE, SIDE, 86.0, -493.0, ra, dec, roll, va_scale=1.0)
    return imaging_wcs(facts, {"distortion": {"model": model}})


def draw(groups: str, background: str) -> list[Exposure]:
    """Exposures of the same stars, with cosmic rays, bad pixels, and a rim that is not for science."""
    rng, found = np.random.default_rng(3), []
    u, v = rng.uniform(-10, 240, (2, STARS))
    flux = rng.uniform(3e2, 3e4, STARS)
    sky = pointed(0.0, 0.0, 30.0)(u, v * 0.55, with_bounding_box=False)
    y, x = np.mgrid[:SIDE, :SIDE]
    for k, (group, place, level) in enumerate(zip(groups.split(), PLACES, LEVELS, strict=False), 1):
        wcs = pointed(*place)
        true = np.zeros((SIDE, SIDE))
        for x0, y0, f in zip(*wcs.invert(*sky, with_bounding_box=False), flux, strict=True):
            true += f / 7.08 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2.254)
        rnoise = 0.01 * rng.lognormal(0, 0.2, (SIDE, SIDE))
        variance = rnoise + true / 100
        sci = true + rng.normal(0, np.sqrt(variance)) + (0 if background == "subtracted" else level)
        rays = (rng.random((SIDE, SIDE)) < 0.004) * rng.exponential(20, (SIDE, SIDE))
        sci += rays
        sci[:, 1:] += 0.04 * rays[:, :-1]
        sci[:4] = 30
        bad = rng.random((SIDE, SIDE))
        dq = np.select([bad < 0.01, bad < 0.015, bad < 0.02], [1, 4, 1 + 1024], 0).astype(np.uint32)
        dq[:4] |= 512
        err = np.sqrt(variance)
        rnoise[bad > 0.996] = 0
        for a in (sci, err, rnoise):
            a[bad < 0.006] = np.nan
        sci[(bad > 0.006) & (bad < 0.007)] = 50
        err[(bad > 0.3) & (bad < 0.302)] = rnoise[(bad > 0.6) & (bad < 0.602)] = np.nan
        rnoise[60, 60] = np.nan
        sky_keys = {"none": (None, None), "level": (level, False), "subtracted": (level, True)}
        sci, err, rnoise = (a.astype(np.float32) for a in (sci, err, rnoise))
        found.append(
            Exposure(f"jw{k}_cal.fits", group, sci, err, rnoise, dq, wcs, sky_keys[background], 10.0 * k)
        )
    return found


FOUR = "1 2 3 4"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "defaults": (FOUR, "none", {}),
    "level": (FOUR, "level", {}),
    "level_backg": (FOUR, "level", {"backg": 0.2}),
    "subtracted": (FOUR, "subtracted", {}),
    "subtracted_backg": (FOUR, "subtracted", {"backg": 0.2}),
    "backg": (FOUR, "none", {"backg": 0.2}),
    "exptime": (FOUR, "none", {"weight_type": "exptime"}),
    "pixfrac": (FOUR, "level", {"pixfrac": 0.6, "fillval": "0.0"}),
    "point": (FOUR, "level", {"kernel": "point"}),
    "turbo": (FOUR, "level", {"kernel": "turbo"}),
    "fillval": (FOUR, "level", {"maskpt": 0.0, "fillval": "0.2"}),
    "maskpt": (FOUR, "level", {"maskpt": 0.95}),
    "limits": (FOUR, "level", {"snr": "8 3", "scale": "0.5 2.0"}),
    "not_resampled": (FOUR, "level", {"resample_data": False}),
    "not_resampled_subtracted": (FOUR, "subtracted", {"resample_data": False, "backg": 0.2, "maskpt": 0.9}),
    "no_bad_rim": (FOUR, "level", {"good_bits": "~DO_NOT_USE+NON_SCIENCE"}),
    "some_flags_may_be_set": (FOUR, "level", {"good_bits": "JUMP_DET, DEAD"}),
    "bad_pixels_may_be_set": (FOUR, "level", {"good_bits": "1"}),
    "groups": ("1 2 3 4 1 2", "level", {}),
    "far_apart": ("1 2 3 4 5 6", "level", {}),
    "two": ("1 2", "level", {}),
    "one_group": ("1 1", "level", {}),
    "one": ("1", "level", {}),
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, peer):
    folder = tmp_path_factory.mktemp("outlier_detection")
    jobs = {}
    for name, (groups, background, parameters) in CASES.items():
        path = folder / f"{groups.replace(' ', '')}_{background}.asdf"
        if not path.exists():
            members = draw(groups, background)
            tree = {key: [getattr(m, key) for m in members] for key in KEYS}
            asdf.AsdfFile({**tree, "aperture": APERTURE}).write_to(path)
        jobs[name] = {"input": str(path), "parameters": parameters}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    cache = Cache(folder / "crds")
    cache.write()
    done = subprocess.run(
        [peer.interpreter, SCRIPT, folder / "jobs.json", folder],
        env={**os.environ, **cache.environment, "STPIPE_DISABLE_CRDS_STEPPARS": "true"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return lambda name: np.load(folder / f"{name}.npz")


def amid(members: list[Exposure]) -> list[np.ndarray]:
    """Pixels of each member that see the grid, but not its rim."""
    grid, _ = grid_of(members, Params().resampling())
    y, x = np.mgrid[:SIDE, :SIDE]
    found = []
    for member in members:
        u, v = grid.pixels(*member.wcs(x, y, with_bounding_box=False))
        ny, nx = grid.shape
        found.append((u > RIM) & (v > RIM) & (u < nx - 1 - RIM) & (v < ny - 1 - RIM))
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_same_outliers(name, theirs):
    (groups, background, parameters), answer = CASES[name], theirs(name)
    members, kept = draw(groups, background), {}
    means = Means(keep=lambda own, product: kept.__setitem__((own[:3], product.suffix), product.arrays))
    changes = run(members, Params(save_intermediate_results=True, **parameters), means)
    for k, (member, change, inner) in enumerate(zip(members, changes, amid(members), strict=True)):
        assert change.state == str(answer[f"state_{k}"])
        image = change.apply(member.read())
        blank = np.isnan([image.err, image.var_rnoise, image.var_poisson, image.var_flat]).all(axis=0)
        ours = np.stack([image.dq, np.isnan(image.sci), blank])
        peers = np.stack([answer[f"dq_{k}"], np.isnan(answer[f"sci_{k}"]), answer[f"blank_{k}"]])
        different = (ours != peers).any(axis=0)
        assert not different[inner].any() and different.sum() < 8
        np.testing.assert_array_equal(image.sci[~different], answer[f"sci_{k}"][~different])
    for (own, suffix), arrays in kept.items():
        peers = answer[f"{own}_{suffix}.fits SCI"]
        seen = amid(members)[int(own[2:]) - 1] if suffix == "blot" else np.s_[RIM:-RIM, RIM:-RIM]
        # a blotted median next to a star differs by what a position in float32 does
        same = np.isclose(arrays["SCI"][seen], peers[seen], rtol=1e-4, atol=1e-4, equal_nan=True)
        assert np.mean(~same) < 2e-3, suffix
    assert len(kept) == sum("SCI" in key for key in answer)
