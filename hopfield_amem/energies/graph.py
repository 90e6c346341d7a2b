"""Memory on a graph: every node recalls, and neighbours agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .read import ReadEnergy
from .separations.separation import require
from .truth import readable, settled


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph with weighted edges, by its Laplacian ``L = D − W``. Two graphs are equal when they are the same object.

    Args:
        nodes: how many nodes there are.
        edges: pairs of nodes (m, 2), integers, each undirected edge once.
        weights: w > 0 of every edge, (m,). None: 1.

    Raises:
        ValueError, TypeError: edges out of range, loops, edges given twice; weights that are not positive (an edge of negative weight drives its
            nodes apart without end).
    """

    nodes: int
    edges: Tensor
    weights: Tensor | None = None

    def __post_init__(self):
        edges, weights = self.edges, self.weights
        require(isinstance(self.nodes, int) and self.nodes >= 1, f"A graph needs at least one node, got {self.nodes!r}.")
        if not isinstance(edges, Tensor) or edges.is_floating_point() or edges.dtype == torch.bool:
            raise TypeError(f"edges must be an integer tensor of shape (m, 2), got {getattr(edges, 'dtype', type(edges).__name__)}.")
        require(edges.ndim == 2 and edges.shape[-1] == 2, f"edges must have shape (m, 2), one pair of nodes per row, got {tuple(edges.shape)}.")
        inside = readable(((edges >= 0) & (edges < self.nodes)).all(), True)
        require(inside, f"edges must name nodes 0 … {self.nodes - 1}, got {edges.min() if len(edges) else ''} to {edges.max() if len(edges) else ''}.")
        require(readable((edges[:, 0] != edges[:, 1]).all(), True), "An edge must join two different nodes; a loop has no effect on x_i − x_j.")
        once = len(edges) == len(torch.unique(edges.sort(-1).values, dim=0)) if len(edges) else True
        require(once, "Each undirected edge must be given once; (i, j) and (j, i) are the same edge. Add up the weights of repeated ones.")
        if weights is not None:
            require(isinstance(weights, Tensor) and weights.shape == edges.shape[:1], f"weights must hold one number per edge, ({len(edges)},).")
            positive = readable(((weights > 0) & weights.isfinite()).all(), True)
            require(positive, "Edge weights must be positive and finite: a negative one drives its nodes apart without end, the energy has no minimum.")

    @classmethod
    def nearest_neighbours(cls, points: Tensor, count: int) -> Graph:
        """Joins every point to its ``count`` nearest others (Euclidean), whichever of the two names the other; weights 1. (n, d) -> Graph

        Raises:
            ValueError: fewer than ``count + 1`` points.
        """
        require(points.ndim == 2 and 1 <= count < len(points), f"{count} nearest others need more points than that, (n, d); got {tuple(points.shape)}.")
        distance = torch.cdist(points.detach(), points.detach()).fill_diagonal_(math.inf)
        nearest = distance.topk(count, largest=False).indices
        own = torch.arange(len(points), device=points.device).unsqueeze(-1).expand_as(nearest)
        pairs = torch.stack([own.flatten(), nearest.flatten()], -1).sort(-1).values
        return cls(len(points), torch.unique(pairs, dim=0))

    def laplacian(self, x: Tensor) -> Tensor:
        """``L x``: at every node ``Σ_j w_ij (x_i − x_j)``, without a matrix. (..., nodes, d) -> (..., nodes, d)"""
        first, second = self.edges.to(x.device).unbind(-1)
        flow = self._weighted(x.index_select(-2, first) - x.index_select(-2, second))
        return torch.zeros_like(x).index_add(-2, first, flow).index_add(-2, second, -flow)

    def roughness(self, x: Tensor) -> Tensor:
        """``½ tr(Xᵀ L X) = ½ Σ_edges w_ij ‖x_i − x_j‖²``. (..., nodes, d) -> (...)"""
        first, second = self.edges.to(x.device).unbind(-1)
        apart = x.index_select(-2, first) - x.index_select(-2, second)
        return 0.5 * self._weighted(apart).mul(apart).sum((-2, -1))

    @property
    def stiffness(self) -> float:
        """An upper bound of ``λ_max(L)``: the largest ``d_i + d_j`` of an edge (Anderson & Morley 1985); 0 without edges."""
        if not len(self.edges):
            return 0.0
        weights = torch.ones(len(self.edges), dtype=torch.float64) if self.weights is None else self.weights.detach().cpu().double()
        edges = self.edges.cpu()
        degree = torch.zeros(self.nodes, dtype=torch.float64).index_add(0, edges.flatten(), weights.repeat_interleave(2))
        return float(degree[edges].sum(-1).max())

    def _weighted(self, flow: Tensor) -> Tensor:
        return flow if self.weights is None else flow * self.weights.to(flow).unsqueeze(-1)

    def __repr__(self) -> str:
        return f"Graph({self.nodes} nodes, {len(self.edges)} edges)"


