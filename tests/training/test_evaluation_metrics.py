"""Evaluation metrics against independent references: scikit-image, closed forms, and small TorchScript modules."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchvision.models import alexnet

from opendimo.training.evaluation.azimuth import azimuth_gap, bucket, directions
from opendimo.training.evaluation.following import asked_moves, pose_following
from opendimo.training.evaluation.frechet import Features, frechet_distance
from opendimo.training.evaluation.pixels import Lpips, psnr, psnr_in_boxes, ssim
from opendimo.training.evaluation.weights import script, state_dict


def clips(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth clip [11, 40, 56, 3] and a noisy copy."""
    rng = np.random.default_rng(seed)
    y, x, t = np.mgrid[:40, :56, :11]
    truth = 127 + 90 * np.stack([np.sin(x / 7 + t / 3), np.cos(y / 5), np.sin((x + y) / 9 - t / 4)], -1)
    truth = truth.transpose(2, 0, 1, 3)
    noisy = truth + rng.normal(0, 12, truth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), truth.astype(np.uint8)


def test_ssim_agrees_with_scikit_image() -> None:
    ours, truth = clips()
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    theirs = [structural_similarity(a, b, data_range=255, **how) for a, b in zip(ours, truth, strict=True)]
    assert 0.1 < ssim(ours, truth) < 0.95
    assert ssim(ours, truth) == pytest.approx(np.mean(theirs), abs=1e-5)


def test_psnr_agrees_with_scikit_image() -> None:
    ours, truth = clips()
    assert psnr(ours, truth) == pytest.approx(peak_signal_noise_ratio(truth, ours, data_range=255), abs=1e-4)


def test_the_psnr_of_boxes_is_that_of_the_parts_cut_out() -> None:
    ours, truth = clips()
    boxes = np.tile([10.0, 5.0, 30.0, 25.0], (11, 1))
    boxes[3:] = np.nan
    cut = ours[:3, 5:25, 10:30], truth[:3, 5:25, 10:30]
    theirs = peak_signal_noise_ratio(cut[1], cut[0], data_range=255)
    assert psnr_in_boxes(ours, truth, boxes) == pytest.approx(theirs, abs=1e-6)
    assert psnr_in_boxes(ours, truth, boxes * np.nan) is None
    assert psnr_in_boxes(truth, truth, boxes) == math.inf


def test_equal_clips_are_as_good_as_can_be() -> None:
    _, truth = clips()
    assert ssim(truth, truth) == pytest.approx(1, abs=1e-6) and psnr(truth, truth) == math.inf


def test_frames_smaller_than_the_window_of_ssim_are_refused() -> None:
    small = np.zeros((2, 8, 20, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 20 x 8"):
        ssim(small, small)


@pytest.mark.parametrize("samples", [(400, 300), (5, 7)], ids=["many", "fewer than features"])
def test_the_frechet_distance_agrees_with_the_closed_form_of_gaussians(samples: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(k, 1 + k, (n, 8)) @ rng.normal(size=(8, 8)) for k, n in enumerate(samples))
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    cross = scipy.linalg.sqrtm(cov[0] @ cov[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * cross)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_a_frechet_distance_of_one_sample_is_none() -> None:
    with pytest.raises(ValueError, match="needs two samples of each set, got 1 and 3"):
        frechet_distance(np.zeros((1, 4)), np.zeros((3, 4)))


class Inception(torch.nn.Module):
    """Mean colours of 4 x 4 cells of a frame, with the arguments of the published module."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)
        return features if return_features else features[:, :1]


class I3D(torch.nn.Module):
    """Mean frame difference and temporal spread of each colour, with the arguments of the published module."""

    def forward(
        self, video: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        if not (rescale and resize and return_features):
            raise RuntimeError("not as published")
        changes = (video[:, :, 1:] - video[:, :, :-1]).abs().mean(dim=[2, 3, 4])
        return torch.cat([changes, video.mean(dim=[3, 4]).std(dim=2)], dim=1)


def saved(module: torch.nn.Module, path: Path) -> Path:
    torch.jit.script(module).save(str(path))
    return path


def test_features_come_from_modules_on_disk_called_as_they_were_published(tmp_path: Path) -> None:
    clip, _ = clips()
    frames = Features(saved(Inception(), tmp_path / "inception.pt")).of_frames(clip)
    parts = clip.reshape(11, 4, 10, 4, 14, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(frames, parts.reshape(11, 48), rtol=1e-5)
    whole = Features(saved(I3D(), tmp_path / "i3d.pt")).of_clip(clip)
    spread = clip.mean(axis=(1, 2)).std(axis=0, ddof=1)
    changes = np.abs(np.diff(clip.astype(float), axis=0)).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(whole, [[*changes, *spread]], rtol=1e-4)


def test_a_module_that_cannot_take_the_clips_is_named(tmp_path: Path) -> None:
    path = saved(torch.nn.Linear(7, 2), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match=r"linear\.pt cannot process input \[11, 3, 40, 56\] torch\.uint8"):
        Features(path).of_frames(clips()[0])


def test_weights_that_are_not_what_they_should_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"a": [1, 2]}, tmp_path / "list.pt")
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"text\.pt: not a TorchScript module"):
        script(tmp_path / "text.pt")
    with pytest.raises(ValueError, match=r"text\.pt: not a readable state dict"):
        state_dict(tmp_path / "text.pt")
    with pytest.raises(ValueError, match="not a state dict of tensors"):
        state_dict(tmp_path / "list.pt")
    with pytest.raises(ValueError, match="state dict of AlexNet or VGG-16"):
        Lpips(tmp_path / "short.pt")


class Opener:
    """Object whose unpickling opens a file."""

    def __reduce__(self) -> tuple:
        return open, ("opened", "w")


def test_nothing_of_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Opener()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt: not a readable state dict"):
        state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "opened").exists()


def test_lpips_is_the_weighted_distance_of_normalised_features(tmp_path: Path) -> None:
    """Formula of the paper, with torchvision's backbone and the published linear layers."""
    torch.manual_seed(0)
    backbone = alexnet(weights=None).eval()
    torch.save(backbone.state_dict(), tmp_path / "alexnet.pth")
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8) for _ in range(2))
    measure = Lpips(tmp_path / "alexnet.pth")
    heads = [head.model[1].weight.cpu() for head in measure._net.lins]
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def features(clip: np.ndarray) -> list[torch.Tensor]:
        x = (torch.from_numpy(clip).float() / 127.5 - 1 - shift) / scale
        x, maps = x.permute(0, 3, 1, 2), []
        for k, layer in enumerate(backbone.features):
            x = layer(x)
            if k in (1, 4, 7, 9, 11):
                maps.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-8))
        return maps

    with torch.no_grad():
        parts = [
            torch.nn.functional.conv2d((p - q) ** 2, head).mean(dim=(2, 3))
            for p, q, head in zip(features(a), features(b), heads, strict=True)
        ]
    assert measure(a, b) == pytest.approx(float(sum(parts).mean()), rel=1e-3)
    assert measure(a, b) > 0 and measure(a, a) == 0


