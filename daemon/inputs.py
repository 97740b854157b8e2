"""From the words of a command line to input files: names, globs, folders."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from upramp.daemon.config import UNTIL, Config
from upramp.daemon.gathering import file_name
from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.record import Association
from upramp.stages.core.errors import Misconfigured, UprampError
from upramp.store.associations import KINDS, read_association
from upramp.store.naming import is_association, is_input


def find_inputs(
    words: Sequence[str], takes: Callable[[str], bool] = is_input, what: str = "*_uncal.fits"
) -> list[Path]:
    """All input files that the words name, each once, in order of their names.

    A folder gives the files in it whose names ``takes`` takes and errors call ``what``; by default uncal
    files. Files of the same name from several folders come in order of their times, so that the newest is
    taken last and counts. What is named exists, but need not be a readable file: that is judged, and
    recorded, later.

    Raises
    ------
    Misconfigured
        If a word names nothing; with the nearest name there is.
    """
    return list(_found(words, takes, what))


def find_for_run(words: Sequence[str], config: Config) -> tuple[list[Path], dict[Path, str]]:
    """All input files of a run, and association files that it does not take, with the reason.

    A folder gives its uncal files and its association files. Of these some are left alone, unless they are
    named: see `_reason`. What is no valid association is taken, and recorded as such.

    Raises
    ------
    Misconfigured
        As `find_inputs`.
    """
    found = _found(words, lambda name: is_input(name) or is_association(name), "*_uncal.fits or *_asn.json")
    counts = {exposure_name(path.name) for path in found if is_input(path.name)}
    last: dict[tuple[str, str], Path] = {}
    left: dict[Path, str] = {}
    for path in [p for p, named in found.items() if is_association(p.name) and not named]:
        try:
            association = read_association(path)
        except (UprampError, OSError):
            continue
        if reason := _reason(path, association, config, counts):
            left[path] = reason
            continue
        made = association.asn_type, association.products[0].name
        if made in last:
            left[last[made]] = f"{path.name} makes the same product and is taken; name it to have it done"
        last[made] = path
    return [path for path in found if path not in left], left


def _reason(path: Path, association: Association, config: Config, counts: Collection[str]) -> str:
    """Why an association file of a folder is left alone, or ""; ``counts``: exposures that are made anew."""
    kind, [product, *_] = association.asn_type, association.products
    if kind not in KINDS:
        return f"associations of type {kind} are not in this version, which takes {' and '.join(KINDS)}"
    stage = f"stage{association.level}"
    if UNTIL.index(stage) > UNTIL.index(config.run.until):
        return f"the last stage is {config.run.until} ([run] until); name it to have it done"
    if path == config.associations_folder.absolute() / file_name(association):
        return "upramp wrote it, and sees to it by itself"
    roles, _ = KINDS[kind]
    members = [m.expname for role in roles for m in product.of(role)]
    anew = [m for m in members if exposure_name(m) in counts and (path.parent / m).is_file()]
    if anew:
        return f"{anew[0]} lies beside it, but is made anew of counts here; name it to take what lies there"
    return ""


def _found(words: Sequence[str], takes: Callable[[str], bool], what: str) -> dict[Path, bool]:
    """All files in order, and whether they were named themselves, not only a folder that holds them."""
    found: dict[Path, bool] = {}
    problems = []
    for word in words:
        try:
            for path, named in _expand(word, takes, what).items():
                found[path] = named or found.get(path, False)
        except Misconfigured as error:
            problems.append(str(error))
    if problems:
        raise Misconfigured("\n".join(problems))
    return {path: found[path] for path in sorted(found, key=_order)}


def _expand(word: str, takes: Callable[[str], bool], what: str) -> dict[Path, bool]:
    path = Path(os.path.normpath(Path(word).expanduser().absolute()))
    if os.path.lexists(path):
        return _of(path, word, takes, what)
    if glob.has_magic(word):
        paths = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not paths:
            raise Misconfigured(f"nothing matches {word!r}; correct the pattern, or name the folder")
        files = [p for p in paths if not p.is_dir() or takes(p.name)]
        inside = [] if files else paths
        return dict.fromkeys(files, True) | {p: False for f in inside for p in _of(f, word, takes, what)}
    raise Misconfigured(f"there is no {word!r}{_nearest(path)}")


def _of(path: Path, word: str, takes: Callable[[str], bool], what: str) -> dict[Path, bool]:
    if not path.is_dir():
        return {path: True}
    try:
        inside = [p for p in path.iterdir() if takes(p.name)]
    except OSError as error:
        raise Misconfigured(
            f"the folder {word!r} cannot be read: {error.strerror}; mend its permissions"
        ) from error
    if inside:
        return dict.fromkeys(inside, False)
    if takes(path.name):
        return {path: True}
    below = next((p.parent for p in path.glob("*/*") if takes(p.name)), None)
    hint = f"; there are some in {below}" if below else "; name the folder that holds them"
    if any(p.name.endswith(("_rate.fits", "_rateints.fits")) for p in path.iterdir()):
        hint = f"; rates are taken if they are named: {path / '*_rate.fits'}"
    raise Misconfigured(f"the folder {word!r} holds no {what}{hint}")


def _nearest(path: Path) -> str:
    """A hint: the nearest name beside the missing one, or how far the path exists."""
    folder = path.parent
    if not folder.is_dir():
        while not folder.is_dir():
            folder = folder.parent
        return f": {folder} holds no {path.relative_to(folder).parts[0]!r}; correct the path"
    near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=1, cutoff=0.6)
    return f"; did you mean {str(folder / near[0])!r}?" if near else "; correct the name"


def _order(path: Path) -> tuple[str, int, str]:
    try:
        time = path.stat().st_mtime_ns
    except OSError:
        time = 0
    return path.name, time, str(path)
