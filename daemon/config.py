"""config.toml -> frozen dataclasses.

The defaults stand here and, commented, in config.toml at the top of the repository; a test
holds the two against each other. A name that nobody knows is an error that tells the nearest
known one; all errors of a file are told at once.

In paths ``~`` and ``$VARIABLES`` are expanded, and relative ones count from the folder of the
file (without a file: from the current folder). Where a setting may be absent, TOML, which has
no null, writes the empty string.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from upramp.daemon.parameters import (
    Registry,
    check_step,
    convert,
    effective_parameters,
    hints_of,
    nearest,
    parse_assignments,
)
from upramp.stages.core.errors import Misconfigured
from upramp.store.naming import ledger_folder

UNTIL = ("stage1", "stage2", "stage3")
"""The stages that processing may stop after."""


def _least(low: float, default: Any) -> Any:
    return field(default=default, metadata={"least": low})


@dataclass(frozen=True)
class Watch:
    """[watch]: where input arrives and when a file counts as whole."""

    folders: tuple[Path, ...] = (Path("incoming"),)
    pattern: str = "*_uncal.fits"
    observer: Literal["auto", "inotify", "polling"] = "auto"
    recursive: bool = True
    settle_s: float = _least(0, 2.0)
    poll_s: float = _least(0.05, 5.0)
    rescan_s: float = _least(1, 60.0)
    stale_s: float = _least(0, 600.0)
    persistence_wait_s: float = _least(0, 600.0)


@dataclass(frozen=True)
class Output:
    """[output]: where products appear."""

    folder: Path = Path("products")


@dataclass(frozen=True)
class Store:
    """[store]: the ledger, and what is kept between runs."""

    folder: Path | None = None
    cache: Path | None = None
    cache_mb: float = _least(0, 20000.0)
    fsync: bool = True
    compact_after: int = _least(2, 64)


@dataclass(frozen=True)
class Crds:
    """[crds]: where reference files come from. What is empty is taken from the environment."""

    server: str | None = None
    path: Path | None = None
    context: str | None = None
    offline: bool = False


@dataclass(frozen=True)
class Run:
    """[run]: how much of the machine to use, how far to go, when to give up."""

    workers: int = _least(0, 0)
    threads: int = _least(0, 0)
    memory_limit_mb: float = _least(16, 256.0)
    until: str = field(default="stage3", metadata={"choices": UNTIL})
    attempts: int = _least(1, 3)
    retry_s: float = _least(0, 30.0)
    shutdown_s: float = _least(1, 60.0)


@dataclass(frozen=True)
class Associations:
    """[associations]: which exposures are combined, and when."""

    enabled: bool = True
    across_observations: bool = False
    quiet_s: float = _least(0, 3600.0)
    build_without_failed: bool = False
    previews: bool = False
    folder: Path | None = None


@dataclass(frozen=True)
class Log:
    """[log]: what is logged, how and where."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    file: Path | None = None


