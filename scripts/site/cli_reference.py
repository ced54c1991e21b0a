"""The directive ``cli-reference``: what every command takes, from the parsers that read it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
from collections.abc import Iterator
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from reasonedit.cli import COMMANDS


class _HelpReachedError(Exception):
    """A parser was asked for its help."""


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of a command, as it stands when ``--help`` reaches it."""
    found: list[argparse.ArgumentParser] = []

    def keep(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.append(self)
        raise _HelpReachedError

    main = importlib.import_module(f"reasonedit.commands.{command.replace('-', '_')}").main
    reader = mock.patch("getpass.getuser", return_value="your login name")  # not that of whoever builds the site
    with reader, mock.patch.object(argparse.ArgumentParser, "print_help", keep), contextlib.suppress(_HelpReachedError):
        main(["--help"])
    return found[0]


def describe(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """A parser and those below it, as lines of Markdown; texts of the parsers are taken as they are, not as Markdown."""
    yield f"{'#' * level} {parser.prog}\n"
    if parser.description:
        yield f"{plain(parser.description)}\n"
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    if not subparsers(parser):
        yield f"```text\n{usage}\n```\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        yield f"{signature(parser, action)}\n: {explained(parser, action)}\n"
    for child in subparsers(parser):
        yield from describe(child, level + 1)
    if parser.epilog and "\n" in parser.epilog.strip():  # laid out by hand, as a list
        for line in parser.epilog.strip().splitlines():
            name, _, text = line.strip().partition(" ")
            yield f"- `{name}`: {plain(text)}"
        yield ""
    elif parser.epilog:
        yield f"{plain(parser.epilog)}\n"


def subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a command's actions, in their order."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(dict.fromkeys(action.choices.values()))
    return []


def signature(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """How an argument is written."""
    formatter = argparse.HelpFormatter(parser.prog)
    written = formatter._format_action_invocation(action)
    return f"`{written}`"


def explained(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """What an argument's help says, with its default where the help leaves it out."""
    text = plain(argparse.HelpFormatter(parser.prog)._expand_help(action)) if action.help else ""
    if action.choices is not None and not all(str(choice) in text for choice in action.choices):
        text += f"{'; ' if text else ''}one of {', '.join(f'`{choice}`' for choice in action.choices)}"
    if action.required and action.option_strings:
        text += " (required)"
    return text.strip()


def plain(text: str) -> str:
    """A text in which nothing is Markdown."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"``(.+?)``", r"'\1'", text)
    parts = re.split(r"(--[a-z][\w.-]*)", text)  # options are code
    return "".join(
        f"`{part}`" if number % 2 else re.sub(r"([\\`*_{}\[\]<>#$|~])", r"\\\1", part)
        for number, part in enumerate(parts)
    )


class CliReference(SphinxDirective):
    """All commands, one section each."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        with mock.patch.dict("os.environ", {"COLUMNS": "100"}):
            for command in COMMANDS:
                lines += describe(parser_of(command), 2)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("cli-reference", CliReference)
    return {"parallel_read_safe": True}
