"""Load a VLM onto this machine, from the hub or a folder, with the adapter on it if there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.errors import InputError, NotFoundError, ReasonEditError, UnavailableError
from reasonedit.registry import lookup
from reasonedit.util.weights import files_digest

from .base import LocalVLM
from .checkpoint import Adapter, check_files, check_weights, find_adapter, first_line
from .devices import best_dtype, is_out_of_memory
from .wrap import as_vlm

if TYPE_CHECKING:
    import torch

HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
)


def load_local(model: str, *, dtype: str = "auto", place: bool = False, **kwargs: Any) -> LocalVLM:
    """Load a VLM onto this machine; see :func:`~reasonedit.vlm.load.load_vlm`."""
    import torch

    torch_dtype = torch_dtype_of(dtype)
    for name, instead in (("device", "device_map, such as device_map='cuda'"), ("torch_dtype", "dtype")):
        if name in kwargs:
            raise InputError(f"There is no argument '{name}': use {instead}.")
    kwargs["trust_remote_code"] = bool(kwargs.get("trust_remote_code"))  # else transformers asks on the terminal
    checkpoint = Checkpoint.find(model, {k: v for k, v in kwargs.items() if k in HUB_ARGUMENTS})
    checkpoint.read_config()  # refuses what is no vision-language model
    loaded, processor = checkpoint.load(torch_dtype, kwargs)
    vlm = as_vlm(loaded, processor, checkpoint.lasting_name)
    vlm.files_digest = checkpoint.digest()
    if place and "device_map" not in kwargs and vlm.movable and torch.cuda.is_available():
        vlm.model.to("cuda")
    return vlm


def torch_dtype_of(name: str) -> torch.dtype:
    """The type of torch that is meant by ``"auto"`` or by its name.

    Raises:
        InputError: There is no such type.
    """
    import torch

    if name == "auto":
        return best_dtype()
    dtype = getattr(torch, str(name).removeprefix("torch."), None)  # a type itself is meant, too
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"'{name}' is not a torch type: use auto, bfloat16, float16 or float32.")
    return dtype


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's files are.

    Attributes:
        name: The model as the user named it.
        path: The hub id or folder of that.
        adapter: The adapter at ``path``, if it is one and no whole model.
        hub: Arguments for the hub.
        offered: Whether a package offers the model under its name.
    """

    name: str
    path: str
    adapter: Adapter | None
    hub: dict[str, Any]
    offered: bool

    @classmethod
    def find(cls, model: str, hub: dict[str, Any]) -> Checkpoint:
        """Find a model, and the model under it if it is an adapter; refuse files that are not what they are called."""
        folder_of = lookup("models", model)
        path = model if folder_of is None else str(folder_of())
        check_files(path, model)
        adapter = find_adapter(path, hub)
        if adapter is not None:
            check_files(adapter.base, adapter.base)
        return cls(model, path, adapter, hub, offered=folder_of is not None)

    @property
    def base(self) -> str:
        """The hub id or folder of the whole model."""
        return self.path if self.adapter is None else self.adapter.base

    @property
    def base_hub(self) -> dict[str, Any]:
        """Arguments for the hub of the whole model; what is said of an adapter's files there does not hold for it."""
        if self.adapter is None:
            return self.hub
        of_adapter = ("subfolder",) if Path(self.path).is_dir() else ("subfolder", "revision")
        hub = {k: v for k, v in self.hub.items() if k not in of_adapter}
        return hub if self.adapter.base_revision is None else {"revision": self.adapter.base_revision, **hub}

    @property
    def lasting_name(self) -> str:
        """The name that a codebook stores: a folder is found again from any working folder."""
        return os.path.abspath(self.name) if not self.offered and Path(self.name).is_dir() else self.name

    def digest(self) -> str:
        """What tells its weight files from others; see :func:`~reasonedit.util.weights.files_digest`."""
        of_base = files_digest(self.base, _commit_of(self.base, "config.json", self.base_hub))
        if self.adapter is None:
            return of_base
        return of_base + files_digest(self.path, _commit_of(self.path, "adapter_config.json", self.hub))

    def read_config(self) -> Any:
        """The config of the whole model.

        Raises:
            NotFoundError: There is no such model.
            UnavailableError: It is the base of an adapter, and cannot be reached.
            InputError: It cannot be read, or is no vision-language model.
        """
        from transformers import AutoConfig, AutoModelForImageTextToText

        try:
            config = AutoConfig.from_pretrained(self.base, **self.base_hub)
        except (OSError, ValueError) as error:
            raise self._config_error(error) from error
        own_code = self.hub["trust_remote_code"] and "AutoModelForImageTextToText" in getattr(config, "auto_map", {})
        if not own_code and type(config) not in AutoModelForImageTextToText._model_mapping:
            raise InputError(
                f"'{self.name}' is a model of type '{config.model_type}', none that transformers loads as one of "
                "images and text to text: name a vision-language model."
            )
        return config

    def load(self, dtype: torch.dtype, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Load the model, with its adapter in it, and its processor.

        Args:
            dtype: The type of its weights.
            kwargs: Arguments of ``from_pretrained``.

        Raises:
            UnavailableError: A package or memory is missing.
            InputError: It cannot be loaded, or its weights are not those that its config names.
        """
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoProcessor

        options = {k: v for k, v in kwargs.items() if k not in HUB_ARGUMENTS} | self.base_hub
        try:
            result: Any = AutoModelForImageTextToText.from_pretrained(
                self.base, dtype=dtype, output_loading_info=True, **options
            )
            model, loading_info = result
            check_weights(loading_info, self.base)
            if self.adapter is not None:
                self.adapter.apply_to(model)
            with_adapter = self.adapter is not None and self.adapter.has_processor
            home, hub = (self.path, self.hub) if with_adapter else (self.base, self.base_hub)
            return model, AutoProcessor.from_pretrained(home, **hub)  # type: ignore[no-untyped-call]
        except ReasonEditError:
            raise
        except (OSError, ValueError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            if "trust_remote_code" in str(error):
                raise self._code_error() from error
            kind = UnavailableError if isinstance(error, ImportError) or is_out_of_memory(error) else InputError
            raise kind(f"The model '{self.name}' cannot be loaded: {first_line(error)}") from error

    def _config_error(self, error: Exception) -> ReasonEditError:
        if "trust_remote_code" in str(error):
            return self._code_error()
        if (Path(self.base) / "config.json").is_file():  # it is a model, but not one that can be read
            return InputError(f"The model '{self.base}' cannot be loaded: {first_line(error)}")
        if self.adapter is not None:
            return UnavailableError(
                f"'{self.name}' is an adapter for the model '{self.base}', which cannot be reached: load that one with "
                "the network, or name it in the adapter's adapter_config.json as a folder."
            )
        return NotFoundError(
            f"There is no model '{self.name}': give 'embedded', a folder with a config.json, a hub id that can be "
            "reached, or 'openai:MODEL' for one behind an endpoint."
        )

    def _code_error(self) -> ReasonEditError:
        return InputError(
            f"The model '{self.base}' brings code of its own, which can do whatever you can: read it, and then say "
            "--trust-remote-code, or trust_remote_code=True in Python."
        )


def _commit_of(home: str, file: str, hub: dict[str, Any]) -> str | None:
    """The hub's commit of files that were fetched; ``None`` where they are not from there."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    where = {k: hub[k] for k in ("cache_dir", "revision", "subfolder") if k in hub}
    try:
        return extract_commit_hash(cached_file(home, file, local_files_only=True, **where), None)
    except OSError:
        return None
