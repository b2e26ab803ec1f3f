"""Whatever bytes arrive, reading data ends with an answer or a ValueError that says why."""

import io
import os
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from conftest import encode
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import UsageError
from pipeline.data.images import decode
from pipeline.data.index import _recall, load
from pipeline.data.index import found as scanned
from pipeline.data.labels import parse_label
from pipeline.data.ranges import Ranges
from pipeline.data.shards import Shards
from pipeline.data.urls import braces

KEYS = st.lists(
    st.sampled_from(["a", "b", "./c", "001.x/d", "é", "n" * 96, "m" * 90 + "/" + "o" * 90]),
    unique=True,
    min_size=1,
)
FORMS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@contextmanager
def refusals():
    """A refusal is an answer too, if its reason is one line; any other error fails the test."""
    try:
        yield
    except ValueError as error:
        if "\n" in str(error):
            raise AssertionError("a reason of several lines") from error


def packed(keys, sizes, form) -> tuple[bytes, dict[str, dict[str, tuple[int, int, int]]]]:
    """A tar of jpg and cls members, and where each lies: (first byte of headers, data, end)."""
    buffer = io.BytesIO()
    spans: dict[str, dict[str, tuple[int, int, int]]] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for key, size in zip(keys, sizes, strict=False):
            for extension, content in (("jpg", os.urandom(size)), ("cls", b"7")):
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                begin = buffer.tell()
                tar.addfile(info, io.BytesIO(content))
                end = buffer.tell()
                data = end - -(-len(content) // 512) * 512
                held = spans.setdefault(key.removeprefix("./"), {})
                held[extension] = (begin, data, data + len(content))
    return buffer.getvalue(), spans


def found(content: bytes) -> dict[str, tuple[dict, str | None]]:
    file = Ranges(len(content), "s", lambda start, end: content[start:end], 4096)
    batch, meta = scanned("x.tar", file)
    words = meta["extensions"]
    return {
        row["key"]: (
            {
                words[kind]: (offset, offset + size)
                for kind, offset, size in zip(
                    row["extensions"], row["offsets"], row["sizes"], strict=True
                )
            },
            row["error"],
        )
        for row in batch.to_pylist()
    }


@tries(150)
@given(KEYS, st.lists(st.integers(0, 2000), min_size=7, max_size=7), FORMS, st.data())
def test_samples_beside_damage_are_found_with_their_bytes(keys, sizes, form, data):
    content, spans = packed(keys, sizes, form)
    begin = data.draw(st.integers(0, len(content) - 1))
    end = min(len(content), begin + data.draw(st.integers(0, 1500)))
    cut = data.draw(st.booleans())
    if cut:
        damaged, end = content[:begin], len(content)
    else:
        damaged = content[:begin] + os.urandom(end - begin) + content[end:]
    whole = {
        key: {extension: span[1:] for extension, span in held.items()}
        for key, held in spans.items()
        if all(span[2] <= begin or span[0] >= end for span in held.values())
    }
    try:
        samples = found(damaged)
    except UsageError:  # nothing in it is a header any more
        samples = {}
    for key, members in whole.items():
        assert samples[key] == (members, None)


@tries(100)
@given(st.binary(max_size=3000))
def test_random_bytes_are_no_tar_or_a_damaged_one(content):
    with refusals():
        found(content)


@tries(150)
@given(KEYS, FORMS, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6))
def test_any_bytes_may_be_wrong(keys, form, changes):
    content = bytearray(packed(keys, [600] * 7, form)[0])
    for place, byte in changes:
        content[place] = byte
        block = place // 512 * 512  # a checksum that is right lets wrong fields through
        content[block + 148 : block + 156] = b" " * 8
        content[block + 148 : block + 156] = b"%06o\0 " % sum(content[block : block + 512])
    with refusals():
        found(bytes(content))


@tries(150)
@given(st.binary(max_size=40) | st.integers().map(lambda i: str(i).encode()))
def test_labels_are_integers_or_say_why(raw):
    for where in ("cls", "json.y"):
        for member in (raw, b'{"y": ' + raw + b"}"):
            with refusals():
                assert -1 <= parse_label(member, where) < 2**31


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8))
ENCODED = [encode(PICTURE), encode(PICTURE, "PNG"), encode(PICTURE, "WEBP"), encode(PICTURE, "GIF")]
ENCODED += [encode(PICTURE.convert("CMYK")), encode(PICTURE, "TIFF"), encode(PICTURE, "BMP")]


@tries(200)
@given(
    st.sampled_from(ENCODED),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=5),
    st.integers(0, 3000),
)
def test_damaged_images_are_rgb_or_say_why(encoded, changes, end):
    content = bytearray(encoded)
    for place, byte in changes:
        content[place % len(content)] = byte
    with refusals():
        assert decode(bytes(content[: max(end, 1)]), exif=True).mode == "RGB"


@tries(50)
@given(st.binary(max_size=60))
def test_key_files_are_read_or_refused(content):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with refusals():
            Shards(name="x", shards="x", keys=file.name)._listed(["x.tar"])


@tries(100)
@given(st.text("{},.019a", max_size=24))
def test_patterns_expand_or_are_refused(pattern):
    with refusals():
        assert all(isinstance(part, str) for part in braces(pattern))


@tries(60)
@given(st.binary(max_size=60), st.integers(0, 4000))
def test_a_cache_file_of_any_bytes_is_passed_over(content, place):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PIXEL_QUORUM_CACHE"], before = folder, os.environ.get("PIXEL_QUORUM_CACHE")
        try:
            tar = Path(folder) / "x.tar"
            tar.write_bytes(packed(["a"], [9], tarfile.GNU_FORMAT)[0])
            first = load(str(tar), "x.tar")
            (kept,) = (Path(folder) / "index").iterdir()
            whole = kept.read_bytes()
            kept.write_bytes(whole[:place] + content + whole[place + len(content) :])
            assert load(str(tar), "x.tar").samples.equals(first.samples)
            kept.write_bytes(content)
            assert _recall(kept, str(tar), first.stamp) is None
        finally:
            del os.environ["PIXEL_QUORUM_CACHE"]
            if before is not None:
                os.environ["PIXEL_QUORUM_CACHE"] = before
