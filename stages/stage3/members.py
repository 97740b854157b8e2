"""Exposures that are treated together, and what a step makes of each.

Steps of stage 3 that compare exposures never hold the pixels of all: they get members, whose header and WCS
are at hand and whose pixels are read when their turn comes, and give back a `Change` for each. Whoever reads
a member next applies it, so nothing needs to be written between such steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE
from upramp.stages.core.extras import Extra, MemoryCube
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import everything, never


class Grouped(Protocol):
    """Anything that may have been taken together with others."""

    @property
    def group(self) -> str:
        """What it shares with those that were taken at the same time."""


class Member(Protocol):
    """An exposure that can be read when its turn comes."""

    @property
    def name(self) -> str:
        """File name."""

    @property
    def group(self) -> str:
        """What it shares with those that were taken at the same time, `exposure_group` if not set by hand."""

    @property
    def cards(self) -> Mapping[str, Any]:
        """Keywords of all its headers."""

    @property
    def wcs(self) -> Any:
        """Its gwcs."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def read(self, *names: str) -> Image:
        """Pixels and all else; with ``names`` (SCI, ERR, ...) other arrays may be empty."""


@dataclass(frozen=True)
class Mask:
    """Some pixels of an image, packed: a few hundredths of a byte per pixel where they are few."""

    packed: bytes
    shape: tuple[int, int]
    count: int

    @classmethod
    def of(cls, pixels: np.ndarray) -> Mask:
        """Those that are true (ny, nx)."""
        ny, nx = pixels.shape
        return cls(zlib.compress(np.packbits(pixels).tobytes(), 1), (ny, nx), int(np.count_nonzero(pixels)))

    def pixels(self) -> np.ndarray:
        """True where they are; a new array (ny, nx) of bool."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape).view(np.bool_)


@dataclass(frozen=True)
class Change:
    """What a step makes of a member.

    Attributes
    ----------
    state, reason : str
        COMPLETE, SKIPPED or FAILED, and why or what is worth knowing.
    primary, sci : mapping
        Keywords that the primary and SCI headers get.
    leaves : mapping
        What goes into the metadata tree besides, nested.
    wcs : gwcs.WCS or None
        A new WCS; None: it stays.
    offset : float
        What is subtracted from all values.
    lost : Mask or None
        Pixels that get ``flags``. All that have DO_NOT_USE, or are NaN in one of values, errors and
        variances, then have DO_NOT_USE and are NaN in all.
    flags : int
    tables : mapping
        Catalogues to be written beside the product: file name -> columns by name.
    """

    state: str = "COMPLETE"
    reason: str = ""
    primary: Mapping[str, Any] = field(default_factory=dict)
    sci: Mapping[str, Any] = field(default_factory=dict)
    leaves: Mapping[str, Any] = field(default_factory=dict)
    wcs: Any = None
    offset: float = 0.0
    lost: Mask | None = None
    flags: int = 0
    tables: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def with_table(self, name: str, columns: Mapping[str, np.ndarray]) -> Change:
        """The same with one more catalogue."""
        return replace(self, tables={**self.tables, name: columns})

    def apply(self, image: Image) -> Image:
        """The image with the change made; values are changed in place."""
        if self.offset:
            np.subtract(image.sci, np.float32(self.offset), out=image.sci)
        if self.lost is not None:
            image.dq[self.lost.pixels()] |= np.uint32(self.flags)
            arrays = [image.sci, image.err, image.var_poisson, image.var_rnoise]
            arrays += [] if image.var_flat is None else [image.var_flat]
            gone = (image.dq & np.uint32(DO_NOT_USE)) > 0
            for values in arrays:
                gone |= np.isnan(values)
            image.dq[gone] |= np.uint32(DO_NOT_USE)
            for values in arrays:
                values[gone] = np.nan
        image = image.with_cards("PRIMARY", self.primary).with_cards("SCI", self.sci)
        image = image.with_leaves(self.leaves)
        return image if self.wcs is None else replace(image, wcs=self.wcs)


@dataclass(frozen=True)
class Changed:
    """A member as a step leaves it."""

    member: Member
    change: Change

    @property
    def name(self) -> str:
        """See `Member`."""
        return self.member.name

    @property
    def group(self) -> str:
        """See `Member`."""
        return self.member.group

    @property
    def cards(self) -> Mapping[str, Any]:
        """See `Member`."""
        return {**self.member.cards, **self.change.sci, **self.change.primary}

    @property
    def wcs(self) -> Any:
        """See `Member`."""
        return self.member.wcs if self.change.wcs is None else self.change.wcs

    @property
    def shape(self) -> tuple[int, int]:
        """See `Member`."""
        return self.member.shape

    def read(self, *names: str) -> Image:
        """See `Member`."""
        return self.change.apply(self.member.read(*(names if self.change.lost is None else ())))


@dataclass(frozen=True)
class Shown(Changed):
    """A member whose image is shown to somebody as soon as it is read, and must stay as it is then."""

    show: Callable[[Image], None]

    def read(self, *names: str) -> Image:
        """See `Member`."""
        image = super().read(*names)
        self.show(image)
        return image


def _no_text(path: str) -> str:
    raise FileNotFoundError(path)


def _no_table(path: str) -> Mapping[str, np.ndarray]:
    raise FileNotFoundError(path)


def _not_kept(name: str, product: Extra) -> None:
    """Products between are for those who ask for them."""


def _beside(name: str, ending: str) -> str:
    return f"{name.removesuffix('.fits')}_{ending}"


@dataclass(frozen=True)
class Means:
    """What a step may use: threads, room, and functions that read the files which its parameters name.

    ``text(path)`` gives a file's text, ``table(path)`` the columns of a table by name, angles in degrees;
    both raise OSError or ValueError if they cannot. ``room(shape)`` is a `stages.core.extras.Cube` for frames
    that are too many to be held. ``keep(name, product)`` takes a product as soon as it is made; it is named
    after the member ``name``. ``named(name, ending)`` is the file name of what is made of a member beside.
    """

    crew: Crew = field(default_factory=Crew)
    text: Callable[[str], str] = _no_text
    table: Callable[[str], Mapping[str, np.ndarray]] = _no_table
    room: Callable[[tuple[int, ...]], Any] = MemoryCube
    keep: Callable[[str, Extra], None] = _not_kept
    named: Callable[[str, str], str] = _beside


@dataclass(frozen=True, kw_only=True)
class JointStep:
    """A step that takes exposures together; its fields are those of `WholeStep`, less what it does."""

    name: str
    keyword: str
    params: type
    references: Sequence[str] = ()
    optional: Sequence[str] = ()
    prepare: Mapping[str, Callable[[RawReference, ExposureMeta, Any], Prepared]] = field(default_factory=dict)
    loads: Sequence[str] = ()
    skip_if: Callable[[ExposureMeta, Any], str | None] = never
    pars: str = ""
    unsupported: Callable[[Any], Sequence[str]] = everything

    def takes(self, meta: ExposureMeta, params: object) -> Sequence[str]:
        """The reference types that it needs."""
        return self.references


@dataclass(frozen=True, kw_only=True)
class CommonStep(JointStep):
    """A step that looks at all members before it changes any.

    ``run(members, params, means)`` gives a `Change` for each member, in their order.
    """

    run: Callable[[Sequence[Member], Any, Means], list[Change]]


@dataclass(frozen=True, kw_only=True)
class CombiningStep(JointStep):
    """A step that makes something new: of all members (resample), or of what others made of them."""

    make: Callable[..., Any]


_IDENTITY = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")


def exposure_group(cards: Mapping[str, Any], name: str) -> str:
    """The name of the exposure that an image of one detector is part of; ``name`` if its header lacks it."""
    words = [str(cards.get(k) or "").strip() for k in _IDENTITY]
    return "_".join(words) if all(words) else name


def groups_of(members: Sequence[Grouped]) -> list[list[int]]:
    """Numbers of the members of each group, groups in the order of their first members."""
    found: dict[str, list[int]] = {}
    for k, member in enumerate(members):
        found.setdefault(member.group, []).append(k)
    return list(found.values())
