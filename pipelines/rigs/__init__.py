"""What is measured of a rig: do its cameras share time, and are they where the calibration says.

`views.py` (cameras and frames), `people.py` and `board.py` (points seen), `times.py`, `audio.py` and `motion.py` (three
witnesses of time offsets, settled in `offsets.py`), `residuals.py`, `verdicts.py`, `gravity.py`, `stage.py`.
"""
