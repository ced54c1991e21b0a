"""What an image and a text are compared by."""

from .dual import DualEmbedder, EmbeddingConfig
from .sentence import SentenceEncoder

__all__ = ["DualEmbedder", "EmbeddingConfig", "SentenceEncoder"]
