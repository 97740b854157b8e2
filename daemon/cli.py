"""The command line: parse, call, print. What is heavy is imported by the command that needs it.

Exit codes: 0 all well, 1 some input failed, 2 usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from upramp.stages.core.errors import Misconfigured, UprampError

if TYPE_CHECKING:
    from upramp.daemon.config import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``upramp``; returns the exit code."""
    args = parser().parse_args(argv)
    args.typed = shlex.join(["upramp", *(sys.argv[1:] if argv is None else argv)])
    try:
        code = args.command(args)
        sys.stdout.flush()
        return code
    except Misconfigured as error:
        print(f"upramp: {error}", file=sys.stderr)
        return 2
    except UprampError as error:
        print(f"upramp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader (head, less) has seen enough; what is buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="upramp", description="Calibrate JWST exposures while they arrive.")
    top.add_argument("--version", action="version", version=f"upramp {version('upramp')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument("--config", metavar="FILE", help="configuration file (see docs/configuration.md)")
    configured.add_argument("--output", metavar="DIR", help="where products appear")
    configured.add_argument(
        "--store", metavar="DIR", help="the ledger; default: ledger/ in the output folder"
    )

    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--context", metavar="PMAP", help="CRDS context, such as jwst_1464.pmap")
    chosen.add_argument("--until", metavar="STAGE", help="the last stage to do")
    chosen.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STEP.PARAM=VALUE",
        help="a parameter of a step; may be repeated",
    )

    logged = argparse.ArgumentParser(add_help=False)
    logged.add_argument("--workers", type=int, metavar="N", help="segments calibrated side by side")
    logged.add_argument("--verbose", "-v", action="store_true", help="log everything that happens")

    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--json", action="store_true", help="for machines: JSON on standard output")

    p = commands.add_parser("run", parents=[configured, chosen, logged], help="calibrate files")
    p.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="*_uncal.fits or *_asn.json files, globs or folders"
    )
    p.add_argument("--force", action="store_true", help="also do again what is done, or failed for good")
    p.set_defaults(command=_run)

    p = commands.add_parser("watch", parents=[configured, chosen, logged], help="calibrate what arrives")
    p.set_defaults(command=_watch)

    p = commands.add_parser("warm", parents=[configured], help="compile the kernels ahead of the first run")
    p.set_defaults(command=_warm)

    p = commands.add_parser("status", parents=[configured, machine], help="what is in, missing and failed")
    p.set_defaults(command=_status)

    p = commands.add_parser(
        "explain", parents=[configured, chosen, machine], help="what would be done with a file, and why"
    )
    p.add_argument("file", metavar="FILE")
    p.set_defaults(command=_explain)

    p = commands.add_parser("provenance", parents=[configured, machine], help="how a product was made")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("product", nargs="?", metavar="PRODUCT")
    what.add_argument("--reference", metavar="NAME", help="instead: which products used a reference file")
    p.set_defaults(command=_provenance)

    p = commands.add_parser(
        "associate", parents=[machine], help="which exposures belong together: write association files"
    )
    p.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="a pool (.csv), or FITS files, globs or folders"
    )
    p.add_argument("--output", default=".", metavar="DIR", help="where the files appear (default: here)")
    p.add_argument(
        "--candidate",
        action="append",
        metavar="ID",
        help="only of this candidate (o001, c1000); may be repeated",
    )
    p.add_argument("--all-candidates", action="store_true", help="of every candidate, not of whole programs")
    p.add_argument("--discover", action="store_true", help="of whole programs, not of candidates")
    p.add_argument("--version-id", metavar="TEXT", help="stands in the files and their names")
    p.add_argument("--save-pool", metavar="FILE", help="keep the pool that was made of the headers")
    p.set_defaults(command=_associate)

    p = commands.add_parser("demo", help="synthesize a small visit with known truth, calibrate and compare")
    p.add_argument("--folder", default="demo", metavar="DIR", help="where to put it (default: demo)")
    p.add_argument("--size", type=int, default=400, help="width of the images, pixels (default: 400)")
    p.set_defaults(command=_demo)
    return top


def _config(args: argparse.Namespace) -> Config:
    """The configuration with the command line's own options on top."""
    from upramp.daemon.config import load

    if hasattr(args, "set"):
        registry, types = _known()
        config = load(args.config, assignments=args.set, registry=registry, reference_types=types)
    else:
        config = load(args.config)
    return config.override(
        output_folder=args.output and Path(args.output),
        store_folder=args.store and Path(args.store),
        crds_context=getattr(args, "context", None),
        run_until=getattr(args, "until", None),
        run_workers=getattr(args, "workers", None),
    )


def _known() -> tuple[dict[str, type], list[str]]:
    """Every step with its parameters, and every reference type: misspelt ones are refused at once."""
    _place_kernels()
    from upramp.daemon.planning import reference_types
    from upramp.stages.pipelines import registry

    return registry(), reference_types()


