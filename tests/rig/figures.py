# SPDX-License-Identifier: BSD-2-Clause
"""The figures that `make bench` has found so far, with their targets."""
import json
import sys

rows = []


def say(text):
    print(text, file=sys.stderr, flush=True)


def figure(name, value, limit, unit, at_least=False, digits=2, note=""):
    rows.append({"name": name, "value": round(value, 4), "target": limit, "at_least": at_least, "unit": unit,
                 "met": value >= limit if at_least else value <= limit, "digits": digits, "note": note})


def table():
    width = max((len(r["name"]) for r in rows), default=0)
    print(f"{'figure':{width}}  {'value':>10}  {'target':>12}")
    for r in rows:
        target = "" if r["target"] >= 1e9 else f"{'>=' if r['at_least'] else '<='} {r['target']:g} {r['unit']}"
        value = f"{r['value']:.{r['digits']}f} {r['unit']}"
        print(f"{r['name']:{width}}  {value:>10}  {target:>12}  {'ok  ' if r['met'] else 'MISS'}  {r['note']}")


def save(path):
    with open(path, "w") as f:
        json.dump({r["name"]: {k: r[k] for k in ("value", "unit", "target", "at_least", "met", "note")} for r in rows}, f, indent=1)
        f.write("\n")
