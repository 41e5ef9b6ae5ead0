"""Prometheus' rules and Grafana's dashboard against a real Prometheus, real servers and the real gateway."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lipsync_web import WebSettings
from lipsync_web.jobs.settings import JobSettings
from support.callers import Caller
from support.gateway import TOKENS, Gateway
from support.programs import program
from support.replicas import ROOT, Replica, free_port, status, wait_until
from support.triton_calls import Triton, slice_request, speech
from support.web import running

FOLDER = ROOT / "docker/prometheus"
DASHBOARD = ROOT / "docker/grafana/dashboards/lipsync.json"
RULES = [
    r for g in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for r in g["rules"]
]
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]
_METRIC = re.compile(r"\b(?:nv_|haproxy_|lipsync_|lipsync:)[a-z0-9_:]+")


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_alert_has_a_test() -> None:
    tested = {
        case["alertname"]
        for test in yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == set(ALERTS)


def test_each_alert_fires_on_its_own_condition() -> None:
    promtool = program("promtool")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        subprocess.run([promtool, *command], cwd=FOLDER, check=True, timeout=60)


class Prometheus:
    """A real Prometheus with the project's rules; the targets are given instead of discovered."""

    def __init__(self, folder: Path, targets: dict[str, list[str]]) -> None:
        binary = program("prometheus")
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": targets[job["job_name"]]}]
        shutil.copy(FOLDER / "alerts.yml", folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self._url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        wait_until("Prometheus is ready", lambda: status(self._url + "/-/ready") == 200)

    def query(self, expression: str) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return result

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(
    replicas: list[Replica], gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    def addresses(port: str) -> list[str]:
        return [f"{r.host}:{r.ports[port]}" for r in replicas]

    with running(WebSettings(jobs=JobSettings(workers=0))) as web:
        targets = {
            "triton": addresses("metrics"),
            "readiness": addresses("ready"),
            "gateway": [f"127.0.0.1:{gateway.stats_port}"],
            "web": [web.removeprefix("http://")],
        }
        started = Prometheus(tmp_path_factory.mktemp("prometheus"), targets)
        yield started
        started.close()


def test_every_metric_exists_and_every_query_has_data(
    prometheus: Prometheus, gateway: Gateway, gateway_folder: Path
) -> None:
    wait_until("both replicas are up", lambda: gateway.up() == 2)
    caller = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["anna"])
    tensors = Triton.tensors(**slice_request(speech(1.5), 8, 4))

    def factor() -> bool:
        caller.frames("grpc", "toy", tensors, "JPEG")
        return bool(prometheus.query("lipsync:realtime_factor:1m"))

    wait_until("frames are counted", factor)
    expressions = [rule["expr"] for rule in RULES] + queries()
    names = {name for expression in expressions for name in _METRIC.findall(expression)}
    assert len(names) > 15
    assert [name for name in sorted(names) if not prometheus.query(name)] == []

    def empty_queries() -> list[str]:
        factor()  # a rate needs two scrapes while requests go on
        return [query for query in queries() if not prometheus.query(query)]

    wait_until("every query of the dashboard has data", lambda: not empty_queries())
    caller.close()
    (frames,) = prometheus.query('lipsync:frames:rate1m{model="toy_generator"}')
    assert float(frames["value"][1]) > 0
    (made,) = prometheus.query('lipsync:frames_made:rate1m{avatar="toy", output="JPEG"}')
    assert float(made["value"][1]) > 0
    # Seconds per frame of every stage, and of no other.
    stages = prometheus.query("lipsync:stage_seconds_a_frame:1m")
    spent = {row["metric"]["stage"]: float(row["value"][1]) for row in stages}
    assert set(spent) == {"mel", "paste", "encode"}
    assert 0 < min(spent.values()) <= max(spent.values()) < 10
    assert prometheus.query("up == 0") == []


def test_a_callers_mistakes_raise_an_alert(
    prometheus: Prometheus, gateway: Gateway, gateway_folder: Path
) -> None:
    caller = Caller(gateway.address, gateway_folder / "ca.pem", TOKENS["anna"])
    too_many = Triton.tensors(speech(3.0), first=0, count=33)
    up = 'ALERTS{alertname="CallersRefused", model="mel", reason="too_many_frames"}'

    def raised() -> bool:
        with pytest.raises(Exception, match="at most 32"):
            caller.frames("http", "toy", too_many, "JPEG")
        return bool(prometheus.query(up))

    wait_until("the alert is raised", raised)
    caller.close()


def test_a_dead_model_raises_an_alert(prometheus: Prometheus, replicas: list[Replica]) -> None:
    replicas[1].kill_model("mel")
    dead = f'ALERTS{{alertname="ModelNotReady",model="mel",instance=~"{replicas[1].host}:.+"}}'
    wait_until("the alert is raised", lambda: prometheus.query(dead))
    replicas[1].stop()
    silent = 'ALERTS{alertname="ServerSilent"}'
    wait_until("the alert is raised", lambda: prometheus.query(silent))
    replicas[1].start()
    wait_until("both are over", lambda: not prometheus.query(dead) and not prometheus.query(silent))
