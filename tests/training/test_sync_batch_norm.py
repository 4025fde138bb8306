"""Synchronised BatchNorm for CPU processes: torch's own layer where there is one process (many: test_processes.py)."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from poster_ada.training.sync_batch_norm import CpuSyncBatchNorm2d, synchronise


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_it_computes_what_batch_norm_does(one_process):
    torch.manual_seed(1)
    own = nn.BatchNorm2d(3, momentum=0.3)
    nn.init.uniform_(own.weight), nn.init.uniform_(own.bias)
    other = copy.deepcopy(own)
    other.__class__ = CpuSyncBatchNorm2d
    for _ in range(2):
        x = (2 * torch.randn(4, 3, 5, 5) + 1).requires_grad_()
        y = x.detach().clone().requires_grad_()
        (own(x) ** 3).sum().backward()
        (other(y) ** 3).sum().backward()
        torch.testing.assert_close(own(x), other(y))
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-3, atol=1e-4)
    for (name, mine), theirs in zip(own.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-4, atol=1e-4, msg=name)
    for (name, mine), theirs in zip(own.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(theirs, mine, msg=name)
    torch.testing.assert_close(other.eval()(x), own.eval()(x))


def test_it_computes_what_batch_norm_does_over_the_batches_of_two(monkeypatch):
    # The other process has the same faces, so every sum over processes is twice one's own.
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda total: total.mul_(2))
    torch.manual_seed(1)
    own, other = nn.BatchNorm2d(3, momentum=0.3), CpuSyncBatchNorm2d(3, momentum=0.3)
    x = (2 * torch.randn(4, 3, 2, 2) + 1).requires_grad_()
    y = x.detach().clone().requires_grad_()
    both = own(torch.cat((x, x.detach())))
    (both[:4] ** 3 + both[4:] ** 3).sum().backward()
    found = other(y)
    (found**3).sum().backward()
    torch.testing.assert_close(found, both[:4])
    torch.testing.assert_close(other.running_mean, own.running_mean)
    torch.testing.assert_close(other.running_var, own.running_var)
    torch.testing.assert_close(y.grad, x.grad, rtol=1e-3, atol=1e-4)


def test_narrower_activations_stay_so_and_are_summed_in_float32(one_process):
    own, other = nn.BatchNorm2d(3), CpuSyncBatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1)).bfloat16()
    expected, actual = own(x), other(x)
    assert actual.dtype == torch.bfloat16 and other.running_mean.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(other.running_var, own.running_var, rtol=1e-4, atol=1e-5)


def test_only_plain_batch_norms_are_made_synchronous():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm1d(4)))
    assert synchronise(model, torch.device("cpu")) is model
    assert [type(part) for part in (model[1], model[2][0], model[2][1])] == [
        CpuSyncBatchNorm2d, CpuSyncBatchNorm2d, nn.BatchNorm1d]
    model = nn.Sequential(nn.BatchNorm2d(4))
    assert isinstance(synchronise(model, torch.device("cuda"))[0], nn.SyncBatchNorm)