@dataclass(frozen=True)
class Config:
    """Everything that an operator can set.

    ``steps`` holds the [steps.<step>] tables, ``assignments`` the ``--set`` words of the
    command line (as text), ``references`` file overrides by reference type.
    ``source`` is the file, None if there was none.
    """

    watch: Watch = Watch()
    output: Output = Output()
    store: Store = Store()
    crds: Crds = Crds()
    run: Run = Run()
    associations: Associations = Associations()
    log: Log = Log()
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    references: Mapping[str, Path] = field(default_factory=dict)
    assignments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: Path | None = field(default=None, compare=False)

    @property
    def store_folder(self) -> Path:
        """The ledger: as set, else ``ledger`` inside the output folder, so that the two move together."""
        return self.store.folder or ledger_folder(self.output.folder)

    @property
    def associations_folder(self) -> Path:
        """Where associations that are formed are written: as set, else inside the output folder."""
        return self.associations.folder or self.output.folder / "associations"

    @property
    def cache_folder(self) -> Path:
        """Prepared references: as set, else UPRAMP_CACHE, else ``upramp`` in the user's cache folder."""
        if self.store.cache:
            return self.store.cache
        if own := os.environ.get("UPRAMP_CACHE"):
            return Path(own)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upramp"

    def override(self, **changes: Any) -> Config:
        """A copy in which the command line's own options replace values; None changes nothing.

        Accepts ``section_key`` names: ``output_folder=...``, ``run_workers=...``, ``run_until=...``,
        ``log_level=...``.

        Raises
        ------
        Misconfigured
            If a value does not fit.
        """
        sections: dict[str, Any] = {}
        problems: list[str] = []
        for name, value in changes.items():
            if value is None:
                continue
            section, _, key = name.partition("_")
            current = sections.get(section, getattr(self, section))
            hint = hints_of(type(current))[key]
            try:
                value = _checked(value, hint, current.__dataclass_fields__[key], Path.cwd())
            except ValueError as e:
                problems.append(f"--{key}: {e}")
                continue
            sections[section] = dataclasses.replace(current, **{key: value})
        if problems:
            raise Misconfigured("the command line has errors:\n  " + "\n  ".join(problems))
        return dataclasses.replace(self, **sections)

    def parameters(
        self, step: str, params_type: type, crds: Mapping[str, Any] | None = None, crds_name: str = ""
    ) -> tuple[Any, dict[str, str]]:
        """The parameters a step runs with, and where each came from; see `effective_parameters`."""
        return effective_parameters(
            step,
            params_type,
            crds=crds,
            crds_name=crds_name,
            config=self.steps.get(step),
            config_name=self.source.name if self.source else "config.toml",
            command_line=self.assignments.get(step),
        )


SECTIONS: dict[str, type] = {
    "watch": Watch,
    "output": Output,
    "store": Store,
    "crds": Crds,
    "run": Run,
    "associations": Associations,
    "log": Log,
}


def expand(path: Path, base: Path) -> Path:
    """``~`` and environment variables expanded, relative paths counted from ``base``.

    Raises
    ------
    ValueError
        If a variable is not set.
    """
    text = os.path.expandvars(str(path))
    if left := re.search(r"\$(\w+|\{[^}]*\})", text):
        raise ValueError(f"environment variable {left[0]} is not set")
    try:
        return Path(os.path.normpath(base / Path(text).expanduser()))
    except RuntimeError as e:
        raise ValueError(f"{path}: {e}") from e


def _checked(value: Any, hint: Any, declared: Any, base: Path) -> Any:
    """A value of a section: of its type, within its range, paths expanded."""
    value = convert(value, hint)
    least = declared.metadata.get("least")
    if least is not None and value < least:
        raise ValueError(f"expected at least {least}, got {value!r}")
    choices = declared.metadata.get("choices")
    if choices and value not in choices:
        raise ValueError(f"expected one of {', '.join(map(repr, choices))}, got {value!r}")
    if isinstance(value, Path):
        return expand(value, base)
    if isinstance(value, tuple):
        return tuple(expand(v, base) if isinstance(v, Path) else v for v in value)
    return value


def _section(cls: type, table: Mapping[str, Any], base: Path, where: str, problems: list[str]) -> Any:
    hints = hints_of(cls)
    declared = {f.name: f for f in dataclasses.fields(cls)}
    values = {f.name: f.default for f in declared.values()} | dict(table)
    given = {}
    for key, value in values.items():
        if key not in hints:
            problems.append(f"{where} {key}: unknown key; {nearest(key, hints)}")
            continue
        try:
            given[key] = _checked(value, hints[key], declared[key], base)
        except ValueError as e:
            problems.append(f"{where} {key}: {e}")
    return cls(**given)


def _references(
    table: Mapping[str, Any], base: Path, known: Sequence[str] | None, problems: list[str]
) -> dict[str, Path]:
    found = {}
    for reftype, value in table.items():
        if known is not None and reftype not in known:
            problems.append(f"[references] {reftype}: unknown reference type; {nearest(reftype, known)}")
            continue
        try:
            found[reftype] = expand(convert(value, Path), base)
        except ValueError as e:
            problems.append(f"[references] {reftype}: {e}")
    return found


