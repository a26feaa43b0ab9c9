"""Synthetic pairs without a release."""

from itertools import permutations

from opendimo.training.release import Pair


def rig(capture: str, views: int, windows: int, source: str = "multiview", subject: str | None = None) -> list[Pair]:
    """Return all same-view and cross-view pairs of a capture."""
    pairs = []
    for start in range(0, 17 * windows, 17):
        for driving, target in [*permutations(range(views), 2), *((v, v) for v in range(views))]:
            pairs.append(
                Pair(
                    pair_id=f"{capture} {driving}>{target} {start}",
                    kind="same_view" if driving == target else "cross_view",
                    source_kind=source,
                    capture_id=capture,
                    subject=subject,
                    driving_clip_id=f"{capture} {driving}",
                    driving_start=start,
                    target_clip_id=f"{capture} {target}",
                    target_start=start,
                    num_frames=9,
                    frame_step=2,
                    latent_id=f"{capture} {target} {start}",
                    pose_id=None,
                    weight=0.0,
                )
            )
    return pairs