def looking_at(
    person: np.ndarray, place: np.ndarray, roll: float, focal: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A camera [1, 3, 4] at `place` with K [1, 3, 3] that sees `person` off-centre, and that pixel [1, 2]."""
    forward = person + np.array([0.3, -0.2, 0.1]) - place
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.3, 0.9, 0.2))
    right /= np.linalg.norm(right)
    rotation = Rotation.from_euler("z", roll).as_matrix() @ np.stack([right, np.cross(forward, right), forward])
    K = np.array([[focal, 0, 320], [0, focal, 240], [0, 0, 1.0]])
    x, y, z = K @ rotation @ (person - place)
    world_to_camera = np.concatenate([rotation, -rotation @ place[:, None]], axis=1)
    return world_to_camera[None], K[None], np.array([[x / z, y / z]])


angles = st.floats(-180, 180)


@settings(max_examples=60, deadline=None)
@given(angles, angles, st.floats(-60, 60), st.floats(-60, 60), st.floats(1, 30), angles, st.integers(0, 2**16))
def test_the_gap_is_the_angle_about_gravity_wherever_cameras_are(
    one: float, two: float, up_one: float, up_two: float, far: float, roll: float, world: int
) -> None:
    turn = Rotation.random(random_state=world)  # random orientation of the world
    person = np.array([0.4, 1.0, -0.7])

    def ray(azimuth: float, elevation: float, distance: float) -> np.ndarray:
        a, e = np.radians([azimuth, elevation])
        place = person + distance * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])  # y is up
        camera, K, pixel = looking_at(turn.apply(person), turn.apply(place), np.radians(roll), 500)
        return directions(camera, K, pixel)

    found = azimuth_gap(ray(one, up_one, far), ray(two, up_two, 3.0), turn.apply([0.0, -1.0, 0.0]))
    expected = abs((one - two + 180) % 360 - 180)
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_camera_right_above_or_a_person_never_seen_has_no_gap() -> None:
    down, level = np.array([[0.0, 0.0, -1.0]]), np.array([[1.0, 0.0, 0.0]])
    assert azimuth_gap(down, level, np.array([0, 0, -1.0])) is None
    assert azimuth_gap(np.full((1, 3), np.nan), level, np.array([0, 0, -1.0])) is None


@pytest.mark.parametrize(
    ("gap", "name"),
    [(0, "0"), (14, "0"), (16, "30"), (46, "60"), (74, "60"), (134, "90"), (136, "180"), (None, "unknown")],
)
def test_gaps_belong_to_the_nearest_bucket(gap: float | None, name: str) -> None:
    assert bucket(gap) == name


def test_the_error_of_a_pose_is_in_heights_and_over_what_is_found() -> None:
    truth = np.ones((3, 4, 3), np.float32) * (50, 40, 1)
    truth[:, 3, 0] = 140  # outside the frame
    landmarks = truth.copy()
    landmarks[0, :, :2] += (3, 4)
    landmarks[1, :, 2] = 0  # not detected
    landmarks[2, 0, 2] = 0
    landmarks[2, :, 0] += 10
    valid = np.array([True, True, True])
    found = pose_following(landmarks, truth, valid, height=50, size=(100, 80))
    assert found.found == 2 and found.labelled == 3
    assert found.error == pytest.approx((3 * 5 + 2 * 10) / 5 / 50)
    assert pose_following(landmarks, truth, np.array([False, True, False]), 50, (100, 80)) == (None, 0, 1)


def test_a_prompt_asks_for_what_a_picture_can_show() -> None:
    assert asked_moves("The camera moves to the left. A man waves.") == ["pan_left"]
    assert asked_moves("The camera trucks left, then zooms in.") == ["pan_left", "zoom_in"]
    assert asked_moves("The camera is static.") == ["static"]
    assert asked_moves("The camera arcs left and zooms in.") == []
    assert asked_moves("A man waves.") == []
