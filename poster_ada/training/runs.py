"""A training run on disk: `runs/<name>/` with its configuration, record, log and checkpoints."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from poster_ada.checkpoints.published import load_checkpoint, pretrained_files, read_own, write_atomically
from poster_ada.data import Dataset
from poster_ada.errors import InputError
from poster_ada.model.poster import Poster
from poster_ada.training.recipe import TrainConfig


@dataclass
class Run:
    """One run's folder.

    `config.json` (every setting), `record.json` (data, environment, result, whether it finished), `log.csv` (one row an
    epoch), `best.safetensors` (by the selection split) and `last.safetensors` (with what resuming needs).
    """

    path: Path

    @cached_property
    def config(self) -> TrainConfig:
        return TrainConfig.from_dict(self._read("config.json"))

    @property
    def record(self) -> dict[str, Any]:
        return self._read("record.json")

    @property
    def log(self) -> pd.DataFrame:
        """One row per epoch."""
        return pd.read_csv(self.path / "log.csv")

    @property
    def exists(self) -> bool:
        return (self.path / "config.json").is_file()

    @property
    def finished(self) -> bool:
        return (self.path / "record.json").is_file() and self.record.get("finished", False)

    def model(self, which: str = "best") -> Poster:
        """The `best` or `last` model, in `eval()` mode on the CPU."""
        return load_checkpoint(self.path / f"{which}.safetensors")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a training run: it has no {name}.") from None
        except json.JSONDecodeError:
            raise InputError(f"{self.path / name} is not JSON any more; delete the folder and train again.") from None

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of the run, atomically."""
        write_atomically(self.path / name, lambda temporary: temporary.write_text(json.dumps(content, indent=1) + "\n"))

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """Write `log.csv`, atomically."""
        write_atomically(self.path / "log.csv", lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))

    def last_state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Training record and tensors of `last.safetensors`, or None where the run has not saved an epoch yet."""
        path = self.path / "last.safetensors"
        if not path.is_file():
            return None
        description, tensors = read_own(path)
        return description["training"], tensors


def fingerprint(dataset: Dataset) -> str:
    """Sixteen hexadecimal digits of the set's content: every file's name, label and size, wherever the folder lies."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for name, path, label in zip(split.files, split.paths, split.labels, strict=True):
            digest.update(f"{name} {label} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def pretrained_fingerprint(config: TrainConfig) -> str:
    """SHA-256 of the pretrained files that a run with this configuration starts from."""
    digest = hashlib.sha256()
    for path in pretrained_files(config.model, config.pretrained):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def default_folder(config: TrainConfig, dataset: Dataset) -> Path:
    """`runs/<preset>-<head>-<data>-seed<seed>-<key>`: the same settings, data and starting weights share a folder."""
    data = re.sub(r"[^a-z0-9]+", "-", dataset.name.lower()).strip("-")
    key = config.key(fingerprint(dataset), pretrained_fingerprint(config))
    return Path("runs") / f"{config.preset}-{config.model.head}-{data}-seed{config.seed}-{key}"


def environment() -> dict[str, str]:
    """Versions, processor and git commit, for the record."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False,
                            cwd=Path(__file__).parent)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(), "torch": torch.__version__, "device": device,
        "threads": str(torch.get_num_threads()), "commit": commit.stdout.strip() or "not a git checkout",
    }
