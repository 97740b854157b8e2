"""On line, against a server of our own on this machine that speaks the client's protocol."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.store.crds_client import CrdsSettings
from upramp.store.references import open_crds

DARK = "jwst_nircam_dark_0001.fits"
RULES = {"dark": (("META.INSTRUMENT.DETECTOR",), {("NRCALONG",): DARK})}
HEADER = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCALONG",
    "DATE-OBS": "2023-05-06",
    "TIME-OBS": "01:02:03.4",
}


class Server(ThreadingHTTPServer):
    """Serves a cache folder; ``calls`` lists what was asked."""

    def __init__(self, cache) -> None:
        super().__init__(("localhost", 0), Handler)
        self.cache, self.calls = cache, []
        self.url = f"http://localhost:{self.server_address[1]}"
        self.metadata = cache.metadata()

    def answer(self, method: str) -> object:
        if method == "get_server_info":
            return {
                "observatory": "jwst",
                "operational_context": "jwst_0001.pmap",
                "bad_files_list": [],
                "force_remote_mode": False,
                "crds_version": {"str": "14.0.0"},
                "last_synced": "now",
                "mapping_url": {"jwst": self.url + "/get"},
                "reference_url": {"jwst": self.url + "/get"},
                "download_metadata": self.metadata,
            }
        if method == "get_mapping_names":
            return [name for name in self.metadata if name.endswith("map")]
        if method == "get_context_by_date":
            return "jwst_0001.pmap"
        raise KeyError(method)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append(asked["method"])
        result = self.server.answer(asked["method"])
        self._send(json.dumps({"error": None, "result": result}).encode())

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.calls.append(name)
        found = [path for path in self.server.cache.root.rglob(name) if path.is_file()]
        self._send(found[0].read_bytes() if found else b"", 200 if found else 404)

    def _send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(make_cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost")
    cache = make_cache(RULES, "remote")
    cache.image(DARK)
    with Server(cache) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_everything_comes_from_the_server(server, tmp_path, capsys):
    settings = CrdsSettings(server_url=server.url, path=str(tmp_path / "local"))
    crds = open_crds(settings)
    best = crds.best(HEADER, ["dark"])["dark"]
    assert crds.context == "jwst_0001.pmap" and best.name == DARK and not best.path.exists()
    path = crds.fetch(best)
    assert path == best.path == tmp_path / "local" / "references" / "jwst" / "nircam" / DARK
    assert path.read_bytes() == next(server.cache.root.rglob(DARK)).read_bytes()
    assert crds.checksum(best) == "sha1:" + server.metadata[DARK]["sha1sum"]
    assert server.calls.count("get_server_info") == 1 and server.calls.count(DARK) == 1
    assert capsys.readouterr() == ("", "")

    offline = open_crds(CrdsSettings(path=str(tmp_path / "local"), offline=True))
    calls = list(server.calls)
    assert offline.fetch(offline.best(HEADER, ["dark"])["dark"]) == path
    assert offline.checksum(best) == crds.checksum(best)
    assert server.calls == calls


def test_context_by_date(server, tmp_path):
    date = "jwst-2023-01-01T00:00:00"
    settings = CrdsSettings(server_url=server.url, path=str(tmp_path / "local"), context=date)
    assert open_crds(settings).context == "jwst_0001.pmap"


def test_transfer_is_verified(server, tmp_path):
    server.metadata[DARK]["sha1sum"] = "0" * 40
    crds = open_crds(CrdsSettings(server_url=server.url, path=str(tmp_path / "local")))
    with pytest.raises(Retryable, match="sha1sum"):
        crds.fetch(crds.best(HEADER, ["dark"])["dark"])


def test_unknown_to_the_server(server, tmp_path):
    del server.metadata[DARK]
    crds = open_crds(CrdsSettings(server_url=server.url, path=str(tmp_path / "local")))
    with pytest.raises(Misconfigured, match=f"{DARK}.*does not know it"):
        crds.fetch(crds.best(HEADER, ["dark"])["dark"])


def test_server_out_of_reach(make_cache, monkeypatch, tmp_path):
    """A cache that remembers goes on; an empty one asks to try later."""
    monkeypatch.setenv("no_proxy", "localhost")
    nobody = "http://localhost:9"
    cache = make_cache(RULES)
    cache.image(DARK)
    crds = open_crds(CrdsSettings(server_url=nobody, path=str(cache.root)))
    assert crds.fetch(crds.best(HEADER, ["dark"])["dark"]).is_file()
    with pytest.raises(Retryable, match="localhost:9"):
        assert open_crds(CrdsSettings(server_url=nobody, path=str(tmp_path / "empty"))).context
