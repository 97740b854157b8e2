"""The CRDS client: its environment, the context, the mappings and downloads.

The `crds` package reads its settings from environment variables and is slow to import
(about half a second), so the environment is set and the package imported on first use.
Off line nothing is ever asked of the network. Best references are computed from the
context's mapping files, as the package does itself, but only for the reference types
that are wanted and without its observatory plug-in, which would need `stdatamodels`.
"""

from __future__ import annotations

import ast
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from upramp.stages.core.errors import Misconfigured, Retryable, Unprocessable

log = logging.getLogger(__name__)

PUBLIC_SERVER = "https://jwst-crds.stsci.edu"
NO_SERVER = "https://jwst-serverless-mode.stsci.edu"  # the client never calls a URL with "serverless"
TIMEOUT = "60"  # s; the client's own default is an hour

# FITS keywords that CRDS mappings match on, by the client's parameter names.
PARAMETERS: dict[str, str] = {
    "META.CALIBRATION_SOFTWARE_VERSION": "CAL_VER",
    "META.EXPOSURE.GROUPGAP": "GROUPGAP",
    "META.EXPOSURE.NFRAMES": "NFRAMES",
    "META.EXPOSURE.NGROUPS": "NGROUPS",
    "META.EXPOSURE.NINTS": "NINTS",
    "META.EXPOSURE.NOUTPUTS": "NOUTPUTS",
    "META.EXPOSURE.READPATT": "READPATT",
    "META.EXPOSURE.TYPE": "EXP_TYPE",
    "META.INSTRUMENT.BAND": "BAND",
    "META.INSTRUMENT.CHANNEL": "CHANNEL",
    "META.INSTRUMENT.CORONAGRAPH": "CORONMSK",
    "META.INSTRUMENT.DETECTOR": "DETECTOR",
    "META.INSTRUMENT.FILTER": "FILTER",
    "META.INSTRUMENT.GRATING": "GRATING",
    "META.INSTRUMENT.GWA_XTILT": "GWA_XTIL",
    "META.INSTRUMENT.LAMP_MODE": "OPMODE",
    "META.INSTRUMENT.LAMP_STATE": "LAMP",
    "META.INSTRUMENT.MODULE": "MODULE",
    "META.INSTRUMENT.NAME": "INSTRUME",
    "META.INSTRUMENT.PUPIL": "PUPIL",
    "META.OBSERVATION.DATE": "DATE-OBS",
    "META.OBSERVATION.TIME": "TIME-OBS",
    "META.SUBARRAY.FASTAXIS": "FASTAXIS",
    "META.SUBARRAY.NAME": "SUBARRAY",
    "META.SUBARRAY.SLOWAXIS": "SLOWAXIS",
    "META.SUBARRAY.XSIZE": "SUBSIZE1",
    "META.SUBARRAY.XSTART": "SUBSTRT1",
    "META.SUBARRAY.YSIZE": "SUBSIZE2",
    "META.SUBARRAY.YSTART": "SUBSTRT2",
    "META.TARGET.SOURCE_TYPE_APT": "SRCTYAPT",
    "META.TELESCOPE": "TELESCOP",
    "META.VISIT.CROWDED_FIELD": "CROWDFLD",
    "META.VISIT.TSOVISIT": "TSOVISIT",
    "META.VISIT.TYPE": "VISITYPE",
}


