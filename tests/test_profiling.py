"""Profiles: what is counted is exact, what is timed adds up, nothing learned changes, and each way to show it holds."""

import importlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tasks import data, everything, make

from briskmlp import SGD, Adam, Trainer, cli, plan, profiling
from briskmlp.backends import native, recording
from briskmlp.profiling import machine
from briskmlp.profiling.machine import Machine
from briskmlp.profiling.rows import model
from briskmlp.profiling.trace import trace_events

LAYERS, BATCH = [150, 200, 40, 10], 64
# 6 · 64 · 38400 = 14.7 MFLOP a step: all are recorded


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    """Measure no limits but where a test wants to: half a second each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "limits", lambda dtype, isa, threads: (threads, 1e11, 2e10, 1e10))
    monkeypatch.setitem(recording.STEP_FLOPS, "numpy", recording.STEP_FLOPS["native"])  # one rule for all tests


def train(backend, n=160, *, profiled=True, epochs=2, layers=LAYERS, batch=BATCH, calls=1, **arguments):
    """Return a trainer and its profile."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((n, layers[0])), rng.integers(layers[-1], size=n)
    arguments = {"hidden": "relu", "loss": "cross_entropy", "seed": 0, "batch_size": batch, **arguments}
    trainer, p = Trainer(layers, backend=backend, **arguments), None
    if profiled:
        with trainer.profile() as p:
            for _ in range(calls):
                trainer.fit(X, Y, epochs=epochs)
    else:
        trainer.fit(X, Y, epochs=calls * epochs)
    return trainer, p


def recorded(steps, every, first=1):
    """Return how many of these steps are recorded: where multiples of the golden ratio have small fractions."""
    return sum(step * 0.6180339887498949 % 1 < 1 / every for step in range(first, first + steps))


def counted(p):
    return {(row.layer, row.phase): row.calls for row in p.rows if row.phase not in ("wait", "prepare")}


# --- counts ----------------------------------------------------------------------------------------------------------


def phases(backend, optimizer, clip_norm):
    """What each layer goes through, by the descriptions of the backends."""
    fused = isinstance(optimizer, SGD) and clip_norm is None
    if backend == "native":
        fused = clip_norm is None  # other rules too move a block when its gradient is complete
    if backend == "numpy":
        fused = False
    expected = [(1, "gather"), (3, "loss"), (2, "dX"), (3, "dX")]
    expected += [(layer, name) for layer in (1, 2, 3) for name in ("forward", "dW+update" if fused else "dW")]
    if not fused:
        whole = backend == "numpy"
        expected += [(None, "update")] if whole else [(layer, "update") for layer in (1, 2, 3)]
    if clip_norm is not None:
        expected += [(layer, "norm") for layer in (1, 2, 3)] if backend == "native" else [(None, "norm")]
    return set(expected)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.01)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_every_phase_is_counted_once_per_step(backend_name, optimizer, clip_norm):
    steps, dtype = 2 * 3, "float32" if clip_norm else "float64"  # two epochs of 64, 64 and 32 rows
    trainer, p = train(backend_name, optimizer=optimizer, clip_norm=clip_norm, dtype=dtype, threads=1)
    assert (p.steps, p.sampled, p.every) == (steps, steps, 1)
    assert counted(p) == dict.fromkeys(phases(backend_name, optimizer, clip_norm), steps)
    assert (p.backend, p.isa, p.dtype, p.threads) == (backend_name, trainer.isa, dtype, 1)


@pytest.fixture
def team_of_two(monkeypatch):
    """Let native trainings have two threads, whatever the machine and the shape."""
    extension = pytest.importorskip("briskmlp._native", exc_type=ImportError)
    monkeypatch.setattr(profiling.profile, "thread_limit", lambda requested: 2)
    extension._force_threads(2)
    yield
    extension._force_threads(0)


