"""The guider pipeline: count rates of FGS guide star data (dq_init, guider_cds, flat_field)."""
