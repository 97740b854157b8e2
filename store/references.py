"""Reference files: which ones are best for an exposure, where they lie, whether they are whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upramp.stages.core.errors import Misconfigured
from upramp.store.checksums import Checksums
from upramp.store.crds_client import PARAMETERS, CrdsClient, CrdsSettings, parameters_of
from upramp.store.file_structure import check_structure
from upramp.store.parameter_references import Value, merge

log = logging.getLogger(__name__)

NOT_APPLICABLE = "N/A"
_UNDEFINED = dict.fromkeys(PARAMETERS, "UNDEFINED")


@dataclass(frozen=True, slots=True)
class Best:
    """What there is of one reference type for an exposure.

    Attributes
    ----------
    reftype : str
        Reference type, lower case.
    name : str or None
        File name; None if there is no file.
    path : Path or None
        Where the file lies, or will lie once fetched.
    reason : str
        Why there is no file: "N/A" where the rules say that the type does not apply (a step
        that needs it is skipped), else the client's sentence ("NOT FOUND ...") or ours.
    overridden : bool
        Whether configuration chose it rather than CRDS.
    """

    reftype: str
    name: str | None = None
    path: Path | None = None
    reason: str = ""
    overridden: bool = False

    @property
    def applies(self) -> bool:
        """False if the rules say that this type does not apply."""
        return self.reason != NOT_APPLICABLE


class Crds:
    """Best references under one context, from one cache. Made by `open_crds`."""

    def __init__(self, settings: CrdsSettings, checksums: Checksums) -> None:
        self.settings = settings
        self.client = CrdsClient(settings)
        self.checksums = checksums
        self._sound: dict[Path, tuple[int, int]] = {}  # files whose structure was looked at: size, time
        self._overrides = {key.lower(): str(value) for key, value in settings.overrides.items()}

    @property
    def context(self) -> str:
        """The context in use, for CRDS_CTX."""
        return self.client.context

    @property
    def version(self) -> str:
        """Version of the client, for CRDS_VER."""
        return self.client.version

    def best(self, header: Mapping[str, Any], reftypes: Iterable[str]) -> dict[str, Best]:
        """The best references for an exposure.

        Parameters
        ----------
        header : mapping
            FITS keywords of the exposure, or the client's META.* parameters.
        reftypes : iterable of str
            Reference types to look up; ask only for those that are needed.

        Returns
        -------
        dict
            Reference type -> Best, for every type asked for.

        Raises
        ------
        Unprocessable
            If the header does not tell telescope and instrument.
        Misconfigured
            If the context or a mapping is missing, damaged or declared bad.
        Retryable
            If the server is needed and out of reach.
        """
        parameters = parameters_of(header)
        wanted = [reftype.lower() for reftype in reftypes]
        found = {key: self._overridden(key) for key in wanted if key in self._overrides}
        asked = [key for key in wanted if key not in found]
        if asked:
            imap = self.client.instrument_mapping(parameters)
            conditioned = self.client.start().core.utils.condition_header(parameters)
            for key in asked:
                found[key] = self._look_up(imap, key, {**_UNDEFINED, **conditioned})
        return {key: found[key] for key in wanted}

    def _overridden(self, reftype: str) -> Best:
        value = self._overrides[reftype]
        if value.strip().upper() == NOT_APPLICABLE:
            return Best(reftype, reason=NOT_APPLICABLE, overridden=True)
        path = Path(value).expanduser().absolute()
        return Best(reftype, path.name, path, overridden=True)

    def _look_up(self, imap: Any, reftype: str, header: dict[str, Any]) -> Best:
        rmap = self.client.reference_mapping(imap, reftype)
        if rmap is None:
            return Best(reftype, reason=f"NOT FOUND context {self.context} has no reference type {reftype!r}")
        if isinstance(rmap, str):  # the whole instrument has none
            return Best(reftype, reason=NOT_APPLICABLE)
        for key in rmap.get_required_parkeys():
            if key.upper() not in header:
                header[key.upper()] = "UNDEFINED"
                log.debug("reference_key_missing", extra={"mapping": rmap.basename, "keyword": key})
        return self._answer(reftype, rmap.get_best_ref(header))

    def _answer(self, reftype: str, answer: object) -> Best:
        """Put the client's answer in words of ours.

        Rules that match equally well but contradict each other (one says N/A, another lists files)
        give a sequence, on which the client itself breaks off with a TypeError. That is no
        reason to stop: the type is not found, and the reason says so. If they all say N/A, so do we.
        """
        if answer is None or answer == "NOT FOUND n/a":
            return Best(reftype, reason=NOT_APPLICABLE)
        if isinstance(answer, str):
            if answer.startswith("NOT FOUND"):
                return Best(reftype, reason=answer)
            return Best(reftype, answer, self.client.locate(answer))
        choices = list(answer) if isinstance(answer, Iterable) else [answer]
        if all(choice == NOT_APPLICABLE for choice in choices):
            return Best(reftype, reason=NOT_APPLICABLE)
        return Best(
            reftype,
            reason=f"NOT FOUND the rules of {self.context} give {len(choices)} contradictory answers, one of "
            "them N/A; a header keyword that they match on is '*'",
        )

    def fetch(self, best: Best) -> Path:
        """The reference file, in the local cache and whole.

        Downloads it if it is missing and the server may be asked. Length and structure are checked here;
        the checksum is computed in the background, and checked by `checksum`.

        Raises
        ------
        Misconfigured
            If there is no such file, or it is damaged or declared bad.
        Retryable
            If the server is needed and out of reach.
        """
        path, name = best.path, best.name
        if path is None or name is None:
            raise Misconfigured(
                f"there is no reference file of type {best.reftype} "
                f"({best.reason}); give one with [references] {best.reftype} = ..., N/A to skip the step, "
                "or choose another [crds] context"
            )
        if best.overridden:
            if not path.is_file():
                raise Misconfigured(f"override of reference type {best.reftype}: {path} is not a file")
        else:
            if self.client.is_bad(name):
                raise Misconfigured(
                    f"{self._describe(best)} is declared scientifically invalid; choose another context, "
                    f"give a file with [references] {best.reftype} = ..., or set CRDS_ALLOW_BAD_REFERENCES=1"
                )
            if not path.is_file() and not self.client.offline:
                self.client.download(name)
                path = self.client.locate(name)
            if not path.is_file():
                raise Misconfigured(
                    f"{self._describe(best)} is not in the CRDS cache {self.client.path}; "
                    f"{self.client.remedy('--files ' + name)}, or give a file with "
                    f"[references] {best.reftype} = ..."
                )
        expected = None if best.overridden else self.client.expected(name)
        status = path.stat()
        facts = (status.st_size, status.st_mtime_ns)
        trouble = "" if self._sound.get(path) == facts else check_structure(path)
        if expected is not None and status.st_size != expected[0]:
            trouble = f"it has {status.st_size} bytes and should have {expected[0]}"
        if trouble:
            raise self._corrupt(best, path, trouble)
        self._sound[path] = facts
        self.checksums.start(path)
        return path

    def checksum(self, best: Best) -> str:
        """``sha1:`` and the hexadecimal digest of a fetched reference, waiting for it if need be.

        Raises
        ------
        Misconfigured
            If it is not what the server says.
        """
        if best.path is None or best.name is None:
            return ""
        path = best.path if best.overridden else self.client.locate(best.name)
        digest = self.checksums.get(path)
        expected = None if best.overridden else self.client.expected(best.name)
        if expected is not None and expected[1] and expected[1] != digest:
            raise self._corrupt(best, path, f"its sha1 is {digest} and should be {expected[1]}")
        return f"sha1:{digest}"

    def parameters(self, header: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, dict[str, Value]]:
        """Parameter references of an exposure.

        Parameters
        ----------
        header : mapping
            As for `best`.
        types : mapping
            Step or pipeline name -> reference type: ``{"jump": "pars-jumpstep",
            "detector1": "pars-detector1pipeline"}``.

        Returns
        -------
        dict
            Step or pipeline name -> parameter -> (value, file name); a pipeline's entry for a
            step beats the step's own file key by key. Steps without any are left out.
        """
        found = self.best(header, types.values())
        return merge({key: self.fetch(best) for key, best in found.items() if best.name}, types)

    def _describe(self, best: Best) -> str:
        return f"reference file {best.name} (type {best.reftype}, context {self.context})"

    def _corrupt(self, best: Best, path: Path, trouble: str) -> Misconfigured:
        if best.overridden:
            return Misconfigured(
                f"the file {path} given for reference type {best.reftype} is damaged: {trouble}; replace it"
            )
        return Misconfigured(
            f"{self._describe(best)} is damaged: {trouble}; remove {path}, then "
            f"{self.client.remedy('--files ' + str(best.name))}"
        )


def open_crds(settings: CrdsSettings, memory: Path | None = None) -> Crds:
    """Open CRDS; cheap: cache, server and the client itself are touched on first use.

    Parameters
    ----------
    settings : CrdsSettings
        Where references come from.
    memory : Path or None
        JSON file that remembers the checksums of large files.
    """
    return Crds(settings, Checksums(memory))
