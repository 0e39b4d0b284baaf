"""What the program itself says that deployments rely on: its settings, its commands, its routes."""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PORT = 8470
DATA_DIR = "/var/lib/callvault"
# How long a stop of `serve` may take, in seconds.
STOP = 10

wrong: list[str] = []


def expect(holds: object, what: str) -> None:
    """Remembers what does not hold."""
    if not holds:
        wrong.append(what)


def settle(what: str) -> None:
    """Ends the check: with everything that does not hold, or with one line."""
    if wrong:
        sys.exit("\n".join(wrong))
    print(what)


def keys(table: dict, prefix: str = "") -> set[str]:
    """Every setting by its dotted name."""
    found = set()
    for name, value in table.items():
        found |= keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return found


def settings() -> set[str]:
    return keys(tomllib.loads((ROOT / "src/config/default.toml").read_text()))


def commands() -> set[str]:
    source = (ROOT / "src/cli/mod.rs").read_text()
    body = re.search(r"^enum Command \{\n(.*?)^\}", source, re.S | re.M)[1]
    known = {name.lower() for name in re.findall(r"^    ([A-Z]\w+)", body, re.M)}
    assert {"serve", "verify", "doctor"} <= known, f"the commands are found: {known}"
    return known


def route_exists(path: str) -> bool:
    return any(f'path = "{path}"' in file.read_text() for file in (ROOT / "src/web").rglob("*.rs"))


def check_environment(where: str, names: object) -> None:
    """The program refuses a variable that it does not know, so a misspelt one would stop every node."""
    known = settings()
    for name in names:
        if name.startswith("CALLVAULT_"):
            setting = name.removeprefix("CALLVAULT_").lower().replace("__", ".")
            expect(setting in known, f"{where} sets {name}: there is no setting {setting}")


def pinned(image: str) -> bool:
    tag = image.rpartition("/")[2].partition(":")[2]
    return bool(tag) and tag != "latest"


def image_user() -> int:
    """The user of our image, from the Dockerfile."""
    users = re.findall(r"^USER (\d+):\d+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    return int(users[-1]) if users else 0
