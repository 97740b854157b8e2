"""Preview mosaics with pixels: beside the mosaic of the same exposures, and what becomes of them on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from upramp.daemon import previewing
from upramp.daemon.previewing import refresh
from upramp.daemon.previews import Job
from upramp.simulate import visit
from upramp.simulate.cache import Cache
from upramp.simulate.observation import Observation
from upramp.stages.core.errors import Retryable
from upramp.store import preview_file
from upramp.store.ledger import Ledger
from upramp.store.preview_file import read_preview

RUN = """
import sys
from pathlib import Path
from upramp.daemon import config, desk, logs, oneshot
from upramp.stages.pipelines import registry
if __name__ == "__main__":
    settings, *paths = sys.argv[1:]
    chosen = config.load(settings, registry=registry())
    logs.configure(chosen.log)
    sys.exit(oneshot.run([Path(p) for p in paths], chosen, calibrator=desk.Calibration()).exit_code)
"""
ONE = Observation(ny=230, nx=240, subarray="SUB320", ngroups=5, tframe=10.0)


class Taken:
    """A visit of three dithers, calibrated and combined by a process of its own, with previews."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "out"
        self.visit = visit.Visit(ONE, dithers=3, stars=70)
        cache = Cache(folder / "crds")
        self.visit.references(cache)
        environment = cache.environment | {"CRDS_CONTEXT": cache.write()}
        rates = self.visit.write_rates(folder / "in")
        (folder / "run.py").write_text(RUN)
        settings = folder / "settings.toml"
        settings.write_text(
            '[output]\nfolder = "out"\n[associations]\npreviews = true\n[log]\nformat = "json"\n'
            "[steps.tweakreg]\nskip = true\n"
        )
        done = subprocess.run(
            [sys.executable, folder / "run.py", settings, *rates],
            env=os.environ | environment | {"UPRAMP_CACHE": str(folder / "cache")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (json.loads(line) for line in done.stderr.splitlines() if line.startswith("{"))
        self.log = [line for line in lines if line["event"].startswith("preview_")]
        [self.preview] = self.output.glob("*_preview.fits")

    @property
    def cals(self) -> list[Path]:
        return sorted(self.output.glob("*_cal.fits"))


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    return Taken(tmp_path_factory.mktemp("visit"))


@pytest.fixture
def job(taken, tmp_path):
    """The calibrated images in a folder of their own."""
    members = [Path(shutil.copy2(path, tmp_path)) for path in taken.cals]
    return Job(Path("o001_asn.json"), "01234001", "some", tmp_path / "some_preview.fits", members)


def of(job: Job, *numbers: int) -> Job:
    """A job with some of the images."""
    return Job(job.file, job.of, job.product, job.path, [job.members[n] for n in numbers])


def go(job: Job):
    done = refresh(job, lambda: False)
    assert done.failure is None
    return done


def cells(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with fits.open(path) as file:
        return file["SCI"].data.copy(), file["WHT"].data.copy()


def light(sci: np.ndarray, x: np.ndarray, y: np.ndarray, half: int) -> np.ndarray:
    """Sums of boxes around places less what is around these; NaN where something is missing."""
    found = []
    for at, up in zip(np.round(x).astype(int), np.round(y).astype(int), strict=True):
        box = sci[up - half : up + half + 1, at - half : at + half + 1]
        around = sci[max(up - 2 * half, 0) : up + 2 * half + 1, max(at - 2 * half, 0) : at + 2 * half + 1]
        whole = box.shape == (2 * half + 1, 2 * half + 1) and np.isfinite(box).all()
        found.append((box - np.nanmedian(around)).sum() if whole else np.nan)
    return np.array(found)


def test_the_preview_is_the_mosaic_at_a_glance(taken):
    """Both see the same stars, as bright, where the sky has them."""
    [mosaic] = taken.output.glob("*-f444w*_i2d.fits")
    assert taken.preview.name == mosaic.name.replace("_i2d", "_preview")
    assert taken.preview.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    stars = taken.visit.sky
    sums, middles = [], []
    for path in (taken.preview, mosaic):
        with fits.open(path) as file:
            wcs, sci = WCS(file["SCI"].header), file["SCI"].data
            scale = float(np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix))))
            x, y = wcs.all_world2pix(stars[:, :2], 0).T
            sums.append(light(sci, x, y, 6) * scale**2)
            middles.append(np.nanmedian(sci))
            assert file["SCI"].header["BUNIT"] == "MJy/sr"
            # a bright star's centre
            k = np.nanargmax(np.where(np.isfinite(sums[-1]), stars[:, 2], np.nan))
            i, j = round(y[k]), round(x[k])
            box = sci[i - 4 : i + 5, j - 4 : j + 5] - middles[-1]
            rows, columns = np.mgrid[i - 4 : i + 5, j - 4 : j + 5]
            assert (box * columns).sum() / box.sum() == pytest.approx(x[k], abs=0.1)
            assert (box * rows).sum() / box.sum() == pytest.approx(y[k], abs=0.1)
    near = np.hypot(x[:, None] - x, y[:, None] - y) + 99 * np.eye(x.size)
    alone = np.isfinite(sums).all(axis=0) & (near.min(axis=0) > 14) & (stars[:, 2] > np.median(stars[:, 2]))
    assert alone.sum() >= 8
    ratio = sums[0][alone] / sums[1][alone]
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert np.abs(ratio - 1).max() < 0.05
    assert middles[0] == pytest.approx(middles[1], rel=0.05)


