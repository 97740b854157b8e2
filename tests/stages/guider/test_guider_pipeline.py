"""The guider pipeline as a whole: flags, flats, skipping, and what makes no product."""

import math

import numpy as np
import pytest

from upramp.stages.core.dq import DEAD, DO_NOT_USE, HOT, NO_FLAT_FIELD, OTHER_BAD_PIXEL
from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.guider import dq_init, flat_field, guider_cds
from upramp.stages.guider.pipeline import EXP_TYPES, REFERENCES, STEPS, prepare_references, run_guider

NY, NX = 2, 4


class Reference:
    """A reference file in memory."""

    def __init__(self, reftype, sci=None, err=None, dq=None, **header):
        self.reftype, self.name, self.header = reftype, f"{reftype}.fits", header
        self._arrays = {k: np.asarray(v, ">f4") for k, v in (("SCI", sci), ("ERR", err)) if v is not None}
        self._dq = dq

    def has(self, extname):
        return extname in self._arrays

    def array(self, extname):
        return self._arrays[extname]

    def dq(self, extname="DQ"):
        shape = self._arrays["SCI"].shape if "SCI" in self._arrays else None
        return np.zeros(shape, ">u4") if self._dq is None else np.asarray(self._dq, ">u4")


def plane(value, shape=(NY, NX)):
    return np.full(shape, value, float)


def exposure(exp_type="FGS_ACQ1", nints=2, ngroups=2, **more):
    facts = {
        "instrument": "FGS", "detector": "GUIDER1", "exp_type": exp_type, "subarray": "128X128",
        "xstart": 5, "ystart": 3, "nx": NX, "ny": NY, "fastaxis": -1, "slowaxis": 2,
        "nints": nints, "nints_total": nints, "ngroups": ngroups, "group_time": 0.5,
    }  # fmt: skip
    return ExposureMeta(**facts | more)


def references(**replaced):
    usual = {
        "mask": Reference("mask", dq=plane(0)),
        "gain": Reference("gain", plane(2)),
        "readnoise": Reference("readnoise", plane(3)),
        "flat": Reference("flat", plane(2), plane(0.5), plane(0)),
    }
    return usual | replaced


def ramps(meta, step=40):
    """Every group ``step`` above the one before."""
    counts = 1000 + step * np.arange(meta.ngroups)
    return np.broadcast_to(counts[None, :, None, None], (meta.nints, meta.ngroups, meta.ny, meta.nx)).astype(
        np.uint16
    )


def run(meta=None, refs=None, params=None, dq=None, data=None):
    meta = meta or exposure()
    ready = prepare_references(refs or references(), meta, params)
    return run_guider(ramps(meta) if data is None else data, meta, ready, params, dq)


def test_asks_for_four_references_and_three_keywords():
    assert REFERENCES == ("mask", "gain", "readnoise", "flat")
    assert [(s.name, s.keyword) for s in STEPS] == [
        ("dq_init", "S_DQINIT"), ("guider_cds", "S_GUICDS"), ("flat_field", "S_FLAT"),
    ]  # fmt: skip


def test_by_hand():
    # 80 DN/s with variance 40 + 72 over a flat of 2: 40 DN/s; the flat adds (40 * 0.5 / 2)^2 = 100
    got = run()
    assert got.sci.dtype == got.err.dtype == np.float32
    assert got.dq.dtype == np.uint32
    assert got.sci.shape == got.err.shape == (2, NY, NX)
    assert got.dq.shape == (NY, NX)
    np.testing.assert_array_equal(got.sci, 40)
    np.testing.assert_allclose(got.err, math.sqrt(112 + 100), rtol=1e-7)
    assert got.bunit == "DN/s"
    assert {s.state for s in got.states.values()} == {"COMPLETE"}
    assert list(got.states) == ["dq_init", "guider_cds", "flat_field"]


@pytest.mark.parametrize("mode", sorted(EXP_TYPES))
def test_every_mode_runs(mode):
    meta = exposure(mode, nints=3, ngroups=8)
    got = run(meta)
    per_integration = 1 if mode.startswith("FGS_ID") else 3
    assert got.sci.shape == (per_integration, NY, NX)
    np.testing.assert_array_equal(got.sci, 4 * 40 if mode == "FGS_FINEGUIDE" else 40)


def test_the_input_is_left_as_it_is():
    meta, flags = exposure(), np.full((NY, NX), HOT, np.uint32)
    data = ramps(meta).astype(np.float32)
    before = data.copy()
    run(meta, references(mask=Reference("mask", dq=plane(DEAD))), dq=flags, data=data)
    np.testing.assert_array_equal(data, before)
    np.testing.assert_array_equal(flags, HOT)


def test_flags_of_input_mask_and_flat_come_together():
    mask, own, of_flat = (np.zeros((NY, NX), np.uint32) for _ in range(3))
    mask[0, 0], own[0, 0], own[0, 1], of_flat[0, 0] = DEAD | DO_NOT_USE, HOT, 1 << 31, OTHER_BAD_PIXEL
    refs = references(mask=Reference("mask", dq=mask), flat=Reference("flat", plane(2), plane(0), of_flat))
    got = run(refs=refs, dq=own)
    assert got.dq[0, 0] == DEAD | DO_NOT_USE | HOT | OTHER_BAD_PIXEL
    assert got.dq[0, 1] == 1 << 31
    assert not got.dq[1].any()
    np.testing.assert_array_equal(got.sci, 40)  # flags of the mask leave the pixels alone
    assert got.counters["dq_init.flagged_pixels"] == 1


