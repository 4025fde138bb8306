"""What each stream looks at: the cross-fusion's attention weights, computed again beside the model."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from poster_ada.model.fusion import CrossAttention
from poster_ada.model.poster import Poster


def attention_weights(attention: CrossAttention, tokens: Tensor, queries: Tensor) -> Tensor:
    """Softmax weights (B, heads, N, N) that `attention(tokens, queries)` uses inside; rows are queries, sum to 1."""
    k = rearrange(attention.kv(tokens), "b n (two h d) -> two b h n d", two=2, h=attention.num_heads)[0]
    q = rearrange(queries, "b n (h d) -> b h n d", h=attention.num_heads)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)


@torch.no_grad()
def attention_maps(model: Poster, images: Tensor) -> dict[str, Tensor]:
    """Attention of the finest level in every pyramid block.

    Args:
        model: in `eval()` mode.
        images: (B, 3, S, S), as for the model.

    Returns:
        `image` and `landmark`, each (B, depth, heads, N + 1, N + 1). Token 0 is the stream's mean token, the others are
        its grid, row by row. In the image stream the queries come from the landmark stream and vice versa. With the
        published memory view (`spatial_tokens=False`) the image stream's keys are not positions.
    """
    maps: dict[str, list[Tensor]] = {"image": [], "landmark": []}
    hooks = []
    for block in model.fusion.blocks:
        for stream in maps:
            record = lambda module, inputs, stream=stream: maps[stream].append(attention_weights(module, *inputs))  # noqa: E731
            hooks.append(getattr(block.large, stream).attn.register_forward_pre_hook(record))
    try:
        model.forward_features(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {stream: torch.stack(layers, dim=1) for stream, layers in maps.items()}
