"""Processor, memory and GPU while a run works, for the tab that MLflow has for them.

A thread of this process reads MLflow's own monitors every ten seconds. It writes nothing: what it
has read is logged with the next numbers of the run, so no server is asked a second time, and
nothing is written once the run has ended.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping

from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from tunetrail.tracking.run_log import RunLog

log = logging.getLogger(__name__)

# MLflow's prefix, by which its pages know them.
PREFIX = "system/"
_SECONDS = 10.0
# Of a run that logs nothing for hours the last three hours are kept.
_MOST_SAMPLES = 1_000


@contextlib.contextmanager
def sampled(run_log: RunLog, *, wanted: bool) -> Iterator[None]:
    """Log what the machine does, with the numbers that the run logs until the block ends."""
    if not wanted:
        yield
        return
    sampler = _Sampler(run_log.started)
    run_log.take_samples = sampler.take
    sampler.start()
    try:
        yield
        # Those since the last numbers.
        run_log.metrics({})
    finally:
        sampler.stop()
        run_log.take_samples = list


class _Sampler(threading.Thread):
    def __init__(self, started: int) -> None:
        """Prepare to sample; ``started`` is when the run began, in milliseconds."""
        super().__init__(name="system-metrics", daemon=True)
        self._began = started
        self._interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or _SECONDS
        self._samples: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=_MOST_SAMPLES)
        self._is_over = threading.Event()

    def run(self) -> None:
        try:
            monitors = _build_monitors()
            # The first reading of a processor is of no time at all.
            _read(monitors)
            while not self._is_over.wait(self._interval):
                self._samples.append((int(time.time() * 1000), _read(monitors)))
        except Exception:
            # A machine may not tell; the run goes on without.
            log.debug("no system metrics any more", exc_info=True)

    def take(self) -> list[Metric]:
        """Return what was read since the last call; steps are seconds since the run began."""
        found = []
        while self._samples:
            now, values = self._samples.popleft()
            step = (now - self._began) // 1000
            found += [Metric(PREFIX + name, value, now, step) for name, value in values.items()]
        return found

    def stop(self) -> None:
        self._is_over.set()
        # A driver may hang; the thread is none that a process waits for.
        self.join(timeout=2)


def _build_monitors() -> list[BaseMetricsMonitor]:
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    # Without a GPU, or its driver, it refuses.
    with contextlib.suppress(Exception):
        monitors.append(GPUMonitor())
    return monitors


def _read(monitors: list[BaseMetricsMonitor]) -> dict[str, float]:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return values
