#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Run tests of every kind and sum them up: the last line is `N passed, N failed`, the exit code 0 only if none failed.

    runtests.py [--unit BIN...] [--fuzz BIN...] [--check NAME...] [--model GEN] [--rig DIR [--on RIG...]] [--fresh RELEASE...]
                [--seconds N]

A unit test binary counts by its cmocka tests, a fuzz target and a check as one each, the model by its configurations, scenarios
and mutants, the rig's by pytest's tests; on a fresh system each `make` counts as one.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

lock = threading.Lock()
FRESH = [("a bare root", ["root", "1800"]), ("make run", ["in", "3600", "make", "run"]), ("make test", ["in", "14400", "make", "test"])]
LONGEST = ("test_migrate", "test_hosts")  # of the unit tests; they come before all that waits for a CPU as well
totals = {"passed": 0, "failed": 0, "skipped": 0}


def run(cmd, timeout, **kw):
    """Exit code and output; a time-out is a failure that says so."""
    try:
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, errors="replace", **kw)
        return p.returncode, p.stdout
    except subprocess.TimeoutExpired as e:
        return -1, (e.stdout or b"").decode(errors="replace") + f"\ntimed out after {timeout} s\n"


def tell(kind, name, passed, failed, output, start):
    with lock:
        totals["passed"] += passed
        totals["failed"] += failed
        print(f"  {kind:6} {name}: {passed} passed, {failed} failed ({time.time() - start:.1f} s)", flush=True)
        if failed:
            print(output[-8000:], flush=True)


def unit(path):
    start = time.time()
    code, out = run([path], 180)
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", out))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", out))
    if code and not failed or not passed and not failed:  # crashed, leaked, or ran nothing
        failed = 1
    tell("UNIT", os.path.basename(path), passed, failed, out, start)


def fuzz(path, seconds):
    start = time.time()
    name = os.path.basename(path)
    seeds = os.path.join("tests/fuzz/corpus", name.removeprefix("fuzz_"))
    with tempfile.TemporaryDirectory() as scratch:
        code, out = run([path, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
                         f"-artifact_prefix={os.path.dirname(path)}/", scratch] + ([seeds] if os.path.isdir(seeds) else []),
                        seconds + 60)
    tell("FUZZ", name, int(code == 0), int(code != 0), out, start)


def check(name):
    start = time.time()
    code, out = run(["tools/check.sh", name], 900)
    tell("CHECK", name, int(code == 0), int(code != 0), out, start)


def model(gen):
    start = time.time()
    code, out = run(["/usr/bin/python3", "tests/model/check.py", gen], 1200)
    last = re.search(r"^(\d+) passed, (\d+) failed$", out, re.M)
    passed, failed = (int(last[1]), int(last[2])) if last else (0, 1)
    tell("MODEL", "handover", passed, failed or int(code != 0), "".join(x for x in out.splitlines(True) if x[:2] != "ok"), start)


def rig(where, name):
    start = time.time()
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        code = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-v", "-ra", "--durations=12", "-p", "no:cacheprovider", f"--junitxml={report}",
                               where], env=dict(os.environ, RIG=name)).returncode
        passed = failed = skipped = 0
        if os.path.exists(report):
            for suite in ET.parse(report).getroot().iter("testsuite"):
                n, bad, skip = (int(suite.get(k, 0)) for k in ("tests", "failures", "skipped"))
                bad += int(suite.get("errors", 0))
                passed, failed, skipped = passed + n - bad - skip, failed + bad, skipped + skip
    if code not in (0, 1) and not failed or not passed and not failed and not skipped:
        failed += 1  # pytest itself failed, or found no test
    totals["skipped"] += skipped
    tell("RIG", f"{where} on {name}", passed, failed, "", start)


def fresh(release):
    """A bare system of that release and what the README says works on it (tools/fresh.sh); all they say is in build/fresh/RELEASE.log."""
    log = f"build/fresh/{release}.log"
    os.makedirs(os.path.dirname(log), exist_ok=True)
    open(log, "w").close()
    failed = 0
    for name, args in FRESH:
        start = time.time()
        with open(log, "r+", errors="replace") as f:
            begin = f.seek(0, os.SEEK_END)
            code = subprocess.run(["tools/fresh.sh", args[0], release] + args[1:], stdin=subprocess.DEVNULL, stdout=f, stderr=f).returncode
            f.seek(begin)
            tell("FRESH", f"{name} on {release}", int(code == 0), int(code != 0), f.read() + f"\nended with {code}; see {log}\n", start)
        failed += code != 0
        if args[0] == "root" and failed:
            return
    if not failed:  # else it stays, for tools/fresh.sh in RELEASE bash
        subprocess.run(["tools/fresh.sh", "remove", release])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--unit", nargs="*", default=[])
    p.add_argument("--fuzz", nargs="*", default=[])
    p.add_argument("--check", nargs="*", default=[])
    p.add_argument("--model")
    p.add_argument("--rig")
    p.add_argument("--on", nargs="*", default=["amd"])
    p.add_argument("--fresh", nargs="*", default=[])
    p.add_argument("--seconds", type=int, default=5)
    a = p.parse_args()
    units = sorted(a.unit, key=lambda p: os.path.basename(p) not in LONGEST)
    jobs = [(unit, p) for p in units[:len(LONGEST)]] + [(check, n) for n in a.check] + [(unit, p) for p in units[len(LONGEST):]]
    jobs += [(fuzz, p, a.seconds) for p in a.fuzz]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: job[0](*job[1:]), jobs))
    if a.model:  # alone: it uses all CPUs itself
        model(a.model)
    for name in a.on if a.rig else []:
        rig(a.rig, name)
    for release in a.fresh:
        fresh(release)
    skipped = f", {totals['skipped']} skipped" if totals["skipped"] else ""
    print(f"{totals['passed']} passed, {totals['failed']} failed{skipped}")
    return 1 if totals["failed"] or not totals["passed"] else 0


sys.exit(main())
