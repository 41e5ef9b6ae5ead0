"""Toy networks and small helpers of the preprocessing tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from lipsync_preprocessing import networks

Array = npt.NDArray[Any]
Runner = Callable[..., Array]
TOY = 1 / 16


@pytest.fixture(scope="session")
def generator_state() -> dict[str, Array]:
    return networks.random_generator_state(TOY, seed=1)


@pytest.fixture(scope="session")
def encoder_state() -> dict[str, Array]:
    return networks.random_audio_encoder_state(seed=1, width=1 / 4)


@pytest.fixture(scope="session")
def run() -> Runner:
    """Run a model (or a file) on the CPU with two threads; returns its first output."""

    def run_model(model: Any, **feeds: Array) -> Array:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 4
        source = model if isinstance(model, str) else model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, feeds)[0])

    return run_model


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
