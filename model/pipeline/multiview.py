"""Generate synchronous videos of one person from several cameras."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.dimo import sees_cameras
from opendimo.model.multiview.cameras import seen_by
from opendimo.model.multiview.paths import CameraPaths
from opendimo.model.pipeline.footage import DrivingInput, Footage
from opendimo.model.pipeline.pipeline import DiMoOutput, DiMoPipeline

VIEWS_AT_ONCE = 4
"""Default number of views that are denoised together."""


@dataclass
class MultiViewOutput(DiMoOutput):
    """`frames` of V views, the `cameras` [V, T or 1, 3, 4] relative to the driver's (camera coordinates, metres), and
    intrinsics `K` [3, 3] of all, whose frame spans (0, 0) to (1, 1)."""

    cameras: NDArray[np.float32] | None = None
    K: Tensor | None = None


class MultiViewPipeline(DiMoPipeline):
    """Inference of a model that reads the target's camera, for several cameras."""

    _paths: CameraPaths
    _cameras: NDArray[np.float32]
    _K: Tensor

    @classmethod
    def of(cls, pipeline: DiMoPipeline) -> Self:
        """Return a pipeline with the components of another one. Raises `ValueError` if its model reads no cameras."""
        if not sees_cameras(pipeline.transformer, pipeline.control):
            raise ValueError(
                f"this model cannot choose a camera (control {type(pipeline.control).__name__}): train one that reads "
                "cameras, as `dimo train --variant hvg` or `--variant camera` do, or describe the camera in the prompt"
            )
        settings = ("num_frames", "frame_step", "fps", "height", "width", "training")
        return cls(**pipeline.components, **{name: pipeline.config[name] for name in settings})

    def __call__(  # type: ignore[override]  # cameras take the place of several videos per prompt
        self,
        reference: Image | str | Path,
        driving: DrivingInput,
        cameras: CameraPaths,
        prompt: str | None = None,
        *,
        views_at_once: int = VIEWS_AT_ONCE,
        **arguments: Any,
    ) -> MultiViewOutput | tuple[Any]:
        """Generate one video for each camera.

        Args:
            reference: as in `DiMoPipeline`; the view of the first camera, as far as it can be chosen.
            driving: as in `DiMoPipeline`.
            cameras: paths of the cameras, relative to the driver's.
            prompt: the content.
            views_at_once: views that are denoised together; more need more memory.
            **arguments: further arguments of `DiMoPipeline`, except `num_videos_per_prompt`.

        Raises the `ValueError`s of `DiMoPipeline`.
        """
        self._paths, self._videos_at_once = cameras, views_at_once
        found = super().__call__(reference, driving, prompt, num_videos_per_prompt=len(cameras), **arguments)
        return MultiViewOutput(**found, cameras=self._cameras, K=self._K) if isinstance(found, DiMoOutput) else found

    def _driving(self, footage: Footage, videos: list[int], frames: slice) -> Driving:
        """Return the driving inputs of a window as seen by the cameras of some videos, [V, T, ...]."""
        paths, window = self._paths.around(footage.person_at), footage.window(frames)
        self._cameras, self._K = np.stack(paths), window.K[0, 0]
        return seen_by(window, [_during(paths[video], frames) for video in videos])


def _during(path: NDArray[np.float32], frames: slice) -> NDArray[np.float32]:
    """Return the part of a camera path [T or 1, 3, 4] in these frames. Raises `ValueError` if it ends before."""
    if len(path) == 1:
        return path
    if len(path) < frames.stop:
        raise ValueError(f"a camera path has {len(path)} frames, {frames.stop} are needed: give one for each frame")
    return path[frames]
