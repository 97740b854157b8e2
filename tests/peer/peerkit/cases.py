"""The table of cases: a scene, and parameters that differ from the defaults.

Those marked long are left out of the short comparison (UPRAMP_PEER=all runs them too).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Steps = Mapping[str, Mapping[str, Any]]
"""Step -> parameter -> value, by the names that both packages use."""


@dataclass(frozen=True)
class Case:
    """One comparison.

    ``differs``: why arrays are known to differ (evidence in docs/fidelity.md); the test then holds that
    they still do.
    ``headers``: keywords known to differ.
    """

    name: str
    scene: str
    steps: Steps = field(default_factory=dict)
    long: bool = False
    differs: str = ""
    headers: frozenset[str] = frozenset()

    @property
    def assignments(self) -> list[str]:
        """The parameters as words for ``--set``."""
        return assignments(self.steps)


def assignments(steps: Steps) -> list[str]:
    """Parameters as words for ``--set``."""
    return [f"{step}.{key}={value}" for step, values in steps.items() for key, value in values.items()]


def _skip(*steps: str) -> dict[str, dict[str, Any]]:
    return {step: {"skip": True} for step in steps}


SCENES_AS_THEY_ARE = [
    Case(scene, scene, long=scene in ("niriss_full", "nirspec_full"))
    for scene in (
        "rapid",
        "one_group",
        "one_averaged_group",
        "two_groups",
        "three_groups",
        "four_groups",
        "ten_groups",
        "shallow4",
        "medium8",
        "zeroframe",
        "divided",
        "gain_factor",
        "parameter_reference",
        "ipc",
        "sub64p",
        "grism64_four_outputs",
        "grism64_one_output",
        "niriss",
        "niriss_averaged",
        "wfss64r",
        "sub2048",
        "sub512",
        "fgs",
        "fgs_rapid",
        "full",
        "niriss_full",
        "nirspec_full",
    )
]

JUMP = [
    Case("threshold", "rapid", {"jump": {"rejection_threshold": 9.0}}),
    Case(
        "thresholds_of_few_groups",
        "four_groups",
        {"jump": {"three_group_rejection_threshold": 40.0, "four_group_rejection_threshold": 60.0}},
    ),
    Case(
        "three_group_threshold",
        "three_groups",
        {"jump": {"three_group_rejection_threshold": 20.0}},
        long=True,
    ),
    Case("no_neighbours", "rapid", {"jump": {"flag_4_neighbors": False}}),
    Case(
        "neighbours_of_some",
        "rapid",
        {"jump": {"min_jump_to_flag_neighbors": 30.0, "max_jump_to_flag_neighbors": 500.0}},
    ),
    Case(
        "after_jump",
        "ten_groups",
        {
            "jump": {
                "after_jump_flag_dn1": 100.0,
                "after_jump_flag_time1": 20.0,
                "after_jump_flag_dn2": 1000.0,
                "after_jump_flag_time2": 45.0,
            }
        },
    ),
    Case(
        "after_jump_averaged",
        "shallow4",
        {"jump": {"after_jump_flag_dn1": 50.0, "after_jump_flag_time1": 30.0}},
        long=True,
    ),
]

SATURATION = [
    Case("grow_not", "rapid", {"saturation": {"n_pix_grow_sat": 0}}),
    Case("grow_two", "shallow4", {"saturation": {"n_pix_grow_sat": 2}}),
    Case("read_pattern_not", "shallow4", {"saturation": {"use_readpatt": False}}),
    Case("read_pattern_not_8", "medium8", {"saturation": {"use_readpatt": False}}, long=True),
]

REFPIX = [
    Case("odd_even_not", "grism64_four_outputs", {"refpix": {"odd_even_columns": False}}),
    Case("odd_even_not_niriss", "niriss", {"refpix": {"odd_even_columns": False}}, long=True),
    Case("sides_not", "full", {"refpix": {"use_side_ref_pixels": False}}, long=True),
    Case("sides_smoother", "full", {"refpix": {"side_smoothing_length": 21, "side_gain": 0.7}}, long=True),
    Case(
        "neither_full",
        "full",
        {"refpix": {"odd_even_columns": False, "use_side_ref_pixels": False}},
        long=True,
    ),
]

OTHERS = [
    Case("charge_migration", "rapid", {"charge_migration": {"skip": False}}),
    Case(
        "charge_migration_low",
        "ten_groups",
        {"charge_migration": {"skip": False, "signal_threshold": 9000.0}},
    ),
    Case("one_group_ramps", "rapid", {"ramp_fit": {"suppress_one_group": False}}),
    Case("one_group_ramps_averaged", "medium8", {"ramp_fit": {"suppress_one_group": False}}),
    Case(
        "one_group_ramps_zeroframe",
        "zeroframe",
        {"ramp_fit": {"suppress_one_group": False}},
    ),
    Case("first_and_last_group", "ten_groups", {"ramp_fit": {"firstgroup": 2, "lastgroup": 7}}),
    Case("average_dark_current", "rapid", {"dark_current": {"average_dark_current": 0.5}}),
]

SKIPS = [
    Case("no_jump", "rapid", _skip("jump")),
    Case("no_saturation", "rapid", _skip("saturation")),
    Case("no_superbias", "sub64p", _skip("superbias"), long=True),
    Case(
        "no_linearity_no_dark",
        "rapid",
        _skip("linearity", "dark_current"),
        headers=frozenset({"S_DARK"}),  # (e)
    ),
    Case("no_refpix_no_mask", "sub64p", _skip("refpix", "dq_init")),
    Case("no_gain_scale", "gain_factor", _skip("gain_scale"), long=True),
    Case("no_group_scale", "divided", _skip("group_scale"), long=True),
]

CASES: tuple[Case, ...] = (*SCENES_AS_THEY_ARE, *JUMP, *SATURATION, *REFPIX, *OTHERS, *SKIPS)
