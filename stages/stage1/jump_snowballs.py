"""Snowballs of the jump step: cosmic rays that saturate a core and leave a faint halo around what is found.

Group by group of every integration, from the second on, regions (see `jump_ellipses`) are looked for

- of JUMP_DET, at least ``min_jump_area`` pixels large,
- of pixels that are saturated for the first time, and of those that will be in the next group, at least
  ``min_sat_area`` large.

A region of jumps whose centre is nearer than ``edge_size`` to an edge is a snowball, and so is one whose
ellipse holds the centre of a saturated region. Its ellipse, larger by ``expand_factor``, becomes JUMP_DET.
Saturated regions whose minor axis is longer than ``min_sat_radius_extend`` grow by ``sat_expand`` pixels on
all sides: within, this and all later groups are SATURATED and nothing else, and so no longer news to later
groups. No half axis becomes longer than ``max_extended_radius``. With ``mask_snowball_core_next_int`` the
regions as they were become JUMP_DET in the next integration, from the second group to the last that ends
within ``snowball_time_masked_next_int``.

Without ``sat_required_snowball`` every region of jumps is a snowball, and nothing is done to saturated ones.
``use_ellipses`` has no effect: all are ellipses.

As a centre is looked for, the major axis points elsewhere than it does when pixels are flagged. The lower
edge's distance is counted from the number of rows on columns, too: in a subarray that is wider than high,
most of it is near the edge.

Source: JWST pipeline documentation, jump step; all rules were measured, with those of the last paragraph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from upramp.stages.core.dq import JUMP_DET, SATURATED
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.step import Context
from upramp.stages.stage1.jump_ellipses import Ellipse, Outline, Regions, find, paint

ALL = 0xFF


@kernel
def newly_saturated(before, now, grown, new):
    """Set ``new`` where ``now`` is saturated, ``before`` is not, and ``grown`` is 0; how many.

    All uint8, one-dimensional.
    """
    found = 0
    for k in range(new.size):
        bit = now[k] & np.uint8(SATURATED) & ~before[k]
        new[k] = np.uint8(0) if grown[k] else bit
        found += new[k] != 0
    return found


@kernel
def any_near(points, centres, reach, near):
    """Set ``near`` (n; bool) where one of ``points`` (m, 2) is within ``reach`` (n) of ``centres`` (n, 2)."""
    for k in range(len(centres)):
        x, y, r = centres[k, 0], centres[k, 1], reach[k]
        for p in range(len(points)):
            if np.abs(points[p, 0] - x) <= r and np.abs(points[p, 1] - y) <= r:
                near[k] = True
                break


def holds(ellipse: Ellipse, points: np.ndarray) -> bool:
    """Whether an ellipse holds one of ``points`` (n, 2); the angle counts from the columns' axis here."""
    major, minor = max(ellipse.major, ellipse.minor) / 2, min(ellipse.major, ellipse.minor) / 2
    if major == 0 or minor == 0:
        return False
    turn = math.radians(ellipse.angle)
    dx, dy = points[:, 0] - ellipse.x, points[:, 1] - ellipse.y
    along = (dx * math.cos(turn) + dy * math.sin(turn)) / major
    across = (dx * math.sin(turn) - dy * math.cos(turn)) / minor
    return bool((along**2 + across**2 <= 1).any())


def together(outlines: list[Outline]) -> np.ndarray:
    """What `paint` takes."""
    return np.array(outlines, np.float64).reshape(-1, 6)


@dataclass
class Saturation:
    """What saturates in an integration.

    ``centres``: by group, centres of regions that do, or will in the next group: column and row. ``grown``:
    with its group, what becomes saturated from then on. ``cores``: what is flagged in the next integration.
    """

    centres: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    grown: list[tuple[int, Outline]] = field(default_factory=list)
    cores: list[Outline] = field(default_factory=list)


