"""The backends: one contract, and a choice."""
