"""Pools that the observatory's generator was run on: the same associations, field by field."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from upramp.stages.associations.group import Labels, associate
from upramp.stages.associations.rules import RULES
from upramp.store.associations import read_pool

POOLS = {
    "jw00711_20181027T043250": 75,
    "jw10005_20181020T033546": 12,
    "jw82600_20180921T023255": 273,
    "jw87800_20180824T214549": 3,
    "pool_002_image_miri": 9,
    "pool_003_image_nircam": 20,
    "pool_005_spec_niriss": 2,
    "pool_006_spec_nirspec": 22,
    "pool_007_spec_miri": 8,
    "pool_013_coron_nircam": 88,
    "pool_018_all_exptypes": 36,
    "pool_019_niriss_wfss": 5,
    "pool_021_tso": 1,
    "pool_023_nirspec_msa_3nod": 0,
}
"""Pools, and how many associations of the types that there are rules for the generator makes by default."""

VARIANTS = {"default": {}, "discover": {"candidates": ()}, "all-candidates": {"discover": False}}
TYPES = {rule.type for rule in RULES}


def exposures(truth: Path, shared: Path, tmp_path: Path):
    """The pool; without the lines of the template language that it was made by."""
    source = next(truth.glob("*.csv"), shared / "real" / "asn_pools" / f"{truth.name}_pool.csv")
    path = tmp_path / source.name
    lines = source.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.lower().startswith("set ")) + "\n")
    return read_pool(path)


def expected(truth: Path) -> dict[str, dict[str, dict]]:
    """By variant and file name. Later variants keep only what differs from the default."""
    found: dict[str, dict[str, dict]] = {name: {} for name in VARIANTS}
    for path in truth.glob("*/*_asn.json"):
        found.setdefault(path.parent.name, {})[path.name] = json.loads(path.read_text())
    if (truth / "asn.tar.gz").is_file():
        with tarfile.open(truth / "asn.tar.gz") as archive:
            for item in archive.getmembers():
                variant, _, name = item.name.rpartition("/")
                if name.endswith("_asn.json"):
                    file = archive.extractfile(item)
                    found.setdefault(variant, {})[name] = json.load(file)
    variants = json.loads((truth / "summary.json").read_text())["variants"]
    if variants["all-candidates"]["identical_to_default"]:
        kept = {name: a for name, a in found["default"].items() if "-a3" not in name}
        found["all-candidates"] = kept | found["all-candidates"]
    for name in VARIANTS:
        assert len(found[name]) == variants[name]["associations"]
    return found


def comparable(association: dict) -> dict:
    """Without the software's version, the address of a function, and the order of members."""
    text = re.sub(r"('acq_obsnum'.*'value': )<.*>\}\)", r"\1None})", association["constraints"])
    products = [
        {**p, "members": sorted(p["members"], key=lambda m: (m["expname"], m["exptype"]))}
        for p in association["products"]
    ]
    return {**association, "constraints": text, "products": products, "code_version": ""}


@pytest.mark.shared
@pytest.mark.parametrize("pool", POOLS)
def test_associations_are_those_of_the_observatory(pool, shared, tmp_path):
    truth = shared / "peer" / "asn_truth" / pool
    if not truth.is_dir():
        pytest.skip(f"no folder {truth}")
    everything = expected(truth)
    rows = exposures(truth, shared, tmp_path)
    for variant, options in VARIANTS.items():
        want = {n: comparable(a) for n, a in everything[variant].items() if a["asn_type"] in TYPES}
        if variant == "default":
            assert len(want) == POOLS[pool]
        label = Labels(next(iter(everything["default"].values()))["asn_pool"])
        made = associate(rows, labels=label, **options)
        got = {f"{a.name}.json": comparable(a.to_dict()) for a in made}
        assert got.keys() == want.keys(), variant
        for name in want:
            assert got[name] == want[name], (variant, name)
