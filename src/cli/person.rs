//! Who gives a command that somebody has to answer for.

use anyhow::bail;

use crate::access::{Permission, Role};
use crate::app::App;

/// The environment's word for who it is: a token's secret.
pub(super) const TOKEN: &str = "CALLVAULT_TOKEN";

/// Who runs this, as the journal is to say it: the token in the environment, else the operating system's user. Two people
/// who have to be two need tokens of their own, or accounts of their own.
pub(super) async fn actor(app: &App, permission: Permission) -> anyhow::Result<String> {
    let Ok(secret) = std::env::var(TOKEN) else {
        use std::os::unix::fs::MetadataExt;
        let user = std::fs::metadata("/proc/self").map(|process| process.uid());
        return Ok(user.map_or_else(|_| "cli".into(), |user| format!("cli:{user}")));
    };
    let Some(identity) = app.access.authenticate(&secret).await? else {
        bail!("{TOKEN} holds no token's secret that is in force: callvault token list shows those that are");
    };
    if !identity.role.may(permission) {
        let role: Role = identity.role;
        bail!("the token {} is one of {}, which may not do that: use another", identity.name, role.as_str());
    }
    Ok(identity.actor())
}
