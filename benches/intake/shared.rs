//! Intake on PostgreSQL and S3: one node beside the server that drops and beside `pgbench`, and two nodes on one database.

use std::net::SocketAddr;

use super::common::pair::{PAIR, Postgres, S3, node};
use super::common::quota::Quota;
use super::common::{Server, figure, median, processor_time};
use super::dropping::Dropping;
use super::load::{CONNECTIONS, load, load_over};
use super::{AS_FAST_AS_POSSIBLE, Numbers, ROUNDS, WEBHOOKS, catch_up, rows};

/// What a node on a small machine has of a core.
const SMALL: f64 = 0.5;

/// What a load came to, and what it took.
struct Round {
    /// Events a second.
    rate: f64,
    /// Transactions of the journal a second, and events in each.
    batches: f64,
    batch: f64,
    /// Microseconds of processor time an event: of the nodes, of PostgreSQL, of the client.
    cost: [f64; 3],
}

/// Posts to these nodes over so many connections as fast as they answer, and lets all of them catch up.
fn round(connections: usize, nodes: &[&Server], postgres: &Postgres, numbers: &Numbers) -> Round {
    let batches = || -> f64 { nodes.iter().map(|node| node.metric("callvault_journal_batch_entries_count", "")).sum() };
    let used = || {
        let nodes = nodes.iter().map(|node| processor_time(node.pid())).sum();
        [nodes, postgres.processor_time(), processor_time(std::process::id())]
    };
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address).collect();
    let (batches_before, before) = (batches(), used());
    let outcome = load_over(connections, &addresses, WEBHOOKS, |start| numbers.fast(start));
    let (batches, after) = (batches() - batches_before, used());
    println!("{} nodes: {}", nodes.len(), outcome.in_words());
    for node in nodes {
        catch_up(node);
    }
    let events = outcome.latencies.len() as f64;
    Round {
        rate: outcome.rate(),
        batches: batches / outcome.elapsed.as_secs_f64(),
        batch: events / batches,
        cost: [0, 1, 2].map(|place| (after[place] - before[place]) / events * 1e6),
    }
}

fn of(rounds: &[Round], what: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(what).collect())
}

/// Where the processors' time goes, and how much of it there is.
fn tell_cost(what: &str, rounds: &[Round]) {
    let [nodes, postgres, client] = [0, 1, 2].map(|place| of(rounds, |round| round.cost[place]));
    let busy = of(rounds, |round| round.rate * round.cost.iter().sum::<f64>() / 1e6);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cost = format!("{nodes:.0} µs, {postgres:.0} µs, {client:.0} µs; {busy:.1} of {cores} cores busy");
    figure(&format!("intake, {PAIR}: {what}: processor time an event: callvault, PostgreSQL, client"), cost, "");
}

/// One node beside two, each with a part of a processor, as on small machines of their own, while the database has what it
/// needs. On one machine two nodes only share what one has for itself.
fn small_machines(first: &Server, second: &mut Server, postgres: &Postgres, numbers: &Numbers) {
    let name = |what: &str| format!("intake, {PAIR}: nodes with {:.0} % of a core each: {what}", SMALL * 100.0);
    let (mut alone, mut together) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let Ok(small) = Quota::set(first.pid(), SMALL) else {
            figure(
                &name("two as a multiple of one"),
                "not measured: only root can give a part of a core",
                "at least 1.5",
            );
            return;
        };
        alone.push(round(CONNECTIONS, &[first], postgres, numbers));
        drop(small);
        second.resume();
        catch_up(second);
        let small = [first, second].map(|node| Quota::set(node.pid(), SMALL).expect("as before"));
        together.push(round(2 * CONNECTIONS, &[first, second], postgres, numbers));
        drop(small);
        second.stop();
    }
    let times = together.iter().zip(&alone).map(|(two, one)| two.rate / one.rate).collect();
    let rates = [&alone, &together].map(|rounds| format!("{:.0}/s", of(rounds, |round| round.rate)));
    figure(&name("one, two"), rates.join(", "), "");
    figure(&name("two as a multiple of one"), format!("{:.2}", median(times)), "at least 1.5");
    tell_cost("two small nodes", &together);
}

pub fn measure() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    rows::prepare(&postgres);
    let database = postgres.database("intake");
    let (first, dropping, numbers) = (node(&database, &s3, ""), Dropping::start(), Numbers::default());
    let steady = numbers.offer(&first);
    figure(&format!("intake, {PAIR}: 1,000 events a second for 30 s"), steady.in_words(), "p99 below 50 ms");
    let mut second = node(&database, &s3, "");
    second.stop();

    let (mut alone, mut together, mut theirs, mut inserts) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        theirs.push(load(&[dropping.address], "/drop", |start| numbers.fast(start)).rate());
        let one = round(CONNECTIONS, &[&first], &postgres, &numbers);
        let size = rows::RowSize::of(&postgres, "intake");
        inserts.push(rows::batches(&postgres, one.batch.round() as usize, &size, AS_FAST_AS_POSSIBLE));
        alone.push(one);
        second.resume();
        catch_up(&second);
        together.push(round(CONNECTIONS, &[&first, &second], &postgres, &numbers));
        second.stop();
    }
    small_machines(&first, &mut second, &postgres, &numbers);
    let shares = alone.iter().zip(&theirs).map(|(one, dropped)| one.rate / dropped * 100.0).collect();
    let besides = alone.iter().zip(&inserts).map(|(one, inserts)| one.batches / inserts * 100.0).collect();
    let times = together.iter().zip(&alone).map(|(two, one)| two.rate / one.rate).collect();
    let (rate, batches, batch) =
        (of(&alone, |one| one.rate), of(&alone, |one| one.batches), of(&alone, |one| one.batch));
    let row = |what: &str, measured: String, demanded| figure(&format!("intake, {PAIR}: {what}"), measured, demanded);
    row(&format!("acknowledged, durable, {CONNECTIONS} connections"), format!("{rate:.0}/s"), "");
    row("read and dropped by the same server", format!("{:.0}/s", median(theirs)), "");
    row("share of that", format!("{:.0} %", median(shares)), "at least 15 %");
    row("batches a second", format!("{batches:.0}, of {batch:.0} events each"), "");
    row("`pgbench` inserts as many rows of that size", format!("{:.0} times a second", median(inserts)), "");
    row("batches as a share of `pgbench`'s", format!("{:.0} %", median(besides)), "reported");
    tell_cost("one node", &alone);
    row("two nodes, as many connections", format!("{:.0}/s", of(&together, |two| two.rate)), "");
    row("two nodes as a multiple of one", format!("{:.2}", median(times)), "");
    tell_cost("two nodes", &together);
}
