"""What an audit found, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..reporting.bounds import short
from ..reporting.rules import Rules

if TYPE_CHECKING:
    from .audit import Audit


def answer(found: Audit, rules: Rules = Rules()) -> list[str]:  # noqa: B008
    """How the data set compares with the model, how much is memorised, which bound binds, and what held-out data say."""
    return [_load(found), _memorised(found), _binds(found, rules), *_parts(found), *_membership(found)]


def _load(found: Audit) -> str:
    return (
        f"This data set is {found.load:.2g}× the model's capacity: {short(found.data_bits)} bits (under the {found.reference}) against "
        f"{short(found.capacity)}, {short(found.parameters)} parameters at {found.bits_per_parameter:g} bits each."
    )


def _memorised(found: Audit) -> str:
    of_capacity = found.memorised_bits / found.capacity
    return (
        f"The model knows {short(found.memorised_bits)} bits of it, {found.share:.0%} of the data and {of_capacity:.0%} of its capacity "
        f"({found.loss:.3g} nats per token, the reference {found.reference_loss:.3g})."
    )


def _binds(found: Audit, rules: Rules) -> str:
    if found.share >= rules.share:
        return "The data bind: nearly all that there is to know is known, and more data would be, too."
    if found.memorised_bits >= rules.plateau * found.capacity:
        return "The capacity binds: the model holds about what models of its size hold."
    most = min(found.data_bits, found.capacity)
    return (
        f"Neither binds: {found.memorised_bits / most:.0%} of the {short(most)} bits that it could hold of these data are there. It was trained for less, "
        "on other data, or it generalises."
    )


def _parts(found: Audit) -> list[str]:
    kinds = {"attention": "attention (proved for one layer)", "feed-forward": "feed-forward blocks (in order)", "linear": "single linear maps (asymptotically)"}
    told = [f"{name} {short(bits)}" for kind, name in kinds.items() if (bits := found.bound(kind)) is not None]
    return [f"What is known of its memories, summed over layers, in bits: {', '.join(told)}."] if told else []


def _membership(found: Audit) -> list[str]:
    if found.membership is None or found.held_out_loss is None:
        return []
    told = found.membership
    gap = found.held_out_loss - found.loss
    expected = f"; of a model trained on them GPT-2's law expects {told['predicted F1']:.2f}, at another threshold" if "predicted F1" in told else ""
    return [
        f"Held-out data cost {found.held_out_loss:.3g} nats per token, {abs(gap):.2g} {'more' if gap >= 0 else 'less'}. By its loss a sequence is told to be "
        f"of the data with AUROC {told['AUROC']:.2f} and F1 {told['F1']:.2f} at the best threshold (0.50 and 0.67 by "
        f"chance{expected})."
    ]
