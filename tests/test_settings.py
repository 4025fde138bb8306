"""Every setting has a range, and what is out of it is one sentence and status 2, before a face or torch is read."""

import math
import subprocess
import sys
from dataclasses import dataclass, fields

import pytest
from small_runs import child_process

from poster_ada import test as test_command
from poster_ada import train
from poster_ada.errors import InputError
from poster_ada.flags import CommandParser, add_settings, given_settings
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.settings import check_settings, kind_of, setting
from poster_ada.training.recipe import SCHEDULES, TrainConfig

OUT_OF_RANGE = {
    "--scale": ["-64", "0", "nan", "inf"], "--margin": ["-1", "3.5", "nan", "inf"], "--concentration": ["-0.1", "nan"],
    "--t-alpha": ["0", "1.5", "nan"], "--rho": ["-1", "nan", "inf"], "--seed": ["-1", str(2**63)],
    "--label-smoothing": ["2", "-0.1", "nan"], "--lr": ["0", "-1", "nan", "inf"], "--gamma": ["0", "1.1", "nan"],
    "--momentum": ["1", "-0.5", "nan"], "--epochs": ["0", "-3"], "--batch-size": ["0", "-8"],
    "--val-batch-size": ["0"], "--validation-fraction": ["0", "1", "nan"], "--quality-weight": ["-1", "nan", "inf"],
}


@pytest.mark.parametrize(("flag", "value"), [
    (flag, value) for flag, values in OUT_OF_RANGE.items() for value in values
])
def test_a_flag_out_of_range_is_one_sentence_and_status_2(flag, value, capsys):
    with pytest.raises(SystemExit) as status:
        train.main(["--data", "no such folder", flag, value])
    name = flag.removeprefix("--").replace("-", "_")
    error = capsys.readouterr().err
    assert status.value.code == 2 and error.startswith(f"error: {name} is ") and error.count("\n") == 1
    assert "it must be" in error


