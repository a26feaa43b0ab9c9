"""The smallest rows that a lake takes."""


def video_row(name: str, data: bytes = b"bytes") -> dict:
    return {"clip_id": name, "video": data, "sha256": "0" * 64, "work_key": f"w-{name}"}


def capture_row(name: str, **changes: object) -> dict:
    row = {"capture_id": name, "kind": "internet", "views": ["main"], "sync_method": "single", "take": "one"}
    return row | {"work_key": f"w-{name}"} | changes
