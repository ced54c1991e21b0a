"""A frozen model and its processor: where it is, what of it can be read, how its parts are run."""

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
from torch import Tensor, nn

from reasonedit.errors import ReasonEditError
from reasonedit.threads import guard_of, guarded
from reasonedit.weights import weight_sums

from .device_memory import free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_PER_PIXEL = 32  # numbers that a vision block holds for each number of the pixels: some 16 widths per patch
_SHARE_OF_MEMORY = 0.5
_MOST_ROWS = 64  # more at once is no faster anywhere it was measured

_GUARDED = (
    "see",
    "inputs",
    "positions",
    "format_prompt",
    "language_states",
    "token_ids",
    "token_ids_after_image",
    "generate",
    "next_token_probabilities",
    "count_tokens",
    "run",
    "states",
    "head",
    "continuation",
)
"""What a family may override and no two threads may do at once with one model."""


class FrozenModel(ABC):
    """A model that never changes, with its processor.

    Args:
        model: The model; put in eval mode and frozen.
        processor: Its processor, with tokenizer and image processor.
        name: Where it was loaded from.

    Attributes:
        projector: The vision-side layer that is read unless another is named.
        shares_prefix: Whether what the language model makes of an image does not depend on the text that follows it.
        texts_at_once: How many texts run at once where each runs with its image from the beginning.
        fill_values: For each input that has a value per token, that of a token after the prompt, where it is not 0.
        prompt_mask: Where the tokens of the prompts are in the inputs that were made last, (rows, columns): what a hook
            inside the language model needs to find a question's tokens. Of a pass that is longer the other columns are
            what follows the prompts; one that is shorter goes on after them.
        files_digest: What tells its weight files from others; see :func:`~reasonedit.weights.files_digest`.
    """

    projector: str
    shares_prefix: bool = True
    texts_at_once: ClassVar[int] = 16
    fill_values: ClassVar[dict[str, int]] = {}
    prompt_mask: Tensor | None = None
    files_digest: str = ""

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

    # ---- layers

    @property
    @abstractmethod
    def vision_layers(self) -> list[str]:
        """Names of the vision-side layers whose input can be read, the first block first."""

    @property
    @abstractmethod
    def language_layers(self) -> list[str]:
        """Names of the layers that read image and text."""

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
    def record_inputs(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
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

    def strip_padding(self, states: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """The real tokens of each row of a language-side layer's input (B, L, D)."""
        masks = inputs["attention_mask"].bool().to(states.device)
        return [row[mask] for row, mask in zip(states, masks, strict=True)]

    def _block_names(self, blocks: str) -> list[str]:
        return [f"{blocks}.{i}" for i in range(len(self.model.get_submodule(blocks)))]

    # ---- where it is, and what it was made of

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
        sums = weight_sums(self.model, self.files_digest)
        return {"architecture": type(self.model).__name__, "weights": sums.of(sums.rounded)}

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

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.model.dtype if tensor.is_floating_point() else None)

    # ---- what its configs say

    @property
    def image_token(self) -> str:
        """The placeholder of an image in the words of a prompt."""
        return str(self.processor.image_token)

    @property
    def image_token_id(self) -> int:
        """Token that stands where the image's tokens go."""
        config = self.model.config
        return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)

    @property
    def pad_token_id(self) -> int:
        """Token that fills what is not there."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    @cached_property
    def end_token_ids(self) -> list[int]:
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

    @property
    def vocabulary_size(self) -> int:
        """Number of logits."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def context_length(self) -> int:
        """Number of tokens that the language model can read."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def can_share_prefix(self) -> bool:
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

    # ---- how it runs

    @guarded
    def positions(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Position ids of inputs, and for each row the position of the token after them.

        They do not count the padding: prompt and continuation must agree on them, whatever the padding.
        """
        mask = inputs["attention_mask"]
        return (mask.cumsum(1) - 1).clamp(min=0), mask.sum(1)

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
