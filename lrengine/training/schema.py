"""YAML to dataclasses, strictly: an unknown key, a wrong type or a missing field is a `DataError` that says where."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from lrengine.data.template import nearest
from lrengine.errors import DataError

T = TypeVar("T")


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. DataError (with the line) if it cannot be read, is not YAML or not a mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a mapping at the top, found {_name(document)}")
    return document


def parse(cls: type[T], document: Any, where: str) -> T:
    """`document` (what YAML gave) as the dataclass `cls`. `where` is the path of the value, for messages."""
    return typing.cast(T, _convert(cls, document, where))


def _convert(wanted: Any, value: Any, where: str) -> Any:
    origin = get_origin(wanted)
    if wanted is Any:
        return value
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return _convert_dataclass(wanted, value, where)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(wanted), value, where)
    if origin is Literal:
        if value not in get_args(wanted):
            raise DataError(f"{where}: {value!r}{nearest(str(value), get_args(wanted))}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise DataError(f"{where}: expected a list, found {_name(value)}")
        (item,) = get_args(wanted)
        return [_convert(item, part, f"{where}[{index}]") for index, part in enumerate(value)]
    if origin is dict:
        return _convert_mapping(get_args(wanted)[1], value, where)
    return _convert_scalar(wanted, value, where)


def _convert_dataclass(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a mapping, found {_name(value)}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in fields:
            raise DataError(f"{where}: unknown key '{key}'{nearest(str(key), fields)}")
    for name, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise DataError(f"{where}: missing key '{name}'")
    return cls(**{name: _convert(hints[name], part, f"{where}.{name}") for name, part in value.items()})


def _convert_mapping(item: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a mapping, found {_name(value)}")
    # YAML reads the key of `0: Entailment` as a number; as keys here are column values and names, text is meant
    return {_key(key, where): _convert(item, part, f"{where}.{key}") for key, part in value.items()}


def _key(key: Any, where: str) -> str:
    if isinstance(key, bool):  # YAML 1.1: no, yes, on, off; `no` is also the code of Norwegian
        raise DataError(f"{where}: YAML read a key as {key}; put it in quotes")
    return str(key)


def _convert_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    named = [choice for choice in choices if choice is not type(None)]
    for choice in named:
        if isinstance(choice, type) and type(value) is choice:  # the exact type first: 1 stays int in int | str
            return _convert(choice, value, where)
    problems = []
    for choice in named:
        try:
            return _convert(choice, value, where)
        except DataError as problem:
            problems.append(problem)
    if len(named) > 1 and isinstance(value, dict):  # the mapping's own message says more than "expected one of"
        for choice, reason in zip(named, problems, strict=True):
            if dataclasses.is_dataclass(choice):
                raise reason
    if len(named) == 1:
        raise problems[0]
    names = [getattr(choice, "__name__", str(choice)) for choice in named]
    raise DataError(f"{where}: expected {' or '.join(names)}, found {_name(value)}")


def _convert_scalar(wanted: Any, value: Any, where: str) -> Any:
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted is str and isinstance(value, str):
        return value
    if wanted is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    hint = "; put it in quotes" if wanted is str and isinstance(value, (bool, int, float)) else ""
    raise DataError(f"{where}: expected {wanted.__name__}, found {_name(value)}{hint}")


def _name(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} ({str(value)[:40]!r})"
