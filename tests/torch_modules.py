"""Modules in the manners in which people write networks, in float64 and always with the same weights."""

import copy
from itertools import pairwise

from hypothesis import strategies as st
from torch.nn import functional as F
from torch_loop import nn, torch


class Net(nn.Module):
    """Two layers fc1 and fc2 and other submodules, with a forward that is given as a function of it and X."""

    def __init__(self, forward, n_out=3, n_hidden=6, **layers):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, n_hidden), nn.Linear(n_hidden, n_out)
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function, self.calls, self.seen = forward, 0, []

    def forward(self, X):
        return self.function(self, X)


def net(forward, **options):
    """Return what makes such a network, in float64 and always with the same weights."""

    def make():
        torch.manual_seed(3)
        layers = {name: copy.deepcopy(layer) for name, layer in options.items()}
        return Net(forward, **layers).double()

    return make


def mlp(*layers):
    """Return what makes a Sequential of copies of these layers."""

    def make():
        torch.manual_seed(3)
        module = nn.Sequential(*copy.deepcopy(layers))
        for layer in module.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        return module.double()

    return make


def built(kind, *args, **kwargs):
    """Return what makes a module of a class."""

    def make():
        torch.manual_seed(3)
        return kind(*args, **kwargs).double()

    return make


# --- classes whose constructors matter -------------------------------------------------------------------------------


class Loop(nn.Module):
    """A ModuleList, and one activation module used after each of its layers."""

    def __init__(self, widths, activation):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.activation = activation

    def forward(self, X):
        for layer in self.layers[:-1]:
            X = self.activation(layer(X))
        return self.layers[-1](X)


class Numbered(nn.Module):
    """Layers by their names, and by index."""

    def __init__(self):
        super().__init__()
        for i, (n_in, n_out) in enumerate([(4, 5), (5, 5), (5, 3)]):
            setattr(self, f"layer{i}", nn.Linear(n_in, n_out))
        self.activations = nn.ModuleDict({"a": nn.ELU(0.7), "b": nn.SiLU()})

    def forward(self, X):
        for i, name in enumerate(["a", "b"]):
            X = self.activations[name](getattr(self, f"layer{i}")(X))
        return self.layer2(X)


class Autoencoder(nn.Module):
    """An encoder and a decoder of images, both Sequentials."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 4), nn.Sigmoid())

    def forward(self, X):
        code = self.encoder(X)
        return self.decoder(code).view(X.size(0), 1, 2, 2)


class Block(nn.Module):
    """A layer with its activation and dropout, in evaluation mode."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear, self.activation, self.dropout = nn.Linear(n_in, n_out), nn.GELU(), nn.Dropout(0.3).eval()

    def forward(self, X):
        return self.dropout(self.activation(self.linear(X)))


class Blocks(nn.Module):
    """Blocks that a method makes, in a Sequential with names."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential()
        self.net.add_module("first", Block(4, 7))
        self.net.add_module("second", self.block(7, 5))
        self.head = nn.Linear(5, 3)

    def block(self, n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, n_out), nn.Tanh())

    def forward(self, X):
        return self.head(self.net(X))


class Tower(nn.Sequential):
    """A Sequential without a forward of its own."""

    def __init__(self, *widths):
        super().__init__()
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            self.append(nn.Linear(n_in, n_out))
            if i < len(widths) - 2:
                self.append(nn.Mish())


class Initialised(nn.Linear):
    """A Linear with initial weights of its own, and PyTorch's forward."""

    def reset_parameters(self):
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class OwnWeights(nn.Module):
    """Parameters instead of a Linear, and F.linear."""

    def __init__(self):
        super().__init__()
        self.W1, self.b1 = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.zeros(6))
        self.W2 = nn.Parameter(torch.randn(3, 6))

    def forward(self, X):
        return F.linear(torch.tanh(F.linear(X, self.W1, self.b1)), weight=self.W2)


class Modes(nn.Module):
    """Logits in training mode, probabilities in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, X):
        Z = self.fc2(F.relu(self.fc1(X)))
        if not self.training:
            return F.softmax(Z, dim=1)
        return Z


class Inherited(Modes):
    """A forward that adds to its parent's."""

    def forward(self, X, temperature=1.0, *rest, flag=None):
        return torch.sigmoid(super().forward(X))


class Optional(nn.Module):
    """Parts that are there or not, by the constructor's arguments."""

    def __init__(self, activation="relu", bias=True, dropout=0.0):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6, bias=bias), nn.Linear(6, 3, bias=bias)
        self.f = {"relu": F.relu, "softplus": F.softplus}[activation]
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, X):
        assert X is not None
        X = self.f(self.fc1(X))
        if self.dropout is not None:
            X = self.dropout(X)
        return self.fc2(X)


# --- random chains ---------------------------------------------------------------------------------------------------

