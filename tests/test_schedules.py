"""The schedules against PyTorch's and scikit-learn's formulas, and what they refuse."""

import math

import pytest

from briskmlp.schedules import SCHEDULES, Constant, Cosine, InverseScaling, StepDecay


def test_each_is_a_schedule():
    made = [Constant(0.1), StepDecay(0.1, every=2), Cosine(0.1, epochs=5), InverseScaling(0.1)]
    assert {type(schedule).__name__ for schedule in made} == set(SCHEDULES)
    for schedule in made:
        assert schedule(0) == 0.1
        assert all(isinstance(schedule(epoch), float) for epoch in range(10))


def test_constant_stays():
    assert [Constant(0.3)(epoch) for epoch in (0, 1, 10**6)] == [0.3] * 3


def test_cosine_ends_at_its_final_rate_and_stays():
    schedule = Cosine(1.0, epochs=4, final=0.2)
    assert [schedule(epoch) for epoch in (0, 2)] == pytest.approx([1.0, 0.6])
    assert [schedule(epoch) for epoch in (4, 5, 100)] == pytest.approx([0.2] * 3)


def test_inverse_scaling_is_a_power():
    assert InverseScaling(2.0, power=1.0)(3) == 0.5
    assert InverseScaling(2.0, power=0.25)(15) == 1.0
    assert math.prod(InverseScaling(1.0)(epoch) for epoch in range(4)) == pytest.approx(24**-0.5)


@pytest.mark.torch
def test_pytorch_gives_the_same_rates():
    torch = pytest.importorskip("torch")
    kinds = torch.optim.lr_scheduler
    for ours, theirs in (
        (StepDecay(0.5, every=3, factor=0.3), lambda optimizer: kinds.StepLR(optimizer, 3, 0.3)),
        (Cosine(0.5, epochs=12, final=0.1), lambda optimizer: kinds.CosineAnnealingLR(optimizer, 12, 0.1)),
    ):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        scheduler = theirs(optimizer)
        for epoch in range(13):
            assert ours(epoch) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: Constant(-1.0), ValueError, "rate is -1.0"),
    (lambda: StepDecay(1.0, every=0), ValueError, "every is 0, but must be >= 1"),
    (lambda: StepDecay(1.0, every=1.5), TypeError, "every must be an integer, got 1.5"),
    (lambda: StepDecay(1.0, every=1, factor=-0.5), ValueError, "factor is -0.5"),
    (lambda: Cosine(1.0, epochs=0), ValueError, "epochs is 0"),
    (lambda: Cosine(1.0, epochs=3, final=-0.1), ValueError, "final is -0.1"),
    (lambda: InverseScaling("x"), TypeError, "rate must be a number, got 'x'"),
    (lambda: InverseScaling(1.0, power=float("inf")), ValueError, "power is inf"),
])  # fmt: skip
def test_bad_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
