"""Head geometry: anny's parametric human cut down to head, neck and shoulders, and its base mesh's teeth and lashes.

Frame of every array: millimetres, x to the subject's left, y up, z out of the face; K vertices, F triangles. Anny
(Apache-2.0; MakeHuman and face-unit assets CC0): https://github.com/naver/anny
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CACHE = Path.home() / ".cache" / "poster_ada_demo" / "head_v1.npz"
LOWEST_MM = 470.0  # the template is 1.67 m tall with its origin at the hips: everything above the collar bones
WIDEST_MM = 260.0
PARTS = ("skin", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue", "lashes")
AVERAGE = {"gender": 0.5, "age": 0.67, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5} | dict.fromkeys(
    ("african", "asian", "caucasian"), 1 / 3
)
HELPERS = {
    "left_eye": ("helper-l-eye",),
    "right_eye": ("helper-r-eye",),
    "upper_teeth": ("helper-upper-teeth",),
    "lower_teeth": ("helper-lower-teeth",),
    "tongue": ("helper-tongue",),
    "lashes": ("helper-l-eyelashes-1", "helper-r-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-2"),
}


def _to_face_frame(vectors: np.ndarray) -> np.ndarray:
    """Anny's metres with z up and the face along -y, to millimetres with y up and the face along +z."""
    return np.stack([vectors[..., 0], vectors[..., 2], -vectors[..., 1]], -1) * 1000.0


def _anny_model():
    import anny

    return anny.Anny(phenotypes="all", local_changes="all", facial_actions="all", phenotype_blendshapes="original")


def _triangles(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _build(path: Path) -> None:
    import torch
    import yaml
    from anny.models.full_model import load_data
    from anny.paths import get_anny_root_dir
    from anny.utils.obj_utils import load_obj_file
    from PIL import Image

    assets = get_anny_root_dir() / "data"
    rig = assets / "mpfb2/rigs/standard"
    everything = load_data(
        weights_filename=rig / "weights.default.json", rig_filename=rig / "rig.default.json", eyes=True, tongue=True
    )
    _, uv, groups = load_obj_file(str(assets / "mpfb2/3dobjs/base.obj"), dtype=torch.float64)
    template = _to_face_frame(everything.template_vertices.numpy())
    uv = uv.numpy()

    out: dict[str, np.ndarray] = {}
    quads, quads_uv = (groups["body"][k].numpy() for k in ("face_vertex_indices", "face_texture_coordinate_indices"))
    keep = (template[quads, 1] > LOWEST_MM).all(1) & (np.abs(template[quads, 0]) < WIDEST_MM).all(1)
    triangles = {"skin": _triangles(quads[keep])}
    triangles_uv = _triangles(quads_uv[keep])
    for part, names in HELPERS.items():
        triangles[part] = _triangles(np.concatenate([groups[n]["face_vertex_indices"].numpy() for n in names]))
    used = np.unique(np.concatenate([t.ravel() for t in triangles.values()]))
    renumber = np.full(len(template), -1)
    renumber[used] = np.arange(len(used))
    for part, faces in triangles.items():
        out[f"faces_{part}"] = renumber[faces].astype(np.int32)
    out["skin_uv"] = uv[triangles_uv].astype(np.float32)  # F, 3, 2

    colours = yaml.safe_load((assets / "segmentation/body_parts_segmentation.yaml").read_text())["colors"]
    chart = np.asarray(Image.open(assets / "segmentation/body_parts_segmentation.png").convert("RGB"))
    centre = out["skin_uv"].mean(1)
    texel = chart[
        np.clip(((1 - centre[:, 1]) * len(chart)).astype(int), 0, len(chart) - 1),
        np.clip((centre[:, 0] * len(chart)).astype(int), 0, len(chart) - 1),
    ]
    out["skin_is_cavity"] = np.any(
        [(texel == colours[n]).all(-1) for n in ("eye_cavity.L", "eye_cavity.R", "mouth_cavity")], axis=0
    )
    lips = np.asarray(Image.open(assets / "mpfb2/textures/mpfb_lips.jpg").convert("L"))
    out["lips_uv_mask"] = lips

    labels = everything.metadata.blendshape_labels
    shapes = _to_face_frame(everything.blendshapes[:, used].numpy()).astype(np.float32)
    is_unit = np.array([label.startswith("facial_action:") for label in labels])
    out["template"] = template[used].astype(np.float32)
    out["person_shapes"] = shapes[~is_unit]
    out["person_labels"] = np.array([label for label in labels if not label.startswith("facial_action:")])
    out["unit_shapes"] = shapes[is_unit]
    out["unit_labels"] = np.array([label.split(":")[1] for label in labels if label.startswith("facial_action:")])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **out)


@dataclass
class Head:
    """Blend-shape model of one head.

    template: K, 3 vertices that the shapes are added to.
    reference: K, 3 vertices of an average adult, origin between the eyes: the frame in which everything is painted.
    unit_shapes: 52, K, 3 displacements of the ARKit face units at intensity 1.
    faces: part name -> F, 3 vertex numbers. skin_uv: F, 3, 2 texture coordinates of the corners of the skin triangles.
    """

    template: np.ndarray
    reference: np.ndarray
    unit_shapes: np.ndarray
    unit_labels: list[str]
    faces: dict[str, np.ndarray]
    skin_uv: np.ndarray
    skin_is_cavity: np.ndarray
    lips_uv_mask: np.ndarray

    @classmethod
    def load(cls) -> Head:
        """The head, from the cache file in the user's cache folder (made on first use, about two minutes)."""
        if not CACHE.exists():
            _build(CACHE)
        data = np.load(CACHE)
        head = cls(
            template=data["template"],
            reference=np.empty(0),
            unit_shapes=data["unit_shapes"],
            unit_labels=list(data["unit_labels"]),
            faces={part: data[f"faces_{part}"] for part in PARTS},
            skin_uv=data["skin_uv"],
            skin_is_cavity=data["skin_is_cavity"],
            lips_uv_mask=data["lips_uv_mask"],
        )
        head._person_shapes, head._person_labels = data["person_shapes"], list(data["person_labels"])
        head._model = _anny_model()
        head.reference = head.neutral(AVERAGE, {})
        return head

    def neutral(self, phenotype: dict[str, float], local_changes: dict[str, float]) -> np.ndarray:
        """K, 3 vertices of a person at rest, the origin between the eyeballs.

        phenotype: anny's gender, age, muscle, weight, height, proportions, african, asian, caucasian, each 0..1.
        local_changes: anny's shape changes, -1..1.
        """
        weights = self._model.get_phenotype_blendshape_coefficients(**phenotype, local_changes=local_changes)[0]
        by_label = dict(zip(self._model.blendshape_labels, weights.tolist(), strict=True))
        weights = np.array([by_label[label] for label in self._person_labels], np.float32)
        active = np.flatnonzero(weights)
        vertices = self.template + np.tensordot(weights[active], self._person_shapes[active], 1)
        return vertices - np.mean(
            [vertices[np.unique(self.faces[eye])].mean(0) for eye in ("left_eye", "right_eye")], axis=0
        )

    def expression(self, units: dict[str, float]) -> np.ndarray:
        """K, 3 displacement of the face units given as name -> intensity."""
        weights = np.array([units.get(label, 0.0) for label in self.unit_labels], np.float32)
        active = np.flatnonzero(weights)
        return np.tensordot(weights[active], self.unit_shapes[active], 1)
