"""The one decorator of all kernels.

Kernels are module-level functions of plain arrays and scalars. They release the GIL, so
that worker threads run side by side, and their machine code is cached on disk.
``fastmath`` stays off: results must not depend on how the compiler feels about NaN.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from numba import njit


def _spare_scipy() -> None:
    """Let numba set up its arrays without importing scipy.linalg to look for BLAS.

    No kernel here multiplies matrices, and that import takes longer than loading all kernels.
    """
    if "scipy.linalg" not in sys.modules and "numba.np.arraymath" not in sys.modules:
        sys.modules["scipy.linalg"] = None  # type: ignore[assignment]
        try:
            importlib.import_module("numba.np.arraymath")
        finally:
            del sys.modules["scipy.linalg"]


_spare_scipy()


def kernel(function: Any) -> Any:
    """Compile on first use, without the GIL, cached."""
    return njit(function, nogil=True, cache=True, error_model="numpy")
