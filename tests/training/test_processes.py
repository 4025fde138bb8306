"""Two processes compute what one does, climb to one point with SAM, and drop other paths."""

import json
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import child_process, small, weights

from poster_ada.training.loop import train
from poster_ada.training.runs import Run


def same_as_one(faces):
    # A small step keeps rounding from growing: Adam turns even a gradient that is only noise into a full step.
    return small(faces, head="adaface", t_alpha=0.5, scale=8.0, lr=1e-4, batch_size=16, val_batch_size=10)


@pytest.fixture(scope="module")
def two(faces, tmp_path_factory):
    """What both processes saw: of a run that one process can repeat, and of one with SAM and drop path."""
    out = tmp_path_factory.mktemp("two")
    configs = [same_as_one(faces), small(faces, epochs=1, rho=0.05, depth=2, drop_path_rate=0.5, head="adaface")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(out),
               *(json.dumps(config.to_dict()) for config in configs)]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [subprocess.Popen(command, **child_process(RANK=rank, LOCAL_RANK=rank, **group))
                 for rank in "01"]
    try:
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return out, [json.loads((out / f"rank{rank}.json").read_text()) for rank in "01"]


@pytest.mark.slow
def test_two_processes_compute_what_one_does(two, faces, tmp_path):
    one, both = train(same_as_one(faces), tmp_path / "one", device="cpu", quiet=True), Run(two[0] / "0")
    assert both.record["processes"] == 2 and one.record["processes"] == 1
    for column in ("train_loss", "validation_loss", "train_accuracy", "lr"):
        assert both.log[column].to_list() == pytest.approx(one.log[column].to_list(), rel=1e-3)
    mine, theirs = weights(one, "last"), weights(both, "last")
    for name in ("head.batch_mean", "head.batch_std", "image_stream.stem.1.running_var", "head.kernel"):
        torch.testing.assert_close(theirs[name], mine[name], rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.slow
def test_the_norms_of_both_processes_make_the_statistics(two):
    norms = [1.0, 2.0, 5.0, 12.0]
    for seen in two[1]:
        assert seen["statistics"] == pytest.approx([statistics.mean(norms), statistics.stdev(norms)])


@pytest.mark.slow
def test_sam_with_drop_path_takes_every_process_to_one_point(two):
    (first, second), run = two[1], Run(two[0] / "1")
    assert first["weights"] == second["weights"] and run.finished
    start = [seen["stages"][0][0] for seen in two[1]]
    masks = [seen["masks"][begin:] for seen, begin in zip(two[1], start, strict=True)]
    assert len(masks[0]) == len(masks[1]) > 0 and len(masks[0][0]) == 4
    assert masks[0] != masks[1]
    assert 0.3 < statistics.mean(kept for mask in masks[0] for kept in mask) < 0.7


@pytest.mark.slow
def test_processes_share_one_folder(two):
    assert [seen["stages"][0][2] for seen in two[1]] == [str(two[0] / "0")] * 2
