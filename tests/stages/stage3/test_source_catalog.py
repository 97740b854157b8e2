"""Sources of a mosaic: stars worked by hand, gaps, nothing at all, photutils' and our own numbers."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.frames import Crew
from upramp.stages.core.reference import Prepared
from upramp.stages.resample.grid import Grid
from upramp.stages.stage3.resample import Resampled, wcs_of
from upramp.stages.stage3.source_catalog import STEP, Params, make, neighbours

SIDE, SKY, NOISE, SIGMA = 120, 3.0, 0.05, 1.2
AREA = 1e-13
JY = 1e6 * AREA
RADII = {30: 1.5, 50: 2.0, 70: 2.8, 90: 4.0}
STARS = {"ci1_star_threshold": 1.5, "ci2_star_threshold": 1.4}
"""What no star of this width exceeds with these circles."""
OFFSET = 1.25


def energy(radius, sigma=SIGMA):
    """What part of a Gaussian's light lies in a circle."""
    return 1.0 - np.exp(-(radius**2) / (2 * sigma**2))


def references(radii=RADII, offset=OFFSET):
    n = len(radii)
    return {
        "apcorr": Prepared({}, {
            "optics": "NIRCAM F444W CLEAR", "eefraction": [e / 100 for e in radii],
            "radius": list(radii.values()), "apcorr": [1 / energy(r) for r in radii.values()],
            "skyin": [9.0] * n, "skyout": [16.0] * n,
        }),
        "abvegaoffset": Prepared({}, {"optics": "NIRCAM F444W CLEAR", "offset": offset}),
    }  # fmt: skip


def gaussian(x0, y0, flux, a=SIGMA, b=SIGMA, turn=0.0):
    """A Gaussian (flux in MJy / sr pixels), averaged over pixels; ``turn`` degrees."""
    fine = (np.arange(5) - 2) / 5
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    t, total = np.radians(turn), 0.0
    for dy in fine:
        for dx in fine:
            u = (x + dx - x0) * np.cos(t) + (y + dy - y0) * np.sin(t)
            v = (y + dy - y0) * np.cos(t) - (x + dx - x0) * np.sin(t)
            total = total + np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2)
    return flux / (2 * np.pi * a * b) * total / 25


def mosaic(light, noise=NOISE, roll=0.0, ratio=None):
    """A resampled image of some light on a sky."""
    t = np.radians(roll)
    pc = np.array([[-np.cos(t), np.sin(t)], [np.sin(t), np.cos(t)]])
    grid = Grid((80.0, -69.5), (60.0, 50.0), 1.75e-5, pc, (SIDE, SIDE))
    rng = np.random.default_rng(8)
    sci = (SKY + light + noise * rng.normal(size=(SIDE, SIDE))).astype(np.float32)
    arrays = {
        "SCI": sci,
        "ERR": np.full(sci.shape, noise, np.float32),
        "WHT": np.ones(sci.shape, np.float32),
    }
    cards = {"PIXAR_SR": AREA, "CRPIX1": grid.crpix[0] + 1, "CRPIX2": grid.crpix[1] + 1}
    return Resampled(arrays, {"PXSCLRT": ratio}, cards, wcs_of(grid), grid)


STAR = gaussian(40.3, 71.8, 500.0)


