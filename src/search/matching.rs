//! Which of a few calls a query is about, as they are now: by an index of their own in memory, so that a query means there
//! what it means in every search.

use std::collections::BTreeSet;

use tantivy::ReloadPolicy;
use tantivy::schema::Value;

use super::cache::Cache;
use super::cursor::Sort;
use super::doc::CallDoc;
use super::error::{Error, guarded};
use super::expr::Expr;
use super::filters::QueryContext;
use super::gather::{Plan, gather};
use super::index::STEADY_BYTES;
use super::number::Forms;
use super::schema;

/// The ids of those calls for which each query holds.
///
/// # Errors
/// The index in memory could not be made.
pub fn matching(calls: &[CallDoc], queries: &[(Expr, QueryContext)]) -> Result<Vec<BTreeSet<String>>, Error> {
    guarded(|| {
        let mut found = Vec::with_capacity(queries.len());
        for (expr, context) in queries {
            // Numbers without a country code are read as the query's country writes them.
            let (definition, fields) = schema::schema();
            let builder = tantivy::Index::builder().schema(definition).settings(schema::settings());
            let index = builder.tokenizers(schema::tokenizers()).create_in_ram()?;
            let (mut writer, mut forms) =
                (index.writer_with_num_threads(1, STEADY_BYTES)?, Forms::new(&context.region));
            for call in calls {
                writer.add_document(fields.document(call, &mut forms))?;
            }
            writer.commit()?;
            let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
            let (searcher, cache) = (reader.searcher(), Cache::default());
            let plan = Plan {
                sort: Sort::default(),
                limit: calls.len(),
                after: None,
                count: false,
                facets: &[],
                tz: &context.tz,
                fields: &fields,
                cache: &cache,
            };
            let mut ids = BTreeSet::new();
            for hit in gather(&searcher, expr, &plan)?.hits {
                let document: tantivy::TantivyDocument = searcher.doc(hit.address)?;
                let id = document.get_first(fields.stored_id).and_then(|value| value.as_str().map(str::to_owned));
                ids.extend(id);
            }
            found.push(ids);
        }
        Ok(found)
    })
}
