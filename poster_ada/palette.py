"""Colours that stay apart under every common colour blindness (Okabe and Ito 2008), and lighter shades of them."""

from __future__ import annotations

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY_BLUE, BLACK = "#E69F00", "#56B4E9", "#000000"
NEUTRAL_COLOUR, PALE = "#555555", "#BBBBBB"


def shade(colour: str, amount: float) -> tuple[float, float, float]:
    """A colour such as `#0072B2` mixed with white, as red, green, blue in 0..1: 0 is the colour, 1 is white."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red + (1 - red) * amount, green + (1 - green) * amount, blue + (1 - blue) * amount
