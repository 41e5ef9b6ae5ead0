"""Outputs that are kept, for models that get the same items again and again.

Consecutive chunks of speech share fifteen mel windows, so without this the audio encoder computes sixteen
embeddings where one is new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[[list[Array]], list[Array]]


class KeptItems:
    """A function of batches that computes each different item once, as long as it is kept.

    It is exact only where an item's output does not depend on the rest of its batch.

    Args:
        run: computes the outputs of a batch from its inputs; the first dimension of all is the batch.
        budget: bytes of outputs that are kept; those that were not used for the longest time make room.
    """

    def __init__(self, run: Run, budget: int) -> None:
        self._run, self._room = run, budget
        self._kept: OrderedDict[bytes, list[Array]] = OrderedDict()

    def __call__(self, arrays: list[Array]) -> list[Array]:
        """Return the outputs of a batch."""
        keys = [_digest([array[n] for array in arrays]) for n in range(len(arrays[0]))]
        new = {key: n for n, key in enumerate(keys) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key not in new}
        if new:
            places = list(new.values())
            computed = self._run([array[places] for array in arrays])
            for at, key in enumerate(new):
                found[key] = [output[at].copy() for output in computed]
        for key in keys:
            self._keep(key, found[key])
        return [np.stack(items) for items in zip(*(found[key] for key in keys), strict=True)]

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
