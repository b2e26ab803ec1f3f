"""Which samples of which shards: folders that say what they hold, splits, classes, lists, parts."""

import functools
import hashlib
import io
import itertools
import json
import logging
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from conftest import write_tar

from pipeline import UsageError
from pipeline.data.index import load
from pipeline.data.shards import Shards


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path_factory.mktemp("cache")))


def tar(path, labels: dict[str, int | None], split: str = "a"):
    """A shard of samples with these labels, of a split."""
    members = {}
    for key, label in labels.items():
        members[f"{key}.jpg"] = b"image of " + key.encode()
        if label is not None:
            members[f"{key}.cls"] = str(label).encode()
        told = {"split": split} if label is None else {"split": split, "y": label}
        members[f"{key}.json"] = json.dumps(told).encode()
    return write_tar(path, members)


@pytest.fixture
def shards(tmp_path) -> list[str]:
    """30 samples of classes 0, 1 and 2, and two without a label, in three tars of two splits."""
    for i in range(3):
        labels = {f"d/{i}{j}": (j + i) % 3 for j in range(11 - i % 2)}
        labels |= {key: None for key in ("d/04", "d/22") if key in labels}
        tar(tmp_path / f"{i}.tar", labels, "ab"[i == 1])
    return [f"{tmp_path}/{i}.tar" for i in range(3)]


def keys(shards, **options) -> list[str]:
    return [ref.key for ref in Shards(name="x", shards=shards, **options).index()]


def test_so_many_of_each_class(shards):
    every = list(Shards(name="x", shards=shards).index())
    label = {r.key: Shards(name="x", shards=shards).read(r).label for r in every}
    field = {"label": "json.y"}
    for options in ({}, {"seed": 1}, {"seed": 2}, field, field | {"seed": 1}):
        found = keys(shards, per_class=3, **options)
        assert sorted(label[key] for key in found) == [0] * 3 + [1] * 3 + [2] * 3
        assert found == [key for key in label if key in found]
    first = {k for c in range(3) for k in [k for k in label if label[k] == c][:3]}
    assert set(keys(shards, per_class=3)) == first
    assert keys(shards, per_class=3, seed=1) == keys(shards, per_class=3, seed=1, label="json.y")
    assert keys(shards, per_class=3, seed=1) != keys(shards, per_class=3, seed=2)
    assert len(keys(shards, per_class=99)) == 30
    assert len(keys(shards, per_class=3, limit=4)) == 4
    with pytest.raises(UsageError, match=r"dataset.per_class=0: give a positive number"):
        Shards(name="x", shards=shards, per_class=0)


