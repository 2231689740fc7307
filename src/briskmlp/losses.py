"""The losses, of networks: their public path. They are described in ``operations/losses.py``."""

from __future__ import annotations

from briskmlp.network import Network
from briskmlp.operations import losses
from briskmlp.operations.losses import check_loss as check_loss  # noqa: PLC0414
from briskmlp.operations.losses import default_output as default_output  # noqa: PLC0414

OUTPUTS = {name: row.outputs for name, row in losses.LOSSES.items()}  # the activations each can be trained with
LOSSES = tuple(OUTPUTS)


def target_rules(loss: str, network: Network) -> tuple[int | None, str | None]:
    """Say what targets a loss accepts: see ``operations.losses.target_rules``."""
    return losses.target_rules(loss, network.output, network.n_out)
