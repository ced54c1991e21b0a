"""A language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from reasonedit.vlm.endpoint.connection import Connection, UnreadableReplyError
from reasonedit.vlm.endpoint.names import PREFIX, EndpointSettings

_TRIES = 6
_SECONDS = 120.0


class OpenAIWriter:
    """A model behind an OpenAI-compatible endpoint, named by ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``.

    Args:
        model: The endpoint's name of the model.
        tries: How often it tries again.
        seconds: How long it waits for a reply.

    Raises:
        InputError: There is no key.
        UnavailableError: The package openai is not installed.
    """

    def __init__(self, model: str, tries: int = _TRIES, seconds: float = _SECONDS) -> None:
        self.model, self.name = model, f"{PREFIX}{model}"
        self.connection = Connection(EndpointSettings(model, timeout=seconds, retries=tries))

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt; empty where the endpoint's answer holds none.

        Raises:
            UnavailableError: The endpoint cannot be used, or could not be reached however often it was tried.
        """
        messages = [{"role": "user", "content": prompt}]
        try:
            reply = self.connection.chat(messages, seed=seed, temperature=0.7, max_tokens=max_tokens)
        except UnreadableReplyError:
            return ""
        return str(reply.choices[0].message.content or "").strip()
