"""The earlier systems that used more than one thread of their own."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .baselines import Cached, Floats, ping_pong, session
from .case import cores


@dataclass
class ParallelComposite(Cached):
    """Batches through one session on all cores; a pool of threads composites and saves behind it.

    The backgrounds are in memory, the input tensors are made for each batch. ("41.11 FPS" at 4 x 4.)
    """

    workers: int = 4
    batch: int = 4

    tensor_cache: bool = False

    def load_generator(self) -> list[Any]:
        cv2.setNumThreads(1)  # the pool is the parallelism
        return super().load_generator()

    def render(self, audio: Floats) -> Iterator[None]:
        count = len(self.material.rects)
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for n in range(0, len(audio), self.batch):
                block = audio[n : n + self.batch]
                faces = np.stack([self.visual(ping_pong(n + i, count)) for i in range(len(block))])
                outputs = self.infer(self.sessions[0], faces, block)
                pending += [
                    pool.submit(self.finish, n + i, output) for i, output in enumerate(outputs)
                ]
                while len(pending) > 2 * self.batch:  # no more than that waits in memory
                    pending.popleft().result()
                    yield
            for done in pending:
                done.result()
                yield


@dataclass
class SessionPool(Cached):
    """Workers that each take a batch, borrow one of the single-threaded sessions, composite and save.

    One session a core; tensors and backgrounds in memory. (The Go port's design.)
    """

    workers: int = 4
    batch: int = 4

    def load_generator(self) -> list[Any]:
        cv2.setNumThreads(1)
        return [session(self.material.generator, 1) for _ in range(cores())]

    def render(self, audio: Floats) -> Iterator[None]:
        count = len(self.material.rects)
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for one in self.sessions:
            free.put(one)

        def work(n: int) -> int:
            block = audio[n : n + self.batch]
            faces = np.stack([self.visual(ping_pong(n + i, count)) for i in range(len(block))])
            borrowed = free.get()
            try:
                outputs = self.infer(borrowed, faces, block)
            finally:
                free.put(borrowed)
            for i, output in enumerate(outputs):
                self.finish(n + i, output)
            return len(block)

        with ThreadPoolExecutor(self.workers) as pool:
            for made in pool.map(work, range(0, len(audio), self.batch)):
                yield from (None for _ in range(made))
