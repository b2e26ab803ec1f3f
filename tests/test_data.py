import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from conftest import encode, write_tar
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from pipeline import UsageError
from pipeline.data import Unreadable
from pipeline.data.images import Budget, check_size, decode
from pipeline.data.index import load
from pipeline.data.shards import Shards
from pipeline.data.tars import split_name
from pipeline.data.urls import braces


def index_tar(path: str):
    index = load(path, "x.tar")
    return [index.ref(place) for place in range(len(index))]


PHOTO = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_names_follow_webdataset():
    assert split_name("./a/b.c/x.seg.PNG") == ("a/b.c/x", "seg.png")
    assert split_name("n01.jpg") == ("n01", "jpg")
    assert split_name("noextension") == ("noextension", None)


def test_braces_expand():
    assert braces("x-{08..11}.tar") == ["x-08.tar", "x-09.tar", "x-10.tar", "x-11.tar"]
    assert braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]


def test_samples_are_found_and_read(tmp_path):
    jpg = encode(PHOTO)
    path = write_tar(
        tmp_path / "x.tar",
        {
            "__meta__.json": b"{}",
            "./a.JPG": jpg,
            "a.cls": b"7\n",
            "b.jpg": jpg,
            "b.json": b'{"y": 3}',
        },
    )
    data = Shards(name="x", shards=str(path))
    a, b = data.index()
    assert (a.shard, a.key, b.key) == ("x.tar", "a", "b")
    assert data.read(a).encoded == jpg
    assert (data.read(a).label, data.read(b).label) == (7, None)
    assert Shards(name="x", shards=str(path), label="json.y").read(b).label == 3
    with pytest.raises(ValueError, match="no class index"):
        Shards(
            name="x", shards=str(write_tar(tmp_path / "y.tar", {"a.jpg": jpg, "a.cls": b"cat"}))
        ).read(next(Shards(name="x", shards=str(tmp_path / "y.tar")).index()))


