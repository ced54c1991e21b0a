"""Requests to an endpoint: through OpenAI's client, several at once, up to a limit, and with one error each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from reasonedit.errors import InputError, UnavailableError, needed
from reasonedit.util.threads import Guard

from .names import EndpointSettings

T = TypeVar("T")
R = TypeVar("R")

_TOO_LONG = ("context length", "context_length", "maximum context", "max_model_len", "too many tokens")


class RefusedError(UnavailableError):
    """The endpoint does not serve what it was asked for, such as a model or a parameter."""


class UnreadableReplyError(UnavailableError):
    """The endpoint's reply is not of the form that the protocol has."""


class Connection:
    """An endpoint.

    The client tries again, with growing pauses or as ``Retry-After`` says, where the endpoint is busy (429), slow,
    broken (5xx) or not there. Any number of threads may use it, and a forked process gets a client of its own.

    Args:
        settings: The model, the address and the limits.

    Attributes:
        settings: What was given.
        requests: Number of requests that were begun.
        tokens: Number of tokens that were read and written, as far as the endpoint says.

    Raises:
        InputError: There is no key.
        UnavailableError: The package openai is not installed.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        needed("openai", "openai")
        if not os.environ.get("OPENAI_API_KEY"):
            raise InputError("OPENAI_API_KEY is not set: set it (to anything for a server of your own).")
        self.settings = settings
        self.requests = self.tokens = 0
        self._counting = Guard()
        self._process = -1
        self._begin()
        self.address = str(self.client.base_url)

    def _begin(self) -> None:
        import openai

        s = self.settings
        self.client = openai.OpenAI(base_url=s.base_url or None, max_retries=s.retries, timeout=s.timeout)
        self._pool = ThreadPoolExecutor(s.concurrency, thread_name_prefix="endpoint")
        self._process = os.getpid()

    def map(self, ask: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Ask about several things at once, as many as the settings allow; the first error counts."""
        with self._counting:
            if self._process != os.getpid():  # threads and connections stay behind in the parent
                self._begin()
        return list(self._pool.map(ask, items))

    def chat(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        """One chat completion with at least one choice.

        Args:
            messages: What was said so far.
            **options: Other values of the request.

        Raises:
            InputError: The messages are longer than the model reads.
            RefusedError: The endpoint does not serve the model or an option.
            UnreadableReplyError: The reply is no chat completion.
            UnavailableError: The endpoint cannot be used, could not be reached however often it was tried, or the
                limit is reached.
        """
        self._spend()
        with self._refusals():
            completions: Any = self.client.chat.completions
            reply = completions.create(model=self.settings.model, messages=messages, **options)
        choices = getattr(reply, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise UnreadableReplyError(f"The endpoint {self.address} did not answer with a chat completion.")
        self._count(reply)
        return reply

    def about_model(self) -> dict[str, Any]:
        """What the endpoint's list of models says of the model; nothing where there is no list."""
        try:
            with self._refusals():
                listed = [dict(model) for model in self.client.models.list()]
        except (UnavailableError, TypeError):  # it may answer, and have no list for this key
            return {}
        return next((model for model in listed if model.get("id") == self.settings.model), {})

    def _spend(self) -> None:
        """Count a request.

        Raises:
            UnavailableError: The limit of requests or tokens is reached.
        """
        s = self.settings
        with self._counting:
            for name, most, used in (
                ("max_requests", s.max_requests, self.requests),
                ("max_total_tokens", s.max_total_tokens, self.tokens),
            ):
                if most is not None and used >= most:
                    raise UnavailableError(
                        f"The limit for the endpoint {self.address} is reached ({name} = {most}): raise it to go on."
                    )
            self.requests += 1

    def _count(self, reply: Any) -> None:
        used = getattr(getattr(reply, "usage", None), "total_tokens", None)
        if used is None and self.settings.max_total_tokens is not None:
            raise UnavailableError(
                f"The endpoint {self.address} does not say how many tokens it took, so max_total_tokens cannot be "
                "kept: set max_requests in its place."
            )
        with self._counting:
            self.tokens += int(used or 0)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Have what goes wrong within be one error of ours."""
        import openai

        where, model = self.address, self.settings.model
        try:
            yield
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            said = _message_of(error)
            if "logprob" in said.lower():  # OpenAI forbids them of its reasoning models, whatever the key
                raise RefusedError(
                    f"The endpoint {where} does not serve '{model}' as it was asked to: {said}"
                ) from error
            raise UnavailableError(f"The endpoint {where} refuses the key in OPENAI_API_KEY: {said}") from error
        except openai.APIStatusError as error:
            said = _message_of(error)
            if error.status_code in (400, 413, 422) and any(words in said.lower() for words in _TOO_LONG):
                raise InputError(f"The question is longer than '{model}' reads: shorten it. It says: {said}") from error
            if error.status_code in (400, 404, 422):
                raise RefusedError(
                    f"The endpoint {where} does not serve '{model}' as it was asked to: {said}"
                ) from error
            again = " even when asked again" if self.settings.retries else ""
            raise UnavailableError(f"The endpoint {where} answered {error.status_code}{again}: {said}") from error
        except openai.APIConnectionError as error:  # time-outs too
            why = type(error.__cause__ or error).__name__
            raise UnavailableError(
                f"The endpoint {where} cannot be reached or does not reply ({why}): check OPENAI_BASE_URL or base_url, "
                "and whether the server runs."
            ) from error
        except (openai.APIError, ValueError) as error:  # the reply is no JSON, or has another form
            raise UnreadableReplyError(f"The endpoint {where} did not answer with JSON.") from error


def _message_of(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    lines = str(body.get("message") or error.message).splitlines() or [""]
    return lines[0].rstrip(".") + "."
