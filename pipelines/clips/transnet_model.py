"""TransNetV2 (arXiv 2008.04838), a shot detector, with the parameter names of its authors' PyTorch weights.

Layer sizes are derived from the weights. Input: [B, T, 27, 48, 3] uint8 RGB; output: transition probability [B, T].
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

HEIGHT, WIDTH = 27, 48
LOOKUP = 101  # number of frames, centred on a frame, that it is compared with
DILATIONS = (1, 2, 4, 8)


class SeparableConv(nn.Module):
    """A 3 x 3 convolution over space, then a dilated convolution of length 3 over time."""

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(channels, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * filters, filters, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0), bias=False
        )
        self.layers = nn.ModuleList([space, time])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](x))


class DilatedBlock(nn.Module):
    """Four parallel `SeparableConv` with different dilations, concatenated: [B, C, T, H, W] -> [B, 4 F, T, H, W]."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            self.add_module(f"Conv3D_{dilation}", SeparableConv(channels, filters, dilation))
        self.bn = nn.BatchNorm3d(4 * filters, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.cat([self.get_submodule(f"Conv3D_{d}")(x) for d in DILATIONS], dim=1))


class Stack(nn.Module):
    """`DilatedBlock`s with a skip connection from the first to the last; halves height and width."""

    def __init__(self, channels: int, filters: int, blocks: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList(DilatedBlock(channels if k == 0 else 4 * filters, filters) for k in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for block in self.DDCNN:
            x = functional.relu(block(x))
            outputs.append(x)
        return functional.avg_pool3d(outputs[-1] + outputs[0], (1, 2, 2))


def lookup(features: Tensor) -> Tensor:
    """Return the cosine similarity of each frame of [B, T, C] to its neighbours [B, T, LOOKUP]; 0 beyond the ends."""
    unit = functional.normalize(features, dim=2)
    similar = functional.pad(unit @ unit.transpose(1, 2), [LOOKUP // 2, LOOKUP // 2])  # [B, T, T + LOOKUP - 1]
    index = torch.arange(features.shape[1])[:, None] + torch.arange(LOOKUP)  # [T, LOOKUP]
    return similar.gather(2, index.expand(len(features), -1, -1))


class FrameSimilarity(nn.Module):
    """Similarity of the features of each frame to those of its neighbours."""

    def __init__(self, channels: int, projected: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, projected)
        self.fc = nn.Linear(LOOKUP, width)

    def forward(self, blocks: list[Tensor]) -> Tensor:
        means = torch.cat([block.mean(dim=(3, 4)) for block in blocks], dim=1)  # [B, C, T]
        return functional.relu(self.fc(lookup(self.projection(means.transpose(1, 2)))))


class ColorHistograms(nn.Module):
    """Similarity of the colour histogram (8 x 8 x 8 bins) of each frame to those of its neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOKUP, width)

    def forward(self, frames: Tensor) -> Tensor:
        high = frames.long().flatten(2, 3) >> 5  # [B, T, H W, 3]
        bins = (high[..., 0] << 6) + (high[..., 1] << 3) + high[..., 2]
        counts = torch.zeros(*bins.shape[:2], 512).scatter_add_(2, bins, torch.ones(bins.shape))
        return functional.relu(self.fc(lookup(counts)))


class TransNetV2(nn.Module):
    """The TransNetV2 network.

    `filters`: filters of the first stack. `stacks`: number of stacks. `blocks`: blocks per stack. `hidden`: width of
    the last hidden layer. `projected` and `compared`: widths of the feature similarity. `coloured`: output width of
    the colour histograms.
    """

    def __init__(
        self, filters: int, stacks: int, blocks: int, hidden: int, projected: int, compared: int, coloured: int
    ) -> None:
        super().__init__()
        widths = [4 * filters * 2**k for k in range(stacks)]
        self.SDDCNN = nn.ModuleList(
            Stack(before, width // 4, blocks) for before, width in zip([3, *widths], widths, strict=False)
        )
        self.frame_sim_layer = FrameSimilarity(sum(widths), projected, compared)
        self.color_hist_layer = ColorHistograms(coloured)
        flattened = (HEIGHT >> stacks) * (WIDTH >> stacks) * widths[-1]
        self.fc1 = nn.Linear(coloured + compared + flattened, hidden)
        self.cls_layer1 = nn.Linear(hidden, 1)
        self.cls_layer2 = nn.Linear(hidden, 1)  # predicts all frames of a transition; used in training only

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 4, 1, 2, 3).float() / 255
        blocks = []
        for stack in self.SDDCNN:
            x = stack(x)
            blocks.append(x)
        pictures = x.permute(0, 2, 3, 4, 1).flatten(2)
        features = torch.cat([self.color_hist_layer(frames), self.frame_sim_layer(blocks), pictures], dim=2)
        return torch.sigmoid(self.cls_layer1(functional.relu(self.fc1(features))))[..., 0]


def load_model(path: str | Path) -> TransNetV2:
    """Load the network with weights from a file: a .pth that holds only tensors, or a .safetensors.

    Raises `ValueError` if the file is missing or does not hold TransNetV2 weights.
    """
    if not Path(path).is_file():
        raise ValueError(f"no TransNetV2 weights at {path}")
    tensors = _read(Path(path))
    try:
        stacks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("SDDCNN."))
        blocks = 1 + max(int(name.split(".")[3]) for name in tensors if name.startswith("SDDCNN.0.DDCNN."))
        model = TransNetV2(
            filters=len(tensors["SDDCNN.0.DDCNN.0.Conv3D_1.layers.1.weight"]),
            stacks=stacks,
            blocks=blocks,
            hidden=len(tensors["fc1.bias"]),
            projected=len(tensors["frame_sim_layer.projection.bias"]),
            compared=len(tensors["frame_sim_layer.fc.bias"]),
            coloured=len(tensors["color_hist_layer.fc.bias"]),
        )
        model.load_state_dict(tensors)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold PyTorch weights of TransNetV2: {str(error)[:300]}") from error
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # the reader raises many classes
        raise ValueError(f"{path} is not a PyTorch file of tensors: {str(error)[:200]}") from error
