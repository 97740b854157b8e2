"""The exposures that are measured, with their references: those of the shared kit, else simulated."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from upramp.simulate import detector, references, sky, uncal
from upramp.simulate.cache import SERVERLESS, Cache
from upramp.simulate.expose import Exposure, Noise, expose
from upramp.simulate.observation import Observation

BLOCK = 2880
PIECE = 1 << 24
MADE = ".made"
"""Marks a folder whose exposure is whole, so that it is not made again."""


@dataclass(frozen=True)
class Sizes:
    """Integrations, groups, rows, columns, and the subarray's name."""

    nints: int
    ngroups: int
    ny: int
    nx: int
    subarray: str

    def __str__(self) -> str:
        return f"{self.nints} x {self.ngroups} x {self.ny} x {self.nx}"


@dataclass(frozen=True)
class Case:
    """One exposure on disk and the variables that point the crds client to its references."""

    name: str
    title: str
    uncal: Path
    environment: dict[str, str]


FULL = Sizes(1, 10, 2048, 2048, "FULL")
SERIES = Sizes(80, 6, 256, 2048, "SUBGRISM256")
QUICK = {"full": Sizes(1, 5, 128, 128, "SUB128P"), "series": Sizes(8, 4, 64, 2048, "SUBGRISM64")}
LABELS = {"full": "full frame", "series": "time series"}


def kit_folder() -> Path | None:
    """The kit beside the project, in the folder UPRAMP_SHARED or ../shared; None if it is not there."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("UPRAMP_SHARED") or default) / "kit"
    return folder if (folder / "make_tso.py").is_file() else None


def prepare(name: str, work: Path, peer: Path | None, *, quick: bool) -> Case:
    """Make one exposure with its references, or find it made.

    Parameters
    ----------
    name : {"full", "series"}
    work : Path
        The folder for all files.
    peer : Path or None
        The Python that the kit's generators need; without it exposures are simulated here.
    quick : bool
        Small sizes, to try the benchmark itself.
    """
    sizes = QUICK[name] if quick else {"full": FULL, "series": SERIES}[name]
    kit = None if quick or peer is None else kit_folder()
    folder = work / f"{name}-{'quick' if quick else 'kit' if kit else 'simulated'}"
    if not (folder / MADE).exists():
        folder.mkdir(parents=True)
        if kit:
            _from_kit(name, kit, peer, folder, sizes)
        else:
            # apart, so that the memory it takes is not this process's when it starts others
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                pool.submit(_simulate, name, folder, sizes).result()
        (folder / MADE).touch()
    [path] = (folder / "in").glob("*_uncal.fits")
    environment = {
        "CRDS_PATH": str(folder / "crds"),
        "CRDS_SERVER_URL": SERVERLESS,
        "CRDS_OBSERVATORY": "jwst",
        "CRDS_READONLY_CACHE": "1",
        "CRDS_CLIENT_RETRY_COUNT": "1",
        "CRDS_CLIENT_RETRY_DELAY_SECONDS": "0",
    }
    return Case(name, f"{LABELS[name]}, {sizes}", path, environment)


def _from_kit(name: str, kit: Path, peer: Path | None, folder: Path, sizes: Sizes) -> None:
    arguments = {
        "full": ["make_nircam.py", folder, sizes.ngroups, 1],
        "series": ["make_tso.py", folder, 1, sizes.nints, sizes.ngroups],
    }[name]
    script, *rest = map(str, arguments)
    subprocess.run([str(peer), kit / script, *rest], check=True, stdout=subprocess.DEVNULL)


def _simulate(name: str, folder: Path, sizes: Sizes) -> None:
    series = name == "series"
    observation = Observation(
        ny=sizes.ny,
        nx=sizes.nx,
        nints=sizes.nints,
        ngroups=sizes.ngroups,
        subarray=sizes.subarray,
        readpatt="RAPID" if series else "BRIGHT1",
        exp_type="NRC_TSGRISM" if series else "NRC_IMAGE",
        tso=series,
        extra={"instrument.pupil": "GRISMR"} if series else {},
    )
    chip = detector.draw(observation.detector, sizes.ny, 2048, seed=1)
    cache = Cache(folder / "crds")
    references.write_all(cache, chip, [observation])
    cache.write()
    uncal.write_exposure(folder / "in", _taken(observation, chip).counts, observation)


def _taken(o: Observation, chip: detector.Detector) -> Exposure:
    flat = chip.flat[o.window]
    if o.tso:
        rate = sky.trace(o, peak=1000.0, background=20.0) * flat
        return expose(chip, rate, o, seed=2, noise=Noise(drift=0.0), light_curve=sky.transit(o.nints))
    radius = 0.6 * o.ny * chip.layout.scale / 3600
    stars = sky.stars(o.ra, o.dec, radius=radius, number=o.ny // 2, seed=3)
    return expose(chip, sky.field(o, stars, background=1.0) * flat, o, seed=2)


def repeat(source: Path, target: Path, times: int) -> None:
    """Write an exposure whose integrations are those of another, again and again; in pieces, on disk.

    Counts are copied as they are. NINTS, INTSTART, INTEND and INT_TIMES are adapted; the tree of metadata
    (ASDF) is left out, as it would contradict them.

    Parameters
    ----------
    source : Path
        An uncal file that holds its whole exposure.
    target : Path
    times : int
        How often.
    """
    aside = target.with_suffix(".part")
    with fits.open(source) as hdus, aside.open("wb") as out, source.open("rb") as raw:
        primary, sci = hdus[0].header.copy(), hdus["SCI"].header.copy()
        place, count = hdus["SCI"].fileinfo()["datLoc"], hdus["SCI"].shape[0]
        size = count * abs(sci["BITPIX"]) // 8 * sci["NAXIS1"] * sci["NAXIS2"] * sci["NAXIS3"]
        primary["NINTS"] = primary["INTEND"] = sci["NAXIS4"] = count * times
        primary["INTSTART"] = 1
        primary["FILENAME"] = target.name
        out.write(_block(primary) + _block(sci))
        for _ in range(times):
            raw.seek(place)
            left = size
            while left:
                piece = raw.read(min(PIECE, left))
                left -= len(piece)
                out.write(piece)
        out.write(bytes(-size * times % BLOCK))
        if "INT_TIMES" in hdus:
            _write_table(out.write, hdus["INT_TIMES"], times)
    aside.rename(target)


def _block(header: fits.Header) -> bytes:
    return header.tostring().encode("ascii")


def _write_table(write: Callable[[bytes], object], hdu: fits.BinTableHDU, times: int) -> None:
    """The table of times, going on at the same cadence."""
    rows = np.array(hdu.data.view(np.ndarray))
    span = {n: (rows[n][-1] - rows[n][0]) * len(rows) / max(len(rows) - 1, 1) for n in rows.dtype.names}
    more = np.concatenate([rows] * times)
    for name in rows.dtype.names:
        shift = np.repeat(np.arange(times), len(rows)) * span[name]
        more[name] += shift.astype(more[name].dtype)
    header = hdu.header.copy()
    header["NAXIS2"] = len(more)
    content = more.astype(rows.dtype.newbyteorder(">")).tobytes()  # concatenate made it native
    write(_block(header) + content + bytes(-len(content) % BLOCK))
