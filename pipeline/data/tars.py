"""What lies where in an uncompressed tar, from its headers alone; damage is stepped over.

A header is a block of 512 bytes that carries a checksum of itself, so after damage the next good
one can be told from data.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline import UsageError
from pipeline.data.ranges import Ranges

BLOCK = 512
_ZEROS = bytes(BLOCK)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_FILES = b"0\x007S"
"""Types of regular files: plain, old, contiguous, sparse."""
_NO_DATA = b"123456"
"""Links, devices, folders, FIFOs: their size, if any, is not of data that follows."""
_ESCAPED = re.compile(rb"\\x[0-9a-f]{2}")
_RECORD = re.compile(rb"([0-9]{1,9}) ([^=]+)=")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar; `flaw`: why its bytes cannot be used."""

    name: str
    offset: int
    size: int
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """A place where the chain of members is broken: the samples next to it may lack some.

    `problem`: what to tell, None where the tar just ends. `cut`: nothing follows.
    """

    problem: str | None
    cut: bool


@dataclass(slots=True)
class _Header:
    kind: int
    name: bytes
    size: int
    extended: bool


def walk(url: str, file: Ranges) -> Iterator[Member | Break]:
    """Members of a tar in order, and where it is damaged.

    Raises UsageError for what is no tar, or a compressed one.
    """
    _refuse_compressed(url, file)
    place = 0
    named: dict[str, bytes] = {}
    shared: dict[str, bytes] = {}
    while place < file.size:
        block = file.at(place, BLOCK)
        header = _parse(block)
        if header is None:
            following = _next_header(file, place)
            if following is None and place == 0 and block != _ZEROS:
                raise UsageError(f"{url} is not a tar file; pack it as a plain tar")
            if broken := _broken(file, place, following):
                yield broken
            if following is None:
                return
            place, named = following, {}
            continue
        data = place + BLOCK
        while header.kind == ord("S") and header.extended and data < file.size:
            header.extended = file.at(data, BLOCK)[504:505] not in (b"\0", b"")
            data += BLOCK
        if header.kind in b"xgLKX":
            if data + header.size > file.size:
                yield Break(f"cut off at byte {file.size} inside a header", cut=True)
                return
            _extend(header, file.at(data, min(header.size, 1 << 20)), named, shared)
            place = data + _padded(header.size)
            continue
        known = {**shared, **named} if shared or named else {}
        named = {}
        size = _pax_size(known, header.size)
        if header.kind in _FILES and not header.name.endswith(b"/"):
            member = _member(header, known, data, size, file.size)
            yield member
            if data + size > file.size:
                yield Break(f"cut off at byte {file.size} inside {member.name!r}", cut=True)
                return
        place = data if header.kind in _NO_DATA else data + _padded(size)
    if named:
        yield Break(f"cut off at byte {file.size} inside a header", cut=True)
    else:
        yield Break(None, cut=True)  # whole members, but none says that it was the last


def _member(header: _Header, known: dict[str, bytes], data: int, size: int, end: int) -> Member:
    sparse = header.kind == ord("S") or any(name.startswith("GNU.sparse") for name in known)
    raw = known.get("GNU.sparse.name") or known.get("path") or header.name
    name = printable(raw)
    flaw = None
    if data + size > end:
        flaw = f"shard is cut off inside {name!r}"
    elif sparse:
        flaw = f"member {name!r} is a sparse file, which has no plain bytes; pack it anew"
    return Member(name, data, size, flaw)


def _parse(block: bytes) -> _Header | None:
    """A header, None for a block that is none (its checksum is wrong)."""
    if len(block) < BLOCK:
        return None
    stated = _number(block[148:156])
    if not stated:
        return None
    rest = block[:148] + block[156:]
    total = sum(rest) + 256
    if stated != total and stated != total - 256 * sum(byte > 127 for byte in rest):
        return None  # the second sum is that of old tars, over signed bytes
    size = _number(block[124:136])
    name = block[:100].partition(b"\0")[0]
    kind = block[156]
    if size is None:
        return None
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _Header(kind, name, size, block[482] != 0)


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's base 256 for sizes above 8 GiB; None for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip()
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        return None
    return int(text, 8)


def _extend(
    header: _Header, data: bytes, named: dict[str, bytes], shared: dict[str, bytes]
) -> None:
    """Take in a header that says more of the next member (or, `g`, of all that follow)."""
    if header.kind == ord("L"):
        named["path"] = data[: header.size].partition(b"\0")[0]
    elif header.kind in b"xgX":
        (shared if header.kind == ord("g") else named).update(_pax(data[: header.size]))


def _pax(data: bytes) -> dict[str, bytes]:
    """Records `<length> <name>=<value>\\n`, as far as they are well formed."""
    found = {}
    place = 0
    while match := _RECORD.match(data, place):
        end = place + int(match[1])
        if end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            break
        found[match[2].decode(errors="replace")] = data[match.end() : end - 1]
        place = end
    return found


def _pax_size(known: dict[str, bytes], size: int) -> int:
    stated = known.get("size", b"")
    return int(stated) if stated.isdigit() and len(stated) < 20 else size


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _next_header(file: Ranges, place: int) -> int | None:
    """Where the next good header begins after `place`, None if there is none."""
    place += BLOCK
    while place < file.size:
        chunk = file.at(place, file.stride)
        if chunk.count(0) != len(chunk):
            for start in range(0, len(chunk) - BLOCK + 1, BLOCK):
                if _parse(chunk[start : start + BLOCK]):
                    return place + start
        place += len(chunk)
    return None


def _broken(file: Ranges, place: int, following: int | None) -> Break | None:
    """What to say of the bytes from `place` to the next header; None for a tar's regular end."""
    end = file.size if following is None else following
    if following is None and end - place < BLOCK:
        return Break(f"cut off at byte {end} inside a header", cut=True)
    empty = (
        all(
            (chunk := file.at(start, file.stride)).count(0) == len(chunk)
            for start in range(place, end, file.stride)
        )
        if following is None
        else file.at(place, BLOCK) == _ZEROS
    )
    if following is None and empty:
        return None
    what = "an end of archive, but more follows" if empty else f"{end - place} bytes are no tar"
    return Break(f"damaged at byte {place}: {what}, up to byte {end}", cut=following is None)


def printable(name: bytes) -> str:
    """A member's name as text: itself where it is plain UTF-8, else with backslash escapes.

    Different names stay different: backslashes are doubled wherever one could pass for an escape.
    """
    try:
        if not _ESCAPED.search(name) and not _CONTROL.search(name):
            return name.decode()
    except UnicodeDecodeError:
        pass
    text = name.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def split_name(name: str) -> tuple[str, str | None]:
    """WebDataset's rule: the key ends at the first dot of the base name; the rest is extension."""
    name = name.removeprefix("./")
    if "//" in name or "/./" in name or name.endswith("/"):
        name = str(PurePosixPath(name))
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not dot or not stem:
        return name, None
    return folder + slash + stem, extension.lower()


def _refuse_compressed(url: str, file: Ranges) -> None:
    magic = file.at(0, 6)
    for prefix, kind in _COMPRESSED.items():
        if magic.startswith(prefix):
            raise UsageError(
                f"{url} is {kind}-compressed: members cannot be read by offset; unpack it to a "
                "plain tar (images are compressed already)"
            )
