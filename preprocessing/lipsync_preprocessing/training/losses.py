"""The losses of the generator: pixels, their gradients and, if its weights are at hand, a perceptual loss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

# Of torchvision's VGG19, the layers up to conv3_3, as in SyncTalk_2D.
_VGG_CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256)  # 0 is a 2x2 max pooling
_VGG_FILE = "vgg19-dcbb9e9d.pth"
_VGG_MEAN, _VGG_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB


def weighted_l1(output: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute error of [B,3,h,w] under pixel weights [B or 1,1,h,w]."""
    error = (output - targets).abs() * weights
    return error.sum() / (weights.expand(len(output), -1, -1, -1).sum() * output.shape[1])


def gradient_l1(output: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute error of the steps between neighbouring pixels: it keeps edges sharp."""
    wrong = output - targets
    down = wrong[:, :, 1:] - wrong[:, :, :-1]
    across = wrong[:, :, :, 1:] - wrong[:, :, :, :-1]
    size, channels = len(output), output.shape[1]
    total = (down.abs() * weights[:, :, 1:]).sum() + (across.abs() * weights[:, :, :, 1:]).sum()
    return total / (2 * weights.expand(size, -1, -1, -1).sum() * channels)


class PerceptualLoss(nn.Module):
    """The mean squared difference of VGG19's features (Johnson, Alahi and Fei-Fei, 2016)."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for count in _VGG_CHANNELS:
            if count == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU()]
                channels = count
        self.features = nn.Sequential(*layers[:-1])
        state = torch.load(weights, map_location="cpu", weights_only=True)
        own = {name.removeprefix("features."): value for name, value in state.items()}
        self.features.load_state_dict({k: own[k] for k in self.features.state_dict()})
        self.requires_grad_(False)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor(_VGG_MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(_VGG_DEVIATION)[:, None, None])

    def forward(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of faces [B,3,h,w] BGR, 0…1."""
        seen = [self.features((x.flip(1) - self.mean) / self.deviation) for x in (output, targets)]
        return nn.functional.mse_loss(seen[0], seen[1])


def perceptual_loss() -> PerceptualLoss | None:
    """Return the loss if torchvision has downloaded VGG19's weights on this machine."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE
    return PerceptualLoss(path) if path.is_file() else None
