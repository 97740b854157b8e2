"""Windows of persistence by pixels of the detector: what one exposure leaves for the next.

A pixel is named by its place in the full frame, so that the windows of a full frame go on into a subarray,
and those of a subarray into a full frame; those beyond a subarray are passed on unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.meta import ExposureMeta


@dataclass(frozen=True, eq=False)
class Windows:
    """Pixels with an open window, sorted by row and column.

    Attributes
    ----------
    rows, columns : ndarray, int32, shape (n,)
        Place in the detector's full frame, from 0.
    ends : ndarray, float64, shape (n,)
        End of the window, s since 1970.
    """

    rows: np.ndarray
    columns: np.ndarray
    ends: np.ndarray

    @classmethod
    def none(cls) -> Windows:
        """No pixel has a window."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))

    def __len__(self) -> int:
        return len(self.ends)

    def _inside(self, meta: ExposureMeta) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and column in the exposure's frame, and which of the pixels lie in it."""
        y, x = self.rows - (meta.ystart - 1), self.columns - (meta.xstart - 1)
        return y, x, (y >= 0) & (y < meta.ny) & (x >= 0) & (x < meta.nx)

    def frame(self, meta: ExposureMeta) -> np.ndarray:
        """Ends of windows in the exposure's frame, float64 (ny, nx), 0 where there is none."""
        y, x, here = self._inside(meta)
        ends = np.zeros((meta.ny, meta.nx))
        ends[y[here], x[here]] = self.ends[here]
        return ends

    def followed_by(self, left: np.ndarray, meta: ExposureMeta, times: np.ndarray, length: float) -> Windows:
        """What is open once an exposure has begun with these windows.

        Parameters
        ----------
        left : ndarray, float64, shape (ny, nx)
            Ends of the windows that it leaves in its own frame, 0 for none.
        meta : ExposureMeta
            The exposure; its frame is cut from the detector's at ``xstart`` and ``ystart``.
        times : ndarray, float64, shape (nints, ngroups)
            Ends of its groups, s since 1970.
        length : float
            Of a window, s. Pixels beyond the frame obey the rules for those within: a window that is over
            at the last group is closed, one that ends later than any that could have opened is not believed.
        """
        believed = (self.ends >= times[-1, -1]) & (self.ends - times[0, 0] <= length)
        beyond = believed & ~self._inside(meta)[2]
        y, x = np.nonzero(left)
        rows = np.concatenate([self.rows[beyond], y + (meta.ystart - 1)]).astype(np.int32)
        columns = np.concatenate([self.columns[beyond], x + (meta.xstart - 1)]).astype(np.int32)
        ends = np.concatenate([self.ends[beyond], left[y, x]])
        order = np.lexsort((columns, rows))
        return Windows(rows[order], columns[order], ends[order])
