"""From a query's embedding to the facts put before its question."""

from .approximate import EXACT_UP_TO, ApproximateIndex
from .chain import chained
from .config import DEFAULT_K, DEFAULT_PERCENTILE, RetrievalConfig
from .fit import fitting
from .gate import PercentileGate
from .hubs import HubScale
from .index import ExactIndex
from .retrieve import FactRetriever, Retrieval
from .verify import verified

__all__ = [
    "DEFAULT_K",
    "DEFAULT_PERCENTILE",
    "EXACT_UP_TO",
    "ApproximateIndex",
    "ExactIndex",
    "FactRetriever",
    "HubScale",
    "PercentileGate",
    "Retrieval",
    "RetrievalConfig",
    "chained",
    "fitting",
    "verified",
]
