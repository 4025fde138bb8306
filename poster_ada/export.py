"""Write a checkpoint as one file for ONNX Runtime or OpenVINO: `python -m poster_ada.export`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from poster_ada.checkpoints.names import EXPORT_PRECISIONS, EXPORT_SUFFIXES, SHIPPED, checkpoint_path
from poster_ada.errors import InputError, command
from poster_ada.flags import CommandParser


def parser() -> CommandParser:
    """The command's flags."""
    p = CommandParser("export", description="Write a checkpoint's prediction path as one file for ONNX Runtime or "
                      "OpenVINO; it is checked on faces before it is kept.")
    p.add_argument("-c", "--checkpoint", required=True, metavar="FILE", help=".pth, .pth.tar or .safetensors, or "
                   f"{', '.join(SHIPPED)}, which comes with the package")
    p.add_argument("--to", choices=tuple(EXPORT_PRECISIONS), default="openvino",
                   help="default openvino, the faster on CPUs")
    p.add_argument("--precision", choices=EXPORT_PRECISIONS["openvino"], default="float32", help="default float32, the "
                   "only one for onnx; bfloat16 is fast on CPUs that multiply it natively, int8 on all with VNNI")
    p.add_argument("--raw", action="store_true", help="take faces as pictures have them, uint8 (B, H, W, 3) RGB of any "
                   "size: resize, channel order and normalisation go into the file")
    p.add_argument("--calibrate", metavar="ROOT", default="data/demo", help="face set: its training faces set int8's "
                   "ranges, its test faces check the file (default data/demo)")
    p.add_argument("--out", metavar="FILE", help="default: the checkpoint's name with .xml or .onnx, beside it")
    return p


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parser().parse_args(argv)
    checkpoint, suffix = checkpoint_path(args.checkpoint), EXPORT_SUFFIXES[args.to]
    beside = Path(checkpoint.name) if args.checkpoint in SHIPPED else checkpoint  # never into the package
    out = Path(args.out) if args.out else beside.with_suffix(suffix)
    if out.suffix != EXPORT_SUFFIXES[args.to]:
        raise InputError(f"--out {out} should end in {EXPORT_SUFFIXES[args.to]} for --to {args.to}.")
    import torch

    from poster_ada.checkpoints.create import load_checkpoint
    from poster_ada.checkpoints.exported import export_checked
    from poster_ada.data.datasets import open_dataset
    from poster_ada.model.precision import multiplies_bfloat16

    model = load_checkpoint(checkpoint)
    faces = open_dataset(args.calibrate, check=False)
    agreement = export_checked(model, out, args.precision, faces.train, faces.test, args.raw)
    side = model.config.stream_size
    takes = "uint8 faces (B, H, W, 3), RGB," if args.raw else f"images (B, 3, {side}, {side})"
    print(f"{out}: {args.precision}, {takes} to {model.config.num_classes} logits; {agreement.top1:.2%} of "
          f"{agreement.faces} faces predicted alike, logits within {agreement.largest_difference:.2g}")
    if args.precision != "float32" and not multiplies_bfloat16(torch.device("cpu")):
        print("note: this machine computes in float32 what the file leaves to bfloat16, so its rounding was not "
              "checked; export on a machine with bfloat16 to check it.", file=sys.stderr)


if __name__ == "__main__":
    main()
