//! The certificate of destruction as a page that prints.

use askama::Template;

use super::records::Certificate;

#[derive(Template)]
#[template(path = "certificate.html")]
struct Page<'a> {
    certificate: &'a Certificate,
    sha256: &'a str,
}

/// The page of a certificate whose bytes have this SHA-256; whole, without any asset from outside.
///
/// # Errors
/// Never in practice: a string takes everything.
pub fn certificate_page(certificate: &Certificate, sha256: &str) -> Result<String, askama::Error> {
    Page { certificate, sha256 }.render()
}
