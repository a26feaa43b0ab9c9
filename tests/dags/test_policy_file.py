"""Test the options that read settings from TOML files: --policy and --clips."""

import json
from pathlib import Path

from opendimo.storage_schemas.lake.lake import Lake
from tests.dags.command import dimo
from tests.pipelines.report_lake import clip_row, run


def test_another_file_of_thresholds_is_another_verdict_of_the_same_clips(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    shares = {"a": 0.9, "b": 0.1}
    run(lake, "clips", {"clips": [clip_row(name) for name in (*shares, "not measured")]}, 3)
    rows = [{"clip_id": f"clip {name}", "hands_visible": share, "work_key": name} for name, share in shares.items()]
    run(lake, "hands", {"hands": rows}, 2)
    policy = tmp_path / "quality.toml"
    policy.write_text("min_frames = 1\nmin_hands_visible = 0.5\n")

    def verdict(*args: str) -> dict:
        answer = dimo("status", "--lake", lake.uri, "--json", *args)
        return next(s for s in json.loads(answer.stdout)["stages"] if s["stage"] == "verdict")

    assert verdict()["done"] == 3
    strict = verdict("--policy", str(policy))
    assert (strict["done"], strict["filtered"]) == (2, {"hands_not_visible": 1})


def test_a_key_that_is_none_is_an_error_in_one_line(tmp_path: Path) -> None:
    lake, wrong = Lake(tmp_path / "lake"), tmp_path / "wrong.toml"
    wrong.write_text("min_hands = 0.5\n")
    (tmp_path / "a.mp4").touch()
    for args in (("status", "--policy"), ("ingest", "internet", str(tmp_path), "--clips")):
        answer = dimo(*args, str(wrong), "--lake", lake.uri)
        assert answer.returncode == 1 and "Traceback" not in answer.stderr
        assert "wrong.toml: unknown key 'min_hands'; known keys: " in answer.stderr


def test_the_doctor_names_encoders_that_work() -> None:
    rows = {row["what"]: row for row in json.loads(dimo("doctor", "--json").stdout)}
    assert rows["video encoders"]["found"].startswith("libx264") and not rows["video encoders"]["needed"]
