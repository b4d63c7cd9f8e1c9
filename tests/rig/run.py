#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make run`: tern's main job, shown and judged. Exit code 0 only if all of it holds."""
import os
import sys
import time

import client
import netns
from console import ConsoleError
from database import Database
from rig import DEMO, DEMO_MAC, Rig

failed = []


def say(text=""):
    print(text, flush=True)


def judge(ok, text):
    say(f"  {'ok  ' if ok else 'FAIL'}  {text}")
    if not ok:
        failed.append(text)


def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def migrate(rig, source):
    """As the operator types it, with the console's live progress on this terminal."""
    dest = rig.other(source)
    con = source.console
    con.tee = show
    try:
        con.cmd(f"migrate {DEMO} to {dest.address} {rig.options()}".rstrip(), 120)
    finally:
        con.tee = None
        say()
    return rig.status(source)


def one_way(rig, source):
    dest = rig.other(source)
    echo, stream, watch = client.EchoClient(rig.guest), client.StreamClient(rig.guest), netns.RarpWatch()
    echo.start()
    stream.start()
    time.sleep(1)
    client.ping(rig.guest, 1)
    before = rig.switch.port_of(DEMO_MAC)
    checked = client.status(rig.guest, client.PAGECHECK)
    echo.clear_gap()
    stream.clear_gap()
    say(f"\n== {DEMO} moves from {source.name} to {dest.name}; two clients' streams and a memory writer in the guest go on\n")
    report = migrate(rig, source)
    frames = watch.wait(DEMO_MAC, 5, 2)
    after = rig.switch.port_of(DEMO_MAC)
    streamed = stream.bytes
    time.sleep(2)
    for c in (echo, stream):
        c.stop()
    watch.stop()

    say("\n  what must hold:")
    judge(report["phase"] == "done", f"migration {report['phase']}: {report['total_ms']} ms in all, "
          f"{report['downtime_us'] / 1000:.1f} ms down, {report['passes']} passes, {report['pages']} pages and "
          f"{report['zero_pages']} zero pages, {report['bytes']} bytes {report.get('error_text', '')}")
    where = [h.name for h in rig.hosts if h.vms().get(DEMO, {}).get("state") == "running"]
    judge(where == [dest.name], f"{DEMO} runs on {' and '.join(where) or 'no host'}")
    for what, c in (("echo client", echo), ("stream client", stream)):
        judge(not c.error and not c.resets and not c.wrong and c.bytes > 0, f"{what}: {c.said()}")
    judge(stream.bytes > streamed, "the stream goes on after the migration")
    judge(bool(frames), f"RARP: {len(frames)} frames from the guest's new port")
    for at, f in frames:
        say(f"          +{(at - frames[0][0]) * 1000:3.0f} ms  {f['src']} > {f['dst']}  RARP op {f['op']}, sender {f['sha']} "
            f"{f['spa']}, target {f['tha']} {f['tpa']}")
    judge(all(f["sha"] == f["tha"] == DEMO_MAC and f["dst"] == "ff:ff:ff:ff:ff:ff" and f["op"] == 3 for _, f in frames),
          "sender and target of each are the guest's MAC, sent to all")
    judge(before == source.tap and after == dest.tap, f"the switch knew {DEMO_MAC} on {before}, now on {after}")
    now = client.status(rig.guest, client.PAGECHECK)
    judge(now["errors"] == 0 and now["backwards"] == 0 and now["passes"] > checked["passes"],
          f"page checker in the guest: {now['passes'] - checked['passes']} rounds over {now['pages']} pages, {now['errors']} wrong "
          f"pages; its clock went backwards {now['backwards']} times")


def judge_database(database):
    say()
    try:
        rows = database.stop()
        judge(True, f"all {rows} rows that the database has written are on the guest's disk, and fsck finds it clean")
    except AssertionError as e:
        judge(False, f"the guest's disk: {e}")


def main():
    try:
        netns.enter()
        rig = Rig(load="pagecheck:32:16", extra=False, disk=True)
        say("starting hosts a and b, and the guest on a")
        start = time.monotonic()
        for h in rig.hosts:
            h.log_fresh()
            say(f"  console of {h.name}: {os.path.relpath(h.log)} (all of it; `tail -f` it; for one to type at: make shell)")
        rig.start()
    except netns.RigError as e:
        say(f"run: {e}")
        return 2
    except (AssertionError, OSError) as e:
        say(f"run: {e}")
        return 1
    try:
        say(f"  both up, the guest answers at {rig.guest} after {time.monotonic() - start:.1f} s")
        database = Database(rig.guest, "/dev/vda") if rig.scale == 1 else None  # a slow guest has no room for it
        if database:
            database.start()
            say("  a database in the guest writes to its disk, which lies in the host's memory, and goes on")
        for source in (rig.a, rig.b):
            one_way(rig, source)
            if failed:
                break
        if database and not failed:
            judge_database(database)
    except (AssertionError, ConsoleError, OSError) as e:
        failed.append(str(e))
        say(f"\nrun: {e}")
    finally:
        if failed:
            say(rig.show_failure())
        rig.stop()
    say(f"\n{'all of it holds' if not failed else f'{len(failed)} of it did not hold: ' + '; '.join(failed)[:500]}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
