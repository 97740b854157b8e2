"""assign_mtwcs: exposures of a moving target, centred on the target.

    (ra, dec)' = (ra, dec) + (<MT_RA> - MT_RA, <MT_DEC> - MT_DEC)

MT_RA, MT_DEC are where the target is in the middle of an exposure; the mean is over all exposures. A frame
``moving_target`` behind ``world`` holds the shift, so that what combines exposures by their sky positions
combines the target with itself. Source: JWST pipeline documentation, assign_mtwcs step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from upramp.stages.stage3.members import Change, CommonStep, Means, Member
from upramp.stages.wcs.approximation import s_region

FRAME = "moving_target"


@dataclass(frozen=True)
class Params:
    """Parameters of assign_mtwcs. They concern files alone."""

    skip: bool = False
    suffix: str = "assign_mtwcs"
    output_use_model: bool = True


def moving(members: Sequence[Member]) -> bool:
    """Whether the target moves (TARGTYPE), so that the step is called for."""
    return any(str(m.cards.get("TARGTYPE") or "").strip().upper() == "MOVING" for m in members)


def shifted(wcs: Any, ra: float, dec: float) -> Any:
    """The WCS with one more frame, that many degrees further on in right ascension and declination."""
    from astropy.coordinates import ICRS
    from astropy.modeling.models import Shift
    from gwcs import WCS
    from gwcs.coordinate_frames import CelestialFrame

    steps = [(step.frame, step.transform) for step in wcs.pipeline[:-1]]
    last = wcs.pipeline[-1].frame
    target = CelestialFrame(name=FRAME, reference_frame=ICRS(), unit=last.unit)
    made = WCS([*steps, (last, Shift(ra) & Shift(dec)), (target, None)], name=wcs.name)
    if wcs.bounding_box is not None:
        made.bounding_box = wcs.bounding_box
    return made


def mean_position(places: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean right ascension and declination, degrees; right ascensions may lie on both sides of 0."""
    ras = [ra for ra, _ in places]
    if max(ras) - min(ras) > 180.0:
        ras = [ra - 360.0 if ra > 180.0 else ra for ra in ras]
    return sum(ras) / len(ras) % 360.0, sum(dec for _, dec in places) / len(places)


def run(members: Sequence[Member], params: Params, means: Means) -> list[Change]:
    """The shifted WCS of each member, its footprint, and the mean position (MT_AVRA, MT_AVDEC).

    If an exposure does not tell where the target is, all stay as they are.
    """
    places = []
    for member in members:
        ra, dec = member.cards.get("MT_RA"), member.cards.get("MT_DEC")
        if ra is None or dec is None:
            why = f"{member.name} does not tell where the target is (MT_RA, MT_DEC); no exposure was shifted"
            return [Change(reason=why) for _ in members]
        places.append((float(ra), float(dec)))
    ra0, dec0 = mean_position(places)
    changes = []
    for member, (ra, dec) in zip(members, places, strict=True):
        way = ra0 - ra
        wcs = shifted(member.wcs, way - 360 * round(way / 360), dec0 - dec)
        cards = {"MT_AVRA": ra0, "MT_AVDEC": dec0, "S_REGION": s_region(wcs)}
        changes.append(Change(sci=cards, wcs=wcs))
    return changes


STEP = CommonStep(name="assign_mtwcs", keyword="S_MTWCS", params=Params, run=run, pars="pars-assignmtwcsstep")