@pytest.mark.parametrize(
    ("value", "flag", "sci", "dq"),
    [
        (math.nan, 0, 80, NO_FLAT_FIELD | DO_NOT_USE),
        (0, 0, 80, NO_FLAT_FIELD | DO_NOT_USE),
        (2, NO_FLAT_FIELD, 80, NO_FLAT_FIELD | DO_NOT_USE),
        (2, NO_FLAT_FIELD | DO_NOT_USE, 80, NO_FLAT_FIELD | DO_NOT_USE),
        (2, DO_NOT_USE, 80, DO_NOT_USE),
        (2, HOT, 40, HOT),
        (-1, 0, -80, 0),
    ],
)
def test_unusable_flats_count_as_one(value, flag, sci, dq):
    flat, flags = plane(2), np.zeros((NY, NX), np.uint32)
    flat[1, 2], flags[1, 2] = value, flag
    got = run(refs=references(flat=Reference("flat", flat, plane(0), flags)))
    assert got.sci[:, 1, 2].tolist() == [sci, sci]
    assert got.dq[1, 2] == dq
    assert got.counters["flat_field.unflattened_pixels"] == bool(dq & DO_NOT_USE)
    np.testing.assert_array_equal(np.delete(got.sci[0], 6), 40)


def test_a_sample_unknown_in_one_is_unknown_in_both_and_flags_do_not_tell():
    gain, ferr = plane(2), plane(0.5)
    gain[0, 1] = ferr[1, 1] = math.nan
    refs = references(gain=Reference("gain", gain), flat=Reference("flat", plane(2), ferr, plane(0)))
    got = run(refs=refs)
    lost = np.zeros((NY, NX), bool)
    lost[0, 1] = lost[1, 1] = True
    np.testing.assert_array_equal(np.isnan(got.sci), [lost, lost])
    np.testing.assert_array_equal(np.isnan(got.err), [lost, lost])
    assert not got.dq.any()
    assert got.counters["guider_cds.nan_samples"] == 2


def test_a_flat_without_errors_adds_none():
    got = run(refs=references(flat=Reference("flat", plane(2))))
    np.testing.assert_allclose(got.err, math.sqrt(112), rtol=1e-7)


def test_inverse_multiplies_and_leaves_errors():
    got = run(params={"flat_field": flat_field.Params(inverse=True)})
    np.testing.assert_array_equal(got.sci, 160)
    np.testing.assert_allclose(got.err, math.sqrt(112), rtol=1e-7)


def test_larger_references_are_cut_where_the_exposure_lies():
    rows, columns = np.mgrid[:10, :12]
    value = (100 * rows + columns).astype(float)  # row 2, column 4 lies under the first pixel
    refs = references(flat=Reference("flat", value + 1, plane(0, value.shape), value.astype(np.uint32) << 9))
    got = run(refs=refs)
    np.testing.assert_allclose(got.sci[0], 80 / (value[2:4, 4:8] + 1), rtol=1e-6)
    np.testing.assert_array_equal(got.dq, value[2:4, 4:8].astype(np.uint32) << 9)


def test_a_reference_that_does_not_cover_is_a_configuration_error():
    with pytest.raises(Misconfigured, match="does not cover"):
        run(refs=references(flat=Reference("flat", plane(1, (3, 3)))))


@pytest.mark.parametrize(("reftype", "step"), [("mask", "dq_init"), ("flat", "flat_field")])
def test_without_mask_or_flat_that_step_is_skipped_with_the_reason(reftype, step):
    got = run(refs=references(**{reftype: None}))
    assert (got.states[step].state, got.states[step].reason) == ("SKIPPED", f"no {reftype} reference")
    np.testing.assert_array_equal(got.sci, 80 if reftype == "flat" else 40)


@pytest.mark.parametrize("reftype", ["gain", "readnoise"])
def test_without_gain_or_readnoise_there_is_no_rate(reftype):
    with pytest.raises(Misconfigured, match=f"no {reftype} reference"):
        run(refs=references(**{reftype: None}))


def test_steps_can_be_skipped_but_for_guider_cds():
    refs = references(mask=Reference("mask", dq=plane(DEAD)))
    got = run(
        refs=refs, params={"dq_init": dq_init.Params(skip=True), "flat_field": flat_field.Params(skip=True)}
    )
    assert not got.dq.any()
    np.testing.assert_array_equal(got.sci, 80)
    assert got.states["flat_field"].reason == "skip = true"
    with pytest.raises(Misconfigured, match="guider_cds was skipped"):
        run(params={"guider_cds": guider_cds.Params(skip=True)})


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan, math.inf])
def test_no_group_time_is_refused(time):
    with pytest.raises(Unprocessable, match="TGROUP"):
        run(exposure(group_time=time))


def test_shapes_that_contradict_the_header_are_refused():
    meta = exposure()
    with pytest.raises(Unprocessable, match="header promises"):
        run(meta, data=ramps(exposure(ngroups=3)))
    with pytest.raises(Unprocessable, match="DQ has shape"):
        run(meta, dq=np.zeros((meta.nints, NY, NX), np.uint32))
