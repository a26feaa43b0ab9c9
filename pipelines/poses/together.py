"""Label views of a performance together, and singly those on which the views do not agree."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.load import Body
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.label import Label
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.multiview import multi_view_labels
from opendimo.pipelines.poses.oneview import one_view_label
from opendimo.pipelines.poses.view import View

log = logging.getLogger(__name__)
Array = NDArray[np.floating]
MULTIVIEW, MONOCULAR = "multiview", "monocular"
ENOUGH = 0.5
"""Minimum share of the frames in which a view shows the person in which the common label must be valid."""


def label_views(
    landmarks: list[Landmarks],
    views: list[View],
    body: Body,
    config: FitConfig,
    gravity_down: Array | None = None,
    late: Sequence[float] | None = None,
) -> list[tuple[str, Label] | None]:
    """Return the method and the label of each view; None if neither method gives one.

    A view is labelled singly if the views agree on no point, or if the common label is valid in less than `ENOUGH` of
    its frames (too few views see the person) and the single one in more. Arguments as in `multi_view_labels`. Raises
    its `DataError` if no view can be labelled.
    """
    common: Sequence[Label | None] = [None] * len(views)
    problem = None
    try:
        common = multi_view_labels(landmarks, views, body, config, gravity_down, late)
    except DataError as error:
        log.warning("the views are labelled singly: %s", error)
        problem = error
    labels = [
        _better(together, seen, view, body, config, gravity_down)
        for together, seen, view in zip(common, landmarks, views, strict=True)
    ]
    if problem and not any(labels):
        raise problem
    return labels


def _better(
    common: Label | None, seen: Landmarks, view: View, body: Body, config: FitConfig, gravity_down: Array | None
) -> tuple[str, Label] | None:
    if common is not None and common.valid.sum() >= ENOUGH * seen.body_found.sum():
        return MULTIVIEW, common
    try:
        single = one_view_label(seen, view, body, config, gravity_down)
    except DataError:  # no person, or landmarks without depth
        return None if common is None else (MULTIVIEW, common)
    if common is not None and common.valid.sum() >= single.valid.sum():
        return MULTIVIEW, common
    return MONOCULAR, single
