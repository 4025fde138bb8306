"""Face sets that the tests of training share; no test writes into them."""

import pytest
from face_sets import rafdb


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """RAF-DB's layout: 56 training and 21 test faces, eight and three of every class."""
    return rafdb(tmp_path_factory.mktemp("faces"), train=56, test=21)


@pytest.fixture(scope="session")
def uneven_faces(tmp_path_factory):
    """48 training faces of which 30 are of the first class, and 7 test faces."""
    root = rafdb(tmp_path_factory.mktemp("uneven"), train=48, test=7)
    labels = root / "EmoLabel" / "list_patition_label.txt"
    lines = labels.read_text(encoding="utf-8").splitlines()
    lines[:27] = [line.split()[0] + " 1" for line in lines[:27]]
    labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def without_folder_of_runs(tmp_path, monkeypatch):
    """Runs without a folder of their own go to `runs/` of the test's folder."""
    monkeypatch.chdir(tmp_path)
