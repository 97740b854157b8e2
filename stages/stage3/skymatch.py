"""skymatch: levels of the sky that make exposures agree where they overlap.

    local           b_i = s_i                         s: level of the sky of a whole image
    global          b_i = min s
    match           sum over pairs of w_ij^2 (b_i - b_j - (s_ij - s_ji))^2 least, the least (or greatest) b 0
    global+match    b_i of match + min (s_i - b_i)

s_ij is the level of image i where it overlaps j, w_ij = (n_ij + n_ji) / 2 the number of pixels that went into
it. Images of one exposure (of several detectors) share a level: s_ij is then the mean of theirs, weighted
with n_ij, and s_i the least of theirs. How levels are measured: ``skymatch_statistics.py``; what overlaps:
``skymatch_overlap.py``. Source: JWST pipeline documentation, skymatch step; w, and what exposures of several
images get, was measured.

Images are read one after the other, once each. Held are footprints, and sums for each pair of exposures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from upramp.stages.core.dq import unwanted
from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.image import Image
from upramp.stages.stage3.members import Change, CommonStep, Means, Member, groups_of
from upramp.stages.stage3.skymatch_overlap import (
    Footprint,
    corners,
    fill,
    footprint,
    overlap,
    pixels_of,
    union,
)
from upramp.stages.stage3.skymatch_statistics import STATISTICS, gather, sky_level

METHODS = ("local", "global", "match", "global+match", "user")


@dataclass(frozen=True)
class Params:
    """Parameters of skymatch.

    ``in_memory`` has no effect: images are read one after the other.
    """

    skip: bool = False
    skymethod: str = "match"
    match_down: bool = True
    subtract: bool = False
    skylist: str | None = None
    stepsize: int | None = None
    skystat: str = "mode"
    dqbits: str = "~DO_NOT_USE+NON_SCIENCE"
    lower: float | None = None
    upper: float | None = None
    nclip: int = 5
    lsigma: float = 4.0
    usigma: float = 4.0
    binwidth: float = 0.1
    in_memory: bool = True

    def __post_init__(self) -> None:
        if self.skymethod not in METHODS:
            raise ValueError(f"skymethod must be one of {', '.join(METHODS)}, not {self.skymethod!r}")
        if self.skystat not in STATISTICS:
            raise ValueError(f"skystat must be one of {', '.join(STATISTICS)}, not {self.skystat!r}")
        for name in ("nclip", "lsigma", "usigma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        if not self.binwidth > 0:
            raise ValueError(f"binwidth must be more than 0, not {self.binwidth}")
        unwanted(self.dqbits)


class Room:
    """Working memory of one thread for images up to a size."""

    def __init__(self, pixels: int) -> None:
        self.inside = np.empty(pixels, np.bool_)
        self.values = np.empty(pixels + 1, np.float32)


def level_of(image: Image, polygons: Sequence[np.ndarray] | None, p: Params, room: Room) -> tuple[float, int]:
    """Level of the sky within polygons of pixels, or in all of an image; NaN if there is none; its pixels."""
    inside = room.inside[: image.sci.size].reshape(image.sci.shape)
    inside[:] = polygons is None
    for polygon in polygons or ():
        fill(inside, corners(polygon))
    n = gather(image.sci, image.dq, inside, np.uint32(unwanted(p.dqbits)), room.values)
    level, used = sky_level(
        room.values[:n],
        np.float32(-np.inf if p.lower is None else p.lower),
        np.float32(np.inf if p.upper is None else p.upper),
        p.nclip,
        float(p.lsigma),
        float(p.usigma),
        float(p.binwidth),
        STATISTICS[p.skystat],
    )
    return float(level), int(used)


@dataclass(frozen=True)
class Measured:
    """Levels of n groups: ``own`` (n), ``level[g, h]`` of group g where it overlaps h, and its pixels."""

    own: np.ndarray
    level: np.ndarray
    pixels: np.ndarray


def measure(members: Sequence[Member], groups: Sequence[Sequence[int]], p: Params, means: Means) -> Measured:
    """Levels of all groups, by themselves and where they overlap, as far as the method needs them.

    An image is read once, and let go of before the next.
    """
    n = len(groups)
    own, sums, pixels = np.full(n, np.nan), np.zeros((n, n)), np.zeros((n, n))
    pairs, alone = "match" in p.skymethod, p.skymethod != "match"
    prints: list[list[Footprint]] = []
    whole: list[Footprint] = []
    if pairs:
        prints = [
            [footprint(members[k].wcs, members[k].shape, p.stepsize) for k in group] for group in groups
        ]
        whole = [union(own_prints) for own_prints in prints]
    rooms: SimpleQueue[Room] = SimpleQueue()
    largest = max(m.shape[0] * m.shape[1] for m in members)
    for _ in range(means.crew.threads):
        rooms.put(Room(largest))
    for g, group in enumerate(groups):
        for place, k in enumerate(group):
            jobs: list[tuple[int, list[np.ndarray] | None]] = []
            if alone:
                jobs.append((g, None))
            if pairs:
                met = ((h, overlap(prints[g][place], whole[h])) for h in range(n) if h != g)
                pixel = pixels_of(members[k].wcs)
                jobs += [(h, [pixel(polygon) for polygon in polygons]) for h, polygons in met if polygons]
            if not jobs:
                continue
            image = members[k].read("SCI", "DQ")

            def work(job: tuple[int, list[np.ndarray] | None], image: Image = image) -> tuple[float, int]:
                room = rooms.get()
                try:
                    return level_of(image, job[1], p, room)
                finally:
                    rooms.put(room)

            for (h, polygons), (level, used) in zip(jobs, means.crew.each(work, jobs), strict=True):
                if polygons is None:
                    own[g] = np.fmin(own[g], level)
                elif used:
                    sums[g, h] += level * used
                    pixels[g, h] += used
    level = np.divide(sums, pixels, out=np.full((n, n), np.nan), where=pixels > 0)
    return Measured(own, level, pixels)


def matched(level: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Levels that make groups agree where they overlap, their mean 0 among those that hang together.

    Parameters
    ----------
    level, pixels : ndarray (n, n)
        See `Measured`.

    Returns
    -------
    ndarray (n,)
        NaN for a group that overlaps with none.
    """
    both = (pixels > 0) & (pixels.T > 0)
    if not both.any():
        return np.full(len(level), np.nan)
    weights = np.where(both, (pixels + pixels.T) / 2, 0.0)
    weights = (weights / weights.max()) ** 2
    differences = np.where(both, level - level.T, 0.0)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    levels = np.linalg.lstsq(laplacian, (weights * differences).sum(axis=1), rcond=None)[0]
    return np.where(both.any(axis=1), levels, np.nan)


