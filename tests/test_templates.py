"""Template folders in the original's layout: units, crops, and what is refused."""

import cv2
import numpy as np
import pytest
import torch
import trimesh

from picopose.commands.templates import main as render_templates
from picopose.datasets import layouts
from picopose.datasets.templates import StoredViews
from picopose.utils import template_files
from picopose.utils.errors import InputError
from picopose.utils.geometry import cell_centres, project, transform, unproject

WIDTH, HEIGHT = template_files.SIZE
K = torch.tensor(template_files.K)
OBJ = "000004"


def write_templates(data_dir, name="toy", *, views=20):
    """A square plate of 0.1 m that faces the camera, moved and recoloured a little from view to view."""
    folder = layouts.templates_dir(data_dir, name)
    template_files.poses_file(folder, OBJ).parent.mkdir(parents=True)
    (folder / OBJ).mkdir()
    poses = np.tile(np.eye(4), (views, 1, 1))
    for view, pose in enumerate(poses):
        distance = 200.0 + 10 * view  # mm
        pose[:3, 3] = 2.0 * view, -1.0 * view, distance
        rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        depth = np.zeros((HEIGHT, WIDTH), np.uint16)
        corners = np.array([[-50, -50, 0], [50, 50, 0]]) + pose[:3, 3]
        (left, top), (right, bottom) = project(K, torch.tensor(corners).float()).round().int().tolist()
        window = slice(max(top, 0), bottom), slice(max(left, 0), right)
        rgba[window] = (200, 100, view, 255)  # RGBA
        depth[window] = round(distance * 1e-3 / layouts.template_depth_unit(name))
        image, depth_image = template_files.image_files(folder, OBJ, view)
        cv2.imwrite(str(image), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
        cv2.imwrite(str(depth_image), depth)
    np.save(template_files.poses_file(folder, OBJ), poses)
    return folder


@pytest.mark.parametrize("name", ["toy", "gso"])
def test_depth_colour_and_poses_agree(tmp_path, name):
    write_templates(tmp_path, name)
    templates = StoredViews(tmp_path, name, OBJ)
    view = templates.read(56)
    assert len(templates) == 20 and view.rgb.shape == (20, 3, 56, 56) and view.depth.shape == (20, 56, 56)
    assert view.mask.float().mean() > 0.9
    xyz_cam = unproject(view.K, cell_centres(56, 56).expand(20, -1, -1), view.depth.flatten(1))
    xyz = transform(torch.linalg.inv(view.cam_from_obj), xyz_cam).reshape(20, 56, 56, 3)
    inside = view.depth > 0
    assert (xyz[..., 2].abs()[inside]).max() < 1e-5  # m: the plate lies in its own plane z = 0
    assert (xyz.abs()[inside]).max() < 0.0505  # m: within the plate, and a pixel
    middle = view.rgb[:, :, 28, 28]
    expected = torch.tensor([[200.0, 100.0, index] for index in range(20)]) / 255
    assert (middle - expected).abs().max() < 1e-3
    assert view.cam_from_obj[3, :3, 3].tolist() == pytest.approx([0.006, -0.003, 0.23])


def test_poses_in_tenths_of_millimetres_are_told_by_their_depth(tmp_path):
    folder = write_templates(tmp_path, "gso")  # depth in 0.1 mm, poses in mm, as this program writes them
    poses = np.load(template_files.poses_file(folder, OBJ))
    expected = StoredViews(tmp_path, "gso", OBJ).cam_from_obj
    poses[:, :3, 3] *= 10  # as the original's scripts do
    np.save(template_files.poses_file(folder, OBJ), poses)
    torch.testing.assert_close(StoredViews(tmp_path, "gso", OBJ).cam_from_obj, expected)
    poses[:, :3, 3] *= 10
    np.save(template_files.poses_file(folder, OBJ), poses)
    with pytest.raises(InputError, match=r"view 0 shows it 0.2 m away, its pose says 2e\+04 mm"):
        StoredViews(tmp_path, "gso", OBJ)


def rewrite(folder, *, depth: float = 1.0, poses: float = 1.0, views=range(20)) -> None:
    """Multiplies the numbers in the files."""
    for view in views:
        path = template_files.image_files(folder, OBJ, view)[1]
        cv2.imwrite(str(path), (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * depth).astype(np.uint16))
    saved = np.load(template_files.poses_file(folder, OBJ))
    saved[:, :3, 3] *= poses
    np.save(template_files.poses_file(folder, OBJ), saved)


@pytest.mark.parametrize(
    ("name", "depth", "poses", "diameter", "told"),
    [
        ("toy", 1, 1, None, False),  # mm, as BOP's
        ("toy", 1, 1, 0.1, False),
        ("toy", 10, 1, None, True),  # depth in 0.1 mm
        ("toy", 10, 1, 0.1, True),
        ("toy", 10, 10, 0.1, True),  # both in 0.1 mm, in a set of BOP's
        ("gso", 1, 1, None, False),  # depth in 0.1 mm, as ours
        ("gso", 1, 10, None, False),  # both in 0.1 mm, as the original's
        ("gso", 0.1, 1, 0.1, True),  # both in mm
    ],
)
def test_the_unit_is_what_the_files_say(tmp_path, caplog, name, depth, poses, diameter, told):
    write_templates(tmp_path / "usual", "toy")
    expected = StoredViews(tmp_path / "usual", "toy", OBJ).read(56, [3])
    rewrite(write_templates(tmp_path, name), depth=depth, poses=poses)
    found = StoredViews(tmp_path, name, OBJ, diameter=diameter).read(56, [3])
    torch.testing.assert_close(found.depth, expected.depth, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.cam_from_obj, expected.cam_from_obj)
    assert [("its templates' depth is read in" in record.message) for record in caplog.records] == [
        True
    ] * told


def test_views_of_another_unit_than_the_first_are_refused(tmp_path):
    rewrite(write_templates(tmp_path), depth=10, views=[7])
    templates = StoredViews(tmp_path, "toy", OBJ)
    templates.read(28, [6, 8])
    with pytest.raises(
        InputError, match=r"000007_depth\.png shows the object 2\.7 m away, its pose says 0\.27 m"
    ):
        templates.read(28)


def test_templates_of_another_size_than_the_object_are_refused(tmp_path):
    write_templates(tmp_path)
    with pytest.raises(InputError, match=r"seen from 0\.2 m, .* twice its diameter of 2 m: run python"):
        StoredViews(tmp_path, "toy", OBJ, diameter=2.0)


def test_templates_of_an_earlier_version_are_not_used(tmp_path):
    folder = write_templates(tmp_path)
    record = template_files.digest_file(folder, OBJ)
    record.write_text(f"{template_files.VERSION} 0123")
    StoredViews(tmp_path, "toy", OBJ)
    for earlier in (f"{template_files.VERSION - 1} 0123", "0123456789abcdef"):
        record.write_text(earlier)
        with pytest.raises(InputError, match=r"000004 .* earlier version .*: run python -m picopose t"):
            StoredViews(tmp_path, "toy", OBJ)


def test_views_can_be_chosen(tmp_path):
    write_templates(tmp_path)
    templates = StoredViews(tmp_path, "toy", OBJ)
    chosen = templates.read(28, [17, 2])
    assert torch.equal(chosen.rgb, templates.read(28).rgb[[17, 2]])
    assert [len(chunk.rgb) for chunk in templates.chunks(28)] == [8, 8, 4]


def test_rendered_templates_put_the_surface_where_the_mesh_has_it(tmp_path):
    half = torch.tensor([0.05, 0.1, 0.075])
    (tmp_path / "things").mkdir()
    trimesh.creation.box(2 * half.numpy()).export(tmp_path / "things/box.ply")
    render_templates(
        ["--dataset", "things", "--data_dir", str(tmp_path), "--views", "42", "--processes", "1"]
    )
    view = StoredViews(tmp_path, "things", "box").read(64)
    xyz_cam = unproject(view.K, cell_centres(64, 64).expand(42, -1, -1), view.depth.flatten(1))
    xyz = transform(torch.linalg.inv(view.cam_from_obj), xyz_cam)[view.depth.flatten(1) > 0]
    distance = ((xyz.abs() - half).amax(dim=1)).abs()
    assert len(xyz) > 42 * 1000
    assert distance.median() < 3e-4 and distance.quantile(0.99) < 6e-4  # m; the depth is in whole mm


def damage(path, pixels):
    cv2.imwrite(str(path), pixels)


def save(folder, poses, **options):
    np.save(template_files.poses_file(folder, OBJ), poses, **options)


def image(folder, view):
    return template_files.image_files(folder, OBJ, view)[0]


def depth(folder, view):
    return template_files.image_files(folder, OBJ, view)[1]


FAR = np.tile(np.eye(4) + np.eye(4, k=1) * [[0], [0], [500], [0]], (4, 1, 1))

DAMAGES = [
    (r"object 000004, .*000004\.npy not found", lambda f: template_files.poses_file(f, OBJ).unlink()),
    (r"000004\.npy cannot be read", lambda f: template_files.poses_file(f, OBJ).write_bytes(b"")),
    (r"000004\.npy cannot be read.*pickle", lambda f: save(f, np.array([{}]), allow_pickle=True)),
    (r"holds no poses \(V, 4, 4\)", lambda f: save(f, np.eye(4))),
    (r"no pose in mm", lambda f: save(f, FAR * np.nan)),
    (r"no pose in mm", lambda f: save(f, FAR * [[1, 1, 1, 1e-3]])),
    (r"no pose in mm", lambda f: save(f, FAR * [[2, 1, 1, 1]])),
    (r"000003\.png not found", lambda f: image(f, 3).unlink()),
    (r"000002_depth\.png not found", lambda f: depth(f, 2).unlink()),
    (r"000003.png has no pose, of 3 poses", lambda f: save(f, FAR[:3])),
    (r"000004\.png not found", lambda f: save(f, np.concatenate([FAR, FAR]))),
    (r"000003\.png is \(48, 64, 4\)", lambda f: damage(image(f, 3), np.zeros((48, 64, 4), np.uint8))),
    (r"000003\.png is \(480, 640, 3\)", lambda f: damage(image(f, 3), np.zeros((480, 640, 3), np.uint8))),
    (r"000003_depth\.png is .* uint8", lambda f: damage(depth(f, 3), np.zeros((480, 640), np.uint8))),
    (
        r"000003\.png is damaged: delete .*toy/000004 and run python",
        lambda f: image(f, 3).write_bytes(image(f, 3).read_bytes()[:100]),
    ),
]


@pytest.mark.parametrize(("problem", "harm"), DAMAGES)
def test_damaged_folders_are_refused_with_the_command_that_mends_them(tmp_path, problem, harm):
    harm(write_templates(tmp_path, views=4))
    with pytest.raises(InputError, match=problem) as caught:
        StoredViews(tmp_path, "toy", OBJ).read(28)
    message = str(caught.value)
    assert "\n" not in message
    assert "picopose templates --dataset toy" in message
