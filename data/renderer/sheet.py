"""The contact sheet: one row per class, faces of the committed set from good to worse quality."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .expression import CLASSES

COLUMNS = 12
ZOOM = 1.2


def draw(demo: Path, out: Path) -> None:
    """Writes 7 rows of 12 faces with the class names to the PNG `out`."""
    lines = (line.split() for line in demo.joinpath("EmoLabel/list_patition_label.txt").read_text().splitlines())
    labels = {name: int(label) for name, label in lines}
    with demo.joinpath("quality.csv").open() as file:
        quality = {row["file"]: float(row["quality"]) for row in csv.DictReader(file)}
    with demo.joinpath("identity.csv").open() as file:
        identity = {row["file"]: row["identity"] for row in csv.DictReader(file)}
    side, margin = round(100 * ZOOM), 130
    sheet = Image.new("RGB", (margin + COLUMNS * (side + 4), 7 * (side + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(20)
    for row, name in enumerate(CLASSES):
        pen.text((8, row * (side + 4) + side // 2 - 12), name, "black", font)
        seen: set[str] = set()
        chosen: list[str] = []
        for file in sorted(labels):  # test faces first, one per identity
            if labels[file] == row + 1 and identity[file] not in seen:
                seen.add(identity[file])
                chosen.append(file)
        chosen = sorted(chosen[: 2 * COLUMNS], key=lambda f: -quality[f])
        step = len(chosen) / COLUMNS
        for column in range(COLUMNS):
            file = chosen[int(column * step)]
            face = Image.open(demo / "Image" / "aligned" / file.replace(".jpg", "_aligned.jpg"))
            face = face.resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(face, (margin + column * (side + 4), row * (side + 4) + 2))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
