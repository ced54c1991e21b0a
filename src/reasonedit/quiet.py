"""What a command, and each process that it starts, leaves unsaid on the screen."""

from __future__ import annotations

import logging
import os
import warnings

from reasonedit.safe_text import to_safe_text


def quieten() -> None:
    """Leave the screen to our own progress; errors still come through."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it says each time that it tries again
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a page of frames where another rank is gone
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch and FAISS each have threads: do not let them spin
    warnings.filterwarnings(
        "ignore", module=r"(lightning|torch|transformers|jsonargparse|faiss|importlib|huggingface_hub|diffusers).*"
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_plain_handler()])
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.fabric.utilities.distributed",
        "sentence_transformers",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


def _plain_handler() -> logging.Handler:
    """A handler that logs to the terminal: its messages quote texts that somebody else wrote."""

    class Plain(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return to_safe_text(super().format(record), lines=True)

    handler = logging.StreamHandler()
    handler.setFormatter(Plain("%(message)s"))
    return handler
