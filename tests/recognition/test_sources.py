"""What a command line names becomes files: folders to any depth, patterns, each once, and no other file."""

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
    with pytest.raises(InputError, match="there is no picture, folder or video .*gone"):
        found("gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no picture and no video"):
        found("empty")
