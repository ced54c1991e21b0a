"""Configs: how several files and options are merged, and what is made of them.

Of several files the later wins, value by value, and the command line wins over all of them. It is jsonargparse that
merges, for ``reasonedit run`` and for every other command alike.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from reasonedit.config.errors import explain_refusal, group_options
from reasonedit.config.files import config_path, read_config, refuse_code
from reasonedit.data.stream import EditStream
from reasonedit.errors import InputError, ReasonEditError
from reasonedit.module import VLMModule

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

REFUSALS = (argparse.ArgumentError, ValueError, TypeError, KeyError)
"""What jsonargparse raises where it cannot use a config."""

_PARTS = {"model": L.LightningModule, "data": L.LightningDataModule}
_OTHERS = ("seed_everything", "trainer", "optimizer", "lr_scheduler")
"""What a config of ``reasonedit run`` may also have."""


@dataclass(frozen=True)
class Config:
    """Config files that were read and checked, and what the command line sets over them.

    Attributes:
        paths: The files; a later one wins over those before it.
        contents: What each of them says.
        overrides: Options in LightningCLI's form, such as ``--data.init_args.batch_size 4``; they win over all files.
        trusted: Whether all this may ask for code that comes with a model.
    """

    paths: tuple[Path, ...]
    contents: tuple[Mapping[str, Any], ...]
    overrides: tuple[str, ...] = ()
    trusted: bool = False

    @classmethod
    def read(cls, names: Sequence[str], overrides: Sequence[str] = (), *, trusted: bool = False) -> Config:
        """Read and check files; the other arguments are the attributes of the same names.

        Raises:
            ReasonEditError: A file is missing or cannot be used.
        """
        contents = tuple(read_config(name, trusted=trusted) for name in names)
        config = cls(tuple(map(config_path, names)), contents, tuple(overrides), trusted)
        config._check_class_paths()
        return config

    def arguments(self, *parts: str) -> list[str]:
        """The files and the overrides, as arguments of a parser that has ``--config``.

        Args:
            parts: Only the overrides of these parts; all when not given.
        """
        files = [word for path in self.paths for word in ("--config", str(path))]
        options = group_options(self.overrides)
        wanted = [words for name, words in options if not parts or name.split(".")[0] in parts]
        return [*files, *(word for words in wanted for word in words)]

    def resolve(self, *parts: str) -> dict[str, Any]:
        """The named parts (``model``, ``data``) as they will be used: merged, with all arguments, the default ones too.

        Raises:
            ReasonEditError: They cannot be used.
        """
        _, parsed = self._parse(*parts)
        merged = json.loads(json.dumps(parsed.as_dict(), default=str))
        return {name: merged[name] for name in parts}

    def instantiate(self, *parts: str) -> dict[str, Any]:
        """The objects of the named parts; nothing else is made.

        Raises:
            ReasonEditError: They cannot be used.
        """
        parser, parsed = self._parse(*parts)
        try:
            objects = parser.instantiate(parsed)
        except REFUSALS as error:
            raise self.explain(error) from error
        return {name: objects[name] for name in parts}

    def explain(self, error: BaseException) -> ReasonEditError:
        """What a user is told where an error shows that the files or the overrides cannot be used."""
        return explain_refusal(error, list(zip(self.paths, self.contents, strict=True)), self.overrides)

    def _parse(self, *parts: str) -> tuple[ArgumentParser, Namespace]:
        parser = _parser(*parts)
        parser.add_argument("--config", action="config")
        for name in (*_PARTS, *_OTHERS):
            if name not in parts:
                parser.add_argument(f"--{name}", type=Any)
        try:
            parsed = parser.parse_args(self.arguments(*parts))
        except REFUSALS as error:
            raise self.explain(error) from error
        refuse_code(parsed, trusted=self.trusted)  # the files that a file names are known only here
        return parser, parsed

    def _check_class_paths(self) -> None:
        """Refuse a file that sets arguments of a class before any file has named the class."""
        named: set[str] = set()
        for path, values in zip(self.paths, self.contents, strict=True):
            for name in _PARTS:
                part = values.get(name)
                if isinstance(part, Mapping) and part and "class_path" not in part and name not in named:
                    raise InputError(
                        f"The config '{path}' has '{name}' without a class_path: add it, or name a config that has it "
                        "before this one."
                    )
                named |= {name} if part else set()


def instantiate_parts(values: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    """The objects of the named parts (``model``, ``data``) of what a config says.

    Raises:
        ReasonEditError: They cannot be used.
    """
    parser = _parser(*parts)
    try:
        objects = parser.instantiate(parser.parse_object(_select(values, *parts)))
    except REFUSALS as error:
        raise explain_refusal(error) from error
    return {name: objects[name] for name in parts}


def resolve_parts(values: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    """The named parts of what a config says, with all arguments, the default ones too.

    Raises:
        ReasonEditError: They cannot be used.
    """
    try:
        return dict(_parser(*parts).parse_object(_select(values, *parts)).as_dict())
    except REFUSALS as error:
        raise explain_refusal(error) from error


def load_module_and_stream(config: Config) -> tuple[VLMModule, EditStream]:
    """The model of a config, on the GPU where there is one, and its stream.

    Raises:
        ReasonEditError: The config cannot be used, or it has no VLM or no stream.
    """
    objects = config.instantiate("model", "data")
    module, stream = objects["model"], objects["data"]
    if not isinstance(module, VLMModule) or not isinstance(stream, EditStream):
        raise InputError(
            f"The config '{config.paths[-1]}' must have a VLMModule as its model and an EditStream as its data."
        )
    if torch.cuda.is_available() and module.vlm.movable:
        module.to("cuda")
    return module, stream


def _parser(*parts: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    for name in parts:
        parser.add_subclass_arguments(_PARTS[name], name, required=True)
    return parser


def _select(values: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    return {name: values[name] for name in parts if name in values}
