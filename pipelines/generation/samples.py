"""Write the inputs of a first generation from a release: the person of one clip, with the motion of another clip."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from opendimo.storage_schemas.lake.files import write_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import centre_crop, decode, encode
from opendimo.storage_schemas.releases.release import Release, open_release

PREFERRED = ("cross_view", "moving_camera", "resynthesised", "same_view")


@dataclass(frozen=True)
class Sample:
    """Inputs of one generation, and the ground-truth video."""

    reference: Path
    driving: Path
    prompt: str
    truth: Path


def choose_sample(lake: Lake, release_id: str, out: Path) -> Sample:
    """Write the inputs of one pair of the release into `out`.

    Held-out pairs are preferred, then the kinds in the order of `PREFERRED`, then the person who moves most in the
    driving clip. The driving video begins with the pair's window. Unless the target's camera moves, the reference is a
    frame half a clip later, as a user's photograph shows another pose than the driving video.
    """
    release = open_release(lake.uri, release_id)
    [pair] = release.read("pairs", None, f"pair_id = '{_choose_pair(release)}'")
    [window] = release.rows("latents", [pair["latent_id"]], ["text", "width", "height"])
    clips = [pair["driving_clip_id"], pair["target_clip_id"]]
    driving, target = release.blobs("clip_videos", "video", clips)
    rows = release.rows("clips", clips, ["fps_num", "fps_den", "frames"])
    rates = [Fraction(row["fps_num"], row["fps_den"]) for row in rows]
    write_bytes(out / "driving.mp4", encode(decode(driving, start=pair["driving_start"]), rates[0]))
    start, step = pair["target_start"], pair["frame_step"]
    frames = decode(target, start=start, stop=start + (pair["num_frames"] - 1) * step + 1, step=step)
    reference = out / "reference.png"
    # another moment shows another pose, but if the camera moves also another part of the scene
    moment = start if pair["kind"] == "moving_camera" else (start + rows[1]["frames"] // 2) % rows[1]["frames"]
    Image.fromarray(decode(target, start=moment, stop=moment + 1)[0]).save(reference)
    truth = centre_crop(frames, window["width"], window["height"])
    write_bytes(out / "truth.mp4", encode(truth, rates[1] / step))
    return Sample(reference, out / "driving.mp4", window["text"], out / "truth.mp4")


def _choose_pair(release: Release) -> str:
    pairs = release.scan("pairs", ["pair_id", "split", "kind", "driving_clip_id"])
    clips = release.scan("clips", ["clip_id", "subject_motion"])
    driving = pc.index_in(pairs["driving_clip_id"], value_set=clips["clip_id"])
    ranked = pa.table(
        {
            "train": pc.not_equal(pairs["split"], "test"),
            "kind": pc.index_in(pairs["kind"], value_set=pa.array(PREFERRED)),
            "stillness": pc.negate(clips["subject_motion"].take(driving)),
            "pair_id": pairs["pair_id"],
        }
    )
    first = pc.select_k_unstable(ranked, 1, [(name, "ascending") for name in ranked.column_names])
    [pair_id] = pairs["pair_id"].take(first).to_pylist()
    return str(pair_id)
