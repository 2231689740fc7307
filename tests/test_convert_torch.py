"""PyTorch modules from networks and back: same outputs, same numbers, PyTorch's names and shapes."""

import numpy as np
import oracle
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch
from build import build
from torch import nn

from briskmlp import Adam, Checkpoint, EarlyStopping, Network, Trainer
from briskmlp.convert.torch import from_torch, load_state_dict, read_module, state_dict, to_torch

pytestmark = pytest.mark.torch
HIDDEN = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
NETWORKS = [(hidden, "identity", "mse") for hidden in HIDDEN]
NETWORKS += [("relu", "softmax", "cross_entropy"), ("tanh", "exp", "poisson")]


@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
@pytest.mark.parametrize(("hidden", "output", "loss"), NETWORKS)
def test_a_module_computes_what_the_network_does(hidden, output, loss, bias, dtype):
    case = build([5, 9, 7, 3], n=20, hidden=hidden, output=output, loss=loss, bias=bias, dtype=dtype)
    module = to_torch(case.network, case.params)
    expected = oracle.forward(*case.tensors(case.params), case.network.activations, case.X)[-1]
    with torch.no_grad():
        A = module(torch.from_numpy(case.X)).numpy()
    assert A.dtype == dtype
    np.testing.assert_allclose(A, expected, rtol=0, atol=200 * np.finfo(dtype).eps * abs(expected).max())  # 3 layers
    assert [type(module[2 * l]) for l in range(3)] == [nn.Linear] * 3
    if bias != "layer":  # and back
        network, parameters, dropout = from_torch(to_torch(case.network, case.params, [0.5, 0.25]))
        assert (network, dropout, parameters.dtype) == (case.network, [0.5, 0.25], dtype)
        np.testing.assert_array_equal(parameters, case.params)


@pytest.mark.parametrize(
    "activation",
    [nn.LeakyReLU(0.2), nn.ELU(0.5), nn.CELU(0.3), nn.Softplus(2.0, 30.0), nn.Hardtanh(-2.0, 0.5), nn.GELU("tanh")],
    ids=str,
)
def test_parameters_of_activations_there_and_back(activation):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 20), activation, nn.Linear(20, 20), activation).double()
    network, parameters, _ = from_torch(module)
    again = to_torch(network, parameters)
    assert str(again[1]) == str(again[3]) == str(activation)
    X = 9 * torch.randn(50, 3).double()
    with torch.no_grad():
        tensors = network.weights(parameters), network.biases(parameters)
        A = oracle.forward(*tensors, network.activations, X.numpy())[-1]
        np.testing.assert_allclose(module(X), A, rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(again(X), module(X))


def test_dropout_keeps_the_names():
    network = Network([3, 4, 4, 2])
    parameters = np.arange(network.n_parameters, dtype=float)
    module = to_torch(network, parameters, [0.5, 0.0])
    assert str(module[1]) == str(nn.Sequential(nn.Sigmoid(), nn.Dropout(0.5)))
    assert list(module.state_dict()) == [f"{l}.{kind}" for l in (0, 2, 4) for kind in ("weight", "bias")]
    assert isinstance(module[3], nn.Sigmoid)
    assert from_torch(module.eval())[2] == [0.5, 0.0]
    assert read_module(module, training=True).dropout == [0.0, 0.0]


def test_making_a_module_draws_no_random_numbers():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    to_torch(Network([3, 4, 2]), np.zeros(26))
    assert torch.rand(1) == expected


def test_state_dicts_are_copies_in_pytorchs_layout():
    network = Network([3, 4, 2], bias="layer")
    parameters = np.arange(22.0)
    state = state_dict(network, parameters)
    assert all(tensor.is_contiguous() for tensor in state.values())
    np.testing.assert_array_equal(state["0.weight"], network.weights(parameters)[0].T)
    np.testing.assert_array_equal(state["2.bias"], [21.0, 21.0])
    before = parameters.copy()
    for tensor in state.values():
        tensor += 1
    np.testing.assert_array_equal(parameters, before)
    load_state_dict(network, parameters, state)
    np.testing.assert_array_equal(parameters, before + 1)


def test_a_state_dict_fits_pytorch_both_ways():
    network = Network([3, 4, 2])
    module = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2), nn.Sigmoid())
    parameters = np.zeros(network.n_parameters, np.float32)
    load_state_dict(network, parameters, module.state_dict())
    module.load_state_dict(state_dict(network, parameters))
    np.testing.assert_array_equal(parameters, from_torch(module)[1])


