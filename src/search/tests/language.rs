//! What `q` and the filters mean, and where they are wrong.

use proptest::prelude::*;

use super::*;

/// A short form of the tree, to be read in a table.
fn show(expr: &Expr) -> String {
    let list = |parts: &[Expr], with: &str| parts.iter().map(show).collect::<Vec<_>>().join(with);
    match expr {
        Expr::All => "*".to_owned(),
        Expr::And(parts) => format!("({})", list(parts, " & ")),
        Expr::Or(parts) => format!("({})", list(parts, " | ")),
        Expr::Not(inner) => format!("!{}", show(inner)),
        Expr::Is(condition) => match condition {
            Match::Anything(who) => show_who(who),
            Match::Agent(who) => format!("agent={}", show_who(who)),
            Match::Customer(who) => format!("customer={}", show_who(who)),
            Match::Number(number) => format!("number={}", number.forms.join("/")),
            Match::Waba(forms) => format!("waba={}", forms.join("/")),
            Match::Status(value) => format!("status={value}"),
            Match::Direction(value) => format!("direction={value}"),
            Match::Channel(value) => format!("channel={value}"),
            Match::Recording(value) => format!("recording={value}"),
            Match::Flag { rule, state } => format!("flag={rule:?}/{state:?}"),
            Match::OnHold(held) => format!("held={held}"),
            Match::Started { from, until } => format!("started={from:?}..{until:?}"),
            Match::Duration { min, max } => format!("duration={min:?}..={max:?}"),
        },
    }
}

fn show_who(who: &Who) -> String {
    if let Some(number) = &who.number {
        return format!("#{}", number.forms.join("/"));
    }
    who.name
        .as_ref()
        .map_or_else(String::new, |name| format!("{}{}", name.words.join("_"), if name.prefix { "*" } else { "" }))
}

#[test]
fn queries_are_read() {
    for (q, expected) in [
        ("", "*"),
        ("   ", "*"),
        ("ananya", "ananya*"),
        ("Ananya Kulkarni", "(ananya* & kulkarni*)"),
        ("ananya AND kulkarni", "(ananya* & kulkarni*)"),
        ("\"Ananya Kulkarni\"", "ananya_kulkarni"),
        ("a OR b c", "(a* | (b* & c*))"),
        ("a b OR c AND d", "((a* & b*) | (c* & d*))"),
        ("(a OR b) c", "((a* | b*) & c*)"),
        ("NOT a", "!a*"),
        ("NOT NOT a", "a*"),
        ("-a b", "(!a* & b*)"),
        ("a -status:ended", "(a* & !status=ended)"),
        ("-(a OR b)", "!(a* | b*)"),
        ("a and b or not c", "(a* & and* & b* & or* & not* & c*)"),
        ("ANDREA ORLANDO NOTA", "(andrea* & orlando* & nota*)"),
        ("status:ended direction:INCOMING", "(status=ended & direction=incoming)"),
        ("Status: missed", "status=missed"),
        ("recording:missing channel:pstn", "(recording=missing & channel=pstn)"),
        ("duration:>60", "duration=Some(61)..=None"),
        ("duration:10..20", "duration=Some(10)..=Some(20)"),
        ("flag:short_call", "flag=Some(\"short_call\")/None"),
        ("flag_state:In_Review", "flag=None/Some(\"in_review\")"),
        ("agent:asha", "agent=asha*"),
        ("agent:\"Asha Rao\"", "agent=asha_rao"),
        ("customer:O'Brien-Smith", "customer=obrien_smith*"),
        ("98200 11223", "#9820011223"),
        ("+91 98200-11223", "#919820011223"),
        ("(98200) 11223", "#9820011223"),
        ("((98200) 11223)", "#9820011223"),
        ("(98200 OR 11223)", "(#98200 | #11223)"),
        ("98200 ananya", "(#98200 & ananya*)"),
        ("ananya 98200 11223", "(ananya* & #9820011223)"),
        ("98200 NOT 11223", "(#98200 & !#11223)"),
        ("-98200", "!#98200"),
        ("98200abc", "98200abc*"),
        ("98200 11223abc", "(#98200 & 11223abc*)"),
        ("12", "12*"),
        ("number:98200 11223", "number=9820011223"),
        ("number:+91 98200 status:ended", "(number=9198200 & status=ended)"),
        ("agent:9820011223", "agent=#9820011223"),
        ("waba:+91 22400 01234", "waba=912240001234"),
        ("number:\"982\"", "number=982"),
        ("call_7Qm2Xk9sVb", "call_7qm2xk9svb*"),
        ("शर्मा", "शर्मा*"),
        ("९८२००", "#98200"),
    ] {
        match parse(q, &context()) {
            Ok(expr) => assert_eq!(show(&expr), expected, "{q}"),
            Err(error) => panic!("{q}: {error}"),
        }
    }
}

