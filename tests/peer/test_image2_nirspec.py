"""Images of NIRSpec, taken with the mirror, to stage 2: every kind, with real transforms."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from peerkit import ours
from peerkit.compare import card_differences, compare_products, explain, sky_difference
from peerkit.peer import Job, failure, product
from peerkit.scenes import Input, Scene, sky

from upramp.simulate import rates
from upramp.simulate.cache import Cache
from upramp.simulate.detector import draw
from upramp.simulate.observation import Observation
from upramp.simulate.optics import flat_hdus
from upramp.simulate.references import DETECTOR, Window, build

pytestmark = [pytest.mark.peer, pytest.mark.shared]

KINDS = ("IMAGE", "VERIFY", "CONFIRM", "FOCUS", "MIMF", "MSATA", "TACONFIRM", "TACQ", "TASLIT", "WATA")
SELECTED = KINDS if os.environ.get("UPRAMP_PEER") == "all" else KINDS[:2]
SHAPE = ny, nx = 80, 90


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all, so that kernels are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def drawn(peer, shared, tmp_path_factory):
    """Rates of every kind and what the peer makes of them."""
    root = tmp_path_factory.mktemp("nirspec")
    transforms = json.loads((shared / "peer" / "wcs_truth" / "nirspec_image_nrs1_clear.json").read_text())
    inputs = {kind: make(root / kind, f"NRS_{kind}", shared, transforms["references"]) for kind in SELECTED}
    done = peer.results([Job(source, {}, pipeline="image2") for source in inputs.values()])
    return dict(zip(inputs, zip(inputs.values(), done, strict=True), strict=True))


def make(folder, exp_type, shared, transforms):
    """The rates of an exposure and its CRDS cache."""
    optics = {"instrument.filter": "CLEAR", "instrument.grating": "MIRROR"}
    taken = Observation(
        "NRS1", 48, 64, xstart=11, ystart=17, subarray="SUB64", tframe=10.0, exp_type=exp_type, extra=optics
    )
    detector, crds = draw("NRS1", *SHAPE, bad=3e-3, hot=3e-3), Cache(folder / "crds", serial=651)
    flat = crds.new_path("NIRSPEC", "flat")
    cards = {"FILENAME": flat.name, "EXP_TYPE": exp_type}
    build("flat", detector, Window("GENERIC", 1, 1, nx, ny), flat_hdus(detector), cards).writeto(flat)
    crds.rule("NIRSPEC", "flat", DETECTOR, ("NRS1",), flat)
    for reftype, path in transforms.items():
        own = shutil.copy(shared / path, crds.new_path("NIRSPEC", reftype, "asdf"))
        crds.rule("NIRSPEC", reftype, DETECTOR, ("NRS1",), own)
    environment = crds.environment | {"CRDS_CONTEXT": crds.write()}
    stars = sky(Scene(taken, stars=20, flux=(1.5, 4.5)), 651)
    rate = rates.write(folder / "in", detector, stars, taken, seed=651)
    known = sorted(p for p in (folder / "crds").rglob("*") if p.is_file() and p.name != "server_config")
    return Input(rate, environment, (rate, *known))


def of_others(key, both):
    """References that the mode does not take; docs/fidelity.md (n)."""
    return key.startswith("PRIMARY R_") and (both == (None, "N/A") or key == "PRIMARY R_MSA")


@pytest.mark.parametrize("kind", SELECTED)
def test_products_agree(kind, drawn, cache, tmp_path):
    source, expected = drawn[kind]
    assert not failure(expected)
    done = ours.run(source, tmp_path, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    made, wanted = ours.product(tmp_path, "cal"), product(expected, "cal")
    shares = compare_products(made, wanted)
    assert min(shares.values()) == 1, explain(made, wanted)
    assert sky_difference(made, wanted) < 0.1
    left = {k: v for k, v in card_differences(made, wanted).items() if not of_others(k, v)}
    assert set(left) <= {"PRIMARY R_FLAT"} if kind == "VERIFY" else not left
