"""Two products side by side, pixel by pixel.

SCI agrees within 1% of the peer's ERR (or to 1e-5 of its value, where ERR is 0), ERR and VAR_* to 0.1%,
flags bit for bit. NaN agrees with NaN, infinity with the same infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from upramp.store.transforms import read_wcs

MIN_SHARE = 0.9995
SCI_OF_ERR = 0.01
SCI_RELATIVE = 1e-5
RELATIVE = 1e-3
NOTHING = 1e-9
"""Where there is no ERR, values of SCI below this are all 0: what roundings leave of chi^2."""


def agree(name: str, ours: np.ndarray, peers: np.ndarray, err: np.ndarray | None = None) -> np.ndarray:
    """Which pixels of an extension agree; ``err`` is the peer's ERR, for SCI."""
    if peers.dtype.kind in "iub":
        return ours == peers
    a, b = ours.astype(np.float64), peers.astype(np.float64)
    with np.errstate(invalid="ignore"):
        room = (SCI_RELATIVE if name == "SCI" else RELATIVE) * np.abs(b)
        if name == "SCI" and err is not None:
            room = np.fmax(room, SCI_OF_ERR * err.astype(np.float64))
        elif name == "SCI":
            room = np.fmax(room, NOTHING)
        return (a == b) | (np.abs(a - b) <= room) & np.isfinite(b) | np.isnan(a) & np.isnan(b)


def compare_products(ours: Path | str, peers: Path | str) -> dict[str, float]:
    """The share of pixels that agree, by image extension of the peer's product.

    An extension that is missing, or has another shape or kind of number, has a share of 0.
    """
    shares = {}
    with fits.open(ours) as a, fits.open(peers) as b:
        for name, plane in _images(b).items():
            if name not in a or not _alike(a[name].data, plane):
                shares[name] = 0.0
                continue
            ok = agree(name, a[name].data, plane, b["ERR"].data if "ERR" in b else None)
            shares[name] = float(ok.mean()) if ok.size else 1.0
    return shares


def explain(ours: Path | str, peers: Path | str, most: int = 4) -> str:
    """What differs, in words: how many pixels, which flags, the first places with both values."""
    lines = []
    with fits.open(ours) as a, fits.open(peers) as b:
        for name, plane in _images(b).items():
            if name not in a:
                lines.append(f"{name} is missing; there are {', '.join(h.name for h in a)}")
                continue
            own = a[name].data
            if not _alike(own, plane):
                lines.append(f"{name}: {_kind(own)}, the peer's {_kind(plane)}")
                continue
            ok = agree(name, own, plane, b["ERR"].data if "ERR" in b else None)
            if ok.all():
                continue
            line = f"{name}: {np.count_nonzero(~ok)} of {ok.size} differ"
            if plane.dtype.kind in "iu":
                bits = own.astype(np.int64) ^ plane.astype(np.int64)
                counts = {k: np.count_nonzero(bits >> k & 1) for k in range(32)}
                line += "; bits " + ", ".join(f"2^{k}: {n}" for k, n in counts.items() if n)
            places = [tuple(map(int, p)) for p in np.argwhere(~ok)[:most]]
            lines.append(line + "; " + ", ".join(f"{p} {own[p]} not {plane[p]}" for p in places))
    return "\n".join(lines) or "nothing differs"


def header_differences(ours: Path | str, peers: Path | str) -> dict[str, tuple[object, object]]:
    """Step states (S_*), reference files (R_*) and units that differ: keyword -> (ours, the peer's)."""
    with fits.open(ours) as a, fits.open(peers) as b:
        pairs = {
            key: (a[0].header.get(key), b[0].header.get(key))
            for key in {*a[0].header, *b[0].header}
            if key.startswith(("S_", "R_"))
        }
        for name in _images(b):
            if name in a:
                pairs[f"{name} BUNIT"] = a[name].header.get("BUNIT"), b[name].header.get("BUNIT")
    return {key: both for key, both in sorted(pairs.items()) if both[0] != both[1]}


def card_differences(
    ours: Path | str, peers: Path | str, extensions: Sequence[str] = ("PRIMARY", "SCI")
) -> dict[str, tuple[object, object]]:
    """Keywords of headers that differ: "extension keyword" -> (ours, the peer's).

    Numbers, those in S_REGION too, are equal if they are to one part in 10^6, or to 10^-12. Left out is what
    tells of the file and of the software.
    """
    differ: dict[str, tuple[object, object]] = {}
    with fits.open(ours) as a, fits.open(peers) as b:
        for extension in extensions:
            one, other = a[extension].header, b[extension].header
            for key in sorted({*one, *other} - OF_THE_FILE):
                pair = one.get(key), other.get(key)
                if not _same(*pair):
                    differ[f"{extension} {key}"] = pair
    return differ


OF_THE_FILE = frozenset({"", "COMMENT", "HISTORY", "DATE", "CAL_VER", "CAL_VCS", "CHECKSUM", "DATASUM"})
CARD_RELATIVE, CARD_NOTHING = 1e-6, 1e-12


def _same(one: object, other: object) -> bool:
    if isinstance(one, str) and isinstance(other, str) and one.startswith("POLYGON"):
        words = one.split(), other.split()
        if len(words[0]) != len(words[1]) or words[0][:2] != words[1][:2]:
            return False
        return all(_same(float(x), float(y)) for x, y in zip(words[0][2:], words[1][2:], strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= max(CARD_RELATIVE * abs(other), CARD_NOTHING)
    return one == other


def sky_difference(ours: Path | str, peers: Path | str, step: float = 8.0) -> float:
    """How far apart the products' WCS objects put the same pixels, at most, milliarcseconds."""
    positions = []
    for path in (ours, peers):
        with fits.open(path) as hdus:
            wcs = read_wcs(hdus["ASDF"].data.tobytes(), Path(path).name)
            ny, nx = hdus["SCI"].data.shape[-2:]
        y, x = np.mgrid[0 : ny - 1 : step, 0 : nx - 1 : step]
        ra, dec = np.radians(wcs(x, y, with_bounding_box=False))
        positions.append(np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]))
    return float(np.degrees(np.linalg.norm(positions[0] - positions[1], axis=0).max()) * 3.6e6)


def _images(hdus: fits.HDUList) -> dict[str, np.ndarray]:
    return {h.name: h.data for h in hdus if isinstance(h, fits.ImageHDU) and h.data is not None}


def _alike(a: np.ndarray | None, b: np.ndarray) -> bool:
    return (
        a is not None
        and a.shape == b.shape
        and (a.dtype.kind, a.dtype.itemsize) == (b.dtype.kind, b.dtype.itemsize)
    )


def _kind(a: np.ndarray | None) -> str:
    return "no data" if a is None else f"{a.dtype.name} {a.shape}"
