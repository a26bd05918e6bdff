"""Which held-out texts stand in the training data, letter by letter or nearly so."""

from __future__ import annotations

from collections.abc import Sequence

from lrengine.data.examples import Example


def rough(text: str) -> str:
    """`text` but for case, digits, signs and white space; itself where nothing is left."""
    return "".join(character for character in text.lower() if character.isalpha()) or text


def overlap(train: Sequence[Example], test: Sequence[Example]) -> dict[str, int]:
    """Test examples whose source is a training source of the same task: `same`, letter by letter; `near`, `rough`ly
    and no more."""
    exact = {(example.task, example.source) for example in train}
    roughly = {(example.task, rough(example.source)) for example in train}
    same = [(example.task, example.source) in exact for example in test]
    near = [(example.task, rough(example.source)) in roughly for example in test]
    return {"same": sum(same), "near": sum(near) - sum(same)}
