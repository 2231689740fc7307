"""What no chain of layers is: refused with the name of the node or layer, and nothing has changed."""

import copy
import random

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn import functional as F
from torch_loop import data, nn, numbers, optim, torch
from torch_modules import Modes, Net, built, net

from briskmlp.interop.torch import fit

pytestmark = pytest.mark.torch
X, Y = data()


class Two(Modes):
    def forward(self, X, other):
        return super().forward(X) + other


class Called(Modes):
    def __call__(self, X):
        return 2 * super().__call__(X)


class Changing(Modes):
    """Writes to a tensor, or draws random numbers, in a forward that else is a chain."""

    def __init__(self, change):
        super().__init__()
        self.register_buffer("counter", torch.zeros(2))
        self.change = change

    def forward(self, X):
        self.change(self)
        return super().forward(X)


def changing(change):
    return built(Changing, change)


def rebind(module):
    module.counter = module.counter + 1


def new_layer(module):
    module.fc1 = nn.Identity()


def without_gradients(m, X):
    with torch.no_grad():
        H = m.fc1(X)
    return m.fc2(H)


def in_bfloat16(m, X):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.fc2(m.fc1(X))


def used_and_changed(m, X):
    H = m.fc1(X)
    H.relu_()
    return m.fc2(H)


def hooked_inside():
    module = net(lambda m, X: m.net(X), net=nn.Sequential(nn.Linear(4, 3)))()
    module.net.register_forward_hook(lambda *args: None)
    return module


def hooked(m, X):
    H = m.fc1(X)
    H.register_hook(lambda gradient: 2 * gradient)
    return m.fc2(H)


def auxiliary(m, X):
    H = m.fc1(X)
    m.other(H)
    return m.fc2(H)


def scripted():
    return torch.jit.script(nn.Sequential(nn.Linear(4, 3)).double())


