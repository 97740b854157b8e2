"""source_catalog beside the peer's: finders, optics, gaps, energies, what has no catalogue."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from peerkit.catalogues import CASES, OPTICS, draw, header, write_abvegaoffset, write_apcorr, write_image

from upramp.simulate.cache import Cache
from upramp.stages.core.errors import NotApplicable
from upramp.stages.stage3.resample import Resampled
from upramp.stages.stage3.source_catalog import STEP, Catalogue, Params, make
from upramp.store.catalogues import table_of
from upramp.store.raw_reference import raw_reference

pytestmark = pytest.mark.peer

SCRIPT = Path(__file__).parent / "peerkit" / "run_source_catalog.py"
LOOSE = {"roundness": 1e-6}
"""Columns whose roundings are float32's in the peer: absolute tolerance."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("source_catalog")
    for optics in OPTICS:
        write_apcorr(root / f"apcorr_{optics}.fits", optics)
        write_abvegaoffset(root / f"abvegaoffset_{optics}.asdf", optics)
    return root


@pytest.fixture(scope="module")
def theirs(folder, peer):
    jobs = {}
    for name, case in CASES.items():
        write_image(folder / f"{name}.asdf", case)
        jobs[name] = {
            "input": str(folder / f"{name}.asdf"),
            "parameters": dict(case.parameters),
            "apcorr": str(folder / f"apcorr_{case.optics}.fits"),
            "abvegaoffset": str(folder / f"abvegaoffset_{case.optics}.asdf"),
        }
    (folder / "jobs.json").write_text(json.dumps(jobs))
    cache = Cache(folder / "crds")
    cache.write()
    (folder / "out").mkdir()
    done = subprocess.run(
        [peer.interpreter, SCRIPT, folder / "jobs.json", folder / "out"],
        env={**os.environ, **cache.environment, "STPIPE_DISABLE_CRDS_STEPPARS": "true"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder / "out"


def ours(folder: Path, name: str) -> Catalogue | None:
    case = CASES[name]
    cards = {k: "" for k in ("FILTER", "PUPIL")} | header(case)
    names = {"INSTRUME": "instrument"}
    meta = SimpleNamespace(**{names.get(key, key.lower()): value for key, value in cards.items()})
    references = {}
    for reftype, ending in (("apcorr", "fits"), ("abvegaoffset", "asdf")):
        with raw_reference(folder / f"{reftype}_{case.optics}.{ending}", reftype) as raw:
            references[reftype] = STEP.prepare[reftype](raw, meta, None)
    drawn = draw(case.image)
    grid = drawn["grid"]
    made = Resampled(
        {key.upper(): drawn[key] for key in ("sci", "err", "wht")},
        {"PXSCLRT": case.ratio},
        {
            "PIXAR_SR": float(np.radians(grid.scale) ** 2),
            "CRPIX1": grid.crpix[0] + 1,
            "CRPIX2": grid.crpix[1] + 1,
        },
        drawn["wcs"],
        grid,
    )
    try:
        return make(made, Params(**case.parameters), references)
    except NotApplicable:
        return None


@pytest.mark.parametrize("name", CASES)
def test_the_same_catalogue(name, folder, theirs):
    found, path = ours(folder, name), theirs / f"{name}_cat.ecsv"
    assert (found is not None) == path.exists()
    if found is None:
        return
    table, peers = table_of(found.columns, found.meta), QTable.read(path)
    assert table.colnames == peers.colnames
    for column in peers.colnames:
        mine, their = table[column], peers[column]
        if hasattr(their, "ra"):
            assert mine.separation(their).arcsec.max() < 1e-6
            continue
        values, expected = (np.asarray(getattr(c, "value", c), float) for c in (mine, their))
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=LOOSE.get(column, 0.0), err_msg=column)
        if found.segments is not None:
            assert str(mine.info.unit or "") == str(their.info.unit or "")
            assert mine.info.format == their.info.format
        assert mine.info.description == their.info.description
    for key in peers.meta.keys() - {"date", "version"}:
        _alike(table.meta[key], peers.meta[key])
    segments = theirs / f"{name}_segm.fits"
    assert (found.segments is not None) == segments.exists()
    if found.segments is not None:
        np.testing.assert_array_equal(found.segments, fits.getdata(segments))


def _alike(value, expected):
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key in expected:
            _alike(value[key], expected[key])
    elif isinstance(expected, str):
        assert value == expected
    else:
        np.testing.assert_allclose(value, expected, rtol=1e-6)
