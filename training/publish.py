"""Publish the pipeline of a finished run: to a folder, or to a Hugging Face hub in one commit."""

import re
import shutil
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from opendimo.model.pipeline.folder import check_folder
from opendimo.storage_schemas.lake.files import sync_folder
from opendimo.training.pipeline_folder import find_pipeline
from opendimo.training.summary import newest_samples

CARD, VIDEO = "README.md", "samples.mp4"
SHOWN = f"""
## Samples

Held-out pairs: driver, generated clip, truth.

<video controls src="{VIDEO}"></video>
"""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def published_files(run: Path) -> dict[str, Path | bytes]:
    """Return what is published of a run, by path: its pipeline with the model card, and the newest sample video.

    Raises the `ValueError`s of `find_pipeline` and `check_folder`.
    """
    pipeline = find_pipeline(run)
    check_folder(pipeline)
    files: dict[str, Path | bytes] = {
        str(file.relative_to(pipeline)): file for file in sorted(pipeline.rglob("*")) if file.is_file()
    }
    if newest := newest_samples(pipeline.parent):
        files[VIDEO] = newest
        files[CARD] = (pipeline / CARD).read_bytes() + SHOWN.encode()
    return files


def publish(run: Path, target: str, *, public: bool = False, revision: str | None = None) -> str:
    """Publish a run to `target`, and return its path or address.

    `target`: ORG/NAME on the hub (`HF_ENDPOINT`, `HF_TOKEN`), or a folder, which begins with / or . and must be new.
    `public`: whether a new repository on the hub can be seen by all. `revision`: branch or tag name to commit to; None:
    main. Raises `ValueError` for an unusable target, and the `ValueError`s of `published_files`.
    """
    files = published_files(run)
    if target.startswith(("/", ".", "~")):
        if revision is not None:
            raise ValueError("a folder has no revisions: publish to ORG/NAME on the hub, or leave out --revision")
        return _to_folder(files, Path(target).expanduser())
    if not HUB_NAME.fullmatch(target):
        raise ValueError(f"{target!r} is neither ORG/NAME nor a folder: folders begin with / or ./")
    return _to_hub(files, target, public, revision)


def _to_folder(files: dict[str, Path | bytes], folder: Path) -> str:
    if folder.exists():
        raise ValueError(f"{folder} exists: choose a new folder")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name, content in files.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (part / name).write_bytes(content)
        else:
            shutil.copyfile(content, part / name)
    part.rename(folder)
    sync_folder(folder.parent.resolve())
    return str(folder)


def _to_hub(files: dict[str, Path | bytes], name: str, public: bool, revision: str | None) -> str:
    hub = HfApi(library_name="opendimo")
    address = hub.create_repo(name, private=not public, exist_ok=True)
    if revision is not None:
        hub.create_branch(name, branch=revision, exist_ok=True)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    hub.create_commit(name, operations, commit_message="Publish 3DiMo", revision=revision)
    return str(address)
