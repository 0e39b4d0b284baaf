//! The index against a naive model: every call is looked at, every list is sorted whole.

use proptest::prelude::*;

use super::super::{number, text};
use super::*;

/// Whether `expr` holds for `call`, by looking.
fn holds(expr: &Expr, call: &CallDoc) -> bool {
    match expr {
        Expr::All => true,
        Expr::And(parts) => parts.iter().all(|part| holds(part, call)),
        Expr::Or(parts) => parts.iter().any(|part| holds(part, call)),
        Expr::Not(inner) => !holds(inner, call),
        Expr::Is(condition) => fits(condition, call),
    }
}

fn fits(condition: &Match, call: &CallDoc) -> bool {
    let customer = || call.customer_name.iter().chain(&call.customer_number);
    match condition {
        Match::Anything(who) => {
            let mut people = customer().chain(&call.agent).chain(&call.other_names).chain(&call.numbers);
            let mut ids = call.ids.iter().chain(&call.customer_id).chain([&call.call_id]);
            people.any(|person| is(who, person)) || ids.any(|id| *id == who.exact)
        }
        Match::Agent(who) => call.agent.iter().any(|agent| is(who, agent) || *agent == who.exact),
        Match::Customer(who) => {
            customer().any(|person| is(who, person)) || call.customer_id.as_ref() == Some(&who.exact)
        }
        Match::Number(fragment) => {
            let named = call.customer_name.iter().filter(|name| number::looks_like_number(name));
            call.numbers.iter().chain(&call.customer_number).chain(named).any(|raw| has(fragment, raw))
        }
        Match::Waba(forms) => call.waba_number.iter().any(|waba| {
            forms.contains(waba) || number::indexed_forms(waba, "IN").iter().any(|form| forms.contains(form))
        }),
        Match::Status(value) => call.status == *value,
        Match::Direction(value) => call.direction.as_ref() == Some(value),
        Match::Channel(value) => call.channel == *value,
        Match::Recording(value) => call.recording_state == *value,
        Match::Flag { rule, state } => call
            .flags
            .iter()
            .any(|(r, s)| rule.as_ref().is_none_or(|rule| rule == r) && state.as_ref().is_none_or(|state| state == s)),
        Match::OnHold(held) => call.on_hold == *held,
        Match::Started { from, until } => {
            from.is_none_or(|from| call.sort_at >= from) && until.is_none_or(|until| call.sort_at < until)
        }
        Match::Duration { min, max } => call
            .duration_seconds
            .is_some_and(|seconds| min.is_none_or(|min| seconds >= min) && max.is_none_or(|max| seconds <= max)),
    }
}

fn is(who: &Who, person: &str) -> bool {
    if number::looks_like_number(person) {
        return who.number.as_ref().is_some_and(|fragment| has(fragment, person));
    }
    let forms = [Some(person.to_owned()), text::at_apostrophes(person)];
    let mut forms = forms.iter().flatten().map(|form| text::words(form));
    who.name.as_ref().is_some_and(|name| forms.any(|words| follow(&words, name)))
}

fn follow(words: &[String], name: &Phrase) -> bool {
    words.windows(name.words.len()).any(|window| {
        let mut pairs = window.iter().zip(&name.words).rev();
        let last = pairs.next();
        last.is_some_and(|(word, asked)| word == asked || name.prefix && word.starts_with(asked.as_str()))
            && pairs.all(|(word, asked)| word == asked)
    })
}

fn has(fragment: &Fragment, raw: &str) -> bool {
    let indexed = number::indexed_forms(raw, "IN");
    indexed.iter().any(|number| fragment.forms.iter().any(|form| number.contains(form.as_str())))
}

/// The place of a call in the order: what sorts first is smallest.
fn place(sort: Sort, call: &CallDoc) -> (bool, i128, i128) {
    let (time, seq) = (i128::from(call.sort_at), i128::from(call.first_seq));
    // The very longest are not told apart.
    let seconds = i128::from(call.duration_seconds.unwrap_or_default().min(u64::MAX - 1));
    let none = call.duration_seconds.is_none();
    match sort {
        Sort::StartedAtDesc => (false, -time, -seq),
        Sort::StartedAt => (false, time, seq),
        Sort::DurationDesc => (none, -seconds, -seq),
        Sort::Duration => (none, seconds, seq),
    }
}

fn expected(calls: &[CallDoc], expr: &Expr, sort: Sort) -> Vec<String> {
    let mut found: Vec<&CallDoc> = calls.iter().filter(|call| holds(expr, call)).collect();
    found.sort_by_key(|call| place(sort, call));
    found.into_iter().map(|call| call.call_id.clone()).collect()
}

fn pick(list: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(list).prop_map(str::to_owned)
}

const PEOPLE: &[&str] = &[
    "Ananya Kulkarni",
    "ananya rao",
    "Asha Rao",
    "मीरा शर्मा",
    "José",
    "919833344556",
    "9820011223",
    "+44 7911 123456",
];
const NUMBERS: &[&str] = &[
    "919820011223",
    "9820011223",
    "09820011223",
    "912240001234",
    "+1 415 555 2671",
    "00447911123456",
    "1800",
    "12",
    "x",
];

