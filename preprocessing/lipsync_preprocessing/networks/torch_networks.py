"""The two networks in torch, under the names of their published checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class IR(nn.Module):
    """An inverted residual block, expansion 2."""

    def __init__(self, cin: int, cout: int, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        hidden = 2 * cin
        self.residual = residual
        self.conv = nn.Sequential(
            nn.Conv2d(cin, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class NamedModule(nn.Module):
    """A module nested under a name, as in the checkpoints."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.add_module(name, module)
        self._name = name

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(self._name)(x)
        return y


def double(cin: int, cout: int, stride: int = 1) -> NamedModule:
    """Return two blocks, the second with a residual."""
    blocks = nn.Sequential(IR(cin, cout, stride), IR(cout, cout, residual=True))
    return NamedModule("double_conv", blocks)


class AudioBranch(nn.Module):
    """The generator's audio branch: [B,32,16,16] to [B,C,10,10]."""

    def __init__(self, ch: list[int]) -> None:
        super().__init__()
        self.conv1, self.conv2 = IR(32, ch[1]), IR(ch[1], ch[2])
        self.conv3, self.bn3 = nn.Conv2d(ch[2], ch[3], 3, padding=1), nn.BatchNorm2d(ch[3])
        self.conv4 = IR(ch[3], ch[3], residual=True)
        self.conv5 = nn.Conv2d(ch[3], ch[4], 3, stride=2, padding=3)
        self.bn5 = nn.BatchNorm2d(ch[4])
        self.conv6, self.conv7 = (IR(ch[4], ch[4], residual=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn3(self.conv3(self.conv2(self.conv1(x)))))
        x = torch.relu(self.bn5(self.conv5(self.conv4(x))))
        y: Tensor = self.conv7(self.conv6(x))
        return y


class TorchGenerator(nn.Module):
    """The generator; width 1 is the true size."""

    def __init__(self, width: float) -> None:
        super().__init__()
        ch = [round(c * width) for c in (32, 64, 128, 256, 512)]
        self.audio_model = AudioBranch(ch)
        self.fuse_conv = nn.Sequential(double(2 * ch[4], ch[4]), double(ch[4], ch[3]))
        self.inc = NamedModule("inconv", nn.Sequential(IR(6, ch[0])))
        downs = [ch[0], *ch]
        for i in range(5):
            down = NamedModule(
                "maxpool_conv", nn.Sequential(double(downs[i], downs[i + 1], stride=2))
            )
            self.add_module(f"down{i + 1}", down)
        ups = [(ch[3], ch[3] // 2), (ch[2], ch[2] // 2), (ch[1], ch[1] // 2)]
        for i, (cin, cout) in enumerate([*ups, (ch[0], ch[0]), (ch[0], ch[0] // 2)], 1):
            self.add_module(f"up{i}", NamedModule("conv", double(2 * cin, cout)))
        self.outc = NamedModule("conv", nn.Conv2d(ch[0] // 2, 3, 1))
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, face: Tensor, audio: Tensor) -> Tensor:
        return self.from_audio_features(face, self.audio_model(audio))

    def from_audio_features(self, face: Tensor, features: Tensor) -> Tensor:
        """Return the output for faces [B,6,32h,32w] and the audio branch's output [B,C,h,w]."""
        levels: list[Tensor] = [self.inc(face)]
        for i in range(1, 6):
            levels.append(self.get_submodule(f"down{i}")(levels[-1]))
        x = torch.cat([levels.pop(), features], dim=1)
        x = self.fuse_conv(x)
        for i in range(1, 6):
            x = self.get_submodule(f"up{i}")(torch.cat([self.upsample(x), levels.pop()], dim=1))
        return torch.sigmoid(self.outc(x))


class Layer(nn.Module):
    """A convolution with batch norm, an optional residual and ReLU."""

    def __init__(self, cin: int, cout: int, k: int, stride: object, pad: int, add: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(cin, cout, k, stride, pad)  # type: ignore[arg-type]
        self.conv_block = nn.Sequential(conv, nn.BatchNorm2d(cout))
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return torch.relu(y + x if self.add else y)


class TorchAudioEncoder(nn.Module):
    """The audio encoder: mel windows [B,1,80,16] to embeddings [B,512]."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c = [round(n * width) for n in (32, 64, 128, 256)]
        c += [round(512 * width)]
        self.audio_encoder = nn.Sequential(
            Layer(1, c[0], 3, 1, 1, False),
            Layer(c[0], c[0], 3, 1, 1, True),
            Layer(c[0], c[0], 3, 1, 1, True),
            Layer(c[0], c[1], 3, (3, 1), 1, False),
            Layer(c[1], c[1], 3, 1, 1, True),
            Layer(c[1], c[1], 3, 1, 1, True),
            Layer(c[1], c[2], 3, 3, 1, False),
            Layer(c[2], c[2], 3, 1, 1, True),
            Layer(c[2], c[2], 3, 1, 1, True),
            Layer(c[2], c[3], 3, (3, 2), 1, False),
            Layer(c[3], c[3], 3, 1, 1, True),
            Layer(c[3], c[4], 3, 1, 0, False),
            Layer(c[4], 512, 1, 1, 0, False),
        )

    def forward(self, mel: Tensor) -> Tensor:
        y: Tensor = self.audio_encoder(mel)
        return y.squeeze(3).squeeze(2)
