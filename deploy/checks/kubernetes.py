"""Holds the Kubernetes manifests together: what refers to something finds it, and no pod may more than it needs.

The schemas are checked by kubernetes-validate.
"""

import yaml

from project import DATA_DIR, DEPLOY, PORT, STOP, check_environment, commands, expect, image_user, pinned, route_exists, settle

FOLDER = DEPLOY / "kubernetes"
# Applied by themselves: secrets are made elsewhere, a migration comes before the nodes.
APART = {"secret.example.yaml", "migrate.yaml"}
SETTLED_IN_SECRETS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def documents() -> list[tuple[str, dict]]:
    found = []
    for file in sorted(FOLDER.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            found += [(file.name, document) for document in yaml.safe_load_all(file.read_text())]
    assert len(found) > 12, "the manifests are found"
    return found


def pods(all_documents: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    """The pod templates, each with its name."""
    found = []
    for _, document in all_documents:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found.append((f"{document['kind']} {document['metadata']['name']}", spec["template"]))
    assert len(found) == 7, "the pods are found"
    return found


def matches(selector: dict, labels: dict) -> bool:
    return selector.items() <= labels.items()


def check_kustomization() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    listed, there = set(kustomization["resources"]), {file.name for file in FOLDER.glob("*.yaml")}
    expect(listed == there - APART - {"kustomization.yaml"}, f"kustomization.yaml lists {sorted(listed)}")
    expect(pinned(f"x:{kustomization['images'][0]['newTag']}"), "the image of the nodes has no tag")


def check_container(who: str, container: dict) -> None:
    security = container.get("securityContext", {})
    expect(security.get("allowPrivilegeEscalation") is False, f"{who} may gain privileges")
    expect(security.get("readOnlyRootFilesystem") is True, f"{who} may write its root file system")
    expect(security.get("capabilities", {}).get("drop") == ["ALL"], f"{who} keeps capabilities")
    expect("memory" in container.get("resources", {}).get("limits", {}), f"{who} may take all memory")
    expect(container["image"] == "callvault" or pinned(container["image"]), f"{who} has an image without a tag")
    if "callvault" in container["image"]:
        expect(container["args"][0] in commands(), f"{who} runs {container['args'][0]}, which is no command")
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        expect({DATA_DIR, "/tmp"} <= written, f"{who} lacks a folder that it writes: {written}")


def check_pod(who: str, template: dict, configured: dict[str, set[str]], volumes: set[str]) -> None:
    spec = template["spec"]
    security = spec["securityContext"]
    expect(security.get("runAsNonRoot") is True, f"{who} may run as root")
    expect(security.get("runAsUser") == image_user() != 0, f"{who} is not the user of the image")
    expect(security.get("fsGroup") == image_user(), f"{who} can't write its volumes")
    expect(security.get("seccompProfile", {}).get("type") == "RuntimeDefault", f"{who} has no seccomp profile")
    expect(spec.get("enableServiceLinks") is False, f"{who} gets variables of services, which callvault refuses")
    expect(spec.get("automountServiceAccountToken") is False, f"{who} gets a token for Kubernetes")
    known = {volume["name"] for volume in spec.get("volumes", [])} | volumes
    for container in spec.get("initContainers", []) + spec["containers"]:
        check_container(f"{who}, {container['name']}", container)
        for mount in container["volumeMounts"]:
            expect(mount["name"] in known, f"{who} mounts {mount['name']}, which is no volume")
        for source in container.get("envFrom", []):
            name = next(f"{kind} {of['name']}" for kind, of in source.items())
            expect(name in configured, f"{who} reads {name}, which nothing makes")


def check_nodes(document: dict) -> None:
    spec = document["spec"]["template"]["spec"]
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expect(ports == {"http": PORT}, "the nodes listen elsewhere")
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        get = container[probe]["httpGet"]
        expect(get == {"path": path, "port": "http"} and route_exists(path), f"the {probe} asks {get}")
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    expect(spec["terminationGracePeriodSeconds"] >= pause + STOP + 5, "a node is killed before it could stop")
    retention = document["spec"]["persistentVolumeClaimRetentionPolicy"]
    expect(set(retention.values()) == {"Retain"}, "a spool with webhooks may be thrown away")
    apart = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    expect(apart["topologyKey"] == "kubernetes.io/hostname", "two nodes may share one machine")
    labels = document["spec"]["template"]["metadata"]["labels"]
    expect(matches(apart["labelSelector"]["matchLabels"], labels), "the nodes are kept apart from others")


def check_selectors(by_kind: dict[str, list[dict]]) -> None:
    nodes = by_kind["StatefulSet"][0]
    labels = nodes["spec"]["template"]["metadata"]["labels"]
    others = [who["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"] for who in by_kind["CronJob"]]
    others += [who["spec"]["template"]["metadata"]["labels"] for who in by_kind["Job"]]
    chosen = {f"Service {one['metadata']['name']}": one["spec"]["selector"] for one in by_kind["Service"]}
    chosen["PodDisruptionBudget"] = by_kind["PodDisruptionBudget"][0]["spec"]["selector"]["matchLabels"]
    chosen["StatefulSet"] = nodes["spec"]["selector"]["matchLabels"]
    policies = {one["metadata"]["name"]: one["spec"] for one in by_kind["NetworkPolicy"]}
    chosen["NetworkPolicy callvault-nodes"] = policies["callvault-nodes"]["podSelector"]["matchLabels"]
    for who, selector in chosen.items():
        expect(matches(selector, labels), f"{who} does not find the nodes")
        expect(not any(matches(selector, other) for other in others), f"{who} finds jobs too")
    all_pods = policies["callvault"]["podSelector"]["matchLabels"]
    expect(all(matches(all_pods, one) for one in [labels, *others]), "a pod is outside of the network policy")
    expect(set(policies["callvault"]["policyTypes"]) == {"Ingress", "Egress"}, "the network policy leaves a way open")
    services = {one["metadata"]["name"] for one in by_kind["Service"]}
    expect(nodes["spec"]["serviceName"] in services, "the nodes have no service of their own")
    ingress = by_kind["Ingress"][0]["spec"]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"]
    expect(backend in services, "the ingress leads nowhere")
    expect(ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]], "the ingress has no TLS")


