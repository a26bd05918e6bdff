"""Rows without padding inside: segments are joined, squeezed and left-padded, as a decoder-only LM wants them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """N: the longest row's tokens. `slots` says where each slot of the joined segments went (0 for dropped ones)."""

    embeddings: Tensor  # [B, N, E], zeros at the left padding
    mask: Tensor  # [B, N]
    position_ids: Tensor  # [B, N], 0 at a row's first token
    slots: Tensor  # [B, sum of the segments' lengths]


def pack_left(segments: list[tuple[Tensor, Tensor]]) -> Packed:
    """Join segments (embeddings [B, T_i, E], mask [B, T_i]) in order; only positions with mask 1 remain.

    A row's packed tokens, order and positions do not depend on the other rows."""
    embeddings = torch.cat([embedded for embedded, _ in segments], dim=1)
    kept = torch.cat([mask.bool() for _, mask in segments], dim=1)
    lengths = kept.sum(1)
    longest = int(lengths.max())
    slots = (kept.cumsum(1) - 1 + (longest - lengths)[:, None]).masked_fill(~kept, 0)
    rows, columns = kept.nonzero(as_tuple=True)
    packed = embeddings.new_zeros(embeddings.shape[0], longest, embeddings.shape[2])
    packed = packed.index_put((rows, slots[rows, columns]), embeddings[rows, columns])
    index = torch.arange(longest, device=kept.device)[None] - (longest - lengths)[:, None]
    return Packed(packed, (index >= 0).long(), index.clamp_min(0), slots)
