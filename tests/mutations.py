"""Seeded damage to files: bytes, text, JSON trees, and what lies in GLB, PNG, tar, zip and safetensors files.

Inside a container its checksums and lengths are set right again, so that the damage is not noticed there.
"""

import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Change = Callable[[bytes, Random], bytes]

_INTEGERS = (
    0,
    1,
    2,
    3,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
_INTEGERS += (1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1_000_000, 300_000_000)
_FLOATS = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 1e-40, -1.0)
_DEEP = 100_000
_TOKENS = (
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1",
    "0.5",
    "1e-400",
    "9" * 400,
    "9" * 5000,
    "",
    "-0",
    "1e308",
)
_TOKENS += (
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "0x10",
    "1_000",
    "1,5",
    "\u0661",
    "\u00b2",
    "\uff11",
)
_TOKENS += ("None", "true", "null", "~", '"', "'", "[" * _DEEP, "x" * _DEEP, "\u2028", "\x00", "\x1b[2J")
_TOKENS += (
    "..",
    "/",
    "/dev/zero",
    "/etc/passwd",
    "${oc.env:HOME}",
    "${model}",
    "!!python/name:os.system",
    "*a",
    "%s",
)
_LITERALS = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "1e-400",
)
_LITERALS += (
    "[" * _DEEP + "]" * _DEEP,
    '{"a":' * _DEEP + "1" + "}" * _DEEP,
    '"\\ud800"',
    '"\\u0000"',
    '"\\u001b[2J"',
)
_LITERALS += (
    '{"a": 1, "a": 2}',
    "01",
    "+1",
    "-0",
    "-0.0",
    '"' + "x" * _DEEP + '"',
    "null",
    "true",
    "false",
    '""',
    "[]",
)
_LITERALS += (
    "{}",
    "0",
    "1",
    "-1",
    "0.5",
    "1e308",
    "1e39",
    "2147483648",
    "9223372036854775808",
    '"1"',
    '"nan"',
    '"x"',
)
_LITERALS += (
    "[1]",
    "[null]",
    '["x"]',
    "[[]]",
    "[{}]",
    '{"1": null}',
    "1e6",
    "1000000",
    '"/dev/zero"',
    '"\u0661"',
)


@dataclass(frozen=True)
class Mutation:
    """A damaged file, and what was done to it, first to last."""

    content: bytes
    steps: tuple[str, ...]

    @property
    def only_cut(self) -> bool:
        """Whether the file is as it was up to where it ends too early."""
        return self.steps == ("cut",)


def mutate(content: bytes, form: str, rng: Random) -> Mutation:
    """One to three changes to the content of a file of one of `FORMS`."""
    steps = []
    for _ in range(rng.choices((1, 2, 3), (6, 3, 1))[0]):
        name, change = rng.choice(_changes(rng.choice(FORMS[form])))
        try:
            content = change(content, rng)
        except Exception:  # an earlier change has left nothing of the form
            name, content = "flip", flip(content, rng)
        steps.append(name)
    return Mutation(content, tuple(steps))


def _changes(kind: str) -> list[tuple[str, Change]]:
    return [(change.__name__.strip("_"), change) for change in KINDS[kind]]


def _place(content: bytes, rng: Random) -> int:
    """A position; every second one in the head, where formats keep what they say of themselves."""
    return rng.randrange(max(1, len(content) if rng.random() < 0.5 else min(len(content), 256)))


def _span(content: bytes, rng: Random) -> tuple[int, int]:
    start = _place(content, rng)
    return start, min(len(content), start + rng.choice((1, 2, 4, 16, 64, 1024)))


def flip(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, rng: Random) -> bytes:
    start, end = _span(content, rng)
    fill = rng.choice((b"\0", b"\xff", b"0", b" ", b"\n")) * (end - start)
    return content[:start] + rng.choice((fill, rng.randbytes(end - start))) + content[end:]


def number(content: bytes, rng: Random) -> bytes:
    """An integer or a float of 1 to 8 bytes, in either order, becomes a telling one."""
    order = rng.choice("<>")
    if rng.random() < 0.25:
        new = struct.pack(order + rng.choice("fd"), rng.choice(_FLOATS))
    else:
        size = rng.choice((1, 2, 4, 4, 8))
        new = (rng.choice(_INTEGERS) % (1 << 8 * size)).to_bytes(size, "little" if order == "<" else "big")
    start = _place(content, rng)
    start -= start % rng.choice((1, len(new)))
    return content[:start] + new + content[start + len(new) :]


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1) if rng.random() < 0.7 else -rng.randrange(1, 9)]


