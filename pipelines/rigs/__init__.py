"""Validate multi-camera rigs: are the cameras synchronised, and do they match their calibration.

`views.py` (cameras and frames), `people.py` and `board.py` (detected points), `times.py`, `audio.py` and `motion.py`
(three estimators of time offsets), `offsets.py` (one offset per view from pairwise offsets), `residuals.py`,
`verdicts.py`, `gravity.py`, `stage.py`.
"""
