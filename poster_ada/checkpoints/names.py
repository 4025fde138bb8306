"""What weight files are called and where they come from; without torch, so that flags can be read at once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PRETRAINED_FOLDER = Path("models/pretrain")
PRETRAINED_FILES = IR50_FILE, MOBILEFACENET_FILE = "ir50.pth", "mobilefacenet_model_best.pth.tar"
RAFDB_FILE = "rafdb_best.pth"
AUTHORS = "https://github.com/zczcwh/POSTER"


class DriveFolder(NamedTuple):
    """A public folder of the POSTER authors on Google Drive, and the files in it that belong into `target`."""

    id: str
    target: Path
    files: tuple[str, ...]

    @property
    def page(self) -> str:
        return f"https://drive.google.com/drive/folders/{self.id}"


DRIVE_FOLDERS = {
    "pretrained": DriveFolder("1X9pE-NmyRwvBGpVzJOEvLqRPRfk_Siwq", PRETRAINED_FOLDER, PRETRAINED_FILES),
    "rafdb": DriveFolder("1jeCPTGjBL8YgKKB9YrI9TYZywme8gymv", Path("checkpoint"), (RAFDB_FILE,)),
}

WEIGHTS = Path(__file__).parent / "weights"
# Checkpoints that come with the package, by the name that every --checkpoint takes.
SHIPPED = {"mini-ferplus": WEIGHTS / "mini-ferplus.safetensors"}


def checkpoint_path(given: str | Path) -> Path:
    """The file of a checkpoint that comes with the package, by its name; any other word is a path already."""
    return SHIPPED.get(str(given), Path(given))


# Exported formats: the suffix of a file, and what it can be computed in.
EXPORT_SUFFIXES = {"openvino": ".xml", "onnx": ".onnx"}
EXPORT_PRECISIONS = {"openvino": ("float32", "bfloat16", "int8"), "onnx": ("float32",)}
