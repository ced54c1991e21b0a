"""``--config`` and the options that win over it, for every command that takes a config."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .trust import add_trust

if TYPE_CHECKING:
    from reasonedit.config.merging import Config

EXPERIMENT_CONFIG = "configs/experiment.yaml"
"""What experiments run on, unless another config is named."""
_OVERRIDES = ("--model.", "--data.")


def add_config(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    """Add ``--config``, which may be given several times, and ``--trust-remote-code`` to a parser.

    Args:
        parser: The parser.
        help: What the config is used for.
        required: Whether at least one must be given.
    """
    parser.add_argument(
        "--config",
        action="append",
        required=required,
        metavar="FILE",
        help=f"{help}; the packaged ones can be named as configs/NAME.yaml. May be given several times: a later file "
        "wins over those before it, and an option such as --model.init_args.model HUB_ID over all of them",
    )
    add_trust(parser, config=True)


def parse_with_overrides(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """Parse a command line that may set values of the config's model and data.

    Returns:
        The command's own arguments, and the options that set values.
    """
    own: list[str] = []
    overrides: list[str] = []
    is_value = False  # of the override before it
    for word in argv:
        is_override = word.startswith(_OVERRIDES)
        (overrides if is_override or (is_value and not word.startswith("--")) else own).append(word)
        is_value = is_override and "=" not in word
    return parser.parse_args(own), tuple(overrides)


def source_options(named: str) -> tuple[str, ...]:
    """Options that put a data set in the place of the config's.

    Args:
        named: As for :func:`~reasonedit.data.named.open_source`.

    Raises:
        ReasonEditError: There is none of this name, or its folder is missing.
    """
    from reasonedit.data.named import describe_source

    source = describe_source(named)
    name = "--data.init_args.source"
    places = [word for key, value in source["init_args"].items() for word in (f"{name}.init_args.{key}", value)]
    return (name, source["class_path"], *places)


def read_configs(arguments: argparse.Namespace, overrides: Sequence[str]) -> Config:
    """The configs that a command line names.

    Raises:
        ReasonEditError: One of them cannot be used.
    """
    from reasonedit.config.merging import Config

    return Config.read(arguments.config, overrides, trusted=arguments.trust_remote_code)
