"""Ranks of integer matrices, exactly: elimination over the rationals."""

from fractions import Fraction

import numpy as np


def integer_product(chain):
    """Product of integer matrices, the first to act first, in Python's unbounded integers."""
    result = np.array(chain[0], dtype=object)
    for matrix in chain[1:]:
        result = np.array(matrix, dtype=object).dot(result)
    return result


def integer_rank(matrix):
    """Rank over the rationals."""
    rows = [[Fraction(int(entry)) for entry in row] for row in matrix]
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((index for index in range(rank, len(rows)) if rows[index][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for index in range(rank + 1, len(rows)):
            factor = rows[index][column] / rows[rank][column]
            rows[index] = [a - factor * b for a, b in zip(rows[index], rows[rank], strict=True)]
        rank += 1
    return rank


def assert_difference_rank(claimed, frozen, target):
    """``claimed`` is the rank of the product of ``target`` minus that of ``frozen`` (integer chains)."""
    true = integer_rank(integer_product(target) - integer_product(frozen))
    assert claimed == true, f"rank {claimed} claimed, {true} by elimination"