def test_threads_count_together_and_so_do_their_waits(team_of_two, tmp_path):
    trainer, p = train("native")
    assert p.threads == 2
    assert set(counted(p).values()) == {2 * 6}
    first, second, third = native.schedule(trainer._session.plan, trainer.dtype, BATCH, threads=2).layers
    # dW of 1 and dX of 2 and 3, the loss of 3, and where a forward pass must wait: it counts for the layer before
    waits = {1: 1 + first.wait + second.wait, 2: 1 + third.wait, 3: 2}
    assert {row.layer: row.calls for row in p.rows if row.phase == "wait"} == {l: 2 * 6 * n for l, n in waits.items()}
    assert sum(row.share for row in p.rows) == pytest.approx(1)
    p.to_chrome_trace(tmp_path / "trace.json")
    check_trace(tmp_path / "trace.json", 2)


@pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
def test_a_record_that_is_too_small_is_refused():
    lowered, dtype = make("mse")._session.plan, np.dtype("f4")
    for record in (recording.make_record(1, 1), np.zeros(3, np.int64)):
        with pytest.raises(ValueError, match=r"record has .* numbers, but 1 threads need"):
            native.workspace(lowered, dtype, 10, record=record)
    read_only = recording.make_record(2, 1)
    read_only.flags.writeable = False
    with pytest.raises((ValueError, BufferError, TypeError)):
        native.workspace(lowered, dtype, 10, record=read_only)


@pytest.mark.parametrize("n", [160, 200])
def test_flops_are_those_of_the_products(backend_name, n):
    _, p = train(backend_name, n, threads=1)
    flops = {(row.layer, row.phase): row.flops for row in p.rows if row.flops}
    one = {layer: 2 * 2 * n * n_in * n_out for layer, (n_in, n_out) in enumerate(itertools.pairwise(LAYERS), 1)}
    assert {layer: flops[layer, "forward"] for layer in (1, 2, 3)} == one  # two epochs; 2 n n_in n_out each
    assert {layer: flops.get((layer, "dX")) for layer in (1, 2, 3)} == {**one, 1: None}
    assert {layer: flops.get((layer, "dW"), 0) + flops.get((layer, "dW+update"), 0) for layer in (1, 2, 3)} == one


@pytest.mark.parametrize(
    ("isa", "precision", "products"),
    [(None, "highest", 1), (None, "high", 3), (None, "bfloat16", 1)]
    + [("amx", "highest", 6), ("amx", "high", 3)] * ("amx" in native.isas()),
)
def test_products_of_parts_are_all_counted(monkeypatch, isa, precision, products):
    if isa is not None:
        monkeypatch.setenv("BRISKMLP_ISA", isa)
    _, p = train("native" if isa else "numpy", 160, threads=1, precision=precision)
    flops = [row.flops for row in p.rows if row.phase == "forward"]
    assert flops == [products * 2 * 2 * 160 * n_in * n_out for n_in, n_out in itertools.pairwise(LAYERS)]


def test_rows_in_chunks_are_counted_once(backend_name):
    # 271 kB of weights: too many for slices of rows
    _, p = train(backend_name, 4200, layers=[520, 130, 2], batch=4200, epochs=1, threads=1)
    flops = {(row.layer, row.phase): row.flops for row in p.rows if row.flops}
    for layer, one in [(1, 2 * 4200 * 520 * 130), (2, 2 * 4200 * 130 * 2)]:
        assert flops[layer, "forward"] == flops.get((layer, "dW"), 0) + flops.get((layer, "dW+update"), 0) == one
    assert flops[2, "dX"] == 2 * 4200 * 130 * 2


