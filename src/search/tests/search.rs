//! What is found, by example.

use super::*;

fn people() -> Lab {
    let mut lab = Lab::new();
    lab.put(&[
        CallDoc {
            sort_at: 5,
            customer_name: some("Ananya Kulkarni"),
            customer_id: some("customer_Zt61mPq8Ls"),
            customer_number: some("919820011223"),
            numbers: vec!["919820011223".into(), "912240001234".into()],
            agent: some("919833344556"),
            other_names: vec!["919833344556".into()],
            waba_number: some("912240001234"),
            ids: vec!["chat_r4T8pLw1".into()],
            ..call("call_a")
        },
        CallDoc {
            sort_at: 4,
            customer_name: some("मीरा शर्मा"),
            customer_number: some("9820099887"),
            agent: some("Asha Rao"),
            ..call("call_b")
        },
        CallDoc {
            sort_at: 3,
            customer_name: some("José Müller"),
            customer_number: some("+44 7911 123456"),
            agent: some("Asha Rao-Deshmukh"),
            other_names: vec!["Vikram Singh".into()],
            ..call("call_c")
        },
        CallDoc { sort_at: 2, customer_number: some("09811122333"), agent: some("Rao Asha"), ..call("call_d") },
        CallDoc { sort_at: 1, customer_number: some("123"), numbers: vec!["456".into()], ..call("call_e") },
    ]);
    lab
}

#[test]
fn names_are_found() {
    let lab = people();
    for (q, expected) in [
        ("anan", vec!["call_a"]),
        ("ANANYA kul", vec!["call_a"]),
        ("\"Ananya Kulkarni\"", vec!["call_a"]),
        ("\"Kulkarni Ananya\"", vec![]),
        ("nanya", vec![]),
        ("शर्मा", vec!["call_b"]),
        ("मीरा", vec!["call_b"]),
        ("\"मीरा शर्मा\"", vec!["call_b"]),
        ("मीर", vec!["call_b"]),
        ("मरा", vec![]),
        ("jose", vec!["call_c"]),
        ("MULLER", vec!["call_c"]),
        ("vikram", vec!["call_c"]),
        ("agent:asha", vec!["call_b", "call_c", "call_d"]),
        ("agent:\"asha rao\"", vec!["call_b", "call_c"]),
        ("agent:ash", vec!["call_b", "call_c", "call_d"]),
        ("agent:\"ash\"", vec![]),
        ("agent:ananya", vec![]),
        ("customer:ananya", vec!["call_a"]),
        ("customer:customer_Zt61mPq8Ls", vec!["call_a"]),
        ("chat_r4T8pLw1", vec!["call_a"]),
        ("call_d", vec!["call_d"]),
        ("NOT agent:asha", vec!["call_a", "call_e"]),
        ("NOT (ananya OR agent:asha)", vec!["call_e"]),
        ("asha -deshmukh", vec!["call_b", "call_d"]),
    ] {
        assert_eq!(lab.ids(q), expected, "{q}");
    }
}

#[test]
fn numbers_are_found_by_any_fragment() {
    let lab = people();
    for (q, expected) in [
        ("919820011223", vec!["call_a"]),
        ("9820011223", vec!["call_a"]),
        ("09820011223", vec!["call_a"]),
        ("+91 98200-11223", vec!["call_a"]),
        ("(0091) 98200 11223", vec!["call_a"]),
        ("98200", vec!["call_a", "call_b"]),
        ("112", vec!["call_a", "call_c", "call_d"]),
        ("11223", vec!["call_a", "call_d"]),
        ("1123", vec!["call_c"]),
        ("+91 98200 99887", vec!["call_b"]),
        ("7911", vec!["call_c"]),
        ("919811122333", vec!["call_d"]),
        ("098111", vec!["call_d"]),
        ("9833344556", vec!["call_a"]),
        ("number:9833344556", vec![]),
        ("number:2240001234", vec!["call_a"]),
        ("agent:98333", vec!["call_a"]),
        ("customer:2240001234", vec![]),
        ("waba:+91 22400 01234", vec!["call_a"]),
        ("waba:02240001234", vec!["call_a"]),
        ("waba:2240", vec![]),
        // 123 and 456 are two numbers.
        ("number:123456", vec!["call_c"]),
        ("number:234", vec!["call_a", "call_c"]),
        ("number:456", vec!["call_c", "call_e"]),
    ] {
        assert_eq!(lab.ids(q), expected, "{q}");
    }
}

#[test]
fn facet_values_are_filters() {
    let lab = people();
    let by = |agent: &str| lab.filtered(&Filters { agent: vec![agent.into()], ..Filters::default() });
    assert_eq!(by("Rao Asha"), ["call_d"]);
    assert_eq!(by("919833344556"), ["call_a"]);
    assert_eq!(by("Asha Rao-Deshmukh"), ["call_c"]);
}

#[test]
fn rule_and_state_belong_to_one_flag() {
    let mut lab = Lab::new();
    let flags = |list: &[(&str, &str)]| list.iter().map(|(r, s)| ((*r).to_owned(), (*s).to_owned())).collect();
    lab.put(&[
        CallDoc { flags: flags(&[("short_call", "open"), ("silent", "cleared")]), ..call("a") },
        CallDoc { flags: flags(&[("short_call", "cleared"), ("silent", "open")]), ..call("b") },
        call("c"),
    ]);
    let found = |flag: &str, state: &str| {
        let list = |value: &str| if value.is_empty() { vec![] } else { vec![value.to_owned()] };
        let mut ids = lab.filtered(&Filters { flag: list(flag), flag_state: list(state), ..Filters::default() });
        ids.sort();
        ids.join("")
    };
    assert_eq!(found("short_call", "open"), "a");
    assert_eq!(found("short_call", "cleared"), "b");
    assert_eq!(found("short_call", "escalated"), "");
    assert_eq!(found("short_call", ""), "ab");
    assert_eq!(found("", "open"), "ab");
    let totals = lab.searcher().totals(&Expr::All, &context()).unwrap();
    assert_eq!((totals.calls, totals.connected), (3, 3));
    assert_eq!(totals.open_flags, [("short_call".to_owned(), 1), ("silent".to_owned(), 1)].into());
    assert_eq!(totals.by_recording, [("archived".to_owned(), 3)].into());
}