def _place_kernels() -> None:
    """Before the first step is imported, and numba with it, say where compiled kernels go."""
    from upramp.daemon import kernel_cache
    from upramp.daemon.config import Config

    kernel_cache.place(Config().cache_folder / "kernels")


def _run(args: argparse.Namespace) -> int:
    from upramp.daemon import logs, oneshot, report
    from upramp.daemon.inputs import find_for_run

    config = _config(args)
    inputs, left = find_for_run(args.inputs, config)
    # the summary tells it all; the log is for those who ask, or who keep it in a file
    quiet = not (args.verbose or config.log.file) and config.log.level in ("debug", "info")
    logs.configure(replace(config.log, level="warning") if quiet else config.log)
    # ends like Ctrl-C does, the terminal left in order
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        console = report.console(stderr=True)
        summary = oneshot.run(
            inputs, config, left=left, command=args.typed, force=args.force, console=console
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    report.print_summary(report.console(), summary, config.store_folder)
    if summary.interrupted:
        _leave(summary.exit_code)
    return summary.exit_code


def _watch(args: argparse.Namespace) -> int:
    from upramp.daemon import logs, service

    config, log = _config(args), logs.get_logger()
    logs.configure(replace(config.log, level="debug") if args.verbose else config.log)
    try:
        abandoned = service.serve(config, command=args.typed)
    except Misconfigured as error:
        log.error("configuration_error", reason=str(error))
        raise
    if abandoned:
        _leave(0)
    return 0


def _leave(code: int) -> None:
    """End now: abandoned work may still occupy a thread, and nothing waits for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _warm(args: argparse.Namespace) -> int:
    _place_kernels()
    from upramp.daemon import logs
    from upramp.daemon.session import warm_up

    config = _config(args)
    logs.configure(replace(config.log, level="warning"))
    seconds = warm_up(config, always=True)
    print(f"the kernels are compiled ({seconds:.1f} s)")
    return 0


def _status(args: argparse.Namespace) -> int:
    from upramp.daemon import report
    from upramp.daemon.service import LIVE

    root = _config(args).store_folder
    facts = report.status(root, root / LIVE)
    if args.json:
        print(report.as_json(facts))
    else:
        report.print_status(report.console(), facts)
    return 0


def _explain(args: argparse.Namespace) -> int:
    from upramp.daemon import logs, report
    from upramp.daemon.desk import Calibration, Settings
    from upramp.daemon.inputs import find_inputs

    paths = find_inputs([args.file])
    if len(paths) != 1:
        raise Misconfigured(f"explain takes one file, but {args.file!r} names {len(paths)}")
    config = _config(args)
    logs.configure(replace(config.log, level="warning"))
    facts = report.explained(Calibration().plan(paths[0], Settings(config, "explain")))
    if args.json:
        print(report.as_json(facts))
    else:
        report.print_explained(report.console(), facts)
    return 0


def _provenance(args: argparse.Namespace) -> int:
    from upramp.daemon import report
    from upramp.store.provenance import products_using, provenance

    root = _ledger_of(args)
    if args.reference:
        rows = products_using(root, args.reference)
        if args.json:
            print(report.as_json(rows))
        else:
            report.print_users(report.console(), args.reference, rows)
        return 0
    facts = provenance(root, args.product)
    if args.json:
        print(report.as_json(facts))
    else:
        report.print_provenance(report.console(), facts)
    return 0


def _ledger_of(args: argparse.Namespace) -> Path:
    """The ledger that was named, else the one beside the product, else the configured one."""
    from upramp.store.naming import ledger_folder

    config = _config(args)
    if args.product and not (args.store or args.output or config.store.folder):
        beside = ledger_folder(Path(args.product).absolute().parent)
        if (beside / "commits").is_dir():
            return beside
    return config.store_folder


def _associate(args: argparse.Namespace) -> int:
    from upramp.daemon import associate

    candidates = args.candidate
    if args.discover and not (args.candidate or args.all_candidates):
        candidates = []
    outcome = associate.run(
        args.inputs,
        Path(args.output),
        candidates=candidates,
        discover=args.discover or not (args.candidate or args.all_candidates),
        version_id=args.version_id,
        save_pool=args.save_pool and Path(args.save_pool),
    )
    if args.json:
        import json

        print(json.dumps(outcome.facts(), indent=2))
    else:
        print("\n".join(outcome.lines()))
    return 0


def _demo(args: argparse.Namespace) -> int:
    _place_kernels()
    from upramp.daemon import demo, logs
    from upramp.daemon.config import Log

    logs.configure(Log(level="warning"))
    return demo.main(Path(args.folder), args.size, args.typed)


if __name__ == "__main__":
    sys.exit(main())
