"""Data commands: ingest, label, caption, encode."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.commands.execute import execute
from opendimo.dags.options import (
    Base,
    ExistingLake,
    Json,
    Kind,
    LakeOption,
    MaxRejected,
    PolicyFile,
    PrefectApi,
    RayAddress,
    text_of,
)


def ingest(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="Kind of source at PATH.")],
    path: Annotated[
        Path,
        typer.Argument(
            exists=True,
            help="Input folder; for `internet` also a list of URLs: CSV, TSV, JSONL, Parquet or plain text.",
        ),
    ],
    lake: LakeOption,
    licence: Annotated[str | None, typer.Option(help="Licence of sources that do not state one themselves.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Attribution to store with every item.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(exists=True, help="Camera calibration of a multi-view folder: file or COLMAP folder.")
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(help="Camera of a multi-view video whose name does not tell it: cam01=left.mp4. Repeatable."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="Unit of the lengths in the calibration: m, cm, mm, in, ft. Default: that of its format."),
    ] = None,
    motions: Annotated[
        Path | None, typer.Option(exists=True, help="Folder with the motion .npz files of render jobs.")
    ] = None,
    body_model: Annotated[
        Path | None, typer.Option(exists=True, help="SMPL-X .npz, for motion files that lack rest joints.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option(help="Allow downloads from this machine and its private network.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Map a field to a column of the list: url=video_link, licence=rights, start=from, ... Repeatable."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Additional column of the list to store with each source. Repeatable.")
    ] = None,
    cookies: Annotated[
        Path | None, typer.Option(exists=True, help="Cookies file for downloads, in Netscape format.")
    ] = None,
    access: Annotated[
        Path | None, typer.Option(exists=True, help="TOML file with a proxy and per-host headers for downloads.")
    ] = None,
    max_gb: Annotated[float, typer.Option(help="Reject files larger than this, in GiB.")] = 4.0,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Additional video platform: resolve URLs of this host with yt-dlp. Repeatable."),
    ] = None,
    host_connections: Annotated[int, typer.Option(min=1, help="Maximum concurrent connections per host.")] = 4,
    host_rate: Annotated[
        float, typer.Option(min=0, help="Rate limit per host, in requests per second; 0 disables it.")
    ] = 10.0,
    clips: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file with settings for clip extraction.")
    ] = None,
    policy: PolicyFile = None,
    max_rejected: MaxRejected = 1.0,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Ingest videos and cut them into single-person clips.

    For multi-view rigs, also estimate time offset and reprojection residual of every camera.

    Examples:

    dimo ingest internet clips/ --lake /data/lake --licence CC-BY-4.0

    dimo ingest internet urls.parquet --column url=video_link --keep title --lake /data/lake

    dimo ingest unreal renders/20240611_job --lake /data/lake

    dimo ingest multiview rig/ --calibration rig/calib.toml --lake /data/lake
    """
    from opendimo.pipelines.sources import SourcesConfig, discover
    from opendimo.pipelines.sources.config import PLATFORMS

    options = SourcesConfig(
        licence=licence,
        attribution=attribution,
        calibration=text_of(calibration),
        cameras=tuple(camera or ()),
        unit=unit,
        motions=text_of(motions),
        body_model=text_of(body_model),
        allow_private=allow_private,
        columns=tuple(column or ()),
        keep=tuple(keep or ()),
        cookies=_absolute(cookies),
        access=_absolute(access),
        max_bytes=round(max_gb * 2**30),
        platforms=(*PLATFORMS, *(platform or ())),
        host_connections=host_connections,
        host_rate=host_rate,
    )
    discover(kind, path, options)  # a wrong path is an error before the imports below, which take seconds

    from opendimo.dags.requests import Cut, Ingest, Measure, Request
    from opendimo.pipelines.clips.cut import ClipsConfig
    from opendimo.pipelines.quality.policy import policy_of
    from opendimo.storage_schemas.settings import load_settings

    clips_config = load_settings(clips, ClipsConfig) if clips else ClipsConfig()
    requests: list[Request] = [Ingest(kind, str(path), options), Cut(clips_config, policy_of(policy))]
    if kind == "multiview":
        requests.append(Measure())
    execute(ctx, lake, requests, json_, prefect_api, ray_address, max_rejected)


