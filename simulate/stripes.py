"""Exposures of stripes: lines of the detector that need not lie side by side (`stages.core.stripes`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upramp.simulate.detector import Detector
from upramp.simulate.effects import Effect
from upramp.simulate.expose import Exposure, Noise, expose
from upramp.simulate.observation import Observation
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.stripes import Stripes, lines, together

KEYS = {
    "multistripe_reads1": "reads1",
    "multistripe_skips1": "skips1",
    "multistripe_reads2": "reads2",
    "multistripe_skips2": "skips2",
    "repeat_stripe": "repeat",
    "interleave_reads1": "interleave",
    "superstripe_step": "step",
    "num_superstripe": "count",
}
"""Metadata below ``subarray`` -> field of `Stripes`."""


@dataclass(frozen=True)
class Striped:
    """An exposure of stripes: ``observation`` has the size of one frame, and tells where reading starts.

    Of superstripes it has ``stripes.regions`` integrations for each time that the whole is read.
    """

    observation: Observation
    stripes: Stripes

    @property
    def headed(self) -> Observation:
        """The observation with what its header tells of the stripes."""
        told = {f"subarray.{key}": getattr(self.stripes, name) for key, name in KEYS.items()}
        return replace(self.observation, extra={**told, **self.observation.extra})

    @property
    def meta(self) -> ExposureMeta:
        """The exposure as steps see it: superstripes side by side."""
        o, n = self.observation, self.stripes.regions
        return ExposureMeta(
            instrument=o.layout.instrument,
            detector=o.detector,
            exp_type=o.exp_type,
            subarray=o.subarray,
            xstart=o.xstart,
            ystart=o.ystart,
            nx=o.nx * (1 if o.layout.fast_is_x else n),
            ny=o.ny * (n if o.layout.fast_is_x else 1),
            fastaxis=o.layout.fastaxis,
            slowaxis=o.layout.slowaxis,
            nints=o.nints // n,
            nints_total=o.nints // n,
            ngroups=o.ngroups,
            stripes=self.stripes,
        )

    @property
    def parent(self) -> Observation:
        """The observation of the region that superstripes make together, as if it were read at once."""
        whole, _, _ = together(self.meta)
        size = {key: getattr(whole, key) for key in ("xstart", "ystart", "nx", "ny", "nints")}
        return replace(self.observation, **size)

    def own(self, detector: Detector, region: int = 0) -> Detector:
        """What a whole ``detector`` shows in a frame of this ``region``."""
        found = lines(self.meta)
        line = found.line[found.region == region]
        rows, columns = self.observation.window
        cut = np.s_[..., line, columns] if detector.layout.fast_is_x else np.s_[..., rows, line]
        planes = ("superbias", "read_noise", "gain", "dark_rate", "saturation", "linearity", "flat", "mask")
        own: dict[str, Any] = {plane: np.ascontiguousarray(getattr(detector, plane)[cut]) for plane in planes}
        return replace(detector, **own)

    def expose(
        self,
        detector: Detector,
        rates: Sequence[np.ndarray],
        *,
        seed: int = 0,
        noise: Noise | None = None,
        zeroframe: bool = False,
        effects: Sequence[Effect] = (),
    ) -> Exposure:
        """Take the exposure; ``rates``, DN/s, of the frames of each region. See `expose.expose`."""
        regions = self.stripes.regions
        if len(rates) != regions or self.observation.nints % regions:
            raise ValueError(
                f"{len(rates)} rates and {self.observation.nints} integrations do not fit {regions} regions"
            )
        turn = replace(self.observation, nints=self.observation.nints // regions)
        options: dict[str, Any] = {"noise": noise, "zeroframe": zeroframe, "effects": effects}
        taken = [
            expose(self.own(detector, k), rate, turn, seed=seed + 1000 * k, **options)
            for k, rate in enumerate(rates)
        ]

        def by_turns(arrays: list[Any]) -> np.ndarray:
            return np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])

        return replace(
            taken[0],
            observation=self.observation,
            counts=by_turns([one.counts for one in taken]),
            zeroframe=by_turns([one.zeroframe for one in taken]) if zeroframe else None,
            light_curve=np.ones(self.observation.nints),
        )
