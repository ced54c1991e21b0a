"""Prompts of a frozen model, their tokens, and the room for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.prompts import with_choices
from reasonedit.util.threads import guarded

from .checkpoint import first_line
from .frozen import FrozenModel
from .interface import Turn
from .reply import close_thought
from .vision import Seen

_CONTEXT = 24  # characters at the end of a prompt that can change how the text after it is split into tokens


class TextSide(FrozenModel):
    """The text side of a frozen model: prompts, their tokens, and the room for them."""

    # ---- prompts

    @guarded
    def format_prompt(self, text: str) -> str:
        """The prompt for a text about one image, by the chat template.

        Raises:
            InputError: The model has no chat template, or it takes no image.
        """
        content = [{"type": "image"}, {"type": "text", "text": text}]
        return self._format([{"role": "user", "content": content}])

    @guarded
    def format_turns(self, turns: Sequence[Turn]) -> str:
        """The prompt of a conversation about one image, by the chat template.

        The image stands at its head, whichever turn it came with, as in the prompt of a single question: so the model
        reads it once for all that is asked about it. What the system says stands before the first thing that the user
        says, as not every template has a place of its own for it. Where the assistant begins, both stand in a turn of
        the user before that: nothing can come before the image, and many templates take no other beginning.

        Args:
            turns: What was said, in turns of the user and the assistant, the user's last.

        Raises:
            InputError: The model has no chat template, or it takes no such turns.
        """
        if self.processor.chat_template is None:
            raise InputError(f"The model '{self.name}' has no chat template: ask it one question without other turns.")
        told = [text for role, text in turns if role == "system"]
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns if role != "system"
        ]
        if messages[0]["role"] != "user":
            messages.insert(0, {"role": "user", "content": [{"type": "text", "text": ""}]})
        texts = [*told, messages[0]["content"][0]["text"]]  # type: ignore[index]
        begins = "\n\n".join(text for text in texts if text)
        messages[0]["content"] = [{"type": "image"}, {"type": "text", "text": begins}]
        return self._format(messages)

    @property
    def question_template(self) -> str:
        """The prompt of the question "?"; empty where the model has no chat template that takes it."""
        try:
            return self.format_prompt("?")
        except ReasonEditError:  # whoever asks the model is told so
            return ""

    def clean(self, text: str) -> str:
        """Take out of a text whatever would make it more than text: what users store is data.

        That is special tokens, image placeholders, and the colon after a word that begins somebody's turn in this
        model's prompts ("ASSISTANT:").
        """
        while (cleaned := self._turns.sub(r"\1", self.special.sub("", text))) != text:
            text = cleaned
        return text

    @cached_property
    def _turns(self) -> re.Pattern[str]:
        frame = self.special.sub("", self.question_template)
        words = sorted(set(re.findall(r"(\w+)\s*[:\uff1a]", frame)))
        return re.compile(rf"(?i)\b({'|'.join(words)})\s*[:\uff1a]" if words else r"(?!)()")

    def prompt(self, text: str, choices: Sequence[str] | None = None, earlier: Sequence[Turn] = ()) -> str:
        """The prompt for a question about one image, after its facts, if any; see :meth:`format_prompt`.

        Args:
            text: The question.
            choices: Its choices.
            earlier: The turns before it; see :meth:`format_turns`.
        """
        text = self.clean(text)
        if choices:
            text = with_choices(text, [self.clean(choice) for choice in choices])
        if earlier:
            return self.format_turns([*((role, self.clean(said)) for role, said in earlier), ("user", text)])
        return self.format_prompt(text)

    @guarded
    def format_text(self, text: str) -> str:
        """The prompt for a text without an image, by the chat template.

        Raises:
            InputError: The model has no chat template, or it does not take the text.
        """
        return self._format([{"role": "user", "content": [{"type": "text", "text": text}]}])

    def _format(self, messages: list[dict[str, Any]]) -> str:
        """The prompt of messages by the chat template.

        Raises:
            InputError: The model has no chat template, or it does not take the messages.
        """
        if self.processor.chat_template is None:
            raise InputError(
                f"The model '{self.name}' has no chat template: put a chat_template.jinja into its folder."
            )
        try:
            return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # a template can raise anything
            raise InputError(
                f"The chat template of '{self.name}' does not take these turns: {first_line(error)}"
            ) from error

    # ---- tokens

    @guarded
    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts in which the image's tokens stand already."""
        # A tokenizer that begins with a BOS token adds it, unless the template wrote it already.
        has_bos = bool(self.tokenizer.bos_token) and self.tokenizer.bos_token in texts[0]
        return list(self.tokenizer(list(texts), add_special_tokens=not has_bos)["input_ids"])

    @guarded
    def token_ids_after_image(self, prompt: str, placeholder: str) -> tuple[int, ...]:
        """Token ids of what follows the image's last token in a prompt.

        Args:
            prompt: The prompt.
            placeholder: What stands for the image: :attr:`Seen.placeholder`.
        """
        word = self._image_word
        shortened = re.sub(f"(?:{re.escape(word)})+", lambda _: word, placeholder)
        ids = self.token_ids([prompt.replace(self.image_token, shortened, 1)])[0]
        return tuple(ids[len(ids) - ids[::-1].index(self.image_token_id) :])

    @guarded
    def count_image_tokens(self, placeholder: str) -> int:
        """Number of tokens that stand for an image, marks of tiles and line breaks among them included.

        Args:
            placeholder: What stands for the image: :attr:`Seen.placeholder`.
        """
        word = self._image_word
        shortened, runs = re.subn(f"(?:{re.escape(word)})+", lambda _: word, placeholder)
        around = len(self.tokenizer(shortened, add_special_tokens=False)["input_ids"]) - runs
        return placeholder.count(word) + around

    @cached_property
    def _image_word(self) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(self.image_token_id))

    @guarded
    def count_tokens(self, prompt: str) -> int:
        """Number of tokens of a prompt; its image counts as one."""
        return len(self.tokenizer(prompt)["input_ids"])

    @guarded
    def continuation(self, prompt: str, text: str) -> list[int]:
        """Token ids of a text that follows a prompt.

        Raises:
            InputError: The text is empty, or nothing is left of it once it is cleaned.
        """
        cleaned = self.clean(text).strip()
        ids = self._ids_after(prompt, cleaned if prompt[-1:].isspace() else f" {cleaned}") if cleaned else []
        if not ids:
            raise InputError(f"'{text}' holds no text that the model could say.")
        return ids

    def _ids_after(self, prompt: str, text: str) -> list[int]:
        # How a text is split may depend on what stands before it: SentencePiece puts a space before a lone text.
        end = prompt[-_CONTEXT:]
        before, both = self.tokenizer([end, end + text], add_special_tokens=False)["input_ids"]
        if both[: len(before)] == before:
            return list(both[len(before) :])
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _yes_no(self) -> tuple[list[int], list[int]]:
        prompt = close_thought(self.prompt("Is it?"))  # any question: only the end of the prompt counts
        return self._first_tokens(prompt, "yes"), self._first_tokens(prompt, "no")

    def _first_tokens(self, prompt: str, word: str) -> list[int]:
        variants = [lead + cased for lead in ("", " ") for cased in (word, word.capitalize(), word.upper())]
        encoded = [self._ids_after(prompt, v) for v in variants]
        encoded += [self.tokenizer(v, add_special_tokens=False)["input_ids"] for v in variants]
        single = {ids[0] for ids in encoded if len(ids) == 1}
        return sorted(single or {ids[0] for ids in encoded})

    # ---- room

    def answer_length(
        self, question: str, choices: Sequence[str] | None, max_new_tokens: int, earlier: Sequence[Turn] = ()
    ) -> int:
        """Number of tokens that are kept free for an answer; see :meth:`VLM.answer_length`."""
        if not choices:
            return min(max_new_tokens, self.context_length // 2)
        # A thought that the prompt begins is closed before the choice, which takes room too.
        prompt = self.prompt(question, choices, earlier)
        bare = close_thought(prompt)
        longest = max(len(self.continuation(bare, choice)) for choice in choices)
        return longest + self.count_tokens(bare) - self.count_tokens(prompt)

    def has_room(self, seen: Seen, prompt: str, more: int = 1) -> bool:
        """Whether the model can read a text to its end; beyond its context its numbers mean nothing.

        Args:
            seen: Its image.
            prompt: The prompt with the text.
            more: Number of tokens that follow it.
        """
        if 4 * len(prompt) + seen.size + more <= self.context_length:  # no token is shorter than a byte
            return True
        return self.count_tokens(prompt) + seen.size + more <= self.context_length

    def room_behind(self, seen: Seen, prompt: str) -> int:
        """Number of tokens that the model can read or say behind a prompt; arguments as for :meth:`has_room`."""
        return self.context_length - seen.size - self.count_tokens(prompt)

    def check_room(self, seen: Seen, prompt: str, more: int = 1) -> None:
        """Refuse a text for which there is no room; arguments as for :meth:`has_room`.

        Raises:
            InputError: The text is too long.
        """
        if not self.has_room(seen, prompt, more):
            length = self.count_tokens(prompt) + seen.size
            after = f" and what is to follow it {more}" if more > 1 else ""
            raise InputError(
                f"The question or sentence with its image is {length} tokens long{after}, of which '{self.name}' reads "
                f"{self.context_length}: shorten it, or its choices."
            )
