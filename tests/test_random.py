from conftest import table_game

from pipeline.methods import play
from pipeline.methods.random import Random


def test_order_belongs_to_seed_and_sample():
    value = table_game(9)
    one = play(Random(seed=0), value, 9, key="a")
    assert one["insertion"].order == one["deletion"].order
    assert sorted(one["insertion"].order) == list(range(9))
    assert play(Random(seed=0), value, 9, key="a")["deletion"].order == one["deletion"].order
    assert play(Random(seed=1), value, 9, key="a")["deletion"].order != one["deletion"].order
    assert play(Random(seed=0), value, 9, key="b")["deletion"].order != one["deletion"].order
