"""Associations as inputs: members that do not go together."""

from __future__ import annotations

import json

import pytest
from astropy.io import fits

from upramp.simulate.observation import Observation
from upramp.simulate.visit import Visit
from upramp.stages.core.errors import Unprocessable
from upramp.store.association_file import open_association


@pytest.fixture
def members(tmp_path):
    """Calibrated images by name alone."""
    one = Observation(ny=32, nx=32, subarray="SUB32", ngroups=2, tframe=10.0)
    return [
        path.rename(path.with_name(path.name.replace("_rate", "_cal")))
        for path in Visit(one, dithers=3, stars=1).write_rates(tmp_path)
    ]


@pytest.fixture
def association(members, tmp_path):
    listed = [{"expname": path.name, "exptype": "science"} for path in members]
    path = tmp_path / "x_asn.json"
    path.write_text(json.dumps({"asn_type": "image3", "products": [{"name": "x", "members": listed}]}))
    return path


def test_alike(association, members):
    found = open_association(association)
    assert [file.path for file in found.science] == members and found.differing == ""


def test_members_of_another_unit_are_refused(association, members):
    fits.setval(members[1], "BUNIT", value="MJy/sr", extname="SCI")
    with pytest.raises(
        Unprocessable, match=r"not of one unit .*00001\S+ in DN/s, \S+00002\S+ in MJy/sr; cal"
    ):
        open_association(association)


def test_what_tells_no_unit_is_taken_as_it_is(association, members):
    fits.delval(members[1], "BUNIT", extname="SCI")
    assert len(open_association(association).science) == 3


def test_other_optics_are_told(association, members):
    fits.setval(members[2], "FILTER", value="F356W")
    assert open_association(association).differing == "FILTER F444W, F356W"


def test_members_that_do_not_tell_where_they_point_are_refused(association, members):
    fits.delval(members[1], "V2_REF", extname="SCI")
    with pytest.raises(Unprocessable, match=r"00002\S+ lacks V2_REF, which tell where it points; calibrate"):
        open_association(association)
