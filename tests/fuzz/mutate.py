"""Damage files in ways that break parsers. The given random generator determines everything."""

import struct

# Sizes and counts at the edges of what a field can hold, as the little- and big-endian numbers that formats use.
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1]
EDGE_BYTES = [struct.pack(order + size, n & (1 << bits) - 1) for n in EDGES for order in "<>" for size, bits in
              (("B", 8), ("H", 16), ("I", 32), ("Q", 64))]  # fmt: skip
EDGE_TEXT = [b"0", b"-1", b"1e308", b"NaN", b"Infinity", b"9" * 5000, b"null", b"[]", b"{}", b'""', b"true", b"\xff",
             b"[" * 2000, b"../../x", b"\x00", b"F64", b"2147483648", b"1.5"]  # fmt: skip


def flip_bit(data, at, rng, seeds):
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def replace_byte(data, at, rng, seeds):
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def write_edge(data, at, rng, seeds):
    edge = rng.choice(EDGE_BYTES)
    return data[:at] + edge + data[at + len(edge) :]


def insert_text(data, at, rng, seeds):
    return data[:at] + rng.choice(EDGE_TEXT) + data[at + rng.choice([0, 1, 2, 4, 8]) :]


def insert_noise(data, at, rng, seeds):
    return data[:at] + rng.randbytes(rng.randint(1, 32)) + data[at:]


def delete(data, at, rng, seeds):
    return data[:at] + data[at + _length(rng) :]


def repeat(data, at, rng, seeds):
    piece = data[at : at + _length(rng)]
    return data[:at] + piece * rng.choice([2, 3, 100]) + data[at + len(piece) :]


def move(data, at, rng, seeds):
    length = _length(rng)
    rest = data[:at] + data[at + length :]
    to = rng.randint(0, len(rest))
    return rest[:to] + data[at : at + length] + rest[to:]


def truncate(data, at, rng, seeds):
    return data[:at]


def cross(data, at, rng, seeds):
    other = rng.choice(seeds)
    return data[:at] + other[rng.randint(0, len(other)) :]


MUTATORS = (flip_bit, replace_byte, write_edge, insert_text, insert_noise, delete, repeat, move, truncate, cross)


def mutate(seeds, hot, payloads, repair, rng) -> bytes:
    """One damaged file: a random seed with one to four mutations.

    `hot` gives for each seed the offsets of its structure; three in four mutations hit one of them. `payloads` are
    pieces that must never have an effect, such as calls; one mutation in ten inserts one. `repair(before, after)`
    corrects lengths that would otherwise end the reading early; it is used half of the time.
    """
    index = rng.randrange(len(seeds))
    data = seeds[index]
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not data:
            break
        at = rng.choice(hot[index]) if rng.random() < 0.75 else rng.randrange(len(data))
        at = min(at, len(data) - 1)
        if payloads and rng.random() < 0.1:
            changed = data[:at] + rng.choice(payloads) + data[at:]
        else:
            changed = rng.choice(MUTATORS)(data, at, rng, seeds)
        data = repair(data, changed) if rng.random() < 0.5 else changed
    return data


def _length(rng):
    return rng.choice([1, 2, 4, 8, rng.randint(1, 64), rng.randint(1, 4096)])
