# SPDX-License-Identifier: BSD-2-Clause
"""
The cells of the fault matrix that were run on whole hosts, as build/faults-rig.html and .json: the same columns as build/faults.html of
tests/unit/fault_report.c, whose letters these are. A test is a cell by its mark, cell(step, event[, outcome]); what it learns beside its
passing it records as a property of its report: outcome, ms, still_ms, source, destination (conftest.py). Sessions of pytest add to the
files what they have run: each row says when that was.
"""
import html
import json
import os
import time

from host import ROOT

STEPS = {
    "P0": "source, before connecting", "P1": "source, connected", "P2": "destination, before its checks",
    "P3": "destination, before the skeleton is made", "P4": "in pass 1, after a record", "P5": "in a later pass, after a record",
    "P6": "source, before the pause", "P7": "source, after the pause", "P8": "in the final pass, after a record",
    "P9": "source, before END", "P10": "destination, END checked", "P11": "destination, before READY goes out",
    "P12": "source, before OFFER", "P13": "destination, before ACCEPT", "P14": "source, undecided, before COMMIT goes out",
    "P15": "destination, COMMIT received", "P17": "destination, decided, not running yet", "P18": "destination, runs there",
    "P19": "destination, before STARTED goes out", "P20": "source, before its image is freed",
}
HEAD = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>tern: fault matrix, on the rig</title>
<style>body{font:14px sans-serif;margin:1em;max-width:110em}table{border-collapse:collapse;margin:.5em 0}
td,th{border:1px solid #bbb;padding:2px 5px;text-align:left;vertical-align:top}.m td{text-align:center}
.m td:first-child{text-align:left}.S{background:#dfd}.D{background:#def}.U,.B{background:#ffc}
.L,.O{background:#eee}.bad{background:#f99}.n{color:#999}</style>
<h1>Fault matrix of the migration: cells on whole hosts</h1>
<p>Made by tests/rig (HACKING.md): what came of each cell when it ran last. One row for each event, one column for each step. s: from the event until the
attempt was over at the source, or it told its operator; still: for how long the guest stood still, as the source says. After each cell one
host runs the guest, its memory and registers are whole, nothing is left on either host, and the next migration works.</p>
<p>S: runs at the source. D: runs at the destination. U: runs nowhere, the source is undecided and has told the operator. B: runs at the
destination, and the source, which cannot know, is undecided and has told the operator. L: lost with the host that had it. O: the guest is
off by its own doing. Red: not what is right. All cells and letters: build/faults.html.</p>
"""
cells = []


def add(mark, report):
    """A test with that mark has ended."""
    step, event, *outcome = mark.args
    c = {"step": step, "event": event, "outcome": outcome[0] if outcome else "", "right": report.passed, "runs": 1, "ms": 0, "still_ms": 0,
         "source": "", "destination": "", "problem": "", "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    c.update(report.user_properties)
    if report.failed:
        c["problem"] = str(report.longrepr.reprcrash.message if hasattr(report.longrepr, "reprcrash") else report.longrepr)[:500]
    cells.append(c)


def step_key(step):
    return int(step.split()[0][1:])


def matrix():
    steps = sorted({c["step"] for c in cells}, key=lambda s: (step_key(s), s))
    yield '<table class="m"><tr><th></th>' + "".join(f'<th title="{html.escape(STEPS[s.split()[0]])}">{s}</th>' for s in steps) + "</tr>\n"
    for event in dict.fromkeys(c["event"] for c in cells):
        yield f"<tr><td>{html.escape(event)}</td>"
        for s in steps:
            c = next((c for c in cells if (c["step"], c["event"]) == (s, event)), None)
            yield (f'<td class="{"" if c["right"] else "bad "}{c["outcome"][:1]}">{c["outcome"] or "?"}</td>' if c
                   else '<td class="n">&middot;</td>')
        yield "</tr>\n"
    yield "</table>\n"


def details():
    yield "<table><tr><th>step</th><th>event</th><th>outcome</th><th>s</th><th>still, ms</th><th>source says</th><th>destination says</th><th>when</th></tr>\n"
    for c in cells:
        outcome = c["outcome"] + (f": {c['problem']}" if c["problem"] else "")
        yield (f'<tr><td>{c["step"]}</td><td>{html.escape(c["event"])}</td><td class="{"" if c["right"] else "bad "}{c["outcome"][:1]}">'
               f'{html.escape(outcome)}</td><td>{c["ms"] / 1000:.1f}</td><td>{c["still_ms"]}</td><td>{html.escape(c["source"])}</td>'
               f'<td>{html.escape(c["destination"])}</td><td>{c["when"]}</td></tr>\n')
    yield "</table>\n"


def key(c):
    return step_key(c["step"]), c["step"], c["event"]


def write():
    """If any cell has run; with those of other sessions."""
    path = os.path.join(ROOT, "build", "faults-rig")
    if not cells:
        return
    ran = {key(c) for c in cells}
    if os.path.exists(f"{path}.json"):
        with open(f"{path}.json") as f:
            cells.extend(c for c in json.load(f) if key(c) not in ran)
    cells.sort(key=key)
    for ext, text in (("html", HEAD + "".join(matrix()) + "".join(details())),
                      ("json", "[\n" + ",\n".join(json.dumps(c) for c in cells) + "\n]\n")):
        with open(f"{path}.new", "w") as f:
            f.write(text)
        os.replace(f"{path}.new", f"{path}.{ext}")