def parameters_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that CRDS matches on, from FITS keywords or from META.* names.

    Raises
    ------
    Unprocessable
        If the header does not say that the telescope is JWST or names no instrument.
    """
    upper = {key.upper(): value for key, value in header.items()}
    if any(key.startswith("META.") for key in upper):
        found = upper
    else:
        found = {name: upper[keyword] for name, keyword in PARAMETERS.items() if keyword in upper}
    found = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    for name, wanted in (("META.TELESCOPE", "JWST"), ("META.INSTRUMENT.NAME", "")):
        value = str(found.get(name, "")).strip().upper()
        if not value or (wanted and value != wanted):
            raise Unprocessable(
                f"header keyword {PARAMETERS[name]} is {value or 'missing'}, but must be {wanted or 'given'} "
                "to look up reference files"
            )
    return found


@dataclass(frozen=True)
class CrdsSettings:
    """Where reference files come from.

    Parameters
    ----------
    server_url : str
        CRDS server; empty for the environment's CRDS_SERVER_URL or else the public one.
    path : str
        Folder of the local cache; empty for the environment's CRDS_PATH or else ~/crds_cache.
    context : str
        Context (jwst_NNNN.pmap); empty for the environment's CRDS_CONTEXT or else the server's default.
    offline : bool
        Never use the network. A server URL with "serverless" in it means the same.
    overrides : mapping
        Reference type -> path of a file to use in place of what CRDS says, or N/A for none.
    """

    server_url: str = ""
    path: str = ""
    context: str = ""
    offline: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)


@cache
def _installed_version() -> str:
    return metadata.version("crds")


class CrdsClient:
    """One cache, one server, one context. Nothing is read or imported before it is needed."""

    def __init__(self, settings: CrdsSettings) -> None:
        url = settings.server_url or os.environ.get("CRDS_SERVER_URL") or PUBLIC_SERVER
        self.offline = settings.offline or "serverless" in url or "server-less" in url
        self.server_url = NO_SERVER if self.offline else url.rstrip("/")
        default = os.environ.get("CRDS_PATH") or "~/crds_cache"
        self.path = Path(settings.path or default).expanduser().absolute()
        self._own_path = bool(settings.path)
        self._wanted = settings.context or os.environ.get("CRDS_CONTEXT") or ""
        self._lock = threading.RLock()
        self._context = ""
        self._info: dict[str, Any] | None = None
        self._known: Mapping[str, Any] | None = None
        self._started = False
        self.mappings_folder = self.references_folder = self.config_folder = self.path

    @property
    def version(self) -> str:
        """Version of the client package, for CRDS_VER."""
        return _installed_version()

    @property
    def context(self) -> str:
        """The context, resolved once: configuration, CRDS_CONTEXT, the server's or the cache's default.

        Raises
        ------
        Misconfigured
            If it cannot be known off line.
        Retryable
            If the server is out of reach and the cache remembers no default.
        """
        with self._lock:
            if not self._context:
                self._context = self._resolve()
            return self._context

    def _resolve(self) -> str:
        wanted = self._wanted
        if wanted.endswith(".pmap"):
            return wanted
        if wanted.endswith((".imap", ".rmap")):
            raise Misconfigured(
                f"CRDS context {wanted} is not a pipeline context: [crds] context (or CRDS_CONTEXT) "
                "must look like jwst_1234.pmap"
            )
        name = wanted.removeprefix("jwst-")
        keys = ("edit_context",) if name == "edit" else ("latest_context", "operational_context")
        info = self.info()
        if name in ("", "latest", "operational", "edit"):
            for key in keys:
                if info.get(key):
                    return str(info[key])
            raise Misconfigured(
                f"no CRDS context is known: off line, {self.config_folder / 'server_config'} must name one; "
                "give [crds] context = jwst_NNNN.pmap (or CRDS_CONTEXT), or fill the cache with 'crds sync'"
            )
        if self.offline:
            raise Misconfigured(
                f"CRDS context {wanted!r} can be translated only by the server, but upramp works off line; "
                "give [crds] context = jwst_NNNN.pmap"
            )
        with self._network(f"translate the context {wanted!r}") as api:
            return str(api.get_context_by_date(wanted, "jwst"))

    def start(self) -> Any:
        """Set the client's environment and import it; returns the package."""
        with self._lock:
            if not self._started:
                if self._own_path:
                    for name in [n for n in os.environ if n.startswith("CRDS_") and "PATH" in n]:
                        del os.environ[name]
                    os.environ["CRDS_PATH"] = str(self.path)
                else:
                    os.environ.setdefault("CRDS_PATH", str(self.path))
                os.environ["CRDS_SERVER_URL"] = self.server_url
                os.environ["CRDS_OBSERVATORY"] = "jwst"
                os.environ.setdefault("CRDS_CLIENT_TIMEOUT_SECONDS", TIMEOUT)
                if self.offline:
                    os.environ["CRDS_READONLY_CACHE"] = "1"
                import crds
                from crds.core import config
                from crds.core import log as crds_log

                # The client logs to the console by itself; its records shall go where all others go.
                crds_log.remove_console_handler()
                logging.getLogger("CRDS").propagate = True
                self.mappings_folder = Path(config.get_crds_mappath("jwst"))
                self.references_folder = Path(config.get_crds_refpath("jwst"))
                self.config_folder = Path(config.get_crds_cfgpath("jwst"))
                self._started = True
            import crds

            return crds

    @contextmanager
    def _network(self, what: str) -> Iterator[Any]:
        """The client's service calls, aimed at our server; its troubles become Retryable."""
        crds = self.start()
        if crds.api.get_crds_server() != self.server_url:
            crds.api.set_crds_server(self.server_url)
            crds.core.utils.clear_function_caches()
        try:
            yield crds.api
        except (crds.core.exceptions.CrdsError, OSError) as exc:
            raise Retryable(f"the CRDS server {self.server_url} could not {what}: {exc}") from exc

    def info(self) -> Mapping[str, Any]:
        """What the server says of itself; off line or out of reach, what the cache remembers of it."""
        with self._lock:
            if self._info is None:
                self.start()
                self._info = self._remembered() if self.offline else self._asked()
            return self._info

    def _asked(self) -> dict[str, Any]:
        try:
            with self._network("be asked for its default context") as api:
                info = dict(api.get_server_info())
        except Retryable as exc:
            remembered = self._remembered()
            if not remembered and not self._wanted.endswith(".pmap"):
                raise
            log.warning("crds_unreachable", extra={"reason": str(exc)})
            return remembered
        crds = self.start()
        if not crds.core.config.get_cache_readonly():
            crds.core.heavy_client.cache_server_info(crds.core.heavy_client.ConfigInfo(info), "jwst")
        return info

    def _remembered(self) -> dict[str, Any]:
        path = self.config_folder / "server_config"
        try:
            found = ast.literal_eval(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, SyntaxError, UnicodeDecodeError) as exc:
            raise Misconfigured(
                f"CRDS cache file {path} cannot be read ({exc}): remove it and run 'crds sync'"
            ) from exc
        return dict(found)

    def _catalogue(self) -> Mapping[str, Any]:
        """Size and sha1 of all files that the server has; empty if it does not tell."""
        with self._lock:
            if self._known is None:
                coded = self.info().get("download_metadata") or {}
                self._known = self.start().client.proxy.crds_decode(coded) or {}
            return self._known

    def expected(self, name: str) -> tuple[int, str] | None:
        """Size in bytes and sha1 of a file as the server knows them, or None."""
        entry = self._catalogue().get(name)
        if not isinstance(entry, Mapping) or not str(entry.get("size", "")).isdigit():
            return None
        sha1 = str(entry.get("sha1sum", "")).lower()
        return int(entry["size"]), sha1 if len(sha1) == 40 else ""

    def is_bad(self, name: str) -> bool:
        """Whether the server declares a file scientifically invalid and the environment does not allow it."""
        if name not in self.info().get("bad_files_list", ()):
            return False
        config = self.start().core.config
        allowed = config.ALLOW_BAD_RULES if name.endswith("map") else config.ALLOW_BAD_REFERENCES
        return not allowed

    def instrument_mapping(self, parameters: Mapping[str, Any]) -> Any:
        """The context's mapping of the exposure's instrument."""
        instrument = str(parameters["META.INSTRUMENT.NAME"]).strip().lower()
        with self._lock:
            pmap = self._load(lambda crds: crds.rmap.get_cached_mapping(self.context, path=self._folder()))
            known = instrument in frozenset(pmap.selections)  # its own "in" would load the file
            imap = self._load(lambda crds: pmap.selections[instrument]) if known else "N/A"
            if isinstance(imap, str):
                raise Unprocessable(f"CRDS context {self.context} knows no instrument {instrument.upper()}")
            return imap

    def reference_mapping(self, imap: Any, reftype: str) -> Any:
        """The mapping of a reference type; "N/A" or "OMIT"; or None if the context lacks the type."""
        with self._lock:
            if reftype not in frozenset(imap.selections):
                return None
            found = self._load(lambda crds: imap.selections[reftype])
            if not isinstance(found, str):
                # A plug-in rule of another observatory; looking for it would import stdatamodels.
                found.dnr_check = _never
            return found

    def _folder(self) -> str:
        self.start()
        return str(self.mappings_folder)

    def _load(self, load: Any) -> Any:
        crds = self.start()
        try:
            try:
                mapping = load(crds)
            except FileNotFoundError as exc:
                if self.offline:
                    raise Misconfigured(
                        f"CRDS mapping {Path(str(exc.filename)).name} of context {self.context} is not in "
                        f"the cache {self.path}, and upramp works off line; "
                        f"{self.remedy('--contexts ' + self.context)}"
                    ) from exc
                self._download_mappings()
                mapping = load(crds)
        except (crds.core.exceptions.CrdsError, SyntaxError, OSError) as exc:
            raise Misconfigured(
                f"a CRDS mapping of context {self.context} in {self.mappings_folder} cannot be used ({exc}); "
                f"remove the file, then {self.remedy('--contexts ' + self.context)}"
            ) from exc
        if not isinstance(mapping, str) and self.is_bad(mapping.basename):
            raise Misconfigured(
                f"CRDS mapping {mapping.basename} of context {self.context} is declared scientifically "
                "invalid; choose another [crds] context, or set CRDS_ALLOW_BAD_RULES=1 if you must"
            )
        return mapping

    def remedy(self, what: str) -> str:
        """The command that brings files into the cache."""
        server = PUBLIC_SERVER if self.offline else self.server_url
        return (
            f"fetch it where there is a network: CRDS_PATH={self.path} CRDS_SERVER_URL={server} "
            f"crds sync {what}"
        )

    def _download_mappings(self) -> None:
        with self._network(f"deliver the mappings of {self.context}") as api:
            self._fetch(api, sorted(api.get_mapping_names(self.context), reverse=True))

    def locate(self, name: str) -> Path:
        """Where a file lies, or would lie, in the cache."""
        if name.endswith("map"):
            return Path(self._folder()) / name
        self.start()
        parts = name.split("_")
        flat = self.references_folder / name
        if len(parts) < 3 or flat.is_file():
            return flat
        return self.references_folder / parts[1].lower() / name

    def download(self, name: str) -> None:
        """Bring a reference file into the cache; a read-only cache stays as it is.

        Raises
        ------
        Misconfigured
            If the server does not know the file.
        Retryable
            If the server is out of reach or the transfer fails.
        """
        if self._catalogue() and name not in self._catalogue():
            raise Misconfigured(
                f"reference file {name} (context {self.context}) is not in the CRDS cache {self.path}, and "
                f"the server {self.server_url} does not know it; choose another [crds] context or server, or "
                "give a file under [references]"
            )
        with self._network(f"deliver {name}") as api:
            self._fetch(api, [name])

    def _fetch(self, api: Any, names: Sequence[str]) -> None:
        cacher = api.FileCacher(self.context, False, True)
        cacher.locate = lambda name: str(self.locate(name))  # the client's own needs stdatamodels
        cacher.get_local_files(list(names))


def _never(header: Mapping[str, Any]) -> bool:
    return False
