"""From a query's embedding to the facts put before its question."""

from .gate import PercentileGate
from .index import ExactIndex
from .retrieve import DEFAULT_K, DEFAULT_PERCENTILE, FactRetriever, Retrieval, with_facts

__all__ = [
    "DEFAULT_K",
    "DEFAULT_PERCENTILE",
    "ExactIndex",
    "FactRetriever",
    "PercentileGate",
    "Retrieval",
    "with_facts",
]
