"""Run NumPy work in threads; NumPy releases Python's lock while it sorts and multiplies."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")
# Several BLAS threads would add in another order, which changes last bits, and slow ours down.
one_blas_thread = partial(threadpool_limits, limits=1, user_api="blas")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of ``work`` for each item, in the order of the items.

    Example:
        >>> in_threads(abs, [-2, 1])
        [2, 1]
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))
