"""What a run tells: soon, never silent, no line twice, and how sure it is."""

import io
import json

import pytest

from pipeline.engine import Counters
from pipeline.failures import grouped, reasons, told
from pipeline.progress import ActorStatus, Pace, Progress, Status, ending, spoken


class Run:
    """A run on a clock of its own: a status every half second."""

    def __init__(self, out=None):
        self.now, self.stream = 0.0, io.StringIO()
        self.progress = Progress(out, clock=lambda: self.now, stream=self.stream)

    def tell(self, seconds: float = 0.5, **status) -> None:
        self.now += seconds
        self.progress(Status(**status))

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def status(done=0, forwards=0, **more):
    spent = Counters(forwards=forwards)
    return {"images": 8, "done": done, "in_flight": 2, "forwards": 800, "counters": spent} | more


def test_something_new_is_told_at_once_and_the_rest_every_ten_seconds():
    run = Run()
    run.now = 60.0  # in the first minute there is more to tell
    run.tell(images=5, known=False)
    run.tell(**status())
    run.tell(**status(forwards=4))
    for step in range(60):  # half a minute
        run.tell(**status(forwards=8 + 4 * step))
    run.tell(**status(done=1, forwards=250))
    run.tell(**status(done=1, forwards=250, failures={"no image": 1}))
    assert run.lines[0] == "indexing shards: 5 images found, 60 s so far"
    assert run.lines[1] == "0/8 images, 2 in flight, no forward yet, 61 s so far"
    assert len(run.lines) == 3 + 3 + 2
    assert "1/8 images, 2 in flight, 31 %, " in run.lines[6]
    assert run.lines[7].endswith("to go, 1 rows failed: no image (1)")


def test_nobody_waits_five_seconds_for_a_word_at_first():
    run = Run()
    starting = (ActorStatus(name="a", state="starting"),)
    for _ in range(40):
        run.tell(**status(in_flight=0), actors=starting)
    assert len(run.lines) == 5
    assert run.lines[1] == "0/8 images, 0 in flight, 1 workers starting, 4 s so far"


def test_the_last_line_is_told_once():
    run = Run()
    with run.progress:
        run.tell(**status(forwards=700))
        run.tell(**status(done=8, in_flight=0, forwards=790))
        run.tell(**status(done=8, in_flight=0, forwards=800))
    assert len(run.lines) == len(set(run.lines)) == 2
    assert "8/8 images" in run.lines[-1] and "100 %" in run.lines[-1]
    assert "to go" not in run.lines[-1]


def test_forwards_of_images_under_way_count_and_a_hundred_is_kept_for_the_end():
    run = Run()
    run.tell(**status(forwards=1))
    run.tell(seconds=20, **status(forwards=400))
    assert "0/8 images, 2 in flight, 50 %" in run.lines[-1]
    run.tell(seconds=20, **status(forwards=900))
    assert "99 %" in run.lines[-1]


def test_the_time_to_go_is_as_wide_as_rates_differ():
    steady, shaky = Pace(), Pace()
    for step in range(13):
        steady.add(5.0 * step, 100 * step)
        shaky.add(5.0 * step, 100 * step + (80 if step % 2 else 0))
    low, high = steady.to_go(2400)
    assert (
        steady.rate == 20 and low == pytest.approx(60 / 1.05) and high == pytest.approx(60 / 0.95)
    )
    wide_low, wide_high = shaky.to_go(2400)
    assert wide_low < low and wide_high > high
    assert Pace().to_go(10) is None
    assert spoken(180, 240) == "3 to 4 min" and spoken(58, 62) == "58 to 62 s"
    assert spoken(3600 * 5, 3600 * 5.2) == "5 h" and spoken(0.1, 0.2) == "0 to 1 s"


def test_what_is_slow_or_silent_is_named():
    run = Run()
    workers = [ActorStatus(name="a", images_per_s=0.2), ActorStatus(name="b", state="silent")]
    run.tell(**status(forwards=1, actors=workers, slowest=("s.tar/17", 12.0)))
    assert run.lines[-1].endswith("1 of 2 workers silent")
    run.tell(seconds=10, **status(forwards=9, actors=workers, slowest=("s.tar/17", 95.0)))
    assert run.lines[-1].endswith("s.tar/17 takes 95 s so far")


def test_a_file_holds_the_same_for_dashboards(tmp_path):
    run = Run(str(tmp_path))
    with run.progress:
        run.tell(**status(forwards=40, failures={"no image 1": 2, "no image 2": 1}))
        held = json.loads((tmp_path / "progress.json").read_text())
        assert held["state"] == "running" and held["failures"] == {"no image #": 3}
        assert held["images"] == 8 and held["failed_rows"] == 3 and held["share"] == 0.05
        run.tell(**status(done=8, forwards=800))
    held = json.loads((tmp_path / "progress.json").read_text())
    assert held["state"] == "finished" and held["done"] == 8 and held["to_go_s"] is None


@pytest.mark.parametrize(
    ("error", "state"), [(RuntimeError, "failed"), (KeyboardInterrupt, "stopped")]
)
def test_the_file_says_how_a_run_ended(error, state, tmp_path):
    run = Run(str(tmp_path))
    with pytest.raises(error), run.progress:  # noqa: PT012
        run.tell(**status(forwards=40))
        raise error
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == state


def test_a_file_that_cannot_be_written_fails_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    run = Run(f"{tmp_path}/file/run")
    with run.progress:
        run.tell(**status(forwards=40))
    assert len(run.lines) == 1


def test_a_terminal_gets_a_bar():
    run = Run()
    run.stream.isatty = lambda: True
    with run.progress:
        run.progress.say("starting Ray ...")
        run.tell(**status(done=3, forwards=400))
    said = run.stream.getvalue()
    assert "starting Ray ...\n" in said and "3/8 images, 2 in flight" in said and "50%" in said


def test_the_end_tells_how_busy_workers_were_and_why_rows_failed():
    few = [ActorStatus(name="a", node="n1", busy=0.9), ActorStatus(name="b", busy=0.5)]
    failures = {"b.jpg: truncated 12": 1, "b.jpg: truncated 13": 2, "no label": 1}
    assert ending(Status(images=1, actors=few, failures=failures)) == [
        "engines busy 50% (b), 90% (a on n1) of the time",
        "4 rows failed: b.jpg: truncated # (3); no label (1)",
    ]
    many = [ActorStatus(name=f"w{i}", busy=i / 10) for i in range(1, 10)]
    assert ending(Status(images=1, actors=many)) == [
        "engines busy 10% to 90% of the time, median 50%; the least: w1"
    ]


def test_reasons_that_differ_in_names_and_numbers_are_one():
    failures = {f"class {i} is not one of the model's {j}": 1 for i in range(5) for j in (10, 20)}
    failures |= {"cannot read /data/a.tar": 1, "cannot read /data/b.tar": 2, "x": 1, "y": 1, "z": 1}
    classes = "class # is not one of the model's #"
    assert reasons(failures)[:2] == [(classes, 10), ("cannot read ...", 3)]
    assert grouped(failures) == f"{classes} (10); cannot read ... (3); x (1); others (2)"
    assert told({}, 5) == "" and told({"x": 2}, 5) == "2 of 5 rows failed: x (2)"
