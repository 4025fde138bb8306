"""Pyramid cross-fusion transformer of POSTER (Zheng, Mendieta, Chen 2022, arXiv 2204.04083, section 3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, arXiv 1706.03762, eq. 1); all (..., N, d)."""
    # torch's blocked kernel is made for longer sequences; exported, the plain form is what OpenVINO merges.
    if torch.compiler.is_exporting() or (v.device.type == "cpu" and v.dtype == torch.bfloat16):
        return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training, a share `p` of the rows is zeroed, the rest
    scaled. torchvision's, value by value, without the second that loading torchvision takes.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        kept = x.new_empty(len(x), *(1,) * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * (kept.div_(1 - self.p) if self.p < 1 else kept)


class CrossAttention(nn.Module):
    """Multi-head attention without a query projection: the other stream's normalised tokens are the queries."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        k, v = rearrange(self.kv(tokens), "b n (two h d) -> two b h n d", two=2, h=self.num_heads)
        q = rearrange(queries, "b n (h d) -> b h n d", h=self.num_heads)
        return self.proj(rearrange(scaled_dot_product(q, k, v), "b h n d -> b n (h d)"))


class StreamUpdate(nn.Module):
    """One stream's half of a cross-fusion block: it attends to itself at the places the other stream asks for."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm_attn = nn.LayerNorm(dim, eps=1e-6)
        self.attn = CrossAttention(dim, num_heads)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        own = own + self.drop_path(self.attn(self.norm_attn(own), self.norm_attn(other)))
        return own + self.drop_path(self.mlp(self.norm_mlp(own)))


class CrossFusionBlock(nn.Module):
    """Both streams look at each other: (B, 2N, dim) -> (B, 2N, dim), image tokens first."""

    def __init__(
        self, tokens: int, dim: int, num_heads: int, mlp_ratio: float, drop_path: float, token_mixing: bool
    ) -> None:
        super().__init__()
        self.image = StreamUpdate(dim, num_heads, mlp_ratio, drop_path)
        self.landmark = StreamUpdate(dim, num_heads, mlp_ratio, drop_path)
        self.mix = nn.Conv1d(tokens, tokens, 1) if token_mixing else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        image, landmark = x.chunk(2, dim=1)
        return self.mix(torch.cat((self.image(image, landmark), self.landmark(landmark, image)), dim=1))


class PyramidBlock(nn.Module):
    """One cross-fusion block per level, then the coarser levels are added to the finer ones."""

    def __init__(self, tokens: int, dim: int, **block: Any) -> None:
        super().__init__()
        self.large = CrossFusionBlock(tokens, dim, **block)
        self.medium = CrossFusionBlock(tokens, dim // 2, **block)
        self.small = CrossFusionBlock(tokens, dim // 4, **block)
        self.up_small = nn.ConvTranspose1d(tokens, tokens, 2, 2)  # along the features
        self.up_medium = nn.ConvTranspose1d(tokens, tokens, 2, 2)

    def forward(self, large: Tensor, medium: Tensor, small: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        small = self.small(small)
        medium = self.medium(medium) + self.up_small(small)
        large = self.large(large) + self.up_medium(medium)
        return large, medium, small


class PyramidFusion(nn.Module):
    """Fuse image and landmark tokens, (B, N, dim) each, into one vector.

    Each stream is prefixed with its own mean token; the pyramid's levels are narrower by 2 and 4 along the features.

    Args:
        num_tokens: N, tokens per stream without the mean token.
        dim: width of the largest level, divisible by 4 * num_heads.
        depth: pyramid blocks; published small 4, base 6, large 8.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        token_mixing: the 1x1 convolution over tokens that ends each block of the RAF-DB variant.
    """

    def __init__(
        self, num_tokens: int, dim: int, depth: int, num_heads: int, mlp_ratio: float, drop_path_rate: float,
        token_mixing: bool,
    ) -> None:
        super().__init__()
        tokens = 2 * (num_tokens + 1)
        self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens + 1, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.down_medium = nn.Conv1d(tokens, tokens, 2, 2)
        self.down_small = nn.Conv1d(tokens, tokens, 4, 4)
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            PyramidBlock(
                tokens, dim, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path=rate, token_mixing=token_mixing
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, image: Tensor, landmark: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the fused vector (B, dim) and the same before the last LayerNorm, whose norm is still free."""
        image = torch.cat((image.mean(1, keepdim=True), image), dim=1) + self.pos_embed
        landmark = torch.cat((landmark.mean(1, keepdim=True), landmark), dim=1)
        large = torch.cat((image, landmark), dim=1)
        medium, small = self.down_medium(large), self.down_small(large)
        for block in self.blocks:
            large, medium, small = block(large, medium, small)
        pre_norm = large[:, 0]
        return self.norm(pre_norm), pre_norm
