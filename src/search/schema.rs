//! The fields of the index, and how a [`CallDoc`] becomes a document.

use std::collections::BTreeSet;

use tantivy::directory::Directory;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};
use tantivy::{IndexSettings, Order, TantivyDocument};

use super::doc::CallDoc;
use super::error::Error;
use super::number::{self, Forms, GroupTokenizer};
use super::text::{self, NameTokenizer};

/// Raised whenever the same call would be indexed differently; older indexes are rebuilt.
pub(super) const VERSION: u32 = 4;

const RAW: &str = "raw";
const NAME: &str = "name";
const GROUPS: &str = "groups";

/// The column by which the documents of every segment are ordered, newest first.
pub(super) const SORT_AT: &str = "sort_at";
pub(super) const FIRST_SEQ: &str = "first_seq";
pub(super) const DURATION: &str = "duration";
pub(super) const DIGEST: &str = "digest";

/// Handles of all fields.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub call_id: Field,
    /// The call's id as it is, to be read back; the term may be cut.
    pub stored_id: Field,
    pub id: Field,
    pub sort_at: Field,
    pub first_seq: Field,
    pub duration: Field,
    pub digest: Field,
    pub status: Field,
    pub direction: Field,
    pub channel: Field,
    pub waba: Field,
    pub recording: Field,
    pub on_hold: Field,
    pub flag: Field,
    pub open_flag: Field,
    pub agent: Field,
    pub agent_name: Field,
    pub agent_number: Field,
    pub customer_id: Field,
    pub customer_name: Field,
    pub customer_number: Field,
    pub line_number: Field,
    pub other_name: Field,
    pub other_number: Field,
}

/// The schema, with the handles of its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let indexed = |tokenizer, option| {
        let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(option);
        // Nothing is ever scored, so the lengths of texts are not needed.
        TextOptions::default().set_indexing_options(indexing.set_fieldnorms(false))
    };
    let term = || indexed(RAW, IndexRecordOption::Basic);
    let name = || indexed(NAME, IndexRecordOption::WithFreqsAndPositions);
    let groups = || indexed(GROUPS, IndexRecordOption::WithFreqsAndPositions);
    let mut builder = Schema::builder();
    let fields = Fields {
        call_id: builder.add_text_field("call_id", term()),
        stored_id: builder.add_text_field("stored_id", STORED),
        id: builder.add_text_field("id", term()),
        sort_at: builder.add_i64_field(SORT_AT, FAST),
        first_seq: builder.add_u64_field(FIRST_SEQ, FAST),
        // As terms too: a range of them, or the longest calls, are found without a look at every call.
        duration: builder.add_u64_field(DURATION, FAST | INDEXED),
        digest: builder.add_u64_field(DIGEST, FAST),
        status: builder.add_text_field("status", term().set_fast(RAW)),
        direction: builder.add_text_field("direction", term().set_fast(RAW)),
        channel: builder.add_text_field("channel", term()),
        waba: builder.add_text_field("waba", term()),
        recording: builder.add_text_field("recording", term().set_fast(RAW)),
        on_hold: builder.add_bool_field("on_hold", INDEXED),
        flag: builder.add_text_field("flag", term()),
        open_flag: builder.add_text_field("open_flag", term().set_fast(RAW)),
        agent: builder.add_text_field("agent", term().set_fast(RAW)),
        agent_name: builder.add_text_field("agent_name", name()),
        agent_number: builder.add_text_field("agent_number", groups()),
        customer_id: builder.add_text_field("customer_id", term()),
        customer_name: builder.add_text_field("customer_name", name()),
        customer_number: builder.add_text_field("customer_number", groups()),
        line_number: builder.add_text_field("line_number", groups()),
        other_name: builder.add_text_field("other_name", name()),
        other_number: builder.add_text_field("other_number", groups()),
    };
    (builder.build(), fields)
}

