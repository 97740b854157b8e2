"""Names of flags in parameters."""

from __future__ import annotations

import pytest

from upramp.stages.core.dq import unwanted


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("~DO_NOT_USE+NON_SCIENCE", 1 | 512),
        ("~1,512", 1 | 512),
        ("~(DO_NOT_USE|JUMP_DET)", 5),
        ("DO_NOT_USE", 0xFFFFFFFE),
        ("0", 0xFFFFFFFF),
        (4, 0xFFFFFFFB),
        ("", 0),
        (None, 0),
    ],
)
def test_flags_that_make_a_pixel_unusable(text, bits):
    assert unwanted(text) == bits


def test_an_unknown_flag():
    with pytest.raises(ValueError, match="BROKEN"):
        unwanted("~BROKEN")
