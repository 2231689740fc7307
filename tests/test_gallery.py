"""Each script of the gallery runs as it stands and leaves its figures, without a warning."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"


@pytest.mark.parametrize("script", sorted(path.name for path in GALLERY.glob("plot_*.py")))
def test_a_script_leaves_figures(script):
    text = (GALLERY / script).read_text(encoding="utf-8")
    title, underline = text.splitlines()[1:3]  # as sphinx-gallery wants them
    assert text.startswith('"""\n')
    assert underline == "=" * len(title)
    runpy.run_path(str(GALLERY / script))
    assert plt.get_fignums()
    for number in plt.get_fignums():
        plt.figure(number).draw_without_rendering()


def test_there_is_a_gallery():
    assert len(list(GALLERY.glob("plot_*.py"))) >= 5
