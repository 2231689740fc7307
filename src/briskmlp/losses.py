"""The losses: which (loss, output activation) pairs exist, and what targets each accepts."""

from __future__ import annotations

from briskmlp._messages import check_choice
from briskmlp.network import HIDDEN_ACTIVATIONS, Network

# loss → the output activations it can be trained with
OUTPUTS = {
    "mse": (*HIDDEN_ACTIVATIONS, "softmax"),
    "cross_entropy": ("softmax", "sigmoid"),
    "poisson": ("exp",),
    "absolute_error": HIDDEN_ACTIVATIONS,
    "huber": HIDDEN_ACTIVATIONS,
}
LOSSES = tuple(OUTPUTS)
REGRESSION = ("mse", "absolute_error", "huber")  # of targets that may be any numbers


def default_output(loss: str, hidden: str, n_out: int) -> str:
    """Return the output activation that ``output=None`` stands for.

    mse, absolute_error and huber: as the hidden layers; poisson: exp; cross_entropy: softmax for two or more outputs,
    sigmoid for one.
    """
    check_choice("loss", loss, LOSSES)
    if loss in REGRESSION:
        return hidden
    if loss == "poisson":
        return "exp"
    return "softmax" if n_out >= 2 else "sigmoid"


def check_loss(loss: str, output: str) -> None:
    """Refuse a (loss, output) pair that has no gradient here, with the list of valid ones."""
    check_choice("loss", loss, LOSSES)
    if output not in OUTPUTS[loss]:
        pairs = "; ".join(f"{name} with {', '.join(outputs)}" for name, outputs in OUTPUTS.items())
        raise ValueError(f"loss {loss!r} cannot be trained with output {output!r}; the valid pairs are: {pairs}")


def target_rules(loss: str, network: Network) -> tuple[int | None, str | None]:
    """Say what targets a loss accepts.

    Returns
    -------
    n_labels : int or None
        Integer targets of shape (n,) are labels 0…n_labels-1; None if labels are not accepted.
    domain : {"each", "rows", "counts", None}
        Dense targets must be in [0, 1]; and each row must sum to 1; or they must be 0 or more; or may be anything
        finite. Cross-entropy's ``delta = (A - Y)/n`` holds only for probabilities, poisson's Y log Y for counts.
    """
    if loss in REGRESSION:
        return None, None
    if loss == "poisson":
        return None, "counts"
    if network.output == "softmax":
        return network.n_out, "rows"
    return (2 if network.n_out == 1 else None), "each"
