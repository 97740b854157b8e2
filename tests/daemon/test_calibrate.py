"""One small simulated file, planned and calibrated for real; CRDS is a table of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from structlog.testing import capture_logs

from upramp.daemon import calibrate, planning
from upramp.daemon.config import Config, Output, Run, Store
from upramp.simulate import detector, emi, references, uncal
from upramp.simulate.cache import Cache
from upramp.simulate.expose import expose
from upramp.simulate.observation import Observation
from upramp.stages.core.errors import Retryable
from upramp.stages.core.frames import Interrupted
from upramp.stages.stage1 import jump
from upramp.store.references import Best

SIZE = 72


class Table:
    """Stands for CRDS: whatever lies in a folder is best."""

    context, version = "jwst_0001.pmap", "1"

    def __init__(self, folder: Path) -> None:
        files = [path for kind in ("fits", "asdf") for path in folder.rglob(f"*.{kind}")]
        self.files = {path.name.split("_")[2]: path for path in files}

    def parameters(self, header, types):
        return {}

    def best(self, header, wanted):
        found = {r: self.files.get(r) for r in wanted}
        return {r: Best(r, p and p.name, p, "" if p else "N/A", False) for r, p in found.items()}

    def fetch(self, best):
        return best.path

    def checksum(self, best):
        return f"sha1:{best.path.stat().st_mtime_ns}"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Plans for an exposure of its own; keyword arguments are [steps] sections."""
    observation = Observation(detector="NRCALONG", ny=SIZE, nx=SIZE, subarray="SUB72P", ngroups=4)
    return workshop(tmp_path, monkeypatch, observation)


@pytest.fixture
def make_mid_infrared(tmp_path, monkeypatch):
    """The same of a mid-infrared subarray with interference."""
    observation = Observation(detector="MIRIMAGE", ny=64, nx=72, subarray="SUB64", ngroups=12, nints=2)
    return workshop(tmp_path, monkeypatch, observation, emi.Interference(observation))


def workshop(tmp_path, monkeypatch, observation, *effects):
    shape = observation.ny, observation.nx
    chip = detector.draw(observation.detector, *shape, ipc=0.0)
    cache = Cache(tmp_path / "crds")
    references.write_all(cache, chip, [observation], effects=effects)
    taken = expose(chip, np.full(shape, 100.0), observation, zeroframe=True, effects=effects)
    (path,) = uncal.write_exposure(tmp_path / "in", taken.counts, observation, zeroframe=taken.zeroframe)
    crds = Table(tmp_path / "crds")
    monkeypatch.setattr(planning, "crds_of", lambda config: crds)
    config = replace(
        Config(),
        output=Output(tmp_path / "out"),
        store=Store(cache=tmp_path / "cache", fsync=False),
        run=Run(threads=1, memory_limit_mb=16),
    )

    def planned(**steps):
        return calibrate.plan(calibrate.CalibrationJob(path, "run", replace(config, steps=steps)))

    planned.crds, planned.output = crds, tmp_path / "out"
    return planned


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix == ".fits")


def test_a_file_that_changes_meanwhile_leaves_no_product(make):
    plan = make()

    def touch():
        plan.uncal.path.touch()
        return False

    with pytest.raises(Retryable, match="changed while it was calibrated"):
        calibrate.calibrate(plan, "0" * 64, touch)
    assert left(make.output) == []
    assert len(calibrate.calibrate(make(), "0" * 64).products) == 2
    assert len(left(make.output)) == 2


@pytest.mark.parametrize("after", [0, 1, 10**9])
def test_work_that_was_abandoned_publishes_nothing(make, after):
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > after

    if after == 10**9:
        calibrate.calibrate(make(), "0" * 64, stop)
        after = len(asked) - 1  # the last question, before publishing
        asked.clear()
        for path in make.output.rglob("*.fits"):
            path.unlink()
    with pytest.raises(Interrupted):
        calibrate.calibrate(make(), "0" * 64, stop)
    assert left(make.output) == []


def test_what_parameters_ask_for_in_vain_is_noted(make, monkeypatch):
    monkeypatch.setitem(vars(jump.STEP), "unsupported", lambda params: [f"{params.edge_size} is too much"])
    with capture_logs() as lines:
        plan = make(jump={"edge_size": 1000})
    ((step, notice),) = plan.notices
    assert (step, notice) == ("jump", "1000 is too much")
    (line,) = [line for line in lines if line["event"] == "references_resolved"]
    assert line["references"] == sum(bool(r["path"]) for s in plan.steps for r in s.references) > 5
    (run,) = [s for s in calibrate.calibrate(plan, "0" * 64).step_runs if s["step"] == "jump"]
    assert notice in run["reason"]


