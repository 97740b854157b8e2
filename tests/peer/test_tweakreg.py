"""tweakreg beside the peer's: finders, geometries, groups, references, catalogues of the user's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import pytest
from astropy.modeling.models import Identity, Polynomial2D, Shift
from astropy.modeling.models import Mapping as Axes
from astropy.table import Table

from upramp.simulate.cache import Cache
from upramp.stages.core.image import Image
from upramp.stages.stage3.members import Means
from upramp.stages.stage3.tweakreg import Params, run
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.imaging import imaging_wcs

pytestmark = pytest.mark.peer

SCRIPT = Path(__file__).parent / "peerkit" / "run_tweakreg.py"
SIDE, SCALE, STARS = 300, 0.063, 64
APERTURE = {
    "v2_ref": 86.0, "v3_ref": -493.0, "roll_ref": 30.0, "ra_ref": 80.0, "dec_ref": -69.5, "vparity": -1,
    "v3yangle": 0.0, "crpix1": 150.0, "crpix2": 150.0,
}  # fmt: skip
ERRORS = [(0.0, 0.0), (0.21, -0.13), (-0.16, 0.3), (0.4, 0.1)]


@dataclass
class Exposure:
    """A member in memory."""

    name: str
    group: str
    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    wcs: Any
    places: tuple[np.ndarray, np.ndarray]
    cards: Mapping[str, Any] = field(default_factory=lambda: {k.upper(): v for k, v in APERTURE.items()})

    @property
    def shape(self) -> tuple[int, int]:
        return SIDE, SIDE

    def read(self, *names: str) -> Image:
        zero = np.zeros(self.sci.shape, np.float32)
        return Image(self.sci.copy(), self.err.copy(), self.dq, zero, zero, wcs=self.wcs)


def pointed(dx: float, dy: float) -> Any:
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
    facts = WcsFacts("NIRCAM", "NRCALONG", "NRC_IMAGE", SIDE, SIDE, 86.0, -493.0, ra, dec, 30.0, va_scale=1.0)
    return imaging_wcs(facts, {"distortion": {"model": model}})


def draw(groups: str) -> tuple[list[Exposure], tuple[np.ndarray, np.ndarray]]:
    """Exposures of the same stars, and where these are on the sky."""
    rng, found = np.random.default_rng(3), []
    u, v = np.mgrid[:8, :8].reshape(2, -1) * 34.0 + 30 + rng.uniform(-9, 9, (2, STARS))
    flux = rng.uniform(3e3, 3e4, STARS)
    sky = pointed(0.0, 0.0)(u, v)
    y, x = np.mgrid[:SIDE, :SIDE]
    for k, (group, (ex, ey)) in enumerate(zip(groups.split(), ERRORS, strict=False), 1):
        right = pointed(0.5 * k, -0.4 * k)
        places = right.invert(*sky, with_bounding_box=False)
        sci = rng.normal(0.3, 0.5, (SIDE, SIDE))
        for x0, y0, f in zip(*places, flux, strict=True):
            sci += f / 7.08 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2.254)
        dq = (rng.random((SIDE, SIDE)) < 0.002).astype(np.uint32)
        sci[dq > 0] = np.nan
        err = np.full((SIDE, SIDE), 0.5, np.float32)
        wrong = pointed(0.5 * k + ex, -0.4 * k + ey)
        found.append(Exposure(f"jw{k}_cal.fits", group, sci.astype(np.float32), err, dq, wrong, places))
    return found, sky


CUSTOM = {"use_custom_catalogs": True, "catfile": "cats.txt"}
FINDING = {"bkg_boxsize": 80, "roundlo": -1.0, "roundhi": 1.0, "sharplo": 0.1}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("1 2 3 4", {}),
    "found": ("1 2 3 4", FINDING),
    "dao": ("1 2 3 4", FINDING | {"starfinder": "dao", "brightest": 40}),
    "segments": ("1 2 3 4", FINDING | {"starfinder": "segmentation"}),
    "groups": ("1 1 2 2", FINDING),
    **{g: ("1 2 3 4", CUSTOM | {"fitgeometry": g}) for g in ("shift", "rshift", "rscale", "general")},
    "user_order": ("1 2 3 4", CUSTOM | {"enforce_user_order": True, "expand_refcat": True}),
    "expanded": ("1 2 3 4", CUSTOM | {"expand_refcat": True}),
    "too_few": ("1 2 3 4", CUSTOM | {"minobj": 65}),
    "alone": ("1", CUSTOM),
    "reference": ("1 2 3 4", CUSTOM | {"abs_refcat": "ref.ecsv"}),
    "reference_alone": ("1", CUSTOM | {"abs_refcat": "ref.ecsv", "abs_fitgeometry": "general"}),
    "reference_groups": ("1 1 2 3", CUSTOM | {"abs_refcat": "ref.ecsv", "abs_fitgeometry": "shift"}),
    "reference_small": ("1 2 3 4", CUSTOM | {"abs_refcat": "few.ecsv"}),
    "reference_elsewhere": ("1 2 3 4", CUSTOM | {"abs_refcat": "other.ecsv", "abs_minobj": 40}),
    "no_sip": ("1 2 3 4", CUSTOM | {"sip_approx": False}),
    "sip": ("1 2 3 4", CUSTOM | {"sip_degree": 3, "sip_inv_degree": 2, "sip_npoints": 9}),
    "without_histogram": (
        "1 2 3 4",
        CUSTOM | {"use2dhist": False, "xoffset": 0.2, "yoffset": -0.1, "searchrad": 1.0},
    ),
    "not_clipped": ("1 2 3 4", CUSTOM | {"nclip": 0, "fitgeometry": "general"}),
    "clipped_hard": ("1 2 3 4", FINDING | {"nclip": 5, "sigma": 1.5}),
    "wide_kernel": (
        "1 2 3 4",
        FINDING | {"kernel_fwhm": 3.5, "snr_threshold": 20.0, "sigma_radius": 2.0, "sharphi": 1.5},
    ),
    "apart": ("1 2 3 4", FINDING | {"starfinder": "dao", "minsep_fwhm": 4.0, "peakmax": 2500.0}),
    "few_pixels": (
        "1 2 3 4",
        FINDING
        | {"starfinder": "segmentation", "npixels": 5, "connectivity": 4, "nlevels": 16, "contrast": 0.01}
        | {"multithresh_mode": "linear", "localbkg_width": 12, "apermask_method": "mask"},
    ),
    "not_deblended": (
        "1 2 3 4",
        FINDING | {"starfinder": "segmentation", "deblend": False, "kron_params": [2.0, 1.2, 1.0]},
    ),
    "reference_options": (
        "1 2 3 4",
        CUSTOM
        | {"abs_refcat": "ref.ecsv", "abs_use2dhist": False, "abs_searchrad": 2.0, "abs_nclip": 1}
        | {"abs_sigma": 2.0, "abs_separation": 0.6, "abs_tolerance": 0.4, "save_abs_catalog": True},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tweakreg")
    members, (ra, dec) = draw("1 2 3 4")
    lines = []
    for k, member in enumerate(members):
        Table(dict(zip("xy", member.places, strict=True))).write(folder / f"c{k}.ecsv")
        lines.append(f"{member.name} c{k}.ecsv")
    (folder / "cats.txt").write_text("\n".join(lines))
    rng = np.random.default_rng(1)
    Table({"RA": ra, "DEC": dec}).write(folder / "ref.ecsv")
    Table({"RA": ra[:9], "DEC": dec[:9]}).write(folder / "few.ecsv")
    Table({"RA": rng.permutation(ra), "DEC": rng.permutation(dec)}).write(folder / "other.ecsv")
    return folder


def placed(parameters, folder):
    """Parameters with whole paths."""
    return {k: str(folder / v) if k in ("catfile", "abs_refcat") else v for k, v in parameters.items()}


@pytest.fixture(scope="module")
def theirs(folder, peer):
    jobs = {}
    for name, (groups, parameters) in CASES.items():
        path = folder / f"{groups.replace(' ', '')}.asdf"
        if not path.exists():
            members, _ = draw(groups)
            tree = {key: [getattr(m, key) for m in members] for key in ("sci", "err", "dq", "wcs", "name")}
            exposures = [m.group for m in members]
            asdf.AsdfFile({**tree, "exposure": exposures, "aperture": APERTURE}).write_to(path)
        jobs[name] = {"input": str(path), "parameters": placed(parameters, folder)}
        if "connectivity" in parameters:  # the peer takes it as text alone
            jobs[name]["parameters"]["connectivity"] = str(parameters["connectivity"])
    (folder / "jobs.json").write_text(json.dumps(jobs))
    cache = Cache(folder / "crds")
    cache.write()
    done = subprocess.run(
        [peer.interpreter, SCRIPT, folder / "jobs.json", folder / "answers.json"],
        env={**os.environ, **cache.environment, "STPIPE_DISABLE_CRDS_STEPPARS": "true"}, cwd=folder,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads((folder / "answers.json").read_text())


def means() -> Means:
    def table(path):
        found = Table.read(path)
        return {name: np.asarray(found[name]) for name in found.colnames}

    return Means(text=lambda path: Path(path).read_text(), table=table)


@pytest.mark.parametrize("name", CASES)
def test_the_same_corrections(name, theirs, folder):
    groups, parameters = CASES[name]
    members, _ = draw(groups)
    changes = run(members, Params(**placed(parameters, folder)), means())
    x, y = np.meshgrid(np.linspace(0, SIDE - 1, 5), np.linspace(0, SIDE - 1, 5))
    for member, change, answer in zip(members, changes, theirs[name], strict=True):
        assert change.state == answer["state"]
        wcs = change.wcs or member.wcs
        assert list(wcs.available_frames) == answer["frames"]
        ra, dec = wcs(x, y)
        off = np.hypot((ra - answer["sky"][0]) * np.cos(np.radians(dec)), dec - answer["sky"][1])
        assert off.max() * 3.6e6 < 0.05  # mas; a thousandth of a pixel
        if change.wcs is not None:
            corners = [np.array(r.split()[2:], float) for r in (change.sci["S_REGION"], answer["region"])]
            np.testing.assert_allclose(*corners, rtol=0, atol=5e-8)
