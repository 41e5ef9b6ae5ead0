"""Running a user's network once, with a limit of time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from lipsync_preprocessing.errors import ModelError, one_line

TIMEOUT_S = 120.0  # a frame of the full-size generator takes 0.05 s
FATAL = 4  # ONNX Runtime's log level: errors are raised, and need not be logged too


def run_model(
    model: onnx.ModelProto, feeds: Mapping[str, npt.NDArray[Any]], timeout_s: float = TIMEOUT_S
) -> npt.NDArray[Any]:
    """Return the first output of one run on the CPU.

    Raises:
        ModelError: ONNX Runtime cannot load or run the model, or not within `timeout_s` seconds.
    """
    session_options, run_options = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    session_options.log_severity_level = run_options.log_severity_level = FATAL
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        run_options.terminate = True

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options, providers=["CPUExecutionProvider"]
        )
        timer.start()
        return np.asarray(session.run(None, dict(feeds), run_options)[0])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        if expired.is_set():
            raise ModelError(
                f"expected a network that runs within {timeout_s:g} s, it was stopped: does it loop?"
            ) from error
        raise ModelError(f"ONNX Runtime cannot run it: {one_line(error)}") from error
    finally:
        timer.cancel()
