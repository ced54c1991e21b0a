"""Images in the language model's cache: each is read once, and any number of texts follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from reasonedit.util.finite import check_finite

from .devices import run_in_parts
from .lanes import NOBODY, Block, pack_rows, pack_tries, place_images, visible_columns
from .trie import Trie
from .vision import ReadImages

if TYPE_CHECKING:
    from .base import LocalVLM
    from .vision import Vision

_TEXTS_AT_ONCE = 8
_LOGITS_AT_ONCE = 2**25
"""Numbers of the vocabulary's logits held at once: 128 MiB in float32."""

Text: TypeAlias = tuple[str, Sequence[int]]
"""A prompt, and the ids of the tokens that follow it."""


class ImagePrefix(ReadImages):
    """Images that the language model reads once, each together with the first texts that are about it.

    The texts about an image are laid out as a :class:`Trie`: each token sees the image and the tokens of its own text
    only. Images whose texts differ in length share rows (see :mod:`.lanes`). Families in which the image's states
    depend on the text (``shares_prefix`` false), and attention kernels that take no such mask, run each text with its
    image from the beginning: slower, with the same result.

    Args:
        vlm: The VLM.
        vision: The images, as :meth:`LocalVLM.see` returned them.
    """

    def __init__(self, vlm: LocalVLM, vision: Vision) -> None:
        super().__init__(vlm, vision)
        self.vlm: LocalVLM = vlm
        # Told the number of an image and what is said about it so far, as :meth:`answer` goes on.
        self.tell: Callable[[int, Sequence[int]], None] = lambda image, said: None
        self._shares = vlm.can_share_prefix
        self._cache: Any = None
        self._lanes: dict[int, int] = {}  # of the images that were read
        # Of the columns in the cache: whose they are, and their positions; of each image, the position after it.
        self._owners = torch.empty(0, 0, dtype=torch.long)
        self._positions = torch.empty(0, 0, dtype=torch.long)
        self._next = torch.zeros(len(vision), dtype=torch.long, device=vlm.device)

    def narrow(self, indices: Sequence[int]) -> None:
        """Keep only the images at ``indices``, in that order."""
        super().narrow(indices)
        if self._cache is None:
            return
        rows = sorted({self._lanes[i] for i in indices if i in self._lanes})
        self._lanes = {new: rows.index(self._lanes[old]) for new, old in enumerate(indices) if old in self._lanes}
        of_old = torch.full((len(self._next) + 1,), NOBODY)
        of_old[list(indices)] = torch.arange(len(indices))
        chosen = torch.tensor(rows, dtype=torch.long)  # on the CPU: layers may be on several devices
        with torch.inference_mode():
            self._owners = of_old.to(self._owners.device)[self._owners[chosen]]  # NOBODY is the last
            self._positions = self._positions[..., chosen, :]
            self._next = self._next[list(indices)]
            self._cache.batch_select_indices(chosen)

    @torch.inference_mode()
    def next_logits(self, prompts: Sequence[Sequence[str]], tokens: Sequence[int] | None = None) -> list[Tensor]:
        """Logits of tokens that may follow prompts.

        Args:
            prompts: For each image its prompts, from :meth:`LocalVLM.prompt`.
            tokens: Ids of the tokens; all of the vocabulary when not given.

        Returns:
            For each image float32 (prompts, tokens), on the CPU.

        Raises:
            InputError: A text is longer than the model reads, or the model's numbers are not finite.
        """
        with self.vlm.guard:
            states = self._states([[(prompt, ()) for prompt in prompts_of] for prompts_of in prompts])
            chosen = slice(None) if tokens is None else list(tokens)
            parts = [self.vlm.head(part)[:, chosen].float().cpu() for part in self._split(states)]
        logits = torch.cat(parts) if parts else torch.empty(0, len(tokens or ()))
        check_finite(logits, "The logits of the next token")
        return list(logits.split([len(prompts_of) for prompts_of in prompts]))  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def log_likelihood(self, texts: Sequence[Sequence[Text]]) -> list[Tensor]:
        """Mean log-likelihood per token of what follows prompts.

        Args:
            texts: For each image its texts: a prompt, from :meth:`LocalVLM.prompt`, and the token ids that follow.

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

    # ---- answers

    @property
    def can_answer(self) -> bool:
        """Whether :meth:`answer` takes no more passes than the model's own way to generate."""
        return self._shares and (self._cache is not None or not self.vlm.images_see_ahead)

    @torch.inference_mode()
    def answer(self, prompts: Mapping[int, str], most: int, never: Sequence[int] = ()) -> dict[int, Tensor]:
        """What the model most probably says after prompts, token by token.

        The prompts and answers stay in the cache: what is asked afterwards about these images would follow them.

        Args:
            prompts: For some of the images, by their numbers, a prompt from :meth:`LocalVLM.prompt`.
            most: The most tokens of an answer.
            never: Ids of tokens that are never said.

        Returns:
            For each of the images the ids of the tokens, with the one that ends the answer.

        Raises:
            InputError: The model's numbers are not finite.
        """
        with self.vlm.guard:
            tries, _ = self._lay_out({image: [(prompt, ())] for image, prompt in prompts.items()})
            said: dict[int, list[int]] = {image: [] for image in prompts}
            states = self._run(tries, {image: [len(trie.ids) - 1] for image, trie in tries.items()}, keep=True)
            live = list(prompts)
            while True:
                logits = check_finite(self.vlm.head(states).float(), "The logits of an answer")
                logits[:, list(never)] = -torch.inf
                for image, token in zip(live, logits.argmax(-1).tolist(), strict=True):
                    said[image].append(token)
                    self.tell(image, said[image])
                live = [i for i in live if len(said[i]) < most and said[i][-1] not in self.vlm.end_token_ids]
                if not live:
                    return {image: torch.tensor(tokens) for image, tokens in said.items()}
                last = {image: Trie.of([said[image][-1:]]) for image in live}
                states = self._run(last, {image: [0] for image in live}, keep=True)

    # ---- passes

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
        if not self._shares:
            return self._run_apart(texts)
        # All texts of a row take part in its attention, seen or not: a few at a time cost less than all at once.
        longest = max(len(texts_of) for texts_of in texts)
        parts: list[list[Tensor]] = [[] for _ in texts]
        for start in range(0, longest, _TEXTS_AT_ONCE):
            some = {i: part for i, t in enumerate(texts) if (part := t[start : start + _TEXTS_AT_ONCE])}
            tries, nodes = self._lay_out(some)
            sizes = [len(nodes[image]) for image in some]
            states = self._run(tries, nodes).split(sizes)  # type: ignore[no-untyped-call]
            for image, part in zip(some, states, strict=True):
                parts[image].append(part)
        return torch.cat([part for of_image in parts for part in of_image])

    def _lay_out(self, texts: Mapping[int, Sequence[Text]]) -> tuple[dict[int, Trie], dict[int, list[int]]]:
        """The trie of each image's texts, and its nodes whose states are asked for, in order."""
        placeholder = self.vision.images[0].placeholder  # all end alike
        prompts = {prompt for texts_of in texts.values() for prompt, _ in texts_of}
        after_image = {prompt: self.vlm.token_ids_after_image(prompt, placeholder) for prompt in prompts}
        known: dict[tuple[tuple[int, ...], ...], Trie] = {}  # images with the same texts share one
        tries: dict[int, Trie] = {}
        nodes: dict[int, list[int]] = {}
        for image, texts_of in texts.items():
            # The last of the scored tokens predicts nothing that is asked for: it need not run.
            sequences = tuple((*after_image[prompt], *ids[:-1]) for prompt, ids in texts_of)
            tries[image] = known.get(sequences) or known.setdefault(sequences, Trie.of(sequences))
            paths = zip(tries[image].paths, texts_of, strict=True)
            nodes[image] = [node for path, (_, ids) in paths for node in path[len(path) - max(1, len(ids)) :]]
        return tries, nodes

    def _run(self, tries: Mapping[int, Trie], nodes: Mapping[int, Sequence[int]], *, keep: bool = False) -> Tensor:
        """Run texts behind their images, and images that were not read yet before them.

        Args:
            tries: The texts of images, by the images' numbers.
            nodes: For each of these images the nodes whose last hidden states are asked for.
            keep: Whether the texts stay in the cache.

        Returns:
            The states, in order: (all, D).
        """
        vlm = self.vlm
        blocks, pixels = self._begin(tries)
        packed = pack_tries(tries, self._lanes, self._owners.shape[0], vlm.pad_token_id)
        owners = packed.owners.to(vlm.device)
        positions = packed.depths.to(vlm.device) + self._next[owners.clamp(min=0)]
        # Where positions have several axes, those of texts agree in all of them.
        positions = positions.expand(*self._positions.shape[:-2], -1, -1)
        blocks.append(Block({"input_ids": packed.ids.to(vlm.device)}, positions, owners, packed.sees.to(vlm.device)))
        inputs = {
            name: torch.cat([b.inputs.get(name, torch.zeros_like(b.owners)) for b in blocks], dim=1)
            for name in blocks[0].inputs
        }
        positions = torch.cat([block.positions for block in blocks], dim=-1)
        masks = self._attention_masks(visible_columns(self._owners, blocks), positions)
        output = vlm.states(
            **inputs, **pixels, attention_mask=masks, position_ids=positions, cache=self._cache, use_cache=True
        )
        width = packed.ids.shape[1]
        if keep:
            for image, trie in tries.items():
                self._next[image] += len(trie.ids)
        else:
            self._cache.crop(-width)
            blocks, positions = blocks[:-1], positions[..., : positions.shape[-1] - width]
        self._owners = torch.cat([self._owners, *(block.owners for block in blocks)], dim=1)
        self._positions = torch.cat([self._positions, positions], dim=-1)
        states = output.last_hidden_state[:, -width:]
        rows = [self._lanes[image] for image, of_image in nodes.items() for _ in of_image]
        columns = [packed.first[image] + node for image, of_image in nodes.items() for node in of_image]
        return torch.as_tensor(states[rows, columns])

    def _begin(self, tries: Mapping[int, Trie]) -> tuple[list[Block], dict[str, Any]]:
        """Find room for the images of texts that were not read yet.

        Returns:
            Their columns, none where all were read, and what else the model takes with them.
        """
        vlm = self.vlm
        new = [image for image in tries if image not in self._lanes]
        if not new:
            return [], {}
        if vlm.images_see_ahead:
            self._read_images()
            return [], {}
        loads = [0] * self._owners.shape[0]
        for image in tries.keys() - set(new):
            loads[self._lanes[image]] += len(tries[image].ids)
        lengths = {image: self.vision.images[image].size + len(tries[image].ids) for image in new}
        lanes = place_images(lengths, loads, vlm.model.config.get_text_config().hidden_size)
        self._lanes |= lanes
        new.sort(key=lambda image: (lanes[image], image))  # the model takes the images in the order of the lanes
        inputs, positions, following = self._image_inputs(new)
        self._next[new] = following
        self._widen(max([*lanes.values(), len(loads) - 1]) + 1, positions)
        by_token = {name: inputs.pop(name) for name in _names_by_token(inputs)}
        block = pack_rows(by_token, positions, new, self._lanes, self._owners.shape[0], vlm.pad_token_id)
        return [block], inputs

    def _image_inputs(self, images: Sequence[int]) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The model's inputs of images without texts, the positions, and the position after each."""
        vlm = self.vlm
        inputs = vlm.inputs(self.vision.select(images), [vlm.prompt("")] * len(images))
        # All rows are padded on the left, so they end alike, and what follows the image is cut off all at once.
        length = int((inputs["input_ids"][0] == vlm.image_token_id).nonzero()[-1]) + 1
        inputs |= {name: inputs[name][:, :length] for name in _names_by_token(inputs)}
        return inputs, *vlm.positions(inputs)

    def _widen(self, count: int, positions: Tensor) -> None:
        """Have so many lanes: what is new in them is nobody's."""
        from transformers import DynamicCache

        if self._cache is None:
            # A cache without sliding windows keeps everything; the masks hide what a window does not reach.
            self._cache = DynamicCache()
            self._owners = self._owners.new_empty(count, 0, device=positions.device)
            self._positions = positions.new_empty(*positions.shape[:-2], count, 0)
            return
        more = count - self._owners.shape[0]
        if more:
            self._owners = torch.nn.functional.pad(self._owners, (0, 0, 0, more), value=NOBODY)
            self._positions = torch.nn.functional.pad(self._positions, (0, 0, 0, more))
            for layer in self._cache.layers:
                layer.keys, layer.values = (
                    torch.cat([x, x.new_zeros(more, *x.shape[1:])]) for x in (layer.keys, layer.values)
                )

    def _read_images(self) -> None:
        """Read all images, one in each lane, by the mask that the model makes itself."""
        images = range(len(self))
        inputs, positions, self._next = self._image_inputs(images)
        self._widen(len(self), positions)
        self._lanes = {image: image for image in images}
        mask = inputs["attention_mask"].bool()
        self.vlm.states(**inputs, position_ids=positions, cache=self._cache, use_cache=True)
        self._owners = torch.arange(len(self), device=mask.device)[:, None].expand_as(mask).where(mask, NOBODY)
        self._positions = positions

    def _attention_masks(self, visible: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """The masks in the form that the attention takes.

        Args:
            visible: Which tokens each new token sees: bool (lanes, 1, new, all).
            positions: Positions of the new tokens, (lanes, new), or with axes before.
        """
        config, dtype = self.vlm.model.config.get_text_config(), self.vlm.model.dtype

        def mask(allowed: Tensor) -> Tensor:
            if config._attn_implementation == "sdpa":
                return allowed
            added = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)  # to the scores
            return added.masked_fill_(~allowed, torch.finfo(dtype).min)

        window = self.vlm.sliding_window
        if window is None:
            return mask(visible)
        distance = positions[:, :, None] - torch.cat([self._positions, positions], dim=1)[:, None]
        return {"full_attention": mask(visible), "sliding_attention": mask(visible & (distance < window)[:, None])}

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
            # Copies: views would hold the states of all tokens. All or none, as a part that failed is run again.
            rows = zip(states, part, strict=True)
            states_of_texts.extend([row[first : first + max(1, len(ids))].clone() for row, (_, _, ids) in rows])

        run_in_parts(range(len(all_texts)), vlm.texts_at_once, run)
        return torch.cat(states_of_texts)


def append_continuations(
    vlm: LocalVLM, vision: Vision, prompts: Sequence[str], continuations: Sequence[Sequence[int]]
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
