"""What each experiment compares: its rows, in the order of the report."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.callbacks import baselines
from reasonedit.design import PAPER, Design
from reasonedit.errors import ReasonEditError

from .cells import Callbacks, Cell, Lab

OURS = "reasonedit"
PAPERS = "reasonedit-paper"


def editing(design: Callable[[Design], Design] | Design) -> Callbacks:
    """Codebook and retriever with a design, or with what is made of the model's own."""

    def make(lab: Lab) -> list[L.Callback]:
        made = design if isinstance(design, Design) else design(lab.design)
        return [cb.Codebook(design=made), cb.Retriever()]

    return make


def baseline(make: Callable[[], cb.Editor]) -> Callbacks:
    """A baseline that needs nothing."""
    return lambda _lab: [make()]


def _mend(lab: Lab) -> list[L.Callback]:
    return [baselines.MEND(lab.mend_network)]


def _same(design: Design) -> Design:
    return design


EDITORS: dict[str, tuple[str, Callbacks]] = {
    "none": ("none", baseline(baselines.Unedited)),
    "ft": ("FT", baseline(baselines.FineTuning)),
    "mend": ("MEND", _mend),
    "grace": ("GRACE", baseline(baselines.GRACE)),
    "grace-cot": ("GRACE-CoT", baseline(partial(baselines.GRACE, reasoning=True))),
    "balancedit": ("BalancEdit", baseline(baselines.BalancEdit)),
    "ike": ("IKE", baseline(baselines.IKE)),
    "ike-cot": ("IKE-CoT", baseline(partial(baselines.IKE, reasoning=True))),
    "ike-told": ("IKE (told the edit)", baseline(partial(baselines.IKE, oracle=True))),
    "ike-cot-told": ("IKE-CoT (told the edit)", baseline(partial(baselines.IKE, reasoning=True, oracle=True))),
    PAPERS: ("ReasonEdit, the paper's design", editing(PAPER)),
    OURS: ("ReasonEdit", editing(_same)),
}
"""Every editor: what names it, its title, and what makes it. A new one is one new line."""

ORACLES = ("ike-told", "ike-cot-told")
"""Rows that are told which edit a question belongs to: bounds, and no editors."""


@dataclass(frozen=True)
class Row:
    """A row of an experiment.

    Attributes:
        name: Names it and its files.
        title: What it is called.
        make: Makes its callbacks.
        x: Where it stands on the axis of a sweep.
        line: The line of a sweep that it belongs to.
        noise: Kind and share of what is done to the reasoning.
        stream: Arguments of the stream in place of the config's.
    """

    name: str
    title: str
    make: Callbacks
    x: float | None = None
    line: str = ""
    noise: tuple[str, float] | None = None
    stream: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: Its name on the command line.
        title: Its heading in the report.
        question: What it is to answer, in words.
        rows: Its rows.
        reference: The row that the others are compared with.
        axis: What is on the axis, of a sweep.
        seeds: The seeds by default.
        edits: The number of edits by default.
        varies: What the seeds are of: ``"seed"`` of the edits and all that follows, or ``"probe_seed"``.
    """

    name: str
    title: str
    question: str
    rows: tuple[Row, ...]
    reference: str = OURS
    axis: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    edits: int = 40
    varies: str = "seed"

    def cells(self, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Cell]:
        """Its cells, seed by seed.

        Args:
            seeds: The seeds.
            only: Names of the rows that are wanted; all when empty.

        Raises:
            ReasonEditError: There is no such row.
        """
        names = [row.name for row in self.rows]
        unknown = [name for name in only if name not in names]
        if unknown:
            raise ReasonEditError(f"The experiment '{self.name}' has no row '{unknown[0]}': use {', '.join(names)}.")
        wanted = [row for row in self.rows if not only or row.name in only]
        return [self._cell(row, seed) for seed in seeds for row in wanted]

    def _cell(self, row: Row, seed: int) -> Cell:
        settings = {"line": row.line}
        gallery = row.name == OURS and self.name == "main"
        return Cell(row.name, row.title, seed, row.make, settings, row.x, row.stream, row.noise, self.varies, gallery)


def _editor(name: str, **options: Any) -> Row:
    title, make = EDITORS[name]
    return Row(name, title, make, **options)


def _design(name: str, title: str, change: Callable[[Design], Design] | Design, **options: Any) -> Row:
    return Row(name, title, editing(change), **options)


def with_editors(experiment: Experiment, editors: Sequence[str]) -> Experiment:
    """An experiment with further rows, run as its first is.

    Args:
        experiment: The experiment.
        editors: Class paths of editors, made without arguments.

    Raises:
        ReasonEditError: There is no such class, or it is no editor.
    """
    rows = list(experiment.rows)
    for path in editors:
        module, _, name = path.rpartition(".")
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ReasonEditError(f"There is no editor '{path}' ({error}): name it by module and class.") from error
        if not (isinstance(kind, type) and issubclass(kind, cb.Editor)):
            raise ReasonEditError(f"'{path}' is no editor: derive it from reasonedit.callbacks.Editor.")
        rows.append(Row(name.lower(), kind.title or name, baseline(kind), stream=experiment.rows[0].stream))
    return replace(experiment, rows=tuple(rows))


def retrieving(**changes: Any) -> Callable[[Design], Design]:
    """The model's design with its retrieval changed."""
    return lambda d: replace(d, retrieval=replace(d.retrieval, **changes))


