"""Two builds of briskmlp, given by the Python executables of two environments: do they compute the same bits as fast?

    python bench/builds.py BEFORE/bin/python AFTER/bin/python --bits --speed

``--bits`` trains random plans on every backend and instruction set that both have, and compares parameters, optimizer
state, losses, predictions and gradients to the last bit. ``--speed`` lets both train the workloads in strict turns.
The environments should have the same versions of NumPy, Numba, scikit-learn and PyTorch; what differs is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from duel import Contestant, duel
from workloads import WORKLOADS

HIDDEN = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
PAIRS = [  # loss, output, its targets
    *((loss, output, "numbers") for loss in ("mse", "absolute_error", "huber") for output in HIDDEN),
    *(("mse", "softmax", "rows"), ("poisson", "exp", "counts"), ("cross_entropy", "sigmoid", "each")),
    *(("cross_entropy", "softmax", "labels"), ("cross_entropy", "softmax", "rows")),
]
TORCH_PAIRS = [  # loss, the module that ends the network, its targets
    *((loss, output, "numbers") for loss in ("MSELoss", "L1Loss", "HuberLoss") for output in ("Tanh", "Identity")),
    *(("BCELoss", "Sigmoid", "each"), ("BCEWithLogitsLoss", "Identity", "each")),
    *(("CrossEntropyLoss", "Identity", "labels"), ("CrossEntropyLoss", "Identity", "rows")),
]
OPTIMIZERS = (
    *(("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.5, "nesterov": True})),
    *(("Adam", {}), ("Adam", {"beta1": 0.0}), ("AdamW", {"beta2": 0.99}), ("RMSprop", {"alpha": 0.9})),
)
TORCH_OPTIMIZERS = (
    *(("SGD", {"lr": 0.01, "weight_decay": 0.01}), ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True})),
    *((name, {"lr": 0.01}) for name in ("Adam", "AdamW", "RMSprop")),
)
DTYPES = ("float32", "float32", "float64")
RATES = (0.3, 0.03, 0.003)
SPEED_OF = ("xor", "nielsen", "digits", "simplechains", "mid", "deep")
LEAST_MEAN, LEAST = 0.98, 0.95  # what counts as equally fast


# --- the plans -------------------------------------------------------------------------------------------------------


def shape(r: random.Random) -> dict[str, Any]:
    """Widths, rows and a batch size: mostly small, a fifth so large that threads share a step."""
    width, n = (300, r.randint(200, 700)) if r.random() < 0.2 else (70, r.randint(10, 130))
    layers = [r.randint(1, r.choice((4, 16, width))) for _ in range(r.randint(2, 5))]
    batch = r.randint(60, n) if n >= 200 else r.choice((r.randint(1, n), r.randint(1, 33), 32))
    return {"layers": layers, "batch": batch, "n": n, "dtype": r.choice(DTYPES), "data_seed": r.getrandbits(32)}


def trainer_job(r: random.Random) -> dict[str, Any]:
    pick, job = r.choice, shape(r)
    loss, output, targets = pick(PAIRS)
    job["layers"][-1] += output == "softmax"
    job["targets"] = "labels" if loss == "cross_entropy" and job["layers"][-1] == 1 else targets
    hidden, rate, (name, hyperparameters) = [pick(HIDDEN) for _ in job["layers"][1:-1]], pick(RATES), pick(OPTIMIZERS)
    schedule = pick((None, None, ["StepDecay", rate, 2, 0.5], ["Cosine", rate, 3], ["InverseScaling", rate]))
    job["optimizer"] = [name, hyperparameters | {"learning_rate": rate, "weight_decay": pick((0.0, 0.01))}, schedule]
    job["arguments"] = {
        "layers": job["layers"], "hidden": hidden, "output": output, "loss": loss, "dtype": job["dtype"],
        "batch_size": pick((job["batch"], job["batch"], None)), "l2": pick((0.0, 0.0, 0.1)),
        "dropout": [pick((0.0, 0.3)) for _ in hidden] if r.random() < 0.3 else 0.0, "clip_norm": pick((None, 0.5)),
        "bias": pick(("neuron", "neuron", "layer", "none")), "initializer": pick((None, "glorot", "he")),
        "precision": pick(("highest", "highest", "high", "bfloat16")) if job["dtype"] == "float32" else "highest",
        "shuffle": r.random() < 0.7, "seed": r.getrandbits(64), "threads": pick((1, 2)),
    }  # fmt: skip
    course = {"fits": pick(([3], [1, 2], [2, 0, 1])), "between": pick(("nothing", "file", "pickle"))}
    return job | course | {"kind": "trainer", "weighted": r.random() < 0.3, "validated": r.random() < 0.2}


def estimator_job(r: random.Random) -> dict[str, Any]:
    pick, job = r.choice, shape(r)
    job["n"] += 50  # early stopping needs some of each class
    job["layers"][-1] = min(job["layers"][-1], 4)
    job["class"], job["targets"] = pick((("MLPClassifier", "labels"), ("MLPRegressor", "numbers")))
    job["arguments"] = {
        "hidden_layer_sizes": job["layers"][1:-1] or [5], "solver": pick(("sgd", "adam")), "alpha": pick((0.0, 0.01)),
        "activation": pick(("identity", "logistic", "tanh", "relu", "leaky_relu")), "max_iter": 4,
        "batch_size": min(job["batch"], job["n"] // 2), "learning_rate": pick(("constant", "invscaling", "adaptive")),
        "learning_rate_init": pick(RATES[1:]), "shuffle": r.random() < 0.7, "random_state": r.getrandbits(31),
        "momentum": pick((0.0, 0.9)), "nesterovs_momentum": pick((True, False)), "early_stopping": r.random() < 0.3,
        "warm_start": r.random() < 0.3, "dropout": pick((0.0, 0.0, 0.2)), "clip_norm": pick((None, None, 0.5)),
        "n_threads": pick((1, 2)),
    }  # fmt: skip
    return job | {"kind": "estimator", "weighted": r.random() < 0.2}


def torch_job(r: random.Random) -> dict[str, Any]:
    pick, job = r.choice, shape(r)
    job["loss"], output, job["targets"] = pick(TORCH_PAIRS)
    job["layers"][-1] += job["loss"] == "CrossEntropyLoss"
    job["activations"] = [*(pick(("Sigmoid", "Tanh", "ReLU", "LeakyReLU")) for _ in job["layers"][1:-1]), output]
    job["fit"] = {"batch_size": min(job["batch"], job["n"]), "shuffle": r.random() < 0.5, "drop_last": r.random() < 0.3}
    more = {"reduction": pick(("mean", "mean", "sum")), "scheduled": r.random() < 0.3, "weighted": False}
    return job | more | {"kind": "torch", "optimizer": pick(TORCH_OPTIMIZERS)}


def plans(count: int, seed: int, torch: bool) -> list[dict[str, Any]]:
    """Random jobs: of ten, about two are estimators and two, if both builds have PyTorch, its modules."""
    r = random.Random(seed)
    kinds = [trainer_job] * 6 + [estimator_job] * 2 + [torch_job if torch else trainer_job] * 2
    return [r.choice(kinds)(r) for _ in range(count)]


# --- the comparisons -------------------------------------------------------------------------------------------------


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Say where two builds' answers to one job differ; what only the newer one stores is no difference."""
    for place, old in before.items():
        new = after[place]
        if "refused" in old and "refused" in new:
            continue  # in whichever words
        if "refused" in old or "refused" in new:
            yield f"{place}: {old.get('refused', 'trained')} before, {new.get('refused', 'trained')} after"
        elif parts := [part for part in old if old[part] != new.get(part)]:
            yield f"{place}: {', '.join(parts)}"


