"""Synthetic training pairs: geometry, visibility, masks, templates, and that an index decides everything."""

from functools import cache

import numpy as np
import pytest
import torch
import trimesh
from torch.nn.functional import max_pool2d

from picopose.datasets.training.drawn_templates import NearestViews, draw_template
from picopose.datasets.training.loader import Share, sample_loader
from picopose.datasets.training.object_pool import ObjectPool, TrainingObject, nearest_views
from picopose.datasets.training.synthetic import MIN_VISIBLE, SyntheticPairs
from picopose.rendering.mesh import diameter, hull_vertices, make_mesh
from picopose.rendering.mesh_templates import MeshTemplates
from picopose.rendering.studio import Studio
from picopose.rendering.viewpoints import object_poses, view_poses
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, invert, project, transform, unproject
from picopose.utils.mesh_file import MeshFile
from picopose.utils.records import Pair, View
from tests.raycast import surface_points

SIZE, SEED, COUNT = 96, 4, 40


def make_source(seed: int = SEED) -> tuple[SyntheticPairs, ObjectPool]:
    studio = Studio(views=42)
    pool = ObjectPool(studio, [], shapes=1.0, seed=seed, slots=6, period=1000)
    return SyntheticPairs(studio, pool, size=SIZE, seed=seed), pool


@cache
def made() -> tuple[SyntheticPairs, ObjectPool]:
    return make_source()


@cache
def pairs() -> list[Pair]:
    return [made()[0].sample(index) for index in range(COUNT)]


def target(index: int):
    """The object that a pair shows, found by the name that the source gives it."""
    source, pool = made()
    objects = [pool.get(index, slot) for slot in range(pool.slots)]
    return next(o for o in objects if source.name(index).endswith(f" of {o.name}"))


