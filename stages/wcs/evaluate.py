"""Fast evaluation of transforms over many pixels.

A WCS object evaluates its models one by one over whole arrays, with checks of units and shapes between
them. Over the four million pixels of an image that takes seconds. Here a transform is taken apart once into
functions of plain arrays, and pixels go through all of them in blocks that stay in the processor's cache.
Everything is float64; of the models in `_KNOWN` the values are computed here, of all others by the models
themselves, so that any transform can be evaluated, only not as fast.

A polynomial of two variables is evaluated by Horner's rule for a block of pixels side by side,

    p = (... (q_n x + q_{n-1}) x + ...) x + q_0,    q_i = c_{i,n-i} y^{n-i} + ... + c_{i,0} by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.wcs.sky import Transform

BLOCK = 4096
"""Pixels that go through a transform side by side."""

Arrays = list[np.ndarray]
Evaluate = Callable[[Arrays], Arrays]
"""Takes and gives as many arrays (float64, one axis) as the transform has inputs and outputs.

It may give back arrays that it was given, and does not write into them.
"""


@kernel
def polynomial(coefficients, x, y, out, inner):
    """``coefficients[i, j]`` x^i y^j summed over i + j <= degree, for all elements of ``x`` and ``y``."""
    degree = coefficients.shape[0] - 1
    points = x.size
    for k in range(points):
        out[k] = coefficients[degree, 0]
    for i in range(degree - 1, -1, -1):
        c = coefficients[i, degree - i]
        for k in range(points):
            inner[k] = c
        for j in range(degree - i - 1, -1, -1):
            c = coefficients[i, j]
            for k in range(points):
                inner[k] = inner[k] * y[k] + c
        for k in range(points):
            out[k] = out[k] * x[k] + inner[k]


def _polynomial2d(model: Transform) -> Evaluate | None:
    if model.x_domain != model.x_window or model.y_domain != model.y_window:
        return None
    degree = model.degree
    coefficients = np.zeros((degree + 1, degree + 1))
    for i in range(degree + 1):
        for j in range(degree + 1 - i):
            coefficients[i, j] = getattr(model, f"c{i}_{j}").value

    def evaluate(given: Arrays) -> Arrays:
        x, y = given
        out, inner = np.empty_like(x), np.empty_like(x)
        polynomial(coefficients, x, y, out, inner)
        return [out]

    return evaluate


def _polynomial1d(model: Transform) -> Evaluate | None:
    if tuple(model.domain) != tuple(model.window):
        return None
    coefficients = [float(c) for c in model.parameters]

    def evaluate(given: Arrays) -> Arrays:
        (x,) = given
        out = np.full_like(x, coefficients[-1])
        for c in reversed(coefficients[:-1]):
            out *= x
            out += c
        return [out]

    return evaluate


def _linear(model: Transform) -> Evaluate:
    """Models that are linear but for a constant; the matrix is read off them."""
    n = model.n_inputs
    origin = np.array(model(*np.zeros(n)))
    matrix = np.array([np.array(model(*unit)) - origin for unit in np.eye(n)]).T
    terms = [[(k, float(f)) for k, f in enumerate(row) if f] for row in matrix]

    def evaluate(given: Arrays) -> Arrays:
        outs = []
        for row, constant in zip(terms, origin, strict=True):
            out = np.full_like(given[0], constant)
            for k, factor in row:
                out += factor * given[k]
            outs.append(out)
        return outs

    return evaluate


def _shift(model: Transform) -> Evaluate:
    offset = float(model.offset.value)
    return lambda given: [given[0] + offset]


def _scale(model: Transform) -> Evaluate:
    factor = float(model.factor.value)
    return lambda given: [given[0] * factor]


def _constant(model: Transform) -> Evaluate:
    amplitude = float(model.amplitude.value)
    return lambda given: [np.full_like(given[0], amplitude)]


def _identity(model: Transform) -> Evaluate:
    return list


def _mapping(model: Transform) -> Evaluate:
    order = tuple(model.mapping)
    return lambda given: [given[k] for k in order]


def _to_cartesian(model: Transform) -> Evaluate:
    def evaluate(given: Arrays) -> Arrays:
        lon, lat = np.deg2rad(given[0]), np.deg2rad(given[1])
        cos = np.cos(lat)
        return [cos * np.cos(lon), cos * np.sin(lon), np.sin(lat)]

    return evaluate


def _to_spherical(model: Transform) -> Evaluate:
    upper = float(model.wrap_lon_at)

    def evaluate(given: Arrays) -> Arrays:
        x, y, z = given
        lon = np.rad2deg(np.arctan2(y, x))
        if upper == 360.0:
            lon[lon < 0.0] += 360.0
        return [lon, np.rad2deg(np.arctan2(z, np.hypot(x, y)))]

    return evaluate


_KNOWN: dict[str, Callable[[Transform], Evaluate | None]] = {
    "AffineTransformation2D": _linear,
    "CartesianToSpherical": _to_spherical,
    "Const1D": _constant,
    "Identity": _identity,
    "Mapping": _mapping,
    "Polynomial1D": _polynomial1d,
    "Polynomial2D": _polynomial2d,
    "Rotation2D": _linear,
    "RotationSequence3D": _linear,
    "Scale": _scale,
    "Shift": _shift,
    "SphericalToCartesian": _to_cartesian,
}
"""Class of a model -> what takes it apart; None from it means that this one is left to the model."""


def _itself(model: Transform) -> Evaluate:
    def evaluate(given: Arrays) -> Arrays:
        made = model(*given)
        return [np.asarray(a, np.float64) for a in (made if model.n_outputs > 1 else (made,))]

    return evaluate


def _sequence(model: Transform) -> list[Transform]:
    """The models of a composition ``a | b | c``, in order."""
    if getattr(model, "op", None) == "|":
        return [*_sequence(model.left), *_sequence(model.right)]
    return [model]


def _arithmetic(op: Callable[..., np.ndarray], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda given: [op(a, b) for a, b in zip(left(given), right(given), strict=True)]


_ARITHMETIC: dict[str, Callable[..., np.ndarray]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


def taken_apart(model: Transform) -> Evaluate:
    """A function of plain arrays that computes what a model of astropy.modeling does.

    A bounding box of the model is not looked at.
    """
    op = getattr(model, "op", None)
    if op == "|":
        steps = [taken_apart(part) for part in _sequence(model)]

        def one_after_the_other(given: Arrays) -> Arrays:
            for step in steps:
                given = step(given)
            return given

        return one_after_the_other
    if op == "&":
        left, right, n = taken_apart(model.left), taken_apart(model.right), model.left.n_inputs
        return lambda given: [*left(given[:n]), *right(given[n:])]
    if op in _ARITHMETIC:
        return _arithmetic(_ARITHMETIC[op], taken_apart(model.left), taken_apart(model.right))
    take = _KNOWN.get(type(model).__name__)
    return (take(model) if take is not None else None) or _itself(model)


def evaluator(model: Transform) -> Callable[..., tuple[np.ndarray, ...]]:
    """A function of arrays of any one shape (they are broadcast) that evaluates a model block by block.

    It gives as many arrays (float64) as the model has outputs, NaN where an input is NaN. Safe for several
    threads.
    """
    inner, outputs = taken_apart(model), model.n_outputs

    def evaluate(*given: Any) -> tuple[np.ndarray, ...]:
        arrays = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in given))
        shape = arrays[0].shape
        flat: Sequence[np.ndarray] = [a.reshape(-1) for a in arrays]
        out = np.empty((outputs, arrays[0].size))
        for lo in range(0, out.shape[1], BLOCK):
            for k, values in enumerate(inner([a[lo : lo + BLOCK] for a in flat])):
                out[k, lo : lo + BLOCK] = values
        return tuple(a.reshape(shape) for a in out)

    return evaluate


def _pair(
    evaluate: Callable[..., tuple[np.ndarray, ...]],
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """An evaluation whose first two results count."""

    def two(*given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        one, other, *_ = evaluate(*given)
        return one, other

    return two


def pixel_to_sky(wcs: Any) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The WCS evaluated fast: a function (x, y) -> (right ascension, declination), 0-based pixels, degrees.

    Unlike the WCS object itself it also gives values outside the bounding box.

    Parameters
    ----------
    wcs : gwcs.WCS
    """
    return _pair(evaluator(wcs.forward_transform))


def sky_to_pixel(wcs: Any) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The way back of `pixel_to_sky`: a function (right ascension, declination) -> (x, y).

    The WCS must have an inverse.
    """
    return _pair(evaluator(wcs.backward_transform))
