"""Products: pixels in their places, headers and trees, and nothing visible that is not whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.store import naming, product_file
from upramp.store.fitsio import promised_size
from upramp.store.products import ProductWriter, clean_scratch, write_product
from upramp.store.scratch import Scratch
from upramp.store.uncal import Uncal, open_uncal

CARDS = {
    "CAL_VCS": "RELEASE",
    "CRDS_VER": "13.0.0",
    "CRDS_CTX": "jwst_0001.pmap",
    "R_DARK": "crds://jwst_nircam_dark_0001.fits",
    "R_IPC": "N/A",
    "S_JUMP": "COMPLETE",
    "S_IPC": "SKIPPED",
    "PRIMECRS": np.float32(0.5),
}
NAMES = ("sci", "err", "dq", "var_poisson", "var_rnoise")


def draw_outputs(uncal: Uncal, seed: int = 0) -> dict[str, np.ndarray]:
    """Whole arrays as the steps leave them, with NaN and the topmost flag among them."""
    rng, meta, outputs = np.random.default_rng(seed), uncal.meta, {}
    for kind, shape in (("rate", (meta.ny, meta.nx)), ("rateints", (meta.ny, meta.nints, meta.nx))):
        for name in NAMES:
            if name == "dq":
                outputs[f"{kind}.dq"] = rng.integers(0, 1 << 32, shape, dtype=np.uint32)
            else:
                values = rng.normal(size=shape).astype(np.float32)
                values.flat[0] = np.nan
                outputs[f"{kind}.{name}"] = values
    return outputs


def emit(
    writer: ProductWriter, outputs: dict[str, np.ndarray], rows: slice, columns: slice = slice(None)
) -> None:
    cut = {k: v[rows][..., columns] for k, v in outputs.items()}
    writer.emit(rows.start or 0, columns.start or 0, cut)


def visible(output: Path) -> list[str]:
    return sorted(str(p.relative_to(output)) for p in output.rglob("*"))


def assert_holds(path: Path, kind: str, outputs: dict[str, np.ndarray]) -> None:
    with fits.open(path, memmap=False) as hdus:
        hdus.verify("exception")
        for name in NAMES:
            expected = outputs[f"{kind}.{name}"]
            expected = expected if kind == "rate" else expected.transpose(1, 0, 2)
            np.testing.assert_array_equal(hdus[name.upper()].data, expected)


@pytest.fixture
def uncal(make_uncal) -> Uncal:
    return open_uncal(make_uncal())


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def test_products(uncal, output):
    outputs = draw_outputs(uncal)
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer:
        emit(writer, outputs, slice(4, 6))
        emit(writer, outputs, slice(0, 4), slice(3, 8))
        emit(writer, outputs, slice(0, 4), slice(0, 3))
        published = writer.finish(CARDS, {"RA_REF": 81.0, "CRPIX1": None}, checksum=True)
    assert visible(output) == [f"{uncal.segment_id}_rate.fits", f"{uncal.segment_id}_rateints.fits"]
    for product, kind in zip(published, ("rate", "rateints"), strict=True):
        assert product.kind == kind
        assert product.path.stat().st_size == product.bytes == promised_size(product.path)
        assert len(product.sha256) == 64
        assert_holds(product.path, kind, outputs)
    with fits.open(published[0].path) as rate, fits.open(published[1].path) as rateints:
        arrays = ["SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"]
        assert [h.name for h in rate] == ["PRIMARY", *arrays, "ASDF"]
        assert [h.name for h in rateints] == ["PRIMARY", *arrays[:3], "INT_TIMES", *arrays[3:], "ASDF"]
        assert (
            rateints["INT_TIMES"].data["int_mid_BJD_TDB"].tolist()
            == uncal.int_times["int_mid_BJD_TDB"].tolist()
        )
        assert (rate["SCI"].header["BUNIT"], rate["ERR"].header["BUNIT"]) == ("DN/s", "DN/s")
        assert rate["SCI"].header["RA_REF"] == 81.0
        assert "CRPIX1" not in rate["SCI"].header
        header = rate[0].header
        assert {k: header[k] for k in CARDS} == {**CARDS, "PRIMECRS": 0.5}
        assert header["CAL_VER"].startswith("upramp ")
        assert (header["DATAMODL"], rateints[0].header["DATAMODL"]) == ("ImageModel", "CubeModel")
        assert header["FILENAME"] == published[0].path.name
        assert header["TFRAME"] == 10.73677
        order = list(header)
        assert order.index("PRIMECRS") == order.index("NINTS") + 1  # behind the last card of its branch
        assert order.index("R_DARK") < order.index("S_JUMP")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tiling_gives_the_same_file(make_uncal, tmp_path, monkeypatch, data):
    shape = tuple(data.draw(st.integers(1, n), label="shape") for n in (5, 1, 7, 9))
    uncal = open_uncal(make_uncal(shape=shape))
    outputs = draw_outputs(uncal)
    monkeypatch.setattr(product_file, "_PIECE", data.draw(st.integers(1, 3000), label="piece"))
    cuts = sorted(data.draw(st.sets(st.integers(1, 6))) | {0, shape[2]})
    middle = data.draw(st.integers(0, shape[3]))
    with ProductWriter(uncal, naming.scratch_folder(tmp_path, "job"), tmp_path) as writer:
        for lo, hi in pairwise(cuts):
            if hi <= shape[2]:
                emit(writer, outputs, slice(lo, hi), slice(0, middle))
                emit(writer, outputs, slice(lo, hi), slice(middle, shape[3]))
        for product in writer.finish(CARDS):
            assert_holds(product.path, product.kind, outputs)


def test_threads_emit_side_by_side(make_uncal, output):
    uncal = open_uncal(make_uncal(shape=(3, 1, 32, 8)))
    outputs = draw_outputs(uncal)
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer:
        threads = [
            threading.Thread(target=emit, args=(writer, outputs, slice(y, y + 2))) for y in range(0, 32, 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for product in writer.finish({}):
            assert_holds(product.path, product.kind, outputs)


def test_more_cards_than_there_is_room_for(uncal, output, monkeypatch):
    monkeypatch.setattr(product_file, "_COPY", 4000)
    outputs = draw_outputs(uncal)
    extra = {f"R_X{i}": "a reference from elsewhere" * 4 for i in range(150)}
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer:
        emit(writer, outputs, slice(0, 6))
        for product in writer.finish({**CARDS, **extra}):
            assert_holds(product.path, product.kind, outputs)
            with fits.open(product.path) as hdus:
                assert hdus[0].header["R_X149"] == extra["R_X149"]
                assert hdus["ASDF"].data["ASDF_METADATA"].tobytes().startswith(b"#ASDF 1.0.0\n")


def test_nothing_is_left_of_an_exception(uncal, output):
    with (
        pytest.raises(ZeroDivisionError),
        ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer,
    ):
        emit(writer, draw_outputs(uncal), slice(0, 3))
        assert visible(output)  # in scratch
        assert not list(output.glob("*.fits"))
        raise ZeroDivisionError
    assert visible(output) == []


def test_incomplete_products_are_not_published(uncal, output):
    outputs = draw_outputs(uncal)
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer:
        emit(writer, outputs, slice(0, 5))
        with pytest.raises(RuntimeError, match="40 of 48 pixels of SCI"):
            writer.finish(CARDS)
    assert visible(output) == []


def test_an_old_product_stays_until_the_new_one_is_whole(uncal, output):
    output.mkdir()
    old = output / f"{uncal.segment_id}_rate.fits"
    old.write_text("old")
    outputs = draw_outputs(uncal)
    with ProductWriter(
        uncal, naming.scratch_folder(output, "job"), output, kinds=["rate"], durable=True
    ) as writer:
        emit(writer, outputs, slice(0, 6))
        assert old.read_text() == "old"
        writer.finish(CARDS)
    assert_holds(old, "rate", outputs)


def test_wrong_arrays_are_refused(uncal, output):
    outputs = draw_outputs(uncal)
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer:
        with pytest.raises(ValueError, match="lie outside"):
            writer.emit(1, 0, outputs)
        with pytest.raises(ValueError, match="takes 1 planes of float32"):
            writer.emit(0, 0, {**outputs, "rate.sci": outputs["rate.sci"].astype(np.float64)})


def test_leftovers_of_a_killed_process(uncal, output):
    """SIGKILL between emit and finish; the folders of the living are left alone."""
    script = f"""
