"""Best references, off line, from caches written here; files that are missing or damaged."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.store.crds_client import CrdsSettings, parameters_of
from upramp.store.references import Best, Crds, open_crds

HEADER: dict[str, Any] = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCALONG",
    "SUBARRAY": "FULL",
    "EXP_TYPE": "NRC_IMAGE",
    "TSOVISIT": False,
    "DATE-OBS": "2023-05-06",
    "TIME-OBS": "01:02:03.4",
}
DETECTOR = ("META.INSTRUMENT.DETECTOR",)
DARK = "jwst_nircam_dark_0001.fits"
RULES = {
    "dark": (("META.INSTRUMENT.DETECTOR", "META.SUBARRAY.NAME"), {("NRCALONG", "FULL"): DARK}),
    "mask": (("META.VISIT.TSOVISIT",), {("F",): "jwst_nircam_mask_0001.fits"}),
    "gain": (DETECTOR, {("NRCBLONG",): "jwst_nircam_gain_0001.fits"}),
    "flat": (DETECTOR, {("NRCALONG",): "N/A", ("NRCBLONG",): "jwst_nircam_flat_0001.fits"}),
    "area": (DETECTOR, {("NRCALONG",): "N/A", ("NRCBLONG",): "N/A"}),
    "refpix": "N/A",
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def crds_of(cache, **settings) -> Crds:
    return open_crds(CrdsSettings(path=str(cache.root), offline=True, **settings))


def test_best(make_cache):
    cache = make_cache(RULES)
    crds = crds_of(cache)
    found = crds.best(HEADER, ["dark", "MASK", "gain", "flat", "refpix", "sirskernel"])
    assert list(found) == ["dark", "mask", "gain", "flat", "refpix", "sirskernel"]
    assert found["dark"] == Best("dark", DARK, cache.references / DARK)
    assert found["mask"].name == "jwst_nircam_mask_0001.fits"  # FITS F is the rules' F
    assert found["gain"].name is None and found["gain"].applies
    assert found["gain"].reason.startswith("NOT FOUND") and "NRCALONG" in found["gain"].reason
    assert found["flat"] == Best("flat", reason="N/A")
    assert found["refpix"] == Best("refpix", reason="N/A") and not found["refpix"].applies
    assert "no reference type 'sirskernel'" in found["sirskernel"].reason
    assert crds.context == "jwst_0001.pmap"
    assert crds.version.split(".")[0].isdigit()


def test_parameters_by_either_name(make_cache):
    crds = crds_of(make_cache(RULES))
    meta = {
        "meta.telescope": "JWST",
        "meta.instrument.name": "nircam",
        "meta.instrument.detector": "nrcalong",
        "META.SUBARRAY.NAME": "FULL",
        "meta.observation.date": "2023-05-06",
        "meta.observation.time": "01:02:03",
    }
    assert crds.best(meta, ["dark"])["dark"].name == DARK
    assert parameters_of(HEADER)["META.OBSERVATION.DATE"] == "2023-05-06"
    assert parameters_of(HEADER | {"FILTER": None, "SUBSTRT1": 5})["META.SUBARRAY.XSTART"] == 5


def test_use_after(make_cache):
    early = crds_of(make_cache(RULES)).best(HEADER | {"DATE-OBS": "2019-12-31"}, ["dark"])["dark"]
    assert early.name is None and early.reason.startswith("NOT FOUND")


def test_contradictory_rules(make_cache):
    """The client itself breaks off with a TypeError on these."""
    crds = crds_of(make_cache(RULES))
    found = crds.best(HEADER | {"DETECTOR": "*"}, ["flat", "area", "dark"])
    assert found["flat"].name is None and "contradictory" in found["flat"].reason and found["flat"].applies
    assert found["area"] == Best("area", reason="N/A")
    assert found["dark"].name == DARK


@pytest.mark.parametrize(("change", "word"), [({"TELESCOP": "HST"}, "HST"), ({"INSTRUME": ""}, "INSTRUME")])
def test_wrong_header(make_cache, change, word):
    with pytest.raises(Unprocessable, match=word):
        crds_of(make_cache(RULES)).best(HEADER | change, ["dark"])


def test_unknown_instrument(make_cache):
    with pytest.raises(Unprocessable, match="no instrument WFIRST"):
        crds_of(make_cache(RULES)).best(HEADER | {"INSTRUME": "WFIRST"}, ["dark"])


def test_context_precedence(make_cache, monkeypatch):
    cache = make_cache(RULES)
    assert crds_of(cache).context == "jwst_0001.pmap"
    assert crds_of(cache, context="jwst-edit").context == "jwst_0002.pmap"
    monkeypatch.setenv("CRDS_CONTEXT", "jwst_0007.pmap")
    assert crds_of(cache).context == "jwst_0007.pmap"
    assert crds_of(cache, context="jwst_0003.pmap").context == "jwst_0003.pmap"
    cache.info(operational_context="jwst_0001.pmap", latest_context="jwst_0009.pmap")
    monkeypatch.setenv("CRDS_CONTEXT", "latest")
    assert crds_of(cache).context == "jwst_0009.pmap"


@pytest.mark.parametrize("context", ["jwst-2023-01-01T00:00:00", "jwst_nircam_0001.imap"])
def test_impossible_context(make_cache, context):
    with pytest.raises(Misconfigured, match="context"):
        assert crds_of(make_cache(RULES), context=context).context


def test_no_cache(tmp_path):
    with pytest.raises(Misconfigured, match="crds sync"):
        open_crds(CrdsSettings(path=str(tmp_path), offline=True)).best(HEADER, ["dark"])
    with pytest.raises(Misconfigured, match=r"jwst_0001\.pmap .* crds sync --contexts jwst_0001\.pmap"):
        open_crds(CrdsSettings(path=str(tmp_path), offline=True, context="jwst_0001.pmap")).best(
            HEADER, ["dark"]
        )


def test_damaged_server_config(make_cache):
    cache = make_cache(RULES)
    (cache.config / "server_config").write_text("{'bad")
    with pytest.raises(Misconfigured, match="server_config"):
        crds_of(cache).best(HEADER, ["dark"])


@pytest.mark.parametrize("kind", ["missing", "changed", "garbage"])
def test_bad_mapping(make_cache, kind):
    cache = make_cache(RULES)
    path = cache.mappings / "jwst_nircam_dark_0001.rmap"
    if kind == "missing":
        path.unlink()
    elif kind == "changed":
        path.write_text(path.read_text().replace("'FULL'", "'SUB8'"))
    else:
        path.write_text("header = {")
    crds = crds_of(cache)
    assert crds.best(HEADER, ["mask"])["mask"].name  # what is not needed does not matter
    with pytest.raises(Misconfigured, match=r"dark_0001\.rmap.*sync --contexts jwst_0001\.pmap"):
        crds.best(HEADER, ["dark"])


def test_declared_bad(make_cache, monkeypatch):
    cache = make_cache(RULES)
    cache.image(DARK)
    bad = [DARK, "jwst_nircam_mask_0001.rmap"]
    cache.info(operational_context="jwst_0001.pmap", bad_files_list=bad)
    crds = crds_of(cache)
    best = crds.best(HEADER, ["dark"])["dark"]
    with pytest.raises(Misconfigured, match="scientifically invalid"):
        crds.fetch(best)
    with pytest.raises(Misconfigured, match="scientifically invalid"):
        crds.best(HEADER, ["mask"])
    monkeypatch.setenv("CRDS_ALLOW_BAD_REFERENCES", "1")
    assert crds.fetch(best) == best.path


def test_fetch(make_cache):
    cache = make_cache(RULES)
    path = cache.image(DARK)
    cache.info(operational_context="jwst_0001.pmap", download_metadata=cache.metadata())
    crds = crds_of(cache)
    best = crds.best(HEADER, ["dark"])["dark"]
    assert crds.fetch(best) == path
    assert crds.checksum(best) == "sha1:" + cache.metadata()[DARK]["sha1sum"]
    assert crds.checksum(Best("gain", reason="N/A")) == ""


def test_flat_cache(make_cache):
    cache = make_cache(RULES)
    path = cache.image(DARK)
    path = path.rename(path.parent.parent / DARK)
    crds = crds_of(cache)
    assert crds.fetch(crds.best(HEADER, ["dark"])["dark"]) == path


def test_missing_reference(make_cache):
    crds = crds_of(make_cache(RULES))
    with pytest.raises(Misconfigured) as error:
        crds.fetch(crds.best(HEADER, ["dark"])["dark"])
    for word in (DARK, "type dark", "jwst_0001.pmap", f"crds sync --files {DARK}", "[references] dark"):
        assert word in str(error.value)


def test_fetch_of_nothing(make_cache):
    crds = crds_of(make_cache(RULES))
    with pytest.raises(Misconfigured, match=r"type gain .*NRCALONG.*\[references\] gain"):
        crds.fetch(crds.best(HEADER, ["gain"])["gain"])


def test_truncated_reference(make_cache):
    cache = make_cache(RULES)
    path = cache.image(DARK)
    path.write_bytes(path.read_bytes()[:5770])
    crds = crds_of(cache)
    with pytest.raises(Misconfigured, match=r"dark.*damaged.*promise"):
        crds.fetch(crds.best(HEADER, ["dark"])["dark"])


def test_changed_reference(make_cache):
    """The checksum finds a bit that changed; the length, what was appended."""
    cache = make_cache(RULES)
    path = cache.image(DARK)
    cache.info(operational_context="jwst_0001.pmap", download_metadata=cache.metadata())
    data = bytearray(path.read_bytes())
    data[5760] ^= 1
    path.write_bytes(data)
    crds = crds_of(cache)
    best = crds.best(HEADER, ["dark"])["dark"]
    crds.fetch(best)
    with pytest.raises(Misconfigured, match=r"type dark.*damaged.*sha1.*remove"):
        crds.checksum(best)
    path.write_bytes(data + bytes(2880))
    with pytest.raises(Misconfigured, match="bytes and should have"):
        crds.fetch(best)


def test_overrides(make_cache, tmp_path):
    mine = tmp_path / "my_gain.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((2, 2)), name="SCI")]).writeto(mine)
    overrides = {"gain": str(mine), "DARK": "n/a", "ipc": str(tmp_path / "none.fits")}
    crds = crds_of(make_cache(RULES), overrides=overrides)
    found = crds.best(HEADER, ["gain", "dark", "mask", "ipc"])
    assert found["gain"] == Best("gain", "my_gain.fits", mine, overridden=True)
    assert found["dark"] == Best("dark", reason="N/A", overridden=True)
    assert not found["mask"].overridden
    assert crds.fetch(found["gain"]) == mine and crds.checksum(found["gain"]).startswith("sha1:")
    with pytest.raises(Misconfigured, match=r"none\.fits is not a file"):
        crds.fetch(found["ipc"])
    mine.write_bytes(b"hello")
    with pytest.raises(Misconfigured, match="damaged"):
        crds.fetch(found["gain"])


def test_overrides_need_no_cache(tmp_path):
    crds = open_crds(CrdsSettings(path=str(tmp_path / "no"), offline=True, overrides={"gain": "N/A"}))
    assert crds.best(HEADER, ["gain"])["gain"].reason == "N/A"


def test_two_caches_in_one_process(make_cache):
    one = crds_of(make_cache(RULES))
    other = crds_of(make_cache({"dark": (DETECTOR, {("NRCALONG",): "jwst_nircam_dark_0002.fits"})}, "other"))
    assert one.best(HEADER, ["dark"])["dark"].name == DARK
    best = other.best(HEADER, ["dark"])["dark"]
    assert best.name == "jwst_nircam_dark_0002.fits" and "other" in str(best.path)
    assert one.best(HEADER, ["dark"])["dark"].name == DARK


def test_the_client_logs_like_all_others(make_cache, caplog, capsys):
    crds_of(make_cache(RULES)).client.start()
    with caplog.at_level(logging.INFO):
        from crds.core import log as crds_log

        crds_log.info("a message of the client")
    assert "a message of the client" in caplog.text
    assert capsys.readouterr() == ("", "")


def test_without_stdatamodels(make_cache):
    """The mappings must be usable where the observatory's data models are not installed."""
    cache = make_cache(RULES)
    code = f"""
import sys
sys.modules["stdatamodels"] = sys.modules["jwst"] = None
from upramp.store.references import CrdsSettings, open_crds
crds = open_crds(CrdsSettings(path={str(cache.root)!r}, offline=True))
print({{key: best.name for key, best in crds.best({HEADER!r}, ["dark", "gain"]).items()}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{{'dark': '{DARK}', 'gain': None}}\n" and done.stderr == ""


STEP, PIPE = "jwst_nircam_pars-jumpstep_0001.asdf", "jwst_nircam_pars-detector1pipeline_0001.asdf"
TYPES = {
    "jump": "pars-jumpstep",
    "ramp_fit": "pars-rampfitstep",
    "dark_current": "pars-darkcurrentstep",
    "detector1": "pars-detector1pipeline",
}
PARS = {
    "pars-jumpstep": (DETECTOR, {("NRCALONG",): STEP}),
    "pars-detector1pipeline": (("META.VISIT.TSOVISIT",), {("F",): PIPE}),
    "pars-rampfitstep": "N/A",
}


def test_parameters(make_cache):
    cache = make_cache(PARS)
    cache.parameters(
        STEP, {"rejection_threshold": 5.0, "flag_4_neighbors": False, "pre_hooks": [], "skip": False}
    )
    steps = [
        {"class": "jwst.jump.jump_step.JumpStep", "name": "jump", "parameters": {"rejection_threshold": 6.5}},
        {"class": "jwst.ramp_fitting.ramp_fit_step.RampFitStep", "parameters": {"maximum_cores": "half"}},
        {"name": "persistence", "parameters": {"skip": True}},
        {"name": "dark_current", "parameters": {"save_results": True}},
    ]
    cache.parameters(PIPE, {"save_calibrated_ramp": True, "output_file": "x"}, steps)
    assert crds_of(cache).parameters(HEADER, TYPES) == {
        "jump": {
            "rejection_threshold": (6.5, PIPE),
            "flag_4_neighbors": (False, STEP),
            "skip": (False, STEP),
        },
        "ramp_fit": {"maximum_cores": ("half", PIPE)},
        "detector1": {"save_calibrated_ramp": (True, PIPE)},
    }
    assert crds_of(cache).parameters(HEADER | {"DETECTOR": "NRCBLONG", "TSOVISIT": True}, TYPES) == {}


@pytest.mark.parametrize(
    "text", ["#ASDF 1.0.0\n--- {a: [\n...\n", "#ASDF 1.0.0\n--- {parameters: 3}\n...\n", "no"]
)
def test_damaged_parameters(make_cache, text):
    cache = make_cache(PARS)
    (cache.references / STEP).write_text(text)
    with pytest.raises(Misconfigured, match=STEP):
        crds_of(cache).parameters(HEADER, {"jump": "pars-jumpstep"})
