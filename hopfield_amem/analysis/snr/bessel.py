"""The modified Bessel function as a logarithm, where scipy's scaled one underflows."""

from __future__ import annotations

import math

import numpy as np

LARGE = 20.0  # orders from which the uniform expansion serves


def log_scaled_bessel(order: float, z: np.ndarray) -> np.ndarray:
    """``log [I_ν(z) e^(−z)]`` for z > 0: scipy's, and its uniform expansion in the order where that underflows; −∞ where it does at small orders."""
    from scipy.special import ive

    with np.errstate(divide="ignore"):
        value = np.log(ive(order, z))
    small = value < -600
    if order >= LARGE and small.any():
        value[small] = _uniform(order, z[small] / order) - z[small]
    return value


def _uniform(order: float, x: np.ndarray) -> np.ndarray:
    """``log I_ν(νx) ≈ νη − ½ log(2πν) − ¼ log(1 + x²) + log(1 + U₁(p)/ν + U₂(p)/ν² + U₃(p)/ν³)``, p = (1 + x²)^(−½) (DLMF 10.41.3 and 10.41.10)."""
    root = np.sqrt(1 + x**2)
    p = 1 / root
    eta = root + np.log(x / (1 + root))
    first = (3 * p - 5 * p**3) / 24
    second = (81 * p**2 - 462 * p**4 + 385 * p**6) / 1152
    third = (30375 * p**3 - 369603 * p**5 + 765765 * p**7 - 425425 * p**9) / 414720
    return order * eta - 0.5 * math.log(2 * math.pi * order) - 0.5 * np.log(root) + np.log1p(first / order + second / order**2 + third / order**3)
