"""What the annotations of a part's arguments say of their values, and the words for it."""

import dataclasses
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from tunetrail.errors import did_you_mean

_WORDS: dict[Any, str] = {
    NoneType: "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    Sequence: "a list",
    Iterable: "a list",
    dict: "a mapping",
    Mapping: "a mapping",
}


def find_fault(value: object, annotation: Any) -> str | None:
    """Say what a plain value of a config must be instead; None if it fits.

    What an annotation says beside types, such as a variable of a type, is not checked.
    """
    if _fits(value, annotation):
        return None
    kinds = _alternatives(annotation)
    names = [str(name) for kind in kinds for name in _names(kind)]
    words = [_in_words(kind) for kind in kinds if not _names(kind)]
    if names:
        words = [f"{'one of ' * (len(names) > 1)}{', '.join(names)}", *words]
    wanted = " or ".join(dict.fromkeys(words))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Hydra reads digits as a number, such as those of a run or of a revision.
    quotes = f"; put quotes around it: '\"{value}\"'" if is_number and str in kinds else ""
    return f"must be {wanted}{quotes}{did_you_mean(str(value), names)}"


def annotations_of(target: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return the annotation of each parameter of a class or function.

    A field of a dataclass that lists its choices takes nothing else, as in HfArgumentParser.
    """
    found = {
        name: _evaluated(parameter.annotation, target.__module__)
        for name, parameter in parameters.items()
        if parameter.annotation is not parameter.empty
    }
    if dataclasses.is_dataclass(target):
        listed = {field.name: field.metadata.get("choices") for field in dataclasses.fields(target)}
        found |= {name: Literal[tuple(given)] for name, given in listed.items() if given}
    return found


def _evaluated(annotation: Any, module: str) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, vars(sys.modules[module]))  # noqa: S307 - source code of an installed module
    except NameError:
        return Any  # it is imported for type checkers alone


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    kinds = (annotation,)
    if get_origin(annotation) in (Union, UnionType):
        kinds = get_args(annotation)
    # Beside an Enum a text is the name of a member.
    return tuple(kind for kind in kinds if kind is not str or not any(map(_names, kinds)))


def _names(kind: Any) -> list[Any]:
    """List the values that an Enum or a Literal allows; any other kind has none."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def _fits(value: object, annotation: Any) -> bool:
    return any(_is_of(value, kind) for kind in _alternatives(annotation))


def _is_of(value: object, kind: Any) -> bool:
    base, items = get_origin(kind) or kind, get_args(kind)
    fits = True
    if names := _names(kind):
        fits = any(value == name and type(value) is type(name) for name in names)
    elif base in (int, float):
        numbers = (int, float) if base is float else (int,)
        fits = isinstance(value, numbers) and not isinstance(value, bool)
    elif base in (NoneType, bool, str):
        fits = isinstance(value, base)
    elif _WORDS.get(base) == "a list":
        fits = isinstance(value, list) and all(_fits(each, items[0]) for each in value if items)
    elif _WORDS.get(base) == "a mapping":
        each = value.values() if isinstance(value, dict) else ()
        fits = isinstance(value, dict) and all(_fits(one, items[1]) for one in each if items)
    elif isinstance(base, type) and base is not Any and not issubclass(Path, base):
        # A part of its own: a node with _target_ has been left out before.
        fits = isinstance(value, dict)
    return fits


def _in_words(kind: Any) -> str:
    base, items = get_origin(kind) or kind, get_args(kind)
    if base not in _WORDS:
        return f"a node with _target_ (a {base.__name__})"
    words = _WORDS[base]
    inner = items[-1] if base in (dict, Mapping) and items else items[0] if items else None
    if inner in (str, int, float):
        return f"{words} of {_WORDS[inner].removeprefix('a ')}s"
    return words
