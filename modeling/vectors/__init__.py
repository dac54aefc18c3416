"""From a map to polygons with attributes, and back."""
