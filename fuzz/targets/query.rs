//! The query language and the filters: every text is a query that the index answers, or an error with its place.

#![no_main]

mod lab;

use callvault::search::{Expr, Filters, Page, compile, parse};
use lab::{CALLS, LAB};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (_, searcher, context) = &*LAB;
    let parsed = parse(text, context);
    match &parsed {
        Ok(expr) => {
            assert!(conditions(expr) <= 100, "{expr:?}");
            let page = Page { limit: 500, ..Page::default() };
            let found = searcher.search(expr, &page, context).expect("it can be answered");
            assert_eq!(found.total, Some(found.call_ids.len() as u64));
            assert_eq!(found.next_cursor, None);
            // What matches and what does not are all.
            let others = searcher.search(&Expr::Not(Box::new(expr.clone())), &page, context).expect("so is its opposite");
            let mut all = [found.call_ids, others.call_ids].concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len() as u64, CALLS);
            assert_eq!(found.total.unwrap_or_default() + others.total.unwrap_or_default(), CALLS);
        }
        Err(error) => {
            assert!(error.at.is_some_and(|at| at <= text.chars().count()), "{error}");
            assert!(!error.message.is_empty() && error.message.chars().count() < 400, "{error}");
        }
    }
    // The same text in each of the filters.
    let one = || vec![text.to_owned()];
    let with = |change: fn(&mut Filters, Vec<String>)| {
        let mut filters = Filters::default();
        change(&mut filters, one());
        if let Ok(expr) = compile(&filters, context) {
            searcher.search(&expr, &Page::default(), context).expect("it can be answered");
        }
    };
    with(|filters, text| filters.agent = text);
    with(|filters, text| filters.customer = text);
    with(|filters, text| filters.number = text);
    with(|filters, text| filters.waba_number = text);
    with(|filters, text| filters.flag = text);
    with(|filters, text| filters.started_from = text.into_iter().next());
    with(|filters, text| filters.started_to = text.into_iter().next());
});

fn conditions(expr: &Expr) -> usize {
    match expr {
        Expr::All => 0,
        Expr::And(parts) | Expr::Or(parts) => parts.iter().map(conditions).sum(),
        Expr::Not(inner) => conditions(inner),
        Expr::Is(_) => 1,
    }
}
