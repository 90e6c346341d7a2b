"""One line per paper: the energies that people know, each with its reference. ``ENERGIES`` lists those that every backend test can take."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .binary.presets import dense, exponential, hopfield, polynomial
from .memory import Memory
from .read import ReadEnergy
from .scalings.scaling import Log, Sum
from .scalings.simplex import Simplex
from .separations.activation import Gelu, Silu
from .separations.blend import Blend
from .separations.separation import Epanechnikov, Exp, Power, RectifiedPower, Relu
from .separations.tsallis import Tsallis
from .similarities.mapped import Mapped
from .similarities.similarity import Cosine, Dot, Euclidean
from .structured import (  # noqa: F401 (presets of this table, too)
    fermi_dirac,
    hard_max,
    jensen_shannon,
    k_subsets,
    kullback_leibler,
    normmax,
    reverse_kullback_leibler,
    sequential_k_subsets,
    top_k,
)
from .write import Delta, Hebbian, ImplicitDelta, Ridge


def log_sum_exp(beta: float = 1.0) -> ReadEnergy:
    """``½‖x‖² − log Σ exp(β x·ξ)/β``: attention (Ramsauer et al. 2020, arXiv 2008.02217, eq. 2, up to constants)."""
    return ReadEnergy(Dot(), Exp(), Log(), beta=beta)


def distance(beta: float = 1.0) -> ReadEnergy:
    """``−log Σ exp(−½β‖x − ξ‖²)/β``: mean shift (Niu et al. 2024, arXiv 2405.08707; their β = 1 is β = 2 here)."""
    return ReadEnergy(Euclidean(), Exp(), Log(), beta=beta)


def epanechnikov(beta: float = 1.0) -> ReadEnergy:
    """``−log Σ max(1 − ½β‖x − ξ‖², 0)/β``: the log-sum-ReLU energy (Hoover et al. 2025, arXiv 2506.10801)."""
    return ReadEnergy(Euclidean(), Epanechnikov(), Log(), beta=beta)


def hybrid(share: float = 0.1, beta: float = 1.0) -> ReadEnergy:
    """``−log Σ [λ eˢ + (1 − λ) max(1 + s, 0)]/β``, s = −½β‖x − ξ‖²: log-sum-exp and log-sum-ReLU (Hoover et al. 2025, arXiv 2506.10801) blended.

    The minima of log-sum-ReLU stay, up to what λ moves them, and every basin reaches as far as 1/eˢ leaves room for a gradient: s ≈ −69 in
    float32, −690 in float64.
    """
    return ReadEnergy(Euclidean(), Blend(Exp(), Epanechnikov(), share), Log(), beta=beta)


def von_mises_fisher(kappa: float = 1.0) -> ReadEnergy:
    """``−log Σ exp(κ cos(x, ξ))/κ`` on the unit sphere: equally weighted von Mises–Fisher densities, up to their constant (Mardia & Jupp 2000, ch. 9).

    ``analysis.log_density`` gives the density itself.
    """
    return ReadEnergy(Cosine(), Exp(), Log(), beta=kappa)


def sparsemax(beta: float = 1.0) -> ReadEnergy:
    """Sparse Hopfield network (Hu et al. 2023, arXiv 2309.12673), weights by sparsemax (Martins & Astudillo 2016, arXiv 1602.02068)."""
    return ReadEnergy(Dot(), Tsallis(2.0), Simplex(), beta=beta)


def entmax(alpha: float = 1.5, beta: float = 1.0) -> ReadEnergy:
    """Generalised sparse Hopfield network (Wu et al. 2023, arXiv 2312.17346), weights by α-entmax (Peters et al. 2019, arXiv 1905.05702)."""
    return ReadEnergy(Dot(), Tsallis(alpha), Simplex(), beta=beta)


def softmax1(beta: float = 1.0) -> ReadEnergy:
    """``½‖x‖² − log(1 + Σ exp(β x·ξ))/β``: softmax with an empty slot (Hu et al. 2024, OutEffHop, arXiv 2404.03828)."""
    return ReadEnergy(Dot(), Exp(), Log(null_slot=True), beta=beta)


def linear_attention(beta: float = 1.0) -> ReadEnergy:
    """``½‖x‖² − Σ ½β(x·ξ)²``, weights ``β x·ξ``: linear attention, the linear layer, Hopfield 1982 (Katharopoulos et al. 2020, arXiv 2006.16236)."""
    return ReadEnergy(Dot(), Power(2), Sum(), beta=beta)


def relu_feed_forward(beta: float = 1.0) -> ReadEnergy:
    """Weights ``relu(β x·k)``: the ReLU feed-forward block as a memory (Geva et al. 2021, arXiv 2012.14913; Krotov & Hopfield 2020)."""
    return ReadEnergy(Dot(), Relu(), Sum(), beta=beta)


def squared_relu_feed_forward(beta: float = 1.0) -> ReadEnergy:
    """Weights ``relu(β x·k)²``: the squared-ReLU block (So et al. 2021, Primer, arXiv 2109.08668)."""
    return ReadEnergy(Dot(), RectifiedPower(3), Sum(), beta=beta)


def gelu_feed_forward(beta: float = 1.0) -> ReadEnergy:
    """Weights ``gelu(β x·k)``: the GELU block of GPT-2 and BERT (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    return ReadEnergy(Dot(), Gelu(), Sum(), beta=beta)


def silu_feed_forward(beta: float = 1.0) -> ReadEnergy:
    """Weights ``silu(β x·k)``: the SiLU (Swish) block (Elfwing et al. 2017, arXiv 1702.03118)."""
    return ReadEnergy(Dot(), Silu(), Sum(), beta=beta)


def learned_kernel(feature_map: Callable[[Tensor], Tensor], beta: float = 1.0) -> ReadEnergy:
    """``½‖x‖² − log Σ exp(β Φ(x)·Φ(ξ))/β``: the kernel of U-Hop (Wu et al. 2024, arXiv 2404.03827) as a similarity, for any map Φ.

    U-Hop confines by ½‖Φ(x)‖² and reads the patterns themselves: that is ``layers.LearnedKernel``, which owns and learns a linear Φ. Here the state is
    confined as it is, so that its minima are those of U-Hop only where Φ keeps lengths.
    """
    return ReadEnergy(Mapped(feature_map), Exp(), Log(), beta=beta)


def retnet(beta: float = 1.0) -> Memory:
    """``S ← γ_t S + k vᵀ``: RetNet (Sun et al. 2023, arXiv 2307.08621), Mamba-2 (Dao & Gu 2024, arXiv 2405.21060)."""
    return Memory(linear_attention(beta), Hebbian(), decay="scalar")


def gated_linear_attention(beta: float = 1.0) -> Memory:
    """``S ← Diag(γ_t) S + k vᵀ``: GLA (Yang et al. 2023, arXiv 2312.06635); the state update of HGRN2 and RWKV-6."""
    return Memory(linear_attention(beta), Hebbian(), decay="channel")


def delta_net(beta: float = 1.0) -> Memory:
    """``S ← (I − b k kᵀ) S + b k vᵀ``: DeltaNet (Schlag et al. 2021, arXiv 2102.11174; Yang et al. 2024, arXiv 2406.06484)."""
    return Memory(linear_attention(beta), Delta())


def gated_delta_net(beta: float = 1.0) -> Memory:
    """``S ← (I − b k kᵀ) γ_t S + b k vᵀ``: Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464)."""
    return Memory(linear_attention(beta), Delta(), decay="scalar")


def kimi_delta_attention(beta: float = 1.0) -> Memory:
    """``S ← (I − b k kᵀ) Diag(γ_t) S + b k vᵀ``: KDA (Kimi Linear 2025, arXiv 2510.26692)."""
    return Memory(linear_attention(beta), Delta(), decay="channel")


def longhorn(beta: float = 1.0) -> Memory:
    """The delta rule with the implicit step ``b/(1 + b‖k‖²)`` (Longhorn, Liu et al. 2024, arXiv 2407.14207)."""
    return Memory(linear_attention(beta), ImplicitDelta())


def mesa_net(ridge: float = 1.0, beta: float = 1.0) -> Memory:
    """``S_t = argmin_S Σ_i ½b_i‖S k_i − v_i‖² + ½λ‖S‖²``: MesaNet (von Oswald et al. 2025, arXiv 2506.05233); forgets where a decay is given."""
    return Memory(linear_attention(beta), Ridge(ridge))


def forgetting_attention(beta: float = 1.0) -> Memory:
    """Softmax attention whose slots fade, ``exp(β q·k + Σ log γ)``: Forgetting Transformer (Lin et al. 2025, arXiv 2503.02130), ALiBi."""
    return Memory(log_sum_exp(beta), Hebbian(), decay="scalar")


def delta_former(beta: float = 1.0, prediction: ReadEnergy | None = None) -> Memory:
    """``u_t = a v_t − b Σ κ₁(k_t, k_i) u_i``, read by softmax: DeltaFormer (arXiv 2505.19488; NeurIPS 2025). Its paper has a = 1: ``rate=(a, b)``.

    κ₁ is softmax as well (k·k) unless given: ``linear_attention()``, ``relu_feed_forward()``, ``ReadEnergy(Dot(), Rounded(2), Sum())``,
    or ``ReadEnergy(Euclidean(), Exp(), Sum(), Quadratic(), β)``, which is ``exp(β(cos − 1))`` on unit keys.
    """
    return Memory(log_sum_exp(beta), Delta(), prediction)


ENERGIES: dict[str, ReadEnergy] = {
    "log_sum_exp": log_sum_exp(2.0),
    "distance": distance(2.0),
    "epanechnikov": epanechnikov(0.1),
    "hybrid": hybrid(0.1, 0.1),
    "von_mises_fisher": von_mises_fisher(2.0),
    "sparsemax": sparsemax(),
    "entmax": entmax(1.5),
    "normmax": normmax(),
    "k_subsets": k_subsets(),
    "top_k": top_k(3, 2.0),
    "softmax1": softmax1(2.0),
    "dense": dense(3, 0.1),
    "hopfield": hopfield(),
    "polynomial": polynomial(4, 0.1),
    "exponential": exponential(0.5),
    "linear_attention": linear_attention(),
    "relu_feed_forward": relu_feed_forward(),
    "squared_relu_feed_forward": squared_relu_feed_forward(),
    "gelu_feed_forward": gelu_feed_forward(),
    "silu_feed_forward": silu_feed_forward(),
}
"""Energies at a β that suits unit-variance patterns. Listing an energy here tests it on every backend; docs/energies.md lists every preset."""

MEMORIES: dict[str, Memory] = {
    "retnet": retnet(),
    "gated_linear_attention": gated_linear_attention(),
    "delta_net": delta_net(),
    "gated_delta_net": gated_delta_net(),
    "kimi_delta_attention": kimi_delta_attention(),
    "longhorn": longhorn(),
    "mesa_net": mesa_net(),
    "forgetting_attention": forgetting_attention(),
    "delta_former": delta_former(),
    "delta_former_linear": delta_former(prediction=linear_attention()),
    "delta_epanechnikov": Memory(epanechnikov(0.1), Delta()),
    "delta_entmax": Memory(entmax(1.5), Delta()),
}
"""One memory per cell whose write is causal. Every energy of ``ENERGIES`` is one more: alone it is written Hebbian."""
