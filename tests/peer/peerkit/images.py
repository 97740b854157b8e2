"""The table of images: rates with references of stage 2, and parameters that differ from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peerkit.cases import Steps, assignments
from peerkit.scenes import Input, Scene, sky
from upramp.simulate import optics, rates
from upramp.simulate.cache import Cache
from upramp.simulate.detector import draw
from upramp.simulate.observation import Observation


@dataclass(frozen=True)
class ImageCase:
    """One comparison. References are those of a detector of ``size`` (ny, nx); the observation lies in it.

    ``by_integration``: from rateints. ``rows``: photom has a row for the optics. ``long``: left out of the
    short comparison.
    """

    name: str
    observation: Observation
    by_integration: bool = False
    steps: Steps = field(default_factory=dict)
    rows: bool = True
    long: bool = False
    size: tuple[int, int] = (150, 160)

    @property
    def products(self) -> tuple[str, ...]:
        """Endings of what both packages make."""
        if self.by_integration:
            return ("calints",)
        quick = self.observation.metadata()["exposure.type"] in QUICK_LOOKS
        skipped = self.steps.get("resample", {}).get("skip", False)
        return ("cal", "i2d") if quick and not skipped else ("cal",)

    @property
    def assignments(self) -> list[str]:
        """The parameters as words for ``--set``."""
        return assignments(self.steps)

    def make(self, folder: Path) -> Input:
        """Draw the exposure and its CRDS cache; the same bytes every time."""
        serial = [case.name for case in IMAGES].index(self.name) + 501
        detector = draw(self.observation.detector, *self.size, bad=3e-3, hot=3e-3)
        cache = Cache(folder / "crds", serial=serial)
        optics.write_all(cache, detector, [self.observation], rows=self.rows)
        context = cache.write()
        stars = sky(Scene(self.observation, stars=30, flux=(1.5, 4.5)), serial)
        how: dict[str, Any] = {"seed": serial, "by_integration": self.by_integration}
        path = rates.write(folder / "in", detector, stars, self.observation, **how)
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "server_config")
        return Input(path, cache.environment | {"CRDS_CONTEXT": context}, tuple(files))


QUICK_LOOKS = ("NRC_IMAGE", "NIS_IMAGE", "MIR_IMAGE", "FGS_IMAGE")


def _part(detector: str, optics: Mapping[str, str] | None = None, **how: Any) -> Observation:
    """A part of the detector that touches no edge; ``optics`` are filter, pupil and the like."""
    usual: dict[str, Any] = {
        "ny": 96,
        "nx": 120,
        "xstart": 21,
        "ystart": 33,
        "subarray": "SUB128",
        "tframe": 10.0,
    }
    extra = {f"instrument.{key}": value for key, value in (optics or {}).items()}
    return Observation(detector=detector, extra=extra | how.pop("extra", {}), **usual | how)


ABERRATION = {"velocity_aberration.scale_factor": 1.00007}
TIMES = {
    "exposure.effective_exposure_time": 41.0,
    "exposure.measurement_time": 43.0,
    "exposure.elapsed_exposure_time": 47.0,
    "exposure.duration": 53.0,
}
"""No two alike, so that it shows which is taken."""

LONG = _part("NRCALONG", extra=ABERRATION)
MIRI = _part("MIRIMAGE", {"filter": "F1000W"}, subarray="BRIGHTSKY", extra=TIMES)

OWN_GRID = {
    "output_shape": [190, 170],
    "crpix": [74.0, 85.0],
    "crval": [80.0004, -69.5003],
    "pixel_scale": 0.05,
    "fillval": "-1.5",
}

IMAGES: tuple[ImageCase, ...] = (
    ImageCase("nircam_long", LONG),
    ImageCase("miri", MIRI),
    ImageCase(
        "nircam_series", _part("NRCB1", exp_type="NRC_TSIMAGE", nints=3, tso=True), by_integration=True
    ),
    ImageCase("nircam_short", _part("NRCB1", {"filter": "F200W"}), long=True),
    ImageCase(
        "nircam_whole",
        _part("NRCA3", ny=150, nx=160, xstart=1, ystart=1, subarray="FULL"),
        long=True,
    ),
    ImageCase("niriss", _part("NIS", {"filter": "CLEAR", "pupil": "F200W"}), long=True),
    ImageCase("fgs", _part("GUIDER2"), long=True),
    ImageCase("integrations", _part("NRCALONG", nints=2), by_integration=True, long=True),
    ImageCase(
        "niriss_ami",
        _part("NIS", {"filter": "F480M", "pupil": "NRM"}, exp_type="NIS_AMI", nints=2),
        by_integration=True,
        long=True,
    ),
    ImageCase(
        "nircam_coron",
        _part("NRCALONG", {"filter": "F335M", "pupil": "MASKRND"}, exp_type="NRC_CORON", nints=2),
        by_integration=True,
        long=True,
    ),
    ImageCase(
        "miri_lyot",
        _part("MIRIMAGE", {"filter": "F2300C"}, exp_type="MIR_LYOT", subarray="MASKLYOT", nints=2),
        by_integration=True,
        long=True,
    ),
    ImageCase(
        "miri_4qpm",
        _part("MIRIMAGE", {"filter": "F1065C"}, exp_type="MIR_4QPM", subarray="MASK1065", nints=2),
        by_integration=True,
        long=True,
    ),
    ImageCase("nircam_ta", _part("NRCALONG", exp_type="NRC_TACQ", ny=32, nx=32), long=True),
    ImageCase("niriss_ta", _part("NIS", {"filter": "F480M"}, exp_type="NIS_TACQ", nx=96), long=True),
    ImageCase("miri_ta", _part("MIRIMAGE", {"filter": "F1500W"}, exp_type="MIR_TACQ", nx=64), long=True),
    ImageCase("nircam_tac", _part("NRCALONG", exp_type="NRC_TACONFIRM", ny=32, nx=32), long=True),
    ImageCase(
        "nircam_focus", _part("NRCB1", {"filter": "F212N", "pupil": "WLP8"}, exp_type="NRC_FOCUS"), long=True
    ),
    ImageCase(
        "niriss_tac", _part("NIS", {"filter": "F480M"}, exp_type="NIS_TACONFIRM", ny=48, nx=64), long=True
    ),
    ImageCase(
        "niriss_focus",
        _part("NIS", {"filter": "CLEAR", "pupil": "F158M"}, exp_type="NIS_FOCUS", ny=48, nx=64),
        long=True,
    ),
    ImageCase(
        "miri_tac", _part("MIRIMAGE", {"filter": "F1000W"}, exp_type="MIR_TACONFIRM", ny=48, nx=64), long=True
    ),
    ImageCase(
        "miri_coron_calibration",
        _part("MIRIMAGE", {"filter": "F1140C"}, exp_type="MIR_CORONCAL", subarray="MASK1140", nints=2),
        by_integration=True,
        long=True,
    ),
    ImageCase("miri_coron_rate", _part("MIRIMAGE", {"filter": "F1140C"}, exp_type="MIR_CORONCAL"), long=True),
    ImageCase("fgs_focus", _part("GUIDER1", exp_type="FGS_FOCUS", ny=48, nx=64), long=True),
    ImageCase("no_row", LONG, rows=False, long=True),
    ImageCase("no_decline", MIRI, steps={"photom": {"apply_time_correction": False}}, long=True),
    ImageCase("no_flat", LONG, steps={"flat_field": {"skip": True}}, long=True),
    ImageCase("no_photom", LONG, steps={"photom": {"skip": True}}, long=True),
    ImageCase("no_quick_look", LONG, steps={"resample": {"skip": True}}, long=True),
    ImageCase("shrunk", LONG, steps={"resample": {"pixfrac": 0.7, "pixel_scale_ratio": 0.6}}, long=True),
    ImageCase("by_time", MIRI, steps={"resample": {"weight_type": "exptime", "rotation": 20.0}}, long=True),
    ImageCase("flat_undone", LONG, steps={"flat_field": {"inverse": True}}, long=True),
    ImageCase("photom_undone", LONG, steps={"photom": {"inverse": True}}, long=True),
    *(
        ImageCase(kernel, LONG, steps={"resample": {"kernel": kernel, "pixfrac": 0.8}}, long=True)
        for kernel in ("point", "turbo", "gaussian", "lanczos2")
    ),
    ImageCase("own_grid", LONG, steps={"resample": OWN_GRID}, long=True),
    ImageCase("lanczos3", LONG, steps={"resample": {"kernel": "lanczos3", **OWN_GRID}}, long=True),
    ImageCase(
        "values_alone", LONG, steps={"resample": {"enable_err": False, "enable_ctx": False}}, long=True
    ),
    ImageCase("flags", LONG, steps={"resample": {"report_var": False, "propagate_dq": True}}, long=True),
    ImageCase(
        "coarse_map", LONG, steps={"resample": {"pixmap_stepsize": 10.0, "pixmap_order": 3}}, long=True
    ),
)
