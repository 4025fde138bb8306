"""Does POSTER's design earn its place? The same recipe with parts of it taken out, and with two well-known networks.

Each is a `Poster` to the training loop: images to `Features` to logits, by the same head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v3_small, resnet18

from benchmarks.timing import alternate
from poster_ada.checkpoints.fill import fill
from poster_ada.checkpoints.own import read_own
from poster_ada.data.layouts import Dataset
from poster_ada.evaluation.hierarchical import Spread, holm
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.model.fusion import CrossFusionBlock, PyramidFusion
from poster_ada.model.heads import make_head
from poster_ada.model.poster import Features, FusedStreams, Poster
from poster_ada.recognition.detector import FaceDetector
from poster_ada.recognition.points import real_points
from poster_ada.training.landmarks import train_landmarks

LANDMARK_WEIGHTS = Path("runs/ferplus/landmarks.safetensors")


class ImageAlone(Poster):
    """The image stream's mean token, normalised, in place of the fused vector."""

    def __init__(self, config: PosterConfig) -> None:
        super().__init__(config)
        del self.landmark_stream, self.fusion
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)

    def landmark_map(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images))

    def fuse_streams(self, images: Tensor, landmark_map: Tensor | None = None) -> FusedStreams:
        image = self.image_tokens(images).mean(1)
        return FusedStreams(image, image, self.norm(image))


class TrainedLandmarks(Poster):
    """The landmark stream trained to find points on real faces, where `mini` leaves it as it was drawn.

    Its weights, `LANDMARK_WEIGHTS`, are made by `train_points`.
    """

    def __init__(self, config: PosterConfig) -> None:
        super().__init__(config)
        if self.head.weight.device.type != "meta":
            fill(self.landmark_stream, read_own(LANDMARK_WEIGHTS)[1], LANDMARK_WEIGHTS, lambda name: name)
            self.landmark_stream.freeze()


def train_points(faces: Dataset, demo: str, detector: str | None = None) -> None:
    """Make `LANDMARK_WEIGHTS`, unless they are there: five points of every training face, 68 of demo faces.

    As `python -m poster_ada.landmarks --preset mini --faces data/ferplus --epochs 6 --out FILE`.
    """
    if not LANDMARK_WEIGHTS.is_file():
        real = real_points(faces, FaceDetector(detector, sides=()), PRESETS["mini"])
        train_landmarks(demo, LANDMARK_WEIGHTS, epochs=6, preset="mini", real=real)


class OneStream(Poster):
    """The fusion as it is, but with the image tokens in place of the landmark tokens too."""

    def __init__(self, config: PosterConfig) -> None:
        super().__init__(config)
        del self.landmark_stream

    def landmark_map(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images))

    def fuse_streams(self, images: Tensor, landmark_map: Tensor | None = None) -> FusedStreams:
        image = self.image_tokens(images)
        fused, pre_norm = self.fusion(image, image)
        return FusedStreams(image.mean(1), pre_norm, fused)


class FlatFusion(PyramidFusion):
    """The pyramid's widest level alone."""

    def __init__(self, c: PosterConfig) -> None:
        super().__init__(c.grid**2, c.embed_dim, c.depth, c.num_heads, c.mlp_ratio, c.drop_path_rate, c.token_mixing)
        del self.down_medium, self.down_small
        rates = torch.linspace(0, c.drop_path_rate, c.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            CrossFusionBlock(2 * (c.grid**2 + 1), c.embed_dim, c.num_heads, c.mlp_ratio, rate, c.token_mixing)
            for rate in rates)

    def forward(self, image: Tensor, landmark: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.cat((image.mean(1, keepdim=True), image), dim=1) + self.pos_embed
        tokens = torch.cat((image, landmark.mean(1, keepdim=True), landmark), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 0]), tokens[:, 0]


class WithoutPyramid(Poster):
    """Both streams, fused at the full width alone."""

    def __init__(self, config: PosterConfig) -> None:
        super().__init__(config)
        self.fusion = FlatFusion(config)


class Torchvision(Poster):
    """A network of torchvision, 48 x 48 pixels in, its last feature vector to the same head."""

    def __init__(self, config: PosterConfig, body: nn.Module, width: int) -> None:
        nn.Module.__init__(self)  # none of POSTER's parts
        self.config, self.temperature, self.face_template = config, 1.0, None
        self.body = body
        self.head = make_head(replace(config, embed_dim=width))

    def landmark_map(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images))

    def forward_features(self, images: Tensor, landmark_map: Tensor | None = None) -> Features:
        embedding = self.body(self.downsample(images))
        return Features(embedding, embedding.float().norm(dim=1))


