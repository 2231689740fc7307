"""Philox streams against NumPy's generator and the oracle: same words, same orders, weights in range."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from briskmlp import random

seeds = st.integers(0, random.MAX_SEED)


@given(seeds, st.integers(0, 2**40), st.integers(0, 300))
def test_sample_order_is_the_oracles(seed, epoch, n):
    np.testing.assert_array_equal(random.sample_order(seed, epoch, n), oracle.sample_order(seed, epoch, n), strict=True)


def test_streams_are_apart():
    """Initial weights of each layer, and the orders of each epoch and seed, come from other words."""
    streams = [random.words(seed, block, stream, sub, 8) for seed in (0, 1) for block in (0, 1) for stream in (0, 1)
               for sub in (0, 1)]  # fmt: skip
    assert len(np.unique(streams)) == 16 * 8


@given(seeds)
def test_words_go_on(seed):
    """More words begin with the same words: what is drawn does not depend on how much is drawn."""
    np.testing.assert_array_equal(random.words(seed, 3, 1, 2, 101)[:10], random.words(seed, 3, 1, 2, 10))


def test_symmetric_uniform_is_the_top_53_bits():
    fractions = random.symmetric_uniform(seed=9, layer=2, n=10000)
    philox = np.random.Philox(key=np.array([9, 0], np.uint64), counter=np.array([0, 0, 2, 1], np.uint64))
    expected = [2 * (word >> 11) / 2**53 - 1 for word in philox.random_raw(10000).tolist()]
    np.testing.assert_array_equal(fractions, expected)
    assert fractions.min() >= -1
    assert fractions.max() < 1
    assert abs(fractions.mean()) < 5 / np.sqrt(3 * 10000)  # five standard deviations
    assert fractions.var() == pytest.approx(1 / 3, rel=0.05)


@given(st.lists(st.tuples(seeds, seeds), min_size=1))
def test_high_product_is_that_of_whole_numbers(numbers):
    a, b = (np.array(column, dtype=np.uint64) for column in zip(*numbers, strict=True))
    assert random._high_product(a, b).tolist() == [x * y >> 64 for x, y in numbers]


@given(seeds, st.integers(0, 2**63), st.lists(st.integers(0, 2**62), max_size=5), st.integers(0, 9), st.integers(1, 70))
def test_dropout_numbers_are_numpys_words(seed, epoch, places, layer, n_units):
    """For each place the words of a Philox of its own, read as little-endian numbers of 16 bits."""
    numbers = random.dropout_numbers(seed, epoch, np.array(places, dtype=np.int64), layer, n_units)
    assert numbers.dtype == np.uint16
    assert numbers.shape == (len(places), n_units)
    for place, row in zip(places, numbers, strict=True):
        counter = np.array([0, place, layer, 2], np.uint64)  # NumPy adds 1 to the counter first
        raw = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=counter).random_raw(4 * 5)
        np.testing.assert_array_equal(row, raw.astype("<u8").view("<u2")[:n_units])


def test_drawn_seeds_are_seeds():
    drawn = {random.draw_seed() for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 <= seed <= random.MAX_SEED for seed in drawn)
