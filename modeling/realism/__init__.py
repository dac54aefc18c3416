"""Is the simulator like the real world? Simulated and real data measured alike, and the distances between them.

`python -m modeling.realism --data FOLDER` compares what is in the folder and writes `simulator.md`, `simulator.json`
and pictures. Nothing here trains or chooses anything.
"""
