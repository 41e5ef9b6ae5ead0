"""A narrower generator that returns nearly what a wider one does, before any training.

What lies between two blocks of the network is linear: a block's last convolution has no ReLU, and residuals,
upsamplings and concatenations keep it so. There the main components of the channels take the channels' place.
Inside a block, and behind the audio branch's own two ReLUs, the channels that matter most stay; the block's
last convolution is then fitted to what it returned with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lipsync_preprocessing.networks.layers import generator_layers
from lipsync_preprocessing.networks.torch_networks import IR, TorchGenerator
from lipsync_preprocessing.training.pairs import Batch, infer

Convolution = tuple[Tensor, Tensor]
"""Weight and bias; a batch norm is part of them."""

_RIDGE = 1e-5  # of the mean of the moments
_AUDIO_NORMS = {"audio_model.bn3": "audio_model.conv3", "audio_model.bn5": "audio_model.conv5"}


def narrow(
    wide: Mapping[str, Convolution], network: TorchGenerator, width: float, batch: Batch
) -> dict[str, Convolution]:
    """Return the convolutions of a network of a smaller width, under the names of its layers.

    Args:
        wide: those of the wide network.
        network: the wide network.
        width: the smaller width.
        batch: pairs whose activations tell what matters.
    """
    narrowing = _Narrowing(wide, _moments(network, batch), width)
    level = narrowing.block("inc.inconv.0", torch.eye(6, dtype=torch.float64))
    skips = [level]
    for i in range(1, 6):
        skips.append(narrowing.double(f"down{i}.maxpool_conv.0", skips[-1]))
    audio = narrowing.block("audio_model.conv1", torch.eye(32, dtype=torch.float64))
    audio = narrowing.block("audio_model.conv2", audio)
    for first, others in (("conv3", ["conv4"]), ("conv5", ["conv6", "conv7"])):
        audio = narrowing.behind_relu(f"audio_model.{first}", audio)
        for name in others:
            narrowing.block(f"audio_model.{name}", audio, audio)
    level = narrowing.double("fuse_conv.0", torch.block_diag(skips.pop(), audio))
    level = narrowing.double("fuse_conv.1", level)
    for i in range(1, 6):
        level = narrowing.double(f"up{i}.conv", torch.block_diag(level, skips.pop()))
    narrowing.read("outc.conv", level)
    return narrowing.found


class _Narrowing:
    """The narrow network's convolutions, one after another.

    A basis is a tensor [wide channels, narrow channels] whose columns, orthonormal, say what a narrow
    channel holds. Methods take the basis of their input and return that of their output.

    Attributes:
        found: the convolutions so far.
    """

    def __init__(
        self, wide: Mapping[str, Convolution], moments: Mapping[str, Tensor], width: float
    ) -> None:
        self._wide, self._moments = wide, moments
        self._sizes = {layer.name: layer.shape[0] for layer in generator_layers(width)}
        self.found: dict[str, Convolution] = {}

    def block(self, name: str, before: Tensor, after: Tensor | None = None) -> Tensor:
        """Add an IR block; the basis of its output is that of its main components, if none is given."""
        if after is None:
            after = self._main_components(name)
        expand, inner, project = (f"{name}.conv.{n}" for n in (0, 3, 6))
        inside = self._moments[project]  # with a channel of ones for the bias
        (weight, bias), ones = self._wide[project], len(inside) - 1
        matters = inside.diagonal()[:-1] * weight.square().sum((0, 2, 3))
        chosen = _largest(matters, self._sizes[expand])
        self.read(expand, before, chosen)
        self.found[inner] = self._wide[inner][0][chosen], self._wide[inner][1][chosen]
        kept = torch.cat([chosen, torch.tensor([ones])])
        own = inside[kept][:, kept]
        own = own + _RIDGE * own.diagonal().mean() * torch.eye(len(own), dtype=own.dtype)
        returned = torch.cat([weight[:, :, 0, 0], bias[:, None]], dim=1)
        fitted = torch.linalg.solve(own, inside[kept] @ returned.T @ after).T
        self.found[project] = fitted[:, :-1, None, None], fitted[:, -1]
        return after

    def double(self, name: str, before: Tensor) -> Tensor:
        """Add two blocks, the second with a residual."""
        parts = f"{name}.double_conv.0", f"{name}.double_conv.1"
        after = self._main_components(*parts)
        self.block(parts[0], before, after)
        return self.block(parts[1], after, after)

    def behind_relu(self, name: str, before: Tensor) -> Tensor:
        """Add a convolution with a ReLU after it."""
        chosen = _largest(self._moments[name].diagonal(), self._sizes[name])
        self.read(name, before, chosen)
        return torch.eye(len(self._wide[name][0]), dtype=torch.float64)[:, chosen]

    def read(self, name: str, before: Tensor, chosen: Tensor | None = None) -> None:
        """Add a convolution of which the chosen channels, or all, are kept."""
        weight, bias = self._wide[name]
        if chosen is not None:
            weight, bias = weight[chosen], bias[chosen]
        self.found[name] = torch.einsum("oihw,in->onhw", weight, before), bias

    def _main_components(self, *blocks: str) -> Tensor:
        total = torch.stack([self._moments[name] for name in blocks]).sum(0)
        components: Tensor = torch.linalg.eigh(total).eigenvectors
        return components[:, -self._sizes[f"{blocks[0]}.conv.6"] :]


def _moments(network: TorchGenerator, batch: Batch) -> dict[str, Tensor]:
    """Return second moments of channels: after each block, before its last convolution, and behind a ReLU."""
    found: dict[str, Tensor] = {}

    def moment(name: str, values: Tensor, ones: bool = False) -> None:
        rows = values.transpose(0, 1).flatten(1)
        if ones:
            rows = torch.cat([rows, torch.ones_like(rows[:1])])
        found[name] = rows @ rows.T / rows.shape[1]

    def watch(name: str, module: Any) -> list[Any]:
        if isinstance(module, IR):
            project = f"{name}.conv.6"
            return [
                module.register_forward_hook(lambda _m, _i, output: moment(name, output)),
                module.conv[6].register_forward_pre_hook(
                    lambda _m, inputs: moment(project, inputs[0], ones=True)
                ),
            ]
        if (convolution := _AUDIO_NORMS.get(name)) is not None:
            return [
                module.register_forward_hook(
                    lambda _m, _i, output: moment(convolution, torch.relu(output))
                )
            ]
        return []

    hooks = [hook for name, module in network.named_modules() for hook in watch(name, module)]
    with torch.no_grad():
        infer(network.eval(), batch)
    for hook in hooks:
        hook.remove()
    return {name: value.double() for name, value in found.items()}


def _largest(values: Tensor, count: int) -> Tensor:
    return values.topk(count).indices.sort().values