/// A few values of everything, so that conditions meet.
fn any_call(id: u32) -> impl Strategy<Value = CallDoc> {
    let seconds = prop_oneof![20 => 0u64..6, 1 => u64::MAX - 2..=u64::MAX];
    let whens = (0i64..8, prop::option::of(seconds), any::<bool>());
    let kinds = (
        pick(&["initiated", "in_progress", "ended", "missed"]),
        prop::option::of(pick(&["incoming", "outgoing"])),
        pick(&["whatsapp", "pstn"]),
        pick(&["none", "archived", "missing"]),
    );
    let who = (
        prop::option::of(pick(PEOPLE)),
        prop::option::of(pick(PEOPLE)),
        prop::option::of(pick(NUMBERS)),
        prop::collection::vec(pick(NUMBERS), 0..3),
        prop::collection::vec(pick(PEOPLE), 0..2),
        prop::option::of(pick(NUMBERS)),
    );
    let flag = (pick(&["short_call", "silent"]), pick(&["open", "cleared"]));
    (whens, kinds, who, prop::collection::vec(flag, 0..3)).prop_map(move |(whens, kinds, who, flags)| CallDoc {
        call_id: format!("call_{id}"),
        // Not in the order of arrival, and unique.
        first_seq: u64::from(id.wrapping_mul(2_654_435_761)),
        sort_at: whens.0 * 3_600_000_000 * 9,
        duration_seconds: whens.1,
        on_hold: whens.2,
        status: kinds.0,
        direction: kinds.1,
        channel: kinds.2,
        recording_state: kinds.3,
        agent: who.0,
        customer_name: who.1,
        customer_number: who.2,
        numbers: who.3,
        other_names: who.4,
        waba_number: who.5,
        flags,
        customer_id: Some(format!("customer_{}", id % 5)),
        ids: vec![format!("chat_{}", id % 7)],
    })
}

/// A state of each of some calls; the same call may come several times.
fn batch(calls: u32, size: usize) -> impl Strategy<Value = Vec<CallDoc>> {
    prop::collection::vec((0..calls).prop_flat_map(any_call), 0..size)
}

fn filters() -> impl Strategy<Value = Filters> {
    let q = pick(&[
        "",
        "",
        "anan",
        "rao",
        "\"asha rao\"",
        "शर्मा",
        "982",
        "98200 11223",
        "09820011223",
        "number:123",
        "800",
        "agent:rao",
        "customer:ananya",
        "customer:customer_3",
        "chat_4",
        "call_7 OR call_8",
        "duration:>2",
        "duration:1..3",
        "duration:<4",
        "duration:1..99999",
        "duration:<4 -duration:0",
        "NOT anan",
        "-status:ended -agent:98",
        "flag:short_call OR on",
        "started:1970-01-02",
        "started:>1970-01-01 NOT (rao OR 982)",
        "waba:02240001234",
        "agent:919833344556",
        "recording:archived status:ended",
    ]);
    let some_of = |list| prop::collection::vec(pick(list), 0..2);
    let lists = (
        some_of(&["Asha Rao", "ananya", "919833344556"]),
        some_of(&["982", "4155552671", "1800"]),
        some_of(&["incoming"]),
        prop::collection::vec(pick(&["ended", "missed", "initiated"]), 0..3),
        some_of(&["short_call", "silent"]),
        some_of(&["open", "cleared"]),
    );
    let rest = (some_of(&["archived", "none"]), some_of(&["912240001234"]), prop::option::weighted(0.2, any::<bool>()));
    // Most filters are left out most of the time, else nothing is ever found.
    let mask = any::<u16>();
    (q, lists, rest, mask, any::<u16>()).prop_map(|(q, lists, rest, a, b)| {
        let keep = |bit: u16, list: Vec<String>| if a & b & (1 << bit) == 0 { Vec::new() } else { list };
        Filters {
            q: Some(q),
            agent: keep(0, lists.0),
            number: keep(1, lists.1),
            direction: keep(2, lists.2),
            status: keep(3, lists.3),
            flag: keep(4, lists.4),
            flag_state: keep(5, lists.5),
            recording: keep(6, rest.0),
            waba_number: keep(7, rest.1),
            on_hold: rest.2,
            ..Filters::default()
        }
    })
}

fn sorts() -> impl Strategy<Value = Sort> {
    prop::sample::select(vec![Sort::StartedAtDesc, Sort::StartedAt, Sort::DurationDesc, Sort::Duration])
}

/// What the index should hold after `batches`.
fn fold(batches: &[Vec<CallDoc>]) -> Vec<CallDoc> {
    let mut calls = std::collections::BTreeMap::new();
    for call in batches.iter().flatten() {
        calls.insert(call.call_id.clone(), call.clone());
    }
    calls.into_values().collect()
}

