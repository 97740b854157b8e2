"""The truth about one detector: what a perfect calibration would know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from upramp.simulate.layout import BORDER, LAYOUTS, Layout
from upramp.stages.core import dq

HOT_RATE = 1.0
"""Dark rate from which a pixel counts as hot, DN/s."""


@dataclass(frozen=True)
class Detector:
    """Pixel by pixel properties, each of shape (ny, nx) in the science frame.

    Attributes
    ----------
    superbias : float32
        Level right after the reset, DN.
    read_noise : float32
        Standard deviation of one read, DN.
    gain : float32
        Electrons per DN.
    dark_rate : float32
        DN/s.
    saturation : float32
        Raw level (superbias included) above which a pixel must not be trusted, DN.
    linearity : float32, shape (4, ny, nx)
        Coefficients that turn measured into linear counts: ``c0 + c1 x + c2 x^2 + c3 x^3``.
    flat : float32
        Relative response.
    mask : uint32
        Flags of reference and bad pixels.
    ipc : float64, shape (3, 3), or None
        How charge shows up in the neighbours; sums to 1.
    """

    layout: Layout
    superbias: np.ndarray
    read_noise: np.ndarray
    gain: np.ndarray
    dark_rate: np.ndarray
    saturation: np.ndarray
    linearity: np.ndarray
    flat: np.ndarray
    mask: np.ndarray
    ipc: np.ndarray | None = None

    @property
    def name(self) -> str:
        """DETECTOR."""
        return self.layout.detector

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ny, nx = self.mask.shape
        return ny, nx

    @property
    def reference_pixels(self) -> np.ndarray:
        """Pixels that see no light."""
        return (self.mask & dq.REFERENCE_PIXEL) != 0

    @property
    def hot(self) -> np.ndarray:
        """Pixels with a large dark current."""
        return self.dark_rate >= HOT_RATE

    def cut(self, window: tuple[slice, slice]) -> Detector:
        """The same properties of a window only.

        Raises
        ------
        ValueError
            If the window reaches beyond the detector.
        """
        rows, columns = window
        if rows.start < 0 or columns.start < 0 or rows.stop > self.shape[0] or columns.stop > self.shape[1]:
            raise ValueError(f"rows {rows}, columns {columns} reach beyond the detector's {self.shape}")
        planes = ("superbias", "read_noise", "gain", "dark_rate", "saturation", "flat", "mask")
        cut = {p: getattr(self, p)[window] for p in planes}
        return replace(self, **cut, linearity=self.linearity[(slice(None), *window)])

    def linearize(self, measured: np.ndarray) -> np.ndarray:
        """Linear counts for measured ones above the superbias, DN."""
        c0, c1, c2, c3 = self.linearity
        return c0 + measured * (c1 + measured * (c2 + measured * c3))

    def respond(self, signal: np.ndarray) -> np.ndarray:
        """Raw counts for linear ones, DN: in the mid infrared the curve counts from zero, elsewhere above
        the superbias.
        """
        if self.layout.mid_infrared:
            return self.unlinearize(signal + self.superbias)
        return self.unlinearize(signal)

    def unlinearize(self, linear: np.ndarray) -> np.ndarray:
        """Measured counts for linear ones, DN: Newton's method on ``linearize``, to float32 accuracy."""
        c0, c1, c2, c3 = self.linearity
        x = linear.astype(np.float32, copy=True)
        for _ in range(4):
            value = c0 + x * (c1 + x * (c2 + x * c3)) - linear
            x -= value / (c1 + x * (2 * c2 + 3 * c3 * x))
        return x


def draw(
    name: str = "NRCALONG",
    ny: int = 0,
    nx: int = 0,
    *,
    seed: int = 1,
    bad: float = 1e-3,
    hot: float = 5e-4,
    ipc: float = 0.0,
    border: int = BORDER,
) -> Detector:
    """Draw a detector from a seed.

    Parameters
    ----------
    name : str
        DETECTOR.
    ny, nx : int
        Size; 0 stands for that of the real one.
    bad, hot : float
        Fractions of dead and of hot pixels.
    ipc : float
        Fraction of a pixel's charge that shows in each of its four neighbours.
    border : int
        Width of the frame of reference pixels.

    Raises
    ------
    ValueError
        If the detector is unknown.
    """
    if name not in LAYOUTS:
        raise ValueError(f"unknown detector {name!r}; known are {', '.join(LAYOUTS)}")
    rng = np.random.default_rng([seed, *name.encode()])
    layout = LAYOUTS[name]
    ny, nx = ny or layout.shape[0], nx or layout.shape[1]
    shape = (ny, nx)

    def normal(mean: float, sigma: float) -> np.ndarray:
        plane = rng.standard_normal(shape, dtype=np.float32)
        plane *= np.float32(sigma)
        plane += np.float32(mean)
        return plane

    mask = np.full(shape, dq.REFERENCE_PIXEL, np.uint32)
    above = 0 if layout.mid_infrared else border
    mask[above : ny - above, border : nx - border] = 0
    light = mask == 0
    dead = (rng.random(shape, dtype=np.float32) < bad) & light
    mask[dead] |= np.uint32(dq.DO_NOT_USE | dq.DEAD)

    dark_rate = np.abs(normal(0.02, 0.01))
    is_hot = (rng.random(shape, dtype=np.float32) < hot) & light
    dark_rate[is_hot] = rng.uniform(2 * HOT_RATE, 30, int(is_hot.sum()))
    dark_rate[~light] = 0

    stripe = np.minimum(np.arange(nx) * 4 // nx, 3) if layout.fast_is_x else None
    if layout.mid_infrared:
        stripe = np.arange(nx) % 4
    amplifier = stripe[None, :] if stripe is not None else np.minimum(np.arange(ny) * 4 // ny, 3)[:, None]
    gains = (1.85 + 0.03 * rng.standard_normal(4)).astype(np.float32)

    linearity = np.empty((4, *shape), np.float32)
    linearity[0], linearity[1] = 0, 1
    linearity[2], linearity[3] = normal(1.6e-6, 8e-8), normal(3e-12, 3e-13)

    waves = 600 * np.sin(np.arange(nx, dtype=np.float32) / 97)[None, :]
    kernel = None
    if ipc:
        kernel = np.array([[0, ipc, 0], [ipc, 1 - 4 * ipc, ipc], [0, ipc, 0]])
    return Detector(
        layout=layout,
        superbias=normal(8000, 60) + waves if layout.mid_infrared else normal(12000, 60) + waves,
        read_noise=np.abs(normal(4.3, 0.4)),
        gain=np.broadcast_to(gains[amplifier], shape).copy(),
        dark_rate=dark_rate,
        saturation=normal(58000, 900).clip(50000, 62000),
        linearity=linearity,
        flat=normal(1, 0.02).clip(0.5, 1.5),
        mask=mask,
        ipc=kernel,
    )
