"""Files: layout, values, and that others open them."""

import io

import asdf
import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate import uncal
from upramp.simulate.observation import Observation


def some_counts(o):
    return np.random.default_rng(0).integers(0, 65536, (o.nints, o.ngroups, o.ny, o.nx)).astype(np.uint16)


def test_extensions_counts_and_keywords(tmp_path):
    o = Observation(ny=8, nx=12, ngroups=3, nints=2, readpatt="SHALLOW2", ra=12.5)
    counts = some_counts(o)
    (path,) = uncal.write_exposure(tmp_path, counts, o)
    assert path.name == o.file_name()
    with fits.open(path) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "INT_TIMES", "ASDF"]
        np.testing.assert_array_equal(hdus["SCI"].data, counts)
        p = hdus[0].header
        assert (p["NINTS"], p["NGROUPS"], p["NFRAMES"], p["GROUPGAP"], p["FRMDIVSR"]) == (2, 3, 2, 3, 2)
        assert (p["EXSEGNUM"], p["EXSEGTOT"], p["INTSTART"], p["INTEND"]) == (1, 1, 1, 2)
        assert (p["FASTAXIS"], p["SLOWAXIS"], p["SUBARRAY"]) == (-1, 2, "FULL")
        assert p["FILENAME"] == path.name
        assert hdus["SCI"].header["RA_REF"] == 12.5
        assert len(hdus["INT_TIMES"].data) == 2
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        assert (hdus["SCI"].header["BITPIX"], hdus["SCI"].header["BZERO"]) == (16, 32768)


def test_metadata_tree_equals_the_keywords():
    o = Observation(detector="NRS2", ny=8, nx=8)
    hdus = uncal.build(some_counts(o), o)
    with asdf.open(io.BytesIO(hdus["ASDF"].data["ASDF_METADATA"].tobytes())) as file:
        meta = file.tree["meta"]
    for rows, header in ((uncal.PRIMARY, hdus[0].header), (uncal.SCI, hdus["SCI"].header)):
        for keyword, path in rows:
            node = meta
            for name in path.split("."):
                node = node.get(name) if node is not None else None
            assert node == header.get(keyword), keyword


def test_segments_cover_the_exposure(tmp_path):
    o = Observation(ny=8, nx=8, nints=7, ngroups=2, tso=True)
    counts, zero = some_counts(o), np.zeros((7, 8, 8), np.uint16)
    paths = uncal.write_exposure(tmp_path, counts, o, segments=3, zeroframe=zero)
    ends, pieces = 0, []
    for k, path in enumerate(paths):
        with fits.open(path) as hdus:
            p = hdus[0].header
            assert (p["EXSEGNUM"], p["EXSEGTOT"], p["NINTS"]) == (k + 1, 3, 7)
            assert p["INTSTART"] == ends + 1
            ends = p["INTEND"]
            pieces.append(hdus["SCI"].data.copy())
            assert len(pieces[-1]) == ends - p["INTSTART"] + 1 == len(hdus["ZEROFRAME"].data)
            assert p["ZEROFRAM"]
            assert len(hdus["INT_TIMES"].data) == 7
    assert ends == 7
    np.testing.assert_array_equal(np.concatenate(pieces), counts)


def test_what_does_not_fit_is_refused(tmp_path):
    o = Observation(ny=8, nx=8, nints=2, ngroups=2)
    counts = some_counts(o)
    with pytest.raises(ValueError, match="uint16"):
        uncal.build(counts.astype(np.int32), o)
    with pytest.raises(ValueError, match="uint16"):
        uncal.build(counts[:, :1], o)
    with pytest.raises(ValueError, match="segments"):
        uncal.write_exposure(tmp_path, counts, o, segments=3)
    with pytest.raises(ValueError, match=r"no keyword is known for instrument\.colour"):
        uncal.build(counts, Observation(ny=8, nx=8, nints=2, ngroups=2, extra={"instrument.colour": "red"}))


@pytest.mark.parametrize("detector", ["NRCALONG", "NIS", "NRS1", "GUIDER1"])
def test_opens_as_a_level_1b_model(tmp_path, detector):
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    o = Observation(detector=detector, ny=8, nx=8, nints=2)
    counts = some_counts(o)
    (path,) = uncal.write_exposure(tmp_path, counts, o, zeroframe=counts[:, 0].copy())
    with datamodels.open(path, strict_validation=True) as model:
        assert type(model).__name__ == "Level1bModel"
        np.testing.assert_array_equal(model.data, counts)
        assert model.zeroframe.shape == (2, 8, 8)
        assert model.meta.instrument.detector == detector
        assert model.meta.observation.program_number == "01234"
        assert model.int_times["integration_number"].tolist() == [1, 2]
        model.validate()
