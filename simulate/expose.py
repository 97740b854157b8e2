"""Read a detector up the ramp: photons become counts, frame by frame.

Charge gathers between frames: Poisson draws (the normal approximation where a frame brings more than
1000 electrons to a pixel), cosmic rays. Each frame is then measured: non-linear response, crosstalk
between neighbours, bias, amplifier offsets, odd-even offsets, row-wise drift, read noise, saturation.
Frames of a group are digitised, summed and divided in integers, as the detector electronics do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from upramp.simulate.detector import Detector
from upramp.simulate.effects import Effect
from upramp.simulate.layout import Layout
from upramp.simulate.observation import Observation

MANY = 1000.0
"""Electrons from which a Poisson draw is taken from the normal distribution."""

WELL = 1.03
"""Where the signal stops for good, in units of the saturation level."""

COSMIC_RAY = np.dtype([("integration", "i4"), ("group", "i4"), ("y", "i4"), ("x", "i4"), ("electrons", "f4")])
"""One cosmic ray: 0-based place, and the first group that shows some of its charge."""


@dataclass(frozen=True)
class Noise:
    """What the electronics add; standard deviations in DN.

    Attributes
    ----------
    amplifier : float
        Offset of each amplifier, drawn anew for every frame.
    odd_even : float
        Offset of odd and of even lines across the fast axis, per amplifier and frame.
    drift : float
        Slow drift from row to row along the slow axis, common to all amplifiers: a first-order
        autoregressive sequence.
    memory : float
        Rows after which the drift has forgotten itself.
    cosmic_rays : float
        Hits per pixel and second.
    cosmic_electrons : tuple of float
        The least charge of a hit, and the mean of the exponential tail above it, electrons.
    """

    amplifier: float = 8.0
    odd_even: float = 3.0
    drift: float = 1.0
    memory: float = 200.0
    cosmic_rays: float = 2e-5
    cosmic_electrons: tuple[float, float] = (300.0, 3000.0)


QUIET = Noise(0.0, 0.0, 0.0, 200.0, 0.0)
"""No electronic patterns and no cosmic rays."""


@dataclass(frozen=True)
class Exposure:
    """Counts with their truth.

    Attributes
    ----------
    counts : ndarray, uint16, shape (nints, ngroups, ny, nx)
    zeroframe : ndarray, uint16, shape (nints, ny, nx), or None
        The first frame of each integration.
    rate : ndarray, float32, shape (ny, nx)
        DN/s from photons; 0 in reference pixels.
    light_curve : ndarray, float64, shape (nints,)
        Factor on ``rate`` in each integration.
    cosmic_rays : ndarray of COSMIC_RAY
    """

    observation: Observation
    counts: np.ndarray
    zeroframe: np.ndarray | None
    rate: np.ndarray
    light_curve: np.ndarray
    cosmic_rays: np.ndarray

    @property
    def mean_rate(self) -> np.ndarray:
        """Rate averaged over the integrations: what the exposure's slope image should show, DN/s."""
        return (self.rate * self.light_curve.mean()).astype(np.float32)


def expose(
    detector: Detector,
    rate: np.ndarray,
    observation: Observation,
    *,
    seed: int = 0,
    noise: Noise | None = None,
    light_curve: np.ndarray | None = None,
    zeroframe: bool = False,
    effects: Sequence[Effect] = (),
) -> Exposure:
    """Take an exposure.

    Parameters
    ----------
    detector : Detector
        The whole detector, of which the observation's window is read; or that window alone.
    rate : ndarray, shape (ny, nx)
        Photons on the observation's window, DN/s (flat field included).
    seed : int
        Every integration draws from its own generator, so results do not depend on how many there are.
    noise : Noise, optional
        Electronics and cosmic rays.
    light_curve : ndarray, shape (nints,), optional
        Brightness in each integration; 1 by default.
    zeroframe : bool
        Keep the first frames.
    effects : sequence of Effect
        What else happens.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    """
    o = observation
    if (o.ny, o.nx) == detector.shape:
        own = detector
    else:
        own = detector.cut(o.window)
    curve = np.ones(o.nints) if light_curve is None else np.asarray(light_curve, np.float64)
    if rate.shape != (o.ny, o.nx) or curve.shape != (o.nints,):
        raise ValueError(
            f"rate {rate.shape} and light curve {curve.shape} do not fit an observation of "
            f"{o.nints} integrations of {o.ny} x {o.nx} pixels"
        )
    rate = np.where(own.reference_pixels, 0, rate).astype(np.float32)
    noise = noise or Noise()
    counts = np.empty((o.nints, o.ngroups, o.ny, o.nx), np.uint16)
    zero = np.empty((o.nints, o.ny, o.nx), np.uint16) if zeroframe else None
    pattern = _patterns(detector.layout, o, noise)
    hits: list[np.ndarray] = []
    for i in range(o.nints):
        rng = np.random.default_rng([seed, i])
        electrons = np.zeros((o.ny, o.nx), np.float32)
        mean = ((rate * np.float32(curve[i]) + own.dark_rate) * own.gain).clip(0).astype(np.float32)
        for g in range(o.ngroups):
            skipped = o.pattern.groupgap if g else 0
            total = np.zeros((o.ny, o.nx), np.uint32)
            for f in range(o.pattern.nframes):
                seconds = o.frame_seconds * (1 + (skipped if f == 0 else 0))
                electrons += _poisson(rng, mean * np.float32(seconds))
                hits.append(_cosmic_rays(rng, electrons, own, noise, seconds, i, g))
                for effect in effects:
                    effect.charge(i, g, f, electrons)
                levels = [effect.level(i, g, f) for effect in effects]
                frame = _measure(rng, electrons, own, pattern(rng) + sum(levels))
                total += frame
                if zero is not None and g == f == 0:
                    zero[i] = frame
            counts[i, g] = total // o.pattern.nframes
    return Exposure(o, counts, zero, rate, curve, np.concatenate(hits))


