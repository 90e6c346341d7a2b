"""Landscapes: planes, fixed points and how the energy bends there, descents on a plane, and pictures that draw what was found."""

import math

import pytest
import torch

from hopfield_amem import presets
from hopfield_amem.analysis import Depth, Plane, descent_paths, energy_by_depth, fixed_points, landscape, measure_recall, principal_plane
from hopfield_amem.descent import FixedPoint, GradientDescent, SpinDescent
from hopfield_amem.energies import Dot, Power, ReadEnergy, Sphere, Sum

DOUBLE = {"dtype": torch.float64}
close = torch.testing.assert_close


def normal(*shape):
    return torch.randn(*shape, **DOUBLE)


MIDDLE = torch.tensor([0.0, 2.0, 0.0], **DOUBLE)
KEYS = MIDDLE + torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], **DOUBLE)


def well(x, keys):
    """Two minima, ±1 along the first axis, a saddle between them."""
    x = x - MIDDLE
    return (x[..., 0] ** 2 - 1) ** 2 + (x[..., 1:] ** 2).sum(-1) + 0.0 * keys.sum()


class TestPlane:
    def test_points_of_a_plane_are_where_they_were(self):
        points = normal(3, 7)
        plane = Plane.through(points)
        close(plane.lift(plane.coordinates(points)), points)
        close(plane.axes @ plane.axes.mT, torch.eye(2, **DOUBLE))
        other = Plane.along(points[0], 5 * normal(7), normal(7))
        away = torch.randn(2, **DOUBLE)
        close(other.coordinates(other.lift(away)), away)

    @pytest.mark.parametrize("points", [torch.ones(3, 4), torch.arange(3.0)[:, None] * torch.ones(3, 4), torch.ones(2, 4), torch.ones(4)])
    def test_a_line_is_no_plane(self, points):
        with pytest.raises(ValueError, match=r"parallel|three points"):
            Plane.through(points)


class TestFixedPoints:
    def test_a_double_well(self):
        start = torch.cat([MIDDLE + 0.5 * normal(60, 3), torch.tensor([[0.0, 2.3, 0.0]], **DOUBLE)])
        found = fixed_points(well, start, KEYS, descent=GradientDescent(0.05, steps=2000, tolerance=1e-9))
        assert len(found.state) == 3 and int(found.count.sum()) == 61 and int(found.count[2]) == 1
        close(found.energy, torch.tensor([0.0, 0.0, 1.0], **DOUBLE), atol=1e-8, rtol=0)
        close(found.curvature[:2], torch.tensor([2.0, 2.0, 8.0], **DOUBLE).expand(2, 3), atol=1e-5, rtol=0)
        close(found.curvature[2], torch.tensor([-4.0, 2.0, 2.0], **DOUBLE), atol=1e-5, rtol=0)
        side = torch.where(start[:-1, 0] > 0, 0, 1)
        close(found.nearest[found.of[:-1]], side)
        assert [row["negative directions"] for row in found.rows()] == [0, 0, 1]

    def test_a_memory_of_far_patterns_rests_at_each(self):
        keys = 4 * torch.eye(5, **DOUBLE)
        found = fixed_points(presets.log_sum_exp(4.0), keys + 0.3 * normal(5, 5), keys)
        assert sorted(found.nearest.tolist()) == [0, 1, 2, 3, 4] and float(found.distance.max()) < 1e-6
        close(found.curvature, torch.ones(5, 5, **DOUBLE), atol=1e-5, rtol=0)  # each is alone: E is ½‖x − ξ‖² up to a constant

    def test_curvature_on_a_sphere_is_that_of_the_sphere(self):
        keys = torch.diag(torch.tensor([2.0, 1.0, 0.5], **DOUBLE))
        energy = ReadEnergy(Dot(), Power(2), Sum(), Sphere())  # −½ Σ (ξ·x)²: eigenvectors rest, with gaps of eigenvalues as curvature
        found = fixed_points(energy, normal(20, 3), keys, descent=FixedPoint(steps=500, tolerance=1e-12))
        assert len(found.state) == 2  # the first axis, in both directions
        close(found.curvature, torch.tensor([4 - 1.0, 4 - 0.25], **DOUBLE).expand(2, 2), atol=1e-6, rtol=0)

    def test_spins_have_no_directions(self):
        patterns = torch.randn(4, 32).sign()
        found = fixed_points(presets.hopfield(), patterns, patterns, descent=SpinDescent())
        assert found.curvature.shape == (len(found.state), 0) and "least curvature" not in found.rows()[0]

    def test_one_attractor_at_the_origin_is_one(self):
        pairs = torch.cat([patterns := normal(3, 8), -patterns])
        for energy in (presets.log_sum_exp(0.03), presets.distance(0.02)):
            found = fixed_points(energy, normal(50, 8), pairs, curvature=False)
            assert len(found.state) == 1 and int(found.count[0]) == 50
        bowl = fixed_points(lambda x, keys: x.square().sum(-1), normal(50, 8), pairs, descent=GradientDescent(0.5, steps=3, tolerance=0.0))
        assert len(bowl.state) == 1

    @pytest.mark.parametrize("width", [2, 16, 256])
    def test_states_are_one_where_they_are_nearer_than_said(self, width):
        away = torch.nn.functional.normalize(normal(20, width), dim=-1)
        for distance, distinct in ((0.9e-3, 20), (1.1e-3, 40)):
            states = torch.cat([10 * torch.arange(20.0)[:, None] * away, 10 * torch.arange(20.0)[:, None] * away + 190 * distance * away])
            still = GradientDescent(1e-30, steps=1, tolerance=1e-5)
            found = fixed_points(lambda x, keys: 0 * x.sum(-1), states, away, descent=still, curvature=False)
            assert len(found.state) == distinct

    def test_what_does_not_converge_is_no_fixed_point(self):
        found = fixed_points(well, normal(6, 3) + 2, KEYS, descent=GradientDescent(1e-3, steps=3, tolerance=1e-12))
        assert found.of.tolist() == [-1] * 6 and found.rows() == []
        found.plot()

    @pytest.mark.parametrize(
        ("start", "options", "says"),
        [
            (torch.ones(0, 3), {}, "needs starts"),
            (torch.ones(2, 4), {}, "needs starts"),
            (torch.ones(2, 3), {"apart": 0.0}, "apart is a share"),
            (torch.ones(2, 2000), {}, "curvature=False"),
        ],
    )
    def test_it_refuses_what_it_cannot_do(self, start, options, says):
        keys = torch.ones(3, 2000 if start.shape[-1] == 2000 else 3)
        with pytest.raises(ValueError, match=says):
            fixed_points(presets.log_sum_exp(), start, keys, **options)


