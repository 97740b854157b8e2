"""Rows: periodic interference in the mid infrared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.rows_miri import SLITLESS, SUB64
from peerkit.scenes import Scene, write
from upramp.simulate.effects import Effect
from upramp.simulate.emi import Interference, Tone
from upramp.simulate.observation import Observation

FAST_TONE, SLOW_TONE = Tone(390.625, 8.0), Tone(10.039216, 5.0)
OTHER_TONE = Tone(218.52, 6.0)
"""For SUB256, whose frames hold 117 whole turns of the fast one."""
MASK: dict[str, Any] = {"subarray": "MASK1140", "ny": 224, "nx": 288, "xstart": 1, "ystart": 245}
STEP = "emicorr"


def _interference(
    *tones: Tone, known: bool = True, wander: float = 0.0
) -> Callable[[Observation], Sequence[Effect]]:
    def effects(o: Observation) -> Sequence[Effect]:
        return (Interference(o, tones or (FAST_TONE, SLOW_TONE), known=known, wander=wander),)

    return effects


def _row(
    name: str,
    what: str,
    serial: int,
    scene: dict[str, Any],
    *,
    tones: Sequence[Tone] = (),
    known: bool = True,
    wander: float = 0.0,
    step: dict[str, Any] | None = None,
    **more: Any,
) -> Row:
    usual: dict[str, Any] = {"detector": "MIRIMAGE", "ngroups": 10, "nints": 2}
    kinds = {k: scene[k] for k in ("segments", "segment") if k in scene}
    observation = Observation(**usual | {k: v for k, v in scene.items() if k not in kinds})
    drawn = Scene(
        observation,
        stars=observation.ny * observation.nx // 3000,
        background=20.0,
        whole=True,
        effects=_interference(*tones, known=known, wander=wander),
        **kinds,
    )
    parameters = {STEP: {"skip": False, **(step or {})}}
    return Row(name, what, STEP, partial(write, drawn, serial=serial), steps=parameters, **more)


ROWS: tuple[Row, ...] = (
    _row(
        "emicorr_joint",
        "MIRI SUB64, 4 x 10 groups: 390 and 10 Hz, joint fit",
        1101,
        {**SUB64, "nints": 4},
        long=False,
    ),
    _row(
        "emicorr_separately",
        "MASK1140, 3 x 8 groups, phases that wander: joint fit by integration",
        1102,
        {**MASK, "nints": 3, "ngroups": 8},
        wander=0.1,
        step={"fit_ints_separately": True},
    ),
    _row(
        "emicorr_together",
        "the same, one joint fit",
        1102,
        {**MASK, "nints": 3, "ngroups": 8},
        wander=0.1,
    ),
    _row(
        "emicorr_sequential",
        "MASK1140, 3 x 20 groups, sequential",
        1103,
        {**MASK, "ngroups": 20, "nints": 3},
        step={"algorithm": "sequential"},
        long=False,
    ),
    _row(
        "emicorr_sequential_all",
        "the same, all turns of all integrations",
        1103,
        {**MASK, "ngroups": 20, "nints": 3},
        step={"algorithm": "sequential", "use_n_cycles": None},
    ),
    _row(
        "emicorr_unscaled",
        "the same, waves as the reference has them",
        1103,
        {**MASK, "ngroups": 20, "nints": 3},
        step={"algorithm": "sequential", "scale_reference": False},
    ),
    _row(
        "emicorr_bins",
        "the same, two integrations and 60 steps of phase",
        1103,
        {**MASK, "ngroups": 20, "nints": 3},
        step={"algorithm": "sequential", "nints_to_phase": 2, "nbins": 60},
    ),
    _row(
        "emicorr_own_frequencies",
        "MASKLYOT, 3 x 16 groups, no reference: frequencies of one's own",
        1104,
        {"subarray": "MASKLYOT", "ny": 304, "nx": 320, "xstart": 1, "ystart": 717, "ngroups": 16, "nints": 3},
        known=False,
        step={"onthefly_corr_freq": [390.625, 10.039216]},
    ),
    _row(
        "emicorr_slitless",
        "LRS slitless time series, 2nd of two segments of 30 x 12 groups, joint fit",
        1105,
        {**SLITLESS, "ngroups": 12, "nints": 30, "segments": 2, "segment": 1},
        long=False,
    ),
    _row(
        "emicorr_slitless_sequential",
        "the same, sequential",
        1105,
        {**SLITLESS, "ngroups": 12, "nints": 30, "segments": 2, "segment": 1},
        step={"algorithm": "sequential", "use_n_cycles": 2000},
    ),
    _row(
        "emicorr_full",
        "MIRI full frame, 1 x 8 groups, 10 Hz",
        1106,
        {"ny": 1024, "nx": 1032, "nints": 1, "ngroups": 8},
        tones=(SLOW_TONE,),
    ),
    _row(
        "emicorr_full_slow",
        "MIRI full frame, SLOWR1, 2 x 5 groups, 10 Hz in 250 steps",
        1107,
        {
            "ny": 1024,
            "nx": 1032,
            "ngroups": 5,
            "readpatt": "SLOWR1",
            "tframe": 23.9,
            "detector": "MIRIFULONG",
            "exp_type": "MIR_MRS",
            "extra": {"instrument.channel": "34"},
        },
        tones=(Tone(10.039216, 5.0, steps=250),),
    ),
    _row(
        "emicorr_brightsky",
        "BRIGHTSKY, 2 x 6 groups, joint fit",
        1108,
        {
            "subarray": "BRIGHTSKY",
            "ny": 512,
            "nx": 512,
            "xstart": 457,
            "ystart": 51,
            "ngroups": 6,
        },
    ),
    _row(
        "emicorr_four",
        "SUB256, 3 x 4 groups, joint fit",
        1109,
        {"subarray": "SUB256", "ny": 256, "nx": 256, "xstart": 413, "ystart": 51, "ngroups": 4, "nints": 3},
        tones=(OTHER_TONE,),
    ),
    _row(
        "emicorr_five_sequential",
        "SUB256, 3 x 5 groups, sequential",
        1110,
        {"subarray": "SUB256", "ny": 256, "nx": 256, "xstart": 413, "ystart": 51, "ngroups": 5, "nints": 3},
        tones=(OTHER_TONE,),
        step={"algorithm": "sequential"},
    ),
    _row(
        "emicorr_three",
        "SUB128, 6 x 3 groups, joint fit",
        1111,
        {"subarray": "SUB128", "ny": 128, "nx": 136, "xstart": 1, "ystart": 889, "ngroups": 3, "nints": 6},
    ),
    _row(
        "emicorr_dark",
        "a dark, SUB64, 4 x 10 groups: joint fit before calwebb_dark's other steps",
        1112,
        {**SUB64, "nints": 4, "exp_type": "MIR_DARKIMG"},
        pipeline="dark",
        products=("dark",),
    ),
)