class ResNet18(Torchvision):
    """ResNet-18 (He et al. 2016, arXiv 1512.03385) as for small pictures: a 3x3 stem with stride 1, no max-pooling."""

    def __init__(self, config: PosterConfig) -> None:
        body = resnet18()
        body.conv1, body.maxpool, body.fc = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity(), nn.Identity()
        super().__init__(config, body, 512)


class MobileNetV3(Torchvision):
    """MobileNetV3-small (Howard et al. 2019, arXiv 1905.02244), its first stride left out for small pictures."""

    def __init__(self, config: PosterConfig) -> None:
        body = mobilenet_v3_small()
        body.features[0][0].stride = (1, 1)
        body.classifier = nn.Identity()
        super().__init__(config, body, 576)


DESIGNS: dict[str, type[Poster]] = {
    "poster": Poster, "landmark stream trained on points": TrainedLandmarks, "without landmark stream": OneStream,
    "without pyramid": WithoutPyramid,
    "image stream alone": ImageAlone, "MobileNetV3-small": MobileNetV3, "ResNet-18": ResNet18,
}


def costs(design: type[Poster], config: PosterConfig) -> tuple[int, int]:
    """Trained parameters, and multiply-adds of one picture."""
    with torch.device("meta"):
        model = design(config).eval()
        images = torch.empty(1, 3, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter:
        model(images)
    return sum(p.numel() for p in model.parameters() if p.requires_grad), counter.get_total_flops() // 2


SCORES = ("validation_accuracy", "validation_macro_f1")


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per design, of runs of one length: means over seeds, and differences to POSTER's.

    Args:
        runs: with `design`, `seed`, `SCORES` in percent, `parameters`, `multiply_adds`.

    Returns:
        Indexed by design, the best accuracy first: both scores, `<score>_difference`, `_low`, `_high` (95 %, over seeds
        alone, what they change taken from all designs together), `_p` after Holm, `parameters`, `multiply_adds`.
    """
    table = runs.groupby("design")[[*SCORES, "parameters", "multiply_adds"]].mean()
    table["seeds"] = runs.groupby("design")["seed"].nunique()
    for score in SCORES:
        by_seed = runs.pivot(index="seed", columns="design", values=score)
        spread = Spread.of(runs.set_index(["design", "seed"])[score])
        found = {}
        for design in table.index.drop("poster"):
            paired = (by_seed[design] - by_seed["poster"]).dropna()
            found[design] = {"difference": paired.mean()} | spread.interval(paired.mean(), len(paired))
        columns = pd.DataFrame.from_dict(found, orient="index")
        columns["p"] = holm(columns["p"].to_numpy())
        table = table.join(columns[["difference", "low", "high", "p"]].add_prefix(f"{score}_"))
    return table.sort_values("validation_accuracy", ascending=False)


def speeds(config: PosterConfig, batch: int = 32, repeats: int = 5) -> pd.Series:
    """Predictions per second of every design on the CPU as torch runs it, float32, in turn: medians of the rounds."""
    images = torch.randn(batch, 3, config.image_size, config.image_size)

    def way(model: Poster) -> Callable[[], int]:
        def predict() -> int:
            with torch.inference_mode():
                return len(model(images))

        return predict

    return pd.Series({design: median(rates) for design, rates in alternate(
        {name: way((Poster if design is TrainedLandmarks else design)(config).eval())  # which needs a file of weights
         for name, design in DESIGNS.items()}, repeats).items()})


def markdown(table: pd.DataFrame) -> str:
    """The rows of `compared`, with `faces_per_second`, as a table for a page."""
    lines = ["| design | accuracy | less POSTER's | macro F1 | less POSTER's | parameters, M | multiply-adds, M | "
             "faces/s |", "|---|---|---|---|---|---|---|---|"]
    for design, row in table.iterrows():
        cells = [str(design)]
        for score in SCORES:
            less, low, high = (row[f"{score}_{name}"] for name in ("difference", "low", "high"))
            cells += [f"{row[score]:.1f}", "" if pd.isna(less) else f"{less:+.1f}" if pd.isna(low) else
                      f"{less:+.1f} ({low:+.1f} to {high:+.1f})"]
        cells += [f"{row['parameters'] / 1e6:.1f}", f"{row['multiply_adds'] / 1e6:.0f}",
                  f"{row['faces_per_second']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
