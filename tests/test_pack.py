"""Packers: published layouts to tars and back, resume after kill -9, what malformed files cost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fsspec
import layouts
import pytest
from conftest import ROOT

from jobs.pack import main as pack
from pipeline import UsageError
from pipeline.data import index as indexing
from pipeline.data.packers import key_of
from pipeline.data.packers.celeba import CelebA
from pipeline.data.packers.cub import Cub
from pipeline.data.packers.imagenet import ImageNet
from pipeline.data.packers.vggface2 import VggFace2
from pipeline.data.shards import Shards
from pipeline.packing.plan import planned


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path_factory.mktemp("cache")))


def packed(images: Path, out: Path | str, *overrides: str) -> dict:
    """The manifest of a tree that `jobs.pack` has packed."""
    pack.job(pack.settings([f"images={images}", f"out={out}", *overrides]))
    with fsspec.open(f"{out}/manifest.json") as file:
        return json.load(file)


def samples(out: Path | str, split: str | None = None) -> dict[str, tuple]:
    """By key: bytes of the image, label, and what the json holds."""
    data = Shards(name="x", shards=str(out), split=split)
    found = [data.read(ref, ("json",)) for ref in data.index()]
    return {s.key: (s.encoded, s.label, json.loads(s.members["json"])) for s in found}


def counts(manifest: dict) -> dict:
    return {split: of["classes"] for split, of in manifest["splits"].items()}


def test_cub(tmp_path):
    root = layouts.cub(tmp_path / "CUB_200_2011")
    manifest = packed(root, tmp_path / "out", "dataset=cub", "samples_per_shard=2")
    assert counts(manifest) == {s: {"0": 1, "1": 1, "2": 1} for s in ("test", "train")}
    assert [s["name"] for s in manifest["shards"]] == [
        f"cub-{s}-00000{i}.tar" for s in ("test", "train") for i in (0, 1)
    ]
    found = samples(tmp_path / "out", "test")
    key = "002.Laysan_Albatross/Laysan_Albatross_0001_1"
    encoded, label, told = found[key]
    assert len(found) == 3 and label == 1
    assert encoded == (root / "images" / f"{key}.jpg").read_bytes()
    assert told == {
        "boxes": [[4.0, 2.0, 24.5, 12.0]],
        "class_name": "Laysan Albatross",
        "label": 1,
        "split": "test",
    }
    names = Shards(name="x", shards="x", class_names=f"{tmp_path}/out/classnames.txt").names()
    assert names == ["Black footed Albatross", "Laysan Albatross", "Sooty Albatross"]
    assert set(samples(tmp_path / "out")) == set(found) | set(samples(tmp_path / "out", "train"))


def test_packed_boxes_are_what_judges_read(tmp_path):
    from pipeline.judges.boxes import boxes_of, visible

    packed(layouts.cub(tmp_path / "CUB"), tmp_path / "out", "dataset=cub")
    data = Shards(name="x", shards=f"{tmp_path}/out", split="train")
    sample = data.read(next(data.index()), ("json",))
    size = {"input_size": (3, 40, 48), "crop_pct": 1.0, "interpolation": "bilinear"}
    seen_HW = visible(boxes_of(sample, "boxes"), "xyxy", sample, size | {"crop_mode": "squash"})
    rows, columns = seen_HW.nonzero().T
    assert (int(columns.min()), int(rows.min())) == (1, 2)
    assert (int(columns.max()) + 1, int(rows.max()) + 1) == (22, 12)  # 21.5 is rounded


def test_celeba_by_identity_and_by_attribute(tmp_path):
    root = layouts.celeba(tmp_path / "celeba")
    manifest = packed(root, tmp_path / "out", "dataset=celeba")
    assert counts(manifest) == {
        "train": {"2879": 1},
        "validation": {"2936": 1},
        "test": {"2879": 1},
    }
    found = samples(tmp_path / "out")
    assert found["000002"] == (
        (root / "Img/img_align_celeba/000002.jpg").read_bytes(),
        2936,
        {
            "attributes": {"Smiling": -1, "Young": -1},
            "class_name": "2937",
            "identity": "2937",
            "label": 2936,
            "split": "validation",
        },
    )
    options = ("dataset=celeba", "source.target=Young", "source.images=img_celeba")
    packed(root, tmp_path / "young", *options, "source.boxes=list_bbox_celeba.txt")
    found = samples(tmp_path / "young")
    assert [label for _, label, _ in found.values()] == [1, 0, 0]
    assert found["000003"][2]["boxes"] == [[9, 7, 29, 37]]
    assert (tmp_path / "young/classnames.txt").read_text() == "not Young\nYoung\n"
    with pytest.raises(UsageError, match=r"source.target=Young2: use identity or one of Smiling"):
        packed(root, tmp_path / "x", "dataset=celeba", "source.target=Young2")
    with pytest.raises(UsageError, match="boxes are of the unaligned images"):
        packed(root, tmp_path / "x", "dataset=celeba", "source.boxes=list_bbox_celeba.txt")


def test_vggface2_numbers_people_for_training_first(tmp_path):
    root = layouts.vggface2(tmp_path / "vgg")
    boxes = "source.boxes=[bb_landmark/loose_bb_test.csv]"
    manifest = packed(root, tmp_path / "out", "dataset=vggface2", boxes)
    assert counts(manifest) == {"test": {"2": 1}, "train": {"0": 2, "1": 1}}
    assert manifest["splits"]["test"]["boxes"] == 1 and not manifest["splits"]["train"]["boxes"]
    encoded, label, told = samples(tmp_path / "out", "test")["n000001/0001_01"]
    assert (encoded, label) == ((root / "test/n000001/0001_01.jpg").read_bytes(), 2)
    assert told["boxes"] == [[5, 6, 25, 27]] and told["identity"] == "n000001"
    assert told["attributes"] == {"name": "14th Dalai Lama", "gender": "m"}
    names = (tmp_path / "out/classnames.txt").read_text().splitlines()
    assert names == ["A Fine Frenzy", "A. A. Gill", "14th Dalai Lama"]


TRUTH = "source.truth=ILSVRC2012_validation_ground_truth.txt"


@pytest.mark.parametrize(
    "options",
    [
        (TRUTH, "source.synsets=meta.mat"),
        (TRUTH, "source.synsets=ids.txt"),
        ("source.truth=wnids.txt",),
        ("source.truth=LOC_val_solution.csv",),
    ],
)
def test_imagenet_validation_images_get_the_index_of_their_class(tmp_path, options):
    root = layouts.imagenet(tmp_path / "imagenet")
    packed(root, tmp_path / "out", "dataset=imagenet", *options)
    found = samples(tmp_path / "out", "validation")
    assert [label for _, label, _ in found.values()] == [0, 2, 1, 0]
    encoded, _, told = found["ILSVRC2012_val_00000002"]
    assert encoded == (root / "val/ILSVRC2012_val_00000002.JPEG").read_bytes()
    assert (told["synset"], told["class_name"]) == ("n01484850", "great white shark")
    assert told.get("boxes") == ([[1, 2, 30, 20], [3, 4, 9, 9]] if "LOC" in options[0] else None)


def test_imagenet_folders_with_training_images(tmp_path):
    root = layouts.imagenet(tmp_path / "imagenet")
    os.rename(root / "train", root / "both")
    options = ("dataset=imagenet", "source.train=both", "source.val=null")
    assert counts(packed(root, tmp_path / "out", *options)) == {"train": {"0": 2, "1": 2, "2": 2}}
    assert "n01443537/n01443537_18" in samples(tmp_path / "out", "train")
    (root / "few.txt").write_text("n01484850 shark, fish\nn01440764 tench\nn01443537 goldfish\n")
    packed(root, tmp_path / "few", *options, "source.classes=few.txt")
    labels = {key[:9]: label for key, (_, label, _) in samples(tmp_path / "few").items()}
    assert labels == {"n01440764": 1, "n01443537": 2, "n01484850": 0}
    with pytest.raises(UsageError, match=r"source.synsets is not set: .*meta.mat"):
        packed(root, tmp_path / "x", "dataset=imagenet", TRUTH)
    with pytest.raises(UsageError, match=r"source.truth: .* has no folders of classes"):
        packed(root, tmp_path / "x", "dataset=imagenet")


def test_folders_and_csv(tmp_path):
    flat = layouts.pets(tmp_path / "flat")
    (flat / "cat/again").symlink_to(flat)  # leads nowhere but back
    manifest = packed(flat, tmp_path / "out", "dataset.name=flat")
    assert counts(manifest) == {"": {}} and manifest["shards"][0]["name"] == "flat-000000.tar"
    assert [(k, label) for k, (_, label, _) in samples(tmp_path / "out").items()] == [
        ("cat/1", None),
        ("cat/more/2", None),
        ("dog/1", None),
    ]
    split = layouts.pets(tmp_path / "split", ("train", "val"))
    options = ("source=image_folder", "source.splits=[train,val]")
    assert counts(packed(split, tmp_path / "pets", *options)) == {
        s: {"0": 2, "1": 1} for s in ("train", "val")
    }
    assert samples(tmp_path / "pets", "val")["val/dog/1"][1] == 1
    rows = "path,label,split,left,top,right,bottom,age\ncat/1.jpg,cat,a,1,2,3,4,7\n"
    (flat / "images.csv").write_text(rows + 'dog/1.jpeg,"dog",b,,,,,\n')
    packed(flat, tmp_path / "csv", "source=csv")
    found = samples(tmp_path / "csv")
    known = {k: (n, told.get("boxes"), told.get("attributes")) for k, (_, n, told) in found.items()}
    assert known == {"cat/1": (0, [[1, 2, 3, 4]], {"age": "7"}), "dog/1": (1, None, None)}


READERS = {"cub": Cub, "celeba": CelebA, "vggface2": VggFace2, "imagenet": ImageNet}


@pytest.mark.parametrize(
    ("layout", "file", "line", "bad", "expected"),
    [
        ("cub", "images.txt", 2, "2", "<image id> <path below images>"),
        ("cub", "image_class_labels.txt", 3, "3 1_0", "<image id> <class id>"),
        ("cub", "image_class_labels.txt", 3, "3 4", "a class id from 1 to 3"),
        ("cub", "train_test_split.txt", 1, "1 2", "1 where it is for training"),
        ("cub", "bounding_boxes.txt", 4, "4 1.0 2.0 nan 3.0", "<image id> <x> <y> <width>"),
        ("cub", "images.txt", 2, "1 x.jpg", "'1' once; it is on line 1 too"),
        ("celeba", "Anno/identity_CelebA.txt", 2, "000002.jpg x", "number of the person"),
        ("celeba", "Anno/list_attr_celeba.txt", 4, "000002.jpg -1 0", "-1 or 1 for each of the 2"),
        ("celeba", "Anno/list_attr_celeba.txt", 1, "4", "number of images, 3 lines follow"),
        ("celeba", "Eval/list_eval_partition.txt", 1, "000001.jpg 3", "<image> <0, 1 or 2>"),
        ("vggface2", "identity_meta.csv", 3, "n000002, x, 1, 2, f", "1 train, 0 test"),
        ("imagenet", "ILSVRC2012_validation_ground_truth.txt", 2, "4", "from 1 to 3"),
        ("imagenet", "LOC_val_solution.csv", 3, "a,n01440764 1 2 3", "once a box"),
    ],
)
def test_a_malformed_line_is_told_with_file_and_number(tmp_path, layout, file, line, bad, expected):
    root = getattr(layouts, layout)(tmp_path / "tree")
    reader = READERS[layout]
    lines = (root / file).read_text().splitlines()
    lines[line - 1] = bad
    (root / file).write_text("\n".join(lines) + "\n")
    options = {"truth": file, "synsets": "meta.mat"} if layout == "imagenet" else {}
    with pytest.raises(UsageError) as caught:
        planned(reader(root=str(root), **options), name="x")
    said = str(caught.value)
    assert f"{root / file}:{line}: {bad!r}: expected" in said
    assert expected in said and "\n" not in said


def test_what_is_missing_or_in_the_way_is_named(tmp_path):
    root = layouts.cub(tmp_path / "cub")
    image = root / "images/002.Laysan_Albatross/Laysan_Albatross_0000_0.jpg"
    content = image.read_bytes()
    image.unlink()
    with pytest.raises(UsageError) as caught:
        packed(root, tmp_path / "out", "dataset=cub")
    assert str(caught.value) == f"{image} does not exist, which {root}/images.txt:3 names"
    image.write_bytes(content)
    lines = (root / "bounding_boxes.txt").read_text().splitlines()
    (root / "bounding_boxes.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(UsageError, match=r"bounding_boxes.txt: no line for '6', which .*:6 names"):
        packed(root, tmp_path / "out", "dataset=cub")
    (root / "bounding_boxes.txt").unlink()
    with pytest.raises(UsageError, match=r"bounding_boxes.txt: no such file"):
        packed(root, tmp_path / "out", "dataset=cub")
    flat = layouts.written(tmp_path / "flat", {"a.jpg": b"1", "a.png": b"2"})
    with pytest.raises(UsageError, match=r"a.png: the key 'a' is that of .*a.jpg' too"):
        packed(flat, tmp_path / "out")
    with pytest.raises(UsageError, match=r"images: .*/nowhere is no folder"):
        packed(tmp_path / "nowhere", tmp_path / "out")
    os.rename(flat / "a.png", flat / "b.png")
    layouts.written(tmp_path / "out", {"other.tar": b""})
    with pytest.raises(UsageError, match=r"other.tar .* is no part of this packing"):
        packed(flat, tmp_path / "out")


def test_keys_are_paths_without_dots():
    assert key_of("001.Black/a.b.JPG") == "001.Black/a_b"


def test_checksums_bytes_and_index_are_those_of_the_tars(tmp_path, monkeypatch):
    root = layouts.cub(tmp_path / "cub")
    manifest = packed(root, tmp_path / "out", "dataset=cub")
    again = packed(root, tmp_path / "again", "dataset=cub", "workers=1")
    assert manifest == again
    for shard in manifest["shards"]:
        content = (tmp_path / "out" / shard["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        assert content == (tmp_path / "again" / shard["name"]).read_bytes()
        with tarfile.open(tmp_path / "out" / shard["name"]) as tar:
            members = tar.getmembers()
        (key,) = {m.name.rpartition(".")[0] for m in members[:3]}
        assert [m.name for m in members[:3]] == [f"{key}.{e}" for e in ("jpg", "cls", "json")]
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in members} == {(0, 0, "", 0o644)}
    walks = []
    walk = indexing.walk
    monkeypatch.setattr(indexing, "walk", lambda url, file: walks.append(url) or walk(url, file))
    found = samples(tmp_path / "out")
    assert len(found) == 6 and not walks
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path / "cache"))
    os.utime(tmp_path / "out/cub-test-000000.tar", ns=(2**62, 2**62))  # newer than its index
    assert samples(tmp_path / "out") == found and len(walks) == 1


def test_only_what_changed_is_packed_again(tmp_path):
    root = layouts.cub(tmp_path / "cub")
    options = ("dataset=cub", "samples_per_shard=1")
    before = packed(root, tmp_path / "out", *options)

    def stamps():
        return {p.name: p.stat().st_ino for p in (tmp_path / "out").glob("*.tar")}

    first = stamps()
    assert packed(root, tmp_path / "out", *options) == before and stamps() == first
    image = root / "images/001.Black_footed_Albatross/Black_footed_Albatross_0000_0.jpg"
    image.write_bytes(image.read_bytes()[::-1])  # of the same size
    (tmp_path / "out/cub-test-000001.tar").write_bytes(b"cut")
    packed(root, tmp_path / "out", *options)
    changed = {name for name, inode in stamps().items() if first[name] != inode}
    assert changed == {"cub-test-000001.tar", "cub-train-000000.tar"}
    key = key_of(f"{image.parent.name}/{image.name}")
    assert samples(tmp_path / "out")[key][0] == image.read_bytes()


def test_a_killed_packer_leaves_whole_tars_and_the_next_one_does_the_rest(tmp_path):
    root = layouts.written(
        tmp_path / "flat", {f"{i:03}.jpg": layouts.photograph(i) for i in range(300)}
    )
    undisturbed = packed(root, "memory://undisturbed", "samples_per_shard=2")
    out = tmp_path / "out"
    asked = [f"images={root}", f"out={out}", "samples_per_shard=2", "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.pack", *asked], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    ended = time.monotonic() + 120
    while len(list(out.glob("*.index"))) < 5 and time.monotonic() < ended:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {p.name: p.stat().st_ino for p in out.glob("*.tar")}
    assert 5 <= len(there) < 150 and not (out / "manifest.json").exists()
    layouts.written(out, {f".folder-000149.tar.{'0' * 32}": b"half a tar"})
    assert packed(root, out, "samples_per_shard=2") == undisturbed
    kept = {p.name for p in out.glob("*.tar") if there.get(p.name) == p.stat().st_ino}
    assert len(kept) >= len(there) - 2  # those without an index yet
    tars = [shard["name"] for shard in undisturbed["shards"]]
    beside = [*(f"{name}.index" for name in tars), "manifest.json", "classnames.txt"]
    assert {p.name for p in out.iterdir()} == {*tars, *beside}
    for shard in undisturbed["shards"]:
        content = (out / shard["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]


def test_into_a_store_and_through_other_readers(tmp_path):
    root = layouts.pets(tmp_path / "pets")
    out = f"memory://packed/{tmp_path.name}"
    manifest = packed(root, out, "source=image_folder", "dataset.name=pets")
    assert packed(root, out, "source=image_folder", "dataset.name=pets") == manifest
    found = samples(out)
    assert {k: label for k, (_, label, _) in found.items()} == {
        "cat/1": 0,
        "cat/more/2": 0,
        "dog/1": 1,
    }
    webdataset = pytest.importorskip("webdataset")
    packed(root, tmp_path / "out", "source=image_folder", "dataset.name=pets")
    read = list(webdataset.WebDataset(f"{tmp_path}/out/pets-000000.tar", shardshuffle=False))
    assert [(s["__key__"], s["cls"]) for s in read] == [
        ("cat/1", b"0"),
        ("cat/more/2", b"0"),
        ("dog/1", b"1"),
    ]
    assert read[0]["jpg"] == (root / "cat/1.jpg").read_bytes()
