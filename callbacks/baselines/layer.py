"""Editors that work on linear layers of the language model."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.errors import InputError, MismatchError, NotFoundError, UnavailableError
from reasonedit.vlm import LocalVLM

from ..editor import Editor
from ..model import vlm_for, with_weights
from .training_example import in_rows


def language_blocks(vlm: LocalVLM) -> list[str]:
    """Names of the language model's blocks: a Q-Former's are none of them."""
    prefix = vlm.language_layers[-1].rsplit(".", 1)[0]
    return [name for name in vlm.language_layers if name.rsplit(".", 1)[0] == prefix]


def linear_layers(vlm: LocalVLM, block: str) -> list[str]:
    """Names of the linear layers of a block; those of an adapter (PEFT) around one are none of the model's own."""
    modules = {f"{block}.{name}": m for name, m in vlm.model.get_submodule(block).named_modules()}
    adapted = [f"{name}." for name, m in modules.items() if isinstance(getattr(m, "base_layer", None), nn.Module)]
    own = [n for n in modules if not any(n.startswith(a) and not n.startswith(f"{a}base_layer") for a in adapted)]
    return [name for name in own if isinstance(modules[name], nn.Linear)]


def last_linear(vlm: LocalVLM, block: int) -> str:
    """Name of the last linear layer of a language block: what leads out of its MLP.

    Args:
        vlm: The VLM.
        block: Number of the block; from the end where negative.

    Raises:
        NotFoundError: There is no such block, or it has no linear layer.
    """
    blocks = language_blocks(vlm)
    try:
        name = blocks[block]
    except IndexError as error:
        raise NotFoundError(
            f"The model '{vlm.name}' has {len(blocks)} language blocks, not a block {block}."
        ) from error
    linear = linear_layers(vlm, name)
    if not linear:
        raise NotFoundError(f"The block '{name}' of the model '{vlm.name}' has no linear layer to edit.")
    return linear[-1]


