# SPDX-License-Identifier: BSD-2-Clause
"""
The tests' network namespace and the hosts they share. All tests of a session use one pair of hosts, and leave it as it was.

RIG in the environment says what the hosts are (rig.py). A test runs on the AMD rig; with the mark rigs("amd", "intel", "mixed") on
those that it names. What is vendor-neutral is one test for all; slow rigs get a selection of them, and more in `make test-long`.

`make test` runs those that use none of the shared hosts (mark: apart) in a session of their own, with a network of its own, beside
the others.
"""
import contextlib
import os
import sys

import pytest

os.environ.setdefault("TERN_BUILD", "build/test")  # the image with failpoints
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fault_table  # noqa: E402
import netns  # noqa: E402
from rig import SLOW_DOWNTIME, Rig, kinds_wanted  # noqa: E402

current = []  # rigs whose consoles a failed test's report shows


def pytest_configure(config):
    config.addinivalue_line("markers", "rigs(*names): the rigs that a test runs on; without it: amd")
    config.addinivalue_line("markers", "apart: uses none of the shared hosts; conftest.py sees that itself")
    config.addinivalue_line("markers", "after: of those that are apart, one that waits until the shared hosts have ended: what runs beside them takes longer")
    config.addinivalue_line("markers", "cell(step, event[, outcome]): is one of the fault matrix (fault_table.py)")
    config.addinivalue_line("markers", "long(*names): of `make test-long` alone (LONG in the environment), on those rigs or on all")
    try:
        kinds_wanted()
        netns.enter()
    except netns.RigError as e:
        pytest.exit(f"the rig cannot run here: {e}", returncode=2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for i in items:
        if "shared" not in i.fixturenames:
            i.add_marker("apart")
    here = os.environ.get("RIG") or "amd"
    marks = {i: i.get_closest_marker("rigs") for i in items}
    kept = [i for i in items if here in (marks[i].args if marks[i] else ("amd",))]
    long = {i: i.get_closest_marker("long") for i in kept}
    kept = [i for i in kept if bool(long[i] and here in (long[i].args or (here,))) == bool(os.environ.get("LONG"))]
    config.hook.pytest_deselected(items=[i for i in items if i not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def switch():
    """The one switch of the session; tests with a host of their own need no more."""
    return netns.Switch()


@pytest.fixture(scope="session")
def shared(switch):
    """
    Host a with virtio-net, host b with e1000 (on an Intel host it is always e1000), the guest running the page checker. AMD hosts speak in
    clear: QEMU encrypts at a tenth of what it carries, and less than the guest writes when the machine has other work. test_trust.py
    has hosts with keys.
    """
    r = Rig(nics=("virtio-net", "e1000"), switch=switch, clear=kinds_wanted() == ("amd", "amd"))
    r.patience = SLOW_DOWNTIME  # whether a guest moves; `make bench` has how well
    current.append(r)
    r.start()
    r.settle()
    yield r
    current.remove(r)
    r.stop()


def in_order(r):
    """That rig; hosts that the test before left broken are made anew."""
    try:
        r.where()
        r.gone_from(r.other(r.where()), 1)
    except Exception:
        for h in r.hosts:
            h.stop()
        r.start()
        r.settle()
    return r


@pytest.fixture
def rig(shared):
    """The shared rig, in order."""
    return in_order(shared)


@contextlib.contextmanager
def instead(r):
    """Hosts that have the shared ones' names and addresses, so those go off for them."""
    for h in (h for r in current for h in r.hosts):
        h.stop()
    current.append(r)
    try:
        yield r.start()
    finally:
        current.remove(r)
        r.stop()


@pytest.fixture(scope="module")
def far(switch):
    """Hosts with a relay before a, and an idle guest."""
    with instead(Rig(load="none", mem=128, extra=False, switch=switch, relay=("a",), clear=True)) as r:
        yield r


@pytest.fixture(scope="module")
def small(switch):
    r = Rig(load="pagecheck:4:2", mem=64, extra=False, switch=switch, relay=("a",), kernel="small")
    r.patience = SLOW_DOWNTIME
    with instead(r):
        r.settle()
        yield r


@pytest.fixture
def bad(small):
    """Hosts that encrypt, with a relay before a, and a small busy guest, of which a move takes a second or two; in order."""
    return in_order(small)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    mark = item.get_closest_marker("cell")
    if mark and (report.when == "call" or report.failed):
        fault_table.add(mark, report)
    if report.failed:
        for r in current:
            report.sections.append(("consoles", r.show_failure()))


def pytest_sessionfinish():
    fault_table.write()
