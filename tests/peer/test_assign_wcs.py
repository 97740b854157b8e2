"""assign_wcs beside the peer's: kinds of exposures, subarrays, filters, parameters; how it reads ours."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate.cache import Cache
from upramp.simulate.optics import distortion, filter_offsets, write_transform
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.whole import run_whole
from upramp.stages.stage2.assign_wcs import STEP
from upramp.store.asdf_tree import asdf_extension, keyword_paths, product_tree
from upramp.store.transforms import load

pytestmark = pytest.mark.peer

SCRIPT = Path(__file__).parent / "peerkit" / "run_assign_wcs.py"
PIXELS = np.mgrid[0:61:10.0, 0:43:7.0].reshape(2, -1)

OPTICS: dict[str, dict[str, Any]] = {
    "NIRCAM": {"DETECTOR": "NRCB1", "MODULE": "B", "CHANNEL": "SHORT", "FILTER": "F200W", "PUPIL": "CLEAR"},
    "NIRISS": {"DETECTOR": "NIS", "FILTER": "CLEAR", "PUPIL": "F200W", "FWCPOS": 354.2},
    "MIRI": {"DETECTOR": "MIRIMAGE", "FILTER": "F1000W"},
    "FGS": {"DETECTOR": "GUIDER2"},
}
POINTING: dict[str, Any] = {
    "WCSAXES": 2, "CRPIX1": 700.5, "CRPIX2": 300.0, "CRVAL1": 80.0, "CRVAL2": -69.5, "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "CDELT1": 1e-5, "CDELT2": 1e-5, "PC1_1": -1.0,
    "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 1.0, "V2_REF": 86.0, "V3_REF": -493.0, "VPARITY": -1,
    "V3I_YANG": 0.1, "RA_REF": 80.0, "DEC_REF": -69.5, "ROLL_REF": 217.0, "VA_SCALE": 1.00003,
    "RADESYS": "ICRS",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """A kind of exposure: what its header has in another way (None: not at all), parameters, references."""

    instrument: str
    exp_type: str
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] = (2048, 2048)
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    boxed: bool = False
    offsets: bool = True

    def cards(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Primary and SCI keywords."""
        primary = {
            "TELESCOP": "JWST", "INSTRUME": self.instrument, "EXP_TYPE": self.exp_type,
            "DATE-OBS": "2024-03-01", "TIME-OBS": "01:15:00.000", "SUBARRAY": "FULL", "SUBSTRT1": 1,
            "SUBSTRT2": 1, "SUBSIZE1": self.shape[-1], "SUBSIZE2": self.shape[-2], "FASTAXIS": 1,
            "SLOWAXIS": 2, "DATAMODL": "CubeModel" if len(self.shape) == 3 else "ImageModel",
            **OPTICS[self.instrument],
        }  # fmt: skip
        both = primary | {k: v for k, v in self.header.items() if k not in POINTING}
        sci = POINTING | {k: v for k, v in self.header.items() if k in POINTING}
        both, sci = ({k: v for k, v in cards.items() if v is not None} for cards in (both, sci))
        return both, sci


