#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Check the model of the hand-over: check.py GEN [NAME...]

Every configuration of handover.pml must hold and must reach what is interesting in it, every scenario must come to its end,
and every mutant must be noticed. One line each, or only those that are named; the last line is `N passed, N failed`. What spin
writes stays in build/model/NAME; `./pan -r handover.pml.trail` there replays the steps to a violation.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parent


def marks(model):
    return {int(n): name for name, n in re.findall(r"#define SEEN_(\w+) +(\d+)", (HERE / model).read_text())}


SEEN = marks("handover.pml")
# Configuration: what is not reached in it. All else must be; so a new mark is wanted everywhere until it is listed here.
UNREACHED = {
    1: "ADOPTED_NEVER ADOPTED_SOURCE ALIVE ALONE CONFLICT DEBT_FREES MOVED REFUSED STARTS YIELDS",
    2: "ALIVE ALONE CONFLICT DROPPED_WAITS REFUSED SECOND_TRY STARTS YIELDS",
    3: "ALIVE ALONE CONFLICT DROPPED_WAITS SECOND_TRY",
    4: "ADOPTED_NEVER ADOPTED_SOURCE ADOPTED_STARTED CONFLICT DEBT_TRAVELS DROPPED_WAITS SECOND_TRY TRACE_ENDS",
    5: "ADOPTED_NEVER ADOPTED_SOURCE ADOPTED_STARTED BACK COMMIT_AFTER CONFLICT DEBT_FREES DEBT_TRAVELS DROPPED_WAITS "
       "FOREIGN LATE_NEVER MOVED NEVER_RESUMED NOBODY_RESUMES NOBODY_TOLD QUERY_OVERTAKES SECOND_TRY SETTLED "
       "SETTLED_BY_BOOT STARTED_FREED TRACE_ENDS",
    6: "ADOPTED_NEVER ALIVE ALONE CONFLICT DEBT_FREES DROPPED_WAITS SECOND_TRY",
    7: "ADOPTED_NEVER ADOPTED_SOURCE ADOPTED_STARTED ALIVE ALONE BACK COMMIT_AFTER DEBT_FREES DEBT_TRAVELS "
       "DROPPED_WAITS FOREIGN LATE_NEVER MOVED NEVER_RESUMED NOBODY_RESUMES NOBODY_TOLD QUERY_OVERTAKES SECOND_TRY "
       "SETTLED SETTLED_BY_BOOT STARTED_FREED TRACE_ENDS",
}
# Scenario: its configuration, and what it is (the steps are in scenarios.pml).
SCENARIOS = {
    1: (2, "STARTED lost, A cut off, B moves the VM on and restarts: C's debt frees A"),
    2: (6, "STARTED lost, the VM ends at the destination hours later"),
    3: (1, "STARTED lost, the destination crashes hours later"),
    4: (4, "a full listener is alive, not silent"),
    5: (3, "answers of different moments: the VM goes from one to the other between two questions"),
    6: (7, "two hosts of one name"),
    7: (6, "evacuated, rebooted with the network cut: no start"),
    8: (8, "A -> B -> C, then B and A restart, and C is no peer of A"),
    9: (9, "an old debt and a new attempt after a reboot without a clock"),
}
# Mistakes that are no cell of a table: macro, configuration, scenario or 0, what it stands for.
FLAGS = {
    "settle-held": ("MUTANT_SETTLE", 1, 0, "a record is freed though the source says that it still holds the attempt"),
    "alone-after-one-round": ("MUTANT_ALONE", 4, 0, "autostart = alone counts silence that is younger than the other answers"),
    "ids-without-boot": ("MUTANT_IDS", 9, 9, "the counter of attempts starts again at a reboot, and the id has no boot"),
    "adopt-to-source": ("MUTANT_ADOPT", 2, 0, "a record given to the source of its own attempt is no answer to it"),
}
# Mistakes in post-copy (postcopy.pml): macro, the property that must notice it, what it stands for.
POSTCOPY = {
    "postcopy-freed-on-started": ("MUTANT_FREED_ON_STARTED", "memory_gone", "the image is freed when STARTED is heard"),
    "postcopy-claim-serving": ("MUTANT_CLAIM_SERVING", "ran_again", "what is left at the source is claimed while it is served"),
    "postcopy-done-before-all": ("MUTANT_DONE_BEFORE_ALL", "lost_but_alive", "DONE is said when all has been sent, not when it has come"),
}


def run(cmd, cwd, seconds=300):
    p = subprocess.run(cmd, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds)
    if p.returncode:
        raise RuntimeError(f"{' '.join(cmd)}: exit code {p.returncode}\n{p.stdout[-2000:]}")
    return p.stdout