def test_bytes_are_those_of_the_operands():
    trainer, p = train("numpy", optimizer=Adam(0.01), dtype="float64")
    found = {(row.layer, row.phase): row.bytes for row in p.rows}
    rows, steps = 320, 6
    assert found[1, "gather"] == 8 * 2 * rows * 150
    assert found[2, "forward"] == 8 * (rows * (200 + 40) + steps * 200 * 40)
    assert found[2, "dX"] == 8 * (rows * (2 * 200 + 40) + steps * 200 * 40)
    assert found[2, "dW"] == found[2, "forward"]
    weights = 150 * 200 + 200 * 40 + 40 * 10
    assert found[None, "update"] == 8 * steps * weights * (1 + 2 + 4)  # dW read; W, m and v read and written
    fused = model(trainer._session.plan, 1, recording.DW_UPDATE, rows, steps, 4)
    assert fused == (2 * rows * 8000, 4 * (rows * 240 + steps * 8000 * 6))


# --- times -----------------------------------------------------------------------------------------------------------


def test_phases_add_up_to_their_steps(backend_name):
    _, p = train(backend_name)
    assert sum(row.share for row in p.rows) == pytest.approx(1, rel=1e-9)  # laps leave no time between them
    assert sum(row.seconds for row in p.rows) == pytest.approx(p.step_seconds, rel=1e-9)
    assert 0 < p.step_seconds < p.seconds


def test_short_steps_are_sampled_and_scaled(backend_name):
    # 6 · 10 · 530 = 31800 FLOP a step: one in 64
    _, p = train(backend_name, n=160, epochs=12, layers=[20, 20, 5, 6], batch=10, calls=2, threads=1)
    assert (p.steps, p.sampled, p.every) == (2 * 12 * 16, recorded(2 * 12 * 16, 64), 64)
    assert p.sampled == 6
    assert counted(p)[2, "dX"] == p.steps
    assert {row.flops for row in p.rows if (row.layer, row.phase) == (1, "forward")} == {2 * 24 * 160 * 400}
    assert "one in 64 recorded and scaled" in str(p)


def test_short_batches_are_sampled_as_often_as_others():
    """Of 64 batches an epoch one is short, and one step in 64 is recorded."""
    _, p = train("numpy", n=63 * 10 + 1, epochs=64, layers=[20, 20, 5, 6], batch=10)
    steps = p._recording.record[0]["events"]["step"][: int(p._recording.record[0]["n_events"])]
    assert p.steps == 64 * 64
    assert 55 <= p.sampled <= 73
    assert len({step % 64 for step in steps.tolist()}) > 40
    assert {row.flops for row in p.rows if (row.layer, row.phase) == (1, "forward")} == {2 * 64 * 631 * 400}


@pytest.mark.parametrize(("rows", "expected"), [(1, 40), (10, 4), (42, 1), (4096, 1)])
def test_the_rule_of_sampling(rows, expected):
    network = make("mse").network
    lowered = plan.make_plan(network, loss="mse", optimizer=SGD(), batch_size=0, l2=0.0, shuffle=True, seed=0)._replace(
        layers=np.array([784, 50, 60])
    )  # 6 · 42200 FLOP a row: 10 MFLOP are 39.5 of them
    assert recording.every(lowered, rows) == expected
    assert recording.every(lowered._replace(layers=np.array([1, 1])), rows) == 64


def test_numpy_records_fewer_steps(monkeypatch):
    monkeypatch.setitem(recording.STEP_FLOPS, "numpy", 1e8)
    _, p = train("numpy", epochs=8)  # 14.7 MFLOP a step
    assert (p.every, p.sampled) == (7, recorded(24, 7))
    assert set(counted(p).values()) == {24}


def test_without_a_recorded_step_it_says_so():
    trainer, p = train("numpy", n=10, epochs=3, layers=[3, 2], batch=10)
    assert p.rows == []
    assert "of 3 steps none was recorded: only one in 64 is; train more" in str(p)
    assert json.loads(p.to_json())["rows"] == []
    with trainer.profile() as p:
        pass
    assert (p.steps, p.every, p.rows) == (0, 0, [])
    assert "none was recorded" in p.table(sort_by="time")


