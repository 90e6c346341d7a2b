"""The recall error of an outer-product memory in closed form, and the threshold that makes it least. No constant is fitted.

For an input x of class f, Gaussian e ~ N(0, I/d) and outputs u on the unit sphere, the scores of ``W = Σ q(x) u_f(x) e_xᵀ`` are nearly normal and
independent: with ``Q_y = Σ_{f(x')=y} q(x')²`` and ``‖q‖² = Σ_y Q_y``

    right class:  mean q(x),  variance (Q_f − q²)/d + (‖q‖² − Q_f)/d² + 2q²/d
    class g ≠ f:  mean 0,     variance Q_g/d + (‖q‖² − Q_g − q²)/d² + q²/d

so that ``P(right) = E[Π_g Φ(score_f/s_g)]``. A class of which nothing is stored (Q_g = 0) scores by its overlaps 1/√d with the others alone, so by how
high these score: ``s_g² = (score_f² + Σ_h E[score_h² | score_h < score_f])/d``, h the stored classes beside f.

Good to some percent from d ≈ 300. It is pessimistic at d ≈ 30, where scores are not yet normal, and where the errors come from one common input, for
which a single draw of the outputs decides.

Every input is weighed against every class. Where that is too much (N = M = 4000), inputs of nearly equal (q, Q_f) and classes of nearly equal Q_g are
taken together at their means, in cells 1 % wide: what that changes is of second order, below 10⁻³ of the error.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..estimate import Estimate
from . import doors

NODES = 61  # of Gauss-Hermite quadrature over the score of the right class
STEPS = 321  # of the trapezoidal rule within 8 standard deviations, where classes without inputs make P(right) nearly a step
BLOCK = 2**21  # numbers at once
EXACT = 10**5  # different inputs × different classes up to which nothing is taken together, a second
LARGEST = 5 * 10**6  # … which are evaluated at all, half a minute
CELL = 0.01  # relative width of what is taken together


@torch.no_grad()
def predicted_recall_error(probability: Tensor, weights: Tensor, labels: Tensor, dim: int) -> Estimate:
    """``𝓔 = Σ p(x) P(argmax_y u_yᵀ W e_x ≠ f(x))`` for the storage weights q: see the module. A heuristic without fitted constants.

    Args:
        probability: p, (N,).
        weights: q, (N,), at least 0. Where none is positive the memory is empty and decodes to class 0.
        labels: f, (N,), whole numbers from 0. Every class up to the largest competes, also one that no input has.
        dim: d, the width of the embeddings.

    Raises:
        TypeError, ValueError: no distribution, negative weights, classes that do not fit, d < 1; more kinds of inputs and classes than can be evaluated.
    """
    doors.distribution(probability)
    doors.storage(weights, labels)
    doors.count(dim, "dim")
    if weights.ndim != 1 or len(weights) != len(probability) or (weights < 0).any():
        raise ValueError(f"Storage weights must be (N,), one for each of {len(probability)} inputs, and not negative; got shape {tuple(weights.shape)}.")
    p, q = probability.double(), weights.double()
    wrong = _wrong(p, q, labels, dim) if (q > 0).any() else float(p[labels != 0].sum())
    return Estimate(
        min(max(wrong, 0.0), 1.0),
        assumption=f"normal, independent scores; e ~ N(0, I/d), u on the unit sphere, d = {dim}, N = {len(p)}, M = {int(labels.max()) + 1}",
        kind="heuristic", success="argmax", reference="signal and noise of the memory of arXiv 2310.02984",
    )  # fmt: skip


def optimal_threshold(probability: Tensor, labels: Tensor, dim: int) -> int:
    """The P for which q = 1 on the P most frequent inputs has the least predicted error: about d/log d for few classes, not d.

    Searched on a geometric grid of 60 P, then between the neighbours of the best.

    Raises:
        TypeError, ValueError: as ``predicted_recall_error``.
    """
    doors.distribution(probability)
    doors.storage(probability, labels)
    doors.count(dim, "dim")
    order = probability.argsort(descending=True, stable=True)
    p, f, classes = probability[order].double(), labels[order], int(labels.max()) + 1

    def error(kept: int) -> float:
        stored, whole = (p.new_zeros(classes).index_add_(0, f[:end], p[:end]) for end in (kept, len(p)))
        own = p.new_zeros(classes).index_add_(0, f[:kept], torch.ones_like(p[:kept]))
        kinds = torch.cat([torch.stack([torch.full_like(own, float(q)), own], -1) for q in (1, 0)])
        right = _right_of_kinds(kinds, _distinct(own), dim)
        return float(p.sum() - torch.cat([stored, whole - stored]) @ right)

    def best(candidates: np.ndarray) -> tuple[int, int, int]:
        kept = np.unique(candidates.round().astype(int))
        place = int(np.argmin([error(int(k)) for k in kept]))
        return int(kept[max(place - 1, 0)]), int(kept[place]), int(kept[min(place + 1, len(kept) - 1)])

    low, middle, high = best(np.geomspace(1, len(p), 60))
    while high - low > 2:
        low, middle, high = best(np.concatenate([np.linspace(low, high, 12), [middle]]))
    return middle


def _wrong(p: Tensor, q: Tensor, labels: Tensor, dim: int) -> float:
    """``Σ p(x) P(wrong)``, inputs and classes taken together where they are too many."""
    own = torch.zeros(int(labels.max()) + 1, dtype=q.dtype).index_add_(0, labels, q.square())  # Q_y
    kinds, mass = _summed(torch.stack([q, own[labels]], -1), p)
    classes = _distinct(own)
    if len(kinds) * len(classes[0]) > EXACT:
        floor = float(own.sum()) / dim  # what all others add to a score has the variance floor/d: smaller differences do not count
        kinds, mass = _together(kinds, mass, torch.tensor([(floor / dim) ** 0.5, floor]))
        classes = _together(classes[0].unsqueeze(-1), classes[1], torch.tensor([floor]))
        classes = classes[0].squeeze(-1), classes[1]
    if len(kinds) * len(classes[0]) > LARGEST:
        raise ValueError(
            f"The closed form weighs {len(kinds)} kinds of inputs (q, Q_f) against {len(classes[0])} kinds of classes, more than {LARGEST:,} pairs even where "
            "nearly equal ones are taken together. Draw the error with sampled_errors instead."
        )
    return float(mass @ (1 - _right_of_kinds(kinds, classes, dim)))


def _summed(points: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Different points (k, c) among (n, c), and their mass."""
    found, place = torch.unique(points, dim=0, return_inverse=True)
    return found, mass.new_zeros(len(found)).index_add_(0, place, mass)


