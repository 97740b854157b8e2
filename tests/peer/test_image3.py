"""Mosaics against the observatory's package: dithered visits of each instrument, and the two mixed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from peerkit import ours
from peerkit.compare import card_differences, compare_products, explain, sky_difference
from peerkit.peer import Job, failure, product
from peerkit.visits import VISITS, associate

pytestmark = pytest.mark.peer

LEVEL = 0.999
FLAGS = 0.9999
MAS = 1.0
SELECTED = [case for case in VISITS if not case.long or os.environ.get("UPRAMP_PEER") == "all"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all, so that kernels are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def visited(peer, tmp_path_factory):
    """Of a visit: its rates, an association of the peer's images, and what the peer makes of that."""
    root, known = tmp_path_factory.mktemp("visits"), {}

    def get(case):
        if case.name not in known:
            sources = case.make(root / case.name)
            done = peer.results([Job(source, {}, pipeline="image2") for source in sources])
            assert not any(map(failure, done))
            folder = root / case.name / "cal"
            folder.mkdir()
            images = [Path(shutil.copy(product(one, "cal"), folder)) for one in done]
            asked = associate(folder, images, sources[0], case.groups)
            [expected] = peer.results([Job(asked, case.parameters, pipeline="image3")])
            assert not failure(expected), failure(expected)
            known[case.name] = sources, asked, expected
        return known[case.name]

    return get


def names_of(path):
    """Of all extensions, in order."""
    with fits.open(path) as file:
        return [hdu.name for hdu in file]


def differences(made, wanted, left_out=()):
    """Keywords that differ, but for references that a mode does not take."""
    found = card_differences(made, wanted)
    return {
        key: both
        for key, both in found.items()
        if key not in left_out and not (key.startswith("PRIMARY R_") and both == (None, "N/A"))
    }


def agree(made, expected):
    """Mosaics on the same grid, and what each exposure became."""
    mosaics = sorted(expected.glob("*_i2d.fits"))
    assert [p.name for p in mosaics] == sorted(p.name for p in made.rglob("*_i2d.fits"))
    for other in mosaics:
        [one] = made.rglob(other.name)
        shares = compare_products(one, other)
        assert min(shares.values()) >= LEVEL, f"{shares}\n{explain(one, other)}"
        assert sky_difference(one, other) < MAS
        assert names_of(one) == names_of(other)
        counted = ("PRIMARY NDRIZ",) if len(mosaics) > 1 else ()  # the peer counts on from image to image
        assert differences(one, other, ("SCI S_REGION", *counted)) == {}
    for wanted in expected.glob("*_crf.fits"):
        [found] = made.rglob(wanted.name)
        assert sky_difference(found, wanted) < MAS
        with fits.open(found) as a, fits.open(wanted) as b:
            assert (a["DQ"].data == b["DQ"].data).mean() >= FLAGS
        assert differences(found, wanted, ("PRIMARY BKGLEVEL",)) == {}
        levels = [fits.getval(path, "BKGLEVEL") for path in (found, wanted)]
        assert levels[0] == pytest.approx(levels[1], rel=1e-5)


def same_sources(made, expected):
    """Catalogues matched one to one, fluxes to a thousandth; a few whose segments hang on a single pixel may
    differ."""
    [one], [other] = (list(folder.rglob("*_cat.ecsv")) for folder in (made, expected))
    a, b = QTable.read(one), QTable.read(other)
    assert len(a) == len(b) >= 20
    nearest, apart, _ = a["sky_centroid"].match_to_catalog_sky(b["sky_centroid"])
    assert sorted(nearest) == list(range(len(b)))
    assert apart.mas.max() < MAS
    for name in ("aper_total_flux", "isophotal_flux"):
        ratio = a[name].value / b[name].value[nearest]
        good = np.isfinite(ratio)
        assert (good == np.isfinite(b[name].value[nearest])).all()
        assert (np.abs(ratio[good] - 1) < 1e-3).mean() > 0.97, name


@pytest.mark.parametrize("case", SELECTED, ids=lambda case: case.name)
def test_mosaics_agree(case, visited, cache, tmp_path):
    _, asked, expected = visited(case)
    done = ours.run(asked, tmp_path, case.assignments, cache)
    assert done.returncode == 0, done.stdout + done.stderr
    agree(tmp_path, expected)
    if case.steps.get("resample", {}).get("single"):
        assert not list(expected.glob("*_cat.ecsv")) and not list(tmp_path.rglob("*_cat.ecsv"))
        assert len(list(tmp_path.rglob("*_i2d.fits"))) == len(set(case.groups))
        return
    same_sources(tmp_path, expected)
    with fits.open(ours.product(tmp_path, "i2d")) as file:
        assert np.isfinite(file["SCI"].data).mean() > 0.5


def test_our_images_through_the_peer_and_back(visited, peer, cache, tmp_path):
    """Rates to images by one, images to a mosaic by the other."""
    case = SELECTED[0]
    sources, asked, expected = visited(case)
    for source in sources:
        done = ours.run(source, tmp_path / "cal", [], cache)
        assert done.returncode == 0, done.stdout + done.stderr
    images = [tmp_path / "cal" / path.name for path in asked.files[1 : 1 + len(sources)]]
    mixed = associate(tmp_path / "cal", images, sources[0])
    [theirs] = peer.results([Job(mixed, case.parameters, pipeline="image3")])
    assert not failure(theirs)
    agree(theirs, expected)
    done = ours.run(mixed, tmp_path / "out", case.assignments, cache)
    assert done.returncode == 0, done.stdout + done.stderr
    agree(tmp_path / "out", expected)
