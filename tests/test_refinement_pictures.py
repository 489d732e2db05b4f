"""Refinements are watched, drawn and animated: boxes in their colours and places, weights in theirs."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from picopose.datasets.bop.results import HEADER
from picopose.evaluation.eval_models import EvalModel
from picopose.evaluation.ground_truth import ImageTruth
from picopose.evaluation.photo_part import PhotoPart
from picopose.evaluation.refinement_pictures import ESTIMATE, INITIAL, TRUTH, picture, write_refinement
from picopose.evaluation.refinements import Refinement, refinements
from picopose.model.stage import Stage, Step
from picopose.utils.records import Estimates, Frame, Mask
from tests.small_bop import dump, load, run_program, write_set

K = torch.tensor([[300.0, 0, 80], [0, 300, 60], [0, 0, 1]])
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.05
CUBE = EvalModel(4, CORNERS, np.zeros((0, 3), np.int32), 0.1732, np.eye(4)[None, :3], "cube")


def pose(*angles: float, x: float = 0.0, z: float = 0.6) -> np.ndarray:
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return np.column_stack([rotation, [x, 0, z]])


def step(rows: list[int], poses: list[np.ndarray], weight: float = 1.0, K=K) -> Step:
    matrices = torch.eye(4).repeat(len(rows), 1, 1)
    matrices[:, :3] = torch.from_numpy(np.stack(poses)).float()
    return Step(
        torch.tensor(rows), matrices, torch.full((len(rows), 8, 8), weight), K.expand(len(rows), 3, 3)
    )


@pytest.fixture
def refinement() -> Refinement:
    grey = Frame(torch.full((3, 120, 160), 128, dtype=torch.uint8), K)
    steps = tuple(step([0], [pose(30 - 10 * i, 20, 0, x=0.02)])[0] for i in range(1, 3))
    return Refinement(grey, CUBE, pose(30, 20, 0, x=0.02), steps, pose(0, 0, 0))


def edge_colours(image: np.ndarray, part: PhotoPart, at: np.ndarray) -> np.ndarray:
    """(12, 9, 3) of the pixels about the middle of each projected edge of the cube."""
    found = []
    for first in range(8):
        for second in range(first):
            if np.isclose(np.abs(CORNERS[first] - CORNERS[second]), 0).sum() == 2:
                ends = (CORNERS[[first, second]] @ at[:, :3].T + at[:, 3]) @ part.K.T
                x, y = np.round((ends[:, :2] / ends[:, 2:]).mean(0)).astype(int)
                found.append(image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(int))
    return np.stack(found)


def has(colours: np.ndarray, wanted: tuple[int, int, int]) -> np.ndarray:
    """(12,) bool: whether one of the pixels (12, 9, 3) about each middle is nearly of this colour."""
    return (np.abs(colours - wanted).max(axis=2) < 40).any(axis=1)


def test_each_box_has_its_colour_and_its_place(refinement):
    part = PhotoPart((20, 10, 140, 110), 4.0, K.double().numpy())
    whole = picture(refinement, part, 2)
    assert whole.shape == (400 + 26, 2 * 480, 3)
    for step_count, at, colour in (
        (2, refinement.truth, TRUTH),
        (2, refinement.initial, INITIAL),
        (2, refinement.pose(2), ESTIMATE),
        (1, refinement.pose(1), ESTIMATE),
    ):
        image = picture(refinement, part, step_count)
        assert has(edge_colours(image, part, at), colour).sum() >= 10, colour
    begun = picture(refinement, part, 0)
    assert not (np.abs(begun[:400].astype(int) - ESTIMATE).max(axis=2) < 40).any()
    lost = replace(refinement, steps=(step([0], [np.full((3, 4), np.nan)])[0],), truth=None)
    assert has(edge_colours(picture(lost, part, 1), part, lost.initial), INITIAL).sum() >= 10


def test_weights_lie_where_their_window_is(refinement):
    """A window of 8 px whose pixel (2, 5) alone counts; it shows the photo from (40, 20) on, 5 px each."""
    from_photo = torch.tensor([[0.2, 0, -8 - 0.4], [0, 0.2, -4 - 0.4], [0, 0, 1]])
    weight = torch.zeros(8, 8)
    weight[5, 2] = 1
    counted = replace(refinement.steps[0], weight=weight, K=from_photo @ K)
    part = PhotoPart((20, 10, 140, 110), 4.0, K.double().numpy())
    heat = picture(replace(refinement, steps=(counted,)), part, 1)[:400, 480:].astype(int)
    grey = np.ptp(heat, axis=2) <= 2
    rows, columns = np.nonzero(~grey)
    centre = part.scaled(np.array([40 + 5 * 2 + 2, 20 + 5 * 5 + 2.0]))
    assert np.abs([columns.mean() - centre[0], rows.mean() - centre[1]]).max() < 1
    assert np.abs([np.ptp(columns), np.ptp(rows)]).max() <= 2 * 5 * 4  # bilinear: a pixel on each side
    middle = heat[round(centre[1]), round(centre[0])]
    assert middle[0] > 90 and middle[1:].max() < 50  # red: all of its weight
    assert np.abs(heat[5, 5] - 0.45 * 128).max() <= 1


def test_the_animation_shows_every_step(refinement, tmp_path):
    write_refinement(tmp_path / "pose", refinement)
    still = cv2.cvtColor(cv2.imread(str(tmp_path / "pose.png")), cv2.COLOR_BGR2RGB)
    with Image.open(tmp_path / "pose.gif") as movie:
        assert movie.n_frames == 3 and movie.size == still.shape[1::-1] and movie.info["loop"] == 0
        durations = []
        for index in range(3):
            movie.seek(index)
            durations.append(movie.info["duration"])
        assert durations == [1000, 300, 2000]
        assert np.abs(np.asarray(movie.convert("RGB")).astype(int) - still).mean() < 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.gif", "pose.png"]


class ByObject(Stage):
    """Refines the poses of one object after the other, in two steps each, and drops nothing."""

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        for obj_id in (6, 4):
            rows = (found.obj_id == obj_id).nonzero()[:, 0].tolist()
            for weight in (0.25, 0.5):
                if self.watch is not None:
                    self.watch(step(rows, [pose(0, 0, 0, z=row + weight) for row in rows], weight))
        return replace(found, cam_from_obj=found.cam_from_obj + 1)


class Backwards(Stage):
    """Stands for `best`: the last row comes first."""

    def __call__(self, frame: Frame, found: Estimates) -> Estimates:
        return found[list(range(len(found)))[::-1]]


def test_what_is_watched_is_the_best_pose_of_each_detection():
    masks = [Mask(torch.tensor([0, 0, 9, 9]), None)] * 4
    start = replace(
        Estimates.of([4, 6, 4, 4], masks),
        group=torch.tensor([0, 1, 0, 2]),
        support=torch.tensor([1.0, 1, 2, 1]),
        cam_from_obj=torch.eye(4).repeat(4, 1, 1) * torch.arange(1.0, 5)[:, None, None],
    )
    truths = np.stack([pose(0, 0, 0, z=0.5), pose(1, 0, 0, z=9.0), pose(2, 0, 0, z=0.0)])
    truth = ImageTruth(None, 1, 1, K.numpy(), 1.0, np.array([4, 4, 6]), truths, np.ones(3))
    frame, stage = Frame(torch.zeros(3, 9, 9, dtype=torch.uint8), K), ByObject()
    known = {4: CUBE, 6: replace(CUBE, obj_id=6)}
    found = list(refinements(frame, start, [Stage(), stage, Backwards()], truth, known))
    assert stage.watch is None
    # Rows 2 and 0 are of one detection; the better supported one is shown.
    assert [(one.model.obj_id, one.initial[0, 0], len(one.steps)) for one in found] == [
        (4, 3, 2),
        (6, 2, 2),
        (4, 4, 2),
    ]
    assert [one.pose(2)[2, 3] for one in found] == pytest.approx([2.5, 1.5, 3.5])
    assert [float(one.steps[1].weight.mean()) for one in found] == [0.5] * 3
    assert np.array_equal(found[0].truth, truths[0]) and np.array_equal(found[1].truth, truths[2])
    assert list(refinements(frame, start, [Stage()], truth, known)) == []


@pytest.fixture
def annotated(tmp_path):
    """A data folder with the set `toy`, annotated, and a result on it."""
    folder = write_set(tmp_path)
    truths = load(folder / "test/000001/scene_gt.json")
    info = {key: [{"visib_fract": 1.0} for _ in poses] for key, poses in truths.items()}
    dump(folder / "test/000001/scene_gt_info.json", info)
    shutil.copytree(folder / "models", folder / "models_eval")
    lines = [HEADER] + [f"1,{place},1,1 0 0 0 1 0 0 0 1,0 0 400,-1" for place in ("3,2", "3,5", "7,5")]
    (tmp_path / "given.csv").write_text("\n".join([*lines, lines[1]]))
    return tmp_path


def drawn(monkeypatch, data, *more: str) -> list[str]:
    given = ["--dataset", "toy", "--gpus", "cpu", "--no-score", "--init", str(data / "given.csv")]
    run_program(monkeypatch, *given, f"test_dataset.data_dir={data}", f"log_dir={data / 'log'}", *more)
    (run_dir,) = (data / "log").iterdir()
    return sorted(path.name for path in (run_dir / "pictures").glob("*"))


def test_run_test_draws_the_first_images(monkeypatch, annotated):
    refining = ["--model", "tests.toys.refining", "--pictures"]
    names = ["toy_1_3_2", "toy_1_3_2_2", "toy_1_3_5"]
    expected = sorted(f"{name}.{suffix}" for name in names for suffix in ("gif", "png"))
    assert drawn(monkeypatch, annotated, *refining, "1") == expected
    more = sorted([*expected, "toy_1_7_5.gif", "toy_1_7_5.png"])
    assert drawn(monkeypatch, annotated, *refining, "9") == more
    assert drawn(monkeypatch, annotated, *refining, "1") == expected  # those of before are gone
    (run_dir,) = (annotated / "log").iterdir()
    with Image.open(run_dir / "pictures/toy_1_3_2.gif") as movie:
        assert movie.n_frames == 1 + 5


def test_where_nothing_can_be_drawn_it_is_told(monkeypatch, capsys, caplog, annotated):
    refiner = ["--model", "tests.toys.method", "--stages", "tests.toys.refiner", "--pictures"]
    assert drawn(monkeypatch, annotated, *refiner, "1") == []
    assert "no pictures: in these images no stage told how it refines poses; name one" in caplog.text
    with pytest.raises(SystemExit):
        drawn(monkeypatch, annotated, *refiner, "-1")
    assert "--pictures -1: give the number of images, 0 for none" in capsys.readouterr().err
    (annotated / "toy/test/000001/scene_gt_info.json").unlink()
    with pytest.raises(SystemExit):
        drawn(monkeypatch, annotated, *refiner, "1")
    assert "scene_gt_info.json not found: to score toy, download it" in capsys.readouterr().err