# --- nothing changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"optimizer": Adam(0.01), "clip_norm": 0.3, "dropout": 0.3, "l2": 0.01}])
@pytest.mark.parametrize("batch", [7, 128], ids=["layers", "slices"])
def test_the_same_bits(backend_name, dtype, arguments, batch):
    arguments = {"layers": [20, 30, 10], "n": 300, "batch": batch, "dtype": dtype, "epochs": 3, **arguments}
    profiled, _ = train(backend_name, **arguments)
    twin, _ = train(backend_name, profiled=False, **arguments)
    assert everything(profiled) == everything(twin)
    for trainer in (profiled, twin):  # and after it
        trainer.fit(np.ones((9, 20)), np.zeros(9, int), epochs=1)
    assert everything(profiled) == everything(twin)


def test_divergence_leaves_all_usable(backend_name):
    X, Y, _ = data("mse", 640)
    X = np.tile(X, (1, 50))
    trainer = Trainer([150, 200, 2], hidden="identity", optimizer=SGD(1e6), backend=backend_name, seed=0, threads=1)
    with trainer.profile() as p:
        with pytest.raises(FloatingPointError):
            trainer.fit(X, Y, epochs=5)
        diverged, trainer.parameters[:] = p.steps, 0.0
        assert np.isfinite(trainer.parameters).all()
        with pytest.warns(UserWarning, match="is dropped"):  # the epoch that diverged
            trainer.fit(X * 0, Y * 0, epochs=1)  # moves nothing
        assert p.steps == diverged + 20
    assert 0.9 < sum(row.share for row in p.rows) <= 1 + 1e-9
    with trainer.profile() as second:
        trainer.fit(X * 0, Y * 0, epochs=1)
    assert second.steps == 20


def test_an_interrupt_leaves_all_usable(backend_name, monkeypatch):
    module = importlib.import_module(f"briskmlp.backends.{backend_name}")
    trainer, done = make("mse", backend=backend_name), []

    def interrupted(*args, run=module.train):
        where = run(*args)
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt
        return where

    X, Y, _ = data("mse", 400)
    with trainer.profile() as p, monkeypatch.context() as patch:
        patch.setattr(module, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=10_000)
    assert p.steps > 0
    assert trainer._session.recording is None
    trainer.fit(X, Y, epochs=1)
    with trainer.profile() as second:
        trainer.fit(X, Y, epochs=1)
    assert second.steps == 13
    assert p.steps > 0


def test_clear_forgets_and_a_profile_ends_with_its_block():
    trainer = Trainer([150, 200, 10], batch_size=64, backend="numpy")
    X, Y = np.zeros((128, 150)), np.zeros((128, 10))
    with trainer.profile() as p:
        trainer.fit(X, Y, epochs=3)
        p.clear()
        assert (p.steps, p.seconds, p.rows) == (0, 0.0, [])
        trainer.fit(X, Y, epochs=1)
    told = p.to_json()
    trainer.fit(X, Y, epochs=3)
    assert p.to_json() == told
    assert (p.steps, counted(p)[2, "dX"]) == (2, 2)


def test_predictions_and_validation_are_not_recorded():
    trainer = make("mse", backend="numpy")
    X, Y, _ = data("mse", 40)
    with trainer.profile() as p:
        trainer.predict(X)
        trainer.evaluate(X, Y)
        trainer.loss_and_gradient(X, Y)
        assert p.steps == 0
        trainer.fit(X, Y, epochs=2, validation_data=(X, Y))
    assert p.steps == 2 * 2


# --- whose it is -----------------------------------------------------------------------------------------------------


def test_a_second_profile_is_an_error():
    trainer = make("mse", backend="numpy")
    with trainer.profile() as p:
        with pytest.raises(RuntimeError, match="is being profiled already"), trainer.profile():
            pass
        trainer.fit(*data("mse", 40)[:2], epochs=1)
    assert p.steps == 2
    with trainer.profile():  # one after the other is none
        pass


