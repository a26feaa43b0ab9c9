"""Options of the source adapters."""

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
"""Video platforms: a URL there is a web page that contains a video, not a video file."""


@dataclass(frozen=True)
class SourcesConfig:
    """User options for ingesting sources.

    Only options that change the resulting rows are part of an item's work key: rights, motions, body model, calibration
    with its unit and gravity are; the download folder and the downloader's limits are not.
    """

    # all kinds of source
    licence: str | None = None  # for items whose source states none
    attribution: str | None = None
    # internet
    cache: str | None = None  # download folder; None: <lake>/downloads
    columns: tuple[str, ...] = ()  # column mapping of a list, as "url=video_link", "licence=rights"
    keep: tuple[str, ...] = ()  # further columns of a list to store with each video
    max_bytes: int = 4 << 30  # larger files are rejected
    timeout_s: float = 30.0  # seconds without a byte before the request times out
    min_rate: float = 1024.0  # bytes per second; downloads from slower servers are aborted
    download_timeout_s: float = 3600.0  # time limit for one file, in seconds
    max_redirects: int = 5
    allow_private: bool = False  # also download from private addresses (this machine and its network)
    host_connections: int = 4  # simultaneous connections to one host, over all processes of this machine
    host_rate: float = 10.0  # requests per second to one host, over all processes of this machine; 0: unlimited
    max_pause_s: float = 120.0  # longest pause, in seconds, to wait out when a host asks for one; else retry later
    cookies: str | None = None  # cookies file in Netscape format
    access: str | None = None  # TOML file with a proxy and headers per host
    platforms: tuple[str, ...] = PLATFORMS  # hosts whose URLs are pages: yt-dlp finds the video file of a page
    # unreal
    motions: str | None = None  # folder of motion npz files; None: <job>/motions_npz, if it exists
    body_model: str | None = None  # SMPL-X npz, for motions without rest joints
    # multiview
    calibration: str | None = None  # calibration file; None: search beside the videos
    cameras: tuple[str, ...] = ()  # cameras of videos with other names, as "cam01=left.mp4"
    unit: str | None = None  # unit of the calibration's lengths: m, cm, mm, in, ft; None: that of its format
    gravity_down: tuple[float, float, float] | None = None  # unit vector in the calibration's world
