"""A frozen encoder's states, computed once for each text: mixer and head train on them without running it again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class KeptStates:
    """Rows of ids -> their layers' states [S, L, D], in memory without limit: a few hundred short texts take 100 MB at
    12 layers of 384. For rows of one length the answer is that of the encoder; with padding beside them the last bits
    may differ, as the products' shapes did."""

    def __init__(self) -> None:
        self._states: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, input_ids: Tensor, mask: Tensor, run: Callable[[Tensor, Tensor], list[Tensor]]) -> list[Tensor]:
        """The L states [B, S, D] of right-padded ids and mask [B, S], zeros at padding; `run` computes unknown rows."""
        lengths = mask.sum(1).tolist()
        rows = [tuple(ids[:length]) for ids, length in zip(input_ids.tolist(), lengths, strict=True)]
        missing = [index for index, row in enumerate(rows) if row not in self._states]
        if missing:
            with torch.no_grad():
                states = torch.stack(run(input_ids[missing], mask[missing]), dim=2)
            for index, state in zip(missing, states, strict=True):
                self._states[rows[index]] = state[: lengths[index]].clone()
        found = [self._states[row] for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        if padded.shape[1] < input_ids.shape[1]:
            padded = torch.nn.functional.pad(padded, (0, 0, 0, 0, 0, input_ids.shape[1] - padded.shape[1]))
        return list(padded.unbind(2))
