//! A sender of recordings on the loopback, and the webhooks that announce them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{SECRET, Server, await_that};

/// A frame of MPEG-1 layer III, 128 kbit/s, 44.1 kHz, mono, without padding: silence, and room for a number.
const FRAME_BYTES: usize = 417;
const HEADER: [u8; 4] = [0xff, 0xfb, 0x90, 0xc4];
/// Behind the header and the side information of a mono frame.
const NUMBER_AT: usize = 24;

/// Serves `/N.mp3`, each of a size and with a content of its own, in any folder, and at `/N/` a page that links to the first N.
pub struct Sender {
    pub address: SocketAddr,
    pub bytes: u64,
}

impl Sender {
    /// Starts serving recordings of about so many bytes.
    pub fn start(bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let bytes = bytes / FRAME_BYTES as u64 * FRAME_BYTES as u64;
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(stream, bytes));
            }
        });
        Self { address, bytes }
    }

    pub fn url(&self, number: u64) -> String {
        format!("http://{}/{number}.mp3", self.address)
    }

    /// The configuration under which the archive fetches from here.
    pub fn config(&self) -> String {
        format!(
            "[recordings]\nhosts = [\"{}\"]\nallow_private_addresses = true\nmax_bytes = 4294967296\ntimeout = \"30m\"\n",
            self.address
        )
    }
}

fn serve(stream: TcpStream, bytes: u64) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut block = Vec::new();
    for _ in 0..2048 {
        block.extend_from_slice(&HEADER);
        block.resize(block.len() + FRAME_BYTES - HEADER.len(), 0);
    }
    loop {
        let (mut line, mut asked) = (String::new(), None);
        loop {
            line.clear();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            asked = asked.or_else(|| Some((line.starts_with("GET "), line.split(' ').nth(1)?.to_owned())));
            if line == "\r\n" {
                break;
            }
        }
        let (wants_body, path) = asked?;
        let out = stream.get_mut();
        if let Some(folder) = path.strip_suffix('/') {
            let page: String = links(folder.rsplit('/').next()?.parse().ok()?);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
            out.write_all((head + &page).as_bytes()).ok()?;
            continue;
        }
        let number = path.rsplit('/').next()?.split('.').next().and_then(|text| text.parse::<u64>().ok());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: {bytes}\r\n\r\n");
        out.write_all(head.as_bytes()).ok()?;
        if !wants_body {
            continue;
        }
        block[NUMBER_AT..NUMBER_AT + 8].copy_from_slice(&number?.to_le_bytes());
        let mut left = bytes as usize;
        while left > 0 {
            let part = left.min(block.len());
            out.write_all(&block[..part]).ok()?;
            left -= part;
        }
    }
}

/// A folder as web servers show it.
fn links(count: u64) -> String {
    (0..count).map(|number| format!("<a href=\"{number}.mp3\">{number}.mp3</a>\n")).collect()
}

/// Tells the archive of one call with a recording.
pub fn announce(server: &Server, sender: &Sender, numbers: std::ops::Range<u64>) {
    let mut stream = BufReader::new(TcpStream::connect(server.address).expect("it accepts"));
    for number in numbers {
        let body = format!(
            r#"{{"event":"CALL_ENDED","callId":"call_bench{number:06}","callStatus":"END","callDirection":"INCOMING","durationInSeconds":65,"customerNumber":"9198{number:08}","recordingUrl":"{}"}}"#,
            sender.url(number)
        );
        let head = format!(
            "POST /webhooks/doubletick HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.get_mut().write_all((head + &body).as_bytes()).expect("the server reads");
        let (mut line, mut length) = (String::new(), 0);
        stream.read_line(&mut line).expect("the server answers");
        assert!(line.contains(" 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).expect("a whole head");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        std::io::Read::read_exact(&mut stream, &mut vec![0; length]).expect("a whole answer");
    }
}

/// Waits until so many recordings are archived.
pub fn await_archived(server: &Server, count: u64, limit: Duration) {
    await_that("every recording is archived", limit, || {
        server.metric("callvault_recordings_total", "outcome=\"archived\"") as u64 >= count
    });
}
