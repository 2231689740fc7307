"""How a forward is read: each spelling of each activation, dropout in each place, shapes; and random chains."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn import functional as F
from torch_loop import data, nn, optim, torch
from torch_modules import ACTIVATIONS, AT_THE_OUTPUT, HOMOGENEOUS, Autoencoder, Blocks, Modes, built, chains, mlp, net

from briskmlp import Trainer
from briskmlp.convert.torch import from_torch, read_module
from briskmlp.interop.torch import fit

pytestmark = pytest.mark.torch


def assert_converted(module, X):
    """Assert that a Trainer on the NumPy backend predicts what the module computes."""
    output = from_torch(module)[0].output
    trainer = Trainer.from_torch(module, backend="numpy", loss="poisson" if output == "exp" else "mse")
    with torch.no_grad():
        expected = module(X).reshape(len(X), -1)
    np.testing.assert_allclose(trainer.predict(X), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_each_spelling_of_an_activation(text):
    layer, functions = ACTIVATIONS[text]
    modules = [net(lambda m, X, f=f: f(m.fc2(m.fc1(X))))() for f in functions]
    if layer is not None:
        modules += [net(lambda m, X: m.last(m.fc2(m.fc1(X))), last=layer)(), mlp(nn.Linear(4, 3), layer)()]
    X = data()[0]
    for module in modules:
        assert read_module(module).network.output == text
        assert_converted(module, X)


def test_all_activations_are_tried():
    from briskmlp.operations.activations import ACTIVATIONS as ROWS

    assert {text.partition("(")[0] for text in ACTIVATIONS} == set(ROWS)


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", sorted(ACTIVATIONS.keys() - AT_THE_OUTPUT))
def test_dropout_before_an_activation_is_dropout_after_it_if_that_is_homogeneous(text):
    layer, _ = ACTIVATIONS[text]
    module = mlp(nn.Linear(4, 6), nn.Dropout(0.25), layer, nn.Linear(6, 3))()
    if text in HOMOGENEOUS:
        other = read_module(mlp(nn.Linear(4, 6), layer, nn.Dropout(0.25), nn.Linear(6, 3))())
        dense = read_module(module)
        assert (dense.network, dense.dropout) == (other.network, other.dropout) == (dense.network, [0.25])
    else:
        with pytest.raises(
            ValueError, match=r"layer 2, .* follows a Dropout, which is not supported; put Dropout after"
        ):
            read_module(module)


def test_both_orders_of_dropout_and_relu_train_the_same_bits():
    X, Y = data()
    trained = []
    for layers in ([nn.Dropout(0.5), nn.ReLU()], [nn.ReLU(), nn.Dropout(0.5)]):
        module = mlp(nn.Linear(4, 6), *layers, nn.Linear(6, 3))()
        torch.manual_seed(0)
        fit(module, nn.MSELoss(), optim.SGD(module.parameters(), 0.1), X, Y, epochs=3, batch_size=5)
        trained.append(module[0].weight.detach().numpy())
    np.testing.assert_array_equal(*trained)


# forward: the rates in training mode, in evaluation mode, and of from_torch of each
DROPOUTS = {
    "F.dropout stays active": (lambda m, X: m.fc2(F.dropout(m.fc1(X))), 0.5, 0.5, 0.5, 0.5),
    "F.dropout with a rate": (lambda m, X: m.fc2(F.dropout(m.fc1(X), p=0.25)), 0.25, 0.25, 0.25, 0.25),
    "of the mode": (lambda m, X: m.fc2(F.dropout(m.fc1(X), 0.25, training=m.training)), 0.25, 0.0, 0.25, 0.0),
    "of the mode by place": (lambda m, X: m.fc2(F.dropout(m.fc1(X), 0.25, m.training)), 0.25, 0.0, 0.25, 0.0),
    "torch.dropout": (lambda m, X: m.fc2(torch.dropout(m.fc1(X), 0.25, train=m.training)), 0.25, 0.0, 0.25, 0.0),
    "a module": (lambda m, X: m.fc2(m.drop(m.fc1(X))), 0.75, 0.0, 0.75, 0.75),
    "made in forward": (lambda m, X: m.fc2(nn.Dropout(0.25)(m.fc1(X))), 0.25, 0.25, 0.25, 0.25),
    "if training": (lambda m, X: m.fc2(m.drop(m.fc1(X)) if m.training else m.fc1(X)), 0.75, 0.0, 0.75, 0.0),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_which_dropout_is_active(name):
    forward, training, evaluation, converted, converted_in_evaluation = DROPOUTS[name]
    module = net(forward, drop=nn.Dropout(0.75))()
    assert read_module(module, training=True).dropout == [training]
    assert from_torch(module)[2] == [converted]
    module.eval()
    assert read_module(module, training=True).dropout == [evaluation]
    assert from_torch(module)[2] == [converted_in_evaluation]


# --- what is converted -----------------------------------------------------------------------------------------------


def test_names_are_those_of_the_state_dict():
    module = built(Blocks)()
    assert [name for name, _ in read_module(module).present] == list(module.state_dict())
    parallel = nn.DataParallel(module)
    assert [name for name, _ in read_module(parallel).present] == list(parallel.state_dict())


def test_images_are_converted_whatever_their_shape():
    for forward in (
        lambda m, X: m.fc2(m.fc1(X.view(X.size(0), X.size(1) * X.size(2)))).view(X.size(0), -1),
        lambda m, X: m.fc2(m.fc1(X.view(X.shape[:1] + (-1,)))).squeeze(),  # noqa: RUF005 - a shape of unknown length
    ):
        module = net(forward)()
        network, parameters, _ = from_torch(module)
        assert network.layers == (4, 6, 3)
    assert from_torch(built(Autoencoder)())[0].layers == (4, 6, 2, 6, 4)
    np.testing.assert_array_equal(network.weights(parameters)[1].T, module.fc2.weight.detach())


@pytest.mark.parametrize(
    ("message", "forward"),
    {
        "module ends in LogSoftmax, which no network does": lambda m, X: m.fc2(m.fc1(X)).log_softmax(1),
        r"module makes \(6,\) of a batch of X of shape \(2, 4\)": lambda m, X: m.fc2(m.fc1(X)).view(-1),
        r"node view, view\(fc2, 2, -1\), cannot be computed of a batch": lambda m, X: m.fc2(m.fc1(X)).view(2, -1),
    }.items(),
)
def test_what_is_not_converted(message, forward):
    with pytest.raises(ValueError, match=message):
        from_torch(net(forward)())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of the compiler's own
def test_compiled_modules_are_those_that_were_compiled():
    module = built(Modes)()
    expected = from_torch(module)
    inside = net(lambda m, X: m.net(X), net=torch.compile(module))()
    module.compile()  # in place
    for compiled in (torch.compile(module), inside, module):
        network, parameters, _ = from_torch(compiled)
        assert network == expected[0]
        assert len(parameters) == len(expected[1])
    compiled = torch.compile(module)
    compiled.register_forward_hook(lambda *args: None)
    with pytest.raises(ValueError, match="module has forward_hooks, which would not be called"):
        from_torch(compiled)


def test_other_threads_use_the_module_meanwhile():
    module, stop, X = built(Modes)(), threading.Event(), data()[0]
    expected, wrong = module(X).detach(), []

    def predict():
        while not stop.is_set():
            with torch.no_grad():
                try:
                    wrong.append(not torch.equal(module(X), expected))
                except Exception as error:
                    wrong.append(error)

    thread = threading.Thread(target=predict)
    thread.start()
    for _ in range(50):
        read_module(module)
    stop.set()
    thread.join()
    assert not any(wrong)


# --- random chains ---------------------------------------------------------------------------------------------------


@given(chains())
@settings(max_examples=60, deadline=None)
def test_random_chains(drawn):
    module, shape, texts = drawn
    assert list(from_torch(module)[0].activations) == texts
    assert_converted(module, torch.randn(5, *shape, dtype=torch.float64))
