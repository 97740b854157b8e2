"""Files of stripes and superstripes: what is read of them, how times go together, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.stripes import Stripes
from upramp.store import superstripes
from upramp.store.uncal import open_uncal


def told(*values, **more):
    """Keywords of stripes."""
    return dict(zip(superstripes.KEYWORDS, values, strict=False)) | more


PICKED = told(1, 20, 2, 1, 1, 1, 0, 0)
ALONG = told(2, 0, 4, 0, 1, 1, 4, 3, FASTAXIS=1, SLOWAXIS=2, SUBSTRT1=1, SUBSTRT2=1)
ACROSS = told(2, 0, 4, 0, 1, 1, 4, 3, FASTAXIS=2, SLOWAXIS=-1, SUBSTRT1=2048, SUBSTRT2=1)


def test_stripes_of_the_header(make_uncal):
    meta = open_uncal(make_uncal(shape=(2, 3, 6, 8), **PICKED)).meta
    assert meta.stripes == Stripes(1, 20, 2, 1, 1, 1)
    assert (meta.ny, meta.nx, meta.nints) == (6, 8, 2)
    # all zero says nothing; nor does it matter where reading begins
    assert open_uncal(make_uncal(**told(*[0] * 8))).meta.stripes is None
    assert open_uncal(make_uncal(SLOWAXIS=-2, SUBSTRT2=2048, **PICKED)).meta.ystart == 2048


@pytest.mark.parametrize(("keywords", "shape"), [(ALONG, (6, 2, 6, 5)), (ACROSS, (6, 2, 5, 6))])
def test_superstripes_lie_side_by_side(make_uncal, keywords, shape):
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 65536, shape).astype(np.uint16)
    path = make_uncal(counts=counts, **keywords)
    zero = rng.integers(0, 65536, (6, *shape[2:])).astype(np.uint16)
    fits.append(path, zero, fits.Header({"EXTNAME": "ZEROFRAME"}))
    uncal = open_uncal(path)
    meta, axis = uncal.meta, 2 if keywords is ALONG else 3
    size = [shape[2], shape[3]]
    size[axis - 2] *= 3
    assert [meta.ny, meta.nx] == size
    assert (meta.nints, meta.nints_total, meta.int_start, meta.int_end) == (2, 2, 1, 2)
    expected = np.stack([np.concatenate(counts[3 * i : 3 * i + 3], axis=axis - 1) for i in range(2)])
    assert np.array_equal(uncal.read_all(), expected)
    firsts = np.stack([np.concatenate(zero[3 * i : 3 * i + 3], axis=axis - 2) for i in range(2)])
    for source, wanted in ((uncal.source, expected), (uncal.zero_source, firsts[:, None])):
        with source() as file:
            out = np.empty((4, 1, wanted.shape[1], 3), np.float32)
            file.read(out, 1, 2, 1)
        assert np.array_equal(out, wanted[1:, :, 1:5, 2:5].transpose(2, 0, 1, 3))


def test_times_go_together(make_uncal):
    uncal = open_uncal(make_uncal(shape=(6, 2, 6, 5), **ALONG))
    stored = uncal.stored_times
    whole = uncal.int_times
    assert whole["integration_number"].tolist() == [1, 2]
    for scale in ("MJD_UTC", "BJD_TDB"):
        begin, end = stored[f"int_start_{scale}"][[0, 3]], stored[f"int_end_{scale}"][[2, 5]]
        assert np.array_equal(whole[f"int_start_{scale}"], begin)
        assert np.array_equal(whole[f"int_end_{scale}"], end)
        assert np.allclose(whole[f"int_mid_{scale}"], (begin + end) / 2, rtol=0, atol=1e-9)
    tables = [fits.BinTableHDU.fromstring(content) for content in uncal.time_tables()]
    assert [table.name for table in tables] == ["INT_TIMES", "INT_TIMES_STRIPE"]
    assert all(len(content) % 2880 == 0 for content in uncal.time_tables())
    assert np.array_equal(tables[0].data["int_mid_MJD_UTC"], whole["int_mid_MJD_UTC"])
    stripes = tables[1].data
    assert stripes["integration_number"].tolist() == [1, 1, 1, 2, 2, 2]
    assert stripes["stripe_number"].tolist() == [1, 2, 3] * 2
    for name in stored.dtype.names[1:]:
        assert np.array_equal(stripes[name], stored[name])


def test_a_segment_of_superstripes(make_uncal):
    name = "jw01234002001_04102_00001-seg002_nrcalong_uncal.fits"
    segment = {"NINTS": 12, "INTSTART": 7, "INTEND": 12, "EXSEGNUM": 2, "EXSEGTOT": 2}
    meta = open_uncal(make_uncal(name, (6, 2, 6, 5), **ALONG, **segment)).meta
    assert (meta.nints, meta.nints_total, meta.int_start, meta.int_end) == (2, 4, 3, 4)


def test_products_tell_of_whole_integrations(make_uncal):
    meta = open_uncal(make_uncal(shape=(6, 2, 6, 5), **ALONG)).meta
    cards = superstripes.cards(meta)
    assert (cards["NINTS"], cards["INTSTART"], cards["INTEND"]) == (2, 1, 2)
    assert (cards["SUBSIZE1"], cards["SUBSIZE2"]) == (5, 18)
    assert all(cards[keyword] is None for keyword in superstripes.KEYWORDS)


@pytest.mark.parametrize(
    ("shape", "keywords", "words"),
    [
        ((2, 2, 7, 5), PICKED, "MSTR_RD2 is 2.*fill 9 lines, but a frame has 7"),
        ((1, 2, 6, 5), PICKED | {"MSTR_SK1": 2046}, "MSTR_RD2.*but the detector has 2048"),
        ((1, 2, 6, 5), told(1, 20, 2, 1, 1, 0, 0, 0), "read again within a frame"),
        ((5, 2, 6, 5), ALONG, "NINTS is 5, no multiple of the 3 superstripes"),
        ((6, 2, 12, 5), ALONG, "read again within a frame"),
        ((6, 2, 6, 5), ALONG | {"SSTR_STP": 40}, "SSTR_NST is 3, but so many superstripes do not cover"),
        ((6, 2, 6, 5), ALONG | {"MSTR_RD1": 2.5}, "MSTR_RD1 is 2.5; it must be a whole number"),
        (
            (1, 2, 6, 5),
            PICKED | {"INSTRUME": "MIRI", "DETECTOR": "MIRIMAGE", "EXP_TYPE": "MIR_IMAGE"},
            "mid-infrared detectors are not read in stripes",
        ),
    ],
)
def test_what_is_refused(make_uncal, shape, keywords, words):
    with pytest.raises(Unprocessable, match=words):
        open_uncal(make_uncal(shape=shape, **keywords))
