"""Columns of a source catalogue: their names, units, how they are shown, and what they mean.

    AB magnitude = -2.5 log10(flux / Jy) + 8.9        its error = 2.5 log10(1 + error / flux)

Names, order and texts are those that the observatory's catalogues have, so that programs find their way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

AB_ZERO = 8.9
FLUX, MAGNITUDE, RATIO, SHAPE = ".6e", ".6f", ".4f", ".6f"

_BOX = "Sky coordinate of the {} vertex of the minimal bounding box of the source"
_SIGMA = (
    "1-sigma standard deviation along the {} axis of the 2D Gaussian function that has the same "
    "second-order central moments as the source"
)
_CIRCLE = "the {}% encircled energy circular aperture"
_UNRESOLVED = "; should be used only for unresolved sources."

TEXTS = {
    "label": "Unique source identification label number",
    "xcentroid": "X pixel value of the source centroid (0 indexed)",
    "ycentroid": "Y pixel value of the source centroid (0 indexed)",
    "sky_centroid": "Sky coordinate of the source centroid",
    "aper_bkg_flux": "The local background value calculated as the sigma-clipped median value in the "
    "background annulus aperture",
    "aper_bkg_flux_err": "The standard error of the sigma-clipped median background value",
    "is_extended": "Flag indicating whether the source is extended",
    "sharpness": "The DAOFind source sharpness statistic",
    "roundness": "The DAOFind source roundness statistic",
    "nn_label": "The label number of the nearest neighbor",
    "nn_dist": "The distance in pixels to the nearest neighbor",
    "isophotal_flux": "Isophotal flux",
    "isophotal_flux_err": "Isophotal flux error",
    "isophotal_abmag": "Isophotal AB magnitude",
    "isophotal_abmag_err": "Isophotal AB magnitude error",
    "isophotal_vegamag": "Isophotal Vega magnitude",
    "isophotal_vegamag_err": "Isophotal Vega magnitude error",
    "isophotal_area": "Isophotal area",
    "semimajor_sigma": _SIGMA.format("semimajor"),
    "semiminor_sigma": _SIGMA.format("semiminor"),
    "ellipticity": "1 minus the ratio of the 1-sigma lengths of the semimajor and semiminor axes",
    "orientation": "The angle (degrees) between the positive X axis and the major axis "
    "(increases counter-clockwise)",
    "sky_orientation": "The position angle (degrees) from North of the major axis",
    "sky_bbox_ll": _BOX.format("lower-left"),
    "sky_bbox_ul": _BOX.format("upper-left"),
    "sky_bbox_lr": _BOX.format("lower-right"),
    "sky_bbox_ur": _BOX.format("upper-right"),
}


@dataclass(frozen=True)
class Column:
    """A column: ``values`` (n), or (n, 2) right ascensions and declinations (degrees, ICRS).

    ``form`` is how values are shown, not how they are written.
    """

    name: str
    values: np.ndarray
    unit: str = ""
    form: str = ""
    text: str = ""

    @property
    def is_sky(self) -> bool:
        """Whether it holds positions on the sky."""
        return self.values.ndim == 2


def column(name: str, values: np.ndarray, unit: str = "", form: str = "") -> Column:
    """A column of which `TEXTS` tells the meaning."""
    return Column(name, values, unit, form, TEXTS[name])


def magnitudes(flux: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AB magnitudes of fluxes in Jy, and their errors; NaN where the flux is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value, doubt = -2.5 * np.log10(flux) + AB_ZERO, 2.5 * np.log10(1.0 + error / flux)
    return value, np.where(flux > 0, doubt, np.nan)


def aperture_columns(
    energies: Sequence[int],
    fluxes: Sequence[tuple[np.ndarray, np.ndarray]],
    total: tuple[np.ndarray, np.ndarray],
    offset: float,
) -> list[Column]:
    """Fluxes (Jy) in circles and in all, as fluxes, AB and Vega magnitudes, and their ratios.

    Parameters
    ----------
    energies : sequence of int
        Encircled energies of the circles, percent.
    fluxes : sequence of tuple
        Flux and error for each circle.
    total : tuple
        The same, corrected for what lies beyond.
    offset : float
        AB less Vega magnitude.
    """
    names = [f"aper{e}" for e in energies] + ["aper_total"]
    largest = _CIRCLE.format(energies[-1])
    measured = dict(zip(names, [*fluxes, total], strict=True))
    made = []
    for kind, called, form, unit in (
        ("flux", "Flux", FLUX, "Jy"),
        ("abmag", "AB magnitude", MAGNITUDE, ""),
        ("vegamag", "Vega magnitude", MAGNITUDE, ""),
    ):
        for place, name in enumerate(names):
            pair = measured[name]
            if kind != "flux":
                value, error = magnitudes(*pair)
                pair = (value - offset if kind == "vegamag" else value), error
            for ending, what, values in zip(("", "_err"), ("", " error"), pair, strict=True):
                if name == "aper_total":
                    lower = called if called != "Flux" else "flux"
                    text = f"Total aperture-corrected {lower}{what} based on {largest}{_UNRESOLVED}"
                else:
                    text = f"{called}{what} within {_CIRCLE.format(energies[place])}"
                made.append(Column(f"{name}_{kind}{ending}", values, unit, form, text))
    for high, low in ((1, 0), (2, 1), (2, 0)):
        first, second = names[high], names[low]
        made.append(
            Column(
                f"CI_{energies[high]}_{energies[low]}",
                ratio(fluxes[high][0], fluxes[low][0]),
                form=RATIO,
                text=f"Concentration index calculated as ({first}_flux / {second}_flux)",
            )
        )
    return made


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, without a word where b is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return a / b


def isophotal_columns(
    flux: np.ndarray, error: np.ndarray, offset: float, others: Mapping[str, np.ndarray]
) -> list[Column]:
    """What is known of segments: flux (Jy), magnitudes, and ``others`` by name."""
    value, doubt = magnitudes(flux, error)
    units = {"isophotal_area": "pix2", "semimajor_sigma": "pix", "semiminor_sigma": "pix",
             "orientation": "deg", "sky_orientation": "deg"}  # fmt: skip
    plain = {"isophotal_area"}
    return [
        column("isophotal_flux", flux, "Jy", FLUX),
        column("isophotal_flux_err", error, "Jy", FLUX),
        column("isophotal_abmag", value, form=MAGNITUDE),
        column("isophotal_abmag_err", doubt, form=MAGNITUDE),
        column("isophotal_vegamag", value - offset, form=MAGNITUDE),
        column("isophotal_vegamag_err", doubt, form=MAGNITUDE),
        *(
            column(name, values, units.get(name, ""), "" if name in plain or values.ndim == 2 else SHAPE)
            for name, values in others.items()
        ),
    ]
