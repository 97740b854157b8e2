"""NIRSpec's IRS2 read-out: reference pixels between pixels, and noise that all outputs share.

An ordinary exposure of 2048 x 2048 pixels becomes 3200 rows: the noise drifts along the order of reading (its
power falls with frequency), each amplifier sees it with a strength of its own, and so do its interleaved
reference pixels and the reference output. The references tell how to predict it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from upramp.simulate.cache import Cache, dq_hdus
from upramp.simulate.detector import Detector
from upramp.simulate.observation import Observation
from upramp.simulate.references import DETECTOR, Window, build
from upramp.stages.core import dq
from upramp.stages.stage1 import irs2

LEVEL = 6000.0
"""Bias of reference pixels, DN."""

STRENGTHS = (1.0, 1.05, 0.97, 1.02, 0.94)
"""How strongly the reference output and the amplifiers see what they share."""


@dataclass(frozen=True)
class Interleaving:
    """How an exposure is read.

    ``spread`` (DN) of the shared noise; ``noise`` (DN) of one reading of a reference pixel; ``odd`` reference
    columns that read ``off`` DN too much, in some frames; ``dead``: a column (output, pair, block) that the
    reference names bad.
    """

    spread: float = 8.0
    noise: float = 5.0
    odd: tuple[int, ...] = (708, 1509, 2288, 2289)
    off: float = 400.0
    dead: tuple[int, int, int] = (3, 2, 11)
    seed: int = 1

    def read(self, counts: np.ndarray, observation: Observation) -> np.ndarray:
        """Counts (nints, ngroups, 3200, 2048), uint16, of the pixels' (nints, ngroups, 2048, 2048)."""
        out = np.empty((*counts.shape[:2], irs2.OUTPUTS * irs2.COLUMNS, counts.shape[3]), np.uint16)
        turned = tuple(slice(None, None, -1 if axis < 0 else 1) for axis in _axes(observation))
        light = irs2.light_columns()
        times, output = irs2.sample_times(), np.arange(len(light)) // irs2.COLUMNS
        time = times[output, np.arange(len(light)) % irs2.COLUMNS]
        strength = np.array(STRENGTHS)[output]
        nframes = observation.pattern.nframes
        for i, g in np.ndindex(counts.shape[:2]):
            rng = np.random.default_rng([self.seed, i, g])
            shared = self._shared(rng, counts.shape[3]).reshape(-1, irs2.ROW) / np.sqrt(nframes)
            frame = LEVEL + self.noise * rng.standard_normal((len(light), counts.shape[3]), dtype=np.float32)
            frame[light] = counts[i, g][turned]
            frame += strength[:, None] * shared[:, time].T
            if g % 2:
                frame[list(self.odd)] += self.off
            out[i, g] = np.floor(frame).clip(0, 65535).astype(np.uint16)[turned]
        return out

    def _shared(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """One frame's noise in the order of reading."""
        n = irs2.ROW * rows
        spectrum = np.fft.rfft(rng.standard_normal(n, dtype=np.float32))
        noise = np.fft.irfft(spectrum * _weights(n), n)
        return np.asarray(noise * (self.spread / noise.std()))

    def truth(self, cache: Cache, detector: Detector, observation: Observation) -> None:
        """Put mask and superbias of 3200 rows, and the refpix reference, in the place of others."""
        instrument, rows = detector.layout.instrument, irs2.OUTPUTS * irs2.COLUMNS
        light = irs2.light_columns()[:: -1 if _axes(observation)[0] < 0 else 1]
        window = Window("FULL", 1, 1, observation.nx, observation.ny)

        def save(reftype: str, extensions: list[fits.hdu.base.ExtensionHDU]) -> None:
            path = cache.new_path(instrument, reftype)
            extra = {"FILENAME": path.name, "READPATT": observation.pattern_name}
            build(reftype, detector, window, extensions, extra).writeto(path)
            cache.rule(instrument, reftype, DETECTOR, (detector.name,), path)

        flags = np.full((rows, observation.nx), dq.REFERENCE_PIXEL, np.uint32)
        flags[light] = detector.mask
        save("mask", dq_hdus(flags, {n: dq.FLAGS[n] for n in ("DO_NOT_USE", "DEAD", "REFERENCE_PIXEL")}))
        bias = np.full((rows, observation.nx), LEVEL, np.float32)
        bias[light] = detector.superbias
        planes = [fits.ImageHDU(bias, name="SCI"), fits.ImageHDU(np.zeros_like(bias), name="ERR")]
        save("superbias", [*planes, *dq_hdus(np.zeros_like(flags), {"UNRELIABLE_BIAS": dq.UNRELIABLE_BIAS})])
        save("refpix", self._table(observation.nx))

    def _table(self, rows: int) -> list[fits.hdu.base.ExtensionHDU]:
        """Three quarters from an amplifier's own reference pixels, a quarter from the reference output."""
        n = irs2.ROW * rows
        half = np.minimum(_weights(n) / _weights(n)[n // 2000], 1)
        whole = np.concatenate([half, half[-2:0:-1]]).astype(np.float32)
        columns = {}
        for k in range(irs2.OUTPUTS - 1):
            for kind, share in (("alpha", 0.25 * STRENGTHS[k + 1]), ("beta", 0.75)):
                turn = np.exp(1j * np.float32(0.02 * (k + 1)) * np.sin(2 * np.pi * np.arange(n) / n))
                columns[f"{kind}_{k}"] = (share * whole * turn).astype(np.complex64).view(np.float32)
        table = np.array(list(zip(*columns.values(), strict=True)), [(name, ">f4") for name in columns])
        output, pair, block = self.dead
        bad = [
            (o, p, (1 << block) * ((o, p) == (output, pair))) for o in range(1, irs2.OUTPUTS) for p in (1, 2)
        ]
        kinds = [("OUTPUT", "u2"), ("ODD_EVEN", "u2"), ("MASK", "u4")]
        return [
            fits.BinTableHDU(table, name="IRS2"),
            fits.BinTableHDU(np.array(bad, kinds), name="DQ"),
        ]


def _axes(observation: Observation) -> tuple[int, int]:
    """Directions of detector columns and rows along the axes of frames."""
    return observation.layout.fastaxis, observation.layout.slowaxis


def _weights(n: int) -> np.ndarray:
    """Amplitude of the shared noise by frequency."""
    k = np.arange(n // 2 + 1)
    return np.asarray(1 / np.sqrt(1 + k / (n / 5000)))