def compare_bits(before: Contestant, after: Contestant, count: int, seed: int) -> int:
    """Print each plan whose results differ; return how many there are."""
    builds = before.ask("describe"), after.ask("describe")
    for package, version in builds[0]["versions"].items():
        if version != builds[1]["versions"][package]:
            print(f"{package}: {version} before, {builds[1]['versions'][package]} after")
    on = [place for place in builds[0]["on"] if place in builds[1]["on"]]
    jobs = plans(count, seed, torch=all(build["versions"]["torch"] for build in builds))
    different, refusals, added = 0, Counter[str](), set[str]()
    for number, job in enumerate(jobs):
        old, new = (build.ask("train", job=job, on=on) for build in (before, after))
        if found := list(differences(old, new)):
            different += 1
            print(f"\nplan {number}: {json.dumps(job)}", *found, sep="\n  ")
        for place, parts in old.items():
            refusals[" ".join(parts.get("refused", "none").split()[:12])] += 1
            added |= new[place].keys() - parts.keys()
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(job["kind"] for job in jobs).items())
    runs, places = refusals.pop("none", 0), ", ".join(isa or backend for backend, isa in on)
    print(f"\n{different} of {count} plans differ ({kinds}; seed {seed}; {runs} runs on {places})")
    print(*(f"{times:5} × {reason} …" for reason, times in refusals.most_common()), sep="\n")
    if added:
        print("stored after, not before:", ", ".join(sorted(added)))
    return different


def compare_speed(before: Contestant, after: Contestant, turns: int, seconds: float) -> bool:
    """Print the ratio of speeds for each workload; return whether the newer build is as fast."""
    print(f"\n{'':14}{'before':>11}{'after':>11}  µs/step; ratio of speeds, its quartiles")
    ratios = []
    for name in SPEED_OF:
        old, new = duel((before, after), WORKLOADS[name], pairs=turns, seconds=seconds)
        ratio, high, low = (1 / time for time in (new["ratio"], *new["ratio_quartiles"]))
        ratios.append(ratio)
        print(f"{name:14}{old['us_per_step']:11.4g}{new['us_per_step']:11.4g}{ratio:9.3f}{low:9.3f} …{high:6.3f}")
    mean = math.prod(ratios) ** (1 / len(ratios))
    print(f"geometric mean {mean:.3f} (at least {LEAST_MEAN}), least {min(ratios):.3f} (at least {LEAST})")
    return mean >= LEAST_MEAN and min(ratios) >= LEAST


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("before", help="the Python executable of the older build's environment")
    parser.add_argument("after", help="the newer one's")
    parser.add_argument("--bits", action="store_true")
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a turn")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    same = fast = True
    with ExitStack() as stack:
        before, after = (
            stack.enter_context(Contestant("briskmlp-native", options.threads, python=python))
            for python in (options.before, options.after)
        )
        if options.bits:
            same = compare_bits(before, after, options.plans, options.seed) == 0
        if options.speed:
            fast = compare_speed(before, after, options.turns, options.seconds)
    sys.exit(not (same and fast))


if __name__ == "__main__":
    main()
