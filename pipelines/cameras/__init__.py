"""Camera motion in words: from known cameras (`geometry`) or from the picture alone (`image_motion`)."""
