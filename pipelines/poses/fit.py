"""SMPL-X body and MANO hands fitted to all frames of a clip at once (a batched, temporally smooth SMPLify-X).

As in SMPLify-X (Pavlakos et al. 2019, section 3): a robust distance in pixels, a pose prior, limits of elbows and
knees, one shape per clip. Added: the landmark model's own 3-D shape, triangulated points, and smoothness over time.
"""

import torch
from torch import Tensor

from model.body.load import Body
from pipelines.poses.motion import Motion
from pipelines.poses.objective import FitConfig, Objective, Target


def fit(body: Body, target: Target, config: FitConfig) -> Motion:
    """Fit `body` to `target`. Raises `ValueError` where too little was observed in all frames."""
    objective = Objective(body, target, config)
    variables = torch.zeros(objective.size, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [variables], max_iter=config.iterations, history_size=12, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective.loss(variables)
        loss.backward()
        return loss

    optimizer.step(closure)
    return objective.motion(variables.detach())