/// Documents of a segment lie newest first: the default sort ends early, a range of dates is a
/// range of documents, and neighbours share their day.
pub(super) fn settings() -> IndexSettings {
    let sort_by_field = tantivy::IndexSortByField { field: SORT_AT.to_owned(), order: Order::Desc };
    IndexSettings {
        sort_by_field: Some(sort_by_field),
        // Only call ids are stored: too little to pay for a thread.
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

/// Opens the index that `directory` holds, with this module's tokenizers.
pub(super) fn open(directory: impl Directory) -> Result<tantivy::Index, Error> {
    let mut index = tantivy::Index::open(Box::new(directory) as Box<dyn Directory>)?;
    index.set_tokenizers(tokenizers());
    Ok(index)
}

pub(super) fn tokenizers() -> TokenizerManager {
    // Brings the raw one, and the one that a field asks for even if it is only stored.
    let tokenizers = TokenizerManager::default();
    tokenizers.register(NAME, TextAnalyzer::from(NameTokenizer));
    tokenizers.register(GROUPS, TextAnalyzer::from(GroupTokenizer));
    tokenizers
}

/// The term under which a flag is found by rule, state, or both. NUL keeps them apart: neither
/// rules nor states hold one.
pub(super) fn flag_term(rule: Option<&str>, state: Option<&str>) -> String {
    text::term(&format!("{}\0{}", rule.unwrap_or_default(), state.unwrap_or_default()))
}

impl Fields {
    /// The document of `call`, with the `forms` of its numbers.
    pub(super) fn document(&self, call: &CallDoc, forms: &mut Forms) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        let mut term = |field, value: &str| document.add_text(field, text::term(value));
        term(self.call_id, &call.call_id);
        // The call's own id is found by its own field: a second dictionary of all ids would be dear.
        for id in call.ids.iter().chain(&call.customer_id) {
            term(self.id, id);
        }
        term(self.status, &call.status);
        term(self.channel, &call.channel);
        term(self.recording, &call.recording_state);
        let optional = [(self.direction, &call.direction), (self.customer_id, &call.customer_id)];
        for (field, value) in optional.into_iter().chain([(self.agent, &call.agent)]) {
            value.iter().for_each(|value| term(field, value));
        }
        for (rule, state) in &call.flags {
            term(self.flag, &flag_term(Some(rule), None));
            term(self.flag, &flag_term(None, Some(state)));
            term(self.flag, &flag_term(Some(rule), Some(state)));
        }
        // A call counts once for each rule.
        let open = call.flags.iter().filter(|(_, state)| state == "open").map(|(rule, _)| rule);
        open.collect::<BTreeSet<_>>().into_iter().for_each(|rule| term(self.open_flag, rule));
        if let Some(waba) = &call.waba_number {
            forms.shared(waba).iter().for_each(|form| term(self.waba, form));
            term(self.waba, waba);
        }
        document.add_text(self.stored_id, &call.call_id);
        document.add_bool(self.on_hold, call.on_hold);
        document.add_i64(self.sort_at, call.sort_at);
        document.add_u64(self.first_seq, call.first_seq);
        document.add_u64(self.digest, call.digest());
        if let Some(seconds) = call.duration_seconds {
            document.add_u64(self.duration, seconds);
        }
        self.add_people(&mut document, call, forms);
        document
    }

    fn add_people(&self, document: &mut TantivyDocument, call: &CallDoc, forms: &mut Forms) {
        let people = [
            (&call.agent, self.agent_name, self.agent_number),
            (&call.customer_name, self.customer_name, self.customer_number),
        ];
        for (person, name, number) in people {
            if let Some(person) = person {
                add_person(document, person, name, number, forms);
            }
        }
        if let Some(number) = &call.customer_number {
            add_number(document, self.customer_number, forms.own(number));
        }
        // One end of most calls is the customer, and most are ended by agent or customer: what is
        // indexed there already is not indexed again.
        for line in call.numbers.iter().filter(|line| call.customer_number.as_ref() != Some(line)) {
            add_number(document, self.line_number, forms.shared(line));
        }
        let known = [&call.agent, &call.customer_number, &call.customer_name];
        for other in &call.other_names {
            if !known.iter().any(|person| person.as_ref() == Some(other)) {
                add_person(document, other, self.other_name, self.other_number, forms);
            }
        }
    }
}

/// Senders put a number where they know no name.
fn add_person(document: &mut TantivyDocument, person: &str, name: Field, number: Field, forms: &mut Forms) {
    if number::looks_like_number(person) {
        add_number(document, number, forms.shared(person));
    } else {
        document.add_text(name, person);
        text::at_apostrophes(person).iter().for_each(|parts| document.add_text(name, parts));
    }
}

/// Every value has its own range of positions, so that no phrase reaches from one into the next.
fn add_number(document: &mut TantivyDocument, field: Field, forms: Vec<String>) {
    for form in forms {
        document.add_text(field, form);
    }
}
