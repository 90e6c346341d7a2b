"""Figures of the analysis floor: python examples/gallery.py draws small ones in out/gallery, --full larger ones. Transformers: inspect_transformer.py."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import track

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import (
    Diffusion,
    capacity,
    descent_paths,
    detection,
    energy_by_depth,
    fixed_points,
    icl,
    landscape,
    measure_recall,
    memory_model,
    novelty,
    principal_plane,
    scaling,
    snr,
)
from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.result import Result
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldDetector

Figures = dict[str, Callable[[], Result]]


def capacities(full: bool) -> Figures:
    """How much a memory holds, and what lies between the stored patterns."""
    dims, precision = ((16, 32, 64, 128), 0.05) if full else ((12, 16, 24), 0.3)
    bits, unit = torch.randn(4, 60).sign(), torch.nn.functional.normalize(torch.randn(20, 16), dim=-1)
    search = capacity.Search(precision)
    return {
        "capacity": lambda: capacity.compare(presets.hopfield(), dims, search=search),
        "measured capacity": lambda: capacity.measure(presets.log_sum_exp(8.0), dims[0], search=search),
        "separation": lambda: capacity.separation(4 * unit, beta=8.0),
        "basins": lambda: capacity.basin_radius(presets.hopfield(), bits),
        "metastable states": lambda: capacity.metastable_census(presets.log_sum_exp(9.0), unit, unit[:10].repeat(30, 1) + 0.3 * torch.randn(300, 16)),
        "spurious states": lambda: capacity.spurious_states(presets.hopfield(), bits),
    }


def noise(full: bool) -> Figures:
    """What is heard among noise, and how a transformer's memory balances."""
    trials, contexts = (300, icl.Contexts()) if full else (20, icl.Contexts(count=8, length=256))
    keys = snr.GaussianKeys(64)
    kernels = {
        "linear": presets.linear_attention(),
        "ReLU": presets.relu_feed_forward(),
        "exp, τ = 8": presets.log_sum_exp(1 / 8),
        "exp, τ = 2": presets.log_sum_exp(1 / 2),
    }
    cases = {name: lambda count, energy=energy: (energy, count, keys) for name, energy in kernels.items()}
    return {
        "SNR": lambda: snr.snr_sweep(cases, [4, 16, 64, 256, 1024], trials=trials),
        "in-context updates": lambda: icl.in_context_updates(contexts=contexts),
        "pattern radius": lambda: memory_model.pattern_radius(torch.randn(4000 if full else 400, 64)),
        "unit partition": lambda: memory_model.unit_partition([64, 256, 1024, 4096]),
        "data size": lambda: memory_model.first_below([1e7, 3e7, 1e8, 3e8], [0.4, 0.06, 0.008, 0.001]),
        "model and data": lambda: memory_model.model_data_balance([1e6, 1e7, 1e8], [3e7, 1e8, 3e8]),
    }


def laws(full: bool) -> Figures:
    """Outer-product memories on Zipf data."""
    task, trials = scaling.ZipfTask(1000, 5, 2.0), 100 if full else 10
    rows = None if full else list(scaling.ROWS)[:2]
    return {
        "recall errors": lambda: scaling.sweep(task, ["equal", "frequency", "fourth root", "top d/8"], (20, 50, 100, 200), trials=trials),
        "exponents": lambda: scaling.exponents(rows, study=scaling.Study(trials=trials)),
        "associations": lambda: scaling.association_maps(scaling.ZipfTask(10, 5, 1.5), 5, tokens=2000 if full else 200),
        "two particles": lambda: scaling.two_particles(rate=10.0, steps=200),
        "learning paths": lambda: scaling.learning_paths(scaling.ZipfTask(10, 5, 1.5), 5, rates=[10.0] * 100 + [0.3] * 100, trials=trials),
        "learning": lambda: scaling.learn(scaling.ZipfTask(100, 5, 1.5), 20, scaling.Learning(batch=16), samples=10_240 if full else 1024),
    }


def looks(full: bool) -> Figures:
    """Landscapes, descents, depth."""
    patterns, energy = torch.randn(6, 12), presets.distance(0.8)
    plane, starts = principal_plane(patterns), 2 * torch.randn(400 if full else 80, 12)
    found = FixedPoint(steps=8, tolerance=0.0, record=True)(energy, patterns.repeat(5, 1) + torch.randn(30, 12), patterns)
    return {
        "landscape": lambda: landscape(energy, patterns, plane, resolution=120 if full else 40),
        "descents": lambda: descent_paths(energy, starts[:20], patterns, plane),
        "fixed points": lambda: fixed_points(energy, starts, patterns),
        "depth": lambda: energy_by_depth(list(found.trajectory), [patterns] * len(found.trajectory), torch.arange(6).repeat(5)),
    }


def uses(full: bool) -> Figures:
    """Recall, detection of outliers, generated samples."""
    count = 400 if full else 60
    patterns = torch.nn.functional.normalize(torch.randn(count, 16), dim=-1)
    noisy, circle = patterns + 0.15 * torch.randn(count, 16), torch.rand(count) * 6.3
    data = torch.stack([circle.cos(), circle.sin()], -1)
    detector = HopfieldDetector(beta=8.0).fit(patterns)
    flow = Diffusion.geometric(10.0, 0.02, 40)
    return {
        "recall": lambda: measure_recall(lambda q, k: retrieve(presets.log_sum_exp(20.0), q, k, steps=3), noisy, patterns, torch.arange(count), tolerance=0.05),
        "detection": lambda: detection(detector.score_samples(noisy), detector.score_samples(torch.nn.functional.normalize(torch.randn(count, 16), dim=-1))),
        "generated samples": lambda: novelty(flow(10 * torch.randn(count, 2), data).state, data, memorised=0.02, spurious=0.02),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="larger samples: some minutes")
    parser.add_argument("--out", type=Path, default=Path("out/gallery"))
    given = parser.parse_args()
    torch.manual_seed(0)
    figures = {name: make for theme in (capacities, noise, laws, looks, uses) for name, make in theme(given.full).items()}
    for name, make in track(figures.items(), "drawing"):
        save(make().plot(), given.out / f"{name.replace(' ', '_')}.png")
    print(f"{len(figures)} figures in {given.out}")
