"""Leave one region out: how good a map of a region is that no model has a label of, and how far it can be believed.

For every region there are models of one other domain each, a model of all others (the multi-domain model), that model
adapted without labels, the same with 20 labelled patches, and a model of 700 patches of the region itself. Which way is
the default for a region, its temperature and its intervals are decided on the other regions, by models that had seen
neither that region nor the one they were judged on (`covering`): no label of the region takes part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from modeling.errors import DataError
from modeling.experiments.covering import held_out_sets
from modeling.experiments.engine import Effort, Experiment, Run
from modeling.experiments.generalisation_tables import reduce
from modeling.experiments.generalisation_works import (
    ADAPTED_SHARE,
    SEVERAL,
    FewLabels,
    Judge,
    Sample,
    SelfTrained,
    judged,
    key,
)
from modeling.experiments.mixes import VALIDATION, Mix, Part
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train
from modeling.recipes import Optimiser, Recipe, Schedule
from modeling.simulate.domains import DOMAINS

FEW = 20
"""Labelled patches of the third arm, those that it is validated on included."""
VALIDATIONS = 4
"""So often a training run is validated: with several domains that is a third of its time."""
_WATCHED = 35
"""Training patches of each domain in the small mix whose validation patches watch over self-training."""
_PASSES = 78
"""How many times a judgement maps each event."""


def plan(setting: Setting) -> Sequence[Run]:
    """Samples, single-domain models, models with domains held out, adaptation, judgements: seed by seed."""
    if set(setting.tests) != set(setting.domains):
        raise DataError("each region is left out in turn: give the same --domains and --tests, or neither")
    sets = held_out_sets(setting.domains)
    runs = [Run(_sample(domain), Sample(_single(setting, domain), setting.patch_px)) for domain in setting.domains]
    for seed in setting.seeds:
        runs += [_trained(setting, key(domain, seed), (domain,), seed) for domain in setting.domains]
        if seed == setting.seeds[0]:
            runs += list(_inner(setting, sets, seed))
        for domain in setting.domains:
            runs += list(_outer(setting, domain, seed))
    return runs


def _inner(setting: Setting, sets: Sequence[tuple[str, ...]], seed: int) -> Iterator[Run]:
    """Models without several domains, judged on each of these: what choices for each other of them are made on."""
    for held_out in sets:
        known = tuple(name for name in setting.domains if name not in held_out)
        main = f"multi--without-{'+'.join(held_out)}--seed{seed}"
        yield _trained(setting, main, known, seed)
        for target in held_out:
            adapted = f"self--{target}--without-{'+'.join(held_out)}--seed{seed}"
            yield _self_trained(setting, adapted, main, known, target, seed)
            yield _judgement(setting, target, held_out, known, main, adapted, seed)


def _outer(setting: Setting, target: str, seed: int) -> Iterator[Run]:
    """What the experiment is about: everything that a region without labels can get, and what labels would give."""
    known = tuple(name for name in setting.domains if name != target)
    main, adapted, few = (
        f"multi--without-{target}--seed{seed}",
        f"self--{target}--seed{seed}",
        f"few--{target}--seed{seed}",
    )
    yield _trained(setting, main, known, seed)
    yield _self_trained(setting, adapted, main, known, target, seed)
    steps = max(1, round(2 * ADAPTED_SHARE * setting.steps))
    training = max(1, round(FEW / (1 + VALIDATION)))
    labelled = Mix(f"{target}-{FEW}", (Part(target, training),))
    how = recipe_of(setting, steps, rate=3e-4)
    yield Run(
        few, FewLabels(how, main, _several(setting, known), labelled, seed), (main,), _effort(setting, steps, 4 * FEW)
    )
    yield _judgement(setting, target, (target,), known, main, adapted, seed, own=key(target, seed), few=few)


def _trained(setting: Setting, name: str, domains: tuple[str, ...], seed: int) -> Run:
    """Models of one domain and of several train alike but for `SEVERAL`; each step is as large."""
    mix, steps = _several(setting, domains), setting.steps * (SEVERAL if len(domains) > 1 else 1)
    effort = _effort(setting, steps, (VALIDATIONS + 1) * VALIDATION * mix.patches)
    return Run(name, Train(recipe_of(setting, steps), mix, seed, (), keep=True), effort=effort)


def _self_trained(setting: Setting, name: str, main: str, known: tuple[str, ...], target: str, seed: int) -> Run:
    steps = max(1, round(ADAPTED_SHARE * setting.steps))
    watched = Mix("watched", tuple(Part(domain, min(_WATCHED, setting.patches)) for domain in known))
    work = SelfTrained(main, _several(setting, known), watched, target, steps, setting.batch, setting.patch_px, seed)
    return Run(name, work, (main,), _effort(setting, 3 * steps, 6 * VALIDATION * watched.patches))


def _judgement(
    setting: Setting, target: str, held_out: tuple[str, ...], known: tuple[str, ...], main: str, adapted: str, seed: int,
    own: str = "", few: str = "",
) -> Run:  # fmt: skip
    singles = tuple((domain, key(domain, seed)) for domain in known)
    samples = tuple((domain, _sample(domain)) for domain in known)
    work = Judge(target, main, singles, samples, known, adapted, own, few)
    needs = (main, adapted, *(name for name in (own, few) if name), *(name for _, name in (*singles, *samples)))
    tested = sum(block.truth.size for block in setting.source.blocks("test", setting.source.band_set(), [target]))
    return Run(judged(target, held_out, seed), work, needs, _effort(setting, 0, _PASSES * tested / setting.patch_px**2))


def recipe_of(setting: Setting, steps: int, rate: float | None = None) -> Recipe:
    """Short training: the loss and the schedule of Dong et al. (2024), at another learning rate."""
    base = setting.recipe(setting.networks[0], steps)
    return replace(
        base,
        name="generalisation",
        loss="focal+dice",
        optimiser=Optimiser("adam", rate or setting.rate or 1e-3),
        schedule=Schedule("polynomial", power=0.9, warm_up=max(1, steps // 20)),
        classes=2,
        normalisation="standardise",
        augmentation="physical",
        select_by="f1",
        validate_every=math.ceil(steps / VALIDATIONS),
        about=f"the same for all arms; {steps} steps",
    )


def _single(setting: Setting, domain: str) -> Mix:
    return _several(setting, (domain,))


def _several(setting: Setting, domains: tuple[str, ...]) -> Mix:
    return Mix("+".join(domains), tuple(Part(domain, setting.patches) for domain in domains))


def _sample(domain: str) -> str:
    return f"sample--{domain}"


def _effort(setting: Setting, steps: int, patches: float) -> Effort:
    return Effort(setting.networks[0], steps, patches)


EXPERIMENT = Experiment(
    name="generalisation",
    paper="Generalisation to unseen regions",
    asks="How good is a map of a region of which nobody has a label, made by models of other regions; what do selection and "
    "adaptation without labels add; and how far can its probabilities and totals be believed?",
    networks=("resu-senet-slim",),
    plan=plan,
    reduce=reduce,
    domains=tuple(DOMAINS),
    tests=tuple(DOMAINS),
    budget="3h",
    patches=700,
)
"""Leave-one-region-out over all simulated domains."""
