"""Types of the parameters of flows, with the descriptions that the forms of the dashboard show."""

from typing import Annotated

from pydantic import Field

LakeUri = Annotated[
    str, Field(description="Lake: an absolute path, or an object store prefix such as s3://bucket/lake.")
]
ReleaseId = Annotated[str, Field(description="Release, as NAME@VERSION.")]
OutFolder = Annotated[str, Field(description="Output folder, as an absolute path.")]
