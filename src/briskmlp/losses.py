"""The losses, of networks: their public path, and the targets they take. The rest is in ``operations/losses.py``."""

from __future__ import annotations

from briskmlp.network import Network
from briskmlp.operations import losses
from briskmlp.operations.losses import check_loss as check_loss  # noqa: PLC0414
from briskmlp.operations.losses import default_output as default_output  # noqa: PLC0414

OUTPUTS = {name: row.outputs for name, row in losses.LOSSES.items()}  # the activations each can be trained with
LOSSES = tuple(OUTPUTS)


def target_rules(loss: str, network: Network) -> tuple[int | None, str | None]:
    """Return how many labels a loss accepts as targets (n,), or None for none; and what dense ones must be.

    "each": in [0, 1]; "rows": and each row sums to 1; "counts": 0 or more; None: any finite numbers. Cross-entropy's
    ``delta = (A - Y)/n`` holds only for probabilities, poisson's Y log Y for counts.
    """
    targets = losses.LOSSES[loss].targets
    if targets != "probabilities":
        return None, targets
    if network.output == "softmax":
        return network.n_out, "rows"
    return (2 if network.n_out == 1 else None), "each"