@dataclass(frozen=True, eq=False)
class GraphMemory:
    """``E(X) = Σ_i E(x_i; ξ) + ½λ tr(Xᵀ L X)``: every node reads one shared memory, and edges pull their nodes together.

    The energy does not split into one per node, so **a graph is one query**: a row of the state holds all its nodes, one after the other, and every
    descent (``FixedPoint``, ``GradientDescent``, ``Flow``, ``Langevin``) stops per graph, never per node, whose neighbours would still move.
    ``rows`` and ``unrowed`` convert.

    ``FixedPoint`` takes majorise–minimise steps: at fixed weights p the energy is quadratic, and ``(I + λL) X = P ξ`` its minimum (conjugate gradients).
    The energy never rises. A gradient step does not raise it up to ``largest_step``. Graph Hopfield networks (Rao, Wa & Athavale 2026, arXiv 2603.03464)
    take damped gradient steps of it instead; the package difflayers smooths the stored patterns beforehand.

    Args:
        read: ``Dot`` with ``Quadratic`` or ``Euclidean`` with ``Free``, with weights that sum to one.
        graph: which nodes are neighbours.
        strength: λ ≥ 0.

    Raises:
        ValueError: any other energy, a negative strength.
    """

    read: ReadEnergy
    graph: Graph
    strength: float = 1.0

    def __post_init__(self):
        read = self.read
        require(
            isinstance(read, ReadEnergy) and read.isotropic and read.monotone and read.scaling.normalised(read.separation),
            f"A memory on a graph reads with Dot and Quadratic() or with Euclidean and Free(), and with weights that sum to one; got {read}. "
            "Its step is then one linear system. Use presets.log_sum_exp(), presets.entmax() or presets.distance().",
        )
        require(0 <= self.strength < math.inf, f"The strength λ of the coupling must be at least 0 and finite, got {self.strength!r}.")

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        """E of every graph. (..., g, nodes·d), (..., n, d) -> (..., g)"""
        nodes = self.unrowed(state, keys)
        return self.read(nodes, keys.unsqueeze(-3)).sum(-1) + self.strength * self.graph.roughness(nodes)

    def settle(self, state: Tensor, keys: Tensor) -> Tensor:
        """The minimum of the energy at fixed weights, ``X ← (I + λL)⁻¹ P ξ``. (..., g, nodes·d), (..., n, d) -> (..., g, nodes·d)"""
        nodes = self.unrowed(state, keys)
        weights = self.read.weights(nodes, keys.unsqueeze(-3))
        pull, _ = self.read.similarity.pull(weights, keys.unsqueeze(-3))
        return self._smoothed(pull).flatten(-2)

    @property
    def largest_step(self) -> float:
        """The step size up to which gradient descent never raises the energy, ``2/(1 + λ λ_max(L))``."""
        return 2 / (1 + self.strength * self.graph.stiffness)

    def rows(self, nodes: Tensor) -> Tensor:
        """Graphs as rows of a state, (..., g, nodes, d) -> (..., g, nodes·d); a single graph (nodes, d) -> (1, nodes·d).

        Raises:
            ValueError: another number of nodes than the graph's.
        """
        if nodes.ndim < 2 or nodes.shape[-2] != self.graph.nodes:
            raise ValueError(f"States of {self.graph} have shape (..., {self.graph.nodes}, d), got {tuple(nodes.shape)}.")
        return nodes.flatten(-2) if nodes.ndim > 2 else nodes.flatten(-2).unsqueeze(0)

    def unrowed(self, state: Tensor, keys: Tensor) -> Tensor:
        """The nodes of every row, (..., g, nodes·d) -> (..., g, nodes, d).

        Raises:
            ValueError: rows that are not all nodes of the graph, an empty memory.
        """
        width = keys.shape[-1]
        if state.shape[-1] != self.graph.nodes * width:
            raise ValueError(
                f"A row of the state holds all {self.graph.nodes} nodes of width {width} after each other, so {self.graph.nodes * width} numbers; "
                f"got {tuple(state.shape)}. Convert nodes with rows(nodes)."
            )
        if keys.shape[-2] == 0:
            raise ValueError("A memory on a graph needs at least one stored pattern.")
        return state.unflatten(-1, (self.graph.nodes, width))

    def _smoothed(self, target: Tensor) -> Tensor:
        """``(I + λL)⁻¹`` applied, by conjugate gradients on every column; their number of steps follows from the condition number."""
        if self.strength == 0:
            return target
        condition = 1 + self.strength * self.graph.stiffness
        solution, residual = target, -self.strength * self.graph.laplacian(target)
        direction, energy = residual, residual.square().sum(-2, keepdim=True)
        eps = torch.finfo(target.dtype).eps
        goal = (eps * target.detach()).square().sum(-2, keepdim=True)
        for _ in range(math.ceil(math.sqrt(condition) * math.log(2 * condition / eps) / 2) + 1):
            if settled(energy <= goal):
                break
            image = direction + self.strength * self.graph.laplacian(direction)
            length = _ratio(energy, (direction * image).sum(-2, keepdim=True))
            solution, residual = solution + length * direction, residual - length * image
            fresh = residual.square().sum(-2, keepdim=True)
            direction, energy = residual + _ratio(fresh, energy) * direction, fresh
        return solution

    def __str__(self) -> str:
        return f"Σ_i E(x_i) + ½·{self.strength:g} tr(Xᵀ L X), {self.read}"


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """A quotient that is 0 where both are: a column that is solved stays."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
