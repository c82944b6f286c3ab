"""Workers on a Ray cluster: the same contract as those of one machine, and machines that go."""

from __future__ import annotations

import os
import sys

import pytest
import toy_work

from howsure import grader_check, scheduler
from howsure.cluster import Actors, OnRay, _Actor
from howsure.errors import UsageError
from howsure.workers import Failure

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one processor each, and a head without any."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)  # what its machines import
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def carry_out(cluster, folder, tasks, *, workers=2, attempts=3, on_event=lambda *event: None):
    jobs = toy_work.Tasks(tasks, on_event)
    given = Actors(folder, workers, threads=1, memory=10**8, address=cluster.address)
    scheduler.carry_out(jobs, lambda: OnRay(toy_work.do, given), attempts=attempts)
    return jobs.results()


def test_results_failures_and_reports(cluster, tmp_path):
    events = []
    tasks = [("sleep", 0.3), ("refuse", "x"), ("double", 2), ("crash", 0), ("double", 3)]
    found = carry_out(cluster, tmp_path, tasks, on_event=lambda *e: events.append(e))
    done = [r for r in found if not isinstance(r, Failure)]
    assert [r[0] for r in done] == [0.6, 4, 6]
    assert os.getpid() not in {r[1] for r in done} and {r[2] for r in done} == {"1"}
    refused, crashed = found[1], found[3]
    assert (refused.message, refused.exit_code) == ("no model x", 2)
    assert crashed.message.startswith("unexpected ZeroDivisionError: first line")
    assert not list(tmp_path.iterdir()), "the sign that machines look for is taken away"
    for i in (0, 2, 4):
        mine = [e[1:] for e in events if e[0] == i]
        assert mine[0] == ("work", 0, 2) and mine[-2:] == [("work", 2, 2), ("", 1, 1)]


def test_a_job_whose_worker_dies_is_tried_again_and_given_up_at_last(cluster, tmp_path):
    tasks = [("die once", str(tmp_path / "died")), ("die", 0), ("double", 1)]
    again, lost, other = carry_out(cluster, tmp_path, tasks)
    assert again[0] == str(tmp_path / "died") * 2 and other[0] == 2
    assert isinstance(lost, Failure) and lost.died and "its worker died" in lost.message


def test_a_machine_that_goes_takes_nothing_with_it(cluster, tmp_path):
    """The job that was at work there begins anew elsewhere."""
    gone = []

    def on_event(index, stage, done, total):
        if not gone and stage == "work":
            gone.append(cluster.list_all_nodes()[-1])
            cluster.remove_node(gone[0], allow_graceful=False)
            cluster.add_node(num_cpus=1)

    tasks = [("sleep", 0.5)] * 4
    found = carry_out(cluster, tmp_path, tasks, attempts=3, on_event=on_event)
    assert gone and [r[0] for r in found] == [1.0] * 4


def test_a_worker_without_a_place_keeps_nobody_waiting(cluster, tmp_path):
    """Three are wanted where two fit: the others do the work, and the run ends."""
    found = carry_out(cluster, tmp_path, [("double", i) for i in range(5)], workers=3)
    assert [r[0] for r in found] == [0, 2, 4, 6, 8]


def test_a_single_job_waits_for_a_worker(cluster, tmp_path):
    """The grader's check gives its job to whoever comes first; at first nobody is there."""
    asked = Actors(tmp_path, 1, threads=1, memory=10**8, address=cluster.address)
    assert grader_check._ask(OnRay(toy_work.approve, asked)) == [True, None]


def test_a_machine_that_does_not_see_the_store_is_told(tmp_path):
    sign = tmp_path / "sign"
    actor = _Actor(toy_work.do, sign)
    assert "does not see" in actor.ready() and str(tmp_path) in actor.ready()
    sign.touch()
    assert actor.ready() == ""


def test_without_ray_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'howsure\[ray\]'"):
        OnRay(toy_work.do, Actors(tmp_path, 1, threads=1, memory=1))
