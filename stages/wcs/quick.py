"""A WCS of transforms that are quick to evaluate and to copy, for libraries that do either very often.

Every transform of the chain becomes one model, which evaluates the whole by functions of plain arrays
(`evaluate`) that all its copies share. The numbers are those of the transforms to the last digits of float64.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from upramp.stages.wcs.evaluate import evaluator


@lru_cache
def _kind(inputs: int, outputs: int) -> Any:
    """The class of quick models with so many inputs and outputs; models are a library that takes its time."""
    from astropy.modeling import Model, Parameter

    class Quick(Model):
        """A transform as one model; ``original`` is what it stands for.

        Its parameter does nothing: models without any are taken for such that want quantities with units.
        """

        n_inputs, n_outputs = inputs, outputs
        _separable = False
        unit = Parameter(default=1.0)

        def __init__(self, original: Any) -> None:
            super().__init__(name=original.name)
            self.original = original
            self._forward = evaluator(original)
            self._back: Any = None

        def evaluate(self, *given):
            """See `Model`, which takes annotations for units."""
            return self._forward(*given[:inputs])

        @property
        def inverse(self) -> Any:
            """The way back, quick as well."""
            if self._back is None:
                self._back = quick(self.original.inverse)
            return self._back

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return copy.copy(self)

    return Quick


def quick(model: Any) -> Any:
    """A model as one that is quick."""
    return _kind(model.n_inputs, model.n_outputs)(model)


def _like(wcs: Any, steps: list[tuple[Any, Any]]) -> Any:
    from gwcs import WCS

    made = WCS(steps)
    if wcs.bounding_box is not None:
        made.bounding_box = wcs.bounding_box.bounding_box(order="F")
    made.pixel_shape, made.name = wcs.pixel_shape, wcs.name
    return made


def light(wcs: Any, but: Collection[str] = ()) -> Any:
    """A WCS with quick transforms; those that lead to the frames named in ``but`` stay as they are."""
    names = wcs.available_frames
    steps = []
    for k, step in enumerate(wcs.pipeline):
        stays = step.transform is None or names[k + 1] in but
        steps.append((step.frame, copy.deepcopy(step.transform) if stays else quick(step.transform)))
    return _like(wcs, steps)


def whole(wcs: Any) -> Any:
    """The WCS that `light` was given, with what was put between its transforms since."""
    steps = [(s.frame, getattr(s.transform, "original", s.transform)) for s in wcs.pipeline]
    return _like(wcs, steps)