def test_a_star_is_where_and_as_bright_as_it_was_put():
    found = make(mosaic(STAR), Params(**STARS), references())
    assert len(found) == 1
    assert found["xcentroid"][0] == pytest.approx(40.3, abs=0.005)
    assert found["ycentroid"][0] == pytest.approx(71.8, abs=0.005)
    assert found["aper_bkg_flux"][0] == pytest.approx(SKY * JY, rel=0.005)
    for wanted, radius in list(RADII.items())[:3]:
        part = energy(radius, np.sqrt(SIGMA**2 + 1 / 6))
        assert found[f"aper{wanted}_flux"][0] == pytest.approx(500 * part * JY, rel=0.02)
        error = NOISE * np.sqrt(np.pi) * radius * JY
        assert found[f"aper{wanted}_flux_err"][0] == pytest.approx(error, rel=1e-4)
    total = found["aper_total_flux"][0]
    assert total == pytest.approx(found["aper70_flux"][0] / energy(2.8), rel=1e-6)
    assert found["isophotal_flux"][0] == pytest.approx(500 * JY, rel=0.01)
    assert found["aper_total_abmag"][0] == pytest.approx(8.9 - 2.5 * np.log10(total))
    assert found["aper_total_vegamag"][0] == pytest.approx(found["aper_total_abmag"][0] - OFFSET)
    assert found["semimajor_sigma"][0] == pytest.approx(
        np.hypot(SIGMA, 2.0 / 2.355), rel=0.05
    )  # of the smoothed image
    assert not found["is_extended"][0]
    assert (found["nn_label"][0], np.isnan(found["nn_dist"][0])) == (-1, True)
    assert (found.segments > 0).sum() == found["isophotal_area"][0]


def test_positions_on_the_sky_and_around_the_segment():
    made = mosaic(STAR)
    found = make(made, Params(), references())
    x, y = made.wcs.invert(*found["sky_centroid"][0])
    assert (x, y) == pytest.approx((found["xcentroid"][0], found["ycentroid"][0]), abs=1e-6)
    rows, columns = np.nonzero(found.segments)
    left, top = made.wcs.invert(*found["sky_bbox_ul"][0], with_bounding_box=False)
    right, low = made.wcs.invert(*found["sky_bbox_lr"][0], with_bounding_box=False)
    assert (left, low) == pytest.approx((columns.min() - 0.5, rows.min() - 0.5), abs=1e-6)
    assert (right, top) == pytest.approx((columns.max() + 1.5, rows.max() + 1.5), abs=1e-6)


@pytest.mark.parametrize("roll", [0.0, 40.0, 250.0])
def test_an_ellipse_is_extended_and_its_angle_is_from_north(roll):
    made = mosaic(gaussian(60.0, 50.0, 9000.0, 7.0, 3.0, 25.0), roll=roll)
    found = make(made, Params(**STARS), references())
    row = int(np.argmax(found["isophotal_flux"]))
    assert found["is_extended"][row]
    assert found["orientation"][row] == pytest.approx(25.0, abs=1.0)
    assert found["ellipticity"][row] == pytest.approx(1 - 3 / 7, abs=0.06)
    t = np.radians(found["orientation"][row])
    x, y = found["xcentroid"][row], found["ycentroid"][row]
    ra, dec = made.wcs(np.array([x, x + np.cos(t)]), np.array([y, y + np.sin(t)]), with_bounding_box=False)
    east, north = (ra[1] - ra[0]) * np.cos(np.radians(dec[0])), dec[1] - dec[0]
    expected = np.degrees(np.arctan2(east, north))
    seen = found["sky_orientation"][row]
    assert abs((seen - expected + 90) % 180 - 90) < 0.1 or abs((seen + expected + 90) % 180 - 90) < 0.1


def test_both_ratios_make_a_source_extended():
    assert make(mosaic(STAR), Params(ci1_star_threshold=1.0, ci2_star_threshold=1.0), references())[
        "is_extended"
    ].all()
    for first, second in ((1.0, 99.0), (99.0, 1.0)):
        params = Params(ci1_star_threshold=first, ci2_star_threshold=second)
        assert not make(mosaic(STAR), params, references())["is_extended"].any()


def test_a_smaller_pixel_makes_larger_circles():
    found = make(mosaic(STAR, ratio=0.5), Params(), references())
    assert found.meta["aperture_params"]["aperture_radii"] == pytest.approx([3.0, 4.0, 5.6])
    assert found.meta["aperture_params"]["bkg_aperture_outer_radius"] == pytest.approx(32.0)
    error = NOISE * np.sqrt(np.pi) * 4.0 * JY
    assert found["aper50_flux_err"][0] == pytest.approx(error, rel=1e-4)


