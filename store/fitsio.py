"""FITS at the level of blocks: find the units of a file without reading their data.

Nothing here allocates by what a header says. Layout: FITS standard 4.0, sections 3 and 4.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from math import prod
from pathlib import Path

from upramp.stages.core.errors import Misconfigured, Retryable, Unprocessable, UprampError
from upramp.store.cards import CARD, Cards, parse_cards

BLOCK = 2880
MAX_HEADER_BLOCKS = 2000  # 72000 cards; the largest JWST headers have some hundreds
_MAX_UNITS = 1000
_MAX_DIGITS = 30
_STRUCTURE = {b"BITPIX", b"NAXIS", b"PCOUNT", b"GCOUNT", b"EXTVER"}

_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOBUFS,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One header-data unit.

    Attributes
    ----------
    name, ver
        EXTNAME in upper case ("PRIMARY" for the first unit), EXTVER.
    header : bytes
        Whole blocks, END included.
    start, data, end : int
        Byte offsets in the file: header, data, and the next unit.
    nbytes : int
        Length of the data without padding.
    bitpix : int
    shape : tuple of int
        Lengths in numpy's order (NAXIS1 last).
    """

    name: str
    ver: int
    header: bytes
    start: int
    data: int
    nbytes: int
    bitpix: int
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """Offset of the next unit: the data are padded to whole blocks."""
        return self.data + padded(self.nbytes)


