"""How far a map of a region that no model has seen can be believed: its probabilities, and its totals.

`shift` chooses a temperature for unseen ground from domains near to it, `totals` counts an event's landslides beside their
truth, `conformal` turns such events into intervals, and `stored` keeps what was fitted with the model.
"""
