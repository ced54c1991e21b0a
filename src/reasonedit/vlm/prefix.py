"""One image prefix in the language model's cache, shared by any number of texts that follow it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import VLM, Vision

_LOGITS_AT_ONCE = 2**25
"""Numbers of the vocabulary's logits held at once: 128 MiB in float32."""
_APART = 16
"""Texts per batch where each runs with its image from the beginning."""


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
        self._mask = torch.empty(0, 0, dtype=torch.bool)
        if len(vision) and vlm.packs:
            self._read()

    def __len__(self) -> int:
        return len(self.vision)

    @torch.inference_mode()
    def _read(self) -> None:
        inputs = self.vlm.inputs(self.vision, [self.vlm.prompt("")] * len(self.vision))
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        # Rows end alike, as they are padded on the left: what follows the image is cut off all of them at once.
        length = int((ids[0] == self.vlm.image_token_id).nonzero()[-1]) + 1
        inputs["input_ids"], inputs["attention_mask"] = ids[:, :length], mask[:, :length]
        self._mask = mask[:, :length].bool()
        output = self.vlm.states(**inputs, position_ids=positions_of(mask[:, :length]), use_cache=True)
        self._cache = output.past_key_values

    def select(self, indices: Sequence[int]) -> ImagePrefix:
        """The images at ``indices``, in that order, repeats allowed."""
        chosen = ImagePrefix(self.vlm, self.vision.select([]))
        chosen.vision = self.vision.select(indices)
        if self._cache is not None:
            rows = torch.as_tensor(indices, dtype=torch.long, device=self._mask.device)
            with torch.inference_mode():
                chosen._cache, chosen._mask = copy.deepcopy(self._cache), self._mask[rows]
                chosen._cache.batch_select_indices(rows)
        return chosen

    def next_logits(self, prompts: Sequence[Sequence[str]], tokens: Sequence[int]) -> list[Tensor]:
        """Logits of tokens that may follow prompts.

        Args:
            prompts: For each image its prompts, as :meth:`VLM.prompt` words them.
            tokens: The tokens whose logits are wanted.

        Returns:
            For each image float32 (prompts, tokens), on the CPU.
        """
        states = self._states([[(p, ()) for p in mine] for mine in prompts])
        picked = [self.vlm.head(part)[:, list(tokens)].float().cpu() for part in self._parts(states)]
        return list(_joined(picked, len(tokens)).split([len(mine) for mine in prompts]))  # type: ignore[no-untyped-call]

    def log_likelihood(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> list[Tensor]:
        """Mean log-likelihood per token of what follows prompts.

        Args:
            texts: For each image its texts: a prompt, as :meth:`VLM.prompt` words it, and the token ids that follow.

        Returns:
            For each image float32 (texts,), on the CPU.
        """
        states = self._states(texts)
        counts = [len(ids) for mine in texts for _, ids in mine]
        targets = torch.tensor([t for mine in texts for _, ids in mine for t in ids], device=states.device)
        picked = [
            self.vlm.head(part).float().log_softmax(-1).gather(1, target[:, None])
            for part, target in zip(self._parts(states), self._parts(targets), strict=True)
        ]
        steps = _joined([p.cpu() for p in picked], 1)[:, 0].split(counts)  # type: ignore[no-untyped-call]
        means = torch.stack([s.mean() for s in steps]) if steps else torch.empty(0)
        return list(means.split([len(mine) for mine in texts]))  # type: ignore[no-untyped-call]

    def _parts(self, rows: Tensor) -> Sequence[Tensor]:
        size = max(1, _LOGITS_AT_ONCE // self.vlm.vocabulary)
        return list(rows.split(size)) if len(rows) else []  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def _states(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> Tensor:
        """Last hidden states that predict the tokens after each prompt (or the one next token), in order: (all, D)."""
        if len(texts) != len(self):
            raise ValueError(f"{len(self)} images but texts for {len(texts)}")
        if not any(texts):
            return torch.empty(0, 0, device=self.vlm.device)
        return self._packed(texts) if self._cache is not None else self._apart(texts)

    def _packed(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> Tensor:
        vlm = self.vlm
        tries: dict[tuple[tuple[int, ...], ...], Trie] = {}  # images with the same texts share one
        rows, nodes, mine = [], [], []
        after = {prompt: vlm.after_image(prompt) for texts_of in texts for prompt, _ in texts_of}
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
        tokens = torch.full((len(mine), width), vlm.pad, dtype=torch.long)
        positions = torch.zeros(len(mine), width, dtype=torch.long)
        sees = torch.eye(width, dtype=torch.bool).repeat(len(mine), 1, 1)
        for row, trie in enumerate(mine):
            count = len(trie.ids)
            tokens[row, :count], positions[row, :count], sees[row, :count, :count] = trie.ids, trie.depths, trie.sees
        device = self._mask.device
        positions = positions.to(device) + self._mask.sum(1, keepdim=True)
        visible = torch.cat([self._mask[:, None].expand(-1, width, -1), sees.to(device)], dim=2)[:, None]
        dtype = vlm.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(~visible, torch.finfo(dtype).min)
        output = vlm.states(
            input_ids=tokens.to(device),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache.crop(-width)
        return torch.as_tensor(output.last_hidden_state[rows, nodes])

    def _apart(self, texts: Sequence[Sequence[tuple[str, Sequence[int]]]]) -> Tensor:
        vlm = self.vlm
        flat = [(row, prompt, ids) for row, texts_of in enumerate(texts) for prompt, ids in texts_of]
        found = []
        for start in range(0, len(flat), _APART):
            part = flat[start : start + _APART]
            inputs = vlm.inputs(self.vision.select([row for row, _, _ in part]), [prompt for _, prompt, _ in part])
            longest = max(max(0, len(ids) - 1) for _, _, ids in part)
            more = torch.full((len(part), longest), vlm.pad)
            real = torch.zeros_like(more)
            for row, (_, _, ids) in enumerate(part):
                more[row, : len(ids) - 1 if ids else 0] = torch.tensor(ids[:-1], dtype=torch.long)
                real[row, : len(ids) - 1 if ids else 0] = 1
            first = inputs["input_ids"].shape[1] - 1
            inputs["input_ids"] = torch.cat([inputs["input_ids"], more.to(vlm.device)], dim=1)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], real.to(vlm.device)], dim=1)
            states = vlm.states(**inputs, position_ids=positions_of(inputs["attention_mask"])).last_hidden_state
            found += [s[first : first + max(1, len(ids))] for s, (_, _, ids) in zip(states, part, strict=True)]
        return torch.cat(found)


def positions_of(mask: Tensor) -> Tensor:
    """Positions that do not count the padding: prompt and continuation must agree on them, whatever the padding."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _joined(parts: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.empty(0, width)
