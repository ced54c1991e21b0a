"""From a query's embedding to the facts put before its question."""

from .approximate import EXACT_UP_TO, ApproximateIndex
from .chain import link_facts
from .choose import NEAREST, choose_facts
from .config import RetrievalConfig
from .gate import PercentileGate
from .hubs import HubScale
from .index import ExactIndex
from .naming import join_named
from .prompting import fit_prompts
from .results import NearKey, Retrieval
from .retrieve import FactRetriever
from .verify import verify_facts
from .walk import walk_facts

__all__ = [
    "EXACT_UP_TO",
    "NEAREST",
    "ApproximateIndex",
    "ExactIndex",
    "FactRetriever",
    "HubScale",
    "NearKey",
    "PercentileGate",
    "Retrieval",
    "RetrievalConfig",
    "choose_facts",
    "fit_prompts",
    "join_named",
    "link_facts",
    "verify_facts",
    "walk_facts",
]
