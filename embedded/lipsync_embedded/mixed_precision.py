"""Layers that stay in f32 while the rest of a network is computed in bf16.

At the coarsest map, just before the first upsampling, each value affects the whole image, and the following
layers amplify its rounding. Two blocks of it cost 3 % of the time and bring the frames 1 dB
nearer (docs/speed.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino

_CONVOLUTIONS = (6, 3, 3)  # before each upsampling; a block is expand, depthwise, project


def keep_in_f32(model: Any) -> Any:
    """Return the model with the layers before its first upsampling marked as exact.

    OpenVINO takes the mark from a model's file alone, so the model is written and read again.
    """
    names = _before_upsampling(model)
    if not names:
        return model
    with tempfile.TemporaryDirectory(prefix="lipsync-") as folder:
        xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, xml, weights)
        graph = ElementTree.parse(xml).getroot()
        constants = openvino.Tensor(np.fromfile(weights, np.uint8))
    layers = [layer for layer in graph.iter("layer") if layer.get("name") in names]
    if len(layers) != len(names):
        raise RuntimeError(f"expected layers {sorted(names)} once each, found {len(layers)}")
    for layer in layers:
        info = layer.find("rt_info")
        if info is None:
            info = ElementTree.Element("rt_info")
            after = [part.tag for part in layer].index("input")
            layer.insert(after, info)
        ElementTree.SubElement(info, "attribute", name="precise", version="0")
    return openvino.Core().read_model(ElementTree.tostring(graph), constants)


def _before_upsampling(model: Any) -> set[str]:
    """Return the names of the last convolutions before the first upsampling, and of the layers between."""
    order = model.get_ordered_ops()
    upsamplings = [n for n in order if n.get_type_name() == "Interpolate"]
    names = set()
    for upsampling, wanted in zip(upsamplings, _CONVOLUTIONS, strict=False):
        before = {upsampling.input_value(0).get_node().get_name()}
        for node in reversed(order[: order.index(upsampling)]):
            if node.get_name() not in before or node.get_type_name() in ("Constant", "Parameter"):
                continue
            before |= {value.get_node().get_name() for value in node.input_values()}
            names.add(node.get_friendly_name())
            wanted -= node.get_type_name().endswith("Convolution")
            if wanted == 0:
                break
    return names
