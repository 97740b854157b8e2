"""Which exposures belong together, decided from what is known of them before a pixel is read."""