fn facets_by_looking(calls: &[CallDoc], expr: &Expr) -> Counts {
    let names = ["agent", "status", "direction", "recording", "flag", "day"];
    let mut counts: Counts = names.map(|name| (name.to_owned(), Default::default())).into();
    for call in calls.iter().filter(|call| holds(expr, call)) {
        let mut add =
            |facet: &str, value: &str| *counts.get_mut(facet).unwrap().entry(value.to_owned()).or_default() += 1;
        call.agent.iter().for_each(|agent| add("agent", agent));
        call.direction.iter().for_each(|direction| add("direction", direction));
        add("status", &call.status);
        add("recording", &call.recording_state);
        let rules: std::collections::BTreeSet<&String> =
            call.flags.iter().filter(|(_, state)| state == "open").map(|(rule, _)| rule).collect();
        rules.into_iter().for_each(|rule| add("flag", rule));
        let time = jiff::Timestamp::from_microsecond(call.sort_at).unwrap();
        add("day", &time.to_zoned(context().tz).date().to_string());
    }
    counts
}

/// Compares one search, walked through to its end, with what looking finds.
fn compare(searcher: &Searcher, calls: &[CallDoc], filters: &Filters, sort: Sort, limit: usize) {
    let expr = compile(filters, &context()).unwrap();
    let expected = expected(calls, &expr, sort);
    let mut page = Page { limit, sort, ..Page::default() };
    let mut met = Vec::new();
    loop {
        let found = searcher.search(&expr, &page, &context()).unwrap();
        assert_eq!(found.total, Some(expected.len() as u64), "{filters:?} {sort:?}");
        met.extend(found.call_ids);
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(met, expected, "{filters:?} {sort:?}");
    let facets = vec![Facet::Agent, Facet::Status, Facet::Direction, Facet::Recording, Facet::Flag, Facet::Day];
    let page = Page { limit, sort, facets, ..Page::default() };
    let found = searcher.search(&expr, &page, &context()).unwrap();
    assert_eq!(found.facets, facets_by_looking(calls, &expr), "{filters:?}");
    assert_eq!(found.call_ids[..], expected[..limit.min(expected.len())], "{filters:?} {sort:?}");
    assert_eq!(found.total, Some(expected.len() as u64), "{filters:?} {sort:?}");
}

fn compare_all(batches: &[Vec<CallDoc>], searches: &[(Filters, Sort, usize)]) {
    let mut lab = Lab::new();
    batches.iter().for_each(|batch| lab.put(batch));
    let calls = fold(batches);
    let searcher = lab.searcher();
    assert_eq!(searcher.num_calls(), calls.len() as u64);
    for call in &calls {
        assert_eq!(searcher.digest_of(&call.call_id).unwrap(), Some(call.digest()));
    }
    for (filters, sort, limit) in searches {
        compare(&searcher, &calls, filters, *sort, *limit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_looking_finds(
        batches in prop::collection::vec(batch(40, 25), 1..5),
        searches in prop::collection::vec((filters(), sorts(), 1usize..12), 30),
    ) {
        compare_all(&batches, &searches);
    }

    /// Calls that match throughout, and whose place does not change, are met exactly once.
    #[test]
    fn a_walk_meets_every_call_once_while_others_come(
        first in batch(40, 25),
        later in prop::collection::vec(batch(40, 25), 0..12),
        sort in sorts(),
        limit in 1usize..5,
        filters in filters(),
    ) {
        let mut lab = Lab::new();
        lab.put(&first);
        let searcher = lab.searcher();
        let expr = compile(&filters, &context()).unwrap();
        let mut page = Page { limit, sort, ..Page::default() };
        let mut met = Vec::new();
        let mut states = vec![fold(std::slice::from_ref(&first))];
        let mut batches = vec![first];
        let mut later = later.into_iter();
        loop {
            let found = searcher.search(&expr, &page, &context()).unwrap();
            met.extend(found.call_ids);
            page.cursor = found.next_cursor;
            if page.cursor.is_none() { break; }
            if let Some(batch) = later.next() {
                lab.put(&batch);
                batches.push(batch);
                searcher.refresh().unwrap();
                states.push(fold(&batches));
            }
        }
        for call in &states[0] {
            let steady = states.iter().all(|state| {
                let now = state.iter().find(|now| now.call_id == call.call_id);
                now.is_some_and(|now| holds(&expr, now) && place(sort, now) == place(sort, call))
            });
            if steady {
                prop_assert_eq!(met.iter().filter(|id| **id == call.call_id).count(), 1, "{}", call.call_id);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 10, ..ProptestConfig::default() })]

    /// Enough calls for several blocks of documents.
    #[test]
    fn finds_the_same_among_many(
        batches in prop::collection::vec(batch(2000, 900), 4),
        searches in prop::collection::vec((filters(), sorts(), 20usize..200), 30),
    ) {
        compare_all(&batches, &searches);
    }
}
