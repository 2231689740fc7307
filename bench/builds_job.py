"""One build's part of bench/builds.py, in the worker's process: trains a described plan and hashes what comes of it.

A file of its own because it runs in the interpreter of each build, the older ones too, with different imports: of
briskmlp it takes only what users call.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import briskmlp

Parts = dict[str, str]


def hashed(value: Any) -> str:
    """A hash of the bits of an array or a list of numbers, and of dtype and shape."""
    array = np.asarray(value)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()[:16]


def data(job: dict[str, Any]) -> tuple[Any, Any, Any]:
    """X, Y and weights (or None) that the job describes, the same in both builds."""
    rng = np.random.default_rng(job["data_seed"])
    n, n_in, n_out = job["n"], job["layers"][0], job["layers"][-1]
    X = rng.standard_normal((n, n_in)) * (rng.random((n, n_in)) < 0.8)  # zeros meet relu's kink
    Y = {
        "numbers": lambda: rng.standard_normal((n, n_out)),
        "labels": lambda: rng.integers(max(2, n_out), size=n),
        "each": lambda: rng.random((n, n_out)),
        "rows": lambda: np.eye(n_out)[rng.integers(n_out, size=n)],
        "counts": lambda: rng.poisson(1.5, (n, n_out)),
    }[job["targets"]]()
    weight = rng.integers(0, 3, n) / 2 if job["weighted"] else None  # with zeros, some batches weigh nothing
    return X, Y, weight


def run_trainer(job: dict[str, Any]) -> Parts:
    name, hyperparameters, schedule = job["optimizer"]
    if schedule:
        hyperparameters = hyperparameters | {"learning_rate": getattr(briskmlp, schedule[0])(*schedule[1:])}
    trainer = briskmlp.Trainer(**job["arguments"], optimizer=getattr(briskmlp, name)(**hyperparameters))
    X, Y, weight = data(job)
    parts = {"initial": hashed(trainer.parameters)}
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        try:
            for epochs in job["fits"]:
                validation = (X[:9], Y[:9]) if job["validated"] else None
                history = trainer.fit(X, Y, epochs=epochs, sample_weight=weight, validation_data=validation)
                losses += [history.loss, history.val_loss]
                if job["between"] == "file":
                    trainer.save(path)
                    trainer = briskmlp.Trainer.load(path, threads=job["arguments"]["threads"])
                elif job["between"] == "pickle":
                    trainer = pickle.loads(pickle.dumps(trainer))
        except FloatingPointError:
            parts["diverged"] = "yes"
        trainer.save(path)
        content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")  # of the tensors in a safetensors file
    for tensor, entry in json.loads(content[8:start]).items():
        if tensor != "__metadata__":
            first, last = entry["data_offsets"]
            parts[tensor] = hashed(np.frombuffer(content[start + first : start + last], np.uint8))
    loss, gradient = trainer.loss_and_gradient(X, Y, weight)
    parts |= {
        "losses": hashed(np.concatenate(losses or [[]])),
        "predict": hashed(trainer.predict(X)),
        "evaluate": hashed(trainer.evaluate(X, Y, weight)),
        "loss": hashed(loss),
        "gradient": hashed(gradient.flat),
    }
    return parts


def run_estimator(job: dict[str, Any]) -> Parts:
    import briskmlp.estimators

    model = getattr(briskmlp.estimators, job["class"])(**job["arguments"])
    X, Y, weight = data(job)
    Y = Y if Y.ndim == 1 or Y.shape[1] > 1 else Y.ravel()
    X = X.astype(job["dtype"])
    parts = {}
    for i in range(2):  # the second starts afresh, or goes on with warm_start
        model.fit(X, Y, weight)
        parts |= {f"{i} {name}": hashed(getattr(model, name)) for name in ("loss_curve_", "n_iter_", "t_")}
        parts |= {f"{i} coefs_[{l}]": hashed(W) for l, W in enumerate(model.coefs_)}
        parts |= {f"{i} intercepts_[{l}]": hashed(b) for l, b in enumerate(model.intercepts_)}
    if job["arguments"]["early_stopping"]:
        parts["validation_scores_"] = hashed(model.validation_scores_)
    else:  # partial_fit refuses early stopping
        parts["partial_fit"] = hashed(np.concatenate([W.ravel() for W in model.partial_fit(X, Y).coefs_]))
    predict = model.predict_proba if hasattr(model, "predict_proba") else model.predict
    return parts | {"predict": hashed(predict(X))}


def run_torch(job: dict[str, Any]) -> Parts:
    import torch
    from torch import nn, optim

    from briskmlp.interop.torch import fit

    torch.manual_seed(job["data_seed"])
    widths, layers = job["layers"], list[nn.Module]()
    for l, (n_in, n_out) in enumerate(pairwise(widths)):
        layers += [nn.Linear(n_in, n_out), getattr(nn, job["activations"][l])()]
    module = nn.Sequential(*layers).to(getattr(torch, job["dtype"]))
    name, hyperparameters = job["optimizer"]
    last = list(layers[-2].parameters())  # in a group of its own, with a rate of its own
    first = [p for p in module.parameters() if all(p is not q for q in last)]
    groups = [{"params": first}, {"params": last, "lr": 0.003}] if first else last
    optimizer = getattr(optim, name)(groups, **hyperparameters)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2) if job["scheduled"] else None
    X, Y, _ = data(job)
    Y = torch.tensor(Y) if Y.ndim == 1 else torch.tensor(Y, dtype=getattr(torch, job["dtype"]))
    loss_fn = getattr(nn, job["loss"])(reduction=job["reduction"])
    parts: Parts = {}
    for i in range(2):
        history = fit(module, loss_fn, optimizer, X, Y, epochs=2, scheduler=scheduler, **job["fit"])
        parts[f"{i} losses"] = hashed(history.loss)
    parts |= {key: hashed(tensor.numpy()) for key, tensor in module.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        parts |= {f"state {i} {key}": hashed(np.asarray(value)) for key, value in state.items() if value is not None}
    return parts


def describe() -> dict[str, Any]:
    """Versions, and the backends and instruction sets that can run here."""
    command = [sys.executable, "-m", "briskmlp", "info", "--json"]
    info = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    on = [("native", isa) for isa in info["isas"]] + [("numba", None), ("numpy", None)]
    versions = info["versions"] | {"torch": version("torch") if find_spec("torch") else None}
    return {"versions": versions, "on": [place for place in on if info["backends"][place[0]]["available"]]}


def train(job: dict[str, Any], on: list[tuple[str, str | None]]) -> dict[str, Parts]:
    """A hash of each part of what the job trains, for each (backend, ISA)."""
    warnings.simplefilter("ignore")
    run = {"trainer": run_trainer, "estimator": run_estimator, "torch": run_torch}[job["kind"]]
    results = {}
    for backend, isa in on:
        os.environ |= {"BRISKMLP_BACKEND": backend, "BRISKMLP_ISA": isa or ""}
        try:
            parts = run(job)
        except Exception as error:  # such as an instruction set that lacks a dtype: both builds must say so
            parts = {"refused": f"{type(error).__name__}: {error}"}
        results[isa or backend] = parts
    return results
