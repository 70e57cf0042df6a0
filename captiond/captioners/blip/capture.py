"""Capturing kernels as a CUDA graph, which the host launches as one."""

from collections.abc import Callable
from typing import Any

import structlog
import torch

from captiond.captioners.blip.attention import planned

log = structlog.get_logger()
WARM_UPS = 3  # runs before a capture, in which libraries choose kernels and allocate memory
Run = Callable[[], object]
Capture = Callable[[Run], Run]  # returns a function that does the same, with less launch overhead


class CudaCapture:
    """Captures graphs on one device. They share their memory, as they run one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda: Any = torch.cuda
        self._device = device
        self._warming = self._cuda.Stream(device)
        self._pool = self._cuda.graph_pool_handle()
        self._first: Run | None = None

    def __call__(self, run: Run) -> Run:
        """Run a function a few times, and return its graph; or the function, if capturing fails.

        Attention makes plans for the shapes (`attention.planned`).
        """
        with self._cuda.device(self._device), planned():
            if self._first is None:
                # A pool whose graphs have all gone cannot be used again, so this one stays.
                number = torch.zeros(1, device=self._device)
                self._first = self._captured(lambda: number.add_(1))
            self._warm_up(run)
            return self._captured(run)

    def _warm_up(self, run: Run) -> None:
        self._warming.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(self._warming):
            for _ in range(WARM_UPS):
                run()
        self._cuda.current_stream().wait_stream(self._warming)

    def _captured(self, run: Run) -> Run:
        graph, stream = self._cuda.CUDAGraph(), self._cuda.current_stream()
        try:
            with self._cuda.graph(graph, pool=self._pool):
                run()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("no_cuda_graph", reason=str(error))
            return run
        finally:
            self._cuda.set_stream(stream)  # a failed capture does not restore it
        replay: Run = graph.replay
        return replay
