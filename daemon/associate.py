"""``upramp associate``: from a pool, or the headers of exposures, to association files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upramp.daemon.inputs import find_inputs
from upramp.stages.associations.group import Labels, associate, background_key
from upramp.stages.associations.names import is_exposure
from upramp.stages.associations.pool import Exposure, link_backgrounds
from upramp.stages.associations.record import Association
from upramp.stages.core.errors import Misconfigured
from upramp.store.associations import read_headers, read_pool, write_associations, write_pool
from upramp.store.headers import software


@dataclass(frozen=True)
class Outcome:
    """What was read and written, and notes on what could not be told from headers."""

    exposures: list[Exposure]
    associations: list[Association]
    paths: list[Path]
    notes: list[str]

    def facts(self) -> dict[str, Any]:
        """For machines."""
        rows = [
            {
                "file": str(path),
                "type": association.asn_type,
                "id": association.asn_id,
                "product": association.products[0].name,
                "members": len(association.members),
            }
            for path, association in zip(self.paths, self.associations, strict=True)
        ]
        return {"exposures": len(self.exposures), "associations": rows, "notes": self.notes}

    def lines(self) -> list[str]:
        """For people: how many of each type, and what is made of several exposures."""
        told = [f"wrote {len(self.paths)} associations of {len(self.exposures)} exposures"]
        counts: dict[str, int] = {}
        for association in self.associations:
            counts[association.asn_type] = counts.get(association.asn_type, 0) + 1
        told += [f"  {count:5d} {asn_type}" for asn_type, count in sorted(counts.items())]
        for association in self.associations:
            if association.level == 3:
                name, number = association.products[0].name, len(association.members)
                told.append(f"  {name}: {number} {'member' if number == 1 else 'members'}")
        return told + [f"note: {note}" for note in self.notes]


def run(
    words: Sequence[str],
    output: Path,
    *,
    candidates: Collection[str] | None = None,
    discover: bool = True,
    version_id: str | None = None,
    save_pool: Path | None = None,
) -> Outcome:
    """Write the associations of what the words name into a folder.

    Parameters
    ----------
    words : sequence of str
        One pool file (``.csv``), or FITS products of exposures: files, globs, folders.
    output : Path
        The folder; it is made if it is missing.
    candidates, discover : collection of str or None, bool
        See `upramp.stages.associations.group.associate`.
    version_id : str or None
        Written into the associations and their names.
    save_pool : Path or None
        Where to keep the pool, with what was found out from headers.

    Raises
    ------
    Misconfigured, Unprocessable
        If there is nothing to read, or it cannot be read.
    """
    pools = [word for word in words if word.lower().endswith(".csv")]
    notes: list[str] = []
    if pools:
        if len(words) > 1:
            raise Misconfigured("give one pool alone, or exposures: a pool tells of all its exposures")
        (path,) = find_inputs(pools)
        exposures, name = read_pool(path), path.name
    else:
        paths = find_inputs(words, is_exposure, "exposures (*_uncal.fits, *_rate.fits, *_cal.fits, ...)")
        known, bad = read_headers(paths)
        linked = link_backgrounds(known, background_key)
        exposures, notes = linked.exposures, [*(f"left out: {why}" for why in bad), *linked.notes]
        name = save_pool.name if save_pool else "none"
    if candidates:
        there = {c.id for exposure in exposures for c in exposure.candidates}
        if unknown := sorted(set(candidates) - there):
            raise Misconfigured(
                f"there is no candidate {', '.join(unknown)}; there are {', '.join(sorted(there))}"
            )
    if save_pool is not None:
        write_pool(save_pool, exposures)
    labels = Labels(name, version_id, software())
    found = associate(exposures, candidates=candidates, discover=discover, labels=labels)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"{output} cannot be made ({error.strerror}); name a folder that can be written"
        ) from error
    return Outcome(exposures, found, write_associations(output, found), notes)
