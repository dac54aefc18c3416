"""The papers' experiments, each one file: what is trained and tested, in which order, and what the paper found.

`engine` carries an experiment out and can be interrupted at any moment; `mixes` makes training sets of several domains;
`findings` and `report` say what came out beside what the paper prints.
"""
