"""Read-out times and patterns against the observatory's published values."""

import pytest

from upramp.simulate.layout import LAYOUTS, frame_time
from upramp.simulate.observation import Observation


def test_frame_time_of_a_full_frame():
    assert frame_time(LAYOUTS["NRCALONG"], 2048, 2048, 4) == pytest.approx(10.73677, abs=1e-4)


def test_frame_time_follows_the_fast_axis():
    wide = frame_time(LAYOUTS["NRCA1"], 64, 2048, 1)
    tall = frame_time(LAYOUTS["NIS"], 2048, 64, 1)
    assert wide == tall == pytest.approx((2048 + 12) * 65e-5)


def test_frames_of_a_pattern():
    o = Observation(readpatt="DEEP8", ngroups=3, tframe=10.0)
    assert (o.pattern.nframes, o.pattern.groupgap) == (8, 12)
    assert o.frames_read == 3 * 8 + 2 * 12
    assert o.group_seconds == 200.0


def test_file_names():
    o = Observation(detector="NIS", program="01093", number=12, visit=1, group=3, activity="02", exposure=4)
    assert o.file_name() == "jw01093012001_03102_00004_nis_uncal.fits"
    assert o.file_name(2) == "jw01093012001_03102_00004-seg002_nis_uncal.fits"


def test_integration_times_do_not_overlap():
    o = Observation(nints=5, ngroups=3)
    times = o.int_times()
    assert times["integration_number"].tolist() == [1, 2, 3, 4, 5]
    assert (times["int_start_MJD_UTC"][1:] > times["int_end_MJD_UTC"][:-1]).all()
    assert times["int_end_MJD_UTC"][-1] == pytest.approx(o.end, abs=1e-9)


@pytest.mark.parametrize("wrong", [{"detector": "NRCA9"}, {"readpatt": "SLOW"}])
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ValueError, match="known are"):
        Observation(**wrong)
