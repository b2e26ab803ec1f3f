from synthetic import curve

from jobs.fig5 import _inside
from jobs.select import choose


def test_so_many_of_each_class_in_order_and_only_correct_ones():
    rows = [curve(k, "f", label=i % 2, prediction=i % 2) for i, k in enumerate("gfedcba")]
    rows += [curve("0", "f", label=1, prediction=0), curve("1", "f", label=None)]
    assert choose(rows, per_class=2, classes=None) == {
        ("s.tar", "a"): 0,
        ("s.tar", "b"): 1,
        ("s.tar", "c"): 0,
        ("s.tar", "d"): 1,
    }
    assert set(choose(rows, per_class=9, classes=[1]).values()) == {1}


def test_an_image_counts_only_if_every_model_of_the_run_is_right():
    rows = [curve("a", "f"), curve("b", "f"), curve("a", "g", prediction=0), curve("b", "g")]
    assert list(choose(rows, per_class=5, classes=None)) == [("s.tar", "b")]
    assert choose(rows[::-1], per_class=5, classes=None) == choose(rows, per_class=5, classes=None)


def test_share_of_players_in_the_half_of_the_label():
    def inside(key, order, n_players=16):
        return _inside({"n_players": n_players, "order": order, "phase_a": 1, "key": key})

    left, right = [15, 0, 1, 4], [15, 2, 3, 7]  # the first pick belongs to phase A
    assert inside("x_left", left) == inside("x_right", right) == 1
    assert inside("x_right", left) == inside("x_left", right) == 0
    assert inside("x_left", [8, 1, 4, 7], n_players=9) == 0.5  # the middle column straddles