def points(view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Camera points of all pixels (N, 3), and which pixels show the object."""
    xyz = unproject(view.K, cell_centres(SIZE, SIZE), view.depth.flatten())
    return xyz, view.depth.flatten() > 0


@pytest.mark.parametrize("side", ["real", "template"])
def test_depth_is_that_of_a_ray_cast(side):
    rng = np.random.default_rng(0)
    for index in range(6):
        view, mesh = getattr(pairs()[index], side), target(index).mesh
        pixels = rng.permutation(np.flatnonzero(view.depth > 0))[:60]
        xy = cell_centres(SIZE, SIZE)[pixels].double().numpy()
        xyz, hit = surface_points(
            xy, view.K.double().numpy(), view.cam_from_obj.numpy(), mesh.vertices, mesh.faces
        )
        depth = transform(view.cam_from_obj.double(), torch.from_numpy(xyz))[:, 2]
        error = (depth - view.depth.flatten()[pixels]).abs()[torch.from_numpy(hit)]
        assert hit.mean() > 0.9  # the rest lies on the outline
        assert error.median() < 2e-4 * diameter(mesh.vertices)
        assert error.quantile(0.9) < 1e-2 * diameter(mesh.vertices)


def test_points_of_the_photo_lie_on_the_surface_that_the_template_sees_or_behind_it():
    seen, rng = [], np.random.default_rng(0)
    for index in range(12):
        pair, mesh = pairs()[index], target(index).mesh
        xyz, shown = points(pair.real)
        template_from_real = pair.template.cam_from_obj @ invert(pair.real.cam_from_obj)
        moved = transform(template_from_real, xyz[shown])[rng.permutation(int(shown.sum()))[:150]]
        K, pose = pair.template.K.double(), pair.template.cam_from_obj.double()
        xy = project(K, moved.double())
        surface, hit = surface_points(xy.numpy(), K.numpy(), pose.numpy(), mesh.vertices, mesh.faces)
        gap = (moved[:, 2] - transform(pose, torch.from_numpy(surface))[:, 2])[torch.from_numpy(hit)]
        size = diameter(mesh.vertices)
        # Nearer to the template's camera than its surface a point would float in the air.
        assert gap.min() > -0.01 * size
        on_surface = gap < 2e-3 * size
        assert gap[on_surface].abs().median() < 1e-4 * size
        inside = ((xy > 0) & (xy < SIZE - 1)).all(dim=1)[torch.from_numpy(hit)]
        rows = xy[torch.from_numpy(hit)][on_surface & inside].round().long()
        wider = max_pool2d(pair.template.mask.float()[None], 3, stride=1, padding=1)[0]
        assert wider[rows[:, 1], rows[:, 0]].mean() > 0.99  # an outline's pixel may miss the surface
        seen.append(on_surface.float().mean().item())
    assert np.median(seen) > 0.6


def test_enough_of_every_object_is_seen_and_some_is_hidden():
    studio = Studio()
    shares = []
    for index, pair in enumerate(pairs()):
        view, mesh = pair.real, target(index).mesh
        # All of the object, with a camera that looks at more than the crop.
        K = view.K.double().numpy().copy()
        K[:2, 2] += 2 * SIZE
        alone = studio.depth(mesh, view.cam_from_obj.numpy(), K, 5 * SIZE, 5 * SIZE) > 0
        shares.append((view.depth > 0).sum().item() / alone.sum())
    assert min(shares) > 0.8 * MIN_VISIBLE  # the filter counts in the photo; parts may lie beside the crop
    assert max(shares) < 1.05
    assert 0.15 < np.mean(np.array(shares) < 0.95) < 0.9


def test_masks_are_imperfect_but_of_the_object():
    overlaps, boxes = [], 0
    for pair in pairs():
        mask, visible = pair.real.mask, pair.real.depth > 0
        if mask.any(dim=0).sum() * mask.any(dim=1).sum() == mask.sum():
            boxes += 1
            continue
        overlaps.append(((mask & visible).sum() / (mask | visible).sum()).item())
    assert 1 <= boxes <= 12  # of 40; 4 are expected
    assert min(overlaps) > 0.4
    assert 0.1 < np.mean(np.array(overlaps) > 0.985) < 0.7
    assert np.median(overlaps) > 0.8


def test_photos_have_backgrounds_and_templates_have_none():
    for pair in pairs():
        shown = torch.nn.functional.max_pool2d((pair.template.depth > 0)[None].float(), 3, 1, 1)[0] > 0
        assert not pair.template.rgb[:, ~shown].any()  # but for outlines that are blended with the background
        assert pair.template.mask.equal(pair.template.depth > 0)
    outside = torch.cat([pair.real.rgb[:, pair.real.depth == 0].flatten() for pair in pairs()])
    assert outside.std() > 0.1
    assert (outside < 0.01).float().mean() < 0.3


def box_of(*sides: float) -> tuple[np.ndarray, np.ndarray]:
    box = trimesh.creation.box(sides)
    return np.asarray(box.vertices), np.asarray(box.faces)


def test_template_is_the_one_of_the_rendered_folder():
    # An elongated object, seen from its side and from its end.
    mesh = make_mesh(*box_of(0.3, 0.02, 0.05))
    thing = TrainingObject("box", mesh, hull_vertices(mesh.vertices), object_poses(mesh.vertices, 42))
    views = list(range(0, 42, 2))
    expected = View.cat(list(MeshTemplates({0: mesh}, 42, SIZE).views(0)))[views]
    studio = Studio(views=42)
    for k, view in enumerate(views):
        drawn = draw_template(studio, thing, view, SIZE)
        assert (drawn.rgb - expected.rgb[k]).abs().mean() < 1e-3
        assert drawn.mask.equal(expected.mask[k])
        assert (drawn.depth - expected.depth[k]).abs().max() < 1e-4 * diameter(mesh.vertices)
        assert torch.allclose(drawn.K, expected.K[k], atol=1e-3)


def test_template_of_an_object_with_parts_too_small_to_be_drawn():
    vertices, faces = box_of(0.02, 0.3, 0.3)
    # A vertex of no face widens the hull to one side only.
    mesh = make_mesh(np.concatenate([vertices, [[0.4, 0, 0]]]), faces)
    thing = TrainingObject("box", mesh, hull_vertices(mesh.vertices), object_poses(mesh.vertices, 42))
    studio = Studio(views=42)
    for view in range(42):
        drawn = draw_template(studio, thing, view, SIZE)
        assert drawn.mask.any() and drawn.mask.equal(drawn.depth > 0)
        K = drawn.K.double().numpy()
        expected = studio.depth(mesh, thing.template_poses[view], K, SIZE, SIZE)
        assert ((torch.from_numpy(expected) > 0) != drawn.mask).float().mean() < 0.03  # of the outline


def test_a_template_that_shows_nothing_is_none():
    mesh = make_mesh(*box_of(0.3, 0.2, 1e-6))
    sheet = TrainingObject("sheet", mesh, hull_vertices(mesh.vertices), object_poses(mesh.vertices, 42))
    templates, rng = NearestViews(Studio(views=42), size=SIZE), np.random.default_rng(0)
    found = [templates.near(rng, sheet, pose) for pose in sheet.template_poses]
    assert 0 < sum(view is None for view in found) < 21
    assert all(view is None or view.mask.sum() >= 32 for view in found)


def test_nearest_views_ignore_the_viewing_ray_and_the_turn_in_the_image():
    rng = np.random.default_rng(0)
    templates = view_poses(162, 0.2, np.zeros(3))
    for view in (3, 77, 160):
        # The camera of a template turned about its own centre: the object leaves the image's centre.
        axis = rng.normal(size=3)
        turn = trimesh.transformations.rotation_matrix(0.5, axis)
        pose = turn @ templates[view]
        pose[:3, 3] *= 3
        nearest = nearest_views(templates, pose, 5)
        assert nearest[0] == view
        sides = np.einsum("vji,vj->vi", templates[:, :3, :3], templates[:, :3, 3])
        cosines = sides @ sides[view]
        assert cosines[nearest].min() >= np.sort(cosines)[-5] - 1e-9


def test_template_is_one_of_the_nearest():
    for index in range(10):
        pair, poses = pairs()[index], target(index).template_poses
        view = np.abs(poses - pair.template.cam_from_obj.double().numpy()).max(axis=(1, 2)).argmin()
        assert view in nearest_views(poses, pair.real.cam_from_obj.double().numpy(), 5)


def test_sample_depends_on_seed_and_index_alone():
    again, _ = make_source()
    for index in (5, 2, 9):
        first, second = pairs()[index], again.sample(index)
        assert torch.equal(first.real.rgb, second.real.rgb)
        assert torch.equal(first.template.depth, second.template.depth)
        assert torch.equal(first.real.mask, second.real.mask)
    other, _ = make_source(seed=SEED + 1)
    assert not torch.equal(other.sample(2).real.rgb, pairs()[2].real.rgb)


def test_worker_processes_make_the_same_pairs():
    loader = sample_loader(make_source()[0], Share(2), first_step=1, steps=3, workers=2)
    for step, batch in enumerate(loader, start=1):
        expected = Pair.stack(pairs()[2 * step : 2 * step + 2])
        assert torch.equal(batch.real.rgb, expected.real.rgb)
        assert torch.equal(batch.template.rgb, expected.template.rgb)


def test_pool_gives_every_file_its_turn(tmp_path):
    files = {}
    for k in range(5):
        box = trimesh.creation.box((60 + 10 * k, 50, 40))
        box.apply_translation((500, 0, 0))  # the origin far outside
        box.export(tmp_path / f"box{k}.ply")
        files[f"box{k}"] = MeshFile(tmp_path / f"box{k}.ply", 1e-3)
    pool = ObjectPool(Studio(views=42), [files], shapes=0.5, seed=0, slots=4, period=100)
    names = [pool.get(index, slot).name for index in range(0, 1000, 100) for slot in (0, 1)]
    counts = [names.count(name) for name in files]
    assert sum(counts) == 20
    assert min(counts) >= 3
    thing = pool.get(0, 0)
    assert np.linalg.norm(thing.hull, axis=1).max() < 0.08  # m, about the centre
    assert pool.get(0, 3).name.startswith("shape")
    assert pool.get(50, 3) is not pool.get(5000, 3)


def test_folders_share_the_pool_whatever_they_hold(tmp_path):
    trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / "box.ply")
    file = MeshFile(tmp_path / "box.ply", 1.0)
    few, many = {"few0": file}, {f"many{k}": file for k in range(7)}
    pool = ObjectPool(Studio(views=42), [few, many], shapes=0.25, seed=0, slots=8, period=80)
    names = [pool.get(index, slot).name for index in range(0, 560, 80) for slot in range(8)]
    assert names.count("few0") == 7 * 3
    assert {names.count(name) for name in many} == {3}
    assert sum(name.startswith("shape") for name in names) == 7 * 2


def test_meshes_that_cannot_be_used_are_left_out_and_named(tmp_path, caplog):
    trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / "box.ply")
    flat = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], [[0, 1, 2]])
    flat.export(tmp_path / "flat.ply")
    (tmp_path / "noise.ply").write_bytes(b"noise")
    files = {name: MeshFile(tmp_path / f"{name}.ply", 1.0) for name in ("box", "flat", "noise")}
    pool = ObjectPool(Studio(views=42), [files], shapes=0.0, seed=0, slots=6, period=60)
    assert {pool.get(index, slot).name for index in range(0, 120, 60) for slot in range(6)} == {"box"}
    assert len(caplog.records) == 2 and "flat.ply is flat" in caplog.text and "noise.ply" in caplog.text
    del files["box"]
    with pytest.raises(InputError, match="none of 2 meshes"):
        ObjectPool(Studio(views=42), [files], shapes=0.0, seed=0).get(0, 0)


def test_an_object_that_is_never_seen_gives_way_to_others(tmp_path, caplog):
    trimesh.creation.cylinder(radius=1e-5, height=0.1, sections=3).export(tmp_path / "wire.ply")
    trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / "box.ply")
    files = {name: MeshFile(tmp_path / f"{name}.ply", 1.0) for name in ("box", "wire")}
    studio = Studio(views=42)
    pool = ObjectPool(studio, [files], shapes=0.0, seed=0, slots=2, period=1000)
    source = SyntheticPairs(studio, pool, size=64, seed=0)
    assert all(source.sample(index).real.mask.any() for index in range(4))
    assert [record.message for record in caplog.records] == [
        "wire is hardly seen in any scene: others take its place"
    ]


@pytest.mark.parametrize(("folders", "shapes"), [([], -0.1), ([], 1.1), ([], 0.5), ([{}], 0.5)])
def test_pool_refuses_what_cannot_be(folders, shapes):
    with pytest.raises(ValueError, match="shapes"):
        ObjectPool(Studio(), folders, shapes=shapes, seed=0)