class Counted(MemoryFileSystem):
    """A store that counts the bytes of each request."""

    protocol = "counted"
    requests: list[int] = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("counted://", "memory://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        content = super().cat_file(path, start, end, **kwargs)
        self.requests.append(len(content))
        return content


def test_a_sample_is_fetched_by_its_bytes(tmp_path, monkeypatch):
    jpg = encode(PHOTO, quality=100)
    members = {f"{k}.{e}": c for k in "abc" for e, c in (("jpg", jpg), ("cls", b"7"))}
    members |= {"d.jpg": jpg, "d.seg.png": b"x" * 90_000, "d.cls": b"8"}
    fsspec.register_implementation("counted", Counted, clobber=True)
    fs = fsspec.filesystem("counted")
    fs.pipe_file("/x.tar", write_tar(tmp_path / "x.tar", members).read_bytes())
    data = Shards(name="x", shards="counted://x.tar")
    refs = list(data.index())
    monkeypatch.setattr(Counted, "requests", asked := [])
    for ref, label, requests in zip(refs, (7, 7, 7, 8), (1, 1, 1, 2), strict=True):
        asked.clear()
        sample = data.read(ref)
        assert (sample.encoded, sample.label) == (jpg, label)
        assert len(asked) == requests  # d: what lies between is not worth fetching
        assert sum(asked) <= 1.2 * (len(jpg) + 1)
    with pytest.raises(Unreadable):
        data.read(replace(refs[0], url="counted://elsewhere.tar"))
    fs.pipe_file("/x.tar", fs.cat_file("/x.tar")[: refs[1].members["jpg"][0] + 100])
    with pytest.raises(ValueError, match=r"asked for \d+ bytes .* got 100"):
        data.read(refs[1])


def test_a_list_of_keys_selects_samples(tmp_path):
    path = write_tar(tmp_path / "x.tar", {f"{k}.jpg": b"" for k in "abcd"})
    listed = tmp_path / "keys.txt"
    listed.write_text("x.tar b\nx.tar d\nother.tar a\n")
    data = Shards(name="x", shards=str(path), keys=str(listed))
    assert [ref.key for ref in data.index()] == ["b", "d"]
    with pytest.raises(UsageError, match="no such file"):
        list(Shards(name="x", shards=str(path), keys="nowhere.txt").index())


def test_a_tar_that_is_cut_off_yields_the_samples_before(tmp_path):
    jpg = encode(PHOTO)
    path = write_tar(tmp_path / "x.tar", {f"{k}.jpg": jpg for k in "abc"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 10240 - len(jpg) // 2])
    a, b, c = index_tar(str(path))
    assert a.error is None and b.error is None
    assert "cut off" in c.error


def test_what_cannot_be_read_by_offset_is_refused(tmp_path):
    jpg = encode(PHOTO)
    import gzip

    (tmp_path / "z.tar").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(UsageError, match="gzip-compressed"):
        index_tar(str(tmp_path / "z.tar"))
    (tmp_path / "t.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UsageError, match="not a tar"):
        index_tar(str(tmp_path / "t.tar"))
    with pytest.raises(UsageError, match="does not exist"):
        index_tar(str(tmp_path / "missing.tar"))
    with pytest.raises(UsageError, match="nothing matches"):
        Shards(name="x", shards=f"{tmp_path}/none-*.tar").urls()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        index_tar(str(tmp_path))
    twice = io.BytesIO()
    import tarfile

    with tarfile.open(fileobj=twice, mode="w") as tar:
        for _ in range(2):
            info = tarfile.TarInfo("a.jpg")
            info.size = len(jpg)
            tar.addfile(info, io.BytesIO(jpg))
    (tmp_path / "d.tar").write_bytes(twice.getvalue())
    with pytest.raises(UsageError, match="appears twice"):
        index_tar(str(tmp_path / "d.tar"))
    assert index_tar(str(write_tar(tmp_path / "e.tar", {}))) == []


def test_every_mode_becomes_rgb():
    grey16 = Image.fromarray(np.full((8, 8), 257 * 100, dtype=np.uint16))
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    cases = {
        "L": (encode(PHOTO.convert("L")), None),
        "CMYK": (encode(PHOTO.convert("CMYK")), None),
        "P": (encode(PHOTO.convert("P"), "PNG"), None),
        "16": (encode(grey16, "PNG"), (100, 100, 100)),
        "RGBA": (encode(clear, "PNG"), (255, 255, 255)),
    }
    for encoded, corner in cases.values():
        image = decode(encoded)
        assert image.mode == "RGB"
        assert corner is None or image.getpixel((0, 0)) == corner


def test_exif_orientation_is_an_option():
    tag = Image.Exif()
    tag[0x0112] = 6
    encoded = encode(PHOTO, exif=tag)
    assert decode(encoded).size == PHOTO.size
    assert decode(encoded, exif=True).size == PHOTO.size[::-1]


def test_damaged_images_say_why():
    with pytest.raises(ValueError, match="not an image"):
        decode(b"just text")
    with pytest.raises(ValueError, match="truncated"):
        decode(encode(PHOTO)[:-800])


def png(width: int, height: int) -> bytes:
    """The start of a PNG that claims a size."""
    small = encode(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


@pytest.mark.parametrize(
    ("size", "said"),
    [((10_001, 10_000), "exceeds"), ((1, 30_000), "too long"), ((30_000, 1), "too long")],
)
def test_huge_images_are_refused_by_their_header(size, said):
    with pytest.raises(ValueError, match=said):
        decode(png(*size))
    check_size(10_000, 10_000)


def test_threads_share_a_budget_of_pixels():
    budget, held, most = Budget(10), [], []

    def work(pixels):
        with budget.of(pixels):
            held.append(pixels)
            most.append(sum(held))
            time.sleep(0.001)
            held.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 10, 4, 1] * 8))
    assert max(most) <= 10 and budget.free == 10


def test_a_broken_exif_tag_turns_nothing():
    encoded = encode(PHOTO, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert decode(encoded, exif=True).size == PHOTO.size


def test_the_first_frame_of_an_animation_is_the_image():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(encoded).getpixel((0, 0)) == (255, 0, 0)
