"""Counts to calibrated images with pixels: products, pictures, what the ledger tells; and once more."""

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

from upramp.simulate import detector, optics, references, uncal
from upramp.simulate.cache import Cache
from upramp.simulate.expose import Noise, expose
from upramp.simulate.observation import Observation
from upramp.stages.core.dq import DO_NOT_USE, REFERENCE_PIXEL
from upramp.store.ledger import Ledger
from upramp.store.provenance import products_using, provenance

SIZE = 64
RATE = 300.0
KINDS = ("rate", "rateints", "cal", "i2d")
RUN = """
import sys
from pathlib import Path
from upramp.daemon import config, desk, oneshot
from upramp.stages.pipelines import registry
if __name__ == "__main__":
    empty, output, until, path = sys.argv[1:]
    chosen = config.load(empty, registry=registry()).override(output_folder=Path(output), run_until=until)
    sys.exit(oneshot.run([Path(path)], chosen, calibrator=desk.Calibration()).exit_code)
"""


class Drawn:
    """An exposure on disk; ``run`` calibrates in a process of its own, which compiles nothing ahead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "out"
        observation = Observation(
            detector="NRCALONG", ny=SIZE, nx=SIZE, subarray="SUB64P", ngroups=4, nints=2
        )
        chip = detector.draw("NRCALONG", SIZE, SIZE, ipc=0.0)
        cache = Cache(folder / "crds")
        references.write_all(cache, chip, [observation])
        optics.write_all(cache, chip, [observation])
        self.environment = cache.environment | {"CRDS_CONTEXT": cache.write()}
        quiet = Noise(drift=0.0, cosmic_rays=0.0)
        taken = expose(chip, RATE * chip.flat, observation, noise=quiet)
        [self.uncal] = uncal.write_exposure(folder / "in", taken.counts, observation)
        self.stem = self.uncal.name.removesuffix("_uncal.fits")
        self.conversion = optics.CONVERSION
        (folder / "run.py").write_text(RUN)
        (folder / "empty.toml").write_text("")

    def run(self, path: Path, until: str = "stage2") -> None:
        done = subprocess.run(
            [sys.executable, self.folder / "run.py", self.folder / "empty.toml", self.output, until, path],
            env=os.environ | self.environment | {"UPRAMP_CACHE": str(self.folder / "cache")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def product(self, kind: str, ending: str = "fits") -> Path:
        return self.output / f"{self.stem}_{kind}.{ending}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    made = Drawn(tmp_path_factory.mktemp("images"))
    made.run(made.uncal)
    return made


def test_products_and_pictures(drawn):
    made = {path.name for path in drawn.output.iterdir() if path.is_file()}
    assert made == {f"{drawn.stem}_{kind}.fits" for kind in KINDS} | {
        f"{drawn.stem}_{kind}.png" for kind in ("cal", "i2d")
    }
    for kind in ("cal", "i2d"):
        assert drawn.product(kind, "png").read_bytes().startswith(b"\x89PNG")


def test_what_was_put_in_comes_out(drawn):
    """An even sky, once the flat is taken out, in MJy/sr."""
    with fits.open(drawn.product("cal")) as cal:
        good = cal["DQ"].data & DO_NOT_USE == 0
        assert good.mean() > 0.7 and np.isnan(cal["SCI"].data[~good]).all()
        lit = good & (cal["DQ"].data & REFERENCE_PIXEL == 0)
        pull = (cal["SCI"].data - RATE * drawn.conversion)[lit] / cal["ERR"].data[lit]
        assert abs(pull.mean()) < 0.1 and pull.std() == pytest.approx(1, abs=0.1)
        assert cal["SCI"].header["BUNIT"] == "MJy/sr"
        assert cal["SCI"].header["PHOTMJSR"] == pytest.approx(drawn.conversion)
    with fits.open(drawn.product("i2d")) as quick:
        lit = quick["SCI"].data[8:-8, 8:-8]  # off the reference pixels
        assert np.nanmedian(lit) == pytest.approx(RATE * drawn.conversion, rel=0.02)
        assert quick["SCI"].header["PHOTMJSR"] == pytest.approx(drawn.conversion)


def test_states_in_the_headers(drawn):
    told = ("S_WCS", "S_FLAT", "S_PHOTOM", "S_RESAMP", "S_BKDSUB", "ASNTABLE", "DATAMODL")
    cal, quick = (fits.getheader(drawn.product(kind)) for kind in ("cal", "i2d"))
    common = {**dict.fromkeys(told[:3], "COMPLETE"), "ASNTABLE": "singleton", "DATAMODL": "ImageModel"}
    assert {k: cal[k] for k in told if k in cal} == common
    assert {k: quick[k] for k in told if k in quick} == common | {"S_RESAMP": "COMPLETE"}


def test_the_ledger_knows_all(drawn):
    with Ledger.open(drawn.output / "ledger") as ledger:
        rows = {row["segment_id"]: row["state"] for row in ledger.latest("segments")}
        kinds = sorted(row["kind"] for row in ledger.latest("products"))
        runs = {row["step"]: row for row in ledger.latest("step_runs") if row["segment_id"].endswith("_rate")}
    assert rows == {drawn.stem: "calibrated", f"{drawn.stem}_rate": "calibrated"}
    assert kinds == sorted(KINDS)
    assert {step: run["state"] for step, run in runs.items()} == {
        "bkg_subtract": "SKIPPED", "assign_wcs": "COMPLETE", "flat_field": "COMPLETE", "photom": "COMPLETE",
        "resample": "COMPLETE",
    }  # fmt: skip
    assert runs["bkg_subtract"]["reason"] == "no background exposures"


@pytest.mark.parametrize("kind", ["cal", "i2d"])
def test_provenance(drawn, kind):
    facts = provenance(drawn.output / "ledger", drawn.product(kind))
    assert {"flat", "photom", "area", "distortion", "filteroffset"} <= {
        r["type"] for r in facts["references"]
    }
    [flat] = [r["name"] for r in facts["references"] if r["type"] == "flat"]
    users = products_using(drawn.output / "ledger", flat)
    assert {row["segment_id"] for row in users} == {f"{drawn.stem}_rate"}


def test_once_more_and_after_a_loss(drawn):
    """What is done stays; what somebody took away is made again, from rates that are still there."""
    before = {kind: drawn.product(kind).stat().st_mtime_ns for kind in KINDS}
    drawn.run(drawn.uncal)
    assert {kind: drawn.product(kind).stat().st_mtime_ns for kind in KINDS} == before
    first = fits.getdata(drawn.product("cal"), "SCI")
    drawn.product("cal").unlink()
    drawn.run(drawn.uncal)
    assert drawn.product("rate").stat().st_mtime_ns == before["rate"]
    np.testing.assert_array_equal(fits.getdata(drawn.product("cal"), "SCI"), first)


def test_backgrounds_of_an_association_are_subtracted(drawn):
    """The exposure's own rates as background leave nothing; and the exposure counts once."""
    asked = drawn.output / "jw01234-o001_image2_00001_asn.json"
    rate, other = drawn.product("rate"), drawn.output / f"{drawn.stem.replace('00001_', '00002_')}_rate.fits"
    shutil.copy(rate, other)
    members = [{"expname": rate.name, "exptype": "science"}, {"expname": other.name, "exptype": "background"}]
    asked.write_text(
        json.dumps({"asn_type": "image2", "products": [{"name": drawn.stem, "members": members}]})
    )
    drawn.run(asked)
    with fits.open(drawn.product("cal")) as cal:
        good = cal["DQ"].data & DO_NOT_USE == 0
        assert np.abs(cal["SCI"].data[good]).max() < 1e-3
        header = cal[0].header
        assert (header["S_BKDSUB"], header["ASNTABLE"]) == ("COMPLETE", asked.name)
    with Ledger.open(drawn.output / "ledger") as ledger:
        made = [p for p in ledger.latest("products") if p["path"] == str(drawn.product("cal"))]
    [product] = [p for p in made if p["state"] == "current"]
    assert product["segment_id"] == f"{drawn.stem}_rate"
    assert [Path(one["path"]).name for one in product["inputs"]] == [asked.name, rate.name, other.name]
    before = drawn.product("cal").stat().st_mtime_ns
    drawn.run(rate)  # what was asked for goes on counting
    drawn.run(asked)
    assert drawn.product("cal").stat().st_mtime_ns == before
