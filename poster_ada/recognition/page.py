"""The page of `python -m poster_ada.app`, made with Gradio: a picture in, faces with bars and heat out."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from poster_ada.errors import InputError
from poster_ada.evaluation.predictions import PREFIX
from poster_ada.palette import BLUE, NEUTRAL_COLOUR
from poster_ada.recognition.recognizer import Recognizer, as_array, taken_whole

TITLE = "poster-ada: facial expressions"
SHOWN_SIDE = 1280  # pixels of the annotated picture's longer side
MOST_FACES = 12  # whose bars are shown
CELL = "border:0;padding:0.1em 0.4em"  # Gradio would rule the table in black
KEPT = (60, 60)  # seconds: how often what was uploaded is looked through, and how old it may become
# Demo faces (CC0 renderings, no people), where the page is opened in a clone of the project.
DEMO = Path(__file__).parents[2] / "data" / "demo" / "Image" / "aligned"
EXAMPLES = 3


def path_of(payload: Any) -> str | None:
    """The uploaded file as it is: it is read here, where what is wrong with it becomes a sentence."""
    return payload.path if payload else None


def bars(faces: pd.DataFrame) -> str:
    """HTML with one block of bars per face, or a sentence where there is none."""
    found = faces[faces["face"] > 0]
    if found.empty:
        return "<p>No face was found.</p>"
    blocks = []
    for row in found.head(MOST_FACES).to_dict("records"):
        lines = []
        for column, share in row.items():
            if str(column).startswith(PREFIX):
                colour = BLUE if share == row["confidence"] else NEUTRAL_COLOUR
                name = html.escape(str(column).removeprefix(PREFIX))
                bar = f'<div style="background:{colour};height:0.8em;width:{max(0.5, 100 * share):.1f}%"></div>'
                lines.append(f'<tr style="border:0"><td style="width:6.5em;{CELL}">{name}</td><td style="{CELL}">{bar}'
                             f'</td><td style="width:3em;{CELL}">{share:.0%}</td></tr>')
        doubt = f" ({html.escape(row['doubt'])})" if row["doubt"] else ""
        blocks.append(f'<h4>Face {row["face"]}: {html.escape(row["prediction"])}{doubt}</h4>'
                      f'<table style="width:100%;border:0">{"".join(lines)}</table>')
    left = len(found) - MOST_FACES
    return "".join(blocks) + (f"<p>... and {left} more faces.</p>" if left > 0 else "")


def answer(recognizer: Recognizer, path: str | None) -> tuple[Image.Image | None, str, Image.Image | None]:
    """Annotated picture, bars, and heat; a sentence in place of the bars where the file is no picture."""
    if path is None:
        return None, "", None
    try:
        image = as_array(path)
        faces = recognizer(image)
    except InputError as error:
        sentence = str(error).replace(str(path), Path(path).name)
        return None, f'<p role="alert"><b>{html.escape(sentence)}</b></p>', None
    picture = recognizer.draw(image, faces)
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    try:
        heat = recognizer.explain(image, faces, with_picture=False) if (faces["face"] > 0).any() else None
    except ModuleNotFoundError:  # grad-cam belongs to another extra
        heat = None
    whole = recognizer.crop == "auto" and taken_whole(faces).any()
    return picture, ("<p>No face was found; the picture was taken whole.</p>" if whole else "") + bars(faces), heat


def blocks(recognizer: Recognizer, manners: str) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown(f"# {TITLE}\n{manners}" + (f"\n\n{recognizer.note}." if recognizer.note else ""))
        with gr.Row():
            with gr.Column():
                given = gr.Image(type="filepath", image_mode=None, sources=["upload", "webcam"], label="your picture",
                                 elem_id="given")
                vars(given)["preprocess"] = path_of  # for a subclass Gradio would write a file into the package
                examples = sorted(DEMO.glob("*.jpg"))[:: max(1, len(list(DEMO.glob("*.jpg"))) // EXAMPLES)][:EXAMPLES]
                if examples:
                    gr.Examples([[str(path)] for path in examples], given, label="demo faces (renderings)")
            with gr.Column():
                shown = gr.Image(label="faces", interactive=False, elem_id="faces", buttons=["fullscreen"])
                said = gr.HTML(elem_id="bars")
        heat = gr.Image(label="where each stream looked (Grad-CAM)", interactive=False, elem_id="heat",
                        buttons=["fullscreen"])
        given.change(lambda path: answer(recognizer, path), given, [shown, said, heat], api_visibility="private")
    return page


def serve(recognizer: Recognizer, port: int, manners: str, open_browser: bool = True, **how: Any) -> Any:
    """Serve the page on this machine's loopback address until Ctrl-C; what was uploaded is removed with it.

    Raises:
        InputError: the port is taken.
    """
    print(f"The page is at http://127.0.0.1:{port}, for this machine alone; Ctrl-C ends it.", flush=True)
    try:
        return blocks(recognizer, manners).launch(
            server_name="127.0.0.1", server_port=port, share=False, inbrowser=open_browser, show_error=True, quiet=True,
            footer_links=[], enable_monitoring=False, allowed_paths=[str(DEMO)] if DEMO.is_dir() else None, **how)
    except OSError:
        raise InputError(f"port {port} is taken; choose another with --port.") from None