def test_trainers_are_profiled_apart(backend_name):
    arguments = {"backend": backend_name, "threads": 1}
    first, second, third = (make("mse", **arguments) for _ in range(3))
    X, Y, _ = data("mse", 400)
    with first.profile() as p, second.profile() as q, ThreadPoolExecutor(3) as pool:
        for trainer, epochs in ((first, 20), (second, 40), (third, 60)):
            pool.submit(trainer.fit, X, Y, epochs=epochs, progress=False)
    assert (p.steps, q.steps) == (20 * 13, 40 * 13)
    assert counted(p)[1, "forward"] == p.steps


def test_a_fit_in_another_thread_refuses_a_profile():
    trainer, inside, over = make("mse", backend="numpy"), threading.Event(), threading.Event()

    class Waits:
        def on_epoch_end(self, trainer, record):
            inside.set()
            over.wait(10)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(trainer.fit, *data("mse", 40)[:2], epochs=1, callbacks=[Waits()], progress=False)
        inside.wait(10)
        with pytest.raises(RuntimeError, match="another fit"), trainer.profile():
            pass
        over.set()
        running.result(10)


def test_a_callback_may_profile_what_comes():
    trainer, profiles = make("mse", backend="numpy"), []

    class Profiles:
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 3:
                profiles.append(trainer.profile())
                self.profile = profiles[0].__enter__()
            elif record["epoch"] == 5:
                profiles[0].__exit__(None, None, None)

    callback = Profiles()
    trainer.fit(*data("mse", 40)[:2], epochs=9, callbacks=[callback], progress=False)
    assert callback.profile.steps == 2 * 2


# --- what it says ----------------------------------------------------------------------------------------------------


def test_the_table():
    _, p = train("numpy")
    table = p.table()
    assert str(p) == table
    assert table.splitlines()[0].startswith("150-200-40-10, numpy float32, 1 thread: 6 steps, ")
    assert "FLOPs are those of the products alone. Bytes are modelled, not measured" in table
    if native.reason() is None:
        assert "this machine: 100 GFLOP/s, 20 GB/s with " in table
    assert "the numpy backend's BLAS does not say" in table
    seconds = {(str(row.layer or "all"), row.phase): row.seconds for row in p.rows}
    for sort_by in profiling.profile.COLUMNS:
        names = [tuple(line.split()[:2]) for line in p.table(sort_by=sort_by).splitlines()[2 : 2 + len(p.rows)]]
        assert sorted(names) == sorted(seconds)
        if sort_by in ("time", "share"):
            assert [seconds[name] for name in names] == sorted(seconds.values(), reverse=True)
    with pytest.raises(ValueError, match=r"sort_by is 'tim', but must be one of .* did you mean 'time'"):
        p.table(sort_by="tim")
    p._recording.seconds = 0.0  # before the first call is over, as another thread may see it: kernels write the record
    assert "the phases are 100.0% of the steps\n" in p.table()


def test_json_round_trip(backend_name):
    trainer, p = train(backend_name)
    told = json.loads(p.to_json())
    assert told["layers"] == LAYERS
    assert (told["backend"], told["isa"], told["steps"]) == (backend_name, trainer.isa, 6)
    for row, said in zip(p.rows, told["rows"], strict=True):
        assert said == {**row._asdict(), "gflops": row.gflops, "intensity": row.intensity}
    if native.reason() is None:
        assert Machine(**{k: v for k, v in told["machine"].items() if k != "bandwidth"}) == p.machine


@pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
def test_the_roofline_judges(monkeypatch):
    _, p = train("numpy")
    limit = Machine("", "", "", 1, 1e11, 2e10, 1e10)
    assert p.machine._replace(cpu="", isa="", dtype="", threads=1) == limit
    for row in p.rows:
        peak = min(limit.flops, row.intensity * 2e10)
        if row.flops:
            assert row.roofline == pytest.approx(row.gflops * 1e9 / peak)
            near = "compute" if row.intensity >= 5 else "memory" if row.roofline <= 1 else "cache"
            assert row.bound == (near if row.roofline >= 0.1 else "overhead")
        else:
            assert row.roofline == pytest.approx(row.bytes / row.seconds / 2e10)
    p._machine = limit._replace(flops=1.0, read=1e20)
    assert {row.bound for row in p.rows if row.flops} == {"compute"}
    assert "measure again with briskmlp profile --calibrate" in str(p)


