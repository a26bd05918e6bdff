"""Keys and values of a request's rows: slots of one token each, in buffers that graphs read and write by address.

A step's outputs are bound to the slots behind those in use, so nothing is concatenated and nothing is copied; which
slot holds which token of which row is a table of integers, so beams share slots and reordering them moves integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrengine.errors import OutOfMemoryError
from lrengine.export.manifest_reader import Cache
from lrengine.export.providers import Provider
from lrengine.export.sessions import Binding, DeviceTensor
from lrengine.request import Ids

Places = NDArray[np.int64]


class FlatCache:
    """slots: how many tokens there is room for. search_slots, capacity: the numbers of search rows and of tokens of
    each. Slot 0 is no token: zeros that a row names where it has no token, which the graph masks."""

    def __init__(
        self, cache: Cache, slots: int, search_slots: int, capacity: int, provider: Provider, bound_slots: int | None
    ) -> None:
        self.layers = cache.layers
        self._head = (cache.kv_heads, cache.head_dim)
        shape = (1 + slots, *self._head)
        parts = [(part, layer) for layer in range(cache.layers) for part in ("key", "value")]
        self._tensors = {
            f"{part}_{layer}": DeviceTensor((shape[0], *self._head), cache.type, provider) for part, layer in parts
        }
        self._bound = (bound_slots or shape[0], *self._head)
        try:
            self._slots = np.zeros((search_slots, capacity), np.int64)
        except (MemoryError, ValueError) as error:
            raise OutOfMemoryError(f"no memory for {search_slots} rows of {capacity} tokens") from error
        self._used = 1

    def give_past(self, binding: Binding) -> None:
        """Binds the buffers as past_*: once a request, for every step."""
        for name, tensor in self._tensors.items():
            binding.read(f"past_{name}", tensor.part(0, self._bound))

    def take_new(self, binding: Binding, *sizes: int) -> int:
        """Binds new_* [*sizes, heads, head_dim] to the slots behind those in use; gives the first of them."""
        first = self._used
        for name, tensor in self._tensors.items():
            binding.write(f"new_{name}", tensor.part(first, (*sizes, *self._head)))
        self._used += int(np.prod(sizes, dtype=np.int64))
        return first

    def name(self, search_slots: Ids | int, positions: Ids | Places, slots: Places) -> None:
        """Says where tokens lie: position `positions[i]` of search row `search_slots[i]` in `slots[i]`."""
        self._slots[search_slots, positions] = slots

    def rows(self, search_slots: Ids, history: Ids | None, past: int) -> Places:
        """The slots [M, past] of rows' tokens (fewer columns where no row can be that long), 0 beyond a row's end.
        history [M, capacity]: the search row that wrote a position; None: the row itself."""
        if history is None:
            return self._slots[search_slots, :past]
        named = history[:, :past]
        return self._slots[named, np.arange(named.shape[1])]
