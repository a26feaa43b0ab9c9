"""Names of the variants in training/variants.py, copied for `--help` because that module takes seconds to import."""

VARIANTS = (
    "full, smpl_ctrl, channel_concat, no_geometry, no_hands, stage1_only, stages12, pose2d, mimicmotion, smpl_render, "
    "smpl_vq, global_attention, first_frame, no_augmentation"
)
