"""config.toml, step parameters, and what is told about mistakes in them."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.daemon import config as cfg
from upramp.daemon.config import Config, find, load, parse
from upramp.daemon.parameters import convert, effective_parameters, parse_assignments
from upramp.stages.core.errors import Misconfigured

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class JumpParams:
    skip: bool = False
    rejection_threshold: float = 4.0
    sat_expand: int = 2
    algorithm: Literal["OLS_C", "LIKELY"] = "OLS_C"
    firstgroup: int | None = None
    opt_name: str = ""
    box: tuple[int, int] = (3, 3)

    def __post_init__(self) -> None:
        if self.rejection_threshold <= 0:
            raise ValueError(f"rejection_threshold must be above 0, got {self.rejection_threshold}")


REGISTRY = {"jump": JumpParams, "ramp_fit": JumpParams}


def errors_of(text: str, **more) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        parse(tomllib.loads(text), base=Path("/b"), source=Path("/b/c.toml"), **more)
    first, *rest = str(caught.value).split("\n  ")
    assert first.startswith("/b/c.toml has ")
    return rest


@pytest.fixture
def no_files(monkeypatch, tmp_path):
    monkeypatch.delenv("UPRAMP_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestDefaults:
    def test_the_commented_file_holds_exactly_the_defaults(self):
        document = tomllib.loads((ROOT / "config.toml").read_text())
        assert parse(document, base=Path("/b")) == parse({}, base=Path("/b"))

    def test_the_commented_file_holds_every_key(self):
        document = tomllib.loads((ROOT / "config.toml").read_text())
        for name, section in cfg.SECTIONS.items():
            assert list(document[name]) == [f.name for f in dataclasses.fields(section)]
        assert document["steps"] == {} and document["references"] == {}

    def test_the_page_tells_every_key(self):
        page = (ROOT / "docs" / "configuration.md").read_text()
        for name, section in cfg.SECTIONS.items():
            part = page.split(f"## [{name}]")[1].split("\n## ")[0]
            told = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", part, re.M)
            document = tomllib.loads("\n".join(f"{k} = {v}" for k, v in told))
            assert list(document) == [f.name for f in dataclasses.fields(section)]
            assert parse({name: document}, base=Path("/b")) == parse({}, base=Path("/b"))

    def test_every_comment_is_a_valid_setting(self):
        text = (ROOT / "config.toml").read_text().split("[steps]")[1]
        lines = [line[2:] for line in text.splitlines() if re.match(r"# (\[|\w+ = )", line)]
        document = tomllib.loads("[references]\n" + lines.pop() + "\n" + "\n".join(lines))
        assert parse(document, base=Path("/b")).steps["charge_migration"] == {"skip": True}

    def test_ledger_moves_with_the_output(self):
        config = parse({}, base=Path("/b"))
        assert config.store_folder == Path("/b/products/ledger")
        assert config.override(output_folder="/x").store_folder == Path("/x/ledger")
        assert parse({"store": {"folder": "l"}}, base=Path("/b")).store_folder == Path("/b/l")

    def test_cache_folder(self, monkeypatch):
        monkeypatch.setenv("UPRAMP_CACHE", "/c")
        assert parse({}, base=Path("/b")).cache_folder == Path("/c")
        monkeypatch.delenv("UPRAMP_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        assert parse({}, base=Path("/b")).cache_folder == Path("/x/upramp")
        assert parse({"store": {"cache": "k"}}, base=Path("/b")).cache_folder == Path("/b/k")


class TestMistakes:
    def test_unknown_names_are_refused_with_the_nearest(self):
        assert errors_of(
            "[wach]\n[watch]\nsetle_s = 1\n[run]\nWorkers = 1\n[steps.jmup]\n", registry=REGISTRY
        ) == [
            "[wach]: unknown section; did you mean 'watch'?",
            "[watch] setle_s: unknown key; did you mean 'settle_s'?",
            "[run] Workers: unknown key; did you mean 'workers'?",
            "[steps.jmup] no step of this name; did you mean 'jump'?",
        ]

    def test_unknown_parameter_and_reference(self):
        text = "[steps.jump]\nrejection_treshold = 5\n[references]\ndrak = 'x'"
        assert errors_of(text, registry=REGISTRY, reference_types=["dark", "gain"]) == [
            "[steps.jump] rejection_treshold: unknown parameter; did you mean 'rejection_threshold'?",
            "[references] drak: unknown reference type; did you mean 'dark'?",
        ]

    def test_nothing_near_lists_all(self):
        assert errors_of("[output]\nzzz = 1") == ["[output] zzz: unknown key; known: folder"]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[run]\nworkers = 'two'", "[run] workers: expected a whole number, got 'two'"),
            ("[run]\nworkers = 1.0", "[run] workers: expected a whole number, got 1.0"),
            ("[run]\nworkers = true", "[run] workers: expected a whole number, got True"),
            ("[run]\nworkers = -1", "[run] workers: expected at least 0, got -1"),
            (
                "[run]\nuntil = 'stage9'",
                "[run] until: expected one of 'stage1', 'stage2', 'stage3', got 'stage9'",
            ),
            ("[watch]\nsettle_s = nan", "[watch] settle_s: expected a number, got nan"),
            ("[watch]\nfolders = 'in'", "[watch] folders: expected a list, got 'in'"),
            ("[watch]\nfolders = []", "[watch] folders: expected at least one folder"),
            ("[watch]\nrecursive = 1", "[watch] recursive: expected true or false, got 1"),
            ("[watch]\npattern = 1", "[watch] pattern: expected text, got 1"),
            (
                "[watch]\nobserver = 'x'",
                "[watch] observer: expected one of 'auto', 'inotify', 'polling', got 'x'",
            ),
            ("[output]\nfolder = '$NO_SUCH/x'", "[output] folder: environment variable $NO_SUCH is not set"),
            ("[output]\nfolder = 1", "[output] folder: expected a path, got 1"),
            ("watch = 1", "watch: expected a section [watch], got 1"),
            ("[steps]\njump = 1", "[steps] jump: expected a section [steps.jump], got 1"),
            ("[steps.jump]\nskip = 'yes'", "[steps.jump] skip: expected true or false, got 'yes'"),
            (
                "[steps.jump]\nrejection_threshold = -1",
                "[steps.jump] rejection_threshold must be above 0, got -1.0",
            ),
        ],
    )
    def test_wrong_values(self, text, problem):
        assert errors_of(text, registry=REGISTRY) == [problem]

    def test_not_toml_and_not_there(self, no_files):
        bad = no_files / "c.toml"
        bad.write_text("[watch\n")
        with pytest.raises(Misconfigured, match=r"c\.toml is not valid TOML: .*line 1"):
            load(bad)
        bad.write_bytes(b"\xff")
        with pytest.raises(Misconfigured, match="cannot be read"):
            load(bad)
        with pytest.raises(Misconfigured, match="given by --config, is not a file"):
            load(no_files / "none.toml")

    def test_override_refuses(self):
        with pytest.raises(Misconfigured, match="--workers: expected at least 0"):
            Config().override(run_workers=-2)


class TestFiles:
    def test_order_of_search(self, no_files, monkeypatch):
        (no_files / "config.toml").write_text("")
        (no_files / "xdg/upramp").mkdir(parents=True)
        assert find() != no_files / "config.toml"  # what lies about is not read
        own, env, given = (no_files / n for n in ("xdg/upramp/config.toml", "env.toml", "given.toml"))
        for path in (own, env, given):
            path.write_text("")
        assert find() == own
        monkeypatch.setenv("UPRAMP_CONFIG", str(env))
        assert find() == env
        assert find(given) == given

    def test_paths(self, no_files, monkeypatch):
        monkeypatch.setenv("DATA", "/data")
        monkeypatch.setenv("HOME", "/home/me")
        file = no_files / "c.toml"
        file.write_text(
            '[watch]\nfolders = ["$DATA/in", "~/in", "in", "../in"]\n[references]\ndark = "${DATA}/d.fits"\n'
        )
        config = load("c.toml")
        assert config.watch.folders == (
            Path("/data/in"),
            Path("/home/me/in"),
            no_files / "in",
            no_files.parent / "in",
        )
        assert config.references == {"dark": Path("/data/d.fits")}
        assert config.source == file

    def test_override_keeps_the_rest(self):
        config = Config().override(output_folder="out", run_workers=2, run_until=None, log_level="debug")
        assert config.output.folder == Path.cwd() / "out"
        assert (config.run.workers, config.run.until, config.log.level) == (2, "stage3", "debug")


class TestParameters:
    def test_the_later_wins_and_sources_are_kept(self):
        params, sources = effective_parameters(
            "jump",
            JumpParams,
            crds={"rejection_threshold": 5, "sat_expand": 3.0, "firstgroup": "None", "output_dir": "/x"},
            crds_name="jwst_jump_pars_1.asdf",
            config={"sat_expand": 4, "algorithm": "LIKELY"},
            command_line={"algorithm": "ols_c", "box": "1,2", "skip": "true"},
        )
        assert params == JumpParams(True, 5.0, 4, "OLS_C", None, "", (1, 2))
        assert sources == {
            "skip": "command line",
            "rejection_threshold": "crds: jwst_jump_pars_1.asdf",
            "sat_expand": "config.toml",
            "algorithm": "command line",
            "firstgroup": "crds: jwst_jump_pars_1.asdf",
            "opt_name": "default",
            "box": "command line",
        }

    def test_what_the_step_does_not_have(self):
        _, sources = effective_parameters("jump", JumpParams, crds={"skip": True, "pre_hooks": []})
        assert "pre_hooks" not in sources
        with pytest.raises(
            Misconfigured, match=r"skp \(config.toml\): unknown parameter; did you mean 'skip'"
        ):
            effective_parameters("jump", JumpParams, config={"skp": True})

    def test_refusals_say_which_and_whence(self):
        with pytest.raises(
            Misconfigured, match=r"step jump .*\n  sat_expand \(command line\): expected a whole"
        ):
            effective_parameters("jump", JumpParams, command_line={"sat_expand": "2.5"})
        with pytest.raises(Misconfigured, match=r"above 0, got -1\.0 \(given: .* -1\.0 from crds: p\.asdf\)"):
            effective_parameters("jump", JumpParams, crds={"rejection_threshold": -1}, crds_name="p.asdf")

    def test_through_the_config(self, no_files):
        (no_files / "my.toml").write_text("[steps.jump]\nsat_expand = 7\n")
        config = load("my.toml", assignments=["jump.skip=yes"], registry=REGISTRY)
        params, sources = config.parameters("jump", JumpParams)
        assert params == JumpParams(skip=True, sat_expand=7)
        assert (sources["sat_expand"], sources["skip"]) == ("my.toml", "command line")

    def test_words_of_the_command_line(self):
        words = ["jump.opt_name=a=b.c", "jump.skip = true"]
        assert parse_assignments(words) == {"jump": {"opt_name": "a=b.c", "skip": "true"}}
        with pytest.raises(Misconfigured) as caught:
            parse_assignments(["jump", "jump.x=1", "jmup.skip=1", "jump.skip=maybe", ".a=1"], REGISTRY)
        assert str(caught.value).splitlines()[1:] == [
            "  --set jump: expected step.parameter=value, such as jump.rejection_threshold=5",
            "  --set .a=1: expected step.parameter=value, such as jump.rejection_threshold=5",
            "  --set jump: x: unknown parameter; did you mean 'box'?",
            "  --set jump: skip: expected true or false, got 'maybe'",
            "  --set jmup: no step of this name; did you mean 'jump'?",
        ]

    def test_numbers_beyond_all_bounds(self):
        for lenient in (False, True):
            with pytest.raises(ValueError, match="expected a number of ordinary size"):
                convert(10**400, float, lenient=lenient)

    @given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()))
    def test_text_reads_back(self, value):
        hint = type(value) if value is not None else int | None
        assert convert(str(value), hint, lenient=True) == value

    @given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists), st.booleans())
    def test_anything_is_converted_or_refused(self, value, lenient):
        for hint, kind in ((bool, bool), (int, int), (float, float), (str, str), (list[int], list)):
            try:
                assert type(convert(value, hint, lenient=lenient)) is kind
            except ValueError as e:
                assert str(e).startswith("expected ")
