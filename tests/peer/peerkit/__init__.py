"""Products of upramp against those of the observatory's package, on small exposures of many kinds.

``scenes`` the exposures, ``cases`` exposures with parameters, ``peer`` and ``ours`` run the two
packages, ``compare`` holds their products side by side, ``run_pipeline`` is what runs inside
the peer's virtual environment.
"""
