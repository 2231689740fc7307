"""The honest measurement: each contender in its own warm process, strictly alternated, medians of many turns.

Alternation makes both see the same machine: its clock, its temperature, its other users. The ratio of two
neighbouring turns is what is reported; a quotient of two best times would reward luck.

    python bench/duel.py --workload nielsen --contenders briskmlp-native,torch,jax
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self, cast

from limits import cpu_model, fma_limit
from workloads import WORKLOADS, Workload

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # XLA's CPU client
)


class MissingError(Exception):
    """The contender's library is not installed."""


class Contestant:
    """A contender's process and the lengths of its turns so far; ``briskmlp-native@avx2`` is forced to an ISA."""

    def __init__(
        self, name: str, threads: int, environment: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.name, self.epochs = name, 1
        contender, _, isa = name.partition("@")
        forced = {"BRISKMLP_ISA": isa} if isa else {}
        self.checked: set[tuple[Workload, str]] = set()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, as it lives as long as the process; closed on exit
        limits = dict.fromkeys(THREAD_LIMITS, str(threads)) | {"JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("worker.py")), contender, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=os.environ | limits | forced | dict(environment or {}),
            text=True,
        )
        try:
            self.version = str(self.reply()["version"])
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # its state is of no use to anybody
        self.process.communicate()  # waits and closes the pipes
        self.log.close()

    def reply(self) -> dict[str, Any]:
        line = cast(IO[str], self.process.stdout).readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"{self.name} died: {self.log.read()[-2000:].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingError(f"{self.name}: {answer['missing']}")
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, do: str, **request: object) -> dict[str, Any]:
        stdin = cast(IO[str], self.process.stdin)
        stdin.write(json.dumps({"do": do, **request}) + "\n")
        stdin.flush()
        return self.reply()

    def prepare(self, workload: Workload, dtype: str, shuffle: bool, quick: bool, seconds: float) -> None:
        """Set the workload up and find how many epochs make a turn of about `seconds`."""
        self.dtype = dtype
        answer = self.ask("setup", workload=asdict(workload), quick=quick, dtype=dtype, shuffle=shuffle)
        self.steps, self.isa = answer["steps"], answer["isa"]
        self.epochs, self.turns = 1, list[dict[str, Any]]()
        self.ask("run", epochs=1)  # compiles
        if quick:
            return
        while (took := self.ask("run", epochs=self.epochs)["seconds"]) < seconds / 4:
            self.epochs *= min(16, max(2, int(seconds / 2 / took)))
        self.epochs = max(1, round(self.epochs * seconds / took))

    def turn(self) -> float:
        """Train for one turn; seconds per step."""
        self.turns.append(self.ask("run", epochs=self.epochs))
        return self.per_step[-1]

    @property
    def per_step(self) -> list[float]:
        return [turn["seconds"] / (self.epochs * self.steps) for turn in self.turns]


def check(contestants: Sequence[Contestant], workload: Workload) -> None:
    """Refuse to compare contenders that do not compute the same result."""
    from equality import reference

    unchecked = [c for c in contestants if (workload, c.dtype) not in c.checked]
    if not unchecked:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "reference")
        path.write_bytes(pickle.dumps(reference(workload)))
        for contestant in unchecked:
            contestant.ask("check", reference=str(path))
            contestant.checked.add((workload, contestant.dtype))


def summary(contestant: Contestant, base: Contestant, workload: Workload) -> dict[str, Any]:
    """The contestant's numbers, and how many times longer than `base` it takes."""
    step = statistics.median(contestant.per_step)
    ratios = sorted(a / b for a, b in zip(contestant.per_step, base.per_step, strict=True))
    return {
        "contender": contestant.name,
        "version": contestant.version,
        "us_per_step": step * 1e6,
        "us_per_step_min": min(contestant.per_step) * 1e6,
        "gflops": workload.flops / step / 1e9,
        "ratio": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "ratio_of_best": min(contestant.per_step) / min(base.per_step),
        # Quartiles say how much the machine disturbed the duel.
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2,
        "pairs": len(ratios),
        "steps_per_turn": contestant.epochs * contestant.steps,
        # Both threads at work give 2; a contender that still computes while others have their turn shows here.
        "busy_cores": sum(t["cpu"] for t in contestant.turns) / sum(t["seconds"] for t in contestant.turns),
        "idle_cpu_s": sum(t["idle_cpu"] for t in contestant.turns),
        "loss": contestant.turns[-1]["loss"],
    }


