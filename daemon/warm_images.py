"""Compile the kernels of stages 2 and 3 ahead of the first images: a small drawn visit becomes a mosaic.

Its exposures go the way of real ones, from plans to published products. Every reference type is named by the
configuration, so that CRDS is not asked: its client remembers for the rest of the process where it was
pointed to.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

Steps = Mapping[str, Mapping[str, Any]]
"""Step -> its parameters where they differ from the defaults."""

SIZE = 128
STARS = 60

ALIGNED: Steps = {"tweakreg": {"minobj": 5, "bkg_boxsize": 50, "separation": 0.3, "tolerance": 0.2}}
"""What makes so few stars enough."""

OTHERWISE: Steps = {
    "outlier_detection": {"resample_data": False},
    "skymatch": {"skymethod": "global+match"},
    "resample": {"kernel": "gaussian"},
}
"""Parameters that ask for kernels which the defaults do not."""


def warm_stage2(folder: Path) -> list[Path]:
    """Calibrate the rates of a visit in ``folder``; its calibrated images."""
    from upramp.simulate.cache import Cache
    from upramp.simulate.observation import Observation
    from upramp.simulate.visit import Visit

    one = Observation(ny=SIZE, nx=SIZE, subarray=f"SUB{SIZE}", ngroups=5, tframe=10.0)
    visit = Visit(one, dithers=2, stars=STARS, flux=(1000.0, 3e4))
    visit.references(Cache(folder / "crds"))
    first, second = visit.write_rates(folder / "in")
    members = {first.name: "science", second.name: "background"}
    for path in (first, second):
        calibrate(path, folder, {})
    calibrate(_association(folder / "in", "image2", members), folder, OTHERWISE)
    return sorted((folder / "out").glob("*_cal.fits"))


def warm_stage3(folder: Path, images: Sequence[Path]) -> None:
    """Make mosaics of the images of `warm_stage2`."""
    path = _association(folder / "out", "image3", dict.fromkeys((p.name for p in images), "science"))
    for steps, threads in product((ALIGNED, {**ALIGNED, **OTHERWISE}), (1, 2)):
        calibrate(path, folder, steps, threads)  # parts of arrays are other types than arrays that are whole
    warm_preview(path, images)


def warm_preview(association: Path, images: Sequence[Path]) -> None:
    """Make the preview of a mosaic of the images of `warm_stage2`."""
    from upramp.daemon.previewing import refresh
    from upramp.daemon.previews import Job
    from upramp.store.preview_file import read_preview

    target = association.with_name("warm_preview.fits")
    refresh(Job(association, association, "warm", target, images), lambda: False)
    preview = read_preview(target)
    if preview is not None:
        preview.canvas.join()


def calibrate(
    path: Path, folder: Path, steps: Steps, threads: int = 1, without: Collection[str] = ()
) -> None:
    """Calibrate a file with the references that lie in ``folder``: the last of each type."""
    from upramp.daemon import calibrate
    from upramp.daemon.config import Config, Crds, Output, Run, Store
    from upramp.daemon.planning import reference_types

    made = {p.name.split("_")[2]: p for p in sorted((folder / "crds" / "references").rglob("*.*"))}
    made |= dict.fromkeys(without, Path("N/A"))
    config = Config(
        output=Output(folder / "out"),
        store=Store(cache=folder / "cache", fsync=False),
        crds=Crds(context="warm.pmap", offline=True),
        run=Run(threads=threads),
        references={reftype: made.get(reftype, Path("N/A")) for reftype in reference_types()},
        steps=steps,
    )
    calibrate.calibrate(calibrate.plan(calibrate.CalibrationJob(path, "warm", config)), "0" * 64)


def _association(folder: Path, kind: str, members: Mapping[str, str]) -> Path:
    """An association file of names and what they serve as."""
    listed = [{"expname": name, "exptype": exptype} for name, exptype in members.items()]
    path = folder / f"warm_{kind}_asn.json"
    path.write_text(json.dumps({"asn_type": kind, "products": [{"name": "warm", "members": listed}]}))
    return path
