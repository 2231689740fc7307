"""``briskmlp profile``: train a network on random data, and show where the time goes."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np

from briskmlp._console import Result, check_apart, check_plot, check_writable, note, save_figure
from briskmlp._messages import count
from briskmlp.backends import native
from briskmlp.backends.threads import thread_limit
from briskmlp.optimizers import OPTIMIZERS
from briskmlp.plan import HIGHEST, PRECISIONS
from briskmlp.profiling import limits
from briskmlp.trainer import Trainer

SECONDS = 2.0  # of training, unless --steps says how much


def profile(args: Namespace) -> Result:
    """Profile as many steps as were asked for, after one that finds all memory mapped and all code loaded."""
    if args.layers is None and not args.calibrate:
        raise ValueError("--layers is missing; only --calibrate can do without")
    if args.layers is None:
        return _calibrate(args)
    check_plot(args.plot)
    check_writable("--trace", args.trace)
    check_apart({"--plot": args.plot, "--trace": args.trace})
    chosen = {name: getattr(args, name) for name in ("dtype", "precision", "backend", "threads")}
    chosen |= {"hidden": args.activation, "optimizer": OPTIMIZERS[args.optimizer](1e-3), "batch_size": args.batch}
    chosen |= {"norm": args.norm, "norm_position": args.norm_position}
    trainer = Trainer(args.layers, loss="cross_entropy", seed=0, **chosen)
    rng = np.random.default_rng(0)
    X = rng.random((args.batch, trainer.network.n_in), dtype=np.dtype(args.dtype))
    Y = rng.integers(max(2, trainer.network.n_out), size=args.batch)
    if args.calibrate:
        _calibrate(args)
    with trainer.profile() as p:
        trainer.fit(X, Y, epochs=1, progress=False)  # compiles, and maps memory
        p.clear()
        trainer.fit(X, Y, epochs=1, progress=False)
        steps = args.steps or max(3, min(10**6, int(SECONDS / p.seconds)))
        steps = max(steps, 3 * p.every if p.every > 1 else 0)  # so that some are recorded
        p.clear()
        note(f"profiling {count(steps, 'step')} of {args.batch} rows")
        trainer.fit(X, Y, epochs=steps, progress=False)
    if args.trace is not None:
        p.to_chrome_trace(args.trace)
    if args.plot is not None:
        save_figure(p.plot(), args.plot)
    return Result(json.loads(p.to_json()), p.table(sort_by=args.sort_by) + "\n")


def _calibrate(args: Namespace) -> Result:
    """Measure the limits of one thread, and of all that may be used."""
    most = thread_limit(args.threads)
    if native.reason() is not None:
        raise ValueError(f"--calibrate needs the C extension: {native.reason()}")
    if args.precision != PRECISIONS[HIGHEST] and args.dtype != "float32":
        raise ValueError(f"--precision {args.precision} needs --dtype float32, not {args.dtype}")
    isa = native.isa(PRECISIONS.index(args.precision))
    machines = [limits(isa, args.dtype, threads, calibrate=True) for threads in sorted({1, most})]
    lines = [machines[0].cpu, *(f"  {machine.describe()}" for machine in machines)]
    return Result({"machines": [machine._asdict() for machine in machines]}, "\n".join(lines) + "\n")
