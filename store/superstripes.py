"""Files of stripes, and of superstripes: integrations that make up one by turns (`stages.core.stripes`).

The file has an integration for each superstripe; to the steps those that make up one lie side by side. The
products tell of whole integrations, and keep the times of the superstripes in a table of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.stripes import DETECTOR, Stripes, lines, together
from upramp.store.ramps import RampSource

KEYWORDS = ("MSTR_RD1", "MSTR_SK1", "MSTR_RD2", "MSTR_SK2", "MSTR_RPT", "MSTR_ILV", "SSTR_STP", "SSTR_NST")
"""What headers tell of stripes, in the order of the fields of `Stripes`."""


class Keywords(Protocol):
    """Look-ups in a header that say what is wrong; see `uncal.Keywords`."""

    name: str

    def get(self, keyword: str) -> Any:
        """The value, or None."""

    def whole(self, keyword: str, default: int | None = None, least: int = 1, most: int = 0) -> int:
        """A whole number within these bounds."""

    def fail(self, keyword: str, problem: str) -> Unprocessable:
        """What to raise."""


def striped(kw: Keywords) -> bool:
    """Whether lines were picked. Keywords that are all 0 tell of none."""
    told = [kw.get(keyword) for keyword in KEYWORDS]
    return told[0] is not None and any(told)


def with_stripes(kw: Keywords, meta: ExposureMeta) -> ExposureMeta:
    """The exposure with its stripes; superstripes side by side.

    Raises
    ------
    Unprocessable
        If they contradict each other or the frames, or are of a kind that is not calibrated here.
    """
    if not striped(kw):
        return meta
    told = [kw.whole(k, default=0, least=0, most=DETECTOR) for k in KEYWORDS]
    found = Stripes(*told)
    n, across = found.regions, abs(meta.slowaxis) == 1
    length = meta.nx if across else meta.ny
    samples = length > found.reads1 + (found.reads2 or found.step)
    if meta.instrument == "MIRI":
        raise kw.fail("MSTR_RD1", f"is {found.reads1}, but mid-infrared detectors are not read in stripes")
    if samples and found.repeat and (n > 1 or not found.interleave):
        raise Unprocessable(
            f"{kw.name}: stripes that are read again within a frame (MSTR_RPT = {found.repeat}, MSTR_ILV = "
            f"{found.interleave}, SSTR_NST = {found.count}) are not calibrated by this version"
        )
    for keyword, value in (("NINTS", meta.nints_total), ("INTEND", meta.int_end), ("NAXIS4", meta.nints)):
        if value % n:
            raise kw.fail(
                keyword, f"is {value}, no multiple of the {n} superstripes of an integration (SSTR_NST)"
            )
    changes: dict[str, Any] = {
        "nints": meta.nints // n,
        "nints_total": meta.nints_total // n,
        "int_start": (meta.int_start - 1) // n + 1,
        "int_end": meta.int_end // n,
    }
    changes |= {"nx": n * meta.nx} if across else {"ny": n * meta.ny}
    made = replace(meta, stripes=found, **changes)
    try:
        whole = together(made)[0] if n > 1 else made
        lines(made)
    except ValueError as error:
        raise kw.fail(
            "MSTR_RD2", f"is {found.reads2}, and with all other MSTR and SSTR keywords {error}"
        ) from None
    if whole.nx > made.nx or whole.ny > made.ny:
        raise kw.fail("SSTR_NST", f"is {n}, but so many superstripes do not cover the region between them")
    return made


@dataclass
class SuperstripeSource:
    """Reads windows of regions that lie side by side; see `RampSource`.

    ``file`` reads what lies in the file; there are ``regions`` of ``length`` lines, along the last axis of
    frames if ``across``, else along the last but one.
    """

    file: RampSource
    regions: int
    length: int
    across: bool

    def read(self, out: np.ndarray, y0: int, x0: int, i0: int = 0) -> None:
        """Fill ``out`` [rows, nints, ngroups, columns] float32; see `RampSource.read`."""
        rows, nints, ngroups, columns = out.shape
        lo, count = (x0, columns) if self.across else (y0, rows)
        for region in range(lo // self.length, -(-(lo + count) // self.length)):
            first, last = max(lo, region * self.length), min(lo + count, (region + 1) * self.length)
            at, there = slice(first - lo, last - lo), first - region * self.length
            part = out[..., at] if self.across else out[at]
            y, x = (y0, there) if self.across else (there, x0)
            own = np.empty((part.shape[0], 1, ngroups, part.shape[3]), np.float32)
            for i in range(nints):
                self.file.read(own, y, x, (i0 + i) * self.regions + region)
                part[:, i] = own[:, 0]

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.file.close()

    def __enter__(self) -> SuperstripeSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def whole_times(times: np.ndarray, regions: int) -> np.ndarray:
    """INT_TIMES of whole integrations: from the first superstripe's start to the last one's end.

    The middle is that of both. Superstripes at the end that make no whole integration are left out.
    """
    n = len(times) // regions
    groups = times[: n * regions].reshape(n, regions)
    found = groups[:, 0].copy()
    found["integration_number"] = np.arange(n) + 1
    for scale in ("MJD_UTC", "BJD_TDB"):
        begin, end = groups[f"int_start_{scale}"][:, 0], groups[f"int_end_{scale}"][:, -1]
        found[f"int_end_{scale}"] = end
        found[f"int_mid_{scale}"] = (begin + end) / 2
    return found


def stripe_times(times: np.ndarray, regions: int) -> np.ndarray:
    """The table of superstripes: their integration and their number in it, from 1, beside their times."""
    names = [name for name in times.dtype.names or () if name != "integration_number"]
    kinds = [("integration_number", ">i4"), ("stripe_number", ">i4"), *((name, ">f8") for name in names)]
    found = np.empty(len(times), kinds)
    place = np.arange(len(times))
    found["integration_number"], found["stripe_number"] = place // regions + 1, place % regions + 1
    for name in names:
        found[name] = times[name]
    return found


def cards(meta: ExposureMeta) -> dict[str, Any]:
    """Keywords of products: those of whole integrations, and none of stripes.

    ``meta``: the exposure once its superstripes were put together.
    """
    return {
        "NINTS": meta.nints_total,
        "INTSTART": meta.int_start,
        "INTEND": meta.int_end,
        "SUBSTRT1": meta.xstart,
        "SUBSTRT2": meta.ystart,
        "SUBSIZE1": meta.nx,
        "SUBSIZE2": meta.ny,
        **dict.fromkeys(KEYWORDS),
    }
