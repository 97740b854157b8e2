"""What calibrations of all stages share: prepared references, header cards, and what they leave."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upramp.daemon.planning import CalibrationPlan, PlannedStep
from upramp.daemon.reading import refuse_changed
from upramp.stages.associations.record import SOUND
from upramp.stages.core.frames import Interrupted
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared
from upramp.store.asdf_tree import reference_keyword
from upramp.store.association_file import AssociationFile
from upramp.store.naming import prepared_folder
from upramp.store.prepared import PreparedStore
from upramp.store.products import Published


@dataclass
class Result:
    """What one pipeline leaves: products, states (ran, reason), counters, seconds by step, statistics."""

    published: list[Published]
    states: dict[str, tuple[bool, str]]
    counters: Mapping[str, int]
    wall: Mapping[str, float]
    cpu: Mapping[str, float]
    integrations: list[dict[str, Any]]
    left: dict[str, Any] | None = None


@functools.cache
def prepared_of(cache: Path) -> PreparedStore:
    """The prepared references of a cache folder: one for all files, so that work side by side shares them."""
    return PreparedStore(prepared_folder(cache))


def prepared(work: CalibrationPlan, step: PlannedStep, meta: ExposureMeta) -> dict[str, Prepared]:
    """The step's references, ready for its kernels."""
    store = prepared_of(work.job.config.cache_folder)
    ready = {}
    for reftype, best in step.best.items():
        prepare = step.step.prepare.get(reftype)
        if best.path is not None and prepare is not None:
            ready[reftype] = store.get(step.name, reftype, best.path, prepare, meta, step.params)
    return ready


def may_publish(work: CalibrationPlan, stop: Callable[[], bool]) -> None:
    """Raise, rather than publish what nobody waits for or what was made of two contents."""
    if stop():
        raise Interrupted
    for identity in (work.identity, *(identity for identity, _ in work.members)):
        refuse_changed(identity)


def state_cards(work: CalibrationPlan, states: Mapping[str, tuple[bool, str]]) -> dict[str, Any]:
    """Header cards: context, references, states of the steps."""
    cards: dict[str, Any] = {"CRDS_CTX": work.context, "CRDS_VER": work.crds_version, "CAL_VCS": "RELEASE"}
    for step in work.steps:
        cards[step.step.keyword] = "COMPLETE" if states[step.name][0] else "SKIPPED"
        for row in step.references:
            keyword = reference_keyword(row["type"])
            if keyword and (row["path"] or cards.get(keyword) is None) and not step.params.skip:
                best = step.best[row["type"]]
                chosen = best.applies and best.name and not best.overridden
                cards[keyword] = f"crds://{row['name']}" if chosen else row["name"]
    return cards


def association_cards(source: AssociationFile) -> dict[str, Any]:
    """What headers tell of the association that a product belongs to."""
    association = source.association
    degraded = association.degraded_status.partition("\n")[0]
    return {
        "ASNPOOL": association.asn_pool,
        "ASNTABLE": source.path.name,
        "DEGRADED": degraded if degraded and degraded != SOUND else None,
    }
