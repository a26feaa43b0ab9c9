"""AnimateAnyone's PoseGuider: strided convolutions from drawn driving frames to additions to the video tokens.

Our choice: the frames of a latent frame are stacked as channels, because the generators' VAEs compress time.
"""

from torch import Tensor, nn

from opendimo.model.folding import by_latent_frame
from opendimo.model.signal import Grid

CHANNELS = (16, 32, 64, 128)


class Guider(nn.Module):
    """Convolutions that downsample images by `2 ** len(CHANNELS)` to tokens.

    If `silent`, the last convolution is zero-initialised.
    """

    def __init__(self, channels: int, width: int, stride: int, *, silent: bool = True) -> None:
        super().__init__()
        self.stride = stride
        layers: list[nn.Module] = [nn.Conv2d(channels * stride, CHANNELS[0], 3, padding=1), nn.SiLU()]
        for before, after in zip((CHANNELS[0], *CHANNELS), CHANNELS, strict=False):
            layers += [nn.Conv2d(before, before, 3, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(CHANNELS[-1], width, 3, padding=1)
        if silent:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # the layer has a bias

    def forward(self, pictures: Tensor, grid: Grid) -> Tensor:
        """Map images [B, T, C, H, W] of the size `picture_size(grid)` to tokens [B, S, width]."""
        folded = by_latent_frame(pictures, grid.frames, self.stride).flatten(2, 3)  # [B, L, stride C, H, W]
        tokens = self.out(self.layers(folded.flatten(0, 1).to(self.out.weight.dtype)))  # [B L, width, h, w]
        return tokens.flatten(2).transpose(1, 2).unflatten(0, (-1, grid.frames)).flatten(1, 2)


def picture_size(grid: Grid) -> tuple[int, int]:
    """Return height and width of the images to draw: 16 pixels per token.

    This is the target's size for HunyuanVideo-1.5 and half of it for Wan2.2-TI2V-5B.
    """
    scale = 2 ** len(CHANNELS)
    return scale * grid.height, scale * grid.width
