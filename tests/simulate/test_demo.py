"""The demo's visit: what is on disk, and how results are told."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from rich.console import Console

from upramp.simulate import demo

OUTCOME = demo.Outcome(output=Path("nowhere"), ledger=Path("nowhere/ledger"), seconds=1.5, peak_bytes=10**9)


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    return demo.prepare(tmp_path_factory.mktemp("demo"), size=64, integrations=4)


def test_the_visit_is_whole(visit):
    names = sorted(p.name for p in visit.inputs.iterdir())
    assert names == sorted(f"{t.stem}_uncal.fits" for t in visit.truths)
    assert len(names) == 4
    assert (visit.cache / "mappings" / "jwst" / visit.context).is_file()
    for truth in visit.truths:
        with fits.open(visit.inputs / f"{truth.stem}_uncal.fits") as hdus:
            assert len(hdus["SCI"].data) == len(truth.curve)
            assert np.load(truth.rate).shape == hdus["SCI"].data.shape[-2:]


def write_products(visit, folder, scatter):
    rng = np.random.default_rng(1)
    for truth in visit.truths:
        rate, curve = np.load(truth.rate), np.array(truth.curve)
        for suffix, sci in (("rate", rate * curve.mean()), ("rateints", rate * curve[:, None, None])):
            err = np.full(sci.shape, 0.5, np.float32)
            seen = (sci + scatter * err * rng.standard_normal(sci.shape)).astype(np.float32)
            flags = np.zeros(sci.shape, np.uint32)
            planes = [fits.ImageHDU(d, name=n) for d, n in ((seen, "SCI"), (err, "ERR"), (flags, "DQ"))]
            fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(folder / f"{truth.stem}_{suffix}.fits")


def test_true_products_agree(visit, tmp_path):
    write_products(visit, tmp_path, 1.0)
    rows = demo.compare(visit, tmp_path)
    assert len(rows) == 8
    assert all(row.good for row in rows)
    text = demo.summary(visit, OUTCOME, rows)
    assert text.count("agrees") == 8
    assert "peak_bytes 1000000000" in text


def test_wrong_and_missing_products_are_told(visit, tmp_path):
    write_products(visit, tmp_path, 1.5)
    (tmp_path / f"{visit.truths[0].stem}_rate.fits").unlink()
    rows = demo.compare(visit, tmp_path)
    assert not any(row.good for row in rows)
    console = Console(width=160, file=io.StringIO())
    console.print(demo.table(visit, OUTCOME, rows))
    text = console.file.getvalue()
    assert text.count("differs") == 7
    assert text.count("missing") == 1
    assert "1.5 s" in text
    assert "nowhere/ledger" in text.replace("\\", "/")


def test_a_full_size_visit_is_full_frame():
    image, _, series = demo.observations(2048)
    assert (image.subarray, image.outputs) == ("FULL", 4)
    assert series.tso


@pytest.mark.parametrize("size", [10, 4096, 101])
def test_sizes_have_limits(tmp_path, size):
    with pytest.raises(ValueError, match="even number"):
        demo.prepare(tmp_path, size=size)


def test_an_old_demo_is_not_overwritten(visit):
    with pytest.raises(FileExistsError, match="already holds"):
        demo.prepare(visit.folder, size=64)
