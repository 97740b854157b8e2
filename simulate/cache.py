"""A small CRDS cache on disk that the real ``crds`` client reads off line.

    config/jwst/server_config       which context is operational
    mappings/jwst/*.pmap,imap,rmap  rules, each with its own SHA-1
    references/jwst/<instrument>/   the files

Syntax and layout are those of CRDS's own caches.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pprint
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

USEAFTER = "2020-01-01 00:00:00"
DATE_KEYS = ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")
SERVERLESS = "https://jwst-serverless-mode.stsci.edu"


class Cache:
    """Collects references and writes the mappings that select them.

    Parameters
    ----------
    root : path
        Folder of the cache (CRDS_PATH).
    serial : int
        Number of the context: 1 gives ``jwst_0001.pmap``.
    """

    def __init__(self, root: Path | str, serial: int = 1) -> None:
        self.root = Path(root)
        self.serial = serial
        self._rules: dict[str, dict[str, tuple[tuple[str, ...], dict[tuple[str, ...], str]]]] = {}
        for folder in ("config", "mappings", "references"):
            (self.root / folder / "jwst").mkdir(parents=True, exist_ok=True)

    @property
    def context(self) -> str:
        """Name of the context."""
        return f"jwst_{self.serial:04d}.pmap"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point the crds client here, off line."""
        return {
            "CRDS_PATH": str(self.root),
            "CRDS_SERVER_URL": SERVERLESS,
            "CRDS_OBSERVATORY": "jwst",
            "CRDS_READONLY_CACHE": "1",
            "CRDS_CLIENT_RETRY_COUNT": "1",
            "CRDS_CLIENT_RETRY_DELAY_SECONDS": "0",
        }

    def new_path(self, instrument: str, reftype: str, extension: str = "fits") -> Path:
        """A free file name for a reference, numbered in the order of asking."""
        inst = instrument.lower()
        folder = self.root / "references" / "jwst" / inst
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + len(list(folder.glob(f"jwst_{inst}_{reftype}_*.{extension}")))
        return folder / f"jwst_{inst}_{reftype}_{number:04d}.{extension}"

    def rule(
        self, instrument: str, reftype: str, parkey: Sequence[str], match: Sequence[str], file: Path | str
    ) -> None:
        """Select ``file`` where the header's ``parkey`` values equal ``match``.

        ``file`` may be ``"N/A"``. Values take CRDS's syntax: ``"A|B"``, ``"ANY"``, ``"N/A"``.

        Raises
        ------
        ValueError
            If the type already has rules with other keys, or as many values as keys are not given.
        """
        known, rows = self._rules.setdefault(instrument.lower(), {}).setdefault(
            reftype.lower(), (tuple(parkey), {})
        )
        if known != tuple(parkey) or len(match) != len(known):
            raise ValueError(f"{reftype} is selected by {known}, not by {tuple(parkey)} = {tuple(match)}")
        rows[tuple(match)] = Path(file).name if str(file) != "N/A" else "N/A"

    def parameters(
        self,
        instrument: str,
        reftype: str,
        parameters: dict[str, Any],
        *,
        step_class: str,
        steps: Sequence[dict[str, Any]] = (),
        parkey: Sequence[str] = ("META.INSTRUMENT.NAME",),
        match: Sequence[str] | None = None,
    ) -> Path:
        """Write a parameter reference (``pars-jumpstep`` and the like) and its rule.

        ``step_class`` is the dotted class name of the observatory's step or pipeline, ``steps`` the
        parameters of a pipeline's steps: ``{"name": "jump", "class": ..., "parameters": {...}}``.
        """
        import asdf

        path = self.new_path(instrument, reftype, "asdf")
        content: dict[str, Any] = {
            "class": step_class,
            "name": step_class.rpartition(".")[2],
            "parameters": dict(parameters),
            "meta": {
                "author": "upramp",
                "date": USEAFTER.replace(" ", "T"),
                "description": "synthetic parameters",
                "instrument": {"name": instrument.upper()},
                "origin": "SIMULATION",
                "pedigree": "DUMMY",
                "reftype": reftype.upper(),
                "telescope": "JWST",
                "useafter": USEAFTER.replace(" ", "T"),
            },
        }
        if steps:
            content["steps"] = [dict(s) for s in steps]
        asdf.AsdfFile(content).write_to(path)
        self.rule(instrument, reftype, parkey, match or (instrument.upper(),), path)
        return path

    def write(self) -> str:
        """Write mappings and configuration, again if rules were added; return the context's name."""
        number = f"{self.serial:04d}"
        types = reference_types()
        instruments = {}
        for inst, rules in sorted(self._rules.items()):
            selected = dict.fromkeys(types | set(rules), "N/A")
            for reftype, (parkey, rows) in rules.items():
                name = f"jwst_{inst}_{reftype}_{number}.rmap"
                header = {
                    "classes": ("Match", "UseAfter"),
                    "filekind": reftype.upper(),
                    "filetype": reftype.upper(),
                    "instrument": inst.upper(),
                    "mapping": "REFERENCE",
                    "parkey": (parkey, DATE_KEYS),
                    "suffix": reftype,
                }
                self._mapping(name, header, _match(rows))
                selected[reftype] = name
            name = f"jwst_{inst}_{number}.imap"
            header = {"instrument": inst.upper(), "mapping": "INSTRUMENT", "parkey": ("REFTYPE",)}
            self._mapping(name, header, _table({k.upper(): v for k, v in selected.items()}))
            instruments[inst.upper()] = name
        header = {"mapping": "PIPELINE", "parkey": ("META.INSTRUMENT.NAME",)}
        self._mapping(self.context, header, _table(instruments))
        config = {
            "observatory": "jwst",
            "operational_context": self.context,
            "edit_context": self.context,
            "bad_files_list": [],
            "bad_files": "",
            "crds_version": {"str": "13.0.0"},
            "force_remote_mode": False,
            "last_synced": "2024-01-01 00:00:00",
            "mapping_url": {},
            "reference_url": {},
            "server_version": "13",
            "max_mapping_unloads": 1,
            "sqlite_db": "none",
            "checksum_reset_date": "",
        }
        (self.root / "config" / "jwst" / "server_config").write_text(pprint.pformat(config))
        return self.context

    def _mapping(self, name: str, header: dict[str, Any], selector: str) -> None:
        header = {
            **header,
            "derived_from": "simulation",
            "name": name,
            "observatory": "JWST",
            "sha1sum": "0" * 40,
            "text_descr": "synthetic",
        }
        lines = [f"    {key!r} : {value!r},\n" for key, value in sorted(header.items())]
        text = "header = {\n" + "".join(lines) + "}\n\nselector = " + selector + "\n"
        # CRDS hashes a mapping without the line that holds the hash.
        rest = "".join(line for line in text.splitlines(keepends=True) if "sha1sum" not in line)
        digest = hashlib.sha1(rest.encode(), usedforsecurity=False).hexdigest()
        (self.root / "mappings" / "jwst" / name).write_text(text.replace("0" * 40, digest))