def levels_of(measured: Measured, p: Params) -> np.ndarray:
    """Levels of all groups by the chosen method; NaN where there is none."""
    if p.skymethod == "local":
        return measured.own
    if p.skymethod == "global":
        return np.full(len(measured.own), _least(measured.own))
    levels = matched(measured.level, measured.pixels)
    if not np.isnan(levels).all():
        levels = levels - (np.nanmin(levels) if p.match_down else np.nanmax(levels))
    if p.skymethod == "match":
        return levels
    levels = np.nan_to_num(levels)
    return levels + _least(measured.own - levels)


def _least(levels: np.ndarray) -> float:
    return float(np.nanmin(levels)) if not np.isnan(levels).all() else np.nan


def known_level(member: Member, p: Params) -> float:
    """The level that was subtracted from a member earlier; 0 if none was.

    Raises
    ------
    Unprocessable
        If its header says one thing without the other.
    Misconfigured
        If ``subtract`` would mix subtracted levels with others.
    """
    level, subtracted = member.cards.get("BKGLEVEL"), member.cards.get("BKGSUB")
    if level is None and not subtracted:
        return 0.0
    if level is None or subtracted is None:
        raise Unprocessable(
            f"{member.name}: BKGLEVEL is {level!r}, but BKGSUB is {subtracted!r}: one tells nothing without "
            "the other; calibrate the exposure again from its rate file"
        )
    if bool(subtracted) != p.subtract:
        done = "has been" if subtracted else "has not been"
        raise Misconfigured(
            f"{member.name}: the sky {done} subtracted (BKGSUB), which does not go with "
            f"steps.skymatch.subtract = {str(p.subtract).lower()}; set it to {str(not p.subtract).lower()}"
        )
    return float(level) if subtracted else 0.0


def listed(text: str, members: Sequence[Member], path: str) -> list[float]:
    """Levels of the user's: lines of file name and level, one for each member.

    Raises
    ------
    Misconfigured
        If a line is not like that, or the list is not one of the members.
    """
    found: dict[str, float] = {}
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, row in enumerate(rows, 1):
        try:
            name, level = row
            found[_stem(name)] = float(level)
        except ValueError:
            raise Misconfigured(
                f"line {number} of {path} is {' '.join(row)!r}, but should be a file name and a level"
            ) from None
    if len(rows) != len(members):
        raise Misconfigured(
            f"{path} has {len(rows)} levels for {len(members)} images; it needs one line for each image"
        )
    lacking = [m.name for m in members if _stem(m.name) not in found]
    if lacking:
        raise Misconfigured(f"{path} has no line for {', '.join(lacking)}; add them")
    return [found[_stem(m.name)] for m in members]


def _stem(name: str) -> str:
    """A file's name without the ending that tells the kind of product."""
    bare = name.rpartition("/")[2].rpartition(".")[0] or name
    return bare.rpartition("_")[0] or bare


def run(members: Sequence[Member], params: Params, means: Means) -> list[Change]:
    """The level of each member: BKGLEVEL, BKGMETH, BKGSUB, and what is subtracted.

    Parameters
    ----------
    members : sequence of Member
    params : Params
    means : Means
        ``text`` reads ``skylist``.

    Raises
    ------
    Misconfigured
        If ``skylist`` is not what it should be, or ``subtract`` does not go with the headers.
    Unprocessable
        If a header contradicts itself.
    """
    p, groups = params, groups_of(members)
    before = [0.0] * len(members)
    if p.skymethod == "user":
        if not p.skylist:
            raise Misconfigured("skymethod is 'user', but steps.skymatch.skylist names no file; give one")
        try:
            text = means.text(p.skylist)
        except (OSError, ValueError) as error:
            raise Misconfigured(f"steps.skymatch.skylist {p.skylist} cannot be read: {error}") from error
        levels = np.array(listed(text, members, p.skylist))
    else:
        before = [known_level(member, p) for member in members]
        by_group = levels_of(measure(members, groups, p, means), p)
        levels = np.empty(len(members))
        for group, level in zip(groups, by_group, strict=True):
            levels[group] = level
    return [_change(float(level), known, p) for level, known in zip(levels, before, strict=True)]


def _change(level: float, before: float, p: Params) -> Change:
    if np.isnan(level):
        reason = (
            "it overlaps with no other image" if p.skymethod == "match" else "no pixel is left to measure"
        )
        return Change("SKIPPED", reason)
    cards: dict[str, Any] = {"BKGMETH": p.skymethod, "BKGLEVEL": level + before, "BKGSUB": p.subtract}
    return Change(primary=cards, offset=level if p.subtract else 0.0)


STEP = CommonStep(name="skymatch", keyword="S_SKYMAT", params=Params, run=run, pars="pars-skymatchstep")