def check_trace(path, n_workers):
    """The events of a trace: each worker's steps follow each other, and in each step its phases, in order of time."""
    trace = json.loads(path.read_text())["traceEvents"]
    events = [event for event in trace if event["ph"] == "X"]
    named = {event["tid"]: event["args"]["name"] for event in trace if event["ph"] == "M"}
    assert named == {worker: f"worker {worker}" for worker in range(n_workers)}
    assert {event["tid"] for event in events} == set(named)
    for track in named:
        spans, steps, phases = [], {}, []
        for event in (event for event in events if event["tid"] == track):
            assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} == set(event)
            start, end = round(event["ts"] * 1e3), round((event["ts"] + event["dur"]) * 1e3)  # nanoseconds
            assert 0 <= start <= end
            spans.append((start, -end))
            if event["cat"] == "step":
                steps[event["args"]["step"]] = start, end
            else:
                phases.append((start, end))
                begun, ended = steps[event["args"]["step"]]  # which comes before its phases
                assert begun <= start <= end <= ended
        assert spans == sorted(spans)
        for each in ([*steps.values()], phases):
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(each))
    return events


def test_a_trace_is_strictly_nested(backend_name, tmp_path):
    _, p = train(backend_name)
    p.to_chrome_trace(tmp_path / "trace.json")
    events = check_trace(tmp_path / "trace.json", p.threads)
    assert sum(event["cat"] == "step" for event in events) == 6 * p.threads
    assert {"step 1", "step 6", "gather 1", "forward 3", "dX 2"} <= {event["name"] for event in events}


def test_a_ring_that_ran_over_holds_the_last_whole_steps(backend_name, tmp_path):
    X, Y = np.ones((160, 150), "f4"), np.zeros(160, int)
    trainer = Trainer(LAYERS, loss="cross_entropy", batch_size=BATCH, backend=backend_name, threads=1)
    with trainer.profile() as p:
        worker = p._recording.record[0]
        now = trainer._session.backend.ticks()
        worker["events"] = (now, now, 0, -1)  # the end of a long training
        worker["n_events"] = recording.EVENTS - 20
        trainer.fit(X, Y, epochs=2)
    assert worker["n_events"] > recording.EVENTS
    p.to_chrome_trace(tmp_path / "trace.json")
    events = check_trace(tmp_path / "trace.json", 1)
    assert {event["args"]["step"] for event in events} == set(range(1, 7))


def test_a_step_that_the_ring_holds_in_part_is_left_out():
    record, clock = recording.make_record(2, 1), itertools.count()
    record["every"] = 1
    laps = recording.Laps(recording.words(record), clock.__next__)
    n = recording.EVENTS // 7 + 100
    for step in range(1, n + 1):
        laps.begin(step, 5)
        for layer in range(6):
            laps.lap(layer % 3, recording.FORWARD)
        laps.end()
    assert (record[0]["steps"], record[0]["rows"], record[0]["n_events"]) == (n, 5 * n, 7 * n)
    steps = [event["args"]["step"] for event in trace_events(record, 1e9) if event["ph"] == "X"]
    whole = recording.EVENTS // 7  # 65536 = 9362 * 7 + 2
    assert steps == [step for step in range(n - whole + 1, n + 1) for _ in range(7)]


