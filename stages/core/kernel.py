"""The one decorator of all kernels.

Kernels are module-level functions of plain arrays and scalars. They release the GIL, so
that worker threads run side by side, and their machine code is cached on disk.
``fastmath`` stays off: results must not depend on how the compiler feels about NaN.
"""

from __future__ import annotations

from typing import Any

from numba import njit


def kernel(function: Any) -> Any:
    """Compile on first use, without the GIL, cached."""
    return njit(function, nogil=True, cache=True, error_model="numpy")
