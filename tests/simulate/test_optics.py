"""References of stage 2: the distortion fits the header, flats and conversions are what they say."""

from __future__ import annotations

import asdf
import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate import detector, optics, rates
from upramp.simulate.cache import Cache
from upramp.simulate.observation import Observation
from upramp.stages.core import dq

PLACE = {"ny": 40, "nx": 50, "xstart": 11, "ystart": 6}


@pytest.mark.parametrize("name", ["NRCALONG", "NIS", "MIRIMAGE", "GUIDER1"])
def test_the_distortion_fits_the_header(name):
    observation = Observation(detector=name, subarray="SUB64", **PLACE)
    meta, layout = observation.metadata(), observation.layout
    model = optics.distortion_of(observation)
    x, y = meta["wcsinfo.crpix1"] + PLACE["xstart"] - 2, meta["wcsinfo.crpix2"] + PLACE["ystart"] - 2
    np.testing.assert_allclose(model(x, y), (layout.v2, layout.v3), rtol=1e-12)
    v2, v3 = model(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    right, up = v2[1] - v2[0] + 1j * (v3[1] - v3[0]), v2[2] - v2[0] + 1j * (v3[2] - v3[0])
    wild = 5 * optics.BENT / optics.HALF
    assert abs(abs(right) / layout.scale - 1) < wild and abs(abs(up) / layout.scale - 1) < wild
    assert np.sign((right.conjugate() * up).imag) == layout.parity
    tilt = up.conjugate() * np.exp(1j * (np.pi / 2 - np.radians(layout.yangle)))
    assert abs(np.angle(tilt)) < wild


@pytest.mark.parametrize(
    ("bent", "typical", "most"), [(0.0, 1e-9, 1e-9), (3.0, 0.05, 0.5), (30.0, 3.0, 40.0)]
)
def test_there_and_back(bent, typical, most):
    """As far as polynomials of the same degree go."""
    model = optics.distortion(0.03, 86.0, -493.0, bent=bent)
    y, x = np.mgrid[:2048:89, :2048:89].astype(float)
    back = model.inverse(*model(x, y))
    off = np.hypot(back[0] - x, back[1] - y)
    assert np.median(off) < typical and off.max() < most


def test_areas_are_those_of_the_distortion():
    flat = optics.distortion(0.05, 0.0, 0.0, bent=0.0)
    np.testing.assert_allclose(optics.relative_areas(flat, (5, 7), 0.05), 1, rtol=1e-5)
    np.testing.assert_allclose(optics.relative_areas(flat, (5, 7), 0.1), 0.25, rtol=1e-5)


@pytest.fixture
def written(tmp_path):
    """A function: references of an observation, opened, by type."""

    def write(name, **how):
        observation = Observation(detector=name, subarray="SUB64", **PLACE)
        cache = Cache(tmp_path / name)
        optics.write_all(cache, detector.draw(name, 64, 64), [observation], **how)
        cache.write()
        return {p.name.split("_")[2]: p for p in (tmp_path / name / "references").rglob("jwst_*")}

    return write


def test_the_flat_has_every_kind_of_pixel(written):
    with fits.open(written("NRCALONG")["flat"]) as hdus:
        values, table = hdus["SCI"].data, hdus["DQ_DEF"].data
        assert np.isnan(values).sum() == (values == 0).sum() == 6
        assert set(table["NAME"]) == set(optics.FLAT_FLAGS)
        for row in table:
            count = np.count_nonzero(hdus["DQ"].data & row["VALUE"])
            assert count == (256 if row["NAME"] == "NON_SCIENCE" else 6), row["NAME"]


@pytest.mark.parametrize(
    ("name", "row"),
    [("NRCALONG", ("F444W", "CLEAR")), ("NIS", ("CLEAR", "F150W")), ("MIRIMAGE", ("F770W", "SUB64"))],
)
def test_photom_has_the_row_and_others(written, name, row):
    with fits.open(written(name)["photom"]) as hdus:
        rows = [tuple(r)[:2] for r in hdus["PHOTOM"].data]
        assert row in rows and ("F999W", "OTHER") in rows and len(set(rows)) == len(rows)
        assert len(np.unique(hdus["PHOTOM"].data["photmjsr"])) == len(rows)
        mid = name == "MIRIMAGE"
        assert ("TIMECOEFF_EXPONENTIAL" in hdus) == mid and (("F770W", "GENERIC") in rows) == mid


def test_photom_without_the_row(written):
    with fits.open(written("NRCALONG", rows=False)["photom"]) as hdus:
        assert set(hdus["PHOTOM"].data["filter"]) == {"F999W"}


def test_transforms_are_asdf(written):
    files = written("NIS")
    with asdf.open(files["filteroffset"]) as found:
        assert ("CLEAR", "F150W") in [(f["filter"], f["pupil"]) for f in found["filters"]]
    assert "filteroffset" not in written("GUIDER1")


@pytest.mark.parametrize("by_integration", [False, True])
def test_rates(tmp_path, by_integration):
    observation = Observation(detector="NRCALONG", subarray="SUB64P", nints=3, **PLACE)
    chip = detector.draw("NRCALONG", 64, 64)
    path = rates.write(tmp_path, chip, np.full((40, 50), 90.0), observation, by_integration=by_integration)
    assert path.name.endswith("_rateints.fits" if by_integration else "_rate.fits")
    with fits.open(path) as hdus:
        assert hdus["SCI"].data.shape == ((3, 40, 50) if by_integration else (40, 50))
        bad = hdus["DQ"].data & dq.DO_NOT_USE != 0
        assert 0 < bad.mean() < 0.1
        assert (np.isnan(hdus["SCI"].data) == bad).all()
        pull = (hdus["SCI"].data - 90)[~bad] / hdus["ERR"].data[~bad]
        assert pull.std() == pytest.approx(1, abs=0.06)
        assert ("INT_TIMES" in hdus) == by_integration