def duel(
    contestants: Sequence[Contestant],
    workload: Workload,
    *,
    pairs: int = 9,
    seconds: float = 0.4,
    dtype: str = "float32",
    shuffle: bool = False,
    checked: bool = True,
) -> list[dict[str, Any]]:
    """Let the contestants take turns, `pairs` each; one summary per contestant, relative to the first."""
    for contestant in contestants:
        contestant.prepare(workload, dtype, shuffle, quick=False, seconds=seconds)
    if checked:
        check(contestants, workload)
    for _ in range(pairs):
        for contestant in contestants:
            contestant.turn()
    return [summary(contestant, contestants[0], workload) for contestant in contestants]


def show(name: str, rows: Sequence[dict[str, Any]], limit: float) -> None:
    print(f"\n{name}: {rows[0]['pairs']} turns each; ratio = time / {rows[0]['contender']}'s, neighbouring turns")
    print(f"{'':17}{'µs/step':>11}{'min':>11}{'GFLOP/s':>9}{'% FMA':>7}{'ratio':>9}", end="")
    print(f"{'quartiles':>17}{'of best':>9}{'cores':>7}")
    for row in rows:
        low, high = row["ratio_quartiles"]
        print(
            f"{row['contender']:17}{row['us_per_step']:11.4g}{row['us_per_step_min']:11.4g}{row['gflops']:9.3g}"
            f"{row['gflops'] / limit:7.1%}{row['ratio']:9.3g}{low:8.3g} …{high:7.3g}"
            f"{row['ratio_of_best']:9.3g}{row['busy_cores']:7.2f}"
        )
        if row["idle_cpu_s"] > 0.01 + 0.02 * row["us_per_step"] * 1e-6 * row["steps_per_turn"] * row["pairs"]:
            print(f"{'':17}  burnt {row['idle_cpu_s']:.2f} s of CPU while others had their turn")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workload", default="nielsen", help=f"all, or some of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--contenders",
        default="briskmlp-native,torch,jax",
        help="of which the first is the base of the ratios; @ISA forces one of ours, as in briskmlp-native@avx2",
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a turn, in which whole epochs are run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--shuffle", action="store_true", help="a fresh permutation per epoch, else the natural order")
    parser.add_argument("--no-check", action="store_true", help="skip the comparison with float64 NumPy")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = list(WORKLOADS) if options.workload == "all" else options.workload.split(",")
    limit = fma_limit(options.dtype, options.threads)
    machine = {"cpu": cpu_model(), "threads": options.threads, "dtype": options.dtype, "fma_limit_gflops": limit}
    report: dict[str, Any] = {**machine, "shuffle": options.shuffle, "workloads": {}}
    with ExitStack() as stack:
        contestants = []
        for name in options.contenders.split(","):
            try:
                contestants.append(stack.enter_context(Contestant(name, options.threads)))
            except MissingError as reason:
                print(f"left out: {reason}", file=sys.stderr)
        if not contestants:
            sys.exit("no contender is installed")
        if not options.json:
            print(f"{machine['cpu']}, {options.threads} threads, {options.dtype}, FMA limit {limit:.0f} GFLOP/s")
            print(", ".join(dict.fromkeys(contestant.version for contestant in contestants)))
        for name in names:
            rows = duel(
                contestants,
                WORKLOADS[name],
                pairs=options.pairs,
                seconds=options.seconds,
                dtype=options.dtype,
                shuffle=options.shuffle,
                checked=not options.no_check,
            )
            report["workloads"][name] = rows
            if not options.json:
                show(name, rows, limit)
    if options.json:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
