"""Images and references in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta


@dataclass
class Reference:
    """A reference file in memory: images and tables by extension name."""

    name: str = "reference.fits"
    reftype: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def has(self, extname: str) -> bool:
        return extname in self.arrays

    def array(self, extname: str) -> np.ndarray:
        return self.arrays[extname]

    table = array

    def dq(self, extname: str = "DQ") -> np.ndarray:
        return self.arrays.get(extname, np.zeros(self.arrays["SCI"].shape, np.uint32))

    def tree(self) -> Mapping[str, Any]:
        raise KeyError("an image has no tree")


@pytest.fixture
def make_reference() -> Callable[..., Reference]:
    """A function that makes a reference: extensions by name, keywords in ``header``."""

    def make(header: Mapping[str, Any] | None = None, **arrays: np.ndarray) -> Reference:
        return Reference(header=header or {}, arrays=arrays)

    return make


@pytest.fixture
def make_meta() -> Callable[..., ExposureMeta]:
    """A function that makes the facts of an exposure."""

    def make(ny: int = 6, nx: int = 8, nints: int = 1, **facts: Any) -> ExposureMeta:
        usual: dict[str, Any] = {
            "instrument": "NIRCAM", "detector": "NRCALONG", "exp_type": "NRC_IMAGE", "subarray": "FULL",
            "xstart": 1, "ystart": 1, "fastaxis": -1, "slowaxis": 2, "nints_total": nints, "ngroups": 5,
            "filter": "F444W", "pupil": "CLEAR",
        }  # fmt: skip
        return ExposureMeta(ny=ny, nx=nx, nints=nints, **usual | facts)

    return make


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """A function that draws an image of some shape; the same one for the same seed."""

    def make(shape: tuple[int, ...] = (6, 8), seed: int = 1, **header: Any) -> Image:
        rng = np.random.default_rng(seed)
        positive = [rng.uniform(0.1, 1, shape).astype(np.float32) for _ in range(3)]
        sci, dq = rng.normal(10, 3, shape).astype(np.float32), np.zeros(shape, np.uint32)
        return Image(sci, positive[0], dq, positive[1], positive[2], header={"PRIMARY": header, "SCI": {}})

    return make
