//! The style of the sources, checked: sizes, where SQL may stand, which module may know which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

/// Modules and files whose work is to talk to the database.
const SQL_ALLOWED: &[&str] = &[
    "db/",
    "nodes.rs",
    "journal/",
    "calls/",
    "access/",
    "archiver/work.rs",
    "archiver/retry.rs",
    "archiver/analyse.rs",
    "flags/evaluator.rs",
    "retention/adopted.rs",
    "retention/events.rs",
    "custody/",
    "verify/derived.rs",
    "fixity/ledger.rs",
    "schedule/ledger.rs",
    "reports/stock.rs",
    "reports/scratch.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let base = root().join(folder);
    let files = crate::leftovers::files(&base);
    let rust = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let read = |file: PathBuf| {
        let name = file.strip_prefix(&base).unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(&file).unwrap())
    };
    let found: Vec<_> = rust.map(read).collect();
    assert!(!found.is_empty(), "{folder}");
    found
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.ends_with("testing.rs") || name.contains("tests/")
}

/// What comes before a file's unit tests.
fn product(text: &str) -> &str {
    let inline = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    &text[..inline]
}

/// Lines without comments, with what stands in texts and characters left out where that matters for braces.
fn code_lines(text: &str) -> Vec<String> {
    let strip = |line: &str| {
        let line = line.trim_start();
        if line.starts_with("//") { String::new() } else { line.split(" // ").next().unwrap_or(line).to_owned() }
    };
    text.lines().map(strip).collect()
}

fn braces(line: &str) -> i32 {
    let line = line.replace("'{'", "").replace("'}'", "").replace("{{", "").replace("}}", "");
    let outside: String = line.split('"').step_by(2).collect();
    outside.chars().map(|c| i32::from(c == '{') - i32::from(c == '}')).sum()
}

/// Functions with their numbers of lines, the signature among them.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines = code_lines(text);
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let modifiers = ["pub", "async", "const", "extern", "pub(super)", "pub(crate)", "pub(in", "crate::web)"];
        if !words[..at].iter().all(|word| modifiers.contains(word)) {
            continue;
        }
        let name = words.get(at + 1).and_then(|word| word.split(['(', '<']).next()).unwrap_or_default();
        let (mut depth, mut opened) = (0, false);
        for (count, line) in lines[start..].iter().enumerate() {
            let change = braces(line);
            opened |= line.contains('{');
            depth += change;
            if (opened && depth <= 0) || (!opened && line.ends_with(';')) {
                found.push((name.to_owned(), count + 1));
                break;
            }
        }
    }
    found
}

#[test]
fn files_fit_a_reader() {
    for folder in ["src", "tests"] {
        for (name, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(lines <= MAX_FILE_LINES, "{folder}/{name} has {lines} lines");
        }
    }
}

#[test]
fn functions_fit_a_screen() {
    let (mut too_long, mut all) = (Vec::new(), 0);
    for folder in ["src", "tests"] {
        for (name, text) in sources(folder) {
            let text = if folder == "src" { product(&text) } else { &text };
            if folder == "src" && is_test_file(&name) {
                continue;
            }
            for (function, lines) in functions(text) {
                all += 1;
                if lines > MAX_FUNCTION_LINES {
                    too_long.push(format!("{folder}/{name}: {function} has {lines} lines"));
                }
            }
        }
    }
    assert!(all > 500, "the functions are found: {all}");
    assert_eq!(too_long, [""; 0]);
}

/// The texts of a source, as far as they can be told without a parser: whatever stands between quotes, over lines.
fn texts(code: &str) -> Vec<String> {
    let code = code.replace("\\\"", "").replace("'\"'", "");
    code.split('"').skip(1).step_by(2).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn is_statement(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let both = |first: &str, second: &str| text.starts_with(first) && text.contains(second);
    both("select ", " from ") || both("insert into ", "") || both("update ", " set ") || both("delete from ", "")
}

#[test]
fn sql_stands_in_its_place() {
    let mut found = Vec::new();
    let mut inside = 0;
    for (name, text) in sources("src") {
        let allowed = SQL_ALLOWED.iter().any(|place| name.starts_with(place));
        let code = code_lines(product(&text)).join("\n");
        let statements = texts(&code).into_iter().filter(|text| is_statement(text));
        if allowed || is_test_file(&name) {
            inside += statements.count();
        } else {
            found.extend(statements.map(|statement| format!("{name}: {statement}")));
        }
        if !name.starts_with("db/") && code.contains("sqlx::") {
            found.push(format!("{name} knows sqlx"));
        }
    }
    assert!(inside > 40, "statements are found where they belong: {inside}");
    assert_eq!(found, [""; 0]);
}

#[test]
fn only_the_clock_knows_the_time() {
    for (name, text) in sources("src") {
        if name == "clock.rs" || name.starts_with("demo") || is_test_file(&name) {
            continue;
        }
        for (number, line) in code_lines(product(&text)).iter().enumerate() {
            for asks in ["SystemTime::now", "Timestamp::now", "Zoned::now", "Utc::now"] {
                assert!(!line.contains(asks), "{name}:{}: ask the Clock", number + 1);
            }
        }
    }
}

#[test]
fn modules_know_only_those_before_them() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = code_lines(&lib)
        .into_iter()
        .filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned()));
    let order: BTreeMap<String, usize> = declared.enumerate().map(|(place, name)| (name, place)).collect();
    assert!(order.len() > 15, "the modules are found: {order:?}");
    let mut backwards = std::collections::BTreeSet::new();
    for (name, text) in sources("src") {
        let module = name.split('/').next().unwrap().trim_end_matches(".rs");
        let (Some(own), false) = (order.get(module), is_test_file(&name)) else { continue };
        let code = code_lines(product(&text)).join("\n");
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if order.get(&used).is_some_and(|place| place > own) {
                backwards.insert(format!("{name} uses {used}, which stands after {module}"));
            }
        }
    }
    assert_eq!(Vec::from_iter(backwards), [""; 0]);
}

#[test]
fn the_rules_can_be_broken() {
    let long = format!("pub async fn long() {{\n{}}}\n", "    work();\n".repeat(69));
    assert_eq!(functions(&long), [("long".to_owned(), 71)]);
    assert_eq!(functions("fn short(\n    a: u8,\n) -> u8 {\n    a\n}\ntrait T {\n    fn none(&self);\n}\n").len(), 2);
    assert!(is_statement(&texts("let sql = \"select a\n   from b\";")[0]));
    assert!(!is_statement("select a file from the list".strip_prefix("select ").unwrap()));
}
