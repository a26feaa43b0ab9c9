"""Commands of the data team: ingest, label, caption, encode, status."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.commands.execute import execute
from opendimo.dags.options import Base, ExistingLake, Json, LakeOption, PolicyFile, PrefectApi, RayAddress

MADE_BY = {
    "sources": "dimo ingest",
    "clips": "dimo ingest",
    "duplicates": "dimo ingest",
    "rigs": "dimo ingest",
    "poses": "dimo label",
    "captions": "dimo caption",
    "latents": "dimo encode",
    "pairs": "dimo encode",
}
"""The command that does the work of each stage."""


class Kind(StrEnum):
    """Kinds of source."""

    internet = "internet"
    unreal = "unreal"
    multiview = "multiview"


def ingest(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What PATH holds.")],
    path: Annotated[
        Path, typer.Argument(exists=True, help="A folder, or for `internet` also a CSV, JSONL or Parquet list.")
    ],
    lake: LakeOption,
    licence: Annotated[str | None, typer.Option(help="Licence of everything that says nothing itself.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Whom to name.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(exists=True, help="Calibration file (or COLMAP folder) of a multi-view folder.")
    ] = None,
    motions: Annotated[
        Path | None, typer.Option(exists=True, help="Folder of motion .npz files of render jobs.")
    ] = None,
    body_model: Annotated[
        Path | None, typer.Option(exists=True, help="SMPL-X .npz for motions without rest joints.")
    ] = None,
    allow_private: Annotated[bool, typer.Option(help="Also download from this machine and its network.")] = False,
    column: Annotated[
        list[str] | None, typer.Option(help="What a column of a list means: url=video_link, licence=rights, ...")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A further column of a list to store.")] = None,
    cookies: Annotated[
        Path | None, typer.Option(exists=True, help="Cookies for downloads, in the format of Netscape.")
    ] = None,
    access: Annotated[
        Path | None, typer.Option(exists=True, help="TOML file with a proxy and headers by host for downloads.")
    ] = None,
    max_gb: Annotated[float, typer.Option(help="Refuse longer files.")] = 4.0,
    platform: Annotated[
        list[str] | None, typer.Option(help="A further host of which URLs are pages, for yt-dlp.")
    ] = None,
    host_connections: Annotated[int, typer.Option(min=1, help="Connections to one host at once.")] = 4,
    host_rate: Annotated[float, typer.Option(min=0, help="Requests a second to one host; 0: no limit.")] = 10.0,
    clips: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file that says how clips are cut.")
    ] = None,
    policy: PolicyFile = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Take in videos and cut them into clips of one person; of rigs, measure the cameras.

    Examples:

    dimo ingest internet clips/ --lake /data/lake --licence CC-BY-4.0

    dimo ingest internet urls.parquet --column url=video_link --keep title --lake /data/lake

    dimo ingest unreal renders/20240611_job --lake /data/lake

    dimo ingest multiview rig/ --calibration rig/calib.toml --lake /data/lake
    """
    from opendimo.dags.requests import Cut, Ingest, Measure, Request
    from opendimo.pipelines.clips.cut import ClipsConfig
    from opendimo.pipelines.engine.settings import load_settings
    from opendimo.pipelines.quality.policy import policy_of
    from opendimo.pipelines.sources import SourcesConfig
    from opendimo.pipelines.sources.config import PLATFORMS

    options = SourcesConfig(
        licence=licence,
        attribution=attribution,
        calibration=_text(calibration),
        motions=_text(motions),
        body_model=_text(body_model),
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
    how = load_settings(clips, ClipsConfig) if clips else ClipsConfig()
    requests: list[Request] = [Ingest(kind.value, str(path), options), Cut(how, policy_of(policy))]
    if kind is Kind.multiview:
        requests.append(Measure())
    execute(ctx, lake, requests, json_, prefect_api, ray_address)


def label(
    ctx: typer.Context,
    lake: ExistingLake,
    body_model: Annotated[
        Path | None, typer.Option(exists=True, help="SMPL-X .npz to fit; without it a made mannequin.")
    ] = None,
    policy: PolicyFile = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Estimate SMPL-X body and MANO hands of every kept clip.

    Example: dimo label --lake /data/lake --body-model SMPLX_NEUTRAL.npz
    """
    from opendimo.dags.requests import Label
    from opendimo.pipelines.poses.stage import PosesConfig
    from opendimo.pipelines.quality.policy import policy_of

    request = Label(PosesConfig(body=_text(body_model)), policy_of(policy))
    execute(ctx, lake, [request], json_, prefect_api, ray_address)


def caption(
    ctx: typer.Context,
    lake: ExistingLake,
    vlm: Annotated[str | None, typer.Option(help="Qwen2.5-VL: a folder or hub id.")] = None,
    server: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server, with --vlm.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the server's key.")] = None,
    device: Annotated[str, typer.Option(help="Where a local model runs: cuda or cpu.")] = "cuda",
    policy: PolicyFile = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Describe the camera motion of every kept clip, and with a vision-language model its content.

    Examples:

    dimo caption --lake /data/lake

    dimo caption --lake /data/lake --vlm Qwen/Qwen2.5-VL-7B-Instruct --server http://gpu-box:8000/v1
    """
    from opendimo.dags.requests import Caption
    from opendimo.pipelines.captions.openai_server import OpenAIServer
    from opendimo.pipelines.captions.qwen import QwenLocal
    from opendimo.pipelines.quality.policy import policy_of

    if server and not vlm:
        raise ValueError("--server needs --vlm: the name of the model that it serves")
    remote = OpenAIServer(server, vlm, api_key_env=api_key_env) if server and vlm else None
    model = remote or (QwenLocal(vlm, device=device) if vlm else None)
    execute(ctx, lake, [Caption(model, policy_of(policy))], json_, prefect_api, ray_address)


def encode(
    ctx: typer.Context,
    lake: ExistingLake,
    base: Base,
    num_frames: Annotated[int, typer.Option(help="Frames of a window, 4k + 1.")] = 121,
    frame_step: Annotated[int, typer.Option(help="Clip frames per window frame.")] = 1,
    width: Annotated[int, typer.Option(help="Width of the target in pixels.")] = 832,
    height: Annotated[int, typer.Option(help="Height of the target in pixels.")] = 480,
    policy: PolicyFile = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Encode targets and captions for one backbone, and make the training pairs.

    Example: dimo encode --lake /data/lake --base models/Wan2.2-TI2V-5B-Diffusers
    """
    from opendimo.dags.requests import Encode
    from opendimo.pipelines.latents.stage import LatentsConfig
    from opendimo.pipelines.latents.windows import Window
    from opendimo.pipelines.quality.policy import policy_of

    config = LatentsConfig(base, Window(num_frames, frame_step, width, height))
    execute(ctx, lake, [Encode(config, policy_of(policy))], json_, prefect_api, ray_address)


def status(lake: ExistingLake, policy: PolicyFile = None, json_: Json = False) -> None:
    """Show where everything went, and what was rejected and why.

    Example: dimo status --lake /data/lake
    """
    from opendimo.dags.show import accounts_json, as_json, funnel, reject_groups
    from opendimo.pipelines.engine.rejects import group_rejects, rejects
    from opendimo.pipelines.progress.status import funnel as count
    from opendimo.pipelines.progress.status import pending
    from opendimo.pipelines.quality.policy import policy_of
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.lake.runs import unfinished

    home = Lake(lake)
    accounts, failed = count(home, policy_of(policy)), rejects(home)
    groups, again = group_rejects(failed), pending(failed)
    if json_:
        stages = [row | vars(again[row["stage"]]) if row["stage"] in again else row for row in accounts_json(accounts)]
        return as_json({"stages": stages, "rejects": [vars(group) for group in groups]})
    funnel(accounts, again)
    reject_groups("Rejects", groups)
    for plan in unfinished(home):
        print(f"a run of {plan.get('stage', 'notes')} is under way or was stopped: its command again goes on with it")
    print(f"what is left to do: `dimo plan all --lake {lake}`")


def retry(
    lake: ExistingLake,
    error_class: Annotated[str | None, typer.Option("--class", help="transient, permanent, data or bug.")] = None,
    stage: Annotated[str | None, typer.Option(help="sources, clips, rigs, poses, captions, latents or pairs.")] = None,
    message: Annotated[str | None, typer.Option(help="Part of the message.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the item's name.")] = None,
    reason: Annotated[str | None, typer.Option(help="One word such as blocked, too_large, not_a_video.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what was tried too often.")] = False,
    json_: Json = False,
) -> None:
    """Let failed work be tried again by the next run, now and however it failed.

    Example: dimo retry --lake /data/lake --class transient
    """
    from opendimo.dags.show import as_json, reject_groups
    from opendimo.pipelines.engine.rejects import CLASSES, MOST_ATTEMPTS, Choice, group_rejects
    from opendimo.pipelines.engine.rejects import retry as request
    from opendimo.pipelines.engine.work_status import STAGES
    from opendimo.storage_schemas.lake.lake import Lake

    for what, given, known in (("--class", error_class, CLASSES), ("--stage", stage, STAGES)):
        if given is not None and given not in known:
            raise ValueError(f"{what} {given!r}: use one of {', '.join(known)}")
    found = request(Lake(lake), Choice(error_class, stage, message, name, reason), force)
    due, refused = group_rejects(found.due), group_rejects(found.refused)
    commands = sorted({MADE_BY[group.stage] for group in due})
    if json_:
        return as_json({"due": [vars(g) for g in due], "refused": [vars(g) for g in refused], "commands": commands})
    reject_groups("Due now", due)
    reject_groups(f"Tried {MOST_ATTEMPTS} times: not again without --force", refused)
    if commands:
        print(f"{found.due.num_rows} due: run {' and '.join(f'`{c}`' for c in commands)} with the same options again")
    elif not refused:
        print("nothing failed that fits")


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
