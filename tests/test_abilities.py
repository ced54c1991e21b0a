"""The table of abilities of the embedded VLM. Slow: scripts/test --slow."""

import pytest

from reasonedit.data.world.abilities import ABILITIES, measure


@pytest.mark.slow
@pytest.mark.parametrize("ability", ABILITIES, ids=lambda a: a.name)
def test_the_embedded_vlm_reaches_its_bound(embedded_vlm, ability):
    share, _ = measure(embedded_vlm, ability, 300, seed=7)
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