import os, signal, numpy as np
from pathlib import Path
from upramp.store.products import ProductWriter
from upramp.store.uncal import open_uncal
uncal = open_uncal({str(uncal.path)!r})
writer = ProductWriter(uncal, Path({str(naming.scratch_folder(output, "dead"))!r}), Path({str(output)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with ProductWriter(uncal, naming.scratch_folder(output, "alive"), output) as writer:
        emit(writer, draw_outputs(uncal), slice(0, 6))
        assert not list(output.glob("*.fits"))
        assert clean_scratch(output) == [naming.scratch_folder(output, "dead")]
        writer.finish(CARDS)
    assert len(visible(output)) == 2
    assert clean_scratch(output) == []


def test_two_jobs_cannot_share_a_scratch_folder(tmp_path):
    scratch = Scratch(tmp_path / "a" / "b")
    with pytest.raises(Retryable, match="in use by another running job"):
        Scratch(tmp_path / "a" / "b")
    scratch.remove()
    scratch.remove()
    assert not (tmp_path / "a").exists()


def test_full_disk(uncal, output, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = ProductWriter(uncal, naming.scratch_folder(output, "job"), output)
    with monkeypatch.context() as patch, pytest.raises(Retryable, match=r"no room left .* free space"):
        patch.setattr(os, "pwrite", full)
        emit(writer, draw_outputs(uncal), slice(0, 6))
    writer.abandon()
    writer.abandon()
    with monkeypatch.context() as patch, pytest.raises(Retryable, match="no room left"):
        patch.setattr(os, "posix_fallocate", full)
        ProductWriter(uncal, naming.scratch_folder(output, "job"), output)
    assert visible(output) == []


def test_output_that_cannot_be_a_folder(uncal, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="check the output folder"):
        ProductWriter(uncal, naming.scratch_folder(tmp_path / "file", "job"), tmp_path / "file")


def write_both(uncal: Uncal, output: Path) -> list[Path]:
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output) as writer:
        emit(writer, draw_outputs(uncal), slice(0, uncal.meta.ny))
        updates = {"meta": {"note": np.float64(1.5)}, "upramp": {"steps": ("a", "b")}}
        return [p.path for p in writer.finish(CARDS, tree_updates=updates)]


def test_tree_is_asdf(uncal, output):
    """The asdf package reads the extension, and the tree follows the headers."""
    import io

    import asdf

    path = write_both(uncal, output)[0]
    with fits.open(path) as hdus:
        document = hdus["ASDF"].data["ASDF_METADATA"].tobytes()
    with asdf.open(io.BytesIO(document)) as file:
        meta = file["meta"]
        assert meta["filename"] == path.name
        assert meta["observation"]["program_number"] == "01234"
        assert meta["ref_file"]["crds"]["context_used"] == "jwst_0001.pmap"
        assert meta["exposure"]["frame_time"] == 10.73677
        assert (meta["bunit_data"], meta["bunit_err"], meta["note"]) == ("DN/s", "DN/s", 1.5)
        assert file["upramp"]["steps"] == ["a", "b"]


@pytest.mark.parametrize(
    ("keywords", "model"),
    [
        ({}, "ImageModel"),
        ({"INSTRUME": "NIRSPEC", "DETECTOR": "NRS1", "EXP_TYPE": "NRS_IFU"}, "IFUImageModel"),
    ],
)
def test_stdatamodels_opens_them(make_uncal, output, keywords, model):
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    uncal = open_uncal(make_uncal(**keywords))
    for path, name in zip(write_both(uncal, output), (model, "CubeModel"), strict=True):
        with datamodels.open(path) as product:
            assert type(product).__name__ == product.meta.model_type == name
            assert product.meta.calibration_software_version.startswith("upramp ")
            assert product.meta.ref_file.crds.context_used == "jwst_0001.pmap"
            assert (product.meta.cal_step.jump, product.meta.cal_step.ipc) == ("COMPLETE", "SKIPPED")
            assert product.meta.exposure.primary_cosmic_rays == 0.5
            assert product.meta.wcsinfo.ra_ref == 80.0
            assert product.meta.filename == path.name
            assert product.dq.dtype == np.uint32
            assert product.instance.get("extra_fits") is None
            product.validate()
            if name == "CubeModel":
                assert len(product.int_times) == 2


def test_what_headers_lose_the_tree_loses(uncal, output):
    """Who opens a product with stdatamodels and saves it gets the keywords it had, and its table by name."""
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    sci = np.arange(48, dtype=np.float32).reshape(6, 8)
    columns = {
        "FILENAME": np.array([b"one", b"two"]),
        "NINTS": np.array([1, 2]),
        "TSOVISIT": np.array([True, False]),
    }
    product = write_product(
        uncal,
        naming.scratch_folder(output, "job"),
        output,
        "i2d",
        "ImageModel",
        {"SCI": sci},
        {"EXPOSURE": None, "NO_SUCH": None},
        {"RA_REF": None},
        {"meta": {"wcsinfo": {"sipmxerr": None}, "resample": {"kernel": "square"}}},
        tables={"HDRTAB": columns},
    )
    with datamodels.open(product.path) as model:
        assert model.meta.wcsinfo.ra_ref is None and model.meta.exposure.ngroups is not None
        assert model.meta.observation.exposure_number is None
        assert model.meta.resample.kernel == "square"
        assert list(model.hdrtab["FILENAME"]) == ["one", "two"] and list(model.hdrtab["NINTS"]) == [1, 2]
        model.validate()
        model.save(output / "again.fits")
    with fits.open(output / "again.fits") as again, fits.open(product.path) as first:
        assert [h.name for h in again] == [h.name for h in first]
        for name in ("PRIMARY", "SCI"):
            assert set(again[name].header) - {""} == set(first[name].header) - {""}
        assert list(again["HDRTAB"].data["TSOVISIT"]) == [True, False]


def test_small_product(uncal, output):
    sci = np.arange(96, dtype=np.float32).reshape(2, 6, 8)
    arrays = {"SCI": sci, "ERR": sci * 0, "DQ": np.full((6, 8), 1 << 31, np.uint32)}
    product = write_product(
        uncal,
        naming.scratch_folder(output, "job"),
        output,
        "cal",
        "GuiderCalModel",
        arrays,
        {"S_GUICDS": "COMPLETE"},
        units={"SCI": "DN/s"},
        carry=["INT_TIMES", "POINTING"],
        tables={"HDRTAB": {"FILENAME": np.array([b"one", b"two"]), "NINTS": np.array([1, 2])}},
    )
    assert visible(output) == [f"{uncal.segment_id}_cal.fits"]
    with fits.open(product.path) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "INT_TIMES", "HDRTAB", "ASDF"]
        assert list(hdus["HDRTAB"].data["NINTS"]) == [1, 2]
        np.testing.assert_array_equal(hdus["SCI"].data, sci)
        np.testing.assert_array_equal(hdus["DQ"].data, arrays["DQ"])
        assert "BUNIT" not in hdus["ERR"].header


@pytest.mark.shared
def test_guider_product_has_the_cards_of_the_truth(shared, output):
    uncal = open_uncal(shared / "real/fgs_guider/jw01019001001_gs-acq1_2022117003102_uncal.fits")
    with fits.open(shared / "peer/fgs_truth/jw01019001001_gs-acq1_2022117003102_cal.fits.gz") as truth:
        header = truth[0].header
        cards = {k: header[k] for k in header if k.startswith(("R_", "S_", "CRDS_", "CAL_VCS"))}
        arrays = {
            n: np.array(truth[n].data, truth[n].data.dtype.newbyteorder("=")) for n in ("SCI", "ERR", "DQ")
        }
        scratch = naming.scratch_folder(output, "job")
        product = write_product(
            uncal, scratch, output, "cal", "GuiderCalModel", arrays, cards, units={"SCI": "DN/s"}
        )
        with fits.open(product.path) as ours:
            assert [h.name for h in ours] == [h.name for h in truth]
            assert set(header) - set(ours[0].header) == set()
            assert set(ours[0].header) - set(header) <= {"COMMENT"}
            assert set(truth["SCI"].header) - set(ours["SCI"].header) == set()
            np.testing.assert_array_equal(ours["SCI"].data, truth["SCI"].data)
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    with datamodels.open(product.path) as model:
        assert type(model).__name__ == "GuiderCalModel"
        assert model.meta.guidestar.gs_id == "N4E8000459"


def test_trouble_while_writing_back_is_told_at_the_end(uncal, tmp_path, monkeypatch):
    """What the disk refused beside the calibration must not be published."""
    output = tmp_path / "out"
    output.mkdir()
    tried = threading.Event()

    def fail(fd: int) -> None:
        tried.set()
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("upramp.store.product_file.os.fdatasync", fail)
    monkeypatch.setattr("upramp.store.products.FLUSH_S", 0.001)
    with ProductWriter(uncal, naming.scratch_folder(output, "job"), output, durable=True) as writer:
        emit(writer, draw_outputs(uncal), slice(0, 6))
        assert tried.wait(10)
        with pytest.raises(Retryable):
            writer.finish(CARDS)
    assert not list(output.glob("*.fits"))
