//! The two schemas say the same: tables, columns, their order, and what may be empty.

use std::collections::BTreeMap;

/// Columns of each table with what matters to us of their types.
type Tables = BTreeMap<String, Vec<(String, &'static str, bool)>>;

/// What both databases call a type by another name.
fn kind(declared: &str) -> &'static str {
    match declared {
        "integer" | "bigint" | "boolean" => "number",
        "text" => "text",
        "blob" | "bytea" => "bytes",
        other => panic!("{other:?} is a type that the two schemas have not agreed on"),
    }
}

fn statements(folder: &str) -> Vec<(String, Vec<String>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).unwrap().to_lowercase();
        let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
        let all = code.join(" ").split(';').map(|s| s.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        (file.file_name().unwrap().to_str().unwrap().to_owned(), all)
    };
    files.iter().map(read).collect()
}

/// Splits at commas that are not in brackets.
fn parts(list: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == ',' && depth == 0 { parts.push(String::new()) } else { parts.last_mut().unwrap().push(c) }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// `alter table FROM rename to TO`.
fn renamed(statement: &str) -> Option<(&str, &str)> {
    statement.strip_prefix("alter table ")?.split_once(" rename to ")
}

fn tables(folder: &str) -> Tables {
    let mut tables = Tables::new();
    for statement in statements(folder).into_iter().flat_map(|(_, statements)| statements) {
        if let Some(name) = statement.strip_prefix("drop table ") {
            assert!(tables.remove(name.trim()).is_some(), "{name} is dropped and was never made");
        }
        if let Some((from, to)) = renamed(&statement) {
            let table = tables.remove(from).expect("it was made");
            assert!(tables.insert(to.to_owned(), table).is_none(), "{to} is there already");
        }
        let Some(rest) = statement.strip_prefix("create table ") else { continue };
        let (name, rest) = rest.split_once('(').unwrap();
        let inner = &rest[..rest.rfind(')').unwrap()];
        let columns = parts(inner).into_iter().filter(|part| {
            !["primary key", "unique", "foreign key", "check", "constraint"].iter().any(|word| part.starts_with(word))
        });
        let column = |part: String| {
            let mut words = part.split_whitespace();
            let (name, declared) = (words.next().unwrap().to_owned(), kind(words.next().unwrap()));
            let required = part.contains("not null") || part.contains("primary key");
            (name, declared, required)
        };
        assert!(tables.insert(name.trim().to_owned(), columns.map(column).collect()).is_none(), "{name} is made twice");
    }
    tables
}

#[test]
fn both_schemas_declare_the_same_tables_and_columns() {
    let (sqlite, postgres) = (tables("sqlite"), tables("postgres"));
    assert!(sqlite.len() >= 8, "the tables are found: {:?}", sqlite.keys());
    assert_eq!(sqlite, postgres);
    assert_eq!(sqlite["journal"][0], ("seq".to_owned(), "number", true));
    let files = |folder| statements(folder).into_iter().map(|(file, _)| file).collect::<Vec<_>>();
    assert_eq!(files("sqlite"), files("postgres"), "a migration for one is a migration for both");
}

#[test]
fn both_have_the_same_indexes() {
    let indexes = |folder| -> BTreeMap<String, String> {
        let mut indexes = BTreeMap::new();
        for statement in statements(folder).into_iter().flat_map(|(_, statements)| statements) {
            if let Some(table) = statement.strip_prefix("drop table ") {
                indexes.retain(|_, on: &mut String| on.split(' ').next() != Some(table));
            }
            let made = statement.strip_prefix("create index ").and_then(|rest| rest.split_once(" on "));
            if let Some((name, on)) = made {
                let twice = indexes.insert(name.to_owned(), on.replace("analysed = 0", "not analysed"));
                assert!(twice.is_none(), "{name} is made twice");
            }
        }
        indexes
    };
    assert!(indexes("sqlite").len() >= 5);
    assert_eq!(indexes("sqlite"), indexes("postgres"));
}

#[test]
fn tables_of_sqlite_are_strict() {
    for statement in statements("sqlite").into_iter().flat_map(|(_, statements)| statements) {
        if statement.starts_with("create table ") {
            assert!(statement.ends_with(") strict"), "{statement}");
        }
    }
}
