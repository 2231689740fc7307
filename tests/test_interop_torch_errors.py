"""What fit(module, …) does not support is refused by name, before anything moves."""

import copy
from functools import partial

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch_loop import data, network, nn, numbers, optim, torch

from briskmlp.interop.torch import fit

pytestmark = pytest.mark.torch
X, Y = data()
LABELS = data(targets="labels")[1]


def sequential(*layers):
    return nn.Sequential(*layers).double()


class Doubled(nn.Linear):
    def forward(self, X):
        return 2 * super().forward(X)


def tied():
    module = sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    return module


def changed(change):
    """Return a module after a change of it."""
    module = network(nn.Tanh())
    change(module)
    return module


def mixed():
    return nn.Sequential(nn.Linear(4, 3).double(), nn.Linear(3, 3).float())


def set_weight(module, tensor):
    module[0].weight = nn.Parameter(tensor)


def overlapping():
    module, memory = network(nn.Tanh()), torch.zeros(8).double()
    module[0].bias, module[2].bias = nn.Parameter(memory[:6]), nn.Parameter(memory[5:])
    return module


def inferred():
    with torch.inference_mode():
        return network(nn.Tanh())


MODULES = {
    r"module's node mul, mul\(2, linear\), is not supported": lambda: Doubled(4, 3).double(),
    "module's layer 1 is a PReLU": lambda: network(nn.PReLU()),
    "module's layer 1 is a BatchNorm2d": lambda: network(nn.BatchNorm2d(6)),
    "module's layer 1.0 is a Softshrink": lambda: network(nn.Sequential(nn.Softshrink())),
    "module has no Linear": lambda: sequential(nn.Flatten()),
    "module's layer 0, ReLU.., comes before the first Linear": lambda: sequential(nn.ReLU(), nn.Linear(4, 3)),
    "module's layer 0, Dropout.*, comes before": lambda: sequential(nn.Dropout(0.1), nn.Linear(4, 3)),
    "module's layer 2, Sigmoid.., follows another activation, relu": lambda: sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Sigmoid()
    ),
    "layer 1, Softmax.dim=1., is in a hidden layer": lambda: network(nn.Softmax(1)),
    "Softmax.dim=0., is not over the neurons": lambda: network(nn.Tanh(), nn.Softmax(0)),
    r"layer 1, LeakyReLU\(negative_slope=-0\.1\), is not supported": lambda: network(nn.LeakyReLU(-0.1)),
    r"layer 1, CELU\(alpha=-2\), is not supported: alpha": lambda: network(nn.CELU(-2)),
    r"layer 1, Softplus\(beta=1\.0, threshold=1\), is not supported": lambda: network(nn.Softplus(threshold=1)),
    "module ends in Dropout": lambda: network(nn.Tanh(), nn.Dropout(0.1)),
    "layer 1, Dropout.* drops everything": lambda: network(nn.Dropout(1.0)),
    "layer 1.1, Tanh.., follows a Dropout": lambda: network(nn.Sequential(nn.Dropout(0.1), nn.Tanh())),
    r"layer 1, Linear.*, takes rows, \(5, 4\), but it gets \(20,\) of a batch of X of shape .5, 4": lambda: sequential(
        nn.Flatten(0), nn.Linear(4, 3)
    ),
    "follows one with 5 outputs": lambda: sequential(nn.Linear(4, 5), nn.Linear(6, 3)),
    "2.weight is tied to 0.weight": tied,
    "1.weight has dtype torch.float32": mixed,
    "0.weight has dtype torch.bfloat16": lambda: network(nn.Tanh()).bfloat16(),
    "0.weight is on meta": lambda: network(nn.Tanh()).to("meta"),
    "2.bias is tied to 0.bias or overlaps it": overlapping,
    "0.weight was made in torch.inference_mode": inferred,
}
CHANGES = {  # of a module that is accepted
    "module's layer 1 has forward_hooks, which would not be called": lambda m: m[1].register_forward_hook(print),
    "module's layer 1 has forward, which would not be called": lambda m: setattr(m[1], "forward", print),
    "0.weight has hooks": lambda m: m[0].weight.register_hook(print),
    "0.bias has requires_grad=False": lambda m: m[0].bias.requires_grad_(False),
    "0.weight is an expanded tensor": lambda m: set_weight(m, torch.ones(1, 4).double().expand(6, 4)),
    "0.weight is an expanded tensor; accepted": lambda m: set_weight(
        m, torch.ones(9).double().as_strided((6, 4), (1, 1))
    ),
}
MODULES |= {message: partial(changed, change) for message, change in CHANGES.items()}


@pytest.mark.parametrize("message", MODULES)
def test_modules(message):
    module = MODULES[message]()
    with pytest.raises((TypeError, ValueError), match=message):
        fit(module, nn.MSELoss(), optim.SGD(module.parameters(), 0.1) if list(module.parameters()) else None, X, Y,
            epochs=1, batch_size=5)  # fmt: skip


