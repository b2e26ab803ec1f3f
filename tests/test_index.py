"""Damaged and odd tars, the cache of indexes, names of shards, passing faults of storage."""

import io
import logging
import os
import tarfile
from collections import Counter

import fsspec
import numpy as np
import pytest
from conftest import write_tar
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import UsageError
from pipeline.data import Unreadable, ranges
from pipeline.data import index as indexing
from pipeline.data.index import load
from pipeline.data.labels import parse_label
from pipeline.data.shards import Shards
from pipeline.data.tars import printable
from pipeline.data.urls import shard_names

SAMPLES = [f"{k}.{e}" for k in "abcde" for e in ("jpg", "cls")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(ranges, "PAUSES_S", (0.0, 0.0))


@pytest.fixture
def tar(tmp_path):
    return write_tar(tmp_path / "x.tar", {name: name.encode() * 200 for name in SAMPLES})


def refs(path) -> dict:
    index = load(str(path), "x.tar")
    return {ref.key: ref for ref in index.refs(np.arange(len(index)))}


def test_no_sample_after_a_corrupt_header_is_lost(tar):
    content = bytearray(tar.read_bytes())
    place = refs(tar)["c"].members["jpg"][0] - 512
    content[place + 130] ^= 1
    tar.write_bytes(content)
    index = load(str(tar), "x.tar")
    assert index.keys.to_pylist() == list("abcde")
    assert "damaged at byte" in index.problems[0] and str(place) in index.problems[0]
    assert [key for key, ref in refs(tar).items() if ref.error] == ["c"]
    assert "has no jpg" in index.ref(2).error


def test_a_tar_cut_behind_an_image_does_not_lose_the_label_silently(tar):
    place = refs(tar)["d"].members["cls"][0]
    for end in (place - 512, place - 300):
        tar.write_bytes(tar.read_bytes()[:end])
        assert [(k, r.error) for k, r in refs(tar).items() if r.error] == [
            ("d", "shard is cut off inside this sample: it has no cls")
        ]


def test_whole_members_need_no_end_of_archive(tar):
    offset, size = refs(tar)["e"].members["cls"]
    tar.write_bytes(tar.read_bytes()[: offset + size])
    index = load(str(tar), "x.tar")
    assert index.problems == () and len(index) == 5 and not index.ref(4).error


def test_an_empty_file_says_so_each_time(tmp_path, caplog):
    (tmp_path / "x.tar").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert load(str(tmp_path / "x.tar"), "x.tar").problems == ("empty: a file of 0 bytes",)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_is_read(tmp_path, form):
    long = "n" * 90 + "/" + "m" * 60 + ".jpg"
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
        for name in ("./001.Black_footed/a.JPG", long):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("l.jpg")
            info.type, info.linkname = kind, "l.jpg"
            tar.addfile(info)
    found = refs(tmp_path / "x.tar")
    assert list(found) == ["001.Black_footed/a", long.removesuffix(".jpg")]
    for ref in found.values():
        assert ranges.read_members(ref.url, list(ref.members.values())) == [b"abc"]


def test_sparse_members_are_called_sparse(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type = tarfile.GNUTYPE_SPARSE
        tar.addfile(info)
    assert "is a sparse file" in refs(tmp_path / "x.tar")["a"].error


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(UsageError, match="no regular file"):
        load(str(tmp_path / "x.tar"), "x.tar")


def test_names_are_printable_and_stay_different():
    names = [b"\xff", rb"\xff", rb"\\xff", b"\\\xff", b"a\nb", rb"a\nb", b"a\\x0ab", "é".encode()]
    assert len({printable(name) for name in names}) == len(names)
    assert printable(b"\xff.jpg") == r"\xff.jpg" and printable(rb"a\b") == r"a\b"
    for name in names:
        printable(name).encode()


def test_the_cache_is_used_and_rebuilt(tar, tmp_path, monkeypatch):
    first = load(str(tar), "x.tar")
    (kept,) = indexing.cache_folder().iterdir()
    walks = Counter()
    walk = indexing.walk
    monkeypatch.setattr(indexing, "walk", lambda url, f: walks.update("w") or walk(url, f))
    assert load(str(tar), "x.tar").samples.equals(first.samples) and not walks
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-9], whole[:50] + b"\x99" + whole[51:], b"\x80\x04."):
        kept.write_bytes(damaged)
        assert load(str(tar), "x.tar").samples.equals(first.samples)
        assert kept.read_bytes() == whole
    assert walks["w"] == 4
    os.utime(tar, ns=(1, 1))
    assert load(str(tar), "x.tar").stamp != first.stamp and walks["w"] == 5
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tar))  # a file: nothing can be kept there
    assert len(load(str(tar), "x.tar")) == 5


