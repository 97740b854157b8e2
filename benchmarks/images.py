"""Images and their mosaic beside the observatory's package: speed of stages 2 and 3, and memory.

    python benchmarks/images.py [--peer .venv-peer/bin/python] [--size 2048] [--members 4 16 64]

A dithered visit of NIRCam is drawn as rates. The peer makes images of them (Image2Pipeline) and a mosaic of
the images (Image3Pipeline), which takes it minutes; a warm process of upramp does the same, twice, and the
second time counts. Then upramp makes mosaics of ever more exposures, in a process of its own each, whose
peak memory is told. Exit status 1 if a ratio is below the least, or memory grows by more than a fifth.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import children
import numpy as np
from astropy.io import fits
from results import as_text, between

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "peer"))

from peerkit.peer import Job, Peer, failure, product, seconds
from peerkit.scenes import Input
from peerkit.visits import associate

from upramp.simulate.cache import Cache
from upramp.simulate.observation import Observation
from upramp.simulate.visit import Visit
from upramp.store.association_file import FileMember
from upramp.store.image_file import open_image

WORK = Path("/var/tmp/upramp-images")
LEAST, GROWTH = 4.0, 0.2
"""How many times faster than the peer each stage must be, and by how much memory may grow."""


def visit(size: int, dithers: int) -> Visit:
    """Exposures of a field with a star in every 40 x 40 pixels."""
    first = Observation(detector="NRCALONG", ny=size, nx=size, subarray="FULL", ngroups=5)
    return Visit(first, dithers=dithers, stars=(size // 40) ** 2, step=size / 17, error=8.0)


def draw(folder: Path, size: int, dithers: int) -> list[Input]:
    """The rates of a visit with their CRDS cache, once; found again after."""
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        taken, cache = visit(size, dithers), Cache(folder / "crds")
        taken = replace(taken, chips={name: taken.chip(name) for name in taken.names})
        taken.references(cache)
        environment = cache.environment | {"CRDS_CONTEXT": cache.write()}
        taken.write_rates(folder / "in")
        (folder / "done").write_text(json.dumps(environment))
    environment = json.loads((folder / "done").read_text())
    known = sorted(p for p in (folder / "crds").rglob("*") if p.is_file() and p.name != "server_config")
    return [Input(path, environment, (path, *known)) for path in sorted((folder / "in").glob("*_rate.fits"))]


def peers(sources: Sequence[Input], interpreter: Path, work: Path) -> tuple[list[float], float, Input]:
    """Seconds of the peer for each image and for the mosaic, and the association of its images."""
    peer = Peer(interpreter, work / "peer")
    made = peer.results([Job(source, {}, pipeline="image2") for source in sources], processes=1)
    folder = work / "peer-cal"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    images = [folder / product(one, "cal").name for one in made]
    for one, path in zip(made, images, strict=True):
        path.hardlink_to(product(one, "cal"))
    asked = associate(folder, images, sources[0])
    [mosaic] = peer.results([Job(asked, {}, pipeline="image3")], processes=1)
    for one in (*made, mosaic):
        if trouble := failure(one):
            raise RuntimeError(f"the peer: {trouble}")
    return [seconds(one) for one in made], seconds(mosaic), asked


def ours(
    sources: Sequence[Input], asked: Input | None, work: Path
) -> tuple[list[dict[str, Any]], dict[str, Any], Input]:
    """What a warm process says of each image and of the mosaic, and the association.

    That is ``asked``, or one of its own images.
    """
    folder = work / "ours"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = folder / "config.toml"
    config.write_text('[run]\nuntil = "stage2"\n')
    environment = dict(sources[0].environment) | {"UPRAMP_CACHE": str(work / "cache")}
    with children.Warm(environment, config, folder / "log.txt") as warm:
        warm.calibrate(sources[0].uncal, folder / "out")
        images = [warm.calibrate(source.uncal, folder / "out") for source in sources]
        asked = asked or associate(folder / "out", sorted((folder / "out").glob("*_cal.fits")), sources[0])
        warm.calibrate(asked.uncal, folder / "out")
        return images, warm.calibrate(asked.uncal, folder / "out"), asked


def peak(count: int, asked: Input, work: Path) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a process that makes a mosaic of ``count`` exposures.

    They are those of the association again and again, with numbers of their own.
    """
    folder = work / f"members{count}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    images = sorted(asked.uncal.parent.glob("*_cal.fits"))
    named = [folder / f"jw01234001001_02101_{k + 1:05d}_nrcalong_cal.fits" for k in range(count)]
    for k, path in enumerate(named):
        shutil.copy(images[k % len(images)], path)
        fits.setval(path, "EXPOSURE", value=f"{k + 1:05d}")
    own = associate(folder, named, asked)
    code = "import sys; from upramp.daemon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", own.uncal, "--output", folder / "out"]
    environment: Mapping[str, str] = dict(asked.environment) | {"UPRAMP_CACHE": str(work / "cache")}
    found = children.run(command, environment, folder / "log.txt")
    shutil.rmtree(folder)
    return found.wall, found.peak_mb


def main() -> int:
    """Measure, compare, tell."""
    parser = argparse.ArgumentParser(description="speed and memory of images and mosaics")
    parser.add_argument("--peer", type=Path, help="Python of the peer's environment; without it no ratios")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for all files (default: {WORK})")
    parser.add_argument("--size", type=int, default=2048, help="pixels of a side")
    parser.add_argument("--members", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--fill", type=Path, nargs="+", default=[], metavar="PAGE")
    options = parser.parse_args()
    work = options.work.absolute()
    sources = draw(work / f"visit{options.size}", options.size, 4)
    theirs = peers(sources, options.peer.absolute(), work) if options.peer else None
    images, mosaic, asked = ours(sources, theirs[2] if theirs else None, work)
    each = sum(one["seconds"] for one in images) / len(images)
    rows = [["what", "jwst, s", "upramp, s", "times faster", "peak MB"]]
    ratios = []
    for what, own, other, mb in (
        (
            "image2, an exposure",
            each,
            sum(theirs[0]) / len(sources) if theirs else 0.0,
            images[-1]["peak_mb"],
        ),
        ("image3, four exposures", mosaic["seconds"], theirs[1] if theirs else 0.0, mosaic["peak_mb"]),
    ):
        ratios += [other / own] if theirs else []
        told = [f"{other:.1f}", f"{own:.2f}", f"{other / own:.1f}"] if theirs else ["", f"{own:.2f}", ""]
        rows.append([what, *told, f"{mb:.0f}"])
    crf = sorted((work / "ours" / "out").glob("*_crf.fits"))
    astray = visit(options.size, 4).astray([FileMember(open_image(path)).wcs for path in crf])
    worst = float(np.hypot(*astray.T).max())
    rows.append(["tweakreg, largest error of a pointing, mas", "", f"{worst:.2f}", "", ""])
    peaks = []
    for count in options.members:
        wall, mb = peak(count, asked, work)
        peaks.append(mb)
        rows.append([f"image3, {count} exposures, cold process", "", f"{wall:.1f}", "", f"{mb:.0f}"])
    print(as_text(rows))
    for page in options.fill:
        page.write_text(between(page.read_text(), "images", "images.py", as_text(rows, markdown=True)))
    if options.json:
        options.json.write_text(
            json.dumps({"rows": rows, "ratios": ratios, "peaks": peaks, "astray": worst}, indent=1)
        )
    grown = bool(peaks) and max(peaks) > (1 + GROWTH) * min(peaks)
    return int(grown or any(ratio < LEAST for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
