"""MEND: a network that turns the gradient of an edit into a better one (Mitchell et al., arXiv 2110.11309)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.errors import InputError, MismatchError, UnavailableError
from reasonedit.types import Edit
from reasonedit.vlm import VLM, Vision

from ..model import vlm_for, with_weights
from .layer import EditedWeights, LayerEditor, last_linear
from .training_example import TrainingExample, enable_gradients

BLOCKS = (-3, -2, -1)
"""The paper edits the MLPs of the last three blocks."""


def tokens_that_matter(gradients: Tensor) -> Tensor:
    """The tokens on which the answer depends: bool (T,), of the gradient of what leaves a layer (T, width_out)."""
    return gradients.float().abs().sum(1) > 0


class GradientNetwork(nn.Module):
    """Transforms a layer's gradient: the two factors of its rank-one parts together.

    A token's part of the gradient is ``delta u^T``: u is what entered the layer, delta the gradient of what left it.
    Both are brought to unit variance and go through two residual steps of low rank, which start as the identity; the
    result is the new gradient. All layers share the network, each with scales and offsets of its own (section 3.2 of
    the paper).

    Args:
        layers: Names of the layers, all of one shape.
        width_in: Numbers that enter each.
        width_out: Numbers that leave it.
        rank: Rank of the steps.
    """

    def __init__(self, layers: list[str], width_in: int, width_out: int, rank: int = 128) -> None:
        super().__init__()
        width = width_in + width_out
        self.layers, self.widths, self.rank = layers, (width_in, width_out), rank
        generator = torch.Generator().manual_seed(0)  # the same whatever ran before
        self.down = nn.ParameterList([torch.randn(rank, width, generator=generator) / width**0.5 for _ in range(2)])
        self.up = nn.ParameterList([torch.zeros(width, rank) for _ in range(2)])
        self.scale = nn.Parameter(torch.ones(len(layers), 2, width))
        self.offset = nn.Parameter(torch.zeros(len(layers), 2, width))
        self.rate = nn.Parameter(torch.full((len(layers),), -2.0))  # log10 of each layer's learning rate
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(len(layers), width))
        self.register_buffer("deviation", torch.ones(len(layers), width))

    def forward(self, layer: int, inputs: Tensor, gradients: Tensor) -> Tensor:
        """The change of a layer's weight.

        Args:
            layer: Number of the layer.
            inputs: u of each token (T, width_in).
            gradients: delta of each token (T, width_out).

        Returns:
            What is added to the weight, (width_out, width_in).
        """
        matters = tokens_that_matter(gradients)
        x = (torch.cat([inputs, gradients], dim=1).float() - self.mean[layer]) / self.deviation[layer]
        for i in range(2):
            inner = torch.relu(x @ self.down[i].T) if i == 0 else x @ self.down[i].T
            x = x + self.scale[layer, i] * (inner @ self.up[i].T) + self.offset[layer, i]
        u, delta = (x * matters[:, None]).split(self.widths, dim=1)  # type: ignore[no-untyped-call]
        return torch.as_tensor(-(10 ** self.rate[layer]) * delta.T @ u / matters.sum().clamp(min=1))

    def save(self, path: str | os.PathLike[str], fingerprint: dict[str, str]) -> None:
        """Write the network (safetensors), with the model that it was trained on.

        Raises:
            UnavailableError: It cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        about = {"layers": self.layers, "widths": self.widths, "rank": self.rank, "fingerprint": fingerprint}
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, path, {"about": json.dumps(about)})
        except (OSError, SafetensorError) as error:
            raise UnavailableError(f"The network of MEND cannot be written to '{path}' ({error}).") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], fingerprint: dict[str, str]) -> GradientNetwork:
        """Read a network.

        Raises:
            InputError: There is none, or it is damaged.
            MismatchError: It was trained on another model.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                network = cls(about["layers"], about["widths"][0], about["widths"][1], about["rank"])
                network.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"There is no network of MEND in '{path}' that can be read ({error}): train one with "
                "reasonedit train-mend --out FILE."
            ) from error
        if about["fingerprint"] != fingerprint:
            raise MismatchError(
                f"The network of MEND in '{path}' was trained on another model: train one with reasonedit train-mend."
            )
        return network


class MEND(LayerEditor):
    """Changes the last blocks by one transformed gradient step per edit.

    The edits pile up in the weights; when the run ends the model has its own again, bit for bit.

    Args:
        network: File that ``reasonedit train-mend`` wrote.
        scale: How much of the network's step is taken: less of it, where many edits are to pile up.

    Raises:
        InputError: ``scale`` is not positive.
    """

    title = "MEND"

    def __init__(self, network: str | os.PathLike[str], scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise InputError(f"scale must be above 0, not {scale}.")
        self.scale = scale
        self._path = Path(network)
        self.weights = EditedWeights(self)
        self.network: GradientNetwork | None = None
        self._probes: dict[str, Tensor] = {}
        self._changes: dict[str, Tensor] = {}

    @classmethod
    def with_new_network(cls, vlm: VLM, rank: int = 128) -> MEND:
        """With a network that is to be trained: it begins as plain gradient descent."""
        mend = cls("")
        mend.vlm = with_weights(vlm, cls.__name__)
        mend.layers = layers = [last_linear(mend.vlm, block) for block in BLOCKS]
        linear = mend.linear(layers[0])
        mend.network = GradientNetwork(layers, linear.in_features, linear.out_features, rank).to(vlm.device)
        return mend

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the network; see :meth:`LayerEditor.setup`."""
        vlm = with_weights(vlm_for(pl_module, None), MEND.__name__)
        if self.network is None or self.vlm is not vlm:  # one for another VLM is refused
            self.network = GradientNetwork.load(self._path, vlm.fingerprint).requires_grad_(False)
        self.network.to(vlm.device)
        self.given_layers = tuple(self.network.layers)
        super().setup(trainer, pl_module, stage)

    def install(self) -> None:
        """Hook the layers, and put the edited weights in; see :meth:`LayerEditor.install`."""
        super().install()
        self.weights.install()

    def remove(self) -> None:
        """Give the model its own weights back; see :meth:`LayerEditor.remove`."""
        super().remove()
        self.weights.restore()

    def forget(self) -> None:
        """Begin again from the model's own weights; see :meth:`Editor.forget`."""
        assert self.vlm is not None  # set-up ran
        with self.vlm.guard:
            self.weights.forget()

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Take the step; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        with enable_gradients():
            prompt = self.vlm.prompt(edit.question, edit.choices)
            example = self.example(self.vlm.see([edit.image]), prompt, edit.answer, ends=not edit.choices)
            for name, change in self.changes(example).items():
                self.weights.change(name, self.weights.current(name) + self.scale * change)

    def example(self, vision: Vision, prompt: str, answer: str, *, ends: bool = False) -> TrainingExample:
        """A question with its answer, for the edited layers."""
        assert self.vlm is not None
        return TrainingExample(self.vlm, vision, [prompt], [answer], self.layers, ends=ends)

    def gradients(self, example: TrainingExample) -> dict[str, tuple[Tensor, Tensor]]:
        """For each layer u and delta of each token of an example: (T, width_in) and (T, width_out)."""
        self._probes = {n: torch.zeros_like(example.layer_outputs[n], requires_grad=True) for n in self.layers}
        try:
            loss = example.losses().sum()
            gradients = torch.autograd.grad(loss, list(self._probes.values()))
        finally:
            self._probes = {}
        return {n: (example.layer_inputs[n][0], g[0]) for n, g in zip(self.layers, gradients, strict=True)}

    def changes(self, example: TrainingExample) -> dict[str, Tensor]:
        """What an edit adds to each layer's weight, (width_out, width_in)."""
        assert self.network is not None
        gradients = self.gradients(example)
        return {n: self.network(i, *gradients[n]) for i, n in enumerate(self.layers)}

    @contextmanager
    def try_changes(self, changes: dict[str, Tensor]) -> Iterator[None]:
        """Let the model run with changes that gradients pass through, and that are not written."""
        self._changes = changes
        try:
            yield
        finally:
            self._changes = {}

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """With changes that are tried, or where gradients are read; see :meth:`LayerEditor.replace_output`."""
        if name in self._probes:
            return output + self._probes[name]
        if name in self._changes:
            return output + nn.functional.linear(inputs, self._changes[name].to(inputs.dtype))
        return None
