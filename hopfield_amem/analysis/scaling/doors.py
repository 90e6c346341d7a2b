"""Errors at the door of the scaling laws: what was expected, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor


def count(value: object, name: str, least: int = 1) -> None:
    """Raise where a number of things is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")


def counts(values: Iterable[object], name: str) -> None:
    """Raise where there is no number, the same one twice, or one that is not a whole number of at least 1."""
    values = list(values)
    if not values:
        raise ValueError(f"{name} is empty: give at least one number.")
    for value in values:
        count(value, f"each of {name}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} holds the same number twice: {values}.")


def positive(value: float, name: str) -> None:
    """Raise where a number is not positive and finite."""
    if not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")


def tail(alpha: float) -> None:
    """Raise where the exponent of a Zipf law leaves no distribution over all whole numbers."""
    if not (isinstance(alpha, (int, float)) and 1 < alpha < math.inf):
        raise ValueError(f"This law needs α > 1: Σ x^−α over all inputs diverges at α = {alpha!r}. With α ≤ 1 use a ZipfTask of finitely many inputs.")


def power(rho: float) -> None:
    """Raise where ρ of q = p^ρ is negative or not finite."""
    if not (isinstance(rho, (int, float)) and 0 <= rho < math.inf):
        raise ValueError(f"rho, the power of q = p^ρ, must be finite and at least 0, got {rho!r}.")


def distribution(probability: Tensor) -> None:
    """Raise where probabilities (N,) are empty, negative, not finite, or do not sum to one."""
    if not isinstance(probability, Tensor) or not probability.is_floating_point() or probability.ndim != 1:
        raise TypeError("Expected the probabilities of all inputs as a floating-point tensor (N,), such as ZipfTask().probability.")
    if not len(probability):
        raise ValueError("There is no input: the probabilities are empty.")
    if not (probability.isfinite().all() and (probability >= 0).all() and abs(float(probability.sum()) - 1) < 1e-4):
        raise ValueError("Probabilities must be finite, not negative, and sum to one; some are not. Divide frequencies by their sum.")


def storage(weights: Tensor, labels: Tensor) -> None:
    """Raise where storage weights (..., N) are not finite, or do not fit classes (N,)."""
    classes(labels)
    if weights.shape[-1:] != labels.shape:
        raise ValueError(f"Every input needs one weight and one class: got weights {tuple(weights.shape)} and labels {tuple(labels.shape)}.")
    if not weights.isfinite().all():
        raise ValueError("Storage weights must be finite; some are NaN or infinite.")


def classes(labels: Tensor) -> None:
    """Raise where classes are not whole numbers from 0, one per input (N,)."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex() or labels.ndim != 1:
        raise TypeError("labels must be whole numbers (N,), the class of each input.")
    if not len(labels):
        raise ValueError("There is no input: labels are empty.")
    if int(labels.min()) < 0:
        raise ValueError(f"Classes count from 0; the least is {int(labels.min())}.")


def memory(matrix: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """Raise where W (..., v, d), inputs (..., N, d) and outputs (..., M, v) do not fit each other, or hold what is not finite."""
    for name, value in (("memory", matrix), ("inputs", inputs), ("outputs", outputs)):
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
            raise TypeError(f"{name} must be a floating-point tensor of two dimensions at least, got {getattr(value, 'shape', type(value).__name__)}.")
        if not value.numel():
            raise ValueError(f"{name} is empty, of shape {tuple(value.shape)}.")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite numbers.")
    if matrix.shape[-2:] != (outputs.shape[-1], inputs.shape[-1]):
        raise ValueError(f"A memory W (v, d) takes inputs (N, d) to outputs (M, v); got {tuple(matrix.shape)}, {tuple(inputs.shape)}, {tuple(outputs.shape)}.")


def problem(inputs: Tensor, outputs: Tensor, labels: Tensor) -> None:
    """Raise where classes do not fit the embeddings of inputs (..., N, d) and outputs (..., M, v)."""
    classes(labels)
    if len(labels) != inputs.shape[-2]:
        raise ValueError(f"Every input needs one class: got {inputs.shape[-2]} inputs and {len(labels)} labels.")
    if int(labels.max()) >= outputs.shape[-2]:
        raise ValueError(f"labels name class {int(labels.max())}, but outputs have {outputs.shape[-2]} classes, counted from 0.")
