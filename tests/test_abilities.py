"""The table of abilities of the embedded VLM. Slow: scripts/test --slow."""

from dataclasses import replace

import pytest

from reasonedit.data.world.abilities import ABILITIES
from reasonedit.data.world.measure import measure

SHORT_OF_ITS_BOUND = {
    # Measured on 200 questions of seed 7: what it reaches, and what it must not fall behind.
    "recognition: by position": 0.94,  # 0.970
    "recognition: next to": 0.74,  # 0.805
    "loss by 3 irrelevant facts": 0.11,  # 0.075: it takes a fact about another object for one about this
    "answer stated outright": 0.94,  # 0.960
}


@pytest.mark.slow
@pytest.mark.parametrize("ability", ABILITIES, ids=lambda a: a.name)
def test_the_embedded_vlm_reaches_its_bound(embedded_vlm, ability):
    share, _ = measure(embedded_vlm, ability, 300, seed=7)
    if not ability.reached(share) and ability.name in SHORT_OF_ITS_BOUND:
        assert replace(ability, target=SHORT_OF_ITS_BOUND[ability.name]).reached(share), share
        pytest.xfail(f"known to fall short of {ability.target}: {share:.3f}")
    assert ability.reached(share), share


def test_a_measurement_counts_right_answers():
    class Knows:
        """Answers every second question rightly."""

        asked = 0

        def see(self, images):
            return images

        def answer(self, vision, questions, choices):
            said = []
            for _ in questions:
                Knows.asked += 1
                said.append("kettle" if Knows.asked % 2 else "no such thing")
            return said

    share, count = measure(Knows(), ABILITIES[0], 40)
    assert count == 40
    assert 0 <= share < 0.2  # right only where a kettle was asked for
    assert Knows.asked == 40
