"""Pose labels: SMPL-X body and MANO hands of every clip, from truth, from calibrated views, or from one view."""