class TestLandscape:
    def test_any_function_has_a_landscape(self):
        plane = Plane.along(MIDDLE, KEYS[0] - MIDDLE, KEYS[2] - MIDDLE)
        field = landscape(well, KEYS, plane, resolution=12, descent=GradientDescent(0.05, steps=3000, tolerance=1e-9))
        assert len(field.rest) == 2
        side = (field.rest[field.attractor][..., 0] > 0) == (field.horizontal > 0)
        assert bool(side.all())
        assert sum(row["share of the plane"] for row in field.rows()) == pytest.approx(1.0)
        close(field.basin, (field.horizontal < 0).long().expand(12, 12))

    def test_one_attractor_of_all(self):
        keys = normal(4, 6)
        field = landscape(presets.distance(1e-3), keys, principal_plane(keys), resolution=9)
        assert field.attractor.unique().tolist() == [0]
        close(field.attractors.state[0], keys.mean(0), atol=1e-2, rtol=0)

    def test_pictures(self, tmp_path):
        keys = normal(5, 6)
        plane, energy = principal_plane(keys), presets.distance(4.0)
        field = landscape(energy, keys, plane, resolution=10)
        starts = keys + 0.4 * normal(5, 6)
        paths = descent_paths(energy, starts, keys, plane)
        recorded = FixedPoint(steps=200, record=True)(energy, starts, keys)
        close(paths.coordinates, plane.coordinates(recorded.trajectory))
        close(paths.energy, recorded.energies)
        assert bool((paths.energy.diff(dim=0) <= 1e-9).all()) and bool(paths.converged.all())
        field.save(tmp_path, "field")
        paths.save(tmp_path, "paths")
        fixed_points(energy, keys, keys).save(tmp_path, "points")
        drawn = field.plot(paths).axes[0]
        stars = [shown for shown in drawn.collections if len(shown.get_offsets()) == len(field.rest)]
        assert len(stars) == 1 and len(drawn.texts) >= len(keys)  # a star for every attractor, a number for every pattern
        assert len(list(tmp_path.glob("*.png"))) == 3
        depth = Depth(normal(4, 9).abs(), normal(4, 9).abs(), torch.ones(4), torch.linspace(0, 1, 4))
        assert [row["layer"] for row in depth.rows()] == [0, 1, 2, 3] and depth.rows()[3]["identified"] == 1
        lines = depth.plot().axes[0].lines
        close(torch.as_tensor(lines[0].get_ydata()), torch.as_tensor(depth.energy.quantile(0.5, dim=1)))

    def test_doors(self):
        with pytest.raises(ValueError, match="NaN or Inf"):
            principal_plane(torch.full((4, 3), math.nan))
        with pytest.raises(ValueError, match="floating-point"):
            principal_plane(torch.ones(4, 3, dtype=torch.long))
        plane = principal_plane(normal(5, 6))
        for call in (landscape, lambda e, k, p: descent_paths(e, k, k, p)):
            with pytest.raises(ValueError, match="6 dimensions"):
                call(presets.distance(), KEYS, plane)
        states = [normal(3, 4)]
        wrong = [([states[0] * math.nan], None, "NaN or Inf"), (states, torch.tensor([0, 1, 9]), "index the 5"), ([normal(0, 4)], None, "no query")]
        for queries, own, says in wrong:
            with pytest.raises(ValueError, match=says):
                energy_by_depth(queries, [normal(5, 4)], own)
        with pytest.raises(ValueError, match="NaN or Inf"):
            measure_recall(lambda q, k: q * math.nan, states[0], states[0], torch.arange(3))
        with pytest.raises(ValueError, match="got tuple"):
            measure_recall(lambda q, k: (q, k), states[0], states[0], torch.arange(3))

    def test_paths_need_a_record(self):
        class Silent:
            pass

        with pytest.raises(ValueError, match="records its states"):
            descent_paths(presets.distance(), KEYS, KEYS, Plane.through(KEYS), descent=Silent())

    def test_infinite_energies_are_no_attractors(self):
        keys = normal(4, 6)
        field = landscape(presets.epanechnikov(50.0), keys, principal_plane(keys), resolution=8)
        out = field.energy == math.inf
        assert bool(out.any()) and bool((field.attractor[out] == -1).all())
        field.plot()
