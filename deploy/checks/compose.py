"""Holds compose.yaml together: no secret in it, every reference found, and no service may more than it needs.

Its schema is checked by check-jsonschema. usage: compose.py FILLED_ENV    an env file that new-env.sh made
"""

import pathlib
import re
import sys

import yaml

from project import DATA_DIR, DEPLOY, PORT, STOP, check_environment, commands, expect, pinned, settle

VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|DATABASE__URL")
# Its start as root, on its own folder, is the image's own.
ROOTED = {"postgres"}
HAS_HEALTH_CHECK = {"callvault": "Dockerfile", "callvault-s3": "s3/Dockerfile"}
NODES = ["node1", "node2"]
DONE, WELL = "service_completed_successfully", "service_healthy"


def check_variables(text: str, example: str) -> None:
    used = {name: (kind, rest) for name, kind, rest in VARIABLE.findall(text)}
    offered = dict(line.split("=", 1) for line in example.splitlines() if "=" in line and not line.startswith("#"))
    expect(used.keys() == offered.keys(), f".env.example and compose.yaml differ by {sorted(used.keys() ^ offered.keys())}")
    secrets = re.findall(r"^# secret.*\n(\w+)=(.*)$", example, re.M)
    expect(len(secrets) > 5 and not any(value for _, value in secrets), "a secret has a value in .env.example")
    for name, _ in secrets:
        expect(used[name][0] == "?", f"compose.yaml goes on without {name}")
    for name in offered.keys() - {name for name, _ in secrets} - {"DOUBLETICK_API_KEY"}:
        expect(not SECRET.search(name), f"{name} is no secret in .env.example")


def check_filled(path: pathlib.Path, text: str) -> None:
    filled = dict(line.split("=", 1) for line in path.read_text().splitlines())
    for name, kind, _ in VARIABLE.findall(text):
        expect(filled.get(name) or kind != "?", f"new-env.sh gives no {name}")
    tokens = [value for name, value in filled.items() if name.endswith("_TOKEN")]
    expect(len(set(tokens)) == len(tokens) == 3 and all(len(token) >= 24 for token in tokens), "the tokens are too weak")
    expect((path.parent / "secrets/scrape_token").read_text() == filled["SCRAPE_TOKEN"], "Prometheus gets another token")


def check_service(name: str, service: dict, everything: dict) -> None:
    image = service["image"]
    expect("build" in service or pinned(image), f"{name} has an image without a tag")
    expect("no-new-privileges:true" in service.get("security_opt", []), f"{name} may gain privileges")
    if name not in ROOTED:
        expect(service.get("read_only") is True, f"{name} may write its root file system")
        expect(service.get("cap_drop") == ["ALL"], f"{name} keeps capabilities")
    for variable, value in service.get("environment", {}).items():
        bare = VARIABLE.sub("", str(value))
        hidden = SECRET.search(variable) and not re.fullmatch(r"(|\w+=(,\w+=)*|postgres://\w+:@postgres/callvault)", bare)
        expect(not hidden, f"{name} has {variable} in clear")
    if "callvault" in service.get("environment", {}).get("CALLVAULT_STORAGE__S3__BUCKET", ""):
        check_environment(f"compose.yaml, {name},", service["environment"])
    for kind, place in (("volumes", "volumes"), ("networks", "networks"), ("secrets", "secrets")):
        for one in service.get(kind, []):
            source = one.split(":")[0]
            if source.startswith("."):
                expect((DEPLOY / source).exists(), f"{name} mounts {source}, which is not there")
                expect(one.endswith(":ro"), f"{name} may write {source}")
            else:
                expect(source in everything[place], f"{name} names {source}, which is not among the {place}")
    for other, how in service.get("depends_on", {}).items():
        awaited = everything["services"].get(other, {})
        expect(awaited, f"{name} waits for {other}, which is not there")
        if how["condition"] == WELL:
            built = HAS_HEALTH_CHECK.get(awaited["image"])
            checked = "healthcheck" in awaited or (built and "\nHEALTHCHECK " in (DEPLOY / built).read_text())
            expect(checked, f"{name} waits for the health of {other}, which nothing checks")
    for port in service.get("ports", []):
        expect(name == "proxy" or port.startswith("127.0.0.1:"), f"{name} is open to everybody on {port}")


def check_order(services: dict) -> None:
    """Roles, migrate, grants, then the nodes; and each knows the passwords of its own role alone."""
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    expect(waits["roles"] == {"postgres": {"condition": WELL}}, "roles does not wait for PostgreSQL")
    expect(waits["migrate"].get("roles") == {"condition": DONE}, "migrate does not wait for roles")
    expect(waits["grants"] == {"migrate": {"condition": DONE}}, "grants does not wait for migrate")
    for node in NODES:
        expect(waits[node] == {"grants": {"condition": DONE}, "s3": {"condition": WELL}}, f"{node} does not wait")
        seconds = int(services[node]["stop_grace_period"].removesuffix("s"))
        expect(seconds >= STOP + 5, f"{node} is killed before it could stop")
        expect(services[node]["environment"]["CALLVAULT_DATABASE__MIGRATE"] == "false", f"{node} migrates")
        expect([volume.split(":") for volume in services[node]["volumes"]] == [[node, DATA_DIR]], f"{node} has no data of its own")
    knows = {
        "POSTGRES_PASSWORD": {"postgres", "roles"},
        "OWNER_PASSWORD": {"roles", "migrate", "grants"},
        "RUNTIME_PASSWORD": {"roles", *NODES},
        "S3_SECRET_KEY": {"s3", "migrate", *NODES},
    }
    for variable, allowed in knows.items():
        know = {name for name, service in services.items() if f"${{{variable}:" in str(service.get("environment"))}
        expect(know == allowed, f"{variable} is known to {sorted(know)}")
    expect(services["migrate"]["command"][0] in commands(), "migrate runs no command of callvault")


def check_names(everything: dict) -> None:
    """Proxy and Prometheus ask every node, and nobody reaches the database from outside."""
    wanted = [f"{node}:{PORT}" for node in NODES]
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"][0]
    expect(scraped["static_configs"][0]["targets"] == wanted, f"Prometheus does not scrape {wanted}")
    token = scraped["authorization"]["credentials_file"]
    expect(token == f"/run/secrets/{everything['services']['prometheus']['secrets'][0]}", f"{token} is not mounted")
    proxied = re.search(r"reverse_proxy (.*) \{", (DEPLOY / "compose/Caddyfile").read_text())[1].split()
    expect(proxied == wanted, f"the proxy asks {proxied}")
    expect(everything["networks"]["back"] == {"internal": True}, "the inner network has a way out")
    for name in ("postgres", "s3"):
        expect(everything["services"][name]["networks"] == ["back"], f"{name} can be reached from the outer network")
    unused = set(everything["volumes"]) - {
        volume.split(":")[0] for service in everything["services"].values() for volume in service.get("volumes", [])
    }
    expect(not unused, f"nobody uses the volumes {unused}")


def main() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    everything = yaml.safe_load(text)
    check_variables(text, (DEPLOY / ".env.example").read_text())
    check_filled(pathlib.Path(sys.argv[1]), text)
    for name, service in everything["services"].items():
        check_service(name, service, everything)
    check_order(everything["services"])
    check_names(everything)
    settle(f"compose: {len(everything['services'])} services fit together")


main()
