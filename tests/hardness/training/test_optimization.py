"""Schedules, batches and options that every regimen shares."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from hardness.dynamics.record import Diverged
from hardness.training.optimization import (
    autocast,
    batches,
    check_finite,
    learning_rate,
    optimizer,
    prepare,
)
from hardness.training.options import TrainOptions

STEPS = (1, 2, 3, 4, 7, 10, 100)
CPU = torch.device("cpu")


def of_torch(schedule, steps, lr):
    """Learning rates that torch's own scheduler gives, one a step."""
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=lr)
    scheduler = schedule(sgd)
    rates = []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if len(rates) < steps:
            scheduler.step()
    return rates


def ours(schedule, steps, lr):
    options = TrainOptions(schedule=schedule, lr=lr)
    return [learning_rate(step, steps, options) for step in range(steps)]


@pytest.mark.parametrize("steps", STEPS)
def test_cosine_agrees_with_torch(steps):
    expected = of_torch(lambda sgd: CosineAnnealingLR(sgd, T_max=steps), steps, 0.3)
    assert ours("cosine", steps, 0.3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", STEPS)
def test_one_cycle_agrees_with_torch_without_its_momentum(steps):
    expected = of_torch(
        lambda sgd: OneCycleLR(sgd, max_lr=0.3, total_steps=steps, cycle_momentum=False), steps, 0.3
    )
    assert ours("one_cycle", steps, 0.3) == pytest.approx(expected, rel=1e-9)


def test_one_cycle_rises_for_three_tenths_of_the_steps():
    rates = ours("one_cycle", 100, 0.5)
    assert rates.index(max(rates)) == 29
    assert max(rates) == 0.5
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[-1] == pytest.approx(0.5 / 25e4)


def test_constant_stays():
    assert ours("constant", 5, 0.3) == [0.3] * 5


@given(n=st.integers(1, 60), size=st.integers(2, 70), seed=st.integers(0, 5))
def test_batches_cover_the_order_and_none_is_a_single_sample(n, size, seed):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    cut = batches(order, size)
    assert torch.equal(torch.cat(cut), order)
    lengths = [len(batch) for batch in cut]
    assert all(length == size for length in lengths[:-1])
    assert lengths[-1] <= size + 1
    assert min(lengths) > 1 or n == 1


def test_a_last_single_joins_its_neighbor():
    assert [b.tolist() for b in batches(torch.arange(7), 3)] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [b.tolist() for b in batches(torch.arange(8), 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [b.tolist() for b in batches(torch.arange(1), 3)] == [[0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 0}, "max_epochs: expected at least 1; got 0"),
        ({"batch_size": -1}, "batch_size: expected at least 1; got -1"),
        ({"threads": 0}, "threads: expected at least 1; got 0"),
        ({"lr": 0.0}, "lr: expected a positive number; got 0.0"),
        ({"lr": float("inf")}, "lr: expected a positive number; got inf"),
        ({"lr": float("nan")}, "lr: expected a positive number; got nan"),
        ({"weight_decay": -1e-9}, "weight_decay: expected 0 or more; got -1e-09"),
        ({"weight_decay": float("nan")}, "weight_decay: expected 0 or more; got nan"),
        ({"momentum": 1.0}, "momentum: expected a number in [0, 1); got 1.0"),
        ({"momentum": float("nan")}, "momentum: expected a number in [0, 1); got nan"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainOptions(**options)


def test_the_optimizer_takes_its_numbers_from_the_options():
    numbers: dict = {"lr": 0.25, "weight_decay": 0.125}
    sgd = optimizer(nn.Linear(2, 2), TrainOptions(**numbers, momentum=0.5)).param_groups[0]
    assert (sgd["lr"], sgd["weight_decay"], sgd["momentum"], sgd["nesterov"]) == (
        0.25,
        0.125,
        0.5,
        True,
    )
    still = optimizer(nn.Linear(2, 2), TrainOptions(momentum=0.0)).param_groups[0]
    assert not still["nesterov"]
    adamw = optimizer(nn.Linear(2, 2), TrainOptions(**numbers, optimizer="adamw"))
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["weight_decay"]) == (0.25, 0.125)


def test_a_process_is_prepared_whatever_ran_in_it_before():
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(mode=False)
    prepare(TrainOptions(), CPU)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    prepare(TrainOptions(deterministic=False), CPU)
    assert not torch.are_deterministic_algorithms_enabled()


def test_precision_is_that_of_the_options():
    x, layer = torch.ones(1, 2), nn.Linear(2, 2)
    with autocast(TrainOptions(precision="bf16"), CPU):
        assert layer(x).dtype == torch.bfloat16
    with autocast(TrainOptions(), CPU):
        assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stops_the_run_by_name_and_epoch(value):
    with pytest.raises(Diverged, match=f"the training loss became {value} in epoch 3"):
        check_finite(value, "the training loss", 3)


def test_finite_numbers_pass():
    check_finite(1e308, "the training loss", 0)
