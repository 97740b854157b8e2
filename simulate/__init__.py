"""The forward model: a sky becomes ramps, uncal files and a small CRDS cache, all with known truth.

``layout`` the detectors and read patterns, ``detector`` one detector's true properties, ``sky``
scenes, ``expose`` the read-out, ``uncal`` the files, ``cache`` and ``references`` the CRDS cache,
``recovery`` truth against products, ``demo`` the visit behind ``upramp demo``.
"""
