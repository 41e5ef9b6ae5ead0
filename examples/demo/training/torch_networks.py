"""The two networks in torch, under the names of their published checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class IR(nn.Module):
    """Inverted residual block, expansion 2."""

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


class Named(nn.Module):
    """A module under a name, as the checkpoints nest them."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.add_module(name, module)
        self._name = name

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(self._name)(x)
        return y


def double(cin: int, cout: int, stride: int = 1) -> Named:
    blocks = nn.Sequential(IR(cin, cout, stride), IR(cout, cout, residual=True))
    return Named("double_conv", blocks)


class AudioBranch(nn.Module):
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


class Generator(nn.Module):
    def __init__(self, width: float) -> None:
        super().__init__()
        ch = [round(c * width) for c in (32, 64, 128, 256, 512)]
        self.audio_model = AudioBranch(ch)
        self.fuse_conv = nn.Sequential(double(2 * ch[4], ch[4]), double(ch[4], ch[3]))
        self.inc = Named("inconv", nn.Sequential(IR(6, ch[0])))
        downs = [ch[0], *ch]
        for i in range(5):
            down = Named("maxpool_conv", nn.Sequential(double(downs[i], downs[i + 1], stride=2)))
            self.add_module(f"down{i + 1}", down)
        ups = [(ch[3], ch[3] // 2), (ch[2], ch[2] // 2), (ch[1], ch[1] // 2)]
        for i, (cin, cout) in enumerate([*ups, (ch[0], ch[0]), (ch[0], ch[0] // 2)], 1):
            self.add_module(f"up{i}", Named("conv", double(2 * cin, cout)))
        self.outc = Named("conv", nn.Conv2d(ch[0] // 2, 3, 1))
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, face: Tensor, audio: Tensor) -> Tensor:
        return self.paint(face, self.audio_model(audio))

    def paint(self, face: Tensor, heard: Tensor) -> Tensor:
        """Faces [B,6,32h,32w] with what the audio branch heard, [B,C,h,w]."""
        levels: list[Tensor] = [self.inc(face)]
        for i in range(1, 6):
            levels.append(self.get_submodule(f"down{i}")(levels[-1]))
        x = torch.cat([levels.pop(), heard], dim=1)
        x = self.fuse_conv(x)
        for i in range(1, 6):
            x = self.get_submodule(f"up{i}")(torch.cat([self.grow(x), levels.pop()], dim=1))
        return torch.sigmoid(self.outc(x))


class Layer(nn.Module):
    def __init__(self, cin: int, cout: int, k: int, stride: object, pad: int, add: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(cin, cout, k, stride, pad)  # type: ignore[arg-type]
        self.conv_block = nn.Sequential(conv, nn.BatchNorm2d(cout))
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return torch.relu(y + x if self.add else y)


class AudioEncoder(nn.Module):
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
