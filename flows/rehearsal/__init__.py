"""A rehearsal: months of feed in hours, with everything that goes wrong in them, and a judge of what came of it.

Everything is real but time and the earth: the watch, the campaign steps, their processes and sockets. Simulated are the
services (`infra.local`), the earthquakes, the scenes, the outages and the kills; every record and image says so.
"""