class LayerEditor(Editor):
    """An editor that reads or changes linear layers while a run lasts.

    While it lasts, each text runs with its image from the beginning: what an image alone becomes in the language model
    says nothing about the question yet, on which these editors decide. When it ends, or fails, the model is as it was.

    Args:
        layers: Names of linear layers, or numbers of blocks whose last linear layer is meant.

    Attributes:
        given_layers: What was given.
        layers: Names of the layers; there once the run is set up.
        vlm: The VLM; there once the run is set up.
    """

    def __init__(self, *layers: str | int) -> None:
        super().__init__()
        self.given_layers = layers
        self.layers: list[str] = []
        self.vlm: LocalVLM | None = None
        self._handles: list[Any] = []
        self._installed = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the layers.

        Raises:
            MismatchError: The editor holds edits of another VLM.
            ReasonEditError: The module has no VLM, the VLM no such layer, or its weights are quantised; or edits would
                be written on several devices.
        """
        super().setup(trainer, pl_module, stage)
        before, vlm = self.vlm, with_weights(vlm_for(pl_module, None), type(self).__name__)
        if self.edits and before is not None and before is not vlm and before.fingerprint != vlm.fingerprint:
            raise MismatchError(f"This {type(self).__name__} holds edits of another VLM: make a new one.")
        self.vlm = vlm
        self.layers = [name if isinstance(name, str) else last_linear(vlm, name) for name in self.given_layers]
        for name in self.layers:
            try:
                module = vlm.model.get_submodule(name)
            except AttributeError as error:
                raise NotFoundError(f"The model '{vlm.name}' has no layer '{name}'.") from error
            if not isinstance(module, nn.Linear) or not module.weight.is_floating_point():
                raise InputError(f"{type(self).__name__} needs a linear layer that is not quantised, not '{name}'.")
            blocks = language_blocks(vlm)
            if not any(name.startswith(f"{block}.") for block in blocks):
                raise InputError(
                    f"{type(self).__name__} works inside the language blocks, from '{blocks[0]}' to '{blocks[-1]}', "
                    f"and '{name}' is in none of them: name a layer in one, or a number."
                )

    def linear(self, name: str) -> nn.Linear:
        """A layer."""
        assert self.vlm is not None  # set-up ran
        module = self.vlm.model.get_submodule(name)
        assert isinstance(module, nn.Linear)
        return module

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hook the model; the base pass is over by now.

        Raises:
            UnavailableError: Another editor works on it.
        """
        assert self.vlm is not None  # set-up ran
        if "shares_prefix" in self.vlm.__dict__:
            raise UnavailableError(
                f"Another editor works on the layers of the model '{self.vlm.name}' right now: wait until its run is "
                "over, or load the model once more."
            )
        with self.vlm.guard:  # whoever else asks the model meanwhile meets it before or after, not between
            self.vlm.shares_prefix = False
            self._installed = True
            self.install()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the model as it was."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the model as it was; errors as for :meth:`RunCallback.on_exception`."""
        super().on_exception(trainer, pl_module, exception)
        self._restore()

    def install(self) -> None:
        """Hook the layers; an editor that changes weights puts its own in as well."""
        self._handles = [self.linear(n).register_forward_hook(self._hook(n)) for n in self.layers]

    def remove(self) -> None:
        """Take the hooks away; an editor that changes weights puts the model's own back as well."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _restore(self) -> None:
        if self.vlm is not None and self._installed:
            with self.vlm.guard:
                self._installed = False
                del self.vlm.shares_prefix
                self.remove()

    def _hook(self, name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            inputs = args[0]
            if inputs.dim() == 3 or self.vlm is None or self.vlm.prompt_mask is None:
                return self.replace_output(name, inputs, output)
            rows = len(self.vlm.prompt_mask)
            replaced = self.replace_output(name, in_rows(inputs, rows), in_rows(output, rows))
            return None if replaced is None else replaced.reshape(output.shape)

        return hook

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """What leaves a layer in place of its output, or ``None`` where that stays; see :attr:`VLM.prompt_mask`.

        Args:
            name: The layer.
            inputs: What enters it, (rows, columns, width).
            output: What would leave it.
        """
        return None

    def prompt_mask(self, inputs: Tensor) -> Tensor | None:
        """Where the prompts' tokens are in a pass, or ``None`` in one that goes on after them.

        Args:
            inputs: What enters a layer, (rows, columns, width).
        """
        assert self.vlm is not None  # set-up ran
        mask = self.vlm.prompt_mask
        if mask is None or inputs.shape[1] < mask.shape[1]:
            return None
        return mask.repeat_interleave(len(inputs) // len(mask), dim=0)  # where several answers are sought at once


class EditedWeights:
    """Linear layers whose weights an editor changes, and that come back bit for bit.

    Args:
        owner: The editor.
    """

    def __init__(self, owner: LayerEditor) -> None:
        self._owner = owner
        self._original: dict[str, Tensor] = {}
        self._edited: dict[str, Tensor] = {}  # float32: many small steps would be lost in half precision

    def install(self) -> None:
        """Put the edited weights in; before the first edit they are the model's own."""
        for name in self._owner.layers:
            weight = self._owner.linear(name).weight
            with torch.inference_mode(False):
                self._original[name] = weight.detach().clone()
            if name in self._edited:
                self._copy(name, self._edited[name])

    def restore(self) -> None:
        """Put the model's own weights back."""
        for name, weight in self._original.items():
            self._copy(name, weight)
        self._original = {}

    def forget(self) -> None:
        """Put the model's own weights in, as if nothing had been edited."""
        for name, weight in self._original.items():
            self._copy(name, weight)
        self._edited = {}

    def current(self, name: str) -> Tensor:
        """The weight of a layer as edited so far, float32."""
        with torch.inference_mode(False):
            return self._edited.get(name, self._owner.linear(name).weight.detach().float()).clone()

    def change(self, name: str, weight: Tensor) -> None:
        """Give a layer another weight."""
        self._edited[name] = weight.detach()
        self._copy(name, weight)

    def _copy(self, name: str, weight: Tensor) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._owner.linear(name).weight.copy_(weight)