@pytest.mark.parametrize(("flags", "message"), [
    (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    (["--epochs", "1.5"], "argument --epochs: invalid int value"), (["--lr", "fast"], "argument --lr: invalid float"),
    (["--optimizer", "lion"], "argument --optimizer: invalid choice: 'lion'"),
    (["--head", "softmax"], "argument --head: invalid choice"), (["--norm-source", "x"], "argument --norm-source"),
    (["--spead", "1"], "unrecognized arguments: --spead"), (["--quality-weight", "1"], "only 'camera' knows"),
])
def test_a_word_that_is_none_is_one_sentence_and_status_2(flags, message, capsys):
    with pytest.raises(SystemExit) as status:
        train.main(["--data", "no such folder", *flags])
    error = capsys.readouterr().err
    assert status.value.code == 2 and message in error and error.count("\n") == 1


def test_a_value_is_refused_without_torch():
    code = ("import sys; from poster_ada.train import main\ntry: main(['--scale', '-64'])\n"
            "except SystemExit as stop: sys.exit(10 * stop.code + ('torch' in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], **child_process(), capture_output=True, text=True)
    assert done.returncode == 20 and done.stderr == "error: scale is -64.0; it must be above 0.\n"


@pytest.mark.parametrize(("choices", "message"), [
    ({"num_heads": 3}, "embed_dim 512 is not a multiple of 4 [*] num_heads = 12"),
    ({"num_heads": 0}, "num_heads is 0; it must be above 0"), ({"depth": 0}, "depth is 0"), ({"depth": -1}, "depth"),
    ({"drop_path_rate": 1.0}, "drop_path_rate is 1.0; it must be below 1"),
    ({"mlp_ratio": math.inf}, "mlp_ratio is inf"), ({"mlp_ratio": math.nan}, "mlp_ratio is nan"),
    ({"drop_path_rate": math.nan}, "drop_path_rate is nan"),
    ({"image_size": 100}, "image_size 100 is not a multiple of stream_size 112"), ({"num_classes": 1}, "at least 2"),
    ({"num_classes": 7, "class_names": ("a", "b")}, "2 class names were given for 7 classes"),
    ({"grid": 6}, "the landmark map is 7 x 7"), ({"head": "x"}, "head 'x' is unknown; choose one of mlp"),
    ({"channel_order": "GRB"}, "channel_order 'GRB' is unknown"), ({"image_blocks": (3, 4)}, "are not one more than"),
    ({"image_widths": (64, 64, 0, 256)}, "all above 0"), ({"spatial_tokens": True}, "not a grid of 7 x 7"),
    ({"image_widths": (64,) * 6, "image_blocks": (1,) * 5}, "64 x 4 x 4 values cannot be cut into 49 tokens"),
    ({"scale": "64"}, "scale is 64; it must be above 0"),
])
def test_a_model_that_cannot_be_is_one_sentence(choices, message):
    with pytest.raises(InputError, match=message):
        PosterConfig(**choices)


def test_every_number_has_a_range_and_the_bounds_themselves_hold():
    for config_class in (TrainConfig, PosterConfig):
        for declared in fields(config_class):
            hint = str(declared.type)
            if hint.split(" | ")[0] in ("int", "float"):
                assert declared.metadata["bounds"], declared.name
    TrainConfig(seed=0, momentum=0.0, rho=0.0, gamma=1.0, label_smoothing=1.0, epochs=1)
    TrainConfig(seed=2**63 - 1, label_smoothing=0.0)
    PosterConfig(margin=0.0, t_alpha=1.0, drop_path_rate=0.0, concentration=0.0, num_classes=2)
    PosterConfig(margin=3.0)
    for preset in PRESETS:
        for schedule in SCHEDULES["nano"]:
            TrainConfig.for_preset(preset, schedule)


@dataclass(frozen=True)
class Made:
    count: int = setting(3, "how many", above=0, at_most=9)
    share: float | None = setting(None, "a share in 0..1, 100 % at most", at_least=0, below=1)
    word: str = setting("red", "a colour", choices=("red", "blue"))
    flag: bool = setting(False, "whether")
    silent: int = setting(1)
    plain: tuple[int, ...] = ()


def test_bounds_choices_and_finite_numbers_are_checked():
    check_settings(Made())
    check_settings(Made(count=9, share=0.0))
    for choices, message in (
        ({"count": 0}, "count is 0; it must be above 0."), ({"count": 10}, "count is 10; it must be at most 9."),
        ({"share": 1.0}, "share is 1.0; it must be below 1."),
        ({"share": -0.5}, "share is -0.5; it must be at least 0."),
        ({"share": math.nan}, "share is nan; it must be at least 0."),
        ({"count": "3"}, "count is 3; it must be above 0."),
        ({"word": "green"}, "word 'green' is unknown; choose one of red, blue."),
    ):
        with pytest.raises(InputError) as caught:
            check_settings(Made(**choices))
        assert str(caught.value) == message
    assert [kind_of(Made, name) for name in ("count", "share", "word", "flag")] == [int, float, str, bool]


def made_parser() -> CommandParser:
    parser = CommandParser("made", other_names={"--colour": "--word", "--how-many": "--count"})
    add_settings(parser, Made, ("count", "share", "word", "flag"), {"small": {"count": 5}, "large": {"share": 0.5}})
    return parser


def test_flags_come_from_the_declarations():
    text = " ".join(made_parser().format_help().split())
    assert "--count N how many (default 3; small 5)" in text
    assert "--share X a share in 0..1, 100 % at most (default large 0.5)" in text
    assert "--word {red,blue} a colour (default red)" in text and "--no-flag" in text
    assert given_settings(made_parser().parse_args([]), Made) == {}
    args = made_parser().parse_args(["--count", "4", "--share=0.25", "--flag", "--word", "blue"])
    assert given_settings(args, Made) == {"count": 4, "share": 0.25, "flag": True, "word": "blue"}
    args = made_parser().parse_args(["--no-flag", "--share", "0"])
    assert given_settings(args, Made) == {"flag": False, "share": 0.0}


def test_published_spellings_are_understood_and_values_stay_as_they_are():
    for words in (["--how_many", "4"], ["--how-many=4"], ["--count=4"], ["--count", "4"]):
        assert made_parser().parse_args(words).count == 4
    assert made_parser().parse_args(["--colour=blue"]).word == "blue"
    parser = made_parser()
    parser.add_argument("--name")
    assert parser.parse_args(["--name=a_b"]).name == "a_b" and parser.parse_args(["--name", "a_b"]).name == "a_b"


def test_the_published_flags_are_shown_in_one_spelling():
    for parser in (train.parser(), test_command.parser()):
        text = parser.format_help()
        assert "--batch-size" in text and "--batch_size" not in text and "--modeltype" not in text
    assert "(default 300; mini 50; nano 20)" in " ".join(train.parser().format_help().split())