def writing(**changes: Any) -> Callable[[Design], Design]:
    """The model's design with its writing changed."""
    return lambda d: replace(d, writing=replace(d.writing, **changes))


def seeking(**changes: Any) -> Callable[[Design], Design]:
    """The model's design with its evidence changed."""
    return lambda d: replace(d, evidence=replace(d.evidence, **changes))


def embedding(**changes: Any) -> Callable[[Design], Design]:
    """The model's design with its embedding changed."""
    return lambda d: replace(d, embedding=replace(d.embedding, **changes))


def papers(part: str, **changes: Any) -> Design:
    """The paper's design with one part changed."""
    return replace(PAPER, **{part: replace(getattr(PAPER, part), **changes)})


def _alone(base: Design, **changes: Any) -> Design:
    """A design whose keys have one half only: what needs both is off."""
    retrieval = replace(base.retrieval, query_regions=False, visual_match=None, visual_margin=None)
    writing = replace(base.writing, keys="image" if base.writing.keys == "grounded" else base.writing.keys)
    return replace(base, embedding=replace(base.embedding, **changes), retrieval=retrieval, writing=writing)


def _language_layer(base: Callable[[Design], Design]) -> Callbacks:
    """Keys are what enters the middle block of the language model, whose input image and text are."""

    def make(lab: Lab) -> list[L.Callback]:
        names = lab.module.vlm.language_layers
        layer = names[len(names) // 2]
        design = _alone(base(lab.design), layer=layer, transform="raw", text_weight=0.0)
        return [cb.Codebook(design=design), cb.Retriever()]

    return make


PERCENTILES = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0)
KS = (1, 3, 5, 8, 12)

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        Experiment(
            "main",
            "Main table",
            "Which editor corrects the most, and leaves the most alone?",
            tuple(_editor(name, stream={"interleave": [20], "sample": 10}) for name in EDITORS),
        ),
        Experiment(
            "design",
            "Design, feature by feature",
            "What is each feature of our design worth beside the paper's? Each row takes one away from ours; the last "
            "rows add one to the paper's.",
            (
                _design(OURS, "ours", _same),
                _design("raw", "ours, raw activations", embedding(transform="raw")),
                _design("whitened", "ours, whitened features", embedding(transform="whitened", layer="image_features")),
                _design("pooled", "ours, regions pooled from one pass", embedding(region_source="pooled")),
                _design("routes", "ours, evidence by the paper's two routes", seeking(single_window=None)),
                _design("whole", "ours, the query's whole image only", retrieving(query_regions=False)),
                _design("unverified", "ours, without verification", retrieving(verify=None, visual_margin=None)),
                _design("verified", "ours, all patches verified", retrieving(visual_margin=None)),
                _design("unchained", "ours, without chains", retrieving(chain=False)),
                _design(
                    "unsighted", "ours, without the visual match", retrieving(visual_match=None, visual_margin=None)
                ),
                _design("one-gate", "ours, one gate for all facts", retrieving(gate_per_fact=False)),
                _design("both", "ours, every sentence by image and patch", writing(keys="both")),
                _design("untold", "ours, no keys under the question", writing(question_keys=False)),
                _design(PAPERS, "the paper's", PAPER),
                _design(
                    "paper-discriminant",
                    "the paper's, discriminant features",
                    papers("embedding", transform="discriminant", reference="world"),
                ),
                _design("paper-facts", "the paper's, K counts facts", papers("retrieval", k_counts="facts")),
                _design("paper-regions", "the paper's, regions of the query", papers("retrieval", query_regions=True)),
                _design(
                    "paper-verified", "the paper's, verification", papers("retrieval", verify=0.5, k_counts="facts")
                ),
                _design("paper-chained", "the paper's, chains", papers("retrieval", chain=True, k_counts="facts")),
            ),
        ),
        Experiment(
            "embedding",
            "Embedding ablation",
            "Does the dual embedding beat either half?",
            (
                _design(OURS, "dual (ours)", _same),
                _design("vision", "vision half alone", lambda d: _alone(d, text_weight=0.0)),
                _design("sentence", "sentence half alone", lambda d: _alone(d, layer="none", transform="raw")),
                Row("language", "one layer of the language model", _language_layer(_same)),
                _design("paper-dual", "dual (the paper's)", PAPER),
                _design("paper-vision", "vision layer alone (the paper's)", _alone(PAPER, text_weight=0.0)),
                _design("paper-sentence", "sentence encoder alone (the paper's)", _alone(PAPER, layer="none")),
                Row("paper-language", "language layer alone (the paper's)", _language_layer(lambda _: PAPER)),
            ),
        ),
        Experiment(
            "threshold",
            "Rejection gate",
            "Is p between 10 and 50 robust? Generality against locality.",
            (
                *(
                    _design(f"p{p:g}", f"ours, p = {p:g}", retrieving(percentile=p), x=p, line="ours")
                    for p in PERCENTILES
                ),
                *(
                    _design(
                        f"paper-p{p:g}", f"paper's, p = {p:g}", papers("retrieval", percentile=p), x=p, line="paper's"
                    )
                    for p in PERCENTILES
                ),
            ),
            reference="p10",
            axis="percentile p",
        ),
        Experiment(
            "k",
            "Number of facts",
            "Does K = 5 suffice?",
            (
                *(_design(f"k{k}", f"ours, K = {k}", retrieving(k=k), x=k, line="ours") for k in KS),
                *(
                    _design(f"paper-k{k}", f"paper's, K = {k}", papers("retrieval", k=k), x=k, line="paper's")
                    for k in KS
                ),
            ),
            reference="k5",
            axis="K",
        ),
        Experiment(
            "keys",
            "Keys",
            "Which entries and keys are worth their place? Merging, patches, hubness.",
            (
                _design(OURS, "ours", _same),
                _design("answer", "answer entries only", writing(entries="answer")),
                _design("reasoning", "reasoning only", writing(entries="reasoning")),
                _design("image", "whole-image keys only", writing(keys="image")),
                _design("patch", "patch keys only", writing(keys="patch")),
                _design("both", "image and patch keys", writing(keys="both")),
                _design("unmerged", "without merging", writing(merge=False)),
                _design("hubness", "hubness correction", retrieving(hubness=True)),
                _design(PAPERS, "the paper's", PAPER),
                _design("paper-image", "the paper's, without patches", papers("writing", keys="image")),
                _design("paper-patch", "the paper's, patches only", papers("writing", keys="patch")),
                _design("paper-unmerged", "the paper's, without merging", papers("writing", merge=False)),
                _design("paper-hubness", "the paper's, hubness correction", papers("retrieval", hubness=True)),
            ),
        ),
        Experiment(
            "noise",
            "Noisy reasoning",
            "What does reasoning do that is irrelevant, wrong or incomplete?",
            (
                _editor(OURS, x=0.0, line="clean"),
                *(
                    replace(
                        _editor(OURS),
                        name=f"{kind}-{share:.0%}".rstrip("%"),
                        title=f"{text}, {share:.0%}",
                        x=100 * share,
                        line=text,
                        noise=(kind, share),
                    )
                    for kind, text in (
                        ("replaced", "sentences replaced by irrelevant ones"),
                        ("mixed", "irrelevant sentences mixed in"),
                        ("wrong", "edits with a wrong sentence"),
                        ("missing", "edits with a sentence missing"),
                    )
                    for share in (0.1, 0.3, 0.5)
                ),
            ),
            axis="share, %",
        ),
        Experiment(
            "stress",
            "Sequential stress",
            "Does sequential editing drift? The edits follow one another; at checkpoints the probes of some are asked.",
            tuple(
                _editor(name, stream={"interleave": [30, 100, 200, 300, 500, 700], "probed": 100})
                for name in ("none", "ike-cot", "ike", "grace", PAPERS, OURS)
            ),
            seeds=(0,),
            edits=1000,
        ),
        Experiment(
            "probes",
            "Sensitivity to the probes",
            "How much does a metric hang on the seed from which the probes of the same edits were made?",
            tuple(_editor(name) for name in ("none", "ike-cot", OURS)),
            seeds=(0, 1, 2, 3, 4, 5),
            varies="probe_seed",
        ),
    )
}
"""All experiments by name."""
