"""The order of SWCM's decoder layers, for all who build them (MODELS.md, A)."""

from __future__ import annotations


def layer_kinds(layers: int, interval: int, normal_after_last: bool) -> list[str]:
    """`custom` and `normal` in the order they are applied: one custom layer for each of the encoder's `layers`, a
    normal one after every `interval` of them (0: none), after the last custom layer only with `normal_after_last`."""
    kinds = []
    for done in range(1, layers + 1):
        kinds.append("custom")
        if interval and done % interval == 0 and (done < layers or normal_after_last):
            kinds.append("normal")
    return kinds
