"""Header cards of products: what was done with what."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from upramp.daemon.results import state_cards
from upramp.store.references import NOT_APPLICABLE, Best


@pytest.mark.parametrize(
    ("best", "told"),
    [
        (Best("dark", "dark_1.fits", Path("dark_1.fits")), "crds://dark_1.fits"),
        (Best("dark", "dark_1.fits"), "crds://dark_1.fits"),  # the step is skipped: it was not fetched
        (Best("dark", "own.fits", Path("own.fits"), overridden=True), "own.fits"),
        (Best("dark", reason=NOT_APPLICABLE), "N/A"),
    ],
)
def test_references_are_named_whether_or_not_the_step_runs(best, told):
    row = {"type": "dark", "name": best.name or "N/A", "path": best.path and str(best.path)}
    step = SimpleNamespace(
        name="dark_current",
        step=SimpleNamespace(keyword="S_DARK"),
        params=SimpleNamespace(skip=False),
        references=[row],
        best={"dark": best},
    )
    work = SimpleNamespace(context="jwst_0001.pmap", crds_version="13", steps=[step])
    cards = state_cards(work, {"dark_current": (best.path is not None, "")})
    assert cards["R_DARK"] == told
    assert cards["S_DARK"] == ("SKIPPED" if best.path is None else "COMPLETE")
    step.params.skip = True  # not even looked at
    assert "R_DARK" not in state_cards(work, {"dark_current": (False, "skip = true")})
