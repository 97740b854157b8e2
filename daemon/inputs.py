"""From the words of a command line to input files: names, globs, folders."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from upramp.stages.core.errors import Misconfigured
from upramp.store.naming import is_input


def find_inputs(
    words: Sequence[str], takes: Callable[[str], bool] = is_input, what: str = "*_uncal.fits"
) -> list[Path]:
    """All input files that the words name, each once, in order of their names.

    A folder gives the files in it whose names ``takes`` takes and errors call ``what``; by default uncal
    files. Files of the same name from several folders come in order of their times, so that the newest is
    taken last and counts. What is named exists,
    but need not be a readable file: that is judged, and recorded, later.

    Raises
    ------
    Misconfigured
        If a word names nothing; with the nearest name there is.
    """
    found: dict[Path, None] = {}
    problems = []
    for word in words:
        try:
            found.update((path, None) for path in _expand(word, takes, what))
        except Misconfigured as error:
            problems.append(str(error))
    if problems:
        raise Misconfigured("\n".join(problems))
    return sorted(found, key=_order)


def _expand(word: str, takes: Callable[[str], bool], what: str) -> Iterable[Path]:
    path = Path(os.path.normpath(Path(word).expanduser().absolute()))
    if os.path.lexists(path):
        return _of(path, word, takes, what)
    if glob.has_magic(word):
        paths = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not paths:
            raise Misconfigured(f"nothing matches {word!r}; correct the pattern, or name the folder")
        files = [p for p in paths if not p.is_dir() or takes(p.name)]
        return files or [p for folder in paths for p in _of(folder, word, takes, what)]
    raise Misconfigured(f"there is no {word!r}{_nearest(path)}")


def _of(path: Path, word: str, takes: Callable[[str], bool], what: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        inside = [p for p in path.iterdir() if takes(p.name)]
    except OSError as error:
        raise Misconfigured(
            f"the folder {word!r} cannot be read: {error.strerror}; mend its permissions"
        ) from error
    if inside:
        return inside
    if takes(path.name):
        return [path]
    below = next((p.parent for p in path.glob("*/*") if takes(p.name)), None)
    hint = f"; there are some in {below}" if below else "; name the folder that holds them"
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
