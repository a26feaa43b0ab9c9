"""Rays of the target's camera through the video tokens, in Pluecker coordinates about the person.

Pluecker coordinates (d, m) of a ray with direction d through a point o are d and m = o x d (as in LFN, Sitzmann et al.
2021, and in camera-controlled generators since CameraCtrl). The person's mean pelvis is the origin, and the distance of
the driver's camera from it the unit of length, so that rays do not depend on where a capture has its origin, nor on its
scale.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from opendimo.model.batch import Driving
from opendimo.model.folding import by_latent_frame
from opendimo.model.signal import Grid

NEAREST = 0.1
"""Least distance in metres from the driver's camera to the person that is taken as the unit."""


def token_rays(driving: Driving, grid: Grid, stride: int) -> Tensor:
    """Return the rays [B, S, 6] through the centres of the video tokens, S = frames x height x width.

    Those of a latent frame are of the last video frame that it encodes. Zeros where the target's camera is unknown, or
    no frame of the driver has a pose.
    """
    person = _mean_pelvis(driving)  # [B, 3]
    unit = person.norm(dim=-1).clamp(min=NEAREST)
    last = [by_latent_frame(x, grid.frames, stride)[:, :, -1] for x in (driving.target_from_driver, driving.target_K)]
    camera, K = (x.double() for x in last)  # [B, L, 3, 4], [B, L, 3, 3]
    rotation, translation = camera[..., :3], camera[..., 3]
    centre = -(rotation.mT @ translation[..., None])[..., 0]  # [B, L, 3] in the driver's camera
    origin = (centre - person[:, None]) / unit[:, None, None]
    x, y = ((torch.arange(n, device=K.device) + 0.5) / n for n in (grid.width, grid.height))
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(grid.height, grid.width, device=K.device)])
    known = by_latent_frame(driving.target_ok, grid.frames, stride)[:, :, -1] & driving.pose_ok.any(dim=1)[:, None]
    K = torch.where(known[..., None, None], K, torch.eye(3, dtype=K.dtype, device=K.device))  # can be inverted
    seen = torch.linalg.solve(K, pixels.double().flatten(1))  # [B, L, 3, h w] camera coordinates
    directions = normalize((rotation.mT @ seen).mT, dim=-1)  # [B, L, h w, 3]
    moments = torch.linalg.cross(origin[:, :, None].expand_as(directions), directions)
    rays = torch.cat([directions, moments], dim=-1)
    return torch.where(known[..., None, None], rays, 0.0).flatten(1, 2).float()


def _mean_pelvis(driving: Driving) -> Tensor:
    """Return the mean position [B, 3] of the pelvis over the labelled frames, in the driver's camera; else zero."""
    there = driving.pose_ok[..., None]  # [B, T, 1]
    total = torch.where(there, driving.joints_3d[:, :, 0], 0.0).double().sum(dim=1)
    return total / there.sum(dim=1).clamp(min=1)
