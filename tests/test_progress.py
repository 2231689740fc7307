"""The progress bar: when it shows, what it shows, and that it goes."""

import contextlib
import io
import sys
import threading

import pytest

from briskmlp.history import History
from briskmlp.progress import Progress, progress_callback


def record(epoch, **values):
    return {"epoch": epoch, "loss": 1.0 / epoch, **values}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_counts_epochs_and_shows_the_loss(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    threads = set(threading.enumerate())
    with progress_callback(None, epochs=1000) as bar:
        bar.on_fit_begin(None)
        for start in range(0, 1000, 100):
            bar.on_epochs(None, [record(start + i + 1, val_loss=0.125) for i in range(100)])
        bar.on_fit_end(None, History())
    last = sys.stderr.getvalue().split("\r")[-1]
    assert "1000/1000" in last
    assert "loss 0.001, val_loss 0.125" in last
    assert last.endswith("\n")
    assert set(threading.enumerate()) == threads


def test_microsecond_epochs_are_not_drawn_each(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("time.time", lambda: 0.0)  # no time passes
    bar = Progress(10_000)
    bar.on_fit_begin(None)
    before = len(sys.stderr.getvalue())
    for i in range(10_000):
        bar.on_epochs(None, [record(i + 1)])
    assert len(sys.stderr.getvalue()) == before
    bar.close()


def test_is_closed_after_an_exception(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with contextlib.suppress(KeyboardInterrupt), progress_callback(True, epochs=3) as bar:
        bar.on_fit_begin(None)
        raise KeyboardInterrupt
    assert sys.stderr.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("stream", "progress", "shown"),
    [
        (Terminal(), None, True),
        (Terminal(), False, False),
        (io.StringIO(), None, False),
        (io.StringIO(), True, True),
        (None, None, False),  # pythonw has no standard error
    ],
)
def test_when_it_shows(monkeypatch, stream, progress, shown):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_callback(progress, epochs=3) as bar:
        assert (bar is not None) == shown


def test_bad_argument():
    with pytest.raises(TypeError, match="progress must be True, False or None, got 'yes'"):
        progress_callback("yes", epochs=3).__enter__()
