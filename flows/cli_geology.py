"""`quakeslide learn-rules`: thresholds of the geology rules from labelled ground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("learn-rules")(learn_rules)


def learn_rules(
    model: Annotated[str, typer.Argument(help="A name of `quakeslide models`, or the path of a .safetensors file.")],
    data: Annotated[Path, typer.Option(help="Patch data set, made by `quakeslide dataset`.")],
    out: Annotated[Path, typer.Option(help="File for the rules, for `--rules learnt:FILE`.")] = Path("rules.json"),
    part: Annotated[
        str, typer.Option(help="Part of the data set to learn on; the test part is refused, to judge the rules by.")
    ] = "validation",
    domains: Annotated[str, typer.Option(help="Only these domains of the data set, comma-separated; empty: all.")] = "",
    subtract: Annotated[
        bool, typer.Option("--subtract", help="Subtract the map of the image before first; for networks of one date.")
    ] = False,
) -> None:
    """Choose the thresholds of the area, elongation and slope rules by how well landslides are counted.

    The model maps the labelled patches, every combination of thresholds is tried on the mapped regions, and the one with
    the best F1 counted in landslides, as the mean over domains, is written with where it comes from. With two domains or
    more, each is also judged by the thresholds that the others teach: that is what to expect elsewhere. Patches cut
    landslides off at their edges, so large patches are better.
    """
    from flows.errors import FlowError
    from flows.interruption import beginning_anew
    from flows.out_folder import require_folder
    from flows.progress import report
    from flows.run import say, shown_progress
    from modeling.benchmark.plan import names_of
    from modeling.data.patches import open_patches
    from modeling.geology.learning import LabelledGround
    from modeling.geology.rules_file import learnt_from, write_rules
    from modeling.geology.scheme import bands_for, map_block
    from modeling.model import load_model
    from modeling.prediction.allocator import keep_memory

    if out.is_dir():
        raise FlowError(f"--out {out} is a folder: name a file for the rules, for example {out / 'rules.json'}")
    require_folder(out.parent)
    if part == "test":
        raise FlowError("rules are not learnt on the test part: it is there to judge them by; take --part validation")
    loaded, patches = load_model(model), open_patches(data)
    bands = bands_for(loaded.bands, patches.layers, subtracted=subtract)
    blocks = patches.blocks(part, bands, domains=names_of(domains) or None)
    keep_memory()
    grounds = []
    with beginning_anew(), shown_progress():
        for done, block in enumerate(blocks, start=1):
            maps = map_block(loaded, block, bands.channels, before=subtract)
            grounds.append(LabelledGround.of(maps, subtracted=subtract))
            report("map labelled ground", done, len(blocks))
    learnt = learnt_from(grounds, loaded, subtracted=subtract)
    write_rules(out, learnt)
    say(f"{learnt.rules.described()}")
    f1 = ", ".join(f"{name} {value:.3f}" for name, value in learnt.mean_f1.items())
    say(
        "what the thresholds were chosen by, the mean over the domains of F1 counted in landslides, on the ground they were "
        f"learnt on: {f1}"
    )
    for row in learnt.held_out:
        say(
            f"{row['domain']}, with what the others teach: none {row['f1_none']:.3f}, default {row['f1_default']:.3f}, "
            f"learnt {row['f1_learnt']:.3f}"
        )
    say(f"rules: {out}")
