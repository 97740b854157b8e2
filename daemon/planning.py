"""What is to be done with one file: which steps run, why others do not, and with what.

Nothing is processed here; ``calibrate`` does what was planned.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upramp.daemon.config import Config
from upramp.daemon.desk import upramp_version
from upramp.daemon.events import Identity, Turn
from upramp.daemon.logs import bound, get_logger
from upramp.daemon.reading import identify, sha256_known
from upramp.stages import pipelines
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Step
from upramp.stages.core.whole import WholeStep
from upramp.stages.stage1 import persistence
from upramp.stages.stage2 import bkg_subtract
from upramp.stages.stage3.members import JointStep
from upramp.store.association_file import AssociationFile, open_association
from upramp.store.exposure_file import ExposureFile
from upramp.store.image_file import kind_of, open_image
from upramp.store.naming import is_association
from upramp.store.provenance import fingerprint
from upramp.store.references import Best, Crds, CrdsSettings, open_crds
from upramp.store.uncal import open_uncal

log = get_logger()

AnyStep = Step | WholeStep[Any] | JointStep
Input = ExposureFile | AssociationFile

FILES = ("abs_refcat", "catfile", "skylist", "output_wcs")
"""Parameters that name files which products are made of."""

RATES = frozenset({"rate", "rateints"})
"""Endings of the files that the second stage takes."""


@dataclass(frozen=True)
class CalibrationJob:
    """A file to calibrate, and how."""

    path: Path
    run_id: str
    config: Config
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    force: bool = False


@dataclass(frozen=True)
class PlannedStep:
    """What is to be done with one step.

    ``parameters``: name -> (value, where it came from); ``references``: rows with type, name, path, context.
    """

    step: AnyStep
    params: Any
    state: str
    reason: str
    parameters: Mapping[str, tuple[Any, str]]
    references: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Best]
    pars_file: str = ""
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    def runs(self) -> bool:
        """Whether it is to run."""
        return self.state == "run"


@dataclass(frozen=True)
class CalibrationPlan:
    """What is to be done with one file; ``identity`` is that of the file when it was opened.

    ``params``: the pipeline's own parameters; ``members``: files that an association lists, with their
    checksums.
    """

    job: CalibrationJob
    identity: Identity
    uncal: Input
    pipeline: pipelines.Pipeline
    steps: tuple[PlannedStep, ...]
    crds: Crds = field(repr=False)
    params: Any = None
    members: tuple[tuple[Identity, str], ...] = ()

    @property
    def context(self) -> str:
        """The CRDS context."""
        return self.crds.context

    @property
    def crds_version(self) -> str:
        """Version of the CRDS client."""
        return self.crds.version

    @property
    def turn(self) -> Turn | None:
        """Its place among the segments of its detector, if windows of persistence go on from one to the next.

        They do where the step runs and no file of windows was given.
        """
        step = next((s for s in self.steps if s.name == "persistence" and s.runs), None)
        if step is None or step.params.persistence_array_file:
            return None
        return turn_of(self.uncal.meta, step.params.persistence_time)

    @property
    def goes_on(self) -> str:
        """The kind of its products that the next stage takes, or ""."""
        return pipelines.goes_on_with(self.pipeline, self.uncal.meta)

    @property
    def notices(self) -> list[tuple[str, str]]:
        """(step, what its parameters ask for and this version does not do)."""
        return [(s.name, notice) for s in self.steps for notice in s.notices]

    def fingerprint(self, input_sha256: str, windows_sha256: str = "") -> str:
        """What the products would be made from, as one number.

        ``windows_sha256``: checksum of the windows of persistence to begin with, "" for none.
        """
        steps = [
            (s.name, {n: v for n, (v, _) in s.parameters.items()} | {"state": s.state, "reason": s.reason})
            for s in self.steps
        ]
        if self.params is not None and dataclasses.fields(self.params):
            steps.append((self.pipeline.name, dataclasses.asdict(self.params)))
        references = {
            b.reftype: self.crds.checksum(b) if b.path else str(b.name or b.reason)
            for s in self.steps
            for b in s.best.values()
        }
        if windows_sha256:
            references["persistence_windows"] = windows_sha256
        inputs = [input_sha256, *(sha256 for _, sha256 in self.members)]
        return fingerprint(inputs, steps, references, upramp_version())


def turn_of(meta: ExposureMeta, seconds: float = 0.0) -> Turn:
    """When a segment was taken, and by which detector; ``seconds`` that windows of persistence last."""
    return Turn(meta.detector, *persistence.span(meta), float(seconds))


def glance(path: Path) -> Turn | None:
    """The turn of a file that others may have to wait for; None if its times are not known.

    Raises
    ------
    Unprocessable
        If the file is no level-1b exposure.
    Retryable
        If it cannot be read for the time being.
    """
    if kind_of(path.name) or is_association(path.name):
        return None
    meta = open_uncal(path).meta
    known = meta.exposure_start > 0 and pipelines.for_exposure(meta) is not pipelines.GUIDER
    return turn_of(meta) if known else None


_opened: dict[tuple[Any, ...], Crds] = {}
_opening = threading.Lock()


def crds_of(config: Config) -> Crds:
    """CRDS as the configuration wants it; one for each setting, because it remembers what it looked up."""
    c = config.crds
    overrides = {k: str(v) for k, v in config.references.items()}
    settings = CrdsSettings(c.server or "", str(c.path or ""), c.context or "", c.offline, overrides)
    key = (c, tuple(sorted(overrides.items())), config.cache_folder)
    with _opening:
        if key not in _opened:
            _opened[key] = open_crds(settings, memory=config.cache_folder / "checksums.json")
        return _opened[key]


def plan(job: CalibrationJob) -> CalibrationPlan:
    """Say what would be done with a file. Nothing is processed.

    Raises
    ------
    Unprocessable
        If the file is not a level-1b exposure that a pipeline here takes.
    Misconfigured
        If parameters or references are wrong.
    Retryable
        If the file or the CRDS server cannot be reached for the time being.
    """
    identity = identify(job.path)
    uncal, pipeline = open_input(job.path, job.config)
    clock, crds = time.perf_counter(), crds_of(job.config)
    types = {s.name: s.pars for s in pipeline.steps if s.pars} | {pipeline.name: pipeline.pars}
    found = crds.parameters(uncal.header, types)
    wanted = {r for s in pipeline.steps for r in s.references if not _is_parameter(s, r)}
    best = crds.best(uncal.header, sorted(wanted))
    steps = tuple(_planned(job.config, s, uncal, found.get(s.name, {}), best, crds) for s in pipeline.steps)
    given = found.get(pipeline.name, {})
    values = {name: value for name, (value, _) in given.items()}
    named = ", ".join(sorted({file for _, file in given.values()}))
    params, _ = job.config.parameters(pipeline.name, pipeline.params, values, named)
    files = sum(bool(row["path"]) for s in steps for row in s.references)
    seconds = round(time.perf_counter() - clock, 3)
    with bound(segment_id=uncal.segment_id, exposure_id=uncal.exposure_id):
        log.debug("references_resolved", context=crds.context, references=files, seconds=seconds)
    members = tuple(sha256_known(path) for path in _listed(uncal, steps))
    return CalibrationPlan(job, identity, uncal, pipeline, steps, crds, params, members)


def _listed(uncal: Input, steps: Sequence[PlannedStep]) -> list[Path]:
    """Files beside the input that products are made of: those of an association, and those of parameters."""
    files = [file.path for file in uncal.members] if isinstance(uncal, AssociationFile) else []
    named = [getattr(s.params, name, None) for s in steps if s.runs for name in FILES]
    return [*files, *backgrounds_given(steps), *(p for p in map(Path, filter(None, named)) if p.is_file())]


def backgrounds_given(steps: Sequence[PlannedStep]) -> list[Path]:
    """Background exposures that a parameter names."""
    step = next((s for s in steps if s.name == bkg_subtract.STEP.name and s.runs), None)
    return [Path(name) for name in step.params.bkg_list or ()] if step else []


def open_input(path: Path, config: Config) -> tuple[Input, pipelines.Pipeline]:
    """Look at the file of an exposure or an association, and find the pipeline that takes it.

    Raises
    ------
    Unprocessable, Retryable
        As `plan`.
    """
    if is_association(path.name):
        asked = open_association(path, [config.output.folder])
        return asked, pipelines.for_image(asked.meta) if asked.level == 2 else pipelines.IMAGE3
    if kind_of(path.name) in RATES:
        image = open_image(path)
        return image, pipelines.for_image(image.meta)
    uncal = open_uncal(path)
    return uncal, pipelines.for_exposure(uncal.meta)


def reference_types() -> list[str]:
    """Every reference type that a file may be named for in the configuration."""
    steps = [s for p in pipelines.PIPELINES for s in p.steps]
    files = {r for s in steps for r in s.references if not _is_parameter(s, r)}
    pars = {s.pars for s in steps if s.pars} | {p.pars for p in pipelines.PIPELINES if p.pars}
    return sorted(files | pars)


def _is_parameter(step: AnyStep, reftype: str) -> bool:
    """Whether a "reference" is a file that a parameter of the same name gives."""
    return any(f.name == reftype for f in dataclasses.fields(step.params))


def _planned(
    config: Config,
    step: AnyStep,
    uncal: Input,
    pars: Mapping[str, tuple[Any, str]],
    best: Mapping[str, Best],
    crds: Crds,
) -> PlannedStep:
    """Parameters, references and whether the step runs."""
    files = sorted({file for _, file in pars.values()})
    values = {name: value for name, (value, _) in pars.items()}
    params, sources = config.parameters(step.name, step.params, values, ", ".join(files))
    sources = {n: f"crds: {pars[n][1]}" if src.startswith("crds") else src for n, src in sources.items()}
    takes = step.takes(uncal.meta, params)
    own = {r: best[r] for r in takes if r in best}
    for r in takes:
        given = getattr(params, r, None) if _is_parameter(step, r) else None
        if given:
            own[r] = Best(r, Path(given).name, Path(given), "given as a parameter", True)
    reason = "skip = true" if params.skip else ""
    if not reason:
        missing = [r for r in takes if r not in step.optional and not own[r].applies]
        reason = f"no {' and no '.join(missing)} reference (N/A)" if missing else ""
    reason = reason or step.skip_if(uncal.meta, params) or ""
    rows = []
    for r, b in own.items():
        if not reason and b.applies and (r not in step.optional or b.name is not None):
            own[r] = b = dataclasses.replace(b, path=crds.fetch(b))
        elif b.path is not None:
            own[r] = b = dataclasses.replace(b, path=None)
        name = b.name if b.applies and b.name else "N/A" if not b.applies else b.reason
        path = str(b.path) if b.path else None
        rows.append({"type": r, "name": name, "path": path, "context": "" if b.overridden else crds.context})
    parameters = {f.name: (getattr(params, f.name), sources[f.name]) for f in dataclasses.fields(params)}
    notices = tuple(step.unsupported(params)) if not reason else ()
    state = "skip" if reason else "run"
    return PlannedStep(step, params, state, reason, parameters, tuple(rows), own, ", ".join(files), notices)
