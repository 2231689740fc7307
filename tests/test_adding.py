"""The pages on adding an activation and an optimizer, proved: in a copy of the repository, by the edits they list."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
TRAIN = """
import sys
# not an editable install
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
import numpy as np
import oracle
import briskmlp
from briskmlp import SGD, Trainer

assert "/site/" in briskmlp.__file__
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
for backend in ("native", "numba", "numpy"):
    for hidden, optimizer, theirs in [
        ("hardsigmoid", SGD(0.1), oracle.SGD()),
        ("tanh", briskmlp.Lion(0.01, weight_decay=0.1), oracle.Lion(weight_decay=0.1)),
    ]:
        trainer = Trainer(
            [3, 20, 2], hidden=hidden, output="identity", optimizer=optimizer, batch_size=8, dtype="float64", seed=0,
            backend=backend, l2=0.01,
        )
        weights, biases = ([part.copy() for part in parts] for parts in (trainer.weights, trainer.biases))
        activations = trainer.network.activations
        trainer.fit(X, Y, epochs=3, progress=False)
        expected = oracle.train(
            weights, biases, activations, "mse", theirs, X, Y, epochs=3, batch_size=8,
            learning_rates=[optimizer.learning_rate] * 3, seed=0, l2=0.01,
        )
        for ours, exact in zip((*trainer.weights, *trainer.biases), (*expected[0], *expected[1]), strict=True):
            np.testing.assert_allclose(ours, exact, rtol=1e-11, atol=1e-12)
"""

# file: pairs of an anchor and what is written before it; the anchor None stands for the end of the file
EDITS = {
    "src/briskmlp/operations/activations.py": [
        (
            ")  # fmt: skip\n\nACTIVATIONS =",
            """    Activation(
        name="hardsigmoid", f=lambda Z: np.clip(Z / 6 + 0.5, 0, 1),
        df=lambda A: _pick((A > 0) & (A < 1), 1 / 6, 0, A), kinks=lambda: (-3.0, 3.0), range=lambda: (0.0, 1.0),
        saves="exact_A", torch=Torch("Hardsigmoid", ("hardsigmoid",)),
        onnx=(Node("HardSigmoid", attributes={"alpha": 1 / 6}),),
    ),
""",
        )
    ],
    "src/briskmlp/operations/rules.py": [
        ('"NAdam", "RAdam"', '"Lion", '),
        (
            "# --- the table ---",
            """def _lion(w: Array, g: Array, slots: Array, t: Time, beta1: float, beta2: float) -> None:
    m = slots[0]
    w -= t.lr * np.sign(beta1 * m + (1 - beta1) * g)
    m[...] = beta2 * m + (1 - beta2) * g


""",
        ),
        (
            ")  # fmt: skip\n\nRULES =",
            """    Rule(name="lion", step=_lion, hyper=("beta1", "beta2"), slots=("exp_avg",)),
""",
        ),
        (
            "OPTIMIZERS: dict",
            '''@dataclass(frozen=True)
class Lion(Optimizer):
    """Steps of one size, in the direction of the sign of a running mean."""

    rule = "lion"
    learning_rate: float | Schedule = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0


''',
        ),
    ],
    "kernels/operations.def": [
        (
            "#undef ACTIVATION",
            "ACTIVATION(HARDSIGMOID, ANYWHERE, EXACT_A, vec_hardsigmoid(Z), vec_hardsigmoid_backward(g, A))\n",
        ),
        ("#undef RULE", "RULE(LION, 1, 0, of_lion(r, hyper), move_lion(r, w, g, s))\n"),
    ],
    "kernels/templates/special_template.h": [
        (
            "/* z min(max(z + 3",
            """INLINE vec vec_hardsigmoid(vec z) {
    const vec x = vec_fma(z, vec_splat((real)(1.0 / 6)), vec_splat((real)0.5));
    return vec_min(vec_splat(1), vec_max(vec_splat(0), x));
}

INLINE vec vec_hardsigmoid_backward(vec g, vec A) {
    const vec zero = vec_splat(0), inside = vec_where_less(A, vec_splat(1), g * vec_splat((real)(1.0 / 6)), zero);
    return vec_where_less(zero, A, inside, zero);
}

""",
        )
    ],
    "kernels/templates/update_template.h": [
        (
            "/\\* The plan's rule at a step",
            """static void of_lion(struct rule* r, const double* hyper) {
    r->mu = (real)hyper[0];
    r->gain = (real)(1 - hyper[0]);
    r->beta2 = (real)hyper[1];
    r->rest2 = (real)(1 - hyper[1]);
}

