"""Every notebook from top to bottom at its smallest size, the paper from what they leave, and what a failure says."""

import json
import os
import re
import sys
from contextlib import chdir
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from photographs import SHEET, detector_file
from PIL import Image

from poster_ada.data.datasets import open_dataset
from poster_ada.expressions import RAFDB_CLASSES
from poster_ada.paper import notebooks
from poster_ada.paper.ablation import SEEDS
from poster_ada.paper.figures import NOTEBOOKS, SOLUTIONS
from poster_ada.paper.trainings import trainings_of
from poster_ada.paper.typesetting import typeset
from poster_ada.training.side_by_side import train_all

PER_CLASS = {"train": 10, "test": 4}


def write_faces(root: Path) -> None:
    """A set in RAF-DB's layout with side tables: random pictures of 40 x 40, brighter in later classes."""
    rng = np.random.default_rng(1)
    (root / "EmoLabel").mkdir(parents=True)
    (root / "Image" / "aligned").mkdir(parents=True)
    labels, quality, identity = [], ["file,quality"], ["file,identity"]
    landmarks = ["file," + ",".join(f"{axis}{point}" for point in range(68) for axis in "xy")]
    for split, count in PER_CLASS.items():
        for number, label in enumerate(np.tile(range(1, 8), count), 1):
            file = f"{split}_{number:05d}.jpg"
            labels.append(f"{file} {label}")
            quality.append(f"{file},{rng.random():.3f}")
            identity.append(f"{file},{split}{number // 2}")
            landmarks.append(f"{file}," + ",".join(f"{value:.1f}" for value in rng.uniform(4, 36, 136)))
            picture = rng.normal(30 * label, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(root / "Image" / "aligned" / f"{Path(file).stem}_aligned.jpg")
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(labels) + "\n")
    for name, rows in (("quality", quality), ("identity", identity), ("landmarks", landmarks)):
        (root / f"{name}.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which all notebooks have run, after the trainings that the report does for them."""
    folder = tmp_path_factory.mktemp("workplace")
    write_faces(folder / "tiny")
    parameters = {"data": "tiny", "epochs": 1, "seeds": [1, 2], "device": "cpu", "fast": True}
    with chdir(folder):
        faces = open_dataset("tiny", check=False)
        configs = trainings_of(NOTEBOOKS, faces, "nano", epochs=1, seeds=[1, 2], fast=True)
        train_all(configs, faces, "cpu", workers=2, quiet=True)
        trained = sorted(path.name for path in Path("runs").iterdir())
    took = notebooks.run_notebooks(NOTEBOOKS, folder / "executed", parameters, folder, at_once=2)
    notebooks.write_times(folder / "times.csv", 1.5, took)
    (folder / "trained.json").write_text(json.dumps(trained))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_leaves_figures(workplace, name):
    executed = nbformat.read(workplace / "executed" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not list((workplace / "executed").glob("*.failed.ipynb"))
    entries = [entry for entry in json.loads((workplace / "figures" / "manifest.json").read_text())
               if entry["notebook"] == name]
    kinds = {Path(entry["file"]).suffix for entry in entries}
    assert kinds >= {".pdf", ".png", ".csv", ".tex"}
    for entry in entries:
        assert entry["file"].startswith(name) and entry["drawn_by_commit"] and entry["data"]
        left = workplace / "figures" / entry["file"]
        assert json.loads(left.read_text()) if left.suffix == ".json" else left.stat().st_size > 50
    drawn = [entry for entry in entries if entry["file"].endswith(".pdf")]
    assert all((workplace / "figures" / entry["file"]).with_suffix(".png").is_file() for entry in drawn)


@pytest.mark.slow
def test_notebooks_share_their_runs(workplace):
    # One MLP and one AdaFace run serve notebooks 2, 4 and 6; the ablation's fast rows are two heads with two seeds.
    # All of them were there before the first notebook ran: none asks for a training that the report did not do.
    runs = sorted(path.name for path in (workplace / "runs").iterdir())
    assert len(runs) == 2 + 4 and runs == json.loads((workplace / "trained.json").read_text())


@pytest.mark.slow
def test_where_the_time_went(workplace):
    times = pd.read_csv(workplace / "times.csv")
    whole = times[times["cell"].isna()].set_index("part")
    assert set(whole.index) == {"trainings", *NOTEBOOKS} and whole.loc["trainings", "seconds"] == 1.5
    assert whole["began"].idxmax().startswith(notebooks.ALONE)  # it measures speed, after all others
    others = whole.drop(index=[name for name in whole.index if name.startswith(notebooks.ALONE)])
    assert whole["began"].max() >= (others["began"] + others["seconds"]).max() - 0.2
    for name in NOTEBOOKS:
        cells = times[(times["part"] == name) & times["cell"].notna()]["seconds"]
        assert len(cells) > 3 and 0 < cells.sum() < whole.loc[name, "seconds"] + 0.1 * len(cells)


def parameters_cell(notebook):
    return next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_parameters_default_to_what_the_report_trains(name):
    notebook = nbformat.read(notebooks.CHECKOUT / "notebooks" / f"{name}.ipynb", as_version=4)
    given: dict = {}
    exec(parameters_cell(notebook).source, given)
    assert given.get("seeds", list(SEEDS)) == list(SEEDS) and given.get("epochs") is None


@pytest.mark.slow
def test_executed_notebooks_carry_no_machine_paths(workplace):
    for path in (workplace / "executed").glob("*.ipynb"):
        assert str(workplace) not in path.read_text() and str(notebooks.CHECKOUT) not in path.read_text()


@pytest.mark.slow
def test_paper_is_typeset_from_the_results(workplace):
    paper = typeset(workplace / "figures")
    assert paper.read_bytes().startswith(b"%PDF") and paper.stat().st_size > 100_000


def test_every_exercise_has_a_solution_that_ran():
    folder = notebooks.CHECKOUT / "notebooks"
    solved = nbformat.read(folder / f"{SOLUTIONS}.ipynb", as_version=4)
    assert all(cell.execution_count and not any(output.output_type == "error" for output in cell.outputs)
               for cell in solved.cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in solved.cells if cell.cell_type == "markdown")
    sections = dict(re.findall(r"^## Notebook (\d\d)$(.*?)(?=^## Notebook|\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == [name[:2] for name in NOTEBOOKS]
    for name in NOTEBOOKS:
        asked = "\n".join(cell.source for cell in nbformat.read(folder / f"{name}.ipynb", as_version=4).cells
                          if cell.cell_type == "markdown").partition("## Exercises")[2]
        numbers = re.findall(r"^(\d)\. ", asked, re.MULTILINE)
        assert numbers == ["1", "2", "3"] == re.findall(r"^### (\d)\. ", sections[name[:2]], re.MULTILINE), name


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook(name):
    """Executed in order, without an error, machine paths or progress bars; short cells; the agreed first cells."""
    path = notebooks.CHECKOUT / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith(f"# {int(name[:2])}. ")
    assert parameters_cell(notebook) in notebook.cells[1:3]  # after what says that the package is missing
    for cell in notebook.cells:
        assert len(cell.source.splitlines()) <= 45, cell.source[:60]
        # an Output widget can hang a run without a front end for good (nbclient issue 312)
        assert not re.search(r"ipywidgets\.(interact|Output\b)", cell.source), "draw into an ipywidgets.Image instead"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run `make report` and commit"
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            text = output.get("text", "") + "".join(str(value) for kind, value in output.get("data", {}).items()
                                                    if kind.startswith("text/"))
            assert not re.search(r"(?<![\w.~])/(?:home|root|tmp|usr|work|Users)/", text), text[:200]
            assert "\r" not in text


def test_failing_notebook_names_cell_and_error(tmp_path):
    cells = [nbformat.v4.new_code_cell("data = 'x'", metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell("print(data)"), nbformat.v4.new_code_cell("{}['absent']")]
    source = tmp_path / "07_broken.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), source)
    with pytest.raises(notebooks.NotebookFailed, match=r"07_broken.ipynb stopped in cell \d with KeyError: 'absent'"):
        notebooks.run_notebook(source, tmp_path / "out" / "07_broken.ipynb", {"data": "faces", "unknown": 1}, tmp_path)
    kept = nbformat.read(tmp_path / "out" / "07_broken.failed.ipynb", as_version=4)
    assert any(output.get("text") == "faces\n" for cell in kept.cells if cell.cell_type == "code"
               for output in cell.outputs)


def test_notebooks_run_in_this_interpreter_whatever_python3_is(tmp_path, monkeypatch):
    elsewhere = tmp_path / "jupyter" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    (elsewhere / "kernel.json").write_text(json.dumps({"argv": ["/nowhere/python"], "display_name": "other",
                                                       "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    cells = [nbformat.v4.new_code_cell("data = 'x'", metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell("import sys; print(sys.executable)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "which.ipynb")
    notebooks.run_notebook(tmp_path / "which.ipynb", tmp_path / "out.ipynb", {}, tmp_path)
    printed = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text
    assert printed.strip() == notebooks.without_paths(sys.executable, tmp_path)
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "jupyter")


def test_cleaning_removes_paths_bars_and_live_output(tmp_path):
    def stream(text, name="stdout"):
        return nbformat.v4.new_output("stream", name=name, text=text)

    cells = [nbformat.v4.new_code_cell("1", outputs=[stream(f"saved {tmp_path}/runs/x\n"), stream("\r 50%", "stderr")]),
             nbformat.v4.new_code_cell("2", outputs=[stream("epoch 1  900 faces/s\n")], metadata={"tags": ["live"]}),
             nbformat.v4.new_code_cell("3", outputs=[nbformat.v4.new_output(
                 "display_data", {notebooks.WIDGET: {"model_id": "1f"}, "text/plain": "FileUpload()"})])]
    cleaned = notebooks.clean(nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert [output.text for output in cleaned.cells[0].outputs] == ["saved ./runs/x\n"]
    assert cleaned.cells[1].outputs == cleaned.cells[2].outputs == []


def test_cleaning_leaves_nothing_that_every_run_has_anew(tmp_path):
    styled = pd.DataFrame({"a": [1, 2]}).style
    cells = [nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("execute_result", {
        "text/plain": repr(table), "text/html": table.to_html()}) for table in (styled, styled)]) for _ in range(2)]
    other = pd.DataFrame({"a": [1, 2]}).style
    again = [nbformat.v4.new_code_cell("", id=cell.id, outputs=[nbformat.v4.new_output("execute_result", {
        "text/plain": repr(other), "text/html": other.to_html()}) for _ in range(2)]) for cell in cells]
    first, second = (notebooks.clean(nbformat.v4.new_notebook(cells=each), tmp_path) for each in (cells, again))
    assert first == second
    names = [set(re.findall(r'id="(T_\d+_\d+)_row0', output.data["text/html"]))
             for cell in first.cells for output in cell.outputs]
    assert len(set.union(*names)) == len(names)  # each table keeps a name of its own


@pytest.mark.slow
def test_class_names_of_the_test_set_are_rafdbs(workplace):
    table = (workplace / "figures" / "01_data_exploration_classes.csv").read_text()
    assert all(f"\n{name},{PER_CLASS['train']}" in table for name in RAFDB_CLASSES)


@pytest.mark.slow
def test_own_pictures_are_shown_without_a_detector(tmp_path, monkeypatch):
    """No kept file and no network: faces are taken whole, and one sentence says so."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    source = notebooks.CHECKOUT / "notebooks" / "07_your_own_pictures.ipynb"
    parameters = {"data": str(notebooks.CHECKOUT / "data" / "demo"), "device": "cpu", "fast": True}
    notebooks.run_notebook(source, tmp_path / "07.ipynb", parameters, tmp_path)
    text = (tmp_path / "07.ipynb").read_text()
    assert "There is no face detector here, so every picture is taken whole" in text
    faces = (tmp_path / "figures" / "07_your_own_pictures_faces.csv").read_text().splitlines()
    assert len(faces) == 5 and all(line.startswith('"demo face, ') for line in faces[1:])


@pytest.mark.slow
def test_own_pictures_with_the_detector_are_found(tmp_path):
    if (detector := detector_file()) is None:
        pytest.skip("the face detector is not here: python -m poster_ada.download detector")
    Image.open(SHEET).convert("RGB").crop((150, 0, 450, 300)).save(tmp_path / "photo.png")
    source = notebooks.CHECKOUT / "notebooks" / "07_your_own_pictures.ipynb"
    parameters = {"data": str(notebooks.CHECKOUT / "data" / "demo"), "device": "cpu", "detector": str(detector),
                  "pictures": [str(tmp_path / "photo.png")]}
    notebooks.run_notebook(source, tmp_path / "07.ipynb", parameters, tmp_path)
    faces = (tmp_path / "figures" / "07_your_own_pictures_faces.csv").read_text().splitlines()
    assert len(faces) >= 3 and "Faces are found and aligned." in (tmp_path / "07.ipynb").read_text()


def test_of_notebooks_side_by_side_the_first_that_stops_is_named(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for name, code in (("07_a", "1"), ("08_b", "{}['absent']")):
        cells = [nbformat.v4.new_code_cell("data = 'x'", metadata={"tags": ["parameters"]}),
                 nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr(notebooks, "CHECKOUT", tmp_path)
    with pytest.raises(notebooks.NotebookFailed, match="08_b.ipynb stopped in cell 2 with KeyError"):
        notebooks.run_notebooks(["08_b", "07_a"], tmp_path / "out", {}, tmp_path, at_once=2)
    assert (tmp_path / "out" / "08_b.failed.ipynb").is_file()
