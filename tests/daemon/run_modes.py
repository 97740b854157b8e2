"""Warm up, calibrate exposures of several modes for real, and print what numba met only then.

A process of its own: the CRDS client remembers for good where it was pointed to.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from upramp.daemon import calibrate, warm
from upramp.daemon.config import Config, Crds, Output, Run, Store
from upramp.simulate import detector, effects, emi, references, uncal
from upramp.simulate.cache import Cache
from upramp.simulate.expose import expose
from upramp.simulate.irs2 import Interleaving
from upramp.simulate.observation import Observation

SIZE = 72
SUPERSTRIPES = {
    **dict.fromkeys((f"subarray.multistripe_{word}" for word in ("reads1", "skips1", "reads2", "skips2")), 0),
    **{"subarray.superstripe_step": 8, "subarray.num_superstripe": SIZE // 8},
}
MODES: dict[str, tuple[dict, dict]] = {
    "four outputs": ({"subarray": "FULL", "ngroups": 12}, {}),
    "one frame": ({"subarray": "FULL", "ngroups": 1}, {}),
    "one frame of one output": ({"subarray": "SUB72P", "ngroups": 1}, {}),
    "averaged groups": ({"subarray": "SUB72P", "readpatt": "SHALLOW4"}, {}),
    "time series": ({"subarray": "SUB72P", "nints": 40, "tso": True}, {}),
    "charge migration": ({"subarray": "SUB72P"}, {"charge_migration": {"skip": False}}),
    "flicker": ({"subarray": "FULL"}, {"clean_flicker_noise": {"skip": False, "fit_by_channel": True}}),
    "flicker in columns": (
        {"detector": "NRS2", "subarray": "SUB72", "nints": 2},
        {"clean_flicker_noise": {"skip": False, "background_method": None}},
    ),
    "flicker on a background": (
        {"subarray": "SUB72P", "nints": 2},
        {
            "clean_flicker_noise": {
                "skip": False,
                "background_method": "model",
                "apply_flat_field": True,
                "fit_histogram": True,
                "save_mask": True,
                "save_background": True,
                "save_noise": True,
            }
        },
    ),
    "flicker, parameters chosen": (
        {"subarray": "SUB72P", "nints": 2, "exp_type": "NRC_IMAGE"},
        {"clean_flicker_noise": {"skip": False, "autoparam": True, "single_mask": False}},
    ),
    "flicker, median image": (
        {"subarray": "SUB72P", "nints": 2},
        {"clean_flicker_noise": {"skip": False, "background_method": "median_image"}},
    ),
    "flicker, frequencies": (
        {"detector": "NRS1", "subarray": "FULL", "exp_type": "NRS_IFU"},
        {"picture_frame": {"skip": False}, "clean_flicker_noise": {"skip": False, "fit_method": "fft"}},
    ),
    "flicker, frequencies of a subarray": (
        {"detector": "NRS2", "subarray": "SUB72", "exp_type": "NRS_FIXEDSLIT"},
        {"clean_flicker_noise": {"skip": False, "fit_method": "fft", "background_method": None}},
    ),
    "no odd and even": (
        {"subarray": "FULL"},
        {"refpix": {"odd_even_columns": False, "side_smoothing_length": 5}},
    ),
    "rows": ({"detector": "NRS2", "subarray": "FULL", "readpatt": "NRS"}, {}),
    "rows, one output": ({"detector": "NIS", "subarray": "SUB72", "nints": 2}, {}),
    "after jumps": (
        {"subarray": "SUB72P", "ngroups": 6},
        {"jump": {"after_jump_flag_dn1": 10.0, "after_jump_flag_time1": 30.0}, "ramp_fit": {"lastgroup": 4}},
    ),
    "snowballs": ({"subarray": "SUB72P", "ngroups": 6, "nints": 2}, {"jump": {"expand_large_events": True}}),
    "showers": (
        {"detector": "MIRIMAGE", "subarray": "FULL", "ngroups": 12, "nints": 2},
        {"jump": {"find_showers": True, "extend_snr_threshold": 0.5, "extend_min_area": 4}},
    ),
    "showers in a long series": (
        {"detector": "MIRIMAGE", "subarray": "SUB72", "ngroups": 6, "nints": 8},
        {"jump": {"find_showers": True, "minimum_sigclip_groups": 8, "extend_snr_threshold": 0.5}},
    ),
    "mid infrared": ({"detector": "MIRIMAGE", "subarray": "FULL", "ngroups": 8, "nints": 2}, {}),
    "mid infrared, a subarray": (
        {"detector": "MIRIMAGE", "subarray": "SUB72", "ngroups": 12, "nints": 4},
        {"firstframe": {"skip": False, "bright_use_group1": False}},
    ),
    "interference": (
        {"detector": "MIRIMAGE", "subarray": "SUB72", "ngroups": 6, "nints": 3},
        {"emicorr": {"skip": False}},
    ),
    "interference, step by step": (
        {"detector": "MIRIMAGE", "subarray": "SUB72", "ngroups": 12, "nints": 2},
        {"emicorr": {"skip": False, "algorithm": "sequential", "nbins": 20}},
    ),
    "interleaved": ({"detector": "NRS2", "readpatt": "NRSIRS2RAPID", "ny": 2048}, {}),
    "interleaved, averaged": (
        {"detector": "NRS1", "readpatt": "NRSIRS2", "ny": 2048, "exp_type": "NRS_MSASPEC"},
        {},
    ),
    "superstripes": (
        {"subarray": "SUB72P_SUPSTP008", "ny": 8, "nints": 18, "extra": SUPERSTRIPES},
        {"ipc": {"skip": True}},
    ),
    "interference of frequencies of one's own": (
        {"detector": "MIRIMAGE", "subarray": "SUB64", "ngroups": 12, "nints": 2},
        {"emicorr": {"skip": False, "onthefly_corr_freq": [390.625], "save_intermediate_results": True}},
    ),
}


def signatures() -> dict[str, set[str]]:
    """What every kernel was compiled or loaded for, by its name."""
    found = {}
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("upramp.") else ():
            if hasattr(value, "py_func"):
                found[f"{value.py_func.__module__}.{value.py_func.__name__}"] = set(
                    map(str, value.signatures)
                )
    return found


def late_in(work: Callable[[], None], known: dict[str, set[str]], report: Path) -> list[str]:
    """Signatures beyond those known that some work meets, in a process with a CRDS client of its own."""
    pid = os.fork()
    if pid == 0:
        work()
        found = signatures().items()
        new = [f"{name} {s}" for name, own in found for s in sorted(own - known.get(name, set()))]
        report.write_text(json.dumps(new))
        os._exit(0)
    os.waitpid(pid, 0)
    return json.loads(report.read_text()) if report.exists() else ["the calibration failed"]


def main(folder: Path) -> None:
    """Print, by mode, the signatures that the warm-up had left out."""
    warm.warm(["stage1"])
    known = signatures()
    late: dict[str, list[str]] = {}
    for k, (mode, (given, steps)) in enumerate(MODES.items()):
        observation = Observation(
            **{"detector": "NRCALONG", "ny": SIZE, "nx": SIZE, "exposure": k + 1, **given}
        )
        rows = max(SIZE, observation.ny)
        whole = replace(observation, ny=rows)
        chip = detector.draw(observation.detector, rows, SIZE, ipc=0.005 if k % 2 else 0.0)
        cache = Cache(folder / "crds" / str(k))
        decay = effects.ResetDecay(np.full((rows, SIZE), 20, np.float32))
        mid_infrared = [decay, effects.SwitchDecay(), emi.Interference(observation)]
        more = mid_infrared if chip.layout.mid_infrared else [effects.PictureFrame(whole)]
        references.write_all(cache, chip, [whole], with_flat=True, effects=more)
        interleaved = Interleaving() if observation.rows_read != observation.ny else None
        if interleaved:
            interleaved.truth(cache, chip, observation)
        context = cache.write()
        taken = expose(chip, np.full((rows, SIZE), 100.0), whole, effects=more)
        counts = (
            interleaved.read(taken.counts, observation)
            if interleaved
            else taken.counts[..., : observation.ny, :]
        )
        (path,) = uncal.write_exposure(folder / "in", counts, observation)

        def work(cache=cache, context=context, path=path, steps=steps) -> None:
            os.environ.update(cache.environment)
            config = replace(
                Config(),
                output=Output(folder / "out"),
                store=Store(cache=folder / "cache", fsync=False),
                crds=Crds(path=cache.root, context=context, offline=True),
                run=Run(threads=2, memory_limit_mb=16),
                steps=steps,
            )
            calibrate.calibrate(calibrate.plan(calibrate.CalibrationJob(path, "run", config)), "0" * 64)

        late[mode] = late_in(work, known, folder / f"{k}.json")
    print(json.dumps(late))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
