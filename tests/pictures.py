"""Pictures of every kind a reader may bring, and files that are none."""

import io
import struct
import zlib

import numpy as np
import torch
from PIL import Image

RAMP = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 42  # 16 bits: 0 to 64470
COLOURS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
ORIENTATION = 0x0112


def encoded(picture, format="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def transparent(mode):
    """Left half opaque black, right half entirely transparent black."""
    picture = Image.new("LA", (32, 32), (0, 255))
    picture.paste((0, 0), (16, 0, 32, 32))
    if mode != "P":
        return picture.convert(mode)
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(1, (16, 0, 32, 32))
    palette.info["transparency"] = 1
    return palette


def header_only(width, height):
    """A PNG of a few bytes that claims any size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def tiff(bits, kind, raw, width=48, height=32):
    """A grey TIFF file by hand: Pillow reads more than it writes. ``kind`` 1: whole, 3: float."""
    facts = {
        256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height,
        279: len(raw), 339: kind,
    }  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in facts.items())
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(raw))
        + raw
        + struct.pack("<H", len(facts))
        + table
        + bytes(4)
    )


#: What is no photo, and the words that say so.
BAD = {
    "no picture": (b"hello", "could not be read as a picture"),
    "nothing": (b"", "could not be read as a picture"),
    "truncated JPEG": (encoded(Image.fromarray(COLOURS), "JPEG")[:-200], "Is it complete"),
    "truncated PNG": (encoded(Image.fromarray(COLOURS))[:-200], "Is it complete"),
    "truncated, opened elsewhere": (
        Image.open(io.BytesIO(encoded(Image.fromarray(COLOURS))[:-200])),
        "Is it complete",
    ),
    "one pixel": (encoded(Image.new("RGB", (1, 1))), "1x1 pixels; at least 16 a side"),
    "a thin strip": (Image.new("RGB", (15, 500)), "15x500 pixels; at least 16"),
    "a folder": (".", "could not be read"),
    "a number": (7, "int is no photo"),
    "nothing at all": (None, "NoneType is no photo"),
    "a list": ([COLOURS], "list is no photo.*one flat list"),
    "a tensor": (torch.zeros(3, 32, 32), r"Tensor is no photo: .*array \(H, W, 3\)"),
    "a missing file": ("no/such/file.jpg", "There is no file no/such/file.jpg"),
    "array of one row": (np.zeros(100, np.uint8), r"shape \(100,\) is no picture"),
    "array with two channels": (
        np.zeros((32, 32, 2), np.uint8),
        r"shape \(32, 32, 2\) is no picture",
    ),
    "channels first": (np.zeros((3, 32, 32), np.uint8), r"shape \(3, 32, 32\) is no picture"),
    "empty array": (np.zeros((0, 32)), "holds no pixel"),
    "floats to 255": (np.full((32, 32), 255.0), r"in \[0, 1\]; divide by 255"),
    "floats a little over 1": (np.full((32, 32), 1.001), r"in \[0, 1\]"),
    "negative floats": (np.full((32, 32), -0.1), r"in \[0, 1\]"),
    "NaN": (np.full((32, 32), np.nan), r"in \[0, 1\]"),
    "float TIFF to 255": (
        encoded(Image.fromarray(np.float32([[0, 255]] * 32).repeat(16, axis=1)), "TIFF"),
        r"in \[0, 1\]; divide by 255",
    ),
    "float picture with NaN": (Image.fromarray(np.full((32, 32), np.nan, "f4")), r"in \[0, 1\]"),
    "floats that round to black": (np.full((32, 32), 1e-3), "would be black.*0.001, where 1 is"),
    "8 bits in 16": (COLOURS.astype(np.uint16), "would be black.*255, where 65535 is.*uint8"),
    "8 bits in 32": (
        Image.fromarray(COLOURS[..., 0]).convert("I"),
        "would be black.*where 65535 is white.*uint8",
    ),
    "more than 16 bits": (
        Image.new("I", (32, 32), 65536),
        "from 65536 to 65536, where 16 bits go from 0 to 65535",
    ),
    "less than nothing": (Image.new("I", (32, 32), -1), "from -1 to -1, where 16 bits"),
    "32 bits": (tiff(32, 1, bytes([255, 255, 255, 127] * 1536)), "to 2147483647, where 16 bits"),
    "signed integers": (np.zeros((32, 32), np.int64), "array of int64"),
    "truth values": (np.zeros((32, 32), bool), "array of bool"),
}

#: Of these, what can be uploaded; and files that are too large.
REFUSED = {name: (data, words) for name, (data, words) in BAD.items() if isinstance(data, bytes)}
REFUSED["20,000 x 20,000"] = (header_only(20_000, 20_000), "too many pixels; at most 50 million")
REFUSED["31 MB"] = (bytes(31_000_000), "at most 30 MB")
EXIF = Image.Exif()
EXIF[ORIENTATION] = 6
NO_TURN = Image.Exif()
NO_TURN[ORIENTATION] = 9
FRAMES = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
#: Unusual photos that are taken, and what is said of them.
TAKEN = {
    "plain": (encoded(Image.fromarray(COLOURS)), ""),
    "grey": (encoded(Image.fromarray(COLOURS[..., 0])), ""),
    "CMYK": (encoded(Image.fromarray(COLOURS).convert("CMYK"), "JPEG"), "converted from CMYK"),
    "16 bits": (
        encoded(Image.fromarray(np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 42)),
        "16 bits",
    ),
    "palette with transparency": (encoded(transparent("P")), "laid on white"),
    "rotated": (encoded(Image.fromarray(COLOURS), exif=EXIF), "turned upright"),
    "turned in no known way": (encoded(Image.fromarray(COLOURS), exif=NO_TURN), ""),
    "animated": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), "first frame"),
}
