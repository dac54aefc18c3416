"""Pictures of training, scores and explanations: numbers in, one PNG out, without a display.

Every function draws one figure, writes it beside its place and renames it, and returns its path. The same numbers give
the same bytes.
"""
