"""The special ids and sizes in config.json and generation_config.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# Lists of token ids that transformers' generation settings may hold.
_ID_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "force_words_ids")


def special_ids(config: dict[str, Any]) -> set[int]:
    """Ids of the special tokens that a config names."""
    return {index for name, value in config.items() if _is_special(name) for index in _ids(value)}


def renumbered(config: dict[str, Any], new_id: Callable[[int], int], known: Callable[[int], bool]) -> dict[str, Any]:
    """`config` with new ids; what is suppressed or forced and no longer exists (`known`) is left out of its list."""
    new = dict(config)
    for name, value in config.items():
        if _is_special(name):
            new[name] = [new_id(index) for index in value] if isinstance(value, list) else _mapped(value, new_id)
        elif name in _ID_LISTS and isinstance(value, list):
            new[name] = [
                [new_id(index) for index in item] if isinstance(item, list) else new_id(item)
                for item in value
                if all(known(index) for index in _ids(item))
            ]
    return new


def _is_special(name: str) -> bool:
    return name.endswith("_token_id")


def _mapped(value: Any, new_id: Callable[[int], int]) -> Any:
    return new_id(value) if isinstance(value, int) else value


def _ids(value: Any) -> Iterator[int]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int) and not isinstance(item, bool):
            yield item
