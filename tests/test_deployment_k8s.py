"""deploy/k8s and the autoscaling, as far as they can be proved without a cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml

from shared import config
from shared.config import PROJECT_DIR
from shared.connection import connect
from tests import machines

K8S = PROJECT_DIR / "deploy" / "k8s"
REDIS = PROJECT_DIR / "deploy" / "redis"
VERSION = "1.34"
PARTS = ("capture", "events", "worker", "web")
# KEDA's ScaledObject and prometheus trigger, by its documentation (2.15): fields and their types.
TRIGGER = {"type": str, "name": str, "metricType": str, "metadata": dict}
PROMETHEUS = {
    *("serverAddress", "query", "queryParameters", "threshold", "activationThreshold"),
    *("namespace", "customHeaders", "ignoreNullValues", "unsafeSsl", "authModes"),
}
SPEC = {
    "scaleTargetRef": dict,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "pollingInterval": int,
    "cooldownPeriod": int,
    "advanced": dict,
    "fallback": dict,
    "triggers": list,
}


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


@pytest.fixture(scope="module")
def base() -> list[dict[str, Any]]:
    """Every object of the base, as its kustomization names the files."""
    kustomization = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())
    files = [name for name in kustomization["resources"] if name.endswith(".yaml")]
    there = {path.name for path in (K8S / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(files) == there
    return [each for name in files for each in documents(K8S / "base" / name)]


def deployments(base: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in base:
        if each["kind"] == "Deployment":
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def test_every_object_fits_kubernetes_own_schema(base: list[dict[str, Any]]) -> None:
    for each in base:
        kubernetes_validate.validate(each, VERSION, strict=True)
    assert {name for name, _ in deployments(base)} == {"redis", *PARTS}


def test_the_schema_check_would_notice_a_mistake(base: list[dict[str, Any]]) -> None:
    worker = next(each for each in base if each["metadata"]["name"] == "worker")
    broken = {**worker, "spec": {**worker["spec"], "replica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(broken, VERSION, strict=True)


def test_pods_meet_the_restricted_standard(base: list[dict[str, Any]]) -> None:
    """The namespace asks for it, so a pod that did not would never start."""
    for name, pod in deployments(base):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            limits = container["securityContext"]
            assert limits["capabilities"] == {"drop": ["ALL"]}, name
            assert limits["allowPrivilegeEscalation"] is False, name
            assert limits["readOnlyRootFilesystem"] is True, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
            assert "readinessProbe" in container, name


def test_what_pods_refer_to_is_there(base: list[dict[str, Any]]) -> None:
    secrets = set(re.findall(r"^(\w+)=", (K8S / "base" / "secrets.example.env").read_text(), re.M))
    claims = {each["metadata"]["name"] for each in base if each["kind"] == "PersistentVolumeClaim"}
    wanted: set[str] = set()
    for name, pod in deployments(base):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or claim["claimName"] in claims, name
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes, name
            for variable in container["env"]:
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    assert reference["name"] == "moodline-secrets", name
                    wanted.add(reference["key"])
    assert wanted == secrets
    services = {
        each["metadata"]["name"]: each["spec"]["selector"]["app"]
        for each in base
        if each["kind"] == "Service"
    }
    assert services == {"redis": "redis", "web": "web"}


def test_each_part_starts_as_itself_with_its_own_user_of_redis(base: list[dict[str, Any]]) -> None:
    users = set(re.findall(r"^user (\S+)", (REDIS / "users.acl").read_text(), re.MULTILINE))
    known = {row.variable for row in config.describe(config.load())} | {"REDIS_PASSWORD"}
    settings = re.findall(r"^(\w+)=", (K8S / "base" / "settings.env").read_text(), re.MULTILINE)
    assert {name for name in settings if not name.startswith("AWS_")} <= known
    for name, pod in deployments(base):
        if name == "redis":
            continue
        (container,) = pod["containers"]
        assert container["args"] == [name]
        values = {each["name"]: each.get("value", "") for each in container["env"]}
        assert f"moodline-{name}" in users
        assert values["REDIS_URL"] == f"redis://moodline-{name}:$(REDIS_PASSWORD)@redis:6379/0"
        assert {each for each in values if not each.startswith("AWS_")} <= known


def test_redis_starts_as_the_deployment_says(base: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its script, run by a real shell with a real Redis, in folders of this test."""
    machines.require("redis-server", "redis-server")
    (pod,) = (pod for name, pod in deployments(base) if name == "redis")
    (container,) = pod["containers"]
    (script,) = container["args"]
    port = machines.free_port()
    shutil.copy(REDIS / "users.acl", tmp_path)
    for old, new in {
        "/users/users.acl": str(tmp_path / "users.acl"),
        "/run/redis": str(tmp_path / "run"),
        "--port 6379": f"--port {port} --bind 127.0.0.1",
    }.items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "run").mkdir()
    environment = {
        each["name"]: f"{each['name'].lower().replace('_', '')}secret" for each in container["env"]
    }
    command = [*container["command"], script]

    def answers(user: str, password: str) -> bool:
        client = connect(f"redis://{user}:{password}@127.0.0.1:{port}/0")
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()

    with machines.process(command, tmp_path / "log", environment):
        machines.wait_until(lambda: answers("admin", "redisadminpasswordsecret"), 10, "Redis")
        for part in PARTS:
            client = redis.Redis(
                port=port, username=f"moodline-{part}", password=f"redis{part}passwordsecret"
            )
            assert client.ping()
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.flushall()
            client.close()
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(port=port).ping()


def test_the_autoscaling_fits_keda(base: list[dict[str, Any]]) -> None:
    (scaled,) = documents(K8S / "autoscaled" / "worker-scaling.yaml")
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = scaled["spec"]
    for name, value in spec.items():
        assert isinstance(value, SPEC[name]), name
    assert spec["scaleTargetRef"]["name"] in dict(deployments(base))
    assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"]
    # What KEDA hands on to Kubernetes' own autoscaler must fit that one's schema.
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "worker"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"},
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": behavior,
        },
    }
    kubernetes_validate.validate(autoscaler, VERSION, strict=True)
    names = [trigger["name"] for trigger in spec["triggers"]]
    assert len(set(names)) == len(names) >= 1
    for trigger in spec["triggers"]:
        for name, value in trigger.items():
            assert isinstance(value, TRIGGER[name]), name
        assert trigger["type"] == "prometheus"
        assert trigger["metricType"] == "Value"
        assert {"serverAddress", "query", "threshold"} <= set(trigger["metadata"]) <= PROMETHEUS
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert float(trigger["metadata"]["threshold"]) > 0


def test_the_autoscaling_says_the_number_of_workers_alone() -> None:
    overlay = yaml.safe_load((K8S / "autoscaled" / "kustomization.yaml").read_text())
    assert overlay["resources"] == ["../base", "worker-scaling.yaml"]
    (patch,) = overlay["patches"]
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]


def test_no_secret_can_be_committed_by_accident() -> None:
    done = subprocess.run(
        ["git", "check-ignore", "deploy/k8s/base/secrets.env"],
        cwd=PROJECT_DIR,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    if done.returncode == 128:
        pytest.skip("no git checkout")
    assert done.returncode == 0
    example = (K8S / "base" / "secrets.example.env").read_text()
    assert all(line.endswith("=") for line in example.splitlines() if not line.startswith("#"))