ACTIVE = nn.Dropout(0.5)
OTHER, EMBEDDING, CONSTANT = nn.Linear(6, 3), nn.Embedding(3, 2), torch.ones(6)
# by their messages
MODULES = {
    # not one value after another
    r"node add, add\(fc2, x\), takes fc2 and x, which, like a skip connection, is not supported; train": net(
        lambda m, X: m.fc2(m.fc1(X)) + X, n_out=4
    ),
    r"node fc2, fc2\(x\), takes x, which fc1 takes as well: a branch": net(
        lambda m, X: m.fc1(X) + m.fc2(X), n_hidden=4, n_out=4
    ),
    r"node cat, cat\(\[fc1, x\], dim=1\), takes fc1 and x": net(lambda m, X: m.fc2(torch.cat([m.fc1(X), X], dim=1))),
    r"module's forward takes \(X, other\); accepted: one input": built(Two),
    r"module's forward returns \(fc2, fc1\); accepted: one tensor": net(lambda m, X: (m.fc2(H := m.fc1(X)), H)),
    "module's forward returns None": net(lambda m, X: None),
    "module's forward returns {'out': fc2}": net(lambda m, X: {"out": m.fc2(m.fc1(X))}),
    "module's forward returns size, but its last layer computes fc2": net(lambda m, X: m.fc2(m.fc1(X)).size(0)),
    r"node other, other\(fc1\), is computed, but not returned": net(auxiliary, other=OTHER),
    r"node relu_, relu_\(fc1\), is computed, but not returned": net(used_and_changed),
    r"H.register_hook.*argument of type: <class .function.>": net(hooked),
    r"node sqrt, sqrt\(size\), does not depend on X": net(lambda m, X: m.fc2(m.fc1(X)) / torch.sqrt(X.size(1))),
    r"node mul, mul\(fc1, 2\), is not supported; accepted: Linear": net(lambda m, X: m.fc2(m.fc1(X) * 2)),
    r"node truediv, truediv\(x, 255\), is not supported": net(lambda m, X: m.fc2(m.fc1(X / 255))),
    r"node sub, sub\(x, a_tensor\), is not supported": net(lambda m, X: m.fc2(m.fc1(X - CONSTANT[:4]))),
    r"node clamp, clamp\(fc1, min=0\), is not supported": net(lambda m, X: m.fc2(m.fc1(X).clamp(min=0))),
    r"node normalize, normalize\(x, .* in layer net.0, is not supported": net(
        lambda m, X: m.fc2(m.net(X)), net=nn.Sequential(Net(lambda m, X: m.fc1(F.normalize(X)), n_out=1))
    ),
    r"node transpose, transpose\(fc1, 0, 1\), is not supported": net(lambda m, X: m.fc2(m.fc1(X).transpose(0, 1))),
    r"node detach, detach\(fc1\), is not supported": net(lambda m, X: m.fc2(m.fc1(X).detach())),
    r"node linear, linear\(fc1, a_tensor\), is not supported; accepted: parameters of the module": net(
        lambda m, X: F.linear(m.fc1(X), 2 * m.fc2.weight)
    ),
    r"node batch_norm, .* is not supported": net(lambda m, X: m.fc2(F.batch_norm(m.fc1(X), None, None, training=True))),
    r"module's layer norm, LayerNorm.*, has shape \(2, 3\); accepted: \(6,\)": net(
        lambda m, X: m.fc2(m.norm(m.fc1(X))), norm=nn.LayerNorm((2, 3))
    ),
    "module's layer 1 is a ParametrizedLinear": lambda: nn.Sequential(
        nn.Tanh(), torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    ),
    r"module's layer 0, LazyLinear.*, has no parameters yet; call the module once": lambda: nn.Sequential(
        nn.LazyLinear(3)
    ),
    "module is a RecursiveScriptModule": scripted,
    "module is a Called": built(Called),
    # one of each
    r"node relu, relu\(x, inplace=False\), comes before the first Linear": net(lambda m, X: m.fc2(m.fc1(F.relu(X)))),
    r"node sigmoid, sigmoid\(relu\), follows another activation, relu": net(
        lambda m, X: m.fc2(torch.sigmoid(torch.relu(m.fc1(X))))
    ),
    r"node softmax, .* is in a hidden layer, which is not supported": net(lambda m, X: m.fc2(m.fc1(X).softmax(1))),
    r"node log_softmax, .* is in a hidden layer": net(lambda m, X: m.fc2(F.log_softmax(m.fc1(X), dim=1))),
    r"node softmax, softmax\(fc2, 0\), is not over the neurons of a row; accepted: dim=1": net(
        lambda m, X: m.fc2(m.fc1(X)).softmax(0)
    ),
    r"node softmax, .* computes in another dtype": net(lambda m, X: F.softmax(m.fc2(m.fc1(X)), 1, dtype=torch.float32)),
    r"module's layer drop2, Dropout.p=0.5.*, follows another Dropout": net(
        lambda m, X: m.fc2(m.drop2(m.drop1(m.fc1(X)))), drop1=ACTIVE, drop2=ACTIVE
    ),
    r"node tanh, tanh\(drop\), follows a Dropout, which is not supported; put Dropout after it": net(
        lambda m, X: m.fc2(torch.tanh(m.drop(m.fc1(X)))), drop=ACTIVE
    ),
    r"node log_softmax, .*, follows a Dropout": net(
        lambda m, X: F.log_softmax(m.drop(m.fc2(m.fc1(X))), dim=1), drop=ACTIVE
    ),
    r"node dropout, dropout\(x, p=0.5.*, comes before the first Linear": net(lambda m, X: m.fc2(m.fc1(F.dropout(X)))),
    r"module ends in Dropout, module's node dropout, .*; accepted: after hidden": net(
        lambda m, X: F.dropout(m.fc2(m.fc1(X)), 0.2)
    ),
    r"node dropout, .* drops everything; accepted: p below 1": net(lambda m, X: m.fc2(F.dropout(m.fc1(X), 1.0))),
    r"node leaky_relu, .* is not supported: negative_slope": net(lambda m, X: m.fc2(F.leaky_relu(m.fc1(X), -0.1))),
    r"node gelu, .* is not supported: approximate is 'exact'": net(
        lambda m, X: m.fc2(F.gelu(m.fc1(X), approximate="exact"))
    ),
    r"node leaky_relu, .* has an argument that depends on X": net(
        lambda m, X: m.fc2(F.leaky_relu(m.fc1(X), X.size(0)))
    ),
    # shapes and dtypes
    r"node view, view\(x, 3, -1\), cannot be computed of a batch of X of shape \(5, 4\): shape": net(
        lambda m, X: m.fc2(m.fc1(X.view(3, -1)))
    ),
    r"node getitem, getitem\(fc2, .* makes \(5,\) of \(5, 3\), which is not supported; accepted: another shape": net(
        lambda m, X: m.fc2(m.fc1(X))[:, 0]
    ),
    r"layer fc2, Linear.*, takes rows, \(5, 6\), but it gets \(30,\) of a batch of X of shape \(5, 4\)": net(
        lambda m, X: m.fc2(m.fc1(X).view(-1))
    ),
    r"module makes \(15,\) of a batch of X of shape \(5, 4\); accepted: outputs \(5, .\)": net(
        lambda m, X: m.fc2(m.fc1(X)).flatten()
    ),
    r"node softmax, .* gets a batch of shape \(5, 1, 3\); accepted: rows": net(
        lambda m, X: m.fc2(m.fc1(X)).unsqueeze(1).softmax(-1)
    ),
    r"node softmax, .* gets a batch of shape \(3, 5\); accepted: rows": net(
        lambda m, X: m.fc2(m.fc1(X)).view(3, -1).softmax(-1).view(-1, 3)
    ),
    "module's forward cannot be traced: argument of type: <class 'object'>": net(lambda m, X: object()),
    "module's layer net has forward_hooks, which would not be called": hooked_inside,
    r"node size_1, size\(x, 7\), cannot be computed of a batch of X": net(
        lambda m, X: m.fc2(m.fc1(X.view(X.size(0), -1))).view(X.size(7))
    ),
    r"node float_1, float\(x\), changes the dtype; accepted: that of the parameters, torch.float64": net(
        lambda m, X: m.fc2(m.fc1(X.float()))
    ),
    r"node to, to\(fc2, torch.bfloat16\), changes the dtype": net(lambda m, X: m.fc2(m.fc1(X)).to(torch.bfloat16)),
    r"node to, to\(x, cuda\), is not supported; accepted: the CPU": net(lambda m, X: m.fc2(m.fc1(X.to("cuda")))),
    # what depends on X
    r"traced at .*test_interop_torch_no_chains.py:\d+, `.*X.sum.*`: gt decides what is computed, but depends on X": net(
        lambda m, X: m.fc2(m.fc1(X)) if X.sum() > 0 else m.fc2(-m.fc1(X))
    ),
    "forward cannot be traced at .*: eq decides what is computed, but depends on the number of rows": net(
        lambda m, X: m.fc2(m.fc1(X if X.size(0) % 2 == 0 else -X))
    ),
    "forward cannot be traced at .*: gt decides what is computed, but depends on X": net(
        lambda m, X: m.fc2(H if (H := m.fc1(X)).dim() > 1 else -H)
    ),
    r"node decided, decided\(bool, lt, True\), cannot be computed of a batch of X .*: .* where this is True": net(
        lambda m, X: m.fc2(m.fc1(X if X.size(0) < 5 else -X))
    ),
    r"traced at .*len.X.*: the length of x decides what is computed, but depends on the number": net(
        lambda m, X: m.fc2(m.fc1(X.view(len(X), -1)))
    ),
    r"traced at .*for row in X.*: the length of x decides what is computed, but depends on the number": net(
        lambda m, X: torch.stack([m.fc2(m.fc1(row)) for row in X])
    ),
    "forward cannot be traced at .*: 'Net' object has no attribute 'fc3'": net(lambda m, X: m.fc3(X)),
    # what else forward does
    "cannot be traced at .*: module's node fc1, fc1.x., computes without gradients": net(without_gradients),
    "cannot be traced at .*: module's node fc1, fc1.x., computes in torch.autocast": net(in_bfloat16),
    "cannot be traced at .*: aten.add_.Tensor writes to a tensor": changing(lambda m: m.counter.add_(1)),
    "cannot be traced at .*: aten.clamp_.default writes to a tensor": changing(
        lambda m: m.fc1.weight.data.clamp_(-1, 1)
    ),
    "cannot be traced at .*: aten.rand.default draws random numbers": changing(lambda m: torch.rand(2)),
    "module's forward draws or seeds random numbers": changing(lambda m: random.random()),
    "module's forward draws or seeds random numbers; acc": changing(lambda m: torch.manual_seed(1)),
    "module's forward draws or seeds random numbers; accepted: Dropout": changing(
        lambda m: np.random.rand()  # noqa: NPY002
    ),
    "module's forward sets its buffers, which is not supported; take this out": changing(rebind),
    "module's forward sets its modules": changing(new_layer),
    "module's forward sets layer fc1's buffers": changing(lambda m: m.fc1.register_buffer("mask", torch.ones(6))),
    "module's forward sets layer fc2's parameters": changing(lambda m: setattr(m.fc2, "weight", m.fc1.weight)),
}


def state(module):
    """Return what must not change: tensors, attributes, and random states."""
    attributes = [dict(vars(layer)) for layer in module.modules()]
    inside = [{name: str(value) for name, value in each.items()} for each in attributes]
    identities = [{name: id(value) for name, value in each.items()} for each in attributes]
    randoms = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    return inside, identities, randoms


@pytest.mark.parametrize("message", MODULES)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_modules(message):
    module = MODULES[message]()
    optimizer = optim.Adam(module.parameters())
    before, tensors = state(module), copy.deepcopy(numbers(module, optimizer)) if "Lazy" not in message else {}
    with pytest.raises((TypeError, ValueError), match=message):
        fit(module, nn.MSELoss(), optimizer, X, Y, epochs=1, batch_size=5)
    assert state(module) == before
    np.testing.assert_equal(numbers(module, optimizer) if tensors else {}, tensors)
