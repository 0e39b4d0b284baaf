//! The language, and the index against a model that looks at every call.

mod damage;
mod language;
mod model;
mod search;

use super::*;

fn context() -> QueryContext {
    QueryContext { tz: jiff::tz::TimeZone::fixed(jiff::tz::offset(5)), region: "IN".to_owned() }
}

/// An index in a folder of its own.
struct Lab {
    folder: tempfile::TempDir,
    index: Option<Index>,
    next_seq: u64,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (index, opened) = Index::open_or_rebuild(folder.path(), "IN").unwrap();
        assert_eq!(opened, Opened::Empty);
        Self { folder, index: Some(index), next_seq: 0 }
    }

    fn put(&mut self, calls: &[CallDoc]) {
        self.next_seq += 1;
        let index = self.index.as_mut().unwrap();
        index.apply(calls).unwrap();
        index.commit(self.next_seq).unwrap();
    }

    fn searcher(&self) -> Searcher {
        Searcher::open(self.folder.path(), 1).unwrap()
    }

    /// The ids of all calls that match `q`, newest first.
    fn ids(&self, q: &str) -> Vec<String> {
        let filters = Filters { q: Some(q.to_owned()), ..Filters::default() };
        self.filtered(&filters)
    }

    fn filtered(&self, filters: &Filters) -> Vec<String> {
        let expr = compile(filters, &context()).unwrap();
        let page = Page { limit: 1000, ..Page::default() };
        self.searcher().search(&expr, &page, &context()).unwrap().call_ids
    }
}

fn call(id: &str) -> CallDoc {
    CallDoc {
        call_id: id.to_owned(),
        first_seq: id.bytes().fold(7, |seq, byte| seq * 31 % 1_000_003 + u64::from(byte)),
        status: "ended".to_owned(),
        channel: "whatsapp".to_owned(),
        recording_state: "archived".to_owned(),
        ..CallDoc::default()
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