def label(
    ctx: typer.Context,
    lake: ExistingLake,
    body_model: Annotated[
        Path | None, typer.Option(exists=True, help="SMPL-X .npz to fit. Default: a built-in synthetic mannequin.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder with the results of another program: import these instead. Requires --format.",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of --results: gvhmr, wham, tram, prompthmr, 4dhumans, camerahmr, bedlam, multihmr, amass, "
            "easymocap, easymocap_points, motionbert.",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.1, help="Frame rate of --results, if they were made at another one than the video's."),
    ] = None,
    policy: PolicyFile = None,
    max_rejected: MaxRejected = 1.0,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Estimate SMPL-X body and MANO hand poses for every clip that passes the policy, or import them.

    Results are matched to videos by the name of their file or folder, and to clips by frame. They are checked against
    the landmarks in the clip, and used where their quality is higher than that of other labels.

    Examples:

    dimo label --lake /data/lake --body-model SMPLX_NEUTRAL.npz

    dimo label --lake /data/lake --results GVHMR/outputs/demo --format gvhmr --body-model SMPLX_NEUTRAL.npz
    """
    from opendimo.pipelines.quality.policy import policy_of

    if (results is None) != (format_ is None) or (fps is not None and results is None):
        raise ValueError("--results and --format need each other, and --fps needs both")
    if results is not None and format_ is not None:
        from opendimo.dags.requests import Import
        from opendimo.pipelines.poses.imports.formats import format_of
        from opendimo.pipelines.poses.imports.stage import ImportConfig, match
        from opendimo.storage_schemas.lake.lake import Lake

        print(match(Lake(lake, existing=True), results, format_of(format_)).summary(format_), file=sys.stderr)
        config = ImportConfig(body=text_of(body_model), format=format_, fps=fps)
        imported = Import(str(results.absolute()), config, policy_of(policy))
        return execute(ctx, lake, [imported], json_, prefect_api, ray_address, max_rejected)
    from opendimo.dags.requests import Label
    from opendimo.pipelines.poses.stage import PosesConfig

    request = Label(PosesConfig(body=text_of(body_model)), policy_of(policy))
    execute(ctx, lake, [request], json_, prefect_api, ray_address, max_rejected)


def caption(
    ctx: typer.Context,
    lake: ExistingLake,
    vlm: Annotated[
        str | None,
        typer.Option(help="Qwen2.5-VL model: local folder or Hugging Face id; with --server, its name there."),
    ] = None,
    server: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server. Requires --vlm.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Name of the environment variable with the API key of the server.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device for a local model: cuda or cpu.")] = "cuda",
    policy: PolicyFile = None,
    max_rejected: MaxRejected = 1.0,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Caption camera motion, and with --vlm also content, of every clip that passes the policy.

    Examples:

    dimo caption --lake /data/lake

    dimo caption --lake /data/lake --vlm Qwen/Qwen2.5-VL-7B-Instruct --server http://gpu-box:8000/v1
    """
    from opendimo.dags.requests import Caption
    from opendimo.pipelines.captions.openai_server import OpenAIServer
    from opendimo.pipelines.captions.qwen import QwenLocal
    from opendimo.pipelines.quality.policy import policy_of

    if server and not vlm:
        raise ValueError("--server needs --vlm: the name of the model on that server")
    remote = OpenAIServer(server, vlm, api_key_env=api_key_env) if server and vlm else None
    model = remote or (QwenLocal(vlm, device=device) if vlm else None)
    execute(ctx, lake, [Caption(model, policy_of(policy))], json_, prefect_api, ray_address, max_rejected)


def encode(
    ctx: typer.Context,
    lake: ExistingLake,
    base: Base,
    num_frames: Annotated[int, typer.Option(help="Frames per training window; must be 4k + 1.")] = 121,
    frame_step: Annotated[int, typer.Option(help="Temporal stride: clip frames per window frame.")] = 1,
    width: Annotated[int, typer.Option(help="Width of the target video, in pixels.")] = 832,
    height: Annotated[int, typer.Option(help="Height of the target video, in pixels.")] = 480,
    bucket: Annotated[
        list[str] | None,
        typer.Option(
            help="Another window, as WIDTHxHEIGHT or WIDTHxHEIGHTxFRAMES; repeat it for more. Every clip is encoded in "
            "the window with the nearest aspect ratio, and of those in the longest that fits."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device: cpu or cuda. Default: cuda if this machine has a GPU.")
    ] = None,
    policy: PolicyFile = None,
    max_rejected: MaxRejected = 1.0,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Encode target videos and captions for one base model, and build the training pairs.

    Example: dimo encode --lake /data/lake --base models/Wan2.2-TI2V-5B-Diffusers --bucket 480x832 --bucket 608x608
    """
    from opendimo.dags.requests import Encode
    from opendimo.pipelines.engine.device import best_device
    from opendimo.pipelines.latents.stage import LatentsConfig
    from opendimo.pipelines.latents.windows import Window, parsed_window
    from opendimo.pipelines.quality.policy import policy_of

    window = Window(num_frames, frame_step, width, height)
    buckets = tuple(parsed_window(text, window) for text in bucket or [])
    config = LatentsConfig(base, window, device=device or best_device(), buckets=buckets)
    execute(ctx, lake, [Encode(config, policy_of(policy))], json_, prefect_api, ray_address, max_rejected)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
