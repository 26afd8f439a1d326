"""Module + weights -> `model.onnx`, checked against the module.

The graph holds no weights of its own: each parameter points into `model.safetensors`, so both
runtimes read the same bytes and a checkpoint stores them once.
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from perceptd.models.checkpoint import GRAPH, WEIGHTS, CheckpointError, tensor_offsets
from perceptd.models.graph import open_graph
from perceptd.models.networks.layers import Probabilities
from perceptd.models.spec import ModelSpec

OUTPUT = "probabilities"
TOLERANCE = 1e-5
OPSET = 20


class ExportError(CheckpointError):
    """The module cannot be exported, or its graph returns other probabilities."""


def export(module: nn.Module, spec: ModelSpec, folder: Path) -> None:
    """Write `model.onnx`, for any batch size, beside the module's `model.safetensors`.

    The module must be on the CPU. Raises `ExportError` if graph and module differ by more than
    1e-5 in any probability.
    """
    classifier = Probabilities(module, spec.head).eval()
    rows = torch.zeros(2, *spec.input.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                classifier,
                (rows,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.input.name],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"the module cannot be exported: {error}") from error
    if program is None:
        raise ExportError("the module cannot be exported: torch.onnx.export returned no graph")
    graph = program.model_proto
    _refer_to_weights(graph, folder / WEIGHTS)
    _strip_metadata(graph)
    (folder / GRAPH).write_bytes(graph.SerializeToString())
    _check(classifier, spec, folder / GRAPH)


def _refer_to_weights(graph: onnx.ModelProto, weights_file: Path) -> None:
    """Replace each parameter's bytes with a reference to the same bytes in the weights file."""
    weights = weights_file.read_bytes()
    offsets = tensor_offsets(weights_file)
    for tensor in graph.graph.initializer:
        offset, length = offsets.get(tensor.name.removeprefix("module."), (0, 0))
        if not length or tensor.raw_data != weights[offset : offset + length]:
            continue  # a constant or a folded parameter stays in the graph
        onnx.external_data_helper.set_external_data(
            tensor, weights_file.name, offset=offset, length=length
        )
        tensor.ClearField("raw_data")


def _strip_metadata(graph: onnx.ModelProto) -> None:
    """Drop the exporter's metadata: stack traces with paths of this machine."""
    for node in graph.graph.node:
        del node.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        del value.metadata_props[:]
    del graph.graph.metadata_props[:]


def _check(classifier: nn.Module, spec: ModelSpec, graph_file: Path) -> None:
    session = open_graph(graph_file)
    random = np.random.default_rng(0)
    low = -3.0 if spec.input.minimum is None else spec.input.minimum
    high = 3.0 if spec.input.maximum is None else spec.input.maximum
    for batch_size in (1, 2, 65):
        rows = random.uniform(low, high, (batch_size, *spec.input.shape)).astype(np.float32)
        with torch.inference_mode():
            expected = classifier(torch.from_numpy(rows)).numpy()
        if expected.shape != (batch_size, len(spec.labels)):
            raise ExportError(
                f"expected probabilities of shape {(batch_size, len(spec.labels))} for "
                f"{len(spec.labels)} labels, got {expected.shape} from the module"
            )
        (answer,) = session.run([OUTPUT], {spec.input.name: rows})
        if answer.shape != expected.shape:
            raise ExportError(
                f"the graph returns shape {answer.shape}, the module {expected.shape}"
            )
        difference = float(np.abs(answer - expected).max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the graph differs from the module by {difference:.2g} "
                f"in a batch of {batch_size}, more than {TOLERANCE}"
            )
