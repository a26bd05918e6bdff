"""Inputs of a request, in any of the forms the API takes, as rows of ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrengine.errors import InvalidRequestError
from lrengine.text import TextCodec

Ids: TypeAlias = NDArray[np.int32]
IdRow: TypeAlias = "Sequence[int] | NDArray[Any]"
Inputs: TypeAlias = "str | Sequence[str] | Sequence[IdRow]"

INT32 = np.iinfo(np.int32)


def describe(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'...' if len(text) > 60 else ''}"


def id_row(row: Any, name: str) -> Ids:
    """One row of ids as int32. InvalidRequestError for anything that is not a flat list of integers."""
    try:
        array = np.asarray(row)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(f"{name}: found {describe(row)}, expected a list of token ids") from error
    if array.ndim == 1 and array.size == 0:
        return np.zeros(0, np.int32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidRequestError(f"{name}: found {describe(row)}, expected a list of token ids (integers)")
    if array.min() < INT32.min or array.max() > INT32.max:
        raise InvalidRequestError(f"{name}: found {describe(row)}, expected ids of the vocabulary")
    return array.astype(np.int32)


def name_of(value: object, option: str, expected: str) -> str:
    """`value`, the name of something. InvalidRequestError for what none can be."""
    if not isinstance(value, str) or not value.isascii() or "\0" in value:
        raise InvalidRequestError(f"{option}: found {describe(value)}, expected {expected}")
    return value


def is_row(value: object) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def rows(inputs: Any, name: str, encode: Callable[[str], list[int]]) -> list[Ids]:
    """`inputs` as rows of ids: one text, a list of texts, or a list of id lists; `encode` makes ids of a text."""
    if isinstance(inputs, str):
        inputs = [inputs]
    if not is_row(inputs):
        raise InvalidRequestError(f"{name}: found {describe(inputs)}, expected text, a list of texts or of id lists")
    found: list[Ids] = []
    for index, item in enumerate(inputs):
        if isinstance(item, str):
            found.append(np.asarray(encode(item), np.int32))
        elif is_row(item):
            found.append(id_row(item, f"{name}[{index}]"))
        else:
            raise InvalidRequestError(f"{name}[{index}]: found {describe(item)}, expected text or a list of token ids")
    return found


def lengths(*parts: Sequence[Ids]) -> list[int]:
    """Ids of each row of a request, in all its parts together."""
    return [sum(map(len, row)) for row in zip(*parts, strict=True)]


def one_each(values: Any, name: str, count: int, encode: Callable[[str], list[int]]) -> list[Ids]:
    """Like rows(), for what may also be given once for all `count` inputs: a text, or one list of ids."""
    if isinstance(values, str) or (is_row(values) and len(values) > 0 and not any(map(is_text_or_row, values))):
        values = [values] * count
    found = rows(values, name, encode)
    if len(found) != count:
        raise InvalidRequestError(f"{name}: found {len(found)}, expected one for each of {count} inputs")
    return found


def is_text_or_row(value: object) -> bool:
    return isinstance(value, str) or is_row(value)


def stop_strings(stop: Any) -> list[str]:
    """`stop` as a list. InvalidRequestError for empty strings, which every text contains."""
    if stop is None:
        return []
    strings = [stop] if isinstance(stop, str) else stop
    if not isinstance(strings, (list, tuple)) or not all(isinstance(item, str) and item for item in strings):
        raise InvalidRequestError(f"stop: found {describe(stop)}, expected text or a list of texts, none of them empty")
    return list(strings)


def label_list(labels: Any) -> list[str]:
    """`labels` as a list of one or more different texts."""
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise InvalidRequestError(f"labels: found {describe(labels)}, expected a list of texts")
    if not labels:
        raise InvalidRequestError("labels: found none, expected at least one")
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    if repeated:
        raise InvalidRequestError(f"labels: found {repeated[0]!r} more than once, expected different labels")
    return list(labels)


def encoder_of(codec: TextCodec | None, file: str, method: str) -> Callable[[str], list[int]]:
    """How texts become ids, or an error for every text if the directory has no tokenizer for them."""
    if codec is not None:
        return getattr(codec, method)  # type: ignore[no-any-return]

    def refuse(text: str) -> list[int]:
        raise InvalidRequestError(f"found text, but the model directory has no {file}; expected token ids")

    return refuse
