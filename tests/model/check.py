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
# Models of their own, each in one file. All of their marks must be reached.
MODELS = {"postcopy": "-O0", "attempts": "-O1", "units": "-O0"}
# Mistakes in them: model, macros, the property that must notice it, what it stands for.
MISTAKES = {
    "freed-on-started": ("postcopy", "MUTANT_FREED_ON_STARTED", "memory_gone", "the image is freed when STARTED is heard"),
    "freed-at-end": ("postcopy", "MUTANT_FREED_AT_END", "memory_gone", "the image is freed when the connection ends, not on ALL"),
    "all-when-asked": ("postcopy", "MUTANT_ALL_WHEN_ASKED", "memory_gone",
                       "ALL is said when all has been asked for, not when it is there"),
    "reset-is-end": ("postcopy", "MUTANT_RESET_IS_END", "memory_gone",
                     "a guest that has reset itself is taken for one that needs no memory"),
    "words-kept": ("postcopy", "MUTANT_WORDS_KEPT", "memory_gone",
                   "`vm forget` of an undecided image is obeyed when that is served"),
    "kill-serving": ("postcopy", "MUTANT_KILL_SERVING", "memory_gone", "`vm kill` frees what is served"),
    "claim-serving": ("postcopy", "MUTANT_CLAIM_SERVING", "ran_again", "what is left at the source is claimed while it is served"),
    "move-serving": ("postcopy", "MUTANT_MOVE_SERVING", "ran_again", "a second attempt is begun with what is served"),
    "settled-while-served": ("postcopy", "MUTANT_SETTLED_WHILE_SERVED SAFETY_ONLY", "lost_but_alive",
                             "who serves says to SETTLE that the attempt is over"),
    "gone-untold": ("postcopy", "MUTANT_GONE_UNTOLD", "waits_for_ever", "the image is forgotten, and who lacks it is not told"),
    "own-set": ("postcopy", "MUTANT_OWN_SET", "waits_for_ever", "after REJOIN the source goes by what it has sent, not by the map"),
    "done-before-all": ("postcopy", "MUTANT_DONE_BEFORE_ALL", "waits_for_ever",
                        "DONE is said when all has been sent, not when it has come"),
    "stays-in-set": ("postcopy", "MUTANT_STAYS_IN_SET", "came_twice", "a frame that was asked for twice is sent twice"),
    "map-before-end": ("postcopy", "MUTANT_MAP_BEFORE_END", "came_twice",
                       "the map goes out while the connection before is still read"),
    "rejoin-by-vm": ("postcopy", "MUTANT_REJOIN_BY_VM SAFETY_ONLY", "old_memory",
                     "REJOIN of an older attempt is taken for the VM's present one"),
    "mark-first": ("attempts", "MUTANT_MARK_FIRST", "lost_write", "a block is marked dirty before its data is there"),
    "zero-unmarked": ("attempts", "MUTANT_ZERO_UNMARKED", "lost_write", "a block that is zeroed is not marked dirty"),
    "read-first": ("attempts", "MUTANT_READ_FIRST", "lost_write", "a block is read before its mark is taken away"),
    "leaf-later": ("attempts", "MUTANT_LEAF_LATER", "lost_write", "a leaf's mark is taken away after the lock was let go"),
    "retry-harvests": ("attempts", "MUTANT_RETRY_HARVESTS WRITES=1", "lost_write", "a second attempt begins with what the first one left"),
    "no-quiesce": ("attempts", "MUTANT_NO_QUIESCE", "lost_write", "the pause does not wait for what a disk has under way"),
    "second-at-once": ("attempts", "MUTANT_SECOND_AT_ONCE WRITES=1", "two_runners", "a VM that moves is moved once more"),
    "resume-moving": ("attempts", "MUTANT_RESUME_MOVING", "two_runners", "`vm resume` of a VM that its migration has paused"),
    "stun-kept": ("attempts", "MUTANT_STUN_KEPT", "left_slowed", "what is cancelled during passes leaves vCPUs slowed"),
    "stun-after": ("attempts", "MUTANT_STUN_AFTER", "left_slowed", "vCPUs go on before they are at full speed again"),
    "stun-travels": ("attempts", "MUTANT_STUN_TRAVELS", "left_slowed", "vCPUs arrive slowed"),
    "cancel-late": ("attempts", "MUTANT_CANCEL_LATE", "cancel_broken", "a cancel is accepted after COMMIT"),
    "cancel-unseen": ("attempts", "MUTANT_CANCEL_UNSEEN", "cancel_broken", "COMMIT goes out without a last look at cancel"),
    "dest-cancel-unseen": ("attempts", "MUTANT_DEST_CANCEL_UNSEEN", "cancel_broken",
                           "COMMIT is obeyed without a last look at cancel there"),
    "kill-moving": ("attempts", "MUTANT_KILL_MOVING", "kill_broken", "`vm kill` of a VM that moves"),
    "request-unseen": ("attempts", "MUTANT_REQUEST_UNSEEN", "request_lost",
                       "a guest that switches itself off in the pause goes on elsewhere"),
    "starts-first": ("units", "MUTANT_STARTS_FIRST", "not_held", "COMMIT starts it before the unit has been claimed"),
    "no-swap": ("units", "MUTANT_NO_SWAP", "two_runners", "the source reads that the unit is its own, and goes on"),
    "same-key": ("units", "MUTANT_SAME_KEY", "two_runners", "the source takes the unit back under the key that COMMIT has"),
    "takes-forgotten": ("units", "MUTANT_TAKES_FORGOTTEN", "two_runners", "what the target has forgotten is taken for the source's"),
    "freed-on-claim": ("units", "MUTANT_FREED_ON_CLAIM", "image_gone", "the image is freed when the destination has claimed the unit"),
    "gives-up": ("units", "MUTANT_GIVES_UP", "waits_for_ever", "a destination gives up while its claim is under way"),
    "lost-try": ("units", "MUTANT_LOST_TRY", "waits_for_ever", "the key of a try whose answer was lost is not known any more"),
    "request-waits": ("attempts", "MUTANT_REQUEST_WAITS", "waits_for_ever",
                      "what a guest has asked for meanwhile is not carried out after it"),
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


def model(gen, name):
    m = Model(gen, name, [], optimise=MODELS[name], model=f"{name}.pml")
    missing = sorted(set(marks(f"{name}.pml").values()) - m.seen)
    return f"{m.states} states: {m.violated[0]}" if m.violated else f"not reached: {', '.join(missing)}" if missing else None


def flawed(gen, name):
    of, macros, prop, _ = MISTAKES[name]
    m = Model(gen, f"{of}-{name}", [f"-D{macro}" for macro in macros.split()], model=f"{of}.pml")
    return None if m.violated and f"({prop})" in m.violated[0] else f"not noticed by {prop}: {m.violated}"


def main():
    gen = pathlib.Path(sys.argv[1])
    jobs = [(f"config-{n}", configuration, (n,), "holds, and reaches what it should") for n in (2, 3, 5, 6, 4, 1, 7)]
    jobs += [(name, model, (name,), "holds, and reaches what it should") for name in MODELS]
    for line in run([str(gen.resolve()), "--list"], ".").splitlines():
        name, config, mistake = line.split("\t")
        jobs.append((name, mutant, (name, int(config)), "noticed: " + mistake))
    jobs += [(name, flag, (name,), "noticed: " + FLAGS[name][3]) for name in FLAGS]
    jobs += [(f"{of}-{name}", flawed, (name,), f"noticed by {prop}: {what}") for name, (of, _, prop, what) in MISTAKES.items()]
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
