"""Images that are larger than they seem."""

import struct
import zlib


def png(width, height, rows=None):
    """A grey PNG of one bit a pixel; with fewer rows it is cut short."""
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    data = b''.join(
        packer.compress(row) for _ in range(height if rows is None else rows)
    )
    head = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    parts = ((b'IHDR', head), (b'IDAT', data + packer.flush()), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body))
        + kind
        + body
        + struct.pack('>I', zlib.crc32(kind + body))
        for kind, body in parts
    )
