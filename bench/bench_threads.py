"""What do threads gain: inside one training, and between trainings of one process?"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import DTYPE, SECONDS, THREADS, TURNS
from duel import Contestant, summary
from workloads import WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS)
def bench_threads_of_one_training(benchmark: Any, machine: dict[str, Any], workload: str) -> None:
    """extra_info["ratio"]: time of one thread / of all; below 1 / 1.05 the threads cost more than they gain."""
    w = WORKLOADS[workload]
    with ExitStack() as stack:
        many, one = (stack.enter_context(Contestant("briskmlp-native", threads)) for threads in (THREADS, 1))
        for contestant in (many, one):
            contestant.prepare(w, DTYPE, shuffle=False, quick=benchmark.disabled, seconds=SECONDS)

        def turn_of_one() -> None:
            one.turn()

        benchmark.group = workload
        benchmark.pedantic(many.turn, setup=turn_of_one, rounds=TURNS)
        mine, alone = summary(many, many, w), summary(one, many, w)
    benchmark.extra_info.update(machine, us_per_step=mine["us_per_step"], us_per_step_alone=alone["us_per_step"])
    benchmark.extra_info.update({key: alone[key] for key in ("ratio", "ratio_quartiles", "ratio_of_best")})


@pytest.mark.parametrize("workload", ["nielsen", "digits", "mid"])
def bench_two_trainings_at_once(benchmark: Any, machine: dict[str, Any], workload: str) -> None:
    """extra_info["scaling"]: how many times the work of one Trainer two do, each of one thread in a Python thread."""
    from briskmlp import SGD, Trainer

    w = WORKLOADS[workload].quick() if benchmark.disabled else WORKLOADS[workload]
    X, Y = w.dataset()
    trainers = [
        Trainer(w.layers, optimizer=SGD(w.learning_rate), batch_size=w.batch, seed=0, backend="native", threads=1)
        for _ in range(2)
    ]

    def seconds(work: Callable[[], None]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def alone(trainer: Trainer, epochs: int) -> None:
        trainer.fit(X, Y, epochs=epochs, progress=False)

    alone(trainers[0], 1)
    epochs = 1 if benchmark.disabled else max(1, round(SECONDS / seconds(lambda: alone(trainers[0], 1))))
    scaling = []

    def together() -> None:
        threads = [threading.Thread(target=alone, args=(trainer, epochs)) for trainer in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def turn() -> None:
        scaling.append(2 * seconds(lambda: alone(trainers[0], epochs)) / seconds(together))

    benchmark.pedantic(turn, rounds=TURNS, warmup_rounds=0 if benchmark.disabled else 1)
    benchmark.extra_info.update(machine, scaling=statistics.median(scaling), scaling_max=max(scaling))