def test_writing_laps_is_no_part_of_the_step():
    record, times = recording.make_record(2, 1), []

    def clock():
        times.append((int(record[0]["n_events"]), 10 * len(times)))
        return times[-1][1]

    record["every"] = 1
    laps = recording.Laps(recording.words(record), clock)
    laps.begin(1, 5)
    laps.lap(0, recording.FORWARD)  # of a step that is broken off
    laps.begin(2, 5)
    laps.lap(0, recording.FORWARD)
    laps.lap(-1, recording.UPDATE)
    laps.end()
    assert {written for written, _ in times} == {0}  # while the clock ran
    worker = record[0]
    assert (worker["steps"], worker["sampled"], worker["ticks"], worker["n_events"]) == (2, 1, 20, 3)
    assert worker["counts"][0, recording.FORWARD].tolist() == (1, 10)
    assert worker["counts"][2, recording.UPDATE].tolist() == (1, 10)
    assert worker["events"][:3].tolist() == [
        (20, 30, 2, recording.FORWARD),
        (30, 40, 2, 2 * len(recording.PHASES) + recording.UPDATE),
        (20, 40, 2, -1),
    ]


def test_a_picture(backend_name):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    _, p = train(backend_name)
    figure = p.plot()
    roofline, bars = figure.axes
    assert len(bars.patches) == len(p.rows)
    marks = [line for line in roofline.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert len(marks) == sum(row.flops > 0 for row in p.rows)
    with Trainer([3, 2], backend=backend_name).profile() as p:
        pass
    p.plot()  # of nothing: no warning


# --- the machine's limits --------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch):
    """Count measurements, which answer with rates never seen before."""
    calls = []

    def limits(dtype, isa, threads):
        calls.append((dtype.name, isa, threads))
        return threads, 1e9 + len(calls), 2e9, 1e9

    monkeypatch.setattr(native, "limits", limits)
    monkeypatch.setattr(native, "reason", lambda: None)
    return calls


def test_limits_are_measured_once_and_kept(measured, monkeypatch, tmp_path):
    first = machine.limits("avx2", "float32", 2)
    assert first == machine.limits("avx2", np.float32, 2)
    assert measured == [("float32", "avx2", 2)]
    others = [("avx2", "float64", 2), ("avx2", "float32", 1), ("portable", "float32", 2)]
    rates = {machine.limits(*other).flops for other in others}
    assert len(rates | {first.flops}) == 4
    assert machine.limits("avx2", "float32", 2) == first
    again = machine.limits("avx2", "float32", 2, calibrate=True)
    assert again.flops == 1e9 + 5
    assert machine.limits("avx2", "float32", 2) == again
    folder = tmp_path / "cache" / "briskmlp"
    assert [path.name for path in folder.iterdir()] == ["machine.json"]  # nothing half written
    monkeypatch.setattr(machine, "cpu_model", lambda: "another")
    assert machine.limits("avx2", "float32", 2).cpu == "another"
    assert len(measured) == 6


@pytest.mark.parametrize("name", sorted({*native.isas()[:1], *native.isas()[-1:]}))  # of vectors, of tiles
def test_the_extension_measures(name):
    from briskmlp import _native

    size = 4 if name in native.UNITS else 8
    threads, *rates = _native.limits(size, name, 1)
    assert threads == 1
    assert all(0 < rate < 1e15 for rate in rates)
    wrong = [((size, name, 0), "threads is 0"), ((size, "mmx", 1), "no kernels of ISA 'mmx'")]
    if name in native.UNITS:
        wrong.append(((8, name, 1), f"no kernels of ISA '{name}' for numbers of 8 bytes"))
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            _native.limits(*arguments)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 100_000, '{"%s": [1.0]}', '{"%s": [1.0, 2.0, -3.0]}', '{"%s": [1.0, 2.0, NaN]}',
     '{"%s": [1.0, 2.0, "3"]}', '{"%s": 7}', "\xff\xfe"],
)  # fmt: skip
def test_a_foreign_file_is_measured_again(measured, tmp_path, text):
    path = tmp_path / "cache" / "briskmlp" / "machine.json"
    path.parent.mkdir(parents=True)
    key = f"{machine.cpu_model()} | avx2 | float32 | 2"
    path.write_bytes(text.replace("%s", key).encode("latin-1"))
    assert machine.limits("avx2", "float32", 2).flops == 1e9 + 1
    assert machine.limits("avx2", "float32", 2).flops == 1e9 + 1
    assert len(measured) == 1


