"""Outputs that are kept, for models that get the same items again and again.

Consecutive chunks of speech share fifteen mel windows, so without this the audio encoder computes sixteen
embeddings where one is new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Runs a batch, given as arrays and the sizes of its parts; yields the outputs of each part when it is done.
RunItems = Callable[[list[Array], list[int]], Iterator[list[Array]]]


def in_parts(arrays: list[Array], sizes: list[int]) -> Iterator[list[Array]]:
    """Yield consecutive parts, of these sizes, of some arrays."""
    end = 0
    for size in sizes:
        begin, end = end, end + size
        yield [array[begin:end] for array in arrays]


class KeptItems:
    """A function of batches that computes each different item once, as long as it is kept.

    It is exact only where an item's output does not depend on the rest of its batch.

    Args:
        run: computes the outputs of a batch; the first dimension of all arrays is the batch.
        budget: bytes of outputs that are kept; those that were not used for the longest time make room.
    """

    def __init__(self, run: RunItems, budget: int) -> None:
        self._run, self._room = run, budget
        self._kept: OrderedDict[bytes, list[Array]] = OrderedDict()

    def __call__(self, arrays: list[Array], sizes: list[int]) -> Iterator[list[Array]]:
        """Yield the outputs of each part of a batch, when all are computed."""
        keys = [_digest([array[n] for array in arrays]) for n in range(len(arrays[0]))]
        new = {key: n for n, key in enumerate(keys) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key not in new}
        if new:
            places = list(new.values())
            (computed,) = self._run([array[places] for array in arrays], [len(places)])
            for at, key in enumerate(new):
                found[key] = [output[at].copy() for output in computed]
        for key in keys:
            self._keep(key, found[key])
        whole = [np.stack(items) for items in zip(*(found[key] for key in keys), strict=True)]
        yield from in_parts(whole, sizes)

    def _keep(self, key: bytes, outputs: list[Array]) -> None:
        if key not in self._kept:
            self._kept[key] = outputs
            self._room -= sum(output.nbytes for output in outputs)
        self._kept.move_to_end(key)
        while self._room < 0:
            _, oldest = self._kept.popitem(last=False)
            self._room += sum(output.nbytes for output in oldest)


def _digest(item: list[Array]) -> bytes:
    digest = blake2b(digest_size=16)
    for array in item:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