# our text: the module, and calls of functions and methods that compute the same
ACTIVATIONS = {
    "sigmoid": (nn.Sigmoid(), [F.sigmoid, torch.sigmoid, lambda Z: Z.sigmoid(), lambda Z: Z.sigmoid_()]),
    "tanh": (nn.Tanh(), [F.tanh, torch.tanh, lambda Z: Z.tanh(), torch.tanh_]),
    "relu": (nn.ReLU(), [F.relu, torch.relu, lambda Z: Z.relu(), F.relu_, lambda Z: F.relu(Z, inplace=True)]),
    "identity": (nn.Identity(), [lambda Z: Z, torch.clone, lambda Z: Z.contiguous()]),
    "leaky_relu": (nn.LeakyReLU(), [F.leaky_relu, F.leaky_relu_]),
    "leaky_relu(0.2)": (
        nn.LeakyReLU(0.2), [lambda Z: F.leaky_relu(Z, 0.2), lambda Z: F.leaky_relu(Z, negative_slope=0.2)],
    ),
    "elu": (nn.ELU(), [F.elu, F.elu_]),
    "elu(0.5)": (nn.ELU(0.5), [lambda Z: F.elu(Z, 0.5), lambda Z: F.elu(input=Z, alpha=0.5, inplace=True)]),
    "selu": (nn.SELU(), [F.selu, torch.selu, torch.selu_]),
    "celu": (nn.CELU(), [F.celu, torch.celu]),
    "celu(0.5)": (nn.CELU(0.5), [lambda Z: torch.celu(Z, 0.5), lambda Z: F.celu(Z, alpha=0.5)]),
    "softplus": (nn.Softplus(), [F.softplus]),
    "softplus(2.0, 30.0)": (
        nn.Softplus(2, 30), [lambda Z: F.softplus(Z, 2, 30), lambda Z: F.softplus(Z, threshold=30, beta=2)],
    ),
    "softsign": (nn.Softsign(), [F.softsign]),
    "hardtanh": (nn.Hardtanh(), [F.hardtanh]),
    "hardtanh(-2.0, 0.5)": (
        nn.Hardtanh(-2, 0.5), [lambda Z: F.hardtanh(Z, -2, 0.5), lambda Z: F.hardtanh(Z, -2.0, max_val=0.5)],
    ),
    "relu6": (nn.ReLU6(), [F.relu6]),
    "log_sigmoid": (nn.LogSigmoid(), [F.logsigmoid]),
    "gelu": (nn.GELU(), [F.gelu, lambda Z: F.gelu(Z, approximate="none")]),
    "gelu_tanh": (nn.GELU("tanh"), [lambda Z: F.gelu(Z, approximate="tanh")]),
    "silu": (nn.SiLU(), [F.silu]),
    "mish": (nn.Mish(), [F.mish]),
    "hardswish": (nn.Hardswish(), [F.hardswish]),
    "softmax": (
        nn.Softmax(dim=1), [lambda Z: F.softmax(Z, 1), lambda Z: torch.softmax(Z, dim=-1), lambda Z: Z.softmax(1)],
    ),
    "exp": (None, [torch.exp, lambda Z: Z.exp(), torch.exp_]),
}  # fmt: skip
HOMOGENEOUS = {"relu", "identity", "leaky_relu", "leaky_relu(0.2)"}
AT_THE_OUTPUT = {"softmax", "exp"}
FIRST = {  # the shape of a row of 12 numbers, and how a forward makes a row of it
    "rows": ((12,), lambda X: X),
    "flatten": ((3, 2, 2), lambda X: X.flatten(1)),
    "torch.flatten": ((3, 4), lambda X: torch.flatten(X, start_dim=1)),
    "view": ((3, 4), lambda X: X.view(X.size(0), -1)),
    "view of a width": ((2, 6), lambda X: X.view(-1, 12)),
    "reshape": ((2, 3, 2), lambda X: X.reshape(X.shape[0], X.shape[1] * X.shape[2] * 2)),
    "squeeze": ((12, 1), lambda X: X.squeeze(2).contiguous()),
    "unsqueeze": ((12,), lambda X: X.unsqueeze(1)[:, 0]),
    "casts": ((12,), lambda X: X.double().to(torch.float64).to("cpu", non_blocking=True)),
}
LAST = {
    "rows": lambda A: A,
    "squeeze": lambda A: A.squeeze(-1),
    "flatten": lambda A: A.flatten(1),
    "unflatten": lambda A: A.unflatten(1, (1, -1)),
    "column": lambda A: A[:, None, :],
    "contiguous": lambda A: A.contiguous(),
}


class Random(nn.Module):
    """A chain of given widths and activations, each spelled in one way or another."""

    def __init__(self, widths, spellings, biases, first, last):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out, bias) for (n_in, n_out), bias in zip(pairwise(widths), biases, strict=True)
        )
        self.activations = nn.ModuleList(spelled for spelled in spellings if isinstance(spelled, nn.Module))
        self.spellings, self.first, self.last = spellings, first, last

    def forward(self, X):
        X = self.first(X)
        for layer, spelled in zip(self.layers, self.spellings, strict=True):
            X = spelled(layer(X))
        return self.last(X)


@st.composite
def chains(draw):
    """Draw a module, its row's shape, and the texts of its activations."""
    depth = draw(st.integers(1, 4))
    widths = [12, *draw(st.lists(st.integers(1, 5), min_size=depth, max_size=depth))]
    hidden = sorted(ACTIVATIONS.keys() - AT_THE_OUTPUT)
    texts = [draw(st.sampled_from(hidden)) for _ in range(depth - 1)] + [draw(st.sampled_from(sorted(ACTIVATIONS)))]
    spellings = []
    for text in texts:
        layer, functions = ACTIVATIONS[text]
        spellings.append(draw(st.sampled_from([*functions, *([] if layer is None else [layer, nn.Sequential(layer)])])))
    shape, first = FIRST[draw(st.sampled_from(sorted(FIRST)))]
    last = LAST[draw(st.sampled_from(sorted(LAST)))]
    torch.manual_seed(draw(st.integers(0, 99)))
    biases = [draw(st.booleans())] * depth
    return Random(widths, spellings, biases, first, last).double(), shape, texts
