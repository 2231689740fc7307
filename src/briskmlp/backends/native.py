"""The C extension: the only module that imports it.

It reports what the processor can run; it is not a training backend yet.
"""

from __future__ import annotations

from functools import cache


@cache
def _load() -> tuple[tuple[str, ...], str | None]:
    """Return the instruction sets that can run and, if the extension is not usable, why."""
    try:
        # "from briskmlp import _native" would not tell a missing extension from a broken one.
        import briskmlp._native as _native  # noqa: PLR0402
    except ModuleNotFoundError:
        return (), (
            "this installation is pure Python: no working C compiler was found when it was built; "
            "install with the environment variable BRISKMLP_REQUIRE_NATIVE=1 to see the compiler's own message"
        )
    except ImportError as error:
        return (), f"the C extension is installed, but failed to load: {error}"
    return _native.isas(), None


def isas() -> tuple[str, ...]:
    """Return the instruction sets that can run on this processor and operating system.

    Returns
    -------
    tuple of str
        Some of ``"portable"``, ``"avx2"``, ``"avx512"``, ``"amx"``, slowest first; empty without the C extension.

    Examples
    --------
    >>> from briskmlp.backends import native
    >>> native.isas()[:1] == (("portable",) if native.reason() is None else ())
    True
    """
    return _load()[0]


def reason() -> str | None:
    """Return why the C extension is not usable.

    Returns
    -------
    str or None
        None if it is usable; otherwise that it was not built, or, if it was built, the loader's message.

    Examples
    --------
    >>> from briskmlp.backends import native
    >>> native.reason() is None or native.isas() == ()
    True
    """
    return _load()[1]
