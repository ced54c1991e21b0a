"""Image prefixes in the language model's cache: each is read once, and any number of texts follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from reasonedit.util.finite import check_finite

from .devices import run_in_parts
from .trie import Trie

if TYPE_CHECKING:
    from .base import VLM
    from .vision import Vision

_TEXTS_AT_ONCE = 8
_LOGITS_AT_ONCE = 2**25
"""Numbers of the vocabulary's logits held at once: 128 MiB in float32."""

Text: TypeAlias = tuple[str, Sequence[int]]
"""A prompt, and the ids of the tokens that follow it."""


class ImagePrefix:
    """Images that the language model has read once.

    All texts about an image run in one row: laid out as a :class:`Trie`, each token sees the image and the tokens of
    its own text only. Families in which the image's states depend on the text (``shares_prefix`` false), and attention
    kernels that take no such mask, run each text with its image from the beginning: slower, with the same result.

    Args:
        vlm: The VLM.
        vision: The images, as :meth:`VLM.see` returned them.
    """

    def __init__(self, vlm: VLM, vision: Vision) -> None:
        self.vlm = vlm
        self.vision = vision
        self._cache: Any = None
        self._mask = self._positions = self._next = torch.empty(0)
        if len(vision) and vlm.can_share_prefix:
            with vlm.guard:
                self._read()

    def __len__(self) -> int:
        return len(self.vision)

    @torch.inference_mode()
    def _read(self) -> None:
        from transformers import DynamicCache

        inputs = self.vlm.inputs(self.vision, [self.vlm.prompt("")] * len(self.vision))
        # All rows are padded on the left, so they end alike, and what follows the image is cut off all at once.
        length = int((inputs["input_ids"][0] == self.vlm.image_token_id).nonzero()[-1]) + 1
        inputs |= {name: inputs[name][:, :length] for name in _names_by_token(inputs)}
        self._mask = inputs["attention_mask"].bool()
        self._positions, self._next = self.vlm.positions(inputs)
        # A cache without sliding windows keeps everything; the masks hide what a window does not reach.
        output = self.vlm.states(**inputs, position_ids=self._positions, cache=DynamicCache(), use_cache=True)
        self._cache = output.cache

    def narrow(self, indices: Sequence[int]) -> None:
        """Keep only the images at ``indices``, in that order."""
        self.vision = self.vision.select(indices)
        if self._cache is not None:
            rows = torch.as_tensor(indices, dtype=torch.long)  # on the CPU: layers may be on several devices
            with torch.inference_mode():
                self._mask, self._next = self._mask[rows], self._next[rows]
                self._positions = self._positions[..., rows, :]
                self._cache.batch_select_indices(rows)

    @torch.inference_mode()
    def next_logits(self, prompts: Sequence[Sequence[str]], tokens: Sequence[int]) -> list[Tensor]:
        """Logits of tokens that may follow prompts.

        Args:
            prompts: For each image its prompts, from :meth:`VLM.prompt`.
            tokens: Ids of the tokens.

        Returns:
            For each image float32 (prompts, tokens), on the CPU.

        Raises:
            InputError: A text is longer than the model reads, or the model's numbers are not finite.
        """
        with self.vlm.guard:
            states = self._states([[(prompt, ()) for prompt in prompts_of] for prompts_of in prompts])
            parts = [self.vlm.head(part)[:, list(tokens)].float().cpu() for part in self._split(states)]
        logits = torch.cat(parts) if parts else torch.empty(0, len(tokens))
        check_finite(logits, "The logits of the next token")
        return list(logits.split([len(prompts_of) for prompts_of in prompts]))  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def log_likelihood(self, texts: Sequence[Sequence[Text]]) -> list[Tensor]:
        """Mean log-likelihood per token of what follows prompts.

        Args:
            texts: For each image its texts: a prompt, from :meth:`VLM.prompt`, and the token ids that follow.

        Returns:
            For each image float32 (texts,), on the CPU.

        Raises:
            InputError: A text is longer than the model reads, or the model's numbers are not finite.
        """
        counts = [len(ids) for texts_of in texts for _, ids in texts_of]
        targets = torch.tensor([token for texts_of in texts for _, ids in texts_of for token in ids])
        with self.vlm.guard:
            states = self._states(texts)
            parts = [
                _log_probabilities(self.vlm.head(part), target).cpu()
                for part, target in zip(self._split(states), self._split(targets), strict=True)
            ]
        of_tokens = torch.cat(parts)[:, 0] if parts else torch.empty(0)
        of_texts = of_tokens.split(counts)  # type: ignore[no-untyped-call]
        means = torch.stack([tokens.mean() for tokens in of_texts]) if of_texts else torch.empty(0)
        check_finite(means, "The likelihoods of what could be said")
        return list(means.split([len(texts_of) for texts_of in texts]))  # type: ignore[no-untyped-call]

    def _split(self, rows: Tensor) -> Sequence[Tensor]:
        """Parts of rows of which the logits are held at once."""
        size = max(1, _LOGITS_AT_ONCE // self.vlm.vocabulary_size)
        return list(rows.split(size)) if len(rows) else []  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def _states(self, texts: Sequence[Sequence[Text]]) -> Tensor:
        """The last hidden states that predict the tokens after each prompt (or the next one), in order: (all, D)."""
        if len(texts) != len(self):
            raise ValueError(f"{len(self)} images but texts for {len(texts)}")
        if not any(texts):
            return torch.empty(0, 0, device=self.vlm.device)
        for seen, texts_of in zip(self.vision.images, texts, strict=True):
            for prompt, ids in texts_of:
                self.vlm.check_room(seen, prompt, max(1, len(ids)))
        if self._cache is None:
            return self._run_apart(texts)
        # All texts of a row take part in its attention, seen or not: a few at a time cost less than all at once.
        counts = [[max(1, len(ids)) for _, ids in texts_of] for texts_of in texts]
        longest = max(len(texts_of) for texts_of in texts)
        parts = []
        for start in range(0, longest, _TEXTS_AT_ONCE):
            states = self._run_packed([texts_of[start : start + _TEXTS_AT_ONCE] for texts_of in texts])
            sizes = [sum(counts_of[start : start + _TEXTS_AT_ONCE]) for counts_of in counts]
            parts.append(states.split(sizes))  # type: ignore[no-untyped-call]
        return torch.cat([part[row] for row in range(len(texts)) for part in parts])

    def _run_packed(self, texts: Sequence[Sequence[Text]]) -> Tensor:
        """The states of :meth:`_states`, by one row per image behind its prefix."""
        vlm = self.vlm
        tries, rows, nodes = self._lay_out(texts)
        width = max(len(trie.ids) for trie in tries)
        tokens = torch.full((len(tries), width), vlm.pad_token_id, dtype=torch.long)
        positions = torch.zeros(len(tries), width, dtype=torch.long)
        sees = torch.eye(width, dtype=torch.bool).repeat(len(tries), 1, 1)
        for row, trie in enumerate(tries):
            count = len(trie.ids)
            tokens[row, :count], positions[row, :count], sees[row, :count, :count] = trie.ids, trie.depths, trie.sees
        device = self._mask.device
        positions = positions.to(device) + self._next[:, None]
        visible = torch.cat([self._mask[:, None].expand(-1, width, -1), sees.to(device)], dim=2)[:, None]
        output = vlm.states(
            input_ids=tokens.to(device),
            attention_mask=self._attention_masks(visible, positions),
            # Where positions have several axes, those of texts agree in all of them.
            position_ids=positions.expand(*self._positions.shape[:-2], -1, -1),
            cache=self._cache,
            use_cache=True,
        )
        self._cache.crop(-width)
        return torch.as_tensor(output.last_hidden_state[rows, nodes])

    def _lay_out(self, texts: Sequence[Sequence[Text]]) -> tuple[list[Trie], list[int], list[int]]:
        """The trie of each image; of each state that is asked for, in order, its row and its node."""
        placeholder = self.vision.images[0].placeholder  # all end alike
        prompts = {prompt for texts_of in texts for prompt, _ in texts_of}
        after_image = {prompt: self.vlm.token_ids_after_image(prompt, placeholder) for prompt in prompts}
        known: dict[tuple[tuple[int, ...], ...], Trie] = {}  # images with the same texts share one
        tries, rows, nodes = [], [], []
        for row, texts_of in enumerate(texts):
            # The last of the scored tokens predicts nothing that is asked for: it need not run.
            sequences = tuple((*after_image[prompt], *ids[:-1]) for prompt, ids in texts_of)
            if sequences not in known:
                known[sequences] = Trie.of(sequences)
            tries.append(known[sequences])
            for path, (_, ids) in zip(tries[-1].paths, texts_of, strict=True):
                predicting = path[len(path) - max(1, len(ids)) :]
                nodes += predicting
                rows += [row] * len(predicting)
        return tries, rows, nodes

    def _attention_masks(self, visible: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """What is added to the attention's scores.

        Args:
            visible: Which tokens each new token sees: bool (B, 1, new, all).
            positions: Positions of the new tokens (B, new).
        """
        dtype = self.vlm.model.dtype

        def additive(allowed: Tensor) -> Tensor:
            mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            return mask.masked_fill_(~allowed, torch.finfo(dtype).min)

        window = self.vlm.sliding_window
        if window is None:
            return additive(visible)
        distance = positions[:, :, None] - torch.cat([self._positions, positions], dim=1)[:, None]
        near = visible & (distance < window)[:, None]
        return {"full_attention": additive(visible), "sliding_attention": additive(near)}

    def _run_apart(self, texts: Sequence[Sequence[Text]]) -> Tensor:
        """The states of :meth:`_states`, each text by itself with its image from the beginning."""
        vlm = self.vlm
        all_texts = [(image, prompt, ids) for image, texts_of in enumerate(texts) for prompt, ids in texts_of]
        states_of_texts: list[Tensor] = []

        def run(indices: list[int]) -> None:
            part = [all_texts[i] for i in indices]
            vision = self.vision.select([image for image, _, _ in part])
            # The last of the scored tokens predicts nothing that is asked for: it need not run.
            continuations = [ids[:-1] for _, _, ids in part]
            inputs, first = append_continuations(vlm, vision, [prompt for _, prompt, _ in part], continuations)
            states = vlm.run(inputs).last_hidden_state
            for row, (_, _, ids) in zip(states, part, strict=True):
                # A copy: a view would hold the states of all tokens.
                states_of_texts.append(row[first : first + max(1, len(ids))].clone())

        run_in_parts(range(len(all_texts)), vlm.texts_at_once, run)
        return torch.cat(states_of_texts)


def append_continuations(
    vlm: VLM, vision: Vision, prompts: Sequence[str], continuations: Sequence[Sequence[int]]
) -> tuple[dict[str, Any], int]:
    """Inputs of the model for prompts with tokens after them, each with its image from the beginning.

    Args:
        vlm: The VLM.
        vision: One image per prompt.
        prompts: The prompts.
        continuations: For each prompt the ids of the tokens that follow.

    Returns:
        The inputs, and the column of the prompts' last tokens.
    """
    inputs = vlm.inputs(vision, prompts)
    first = inputs["input_ids"].shape[1] - 1
    longest = max(len(ids) for ids in continuations)
    added_ids = torch.full((len(continuations), longest), vlm.pad_token_id)
    added_mask = torch.zeros_like(added_ids)
    for row, ids in enumerate(continuations):
        added_ids[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        added_mask[row, : len(ids)] = 1
    for name in _names_by_token(inputs):
        value = inputs[name]
        added = {"input_ids": added_ids, "attention_mask": added_mask}.get(name)
        if value.dim() > 2:  # what each token may see of an image: as the prompt's last one
            added = value[:, -1:].expand(-1, longest, *value.shape[2:])
        elif added is None:
            added = torch.full_like(added_ids, vlm.fill_values.get(name, 0))
        inputs[name] = torch.cat([value, added.to(value)], dim=1)
    return inputs, first


def _names_by_token(inputs: dict[str, Any]) -> list[str]:
    """Names of the inputs that have a value per token."""
    shape = inputs["input_ids"].shape
    return [name for name, value in inputs.items() if isinstance(value, Tensor) and value.shape[:2] == shape]


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.float().log_softmax(-1).gather(1, targets[:, None].to(logits.device))
