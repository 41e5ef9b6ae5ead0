"""A graph cut where the audio comes in: what depends on the avatar's frame alone is computed once a frame.

A compiled generator takes a position of the endless ping-pong, makes a frame number of it by a little integer
arithmetic, and gathers that frame's face from a table of constants. All that follows from the face alone, up
to where the audio joins it, is the visual half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

FRAME = "visual_half.frame"
# Multiply-adds an element below which a tensor is computed again rather than kept: the generator's first is
# two thirds of all elements and one hundredth of the work.
_WORTH_KEEPING = 40


@dataclass(frozen=True)
class VisualSplit:
    """A model in three.

    Attributes:
        number: from the position, any batch, to the frame's number.
        visual: from the frame's number, FRAME int64 [1], to the tensors worth keeping.
        rest: from the frame's number, the other inputs and those tensors to the model's outputs.
        position: name of the input that is the position.
        frames: of the avatar.
        kind: element type of the tensors worth keeping.
        kept: their names and shapes.
    """

    number: Any
    visual: Any
    rest: Any
    position: str
    frames: int
    kind: Any
    kept: dict[str, list[int]]

    @property
    def frame_bytes(self) -> int:
        """That the tensors of one frame take."""
        return sum(int(np.prod(shape)) * int(self.kind.size) for shape in self.kept.values())


def split(model: Any, kind: Any) -> VisualSplit | None:
    """Cut a model of batch 1, which is used up.

    Args:
        kind: element type of the tensors that are kept.

    Returns:
        None for a graph that has no visual half.
    """
    depends = _dependencies(model)
    table = _table(model, depends)
    if table is None:
        return None
    visual, numbering = _visual(model, table, depends)
    kept = _worth_keeping(model, visual)
    lead = {node.get_name() for node in numbering} | {table.get_name()}
    if not kept or not _read_only_by(numbering, lead):
        return None
    (position,) = (p for p in model.get_parameters() if p.get_name() in lead)
    name, index = position.output(0).get_any_name(), table.input_value(1)

    number = openvino.Model([ops.result(index)], [position]).clone()
    number.reshape({name: [-1, *list(position.output(0).shape)[1:]]})
    frame = _parameter(FRAME, [1], index.get_element_type())
    table.input(1).replace_source_output(frame.output(0))
    names = [f"visual_half.{n}" for n in range(len(kept))]
    consumers = [output.get_target_inputs() for output in kept]
    ends = [ops.convert(output, kind.to_string()) for output in kept]
    for end, kept_name in zip(ends, names, strict=True):
        end.output(0).set_names({kept_name})
    visual_half = openvino.Model([ops.result(end) for end in ends], [frame]).clone()
    inputs = []
    for output, kept_name, readers in zip(kept, names, consumers, strict=True):
        inputs.append(_parameter(kept_name, list(output.shape), kind))
        source = ops.convert(inputs[-1], output.get_element_type().to_string())
        for reader in readers:
            reader.replace_source_output(source.output(0))
    others = [p for p in model.get_parameters() if p.get_name() != position.get_name()]
    rest = openvino.Model(model.get_results(), [frame, *others, *inputs])
    shapes = {n: list(o.shape) for n, o in zip(names, kept, strict=True)}
    frames = int(table.input_value(0).shape[0])
    return VisualSplit(number, visual_half, rest, name, frames, kind, shapes)


def _dependencies(model: Any) -> dict[str, frozenset[str]]:
    """Names of the inputs that each node depends on."""
    depends: dict[str, frozenset[str]] = {}
    for node in model.get_ordered_ops():
        name = node.get_name()
        if node.get_type_name() == "Parameter":
            depends[name] = frozenset([name])
        else:
            sources = (depends[v.get_node().get_name()] for v in node.input_values())
            depends[name] = frozenset().union(*sources)
    return depends


def _table(model: Any, depends: dict[str, frozenset[str]]) -> Any:
    """The node that gathers a frame's face: the rows of a constant, numbered by one input alone."""
    for node in model.get_ordered_ops():
        if (
            node.get_type_name() == "Gather"
            and node.input_value(0).get_node().get_type_name() == "Constant"
            and len(node.input_value(0).shape) == 4
            and list(node.input_value(1).shape) == [1]
            and len(depends[node.get_name()]) == 1
        ):
            return node
    return None


def _visual(
    model: Any, table: Any, depends: dict[str, frozenset[str]]
) -> tuple[set[str], list[Any]]:
    """Names of the nodes that follow from the table alone; the nodes that lead to it."""
    own = depends[table.get_name()]
    visual, numbering = {table.get_name()}, []
    for node in model.get_ordered_ops():
        name = node.get_name()
        if depends[name] != own or name in visual:
            continue
        if any(v.get_node().get_name() in visual for v in node.input_values()):
            visual.add(name)
        else:
            numbering.append(node)
    return visual, numbering


def _read_only_by(nodes: list[Any], readers: set[str]) -> bool:
    return all(reader.get_name() in readers for node in nodes for reader in _readers(node))


def _worth_keeping(model: Any, visual: set[str]) -> list[Any]:
    """Outputs of the visual half that the rest reads, but for those that are cheaper to compute again."""
    kept = []
    computed_anyway: set[str] = set()
    for node in model.get_ordered_ops():
        name = node.get_name()
        if name not in visual or all(r.get_name() in visual for r in _readers(node)):
            continue
        needed = {n.get_name(): n for n in _ancestors(node, visual)}
        work = sum(_multiply_adds(n) for k, n in needed.items() if k not in computed_anyway)
        (output,) = node.outputs()
        if work < _WORTH_KEEPING * np.prod(output.shape):
            computed_anyway |= set(needed)
        else:
            kept.append(output)
    return kept


def _readers(node: Any) -> list[Any]:
    return [i.get_node() for output in node.outputs() for i in output.get_target_inputs()]


def _ancestors(node: Any, among: set[str]) -> list[Any]:
    """The node and those before it, of the names given."""
    found, waiting = {node.get_name(): node}, [node]
    while waiting:
        for value in waiting.pop().input_values():
            source = value.get_node()
            if source.get_name() in among and source.get_name() not in found:
                found[source.get_name()] = source
                waiting.append(source)
    return list(found.values())


def _multiply_adds(node: Any) -> int:
    """Of a convolution; 0 of everything else."""
    if node.get_type_name() not in ("Convolution", "GroupConvolution"):
        return 0
    weights = list(node.input_value(1).shape)
    channels = int(node.output(0).shape[1])
    return int(np.prod(node.output(0).shape)) * int(np.prod(weights)) // channels


def _parameter(name: str, shape: list[int], element_type: Any) -> Any:
    parameter = ops.parameter(shape, element_type, name)
    parameter.output(0).set_names({name})
    return parameter
