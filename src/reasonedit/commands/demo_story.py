"""What ``reasonedit demo`` does and tells."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

import reasonedit.callbacks as cb
from reasonedit.config.files import packaged_configs
from reasonedit.config.merging import Config
from reasonedit.data.source import Probe
from reasonedit.data.stream import EditStream
from reasonedit.drawings import Corrected, draw_story
from reasonedit.metrics import matches
from reasonedit.types import Edit

from .called import command_line, from_here
from .results_table import results_table
from .screen import Screen
from .stream_run import Run, begin_run


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demo stream, tell one of its edits as a story unless it is to be quiet, and print the table."""
    console = Screen(highlight=False, soft_wrap=True, quiet=arguments.quiet)
    console.print(
        "A small vision-language model learnt what things are used for, what they are\n"
        "made of, where they are found and who owns them. Since then a third of these\n"
        "facts have changed. It will be asked, corrected with reasons, and asked again.\n"
        "Its weights stay as they are.\n"
    )
    source = "--data.init_args.source.init_args"
    seed = str(arguments.seed)
    model = ["--model.init_args.model", arguments.model]
    overrides = [*model, "--seed_everything", seed, f"{source}.seed", seed, f"{source}.edits", str(arguments.edits)]
    run = begin_run(Config.read([str(packaged_configs() / "demo.yaml")], overrides), arguments.out)
    next_question = _story(run, console)
    always = Screen(highlight=False)
    always.print(results_table(run.results))
    for note in run.notes:
        always.tell(note)
    folder = Path(from_here(run.folder))
    console.print(
        "  Rel       the edits themselves\n"
        "  T-Gen     the same questions in other words\n"
        "  I-Gen     the same things drawn again\n"
        "  R-Gen     new pictures and new questions that share the reasoning\n"
        "  CoE-Gen   the same questions about new pictures of what was explained\n"
        "  Loc       unrelated questions that were answered rightly before\n"
        "  hard Loc  the same questions about other things, answered rightly before\n"
        "  word Loc  other questions with the most words of an edit's, right before\n"
        "  Gen       harmonic mean of the four from T-Gen to CoE-Gen\n"
    )
    console.say(f"Written to {folder}/:")
    written = "  metrics.json  predictions.parquet  codebook/  config.yaml  run.json  versions.json  tensorboard/"
    console.tell(f"{written}  story/" if next_question else written)
    console.print("\nWhat to try next:")
    if run.page is not None:
        console.tell(
            f"  {from_here(run.page)} in a browser: every edit with its picture, its evidence and what became of it"
        )
    for line in _next_commands(folder, next_question):
        console.say(f"  {line}")
    return 0


def _next_commands(folder: Path, question: tuple[str, str] | None) -> list[str]:
    """Commands that run as they are printed.

    Args:
        folder: The results folder.
        question: A picture and a question about it, where the story tells one.
    """
    codebook = str(folder / "codebook")
    commands = [command_line("reasonedit", "ask", *question, "--codebook", codebook)] if question else []
    return [
        *commands,
        command_line("reasonedit", "codebook", "list", codebook),
        command_line("tensorboard", "--logdir", str(folder)),
        command_line("reasonedit", "app", "--codebook", codebook),
        command_line("reasonedit", "world", "show", "--out", "world.png"),
        command_line("reasonedit", "run", "--config", "configs/demo.yaml"),
    ]


def _story(run: Run, console: Screen) -> tuple[str, str] | None:
    """Draw the story, and print it.

    Returns:
        A question to try next: the path of its picture, and the question.
    """
    data = run.data
    assert isinstance(data, EditStream)
    assert data.base is not None
    writer = cb.find_callback(run.trainer, cb.PredictionWriter)
    assert writer is not None
    after = {r["id"]: r for r in writer.rows if r["phase"] == "probe"}
    before = {p.query.id: a for p, a in zip(data.base.probes, data.base.answers, strict=True)}
    told = _best(data.base.edits, data.base.probes, before, after)
    if told is None:
        console.print("No edit of this run corrected another picture too; the table says how the run went.\n")
        return None
    edit, mistake, other = told
    pictures = Path(from_here(run.folder)) / "story"
    pictures.mkdir(exist_ok=True)
    edit.image.resize((384, 384)).save(pictures / "mistake.png")
    other.query.image.resize((384, 384)).save(pictures / "other.png")
    first, second = (Corrected(p.query, before[p.query.id], after[p.query.id]["answer"]) for p in (mistake, other))
    draw_story(edit, first, second).save(pictures / "story.png")
    reasons = "\n               ".join(edit.reasoning)
    shown = escape(str(pictures))
    console.print(
        "[bold]One of the mistakes[/bold]\n"
        f"  picture      {shown}/mistake.png\n"
        f"  question     {escape(edit.question)}\n"
        f"  the model    [red]{escape(first.before)}[/red]\n"
        f"  right        {escape(edit.answer)}\n"
        f"  because      {escape(reasons)}\n"
        f"  after that   [green]{escape(first.after)}[/green]\n\n"
        "[bold]Another picture, corrected by the same reasoning[/bold]\n"
        f"  picture      {shown}/other.png\n"
        f"  question     {escape(second.query.question)}\n"
        f"  before       [red]{escape(second.before)}[/red]\n"
        f"  after        [green]{escape(second.after)}[/green]\n"
        f"  (both in one picture: {shown}/story.png)"
    )
    return str(pictures / "other.png"), other.query.question


def _best(
    edits: Sequence[Edit], probes: Sequence[Probe], before: dict[str, str], after: dict[str, dict[str, Any]]
) -> tuple[Edit, Probe, Probe] | None:
    """An edit that took, with its own probe and one about another picture that only its facts put right."""

    def corrected(probe: Probe) -> bool:
        return not matches(before[probe.query.id], probe.targets) and bool(after[probe.query.id]["right"])

    for group in ("r_gen", "coe_gen"):
        for edit in edits:
            mine = [p for p in probes if p.edit_id == edit.id]
            own = [p for p in mine if p.group == "rel" and corrected(p)]
            others = [
                p
                for p in mine
                if p.group == group and corrected(p) and set(edit.reasoning) & set(after[p.query.id]["facts"])
            ]
            if own and others and edit.choices is None:
                return edit, own[0], others[0]
    return None
