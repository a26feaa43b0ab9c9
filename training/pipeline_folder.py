"""Find the pipeline of a finished training run."""

from pathlib import Path

INDEX = "model_index.json"


def find_pipeline(checkpoint: str | Path) -> Path:
    """Return `checkpoint` or its subfolder `pipeline`.

    Raises `ValueError` if neither is a pipeline folder; it names the newest finished run if that is one folder deeper.
    """
    folder = Path(checkpoint)
    for pipeline in (folder, folder / "pipeline"):
        if (pipeline / INDEX).is_file():
            return pipeline
    runs = {file: file.parents[1] for file in folder.glob(f"*/pipeline/{INDEX}")}
    runs |= {file: file.parent for file in folder.glob(f"*/{INDEX}")}
    if runs:
        newest = runs[max(runs, key=lambda file: (file.stat().st_mtime_ns, file))]
        raise ValueError(f"no pipeline in {checkpoint}, but a finished run in {newest}: pass that folder")
    raise ValueError(f"no pipeline in {checkpoint}: finish the last training stage first")
