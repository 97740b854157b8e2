"""Association files (JSON) and pools (CSV with ``|``), read and written; facts from headers.

The layout of association files is that of the observatory ("Stage 2 Associations: Technical
Specifications", "Stage 3 Associations: Technical Specifications" in the documentation of jwst), so that its
tools take ours and ours take its, also edited by hand. Files appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits

from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.pool import Exposure, exposure_from_header, exposure_from_row
from upramp.stages.associations.record import Association, Member, Product
from upramp.stages.core.errors import Unprocessable
from upramp.store.fitsio import open_regular, parse_header, reading_error, scan, writing_error
from upramp.store.naming import parse_name

DELIMITER = "|"
TYPES = (
    "ami3",
    "coron3",
    "image2",
    "image3",
    "nrslamp-spec2",
    "spec2",
    "spec3",
    "tso3",
    "tso-image2",
    "tso-spec2",
    "wfs-image3",
)
"""Types of associations ("Association Types" in the documentation of jwst)."""

KINDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "image2": (("science", "background"), ("rate", "rateints")),
    "image3": (("science",), ("cal", "crf")),
}
"""Types that a pipeline here takes -> what those of its members serve as that are read, and endings of their
names."""

_COLUMNS = ("filename", "program", "obs_num", "exp_type", "instrume", "detector", "asn_candidate")
_MAX_BYTES = 200_000_000


# Pools


def read_pool(path: Path, delimiter: str = DELIMITER) -> list[Exposure]:
    """The exposures of a pool file, in its order. Lines that begin with ``#`` do not count.

    Raises
    ------
    Unprocessable
        If it is no pool; the sentence names the line and the remedy.
    """
    lines = _text(path).splitlines()
    counting = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = csv.reader((line for _, line in counting), delimiter=delimiter)
    exposures = []
    columns: list[str] = []
    for (number, _), row in zip(counting, rows, strict=False):
        where = f"{path.name}, line {number}"
        if not columns:
            columns = [word.strip().lower() for word in row]
            missing = [name.upper() for name in _COLUMNS if name not in columns]
            if missing:
                raise Unprocessable(
                    f"{where}: a pool begins with the names of its columns, separated by {delimiter!r}, but "
                    f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not among them"
                )
            continue
        if len(row) != len(columns):
            raise Unprocessable(
                f"{where}: {len(row)} values for {len(columns)} columns; write NULL where there is no value"
            )
        if any(word.startswith("@!") for word in row):
            raise Unprocessable(f"{where}: this is a template of a pool (@!...); give the pool made of it")
        try:
            exposures.append(exposure_from_row(dict(zip(columns, row, strict=True))))
        except Unprocessable as error:
            raise Unprocessable(f"{where}: {error}") from error
    if not exposures:
        raise Unprocessable(f"{path.name} lists no exposures; give a pool with a line for each exposure")
    return exposures


def write_pool(path: Path, exposures: Sequence[Exposure]) -> None:
    """Write exposures as a pool file, to be edited or kept; columns are all facts that any of them has."""
    names = dict.fromkeys([*_COLUMNS, *(name for exposure in exposures for name in exposure.facts)])
    lines = [DELIMITER.join(name.upper() for name in names)]
    for exposure in exposures:
        facts = {**exposure.facts, "filename": exposure.file, "asn_candidate": exposure.candidacy}
        lines.append(DELIMITER.join(facts.get(name) or "NULL" for name in names))
    _publish(path, "\n".join(lines) + "\n")


def read_headers(paths: Iterable[Path]) -> tuple[list[Exposure], list[str]]:
    """The exposures of FITS products, by name; of several products of an exposure, the first that tells.

    Returns
    -------
    list of Exposure
    list of str
        Of exposures of which no product tells enough, why the last does not.

    Raises
    ------
    Unprocessable
        If no file is a FITS file whose primary header says enough.
    """
    found: dict[str, Exposure] = {}
    bad: dict[str, Unprocessable] = {}
    for path in sorted(paths, key=lambda path: path.name):
        name = exposure_name(path.name)
        if name not in found:
            try:
                found[name] = exposure_from_header(path.name, read_primary(path))
            except Unprocessable as error:
                bad[name] = error
    bad = {name: error for name, error in bad.items() if name not in found}
    if bad and not found:
        raise next(iter(bad.values()))
    return list(found.values()), [str(error) for error in bad.values()]


def read_primary(path: Path) -> dict[str, Any]:
    """The keywords of the primary header with their values.

    Raises
    ------
    Unprocessable
        If the file is no FITS file or cannot be read.
    """
    fd, size = open_regular(path)
    try:
        units = scan(fd, size, path)
    finally:
        os.close(fd)
    header, _ = parse_header(units[0])
    return {
        card.keyword: None if isinstance(card.value, fits.card.Undefined) else card.value
        for card in header.cards
    }


# Association files


def write_associations(folder: Path, associations: Iterable[Association]) -> list[Path]:
    """Write each into its file ``<name>.json``; a file that says the same already stays as it is."""
    paths = []
    for association in associations:
        path = folder / f"{association.name}.json"
        write_association(path, association)
        paths.append(path)
    return paths


def write_association(path: Path, association: Association) -> None:
    """Write one association file.

    Raises
    ------
    Misconfigured, Retryable
        If it cannot be written.
    """
    _publish(path, json.dumps(association.to_dict(), indent=4) + "\n")


def read_association(path: Path) -> Association:
    """An association from its file, which may be edited by hand.

    Only products and members are asked for; what else is missing is taken as the type suggests.

    Raises
    ------
    Unprocessable
        If it is not valid; the sentence says what is wrong, where, and the remedy.
    """
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        hint = "; JSON has no comma after the last item" if "double quotes" in str(error) else ""
        raise Unprocessable(f"{path.name} is not valid JSON: {error}{hint}; correct it there") from error
    if not isinstance(found, dict) or not isinstance(found.get("products"), list) or not found["products"]:
        raise Unprocessable(
            f"{path.name} is no association: it has no list 'products'; "
            "write one product with its members as docs/associations.md shows"
        )
    asn_type = _type(found, path.name)
    level = 2 if asn_type.endswith("2") else 3
    products = [_product(item, n, level, path.name) for n, item in enumerate(found["products"])]
    if asn_id := _word(found, "asn_id"):
        _check_stem(asn_id, f"{path.name}: asn_id")
    return Association(
        asn_type=asn_type,
        asn_rule=_word(found, "asn_rule"),
        level=level,
        program=_word(found, "program"),
        asn_id=asn_id,
        target=_word(found, "target"),
        products=tuple(products),
        constraints=_word(found, "constraints"),
        asn_pool=_word(found, "asn_pool") or "none",
        version_id=_word(found, "version_id") or None,
        code_version=_word(found, "code_version"),
        degraded_status=_word(found, "degraded_status"),
    )


def member_paths(
    path: Path, association: Association, folders: Sequence[Path] = (), only: Collection[str] = ()
) -> dict[str, Path]:
    """Where the members of an association file are: beside it or in ``folders``, in that order.

    Names with folders count from that of the file. ``only``: what those serve as that are looked for; empty
    for all.

    Raises
    ------
    Unprocessable
        If some are not there; with the nearest names that are.
    """
    wanted = [m.expname for m in association.members if not only or m.exptype in only]
    places = (path.parent, *folders)
    found = {n: next((f / n for f in places if (f / n).is_file()), path.parent / n) for n in wanted}
    missing = [name for name, place in found.items() if not place.is_file()]
    if missing:
        raise Unprocessable(
            f"{path.name}: of {len(found)} members {len(missing)} are not in "
            f"{' or '.join(str(f) for f in places)}: "
            f"{', '.join(name + _nearest(found[name]) for name in missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; put them there, or take them out of the association"
        )
    return found


def _type(found: dict[str, Any], where: str) -> str:
    asn_type = found.get("asn_type")
    if asn_type in TYPES:
        return str(asn_type)
    near = difflib.get_close_matches(str(asn_type), TYPES, n=1)
    raise Unprocessable(
        f"{where}: asn_type is {asn_type!r}; "
        + (f"did you mean {near[0]!r}?" if near else f"it must be one of {', '.join(TYPES)}")
    )


def _check_stem(stem: str, where: str) -> None:
    """Products are named by it, so it must not lead out of the output folder, nor hide them there."""
    try:
        parse_name(stem)
    except Unprocessable as error:
        raise Unprocessable(
            f"{where} is {stem!a}, but file names are made with it; "
            "give a plain word of at most 200 bytes, without '/', that does not begin with '.', '-' or '~'"
        ) from error


def _word(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return "" if value is None else str(value)


def _product(item: Any, n: int, level: int, file: str) -> Product:
    where = f"{file}: products[{n}]"
    if not isinstance(item, dict) or not isinstance(item.get("members"), list) or not item["members"]:
        raise Unprocessable(f"{where} has no list 'members'; name the exposures it is made of there")
    members = [_member(m, f"{where}.members[{k}]") for k, m in enumerate(item["members"])]
    for names in (
        [Path(m.expname).name for m in members],
        [exposure_name(Path(m.expname).name) for m in members if m.exptype == "science"],
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise Unprocessable(f"{where}: {twice[0]} is a member more than once; name it once")
    science = sum(m.exptype == "science" for m in members)
    if science != 1 if level == 2 else not science:
        wanted = "exactly one" if level == 2 else "at least one"
        raise Unprocessable(f"{where} has {science} members of exptype 'science', but needs {wanted}")
    name = _word(item, "name")
    if level == 3 and not name:
        raise Unprocessable(f"{where} has no 'name'; give the beginning of the names of what is made")
    if level == 3:
        _check_stem(name, f"{where}.name")
    return Product(
        name or exposure_name(next(m.expname for m in members if m.exptype == "science")), tuple(members)
    )


def _member(item: Any, where: str) -> Member:
    if not isinstance(item, dict):
        raise Unprocessable(f'{where} is {item!r}; write {{"expname": ..., "exptype": "science"}}')
    for name, what in (("expname", "the file name"), ("exptype", "what it serves as, such as 'science'")):
        if not isinstance(item.get(name), str) or not item[name].strip():
            raise Unprocessable(f"{where} has no {name!r}; give {what}")
    error, candidate, group = (item.get(name) for name in ("exposerr", "asn_candidate", "group_id"))
    return Member(
        expname=item["expname"],
        exptype=item["exptype"].lower(),
        exposerr=None if error is None else str(error),
        asn_candidate=None if candidate is None else str(candidate),
        group_id=None if group is None else str(group),
    )


def _nearest(path: Path) -> str:
    with contextlib.suppress(OSError):
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1, cutoff=0.8)
        return f" (is it {near[0]}?)" if near else ""
    return ""


# Files


def json_size(path: Path) -> int:
    """The length of a JSON file that is whole, in bytes.

    Raises
    ------
    Unprocessable, Retryable
        If it is not valid, as while it is being copied, or cannot be read.
    """
    text = _text(path)
    try:
        json.loads(text)
    except ValueError as error:
        raise Unprocessable(f"{path.name} is not valid JSON: {error}; correct it there") from error
    return len(text.encode())


def _text(path: Path) -> str:
    fd, size = open_regular(path)
    try:
        if size > _MAX_BYTES:
            raise Unprocessable(f"{path.name} has {size} bytes, too many for a text file of this kind")
        with os.fdopen(fd, encoding="utf-8-sig", closefd=False) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise Unprocessable(f"{path.name} is not text in UTF-8 ({error.reason}); give a text file") from error
    except OSError as error:
        raise reading_error(error, path) from error
    finally:
        os.close(fd)


def _publish(path: Path, text: str) -> None:
    """Write aside, make durable, rename into place; leave alone what is there already."""
    data = text.encode()
    try:
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise writing_error(error, path) from error
