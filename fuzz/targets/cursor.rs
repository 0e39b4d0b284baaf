//! Cursors: a text that is none is refused, a real one is followed exactly, a changed one is refused.

#![no_main]

mod lab;

use arbitrary::Arbitrary;
use callvault::search::{Error, Filters, Page, Sort, compile};
use lab::LAB;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Walk<'a> {
    sort: u8,
    limit: u8,
    query: &'a str,
    cursor: &'a str,
    change: (u8, u8),
}

fuzz_target!(|walk: Walk| {
    let (_, searcher, context) = &*LAB;
    let sort = ["-started_at", "started_at", "-duration", "duration"][usize::from(walk.sort % 4)];
    let sort: Sort = sort.parse().expect("an order");
    let filters = Filters { q: Some(walk.query.to_owned()), ..Filters::default() };
    let Ok(expr) = compile(&filters, context) else { return };
    let page = |limit, cursor| Page { limit, sort, cursor, ..Page::default() };
    let search = |page: &Page| searcher.search(&expr, page, context);

    let whole = search(&page(500, None)).expect("it can be answered");
    match search(&page(500, Some(walk.cursor.to_owned()))) {
        Ok(found) => assert!(found.call_ids.iter().all(|id| whole.call_ids.contains(id))),
        Err(Error::Query(error)) => assert_eq!(error.parameter, "cursor"),
        Err(error) => panic!("{error}"),
    }
    let limit = usize::from(walk.limit % 10) + 1;
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let found = search(&page(limit, cursor)).expect("a page");
        assert!(found.call_ids.len() <= limit);
        assert_eq!(found.total, whole.total);
        ids.extend(found.call_ids);
        let Some(next) = found.next_cursor else { break };
        let mut changed = next.clone().into_bytes();
        let at = usize::from(walk.change.0) % changed.len();
        changed[at] = walk.change.1 % 128;
        let changed = String::from_utf8(changed).expect("ASCII");
        assert_eq!(search(&page(limit, Some(changed.clone()))).is_ok(), changed == next, "{changed}");
        cursor = Some(next);
    }
    assert_eq!(ids, whole.call_ids, "a walk meets what one long page shows");
});
