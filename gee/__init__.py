"""Earth Engine: the only package that imports `ee`."""
