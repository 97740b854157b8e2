"""Compile the kernels ahead of the first exposure.

numba compiles a kernel for the types of its arguments: element type, number of axes, memory order and
whether an array may be written. So nothing is imitated here: tiny exposures of every kind, with references
on disk, go the way of real ones, from plans to published products, and whatever that calls is compiled.
Only CRDS is not asked, because its client remembers for the rest of the process where it was pointed to: all
references are named by the configuration. Kernels of the second and third stage: ``warm_images``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.daemon import warm_images

ROWS, COLUMNS = 16, 64
"""Size of the exposures: reference pixels on all sides and some light."""


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
    size : (int, int)
        Rows and columns of the references, where the exposure is read piece by piece.
    """

    observation: Mapping[str, Any]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    inverse: bool = False
    size: tuple[int, int] | None = None


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
    # Reference pixels interleaved, which takes all rows.
    Kind(
        {"detector": "NRS1", "readpatt": "NRSIRS2", "ny": 2048, "exp_type": "NRS_MSASPEC"},
        {"clean_flicker_noise": {"skip": False, "background_method": None}},
    ),
    # Superstripes, which are put together.
    Kind(
        {
            "detector": "NRCALONG",
            "subarray": "SUB64P",
            "ny": ROWS // 2,
            "nints": 4,
            "extra": {
                "subarray.multistripe_reads1": 0,
                "subarray.multistripe_skips1": 0,
                "subarray.multistripe_reads2": 0,
                "subarray.superstripe_step": ROWS // 2,
                "subarray.num_superstripe": 2,
            },
        },
        {"ipc": {"skip": True}},
        size=(ROWS, COLUMNS),
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
    from upramp.simulate import uncal
    from upramp.simulate.irs2 import Interleaving
    from upramp.simulate.observation import Observation
    from upramp.store.ramps import RampSource

    observation = Observation(**{"ny": ROWS, "nx": COLUMNS, "nints": 2, "ngroups": 4, **kind.observation})
    counts = np.zeros((observation.nints, observation.ngroups, observation.ny, observation.nx), np.uint16)
    groups = np.arange(observation.ngroups, dtype=np.uint16)[:, None, None]
    counts += 12000 + 500 * groups
    counts[..., 4:-4, 4:-4] += 100 * groups  # what reference pixels do not see is light
    if observation.rows_read != observation.ny:
        counts = Interleaving().read(counts, observation)
    path = uncal.write(folder / observation.file_name(), counts, observation)
    _write_references(kind, observation, folder)
    steps = {name: dict(parameters) for name, parameters in kind.parameters.items()}
    if "user_supplied_dq" in steps.get("dq_init", {}):
        steps["dq_init"]["user_supplied_dq"] = str(folder / "dq.fits")
    warm_images.calibrate(path, folder, steps, without=kind.without)
    with RampSource(path, 0, (1, 1, 1, COLUMNS), floats=True) as floats:  # guiders send these
        floats.read(np.empty((1, 1, 1, COLUMNS), np.float32), 0, 0)


def _write_references(kind: Kind, observation: Any, folder: Path) -> None:
    from upramp.simulate import detector, effects, emi, references
    from upramp.simulate.cache import Cache
    from upramp.simulate.irs2 import Interleaving

    size = kind.size or (observation.ny, observation.nx)
    whole = replace(observation, ny=size[0], nx=size[1])
    chip = detector.draw(observation.detector, *size, ipc=0.005)
    decay = effects.ResetDecay(np.zeros(size, np.float32))
    mid_infrared = [decay, effects.SwitchDecay(), emi.Interference(observation)]
    more = mid_infrared if chip.layout.mid_infrared else [effects.PictureFrame(observation)]
    cache = Cache(folder / "crds")
    references.write_all(cache, chip, [whole], with_flat=True, effects=more)
    if observation.rows_read != observation.ny:
        Interleaving().truth(cache, chip, observation)
    if kind.inverse:
        [path] = (folder / "crds" / "references").rglob("*_linearity_*.fits")
        fits.append(path, chip.linearity, fits.Header({"EXTNAME": "INV_COEFFS"}))
    fits.PrimaryHDU(np.zeros(size, np.int32)).writeto(folder / "dq.fits")