def test_views_of_one_buffer_that_do_not_overlap():
    module, memory = network(nn.Tanh()), torch.zeros(9).double()
    module[0].bias, module[2].bias = nn.Parameter(memory[3:]), nn.Parameter(memory[:3])
    fit(module, nn.MSELoss(), optim.SGD(module.parameters(), 0.1), X, Y, epochs=1, batch_size=5)
    assert (memory != 0).all()


def test_inference_mode():
    module = network(nn.Tanh())
    with torch.inference_mode(), pytest.raises(ValueError, match=r"fit is called in torch\.inference_mode"):
        fit(module, nn.MSELoss(), optim.Adam(module.parameters()), X, Y, epochs=1, batch_size=5)


def test_what_is_no_module():
    with pytest.raises(TypeError, match="module is a list"):
        fit([], nn.MSELoss(), None, X, Y, epochs=1, batch_size=5)


def refused(message, module=None, loss_fn=None, optimizer=None, X=X, Y=Y, last=(), **arguments):
    """Call fit, which refuses with this message and leaves module and optimizer as they were."""
    module = network(nn.Tanh(), *last) if module is None else module
    optimizer = optim.Adam(module.parameters()) if optimizer is None else optimizer(module)
    before = copy.deepcopy(numbers(module, optimizer))
    with pytest.raises((TypeError, ValueError), match=message):
        fit(module, loss_fn or nn.MSELoss(), optimizer, X, Y, **{"epochs": 1, "batch_size": 5, **arguments})
    np.testing.assert_equal(numbers(module, optimizer), before)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (nn.modules.module.register_module_forward_hook, r"torch\.nn has global_forward_hooks"),
        (register_optimizer_step_pre_hook, "torch.optim has global_optimizer_pre_hooks"),
    ],
)
def test_hooks_of_all(register, message):
    handle = register(lambda *args: None)
    try:
        refused(message)
    finally:
        handle.remove()


def with_buffer(buffer):
    """Return what makes an SGD with momentum, of which the first buffer is this."""

    def make(module):
        optimizer = optim.SGD(module.parameters(), 0.1, momentum=0.9)
        optimizer.state[module[0].weight]["momentum_buffer"] = buffer
        return optimizer

    return make


def hooked(module):
    optimizer = optim.Adam(module.parameters())
    optimizer.register_step_pre_hook(lambda *args: None)
    return optimizer


def stepped_in_part(module):
    optimizer = optim.Adam(module.parameters())
    module[0].weight.grad = torch.ones_like(module[0].weight)
    optimizer.step()
    return optimizer


def with_different_products(module):
    optimizer = optim.NAdam(module.parameters())
    nn.MSELoss()(module(X), Y).backward()
    optimizer.step()
    optimizer.state[module[0].weight]["mu_product"].fill_(0.5)
    return optimizer


with torch.inference_mode():
    INFERRED = torch.zeros(6, 4).double()