#[test]
fn days_are_counted_in_the_time_zone() {
    let mut lab = Lab::new();
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
    lab.put(&[
        CallDoc { sort_at: at("2026-03-08T18:59:59Z"), ..call("a") },
        CallDoc { sort_at: at("2026-03-08T19:00:00Z"), ..call("b") },
        CallDoc { sort_at: at("2026-03-09T18:59:59.999999Z"), ..call("c") },
        CallDoc { sort_at: i64::MIN, ..call("d") },
    ]);
    let page = Page { facets: vec![Facet::Day], ..Page::default() };
    let found = lab.searcher().search(&Expr::All, &page, &context()).unwrap();
    let days = &found.facets["day"];
    assert_eq!((days["2026-03-08"], days["2026-03-09"], days["unknown"]), (1, 2, 1));
    let day = |q: &str| lab.ids(q).join("");
    assert_eq!(day("started:2026-03-09"), "cb");
    assert_eq!(day("started:2026-03-08..2026-03-09"), "cba");
    assert_eq!(day("started:..2026-03-08"), "ad");
}

#[test]
fn a_change_replaces() {
    let mut lab = Lab::new();
    lab.put(&[CallDoc { status: "in_progress".into(), ..call("a") }]);
    let searcher = lab.searcher();
    let ended = CallDoc { duration_seconds: Some(9), ..call("a") };
    assert_ne!(searcher.digest_of("a").unwrap(), Some(ended.digest()));
    lab.put(std::slice::from_ref(&ended));
    assert_eq!(searcher.cursor(), 1);
    searcher.refresh().unwrap();
    assert_eq!((searcher.cursor(), searcher.num_calls(), searcher.built_at()), (2, 1, Some(1)));
    assert_eq!(searcher.digest_of("a").unwrap(), Some(ended.digest()));
    assert_eq!(searcher.digest_of("b").unwrap(), None);
    assert!(lab.ids("status:in_progress").is_empty());
    assert_eq!(lab.ids("status:ended"), ["a"]);
    assert!(searcher.check(true).unwrap().is_empty());
}

#[test]
fn a_cursor_belongs_to_its_search() {
    let mut lab = Lab::new();
    lab.put(&[call("a"), call("b"), call("c")]);
    let searcher = lab.searcher();
    let mut page = Page { limit: 2, ..Page::default() };
    let found = searcher.search(&Expr::All, &page, &context()).unwrap();
    assert_eq!((found.total, found.call_ids.len()), (Some(3), 2));
    page.cursor = found.next_cursor;
    let rest = searcher.search(&Expr::All, &page, &context()).unwrap();
    assert_eq!((rest.total, rest.call_ids.len(), rest.next_cursor), (Some(3), 1, None));
    page.sort = Sort::Duration;
    let error = searcher.search(&Expr::All, &page, &context()).unwrap_err();
    assert!(error.to_string().contains("does not belong to this search"), "{error}");
}

#[test]
fn long_and_strange_values_do_no_harm() {
    let mut lab = Lab::new();
    let long = "अ".repeat(100_000);
    let strange = CallDoc {
        call_id: long.clone(),
        agent: some(&format!("{long} tail")),
        customer_name: some("\0\u{202e}\u{fffd}"),
        customer_number: some(&"9".repeat(100_000)),
        duration_seconds: Some(u64::MAX),
        sort_at: i64::MAX,
        ids: vec![String::new()],
        ..call("")
    };
    lab.put(std::slice::from_ref(&strange));
    assert_eq!(lab.searcher().digest_of(&long).unwrap(), Some(strange.digest()));
    let page = Page { facets: vec![Facet::Agent, Facet::Day], sort: Sort::DurationDesc, ..Page::default() };
    let found = lab.searcher().search(&Expr::All, &page, &context()).unwrap();
    assert_eq!(found.call_ids, [long]);
    let facet = found.facets["agent"].keys().next().unwrap().clone();
    assert_eq!(lab.filtered(&Filters { agent: vec![facet], ..Filters::default() }).len(), 1);
}

/// A phrase that is left out is asked for documents in any order that the rest of the query brings about.
#[test]
fn a_number_that_is_left_out_fails_no_assertion() {
    let mut lab = Lab::new();
    let numbers = (0..24).map(|n| CallDoc {
        customer_number: Some(format!("9198200112{n:02}")),
        agent: some(["919833344556", "Farhan Siddiqui"][n % 2]),
        sort_at: i64::try_from(n).unwrap(),
        ..call(&format!("call_{n}"))
    });
    let numbers: Vec<CallDoc> = numbers.collect();
    lab.put(&numbers[..12]);
    lab.put(&numbers[12..]);
    for digits in ["982001122", "0112", "11223", "919820011", "20011203", "98200"] {
        for q in
            [format!("NOT number:{digits}"), format!("call_1 -{digits}"), format!("-{digits} -(0112) agent:farhan")]
        {
            let with = lab.ids(&q);
            let without = lab.ids(&format!("NOT ({q})"));
            assert_eq!(with.len() + without.len(), numbers.len(), "{q}");
        }
    }
}
