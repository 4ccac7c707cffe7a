"""Damaging the bytes of a file: as transport and disks do, and with knowledge of its format, so that parsers go on."""

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutator = Callable[[random.Random, bytes], bytes]

# fmt: off
_INTEGERS = (
    0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63,
)
_JSON_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.0, 0.5, 1e308, 2**31, 2**63, 2**64, 10**30, "", "x", "../x", "/", "\0", "a\nb",
    "\x1b[31m", "é" * 300, "x" * 5000, [], {}, [[]], [None], [1, "x"], {"a": 1}, {"": {}}, ["background"],
    float("nan"), float("inf"),
)
_WORDS = (
    b"NaN", b"Infinity", b"1e999", b"-1", b"0x_", b"2024-13-45", b"null", b"~", b"[]", b"{}", b"&a [*a]",
    b'!!int "x"', b"!!binary x", b"!!python/object/apply:os.system [ls]", b"*b", b"'", b'"', b"\\ud800",
    b'"\\ud800"', b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"9" * 400, b"[" * 2000, b"- " * 200, b"true", b".inf",
    b"../../x", b"=1+1", b",", b";", b"\t", b"\r",
)
# fmt: on


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    """One to eight bits inverted."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_header_bits(rng: random.Random, content: bytes) -> bytes:
    """One to four bits of the first 400 bytes inverted."""
    head = min(400, len(content))
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(head)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: random.Random, content: bytes) -> bytes:
    """The first bytes."""
    return content[: rng.randrange(len(content))]


def drop_part(rng: random.Random, content: bytes) -> bytes:
    """Up to a quarter left out."""
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, max(1, len(content) // 4)) :]


def repeat_part(rng: random.Random, content: bytes) -> bytes:
    """A part twice."""
    start = rng.randrange(len(content))
    part = content[start : start + rng.randint(1, max(1, len(content) // 4))]
    return content[:start] + part * rng.randint(2, 4) + content[start + len(part) :]


def overwrite_number(rng: random.Random, content: bytes) -> bytes:
    """A remarkable integer of 1 to 8 bytes, of either order, in place of some bytes of the first 400 or of all."""
    size, order = rng.choice("BHIQ"), rng.choice("<>")
    number = struct.pack(order + size, rng.choice(_INTEGERS) % 256 ** struct.calcsize(size))
    end = len(content) if rng.random() < 0.3 else min(400, len(content))
    start = rng.randrange(end)
    return content[:start] + number + content[start + len(number) :]


def insert_word(rng: random.Random, content: bytes) -> bytes:
    """Text that means something to a parser, inserted."""
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(_WORDS) + content[start:]


def replace_word(rng: random.Random, content: bytes) -> bytes:
    """A number or a word of a text replaced by text that means something to a parser."""
    found = list(re.finditer(rb"[-+.\w]+", content))
    if not found:
        return insert_word(rng, content)
    chosen = rng.choice(found)
    return content[: chosen.start()] + rng.choice(_WORDS) + content[chosen.end() :]


def shuffle_lines(rng: random.Random, content: bytes) -> bytes:
    """A line left out, given twice, or indented."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at : at + 1] = rng.choice([[], [lines[at]] * 2, [b"  " + lines[at]], [lines[at].lstrip()]])
    return b"\n".join(lines)


def replace_json_value(rng: random.Random, content: bytes) -> bytes:
    """A value of a JSON document replaced, removed or renamed."""
    document = json.loads(content)
    places = _places(document)
    parent, key = rng.choice(places) if places else ({}, "x")
    action = rng.random()
    if action < 0.15 and isinstance(parent, dict):
        parent.pop(key, None)
    elif action < 0.2 and isinstance(parent, dict):
        parent[rng.choice(["", "x", "class", "\0"])] = parent.pop(key, None)
    else:
        parent[key] = rng.choice(_JSON_VALUES)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Parent and key of every value inside."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = []
    for key, item in children:
        found += [(value, key), *_places(item)]
    return found


def replace_yaml_value(rng: random.Random, content: bytes) -> bytes:
    """As `replace_json_value`, of a YAML document, written in flow style."""
    import yaml

    changed = replace_json_value(rng, json.dumps(yaml.safe_load(content)).encode())
    return changed if rng.random() < 0.5 else yaml.safe_dump(json.loads(changed), allow_unicode=False).encode()


def inside_gzip(mutator: Mutator) -> Mutator:
    """The mutator, applied to what a gzip file contains."""
    return lambda rng, content: gzip.compress(mutator(rng, gzip.decompress(content)), 1)


def inside_zip(mutator: Mutator) -> Mutator:
    """The mutator, applied to a member of a ZIP file."""

    def mutate(rng: random.Random, content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        chosen, buffer = rng.choice(sorted(members)), io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, member in members.items():
                archive.writestr(name, mutator(rng, member) if name == chosen and member else member)
        return buffer.getvalue()

    return mutate


def inside_png(rng: random.Random, content: bytes) -> bytes:
    """Bits of one chunk of a PNG inverted, or a number put there, with the checksum made to fit."""
    chunks, position = [], 8
    while position + 8 <= len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        chunks.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    at = rng.randrange(len(chunks))
    kind, data = chunks[at]
    if data and rng.random() < 0.9:
        data = rng.choice([flip_bits, overwrite_number, truncate])(rng, data)
    else:
        kind = rng.choice([b"tEXt", b"PLTE", b"tRNS", b"eXIf", b"acTL", b"iCCP", b"IDAT"])
    chunks[at] = (kind, data)
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + b"".join(packed)


def inside_safetensors(rng: random.Random, content: bytes) -> bytes:
    """A value of the header of a safetensors file replaced."""
    (length,) = struct.unpack("<Q", content[:8])
    header = replace_json_value(rng, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


RAW: Sequence[Mutator] = (flip_bits, flip_header_bits, truncate, drop_part, repeat_part, overwrite_number)
TEXT: Sequence[Mutator] = (*RAW, insert_word, replace_word, replace_word, shuffle_lines)
JSON: Sequence[Mutator] = (*TEXT, *[replace_json_value] * len(TEXT))
YAML: Sequence[Mutator] = (*TEXT, *[replace_yaml_value] * 4)
PNG: Sequence[Mutator] = (*RAW, *[inside_png] * len(RAW))
GZIP: Sequence[Mutator] = (*RAW, *map(inside_gzip, (flip_header_bits, overwrite_number, truncate, flip_bits)))
ZIP: Sequence[Mutator] = (*RAW, *map(inside_zip, RAW))
SAFETENSORS: Sequence[Mutator] = (*RAW, *[inside_safetensors] * 3)


def by_format(rng: random.Random, content: bytes) -> bytes:
    """A mutator of the file's own format."""
    if content.startswith(b"\x89PNG"):
        return rng.choice(PNG)(rng, content)
    if content.startswith(b"\x1f\x8b"):
        return rng.choice(GZIP)(rng, content)
    return rng.choice(ZIP if content.startswith(b"PK") else RAW)(rng, content)


IMAGE: Sequence[Mutator] = (by_format,)


def mutate(rng: random.Random, content: bytes, mutators: Sequence[Mutator]) -> bytes:
    """Apply one mutator, sometimes two or three; now and then the result is empty."""
    if rng.random() < 0.01:
        return b""
    changed = rng.choice(mutators)(rng, content)
    while changed and rng.random() < 0.2:
        # Those that know the format need a file that is intact.
        changed = rng.choice(RAW)(rng, changed)
    return changed
