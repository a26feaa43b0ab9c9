"""The human body: joints, rotations, and body models in the SMPL-X file format."""
