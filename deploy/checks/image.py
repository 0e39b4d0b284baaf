"""Checks what no linter knows of the Dockerfiles: that the build gets all that it reads, who the program runs as, and that the
health check tells a server that is well from one that is not, by running it.
"""

import http.server
import json
import os
import re
import socket
import subprocess
import threading
import tomllib

from project import DATA_DIR, DEPLOY, PORT, ROOT, check_environment, commands, expect, pinned, route_exists, settle


def logical_lines(text: str) -> list[str]:
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [" ".join(line.split()) for line in bare.replace("\\\n", " ").splitlines() if line.strip()]


def check_context() -> None:
    """Everything that the compiler reads is let in by .dockerignore, and nothing that holds data or secrets."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    expect(lines[0] == "*", ".dockerignore lets in what it does not name")
    let_in = {line.removeprefix("!") for line in lines[1:]}
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    read = {"Cargo.toml", "Cargo.lock", "src/main.rs", "templates"}
    for bench in manifest["bench"]:
        read.add(bench.get("path", f"benches/{bench['name']}.rs"))
    for file in (ROOT / "src").rglob("*.rs"):
        if file.name.endswith("_tests.rs"):
            continue
        text = file.read_text().split("#[cfg(test)]\nmod tests {")[0]
        for path in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', text):
            read.add(os.path.relpath((file.parent / path).resolve(), ROOT))
        for path in re.findall(r'migration!\("([^"]+)"\)', text):
            read |= {f"migrations/sqlite/{path}", f"migrations/postgres/{path}"}
    assert len(read) > 15, f"what is read is found: {read}"
    for path in sorted(read):
        expect(path.split("/")[0] in let_in, f"the build reads {path}, which .dockerignore keeps out")
        expect((ROOT / path).exists(), f"the build reads {path}, which is not there")
    for name in let_in:
        expect((ROOT / name).exists(), f".dockerignore lets in {name}, which is not there")
    expect(not let_in & {"deploy", "tests", "target", "callvault-data", "callvault-demo", ".git"}, "too much is let in")


def check_program(lines: list[str]) -> None:
    stages = [line for line in lines if line.startswith("FROM ")]
    expect(len(stages) == 2, "the compiler stays in the image")
    needed = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"]
    expect(stages[0] == f"FROM rust:{needed}-bookworm AS build", f"it is not built with Rust {needed}: {stages[0]}")
    expect("--locked" in " ".join(lines), "the build may take other versions than Cargo.lock")
    final = lines[lines.index(stages[1]) :]
    expect(f"VOLUME {DATA_DIR}" in final and f"EXPOSE {PORT}" in final, "the data or the port is elsewhere")
    variables = dict(re.findall(r"(CALLVAULT_\w+)=(\S+)", " ".join(final)))
    expect(variables == {"CALLVAULT_LISTEN": f"0.0.0.0:{PORT}", "CALLVAULT_DATA_DIR": DATA_DIR}, f"settings: {variables}")
    check_environment("deploy/Dockerfile", variables)
    expect(json.loads(final[-1].removeprefix("CMD "))[0] in commands(), f"it starts with {final[-1]}")


def check_any(name: str, lines: list[str]) -> None:
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    expect(users and re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1]), f"{name} runs as {users}")
    for line in lines:
        if line.startswith("FROM "):
            expect(pinned(line.split()[1]), f"{name}: {line} names no version")
    expect(any(line.startswith("HEALTHCHECK ") for line in lines), f"{name} has no health check")


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's status."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def health_of(command: list[str], status: int) -> int:
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    server.status, server.asked = status, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = [part.replace(f"/{PORT}", f"/{server.server_port}") for part in command]
    code = subprocess.run(there, capture_output=True, timeout=20, check=False).returncode
    server.shutdown()
    server.server_close()
    expect(server.asked and route_exists(server.asked[0]), f"the health check asks for {server.asked}")
    return code


def check_health(lines: list[str]) -> None:
    line = next(line for line in lines if line.startswith("HEALTHCHECK "))
    command = json.loads(line.split(" CMD ")[1])
    expect(health_of(command, 200) == 0, "the health check calls a server sick that is well")
    expect(health_of(command, 503) != 0, "the health check calls a server well that answers 503")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        closed = [part.replace(f"/{PORT}", f"/{port}") for part in command]
        code = subprocess.run(closed, capture_output=True, timeout=20, check=False).returncode
        expect(code != 0, "the health check calls a server well that is not there")
        silent.listen()
        code = subprocess.run(closed, capture_output=True, timeout=20, check=False).returncode
        expect(code != 0, "the health check calls a server well that never answers")


def main() -> None:
    program = logical_lines((DEPLOY / "Dockerfile").read_text())
    check_context()
    check_program(program)
    check_any("deploy/Dockerfile", program)
    check_any("deploy/s3/Dockerfile", logical_lines((DEPLOY / "s3/Dockerfile").read_text()))
    check_health(program)
    settle("images: the build gets what it reads, and the health check tells well from sick")


main()
