"""All six guider modes against products of jwst 3.0.0: one flight exposure, five drawn ones."""

import numpy as np
import pytest
from astropy.io import fits

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.guider.pipeline import REFERENCES, prepare_references, run_guider

pytestmark = pytest.mark.shared

FLIGHT = "jw01019001001_gs-acq1_2022117003102"
DRAWN = ["acq2", "track", "fineguide", "id-image", "id-stack"]


class Reference:
    """A reference file, all of it in memory; its flags have the standard values."""

    def __init__(self, path, reftype):
        self.reftype, self.name = reftype, path.name
        with fits.open(path) as hdus:
            self.header = dict(hdus[0].header)
            self._arrays = {h.name: h.data for h in hdus if isinstance(h, fits.ImageHDU)}

    def has(self, extname):
        return extname in self._arrays

    def array(self, extname):
        return self._arrays[extname]

    def dq(self, extname="DQ"):
        return self._arrays[extname]


def paths(shared, case):
    """The input, the product and the references of a case."""
    if case == "acq1":
        found = {r: shared / f"peer/fgs_crds/references/jwst/fgs/jwst_fgs_{r}_0002.fits" for r in REFERENCES}
        uncal = shared / f"real/fgs_guider/{FLIGHT}_uncal.fits"
        return uncal, shared / f"peer/fgs_truth/{FLIGHT}_cal.fits.gz", found
    stem = f"peer/fgs_modes/fgs_{case}_guider2/fgs_{case}_guider2"
    found = {r: shared / f"{stem}_{r}.fits.gz" for r in REFERENCES}
    return shared / f"{stem}_uncal.fits.gz", shared / f"{stem}_cal.fits.gz", found


def meta_of(hdus):
    card = hdus[0].header
    nints, ngroups, ny, nx = hdus["SCI"].shape
    return ExposureMeta(
        instrument=card["INSTRUME"], detector=card["DETECTOR"], exp_type=card["EXP_TYPE"],
        subarray=card["SUBARRAY"], xstart=card["SUBSTRT1"], ystart=card["SUBSTRT2"], nx=nx, ny=ny,
        fastaxis=card["FASTAXIS"], slowaxis=card["SLOWAXIS"], nints=nints, nints_total=card["NINTS"],
        ngroups=ngroups, group_time=card["TGROUP"],
    )  # fmt: skip


@pytest.mark.parametrize("case", ["acq1", *DRAWN])
def test_equals_the_product_bit_for_bit(shared, case):
    uncal, product, found = paths(shared, case)
    with fits.open(uncal) as hdus:
        meta = meta_of(hdus)
        raw = {r: Reference(path, r) for r, path in found.items()}
        dq = hdus["DQ"].data if "DQ" in hdus else None
        got = run_guider(hdus["SCI"].data, meta, prepare_references(raw, meta), dq=dq)
    with fits.open(product) as hdus:
        np.testing.assert_array_equal(got.sci, hdus["SCI"].data)
        np.testing.assert_array_equal(got.err, hdus["ERR"].data)
        np.testing.assert_array_equal(got.dq, hdus["DQ"].data)
        assert got.bunit == hdus["SCI"].header["BUNIT"]
        card = hdus[0].header
        states = [got.states[s].state for s in ("dq_init", "guider_cds", "flat_field")]
        assert states == [card["S_DQINIT"], card["S_GUICDS"], card["S_FLAT"]]
