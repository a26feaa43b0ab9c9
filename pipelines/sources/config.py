"""The options of the source adapters."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourcesConfig:
    """What a user may say about what is ingested.

    Only what changes the answer is part of an item's work key: rights, motions, body model, calibration and gravity
    are; where downloads are kept and how patient the downloader is are not.
    """

    # every kind
    licence: str | None = None  # where the source itself gives none
    attribution: str | None = None
    # internet
    cache: str | None = None  # folder of downloads; None: <lake>/downloads
    max_bytes: int = 4 << 30  # a longer file is refused
    timeout: float = 30.0  # seconds without a byte before giving up
    download_time: float = 3600.0  # seconds for one file in all
    max_redirects: int = 5
    allow_private: bool = False  # also download from addresses of this machine and its network, through proxies
    # unreal
    motions: str | None = None  # folder of motion npz files; None: <job>/motions_npz, if there is one
    body_model: str | None = None  # SMPL-X npz, for motions that do not carry their own rest joints
    # multiview
    calibration: str | None = None  # calibration file; None: looked for beside the videos
    gravity_down: tuple[float, float, float] | None = None  # unit vector in the world of the calibration