SUB = {"SUBARRAY": "SUB64", "SUBSTRT1": 101, "SUBSTRT2": 501}
VARIANTS = {
    "nircam": Variant("NIRCAM", "NRC_IMAGE"),
    "nircam_subarray": Variant("NIRCAM", "NRC_TACQ", SUB, (48, 64)),
    "nircam_rows": Variant("NIRCAM", "NRC_TSIMAGE", SUB | {"SUBSTRT1": 1}, (3, 48, 64)),
    "nircam_coron": Variant("NIRCAM", "NRC_CORON", {"FILTER": "F210M", "PUPIL": "MASKRND"}),
    "nircam_other_pupil": Variant("NIRCAM", "NRC_FOCUS", {"PUPIL": "WLP8"}),
    "no_offsets": Variant("NIRCAM", "NRC_TACONFIRM", offsets=False),
    "no_aberration": Variant("NIRCAM", "NRC_IMAGE", {"VA_SCALE": None}),
    "no_reference_pixel": Variant("NIRCAM", "NRC_IMAGE", {**SUB, "CRPIX2": None}, (48, 64)),
    "own_box": Variant("NIRCAM", "NRC_IMAGE", boxed=True),
    "own_box_subarray": Variant("NIRCAM", "NRC_IMAGE", SUB, (48, 64), boxed=True),
    "niriss": Variant("NIRISS", "NIS_IMAGE"),
    "niriss_ami": Variant("NIRISS", "NIS_AMI", {**SUB, "FILTER": "F480M", "PUPIL": "NRM"}, (2, 80, 80)),
    "niriss_ta": Variant("NIRISS", "NIS_TACQ", SUB, (64, 64)),
    "miri": Variant("MIRI", "MIR_IMAGE", shape=(1024, 1032)),
    "miri_lyot": Variant("MIRI", "MIR_LYOT", {**SUB, "FILTER": "F2300C"}, (304, 320)),
    "miri_4qpm": Variant("MIRI", "MIR_4QPM", SUB, (224, 288)),
    "miri_ta": Variant("MIRI", "MIR_TACQ", SUB, (48, 64)),
    "fgs": Variant("FGS", "FGS_IMAGE"),
    "fgs_focus": Variant("FGS", "FGS_FOCUS", SUB, (128, 128), offsets=False),
    "pole": Variant("NIRCAM", "NRC_IMAGE", {"DEC_REF": 89.999, "RA_REF": 359.999}),
    "no_sip": Variant("NIRCAM", "NRC_IMAGE", parameters={"sip_approx": False}),
    "degrees": Variant("NIRCAM", "NRC_IMAGE", parameters={"sip_degree": 2, "sip_inv_degree": 6}),
    "limit": Variant("NIRCAM", "NRC_IMAGE", parameters={"sip_max_pix_error": 0.3}),
    "limit_back": Variant("NIRCAM", "NRC_IMAGE", parameters={"sip_max_inv_pix_error": 1e-6}),
    "points": Variant("NIRCAM", "NRC_IMAGE", parameters={"sip_npoints": 7}),
    "too_few_points": Variant("NIRCAM", "NRC_IMAGE", parameters={"sip_npoints": 3}),
    "flat": Variant("NIRCAM", "NRC_FLAT"),
    "lamp": Variant("FGS", "FGS_INTFLAT"),
}  # fmt: skip


def reference(kind: str, variant: Variant, folder: Path) -> Path:
    """A reference for the instrument, valid for every kind of exposure."""
    path = folder / f"{variant.instrument}_{kind}_{variant.boxed}.asdf".lower()
    if path.exists():
        return path
    pairs = [
        ("F200W", "CLEAR"),
        ("F210M", "MASKRND"),
        ("CLEAR", "F200W"),
        ("F1000W", "N/A"),
        ("F2300C", "N/A"),
    ]
    model = distortion(0.0315, 86.0, -493.0)
    if variant.boxed:
        model.bounding_box = ((12.0, 2000.0), (5.0, 2010.0))
    content = {"model": model} if kind == "distortion" else {"filters": filter_offsets(pairs)}
    facts = {"name": variant.instrument, "detector": OPTICS[variant.instrument]["DETECTOR"], "module": "B"}
    write_transform(path, kind, content, facts, [variant.exp_type])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("assign_wcs")


