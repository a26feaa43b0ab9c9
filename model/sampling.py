"""Default sampling settings: those of Wan2.2-TI2V-5B's pipeline, and a motion guidance scale, which it does not have.

This module imports nothing, so that commands can show these defaults quickly.
"""

STEPS = 50
GUIDANCE = 5.0
"""Classifier-free guidance scale for the text; 1 disables it."""
MOTION_GUIDANCE = 2.0
"""Classifier-free guidance scale for the motion; 1 disables it."""
