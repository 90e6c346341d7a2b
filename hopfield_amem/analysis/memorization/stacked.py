"""Models of equal shape trained together: their parameters stacked, their steps taken as one (``torch.func.vmap``)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from .corpus import Corpus
from .training import Curve, Trained, Training, batches, evaluating, set_rate, shown, token_losses, train


def train_together(models: Sequence[nn.Module], corpora: Sequence[Corpus], training: Training, *, seeds: Sequence[int] | None = None) -> list[Trained]:
    """Train models of equal shape on data of any sizes, all of them in every step; the losses are those of ``train`` one by one.

    Small models are bound by the calls that their steps make, not by arithmetic, so that many cost little more than one. Data of different sizes are
    sampled by index from where they lie one after the other. Models that cannot be stacked (different shapes, buffers that training changes,
    operations without a batching rule) are trained one after the other, which a ``RuntimeWarning`` says.

    Args:
        models: whose parameters are replaced by those learned.
        corpora: one per model, of equal length and the same tokens that count.
        training: what all of them take.
        seeds: of the order of rows, one per model. None: 0, 1, ….

    Raises:
        ValueError: no model, as many corpora or seeds not given, rows of different lengths.
    """
    seeds = range(len(models)) if seeds is None else seeds
    if not models or not len(models) == len(corpora) == len(seeds):
        raise ValueError(f"One corpus and one seed per model, at least one model; got {len(models)} models, {len(corpora)} corpora, {len(seeds)} seeds.")
    if len({(corpus.length, corpus.counted) for corpus in corpora}) > 1:
        raise ValueError("Models that are trained together read rows of one length, of which the same tokens count. Train those of other data apart.")
    reason = "" if len(models) == 1 else unstackable(models, corpora[0])
    if reason:
        warnings.warn(f"{len(models)} models are trained one after the other: {reason}", RuntimeWarning, stacklevel=2)
    if reason or len(models) == 1:
        return [train(model, corpus, training, seed=seed) for model, corpus, seed in zip(models, corpora, seeds, strict=True)]
    return _stacked(list(models), list(corpora), training, list(seeds))


def unstackable(models: Sequence[nn.Module], corpus: Corpus) -> str:
    """Why models cannot be trained as one stack, empty where they can: told by one gradient of two models."""
    shapes = {tuple((name, tuple(p.shape), p.dtype, p.device, p.requires_grad) for name, p in model.named_parameters()) for model in models}
    if len(shapes) > 1:
        return "their parameters differ in name, shape, dtype or device."
    if not all(p.requires_grad for p in models[0].parameters()):
        return "some of their parameters are frozen."
    try:
        pair = _Stack(list(models[:2]), corpus)
        before = {name: buffer.clone() for name, buffer in pair.buffers.items()}
        row = corpus.training[:1].expand(2, 1, -1).to(pair.device)
        pair.gradients(row)
        with torch.no_grad():  # some operations have other rules where nothing is differentiated
            pair.losses(row)
        changed = [name for name, buffer in pair.buffers.items() if not torch.equal(before[name], buffer)]
        return f"the forward pass changes {', '.join(changed)}." if changed else ""
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


class _Stack:
    """Parameters of models side by side, (models, …) each, and what all of them compute at once."""

    def __init__(self, models: list[nn.Module], corpus: Corpus):
        self.device = next(models[0].parameters()).device
        self.tensors, self.buffers = stack_module_state(models)
        self.skeleton, counted = copy.deepcopy(models[0]).to("meta"), shown(corpus, self.device)

        def loss(tensors: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
            return token_losses(functional_call(self.skeleton, (tensors, buffers), (rows[:, :-1],)), rows, counted).mean()

        self._losses = vmap(loss, randomness="different")
        self._gradients = vmap(grad_and_value(loss), randomness="different")

    def losses(self, rows: Tensor) -> Tensor:
        """In evaluation mode. (models, rows, 1 + length) -> (models,)"""
        with evaluating(self.skeleton):
            return self._losses(self.tensors, self.buffers, rows)

    def gradients(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of every stacked tensor, and losses. (models, rows, 1 + length) -> (models, …) each, (models,)"""
        return self._gradients(self.tensors, self.buffers, rows)


def _stacked(models: list[nn.Module], corpora: list[Corpus], training: Training, seeds: list[int]) -> list[Trained]:
    stack = _Stack(models, corpora[0])
    optimizer = training.optimizer(list(stack.tensors.values()))
    pool = torch.cat([corpus.training for corpus in corpora]).to(stack.device)
    begins = torch.tensor([0, *(len(corpus.training) for corpus in corpora[:-1])]).cumsum(0)[:, None]
    held = min(training.batch, *(len(corpus.validation) for corpus in corpora))
    held_out = torch.stack([corpus.validation[:held] for corpus in corpora]).to(stack.device)
    drawn = zip(*(batches(len(corpus.training), training, seed) for corpus, seed in zip(corpora, seeds, strict=True)), strict=True)
    curve = Curve(training)
    for step, index in enumerate(drawn):
        gradients, loss = stack.gradients(pool[(torch.stack(index) + begins).to(stack.device)])
        for name, tensor in stack.tensors.items():
            tensor.grad = gradients[name]
        set_rate(optimizer, training.rate_at(step))
        optimizer.step()
        curve.add(step, loss.detach(), lambda: stack.losses(held_out))
    _unstack(stack, models)
    return [Trained(model, points, len(models)) for model, points in zip(models, curve.points(), strict=True)]


@torch.no_grad()
def _unstack(stack: _Stack, models: list[nn.Module]) -> None:
    """The learned parameters back into the models."""
    for i, model in enumerate(models):
        for name, parameter in model.named_parameters():
            parameter.copy_(stack.tensors[name][i])
