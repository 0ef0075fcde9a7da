"""Colour profiles written by hand from the ICC's specification (ICC.1:2001-04), and the formulas behind them."""

import struct

import numpy as np

# Primaries and white as xy chromaticities, of the standards that define the spaces.
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def xyz(xy):
    return np.array([xy[0] / xy[1], 1, (1 - xy[0] - xy[1]) / xy[1]])


def to_xyz(primaries, white=D65):
    """The matrix [3, 3] from linear RGB to XYZ."""
    columns = np.stack([xyz(primary) for primary in primaries], axis=1)
    return columns * np.linalg.solve(columns, xyz(white))


def srgb_curve(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_of(rgb, primaries, gamma):
    """sRGB 0..255 of colours 0..255 in a space with a pure power as its curve."""
    linear = (np.asarray(rgb, float) / 255) ** gamma
    return 255 * srgb_curve(np.linalg.solve(to_xyz(SRGB), to_xyz(primaries) @ linear))


def srgb_of_lab(lab):
    """sRGB 0..255 of CIELAB under D50, adapted to D65 by Bradford's matrix."""
    y = (lab[0] + 16) / 116
    f = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    under_d50 = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * xyz(D50)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ xyz(D65)) / (BRADFORD @ xyz(D50))) @ BRADFORD
    return 255 * srgb_curve(np.linalg.solve(to_xyz(SRGB), adapt @ under_d50))


def s15(values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(kind, space, connection, tags):
    tags = {"wtpt": b"XYZ \0\0\0\0" + s15(xyz(D50)), "desc": description("made for a test"), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">II4s4s4s", start + len(body), 0, bytes([2, 0x40, 0, 0]), kind, space)
    header += struct.pack(">4s6H4s", connection, 2026, 1, 1, 0, 0, 0, b"acsp")
    header += b"\0" * (68 - len(header)) + s15(xyz(D50))
    return header + b"\0" * (128 - len(header)) + table + body


def description(text):
    data = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(data)) + data + b"\0" * 78


def curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(primaries, gamma):
    """A matrix profile with a pure power as its curve."""
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ xyz(D50)) / (BRADFORD @ xyz(D65))) @ BRADFORD
    columns = (adapt @ to_xyz(primaries)).T
    tags = {f"{name}XYZ": b"XYZ \0\0\0\0" + s15(column) for name, column in zip("rgb", columns)}
    tags |= {f"{name}TRC": curve(gamma) for name in "rgb"}
    return profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma):
    return profile(b"mntr", b"GRAY", b"XYZ ", {"kTRC": curve(gamma)})


def cmyk_profile(colours):
    """A profile with the CIELAB colours of the 16 combinations of full inks: colours [c, m, y, k] -> (L, a, b)."""
    grid = b"".join(
        bytes([round(L * 2.55), round(a + 128), round(b + 128)])
        for L, a, b in (colours[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1))
    )
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + s15(np.eye(3).ravel()) + straight * 4 + grid + straight * 3
    return profile(b"prtr", b"CMYK", b"Lab ", {"A2B0": lut})