""",
        ),
        (
            "INLINE vec move\\(",
            """INLINE vec move_lion(const struct rule* r, vec w, vec g, vec* s) {
    const vec zero = vec_splat(0), lr = vec_splat(r->lr);
    const vec c = vec_fma(vec_splat(r->mu), s[0], vec_splat(r->gain) * g);
    s[0] = vec_fma(vec_splat(r->beta2), s[0], vec_splat(r->rest2) * g);
    return w - vec_where_less(zero, c, lr, vec_where_less(c, zero, -lr, zero));
}

""",
        ),
    ],
    "src/briskmlp/backends/numba/activations.py": [
        (
            "# --- the table",
            '''@jit
def hardsigmoid_backward(g: Any, A: Any, p: float, q: float) -> Any:
    """Return g f'."""
    return hardtanh_backward(g * splat(A, 1.0 / 6.0), A, 0.0, 1.0)


''',
        ),
        (
            r"\)\nSLOPE",
            """    (
        lambda z, p, q: between(fma(z, splat(z, 1.0 / 6.0), splat(z, 0.5)), 0.0, 1.0),
        hardsigmoid_backward,
    ),
""",
        ),
    ],
    "src/briskmlp/backends/numba/update.py": [
        (
            "# By their codes",
            '''def lion(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by the sign of a running mean."""
    rate, beta1, rest1 = number(P, t.lr), number(P, t.h[0]), number(P, 1.0 - t.h[0])
    beta2, rest2 = number(P, t.h[1]), number(P, 1.0 - t.h[1])
    for i in range(t.size):
        P[i] -= rate * np.sign(beta1 * S[i] + rest1 * G[i])
        S[i] = beta2 * S[i] + rest2 * G[i]


''',
        ),
        (r"\)\nrule_of = ", "    lion,\n"),
    ],
    "tests/oracle.py": [
        (
            "}\n\n\ndef _parse",
            """    "hardsigmoid": (
        lambda Z: np.minimum(np.maximum(Z / 6 + 0.5, 0), 1),
        lambda Z, A: np.where(np.abs(Z) < 3, 1 / 6, 0.0),
    ),
""",
        ),
        (
            "def sample_order",
            """@dataclass(kw_only=True)
class Lion(Optimizer):
    def move(self, p, g, m, v, x, lr):
        p -= lr * np.sign(0.9 * m + 0.1 * g)
        m[...] = 0.99 * m + 0.01 * g


""",
        ),
    ],
}


def edit(text, anchor, new):
    """Return the text with something written before the last place of the anchor."""
    places = list(re.finditer(anchor if "\\" in anchor or "$" in anchor else re.escape(anchor), text))
    assert places, f"there is no {anchor!r}"
    return text[: places[-1].start()] + new + text[places[-1].start() :]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.skipif(importlib.util.find_spec("scikit_build_core") is None, reason="needs scikit-build-core")
def test_an_activation_and_an_optimizer_are_added_by_five_files_each(tmp_path):
    for page, others in [
        ("adding_an_activation", ("rules.py", "update_template.h", "update.py")),
        ("adding_an_optimizer", ("activations.py", "special_template.h")),
    ]:
        files = [name for name in EDITS if not name.endswith(others)]
        text = (TOP / f"docs/{page}.md").read_text(encoding="utf-8")
        assert all(f"`{name}`" in text for name in files)
        assert len(files) == 5
    copy, site = tmp_path / "copy", tmp_path / "site"
    shutil.copytree(TOP, copy, ignore=shutil.ignore_patterns(".git", "*.so", "__pycache__", "_build", ".*_cache"))
    for name, edits in EDITS.items():
        source = (copy / name).read_text(encoding="utf-8")
        for anchor, new in edits:
            source = edit(source, anchor, new)
        (copy / name).write_text(source, encoding="utf-8")
    options = ["-q", "--no-deps", "--no-build-isolation", "--target", site]
    for command, environment in (
        (["-m", "pip", "install", *options, copy], {"BRISKMLP_REQUIRE_NATIVE": "1"}),
        (["-c", TRAIN], {"PYTHONPATH": f"{site}{os.pathsep}{copy / 'tests'}", "NUMBA_CACHE_DIR": str(tmp_path)}),
    ):
        subprocess.run([sys.executable, *command], check=True, timeout=280, env=os.environ | environment, cwd=tmp_path)
