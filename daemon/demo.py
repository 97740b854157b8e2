"""``upramp demo``: a visit with known truth goes through the code that everything goes through."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from upramp.daemon import oneshot, report
from upramp.daemon.config import Config, Crds, Output
from upramp.daemon.inputs import find_inputs
from upramp.simulate import demo
from upramp.stages.core.errors import Misconfigured

MARK = ".upramp-demo"
"""Says that a folder was made by an earlier demo and may be made anew."""


def _clear(folder: Path) -> None:
    """Make room: remove what an earlier demo made, and only that.

    Raises
    ------
    Misconfigured
        If the folder holds what no demo made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MARK).is_file():
        for name in ("in", "crds", "truth", "products"):
            shutil.rmtree(folder / name, ignore_errors=True)
    elif any(folder.iterdir()):
        raise Misconfigured(f"the folder {folder} is not empty; name another with --folder, or empty it")
    (folder / MARK).touch()


def main(folder: Path, size: int, command: str = "upramp demo") -> int:
    """Synthesize, calibrate, compare; the exit code is 1 where the truth was missed.

    Raises
    ------
    Misconfigured
        If the folder holds something else already, or the size is out of range.
    """
    _clear(folder)
    out = report.console()
    out.print(f"synthesizing a small visit and its references in {folder} ...")
    try:
        visit = demo.prepare_apart(folder.absolute(), size)
    except (FileExistsError, ValueError) as error:
        raise Misconfigured(str(error)) from error
    os.environ.update(visit.environment)
    output = visit.folder / "products"
    config = replace(
        Config(),
        output=Output(folder=output),
        run=replace(Config().run, until="stage1"),  # the truth is that of rates
        crds=Crds(path=visit.cache, context=visit.context, offline=True),
    )
    summary = oneshot.run(
        find_inputs([str(visit.inputs)]), config, command=command, console=report.console(stderr=True)
    )
    report.print_summary(out, summary, config.store_folder)
    rows = demo.compare(visit, output)
    outcome = demo.Outcome(output, config.store_folder, summary.seconds, int(summary.megabytes * 1e6))
    report.console(markup=True).print(demo.table(visit, outcome, rows))
    return summary.exit_code or int(not all(row.good for row in rows))
