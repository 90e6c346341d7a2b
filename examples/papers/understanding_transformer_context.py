"""Infinite context: what every further token still changes in the memory that attention writes, beside the claim of 1/t.

"Understanding Transformer from the Perspective of Associative Memory", arXiv 2505.19488, §2.2.2 and §3.1.
"""

from __future__ import annotations

import math

import torch
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem.analysis.icl import CLAIM, TOLERANCE, Contexts, InContextUpdates, UpdateCurve, in_context_updates
from hopfield_amem.analysis.icl.contexts import drawn

PAPER = Paper("Understanding Transformer from the Perspective of Associative Memory: infinite context", "2505.19488", "1 minute on one core")
AVERAGES = {
    "softmax": "token t changes the memory by 1/t",
    "softmax, cold": "the same, whatever the temperature",
    "average": "the same for S ← (1 − 1/t) S + v kᵀ/t",
}
OTHERS = {"DeltaFormer": "softmax κ₁", "linear": "a sum", "fading": "a gate of 0.99", "delta": "constant rate", "delta, 1/t": "rate 1/t"}  # not the paper's


def exponent_claim(memory: str, paper: str, curves: list[UpdateCurve], *, own: bool = False) -> Claim:
    """The exponents of one memory, all widths and heads, and whether 1/t holds."""
    found = [curve.fit.exponent for curve in curves if curve.fit is not None]
    verdicts = [curve.holds for curve in curves]
    off = [abs(end - exponent) for curve in curves if curve.fit for exponent, ends in [(curve.fit.exponent, curve.fit.interval)] for end in ends]
    ours = f"{min(found):.3f} to {max(found):.3f} (intervals within ± {max(off):.3f})" if found else "no law"
    return Claim(f"exponent of ‖ΔW_t‖: {memory}", paper, ours, judged(all(v is True for v in verdicts), any(v is True for v in verdicts)), own)


def shape_claims(curves: list[UpdateCurve]) -> list[Claim]:
    """Softmax, at every width and number of heads: the exponent with its interval."""
    claims = []
    for curve in curves:
        low, high = curve.fit.interval
        name = f"exponent of ‖ΔW_t‖: softmax, width {curve.width}, {curve.heads} head{'s' * (curve.heads > 1)}"
        claims.append(Claim(name, "1/t, single and multi-head", f"{curve.fit.exponent:.3f} [{low:.3f}, {high:.3f}]", judged(curve.holds is True)))
    return claims


def limit_claims(found: InContextUpdates) -> list[Claim]:
    """Whether the memory arrives at a fixed limit: the exponent of its squared distance, −1 for an average of independent tokens."""
    claims = []
    for memory in ("softmax", "softmax, cold", "average", "DeltaFormer"):
        exponents = [curve.approach for curve in found.curves if curve.memory == memory]
        holds = [abs(exponent - CLAIM) <= TOLERANCE for exponent in exponents]
        paper = "1/t, were it true of all memories" if memory == "DeltaFormer" else "tends to a fixed, optimal memory"
        ours = f"exponent {min(exponents):.2f} to {max(exponents):.2f}"
        claims.append(Claim(f"‖W_t − W*‖² falls as 1/t: {memory}", paper, ours, judged(all(holds), any(holds)), own=memory == "DeltaFormer"))
    return claims


def constant_claim(found: InContextUpdates, contexts: Contexts) -> Claim:
    """``t · E‖o_t − o*‖²`` of softmax, one head, beside ``C = e^(‖q‖²/τ²)(‖W m − o*‖² + tr WWᵀ + d σ²)``, m = 2q/τ, ‖q‖ = τ = 1."""
    curve = next(c for c in found.curves if (c.memory, c.heads) == ("softmax", 1))
    given = drawn(contexts, curve.width, 1, slice(0, 1))
    teacher = torch.randn(curve.width, curve.width, generator=torch.Generator().manual_seed(contexts.seed), dtype=torch.float64) / math.sqrt(curve.width)
    tilted = given.covariance[0].square().sum(-1)  # ‖W m − o*‖² = ‖W q‖², because o* = W q
    constant = float((math.e * (tilted + teacher.square().sum() + curve.width * contexts.noise**2)).mean())
    last = curve.error[:, -4:] * curve.times[-4:]
    value, error = float(last.mean()), float(last.mean(1).std() / math.sqrt(len(last)))
    ours, near = f"t · MSE = {value:.1f} ± {2 * error:.1f} at the last times", abs(value / constant - 1) < 0.1
    return Claim(f"E‖o_t − o*‖² = C/t, softmax, width {curve.width}", f"derived here for Gaussian keys: C = {constant:.1f}", ours, judged(near), own=True)


def work(scale: Scale) -> Reproduction:
    """Every memory, width and number of heads."""
    contexts = Contexts(*scale.pick((4, 256), (12, 2048)), points=scale.pick(5, 10), first=scale.pick(16, 64))
    found = in_context_updates(widths=scale.pick((8,), (8, 32)), heads=scale.pick((1, 2), (1, 4)), contexts=contexts)
    named = {memory: [curve for curve in found.curves if curve.memory == memory] for memory in (*AVERAGES, *OTHERS)}
    claims = [
        *shape_claims(named["softmax"]),
        *(exponent_claim(memory, AVERAGES[memory], named[memory]) for memory in list(AVERAGES)[1:]),
        *(exponent_claim(f"{memory} ({kind})", "1/t, were it true of all memories", named[memory], own=True) for memory, kind in OTHERS.items()),
        *limit_claims(found),
        constant_claim(found, contexts),
    ]
    return Reproduction(tuple(claims), found.plot(), found.to_json())


if __name__ == "__main__":
    torch.set_num_threads(1)
    reproduce(__file__, PAPER, work)