class Model:
    """One compiled and run model: whether anything was violated, what was reached, how many states there are."""

    def __init__(self, gen, name, flags, mutant=None, optimise="-O0", model="handover.pml"):
        self.dir = pathlib.Path("build/model") / name
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        rules = run([str(gen.resolve())] + (["--mutant", mutant] if mutant else []), self.dir)
        (self.dir / "rules.pml").write_text(rules)
        for f in HERE.glob("*.pml"):
            shutil.copy(f, self.dir)
        run(["spin", "-a", *flags, model], self.dir)
        run(["gcc", optimise, "-w", "-DSAFETY", "-DVECTORSZ=512", "-DMEMLIM=3000", "-o", "pan", "pan.c"], self.dir)
        out = run(["./pan", "-E", "-m20000"], self.dir)
        (self.dir / "out").write_text(out)
        self.violated = re.findall(r"pan:\d+: (.*)", out)
        self.seen = {marks(model)[int(n)] for n in re.findall(r"^seen (\d+)", out, re.M)}
        self.states = int(re.search(r"(\d+) states, stored", out)[1])
        if not re.search(r"errors: \d", out) or "max search depth too small" in out:
            self.violated.append("the search is not complete")


def configuration(gen, n):
    m = Model(gen, f"config-{n}", [f"-DCONFIG={n}"], optimise="-O1")
    missing = sorted(set(SEEN.values()) - set(UNREACHED[n].split()) - m.seen)
    if m.violated:
        return f"{m.states} states: {m.violated[0]}"
    return f"not reached: {', '.join(missing)}" if missing else None


def scenario(gen, n):
    m = Model(gen, f"scenario-{n}", [f"-DCONFIG={SCENARIOS[n][0]}", f"-DSCENARIO={n}"])
    return m.violated[0] if m.violated else None if "CALM" in m.seen else "a step cannot be taken"


def mutant(gen, name, config):
    return None if Model(gen, name, [f"-DCONFIG={config}"], name).violated else "not noticed"


def flag(gen, name):
    macro, config, script, _ = FLAGS[name]
    m = Model(gen, name, [f"-DCONFIG={config}", f"-D{macro}"] + ([f"-DSCENARIO={script}"] if script else []))
    return None if m.violated or (script and "CALM" not in m.seen) else "not noticed"


def postcopy(gen):
    m = Model(gen, "postcopy", [], model="postcopy.pml")
    missing = sorted(set(marks("postcopy.pml").values()) - m.seen)
    return f"{m.states} states: {m.violated[0]}" if m.violated else f"not reached: {', '.join(missing)}" if missing else None


def postcopy_mutant(gen, name):
    macro, prop, _ = POSTCOPY[name]
    m = Model(gen, name, [f"-D{macro}"], model="postcopy.pml")
    return None if m.violated and prop in m.violated[0] else f"not noticed by {prop}: {m.violated}"


def main():
    gen = pathlib.Path(sys.argv[1])
    jobs = [(f"config-{n}", configuration, (n,), "holds, and reaches what it should") for n in (2, 3, 5, 6, 4, 1, 7)]
    for line in run([str(gen.resolve()), "--list"], ".").splitlines():
        name, config, mistake = line.split("\t")
        jobs.append((name, mutant, (name, int(config)), "noticed: " + mistake))
    jobs += [(name, flag, (name,), "noticed: " + FLAGS[name][3]) for name in FLAGS]
    jobs += [("postcopy", postcopy, (), "holds, and reaches what it should")]
    jobs += [(name, postcopy_mutant, (name,), "noticed: " + POSTCOPY[name][2]) for name in POSTCOPY]
    jobs += [(f"scenario-{n}", scenario, (n,), SCENARIOS[n][1]) for n in SCENARIOS]
    jobs = [j for j in jobs if j[0] in sys.argv[2:] or not sys.argv[2:]]
    failed = 0

    def one(job):
        start = time.time()
        try:
            wrong = job[1](gen, *job[2])
        except (RuntimeError, subprocess.TimeoutExpired, OSError) as e:
            wrong = str(e)
        return job[0], wrong, job[3], time.time() - start

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, wrong, what, seconds in pool.map(one, jobs):
            failed += wrong is not None
            print(f"{'FAIL' if wrong else 'ok':5} {name}: {wrong or what} ({seconds:.1f} s)", flush=True)
    print(f"{len(jobs) - failed} passed, {failed} failed")
    return 1 if failed or not jobs else 0


sys.exit(main())
