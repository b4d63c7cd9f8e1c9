#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Run tests of every kind and sum them up: the last line is `N passed, N failed`, the exit code 0 only if none failed.

    runtests.py [--unit BIN...] [--fuzz BIN...] [--check NAME...] [--model GEN] [--rig DIR [--on RIG...] [--payload TARGET]]
                [--fresh RELEASE...] [--seconds N]

A unit test binary counts by its cmocka tests, a fuzz target and a check as one each, the model by its configurations, scenarios
and mutants, the rig's by pytest's tests; on a fresh system each `make` counts as one.

What takes seconds comes first. What takes minutes (making the payload of the slow rigs, which wait for it; the long checks, the model)
runs beside it and beside the rigs, one after the other, and only when a CPU has nothing else to do: a rig is idle for half of its time.
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
from concurrent.futures import ThreadPoolExecutor, as_completed

lock = threading.Lock()
FRESH = [("a bare root", ["root", "1800"]), ("make run", ["in", "3600", "make", "run"]), ("make test", ["in", "14400", "make", "test"])]
WAITING = ("test_migrate", "test_hosts", "test_shout")  # unit tests that mostly sleep: begun first, and beside those that each CPU has one of
LONG_CHECKS = ("clang", "tidy")
BESIDE, AFTER = "apart and not after", "apart and after"  # beside the shared hosts, and when these have ended: two that take as long
LOGS = {BESIDE: "apart-", AFTER: "after-"}  # before the names of the logs of hosts that run side by side
IDLE = ["chrt", "--idle", "0"]  # before a command: it gets what CPU time nobody else wants
totals = {"passed": 0, "failed": 0, "skipped": 0}


def run(cmd, timeout, **kw):
    """Exit code and output; a time-out is a failure that says so."""
    try:
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, errors="replace", **kw)
        return p.returncode, p.stdout
    except subprocess.TimeoutExpired as e:
        return -1, (e.stdout or b"").decode(errors="replace") + f"\ntimed out after {timeout} s\n"


def tell(kind, name, passed, failed, output, seconds):
    with lock:
        totals["passed"] += passed
        totals["failed"] += failed
        print(f"  {kind:6} {name}: {passed} passed, {failed} failed ({seconds:.1f} s)", flush=True)
        if failed:
            print(output[-8000:], flush=True)


def timed(job, *args):
    """What a job says, and its seconds: all that tell() wants."""
    start = time.time()
    return *job(*args), time.time() - start


def unit(path):
    code, out = run([path], 180)
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", out))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", out))
    if code and not failed or not passed and not failed:  # crashed, leaked, or ran nothing
        failed = 1
    return "UNIT", os.path.basename(path), passed, failed, out


def fuzz(path, seconds):
    name = os.path.basename(path)
    seeds = os.path.join("tests/fuzz/corpus", name.removeprefix("fuzz_"))
    with tempfile.TemporaryDirectory() as scratch:
        code, out = run([path, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
                         f"-artifact_prefix={os.path.dirname(path)}/", scratch] + ([seeds] if os.path.isdir(seeds) else []),
                        seconds + 60)
    return "FUZZ", name, int(code == 0), int(code != 0), out


def check(name):
    code, out = run((IDLE if name in LONG_CHECKS else []) + ["tools/check.sh", name], 900)
    return "CHECK", name, int(code == 0), int(code != 0), out


def model(gen):
    code, out = run(IDLE + ["/usr/bin/python3", "tests/model/check.py", gen], 1200)
    last = re.search(r"^(\d+) passed, (\d+) failed$", out, re.M)
    passed, failed = (int(last[1]), int(last[2])) if last else (0, 1)
    return "MODEL", "handover", passed, failed or int(code != 0), "".join(x for x in out.splitlines(True) if x[:2] != "ok")


def payload(target):
    """No test: only its failure counts."""
    code, out = run(IDLE + ["make", "--no-print-directory", target], 3600)
    return "MAKE", target, 0, int(code != 0), out


def rig(where, name, mark="", said=None):
    """Those tests alone that a mark's expression selects (tests/rig/conftest.py); pytest's words go to a file, or out at once."""
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        cmd = ["/usr/bin/python3", "-m", "pytest", "-v", "-ra", "--durations=12", "-p", "no:cacheprovider", f"--junitxml={report}", "-m", mark, where]
        env = dict(os.environ, RIG=name, RIG_LOG=LOGS.get(mark, ""))
        code = subprocess.run(cmd, env=env, stdout=said, stderr=said).returncode
        passed = failed = skipped = 0
        if os.path.exists(report):
            for suite in ET.parse(report).getroot().iter("testsuite"):
                n, bad, skip = (int(suite.get(k, 0)) for k in ("tests", "failures", "skipped"))
                bad += int(suite.get("errors", 0))
                passed, failed, skipped = passed + n - bad - skip, failed + bad, skipped + skip
    if code not in (0, 1) and not failed or not passed and not failed and not skipped:
        failed += 1  # pytest itself failed, or found no test
    totals["skipped"] += skipped
    return "RIG", f"{where} on {name}" + f", {mark}" * bool(mark), passed, failed, ""


def rigs(where, name, pool):
    """All tests of one rig. QEMU leaves CPUs for hosts of a single test beside the shared ones; one host of Bochs wants a CPU for itself."""
    if name != "amd":
        tell(*timed(rig, where, name))
        return
    with tempfile.TemporaryFile("w+") as said:
        apart = pool.submit(timed, rig, where, name, BESIDE, said)
        tell(*timed(rig, where, name, "not apart"))
        tell(*timed(rig, where, name, AFTER))
        result = apart.result()
        said.seek(0)
        print(said.read(), end="")
        tell(*result)


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
            tell("FRESH", f"{name} on {release}", int(code == 0), int(code != 0), f.read() + f"\nended with {code}; see {log}\n",
                 time.time() - start)
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
    p.add_argument("--payload")
    p.add_argument("--fresh", nargs="*", default=[])
    p.add_argument("--seconds", type=int, default=5)
    a = p.parse_args()
    jobs = [(unit, p) for p in sorted(a.unit, key=lambda p: os.path.basename(p) not in WAITING)]
    jobs += [(check, n) for n in a.check if n not in LONG_CHECKS] + [(fuzz, p, a.seconds) for p in a.fuzz]
    waiting = sum(os.path.basename(p) in WAITING for p in a.unit)
    beside = [(payload, a.payload)] * bool(a.payload) + [(model, a.model)] * bool(a.model) + [(check, n) for n in a.check if n in LONG_CHECKS]
    with ThreadPoolExecutor(len(WAITING)) as sleepers, ThreadPoolExecutor(os.cpu_count()) as pool, ThreadPoolExecutor(1) as one_by_one:
        beside = [one_by_one.submit(timed, *job) for job in beside]
        jobs = [(sleepers if i < waiting else pool).submit(timed, *job) for i, job in enumerate(jobs)]
        try:
            for job in as_completed(jobs):
                tell(*job.result())
            for name in a.on if a.rig else []:
                if a.payload and name != "amd":
                    beside[0].result()  # Intel's hosts need it
                rigs(a.rig, name, sleepers)
            for job in beside:  # not before: its lines would be in the midst of pytest's
                tell(*job.result())
        finally:
            for job in jobs + beside:  # what has not begun when this is interrupted
                job.cancel()
    for release in a.fresh:
        fresh(release)
    skipped = f", {totals['skipped']} skipped" if totals["skipped"] else ""
    print(f"{totals['passed']} passed, {totals['failed']} failed{skipped}")
    return 1 if totals["failed"] or not totals["passed"] else 0


sys.exit(main())
