"""From a query's embedding to the facts put before its question."""

from .gate import PercentileGate
from .index import ExactIndex
from .retrieve import FactRetriever, Retrieval, with_facts

__all__ = ["ExactIndex", "FactRetriever", "PercentileGate", "Retrieval", "with_facts"]