def test_a_dark_that_does_not_fit_still_tells_the_dark_current(make):
    """It counts in the variance though the dark is not subtracted."""

    def variance(keyword: float, **steps):
        fits.setval(make.crds.files["dark"], "NFRAMES", value=99)
        fits.setval(make.crds.files["dark"], "AVDRKCUR", value=keyword)
        outcome = calibrate.calibrate(make(**steps), "0" * 64)
        (dark,) = [s for s in outcome.step_runs if s["step"] == "dark_current"]
        assert dark["state"] == "SKIPPED" and "NFRAMES = 99" in dark["reason"]
        return fits.getdata(outcome.products[0]["path"], "VAR_POISSON").astype(float)

    without, with_it = variance(0.0), variance(50.0)
    assert np.nanmedian(with_it) > np.nanmedian(without)
    given = variance(0.0, dark_current={"average_dark_current": 50.0})
    assert np.array_equal(given, with_it, equal_nan=True)


def test_ramps_keep_frame_zero_and_the_dark_current(make):
    asked = make(detector1={"save_calibrated_ramp": True}, dark_current={"average_dark_current": 0.5})
    assert [p["kind"] for p in calibrate.calibrate(asked, "0" * 64).products] == ["rate", "rateints", "ramp"]
    (path,) = make.output.rglob("*_ramp.fits")
    with fits.open(path) as ramp:
        names = [hdu.name for hdu in ramp]
        assert names[1:6] == ["SCI", "PIXELDQ", "GROUPDQ", "ZEROFRAME", "AVDRKCUR"]
        usable = (ramp["PIXELDQ"].data == 0) & (ramp["GROUPDQ"].data[0, 0] == 0)
        zero, first = ramp["ZEROFRAME"].data, ramp["SCI"].data[0, 0]
        assert zero.shape == (1, SIZE, SIZE) and zero.dtype == np.dtype(">f4")
        # in RAPID it is the first group, but for the dark
        assert np.abs(zero[0] - first)[usable].max() < 1
        assert (ramp["AVDRKCUR"].data == 0.5).all()


def rate_of(folder: Path) -> tuple[fits.Header, np.ndarray]:
    (path,) = folder.rglob("*_rate.fits")
    with fits.open(path) as rate:
        return rate[0].header, np.array(rate["SCI"].data)


@pytest.mark.parametrize("algorithm", ["joint", "sequential"])
def test_rates_scatter_less_without_interference(make_mid_infrared, algorithm):
    scatter = {}
    for skip in (True, False):
        work = make_mid_infrared(emicorr={"skip": skip, "algorithm": algorithm})
        calibrate.calibrate(work, "0" * 64)
        header, rates = rate_of(make_mid_infrared.output)
        assert header["S_MIREMI"] == ("SKIPPED" if skip else "COMPLETE")
        assert ("R_MIREMI" in header) != skip
        low, high = np.nanpercentile(rates, (16, 84))
        scatter[skip] = high - low
    assert scatter[False] < 0.8 * scatter[True]


def test_waves_that_were_saved_serve_as_a_reference(make_mid_infrared):
    own = {"skip": False, "onthefly_corr_freq": (390.625,), "save_intermediate_results": True}
    out = calibrate.calibrate(make_mid_infrared(emicorr=own), "0" * 64)
    assert [p["kind"] for p in out.products] == ["rate", "rateints", "emi_ref_waves"]
    (saved,) = make_mid_infrared.output.rglob("*_emi_ref_waves.asdf")
    first = rate_of(make_mid_infrared.output)
    again = {"skip": False, "user_supplied_reffile": str(saved), "algorithm": "sequential"}
    calibrate.calibrate(make_mid_infrared(emicorr=again), "0" * 64)
    second = rate_of(make_mid_infrared.output)
    for header, _ in (first, second):
        assert header["S_MIREMI"] == "COMPLETE"
        assert "R_MIREMI" not in header
    assert np.nanmedian(np.abs(first[1] - second[1])) < 0.05 * np.nanstd(first[1])


def test_reference_types_that_may_be_named_in_the_configuration():
    known = planning.reference_types()
    assert {"dark", "mask", "readnoise", "pars-jumpstep"} <= set(known)
    assert "user_supplied_dq" not in known
