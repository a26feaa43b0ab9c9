"""The data policy: thresholds on the scores of clips, see `scores.py`."""

from dataclasses import dataclass
from pathlib import Path

from opendimo.storage_schemas.settings import load_settings


@dataclass(frozen=True)
class Policy:
    """Thresholds on the scores of clips; see `policy_of` for the file format.

    `min_frames` is in frames, `min_person_height` relative to the frame height, exposure from 0 (black) to 1. The
    limits in `OPTIONAL` are off (None) by default; if one is set, clips without that score pass. `max_second_share` is
    the largest share of frames with a second person if `max_people` is below 2; clips without that score pass.

    A clip is a `duplicate` if kept clips show at least `duplicate_share` of its frames, with at least
    `duplicate_similarity` and at most `duplicate_distance` (bits). Mirrored copies count only if `keep_mirrored` is
    false.
    """

    min_frames: int = 17
    max_people: float = 1.0
    max_second_share: float = 0.15
    min_person_share: float = 0.8
    min_person_height: float = 0.25
    min_exposure: float = 0.08
    max_exposure: float = 0.95
    min_sharpness: float = 20.0
    min_person_pixels: float | None = None
    min_subject_sharpness: float | None = None
    min_subject_motion: float | None = None
    max_motion: float | None = None
    min_body_visible: float | None = None
    min_hands_visible: float | None = None
    max_truncation: float | None = None
    max_at_border: float | None = None
    max_occlusion: float | None = None
    max_text_share: float | None = None
    max_bars: float | None = None
    max_clipping: float | None = None
    max_hdr_share: float | None = None
    duplicate_similarity: float = 0.9
    duplicate_distance: float = 8.0
    duplicate_share: float = 0.8
    keep_mirrored: bool = True


SCORES = ["frames", "video_sha256", "people", "second_share", "person_share", "person_height", "exposure", "sharpness"]
OPTIONAL = {
    "min_person_pixels": "person_too_small",
    "min_subject_sharpness": "person_blurred",
    "min_subject_motion": "person_still",
    "max_motion": "camera_too_fast",
    "min_body_visible": "body_not_visible",
    "min_hands_visible": "hands_not_visible",
    "max_truncation": "truncated",
    "max_at_border": "at_border",
    "max_occlusion": "occluded",
    "max_text_share": "text",
    "max_bars": "black_bars",
    "max_clipping": "clipped_light",
    "max_hdr_share": "hdr",
}
"""Filter reasons by limit; a limit's name is min_ or max_ followed by the column."""


def policy_of(path: Path | None) -> Policy:
    """Load a policy from a TOML file of thresholds by name (`min_hands_visible = 0.5`).

    Missing thresholds, or all without a file, have the defaults of `Policy`. Raises `ValueError` with the file and the
    key if a key or value is invalid.
    """
    return Policy() if path is None else load_settings(path, Policy)


def score_columns(policy: Policy) -> list[str]:
    """Return the scores that a policy reads, see `scores.clip_columns`."""
    return [*SCORES, *(limit[4:] for limit in OPTIONAL if getattr(policy, limit) is not None)]
