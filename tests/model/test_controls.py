"""Every control: no effect at first, all parameters train, motion can be dropped, saving, loading, permutation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opendimo.model.batch import Batch, Driving
from opendimo.model.body.load import load_body
from opendimo.model.controls import CONTROLS, Control, control_class
from opendimo.model.controls.interface import Shapes
from opendimo.model.controls.mimicmotion import AMPLIFIED
from opendimo.model.controls.pose2d import bone_confidence
from opendimo.model.controls.smpl_render import draw_body
from opendimo.model.controls.smpl_vq import centred
from opendimo.model.dimo import DiMo
from opendimo.model.driving.regions import hand_regions
from opendimo.model.encoder.config import ENCODERS
from opendimo.model.folding import by_latent_frame
from opendimo.model.signal import Grid, Signal

GRID = Grid(3, 8, 8, 96)
READS_POSES = [name for name, kind in CONTROLS.items() if kind.reads_poses]
ADDS = ["channel_concat", "pose2d", "mimicmotion", "smpl_render", "hvg_pose", "hvg_2d"]


def made(name: str, *, trained: bool = False, **changes: object) -> Control:
    """Build a control for the tiny base; `trained` randomises zero-initialised parameters."""
    torch.manual_seed(3)
    control = control_class(name).fresh(Shapes(replace(ENCODERS["tiny"], **changes), GRID.dim))
    with torch.no_grad():
        for parameter in control.parameters():
            if trained and not parameter.any():
                parameter.normal_(std=0.1)
    return control.eval()


@pytest.fixture(scope="module")
def driving(make_batch: Callable[..., Batch]) -> Driving:
    return make_batch().driving


def both(signal: Signal) -> list[torch.Tensor]:
    """Return everything that reaches the generator's tokens."""
    given = [x for x in (*signal.additions, *signal.scales) if x is not None]
    return [*given, *([] if signal.motion is None else [signal.motion.tokens])]


@pytest.mark.parametrize("name", CONTROLS)
def test_a_fresh_control_changes_nothing(name: str, make_dimo: Callable[..., DiMo], make_batch: Callable) -> None:
    batch, dimo = make_batch(), make_dimo(control=name).eval()
    with torch.no_grad():
        signal = dimo.control(batch.driving, torch.ones(2, dtype=torch.bool), dimo.transformer.grid(batch.target))
        inputs = batch.target, torch.full((2,), 500.0), batch.text, batch.text_ok
        controlled = dimo.transformer(*inputs, signal, batch.reference).sample
        uncontrolled = dimo.transformer(*inputs, None, batch.reference).sample
    assert (controlled - uncontrolled).abs().max() == 0.0


