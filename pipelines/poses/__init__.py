"""Label every clip with SMPL-X body and MANO hands: from ground truth, from calibrated views, or from one view."""