def delete(content: bytes, rng: Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def double(content: bytes, rng: Random) -> bytes:
    start, end = _span(content, rng)
    return content[:end] + content[start:end] * rng.choice((1, 1, 1, 100)) + content[end:]


def move(content: bytes, rng: Random) -> bytes:
    start, end = _span(content, rng)
    rest = content[:start] + content[end:]
    to = _place(rest, rng)
    return rest[:to] + content[start:end] + rest[to:]


def append(content: bytes, rng: Random) -> bytes:
    return content + rng.choice((rng.randbytes(rng.randrange(1, 100)), bytes(100_000), content))


def token(content: bytes, rng: Random) -> bytes:
    """A word of the text becomes another."""
    words = list(re.finditer(rb"[^\s,:;{}\[\]\"]+", content))
    chosen = rng.choice(words)
    others = [word.encode() for word in _TOKENS] + [b"\xe9", b"\xff\xfe", rng.choice(words)[0]]
    return content[: chosen.start()] + rng.choice(others) + content[chosen.end() :]


def digits(content: bytes, rng: Random) -> bytes:
    """A number of the text becomes a wrong one that looks right."""
    chosen = rng.choice(list(re.finditer(rb"\d+(\.\d*)?", content)))
    other = (
        rng.choice((b"-", b"1", b""))
        + chosen[0]
        + rng.choice((b"", b"0", b"000", b".5", b"e3", b"e30", b"e-9"))
    )
    return content[: chosen.start()] + other + content[chosen.end() :]


def lines(content: bytes, rng: Random) -> bytes:
    """Lines that are missing, double, in another order, empty, long, indented or of foreign content."""
    rows = content.splitlines(keepends=True)
    place, other = rng.randrange(len(rows)), rng.randrange(len(rows))
    row = rows[place]
    long = b" ".join([row.strip()[:100]] * 10_000) + b"\n"
    new = rng.choice(
        ([], [row, row], [rows[other]], [b"\n", row], [b"  " + row], [b"\t" + row], [long], [b"#\n", row])
    )
    rows[place : place + 1] = new
    return b"".join(rows)


def encoding(content: bytes, rng: Random) -> bytes:
    """The same text as other systems write it; some of it becomes other text."""
    text = content.decode("latin-1")
    return rng.choice(
        (
            b"\xef\xbb\xbf" + content,
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            text.encode("utf-16"),
            text.encode("utf-16-be"),
            text.replace("e", "\xe9").encode("latin-1"),
            text.replace(" ", "\xa0").encode(),
            content.upper(),
            b"\n" + content,
        )
    )


def node(content: bytes, rng: Random) -> bytes:
    """A node of a JSON tree becomes a value of another kind or size, goes, or comes twice."""
    tree = [json.loads(content)]
    holder, key = rng.choice(list(_nodes(tree)))
    value, mark, literal = holder[key], "\x00here\x00", None
    match rng.choice(("literal", "literal", "literal", "kind", "number", "number", "gone", "twice")):
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            holder[key] = rng.choice(
                (-value, value * 1000, value / 1000, value + 1, value + 0.5, value * 1.2)
            )
        case "kind":
            holder[key] = rng.choice((str(value), [value], {"0": value}, json.dumps(value)))
        case "gone" if holder is not tree:
            del holder[key]
        case "twice" if isinstance(holder, list):
            holder[key:key] = [value] * rng.choice((1, 1, 10))
        case "twice":
            holder[key], literal = (
                mark,
                f"{json.dumps(value)}, {json.dumps(str(key))}: {rng.choice(_LITERALS)}",
            )
        case _:
            holder[key], literal = mark, rng.choice(_LITERALS)
    text = json.dumps(tree[0])
    return (text.replace(json.dumps(mark), literal, 1) if literal is not None else text).encode()


def name(content: bytes, rng: Random) -> bytes:
    """A key of a JSON tree becomes another."""
    tree = json.loads(content)
    holders = [holder for holder, _ in _nodes([tree]) if isinstance(holder, dict)]
    holder = rng.choice(holders)
    key = rng.choice(list(holder))
    others = ("", "-1", "01", "1e3", "\u0661", "9" * 400, "9" * 5000, key.upper(), key + " ", "\ud800", "nan")
    holder[rng.choice(others)] = holder.pop(key)
    return json.dumps(tree).encode()


def _nodes(tree: list | dict):
    """(holder, key) of every node below a list or dict, the trees within it too."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, list | dict):
            yield from _nodes(value)


def _tree(content: bytes, rng: Random) -> bytes:
    return rng.choice((node, node, node, name))(content, rng)


def glb_lists(content: bytes, rng: Random) -> bytes:
    """The lists of a GLB file, its lengths set right."""
    length = struct.unpack_from("<I", content, 12)[0]
    lists = _tree(content[20 : 20 + length], rng)
    lists += b" " * (-len(lists) % 4)
    rest = content[20 + length :]
    header = struct.pack("<4sIIII", b"glTF", 2, 20 + len(lists) + len(rest), len(lists), 0x4E4F534A)
    return header + lists + rest


def safetensors_lists(content: bytes, rng: Random) -> bytes:
    length = struct.unpack_from("<Q", content)[0]
    lists = _tree(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(lists)) + lists + content[8 + length :]


def text_header(content: bytes, rng: Random) -> bytes:
    """The text before the numbers of a file such as a binary PLY, a PGM or a NumPy array."""
    end = content.find(b"end_header") if content.startswith(b"ply") else 80
    return rng.choice((token, digits, lines))(content[:end], rng) + content[end:]


def png_chunk(content: bytes, rng: Random) -> bytes:
    """A chunk of a PNG file changed, doubled or left out, its length and its checksum set right."""
    chunks, start = [], 8
    while start < len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        chunks.append((kind, content[start + 8 : start + 8 + length]))
        start += 12 + length
    chosen = rng.randrange(len(chunks))
    kind, data = chunks[chosen]
    changed = (kind, rng.choice((flip, number, cut, delete))(data, rng))
    chunks[chosen : chosen + 1] = rng.choice(([changed], [changed], [changed], [], [(kind, data)] * 2))
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return content[:8] + b"".join(packed)


def zip_member(content: bytes, rng: Random) -> bytes:
    """A file in a zip archive, its checksum set right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = rng.choice(list(members))
    members[chosen] = rng.choice((flip, number, overwrite, cut, delete, token))(members[chosen], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tar_member(content: bytes, rng: Random) -> bytes:
    """A file in a tar archive: a part of a JSON tree, some bytes, or as much as it lacks."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive.getmembers()]
    chosen = rng.randrange(len(members))
    member, data = members[chosen]
    change = _tree if member.name.endswith(".json") else rng.choice((flip, number, cut, png_chunk))
    changed = (member, change(data, rng))
    members[chosen : chosen + 1] = rng.choice(([changed], [changed], [changed], [], [members[chosen]] * 2))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def tar_header(content: bytes, rng: Random) -> bytes:
    """What a tar archive says of a member, its checksum set right: size, kind, name or any byte of it."""
    starts = [i for i in range(0, len(content), 512) if content[i + 257 : i + 262] == b"ustar"]
    start = rng.choice(starts)
    header = bytearray(content[start : start + 512])
    match rng.choice(("size", "kind", "name", "any")):
        case "size":
            header[124:136] = b"%011o\0" % rng.choice((0, 1, 511, 513, 1 << 20, (1 << 33) - 1))
        case "kind":
            header[156:157] = rng.choice((b"1", b"2", b"3", b"5", b"6", b"L", b"S", b"x", b"g", b"\0", b"?"))
        case "name":
            header[:4] = rng.randbytes(4)
        case _:
            header[rng.randrange(512)] = rng.randrange(256)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:start] + bytes(header) + content[start + 512 :]


KINDS: dict[str, tuple[Change, ...]] = {
    "bytes": (flip, overwrite, number, number, cut, delete, double, move, append),
    "text": (token, token, token, digits, digits, lines, lines, encoding),
    "json": (node, node, node, name),
    "header": (text_header,),
    "glb": (glb_lists,),
    "safetensors": (safetensors_lists,),
    "png": (png_chunk,),
    "zip": (zip_member,),
    "tar": (tar_member, tar_member, tar_header),
}
FORMS: dict[str, tuple[str, ...]] = {
    "binary": ("bytes",),
    "text": ("text", "text", "text", "bytes"),
    "json": ("json", "json", "json", "text", "bytes"),
    "json lines": ("text", "text", "bytes"),
    "headed": ("bytes", "header"),
    "glb": ("bytes", "glb", "glb"),
    "safetensors": ("bytes", "safetensors"),
    "png": ("bytes", "png"),
    "zip": ("bytes", "zip"),
    "tar": ("bytes", "tar", "tar"),
}
