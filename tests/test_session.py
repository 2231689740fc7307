"""The session, and the one loop over its kernel calls: on every backend."""

import numpy as np
import pytest
from build import build

from briskmlp import session as module
from briskmlp.backends.contract import Steps
from briskmlp.data.examples import Data
from briskmlp.data.inputs import check_inputs
from briskmlp.optimizers import SGD, Adam
from briskmlp.plan import DIVISOR_NOTHING
from briskmlp.session import Session, drive

RATE = 0.1


@pytest.fixture(autouse=True)
def a_call_for_each_step(monkeypatch):
    monkeypatch.setattr(module, "CALL_SECONDS", 0.0)


@pytest.fixture
def case():
    return build([4, 9, 3], n=13, batch_size=5, optimizer=Adam(RATE), weighted=True, shuffle=True, seed=3)


def data_of(case):
    return Data(check_inputs(case.X, case.network.n_in, case.dtype), case.Y, case.weight)


def begun(case, backend_name="numpy"):
    """Return a session of the case that trains on its data."""
    session = Session(case.plan, case.dtype, backend_name)
    session.parameters[...] = case.params
    session.begin(case.plan.batch_size, data_of(case))
    return session


def rates(first, last):
    return np.full(last - first, RATE)


def run(session, until, **options):
    """Drive a session; return the epochs that each call completed."""
    seen = []
    drive(session, until, rates, lambda completed: seen.append(completed.columns()["epoch"].tolist()), **options)
    return seen


def test_it_trains_as_a_backend_does(case, backend, backend_name):
    session = begun(case, backend_name)
    assert run(session, 3) == [[1], [2], [3]]
    params, slots, _ = case.train(backend, [RATE] * 3)
    assert session.parameters.tobytes() == params.tobytes()
    assert session.state.slots.tobytes() == slots.tobytes()
    assert session.position.counts.tolist() == [3, 0, 9]


def test_a_new_plan_needs_no_reset(case, backend_name):
    """Workspaces are of a plan: what is trained, and predicted, after a change is as with a session of the new plan."""
    hyper = case.plan.hyper.copy()
    hyper[0] = 0.5  # beta1
    changed = case.plan._replace(hyper=hyper, divisor=DIVISOR_NOTHING, decay=np.full(4, 0.1))
    session, fresh = begun(case, backend_name), begun(case, backend_name)
    for each in (session, fresh):
        run(each, 1)
    fresh.end()
    other = Session(changed, case.dtype, backend_name)
    other.restore(fresh.training_state())
    other.begin(case.plan.batch_size, data_of(case))
    session.replace_plan(changed)
    for each in (session, other):
        run(each, 2)
    assert session.parameters.tobytes() == other.parameters.tobytes()
    assert session.gradient(data_of(case))[1].tobytes() == other.gradient(data_of(case))[1].tobytes()


def test_an_equal_plan_keeps_the_workspace(case, monkeypatch):
    session, made = begun(case), []
    monkeypatch.setattr(session.backend, "workspace", lambda *args, make=session.backend.workspace, **options: (
        made.append(1) or make(*args, **options)
    ))  # fmt: skip
    for epoch in range(3):
        session.replace_plan(session.plan._replace(hyper=case.plan.hyper.copy()))
        run(session, epoch + 1)
    assert len(made) == 1


def test_orders_are_asked_for_once_an_epoch(case):
    asked = []

    def order(epoch):
        asked.append(epoch)
        return np.arange(13)[:: 1 - 2 * (epoch % 2)][: 13 - 2 * epoch].copy()

    session = begun(case)
    assert run(session, 3, orders=order) == [[1], [2], [3]]
    assert asked == [0, 1, 2]
    assert session.position.step == 3 + 3 + 2  # of 13, 11 and 9 rows


def test_stops_and_ends_of_calls(case):
    ends, session = [], begun(case)
    session.steps = 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CALL_SECONDS", 1e6)
        assert run(session, 7, next_stop=lambda epoch: epoch - epoch % 3 + 3, on_call_end=lambda: ends.append(1)) == [
            [1, 2, 3], [4, 5, 6], [7]
        ]  # fmt: skip
    assert len(ends) == 3
    session.steps, stopped = 1, []
    drive(session, 9, rates, lambda completed: stopped.append(completed) or True, on_call_end=lambda: ends.append(1))
    assert (session.position.epoch, len(stopped), len(ends)) == (8, 1, 3 + 2)  # none after the call that stopped


def test_without_begin_there_is_nothing_to_train_on(case):
    session = Session(case.plan, case.dtype, "numpy")
    with pytest.raises(RuntimeError, match="between begin and end"):
        session.run(Steps(rates(0, 1), np.empty(1), 1))


def test_divergence_leaves_what_was_before_the_call(backend_name):
    case = build([4, 3], n=20, batch_size=5, optimizer=SGD(RATE), shuffle=False)
    session = begun(case, backend_name)
    run(session, 1)
    before = [array.tobytes() for array in session.state.arrays], session.position.counts.tolist()
    with pytest.raises(FloatingPointError, match=r"the weights are back at epoch 1, batch 0\. Lower the"):
        session.run(Steps(np.full(2, 1e300), np.empty(2), 8))
    assert ([array.tobytes() for array in session.state.arrays], session.position.counts.tolist()) == before


def test_a_state_goes_from_one_session_to_another(case, backend_name):
    whole, cut = begun(case, backend_name), begun(case, backend_name)
    run(whole, 2)
    cut.run(Steps(rates(0, 1), np.empty(1), 2))
    cut.end()
    resumed = Session(case.plan, case.dtype, backend_name)
    resumed.restore(cut.training_state())
    resumed.begin(case.plan.batch_size, data_of(case))  # no warning: it is of these data
    assert resumed.position.counts.tolist() == [0, 2, 2]
    run(resumed, 2)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
