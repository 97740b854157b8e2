"""Exposures aligned by their stars: known errors are found, with each other and with a catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage3 import tweakreg_align
from upramp.stages.stage3.members import Changed, Means
from upramp.stages.stage3.tweakreg import STEP, Params, run

FINDING = {"roundlo": -1.0, "roundhi": 1.0, "sharplo": 0.1, "bkg_boxsize": 80}
MAS = 3.6e6

ERRORS = [(0.0, 0.0), (0.21, -0.13), (-0.16, 0.3)]


def columns(exposure, seed=3, noise=0.0):
    """The true places of the stars in an exposure."""
    rng, side = np.random.default_rng(seed), exposure.shape[0]
    x, y = 8.0 + rng.random((2, 60)) * (side - 16)
    ra, dec = exposure.cards["sky"](x, y)
    x, y = exposure.cards["right"].invert(ra, dec, with_bounding_box=False)
    return {"x": x + noise * rng.normal(size=60), "y": y + noise * rng.normal(size=60)}


def off(wcs, right, side=160):
    """How far a WCS is off, mas."""
    x, y = np.meshgrid([0.0, side / 2, side - 1.0], [0.0, side / 2, side - 1.0])
    (a, d), (b, e) = wcs(x, y), right(x, y)
    return MAS * np.hypot((a - b) * np.cos(np.radians(d)), d - e).max()


@pytest.fixture
def catalogued(starry, pointed):
    """Exposures and, by file name, the places of their stars."""

    def make(errors=ERRORS):
        members = starry(errors, sky=pointed(nx=160, ny=160))
        tables = {f"c{k}.ecsv": columns(m) for k, m in enumerate(members)}
        names = "\n".join(f"{m.name} c{k}.ecsv" for k, m in enumerate(members))
        return members, tables, {"cats.txt": names}

    return make


def means(tables, texts):
    def table(path):
        return tables[path] if path in tables else _missing(path)

    def text(path):
        return texts[path] if path in texts else _missing(path)

    return Means(text=text, table=table)


def _missing(path):
    raise FileNotFoundError(path)


CUSTOM = {"use_custom_catalogs": True, "catfile": "cats.txt"}


def test_stars_are_found_and_pointing_errors_with_them(starry):
    members = starry(ERRORS)
    changes = run(members, Params(**FINDING), Means())
    assert [c.state for c in changes] == ["COMPLETE"] * 3 and [m.reads for m in members] == [1, 1, 1]
    assert sum(c.wcs is None for c in changes) == 1
    [reference] = [m for m, c in zip(members, changes, strict=True) if c.wcs is None]
    (ex, ey), aligned = ERRORS[members.index(reference)], 0
    for member, change in zip(members, changes, strict=True):
        if change.wcs is not None:
            ra, dec = change.wcs(80.0, 80.0)
            true_ra, true_dec = member.cards["right"](80.0, 80.0)
            away = (ra - true_ra) * np.cos(np.radians(dec)) * 3600, (dec - true_dec) * 3600
            # all sit where the reference sits, to a fraction of the noise of 40 centroids
            assert np.hypot(away[0] - ex, away[1] - ey) < 0.004
            aligned += 1
    assert aligned == 2


@pytest.mark.parametrize("geometry", ["shift", "rshift", "rscale", "general"])
def test_known_errors_are_taken_back(catalogued, geometry):
    members, tables, texts = catalogued()
    tables["ref.ecsv"] = dict(zip(("RA", "DEC"), members[0].cards["sky"](*_places()), strict=True))
    p = Params(**CUSTOM, abs_refcat="ref.ecsv", fitgeometry=geometry, abs_fitgeometry=geometry)
    changes = run(members, p, means(tables, texts))
    for member, change in zip(members, changes, strict=True):
        assert change.state == "COMPLETE" and not change.reason
        assert off(change.wcs, member.cards["right"]) < 1.0 < off(member.wcs, member.cards["right"]) + 2.0
        assert change.wcs.name == "FIT-LVL3-ref.ecsv"
        assert list(change.wcs.available_frames)[-2:] == ["v2v3corr", "world"]


def _places():
    rng = np.random.default_rng(3)
    return 8.0 + rng.random((2, 60)) * 144


def test_what_goes_with_a_new_wcs(catalogued):
    members, tables, texts = catalogued()
    changes = run(members, Params(**CUSTOM), means(tables, texts))
    [number] = [k for k, c in enumerate(changes) if c.wcs is None]
    other = (number + 1) % 3
    image = Changed(members[other], changes[other]).read()
    assert image.wcs is changes[other].wcs
    sci = image.header["SCI"]
    numbers = np.array(sci["S_REGION"].split()[2:], float).reshape(4, 2)
    corner = image.wcs(-0.5, -0.5)
    np.testing.assert_allclose(numbers[0], corner, atol=1e-8)
    assert sci["CTYPE1"].startswith("RA---TAN") and sci["CRPIX1"] == 80.0
    assert image.header["PRIMARY"]["TCATFILE"] == f"c{other}.ecsv"
    assert "sipmxerr" in image.leaves["meta"]["wcsinfo"]
    plain = run(members, Params(**CUSTOM, sip_approx=False), means(tables, texts))
    assert set(plain[other].sci) == {"S_REGION"}
    assert not changes[number].sci and (STEP.name, STEP.keyword) == ("tweakreg", "S_TWKREG")


def test_images_of_an_exposure_move_together(catalogued):
    members, tables, texts = catalogued([(0.0, 0.0), (0.2, 0.1), (0.2, 0.1)])
    members[1].group = members[2].group = "both"
    changes = run(members, Params(**CUSTOM, fitgeometry="shift"), means(tables, texts))
    moved = [c.wcs is not None for c in changes]
    assert moved in ([False, True, True], [True, False, False])


def test_too_few_matches_leave_an_image_where_it_is(catalogued):
    members, tables, texts = catalogued()
    tables["c1.ecsv"] = {name: column[:5] for name, column in tables["c1.ecsv"].items()}
    changes = run(members, Params(**CUSTOM), means(tables, texts))
    assert [c.state for c in changes] == ["COMPLETE"] * 3
    assert changes[1].wcs is None and "not enough matches" in changes[1].reason
    assert changes[0].wcs is not None or changes[2].wcs is not None


def test_one_exposure_has_nothing_to_be_aligned_with(catalogued):
    members, tables, texts = catalogued()
    [change] = run(members[:1], Params(**CUSTOM), means(tables, texts))
    assert change.state == "FAILED" and "fewer than two" in change.reason and change.wcs is None
    tables["ref.ecsv"] = dict(zip(("ra", "dec"), members[1].cards["sky"](*_places()), strict=True))
    [change] = run(members[1:2], Params(**CUSTOM, abs_refcat="ref.ecsv"), means(tables, texts))
    assert change.state == "COMPLETE" and off(change.wcs, members[1].cards["right"]) < 1.0


def test_a_reference_that_is_too_small_or_does_not_fit(catalogued):
    members, tables, texts = catalogued()
    ra, dec = members[0].cards["sky"](*_places())
    tables["few.ecsv"] = {"RA": ra[:10], "DEC": dec[:10]}
    for change in run(members, Params(**CUSTOM, abs_refcat="few.ecsv"), means(tables, texts)):
        assert change.state == "FAILED" and "10 sources" in change.reason and change.wcs is None
    rng = np.random.default_rng(8)
    tables["other.ecsv"] = {"RA": rng.permutation(ra), "DEC": rng.permutation(dec)}
    for change in run(
        members, Params(**CUSTOM, abs_refcat="other.ecsv", abs_minobj=40), means(tables, texts)
    ):
        assert change.state == "COMPLETE" and change.wcs is None and change.reason


def test_catalogues_of_the_network_are_left_out(catalogued):
    members, tables, texts = catalogued()
    changes = run(members, Params(**CUSTOM, abs_refcat="GAIADR3"), means(tables, texts))
    assert all("network" in c.reason for c in changes) and sum(c.wcs is not None for c in changes) == 2
    [told] = STEP.unsupported(Params(abs_refcat="gaiadr3"))
    assert "gaiadr3" in told and "RA and DEC" in told
    assert not STEP.unsupported(Params(abs_refcat="mine.ecsv")) and not STEP.unsupported(Params())


def test_a_correction_that_is_too_large_is_not_believed(catalogued, monkeypatch):
    members, tables, texts = catalogued()
    monkeypatch.setattr(tweakreg_align, "BARE", 0.01)
    for change in run(members, Params(**CUSTOM), means(tables, texts)):
        assert change.state == "FAILED" and "mismatched" in change.reason and change.wcs is None


def test_how_large_a_correction_may_be():
    assert Params().relative.limit == pytest.approx(5.4)
    assert Params(use2dhist=False, xoffset=3.0, yoffset=-4.0).relative.limit == pytest.approx(9.4)
    assert Params().absolute.limit == pytest.approx(13.4)


def test_catalogues_are_handed_out(starry, catalogued):
    members = starry(ERRORS[:2])
    changes = run(members, Params(**FINDING, save_catalogs=True), Means())
    for member, change in zip(members, changes, strict=True):
        [(name, columns)] = change.tables.items()
        assert name == f"{member.name.removesuffix('.fits')}_cat.ecsv" == change.primary["TCATFILE"]
        assert list(columns) == ["id", "x", "y", "flux"] and columns["id"][0] == 1
    with pytest.raises(ValueError, match="catalog_format must be one of ecsv, fits"):
        Params(catalog_format="votable")
    members, tables, texts = catalogued()
    assert not run(members, Params(**CUSTOM, save_catalogs=True), means(tables, texts))[0].tables


def test_catalogues_named_by_the_header(catalogued):
    members, tables, _ = catalogued()
    for k, member in enumerate(members):
        member.cards["TCATFILE"] = f"c{k}.ecsv"
    changes = run(members, Params(use_custom_catalogs=True), means(tables, {}))
    assert [m.reads for m in members] == [0, 0, 0] and changes[0].primary["TCATFILE"] == "c0.ecsv"
    # the list beats the header; a line without a catalogue asks for stars to be found
    text = {"far/cats.txt": f"{members[0].name}\n{members[1].name} c9.ecsv\n"}
    tables["far/c9.ecsv"] = {"xcentroid": tables["c1.ecsv"]["x"], "ycentroid": tables["c1.ecsv"]["y"]}
    p = Params(use_custom_catalogs=True, catfile="far/cats.txt", **FINDING)
    changes = run(members, p, means(tables, text))
    assert [m.reads for m in members] == [1, 0, 0] and changes[1].primary["TCATFILE"] == "far/c9.ecsv"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"catfile": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"catfile": "three.txt"}, "line 1 of three.txt has 3 words"),
        ({"catfile": "lost.txt"}, "lost.ecsv"),
        ({"catfile": "blind.txt"}, "no column x"),
        ({"catfile": "cats.txt", "abs_refcat": "nowhere.ecsv"}, "nowhere.ecsv"),
        ({"catfile": "cats.txt", "abs_refcat": "c0.ecsv"}, "no columns RA and DEC"),
    ],
)
def test_files_that_do_not_serve(catalogued, parameters, message):
    members, tables, texts = catalogued()
    first = members[0].name
    texts |= {
        "three.txt": f"{first} a b",
        "lost.txt": f"{first} lost.ecsv",
        "blind.txt": f"{first} blind.ecsv",
    }
    tables["blind.ecsv"] = {"a": np.ones(3)}
    with pytest.raises(Misconfigured, match=message):
        run(members, Params(use_custom_catalogs=True, **parameters), means(tables, texts))


@pytest.mark.parametrize(
    "wrong",
    [
        {"starfinder": "eye"}, {"fitgeometry": "bend"}, {"abs_fitgeometry": ""}, {"separation": 0.5},
        {"bkg_boxsize": 0}, {"kernel_fwhm": -1.0}, {"npixels": 0}, {"brightest": 0}, {"contrast": 2.0},
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(wrong):
    with pytest.raises(ValueError):
        Params(**wrong)
