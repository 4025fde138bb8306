"""An exported file predicts what the model predicts, and refuses what it cannot do in one sentence."""

import json

import pytest
import torch
from face_sets import rafdb
from photographs import TEMPLATE

from poster_ada.checkpoints.create import create_model
from poster_ada.checkpoints.exported import Agreement, ExportedPoster, FromFaces, export
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.export import main
from poster_ada.model.poster import Poster

IMAGES = torch.randn(19, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def nano(**choices) -> Poster:
    torch.manual_seed(0)
    return create_model("nano", **choices).eval()


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "packages"), [
    (".onnx", ("onnx", "onnxscript", "onnxruntime")), (".xml", ("onnx", "onnxscript", "openvino")),
])
def test_the_file_predicts_what_the_model_predicts(suffix, packages, tmp_path):
    for package in packages:
        pytest.importorskip(package)
    model = nano(head="adaface", channel_order="RGB").train()
    model.face_template = TEMPLATE
    export(model, tmp_path / f"model{suffix}")
    assert model.training
    exported = ExportedPoster(tmp_path / f"model{suffix}")
    assert exported.config == model.config and exported.precision == "float32"
    assert exported.face_template == TEMPLATE
    model.eval()
    for images in (IMAGES, IMAGES[:1], IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3)):
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="48, 48"):
        exported(IMAGES[..., :40])


@pytest.mark.slow
@pytest.mark.parametrize(("order", "suffix"), [("BGR", ".onnx"), ("grey", ".xml")])
def test_a_raw_file_takes_pictures_of_any_size(order, suffix, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime" if suffix == ".onnx" else "openvino"):
        pytest.importorskip(package)
    model = nano(channel_order=order)
    export(model, tmp_path / f"raw{suffix}", raw=True)
    exported, transform = ExportedPoster(tmp_path / f"raw{suffix}"), EvaluationTransform(48, 48, order)
    random = torch.Generator().manual_seed(1)
    for shape in ((3, 48, 48), (1, 130, 90), (2, 30, 200)):
        coarse = torch.rand(shape[0], 3, 6, 6, generator=random)
        smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic")
        faces = (255 * smooth.clamp(0, 1)).to(torch.uint8)
        with torch.no_grad():
            expected = model(transform(faces))
        torch.testing.assert_close(exported(faces.permute(0, 2, 3, 1)), expected, atol=0.05, rtol=0)
    with pytest.raises(InputError, match="takes uint8"):
        exported(IMAGES)
    with pytest.raises(InputError, match="leave out --raw"):
        export(model, tmp_path / "raw.xml", "int8", calibration=object(), raw=True)


@pytest.mark.slow
def test_the_command_checks_the_file_on_faces(tmp_path, capsys):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    rafdb(tmp_path / "faces")
    save_checkpoint(nano(), tmp_path / "best.safetensors", {})
    with pytest.raises(SystemExit) as stopped:
        main(["-c", str(tmp_path / "best.safetensors"), "--calibrate", str(tmp_path / "faces")])
    assert not stopped.value.code
    assert "100.00% of 14 faces predicted alike" in capsys.readouterr().out
    assert (tmp_path / "best.xml").is_file() and (tmp_path / "best.bin").is_file()
    with pytest.raises(SystemExit) as stopped:
        main(["-c", str(tmp_path / "best.safetensors"), "--calibrate", str(tmp_path / "faces"), "--raw"])
    assert not stopped.value.code and "uint8 faces (B, H, W, 3)" in capsys.readouterr().out


@pytest.mark.parametrize(("precision", "native", "told"), [
    ("bfloat16", False, True), ("int8", False, True), ("bfloat16", True, False), ("float32", False, False)])
def test_what_this_machine_could_not_check_is_told(tmp_path, capsys, monkeypatch, precision, native, told):
    rafdb(tmp_path / "faces")
    save_checkpoint(nano(), tmp_path / "best.safetensors", {})
    monkeypatch.setattr("poster_ada.checkpoints.exported.export_checked", lambda *_: Agreement(14, 1.0, 0.0))
    monkeypatch.setattr("poster_ada.model.precision.multiplies_bfloat16", lambda _: native)
    with pytest.raises(SystemExit) as stopped:
        main(["-c", str(tmp_path / "best.safetensors"), "--precision", precision, "--calibrate",
              str(tmp_path / "faces")])
    assert not stopped.value.code
    assert ("its rounding was not checked" in capsys.readouterr().err) == told


@pytest.mark.parametrize("shape", [(2, 100, 100), (1, 131, 90), (1, 30, 70), (1, 48, 48)])
def test_pictures_are_resized_as_pillow_does_within_rounding(shape):
    """Rounded once at the end, 13 % of the values would be another level, and 0.8 % of mini-ferplus's predictions."""
    random = torch.Generator().manual_seed(1)
    faces = torch.randint(0, 256, (shape[0], 3, *shape[1:]), generator=random, dtype=torch.uint8)
    graph = FromFaces(nano(channel_order="RGB"))
    graph.model = torch.nn.Identity()
    different = (graph(faces.permute(0, 2, 3, 1)) - EvaluationTransform(48, 48, "RGB")(faces)).abs() > 1e-4
    assert different.float().mean() < 0.02


def test_other_files_and_choices_are_refused(tmp_path):
    with pytest.raises(InputError, match="onnx is written in float32"):
        export(nano(), tmp_path / "model.onnx", "int8")
    with pytest.raises(InputError, match="faces to calibrate"):
        export(nano(), tmp_path / "model.xml", "int8")
    with pytest.raises(InputError, match="should end in .xml or .onnx"):
        export(nano(), tmp_path / "model.bin")
    with pytest.raises(InputError, match="no exported model"):
        ExportedPoster(tmp_path / "model.xml")
    (tmp_path / "note.txt").write_text(json.dumps({}))
    with pytest.raises(InputError, match="neither .xml"):
        ExportedPoster(tmp_path / "note.txt")


def test_a_missing_runtime_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("poster_ada.checkpoints.exported.import_module", missing)
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(InputError, match=r"needs openvino: pip install 'poster-ada\[export\]'"):
        ExportedPoster(tmp_path / "model.xml")
