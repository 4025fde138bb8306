"""SAM: the published steps, and its rule by hand."""

import pytest
import torch
from golden_recipe import golden

from poster_ada.training.losses import recipe_loss
from poster_ada.training.sam import Sam


def test_sam_around_adam_reproduces_the_published_steps():
    expected = golden("sam_adam")
    linear = torch.nn.Linear(5, 7)
    linear.weight.data, linear.bias.data = expected["weight0"].clone(), expected["bias0"].clone()
    optimizer = torch.optim.Adam(linear.parameters(), 1e-2)
    scheduler, sam = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98), Sam(optimizer)
    for step in range(5):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected["lrs"][step].item(), rel=1e-12)
        losses = []
        for move in (sam.ascend, sam.descend):
            loss = recipe_loss(linear(expected["x"]), expected["y"])
            loss.backward()
            move()
            losses.append(loss.detach().double())
        scheduler.step()
        torch.testing.assert_close(torch.stack(losses), expected["losses"][step], atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.weight.detach(), expected["weights"][step], atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.bias.detach(), expected["biases"][step], atol=1e-6, rtol=0)


def test_a_step_by_hand_and_a_parameter_without_a_gradient():
    x, unused = torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([x, unused], 0.1)
    sam = Sam(optimizer, rho=0.5)
    (x**2).sum().backward()  # gradient (6, 8): the climb goes by 0.5 along (0.6, 0.8)
    sam.ascend()
    torch.testing.assert_close(x.detach(), torch.tensor([3.3, 4.4]))
    assert x.grad is None
    (x**2).sum().backward()  # there the gradient is (6.6, 8.8), and the step starts at (3, 4)
    sam.descend()
    torch.testing.assert_close(x.detach(), torch.tensor([3 - 0.66, 4 - 0.88]))
    assert x.grad is None and unused.item() == 1.0
    (x**2).sum().backward()
    before = x.detach().clone()
    sam.descend()  # without a climb, the plain step
    torch.testing.assert_close(x.detach(), 0.8 * before)


def test_the_climb_is_as_long_as_rho_over_all_parameters_and_survives_a_flat_place():
    parts = [torch.nn.Parameter(torch.randn(4, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2)]
    before = [part.detach().clone() for part in parts]
    sam = Sam(torch.optim.SGD(parts, 0.1))
    sum((part**3).sum() for part in parts).backward()
    sam.ascend()
    moved = torch.cat([part.detach() - start for part, start in zip(parts, before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.05, rel=1e-5)
    flat = torch.nn.Parameter(torch.tensor([2.0]))
    sam = Sam(torch.optim.SGD([flat], 0.1))
    (0 * flat).sum().backward()
    sam.ascend()
    assert flat.item() == 2.0
    (1e-12 * flat).sum().backward()  # as small as what keeps the length from being 0
    sam.ascend()
    assert flat.item() == pytest.approx(2.025)
