"""A frozen model and its processor: which layers can be read, which device it is on, how its parts are run."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from reasonedit.util.threads import guard_of, guarded
from reasonedit.util.weights import weight_sums

from .devices import free_bytes
from .interface import VLM
from .settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_PER_PIXEL = 32  # numbers that a vision block holds for each number of the pixels: some 16 widths per patch
_SHARE_OF_MEMORY = 0.5
_MOST_ROWS = 64  # more at once was no faster on any machine measured

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
"""Methods that a family may override, and that only one thread at a time may run on a model."""


class FrozenModel(ModelSettings, VLM):
    """A model that never changes, with its processor.

    Args:
        model: The model; put in eval mode and frozen.
        processor: Its processor, with tokenizer and image processor.
        name: Where it was loaded from.

    Attributes:
        projector: The vision-side layer that is read unless another is named.
        texts_at_once: How many texts run at once where each runs with its image from the beginning.
        fill_values: The values of inputs that have one per token, for tokens after the prompt, where it is not 0.
        prompt_mask: Where the tokens of the prompts are in the inputs that were made last: bool (rows, columns). A hook
            inside the language model finds a question's tokens by it. In a longer pass, further columns follow the
            prompts; a shorter pass comes after them.
        files_digest: What tells its weight files from others; see :func:`~reasonedit.util.weights.files_digest`.
        special: A pattern of all special tokens.
    """

    projector: str
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
        self.model = model.eval()  # type: ignore[no-untyped-call]
        self.processor = processor
        self.tokenizer = self.processor.tokenizer
        self.name = name
        if self.processor.chat_template is None:  # a copy may keep it with the tokenizer alone
            self.processor.chat_template = getattr(self.tokenizer, "chat_template", None)
        special = {*self.tokenizer.all_special_tokens, self.image_token}
        special |= {t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special}
        self.special = re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)))

    @property
    def guard(self) -> Any:
        """The lock of the thread that uses the model, its tokenizer or its processor; a thread may take it again.

        It is the last of all locks: whoever holds it calls no editor's methods, which take others before it.
        """
        return guard_of(self.model)

    # ---- layers

    @contextmanager
    def record_inputs(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Record what enters layers while the model runs in this thread.

        Args:
            layers: Names of modules.

        Yields:
            The last input of each layer that ran, by its name.
        """
        inputs: dict[str, Tensor] = {}
        thread = threading.get_ident()  # another thread may run the bare model meanwhile

        def recorder(name: str) -> Any:
            def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if threading.get_ident() == thread:
                    inputs[name] = args[0] if args else kwargs["hidden_states"]

            return record

        with ExitStack() as hooks:
            for name in layers:
                module = self.model.get_submodule(name)
                hooks.callback(module.register_forward_pre_hook(recorder(name), with_kwargs=True).remove)
            yield inputs

    def strip_padding(self, states: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """The real tokens of each row of a language-side layer's input (B, L, D)."""
        masks = inputs["attention_mask"].bool().to(states.device)
        return [row[mask] for row, mask in zip(states, masks, strict=True)]

    def _block_names(self, blocks: str) -> list[str]:
        return [f"{blocks}.{i}" for i in range(len(self.model.get_submodule(blocks)))]

    # ---- device, weights, memory

    @property
    def device(self) -> torch.device:
        """The model's device; of a model that is spread out, the device of its inputs."""
        device = torch.device(self.model.device)
        if device.type != "meta":
            return device
        # Its first layers are kept on disk or on the CPU, and brought to where they run.
        places = [p for p in self.model.hf_device_map.values() if p not in ("disk", "cpu")]
        return torch.device(places[0]) if places else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def movable(self) -> bool:
        """Whether the model may be moved to another device: not if a device map spread it out, nor if quantised."""
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
            tokens: Number of tokens of an image; :attr:`Seen.size`.
            pixels: Number of values that the vision part reads of it; :attr:`Seen.pixels`.
            characters: About how long the texts after it are together.
        """
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        tokens += characters
        bytes_each = torch.finfo(self.model.dtype).bits // 8
        # Keys and values of all layers, twice as they grow; what one layer holds while it runs; the mask.
        per_token = 4 * config.num_hidden_layers * heads * head_size + 16 * config.hidden_size + 4 * tokens
        image = bytes_each * (tokens * per_token + _PER_PIXEL * pixels)
        return max(1, min(_MOST_ROWS, int(_SHARE_OF_MEMORY * free_bytes(self.device) / image)))

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.model.dtype if tensor.is_floating_point() else None)

    # ---- how it runs

    @guarded
    def positions(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Positions of the tokens, which do not count the padding: they must not depend on it.

        Args:
            inputs: Inputs of the model.

        Returns:
            The position ids, and for each row the position of the token after it.
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
        """Logits (N, vocabulary) of hidden states (N, D)."""
        return torch.as_tensor(self.model.get_output_embeddings()(states))
