"""What bringing a preview mosaic up to date by one image costs: seconds, and memory beside the libraries'.

    python benchmarks/previews.py [IMAGE_cal.fits ...]

Without files, those that `benchmarks/images.py` left are taken. Images are put one by one, and once more on a
canvas as large as any can be. The first one, with which libraries come, does not count. Exit status 1 if one
takes longer, or more memory, than is allowed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from images import WORK
from results import as_text

from upramp.daemon.previewing import refresh
from upramp.daemon.previews import Job
from upramp.stages.stage3.preview_mosaic import LIMIT, Canvas
from upramp.store.preview_file import Preview, read_preview, write_preview

SECONDS, MEGABYTES = 0.7, 150.0
"""The most that one image may take."""


def resident(which: str) -> float:
    """Memory of this process, MB (10^6 bytes): VmRSS now, VmHWM at most since `mark`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) * 1024 / 1e6


def mark() -> float:
    """Begin to watch for the most memory; what is taken now, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def enlarge(path: Path) -> None:
    """Make the canvas of a preview as large as any can be."""
    old = read_preview(path)
    if old is None:
        raise FileNotFoundError(path)
    canvas, cells = old.canvas, np.zeros((2, LIMIT, LIMIT), np.float32)
    cells[0] = np.nan
    y, x = ((LIMIT - n) // 2 for n in canvas.sci.shape)
    for whole, part in zip(cells, (canvas.sci, canvas.wht), strict=True):
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    large = Canvas(canvas.crval, canvas.scale, canvas.x0 - x, canvas.y0 - y, cells[0], cells[1])
    write_preview(path.parent / "scratch", path, Preview(large, old.cards, old.members), "")


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description="seconds and memory of a preview mosaic")
    parser.add_argument("images", type=Path, nargs="*", help="calibrated images; two at the least")
    given = parser.parse_args().images or sorted((WORK / "ours" / "out").glob("*_cal.fits"))
    if len(given) < 2:
        parser.error("give two calibrated images at the least, or run benchmarks/images.py before")
    rows, worst = [["canvas, cells", "images in it", "s", "memory, MB"]], [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "some_preview.fits"
        images = [Path(shutil.copy2(path, folder)) for path in given]

        def put(count: int) -> None:
            before = mark()
            done = refresh(Job(Path("some_asn.json"), "", "some", target, images[:count]), lambda: False)
            if done.failure is not None or done.added != 1:
                raise RuntimeError(str(done))
            took, shown = resident("VmHWM") - before, read_preview(target)
            if shown is not None and count > 1:
                ny, nx = shown.canvas.sci.shape
                rows.append([f"{ny} x {nx}", str(count), f"{done.seconds:.2f}", f"{took:.0f}"])
                worst[:] = max(worst[0], done.seconds), max(worst[1], took)

        for count in range(1, len(images)):
            put(count)
        enlarge(target)
        put(len(images))
    print(as_text(rows))
    return int(worst[0] > SECONDS or worst[1] > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
