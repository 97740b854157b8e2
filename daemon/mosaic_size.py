"""Whether a mosaic fits into this machine, asked before it is begun.

An exposure of another field among the members makes a grid that reaches from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from upramp.daemon.machine import memory_mb
from upramp.daemon.planning import PlannedStep
from upramp.stages.core.errors import NotApplicable, Unprocessable
from upramp.stages.resample.given import Given
from upramp.stages.resample.grid import Grid
from upramp.stages.stage3 import resample
from upramp.stages.stage3.members import Member

OF_MOSAIC = 32
"""Bytes that a pixel of a mosaic takes at the least: value, weight, error and variances as written."""

OF_MEDIAN = 8
"""Bytes that a pixel of the median takes that outlier_detection compares with, and one group on its grid."""


def refuse_too_large(
    name: str,
    members: Sequence[Member],
    combining: PlannedStep,
    comparing: PlannedStep,
    given: Given | None = None,
) -> None:
    """Refuse what no memory here can hold.

    Parameters
    ----------
    name : str
        Of the association, for the message.
    members : sequence of Member
    combining, comparing : PlannedStep
        resample and outlier_detection.
    given : Given, optional
        The grid of ``output_wcs``.

    Raises
    ------
    Unprocessable
        If the mosaic takes more memory than the machine has; with the exposure that lies furthest off.
    """
    try:
        if comparing.runs and comparing.params.resample_data and len(members) > 1:
            grid, _ = resample.grid_of(members, comparing.params.resampling())
            remedy = "or set steps.outlier_detection.skip = true"
            _refuse(name, "the median of outlier_detection", members, grid, OF_MEDIAN, remedy)
        grid, _ = resample.grid_of(members, combining.params, given)
        remedy = "or set steps.resample.pixel_scale, or crval and output_shape"
        _refuse(name, "its mosaic", members, grid, OF_MOSAIC, remedy)
    except NotApplicable:
        return  # an image without a place on the sky: the steps themselves say so


def _refuse(name: str, what: str, members: Sequence[Member], grid: Grid, of_pixel: int, remedy: str) -> None:
    ny, nx = grid.shape
    needed, here = nx * ny * of_pixel / 1e9, memory_mb() / 1e3
    if needed <= here:
        return
    far, apart = resample.furthest(members)
    raise Unprocessable(
        f"{name}: {what} would have {nx} x {ny} pixels, which take {needed:.0f} GB at the least, and "
        f"this machine has {here:.0f} GB; {members[far].name} lies {apart:.3f} degrees from "
        f"{members[0].name}: take out what belongs elsewhere, {remedy}"
    )
