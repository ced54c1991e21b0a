"""Callbacks for ``trainer.predict``: import them as ``reasonedit.callbacks``.

Each works without the others and in front of any LightningModule whose batches are dicts; :mod:`.batch` says which keys
they look for.
"""

from .charts import TensorBoardCharts
from .checks import EditChecks
from .codebook import Codebook
from .editor import Editor
from .lookup import find_callback
from .metrics import EditingMetrics
from .progress import StreamLines, StreamProgress
from .retriever import Retriever
from .runlog import RunLog
from .timer import QueryTimer
from .token_shares import TokenShares
from .writer import PredictionWriter

__all__ = [
    "Codebook",
    "EditChecks",
    "EditingMetrics",
    "Editor",
    "PredictionWriter",
    "QueryTimer",
    "Retriever",
    "RunLog",
    "StreamLines",
    "StreamProgress",
    "TensorBoardCharts",
    "TokenShares",
    "find_callback",
]
