"""The demo's text plot; the demo itself is run in test_cli.py."""

import numpy as np
import pytest

from briskmlp.commands.demo import plot


def test_plot():
    assert plot([8, 4, 2, 1], height=2).splitlines() == ["     8 |████", "     0 |████████▄▄▄▄▂▂▂▂"]
    assert plot([0.0, 0.0], blocks=False, height=1) == "     0 |"


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("width", [1, 20, 72])
def test_plot_is_as_wide_as_it_may_be(n, width):
    lines = plot(np.linspace(2, 1, n).tolist(), width).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) <= max(width, 9)
