"""The metadata tree of JWST products: from and to the ASDF extension of a FITS file.

A product carries its metadata twice: as header keywords and as a tree. Which keyword
is which leaf is the table in ``keywords.json`` (from the public data-model schemas).
The extension is a binary table of one cell, an ASDF document. Of images it also holds the WCS.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from astropy.io import fits

from upramp.store.cards import CARD, Cards, new_card
from upramp.store.fitsio import padded
from upramp.store.plain_yaml import NotPlain, plain_yaml
from upramp.store.transforms import NotInline, Tagged, document, nodes

# Standard 1.6 is what asdf 4 to 6 read.
_HEAD = "#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"


@cache
def keyword_paths() -> dict[str, dict[str, str]]:
    """Extension name -> keyword -> dotted path in the tree."""
    table: dict[str, dict[str, str]] = json.loads((files("upramp.store") / "keywords.json").read_text())
    return table


def reference_keyword(reftype: str) -> str | None:
    """The keyword that names the reference of a type, such as R_DARK; None for types without one."""
    path = f"meta.ref_file.{reftype}.name"
    return next((k for k, p in keyword_paths()["PRIMARY"].items() if p == path), None)


_resolver = yaml.resolver.Resolver()


@lru_cache(maxsize=4096)
def _tag_of(value: str, plain: bool, quoted: bool) -> str:
    """What a scalar without a tag is; names of keys come again in every file."""
    tag: str = _resolver.resolve(yaml.ScalarNode, value, (plain, quoted))
    return tag


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain YAML; of tagged nodes only the document itself is kept."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """See the base class."""
        if kind is yaml.ScalarNode and len(value) < 100:
            return _tag_of(value, *implicit)
        return super().resolve(kind, value, implicit)


def _tagged(loader: Any, suffix: str, node: yaml.Node) -> Any:
    if "core/asdf-" in suffix and isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return None


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Plain YAML, without references between equal nodes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: Any, node: Tagged) -> yaml.Node:
    if isinstance(node.value, Mapping):
        return dumper.represent_mapping(node.tag, node.value)
    if isinstance(node.value, list):
        return dumper.represent_sequence(node.tag, node.value)
    return dumper.represent_scalar(node.tag, str(node.value))


_Loader.add_multi_constructor("", _tagged)
_Dumper.add_representer(Tagged, _represent)


def read_tree(content: bytes) -> dict[str, Any] | None:
    """The tree of an ASDF document without its arrays and other tagged objects.

    None if it cannot be understood: the keywords say the same.
    """
    end = content.find(b"\n...")
    if not content.startswith(b"#ASDF") or end < 0:
        return None
    try:
        tree = yaml.load(content[:end].decode("utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        return None
    return {k: v for k, v in tree.items() if v is not None} if isinstance(tree, dict) else None


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *branches, leaf = path.split(".")
    for branch in branches:
        below = tree.get(branch)
        if not isinstance(below, dict):
            below = tree[branch] = {}
        tree = below
    tree[leaf] = value


def _merge(tree: dict[str, Any], updates: Mapping[str, Any]) -> None:
    for key, value in updates.items():
        if isinstance(value, Mapping):
            below = tree.get(key)
            if not isinstance(below, dict):
                below = tree[key] = {}
            _merge(below, value)
        else:
            tree[key] = value


def _copy(node: Any) -> Any:
    """Copy containers of plain values, leaving out what is None (tagged objects that were not read)."""
    if isinstance(node, Mapping):
        return {str(k): _copy(v) for k, v in node.items() if v is not None}
    if isinstance(node, list | tuple):
        return [_copy(v) for v in node]
    return node.item() if isinstance(node, np.generic) else node


def product_tree(
    start: Mapping[str, Any] | None,
    headers: Mapping[str, Cards],
    updates: Mapping[str, Any] | None = None,
    gone: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, Any]:
    """The tree of a product: the input's metadata, then its headers' keywords, then updates.

    Parameters
    ----------
    start : mapping or None
        Tree of the input; only its ``meta`` is taken, since the arrays are other ones.
    headers : mapping
        Extension name -> final header; each known keyword sets its leaf.
    updates : mapping, optional
        Nested, merged last.
    gone : mapping, optional
        Extension name -> keywords that its header lost; so does the tree their leaves.
    """
    meta = _copy((start or {}).get("meta"))
    tree: dict[str, Any] = {"meta": meta if isinstance(meta, dict) else {}}
    for extension, header in headers.items():
        paths = keyword_paths().get(extension, {})
        for card in header.cards:
            if card.keyword in paths and not isinstance(card.value, fits.card.Undefined):
                _put(tree, paths[card.keyword], card.value)
    for extension, keywords in (gone or {}).items():
        paths = keyword_paths().get(extension, {})
        for path in (paths[k] for k in keywords if k in paths):
            _put(tree, path, None)
    _merge(tree, updates or {})
    return tree


def _document(tree: Mapping[str, Any]) -> bytes:
    plain = _copy(tree)
    try:
        body = plain_yaml(plain)
    except NotPlain:
        try:
            plain = nodes(plain)
        except NotInline:
            return document({k: v for k, v in plain.items() if not isinstance(v, Tagged)})
        body = yaml.dump(
            plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
        )
    return f"{_HEAD}asdf_library: !core/software-1.0.0 {_software()}{body}...\n".encode()


@cache
def _software() -> str:
    """Who wrote the document."""
    return f"{{name: upramp, version: {json.dumps(version('upramp'))}}}\n"


def asdf_extension(tree: Mapping[str, Any]) -> bytes:
    """The ASDF extension that holds a tree, header and padding included.

    The document is written here and not by the asdf package, which reads a thousand schemas
    first: more than a second, once a process. A tree without long arrays is some pages of YAML. What is not
    plain (the WCS) becomes YAML by the package's converters.
    """
    content = _document(tree)
    header = Cards(
        [
            new_card("XTENSION", "BINTABLE", "binary table extension"),
            new_card("BITPIX", 8, "array data type"),
            new_card("NAXIS", 2, "number of array dimensions"),
            new_card("NAXIS1", len(content), "length of dimension 1"),
            new_card("NAXIS2", 1, "length of dimension 2"),
            new_card("PCOUNT", 0, "number of group parameters"),
            new_card("GCOUNT", 1, "number of groups"),
            new_card("TFIELDS", 1, "number of table fields"),
            new_card("TTYPE1", "ASDF_METADATA"),
            new_card("TFORM1", f"{len(content)}B"),
            new_card("EXTNAME", "ASDF", "extension name"),
        ]
    )
    head = (header.text() + "END".ljust(CARD)).encode("ascii")
    return head.ljust(padded(len(head))) + content.ljust(padded(len(content)), b"\0")
