"""A maker of small CRDS caches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

Rules = Mapping[str, Any]

_VARIABLES = (
    "CRDS_ALLOW_BAD_REFERENCES",
    "CRDS_ALLOW_BAD_RULES",
    "CRDS_CLIENT_TIMEOUT_SECONDS",
    "CRDS_CONTEXT",
    "CRDS_OBSERVATORY",
    "CRDS_PATH",
    "CRDS_READONLY_CACHE",
    "CRDS_SERVER_URL",
)


def mapping_text(header: dict[str, Any], selector: str) -> str:
    """A mapping file with the checksum that the client verifies: over all lines but its own."""
    lines = f"header = {pformat(header | {'sha1sum': '?'}, width=60)}\n\nselector = {selector}\n"
    digest = hashlib.sha1("".join(t for t in lines.splitlines(True) if "sha1sum" not in t).encode())
    return lines.replace("'sha1sum': '?'", f"'sha1sum': '{digest.hexdigest()}'")


class Cache:
    """A cache folder; ``rules`` is reference type -> "N/A" or (parameters, {match: file name or "N/A"})."""

    def __init__(self, root: Path, rules: Rules, instrument: str = "nircam") -> None:
        self.root, self.instrument = root, instrument
        self.mappings = root / "mappings" / "jwst"
        self.references = root / "references" / "jwst" / instrument
        self.config = root / "config" / "jwst"
        for folder in (self.mappings, self.references, self.config):
            folder.mkdir(parents=True)
        names = {}
        for reftype, rule in rules.items():
            names[reftype.upper()] = rule if isinstance(rule, str) else self._rmap(reftype, *rule)
        imap = f"jwst_{instrument}_0001.imap"
        self._write(imap, "INSTRUMENT", ("REFTYPE",), pformat(names), instrument=instrument.upper())
        body = pformat({instrument.upper(): imap, "SYSTEM": "N/A"})
        self._write("jwst_0001.pmap", "PIPELINE", ("META.INSTRUMENT.NAME",), body)
        self.info(operational_context="jwst_0001.pmap", edit_context="jwst_0002.pmap")

    def _write(self, name: str, kind: str, parkey: Any, body: str, **more: str) -> str:
        header = {
            "mapping": kind,
            "name": name,
            "observatory": "JWST",
            "parkey": parkey,
            "derived_from": "none",
        }
        (self.mappings / name).write_text(mapping_text(header | more, body))
        return name

    def _rmap(self, reftype: str, parkey: tuple[str, ...], rows: Mapping[tuple[str, ...], str]) -> str:
        body = ""
        for match, file in rows.items():
            after = repr(file) if file == "N/A" else f"UseAfter({{'2020-01-01 00:00:00': {file!r}}})"
            body += f"    {match!r}: {after},\n"
        keys = (parkey, ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME"))
        return self._write(
            f"jwst_{self.instrument}_{reftype}_0001.rmap",
            "REFERENCE",
            keys,
            f"Match({{\n{body}}})",
            instrument=self.instrument.upper(),
            filekind=reftype.upper(),
        )

    def info(self, **entries: Any) -> None:
        """Write what the cache remembers of the server."""
        base = {"observatory": "jwst", "bad_files_list": [], "force_remote_mode": False, "last_synced": ""}
        (self.config / "server_config").write_text(pformat(base | entries))

    def metadata(self) -> dict[str, dict[str, str]]:
        """Size and sha1 of every file in the cache, as the server tells them."""
        files = [f for f in self.root.rglob("*") if f.is_file() and f.parent != self.config]
        return {
            f.name: {"size": str(f.stat().st_size), "sha1sum": hashlib.sha1(f.read_bytes()).hexdigest()}
            for f in files
        }

    def image(self, name: str, value: float = 1.0) -> Path:
        """Write a small FITS reference."""
        path = self.references / name
        fits.HDUList(
            [fits.PrimaryHDU(), fits.ImageHDU(np.full((4, 4), value, np.float32), name="SCI")]
        ).writeto(path)
        return path

    def parameters(self, name: str, parameters: Mapping[str, Any], steps: Any = None) -> Path:
        """Write an ASDF parameter reference; YAML is a superset of JSON."""
        tree = {"class": "some.module.Step", "name": "step", "parameters": parameters}
        text = (
            "#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"
        )
        text += json.dumps(tree | ({} if steps is None else {"steps": steps})) + "\n...\n"
        path = self.references / name
        path.write_text(text)
        return path


@pytest.fixture(autouse=True)
def _crds_environment() -> Iterator[None]:
    """The client is steered by these variables: begin without any, leave none behind."""
    before = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    yield
    for name in _VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., Cache]:
    """``make_cache(rules, name="crds")`` writes a cache into the test's folder."""

    def make(rules: Rules, name: str = "crds") -> Cache:
        return Cache(tmp_path / name, rules)

    return make
