"""Local stand-ins for Earth Engine, Cloud Storage and USGS: real wire, no account."""
