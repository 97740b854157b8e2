"""Which lines of the detector exposures of stripes hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import window
from upramp.stages.core.stripes import DETECTOR, Stripes, edges, lines, pieces, start, together

DHS = Stripes(1, 1549, 40, 82, 1, 1)
SOSS = Stripes(4, 0, 204, 0, 1, 1, 204, 10)


def exposure(stripes, fastaxis=-1, slowaxis=2, nx=2048, ny=164, **more):
    """Frames of ``nx`` x ``ny`` pixels, superstripes not yet side by side."""
    size = {"nx": nx * stripes.regions} if abs(slowaxis) == 1 else {"ny": ny * stripes.regions}
    facts = {"xstart": 1, "ystart": 1, "nx": nx, "ny": ny, **size, **more}
    facts |= {"nints": 1, "nints_total": 1, "ngroups": 2, "subarray": facts.get("subarray", "SUB")}
    return ExposureMeta(
        "NIRCAM", "NRCA1", "NRC_TSGRISM", fastaxis=fastaxis, slowaxis=slowaxis, stripes=stripes, **facts
    )


def spans(found):
    return [(p.at, p.line, p.length, p.reference) for p in found]


def test_reference_lines_between_stripes():
    """SUB164STRIPE4_DHS: the detector's first line four times, and forty lines after each."""
    stripes = [1550, 1672, 1794, 1916]
    wanted = [
        t for k, line in enumerate(stripes) for t in ((41 * k, 0, 1, True), (41 * k + 1, line, 40, False))
    ]
    assert spans(pieces(DHS, 0, 164)) == wanted


@pytest.mark.parametrize(
    ("stripes", "length", "wanted"),
    [
        (Stripes(2, 100, 40, 10, 0, 1), 82, [(0, 0, 2, True), (2, 102, 40, False), (42, 152, 40, False)]),
        (Stripes(0, 100, 40, 10, 1, 1), 80, [(0, 100, 40, False), (40, 150, 40, False)]),
        (
            Stripes(2, 100, 40, 10, 1, 0),
            84,
            [(0, 0, 2, True), (2, 102, 40, False), (42, 0, 2, True), (44, 102, 40, False)],
        ),
    ],
)
def test_other_ways_to_fill_a_frame(stripes, length, wanted):
    assert spans(pieces(stripes, 0, length)) == wanted


def test_superstripes_move_on():
    assert spans(pieces(SOSS, 0, 208, 3)) == [(0, 0, 4, True), (4, 4 + 3 * 204, 204, False)]
    bare = Stripes(0, 0, 0, 0, 0, 0, 8, 8)
    assert spans(pieces(bare, 168, 8, 2)) == [(0, 184, 8, False)]


@pytest.mark.parametrize(
    ("stripes", "first", "length", "words"),
    [
        (DHS, 0, 163, "fill 164 lines, but a frame has 163"),
        (Stripes(4, 0, 0, 0), 0, 164, "never fill"),
        (DHS, 100, 164, "1 to 2056|to 2056, but"),
        (Stripes(0, 0, 8, 0, 0, 0, 8, 300), -1, 8, "lines 0 to"),
    ],
)
def test_what_does_not_fit(stripes, first, length, words):
    with pytest.raises(ValueError, match=words):
        pieces(stripes, first, length)


def test_where_reading_starts():
    assert (start(DHS, 2, 1), start(DHS, 2, 5), start(DHS, -2, 2048), start(DHS, -2, 1)) == (0, 4, 0, 0)
    assert start(DHS, -2, 1880) == 168


