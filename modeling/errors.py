"""What can go wrong in `modeling`. Every message says what was wrong, with the value, and what to do."""


class ModelingError(Exception):
    """The base of all errors that `modeling` raises on purpose."""


class BandSetError(ModelingError):
    """A band set is unknown or its layers are not there."""


class WeightsError(ModelingError):
    """A weights file is missing, damaged, or for another network or band set."""


class RasterError(ModelingError):
    """A raster cannot be used (not a raster, no CRS, another grid, too large) or cannot be written."""


class DataError(ModelingError):
    """Training or evaluation data are unusable."""


class InventoryError(ModelingError):
    """An inventory breaks its schema, its inputs do not fit together, or it cannot be written."""
