"""What each experiment compares: its rows, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from reasonedit.design import DEFAULT, PAPER
from reasonedit.embedding.selection import CRITERIA

from .checks import checked
from .designs import Change, at_depth, change, change_paper, keep, language_layer, without_pictures
from .editors import ALONE, EDITORS, OURS, PAPER_ROW
from .experiment import CLEAN, Experiment, Row
from .grounding import grounded
from .noise import KINDS as NOISE
from .own_chains import WAYS
from .search_spaces import SPACES, describe_values, row_of_try
from .selected import as_selected

PERCENTILES = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0)
KS = (1, 3, 5, 8, 12)
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of a design's own w."""
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where a layer stands among the vision-side layers."""


def _main_rows() -> tuple[Row, ...]:
    """All editors; those that are published so also with each edit from the model's own weights."""
    rows: list[Row] = []
    for name, (title, make) in EDITORS.items():
        rows.append(Row(name, title, make, stream={"interleave": [20], "sample": 10}))
        if name in ALONE:
            rows.append(Row(ALONE[name], f"{title} (one at a time)", make, stream={"alone": True}))
    return tuple(rows)


def _weighted(times: float) -> Change:
    """A design with a multiple of its own w."""
    return lambda d: replace(d, embedding=replace(d.embedding, text_weight=times * d.embedding.text_weight))


def _gated(percentile: float) -> Change:
    """A design with another p of its gate."""
    return lambda d: replace(d, retrieval=replace(d.retrieval, percentile=percentile))


def _fetching(k: float) -> Change:
    """A design with another K."""
    return lambda d: replace(d, retrieval=replace(d.retrieval, k=int(k)))


def _value_rows(
    prefix: str, what: str, values: Sequence[float], own: float, make: Callable[[float], Change]
) -> tuple[Row, ...]:
    """Our design, or the paper's where the prefix says so, with each value of a setting."""
    line = "paper's" if prefix.startswith("paper-") else "ours"
    return tuple(
        Row.of_design(
            f"{prefix}{x:g}",
            f"{line}, {what}{x:g}",
            make(x) if line == "ours" else make(x)(PAPER),
            x=x,
            line=line,
            own=x == own,
        )
        for x in values
    )


def _layer_rows(prefix: str, title: str, base: Change) -> tuple[Row, ...]:
    """A design with other layers, nothing else changed; and with what is picked."""
    by_depth = [
        Row(f"{prefix}depth-{depth:g}", f"{title}, layer at {depth:.0%} of the depth", at_depth(base, depth), x=depth)
        for depth in DEPTHS
    ]
    picked = [
        Row(
            f"{prefix}picked-{criterion}{'' if layer and weight else '-layer' if layer else '-w'}",
            f"{title}, {what} as select picks {'both' if layer and weight else 'it'} by {criterion}",
            as_selected(base, criterion=criterion, layer=layer, weight=weight),
        )
        for criterion in CRITERIA
        for what, layer, weight in (("layer", True, False), ("w", False, True), ("layer and w", True, True))
    ]
    return (*(replace(row, line=title) for row in by_depth), *picked)


def _noise_rows(editors: Sequence[str]) -> tuple[Row, ...]:
    """Each editor with clean reasoning, and with a share of the sentences spoilt in each way."""
    rows: list[Row] = []
    for name in editors:
        title, first = EDITORS[name][0], "" if name == OURS else f"{name}-"
        rows.append(Row.of_editor(name, x=0.0, line=f"{CLEAN}: {title}"))
        for kind, text in NOISE.items():
            for share in (10, 30, 50):
                row = Row.of_editor(name, x=float(share), line=f"{text}: {title}", noise=(kind, share / 100))
                rows.append(replace(row, name=f"{first}{kind}-{share}", title=f"{title}, {share} % of the {text}"))
    return tuple(rows)


def _check_rows() -> tuple[Row, ...]:
    """Checks in the end, and right after each edit; of designs and of reasoning that leave more to find."""
    ours, title = EDITORS[OURS][1], EDITORS[OURS][0]
    rows = [
        Row(OURS, f"{title}, checked in the end", checked(ours)),
        Row("written", f"{title}, checked when written", checked(ours, "written")),
        Row(PAPER_ROW, EDITORS[PAPER_ROW][0], checked(EDITORS[PAPER_ROW][1])),
    ]
    for kind, text in NOISE.items():
        rows.append(Row(f"{kind}-30", f"{title}, 30 % of the {text}", checked(ours), noise=(kind, 0.3)))
    return tuple(rows)


def _own_rows() -> tuple[Row, ...]:
    """The person's full chain, and what may become of the VLM's own; the reasons of the edited VLM are looked at."""
    title, make = EDITORS[OURS]
    rows = [Row(OURS, f"{title}, the person's chain", grounded(make))]
    rows += [Row(way, f"{title}, {text}", grounded(make), chain=way) for way, text in WAYS.items()]
    return (
        *rows,
        Row.of_editor("ike-cot"),
        *(
            Row("ike-cot-" + way, f"{EDITORS['ike-cot'][0]}, {text}", EDITORS["ike-cot"][1], chain=way)
            for way, text in WAYS.items()
        ),
    )


EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        Experiment(
            "main",
            "Main table",
            "Which editor corrects the most, and leaves the most alone?",
            _main_rows(),
            quick=("none", "ft", "grace", "balancedit", "ike", "ike-cot", PAPER_ROW, OURS),  # nothing is trained for it
        ),
        Experiment(
            "design",
            "Design, feature by feature",
            "What is each feature of our design worth beside the paper's? Each row takes one away from ours; the last "
            "rows add one to the paper's.",
            (
                Row.of_design(OURS, "ours", keep),
                Row.of_design("raw", "ours, raw activations", change("embedding", transform="raw")),
                Row.of_design(
                    "discriminant",
                    "ours, discriminants of the world's labelled things",
                    change("embedding", transform="discriminant", reference="world"),
                ),
                Row.of_design(
                    "pooled", "ours, regions pooled from one pass", change("embedding", region_source="pooled")
                ),
                Row.of_design(
                    "routes", "ours, evidence by the paper's two routes", change("evidence", single_window=None)
                ),
                Row.of_design("whole", "ours, the query's whole image only", change("retrieval", query_regions=False)),
                Row.of_design(
                    "unverified", "ours, without verification", change("retrieval", verify=None, visual_margin=None)
                ),
                Row.of_design("verified", "ours, all patches verified", change("retrieval", visual_margin=None)),
                Row.of_design("unchained", "ours, without chains", change("retrieval", chain=False)),
                Row.of_design(
                    "unsighted",
                    "ours, without the visual match",
                    change("retrieval", visual_match=None, false_alarms=None, visual_margin=None, naming=False),
                ),
                Row.of_design("unnamed", "ours, each fact by its own picture alone", change("retrieval", naming=False)),
                Row.of_design("once", "ours, each window seen once", change("writing", region_views=0)),
                Row.of_design("one-gate", "ours, one gate for all facts", change("retrieval", gate_per_fact=False)),
                Row.of_design("both", "ours, every sentence by image and patch", change("writing", keys="both")),
                Row.of_design("untold", "ours, no keys under the question", change("writing", question_keys=False)),
                Row.of_design(PAPER_ROW, "the paper's", PAPER),
                Row.of_design(
                    "paper-discriminant",
                    "the paper's, discriminant features",
                    change_paper("embedding", transform="discriminant", reference="world"),
                ),
                Row.of_design(
                    "paper-facts", "the paper's, K counts facts", change_paper("retrieval", k_counts="facts")
                ),
                Row.of_design(
                    "paper-regions", "the paper's, regions of the query", change_paper("retrieval", query_regions=True)
                ),
                Row.of_design(
                    "paper-verified",
                    "the paper's, verification",
                    change_paper("retrieval", verify=0.5, k_counts="facts"),
                ),
                Row.of_design(
                    "paper-chained", "the paper's, chains", change_paper("retrieval", chain=True, k_counts="facts")
                ),
            ),
        ),
        Experiment(
            "embedding",
            "Embedding ablation",
            "Does the dual embedding beat either half?",
            (
                Row.of_design(OURS, "dual (ours)", keep),
                Row.of_design("vision", "vision half alone", change("embedding", text_weight=0.0)),
                Row.of_design(
                    "dual-whole",
                    "dual without what needs the vision half by itself: regions, visual match, range, patch keys",
                    without_pictures,
                ),
                Row.of_design(
                    "sentence",
                    "sentence half alone, thus without regions, visual match, range and patch keys",
                    lambda d: without_pictures(d, layer="none", transform="raw"),
                ),
                Row("language", "one layer of the language model, thus without the same", language_layer(keep)),
                Row.of_design("paper-dual", "dual (the paper's)", PAPER),
                Row.of_design(
                    "paper-vision", "vision layer alone (the paper's)", change_paper("embedding", text_weight=0.0)
                ),
                Row.of_design(
                    "paper-sentence", "sentence encoder alone (the paper's)", change_paper("embedding", layer="none")
                ),
                Row("paper-language", "language layer alone (the paper's)", language_layer(lambda _: PAPER)),
            ),
        ),
        Experiment(
            "w",
            "Weight of the sentence half",
            "How much does it matter? Nothing but w changes, in multiples of the design's own.",
            (
                *_value_rows("w", "w times ", WEIGHTS, 1.0, _weighted),
                *_value_rows("paper-w", "w times ", WEIGHTS, 1.0, _weighted),
            ),
            reference="w1",
            axis="multiple of w",
        ),
        Experiment(
            "layer",
            "Layer",
            "Which layer is read, and what is the choice of `reasonedit select` worth? Nothing but the layer changes, "
            "or w where the title says so.",
            (
                Row.of_design(OURS, "ours", keep),
                *_layer_rows("", "ours", keep),
                Row.of_design(PAPER_ROW, "the paper's", PAPER),
                *_layer_rows("paper-", "the paper's", lambda _: PAPER),
            ),
            axis="depth",
        ),
        Experiment(
            "tune",
            "Tuning",
            "Which settings serve each editor best, out of equally many? On development seeds, by the harmonic mean "
            "of Gen, Loc and hard Loc.",
            tuple(
                Row(row_of_try(name, i), f"{space.title}: {describe_values(values)}", space.make(values), line=name)
                for name, space in SPACES.items()
                for i, values in enumerate(space.tries)
            ),
            reference=row_of_try(OURS, 0),
            seeds=(100, 101, 102),
            edits=20,
        ),
        Experiment(
            "threshold",
            "Rejection gate",
            "Is p between 10 and 50 robust? Generality against locality.",
            (
                *_value_rows("p", "p = ", PERCENTILES, DEFAULT.retrieval.percentile, _gated),
                *_value_rows("paper-p", "p = ", PERCENTILES, PAPER.retrieval.percentile, _gated),
            ),
            reference="p10",
            axis="percentile p",
        ),
        Experiment(
            "k",
            "Number of facts",
            "Does K = 5 suffice?",
            (
                *_value_rows("k", "K = ", KS, DEFAULT.retrieval.k, _fetching),
                *_value_rows("paper-k", "K = ", KS, PAPER.retrieval.k, _fetching),
            ),
            reference="k5",
            axis="K",
        ),
        Experiment(
            "keys",
            "Keys",
            "Which entries and keys are worth their place? Merging, patches, hubness.",
            (
                Row.of_design(OURS, "ours", keep),
                Row.of_design("answer", "answer entries only", change("writing", entries="answer")),
                Row.of_design("reasoning", "reasoning only", change("writing", entries="reasoning")),
                Row.of_design("image", "whole-image keys only", change("writing", keys="image")),
                Row.of_design("patch", "patch keys only", change("writing", keys="patch")),
                Row.of_design("both", "image and patch keys", change("writing", keys="both")),
                Row.of_design("unmerged", "without merging", change("writing", merge=False)),
                Row.of_design("hubness", "hubness correction", change("retrieval", hubness=True)),
                Row.of_design(PAPER_ROW, "the paper's", PAPER),
                Row.of_design("paper-image", "the paper's, without patches", change_paper("writing", keys="image")),
                Row.of_design("paper-patch", "the paper's, patches only", change_paper("writing", keys="patch")),
                Row.of_design("paper-unmerged", "the paper's, without merging", change_paper("writing", merge=False)),
                Row.of_design(
                    "paper-hubness", "the paper's, hubness correction", change_paper("retrieval", hubness=True)
                ),
            ),
        ),
        Experiment(
            "noise",
            "Noisy reasoning",
            "What does reasoning do that is irrelevant, incomplete, false, vague or misspelt? Of ours, of the paper's "
            "design and of IKE-CoT, which has it in its prompts.",
            _noise_rows((OURS, PAPER_ROW, "ike-cot")),
            axis="share, %",
        ),
        Experiment(
            "check",
            "Checks of edits",
            "How often is a check of an edit right? Its verdict beside what the probes say, which it has not seen.",
            _check_rows(),
        ),
        Experiment(
            "own",
            "Reasons of the VLM's own",
            "Can an edit be made from the VLM's own reasons, as they are or looked through by a person? "
            "And are the reasons right that it gives afterwards?",
            _own_rows(),
        ),
        Experiment(
            "portability",
            "Facts that lead to each other",
            "Does retrieval that walks from fact to fact answer questions of two steps, where a second edit says the "
            "second fact (Port-2) or the VLM knows it (Port-1)?",
            (
                *(Row.of_editor(name) for name in ("none", "ike-cot", PAPER_ROW)),
                Row.of_design("unchained", "ours, without chains", change("retrieval", chain=False)),
                Row.of_design(OURS, "ours: chains by shared words", keep),
                *(
                    Row.of_design(
                        f"walk-{n}", f"ours, and {n} step{'s'[: n > 1]} of a walk", change("retrieval", walk=n)
                    )
                    for n in (1, 2, 3)
                ),
                Row.of_design(
                    "walk-alone", "ours, 2 steps of a walk without chains", change("retrieval", walk=2, chain=False)
                ),
            ),
            source="linked",
        ),
        Experiment(
            "stress",
            "Sequential stress",
            "Does sequential editing drift? The edits follow one another; at checkpoints the probes of some are asked.",
            tuple(
                Row.of_editor(name, stream={"interleave": [30, 100, 200, 300, 500, 700], "probed": 100})
                for name in ("none", "ike-cot", "ike", "grace", "grace-tuned", PAPER_ROW, OURS)
                if name in EDITORS
            ),
            seeds=(0,),
            edits=1000,
        ),
        Experiment(
            "probes",
            "Sensitivity to the probes",
            "How much does a metric depend on the seed of the probes, with the same edits?",
            tuple(Row.of_editor(name) for name in ("none", "ike-cot", OURS)),
            seeds=(0, 1, 2, 3, 4, 5),
            varies="probe_seed",
        ),
    )
}
"""All experiments by name."""
