"""Data-quality flags of JWST products.

The values are those of the observatory's data-quality definition, which all
reference files and products share. The first eight bits serve for groups
(GROUPDQ is 8 bits wide), all of them for pixels (PIXELDQ, DQ: 32 bits).
"""

from __future__ import annotations

import re

GOOD = 0
DO_NOT_USE = 1 << 0
SATURATED = 1 << 1
JUMP_DET = 1 << 2
DROPOUT = 1 << 3
OUTLIER = 1 << 4
PERSISTENCE = 1 << 5
AD_FLOOR = 1 << 6
CHARGELOSS = 1 << 7
RESERVED = 1 << 8
NON_SCIENCE = 1 << 9
DEAD = 1 << 10
HOT = 1 << 11
WARM = 1 << 12
LOW_QE = 1 << 13
RC = 1 << 14
TELEGRAPH = 1 << 15
NONLINEAR = 1 << 16
BAD_REF_PIXEL = 1 << 17
NO_FLAT_FIELD = 1 << 18
NO_GAIN_VALUE = 1 << 19
NO_LIN_CORR = 1 << 20
NO_SAT_CHECK = 1 << 21
UNRELIABLE_BIAS = 1 << 22
UNRELIABLE_DARK = 1 << 23
UNRELIABLE_SLOPE = 1 << 24
UNRELIABLE_FLAT = 1 << 25
OPEN = 1 << 26
ADJ_OPEN = 1 << 27
FLUX_ESTIMATED = 1 << 28
MSA_FAILED_OPEN = 1 << 29
OTHER_BAD_PIXEL = 1 << 30
REFERENCE_PIXEL = 1 << 31

FLAGS: dict[str, int] = {
    name: value for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)
}


def unwanted(text: str | int | None) -> int:
    """The flags that make a pixel unusable, as a word of bits.

    Parameters
    ----------
    text : str, int or None
        Names or values of flags, with "+", "," or "|" between them: those that may be set; all others are
        unwanted. With "~" in front it is the other way round. None or "": none is unwanted.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    if text is None or isinstance(text, int):
        words = [] if text is None else [str(text)]
        flipped = False
    else:
        bare = text.strip()
        flipped = bare.startswith("~")
        words = [w for w in re.split(r"[+,|]", bare.lstrip("~").strip(" ()")) if w.strip()]
    if not words:
        return 0
    bits = 0
    for word in (w.strip() for w in words):
        if not word.isdigit() and word not in FLAGS:
            raise ValueError(f"{word!r} is no flag; known are {', '.join(FLAGS)}")
        bits |= int(word) if word.isdigit() else FLAGS[word]
    return bits if flipped else ~bits & 0xFFFFFFFF
