"""An image of slopes, or a stack of them, on its way through stages 2 and 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, SupportsInt

import numpy as np


@dataclass(frozen=True)
class Image:
    """The pixels of a ``rate`` (ny, nx) or ``rateints`` (nints, ny, nx) product, and what is known of them.

    Steps return another one (`dataclasses.replace`, `with_cards`, `count`). The pixels are handed over with
    it: a step may write into the arrays it is given, since fresh memory is dear.

    Attributes
    ----------
    sci, err : ndarray, float32
        Values and standard errors, in ``bunit``.
    dq : ndarray, uint32
        Pixel flags.
    var_poisson, var_rnoise : ndarray, float32
        Variances of photon and read noise, in ``bunit`` squared.
    var_flat : ndarray, float32, or None
        Variance of the flat field, once a step has made it. All arrays so far have the shape of ``sci``.
    header : mapping
        Extension name ("PRIMARY", "SCI") -> keyword, upper case -> value. What steps put there goes
        into the product; None takes a keyword away.
    wcs : gwcs.WCS or None
        From pixels (0-based, x first) to the sky; see ``stage2.assign_wcs``.
    arrays : mapping
        Further extensions by name: "AREA", "WAVELENGTH", ...
    leaves : mapping
        What goes into the metadata tree and has no keyword: nested, {"meta": {...}}; None takes a leaf away.
    bunit : str
        Unit of ``sci`` and ``err``.
    counters : collections.Counter
        Events counted so far by "step.counter".
    """

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray
    var_flat: np.ndarray | None = None
    header: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    wcs: Any = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    leaves: Mapping[str, Any] = field(default_factory=dict)
    bunit: str = "DN/s"
    counters: Counter[str] = field(default_factory=Counter)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns (ny, nx) of one image."""
        ny, nx = self.sci.shape[-2:]
        return ny, nx

    def cards(self) -> dict[str, Any]:
        """Keywords of all extensions in one mapping; where both have one, the primary header's."""
        extensions = [name for name in self.header if name != "PRIMARY"]
        return {k: v for name in (*extensions, "PRIMARY") for k, v in self.header.get(name, {}).items()}

    def with_cards(self, extension: str, cards: Mapping[str, Any]) -> Image:
        """The same image with more, or other, keywords in an extension's header."""
        return replace(self, header={**self.header, extension: {**self.header.get(extension, {}), **cards}})

    def with_leaves(self, leaves: Mapping[str, Any]) -> Image:
        """The same image with more in its metadata tree, besides what the headers say."""
        return replace(self, leaves=_merged(self.leaves, leaves))

    def count(self, name: str, events: SupportsInt) -> Image:
        """The same image with one more counter."""
        return replace(self, counters=Counter({**self.counters, name: int(events)}))


def _merged(tree: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        k: (tree[k], v)
        for k, v in more.items()
        if isinstance(v, Mapping) and isinstance(tree.get(k), Mapping)
    }
    return {**tree, **more, **{k: _merged(old, new) for k, (old, new) in both.items()}}
