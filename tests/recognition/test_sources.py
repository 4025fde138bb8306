"""What a command line names becomes files: folders to any depth, patterns, each once, and no other file."""

import os

import pytest

from poster_ada.errors import InputError
from poster_ada.recognition.sources import files_of


def test_pictures_folders_patterns_and_videos(tmp_path):
    for name in ("b.jpg", "a.PNG", "deep/er/c.webp", "clip.mp4", "notes.txt", ".hidden.jpg", "사진 하나.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*sources):
        return [str(path.relative_to(tmp_path)) for path in files_of([str(tmp_path / source) for source in sources])]

    assert found(".") == ["a.PNG", "b.jpg", "clip.mp4", "deep/er/c.webp", "사진 하나.jpg"]
    assert found("*.jpg") == ["b.jpg", "사진 하나.jpg"] and found("**/*.webp") == ["deep/er/c.webp"]
    assert found("b.jpg", "deep", "*.jpg") == ["b.jpg", "deep/er/c.webp", "사진 하나.jpg"]
    assert found("notes.txt") == ["notes.txt"]  # named itself; reading it says what is wrong
    assert found("dee*", "./b.jpg", "deep/../b.jpg") == ["deep/er/c.webp", "b.jpg"]
    with pytest.raises(InputError, match="there is no picture, folder or video .*gone"):
        found("gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no picture and no video"):
        found("empty")


def test_pictures_that_are_not_read_are_found_so_that_they_are_named(tmp_path):
    (tmp_path / "IMG_1.HEIC").touch()
    assert files_of([str(tmp_path)]) == [tmp_path / "IMG_1.HEIC"]


@pytest.mark.parametrize("source, sentence", [
    ("", "a SOURCE is empty"), ("https://example.com/photo.jpg", "is an address, and nothing is fetched"),
    ("~nobody-of-this-name.jpg", "there is no picture"), ("a" * 300, "there is no picture"),
    ("link.jpg", "link.jpg is a link that leads nowhere"), ("loop.jpg", "loop.jpg is a link that leads nowhere"),
    ("pipe.jpg", "pipe.jpg is neither a file nor a folder"),
])
def test_what_is_no_file_is_told_as_what_it_is(tmp_path, monkeypatch, source, sentence):
    monkeypatch.chdir(tmp_path)
    try:
        if source == "pipe.jpg":
            os.mkfifo(source)
        elif source in ("link.jpg", "loop.jpg"):
            os.symlink(source if source == "loop.jpg" else "gone", source)
    except (AttributeError, OSError):
        pytest.skip("this system has no such thing")
    with pytest.raises(InputError, match=sentence):
        files_of([source])
