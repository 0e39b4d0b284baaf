"""Holds rules and dashboard against the metrics that the program exports: names, labels, and that nothing is unseen.

usage: monitoring.py SRC PROMETHEUS_FOLDER DASHBOARD.json
"""

import json
import pathlib
import re
import sys

import promql_parser
import yaml

# Only in programs that are built to be broken.
TEST_ONLY = {"callvault_fault_points"}
# What Prometheus itself knows of every target.
OWN_LABELS = {"job", "instance"}
SEVERITIES = {"critical", "warning", "none"}
MACRO = re.compile(r'metrics::(gauge|counter|histogram)!\(\s*"(callvault_\w+)"((?:[^()]|\([^()]*\))*)\)')

wrong: list[str] = []


def expect(holds: object, what: str) -> None:
    if not holds:
        wrong.append(what)


def exported(source: pathlib.Path) -> dict[str, tuple[str, set[str]]]:
    """Every metric with its kind and its labels."""
    found: dict[str, tuple[str, set[str]]] = {}
    for file in source.rglob("*.rs"):
        for kind, name, rest in MACRO.findall(file.read_text()):
            labels = set(re.findall(r'"(\w+)"\s*=>', rest))
            found[name] = (kind, found.get(name, ("", set()))[1] | labels)
    for name in TEST_ONLY:
        found.pop(name, None)
    assert len(found) > 12, f"the metrics are found: {sorted(found)}"
    return found


def series(metrics: dict[str, tuple[str, set[str]]]) -> dict[str, set[str]]:
    """The names under which they are stored, with their labels."""
    known = {"up": OWN_LABELS}
    for name, (kind, labels) in metrics.items():
        if kind == "histogram":
            known |= {f"{name}{suffix}": labels | OWN_LABELS for suffix in ("_sum", "_count")}
            known[f"{name}_bucket"] = labels | OWN_LABELS | {"le"}
        else:
            known[name] = labels | OWN_LABELS
    return known


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics of an expression, each with the labels that it is chosen by."""
    bare = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", expression)
    found = re.findall(r"\b(callvault_\w+|up)\b(?:\{([^}]*)\})?", bare)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inner))) for name, inner in found]


def check_expression(where: str, expression: str, known: dict[str, set[str]]) -> set[str]:
    plain = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
    try:
        promql_parser.parse(plain)
    except ValueError as error:
        wrong.append(f"{where}: {error}: {expression}")
    used = selectors(expression)
    for name, labels in used:
        expect(name in known, f"{where} uses {name}, which nothing exports")
        for label in labels - known.get(name, labels):
            wrong.append(f"{where} chooses {name} by {label}, a label that it does not have")
        expect("job" in labels, f"{where} uses {name} of any job")
    for label in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        for one in filter(None, (part.strip() for part in label.split(","))):
            expect(any(one in known.get(name, ()) for name, _ in used), f"{where} groups by {one}, which nothing has")
    return {name for name, _ in used}


def check_rules(folder: pathlib.Path, known: dict[str, set[str]]) -> set[str]:
    used: set[str] = set()
    tests = "\n".join(file.read_text() for file in sorted(folder.glob("*.test.yaml")))
    alerts = [rule for group in yaml.safe_load((folder / "callvault.rules.yaml").read_text())["groups"] for rule in group["rules"]]
    assert len(alerts) > 20, "the alerts are found"
    for rule in alerts:
        name = rule["alert"]
        used |= check_expression(name, rule["expr"], known)
        expect(rule.get("labels", {}).get("severity") in SEVERITIES, f"{name} has no severity")
        for part in ("summary", "description", "action"):
            expect(rule.get("annotations", {}).get(part), f"{name} has no {part}")
        if name != "CallvaultWatchdog":
            fires = f'count by (alertname, severity) (ALERTS{{alertname="{name}",alertstate="firing"}})'
            expect(fires in tests, f"no test sees {name} fire")
    names = [rule["alert"] for rule in alerts]
    expect(len(names) == len(set(names)), "two alerts have one name")
    # One test holds everything against an archive that is well; it proves nothing about a value that it leaves out.
    healthy = tests.split("a healthy archive raises nothing but the watchdog")[1].split("- name:")[0]
    for name in used:
        expect(f"{name}{{" in healthy, f"the test of a healthy archive leaves out {name}")
    return used


def check_dashboard(path: pathlib.Path, known: dict[str, set[str]]) -> set[str]:
    dashboard = json.loads(path.read_text())
    panels, used, taken = dashboard["panels"], set(), set()
    expect(len({panel["id"] for panel in panels}) == len(panels), "two panels have one id")
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        expect(place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']} lies over another panel")
        taken |= cells
        if panel["type"] == "row":
            continue
        expect(panel.get("description"), f"{panel['title']} has no description")
        expect(panel["targets"], f"{panel['title']} shows nothing")
        for target in panel["targets"]:
            expect(target["datasource"]["uid"] == "${datasource}", f"{panel['title']} has a data source of its own")
            used |= check_expression(f"panel {panel['title']}", target["expr"], known)
    return used


def check_beginnings(source: pathlib.Path, metrics: dict[str, tuple[str, set[str]]]) -> None:
    """A counter that appears with its first event hides it from rate() and increase()."""
    text = "\n".join(file.read_text() for file in source.rglob("*.rs"))
    for name in (name for name, (kind, _) in metrics.items() if kind == "counter"):
        begins = re.search(rf'metrics::counter!\("{name}"[^;]*\)\.increment\(0\);', text)
        expect(begins, f"{name} does not begin at 0")
    for name in metrics:
        expect(re.search(rf'describe_\w+!\(\s*"{name}"', text), f"{name} does not say what it is")


def main() -> None:
    source, folder, dashboard = map(pathlib.Path, sys.argv[1:4])
    metrics = exported(source)
    known = series(metrics)
    check_beginnings(source, metrics)
    in_rules = check_rules(folder, known)
    shown = check_dashboard(dashboard, known)
    for name in metrics:
        stored = {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"}
        expect(stored & shown, f"{name} is on no panel of the dashboard")
    for label in ('route="/webhooks/doubletick"', 'outcome="failed"', 'outcome="archived"', 'outcome="quarantined"'):
        value = label.split('"')[1]
        expect(any(f'"{value}"' in file.read_text() for file in source.rglob("*.rs")), f"nothing in src says {value}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(metrics)} metrics, {len(in_rules)} series in rules, {len(shown)} on the dashboard")


main()
