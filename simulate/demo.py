"""The visit behind ``upramp demo``: two dithered images and a time series in two segments.

``prepare`` writes exposures, references and truth; the caller runs them like any others;
``compare`` and ``table`` hold what came out against what was put in.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from upramp.simulate import detector as detectors
from upramp.simulate import references, sky, uncal
from upramp.simulate.cache import Cache
from upramp.simulate.expose import Exposure, Noise, expose
from upramp.simulate.observation import Observation
from upramp.simulate.recovery import Recovery, recovery

DETECTOR = "NRCALONG"
FULL = 2048
SIZE = 400
"""Default width of the images: the observatory's SUB400P."""

SMALLEST, LARGEST = 64, FULL
RA, DEC = 80.0, -69.5
DITHERS = ((0.0, 0.0), (6.0, 3.0))
"""Offsets of the two images, arcsec."""

SEED = 20240301


@dataclass(frozen=True)
class Truth:
    """What one uncal file must give. ``stem`` is its name without ``_uncal.fits``.

    ``rate`` is the path of a (ny, nx) array, DN/s; ``curve`` the brightness of each of the file's
    integrations as a factor on it.
    """

    stem: str
    label: str
    rate: Path
    curve: tuple[float, ...]


@dataclass(frozen=True)
class DemoVisit:
    """A visit on disk: uncal files in ``inputs``, a CRDS cache, truths, and how long that took."""

    folder: Path
    inputs: Path
    cache: Path
    context: str
    environment: dict[str, str]
    truths: tuple[Truth, ...]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What the run had to say: where products and ledger lie, its wall time and peak resident memory."""

    output: Path
    ledger: Path
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Row:
    """One product beside its truth; ``recovery`` is None where the product is missing."""

    product: str
    label: str
    recovery: Recovery | None

    @property
    def good(self) -> bool:
        """Whether the product exists and agrees."""
        return self.recovery is not None and self.recovery.good


def observations(size: int = SIZE, integrations: int = 24) -> list[Observation]:
    """The visit's exposures: two images, then the time series.

    Raises
    ------
    ValueError
        If the size is out of range or odd.
    """
    if not SMALLEST <= size <= LARGEST or size % 2:
        raise ValueError(f"size must be an even number from {SMALLEST} to {LARGEST}, not {size}")
    images = [
        Observation(
            detector=DETECTOR,
            ny=size,
            nx=size,
            ngroups=8,
            readpatt="BRIGHT1",
            subarray="FULL" if size == FULL else f"SUB{size}P",
            exposure=k + 1,
            dither=(k + 1, len(DITHERS)),
            ra=RA + dx / 3600 / np.cos(np.radians(DEC)),
            dec=DEC + dy / 3600,
            start=f"2024-03-01T00:{20 * k:02d}:00",
        )
        for k, (dx, dy) in enumerate(DITHERS)
    ]
    series = Observation(
        detector=DETECTOR,
        ny=64,
        nx=FULL,
        nints=integrations,
        ngroups=6,
        subarray="SUBGRISM64",
        exp_type="NRC_TSGRISM",
        number=2,
        group=4,
        activity="02",
        tso=True,
        start="2024-03-01T02:00:00",
        extra={"instrument.pupil": "GRISMR"},
    )
    return [*images, series]


def prepare(folder: Path | str, size: int = SIZE, integrations: int = 24) -> DemoVisit:
    """Synthesise the visit into ``folder``: ``in/``, ``crds/`` and ``truth/``.

    Parameters
    ----------
    size : int
        Width and height of the images. Below 2048 they are subarrays in the detector's corner, read
        through one output.
    integrations : int
        Length of the time series.

    Raises
    ------
    ValueError
        If the size is out of range.
    FileExistsError
        If the folder already holds a cache.
    """
    begin = time.perf_counter()
    folder = Path(folder)
    *images, series = observations(size, integrations)
    if (folder / "crds").exists():
        raise FileExistsError(f"{folder} already holds a demo; remove it or name another folder")
    # The detector is no taller than needed, so that a small visit has small references.
    chip = detectors.draw(DETECTOR, max(size, series.ny), FULL, seed=SEED)
    cache = Cache(folder / "crds")
    references.write_all(cache, chip, [*images, series])
    cache.write()

    truths: list[Truth] = []
    stars = sky.stars(RA, DEC, radius=0.6 * size * chip.layout.scale / 3600, number=size, seed=SEED)
    # Through one output no side pixels follow the drift from row to row: such truths are free of it.
    steady = Noise(drift=0.0)
    noise = Noise() if images[0].subarray == "FULL" else steady
    background = 40.0 / images[0].frame_seconds
    for k, o in enumerate(images):
        rate = sky.field(o, stars, background=background) * chip.flat[o.window]
        truths += _save(folder, expose(chip, rate, o, seed=SEED + k, noise=noise), "image", 1)
    rate = sky.trace(series, peak=1000.0, background=20.0) * chip.flat[series.window]
    curve = sky.transit(integrations)
    taken = expose(chip, rate, series, seed=SEED + len(images), noise=steady, light_curve=curve)
    truths += _save(folder, taken, "time series", 2)
    return DemoVisit(
        folder=folder,
        inputs=folder / "in",
        cache=cache.root,
        context=cache.context,
        environment=cache.environment,
        truths=tuple(truths),
        seconds=time.perf_counter() - begin,
    )


def prepare_apart(folder: Path | str, size: int = SIZE) -> DemoVisit:
    """``prepare`` in a process of its own, so that its memory does not count as the run's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(prepare, folder, size).result()


