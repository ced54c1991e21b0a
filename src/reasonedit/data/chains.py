"""The chains of thought of RationaleVQA."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.matching import contains
from reasonedit.validation import split_reasoning

from .published_rows import sample_id
from .rows import Row

_COLUMNS = ("reason", "cot", "value")


def read_chains(rows: Iterable[Row]) -> tuple[dict[str, list[str]], list[str]]:
    """The chains in rows.

    Args:
        rows: The rows.

    Returns:
        The sentences of each chain by the sample's id, and for each row that cannot be used why.
    """
    chains: dict[str, list[str]] = {}
    problems: list[str] = []
    for row in rows:
        try:
            if row.problem:
                raise InputError(row.problem)
            name, chain = sample_id(row), _read_chain(row)
            if chains.setdefault(name, chain) != chain:
                raise InputError(f"'{name}' has another chain before.")
        except ReasonEditError as error:
            problems.append(f"{row.place}: {error}")
    return chains, problems


def without_conclusion(chain: Sequence[str], answer: str) -> list[str]:
    """A chain of thought without its last sentence, where that states the answer and is not all there is.

    >>> without_conclusion(["It is a kettle.", "It boils water.", "So the answer is tea."], "tea")
    ['It is a kettle.', 'It boils water.']
    >>> without_conclusion(["It is one kettle.", "So two (2) is the answer."], "Two")
    ['It is one kettle.']
    >>> without_conclusion(["It is a kettle.", "Kettles are metal."], "tea")
    ['It is a kettle.', 'Kettles are metal.']
    """
    concludes = len(chain) > 1 and contains(chain[-1], answer)
    return list(chain[:-1] if concludes else chain)


def _read_chain(row: Row) -> list[str]:
    chain = next((row.values[name] for name in _COLUMNS if row.values.get(name) is not None), None)
    if isinstance(chain, str):
        return split_reasoning(chain)
    if not isinstance(chain, list) or not chain or not all(isinstance(sentence, str) for sentence in chain):
        raise InputError("'reason' is missing or not text.")
    return chain
