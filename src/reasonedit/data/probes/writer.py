"""Language models that write probes: any OpenAI-compatible endpoint, or a local model of transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from reasonedit.errors import ReasonEditError, needed

OPENAI = "openai:"
_TRIES = 6
_SECONDS = 120.0


class Writer(Protocol):
    """What writes a text."""

    name: str

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt; empty where there is none."""
        ...


def writer_of(name: str) -> Writer:
    """A writer by name.

    Args:
        name: ``"openai:MODEL"`` for an endpoint, or the hub id, folder or ``.gguf`` file of a local model.

    Raises:
        ReasonEditError: It cannot be had.
    """
    return OpenAIWriter(name.removeprefix(OPENAI)) if name.startswith(OPENAI) else LocalWriter.from_pretrained(name)


class OpenAIWriter:
    """A model behind an OpenAI-compatible endpoint, named by ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``.

    The client tries again, with growing pauses, where the endpoint is busy (429), slow, broken (5xx) or not there.

    Args:
        model: The endpoint's name of the model.
        tries: How often it tries again.
        seconds: How long it waits for a reply.

    Raises:
        ReasonEditError: There is no key.
    """

    def __init__(self, model: str, tries: int = _TRIES, seconds: float = _SECONDS) -> None:
        openai = needed("openai", "data")
        if not os.environ.get("OPENAI_API_KEY"):
            raise ReasonEditError("OPENAI_API_KEY is not set: set it (to anything for a server of your own).")
        self.model, self.name = model, f"{OPENAI}{model}"
        self._client = openai.OpenAI(max_retries=tries, timeout=seconds)
        self._where = str(self._client.base_url)

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt; empty where the endpoint's answer holds none.

        Raises:
            ReasonEditError: The endpoint cannot be used, or was not to be had however often it was tried.
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
            raise ReasonEditError(
                f"The endpoint {self._where} refuses the key in OPENAI_API_KEY: {_said(error)}"
            ) from error
        except (openai.NotFoundError, openai.BadRequestError) as error:
            raise ReasonEditError(
                f"The endpoint {self._where} does not serve '{self.model}' so: {_said(error)}"
            ) from error
        except openai.APIStatusError as error:
            raise ReasonEditError(
                f"The endpoint {self._where} answered {error.status_code} even when asked again: {_said(error)}"
            ) from error
        except openai.APIConnectionError as error:  # time-outs too
            why = type(error.__cause__ or error).__name__
            raise ReasonEditError(
                f"The endpoint {self._where} cannot be reached or does not reply ({why}): check OPENAI_BASE_URL and "
                "whether the server runs."
            ) from error
        except (openai.APIError, ValueError):  # what came back is no JSON, or none of the expected form
            return ""
        choices = getattr(reply, "choices", None) or [None]
        return str(getattr(getattr(choices[0], "message", None), "content", None) or "").strip()


class LocalWriter:
    """A text-generation model on this machine.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer; its chat template is used where it has one.
        name: Where it was loaded from.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name

    @classmethod
    def from_pretrained(cls, name: str) -> LocalWriter:
        """Load one by hub id or folder, or from a GGUF file.

        Raises:
            ReasonEditError: It cannot be had.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from reasonedit.vlm import best_dtype

        path = Path(name)
        where, options = (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (name, {})
        try:
            if options and not path.is_file():
                raise OSError(f"there is no file '{name}'")
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **options)
            model: Any = AutoModelForCausalLM.from_pretrained(
                where, dtype=best_dtype(), trust_remote_code=False, **options
            )
        except (OSError, ValueError, ImportError) as error:
            raise ReasonEditError(
                f"There is no language model '{name}' ({str(error).splitlines()[0]}): give 'openai:MODEL', a hub id, a "
                "folder or a .gguf file."
            ) from error
        if torch.cuda.is_available():
            model.to("cuda")
        return cls(model, tokenizer, name)

    def write(self, prompt: str, seed: int, max_tokens: int = 128) -> str:
        """The reply to a prompt, drawn by the seed."""
        import torch

        if self.tokenizer.chat_template:
            prompt = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
        begun = bool(self.tokenizer.bos_token) and prompt.startswith(self.tokenizer.bos_token)
        inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=not begun).to(self.model.device)
        inputs.pop("token_type_ids", None)
        pad = self.tokenizer.pad_token_id
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            made = self.model.generate(
                **inputs,
                do_sample=True,
                temperature=0.7,
                max_new_tokens=max_tokens,
                pad_token_id=pad if pad is not None else self.tokenizer.eos_token_id,
            )
        return str(self.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def _said(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message).splitlines()[0].rstrip(".") + "."
