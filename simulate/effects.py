"""What else happens to an exposure: charge that arrives, and levels that the electronics add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.simulate.cache import USEAFTER, dq_hdus
from upramp.simulate.layout import ROW_OVERHEAD
from upramp.simulate.observation import Observation
from upramp.stages.core import dq


@dataclass(frozen=True)
class Truth:
    """A reference file that tells of an effect: its type, extensions, and further keywords.

    ``raw`` is the tree of one that is an ASDF file, in place of extensions.
    """

    reftype: str
    extensions: Sequence[Any] = ()
    keywords: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] | None = None


class Effect:
    """Something that happens to every frame; by itself it does nothing."""

    def charge(self, i: int, g: int, f: int, electrons: np.ndarray) -> None:
        """Add charge (electrons) to what has gathered (ny, nx) by frame f of group g of integration i."""

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """What the electronics add to this frame, DN, shape (ny, nx) or broadcasting to it."""
        return 0.0

    def truth(self, observation: Observation) -> list[Truth]:
        """References of the observation's own window that tell of it."""
        return []


@dataclass(frozen=True)
class ResetDecay(Effect):
    """The level after a reset of a mid-infrared detector decays, other in the first integration.

    ``image`` (ny, nx): DN right after the reset; ``factors``: how strong it is in the integrations, the
    last one standing for all that follow; it falls by e in ``groups``, and is over after ``length``
    groups.
    """

    image: np.ndarray
    factors: tuple[float, ...] = (1.0, 0.6)
    groups: float = 3.0
    length: int = 15

    def _time(self, g: int) -> float:
        last = np.exp(-(self.length - 1) / self.groups)
        return float(max((np.exp(-g / self.groups) - last) / (1 - last), 0.0))

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        return self.image * np.float32(self.factors[min(i, len(self.factors) - 1)] * self._time(g))

    def truth(self, observation: Observation) -> list[Truth]:
        """The reset reference."""
        planes = [[self.image * f * self._time(g) for g in range(self.length)] for f in self.factors]
        flags = np.zeros(self.image.shape, np.uint32)
        flags.ravel()[:: max(flags.size // 5, 1)] = dq.UNRELIABLE_DARK
        hdus = [
            fits.ImageHDU(np.array(planes, np.float32), name="SCI"),
            *dq_hdus(flags, {"UNRELIABLE_DARK": dq.UNRELIABLE_DARK}),
        ]
        return [Truth("reset", hdus, {"NGROUPS": self.length, "NINTS": len(self.factors)})]


@dataclass(frozen=True)
class SwitchDecay(Effect):
    """Reset switches of a mid-infrared detector settle: the first groups of each integration lie too low.

    ``depth`` (DN) in the first integration and in later ones; it falls by e in ``groups``. ``skips``:
    how many groups the reference has left out of these.
    """

    depth: tuple[float, float] = (60.0, 150.0)
    groups: float = 0.7
    skips: tuple[int, int] = (2, 4)

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        return float(-self.depth[min(i, 1)] * np.exp(-g / self.groups))

    def truth(self, observation: Observation) -> list[Truth]:
        """The rscd reference: its row, and one of another read pattern."""
        rows = [
            ("ELSEWHERE", observation.pattern_name, 9, 9),
            (observation.subarray, observation.pattern_name, *self.skips),
        ]
        kinds = [("subarray", "S13"), ("readpatt", "S16"), ("group_skip1", ">i4"), ("group_skip", ">i4")]
        return [Truth("rscd", [fits.BinTableHDU(np.array(rows, kinds), name="RSCD_GROUP_SKIP")])]


@dataclass(frozen=True)
class OddGroup(Effect):
    """One group of each integration lies off by ``offset`` DN: the first (0) or the last (-1) of them."""

    group: int
    offset: float
    ngroups: int

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        return self.offset if g == self.group % self.ngroups else 0.0


@dataclass(frozen=True)
class RowDrift(Effect):
    """What all amplifiers share drifts from row to row (along the slow axis), anew in every frame.

    ``spread``: DN from row to row over ``length`` rows; ``seed`` of the draws. The reference tells how to
    predict it by the side columns.
    """

    observation: Observation
    spread: float = 6.0
    length: float = 40.0
    seed: int = 1

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        o = self.observation
        across = o.nx if abs(o.layout.fastaxis) == 2 else o.ny
        rng = np.random.default_rng([self.seed, i, g, f])
        steps = rng.standard_normal(across)
        spectrum = np.fft.rfft(steps) / (1 + (np.fft.rfftfreq(across) * self.length) ** 2)
        drift = np.fft.irfft(spectrum, across)
        drift *= self.spread / drift.std()
        line = drift.astype(np.float32)
        return line[None, :] if abs(o.layout.fastaxis) == 2 else line[:, None]

    def truth(self, observation: Observation) -> list[Truth]:
        """The sirskernel reference: low frequencies count, half by half, a little other in each amplifier."""
        layout = observation.layout
        f = np.linspace(0, 1, 1025)
        strengths = 0.5 + 0.02 * np.arange(-1.5, 2)[:, None]
        side = (strengths / (1 + (f * 12) ** 2) * np.exp(0.05j * f)).astype(np.complex64)
        content = {layout.detector.lower(): {"gamma": side, "zeta": side.conj()[::-1].copy()}}
        return [Truth("sirskernel", raw={"meta": described(observation, "SIRSKERNEL"), **content})]


@dataclass(frozen=True)
class Flicker(Effect):
    """1/f noise: every frame has its own, drawn in the order of reading.

    Outputs side by side are read at the same time: what all share (``common``, DN, standard deviation) makes
    stripes along the fast axis, what each has for itself (``own``) makes stripes of one output's width. In
    the mid infrared the stripes run along columns whatever is read when. ``seed`` of the draws.
    """

    observation: Observation
    common: float = 6.0
    own: float = 2.0
    seed: int = 1

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        o = self.observation
        rng = np.random.default_rng([self.seed, i, g, f])
        if o.layout.mid_infrared:
            return (self.common * _pink(rng, o.nx)[None, :]).astype(np.float32)
        fast, slow = (o.nx, o.ny) if o.layout.fast_is_x else (o.ny, o.nx)
        width = fast // o.outputs
        row = width + ROW_OVERHEAD
        streams = self.own * np.array([_pink(rng, row * slow) for _ in range(o.outputs)])
        streams += self.common * _pink(rng, row * slow)
        stripes = streams.reshape(o.outputs, slow, row)[..., :width].transpose(1, 0, 2).reshape(slow, fast)
        stripes = stripes[:: -1 if o.layout.slowaxis < 0 else 1, :: -1 if o.layout.fastaxis < 0 else 1]
        return (stripes if o.layout.fast_is_x else stripes.T).astype(np.float32)


@dataclass(frozen=True)
class PictureFrame(Effect):
    """Thermal background of another level at the edges of a NIRSpec detector than inside.

    ``inside`` and ``edge``: DN/s, and how wide the edge is, pixels; ``factors``: how strong it is in the
    integrations, the last one standing for all that follow. The reference tells the shape.
    """

    observation: Observation
    inside: float = 0.2
    edge: float = 0.8
    width: float = 60.0
    factors: tuple[float, ...] = (1.0, 0.5)

    def _image(self) -> np.ndarray:
        """DN/s of the observation's pixels at full strength, float32."""
        o = self.observation
        size = o.layout.shape
        away = [
            np.minimum(np.arange(n), np.arange(n)[::-1])[start - 1 : start - 1 + length]
            for n, start, length in zip(size, (o.ystart, o.xstart), (o.ny, o.nx), strict=True)
        ]
        near = np.minimum(away[0][:, None], away[1][None, :])
        return (self.inside + (self.edge - self.inside) * np.exp(-((near / self.width) ** 2))).astype(
            np.float32
        )

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        o = self.observation
        frames = g * (o.pattern.nframes + o.pattern.groupgap) + f + 1
        strength = self.factors[min(i, len(self.factors) - 1)] * frames * o.frame_seconds
        return self._image() * np.float32(strength)

    def truth(self, observation: Observation) -> list[Truth]:
        """The pictureframe reference."""
        return [Truth("pictureframe", [fits.ImageHDU(self._image(), name="SCI")])]


@dataclass(frozen=True)
class SossTraces(Effect):
    """Spectra of a star through NIRISS's grism: three orders, each a parabola along the rows.

    ``position`` of the pupil wheel, degrees, is that of the observation; traces turn with it. ``flux``: DN/s
    in the middle of a trace (electrons are taken to be as many).
    """

    observation: Observation
    position: float = 245.86
    flux: float = 30.0
    levels: tuple[float, ...] = (80.0, 130.0, 190.0)
    bend: float = 25.0
    COMMANDED = 245.76
    YMIN = 1792  # row of the detector, from 0, at which the reference's rows begin

    def charge(self, i: int, g: int, f: int, electrons: np.ndarray) -> None:
        """See `Effect`."""
        o = self.observation
        x, y = np.arange(o.nx), np.arange(o.ny)[:, None] + o.ystart - 1 - self.YMIN
        angle = np.radians(self.position - self.COMMANDED)
        seconds = o.frame_seconds * (1 + (o.pattern.groupgap if f == 0 and g else 0))
        for level in self.levels:
            row = self._row(level, x) + np.sin(angle) * (x - o.nx / 2)
            electrons += (self.flux * seconds * np.exp(-(((y - row) / 6) ** 2))).astype(np.float32)

    def _row(self, level: float, x: np.ndarray) -> np.ndarray:
        """Row of a trace at the commanded position."""
        return level + self.bend * ((x - 1024) / 1024) ** 2

    def truth(self, observation: Observation) -> list[Truth]:
        """The pastasoss reference."""
        x = np.arange(2048.0)
        traces, models = [], []
        for k, level in enumerate(self.levels):
            order = {"spectral_order": k + 1}
            place = np.column_stack([x, self._row(level, x)])
            more = {"oversampling": 1, "cutoff": 2048, "short_cutoff": 0.6}
            traces.append({**order, "trace": place, "pivot_x": 1024.0, "pivot_y": level, **more})
            scale = np.array([[0.0, -0.25], [2048.0, 0.25]])
            wave = np.array([2.8 / (k + 1), -2.0 / (k + 1), 0.0])
            models.append(
                {**order, "polynomial_degree": 1, "coefficients": wave, "coefficient_labels": "1, x, y"}
                | {"scale_extents": scale}
            )
        meta = described(observation, "PASTASOSS") | {
            "model_type": "PastasossModel",
            "exposure": {"type": "NIS_SOSS"},
            "pwcpos_cmd": self.COMMANDED,
            "pwcpos_bounds": [self.COMMANDED - 0.25, self.COMMANDED + 0.25],
            "order2_separation_cutoff": [0.77, 0.95],
            "soss_xdim": 2048,
            "soss_ydim": 256,
            "subarray_ymin": self.YMIN,
            "wavemap_nwl": 5001,
            "wavemap_wlmin": 0.5,
            "wavemap_wlmax": 5.5,
        }
        meta["instrument"]["filter"] = "CLEAR"
        return [Truth("pastasoss", raw={"meta": meta, "traces": traces, "wavecal_models": models})]


def _pink(rng: np.random.Generator, n: int) -> np.ndarray:
    """``n`` samples whose power goes with 1/f, of mean 0 and standard deviation 1."""
    f = np.arange(1, n // 2 + 1)
    spectrum = (rng.standard_normal(f.size) + 1j * rng.standard_normal(f.size)) / np.sqrt(f)
    samples = np.fft.irfft(np.concatenate([[0], spectrum]), n)
    return samples / samples.std()


def described(observation: Observation, reftype: str) -> dict[str, Any]:
    """What every ASDF reference says of itself."""
    layout = observation.layout
    return {
        "author": "upramp",
        "description": "synthetic reference",
        "pedigree": "DUMMY",
        "reftype": reftype,
        "telescope": "JWST",
        "useafter": USEAFTER.replace(" ", "T"),
        "instrument": {"name": layout.instrument, "detector": layout.detector},
    }
