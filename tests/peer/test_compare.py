"""The comparison itself: it must see what differs, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from peerkit.cases import CASES
from peerkit.compare import compare_products, explain, header_differences
from peerkit.scenes import SCENES


def write(path, **changes):
    planes = {
        "SCI": np.full((10, 10), 100, "f4"),
        "ERR": np.full((10, 10), 2, "f4"),
        "DQ": np.zeros((10, 10), "u4"),
        "VAR_RNOISE": np.full((10, 10), 4, "f4"),
    } | changes
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(a, name=n) for n, a in planes.items() if a is not None)]
    hdus[0].header["S_JUMP"] = "COMPLETE"
    hdus[1].header["BUNIT"] = "DN/s"
    fits.HDUList(hdus).writeto(path)
    return path


def with_pixel(value, base=100, dtype="f4"):
    plane = np.full((10, 10), base, dtype)
    plane[3, 4] = value
    return plane


@pytest.fixture
def pair(tmp_path):
    def make(ours, peers=None):
        return write(tmp_path / "ours.fits", **ours), write(tmp_path / "peers.fits", **(peers or {}))

    return make


def test_equal_products_agree(pair):
    both = pair({})
    assert set(compare_products(*both).values()) == {1.0}
    assert explain(*both) == "nothing differs"
    assert header_differences(*both) == {}


@pytest.mark.parametrize(
    ("name", "ours", "peers", "share"),
    [
        ("SCI", with_pixel(100.019), None, 1.0),
        ("SCI", with_pixel(100.021), None, 0.99),
        ("SCI", with_pixel(np.nan), None, 0.99),
        ("SCI", with_pixel(np.nan), with_pixel(np.nan), 1.0),
        ("SCI", None, with_pixel(np.nan), 0.0),
        ("ERR", with_pixel(2.0019, 2), None, 1.0),
        ("ERR", with_pixel(2.0021, 2), None, 0.99),
        ("ERR", with_pixel(np.inf, 2), with_pixel(np.inf, 2), 1.0),
        ("ERR", with_pixel(1, 2), with_pixel(np.inf, 2), 0.99),
        ("VAR_RNOISE", with_pixel(0, 4), with_pixel(0, 4), 1.0),
        ("VAR_RNOISE", with_pixel(1e-30, 4), with_pixel(0, 4), 0.99),
        ("DQ", with_pixel(2**31, 0, "u4"), None, 0.99),
        ("DQ", np.zeros((10, 10), "i4"), None, 0.0),
        ("SCI", np.zeros((1, 10, 10), "f4"), None, 0.0),
    ],
)
def test_one_pixel_counts(pair, name, ours, peers, share):
    both = pair({name: ours}, None if peers is None else {name: peers})
    shares = compare_products(*both)
    assert shares.pop(name) == share
    assert set(shares.values()) <= {1.0}
    assert (name in explain(*both)) == (share < 1)


def test_a_wide_error_of_the_peer_gives_room_to_sci_alone(pair):
    both = pair({"SCI": with_pixel(101)}, {"ERR": with_pixel(200, 2)})
    assert compare_products(*both) == {"SCI": 1.0, "ERR": 0.99, "DQ": 1.0, "VAR_RNOISE": 1.0}


def test_flags_are_told_by_bit(pair):
    assert "2^2: 1" in explain(*pair({"DQ": with_pixel(4, 0, "u4")}))


def test_states_and_units_count(pair):
    ours, peers = pair({})
    fits.setval(ours, "S_JUMP", value="SKIPPED")
    fits.setval(ours, "BUNIT", value="DN", ext=1)
    assert header_differences(ours, peers) == {"S_JUMP": ("SKIPPED", "COMPLETE"), "SCI BUNIT": ("DN", "DN/s")}


def test_cases_have_names_of_their_own_and_use_every_scene():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.scene for case in CASES} == set(SCENES)


def test_assignments_are_the_words_of_set():
    case = next(c for c in CASES if c.name == "grow_not")
    assert case.assignments == ["saturation.n_pix_grow_sat=0"]
