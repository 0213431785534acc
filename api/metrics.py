"""What Prometheus reads: how long answers take, what waits, what was found again, which build serves."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The numbers of one process; safe to share between threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._seconds = Histogram(
            "genatlas_request_seconds",
            "Seconds from a request to the end of its answer",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._looked = Counter(
            "genatlas_answer_cache_total", "Looks into the cache of answers", ("found",), registry=self.registry
        )
        self._runs = Gauge("genatlas_demo_runs", "Demo runs by state", ("state",), registry=self.registry)
        self._ended = Counter("genatlas_demo_runs_ended_total", "Demo runs ended", ("state",), registry=self.registry)
        self._build = Info("genatlas_build", "The build that serves", registry=self.registry)
        self._topics = Gauge("genatlas_topics", "Topics of the build that serves", registry=self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has its answer; `route` is the pattern that it matched."""
        self._seconds.labels(method, route, str(status)).observe(seconds)

    def looked(self, found: bool) -> None:
        """The cache of answers was asked."""
        self._looked.labels(str(found).lower()).inc()

    def run_ended(self, state: str) -> None:
        """A demo run is over."""
        self._ended.labels(state).inc()

    def text(self, build: str, topics: int, waiting: int, running: int) -> bytes:
        """Everything as Prometheus reads it, with how things stand now."""
        self._build.info({"id": build})
        self._topics.set(topics)
        self._runs.labels("queued").set(waiting)
        self._runs.labels("running").set(running)
        return generate_latest(self.registry)
