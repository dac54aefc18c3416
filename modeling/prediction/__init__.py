"""From a scene to probability, tile by tile."""