#[test]
fn errors_say_where_and_why() {
    for (q, at, message) in [
        ("status:done", 7, "known are initiated, in_progress"),
        ("a status:done", 9, "there is no status “done”"),
        ("direction:up", 10, "incoming, outgoing"),
        ("recording:gone", 10, "destroyed"),
        ("channel:fax", 8, "whatsapp, pstn"),
        ("name:x", 0, "known are agent, customer"),
        ("ananya foo:bar", 7, "there is no field “foo”"),
        (":x", 0, "field's name is missing"),
        ("number:98", 7, "at least 3 digits"),
        ("number:abc", 7, "at least 3 digits"),
        ("agent:", 6, "a value is missing"),
        ("agent: ", 7, "a value is missing"),
        ("agent:(a OR b)", 6, "a value is missing"),
        ("agent:\"\"", 6, "a value is missing"),
        ("duration:long", 9, "whole seconds"),
        ("duration:20..10", 9, "at least 20 and at most 10"),
        ("started:soon", 8, "is no date"),
        ("started:2026-03-09..2026-03-01", 8, "ends before it begins"),
        ("(a", 0, "never closed"),
        ("a)", 1, "never opened"),
        ("()", 1, "missing before this bracket"),
        ("\"a", 0, "quote is never closed"),
        ("a \"", 2, "quote is never closed"),
        ("\"\"", 0, "no letter and no digit"),
        ("AND a", 0, "AND needs"),
        ("a OR", 4, "missing here"),
        ("a AND", 5, "missing here"),
        ("a OR OR b", 5, "OR needs"),
        ("NOT", 3, "missing here"),
        ("&", 0, "no letter and no digit"),
        ("मीरा status:x", 12, "there is no status"),
    ] {
        let error = parse(q, &context()).expect_err(q);
        assert_eq!((error.at, error.parameter), (Some(at), "q"), "{q}: {error}");
        assert!(error.message.contains(message), "{q}: {error}");
    }
    let error = parse("a status:done", &context()).expect_err("status");
    assert!(error.to_string().starts_with("q, character 10: "), "{error}");
}

#[test]
fn limits_hold() {
    let q = |text: String| parse(&text, &context());
    assert!(q("a".repeat(2_000)).is_ok());
    assert!(q("a".repeat(2_001)).is_err());
    assert!(q(format!("{}a{}", "(".repeat(64), ")".repeat(64))).is_ok());
    let deep = q(format!("{}a{}", "(".repeat(65), ")".repeat(65))).expect_err("deep");
    assert_eq!(deep.at, Some(64));
    assert!(q("NOT ".repeat(499) + "a").is_ok());
    assert!(q("a ".repeat(100)).is_ok());
    assert_eq!(q("a ".repeat(101)).expect_err("many").at, Some(200));
}

#[test]
fn filters_join() {
    let filters = Filters {
        q: some("a"),
        status: vec!["ended".into(), "missed".into(), String::new()],
        flag: vec!["short_call".into()],
        flag_state: vec!["open".into(), "cleared".into()],
        min_duration: Some(5),
        on_hold: Some(false),
        ..Filters::default()
    };
    assert_eq!(
        show(&compile(&filters, &context()).unwrap()),
        "(a* & (status=ended | status=missed) & (flag=Some(\"short_call\")/Some(\"cleared\") | \
         flag=Some(\"short_call\")/Some(\"open\")) & duration=Some(5)..=None & held=false)"
    );
    assert_eq!(compile(&Filters::default(), &context()), Ok(Expr::All));
    let wrong = [
        ("status", Filters { status: vec!["x".into()], ..Filters::default() }),
        ("number", Filters { number: vec!["12".into()], ..Filters::default() }),
        ("flag_state", Filters { flag_state: vec!["x".into()], ..Filters::default() }),
        ("started_from", Filters { started_from: some("x"), ..Filters::default() }),
        (
            "started_to",
            Filters { started_from: some("2026-03-09"), started_to: some("2026-03-01"), ..Filters::default() },
        ),
        ("min_duration", Filters { min_duration: Some(9), max_duration: Some(1), ..Filters::default() }),
        ("agent", Filters { agent: vec!["?".into()], ..Filters::default() }),
        ("agent", Filters { agent: vec!["x".into(); 101], ..Filters::default() }),
    ];
    for (parameter, filters) in wrong {
        let error = compile(&filters, &context()).expect_err(parameter);
        assert_eq!((error.parameter, error.at), (parameter, None), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(q in "\\PC{0,120}") {
        if let Err(error) = parse(&q, &context()) {
            prop_assert!(error.at.is_some_and(|at| at <= q.chars().count()));
        }
    }

    #[test]
    fn pieces_of_the_language_never_panic(pieces in prop::collection::vec(piece(), 0..25)) {
        let q: String = pieces.concat();
        if let Err(error) = parse(&q, &context()) {
            prop_assert!(error.at.is_some_and(|at| at <= q.chars().count()), "{error}");
        }
    }
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        " ",
        "(",
        ")",
        "\"",
        "-",
        "+",
        ":",
        "AND ",
        "OR ",
        "NOT ",
        "agent:",
        "number:",
        "status:",
        "ended",
        "duration:",
        "started:",
        "2026-03-01",
        "..",
        ">",
        "98200",
        "1",
        "ananya",
        "शर्मा",
        "९",
        "flag:",
        "flag_state:bogus",
        "\u{a0}",
    ])
}
