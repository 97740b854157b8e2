"""photom of images: the row, the decline of the sensitivity, pixel areas."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.step import Context
from upramp.stages.stage2.photom import STEP, Params, prepare_area, prepare_photom

OPTICS = [("filter", "S12"), ("pupil", "S12"), ("photmjsr", "f4"), ("uncertainty", "f4")]
SUBARRAYS = [("filter", "S12"), ("subarray", "S17"), ("photmjsr", "f4"), ("uncertainty", "f4")]
NIRCAM = np.array(
    [("F444W", "CLEAR", 0.4, 0), ("F150W", "CLEAR", 0.5, 0), ("F150W", "CLEAR", 0.7, 0)], OPTICS
)
MIRI = np.array(
    [("F770W", "FULL", 0.3, 0), ("F770W", "SUB64", 0.2, 0), ("F1000W", "GENERIC", 0.1, 0)], SUBARRAYS
)
PIXAR = {"PIXAR_SR": 1e-13, "PIXAR_A2": 0.004}


def table(*columns):
    names = [("filter", "S12"), ("subarray", "S17"), *((name, "f4") for name, _ in columns)]
    return np.array([("F770W", "FULL", *(value for _, value in columns))], names)


LINEAR = {"TIMECOEFF_LINEAR": table(("t0", 59990.0), ("lossperyear", 0.1))}
EXPONENTIAL = {
    "TIMECOEFF_EXPONENTIAL": table(("t0", 59990.0), ("amplitude", 0.3), ("tau", 100.0), ("const", 0.7))
}
POWER_LAW = {
    "TIMECOEFF_POWERLAW": table(("t0", 59900.0), ("year1value", 0.8), ("tsoft", 3.0), ("alpha", -0.05))
}


@pytest.fixture
def calibrated(make_reference, make_meta, make_image):
    """A function that calibrates an image by a table: (table, facts) -> (image, what it was before)."""

    def apply(rows, area=None, coefficients=None, header=PIXAR, params=None, image=None, **facts):
        params = params or Params()
        meta = make_meta(**facts)
        raw = make_reference(header, PHOTOM=rows, **(coefficients or {}))
        references = {"photom": prepare_photom(raw, meta, params)}
        if area is not None:
            references["area"] = prepare_area(area, meta, params)
        return STEP.apply(image or make_image(EXPMID=60010.0), Context(meta, params, references))

    return apply


def factor(after, before):
    ratio = after.sci / before.sci
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    np.testing.assert_allclose(after.err / before.err, ratio[0, 0], rtol=1e-6)
    for name in ("var_poisson", "var_rnoise"):
        np.testing.assert_allclose(getattr(after, name) / getattr(before, name), ratio[0, 0] ** 2, rtol=1e-5)
    return ratio[0, 0]


@pytest.mark.parametrize(
    ("rows", "facts", "wanted"),
    [
        (NIRCAM, {}, 0.4),
        (MIRI, {"instrument": "MIRI", "filter": "F770W"}, 0.3),
        (MIRI, {"instrument": "MIRI", "filter": "F770W", "subarray": "SUB64"}, 0.2),
        (MIRI, {"instrument": "MIRI", "filter": "F1000W"}, 0.1),
        (np.array([(0.6, 0)], [("photmjsr", "f4"), ("uncertainty", "f4")]), {"instrument": "FGS"}, 0.6),
    ],
)
def test_the_row_of_the_optics(calibrated, make_image, rows, facts, wanted):
    after = calibrated(rows, **facts)
    assert factor(after, make_image()) == pytest.approx(wanted, rel=1e-6)
    assert after.bunit == "MJy/sr"
    cards = after.header["SCI"]
    assert cards["PHOTMJSR"] == np.float32(wanted)
    assert cards["PHOTUJA2"] == pytest.approx(23.5044305 * wanted, rel=1e-7)
    assert (cards["PIXAR_SR"], cards["PIXAR_A2"]) == (1e-13, 0.004)


def test_without_a_row_rates_stay_rates(calibrated, make_image):
    after = calibrated(NIRCAM, filter="F200W")
    assert np.array_equal(after.sci, make_image().sci)
    assert after.bunit == "DN/s" and "PHOTMJSR" not in after.header["SCI"]
    assert after.header["SCI"]["PIXAR_SR"] == 1e-13
    assert after.counters["photom.without_conversion"] == 1


def test_two_rows_are_one_too_many(calibrated):
    with pytest.raises(Misconfigured, match="2 rows for F150W CLEAR"):
        calibrated(NIRCAM, filter="F150W")


@pytest.mark.parametrize(
    ("coefficients", "conversion", "microjansky"),
    [
        (LINEAR, 0.3016529054401585, 7.090179762835269),
        (EXPONENTIAL, 0.3172524456254194, 7.4568380715616),
        (POWER_LAW, 0.3535027688971869, 8.308881276922703),
        (LINEAR | POWER_LAW, 0.35545044360559275, 8.354660261819186),
    ],
)
def test_the_decline_of_the_sensitivity(calibrated, make_image, coefficients, conversion, microjansky):
    """Values recorded with the peer."""
    facts = {"instrument": "MIRI", "filter": "F770W", "coefficients": coefficients}
    after = calibrated(MIRI[:1], **facts)
    assert after.header["SCI"]["PHOTMJSR"] == pytest.approx(conversion, rel=1e-7)
    assert after.header["SCI"]["PHOTUJA2"] == pytest.approx(microjansky, rel=1e-7)
    assert factor(after, make_image()) == pytest.approx(conversion, rel=1e-6)
    left_out = calibrated(MIRI[:1], params=Params(apply_time_correction=False), **facts)
    assert left_out.header["SCI"]["PHOTMJSR"] == np.float32(0.3)


def test_coefficients_of_other_rows_are_refused(calibrated):
    with pytest.raises(Misconfigured, match="3 conversions, but 1 rows in TIMECOEFF_LINEAR"):
        calibrated(MIRI, coefficients=LINEAR, instrument="MIRI", filter="F770W")


def test_the_area_is_cut_and_its_header_counts(calibrated, make_reference):
    area = make_reference({}, SCI=np.arange(108, dtype=">f4").reshape(9, 12) + 1)
    after = calibrated(NIRCAM, area=area, xstart=3, ystart=2)
    assert after.arrays["AREA"].shape == (6, 8) and after.arrays["AREA"][0, 0] == 15
    assert after.arrays["AREA"].dtype == np.float32
    assert after.header["SCI"]["PIXAR_SR"] is None


def test_back_again(calibrated, make_image):
    there = calibrated(NIRCAM)
    back = calibrated(NIRCAM, image=there, params=Params(inverse=True))
    assert factor(back, make_image()) == pytest.approx(1, rel=1e-6)
    assert back.bunit == "DN/s"
    assert back.header["SCI"]["PHOTMJSR"] == np.float32(0.4)


def test_integrations_of_niriss_get_areas_alone(calibrated, make_image):
    image = make_image((2, 6, 8), EXPMID=60010.0)
    with pytest.raises(NotApplicable, match="NIRISS") as why:
        calibrated(NIRCAM, image=image, instrument="NIRISS", nints=2)
    left = why.value.left
    assert left.sci is image.sci and left.bunit == "DN/s"
    assert left.header["SCI"] == {"PIXAR_SR": 1e-13, "PIXAR_A2": 0.004}


def test_images_of_nirspec_have_no_conversion(make_meta):
    assert "NIRSpec" in STEP.skip_if(make_meta(instrument="NIRSPEC", detector="NRS1"), Params())