def test_what_cannot_be_kept_is_measured_each_time(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert machine.limits("avx2", "float32", 2) != machine.limits("avx2", "float32", 2)


def test_a_busy_pool_measures_nothing(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "limits", lambda dtype, isa, threads: (1, 1e9, 1e9, 1e9))
    with pytest.raises(RuntimeError, match="of 2 threads, 1 were free to measure with"):
        machine.limits("avx2", "float32", 2)
    assert not (tmp_path / "cache").exists()


def test_without_the_extension_there_is_no_roofline(monkeypatch):
    monkeypatch.setattr(native, "reason", lambda: "it was not built")
    _, p = train("numpy")
    assert p.machine is None
    assert {row.roofline for row in p.rows} == {None}
    assert "no roofline: the machine's limits are measured by the C extension: it was not built" in str(p)
    assert json.loads(p.to_json())["machine"] is None
    if native._load()[0] is None:
        return
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    p.plot()


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main(["profile", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_command(run, tmp_path, backend_name):
    code, out, _ = run(
        "--layers", "150,200,10", "--batch", 64, "--steps", 5, "--backend", backend_name, "--sort-by", "time",
        "--trace", tmp_path / "trace.json", "--threads", 1,
    )  # fmt: skip
    assert code == 0
    assert out.startswith(f"150-200-10, {backend_name} ")
    assert ": 5 steps, " in out or ": 6 steps, " in out  # 12.3 MFLOP a step
    check_trace(tmp_path / "trace.json", 1)


def test_the_command_as_json(run):
    code, out, _ = run("--layers", "20,30,2", "--steps", 100, "--backend", "numpy", "--json")
    assert code == 0
    told = json.loads(out)
    sampled = recorded(100, 20, first=3)  # of 6 · 128 · 660 FLOP
    assert (told["layers"], told["steps"], told["sampled"]) == ([20, 30, 2], 100, sampled)


@pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
def test_the_command_calibrates(run, measured):
    code, out, _ = run("--calibrate", "--threads", 1)
    assert (code, measured) == (0, [("float32", native.isa(), 1)])
    assert "1 GFLOP/s, 2 GB/s with" in out
    assert run("--calibrate", "--threads", 1)[0] == 0
    assert len(measured) == 2
    assert run("--calibrate", "--threads", 1, "--precision", "bfloat16")[0] == 0
    assert measured[2:] == [("float32", native.isa(plan.BFLOAT16), 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--layers is missing; only --calibrate can do without"),
        (["--layers", "3"], "layers has 1 widths"),
        (["--layers", "3,2", "--precision", "high", "--dtype", "float64"], "precision='high' needs dtype='float32'"),
        (
            ["--calibrate", "--precision", "high", "--dtype", "float64"],
            "--precision high needs --dtype float32, not float64",
        ),
        (["--layers", "3,x"], "'x' is not a whole number"),
        (["--layers", "3,2", "--batch", "0"], "'0' is not a whole number >= 1"),
        (["--layers", "3,2", "--sort-by", "name"], "invalid choice: 'name'"),
        (
            ["--layers", "3,2", "--backend", "numpy", "--trace", "/nowhere/trace.json"],
            "--trace is '/nowhere/trace.json', which",
        ),
        (["--layers", "3,2", "--plot", "/nowhere/profile.png"], "--plot is '/nowhere/profile.png', which cannot be"),
        (["--layers", "3,2", "--plot", "profile.bmp"], "--plot is 'profile.bmp'; accepted: a name that ends in ."),
    ],
)
def test_wrong_arguments(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "profiling" not in err  # found out before anything is trained


def test_choices_are_the_librarys():
    assert cli.PRECISIONS == plan.PRECISIONS
    assert cli.PROFILE_COLUMNS == profiling.profile.COLUMNS
