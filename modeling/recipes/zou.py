"""Self-training: class-balanced labels of Zou et al. 2018 (CBST), by the mean teacher of Tarvainen and Valpola 2017.

Theirs: the share of a class's pixels that is labelled grows from 0.2 to 0.5 (CBST), and the teacher is a moving average
of the student (mean teacher). Neither is about landslides, and no paper of the networks here joins them: optimiser, constant
rate, length, confidence, number of labellings, how slowly the teacher follows and what is kept are ours.
"""

from __future__ import annotations

from modeling.recipes.adapting import SelfTraining
from modeling.recipes.parts import Optimiser, Schedule

SELF_TRAINING = (
    SelfTraining(
        name="self-training",
        optimiser=Optimiser("adamw", 1e-4, weight_decay=1e-2),
        schedule=Schedule("constant"),
        steps=300,
        batch=8,
        augmentation="physical",
        portion=(0.2, 0.5),
        confidence=0.8,
        labellings=5,
        ema=0.99,
        target_weight=1.0,
        norms_of="kept",
        select_by="last",
        floor=0.05,
        validations=5,
        most_patches=256,
        about="Zou et al. 2018 and Tarvainen and Valpola 2017; optimiser, length, confidence and labellings are ours",
    ),
)
