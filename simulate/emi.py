"""Electromagnetic interference in mid-infrared exposures: waves in the order of reading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.simulate.effects import Effect, Truth, described
from upramp.simulate.layout import MIRI_OVERHEAD, OUTPUTS
from upramp.simulate.observation import Observation
from upramp.stages.stage1.emicorr_clocks import ROW_CLOCKS, Clocks, case_name, frame_clocks, period, speed

STEPS = 500


@dataclass(frozen=True)
class Tone:
    """A wave of ``frequency`` (Hz) and ``amplitude`` (DN), with some of its second harmonic.

    ``phase`` in turns. The reference tells it in ``steps`` values.
    """

    frequency: float
    amplitude: float
    phase: float = 0.3
    steps: int = STEPS

    def shape(self, phases: np.ndarray) -> np.ndarray:
        """The wave of amplitude 1 at phases in turns."""
        turns = 2 * np.pi * phases
        return np.asarray(np.sin(turns) + 0.3 * np.cos(2 * turns + 0.4))


@dataclass(frozen=True)
class Interference(Effect):
    """Waves that every read takes up when it is taken.

    ``wander``: turns by which phases jump from integration to integration, standard deviation; ``seed`` of
    the draws. ``known``: whether the reference has these frequencies.
    """

    observation: Observation
    tones: tuple[Tone, ...] = (Tone(390.625, 6.0), Tone(10.039216, 4.0))
    wander: float = 0.0
    seed: int = 1
    known: bool = True

    @property
    def clocks(self) -> Clocks:
        """How the exposure is read; ``ngroups`` counts frames."""
        o = self.observation
        name = case_name(o.subarray, o.pattern_name)
        row = ROW_CLOCKS.get(name, o.nx // OUTPUTS + MIRI_OVERHEAD)
        return Clocks(row, frame_clocks(row, o.ny), o.samples, o.ny, o.ngroups * o.pattern.nframes)

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        o, clocks = self.observation, self.clocks
        start = i * clocks.integration + (g * o.pattern.nframes + f) * clocks.frame
        read = np.repeat(start + clocks.pixels(o.ny, o.nx), OUTPUTS, axis=1)[:, : o.nx]
        jumps = self.wander * np.random.default_rng([self.seed, i]).standard_normal(len(self.tones))
        waves = [
            tone.amplitude * tone.shape(read / period(tone.frequency) + tone.phase + jump)
            for tone, jump in zip(self.tones, jumps, strict=True)
        ]
        return np.asarray(sum(waves), np.float32)

    def truth(self, observation: Observation) -> list[Truth]:
        """The emicorr reference: its subarray, and another one."""
        if not self.known:
            return []
        clocks, o = self.clocks, observation
        names = [f"Hz{tone.frequency:.0f}" for tone in self.tones]
        frequencies = {
            name: {
                "frequency": tone.frequency,
                "phase_amplitudes": tone.shape((np.arange(tone.steps) + 0.5) / tone.steps).astype(np.float32),
            }
            for name, tone in zip(names, self.tones, strict=True)
        }
        slow = speed(o.pattern_name) == "SLOW"
        freqs = {"FAST": names[:1] if slow else names, "SLOW": {o.detector: names if slow else names[:1]}}
        case = {"rowclocks": clocks.row, "frameclocks": clocks.reset, "freqs": freqs}
        cases = {"ELSEWHERE": {**case, "rowclocks": 9}, case_name(o.subarray, o.pattern_name): case}
        raw = {"meta": described(o, "EMICORR"), "frequencies": frequencies, "subarray_cases": cases}
        return [Truth("emicorr", raw=raw)]
