"""Changes of the models with several workers: all of them change, or none does."""

import json
import os
import shutil
import signal
from concurrent.futures import Future

import psutil
import pytest

from fusioncam import export_model
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.service.repository.model_repository import Change
from fusioncam.runtime.service.workers import hangup
from fusioncam.runtime.service.workers.model_changes import LOST, ModelChanges, Orders

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are those of POSIX systems")

LOAD, UNLOAD = Change("load", "pets"), Change("unload", "pets")
TOKEN = {"Authorization": "Bearer s3cret"}


class Obedient:
    """A worker that notes its orders, and refuses one step."""

    def __init__(self, orders, name, refuses=None):
        self.orders, self.name, self.refuses = orders, name, refuses

    def order(self, step, change):
        self.orders.append((self.name, step))
        future = Future()
        future.set_result("no memory" if step == self.refuses else None)
        return future


def ask(changes, change):
    answered = Future()
    changes.ask(change, answered.set_result)
    return answered.result(20)


class TestTogether:
    def test_all_open_before_any_answers_and_the_first_is_alone(self):
        orders = []
        changes = ModelChanges(lambda: [Obedient(orders, name) for name in "abc"])
        assert ask(changes, LOAD) is None
        assert orders == [*((name, "stage") for name in "abc"), *((name, "commit") for name in "abc")]
        assert ask(changes, UNLOAD) is None
        assert changes.absent == {"pets"}
        assert ask(changes, LOAD) is None
        assert changes.absent == set()

    @pytest.mark.parametrize(
        ("who", "wanted"),
        [("a", [("a", "stage")]), ("c", [*((name, "stage") for name in "abc"), ("a", "drop"), ("b", "drop")])],
    )
    def test_one_that_fails_leaves_all_as_they_were(self, who, wanted):
        orders = []
        changes = ModelChanges(lambda: [Obedient(orders, name, "stage" if name == who else None) for name in "abc"])
        assert ask(changes, LOAD) == "no memory"
        assert orders == wanted

    def test_the_orders_of_a_lost_worker_end(self):
        orders = Orders()
        _, open_one = orders.enter()
        number, answered = orders.enter()
        orders.answer(number, None)
        orders.answer(99, None)
        orders.end()
        assert (open_one.result(0), answered.result(0), orders.enter()[1].result(0)) == (LOST, None, LOST)
        assert len(orders) == 0


@pytest.mark.parametrize(
    ("had", "has", "called"), [(False, False, "reload"), (True, True, "reload"), (True, False, "end")]
)
def test_the_hangup_of_a_terminal_ends_and_any_other_reloads(monkeypatch, had, has, called):
    terminal, heard, before = [had], [], signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr(hangup.os, "isatty", lambda _: terminal[0])
    try:
        hangup.on_hangup(lambda: heard.append("reload"), lambda: heard.append("end"))
        terminal[0] = has
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == [called]


def test_workers_change_together(tmp_path, monkeypatch, until, service):
    """A version is added and one is broken; by a client and by a signal; and workers die meanwhile."""
    monkeypatch.setenv("FUSIONCAM_TOKEN", "s3cret")
    folder = tmp_path / "pets"
    export_model(MODEL, folder / "1")
    with service(folder, "--workers", "2") as running:
        until(lambda: len(running.workers) == 2 and running.ready())

        def post(path):
            status, body = running.ask("POST", f"/v2/repository/{path}", None, TOKEN)
            return status, json.loads(body)

        def versions():
            """The answers of all workers: the kernel deals connections out."""
            asked = [running.ask("GET", "/v2/models/pets", None, TOKEN)[1] for _ in range(12)]
            return {tuple(json.loads(body).get("versions", ())) for body in asked}

        def kill():
            worker = running.workers[0]
            worker.kill()
            until(lambda: len(running.workers) == 2 and worker.pid not in {w.pid for w in running.workers})
            return worker.pid

        shutil.copytree(folder / "1", folder / "2")
        assert [entry["version"] for entry in post("models/pets/load")[1]] == ["1", "2"]
        assert versions() == {("1", "2")}
        (folder / "3").mkdir()
        (folder / "3" / "manifest.json").write_text("{")
        status, said = post("models/pets/load")
        assert (status, said["error"].startswith("model 'pets' stays as it was: ")) == (409, True)
        assert versions() == {("1", "2")}
        shutil.rmtree(folder / "3")
        shutil.rmtree(folder / "1")
        os.kill(running.process.pid, signal.SIGHUP)
        until(lambda: versions() == {("2",)})
        shutil.copytree(folder / "2", folder / "4")
        killed = [kill()]
        until(lambda: versions() == {("2", "4")})
        assert post("models/pets/unload")[1][0]["state"] == "UNAVAILABLE"
        killed.append(kill())
        until(running.ready)
        assert versions() == {()}
        shutil.rmtree(folder / "4")
        assert post("models/pets/load")[0] == 200
        assert versions() == {("2",)}
        for worker in running.workers:
            os.kill(worker.pid, signal.SIGHUP)  # as a supervisor may send it to the whole group
        assert versions() == {("2",)}
        assert all(psutil.pid_exists(worker.pid) for worker in running.workers)
        assert running.end().splitlines() == [
            f"warning: worker {pid} was killed by SIGKILL; another takes its place" for pid in killed
        ]