def test_gaps_are_no_sources_and_make_what_they_touch_unknown():
    light = STAR + gaussian(90.2, 30.0, 400.0) + gaussian(20.0, 20.0, 300.0)
    made = mosaic(light)
    sci = made.arrays["SCI"]
    sci[:, :6] = np.nan
    sci[-5:] = np.nan
    sci[31, 91] = np.nan
    made.arrays["WHT"][10:30, 10:30] = 0
    before = {name: array.copy() for name, array in made.arrays.items()}
    found = make(made, Params(), references())
    assert len(found) == 2
    near = int(np.argmin(np.abs(found["xcentroid"] - 90.2)))
    assert np.isnan(found["aper70_flux"][near])
    assert np.isnan(found["aper_total_abmag"][near])
    assert found["isophotal_flux"][near] > 0
    assert not found["is_extended"][near]
    assert found["aper70_flux"][1 - near] > 0
    assert not found.segments[:, :6].any()
    assert not found.segments[~np.isfinite(sci)].any()
    for name, array in made.arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_where_hardly_anything_is_covered_all_makes_one_box():
    made = mosaic(STAR)
    made.arrays["SCI"][:, 4::8] = np.nan
    made.arrays["SCI"][:30] = np.nan
    found = make(made, Params(bkg_boxsize=30, npixels=15, deblend=False), references())
    assert len(found) == 1


@pytest.mark.parametrize(
    ("change", "params", "words"),
    [
        (lambda made: made.arrays["SCI"].fill(SKY), Params(), "no source"),
        (lambda made: made.arrays["SCI"].fill(np.nan), Params(), "no source"),
        (lambda made: made.arrays["SCI"].fill(np.nan), Params(starfinder="iraf"), "no source"),
        (lambda made: made.sci.pop("PIXAR_SR"), Params(), "photom"),
        (lambda made: None, Params(aperture_ee1=33), "33 %"),
    ],
    ids=["flat", "dark", "dark for a star finder", "no pixel area", "no such energy"],
)
def test_what_cannot_be_done_is_told(change, params, words):
    made = mosaic(STAR)
    change(made)
    with pytest.raises(NotApplicable, match=words):
        make(made, params, references())


def test_rates_have_no_jansky():
    with pytest.raises(NotApplicable, match="DN/s"):
        make(mosaic(STAR), Params(), references(), unit="DN/s")


def test_optics_that_references_lack_are_told():
    with pytest.raises(NotApplicable, match="apcorr reference has no row for NIRCAM"):
        make(mosaic(STAR), Params(), references(radii={}))
    with pytest.raises(NotApplicable, match="abvegaoffset reference has no row for NIRCAM"):
        make(mosaic(STAR), Params(), references(offset=None))


@pytest.mark.parametrize("finder", ["dao", "iraf"])
def test_star_finders_make_no_map(finder):
    params = Params(starfinder=finder, snr_threshold=20.0, roundlo=-1.0, roundhi=1.0, sharplo=0.2)
    light = STAR + gaussian(90.2, 30.0, 4000.0)
    found = make(mosaic(light), params, references())
    assert found.segments is None
    assert found["xcentroid"] == pytest.approx([90.2, 40.3], abs=0.1)  # the brightest first
    assert found["nn_label"].tolist() == [2, 1]
    assert np.isnan(found["isophotal_area"]).all()
    assert np.isnan(found["orientation"]).all() == (finder == "dao")


def test_threads_make_no_difference():
    light = STAR + gaussian(90.2, 30.0, 4000.0)
    one, two = (make(mosaic(light), Params(), references(), Crew(n)) for n in (1, 2))
    np.testing.assert_array_equal(one.segments, two.segments)
    for a, b in zip(one.columns, two.columns, strict=True):
        np.testing.assert_array_equal(a.values, b.values)


