"""Arguments that say how answers are made, for every command that asks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from reasonedit.errors import InputError
from reasonedit.util.strictjson import strict_json

if TYPE_CHECKING:
    from reasonedit.vlm import Generation

CHOICE_RULES = ("acc", "acc_norm")
"""As in :mod:`reasonedit.vlm.generation`, which takes torch: help is to answer at once."""
MAX_NEW_TOKENS = 16
"""As there."""
SERVED_TOKENS = 512
"""The longest open answer of a server: clients expect whole answers."""


def add_generation(parser: argparse.ArgumentParser, longest: int = MAX_NEW_TOKENS) -> None:
    """Add them to a parser; ``longest`` is what its command takes where nothing is said."""
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=None,
        help=f"longest open answer, in tokens, thoughts included (default: {longest})",
    )
    parser.add_argument(
        "--choice-rule",
        choices=CHOICE_RULES,
        default=None,
        help="which choice is the answer: acc, the most probable one, or acc_norm, by its length in characters "
        f"(default: {CHOICE_RULES[0]})",
    )
    parser.add_argument(
        "--generate-kwargs",
        default=None,
        metavar="JSON",
        help='other arguments of transformers\' generate, such as \'{"do_sample": true, "temperature": 0.7}\'',
    )


def generation_from(given: argparse.Namespace) -> Generation:
    """How answers are made, by what was given.

    Raises:
        ReasonEditError: It cannot be used.
    """
    from reasonedit.vlm import Generation

    try:
        more = strict_json(given.generate_kwargs) if given.generate_kwargs is not None else {}
    except ValueError as error:
        raise InputError(f"--generate-kwargs is not JSON ({error}): write it as an object.") from error
    if not isinstance(more, dict):
        raise InputError("--generate-kwargs must be a JSON object, such as '{\"num_beams\": 4}'.")
    return Generation().but(given.max_new_tokens, given.choice_rule, **more)