def _save(folder: Path, exposure: Exposure, label: str, segments: int) -> list[Truth]:
    o = exposure.observation
    paths = uncal.write_exposure(folder / "in", exposure.counts, o, segments=segments)
    target = folder / "truth"
    target.mkdir(exist_ok=True)
    stem = o.file_name().removesuffix("_uncal.fits")
    rate = target / f"{stem}_rate.npy"
    np.save(rate, exposure.rate)
    np.save(target / f"{stem}_curve.npy", exposure.light_curve)
    np.save(target / f"{stem}_cosmic_rays.npy", exposure.cosmic_rays)
    truths = []
    for k, (path, curve) in enumerate(
        zip(paths, np.array_split(exposure.light_curve, segments), strict=True)
    ):
        named = label if segments == 1 else f"{label}, segment {k + 1}"
        truths.append(Truth(path.name.removesuffix("_uncal.fits"), named, rate, tuple(map(float, curve))))
    return truths


def compare(visit: DemoVisit, output: Path | str) -> list[Row]:
    """Hold every rate and rateints product that the visit must give against its truth."""
    rows = []
    for truth in visit.truths:
        rate, curve = np.load(truth.rate), np.array(truth.curve)
        for suffix, factors in (("rate", None), ("rateints", curve)):
            path = Path(output) / f"{truth.stem}_{suffix}.fits"
            found = None
            if path.is_file():
                found = recovery(path, rate if factors is not None else rate * curve.mean(), factors)
            rows.append(Row(path.name, truth.label, found))
    return rows


def table(visit: DemoVisit, outcome: Outcome, rows: list[Row] | None = None) -> Table:
    """The closing table: products, recovered against true flux, seconds, memory, ledger.

    ``rows`` come from ``compare``, which is called if they are not given.
    """
    rows = compare(visit, outcome.output) if rows is None else rows
    grid = Table(box=box.SIMPLE_HEAD, title="Recovered against true flux", title_justify="left")
    for heading in ("product", "exposure", "good pixels", "mean", "width", ""):
        grid.add_column(heading, justify="left" if heading in ("product", "exposure", "") else "right")
    for row in rows:
        if row.recovery is None:
            grid.add_row(row.product, row.label, "-", "-", "-", "[red]missing[/red]")
            continue
        r = row.recovery
        verdict = "[green]agrees[/green]" if r.good else "[red]differs[/red]"
        good = f"{100 * r.n / r.total:.1f} %"
        grid.add_row(row.product, row.label, good, f"{r.mean:+.3f}", f"{r.width:.3f}", verdict)
    grid.caption = "\n".join(
        (
            "mean and width of (measured - true) / ERR over unflagged pixels; expected 0 ± 0.05 and 1 ± 0.1",
            f"synthesised in {visit.seconds:.1f} s, calibrated in {outcome.seconds:.1f} s, "
            f"peak memory {outcome.peak_bytes / 1e9:.2f} GB",
            f"ledger {outcome.ledger}",
        )
    )
    grid.caption_justify = "left"
    return grid


def summary(visit: DemoVisit, outcome: Outcome, rows: list[Row]) -> str:
    """The same as plain lines, one product a line: name, good pixels, mean, width, verdict."""
    lines = []
    for row in rows:
        r = row.recovery
        text = f"{r.n} {r.mean:+.4f} {r.width:.4f} {'agrees' if r.good else 'differs'}" if r else "missing"
        lines.append(f"{row.product} {text}")
    lines.append(f"seconds {outcome.seconds:.2f}")
    lines.append(f"peak_bytes {outcome.peak_bytes}")
    lines.append(f"ledger {outcome.ledger}")
    return "\n".join(lines) + "\n"