def reference_types() -> set[str]:
    """Every reference type that the installed crds package knows for any JWST instrument."""
    spec = importlib.util.find_spec("crds")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the crds package is needed to write a cache: pip install crds")
    table = json.loads((Path(spec.origin).parent / "jwst" / "specs" / "combined_specs.json").read_text())
    return {t for instrument in table.values() for t in instrument if t != "all"}


def dq_hdus(
    flags: np.ndarray, names: dict[str, int], extname: str = "DQ"
) -> list[fits.hdu.base.ExtensionHDU]:
    """Flags and their definition as references carry them: bits of the file's own, explained by DQ_DEF.

    Parameters
    ----------
    flags : ndarray, uint32
        Flags by upramp's values.
    names : dict
        Name -> value of the flags that the file may use; they get bits 0, 1, 2, ... in this order.

    Raises
    ------
    ValueError
        If a flag is set that ``names`` lacks.
    """
    stray = np.bitwise_or.reduce(flags, axis=None) & ~np.uint32(sum(names.values()))
    if stray:
        raise ValueError(f"flags {int(stray):#x} are set, yet not among {', '.join(names)}")
    packed = np.zeros(flags.shape, np.uint32)
    for bit, value in enumerate(names.values()):
        packed |= ((flags & np.uint32(value)) != 0).astype(np.uint32) << np.uint32(bit)
    rows = [(bit, 1 << bit, name, name.lower().replace("_", " ")) for bit, name in enumerate(names)]
    table = np.array(rows, dtype=[("BIT", ">i4"), ("VALUE", ">i4"), ("NAME", "S40"), ("DESCRIPTION", "S80")])
    return [fits.ImageHDU(packed, name=extname), fits.BinTableHDU(table, name=f"{extname}_DEF")]


def _match(rows: dict[tuple[str, ...], str]) -> str:
    lines = []
    for match, file in sorted(rows.items()):
        target = "'N/A'" if file == "N/A" else f"UseAfter({{\n        {USEAFTER!r} : {file!r},\n    }})"
        lines.append(f"    {match!r} : {target},\n")
    return "Match({\n" + "".join(lines) + "})"


def _table(rows: dict[str, str]) -> str:
    return "{\n" + "".join(f"    {k!r} : {v!r},\n" for k, v in sorted(rows.items())) + "}"
