"""What is known of a server's work: a line of log for each request, and figures for Prometheus."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REQUESTS = "reasonedit.serve.requests"
"""The name of the logger that gets a line of JSON for each request."""

_log = logging.getLogger(REQUESTS)
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Figures for Prometheus: of requests, of questions and their facts, of the codebook."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"reasonedit_{name}", help, labels, registry=self.registry)

        self.requests = counter("requests", "Requests", "path", "status")
        self.questions = counter("questions", "Questions that were answered", "edits", "gate")
        self.facts = counter("facts", "Facts that stood before questions")
        self.tokens = counter("tokens", "Tokens of the local model", "kind")
        self.seconds = Histogram(
            "reasonedit_seconds", "Time of each part", ["part"], buckets=_BUCKETS, registry=self.registry
        )
        self.under_way = Gauge("reasonedit_under_way", "Requests under way", registry=self.registry)
        self.edits = Gauge("reasonedit_edits", "Edits of the codebook", ["state"], registry=self.registry)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


def log_request(entry: Mapping[str, Any]) -> None:
    """Write the line of one request. It is ASCII: no terminal obeys anything in it, and it is one line."""
    _log.info("%s", json.dumps(dict(entry), ensure_ascii=True, default=str))
