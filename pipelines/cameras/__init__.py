"""Estimate camera motion as terms: from known cameras (`geometry`) or from the video alone (`image_motion`)."""