@pytest.mark.parametrize("name", CONTROLS)
def test_everything_in_a_control_trains(name: str, make_dimo: Callable[..., DiMo], make_batch: Callable) -> None:
    batch, dimo = make_batch(), make_dimo(control=name, trained=True)
    for parameter in dimo.control.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    no = torch.zeros(2, dtype=torch.bool)
    arguments = {"sigma": torch.full((2,), 0.5), "noise": torch.randn_like(batch.target), "augment_seeds": None}
    prediction = dimo(batch, drop_motion=no, **arguments)
    (prediction.velocity.square().mean() + sum(prediction.losses.values())).backward()
    untrained = [n for n, p in dimo.control.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untrained


@pytest.mark.parametrize("name", ADDS)
def test_without_motion_nothing_is_added(name: str, driving: Driving) -> None:
    signal = made(name, trained=True)(driving, torch.tensor([True, False]), GRID)
    assert all(a[0].any() and not a[1].any() for a in both(signal))
    if signal.loss_weight is not None:
        assert (signal.loss_weight[1] == 1).all()


@pytest.mark.parametrize("name", [name for name in CONTROLS if name not in ADDS])
def test_tokens_say_who_has_no_motion(name: str, driving: Driving) -> None:
    present = torch.tensor([True, False])
    assert made(name)(driving, present, GRID).motion.present is present  # the generator uses its null token for False


@pytest.mark.parametrize("name", CONTROLS)
def test_permuting_a_batch_commutes(name: str, make_batch: Callable[..., Batch]) -> None:
    driving, control, order = make_batch(3).driving, made(name, trained=True), torch.tensor([2, 0, 1])
    present = torch.tensor([True, True, False])
    with torch.no_grad():
        one = control(driving, present, GRID)
        other = control(driving.map(lambda x: x[order]), present[order], GRID)
    for a, b in zip(both(one), both(other), strict=True):
        assert torch.allclose(a[order], b, atol=1e-5)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_saved_and_loaded_is_the_same(name: str, driving: Driving, tmp_path: Path) -> None:
    control = made(name, trained=True)
    control.save_pretrained(tmp_path)
    loaded = CONTROLS[name].from_pretrained(tmp_path).eval()
    with torch.no_grad():
        one, other = (both(c(driving, torch.ones(2, dtype=torch.bool), GRID)) for c in (control, loaded))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", READS_POSES)
def test_labels_that_are_not_ok_do_not_matter(name: str, driving: Driving) -> None:
    control, present = made(name, trained=True), torch.ones(2, dtype=torch.bool)
    body, hands = ~driving.pose_ok[..., None, None], ~driving.hands_pose_ok[..., None, None]
    lost = replace(
        driving,
        body6d=driving.body6d.masked_fill(body, torch.nan),
        hands6d=driving.hands6d.masked_fill(hands[..., None, :].squeeze(-2), torch.nan),
        joints_3d=driving.joints_3d.masked_fill(body, torch.nan),
        joints_2d=driving.joints_2d.masked_fill(body, torch.nan),
        landmarks_2d=driving.landmarks_2d.masked_fill(body, torch.nan),
    )
    with torch.no_grad():
        one, other = control(driving, present, GRID), control(lost, present, GRID)
    assert all(torch.equal(a, b) for a, b in zip(both(one), both(other), strict=True))
    assert all(torch.equal(one.losses[k], other.losses[k]) for k in one.losses)


@pytest.mark.parametrize("name", ["implicit", "smpl_tokens", "channel_concat"])
def test_without_hands_nothing_of_them_is_read(name: str, driving: Driving) -> None:
    control, present = made(name, trained=True, hands=False), torch.ones(2, dtype=torch.bool)
    others = replace(driving, hands=1 - driving.hands, hands6d=-driving.hands6d, hand_ok=~driving.hand_ok)
    with torch.no_grad():
        one, other = (both(control(d, present, GRID)) for d in (driving, others))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_checkpointing_the_branch_gives_the_same_gradients(driving: Driving) -> None:
    control, present, gradients = made("smpl_render", trained=True), torch.ones(2, dtype=torch.bool), []
    for enabled in (False, True):
        control.zero_grad()
        if enabled:
            control.enable_gradient_checkpointing()
        sum(a.square().sum() for a in control(driving, present, GRID).additions).backward()
        gradients.append([p.grad.clone() for p in control.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_an_unknown_control_is_named() -> None:
    with pytest.raises(ValueError, match="unknown control 'hvg'; choose one of implicit, smpl_tokens"):
        control_class("hvg").fresh(Shapes(ENCODERS["tiny"], 96))


def test_frame_0_fills_its_latent_frame_and_others_come_by_fours() -> None:
    frames = torch.arange(9)[None]
    assert by_latent_frame(frames, 3, 4).tolist() == [[[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]]
    with pytest.raises(ValueError, match="3 latent frames encode 9 frames, but the driving clip has 8"):
        by_latent_frame(frames[:, 1:], 3, 4)


def seen_hand(driving: Driving, centre: tuple[float, float]) -> Driving:
    """Return fully labelled, confident inputs whose left hand lies around `centre`, a tenth of the image wide."""
    joints = torch.full_like(driving.joints_2d, 0.9)
    offsets = torch.linspace(-0.05, 0.05, 16)
    hand = torch.stack([centre[0] + offsets, centre[1] + offsets, torch.full((16,), 0.8)], -1)
    joints[:, :, [20, *range(22, 37)]] = hand
    ok = torch.ones_like(driving.pose_ok)
    hands_ok = torch.tensor([True, False]).expand_as(driving.hands_pose_ok)
    return replace(driving, joints_2d=joints, landmarks_2d=joints, pose_ok=ok, hands_pose_ok=hands_ok)


def test_the_loss_cares_ten_times_as_much_around_a_sure_hand(driving: Driving) -> None:
    driving = seen_hand(driving, (0.31, 0.44))
    weight = made("mimicmotion")(driving, torch.ones(2, dtype=torch.bool), GRID).loss_weight
    assert weight.shape == (2, 1, 3, 8, 8) and torch.allclose(weight.mean(dim=(1, 2, 3, 4)), torch.ones(2))
    near, far = weight[0, 0, 1, 3, 2], weight[0, 0, 1, 7, 7]  # 0.31 of 8 columns is column 2, 0.44 of 8 rows row 3
    assert near / far == pytest.approx(AMPLIFIED)
    # 0.1 and a quarter of it on each side: from 0.235 to 0.385 across, from 0.365 to 0.515 down
    assert (weight[0, 0, 1] > far).nonzero().tolist() == [
        [2, 1],
        [2, 2],
        [2, 3],
        [3, 1],
        [3, 2],
        [3, 3],
        [4, 1],
        [4, 2],
        [4, 3],
    ]


def test_a_hand_with_one_unsure_joint_is_no_region(driving: Driving) -> None:
    driving = seen_hand(driving, (0.3, 0.4))
    driving.joints_2d[0, :, 25, 2] = 0.1
    regions = hand_regions(driving, 8, 8)
    assert not regions[0].any() and regions[1].any()


def test_confidence_of_a_bone_is_that_of_both_its_joints(driving: Driving) -> None:
    driving = seen_hand(driving, (0.3, 0.4))
    confidence = bone_confidence(driving)
    assert torch.allclose(confidence[0, 0, 0], torch.tensor(0.9 * 0.9))
    assert not confidence[..., 36:].any()  # the right hand is not labelled


def test_the_rendered_body_lies_under_its_joints(driving: Driving) -> None:
    zero = torch.zeros(1, 3)
    place = torch.tensor([[0.0, 0.2, 3.0]])
    upright = torch.tensor([[torch.pi, 0, 0]])  # the camera's y points down
    joints = load_body().joints(upright, torch.zeros(1, 21, 3), torch.zeros(1, 2, 15, 3), place, zero[0])  # [1, 52, 3]
    ok = torch.ones_like(driving.hands_pose_ok)
    posed = replace(driving, joints_3d=joints.expand(2, 9, 52, 3), pose_ok=ok[..., 0], hands_pose_ok=ok)
    picture = draw_body(posed, 64, 64)[0, 0]
    points = joints[0, :22] @ driving.K[0, 0].T
    x, y = (64 * points[:, :2] / points[:, 2:]).long().T
    assert (picture[3, y, x] > 1 / joints[0, :22, 2]).all()  # the skin is in front of every joint
    assert 0.03 < (picture[3] > 0).float().mean() < 0.2


def test_joints_are_counted_from_the_middle_of_the_walk(driving: Driving) -> None:
    moved = replace(driving, joints_3d=driving.joints_3d + torch.tensor([3.0, -1.0, 2.0]))
    assert torch.allclose(centred(moved), centred(driving), atol=1e-5)
    pelvis = centred(driving)[:, :, 0].sum(1)
    assert torch.allclose(pelvis, torch.zeros_like(pelvis), atol=1e-5)


def full_size(name: str, **changes: object) -> int:
    """Return the number of parameters with the encoder `base` on Wan2.2-TI2V-5B."""
    with torch.device("meta"):
        return control_class(name).fresh(Shapes(replace(ENCODERS["base"], **changes), 3072)).num_parameters()


@pytest.mark.parametrize(
    ("name", "tiny", "full"),
    [
        ("smpl_tokens", 70_528, 846_336),
        ("pose2d", 262_560, 3_693_888),
    ],
)
def test_the_number_of_parameters_is_known(name: str, tiny: int, full: int) -> None:
    assert (made(name).num_parameters(), full_size(name)) == (tiny, full)


def readme_rows() -> list[list[str]]:
    """Return the cells of the README's table of controls."""
    readme = (Path(__file__).parents[2] / "model" / "README.md").read_text()
    table = readme.split("\n## Controls\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", CONTROLS)
def test_the_readme_says_how_large_controls_are(name: str) -> None:
    [cell] = [cells[-1] for cells in readme_rows() if f"`{name}`" in cells[1] and cells[-1]]
    assert cell.split(" (")[0] == f"{full_size(name) / 1e6:.1f} M"
    if name == "implicit":
        assert f"({full_size(name, hands=False) / 1e6:.1f} M without hands)" in cell
