"""Values that users type: converted to the declared type, or refused with a reason.

A step's parameters come from four places; the later wins: the defaults in its ``Params``
class, the CRDS parameter reference, config.toml, the command line. Where each value came
from is kept, because products, the ledger and ``upramp explain`` tell it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from upramp.stages.core.errors import Misconfigured

Registry = Mapping[str, type]
"""Step name -> its Params class."""

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NOTHING = {"", "none", "null"}


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint in words: the known name nearest to ``name``, or all of them if none is near."""
    names = sorted(known)
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    if found:
        return f"did you mean {found[0]!r}?"
    return "known: " + ", ".join(names) if names else "nothing may stand here"


_hints: dict[type, Mapping[str, Any]] = {}


def hints_of(cls: type) -> Mapping[str, Any]:
    """The declared types of a class's fields; worked out once, because that evaluates text."""
    if cls not in _hints:
        _hints[cls] = typing.get_type_hints(cls)
    return _hints[cls]


def convert(value: Any, hint: Any, *, lenient: bool = False) -> Any:
    """Bring ``value`` to the type that ``hint`` declares.

    Parameters
    ----------
    value : object
        As TOML, YAML or the command line gave it.
    hint : type
        bool, int, float, str, Path, Literal, ``X | None``, ``tuple[X, ...]``, ``tuple[X, Y]`` or ``list[X]``.
    lenient : bool
        Also read text ("4.5", "true", "1,2") and whole floats as the type asked for; for the
        command line and for parameter references. TOML has types of its own and needs none of it.

    Raises
    ------
    ValueError
        With what was expected and what was found.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING):
            return None
        inner = [a for a in args if a is not type(None)]
        return convert(value, inner[0], lenient=lenient)
    if origin is typing.Literal:
        for choice in args:
            if value == choice or (lenient and str(value).lower() == str(choice).lower()):
                return choice
        raise ValueError(f"expected one of {', '.join(map(repr, args))}, got {value!r}")
    if origin in (tuple, list):
        return _sequence(value, origin, args, lenient)
    return _scalar(value, hint, lenient)


def _sequence(value: Any, origin: Any, args: tuple[Any, ...], lenient: bool) -> Any:
    if lenient and isinstance(value, str):
        value = [v.strip() for v in value.strip("[]() ").split(",") if v.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expected a list, got {value!r}")
    if origin is tuple and Ellipsis not in args:
        if len(value) != len(args):
            raise ValueError(f"expected a list of {len(args)} values, got {len(value)}")
        return tuple(convert(v, a, lenient=lenient) for v, a in zip(value, args, strict=True))
    return origin(convert(v, args[0], lenient=lenient) for v in value)


def _scalar(value: Any, hint: Any, lenient: bool) -> Any:
    text = value.strip() if lenient and isinstance(value, str) else None
    if hint is bool:
        if isinstance(value, bool):
            return value
        if text is not None and text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError(f"expected true or false, got {value!r}")
    if hint in (int, float):
        return _number(value, hint, text, lenient)
    if hint is str and isinstance(value, str):
        return value
    if hint is str and lenient and isinstance(value, (int, float)):
        return str(value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise ValueError(f"expected {'a path' if hint is Path else 'text'}, got {value!r}")


def _number(value: Any, hint: type, text: str | None, lenient: bool) -> int | float:
    wanted = "a whole number" if hint is int else "a number"
    number = value
    if text is not None:
        try:
            number = int(text)
        except ValueError:
            try:
                number = float(text)
            except ValueError:
                raise ValueError(f"expected {wanted}, got {value!r}") from None
    nan = isinstance(number, float) and math.isnan(number)
    if nan or isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError(f"expected {wanted}, got {value!r}")
    if hint is float:
        try:
            return float(number)
        except OverflowError:
            raise ValueError(
                f"expected {wanted} of ordinary size, got one of {len(str(value))} digits"
            ) from None
    if isinstance(number, float) and not (lenient and number.is_integer()):
        raise ValueError(f"expected {wanted}, got {value!r}")
    return int(number)


def build(params_type: type, values: Mapping[str, Any], *, lenient: bool = False) -> Any:
    """An instance of a Params class from the values that were given, defaults for the rest.

    Raises
    ------
    ValueError
        One line per problem: unknown names, wrong types, and what the class itself refuses.
    """
    hints = hints_of(params_type)
    converted, problems = {}, []
    for name, value in values.items():
        if name not in hints:
            problems.append(f"{name}: unknown parameter; {nearest(name, hints)}")
            continue
        try:
            converted[name] = convert(value, hints[name], lenient=lenient)
        except ValueError as e:
            problems.append(f"{name}: {e}")
    if not problems:
        try:
            return params_type(**converted)
        except ValueError as e:
            problems.append(str(e))
    raise ValueError("\n".join(problems))


def check_step(
    step: str, values: Mapping[str, Any], registry: Registry, *, lenient: bool = False
) -> list[str]:
    """What is wrong with the parameters given to a step; empty if nothing is."""
    if step not in registry:
        return [f"no step of this name; {nearest(step, registry)}"]
    try:
        build(registry[step], values, lenient=lenient)
    except ValueError as e:
        return str(e).splitlines()
    return []


def parse_assignments(
    assignments: Sequence[str], registry: Registry | None = None
) -> dict[str, dict[str, str]]:
    """``step.param=value`` words of the command line, by step and parameter; values still text.

    Raises
    ------
    Misconfigured
        Naming every word that has another form, and with a registry every unknown step or
        parameter and every value that does not fit.
    """
    found: dict[str, dict[str, str]] = {}
    problems = []
    for word in assignments:
        target, equals, value = word.partition("=")
        step, dot, name = target.strip().partition(".")
        if not (equals and dot and step and name):
            problems.append(
                f"--set {word}: expected step.parameter=value, such as jump.rejection_threshold=5"
            )
            continue
        found.setdefault(step, {})[name] = value.strip()
    if registry is not None:
        for step, values in found.items():
            for problem in check_step(step, values, registry, lenient=True):
                problems.append(f"--set {step}: {problem}")
    if problems:
        raise Misconfigured("the command line has errors:\n  " + "\n  ".join(problems))
    return found


def effective_parameters(
    step: str,
    params_type: type,
    *,
    crds: Mapping[str, Any] | None = None,
    crds_name: str = "",
    config: Mapping[str, Any] | None = None,
    config_name: str = "config.toml",
    command_line: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, str]]:
    """The parameters that a step runs with, and where each value came from.

    Names in ``crds`` that the step does not have are passed over (the references carry
    bookkeeping of the observatory's package), unknown names from anywhere else are errors.

    Returns
    -------
    params : object
        An instance of ``params_type``.
    sources : dict of str
        Parameter name -> "default", "crds: <file>", "config.toml" or "command line".

    Raises
    ------
    Misconfigured
        If a value does not fit its type or the step refuses it.
    """
    known = {f.name for f in dataclasses.fields(params_type)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys((f.name for f in dataclasses.fields(params_type)), "default")
    layers: list[tuple[str, Mapping[str, Any], bool]] = [
        (f"crds: {crds_name}", {k: v for k, v in (crds or {}).items() if k in known}, True),
        (config_name, config or {}, False),
        ("command line", command_line or {}, True),
    ]
    hints = hints_of(params_type)
    problems = []
    for source, layer, lenient in layers:
        for name, value in layer.items():
            if name not in known:
                problems.append(f"{name} ({source}): unknown parameter; {nearest(name, known)}")
                continue
            try:
                values[name] = convert(value, hints[name], lenient=lenient)
            except ValueError as e:
                problems.append(f"{name} ({source}): {e}")
            sources[name] = source
    if not problems:
        try:
            return params_type(**values), sources
        except ValueError as e:
            given = ", ".join(f"{n} = {v!r} from {sources[n]}" for n, v in values.items())
            problems.append(f"{e} (given: {given})" if given else str(e))
    raise Misconfigured(f"the parameters of step {step} are wrong:\n  " + "\n  ".join(problems))
