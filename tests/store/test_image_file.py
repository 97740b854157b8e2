"""Products of images in: pixels, flags, headers, and files that are none."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from upramp.stages.core.errors import Unprocessable
from upramp.store.image_file import kind_of, open_image

HEADER = {
    "TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "NRCALONG", "EXP_TYPE": "NRC_IMAGE",
    "FILTER": "F444W", "PUPIL": "CLEAR",
    "SUBARRAY": "SUB64P", "SUBSTRT1": 3, "SUBSTRT2": 5, "EXPSTART": 60000.5, "NGROUPS": 7,
}  # fmt: skip
STEM = "jw01234001001_02101_00001_nrcalong"


@pytest.fixture
def make_product(tmp_path):
    """A function that writes a product of random images; ``without`` leaves extensions out."""

    def make(kind="rate", shape=(6, 8), without=(), **other):
        rng = np.random.default_rng(3)
        arrays = {n: rng.normal(size=shape).astype("f4") for n in ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE")}
        arrays["DQ"] = rng.integers(0, 1 << 32, shape, dtype=np.uint32)
        arrays |= other
        primary = fits.PrimaryHDU()
        primary.header.update(HEADER)
        images = [fits.ImageHDU(a, name=n) for n, a in arrays.items() if n not in without]
        if images and images[0].name == "SCI":
            images[0].header["BUNIT"] = "MJy/sr"
        path = tmp_path / f"{STEM}_{kind}.fits"
        fits.HDUList([primary, *images]).writeto(path, overwrite=True)
        return path, arrays

    return make


@pytest.mark.parametrize(("kind", "shape"), [("rate", (6, 8)), ("calints", (3, 6, 8))])
def test_pixels_and_facts(make_product, kind, shape):
    path, arrays = make_product(kind, shape, AREA=np.ones((6, 8), "f4"), VAR_FLAT=np.ones(shape, "f4"))
    file = open_image(path)
    image = file.read()
    for name in ("sci", "err", "dq", "var_poisson", "var_rnoise", "var_flat"):
        found = getattr(image, name)
        assert np.array_equal(found, arrays[name.upper()]), name
        assert found.dtype.isnative and found.dtype == arrays[name.upper()].dtype
    assert image.arrays["AREA"].shape == (6, 8)
    assert image.bunit == "MJy/sr"
    assert image.cards()["FILTER"] == "F444W"
    assert (file.kind, file.segment_id, file.exposure_id) == (kind, f"{STEM}_{kind}", f"{STEM}_{kind}")
    meta = file.meta
    assert (meta.nints, meta.ny, meta.nx, meta.xstart, meta.ystart) == (
        3 if len(shape) == 3 else 1,
        6,
        8,
        3,
        5,
    )
    assert (meta.ngroups, meta.exposure_start, meta.pupil) == (7, 60000.5, "CLEAR")


def test_some_extensions_alone(make_product):
    path, arrays = make_product(AREA=np.ones((6, 8), "f4"))
    image = open_image(path).read("SCI", "VAR_RNOISE")
    for name in ("sci", "var_rnoise"):
        assert np.array_equal(getattr(image, name), arrays[name.upper()])
    for name in ("err", "dq", "var_poisson"):
        assert getattr(image, name).shape == (0, 0)
    assert image.var_flat is None and not image.arrays and image.bunit == "MJy/sr"


def test_variances_that_are_not_there(make_product):
    path, _ = make_product(without=("VAR_POISSON", "VAR_RNOISE"))
    image = open_image(path).read()
    assert not image.var_poisson.any() and image.var_flat is None


@pytest.mark.parametrize("name", ["ERR", "DQ"])
def test_what_is_needed(make_product, name):
    path, _ = make_product(without=(name,))
    with pytest.raises(Unprocessable, match=f"no {name} extension"):
        open_image(path).read()
    path, _ = make_product(**{name: np.zeros((6, 7), "f4" if name == "ERR" else "u4")})
    with pytest.raises(Unprocessable, match=f"no {name} extension of the shape"):
        open_image(path).read()


def test_another_type_of_number(make_product):
    path, _ = make_product(ERR=np.zeros((6, 8), "f8"))
    with pytest.raises(Unprocessable, match="ERR holds float64"):
        open_image(path).read()


def test_no_image_and_half_an_image(make_product):
    path, _ = make_product(without=("SCI",))
    with pytest.raises(Unprocessable, match="no SCI extension"):
        open_image(path)
    path, _ = make_product(shape=(64, 64))
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(Unprocessable, match="truncated"):
        open_image(path)


def test_kinds():
    assert kind_of(f"{STEM}_rate.fits") == "rate"
    assert kind_of("jw01234-o001_t001_nircam_f444w_i2d.fits") == ""
    assert kind_of(f"{STEM}_uncal.fits") == kind_of("notes.txt") == ""


@pytest.mark.parametrize("shape", [(6, 8), (2, 6, 8)])
def test_values_and_flags_alone(make_product, shape):
    path, arrays = make_product("cal", shape)
    image = open_image(path).read("SCI", "DQ")
    assert np.array_equal(image.sci, arrays["SCI"]) and image.sci.dtype == np.float32
    assert np.array_equal(image.dq, arrays["DQ"]) and image.dq.dtype == np.uint32
    assert image.err.size == image.var_poisson.size == 0


def test_values_of_another_type_or_shape(make_product):
    path, _ = make_product("cal", SCI=np.zeros((6, 8), "f8"))
    with pytest.raises(Unprocessable, match="SCI holds float64"):
        open_image(path).read("SCI", "DQ")
    for name in ("ERR", "DQ"):
        path, _ = make_product("cal", without=(name,))
        with pytest.raises(Unprocessable, match=f"no {name} extension"):
            open_image(path).read("SCI", "DQ")
