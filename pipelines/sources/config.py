"""The options of the source adapters."""

from dataclasses import dataclass

PLATFORMS = (
    "youtube.com",
    "youtu.be",
    "vimeo.com",
    "dailymotion.com",
    "tiktok.com",
    "bilibili.com",
    "instagram.com",
    "facebook.com",
    "twitch.tv",
)
"""Sites of which a URL shows a page with a video in it."""


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
    columns: tuple[str, ...] = ()  # which columns of a list to read, as "url=video_link", "licence=rights"
    keep: tuple[str, ...] = ()  # further columns of a list to store with each video
    max_bytes: int = 4 << 30  # a longer file is refused
    timeout: float = 30.0  # seconds without a byte before giving up
    min_rate: float = 1024.0  # bytes a second; a slower server is given up
    download_time: float = 3600.0  # seconds for one file in all
    max_redirects: int = 5
    allow_private: bool = False  # also download from addresses of this machine and its network
    host_connections: int = 4  # at once to one host, by all processes of this machine
    host_rate: float = 10.0  # requests a second to one host, by all processes of this machine; 0: as many as come
    patience: float = 120.0  # seconds to wait for a host that asked for a pause; a longer one is waited for elsewhere
    cookies: str | None = None  # cookies file in the format of Netscape
    access: str | None = None  # TOML file with a proxy, and with headers by host
    platforms: tuple[str, ...] = PLATFORMS  # hosts of which URLs are pages: yt-dlp finds the file behind them
    # unreal
    motions: str | None = None  # folder of motion npz files; None: <job>/motions_npz, if there is one
    body_model: str | None = None  # SMPL-X npz, for motions that do not carry their own rest joints
    # multiview
    calibration: str | None = None  # calibration file; None: looked for beside the videos
    gravity_down: tuple[float, float, float] | None = None  # unit vector in the world of the calibration
