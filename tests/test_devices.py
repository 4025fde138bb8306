"""--gpu counts the devices that this process may see, in training and in testing; what cannot be is one sentence."""

import subprocess

import pytest
import torch

from poster_ada import train as train_command
from poster_ada.devices import choose_device, gpu_numbers, visible_to_children
from poster_ada.errors import InputError


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_the_nth_visible_device_is_chosen(two_gpus):
    assert choose_device() == torch.device("cuda", 0)
    assert choose_device(gpu="1") == torch.device("cuda", 1) == choose_device(gpu="1,0")
    assert choose_device("cpu", gpu="1") == torch.device("cpu")
    assert choose_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(InputError, match="there is no GPU 2; torch sees 2, counted from 0"):
        choose_device(gpu="0,2")


def test_float32_is_float32_on_a_gpu(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    choose_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    choose_device()
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("text", ["first", "0,", "-1", "0,0", "1.5", ",", "0;1"])
def test_what_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(InputError, match="is not a list of GPU numbers such as 0 or 0,1"):
        gpu_numbers(text)


def test_without_a_gpu_the_cpu_is_used_and_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(gpu="0").type == "cpu" and "torch sees no GPU here" in capsys.readouterr().err
    assert choose_device().type == "cpu" and capsys.readouterr().err == ""
    with pytest.raises(InputError, match="torch sees no GPU here"):
        choose_device("cuda")


def test_apples_gpu_is_never_picked_by_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device().type == "cpu"


def test_a_schedulers_devices_are_dealt_out_not_overwritten(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert visible_to_children([0, 1]) == "2,3" and visible_to_children([1]) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb")
    assert visible_to_children([1, 0]) == "GPU-bb,GPU-aa"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_to_children([0, 1]) == "0,1"


def test_several_gpus_start_a_process_each_with_flags_that_torchrun_understands(two_gpus, monkeypatch, tmp_path):
    from torch.distributed.run import get_args_parser

    started = {}

    def run(command, env, check):
        started.update(command=command, env=env)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(train_command.subprocess, "run", run)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for folder in (["--run", str(tmp_path)], [f"--run={tmp_path}"], ["--run-dir", str(tmp_path)]):
        with pytest.raises(SystemExit) as stopped:
            train_command.main(["--gpu", "1,0", "--batch_size", "200", *folder])
        assert stopped.value.code == 3  # the children's
        assert started["env"]["CUDA_VISIBLE_DEVICES"] == "3,2"
        parsed = get_args_parser().parse_args(started["command"][3:])
        assert parsed.nproc_per_node == "2" and parsed.training_script == "poster_ada.train" and parsed.module
        given = train_command.parser().parse_args(parsed.training_script_args)
        assert given.run_dir == str(tmp_path) and given.batch_size == 200 and given.gpu == "1,0"
