"""Configurations: frozen dataclasses, to and from TOML, with `--set a.b=value` on top.

A configuration is a frozen dataclass whose fields are numbers, strings, booleans, literals,
tuples of these, mappings from names to these, or other configurations. Values are checked against
the annotations: what does not fit is a `ConfigError` that names the key, and an unknown key is
answered with the nearest one that exists.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from musegen.errors import ConfigError

__all__ = [
    "apply_overrides",
    "from_dict",
    "nearest",
    "read_toml",
    "to_dict",
    "to_toml",
]

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain TOML-able values; fields that are None are left out."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if getattr(config, field.name) is not None
    }


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """The configuration of class `cls` that `values` describe.

    `where` opens the error messages (a file, a section). Raises ConfigError for an unknown key, a
    missing one, a value of the wrong type, and whatever the class itself refuses.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a table of settings, found {values!r}")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ConfigError(f"{where}: unknown setting '{key}'; {nearest(key, names)}")
    given = {key: _typed(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if field.init and required and field.name not in given:
            raise ConfigError(f"{where}: the setting '{field.name}' is missing")
    try:
        return cls(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def apply_overrides(config: T, assignments: Iterable[str]) -> T:
    """`config` with `a.b=value` assignments applied in order, each parsed by the field's type.

    Raises ConfigError for an assignment without `=`, an unknown name (the nearest is suggested),
    or a value that does not fit.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"--set {assignment}: write it as name=value, as in training.steps=500"
            )
        parts = [part.strip() for part in path.split(".")]
        config = _override(config, parts, text.strip(), f"--set {path.strip()}")
    return config


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError when it is missing or is not TOML."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML ({error})") from error


def to_toml(tables: Mapping[str, Any]) -> str:
    """Nested mappings of plain values as TOML text that `tomllib` reads back unchanged.

    Written here because the standard library reads TOML only. Values: str, bool, int, float,
    lists of them, mappings; None is left out. Raises ConfigError for anything else.
    """
    lines: list[str] = []
    _emit(tables, (), lines)
    return "\n".join(lines).strip() + "\n"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: "did you mean 'x'?", or the list when nothing is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known are {', '.join(sorted(known))}" if known else "nothing can be set here"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _override(config: Any, parts: list[str], text: str, where: str) -> Any:
    names = [field.name for field in dataclasses.fields(config) if field.init]
    head, rest = parts[0], parts[1:]
    if head not in names:
        raise ConfigError(f"{where}: unknown setting '{head}'; {nearest(head, names)}")
    kind = typing.get_type_hints(type(config))[head]
    if rest:
        inner = getattr(config, head)
        if not dataclasses.is_dataclass(inner) or isinstance(inner, type):
            raise ConfigError(f"{where}: '{head}' has no settings of its own")
        value = _override(inner, rest, text, where)
    else:
        value = _typed(kind, _parse(kind, text, where), where)
    try:
        return dataclasses.replace(config, **{head: value})
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith("--set") else f"{where}: {message}") from (
            error
        )


def _parse(kind: Any, text: str, where: str) -> Any:
    """`text` as a value that `_typed` can check: raw for strings, else as in TOML."""
    options = _options(kind)
    if type(None) in options and text.lower() in ("none", ""):
        return None
    options = [option for option in options if option is not type(None)]
    origins = [typing.get_origin(option) or option for option in options]
    if bool in origins and text.lower() in ("true", "false", "yes", "no", "on", "off"):
        return text.lower() in ("true", "yes", "on")
    if any(origin in (str, typing.Literal) for origin in origins):
        return text
    if tuple in origins and not text.startswith("["):
        inner = (typing.get_args(options[origins.index(tuple)]) or (str,))[0]
        items = [item.strip() for item in text.split(",") if item.strip()]
        return [_parse(inner, item, where) for item in items]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text  # _typed says what was expected


def _options(kind: Any) -> list[Any]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return list(typing.get_args(kind))
    return [kind]


def _typed(kind: Any, value: Any, where: str) -> Any:
    """`value` as an instance of the annotation `kind`, or ConfigError."""
    options = _options(kind)
    if len(options) > 1:
        if value is None and type(None) in options:
            return None
        problem = None
        for option in options:
            if option is type(None):
                continue
            try:
                return _typed(option, value, where)
            except ConfigError as error:
                problem = error
        raise problem or ConfigError(f"{where}: {value!r} does not fit")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_dict(kind, value, where)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(choice) for choice in arguments}:
            return value
        if isinstance(value, str) and all(isinstance(choice, str) for choice in arguments):
            hint = nearest(value, arguments)
            raise ConfigError(f"{where}: '{value}' is not a choice; {hint}")
        raise ConfigError(f"{where}: {value!r} is not one of {list(arguments)}")
    if origin is tuple:
        return _typed_tuple(arguments, value, where)
    if origin in (dict, Mapping) or kind is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, found {value!r}")
        inner = arguments[1] if arguments else Any
        return {str(key): _typed(inner, item, f"{where}.{key}") for key, item in value.items()}
    return _typed_scalar(kind, value, where)


def _typed_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, found {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_typed(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(arguments) != len(value):
        raise ConfigError(f"{where}: expected {len(arguments)} values, found {len(value)}")
    return tuple(
        _typed(inner, item, f"{where}[{i}]")
        for i, (inner, item) in enumerate(zip(arguments, value, strict=True))
    )


def _typed_scalar(kind: Any, value: Any, where: str) -> Any:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if kind not in names:
        raise TypeError(f"{where}: configurations cannot hold {kind!r}")
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value, fits = float(value), True
    if not fits:
        raise ConfigError(f"{where}: expected {names[kind]}, found {value!r}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, found {value}")
    return value


def _emit(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    plain = {k: v for k, v in table.items() if k not in tables and v is not None}
    if path and (plain or not tables):
        lines.extend(["", f"[{'.'.join(_key(part) for part in path)}]"])
    lines.extend(f"{_key(key)} = {_value(value, (*path, key))}" for key, value in plain.items())
    for key, inner in tables.items():
        _emit(inner, (*path, key), lines)


def _key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if bare else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        text = repr(value)
        return text if any(c in text for c in ".e") else text + ".0"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item, path) for item in value) + "]"
    raise ConfigError(f"{'.'.join(path)}: {type(value).__name__} cannot be written as TOML")
