"""The steps of cutting a video that Data-Juicer offers, by its own operators, in an interpreter that has it:
`python tests/benchmarks/data_juicer_steps.py VIDEO`. It needs nothing of ours, and does not install beside ours.

`pip install py-data-juicer==1.6.1 aiohttp ray scenedetect opencv-contrib-python-headless ffmpeg-python av==13.1.0`, and
an `ffmpeg` on the path.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import av
from data_juicer.ops.deduplicator.video_deduplicator import VideoDeduplicator
from data_juicer.ops.filter.video_motion_score_filter import VideoMotionScoreFilter
from data_juicer.ops.mapper.video_resize_resolution_mapper import VideoResizeResolutionMapper
from data_juicer.ops.mapper.video_split_by_scene_mapper import VideoSplitBySceneMapper
from data_juicer.utils.constant import Fields, HashKeys

SHORT_SIDE = 480


def main() -> None:
    """Shots, clips of the training size, their motion and hashes; a line of JSON with counts, time and memory."""
    path = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        split = VideoSplitBySceneMapper(detector="AdaptiveDetector", threshold=3.0, save_dir=folder)
        # heights of at least and at most this: the only way to say a short side to it is one of both
        resize = VideoResizeResolutionMapper(min_height=SHORT_SIDE, max_height=SHORT_SIDE, save_dir=folder)
        motion, hashed = VideoMotionScoreFilter(size=180), VideoDeduplicator()
        motion.setup_model()
        started, used = time.perf_counter(), _cpu()
        sample = {
            "text": "<__dj__video>",
            "videos": [path],
            Fields.source_file: [path],
            Fields.meta: {},
            Fields.stats: {},
        }
        sample = resize.process_single(split.process_single(sample))
        sample = hashed.compute_hash(motion.compute_stats_single(sample))
        times = {"seconds": time.perf_counter() - started, "cpu": _cpu() - used}
        assert sample[HashKeys.videohash] and sample[Fields.stats]
        clips = [Path(clip) for clip in sample["videos"]]
        counts = {
            "frames": sum(map(_frames, clips)),
            "clips": len(clips),
            "bytes": sum(c.stat().st_size for c in clips),
        }
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    print(json.dumps(counts | times | {"MiB": most}))


def _cpu() -> float:
    """Seconds of all cores, those of `ffmpeg` with them."""
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def _frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(container.streams.video[0]))


if __name__ == "__main__":
    main()
