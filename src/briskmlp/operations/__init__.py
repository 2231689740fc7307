"""The tables of operations: activations, losses, update rules. Everything else reads them."""
