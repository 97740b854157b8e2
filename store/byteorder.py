"""Byte order: FITS is big-endian."""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel


@kernel
def swap_words(source, target, flip):
    """Write 32-bit words in the other byte order after flipping the bits of ``flip``.

    ``source``, ``target`` one-dimensional uint32. With ``flip`` = 2^31 unsigned integers become
    the signed ones that FITS stores with BZERO = 2^31, with 0 any word just turns round.
    """
    a, b, low = np.uint32(8), np.uint32(24), np.uint32(0xFF00)
    for i in range(source.size):
        v = np.uint32(source[i] ^ flip)
        target[i] = np.uint32((v >> b) | ((v >> a) & low) | ((v & low) << a) | (v << b))
