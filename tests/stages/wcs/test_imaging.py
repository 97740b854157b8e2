"""The WCS of images: subarrays, filters, bounding boxes."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured
from upramp.stages.wcs.imaging import filter_offset, imaging_wcs

ROWS = [
    {"filter": "F444W", "pupil": "CLEAR", "column_offset": 0.25, "row_offset": -0.5},
    {"filter": "F444W", "pupil": "F470N", "column_offset": -1.9, "row_offset": 2.1},
    {"filter": "F356W", "pupil": "CLEAR", "column_offset": 1.0, "row_offset": 2.0},
    {"filter": "F356W", "pupil": "CLEAR", "column_offset": 3.0, "row_offset": 4.0},
]


def test_offset_of_a_filter(make_facts):
    assert filter_offset(make_facts(), ROWS) == (0.25, -0.5)
    assert filter_offset(make_facts(pupil="F470N"), ROWS) == (-1.9, 2.1)
    assert filter_offset(make_facts(filter="F480M"), ROWS) is None


def test_a_filter_with_two_rows_has_no_offset(make_facts):
    assert filter_offset(make_facts(filter="F356W"), ROWS) is None


def test_the_imager_of_miri_has_no_pupils(make_facts):
    rows = [{"filter": "F770W", "pupil": "N/A", "column_offset": 0.1, "row_offset": 0.2}]
    assert filter_offset(make_facts(instrument="MIRI", filter="F770W", pupil=""), rows) == (0.1, 0.2)


def test_a_subarray_lies_on_the_full_frame(make_facts, distortion):
    trees = {"distortion": {"model": distortion}}
    full = imaging_wcs(make_facts(), trees)
    part = imaging_wcs(make_facts(xstart=101, ystart=1, nx=64, ny=32), trees)
    x, y = np.array([0.0, 10.0, 63.0]), np.array([31.0, 7.0, 0.0])
    np.testing.assert_array_equal(part(x, y), full(x + 100, y))
    assert part.bounding_box.bounding_box(order="F") == ((-0.5, 63.5), (-0.5, 31.5))


def test_the_filter_offset_is_added_to_pixels(make_facts, distortion):
    bare = imaging_wcs(make_facts(), {"distortion": {"model": distortion}})
    trees = {"distortion": {"model": distortion}, "filteroffset": {"filters": ROWS}}
    moved = imaging_wcs(make_facts(), trees)
    np.testing.assert_array_equal(moved(100.0, 200.0), bare(100.25, 199.5))


def test_back_again(make_facts, distortion):
    wcs = imaging_wcs(make_facts(xstart=33, ystart=65, nx=512, ny=256), {"distortion": {"model": distortion}})
    x, y = np.meshgrid([0.0, 200.0, 511.0], [0.0, 100.0, 255.0])
    np.testing.assert_allclose(wcs.backward_transform(*wcs(x, y)), (x, y), atol=0.01)


def test_a_distortion_may_know_where_it_holds(make_facts, distortion):
    own = distortion.copy()
    own.bounding_box = ((20.0, 1800.0), (10.0, 1900.0))  # y first
    trees = {"distortion": {"model": own}}
    box = imaging_wcs(make_facts(), trees).bounding_box.bounding_box(order="F")
    assert box == ((10.0, 1900.0), (20.0, 1800.0))
    sub = imaging_wcs(make_facts(xstart=2, nx=64, ny=32), trees)
    assert sub.bounding_box.bounding_box(order="F") == ((-0.5, 63.5), (-0.5, 31.5))


def test_references_stay_as_they_are(make_facts, distortion):
    imaging_wcs(make_facts(), {"distortion": {"model": distortion}})
    with pytest.raises(NotImplementedError):
        _ = distortion.bounding_box
    assert distortion.name is None


def test_a_reference_without_its_model_is_refused(make_facts, distortion):
    with pytest.raises(Misconfigured, match=r"distortion.*'model'"):
        imaging_wcs(make_facts(), {"distortion": {}})
    with pytest.raises(Misconfigured, match=r"filteroffset.*'filters'"):
        imaging_wcs(make_facts(), {"distortion": {"model": distortion}, "filteroffset": {}})