OPTIMIZERS = {
    "optimizer is a Rprop": lambda m: optim.Rprop(m.parameters()),
    "optimizer has capturable=True": lambda m: optim.NAdam(m.parameters(), capturable=True),
    "optimizer has maximize=True": lambda m: optim.SGD(m.parameters(), 0.1, maximize=True),
    "optimizer has differentiable=True": lambda m: optim.SGD(m.parameters(), 0.1, differentiable=True),
    "optimizer does not have the module's 2.bias": lambda m: optim.Adam(list(m.parameters())[:-1]),
    "optimizer has 1 parameters that are not the module's": lambda m: optim.Adam(
        [*m.parameters(), nn.Parameter(torch.zeros(1))]
    ),
    "optimizer has lr=tensor.*of torch.float32, but the module is of torch.float64": lambda m: optim.Adam(
        m.parameters(), lr=torch.tensor(0.01)
    ),
    "optimizer has betas=tensor": lambda m: optim.Adam(
        m.parameters(), lr=torch.tensor(0.01).double(), betas=(torch.tensor(0.9), torch.tensor(0.99)), capturable=False
    ),
    "optimizer's groups differ in beta1; accepted: in lr and weight_decay": lambda m: optim.Adam(
        [{"params": m[0].parameters()}, {"params": m[2].parameters(), "betas": (0.8, 0.999)}]
    ),
    "optimizer has optimizer_step_pre_hooks": hooked,
    "optimizer's parameters have seen .0, 1. steps": stepped_in_part,
    "optimizer's parameters have different mu_product": with_different_products,
    "optimizer's momentum_buffer of 0.weight has another shape, dtype or device": with_buffer(torch.zeros(6, 4)),
    "optimizer's momentum_buffer of 0.weight was made in inference mode": with_buffer(INFERRED),
}
SIGMOID_LOSSES = {  # of a module that ends in a sigmoid
    "loss_fn is SoftMarginLoss": nn.SoftMarginLoss(),
    "loss_fn is <function soft_margin_loss": nn.functional.soft_margin_loss,
    "loss_fn has reduction='none'": nn.MSELoss(reduction="none"),
    "CrossEntropyLoss, but the module ends in sigmoid; accepted: one that ends in a Linear": nn.CrossEntropyLoss(),
    "BCEWithLogitsLoss, but the module ends in sigmoid": nn.BCEWithLogitsLoss(),
    "loss_fn has a weight that differs between outputs": nn.BCELoss(weight=torch.tensor([1.0, 2.0, 3.0])),
    "loss_fn has a weight below 0": nn.BCELoss(weight=torch.tensor(-1.0)),
}
LOSSES = {  # of one that ends in a Linear, and targets
    "BCELoss, but the module ends in identity; accepted: one that ends in sigmoid": (nn.BCELoss(), Y.sigmoid()),
    "label_smoothing=0.1 and weight; accepted: one, or reduction='sum'": (
        nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1),
        LABELS,
    ),
    "Y has rows of ignore_index=0, which is not supported; leave them": (nn.CrossEntropyLoss(ignore_index=0), LABELS),
    "loss_fn has log_input=False": (nn.PoissonNLLLoss(log_input=False), Y.exp()),
    "loss_fn has full=True": (nn.PoissonNLLLoss(full=True), Y.exp()),
    "Y has -.* targets of this loss must be 0 or more": (nn.PoissonNLLLoss(), Y),
    "loss_fn has beta=-1.0; accepted: a finite number": (nn.SmoothL1Loss(beta=-1.0), Y),
    "Y has label -100 at row 0": (nn.CrossEntropyLoss(), torch.full((23,), -100)),
    "loss_fn has a weight below 0 or not finite": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, -1.0, 1.0])), LABELS),
    "every row of Y the weight 0": (nn.CrossEntropyLoss(weight=torch.zeros(3)), LABELS),
    "pos_weight, which is not supported with 3 outputs": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 1.0])), Y.sigmoid(),
    ),
    r"Y has shape \(23, 3, 1\); accepted: labels": (nn.CrossEntropyLoss(), Y[:, :, None]),
    "Y has .* targets of this loss must be from 0 to 1": (nn.BCEWithLogitsLoss(), Y),
}  # fmt: skip
OTHER = optim.SGD(network(nn.Tanh()).parameters(), 0.1)
REFUSED = {
    **{message: {"optimizer": make} for message, make in OPTIMIZERS.items()},
    **{message: {"last": [nn.Sigmoid()], "loss_fn": of, "Y": Y.sigmoid()} for message, of in SIGMOID_LOSSES.items()},
    **{message: {"loss_fn": loss_fn, "Y": targets} for message, (loss_fn, targets) in LOSSES.items()},
    "L1Loss, but the module ends in softmax": {"last": [nn.Softmax(1)], "loss_fn": nn.L1Loss()},
    "epochs is 0": {"epochs": 0},
    "batch_size is 0": {"batch_size": 0},
    r"Y has shape \(23,\), but must have the shape of the outputs, \(23, 3\)": {"Y": Y[:, 0]},
    r"layer 0, Linear.*, takes rows, \(5, 4\), but it gets \(5, 2, 2\) of a batch of X": {"X": X.reshape(23, 2, 2)},
    "X has nan at row 0": {"X": X * torch.nan},
    "X is on meta": {"X": X.to("meta")},
    "X has requires_grad=True, but would get no gradient": {"X": X.clone().requires_grad_()},
    "Y has dtype torch.bfloat16, which NumPy does not have": {"Y": Y.bfloat16()},
    "order is given and shuffle is True": {"order": [range(23)], "shuffle": True},
    "generator is given, but shuffle is False": {"generator": torch.Generator()},
    "order has 2 epochs, but epochs is 1": {"order": [np.arange(3), np.arange(3)]},
    r"order\[0\] has 1 to 23; accepted: 0 to 22": {"order": [torch.arange(1, 24)]},
    r"order\[0\] is int64 of shape \(24,\); accepted: integers, \(m,\) with m from 1 to 23": {"order": [[0] * 24]},
    r"order\[0\] is float": {"order": [[0.5]]},
    "drop_last leaves no batch of 23 rows": {"drop_last": True, "batch_size": 24},
    "scheduler is a int; accepted: a torch.optim.lr_scheduler": {"scheduler": 3},
    "scheduler is of another optimizer": {"scheduler": optim.lr_scheduler.StepLR(OTHER, 1)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_arguments(message):
    refused(message, **REFUSED[message])


def test_one_class():
    module = network(nn.Tanh(), n_out=1)
    refused("the module has 1 output; accepted: 2 or more", module, nn.CrossEntropyLoss(), Y=torch.zeros(23).long())
