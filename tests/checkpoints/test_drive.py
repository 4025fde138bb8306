"""The real download code against a server on this computer: resumed, checked, put in place in one step."""

import http.server
import threading

import pytest
import torch

from poster_ada.checkpoints.drive import fetch_file, fetch_published
from poster_ada.checkpoints.names import DRIVE_FOLDERS
from poster_ada.errors import InputError

pytest.importorskip("gdown")


@pytest.fixture
def server(tmp_path):
    """Serves `content`, honouring Range; breaks the connection after `limit` bytes when that is set."""

    class Handler(http.server.BaseHTTPRequestHandler):
        content, limit, asked = b"", None, []

        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
            Handler.asked.append(start)
            body = Handler.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(Handler.content) - 1}/{len(Handler.content)}")
            self.end_headers()
            self.wfile.write(body[: Handler.limit])

        def log_message(self, *args):
            pass

    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        Handler.url = f"http://127.0.0.1:{running.server_port}/weights.pth"
        yield Handler
        running.shutdown()


def test_an_interrupted_download_resumes_and_arrives_whole(server, tmp_path):
    torch.save({"w": torch.arange(1_000_000.0)}, tmp_path / "source.pth")
    server.content = (tmp_path / "source.pth").read_bytes()
    server.limit = 2_000_000
    destination = tmp_path / "there" / "weights.pth"
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch_file(destination, url=server.url)
    assert not destination.exists()
    server.limit = None
    assert fetch_file(destination, url=server.url) == destination
    assert destination.read_bytes() == server.content
    assert max(server.asked) > 0, "the second try started from the beginning"
    assert list(destination.parent.iterdir()) == [destination]


def test_a_web_page_instead_of_weights_is_refused_and_removed(server, tmp_path):
    server.content = b"<!DOCTYPE html><html>quota exceeded</html>"
    with pytest.raises(InputError, match="not a checkpoint"):
        fetch_file(tmp_path / "weights.pth", url=server.url)
    assert not list(tmp_path.glob("*weights*"))


def test_no_network_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"check the network, or fetch it with a browser from http://127\.0\.0\.1:9/"):
        fetch_file(tmp_path / "weights.pth", url="http://127.0.0.1:9/weights.pth")


def test_files_already_there_are_not_fetched_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, directory, names = DRIVE_FOLDERS["pretrained"]
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).touch()
    assert fetch_published("pretrained") == [directory / name for name in names]
    assert capsys.readouterr().out.count("already there") == 2
