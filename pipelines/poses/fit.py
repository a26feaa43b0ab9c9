"""Fit SMPL-X body and MANO hands to all frames of a clip at once (a batched, temporally smooth SMPLify-X).

As in SMPLify-X (Pavlakos et al. 2019, section 3): a robust distance in pixels, a pose prior, limits of elbows and
knees, one shape per clip. Added: the landmark model's 3-D landmarks, triangulated points, and temporal smoothness.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from opendimo.model.body.load import Body
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.motion import Motion
from opendimo.pipelines.poses.objective import Objective, Target

HISTORY = 12


def fit(body: Body, target: Target, config: FitConfig) -> Motion:
    """Fit `body` to `target`. Raises `ValueError` if all frames have too few observations."""
    objective = Objective(body, target, config)

    def value_and_gradient(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        variables = torch.tensor(at, dtype=torch.float32, requires_grad=True)
        loss = objective.loss(variables)
        (gradient,) = torch.autograd.grad(loss, variables)
        return loss.item(), gradient.double().numpy()

    # SciPy's L-BFGS, because torch's loads its compiler first, which takes seconds
    options = {"maxiter": config.iterations, "maxcor": HISTORY}
    result = minimize(value_and_gradient, np.zeros(objective.size), jac=True, method="L-BFGS-B", options=options)
    with torch.no_grad():
        return objective.motion(torch.tensor(result.x, dtype=torch.float32))
