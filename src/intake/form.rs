//! Bodies that are forms: the sender can be told to post `FORM_DATA`.
//!
//! Which form it is shows in the body itself, so that the journal needs no header beside it.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;

use super::object::{Field, Object};

/// Fields of one form at most; more is no webhook.
const MAX_FIELDS: usize = 256;

/// The fields of a form as a flat object of texts; `None` if the body is no form.
pub(super) fn parse(body: &[u8]) -> Option<Object<'_>> {
    if body.starts_with(b"--") { multipart(body) } else { urlencoded(body) }
}

fn urlencoded(body: &[u8]) -> Option<Object<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    // A form is one line of pairs; anything else that happens to hold a "=" is not.
    if !text.contains('=') || text.trim_end().contains(|c: char| c.is_whitespace() || c == '<' || c == '{') {
        return None;
    }
    let fields = url::form_urlencoded::parse(text.trim_end().as_bytes());
    Some(fields.take(MAX_FIELDS).map(|(key, value)| (key, Field::Text(value))).collect())
}

fn multipart(body: &[u8]) -> Option<Object<'_>> {
    let end = body.iter().position(|byte| *byte == b'\r')?;
    let boundary = std::str::from_utf8(body.get(2..end)?).ok()?.to_owned();
    let whole = futures_util::stream::once(std::future::ready(Ok::<_, Infallible>(Bytes::copy_from_slice(body))));
    let mut form = multer::Multipart::new(whole, boundary);
    // Everything is in memory, so nothing ever has to be waited for.
    let read = async move {
        let mut fields = Vec::new();
        while let Some(field) = form.next_field().await.ok()? {
            let name = field.name()?.to_owned();
            fields.push((name.into(), Field::Text(field.text().await.ok()?.into())));
            if fields.len() > MAX_FIELDS {
                return None;
            }
        }
        (!fields.is_empty()).then(|| fields.into_iter().collect())
    };
    read.now_or_never()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_form() {
        let form = parse(b"event=CALL_ENDED&callId=call_1&customerName=Ananya+Kulkarni").unwrap();
        assert_eq!(form.get("customerName"), Some(&Field::Text("Ananya Kulkarni".into())));
        let body = "--xYz\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\nCALL_ENDED\r\n\
                    --xYz\r\nContent-Disposition: form-data; name=\"callId\"\r\n\r\ncall_1\r\n--xYz--\r\n";
        let form = parse(body.as_bytes()).unwrap();
        assert_eq!(form.get("event"), Some(&Field::Text("CALL_ENDED".into())));
        assert_eq!(form.get("callId"), Some(&Field::Text("call_1".into())));
    }

    #[test]
    fn what_is_no_form() {
        for body in ["", "hello", "<html a=b>", "{\"a\"=1}", "--", "--x\r\nbroken", "a = b\nc = d"] {
            assert_eq!(parse(body.as_bytes()), None, "{body}");
        }
    }
}