def test_it_tells_what_is_in_it_and_nobody_records_it(taken):
    with fits.open(taken.preview) as file:
        assert [hdu.name for hdu in file] == ["PRIMARY", "SCI", "WHT", "MEMBERS"]
        header, table = file[0].header, file["MEMBERS"].data
        assert sorted(table["NAME"]) == [path.name for path in taken.cals]
        sizes = {path.name: path.stat() for path in taken.cals}
        for row in table:
            assert (row["BYTES"], row["MTIME_NS"]) == (
                sizes[row["NAME"]].st_size,
                sizes[row["NAME"]].st_mtime_ns,
            )
        assert header["NMEMBERS"] == 3
        assert header["ASNTABLE"].endswith("_image3_asn.json")
        assert (header["INSTRUME"], header["FILTER"]) == ("NIRCAM", "F444W")
        wht, sky = file["WHT"].data, file["SCI"].header
        with fits.open(taken.cals[0]) as cal:
            seconds = cal[0].header.get("TMEASURE") or cal[0].header["EFFEXPTM"]
        assert wht.max() == pytest.approx(3 * seconds, rel=0.02)
        assert (sky["CTYPE1"], sky["CTYPE2"]) == ("RA---TAN", "DEC--TAN")
        assert sky["CDELT1"] == pytest.approx(-sky["CDELT2"], rel=1e-12) and sky["CDELT1"] < 0
    with Ledger.open(taken.output / "ledger") as ledger:
        assert not [row for row in ledger.latest("products") if "preview" in row["path"]]
    assert not (taken.output / ".upramp-scratch").exists()


def test_it_is_told_and_the_run_waits_for_it(taken):
    assert {line["event"] for line in taken.log} == {"preview_refreshed"}
    assert taken.log[-1]["members"] == 3
    assert sum(line["added"] for line in taken.log) == 3


def test_one_by_one_is_the_same_as_all_at_once(job, tmp_path):
    for numbers in ((0,), (0, 1), (0, 1, 2)):
        done = go(of(job, *numbers))
        assert (done.members, done.added) == (len(numbers), 1)
    little = cells(job.path)
    job.path.unlink()
    assert go(job).added == 3
    for one, other in zip(little, cells(job.path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_new_writes_nothing(job):
    go(job)
    before = job.path.stat().st_mtime_ns
    assert go(job).added == 0
    assert job.path.stat().st_mtime_ns == before


@pytest.mark.parametrize("why", ["anew", "left", "gone", "broken", "foreign"])
def test_it_is_begun_anew(job, why):
    go(of(job, 0, 1))
    wanted, numbers = cells(job.path), (0, 1)
    if why == "anew":
        with fits.open(job.members[1], mode="update") as file:
            file["SCI"].data += 10  # which the level takes off again
    elif why == "left":
        numbers = (0, 2)
    elif why == "gone":
        job.members[1].unlink()
    elif why == "broken":
        job.path.write_bytes(job.path.read_bytes()[:9000])
    else:
        fits.PrimaryHDU(np.zeros((3, 3))).writeto(job.path, overwrite=True)
    done = refresh(of(job, *numbers), lambda: False)
    assert (done.failure is not None) == (why in ("broken", "foreign"))
    assert (done.members, done.added) == ((1, 1) if why == "gone" else (2, 2))
    shown = read_preview(job.path)
    assert shown.members.keys() == {job.members[n].name for n in numbers if job.members[n].exists()}
    found = cells(job.path)
    if why in ("broken", "foreign"):
        np.testing.assert_array_equal(found[0], wanted[0])
    elif why == "anew":
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-4)
        assert shown.members[job.members[1].name].level == pytest.approx(10, abs=0.1)


def test_an_image_that_cannot_be_put_is_left_out_and_named(job):
    with fits.open(job.members[0], mode="update") as file:
        del file["ASDF"]
    with fits.open(job.members[1], mode="update") as file:
        file["SCI"].header["BUNIT"] = "DN/s"
    done = refresh(of(job, 0, 2), lambda: False)
    assert (done.members, done.added) == (1, 1)
    assert done.failure.reason.startswith(f"{job.members[0].name}: ") and "WCS" in done.failure.reason
    done = refresh(of(job, 1, 2), lambda: False)
    assert "its unit is DN/s, not MJy/sr" in done.failure.reason
    assert read_preview(job.path).members.keys() == {job.members[2].name}


def test_many_are_put_some_at_a_time(job, monkeypatch):
    monkeypatch.setattr(previewing, "AT_ONCE", 2)
    done = go(job)
    assert (done.members, done.left) == (2, True)
    done = go(job)
    assert (done.members, done.added, done.left) == (3, 1, False)


def test_asked_to_stop_it_writes_nothing(job):
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 2

    done = refresh(job, stop)
    assert (done.added, done.members) == (0, 0)
    assert not job.path.exists()


def test_a_disk_that_is_full_leaves_the_old_one(job, monkeypatch):
    go(of(job, 0))
    before = {path.name: path.read_bytes() for path in job.path.parent.glob("some_*")}
    assert len(before) == 2

    def full(*args):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(preview_file, "write_picture", full)
    with pytest.raises(Retryable, match="no room left"):
        refresh(job, lambda: False)
    assert {path.name: path.read_bytes() for path in job.path.parent.glob("some_*")} == before
    assert not (job.path.parent / ".upramp-scratch").exists()
