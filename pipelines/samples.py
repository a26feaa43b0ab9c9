"""A first thing to generate from a release: the person of one clip, moved as the person of another clip moves."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from storage_schemas.files import write_bytes
from storage_schemas.lake import Lake
from storage_schemas.releases.release import open_release
from storage_schemas.video import decode

PREFERRED = ("cross_view", "moving_camera", "same_view")


@dataclass(frozen=True)
class Sample:
    """Inputs of one generation."""

    reference: Path
    driving: Path
    prompt: str


def choose_sample(lake: Lake, release_id: str, out: Path) -> Sample:
    """Write the inputs for one pair of the release into `out`: held-out pairs first, two cameras before one."""
    release = open_release(lake.uri, release_id)
    kinds = release.scan("pairs", ["pair_id", "split", "kind"])
    place = pc.index_in(kinds["kind"], value_set=pa.array(PREFERRED))
    ranked = pa.table({"train": pc.not_equal(kinds["split"], "test"), "kind": place, "pair_id": kinds["pair_id"]})
    first = pc.select_k_unstable(ranked, 1, [(name, "ascending") for name in ranked.column_names])
    [chosen] = kinds["pair_id"].take(first).to_pylist()
    [pair] = release.read("pairs", None, f"pair_id = '{chosen}'")
    clips = [pair["driving_clip_id"], pair["target_clip_id"]]
    driving, target = release.blobs("clip_videos", "video", clips)
    [latents] = release.rows("latents", [pair["latent_id"]], ["text"])
    write_bytes(out / "driving.mp4", driving)
    first = pair["target_start"]
    reference = out / "reference.png"
    Image.fromarray(decode(target, start=first, stop=first + 1)[0]).save(reference)
    return Sample(reference, out / "driving.mp4", latents["text"])