WEIGHT, BIAS = np.zeros((2, 3)), np.zeros(2)
STATES = {
    r"state has no \['0.bias'\] and unknown \['1.bias'\]": {"0.weight": WEIGHT, "1.bias": BIAS},
    r"state's 0.weight has shape \(3, 2\), but must have \(2, 3\)": {"0.weight": WEIGHT.T, "0.bias": BIAS},
    "state has NaN or infinity": {"0.weight": WEIGHT + np.nan, "0.bias": BIAS},
    "state's 0.bias has different numbers": {"0.weight": WEIGHT, "0.bias": np.arange(2.0)},
}


@pytest.mark.parametrize("message", STATES)
def test_states_that_do_not_fit(message):
    network, parameters = Network([3, 2], bias="layer"), np.ones(7)
    with pytest.raises(ValueError, match=message):
        load_state_dict(network, parameters, STATES[message])
    np.testing.assert_array_equal(parameters, np.ones(7))


def test_modules_that_no_trainer_is():
    with pytest.raises(
        ValueError, match=r"layer 1, LeakyReLU\(negative_slope=-0\.2\), is not supported: negative_slope"
    ):
        from_torch(nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(-0.2)))
    with pytest.raises(ValueError, match=r"module has no 2\.bias, but other biases"):
        from_torch(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2, bias=False)))


# --- the Trainer's methods -------------------------------------------------------------------------------------------


def test_a_trainer_trains_a_module_as_pytorch_does():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    X, y = torch.randn(20, 4).double(), torch.arange(20) % 3
    trainer = Trainer.from_torch(module, loss="cross_entropy", optimizer=Adam(0.01), batch_size=20, shuffle=False)
    assert (trainer.network.output, trainer.dtype) == ("softmax", np.float64)
    trainer.fit(X, y, epochs=5)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(module(X), y).backward()
        optimizer.step()
    for name, tensor in module.state_dict().items():
        np.testing.assert_allclose(trainer.state_dict()[name], tensor, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(trainer.to_torch()(X), trainer.predict(X), rtol=1e-12)


def test_what_a_module_decides_and_what_arguments_do():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.25), nn.Linear(6, 1))
    trainer = Trainer.from_torch(module)
    assert (trainer.network, trainer.dtype) == (Network([4, 6, 1], "relu", "identity"), np.float32)
    assert trainer.dropout == (0.25,)
    assert isinstance(trainer.to_torch()[1], nn.Sequential)
    trainer = Trainer.from_torch(module, loss="cross_entropy", dropout=0.0, dtype="float64")
    assert (trainer.network.output, trainer.dropout, trainer.dtype) == ("sigmoid", (0.0,), np.float64)
    assert Trainer.from_torch(nn.Linear(2, 1)).network.layers == (2, 1)
    with pytest.raises(TypeError, match="hidden"):
        Trainer.from_torch(module, hidden="tanh")


@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
def test_a_checkpoint_is_a_state_dict(tmp_path, bias):
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    arguments = {"optimizer": Adam(0.01), "bias": bias, "backend": "numpy"}
    trainer, of_file, of_state = (Trainer([3, 4, 2], seed=seed, **arguments) for seed in (1, 2, 3))
    keep = [EarlyStopping("loss"), Checkpoint(tmp_path / "run")]
    trainer.fit(np.eye(3), np.eye(3)[:, :2], epochs=2, callbacks=keep)
    of_file.load_state_dict(library.load_file(tmp_path / "run"))
    of_state.load_state_dict(trainer.state_dict())
    for other in (of_file, of_state):
        np.testing.assert_array_equal(other.parameters, trainer.parameters)
    with pytest.raises(ValueError, match="state has no"):
        other.load_state_dict({})
