"""The same text in other words: how far a key's text half reaches."""

from __future__ import annotations

import random
from typing import Protocol

from reasonedit.errors import ReasonEditError

RULES = "rules"
_QUESTIONS = (
    "Tell me: {lower}",
    "Can you say {lower}",
    "Looking at the image, {lower}",
    "Please answer: {lower}",
)
_STATEMENTS = ("Is it true that {lower}?", "Is it the case that {lower}?", "Does it hold that {lower}?")


class Paraphraser(Protocol):
    """Says a text in other words."""

    def __call__(self, text: str, rng: random.Random) -> str:
        """A question in other words, or a statement as a question about itself."""
        ...


def by_rules(text: str, rng: random.Random) -> str:
    """Paraphrase without a language model.

    >>> by_rules("A kettle is used for boiling.", random.Random(0)).endswith("a kettle is used for boiling?")
    True
    """
    lower = text[:1].lower() + text[1:]
    if text.rstrip().endswith("?"):
        return rng.choice(_QUESTIONS).format(lower=lower)
    return rng.choice(_STATEMENTS).format(lower=lower.rstrip(" .!"))


class ByModel:
    """Paraphrases by a text-generation model of transformers.

    Args:
        model: Hub id or folder of an instruction-tuned language model.

    Raises:
        ReasonEditError: It cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        from transformers import pipeline

        try:
            self._generate = pipeline("text-generation", model=model, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ReasonEditError(
                f"There is no text-generation model '{model}' to paraphrase with: name a hub id, a folder, or 'rules'."
            ) from error

    def __call__(self, text: str, rng: random.Random) -> str:
        """Ask the model; where it says nothing, or the same again, the rules do it."""
        task = "Rephrase this question" if text.rstrip().endswith("?") else "Turn this statement into a yes/no question"
        chat = [{"role": "user", "content": f"{task}, keeping all names. Answer with the question only.\n{text}"}]
        # A paraphrase is about as long as the text, and must not be cut off.
        options = {"max_new_tokens": 64 + len(text) // 2, "do_sample": False, "return_full_text": False}
        said = self._generate(chat, **options)[0]["generated_text"]
        lines = str(said).strip().splitlines()
        return lines[0].strip() if lines and lines[0].strip() not in ("", text) else by_rules(text, rng)


def paraphraser(name: str) -> Paraphraser:
    """``"rules"``, or a text-generation model by hub id or folder."""
    return by_rules if name == RULES else ByModel(name)
