"""The WCS of images against what the observatory's package makes of the same headers and references.

Real references of all instruments, with headers and recorded answers, lie beside the project.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.io import fits

from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.whole import run_whole
from upramp.stages.stage2.assign_wcs import STEP
from upramp.stages.wcs.evaluate import pixel_to_sky, sky_to_pixel
from upramp.store.asdf_tree import asdf_extension, keyword_paths
from upramp.store.transforms import load, read_wcs

pytestmark = pytest.mark.shared

IMAGES = ("miri_image_f770w", "nircam_image_nrcalong", "niriss_image_f200w", "nirspec_image_nrs1_clear")
MAS = 3.6e6


@pytest.fixture(params=IMAGES)
def truth(request, shared):
    path = shared / "peer" / "wcs_truth" / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return json.loads(path.read_text())


@pytest.fixture
def made(truth, shared):
    """The image after the step."""
    primary, shape = truth["header"]["PRIMARY"], truth["shape"]
    nothing = np.broadcast_to(np.float32(0), shape)
    image = Image(nothing, nothing, nothing, nothing, nothing, header=truth["header"])
    meta = ExposureMeta(
        primary["INSTRUME"], primary["DETECTOR"], primary["EXP_TYPE"], primary["SUBARRAY"], 1, 1, shape[1],
        shape[0], primary["FASTAXIS"], primary["SLOWAXIS"], 1, 1, 5, grating=primary.get("GRATING", ""),
    )  # fmt: skip
    given = {t: load(shared / path, t) for t, path in truth["references"].items() if t in STEP.references}
    image, states = run_whole((STEP,), image, meta, given, {})
    assert states["assign_wcs"].state == truth["assign_wcs"]
    return image


def column(truth, name):
    return np.array([sample[name] for sample in truth["samples"]], float).T


def apart(a, b):
    """Angles between positions in mas; NaN must meet NaN."""
    a, b = np.asarray(a), np.asarray(b)
    assert (np.isnan(a) == np.isnan(b)).all()
    return np.nanmax(np.hypot((a[0] - b[0]) * np.cos(np.radians(b[1])), a[1] - b[1])) * MAS


def test_every_pixel_is_where_it_was(truth, made):
    assert list(made.wcs.available_frames) == truth["frames"]
    assert made.wcs.bounding_box.bounding_box(order="F") == tuple(map(tuple, truth["bounding_box"]))
    pixels = column(truth, "in")
    assert apart(made.wcs(*pixels), column(truth, "out")) < 1e-3
    for frame in truth["frames"][1:-1]:
        got = np.array(made.wcs.get_transform("detector", frame)(*pixels))
        np.testing.assert_allclose(got, column(truth, frame), rtol=1e-12, atol=1e-15)


def test_the_way_back(truth, made):
    """The package's own way back of NIRSpec images leads astray: see the known differences."""
    sky = column(truth, "out")
    back = np.array(made.wcs.backward_transform(*sky))
    if truth["mode"].startswith("nirspec"):
        assert np.nanmedian(np.abs(back - column(truth, "in"))) < 0.2
        assert np.nanmax(np.abs(back - column(truth, "in"))) < 1.5
    else:
        np.testing.assert_allclose(back, column(truth, "back"), atol=1e-6)


def test_what_the_header_tells(truth, made):
    paths = {
        p.rpartition(".")[2]: k for k, p in keyword_paths()["SCI"].items() if p.startswith("meta.wcsinfo.")
    }
    cards, leaves = made.header["SCI"], made.leaves["meta"]["wcsinfo"]
    assert cards["S_REGION"] == truth["s_region"]
    told = {**{name: cards[k] for name, k in paths.items() if k in cards}, **leaves}
    told = {k: v for k, v in told.items() if v is not None}
    assert told.keys() == truth["wcsinfo"].keys()
    for name, value in truth["wcsinfo"].items():
        assert told[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), name


def test_fast_evaluation(truth, made):
    pixels = np.mgrid[0:2047:40.0, 0:2047:40.0]
    expected = np.array(made.wcs.forward_transform(*pixels))
    assert apart(pixel_to_sky(made.wcs)(*pixels), expected) < 1e-3
    got, back = sky_to_pixel(made.wcs)(*expected), made.wcs.backward_transform(*expected)
    np.testing.assert_allclose(got, back, atol=1e-6)


def test_through_a_product(truth, made):
    extension = asdf_extension({"meta": {"wcs": made.wcs}})
    again = read_wcs(extension[extension.index(b"#ASDF") :], "x_assign_wcs.fits")
    pixels = column(truth, "in")
    np.testing.assert_array_equal(again(*pixels), made.wcs(*pixels))


def test_the_wcs_of_a_flight_product(shared):
    """Written years ago, by older versions of the package and of its libraries."""
    paths = sorted((shared / "real" / "niriss_ami_cal").glob("*_cal.fits"))
    if not paths:
        pytest.skip("no flight products")
    with fits.open(paths[0]) as hdus:
        content = hdus["ASDF"].data.field(0)[0].tobytes()
    wcs = read_wcs(content, paths[0].name)
    assert list(wcs.available_frames) == ["detector", "v2v3", "v2v3vacorr", "world"]
    pixels = np.mgrid[0:79:3.0, 0:79:3.0]
    assert apart(pixel_to_sky(wcs)(*pixels), wcs.forward_transform(*pixels)) < 1e-3
