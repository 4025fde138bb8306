"""The model as a picture and as a table of token shapes; every number is read from the model itself."""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from poster_ada.model.heads import Head
from poster_ada.model.poster import Poster
from poster_ada.model.summary import component_table
from poster_ada.palette import BLUE, GREEN, NEUTRAL_COLOUR, ORANGE, shade

IMAGE_COLOUR, LANDMARK_COLOUR, FUSION_COLOUR = BLUE, GREEN, ORANGE


def token_shapes(model: Poster) -> pd.DataFrame:
    """Shape of every intermediate result for one image (without the batch), in the order of the computation."""
    twin = model.without_memory()
    images = torch.empty(1, 3, model.config.image_size, model.config.image_size, device="meta")
    first, fusion = twin.fusion.blocks[0], twin.fusion
    places = {
        "landmark stream": twin.landmark_stream, "image stream": twin.image_stream, "image tokens": twin.to_tokens,
        "level M": fusion.down_medium, "level S": fusion.down_small, "block 1, level S": first.small,
        "block 1, level M": first.medium, "block 1, level L": first.large, "fused vector": fusion.norm,
        "embedding": twin.squeeze_excitation, "logits": twin.head,
    }
    rows = [("input", tuple(images.shape[1:])), ("every second pixel", tuple(twin.downsample(images).shape[1:]))]
    for name, module in places.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: rows.append((name, tuple(out.shape[1:]))))
    twin(images)
    if model.config.image_size == model.config.stream_size:
        del rows[1]
    return pd.DataFrame([(name, " x ".join(map(str, shape))) for name, shape in rows], columns=["stage", "shape"])


def draw_architecture(axis: Axes, model: Poster) -> None:
    """Boxes for the components with their sizes and multiply-adds; made for a figure about 6.9 x 2.4 inches."""
    c = model.config
    table = {row.component: row for row in component_table(model)}
    axis.set(xlim=(-0.3, 100), ylim=(0, 36))
    axis.set_axis_off()

    def box(x: float, y: float, width: float, height: float, title: str, lines: list[str], colour: str) -> None:
        axis.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1",
                                      facecolor=shade(colour, 0.82), edgecolor=colour, linewidth=0.8))
        text = "\n".join(lines)
        axis.text(x + width / 2, y + height - 1.2, title, ha="center", va="top", fontsize=7.5, weight="bold")
        axis.text(x + width / 2, y + height - 4.4, text, ha="center", va="top", fontsize=6.5, linespacing=1.25)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axis.annotate("", end, start, arrowprops=dict(arrowstyle="-|>", linewidth=0.8, color="black", shrinkA=0,
                                                      shrinkB=0))

    def cost(name: str) -> list[str]:
        row = table[name]
        return [f"{_short(row.parameters)} parameters", f"{_short(row.multiply_adds)} multiply-adds"]

    tokens = c.grid**2
    image_map = " x ".join(map(str, table["image stream (IR)"].output))
    landmark_map = " x ".join(map(str, table["landmark stream (frozen)"].output))
    sampled = [] if c.image_size == c.stream_size else ["every 2nd pixel:",
                                                        f"3 x {c.stream_size} x {c.stream_size}"]
    box(0, 12, 12.5, 9 + 4 * bool(sampled), "face", [c.channel_order, f"3 x {c.image_size} x {c.image_size}", *sampled],
        NEUTRAL_COLOUR)
    box(15.5, 22, 18, 13.5, "image stream (IR)",
        [f"{sum(c.image_blocks)} residual blocks", image_map, *cost("image stream (IR)")], IMAGE_COLOUR)
    box(15.5, 1, 18, 13.5, "landmark stream",
        ["MobileFaceNet, frozen", landmark_map, *cost("landmark stream (frozen)")], LANDMARK_COLOUR)
    kind = "positions" if c.spatial_tokens else "memory pieces"
    box(38, 22, 15.5, 13.5, "image tokens", [f"linear, {kind}", f"{tokens} x {c.embed_dim}", *cost("image tokens")],
        IMAGE_COLOUR)
    box(38, 1, 15.5, 13.5, "landmark tokens", ["positions", f"{tokens} x {c.embed_dim}", "no parameters"],
        LANDMARK_COLOUR)
    widths = ", ".join(str(c.embed_dim // part) for part in (1, 2, 4))
    box(58, 9.5, 17, 17.5, f"cross-fusion x {c.depth}", [
        f"2 x ({tokens} + 1) tokens", f"levels {widths} wide", f"{c.num_heads} heads, queries from",
        "the other stream", *cost("pyramid cross-fusion")], FUSION_COLOUR)
    box(79.5, 22, 20, 10.5, "squeeze-excitation", [f"embedding, {c.embed_dim}", *cost("squeeze-excitation")],
        FUSION_COLOUR)
    box(79.5, 4, 20, 10.5, f"{Head.classes[c.head].title} head", [f"{c.num_classes} logits", *cost("head")],
        NEUTRAL_COLOUR)
    arrow((12.5, 20), (15.5, 26))
    arrow((12.5, 14), (15.5, 9))
    arrow((33.5, 28.5), (38, 28.5))
    arrow((33.5, 7.5), (38, 7.5))
    arrow((53.5, 28.5), (58, 22))
    arrow((53.5, 7.5), (58, 14))
    arrow((75, 18), (79.5, 25))
    arrow((89.5, 22), (89.5, 14.5))


def _short(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
