"""Train the landmark stream of `nano` or `mini`: `python -m poster_ada.landmarks`."""

from __future__ import annotations

from collections.abc import Sequence

from poster_ada.errors import InputError, command
from poster_ada.flags import CommandParser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser("landmarks", description="Train a small preset's landmark stream on 68 points, and on the "
                           "five that a detector finds in real faces.")
    parser.add_argument("--data", default="data/demo", help="set with landmarks.csv (default data/demo)")
    parser.add_argument("--preset", choices=("nano", "mini"), default="nano", help="whose stream (default nano)")
    parser.add_argument("--faces", metavar="ROOT", help="real faces too, of which the face detector finds five points")
    parser.add_argument("--detector", metavar="FILE", help="the face detector's file, instead of downloading it")
    parser.add_argument("--out", help="file to write (default: nano's in the package)")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the faces (default 100)")
    parser.add_argument("--seed", type=int, default=123, help="of weights, order and warps (default 123)")
    args = parser.parse_args(argv)
    if args.preset != "nano" and not args.out:
        raise InputError(f"{args.preset} comes without landmark weights; say where to write them with --out.")
    from poster_ada.training.landmarks import LANDMARKS, train_landmarks

    real = None
    if args.faces:
        from poster_ada.data.datasets import open_dataset
        from poster_ada.model.config import PRESETS
        from poster_ada.recognition.detector import FaceDetector
        from poster_ada.recognition.points import real_points

        faces = open_dataset(args.faces, check=False, needs=("train",))
        real = real_points(faces, FaceDetector(args.detector, sides=()), PRESETS[args.preset])
    record = train_landmarks(args.data, args.out or LANDMARKS["nano"], args.epochs, seed=args.seed, preset=args.preset,
                             real=real)
    print(f"Normalised mean error on the test faces of {record['data']}: {100 * record['test_nme']:.2f} % "
          f"(the average face: {100 * record['mean_face_nme']:.2f} %)")
    if real:
        print(f"Mean error of five points on {record['real_faces']}: {100 * record['real_error']:.2f} % of the eyes' "
              f"distance (the average face: {100 * record['real_mean_face_error']:.2f} %)")


if __name__ == "__main__":
    main()
