"""Philox streams: initial weights and sample order, from a seed alone.

Every number comes from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") through
its raw 64-bit words, which NumPy keeps stable; its distributions may change between versions, so none is used.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint64]]

# the counter's highest word tells the streams apart
_ORDER, _WEIGHTS = 0, 1
MAX_SEED = 2**64 - 1


def draw_seed() -> int:
    """Return a seed from the operating system's entropy."""
    return secrets.randbits(63)


def words(seed: int, block: int, stream: int, substream: int, n: int) -> Words:
    """Return ``n`` raw words of the stream with key (seed, block) and counter (0, 0, substream, stream)."""
    key = np.array([seed, block], dtype=np.uint64)
    counter = np.array([0, 0, substream, stream], dtype=np.uint64)
    raw: Words = np.random.Philox(key=key, counter=counter).random_raw(n)
    return raw


def sample_order(seed: int, epoch: int, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order in which an epoch visits ``n`` examples: a Fisher-Yates shuffle of 0…n-1.

    For i = n-1 … 1, j is the high 64 bits of ``word * (i + 1)`` and items i and j change places.
    j's bias is below n / 2**64.

    Examples
    --------
    >>> sorted(sample_order(seed=1, epoch=0, n=4).tolist())
    [0, 1, 2, 3]
    """
    if n < 2:
        return np.arange(n, dtype=np.int64)
    bounds = np.arange(n, 1, -1, dtype=np.uint64)
    swaps = _high_product(words(seed, epoch, _ORDER, 0, n - 1), bounds).tolist()
    order = list(range(n))
    for i, j in zip(range(n - 1, 0, -1), swaps, strict=True):
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)


def symmetric_uniform(seed: int, layer: int, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return ``n`` float64 numbers, uniform in [-1, 1), for the initial weights of a layer."""
    fractions = (words(seed, 0, _WEIGHTS, layer, n) >> np.uint64(11)).astype(np.float64)
    return fractions * 2.0**-52 - 1.0


def _high_product(a: Words, b: Words) -> Words:
    """Return the high 64 bits of the 128-bit products, by 32-bit halves."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    carry: Words = (a_low * b_low) >> half
    middle = a_high * b_low + carry
    other = a_low * b_high + (middle & mask)
    high: Words = a_high * b_high + (middle >> half) + (other >> half)
    return high