def test_neighbours_of_sources_without_a_place():
    x, y = np.array([1.0, np.nan, 4.0, 4.0]), np.array([0.0, 0.0, 4.0, 5.0])
    label, distance = neighbours(x, y)
    assert label.tolist() == [3, -1, 4, 3]
    np.testing.assert_array_equal(distance, [5.0, np.nan, 1.0, 1.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"starfinder": "sextractor"}, {"multithresh_mode": "cubic"}, {"apermask_method": "guess"},
        {"connectivity": 6}, {"aperture_ee1": 70}, {"aperture_ee3": 100},
        {"bkg_boxsize": 0}, {"npixels": -1}, {"suffix": "../cat"},
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="must"):
        Params(**wrong)


class Table:
    """A reference: a FITS table, or columns in a tree."""

    name, reftype = "made_up", "apcorr"

    def __init__(self, columns):
        self.columns = {name: np.array(values) for name, values in columns.items()}

    def table(self, extname):
        assert extname == "APCORR"
        kinds = [(name, values.dtype) for name, values in self.columns.items()]
        return np.array(list(zip(*self.columns.values(), strict=True)), kinds)

    def tree(self):
        return {"abvega_offset": self}

    @property
    def colnames(self):
        return list(self.columns)

    def __getitem__(self, name):
        return self.columns[name]

    def __len__(self):
        return len(next(iter(self.columns.values())))


NUMBERS = {
    "eefraction": [0.3, 0.5, 0.3], "radius": [1.0, 2.0, 3.0], "apcorr": [3.0, 2.0, 4.0],
    "skyin": [8.0, 8.0, 9.0], "skyout": [14.0, 14.0, 15.0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("instrument", "selectors", "rows"),
    [
        ("NIRCAM", {"filter": ["A", "A", "A"], "pupil": ["P", "P", "Q"]}, [0, 1]),
        ("NIRISS", {"FILTER": [b"A ", b"B", b"A"], "pupil": ["P", "P", "P"]}, [0, 2]),
        ("MIRI", {"filter": ["A", "A", "A"], "subarray": ["FULL", "SUB", "SUB"]}, [1, 2]),
        ("FGS", {}, [0, 1, 2]),
        ("NIRCAM", {"filter": ["B", "B", "B"], "pupil": ["P", "P", "Q"]}, []),
    ],
)
def test_rows_of_the_optics(instrument, selectors, rows):
    meta = SimpleNamespace(instrument=instrument, detector="D2", filter="A", pupil="P", subarray="SUB")
    prepared = STEP.prepare["apcorr"](Table({**selectors, **NUMBERS}), meta, None)
    assert prepared.info["radius"] == [NUMBERS["radius"][k] for k in rows]
    assert prepared.info["skyout"] == [NUMBERS["skyout"][k] for k in rows]


@pytest.mark.parametrize(
    ("instrument", "selectors", "offset"),
    [
        ("NIRCAM", {"filter": ["A", "A"], "pupil": ["Q", "P"]}, 2.5),
        ("MIRI", {"filter": ["A", "B"]}, 1.5),
        ("FGS", {"detector": ["D1", "D2"]}, 2.5),
        ("MIRI", {"filter": ["C", "B"]}, None),
    ],
)
def test_offsets_of_the_optics(instrument, selectors, offset):
    meta = SimpleNamespace(instrument=instrument, detector="D2", filter="A", pupil="P", subarray="SUB")
    table = Table({**selectors, "abvega_offset": [1.5, 2.5]})
    assert STEP.prepare["abvegaoffset"](table, meta, None).info["offset"] == offset


def test_the_finders_library_waits_until_it_is_needed():
    """A process that makes no catalogue does not pay for it."""
    import subprocess

    code = "import sys, upramp.stages.stage3.source_catalog; sys.exit('photutils' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
