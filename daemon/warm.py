"""Compile the kernels ahead of the first exposure.

numba compiles a kernel for the types of its arguments: element type, number of axes, memory order and
whether an array may be written. So nothing is imitated here: tiny exposures of every kind, with references
on disk, go through the very code that real ones go through, and whatever that calls is compiled.
Only CRDS is left out, because its client remembers for the rest of the process where it was pointed to.
Kernels of the second and third stage: ``warm_images``.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.daemon import warm_images
from upramp.stages.core.errors import NotApplicable

ROWS, COLUMNS = 16, 64
"""Size of the exposures: reference pixels on all sides and some light."""

ALL_AT_ONCE = 1 << 26
"""Memory for an exposure, bytes: no exposure here takes so much that it would be cut."""


@dataclass(frozen=True)
class Kind:
    """A kind of exposure, and how it is calibrated.

    Attributes
    ----------
    observation : mapping
        Arguments of `simulate.observation.Observation`.
    parameters : mapping
        Step name -> its parameters where they differ from the defaults.
    without : sequence of str
        Reference types that this exposure has none of.
    inverse : bool
        Whether the linearity reference holds the inverse polynomials.
    """

    observation: Mapping[str, Any]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    inverse: bool = False


KINDS = (
    # Four outputs side by side, and every step that is usually skipped.
    Kind(
        {"detector": "NRCALONG", "subarray": "FULL", "extra": {"exposure.frame_divisor": 2}},
        {
            "charge_migration": {"skip": False},
            "clean_flicker_noise": {"skip": False},
            "jump": {"expand_large_events": True, "find_showers": True, "minimum_sigclip_groups": 2},
            "ramp_fit": {"firstgroup": 1},
        },
    ),
    # Four outputs on top of each other, several frames in a group.
    Kind(
        {"detector": "NIS", "subarray": "FULL", "readpatt": "NIS"},
        {"clean_flicker_noise": {"skip": False, "background_method": "median_image"}},
        inverse=True,
    ),
    # One output, a mask of the user's own, and no superbias to help the rules of saturation.
    Kind(
        {"detector": "NRCALONG", "subarray": "SUB64P", "readpatt": "SHALLOW4"},
        {
            "dq_init": {"user_supplied_dq": "dq.fits"},
            "clean_flicker_noise": {
                "skip": False,
                "background_method": "model",
                "background_box_size": (4, 4),
                "apply_flat_field": True,
            },
        },
        without=("superbias",),
    ),
    # Stripes, of a detector that is read along its rows.
    Kind(
        {
            "detector": "NRCALONG",
            "subarray": "SUB64P",
            "extra": {
                "subarray.multistripe_reads1": 4,
                "subarray.multistripe_skips1": 0,
                "subarray.multistripe_reads2": ROWS - 4,
            },
        }
    ),
    # The mid infrared, with all that its detectors do after a reset, and light everywhere that is a shower.
    Kind(
        {"detector": "MIRIMAGE", "subarray": "FULL", "ngroups": 16},
        {
            "emicorr": {"skip": False},
            "firstframe": {"skip": False},
            "jump": {"find_showers": True, "extend_snr_threshold": -1.0},
        },
    ),
    # A subarray of it, and the other way to find interference.
    Kind(
        {"detector": "MIRIMAGE", "subarray": "SUB64"},
        {"emicorr": {"skip": False, "algorithm": "sequential"}},
    ),
    # NIRSpec's spectra, a whole frame and a subarray, whose noise is fitted by frequencies.
    Kind(
        {"detector": "NRS2", "subarray": "FULL", "exp_type": "NRS_MSASPEC"},
        {"picture_frame": {"skip": False}, "clean_flicker_noise": {"skip": False, "fit_method": "fft"}},
    ),
    Kind(
        {"detector": "NRS1", "subarray": "SUB2048", "exp_type": "NRS_BRIGHTOBJ"},
        {"clean_flicker_noise": {"skip": False, "fit_method": "fft"}},
    ),
)


def warm(stages: Collection[str]) -> float:
    """Compile every kernel that stages use, unless numba finds it compiled; seconds that it took.

    ``stages``: some of `config.UNTIL`. The third has nothing to go by without the second.

    Raises
    ------
    Misconfigured, Retryable
        If the folder for temporary files cannot be written.
    """
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="upramp-warm-") as folder, np.errstate(all="ignore"):
        for k, kind in enumerate(KINDS if "stage1" in stages else ()):
            own = Path(folder) / str(k)
            own.mkdir()
            calibrate(kind, own)
        if not {"stage2", "stage3"}.isdisjoint(stages):
            images = warm_images.warm_stage2(Path(folder) / "images")
            if "stage3" in stages:
                warm_images.warm_stage3(Path(folder) / "images", images)
    return time.perf_counter() - clock


def calibrate(kind: Kind, folder: Path) -> None:
    """Make an exposure of a kind with its references in ``folder``, and calibrate it there."""
    from upramp.daemon.detector1 import stream
    from upramp.simulate import uncal
    from upramp.simulate.observation import Observation
    from upramp.stages import pipelines
    from upramp.stages.core.plan import BoundStep
    from upramp.stages.core.step import Context, Step
    from upramp.store.naming import prepared_folder, scratch_folder
    from upramp.store.prepared import PreparedStore
    from upramp.store.products import ProductWriter
    from upramp.store.ramps import RampSource
    from upramp.store.uncal import open_uncal

    observation = Observation(**{"ny": ROWS, "nx": COLUMNS, "nints": 2, "ngroups": 4, **kind.observation})
    counts = np.zeros((observation.nints, observation.ngroups, ROWS, COLUMNS), np.uint16)
    counts += (12000 + 500 * np.arange(observation.ngroups, dtype=np.uint16))[:, None, None]
    exposure = open_uncal(uncal.write(folder / observation.file_name(), counts, observation))
    references = _references(kind, observation, folder)
    store = PreparedStore(prepared_folder(folder))
    meta, shared = exposure.meta, dict[str, Any]()
    bound = []
    for step in pipelines.for_exposure(meta).steps:
        given = dict(kind.parameters.get(step.name, {}))
        if "user_supplied_dq" in given:
            given["user_supplied_dq"] = str(references["user_supplied_dq"])
        params = step.params(**given)
        takes = step.takes(meta, params) if isinstance(step, Step) else ()
        missing = any(r not in references for r in takes if r not in step.optional)
        if params.skip or missing or step.skip_if(meta, params) or not isinstance(step, Step):
            continue
        ready = {
            reftype: store.get(step.name, reftype, references[reftype], prepare, meta, params)
            for reftype, prepare in step.prepare.items()
            if reftype in references
        }
        with contextlib.suppress(NotApplicable):  # gain_scale, which has no kernel
            bound.append(BoundStep(step.name, step.bind(Context(meta, params, ready, shared))))
    with ProductWriter(exposure, scratch_folder(folder, "warm"), folder) as writer:
        stream(exposure, bound, writer, folder, threads=1, budget_bytes=ALL_AT_ONCE)
        writer.finish({})
    with RampSource(exposure.path, 0, (1, 1, 1, COLUMNS), floats=True) as floats:  # guiders send these
        floats.read(np.empty((1, 1, 1, COLUMNS), np.float32), 0, 0)


def _references(kind: Kind, observation: Any, folder: Path) -> dict[str, Path]:
    """References on disk by type."""
    from upramp.simulate import detector, effects, emi, references
    from upramp.simulate.cache import Cache

    chip = detector.draw(observation.detector, ROWS, COLUMNS, ipc=0.005)
    decay = effects.ResetDecay(np.zeros((ROWS, COLUMNS), np.float32))
    mid_infrared = [decay, effects.SwitchDecay(), emi.Interference(observation)]
    more = mid_infrared if chip.layout.mid_infrared else [effects.PictureFrame(observation)]
    references.write_all(Cache(folder / "crds"), chip, [observation], with_flat=True, effects=more)
    found = {
        path.name.split("_")[2]: path
        for path in (folder / "crds" / "references").rglob("*.*")
        if path.name.split("_")[2] not in kind.without
    }
    if kind.inverse:
        fits.append(found["linearity"], chip.linearity, fits.Header({"EXTNAME": "INV_COEFFS"}))
    found["user_supplied_dq"] = folder / "dq.fits"
    fits.PrimaryHDU(np.zeros((ROWS, COLUMNS), np.int32)).writeto(found["user_supplied_dq"])
    return found
