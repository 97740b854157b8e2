"""The vocabulary of the log: every event, its level and its fields.

docs/logs.md shows it to the people who read and search logs; tests hold the page and every
logging call in the code against this table. A new event starts here; then replace the page
from "## Common fields" on by what ``python -m upramp.daemon.vocabulary`` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COMMON: dict[str, str] = {
    "timestamp": "when, UTC, ISO 8601 with microseconds",
    "level": "debug, info, warning or error",
    "event": "a name of this vocabulary",
    "run_id": "the run of `upramp run` or `upramp watch`, one per process start",
    "exposure_id": "the exposure, as its product names begin",
    "segment_id": "the segment, as its file name begins",
    "step": "the pipeline step at work",
    "exception": "a traceback, one string, where one helps",
}
"""Fields that any event may carry; ids are there while they are bound."""


@dataclass(frozen=True)
class Event:
    """One kind of log line: what it means, how loud it is, what it carries (name -> meaning)."""

    description: str
    level: str = "info"
    fields: Mapping[str, str] = field(default_factory=dict)


_SECONDS = "wall-clock seconds that it took"
_MEGABYTES = "peak resident memory of the process so far, MB (10^6 bytes)"
_PATH = "the file"
_SIZE = "size so far"
_REASON = "why, in words for people"
_ATTEMPT = "which attempt this is, from 1"
_ASSOCIATION = "the association file; it is there once it is ready"
_COMBINED = "what the names of its products begin with"
_PRODUCT = "path of the product"
_VERSION = "which version of the segment this is, from 1: a changed file is a new one"

EVENTS: dict[str, Event] = {
    # the process
    "service_started": Event(
        "The service is up and watches.",
        fields={
            "version": "version of upramp",
            "config": "the configuration file, empty if the defaults hold",
            "folders": "watched folders",
            "output": "folder of the products",
            "ledger": "folder of the ledger",
            "workers": "how many segments are calibrated side by side",
            "threads": "how many threads work on one segment",
            "pid": "process id",
        },
    ),
    "service_stopping": Event(
        "The service was told to stop: work under way may end, nothing new begins.",
        fields={
            "signal": "name of the signal",
            "running": "segments being calibrated",
            "queued": "segments left for the next start",
            "limit_s": "after how many seconds running work is abandoned",
        },
    ),
    "service_stopped": Event(
        "The service has ended.",
        fields={
            "seconds": "wall-clock seconds from the signal to the end",
            "abandoned": "segments whose work was abandoned; the next start does them again",
        },
    ),
    "run_started": Event(
        "A run over given files begins.",
        fields={"inputs": "files found", "version": "version of upramp", "output": "folder of the products"},
    ),
    "run_finished": Event(
        "A run over given files is over.",
        fields={
            "made": "products published",
            "skipped": "files skipped, because nothing changed",
            "failed": "files that failed",
            "seconds": _SECONDS,
            "megabytes": _MEGABYTES,
        },
    ),
    "configuration_error": Event(
        "Configuration or references are wrong; the operator must act.", "error", {"reason": _REASON}
    ),
    "kernels_compiling": Event(
        "First run on this machine: the kernels are compiled, once.",
        fields={"cache": "folder of the results", "stages": "those whose kernels they are"},
    ),
    "kernels_ready": Event("The kernels are compiled.", fields={"seconds": _SECONDS}),
    # watching
    "watch_started": Event(
        "A folder is being watched.",
        fields={
            "folder": "the folder",
            "observer": "inotify or polling",
            "filesystem": "type of its file system",
        },
    ),
    "watch_lost": Event(
        "A watched folder is missing or unreadable; it is tried again until it is there.",
        "warning",
        {"folder": "the folder", "reason": _REASON},
    ),
    "watch_fallback": Event(
        "inotify cannot watch a folder (often its limit of watches is reached); it is polled instead.",
        "warning",
        {"folder": "the folder", "reason": _REASON},
    ),
    "watch_error": Event(
        "A fault in upramp while watching; it goes on, the file is tried again.",
        "error",
        {"path": _PATH, "reason": _REASON},
    ),
    "watch_overflow": Event(
        "More files changed at once than the kernel's queue holds; all folders are scanned again.", "warning"
    ),
    "scan_finished": Event(
        "The watched folders were looked through.",
        "debug",
        {"files": "matching files there", "new": "of these, new or changed ones", "seconds": _SECONDS},
    ),
    "file_seen": Event("A matching file appeared or changed.", "debug", {"path": _PATH, "bytes": _SIZE}),
    "file_waiting": Event(
        "A file has been quiet for the settle time yet is not whole; told once per version.",
        fields={"path": _PATH, "bytes": _SIZE, "reason": _REASON},
    ),
    "file_settled": Event(
        "A file is whole and is handed on.",
        fields={"path": _PATH, "bytes": "size", "seconds": "wall-clock seconds since it was first seen"},
    ),
    "file_stale": Event(
        "A file is not whole and seems to stay so; it is handed on, to be recorded as it is.",
        "warning",
        {"path": _PATH, "bytes": "size", "reason": _REASON, "seconds": "wall-clock seconds of waiting"},
    ),
    "file_ignored": Event(
        "A name that matches but is no input file; told once.", "debug", {"path": _PATH, "reason": _REASON}
    ),
    "file_gone": Event("A file vanished before it was whole.", fields={"path": _PATH}),
    # segments and exposures
    "segment_arrived": Event(
        "A whole file was identified as a segment of an exposure.",
        fields={
            "path": _PATH,
            "checksum": "SHA-256 of the file",
            "segment": "number of the segment, EXSEGNUM",
            "segments": "how many the exposure has, EXSEGTOT",
        },
    ),
    "segment_held": Event(
        "With persistence: a segment waits for the one before it on its detector; told once.",
        fields={
            "path": _PATH,
            "behind": "the file that comes first; null if none was seen yet",
            "wait_s": "seconds that it is waited for at most; null while that file is at work",
        },
    ),
    "predecessor_missing": Event(
        "With persistence: nothing came before a segment while it waited; it goes on without.",
        fields={"path": _PATH, "wait_s": "seconds that it could have come in"},
    ),
    "segment_outdated": Event(
        "With persistence: what came before a segment left other windows than it was calibrated with.",
        "warning",
        {
            "path": _PATH,
            "reason": _REASON,
            "again": "whether it is calibrated anew now; `upramp run` does so when the file is given again",
        },
    ),
    "segment_started": Event("Calibration of a segment begins.", fields={"path": _PATH, "attempt": _ATTEMPT}),
    "step_finished": Event(
        "A step is done.",
        "debug",
        {"seconds": _SECONDS, "counters": "what the step counted, name -> number"},
    ),
    "step_skipped": Event("A step was skipped.", "debug", {"reason": _REASON}),
    "parameter_unsupported": Event(
        "Parameters ask for something that this version does not do; the step runs without it.",
        "warning",
        {"notice": "what is asked for, and what is done instead"},
    ),
    "segment_calibrated": Event(
        "A segment is calibrated.",
        fields={
            "path": _PATH,
            "seconds": _SECONDS,
            "megabytes": _MEGABYTES,
            "counters": "what the steps counted, name -> number",
        },
    ),
    "segment_failed": Event(
        "A file failed for good; it is tried again when it changes or with --force.",
        "error",
        {
            "path": _PATH,
            "reason": _REASON,
            "remedy": "what the operator can do about it",
            "kind": "class of the error",
            "attempt": _ATTEMPT,
        },
    ),
    "segment_retried": Event(
        "Passing trouble: the segment will be tried again.",
        "warning",
        {"path": _PATH, "reason": _REASON, "attempt": _ATTEMPT, "wait_s": "seconds until then"},
    ),
    "segment_unchanged": Event(
        "Nothing to do: the ledger has it, done or failed, as things stand.",
        fields={"path": _PATH, "reason": _REASON},
    ),
    "segment_superseded": Event(
        "A file changed after it was processed: what was made of the old one no longer counts.",
        fields={"path": _PATH, "version": _VERSION},
    ),
    "exposure_completed": Event(
        "All segments of an exposure are calibrated, their integrations contiguous and complete.",
        fields={"segments": "how many", "integrations": "how many in all"},
    ),
    "exposure_incomplete": Event(
        "All segments are there, but their integrations do not add up.", "warning", {"reason": _REASON}
    ),
    "product_published": Event(
        "A product appeared under its name, whole.",
        fields={"path": _PRODUCT, "bytes": "size", "kind": "rate, rateints, ..."},
    ),
    "product_superseded": Event(
        "A product was replaced or no longer holds.", fields={"path": _PRODUCT, "kind": "rate, rateints, ..."}
    ),
    # exposures that belong together
    "association_waiting": Event(
        "Exposures that belong together were found, or wait again for members; told when the state begins.",
        fields={"path": _ASSOCIATION, "product": _COMBINED, "reason": "what is in, and what it waits for"},
    ),
    "association_ready": Event(
        "All members are in that are waited for: its file is written and handed on.",
        fields={
            "path": _ASSOCIATION,
            "product": _COMBINED,
            "how": "complete: all that headers announce is in; explicit: all that a given file lists is; "
            "quiet: nothing came for the quiet time",
            "members": "how many are combined",
        },
    ),
    "association_incomplete": Event(
        "What is combined lacks members; it is combined anew should they come.",
        "warning",
        {"path": _ASSOCIATION, "product": _COMBINED, "without": "which are missing, and why"},
    ),
    "members_differ": Event(
        "Exposures are combined that were taken through different optics, as an association file asks.",
        "warning",
        {"path": _ASSOCIATION, "differing": "keywords, each with the values of the exposures"},
    ),
    "members_unused": Event(
        "Exposures of a mosaic add to none of its pixels: none of theirs is good, or lies on its grid.",
        "warning",
        {"path": _ASSOCIATION, "members": "file names of these exposures"},
    ),
    "association_failed": Event(
        "Exposures that belong together are not combined as things stand.",
        "warning",
        {
            "path": _ASSOCIATION,
            "product": _COMBINED,
            "reason": _REASON,
            "remedy": "what the operator can do about it",
        },
    ),
    "preview_refreshed": Event(
        "The preview of a mosaic shows what arrived; with `[associations] previews`.",
        fields={
            "path": "the preview",
            "product": _COMBINED,
            "members": "images that are in it",
            "added": "of these, new ones",
            "seconds": _SECONDS,
        },
    ),
    "preview_failed": Event(
        "A preview of a mosaic lacks images or could not be written; nothing else depends on it. Told once "
        "for each reason; it is tried again with the next arrival.",
        "warning",
        {"path": "the preview", "product": _COMBINED, "reason": _REASON},
    ),
    # references and ledger
    "references_resolved": Event(
        "Best references were looked up, and those needed are in the local cache.",
        "debug",
        {"context": "CRDS context", "references": "how many files", "seconds": _SECONDS},
    ),
    "crds_unreachable": Event(
        "The CRDS server does not answer; what the local cache holds is used.", "warning", {"reason": _REASON}
    ),
    "reference_key_missing": Event(
        "A CRDS mapping chooses by a keyword that exposures are not searched for; it counts as undefined.",
        "debug",
        {"mapping": "file name of the mapping", "keyword": "the keyword"},
    ),
    "reference_prepared": Event(
        "A reference was cut and converted for an exposure; later ones of the kind share it.",
        "debug",
        {"reference": "file name", "type": "reference type", "seconds": _SECONDS, "bytes": "size prepared"},
    ),
    "ledger_recovered": Event(
        "Leftovers of an interrupted writer were put in order.",
        "warning",
        {
            "folder": "the ledger",
            "removed": "files that did not count: never committed, or merged into others",
        },
    ),
    "ledger_refused": Event(
        "The ledger could not be written (a full disk, for one); the same is tried again.",
        "warning",
        {"reason": _REASON, "wait_s": "seconds until then"},
    ),
    "scratch_cleaned": Event(
        "Half-written files of an interrupted run were removed.",
        fields={"folder": "scratch folder", "files": "how many"},
    ),
    "cache_pruned": Event(
        "Prepared references that were used least recently were removed, to keep the cache to its size.",
        fields={"folder": "the cache", "freed_mb": "how much, MB"},
    ),
    "cache_not_pruned": Event(
        "The cache of prepared references could not be looked through; work goes on.",
        "warning",
        {"folder": "the cache", "reason": _REASON},
    ),
    # others
    "third_party": Event(
        "A line from a library's own logger or a Python warning, at the library's level.",
        "debug",
        {"logger": "name of the logger", "message": "what it says"},
    ),
    "unknown_event": Event(
        "A fault in upramp: an event outside this vocabulary; told once per name.",
        "warning",
        {"name": "the name that was used"},
    ),
}


def page() -> str:
    """The part of docs/logs.md that follows from this table, in Markdown."""
    lines = [
        "## Common fields",
        "",
        "Any line may carry these; ids are there while that work is under way.",
        "",
        "| field | meaning |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in COMMON.items()),
        "",
        "## Events",
    ]
    for name, event in EVENTS.items():
        lines += ["", f"### `{name}` ({event.level})", "", event.description]
        if event.fields:
            lines += ["", *(f"- `{field}`: {text}" for field, text in event.fields.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