def padded(nbytes: int) -> int:
    """Round up to whole blocks."""
    return -(-nbytes // BLOCK) * BLOCK


def reading_error(error: OSError, path: Path) -> UprampError:
    """What an I/O error on an input means, in a sentence."""
    where, why = ascii(path.name), error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        return Unprocessable(f"{where} vanished before it was read; put it back to have it processed")
    if isinstance(error, IsADirectoryError):
        return Unprocessable(f"{where} is a directory, not a file; give the files in it")
    if isinstance(error, PermissionError):
        return Unprocessable(f"{where} may not be read ({why}); allow it: chmod a+r, and +x on its folders")
    if error.errno in _PASSING:
        return Retryable(f"{where} cannot be read now ({why}); it will be tried again")
    return Unprocessable(f"{where} cannot be read ({why}); check the path and the disk")


def writing_error(error: OSError, path: Path) -> UprampError:
    """What an I/O error on an output means, in a sentence."""
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Retryable(f"no room left to write {path} ({why}); free space or set another output folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return Misconfigured(f"{path} cannot be written ({why}); check the output folder and its permissions")
    return Retryable(f"{path} cannot be written now ({why}); it will be tried again")


def open_regular(path: Path) -> tuple[int, int]:
    """Open a regular file for reading: its descriptor and its length.

    Raises
    ------
    Unprocessable
        If it is no regular file, is gone, or may not be read.
    Retryable
        If the disk fails for the time being.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block us
    except OSError as error:
        raise reading_error(error, path) from error
    except ValueError as error:
        raise Unprocessable(f"{path.name!a} is not a possible file name ({error})") from error
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise Unprocessable(f"{path.name!a} is a directory, not a file; give the files in it")
        if not stat.S_ISREG(info.st_mode):
            raise Unprocessable(f"{path.name!a} is not a regular file but a pipe, socket or device")
    except BaseException:
        os.close(fd)
        raise
    return fd, info.st_size


def _number(card: bytes, name: str) -> int:
    text = card[10:].split(b"/")[0].strip()
    try:
        if len(text) > _MAX_DIGITS or not card[8:9] == b"=":
            raise ValueError
        return int(text)
    except ValueError:
        key = card[:8].decode("ascii", "replace").strip()
        raise Unprocessable(
            f"{name}: header keyword {key} is {text.decode('ascii', 'replace') or 'empty'}, "
            "not a whole number; the file is damaged, get it again"
        ) from None


def _read_header(fd: int, start: int, size: int, name: str) -> tuple[bytes, dict[bytes, bytes]]:
    """The blocks of the header at ``start``, and its cards by keyword (the first of each)."""
    blocks: list[bytes] = []
    cards: dict[bytes, bytes] = {}
    while len(blocks) < MAX_HEADER_BLOCKS:
        block = os.pread(fd, BLOCK, start + len(blocks) * BLOCK)
        if len(block) < BLOCK:
            raise Unprocessable(
                f"{name} ends inside a header, after {size} bytes: it is truncated or still being copied; "
                "copy or download it again"
            )
        blocks.append(block)
        for i in range(0, BLOCK, CARD):
            card = block[i : i + CARD]
            key = card[:8].rstrip()
            if key == b"END" and not card[8:].strip():
                return b"".join(blocks), cards
            cards.setdefault(key, card)
        if not block.isascii() or b"\0" in block:
            raise Unprocessable(
                f"{name}: the header at byte {start} holds bytes that are no text; "
                "the file is damaged, get it again"
            )
    raise Unprocessable(f"{name}: the header at byte {start} has no END within {MAX_HEADER_BLOCKS} blocks")


def _parse_unit(fd: int, start: int, size: int, name: str) -> Unit:
    header, cards = _read_header(fd, start, size, name)
    number = {k: _number(v, name) for k, v in cards.items() if k in _STRUCTURE or k.startswith(b"NAXIS")}
    if b"BITPIX" not in number or b"NAXIS" not in number:
        raise Unprocessable(f"{name}: the header at byte {start} lacks BITPIX or NAXIS; get the file again")
    bitpix, naxis = number[b"BITPIX"], number[b"NAXIS"]
    if bitpix not in (8, 16, 32, 64, -32, -64) or not 0 <= naxis <= 999:
        raise Unprocessable(f"{name}: BITPIX = {bitpix} with NAXIS = {naxis} is no FITS; get the file again")
    lengths = []
    for i in range(1, naxis + 1):
        length = number.get(b"NAXIS%d" % i, -1)
        if length < 0:
            raise Unprocessable(f"{name}: NAXIS{i} is missing or negative; the file is damaged, get it again")
        lengths.append(length)
    pcount, gcount = number.get(b"PCOUNT", 0), number.get(b"GCOUNT", 1)
    if pcount < 0 or gcount < 0:
        raise Unprocessable(f"{name}: PCOUNT = {pcount} or GCOUNT = {gcount} is negative; get the file again")
    nbytes = abs(bitpix) // 8 * gcount * (pcount + prod(lengths)) if lengths else 0
    extname = "PRIMARY"
    if start:
        text = cards.get(b"EXTNAME", b"")[10:].decode("ascii", "replace")
        extname = text.split("'")[1].strip().upper() if text.count("'") >= 2 else ""
    return Unit(
        name=extname,
        ver=number.get(b"EXTVER", 1),
        header=header,
        start=start,
        data=start + len(header),
        nbytes=nbytes,
        bitpix=bitpix,
        shape=tuple(reversed(lengths)),
    )


def scan(fd: int, size: int, path: Path) -> list[Unit]:
    """Find the units of an open FITS file by its headers alone.

    The last unit may reach beyond the end of the file: then the file is not whole.

    Raises
    ------
    Unprocessable
        If it is not FITS, is empty, or ends inside a header.
    """
    name = ascii(path.name)
    if size == 0:
        raise Unprocessable(f"{name} is empty (0 bytes); copy or download it again")
    units: list[Unit] = []
    position = 0
    try:
        head = os.pread(fd, CARD, 0)
        if not head.startswith(b"SIMPLE  ="):
            kind = ""
            if head.startswith(b"\x1f\x8b"):
                kind = ": it is gzip-compressed, uncompress it first"
            elif head.startswith(b"#ASDF"):
                kind = ": it is ASDF"
            elif b"SIMPLE  =".startswith(head):
                kind = ": it ends after its first bytes, copy or download it again"
            raise Unprocessable(f"{name} is not a FITS file{kind}")
        while position < size and len(units) < _MAX_UNITS:
            if units:
                head = os.pread(fd, 8, position)
                if head != b"XTENSION" and not b"XTENSION".startswith(head):
                    break  # the standard allows other records after the last unit
            units.append(_parse_unit(fd, position, size, name))
            position = units[-1].end
    except OSError as error:
        raise reading_error(error, path) from error
    if len(units) == 1 and not units[0].nbytes:
        raise Unprocessable(
            f"{name} ends after its first header, without any data: it is truncated or still being copied; "
            "copy or download it again"
        )
    return units


def promised_size(path: Path) -> int:
    """The length in bytes that the file's headers promise.

    A file shorter than that is truncated or still being copied. Costs a few reads, whatever
    the file's size.

    Raises
    ------
    Unprocessable
        If it is not FITS, is empty, ends inside a header, or cannot be read.
    Retryable
        If the disk fails for the time being.
    """
    fd, size = open_regular(path)
    try:
        return scan(fd, size, path)[-1].end
    finally:
        os.close(fd)


def parse_header(unit: Unit) -> tuple[Cards, dict[str, str]]:
    """The header, and the cards (keyword: text) that are not valid FITS, left out of it."""
    return parse_cards(unit.header.decode("ascii"))
