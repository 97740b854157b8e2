"""ipc: undo the capacitive coupling between neighbouring pixels.

    F'[y, x] = sum over i, j of K[i, j] F[y + h - i, x + w - j]

K is a kernel of (2h + 1) x (2w + 1) pixels, one for the whole detector or one for every pixel
[y, x]. Reference pixels stay as they are and contribute nothing, nor does what lies outside the
exposure. A NaN spreads over the kernel. Source: JWST pipeline documentation, ipc step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window

PLANE = "ipc.counts"
BORDER = 4  # reference pixels on every side of a near-infrared detector, on two sides of MIRI's
NEAR_INFRARED, MIRI = (2048, 2048), (1024, 1032)  # detector rows and columns


@dataclass(frozen=True)
class Params:
    """Parameters of ipc."""

    skip: bool = False


@kernel
def convolve(data, counts, weights, first, y0, x0, light):
    """Replace rows of ramps by the convolution of ``counts`` with the kernel.

    ``data`` (rows, nints, ngroups, columns) float32; row 0 of it is row ``first`` of ``counts`` and row
    ``y0`` of the exposure, column 0 is column ``x0``. ``weights`` float32 (2h + 1, 2w + 1, ny or 1, nx or 1);
    ``light``: as `lit` gives it.
    """
    rows, nints, ngroups, columns = data.shape
    h, w = weights.shape[0] // 2, weights.shape[1] // 2
    top, bottom = light[0] - y0, light[1] - y0
    left, right = max(light[2] - x0, 0), min(light[3] - x0, columns)
    places, middle = (2 * h + 1) * (2 * w + 1), (2 * h + 1) * (2 * w + 1) // 2
    total = np.empty(columns, np.float32)
    for r in range(max(top, 0), min(bottom, rows)):
        for i in range(nints):
            for g in range(ngroups):
                total[:] = 0
                for n in range(places + 1):
                    # the pixel itself comes last, as in the observatory's package: roundings agree
                    place = places - 1 - n if n < places else middle
                    if place == middle and n < places:
                        continue
                    dy, dx = place // (2 * w + 1) - h, place % (2 * w + 1) - w
                    y = first + r + dy
                    if not top <= r + dy < bottom or not 0 <= y < counts.shape[0]:
                        continue
                    a, b = max(left, left - dx), min(right, right - dx)
                    near, into = counts[y, i, g, a + dx : b + dx], total[a:b]
                    if weights.shape[2] == 1:
                        k = weights[h - dy, w - dx, 0, 0]
                        for c in range(b - a):
                            into[c] += k * near[c]
                    else:
                        kernels = weights[h - dy, w - dx, y0 + r, x0 + a : x0 + b]
                        for c in range(b - a):
                            into[c] += kernels[c] * near[c]
                d = data[r, i, g]
                for c in range(left, right):
                    d[c] = total[c]


def lit(meta: ExposureMeta) -> tuple[int, int, int, int]:
    """First row, end row, first column, end column (of the exposure's array) that see light."""
    ny, nx = MIRI if meta.instrument == "MIRI" else NEAR_INFRARED
    border = 0 if meta.instrument == "MIRI" else BORDER
    x0, y0 = meta.xstart - 1, meta.ystart - 1
    return (
        max(border - y0, 0),
        min(ny - border - y0, meta.ny),
        max(BORDER - x0, 0),
        min(nx - BORDER - x0, meta.nx),
    )


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Bring the kernel, or the kernels cut to the exposure, to four axes.

    Raises
    ------
    Misconfigured
        If it has neither two nor four axes, or an even number of pixels.
    """
    weights = raw.array("SCI")
    if weights.ndim not in (2, 4) or weights.shape[0] % 2 == 0 or weights.shape[1] % 2 == 0:
        raise Misconfigured(
            f"ipc reference {raw.name} has shape {weights.shape}; it must be a kernel of odd size, "
            "one for all pixels (2 axes) or one for each (4 axes)"
        )
    if weights.ndim == 2:
        return Prepared({"kernel": native(weights[:, :, None, None], np.float32)})
    return Prepared({"kernel": native(weights[:, :, *window(raw, meta, weights.shape)], np.float32)})


def bind(context: Context) -> Bound:
    """Make two stations for one exposure: keep the counts, convolve them."""
    stripes = context.meta.stripes
    if stripes is not None and stripes.regions > 1:
        raise Unprocessable(
            f"{context.meta.subarray} is read in {stripes.regions} superstripes, whose neighbours ipc "
            "does not know; leave steps.ipc.skip = true for it"
        )
    weights = context.references["ipc"]["kernel"]
    light = lit(context.meta)
    halo = max(weights.shape[0] // 2, weights.shape[1] // 2)

    def copy(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        np.copyto(w.planes[PLANE][s], w.data[s])

    def correct(w: Window, lo: int, hi: int) -> None:
        near, first = w.haloed(lo, hi, halo)
        convolve(w.data[w.rows(lo, hi)], w.planes[PLANE][near], weights, first, lo, w.x0, light)

    return Bound([Station(copy, planes={PLANE: np.float32}), Station(correct, halo=halo)])


STEP = Step(
    name="ipc",
    keyword="S_IPC",
    params=Params,
    bind=bind,
    references=("ipc",),
    prepare={"ipc": prepare},
    pars="pars-ipcstep",
)
