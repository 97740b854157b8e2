"""A dithered visit to its mosaic with pixels: products, headers, what the ledger tells; and once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

from upramp.simulate import optics, sky, visit
from upramp.simulate.cache import Cache
from upramp.simulate.observation import Observation
from upramp.stages.wcs.evaluate import sky_to_pixel
from upramp.store.association_file import FileMember
from upramp.store.image_file import open_image
from upramp.store.ledger import Ledger

STEM = "jw01234-o001_t001_nircam_clear-f444w"
ASN = "jw01234-o001_20240301t000000_image3_00001_asn"
RUN = """
import sys
from pathlib import Path
from upramp.daemon import config, desk, oneshot
from upramp.stages.pipelines import registry
if __name__ == "__main__":
    settings, *paths = sys.argv[1:]
    chosen = config.load(settings, registry=registry())
    sys.exit(oneshot.run([Path(p) for p in paths], chosen, calibrator=desk.Calibration()).exit_code)
"""
ONE = Observation(ny=230, nx=240, subarray="SUB320", ngroups=5, tframe=10.0)


class Taken:
    """A visit on disk; ``run`` calibrates in a process of its own, which compiles nothing ahead."""

    def __init__(self, folder: Path, **how) -> None:
        self.folder, self.output = folder, folder / "out"
        self.visit = visit.Visit(ONE, dithers=3, stars=70, **how)
        cache = Cache(folder / "crds")
        self.visit.references(cache)
        self.environment = cache.environment | {"CRDS_CONTEXT": cache.write()}
        self.rates = self.visit.write_rates(folder / "in")
        (folder / "run.py").write_text(RUN)
        (folder / "settings.toml").write_text(
            '[output]\nfolder = "out"\n[run]\nuntil = "stage2"\n[steps.tweakreg]\nminobj = 6\n'
            "bkg_boxsize = 50\nseparation = 0.3\ntolerance = 0.2\n"
        )

    def run(self, *paths: Path, exit_code: int = 0, settings: str = "settings.toml") -> str:
        done = subprocess.run(
            [sys.executable, self.folder / "run.py", self.folder / settings, *paths],
            env=os.environ | self.environment | {"UPRAMP_CACHE": str(self.folder / "cache")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def associate(self, *members: str) -> Path:
        path = self.output / f"{ASN}.json"
        path.write_text(
            json.dumps(
                {
                    "asn_type": "image3",
                    "asn_id": "o001",
                    "asn_pool": "none",
                    "products": [
                        {
                            "name": STEM,
                            "members": [{"expname": name, "exptype": "science"} for name in members],
                        }
                    ],
                }
            )
        )
        return path

    @property
    def cals(self) -> list[Path]:
        return sorted(self.output.glob("*_cal.fits"))

    @property
    def mosaic(self) -> Path:
        return self.output / f"{STEM}_i2d.fits"

    def ledger(self, table: str) -> list:
        with Ledger.open(self.output / "ledger") as ledger:
            rows = [row for row in ledger.latest(table) if row["segment_id"] == ASN]
        return [row for row in rows if row["state"] != "superseded"]


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    made = Taken(tmp_path_factory.mktemp("visit"), error=20.0)
    made.run(*made.rates)
    made.run(made.associate(*(path.name for path in made.cals)))
    return made


def test_the_mosaic_and_its_picture(taken):
    assert taken.mosaic.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with fits.open(taken.mosaic) as file:
        names = [hdu.name for hdu in file]
        assert names[:8] == ["PRIMARY", "SCI", "ERR", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"]
        header, sci = file[0].header, file["SCI"]
        states = {k: header.get(k) for k in ("S_TWKREG", "S_SKYMAT", "S_RESAMP")}
        assert set(states.values()) == {"COMPLETE"}
        assert (header["ASNTABLE"], header["NDRIZ"]) == (f"{ASN}.json", 3)
        assert header["FILENAME"] == taken.mosaic.name
        assert (
            "S_MTWCS" not in header
            and "S_SRCCAT" not in header
            and "BKGLEVEL" not in header
            and "DEGRADED" not in header
        )
        assert sci.header["BUNIT"] == "MJy/sr"
        assert set(np.unique(file["CON"].data)) == set(range(8))
        table = file["HDRTAB"].data
        assert list(table["FILENAME"]) == [path.name for path in taken.cals]
        assert header["EXPMID"] == pytest.approx(np.mean(table["EXPMID"]), abs=1e-9)


def test_pointings_are_mended(taken):
    """With respect to the first exposure, to a twentieth of a pixel; headers told them up to 40 mas wrong."""
    crf = [taken.output / o.file_name().replace("_uncal", "_o001_crf") for o, _ in taken.visit.observations()]
    cal = [taken.output / o.file_name().replace("_uncal", "_cal") for o, _ in taken.visit.observations()]
    mended, before = (
        taken.visit.astray([FileMember(open_image(path)).wcs for path in paths]) for paths in (crf, cal)
    )
    assert np.hypot(*before.T).max() > 10
    assert np.hypot(*mended.T).max() < ONE.layout.scale * 1e3 / 20


def test_stars_lie_where_they_were_put_and_shine_as_they_do(taken):
    """Pointings that headers told wrong by 20 mas are mended, with respect to the first exposure."""
    with fits.open(taken.mosaic) as file:
        sci, err = file["SCI"].data, file["ERR"].data
    wcs = FileMember(open_image(taken.mosaic)).wcs
    x, y = sky_to_pixel(wcs)(taken.visit.sky[:, 0], taken.visit.sky[:, 1])
    flux = taken.visit.sky[:, 2] * optics.CONVERSION
    inside = (x > 12) & (y > 12) & (x < sci.shape[1] - 12) & (y < sci.shape[0] - 12)
    near = np.hypot(x[:, None] - x, y[:, None] - y) + 99 * np.eye(x.size)
    alone = inside & (near.min(axis=0) > 12) & (flux > 1500)
    assert alone.sum() >= 5
    shifts, ratios = [], []
    for at, up, light in zip(x[alone], y[alone], flux[alone], strict=True):
        i, j = round(up), round(at)
        cut = np.s_[i - 5 : i + 6, j - 5 : j + 6]
        if not np.isfinite(sci[cut]).all():  # no exposure reaches it
            continue
        around = sci[i - 9 : i + 10, j - 9 : j + 10]
        light_here = sci[cut] - np.nanmedian(around)
        rows, columns = np.mgrid[i - 5 : i + 6, j - 5 : j + 6]
        total = light_here.sum()
        shifts.append(((light_here * columns).sum() / total - at, (light_here * rows).sum() / total - up))
        ratios.append(total / light)
    assert len(shifts) >= 5
    assert np.abs(np.median(shifts, axis=0)).max() < 0.03  # pixels of 63 mas
    assert np.median(ratios) == pytest.approx(1, abs=0.02)
    assert np.isfinite(err[np.isfinite(sci)]).all()


def test_the_catalogue_has_the_stars_with_their_light(taken):
    table = QTable.read(taken.output / f"{STEM}_cat.ecsv")
    with fits.open(taken.mosaic) as file:
        area = file["SCI"].header["PIXAR_SR"]
    stars = SkyCoord(*taken.visit.sky[:, :2].T, unit="deg")
    light = taken.visit.sky[:, 2] * optics.CONVERSION * area * 1e6
    nearest, apart, _ = table["sky_centroid"].match_to_catalog_sky(stars)
    same = apart.arcsec < 0.03
    assert same.sum() >= 20
    ratio = (table["aper_total_flux"].value[same] / light[nearest[same]])[light[nearest[same]] > 1e-6]
    assert np.nanmedian(ratio) == pytest.approx(1, abs=0.02)
    assert np.median(apart.mas[same]) < 5
    with fits.open(taken.output / f"{STEM}_segm.fits") as file:
        assert file["SCI"].data.max() == len(table)
        assert file[0].header["SCATFILE"] == f"{STEM}_cat.ecsv"
        labels = file["SCI"].header
    with fits.open(taken.mosaic) as file:
        image = file["SCI"].header
    for key in ("CRPIX1", "CRVAL1", "CTYPE1", "CDELT1", "PC1_2", "S_REGION"):
        assert labels[key] == image[key]
    assert not {"BUNIT", "PIXAR_SR", "A_ORDER", "CD1_1"} & set(labels)


def test_files_that_parameters_name(taken):
    """A catalogue of the truth to align with, and catalogues of each exposure handed out."""
    reference = taken.folder / "reference.ecsv"
    sky_of = taken.visit.sky
    QTable([sky_of[:, 0], sky_of[:, 1]], names=["RA", "DEC"]).write(reference, format="ascii.ecsv")
    settings = taken.folder / "settings.toml"
    before = settings.read_text()
    quick = {cal.name.replace("_cal", "_i2d") for cal in taken.cals}
    settings.write_text(
        before.replace(
            "minobj = 6",
            f'minobj = 6\nabs_refcat = "{reference}"\nabs_minobj = 6\nsave_catalogs = true'
            '\ncatalog_format = "fits"',
        )
        + "abs_separation = 0.3\nabs_tolerance = 0.2\n"
        + "[steps.outlier_detection]\nsave_intermediate_results = true\n"
    )
    try:
        taken.run(taken.output / f"{ASN}.json")
        row = [r for r in taken.ledger("step_runs") if r["step"] == "tweakreg"][-1]
        assert row["state"] == "COMPLETE"
        for ending, number in {
            "cat.fits": 3,
            "blot.fits": 3,
            "outlier_i2d.fits": 3,
            "median.fits": 1,
        }.items():
            found = {path.name for path in taken.output.glob(f"*_nrcalong*_{ending}")} - quick
            assert found == {cal.name.replace("cal.fits", f"o001_{ending}") for cal in taken.cals[:number]}
        table = QTable.read(taken.output / taken.cals[0].name.replace("cal.fits", "o001_cat.fits"))
        assert table.colnames == ["id", "x", "y", "flux"]
        crf = taken.output / taken.cals[0].name.replace("_cal", "_o001_crf")
        assert fits.getheader(crf)["TCATFILE"] == crf.name.replace("_crf", "_cat")
        path = taken.output / taken.cals[0].name.replace("_cal", "_o001_crf")
        assert "FIT-LVL3" in FileMember(open_image(path)).wcs.name
        [product] = [p for p in taken.ledger("products") if p["kind"] == "i2d" and p["state"] == "current"]
        assert any(one["path"] == str(reference) for one in product["inputs"])
    finally:
        settings.write_text(before)
        taken.run(taken.output / f"{ASN}.json")


def test_each_exposure_by_itself_where_asked_for(taken):
    """On the grid of the mosaic, members of a group together; without a catalogue."""
    association = json.loads((taken.output / f"{ASN}.json").read_text())
    for member, group in zip(association["products"][0]["members"], "abb", strict=True):
        member["group_id"] = group
    (taken.output / "by-hand_asn.json").write_text(json.dumps(association))
    text = (taken.folder / "settings.toml").read_text().replace('"out"', '"single"')
    (taken.folder / "single.toml").write_text(text + "[steps.resample]\nsingle = true\n")
    taken.run(taken.output / "by-hand_asn.json", settings="single.toml")
    output = taken.folder / "single"
    assert {path.name for path in output.glob("*_i2d.fits")} == {f"{STEM}_{k}_i2d.fits" for k in (0, 1)}
    assert not list(output.glob("*_cat.ecsv"))
    for k, n in enumerate((1, 2)):
        with fits.open(output / f"{STEM}_{k}_i2d.fits") as file:
            assert file[0].header["FILENAME"] == f"{STEM}_{k}_i2d.fits"
            assert (file[0].header["NDRIZ"], len(file["HDRTAB"].data)) == (1, n)
            assert file["SCI"].shape == fits.getdata(taken.mosaic).shape and "VAR_FLAT" not in file


def test_the_ledger_knows_members_and_steps(taken):
    [segment] = taken.ledger("segments")
    assert segment["state"] == "calibrated"
    [product] = [row for row in taken.ledger("products") if row["kind"] == "i2d"]
    assert [Path(one["path"]).name for one in product["inputs"]] == [
        f"{ASN}.json",
        *(path.name for path in taken.cals),
    ]
    runs = {row["step"]: row["state"] for row in taken.ledger("step_runs")}
    assert runs["tweakreg"] == runs["skymatch"] == runs["resample"] == "COMPLETE"
    assert runs["assign_mtwcs"] == "SKIPPED"


def test_again_only_if_a_member_changed(taken):
    before = taken.mosaic.stat().st_mtime_ns
    taken.run(taken.output / f"{ASN}.json")
    assert taken.mosaic.stat().st_mtime_ns == before
    with fits.open(taken.cals[1], mode="update") as file:
        file["SCI"].data += 0.5
    taken.run(taken.output / f"{ASN}.json")
    assert taken.mosaic.stat().st_mtime_ns != before
    [segment] = taken.ledger("segments")
    assert segment["state"] == "calibrated"


def test_without_a_mosaic_nothing_is_published(taken):
    """What the mosaic that stands was made with stays beside it, and nothing is left of the attempt."""

    def found():
        return {path.name: path.stat().st_mtime_ns for path in taken.output.iterdir() if path.is_file()}

    before = found()
    text = (taken.folder / "settings.toml").read_text()
    (taken.folder / "elsewhere.toml").write_text(
        text + "[steps.resample]\noutput_shape = [9000000, 9000000]\n"
    )
    told = taken.run(taken.output / f"{ASN}.json", settings="elsewhere.toml", exit_code=1)
    assert "9000000 x 9000000 pixels, which take" in told
    (taken.folder / "nowhere.toml").write_text(text + "[steps.resample]\nskip = true\n")
    assert "leave steps.resample.skip = false" in taken.run(
        taken.output / f"{ASN}.json", settings="nowhere.toml", exit_code=2
    )
    whole = (taken.folder / "run.py").read_text()
    (taken.folder / "run.py").write_text(
        "from upramp.daemon import mosaics\nfrom upramp.stages.core import errors\n"
        "def spoilt(*args): raise errors.Unprocessable('spoilt at the very end')\n"
        f"mosaics._write_catalogue = spoilt\n{whole}"
    )
    (taken.folder / "late.toml").write_text(text.replace("minobj = 6", "minobj = 7"))
    try:
        assert "spoilt" in taken.run(taken.output / f"{ASN}.json", settings="late.toml", exit_code=1)
    finally:
        (taken.folder / "run.py").write_text(whole)
    assert found() == before
    assert not (taken.output / ".upramp-scratch").exists()
    taken.run(taken.output / f"{ASN}.json")


def test_a_member_that_is_missing_is_named(taken):
    path = taken.associate(taken.cals[0].name, "jw01234001001_02101_00009_nrcalong_cal.fits")
    told = taken.run(path, exit_code=1)
    assert "jw01234001001_02101_00009_nrcalong_cal.fits" in told and "take them out" in told
    back = taken.associate(*(cal.name for cal in taken.cals))
    taken.run(back)


def test_without_a_distortion_the_sky_is_the_tangent_plane():
    """The simulated star field by header alone, against the one by the WCS."""
    o = visit.Visit(ONE).observations()[0][0]
    x, y = sky.pixels(o, np.array([o.ra]), np.array([o.dec]))
    assert (x[0], y[0]) == pytest.approx(((o.nx - 1) / 2, (o.ny - 1) / 2))


def test_what_belongs_together_is_found_out_and_combined(taken):
    """The last stage is the third: no association file is given, one exposure comes later than the others."""
    by_itself, settings = taken.folder / "alone", taken.folder / "settings.toml"
    text = settings.read_text().replace('"out"', '"alone"').replace('"stage2"', '"stage3"')
    (taken.folder / "stage3.toml").write_text(text)
    taken.run(*taken.rates[:2], settings="stage3.toml")
    [association] = (by_itself / "associations").iterdir()
    [mosaic] = by_itself.glob("*-f444w*_i2d.fits")
    header = fits.getheader(mosaic)
    lost = taken.cals[2].name.removesuffix("_cal.fits")
    assert header["DEGRADED"] == f"Not there when it was built: {lost}."
    assert (header["ASNTABLE"], header["NDRIZ"]) == (association.name, 2)
    taken.run(*taken.rates, settings="stage3.toml")
    header = fits.getheader(mosaic)
    assert header["NDRIZ"] == 3 and "DEGRADED" not in header
    with fits.open(mosaic) as ours, fits.open(taken.mosaic) as given:
        np.testing.assert_allclose(ours["SCI"].data, given["SCI"].data, rtol=1e-5, atol=1e-5)
    with Ledger.open(by_itself / "ledger") as ledger:
        [row] = ledger.state.associations()
    assert (row["state"], row["how"], row["members"]) == ("built", "complete", 3)
