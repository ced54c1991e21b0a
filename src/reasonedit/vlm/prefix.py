"""One image prefix in the language model's cache, shared by any number of texts that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reasonedit.finite import finite

from .devices import run_in_parts

if TYPE_CHECKING:
    from .base import VLM
    from .vision import Vision

_TEXTS_AT_ONCE = 8
_LOGITS_AT_ONCE = 2**25
"""Numbers of the vocabulary's logits held at once: 128 MiB in float32."""


@dataclass(frozen=True)
class Trie:
    """Token sequences laid out so that what they begin with in common is there once.

    Attributes:
        ids: One token per node.
        depths: Distance of each node from the root, 0 for the first token of a sequence.
        sees: (nodes, nodes) bool: for each node, its ancestors and itself.
        paths: For each sequence, the nodes of its tokens in order.
    """

    ids: Tensor
    depths: Tensor
    sees: Tensor
    paths: list[list[int]]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Trie:
        """Lay out sequences."""
        nodes: dict[tuple[int, int], int] = {}  # (parent, token) -> node
        ids: list[int] = []
        parents: list[int] = []
        paths = []
        for sequence in sequences:
            node, path = -1, []
            for token in sequence:
                parent, node = node, nodes.setdefault((node, token), len(ids))
                if node == len(ids):
                    ids.append(token)
                    parents.append(parent)
                path.append(node)
            paths.append(path)
        sees = torch.eye(len(ids), dtype=torch.bool)
        depths = [0] * len(ids)
        for node, parent in enumerate(parents):
            if parent >= 0:
                sees[node] |= sees[parent]
                depths[node] = depths[parent] + 1
        return cls(torch.tensor(ids, dtype=torch.long), torch.tensor(depths, dtype=torch.long), sees, paths)


