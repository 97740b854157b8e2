"""Steps of stage 2: images of slopes become calibrated images."""
