"""``briskmlp train`` and ``briskmlp predict``: models of the tables in files.

A model file is a checkpoint whose configuration also has the `Preparation`, which turns columns into numbers.
"""