def parse(
    document: Mapping[str, Any],
    *,
    base: Path,
    source: Path | None = None,
    registry: Registry | None = None,
    reference_types: Sequence[str] | None = None,
) -> Config:
    """A configuration from a parsed TOML document.

    Parameters
    ----------
    document : mapping
        As ``tomllib`` gives it.
    base : Path
        What relative paths count from.
    source : Path, optional
        The file, for messages.
    registry : mapping, optional
        Step name -> Params class; with it the [steps.*] tables are checked.
    reference_types : sequence of str, optional
        With it the keys of [references] are checked.

    Raises
    ------
    Misconfigured
        With all problems, each with its section and key.
    """
    problems: list[str] = []
    tables: dict[str, Mapping[str, Any]] = {}
    known = [*SECTIONS, "steps", "references"]
    for name, table in document.items():
        if name not in known:
            what = "section" if isinstance(table, dict) else "key"
            problems.append(f"[{name}]: unknown {what}; {nearest(name, known)}")
        elif not isinstance(table, dict):
            problems.append(f"{name}: expected a section [{name}], got {table!r}")
        else:
            tables[name] = table
    sections = {n: _section(c, tables.get(n, {}), base, f"[{n}]", problems) for n, c in SECTIONS.items()}
    if not sections["watch"].folders:
        problems.append("[watch] folders: expected at least one folder")
    steps: dict[str, Mapping[str, Any]] = {}
    for step, values in tables.get("steps", {}).items():
        if not isinstance(values, dict):
            problems.append(f"[steps] {step}: expected a section [steps.{step}], got {values!r}")
            continue
        steps[step] = dict(values)
        if registry is not None:
            problems += [f"[steps.{step}] {p}" for p in check_step(step, values, registry)]
    references = _references(tables.get("references", {}), base, reference_types, problems)
    if problems:
        count = "an error" if len(problems) == 1 else f"{len(problems)} errors"
        raise Misconfigured(f"{source or 'the configuration'} has {count}:\n  " + "\n  ".join(problems))
    return Config(**sections, steps=steps, references=references, source=source)


def find(explicit: Path | str | None = None) -> Path | None:
    """The configuration file to read, None if there is none and the defaults hold.

    In this order: the one given, ``UPRAMP_CONFIG``, ``~/.config/upramp/config.toml``,
    ``/etc/upramp/config.toml``. A config.toml that happens to lie in the current folder is
    not read.

    Raises
    ------
    Misconfigured
        If a file was asked for by name and is not there.
    """
    for asked, how in ((explicit, "--config"), (os.environ.get("UPRAMP_CONFIG"), "UPRAMP_CONFIG")):
        if asked:
            path = Path(asked).expanduser()
            if not path.is_file():
                raise Misconfigured(f"{path}, given by {how}, is not a file; correct the path")
            return path
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "upramp/config.toml"
    return next((p for p in (own, Path("/etc/upramp/config.toml")) if p.is_file()), None)


def load(
    explicit: Path | str | None = None,
    *,
    assignments: Sequence[str] = (),
    registry: Registry | None = None,
    reference_types: Sequence[str] | None = None,
) -> Config:
    """Find, read and check the configuration; see `find` and `parse`.

    ``assignments`` are the ``--set step.param=value`` words of the command line.

    Raises
    ------
    Misconfigured
        If the file cannot be read, is no TOML, or holds errors.
    """
    path = find(explicit)
    document: dict[str, Any] = {}
    if path is not None:
        path = path.absolute()
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as e:
            raise Misconfigured(f"{path} cannot be read: {e}; mend the file or its permissions") from e
        except tomllib.TOMLDecodeError as e:
            raise Misconfigured(f"{path} is not valid TOML: {e}; mend that line") from e
    config = parse(
        document,
        base=path.parent if path else Path.cwd(),
        source=path,
        registry=registry,
        reference_types=reference_types,
    )
    return dataclasses.replace(config, assignments=parse_assignments(assignments, registry))
