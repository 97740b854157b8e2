"""Transforms on disk: references that hold them, and the WCS of products, both as ASDF.

asdf's converters turn models into YAML nodes and back. For reading, asdf does it all. For writing, its
converters are called one by one and arrays are written out among the nodes, because asdf itself also checks
every node against its schema, which takes three times as long as all else of a WCS.

asdf, gwcs and the models are imported when they are needed: that takes more than a second.
"""

from __future__ import annotations

import datetime
import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.reference import Loaded

MOST_INLINE = 4096
"""Longer arrays are written as binary blocks, by asdf."""

_ARRAY_TAG = "tag:stsci.edu:asdf/core/ndarray-1.1.0"


@dataclass(frozen=True)
class Tagged:
    """A YAML node with a tag; ``value`` is a mapping, a list or a scalar of such nodes and plain values."""

    tag: str
    value: Any


class NotInline(Exception):
    """Something cannot be written out as YAML alone."""


@cache
def _converters() -> Any:
    import asdf

    return asdf.AsdfFile().extension_manager


def _inline(array: np.ndarray) -> Tagged:
    if array.size > MOST_INLINE or array.dtype.kind not in "biuf":
        raise NotInline(f"an array of {array.size} {array.dtype}")
    shape = list(array.shape)
    return Tagged(_ARRAY_TAG, {"data": array.tolist(), "datatype": _datatype(array.dtype), "shape": shape})


def _datatype(dtype: np.dtype[Any]) -> str:
    return "bool8" if dtype.kind == "b" else dtype.name


def table_node(rows: np.ndarray, extension: str) -> Tagged:
    """What stands in a product's tree for a table (structured array) in an extension of its own."""
    fields = [
        {"byteorder": "big", "datatype": _column_type(dtype), "name": name}
        for name, (dtype, *_) in (rows.dtype.fields or {}).items()
    ]
    where = {"source": f"fits:{extension},1", "datatype": fields, "byteorder": "big", "shape": [len(rows)]}
    return Tagged(_ARRAY_TAG, where)


def _column_type(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "S":
        return ["ascii", dtype.itemsize]
    return "int8" if dtype.kind == "b" else dtype.name  # logical columns hold bytes


def nodes(value: Any) -> Any:
    """Plain values and tagged nodes for any value that asdf can write.

    Raises
    ------
    NotInline
        If it holds long arrays, or what asdf writes in ways of its own.
    """
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | datetime.date | Tagged):
        return value
    if isinstance(value, np.ndarray):
        return _inline(value)
    if isinstance(value, Mapping):
        return {str(k): nodes(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [nodes(v) for v in value]
    known = _converters()
    if not known.handles_type(type(value)):
        raise NotInline(f"a {type(value).__name__}")
    converter = known.get_converter_for_type(type(value))
    try:
        tag = converter.select_tag(value, None)
        made = converter.to_yaml_tree(value, tag, None)
    except AttributeError as error:  # it wants to see to blocks
        raise NotInline(f"a {type(value).__name__}: {error}") from error
    return nodes(made) if tag is None else Tagged(tag, nodes(made))


_loaded: dict[Path, tuple[tuple[int, int], Loaded]] = {}
_loading = threading.Lock()


def load(path: Path, reftype: str) -> Loaded:
    """A reference file's tree with its transforms as models, read once a process as long as the file stays
    the same.

    Parameters
    ----------
    path : Path
        ASDF file.
    reftype : str
        Reference type, for messages.

    Raises
    ------
    Misconfigured
        If it cannot be read.
    """
    try:
        stat = path.stat()
        key = stat.st_size, stat.st_mtime_ns
        with _loading:
            known = _loaded.get(path)
            if known is None or known[0] != key:
                known = _loaded[path] = key, Loaded(path.name, _read(path))
        return known[1]
    except Exception as error:  # what asdf and its converters raise is anything
        raise Misconfigured(
            f"reference file {path} (type {reftype}) cannot be read: {error}; replace it, or give another "
            f"with [references] {reftype} = ..."
        ) from error


def _read(source: Any) -> dict[str, Any]:
    """The tree of an ASDF file, arrays and all, in memory."""
    import warnings

    import asdf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", asdf.exceptions.AsdfWarning)
        with asdf.open(source, memmap=False, lazy_load=False) as file:
            return dict(file.tree)


def tree_of(path: str, parameter: str) -> dict[str, Any]:
    """The tree of an ASDF file that a parameter names.

    Raises
    ------
    Misconfigured
        If it cannot be read.
    """
    try:
        return _read(path)
    except Exception as error:  # what asdf and its converters raise is anything
        raise Misconfigured(f"{path} of {parameter} cannot be read: {error}; give an ASDF file") from error


def read_wcs(content: bytes, name: str) -> Any:
    """The WCS of a product, from the document in its ASDF extension; None if there is none.

    Parameters
    ----------
    content : bytes
        An ASDF document.
    name : str
        The product's name, for messages.

    Raises
    ------
    Unprocessable
        If the document cannot be read.
    """
    try:
        tree = _read(io.BytesIO(content))
    except Exception as error:  # what asdf and its converters raise is anything
        why = " ".join(str(error).split())  # it may be of many lines
        raise Unprocessable(
            f"{name}: its WCS (ASDF extension) cannot be read: {why}; make the file again with assign_wcs"
        ) from error
    meta = tree.get("meta")
    return meta.get("wcs") if isinstance(meta, Mapping) else None


def document(tree: Mapping[str, Any]) -> bytes:
    """A whole ASDF document, written by asdf."""
    import asdf

    out = io.BytesIO()
    asdf.AsdfFile(dict(tree)).write_to(out)
    return out.getvalue()