@pytest.mark.parametrize(
    "options", [{}, {"limit": 17, "seed": 4}, {"per_class": 2}, {"split": "a"}]
)
def test_parts_are_disjoint_equal_and_everything(shards, options):
    whole = keys(shards, **options)
    parts = [keys(shards, slice=f"{i}/4", **options) for i in range(4)]
    assert sorted(itertools.chain(*parts)) == sorted(whole) and len(set(whole)) == len(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert keys(shards, slice="0/1", **options) == whole


@pytest.mark.parametrize("text", ["4/4", "x", "1/0", "-1/4", "1"])
def test_a_part_is_i_of_n(text):
    with pytest.raises(UsageError, match=r"dataset.slice=.*: give i/n"):
        Shards(name="x", shards="x", slice=text)


def test_a_split_by_each_json(shards):
    assert len(keys(shards, split="b")) == 10 and keys(shards, split="c") == []
    assert keys(shards, split="b") == keys(shards[1])
    assert len(keys(shards)) == 32


def test_lists_of_paths_as_papers_publish_them(shards, tmp_path, caplog):
    listed = tmp_path / "eval.txt"
    listed.write_text("datasets/x/d/03.JPEG 1\n./d/10.jpg 0\n21.png\r\n\nd/99.jpg 3\n0.tar d/00\n")
    with caplog.at_level(logging.WARNING):
        assert keys(shards, keys=str(listed)) == ["d/00", "d/03", "d/10", "d/21"]
    assert "1 of its paths are no samples here, the first: d/99" in caplog.text
    tar(tmp_path / "3.tar", {"e/10": 0, "a_b": 1})
    listed.write_text("10.jpg 0\n")
    with pytest.raises(UsageError, match=r"10 is 1.tar d/10 and 3.tar e/10; write '<shard> <key>'"):
        keys([*shards, f"{tmp_path}/3.tar"], keys=str(listed))
    listed.write_text("images/a.b.jpg 7\n")
    assert keys([*shards, f"{tmp_path}/3.tar"], keys=str(listed)) == ["a_b"]


def hub(folder) -> None:
    """As timm/imagenet-1k-wds lies on the hub."""
    tar(folder / "in-train-00.tar", {"t/0": 0})
    tar(folder / "in-validation-00.tar", {"v/0": 1})
    tar(folder / "in-validation-01.tar", {"v/1": 2})
    named = {
        "train": ["in-train-00.tar"],
        "validation": [f"in-validation-0{i}.tar" for i in (0, 1)],
    }
    splits = {
        name: {"name": name, "filenames": tars, "shard_lengths": [1] * len(tars)}
        for name, tars in named.items()
    }
    (folder / "_info.json").write_text(json.dumps({"name": "in", "splits": splits}))


def test_folders_say_which_tars_are_of_a_split(tmp_path):
    hub(tmp_path / "hub")
    folder = f"{tmp_path}/hub"
    assert keys(folder, split="validation") == ["v/0", "v/1"]
    assert keys(folder) == ["t/0", "v/0", "v/1"]
    with pytest.raises(UsageError, match=r"dataset.split=test: the splits of .* are: train, valid"):
        keys(folder, split="test")
    (tmp_path / "hub/_info.json").unlink()  # only names are left to go by
    assert keys(folder, split="validation") == ["v/0", "v/1"]
    with pytest.raises(UsageError, match=r"no tar there has the split in its name"):
        keys(folder, split="test")
    for i in range(2):
        tar(tmp_path / f"clip/test/{i}.tar", {f"c/{i}": i})
    (tmp_path / "clip/test/nshards.txt").write_text("2\n")
    (tmp_path / "clip/classnames.txt").write_text("cat\ndog\n")
    names = f"{tmp_path}/clip/classnames.txt"
    clip = Shards(name="x", shards=f"{tmp_path}/clip", split="test", class_names=names)
    assert [ref.key for ref in clip.index()] == ["c/0", "c/1"] and clip.names() == ["cat", "dog"]
    (tmp_path / "clip/test/nshards.txt").write_text("two\n")
    with pytest.raises(UsageError, match=r"nshards.txt: 'two': expected the number of shards"):
        keys(f"{tmp_path}/clip", split="test")
    (tmp_path / "hub/manifest.json").write_text("[]")
    with pytest.raises(UsageError, match=r"manifest.json says nothing of shards"):
        keys(folder)
    with pytest.raises(UsageError, match="nothing matches"):
        keys(str(tmp_path))


class Ranged(SimpleHTTPRequestHandler):
    """Files with byte ranges and entity tags, as any web server has them, and as the hub has them:
    what it says of a repository, and its files below /resolve/main."""

    sent: list[int] = []

    def send_head(self):
        path = self.path.partition("?")[0]
        if path.startswith("/api/datasets/"):
            told = self.hub(path.removeprefix("/api/datasets/"))
            return self.answer(json.dumps(told).encode(), 200, {"Content-Type": "application/json"})
        named = path.replace("/datasets/", "/").replace("/resolve/main", "")
        place = Path(self.translate_path(named))
        if not place.is_file():
            self.send_error(404)
            return None
        content = place.read_bytes()
        tag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if not asked:
            return self.answer(content, 200, tag)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(len(content), int(last) + 1 if last else len(content))
        tag["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self.answer(content[start:end], 206, tag)

    def hub(self, asked: str):
        repository, _, folder = asked.partition("/tree/main")
        if not folder and "/tree/main" not in asked:
            return {"id": repository.removesuffix("/revision/main"), "sha": "0" * 40}
        root = Path(self.directory) / repository
        return [
            {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name}
            for p in sorted(root.iterdir())
        ]

    def answer(self, content: bytes, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.sent.append(len(content))
        return io.BytesIO(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path, monkeypatch):
    """The folder as a web server serves it, its URL."""
    monkeypatch.setattr(Ranged, "sent", [])
    handler = functools.partial(Ranged, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_on_the_web(web, tmp_path):
    pytest.importorskip("aiohttp")
    hub(tmp_path / "hub")
    data = Shards(name="x", shards=f"{web}/hub", split="validation")
    refs = list(data.index())
    assert [ref.key for ref in refs] == ["v/0", "v/1"]
    assert (data.read(refs[1]).encoded, data.read(refs[1]).label) == (b"image of v/1", 2)
    assert keys(f"{web}/hub/in-validation-{{00..01}}.tar") == ["v/0", "v/1"]
    assert load(f"{web}/hub/in-train-00.tar", "x").stamp
    with pytest.raises(UsageError, match=r"x-0.tar does not exist"):
        keys(f"{web}/hub/x-0.tar")


def test_a_repository_of_the_hub(web, tmp_path, monkeypatch):
    """Through huggingface_hub's own file system, at another address."""
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": web})
    hub(tmp_path / "timm/in")
    big = {f"b/{i}.jpg": bytes(2_000_000) for i in range(4)}
    write_tar(tmp_path / "timm/in/in-train-00.tar", big)
    data = Shards(name="x", shards="hf://datasets/timm/in", split="validation")
    refs = list(data.index())
    assert [ref.key for ref in refs] == ["v/0", "v/1"]
    assert (data.read(refs[1]).encoded, data.read(refs[1]).label) == (b"image of v/1", 2)
    Ranged.sent.clear()
    index = load("hf://datasets/timm/in/in-train-00.tar", "x")
    assert len(index) == 4 and index.stamp
    assert sum(Ranged.sent) < 100_000  # headers, not what lies between


def test_a_folder_in_a_store(tmp_path):
    hub(tmp_path)
    fs = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        fs.pipe_file(f"/selected/{path.name}", path.read_bytes())
    assert keys("memory://selected", split="validation") == ["v/0", "v/1"]
    assert keys("memory://selected/in-*.tar") == ["t/0", "v/0", "v/1"]
