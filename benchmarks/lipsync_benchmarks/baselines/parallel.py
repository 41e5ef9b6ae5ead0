"""The earlier systems that used several threads of their own."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import onnxruntime

from ..case import cores
from .arithmetic import Floats, open_session
from .sequential import Cached


@dataclass
class ParallelComposite(Cached):
    """A renderer with one session on all cores, and a pool of threads that composite and save behind it.

    The avatar's frames are in memory; the visual inputs are made for each batch. Its author reported
    41.11 FPS with 4 workers and batches of 4.
    """

    workers: int = 4
    batch: int = 4
    tensor_cache: bool = False

    def load_generator(self) -> list[onnxruntime.InferenceSession]:
        cv2.setNumThreads(1)  # the pool's threads use the cores
        return super().load_generator()

    def render(self, audio: Floats) -> Iterator[None]:
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for n in range(0, len(audio), self.batch):
                block = audio[n : n + self.batch]
                faces = np.stack([self.visual(self.avatar_frame(n + i)) for i in range(len(block))])
                outputs = self.infer(self.sessions[0], faces, block)
                pending += [
                    pool.submit(self.finish, n + i, output) for i, output in enumerate(outputs)
                ]
                while len(pending) > 2 * self.batch:  # bounds the memory
                    pending.popleft().result()
                    yield
            for future in pending:
                future.result()
                yield


@dataclass
class SessionPool(Cached):
    """A renderer whose workers each take a batch, borrow a single-threaded session, composite and save.

    There is one session per core; frames and visual inputs are in memory. This is the Go port's design.
    """

    workers: int = 4
    batch: int = 4

    def load_generator(self) -> list[onnxruntime.InferenceSession]:
        cv2.setNumThreads(1)
        return [open_session(self.inputs.generator, 1) for _ in range(cores())]

    def render(self, audio: Floats) -> Iterator[None]:
        free: queue.SimpleQueue[onnxruntime.InferenceSession] = queue.SimpleQueue()
        for session in self.sessions:
            free.put(session)

        def work(n: int) -> int:
            block = audio[n : n + self.batch]
            faces = np.stack([self.visual(self.avatar_frame(n + i)) for i in range(len(block))])
            session = free.get()
            try:
                outputs = self.infer(session, faces, block)
            finally:
                free.put(session)
            for i, output in enumerate(outputs):
                self.finish(n + i, output)
            return len(block)

        with ThreadPoolExecutor(self.workers) as pool:
            for made in pool.map(work, range(0, len(audio), self.batch)):
                yield from (None for _ in range(made))
