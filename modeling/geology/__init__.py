"""DFPENet-geology (Xu et al.): what is known of landslides, applied to a network's map in four phases.

1. The scene is classified by sub-regions (`scan`).
2. Regions of connected pixels that cannot be landslides are dropped: too small, as elongated as a road, on flat ground
   (`rules`, on rasters in `regions`, on an inventory in `inventories`); the reason stays beside every dropped region.
3. A network that sees one date only maps the image before as well, and what it finds there is subtracted (`subtraction`).
4. What is left becomes polygons with number, area, perimeter, length-width ratio and centroid (`modeling.vectors`).

The rules' thresholds are the paper's, or learnt on labelled ground of other regions (`learning`).
"""
