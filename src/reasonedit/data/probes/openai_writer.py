"""A language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from typing import Any

from reasonedit.errors import InputError, UnavailableError, needed

PREFIX = "openai:"
_TRIES = 6
_SECONDS = 120.0


class OpenAIWriter:
    """A model behind an OpenAI-compatible endpoint, named by ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``.

    The client tries again, with growing pauses, where the endpoint is busy (429), slow, broken (5xx) or not there.

    Args:
        model: The endpoint's name of the model.
        tries: How often it tries again.
        seconds: How long it waits for a reply.

    Raises:
        InputError: There is no key.
        UnavailableError: The package openai is not installed.
    """

    def __init__(self, model: str, tries: int = _TRIES, seconds: float = _SECONDS) -> None:
        openai = needed("openai", "data")
        if not os.environ.get("OPENAI_API_KEY"):
            raise InputError("OPENAI_API_KEY is not set: set it (to anything for a server of your own).")
        self.model, self.name = model, f"{PREFIX}{model}"
        self._client = openai.OpenAI(max_retries=tries, timeout=seconds)
        self._address = str(self._client.base_url)

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt; empty where the endpoint's answer holds none.

        Raises:
            UnavailableError: The endpoint cannot be used, or could not be reached however often it was tried.
        """
        import openai

        try:
            reply: Any = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                seed=seed,
                temperature=0.7,
                max_tokens=max_tokens,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UnavailableError(
                f"The endpoint {self._address} refuses the key in OPENAI_API_KEY: {_message_of(error)}"
            ) from error
        except (openai.NotFoundError, openai.BadRequestError) as error:
            raise UnavailableError(
                f"The endpoint {self._address} does not serve '{self.model}' as it was asked to: {_message_of(error)}"
            ) from error
        except openai.APIStatusError as error:
            raise UnavailableError(
                f"The endpoint {self._address} answered {error.status_code} even when asked again: {_message_of(error)}"
            ) from error
        except openai.APIConnectionError as error:  # time-outs too
            why = type(error.__cause__ or error).__name__
            raise UnavailableError(
                f"The endpoint {self._address} cannot be reached or does not reply ({why}): check OPENAI_BASE_URL and "
                "whether the server runs."
            ) from error
        except (openai.APIError, ValueError):  # the reply is no JSON, or has another form
            return ""
        choices = getattr(reply, "choices", None) or [None]
        return str(getattr(getattr(choices[0], "message", None), "content", None) or "").strip()


def _message_of(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message).splitlines()[0].rstrip(".") + "."
