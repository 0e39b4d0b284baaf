"""Compares what the runtime role may do with what the program's statements need: nothing less, and nothing more.

usage: grants.py SRC < "table|PRIVILEGE" lines, as psql -At prints them
"""

import pathlib
import re
import sys

# The only module that migrates, which the owner does.
OWNERS = "db"
# What disposition needs, and has a role of its own for.
DISPOSITION = {("journal_bodies", "DELETE")}
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
NAME = r"([a-z_]+)"


def product(text: str) -> str:
    """Without unit tests and comments."""
    text = text.split("#[cfg(test)]\nmod tests {")[0]
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def statements(text: str) -> list[str]:
    """The texts that are SQL, with "on conflict" joined to the insert that stands before it."""
    found: list[str] = []
    for literal in LITERAL.findall(product(text)):
        sql = " ".join(literal.replace("\\\n", " ").split()).lower()
        if sql.startswith("on conflict") and found:
            found[-1] += " " + sql
        elif re.match(r"(select|insert into|update|delete from|with) ", sql):
            found.append(sql)
    return found


def needs(sql: str) -> set[tuple[str, str]]:
    """The privileges that one statement needs."""
    wanted = {(table, "SELECT") for table in re.findall(rf"\b(?:from|join) {NAME}", sql)}
    insert = re.match(rf"insert into {NAME}", sql)
    if insert:
        wanted.add((insert[1], "INSERT"))
        if "on conflict" in sql:
            wanted.add((insert[1], "SELECT"))
        if "do update" in sql:
            wanted.add((insert[1], "UPDATE"))
    for table in re.findall(rf"(?<!for )(?<!do )\bupdate {NAME} (?:\w+ )?set\b", sql):
        wanted |= {(table, "UPDATE"), (table, "SELECT")}
    for table in re.findall(rf"\bdelete from {NAME}", sql):
        wanted |= {(table, "DELETE"), (table, "SELECT")}
    if re.search(r"\bfor (no key )?update\b", sql):
        wanted |= {(table, "UPDATE") for table, _ in set(wanted)}
    return wanted


def main() -> None:
    source = pathlib.Path(sys.argv[1])
    granted = {tuple(line.strip().split("|")) for line in sys.stdin if line.strip()}
    tables = {table for table, _ in granted}
    needed: dict[tuple[str, str], str] = {}
    for file in sorted(source.rglob("*.rs")):
        name = str(file.relative_to(source))
        if name.startswith(OWNERS + "/") or name.endswith("tests.rs") or "/tests/" in name:
            continue
        for sql in statements(file.read_text()):
            for need in needs(sql):
                # Whatever is no table of ours (SQLite's own, a common table expression) is not asked for.
                if need[0] in tables:
                    needed.setdefault(need, name)
    needed.setdefault(("schema_version", "SELECT"), OWNERS)
    writes = [need for need in needed if need[1] != "SELECT"]
    assert len(writes) > 12, f"the statements are found: {writes}"
    lacking = needed.keys() - granted - DISPOSITION
    wrong = [f"{needed[need]} needs {need[1]} on {need[0]}: add it to grants.sql" for need in lacking]
    spare = granted - needed.keys()
    wrong += [f"nothing needs {need[1]} on {need[0]}: take it out of grants.sql" for need in spare]
    if wrong:
        sys.exit("\n".join(sorted(wrong)))
    print(f"{len(needed)} privileges needed, {len(granted)} granted")


main()