@dataclass(frozen=True)
class _Hunt:
    """What all frames of an exposure are searched with; ``masked``: groups that cores are flagged before."""

    params: Any
    ramps: Ramps
    masked: int

    def saturation(self, i: int) -> Saturation:
        """What saturates in an integration, group by group, for earlier cores hide later ones."""
        p, ramps = self.params, self.ramps
        meta = ramps.meta
        found = Saturation()
        before, now = (ramps.read_flags(i, g) for g in (0, 1))
        grown, new = np.zeros_like(now), np.empty_like(now)
        for g in range(1, meta.ngroups):
            after = ramps.read_flags(i, g + 1) if g + 1 < meta.ngroups else now
            cores, coming = (
                find(new, p.min_sat_area)
                if newly_saturated(a.ravel(), b.ravel(), grown.ravel(), new.ravel())
                else []
                for a, b in ((before, now), (now, after))
            )
            found.centres[g] = [(e.x, e.y) for e in (*cores, *coming)]
            large = [e for e in cores if min(e.minor, e.major) > p.min_sat_radius_extend]
            outlines = [e.outline(e.longer(2 * p.sat_expand, p.max_extended_radius)) for e in large]
            paint(grown, together(outlines), 0, 0, 1)
            found.grown += [(g, outline) for outline in outlines]
            found.cores += [e.outline(e.longer(0, math.inf)) for e in large]
            before, now = now, after
        return found

    def snowballs(self, flags: np.ndarray, centres: np.ndarray) -> list[Ellipse]:
        """The snowballs of a frame, ``centres`` (n, 2) being those of its saturated regions."""
        p = self.params
        regions = Regions(flags & JUMP_DET, p.min_jump_area)
        if not p.sat_required_snowball:
            return [regions.ellipse(k) for k in range(len(regions))]
        ends = (regions.centres < p.edge_size) | (regions.centres > flags.shape[0] - p.edge_size)
        edge, near = ends.any(axis=1), np.zeros(len(regions), bool)
        any_near(centres, regions.centres, regions.reach, near)
        chosen = []
        for k in np.flatnonzero(edge | near).tolist():
            ellipse = regions.ellipse(k)
            if edge[k] or holds(ellipse, centres):
                chosen.append(ellipse)
        return chosen

    def frame(self, i: int, g: int, own: Saturation, last: Saturation) -> int:
        """Flag a frame, ``last`` being the integration before; how many snowballs there are."""
        p = self.params
        flags = self.ramps.read_flags(i, g)
        centres = np.array(own.centres.get(g, []), np.float64).reshape(-1, 2)
        changed = paint(flags, together([o for first, o in own.grown if first < g]), 0, 0, SATURATED)
        snowballs = self.snowballs(flags, centres)
        changed += paint(flags, together([o for first, o in own.grown if first == g]), 0, 0, SATURATED)
        larger = [e.outline(e.half_axes(p.expand_factor, p.max_extended_radius)) for e in snowballs]
        changed += paint(flags, together(larger), SATURATED, ALL, JUMP_DET)
        if g < self.masked:
            changed += paint(flags, together(last.cores), 0, ALL, JUMP_DET)
        if changed:
            self.ramps.write_flags(i, g, flags)
        return len(snowballs)


def search(context: Context, ramps: Ramps, crew: Crew) -> int:
    """Find and flag the snowballs; how many there were."""
    meta, p = ramps.meta, context.params
    masked = int(p.snowball_time_masked_next_int // meta.group_time) if p.mask_snowball_core_next_int else 0
    hunt = _Hunt(p, ramps, masked)
    nothing = Saturation()
    saturation = [nothing] * meta.nints
    if p.sat_required_snowball:
        saturation = crew.each(hunt.saturation, range(meta.nints))

    def one(place: tuple[int, int]) -> int:
        i, g = place
        return hunt.frame(i, g, saturation[i], saturation[i - 1] if i else nothing)

    return sum(crew.each(one, [(i, g) for i in range(meta.nints) for g in range(1, meta.ngroups)]))
