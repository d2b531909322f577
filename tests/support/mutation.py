"""Random changes of valid files, repeatable by number, and how many of them a run tries."""

from __future__ import annotations

import os
import random

# All readers together; 20000 take less than a minute.
MUTATIONS = int(os.environ.get("HIERPOOL_FUZZ", "2000"))
# What files of people and programs have in odd places.
_TOKENS = (
    b"-1", b"0", b"1", b"7", b"nan", b"inf", b"1e400", b"1e-400", b"0.5", b"1.0", b"1_0", b"0x1", b"1000000000",
    b"9223372036854775808", b"#", b"%", b'"', b"'", b"{}", b"{'weight': 3}", b"source target", b"a", b"-", b"\xff",
    b" ", b"\t", b",", b";", b"\n", b"\r\n", b"\r", b"\x00", b"\xef\xbb\xbf", "é١\u2028".encode(),
)  # fmt: skip


def mutate(content: bytes, seed: str) -> bytes:
    """``content`` with one to three random changes of bits, bytes, pieces or lines."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(content) + 1)
        stop = min(len(content), start + draw.choice((0, 1, 1, 2, 5, 30)))
        kind = draw.randrange(6)
        if kind == 0 and start < len(content):
            content = (
                content[:start] + bytes([content[start] ^ 1 << draw.randrange(8)]) + content[start + 1 :]
            )
        elif kind == 1:
            content = content[:start] + draw.choice(_TOKENS) + content[stop:]
        elif kind == 2:
            content = content[:start] + content[stop:]
        elif kind == 3:
            content = content[:stop] + content[start:]  # a piece twice
        elif kind == 4 and draw.random() < 0.3:
            content = content[:start]
        else:
            lines = content.split(b"\n")
            i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i] if draw.random() < 0.5 else b""
            content = b"\n".join(lines)
    return content