def _together(points: Tensor, mass: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Points (n, c), at least 0, of one cell as their mean, and their mass: cells are ``CELL`` wide in the logarithm of point + floor. -> (k, c), (k,)

    Points without mass are left out, and 0 stays apart from what is near it.
    """
    points, mass = points[mass > 0], mass[mass > 0]
    cells = torch.where(points > 0, ((points + floor.to(points.dtype)).log() / CELL).floor(), -math.inf)
    _, place = torch.unique(cells, dim=0, return_inverse=True)
    total = mass.new_zeros(int(place.max()) + 1).index_add_(0, place, mass)
    mean = points.new_zeros(len(total), points.shape[-1]).index_add_(0, place, mass.unsqueeze(-1) * points) / total.unsqueeze(-1)
    return mean, total


def _right_of_kinds(inputs: Tensor, classes: tuple[Tensor, Tensor], dim: int) -> Tensor:
    """P(right) of inputs given by (q, Q_f), (n, 2), among classes with the different Q_y, (c,), and how many have each. -> (n,)"""
    kinds, kind = torch.unique(inputs, dim=0, return_inverse=True)
    others, _ = classes
    normal = _normal(bool((others == 0).any()))
    size = max(1, BLOCK // (len(normal[0]) * len(others)))
    right = torch.cat([_right_block(block, classes, normal, dim) for block in kinds.split(size)])
    return right[kind]


def _distinct(values: Tensor) -> tuple[Tensor, Tensor]:
    found, copies = torch.unique(values, return_counts=True)
    return found, copies.to(values.dtype)


def _normal(fine: bool) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a quadrature over a standard normal."""
    if not fine:
        node, share = (torch.from_numpy(array) for array in np.polynomial.hermite_e.hermegauss(NODES))
        return node, share / share.sum()
    node = torch.linspace(-8, 8, STEPS, dtype=torch.float64)
    return node, (-(node**2) / 2).softmax(0)


def _right_block(kinds: Tensor, classes: tuple[Tensor, Tensor], normal: tuple[Tensor, Tensor], dim: int) -> Tensor:
    """P(right) of inputs with (q, Q_f), (k, 2), against classes with Q_g, (c,), and how many have each. -> (k,)"""
    (others, copies), (node, share) = classes, normal
    total = others @ copies
    q, own = kinds[:, :1], kinds[:, 1:]
    spread = ((own - q**2).clamp_min(0) / dim + (total - own).clamp_min(0) / dim**2 + 2 * q**2 / dim).sqrt()
    score = q + spread * node  # (k, nodes)
    stored = others > 0

    def scale(noise: Tensor) -> Tensor:  # (k, c) -> (k, c, 1)
        return (noise / dim + (total - noise - q**2) / dim**2 + q**2 / dim).clamp_min(0).sqrt().unsqueeze(-1)

    def rivals(among: Tensor, itself: Tensor) -> Tensor:  # (k, c, nodes), (k, 1, nodes) -> (k, nodes): the right class does not compete with itself
        return (among * copies[stored].unsqueeze(-1)).sum(-2) - torch.where(own > 0, itself.squeeze(-2), 0.0)

    width, own_width = scale(others[stored].expand(len(q), -1)), scale(own)
    against, itself = score.unsqueeze(-2) / width, score.unsqueeze(-2) / own_width
    right = rivals(torch.special.log_ndtr(against), torch.special.log_ndtr(itself))
    if not stored.all():
        lengths = rivals(width**2 * _square_below(against), own_width**2 * _square_below(itself)) + torch.where(own > 0, score**2, 0.0)
        empty = copies[~stored] - (own == 0).to(copies.dtype)
        right = right + empty * torch.special.log_ndtr(score / (lengths.clamp_min(0) / dim).sqrt())
    return right.exp() @ share


def _square_below(bound: Tensor) -> Tensor:
    """``E[z² | z < bound]`` of a standard normal z."""
    return 1 - bound * (-(bound**2) / 2 - torch.special.log_ndtr(bound)).exp() / math.sqrt(2 * math.pi)
