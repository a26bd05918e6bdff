"""What the layer kernels take: the L states of an encoder, as the tuple it returned or as one stacked tensor.

The kernels get L addresses as launch arguments (a Triton tuple), so nothing is copied: stacking L states first
reads and writes all of them, 4 L T D bytes in half precision, where the mix itself reads 2 L T D. A table of
addresses in device memory would need a copy from the host in every call, and would keep the compiler from seeing
that the rows are 16-byte aligned. The price is one compilation per L and unrolled code.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def layer_states(states: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """The L states [.., D], views if they come stacked [L, .., D]. Raises ValueError if they are not of one kind."""
    if isinstance(states, Tensor):
        if states.dim() < 2:
            raise ValueError(f"stacked states are [L, .., D], not {list(states.shape)}")
        states = states.unbind(0)
    if len(states) == 0:
        raise ValueError("no layer states given")
    first = states[0]
    if first.dim() < 1 or first.shape[-1] == 0:
        raise ValueError(f"a layer state is [.., D], not {list(first.shape)}")
    for index, state in enumerate(states):
        if state.shape != first.shape:
            raise ValueError(f"layer state {index} is {list(state.shape)}, the first is {list(first.shape)}")
        if state.dtype != first.dtype or state.device != first.device:
            raise ValueError(
                f"layer state {index} is {state.dtype} on {state.device}, the first is {first.dtype} on {first.device}"
            )
    return list(states)


def rows(tensor: Tensor) -> Tensor:
    """[.., D] as contiguous [T, D]; a view if it is contiguous."""
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()
