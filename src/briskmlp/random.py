"""Philox streams: initial weights, sample order and dropout, from a seed alone.

Every number comes from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") through
its raw 64-bit words, which NumPy keeps stable; its distributions may change between versions, so none is used.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.uint16]]

# the counter's highest word tells the streams apart
_ORDER, _WEIGHTS, _DROPOUT = 0, 1, 2
MAX_SEED = 2**64 - 1
_MULTIPLIERS = np.array([[0xD2E7470EE14C6C93], [0xCA5A826395121157]], dtype=np.uint64)
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # what the two words of the key grow by, each round
_ROUNDS = 10


def draw_seed() -> int:
    """Return a seed from the operating system's entropy."""
    return secrets.randbits(63)


def words(seed: int, block: int, stream: int, substream: int, n: int) -> Words:
    """Return ``n`` raw words of the stream with key (seed, block) and counter (0, 0, substream, stream)."""
    key, counter = np.array([seed, block], np.uint64), np.array([0, 0, substream, stream], np.uint64)
    raw: Words = np.random.Philox(key=key, counter=counter).random_raw(n)
    return raw


def sample_order(seed: int, epoch: int, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order in which an epoch visits ``n`` examples: a Fisher-Yates shuffle of 0…n-1.

    For i = n-1 … 1, j is the high 64 bits of ``word * (i + 1)`` and items i and j change places.
    j's bias is below n / 2**64.
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


def dropout_numbers(
    seed: int, epoch: int, places: np.ndarray[Any, np.dtype[np.int64]], layer: int, n_units: int
) -> Numbers:
    """Return a number in 0…65535 for each unit of a hidden layer, for the examples at some places (n,) of an epoch.

    All count from 0. Unit u has bits 16 (u % 4) … 16 (u % 4) + 15 of word (u % 16) // 4 of the four that Philox makes
    of key (seed, epoch) and counter (u // 16 + 1, place, layer, 2).
    """
    n, n_blocks = len(places), -(-n_units // 16)
    counter = np.empty((4, n, n_blocks), dtype=np.uint64)
    counter[0], counter[1], counter[2], counter[3] = np.arange(1, n_blocks + 1), places[:, None], layer, _DROPOUT
    raw = _philox(counter.reshape(4, -1), seed, epoch)
    in_order = np.ascontiguousarray(raw.T, dtype="<u8").view("<u2")
    return np.asarray(in_order.reshape(n, 16 * n_blocks)[:, :n_units], dtype=np.uint16)


def _philox(counter: Words, *key: int) -> Words:
    """Return the four words of each counter, (4, n): Philox4x64-10 of many counters at once.

    NumPy's own makes the words of consecutive counters; those of the examples of a batch are not.
    """
    even, odd = counter[::2], counter[1::2]
    for round_ in range(_ROUNDS):
        keys = np.array([[(k + round_ * step) % 2**64] for k, step in zip(key, _WEYL, strict=True)], dtype=np.uint64)
        high, low = _high_product(even, _MULTIPLIERS), even * _MULTIPLIERS
        even, odd = high[::-1] ^ odd ^ keys, low[::-1]
    return np.stack([even[0], odd[0], even[1], odd[1]])


def _high_product(a: Words, b: Words) -> Words:
    """Return the high 64 bits of the 128-bit products, by 32-bit halves."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle: Words = a_high * b_low + (a_low * b_low >> half)
    other: Words = a_low * b_high + (middle & mask)
    return np.asarray(a_high * b_high + (middle >> half) + (other >> half))
