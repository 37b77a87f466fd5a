"""The files of `deploy/` against the code they deploy: probes, commands, configuration, privileges."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Kubernetes' pod security standard `restricted`, and a read-only root besides."""


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The objects of sidecar.yaml by kind."""
    return {o["kind"]: o for o in YAML(typ="safe").load_all((DEPLOY / "sidecar.yaml").read_text())}


@pytest.fixture(scope="module")
def sidecar(objects: dict[str, Any]) -> dict[str, Any]:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    return container


def commands() -> set[str]:
    """The subcommands of the command line."""
    from proxy.cli import app

    return {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}


def test_the_sidecar_is_native_and_unprivileged(objects: dict[str, Any], sidecar: dict[str, Any]) -> None:
    assert sidecar["restartPolicy"] == "Always"
    context = sidecar["securityContext"]
    assert {key: context[key] for key in RESTRICTED} == RESTRICTED
    assert context["runAsUser"] == 65532
    assert "cpu" not in sidecar["resources"]["limits"]


def test_the_config_map_is_a_valid_configuration(objects: dict[str, Any], sidecar: dict[str, Any]) -> None:
    from proxy.config import parse

    (mount,) = sidecar["volumeMounts"]
    assert "subPath" not in mount
    file = sidecar["args"][sidecar["args"].index("--config") + 1]
    directory, _, name = file.rpartition("/")
    assert directory == mount["mountPath"]
    loaded = parse(objects["ConfigMap"]["data"][name], "sidecar.yaml")
    assert not loaded.warnings
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": mount["name"], "configMap": {"name": objects["ConfigMap"]["metadata"]["name"]}} in volumes


def test_listeners_are_where_they_are_expected(objects: dict[str, Any], sidecar: dict[str, Any]) -> None:
    config = YAML(typ="safe").load(objects["ConfigMap"]["data"]["shardproxy.yaml"])
    (port,) = sidecar["ports"]
    # Probes come to the pod's address, the application to the loopback interface.
    assert config["admin"]["listen"] == f"0.0.0.0:{port['containerPort']}"
    template = objects["Deployment"]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    (application,) = template["spec"]["containers"]
    (variable,) = application["env"]
    for pool in config["pools"].values():
        assert [f"redis://{address}" for address in pool["listen"]] == [variable["value"]]
        assert all(address.startswith("127.0.0.1:") for address in pool["listen"])


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_what_the_admin_server_answers(sidecar: dict[str, Any], probe: str) -> None:
    from prometheus_client import CollectorRegistry

    from proxy.admin.server import Lifecycle, make_app

    app = make_app(None, CollectorRegistry(), Lifecycle())  # type: ignore[arg-type]
    request = sidecar[probe]["httpGet"]
    assert request["path"] in {getattr(route, "path", None) for route in app.routes}
    assert request["path"] == ("/livez" if probe == "livenessProbe" else "/readyz")
    assert request["port"] in {port["name"] for port in sidecar["ports"]}


def test_the_unit_runs_commands_that_exist() -> None:
    unit = (DEPLOY / "shardproxy.service").read_text()
    runs = [shlex.split(line) for line in re.findall(r"^ExecStart(?:Pre)?=(.*)$", unit, re.MULTILINE)]
    assert [run[1] for run in runs] == ["check", "run"]
    assert {run[1] for run in runs} <= commands()
    assert runs[0][2:] == runs[1][2:], "what is checked is what is run"
    assert "ExecReload" not in unit, "SIGHUP must reload before the unit may say so"


def test_the_unit_leaves_the_drain_its_time() -> None:
    from proxy.config import Config

    unit = (DEPLOY / "shardproxy.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert float(seconds) > Config.model_fields["shutdown_grace_seconds"].default


def test_the_image_runs_a_command_that_exists_and_not_as_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 65532:65532" in final
    assert 'ENTRYPOINT ["shardproxy"]' in final
    (arguments,) = re.findall(r'^CMD \["(\w+)", "--config"', "\n".join(final), re.MULTILINE)
    assert arguments in commands()
    assert not [line for line in final if line.startswith("COPY ") and "--from=packages" not in line]


def test_what_the_image_copies_from_the_checkout_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE)
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source


def test_reasons_are_explained_by_the_words_that_are_shown() -> None:
    from proxy.control.model import Reason
    from proxy.control.resync import Trouble

    table = (DEPLOY / "README.md").read_text().partition("\n### Reasons\n")[2]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    named = [word for row in rows for word in re.findall(r"`(\w+)`", row)]
    assert len(named) > 15
    assert set(named) <= {*map(str, Reason), *map(str, Trouble)}
    needing = {each for each in Reason if each.startswith(("record_", "bootstrap_"))}
    assert needing <= set(named), "what nobody but an operator mends"