@pytest.fixture(scope="module")
def ours(folder):
    """Variant -> the image after our step, None where it was skipped; inputs and products in ``folder``."""
    made = {}
    for name, variant in VARIANTS.items():
        primary, sci = variant.cards()
        kinds = ("distortion", "filteroffset") if variant.offsets else ("distortion",)
        given = {kind: load(reference(kind, variant, folder), kind) for kind in kinds}
        first, second = fits.PrimaryHDU(), fits.ImageHDU(np.zeros(variant.shape, np.float32), name="SCI")
        first.header.update(primary)
        second.header.update(sci)
        fits.HDUList([first, second]).writeto(folder / f"{name}_rate.fits")
        meta = ExposureMeta(
            variant.instrument, primary["DETECTOR"], variant.exp_type, primary["SUBARRAY"], 1, 1,
            variant.shape[-1], variant.shape[-2], 1, 2, 1, 1, 5,
        )  # fmt: skip
        empty = np.broadcast_to(np.float32(0), variant.shape)
        image = Image(empty, empty, empty, empty, empty, header={"PRIMARY": primary, "SCI": sci})
        params = {"assign_wcs": STEP.params(**variant.parameters)}
        image, states = run_whole((STEP,), image, meta, given, params)
        made[name] = image if states["assign_wcs"].state == "COMPLETE" else None
        if made[name] is not None:
            headers = {"PRIMARY": first.header, "SCI": second.header}
            content = (folder / f"{name}_rate.fits").read_bytes()
            extension = asdf_extension(product_tree(None, headers, {"meta": {"wcs": image.wcs}}))
            (folder / f"{name}_ours.fits").write_bytes(content + extension)
    return made


@pytest.fixture(scope="module")
def theirs(ours, folder, peer):
    """What the peer makes of the same inputs, and of our products."""
    jobs: dict[str, Any] = {}
    for name, variant in VARIANTS.items():
        kinds = ("distortion", "filteroffset") if variant.offsets else ("distortion",)
        references = {kind: str(reference(kind, variant, folder)) for kind in kinds}
        parameters = dict(variant.parameters)
        common = {"pixels": PIXELS.tolist(), "references": references, "parameters": parameters}
        jobs[name] = {"input": str(folder / f"{name}_rate.fits"), **common}
        if ours[name] is not None:
            jobs[f"{name}_ours"] = {"input": str(folder / f"{name}_ours.fits"), "written": True, **common}
    cache = Cache(folder / "crds")
    cache.write()
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [peer.interpreter, SCRIPT, folder / "jobs.json", folder / "answers.json"],
        env={**os.environ, **cache.environment, "STPIPE_DISABLE_CRDS_STEPPARS": "true"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads((folder / "answers.json").read_text())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_wcs(name, ours, theirs):
    image, answer = ours[name], theirs[name]
    assert answer["state"] == ("SKIPPED" if image is None else "COMPLETE")
    if image is None:
        return
    wcs = image.wcs
    sky = np.array(wcs(*PIXELS, with_bounding_box=False))
    np.testing.assert_allclose(sky, answer["sky"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(wcs.backward_transform(*sky), answer["back"], rtol=0, atol=1e-6)
    assert list(wcs.available_frames) == answer["frames"]
    assert wcs.bounding_box.bounding_box(order="F") == tuple(map(tuple, answer["box"]))


@pytest.mark.parametrize(
    "name", [name for name, v in VARIANTS.items() if v.exp_type not in ("NRC_FLAT", "FGS_INTFLAT")]
)
def test_the_same_header(name, ours, theirs):
    image, expected = ours[name], theirs[name]["wcsinfo"]
    paths = {
        p.rpartition(".")[2]: k for k, p in keyword_paths()["SCI"].items() if p.startswith("meta.wcsinfo.")
    }
    cards = image.header["SCI"]
    leaves = image.leaves.get("meta", {}).get("wcsinfo", {})
    told = {**{n: cards[k] for n, k in paths.items() if k in cards}, **leaves}
    told = {k: v for k, v in told.items() if v is not None}
    assert told.keys() == expected.keys()
    for key, value in expected.items():
        assert told[key] == (
            value if isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=1e-30)
        ), key


@pytest.mark.parametrize("name", VARIANTS)
def test_the_peer_reads_ours(name, theirs):
    if theirs[name]["state"] == "SKIPPED":
        return
    for key in ("sky", "back", "box", "frames"):
        assert theirs[f"{name}_ours"][key] == theirs[name][key], key
