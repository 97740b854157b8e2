"""Dithered visits for stage 3, by instrument: rates, the peer's images, and associations of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astropy.io import fits

from peerkit.cases import Steps, assignments
from peerkit.scenes import Input
from upramp.simulate.cache import Cache
from upramp.simulate.observation import Observation
from upramp.simulate.visit import Visit
from upramp.stages.associations.record import Association, Member, Product
from upramp.store.associations import write_association

SMALL: Steps = {
    "tweakreg": {"bkg_boxsize": 60, "minobj": 6, "separation": 0.4, "tolerance": 0.25},
    "source_catalog": {"bkg_boxsize": 60},
}
"""What a field of a few hundred pixels needs."""


@dataclass(frozen=True)
class VisitCase:
    """One comparison: the visit, and parameters that differ from `SMALL`.

    ``groups``: of the exposures in turn, where an association tells what belongs together. ``speed``: how far
    the target moves from exposure to exposure, arcsec. ``long``: left out of the short comparison.
    """

    name: str
    visit: Visit
    steps: Steps = field(default_factory=dict)
    long: bool = False
    groups: tuple[str, ...] = ()
    speed: float = 0.0

    @property
    def parameters(self) -> Steps:
        """All that differ from the defaults."""
        names = dict.fromkeys([*SMALL, *self.steps])
        return {name: {**SMALL.get(name, {}), **self.steps.get(name, {})} for name in names}

    @property
    def assignments(self) -> list[str]:
        """The parameters as words for ``--set``."""
        return assignments(self.parameters)

    def make(self, folder: Path) -> list[Input]:
        """Draw the rates and their CRDS cache; the same bytes every time."""
        serial = [case.name for case in VISITS].index(self.name) + 701
        cache = Cache(folder / "crds", serial=serial)
        self.visit.references(cache)
        context = cache.write()
        environment = cache.environment | {"CRDS_CONTEXT": context}
        known = sorted(p for p in (folder / "crds").rglob("*") if p.is_file() and p.name != "server_config")
        paths = self.visit.write_rates(folder / "in")
        for k, path in enumerate(paths if self.speed else []):
            with fits.open(path, mode="update") as file:
                header, way = file["SCI"].header, k * self.speed / 3600
                file[0].header["TARGTYPE"] = "MOVING"
                header["MT_RA"], header["MT_DEC"] = header["RA_REF"] + way, header["DEC_REF"] - way / 2
        return [Input(path, environment, (path, *known)) for path in paths]


def associate(folder: Path, images: list[Path], like: Input, groups: Sequence[str] = ()) -> Input:
    """An association file in ``folder`` of images that are there, perhaps with their ``groups``."""
    name = "jw01234-o001_t001_synthetic"
    named = groups or [None] * len(images)
    members = tuple(
        Member(path.name, "science", group_id=group) for path, group in zip(images, named, strict=True)
    )
    association = Association("image3", "Asn_Lv3Image", 3, "01234", "o001", "t001", (Product(name, members),))
    path = folder / f"{association.name}.json"
    write_association(path, association)
    return Input(path, like.environment, (path, *images, *like.files[1:]))


def _part(detector: str, optics: dict[str, str] | None = None, **how: Any) -> Observation:
    """A part of the detector that touches no edge."""
    usual: dict[str, Any] = {
        "ny": 230,
        "nx": 250,
        "xstart": 21,
        "ystart": 33,
        "subarray": "SUB320",
        "tframe": 10.0,
    }
    extra = {f"instrument.{key}": value for key, value in (optics or {}).items()}
    return Observation(detector=detector, extra=extra | how.pop("extra", {}), **usual | how)


VISITS: tuple[VisitCase, ...] = (
    VisitCase("nircam_long", Visit(_part("NRCALONG"), stars=80, error=15.0)),
    VisitCase("nircam_short", Visit(_part("NRCB2", {"filter": "F200W"}), stars=80, error=8.0), long=True),
    VisitCase("niriss", Visit(_part("NIS", {"filter": "CLEAR", "pupil": "F200W"}), stars=80, error=15.0)),
    VisitCase(
        "miri",
        Visit(_part("MIRIMAGE", {"filter": "F1000W"}, subarray="BRIGHTSKY"), stars=80, error=20.0),
        long=True,
    ),
    VisitCase("fgs", Visit(_part("GUIDER2"), stars=80, error=15.0), long=True),
    VisitCase(
        "subtracted",
        Visit(_part("NRCALONG"), stars=80, dithers=3),
        {
            "skymatch": {"subtract": True, "skymethod": "global+match"},
            "resample": {"weight_type": "exptime", "pixfrac": 0.8, "pixel_scale_ratio": 0.8},
        },
        long=True,
    ),
    VisitCase(
        "grouped", Visit(_part("NRCALONG"), stars=80, error=15.0), groups=("a", "b", "a", "c"), long=True
    ),
    VisitCase(
        "single",
        Visit(_part("NRCALONG"), stars=80),
        {"resample": {"single": True, "propagate_dq": True, "pixel_scale_ratio": 0.8}},
        groups=("a", "b", "a", "c"),
    ),
    VisitCase(
        "moving",
        Visit(_part("NRCALONG"), stars=80, error=15.0),
        speed=0.4,
        long=True,
    ),
)
