"""What the configs of a model, its tokenizer and its processor say."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from reasonedit.errors import InputError


class ModelSettings:
    """Token ids, limits and attention of a model, read from its configs.

    Attributes:
        model: The model.
        processor: Its processor.
        tokenizer: The processor's tokenizer.
        name: Where the model was loaded from.
        shares_prefix: Whether the image's states in the language model do not depend on the text that follows.
        images_see_ahead: Whether the tokens of an image see each other, and not only those before them.
    """

    model: Any
    processor: Any
    tokenizer: Any
    name: str
    shares_prefix: bool = True
    images_see_ahead: bool = False

    @property
    def image_token(self) -> str:
        """The placeholder of an image in the text of a prompt."""
        return str(self.processor.image_token)

    @property
    def image_token_id(self) -> int:
        """The token in whose place an image's tokens go."""
        config = self.model.config
        return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)

    @property
    def pad_token_id(self) -> int:
        """The token that fills up shorter rows."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    @cached_property
    def end_token_ids(self) -> list[int]:
        """Tokens that end an answer, by the generation config and by the tokenizer: either may be out of date.

        Raises:
            InputError: The generation config names no token.
        """
        configured = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = [*(configured if isinstance(configured, (list, tuple)) else [configured]), self.tokenizer.eos_token_id]
        odd = [end for end in ends if end is not None and type(end) is not int]
        if odd:
            raise InputError(
                f"The generation config of '{self.name}' has {odd[0]!r} as eos_token_id, which is not a number of a "
                "token: correct its generation_config.json."
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
        """Whether texts can share one image prefix: the family allows it and all layers take any mask."""
        config = self.model.config.get_text_config()
        # A model with some sliding layers takes a mask for each sort; one that slides throughout takes one only.
        slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        kinds = set(getattr(config, "layer_types", None) or ())
        masked = kinds <= {"full_attention", "sliding_attention"} if kinds else not slides
        return self.shares_prefix and masked and config._attn_implementation in ("sdpa", "eager")

    @property
    def sliding_window(self) -> int | None:
        """How many tokens back the sliding layers of the language model see; ``None`` where it has no such layers."""
        config = self.model.config.get_text_config()
        return config.sliding_window if "sliding_attention" in (getattr(config, "layer_types", None) or ()) else None
