"""The systemd unit: valid, hardened, and in step with the configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from upramp.daemon.config import Config

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "systemd" / "upramp.service"
NEEDED = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """Settings by key, with all values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path) -> Path:
    """The unit as it would be where upramp is installed; verification wants the program to be there."""
    program = tmp_path / "upramp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/upramp/bin/upramp", str(program)))
    return copy


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


@NEEDED
def test_systemd_accepts_it(installed):
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(installed))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is too old")
    assert (done.returncode, done.stderr.strip()) == (0, "")


@NEEDED
def test_systemd_finds_it_hardened(installed):
    done = analyze("security", "--offline=true", "--threshold=25", "--no-pager", str(installed))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a unit that is not loaded")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_it_waits_longer_than_the_service_takes_to_stop(unit):
    (stop,) = unit["TimeoutStopSec"]
    assert int(stop) >= Config().run.shutdown_s + 10
    assert f"({Config().run.shutdown_s:.0f} s)" in UNIT.read_text()
    assert unit["KillSignal"] == ["SIGTERM"]
    assert unit["KillMode"] == ["mixed"]  # workers are not to be told


def test_a_wrong_configuration_is_not_tried_again(unit):
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_everything_written_lies_in_its_own_folders(unit):
    assert unit["ProtectSystem"] == ["strict"] and unit["NoNewPrivileges"] == ["yes"]
    assert unit["StateDirectory"] == unit["CacheDirectory"] == ["upramp"]
    for setting in unit["Environment"]:
        name, _, value = setting.partition("=")
        if name in ("HOME", "NUMBA_CACHE_DIR", "UPRAMP_CACHE", "CRDS_PATH"):
            assert value.startswith(("%S/upramp", "%C/upramp"))
    assert "MemoryDenyWriteExecute" not in unit  # compiled kernels need it


def test_kernels_are_compiled_before_the_service_counts_as_started(unit):
    (first,), (then,) = unit["ExecStartPre"], unit["ExecStart"]
    program, command, *options = first.split()
    assert (command, [program, "watch", *options]) == ("warm", then.split())


def test_the_page_says_the_same(unit):
    page = (ROOT / "docs" / "service.md").read_text()
    assert f"`TimeoutStopSec={unit['TimeoutStopSec'][0]}`" in page
    for path in ("/opt/upramp", "/etc/upramp/config.toml", "/var/lib/upramp", "/var/cache/upramp"):
        assert path in page
