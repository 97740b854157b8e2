"""Is a reference file whole? A look at its structure, without reading its data."""

from __future__ import annotations

import json
import os
from pathlib import Path

from upramp.stages.core.errors import UprampError
from upramp.store.fitsio import open_regular, scan

_BLOCK_MAGIC = b"\xd3BLK"
_STREAMED = 1  # an ASDF block that reaches to the end of the file


def check_structure(path: Path) -> str:
    """What is wrong with a FITS, ASDF or JSON file, or an empty string.

    Finds truncation and files of the wrong kind (an error page saved under a
    reference's name), not changed bytes: for those there are checksums.
    """
    name = path.name.removesuffix(".gz")
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if not head:
            return "it is empty"
        if head.startswith(b"\x1f\x8b"):
            return "" if path.suffix == ".gz" or name.endswith(".fits") else "it is gzip-compressed"
        if name.endswith(".fits"):
            return _check_fits(path)
        if name.endswith(".asdf"):
            return _check_asdf(path) if head.startswith(b"#ASDF") else "it is not an ASDF file"
        if name.endswith(".json"):
            json.loads(path.read_text())
    except UprampError as exc:
        return str(exc)
    except OSError as exc:
        return f"it cannot be read ({exc.strerror or exc})"
    except ValueError as exc:
        return f"it is not valid JSON ({exc})"
    return ""


def _check_fits(path: Path) -> str:
    fd, size = open_regular(path)
    try:
        last = scan(fd, size, path)[-1]
    finally:
        os.close(fd)
    promised = last.data + last.nbytes
    return f"it has {size} bytes, but its headers promise {promised}" if size < promised else ""


def _check_asdf(path: Path) -> str:
    """Find the end of the YAML tree and follow the chain of binary blocks. Layout: ASDF standard 1.6."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for line in file:
            if line.rstrip(b"\r\n") == b"...":
                break
        else:
            return "its tree has no end: it is truncated"
        position = file.tell()
        while True:
            file.seek(position)
            head = file.read(54)
            if not head.startswith(_BLOCK_MAGIC):
                break  # nothing more, or the optional index of blocks
            header_size = int.from_bytes(head[4:6], "big")
            flags = int.from_bytes(head[6:10], "big")
            allocated = int.from_bytes(head[14:22], "big")
            if flags & _STREAMED:
                break
            position += 6 + header_size + allocated
            if len(head) < 54 or position > size:
                return f"it has {size} bytes, but its blocks promise at least {position}: it is truncated"
    return ""
