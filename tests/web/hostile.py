"""Files that somebody might send to do harm, and what real ones look like when they are broken.

Each is a name and bytes, made from a real clip with a seed, so that every run sends the same. More
are only a matter of `count`.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

# What a file is called is as hostile as what is in it.
NAMES = (
    "clip.mp4",
    "../../../etc/cron.d/evil.mp4",
    "..\\..\\windows\\system32\\evil.mp4",
    'a"; filename="b.mp4',
    "line\r\nX-Injected: yes\r\n\r\n.mp4",
    "\U0001f3ac\U0001f468\u200d\U0001f469\u200d\U0001f467.mp4",
    "\u202e4pm.exe",
    "nul\x00.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "a" * 4000 + ".mp4",
    "",
    ".",
    "CON",
    "$(touch /tmp/owned).mp4",
    "-rf.mp4",
    "%2e%2e%2fetc%2fpasswd",
    "\ud800.mp4".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "الفيديو.mp4",
)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def fixed(secret: str, address: str) -> Iterator[tuple[str, bytes]]:
    """Files of known kinds; `secret` is a file that must not be read, `address` one not asked."""
    yield "empty", b""
    yield "one byte", b"\0"
    yield "text", b"This is no video. " * 500
    yield "html", b"<html><script>alert(1)</script></html>"
    yield "zeros", bytes(300_000)
    yield "zip bomb", _zip_bomb()
    yield "gzip bomb", gzip.compress(bytes(20_000_000))
    yield "hls", f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    yield "hls address", f"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n{address}/x.ts\n".encode()
    yield "hls concat", f"#EXTM3U\n#EXTINF:1,\nconcat:{secret}|{address}\n".encode()
    yield "ffconcat", f"ffconcat version 1.0\nfile '{secret}'\n".encode()
    yield "sdp", f"v=0\no=- 0 0 IN IP4 {address}\nm=video 5004 RTP/AVP 96\n".encode()
    yield "dash", f'<?xml version="1.0"?><MPD><BaseURL>{address}/</BaseURL></MPD>'.encode()
    yield "smil", f'<smil><body><video src="{address}/a.mp4"/></body></smil>'.encode()
    yield "pls", f"[playlist]\nFile1={secret}\n".encode()
    yield "asx", f'<asx version="3"><entry><ref href="{address}"/></entry></asx>'.encode()
    yield "svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}"/></svg>'.encode()
    yield "mov that refers", _reference_movie(secret, address)
    yield "huge picture", _huge_png()
    yield "huge gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf7\0\0" + bytes(3000)
    yield "huge avi", _huge_avi()
    yield (
        "huge ivf",
        b"DKIF"
        + struct.pack("<HH4sHHIIII", 0, 32, b"VP80", 65535, 65535, 30, 1, 9, 0)
        + bytes(500),
    )
    yield "deep boxes", _deep_boxes()
    yield (
        "lying box",
        struct.pack(">I4s", 24, b"ftyp")
        + b"isom\0\0\2\0isommp41"
        + struct.pack(">I4sQ", 1, b"moov", 2**62),
    )
    yield "pdf", b"%PDF-1.7\n" + bytes(500)
    yield "elf", b"\x7fELF" + bytes(500)
    yield "sound", _wav()
    yield "subtitles", b"1\n00:00:00,000 --> 00:00:02,000\nHello\n"
    yield "yuv4mpeg", b"YUV4MPEG2 W100000 H100000 F25:1\nFRAME\n" + bytes(1000)


def broken(clip: bytes, count: int, seed: int = 7) -> Iterator[tuple[str, bytes]]:
    """A real clip cut off, with flipped bits, with pieces overwritten, doubled or taken out."""
    dice = random.Random(seed)
    size = len(clip)
    for number in range(count):
        kind = number % 6
        at = dice.randrange(size)
        if kind == 0:
            yield f"cut off at {at}", clip[:at]
        elif kind == 1:
            data = bytearray(clip)
            for _ in range(dice.choice((1, 20, 2000))):
                data[dice.randrange(size)] ^= 1 << dice.randrange(8)
            yield "bits flipped", bytes(data)
        elif kind == 2:
            noise = dice.randbytes(dice.choice((16, 4096, 65_536)))
            yield f"noise at {at}", clip[:at] + noise + clip[at + len(noise) :]
        elif kind == 3:
            yield f"hole at {at}", clip[:at] + clip[at + dice.choice((1, 1000, 50_000)) :]
        elif kind == 4:
            data = bytearray(clip)  # its head alone: sizes, counts and offsets
            for _ in range(40):
                data[dice.randrange(min(8000, size))] = dice.choice((0, 255, dice.randrange(256)))
            yield "head scrambled", bytes(data)
        else:
            yield f"begins at {at}", clip[at:] + clip[: dice.randrange(size)]


def _zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("film.mp4", bytes(50_000_000))
    return out.getvalue()


def _reference_movie(secret: str, address: str) -> bytes:
    """A QuickTime movie whose picture is said to be in another file, and at an address."""
    alias = box(b"alis", b"\0\0\0\0" + secret.encode())
    link = box(b"url ", b"\0\0\0\0" + address.encode() + b"\0")
    references = box(b"dref", struct.pack(">II", 0, 2) + alias + link)
    rdrf = box(b"rdrf", b"\0\0\0\0url " + struct.pack(">I", len(secret)) + secret.encode())
    movie = box(b"rmra", box(b"rmda", rdrf)) + box(
        b"trak", box(b"mdia", box(b"minf", box(b"dinf", references)))
    )
    return box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"moov", movie)


def _huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    )


def _huge_avi() -> bytes:
    """An AVI of motion JPEG that claims 100,000 x 100,000 pixels."""
    main = struct.pack("<14I", 40_000, 0, 0, 16, 9, 0, 1, 0, 100_000, 100_000, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<12I", 0, 0, 0, 1, 25, 0, 9, 0, 0, 0, 0, 0)
    form = struct.pack("<IiiHH4sIiiII", 40, 100_000, 100_000, 1, 24, b"MJPG", 0, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data

    strl = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    hdrl = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + strl)
    jpeg = (
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\1\x03\x11\1"
        + bytes(400)
    )
    movi = chunk(b"LIST", b"movi" + chunk(b"00dc", jpeg))
    return chunk(b"RIFF", b"AVI " + hdrl + movi)


def _deep_boxes() -> bytes:
    data = b""
    for _ in range(20_000):
        data = struct.pack(">I4s", min(8 + len(data), 2**32 - 1), b"moov") + data[:400_000]
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + data


def _wav() -> bytes:
    sound = bytes(48_000)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(sound),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        48_000,
        96_000,
        2,
        16,
        b"data",
        len(sound),
    )
    return head + sound
