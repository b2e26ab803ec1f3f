"""Rows on their way to parts: whoever dies when, every row is there once; no Ray, no processes."""

import json
import os
from unittest.mock import Mock

import pytest
from synthetic import curve, made

from pipeline.rows import METADATA_KEY, RunDir, Storage, Writer, storage, writer
from pipeline.rows.writer import FencedError, forget, recover, register, take_over
from pipeline.studies.curves.rows import CURVES


class Killed(BaseException):
    """The process is no more."""


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is lost here
    found = RunDir(str(tmp_path) if request.param == "local" else "memory://bucket/run", CURVES)
    yield found
    if request.param == "memory" and found.fs.exists("/bucket"):
        found.fs.rm("/bucket", recursive=True)


def begun(run: RunDir) -> Writer:
    return Writer(run, register(run), made("f"))


def keys(run: RunDir) -> list[str]:
    """Of every row that lies in parts, however often."""
    return sorted(row["key"] for name in run.sealed() for row in run.read_rows(name))


def test_groups_become_a_part_that_says_how_it_was_made(run):
    one = begun(run)
    for key in "ba":
        one.stage([curve(key, "f")])
    assert keys(run) == [] and len(list(writer.staged(run))) == 2
    one.seal()
    one.seal()  # nothing new
    (name,) = run.sealed()
    assert name == f"toy-{one.name}-000001.parquet"
    assert [row["key"] for row in run.read_rows(name)] == ["a", "b"]
    assert run.metadata() == [json.loads(json.dumps(made("f")))] and METADATA_KEY
    one.stage([curve("c", "f")])
    one.close()
    assert keys(run) == ["a", "b", "c"]
    assert writer.writers(run) == []


def row(key: str) -> tuple:
    """The identity of a row."""
    return ("s.tar", key, "f", "insertion")


def killing(run: RunDir, monkeypatch, steps: int) -> Mock:
    """Of the writes, creations and removals from now on, so many are done; at the next the process
    dies, before or after it is done."""
    left = iter(range(steps))

    def dying(action):
        def step(*arguments, **options):
            if next(left, None) is None:
                raise Killed
            return action(*arguments, **options)

        return step

    monkeypatch.setattr(Storage, "write", dying(Storage.write))
    monkeypatch.setattr(Storage, "create", dying(Storage.create))
    monkeypatch.setattr(type(run.fs), "rm_file", dying(type(run.fs).rm_file))
    return Mock()


def life(one: Writer, told: list[str]) -> None:
    """Seven images in groups of one to three, two parts, an end."""
    for group, seal in (("a", False), ("bc", True), ("d", False), ("efg", False)):
        one.stage([curve(key, "f") for key in group])
        told += group
        if seal:
            one.seal()
    one.close()


@pytest.mark.parametrize("steps", range(17))
@pytest.mark.parametrize("heirs", [[99], [0, 1, 99], [2, 99], [3, 4, 99]])
def test_whenever_a_writer_dies_and_its_heirs_too_each_row_is_there_once(
    run, monkeypatch, steps, heirs
):
    one, told = begun(run), []
    with monkeypatch.context() as patch:
        killing(run, patch, steps)
        try:
            life(one, told)
        except Killed:
            pass
        else:
            assert steps >= 14
    for steps_of_heir in heirs:
        with monkeypatch.context() as patch:
            killing(run, patch, steps_of_heir)
            try:
                recover(run)
            except Killed:
                continue
    found = keys(run)
    assert sorted(set(found)) == found  # once
    assert set(told) <= set(found) <= set("abcdefg")
    recover(run)
    assert keys(run) == found and writer.writers(run) == []


def test_whoever_takes_over_hears_of_images_that_nobody_was_told_of(run):
    one = begun(run)
    one.stage([curve("a", "f"), curve("a", "g")])
    one.seal()
    reported = one.sealed
    one.stage([curve("b", "f")])
    one.seal()
    one.stage([curve("c", "f")])
    assert take_over(run, one.name, reported) == {row("b"), row("c")}
    assert keys(run) == ["a", "a", "b", "c"]
    assert take_over(run, one.name, reported) == {row("b"), row("c")}
    assert keys(run) == ["a", "a", "b", "c"]


def test_a_writer_that_was_taken_over_is_fenced_off(run):
    one = begun(run)
    one.stage([curve("a", "f")])
    assert take_over(run, one.name) == {row("a")}
    one.stage([curve("b", "f")])  # it does not know yet; the image is somebody else's by now
    with pytest.raises(FencedError, match="was taken over"):
        one.seal()
    assert recover(run) == 1
    with pytest.raises(FencedError, match="is over"):
        one.seal()
    assert keys(run) == ["a"]


def test_of_a_writer_and_its_heir_that_seal_at_once_one_wins(run, monkeypatch):
    one = begun(run)
    one.stage([curve("a", "f")])
    before = writer._make_claim

    def first_the_writer(run_, name, number, claim):
        monkeypatch.setattr(writer, "_make_claim", before)
        one.seal()
        before(run_, name, number, claim)

    monkeypatch.setattr(writer, "_make_claim", first_the_writer)
    assert take_over(run, one.name) == {row("a")}
    assert keys(run) == ["a"]


def test_a_store_that_answers_late_has_made_the_claim(run, monkeypatch):
    one = begun(run)
    one.stage([curve("a", "f")])
    before, answers = Storage.create, iter([TimeoutError("too late")])

    def late(self, path, content):
        before(self, path, content)
        if error := next(answers, None):
            raise error

    monkeypatch.setattr(Storage, "create", late)
    one.close()
    assert keys(run) == ["a"]


def test_old_claims_go(run):
    one = begun(run)
    for number in range(writer.CLAIMS_KEPT + 5):
        one.stage([curve(f"{number:03}", "f")])
        one.seal()
    names = run.names("staging", CURVES.folder, one.name)
    assert len(names) == writer.CLAIMS_KEPT + 1  # and that of its birth
    assert take_over(run, one.name, one.sealed - 1) == {row(f"{number:03}")}
    forget(run, one.name)
    assert len(keys(run)) == number + 1
