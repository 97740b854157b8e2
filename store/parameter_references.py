"""Parameter references: ASDF files that set defaults of steps for a kind of exposure.

A step's file has ``parameters``; a pipeline's file has, beside its own, a list
``steps`` of such entries. The pipeline's entry beats the step's own file key by key.
Source: JWST documentation, ASDF parameter files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from upramp.stages.core.errors import Misconfigured

Value = tuple[Any, str]
"""A parameter's value and the name of the file that sets it."""

# How the observatory's software runs a step, nothing that concerns the calibration.
BOOKKEEPING = frozenset(
    (
        "class",
        "config_file",
        "input_dir",
        "logcfg",
        "name",
        "output_dir",
        "output_ext",
        "output_file",
        "output_use_index",
        "output_use_model",
        "post_hooks",
        "pre_hooks",
        "save_results",
        "search_output_file",
        "steps",
        "suffix",
    )
)


def read_parameter_file(path: Path) -> dict[str, Any]:
    """The tree of an ASDF parameter file.

    Raises
    ------
    Misconfigured
        If it is no ASDF file or holds no parameters.
    """
    import asdf

    try:
        tree = asdf.util.load_yaml(path)
    except Exception as exc:  # the YAML reader and asdf raise many kinds
        raise Misconfigured(
            f"parameter reference {path} cannot be read as ASDF ({exc}); "
            f"remove it and fetch it again with 'crds sync --files {path.name}'"
        ) from exc
    if not isinstance(tree, Mapping) or not isinstance(tree.get("parameters") or {}, Mapping):
        raise Misconfigured(f"parameter reference {path} has no mapping 'parameters'")
    return dict(tree)


def entries(tree: Mapping[str, Any]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """Of a pipeline's file: name, lower-case class name and parameters of every step in it."""
    parameters = tree.get("parameters") or {}
    for entry in (*(tree.get("steps") or ()), *(parameters.get("steps") or ())):
        kind = str(entry.get("class", "")).rpartition(".")[2].lower()
        yield str(entry.get("name", "")), kind, entry.get("parameters") or {}


def clean(parameters: Mapping[str, Any], name: str) -> dict[str, Value]:
    """The parameters that concern the calibration, with the file's name."""
    return {key: (value, name) for key, value in parameters.items() if key not in BOOKKEEPING}


def merge(files: Mapping[str, Path], types: Mapping[str, str]) -> dict[str, dict[str, Value]]:
    """Parameters by step from the files that apply.

    Parameters
    ----------
    files : mapping
        Reference type -> file, for those types that have one.
    types : mapping
        Step or pipeline name -> reference type ("jump" -> "pars-jumpstep").

    Returns
    -------
    dict
        Step or pipeline name -> parameter -> (value, file name). Names without any are left out.
    """
    found: dict[str, dict[str, Value]] = {}
    steps = {kind.removeprefix("pars-"): step for step, kind in types.items()}
    later: list[tuple[str, dict[str, Value]]] = []
    for step, kind in types.items():
        if kind not in files:
            continue
        path = files[kind]
        tree = read_parameter_file(path)
        found.setdefault(step, {}).update(clean(tree.get("parameters") or {}, path.name))
        for name, cls, parameters in entries(tree):
            target = name if name in types else steps.get(cls)
            if target is not None:
                later.append((target, clean(parameters, path.name)))
    for target, values in later:
        found.setdefault(target, {}).update(values)
    return {step: values for step, values in found.items() if values}
