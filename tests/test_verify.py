import json

import pytest
import yaml
from conftest import write_tar
from synthetic import curve, made, seal

from jobs import verify as job
from pipeline import RunError, UsageError
from pipeline.rows import RunDir, Writer
from pipeline.rows.writer import register
from pipeline.studies.curves.rows import CURVES
from pipeline.verify import Verdict, verify

PAIRS = [("moxi", "insertion"), ("moxi", "deletion")]


@pytest.fixture
def data(tmp_path):
    """Settings of a data set of five samples in two shards."""
    for shard, keys in (("s", "abc"), ("t", "de")):
        write_tar(tmp_path / f"{shard}.tar", {f"{k}.jpg": b"" for k in keys})
    return {
        "_target_": "pipeline.data.shards.Shards",
        "name": "toy",
        "shards": f"{tmp_path}/*.tar",
        "limit": None,
    }


def provenance(data: dict, fingerprint: str = "f", wanted=PAIRS, **more) -> dict:
    return made(fingerprint, dataset=data | more) | {"wanted": [list(pair) for pair in wanted]}


def curves(fingerprint: str = "f", places=("sa", "sb", "sc", "td", "te"), **more) -> list[dict]:
    return [
        curve(key, fingerprint, shard=f"{shard}.tar", objective=objective, **more)
        for shard, key in places
        for _, objective in PAIRS
    ]


def wrong(verdict: Verdict) -> dict[str, int]:
    return {name: tally.count for name, tally in verdict.tallies().items() if tally.count}


def test_a_whole_run_is_whole(data, tmp_path, capsys):
    run = seal(tmp_path / "run", (curves(), provenance(data)))
    verdict = verify(run)
    assert verdict.expected == 10 and wrong(verdict) == {}
    job.main.job(job.main.settings([f"out={run.out}"]))
    assert "is whole" in capsys.readouterr().out


def test_everything_wrong_is_counted_and_named(data, tmp_path, capsys):
    rows = curves(places=("sa", "sb", "sx", "ub"))
    rows[0] |= {"status": "failed", "error": "no image"}
    run = seal(
        tmp_path / "run",
        (rows, provenance(data)),
        (curves(places=("sb",))[:1], provenance(data)),
        ([curve("a", "unheard of")], provenance(data)),
    )
    run.write(run.path("results", "notes.txt"), b"")
    run.write(run.path("results", "broken.parquet"), b"PAR1")
    run.write(run.path("results", "_.0123"), b"")
    Writer(run, register(run), provenance(data)).stage([curve("c", "f")])
    counts = {"missing": 6, "duplicate": 1, "failed": 1, "foreign": 7, "unreadable": 1, "staged": 1}
    assert wrong(verify(run)) == counts
    with pytest.raises(RunError, match="6 missing in results, 1 duplicate in results, 1 failed"):
        job.main.job(job.main.settings([f"out={run.out}"]))
    said = capsys.readouterr().out
    for line in (
        "results: 10 rows expected",
        "s.tar c moxi deletion",
        "1 rows: no image",
        "1 rows of unheard of insertion, which no settings name",
        "s.tar: 2 rows of samples that are not in the data set",
        "u.tar: 2 rows of a shard that is not in the data set",
        "results/notes.txt is no part",
        "broken.parquet is no readable Parquet file",
    ):
        assert line in said


def test_an_ok_row_makes_up_for_a_failed_one(data, tmp_path):
    again = curves(places=("sa",), status="failed", error="why")
    run = seal(tmp_path / "run", (curves(), provenance(data)), (again, provenance(data)))
    assert wrong(verify(run)) == {"duplicate": 2}


def test_every_sweep_is_checked(data, tmp_path):
    """Two sweeps share images a and b; the second one wants another row of these."""
    run = seal(
        tmp_path / "run",
        (curves(), provenance(data)),
        ([curve("a", "g")], provenance(data, "g", wanted=PAIRS[:1], limit=2)),
    )
    verdict = verify(run)
    assert verdict.expected == 12
    assert verdict.missing.examples == ["s.tar b moxi insertion"]


def test_older_parts_ask_for_what_they_hold(data, tmp_path):
    part = (curves(places=("sa",)), made("f", dataset=data))
    verdict = verify(seal(tmp_path / "run", part))
    assert (verdict.expected, verdict.missing.count) == (10, 8)


def test_settings_accepted_last_count_too(data, tmp_path):
    first = provenance(data, limit=2)
    run = seal(tmp_path / "run", (curves(places=("sa", "sb")), first))
    assert wrong(verify(run)) == {}

    def accept(**changed):
        settings = {**first["config"], "dataset": data, "out": run.out, **changed}
        run.write(run.path("config.yaml"), yaml.safe_dump(settings).encode())

    accept(added_since=1)  # a larger sweep whose first rows are there
    assert (verify(run).expected, wrong(verify(run))) == (10, {"missing": 6})
    accept(target="label")  # a sweep that has no row yet
    assert (verify(run).expected, wrong(verify(run))) == (4 + 10, {"missing": 10})
    run.write(run.path("config.yaml"), b"[1, 2")
    with pytest.raises(UsageError, match=r"config.yaml holds no settings of a run"):
        verify(run)


def test_lent_orders_are_known_by_their_addresses_wherever_they_lie(data, tmp_path):
    def made_of(run: str, order: str) -> dict:
        return provenance(data) | {
            "config": provenance(data)["config"]
            | {"orders": {"run": run, "fingerprints": {"moxi": order}}}
        }

    run = seal(tmp_path / "run", (curves(), made_of("here", "o")))
    for config, missing in (
        (made_of("there", "o")["config"], 0),
        (made_of("here", "another")["config"], 10),
        (provenance(data)["config"], 10),
    ):
        run.write(run.path("config.yaml"), yaml.safe_dump({**config, "out": run.out}).encode())
        assert wrong(verify(run)).get("missing", 0) == missing


def test_bits_that_flip_are_noticed(data, tmp_path):
    run = seal(tmp_path / "run", (curves(), provenance(data)))
    (name,) = run.sealed()
    content = bytearray(run.fs.cat_file(run.path("results", name)))
    content[120:140] = bytes(byte ^ 1 for byte in content[120:140])
    run.write(run.path("results", name), bytes(content))
    assert wrong(verify(run))["unreadable"] == 1


def test_parts_that_say_nothing_of_settings_are_foreign(tmp_path):
    for made_of in ({}, {"config": 1}, {"config": {"dataset": {}}, "fingerprints": [1]}):
        run = seal(tmp_path / json.dumps(made_of)[:12], ([curve("a", "f")], made_of))
        assert wrong(verify(run)) == {"foreign": 1}


def test_nothing_is_nothing_to_verify(tmp_path):
    assert wrong(verify(RunDir(str(tmp_path), CURVES))) == {}
    with pytest.raises(UsageError, match="no rows there"):
        job.main.job(job.main.settings([f"out={tmp_path}"]))
