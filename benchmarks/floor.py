"""The floor: read every count once, and write products of the right size once. Nothing is calibrated.

    python floor.py UNCAL

Prints "total S s" three times; products go into a file without a name in TMPDIR.
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np
from astropy.io import fits

EXTENSIONS = 5
"""SCI, ERR, DQ, VAR_POISSON, VAR_RNOISE: four bytes a pixel each."""


def once(path: str, offset: int, shape: tuple[int, int, int, int]) -> float:
    """Seconds for one reading and writing."""
    integrations, groups, *frame = shape
    begin = time.perf_counter()
    counts = np.memmap(path, ">i2", "r", offset, shape)
    total = np.empty(frame, np.float32)
    with tempfile.TemporaryFile() as products:
        for i in range(integrations):
            total[:] = 0
            for g in range(groups):
                total += counts[i, g]
            plane = total.astype(">f4")
            for _ in range(EXTENSIONS):
                products.write(plane.data)
        for _ in range(EXTENSIONS):  # the image of the exposure beside the cube
            products.write(plane.data)
        products.flush()
    return time.perf_counter() - begin


def main() -> None:
    """Three times, as the first one may find the file not yet in memory."""
    with fits.open(sys.argv[1]) as file:
        offset, shape = file["SCI"].fileinfo()["datLoc"], file["SCI"].shape
    for _ in range(3):
        print(f"total {once(sys.argv[1], offset, shape):.4f} s")


if __name__ == "__main__":
    main()
