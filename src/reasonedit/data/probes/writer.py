"""What writes texts for probes: any OpenAI-compatible endpoint, or a local model of transformers."""

from __future__ import annotations

from typing import Protocol

from reasonedit.vlm.endpoint.names import PREFIX

from .local_writer import LocalWriter
from .openai_writer import OpenAIWriter


class Writer(Protocol):
    """What writes a text."""

    name: str

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt; empty where there is none."""
        ...


def load_writer(name: str) -> Writer:
    """A writer by name.

    Args:
        name: ``"openai:MODEL"`` for an endpoint, or the hub id, folder or ``.gguf`` file of a local model.

    Raises:
        InputError: There is no key for the endpoint.
        UnavailableError: It cannot be loaded.
    """
    return OpenAIWriter(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else LocalWriter.from_pretrained(name)
