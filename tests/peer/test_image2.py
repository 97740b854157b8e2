"""Stage 2 of images against the observatory's package: instruments, modes, parameters."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from astropy.io import fits
from peerkit import ours
from peerkit.cases import assignments
from peerkit.compare import card_differences, compare_products, explain, sky_difference
from peerkit.images import IMAGES
from peerkit.peer import Job, failure, product
from peerkit.scenes import Input

from upramp.simulate import optics, rates, references
from upramp.simulate.cache import Cache
from upramp.simulate.detector import draw
from upramp.simulate.expose import expose
from upramp.simulate.observation import Observation
from upramp.simulate.uncal import write_exposure
from upramp.stages.associations.record import Association, Member, Product
from upramp.store.associations import write_association

pytestmark = pytest.mark.peer

LEVEL = 0.999
MAS = 0.1
OUTLINE = "SCI S_REGION"
SELECTED = [image for image in IMAGES if not image.long or os.environ.get("UPRAMP_PEER") == "all"]


def differences(made, wanted, kind):
    """Keywords that differ, but for those in docs/fidelity.md (n)."""
    found = card_differences(made, wanted)
    not_taken = {key for key, both in found.items() if key.startswith("PRIMARY R_") and both == (None, "N/A")}
    return {k: v for k, v in found.items() if k not in not_taken and (kind, k) != ("i2d", OUTLINE)}


def extensions(path):
    """Names, in order."""
    with fits.open(path) as file:
        return [hdu.name for hdu in file]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all, so that kernels are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("image", SELECTED, ids=lambda image: image.name)
def test_products_agree(image, imaged, cache, tmp_path):
    source, expected = imaged(image)
    assert not failure(expected)
    done = ours.run(source, tmp_path, image.assignments, cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in tmp_path.rglob("*.fits")} == {p.name for p in expected.glob("*.fits")}
    for kind in image.products:
        made, wanted = ours.product(tmp_path, kind), product(expected, kind)
        shares = compare_products(made, wanted)
        assert min(shares.values()) >= LEVEL, f"{kind} {shares}\n{explain(made, wanted)}"
        assert extensions(made) == extensions(wanted)
        assert differences(made, wanted, kind) == {}
        assert sky_difference(made, wanted) < MAS


@pytest.mark.parametrize("nints", [1, 3])
def test_backgrounds_are_subtracted(nints, peer, cache, tmp_path):
    """Of two exposures, which an association lists; what is left, and the mean background, are kept."""
    size, kind = (40, 48), "rateints" if nints > 1 else "rate"
    first = Observation("NRCALONG", *size, subarray="SUB64", tframe=10.0, nints=nints)
    taken = [replace(first, exposure=k) for k in (1, 2, 3)]
    chip, crds = draw("NRCALONG", *size, bad=3e-3), Cache(tmp_path / "crds", serial=532)
    optics.write_all(crds, chip, taken)
    environment = crds.environment | {"CRDS_CONTEXT": crds.write()}
    folder = tmp_path / "in"
    paths = [
        rates.write(folder, chip, 2.0 * chip.flat, one, seed=540 + k, by_integration=nints > 1)
        for k, one in enumerate(taken)
    ]
    name = paths[0].name.removesuffix(f"_{kind}.fits")
    members = [Member(p.name, "background" if k else "science") for k, p in enumerate(paths)]
    asked = folder / "jw01234-o001_image2_00001_asn.json"
    write_association(
        asked,
        Association("image2", "Asn_Lv2Image", 2, "01234", "o001", "1", (Product(name, tuple(members)),)),
    )
    files = sorted(p for p in (tmp_path / "crds").rglob("*") if p.is_file() and p.name != "server_config")
    source = Input(asked, environment, (asked, *paths, *files))
    steps = {
        "bkg_subtract": {"save_combined_background": True, "sigma": 2.0, "maxiters": 2},
        "image2": {"save_bsub": True},
    }
    [expected] = peer.results([Job(source, steps, pipeline="image2")])
    assert not failure(expected), failure(expected)
    done = ours.run(source, tmp_path / "out", assignments(steps), cache)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = {p.name: p for p in expected.glob("*.fits")}
    made = {p.name: p for p in (tmp_path / "out").rglob("*.fits")}
    assert made.keys() == wanted.keys() and len(made) == (3 if nints > 1 else 4)
    for name, path in wanted.items():
        shares = compare_products(made[name], path)
        ending = name.removesuffix(".fits").rpartition("_")[2]
        if ending == "combinedbackground" and nints > 1:
            del shares["ERR"]  # docs/fidelity.md (n)
        assert min(shares.values()) >= LEVEL, f"{name} {shares}\n{explain(made[name], path)}"
        if ending != "combinedbackground":  # the peer's has no keywords
            assert extensions(made[name]) == extensions(path)
            assert differences(made[name], path, ending) == {}


def test_from_counts_on(peer, cache, tmp_path):
    """Rates that upramp made itself, from simulated counts: the peer takes them, and what follows agrees."""
    observation = Observation(detector="NRCALONG", ny=64, nx=64, subarray="SUB64P", ngroups=4, nints=2)
    chip = draw("NRCALONG", 64, 64)
    crds = Cache(tmp_path / "crds", serial=531)
    references.write_all(crds, chip, [observation])
    optics.write_all(crds, chip, [observation])
    environment = crds.environment | {"CRDS_CONTEXT": crds.write()}
    taken = expose(chip, 300.0 * chip.flat, observation, seed=531)
    [counts] = write_exposure(tmp_path / "in", taken.counts, observation)
    files = sorted(p for p in (tmp_path / "crds").rglob("*") if p.is_file() and p.name != "server_config")
    done = ours.run(Input(counts, environment, ()), tmp_path / "stage1", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    rate = ours.product(tmp_path / "stage1", "rate")
    source = Input(rate, environment, (rate, *files))
    [expected] = peer.results([Job(source, {}, pipeline="image2")])
    assert not failure(expected)
    done = ours.run(source, tmp_path / "stage2", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("cal", "i2d"):
        made, wanted = ours.product(tmp_path / "stage2", kind), product(expected, kind)
        shares = compare_products(made, wanted)
        assert min(shares.values()) >= LEVEL, f"{kind} {shares}\n{explain(made, wanted)}"
        assert differences(made, wanted, kind) == {}
