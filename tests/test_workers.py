"""Worker processes, and what is shown of them: failures stay where they are."""

from __future__ import annotations

import io
import os
import signal
import threading
import time

import pytest
import toy_work

from howsure import progress, scheduler
from howsure.progress import Bars, Estimate, Lines, display, duration
from howsure.workers import Failure, InProcess, Processes


class Events(list):
    def __call__(self, *event):
        self.append(event)


def carry_out(tasks, *, workers, on_event, attempts=1):
    """Independent tasks through the scheduler; results in their order."""
    jobs = toy_work.Tasks(tasks, on_event)

    def hire():
        if workers == 1:
            return InProcess(toy_work.do)
        return Processes(toy_work.do, [{}] * workers, threads=1)

    scheduler.carry_out(jobs, hire, attempts=attempts)
    return jobs.results()


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_tasks(count):
    events = Events()
    tasks = [("sleep", 0.3), ("double", 1), ("double", 2), ("double", 3)]
    results = carry_out(tasks, workers=count, on_event=events)
    assert [r[0] for r in results] == [0.6, 2, 4, 6]
    pids = {r[1] for r in results}
    if count == 1:
        assert pids == {os.getpid()}
    else:
        assert len(pids) == 2 and os.getpid() not in pids  # workers live on from task to task
        assert {r[2] for r in results} == {"1"}
    for i in range(len(tasks)):
        mine = [e[1:] for e in events if e[0] == i]
        assert mine[0] == ("work", 0, 2) and mine[-2:] == [("work", 2, 2), ("", 1, 1)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_task_that_fails_leaves_the_others(count):
    tasks = [("refuse", "x"), ("double", 1), ("crash", 0), ("double", 2)]
    results = carry_out(tasks, workers=count, on_event=Events())
    assert [r[0] for r in results if not isinstance(r, Failure)] == [2, 4]
    refused, crashed = results[0], results[2]
    assert (refused.message, refused.exit_code) == ("no model x", 2)
    assert crashed.exit_code == 1
    assert crashed.message == "unexpected ZeroDivisionError: first line (--debug shows where)"
    assert "toy_work.py" in crashed.trace and "second line" in crashed.trace


def test_a_worker_that_dies_leaves_the_others():
    tasks = [("die", 0), ("double", 1), ("exit", 0), ("double", 2), ("double", 3)]
    results = carry_out(tasks, workers=2, on_event=Events())
    assert [r[0] for r in results if not isinstance(r, Failure)] == [2, 4, 6]
    assert "SIGKILL" in results[0].message and "memory" in results[0].message
    assert "exit code 7" in results[2].message


def test_a_task_whose_worker_dies_is_tried_again(tmp_path):
    """The first attempt kills its worker, the second one finds the trace of the first."""
    tasks = [("die once", str(tmp_path / "a")), ("double", 1), ("die", 0)]
    results = carry_out(tasks, workers=2, on_event=Events(), attempts=2)
    assert results[0][0] == str(tmp_path / "a") * 2 and results[1][0] == 2
    assert "SIGKILL" in results[2].message  # a task that kills every worker is given up


@pytest.fixture
def interruptible():
    """Whoever starts the tests in the background may have had interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_workers(interruptible):
    begin = time.monotonic()
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        carry_out([("sleep", 60), ("sleep", 60)], workers=2, on_event=Events())
    assert time.monotonic() - begin < 30
    import multiprocessing

    assert multiprocessing.active_children() == []


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    carry_out([("double", 1), ("double", 2)], workers=2, on_event=Events())
    assert os.environ["OMP_NUM_THREADS"] == "5" and "POLARS_MAX_THREADS" not in os.environ


# what is shown ----------------------------------------------------------------------------------

STAGES = ["load", "answer test", "fit probe"]


def test_the_estimate_goes_from_nothing_to_all():
    estimate = Estimate(2, STAGES)
    shares = [estimate.share()]
    for unit in (0, 1):
        for stage in STAGES:
            estimate.update(unit, stage, 1, 2)
            shares.append(estimate.share())
        estimate.update(unit, "", 1, 1)
        shares.append(estimate.share())
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    assert estimate.ended == 2 and shares[4] == 0.5


def test_the_time_left_follows_the_speed(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    estimate = Estimate(4, STAGES)
    assert estimate.seconds_left() is None and estimate.text() == ""
    estimate.update(0, "", 1, 1)
    now[0] += 60
    assert estimate.seconds_left() == pytest.approx(180)
    assert estimate.text() == "about 3 min left"


def test_plain_lines_say_what_took_time(monkeypatch):
    now, out = [100.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = display(["tiny, open"], STAGES, out)
    assert isinstance(shown, Lines)
    for seconds, event in (
        (0, ("load", 0, 1)),
        (0.2, ("load", 1, 1)),
        (0, ("fit probe", 0, 1000)),
        (40, ("fit probe", 300, 1000)),
        (40, ("fit probe", 1000, 1000)),
        (0, ("", 1, 1)),
    ):
        now[0] += seconds
        shown.update(0, *event)
    shown.say("scoring")
    shown.finish()
    lines = [line.split("  ", 1)[1] for line in out.getvalue().splitlines()]
    assert [line.split("  (")[0] for line in lines] == [
        "tiny, open  fit probe: 300 of 1,000",
        "tiny, open  fit probe: 1 min",
        "tiny, open  finished (1 of 1)",
        "scoring",
    ]
    assert "\x1b" not in out.getvalue()


def test_bars_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    shown = display(["tiny, open", "small, open"], STAGES, out)
    assert isinstance(shown, Bars)
    for unit in (0, 1):
        shown.update(unit, "fit probe", 1, 2)
        time.sleep(0.15)
        shown.update(unit, "", 1, 1)
    shown.say("scoring")
    time.sleep(0.15)
    shown.finish()
    assert "scoring" in out.getvalue()
    assert "tiny, open" in out.getvalue() and "fit probe" in out.getvalue()


def test_durations():
    given = [0.04, 9.94, 41.2, 59.6, 720, 11_100]
    assert [duration(s) for s in given] == [
        *("0.0 s", "9.9 s", "41 s", "1 min", "12 min", "3 h 5 min")
    ]
