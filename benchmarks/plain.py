"""The plain published way, on this project's weights: what every speed-up here is measured against.

Eager float32 in PyTorch's default memory layout, the published layers, 224 x 224 input that both streams shrink, a
SAM loop over single parameters around an unfused Adam, the frozen landmark stream run for both of SAM's passes, and
pictures decoded and augmented one by one with Pillow. As in this project, its BatchNorm statistics stay frozen.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import MEAN, STD
from poster_ada.model.fusion import CrossAttention
from poster_ada.model.image_stream import Subsample
from poster_ada.model.poster import Poster
from poster_ada.model.prelu import PReLU
from poster_ada.training.losses import recipe_loss


class PlainAttention(CrossAttention):
    """The whole matrix of weights, then its product with the values."""

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        k, v = rearrange(self.kv(tokens), "b n (two h d) -> two b h n d", two=2, h=self.num_heads)
        q = rearrange(queries, "b n (h d) -> b h n d", h=self.num_heads)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.proj(rearrange(weights @ v, "b h n d -> b n (h d)"))


PUBLISHED_LAYERS = {
    CrossAttention: lambda layer: PlainAttention(layer.kv.in_features, layer.num_heads),
    PReLU: lambda layer: nn.PReLU(layer.num_parameters),
    Subsample: lambda layer: nn.MaxPool2d(1, layer.stride),
}


class PlainPoster(Poster):
    """A copy of `model` with the published layers; results are the same but for rounding."""

    def __init__(self, model: Poster) -> None:
        super().__init__(model.config)
        for parent in list(self.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) in PUBLISHED_LAYERS:
                    setattr(parent, name, PUBLISHED_LAYERS[type(layer)](layer))
        self.landmark_stream.freeze()
        self.load_state_dict(model.state_dict())

    def downsample(self, images: Tensor) -> Tensor:
        return F.interpolate(images, self.config.stream_size)


class PlainSam:
    """SAM as its usual PyTorch implementation does it: a loop over the parameters, then the optimizer's own."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, rho: float = 0.05) -> None:
        self.parameters, self.rho = parameters, rho
        self.optimizer = torch.optim.Adam(parameters, lr, foreach=False)
        self.origin: list[Tensor] = []

    @torch.no_grad()
    def ascend(self) -> None:
        norm = torch.stack([p.grad.norm() for p in self.parameters]).norm()
        self.origin = []
        for parameter in self.parameters:
            self.origin.append(parameter.clone())
            parameter.add_(parameter.grad * (self.rho / (norm + 1e-12)))
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descend(self) -> None:
        for parameter, value in zip(self.parameters, self.origin, strict=True):
            parameter.copy_(value)
        self.optimizer.step()
        self.optimizer.zero_grad()


def plain_step(model: PlainPoster, sam: PlainSam, images: Tensor, labels: Tensor) -> None:
    """Both of SAM's passes, each through the whole network."""
    recipe_loss(model.margin_logits(images, labels), labels).backward()
    sam.ascend()
    recipe_loss(model.margin_logits(images, labels), labels).backward()
    sam.descend()


class PlainFaces(torch.utils.data.Dataset):
    """Faces as published implementations of POSTER's generation read them: one file at a time, in BGR."""

    def __init__(self, split: FaceSplit) -> None:
        self.split = split
        self.transform = transforms.Compose([
            transforms.ToPILImage(), transforms.RandomHorizontalFlip(), transforms.Resize((224, 224)),
            transforms.ToTensor(), transforms.Normalize(MEAN, STD), transforms.RandomErasing(scale=(0.02, 0.1)),
        ])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = np.asarray(Image.open(self.split.paths[index]).convert("RGB"))[:, :, ::-1]
        if random.random() > 0.5:
            if random.random() > 0.5:
                image = image[:, ::-1]
            else:
                image = (image + np.random.normal(0, 30**0.5, image.shape)).clip(0, 255).astype(np.uint8)
        return self.transform(np.ascontiguousarray(image)), int(self.split.labels[index])
