"""Can a simple classifier tell simulated from real? Two of them, cross-validated by ground.

Logistic regression sees what lies to one side; boosted trees of depth two (Friedman 2001, Ann. Stat. 29, 1189-1232, with
Newton steps) also see what is too regular or goes together wrongly. Both are written here in numpy: the package does not
depend on a library for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from modeling.errors import DataError
from modeling.realism.patch_features import Patches
from modeling.scoring.bootstrap import Interval

DoubleArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Scorer = Callable[[DoubleArray], DoubleArray]

ROUNDS, RATE, BINS, LEAST_LEAF = 60, 0.15, 24, 20
"""Of the boosted trees: how many, how much of each, bins a feature, patches in a leaf."""
PENALTY = 1.0
"""Of the logistic regression, on the squared weights of standardised features."""
RESAMPLES, LEVEL = 400, 0.95


@dataclass(frozen=True)
class Told:
    """How well simulated patches are told from real ones: an AUC of 0.5 is not at all, 1 always."""

    what: str
    """Which patches and features."""
    real: int
    """Real patches."""
    simulated: int
    """Simulated patches in all; each fold takes as many as it has real ones."""
    logistic: Interval
    """AUC of the logistic regression."""
    trees: Interval
    """AUC of the boosted trees."""
    family: Mapping[str, float]
    """Family of features -> AUC of the trees on it alone."""
    feature: Mapping[str, tuple[float, float, float]]
    """Feature -> (its AUC alone; real median; simulated median); AUC above 0.5: real values are larger."""


def tell_apart(what: str, real: Patches, simulated: Patches, *, seed: int = 0, details: bool = True) -> Told:
    """Fit on all folds but one, score that one, for every fold.

    The folds of the real scene are strips of ground and those of the simulated patches regions, so no scored patch has a
    neighbour among those fitted to. AUC is taken within folds and averaged; intervals draw blocks of ground again.
    Raises `DataError` when a fold lacks one of the kinds.
    """
    folds = np.unique(real.fold)
    if folds.size < 2 or not np.isin(folds, simulated.fold).all():
        raise DataError(
            f"{what}: the {folds.size} strips of real ground need a simulated region each, at least two: raise --seeds"
        )
    simulated = _balanced(real, simulated, seed)
    one_by_one = {
        name: (
            _auc(real.values[:, index], simulated.values[:, index]),
            float(np.median(real.values[:, index])),
            float(np.median(simulated.values[:, index])),
        )
        for index, name in enumerate(real.names)
    }
    families = dict.fromkeys(name.split(":")[0] for name in real.names)
    alone = {
        family: _cross_validated(real.family(family), simulated.family(family), boosted_trees, seed, 0).value
        for family in families
        if details
    }
    return Told(
        what, len(real.values), len(simulated.values),
        _cross_validated(real, simulated, logistic, seed), _cross_validated(real, simulated, boosted_trees, seed),
        alone, one_by_one,
    )  # fmt: skip


def logistic(values: DoubleArray, label: IndexArray) -> Scorer:
    """Ridge logistic regression on (n, feature) values scaled by their quartiles; returns the log odds of new ones."""
    centre = np.median(values, axis=0)
    low, high = np.quantile(values, (0.25, 0.75), axis=0)
    spread = np.maximum(high - low, 1e-9)

    def scaled(x: DoubleArray) -> DoubleArray:
        within = np.clip((x - centre) / spread, -4, 4)  # outliers must not carry the fit
        return np.concatenate([within, np.ones((len(x), 1))], axis=1)

    design, sign = scaled(values), 2.0 * label - 1.0

    def loss(weight: DoubleArray) -> tuple[float, DoubleArray]:
        margin = sign * (design @ weight)
        penalised = np.append(weight[:-1], 0.0)
        gradient = -(design.T @ (sign * _sigmoid(-margin))) + PENALTY * penalised
        return float(np.logaddexp(0, -margin).sum() + 0.5 * PENALTY * penalised @ penalised), gradient

    found = optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return lambda x: np.asarray(scaled(x) @ found.x)


def boosted_trees(values: DoubleArray, label: IndexArray) -> Scorer:
    """Gradient boosting of depth-two trees on quantile bins of (n, feature) values; returns log odds of new ones."""
    cuts = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)  # (cut, feature)
    binned = _binned(values, cuts)
    score = np.zeros(len(values))
    trees: list[tuple[int, int, tuple[tuple[int, int, float, float], ...]]] = []
    for _ in range(ROUNDS):
        chance = _sigmoid(score)
        gradient, hessian = label - chance, np.maximum(chance * (1 - chance), 1e-6)
        top = _best_split(binned, gradient, hessian)
        if top is None:
            break
        left = binned[:, top[0]] <= top[1]
        leaves = []
        for side in (left, ~left):
            split = _best_split(binned[side], gradient[side], hessian[side])
            feature, cut = split or (0, BINS)
            low = binned[:, feature] <= cut
            step = [RATE * gradient[side & half].sum() / (hessian[side & half].sum() + 1.0) for half in (low, ~low)]
            leaves.append((feature, cut, float(step[0]), float(step[1])))
        trees.append((*top, tuple(leaves)))
        score += _grown(binned, trees[-1:])
    return lambda x: _grown(_binned(x, cuts), trees)


def _grown(binned: IndexArray, trees: list[tuple[int, int, tuple[tuple[int, int, float, float], ...]]]) -> DoubleArray:
    score = np.zeros(len(binned))
    for feature, cut, leaves in trees:
        sides = [np.where(binned[:, f] <= c, low, high) for f, c, low, high in leaves]
        score += np.where(binned[:, feature] <= cut, *sides)
    return score


def _best_split(binned: IndexArray, gradient: DoubleArray, hessian: DoubleArray) -> tuple[int, int] | None:
    """(feature, highest bin on the left) with the largest gain, None when no split leaves enough on both sides."""
    count, width = binned.shape
    if count < 2 * LEAST_LEAF:
        return None
    flat = (binned + BINS * np.arange(width)).ravel()
    sums = [
        np.bincount(flat, np.repeat(weight, width), BINS * width).reshape(width, BINS).cumsum(axis=1)
        for weight in (gradient, hessian, np.ones(count))
    ]
    g, h, n = sums
    gain = g**2 / (h + 1) + (g[:, -1:] - g) ** 2 / (h[:, -1:] - h + 1)
    gain = np.where((n >= LEAST_LEAF) & (count - n >= LEAST_LEAF), gain, -np.inf)
    best = int(np.argmax(gain))
    if not np.isfinite(gain.ravel()[best]):
        return None
    return best // BINS, best % BINS


def _binned(values: DoubleArray, cuts: DoubleArray) -> IndexArray:
    columns = [np.searchsorted(cuts[:, index], values[:, index]) for index in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.int64)


def _cross_validated(
    real: Patches,
    simulated: Patches,
    fit: Callable[[DoubleArray, IndexArray], Scorer],
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval:
    scored = []
    for fold in np.unique(real.fold):
        of_real, of_simulated = real.fold == fold, simulated.fold == fold
        values = np.concatenate([real.values[~of_real], simulated.values[~of_simulated]])
        label = np.repeat([1, 0], [int((~of_real).sum()), int((~of_simulated).sum())])
        score = fit(values, label)
        scored.append(
            (score(real.values[of_real]), real.block[of_real], score(simulated.values[of_simulated]),
             simulated.block[of_simulated])
        )  # fmt: skip
    value = float(np.mean([_auc(one, other) for one, _, other, _ in scored]))
    rng = np.random.default_rng(seed)
    drawn = [
        float(np.mean([_auc(_redrawn(one, a, rng), _redrawn(other, b, rng)) for one, a, other, b in scored]))
        for _ in range(resamples)
    ] or [value]
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(value, float(low), float(high), LEVEL, resamples, int(np.unique(real.block).size))


def _redrawn(score: DoubleArray, block: IndexArray, rng: np.random.Generator) -> DoubleArray:
    _, number = np.unique(block, return_inverse=True)
    blocks = int(number.max()) + 1
    return np.repeat(score, rng.multinomial(blocks, np.full(blocks, 1 / blocks))[number])


def _balanced(real: Patches, simulated: Patches, seed: int) -> Patches:
    """As many simulated patches as real ones in every fold, as far as there are."""
    rng = np.random.default_rng(seed)
    kept = []
    for fold in np.unique(real.fold):
        of = np.flatnonzero(simulated.fold == fold)
        kept.append(rng.permutation(of)[: int((real.fold == fold).sum())])
    rows = np.concatenate(kept)
    return Patches(simulated.names, simulated.values[rows], simulated.block[rows], simulated.fold[rows])


def _auc(one: DoubleArray, other: DoubleArray) -> float:
    """Chance that a value of `one` is above one of `other`, ties by half (Mann-Whitney)."""
    if not one.size or not other.size:
        return 0.5
    rank = stats.rankdata(np.concatenate([one, other]))
    return float((rank[: one.size].sum() - one.size * (one.size + 1) / 2) / (one.size * other.size))


def _sigmoid(x: DoubleArray) -> DoubleArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
