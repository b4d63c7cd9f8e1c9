# SPDX-License-Identifier: BSD-2-Clause
"""Linux as an ELF file for PVH: what is packed inside a bzImage."""
import os
import struct
import subprocess

from host import GUEST

UNPACK = {b"\x02\x21\x4c\x18": ["lz4", "-dc"], b"\x28\xb5\x2f\xfd": ["zstd", "-dc"], b"\xfd7zX": ["xz", "-dc"]}


def vmlinux(kernel="vmlinuz"):
    """build/guest/vmlinux, of that bzImage beside it (Linux: Documentation/arch/x86/boot.rst, payload_offset)."""
    packed, path = os.path.join(GUEST, kernel), os.path.join(GUEST, kernel.replace("vmlinuz", "vmlinux"))
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(packed):
        with open(packed, "rb") as f:
            image = f.read()
        offset, length = struct.unpack_from("<II", image, 0x248)
        start = (image[0x1f1] + 1) * 512 + offset
        tool = UNPACK[image[start:start + 4]]
        with open(path + ".tmp", "wb") as f:
            subprocess.run(tool, input=image[start:start + length - 4], stdout=f, check=True)  # behind it is its length
        os.rename(path + ".tmp", path)
    return os.path.basename(path)
