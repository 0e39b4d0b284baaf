//! Whole results as files: the same calls as the search, by API and by program, safe to open in a spreadsheet.

use serde_json::{Value, json};

use crate::app::{OFFICER, TestApp};
use crate::events::{CBR, ended, ended_after, ended_with, missed};
use crate::process::ended_with as exited;

/// A handful of calls, one of them with everything that a spreadsheet might run.
async fn filled() -> TestApp {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.post(&missed("call_2")).await;
    app.post(&ended_after("call_3", 700)).await;
    let nasty = json!({"customerName": "=HYPERLINK(\"http://evil\",\"x\")", "customerNumber": "+91 98200 11223",
        "pickedBy": "@SUM(1,2)\nsecond line", "endedBy": "-1+2", "chatId": "plain, \"quoted\""});
    app.post(&ended_with("call_4", nasty)).await;
    app.settle().await;
    app
}

fn jsonl(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn table(text: &str) -> Vec<csv::StringRecord> {
    csv::Reader::from_reader(text.as_bytes()).into_records().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_calls_as_the_search() {
    let app = filled().await;
    for (filter, args, total) in [
        ("", vec![], 4),
        ("sort=duration", vec!["--sort", "duration"], 4),
        ("status=missed", vec!["--status", "missed"], 1),
        (
            "status=missed&status=ended&min_duration=100",
            vec!["--status", "missed", "--status", "ended", "--min-duration", "100"],
            1,
        ),
        ("q=Ananya&sort=-duration", vec!["Ananya", "--sort", "-duration"], 3),
        ("q=nobody", vec!["nobody"], 0),
    ] {
        let searched = app.json(&format!("/api/v1/calls?{filter}")).await["calls"].as_array().unwrap().clone();
        assert_eq!(searched.len(), total, "{filter}");
        let answer = app.get_as(OFFICER, &format!("/api/v1/calls.jsonl?{filter}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/jsonl"));
        assert_eq!(answer.header("content-disposition"), "attachment; filename=\"calls.jsonl\"");
        assert_eq!(jsonl(&answer.text()), searched, "{filter}");
        let by_program = app.cli(&[&["export", "--format", "jsonl"], &args[..]].concat()).await;
        assert_eq!(exited(&by_program, 0), answer.text(), "{args:?}");

        let answer = app.get_as(OFFICER, &format!("/api/v1/calls.csv?{filter}")).await;
        assert!(answer.header("content-type").starts_with("text/csv"));
        let ids: Vec<String> = table(&answer.text()).iter().map(|row| row[0].to_owned()).collect();
        let expected: Vec<&str> = searched.iter().map(|call| call["call_id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{filter}");
        let by_program = app.cli(&[&["export", "--format", "csv"], &args[..]].concat()).await;
        assert_eq!(exited(&by_program, 0), answer.text(), "{args:?}");
    }
    app.get("/api/v1/calls.csv?status=gone").await.problem(400);
    app.get("/api/v1/calls.jsonl?colour=red").await.problem(400);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cell_is_a_formula() {
    let app = filled().await;
    let text = app.get("/api/v1/calls.csv").await.text();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let titles = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.into_records().map(Result::unwrap).collect();
    let cell = |call: &str, title: &str| {
        let column = titles.iter().position(|name| name == title).unwrap();
        rows.iter().find(|row| &row[0] == call).unwrap()[column].to_owned()
    };
    assert_eq!(cell("call_4", "customer_name"), "'=HYPERLINK(\"http://evil\",\"x\")");
    assert_eq!(cell("call_4", "customer_number"), "'+91 98200 11223");
    assert_eq!(cell("call_4", "agent"), "'@SUM(1,2)\nsecond line");
    assert_eq!(cell("call_4", "chat_id"), "plain, \"quoted\"");
    for cell in rows.iter().flatten() {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
    }
    let call = app.call("call_1").await;
    assert_eq!(cell("call_1", "recording_sha256"), call["recording"]["sha256"].as_str().unwrap());
    assert_eq!(cell("call_1", "recording_retain_until"), "2031-03-09T11:00:03Z");
    assert_eq!(cell("call_3", "flags_open"), "recording_missing");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn into_a_file() {
    let app = filled().await;
    let file = app.scratch().join("calls.csv");
    let args = ["export", "--format", "csv", "--out", file.to_str().unwrap()];
    assert_eq!(exited(&app.cli(&args).await, 0), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), app.get("/api/v1/calls.csv").await.text());
    // What is there already is not overwritten.
    std::fs::write(&file, "mine").unwrap();
    let again = app.cli(&args).await;
    exited(&again, 1);
    assert!(crate::process::stderr(&again).contains("name a new file"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_page() {
    let app = TestApp::start().await;
    let lines: String = (0..1203).map(|n| format!("{}\n", missed(&format!("call_{n:04}")))).collect();
    std::fs::write(app.scratch().join("past.jsonl"), lines).unwrap();
    exited(&app.cli(&["import", app.scratch().join("past.jsonl").to_str().unwrap()]).await, 0);
    app.found("limit=1", 1203).await;
    for path in ["/api/v1/calls.jsonl", "/api/v1/calls.csv"] {
        let text = app.get(path).await.text();
        let ids: std::collections::BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.find("call_0").or(line.find("call_1")).map(|at| &line[at..at + 9]))
            .collect();
        assert_eq!(ids.len(), 1203, "{path}");
    }
    app.finish().await;
}
