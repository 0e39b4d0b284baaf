use callvault::{
    config::{ObjectLock, S3},
    objects::*,
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (dir, bucket, at_once): (&str, &str, usize) = (&a[1], &a[2], a[3].parse().unwrap());
    let s3 = S3 {
        bucket: bucket.into(),
        prefix: a.get(4).cloned().unwrap_or_default(),
        region: "us-east-1".into(),
        endpoint: std::env::var("S3_ENDPOINT").unwrap(),
        force_path_style: true,
        object_lock: ObjectLock::Compliance,
    };
    let store = S3Store::open(&s3).await;
    let mut files = vec![];
    for e in std::fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        let b = std::fs::read(&p).unwrap();
        files.push((p.clone(), b.len() as u64, <[u8; 32]>::from(Sha256::digest(&b))));
    }
    let t = std::time::Instant::now();
    let n = files.len();
    let total: u64 = files.iter().map(|f| f.1).sum();
    futures_util::stream::iter(files)
        .for_each_concurrent(at_once, |(p, size, sha256)| {
            let store = store.clone();
            async move {
                let key =
                    ObjectKey::Journaled(format!("recordings/2026/01/01/{}", p.file_name().unwrap().to_str().unwrap()));
                tokio::spawn(async move {
                    store
                        .put_new(&key, Content::File { path: p, size, sha256 }, "2027-03-09T00:00:00Z".parse().unwrap())
                        .await
                        .unwrap()
                })
                .await
                .unwrap();
            }
        })
        .await;
    let s = t.elapsed().as_secs_f64();
    println!(
        "{n} files {:.1} MB in {s:.2}s: {:.0}/s {:.1} MB/s",
        total as f64 / 1e6,
        n as f64 / s,
        total as f64 / 1e6 / s
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for l in status.lines().filter(|l| l.starts_with("VmHWM")) {
        println!("{l}");
    }
}
