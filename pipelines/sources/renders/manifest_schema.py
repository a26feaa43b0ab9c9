"""Schema of the render manifest, our engine-neutral description of a render job.

It is a file `render_manifest.json` (or `<name>.render_manifest.json`) in the job's folder, with paths relative to it.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.renders.be_seq import MAX_FRAMES, SAFE_NAME
from opendimo.pipelines.sources.renders.declared_axes import World
from opendimo.pipelines.sources.renders.text_files import read_object
from opendimo.storage_schemas.media.probing import MAX_FPS, MIN_FPS

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
LONGEST_NAME = 200  # characters of a file or folder
SHOWN = 5  # errors listed in one message


def _rate(value: str | int) -> str | int:
    try:
        rate = Fraction(value)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not MIN_FPS <= rate <= MAX_FPS:
        raise ValueError('should be frames per second: 30, or "30000/1001"')
    return value


def _name(value: str) -> str:
    if not SAFE_NAME.fullmatch(value):
        raise ValueError("should consist of letters, digits, _ - and .")
    return value


def _relative(value: str) -> str:
    parts = Path(value).parts
    if not parts or Path(value).is_absolute() or ".." in parts or "\0" in value or max(map(len, parts)) > LONGEST_NAME:
        raise ValueError("should be a path below the manifest's folder")
    return value


Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]
Name = Annotated[str, AfterValidator(_name)]
RelativePath = Annotated[str, AfterValidator(_relative)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
Vector = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]
Quaternion = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Axes(_Strict):
    """The axes that point forward, right and up."""

    forward: Axis
    right: Axis
    up: Axis

    @model_validator(mode="after")
    def _three_axes(self) -> Self:
        World(self.forward, self.right, self.up)
        return self


class Header(_Strict):
    """Settings of the whole job; `sequences` are validated one by one."""

    format: Literal["render manifest"]
    version: Literal[1]
    units: Literal["m", "cm", "mm"]
    axes: Axes
    camera_axes: Axes | None = None  # the camera axes that quaternions rotate; default: `axes`
    fps: Annotated[str | int, AfterValidator(_rate)]
    project: str | None = None
    licence: str | None = None
    attribution: str | None = None
    sequences: list[Any] = Field(min_length=1)

    def world(self) -> World:
        """Return the coordinate system: axes and unit."""
        return World(self.axes.forward, self.axes.right, self.axes.up, METRES[self.units])


class Motion(_Strict):
    """An SMPL-X motion (npz of poses, trans, betas) placed in the world; yaw turns right, 0 faces forward."""

    file: RelativePath
    position: Vector
    yaw: FiniteFloat
    start_frame: int = Field(default=0, ge=0, le=MAX_FRAMES)


class Body(_Strict):
    """A body: either named joints per frame in the world, or a motion."""

    name: Name
    joint_names: list[str] | None = None
    joints: list[list[Vector]] | None = None
    motion: Motion | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.joints is None) == (self.motion is None):
            raise ValueError("should have either joints or motion")
        if (self.joints is None) != (self.joint_names is None):
            raise ValueError("joints and joint_names belong together")
        for frame, joints in enumerate(self.joints or []):
            if len(joints) != len(self.joint_names or []):
                raise ValueError(f"joints[{frame}] has {len(joints)} points, joint_names {len(self.joint_names or [])}")
        return self


class Camera(_Strict):
    """Position, orientation and lens of a camera, each per frame or once if constant."""

    position: list[Vector] = Field(min_length=1)
    yaw_pitch_roll: list[Vector] | None = None
    quaternion_xyzw: list[Quaternion] | None = None
    forward: list[Vector] | None = None
    up: list[Vector] | None = None
    focal_length: list[Positive] = Field(min_length=1)
    sensor: Annotated[list[Positive], Field(min_length=2, max_length=2)]  # width, height, in the focal length's unit

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        turned = [self.yaw_pitch_roll, self.quaternion_xyzw, self.forward and self.up]
        if sum(way is not None for way in turned) != 1 or (self.forward is None) != (self.up is None):
            raise ValueError("should have one of yaw_pitch_roll, quaternion_xyzw, or forward with up")
        return self

    def per_frame(self) -> dict[str, Sequence[Any]]:
        """Return every per-frame list by name."""
        names = ("position", "yaw_pitch_roll", "quaternion_xyzw", "forward", "up", "focal_length")
        return {name: values for name in names if (values := getattr(self, name)) is not None}


class Reference(_Strict):
    """A file, folder or pattern that belongs to a view; stored but never read."""

    kind: Name
    path: RelativePath


class View(_Strict):
    """The output of one camera: a video or a pattern of numbered pictures; `turn`: clockwise rotation to upright."""

    name: Name
    video: RelativePath | None = None
    images: RelativePath | None = None
    turn: Literal[0, 90, 180, 270] = 0
    camera: Camera
    references: list[Reference] = []

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.video is None) == (self.images is None):
            raise ValueError("should have either video or images")
        return self


class Take(_Strict):
    """One performance and its views. Takes of a project with equal `capture` are views of one performance."""

    name: Name
    frames: int = Field(gt=0, le=MAX_FRAMES)
    capture: str | None = None
    subject: str | None = None
    action: str | None = None
    ground: FiniteFloat | None = None
    bodies: list[Body] = []
    views: list[View] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for kind, names in (("views", [v.name for v in self.views]), ("bodies", [b.name for b in self.bodies])):
            if len(set(names)) < len(names):
                raise ValueError(f"two {kind} have one name")
        for v, view in enumerate(self.views):
            for name, values in view.camera.per_frame().items():
                if len(values) not in (1, self.frames):
                    raise ValueError(f"views[{v}].camera.{name} has {len(values)} entries, frames is {self.frames}")
        for b, body in enumerate(self.bodies):
            if body.joints is not None and len(body.joints) != self.frames:
                raise ValueError(f"bodies[{b}].joints has {len(body.joints)} frames, frames is {self.frames}")
        return self


Checked = TypeVar("Checked", Header, Take)


def read_header(path: Path) -> Header:
    """Read the header of a manifest. Raises `DataError` naming every invalid field."""
    return _checked(Header, read_object(path), f"{path}: ")


def read_take(path: Path, raw: Any, index: int) -> Take:
    """Validate the sequence number `index` of a manifest. Raises `DataError` naming every invalid field."""
    return _checked(Take, raw, f"{path}: sequences[{index}].")


def _checked(model: type[Checked], raw: Any, where: str) -> Checked:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = [
            f"{_field(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors(include_url=False)
        ]
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(where + "; ".join(problems[:SHOWN]) + more) from error


def _field(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "(all of it)"