def _poisson(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    drawn = rng.poisson(np.minimum(mean, MANY)).astype(np.float32)
    bright = mean > MANY
    if bright.any():
        m = mean[bright]
        drawn[bright] = np.round(m + np.sqrt(m) * rng.standard_normal(m.size, dtype=np.float32))
    return drawn


def _cosmic_rays(
    rng: np.random.Generator,
    electrons: np.ndarray,
    detector: Detector,
    noise: Noise,
    seconds: float,
    integration: int,
    group: int,
) -> np.ndarray:
    number = rng.poisson(noise.cosmic_rays * seconds * electrons.size)
    hit = np.zeros(number, COSMIC_RAY)
    hit["integration"], hit["group"] = integration, group
    hit["y"], hit["x"] = rng.integers(0, electrons.shape, (number, 2)).T
    least, tail = noise.cosmic_electrons
    hit["electrons"] = least + rng.exponential(tail, number)
    hit = hit[~detector.reference_pixels[hit["y"], hit["x"]]]
    np.add.at(electrons, (hit["y"], hit["x"]), hit["electrons"])
    return hit


def _measure(
    rng: np.random.Generator, electrons: np.ndarray, detector: Detector, pattern: np.ndarray
) -> np.ndarray:
    signal = detector.respond(electrons / detector.gain)
    if detector.ipc is not None:
        signal = crosstalk(signal, detector.ipc, detector.reference_pixels)
    if not detector.layout.mid_infrared:
        signal += detector.superbias
    np.minimum(signal, detector.saturation * np.float32(WELL), out=signal)
    signal += rng.standard_normal(signal.shape, dtype=np.float32) * detector.read_noise
    signal += pattern
    return np.floor(signal).clip(0, 65535).astype(np.uint16)


def crosstalk(signal: np.ndarray, kernel: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Spread charge over the neighbours; ``dark`` pixels neither give nor take. Nothing crosses the edge."""
    ny, nx = signal.shape
    source = np.where(dark, 0, signal)
    padded = np.pad(source, 1)
    spread = np.zeros_like(source)
    for dy in range(3):
        for dx in range(3):
            spread += np.float32(kernel[dy, dx]) * padded[2 - dy : 2 - dy + ny, 2 - dx : 2 - dx + nx]
    return np.where(dark, signal, spread)


def _patterns(layout: Layout, o: Observation, noise: Noise) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that draws one frame's electronic pattern, DN, shape (ny, nx) or broadcasting to it."""
    fast, slow = (o.nx, o.ny) if layout.fast_is_x else (o.ny, o.nx)
    origin = (o.xstart if layout.fast_is_x else o.ystart) - 1
    place = np.arange(fast)
    amplifier = np.minimum(place * o.outputs // fast, o.outputs - 1)
    parity = (place + origin) % 2
    if layout.mid_infrared:
        amplifier = (place + origin) % o.outputs
        parity = np.zeros(fast, int)
    step = np.exp(-1 / noise.memory)

    def draw(rng: np.random.Generator) -> np.ndarray:
        offsets = rng.normal(0, noise.amplifier, o.outputs)[amplifier]
        offsets = offsets + rng.normal(0, noise.odd_even, (o.outputs, 2))[amplifier, parity]
        kicks = rng.normal(0, noise.drift, slow)
        kicks[1:] *= np.sqrt(1 - step**2)
        drift = np.empty(slow)
        level = 0.0
        for k, kick in enumerate(kicks.tolist()):
            level = step * level + kick
            drift[k] = level
        pattern = offsets[None, :] + drift[:, None]
        if layout.mid_infrared:  # here rows differ by parity
            pattern = (
                pattern + rng.normal(0, noise.odd_even, 2)[(np.arange(slow) + o.ystart - 1) % 2][:, None]
            )
        return (pattern if layout.fast_is_x else pattern.T).astype(np.float32)

    return draw
