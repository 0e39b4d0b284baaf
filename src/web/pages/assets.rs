//! Stylesheet, script and icon, from memory. Their addresses carry a hash of their content, so that browsers may keep
//! them for good.

use std::sync::LazyLock;

use axum::extract::{Path, RawQuery};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::web::error::Error;

struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "callvault.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("../../../assets/callvault.css"),
    },
    Asset {
        name: "callvault.js",
        media_type: "text/javascript; charset=utf-8",
        text: include_str!("../../../assets/callvault.js"),
    },
    Asset { name: "icon.svg", media_type: "image/svg+xml", text: include_str!("../../../assets/icon.svg") },
];

static VERSIONS: LazyLock<[String; 3]> =
    LazyLock::new(|| ASSETS.each_ref().map(|asset| hex::encode(&Sha256::digest(asset.text)[..8])));

fn find(name: &str) -> Option<(&'static Asset, &'static str)> {
    ASSETS
        .iter()
        .zip(VERSIONS.iter())
        .find(|(asset, _)| asset.name == name)
        .map(|(asset, version)| (asset, version.as_str()))
}

/// Where an asset is to be had; nothing for a name that is none.
pub(super) fn address(name: &str) -> String {
    find(name).map(|(asset, version)| format!("/assets/{}?v={version}", asset.name)).unwrap_or_default()
}

pub(super) async fn serve(Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    let Some((asset, version)) = find(&name) else {
        return Error::NotFound("There is no such asset.".into()).into_response();
    };
    // An older page may ask for an older version: what it gets must not be kept under that address.
    let current = query.is_some_and(|query| query.strip_prefix("v=") == Some(version));
    let cache = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, cache)], asset.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_current_version_is_kept_for_good() {
        let cache = async |query: Option<String>| {
            let response = serve(Path("callvault.css".into()), RawQuery(query)).await;
            response.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        let current = address("callvault.css").split_once('?').map(|(_, query)| query.to_owned());
        assert!(cache(current).await.contains("immutable"));
        assert_eq!(cache(Some("v=0000".into())).await, "no-cache");
        assert_eq!(cache(None).await, "no-cache");
        assert_eq!(serve(Path("../Cargo.toml".into()), RawQuery(None)).await.status(), 404);
    }
}