def test_shards_of_one_name_get_the_folders_that_differ():
    assert shard_names(["/d/train/000.tar", "/d/val/000.tar", "/d/val/1.tar"]) == [
        "train/000.tar",
        "val/000.tar",
        "1.tar",
    ]
    with pytest.raises(UsageError, match="named twice"):
        shard_names(["x.tar", "./x.tar"])


def test_places_follow_keys_limit_and_seed(tmp_path):
    for folder in "pq":
        write_tar(tmp_path / folder / "0.tar", dict.fromkeys(SAMPLES, b"1"))
    every = [f"{tmp_path}/p/0.tar", f"{tmp_path}/q/0.tar"]

    def places(**options):
        found = Shards(name="x", shards=every, **options).indexed()
        return {index.shard: chosen.tolist() for index, chosen in found}

    assert places() == {"p/0.tar": [0, 1, 2, 3, 4], "q/0.tar": [0, 1, 2, 3, 4]}
    assert places(limit=3) == {"p/0.tar": [0, 1, 2]}
    assert sum(map(len, places(limit=7, seed=1).values())) == 7
    (tmp_path / "keys").write_text("q/0.tar b\n")
    assert places(keys=f"{tmp_path}/keys") == {"q/0.tar": [1]}


def test_content_is_that_of_image_and_label(tmp_path):
    def content(image, label):
        write_tar(tmp_path / "x.tar", {"a.jpg": image, "a.cls": label})
        data = Shards(name="x", shards=f"{tmp_path}/x.tar")
        return data.read(next(data.index())).content

    assert len({content(b"i", b"1"), content(b"j", b"1"), content(b"i", b"2")}) == 3
    assert content(b"i", b"1") == content(b"i", b"1") and len(content(b"i", b"1")) == 16


@pytest.mark.parametrize(
    "raw", [b"1_0", b"1.0", b"", b"2147483648", b"-2", b"cat", "\u0663".encode()]
)
def test_only_plain_integers_are_labels(raw):
    assert parse_label(b" 2147483647\n", "cls") == 2**31 - 1
    with pytest.raises(ValueError, match="no class index"):
        parse_label(raw, "cls")
    for held in (b'{"y": true}', b'{"y": 1.0}', b'{"y": "1"}', b"[1]", b"[" * 9000):
        with pytest.raises(ValueError, match="no class index"):
            parse_label(held, "json.y")
    with pytest.raises(ValueError, match="no field 'nope'; the fields there are: y"):
        parse_label(b'{"y": 1}', "json.nope")


def test_a_shard_that_is_away_for_a_moment_is_waited_for(tar, monkeypatch):
    data = Shards(name="x", shards=str(tar))
    ref = next(data.index())
    away = tar.rename(tar.with_suffix(".away"))
    with pytest.raises(Unreadable, match=r"x\.tar cannot be read now: FileNotFoundError"):
        data.read(ref)
    monkeypatch.setattr(ranges.time, "sleep", lambda pause: away.rename(tar))
    with pytest.raises(ValueError, match="no class index"):  # the labels here are text
        data.read(ref)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keys": "{}"}, "dataset.keys: .* Is a directory"),
        ({"shards": "s4://x/y.tar"}, "protocol that is not known"),
        ({"shards": "http://127.0.0.1:1/x.tar"}, "127.0.0.1:1/x.tar (.*onnect|needs a package)"),
        ({"shards": "x-{9..1}.tar"}, "must count up"),
    ],
)
def test_faults_are_one_line(tar, options, said):
    options = {"shards": str(tar)} | {
        k: v.format(tar.parent) if k == "keys" else v for k, v in options.items()
    }
    with pytest.raises(UsageError, match=said) as caught:
        list(Shards(name="x", **options).index())
    assert "\n" not in str(caught.value)


def test_broken_class_names_are_one_line(tmp_path):
    for text in ("[1,", '{"a": 1}', "[1]"):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(UsageError, match="class_names"):
            Shards(name="x", shards="x", class_names=f"{tmp_path}/names.json").names()


class Headers(MemoryFileSystem):
    """A store that counts its requests."""

    protocol = "headers"
    requests: list[int] = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("headers://", "memory://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.requests.append(end - start)
        return super().cat_file(path, start, end, **kwargs)


def test_a_store_is_asked_once_a_sample_and_for_headers_only(tmp_path, monkeypatch):
    fsspec.register_implementation("headers", Headers, clobber=True)
    monkeypatch.setattr(Headers, "requests", asked := [])
    members = {f"{k}.{e}": c for k in range(50) for e, c in (("jpg", b"x" * 9000), ("cls", b"3"))}
    content = write_tar(tmp_path / "x.tar", members).read_bytes()
    fsspec.filesystem("headers").pipe_file("/x.tar", content)
    assert len(load("headers://x.tar", "x.tar")) == 50
    assert len(asked) <= 53 and max(asked[:51]) == ranges.AHEAD
    asked.clear()
    load("headers://x.tar", "x.tar")
    assert not asked
