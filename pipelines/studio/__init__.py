"""A film studio in software: synthetic people before synthetic cameras, published like real data, with exact truth.

Needs no GPU, no display and no file of anybody else. It serves the demo and the tests of everything downstream.
"""

from opendimo.pipelines.studio.studio import StudioPaths, make_studio

__all__ = ["StudioPaths", "make_studio"]
