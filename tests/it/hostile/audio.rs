//! Recordings that are not what they should be. Those that can't become audio are refused with their reason; those that
//! are audio with a flaw are kept byte for byte.

use serde_json::Value;

use crate::app::TestApp;
use crate::events::{CBR, VBR, ended};
use crate::fake_doubletick::Reply;

const IMPATIENT: &[(&str, &str)] = &[("recordings.give_up_after", "\"200ms\""), ("recordings.timeout", "\"700ms\"")];

async fn archived(app: &TestApp, id: &str, reply: Reply) -> Value {
    let url = app.sender.on(&format!("/{id}.mp3"), [reply]);
    app.post(&ended(id, &url)).await;
    app.call_in(id, "archived").await
}

/// `cbr.mp3` with one frame in the middle that is noise.
fn damaged() -> Vec<u8> {
    let mut bytes = CBR.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0x55);
    bytes
}

/// `vbr.mp3` whose Xing header claims another number of frames, and of bytes where it is told to.
fn wrong_xing(frames: u32, more: Option<u32>) -> Vec<u8> {
    let mut bytes = VBR.to_vec();
    let at = bytes.windows(4).position(|four| four == b"Xing").expect("it has a Xing header");
    assert_eq!(bytes[at + 7] & 3, 3, "it counts frames and bytes");
    bytes[at + 8..at + 12].copy_from_slice(&frames.to_be_bytes());
    if let Some(more) = more {
        bytes[at + 12..at + 16].copy_from_slice(&more.to_be_bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_audio_is_given_up_with_its_reason() {
    let app = TestApp::with(IMPATIENT).await;
    let gzip = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), vec![0; 500]].concat();
    let cases = [
        ("html", Reply::Html, "web page"),
        ("empty", Reply::Empty, "empty"),
        ("json", Reply::Audio(br#"{"error":"link expired"}"#.to_vec()), "JSON"),
        ("text", Reply::Audio(b"please come back tomorrow ".repeat(40)), "text, not audio"),
        (
            "noise",
            Reply::Audio((0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect()),
            "no known audio",
        ),
        ("gzip", Reply::Labelled("content-encoding", "gzip", gzip.clone()), "compressed"),
        ("unlabelled_gzip", Reply::Audio(gzip), "no known audio"),
        ("byte_by_byte", Reply::ByteByByte(CBR.to_vec()), "took too long"),
    ];
    for (id, reply, _) in &cases {
        let url = app.sender.on(&format!("/{id}.mp3"), [reply.clone()]);
        app.post(&ended(id, &url)).await;
    }
    for (id, _, reason) in &cases {
        let call = app.call_in(id, "failed").await;
        let said = call["recording"]["last_error"].as_str().unwrap();
        assert!(said.starts_with("given up: ") && said.contains(reason), "{id}: {said}");
    }
    let asked = app.sender.asked("/gzip.mp3");
    assert_eq!(asked[0].headers["accept-encoding"], "identity");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flawed_audio_is_kept_as_it_is() {
    let app = TestApp::start().await;
    for (id, bytes) in [
        ("damaged", damaged()),
        ("few", wrong_xing(1, None)),
        ("many", wrong_xing(1_000_000, None)),
        ("trailer", [CBR, b"TAG\0garbage"].concat()),
    ] {
        let call = archived(&app, id, Reply::Audio(bytes.clone())).await;
        let seconds = call["recording"]["audio_seconds"].as_f64().unwrap();
        assert!((2.5..3.5).contains(&seconds), "the frames count, not what a header says: {id}: {seconds}");
        assert_eq!(app.get(&format!("/api/v1/calls/{id}/recording")).await.body, bytes, "{id}");
    }
    app.settle().await;
    for id in ["damaged", "few", "many", "trailer"] {
        assert_eq!(app.get(&format!("/api/v1/calls/{id}/waveform")).await.status, 200, "{id}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_promises_more_of_everything_means_a_part_is_missing() {
    let app = TestApp::with(&[("recordings.give_up_after", "\"200ms\"")]).await;
    let call = archived(&app, "cut", Reply::Audio(wrong_xing(500, Some(40_000)))).await;
    assert!(call["recording"]["attempts"].as_u64().unwrap() > 1, "a whole one may still come");
    let flagged = |call: &Value| call["flags"].as_array().unwrap().iter().any(|flag| flag["rule"] == "contradiction");
    let call = app.call_when("cut", "it is flagged", flagged).await;
    assert!(call["recording"]["audio_seconds"].as_f64().unwrap() < 4.0, "{call}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_a_hundred_megabytes_is_walked_in_constant_memory() {
    let app = TestApp::start().await;
    const MEGABYTES: usize = 100;
    // ID3v2.4: the length in four times seven bits.
    let length = MEGABYTES << 20;
    let seven = |shift: usize| (length >> shift & 0x7f) as u8;
    let head = [b"ID3\x04\0\0".to_vec(), vec![seven(21), seven(14), seven(7), seven(0)]].concat();
    let url = app.sender.on("/tag.mp3", [Reply::Behind { head, megabytes: MEGABYTES, audio: CBR.to_vec() }]);
    let before = resident();
    app.post(&ended("tag", &url)).await;
    let mut most = before;
    let call = loop {
        let call = app.call("tag").await;
        most = most.max(resident());
        if call["recording"]["state"] == "archived" {
            break call;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(call["recording"]["size_bytes"], (length + 10 + CBR.len()) as u64);
    assert!((2.5..3.5).contains(&call["recording"]["audio_seconds"].as_f64().unwrap()), "{call}");
    // Other tests run in this process; the tag in memory would be 100 MB more.
    assert!(most - before < 80 << 20, "{} MB", (most - before) >> 20);
    app.finish().await;
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