@given(
    stripes=st.builds(
        Stripes,
        reads1=st.integers(0, 4),
        skips1=st.integers(0, 50),
        reads2=st.integers(1, 30),
        skips2=st.integers(0, 20),
        repeat=st.integers(0, 1),
        interleave=st.integers(0, 1),
        step=st.integers(0, 40),
        count=st.integers(0, 3),
    ),
    times=st.integers(1, 4),
)
def test_both_directions_hold_the_same_lines(stripes, times):
    """A detector that is read backwards has them from its other end, and the other way round."""
    heads = times if stripes.repeat else 1
    length = heads * stripes.reads1 + times * stripes.reads2
    up = lines(exposure(stripes, ny=length))
    down = lines(exposure(stripes, slowaxis=-2, ny=length, ystart=2048))
    n = stripes.regions
    turned = down.line.reshape(n, -1)[:, ::-1].ravel()
    assert np.array_equal(up.line, DETECTOR - 1 - turned)
    assert np.array_equal(up.reference, down.reference.reshape(n, -1)[:, ::-1].ravel())
    assert np.array_equal(up.region, np.repeat(np.arange(n), length))
    assert up.reference.sum() == n * heads * stripes.reads1


def test_superstripes_put_together():
    meta = exposure(SOSS, -2, -1, nx=208, ny=256, xstart=2048, ystart=1793, subarray="SUB204STRIPE_SOSS")
    whole, to, of = together(meta)
    assert (whole.nx, whole.ny, whole.xstart, whole.ystart, whole.stripes) == (2048, 256, 1, 1793, None)
    assert sorted(to) == list(range(4, 2044))
    assert np.array_equal(lines(meta).line[of], to)
    # other subarrays have what was read, and no more
    whole, to, _ = together(replace(meta, subarray="SUB"))
    assert (whole.nx, whole.xstart, to.min(), to.max()) == (2040, 5, 0, 2039)
    bare = exposure(Stripes(0, 0, 0, 0, 0, 0, 8, 8), 1, -2, nx=64, ny=8, xstart=1851, ystart=1880)
    whole, to, of = together(bare)
    assert (whole.nx, whole.ny, whole.xstart, whole.ystart) == (64, 64, 1851, 1817)
    assert to.tolist() == [56 - 8 * k + j for k in range(8) for j in range(8)]
    assert of.tolist() == list(range(64))


def test_edges():
    assert [e.tolist() for e in edges(replace(exposure(DHS), stripes=None))] == [[0, 164], [0, 2048]]
    assert [e.tolist() for e in edges(exposure(DHS))] == [[0, 164], [0, 2048]]
    meta = exposure(replace(SOSS, count=2), -2, -1, nx=208, ny=256)
    assert [e.tolist() for e in edges(meta)] == [[0, 256], [0, 208, 416]]
    assert edges(exposure(replace(SOSS, count=2), ny=208))[0].tolist() == [0, 208, 416]


class Reference:
    """A reference whose pixels tell where they lie."""

    reftype, name = "mask", "mask.fits"

    def __init__(self, **header):
        self.header = header


@pytest.mark.parametrize("slowaxis", [1, -1, 2, -2])
def test_references_are_cut_line_by_line(slowaxis):
    across = abs(slowaxis) == 1
    picked = Stripes(2, 30, 5, 3, 1, 1)
    size = {"nx": 14, "ny": 20} if across else {"nx": 20, "ny": 14}
    origin = {"xstart": 1, "ystart": 11} if across else {"xstart": 11, "ystart": 1}
    meta = exposure(picked, 2 if across else 1, slowaxis, **size, **origin)
    y, x = np.indices((DETECTOR, DETECTOR), np.int32)
    cut = window(Reference(), meta, y.shape)
    line = lines(meta).line
    ys, xs = (np.arange(10, 30), line) if across else (line, np.arange(10, 30))
    assert np.array_equal(y[cut], np.broadcast_to(ys[:, None], (len(ys), len(xs))))
    assert np.array_equal(x[cut], np.broadcast_to(xs, (len(ys), len(xs))))
    # of the exposure's own size it fits as it is
    assert window(Reference(), meta, (meta.ny, meta.nx)) == (slice(0, meta.ny), slice(0, meta.nx))
    with pytest.raises(Misconfigured, match="does not cover"):
        window(Reference(SUBSTRT1=3, SUBSTRT2=3), meta, (40, 40))
