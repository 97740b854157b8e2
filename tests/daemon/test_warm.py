from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from upramp.daemon import kernel_cache, session
from upramp.daemon.config import Config, Run, Store
from upramp.stages.core.errors import Misconfigured

HERE = Path(__file__).parent


@pytest.mark.parametrize("script", ["run_modes.py", "run_visits.py"])
def test_exposures_of_every_mode_find_their_kernels_compiled(tmp_path, script):
    script = [sys.executable, str(HERE / script), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    late = json.loads(done.stdout.splitlines()[-1])
    assert late and not any(late.values()), late


@pytest.fixture
def beside(monkeypatch):
    """Says whether kernels can be kept beside the code."""
    monkeypatch.delenv(kernel_cache.VARIABLE, raising=False)

    def set_to(answer: bool) -> None:
        monkeypatch.setattr(kernel_cache, "beside_the_code", lambda: answer)

    yield set_to
    os.environ.pop(kernel_cache.VARIABLE, None)


def test_kernels_stay_beside_code_that_can_be_written(beside, tmp_path):
    beside(True)
    kernel_cache.place(tmp_path / "kernels")
    assert kernel_cache.VARIABLE not in os.environ
    assert not (tmp_path / "kernels").exists()


def test_kernels_of_a_read_only_installation_go_to_the_cache(beside, tmp_path):
    beside(False)
    kernel_cache.place(tmp_path / "kernels")
    assert os.environ[kernel_cache.VARIABLE] == str(tmp_path / "kernels")


def test_a_choice_by_the_environment_stays(beside, tmp_path, monkeypatch):
    beside(False)
    monkeypatch.setenv(kernel_cache.VARIABLE, "/elsewhere")
    kernel_cache.place(tmp_path)
    assert os.environ[kernel_cache.VARIABLE] == "/elsewhere"


def test_no_place_for_kernels_is_said_with_the_remedy(beside, tmp_path):
    beside(False)
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"neither beside the code nor in .*set NUMBA_CACHE_DIR"):
        kernel_cache.place(tmp_path / "file" / "kernels")


def test_the_place_is_known_before_numba_is_imported(tmp_path):
    """numba takes its folder from the environment once, when it is imported."""
    code = (
        "import sys\n"
        "from upramp.daemon import cli, kernel_cache\n"
        "def place(folder): print('numba' in sys.modules); sys.exit()\n"
        "kernel_cache.place = place\n"
        "cli.main({arguments})"
    )
    (tmp_path / "x_uncal.fits").touch()
    for arguments in (["run", "x_uncal.fits"], ["watch"], ["warm"], ["demo"]):
        run = [sys.executable, "-c", code.format(arguments=arguments)]
        done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.stdout == "False\n", (arguments, done.stderr)


def test_the_second_of_two_waits_and_finds_the_kernels(tmp_path, monkeypatch):
    """Two processes, here threads, that start at once on a fresh installation."""
    monkeypatch.setenv(kernel_cache.VARIABLE, str(tmp_path / "kernels"))
    compiling, go_on, calls = threading.Event(), threading.Event(), []

    def warm(stages: list[str]) -> float:
        calls.append(threading.current_thread().name)
        compiling.set()
        assert go_on.wait(10)
        return 1.0

    monkeypatch.setattr("upramp.daemon.warm.warm", warm)
    config, seconds = Config(store=Store(cache=tmp_path / "cache")), {}
    asked = threading.Event()

    def start(name: str) -> None:
        if name == "second":
            asked.set()
        seconds[name] = session.warm_up(config)

    threads = [threading.Thread(target=start, args=(name,), name=name) for name in ("first", "second")]
    threads[0].start()
    assert compiling.wait(10)
    threads[1].start()
    assert asked.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert calls == ["first"]
    assert seconds == {"first": 1.0, "second": 0.0}


UNCAL, RATE, ASN = (
    Path(f"jw01234001001_02101_00001_nrca1_{end}") for end in ("uncal.fits", "rate.fits", "asn.json")
)


@pytest.mark.parametrize(
    ("until", "inputs", "stages"),
    [
        ("stage3", None, "123"),
        ("stage1", None, "1"),
        ("stage1", [UNCAL], "1"),
        ("stage3", [UNCAL], "123"),
        ("stage2", [RATE], "2"),
        ("stage1", [RATE], "2"),
        ("stage3", [RATE], "23"),
        ("stage2", [ASN], "23"),
        ("stage1", [UNCAL, RATE], "12"),
    ],
)
def test_only_stages_that_will_be_done_are_compiled(until, inputs, stages):
    assert session.stages_of(Config(run=Run(until=until)), inputs) == [f"stage{n}" for n in stages]


def test_a_stage_that_comes_later_is_compiled_then(tmp_path, monkeypatch):
    monkeypatch.setenv(kernel_cache.VARIABLE, str(tmp_path / "kernels"))
    compiled, said = [], []
    monkeypatch.setattr("upramp.daemon.warm.warm", lambda stages: compiled.append(list(stages)) or 1.0)
    config = Config(store=Store(cache=tmp_path / "cache"))
    for inputs in ([RATE], [RATE], [UNCAL, RATE], [UNCAL]):
        session.warm_up(config, said.append, inputs=inputs)
    assert compiled == [["stage2", "stage3"], ["stage1"]]
    assert "the kernels of stage 2 and 3, once" in said[0]
    session.warm_up(config, always=True)
    assert compiled[-1] == ["stage1", "stage2", "stage3"]


def test_what_cannot_be_locked_is_said_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(kernel_cache.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(Misconfigured, match="set NUMBA_CACHE_DIR"), kernel_cache.alone():
        pass
