import pytest
from synthetic import curve, made, seal

from pipeline import UsageError
from pipeline.compare import compare


def run(out, fingerprint="f", keys="abc", **more):
    return seal(out, ([curve(k, fingerprint, **more) for k in keys], made(fingerprint)))


def test_a_run_agrees_with_itself_whatever_its_fingerprint(tmp_path):
    found = compare(run(tmp_path / "one", "f"), run(tmp_path / "two", "g"))
    (line,) = found.agreements
    assert (line.rows, line.orders, line.picks, line.first) == (3, 1, 1, 1)
    assert line.auc_mean == line.auc_largest == 0
    assert found.alone == (0, 0)


def test_shares_and_gaps_are_those_of_the_rows(tmp_path):
    one = run(tmp_path / "one", keys="ab", order=[0, 1, 2, 3], auc_probability=0.5)
    rows = [
        curve("a", "g", order=[0, 1, 3, 2], auc_probability=0.7),
        curve("b", "g", order=[0, 1, 2, 3], auc_probability=0.5),
    ]
    (line,) = compare(one, seal(tmp_path / "two", (rows, made("g")))).agreements
    assert (line.orders, line.picks, line.first) == (0.5, 0.75, 0.75)
    assert line.auc_mean == pytest.approx(0.1) and line.auc_largest == pytest.approx(0.2)


def test_comparing_is_symmetric_and_counts_what_only_one_run_holds(tmp_path):
    one, two = run(tmp_path / "one", keys="abcd"), run(tmp_path / "two", "g", keys="cde", seed=1)
    there, back = compare(one, two), compare(two, one)
    assert there.agreements == back.agreements
    assert there.alone == (2, 1) and back.alone == (1, 2)


def test_two_settings_of_one_method_are_refused_not_collapsed(tmp_path):
    parts = [([curve("a", f)], made(f)) for f in ("ffffffff1", "gggggggg1")]
    with pytest.raises(UsageError, match="two settings") as refused:
        compare(seal(tmp_path / "both", *parts), run(tmp_path / "one"))
    assert "ffffffff" in str(refused.value) and "gggggggg" in str(refused.value)


def test_another_model_s_orders_are_a_game_of_their_own(tmp_path):
    parts = [([curve("a", f, order_model=of)], made(f)) for f, of in (("f", None), ("g", "vgg19"))]
    found = compare(seal(tmp_path / "both", *parts), run(tmp_path / "one", "h", keys="a"))
    assert [line.game[-1] for line in found.agreements] == [None] and found.alone == (1, 0)


@pytest.mark.parametrize(
    ("column", "value"), [("model", "vgg19"), ("n_players", 16), ("masking", "blur")]
)
def test_different_games_are_not_compared(column, value, tmp_path):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", **{column: value})
    with pytest.raises(UsageError, match=f"no row in common: {column} is .* and {value}"):
        compare(one, two)
