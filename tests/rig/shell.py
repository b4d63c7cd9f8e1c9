#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
`make shell`: two hosts with a guest, and you on the console of the first. Ctrl-\\ ends it, hosts and all.

    shell.py            start them
    shell.py SOCKET     only attach to the console of a host that is up (its path is shown at the start); Ctrl-\\ leaves
"""
import os
import select
import socket
import sys
import termios
import time
import tty

import netns
from rig import Rig

LEAVE = b"\x1c"  # Ctrl-\: tern uses Ctrl-] itself, to leave a guest's console


def attach(sock):
    """Terminal and console as one, until the leave key or the end of either."""
    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd) if os.isatty(fd) else None
    if saved:
        tty.setraw(fd)
    inputs = [fd, sock]
    try:
        while True:
            ready, _, _ = select.select(inputs, [], [])
            if sock in ready:
                data = sock.recv(65536)
                if not data:
                    return "the host is gone"
                os.write(1, data)
            if fd in ready:
                data = os.read(fd, 256)
                if not data:  # end of a script: let what it asked for be answered
                    inputs.remove(fd)
                    sock.settimeout(2)
                    try:
                        while data := sock.recv(65536):
                            os.write(1, data)
                    except TimeoutError:
                        pass
                    return "end of input"
                keys, leave, _ = data.partition(LEAVE)
                for i in range(0, len(keys), 8):  # unpaced bursts lose characters in the emulated serial port
                    sock.sendall(keys[i:i + 8].replace(b"\n", b"\r"))
                    time.sleep(0.004)
                if leave:
                    return "left"
    finally:
        if saved:
            termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def open_console(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(b"\r")
    return s


def main():
    if len(sys.argv) > 1:
        print(f"\n[{attach(open_console(sys.argv[1]))}]")
        return 0
    try:
        netns.enter()
        rig = Rig(extra=False)
        print("starting hosts a and b, and the guest demo on a ...", flush=True)
        rig.start(guest=False)
    except (netns.RigError, AssertionError) as e:
        print(f"shell: {e}")
        return 2
    try:
        for h in rig.hosts:
            h.console.close()
            h.console = None
        here = os.path.relpath(os.path.abspath(__file__))
        print(f"a is {rig.a.address}, b is {rig.b.address}, the guest {rig.guest}. Try: vm list, vm console demo (Ctrl-] leaves it), "
              f"migrate demo to b\nThe other console, from another terminal:\n  /usr/bin/python3 {here} {os.path.relpath(rig.b.socket)}\n"
              f"The network they are in:\n  nsenter -t {os.getpid()} -U --preserve-credentials -n bash   (as root: without -U and what follows it)\n"
              "Ctrl-\\ ends all of it.\n", flush=True)
        print(f"\n[{attach(open_console(rig.a.socket))}]")
    finally:
        rig.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
