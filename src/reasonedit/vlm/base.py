"""The frozen VLM behind one small interface."""

from __future__ import annotations

import difflib
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.errors import ReasonEditError
from reasonedit.finite import finite
from reasonedit.threads import guard_of, guarded
from reasonedit.weights import weight_sums

from .generate import generated, reply_of
from .generation import Generation, Reply, thought_through
from .identity import identity_of, key_parts
from .memory import free_bytes
from .prefix import ImagePrefix
from .vision import Seen, Vision

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_PER_PIXEL = 32  # numbers that a vision block holds for each number of the pixels: some 16 widths per patch
_SHARE_OF_MEMORY = 0.5
_MOST_ROWS = 64  # more at once is no faster anywhere it was measured

_CONTEXT = 24  # characters of a prompt that can bear on how what follows is split

PROMPT_OF_CHOICES = "{question} Choices: {choices}."

_GUARDED = (
    "see",
    "inputs",
    "positions",
    "wording",
    "language_states",
    "ids",
    "after_image",
    "generate",
    "next_token_probabilities",
    "length",
    "run",
    "states",
    "head",
    "continuation",
)
"""What a family may override and no two threads may do at once with one model."""


def best_dtype() -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware (a recent GPU; AVX-512 BF16 or AMX), else float32."""
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities()
        able = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if able else torch.float32


class _Reached(Exception):  # noqa: N818 - it is no error
    """The layer that was wanted has been reached: the rest of the model need not run."""


class VLM(ABC):
    """A frozen vision-language model: it answers, it scores, it shows its vision layers; it never changes.

    Answering, choice scoring and the probabilities are here; how images are seen and become inputs is a family's, see
    :class:`~reasonedit.vlm.family.Family`.

    Any number of threads may use it: one pass runs at a time, whatever wraps the model (:attr:`guard`). Who calls the
    model itself meanwhile, past this class, takes the guard, too.

    Args:
        model: The model; put in eval mode and frozen.
        processor: Its processor, with tokenizer and image processor.
        name: Where it was loaded from.

    Attributes:
        projector: The vision-side layer that is read unless another is named.
        shares_prefix: Whether what the language model makes of an image does not depend on the text that follows it.
        apart: How many texts run at once where each runs with its image from the beginning.
        fill: For each input that has a value per token, that of a token after the prompt, where it is not 0.
        prompted: Where the tokens of the prompts are in the inputs that were made last, (rows, columns): what a hook
            inside the language model needs to find a question's tokens. Of a pass that is longer the other columns are
            what follows the prompts; one that is shorter goes on after them.
    """

    projector: str
    shares_prefix: bool = True
    apart: ClassVar[int] = 16
    fill: ClassVar[dict[str, int]] = {}
    prompted: Tensor | None = None
    files: str = ""
    """What tells the files of its weights from others; see :func:`~reasonedit.weights.files_of`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _GUARDED:
            method = vars(cls).get(name)
            if method is not None and not hasattr(method, "is_guarded"):
                setattr(cls, name, guarded(method))

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, name: str) -> None:
        model.requires_grad_(False)
        self.model: Any = model.eval()  # type: ignore[no-untyped-call]
        self.processor: Any = processor
        self.tokenizer: Any = self.processor.tokenizer
        self.name = name
        if self.processor.chat_template is None:  # a copy may keep it with the tokenizer alone
            self.processor.chat_template = getattr(self.tokenizer, "chat_template", None)
        special = {*self.tokenizer.all_special_tokens, self.image_token}
        special |= {t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special}
        self.special = re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)))

    @property
    def guard(self) -> Any:
        """Held by the thread that uses the model, its tokenizer or its processor: a lock that it may take again.

        It is the last of all locks: whoever holds it calls no editor's methods, which take others before it.
        """
        return guard_of(self.model)

    # ---- what a family says

    @property
    @abstractmethod
    def vision_layers(self) -> list[str]:
        """Names of the vision-side layers whose input can be read, the first block first."""

    @property
    @abstractmethod
    def language_layers(self) -> list[str]:
        """Names of the layers that read image and text."""

    @abstractmethod
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once.

        Args:
            images: RGB images.
            layers: Names of layers whose input is kept.

        Raises:
            ReasonEditError: The model has no such layer, or cannot take an image of such a shape.
        """

    @abstractmethod
    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model for one image and one prompt each, with the vision part already run."""

    @guarded
    def positions(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Position ids of inputs, and for each row the position of the token after them.

        They do not count the padding: prompt and continuation must agree on them, whatever the padding.
        """
        mask = inputs["attention_mask"]
        return (mask.cumsum(1) - 1).clamp(min=0), mask.sum(1)

    @guarded
    def wording(self, text: str) -> str:
        """The prompt for a text about one image: the chat template's.

        Raises:
            ReasonEditError: The model brings no chat template.
        """
        content = [{"type": "image"}, {"type": "text", "text": text}]
        messages = [{"role": "user", "content": content}]
        try:
            return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except ValueError as error:
            raise ReasonEditError(
                f"The model '{self.name}' has no chat template: put a chat_template.jinja into its folder."
            ) from error

    @property
    def image_token(self) -> str:
        """The placeholder of an image in the words of a prompt."""
        return str(self.processor.image_token)

    @property
    def image_token_id(self) -> int:
        """Token that stands where the image's tokens go."""
        config = self.model.config
        return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)

    # ---- layers

    def check_layer(self, name: str) -> None:
        """Refuse a layer that cannot be read.

        Raises:
            ReasonEditError: The model has no such layer; those of similar names are listed.
        """
        known = [*self.vision_layers, *self.language_layers]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            listed = near or self.vision_layers
            raise ReasonEditError(
                f"The model '{self.name}' has no layer '{name}'. {'Did you mean' if near else 'There are'}: "
                f"{', '.join(listed)}?"
            )

    @contextmanager
    def kept(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Keep what enters layers while the model runs in this thread."""
        kept: dict[str, Tensor] = {}
        thread = threading.get_ident()  # somebody else may run the bare model meanwhile

        def keep(name: str) -> Any:
            def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if threading.get_ident() == thread:
                    kept[name] = args[0] if args else kwargs["hidden_states"]

            return hook

        with ExitStack() as hooks:
            for name in layers:
                module = self.model.get_submodule(name)
                hooks.callback(module.register_forward_pre_hook(keep(name), with_kwargs=True).remove)
            yield kept

    @guarded
    @torch.inference_mode()
    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """Activations that enter a layer which reads image and text; the model runs up to there only.

        Args:
            vision: One image per text.
            texts: The texts, worded by :meth:`prompt`.
            layer: One of :attr:`language_layers`.

        Returns:
            For each text (tokens, width), image tokens included, padding left out.

        Raises:
            ReasonEditError: A text is longer than the model reads.
        """
        for seen, text in zip(vision.images, texts, strict=True):
            self.check_room(seen, self.prompt(text))
        kept: list[Tensor] = []
        thread = threading.get_ident()

        def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() != thread:
                return
            kept.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        inputs: dict[str, Any] = {}
        handle = self.model.get_submodule(layer).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            inputs = self.inputs(vision, [self.prompt(t) for t in texts])
            self.run(inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
        return self.unpadded(kept[0], inputs)

    def unpadded(self, states: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """The real tokens of each row of a language-side layer's input (B, L, D)."""
        masks = inputs["attention_mask"].bool().to(states.device)
        return [row[mask] for row, mask in zip(states, masks, strict=True)]

    @property
    def device(self) -> torch.device:
        """Where the model is; of one that is spread out, where its inputs go."""
        device = torch.device(self.model.device)
        if device.type != "meta":
            return device
        # What begins it is kept on disk or on the CPU, and brought to where it runs.
        places = [p for p in self.model.hf_device_map.values() if p not in ("disk", "cpu")]
        return torch.device(places[0]) if places else torch.device("cpu")

    @property
    def movable(self) -> bool:
        """Whether the model may be moved to another device: not where a device map spread it out, nor quantised."""
        return not hasattr(self.model, "hf_device_map") and not getattr(self.model, "is_quantized", False)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must agree for anything that was trained on the model to fit it: architecture and weights.

        The checksum is that of all weights in bfloat16, so that float32 and bfloat16 agree.
        """
        sums = weight_sums(self.model, self.files)
        return {"architecture": type(self.model).__name__, "weights": sums.of(sums.rounded)}

    def key_parts(self, layer: str) -> dict[str, str]:
        """What the keys of a layer depend on; see :func:`~reasonedit.vlm.identity.key_parts`."""
        return key_parts(self, layer)

    @property
    def identity(self) -> str:
        """A checksum of all that its answers depend on beside the question; see :mod:`reasonedit.vlm.identity`."""
        return identity_of(self)

    @property
    def worded(self) -> str:
        """A question as it is put; empty where the model brings no chat template."""
        try:
            return self.wording("?")
        except ReasonEditError:  # it has no prompts at all: whoever asks it is told so
            return ""

    # ---- texts

    def clean(self, text: str) -> str:
        """Take out of a text what would make it more than text: what users store is data.

        That is the tokenizer's special tokens, image placeholders, and the colon behind words with which the prompts of
        this model begin somebody's turn in plain letters ("ASSISTANT:").
        """
        while (cleaned := self._turns.sub(r"\1", self.special.sub("", text))) != text:
            text = cleaned
        return text

    @cached_property
    def _turns(self) -> re.Pattern[str]:
        frame = self.special.sub("", self.worded)
        words = sorted(set(re.findall(r"(\w+)\s*[:\uff1a]", frame)))
        return re.compile(rf"(?i)\b({'|'.join(words)})\s*[:\uff1a]" if words else r"(?!)()")

    def prompt(self, text: str, choices: Sequence[str] | None = None) -> str:
        """The prompt for a question about one image (with the facts before it, if any)."""
        text = self.clean(text)
        if choices:
            listed = ", ".join(self.clean(c) for c in choices)
            text = PROMPT_OF_CHOICES.format(question=text, choices=listed)
        return self.wording(text)

    @guarded
    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts whose placeholders are what they stand for already."""
        # A tokenizer that begins with a BOS token gets it, unless the template wrote it already.
        begun = bool(self.tokenizer.bos_token) and self.tokenizer.bos_token in texts[0]
        return list(self.tokenizer(list(texts), add_special_tokens=not begun)["input_ids"])

    @guarded
    def after_image(self, prompt: str, placeholder: str) -> tuple[int, ...]:
        """Token ids of what follows the image's last token in a prompt."""
        word = self._image_word
        short = re.sub(f"(?:{re.escape(word)})+", lambda _: word, placeholder)
        ids = self.ids([prompt.replace(self.image_token, short, 1)])[0]
        return tuple(ids[len(ids) - ids[::-1].index(self.image_token_id) :])

    def answer(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        max_new_tokens: int | None = None,
        **generation: Any,
    ) -> list[str]:
        """Answer one question per image: the texts of :meth:`reply`.

        Args:
            vision: The images, as :meth:`see` returned them.
            questions: Questions, with the facts before them, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            max_new_tokens: As in :class:`~reasonedit.vlm.generation.Generation`.
            **generation: Other values of it, or arguments of transformers' ``generate``.
        """
        how = Generation().but(max_new_tokens, **generation)
        return [reply.text for reply in self.reply(vision, questions, choices, how)]

    @guarded
    @torch.inference_mode()
    def reply(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        generation: Generation | None = None,
    ) -> list[Reply]:
        """Answer one question per image.

        Args:
            vision: The images, as :meth:`see` returned them.
            questions: Questions, with the facts before them, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            generation: How answers are made.

        Returns:
            For an open question the generation, stripped, up to where the model's context ends; for one with choices
            the choice that ``generation`` takes.

        Raises:
            ReasonEditError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """
        generation = generation or Generation()
        choices = choices if choices is not None else [None] * len(questions)
        prompts = [self.prompt(q, c) for q, c in zip(questions, choices, strict=True)]
        for seen, prompt in zip(vision.images, prompts, strict=True):
            self.check_room(seen, prompt)
        replies = [Reply("")] * len(prompts)
        opened = [i for i, c in enumerate(choices) if not c]
        closed = [i for i, c in enumerate(choices) if c]
        if opened:
            made = self.generate(vision.select(opened), [prompts[i] for i in opened], generation)
            for i, tokens in zip(opened, made, strict=True):
                seen, prompt, how = vision.images[i], prompts[i], generation
                if not self.has_room(seen, prompt, how.max_new_tokens):  # what it said behind its context means nothing
                    how = how.but(self.context - seen.size - self.length(prompt))
                replies[i] = reply_of(self, tokens[: how.max_new_tokens], prompt, how)
        if closed:
            offered = [list(choices[i] or ()) for i in closed]
            asked = [prompts[i] for i in closed]
            means = self.log_likelihood(vision.select(closed), asked, offered)
            for i, options, mean in zip(closed, offered, means, strict=True):
                prompt = thought_through(prompts[i])
                score = mean * torch.tensor([len(self.continuation(prompt, o)) for o in options])
                if generation.choice_rule == "acc_norm":
                    score = score / torch.tensor([len(o.strip()) for o in options])
                replies[i] = Reply(options[int(score.argmax())])
        return replies

    def has_room(self, seen: Seen, prompt: str, more: int = 1) -> bool:
        """Whether the model reads a text to its end; behind that its numbers mean nothing.

        Args:
            seen: Its image.
            prompt: The text.
            more: Number of tokens that are to come after it.
        """
        if 4 * len(prompt) + seen.size + more <= self.context:  # no token is shorter than a byte
            return True
        return self.length(prompt) + seen.size + more <= self.context

    def check_room(self, seen: Seen, prompt: str, more: int = 1) -> None:
        """Refuse a text that :meth:`has_room` says is too long; arguments as there.

        Raises:
            ReasonEditError: It is.
        """
        if not self.has_room(seen, prompt, more):
            length = self.length(prompt) + seen.size
            after = f" and what is to follow it {more}" if more > 1 else ""
            raise ReasonEditError(
                f"The question or sentence with its image is {length} tokens long{after}, of which '{self.name}' reads "
                f"{self.context}: shorten it, or its choices."
            )

    @guarded
    def generate(self, vision: Vision, prompts: Sequence[str], generation: Generation) -> list[Tensor]:
        """The tokens that the model continues each prompt with."""
        inputs = self.inputs(vision, prompts)
        made = self.generated(self.model, inputs, generation)
        return list(made[:, inputs["input_ids"].shape[1] :])

    def generated(self, model: Any, inputs: dict[str, Any], generation: Generation) -> Tensor:
        """What ``generate`` of a model makes of inputs; see :func:`~reasonedit.vlm.generate.generated`."""
        return generated(self, model, inputs, generation)

    @cached_property
    def ends(self) -> list[int]:
        """Tokens that end an answer, by the generation config and by the tokenizer: either may be out of date.

        Raises:
            ReasonEditError: The config names no token.
        """
        told = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = [*(told if isinstance(told, (list, tuple)) else [told]), self.tokenizer.eos_token_id]
        odd = [end for end in ends if end is not None and type(end) is not int]
        if odd:
            raise ReasonEditError(
                f"The generation config of '{self.name}' has {odd[0]!r} as eos_token_id, which is no number of a "
                "token: mend its generation_config.json."
            )
        return sorted({end for end in ends if end is not None and end >= 0})  # some write -1 for none

    def read(self, images: Vision | ImagePrefix) -> ImagePrefix:
        """Let the language model read images once, for any number of texts that follow them."""
        return images if isinstance(images, ImagePrefix) else ImagePrefix(self, images)

    def log_likelihood(
        self, images: Vision | ImagePrefix, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean log-likelihood per token of texts that could follow each prompt.

        The image and the prompt run once, whatever the number of texts; all texts of all prompts run in one pass.

        Args:
            images: One image per prompt.
            prompts: Prompts as :meth:`prompt` words them.
            continuations: For each prompt, the texts.

        Returns:
            For each prompt a float32 tensor with one value per text.
        """
        ended = [thought_through(prompt) for prompt in prompts]
        texts = [
            [(prompt, self.continuation(prompt, text)) for text in mine]
            for prompt, mine in zip(ended, continuations, strict=True)
        ]
        return self.read(images).log_likelihood(texts)

    def sentence_nll(
        self, images: Vision | ImagePrefix, question: str, sentences: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean negative log-likelihood per token of sentences as the answer to one question about each image."""
        return [-scores for scores in self.log_likelihood(images, [self.prompt(question)] * len(images), sentences)]

    @guarded
    @torch.inference_mode()
    def next_token_probabilities(self, vision: Vision, prompts: Sequence[str]) -> Tensor:
        """Distribution of the token that follows each prompt: float32 (prompts, vocabulary).

        Raises:
            ReasonEditError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """
        for seen, prompt in zip(vision.images, prompts, strict=True):
            self.check_room(seen, prompt)
        states = self.run(self.inputs(vision, [thought_through(p) for p in prompts])).last_hidden_state
        return finite(self.head(states[:, -1]).float(), "The logits of the next token").softmax(-1).cpu()

    def p_yes(self, images: Vision | ImagePrefix, questions: Sequence[Sequence[str]]) -> list[Tensor]:
        """P("yes") / (P("yes") + P("no")), each summed over its case and leading-space variants.

        Section 2 of the method (arXiv 2602.02408).

        Args:
            images: Images; the language model reads each once, whatever the number of questions.
            questions: For each image, the questions.

        Returns:
            For each image float32 (questions,).
        """
        yes, no = self._yes_no
        prompts = [[thought_through(self.prompt(q)) for q in mine] for mine in questions]
        found = self.read(images).next_logits(prompts, [*yes, *no])
        # The sums over the whole vocabulary cancel.
        return [(x[:, : len(yes)].logsumexp(1) - x[:, len(yes) :].logsumexp(1)).sigmoid() for x in found]

    def images_at_once(self, tokens: int, pixels: int, characters: int) -> int:
        """How many images fit into memory, each with texts after it.

        Args:
            tokens: How many tokens an image takes; :attr:`Seen.size`.
            pixels: How many numbers the vision part gets of it; :attr:`Seen.pixels`.
            characters: About how long the texts after it are together.
        """
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        tokens += characters
        number = torch.finfo(self.model.dtype).bits // 8
        # Keys and values of all layers, twice as they grow; what one layer holds while it runs; the mask.
        held = 4 * config.num_hidden_layers * heads * size + 16 * config.hidden_size + 4 * tokens
        image = number * (tokens * held + _PER_PIXEL * pixels)
        return max(1, min(_MOST_ROWS, int(_SHARE_OF_MEMORY * free_bytes(self.device) / image)))

    # ---- what the image prefix works with

    @property
    def packs(self) -> bool:
        """Whether texts can share one image prefix: the family allows it and the attention takes any mask."""
        config = self.model.config.get_text_config()
        # Where layers slide and others do not, they get a mask each; a model that slides throughout takes one only.
        slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        layered = bool(getattr(config, "layer_types", None))
        return self.shares_prefix and (layered or not slides) and config._attn_implementation in ("sdpa", "eager")

    @property
    def sliding_window(self) -> int | None:
        """How far back the sliding layers of the language model see, where it has such."""
        config = self.model.config.get_text_config()
        return config.sliding_window if "sliding_attention" in (getattr(config, "layer_types", None) or ()) else None

    @property
    def pad(self) -> int:
        """Token that fills what is not there."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def context(self) -> int:
        """Number of tokens that the language model can read."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @guarded
    def length(self, prompt: str) -> int:
        """Number of tokens of a prompt, its image counted as one."""
        return len(self.tokenizer(prompt)["input_ids"])

    @guarded
    def run(self, inputs: dict[str, Any]) -> Any:
        """The model without its head on whole inputs."""
        return self.states(**inputs, position_ids=self.positions(inputs)[0])

    @guarded
    def states(self, **inputs: Any) -> Any:
        """The model without its head: an output with ``last_hidden_state`` (and ``cache``)."""
        return self.model.model(**inputs)

    @guarded
    def head(self, states: Tensor) -> Tensor:
        """Logits of hidden states: (N, vocabulary)."""
        return torch.as_tensor(self.model.get_output_embeddings()(states))

    @guarded
    def continuation(self, prompt: str, text: str) -> list[int]:
        """Token ids of a text that follows a prompt.

        Raises:
            ReasonEditError: There is nothing in it.
        """
        said = self.clean(text).strip()
        ids = self._following(prompt, said if prompt[-1:].isspace() else f" {said}") if said else []
        if not ids:
            raise ReasonEditError(f"'{text}' holds no text that the model could say.")
        return ids

    def _following(self, prompt: str, text: str) -> list[int]:
        # What a text is split into may hang on what stands before it: SentencePiece puts a space before a lone text.
        end = prompt[-_CONTEXT:]
        before, both = self.tokenizer([end, end + text], add_special_tokens=False)["input_ids"]
        if both[: len(before)] == before:
            return list(both[len(before) :])
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _yes_no(self) -> tuple[list[int], list[int]]:
        prompt = thought_through(self.prompt("Is it?"))
        return self._first_tokens(prompt, "yes"), self._first_tokens(prompt, "no")

    def _first_tokens(self, prompt: str, word: str) -> list[int]:
        variants = [lead + cased for lead in ("", " ") for cased in (word, word.capitalize(), word.upper())]
        encoded = [self._following(prompt, v) for v in variants]
        encoded += [self.tokenizer(v, add_special_tokens=False)["input_ids"] for v in variants]
        whole = {ids[0] for ids in encoded if len(ids) == 1}
        return sorted(whole or {ids[0] for ids in encoded})

    @cached_property
    def _image_word(self) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(self.image_token_id))

    def _listed(self, blocks: str) -> list[str]:
        return [f"{blocks}.{i}" for i in range(len(self.model.get_submodule(blocks)))]

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.model.dtype if tensor.is_floating_point() else None)
