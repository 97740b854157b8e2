"""skymatch beside the peer's: methods, statistics, groups, limits, flags."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import pytest
from astropy.modeling.models import Identity, Polynomial2D, Scale, Shift
from astropy.modeling.models import Mapping as Axes

from upramp.simulate.cache import Cache
from upramp.stages.core.image import Image
from upramp.stages.stage3.members import Means
from upramp.stages.stage3.skymatch import Params, run
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.imaging import imaging_wcs

pytestmark = pytest.mark.peer

SCRIPT = Path(__file__).parent / "peerkit" / "run_skymatch.py"
SIDE, SCALE, NOISE = 200, 0.063, 0.1

PLACES = {
    "a": (0.0, 0.0, 30.0, 1.0),
    "b": (3.3, 2.9, 30.0, 3.0),
    "c": (-2.7, 4.6, 71.0, 7.0),
    "d": (-9.4, 1.3, 30.2, 2.0),
    "e": (60.0, 0.0, 30.0, 2.5),
    "f": (63.1, 3.0, 12.0, 0.5),
    "alone": (200.0, 0.0, 30.0, 0.1),
}
"""Offsets in arcsec, position angle, level."""


@dataclass
class Exposure:
    """A member in memory."""

    name: str
    group: str
    sci: np.ndarray
    dq: np.ndarray
    wcs: Any
    cards: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        return SIDE, SIDE

    def read(self, *names: str) -> Image:
        zero = np.zeros(self.sci.shape, np.float32)
        return Image(self.sci.copy(), zero, self.dq, zero, zero, wcs=self.wcs)


def optics() -> Any:
    """A bent field whose way back is nearly right, as those of flight are."""
    bend = {"c2_0": 3e-6, "c0_2": -2e-6, "c1_1": 1e-6}
    there = [Polynomial2D(2, **{axis: SCALE}, **bend) for axis in ("c1_0", "c0_1")]
    back = [
        Polynomial2D(2, **{axis: 1 / SCALE}, **{k: -v / SCALE**3 for k, v in bend.items()})
        for axis in ("c1_0", "c0_1")
    ]
    both, split, join = there[0] & there[1], Axes((0, 1, 0, 1)), Identity(2)
    both.inverse = back[0] & back[1]
    split.inverse, join.inverse = Identity(2), Axes((0, 1, 0, 1))
    half = -(SIDE - 1) / 2
    stretch = Scale(1.0) & Scale(1.002)
    return Shift(half) & Shift(half) | stretch | split | both | join | Shift(86.0) & Shift(-493.0)


def draw(names: str, groups: str) -> list[Exposure]:
    rng, model, found = np.random.default_rng(7), optics(), []
    for name, group in zip(names.split(), groups.split(), strict=True):
        dx, dy, roll, level = PLACES[name]
        ra, dec = 80.0 + dx / 3600 / np.cos(np.radians(-69.5)), -69.5 + dy / 3600
        facts = WcsFacts(
            "NIRCAM", "NRCALONG", "NRC_IMAGE", SIDE, SIDE, 86.0, -493.0, ra, dec, roll, va_scale=1.0
        )
        sci = rng.normal(level, NOISE, (SIDE, SIDE)) + (rng.random((SIDE, SIDE)) < 0.02) * rng.exponential(
            3.0
        )
        dq = (rng.random((SIDE, SIDE)) < 0.02) * rng.choice([1, 4, 512, 1024], (SIDE, SIDE))
        sci[dq == 1], sci[7, 9] = 1e4, np.nan
        wcs = imaging_wcs(facts, {"distortion": {"model": model}})
        found.append(
            Exposure(f"jw_{name}_cal.fits", group, sci.astype(np.float32), dq.astype(np.uint32), wcs, {})
        )
    return found


FIVE = ("a b c d e f alone", "1 2 3 4 5 6 7")
PAIRS = ("a e b f c d alone", "1 1 2 2 3 3 4")
CASES: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    **{
        f"{method}{'' if down else '_up'}{'_subtracted' if subtract else ''}": (
            FIVE,
            {"skymethod": method, "match_down": down, "subtract": subtract},
        )
        for method in ("local", "global", "match", "global+match")
        for down, subtract in ((True, False), (False, False), (True, True))
    },
    **{f"groups_{m}": (PAIRS, {"skymethod": m}) for m in ("local", "global", "match", "global+match")},
    **{
        f"{s}_{m}": (FIVE, {"skystat": s, "skymethod": m})
        for s in ("mean", "median", "midpt")
        for m in ("local", "match")
    },
    "limits": (FIVE, {"lower": 0.2, "upper": 7.5, "skymethod": "global+match"}),
    "no_clipping": (FIVE, {"nclip": 0, "skystat": "mean", "upper": 50.0}),
    "tight_clipping": (FIVE, {"nclip": 2, "lsigma": 2.0, "usigma": 1.5}),
    "wide_bins": (FIVE, {"binwidth": 0.4}),
    "all_flags_count": (FIVE, {"dqbits": "~DO_NOT_USE", "skystat": "mean", "skymethod": "local"}),
    "no_flag_may_be_set": (FIVE, {"dqbits": "0", "skystat": "mean", "skymethod": "local"}),
    "some_flags_may_be_set": (FIVE, {"dqbits": "JUMP_DET, DEAD", "skystat": "mean", "skymethod": "local"}),
    "flags_do_not_count": (FIVE, {"dqbits": None, "skystat": "mean", "nclip": 0, "skymethod": "local"}),
    "stepsize": (FIVE, {"stepsize": 50}),
    "two": (("a b", "1 2"), {}),
    "one_group": (("a b", "1 1"), {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, peer):
    folder = tmp_path_factory.mktemp("skymatch")
    jobs = {}
    for name, (drawn, parameters) in CASES.items():
        path = folder / f"{'_'.join(drawn).replace(' ', '')}.asdf"
        if not path.exists():
            members = draw(*drawn)
            tree = {key: [getattr(m, key) for m in members] for key in ("sci", "dq", "wcs", "name")}
            asdf.AsdfFile({**tree, "exposure": [m.group for m in members]}).write_to(path)
        jobs[name] = {"input": str(path), "parameters": parameters}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    cache = Cache(folder / "crds")
    cache.write()
    done = subprocess.run(
        [peer.interpreter, SCRIPT, folder / "jobs.json", folder / "answers.json"],
        env={**os.environ, **cache.environment, "STPIPE_DISABLE_CRDS_STEPPARS": "true"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads((folder / "answers.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_the_same_levels(name, theirs):
    drawn, parameters = CASES[name]
    members = draw(*drawn)
    changes = run(members, Params(**parameters), Means())
    for member, change, (state, level, subtracted, total) in zip(members, changes, theirs[name], strict=True):
        cards = change.primary
        assert (change.state, cards.get("BKGSUB")) == (state, subtracted)
        if level is not None:
            assert abs(cards["BKGLEVEL"] - level) < 1e-5 * NOISE
        sci = change.apply(member.read()).sci
        finite = sci[np.isfinite(sci)].astype(float)
        assert finite.sum() == pytest.approx(total, rel=1e-6)
