"""Render synthetic people with synthetic cameras, written in the layout of real data, with exact ground truth.

Needs no GPU, no display and no third-party assets. Used by the demo and by the tests of all later stages.
"""

from opendimo.pipelines.studio.studio import StudioPaths, make_studio

__all__ = ["StudioPaths", "make_studio"]
