"""The real download code against a server on this computer: resumed, checked, put in place in one step."""

import http.server
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from golden_recipe import recipe_state_dict

from poster_ada.checkpoints.drive import README_SECTION, check_published, fetch_file, fetch_published
from poster_ada.checkpoints.names import DRIVE_FOLDERS
from poster_ada.errors import InputError

gdown = pytest.importorskip("gdown")


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


def parts_of(state, prefix):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def test_only_the_published_tensors_are_accepted(tmp_path):
    state = recipe_state_dict("rafdb_large_mlp")
    for name, content in (
        ("ir50.pth", parts_of(state, "ir_back.")),
        ("mobilefacenet_model_best.pth.tar", {"state_dict": parts_of(state, "face_landback.")}),
        ("rafdb_best.pth", {"model_state_dict": state}),
    ):
        torch.save(content, tmp_path / name)
        check_published(name, tmp_path / name)
    for name, wrong, sentence in (
        ("ir50.pth", "rafdb_best.pth", "lacks input_layer"),
        ("mobilefacenet_model_best.pth.tar", "ir50.pth", "lacks conv1"),
        ("rafdb_best.pth", "ir50.pth", "not a POSTER checkpoint"),
    ):
        with pytest.raises(InputError, match=sentence):
            check_published(name, tmp_path / wrong)
    torch.save(recipe_state_dict("rafdb_small_mlp"), tmp_path / "small.pth")
    with pytest.raises(InputError, match="another POSTER .small, mlp head, 7 classes, BGR., not POSTER-l"):
        check_published("rafdb_best.pth", tmp_path / "small.pth")


def test_another_checkpoint_is_refused_and_removed(server, tmp_path, monkeypatch):
    torch.save({"w": torch.zeros(3)}, tmp_path / "source.pth")
    server.content = (tmp_path / "source.pth").read_bytes()
    with pytest.raises(InputError, match=r"sent for ir50\.pth is not a checkpoint that fits \(it lacks input_layer"):
        fetch_file(tmp_path / "ir50.pth", lambda path: check_published("ir50.pth", path), url=server.url)
    assert not list(tmp_path.glob("*ir50*"))


@pytest.mark.parametrize("refusal", ["listing", "file"])
def test_where_google_refuses_the_authors_page_and_the_files_are_named(tmp_path, monkeypatch, refusal):
    def refuse(*args, **kwargs):
        raise gdown.exceptions.FileURLRetrievalError("quota")

    monkeypatch.chdir(tmp_path)
    listed = {"ir50.pth": "1", "mobilefacenet_model_best.pth.tar": "2"}
    monkeypatch.setattr(gdown, "download", refuse)
    monkeypatch.setattr(gdown, "download_folder", refuse if refusal == "listing" else lambda **_: [
        SimpleNamespace(path=name, id=id) for name, id in listed.items()])
    with pytest.raises(InputError) as error:
        fetch_published("pretrained")
    for word in ("github.com/zczcwh/POSTER", DRIVE_FOLDERS["pretrained"].id, *listed, str(Path("models/pretrain"))):
        assert word in str(error.value)


def test_the_readme_has_the_section_that_messages_name():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"\n## {README_SECTION}\n" in readme


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
