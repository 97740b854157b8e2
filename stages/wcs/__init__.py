"""From pixels to the sky: WCS objects of exposures, FITS approximations of them, and fast maps."""
