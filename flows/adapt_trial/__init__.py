"""What `quakeslide adapt` is worth, tried on simulated events whose truth is known: `python -m flows.adapt_trial`.

Events of domains that the network that ships has not learnt from are mapped, polygons drawn on the maps as an analyst would,
and the maps adapted to them. What the command says of each is held against the truth of the whole map.
"""
