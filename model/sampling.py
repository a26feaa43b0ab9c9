"""How videos are sampled unless told otherwise, as the pipeline of Wan2.2-TI2V-5B does; and motion, which it lacks.

Nothing is imported here, so that commands can show these numbers at once.
"""

STEPS = 50
GUIDANCE = 5.0
"""How far to go beyond the prediction without text; 1 is no further."""
MOTION_GUIDANCE = 2.0
"""The same for the prediction without motion."""