class ImagePrefix:
    """Images that the language model has read once.

    All texts that follow one image run in one row: laid out as a :class:`Trie`, each token sees the image and the
    tokens of its own text only. Families in which the image's states depend on the text (``shares_prefix`` false), and
    attention kernels that take no such mask, run each text with its image from the beginning: slower, the same result.

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
        # Rows end alike, as they are padded on the left: what follows the image is cut off all of them at once.
        length = int((inputs["input_ids"][0] == self.vlm.image_token_id).nonzero()[-1]) + 1
        inputs |= {key: inputs[key][:, :length] for key in by_token(inputs)}
        self._mask = inputs["attention_mask"].bool()
        self._positions, self._next = self.vlm.positions(inputs)
        # A cache that knows nothing of sliding windows keeps everything: the masks see to them.
        output = self.vlm.states(**inputs, position_ids=self._positions, cache=DynamicCache(), use_cache=True)
        self._cache = output.cache

    def narrow(self, indices: Sequence[int]) -> None:
        """Go on with the images at ``indices`` alone, in that order."""
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
            prompts: For each image its prompts, as :meth:`VLM.prompt` words them.
            tokens: The tokens whose logits are wanted.

        Returns:
            For each image float32 (prompts, tokens), on the CPU.

        Raises:
            ReasonEditError: A text is longer than the model reads, or the model's numbers are not finite.
        """
        with self.vlm.guard:
            states = self._states([[(p, ()) for p in mine] for mine in prompts])
            picked = [self.vlm.head(part)[:, list(tokens)].float().cpu() for part in self._parts(states)]
        found = finite(_joined(picked, len(tokens)), "The logits of the next token")
        return list(found.split([len(mine) for mine in prompts]))  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def log_likelihood(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> list[Tensor]:
        """Mean log-likelihood per token of what follows prompts.

        Args:
            texts: For each image its texts: a prompt, as :meth:`VLM.prompt` words it, and the token ids that follow.

        Returns:
            For each image float32 (texts,), on the CPU.

        Raises:
            ReasonEditError: A text is longer than the model reads, or the model's numbers are not finite.
        """
        counts = [len(ids) for mine in texts for _, ids in mine]
        targets = torch.tensor([t for mine in texts for _, ids in mine for t in ids])
        with self.vlm.guard:
            states = self._states(texts)
            picked = [
                _likelihoods(self.vlm.head(part), target)
                for part, target in zip(self._parts(states), self._parts(targets), strict=True)
            ]
        steps = _joined([p.cpu() for p in picked], 1)[:, 0].split(counts)  # type: ignore[no-untyped-call]
        means = torch.stack([s.mean() for s in steps]) if steps else torch.empty(0)
        finite(means, "The likelihoods of what could be said")
        return list(means.split([len(mine) for mine in texts]))  # type: ignore[no-untyped-call]

    def _parts(self, rows: Tensor) -> Sequence[Tensor]:
        size = max(1, _LOGITS_AT_ONCE // self.vlm.vocabulary_size)
        return list(rows.split(size)) if len(rows) else []  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def _states(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> Tensor:
        """Last hidden states that predict the tokens after each prompt (or the one next token), in order: (all, D)."""
        if len(texts) != len(self):
            raise ValueError(f"{len(self)} images but texts for {len(texts)}")
        if not any(texts):
            return torch.empty(0, 0, device=self.vlm.device)
        for seen, mine in zip(self.vision.images, texts, strict=True):
            for prompt, ids in mine:
                self.vlm.check_room(seen, prompt, max(1, len(ids)))
        if self._cache is None:
            return self._apart(texts)
        # All texts of a row take part in its attention, seen or not: some at a time cost less than all at once.
        counts = [[max(1, len(ids)) for _, ids in mine] for mine in texts]
        longest = max(len(mine) for mine in texts)
        parts = []
        for start in range(0, longest, _TEXTS_AT_ONCE):
            chosen = [mine[start : start + _TEXTS_AT_ONCE] for mine in texts]
            found = self._packed(chosen)
            sizes = [sum(mine[start : start + _TEXTS_AT_ONCE]) for mine in counts]
            parts.append(found.split(sizes))  # type: ignore[no-untyped-call]
        return torch.cat([part[row] for row in range(len(texts)) for part in parts])

    def _packed(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> Tensor:
        vlm = self.vlm
        tries: dict[tuple[tuple[int, ...], ...], Trie] = {}  # images with the same texts share one
        rows, nodes, mine = [], [], []
        place = self.vision.images[0].placeholder  # all end alike
        after = {prompt: vlm.token_ids_after_image(prompt, place) for texts_of in texts for prompt, _ in texts_of}
        for row, texts_of in enumerate(texts):
            # The last of the scored tokens predicts nothing that is asked for: it need not run.
            sequences = tuple((*after[prompt], *ids[:-1]) for prompt, ids in texts_of)
            if sequences not in tries:
                tries[sequences] = Trie.of(sequences)
            trie = tries[sequences]
            mine.append(trie)
            for path, (_, ids) in zip(trie.paths, texts_of, strict=True):
                kept = path[len(path) - max(1, len(ids)) :]
                nodes += kept
                rows += [row] * len(kept)
        width = max(len(t.ids) for t in mine)
        tokens = torch.full((len(mine), width), vlm.pad_token_id, dtype=torch.long)
        positions = torch.zeros(len(mine), width, dtype=torch.long)
        sees = torch.eye(width, dtype=torch.bool).repeat(len(mine), 1, 1)
        for row, trie in enumerate(mine):
            count = len(trie.ids)
            tokens[row, :count], positions[row, :count], sees[row, :count, :count] = trie.ids, trie.depths, trie.sees
        device = self._mask.device
        positions = positions.to(device) + self._next[:, None]
        visible = torch.cat([self._mask[:, None].expand(-1, width, -1), sees.to(device)], dim=2)[:, None]
        output = vlm.states(
            input_ids=tokens.to(device),
            attention_mask=self._masks(visible, positions),
            # Where positions have several axes, those of texts agree in all of them.
            position_ids=positions.expand(*self._positions.shape[:-2], -1, -1),
            cache=self._cache,
            use_cache=True,
        )
        self._cache.crop(-width)
        return torch.as_tensor(output.last_hidden_state[rows, nodes])

    def _masks(self, visible: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """What is added to the attention's scores, from what each token may see: (B, 1, new, all)."""
        dtype = self.vlm.model.dtype

        def added(allowed: Tensor) -> Tensor:
            mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            return mask.masked_fill_(~allowed, torch.finfo(dtype).min)

        window = self.vlm.sliding_window
        if window is None:
            return added(visible)
        distance = positions[:, :, None] - torch.cat([self._positions, positions], dim=1)[:, None]
        near = visible & (distance < window)[:, None]
        return {"full_attention": added(visible), "sliding_attention": added(near)}

    def _apart(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> Tensor:
        vlm = self.vlm
        flat = [(row, prompt, ids) for row, texts_of in enumerate(texts) for prompt, ids in texts_of]
        found: list[Tensor] = []

        def run(indices: list[int]) -> None:
            part = [flat[i] for i in indices]
            vision = self.vision.select([row for row, _, _ in part])
            # The last of the scored tokens predicts nothing that is asked for: it need not run.
            inputs, first = append_continuations(vlm, vision, [p for _, p, _ in part], [ids[:-1] for _, _, ids in part])
            states = vlm.run(inputs).last_hidden_state
            # Copies: a view would hold the states of all tokens.
            found.extend(
                s[first : first + max(1, len(ids))].clone() for s, (_, _, ids) in zip(states, part, strict=True)
            )

        run_in_parts(range(len(flat)), vlm.texts_at_once, run)
        return torch.cat(found)


def append_continuations(
    vlm: VLM, vision: Vision, prompts: Sequence[str], ids: Sequence[Sequence[int]]
) -> tuple[dict[str, Any], int]:
    """Inputs of the model for prompts with tokens after them, each with its image from the beginning.

    Returns:
        The inputs, and the column of the prompts' last tokens.
    """
    inputs = vlm.inputs(vision, prompts)
    first = inputs["input_ids"].shape[1] - 1
    longest = max(len(mine) for mine in ids)
    more = torch.full((len(ids), longest), vlm.pad_token_id)
    real = torch.zeros_like(more)
    for row, mine in enumerate(ids):
        more[row, : len(mine)] = torch.tensor(mine, dtype=torch.long)
        real[row, : len(mine)] = 1
    for key in by_token(inputs):
        value = inputs[key]
        new = {"input_ids": more, "attention_mask": real}.get(key)
        if value.dim() > 2:  # what each token may see of an image: as the prompt's last one
            new = value[:, -1:].expand(-1, longest, *value.shape[2:])
        elif new is None:
            new = torch.full_like(more, vlm.fill_values.get(key, 0))
        inputs[key] = torch.cat([value, new.to(value)], dim=1)
    return inputs, first


def by_token(inputs: dict[str, Any]) -> list[str]:
    """Names of the inputs that have a value per token."""
    shape = inputs["input_ids"].shape
    return [key for key, value in inputs.items() if isinstance(value, Tensor) and value.shape[:2] == shape]


def _likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.float().log_softmax(-1).gather(1, targets[:, None].to(logits.device))


def _joined(parts: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.empty(0, width)
