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


def default_output(loss: str, hidden: str, n_out: int) -> str:
    """Return the output activation that ``output=None`` stands for.

    mse: as the hidden layers; cross_entropy: softmax for two or more outputs, sigmoid for one.
    """
    check_choice("loss", loss, LOSSES)
    if loss == "mse":
        return hidden
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
    probabilities : {"each", "rows", None}
        Dense targets must be in [0, 1]; and each row must sum to 1; or may be anything finite. Cross-entropy's
        ``delta = (A - Y)/n`` holds only for probabilities.
    """
    if loss == "mse":
        return None, None
    if network.output == "softmax":
        return network.n_out, "rows"
    return (2 if network.n_out == 1 else None), "each"