def check_targets(nodes: dict) -> None:
    """Prometheus names every node."""
    scraped = yaml.safe_load((DEPLOY / "prometheus/kubernetes.yaml").read_text())["scrape_configs"][0]
    name, service = nodes["metadata"]["name"], nodes["spec"]["serviceName"]
    namespace = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["namespace"]
    wanted = [f"{name}-{at}.{service}.{namespace}.svc:{PORT}" for at in range(nodes["spec"]["replicas"])]
    expect(scraped["static_configs"][0]["targets"] == wanted, f"Prometheus does not scrape {wanted}")


def check_policy(spec: dict) -> None:
    """Out: names, PostgreSQL, S3, HTTPS; and HTTPS never to the machine's metadata or to private networks."""
    ports = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    expect(ports == {53, 443, 5432, 7480}, f"the way out is open for {sorted(ports)}")
    expect(all(rule.get("to") for rule in spec["egress"]), "a way out leads everywhere")
    for rule in spec["egress"]:
        for block in (to["ipBlock"] for to in rule["to"] if "ipBlock" in to):
            private = {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
            open_to_all = block["cidr"] == "0.0.0.0/0" and not private <= set(block.get("except", []))
            expect(not open_to_all, "the way to the internet leads into private networks too")


def main() -> None:
    all_documents = documents()
    by_kind: dict[str, list[dict]] = {}
    for _, document in all_documents:
        by_kind.setdefault(document["kind"], []).append(document)
    check_kustomization()
    configured = {f"configMapRef {one['metadata']['name']}": set(one["data"]) for one in by_kind["ConfigMap"]}
    for secret in by_kind["Secret"]:
        configured[f"secretRef {secret['metadata']['name']}"] = set(secret["stringData"])
        expect(not any(secret["stringData"].values()), f"a value stands in the secret {secret['metadata']['name']}")
    for name, variables in configured.items():
        check_environment(f"deploy/kubernetes, {name}", variables - SETTLED_IN_SECRETS)
    claims = {claim["metadata"]["name"] for claim in by_kind["StatefulSet"][0]["spec"]["volumeClaimTemplates"]}
    for who, template in pods(all_documents):
        check_pod(who, template, configured, claims if who.startswith("StatefulSet") else set())
    for job in by_kind["CronJob"]:
        spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        claim = spec["volumes"][0]["persistentVolumeClaim"]["claimName"]
        expect(claim in {f"{one}-callvault-0" for one in claims}, f"{claim} is no volume of the first node")
    check_nodes(by_kind["StatefulSet"][0])
    check_selectors(by_kind)
    check_targets(by_kind["StatefulSet"][0])
    check_policy(next(one["spec"] for one in by_kind["NetworkPolicy"] if one["metadata"]["name"] == "callvault"))
    owners = [who for who, template in pods(all_documents) if "callvault-owner" in str(template)]
    expect(owners == ["Job callvault-migrate"], f"the owner's password is known to {owners}")
    settle(f"kubernetes: {len(all_documents)} objects fit together")


main()
