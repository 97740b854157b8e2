"""Transforms through files and back, and WCS objects through products."""

from __future__ import annotations

import datetime
import io
import os

import asdf
import numpy as np
import pytest
from astropy.modeling.models import Identity, Mapping, Polynomial2D, Shift, Tabular1D

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.imaging import imaging_wcs
from upramp.store.asdf_tree import asdf_extension, read_tree
from upramp.store.transforms import MOST_INLINE, NotInline, Tagged, load, nodes, read_wcs

FACTS = WcsFacts("NIRCAM", "NRCALONG", "NRC_IMAGE", 64, 32, 86.0, -493.0, 80.0, -69.5, 30.0, va_scale=1.00002)


def model():
    x = Polynomial2D(2, c0_0=86.0, c1_0=0.063, c0_1=1e-4, c1_1=1 / 3 * 1e-7)
    y = Polynomial2D(2, c0_0=-493.0, c1_0=1e-4, c0_1=0.063, c2_0=1e-8)
    both = Mapping((0, 1, 0, 1)) | x & y
    both.inverse = Shift(1.0) & Identity(1)
    return both


@pytest.fixture
def wcs():
    return imaging_wcs(FACTS, {"distortion": {"model": model()}})


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "distortion.asdf"
    asdf.AsdfFile({"model": model(), "meta": {"reftype": "distortion"}}).write_to(path)
    return path


def document(extension: bytes) -> bytes:
    """The ASDF document in an extension."""
    return extension[extension.index(b"#ASDF") :]


def same(a, b):
    x, y = np.meshgrid(np.arange(-1.0, 64, 5), np.arange(-1.0, 32, 5))
    np.testing.assert_array_equal(a(x, y), b(x, y))
    ra, dec = a(x, y, with_bounding_box=False)
    np.testing.assert_array_equal(a.backward_transform(ra, dec), b.backward_transform(ra, dec))
    assert a.available_frames == b.available_frames
    assert a.bounding_box.bounding_box() == b.bounding_box.bounding_box()
    assert [s.transform and s.transform.name for s in a.pipeline] == [
        s.transform and s.transform.name for s in b.pipeline
    ]


def test_a_wcs_goes_through_a_product_bit_for_bit(wcs):
    extension = asdf_extension({"meta": {"filename": "x.fits", "wcs": wcs, "day": datetime.date(2024, 3, 1)}})
    assert len(extension) % 2880 == 0
    same(read_wcs(document(extension), "x.fits"), wcs)
    plain = read_tree(document(extension))["meta"]
    assert plain == {"filename": "x.fits", "day": datetime.date(2024, 3, 1), "wcs": None}


def test_asdf_writes_the_same(wcs):
    out = io.BytesIO()
    asdf.AsdfFile({"meta": {"wcs": wcs}}).write_to(out)
    same(read_wcs(out.getvalue(), "x.fits"), wcs)


def test_our_documents_are_valid(wcs):
    with asdf.open(io.BytesIO(document(asdf_extension({"meta": {"wcs": wcs}})))) as file:
        file.validate()


def test_a_tree_without_a_wcs_has_none(wcs):
    assert read_wcs(document(asdf_extension({"meta": {"filename": "x.fits"}})), "x.fits") is None


def test_plain_values_need_no_converters():
    tree = {"a": [1, 2.5, "x", None, True, np.float64(3.5)], 1: {"b": datetime.datetime(2024, 3, 1)}}
    assert nodes(tree) == {
        "a": [1, 2.5, "x", None, True, 3.5],
        "1": {"b": datetime.datetime(2024, 3, 1)},
    }


def test_arrays_stand_among_the_nodes():
    node = nodes(np.array([[1, 2], [3, 4]], np.int16))
    assert isinstance(node, Tagged) and node.tag.endswith("core/ndarray-1.1.0")
    assert node.value == {"data": [[1, 2], [3, 4]], "datatype": "int16", "shape": [2, 2]}
    assert nodes(np.array([True])).value["datatype"] == "bool8"
    odd = np.array([np.nan, np.inf, 1 / 3])
    with asdf.open(io.BytesIO(document(asdf_extension({"meta": {"odd": odd}}))), lazy_load=False) as file:
        np.testing.assert_array_equal(np.array(file["meta"]["odd"]), odd)


def test_long_arrays_become_blocks():
    table = Tabular1D(np.arange(MOST_INLINE + 1.0), np.arange(MOST_INLINE + 1.0) ** 2)
    with pytest.raises(NotInline):
        nodes(table)
    content = document(asdf_extension({"meta": {"wcs": table}}))
    assert b"\xd3BLK" in content
    assert read_wcs(content, "x.fits")(3.5) == table(3.5)


def test_what_nothing_can_write_is_refused():
    with pytest.raises(NotInline):
        nodes({"a": object()})


def test_references_are_read_once(reference):
    first = load(reference, "distortion")
    assert first.name == "distortion.asdf"
    assert first.tree["model"](1.0, 2.0) == model()(1.0, 2.0)
    assert load(reference, "distortion") is first


def test_a_file_that_changed_is_read_again(reference):
    first = load(reference, "distortion")
    asdf.AsdfFile({"model": Shift(1.0) & Shift(2.0)}).write_to(reference)
    os.utime(reference, ns=(1, 1))
    again = load(reference, "distortion")
    assert again is not first and again.tree["model"](0.0, 0.0) == (1.0, 2.0)


@pytest.mark.parametrize("content", [None, b"", b"#ASDF 1.0.0\n%YAML 1.1\n--- [\n...\n", b"SIMPLE  ="])
def test_a_damaged_reference_is_told(tmp_path, content):
    path = tmp_path / "broken.asdf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"broken\.asdf.*distortion"):
        load(path, "distortion")


def test_a_damaged_product_is_told():
    with pytest.raises(Unprocessable, match=r"x_cal\.fits"):
        read_wcs(b"#ASDF 1.0.0\n%YAML 1.1\n--- [\n...\n", "x_cal.fits")
