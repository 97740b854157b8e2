"""Truth against products: how far slopes lie from what was put in, in units of their stated errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

MEAN_TOLERANCE = 0.05
WIDTH_TOLERANCE = 0.1


@dataclass(frozen=True)
class Recovery:
    """Mean and standard deviation of (measured - true) / ERR over ``n`` good of ``total`` pixels."""

    mean: float
    width: float
    n: int
    total: int

    @property
    def good(self) -> bool:
        """Whether slopes are unbiased and errors honest."""
        return abs(self.mean) <= MEAN_TOLERANCE and abs(self.width - 1) <= WIDTH_TOLERANCE


def deviations(
    sci: np.ndarray, err: np.ndarray, dq: np.ndarray, truth: np.ndarray, *, allow: int = 0
) -> np.ndarray:
    """(measured - true) / ERR of the good pixels, 1-d, float64.

    Good are pixels without flags but those in ``allow``, with finite values, a positive error and a
    positive truth (reference pixels see nothing). ``truth`` broadcasts to the others' shape.
    """
    truth = np.broadcast_to(truth, sci.shape)
    good = (dq & ~np.uint32(allow)) == 0
    good &= np.isfinite(sci) & np.isfinite(err) & (err > 0) & (truth > 0)
    return (sci[good].astype(np.float64) - truth[good]) / err[good]


def recovery(
    rate_path: Path | str, truth: np.ndarray, curve: np.ndarray | None = None, *, allow: int = 0
) -> Recovery:
    """Hold a rate or rateints product against the truth.

    Parameters
    ----------
    rate_path : path
        The product.
    truth : ndarray, shape (ny, nx)
        Photon rate, DN/s.
    curve : ndarray, shape (nints,), optional
        Brightness of each integration of a rateints product, as a factor on ``truth``; 1 by default.
    allow : int
        Flags that good pixels may carry.

    Raises
    ------
    ValueError
        If shapes do not fit, or no pixel is good.
    """
    n, total, mean, square = 0, 0, 0.0, 0.0
    with fits.open(rate_path) as hdus:
        sci, err, dq = (hdus[name].data for name in ("SCI", "ERR", "DQ"))
        frames = sci.ndim == 3
        factors = np.ones(len(sci) if frames else 1) if curve is None else np.asarray(curve, np.float64)
        if sci.shape[-2:] != truth.shape or factors.shape != ((len(sci),) if frames else (1,)):
            raise ValueError(
                f"{rate_path}: pixels {sci.shape} do not fit a truth of {truth.shape} x {factors.shape}"
            )
        for i, factor in enumerate(factors):
            at = i if frames else slice(None)
            z = deviations(sci[at], err[at], dq[at], truth * factor, allow=allow)
            n, total = n + z.size, total + truth.size
            mean, square = mean + z.sum(), square + (z * z).sum()
    if not n:
        raise ValueError(f"{rate_path}: no good pixel to compare with the truth")
    mean /= n
    return Recovery(float(mean), float(np.sqrt(max(square / n - mean**2, 0.0))), n, total)
