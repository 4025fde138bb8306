"""Make the landmark weights of `nano` again: `python -m poster_ada.landmarks`."""

from __future__ import annotations

from collections.abc import Sequence

from poster_ada.errors import command
from poster_ada.flags import CommandParser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser("landmarks", description="Train the nano preset's landmark stream on 68 points.")
    parser.add_argument("--data", default="data/demo", help="set with landmarks.csv (default data/demo)")
    parser.add_argument("--out", help="file to write (default: the one in the package)")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the faces (default 100)")
    parser.add_argument("--seed", type=int, default=123, help="of weights, order and warps (default 123)")
    args = parser.parse_args(argv)
    from poster_ada.training.landmarks import LANDMARKS, train_landmarks

    record = train_landmarks(args.data, args.out or LANDMARKS["nano"], args.epochs, seed=args.seed)
    print(f"Normalised mean error on the test faces of {record['data']}: {100 * record['test_nme']:.2f} % "
          f"(the average face: {100 * record['mean_face_nme']:.2f} %)")


if __name__ == "__main__":
    main()
